"""Whether a file computes the network that it was made from, in figures."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from resnext.deploy.artifact import Artifact
from resnext.deploy.parity import Forward, Parity, parity, reference, tolerance
from resnext.deploy.samples import Samples, kind_of, photographs, resized
from resnext.errors import ParityError

BATCHES = (1, 2, 7)
"""Images at once that a file is tried with."""

MOST_LOSS = 1.0
"""Points of accuracy that int8 may lose."""

LEAST_AGREEMENT = 0.95
"""Part of the images that int8 must leave in their class; like `MOST_LOSS` chosen, not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """The same images by float32 and by the file.

    Attributes:
        images: how many; none of them was used to calibrate.
        about: where they are from.
        agreement: part of them with the same most likely class.
        before: accuracy of float32 in percent; None without labels.
        after: that of the file.
    """

    images: int
    about: str
    agreement: float
    before: float | None
    after: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row(Parity):
    """A number of images at a size, and how far their logits may be from float64's.

    Attributes:
        tolerance: in units of the largest logit; None for int8.
    """

    tolerance: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What was found out about a file.

    Attributes:
        parity: one row for each number of images and size.
        images: where they are from.
        accuracy: on more images, where some were given.
    """

    parity: tuple[Row, ...]
    images: str
    accuracy: Accuracy | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def compared(
    artifact: Artifact, forward: Forward, precision: str, given: Samples | None
) -> Compared:
    """A file beside the network in float64, and in accuracy beside float32.

    Raises:
        ParityError: it does not compute the network.
    """
    rows = tuple(_rows(artifact, forward, precision, given))
    for row in rows:
        if row.tolerance is not None and not row.relative <= row.tolerance:
            raise ParityError(
                f"expected logits within {row.tolerance:.1e} of the largest one, found "
                f"{row.relative:.1e} in {precision}; nothing was written"
            )
    accuracy = (
        None if given is None else _accuracy(reference(artifact, torch.float32), forward, given)
    )
    if precision == "int8":
        assert accuracy is not None
        check_int8(accuracy)
    images = f"{kind_of(artifact)} of scikit-learn" if given is None else given.about
    return Compared(parity=rows, images=images, accuracy=accuracy)


def _rows(
    artifact: Artifact, forward: Forward, precision: str, given: Samples | None
) -> Iterator[Row]:
    side = artifact.profile.resolution
    images = photographs(artifact, max(BATCHES)) if given is None else _first(given)
    exact = reference(artifact)
    for size in (side, larger(side)):
        batch = images if size == side else resized(images, size)
        wanted = exact(batch)
        room = tolerance(artifact, batch, wanted, precision)
        for count in BATCHES:
            found = parity(wanted[:count], forward(batch[:count]), size)
            yield Row(**asdict(found), tolerance=room)


def larger(side: int) -> int:
    """The second size that a file is tried at: 288 for 224, and never the same."""
    return max(side + 8, round(side * 9 / 7 / 8) * 8)


def _first(given: Samples) -> Tensor:
    """Some images that were not used to calibrate; again from the front where there are few."""
    found: list[Tensor] = []
    while len(found) < max(BATCHES):
        for batch in given.batches():
            found += list(batch)
    return torch.stack(found[: max(BATCHES)])


def _accuracy(wanted: Forward, forward: Forward, given: Samples) -> Accuracy:
    ours = [(wanted(batch).argmax(1), forward(batch).argmax(1)) for batch in given.batches()]
    before, after = (torch.cat(column) for column in zip(*ours, strict=True))
    labels = given.labels
    return Accuracy(
        images=len(before),
        about=given.about,
        agreement=float((before == after).float().mean()),
        before=None if labels is None else 100 * float((before == labels).float().mean()),
        after=None if labels is None else 100 * float((after == labels).float().mean()),
    )


def check_int8(found: Accuracy) -> None:
    """Refuse what is too far from float32.

    Raises:
        ParityError: it is.
    """
    if not found.agreement >= LEAST_AGREEMENT:
        raise ParityError(
            f"expected int8 to leave {100 * LEAST_AGREEMENT:.0f} % of {found.images} images in "
            f"their class, found {100 * found.agreement:.1f} %; nothing was written: calibrate by "
            "more images like those that are to come"
        )
    if found.before is not None and found.after is not None:
        lost = found.before - found.after
        if not lost <= MOST_LOSS:
            raise ParityError(
                f"expected int8 to lose {MOST_LOSS:.1f} points of accuracy at most, found "
                f"{lost:.2f} on {found.images} images; nothing was written: calibrate by more"
            )
