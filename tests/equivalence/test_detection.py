"""Our detectors beside torchvision's with the same weights: equal losses, equal detections."""

import pytest
import torch
from torch import nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign

from resnext import build
from resnext.detection.method import method
from resnext.detection.networks import Pixels, assemble
from unit.detection.conftest import PIXELS, TINY, pictures, target, tiny_method

TORCHVISION = {"rpn_beta": 1 / 9, "box_beta": 1 / 9, "aligned": False}
"""The constants that torchvision's builders have inside."""


def spread(model, seed=0):
    """Weights of sizes at which scores, boxes and statistics all matter."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2, generator=generator)
        elif name.endswith(("running_mean", "bias")):
            tensor.normal_(0, 0.1, generator=generator)
        elif "cls_score.weight" in name or "cls_logits.weight" in name:
            tensor.normal_(0, 0.3, generator=generator)
        elif "bbox_pred.weight" in name:
            tensor.normal_(0, 0.02, generator=generator)
    return model


def losses(model, images, targets):
    model.train()
    torch.manual_seed(3)
    return model(images, targets)


def require_equal_detections(ours, theirs, images):
    with torch.no_grad():
        mine, other = ours.eval()(images), theirs.eval()(images)
    for a, b in zip(mine, other, strict=True):
        assert len(a["boxes"]) > 5
        assert a.keys() == b.keys()
        for key in a:
            assert torch.equal(a[key], b[key]), key


def require_equal_losses(ours, theirs, images, targets):
    mine, other = losses(ours, images, targets), losses(theirs, images, targets)
    assert mine.keys() == other.keys()
    for name, loss in mine.items():
        assert torch.equal(loss, other[name]), name
        assert loss > 0
    ours.zero_grad(), theirs.zero_grad()
    sum(mine.values()).backward()
    sum(other.values()).backward()
    theirs_of = dict(theirs.named_parameters())
    for name, p in ours.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(p.grad, theirs_of[name].grad, rtol=1e-4, atol=1e-6)


def tasks(*, masks=False):
    images = pictures((100, 150), (96, 144))
    targets = [
        target((2, 10, 10, 90, 80), (5, 60, 20, 140, 95)),
        target((1, 5, 30, 60, 90), (3, 1, 2, 12, 14)),
    ]
    if masks:
        for image, one in zip(images, targets, strict=True):
            one["masks"] = torch.zeros((2, *image.shape[1:]), dtype=torch.uint8)
            for mask, box in zip(one["masks"], one["boxes"].int(), strict=True):
                left, top, right, bottom = box.tolist()
                mask[top:bottom, left:right] = 1
    return images, targets


def test_joint_c4_is_torchvisions_faster_rcnn():
    wanted = tiny_method("small", rois=32, **TORCHVISION)
    ours = assemble([build(TINY, seed=0)], wanted, PIXELS, 5)
    other = assemble([build(TINY, seed=1)], wanted, PIXELS, 5)
    theirs = FasterRCNN(
        other.backbone,
        None,
        min_size=128,
        max_size=192,
        image_mean=list(PIXELS.mean),
        image_std=list(PIXELS.std),
        rpn_anchor_generator=AnchorGenerator(wanted.anchors, (wanted.ratios,)),
        rpn_head=other.rpn.head,
        rpn_pre_nms_top_n_train=300,
        rpn_pre_nms_top_n_test=300,
        rpn_post_nms_top_n_train=60,
        rpn_post_nms_top_n_test=40,
        box_roi_pool=MultiScaleRoIAlign(["c4"], 7, 0),
        box_head=other.roi_heads.box_head,
        box_predictor=other.roi_heads.box_predictor,
        box_batch_size_per_image=32,
    )
    theirs.load_state_dict(spread(ours).state_dict(), strict=True)
    images, targets = tasks()
    require_equal_losses(ours, theirs, images, targets)
    require_equal_detections(ours, theirs, images)


@pytest.mark.parametrize(
    ("network", "peer", "masks"),
    [
        ("ResNet-18", "resnet18", True),
        pytest.param("ResNeXt-50 (32x4d)", "resnext50_32x4d", False, marks=pytest.mark.slow),
    ],
)
def test_pyramid_is_what_torchvision_builds(network, peer, masks):
    backbone = resnet_fpn_backbone(
        backbone_name=peer, weights=None, norm_layer=FrozenBatchNorm2d, trainable_layers=3
    )
    kind = MaskRCNN if masks else FasterRCNN
    theirs = spread(kind(backbone, 6, min_size=128, max_size=192))
    wanted = method("modern-fpn").model_copy(
        update={
            "shorter": (128,),
            "longer": 192,
            "masks": masks,
            "before": (2000, 1000),
            "after": (2000, 1000),
            **TORCHVISION,
            "sampling": 2,
        }
    )
    ours = assemble([build(network, device="meta").to_empty(device="cpu")], wanted, PIXELS, 5)
    # names are torchvision's: nothing is renamed
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images, targets = tasks(masks=masks)
    require_equal_losses(ours, theirs, images, targets)
    require_equal_detections(ours, theirs, images)
    frozen = {name for name, p in ours.named_parameters() if not p.requires_grad}
    assert frozen == {name for name, p in theirs.named_parameters() if not p.requires_grad}


@pytest.mark.parametrize("peer", ["fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn"])
def test_weights_of_torchvisions_builders_load_under_their_names(peer):
    from torchvision.models import get_model

    with torch.device("meta"):
        theirs = get_model(peer, weights=None, weights_backbone=None, num_classes=6)
    wanted = method("modern-fpn").model_copy(update={"masks": peer.startswith("mask")})
    ours = assemble([build("ResNet-50", device="meta").to_empty(device="cpu")], wanted, PIXELS, 5)
    state = {
        name: torch.empty(tensor.shape)
        for name, tensor in theirs.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    assert {name: t.shape for name, t in ours.state_dict().items()} == {
        name: t.shape for name, t in state.items()
    }


def test_two_steps_with_the_same_weights_are_the_joint_network():
    changes = {"crop_side": 7, "anchors": ((16, 32, 64, 128),), "frozen_stages": 0}
    two = tiny_method("paper", **changes)
    one = two.model_copy(update={"name": "one", "shared": True})
    joint = spread(assemble([build(TINY, seed=0)], one, PIXELS, 5))
    steps = assemble([build(TINY, seed=1), build(TINY, seed=2)], two, PIXELS, 5)
    state = joint.state_dict()
    for part in (steps.proposing, steps.classifying):
        part.load_state_dict({name: state[name] for name in part.state_dict()}, strict=True)
    images, _ = tasks()
    require_equal_detections(joint, steps, images)
    # and where proposals were written down in pixels of the original between the steps
    with torch.no_grad():
        kept = [boxes for boxes, _ in steps.eval().proposing.proposals(images)]
        again = steps.classifying(images, None, kept)
    for a, b in zip(again, joint.eval()(images), strict=True):
        # measured: 3.1e-5 pixels of 150
        torch.testing.assert_close(a["boxes"], b["boxes"], rtol=0, atol=3e-4)
        assert torch.equal(a["labels"], b["labels"])


def test_frozen_norm_is_torchvisions_with_the_trained_eps():
    from resnext.detection.norm import FrozenNorm

    norm = nn.BatchNorm2d(8, eps=0.1)
    spread(norm).weight.data.uniform_(0.5, 2)
    x = torch.randn(2, 8, 5, 5)
    theirs = FrozenBatchNorm2d(8, eps=0.1)
    theirs.load_state_dict(norm.state_dict())
    assert torch.equal(FrozenNorm.of(norm)(x), theirs(x))
    # measured: 4.8e-7
    torch.testing.assert_close(FrozenNorm.of(norm)(x), norm.eval()(x), rtol=0, atol=5e-6)


def test_pixels_of_the_backbone_are_used():
    joint = assemble([build(TINY, seed=0)], tiny_method("small"), Pixels((0.1,) * 3, (2.0,) * 3), 5)
    batch, _ = joint.prepared([torch.full((3, 128, 128), 0.5)], None)
    torch.testing.assert_close(batch.tensors, torch.full((1, 3, 128, 128), 0.2))
