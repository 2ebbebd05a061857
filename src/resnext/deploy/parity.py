"""Whether an engine computes the network: its logits beside those of torch in float32.

The difference is measured in units of the largest logit. What other libraries may differ by is
derived from what they do differ by: ten times the largest difference that was measured over
networks, batches and sizes, see TOLERANCE.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from resnext.deploy.artifact import Artifact

TOLERANCE = {"fp32": 1.9e-5, "bf16": 0.12}
"""Ten times what was measured at most of six networks (ResNeXt-11 2x4d, -29 8x64d and -50 32x4d,
ResNet-18, also with shortcut A, pre-activation ResNet-50) at batches of 1, 2, 3 and 7 and two
sizes: 1.9e-6 in fp32 (OpenVINO, pre-activation), 1.2e-2 in bf16 (compiled ResNeXt-11)."""

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


def reference(artifact: Artifact) -> Forward:
    """The network as torch computes it in float32, nothing folded."""
    model = artifact.model()

    @torch.inference_mode()
    def forward(images: Tensor) -> Tensor:
        found: Tensor = model(images)
        return found

    return forward


def parity(wanted: Tensor, found: Tensor, side: int) -> Parity:
    """Logits beside the reference's; anything that is no number differs without end."""
    difference = float((wanted - found).abs().nan_to_num(nan=float("inf")).max())
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
