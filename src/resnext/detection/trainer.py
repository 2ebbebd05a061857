"""One detector in training: its updates, and all that must be saved to continue to the bit.

Normalisation is frozen, so parameters and momentum are all that moves. Every part of a step draws
its random samples from a generator seeded by (seed, update, part): a run that continues, or has
other processes, samples the same anchors.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from resnext.detection.batches import Item, Parts
from resnext.detection.networks import Detector, Joint, TwoStep
from resnext.detection.schedule import Schedule
from resnext.errors import NotFiniteError, UsageError
from resnext.training.distributed import ALONE, World
from resnext.training.optimizer import PromptSGD
from resnext.training.speed import Precision, autocast
from resnext.training.state import require_same


class DetectionTrainer:
    """A phase of a detector's training.

    Attributes:
        detector: whole; only the part that the phase is about learns.
        done: steps of this phase.
    """

    def __init__(
        self,
        detector: Detector,
        schedule: Schedule,
        *,
        device: torch.device | str = "cpu",
        seed: int = 0,
        before: int = 0,
        precision: Precision = "fp32",
        world: World = ALONE,
    ) -> None:
        """Take over `detector`, which must be on `device`; `before` counts steps of past phases.

        Raises:
            UsageError: parts of a step cannot be shared evenly by the processes.
        """
        if schedule.parts % world.size:
            raise UsageError(
                f"expected parts of a step that {world.size} processes share evenly, found "
                f"{schedule.parts}"
            )
        self.detector, self.schedule, self.seed = detector, schedule, seed
        self.device, self.precision, self.world = torch.device(device), precision, world
        self.before, self.done = before, 0
        self._part = part_of(detector, schedule)
        self._learning = {n: p for n, p in self._part.named_parameters() if p.requires_grad}
        self._replicated = world.replicated(self._part)
        self._optimizer = _sgd(self._learning, schedule)
        self.committing = threading.Lock()
        """Held while a step is taken over."""

    def steps(self, batches: Iterator[Parts]) -> Iterator[tuple[Parts, dict[str, float]]]:
        """Take a step for each of the batches; yields it with the mean of each loss.

        Raises:
            NotFiniteError: a loss or a gradient is no number; nothing has moved by it.
        """
        self._replicated.train()
        for parts in batches:
            yield parts, self.step(parts)

    def step(self, parts: Parts) -> dict[str, float]:
        """One update by the mean gradient over all parts of all processes."""
        self._part.zero_grad(set_to_none=True)
        share = 1 / self.schedule.parts
        sums: dict[str, Tensor] = {}
        for k, items in enumerate(parts):
            last = k == len(parts) - 1
            with nullcontext() if last else self.world.alone(self._replicated), self._drawing(k):
                losses = self._losses(items)
                # DDP takes the mean over the processes
                total = torch.stack(list(losses.values())).sum() * (share * self.world.size)
                total.backward()  # type: ignore[no-untyped-call]
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0) + loss.detach() * share
        found = self._means(sums)
        self._require_finite(found, parts)
        with self.committing:
            for group in self._optimizer.param_groups:
                group["lr"] = self.schedule.rate(self.done) * group["factor"]
            self._optimizer.step()
            self.done += 1
        return found

    def _losses(self, items: Sequence[Item]) -> dict[str, Tensor]:
        images = [item.image.to(self.device, non_blocking=True) for item in items]
        targets = [{k: v.to(self.device) for k, v in item.target.items()} for item in items]
        with autocast(self.device, self.precision):
            given = [self._proposals(items, images)] if self.schedule.phase == "fast" else []
            losses: dict[str, Tensor] = self._replicated(images, targets, *given)
            return losses

    def _proposals(self, items: Sequence[Item], images: list[Tensor]) -> list[Tensor]:
        """Those that were stored, or else of the first network as it is now."""
        stored = [item.proposals for item in items if item.proposals is not None]
        if len(stored) == len(items):
            return [boxes.to(self.device) for boxes in stored]
        assert isinstance(self.detector, TwoStep)
        self.detector.proposing.train()  # as many as are trained on; nothing of it moves
        return [boxes for boxes, _ in self.detector.proposing.proposals(images)]

    def _drawing(self, k: int) -> "_Seeded":
        """Random draws that depend on nothing but (seed, update, part)."""
        part = k * self.world.size + self.world.rank
        update = self.before + self.done
        return _Seeded((self.seed * 1_000_003 + update) * 4099 + part, self.device)

    def _means(self, sums: Mapping[str, Tensor]) -> dict[str, float]:
        flat = torch.stack(list(sums.values())).float()
        self.world.sum_(flat)
        return dict(zip(sums, flat.tolist(), strict=True))

    def _require_finite(self, losses: Mapping[str, float], parts: Parts) -> None:
        gradients = [p.grad for p in self._learning.values() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if all(map(_finite, losses.values())) and bool(torch.isfinite(norm)):
            return
        images = [item.image_id for items in parts for item in items]
        shown = ", ".join(f"{name} {loss:.4g}" for name, loss in losses.items())
        raise NotFiniteError(
            f"training stopped at step {self.done + 1} ({self.schedule.phase}): the loss or its "
            f"gradient is not finite ({shown}) on images {', '.join(map(str, images[:8]))}; the "
            f"rate is {self.schedule.rate(self.done):.3g} for {self.schedule.images} images: it "
            "should be in proportion to them; a longer warm-up or a look at these images may help"
        )

    def tensors(self) -> dict[str, Tensor]:
        """Momentum under the names of parameters."""
        state = self._optimizer.state
        return {
            f"momentum/{name}": state[p]["momentum_buffer"] for name, p in self._learning.items()
        }

    def load(self, weights: Mapping[str, Tensor], tensors: Mapping[str, Tensor], done: int) -> None:
        """Continue from a state.

        Raises:
            CheckpointError: it belongs to another detector.
        """
        ours, momentum = self.detector.state_dict(), self.tensors()
        require_same("weights", ours, weights)
        require_same("training state", momentum, tensors)
        with torch.no_grad():
            for name, tensor in (*ours.items(), *momentum.items()):
                tensor.copy_(weights[name] if name in weights else tensors[name])
        self.done = done


def part_of(detector: Detector, schedule: Schedule) -> nn.Module:
    """What a phase trains."""
    if isinstance(detector, Joint):
        return detector
    return detector.proposing if schedule.phase == "rpn" else detector.classifying


def _sgd(parameters: Mapping[str, nn.Parameter], schedule: Schedule) -> PromptSGD:
    """Momentum begun at zero; biases in a group of their own."""
    groups: dict[float, list[nn.Parameter]] = {}
    for name, p in parameters.items():
        factor = schedule.bias_rate if name.endswith(".bias") else 1.0
        groups.setdefault(factor, []).append(p)
    optimizer = PromptSGD(
        [{"params": params, "factor": factor} for factor, params in groups.items()],
        lr=schedule.learning_rate,
        momentum=schedule.momentum,
        weight_decay=schedule.weight_decay,
    )
    for p in parameters.values():
        optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
    return optimizer


class _Seeded:
    """torch's global generators seeded for a time, then put back."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self._seed = seed % 2**63
        devices = [device] if device.type == "cuda" else []
        self._fork = torch.random.fork_rng(devices=devices)

    def __enter__(self) -> None:
        self._fork.__enter__()
        torch.manual_seed(self._seed)

    def __exit__(self, *error: Any) -> None:
        self._fork.__exit__(*error)


def _finite(value: float) -> bool:
    return abs(value) < float("inf")
