"""One network in training: its updates, and everything that must be saved to continue exactly.

The trainer knows nothing of data sets, folders, clocks or screens, and never waits for the device:
what it counts stays there until somebody asks.
"""

import copy
import threading
from collections.abc import Iterator
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnext.errors import DataError
from resnext.metrics import Counts, Tally
from resnext.training.averaging import RunningMean
from resnext.training.batch_norm import batch_norms, micro_batches, use_parts
from resnext.training.batches import Batch, Batches
from resnext.training.distributed import ALONE, World
from resnext.training.mixing import Mix, draw_mix, mixed, partners
from resnext.training.optimizer import sgd
from resnext.training.recipe import Recipe
from resnext.training.schedule import rate_of_step
from resnext.training.sharding import complete, own, part_of, whole
from resnext.training.speed import PLAIN, Speed, autocast, check_speed, compiled, moved
from resnext.training.stages import freeze
from resnext.training.state import Position, State, require_same

_LEAST_SCALE = 2.0**-14
"""Below it fp16 gradients overflow whatever they are scaled by: the loss itself has run away."""


class Trainer:
    """A module, its optimiser and its running mean, which move on together, step by step.

    Attributes:
        model: what is trained, in place.
        position: behind the last finished step.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        *,
        device: torch.device | str = "cpu",
        seed: int = 0,
        world: World = ALONE,
        speed: Speed = PLAIN,
        skip_bad: bool = False,
        class_weights: Tensor | None = None,
    ) -> None:
        """Take over `model`, which must be on `device` already.

        `skip_bad` leaves out a step whose gradient is not finite; otherwise nothing moves from the
        first such step on; `bad_steps` says which it was. `class_weights` are of the losses of each
        class's images.

        Raises:
            UsageError: the device cannot do what `speed` asks for, or not by this recipe.
        """
        self.recipe, self.world, self.seed = recipe, world, seed
        self.device = torch.device(device)
        check_speed(speed, self.device, world, recipe)
        self._speed, self._skip_bad = speed, skip_bad
        if speed.channels_last and not speed.sharded:  # FSDP takes rows of contiguous weights only
            model.to(memory_format=torch.channels_last)
        if recipe.bn_batch and not speed.sync_bn:
            use_parts(model, recipe.bn_batch)
        if speed.sync_bn and world.size > 1:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        self._frozen = freeze(model, recipe.frozen)
        self._class_weights = None if class_weights is None else class_weights.to(self.device)
        self.model = model
        self.average = RunningMean(model, recipe.ema) if recipe.ema else None
        self._plain = copy.deepcopy(model).to("meta") if speed.sharded else None
        self._replicated = world.sharded(model) if speed.sharded else world.replicated(model)
        self._parameters = dict(model.named_parameters())
        self._held = {name: _held(p) for name, p in self._parameters.items()}
        self._optimizer = sgd(model, recipe, self._held)
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=speed.precision == "fp16")
        self._forward = compiled(self._replicated, speed.compilation)
        still = {id(norm) for part in self._frozen for norm in batch_norms(part)}
        self._norms = [norm for norm in batch_norms(model) if id(norm) not in still]
        self._statistics = [
            tensor
            for norm in self._norms
            for tensor in (norm.running_mean, norm.running_var)
            if tensor is not None
        ]
        self._counters = [
            norm.num_batches_tracked for norm in self._norms if norm.num_batches_tracked is not None
        ]
        self._buffers = list(model.buffers())
        self._committed = [tensor.clone() for tensor in self._buffers]
        kept = {id(now): old for now, old in zip(self._buffers, self._committed, strict=True)}
        self._counted = [kept[id(counter)] for counter in self._counters]
        self._statistics_before = [kept[id(tensor)] for tensor in self._statistics]
        self._bad = torch.zeros((), dtype=torch.int64, device=self.device)
        self._bad_update = torch.zeros((), dtype=torch.int64, device=self.device)
        self._tally = Tally(self.device)
        self._begun = Counts()
        self.position = Position()
        self.committing = threading.Lock()
        """Held while a step is taken over: whoever else holds it sees no step half done."""

    def evaluated(self) -> nn.Module:
        """The network to score and to keep: the running mean where the recipe has one.

        All processes must ask together: a sharded network is put together for it.
        """
        if self._plain is not None:
            plain = copy.deepcopy(self._plain)
            plain.load_state_dict(self._weights(), assign=True)
            return plain.to(self.device)
        return self.average.module if self.average else self.model

    def train_epoch(self, batches: Batches) -> Iterator[Batch]:
        """Take the remaining steps of the epoch at `position`; yields the batch behind each.

        `batches` hold what is left of the epoch.

        Raises:
            DataError: there are no batches.
        """
        remaining = len(batches)
        steps = self.position.step + remaining
        if steps == 0:
            raise DataError(
                f"expected images to train on, found none in epoch {self.position.epoch}"
            )
        self._set_training()
        for batch, total in zip(batches, batches.totals, strict=True):
            step = self.position.step + 1
            rate = rate_of_step(self.recipe, self.position.epoch, step, steps)
            self._step(batch, total, rate)
            yield batch

    def next_epoch(self) -> None:
        """Move from the end of an epoch to the beginning of the next."""
        with self.committing:
            self.position = Position(epoch=self.position.epoch + 1, updates=self.position.updates)
            self._tally, self._begun = Tally(self.device), Counts()

    def counts(self) -> Counts:
        """Of this epoch's images so far, over all processes; waits for the device."""
        return self._begun + self._tally.counts()

    def bad_steps(self) -> tuple[int, int]:
        """How many steps had a gradient that is not finite, and which update that was.

        Of several that were left out, the last.

        Waits for the device. The numbers are the same in all processes.
        """
        return int(self._bad.item()), int(self._bad_update.item())

    def scale_lost(self) -> bool:
        """Whether fp16 gradients overflow however little they are scaled."""
        return self._scaler.is_enabled() and self._scaler.get_scale() < _LEAST_SCALE

    def _set_training(self) -> None:
        self.model.train()
        self._replicated.train()
        for part in self._frozen:
            part.eval()

    def _step(self, batch: Batch, total: int, rate: float) -> None:
        """One update by the mean gradient over the `total` images of all processes."""
        images = moved(batch.images, self.device, channels_last=self._speed.channels_last)
        labels = batch.labels.to(self.device, non_blocking=True)
        self.model.zero_grad(set_to_none=True)
        share = len(labels)
        mix = draw_mix(
            self.seed,
            self.position.updates,
            mixup=self.recipe.mixup,
            cutmix=self.recipe.cutmix,
        )
        tally = Tally(self.device)
        for logits, y, loss in self._backward(images, labels, total, mix):
            tally.add(logits, y, loss)
        self.world.mean_(self._statistics, share / total)
        tally.share(self.world.sum_, total)
        with self.committing:
            self._commit(rate, tally)

    def _backward(
        self, images: Tensor, labels: Tensor, total: int, mix: Mix | None
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Add up gradients, micro-batch by micro-batch; yields logits, labels and mean losses."""
        sizes = micro_batches(len(labels), self.recipe.bn_batch, self._speed.micro_batch)
        rounds = max(1, len(sizes))
        if self._speed.sharded:  # every pass of a sharded network takes all processes
            rounds = max(self.world.gather(rounds))
        several = rounds > 1 and bool(self._statistics)
        statistics = [torch.zeros_like(tensor) for tensor in self._statistics] if several else []
        pieces = zip(torch.split(images, sizes), torch.split(labels, sizes), strict=True)
        for left in range(rounds - 1, -1, -1):
            x, y = next(pieces, (None, None))
            if several:
                self._restore_statistics()
            with self.world.alone(self._replicated) if left else nullcontext():
                if x is None or y is None:
                    self._nothing(images)
                    continue
                logits, loss = self._loss(x, y, mix)
                # DDP takes the mean over the processes
                scaled = loss * (self.world.size / total)
                self._scaler.scale(scaled).backward()  # type: ignore[no-untyped-call]
            if several:
                torch._foreach_add_(statistics, self._statistics, alpha=len(y) / len(labels))
            yield logits.detach(), y, loss.detach() / len(y)
        if several:
            torch._foreach_copy_(self._statistics, statistics)

    def _restore_statistics(self) -> None:
        """Begin a micro-batch with the running statistics of the step's beginning.

        One update is linear in what a micro-batch measures, so the mean of the updates of all is
        the update by their mean.
        """
        torch._foreach_copy_(self._statistics, self._statistics_before)

    def _loss(self, images: Tensor, labels: Tensor, mix: Mix | None) -> tuple[Tensor, Tensor]:
        """Logits, and the loss summed over the images."""
        kept = 1.0
        others = None
        if mix is not None:
            others = partners(len(labels), self.recipe.bn_batch or len(labels)).to(self.device)
            images, kept = mixed(images, images[others], mix)
        with autocast(self.device, self._speed.precision):
            logits = self._forward(images)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        loss = self._cross_entropy(logits, labels)
        if others is not None:
            loss = kept * loss + (1 - kept) * self._cross_entropy(logits, labels[others])
        return logits, loss

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Summed over the images, each by the weight of its class: torch's own smooths by them."""
        smoothing, weights = self.recipe.label_smoothing, self._class_weights
        if weights is None:
            return F.cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing)
        losses = F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
        return losses @ weights.to(losses.dtype)[labels]

    def _nothing(self, images: Tensor) -> None:
        """Take part in an exchange of gradients without an image of one's own."""
        with autocast(self.device, self._speed.precision):
            nothing = self._forward(images.new_zeros((2, *images.shape[1:])))
        self._scaler.scale(nothing.float().sum() * 0.0).backward()

    def _commit(self, rate: float, tally: Tally) -> None:
        """Take the step over, whole: weights, momentum, running mean, counts and position."""
        held_back = self._held_back()
        self._update(rate, held_back)
        self._settle_norms(held_back)
        updates = self.position.updates + 1
        if self.average:
            self.average.update(updates, held_back)
        self._tally.absorb(tally)
        self.position = Position(
            epoch=self.position.epoch, step=self.position.step + 1, updates=updates
        )

    def _update(self, rate: float, held_back: Tensor) -> None:
        """Move the weights, unless they are held back: the device decides, without telling."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        if self._scaler.is_enabled():
            self._scaler.step(self._optimizer)
            self._scaler.update()
        else:
            self._optimizer.found_inf = held_back.float()  # type: ignore[attr-defined]
            self._optimizer.step()

    def _settle_norms(self, held_back: Tensor) -> None:
        """Leave normalisation as behind one forward pass of a good step."""
        if self._counters:
            torch._foreach_copy_(self._counters, self._counted)
            torch._foreach_add_(self._counters, 1)
        if self._skip_bad or self._scaler.is_enabled():
            for now, before in zip(self._buffers, self._committed, strict=True):
                torch.where(held_back, before, now, out=now)
        self._commit_buffers()

    def _commit_buffers(self) -> None:
        if self._buffers:
            torch._foreach_copy_(self._committed, self._buffers)

    def _held_back(self) -> Tensor:
        """Whether this update must not be: a device's boolean, the same in all processes.

        Gradients have been exchanged, so a loss that is not finite anywhere shows everywhere. In
        fp16 they may overflow without harm: the scaler skips such a step and scales less.
        """
        if self._speed.sharded:
            for name, p in self._parameters.items():
                self._held[name].grad = None if p.grad is None else own(p.grad)
        if self._scaler.is_enabled():
            self._scaler.unscale_(self._optimizer)
        gradients = [p.grad for p in self._parameters.values() if p.grad is not None]
        bad = ~torch.isfinite(complete(torch.nn.utils.get_total_norm(gradients)))
        if self._scaler.is_enabled():
            return bad
        noted = bad if self._skip_bad else bad & (self._bad == 0)
        update = torch.full_like(self._bad_update, self.position.updates + 1)
        self._bad_update = torch.where(noted, update, self._bad_update)
        self._bad += bad
        return bad if self._skip_bad else self._bad > 0

    def state(self) -> State:
        """All that decides what comes next, behind the last finished step.

        Safe to call from another thread that holds `committing`, in the middle of a step too:
        parameters move in a commit only, and buffers are taken as they were behind the last. Of a
        sharded network all processes must ask together.
        """
        tensors = {
            f"momentum/{name}": whole(buffer, self._parameters[name])
            for name, buffer in self._momentum().items()
        }
        if self.average:
            mean = self.average.module.state_dict()
            tensors |= {f"average/{name}": tensor for name, tensor in mean.items()}
        counts, bad = self.counts(), self.bad_steps()
        scaler = self._scaler.state_dict() if self._scaler.is_enabled() else {}
        return State(
            weights=self._weights(),
            tensors=tensors,
            position=self.position,
            counts=counts,
            bad_steps=bad,
            scaler=scaler,
        )

    def load(self, state: State) -> None:
        """Continue from a state.

        Raises:
            CheckpointError: it belongs to another network or another recipe.
        """
        ours = self.state()
        require_same("weights", ours.weights, state.weights)
        require_same("training state", ours.tensors, state.tensors)
        momentum = self._momentum()
        with torch.no_grad():
            for name, p in self._parameters.items():
                self._held[name].copy_(part_of(state.weights[name], p))
                if name in momentum:
                    momentum[name].copy_(part_of(state.tensors[f"momentum/{name}"], p))
            for name, buffer in self.model.named_buffers():
                buffer.copy_(state.weights[name])
        if self.average:
            mean = self.average.module.state_dict()
            for name, tensor in mean.items():
                tensor.copy_(state.tensors[f"average/{name}"])
        self._commit_buffers()
        if state.scaler and self._scaler.is_enabled():
            self._scaler.load_state_dict(dict(state.scaler))
        self.position, self._begun, self._tally = state.position, state.counts, Tally(self.device)
        self._bad.fill_(state.bad_steps[0])
        self._bad_update.fill_(state.bad_steps[1])

    def _weights(self) -> dict[str, Tensor]:
        """Parameters and buffers as they were behind the last finished step."""
        kept = {id(now): old for now, old in zip(self._buffers, self._committed, strict=True)}
        found = {name: whole(self._held[name].detach(), p) for name, p in self._parameters.items()}
        found |= {name: kept[id(buffer)] for name, buffer in self.model.named_buffers()}
        return {name: found[name] for name in self.model.state_dict()}

    def _momentum(self) -> dict[str, Tensor]:
        """As this process holds it."""
        state = self._optimizer.state
        return {
            name: state[p]["momentum_buffer"]
            for name, p in self._held.items()
            if "momentum_buffer" in state[p]
        }


def _held(p: nn.Parameter) -> nn.Parameter:
    """A parameter as this process holds it: itself, or a part that shares its memory."""
    return p if own(p) is p else nn.Parameter(own(p.detach()))
