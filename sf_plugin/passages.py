"""Stretches of a performance that go on without a break, in quarter notes and seconds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sf_plugin.alignment import Alignment, MeasureTime
from sf_plugin.score.layout import Measure
from sf_plugin.score.structure import measures_of

UNKNOWN_LENGTH = 4.0
"""Quarter notes of a measure whose length no symbols tell."""
BREAK = 0.001
"""Seconds between two measures from which they do not follow one another."""

TINY = 1e-4
"""Quarter notes that are none."""


@dataclass(frozen=True)
class Passage:
    """Measures played one after the other.

    Attributes:
        measures: in order.
        offsets: where each measure begins and the last ends, in quarter notes from the
            start of the passage, (measures + 1,).
        quarters, seconds: points of the way, both rising.
    """

    measures: tuple[MeasureTime, ...]
    offsets: tuple[float, ...]
    quarters: tuple[float, ...]
    seconds: tuple[float, ...]

    def at(self, quarter: float) -> float:
        """Seconds when a quarter note of the passage came."""
        return float(np.interp(quarter, self.quarters, self.seconds))

    def bars(self) -> Iterator[tuple[MeasureTime, float, float]]:
        """Every measure with where it begins and ends, in quarter notes.

        The first begins where the music does.
        """
        for measure, start, end in zip(self.measures, self.offsets, self.offsets[1:], strict=False):
            yield measure, max(start, self.quarters[0]), end

    def beats(self) -> Iterator[tuple[MeasureTime, float, float]]:
        """Every quarter note: its measure, its place in it from 0, and its seconds.

        Of a measure whose beats are unknown, its beginning alone.
        """
        for measure, start, end in zip(self.measures, self.offsets, self.offsets[1:], strict=False):
            known = measure.onsets[0].beat is not None
            for beat in range(math.ceil(end - start - TINY) if known else 1):
                if start + beat >= self.quarters[0]:
                    yield measure, float(beat), self.at(start + beat)


def passages(alignment: Alignment) -> list[Passage]:
    """The passages of a performance, in order of time."""
    written = {m.number: m for m in measures_of(alignment.layout)}
    parts: list[list[MeasureTime]] = []
    for measure in alignment.measures:
        if not parts or measure.jumped or measure.start - parts[-1][-1].end > BREAK:
            parts.append([])
        parts[-1].append(measure)
    return [_passage(part, written) for part in parts]


def _passage(played: list[MeasureTime], written: dict[int, Measure]) -> Passage:
    offsets = [0.0]
    points: list[tuple[float, float]] = []

    def reach(quarter: float, second: float) -> None:
        if not points or (quarter > points[-1][0] + TINY and second > points[-1][1]):
            points.append((quarter, second))

    for one in played:
        start = offsets[-1]
        onsets = written[one.number].onsets if one.number in written else ()
        offsets.append(start + (onsets[-1][1] if onsets else UNKNOWN_LENGTH))
        begins = [beat for _, beat in onsets[:-1]] or [0.0]
        for place in one.onsets if onsets else one.onsets[:1]:
            beat = place.beat or 0.0
            reach(start + min(begins, key=lambda b: abs(b - beat)), place.time)
    reach(offsets[-1], max(played[-1].end, points[-1][1] + BREAK))
    quarters, seconds = zip(*points, strict=True)
    return Passage(tuple(played), tuple(offsets), quarters, seconds)
