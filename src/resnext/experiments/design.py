"""What an experiment is: rows that are trained or measured once for each seed, and what they show.

The paper's network and recipe of a row stand beside a small network of the same design, so that the
same table can be made on a laptop. Nothing here opens data or writes anything.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from resnext.errors import UsageError
from resnext.families import compose
from resnext.spec import Shortcut, Spec, Stem, StemConv
from resnext.training.recipe import Recipe, digits, recipe, small

if TYPE_CHECKING:
    from resnext.experiments.findings import Findings
    from resnext.experiments.measuring import Bench, Tick
    from resnext.experiments.study import Job, Study
    from resnext.report.content import Part

Scale = Literal["paper", "short", "demo"]
"""The paper's recipe exactly; its networks with a shortened schedule; its design at small size."""

SHORT: Mapping[str, int] = MappingProxyType({"imagenet-100": 20, "imagenet-5k": 20, "cifar": 30})
"""Epochs at the scale `short`, of each recipe; the drops move in proportion."""

DEMO_EPOCHS: Mapping[str, int] = MappingProxyType({"digits": 6, "small": 2})
"""At the scale `demo`: of the digits, and of other pictures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Small:
    """The small network of a row: three stages like CIFAR's, narrower and shallower.

    Attributes:
        template: cardinality and width of its first stage.
        blocks: of every stage.
        shortcut: as in `Spec`.
        preactivation: as in `Spec`.
    """

    template: str
    blocks: int = 1
    shortcut: Shortcut = "B"
    preactivation: bool = False

    def spec(self, resolution: int, classes: int = 10, in_channels: int = 3) -> Spec:
        """The network: 64, 128 and 256 channels; pictures above 8 x 8 are halved by its stem."""
        stride = 1 if resolution <= 8 else 2
        return compose(
            (self.blocks,) * 3,
            self.template,
            stem=Stem(convs=(StemConv(out_channels=32, kernel=3, stride=stride),)),
            out_channels=64,
            shortcut=self.shortcut,
            preactivation=self.preactivation,
            classes=classes,
            in_channels=in_channels,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """A further test of a trained network, behind the scores of its epochs.

    Attributes:
        id: of its file and column.
        title: of its column.
        protocol: the views, at the paper's networks.
        demo: the views at the scale `demo`, whose pictures have one size.
        leading: whether to choose among the leading classes only: the first 1000 of 5000 (Sec.
            5.2), or the first half of fewer.
    """

    id: str
    title: str
    protocol: str = "single view"
    demo: str = "single view"
    leading: bool = False


def leading_classes(count: int) -> int:
    """Of how many classes a test chooses among the leading ones."""
    return 1000 if count == 5000 else count // 2


def check_epochs(scale: Scale, epochs: int | None) -> None:
    """Refuse other epochs than the paper's at the paper's scale.

    Raises:
        UsageError: they are asked for.
    """
    if scale == "paper" and epochs is not None:
        raise UsageError(
            f"expected no --epochs at the scale paper, found {epochs}; take --scale short"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One network, trained once for each seed.

    Attributes:
        id: of its folders.
        home: the experiment that it belongs to: others that show it share its runs.
        label: in tables.
        spec: the paper's network.
        small: the one of the scale `demo`.
        recipe: name of the paper's.
        profile: of the paper's preprocessing; None for what the data suggests.
        tests: what else is measured of it.
    """

    id: str
    home: str
    label: str
    spec: Spec
    small: Small
    recipe: str
    profile: str | None = None
    tests: tuple[Test, ...] = ()

    def recipe_at(
        self, scale: Scale, classes: int, *, is_digits: bool, epochs: int | None = None
    ) -> Recipe:
        """The recipe at a scale, for so many classes; `epochs` instead of the scale's.

        Raises:
            UsageError: other epochs than the paper's at the paper's scale.
        """
        check_epochs(scale, epochs)
        if scale == "demo":
            usual = digits() if is_digits else small()
            wanted = usual.with_epochs(epochs or DEMO_EPOCHS[usual.name])
            if any(test.leading for test in self.tests):
                return wanted.model_copy(update={"leading": leading_classes(classes)})
            return wanted
        wanted = recipe(self.recipe)
        if scale == "short":
            return wanted.with_epochs(epochs or SHORT[self.recipe])
        return wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """Something measured once for each seed that is not a training of one network.

    Attributes:
        id: of its folders.
        home: the experiment that it belongs to.
        label: in tables.
        settings: what decides its result, in a study for a seed: a folder with others is refused.
        run: measures; yields where it stands, and last a dictionary of plain values.
        needs: rows whose finished runs it looks at, in a study.
        row: whose images it is measured on, if not those of the first that it needs.
        cost: multiply-adds of one measurement, to plan with.
        disk: bytes that one leaves behind.
        needs_data: whether it is about images.
        objects: whether these are pictures with objects, such as COCO's.
        seeded: whether each seed has a measurement of its own; otherwise there is one.
    """

    id: str
    home: str
    label: str
    settings: "Callable[[Study, int], dict[str, Any]]"
    run: "Callable[[Bench], Iterator[Tick | dict[str, Any]]]"
    needs: "Callable[[Study], tuple[Row, ...]]" = lambda _: ()
    row: Row | None = None
    cost: "Callable[[Job], float]" = lambda _: 0.0
    disk: "Callable[[Job], int]" = lambda _: 1_000_000
    needs_data: bool = True
    objects: bool = False
    seeded: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """A table or figure: what to run for it, and what to show of that.

    Attributes:
        id: as the command line takes it.
        title: what it is.
        source: where in the paper.
        rows: what to train.
        measures: what else to measure.
        seeds: how many, at each scale.
        parts: the findings as tables and charts.
        data: what the paper's scale needs, in words; empty where it needs none.
        demo_rows: the rows of the scale `demo`, where those are not all.
    """

    id: str
    title: str
    source: str
    parts: "Callable[[Findings], Sequence[Part]]"
    rows: tuple[Row, ...] = ()
    measures: tuple[Measure, ...] = ()
    seeds: Mapping[Scale, int] = field(default_factory=lambda: IMAGENET_SEEDS)
    data: str = ""
    demo_rows: tuple[str, ...] | None = None

    @property
    def whats(self) -> "tuple[Row | Measure, ...]":
        """Everything that is run."""
        return (*self.rows, *self.measures)

    @property
    def objects(self) -> bool:
        """Whether some of it is about pictures with objects."""
        return any(measure.objects for measure in self.measures)

    @property
    def computed(self) -> bool:
        """Whether it follows from specifications alone, without data."""
        return not self.whats

    def at(self, scale: Scale) -> "Experiment":
        """With the rows that are run at a scale."""
        if scale != "demo" or self.demo_rows is None:
            return self
        return self.only((*self.demo_rows, *(measure.id for measure in self.measures)))

    def only(self, ids: Sequence[str]) -> "Experiment":
        """With these rows and measures to run, and all of them to show."""
        return replace(
            self,
            rows=tuple(row for row in self.rows if row.id in ids),
            measures=tuple(measure for measure in self.measures if measure.id in ids),
        )


IMAGENET_SEEDS: Mapping[Scale, int] = MappingProxyType({"paper": 1, "short": 1, "demo": 3})
"""The paper's ImageNet numbers are of one run each, as far as it says."""

CIFAR_SEEDS: Mapping[Scale, int] = MappingProxyType({"paper": 10, "short": 3, "demo": 3})
"""Table 7 and Fig. 7 are means of 10 runs."""
