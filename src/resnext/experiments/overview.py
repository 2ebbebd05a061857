"""All experiments at a place, and how far they are, told from the folders alone."""

from pathlib import Path

from resnext.errors import ResNextError
from resnext.experiments.design import Experiment
from resnext.experiments.registry import EXPERIMENTS
from resnext.experiments.study import CLAIM, RESULT
from resnext.runs import RunFolder
from resnext.runs.folder import RECORD


def overview(out: Path) -> list[tuple[str, ...]]:
    """For each experiment: id, title, rows, finished and begun runs, what data the paper had.

    Whether the runs are those of the design is looked at where the experiment itself is asked for.
    """
    return [
        (one.id, one.title, *_counts(one, out), one.data or "none needed") for one in EXPERIMENTS
    ]


def _counts(one: Experiment, out: Path) -> tuple[str, str, str]:
    if one.computed:
        return "–", "yes" if (out / one.id).is_dir() else "–", "–"
    whats = one.whats
    kinds = [
        _finished(folder)
        for what in whats
        for folder in sorted((out / what.home).glob(f"{what.id}-seed*"))
        if not folder.name.endswith(CLAIM)
    ]
    return str(len(whats)), str(kinds.count(True)), str(kinds.count(False))


def _finished(folder: Path) -> bool:
    """Whether a run or measurement is complete; a damaged one is not."""
    if not (folder / RECORD).exists():
        return (folder / RESULT).exists()
    try:
        return RunFolder.open(folder).finished()
    except ResNextError:
        return False
