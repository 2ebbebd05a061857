"""Compiles `loader.c`; needs a C compiler and the headers of libjpeg-turbo, but no Python headers.

Uses the standard library only and imports nothing of the package: the build hook loads this file by
its path. `python -m resnext.data.native` compiles for the package where it lies.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

SOURCE = Path(__file__).with_name("loader.c")
LIBRARY = Path(__file__).with_name("loader.so")
"""The same name on every system: ctypes loads it by its path."""

HINT = (
    "a C compiler and libjpeg-turbo's headers (Debian: gcc libjpeg62-turbo-dev,"
    " Ubuntu: gcc libjpeg-turbo8-dev, Fedora: gcc libjpeg-turbo-devel)"
)

# -ffp-contract=off: a fused multiply-add would round the draws differently from one machine to
# another. No -march: the file must run where it was not built.
_FLAGS = ("-std=c11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden")
_LIBRARIES = ("-ljpeg", "-lm", "-lpthread")
_SECONDS = 120


class BuildError(Exception):
    """No library was made; the message says why in one line."""


def build(target: Path = LIBRARY) -> Path:
    """Compile the shared library; replaces `target` only when that went well.

    Raises:
        BuildError: no compiler, no headers, or an error of the compiler.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build-") as folder:
        made = Path(folder) / target.name
        compile_program([SOURCE], made, flags=(*_FLAGS, "-shared", "-fPIC"))
        made.replace(target)
    return target


def compile_program(
    sources: Sequence[Path], target: Path, *, flags: Sequence[str] = _FLAGS
) -> None:
    """Run the C compiler: $CC with $CFLAGS and $LDFLAGS, else cc, gcc or clang.

    Raises:
        BuildError: as `build`.
    """
    command = [
        *_compiler(),
        *flags,
        *shlex.split(os.environ.get("CFLAGS", "")),
        *(str(source) for source in sources),
        *shlex.split(os.environ.get("LDFLAGS", "")),
        *_LIBRARIES,
        "-o",
        str(target),
    ]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"expected to run {command[0]}, found: {error}") from error
    if done.returncode:
        raise BuildError(f"expected {HINT}, found: {_first_error(done.stderr)}")


def _compiler() -> list[str]:
    chosen = shlex.split(os.environ.get("CC", ""))
    if chosen:
        return chosen
    for name in ("cc", "gcc", "clang"):
        if shutil.which(name):
            return [name]
    raise BuildError(f"expected {HINT}, found no C compiler")


def _first_error(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    wrong = [line for line in lines if "error" in line or "cannot find" in line]
    return (wrong or lines or ["no message"])[0]


def main() -> int:
    """Build in place; the exit code says whether that went well."""
    try:
        sys.stdout.write(f"built {build()}\n")
    except (BuildError, OSError) as error:
        sys.stderr.write(f"not built: {error}\n")
        return 1
    return 0
