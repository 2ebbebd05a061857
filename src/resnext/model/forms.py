"""Residual blocks in the three equivalent forms of Fig. 3.

(a) ``split``: every path apart, summed. (b) ``concat``: paths joined before one wide 1x1.
(c) ``grouped``: wide convolutions, the inner one with C groups. Post-activation blocks compute
relu(shortcut(x) + F(x)); pre-activation blocks shortcut(x) + F(relu(bn(x))).

Names of the grouped form are torchvision's and timm's (conv1, bn1, ..., downsample.0).
All maps are N x C x H x W.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnext.errors import SpecError
from resnext.model.backend import between, fuses
from resnext.spec import Block, Conv

Form = Literal["grouped", "concat", "split"]
FORMS: tuple[Form, ...] = get_args(Form)


def conv2d(conv: Conv) -> nn.Conv2d:
    """The module of one convolution."""
    return nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel,
        stride=conv.stride,
        padding=conv.padding,
        groups=conv.groups,
        bias=False,
    )


class ZeroPadding(nn.Module):
    """Shortcut A: every s-th pixel of x, channels filled up with zeros."""

    def __init__(self, stride: int, channels: int) -> None:
        super().__init__()
        self.stride = stride
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W -> N x (C + channels) x H/s x W/s."""
        sampled = x[:, :, :: self.stride, :: self.stride]
        return F.pad(sampled, (0, 0, 0, 0, 0, self.channels))


def shortcut(block: Block) -> nn.Module | None:
    """The module of the shortcut; None where there is none (Sec. 5.1)."""
    projection = block.projection()
    if projection is not None:
        norms = [nn.BatchNorm2d(block.out_channels)] if block.activation == "post" else []
        return nn.Sequential(conv2d(projection), *norms)
    if block.shortcut == "padding":
        return ZeroPadding(block.stride, block.out_channels - block.in_channels)
    return nn.Identity() if block.shortcut == "identity" else None


def norm_in_front(block: Block) -> nn.BatchNorm2d | None:
    """What pre-activation begins with; None behind the stem, where x is activated already."""
    return None if block.activation == "pre-opening" else nn.BatchNorm2d(block.in_channels)


class PostActivation(nn.Module):
    """y = relu(shortcut(x) + transform(x))."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.downsample = shortcut(block)

    def transform(self, x: Tensor) -> Tensor:
        """F(x), the sum over the paths."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W -> N x C' x H/s x W/s."""
        y = self.transform(x)
        if self.downsample is not None:
            y = y.add_(self.downsample(x))
        return F.relu(y, inplace=True)


class PreActivation(nn.Module):
    """y = shortcut(x) + transform(relu(bn(x))) (He et al., Identity Mappings).

    Where the shape changes the shortcut starts behind the activation; the block behind the stem
    finds x activated already and has no normalisation in front.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.shared = block.activation == "pre-shared"
        self.downsample = shortcut(block)

    def activate(self, x: Tensor) -> Tensor:
        """relu(bn(x)), or x where that has been done."""
        raise NotImplementedError

    def transform(self, x: Tensor) -> Tensor:
        """F of the activated x."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W -> N x C' x H/s x W/s."""
        activated = self.activate(x)
        y = self.transform(activated)
        if self.downsample is not None:
            y = y.add_(self.downsample(activated if self.shared else x))
        return y


class Bottleneck(PostActivation):
    """Form (c) of three convolutions: 1x1, grouped 3x3, 1x1."""

    def __init__(self, block: Block) -> None:
        super().__init__(block)
        reduce, grouped, expand = block.convs()
        self.conv1 = conv2d(reduce)
        self.bn1 = nn.BatchNorm2d(reduce.out_channels)
        self.conv2 = conv2d(grouped)
        self.bn2 = nn.BatchNorm2d(grouped.out_channels)
        self.conv3 = conv2d(expand)
        self.bn3 = nn.BatchNorm2d(expand.out_channels)

    def transform(self, x: Tensor) -> Tensor:
        """F(x)."""
        x = self.conv1(x)
        if fuses(self.conv2, self.bn1, self.bn2, x):
            x = between(self.conv2, self.bn1, self.bn2, x)
        else:
            x = F.relu(self.bn1(x), inplace=True)
            x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        return self.bn3(self.conv3(x))


class Basic(PostActivation):
    """Form (c) of two convolutions: C paths are one dense block of width C·d (Fig. 4)."""

    def __init__(self, block: Block) -> None:
        super().__init__(block)
        first, second = block.convs()
        self.conv1 = conv2d(first)
        self.bn1 = nn.BatchNorm2d(first.out_channels)
        self.conv2 = conv2d(second)
        self.bn2 = nn.BatchNorm2d(second.out_channels)

    def transform(self, x: Tensor) -> Tensor:
        """F(x)."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return self.bn2(self.conv2(x))


class PreGrouped(PreActivation):
    """Form (c) behind normalisation and ReLU."""

    def __init__(self, block: Block) -> None:
        super().__init__(block)
        self.bn1 = norm_in_front(block)

    def activate(self, x: Tensor) -> Tensor:
        """relu(bn1(x))."""
        return x if self.bn1 is None else F.relu(self.bn1(x), inplace=True)


class PreBasic(PreGrouped):
    """`Basic` with normalisation and ReLU in front of each convolution."""

    def __init__(self, block: Block) -> None:
        super().__init__(block)
        first, second = block.convs()
        self.conv1 = conv2d(first)
        self.bn2 = nn.BatchNorm2d(second.in_channels)
        self.conv2 = conv2d(second)

    def transform(self, x: Tensor) -> Tensor:
        """F of the activated x."""
        x = self.conv1(x)
        return self.conv2(F.relu(self.bn2(x), inplace=True))


class PreBottleneck(PreGrouped):
    """`Bottleneck` with normalisation and ReLU in front of each convolution."""

    def __init__(self, block: Block) -> None:
        super().__init__(block)
        reduce, grouped, expand = block.convs()
        self.conv1 = conv2d(reduce)
        self.bn2 = nn.BatchNorm2d(grouped.in_channels)
        self.conv2 = conv2d(grouped)
        self.bn3 = nn.BatchNorm2d(expand.in_channels)
        self.conv3 = conv2d(expand)

    def transform(self, x: Tensor) -> Tensor:
        """F of the activated x."""
        x = self.conv1(x)
        x = self.conv2(F.relu(self.bn2(x), inplace=True))
        return self.conv3(F.relu(self.bn3(x), inplace=True))


class Deep(PostActivation):
    """Form (c) of four or more convolutions, the inner ones grouped."""

    def __init__(self, block: Block) -> None:
        super().__init__(block)
        convs = block.convs()
        self.depth = len(convs)
        for i, conv in enumerate(convs, 1):
            self.add_module(f"conv{i}", conv2d(conv))
            self.add_module(f"bn{i}", nn.BatchNorm2d(conv.out_channels))

    def transform(self, x: Tensor) -> Tensor:
        """F(x)."""
        for i in range(1, self.depth + 1):
            x = self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(x))
            if i < self.depth:
                x = F.relu(x, inplace=True)
        return x


class PreDeep(PreGrouped):
    """`Deep` with normalisation and ReLU in front of each convolution."""

    def __init__(self, block: Block) -> None:
        super().__init__(block)
        convs = block.convs()
        self.depth = len(convs)
        self.conv1 = conv2d(convs[0])
        for i, conv in enumerate(convs[1:], 2):
            self.add_module(f"bn{i}", nn.BatchNorm2d(conv.in_channels))
            self.add_module(f"conv{i}", conv2d(conv))

    def transform(self, x: Tensor) -> Tensor:
        """F of the activated x."""
        x = self.conv1(x)
        for i in range(2, self.depth + 1):
            x = F.relu(self.get_submodule(f"bn{i}")(x), inplace=True)
            x = self.get_submodule(f"conv{i}")(x)
        return x


def path(convs: Sequence[Conv], *, last_norm: bool = False) -> nn.Sequential:
    """One T_i: conv1, norm1, ReLU, conv2, ...; the last convolution bare unless ``last_norm``."""
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    for i, conv in enumerate(convs, 1):
        modules[f"conv{i}"] = conv2d(conv)
        if i < len(convs) or last_norm:
            modules[f"norm{i}"] = nn.BatchNorm2d(conv.out_channels)
        if i < len(convs):
            modules[f"relu{i}"] = nn.ReLU(inplace=True)
    return nn.Sequential(modules)


class Sum(nn.ModuleList):
    """Form (a): the sum over i of T_i(x)."""

    def __init__(self, block: Block) -> None:
        super().__init__(path(convs, last_norm=block.path_norm) for convs in block.path_convs())

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W -> N x C' x H/s x W/s."""
        outputs = [transformation(x) for transformation in self]
        total = outputs[0]
        for output in outputs[1:]:
            total = total + output
        return total


class Concatenation(nn.ModuleList):
    """Form (b) up to its wide convolution: all but the last convolution of each path, joined."""

    def __init__(self, block: Block) -> None:
        super().__init__(_open_path(convs) for convs in block.path_convs())

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W -> N x (cardinality · width) x H/s x W/s."""
        return torch.cat([transformation(x) for transformation in self], dim=1)


def _open_path(convs: Sequence[Conv]) -> nn.Sequential:
    modules = path(convs[:-1], last_norm=True)
    modules.add_module(f"relu{len(convs) - 1}", nn.ReLU(inplace=True))
    return modules


def _aggregate(block: Block, form: Form) -> tuple[nn.Module, nn.Module]:
    """The paths, and what turns their joint output into F(x)."""
    if form == "split":
        return Sum(block), nn.Identity()
    return Concatenation(block), conv2d(block.convs()[-1])


class Aggregated(PostActivation):
    """Forms (a) and (b). The last normalisation follows the aggregation (footnote 6)."""

    def __init__(self, block: Block, form: Form) -> None:
        super().__init__(block)
        self.paths, self.expand = _aggregate(block, form)
        self.norm = nn.Identity() if block.path_norm else nn.BatchNorm2d(block.out_channels)

    def transform(self, x: Tensor) -> Tensor:
        """F(x)."""
        return self.norm(self.expand(self.paths(x)))


class PreAggregated(PreActivation):
    """Forms (a) and (b) with normalisation and ReLU in front, once for all paths."""

    def __init__(self, block: Block, form: Form) -> None:
        super().__init__(block)
        self.norm = norm_in_front(block)
        self.paths, self.expand = _aggregate(block, form)

    def activate(self, x: Tensor) -> Tensor:
        """relu(norm(x))."""
        return x if self.norm is None else F.relu(self.norm(x), inplace=True)

    def transform(self, x: Tensor) -> Tensor:
        """F of the activated x."""
        return self.expand(self.paths(x))


def residual(block: Block, form: Form) -> nn.Module:
    """The module of a block.

    Raises:
        SpecError: the block has no such form.
    """
    post = block.activation == "post"
    if form not in FORMS:
        raise SpecError(f"expected form {', '.join(FORMS)}, found {form!r}")
    if form != "split" and block.path_norm:
        raise SpecError(
            f"expected form 'split', found {form!r}: normalisation inside each path cannot be "
            "moved behind the sum (footnote 6)"
        )
    if form != "grouped":
        return Aggregated(block, form) if post else PreAggregated(block, form)
    depth = len(block.convs())
    if depth == 2:
        return Basic(block) if post else PreBasic(block)
    if depth == 3:
        return Bottleneck(block) if post else PreBottleneck(block)
    return Deep(block) if post else PreDeep(block)
