"""One row of each benchmark, for who wants to know at a glance what is gained or lost."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]
Line = tuple[str, str, str]
"""What was measured, beside what, and the ratio in words."""


def summary(tables: Sequence[Sequence[Record]]) -> list[Line]:
    """The rows of several files of results; of files that it knows no row for, none."""
    return [
        line
        for records in tables
        for told_by, lines in _LINES.items()
        if records and all(told_by in record for record in records)
        for line in lines(records)
    ]


def _training(records: Sequence[Record]) -> Iterator[Line]:
    ours = [record for record in records if record["method"] == "resnext"]
    best = max(ours, key=lambda record: record["images_per_second"])
    where = "GPU" if "gpu" in best else "processor"
    what = f"a training step of {best['network']}, {best['precision']}, {where}"
    yield what, "the better of torchvision's and timm's, in its best mode", _times(best)


def _input(records: Sequence[Record]) -> Iterator[Line]:
    for record in records:
        if record["threads"] == 1 and record["method"].startswith("resnext native, "):
            if "bicubic" in record["method"] or record["ratio"] == 1:
                continue
            yield f"images per core: {record['group']}", "torchvision's reference", _times(record)


def _inference(records: Sequence[Record]) -> Iterator[Line]:
    for record in records:
        if record["method"] == "resnext auto":
            count = record["batch"]
            pictures = "picture" if count == 1 else "pictures"
            what = f"inference of {record['network']}, {count} {pictures} at once, processor"
            yield what, "the faster of ONNX Runtime and OpenVINO, driven directly", _times(record)


def _serving(records: Sequence[Record]) -> Iterator[Line]:
    for record in records:
        if record["answers"]:
            what = f"pictures served of {record['network']}, {record['clients']} clients"
            yield what, f"the engine alone, {record['batch']} at once", _times(record)


def _times(record: Record) -> str:
    return f"{record['ratio']:.2f} times as fast"


_LINES: dict[str, Callable[[Sequence[Record]], Iterator[Line]]] = {
    "mode": _training,
    "per_slice": _input,
    "answers": _serving,
    "agreement": _inference,
}
"""By a field that only its lines have."""
