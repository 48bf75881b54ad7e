"""The interface of a score follower: samples in, estimates out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sf_plugin.positions import Estimate
from sf_plugin.score.layout import Layout
from sf_plugin.score.model import Score

Progress = Callable[[str, int, int], None]
"""Called as (what is being done, steps done, steps in all) during long work."""


def no_progress(what: str, done: int, total: int) -> None:
    """Report to nobody."""


class Reading:
    """A score being read; a context manager that ends the reading.

    Attributes:
        layout: what has been read so far.
        through: the last page that has been read, where there are later ones.
    """

    through: int | None = None

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def more(self) -> Layout | None:
        """The larger layout, where more was read since the last call.

        Called between two `feed`; measures that were there keep their numbers.
        """
        return None

    def until(self, page: int) -> Layout:
        """Wait for the pages up to this one; the larger layout, without those after it."""
        return self.layout

    def close(self) -> None:
        """Read no more; closing twice is harmless."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Follower(ABC):
    """Listens to one performance of one score.

    The same object serves live input and files: what it yields depends only on
    the samples so far, not on how they were cut into blocks.
    """

    sample_rate: int
    """Hz that `feed` expects."""

    lag: float = 0.0
    """Seconds from a sound to the estimate that knows of it."""

    hurry: int = 1
    """The session sets it where the computer is too slow: of so many frames, listen to one,
    and tell an estimate of each.  A follower may ignore it."""

    @abstractmethod
    def prepare(self, score: Score, progress: Progress = no_progress) -> Layout:
        """Read the pages `score.followed`; returns the layout used (the score's own if any).

        Raises:
            ScoreError: nothing on the pages can be followed.
        """

    def read(self, score: Score, progress: Progress = no_progress, through: int = 1) -> Reading:
        """Read the pages up to page `through`, and the others while following goes on.

        A follower that must know all pages first reads them now.

        Raises:
            ScoreError: nothing on the pages can be followed.
        """
        return Reading(self.prepare(score, progress))

    @abstractmethod
    def feed(self, samples: NDArray[np.float32]) -> Iterable[Estimate]:
        """Hear (n,) mono samples at `sample_rate`, full scale 1.0; estimates in order of time."""

    @abstractmethod
    def reset(self) -> None:
        """Forget the performance, keep the score."""

    def align(
        self, blocks: Iterable[NDArray[np.float32]], progress: Progress = no_progress
    ) -> Iterable[Estimate]:
        """Hear a whole performance; the estimates may know how it goes on.

        `blocks` are what `feed` takes, from the beginning.  A follower that only works
        live follows.
        """
        self.reset()
        for block in blocks:
            yield from self.feed(block)

    def expect(self, page: int, x: float, y: float) -> None:
        """Every performance of this score begins there; a follower may ignore it.

        Forgets the present performance, as `reset` does.
        """

    def places(self) -> Sequence[tuple[int, float, float]]:
        """(page, x, y) of the places where it read notes to begin; none where it does not say."""
        return ()

    def goto(self, page: int, x: float, y: float) -> None:
        """Take the user's word for the place; a follower may ignore it."""

    def mask(self, page: int) -> NDArray[np.float32] | None:
        """The page as now heard: (rows, columns) in [0, 1], or None where there is no mask."""
        return None
