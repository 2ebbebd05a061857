"""Runs beside each other: what differs, and whether their results do by more than seeds explain.

Runs that differ in their seed alone form a group; what does not decide a result may differ too,
which is said: the machine, places, micro-batches, limits. Groups are compared by the last epoch's
validation error, which nothing was chosen by.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev, variance
from typing import Any, Literal

from resnext.errors import UsageError
from resnext.runs.folder import RunFolder
from resnext.runs.pretrained import Initial
from resnext.runs.records import EpochRecord, RunRecord, best, ended_early

CONFIDENCE = 0.95

Kind = Literal["network", "recipe", "data", "way", "code", "machine"]

_KINDS: dict[str, Kind] = {
    "network": "network",
    "spec": "network",
    "recipe": "recipe",
    "data": "data",
    "commit": "code",
    "versions": "code",
    "machine": "machine",
    "device": "machine",
    "threads": "machine",
    "processes": "machine",
    "micro_batch": "machine",
    "nan_limit": "machine",
    "bad_limit": "machine",
    "data.name": "machine",
    "data.location": "machine",
    "initial_weights.path": "machine",
    "versions.platform": "machine",
}
"""Of fields and of all below them; any other field says in which way the run was computed.

What data and weights are, their fingerprint and SHA-256 say.
"""

_NOT_COMPARED = {"format", "seed", "command", "started"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A field that is not equal; None where it is not there."""

    kind: Kind
    field: str
    first: Any
    second: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A run that was given.

    Attributes:
        left_out: why its result does not count; None where it does.
    """

    path: Path
    record: RunRecord
    epochs: tuple[EpochRecord, ...]
    left_out: str | None = None

    @property
    def last(self) -> EpochRecord | None:
        """The last epoch so far."""
        return self.epochs[-1] if self.epochs else None

    @property
    def best(self) -> EpochRecord | None:
        """The epoch of the lowest validation error so far."""
        return best(self.epochs) if self.epochs else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Runs that differ in their seed alone, and perhaps in what does not decide a result.

    Attributes:
        label: A, B, C, ... in the order in which they were given.
    """

    label: str
    members: tuple[Member, ...]

    @property
    def counted(self) -> tuple[Member, ...]:
        """The finished runs, one of each seed."""
        return tuple(member for member in self.members if member.left_out is None)

    @property
    def errors(self) -> tuple[float, ...]:
        """Validation errors of the last epochs in percent, of the runs that count."""
        return tuple(m.epochs[-1].validation_error for m in self.counted)

    @property
    def mean(self) -> float | None:
        """Of the errors; None where no run counts."""
        return fmean(self.errors) if self.errors else None

    @property
    def deviation(self) -> float | None:
        """The standard deviation of the errors over seeds; None below two."""
        return stdev(self.errors) if len(self.errors) > 1 else None

    def notes(self) -> Iterator[str]:
        """What a reader must know before trusting the group."""
        first = self.members[0].record
        fields = {d.field for m in self.members[1:] for d in record_differences(first, m.record)}
        if fields:
            yield f"{self.label}: its runs differ in {', '.join(sorted(fields))}"
        if first.commit is None or first.commit.endswith("-dirty"):
            code = "an unknown commit" if first.commit is None else "a commit that was changed"
            yield f"{self.label}: made from {code}, so that its code cannot be told exactly"


@dataclass(frozen=True, slots=True, kw_only=True)
class Welch:
    """Welch's t-test of two means.

    Attributes:
        low: of the 95 % interval of the difference, as is `high`.
        p: of a difference at least as large, if there were none in truth.
        freedom: degrees of it.
    """

    low: float
    high: float
    p: float
    freedom: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """A group beside the first one.

    Attributes:
        difference: of the mean errors, in points: the second's minus the first's.
        test: None where it cannot be made.
        verdict: in words, the reason included where nothing can be decided.
    """

    first: Group
    second: Group
    differences: tuple[Difference, ...]
    difference: float | None
    test: Welch | None
    verdict: str


def contrast(folders: Sequence[RunFolder]) -> tuple[tuple[Group, ...], tuple[Contrast, ...]]:
    """Group runs, and compare every other group with the first.

    Raises:
        UsageError: fewer than two runs are given, or one twice.
        CheckpointError: a run is damaged.
    """
    paths = [folder.path.resolve() for folder in folders]
    if len(paths) < 2:
        raise UsageError(f"expected at least two runs to compare, found {len(paths)}")
    for number, path in enumerate(paths):
        if path in paths[:number]:
            raise UsageError(f"expected different runs, found {folders[number].path} twice")
    groups = _groups(folders)
    return groups, tuple(_contrast(groups[0], other) for other in groups[1:])


def _groups(folders: Sequence[RunFolder]) -> tuple[Group, ...]:
    gathered: dict[tuple[tuple[str, str], ...], list[Member]] = {}
    for folder in folders:
        members = gathered.setdefault(_key(folder.record), [])
        members.append(_member(folder, members))
    return tuple(
        Group(label=_label(number), members=tuple(members))
        for number, members in enumerate(gathered.values())
    )


def _key(record: RunRecord) -> tuple[tuple[str, str], ...]:
    """All that runs of one group have in common."""
    return tuple(
        (field, repr(value))
        for field, value in _flat(record).items()
        if _kind(field, record) != "machine"
    )


def _member(folder: RunFolder, before: Sequence[Member]) -> Member:
    record, epochs = folder.record, tuple(folder.epochs())
    same = [m.path for m in before if m.left_out is None and m.record.seed == record.seed]
    left_out = None
    if len(epochs) < record.recipe.epochs and not ended_early(epochs, record.recipe.patience):
        left_out = f"unfinished: {len(epochs)} of {record.recipe.epochs} epochs"
    elif same:
        left_out = f"the same seed as {same[0]}"
    return Member(path=folder.path, record=record, epochs=epochs, left_out=left_out)


def _label(number: int) -> str:
    """A to Z, then AA, AB and so on."""
    rest, letter = divmod(number, 26)
    return (_label(rest - 1) if rest else "") + chr(ord("A") + letter)


def record_differences(first: RunRecord, second: RunRecord) -> Iterator[Difference]:
    """Field by field, what is not equal; seeds, commands and times apart."""
    ours, theirs = _flat(first), _flat(second)
    for field in dict.fromkeys((*ours, *theirs)):
        if ours.get(field) != theirs.get(field):
            yield Difference(
                kind=_kind(field, first, second),
                field=field,
                first=ours.get(field),
                second=theirs.get(field),
            )


def _flat(record: RunRecord) -> dict[str, Any]:
    fields = record.model_dump(mode="json", exclude=_NOT_COMPARED)
    if record.initial_weights is not None:
        initial = Initial.parse(record.initial_weights)
        fields["initial_weights"] = {"path": str(initial.path), "sha256": initial.sha256}
    return dict(_leaves("", fields))


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Dotted names and plain values; a list of plain values is one of them."""
    if isinstance(value, Mapping):
        pairs = [(str(key), inner) for key, inner in value.items()]
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        pairs = [(str(number), inner) for number, inner in enumerate(value)]
    else:
        yield name, value
        return
    for key, inner in pairs:
        yield from _leaves(f"{name}.{key}" if name else key, inner)


def _kind(field: str, *records: RunRecord) -> Kind:
    """Of a field of these records: without parts, normalisation sees a micro-batch at once."""
    if field == "micro_batch" and not all(record.recipe.bn_batch for record in records):
        return "way"
    return _KINDS.get(field) or _KINDS.get(field.partition(".")[0], "way")


def _contrast(first: Group, second: Group) -> Contrast:
    means = first.mean, second.mean
    difference = None if None in means else fmean(second.errors) - fmean(first.errors)
    reason = _not_testable(first, second)
    test = None if reason else welch(first.errors, second.errors)
    return Contrast(
        first=first,
        second=second,
        differences=tuple(record_differences(first.members[0].record, second.members[0].record)),
        difference=difference,
        test=test,
        verdict=reason or _verdict(test),
    )


def _not_testable(first: Group, second: Group) -> str | None:
    """Why no test can be made of two groups."""
    ours, theirs = (group.members[0].record.data.fingerprint for group in (first, second))
    if ours != theirs:
        return "not comparable: they were scored on different data sets"
    for group in (first, second):
        if not group.errors:
            return f"no result: {group.label} has no finished run"
    for group in (first, second):
        if len(group.errors) == 1:
            return f"undecided: {group.label} has one seed, which cannot tell a change from chance"
    if not first.deviation and not second.deviation:
        return "undecided: all seeds of both give one number each, so chance cannot be estimated"
    return None


def welch(first: Sequence[float], second: Sequence[float]) -> Welch:
    """Welch's test of the difference of two means, the second's minus the first's.

    Welch (1947), with the degrees of freedom of Satterthwaite; at least two numbers a side, not
    all equal on both. It takes the numbers for draws from normal distributions.
    """
    from scipy.special import stdtr, stdtrit

    parts = [variance(side) / len(side) for side in (first, second)]
    error = math.sqrt(sum(parts))
    shares = (p**2 / (len(side) - 1) for p, side in zip(parts, (first, second), strict=True))
    freedom = sum(parts) ** 2 / sum(shares)
    difference = fmean(second) - fmean(first)
    half = float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * error
    return Welch(
        low=difference - half,
        high=difference + half,
        p=2 * float(stdtr(freedom, -abs(difference) / error)),
        freedom=freedom,
    )


def _verdict(test: Welch | None) -> str:
    assert test is not None
    if test.p >= 1 - CONFIDENCE:
        return "not told apart: seeds alone explain such a difference"
    return f"{'higher' if test.low > 0 else 'lower'} error, by more than seeds alone explain"
