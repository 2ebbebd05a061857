"""Several networks, and scores that were kept, one after the other; and their ensemble."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from resnext.data import DataSet, profile
from resnext.errors import UsageError
from resnext.evaluation.protocols import SINGLE, Average
from resnext.evaluation.readings import Reading, read, ways
from resnext.evaluation.score_files import About, Scored, ensemble, is_scores, load_scores, shares
from resnext.evaluation.scores import Part
from resnext.runs.candidates import candidate, check_weights, needs_weights
from resnext.runs.planning import resolve_device
from resnext.runs.scoring import USUAL, Evaluation, Settings, described, evaluate_candidate
from resnext.training.distributed import ALONE, World


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """How scores become those of an ensemble.

    Attributes:
        weights: one for each network; equal ones if left out.
        average: of probabilities, or of the scores themselves.
    """

    weights: tuple[float, ...] | None = None
    average: Average = "probabilities"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reread:
    """What scores say that were measured before: of a file, or of an ensemble."""

    given: str
    about: About
    readings: tuple[Reading, ...]
    scored: Scored

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"run": self.given, **described(self.about, self.readings)}


def compare(
    given: Sequence[str],
    data: str | Path | DataSet | None = None,
    settings: Settings = USUAL,
    *,
    weights: Sequence[Path] = (),
    profile_name: str | None = None,
    mix: Mix | None = None,
    device: str | None = None,
    asked: Mapping[str, object] = MappingProxyType({}),
    world: World = ALONE,
) -> Iterator[Part | Evaluation | Reread]:
    """Score everything given, in turn: one result for each, behind the last that of the ensemble.

    Args:
        given: whatever `candidate` understands, and files of scores.
        data: the images; a run's own if left out.
        settings: how.
        weights: the files of those that are names, in their order.
        profile_name: instead of each network's own profile.
        mix: how to make an ensemble; none if left out.
        device: as torch names it.
        asked: options that say how or on what to score, as they were given; they mean nothing where
            all was scored before.
        world: the processes.

    Raises:
        ResNextError: something does not exist or does not fit.
    """
    where = resolve_device(device, world.local_rank)
    files = _files(given, weights)
    if mix is not None:
        shares(len(given), mix.weights)
    stored = {text: load_scores(Path(text)) for text in given if is_scores(Path(text))}
    _check_measured(given, stored, settings, profile_name, asked)
    settings = replace(settings, keep=settings.keep or mix is not None)
    members: list[Scored] = []
    for text, file in zip(given, files, strict=True):
        if text in stored:
            result: Evaluation | Reread = reread(text, stored[text], settings.ways)
        else:
            found = candidate(text, file, profile_name=profile_name, device=where)
            for progress in evaluate_candidate(found, data, settings, device=where, world=world):
                if isinstance(progress, Part):
                    yield progress
                else:
                    result = progress
        yield result
        if mix is not None and result.scored is not None:
            members.append(result.scored)
    if mix is not None:
        made = ensemble(members, mix.weights, mix.average)
        yield reread("ensemble", made, settings.ways)


def reread(given: str, scored: Scored, asked: str | None = None) -> Reread:
    """The figures of scores that are there.

    Raises:
        UsageError: they are not of as many classes as asked for.
        DataError: a label lies beyond these classes.
    """
    readings = tuple(
        read(scored.scores, scored.labels, classes=classes, average=scored.about.average)
        for classes in ways(scored.scores.shape[1], asked)
    )
    return Reread(given=given, about=scored.about, readings=readings, scored=scored)


def _check_measured(
    given: Sequence[str],
    stored: Mapping[str, Scored],
    settings: Settings,
    profile_name: str | None,
    asked: Mapping[str, object],
) -> None:
    """Refuse scores that were measured in another way than asked for, before anything is scored.

    Raises:
        UsageError: an option that nothing follows, or another protocol or profile.
    """
    if not stored:
        return
    if asked and all(text in stored for text in given):
        found = " ".join(
            name if value is True else f"{name} {value}" for name, value in asked.items()
        )
        raise UsageError(
            f"expected no {', '.join(asked)} for scores that were measured before, found {found}; "
            "leave that out, or give the networks themselves"
        )
    wanted: dict[str, str] = {}
    if "--protocol" in asked or settings.protocol != SINGLE:
        wanted["protocol"] = str(settings.protocol)
    if profile_name is not None:
        wanted["profile"] = settings.protocol.prepared(profile(profile_name)).name
    for text, scored in stored.items():
        for field, expected in wanted.items():
            measured = getattr(scored.about, field)
            if measured != expected:
                raise UsageError(
                    f"expected scores of {field} {expected}, found {measured} in {text}; leave out "
                    f"--{field}, or score its network again"
                )


def _files(given: Sequence[str], weights: Sequence[Path]) -> list[Path | None]:
    """The file of weights of each, in the order of those that are names."""
    names = [text for text in given if needs_weights(text)]
    check_weights(len(names), len(weights))
    left = iter(weights)
    return [next(left, None) if needs_weights(text) else None for text in given]
