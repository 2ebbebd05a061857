"""Our evaluation against torchvision's network and transforms in a plain loop, on real pictures."""

import os
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from resnext.evaluation.protocols import Protocol
from resnext.runs import Evaluation, Settings, compare

models = pytest.importorskip("torchvision.models")
transforms = pytest.importorskip("torchvision.transforms.v2")

# The same sums, the images normalised in another order of roundings, other images side by side.
# Measured: 2.4e-6 for the centre, 1.2e-6 for ten crops; ten times that is allowed.
TOLERANCE = 2.4e-5


@pytest.fixture(scope="module")
def pictures() -> Path:
    root = os.environ.get("RESNEXT_DATA")
    if root is None or not (Path(root) / "imagenet-samples").exists():
        pytest.skip("RESNEXT_DATA names no folder with imagenet-samples")
    return Path(root) / "imagenet-samples" / "val"


def some(root: Path, folder: Path, classes: int | None) -> Path:
    """A folder of the first classes."""
    folder.mkdir()
    for name in sorted(root.iterdir())[:classes]:
        (folder / name.name).symlink_to(name)
    return folder


def theirs(model: nn.Module, root: Path, *, ten: bool) -> Tensor:
    """Resize, crop and normalise as torchvision's reference does; N x classes."""
    crop = transforms.TenCrop(224) if ten else transforms.CenterCrop(224)
    resize = transforms.Resize(256, antialias=True)
    floats = [transforms.PILToTensor(), transforms.ToDtype(torch.float32, scale=True)]
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    finish = transforms.Compose([*floats, transforms.Normalize(mean, std)])
    rows = []
    for path in sorted(root.glob("*/*")):
        with Image.open(path) as image:
            views = crop(resize(image.convert("RGB")))
        batch = torch.stack([finish(view) for view in (views if ten else [views])])
        with torch.inference_mode():
            rows.append(model(batch).mean(0))
    return torch.stack(rows)


@pytest.mark.parametrize(("protocol", "count"), [("center-224", None), ("ten-crop-224", 6)])
def test_predictions_are_torchvision_s(
    pictures: Path, tmp_path: Path, protocol: str, count: int | None
) -> None:
    root = some(pictures, tmp_path / "val", count)
    torch.manual_seed(0)
    model: nn.Module = models.resnet18(num_classes=len(list(root.iterdir()))).eval()
    torch.save(model.state_dict(), tmp_path / "w.pth")
    settings = Settings(protocol=Protocol.parse(protocol), engine="pillow", keep=True, workers=0)
    expected = theirs(model, root, ten=protocol.startswith("ten"))
    for name in ("resnet18", "torchvision:resnet18"):
        *_, found = compare([name], root, settings, weights=[tmp_path / "w.pth"], device="cpu")
        assert isinstance(found, Evaluation)
        assert found.scored is not None
        torch.testing.assert_close(found.scored.scores, expected, rtol=0, atol=TOLERANCE)
        assert found.scored.scores.argmax(1).tolist() == expected.argmax(1).tolist()
