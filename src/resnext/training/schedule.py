"""The learning rate as a pure function of how many epochs are done.

`done` counts finished epochs and the finished part of the running one: 0 at the start, 1.5 in the
middle of the second epoch. So one function serves schedules by epoch (the paper's) and by step.
"""

import math

from resnext.training.recipe import Recipe


def learning_rate(recipe: Recipe, done: float) -> float:
    """The rate at the moment when `done` epochs are over."""
    if done < recipe.warmup_epochs:
        return recipe.learning_rate * done / recipe.warmup_epochs
    if recipe.decay == "cosine":
        return recipe.learning_rate * cosine(done, recipe.warmup_epochs, recipe.epochs)
    return recipe.learning_rate * 0.1 ** drops(done, recipe.milestones)


def rate_of_step(recipe: Recipe, epoch: int, step: int, steps: int) -> float:
    """The schedule taken in the middle of a step; epochs and steps are counted from 1.

    At its beginning, a warm-up would give the first step no rate at all.
    """
    return learning_rate(recipe, epoch - 1 + (step - 0.5) / steps)


def drops(done: float, milestones: tuple[float, ...]) -> int:
    """How often the rate has been divided by ten: once for every milestone that has begun.

    A milestone m counts epochs from 1 and begins when m - 1 are done.
    """
    return sum(done >= milestone - 1 for milestone in milestones)


def cosine(done: float, start: float, end: float) -> float:
    """Half a cosine: 1 at `start`, 0 at `end` (Loshchilov and Hutter, arXiv:1608.03983, Eqn. 5)."""
    return 0.5 * (1 + math.cos(math.pi * (done - start) / (end - start)))
