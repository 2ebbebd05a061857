"""What a page says of one run, or of several beside each other."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from resnext.complexity import Complexity, complexity
from resnext.data import profile
from resnext.errors import UsageError
from resnext.report import Chart, Column, Line, Part, Photos, Report, Table, Value, write_report
from resnext.report.diagrams import Form, block_drawing, network_drawing
from resnext.runs.curve import Curve
from resnext.runs.folder import RunFolder
from resnext.runs.provenance import as_typed
from resnext.runs.records import EpochRecord, best, differences, ended_early

PAGE, BESIDE = "report", "report"
"""The page in a run's folder, and the folder beside it for its other forms."""

_FEW = 3
"""Facts of several runs that are all shown."""


def write_run_report(folder: RunFolder, mistakes: Photos | None = None) -> Path:
    """Write the page of a run into its folder: `report.html`, its other forms into `report/`.

    `mistakes` are pictures from `worst_mistakes`.

    Raises:
        ResourceError: it cannot be written.
    """
    report = run_report([folder])
    if mistakes is not None:
        report = replace(report, parts=(*report.parts, mistakes))
    page, *_ = write_report(report, folder.path, beside=folder.path / BESIDE)
    return page


def run_report(folders: Sequence[RunFolder], *, name: str = PAGE) -> Report:
    """The report of runs; of one, with its network and provenance in full.

    Raises:
        UsageError: no run is given, or one twice.
        CheckpointError: a run is damaged.
    """
    labels = _labels(folders)
    epochs = [folder.epochs() for folder in folders]
    alone = len(folders) == 1
    parts: list[Part] = [_errors(labels, folders, epochs), *_curves(labels, epochs)]
    if alone:
        parts += _network(folders[0])
    else:
        parts.append(_differing(labels, folders))
    return Report(
        name=name,
        title=folders[0].record.network if alone else f"{len(folders)} runs",
        summary=tuple(
            _sentence(*of, alone=alone) for of in zip(labels, folders, epochs, strict=True)
        ),
        parts=tuple(parts),
        facts=_facts_of_all(folders),
    )


def _labels(folders: Sequence[RunFolder]) -> list[str]:
    """The names of the folders, with as much of their paths as tells them apart."""
    if not folders:
        raise UsageError("expected a run to report on, found none")
    paths = [folder.path.resolve() for folder in folders]
    if len(set(paths)) < len(paths):
        raise UsageError(f"expected different runs, found {_twice(paths)} twice")
    deep = 1
    while len({path.parts[-deep:] for path in paths}) < len(paths):
        deep += 1
    return ["/".join(path.parts[-deep:]) for path in paths]


def _twice(paths: Sequence[Path]) -> Path:
    return next(path for path in paths if paths.count(path) > 1)


def _sentence(label: str, folder: RunFolder, epochs: Sequence[EpochRecord], *, alone: bool) -> str:
    record = folder.record
    who = f"Recipe {record.recipe.name}" if alone else label
    if not epochs:
        return f"{who}: no epoch of {record.recipe.epochs} is finished."
    lowest = best(epochs)
    patience = record.recipe.patience
    early = len(epochs) < record.recipe.epochs and ended_early(epochs, patience)
    why = f" (patience {patience} ended it)" if early else ""
    words = (
        f"{who}: {epochs[-1].validation_error:.2f} % validation error after {len(epochs)} of "
        f"{record.recipe.epochs} epochs{why} on {record.data.name}; at best "
        f"{lowest.validation_error:.2f} % (epoch {lowest.epoch})."
    )
    curve = Curve.of(record) if alone else None
    verdict = "" if curve is None else f" It is {curve.verdict(epochs)}."
    return words + verdict + (_replaced(folder) if alone else "")


def _replaced(folder: RunFolder) -> str:
    """A sentence on images that could not be used, where there are some."""
    bad = folder.bad_images()
    if not bad:
        return ""
    count = len({one.image for one in bad})
    which = (
        "1 image could not be used and another stood in for it"
        if count == 1
        else f"{count} images could not be used and others stood in for them, first of all"
    )
    return f" {which}: {bad[0].image} ({bad[0].reason})."


def _errors(
    labels: Sequence[str], folders: Sequence[RunFolder], epochs: Sequence[Sequence[EpochRecord]]
) -> Table:
    return Table(
        name="errors",
        title="Errors",
        columns=(
            Column(title="run"),
            Column(title="epochs"),
            Column(title="last, top-1 %"),
            Column(title="last, top-5 %"),
            Column(title="best, top-1 %"),
            Column(title="training, top-1 %"),
            Column(title="images/s", digits=0),
            Column(title="training, s", digits=0),
            Column(title="skipped updates"),
            Column(title="seed"),
        ),
        rows=tuple(
            (
                label,
                f"{len(done)} of {folder.record.recipe.epochs}",
                *_figures(done),
                folder.record.seed,
            )
            for label, folder, done in zip(labels, folders, epochs, strict=True)
        ),
        notes=("The best epoch is chosen by the images it is scored on: compare last with last.",),
    )


def _figures(epochs: Sequence[EpochRecord]) -> tuple[Value, ...]:
    if not epochs:
        return (None,) * 7
    last = epochs[-1]
    return (
        last.validation_error,
        last.validation_top5_error,
        best(epochs).validation_error,
        last.train_error,
        last.images_per_second,
        sum(epoch.seconds for epoch in epochs),
        last.skipped,
    )


def _curves(labels: Sequence[str], epochs: Sequence[Sequence[EpochRecord]]) -> list[Chart]:
    """Training dashed, validation whole, as in Fig. 5."""
    return [
        _chart("error", "Error by epoch", "top-1 error, %", labels, epochs,
               ("validation", lambda e: e.validation_error), ("training", lambda e: e.train_error),
               *_leading(epochs)),
        _chart("loss", "Loss by epoch", "loss, nats", labels, epochs,
               ("validation", lambda e: e.validation_loss), ("training", lambda e: e.train_loss)),
        _chart("rate", "Learning rate", "learning rate", labels, epochs,
               ("", lambda e: e.learning_rate)),
    ]  # fmt: skip


def _leading(
    epochs: Sequence[Sequence[EpochRecord]],
) -> list[tuple[str, Callable[[EpochRecord], float | None]]]:
    """A further line of runs that score their leading classes on their own."""
    if all(epoch.leading_error is None for done in epochs for epoch in done):
        return []
    return [("validation, leading classes", lambda e: e.leading_error)]


def _chart(
    name: str,
    title: str,
    y: str,
    labels: Sequence[str],
    epochs: Sequence[Sequence[EpochRecord]],
    *kinds: tuple[str, Callable[[EpochRecord], float | None]],
) -> Chart:
    several = len(labels) > 1
    lines = [
        Line(
            label=", ".join(filter(None, [label if several else "", kind])) or y,
            x=tuple(float(epoch.epoch) for epoch in done),
            y=tuple(value(epoch) for epoch in done),
            dashed=kind == "training",
            group=label if several else kind,
            marks=len(done) == 1,
        )
        for label, done in zip(labels, epochs, strict=True)
        for kind, value in kinds
    ]
    return Chart(name=name, title=title, x="epoch", y=y, lines=tuple(lines))


def _network(folder: RunFolder) -> list[Part]:
    spec = folder.spec()
    *_, block = next(iter(spec.blocks()))
    form: Form = "grouped" if block.homogeneous else "split"
    side = profile(folder.record.profile).resolution
    return [
        network_drawing(spec, side),
        _cost(complexity(spec, side)),
        block_drawing(block, form, name="block", title="The first block"),
    ]


def _cost(cost: Complexity) -> Table:
    rows: list[tuple[Value, ...]] = [
        (
            stage.name,
            f"{stage.channels} × {stage.height} × {stage.width}",
            stage.parameters,
            stage.multiply_adds,
        )
        for stage in cost.stages
    ]
    return Table(
        name="cost",
        title="Cost by stage",
        columns=(
            Column(title="stage"),
            Column(title="output"),
            Column(title="parameters"),
            Column(title="multiply-adds"),
        ),
        rows=(*rows, ("all", "", cost.parameters, cost.multiply_adds)),
    )


def _differing(labels: Sequence[str], folders: Sequence[RunFolder]) -> Table:
    """What decides the runs and is not equal, beside the first."""
    first = folders[0].record
    rows = [
        (label, text)
        for label, folder in zip(labels[1:], folders[1:], strict=True)
        for text in _told(differences(first, folder.record)) or ["nothing"]
    ]
    return Table(
        name="differences",
        title=f"What differs from {labels[0]}",
        columns=(Column(title="run"), Column(title="difference")),
        rows=tuple(rows),
    )


def _told(odd: Iterable[str]) -> list[str]:
    """Differences without the specification's, where the network's name says it."""
    texts = list(odd)
    named = any(text.startswith("network ") for text in texts)
    return [text for text in texts if not (named and text.startswith("spec "))]


def _facts_of_all(folders: Sequence[RunFolder]) -> dict[str, str]:
    """The provenance of the runs, each fact once; of many different ones, the first."""
    facts = [_facts(folder) for folder in folders]
    found = {name: list(dict.fromkeys(one[name] for one in facts)) for name in facts[0]}
    return {
        name: "; ".join(texts) if len(texts) <= _FEW else f"{texts[0]} … ({len(texts)} different)"
        for name, texts in found.items()
    }


def _facts(folder: RunFolder) -> dict[str, str]:
    record = folder.record
    recipe = ", ".join(
        f"{field} {value}" for field, value in record.recipe.model_dump(mode="json").items()
    )
    return {
        "command": as_typed(record.command),
        "commit": record.commit or "unknown",
        "started": record.started,
        "seed": str(record.seed),
        "machine": record.machine or "unknown",
        "device": f"{record.device}, threads {record.threads}, processes {record.processes}",
        "precision": record.precision,
        "images": f"{record.data.name}, {record.data.fingerprint[:12]}",
        "preprocessing": f"profile {record.profile}, {record.engine}",
        "weights begun with": record.initial_weights or "random",
        "recipe": recipe,
        "versions": ", ".join(f"{name} {text}" for name, text in record.versions.items()),
    }
