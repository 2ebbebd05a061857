"""``resnext train``: a run from the first word to the summary."""

import shlex
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from resnext.cli.display import follow, interruptible, loading
from resnext.cli.options import Device, Workers
from resnext.cli.resuming import continue_with, resumable
from resnext.errors import DataError, ResNextError, UsageError

if TYPE_CHECKING:
    from resnext.runs import Plan, RunFolder
    from resnext.training.distributed import World
    from resnext.training.recipe import Recipe


def train(
    network: Annotated[
        str | None,
        typer.Option(help="A name such as 'ResNeXt-29 (8x64d, CIFAR)' [one for the data]."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="A folder or file of images [the bundled digits].")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="A name out of `resnext recipes` [one for the data].")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Instead of the recipe's; its rate drops move along.")
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Images of an update, over all processes; the rate follows."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Another value in the recipe."),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="RUN|FILE|NAME",
            help="To begin from: a run, artifact, file, torchvision:NAME or timm:NAME.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Run folder: made, or continued if begun; runs/... if left out."),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Continue this run with all it began with.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of weights, order and augmentation [0].")
    ] = None,
    device: Device = None,
    workers: Workers = None,
    resolution: Annotated[
        int | None, typer.Option(help="Side of the images in pixels, for photos.")
    ] = None,
    profile: Annotated[
        str | None, typer.Option(help="Preprocessing, such as torch7-224 [one for the data].")
    ] = None,
    precision: Annotated[
        Literal["fp32", "bf16", "fp16"] | None, typer.Option(help="Of the activations [fp32].")
    ] = None,
    compilation: Annotated[
        Literal["default", "cuda-graphs", "max-autotune"] | None,
        typer.Option("--compile", help="Compile the network, in this mode."),
    ] = None,
    backend: Annotated[
        Literal["auto", "framework", "triton", "fused", "merged"] | None,
        typer.Option(
            help="What computes grouped convolutions; auto: the fastest measured on this GPU."
        ),
    ] = None,
    micro_batch: Annotated[
        int | None, typer.Option(help="Images in the network at once; a batch takes several goes.")
    ] = None,
    sync_bn: Annotated[
        bool, typer.Option("--sync-bn", help="Normalise over the batch of all GPUs.")
    ] = False,
    shard: Annotated[
        bool, typer.Option("--shard", help="Split weights and momentum over the processes (FSDP).")
    ] = False,
    on_nan: Annotated[
        Literal["stop", "skip"] | None,
        typer.Option(help="What follows a gradient that is not finite [stop]."),
    ] = None,
    nan_limit: Annotated[
        int | None, typer.Option(min=0, help="Most steps that --on-nan skip leaves out [20].")
    ] = None,
    bad_limit: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=100,
            help="Percent of an epoch's images that may be unreadable and replaced [0.1].",
        ),
    ] = None,
    save_seconds: Annotated[
        float, typer.Option(min=0, help="Between two checkpoints inside an epoch.")
    ] = 600,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write events into the run folder too.")
    ] = False,
) -> None:
    """Train a network: a small one on digits if nothing is said.

    That takes a minute.

    The same line again continues what it began.
    """
    started = time.perf_counter()
    asked = {
        "data": data,
        "network": network,
        "recipe_name": recipe,
        "epochs": epochs,
        "batch_size": batch_size,
        "settings": _settings(settings or []),
        "seed": seed,
        "resolution": resolution,
        "profile_name": profile,
        "weights": weights,
    }
    machine: dict[str, Any] = {
        "device": device,
        "workers": workers,
        "bad_limit": None if bad_limit is None else bad_limit / 100,
        "nan_limit": nan_limit,
        "on_nan": on_nan,
    }
    with loading() as doing:
        # torch takes seconds to import: not for --help
        from resnext.runs import plan_together
        from resnext.training.distributed import joined
        from resnext.training.speed import Speed

        machine["speed"] = Speed(
            precision=precision or "fp32",
            compilation=compilation,
            micro_batch=micro_batch,
            sync_bn=sync_bn,
            sharded=shard,
            backend=backend,
        )
    kept: list[RunFolder] = []
    with interruptible(lambda: _kept(kept[0]) if kept else "no run was begun"):
        with joined() as world:
            with loading(quiet=not world.first) as doing:
                doing(f"opening {data or resume or 'digits'}")
                machine["world"] = world
                if resume is not None:
                    _require_kept(resume, {"precision": precision, "sync_bn": sync_bn or None})
                plan = plan_together(world, lambda: _plan(asked, machine, resume))
                folder = world.from_first(lambda: _folder(plan, out, resume, world))
            kept.append(folder)
            if world.first:
                _print_plan(plan, folder, world)
                if network is None and weights is None and resume is None:
                    _hint(plan)
            if not world.from_first(folder.finished):
                _train(plan, folder, world, save_seconds, tensorboard=tensorboard)
        if world.first:  # the others need not wait for it
            _print_summary(folder, time.perf_counter() - started)
            _write_report(folder, plan)
            print(f"next     resnext evaluate {shlex.quote(str(folder.path))}")


def _settings(texts: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    for text, (_, equals, _) in zip(texts, pairs, strict=True):
        if not equals:
            raise UsageError(f"expected FIELD=VALUE for --set, found {text!r}")
    return {field: value for field, _, value in pairs}


def _plan(asked: dict[str, Any], machine: dict[str, Any], resume: Path | None) -> "Plan":
    """What was asked for, or what a run was begun with."""
    from resnext.runs import RunFolder, plan, plan_again

    said = {name: value for name, value in asked.items() if value not in (None, {})}
    if resume is not None:
        return plan_again(RunFolder.open(resume), said, **machine)
    return plan(**said, **{name: value for name, value in machine.items() if value is not None})


def _require_kept(resume: Path, given: dict[str, Any]) -> None:
    """Refuse another way to compute a run than the one that it was begun with."""
    from resnext.runs import RunFolder

    record = RunFolder.open(resume).record
    for field, value in given.items():
        kept = getattr(record, field)
        if value not in (None, kept):
            raise UsageError(f"expected {field} {kept} of {resume}, found {value}")


def _folder(plan: "Plan", out: Path | None, resume: Path | None, world: "World") -> "RunFolder":
    from resnext.runs import RunFolder

    if resume is not None:
        if out not in (None, resume):
            raise UsageError(f"expected --out or --resume, found both: {out} and {resume}")
        return RunFolder.open(resume)
    if out is None and world.size > 1:
        raise UsageError(
            "expected --out with several processes, so that those started again find the run; "
            "found none"
        )
    return plan.create_or_continue(out, sys.argv)


def _train(
    plan: "Plan", folder: "RunFolder", world: "World", save_seconds: float, *, tensorboard: bool
) -> None:
    """Show the training until it ends, one way or another."""
    from resnext.runs import stopping, train_run
    from resnext.runs.events import with_events

    with stopping(ending=True) as stop:
        records = train_run(plan, folder, world=world, stop=stop, save_seconds=save_seconds)
        if tensorboard and world.first:
            records = with_events(records, folder.path / "tensorboard")
        how = continue_with("train", folder.path)
        with resumable(stop, how, lambda error: _left(error, plan, folder), shown=world.first):
            if world.first:
                follow(records, plan.recipe.epochs, len(plan.data.classes))
            else:
                deque(records, maxlen=0)


def _left(error: ResNextError, plan: "Plan", folder: "RunFolder") -> str:
    """What there is, and what to do about images that cannot be used."""
    if not isinstance(error, DataError):
        return _kept(folder)
    check = shlex.join(("resnext", "data", "check", plan.data.location))
    return (
        f"{check} names all such images, --bad-limit PERCENT trains without them; {_kept(folder)}"
    )


def _kept(folder: "RunFolder") -> str:
    """What there is of a run that did not end well."""
    saved, done = folder.checkpoints(), len(folder.epochs())
    if not saved:
        return f"nothing was saved yet in {folder.path}"
    weights = f", the best weights of {done} epochs included" if done else ""
    how = continue_with("train", folder.path)
    return f"{folder.path} keeps all up to {saved[0].name}{weights}; {how}"


def _print_plan(plan: "Plan", folder: "RunFolder", world: "World") -> None:
    from resnext import complexity, name

    cost = complexity(plan.spec, plan.profile.resolution)
    data = plan.data
    print(f"network  {name(plan.spec)}: {cost.parameters:,} parameters")
    print(
        f"data     {data.name}: {len(data.train):,} images to train on, {len(data.validation):,} "
        f"to validate on, {len(data.classes)} classes, profile {plan.profile.name}"
    )
    print(f"recipe   {_describe(plan.recipe)}")
    for word, text in _changes(plan.recipe, len(data.train)):
        print(f"{word:<8} {text}")
    print(f"steps    {_steps(plan, world)}")
    print(f"run      {folder.path}, seed {plan.seed} on {plan.device}", flush=True)


def _hint(plan: "Plan") -> None:
    """What to begin with where there is no GPU for the network that photos get."""
    from resnext import complexity, spec

    if plan.device.type != "cpu" or plan.profile.resolution <= 96:
        return
    small = complexity(spec("ResNet-18"), 96).multiply_adds
    times = complexity(plan.spec, plan.profile.resolution).multiply_adds / small
    if times > 2:
        print(
            "hint     this network wants a GPU; --network ResNet-18 --resolution 96 takes "
            f"{times:.0f} times fewer multiply-adds",
            flush=True,
        )


def _describe(recipe: "Recipe") -> str:
    return (
        f"{recipe.name}: epochs {recipe.epochs}, batch {recipe.batch_size}, learning rate "
        f"{recipe.learning_rate:g} ({recipe.decay}), weight decay {recipe.weight_decay:g}"
    )


def _changes(recipe: "Recipe", images: int) -> Iterator[tuple[str, str]]:
    """In what it differs from the recipe of its name."""
    from resnext.training.recipe import finetune_for
    from resnext.training.recipe import recipe as original

    usual = finetune_for(images) if recipe.name == "finetune" else original(recipe.name)
    scaled = usual.with_batch_size(recipe.batch_size).with_epochs(recipe.epochs)
    if recipe.batch_size != usual.batch_size:
        scale = f"{recipe.batch_size}/{usual.batch_size}"
        rate = f"{scaled.learning_rate:g} = {usual.learning_rate:g} x {scale}"
        yield "rate", f"{rate} by the linear rule"
    if recipe.epochs != usual.epochs:
        drops = ", ".join(f"{milestone:.4g}" for milestone in scaled.milestones)
        moved = f"the rate drops in epochs {drops}" if drops else "the rate's curve is scaled too"
        yield "epochs", f"{recipe.epochs} instead of {usual.epochs}: {moved}"
    for field, value in recipe:
        if value != getattr(scaled, field):
            yield "set", f"{field} {value} instead of {getattr(scaled, field)}"


def _steps(plan: "Plan", world: "World") -> str:
    """How a batch goes through the network."""
    recipe, speed = plan.recipe, plan.speed
    parts = [f"{recipe.batch_size} images"]
    if world.size > 1:
        parts.append(f"over {world.size} processes")
    if speed.micro_batch:
        parts.append(f"{speed.micro_batch} at once")
    parts.append(
        "normalised over all processes"
        if speed.sync_bn
        else f"normalised over {recipe.bn_batch or speed.micro_batch or recipe.batch_size}"
    )
    parts.append(speed.precision)
    if speed.compilation:
        parts.append(f"compiled ({speed.compilation})")
    if speed.backend not in (None, "framework"):
        parts.append(f"grouped convolutions by {speed.backend}")
    return ", ".join(parts)


def _print_summary(folder: "RunFolder", seconds: float) -> None:
    from resnext.runs import best
    from resnext.runs.curve import Curve

    epochs = folder.epochs()
    for word, epoch in (("best", best(epochs)), ("last", epochs[-1])):
        print(f"{word}     {epoch.validation_error:.2f} % validation error, epoch {epoch.epoch}")
    if (curve := Curve.of(folder.record)) is not None:
        print(f"curve    {curve.verdict(epochs)}")
    print(f"time     {seconds:.1f} s")
    print(f"weights  {folder.weights} (best epoch)")


def _write_report(folder: "RunFolder", plan: "Plan") -> None:
    """The page of the run; training is done, so that what goes wrong here is said and no more."""
    from resnext.cli.report import mistakes_of
    from resnext.runs.pages import write_run_report

    try:
        mistakes = mistakes_of(folder, plan.data, str(plan.device))
        print(f"report   {write_run_report(folder, mistakes)}")
    except ResNextError as error:
        print(f"resnext: no report was written: {error}", file=sys.stderr)
