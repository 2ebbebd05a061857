"""A network as a file for other programs, which is written only if it computes the network.

Beside `x.onnx` lies `x.onnx.parity.json`: what the file was compared with, on which images, and by
how much it differs. Both are made in a folder of their own and moved when all is well.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from resnext.deploy.artifact import Artifact
from resnext.deploy.checking import compared
from resnext.deploy.graphs import exported, network, onnx_of, quantised, words
from resnext.deploy.libraries import (
    ENGINES,
    NO_CALIBRATION,
    check_engine,
    graph_onnxruntime,
    graph_openvino,
    missing,
)
from resnext.deploy.packages import needed
from resnext.deploy.parity import Forward
from resnext.deploy.samples import Samples
from resnext.errors import ResourceError, UsageError
from resnext.runs.provenance import machine, versions

Format = Literal["torch", "onnx", "openvino"]
FORMATS: tuple[Format, ...] = get_args(Format)

SUFFIXES: Mapping[str, str] = {"torch": ".pt2", "onnx": ".onnx", "openvino": ".xml"}
_ENGINES = {"torch": "torch", "onnx": "onnxruntime", "openvino": "openvino"}
"""What runs the files of a format, and so decides the precisions that they come in."""

REPORT = ".parity.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What file is wanted.

    Attributes:
        kind: ``torch`` (a program of torch.export), ``onnx`` or ``openvino`` (.xml beside .bin).
        precision: fp32; bf16 for torch and openvino; int8 for onnx and openvino.
        fold: make normalisation part of the convolutions.
        given: images to calibrate by and to compare on; int8 needs them.
    """

    kind: str
    precision: str = "fp32"
    fold: bool = True
    given: Samples | None = None

    def check(self) -> None:
        """Refuse what cannot be had, before anything is computed.

        Raises:
            UsageError: no such format or precision, or the extra `export` is missing.
            ResourceError: nothing here computes in this precision.
        """
        if self.kind not in FORMATS:
            known = ", ".join(FORMATS)
            raise UsageError(f"expected a format out of artifact, {known}, found {self.kind!r}")
        if self.precision not in precisions(self.kind):
            known = ", ".join(precisions(self.kind))
            raise UsageError(
                f"expected precision {known} for {self.kind}, found {self.precision!r}"
            )
        check_engine(_ENGINES[self.kind], self.precision)
        if self.precision != "int8":
            return
        if why := missing("onnxruntime"):  # which quantises for both formats
            raise UsageError(why)
        if not self.fold:
            raise UsageError("expected normalisation folded for int8, found --keep-bn")


def export(
    artifact: Artifact, path: str | Path, order: Order, *, replacing: bool = False
) -> tuple[Path, dict[str, Any]]:
    """Write a file that any number of images of any size go through.

    Every file is compared with the network in float64, on real images (those given, or parts of two
    photographs) one, two and seven at once, at the profile's size and a larger one. In fp32 and
    bf16 the largest difference has to stay within `parity.tolerance`; int8 has to keep the class of
    most images and nearly all accuracy (see `checking`) on images that it was not calibrated by.

    Args:
        artifact: the network with its weights.
        path: of the file; the format's suffix is added where it is missing.
        order: which file.
        replacing: whether an older export may lie there, which goes.

    Returns:
        The file, and the report that lies beside it.

    Raises:
        UsageError: the order cannot be carried out, or a file is there.
        ParityError: the file does not compute the network; nothing was written.
        ResourceError: it cannot be written.
    """
    order.check()
    if order.precision == "int8" and order.given is None:
        raise UsageError(NO_CALIBRATION)
    file = check_place(Path(path), order.kind, replacing=replacing)
    new_folder = not file.parent.exists()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".resnext-", dir=file.parent) as folder:
            report = _write(artifact, Path(folder) / file.name, order)
            _move(Path(folder), file)
    except BaseException as error:
        if new_folder:
            with suppress(OSError):
                file.parent.rmdir()
        if isinstance(error, OSError):
            raise ResourceError(f"cannot write {file}: {error.strerror or error}") from error
        raise
    return file, report


def _write(artifact: Artifact, made: Path, order: Order) -> dict[str, Any]:
    """The file and its report in a folder of their own."""
    _WRITERS[order.kind](artifact, made, order)
    forward = open_file(made, order.kind, order.precision)
    found = compared(artifact, forward, order.precision, order.given)
    report = {
        "network": artifact.network,
        "weights": artifact.record.weights,
        "format": order.kind,
        "precision": order.precision,
        "folded": order.fold,
        "files": {path.name: _facts(path) for path in sorted(made.parent.iterdir())},
        **found.to_dict(),
        "machine": machine(),
        "versions": versions() | _library_versions(order),
    }
    text = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False)
    _report_of(made).write_text(text + "\n", encoding="utf-8")
    return report


def _facts(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def check_place(path: Path, kind: str, *, replacing: bool) -> Path:
    """The file to write, of which nothing is there, or an older export that may go.

    Raises:
        UsageError: something else is there.
    """
    path = path.expanduser()
    suffix = SUFFIXES[kind]
    file = path if path.suffix == suffix else path.with_name(path.name + suffix)
    report = _report_of(file)
    there = [each for each in _files(file, kind) if each.exists()]
    if there and not (replacing and report.is_file()):
        hint = ", say --replace to replace it" if report.is_file() else ""
        raise UsageError(f"expected a new file, found {there[0]}; nothing was changed{hint}")
    return file


def _report_of(file: Path) -> Path:
    return file.with_name(file.name + REPORT)


def _files(file: Path, kind: str) -> tuple[Path, ...]:
    weights = (file.with_suffix(".bin"),) if kind == "openvino" else ()
    return (file, *weights, _report_of(file))


def _move(folder: Path, file: Path) -> None:
    """All files to where they belong, the one that programs open last.

    An older one of that name goes first, so that it is never found beside weights of another.
    """
    file.unlink(missing_ok=True)
    for made in sorted(folder.iterdir(), key=lambda each: each.name == file.name):
        descriptor = os.open(made, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        made.replace(file.parent / made.name)


def precisions(kind: str) -> tuple[str, ...]:
    """What files of a format there are."""
    return ENGINES[_ENGINES[kind]]


def open_file(file: Path, kind: str, precision: str) -> Forward:
    """A file that `export` wrote, in the library that it is for.

    Of nobody else's: `torch.export.load` would run code that is hidden in it.
    """
    if kind == "onnx":
        return graph_onnxruntime(file.read_bytes(), precision)
    if kind == "openvino":
        return graph_openvino(file, precision)
    module = torch.export.load(file).module()

    def forward(images: Tensor) -> Tensor:
        with torch.no_grad():
            found: Tensor = module(images)
        return found

    return forward


def _write_torch(artifact: Artifact, file: Path, order: Order) -> None:
    dtype = torch.bfloat16 if order.precision == "bf16" else None
    program = exported(artifact, network(artifact, fold=order.fold, dtype=dtype))
    extra = {"resnext.json": json.dumps(words(artifact), ensure_ascii=False)}
    torch.export.save(program, file, extra_files=extra)


def _write_onnx(artifact: Artifact, file: Path, order: Order) -> None:
    file.write_bytes(_graph(artifact, order))


def _write_openvino(artifact: Artifact, file: Path, order: Order) -> None:
    library = needed("openvino")
    model = library.Core().read_model(_graph(artifact, order))
    for key, value in words(artifact).items():
        model.set_rt_info(value, ["resnext", key])
    if order.precision == "bf16":
        _halve(model)
    library.save_model(model, file, compress_to_fp16=False)


def _halve(model: Any) -> None:
    """Store weights in bf16; whether arithmetic is in bf16, the program decides that opens them."""
    library, operations = needed("openvino"), needed("openvino.opset13")
    for constant in model.get_ops():
        if (
            constant.get_type_name() != "Constant"
            or constant.get_element_type() != library.Type.f32
        ):
            continue
        shorter = torch.from_numpy(constant.data.copy()).bfloat16().view(torch.uint16).numpy()
        tensor = library.Tensor(library.Type.bf16, constant.get_output_shape(0))
        tensor.data.view(np.uint16)[...] = shorter
        longer = operations.convert(library.op.Constant(tensor), "f32")
        constant.output(0).replace(longer.output(0))


def _graph(artifact: Artifact, order: Order) -> bytes:
    graph = onnx_of(artifact, network(artifact, fold=order.fold))
    if order.precision != "int8":
        return graph
    assert order.given is not None
    return quantised(graph, order.given.calibration)


_WRITERS: Mapping[str, Callable[[Artifact, Path, Order], None]] = {
    "torch": _write_torch,
    "onnx": _write_onnx,
    "openvino": _write_openvino,
}


def _library_versions(order: Order) -> dict[str, str]:
    names = {
        "torch": (),
        "onnx": ("onnx", "onnxruntime"),
        "openvino": ("onnx", "openvino", *(("onnxruntime",) if order.precision == "int8" else ())),
    }[order.kind]
    return {name: str(needed(name).__version__) for name in names}
