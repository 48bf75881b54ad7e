"""How keys and pedal are struck and held: chord spread, loudness, articulation, pedal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sf_plugin.dataset.engraving import ARTICULATIONS
from sf_plugin.dataset.performance import PEDAL
from sf_plugin.dataset.style import Style

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

BASS = 55
"""MIDI pitch below which a note asks for a fresh pedal."""


def marked(heads: np.ndarray, name: str) -> NDArray[np.bool_]:
    return (heads["articulation"] & ARTICULATIONS[name]) > 0


def tops(heads: np.ndarray, visit: Indices, visits: int) -> NDArray[np.bool_]:
    """(notes,) which note is the highest of its onset."""
    top = np.zeros(visits, np.int64)
    np.maximum.at(top, visit, heads["pitch"])
    return np.asarray(heads["pitch"] == top[visit])


def delays(
    heads: np.ndarray,
    visit: Indices,
    gaps: Floats,
    heed: NDArray[np.bool_],
    style: Style,
    rng: np.random.Generator,
) -> Floats:
    """(notes,) seconds by which each note of a chord comes after the chord's first.

    The top note comes first by about `melody_lead` (20 to 30 ms in W. Goebl, "Melody lead
    in piano performance: Expressive device or artifact?", Journal of the Acoustical
    Society of America 110, 2001), staves come apart, arpeggios run upwards.  A chord is
    over by half of its `gaps` (visits,), the seconds to the next onset.
    """
    visits = len(gaps)
    late = rng.uniform(0, 1, len(heads)) * style.chord_spread * rng.uniform(0.2, 1.5)
    late -= style.melody_lead * rng.uniform(0.5, 1.3) * tops(heads, visit, visits)
    if style.hands:
        hands = rng.normal(0, style.hands, (visits, 4))
        late += hands[visit, heads["staff"] % 4]
    rolled = np.flatnonzero(heed & marked(heads, "arpeggio"))
    if len(rolled):
        order = rolled[np.lexsort((heads["pitch"][rolled], visit[rolled]))]
        rank = np.arange(len(order)) - np.searchsorted(visit[order], visit[order])
        late[order] = rank * rng.uniform(0.03, 0.08)
    first = np.full(visits, np.inf)
    np.minimum.at(first, visit, late)
    late = np.asarray(late - first[visit])
    widest = np.zeros(visits)
    np.maximum.at(widest, visit, late)
    scale = np.minimum(1.0, 0.5 * gaps / np.maximum(widest, 1e-9))
    return np.asarray(late * scale[visit])


def detachment(
    heads: np.ndarray, heed: NDArray[np.bool_], style: Style, rng: np.random.Generator
) -> Floats:
    """(notes,) share of its time for which each key is down; a little over 1 is legato."""
    if not style.free:
        return np.full(len(heads), 0.95)
    staves = np.clip(rng.uniform(0.65, 1.06) + rng.normal(0, 0.06, 4), 0.5, 1.08)
    share = staves[heads["staff"] % 4] + rng.normal(0, 0.03, len(heads))
    share = np.where(heed & marked(heads, "tenuto"), np.maximum(share, 1.0), share)
    short = heed & marked(heads, "staccato")
    return np.asarray(np.where(short, rng.uniform(0.3, 0.55) * share, share))


def velocities(
    heads: np.ndarray,
    visit: Indices,
    swell: Floats,
    heed: NDArray[np.bool_],
    style: Style,
    rng: np.random.Generator,
) -> Floats:
    """(notes,) loudness; `swell` (visits,) is what tempo and phrase say."""
    loud = 66 + swell[visit]
    if not style.dynamics:
        return np.asarray(loud)
    loud += 8.0 * tops(heads, visit, len(swell)) + rng.normal(0, 5, len(heads))
    return np.asarray(loud + 14.0 * (heed & marked(heads, "accent")))


def pedalled(
    heads: np.ndarray,
    times: Floats,
    beats: Floats,
    bars: Floats,
    ends: Floats,
    rng: np.random.Generator,
) -> np.ndarray:
    """PEDAL events: lifted with every new bar and new bass, pressed again just after.

    Args:
        heads: rows of the notes in the order of the road.
        times: (notes,) seconds at which they sound.
        beats: (notes,) whole notes played so far.
        bars: times at which bars begin, seconds.
        ends: times at which the music falls silent, seconds.
        rng: of how promptly the foot moves.
    """
    low = heads["pitch"] < BASS
    changes, last, bass = [], -np.inf, -1
    rows = zip(times[low].tolist(), beats[low].tolist(), heads["pitch"][low].tolist(), strict=True)
    for time, beat, pitch in rows:
        if beat - last > 0.2499 and pitch != bass:
            changes.append(time)
            last, bass = beat, pitch
    moments = np.sort(np.concatenate([changes, bars]))
    moments = moments[np.diff(moments, prepend=-np.inf) > 0.25]
    lifted = moments + rng.uniform(0, 0.03, len(moments))
    pressed = lifted + rng.uniform(0.06, 0.16, len(moments))
    over = ends + rng.uniform(0.2, 0.8, len(ends))
    events = np.zeros(2 * len(moments) + len(over), PEDAL)
    events["time"] = np.concatenate([lifted, pressed, over])
    events["value"][len(moments) : 2 * len(moments)] = rng.integers(90, 128, len(moments))
    return events[np.argsort(events["time"], kind="stable")]
