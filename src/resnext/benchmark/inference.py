"""Images per second of inference: our engines, the libraries driven directly, the peers' modules.

All compute the same weights on the same images, which lie in memory. They are interleaved in random
order inside one process, slice by slice; a ratio is the median over slices of a method's rate by
that of the faster of ONNX Runtime and OpenVINO, driven directly in float32, on that slice. One
thread is measured by its processor time, several by the clock.
"""

import random
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from resnext.deploy.artifact import Artifact
from resnext.deploy.card import timm_name, torchvision_name
from resnext.deploy.engines import choose
from resnext.deploy.libraries import ENGINES, bf16_at_hand, missing, open_library
from resnext.deploy.origin import artifact_of_model
from resnext.deploy.packages import needed
from resnext.deploy.parity import Parity, noise, parity, reference
from resnext.errors import UsageError
from resnext.model.network import build
from resnext.spec import Spec

OURS = "resnext"
DIRECT = ("ONNX Runtime, directly", "OpenVINO, directly")
_COMPARED = 4  # images whose logits are compared
_SLICE = 8  # images of a slice at least: one alone takes too short to be timed well

Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is run.

    Attributes:
        network: with random weights, unless an artifact is given.
        batches: images at once, one contest for each number.
        slices: repetitions, of which the median counts.
        threads: of the processor.
        compiled: whether to compile too, which takes minutes.
    """

    network: Spec
    batches: tuple[int, ...] = (1, 16)
    slices: int = 9
    threads: int = 1
    compiled: bool = True
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A method that can run; `seconds` is how long it took to make it."""

    method: str
    seconds: float
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One method at one batch: its median rate, the extremes, its ratio, and its error."""

    batch: int
    method: str
    precision: str
    images_per_second: float
    least: float
    most: float
    ratio: float
    slices: int
    difference: float
    """Of logits from those in float64, in units of the largest one."""
    agreement: float
    """Part of the images with the same most likely class."""


@dataclass(frozen=True, slots=True)
class _Method:
    forward: Forward
    parity: Parity


_Key = tuple[str, str]
"""Title and precision."""


def benchmark_inference(
    setting: Setting, artifact: Artifact | None = None
) -> Iterator[Ready | Row]:
    """Rates at each batch; first a `Ready` for each method as it is made.

    Args:
        setting: what is run.
        artifact: weights of the network; random ones if left out.

    Raises:
        UsageError: the extra `export` is not installed, without which there is nothing to beat.
    """
    for engine in ("onnxruntime", "openvino"):
        if why := missing(engine):
            raise UsageError(why)
    torch.set_num_threads(setting.threads)
    used = artifact or artifact_of_model(build(setting.network, seed=setting.seed))
    compared = noise(used, _COMPARED, seed=setting.seed)
    wanted = reference(used)(compared)
    methods: dict[_Key, _Method] = {}
    for method, precision, make in _methods(used, setting):
        started = time.perf_counter()
        forward, note = make()
        found = parity(wanted, forward(compared), compared.shape[-1])
        methods[method, precision] = _Method(forward, found)
        yield Ready(
            method=f"{method} {precision}", seconds=time.perf_counter() - started, note=note
        )
    for batch in setting.batches:
        started = time.perf_counter()
        chosen = choose(used, batch_size=batch)
        found = parity(wanted, chosen.engine(compared), compared.shape[-1])
        auto: dict[_Key, _Method] = {(f"{OURS} auto", "fp32"): _Method(chosen.engine, found)}
        seconds = time.perf_counter() - started
        yield Ready(method=f"{OURS} auto, {batch} at once", seconds=seconds, note=str(chosen))
        yield from _rows(auto | methods, used, batch, setting)


Made = Callable[[], tuple[Forward, str]]


def _methods(artifact: Artifact, setting: Setting) -> Iterator[tuple[str, str, Made]]:
    """Names, precisions, and how each is made."""
    calibration = noise(artifact, 8, seed=setting.seed + 1)  # like the images that follow
    for engine, precisions in ENGINES.items():
        if engine == "compile" and not setting.compiled:
            continue
        for precision in precisions:
            if precision != "bf16" or bf16_at_hand():
                yield f"{OURS} {engine}", precision, _ours(artifact, engine, precision, calibration)
    peers = dict(_peers(artifact))
    for title, model in peers.items():
        yield f"{title}, eager", "fp32", _eager(model, torch.contiguous_format)
        yield f"{title}, channels last", "fp32", _eager(model, torch.channels_last)
    graph = _Graph(next(iter(peers.values()), None) or artifact.model, artifact)
    yield DIRECT[0], "fp32", lambda: (_onnxruntime(graph(), setting.threads), "")
    yield DIRECT[1], "fp32", lambda: (_openvino(graph(), setting.threads, "f32"), "")
    if bf16_at_hand():
        yield DIRECT[1], "bf16", lambda: (_openvino(graph(), setting.threads, "bf16"), "")


def _ours(artifact: Artifact, engine: str, precision: str, calibration: Tensor) -> Made:
    return lambda: (open_library(artifact, engine, precision, calibration), "")


def _peers(artifact: Artifact) -> Iterator[tuple[str, Callable[[], nn.Module]]]:
    """The same network elsewhere, with these weights."""
    spec = artifact.spec
    theirs = torchvision_name(spec)
    if theirs:
        from torchvision import models

        yield (
            "torchvision",
            lambda: _loaded(models.get_model(theirs, num_classes=spec.classes), artifact),
        )
    known, there = timm_name(spec)
    if there and spec.in_channels == 3:
        try:
            import timm
        except ImportError:
            return
        yield "timm", lambda: _loaded(timm.create_model(known, num_classes=spec.classes), artifact)


def _loaded(model: nn.Module, artifact: Artifact) -> nn.Module:
    model.load_state_dict(artifact.weights)
    return model.eval()


def _eager(make: Callable[[], nn.Module], layout: torch.memory_format) -> Made:
    def made() -> tuple[Forward, str]:
        model = make().to(memory_format=layout)

        @torch.inference_mode()
        def forward(images: Tensor) -> Tensor:
            found: Tensor = model(images.to(memory_format=layout))
            return found

        return forward, ""

    return made


class _Graph:
    """The peer's module as an ONNX file, the way its users are told to make one; made once."""

    def __init__(self, make: Callable[[], nn.Module], artifact: Artifact) -> None:
        self._make, self._artifact = make, artifact
        self._made: bytes | None = None

    def __call__(self) -> bytes:
        if self._made is None:
            needed("onnxscript")
            example = noise(self._artifact, 2)
            batch = {0: torch.export.Dim.DYNAMIC}
            with warnings.catch_warnings(action="ignore"):
                program = torch.onnx.export(
                    self._make(), (example,), dynamo=True, dynamic_shapes=(batch,), verbose=False
                )
            assert program is not None
            self._made = bytes(program.model_proto.SerializeToString())
        return self._made


def _onnxruntime(graph: bytes, threads: int) -> Forward:
    library = needed("onnxruntime")
    options = library.SessionOptions()
    options.intra_op_num_threads = threads
    session = library.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0].name
    return lambda images: torch.from_numpy(session.run(None, {given: images.numpy()})[0])


def _openvino(graph: bytes, threads: int, hint: str) -> Forward:
    library = needed("openvino")
    core = library.Core()
    settings: Mapping[str, Any] = {
        "INFERENCE_PRECISION_HINT": hint,
        "INFERENCE_NUM_THREADS": threads,
    }
    compiled = core.compile_model(core.read_model(graph), "CPU", settings)
    return lambda images: torch.from_numpy(compiled([images.numpy()])[0])


def _rows(
    methods: Mapping[_Key, _Method], artifact: Artifact, batch: int, setting: Setting
) -> Iterator[Row]:
    images = noise(artifact, batch, seed=setting.seed + 2)
    rates = _rates(methods, images, setting)
    best = max((rates[title, "fp32"] for title in DIRECT), key=statistics.median)
    for (title, precision), found in rates.items():
        method = methods[title, precision]
        yield Row(
            batch=batch,
            method=title,
            precision=precision,
            images_per_second=statistics.median(found),
            least=min(found),
            most=max(found),
            ratio=statistics.median(a / b for a, b in zip(found, best, strict=True)),
            slices=len(found),
            difference=method.parity.relative,
            agreement=method.parity.agreement,
        )


def _rates(
    methods: Mapping[_Key, _Method], images: Tensor, setting: Setting
) -> dict[_Key, list[float]]:
    clock = time.process_time if setting.threads == 1 else time.perf_counter
    shuffle = random.Random(setting.seed)
    times = max(1, _SLICE // len(images))
    for method in methods.values():
        method.forward(images)  # memory, and kernels of this size
    rates: dict[_Key, list[float]] = {key: [] for key in methods}
    for _ in range(setting.slices):
        for key in shuffle.sample(list(methods), len(methods)):
            started = clock()
            for _ in range(times):
                methods[key].forward(images)
            rates[key].append(times * len(images) / (clock() - started))
    return rates
