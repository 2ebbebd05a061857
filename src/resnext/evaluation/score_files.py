"""Scores of every image in a file: scored again, or joined with those of other networks, later.

A file of scores is safetensors with a checksum beside it, like every artefact: `scores`, N x
classes, whose softmax are probabilities, `labels`, N, and words on what they were measured with.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from resnext.errors import CheckpointError, DataError, UsageError
from resnext.evaluation.protocols import Average
from resnext.training.checkpoint import load_weights, save_weights, words_of

FORMAT = "resnext scores 1"

Width = Literal["float32", "float16"]
_WIDTHS = {"float32": torch.float32, "float16": torch.float16}


class About(BaseModel):
    """What scores were measured with; they mean nothing without it."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    network: str
    weights: str | None
    """SHA-256 of the file of weights, if there was one."""
    data: str
    """Where the images were."""
    fingerprint: str
    classes: tuple[str, ...]
    """Of the labels; the network may have more."""
    protocol: str
    profile: str
    precision: str = "fp32"
    engine: str = "pillow"
    """What decoded and resized the images; engines agree to two grey levels."""
    average: Average
    """Whether the scores are mean logits, or logarithms of mean probabilities."""


@dataclass(frozen=True, slots=True)
class Scored:
    """The scores of a set of images.

    Attributes:
        scores: N x classes.
        labels: N, int64.
        about: what they were measured with.
    """

    scores: Tensor
    labels: Tensor
    about: About


def save_scores(path: Path, scored: Scored, width: Width = "float32") -> None:
    """Write a file of scores; float16 halves it and may change who wins among near equals.

    Raises:
        ResourceError: it cannot be written.
    """
    tensors = {"scores": scored.scores.to(_WIDTHS[width]), "labels": scored.labels}
    words = {"format": FORMAT, "about": scored.about.model_dump_json()}
    save_weights(path, tensors, words)


def is_scores(path: Path) -> bool:
    """Whether a file holds scores, and not weights."""
    return path.is_file() and words_of(path).get("format", "").startswith("resnext scores")


def load_scores(path: Path) -> Scored:
    """Read and verify a file of scores.

    Raises:
        CheckpointError: it is damaged, or no file of scores.
        DataError: a label without a class, no images, or scores that are no numbers.
    """
    tensors, words = load_weights(path), words_of(path)
    if words.get("format") != FORMAT:
        raise CheckpointError(f"expected {path} as {FORMAT!r}, found {words.get('format')!r}")
    try:
        about = About.model_validate_json(words["about"])
        scores, labels = tensors["scores"].float(), tensors["labels"]
    except (KeyError, ValidationError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} is damaged: it is no file of scores") from error
    if scores.ndim != 2 or labels.shape != scores.shape[:1] or labels.dtype != torch.int64:
        raise CheckpointError(
            f"expected N x classes scores and N labels in {path}, found {tuple(scores.shape)} and "
            f"{tuple(labels.shape)}"
        )
    check_labels(labels, scores.shape[1], str(path))
    _check_numbers(scores, str(path))
    return Scored(scores, labels, about)


def check_labels(labels: Tensor, classes: int, where: str) -> None:
    """Refuse a label that no class of the network stands for.

    Raises:
        DataError: there is one, or there are no images.
    """
    if not len(labels):
        raise DataError(f"{where}: expected images to score on, found none")
    least, most = int(labels.min()), int(labels.max())
    if least < 0 or most >= classes:
        found = least if least < 0 else most
        raise DataError(f"{where}: expected labels 0 to {classes - 1}, found {found}")


def _check_numbers(scores: Tensor, where: str) -> None:
    """Refuse what is no number: it would make the whole ensemble none."""
    bad = int((~scores.isfinite()).any(1).sum())
    if bad:
        raise DataError(
            f"{where}: expected scores that are numbers, found others for {bad:,} of "
            f"{len(scores):,} images"
        )


def ensemble(
    members: Sequence[Scored],
    weights: Sequence[float] | None = None,
    average: Average = "probabilities",
) -> Scored:
    """The mean of several networks' scores on the same images.

    Args:
        members: at least one.
        weights: one for each, at least 0; equal ones if left out.
        average: of probabilities, or of the scores themselves.

    Raises:
        UsageError: other numbers of weights than of members, or none above 0.
        DataError: they were measured on other images, labels or classes, or are no numbers.
    """
    parts = shares(len(members), weights)
    first = members[0]
    for member in members:
        _check_numbers(member.scores, member.about.network)
        _check_same(first, member)
    total = torch.zeros(first.scores.shape, dtype=torch.float32)
    for share, member in zip(parts, members, strict=True):
        rows = member.scores.float()
        total += share * (rows.softmax(1) if average == "probabilities" else rows)
    if average == "probabilities":
        total = total.clamp_min(torch.finfo(torch.float32).tiny).log()
    return Scored(total, first.labels, _about(members, parts, average))


def shares(count: int, weights: Sequence[float] | None) -> list[float]:
    """What part each of so many members has; together 1.

    Raises:
        UsageError: another number of weights, or none above 0.
    """
    given = [1.0] * count if weights is None else list(weights)
    if len(given) != count or not all(0 <= weight < float("inf") for weight in given):
        raise UsageError(f"expected {count} weights of at least 0, found {given}")
    if not 0 < sum(given) < float("inf"):
        raise UsageError(f"expected weights whose sum is a number above 0, found {given}")
    return [weight / sum(given) for weight in given]


def _check_same(first: Scored, other: Scored) -> None:
    ours, theirs = first.about, other.about
    if ours.fingerprint != theirs.fingerprint:
        raise DataError(
            f"expected scores on the images {ours.fingerprint[:12]} of {ours.data}, found "
            f"{theirs.fingerprint[:12]} of {theirs.data} ({theirs.network})"
        )
    if first.scores.shape != other.scores.shape:
        raise DataError(
            f"expected {first.scores.shape[1]} classes as of {ours.network}, found "
            f"{other.scores.shape[1]} of {theirs.network}"
        )
    if ours.classes != theirs.classes or not torch.equal(first.labels, other.labels):
        raise DataError(
            f"expected the labels of {ours.network}, found others of {theirs.network}: the order "
            "of the classes differs"
        )


def _about(members: Sequence[Scored], parts: Sequence[float], average: Average) -> About:
    abouts = [member.about for member in members]
    names = [f"{share:.3g} {about.network}" for share, about in zip(parts, abouts, strict=True)]
    return abouts[0].model_copy(
        update={
            "network": f"ensemble of {' + '.join(names)}",
            "weights": None,
            "protocol": _joined(about.protocol for about in abouts),
            "profile": _joined(about.profile for about in abouts),
            "precision": _joined(about.precision for about in abouts),
            "engine": _joined(about.engine for about in abouts),
            "average": average,
        }
    )


def _joined(texts: Iterable[str]) -> str:
    """One text where all are equal."""
    return " + ".join(dict.fromkeys(texts))
