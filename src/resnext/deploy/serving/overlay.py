"""A class activation map as two pictures for a page: what was seen, and the map to lay over it."""

import io
from base64 import b64encode
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from resnext.deploy.artifact import Artifact
from resnext.deploy.explain import explained
from resnext.model.network import ResNeXt


def overlay(
    artifact: Artifact, model: ResNeXt, prepared: Tensor, seen: NDArray[np.uint8]
) -> dict[str, Any]:
    """The most likely class, its map over positions, and both pictures as data URLs.

    `heat` is as opaque as the map is high, so that a page lays it over `seen` as strongly as its
    reader likes.
    """
    found = explained(artifact, model, prepared, seen)
    shade = np.asarray(mpl.colormaps["inferno"](found.heat))
    shade[..., 3] = found.heat
    return {
        "class": found.label,
        "probability": found.probability,
        "logit": found.logit,
        "positions": [[float(value) for value in row] for row in found.positions],
        "seen": _url(Image.fromarray(found.seen)),
        "heat": _url(Image.fromarray(np.rint(shade * 255).astype(np.uint8))),
    }


def _url(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    return f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"
