"""Deciding a detector before anything is written."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

import resnext
from resnext.data.colour import IMAGENET
from resnext.data.profiles import profile as image_profile
from resnext.detection.backbone import check_backbone
from resnext.detection.batches import load_image
from resnext.detection.folder import (
    RECORD,
    DetectionFolder,
    DetectionRecord,
    SetRecord,
    differences,
)
from resnext.detection.networks import Detector, Pixels, assemble
from resnext.detection.norm import recalibrate_bn
from resnext.detection.schedule import Study, study
from resnext.detection.splits import Sets, check_pair
from resnext.errors import DataError, UsageError
from resnext.families import compose
from resnext.model.network import ResNeXt, build
from resnext.runs.folder import RunFolder
from resnext.runs.keeping import left_off
from resnext.runs.planning import resolve_device
from resnext.runs.pretrained import Initial, initial_weights, load_pretrained
from resnext.runs.provenance import source_commit, versions
from resnext.spec import Spec, Stem, StemConv
from resnext.training.distributed import ALONE, World
from resnext.training.speed import Precision, Speed, check_speed

RECALIBRATED = 16
"""Images that statistics are taken from where nothing was trained before."""

SMALL = compose(
    (1, 1, 1, 1),
    "4x8d",
    stem=Stem(convs=(StemConv(out_channels=32, kernel=7, stride=2),), pool=True),
    out_channels=32,
)
"""A backbone for the profile `small`: one bottleneck a stage, 0.4 million parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionPlan:
    """A detector that is fully decided, with nothing written yet."""

    study: Study
    spec: Spec
    sets: Sets
    pixels: Pixels
    initial: Initial | None
    recalibrated: int
    empty: bool
    seed: int
    device: torch.device
    workers: int
    precision: Precision
    processes: int

    @property
    def name(self) -> str:
        """Of the run's folder, where none is said."""
        network = re.sub(r"[^a-z0-9]+", "-", resnext.name(self.spec).lower()).strip("-")[:40]
        return f"detect-{self.study.method.name}-{network}-seed{self.seed}"

    def create(self, out: Path | None = None, command: Sequence[str] = ()) -> DetectionFolder:
        """Make the folder.

        Raises:
            UsageError: `out` exists, or cannot be made.
        """
        return DetectionFolder.create(out, self.name, self.record(command))

    def create_or_continue(self, out: Path | None, command: Sequence[str] = ()) -> DetectionFolder:
        """The folder `out`, new or begun by the same plan; if not said, what was left off, or new.

        Raises:
            UsageError: it was begun by another plan; the message says how that differs.
            DataError: the pictures have changed.
        """
        if out is None:
            return left_off(self.name, self.create_or_continue) or self.create(None, command)
        if not (out / RECORD).exists():
            return self.create(out, command)
        folder = DetectionFolder.open(out)
        odd = list(differences(folder.record, self.record(command)))
        if odd:
            raise kind_of(odd)(
                f"expected the detector that {out} was begun with, found another: "
                f"{'; '.join(odd[:5])}; take another --out, or --resume {out} to continue it"
            )
        return folder

    def record(self, command: Sequence[str] = ()) -> DetectionRecord:
        """What `detection.json` says of it."""
        assert self.sets.train is not None
        return DetectionRecord(
            network=resnext.name(self.spec),
            spec=json.loads(json.dumps(self.spec.to_dict())),
            method=self.study.method,
            schedules=self.study.schedules,
            classes=tuple((c.id, c.name) for c in self.sets.train.categories),
            mean=self.pixels.mean,
            std=self.pixels.std,
            train=SetRecord.of(self.sets.train),
            evaluation=SetRecord.of(self.sets.evaluation),
            empty=self.empty,
            seed=self.seed,
            device=str(self.device),
            threads=torch.get_num_threads(),
            processes=self.processes,
            precision=self.precision,
            initial_weights=str(self.initial) if self.initial else None,
            recalibrated=self.recalibrated,
            versions=versions(),
            command=tuple(command),
            commit=source_commit(),
            started=datetime.now(UTC).isoformat(timespec="seconds"),
        )


def kind_of(odd: Sequence[str]) -> type[UsageError | DataError]:
    """What is wrong where a detector differs so: what was asked for, or the pictures alone."""
    return DataError if all("fingerprint" in text for text in odd) else UsageError


def plan_detection(
    sets: Sets,
    network: str | Spec | None = None,
    profile: str | Study = "small",
    *,
    weights: Path | None = None,
    steps: int | None = None,
    images: int | None = None,
    settings: Mapping[str, str] = MappingProxyType({}),
    recalibrate: int | None = None,
    empty: bool = False,
    seed: int = 0,
    device: str | None = None,
    workers: int = 0,
    precision: Precision = "fp32",
    world: World = ALONE,
) -> DetectionPlan:
    """Decide a detector.

    Args:
        sets: what to train on and what to score on.
        network: the backbone; that of `weights` if they are a run's, or a small one.
        profile: paper, modern, modern-fpn or small; or method and schedules of one's own.
        weights: of the backbone: a run, safetensors, or torchvision's or timm's `.pth`.
        steps: of every phase, instead of the profile's; drops move along.
        images: of a step; the rate follows.
        settings: fields of method or schedules, as text.
        recalibrate: images to take the statistics of normalisation from; 16 without weights.
        empty: train on images without objects too.
        seed: of new weights, order, mirroring and sampling.
        device: a GPU if there is one.
        workers: processes that load pictures.
        precision: of the activations; boxes stay in float32.
        world: the processes that train together.

    Raises:
        SpecError, UsageError: there is no such thing, or it does not go together.
        CheckpointError: the weights cannot be read.
        DataError: the sets share images or differ in classes.
    """
    wanted = (
        study(profile, steps=steps, images=images, settings=settings)
        if isinstance(profile, str)
        else profile
    )
    if sets.train is None:
        raise UsageError("expected pictures to train on, found none")
    check_pair(sets.train, sets.evaluation)
    spec, pixels = _backbone(network, weights)
    check_backbone(spec)
    place = resolve_device(device, world.local_rank)
    check_speed(Speed(precision=precision), place, world)
    if precision == "fp16":
        raise UsageError("expected fp32 or bf16 for a detector, found fp16")
    return DetectionPlan(
        study=wanted,
        spec=spec,
        sets=sets,
        pixels=pixels,
        initial=None if weights is None else initial_weights(weights),
        recalibrated=(0 if weights else RECALIBRATED) if recalibrate is None else recalibrate,
        empty=empty,
        seed=seed,
        device=place,
        workers=workers,
        precision=precision,
        processes=world.size,
    )


def _backbone(network: str | Spec | None, weights: Path | None) -> tuple[Spec, Pixels]:
    """The specification, and how its pixels were normalised in training."""
    pixels = Pixels(IMAGENET.mean, IMAGENET.std)
    if weights is not None and weights.is_dir():
        run = RunFolder.open(weights)
        seen = image_profile(run.record.profile).statistics
        pixels = Pixels(seen.mean, seen.std)
        return resnext.spec(network) if network is not None else run.spec(), pixels
    if network is None and weights is not None:
        raise UsageError(f"expected --network beside --weights {weights}, found none")
    return SMALL if network is None else resnext.spec(network), pixels


def begin_detector(plan: DetectionPlan) -> Detector:
    """The detector before its first step, on its device: trained weights, or new ones.

    Two networks of two steps begin with the same weights, as in the paper.

    Raises:
        CheckpointError: the weights do not fit.
    """
    networks = [_network(plan) for _ in range(1 if plan.study.method.shared else 2)]
    classes = len(plan.sets.evaluation.categories)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        detector = assemble(networks, plan.study.method, plan.pixels, classes)
    return detector.to(plan.device)


def _network(plan: DetectionPlan) -> ResNeXt:
    network = build(plan.spec, seed=plan.seed)
    if plan.initial is not None:
        load_pretrained(network, plan.initial)
    if plan.recalibrated:
        recalibrate_bn(network, calibration_batches(plan))
    return network


def calibration_batches(plan: DetectionPlan) -> Iterator[Tensor]:
    """The first training images, resized, normalised and padded, one by one."""
    from torchvision.models.detection.transform import GeneralizedRCNNTransform

    method, data = plan.study.method, plan.sets.train
    assert data is not None
    transform = GeneralizedRCNNTransform(
        method.shorter, method.longer, list(plan.pixels.mean), list(plan.pixels.std)
    ).eval()
    for index in data.usable[: plan.recalibrated]:
        yield transform([load_image(data, int(index)).float() / 255])[0].tensors


def blank_detector(folder: DetectionFolder) -> Detector:
    """The detector of a folder, its weights without values.

    Raises:
        CheckpointError: its record is damaged.
    """
    record = folder.record
    with torch.device("meta"):
        networks = [
            build(folder.spec(), device="meta") for _ in range(1 if record.method.shared else 2)
        ]
        return assemble(
            networks, record.method, Pixels(record.mean, record.std), len(record.classes)
        )
