"""What follows from specifications alone: Tables 1 and 2, and the drawings of blocks."""

from collections.abc import Callable, Sequence

import resnext
from resnext.budget import table2
from resnext.experiments.design import Experiment
from resnext.experiments.findings import Findings
from resnext.experiments.paper import number
from resnext.report import diagrams
from resnext.report.content import Column, Drawing, Part, Table, Value

_NETWORKS = {"ResNet-50": "resnet50", "ResNeXt-50 (32x4d)": "resnext50_32x4d"}


def _table1(_: Findings) -> Sequence[Part]:
    parts: list[Part] = [_costs()]
    for label, name in _NETWORKS.items():
        slug = name.replace("_", "-")
        parts.append(diagrams.network_drawing(resnext.spec(name), name=f"{slug}-drawn"))
        parts.append(_stages(label, f"table1-{slug}", name))
    return parts


def _costs() -> Table:
    rows: list[tuple[Value, ...]] = []
    for label, name in _NETWORKS.items():
        cost = resnext.complexity(resnext.spec(name))
        for column, unit, found in (
            ("parameters", 1e6, cost.parameters),
            ("multiply-adds", 1e9, cost.multiply_adds),
        ):
            paper = number("Table 1", label, column)
            ours = found / unit
            rows.append((label, column, paper, ours, None if paper is None else ours - paper))
    columns = (
        Column(title="network"),
        Column(title="cost"),
        Column(title="paper, M or G", digits=1, source="Table 1"),
        Column(title="ours, M or G", digits=3),
        Column(title="difference", digits=3, signed=True),
    )
    return Table(
        name="table1", title="Parameters and multiply-adds", columns=columns, rows=tuple(rows)
    )


def _stages(label: str, name: str, network: str) -> Table:
    cost = resnext.complexity(resnext.spec(network))
    return Table(
        name=name,
        title=f"Cost of {label} by stage",
        columns=(
            Column(title="stage"),
            Column(title="output"),
            Column(title="channels", digits=0),
            Column(title="parameters", digits=0),
            Column(title="multiply-adds", digits=0),
        ),
        rows=tuple(
            (s.name, f"{s.height}×{s.width}", s.channels, s.parameters, s.multiply_adds)
            for s in cost.stages
        ),
    )


def _table2(_: Findings) -> Sequence[Part]:
    rows: list[tuple[Value, ...]] = []
    for found in table2("resnet50"):
        row = str(found.template.cardinality)
        paper = number("Table 2", row, "width")
        rows.append(
            (
                found.template.cardinality,
                paper and int(paper),
                found.template.width,
                paper and found.template.width - int(paper),
                found.template.cardinality * found.template.width,
                found.cost,
                found.difference,
            )
        )
    columns = (
        Column(title="cardinality", digits=0),
        Column(title="paper: width", source="Table 2"),
        Column(title="ours: width"),
        Column(title="difference", signed=True),
        Column(title="group width"),
        Column(title="block's parameters"),
        Column(title="to the reference, %", digits=1, signed=True),
    )
    note = "Eqn. 4 solved for the parameters of conv2's block of ResNet-50, to whole widths."
    return (
        Table(
            name="table2",
            title="Width at equal cost",
            columns=columns,
            rows=tuple(rows),
            notes=(note,),
        ),
    )


def _figure(title: str, drawn: Callable[[], tuple[Drawing, ...]]) -> Experiment:
    return Experiment(id=drawn.__name__, title=title, source=title[:6], parts=lambda _: drawn())


TABLE1 = Experiment(id="table1", title="Table 1: architecture", source="Table 1", parts=_table1)
TABLE2 = Experiment(
    id="table2", title="Table 2: cardinality and width", source="Table 2", parts=_table2
)
FIG1 = _figure("Fig. 1: a block of ResNet and a block of ResNeXt", diagrams.fig1)
FIG3 = _figure("Fig. 3: three equivalent forms of a block", diagrams.fig3)
FIG4 = _figure("Fig. 4: blocks of depth 2 gain nothing", diagrams.fig4)
