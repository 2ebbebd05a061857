"""Libraries that come with the extra `export`, imported where they are used."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from resnext.errors import UsageError

EXTRA = "resnext[export]"


def needed(name: str) -> Any:
    """The module of that name.

    Raises:
        UsageError: it is not installed; the message says how to.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise UsageError(f"expected {EXTRA} to be installed, found: {error}") from error


def at_hand(*names: str) -> bool:
    """Whether modules are installed; they are not imported."""
    return all(find_spec(name) is not None for name in names)
