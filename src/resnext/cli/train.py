"""``resnext train``: a run from the first word to the summary."""

import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resnext.cli.display import follow, interruptible, loading
from resnext.errors import ResNextError

if TYPE_CHECKING:
    from resnext.runs import Plan, RunFolder
    from resnext.training.recipe import Recipe


def train(
    network: Annotated[
        str | None,
        typer.Option(help="A name such as 'ResNeXt-29 (8x64d, CIFAR)'; a small one for the data."),
    ] = None,
    data: Annotated[
        str, typer.Option(help="A folder or file of images, or the bundled digits.")
    ] = "digits",
    recipe: Annotated[
        str | None,
        typer.Option(help="digits, small, cifar, cifar-code or imagenet-100; one for the data."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Instead of the recipe's; its rate drops move along.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder, made by this command; runs/... if left out.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of weights, order and augmentation.")] = 0,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:N or mps; a GPU if there is one.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that prepare images; 0 prepares them here.")
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(help="Side of the images in pixels, for photos.")
    ] = None,
    profile: Annotated[
        str | None, typer.Option(help="Preprocessing, such as torch7-224; one for the data.")
    ] = None,
    bad_limit: Annotated[
        float,
        typer.Option(help="Percent of an epoch's images that may be unreadable and replaced."),
    ] = 0.1,
) -> None:
    """Train a network; without any option, a small one on handwritten digits in a minute."""
    started = time.perf_counter()
    folder: RunFolder | None = None
    with interruptible(lambda: _kept(folder) if folder else "no run was begun"):
        with loading() as doing:
            from resnext import runs  # torch takes seconds to import: not for --help

            doing(f"opening {data}")
            plan = runs.plan(
                data,
                network,
                recipe,
                epochs=epochs,
                seed=seed,
                device=device,
                workers=workers,
                resolution=resolution,
                profile_name=profile,
                bad_limit=bad_limit / 100,
            )
        folder = plan.create(out, sys.argv)
        _print_plan(plan, rescaled=epochs is not None)
        _follow(plan, folder)
        _print_summary(folder, time.perf_counter() - started)


def _follow(plan: "Plan", folder: "RunFolder") -> None:
    """Show the training until it ends, one way or another."""
    from resnext.runs import train_run

    try:
        follow(train_run(plan, folder), plan.recipe.epochs, len(plan.data.classes))
    except ResNextError as error:
        raise type(error)(f"{error}; {_kept(folder)}") from error


def _kept(folder: "RunFolder") -> str:
    done = len(folder.epochs())
    if not done:
        trained = folder.last_checkpoint()
        if trained is not None:
            return f"the trained weights are in {trained}"
        return f"no epoch was finished, {folder.path} holds no weights"
    return f"{folder.path} keeps all up to the end of epoch {done}, weights included"


def _print_plan(plan: "Plan", *, rescaled: bool) -> None:
    from resnext import complexity, name

    cost = complexity(plan.spec, plan.profile.resolution)
    data = plan.data
    print(f"network  {name(plan.spec)}: {cost.parameters:,} parameters")
    print(
        f"data     {data.name}: {len(data.train):,} images to train on, {len(data.validation):,} "
        f"to validate on, {len(data.classes)} classes, profile {plan.profile.name}"
    )
    print(f"recipe   {_describe(plan.recipe)}")
    if rescaled:
        print(f"epochs   {_rescaled(plan.recipe)}")
    print(f"run      seed {plan.seed} on {plan.device}", flush=True)


def _describe(recipe: "Recipe") -> str:
    return (
        f"{recipe.name}: epochs {recipe.epochs}, batch {recipe.batch_size}, learning rate "
        f"{recipe.learning_rate:g} ({recipe.decay}), weight decay {recipe.weight_decay:g}"
    )


def _rescaled(recipe: "Recipe") -> str:
    from resnext.training.recipe import recipe as original

    usual = original(recipe.name).epochs
    drops = ", ".join(f"{milestone:.4g}" for milestone in recipe.milestones)
    moved = f"the rate drops in epochs {drops}" if drops else "the rate's curve is scaled with them"
    return f"{recipe.epochs} instead of {usual}: {moved}"


def _print_summary(folder: "RunFolder", seconds: float) -> None:
    from resnext.runs import best

    epochs = folder.epochs()
    for word, epoch in (("best", best(epochs)), ("last", epochs[-1])):
        print(f"{word}     {epoch.validation_error:.2f} % validation error, epoch {epoch.epoch}")
    print(f"time     {seconds:.1f} s")
    print(f"weights  {folder.weights} (best epoch)")
    print(f"next     resnext evaluate {shlex.quote(str(folder.path))}")
