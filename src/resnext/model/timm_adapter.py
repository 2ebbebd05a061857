"""Our networks in timm: after `register_with_timm()`, ``timm.create_model("paper_resnet50")``.

A name is ``paper_`` and the identifier of the network; no name of timm's begins so. The keys of
``state_dict`` are those of the grouped form, hence timm's own. timm is imported on use only.
"""

import math
from collections.abc import Callable, Iterable
from functools import partial
from itertools import accumulate
from operator import mul
from typing import Any

import torch
from torch import Tensor, nn

from resnext.catalog import CATALOG, identifier
from resnext.catalog import spec as read_spec
from resnext.errors import UsageError
from resnext.model.network import build
from resnext.spec import Spec

PREFIX = "paper_"
_CATALOG = tuple(entry.identifier for entry in CATALOG)

# By this name timm's register_model looks for facts, in the module of an entry point.
default_cfgs: dict[str, dict[str, Any]] = {}


def register_with_timm(networks: Iterable[str] = _CATALOG) -> tuple[str, ...]:
    """Make networks known to timm; one that is known already stays as it is.

    Args:
        networks: names in any notation; the whole catalogue if left out.

    Returns:
        Their names for ``timm.create_model``, in the same order.

    Raises:
        NotationError, SpecError: no such network.
        UsageError: timm is not installed.
    """
    try:
        from timm.models import register_model
    except ImportError as error:
        raise UsageError(f"expected timm to be installed, found: {error}") from error
    specs = {PREFIX + identifier(spec): spec for spec in map(read_spec, networks)}
    for name, spec in specs.items():
        if name not in default_cfgs:
            default_cfgs[name] = _default_cfg(spec)
            register_model(_entry_point(name, spec))
    return tuple(specs)


def _entry_point(name: str, spec: Spec) -> Callable[..., nn.Module]:
    def create(*, pretrained: bool = False, **options: Any) -> nn.Module:
        from timm.models import build_model_with_cfg

        maps = tuple(range(len(_feature_info(spec))))
        return build_model_with_cfg(
            partial(TimmResNeXt, spec),
            name,
            pretrained,
            feature_cfg={"out_indices": maps},
            **options,
        )

    create.__name__ = name
    return create


def _default_cfg(spec: Spec) -> dict[str, Any]:
    """What timm asks about a network without building it. Small images are not cropped."""
    side = spec.resolution
    last = side // _feature_info(spec)[-1]["reduction"]
    return {
        "num_classes": spec.classes,
        "input_size": (spec.in_channels, side, side),
        "pool_size": (last, last),
        "crop_pct": 0.875 if spec.stem.pool else 1.0,
        "interpolation": "bilinear",
        "first_conv": "conv1",
        "classifier": "fc",
    }


def _feature_info(spec: Spec) -> list[dict[str, Any]]:
    """Channels and stride of the map of the stem and of each stage, and the module it comes from.

    The last one is behind the activation that follows pre-activation blocks.
    """
    channels = [spec.stem.convs[-1].out_channels, *(stage.out_channels for stage in spec.stages)]
    modules = ["relu", *(f"layer{i}" for i in range(1, len(spec.stages))), "act"]
    strides = [math.prod(conv.stride for conv in spec.stem.convs)]
    strides += [stage.stride for stage in spec.stages]
    strides[1] *= 2 if spec.stem.pool else 1
    return [
        {"num_chs": width, "reduction": stride, "module": module}
        for width, stride, module in zip(channels, accumulate(strides, mul), modules, strict=True)
    ]


def _pooling(kind: str) -> Any:
    """N x C x H x W -> N x C, or 2C for timm's "catavgmax"; the map itself for ""."""
    from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d

    return SelectAdaptivePool2d(pool_type=kind, flatten=bool(kind))


class TimmResNeXt(nn.Module):
    """The modules of a `ResNeXt` of three or four stages, with timm's head and timm's methods.

    Args:
        spec: the network; its numbers of classes and channels give way to the next two.
        num_classes: 0 leaves the classifier out.
        in_chans: channels of the images.
        global_pool: any kind of timm's; with ``""`` and no classes, the output is a map.
        drop_rate: of the dropout in front of the classifier (not in the paper).
        device: torch's default device if left out.
        dtype: of the weights.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        device = torch.get_default_device() if device is None else device
        network = build(spec, in_channels=in_chans, device=device, dtype=dtype)
        self.in_chans = in_chans
        self.feature_info = _feature_info(spec)
        self.num_features = spec.out_channels
        self.conv1 = network.conv1
        self.bn1 = network.bn1
        self.relu = network.relu
        self.maxpool = network.maxpool
        self.layer1 = network.get_submodule("layer1")
        self.layer2 = network.get_submodule("layer2")
        self.layer3 = network.get_submodule("layer3")
        small = len(spec.stages) == 3
        self.layer4 = nn.Sequential() if small else network.get_submodule("layer4")
        self.norm = network.norm
        self.act = nn.ReLU(inplace=True) if spec.preactivation else nn.Identity()
        self.drop = nn.Dropout(drop_rate)
        self.reset_classifier(num_classes, global_pool)

    def get_classifier(self) -> nn.Module:
        """The layer from features to classes."""
        return self.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new classifier beside the other weights: of their device and dtype, in their mode.

        Args:
            num_classes: 0 leaves it out.
            global_pool: as it is, if None.
        """
        kind = self.global_pool.pool_type if global_pool is None else global_pool
        self.global_pool: Any = _pooling(kind)
        self.num_classes = num_classes
        self.head_hidden_size = self.num_features * self.global_pool.feat_mult()
        self.fc = self._classifier() if num_classes else nn.Identity()
        self.fc.train(self.training)
        self.global_pool.train(self.training)

    def _classifier(self) -> nn.Linear:
        like = next(self.parameters())
        fc = nn.Linear(
            self.head_hidden_size, self.num_classes, device=like.device, dtype=like.dtype
        )
        nn.init.zeros_(fc.bias)  # as `build` begins
        return fc

    def forward_features(self, x: Tensor) -> Tensor:
        """N x channels x H x W -> the last map, activated."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer1(x)
        x = self.layer2(x)
        x = self.layer3(x)
        x = self.layer4(x)
        return self.act(self.norm(x))

    # TorchScript compiles no optional keyword that cannot be given by position.
    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:  # noqa: FBT001, FBT002
        """The last map -> N x classes; or what the classifier would see."""
        x = self.drop(self.global_pool(x))
        return x if pre_logits else self.fc(x)

    def forward(self, x: Tensor) -> Tensor:
        """N x channels x H x W -> N x classes."""
        return self.forward_head(self.forward_features(x))
