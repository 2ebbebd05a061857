"""The classifier at every position of the last map: fully convolutional testing (Table 5).

A network that ends in a global average over a w x w map and a linear classifier becomes one that
takes images of any size: an average pool of w x w at stride 1, then the classifier as a 1x1
convolution (He et al. 2016, Sec. 3.4; fb.resnet.torch ends in Avg(7, 7, 1, 1)). On images of the
size it was trained at, there is one position, and the score is that of the ordinary head.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnext.errors import UsageError
from resnext.model.network import ResNeXt


class Dense(nn.Module):
    """A network with its classifier turned into a convolution; it shares the weights.

    Args:
        model: ours, or torchvision's or timm's of the ResNet family.
        side: of the images it was trained at, in pixels, which decides the pool.
        channels: of the images.

    Raises:
        UsageError: the network ends in something else.
    """

    def __init__(self, model: nn.Module, side: int, channels: int = 3) -> None:
        super().__init__()
        self.model = model.eval()
        fc = getattr(model, "fc", None)
        averaged = isinstance(model, ResNeXt) or _averages(model)
        if not isinstance(fc, nn.Linear) or not averaged:
            raise UsageError(
                "expected a network that ends in an average and a linear classifier (ours, or a "
                f"ResNet of torchvision or timm), found {type(model).__name__}; take center-R"
            )
        self.fc = fc
        with torch.inference_mode():
            like = fc.weight
            zeros = torch.zeros(1, channels, side, side, dtype=like.dtype, device=like.device)
            self.window: int = last_map(model, zeros).shape[-1]

    def forward(self, images: Tensor) -> Tensor:
        """N x C x H x W -> N x classes x h x w, the scores at every position.

        Raises:
            UsageError: the images are smaller than those it was trained at.
        """
        maps = last_map(self.model, images)
        if min(maps.shape[-2:]) < self.window:
            raise UsageError(
                f"expected images whose last map is at least {self.window} x {self.window}, found "
                f"{maps.shape[-2]} x {maps.shape[-1]}; take a larger scale"
            )
        pooled = F.avg_pool2d(maps, self.window, stride=1)
        return F.conv2d(pooled, self.fc.weight[:, :, None, None], self.fc.bias)


def _averages(model: nn.Module) -> bool:
    """Whether a peer's network has the modules of a ResNet and a plain global average."""
    pooling = getattr(model, "avgpool", getattr(model, "global_pool", None))
    plain = isinstance(pooling, nn.AdaptiveAvgPool2d) or (
        getattr(pooling, "pool_type", None) == "avg"
    )
    return plain and hasattr(model, "layer1") and hasattr(model, "conv1")


def last_map(model: nn.Module, images: Tensor) -> Tensor:
    """N x C x H x W -> the map that the classifier averages, N x width x h x w."""
    if isinstance(model, ResNeXt):
        *_, last = model.features(images).values()
        return last
    timm_features = getattr(model, "forward_features", None)
    if timm_features is not None:
        found: Tensor = timm_features(images)
        return found
    names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
    for name in names:  # torchvision's, whose ResNet.forward goes the same way
        images = model.get_submodule(name)(images)
    return images
