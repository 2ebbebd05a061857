"""Networks of torchvision and timm by name, with their own preprocessing, for comparison."""

import difflib
import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from resnext.data.colour import Statistics
from resnext.data.profiles import Profile, pillow_profile
from resnext.errors import UsageError

LIBRARIES = ("torchvision", "timm")


def peer(text: str) -> tuple[str, str] | None:
    """(library, name) of ``timm:inception_v4``; None for other texts."""
    library, colon, name = text.partition(":")
    return (library, name) if colon and library in LIBRARIES else None


def peer_network(
    library: str, name: str, state: Mapping[str, Tensor], sha256: str
) -> tuple[nn.Module, Profile]:
    """A peer's network for as many classes as the weights have, and its profile.

    timm's is that of its `pretrained_cfg`; torchvision's that of the published weights with this
    checksum, or else of the first ones that were published.

    Raises:
        UsageError: the library has no such network, or prepares images in a way of its own.
    """
    if library == "timm":
        return _timm(name, state)
    return _torchvision(name, state, sha256)


def _torchvision(name: str, state: Mapping[str, Tensor], sha256: str) -> tuple[nn.Module, Profile]:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise _unknown("torchvision", name, known)
    options: dict[str, Any] = {}
    if name in ("inception_v3", "googlenet"):  # as their published weights were trained
        options = {"transform_input": True, "aux_logits": True, "init_weights": False}
    model = models.get_model(name, weights=None, **options)
    classes = _classes(model, list(model.state_dict())[-1], state)
    if classes not in (None, 1000):
        model = models.get_model(name, weights=None, num_classes=classes, **options)
    published = list(models.get_model_weights(name))
    same = [one for one in published if sha256.startswith(_digest(one.url))]
    transforms = (same or published)[0].transforms()
    return model, pillow_profile(
        transforms.crop_size[0],
        transforms.resize_size[0],
        interpolation=transforms.interpolation.value,
        statistics=_statistics(transforms.mean, transforms.std),
        of=f"torchvision:{name}",
    )


def _digest(url: str) -> str:
    """The beginning of the checksum, which ends the names of torchvision's files."""
    return url.rpartition("-")[2].partition(".")[0]


def _timm(name: str, state: Mapping[str, Tensor]) -> tuple[nn.Module, Profile]:
    try:
        import timm
    except ImportError as error:
        raise UsageError(f"expected timm to be installed, found: {error}") from error
    if not timm.is_model(name):
        raise _unknown("timm", name, timm.list_models())
    from timm.data.config import resolve_data_config

    model: Any = timm.create_model(name, pretrained=False)
    head = model.pretrained_cfg.get("classifier") or "fc"
    classes = _classes(model, f"{head}.bias", state) if isinstance(head, str) else None
    if classes not in (None, model.num_classes):
        model = timm.create_model(name, pretrained=False, num_classes=classes)
    config: Any = resolve_data_config({}, model=model)  # type: ignore[no-untyped-call]
    _, height, width = config["input_size"]
    if height != width or config["crop_mode"] != "center":
        raise UsageError(
            f"expected a central square crop for timm:{name}, found {config['crop_mode']} of "
            f"{height} x {width}; say --profile"
        )
    return model, pillow_profile(
        height,
        math.floor(height / config["crop_pct"]),
        interpolation=config["interpolation"],
        statistics=_statistics(config["mean"], config["std"]),
        of=f"timm:{name}",
    )


def _classes(model: nn.Module, head: str, state: Mapping[str, Tensor]) -> int | None:
    """How many classes the weights have, by the last bias; None if they have none such."""
    found = state.get(head)
    return int(found.shape[0]) if found is not None and head in model.state_dict() else None


def _statistics(mean: Any, std: Any) -> Statistics:
    red, green, blue = (float(value) for value in mean)
    r, g, b = (float(value) for value in std)
    return Statistics((red, green, blue), (r, g, b))


def _unknown(library: str, name: str, known: list[str]) -> UsageError:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {library}:{close[0]}?)" if close else ""
    return UsageError(f"expected a network of {library}, found {name!r}{hint}")
