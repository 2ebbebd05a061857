"""Epochs of a recipe over passes of a data set: the same thing, unless the recipe counts steps."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from resnext.data.loader import Batch, Batches
from resnext.data.order import batch_sizes
from resnext.training.recipe import Recipe


class EpochBatches:
    """Which steps of which passes over `count` images an epoch consists of.

    With `recipe.epoch_steps`, epochs are cut from the endless row of passes: a pass may begin in
    one epoch and end in the next.
    """

    def __init__(self, count: int, recipe: Recipe) -> None:
        self._count, self._batch = count, recipe.batch_size
        self._pass = batch_sizes(count, batch_size=recipe.batch_size, start=0, last="keep")
        self._epoch_steps = recipe.epoch_steps

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return self._epoch_steps or len(self._pass)

    def batches(self, epoch: int, step: int, one_pass: Callable[[int, int], Batches]) -> "_Row":
        """What is left of an epoch behind so many steps.

        `one_pass(number, start)` gives the batches of a pass, counted from 1, from an image on.
        """
        first = (epoch - 1) * self.steps + step
        pieces = []
        left = self.steps - step
        while left > 0:
            number, at = divmod(first, len(self._pass))
            length = min(left, len(self._pass) - at)
            pieces.append((number + 1, at, length))
            first, left = first + length, left - length
        totals = [n for _, at, length in pieces for n in self._pass[at : at + length]]
        return _Row(
            [(number, at * self._batch, length) for number, at, length in pieces], totals, one_pass
        )


class _Row:
    """Batches of several passes, one after the other; a pass is opened when it is its turn."""

    def __init__(
        self,
        pieces: Sequence[tuple[int, int, int]],
        totals: Sequence[int],
        one_pass: Callable[[int, int], Batches],
    ) -> None:
        self.totals = totals
        self._pieces, self._one_pass = pieces, one_pass

    def __len__(self) -> int:
        return len(self.totals)

    def __iter__(self) -> Iterator[Batch]:
        for number, start, length in self._pieces:
            opened = self._one_pass(number, start)
            yield from replace(opened, groups=opened.groups[:length], totals=opened.totals[:length])
