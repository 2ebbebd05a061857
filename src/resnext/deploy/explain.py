"""Where in a picture a network sees a class: its class activation map (Zhou et al. 2016).

A network that ends in a global average and a linear classifier scores class c as the mean over
positions of m_c = sum over k of w_ck f_k, plus b_c. So the map m_c + b_c is no estimate: its mean
is the logit.
"""

import io
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from resnext.data.photos import Photo
from resnext.deploy.artifact import Artifact
from resnext.deploy.predict import prepare
from resnext.errors import UsageError
from resnext.model.network import ResNeXt

SMALLEST = 224
"""Pixels of a side below which a picture is enlarged before it is drawn upon."""

_OPAQUE = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A class activation map.

    Attributes:
        label: of the class.
        probability: of the class.
        logit: of the class: the mean of `positions`.
        positions: h x w float32, what each position of the last map adds to the class.
        seen: R x R x 3 uint8, the part of the picture that the network looked at.
    """

    label: str
    probability: float
    logit: float
    positions: NDArray[np.float32]
    seen: NDArray[np.uint8]

    @property
    def heat(self) -> NDArray[np.float32]:
        """H x W of the part that was looked at, in [0, 1]: what speaks for the class.

        1 where that is most, 0 where nothing does or something speaks against it.
        """
        positive = torch.from_numpy(self.positions).clamp_min(0)[None, None]
        height, width = self.seen.shape[:2]
        large = F.interpolate(positive, (height, width), mode="bilinear", align_corners=False)[0, 0]
        most = large.max()
        found: NDArray[np.float32] = (large / most if most > 0 else large).numpy()
        return found

    def png(self) -> bytes:
        """The map over what was looked at, as a picture."""
        shade = np.asarray(mpl.colormaps["inferno"](self.heat))[..., :3] * 255
        opacity = (_OPAQUE * self.heat)[..., None]
        drawn = Image.fromarray(
            np.rint(self.seen * (1 - opacity) + shade * opacity).astype(np.uint8)
        )
        side = max(drawn.size)
        if side < SMALLEST:
            factor = -(-SMALLEST // side)
            drawn = drawn.resize(
                (drawn.width * factor, drawn.height * factor), Image.Resampling.NEAREST
            )
        file = io.BytesIO()
        drawn.save(file, "PNG")
        return file.getvalue()


def explain(
    artifact: Artifact,
    image: Image.Image,
    label: str | None = None,
    *,
    model: ResNeXt | None = None,
    name: str = "the picture",
) -> Explanation:
    """The activation map of a class on a picture, computed in float32 by torch.

    Args:
        artifact: the network.
        image: decoded.
        label: of the class; the most likely one if left out.
        model: of the artifact, if it is at hand.
        name: of the picture, for messages.

    Raises:
        DataError: the profile does not take a picture of this size.
        UsageError: no class of that name.
    """
    network = artifact.model() if model is None else model
    return explained(
        artifact, network, prepare(artifact, image, name), seen_of(artifact, image), label
    )


def explained(
    artifact: Artifact,
    network: ResNeXt,
    prepared: Tensor,
    seen: NDArray[np.uint8],
    label: str | None = None,
) -> Explanation:
    """The same of a picture that is prepared: what the network is given, and `seen_of` it."""
    with torch.inference_mode():
        *_, last = network.features(prepared[None]).values()
        scores = network.fc(last.mean((2, 3)))[0]
        number = int(scores.argmax()) if label is None else _number(artifact, label, scores)
        weight, bias = network.fc.weight[number], network.fc.bias[number]
        positions = torch.einsum("khw,k->hw", last[0], weight) + bias
    return Explanation(
        label=artifact.classes[number],
        probability=float(scores.softmax(0)[number]),
        logit=float(scores[number]),
        positions=positions.numpy(),
        seen=seen,
    )


def _number(artifact: Artifact, label: str, scores: Tensor) -> int:
    """Of several classes with one name (ImageNet has two cranes) the most likely."""
    same = [number for number, name in enumerate(artifact.classes) if name == label]
    if not same:
        raise UsageError(f"expected a class of {artifact.network}, found {label!r}")
    return max(same, key=lambda number: float(scores[number]))


def seen_of(artifact: Artifact, image: Image.Image) -> NDArray[np.uint8]:
    """The part of a picture that the profile takes, R x R x 3."""
    view = artifact.profile.view
    if not isinstance(view, Photo):
        return np.asarray(image.convert("RGB"))
    found = np.asarray(view.evaluate(image), dtype=np.float32) * (255 / view.unit)
    return np.rint(found.clip(0, 255)).astype(np.uint8)
