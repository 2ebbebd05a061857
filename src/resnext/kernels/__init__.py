"""Kernels of our own, beside the framework's; a leaf: torch and triton, nothing of ours."""

from resnext.kernels.grouped_conv import (
    BACKENDS,
    Backend,
    KernelFallbackWarning,
    grouped_conv2d,
    unsupported,
)

__all__ = ["BACKENDS", "Backend", "KernelFallbackWarning", "grouped_conv2d", "unsupported"]
