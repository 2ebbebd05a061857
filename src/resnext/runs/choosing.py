"""What a run takes where the user says nothing: from the weights it begins with, or the data."""

import resnext
from resnext.data import DataSet, Profile, default_profile, profile
from resnext.data.digits import is_digits
from resnext.errors import UsageError
from resnext.runs.beginning import Beginning, require_network
from resnext.spec import Spec
from resnext.training.recipe import Recipe, digits, finetune_for, recipe, small


def usual_network(data: DataSet, seen: Profile, begun: Beginning | None = None) -> Spec:
    """That of the weights; or one for digits, pictures of 32 x 32 or photos, for a first look.

    Raises:
        CheckpointError: nothing tells which network the weights are of.
    """
    if begun is not None:
        return resnext.spec(require_network(begun), classes=len(data.classes))
    if is_digits(data):
        return resnext.spec("ResNeXt-11 (4x8d, CIFAR)")
    if seen.resolution <= 32:
        return resnext.spec("ResNeXt-29 (8x16d, CIFAR)")
    return resnext.spec("ResNeXt-50 (32x4d)")


def chosen_recipe(
    asked: str | Recipe | None, data: DataSet, begun: Beginning | None = None
) -> Recipe:
    """The one that was asked for, or one for the data; `finetune` is cut to their number.

    Raises:
        UsageError: there is no recipe of that name.
    """
    if isinstance(asked, Recipe):
        return asked
    if begun is not None and asked in (None, "finetune"):
        return finetune_for(len(data.train))
    if asked is not None:
        return recipe(asked)
    return digits() if is_digits(data) else small()


def new_head(begun: Beginning, wanted: Recipe, data: DataSet) -> bool:
    """Whether the weights' classifier is of no use: it is of other classes, or may well be."""
    if begun.classes is None:
        return wanted.pretrained
    return begun.classes != data.classes


def chosen_profile(
    data: DataSet, resolution: int | None, name: str | None, begun: Beginning | None = None
) -> Profile:
    """The one of that name or resolution; or that of the weights, if it is one for such images.

    Raises:
        UsageError: there is none, or it has another resolution.
    """
    if name is not None:
        chosen = profile(name)
        if resolution not in (None, chosen.resolution):
            raise UsageError(
                f"expected resolution {chosen.resolution} of {name}, found {resolution}"
            )
        return chosen
    usual = default_profile(data)
    if resolution is None or (is_digits(data) and resolution == usual.resolution):
        return _theirs(begun, usual, resolution) or usual
    if is_digits(data):
        raise UsageError(f"expected resolution 8 for the digits, found {resolution}")
    return profile(f"pil-{resolution}")


def _theirs(begun: Beginning | None, usual: Profile, resolution: int | None) -> Profile | None:
    if begun is None or begun.profile is None or resolution is not None:
        return None
    theirs = profile(begun.profile)
    photos = theirs.resolution > 32 and usual.resolution > 32
    alike = photos or theirs.resolution == usual.resolution
    return theirs if alike and theirs.channels == usual.channels else None
