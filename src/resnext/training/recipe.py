"""Recipes: an optimisation under a name, with where it comes from and what it should give.

A recipe is a value. The command line takes its name, and `--set weight_decay=1e-4` for whoever
studies the optimisation itself, who may as well write a function like the ones below.
"""

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from resnext.errors import UsageError

Frozen = Literal["none", "conv1", "conv2", "conv3", "conv4", "conv5"]
"""Stages, in the paper's words (Table 1)."""


class Recipe(BaseModel):
    """Stochastic gradient descent, completely: everything that the order of the images is not."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    name: str
    epochs: PositiveInt
    batch_size: PositiveInt
    """Images of one update, over all processes."""
    bn_batch: PositiveInt | None = None
    """Images that batch normalisation takes its statistics over: cut from the batch in its order,
    whatever the number of processes. Left out: all images that one process has at once."""
    learning_rate: PositiveFloat
    """The peak rate, for this batch size."""
    decay: Literal["steps", "cosine"] = "steps"
    milestones: tuple[float, ...] = ()
    """For `steps`: the epochs, counted from 1, that first run at a tenth of the rate before.
    A fraction is a point inside an epoch: 1.5 is the middle of the first."""
    warmup_epochs: NonNegativeFloat = 0.0
    """The rate first rises in a line from nothing for so long."""
    epoch_steps: PositiveInt | None = None
    """Steps that count as an epoch; left out, an epoch is one pass over the images."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = True
    weight_decay: NonNegativeFloat
    decay_all: bool = True
    """Whether weight decay applies to every parameter, as in the paper's code: the scale and shift
    of normalisation and the head's bias included. Otherwise to matrices and kernels alone."""
    head_rate: PositiveFloat = 1.0
    """How many times faster the classifier learns than the rest."""
    stage_rate: float = Field(default=1.0, gt=0, le=1)
    """How fast a stage learns beside the one behind it: at 0.5 conv4 has half the rate of conv5."""
    frozen: Frozen = "none"
    """Up to which stage nothing learns: weights and normalisation stay as they began."""
    class_weights: Literal["none", "balanced"] = "none"
    """``balanced``: an image's loss counts by how rare its class is, as if all had as many."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    mixup: NonNegativeFloat = 0.0
    """Parameter of the Beta distribution that mixup draws from; 0 is without."""
    cutmix: NonNegativeFloat = 0.0
    """The same for CutMix; with both, each batch takes one of the two."""
    patience: PositiveInt | None = None
    """Epochs without a lower validation error after which training ends."""
    ema: float | None = Field(default=None, gt=0, lt=1)
    """How much of the running mean of the weights stays at an update; that mean is evaluated."""
    leading: PositiveInt | None = None
    """Classes at the front whose images are scored once more, among these alone (Sec. 5.2)."""
    pretrained: bool = False
    """Whether it makes sense only from weights that were trained before."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.decay == "cosine" and self.milestones:
            raise ValueError("a cosine has no milestones")
        if list(self.milestones) != sorted(self.milestones) or min(self.milestones, default=1) < 1:
            raise ValueError("milestones are epochs counted from 1, in order")
        if (self.bn_batch or 1) > self.batch_size:
            raise ValueError("bn_batch is a part of batch_size")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs momentum")
        return self

    def with_epochs(self, epochs: int) -> Self:
        """The same recipe over another number of epochs, everything in it moved in proportion.

        Half the epochs put a drop after half as many: `cifar` in 30 epochs drops at epochs 15.9
        (after 14.9) and 23.4.

        Raises:
            UsageError: `epochs` is not positive.
        """
        if epochs < 1:
            raise UsageError(f"expected at least 1 epoch, found {epochs}")
        scale = epochs / self.epochs
        return self.model_copy(
            update={
                "epochs": epochs,
                "milestones": tuple(1 + (m - 1) * scale for m in self.milestones),
                "warmup_epochs": self.warmup_epochs * scale,
            }
        )

    def with_batch_size(self, images: int) -> Self:
        """The same recipe with another batch: the rate follows by the linear rule.

        The rule is Goyal et al.'s (arXiv:1706.02677, section 2.1). What counts updates follows too:
        the running mean of the weights forgets as many images, `epoch_steps` hold as many.

        Raises:
            UsageError: `images` is not positive.
        """
        if images < 1:
            raise UsageError(f"expected a batch of at least 1 image, found {images}")
        scale = images / self.batch_size
        return self.model_copy(
            update={
                "batch_size": images,
                "bn_batch": self.bn_batch and min(self.bn_batch, images),
                "learning_rate": self.learning_rate * scale,
                "ema": self.ema and self.ema**scale,
                "epoch_steps": self.epoch_steps and max(1, round(self.epoch_steps / scale)),
            }
        )

    def with_fields(self, values: Mapping[str, str]) -> Self:
        """The same recipe with fields set from text, as JSON reads it.

        Raises:
            UsageError: there is no such field, or it takes no such value.
        """
        fields = self.model_dump(mode="json")
        for field, text in values.items():
            if field not in fields or field == "name":
                settable = [known for known in fields if known != "name"]
                raise UsageError(
                    f"expected a field of a recipe to set, found {field!r}"
                    f"{_near(field, settable)}; there are {', '.join(settable)}"
                )
            fields[field] = _value(text)
        try:
            return type(self).model_validate_json(json.dumps(fields))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = str(first["loc"][0]) if first["loc"] else ", ".join(values)
            raise UsageError(
                f"expected another value of {field}, found {values.get(field, 'these')}: "
                f"{first['msg'].removeprefix('Value error, ').replace('Input should', 'it should')}"
            ) from error


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def cifar() -> Recipe:
    """CIFAR as section 5.3 of the paper says: 300 epochs, a tenth of the rate at 150 and at 225.

    Batch 128, normalised over the 16 images of each of 8 devices, Nesterov momentum 0.9, weight
    decay 5e-4 (the paper's code must be told so; its own default is 1e-4). Cost: 117,300 steps on
    50,000 images. Expect 3.65 % error on CIFAR-10 and 17.77 % on CIFAR-100 for ResNeXt-29 (8x64d),
    the mean of 10 runs (Table 7).
    """
    return Recipe(
        name="cifar",
        epochs=300,
        batch_size=128,
        bn_batch=16,
        learning_rate=0.1,
        milestones=(150, 225),
        weight_decay=5e-4,
    )


def cifar_code() -> Recipe:
    """`cifar` with the drops where the published code has them: epochs 148 and 223.

    `train.lua` compares epoch / 300 with 0.49 and 0.74. Cost and expected result as for `cifar`.
    """
    return cifar().model_copy(update={"name": "cifar-code", "milestones": (148.0, 223.0)})


def imagenet_100() -> Recipe:
    """ImageNet as in section 4 and `train.lua`: 100 epochs, a tenth of the rate every 30.

    Batch 256, normalised over the 32 images of each of 8 devices, Nesterov momentum 0.9, weight
    decay 1e-4 on everything; the rate is 0.1 x 0.1^floor((epoch - 1) / 30) with
    epochs counted from 1. Cost: 5,005 steps an epoch. Expect 22.2 % top-1 error for ResNeXt-50
    (32x4d) from a single 224 crop (Table 3).
    """
    return Recipe(
        name="imagenet-100",
        epochs=100,
        batch_size=256,
        bn_batch=32,
        learning_rate=0.1,
        milestones=(31, 61, 91),
        weight_decay=1e-4,
    )


def imagenet_5k() -> Recipe:
    """ImageNet-5K as in section 5.2: as many mini-batches as `imagenet-100`, so 18.8 passes.

    An epoch is counted as 5,005 steps, those of one pass over ImageNet-1K, so the rate drops after
    30, 60 and 90 of them: steps 150,150, 300,300 and 450,450. Cost: 500,500 steps of 256 images.
    Expect of ResNeXt-50 (32x4d), on the ImageNet-1K validation images, 42.3 % top-1 error among
    5,000 classes and 24.4 % among the first 1,000 (Table 6).
    """
    return imagenet_100().model_copy(
        update={"name": "imagenet-5k", "epoch_steps": 5005, "leading": 1000}
    )


def modern() -> Recipe:
    """What is usual in 2026 for a network of this family, without changing the images' profile.

    One cosine after a warm-up, label smoothing, mixup or CutMix, a running mean of the weights and
    no decay of normalisation and biases: the constants of torchvision's second ImageNet recipe
    (references/classification), at 100 epochs instead of 600, without its TrivialAugment, random
    erasing and repeated augmentation, and with a running mean of some 5,000 updates. Cost: 1,252
    steps an epoch of ImageNet-1K. No expected result: we have not run it on ImageNet; torchvision
    reports 18.8 % top-1 error for ResNeXt-50 (32x4d) with all of its recipe.
    """
    return Recipe(
        name="modern",
        epochs=100,
        batch_size=1024,
        bn_batch=128,
        learning_rate=0.5,
        decay="cosine",
        warmup_epochs=5,
        weight_decay=2e-5,
        nesterov=False,
        decay_all=False,
        label_smoothing=0.1,
        mixup=0.2,
        cutmix=1.0,
        ema=0.9998,
    )


def finetune() -> Recipe:
    """Trained weights on other images, with a new classifier; ours, not the paper's.

    One cosine at a tenth of the usual rate, ten times that for the new classifier
    (`-resetClassifier` of fb.resnet.torch has one rate for all). Batch and epochs follow from the
    number of images: see `finetune_for`. No expected result: it depends on the images. For few
    images try `--set frozen=conv4` or `--set stage_rate=0.5`, for classes of unequal size
    `--set class_weights=balanced`, and `--set patience=5` to end early.
    """
    return Recipe(
        name="finetune",
        epochs=30,
        batch_size=32,
        bn_batch=16,
        learning_rate=0.005,
        decay="cosine",
        warmup_epochs=1,
        weight_decay=1e-4,
        head_rate=10.0,
        pretrained=True,
    )


def finetune_for(images: int) -> Recipe:
    """`finetune` for so many images: some 3,000 updates, but 10 to 100 epochs.

    50 images are seen 100 times in batches of 16, 5,000 images 20 times in batches of 32, a
    million 10 times in batches of 256.
    """
    batch = next((size for most, size in _FINETUNE_BATCHES if images < most), 256)
    epochs = min(100, max(10, -(-_FINETUNE_UPDATES * batch // max(1, images))))
    return finetune().with_batch_size(batch).with_epochs(epochs)


_FINETUNE_UPDATES = 3000
_FINETUNE_BATCHES = ((1000, 16), (50_000, 32), (250_000, 64))
"""Up to how many images a batch has so many."""


def digits() -> Recipe:
    """Handwritten digits in well under a minute on two processor cores; ours, not the paper's.

    Small batches, one cosine after a short warm-up. Cost: 33 s of one core with ResNeXt-11 (4x8d,
    CIFAR). Expect 1.0 % error on the held-out quarter after the last epoch (6 seeds: 0.2 to 1.8 %).
    """
    return Recipe(
        name="digits",
        epochs=12,
        batch_size=16,
        bn_batch=8,
        learning_rate=0.015,
        decay="cosine",
        warmup_epochs=2,
        weight_decay=1e-3,
    )


def small() -> Recipe:
    """A first result on a folder of one's own images, on a laptop; ours, not the paper's.

    Thirty epochs of one cosine with a warm-up and small batches, which forgives a rate that is
    wrong for the data. No expected result: it depends on the images.
    """
    return Recipe(
        name="small",
        epochs=30,
        batch_size=32,
        bn_batch=16,
        learning_rate=0.05,
        decay="cosine",
        warmup_epochs=3,
        weight_decay=5e-4,
    )


RECIPES: MappingProxyType[str, Callable[[], Recipe]] = MappingProxyType(
    {
        "digits": digits,
        "small": small,
        "cifar": cifar,
        "cifar-code": cifar_code,
        "imagenet-100": imagenet_100,
        "imagenet-5k": imagenet_5k,
        "modern": modern,
        "finetune": finetune,
    }
)


def recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in RECIPES:
        raise UsageError(
            f"expected a recipe out of {', '.join(RECIPES)}, found {name!r}{_near(name, RECIPES)}"
        )
    return RECIPES[name]()


def about(name: str) -> str:
    """Where a recipe comes from, what it costs and what it should give, in words."""
    return inspect.cleandoc(RECIPES[name].__doc__ or "")


def _near(word: str, known: Iterable[str]) -> str:
    near = get_close_matches(word, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
