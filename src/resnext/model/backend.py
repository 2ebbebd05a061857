"""What computes the grouped convolutions: a fact of the machine; the network stays the same."""

from torch import Tensor, nn

from resnext.errors import SpecError
from resnext.kernels import BACKENDS, Backend, grouped_conv2d, say_once, unsupported_weight


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
        if backend == "triton" and why is not None:
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
