"""Steps of training that are measured side by side: our trainer's, torchvision's, timm's.

All train the same network from the same weights, by the same SGD (ours fused, the peers' as their
loops make it), on the same batch, which lies in memory.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from resnext.catalog import notation
from resnext.kernels import Backend
from resnext.model.network import build
from resnext.spec import Spec
from resnext.training.loop import fit
from resnext.training.recipe import Recipe
from resnext.training.speed import Compilation, Precision, Speed, autocast, compiled, moved
from resnext.training.trainer import Trainer

Mode = Literal["eager", "channels-last", "compiled", "cuda-graphs"]
"""The last two are in channels-last too, as both peers' users are advised."""
MODES: tuple[Mode, ...] = get_args(Mode)

OURS = "resnext"

Step = Callable[[], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is trained, on what, and how steps are computed.

    Attributes:
        threads: of a processor's step.
        backends: of our grouped convolutions; other ones than the framework's have rows of theirs.
    """

    network: Spec
    batch: int
    resolution: int
    device: torch.device
    precision: Precision = "fp32"
    threads: int = 1
    backends: tuple[Backend, ...] = ("framework",)

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


def compilation_of(mode: Mode) -> Compilation | None:
    """What `torch.compile` is told in this mode."""
    return "default" if mode == "compiled" else "cuda-graphs" if mode == "cuda-graphs" else None


def methods(
    setting: Setting, mode: Mode, *, parts: int | None = None, seed: int = 0
) -> dict[str, Callable[[], Step]]:
    """What there is for a network; making one takes memory, its first step a compilation.

    `parts` adds two rows of ours, in the one mode in which they can be told apart.
    """
    images, labels = batch_of(setting, seed)
    ours = partial(_ours, setting, mode, images, labels, seed)
    found: dict[str, Callable[[], Step]] = {}
    for backend in setting.backends:
        name = OURS if backend == "framework" else f"{OURS}, {backend}"
        found[name] = partial(ours, backend=backend)
    if parts is not None and mode == "channels-last":
        found[f"{OURS}, normalised by {parts}"] = partial(ours, bn_batch=parts)
        micro = partial(ours, bn_batch=parts, micro_batch=parts)
        found[f"{OURS}, micro-batches of {parts}"] = micro
    for name, make in peers(setting.network).items():
        loop = timm_step if name == "timm" else torchvision_step
        found[name] = partial(_theirs, setting, mode, images, labels, seed, make, loop)
    return found


def _ours(
    setting: Setting,
    mode: Mode,
    images: Tensor,
    labels: Tensor,
    seed: int,
    *,
    backend: Backend = "framework",
    bn_batch: int | None = None,
    micro_batch: int | None = None,
) -> Step:
    model = build(setting.network, seed=seed, device=setting.device, backend=backend)
    return our_step(
        setting, mode, model, images, labels, bn_batch=bn_batch, micro_batch=micro_batch
    )


def _theirs(
    setting: Setting,
    mode: Mode,
    images: Tensor,
    labels: Tensor,
    seed: int,
    make: Callable[[], nn.Module],
    loop: "Callable[[Peer, Tensor, Tensor], Step]",
) -> Step:
    model = make()
    model.load_state_dict(build(setting.network, seed=seed).state_dict())
    return loop(Peer(setting, mode, model.to(setting.device)), images, labels)


def batch_of(setting: Setting, seed: int) -> tuple[Tensor, Tensor]:
    """Images and labels by chance."""
    generator = torch.Generator().manual_seed(seed)
    size = (setting.batch, setting.network.in_channels, setting.resolution, setting.resolution)
    images = torch.randn(size, generator=generator)
    labels = torch.randint(setting.network.classes, (setting.batch,), generator=generator)
    return images.to(setting.device), labels.to(setting.device)


def peers(network: Spec) -> dict[str, Callable[[], nn.Module]]:
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


def our_step(
    setting: Setting,
    mode: Mode,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    bn_batch: int | None = None,
    micro_batch: int | None = None,
) -> Step:
    """Our loop as a run pulls it."""
    speed = Speed(
        precision=setting.precision,
        compilation=compilation_of(mode),
        micro_batch=micro_batch,
        channels_last=mode != "eager",
    )
    recipe = setting.recipe.model_copy(update={"bn_batch": bn_batch})
    trainer = Trainer(model, recipe, device=setting.device, speed=speed)
    batches = _Endless(images, labels, [len(labels)] * 10**6)
    steps = fit(trainer, lambda _epoch, _step: batches)
    return lambda: next(steps)


class Peer:
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
        self.forward: Any = compiled(model, compilation_of(mode))
        self.criterion = nn.CrossEntropyLoss()
        self.logged: deque[float] = deque(maxlen=20)

    def loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and the mean loss."""
        images = moved(images, self.setting.device, channels_last=self.channels_last)
        with autocast(self.setting.device, self.setting.precision):
            logits = self.forward(images)
            return logits, self.criterion(logits, labels)


def torchvision_step(peer: Peer, images: Tensor, labels: Tensor) -> Step:
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


def timm_step(peer: Peer, images: Tensor, labels: Tensor) -> Step:
    """train.py of timm: one step, with the loss that it reads out behind each."""

    def step() -> None:
        _, loss = peer.loss(images, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        peer.optimizer.step()
        peer.logged.append(loss.item())
        peer.optimizer.zero_grad()

    return step
