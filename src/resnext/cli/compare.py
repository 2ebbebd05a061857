"""``resnext compare``: what differs between runs, and by how much their results do."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnext.cli.display import interruptible, loading
from resnext.cli.options import AsJson

if TYPE_CHECKING:
    from resnext.runs.contrast import Contrast, Group, Member


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Folders of runs.")],
    as_json: AsJson = False,
) -> None:
    """Say what differs between runs, and if their results do.

    That is, by more than seeds explain.

    Runs that differ in their seed alone form a group; each other group is compared with the first.
    """
    with interruptible(lambda: "nothing was changed"), loading(stderr=True):
        from resnext.runs import RunFolder
        from resnext.runs.contrast import contrast

        groups, contrasts = contrast([RunFolder.open(run) for run in runs])
    if as_json:
        print(json.dumps(_record(groups, contrasts), indent=2, ensure_ascii=False))
        return
    _print_runs(groups)
    _print_groups(groups)
    for found in contrasts:
        _print_contrast(found)
    if len(contrasts) > 1:
        print(f"\n{len(contrasts)} comparisons are made, each at 95 % by itself.")


def _record(groups: "Sequence[Group]", contrasts: "Sequence[Contrast]") -> dict[str, Any]:
    return {
        "groups": [
            {
                "label": group.label,
                "network": group.members[0].record.network,
                "mean": group.mean,
                "deviation": group.deviation,
                "seeds": [member.record.seed for member in group.counted],
                "notes": list(group.notes()),
                "runs": [_run_record(member) for member in group.members],
            }
            for group in groups
        ],
        "contrasts": [
            {
                "first": found.first.label,
                "second": found.second.label,
                "differences": [asdict(difference) for difference in found.differences],
                "difference": found.difference,
                "test": asdict(found.test) if found.test else None,
                "verdict": found.verdict,
            }
            for found in contrasts
        ],
    }


def _run_record(member: "Member") -> dict[str, Any]:
    last, lowest = member.last, member.best
    return {
        "run": str(member.path),
        "seed": member.record.seed,
        "epochs": len(member.epochs),
        "last_top1_error": last and last.validation_error,
        "last_top5_error": last and last.validation_top5_error,
        "best_top1_error": lowest and lowest.validation_error,
        "train_seconds": sum(epoch.seconds for epoch in member.epochs),
        "left_out": member.left_out,
    }


def _print_runs(groups: "Sequence[Group]") -> None:
    head = ("group", "seed", "last %", "best %", "top-5 %", "train s", "run")
    rows = [_cells(group.label, member) for group in groups for member in group.members]
    _print_aligned([head, *rows])


def _cells(label: str, member: "Member") -> tuple[str, ...]:
    from resnext.cli.display import top5

    last, lowest = member.last, member.best
    classes = len(member.record.data.classes)
    return (
        label,
        str(member.record.seed),
        f"{last.validation_error:.2f}" if last else "–",
        f"{lowest.validation_error:.2f}" if lowest else "–",
        top5(last.validation_top5_error, classes) if last else "–",
        f"{sum(epoch.seconds for epoch in member.epochs):.1f}",
        str(member.path) + (f" (left out: {member.left_out})" if member.left_out else ""),
    )


def _print_groups(groups: "Sequence[Group]") -> None:
    print()
    for group in groups:
        record, count = group.members[0].record, len(group.errors)
        mean = "no finished run"
        if group.mean is not None:
            spread = "" if group.deviation is None else f", deviation {group.deviation:.2f}"
            seeds = "1 seed" if count == 1 else f"{count} seeds"
            mean = f"{group.mean:.2f} % last validation error, {seeds}{spread}"
        print(f"{group.label}  {record.network}, {record.recipe.name}: {mean}")
    for note in (note for group in groups for note in group.notes()):
        print(f"note  {note}")


def _print_contrast(found: "Contrast") -> None:
    first, second = found.first.label, found.second.label
    print(f"\n{second} beside {first}")
    rows = [(d.kind, d.field, _short(d.first), "→", _short(d.second)) for d in found.differences]
    _print_aligned([("  " + row[0], *row[1:]) for row in rows])
    if found.difference is not None:
        print(f"  error   {found.difference:+.2f} points{_interval(found)}")
    print(f"  verdict {found.verdict}")


def _interval(found: "Contrast") -> str:
    if found.test is None:
        return ""
    test = found.test
    p = "p < 0.0001" if test.p < 1e-4 else f"p = {test.p:.4f}"
    return f", 95 % from {test.low:+.2f} to {test.high:+.2f} (Welch's t, {p})"


def _short(value: Any) -> str:
    from resnext.template import shorten

    return "–" if value is None else shorten(str(value))


def _print_aligned(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(f"{cell:<{size}}" for cell, size in zip(row, widths, strict=True)).rstrip())
