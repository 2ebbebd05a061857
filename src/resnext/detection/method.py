"""How boxes are found: every constant of a detector, under a name, with where it comes from.

The paper states the schedule and that features are not shared between the two steps; image size,
anchors, suppression and the cropping operation it leaves to "the basic Faster R-CNN". What we take
for those is said at each field, and each can be set.
"""

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from resnext.errors import UsageError

_Value = TypeVar("_Value", bound=BaseModel)


class Method(BaseModel):
    """A detector but for its backbone and its classes."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    name: str
    shared: bool
    """One network for proposals and detections; otherwise two, trained one after the other."""
    pyramid: bool = False
    """A feature pyramid over conv2 to conv5; otherwise conv4's map alone (C4)."""
    pyramid_channels: PositiveInt = 256
    masks: bool = False
    """A Mask R-CNN head beside the boxes."""
    frozen_stages: NonNegativeInt = 2
    """What does not learn, from the image on: 1 the stem, 2 conv2 too; normalisation never does."""

    shorter: tuple[PositiveInt, ...]
    """Side to which the shorter one is resized: drawn in training, the last one in testing."""
    longer: PositiveInt
    """At most so large becomes the longer side."""
    flip: Literal["half", "both"]
    """Mirrored with probability one half, or every image once each way in a pass."""
    crowd: Literal["drop", "exclude"]
    """Groups are left out; or proposals that lie in one to 70 % are not taken as background too."""

    anchors: tuple[tuple[PositiveInt, ...], ...]
    """Sides of the square anchors, in pixels of the resized image, by level."""
    ratios: tuple[PositiveFloat, ...] = (0.5, 1.0, 2.0)
    border_anchors: bool
    """Whether anchors that cross the border are trained on."""
    rpn_width: PositiveInt | None = None
    """Channels inside the proposal head; as many as the map has if left out."""
    rpn_anchors: PositiveInt = 256
    """Trained on, of an image."""
    rpn_beta: NonNegativeFloat
    """Where the smooth L1 loss of proposals turns from square to line; 0 is L1."""

    least_side: NonNegativeFloat
    """Of a proposal, in pixels of the original image."""
    proposal_nms: float = Field(default=0.7, gt=0, le=1)
    before: tuple[PositiveInt, PositiveInt]
    """Proposals before suppression, by level, in training and in testing."""
    after: tuple[PositiveInt, PositiveInt]
    """Proposals behind it."""
    proposals: Literal["stored", "online"] = "stored"
    """For two steps: written down between them, or made anew at every step of the second."""

    rois: PositiveInt
    """Trained on, of an image; a quarter at most are objects."""
    box_beta: NonNegativeFloat
    crop: Literal["align", "pool"]
    aligned: bool
    """For ``align``: whether pixels are points half a pixel in; changes the features."""
    crop_side: PositiveInt
    conv5_stride: Literal[1, 2] = 2
    """Of conv5 on crops: 1 with crops of 7 x 7 costs less than 2 with 14 x 14."""
    sampling: NonNegativeInt = 0
    """For ``align``: points along each side of a bin; 0 takes as many as it has pixels."""
    box_hidden: PositiveInt = 1024
    """Of the two layers behind a pyramid's crops."""
    least_score: float = Field(default=0.05, ge=0, lt=1)
    nms: float = Field(gt=0, le=1)
    detections: PositiveInt = 100

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.pyramid and (len(self.anchors) != 5 or self.crop == "pool"):
            raise ValueError("a pyramid takes anchors of five levels, and crop align")
        if not self.pyramid and len(self.anchors) != 1:
            raise ValueError("conv4's map takes anchors of one level")
        if len({len(sides) for sides in self.anchors}) != 1 or not self.anchors[0]:
            raise ValueError("anchors are as many on every level")
        if not self.shared and (self.masks or self.pyramid):
            raise ValueError("two steps have neither pyramid nor masks")
        if not self.shorter or max(self.shorter) > self.longer:
            raise ValueError("shorter sides are at most the longer one")
        if self.frozen_stages > 4:
            raise ValueError("frozen_stages is at most 4")
        return self

    @property
    def anchors_per_place(self) -> int:
        """At each place of a map."""
        return len(self.anchors[0]) * len(self.ratios)

    def with_fields(self, values: Mapping[str, str]) -> Self:
        """The same method with fields set from text, as JSON reads it.

        Raises:
            UsageError: there is no such field, or it takes no such value.
        """
        return set_fields(self, values, fixed=("name", "shared"))


def set_fields(value: _Value, texts: Mapping[str, str], fixed: tuple[str, ...]) -> _Value:
    """A record with fields set from text, as JSON reads it.

    Raises:
        UsageError: there is no such field, or it takes no such value.
    """
    fields = value.model_dump(mode="json")
    for field, text in texts.items():
        if field not in fields or field in fixed:
            known = ", ".join(name for name in fields if name not in fixed)
            raise UsageError(f"expected a field to set out of {known}, found {field!r}")
        fields[field] = _parsed(text)
    try:
        return type(value).model_validate_json(json.dumps(fields))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "values that go together"
        raise UsageError(f"expected {where}: {first['msg']}, found {first['input']!r}") from error


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def paper() -> Method:
    """Section 5.4 and appendix B: two networks that share nothing, on conv4's map.

    Not stated there, taken from the code that it builds on (py-faster-rcnn, its COCO settings):
    600 and 1000 pixels, four anchor sides, anchors across the border ignored, proposals of at least
    16 pixels, 2000 to train on and 300 to test with, suppression at 0.3, smooth L1 from 1. Max
    pooling of 14 x 14 crops in front of conv5 is He et al.'s (CVPR 2016). Deviation: box targets
    are divided by fixed deviations 0.1 and 0.2 in place of empirical ones.
    """
    return Method(
        name="paper",
        shared=False,
        shorter=(600,),
        longer=1000,
        flip="both",
        crowd="exclude",
        anchors=((64, 128, 256, 512),),
        border_anchors=False,
        rpn_width=512,
        rpn_beta=1 / 9,
        least_side=16.0,
        before=(1_000_000, 6000),
        after=(2000, 300),
        rois=64,
        box_beta=1.0,
        crop="pool",
        aligned=False,
        crop_side=14,
        nms=0.3,
    )


def modern() -> Method:
    """One network for both on conv4's map, as Detectron2's R50-C4 settings have it.

    Expect what those settings gave with torchvision's or Detectron2's ResNet-50: 35.7 AP on val2017
    after 90,000 steps of 16 images (not run here).
    """
    return Method(
        name="modern",
        shared=True,
        shorter=(640, 672, 704, 736, 768, 800),
        longer=1333,
        flip="half",
        crowd="drop",
        anchors=((32, 64, 128, 256, 512),),
        border_anchors=True,
        rpn_beta=0.0,
        least_side=1e-3,
        before=(12000, 6000),
        after=(2000, 1000),
        rois=512,
        box_beta=0.0,
        crop="align",
        aligned=True,
        crop_side=14,
        nms=0.5,
    )


def modern_pyramid() -> Method:
    """`modern` on a feature pyramid (Lin et al., CVPR 2017), as Detectron2's R50-FPN settings.

    Expect 37.9 AP of ResNet-50 on val2017 after 90,000 steps of 16 images (not run here).
    """
    return modern().model_copy(
        update={
            "name": "modern-fpn",
            "pyramid": True,
            "anchors": ((32,), (64,), (128,), (256,), (512,)),
            "before": (2000, 1000),
            "after": (1000, 1000),
            "crop_side": 7,
        }
    )


def small() -> Method:
    """A C4 detector for a first look at few pictures on a processor; ours, not the paper's.

    Four real pictures are learned by heart in a minute: see docs/detect.md.
    """
    return modern().model_copy(
        update={
            "name": "small",
            "shorter": (128,),
            "longer": 192,
            "anchors": ((16, 32, 64, 128),),
            "rpn_beta": 1 / 9,
            "box_beta": 1 / 9,
            "before": (300, 300),
            "after": (100, 60),
            "rois": 32,
            "crop_side": 7,
        }
    )


METHODS: MappingProxyType[str, Callable[[], Method]] = MappingProxyType(
    {"paper": paper, "modern": modern, "modern-fpn": modern_pyramid, "small": small}
)


def method(name: str) -> Method:
    """The method of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in METHODS:
        raise UsageError(f"expected a profile out of {', '.join(METHODS)}, found {name!r}")
    return METHODS[name]()
