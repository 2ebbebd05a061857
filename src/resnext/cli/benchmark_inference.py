"""``resnext benchmark inference``: engines beside the libraries driven directly, and the peers."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from resnext.cli.measured import append, counts_of, facts, libraries, load
from resnext.cli.options import AsJson, OneWeights, SaveRows, require_beside

if TYPE_CHECKING:
    from resnext.benchmark import inference


def benchmark_inference(
    given: Annotated[
        str | None,
        typer.Argument(metavar="RUN|ARTIFACT|NAME", help="Weights; random ones if left out."),
    ] = None,
    weights: OneWeights = None,
    network: Annotated[str, typer.Option(help="Name, of random weights.")] = "ResNeXt-50 (32x4d)",
    batches: Annotated[str, typer.Option(help="Images at once, by commas.")] = "1,16",
    slices: Annotated[int, typer.Option(min=3, help="Slices; the median counts.")] = 9,
    threads: Annotated[int, typer.Option(min=1, help="Of the processor.")] = 1,
    compile_: Annotated[
        bool, typer.Option("--compile/--no-compile", help="Compile too, which takes minutes.")
    ] = True,
    as_json: AsJson = False,
    save: SaveRows = None,
) -> None:
    """Images per second of engines.

    Ours beside the libraries driven directly and the peers.
    """
    require_beside("--weights", weights, "a network by name", given)
    from dataclasses import asdict

    import resnext
    from resnext.benchmark import inference
    from resnext.deploy import artifact_of

    artifact = None if given is None else artifact_of(given, weights)
    setting = inference.Setting(
        network=resnext.spec(network) if artifact is None else artifact.spec,
        batches=counts_of(batches),
        slices=slices,
        threads=threads,
        compiled=compile_,
    )
    rows = []
    for found in inference.benchmark_inference(setting, artifact):
        if isinstance(found, inference.Row):
            rows.append(found)
            if not as_json:
                print_inference(found, first=len(rows) == 1 or rows[-2].batch != found.batch)
        elif not as_json:
            note = f" ({found.note})" if found.note else ""
            print(f"ready after {found.seconds:5.1f} s: {found.method}{note}", flush=True)
    known = facts() | {
        "network": resnext.name(setting.network),
        "threads": threads,
        "load": load(),
        "libraries": libraries(),
    }
    records = [known | asdict(row) for row in rows]
    if as_json:
        print(json.dumps(records, indent=2))
    if save is not None:
        append(save, records)


def print_inference(row: "inference.Row", *, first: bool) -> None:
    """A line of the table of engines."""
    if first:
        head = f"{'images/s':>9} {'from':>8} {'to':>8} {'ratio':>6} {'difference':>11} {'same':>7}"
        print(f"\n{f'{row.batch} at once':<36} {head}")
    title = f"{row.method} {row.precision}"
    print(
        f"  {title:<34} {row.images_per_second:>9.2f} {row.least:>8.2f} {row.most:>8.2f} "
        f"{row.ratio:>6.2f} {row.difference:>11.1e} {100 * row.agreement:>5.0f} %",
        flush=True,
    )
