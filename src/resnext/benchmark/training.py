"""Images per second of one training step: our trainer's beside those of torchvision and timm.

All train the same network from the same weights, by the same SGD (ours fused, the peers' as their
loops make it), on the same batch, which lies in memory. Their steps are interleaved in random order
inside one process, slice by slice; a ratio is the median over slices of a method's rate by the best
peer's on that slice. One thread is measured by its processor time, several and a GPU by the clock.
"""

import random
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from resnext.catalog import notation
from resnext.errors import UsageError
from resnext.model.network import build
from resnext.spec import Spec
from resnext.training.distributed import ALONE
from resnext.training.loop import fit
from resnext.training.recipe import Recipe
from resnext.training.speed import Precision, Speed, autocast, check_speed, moved
from resnext.training.trainer import Trainer

Mode = Literal["eager", "channels-last", "compiled"]
"""`compiled` is in channels-last too, as both peers' users are advised."""
MODES: tuple[Mode, ...] = get_args(Mode)

OURS = "resnext"
_WARM_UP = 2
_GPU_STEPS = 10  # of a slice, between two waits for the device

Step = Callable[[], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is trained, on what, and how steps are computed.

    Attributes:
        threads: of a processor's step.
    """

    network: Spec
    batch: int
    resolution: int
    device: torch.device
    precision: Precision = "fp32"
    threads: int = 1

    @property
    def recipe(self) -> Recipe:
        """The optimiser of all methods; so slow that a fixed batch is not learned by heart."""
        return Recipe(
            name="benchmark",
            epochs=1,
            batch_size=self.batch,
            learning_rate=1e-4,
            weight_decay=1e-4,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A method that has taken its first steps: so long takes compilation, above all."""

    mode: Mode
    method: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One method in one mode: its median rate, the extremes, and its ratio to the best peer."""

    mode: Mode
    method: str
    images_per_second: float
    least: float
    most: float
    ratio: float
    slices: int


def benchmark_training(
    setting: Setting,
    *,
    modes: Sequence[Mode] = MODES,
    parts: int | None = None,
    slices: int = 9,
    seed: int = 0,
) -> Iterator[Ready | Row]:
    """Rates of training steps, mode by mode; first a `Ready` of each method as it is warmed up.

    Args:
        setting: what is trained.
        modes: that every method runs in.
        parts: images that batch normalisation takes at once in two more rows of ours: with the
            whole batch in one go, and in micro-batches of that size. Half a batch if left out.
        slices: repetitions, of which the median counts.
        seed: of weights, images and the order of methods.

    Raises:
        UsageError: the device cannot do that, or parts are larger than the batch.
    """
    parts = max(1, setting.batch // 2) if parts is None else parts
    if not 1 <= parts <= setting.batch:
        raise UsageError(f"expected parts of 1 to {setting.batch} images, found {parts}")
    check_speed(Speed(precision=setting.precision), setting.device, ALONE)
    if setting.device.type == "cpu":
        torch.set_num_threads(setting.threads)
    methods: dict[tuple[Mode, str], Step] = {}
    for mode in modes:
        for name, make in _methods(setting, mode, parts, seed).items():
            started = time.perf_counter()
            _choose_kernels(name)
            step = make()
            for _ in range(_WARM_UP):
                step()
            _wait(setting.device)
            methods[mode, name] = step
            yield Ready(mode=mode, method=name, seconds=time.perf_counter() - started)
    yield from _rows(_rates(setting, methods, slices, random.Random(seed)))


def _choose_kernels(name: str) -> None:
    """On a GPU both peers' loops have cuDNN try its kernels; a run of ours may not: bits differ."""
    torch.backends.cudnn.benchmark = not name.startswith(OURS)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _rates(
    setting: Setting, methods: Mapping[tuple[Mode, str], Step], slices: int, shuffle: random.Random
) -> dict[tuple[Mode, str], list[float]]:
    on_cpu = setting.device.type == "cpu"
    clock = time.process_time if on_cpu and setting.threads == 1 else time.perf_counter
    steps = 1 if on_cpu else _GPU_STEPS
    rates: dict[tuple[Mode, str], list[float]] = {key: [] for key in methods}
    for _ in range(slices):
        for key in shuffle.sample(list(methods), len(methods)):
            _choose_kernels(key[1])
            started = clock()
            for _ in range(steps):
                methods[key]()
            _wait(setting.device)
            rates[key].append(steps * setting.batch / (clock() - started))
    return rates


def _rows(rates: Mapping[tuple[Mode, str], list[float]]) -> Iterator[Row]:
    peers = [found for (_, name), found in rates.items() if not name.startswith(OURS)]
    best = max(peers, key=statistics.median)
    for (mode, name), found in rates.items():
        yield Row(
            mode=mode,
            method=name,
            images_per_second=statistics.median(found),
            least=min(found),
            most=max(found),
            ratio=statistics.median(a / b for a, b in zip(found, best, strict=True)),
            slices=len(found),
        )


def _methods(setting: Setting, mode: Mode, parts: int, seed: int) -> dict[str, Callable[[], Step]]:
    """What there is for a network; the parts are measured in one mode, where they can be told."""
    images, labels = _batch(setting, seed)

    ours = partial(_ours, setting, mode, images, labels, seed)
    methods: dict[str, Callable[[], Step]] = {OURS: ours}
    if mode == "channels-last":
        methods[f"{OURS}, normalised by {parts}"] = partial(ours, parts)
        methods[f"{OURS}, micro-batches of {parts}"] = partial(ours, parts, parts)
    for name, make in _peers(setting.network).items():
        loop = _timm_step if name == "timm" else _torchvision_step
        methods[name] = partial(_theirs, setting, mode, images, labels, seed, make, loop)
    return methods


def _ours(
    setting: Setting,
    mode: Mode,
    images: Tensor,
    labels: Tensor,
    seed: int,
    bn_batch: int | None = None,
    micro_batch: int | None = None,
) -> Step:
    model = build(setting.network, seed=seed, device=setting.device)
    return _our_step(setting, mode, model, images, labels, bn_batch, micro_batch)


def _theirs(
    setting: Setting,
    mode: Mode,
    images: Tensor,
    labels: Tensor,
    seed: int,
    make: Callable[[], nn.Module],
    loop: "Callable[[_Peer, Tensor, Tensor], Step]",
) -> Step:
    model = make()
    model.load_state_dict(build(setting.network, seed=seed).state_dict())
    return loop(_Peer(setting, mode, model.to(setting.device)), images, labels)


def _batch(setting: Setting, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    size = (setting.batch, setting.network.in_channels, setting.resolution, setting.resolution)
    images = torch.randn(size, generator=generator)
    labels = torch.randint(setting.network.classes, (setting.batch,), generator=generator)
    return images.to(setting.device), labels.to(setting.device)


def _peers(network: Spec) -> dict[str, Callable[[], nn.Module]]:
    """The same network elsewhere; where there is none, our module in torchvision's loop."""
    known = notation(network)
    name = known.usual().identifier() if known else ""
    peers: dict[str, Callable[[], nn.Module]] = {}
    if network.in_channels == 3:
        from torchvision import models

        if name in models.list_models():
            peers["torchvision"] = lambda: models.get_model(name, num_classes=network.classes)
        if _timm_knows(name):
            peers["timm"] = lambda: _of_timm(name, network.classes)
    return peers or {"torchvision's loop, our network": lambda: build(network)}


def _timm_knows(name: str) -> bool:
    try:
        import timm
    except ImportError:
        return False
    return bool(timm.is_model(name))


def _of_timm(name: str, classes: int) -> nn.Module:
    import timm

    model: nn.Module = timm.create_model(name, num_classes=classes)
    return model


@dataclass(frozen=True, slots=True)
class _Endless:
    """The same batch, more often than anybody asks for it."""

    images: Tensor
    labels: Tensor
    totals: Sequence[int]

    def __len__(self) -> int:
        return len(self.totals)

    def __iter__(self) -> "Iterator[_Endless]":
        return (self for _ in self.totals)


def _our_step(
    setting: Setting,
    mode: Mode,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    bn_batch: int | None,
    micro_batch: int | None,
) -> Step:
    """Our loop as a run pulls it."""
    speed = Speed(
        precision=setting.precision,
        compilation="default" if mode == "compiled" else None,
        micro_batch=micro_batch,
        channels_last=mode != "eager",
    )
    recipe = setting.recipe.model_copy(update={"bn_batch": bn_batch})
    trainer = Trainer(model, recipe, device=setting.device, speed=speed)
    batches = _Endless(images, labels, [len(labels)] * 10**6)
    steps = fit(trainer, lambda _epoch, _step: batches)
    return lambda: next(steps)


class _Peer:
    """A module and what both peers' loops have around it."""

    def __init__(self, setting: Setting, mode: Mode, model: nn.Module) -> None:
        recipe = setting.recipe
        self.channels_last = mode != "eager"
        self.setting = setting
        if self.channels_last:
            model.to(memory_format=torch.channels_last)
        model.train()
        self.optimizer = torch.optim.SGD(
            model.parameters(),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
        )
        self.forward: Any = torch.compile(model) if mode == "compiled" else model
        self.criterion = nn.CrossEntropyLoss()
        self.logged: deque[float] = deque(maxlen=20)

    def loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and the mean loss."""
        images = moved(images, self.setting.device, channels_last=self.channels_last)
        with autocast(self.setting.device, self.setting.precision):
            logits = self.forward(images)
            return logits, self.criterion(logits, labels)


def _torchvision_step(peer: _Peer, images: Tensor, labels: Tensor) -> Step:
    """references/classification: one step, with the figures that it reads out behind each."""

    def step() -> None:
        logits, loss = peer.loss(images, labels)
        peer.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        peer.optimizer.step()
        with torch.no_grad():
            best = logits.topk(min(5, logits.shape[1])).indices
            hits = best == labels[:, None]
            figures = [100 * hits[:, :k].any(1).float().mean() for k in (1, 5)]
        peer.logged.extend(figure.item() for figure in (loss, *figures))

    return step


def _timm_step(peer: _Peer, images: Tensor, labels: Tensor) -> Step:
    """train.py of timm: one step, with the loss that it reads out behind each."""

    def step() -> None:
        _, loss = peer.loss(images, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        peer.optimizer.step()
        peer.logged.append(loss.item())
        peer.optimizer.zero_grad()

    return step
