"""The figures of a run as TensorBoard events, for who likes to look at them there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from resnext.errors import UsageError
from resnext.runs.records import EpochRecord, StepRecord
from resnext.runs.running import Progress


def with_events(records: Iterator[Progress], path: Path) -> Iterator[Progress]:
    """The same records, written to `path` on their way.

    Raises:
        UsageError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError(
            "expected the package tensorboard, found none; pip install 'resnext[tensorboard]'"
        ) from error
    return _writing(records, SummaryWriter, path)


def _writing(records: Iterator[Progress], writer_of: Any, path: Path) -> Iterator[Progress]:
    with writer_of(str(path)) as writer:
        for record in records:
            if isinstance(record, StepRecord):
                figures = record.model_dump(exclude={"epoch", "step", "updates"})
                _write(writer, "steps", figures, record.updates)
            elif isinstance(record, EpochRecord):
                _write(writer, "epoch", record.model_dump(exclude={"epoch"}), record.epoch)
                writer.flush()
            yield record


def _write(writer: Any, group: str, values: dict[str, Any], at: int) -> None:
    for name, value in values.items():
        if value is not None:
            writer.add_scalar(f"{group}/{name}", value, at)
