"""One plan for several processes, which may not see the same."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from resnext.errors import DataError, UsageError
from resnext.runs.planning import Plan, kind_of
from resnext.runs.records import differences
from resnext.training.distributed import World


def plan_together(world: World, make: Callable[[], Plan]) -> Plan:
    """What `make` plans on each of the processes, if it is one run.

    Its micro-batches are those of the process that has the least memory.

    Raises:
        ResNextError: `make` failed on one of them, or one sees other images or computes otherwise.
    """
    made = world.agreed(make)
    world.require_alike(made.record(), differences, _kind_of_process)
    asked = [n for n in world.gather(made.speed.micro_batch) if n is not None]
    return replace(made, speed=replace(made.speed, micro_batch=min(asked, default=None)))


def _kind_of_process(odd: Sequence[str]) -> type[UsageError | DataError]:
    """Of other images in another process: their place may be another too."""
    return kind_of([text for text in odd if not text.startswith("data ")])
