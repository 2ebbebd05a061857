"""A network as a graph for other libraries: ONNX, and what is in its file beside the weights."""

import json
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from resnext.deploy.artifact import Artifact
from resnext.deploy.folding import folded
from resnext.deploy.packages import needed

IMAGES, LOGITS = "images", "logits"
"""The names of the input and the output in every exported file."""


class InType(nn.Module):
    """A network of another type between float32 images and float32 logits."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.model = model.to(dtype)
        self.dtype = dtype

    def forward(self, images: Tensor) -> Tensor:
        """N x C x H x W -> N x classes."""
        found: Tensor = self.model(images.to(self.dtype))
        return found.float()


def network(
    artifact: Artifact, *, fold: bool = True, dtype: torch.dtype | None = None
) -> nn.Module:
    """The module to export: normalisation folded or not, float32 or another type within."""
    model = artifact.model()
    made: nn.Module = folded(model) if fold else model
    return made if dtype is None else InType(made, dtype)


def exported(artifact: Artifact, model: nn.Module) -> torch.export.ExportedProgram:
    """The program of a module: of any number of images, of any size of at least 32 pixels.

    Sizes of the example are neither special to the compiler nor equal.
    """
    side = max(32, artifact.profile.resolution)
    example = torch.zeros(2, artifact.spec.in_channels, side, side + 32)
    dynamic = torch.export.Dim.DYNAMIC
    shapes = {0: dynamic, 2: dynamic, 3: dynamic}
    with _quietly(), torch.no_grad():
        return torch.export.export(model.eval(), (example,), dynamic_shapes=(shapes,), strict=False)


def onnx_of(artifact: Artifact, model: nn.Module) -> bytes:
    """The ONNX file of a module, with classes and preprocessing in its metadata.

    Raises:
        UsageError: the extra `export` is not installed.
    """
    needed("onnxscript")
    onnx = needed("onnx")
    with _quietly():
        program = torch.onnx.export(
            exported(artifact, model),
            dynamo=True,
            input_names=[IMAGES],
            output_names=[LOGITS],
            verbose=False,
        )
    assert program is not None
    made = program.model_proto
    del made.metadata_props[:]
    onnx.helper.set_model_props(made, words(artifact))
    onnx.checker.check_model(made, full_check=True)
    return bytes(made.SerializeToString())


def words(artifact: Artifact, **more: str) -> dict[str, str]:
    """What a file says beside its weights; lists and objects as JSON."""
    record = artifact.record
    found = {
        "network": record.network,
        "classes": _json(list(artifact.classes)),
        "preprocessing": _json(record.preprocessing),
        "weights_sha256": record.weights,
        "licence": record.licence or "",
        "scores": _json([score.model_dump(mode="json") for score in record.scores]),
        "made_by": f"resnext {needed('resnext').__version__}",
    }
    return found | more


def quantised(graph: bytes, images: Tensor) -> bytes:
    """An ONNX file in int8, by ONNX Runtime's static quantisation.

    Weights are symmetric, by output channel; activations are bytes whose ranges are the extremes
    on the given images. Both ONNX Runtime and OpenVINO compute such a graph in integers.

    Args:
        graph: of onnx_of, folded.
        images: N x C x H x W, prepared, to measure ranges on.

    Raises:
        UsageError: the extra `export` is not installed.
    """
    onnx = needed("onnx")
    quantization = needed("onnxruntime.quantization")
    before = onnx.load_from_string(graph)
    said = {prop.key: prop.value for prop in before.metadata_props}
    with tempfile.TemporaryDirectory() as folder, _quietly():
        file = Path(folder) / "int8.onnx"
        quantization.quantize_static(
            before,
            str(file),
            _reader(quantization, images),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
        )
        made = onnx.load(str(file))
    del made.metadata_props[:]
    onnx.helper.set_model_props(made, said)
    return bytes(made.SerializeToString())


def _reader(quantization: Any, images: Tensor) -> Any:
    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        """Images one by one, as the library wants them."""

        def __init__(self) -> None:
            self._left = iter(images)

        def get_next(self) -> dict[str, Any] | None:
            """The next one."""
            found = next(self._left, None)
            return None if found is None else {IMAGES: found[None].contiguous().numpy()}

    return Reader()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what exporters say to those who write them."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)
