"""The ensemble: mean probabilities of the networks of Table 5, all seeds of them."""

from collections.abc import Iterator, Sequence
from typing import Any

from resnext.evaluation.protocols import Protocol
from resnext.evaluation.scores import Part as Scoring
from resnext.experiments.design import Experiment, Measure
from resnext.experiments.findings import Findings
from resnext.experiments.imagenet import R101, R200, X101_64
from resnext.experiments.measuring import Bench, Tick
from resnext.experiments.paper import number
from resnext.experiments.study import Study, short
from resnext.report.content import Column, Part, Table, Value
from resnext.runs import Settings, compare
from resnext.runs.comparison import Mix

MEMBERS = (R101, R200, X101_64)
_SOURCE = "Sec. 5.1, ensemble"


def _protocol(study: Study) -> Protocol:
    return Protocol.parse("single view" if study.choices.scale == "demo" else "dense-multiscale")


def _settings(study: Study, seed: int) -> dict[str, Any]:
    del seed
    members = [f"{row.home}/{row.id}" for row in MEMBERS]
    return {"members": members, "seeds": study.seeds, "protocol": str(_protocol(study))}


def _run(bench: Bench) -> Iterator[Tick | dict[str, Any]]:
    study = bench.study
    jobs = [study.job(row, seed) for row in MEMBERS for seed in range(study.seeds)]
    settings = Settings(protocol=_protocol(study), workers=study.choices.workers)
    results: list[dict[str, Any]] = []
    for progress in compare(
        [str(job.path) for job in jobs],
        bench.data,
        settings,
        mix=Mix(),
        device=study.choices.device,
    ):
        bench.check()
        if isinstance(progress, Scoring):
            done = len(results) + progress.step / progress.steps
            yield Tick(int(100 * done), 100 * len(jobs), "scoring")
        else:
            results.append(progress.to_dict())
    names = [*(job.name for job in jobs), "ensemble"]
    yield {
        "scores": [
            {"name": name, "top1": one["top1_error"], "top5": one["top5_error"]}
            for name, one in zip(names, results, strict=True)
        ]
    }


MEASURE = Measure(
    id="ensemble",
    home="ensemble",
    label="mean of the networks of Table 5",
    settings=_settings,
    run=_run,
    needs=lambda _: MEMBERS,
    seeded=False,
)


def _parts(findings: Findings) -> Sequence[Part]:
    result = next(iter(findings.results(MEASURE)), None)
    commit = short(result["commit"]) if result else None
    scores = result["values"]["scores"] if result else [{"name": "ensemble"}]
    paper = number(_SOURCE, "ensemble", "top-5 on the test set")
    rows: list[tuple[Value, ...]] = [
        (
            one["name"],
            paper if one["name"] == "ensemble" else None,
            one.get("top5"),
            one.get("top1"),
            commit,
        )
        for one in scores
    ]
    return (
        Table(
            name="ensemble",
            title="Mean probabilities of several networks",
            columns=(
                Column(title="network"),
                Column(title="paper: top-5 error on the test set, %", source=_SOURCE),
                Column(title="ours: top-5 error on validation images, %"),
                Column(title="ours: top-1 error, %"),
                Column(title="commit"),
            ),
            rows=tuple(rows),
            notes=(_NOTE,),
        ),
    )


_NOTE = (
    "The paper does not name its members, and the labels of its test set are not public: no "
    "difference is taken. Ours are all seeds of ResNet-101, ResNet-200 and ResNeXt-101 (64x4d), "
    "which table3 and table4 train too."
)

ENSEMBLE = Experiment(
    id="ensemble",
    title="Ensemble",
    source=_SOURCE,
    rows=MEMBERS,
    measures=(MEASURE,),
    parts=_parts,
    data="ImageNet-1K (1000 classes)",
)
