"""The shapes that several experiments share: paper beside ours, errors by epoch, errors by size."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean

import resnext
from resnext.experiments.design import Row, Test
from resnext.experiments.findings import Findings, Finished
from resnext.experiments.study import describe
from resnext.report.content import Chart, Column, Line, Table, Value

LAST_NOTE = (
    "Ours is the last epoch's error; the best epoch's, which the authors' code reports, is chosen "
    "by the very images it is measured on."
)
DEMO_NOTE = (
    "Scale demo: small networks of the same design on small images. It shows the method; the "
    "paper's numbers are of other networks and images, and no difference is taken."
)


def by_run(
    findings: Findings,
    rows: Sequence[tuple[Row, float | None]],
    *,
    name: str,
    title: str,
    source: str,
    value: Callable[[Finished], float] = lambda run: run.last.validation_error,
    top: str = "top-1 error, %",
    best: str = "validation_error",
    notes: tuple[str, ...] = (),
) -> Table:
    """Each row's error beside the paper's number: mean, standard error, interval, seeds."""
    columns = (
        Column(title="network"),
        Column(title="run as"),
        Column(title="parameters, M"),
        Column(title="multiply-adds, G", digits=3),
        Column(title=f"paper: {top}", source=source),
        Column(title=f"ours: {top}"),
        Column(title="standard error"),
        Column(title="95 % interval"),
        Column(title="difference", signed=True),
        Column(title="best epoch"),
        Column(title="seeds", digits=0),
        Column(title="commit"),
    )
    demo = findings.study.choices.scale == "demo"
    extra = (DEMO_NOTE,) if demo else _short_note(findings)
    table = Table(
        name=name,
        title=title,
        columns=columns,
        rows=tuple(_row(findings, row, paper, value, best) for row, paper in rows),
        notes=(LAST_NOTE, *extra, *_seed_note(findings), *notes),
    )
    return _without_difference(table) if demo else table


def _without_difference(table: Table) -> Table:
    """The demo takes none, which is another thing than that one is missing."""
    at = [column.title for column in table.columns].index("difference")
    return replace(
        table,
        columns=(*table.columns[:at], *table.columns[at + 1 :]),
        rows=tuple((*row[:at], *row[at + 1 :]) for row in table.rows),
    )


def _row(
    findings: Findings,
    row: Row,
    paper: float | None,
    value: Callable[[Finished], float],
    best_of: str,
) -> tuple[Value, ...]:
    study = findings.study
    spread = findings.spread(row, value)
    best = findings.spread(row, lambda run: getattr(run.best, best_of))
    spec = study.spec(row, study.data_of(row))
    side = findings.resolution(row)
    cost = resnext.complexity(spec, side)
    demo = study.choices.scale == "demo"
    difference = None if demo or paper is None or spread.mean is None else spread.mean - paper
    return (
        row.label,
        describe(spec),
        cost.parameters / 1e6,
        cost.multiply_adds / 1e9,
        paper,
        spread.mean,
        spread.error,
        spread.interval,
        difference,
        best.mean,
        spread.count,
        findings.commits(row),
    )


def _short_note(findings: Findings) -> tuple[str, ...]:
    if findings.study.choices.scale != "short":
        return ()
    kept = {
        f"{run.record.recipe.name} in {run.record.recipe.epochs} epochs"
        for row in findings.study.experiment.rows
        for run in findings.finished(row)
    }
    told = f" ({', '.join(sorted(kept))})" if kept else ""
    return (f"Scale short: the paper's networks with a shortened schedule{told}.",)


def _seed_note(findings: Findings) -> tuple[str, ...]:
    return (f"Seeds asked for: {findings.study.seeds}. The interval is Student's t over seeds.",)


def by_test(
    findings: Findings,
    cells: Sequence[tuple[Row, Test, float | None, float | None]],
    *,
    name: str,
    title: str,
    source: str,
    others: Sequence[tuple[Value, ...]] = (),
    notes: tuple[str, ...] = (),
) -> Table:
    """Errors of further tests beside the paper's; `others` are rows of the paper alone."""
    columns = (
        Column(title="network"),
        Column(title="test"),
        Column(title="paper: top-1 error, %", source=source),
        Column(title="ours: top-1 error, %"),
        Column(title="standard error"),
        Column(title="95 % interval"),
        Column(title="difference", signed=True),
        Column(title="paper: top-5 error, %", source=source),
        Column(title="ours: top-5 error, %"),
        Column(title="seeds", digits=0),
        Column(title="commit"),
    )
    demo = findings.study.choices.scale == "demo"
    blank: tuple[Value, ...] = (None, None, None, None)
    table = Table(
        name=name,
        title=title,
        columns=columns,
        rows=(
            *(_tested(findings, *cell) for cell in cells),
            *((*first, top1, *blank, top5, None, 0, None) for *first, top1, top5 in others),
        ),
        notes=(
            "Of the weights of the best epoch.",
            *((DEMO_NOTE,) if demo else _short_note(findings)),
            *notes,
        ),
    )
    return _without_difference(table) if demo else table


def _tested(
    findings: Findings, row: Row, test: Test, top1: float | None, top5: float | None
) -> tuple[Value, ...]:
    first = findings.spread(row, lambda run: run.test(test.id)["top1_error"])
    fifth = findings.spread(row, lambda run: run.test(test.id)["top5_error"])
    demo = findings.study.choices.scale == "demo"
    difference = None if demo or first.mean is None or top1 is None else first.mean - top1
    return (
        row.label,
        (test.demo if not test.leading else "leading half") if demo else test.title,
        top1,
        first.mean,
        first.error,
        first.interval,
        difference,
        top5,
        fifth.mean,
        first.count,
        findings.commits(row),
    )


def curves(
    findings: Findings,
    rows: Sequence[Row],
    *,
    name: str,
    title: str,
    validation: str = "validation_error",
    notes: tuple[str, ...] = (),
) -> Chart:
    """Training and validation error by epoch, each the mean over seeds, as in Fig. 5.

    `validation` is the field of an epoch's record; an epoch without it stays open.
    """
    lines: list[Line] = []
    for row in rows:
        runs = findings.finished(row)
        if not runs:
            continue
        epochs = tuple(float(e.epoch) for e in runs[0].epochs)
        for word, pick in (("train", "train_error"), ("val", validation)):
            lines.append(
                Line(
                    label=f"{row.label}, {word}",
                    x=epochs,
                    y=tuple(
                        _mean([getattr(run.epochs[at], pick) for run in runs])
                        for at in range(len(epochs))
                    ),
                    dashed=word == "train",
                    group=row.label,
                )
            )
    missing = [row.label for row in rows if not findings.finished(row)]
    told = (f"Missing: {', '.join(missing)}.",) if missing else ()
    return Chart(
        name=name,
        title=title,
        x="epoch",
        y="top-1 error, %",
        lines=tuple(lines),
        notes=(
            "Training errors are of augmented images, each batch counted before its update.",
            *told,
            *notes,
        ),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None


def against_size(
    findings: Findings,
    series: Sequence[tuple[str, Sequence[Row]]],
    *,
    name: str,
    title: str,
    notes: tuple[str, ...] = (),
) -> Chart:
    """Error against parameters with standard errors, as in Fig. 7."""
    lines = []
    for label, rows in series:
        spreads = [findings.spread(row, lambda run: run.last.validation_error) for row in rows]
        study = findings.study
        sizes = tuple(
            resnext.complexity(
                study.spec(row, study.data_of(row)), findings.resolution(row)
            ).parameters
            / 1e6
            for row in rows
        )
        lines.append(
            Line(
                label=label,
                x=sizes,
                y=tuple(spread.mean for spread in spreads),
                error=tuple(spread.error for spread in spreads),
                marks=True,
            )
        )
    return Chart(
        name=name,
        title=title,
        x="parameters, M",
        y="top-1 error, %",
        lines=tuple(lines),
        log_x=True,
        notes=("Bars are one standard error over seeds.", *notes),
    )
