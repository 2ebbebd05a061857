"""From findings to a report: the one place that knows how reports are written."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import resnext
from resnext.experiments.findings import Findings
from resnext.experiments.study import short
from resnext.files import write_bytes
from resnext.report import Report, write_report
from resnext.runs.provenance import as_typed, machine, source_commit, versions

if TYPE_CHECKING:
    from resnext.data import DataSet
    from resnext.detection.splits import Sets

SCALES = {
    "paper": "the paper's networks and recipes, exactly",
    "short": "the paper's networks, with a shortened schedule",
    "demo": "the design at small size on small images: the method, not the paper's numbers",
}


def report(findings: Findings) -> Report:
    """What there is to say of an experiment now."""
    study = findings.study
    scale, missing, of = study.choices.scale, findings.missing(), len(findings.states)
    title, source = study.experiment.title, study.experiment.source
    summary = [] if title.startswith(source) else [f"{title} ({source})."]
    if not study.experiment.computed:
        summary.append(f"Scale {scale}: {SCALES[scale]}.")
    if missing:
        summary.append(f"{missing} of {of} runs are missing; their numbers are left open.")
    return Report(
        name=study.experiment.id,
        title=title,
        summary=tuple(summary),
        parts=tuple(study.experiment.parts(findings)),
        facts=_facts(findings),
    )


def _facts(findings: Findings) -> dict[str, str]:
    study = findings.study
    objects = study.choices.objects
    sets: list[DataSet | Sets] = [*study.choices.data, *([objects] if objects else [])]
    data = "; ".join(f"{one.name} ({one.fingerprint[:12]})" for one in sets)
    asked = {"scale": study.choices.scale, "data": data or "none", "seeds": str(study.seeds)}
    return {
        "command": as_typed(sys.argv),
        "commit of the report": short(source_commit()),
        **({} if study.experiment.computed else asked),
        "machine of the report": machine(),
        "versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
        "made by": f"resnext {resnext.__version__}",
    }


def write(made: Report, folder: Path) -> Path:
    """Write a report and its plain values; the page to look at.

    Raises:
        ResourceError: it cannot be written.
    """
    page, *_ = write_report(made, folder)
    plain = json.dumps(asdict(made), indent=1, default=_plain)
    write_bytes(folder / f"{made.name}.json", plain.encode())
    return page


def _plain(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
