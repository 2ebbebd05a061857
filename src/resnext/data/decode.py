"""From a file or its bytes to pixels, refusing what is broken, hostile or of another kind."""

import io
import stat
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from resnext.errors import DataError

MAX_PIXELS = 50_000_000
"""More than any photo of the known data sets; a larger header is refused before decoding."""

MAX_BYTES = 256 * 2**20
"""A larger image file is refused; a photo of `MAX_PIXELS` takes a tenth of it."""

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""What counts as an image file in a folder: the list of torchvision's ImageFolder."""

# By content, not by name: ImageNet has a PNG named .JPEG. Pillow's other readers stay out of reach
# of strangers' files (its EPS reader starts another program).
FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF")

BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
"""Everything that Pillow's readers raise on damaged files."""


def decode(content: Path | bytes, name: str) -> Image.Image:
    """The first picture in a file or its bytes, as mode L (grey kinds) or RGB (all others).

    As in the reference training code, transparency and the EXIF orientation are ignored. Pixels of
    16 bits keep their high byte.

    Raises:
        DataError: empty, truncated, no image, too large, or of a pixel type without a clear meaning
            in 8 bits; the message starts with `name`.
    """
    try:
        if isinstance(content, Path) and not stat.S_ISREG(content.stat().st_mode):
            raise DataError("expected an image, found no regular file")  # a pipe would never end
        with Image.open(
            content if isinstance(content, Path) else io.BytesIO(content), formats=FORMATS
        ) as image:
            _check_size(image)
            return _eight_bit(image)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    except BROKEN as error:
        raise DataError(f"{name}: expected an image, found {_finding(content, error)}") from error


def _check_size(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise DataError(
            f"expected at most {MAX_PIXELS // 10**6} million pixels,"
            f" found {image.width} x {image.height}"
        )


def _eight_bit(image: Image.Image) -> Image.Image:
    match image.mode:
        case "L" | "RGB":
            image.load()
            return image
        case "1" | "LA" | "La":
            return image.convert("L")
        case "P" | "PA":  # by way of RGBA, since Pillow warns about dropping transparency at once
            return image.convert("RGBA").convert("RGB")
        case "I;16" | "I;16L" | "I;16B" | "I;16N":  # convert() would clip everything above 255
            return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        case "I" | "F":
            raise DataError(f"expected 8 or 16 bits per pixel, found Pillow's mode {image.mode}")
        case _:
            return image.convert("RGB")


def _finding(content: Path | bytes, error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"more than {MAX_PIXELS // 10**6} million pixels"
    if isinstance(content, Path):
        if not content.exists():
            return "no such file"
        if content.is_file() and content.stat().st_size == 0:
            return "an empty file"
    elif not content:
        return "no bytes"
    if isinstance(error, UnidentifiedImageError):
        return f"none of {', '.join(FORMATS)}"
    return " ".join(str(error).split()) or type(error).__name__
