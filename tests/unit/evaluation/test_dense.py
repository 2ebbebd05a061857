"""The convolutional classifier against a window that slides over the image, one crop at a time."""

import pytest
import torch
from torch import Tensor, nn

from resnext import build
from resnext.errors import UsageError
from resnext.evaluation.dense import Dense, last_map

timm = pytest.importorskip("timm")
models = pytest.importorskip("torchvision.models")

# Sums in another order. Measured: at most 3.8e-6, of logits up to 13 (pre-activation); x 10.
TOLERANCE = 4e-5


class Unpadded(nn.Module):
    """Modules as torchvision's, without padding: what a crop sees does not depend on its border."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, stride=2)
        self.bn1 = nn.BatchNorm2d(8)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(2, 2)
        self.layer1 = nn.Conv2d(8, 8, 1)
        self.layer2 = nn.Conv2d(8, 8, 3, stride=2)
        self.layer3 = self.layer4 = nn.Identity()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.fc(self.avgpool(self.layer2(self.layer1(x))).flatten(1))


def test_every_position_is_the_network_on_the_crop_that_is_there():
    torch.manual_seed(0)
    model = Unpadded().eval()
    side, stride = 31, 8
    images = torch.randn(2, 3, 31 + 3 * stride, 31 + 2 * stride)
    expected = torch.stack([
        torch.stack([
            model(images[:, :, y : y + side, x : x + side])
            for x in range(0, images.shape[3] - side + 1, stride)
        ], dim=-1)
        for y in range(0, images.shape[2] - side + 1, stride)
    ], dim=-2)  # fmt: skip
    assert expected.shape == (2, 5, 4, 3)
    torch.testing.assert_close(Dense(model, side)(images), expected, rtol=0, atol=TOLERANCE)


NETWORKS = {
    "ours": lambda: build("resnext50_32x4d", classes=7, seed=0),
    "ours, split": lambda: build("ResNeXt-50 (4x8d)", classes=7, seed=0, form="split"),
    "pre-activation": lambda: build("preact_resnet50", classes=7, seed=0),
    "torchvision": lambda: models.resnet18(weights=None, num_classes=7),
    "timm": lambda: timm.create_model("resnet26d", num_classes=7),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_at_the_size_of_training_it_is_the_ordinary_head(network):
    torch.manual_seed(0)
    model = NETWORKS[network]().eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        dense, plain = Dense(model, 64)(images), model(images)
    assert dense.shape == (2, 7, 1, 1)
    torch.testing.assert_close(dense[:, :, 0, 0], plain, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("network", NETWORKS)
def test_positions_are_means_of_windows_of_the_last_map(network):
    torch.manual_seed(0)
    model = NETWORKS[network]().eval()
    images = torch.randn(1, 3, 96, 150)
    with torch.inference_mode():
        dense, maps = Dense(model, 64)(images), last_map(model, images)
        assert maps.shape[-2:] == (3, 5)
        assert dense.shape[-2:] == (2, 4)
        for y in range(2):
            for x in range(4):
                window = [maps[:, :, y + j, x + i] for j in range(2) for i in range(2)]
                expected = model.fc(sum(window) / 4)
                torch.testing.assert_close(dense[:, :, y, x], expected, rtol=0, atol=TOLERANCE)


def test_a_cifar_network_averages_the_whole_map_of_32_pixels():
    model = build("resnext29_2x8d", seed=0).eval()
    assert Dense(model, 32).window == 8


def test_networks_that_end_otherwise_are_refused():
    with pytest.raises(
        UsageError, match=r"that ends in an average and a linear .* VGG; take center-R"
    ):
        Dense(models.vgg11(num_classes=3), 224)
    with pytest.raises(UsageError, match="found Inception3"):
        Dense(models.inception_v3(weights=None, init_weights=False, num_classes=3), 299)
    with pytest.raises(UsageError, match="found ResNet"):
        Dense(timm.create_model("resnet18", global_pool="max", num_classes=3), 64)


def test_images_that_are_too_small_are_refused():
    dense = Dense(build("resnet18", classes=3, seed=0), 224)
    with pytest.raises(UsageError, match="last map is at least 7 x 7, found 6 x 8; take a larger"):
        dense(torch.zeros(1, 3, 192, 256))
