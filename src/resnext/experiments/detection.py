"""Sec. 5.4: Table 8, whose detectors are trained by `resnext detect`, not yet from here."""

from collections.abc import Sequence

from resnext.experiments.design import Experiment
from resnext.experiments.findings import Findings
from resnext.experiments.paper import NUMBERS, number
from resnext.report.content import Column, Part, Table

_MISSING = (
    "Runs are missing: detectors are trained by `resnext detect train --profile paper`, one "
    "backbone at a time; this table does not collect them yet."
)


def _table8(_: Findings) -> Sequence[Part]:
    networks = list(dict.fromkeys(one.row for one in NUMBERS if one.source == "Table 8"))
    columns = (
        Column(title="backbone"),
        *(
            Column(
                title=f"{whose}: {what}", digits=1, source="Table 8" if whose == "paper" else None
            )
            for what in ("AP@0.5", "AP")
            for whose in ("paper", "ours")
        ),
    )
    return (
        Table(
            name="table8",
            title="Faster R-CNN on COCO minival",
            columns=columns,
            rows=tuple(
                (row, number("Table 8", row, "AP@0.5"), None, number("Table 8", row, "AP"), None)
                for row in networks
            ),
            notes=(_MISSING,),
        ),
    )


TABLE8 = Experiment(
    id="table8",
    title="Table 8: object detection",
    source="Table 8",
    parts=_table8,
    data="COCO",
    missing=_MISSING,
)
