"""``resnext benchmark training``: our step beside the peers', or where its time goes."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnext.cli.measured import append, facts, gpu_facts
from resnext.cli.options import AsJson, SaveRows

if TYPE_CHECKING:
    import torch

    from resnext.benchmark import training
    from resnext.benchmark.profile import Share
    from resnext.benchmark.steps import Setting


def benchmark_training(
    network: Annotated[str, typer.Option(help="Name.")] = "ResNeXt-50 (32x4d)",
    beside: Annotated[
        list[str] | None,
        typer.Option(help="Another network in the same slices, such as a ResNet of equal cost."),
    ] = None,
    batch: Annotated[int, typer.Option(min=2, help="Images of a step.")] = 16,
    resolution: Annotated[int, typer.Option(min=8, help="Side of the images in pixels.")] = 128,
    device: Annotated[
        str | None,
        typer.Option(help="cpu, cuda, cuda:1, ...", show_default="a GPU if there is one"),
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    modes: Annotated[
        str | None,
        typer.Option(
            help="Out of eager, channels-last, compiled, cuda-graphs, by commas.",
            show_default="all that the device has",
        ),
    ] = None,
    backends: Annotated[
        str | None,
        typer.Option(
            help="Of our grouped convolutions: framework, merged, triton, fused, auto, by commas.",
            show_default="framework; on a GPU merged, triton, fused too",
        ),
    ] = None,
    parts: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Images normalised at once, in two rows of ours.",
            show_default="half a batch",
        ),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Slices of steps; the median counts.")] = 9,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of a processor.", show_default="one per core")
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Where a step of ours spends its time; processors.")
    ] = False,
    as_json: AsJson = False,
    save: SaveRows = None,
) -> None:
    """Images per second of training steps.

    Beside torchvision's and timm's.

    So few and small images by default that all of it, compilation included, takes minutes on two
    free cores; 32 images of 224 pixels take six times as long a step.
    """
    from dataclasses import asdict

    import resnext

    setting = _setting(network, batch, resolution, device, precision, threads, backends)
    known = facts() | {
        "batch": batch,
        "resolution": resolution,
        "device": _device_name(setting.device),
        "precision": precision,
        "threads": setting.threads,
    }
    if setting.device.type == "cuda":
        known |= gpu_facts()
    chosen = _modes(modes, setting.device)
    if profile:
        known |= {"network": resnext.name(setting.network), "mode": chosen[0]}
        shares = _profiled(setting, chosen, as_json=as_json)
        records = [known | asdict(share) for share in shares if share.worth_saying]
    else:
        specs = [resnext.spec(name) for name in beside or []]
        found = _measured(setting, chosen, specs, parts, steps, as_json=as_json)
        records = [known | asdict(row) for row in found]
    if as_json:
        print(json.dumps(records, indent=2))
    if save is not None:
        append(save, records)


def _setting(
    network: str,
    batch: int,
    resolution: int,
    device: str | None,
    precision: str,
    threads: int | None,
    backends: str | None,
) -> "Setting":
    import torch

    import resnext
    from resnext.benchmark.steps import Setting
    from resnext.kernels import BACKENDS
    from resnext.runs.planning import resolve_device

    where = resolve_device(device)
    usual = "framework,merged,triton,fused" if where.type == "cuda" else "framework"
    return Setting(
        network=resnext.spec(network),
        batch=batch,
        resolution=resolution,
        device=where,
        precision=_one_of(precision, ("fp32", "bf16"), "precision"),
        threads=threads or torch.get_num_threads(),
        backends=tuple(_several(backends or usual, BACKENDS, "backend")),
    )


def _modes(text: str | None, device: "torch.device") -> list[Any]:
    from resnext.benchmark.steps import MODES

    if text is not None:
        return _several(text, MODES, "mode")
    return [mode for mode in MODES if mode != "cuda-graphs" or device.type == "cuda"]


def _several(text: str, known: Sequence[str], what: str) -> list[Any]:
    return [_one_of(word.strip(), known, what) for word in text.split(",")]


def _one_of(text: str, known: Sequence[str], what: str) -> Any:
    from resnext.errors import UsageError

    if text not in known:
        raise UsageError(f"expected {what} out of {', '.join(known)}, found {text!r}")
    return text


def _device_name(device: "torch.device") -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _measured(
    setting: "Setting",
    modes: list[Any],
    beside: list[Any],
    parts: int | None,
    steps: int,
    *,
    as_json: bool,
) -> "list[training.Row]":
    from resnext.benchmark import training
    from resnext.benchmark.roofline import measured_ceiling

    ceiling = measured_ceiling(setting.device) if setting.device.type == "cuda" else None
    rows = []
    for found in training.benchmark_training(
        setting, modes=modes, beside=beside, parts=parts, slices=steps, ceiling=ceiling
    ):
        if isinstance(found, training.Row):
            rows.append(found)
        elif not as_json:
            _print_ready(found)
    if not as_json:
        _print_steps(rows)
    return rows


def _print_ready(ready: "training.Ready") -> None:
    text = f"{ready.network}, {ready.mode}: {ready.method}"
    print(f"ready after {ready.seconds:5.1f} s: {text}", flush=True)


def _print_steps(rows: "list[training.Row]") -> None:
    from resnext.benchmark.training import overhead

    network = ""
    for row in rows:
        if row.network != network:
            network = row.network
            floor = f"  (floor {row.floor:.1f} ms)" if row.floor else ""
            titles = f"{'images/s':>8} {'from':>7} {'to':>7} {'ratio':>6}"
            print(f"\n{network + floor:<58} {titles}{' x floor' if row.floor else ''}")
        numbers = (row.images_per_second, row.least, row.most)
        rate, least, most = (f"{number:.2f}" for number in numbers)
        text = f"{row.mode}: {row.method}"
        over = f" {row.over_floor:>7.2f}" if row.over_floor else ""
        print(f"  {text:<56} {rate:>8} {least:>7} {most:>7} {row.ratio:>6.2f}{over}")
    for other, times in overhead(rows).items():
        print(f"\n{rows[0].network} takes {times:.2f} times as long as {other}, each at its best")


def _profiled(setting: "Setting", modes: list[Any], *, as_json: bool) -> "list[Share]":
    from resnext.benchmark.profile import profile_training

    shares = profile_training(setting, modes[0])
    if not as_json:
        _print_shares(shares)
    return shares


def _print_shares(shares: "list[Share]") -> None:
    for level, title in (("operation", "operation"), ("kernel", "oneDNN's kernel in it")):
        found = [share for share in shares if share.level == level]
        print(f"\n{title:<72} {'calls':>6} {'ms':>9} {'share':>7}")
        for share in found:
            if share.worth_saying:
                mark = "  fallback" if share.fallback else ""
                print(
                    f"  {share.name:<70} {share.calls:>6} {share.milliseconds:>9.1f} "
                    f"{share.share:>5.1f} %{mark}"
                )
    slow = [share for share in shares if share.fallback]
    print(f"\n{len(slow) or 'none'} of them a fallback without a fast kernel")
