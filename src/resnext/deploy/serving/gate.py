"""How much is admitted: pictures that wait for an answer, and bytes of uploads in memory."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

from resnext.deploy.serving.refusal import RefusalError

_LONGEST = 60


class Gate:
    """Counts what is inside, and refuses what is too much at once, before any work is done."""

    def __init__(self, *, pictures: int, held: int) -> None:
        self._most, self._most_held = pictures, held
        self.pictures, self.held = 0, 0
        self._picture_seconds = 0.05

    def check(self) -> None:
        """Refuse early, before a body is read.

        Raises:
            RefusalError: 503, nothing more is admitted now.
        """
        if self.pictures >= self._most:
            raise self._busy("pictures", self.pictures, self._most)

    @contextmanager
    def admitted(self, pictures: int) -> Iterator[None]:
        """So many pictures are inside.

        Raises:
            RefusalError: 413, so many never fit; 503, they do not now.
        """
        if pictures > self._most:
            raise RefusalError(413, f"expected at most {self._most} pictures, found {pictures}")
        if self.pictures + pictures > self._most:
            raise self._busy("pictures", self.pictures + pictures, self._most)
        self.pictures += pictures
        try:
            yield
        finally:
            self.pictures -= pictures

    def hold(self, size: int) -> None:
        """So many more bytes are in memory; `release` gives them back.

        Raises:
            RefusalError: 503, memory for uploads is used up; nothing was held.
        """
        if self.held + size > self._most_held:
            raise self._busy("bytes of uploads", self.held + size, self._most_held)
        self.held += size

    def release(self, size: int) -> None:
        """So many bytes are gone."""
        self.held -= size

    def took(self, pictures: int, seconds: float) -> None:
        """A batch was through; it tells when to come again."""
        self._picture_seconds += 0.2 * (seconds / pictures - self._picture_seconds)

    def _busy(self, what: str, found: int, most: int) -> RefusalError:
        wait = min(_LONGEST, max(1, math.ceil(self.pictures * self._picture_seconds)))
        return RefusalError(
            503, f"busy: expected at most {most} {what} at once, found {found}; come again", wait
        )
