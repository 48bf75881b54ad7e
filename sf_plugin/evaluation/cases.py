"""A case: what a user has, page images and a performance, with the truth beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sf_plugin.dataset.engraving import Engraving
from sf_plugin.evaluation.metrics import Truth
from sf_plugin.score.layout import Layout
from sf_plugin.score.model import Score

if TYPE_CHECKING:
    from sf_plugin.dataset.perform import Happening
    from sf_plugin.dataset.programme import Aside


@dataclass(frozen=True)
class Case:
    """A score and what is played of it; picklable, so that another process can follow it.

    Attributes:
        name: unique within an evaluation, as "BachJS__BWV938, page 2, room".
        piece: what intervals are resampled over.
        condition: how it was played, recorded and printed.
        score: page images only; cases on the same pages share one object, so that they
            are read once.
        layout: the true one, in the score's page numbers; systems may have no measures.
        truth: of every onset.
        sound: gives (samples,) at `sample_rate`, rendered or read on demand; not a lambda.
        sample_rate: samples a second.
        happenings: of the performance: jumps, repeats, stops, mistakes, in order of time.
        symbols: what is printed, in the score's page numbers less 1, its pages of no
            size; only for baselines that say that they read it.
        paper: how the pages were printed, of `sf_plugin.dataset.paper.PAPERS`, or "as given".
        asides: when the piece is not played, in order of time.
    """

    name: str
    piece: str
    condition: str
    score: Score
    layout: Layout
    truth: Truth
    sound: Callable[[], NDArray[np.float32]]
    sample_rate: int
    happenings: tuple[Happening, ...] = ()
    symbols: Engraving | None = None
    paper: str = "as given"
    asides: tuple[Aside, ...] = ()
