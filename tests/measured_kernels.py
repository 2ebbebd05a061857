"""Benchmarks of kernels in miniature, where kernels are interpreted; see `interpreted`."""

import torch

from resnext.benchmark.kernels import Setting, benchmark_kernels
from resnext.benchmark.roofline import Ceiling, Conv3x3

CEILING = Ceiling(bandwidth=1e9, rate=1e12, basis="made up")
CONV = Conv3x3(
    count=2, group_width=8, channels=64, height=5, width=5, stride=1, images=2, itemsize=4
)


def rows(*, tune=False):
    setting = Setting(device=torch.device("cpu"), precision="fp32", repeats=3, tune=tune)
    return list(benchmark_kernels([CONV], CEILING, setting))


def rows_of_a_wrong_kernel():
    """As if the weights of the input gradient were not turned round."""
    from resnext.kernels import launching

    right = launching.packed
    launching.packed = lambda weight, dtype, **_: right(weight, dtype)
    try:
        return rows()
    finally:
        launching.packed = right


def rows_where_a_launch_does_not_fit():
    """As if the first launch that is tried asked for too much shared memory."""
    from triton.runtime.errors import OutOfResources

    from resnext.kernels import launching

    right = launching.convolve

    def convolve(x, weight, stride, launch):
        if launch.stages == 3:
            raise OutOfResources(300_000, 232_448, "shared memory")
        return right(x, weight, stride, launch)

    launching.convolve = convolve
    try:
        return rows(tune=True)
    finally:
        launching.convolve = right
