"""Everything that the explore page says of one network, as plain values.

The server answers with it, and the page of one file is made of its parts: see `tables`.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, Self, get_args

from resnext.budget import solve
from resnext.catalog import Family, Notation, notation
from resnext.catalog import spec as read_spec
from resnext.complexity import Complexity, StageCost, complexity
from resnext.errors import SpecError
from resnext.families import IMAGENET_STEM
from resnext.report.diagrams import Form, block_drawing, network_drawing
from resnext.report.layers import (
    block_texts,
    classifier_text,
    pool_texts,
    stem_text,
    template_text,
)
from resnext.spec import Block, Shortcut, Spec, Stage
from resnext.template import Template

BATCH = 32
"""Images of the training step whose memory is shown, as `resnext describe` does."""

CARDINALITIES = (1, 2, 4, 8, 16, 32, 64)
"""Of the neighbours at equal cost."""

_MOST = {"depth": 1910, "cardinality": 4096, "width": 65536, "classes": 10**6, "resolution": 4096}
"""Beyond it nobody can mean what he says, and a server would be kept busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Where the controls of the page stand. ``width`` of a Wide ResNet is 16k."""

    family: Family
    preactivation: bool
    depth: int
    cardinality: int
    width: int
    shortcut: Shortcut
    classes: int
    resolution: int

    @classmethod
    def of(cls, network: str, resolution: int | None = None) -> Self:
        """The setting of a named network, at its usual resolution if none is given.

        Raises:
            NotationError, SpecError: the text names no network, or one that cannot exist.
        """
        spec = read_spec(network)
        name = notation(spec)
        if name is None:
            raise SpecError(f"expected a network that has a name, found {network!r}")
        if name.in_channels != 3:
            raise SpecError(f"expected a network of 3 channels here, found {name.in_channels}")
        return cls(
            family=name.family,
            preactivation=name.preactivation,
            depth=name.depth,
            cardinality=name.template.cardinality,
            width=name.template.width,
            shortcut=name.shortcut,
            classes=name.classes,
            resolution=spec.resolution if resolution is None else resolution,
        )

    @property
    def notation(self) -> Notation:
        """The name in its parts."""
        return Notation(
            family=self.family,
            depth=self.depth,
            template=Template(self.cardinality, self.width),
            preactivation=self.preactivation,
            shortcut=self.shortcut,
            classes=self.classes,
        )

    @property
    def spec(self) -> Spec:
        """The network.

        Raises:
            SpecError: it cannot exist, or is out of all proportion.
        """
        if self.family == "wide" and (self.cardinality != 1 or self.width % 16):
            raise SpecError(
                "expected a Wide ResNet of cardinality 1 and a width of 16k, found "
                f"{self.cardinality}x{self.width}d"
            )
        for name, most in _MOST.items():
            if not 1 <= (value := getattr(self, name)) <= most:
                raise SpecError(f"expected {name} from 1 to {most}, found {value}")
        return self.notation.spec()


def record(setting: Setting, batch: int = BATCH) -> dict[str, Any]:
    """Names, cost by stage, memory, drawings and neighbours of a network.

    Raises:
        SpecError: no such network can exist.
    """
    spec = setting.spec
    cost = complexity(spec, setting.resolution)
    return {
        "setting": asdict(setting),
        **names(setting.notation),
        "parameters": cost.parameters,
        "multiply_adds": cost.multiply_adds,
        "activations": cost.activations,
        "memory": {"batch": batch, "total": cost.training_memory(batch).total},
        "stages": stage_rows(spec, cost),
        "network": network_drawing(spec, setting.resolution).svg,
        "block": block_drawings(spec),
        "neighbours": neighbours(setting),
    }


def names(network: Notation) -> dict[str, str]:
    """As the paper and as code write it, and the lines that make and train it."""
    identifier = network.identifier()
    return {
        "name": network.paper(),
        "identifier": identifier,
        "python": f'model = resnext.build("{identifier}")',
        "shell": f"resnext train --network {identifier} --data PHOTOS",
    }


def stage_rows(spec: Spec, cost: Complexity) -> list[dict[str, Any]]:
    """Table 1: a row per stage, its layers as the paper writes them."""
    pairs = zip(cost.stages, stage_words(spec), strict=True)
    return [stage_row(stage, words) for stage, words in pairs]


def stage_row(stage: StageCost, words: dict[str, Any]) -> dict[str, Any]:
    """What a stage is in words, with its map and its cost."""
    return {
        "name": stage.name,
        "output": f"{stage.height}×{stage.width}",
        **words,
        "parameters": stage.parameters,
        "multiply_adds": stage.multiply_adds,
        "activations": stage.activations,
    }


def stage_words(spec: Spec) -> list[dict[str, Any]]:
    """Of each stage: what comes before the blocks, a block's layers, how many, their template."""
    firsts = [block for _, index, block in spec.blocks() if index == 0]
    alone: dict[str, Any] = {"layers": [], "blocks": 1, "template": ""}
    stages = [
        {
            "before": pool_texts(spec, number),
            "layers": block_texts(block),
            "blocks": spec.stages[number].blocks,
            "template": template_text(block),
        }
        for number, block in enumerate(firsts)
    ]
    stem = {"before": [stem_text(conv) for conv in spec.stem_convs()], **alone}
    return [stem, *stages, {"before": [classifier_text(spec)], **alone}]


def template_block(spec: Spec) -> Block:
    """Conv2's last block, of which Fig. 3 shows the forms and Eqn. 4 counts the cost."""
    return [block for number, _, block in spec.blocks() if number == 0][-1]


def block_drawings(spec: Spec) -> dict[str, dict[str, str]]:
    """The forms of Fig. 3 of the template block, with what they show in words."""
    return _drawn(template_block(spec))


@lru_cache(maxsize=1024)
def _drawn(block: Block) -> dict[str, dict[str, str]]:
    drawings = [block_drawing(block, form, name=form, title=form) for form in get_args(Form)]
    return {x.name: {"svg": x.svg, "description": x.description} for x in drawings}


def neighbours(setting: Setting) -> list[dict[str, Any]]:
    """Eqn. 4: for each cardinality the width at which the template block costs the same.

    A cardinality at which even width 1 costs too much is left out, and so is every one of a Wide
    ResNet, which has no paths.
    """
    if setting.family == "wide":
        return []
    return _neighbours(replace(setting.spec.stages[0], blocks=1))


@lru_cache(maxsize=1024)
def _neighbours(stage: Stage) -> list[dict[str, Any]]:
    """The same, of conv2, which alone counts."""
    return list(_solutions(Spec(stem=IMAGENET_STEM, stages=(stage,))))


def _solutions(spec: Spec) -> Iterator[dict[str, Any]]:
    for cardinality in CARDINALITIES:
        try:
            solution = solve(cardinality, spec)
        except SpecError:
            continue
        yield {
            "cardinality": cardinality,
            "width": solution.template.width,
            "group_width": solution.template.group_width,
            "cost": solution.cost,
            "difference": round(solution.difference, 1),
        }
