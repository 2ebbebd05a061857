"""Which code ran, and on what: the parts whose version may move a number."""

import os
import platform
import shlex
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import resnext


def versions() -> dict[str, str]:
    """Name -> version; torch's says which CUDA it was built for."""
    found = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "resnext": resnext.__version__,
        "torch": str(torch.__version__),
    }
    return found | {package: version(package) for package in ("torchvision", "numpy", "pillow")}


def machine(device: torch.device | None = None) -> str:
    """Processor, cores that this process may use, memory; and the GPU, where `device` is one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    own = f"{_processor()}, {cores} cores{_memory()}"
    if device is None or device.type != "cuda":
        return own
    return f"{torch.cuda.get_device_name(device)}; {own}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _memory() -> str:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return ""
    return f", {total / 2**30:.0f} GiB"


def source_commit() -> str | None:
    """The commit of this code with `-dirty` behind it if changed; None outside its repository."""
    here = Path(__file__)
    git = ["git", "-C", str(here.parent)]
    try:
        subprocess.run([*git, "ls-files", "--error-unmatch", here.name], **_QUIET)
        describe = [*git, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
        return subprocess.run(describe, **_QUIET).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


_QUIET: dict[str, Any] = {"check": True, "capture_output": True, "text": True, "timeout": 10}


def as_typed(command: Sequence[str]) -> str:
    """A command as somebody else would type it: the program by its name, wherever it lay."""
    program, *words = command or ("resnext",)
    name = Path(program).name
    return shlex.join(["resnext" if name == "__main__.py" else name, *words])
