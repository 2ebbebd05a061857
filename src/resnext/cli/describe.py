"""``resnext describe``: a network as a Table 1, with its exact cost."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from resnext.catalog import CATALOG, identifier, name
from resnext.catalog import spec as read_spec
from resnext.cli.options import AsJson
from resnext.cli.places import check_new_file
from resnext.complexity import Complexity, StageCost, complexity
from resnext.errors import UsageError
from resnext.files import write_bytes
from resnext.report.diagrams import network_drawing
from resnext.report.figures import standalone
from resnext.report.layers import block_texts, classifier_text, pool_texts, stem_text
from resnext.spec import Block, Spec

_ROW = "{:<10} {:>7}  {:<30} {:>11} {:>15}"


def describe(
    network: Annotated[
        str | None, typer.Argument(help="A name such as 'ResNeXt-50 (32x4d)' or resnext50_32x4d.")
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(help="Side of the image in pixels.", show_default="the usual one")
    ] = None,
    classes: Annotated[int | None, typer.Option(help="Number of classes.")] = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, help="Images, for the memory estimate.", show_default="32"),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="List the catalogue.")] = False,
    layers: Annotated[bool, typer.Option("--layers", help="List every layer.")] = False,
    svg: Annotated[Path | None, typer.Option(help="Draw the network's stages into a file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a network's stages and its exact cost, without weights."""
    if network is None or all_:
        for_one = {
            "--resolution": resolution is not None,
            "--classes": classes is not None,
            "--batch": batch is not None,
            "--layers": layers,
            "--svg": svg is not None,
        }
        _require_all_alone(network, all_, [word for word, given in for_one.items() if given])
        _print_catalog(as_json=as_json)
        return
    check_new_file(svg, "--svg")
    batch = 32 if batch is None else batch
    spec = read_spec(network, classes=classes)
    cost = complexity(spec, resolution)
    if svg is not None:
        _draw(spec, cost, svg)
    if as_json:
        print(json.dumps(_record(spec, cost, batch, layers=layers), indent=2, ensure_ascii=False))
    else:
        _print_table(spec, cost, batch)
        if layers:
            _print_layers(cost)


def _require_all_alone(network: str | None, all_: bool, for_one: list[str]) -> None:
    """Refuse what has no meaning for the catalogue instead of leaving it out silently."""
    if not all_:
        raise UsageError(
            "expected a network's name or --all, found neither; say for example: "
            "resnext describe resnet50"
        )
    found = [network, *for_one] if network else for_one
    if found:
        raise UsageError(
            f"expected --all by itself, found {', '.join(found)} with it; leave out --all to "
            "describe one network"
        )


def _draw(spec: Spec, cost: Complexity, path: Path) -> None:
    drawing = network_drawing(spec, cost.resolution)
    write_bytes(path, standalone(drawing.svg).encode())


def _print_catalog(*, as_json: bool) -> None:
    rows = [(entry, entry.spec, complexity(entry.spec)) for entry in CATALOG]
    if as_json:
        records = [
            {
                "identifier": entry.identifier,
                "name": name(spec),
                "source": entry.source,
                "classes": spec.classes,
                "resolution": cost.resolution[0],
                "parameters": cost.parameters,
                "multiply_adds": cost.multiply_adds,
                "activations": cost.activations,
            }
            for entry, spec, cost in rows
        ]
        print(json.dumps(records, indent=2, ensure_ascii=False))
        return
    line = "{:<28} {:>11} {:>14} {:>5}  {}"
    print(line.format("network", "parameters", "multiply-adds", "at", "source"))
    for entry, _, cost in rows:
        numbers = f"{cost.parameters:,}", f"{cost.multiply_adds:,}", cost.resolution[0]
        print(line.format(entry.identifier, *numbers, entry.source))


def _record(spec: Spec, cost: Complexity, batch: int, *, layers: bool) -> dict[str, Any]:
    memory = cost.training_memory(batch)
    record: dict[str, Any] = {
        "name": name(spec),
        "identifier": identifier(spec),
        "resolution": list(cost.resolution),
        "classes": spec.classes,
        "in_channels": spec.in_channels,
        "parameters": cost.parameters,
        "multiply_adds": cost.multiply_adds,
        "activations": cost.activations,
        "training_memory": {
            "batch": batch,
            "weights_bytes": memory.weights,
            "gradients_bytes": memory.gradients,
            "optimizer_bytes": memory.optimizer,
            "activations_bytes": memory.activations,
            "total_bytes": memory.total,
        },
        "stages": [_stage_record(spec, stage) for stage in cost.stages],
    }
    if layers:
        record["layers"] = [
            {
                "name": layer.name,
                "stage": layer.stage,
                "operation": layer.operation,
                "output": [layer.channels, layer.height, layer.width],
                "parameters": layer.parameters,
                "multiply_adds": layer.multiply_adds,
                "activations": layer.activations,
            }
            for layer in cost.layers
        ]
    return record


def _stage_record(spec: Spec, cost: StageCost) -> dict[str, Any]:
    record: dict[str, Any] = {
        "name": cost.name,
        "output": [cost.channels, cost.height, cost.width],
        "parameters": cost.parameters,
        "multiply_adds": cost.multiply_adds,
        "activations": cost.activations,
    }
    number = _stage_number(cost)
    if number is not None:
        stage = spec.stages[number]
        record["blocks"] = stage.blocks
        record["templates"] = [str(paths.template) for paths in stage.paths]
    return record


def _stage_number(cost: StageCost) -> int | None:
    """Index among ``spec.stages``; None for the stem and the classifier."""
    if cost.name in ("conv1", "classifier"):
        return None
    return int(cost.name.removeprefix("conv")) - 2


def _print_table(spec: Spec, cost: Complexity, batch: int) -> None:
    height, width = cost.resolution
    print(f"{name(spec)}   {spec.in_channels} × {height} × {width} → {spec.classes} classes\n")
    print(_ROW.format("stage", "output", "layers", "parameters", "multiply-adds"))
    firsts = {(stage, index): block for stage, index, block in spec.blocks()}
    for stage in cost.stages:
        number = _stage_number(stage)
        if number is not None:
            rows = _stage_lines(spec, number, firsts[number, 0])
        elif stage.name == "conv1":
            rows = [stem_text(conv) for conv in spec.stem_convs()]
        else:
            rows = [classifier_text(spec)]
        _print_stage(stage, rows)
    print(_ROW.format("total", "", "", f"{cost.parameters:,}", f"{cost.multiply_adds:,}"))
    memory = cost.training_memory(batch)
    print(
        f"\n{cost.parameters / 1e6:.1f} M parameters, "
        f"{cost.multiply_adds / 1e9:.2f} G multiply-adds, "
        f"{cost.activations / 1e6:.1f} M activations per image;\n"
        f"a training step holds about {memory.total / 2**30:.2f} GiB in float32 at batch {batch}."
    )


def _print_stage(stage: StageCost, rows: list[str]) -> None:
    for i, text in enumerate(rows):
        last = i == len(rows) - 1
        print(
            _ROW.format(
                stage.name if i == 0 else "",
                f"{stage.height}×{stage.width}" if i == 0 else "",
                text,
                f"{stage.parameters:,}" if last else "",
                f"{stage.multiply_adds:,}" if last else "",
            ).rstrip()
        )


def _stage_lines(spec: Spec, number: int, block: Block) -> list[str]:
    """The block of a stage in brackets, as in Table 1."""
    texts, blocks = block_texts(block), spec.stages[number].blocks
    if not block.homogeneous:
        return [*pool_texts(spec, number), *texts[:-1], f"{texts[-1]}, × {blocks}"]
    width = max(map(len, texts))
    middle = (len(texts) - 1) // 2
    lines = [
        f"[ {text:<{width}} ]" + (f" × {blocks}" if i == middle else "")
        for i, text in enumerate(texts)
    ]
    return [*pool_texts(spec, number), *lines]


def _print_layers(cost: Complexity) -> None:
    line = "{:<28} {:<7} {:>16} {:>11} {:>15}"
    print("\n" + line.format("layer", "", "output", "parameters", "multiply-adds"))
    for layer in cost.layers:
        output = f"{layer.channels}×{layer.height}×{layer.width}"
        numbers = f"{layer.parameters:,}", f"{layer.multiply_adds:,}"
        print(line.format(layer.name, layer.operation, output, *numbers))
