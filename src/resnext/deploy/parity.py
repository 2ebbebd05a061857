"""Whether an engine computes the network: its logits beside those in float64.

Differences are in units of the largest logit. How much rounding moves depends on the weights, so
the room is measured for each network: ten times what torch's own arithmetic of that precision
differs by on the same images. Over eight networks (ResNeXt-11, -29 and -50, ResNet-18, with
shortcut A too, pre-activation ResNet-50, one trained, one badly conditioned), batches of 1, 2, 3
and 7 and two sizes, ONNX Runtime differed by at most 3.2 times as much, OpenVINO by 3.6 in float32
and 5.0 in bf16.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from resnext.deploy.artifact import Artifact
from resnext.deploy.folding import folded

ROOM = 10
"""Times torch's own difference, which another library may differ by."""

LEAST = {"fp32": 16 * torch.finfo(torch.float32).eps, "bf16": torch.finfo(torch.bfloat16).eps}
"""What any library may differ by: rounding of a few steps, where torch's happens to cancel."""

MOST = {"fp32": 1e-3, "bf16": 0.25}
"""Beyond this nobody should call it the same network, however badly its weights are conditioned."""

Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """Two networks on the same images.

    Attributes:
        images: how many.
        side: their height and width.
        difference: the largest of logits.
        relative: the same, in units of the largest logit.
        agreement: part of the images whose most likely class is the same.
    """

    images: int
    side: int
    difference: float
    relative: float
    agreement: float


def reference(artifact: Artifact, dtype: torch.dtype = torch.float64) -> Forward:
    """The network as torch computes it, nothing folded; in float32 it is what people use."""
    model = artifact.model().to(dtype)

    @torch.inference_mode()
    def forward(images: Tensor) -> Tensor:
        found: Tensor = model(images.to(dtype))
        return found

    return forward


def tolerance(artifact: Artifact, images: Tensor, wanted: Tensor, precision: str) -> float | None:
    """What logits of these images may differ by, in units of the largest; None for int8.

    Args:
        artifact: the network.
        images: N x C x H x W.
        wanted: their logits in float64.
        precision: of the arithmetic.
    """
    if precision not in LEAST:
        return None
    own = reference(artifact, torch.float32) if precision == "fp32" else _shorter(artifact)
    found = parity(wanted, in_batches(own, images), images.shape[-1]).relative
    return min(max(ROOM * found, LEAST[precision]), MOST[precision])


def _shorter(artifact: Artifact) -> Forward:
    """Folded, as all engines of bf16 are."""
    model = folded(artifact.model()).to(torch.bfloat16).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def forward(images: Tensor) -> Tensor:
        found: Tensor = model(images.to(torch.bfloat16))
        return found

    return forward


def parity(wanted: Tensor, found: Tensor, side: int) -> Parity:
    """Logits beside the reference's; anything that is no number differs without end."""
    difference = float((wanted - found.to(wanted)).abs().nan_to_num(nan=float("inf")).max())
    return Parity(
        images=len(wanted),
        side=side,
        difference=difference,
        relative=difference / max(float(wanted.abs().max()), 1e-12),
        agreement=float((wanted.argmax(1) == found.argmax(1)).float().mean()),
    )


def in_batches(forward: Forward, images: Tensor, size: int = 16) -> Tensor:
    """The logits of many images, as many at once as memory bears."""
    starts = range(0, len(images), size)
    return torch.cat([forward(images[start : start + size]) for start in starts])


def noise(artifact: Artifact, count: int, side: int | None = None, seed: int = 0) -> Tensor:
    """N x C x H x W of normal numbers, as prepared images are on average."""
    where = side or artifact.profile.resolution
    size = (count, artifact.spec.in_channels, where, where)
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))
