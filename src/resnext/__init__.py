"""One line of text, ``ResNeXt-50 (32×4d)``, becomes an exact specification and all that follows.

The algebra is here at once; what needs torch is imported on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from resnext.budget import solve, table2
from resnext.catalog import CATALOG, identifier, name, spec
from resnext.complexity import complexity
from resnext.errors import ResNextError
from resnext.families import cifar, compose, imagenet, wide_resnet
from resnext.spec import Paths, Spec, Stem, StemConv
from resnext.template import Template

if TYPE_CHECKING:
    from resnext.model.convert import convert
    from resnext.model.network import build

__version__ = "0.1.0"
__all__ = [
    "CATALOG",
    "Paths",
    "ResNextError",
    "Spec",
    "Stem",
    "StemConv",
    "Template",
    "build",
    "cifar",
    "complexity",
    "compose",
    "convert",
    "identifier",
    "imagenet",
    "name",
    "solve",
    "spec",
    "table2",
    "wide_resnet",
]

_NEEDS_TORCH = {"build": "resnext.model.network", "convert": "resnext.model.convert"}


def __getattr__(attribute: str) -> Any:
    """Import what needs torch when it is first asked for."""
    if attribute in _NEEDS_TORCH:
        return getattr(import_module(_NEEDS_TORCH[attribute]), attribute)
    raise AttributeError(f"module 'resnext' has no attribute {attribute!r}")
