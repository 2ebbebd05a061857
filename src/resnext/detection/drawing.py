"""Boxes, classes and scores drawn on a picture."""

import colorsys
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from resnext.detection.detecting import Found


def drawn(image: Tensor, objects: Sequence[Found]) -> bytes:
    """A JPEG of a picture (3 x H x W bytes) with its objects, the best on top."""
    picture = Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy()))
    brush = ImageDraw.Draw(picture)
    side = max(picture.size)
    font = ImageFont.load_default(max(10, side // 45))
    for found in reversed(objects):
        colour = _colour(found.category_id)
        brush.rectangle(found.box, outline=colour, width=max(2, side // 300))
        words = f"{found.label} {found.score:.2f}"
        left, top, right, bottom = brush.textbbox((0, 0), words, font=font)
        x = max(0.0, min(found.box[0], picture.width - right))
        y = max(0.0, found.box[1] - bottom - 2)
        brush.rectangle((x + left, y + top - 1, x + right + 2, y + bottom + 1), fill=colour)
        brush.text((x + 1, y), words, font=font, fill="black")
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90)
    return file.getvalue()


def _colour(category: int) -> tuple[int, int, int]:
    """Bright, and far from those of its neighbours."""
    red, green, blue = colorsys.hsv_to_rgb(category * 0.618034 % 1, 0.65, 1.0)
    return int(255 * red), int(255 * green), int(255 * blue)
