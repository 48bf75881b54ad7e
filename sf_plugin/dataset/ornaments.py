"""Trills, mordents, turns and tremolos played out."""

from __future__ import annotations

import numpy as np

from sf_plugin.dataset.engraving import ORNAMENTS, Engraving

MAJOR = np.array([0, 2, 4, 5, 7, 9, 11])
SHORTEST = 0.045
"""Seconds that one note of an ornament takes at least."""

Figure = list[tuple[float, float, int]]
"""(seconds after the head's onset, key down in seconds, pitch)"""


class Keys:
    """The key signature in force at each moment of an engraving."""

    def __init__(self, engraving: Engraving) -> None:
        signs = engraving.signs[engraving.signs["kind"] == "key"]
        score = engraving.systems["score"][signs["system"]]
        self._told = sorted(
            (int(s), float(sign["onset"]), int(sign["value"]))
            for s, sign in zip(score, signs, strict=True)
            if str(sign["value"]).lstrip("-").isdigit()
        )

    def sharps(self, score: int, onset: float) -> int:
        """Sharps less flats; 0 where no signature is known."""
        told = [key for s, at, key in self._told if s == score and at <= onset + 1e-6]
        return told[-1] if told else 0


def neighbour(pitch: int, sharps: int, up: bool) -> int:
    """The next note of the scale above or below a pitch."""
    scale = (MAJOR + 7 * sharps) % 12
    step = 1 if up else -1
    return pitch + step if (pitch + step) % 12 in scale else pitch + 2 * step


def figure(
    ornament: int, pitch: int, sharps: int, duration: float, rng: np.random.Generator
) -> Figure:
    """What is struck instead of one key held for `duration` seconds; the first is at 0.

    Too short a note is played plainly.
    """
    above, below = neighbour(pitch, sharps, True), neighbour(pitch, sharps, False)
    quick = float(rng.uniform(0.06, 0.11))
    if ornament == ORNAMENTS["trill"]:
        count = int(duration / quick)
        pitches = [pitch, above] * (count // 2)
        if rng.random() < 0.3:
            pitches = pitches[1:]
        pitches = [*pitches[: max(0, count - 1)], pitch]
    elif ornament == ORNAMENTS["tremolo"]:
        pitches = [pitch] * max(1, int(duration / quick))
    elif ornament == ORNAMENTS["mordent"]:
        pitches = [pitch, below, pitch]
    elif ornament == ORNAMENTS["prall"]:
        pitches = [pitch, above, pitch]
    elif ornament == ORNAMENTS["turn"]:
        pitches = [above, pitch, below, pitch]
    else:
        pitches = [pitch]
    if ornament == ORNAMENTS["trill"]:
        pitches = [p for i, p in enumerate(pitches) if i == 0 or p != pitches[i - 1]]
    count = len(pitches)
    step = min(quick, duration / (count + 0.5))
    if count < 2 or step < SHORTEST:
        return [(0.0, duration, pitch)]
    if ornament in (ORNAMENTS["trill"], ORNAMENTS["tremolo"]):
        step = duration / count
    ends = [*((i + 1) * step for i in range(count - 1)), max(duration, count * step)]
    return [(i * step, ends[i] - i * step, p) for i, p in enumerate(pitches)]
