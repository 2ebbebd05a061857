"""How a detector learns: steps, rates and batches, under names, with where they come from."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from resnext.detection.method import Method, method, set_fields
from resnext.errors import UsageError

Phase = Literal["joint", "rpn", "fast"]
"""What learns: all in one; the network of proposals; the network of detections."""


class Schedule(BaseModel):
    """Stochastic gradient descent over a number of steps."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    phase: Phase
    steps: PositiveInt
    images: PositiveInt
    """Of a step, over all processes."""
    at_once: PositiveInt
    """Images that go through the network together: on one GPU in the paper."""
    learning_rate: PositiveFloat
    """For this many images."""
    milestones: tuple[PositiveInt, ...] = ()
    """Steps done when the rate is divided by ten."""
    warmup: NonNegativeInt = 0
    """Steps in which the rate rises in a line."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: NonNegativeFloat = 1e-4
    bias_rate: PositiveFloat = 1.0
    """How many times faster biases learn."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.images % self.at_once:
            raise ValueError("images of a step are whole parts of at_once")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError("milestones are in order")
        return self

    @property
    def parts(self) -> int:
        """Of a step."""
        return self.images // self.at_once

    def rate(self, done: int) -> float:
        """The rate of the step behind `done` others: a pure function."""
        if done < self.warmup:
            return self.learning_rate * (done + 1) / self.warmup
        return self.learning_rate * 0.1 ** sum(done >= m for m in self.milestones)

    def with_steps(self, steps: int) -> Self:
        """Over another number of steps, drops and warm-up moved in proportion."""
        scale = steps / self.steps
        return self.model_copy(
            update={
                "steps": steps,
                "milestones": tuple(sorted({max(1, round(m * scale)) for m in self.milestones})),
                "warmup": min(self.warmup, round(self.warmup * scale))
                if scale < 1
                else self.warmup,
            }
        )

    def with_images(self, images: int) -> Self:
        """With another batch: the rate follows in proportion, and as many images are seen."""
        scale = images / self.images
        moved = self.with_steps(max(1, round(self.steps / scale)))
        return moved.model_copy(
            update={
                "images": images,
                "at_once": min(self.at_once, images),
                "learning_rate": self.learning_rate * scale,
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A method with the schedules of its phases."""

    method: Method
    schedules: tuple[Schedule, ...]


def _paper() -> tuple[Schedule, ...]:
    """Appendix B: 8 GPUs; 2 images each for proposals, 1 for detections; a tenth after 120k steps.

    Biases learn twice as fast, as in the definitions of py-faster-rcnn; the warm-up is ours.
    """
    first = Schedule(
        phase="rpn",
        steps=180_000,
        images=16,
        at_once=2,
        learning_rate=0.02,
        milestones=(120_000,),
        warmup=500,
        bias_rate=2.0,
    )
    second = {"phase": "fast", "images": 8, "at_once": 1, "learning_rate": 0.005}
    return first, first.model_copy(update=second)


def _modern() -> tuple[Schedule, ...]:
    """Detectron2's schedule 1x: 90,000 steps of 16 images."""
    return (
        Schedule(
            phase="joint",
            steps=90_000,
            images=16,
            at_once=2,
            learning_rate=0.02,
            milestones=(60_000, 80_000),
            warmup=1000,
        ),
    )


def _small() -> tuple[Schedule, ...]:
    """Ours: 300 steps of 4 images."""
    return (
        Schedule(
            phase="joint",
            steps=300,
            images=4,
            at_once=4,
            learning_rate=0.03,
            milestones=(200,),
            warmup=50,
        ),
    )


_SCHEDULES = MappingProxyType(
    {"paper": _paper, "modern": _modern, "modern-fpn": _modern, "small": _small}
)


def study(
    name: str,
    *,
    steps: int | None = None,
    images: int | None = None,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Study:
    """Method and schedules of a profile.

    Args:
        name: paper, modern, modern-fpn or small.
        steps: of every phase.
        images: of a step of every phase; the rate follows.
        settings: fields of the method or of all schedules.

    Raises:
        UsageError: there is no such profile, or no such field or value.
    """
    wanted = method(name)
    schedules = _SCHEDULES[name]()
    if images is not None:
        schedules = tuple(s.with_images(_count(images, "images")) for s in schedules)
    if steps is not None:
        schedules = tuple(s.with_steps(_count(steps, "steps")) for s in schedules)
    of_method = {k: v for k, v in settings.items() if k not in Schedule.model_fields}
    of_schedule = {k: v for k, v in settings.items() if k in Schedule.model_fields}
    schedules = tuple(set_fields(s, of_schedule, fixed=("phase",)) for s in schedules)
    return Study(method=wanted.with_fields(of_method), schedules=schedules)


def _count(value: int, what: str) -> int:
    if value < 1:
        raise UsageError(f"expected at least 1 for {what}, found {value}")
    return value
