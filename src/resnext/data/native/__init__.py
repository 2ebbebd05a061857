"""The optional compiled loader of JPEG batches; see `library.py` for the Python face."""

from resnext.data.native.library import (
    CUT,
    OUTCOME,
    Central,
    Cutting,
    Drawn,
    Encoded,
    FilePart,
    Given,
    Loaded,
    NativeLoader,
    Resample,
    Status,
    describe,
    reason,
)

__all__ = [
    "CUT",
    "OUTCOME",
    "Central",
    "Cutting",
    "Drawn",
    "Encoded",
    "FilePart",
    "Given",
    "Loaded",
    "NativeLoader",
    "Resample",
    "Status",
    "describe",
    "reason",
]
