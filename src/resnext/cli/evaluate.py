"""``resnext evaluate``: the scores of a run's saved weights."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resnext.cli.display import interruptible, loading, top5, wait

if TYPE_CHECKING:
    from resnext.runs import Evaluation


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder made by train.")],
    data: Annotated[
        str | None, typer.Option(help="Other images of the same classes to score on.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:N or mps; a GPU if there is one.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that prepare images; 0 prepares them here.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Score the best weights of a run on its validation images, or on others."""
    with interruptible(lambda: f"{run} is as it was"):
        with loading(stderr=True):
            from resnext.runs import evaluate_run
            from resnext.training.distributed import joined

        with joined() as world:
            records = evaluate_run(run, data, device=device, workers=workers, world=world)
            result = wait(records, shown=world.first)
    if not world.first:
        return
    if as_json:
        print(json.dumps(result.to_dict(), indent=2, ensure_ascii=False))
    else:
        _print_table(result)


def _print_table(result: "Evaluation") -> None:
    counts = result.scores.counts
    whose = "the run's own validation images" if result.own_data else "other images than the run's"
    classes = len(result.data.classes)
    top5_error = top5(counts.top5_error, classes)
    top5_error += f" (of {classes})" if top5_error == "–" else f" % ({counts.top5_wrong:,} wrong)"
    rows = {
        "run": result.run,
        "network": result.network,
        "top-1 error": f"{counts.top1_error:.2f} % ({counts.top1_wrong:,} wrong)",
        "top-5 error": top5_error,
        "samples": f"{counts.samples:,}",
        "protocol": f"{result.scores.protocol}, profile {result.scores.profile}",
        "data": f"{result.data.location}: {whose}",
        "fingerprint": result.data.fingerprint,
    }
    for name, value in rows.items():
        print(f"{name:<12} {value}")
