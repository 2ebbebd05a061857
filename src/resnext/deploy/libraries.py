"""The libraries that run a network on a processor, each as a function of images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor, nn

from resnext.deploy.artifact import Artifact
from resnext.deploy.folding import folded
from resnext.deploy.graphs import IMAGES, network, onnx_of, quantised
from resnext.deploy.packages import EXTRA, at_hand, needed
from resnext.errors import ResourceError, UsageError

Precision = Literal["fp32", "bf16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

_PACKAGES = {
    "torch": (),
    "compile": (),
    "onnxruntime": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
}


NO_CALIBRATION = "expected images to calibrate int8 by, found none; say --calibrate DATA"


class Engine(Protocol):
    """A network that is ready to run, by one thread at a time."""

    @property
    def name(self) -> str:
        """Which library."""
        ...

    @property
    def precision(self) -> str:
        """fp32, bf16 or int8: of the arithmetic; images and logits are float32."""
        ...

    def __call__(self, images: Tensor) -> Tensor:
        """N x C x H x W float32 on the CPU -> N x classes float32; any N and size."""
        ...


@dataclass(frozen=True, slots=True)
class Running:
    """A function with its names."""

    name: str
    precision: str
    forward: Callable[[Tensor], Tensor]

    def __call__(self, images: Tensor) -> Tensor:
        """See `Engine`."""
        return self.forward(images)


def open_library(
    artifact: Artifact, name: str, precision: str, calibration: Tensor | None = None
) -> Engine:
    """The engine of that name: see `engines.open_engine`."""
    check_engine(name, precision)
    if precision == "int8" and calibration is None:
        raise UsageError(NO_CALIBRATION)
    if name in ENGINES_OF_GRAPHS:
        return ENGINES_OF_GRAPHS[name](graph_of(artifact, precision, calibration), precision)
    return _OPEN[name](artifact, precision)


def check_engine(name: str, precision: str) -> None:
    """Refuse what cannot be had here, before anything is computed.

    Raises:
        UsageError: there is no such engine or precision, or it is not installed.
        ResourceError: this machine has no such arithmetic.
    """
    if name not in ENGINES:
        raise UsageError(f"expected an engine out of auto, {', '.join(ENGINES)}, found {name!r}")
    if precision not in ENGINES[name]:
        known = ", ".join(ENGINES[name])
        others = ", ".join(other for other, found in ENGINES.items() if precision in found)
        hint = f"; {precision} is for {others}" if others else ""
        raise UsageError(f"expected precision {known} for {name}, found {precision!r}{hint}")
    if why := missing(name):
        raise UsageError(why)
    if precision == "bf16" and not bf16_at_hand():
        raise ResourceError("expected a processor with bf16 arithmetic, found none; take fp32")


def missing(name: str) -> str | None:
    """What an engine lacks here; None if it can be used."""
    if at_hand(*_PACKAGES[name]):
        return None
    return f"expected {EXTRA} to be installed for {name}, found none; pip install '{EXTRA}'"


def bf16_at_hand() -> bool:
    """Whether the processor computes in bf16; others would imitate it, slowly."""
    known: Callable[[], dict[str, Any]] = getattr(torch.cpu, "get_capabilities", dict)
    features = known()  # empty in versions of torch that cannot tell
    return any(features.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def _torch(artifact: Artifact, precision: str) -> Engine:
    """Eager, with normalisation folded and channels last."""
    return Running("torch", precision, _eager(artifact, precision))


def _last_channels(artifact: Artifact, precision: str) -> tuple[nn.Module, torch.dtype]:
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    return folded(artifact.model()).to(dtype).to(memory_format=torch.channels_last), dtype


def _eager(artifact: Artifact, precision: str) -> Callable[[Tensor], Tensor]:
    model, dtype = _last_channels(artifact, precision)

    @torch.inference_mode()
    def forward(images: Tensor) -> Tensor:
        found: Tensor = model(images.to(dtype, memory_format=torch.channels_last))
        return found.float()

    return forward


def _compile(artifact: Artifact, precision: str) -> Engine:
    """The same compiled by inductor, with frozen weights."""
    model, dtype = _last_channels(artifact, precision)
    # One code for all sizes: a new one for each would take a minute for each.
    compiled = torch.compile(model, dynamic=True, options={"freezing": True})

    def forward(images: Tensor) -> Tensor:
        with torch.no_grad():  # in inference mode weights are not frozen
            found: Tensor = compiled(images.to(dtype, memory_format=torch.channels_last))
        return found.float()

    try:
        forward(torch.zeros(2, artifact.spec.in_channels, 32, 40))
    except RuntimeError as error:  # what inductor raises is one, whatever its compiler said
        reason = " ".join(str(error).split())[:200]
        raise ResourceError(
            f"expected a compiler that inductor can use, found: {reason}"
        ) from error
    return Running("compile", precision, forward)


def graph_onnxruntime(graph: bytes, precision: str) -> Engine:
    """A graph in ONNX Runtime."""
    library = needed("onnxruntime")
    options = library.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors alone
    session = library.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def forward(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {IMAGES: images.contiguous().numpy()})[0])

    return Running("onnxruntime", precision, forward)


def graph_openvino(graph: bytes | Path, precision: str) -> Engine:
    """A graph, or a file of OpenVINO's own; it would compute in bf16 unasked where it can."""
    library = needed("openvino")
    core = library.Core()
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = core.compile_model(core.read_model(graph), "CPU", settings).create_infer_request()

    def forward(images: Tensor) -> Tensor:
        found = request.infer([images.contiguous().numpy()], share_inputs=True)
        return torch.from_numpy(found[0].copy())

    return Running("openvino", precision, forward)


def graph_of(artifact: Artifact, precision: str, calibration: Tensor | None) -> bytes:
    """The ONNX graph that engines of graphs take; bf16 is their affair."""
    graph = onnx_of(artifact, network(artifact))
    if precision != "int8":
        return graph
    assert calibration is not None
    return quantised(graph, calibration)


_OPEN = {"torch": _torch, "compile": _compile}
ENGINES_OF_GRAPHS = {"onnxruntime": graph_onnxruntime, "openvino": graph_openvino}

ENGINES: Mapping[str, tuple[Precision, ...]] = {
    "torch": ("fp32", "bf16"),
    "compile": ("fp32", "bf16"),
    "onnxruntime": ("fp32", "int8"),
    "openvino": ("fp32", "bf16", "int8"),
}
"""What there is, and in which arithmetic."""
