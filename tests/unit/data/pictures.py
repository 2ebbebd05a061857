"""Small pictures, folders and parquet files for the tests, made on the spot."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def picture(seed: int, *, width: int = 20, height: int = 16, mode: str = "RGB") -> Image.Image:
    """Random pixels in which no row and no column repeats."""
    shape = (height, width) if mode == "L" else (height, width, len(mode))
    values = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return Image.fromarray(values)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def write_folder(
    root: Path, classes: dict[str, int], *, suffix: str = ".png", seed: int = 0
) -> Path:
    """`classes` gives the number of pictures per class; each picture is another one."""
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            (root / name / f"{number}{suffix}").write_bytes(encoded(picture(seed)))
            seed += 1
    return root


def write_parquet(
    path: Path,
    contents: Sequence[bytes | None],
    labels: list[int],
    *,
    names: list[str] | None = None,
    columns: tuple[str, str] = ("image", "label"),
    group: int = 2,
) -> Path:
    """As the datasets hub lays it out: a struct of bytes and path, and a label."""
    image, label = columns
    images = [{"bytes": content, "path": f"{row}.png"} for row, content in enumerate(contents)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({image: pa.array(images, kind), label: pa.array(labels, pa.int64())})
    if names is not None:
        features = {label: {"names": names, "_type": "ClassLabel"}}
        stored = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": stored})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=group)
    return path
