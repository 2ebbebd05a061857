"""Where the time of a training step goes on a processor: operation by operation, kernel by kernel.

Torch's profiler says which operations; oneDNN, which computes most of them, says which kernel each
one got. A kernel that it calls a reference is plain loops, for shapes that nothing better takes:
no network of ours should meet one. Torch has a fallback of its own, `_slow_conv2d`: it takes 1x1
convolutions of fewer than 16 images on one thread.
"""

import ctypes
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch

from resnext.benchmark.steps import OURS, Mode, Setting, methods
from resnext.errors import UsageError

_WARM_UP = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """An operation of torch, or a kernel of oneDNN inside one, over a step.

    Attributes:
        fallback: a kernel of plain loops, or an operation that torch calls slow itself.
        share: of all operations, or of all kernels, in percent.
    """

    level: Literal["operation", "kernel"]
    name: str
    calls: int
    milliseconds: float
    share: float
    fallback: bool = False

    @property
    def worth_saying(self) -> bool:
        """Half a percent and more, or a fallback."""
        return self.share >= 0.5 or self.fallback


def profile_training(setting: Setting, mode: Mode = "channels-last") -> list[Share]:
    """One step of our trainer: operations, then kernels, the longest first.

    Raises:
        UsageError: the device is not a processor.
    """
    if setting.device.type != "cpu":
        raise UsageError(f"expected the processor to profile, found {setting.device}")
    torch.set_num_threads(setting.threads)
    step = methods(setting, mode)[OURS]()
    for _ in range(_WARM_UP):
        step()
    with (
        tempfile.TemporaryFile("w+") as noise,  # what the profiler's own parts say to the terminal
        _output_to(noise.fileno()),
        torch.autograd.profiler.profile(use_kineto=False) as profile,
    ):
        step()
    operations = [
        (event.key, event.count, event.self_cpu_time_total / 1000, "_slow_" in event.key)
        for event in profile.key_averages()
        if event.self_cpu_time_total > 0
    ]
    return [*_shares("operation", operations), *_shares("kernel", kernels(verbose(step)))]


def kernels(lines: Iterable[str]) -> list[tuple[str, int, float, bool]]:
    """Name, calls, milliseconds and whether it is a reference, from oneDNN's own log."""
    found: dict[str, list[float]] = {}
    for line in lines:
        fields = line.strip().split(",")
        if fields[0] == "onednn_verbose" and "exec" in fields:
            kind, kernel, direction = fields[fields.index("exec") + 2 :][:3]
            what = kind if direction == "undef" else f"{kind} {direction.replace('_', ' ')}"
            found.setdefault(f"{what}: {kernel}", []).append(float(fields[-1]))
    return [(name, len(times), sum(times), _plain(name)) for name, times in found.items()]


def _plain(name: str) -> bool:
    kernel = name.rpartition(": ")[2]
    return kernel.startswith(("ref", "simple")) or "ref:" in kernel


def _shares(
    level: Literal["operation", "kernel"], found: list[tuple[str, int, float, bool]]
) -> list[Share]:
    total = sum(milliseconds for _, _, milliseconds, _ in found)
    return [
        Share(
            level=level,
            name=name,
            calls=calls,
            milliseconds=milliseconds,
            share=100 * milliseconds / total,
            fallback=fallback,
        )
        for name, calls, milliseconds, fallback in sorted(found, key=lambda one: -one[2])
    ]


def verbose(step: Callable[[], object]) -> list[str]:
    """What oneDNN says while a step is taken; it writes to the process's own output."""
    with tempfile.TemporaryFile("w+") as file:
        with (
            _output_to(file.fileno()),
            torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON),  # type: ignore[no-untyped-call]
        ):
            step()
        file.seek(0)
        return file.readlines()


@contextmanager
def _output_to(descriptor: int) -> Iterator[None]:
    """What C's libraries print goes to a file meanwhile, whatever Python has made of its own."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = {stream: os.dup(stream) for stream in (1, 2)}
    try:
        for stream in kept:
            os.dup2(descriptor, stream)
        yield
        ctypes.CDLL(None).fflush(None)
    finally:
        for stream, copy in kept.items():
            os.dup2(copy, stream)
            os.close(copy)
