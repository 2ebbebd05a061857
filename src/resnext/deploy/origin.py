"""Whatever has weights as an artifact: a run, a file, a name with a file, a module in memory."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import resnext
from resnext.data.profiles import Profile, profile
from resnext.deploy import hub
from resnext.deploy.artifact import Artifact, load
from resnext.deploy.describing import preprocessing
from resnext.errors import CheckpointError, DataError, UsageError
from resnext.evaluation.protocols import SINGLE_VIEW
from resnext.metrics import TOP
from resnext.model.convert import state_in_form
from resnext.model.network import ResNeXt
from resnext.model.recognition import counter, recognised
from resnext.runs.artifacts import ArtifactRecord, OriginRecord, ScoreRecord, is_artifact
from resnext.runs.candidates import (
    Candidate,
    candidate,
    check_weights,
    needs_weights,
    usual_profile,
)
from resnext.runs.folder import RunFolder
from resnext.runs.pretrained import Initial
from resnext.runs.records import EpochRecord, RunRecord, best
from resnext.spec import Spec
from resnext.training.checkpoint import tensor_bytes


def artifact_of(
    given: str | Path, weights: Path | None = None, *, profile_name: str | None = None
) -> Artifact:
    """What a text stands for.

    Args:
        given: an artifact, ``hub:OWNER/NAME`` of one, a run folder, a file of weights, or a name of
            a ResNet or ResNeXt (see `runs.candidate`).
        weights: the file for a network by name.
        profile_name: instead of its own preprocessing.

    Raises:
        UsageError: it stands for nothing, for a network of another kind, or for one that has
            weights of its own beside those given.
        CheckpointError: the weights are missing, damaged, of another network, or no numbers.
    """
    if weights is not None:
        check_weights(int(is_name(str(given))), 1)
    on_hub = str(given).startswith(hub.PREFIX)
    path = hub.fetched(*hub.parsed(str(given))) if on_hub else Path(given).expanduser()
    if on_hub or is_artifact(path):
        found = load(path)
        return found if profile_name is None else _prepared(found, profile(profile_name))
    found_candidate = candidate(str(given), weights, profile_name=profile_name)
    return _of_candidate(found_candidate)


def is_name(given: str) -> bool:
    """Whether a text is the name of a network, to which weights must be given."""
    return not given.startswith(hub.PREFIX) and needs_weights(given)


def artifact_of_model(
    model: nn.Module,
    *,
    profile_name: str | None = None,
    classes: Sequence[str] | None = None,
) -> Artifact:
    """A module in memory: ours in any form, or a ResNet or ResNeXt of torchvision or timm.

    Args:
        model: its weights are copied.
        profile_name: how images are prepared; as such networks usually are if left out.
        classes: names of its outputs.

    Raises:
        UsageError: another kind of network, or names or a profile that do not fit it.
        CheckpointError: weights that are no numbers.
    """
    state: Mapping[str, Tensor] = model.state_dict()
    spec = model.spec if isinstance(model, ResNeXt) else recognised(state)
    if spec is None:
        raise UsageError(f"expected a ResNet or ResNeXt, found {type(model).__name__}")
    if isinstance(model, ResNeXt):
        state = state_in_form(state, spec, model.form, "grouped")
    seen = usual_profile(spec) if profile_name is None else profile(profile_name)
    copied = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
    return with_classes(_made(spec, seen, copied), classes)


def with_classes(artifact: Artifact, classes: Sequence[str] | None) -> Artifact:
    """The same with other names of its outputs; as it is without any.

    Raises:
        DataError: there are more or fewer outputs.
    """
    if classes is None:
        return artifact
    if len(classes) != artifact.spec.classes:
        raise DataError(f"expected names of {artifact.spec.classes} classes, found {len(classes)}")
    record = artifact.record.model_copy(update={"classes": tuple(classes)})
    return replace(artifact, record=record)


def with_score(artifact: Artifact, said: Mapping[str, Any], where: str) -> Artifact:
    """The same with one more score, from what ``resnext evaluate --json`` printed.

    Raises:
        DataError: it is something else, or speaks of other weights.
    """
    try:
        score = ScoreRecord(
            top1_error=float(said["top1_error"]),
            top5_error=None if said["classes"] <= TOP else float(said["top5_error"]),
            samples=int(said["samples"]),
            protocol=str(said["protocol"]),
            profile=str(said["profile"]),
            precision=str(said["precision"]),
            engine=str(said["engine"]),
            data=Path(str(said["location"])).name,
            fingerprint=str(said["fingerprint"]),
            chosen=bool(said.get("own_data")),
        )
        scored = said["weights"]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"expected what resnext evaluate --json prints of one network in {where}, found "
            f"something else: {error}"
        ) from error
    if scored not in (artifact.record.weights, artifact.record.origin.weights):
        raise DataError(f"expected scores of these weights in {where}, found those of others")
    record = artifact.record
    return replace(artifact, record=record.model_copy(update={"scores": (*record.scores, score)}))


def with_words(
    artifact: Artifact, *, licence: str | None = None, description: str | None = None
) -> Artifact:
    """The same with what its owner says; as it is where that is nothing."""
    said = {"licence": licence, "description": description}
    update = {name: value for name, value in said.items() if value is not None}
    return replace(artifact, record=artifact.record.model_copy(update=update))


def _of_candidate(found: Candidate) -> Artifact:
    state: Mapping[str, Tensor] = found.model.state_dict()
    spec = found.model.spec if isinstance(found.model, ResNeXt) else recognised(state)
    if spec is None:
        raise UsageError(
            f"expected a ResNet or ResNeXt, found {found.network}, which others here can score only"
        )
    made = _made(spec, found.profile, state, OriginRecord(weights=found.weights or ""))
    return made if found.folder is None else _of_run(made, found.folder)


def _of_run(made: Artifact, folder: RunFolder) -> Artifact:
    """With what the run says about its weights."""
    record = folder.record
    epochs = folder.epochs()
    scores = (_score(made, record, best(epochs)),) if epochs else ()
    initial = record.initial_weights and Initial.parse(record.initial_weights)
    origin = OriginRecord(
        weights=made.record.origin.weights,
        run=folder.path.absolute().name,
        data=record.data.name,
        fingerprint=record.data.fingerprint,
        recipe=record.recipe.model_dump(mode="json"),
        seed=record.seed,
        epochs=len(epochs),
        initial_weights=f"{initial.path.name} sha256:{initial.sha256}" if initial else None,
        commit=record.commit,
        versions=record.versions,
    )
    update = {"classes": record.data.classes, "scores": scores, "origin": origin}
    return replace(made, record=made.record.model_copy(update=update))


def _score(made: Artifact, record: RunRecord, epoch: EpochRecord) -> ScoreRecord:
    few = made.spec.classes <= TOP
    return ScoreRecord(
        top1_error=epoch.validation_error,
        top5_error=None if few else epoch.validation_top5_error,
        protocol=SINGLE_VIEW,
        profile=record.profile,
        precision=record.precision,
        engine=record.engine,
        data=record.data.name,
        fingerprint=record.data.fingerprint,
        chosen=True,
    )


def _made(
    spec: Spec,
    seen: Profile,
    state: Mapping[str, Tensor],
    origin: OriginRecord | None = None,
) -> Artifact:
    """An artifact in memory.

    Raises:
        UsageError: a profile of other channels.
        CheckpointError: weights that are no numbers.
    """
    _check_profile(spec, seen)
    weights = {
        name: (tensor if counter(name) else tensor.float()).contiguous()
        for name, tensor in state.items()
    }
    odd = next((name for name, tensor in weights.items() if not _finite(tensor)), None)
    if odd is not None:
        raise CheckpointError(f"expected weights that are numbers, found NaN or infinity in {odd}")
    digest = hashlib.sha256(tensor_bytes(weights)).hexdigest()
    record = ArtifactRecord(
        network=resnext.name(spec),
        spec=spec.to_dict(),
        classes=None,
        profile=seen.name,
        preprocessing=preprocessing(seen),
        weights=digest,
        origin=origin or OriginRecord(weights=digest),
    )
    return Artifact(record=record, spec=spec, profile=seen, weights=weights)


def _prepared(artifact: Artifact, seen: Profile) -> Artifact:
    """The same under another profile."""
    _check_profile(artifact.spec, seen)
    update = {"profile": seen.name, "preprocessing": preprocessing(seen)}
    return replace(artifact, profile=seen, record=artifact.record.model_copy(update=update))


def _check_profile(spec: Spec, seen: Profile) -> None:
    if seen.channels != spec.in_channels:
        raise UsageError(
            f"expected a profile of {spec.in_channels} channels for {resnext.name(spec)}, found "
            f"{seen.name}"
        )


def _finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())
