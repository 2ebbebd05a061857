"""What every measurement is written down with, and where to."""

import json
import os
from pathlib import Path
from typing import Any


def append(path: Path, records: list[dict[str, Any]]) -> None:
    """Add lines of JSON to a file, which is made if it is not there.

    Raises:
        ResourceError: it cannot be written.
    """
    from resnext.errors import ResourceError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
    except OSError as error:
        raise ResourceError(f"cannot write {path}: {error.strerror or error}") from error


def facts() -> dict[str, Any]:
    """Machine, versions and commit, as every result needs them."""
    from resnext.runs.provenance import machine, source_commit, versions

    return {"machine": machine(), "commit": source_commit(), "versions": versions()}


def load() -> float:
    """Processes that wanted a processor, on average of a minute: what else the machine did."""
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else float("nan")


def gpu_facts() -> dict[str, Any]:
    """The GPU and what drives it, for results that were measured on one."""
    from importlib.metadata import version

    import torch

    found = torch.cuda.get_device_properties(torch.cuda.current_device())
    return {
        "gpu": found.name,
        "gpu_memory": found.total_memory,
        "multiprocessors": found.multi_processor_count,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "triton": version("triton"),
    }


def counts_of(text: str) -> tuple[int, ...]:
    """What was said of --batches.

    Raises:
        UsageError: it is no list of whole numbers.
    """
    from resnext.errors import UsageError

    found = text.split(",")
    if not all(part.strip().isdigit() and int(part) for part in found):
        raise UsageError(f"expected --batches as whole numbers such as 1,16, found {text!r}")
    return tuple(int(part) for part in found)


def libraries() -> dict[str, str]:
    """Versions of those that run exported files."""
    from importlib.metadata import version

    return {name: version(name) for name in ("onnx", "onnxruntime", "openvino")}
