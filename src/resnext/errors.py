"""The errors a user can cause, each with the exit code that the command line ends with.

A message is one line: what was expected, what was found, what to do. Programming mistakes are not
here; they stay ordinary exceptions with a traceback.
"""

from typing import ClassVar

INTERRUPTED = 130
"""Exit code of Ctrl-C: 128 and the number of the signal, as shells count it."""


class ResNextError(ValueError):
    """Anything wrong with what the user gave; every error of this package is one."""

    exit_code: ClassVar[int] = 2


class NotationError(ResNextError):
    """A text that names no network."""


class SpecError(ResNextError):
    """A network that cannot exist: a width that does not divide, an impossible depth."""


class UsageError(ResNextError):
    """A request that cannot be carried out as asked, such as an output folder that exists."""


class InUseError(UsageError):
    """Another process is at it."""


class DataError(ResNextError):
    """Images or labels that are missing, unreadable or do not fit."""

    exit_code = 3


class CheckpointError(ResNextError):
    """Weights or a run folder that are missing, damaged or belong to another network."""

    exit_code = 4


class ParityError(CheckpointError):
    """A file or an engine that does not compute the network whose weights it has."""


class ResourceError(ResNextError):
    """The machine ran out of something: memory, disk, a device."""

    exit_code = 5


class PreemptedError(ResNextError):
    """The system asked this process to end; what it was doing is saved and can be continued."""

    exit_code: ClassVar[int] = 75


class NotFiniteError(ResNextError):
    """Training ran away: its loss or its gradient is no longer a number."""
