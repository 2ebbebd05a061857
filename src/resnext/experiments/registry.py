"""Every table and figure that can be made again."""

from difflib import get_close_matches

from resnext.errors import UsageError
from resnext.experiments.cifar import FIG7, TABLE7
from resnext.experiments.design import Experiment
from resnext.experiments.forms import FORMS_EXPERIMENT

EXPERIMENTS: tuple[Experiment, ...] = (TABLE7, FIG7, FORMS_EXPERIMENT)


def experiment(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        UsageError: there is none; the message names the nearest.
    """
    known = [one.id for one in EXPERIMENTS]
    for one in EXPERIMENTS:
        if one.id == name.lower():
            return one
    raise UsageError(f"expected {', '.join(known)}, found {name!r}{_near(name.lower(), known)}")


def chosen(whole: Experiment, rows: list[str]) -> Experiment:
    """The experiment with some of its rows.

    Raises:
        UsageError: it has no such row; the message names the nearest.
    """
    known = [one.id for one in whole.whats]
    for row in rows:
        if row not in known:
            raise UsageError(
                f"expected --only with a row of {whole.id}, {', '.join(known) or 'which has none'}"
                f"; found {row!r}{_near(row, known)}"
            )
    return whole.only(rows) if rows else whole


def _near(word: str, known: list[str]) -> str:
    near = get_close_matches(word, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
