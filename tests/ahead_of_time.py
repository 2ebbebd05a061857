"""What kernels become on a Hopper GPU, without one: their launches are recorded and compiled.

The recorded launch is the very one that a GPU would be given: same arguments, same options. Tensors
are on `meta`; the machine code comes from the assembler that triton brings along.
"""

import re
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from resnext.kernels import launching, normalising

HOPPER = GPUTarget("cuda", 90, 32)
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
TYPES = {
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.int32: "*i32",
}
INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,5}\*/\s+((?:@!?U?P\d+\s+)?[A-Z0-9_.]+[^;]*);")


@dataclass(frozen=True)
class Code:
    """A kernel as the GPU would run it."""

    name: str
    registers: int
    stack: int
    shared: int
    instructions: tuple[str, ...]

    def count(self, *prefixes: str) -> int:
        return sum(one.startswith(prefixes) for one in self.instructions)


class _Recorder:
    def __init__(self, kernel: Any, found: list[tuple[Any, tuple, dict]]) -> None:
        self._kernel, self._found = kernel, found

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        return lambda *args, **options: self._found.append((self._kernel, args, options))


def recorded(call: Callable[[], object]) -> list[tuple[Any, tuple, dict]]:
    """The launches of kernels that a call makes, none of them carried out."""
    found: list[tuple[Any, tuple, dict]] = []
    with ExitStack() as stack:
        for module in (launching, normalising):
            for name, value in vars(module).items():
                if isinstance(value, triton.JITFunction):
                    stack.enter_context(patch.object(module, name, _Recorder(value, found)))
        call()
    return found


def compiled(kernel: Any, args: tuple, options: dict) -> Code:
    """Machine code of one launch."""
    signature, constants, attributes = {}, {}, {}
    given = dict(zip(kernel.arg_names, args, strict=False)) | {
        name: value for name, value in options.items() if name in kernel.arg_names
    }
    for number, name in enumerate(kernel.arg_names):
        value = given[name]
        if isinstance(value, torch.Tensor):
            signature[name] = TYPES[value.dtype]
            attributes[(number,)] = [["tt.divisibility", 16]]
        elif name in options or value == 1:  # an argument of 1 is compiled in, as at a launch
            signature[name], constants[(number,)] = "constexpr", value
        else:
            signature[name] = "i32"
            if isinstance(value, float):
                signature[name] = "fp32"
            elif value % 16 == 0:
                attributes[(number,)] = [["tt.divisibility", 16]]
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
    made = triton.compile(
        source,
        target=HOPPER,
        options={k: v for k, v in options.items() if k not in kernel.arg_names},
    )
    return _read(kernel.fn.__name__, made)


def _read(name: str, made: Any) -> Code:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        usage = _cuobjdump("-res-usage", file.name)
        code = _cuobjdump("-sass", file.name)
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    assert found, usage
    instructions = [re.sub(r"^@!?U?P\d+\s+", "", text) for text in INSTRUCTION.findall(code)]
    return Code(
        name, int(found[1]), int(found[2]), made.metadata.shared,
        tuple(text.split()[0] for text in instructions),
    )  # fmt: skip


def _cuobjdump(*words: str) -> str:
    done = subprocess.run([TOOLS / "cuobjdump", *words], capture_output=True, text=True, check=True)
    return done.stdout
