"""Several processes that train as one; only this and `sharding.py` import torch.distributed.

Processes are started by torchrun (see `resnext launch`), which tells each its rank. Collectives
exchange tensors, `heartbeat.py` life signs: a process that falls silent, dies or fails takes the
others with it within a minute, and they say why; nobody waits for ever.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from resnext.errors import DataError, ResNextError, ResourceError, UsageError
from resnext.training.heartbeat import Heartbeat, first_line
from resnext.training.sharding import is_sharded, shard, unsynchronised

if TYPE_CHECKING:
    from torch._C._distributed_c10d import TCPStore

START_SECONDS = 60.0
"""For all processes to meet."""

COLLECTIVE_SECONDS = 600.0
"""For one exchange of tensors: a process may validate, compile or save meanwhile."""

TOLD = "the first process says this"
"""A note of an error that all processes end with."""


@dataclass(frozen=True, slots=True)
class World:
    """This process among those that train together.

    Attributes:
        rank: its number, from 0.
        size: how many there are.
        local_rank: its number on its machine: which of the GPUs is its own.
        local_size: how many there are on its machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def first(self) -> bool:
        """Whether it is this process that writes and prints."""
        return self.rank == 0

    def sum_(self, tensor: Tensor) -> None:
        """Add up a tensor over all processes, in place; its device decides the channel."""
        if self.size > 1:
            dist.all_reduce(tensor)

    def mean_(self, tensors: Sequence[Tensor], weight: float) -> None:
        """Replace tensors by their weighted mean over all processes, in place.

        The weights of all processes must add up to 1.
        """
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        # A process without images has statistics of no meaning, perhaps not even finite ones.
        flat = flat * weight if weight else torch.zeros_like(flat)
        dist.all_reduce(flat)
        pieces = torch.split(flat, [tensor.numel() for tensor in tensors])
        torch._foreach_copy_(
            list(tensors), [p.view_as(t) for p, t in zip(pieces, tensors, strict=True)]
        )

    def totals(self, numbers: Sequence[int]) -> list[int]:
        """Sums over all processes; what one wishes for, all learn of."""
        if self.size == 1:
            return [int(number) for number in numbers]
        sums = torch.tensor([int(number) for number in numbers])
        dist.all_reduce(sums)
        return [int(total) for total in sums.tolist()]

    def from_first(self, make: Callable[[], Any]) -> Any:
        """What `make` returns on the first process, on all of them; an error of it too.

        Raises:
            ResNextError: `make` did on the first process.
        """
        if self.size == 1:
            return make()
        box: list[Any] = [None, None]
        if self.first:
            try:
                box[0] = make()
            except ResNextError as error:
                box[1] = error
        dist.broadcast_object_list(box, src=0)
        if box[1] is not None:
            raise self._told(box[1])
        return box[0]

    def agreed(self, make: Callable[[], Any]) -> Any:
        """What `make` returns on each process, if it does so on all of them.

        Raises:
            ResNextError: `make` did on one of them; the error of the first such, on all.
        """
        if self.size == 1:
            return make()
        made = error = None
        try:
            made = make()
        except ResNextError as raised:
            error = raised
        errors = [found for found in self.gather(error) if found is not None]
        if errors:
            raise self._told(errors[0])
        return made

    def require_alike(
        self,
        value: Any,
        differences: Callable[[Any, Any], Iterable[str]],
        kind_of: Callable[[Sequence[str]], type[ResNextError]] = lambda _: DataError,
    ) -> None:
        """Refuse to go on with processes of which one has another value than the first.

        Raises:
            ResNextError: of the kind that the differences are of; on all processes.
        """
        first, *others = self.gather(value)
        for rank, other in enumerate(others, start=1):
            odd = list(differences(first, other))
            if odd:
                found = f"{'; '.join(odd[:5])} in process {rank}"
                raise self._told(kind_of(odd)(f"expected the same in all processes, found {found}"))

    def _told(self, error: ResNextError) -> ResNextError:
        """An error that all processes have: the first one is to say it."""
        if not self.first:
            error.add_note(TOLD)
        return error

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, in the order of their ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def replicated(self, model: nn.Module) -> nn.Module:
        """A module whose gradients are the mean over all processes."""
        if self.size == 1:
            return model
        # Running statistics are averaged by the trainer, exactly; broadcasting would lose most.
        new = "forward_sync_buffers" in signature(DistributedDataParallel).parameters  # torch 2.15
        keep: Any = {"forward_sync_buffers" if new else "broadcast_buffers": False}
        return DistributedDataParallel(model, gradient_as_bucket_view=True, **keep)

    def sharded(self, model: nn.Module) -> nn.Module:
        """The model with every parameter, gradient and momentum split over all processes."""
        if self.size > 1:
            shard(model)
        return model

    def alone(self, replicated: nn.Module) -> AbstractContextManager[None]:
        """A time in which gradients add up in each process, without an exchange."""
        if isinstance(replicated, DistributedDataParallel):
            return replicated.no_sync()
        if is_sharded(replicated):
            return unsynchronised(replicated)
        return nullcontext()


ALONE = World()


@contextmanager
def joined(environment: Mapping[str, str] = os.environ) -> Iterator[World]:
    """Join the processes that torchrun started, for the time of the context; else be alone.

    An error here is told to the others, who end with it; theirs ends this process.

    Raises:
        UsageError: the environment holds half of what torchrun sets.
        ResourceError: the others did not come, are lost, or failed.
    """
    size = _number(environment, "WORLD_SIZE", 1)
    if size == 1:
        yield ALONE
        return
    rank = _number(environment, "RANK", None)
    beat = Heartbeat(rank, size, _store(rank, environment))
    local = (_number(environment, "LOCAL_RANK", 0), _number(environment, "LOCAL_WORLD_SIZE", 1))
    world = World(rank, size, *local)
    beat.start()
    try:
        with _translated(beat):
            _open_channels(world)
            yield world
            dist.barrier()
    except BaseException as error:
        beat.fail(error)
        raise
    finally:
        beat.stop()
        with suppress(RuntimeError):
            dist.destroy_process_group()


def _number(environment: Mapping[str, str], name: str, default: int | None) -> int:
    text = environment.get(name, default)
    try:
        return int(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise UsageError(
            f"expected {name} from torchrun, found {text!r}; start with: resnext launch"
        ) from None


def _store(rank: int, environment: Mapping[str, str]) -> "TCPStore":
    """Rank 0's store, for the life signs alone."""
    address = environment.get("MASTER_ADDR", "127.0.0.1")
    port = _number(environment, "MASTER_PORT", None)
    # under plain torchrun the agent holds the store already
    host = rank == 0 and environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    try:
        return dist.TCPStore(  # type: ignore[attr-defined]
            address,
            port,
            is_master=host,
            wait_for_workers=False,
            timeout=timedelta(seconds=START_SECONDS),
            multi_tenant=True,
        )
    except (RuntimeError, ValueError) as error:
        raise ResourceError(
            f"expected the first process at {address}:{port}, found none in "
            f"{START_SECONDS:.0f} s: {first_line(error)}"
        ) from error


def _open_channels(world: World) -> None:
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(world.local_rank % torch.cuda.device_count())
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=timedelta(seconds=COLLECTIVE_SECONDS)
    )


@contextmanager
def _translated(beat: Heartbeat) -> Iterator[None]:
    """One line instead of what the network layers say of a peer that is gone."""
    try:
        yield
    except RuntimeError as error:
        cause = beat.cause(wait=5.0)
        if cause is None and not _of_the_network(error):
            raise
        raise cause or ResourceError(f"lost another process: {_reason(error)}") from error


def _reason(error: RuntimeError) -> str:
    """What the network layer found, without the place in its code and its advice."""
    return re.sub(r"^\[\S+:\d+\] ", "", first_line(error)).partition(". ")[0]


def _of_the_network(error: RuntimeError) -> bool:
    words = ("gloo", "nccl", "connection", "socket", "timed out", "peer", "store")
    return isinstance(error, dist.DistError) or any(word in str(error).lower() for word in words)
