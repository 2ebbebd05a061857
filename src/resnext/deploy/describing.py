"""What a profile does to an image, in plain values for programs that do not have this package."""

from typing import Any

from resnext.data.photos import Photo
from resnext.data.profiles import Profile

_INTERPOLATIONS = {"bilinear": "bilinear", "tensor": "bilinear", "bicubic": "bicubic"}


def preprocessing(seen: Profile) -> dict[str, Any]:
    """Resize, central crop, scale to [0, 1], subtract the mean, divide by the deviation.

    Sizes are in pixels; `resize` is the shorter side before the crop, None where images are taken
    as they are and have to have that size.
    """
    view = seen.view
    side = seen.resolution
    if isinstance(view, Photo):
        statistics = view.statistics
        mean, std = list(statistics.mean), list(statistics.std)
        resize: int | None = view.resize
        interpolation: str | None = _INTERPOLATIONS.get(view.filter, "bicubic")
    else:
        mean = [value / 255 for value in view.mean]
        std = [value / 255 for value in view.std]
        resize, interpolation = None, None
    return {
        "profile": seen.name,
        "channels": "RGB" if seen.channels == 3 else "grey",
        "resize": resize,
        "interpolation": interpolation,
        "antialias": None if resize is None else seen.kind != "torch7",
        "crop": [side, side],
        "crop_position": "centre",
        "scale": "0 to 1",
        "mean": mean,
        "std": std,
        "layout": "N x C x H x W, float32",
    }
