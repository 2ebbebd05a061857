"""A specification becomes a module: stem, stages, head, and how its weights begin."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnext.catalog import name
from resnext.catalog import spec as read_spec
from resnext.errors import SpecError
from resnext.kernels import Backend
from resnext.model.backend import use_backend
from resnext.model.convert import state_in_form
from resnext.model.forms import Form, PostActivation, conv2d, residual
from resnext.spec import Spec

Initialization = Literal["reference", "reference-b", "fan-in", "torchvision"]


class ResNeXt(nn.Module):
    """A network of residual blocks; with cardinality 1, a ResNet.

    ``state_dict`` of the grouped form has torchvision's and timm's names and shapes. A network of
    pre-activation blocks ends with one more normalisation, ``norm``.
    """

    def __init__(self, spec: Spec, form: Form = "grouped", backend: Backend = "framework") -> None:
        super().__init__()
        self.spec = spec
        self.form = form
        self.backend = backend
        self.conv1 = _stem(spec)
        width = spec.stem.convs[-1].out_channels
        self.bn1 = nn.BatchNorm2d(width) if spec.stem.norm else nn.Identity()
        self.relu = nn.ReLU(inplace=True) if spec.stem.norm else nn.Identity()
        pool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.maxpool = pool if spec.stem.pool else nn.Identity()
        for number in range(len(spec.stages)):
            blocks = (block for stage, _, block in spec.blocks() if stage == number)
            stage = nn.Sequential(*(residual(block, form) for block in blocks))
            self.add_module(f"layer{number + 1}", stage)
        self.norm = nn.BatchNorm2d(spec.out_channels) if spec.preactivation else nn.Identity()
        self.fc = nn.Linear(spec.out_channels, spec.classes)
        if backend != "framework":
            use_backend(self, backend)

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """Maps of every stage: conv2 to conv5 at strides 4, 8, 16, 32 under the ImageNet stem.

        The last one is what the classifier averages: activated also where blocks are not.
        """
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        maps = {}
        for number in range(1, len(self.spec.stages) + 1):
            x = self.get_submodule(f"layer{number}")(x)
            maps[f"conv{number + 1}"] = x
        maps[f"conv{number + 1}"] = self.activate(x)
        return maps

    def activate(self, x: Tensor) -> Tensor:
        """What follows the last block: nothing, or BN and ReLU of a pre-activation network."""
        return F.relu(self.norm(x), inplace=True) if self.spec.preactivation else x

    def forward(self, x: Tensor) -> Tensor:
        """N x channels x H x W -> N x classes."""
        *_, last = self.features(x).values()
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(last, 1), 1))

    def extra_repr(self) -> str:
        """The name and the form."""
        return f"{name(self.spec)}, form={self.form!r}"


def _stem(spec: Spec) -> nn.Module:
    """One convolution; or several, with normalisation and ReLU between, under timm's names."""
    first, *others = (conv2d(conv) for conv in spec.stem_convs())
    if not others:
        return first
    modules: list[nn.Module] = [first]
    for conv in others:
        modules += [nn.BatchNorm2d(conv.in_channels), nn.ReLU(inplace=True), conv]
    return nn.Sequential(*modules)


def build(
    network: Spec | str,
    *,
    classes: int | None = None,
    in_channels: int | None = None,
    form: Form = "grouped",
    backend: Backend = "framework",
    initialization: Initialization = "reference",
    zero_gamma: bool = False,
    seed: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> ResNeXt:
    """The module of a network, initialised; the same seed gives the same function in every form.

    Args:
        network: a specification or a name in any notation.
        classes: replaces the number of classes.
        in_channels: replaces the number of image channels.
        form: grouped (c), concat (b) or split (a) of Fig. 3.
        backend: what computes grouped convolutions: the ``framework``; our ``triton`` kernels;
            the same with normalisation ``fused`` in training; ``merged`` groups; ``auto``, what
            was measured fastest on a GPU of this kind. The function and its state are the same.
        initialization: ``reference`` draws N(0, sqrt(2 / (k·k·outputs))) for each convolution of
            form (c), groups left out, and no bias in the classifier, as models/resnext.lua of
            facebookresearch/ResNeXt; ``reference-b`` does so for form (b), where 1x1 and 3x3
            start sqrt(C) larger; ``fan-in`` takes He et al.'s 2 / (k·k·inputs); ``torchvision``
            is ``reference`` with a uniform classifier bias.
        zero_gamma: start the last normalisation of each block at 0 (not in the paper).
        seed: of the weights, drawn on the CPU; torch's global generator if left out.
        device: where to; ``meta`` leaves weights without values.
        dtype: of the weights.

    Raises:
        NotationError, SpecError: no such network, or it has no such form.
    """
    spec = read_spec(network, classes=classes, in_channels=in_channels)
    _check(initialization, zero_gamma=zero_gamma, spec=spec)
    if seed is not None and not 0 <= seed < 2**64:
        raise SpecError(f"expected a seed from 0 to 2^64 - 1, found {seed}")
    with torch.device("meta"):
        model = ResNeXt(spec, form, backend)
        drawn_as = _drawn_form(spec, form, initialization)
        drawn = model if drawn_as == form else ResNeXt(spec, drawn_as)
    if device is not None and torch.device(device).type == "meta":
        return model.to(dtype=dtype)
    initialize(drawn.to_empty(device="cpu"), initialization, zero_gamma=zero_gamma, seed=seed)
    if drawn is not model:
        model.to_empty(device="cpu")
        model.load_state_dict(state_in_form(drawn.state_dict(), spec, drawn_as, form))
    return model.to(device=device, dtype=dtype)


def _check(initialization: str, *, zero_gamma: bool, spec: Spec) -> None:
    known = get_args(Initialization)
    if initialization not in known:
        raise SpecError(f"expected initialization {', '.join(known)}, found {initialization!r}")
    if zero_gamma and (spec.preactivation or spec.path_norm):
        raise SpecError(
            "expected a normalisation at the end of every block for zero_gamma, found none in "
            f"{name(spec)}"
        )


def _drawn_form(spec: Spec, form: Form, initialization: Initialization) -> Form:
    """The form whose layers the rule speaks of; others get their weights by conversion."""
    if not spec.homogeneous or spec.path_norm:
        return form
    return "concat" if initialization == "reference-b" else "grouped"


def initialize(
    model: ResNeXt,
    initialization: Initialization = "reference",
    *,
    zero_gamma: bool = False,
    seed: int | None = None,
) -> None:
    """Set all weights, in the order of the modules; see `build`."""
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    std = _fan_in_std if initialization == "fan-in" else _reference_std
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0.0, std(module), generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
    bound = 1 / math.sqrt(model.fc.in_features)
    nn.init.uniform_(model.fc.weight, -bound, bound, generator=generator)
    if initialization == "torchvision":
        nn.init.uniform_(model.fc.bias, -bound, bound, generator=generator)
    else:
        nn.init.zeros_(model.fc.bias)
    if zero_gamma:
        for gamma in _last_gammas(model):
            nn.init.zeros_(gamma)


def _last_gammas(model: ResNeXt) -> list[Tensor]:
    """Scale of the normalisation that ends each block."""
    blocks = (module for module in model.modules() if isinstance(module, PostActivation))
    norms = ([m for m in block.children() if isinstance(m, nn.BatchNorm2d)] for block in blocks)
    return [last.weight for *_, last in norms]


def _reference_std(conv: nn.Conv2d) -> float:
    return math.sqrt(2 / (conv.kernel_size[0] * conv.kernel_size[1] * conv.out_channels))


def _fan_in_std(conv: nn.Conv2d) -> float:
    inputs = conv.in_channels // conv.groups
    return math.sqrt(2 / (conv.kernel_size[0] * conv.kernel_size[1] * inputs))
