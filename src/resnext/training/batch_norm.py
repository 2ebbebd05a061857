"""Batch normalisation over parts of a batch, as the paper had it: 32 images of each of 8 devices.

The parts are cut from the batch in its order, so they are the same images for any number of
processes. Every part counts in the running statistics by its images, as if they had all been
measured at once: a step of parts, of micro-batches and of processes ends with the same statistics.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class GhostBatchNorm2d(nn.BatchNorm2d):
    """Normalises N x C x H x W over each `part` of the N images; the state is BatchNorm2d's.

    (Hoffer et al., arXiv:1705.08741, section 4, name it; the paper's code does it by running one
    replica per device.) In evaluation it is `nn.BatchNorm2d`.
    """

    def __init__(self, norm: nn.BatchNorm2d, part: int) -> None:
        super().__init__(
            norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
        )
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.part = part

    def parts(self, images: int) -> list[int]:
        """How many of so many images each part has."""
        return part_sizes(images, self.part)

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W -> the same."""
        sizes = self.parts(len(x))
        if not self.training or len(sizes) == 1:
            return super().forward(x)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        momenta = shared_momenta(self.momentum or 0.0, sizes)
        return torch.cat(
            [
                self._normalise(part, m)
                for part, m in zip(torch.split(x, sizes), momenta, strict=True)
            ]
        )

    def _normalise(self, x: Tensor, momentum: float) -> Tensor:
        return F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            training=True,
            momentum=momentum,
            eps=self.eps,
        )

    def extra_repr(self) -> str:
        """As of BatchNorm2d, with the size of the parts."""
        return f"{super().extra_repr()}, part={self.part}"  # type: ignore[no-untyped-call]


def use_parts(model: nn.Module, part: int) -> None:
    """Have every `nn.BatchNorm2d` in `model` normalise over parts of so many images, in place."""
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(module, name, GhostBatchNorm2d(child, part).train(child.training))


def part_sizes(images: int, part: int) -> list[int]:
    """How a batch is cut: whole parts, and a rest that joins the last of them if it is small.

    A part of less than half the size would measure with too much noise, and one image may have no
    spread at all.
    """
    whole, rest = divmod(images, part)
    if whole and rest < max(2, (part + 1) // 2):
        return [part] * (whole - 1) + [part + rest]
    return [part] * whole + [rest] * (rest > 0)


def grouped(sizes: Sequence[int], most: int) -> list[int]:
    """The same parts put together to at most so many images, but never cut."""
    groups: list[int] = []
    for size in sizes:
        if groups and groups[-1] + size <= most:
            groups[-1] += size
        else:
            groups.append(size)
    return groups


def micro_batches(images: int, part: int | None, at_once: int | None) -> list[int]:
    """How a process's share goes through the network: whole parts, so many images at once.

    A go may be larger by what joined the last part.
    """
    at_once = at_once or max(1, images)
    return grouped(part_sizes(images, part or at_once), at_once)


def shared_momenta(momentum: float, sizes: Sequence[int]) -> list[float]:
    """The momentum of each of several updates in a row that together are one of their mean.

    With w_j the share of the images, the updates r <- (1 - a_j) r + a_j s_j must end at
    (1 - m) r + m sum(w_j s_j), hence a_j = m w_j / (1 - m (w_{j+1} + ... + w_n)).
    """
    total = sum(sizes)
    shares = [momentum * size / total for size in sizes]
    later = [sum(shares[i + 1 :]) for i in range(len(shares))]
    return [share / (1 - rest) for share, rest in zip(shares, later, strict=True)]


def batch_norms(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """The modules of a network that keep running statistics."""
    return [
        module
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None
    ]
