"""``resnext doctor``: what this installation can do here, and why not the rest."""

import json
from importlib import metadata
from importlib.util import find_spec

from resnext.cli.options import AsJson


def doctor(
    as_json: AsJson = False,
) -> None:
    """Say which paths are live on this machine, or why not."""
    import torch

    from resnext.data import native
    from resnext.runs.provenance import machine, versions

    cuda = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    report = {
        "machine": machine(),
        "versions": " ".join(f"{name} {version}" for name, version in versions().items()),
        "gpu": cuda or "none that torch can use",
        "input engine": _engine(),
        "native loader": native.describe(),
        "timm": _version("timm"),
    }
    if as_json:
        print(json.dumps(report, indent=2))
        return
    for name, value in report.items():
        print(f"{name:<14} {value}")


def _engine() -> str:
    from resnext.data import native

    if native.reason() is None:
        return "native"
    installed = find_spec("simplejpeg") is not None
    return "simplejpeg" if installed else "pillow; pip install simplejpeg makes it faster"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed; needed only for resnext.model.timm_adapter"
