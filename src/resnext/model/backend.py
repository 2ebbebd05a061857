"""What computes the grouped convolutions: a fact of the machine; the network stays the same."""

import torch
from torch import Tensor, nn

from resnext.errors import SpecError
from resnext.kernels import (
    BACKENDS,
    Backend,
    between_norms,
    fusible,
    grouped_conv2d,
    say_once,
    unsupported_weight,
)


class GroupedConv2d(nn.Conv2d):
    """A grouped k x k, k odd, without bias, that names what computes it; its state is Conv2d's."""

    def __init__(self, conv: nn.Conv2d, backend: Backend) -> None:
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type] # a pair, as torch keeps it
            stride=conv.stride,  # type: ignore[arg-type]
            padding=conv.padding,  # type: ignore[arg-type]
            groups=conv.groups,
            bias=False,
            device="meta",
        )
        self.weight = conv.weight
        self.backend = backend
        why = unsupported_weight(conv.weight, conv.in_channels, conv.stride[0])
        if backend in ("triton", "fused") and why is not None:
            say_once(why)  # a compiled network could not say it later

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W -> N x C' x H/s x W/s."""
        return grouped_conv2d(x, self.weight, self.stride[0], self.backend)

    def extra_repr(self) -> str:
        """As of Conv2d, with the backend."""
        return f"{super().extra_repr()}, backend={self.backend!r}"  # type: ignore[no-untyped-call]


def use_backend(model: nn.Module, backend: Backend) -> None:
    """Have every grouped convolution in `model` computed so, in place; weights stay its own.

    Raises:
        SpecError: there is no such backend.
    """
    if backend not in BACKENDS:
        raise SpecError(f"expected backend {', '.join(BACKENDS)}, found {backend!r}")
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.Conv2d) and child.groups > 1:
                setattr(module, name, GroupedConv2d(child, backend).train(child.training))


def fuses(conv: nn.Module, before: nn.Module, behind: nn.Module, x: Tensor) -> bool:
    """Whether `between` computes this: by the fused backend, in training, over equal parts."""
    if not isinstance(conv, GroupedConv2d) or conv.backend != "fused":
        return False
    parts = [_part(norm, len(x)) for norm in (before, behind)]
    if parts[0] is None or parts[0] != parts[1]:
        return False
    pixels = parts[0] * (x.shape[2] // conv.stride[0]) * (x.shape[3] // conv.stride[0])
    return pixels > 1 and fusible(x, conv.weight, conv.stride[0], parts[0])


def _part(norm: nn.Module, images: int) -> int | None:
    """Images that a norm takes at once; None where it is not a plain one in training."""
    plain = isinstance(norm, nn.BatchNorm2d) and norm.training and norm.affine
    if not plain or not norm.track_running_stats or norm.momentum is None:
        return None
    parts = getattr(norm, "parts", None)  # of one that takes a batch in several
    sizes = [images] if parts is None else parts(images)
    return sizes[0] if len(set(sizes)) == 1 else None


def between(conv: nn.Module, before: nn.Module, behind: nn.Module, x: Tensor) -> Tensor:
    """relu(behind(conv(relu(before(x))))), running statistics included, where it `fuses`."""
    assert isinstance(conv, GroupedConv2d)
    assert isinstance(before, nn.BatchNorm2d)
    assert isinstance(behind, nn.BatchNorm2d)
    part = _part(before, len(x))
    assert part is not None
    z, y, numbers1, variance1, numbers2, variance2 = between_norms(
        x,
        before.weight,
        before.bias,
        conv.weight,
        behind.weight,
        behind.bias,
        conv.stride[0],
        before.eps,
        behind.eps,
        part,
    )
    _track(before, numbers1[2], variance1, part * x.shape[2] * x.shape[3])
    _track(behind, numbers2[2], variance2, part * y.shape[2] * y.shape[3])
    return z


@torch.no_grad()
def _track(norm: nn.BatchNorm2d, means: Tensor, variances: Tensor, pixels: int) -> None:
    """Running statistics move once, by the mean over the parts of a batch."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    momentum = norm.momentum or 0.0
    norm.num_batches_tracked.add_(1)
    variance = variances.mean(0) * (pixels / (pixels - 1))
    norm.running_mean.lerp_(means.mean(0).to(norm.running_mean.dtype), momentum)
    norm.running_var.lerp_(variance.to(norm.running_var.dtype), momentum)
