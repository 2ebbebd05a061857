"""What runs a network: the same logits from several libraries, by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from resnext.deploy.artifact import Artifact
from resnext.deploy.folding import folded
from resnext.errors import UsageError

EngineName = Literal["torch"]
NAMES: tuple[EngineName, ...] = get_args(EngineName)


class Engine(Protocol):
    """A network that is ready to run, in one process, by one thread of it at a time."""

    @property
    def name(self) -> str:
        """Which library."""
        ...

    @property
    def precision(self) -> str:
        """fp32, bf16 or int8: of the arithmetic; images and logits are float32."""
        ...

    def __call__(self, images: Tensor) -> Tensor:
        """N x C x H x W float32 on the CPU -> N x classes float32; any N and size."""
        ...


@dataclass(frozen=True, slots=True)
class Running:
    """A function with its names."""

    name: str
    precision: str
    forward: Callable[[Tensor], Tensor]

    def __call__(self, images: Tensor) -> Tensor:
        """See `Engine`."""
        return self.forward(images)


def open_engine(artifact: Artifact, name: str = "auto", precision: str = "fp32") -> Engine:
    """The network of an artifact, ready to run.

    Args:
        artifact: the network with its weights.
        name: ``torch``; ``auto`` takes the fastest that is at hand.
        precision: of the arithmetic.

    Raises:
        UsageError: there is no such engine.
    """
    if name not in ("auto", *NAMES):
        raise UsageError(f"expected an engine out of auto, {', '.join(NAMES)}, found {name!r}")
    if precision != "fp32":
        raise UsageError(f"expected precision fp32, found {precision!r}")
    return _torch(artifact)


def _torch(artifact: Artifact) -> Engine:
    """Eager, with normalisation folded and channels last."""
    model = folded(artifact.model()).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def forward(images: Tensor) -> Tensor:
        found: Tensor = model(images.to(memory_format=torch.channels_last))
        return found

    return Running("torch", "fp32", forward)
