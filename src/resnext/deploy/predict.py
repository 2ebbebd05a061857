"""Pictures to classes: decoded, prepared and scored as an evaluation does it, single view."""

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from resnext.data.decode import EXTENSIONS, MAX_BYTES, decode
from resnext.data.index import printable
from resnext.deploy.artifact import Artifact
from resnext.deploy.engines import Engine
from resnext.errors import DataError, UsageError

Content = Path | bytes
"""A picture's file, or the bytes of one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a network takes a picture for.

    Attributes:
        name: of the picture.
        classes: names and probabilities, the most likely first.
        seconds: the picture's share of the time that its batch took in the engine.
    """

    name: str
    classes: tuple[tuple[str, float], ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        found = [{"class": label, "probability": value} for label, value in self.classes]
        return {"picture": self.name, "classes": found, "seconds": self.seconds}


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusable:
    """A picture that cannot be used, and why; the reason names it."""

    name: str
    reason: str


def predict(
    artifact: Artifact,
    engine: Engine,
    pictures: Iterable[tuple[str, Content]],
    *,
    top: int = 5,
    batch_size: int = 16,
    threads: int = 2,
) -> Iterator[Prediction | Unusable]:
    """One answer for each picture, in their order; as much is in memory as two batches need.

    Args:
        artifact: says how pictures are prepared and what the outputs are called.
        engine: of the same artifact.
        pictures: names and files.
        top: how many classes; all if there are fewer.
        batch_size: pictures at once.
        threads: that decode and resize.

    Raises:
        UsageError: less than one class or picture at a time.
    """
    if top < 1 or batch_size < 1:
        raise UsageError(
            f"expected at least 1 class and 1 picture at a time, found {top} and {batch_size}"
        )

    def ready(picture: tuple[str, Content]) -> tuple[str, Tensor] | Unusable:
        name, content = picture
        try:
            return name, prepare(artifact, decode_picture(content, name), name)
        except DataError as error:
            return Unusable(name=name, reason=str(error))

    coming = iter(pictures)
    with ThreadPoolExecutor(max(1, threads)) as pool:
        ahead: list[Any] = []
        while True:
            following = [pool.submit(ready, each) for each in islice(coming, batch_size)]
            if ahead:
                made = [future.result() for future in ahead]
                yield from _answers(artifact, engine, made, top)
            if not following:
                return
            ahead = following


def decode_picture(content: Content, name: str) -> Image.Image:
    """A file or its bytes -> RGB or grey pixels.

    Raises:
        DataError: broken, hostile or too large; the message names it.
    """
    if isinstance(content, bytes) and len(content) > MAX_BYTES:
        raise DataError(f"{name}: expected at most {MAX_BYTES >> 20} MiB, found more")
    return decode(content, name)


def prepare(artifact: Artifact, image: Image.Image, name: str) -> Tensor:
    """A picture -> C x R x R, as the profile's evaluation does it.

    Raises:
        DataError: a size that the profile does not take; the message names the picture.
    """
    try:
        return artifact.profile.evaluate(image)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error


def ranked(artifact: Artifact, logits: Tensor, top: int) -> list[tuple[tuple[str, float], ...]]:
    """N x classes -> the names and probabilities of the `top` most likely classes of each."""
    chances, numbers = logits.softmax(1).topk(min(top, logits.shape[1]))
    return [
        tuple((artifact.classes[number], chance) for number, chance in zip(*row, strict=True))
        for row in zip(numbers.tolist(), chances.tolist(), strict=True)
    ]


def _answers(
    artifact: Artifact, engine: Engine, made: list[tuple[str, Tensor] | Unusable], top: int
) -> Iterator[Prediction | Unusable]:
    images = [each[1] for each in made if not isinstance(each, Unusable)]
    rows: Iterator[tuple[tuple[str, float], ...]] = iter(())
    seconds = 0.0
    if images:
        started = time.perf_counter()
        logits = engine(torch.stack(images))
        seconds = (time.perf_counter() - started) / len(images)
        rows = iter(ranked(artifact, logits, top))
    for each in made:
        if isinstance(each, Unusable):
            yield each
        else:
            yield Prediction(name=each[0], classes=next(rows), seconds=seconds)


def pictures_of(paths: Iterable[Path]) -> list[Path]:
    """The pictures meant: files as they are given, those of folders and below in order of names.

    What is hidden is none of a folder's pictures, as in data: a Mac leaves ._x.jpg beside x.jpg.

    Raises:
        DataError: nothing of that name, or a folder without pictures.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if _is_picture(p, path))
            if not inside:
                raise DataError(f"expected pictures in {path}, found none")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise DataError(f"expected a picture or a folder, found no such thing: {path}")
    return found


def _is_picture(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return path.suffix.lower() in EXTENSIONS and not hidden and not path.is_dir()


def named(paths: Iterable[Path]) -> list[tuple[str, Path]]:
    """Files with names that can be printed."""
    return [(printable(str(path)), path) for path in paths]
