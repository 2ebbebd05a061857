"""Small data sets in the format of COCO, made on the spot: coloured boxes on grey noise."""

import json

import numpy as np
from PIL import Image

COLOURS = {3: (220, 40, 40), 7: (40, 60, 220)}
NAMES = {3: "red", 7: "blue"}


def scene(number, width=96, height=64):
    """Pixels, and rows of category and box (x, y, width, height)."""
    draws = np.random.default_rng(number)
    pixels = draws.integers(90, 130, (height, width, 3), dtype=np.uint8)
    rows = []
    for k in range(1 + number % 2):
        category = (3, 7)[(number + k) % 2]
        w, h = (int(x) for x in draws.integers(16, 36, 2))
        x, y = int(draws.integers(0, width - w)), int(draws.integers(0, height - h))
        pixels[y : y + h, x : x + w] = COLOURS[category]
        rows.append((category, [float(x), float(y), float(w), float(h)]))
    return pixels, rows


def content(count, first=1, **size):
    """What a file of annotations says of so many scenes."""
    images, annotations = [], []
    for number in range(first, first + count):
        pixels, rows = scene(number, **size)
        height, width = pixels.shape[:2]
        images.append(
            {"id": number, "file_name": f"{number:012d}.jpg", "width": width, "height": height}
        )
        for category, box in rows:
            x, y, w, h = box
            annotations.append(
                {
                    "id": 100 * number + len(annotations),
                    "image_id": number,
                    "category_id": category,
                    "bbox": box,
                    "area": w * h,
                    "iscrowd": 0,
                    "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
                }
            )
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in NAMES.items()],
    }


def write_scenes(root, split="train2017", count=6, first=1, change=None, **size):
    """Pictures and annotations in COCO's layout; `change` may spoil what the file says."""
    folder = root / split
    folder.mkdir(parents=True, exist_ok=True)
    (root / "annotations").mkdir(exist_ok=True)
    found = content(count, first, **size)
    for number in range(first, first + count):
        Image.fromarray(scene(number, **size)[0]).save(folder / f"{number:012d}.jpg", quality=95)
    if change is not None:
        change(found)
    file = root / "annotations" / f"instances_{split}.json"
    file.write_text(json.dumps(found))
    return root
