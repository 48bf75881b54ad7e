"""Following and aligning music21 streams.

from music21 import corpus
from sf_adapters.music21 import follow

for place in follow(corpus.parse("bwv66.6"), "take.wav"):
    print(place.position.time, place.measure, place.beat, place.sounding)
"""

from sf_adapters.music21.aligning import (
    Alignment,
    BeatTime,
    Performance,
    TempoPoint,
    align,
    alignment_of,
)
from sf_adapters.music21.features import (
    EXTRACTORS,
    AverageTempo,
    BeatDeviation,
    BeatProfile,
    TempoCurve,
    TempoVariability,
)
from sf_adapters.music21.files import AlignmentConverter, register
from sf_adapters.music21.following import FollowedPosition, follow

__all__ = [
    "EXTRACTORS",
    "Alignment",
    "AlignmentConverter",
    "AverageTempo",
    "BeatDeviation",
    "BeatProfile",
    "BeatTime",
    "FollowedPosition",
    "Performance",
    "TempoCurve",
    "TempoPoint",
    "TempoVariability",
    "align",
    "alignment_of",
    "follow",
    "register",
]
