"""What makes a detector faster: each lever beside the plain network, on one picture at a time.

All see the same picture and the same number of proposals, interleaved in random order inside one
process; the ratio is the median over slices, each with the plain network's run beside it. Weights
are random, so figures of precision are not asked; how many proposals are kept is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.models.detection.roi_heads import RoIHeads

from resnext.benchmark.input import Contest, Method, Row, run_contest
from resnext.detection.classifying import Classifier
from resnext.detection.method import modern_pyramid, paper
from resnext.detection.networks import Detector, Joint, Pixels, assemble
from resnext.detection.norm import fold_norms
from resnext.model.network import build

_PIXELS = Pixels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CLASSES = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Lever:
    """One way to be faster: what differs from the plain network."""

    changes: Mapping[str, Any] = field(default_factory=dict)
    folded: bool = False
    channels_last: bool = False
    at_once: int | None = None
    pyramid: bool = False


def levers() -> dict[str, Lever]:
    """Under their names; the first is the plain network."""
    return {
        "C4, 300 proposals": Lever(),
        "normalisation folded": Lever(folded=True),
        "channels last": Lever(channels_last=True),
        "64 crops at once": Lever(at_once=64),
        "these three together": Lever(folded=True, channels_last=True, at_once=64),
        "100 proposals": Lever(changes={"after": (100, 100)}),
        "1000 proposals": Lever(changes={"after": (1000, 1000)}),
        "7 x 7 crops, conv5 without stride": Lever(changes={"crop_side": 7, "conv5_stride": 1}),
        "two networks": Lever(changes={"shared": False}),
        "pyramid, 300 proposals": Lever(pyramid=True),
    }


def benchmark_detection(
    network: str = "ResNeXt-50 (32x4d)",
    *,
    height: int = 600,
    width: int = 800,
    slices: int = 3,
    threads: int = 2,
    names: list[str] | None = None,
    seed: int = 0,
) -> list[Row]:
    """Pictures per second of each lever, and of decoding alone.

    Args:
        network: the backbone, in any notation.
        height: of the picture; it is not resized.
        width: of it.
        slices: repetitions of which the median counts.
        threads: of an operation.
        names: of levers; all if left out.
        seed: of weights and picture.
    """
    torch.set_num_threads(threads)
    image = torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))
    known = levers()
    chosen = {name: known[name] for name in names} if names else known
    methods = {
        name: _method(_detector(network, lever, height, width, seed), image)
        for name, lever in chosen.items()
    }
    groups = [np.zeros(1, dtype=np.int64)] * slices
    group = f"{network}, {height} x {width}"
    whole = run_contest(Contest(group=group, methods=methods, threads=threads), groups, seed)
    decoding = Contest(group="decoding 1000 proposals", methods=_decoding(seed), threads=threads)
    return whole + run_contest(decoding, groups * 5, seed)


def _detector(network: str, lever: Lever, height: int, width: int, seed: int) -> Detector:
    sizes = {"shorter": (min(height, width),), "longer": max(height, width)}
    plain = {"shared": True, "before": (6000, 6000), "after": (300, 300), "least_side": 1e-3}
    base = modern_pyramid() if lever.pyramid else paper().model_copy(update=plain)
    method = base.model_copy(update=sizes | {"after": (300, 300)} | dict(lever.changes))
    networks = [build(network, seed=seed) for _ in range(1 if method.shared else 2)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        detector = assemble(networks, method, _PIXELS, _CLASSES).eval()
    if lever.folded:
        fold_norms(detector)
    if lever.channels_last:
        detector.to(memory_format=torch.channels_last)
    part = detector if isinstance(detector, Joint) else detector.classifying
    part.roi_heads.at_once = lever.at_once
    return detector


def _method(detector: Detector, image: Tensor) -> Method:
    @torch.inference_mode()
    def run(_: NDArray[np.int64]) -> object:
        return detector([image])

    return run


def _decoding(seed: int) -> dict[str, Method]:
    """Torchvision's order, all boxes first, beside ours, which decodes what has a score."""
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(1000, _CLASSES + 1, generator=generator)
    offsets = torch.randn(1000, 4 * (_CLASSES + 1), generator=generator)
    corners = torch.rand(1000, 4, generator=generator) * 300
    corners[:, 2:] += corners[:, :2] + 16
    (heads,) = [
        m
        for m in _detector("ResNet-18", Lever(), 64, 64, seed).modules()
        if isinstance(m, Classifier)
    ]

    def method(decode: Callable[..., object]) -> Method:
        @torch.inference_mode()
        def run(_: NDArray[np.int64]) -> object:
            return decode(heads, logits, offsets, [corners], [(600, 800)])

        return run

    return {
        "torchvision": method(RoIHeads.postprocess_detections),
        "resnext": method(Classifier.postprocess_detections),
    }
