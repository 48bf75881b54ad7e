"""How a stream was played, as features of music21.

from music21 import features
from sf_adapters.music21 import EXTRACTORS

takes = features.DataSet(classLabel="pianist", featureExtractors=EXTRACTORS)

They read aligned streams, as `align` returns them and .sfalign files hold them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from music21.features import FeatureExtractor

from sf_adapters.music21.aligning import Alignment, alignment_of
from sf_plugin.errors import ScoreError

CURVE_PARTS = 16
MOST_BEATS = 12
"""Of a measure that have a place in the profile."""


_Extractor: Any = FeatureExtractor
"""Without the types of its attributes: it leaves them None."""


class _OfPerformance(_Extractor):
    """A feature of an aligned stream."""

    name: str
    description: str
    dimensions = 1

    def __init__(self, dataOrStream: Any = None, **keywords: Any) -> None:
        self.isSequential = True
        self.discrete = False
        super().__init__(dataOrStream, **keywords)

    def process(self) -> None:
        """Fill the feature.

        Raises:
            ScoreError: the stream was not aligned, or too little of it was heard.
        """
        data = self.data
        if data is not None and data.stream is None:
            data.parseStream()
        stream = data.stream if data is not None else self.stream
        self.feature.vector = [float(value) for value in self.values(alignment_of(stream))]

    def values(self, alignment: Alignment) -> Iterable[Any]:
        """The feature's numbers, (dimensions,)."""
        raise NotImplementedError


class AverageTempo(_OfPerformance):
    """Quarter notes a minute over all that was played."""

    id = "SF1"
    name = "Average Tempo"
    description = "Quarter notes a minute over all measures whose tempo is known."

    def values(self, alignment: Alignment) -> Iterable[Any]:
        return [_average(*_tempos(alignment))]


class TempoVariability(_OfPerformance):
    """How much the tempo of measures varies: standard deviation of its natural logarithm."""

    id = "SF2"
    name = "Tempo Variability"
    description = "Standard deviation of the natural logarithm of the measures' tempo."

    def values(self, alignment: Alignment) -> Iterable[Any]:
        _, tempos, _ = _tempos(alignment)
        return [np.std(np.log(tempos))]


class TempoCurve(_OfPerformance):
    """The tempo along the score, against the average tempo."""

    id = "SF3"
    name = "Tempo Curve"
    description = (
        f"Tempo in the middle of {CURVE_PARTS} equal parts of the score that was played, "
        "divided by the average tempo; of several passes their mean."
    )
    dimensions = CURVE_PARTS

    def values(self, alignment: Alignment) -> Iterable[Any]:
        offsets, tempos, quarters = _tempos(alignment)
        middles = offsets + quarters / 2
        places = np.unique(middles)
        means = [np.mean(tempos[middles == place]) for place in places]
        first, last = offsets.min(), (offsets + quarters).max()
        parts = first + (np.arange(CURVE_PARTS) + 0.5) * (last - first) / CURVE_PARTS
        return np.interp(parts, places, means) / _average(offsets, tempos, quarters)


class BeatDeviation(_OfPerformance):
    """How far beats lie from an even tempo through their measure."""

    id = "SF4"
    name = "Beat Deviation"
    description = (
        "Mean distance, in beats, of the beats after the first of each measure from an even "
        "tempo through it."
    )

    def values(self, alignment: Alignment) -> Iterable[Any]:
        late = [late for _, late in _deviations(alignment)]
        if not late:
            raise ScoreError("no measure was heard that has notes on several beats")
        return [np.mean(np.abs(late))]


class BeatProfile(_OfPerformance):
    """How late each beat of the measure comes."""

    id = "SF5"
    name = "Beat Profile"
    description = (
        f"Mean distance, in beats, by which beats 1 to {MOST_BEATS} of a measure come later "
        "than at an even tempo through it; 0 for the first and for those that there are none of."
    )
    dimensions = MOST_BEATS

    def values(self, alignment: Alignment) -> Iterable[Any]:
        late: list[list[float]] = [[] for _ in range(MOST_BEATS)]
        for beat, value in _deviations(alignment):
            if beat <= MOST_BEATS:
                late[beat - 1].append(value)
        return [np.mean(values) if values else 0.0 for values in late]


EXTRACTORS = (AverageTempo, TempoVariability, TempoCurve, BeatDeviation, BeatProfile)


def _tempos(alignment: Alignment) -> tuple[Any, Any, Any]:
    """Offset, tempo and quarter notes of every measure whose tempo is known."""
    if not alignment.tempo_map:
        raise ScoreError("no measure was heard whose tempo is known")
    columns = [(point.offset, point.tempo, point.quarters) for point in alignment.tempo_map]
    offsets, tempos, quarters = np.array(columns).T
    return offsets, tempos, quarters


def _average(offsets: Any, tempos: Any, quarters: Any) -> float:
    return float(quarters.sum() / (quarters / tempos).sum())


def _deviations(alignment: Alignment) -> list[tuple[int, float]]:
    """The beats after the first of their measure: number, and how late."""
    return [
        (beat.beat, beat.deviation)
        for beat in alignment.beats
        if beat.beat > 1 and beat.deviation is not None
    ]
