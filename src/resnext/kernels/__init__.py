"""Kernels of our own, beside the framework's; a leaf: torch and triton, nothing of ours."""

from resnext.kernels.batch_norm import between_norms, fusible
from resnext.kernels.choices import BACKENDS, Backend, backend_for
from resnext.kernels.grouped_conv import (
    KernelFallbackWarning,
    grouped_conv2d,
    kept_backend,
    runs_on,
    say_once,
    unsupported,
    unsupported_weight,
)

__all__ = [
    "BACKENDS",
    "Backend",
    "KernelFallbackWarning",
    "backend_for",
    "between_norms",
    "fusible",
    "grouped_conv2d",
    "kept_backend",
    "runs_on",
    "say_once",
    "unsupported",
    "unsupported_weight",
]
