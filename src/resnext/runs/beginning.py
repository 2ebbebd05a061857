"""What trained weights are of, where that can be told: their network, images and classes.

Training that begins with them takes from here what the user does not say.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from resnext.errors import CheckpointError, ResNextError
from resnext.model.recognition import recognised
from resnext.runs.artifacts import WEIGHTS as ARTIFACT_WEIGHTS
from resnext.runs.artifacts import is_artifact, read_artifact
from resnext.runs.folder import RECORD, RunFolder
from resnext.runs.libraries import library_file
from resnext.runs.peers import peer
from resnext.runs.pretrained import Initial, initial_weights, read_weights
from resnext.spec import Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """Weights, and what is known of them.

    Attributes:
        initial: the file.
        spec: the network; None where the tensors do not tell it.
        profile: how its images were prepared; None where nobody says it.
        classes: what its outputs stand for; None where nobody says it.
    """

    initial: Initial
    spec: Spec | None = None
    profile: str | None = None
    classes: tuple[str, ...] | None = None


def beginning(given: str | Path | Initial) -> Beginning:
    """What a text stands for.

    Args:
        given: a run folder, an artifact, a file, ``torchvision:NAME`` or ``timm:NAME``, whose file
            the library keeps or fetches.

    Raises:
        CheckpointError: it cannot be read, or cannot be fetched.
        UsageError: the library has no such network.
    """
    if isinstance(given, Initial):  # of a run that may need it no more
        with suppress(ResNextError):
            return _in_folder(given) or Beginning(initial=given)
        return Beginning(initial=given)
    library = peer(str(given))
    if library is not None and not Path(given).exists():
        return _of_file(initial_weights(library_file(*library)))
    path = Path(given).expanduser()
    return _of_file(initial_weights(path / ARTIFACT_WEIGHTS if is_artifact(path) else path))


def _in_folder(initial: Initial) -> Beginning | None:
    """What the folder of a run or artifact says of its weights."""
    folder = initial.path.parent
    if (folder / RECORD).is_file() and initial.path.name != ARTIFACT_WEIGHTS:
        run = RunFolder.open(folder)
        return Beginning(
            initial=initial,
            spec=run.spec(),
            profile=run.record.profile,
            classes=run.record.data.classes,
        )
    if is_artifact(folder) and initial.path.name == ARTIFACT_WEIGHTS:
        record, spec, seen, _ = read_artifact(folder)
        return Beginning(initial=initial, spec=spec, profile=seen.name, classes=record.classes)
    return None


def _of_file(initial: Initial) -> Beginning:
    known = _in_folder(initial)
    if known is not None:
        return known
    spec = recognised(read_weights(initial.path))
    if spec is not None and spec.shortcut == "none":  # or shortcut A, which has no weights
        spec = None
    return Beginning(initial=initial, spec=spec)


def require_network(found: Beginning) -> Spec:
    """The network of the weights, for who names none.

    Raises:
        CheckpointError: their tensors do not tell it.
    """
    if found.spec is None:
        raise CheckpointError(
            f"expected weights that tell their network in {found.initial.path}, found those of no "
            "ResNet or ResNeXt here, or of one with shortcut A or none; say it with --network"
        )
    return found.spec
