"""Sources that go wrong in a worker; in a module of their own, so that workers can import them."""

import os
import signal
import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnext.errors import DataError

FAULTY = 13
"""The image at which it happens."""


@dataclass(frozen=True)
class Faulty:
    """30 grey pictures whose values are their index; one of them does something else."""

    fault: str = "none"
    classes: tuple[str, ...] = ("even", "odd")
    labels: NDArray[np.int64] = field(default_factory=lambda: np.arange(30) % 2)

    def __len__(self) -> int:
        return 30

    def read(self, index: int) -> Image.Image:
        if index == FAULTY:
            misbehave(self.fault)
        return Image.new("L", (8, 8), index)

    def encoded(self, index: int) -> None:  # noqa: ARG002 - as the protocol has it
        return None

    def describe(self, index: int) -> str:
        return f"picture {index}"

    def fingerprint(self) -> str:
        return self.fault


def misbehave(fault: str) -> None:
    match fault:
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(3)
        case "stuck":
            time.sleep(3600)
        case "slow":
            time.sleep(2.5)
        case "unreadable":
            raise DataError("picture 13: expected an image, found none")
        case "mistake":
            raise ZeroDivisionError("a mistake of ours")
        case "runtime":
            raise RuntimeError("another mistake of ours")
