"""How many times and at which size a network looks at an image: protocols with names.

A profile says how an image becomes pixels; a protocol chooses its sizes and the views. A score
carries both names, and two scores compare only where both are equal.
"""

import re
from dataclasses import dataclass, replace
from typing import Literal, Self

from resnext.data.photos import Photo
from resnext.data.profiles import Profile, photo_profile
from resnext.errors import UsageError

Kind = Literal["single", "center", "ten-crop", "dense"]
Average = Literal["logits", "probabilities"]

SINGLE_VIEW = "single view"
"""Each image is seen once, as its profile prepares it."""

MULTISCALE = (224, 256, 384, 480, 640)
"""The shorter sides of He et al. (2016), Sec. 3.4, which Table 5 is tested at."""

_SIZED = re.compile(r"(center|ten-crop)-([1-9][0-9]{1,3})(?:@([1-9][0-9]{1,3}))?")
_DENSE = re.compile(r"dense-(multiscale|[1-9][0-9]{1,3}(?:\+[1-9][0-9]{1,3})*)")
_OPTIONS = ("convolutional", "flip", "no-flip", "probabilities")
_GRAMMAR = (
    "a protocol: 'single view', center-R, center-R@E, ten-crop-R, dense-S, dense-S+S or "
    f"dense-multiscale, perhaps with {', '.join(f',{option}' for option in _OPTIONS)}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """The views of an image and how their scores become one.

    Attributes:
        kind: ``single``: the image as the profile prepares it. ``center``: its centre, `side` x
            `side`. ``ten-crop``: the four corners and the centre, and those of the mirrored image,
            as in fb.resnet.torch. ``dense``: all of it, at every position of the classifier.
        side: of a crop, in pixels.
        shorter: shorter sides that images are resized to before; empty leaves them to the profile.
        flips: whether the mirrored image is seen too; ten crops hold it already.
        convolutional: whether the classifier is applied at every position of a crop (``dense``
            always does), instead of to the mean of the whole map.
        average: what is averaged over views: logits, as in fb.resnet.torch, or probabilities.
    """

    kind: Kind = "single"
    side: int | None = None
    shorter: tuple[int, ...] = ()
    flips: bool = False
    convolutional: bool = False
    average: Average = "logits"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` gives.

        Raises:
            UsageError: it is no protocol; the message lists them.
        """
        head, *options = text.split(",")
        found = cls._head(head)
        for option in options:
            if option not in _OPTIONS or found is None:
                found = None
                break
            found = found._with(option)
        twice = len(set(options)) < len(options)
        if found is None or twice or len(set(found.shorter)) < len(found.shorter):
            raise UsageError(f"expected {_GRAMMAR}; found {text!r}")
        return found

    @classmethod
    def _head(cls, head: str) -> Self | None:
        if head == SINGLE_VIEW:
            return cls()
        if sized := _SIZED.fullmatch(head):
            kind: Kind = "center" if sized[1] == "center" else "ten-crop"
            return cls(kind=kind, side=int(sized[2]), shorter=(int(sized[3]),) if sized[3] else ())
        if dense := _DENSE.fullmatch(head):
            many = dense[1] == "multiscale"
            scales = MULTISCALE if many else tuple(int(side) for side in dense[1].split("+"))
            return cls(kind="dense", shorter=scales, flips=True, convolutional=True)
        return None

    def _with(self, option: str) -> Self | None:
        """With an option; None where it means nothing."""
        fits = {
            "convolutional": self.kind in ("center", "ten-crop"),
            "flip": self.kind in ("single", "center"),
            "no-flip": self.kind == "dense",
            "probabilities": True,
        }
        if not fits[option]:
            return None
        if option == "probabilities":
            return replace(self, average="probabilities")
        if option == "convolutional":
            return replace(self, convolutional=True)
        return replace(self, flips=option == "flip")

    def __str__(self) -> str:
        options = [",probabilities"] if self.average == "probabilities" else []
        if self.kind == "dense":
            scales = "+".join(map(str, self.shorter))
            head = "dense-multiscale" if self.shorter == MULTISCALE else f"dense-{scales}"
            return "".join([head, *([] if self.flips else [",no-flip"]), *options])
        resize = f"@{self.shorter[0]}" if self.shorter else ""
        head = SINGLE_VIEW if self.kind == "single" else f"{self.kind}-{self.side}{resize}"
        flags = [",convolutional"] if self.convolutional else []
        return "".join([head, *flags, *([",flip"] if self.flips else []), *options])

    @property
    def views(self) -> int | None:
        """How often an image is seen; None where that depends on its shape."""
        if self.convolutional:
            return None
        return 10 if self.kind == "ten-crop" else 1 + self.flips

    @property
    def whole(self) -> bool:
        """Whether it needs the whole resized image, so that images differ in size."""
        return self.kind in ("ten-crop", "dense")

    def prepared(self, seen: Profile) -> Profile:
        """The profile at this protocol's sizes.

        `center-R` and `ten-crop-R` resize the shorter side to E where ``@E`` says so; else as the
        profile does if it is made for R; else to 320 for R = 320 (facebookarchive/fb.resnet.torch
        issue 31, by its author), and to R · 8/7 for others: 256 for 224, 342 for 299.

        Raises:
            UsageError: it is a profile of small pictures, which have one size; or of a crop larger
                than the resized image.
        """
        if self.kind == "single":
            return seen
        view = seen.view
        if not isinstance(view, Photo):
            raise UsageError(
                f"expected the protocol '{SINGLE_VIEW}' under profile {seen.name}, found {self}"
            )
        if self.side is None:
            return seen
        if self.shorter:
            resize = self.shorter[0]
        elif view.side == self.side:
            resize = view.resize
        else:
            resize = 320 if self.side == 320 else round(self.side * 8 / 7)
        assert seen.kind is not None
        return photo_profile(seen.kind, self.side, resize)

    def sizes(self, prepared: Profile) -> tuple[int, ...]:
        """The shorter sides of the whole images that it looks at."""
        if self.kind == "dense":
            return self.shorter
        assert isinstance(prepared.view, Photo)
        return (prepared.view.resize,)


SINGLE = Protocol()
