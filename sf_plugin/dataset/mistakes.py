"""Wrong, missing and extra notes."""

from __future__ import annotations

import numpy as np

from sf_plugin.dataset.performance import Happening
from sf_plugin.dataset.style import Style

SLIPS = np.array([-2, -1, 1, 2, -12, 12])
"""Semitones by which a wrong note is off: mostly the key beside, sometimes the octave."""

CHANCES = np.array([0.22, 0.22, 0.22, 0.22, 0.06, 0.06])


def spoilt(
    notes: np.ndarray, style: Style, rng: np.random.Generator
) -> tuple[np.ndarray, list[Happening]]:
    """The notes with the style's mistakes, and what they were."""
    if not (style.wrong_notes or style.missing_notes or style.extra_notes):
        return notes, []
    notes = notes.copy()
    chance = rng.random(len(notes))
    printed = notes["printed"] >= 0
    wrong = printed & (chance < style.wrong_notes)
    missing = printed & ~wrong & (chance < style.wrong_notes + style.missing_notes)
    slips = rng.choice(SLIPS, len(notes), p=CHANCES)
    off = notes["pitch"] + slips
    slips = np.where((off < 21) | (off > 108), -slips, slips)
    notes["pitch"][wrong] += slips[wrong].astype(np.int16)
    beside = np.flatnonzero(rng.random(len(notes)) < style.extra_notes)
    extra = notes[beside].copy()
    extra["printed"] = -1
    extra["onset"] += rng.uniform(0, 0.04, len(beside))
    extra["duration"] = np.minimum(extra["duration"], rng.uniform(0.05, 0.2, len(beside)))
    extra["pitch"] = np.clip(extra["pitch"] + rng.choice([-2, -1, 1, 2], len(beside)), 21, 108)
    extra["velocity"] = np.maximum(15, extra["velocity"] * rng.uniform(0.4, 0.9, len(beside)))
    happenings = [
        Happening(float(note["onset"]), kind, printed=int(note["printed"]))
        for kind, rows in (
            ("wrong note", notes[wrong]),
            ("missing note", notes[missing]),
            ("extra note", extra),
        )
        for note in rows
    ]
    return np.concatenate([notes[~missing], extra]), happenings
