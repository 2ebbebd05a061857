"""What can be scored: a run, an artifact, a file of weights, or a name with a file of weights."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

import resnext
from resnext.data import Profile, profile
from resnext.errors import CheckpointError, ResNextError, UsageError
from resnext.model.network import build
from resnext.model.recognition import recognised, resembled
from resnext.runs.artifacts import is_artifact, read_artifact
from resnext.runs.folder import RECORD, RunFolder
from resnext.runs.peers import peer, peer_network
from resnext.runs.pretrained import fitting, initial_weights, read_weights
from resnext.spec import Spec
from resnext.training.checkpoint import load_weights
from resnext.training.state import require_same


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A network with weights.

    Attributes:
        given: how it was asked for.
        network: its name.
        model: on its device, channels last.
        outputs: its classes.
        profile: what it wants images prepared by.
        side: of the images it was trained at, in pixels.
        channels: of the images.
        classes: their names, where they are known.
        weights: SHA-256 of the file.
        folder: the run, if it is one's.
    """

    given: str
    network: str
    model: nn.Module
    outputs: int
    profile: Profile
    side: int
    channels: int
    classes: tuple[str, ...] | None = None
    weights: str | None = None
    folder: RunFolder | None = None


def candidate(
    given: str,
    weights: Path | None = None,
    *,
    profile_name: str | None = None,
    device: torch.device | str = "cpu",
) -> Candidate:
    """What a text stands for.

    Args:
        given: a run folder, an artifact, a file of weights, ``torchvision:NAME``, ``timm:NAME``, or
            a network in any notation.
        weights: the file for a network by name.
        profile_name: instead of its own profile.
        device: where to.

    Raises:
        UsageError: it stands for nothing, a name lacks weights, or something else has more.
        CheckpointError: the weights are missing, damaged or of another network.
    """
    if weights is not None:
        check_weights(int(needs_weights(given)), 1)
    path = Path(given).expanduser()
    if is_artifact(path):
        found = _of_artifact(given, path, device)
    elif path.is_dir():
        found = run_candidate(RunFolder.open(path), given, device)
    elif path.is_file():
        found = _of_file(given, path, device)
    else:
        found = _named(given, weights, device)
    if profile_name is None:
        return found
    chosen = profile(profile_name)
    if chosen.channels != found.channels:
        raise UsageError(
            f"expected a profile of {found.channels} channels for {given}, found {profile_name}"
        )
    return replace(found, profile=chosen)


def needs_weights(given: str) -> bool:
    """Whether a text is a name, to which weights must be given."""
    return not Path(given).expanduser().exists()


def check_weights(names: int, weights: int) -> None:
    """Refuse files of weights beside what has its own.

    Raises:
        UsageError: there are more than names.
    """
    if weights > names:
        raise UsageError(
            f"expected --weights for the {names} networks by name, found {weights}; a "
            "run folder or a file of weights needs none"
        )


def run_candidate(folder: RunFolder, given: str, device: torch.device | str) -> Candidate:
    """The best weights of a run.

    Raises:
        CheckpointError: the folder or the weights are missing or damaged.
    """
    seen = _stored_profile(folder)
    model = load_model(folder, device)
    spec = folder.spec()
    return Candidate(
        given=given,
        network=folder.record.network,
        model=model,
        outputs=spec.classes,
        profile=seen,
        side=seen.resolution,
        channels=spec.in_channels,
        classes=folder.record.data.classes,
        weights=initial_weights(folder.weights).sha256,
        folder=folder,
    )


def _of_artifact(given: str, path: Path, device: torch.device | str) -> Candidate:
    record, spec, seen, weights = read_artifact(path)
    model = build(spec, device="meta")
    model.load_state_dict(weights, assign=True)
    return Candidate(
        given=given,
        network=resnext.name(spec),
        model=placed(model, device),
        outputs=spec.classes,
        profile=seen,
        side=seen.resolution,
        channels=spec.in_channels,
        classes=record.classes,
        weights=record.weights,
    )


def load_model(folder: RunFolder, device: torch.device | str = "cpu") -> nn.Module:
    """The run's network with its best weights.

    Raises:
        CheckpointError: the weights are missing, damaged or of another network.
    """
    if not folder.weights.exists() and not folder.epochs():
        raise CheckpointError(
            f"expected weights in {folder.path}, found none: no epoch was finished yet; go on with "
            f"resnext train --resume {shlex.quote(str(folder.path))}"
        )
    weights = load_weights(folder.weights)
    model = build(folder.spec(), form="grouped", device="meta")
    require_same(f"{folder.weights} to hold weights", model.state_dict(), weights)
    model.load_state_dict(weights, assign=True)
    return placed(model, device)


def placed(model: nn.Module, device: torch.device | str) -> nn.Module:
    """On the device, in the layout that convolutions are fastest in."""
    return model.to(device).to(memory_format=torch.channels_last)


def _stored_profile(folder: RunFolder) -> Profile:
    try:
        seen = profile(folder.record.profile)
    except UsageError as error:
        raise CheckpointError(f"{folder.path / RECORD} is damaged: {error}") from error
    channels = folder.spec().in_channels
    if seen.channels != channels:
        raise CheckpointError(
            f"{folder.path / RECORD} is damaged: expected a profile of {channels} channels, found "
            f"{seen.name} of {seen.channels}"
        )
    return seen


def _of_file(given: str, path: Path, device: torch.device | str) -> Candidate:
    """The network that the weights fit, told from their shapes."""
    state = read_weights(path)
    spec = recognised(state)
    if spec is None and (near := resembled(state)):
        return _ours(given, near, path, state, device)  # refuses, and names what differs
    if spec is None:
        raise CheckpointError(
            f"expected weights of a ResNet or ResNeXt in {path}, found others; say the network's "
            f"name and --weights {path}"
        )
    if spec.shortcut == "none":
        raise CheckpointError(
            f"expected weights that fit one network, found {path} to fit {resnext.name(spec)} and "
            f"one with shortcut A; say the network's name and --weights {path}"
        )
    return _ours(given, spec, path, state, device)


def _named(given: str, weights: Path | None, device: torch.device | str) -> Candidate:
    library = peer(given)
    try:
        spec = None if library else resnext.spec(given)
    except ResNextError as error:
        raise UsageError(
            f"no run folder, artifact or file of weights is at {given!r}, and it names no network "
            f"(ours, torchvision:NAME or timm:NAME): {error}"
        ) from error
    if weights is None:
        raise UsageError(
            f"expected weights for {given}, found none: nothing is downloaded; say --weights FILE"
        )
    state = read_weights(weights)
    if spec is not None:
        return _ours(given, spec, weights, state, device)
    assert library is not None
    digest = initial_weights(weights).sha256
    model, seen = peer_network(*library, state, digest)
    model.load_state_dict(fitting(model.state_dict(), state, weights, given))
    return Candidate(
        given=given,
        network=given,
        model=placed(model, device),
        outputs=_outputs(model, seen.resolution),
        profile=seen,
        side=seen.resolution,
        channels=3,
        weights=digest,
    )


def _ours(
    given: str, spec: Spec, path: Path, state: Mapping[str, Tensor], device: torch.device | str
) -> Candidate:
    fc = state.get("fc.bias")
    spec = resnext.spec(spec, classes=len(fc) if fc is not None and fc.ndim else None)
    model = build(spec, device="meta")
    found = fitting(model.state_dict(), state, path, resnext.name(spec))
    model.load_state_dict(found, assign=True)
    seen = usual_profile(spec)
    return Candidate(
        given=given,
        network=resnext.name(spec),
        model=placed(model, device),
        outputs=spec.classes,
        profile=seen,
        side=spec.resolution,
        channels=spec.in_channels,
        weights=initial_weights(path).sha256,
    )


def usual_profile(spec: Spec) -> Profile:
    """What such networks are usually trained with, where nothing says it."""
    if spec.in_channels == 1:
        return profile("digits")
    if spec.resolution == 32:
        return profile("cifar100" if spec.classes == 100 else "cifar10")
    return profile("pil-224")


@torch.inference_mode()
def _outputs(model: nn.Module, side: int) -> int:
    """How many classes a peer's network scores, seen in its answer."""
    like = next(model.parameters())
    return int(model.eval()(like.new_zeros(1, 3, side, side)).shape[1])
