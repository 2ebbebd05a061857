"""The settings that the controls of the explore page go through."""

from dataclasses import dataclass
from functools import cache

from resnext.budget import solve
from resnext.catalog import CATALOG, Family
from resnext.deploy.explore.record import CARDINALITIES, Setting
from resnext.errors import SpecError
from resnext.families import IMAGENET_BLOCKS
from resnext.spec import Shortcut

_ROUND = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
_GROUP_WIDTHS = range(16, 2049)
SHORTCUTS: tuple[Shortcut, ...] = ("A", "B", "C", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Networks of one family and what their controls go through."""

    label: str
    family: Family
    preactivation: bool
    depths: tuple[int, ...]
    templates: tuple[tuple[int, int], ...]
    resolutions: tuple[int, ...]
    classes: tuple[int, ...]
    shortcuts: tuple[Shortcut, ...] = SHORTCUTS

    def setting(
        self, depth: int, template: tuple[int, int], shortcut: Shortcut, size: int, classes: int
    ) -> Setting:
        """The network at one place of the grid."""
        return Setting(
            family=self.family,
            preactivation=self.preactivation,
            depth=depth,
            cardinality=template[0],
            width=template[1],
            shortcut=shortcut,
            classes=classes,
            resolution=size,
        )


@dataclass(frozen=True, slots=True)
class Preset:
    """A network of the catalogue, and the paper's table or figure that has it."""

    name: str
    source: str
    setting: Setting


@cache
def presets() -> tuple[Preset, ...]:
    """The catalogue."""
    found = []
    for entry in CATALOG:
        setting = Setting.of(entry.identifier)
        found.append(Preset(setting.notation.paper(), entry.source, setting))
    return tuple(found)


@cache
def kinds() -> tuple[Kind, ...]:
    """The whole grid; the presets lie on it, and so do their neighbours at equal cost."""
    templates = _templates()
    few = tuple(t for t in templates if t[0] in (1, 32))
    wide = tuple((1, 16 * k) for k in (1, 2, 4, 8, 10, 12))
    image_classes, small_classes = (10, 100, 1000, 5000, 21841), (10, 100)
    return (
        Kind(
            label="ImageNet",
            family="imagenet",
            preactivation=False,
            depths=tuple(IMAGENET_BLOCKS),
            templates=templates,
            resolutions=(128, 160, 192, 224, 256, 320),
            classes=image_classes,
        ),
        Kind(
            label="ImageNet, pre-activation",
            family="imagenet",
            preactivation=True,
            depths=(50, 101, 152, 200),
            templates=few,
            resolutions=(224, 320),
            classes=(10, 100, 1000),
        ),
        Kind(
            label="CIFAR",
            family="cifar",
            preactivation=False,
            depths=(20, 29, 38, 56, 110, 164),
            templates=templates,
            resolutions=(32, 64),
            classes=small_classes,
        ),
        Kind(
            label="CIFAR, pre-activation",
            family="cifar",
            preactivation=True,
            depths=(29, 110, 164),
            templates=few,
            resolutions=(32,),
            classes=small_classes,
        ),
        Kind(
            label="Wide ResNet",
            family="wide",
            preactivation=True,
            depths=(16, 22, 28, 40),
            templates=wide,
            resolutions=(32, 64),
            classes=small_classes,
        ),
    )


def _templates() -> tuple[tuple[int, int], ...]:
    found = {(c, d) for c in CARDINALITIES for d in _ROUND if c * d in _GROUP_WIDTHS}
    for preset in presets():
        if preset.setting.family == "wide":
            continue
        found.add((preset.setting.cardinality, preset.setting.width))
        for cardinality in CARDINALITIES:
            try:
                template = solve(cardinality, preset.setting.spec).template
            except SpecError:
                continue
            found.add((cardinality, template.width))
    return tuple(sorted(found))
