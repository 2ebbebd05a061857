"""A template network as the trunk of a detector: its stages as they are, under their own names.

conv2 to conv5 have strides 4, 8, 16 and 32. ``C4`` gives conv4's map and leaves conv5 to the head;
``Pyramid`` gives five maps of one width. Names of tensors are those of the network, so weights
of ours, of torchvision and of timm fit without renaming.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

from resnext.catalog import name
from resnext.detection.norm import freeze_norms
from resnext.errors import SpecError
from resnext.model.network import ResNeXt
from resnext.spec import Spec

STRIDES = (4, 8, 16, 32)
STEM = ("conv1", "bn1", "relu", "maxpool")


def check_backbone(spec: Spec) -> None:
    """Refuse a network that has not the four stages that detection is built on.

    Raises:
        SpecError: the message says what is wrong.
    """
    if strides(spec) != STRIDES:
        raise SpecError(
            f"expected a backbone of stages at strides {STRIDES}, found {name(spec)} with "
            f"{strides(spec)}; networks of the ImageNet kind have them"
        )
    if spec.in_channels != 3:
        raise SpecError(f"expected a backbone for RGB images, found {spec.in_channels} channels")


def strides(spec: Spec) -> tuple[int, ...]:
    """Pixels of the image in one step of each stage's map."""
    stride = 2 if spec.stem.pool else 1
    for conv in spec.stem.convs:
        stride *= conv.stride
    found = []
    for stage in spec.stages:
        stride *= stage.stride
        found.append(stride)
    return tuple(found)


class Trunk(nn.Module):
    """Stem and first stages of a network.

    Its modules and their names are the network's; maps leave in float32, whatever autocast makes
    inside: boxes must not be rounded to its precision.
    """

    def __init__(self, network: ResNeXt, stages: int, frozen: int) -> None:
        """Takes modules over from `network`; stem and stages below `frozen` do not learn."""
        super().__init__()
        self._stages = tuple(f"layer{number}" for number in range(1, stages + 1))
        for part in (*STEM, *self._stages):
            self.add_module(part, network.get_submodule(part))
        ends = stages == len(network.spec.stages) and network.spec.preactivation
        self.norm = network.norm if ends else nn.Identity()
        self._activated = ends
        freeze_norms(self)
        for part in (*STEM, *self._stages)[: 4 + frozen - 1] if frozen else ():
            self.get_submodule(part).requires_grad_(requires_grad=False)

    def forward(self, x: Tensor) -> "OrderedDict[str, Tensor]":
        """N x 3 x H x W -> ``c2``, ``c3`` ...: the maps of the stages."""
        for part in STEM:
            x = self.get_submodule(part)(x)
        maps: OrderedDict[str, Tensor] = OrderedDict()
        for number, part in enumerate(self._stages, 2):
            x = self.get_submodule(part)(x)
            maps[f"c{number}"] = x
        if self._activated:
            maps[f"c{number}"] = F.relu(self.norm(x))
        return OrderedDict((level, x.float()) for level, x in maps.items())


class C4(Trunk):
    """conv1 to conv4; one map of stride 16."""

    def __init__(self, network: ResNeXt, frozen: int) -> None:
        super().__init__(network, 3, frozen)
        self.out_channels = network.spec.stages[2].out_channels

    def forward(self, x: Tensor) -> "OrderedDict[str, Tensor]":
        """N x 3 x H x W -> ``c4``."""
        return OrderedDict(c4=super().forward(x)["c4"])


class Pyramid(nn.Module):
    """All stages, joined from top to bottom (Lin et al., CVPR 2017); strides 4 to 64.

    Names of tensors are those of torchvision's ``resnet_fpn_backbone``.
    """

    def __init__(self, network: ResNeXt, frozen: int, channels: int) -> None:
        super().__init__()
        self.body = Trunk(network, 4, frozen)
        widths = [stage.out_channels for stage in network.spec.stages]
        self.fpn = FeaturePyramidNetwork(widths, channels, LastLevelMaxPool())
        self.out_channels = channels

    def forward(self, x: Tensor) -> "OrderedDict[str, Tensor]":
        """N x 3 x H x W -> ``c2`` to ``c5`` and ``pool``, each N x channels x h x w."""
        maps = self.fpn(self.body(x))
        return OrderedDict((level, y.float()) for level, y in maps.items())


class Conv5(nn.Module):
    """conv5 as the head of every crop, and the average over its map."""

    def __init__(self, network: ResNeXt, stride: int = 2) -> None:
        """Takes conv5 over from `network`; its stride may be taken out, which weights allow."""
        super().__init__()
        last = f"layer{len(network.spec.stages)}"
        self.layer4 = network.get_submodule(last)
        self.norm = network.norm
        self._activated = network.spec.preactivation
        self.out_channels = network.spec.out_channels
        for module in self.layer4.modules():
            if isinstance(module, nn.Conv2d) and module.stride != (1, 1):
                module.stride = (stride, stride)
        freeze_norms(self)

    def maps(self, crops: Tensor) -> Tensor:
        """R x 1024 x 14 x 14 -> R x 2048 x 7 x 7."""
        maps = self.layer4(crops)
        return F.relu(self.norm(maps)) if self._activated else maps

    def vectors(self, maps: Tensor) -> Tensor:
        """R x 2048 x 7 x 7 -> R x 2048."""
        return torch.flatten(F.adaptive_avg_pool2d(maps, 1), 1)

    def forward(self, crops: Tensor) -> Tensor:
        """R x 1024 x 14 x 14 -> R x 2048."""
        return self.vectors(self.maps(crops))
