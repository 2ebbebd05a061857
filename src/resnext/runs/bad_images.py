"""The images of a run that cannot be used: logged, counted over all processes, and limited."""

from collections.abc import Iterator, Sequence

from resnext.data import Source
from resnext.data.loader import Batches
from resnext.data.making import Bad
from resnext.errors import DataError
from resnext.runs.folder import RunFolder
from resnext.runs.records import BadImage
from resnext.training.distributed import World


class BadImages:
    """What happened to them so far.

    Attributes:
        in_epoch: how many in the running epoch, over all processes.
        logged: lines of the log.
    """

    def __init__(self, source: Source, folder: RunFolder, world: World, limit: float) -> None:
        """`limit` is the part of the images that may be replaced in an epoch."""
        self._source, self._folder, self._world = source, folder, world
        self._allowed = int(limit * len(source))
        self.in_epoch = self.logged = 0
        self._listed: Sequence[Bad] = ()
        self._taken = 0

    def follow(self, batches: Batches) -> None:
        """Look at the list of these batches from now on."""
        self._listed, self._taken = batches.bad, 0

    def new(self) -> list[Bad]:
        """Those of this process that were not asked for before."""
        found = list(self._listed[self._taken :])
        self._taken += len(found)
        return found

    def log(self, epoch: int, ours: Sequence[Bad]) -> Iterator[BadImage]:
        """Write down those of all processes, which must ask together.

        Raises:
            DataError: there are more in this epoch than the limit.
        """
        described = [self._described(epoch, bad) for bad in ours]
        found = [image for images in self._world.gather(described) for image in images]
        for image in found:
            if self._world.first:
                self._folder.note(image)
            self.logged += 1
            yield image
        self.in_epoch += len(found)
        if self.in_epoch > self._allowed:
            raise DataError(
                f"expected at most {self._allowed} images that cannot be used in an epoch, found "
                f"{self.in_epoch}: {found[-1].reason}"
            )

    def log_last(self, epoch: int) -> None:
        """Write down those of a batch that never came to a step, because they were too many."""
        for bad in self.new():
            if self._world.first:
                self._folder.note(self._described(epoch, bad))

    def _described(self, epoch: int, bad: Bad) -> BadImage:
        return BadImage(
            epoch=epoch,
            image=self._source.describe(bad.index),
            reason=bad.reason,
            replacement=self._source.describe(bad.replacement),
        )
