"""The page of one file: parts of each record on the grid, so that any setting can be looked up.

A part is stored for the axes that it depends on, as a flat list in the order of these axes, and
equal values once. The page looks parts up and adds the rows of the stage table, nothing else; that
the axes suffice is tested against `record` at random settings.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from resnext.complexity import (
    NOTHING,
    Complexity,
    Held,
    Layer,
    StageCost,
    complexity,
    hold,
    step_memory,
)
from resnext.deploy.explore.grid import Kind
from resnext.deploy.explore.record import (
    BATCH,
    Setting,
    block_drawings,
    names,
    neighbours,
    stage_row,
    stage_rows,
    stage_words,
)
from resnext.report.diagrams import network_drawing
from resnext.report.layers import template_text
from resnext.spec import Spec

_AXES = {
    "names": ("depth", "template", "shortcut", "classes"),
    "block": ("depth", "template", "shortcut"),
    "neighbours": ("depth", "template"),
    "stages": ("depth", "template", "shortcut", "resolution"),
    "classifier": ("depth", "classes"),
    "network": ("depth", "resolution", "classes"),
    "memory": ("depth", "template", "shortcut", "resolution", "classes"),
}
_WIDE_AXES = {  # whose template makes the channels too
    "classifier": ("depth", "template", "classes"),
    "network": ("depth", "template", "resolution", "classes"),
}


def axes_of(kind: Kind) -> dict[str, tuple[str, ...]]:
    """What each part depends on. In drawings of networks stand ``{0}``, ``{1}`` for templates."""
    return {**_AXES, **_WIDE_AXES} if kind.family == "wide" else _AXES


class _Pool:
    """Values, each once."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._places: dict[str, int] = {}

    def place(self, value: Any) -> int:
        key = json.dumps(value, ensure_ascii=False)
        if key not in self._places:
            self._places[key] = len(self.values)
            self.values.append(value)
        return self._places[key]


def tables(kinds: Iterable[Kind]) -> dict[str, Any]:
    """All parts of all settings: ``pool`` of values, and of each kind the places in it.

    Memory is stored as numbers, not as places.
    """
    pool = _Pool()
    found = [{"axes": axes_of(kind), **_kind(kind, pool)} for kind in kinds]
    return {"batch": BATCH, "pool": pool.values, "kinds": found}


def _kind(kind: Kind, pool: _Pool) -> dict[str, list[Any]]:
    axes = axes_of(kind)
    found = {
        part: [pool.place(make(setting)) for setting in _along(kind, axes[part])]
        for part, make in _PARTS.items()
    }
    stages, memory = [], []
    for rows, totals in _costs(kind):
        stages.append([pool.place(row) for row in rows])
        memory += totals
    return {**found, "stages": stages, "memory": memory}


def _along(kind: Kind, axes: tuple[str, ...]) -> Iterator[Setting]:
    """Settings along these axes, the last one fastest; others stay at their first value."""
    values: dict[str, tuple[Any, ...]] = {
        "depth": kind.depths,
        "template": kind.templates,
        "shortcut": kind.shortcuts,
        "resolution": kind.resolutions,
        "classes": kind.classes,
    }
    for chosen in product(*(v if axis in axes else v[:1] for axis, v in values.items())):
        yield kind.setting(*chosen)


def _network(setting: Setting) -> str:
    spec = setting.spec
    drawn = network_drawing(spec, setting.resolution).svg
    firsts = [block for _, index, block in spec.blocks() if index == 0]
    for number, block in enumerate(firsts):
        drawn = drawn.replace(f">{template_text(block)}<", f">{{{number}}}<", 1)
    return drawn


_PARTS: dict[str, Callable[[Setting], Any]] = {
    "names": lambda setting: names(setting.notation),
    "block": lambda setting: block_drawings(setting.spec),
    "neighbours": neighbours,
    "classifier": lambda setting: stage_rows(setting.spec, complexity(setting.spec))[-1],
    "network": _network,
}


@dataclass(frozen=True, slots=True)
class _Stage:
    """A stage of any depth, from that of a network with two blocks a stage."""

    cost: StageCost
    held: Held


def _costs(kind: Kind) -> Iterator[tuple[list[dict[str, Any]], list[int]]]:
    """In the order of "stages": the rows but the classifier's, and memory for each class count.

    Depths share what they have in common: by rule 1 all blocks of a stage but the first are alike,
    so that two of them tell the cost of any number.
    """
    counted = _Counted()
    for depth, template, shortcut in product(kind.depths, kind.templates, kind.shortcuts):
        spec = kind.setting(depth, template, shortcut, kind.resolutions[0], kind.classes[0]).spec
        cut, words = _cut(spec), stage_words(spec)
        blocks = (1, *(stage.blocks for stage in spec.stages))
        classifiers = [counted.classifier(spec, classes) for classes in kind.classes]
        for size in kind.resolutions:
            chain = counted.stages(cut, size, blocks)
            rows = [stage_row(x.cost, w) for x, w in zip(chain, words, strict=False)]
            yield rows, [_memory(chain, classifier) for classifier in classifiers]


class _Counted:
    """What of a kind was counted already."""

    def __init__(self) -> None:
        self._cuts: dict[Spec, dict[int, Complexity]] = {}
        self._stages: dict[tuple[int, int, int, int], _Stage] = {}
        self._classifiers: dict[tuple[int, int], Layer] = {}

    def stages(self, cut: Spec, size: int, blocks: tuple[int, ...]) -> list[_Stage]:
        """All but the classifier, at so many blocks."""
        costs = self._cuts.setdefault(cut, {})
        if size not in costs:
            costs[size] = complexity(cut, size)
        return [self._stage(costs[size], place, count) for place, count in enumerate(blocks)]

    def _stage(self, shallow: Complexity, place: int, blocks: int) -> _Stage:
        key = (id(shallow), shallow.resolution[0], place, blocks)  # it is kept, so is its id
        if key not in self._stages:
            self._stages[key] = _stage(shallow, place, blocks)
        return self._stages[key]

    def classifier(self, spec: Spec, classes: int) -> Layer:
        """The last layer, which depends on little."""
        key = (spec.out_channels, classes)
        if key not in self._classifiers:
            self._classifiers[key] = complexity(replace(_cut(spec), classes=classes)).layers[-1]
        return self._classifiers[key]


def _cut(spec: Spec) -> Spec:
    """The network without what its stages repeat."""
    stages = tuple(replace(stage, blocks=min(stage.blocks, 2)) for stage in spec.stages)
    return replace(spec, stages=stages)


def _stage(shallow: Complexity, place: int, blocks: int) -> _Stage:
    layers = [x for x in shallow.layers if x.stage == f"conv{place + 1}"]
    repeated = [i for i, x in enumerate(layers) if x.name.startswith(f"layer{place}.1.")]
    start, end = (repeated[0], repeated[-1] + 1) if repeated else (len(layers), len(layers))
    again, held = layers[start:end], hold(layers[:start], BATCH)
    held_again = hold(again, BATCH)
    for _ in range(blocks - 1):
        held = held.then(held_again)
    cost, more = shallow.stages[place], max(0, blocks - 2)
    deep = replace(
        cost,
        parameters=cost.parameters + more * sum(layer.parameters for layer in again),
        multiply_adds=cost.multiply_adds + more * sum(layer.multiply_adds for layer in again),
        activations=cost.activations + more * sum(layer.activations for layer in again),
    )
    return _Stage(deep, held.then(hold(layers[end:], BATCH)))


def _memory(stages: list[_Stage], classifier: Layer) -> int:
    held = NOTHING
    for stage in stages:
        held = held.then(stage.held)
    parameters = classifier.parameters + sum(stage.cost.parameters for stage in stages)
    return step_memory(parameters, held.then(hold([classifier], BATCH)), BATCH).total
