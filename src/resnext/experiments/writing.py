"""From findings to a report: the one place that knows how reports are written."""

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import resnext
from resnext.errors import UsageError
from resnext.experiments.findings import Findings
from resnext.experiments.study import short
from resnext.report.content import Part, Report
from resnext.runs.provenance import machine, source_commit, versions
from resnext.training.checkpoint import write_bytes

SCALES = {
    "paper": "the paper's networks and recipes, exactly",
    "short": "the paper's networks, with a shortened schedule",
    "demo": "the paper's designs at small size on small images: the method, not the paper's numbers",
}


def report(findings: Findings) -> Report:
    """What there is to say of an experiment now."""
    study = findings.study
    scale, missing, of = study.choices.scale, findings.missing(), len(findings.states)
    summary = [f"{study.experiment.title} ({study.experiment.source})."]
    if not study.experiment.computed:
        summary.append(f"Scale {scale}: {SCALES[scale]}.")
    if study.experiment.missing:
        summary.append(study.experiment.missing)
    if missing:
        summary.append(f"{missing} of {of} runs are missing; their numbers are left open.")
    return Report(
        name=study.experiment.id,
        title=study.experiment.title,
        summary=tuple(summary),
        parts=tuple(study.experiment.parts(findings)),
        facts=_facts(findings),
    )


def _facts(findings: Findings) -> dict[str, str]:
    study = findings.study
    data = "; ".join(f"{one.location} ({one.fingerprint[:12]})" for one in study.choices.data)
    return {
        "command": shlex.join(["resnext", *sys.argv[1:]]),
        "commit of the report": short(source_commit()),
        "scale": study.choices.scale,
        "data": data or "none",
        "seeds": str(study.seeds),
        "machine of the report": machine(),
        "versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
        "made by": f"resnext {resnext.__version__}",
    }


def write(made: Report, folder: Path) -> Path:
    """Write a report; the file to look at.

    Raises:
        ResourceError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plain = folder / f"{made.name}.json"
    write_bytes(plain, json.dumps(asdict(made), indent=1, default=_plain).encode())
    try:
        writer: Any = import_module("resnext.report.writing")
    except ModuleNotFoundError:
        return plain
    written = writer.write_report(made, folder)
    return written if isinstance(written, Path) else plain


def _plain(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def drawings(name: str) -> Sequence[Part]:
    """A drawing of `resnext.report.diagrams`, by its function's name.

    Raises:
        UsageError: there is none yet.
    """
    try:
        module: Any = import_module("resnext.report.diagrams")
    except ModuleNotFoundError as error:
        raise UsageError(f"expected resnext.report.diagrams to draw {name}, found none") from error
    found = getattr(module, name)()
    return tuple(found) if isinstance(found, list | tuple) else (found,)
