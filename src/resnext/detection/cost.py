"""What a detector costs, in multiply-adds of one picture: features, proposals, regions.

The cost of conv5 on a crop of 14 x 14 is that of conv5 in an image of 224 x 224.
"""

from dataclasses import dataclass

from resnext.complexity import complexity
from resnext.detection.backbone import STRIDES, check_backbone
from resnext.detection.method import Method
from resnext.detection.schedule import Study
from resnext.spec import Conv, Spec

MULTIPLE = 32
"""Pictures are padded to sides that it divides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionCost:
    """Multiply-adds of testing one picture; masks are not counted.

    Attributes:
        features: of the trunks: two where nothing is shared.
        proposing: of the head that proposes.
        region: of one proposal.
        proposals: how many are looked at.
    """

    features: int
    proposing: int
    region: int
    proposals: int

    @property
    def total(self) -> int:
        """Of a picture."""
        return self.features + self.proposing + self.proposals * self.region


def detection_cost(
    spec: Spec, method: Method, classes: int, size: tuple[int, int] = (600, 800)
) -> DetectionCost:
    """The cost of a picture that has been resized to this height and width.

    Raises:
        SpecError: the network is no backbone for detection.
    """
    check_backbone(spec)
    height, width = (-(-side // MULTIPLE) * MULTIPLE for side in size)
    stages = [s.multiply_adds for s in complexity(spec, (height, width)).stages[:5]]
    maps = [(height // stride, width // stride) for stride in STRIDES]
    if not method.pyramid:
        trunk, channels = sum(stages[:4]), spec.stages[2].out_channels
        return DetectionCost(
            features=trunk * (1 if method.shared else 2),
            proposing=_head(method, channels, [maps[2]]),
            region=_conv5(spec, method) + spec.out_channels * 5 * (classes + 1),
            proposals=method.after[1],
        )
    top = (-(-maps[3][0] // 2), -(-maps[3][1] // 2))
    hidden, channels = method.box_hidden, method.pyramid_channels
    return DetectionCost(
        features=sum(stages) + _joints(spec, channels, maps),
        proposing=_head(method, channels, [*maps, top]),
        region=hidden * (channels * method.crop_side**2 + hidden + 5 * (classes + 1)),
        proposals=method.after[1],
    )


def usual_size(method: Method) -> tuple[int, int]:
    """Height and width of a picture of three to four, as it is tested."""
    height = min(method.shorter[-1], method.longer)
    return height, min(round(height * 4 / 3), method.longer)


def training_cost(
    spec: Spec, study: Study, classes: int, size: tuple[int, int] | None = None
) -> float:
    """Multiply-adds of a whole training: a step is three forward passes (backward is two).

    Raises:
        SpecError: the network is no backbone for detection.
    """
    method = study.method
    cost = detection_cost(spec, method, classes, size or usual_size(method))
    trunk = cost.features if method.shared else cost.features / 2
    regions = method.rois * cost.region
    each = {
        "joint": trunk + cost.proposing + regions,
        "rpn": trunk + cost.proposing,
        "fast": trunk + regions,
    }
    return sum(3 * each[s.phase] * s.images * s.steps for s in study.schedules)


def _head(method: Method, channels: int, maps: list[tuple[int, int]]) -> int:
    """A 3x3 convolution, and 1x1 ones for a logit and four offsets of each anchor."""
    width = method.rpn_width or channels
    each = Conv(in_channels=channels, out_channels=width, kernel=3).parameters
    return (each + width * 5 * method.anchors_per_place) * sum(h * w for h, w in maps)


def _joints(spec: Spec, channels: int, maps: list[tuple[int, int]]) -> int:
    """What joins the levels of a pyramid: a 1x1 and a 3x3 convolution on each."""
    return sum(
        (stage.out_channels * channels + 9 * channels**2) * height * width
        for stage, (height, width) in zip(spec.stages, maps, strict=True)
    )


def _conv5(spec: Spec, method: Method) -> int:
    """Of one crop."""
    last, side, total = len(spec.stages) - 1, method.crop_side, 0
    for block in (block for number, _, block in spec.blocks() if number == last):
        chains = [block.convs()] if block.homogeneous else list(block.path_convs())
        for chain in chains:
            inside = side
            for conv in chain:
                inside = _behind(inside, conv, method)
                total += conv.parameters * inside**2
        side = inside
        projection = block.projection()
        total += projection.parameters * side**2 if projection else 0
    return total


def _behind(side: int, conv: Conv, method: Method) -> int:
    """The map's side behind a convolution of conv5."""
    return -(-side // (method.conv5_stride if conv.stride > 1 else 1))
