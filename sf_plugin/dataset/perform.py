"""Play an engraved piece: human-like onsets, durations and velocities, with the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sf_plugin.dataset.engraving import Engraving

NOTE = np.dtype([("onset", "f8"), ("duration", "f4"), ("pitch", "i2"), ("velocity", "i2")])
ONSET = np.dtype(
    [
        ("time", "f8"),
        ("page", "i2"),
        ("system", "i2"),
        ("x", "f4"),
        ("score", "i2"),
        ("moment", "f8"),
    ]
)
"""Where the notes that begin together stand; `page` and `system` from 0."""


@dataclass
class Performance:
    """Sounding notes and the place of every onset, both in order of time (seconds)."""

    notes: np.ndarray
    onsets: np.ndarray


@dataclass(frozen=True)
class Style:
    """How freely to play; all zero is mechanical."""

    tempo_drift: float = 0.10  # standard deviation of log tempo
    phrase_end: float = 0.15  # how much slower at phrase ends
    jitter: float = 0.008  # seconds
    chord_spread: float = 0.02  # seconds from first to last note of a chord
    dynamics: float = 14.0  # standard deviation of velocity
    pedal: float = 0.5  # probability of a pedalled piece


MECHANICAL = Style(0, 0, 0, 0, 0, 0)


def score_onsets(notes: np.ndarray) -> tuple[np.ndarray, NDArray[np.intp]]:
    """Group note heads that begin together.

    Returns the first head of each group and the group of every head; heads that
    continue a tie have group -1.
    """
    group = np.full(len(notes), -1)
    fresh = np.flatnonzero(~notes["tied"])
    heads = notes[fresh]
    key = np.stack([heads["score"], heads["onset"], heads["grace"]])
    new = np.ones(len(heads), bool)
    new[1:] = (np.diff(key, axis=1) != 0).any(0)
    group[fresh] = np.cumsum(new) - 1
    return heads[new], group


def sounding_lengths(notes: np.ndarray) -> NDArray[np.float64]:
    """Length in whole notes with tied continuations added; the order is the notes' own."""
    length = notes["length"].astype(float).copy()
    open_notes: dict[tuple[int, int, int], int] = {}
    for i, note in enumerate(notes):
        end = round((note["onset"] + note["length"]) * 3840)
        if note["tied"]:
            start = open_notes.pop(
                (int(note["score"]), int(note["pitch"]), round(note["onset"] * 3840)), None
            )
            if start is not None:
                length[start] += note["length"]
                open_notes[(int(note["score"]), int(note["pitch"]), end)] = start
        else:
            open_notes[(int(note["score"]), int(note["pitch"]), end)] = i
    return length


def wander(count: int, deviation: float, memory: float, rng: np.random.Generator) -> np.ndarray:
    """(count,) values of a mean-reverting random walk with the given standard deviation."""
    steps = rng.standard_normal(count) * deviation * np.sqrt(1 - memory**2)
    value = rng.standard_normal() * deviation
    out = np.empty(count)
    for i in range(count):
        value = memory * value + steps[i]
        out[i] = value
    return out


def choose_tempo(engraving_notes: np.ndarray, rng: np.random.Generator, free: float) -> float:
    """Whole notes a second: the source's tempo if it names one, else by note density."""
    first, _ = score_onsets(engraving_notes)
    gaps = np.diff(first["onset"])
    gaps = gaps[(gaps > 0) & (gaps <= 1)]
    gap = float(np.median(gaps)) if len(gaps) else 0.125
    named = float(np.median(engraving_notes["tempo"])) / 60
    tempo = named if named else gap / 0.27
    tempo *= float(np.exp(rng.normal(0, 0.22 * free)))
    return float(np.clip(tempo, gap / 0.9, gap / 0.085))


def perform(
    engraving: Engraving,
    rng: np.random.Generator,
    style: Style = Style(),
    only: slice | None = None,
) -> Performance:
    """Play the printed notes once from first to last, repeats not taken.

    `only` plays a stretch of the onset groups.
    """
    notes = engraving.notes
    heads, group = score_onsets(notes)
    free = 1.0 if style.tempo_drift else 0.0
    tempo = choose_tempo(notes, rng, free)
    lengths = sounding_lengths(notes)

    first, last = 0, len(heads)
    if only is not None:
        first, last, _ = only.indices(len(heads))
    heads = heads[first:last]
    # grace notes come before their main note, about half their written length
    moments = heads["onset"] + heads["grace"] * 0.5
    step = np.diff(moments, prepend=moments[0])
    breaks = np.diff(heads["score"], prepend=heads["score"][0]) != 0
    step = np.where(breaks, 1.0, np.maximum(step, 0.002))
    curve = wander(len(heads), style.tempo_drift, 0.97, rng)
    if style.phrase_end:
        phrase = rng.choice([2.0, 4.0, 8.0])
        place = (heads["onset"] % phrase) / phrase
        curve -= style.phrase_end * rng.uniform(0, 1.5) * np.clip((place - 0.8) / 0.2, 0, 1) ** 2
    seconds = step / (tempo * np.exp(curve))
    seconds = np.where(breaks, rng.uniform(0.8, 2.0, len(heads)), seconds)
    seconds[0] = 0
    times = np.cumsum(seconds)
    times = np.maximum.accumulate(times + rng.normal(0, style.jitter + 1e-9, len(heads)))
    times += 0.5 - times[0]

    inside = (group >= first) & (group < last)
    chosen = np.flatnonzero(inside)
    place = group[chosen] - first
    local = tempo * np.exp(curve[place])
    spread = rng.uniform(0, 1, len(chosen)) * style.chord_spread * rng.uniform(0.2, 1.5)
    onset = times[place] + spread
    detached = rng.uniform(0.65, 1.02) if free else 0.95
    duration = lengths[chosen] / local * detached
    duration = np.maximum(duration, 0.05)
    if rng.random() < style.pedal:
        # the pedal holds everything to the next half note
        until = (np.floor(notes["onset"][chosen] * 2 + 1e-6) + 1) / 2 - notes["onset"][chosen]
        duration = np.maximum(duration, until / local)
    loud = 66 + wander(len(heads), style.dynamics, 0.95, rng)[place]
    if style.dynamics:
        top = np.zeros(len(heads))
        np.maximum.at(top, place, notes["pitch"][chosen])
        loud = loud + 8.0 * (notes["pitch"][chosen] == top[place]) + rng.normal(0, 5, len(chosen))
    played = np.zeros(len(chosen), NOTE)
    played["onset"], played["duration"] = onset, duration
    played["pitch"] = np.clip(notes["pitch"][chosen], 21, 108)
    played["velocity"] = np.clip(loud, 15, 120)
    played = played[np.argsort(played["onset"], kind="stable")]

    truth = np.zeros(len(heads), ONSET)
    truth["time"] = times
    for name in ("page", "system", "x", "score"):
        truth[name] = heads[name]
    truth["moment"] = heads["onset"]
    return Performance(played, truth)
