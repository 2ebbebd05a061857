"""Several processes that train as one; the only file that imports torch.distributed.

Processes are started by torchrun (see `resnext launch`), which tells each its rank. Two channels
tie them together: collectives for tensors, and for life signs a thread that talks to rank 0's
store. A process that falls silent, dies or fails takes the others with it within a minute, and they
say why; nobody waits for ever.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from inspect import signature
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import TCPStore
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from resnext.errors import (
    CheckpointError,
    DataError,
    ResNextError,
    ResourceError,
    UsageError,
)

START_SECONDS = 60.0
"""For all processes to meet."""

COLLECTIVE_SECONDS = 600.0
"""For one exchange of tensors: a process may validate, compile or save meanwhile."""

SILENT_SECONDS = 40.0
"""After which a process without a life sign counts as lost."""

TOLD = "the first process says this"
"""A note of an error that all processes end with."""

_BEAT_SECONDS = 1.0
_FAILED = "failed"


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
    _beat: "_Heartbeat | None" = field(default=None, repr=False, compare=False)

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
        """The model with every parameter, gradient and momentum split over all processes.

        They come together for the block that is at work, in place (FSDP2).
        """
        if self.size > 1:
            blocks = [
                block
                for stage in model.children()
                if isinstance(stage, nn.Sequential)
                for block in stage
            ]
            for module in (*blocks, model):
                fully_shard(module)
        return model

    def alone(self, replicated: nn.Module) -> AbstractContextManager[None]:
        """A time in which gradients add up in each process, without an exchange."""
        if isinstance(replicated, DistributedDataParallel):
            return replicated.no_sync()
        if isinstance(replicated, FSDPModule):
            return _unsynchronised(replicated)
        return nullcontext()


ALONE = World()


def own(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor; shares its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(part: Tensor, like: Tensor) -> Tensor:
    """A tensor of which `part` is what this process holds, split as `like` is; all must ask."""
    if not isinstance(like, DTensor):
        return part
    return DTensor.from_local(
        part, like.device_mesh, like.placements, shape=like.shape, stride=like.stride()
    ).full_tensor()


def complete(tensor: Tensor) -> Tensor:
    """A result that depends on the parts of all processes, which must all ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def part_of(tensor: Tensor, like: Tensor) -> Tensor:
    """What this process is to hold of a whole tensor, split as `like` is."""
    if not isinstance(like, DTensor):
        return tensor
    placed = tensor.to(like.device)
    return distribute_tensor(placed, like.device_mesh, like.placements).to_local()


@contextmanager
def _unsynchronised(model: FSDPModule) -> Iterator[None]:
    model.set_requires_gradient_sync(requires_gradient_sync=False)
    try:
        yield
    finally:
        model.set_requires_gradient_sync(requires_gradient_sync=True)


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
    beat = _Heartbeat(rank, size, _store(rank, environment))
    local = (_number(environment, "LOCAL_RANK", 0), _number(environment, "LOCAL_WORLD_SIZE", 1))
    world = World(rank, size, *local, beat)
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


def _store(rank: int, environment: Mapping[str, str]) -> TCPStore:
    """Rank 0's store, for this thread alone: a client that waits blocks whoever shares it."""
    address = environment.get("MASTER_ADDR", "127.0.0.1")
    port = _number(environment, "MASTER_PORT", None)
    # under plain torchrun the agent holds the store already
    host = rank == 0 and environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    try:
        return TCPStore(
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
            f"{START_SECONDS:.0f} s: {_line(error)}"
        ) from error


def _open_channels(world: World) -> None:
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(world.local_rank % torch.cuda.device_count())
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=timedelta(seconds=COLLECTIVE_SECONDS)
    )


@contextmanager
def _translated(beat: "_Heartbeat") -> Iterator[None]:
    """One line instead of what the network layers say of a peer that is gone."""
    try:
        yield
    except RuntimeError as error:
        cause = beat.cause(wait=5.0)
        if cause is None and not _of_the_network(error):
            raise
        raise cause or ResourceError(f"lost another process: {_line(error)}") from error


def _of_the_network(error: RuntimeError) -> bool:
    words = ("gloo", "nccl", "connection", "socket", "timed out", "peer", "store")
    return isinstance(error, dist.DistError) or any(word in str(error).lower() for word in words)


def _line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


def _cause_of(text: str) -> ResNextError:
    """What another process ended with, with its exit code."""
    code, _, cause = text.partition(" ")
    kinds = {kind.exit_code: kind for kind in (UsageError, DataError, CheckpointError)}
    return kinds.get(int(code), ResourceError)(cause)


def _silent(rank: int) -> ResourceError:
    return ResourceError(f"lost process {rank}: no life sign for {SILENT_SECONDS:.0f} s")


class _Heartbeat(threading.Thread):
    """Signs of life, to the store and from the next process in the ring; bad news from anyone."""

    def __init__(self, rank: int, size: int, store: TCPStore) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self.rank, self._next, self._store = rank, (rank + 1) % size, store
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        self._prefix = f"resnext/{attempt}/"
        store.set_timeout(timedelta(seconds=SILENT_SECONDS / 2))
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._cause: ResNextError | None = None
        self._exchanged = 0

    def run(self) -> None:
        """Until stopped; ends the whole process if another one is lost while this one waits."""
        threading.Thread(target=self._watch, name="heartbeat-watch", daemon=True).start()
        beats, seen, seen_at = 0, "", time.monotonic()
        while not self._ended.wait(_BEAT_SECONDS):
            beats += 1
            try:
                heard = self._exchange(str(beats))
            except RuntimeError:  # the store is gone, and the first process with it
                self._give_up(ResourceError("lost process 0: it no longer answers"))
                return
            if self._cause is not None:
                self._give_up(self._cause)
                return
            self._exchanged += 1
            if heard != seen:
                seen, seen_at = heard, time.monotonic()
            elif time.monotonic() - seen_at > SILENT_SECONDS:
                self._give_up(_silent(self._next))
                return

    def _watch(self) -> None:
        """Give up on a first process that is there and silent: its store has no deadline then.

        Counts its own turns, since a clock goes on while this process is stopped itself.
        """
        before, turns = 0, 0
        while not self._ended.wait(_BEAT_SECONDS):
            turns = turns + 1 if self._exchanged == before else 0
            before = self._exchanged
            if turns * _BEAT_SECONDS > SILENT_SECONDS:
                self._give_up(_silent(0))
                return

    def fail(self, error: BaseException) -> None:
        """Tell the others why this process ends."""
        if self._cause is not None:
            return  # they know
        self._ended.set()
        text = _line(error) or type(error).__name__
        code = error.exit_code if isinstance(error, ResNextError) else 1
        if not self._lock.acquire(timeout=5 * _BEAT_SECONDS):
            return  # the first process is silent, and nobody can be told
        with suppress(RuntimeError):
            if not self._store.check([self._key(_FAILED)]):
                self._store.set(self._key(_FAILED), f"{code} process {self.rank} stopped: {text}")
                if self.rank == 0:  # the store ends with this process: let the others read it
                    time.sleep(3 * _BEAT_SECONDS)
        self._lock.release()

    def cause(self, wait: float) -> ResNextError | None:
        """Why another process stopped, as far as it is known within so many seconds."""
        end = time.monotonic() + wait
        while self._cause is None and self.is_alive() and time.monotonic() < end:
            time.sleep(0.1)
        return self._cause

    def stop(self) -> None:
        """No more signs: this process is done, and so are the others."""
        self._ended.set()

    def _exchange(self, beat: str) -> str:
        with self._lock:
            self._store.set(self._key(f"alive/{self.rank}"), beat)
            if self._store.check([self._key(_FAILED)]):
                self._cause = _cause_of(self._store.get(self._key(_FAILED)).decode())
            other = self._key(f"alive/{self._next}")
            return self._store.get(other).decode() if self._store.check([other]) else ""

    def _key(self, name: str) -> str:
        return self._prefix + name

    def _give_up(self, cause: ResNextError) -> None:
        """The main thread may hang in an exchange that never ends: it gets a moment to notice."""
        self._cause = cause
        if not self._ended.wait(8.0):
            sys.stderr.write(f"resnext: error: {cause}\n")
            sys.stderr.flush()
            os._exit(cause.exit_code)
