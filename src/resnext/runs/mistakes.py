"""The validation images that a run is most wrong about, as pictures."""

import io
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from torch import Tensor

from resnext.data import DataSet, Source
from resnext.errors import DataError
from resnext.evaluation.scores import Part
from resnext.report import Photo, Photos
from resnext.runs.candidates import run_candidate
from resnext.runs.folder import RunFolder
from resnext.runs.images import images_of
from resnext.runs.planning import resolve_device
from resnext.runs.scoring import Settings, evaluate_candidate

COUNT, MOST_IMAGES = 24, 10_000
"""Pictures on a page; and up to how many images are scored once more unasked to find them."""
_SIDE = 160
"""Pixels of a picture's longer side on the page."""


def worst_mistakes(
    folder: RunFolder,
    data: str | Path | DataSet | None = None,
    *,
    count: int | None = None,
    device: str | None = None,
    workers: int | None = None,
) -> Iterator[Part | Photos]:
    """Score the best weights once more; ends with the pictures of the highest losses.

    Args:
        folder: the run.
        data: its images, where they are open already.
        count: pictures at most; left out, 24, if there are no more than 10,000 images to score.
        device: as torch names it.
        workers: that prepare images.

    Raises:
        CheckpointError: the run has no weights, or damaged ones.
        DataError: its images are gone or have changed, or are many and nobody asked.
    """
    where = resolve_device(device)
    found = run_candidate(folder, str(folder.path), where)
    images, _, _ = images_of(found, data)
    if count is None and len(images) > MOST_IMAGES:
        raise DataError(
            f"expected at most {MOST_IMAGES:,} validation images to score unasked, found "
            f"{len(images):,}; resnext report {folder.path} --mistakes {COUNT} shows them"
        )
    settings = Settings(keep=True, workers=workers)
    for progress in evaluate_candidate(found, data, settings, device=where):
        if isinstance(progress, Part):
            yield progress
            continue
        assert progress.scored is not None
        yield _photos(
            images,
            progress.scored.scores,
            progress.scored.labels,
            COUNT if count is None else count,
        )


def _photos(images: Source, scores: Tensor, labels: Tensor, count: int) -> Photos:
    """Of N x classes logits and N labels, the wrong ones whose own class has the least chance."""
    chances = scores.float().softmax(1)
    own = chances.gather(1, labels.unsqueeze(1)).squeeze(1)
    best, taken = chances.max(1)
    wrong = (taken != labels).nonzero().squeeze(1)
    order = wrong[own[wrong].argsort()][:count].tolist()
    names = images.classes
    photos = tuple(
        Photo(
            caption=(
                f"{names[int(labels[i])]} ({100 * own[i]:.1f} %) taken for {names[int(taken[i])]} "
                f"({100 * best[i]:.1f} %): {_name(images, i)}"
            ),
            data=_thumbnail(images.read(i)),
            media_type="image/png",
        )
        for i in order
    )
    note = (
        f"{len(wrong):,} of {len(labels):,} validation images are taken for another class by the "
        f"weights of the best epoch; these {len(order)} with the most conviction."
        if order
        else "No validation image is taken for another class by the weights of the best epoch."
    )
    return Photos(name="mistakes", title="Worst mistakes", photos=photos, notes=(note,))


def _name(images: Source, index: int) -> str:
    """The end of what the image is called, which tells it from others."""
    whole = images.describe(index)
    return whole if len(whole) <= 60 else f"…{whole[-59:]}"


def _thumbnail(image: Image.Image) -> bytes:
    """A small PNG; pictures of a few pixels grow by whole factors."""
    longer = max(image.size)
    factor = _SIDE / longer if longer > _SIDE else max(1, _SIDE // (2 * longer))
    size = tuple(max(1, round(side * factor)) for side in image.size)
    way = Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.NEAREST
    file = io.BytesIO()
    image.resize((size[0], size[1]), way).save(file, "PNG")
    return file.getvalue()
