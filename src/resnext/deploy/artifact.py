"""A network ready for use, as one folder that other people's programs understand.

```python
save(artifact_of("runs/x"), "artifacts/x")
model = load("artifacts/x").model()
```

The weights are safetensors under the names of torchvision and timm: torchvision's network takes
them by `load_state_dict`, timm's by ``timm.create_model("local-dir:FOLDER", pretrained=True)``.
Nothing in the folder can run code. `origin.py` makes artifacts of whatever has weights.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

import resnext
from resnext.data.profiles import Profile, profile
from resnext.deploy.card import model_card, timm_config
from resnext.errors import CheckpointError, ResourceError, UsageError
from resnext.model.network import ResNeXt, build
from resnext.runs.artifacts import (
    CARD,
    CONFIG,
    FILES,
    RECORD,
    WEIGHTS,
    ArtifactRecord,
    is_artifact,
    read_artifact,
    read_record,
)
from resnext.spec import Spec
from resnext.training.checkpoint import SUMS, sums_of, tensor_bytes, write_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A network with weights, and what one must know to use it.

    Attributes:
        record: what `artifact.json` says.
        spec: the network.
        profile: how images are prepared for it.
        weights: the tensors of its grouped form; nobody changes them.
        folder: where it lies; None for one that is in memory only.
    """

    record: ArtifactRecord
    spec: Spec
    profile: Profile
    weights: Mapping[str, Tensor]
    folder: Path | None = None

    @property
    def network(self) -> str:
        """Its name."""
        return resnext.name(self.spec)

    @property
    def classes(self) -> tuple[str, ...]:
        """What its outputs stand for: their numbers where nobody has said their names."""
        return self.record.classes or tuple(map(str, range(self.spec.classes)))

    def model(self) -> ResNeXt:
        """The network in evaluation mode, float32, on the CPU; it shares the weights."""
        model = build(self.spec, device="meta")
        model.load_state_dict(self.weights, assign=True)
        model.eval()
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        return model


def load(folder: str | Path) -> Artifact:
    """What `save` wrote, verified.

    Raises:
        CheckpointError: a file is missing, was changed, or does not fit the others.
    """
    path = Path(folder).expanduser()
    if not is_artifact(path):
        raise CheckpointError(f"expected an artifact, found no {RECORD} in {path}")
    record, spec, seen, weights = read_artifact(path)
    return Artifact(record=record, spec=spec, profile=seen, weights=weights, folder=path)


def save(artifact: Artifact, folder: str | Path, *, replacing: bool = False) -> Artifact:
    """Write the folder; it appears whole or not at all.

    A card that somebody has edited in the artifact's own folder comes along as it is.

    Args:
        artifact: from `artifact_of`, `artifact_of_model` or `load`.
        folder: a new one, whose parents are made.
        replacing: whether an older artifact may lie there, which goes.

    Returns:
        The artifact in its folder.

    Raises:
        UsageError: something lies there that is not to be replaced; nothing was changed.
        CheckpointError: the folder that the artifact was in is damaged meanwhile.
        ResourceError: it cannot be written.
    """
    path = Path(folder).expanduser()
    check_place(path, replacing=replacing)
    weights = tensor_bytes(artifact.weights)
    digest = hashlib.sha256(weights).hexdigest()
    record = artifact.record.model_copy(update={"weights": digest})
    named = replace(artifact, record=record, folder=path)
    config = timm_config(record, named.spec, named.profile)
    contents = {
        WEIGHTS: weights,
        RECORD: (record.model_dump_json(indent=1) + "\n").encode(),
        CONFIG: (json.dumps(config, indent=1, ensure_ascii=False) + "\n").encode(),
    }
    sums = sums_of(contents)
    card = _edited_card(artifact)
    if card is None:
        card = model_card(record, named.spec, named.profile).encode()
    contents |= {SUMS: sums, CARD: card}
    write_folder(path, contents, replacing=path.exists())
    return named


def _edited_card(artifact: Artifact) -> bytes | None:
    """The card beside the artifact, if it is another than was made for it."""
    folder = artifact.folder
    if folder is None or not (is_artifact(folder) and (folder / CARD).is_file()):
        return None
    stored = read_record(folder)
    if stored.weights != artifact.record.weights:  # another artifact lies there by now
        return None
    try:
        found = (folder / CARD).read_bytes()
    except OSError as error:
        raise ResourceError(f"cannot read {folder / CARD}: {error.strerror or error}") from error
    made = model_card(stored, artifact.spec, profile(stored.profile)).encode()
    return None if found == made else found


def check_place(path: Path, *, replacing: bool) -> None:
    """Refuse a place where an artifact must not be written.

    Raises:
        UsageError: something else lies there, or its folder cannot be made.
    """
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot make {path.parent}: {error.strerror or error}") from error
        return
    if not (path.is_dir() and is_artifact(path)):
        raise UsageError(f"expected a new folder, found {path}; nothing was changed")
    if not replacing:
        raise UsageError(
            f"expected a new folder, found the artifact {path}; nothing was changed, say --replace "
            "to replace it"
        )
    others = sorted(file.name for file in path.iterdir() if file.name not in FILES)
    left = path.with_name(path.name + ".replaced")
    if left.exists():
        raise UsageError(
            f"expected no {left}, found one: a replacement was cut off; move or delete it"
        )
    if others:
        raise UsageError(
            f"expected an artifact alone in {path}, found {others[0]} beside it; nothing was "
            "changed"
        )
