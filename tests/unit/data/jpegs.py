"""JPEG files of every kind that the native loader takes, made on the spot."""

import struct

import numpy as np
from PIL import Image

from unit.data.pictures import encoded


def photo(seed: int, width: int, height: int, *, mode: str = "RGB") -> Image.Image:
    """Smooth shapes, hard edges and some noise: what photos have and random pixels have not."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(np.float64)
    channels = []
    for _ in range(3):
        a, b, c, d = rng.uniform(0.01, 0.15, 4)
        wave = np.sin(a * x + b * y) + np.sin(c * x - d * y + rng.uniform(0, 6))
        edges = 60.0 * ((x // rng.integers(9, 40) + y // rng.integers(9, 40)) % 2)
        channels.append(90 + 40 * wave + edges + rng.normal(0, 6, x.shape))
    values = np.clip(np.stack(channels, axis=-1), 0, 255).astype(np.uint8)
    return Image.fromarray(values).convert(mode)


def kinds(width: int, height: int) -> dict[str, bytes]:
    """Name -> file; those with 4:4:0 and 4:1:1 show other pictures, see `resampled`."""
    image = photo(width * 1000 + height, width, height)
    return {
        "4:4:4": encoded(image, "JPEG", quality=92, subsampling="4:4:4"),
        "4:2:2": encoded(image, "JPEG", quality=92, subsampling="4:2:2"),
        "4:2:0": encoded(image, "JPEG", quality=92, subsampling="4:2:0"),
        "4:4:0": resampled("4:4:0", width, height),
        "4:1:1": resampled("4:1:1", width, height),
        "grey": encoded(image.convert("L"), "JPEG", quality=92),
        "progressive": encoded(image, "JPEG", quality=92, progressive=True),
        "progressive 4:4:4": encoded(
            image, "JPEG", quality=92, progressive=True, subsampling="4:4:4"
        ),
        "restart blocks": encoded(image, "JPEG", quality=92, restart_marker_blocks=3),
        "restart rows": encoded(
            image, "JPEG", quality=92, restart_marker_rows=1, subsampling="4:4:4"
        ),
        "optimised": encoded(image, "JPEG", quality=60, optimize=True),
    }


def resampled(sampling: str, width: int, height: int) -> bytes:
    """A file with a sampling that Pillow cannot write, by changing two numbers of a header.

    4:2:2 and 4:4:0 have as many blocks per unit, and so have 4:2:0 and 4:1:1; only their
    arrangement differs. So the file of a picture with as many units is valid under either header.
    """
    (unit_w, unit_h), (from_w, from_h), factors, written = {
        "4:4:0": ((8, 16), (16, 8), 0x12, "4:2:2"),
        "4:1:1": ((32, 8), (16, 16), 0x41, "4:2:0"),
    }[sampling]
    across, down = -(-width // unit_w), -(-height // unit_h)
    content = bytearray(
        encoded(
            photo(across * 100 + down, across * from_w, down * from_h),
            "JPEG",
            quality=92,
            subsampling=written,
        )
    )
    at = frame(content)
    struct.pack_into(">HH", content, at + 5, height, width)
    content[at + 11] = factors
    return bytes(content)


def frame(content: bytes | bytearray) -> int:
    """Where the frame header (SOF) starts: marker, length, precision, height, width, components."""
    at = 2
    while content[at + 1] not in (0xC0, 0xC1, 0xC2):
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return at


def claiming(content: bytes, width: int, height: int) -> bytes:
    """The same file with another size in its header."""
    changed = bytearray(content)
    struct.pack_into(">HH", changed, frame(content) + 5, height, width)
    return bytes(changed)
