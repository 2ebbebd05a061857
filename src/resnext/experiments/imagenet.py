"""Sec. 5.1 and 5.2: Tables 3 to 6, Figs. 5 and 6, and the networks without shortcuts."""

from collections.abc import Sequence
from dataclasses import replace

from resnext.budget import solve
from resnext.catalog import spec
from resnext.experiments.design import Experiment, Row, Small, Test
from resnext.experiments.findings import Findings, Finished
from resnext.experiments.paper import number
from resnext.experiments.tables import by_run, by_test, curves
from resnext.report.content import Part

PROFILE = "torch7-224"
_BASE = Small(template="1x32d")
_IMAGENET = "ImageNet-1K (1000 classes)"


def _equal(cardinality: int) -> str:
    """The template that costs as much as the small base network's block (Eqn. 4)."""
    return str(solve(cardinality, _BASE.spec(32)).template)


def _row(name: str, label: str, small: Small, home: str, recipe: str = "imagenet-100") -> Row:
    return Row(
        id=name,
        home=home,
        label=label,
        spec=spec(name),
        small=small,
        recipe=recipe,
        profile=PROFILE,
    )


# Cardinalities 1 to 32 of the paper stand beside 1 to 16 of the small networks.
_CARDINALITIES = (("2x40d", 2), ("4x24d", 4), ("8x14d", 8), ("32x4d", 16))


def _table3_rows(depth: int, blocks: int) -> tuple[Row, ...]:
    first = _row(
        f"resnet{depth}", f"ResNet-{depth} (1x64d)", replace(_BASE, blocks=blocks), "table3"
    )
    return (
        first,
        *(
            _row(
                f"resnext{depth}_{template}",
                f"ResNeXt-{depth} ({template})",
                Small(template=_equal(small), blocks=blocks),
                "table3",
            )
            for template, small in _CARDINALITIES
        ),
    )


DEPTH_50, DEPTH_101 = _table3_rows(50, 1), _table3_rows(101, 2)
R50, X50 = DEPTH_50[0], DEPTH_50[-1]
R101, X101 = DEPTH_101[0], DEPTH_101[-1]

R200 = _row(
    "preact_resnet200",
    "ResNet-200 (1x64d)",
    replace(_BASE, blocks=4, preactivation=True),
    "table4",
)
WIDER = _row(
    "resnet101_1x100d", "ResNet-101, wider (1x100d)", Small(template="1x50d", blocks=2), "table4"
)
X101_2 = _row(
    "resnext101_2x64d", "ResNeXt-101 (2x64d)", Small(template="2x32d", blocks=2), "table4"
)
X101_64 = _row(
    "resnext101_64x4d",
    "ResNeXt-101 (64x4d)",
    Small(template=f"32x{_equal(16).partition('x')[2]}", blocks=2),
    "table4",
)


def _error(source: str, row: Row, column: str = "top-1") -> tuple[Row, float | None]:
    return row, number(source, row.label, column)


def _top5(run: Finished) -> float:
    return run.last.validation_top5_error


def _table3(findings: Findings) -> Sequence[Part]:
    rows = (*DEPTH_50, *DEPTH_101)
    return (
        by_run(
            findings,
            [_error("Table 3", row) for row in rows],
            name="table3",
            title="Cardinality against width at equal cost",
            source="Table 3",
        ),
        *_fig5(findings),
    )


def _fig5(findings: Findings) -> Sequence[Part]:
    return tuple(
        curves(
            findings,
            (first, last),
            name=f"fig5-{depth}",
            title=f"Fig. 5: errors by epoch, {first.label} and {last.label}",
        )
        for depth, first, last in ((50, R50, X50), (101, R101, X101))
    )


_TABLE4 = (R101, X101, R200, WIDER, X101_2, X101_64)


def _table4(findings: Findings) -> Sequence[Part]:
    return (
        by_run(
            findings,
            [_error("Table 4", row) for row in _TABLE4],
            name="table4-top1",
            title="Twice the cost: deeper, wider, or more cardinality",
            source="Table 4",
        ),
        by_run(
            findings,
            [_error("Table 4", row, "top-5") for row in _TABLE4],
            name="table4-top5",
            title="The same, top-5",
            source="Table 4",
            top="top-5 error, %",
            value=_top5,
            best="validation_top5_error",
        ),
    )


def _bare(row: Row) -> Row:
    """The row's network without shortcuts."""
    name = f"{row.id}_noshortcut"
    small = replace(row.small, shortcut="none")
    return replace(row, id=name, home="residual", spec=spec(name), small=small)


BARE = {row.id: _bare(row) for row in (R50, X50)}
_RESIDUAL = "Sec. 5.1, residual connections"


def _residual(findings: Findings) -> Sequence[Part]:
    pairs: list[tuple[Row, float | None]] = []
    for row in (R50, X50):
        pairs.append((row, number(_RESIDUAL, row.label, "with")))
        bare = replace(BARE[row.id], label=f"{row.label}, no shortcuts")
        pairs.append((bare, number(_RESIDUAL, row.label, "without")))
    return (
        by_run(
            findings,
            pairs,
            name="residual",
            title="Networks with and without shortcuts",
            source=_RESIDUAL,
            notes=("Projections are left out with the identities.",),
        ),
    )


AT_224 = Test(id="at-224", title="224", protocol="center-224")
AT_320 = Test(
    id="at-320", title="320", protocol="center-320,convolutional", demo="single view,flip"
)
DENSE = Test(
    id="dense", title="multi-scale dense", protocol="dense-multiscale", demo="single view,flip"
)
_DEMO_VIEWS = (
    "The demo's pictures have one size: the mean over the picture and its mirror image stands in "
    "for larger and for many views."
)

T5_R101 = replace(R101, tests=(AT_224,))
T5_R200 = replace(R200, tests=(AT_224, AT_320))
T5_X101 = replace(X101_64, tests=(AT_224, AT_320))
DENSE_X101 = replace(X101_64, tests=(DENSE,))
_LABELS = {R200.id: "ResNet-200", R101.id: "ResNet-101", X101_64.id: X101_64.label}


def _table5(findings: Findings) -> Sequence[Part]:
    cells = [
        (row, test, _paper5(row, test, "top-1"), _paper5(row, test, "top-5"))
        for row in (T5_R101, T5_R200, T5_X101)
        for test in row.tests
    ]
    others = [
        (
            name,
            "299",
            number("Table 5", name, "top-1 at 299"),
            number("Table 5", name, "top-5 at 299"),
        )
        for name in ("Inception-v3", "Inception-v4", "Inception-ResNet-v2")
    ]
    return (
        by_test(
            findings,
            cells,
            others=others,
            name="table5",
            title="State of the art, one crop",
            source="Table 5",
            notes=(_DEMO_VIEWS, _AT_320_NOTE),
        ),
    )


_AT_320_NOTE = (
    "320 is the whole 320 crop, the classifier at every position. Inception networks are not ours: "
    "`resnext evaluate timm:NAME --weights FILE` scores them."
)


def _paper5(row: Row, test: Test, top: str) -> float | None:
    return number("Table 5", _LABELS[row.id], f"{top} at {test.title}")


_MULTISCALE = "Sec. 5.1, multi-scale dense testing"


def _multiscale(findings: Findings) -> Sequence[Part]:
    top1, top5 = (number(_MULTISCALE, X101_64.label, top) for top in ("top-1", "top-5"))
    return (
        by_test(
            findings,
            [(DENSE_X101, DENSE, top1, top5)],
            name="multiscale",
            title="Many scales, every position",
            source=_MULTISCALE,
            notes=(_DEMO_VIEWS,),
        ),
    )


ONE_K = Test(id="leading", title="1K-way", leading=True)


def _five_k(row: Row) -> Row:
    name = f"{row.id}_5000classes"
    return replace(
        row, id=name, home="table6", spec=spec(name), recipe="imagenet-5k", tests=(ONE_K,)
    )


TABLE6_ROWS = tuple(_five_k(row) for row in (R50, X50, R101, X101))


def _table6(findings: Findings) -> Sequence[Part]:
    return (
        by_run(
            findings,
            [_error("Table 6", row, "5K-way top-1") for row in TABLE6_ROWS],
            name="table6-5k",
            title="5K-way: among all classes that were trained",
            source="Table 6, 5K-way",
        ),
        by_test(
            findings,
            [
                (
                    row,
                    ONE_K,
                    number("Table 6", row.label, "1K-way top-1"),
                    number("Table 6", row.label, "1K-way top-5"),
                )
                for row in TABLE6_ROWS
            ],
            name="table6-1k",
            title="1K-way: images of the leading classes, among these alone",
            source="Table 6, 1K-way",
            notes=("At the scale demo the leading classes are half of them.",),
        ),
        *_fig6(findings),
    )


def _fig6(findings: Findings) -> Sequence[Part]:
    return tuple(
        curves(
            findings,
            pair,
            name=f"fig6-{place}",
            title=f"Fig. 6: errors by epoch, {pair[0].label} and {pair[1].label}",
            validation="leading_error",
            notes=("Validation is 1K-way, as in the paper; training is 5K-way.",),
        )
        for place, pair in ((50, TABLE6_ROWS[:2]), (101, TABLE6_ROWS[2:]))
    )


_FIVE_K = "a list of `resnext data subset-5k` (5000 classes)"
TABLE3 = Experiment(
    id="table3",
    title="Table 3: cardinality against width",
    source="Table 3",
    rows=(*DEPTH_50, *DEPTH_101),
    parts=_table3,
    data=_IMAGENET,
)
FIG5 = Experiment(
    id="fig5",
    title="Fig. 5: training curves",
    source="Fig. 5",
    rows=(R50, X50, R101, X101),
    parts=_fig5,
    data=_IMAGENET,
)
TABLE4 = Experiment(
    id="table4",
    title="Table 4: twice the cost",
    source="Table 4",
    rows=_TABLE4,
    parts=_table4,
    data=_IMAGENET,
)
RESIDUAL = Experiment(
    id="residual",
    title="Residual connections",
    source=_RESIDUAL,
    rows=(R50, BARE[R50.id], X50, BARE[X50.id]),
    parts=_residual,
    data=_IMAGENET,
)
TABLE5 = Experiment(
    id="table5",
    title="Table 5: state of the art",
    source="Table 5",
    rows=(T5_R101, T5_R200, T5_X101),
    parts=_table5,
    data=_IMAGENET,
)
MULTISCALE = Experiment(
    id="multiscale",
    title="Multi-scale dense testing",
    source=_MULTISCALE,
    rows=(DENSE_X101,),
    parts=_multiscale,
    data=_IMAGENET,
)
TABLE6 = Experiment(
    id="table6",
    title="Table 6: ImageNet-5K",
    source="Table 6",
    rows=TABLE6_ROWS,
    parts=_table6,
    data=_FIVE_K,
)
FIG6 = replace(
    TABLE6, id="fig6", title="Fig. 6: training curves on ImageNet-5K", source="Fig. 6", parts=_fig6
)
