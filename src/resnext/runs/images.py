"""Which images weights are scored on, and whether their classes are the network's."""

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np

from resnext.data import DataSet, Source, open_data, open_evaluation
from resnext.data.subset import Subset
from resnext.errors import DataError, UsageError
from resnext.evaluation.readings import FIVE_K, ONE_K
from resnext.runs.candidates import Candidate
from resnext.runs.folder import RunFolder
from resnext.runs.planning import lasting
from resnext.runs.records import DataRecord


def images_of(
    found: Candidate,
    given: str | Path | DataSet | None,
    class_names: tuple[str, ...] | None = None,
) -> tuple[Source, DataRecord, bool]:
    """The images to score on, what they are, and whether a run was validated on them.

    Args:
        found: the network with its weights.
        given: the images; a run's own if left out.
        class_names: of the network's outputs: the images may then be of some of these classes only,
            and their labels follow the names.

    Raises:
        UsageError: nothing says which images.
        DataError: they have changed since, are of other classes, or there are none.
    """
    if found.folder is not None:
        whole = _whole_set(found.folder.record.data, given)
        if whole is not None and whole.fingerprint == found.folder.record.data.fingerprint:
            return whole.validation, found.folder.record.data, True
        if given is None:
            raise _changed(found.folder)
        images = whole.validation if whole is not None else open_evaluation(str(given))
    elif given is None:
        raise UsageError(f"expected --data to score {found.given} on, found none")
    else:
        images = given.validation if isinstance(given, DataSet) else open_evaluation(str(given))
    where = given.location if isinstance(given, DataSet) else str(given)
    if not len(images):
        raise DataError(f"{where}: expected images to score on, found none")
    images = _fitting(found, images, where, class_names)
    record = DataRecord(
        name=Path(where).absolute().stem,
        location=where,
        fingerprint=images.fingerprint(),
        classes=images.classes,
    )
    return images, record, False


def _whole_set(run: DataRecord, given: str | Path | DataSet | None) -> DataSet | None:
    """The data set if the run was trained at this place: what it learned from is not scored.

    Any other place is only scored, and need not hold anything to train on.
    """
    location = run.location if given is None else given
    if isinstance(location, DataSet):
        return location
    same = lasting(str(location)) == run.location
    return open_data(location) if same else None


def _changed(folder: RunFolder) -> DataError:
    where = folder.record.data.location
    return DataError(
        f"{where} has changed since {folder.path}: expected the images it saw, found others; to "
        f"score on them as they are now, say --data {where}"
    )


def _fitting(
    found: Candidate, images: Source, where: str, class_names: tuple[str, ...] | None
) -> Source:
    """The images, labelled as the network counts.

    A network of ImageNet-5K may be scored on images of its first 1000 classes.
    """
    if class_names is not None:
        return _renumbered(found, images, where, class_names)
    names = found.classes
    outputs = (found.outputs, ONE_K) if found.outputs == FIVE_K else (found.outputs,)
    if names is None and len(images.classes) in outputs:
        return images
    if names is None:
        raise DataError(
            f"expected the {found.outputs} classes of {found.given}, found {len(images.classes)} "
            f"in {where}; where these are some of them, say --class-names with a file of all"
        )
    if images.classes in [names[:count] for count in outputs]:
        return images
    raise DataError(
        f"expected the {len(names)} classes of {found.given}, found "
        f"{len(images.classes)} in {where}: {_first_difference(names, images.classes)}"
    )


def _renumbered(
    found: Candidate, images: Source, where: str, class_names: tuple[str, ...]
) -> Source:
    if len(class_names) != found.outputs:
        raise DataError(
            f"expected names of the {found.outputs} classes of {found.given}, found "
            f"{len(class_names)}"
        )
    places = {name: number for number, name in enumerate(class_names)}
    missing = [name for name in images.classes if name not in places]
    if missing:
        raise DataError(
            f"expected images of classes of {found.given} in {where}, found {missing[0]!r}, which "
            f"is none of them ({len(missing)} such)"
        )
    numbers = np.array([places[name] for name in images.classes], dtype=np.int64)
    return Subset(images, np.arange(len(images), dtype=np.int64), class_names, numbers)


def _first_difference(ours: Sequence[str], theirs: Sequence[str]) -> str:
    pairs = zip_longest(ours, theirs)
    at, (expected, found) = next((i, p) for i, p in enumerate(pairs) if p[0] != p[1])
    return f"class {at} is {found!r} instead of {expected!r}"
