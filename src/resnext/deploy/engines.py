"""What runs a network: a library by name, or whichever is fastest here and computes the same."""

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from resnext.deploy.artifact import Artifact
from resnext.deploy.libraries import (
    ENGINES,
    ENGINES_OF_GRAPHS,
    NO_CALIBRATION,
    Engine,
    check_engine,
    graph_of,
    missing,
    open_library,
)
from resnext.deploy.parity import Forward, in_batches, noise, parity, reference, tolerance
from resnext.errors import ResourceError, UsageError

__all__ = ["AUTO", "TRIED", "Choice", "Engine", "Trial", "choose", "open_engine", "timed"]

AUTO = "auto"
TRIED = ("torch", "onnxruntime", "openvino")
"""What `auto` chooses among. To compile takes a minute, and longer than it saves."""

_ROUNDS = 5
_SLOW = 1.3  # times the best so far: such an engine is not timed again


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """An engine that `auto` looked at.

    Attributes:
        name: of the engine.
        precision: of its arithmetic.
        seconds: for a batch, the median; None where it was not timed.
        difference: from the reference, in units of the largest logit; None where it did not run.
        refused: why it cannot be chosen; None if it can.
    """

    name: str
    precision: str
    seconds: float | None = None
    difference: float | None = None
    refused: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The fastest engine that computes the network, and what it was chosen among."""

    engine: Engine
    trials: tuple[Trial, ...]

    def __str__(self) -> str:
        parts = [_told(trial) for trial in self.trials]
        return f"{self.engine.name} {self.engine.precision}, the fastest of {'; '.join(parts)}"


def open_engine(
    artifact: Artifact,
    name: str = AUTO,
    precision: str = "fp32",
    *,
    calibration: Tensor | None = None,
    batch_size: int = 1,
) -> Engine:
    """The network of an artifact, ready to run on as many threads as torch has.

    Args:
        artifact: the network with its weights.
        name: ``torch``: eager, normalisation folded, channels last. ``compile``: the same compiled
            by inductor with its weights frozen; opening it takes a minute. ``onnxruntime`` and
            ``openvino``: an ONNX graph of it in these libraries. ``auto``: see `choose`.
        precision: of the arithmetic: fp32, bf16 or int8.
        calibration: prepared images, N x C x H x W, from which int8 learns its ranges.
        batch_size: images at once that ``auto`` is to be fast with.

    Raises:
        UsageError: there is no such engine or precision, or it is not installed.
        ResourceError: this machine cannot do it: no bf16 arithmetic, no compiler.
    """
    if name != AUTO:
        return open_library(artifact, name, precision, calibration)
    return choose(artifact, precision, calibration=calibration, batch_size=batch_size).engine


def choose(
    artifact: Artifact,
    precision: str = "fp32",
    *,
    calibration: Tensor | None = None,
    batch_size: int = 1,
    names: Sequence[str] = TRIED,
) -> Choice:
    """Time the engines here, in turn, and take the fastest that computes the network.

    Each has to agree with the network in float64 within the room of its precision (see `parity`);
    in int8, whose error depends on the network, on the most likely class of nine images in ten.

    Raises:
        UsageError: none of them has this precision, or int8 lacks images.
        ResourceError: none is at hand here and agrees.
    """
    known = [name for name in names if precision in ENGINES[name]]
    if not known:
        raise UsageError(f"expected precision fp32, bf16 or int8, found {precision!r}")
    if precision == "int8" and calibration is None:
        raise UsageError(NO_CALIBRATION)
    images = noise(artifact, batch_size)
    compared = noise(artifact, 2) if calibration is None else calibration
    wanted = in_batches(reference(artifact), compared)
    room = tolerance(artifact, compared, wanted, precision)
    trials: dict[str, Trial] = {}
    ready: dict[str, Engine] = {}
    for name, found in _opened(artifact, known, precision, calibration):
        if isinstance(found, str):
            trials[name] = Trial(name=name, precision=precision, refused=found)
            continue
        trials[name] = _compared(found, compared, wanted, room)
        if trials[name].refused is None:
            ready[name] = found
    if not ready:
        reasons = "; ".join(f"{name}: {trial.refused}" for name, trial in trials.items())
        raise ResourceError(f"expected an engine for {precision} here, found none: {reasons}")
    seconds = timed(dict(ready), images)
    best = min(seconds, key=seconds.__getitem__)
    told = [
        Trial(
            name=name,
            precision=precision,
            seconds=seconds.get(name),
            difference=trial.difference,
            refused=trial.refused,
        )
        for name, trial in trials.items()
    ]
    return Choice(engine=ready[best], trials=tuple(told))


def timed(engines: dict[str, Forward], images: Tensor) -> dict[str, float]:
    """Seconds for a batch, the median of a few in turn; slow ones are timed once."""
    found: dict[str, list[float]] = {}
    for name, engine in engines.items():
        engine(images)  # its memory is made now
        found[name] = [_seconds(engine, images)]
    best = min(first for (first,) in found.values())
    left = [name for name, (first,) in found.items() if first <= _SLOW * best]
    for _ in range(_ROUNDS - 1 if len(left) > 1 else 0):
        for name in left:
            found[name].append(_seconds(engines[name], images))
    return {name: statistics.median(times) for name, times in found.items()}


def _seconds(engine: Forward, images: Tensor) -> float:
    started = time.perf_counter()
    engine(images)
    return time.perf_counter() - started


def _opened(
    artifact: Artifact, names: Sequence[str], precision: str, calibration: Tensor | None
) -> Iterator[tuple[str, Engine | str]]:
    """Each engine, or why there is none; those of graphs share one."""
    graph: bytes | None = None
    for name in names:
        try:
            if why := missing(name):
                yield name, why
            elif name not in ENGINES_OF_GRAPHS:
                yield name, open_library(artifact, name, precision, calibration)
            else:
                check_engine(name, precision)
                graph = graph or graph_of(artifact, precision, calibration)
                yield name, ENGINES_OF_GRAPHS[name](graph, precision)
        except ResourceError as error:
            yield name, str(error)


def _compared(engine: Engine, images: Tensor, wanted: Tensor, room: float | None) -> Trial:
    found = parity(wanted, in_batches(engine, images), images.shape[-1])
    refused = None
    if engine.precision == "int8" and found.agreement < AGREEMENT:
        refused = f"agrees on {100 * found.agreement:.0f} % of the images"
    if room is not None and not found.relative <= room:
        refused = f"differs by {found.relative:.1e} of the largest logit, more than {room:.1e}"
    return Trial(
        name=engine.name, precision=engine.precision, difference=found.relative, refused=refused
    )


AGREEMENT = 0.9
"""Part of the images whose class int8 must leave; a float engine's error is bounded instead."""


def _told(trial: Trial) -> str:
    if trial.refused is not None:
        return f"{trial.name} ({trial.refused})"
    assert trial.seconds is not None
    return f"{trial.name} {1000 * trial.seconds:.1f} ms"
