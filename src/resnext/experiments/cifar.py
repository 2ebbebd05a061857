"""Sec. 5.3: Table 7 and Fig. 7, cardinality against width on CIFAR."""

from collections.abc import Sequence

from resnext.budget import solve
from resnext.catalog import spec
from resnext.experiments.design import CIFAR_SEEDS, Experiment, Row, Small
from resnext.experiments.findings import Findings
from resnext.experiments.paper import number
from resnext.experiments.tables import against_size, by_run, curves
from resnext.report.content import Part

_BASE = "1x16d"
"""The small network that both ways to grow begin from, as ResNet-29 (1x64d) in the paper."""


def _small(cardinality: int) -> Small:
    return Small(template=f"{cardinality}x16d")


def _wide(cardinality: int) -> Small:
    """A network of cardinality 1 with as many parameters as the small one of this cardinality."""
    like = _small(cardinality).spec(32)
    return Small(template=str(solve(1, like, scope="network").template))


def _row(name: str, label: str, small: Small, home: str) -> Row:
    return Row(id=name, home=home, label=label, spec=spec(name), small=small, recipe="cifar")


BASE = _row("resnet29_1x64d", "ResNet-29 (1x64d)", Small(template=_BASE), "fig7")
MORE = (
    _row("resnext29_2x64d", "ResNeXt-29 (2x64d)", _small(2), "fig7"),
    _row("resnext29_4x64d", "ResNeXt-29 (4x64d)", _small(4), "fig7"),
    _row("resnext29_8x64d", "ResNeXt-29 (8x64d)", _small(8), "fig7"),
)
MOST = _row("resnext29_16x64d", "ResNeXt-29 (16x64d)", _small(16), "fig7")
WIDER = (
    _row("resnet29_1x128d", "ResNet-29 (1x128d)", _wide(2), "fig7"),
    _row("resnet29_1x192d", "ResNet-29 (1x192d)", _wide(4), "fig7"),
    _row("resnet29_1x256d", "ResNet-29 (1x256d)", _wide(8), "fig7"),
)
"""The paper draws this curve and names no widths; these are round ones over its range."""

WRN = _row("wrn28_10", "Wide ResNet (28-10)", Small(template="1x32d"), "table7")


def _hundred(row: Row) -> Row:
    name = f"{row.id}_100classes"
    return Row(
        id=name,
        home="table7",
        label=row.label,
        spec=spec(name),
        small=row.small,
        recipe=row.recipe,
    )


TEN = (WRN, MORE[-1], MOST)
HUNDRED = tuple(_hundred(row) for row in TEN)


def _fig7(findings: Findings) -> Sequence[Part]:
    demo = findings.study.choices.scale == "demo"
    more, wider = (BASE, *MORE, *(() if demo else (MOST,))), (BASE, *WIDER)
    rows = [(row, number("Table 7", row.label, "CIFAR-10")) for row in (*more, *WIDER)]
    return (
        against_size(
            findings,
            (("more cardinality", more), ("wider", wider)),
            name="error-by-size",
            title="Test error against model size",
        ),
        by_run(
            findings,
            rows,
            name="fig7",
            title="Increasing cardinality against increasing width",
            source="Table 7",
            notes=("The paper gives numbers for 8x64d and 16x64d only; the rest is a drawing.",),
        ),
        curves(findings, (*more, *WIDER), name="curves", title="Errors by epoch"),
    )


def _table7(findings: Findings) -> Sequence[Part]:
    def table(rows: Sequence[Row], column: str) -> Part:
        return by_run(
            findings,
            [(row, number("Table 7", row.label, column)) for row in rows],
            name=f"table7-{column.lower()}",
            title=f"Test error on {column}",
            source=f"Table 7, {column}",
        )

    if findings.study.choices.scale == "demo":
        return (table(TEN, "CIFAR-10"),)
    return (table(TEN, "CIFAR-10"), table(HUNDRED, "CIFAR-100"))


FIG7 = Experiment(
    id="fig7",
    title="Fig. 7: cardinality against width on CIFAR-10",
    source="Fig. 7",
    rows=(BASE, *MORE, *WIDER, MOST),
    parts=_fig7,
    seeds=CIFAR_SEEDS,
    data="CIFAR-10",
    demo_rows=(BASE.id, *(row.id for row in (*MORE, *WIDER))),
)

TABLE7 = Experiment(
    id="table7",
    title="Table 7: test error on CIFAR",
    source="Table 7",
    rows=(*TEN, *HUNDRED),
    parts=_table7,
    seeds=CIFAR_SEEDS,
    data="CIFAR-10, CIFAR-100 or both (--data twice)",
    demo_rows=tuple(row.id for row in TEN),
)
