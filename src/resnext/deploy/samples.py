"""Images to try an engine on: to calibrate int8 by, to compare with the reference, to score."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from resnext.data import open_data
from resnext.data.digits import digits
from resnext.data.photos import Photo
from resnext.data.source import Source
from resnext.deploy.artifact import Artifact
from resnext.deploy.predict import decode_picture, named, pictures_of, prepare
from resnext.errors import DataError

CALIBRATING = 128
"""Images that ranges are measured on."""

SCORED = 500
"""Images that a loss of accuracy is measured on, at most; its standard error is then 0.7 points
where one answer in forty changes."""

_CROPS = ((0, 0, 1, 1), (0.1, 0, 0.6, 0.8), (0.4, 0.2, 1, 1), (0.25, 0.25, 0.75, 0.9))


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Images of one place, apart for two purposes.

    Attributes:
        about: where they are from, without its folder, and which they are.
        calibration: N x C x H x W, prepared.
        checked: how many others there are.
        labels: of the others, where these are the network's classes; else None.
        batches: the others, prepared, again and again.
    """

    about: str
    calibration: Tensor
    checked: int
    labels: Tensor | None
    batches: Callable[[], Iterator[Tensor]]


def samples(
    artifact: Artifact,
    location: str,
    *,
    calibrating: int = CALIBRATING,
    scored: int = SCORED,
) -> Samples:
    """Images of a data set, or of a folder of pictures without classes.

    Of a data set, calibration takes images to train on and scoring those kept for it, spread over
    all. Of a folder, every second picture is for one or the other.

    Raises:
        DataError: there are fewer than two, or one cannot be used.
    """
    path = Path(location).expanduser()
    try:
        data = open_data(location)
    except DataError:
        if not path.is_dir():
            raise
        return _of_folder(artifact, path, calibrating, scored)
    learned, kept = _spread(len(data.train), calibrating), _spread(len(data.validation), scored)
    same = _same_classes(artifact, data.classes)
    return Samples(
        about=f"{data.name} (fingerprint {data.fingerprint[:16]})",
        calibration=torch.stack([_from(artifact, data.train, index) for index in learned]),
        checked=len(kept),
        labels=torch.from_numpy(data.validation.labels[kept]) if same else None,
        batches=lambda: _batches(kept, lambda index: _from(artifact, data.validation, index)),
    )


def _of_folder(artifact: Artifact, path: Path, calibrating: int, scored: int) -> Samples:
    files = named(pictures_of([path]))
    if len(files) < 2:
        raise DataError(f"{path}: expected at least 2 pictures, found {len(files)}")

    def read(index: int) -> Tensor:
        name, file = files[index]
        return prepare(artifact, decode_picture(file, name), name)

    learned = [2 * i for i in _spread((len(files) + 1) // 2, calibrating)]
    kept = [2 * i + 1 for i in _spread(len(files) // 2, scored)]
    return Samples(
        about=f"{path.absolute().name} ({len(files)} pictures without classes)",
        calibration=torch.stack([read(index) for index in learned]),
        checked=len(kept),
        labels=None,
        batches=lambda: _batches(kept, read),
    )


def photographs(artifact: Artifact, count: int) -> Tensor:
    """Prepared images that are always there: two photographs in parts, or handwritten digits.

    The photographs are those that come with scikit-learn.
    """
    return torch.stack(
        [
            prepare(artifact, image, f"photograph {i}")
            for i, image in enumerate(_images(artifact, count))
        ]
    )


def kind_of(artifact: Artifact) -> str:
    """What `photographs` takes."""
    return "handwritten digits" if artifact.profile.channels == 1 else "photographs"


def resized(images: Tensor, side: int) -> Tensor:
    """Prepared images at another size."""
    return F.interpolate(images, (side, side), mode="bilinear", antialias=True)


def _images(artifact: Artifact, count: int) -> list[Image.Image]:
    side, view = artifact.profile.resolution, artifact.profile.view
    if artifact.profile.channels == 1:
        source = digits()
        return [source.read(index) for index in range(count)]
    from sklearn.datasets import load_sample_images

    whole = [Image.fromarray(np.asarray(pixels)) for pixels in load_sample_images().images]
    parts = [image.crop(_box(image, crop)) for crop in _CROPS for image in whole]
    found = [parts[number % len(parts)] for number in range(count)]
    return found if isinstance(view, Photo) else [image.resize((side, side)) for image in found]


def _box(image: Image.Image, crop: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
    left, top, right, bottom = crop
    width, height = image.size
    return (int(left * width), int(top * height), int(right * width), int(bottom * height))


def _spread(total: int, wanted: int) -> list[int]:
    """So many numbers below a total, far from each other, since images often lie by class."""
    count = min(total, wanted)
    return [number * total // count for number in range(count)]


def _same_classes(artifact: Artifact, classes: tuple[str, ...]) -> bool:
    """Whether labels are positions of the network's outputs."""
    known = artifact.record.classes
    return classes == known if known is not None else len(classes) == artifact.spec.classes


def _from(artifact: Artifact, source: Source, index: int) -> Tensor:
    return prepare(artifact, source.read(index), source.describe(index))


def _batches(
    numbers: Sequence[int], read: Callable[[int], Tensor], size: int = 16
) -> Iterator[Tensor]:
    for start in range(0, len(numbers), size):
        yield torch.stack([read(index) for index in numbers[start : start + size]])
