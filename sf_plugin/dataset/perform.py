"""Play an engraved piece as someone might, with the truth of where every onset stands.

    performance = perform(engraving, np.random.default_rng(1), STYLES["expressive"])
    to_midi(performance).save("take.mid")

The road through the score comes from `roads`, the seconds from `timing`, the touch from
`touch` and `ornaments`, the faults from `mistakes`; styles are in `style`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sf_plugin.dataset.engraving import Engraving
from sf_plugin.dataset.mistakes import spoilt
from sf_plugin.dataset.ornaments import Keys, figure
from sf_plugin.dataset.performance import (
    MEASURE,
    NOTE,
    ONSET,
    PEDAL,
    Happening,
    Performance,
    sounding,
    to_midi,
)
from sf_plugin.dataset.roads import SAME, Road, Stretch, choose_road, measure_positions
from sf_plugin.dataset.style import HUMAN, MECHANICAL, STYLES, Style
from sf_plugin.dataset.timing import (
    Clock,
    arc,
    bar_places,
    choose_tempo,
    grace_times,
    held,
    score_onsets,
    sounding_lengths,
    tempo_curve,
    wander,
    wind,
)
from sf_plugin.dataset.touch import delays, detachment, pedalled, velocities
from sf_plugin.dataset.truth_layout import printed_measures

__all__ = [
    "MEASURE",
    "MECHANICAL",
    "NOTE",
    "ONSET",
    "PEDAL",
    "STYLES",
    "TRUTH_ROW",
    "Happening",
    "Performance",
    "Style",
    "choose_tempo",
    "perform",
    "score_onsets",
    "sounding",
    "sounding_lengths",
    "to_midi",
    "truth_table",
]

FIRST_ONSET = 0.5
"""Seconds at which the first onset comes."""

SHORTEST_KEY = 0.05
"""Seconds for which a key is down at least."""

LIFT = 0.01
"""Seconds for which a key is up at least before it is struck again."""

INSTANT = 1e-6
"""Seconds within which two times are one."""

PIANO = (21, 108)
"""Lowest and highest MIDI pitch."""

TRUTH_ROW = np.dtype(
    [
        ("time", "f8"),  # seconds
        ("page", "i4"),  # from 1
        ("system", "i4"),  # on its page, from 1
        ("x", "f8"),  # fraction of the page's width
        ("measure", "i4"),  # from 1 in reading order
        ("label", "U8"),  # the printed number, "" where unknown
        ("passing", "i4"),  # how many-th visit to that place, from 1
    ]
)


def perform(
    engraving: Engraving,
    rng: np.random.Generator,
    style: Style = HUMAN,
    only: slice | None = None,
) -> Performance:
    """Play the score in a style; the first onset comes at half a second.

    The earliest note of each chord sounds exactly at its onset's time.  `only` plays a
    stretch of the onset groups straight through, without a road's repeats, jumps and
    stops, and without a table of measures.
    """
    heads, group = score_onsets(engraving.notes)
    if only is None:
        road = choose_road(engraving, style, rng)
        place, part = _visits(heads, road)
    else:
        place = np.arange(*only.indices(len(heads)))
        part = np.cumsum(np.diff(heads["score"][place], prepend=heads["score"][place[:1]]) != 0)
        road = _stretches(engraving.notes, heads[place], part, rng)
    if not len(place):
        return Performance(np.zeros(0, NOTE), np.zeros(0, ONSET))
    walk = _Walk(road, heads[place], part)
    fermatas = held(engraving, group, len(heads))[place]
    tempo = choose_tempo(engraving.notes, rng, float(style.free))
    curve = tempo_curve(engraving, walk.visits, part, style, rng)
    clock, times, halts = _timed(walk, fermatas, tempo, curve, style, rng)

    chosen, visit = _heads_of(group, len(heads), place)
    struck = engraving.notes[chosen]
    heed = rng.random(len(struck)) < style.marks
    bars = bar_places(engraving, walk.visits["score"], walk.visits["onset"])
    swell = wander(len(place), style.dynamics, 0.95, rng)
    if style.dynamics and style.rubato:
        swell += style.dynamics * rng.uniform(0, 1) * (arc(bars, float(rng.choice([4, 8]))) - 0.5)
    played = np.zeros(len(struck), NOTE)
    played["printed"] = chosen
    gaps = np.diff(times, append=np.inf)
    played["onset"] = times[visit] + delays(struck, visit, gaps, heed, style, rng)
    full = walk.durations(clock, visit, sounding_lengths(engraving.notes)[chosen])
    small = struck["grace"] < 0
    full[small] = 0.5 * struck["length"][small] / (tempo * np.exp(curve[visit[small]]))
    played["duration"] = np.maximum(full * detachment(struck, heed, style, rng), SHORTEST_KEY)
    played["pitch"] = np.clip(struck["pitch"], *PIANO)
    played["velocity"] = np.clip(velocities(struck, visit, swell, heed, style, rng), 15, 120)

    pedals = np.zeros(0, PEDAL)
    if rng.random() < style.pedal:
        lines = times[np.diff(np.floor(bars + SAME), prepend=-np.inf) != 0]
        ends = walk.silences(clock)
        pedals = pedalled(struck, played["onset"], walk.beats[visit], lines, ends, rng)
    played = _ornamented(played, engraving, heed, rng)
    played, faults = spoilt(played, style, rng)
    played = _released(played[np.argsort(played["onset"], kind="stable")])

    truth = np.zeros(len(place), ONSET)
    for name in ("page", "system", "x", "score"):
        truth[name] = walk.visits[name]
    truth["time"], truth["moment"] = times, walk.visits["onset"]
    truth["passing"] = _passings(place)
    begun = np.zeros(0, MEASURE) if only is not None else _measures_begun(engraving, walk, clock)
    happenings = sorted([*faults, *halts, *_turns(walk, clock, begun)], key=lambda h: h.time)
    located = (replace(h, measure=_measure_at(begun, h.time + INSTANT)) for h in happenings)
    return Performance(played, truth, pedals, begun, tuple(located))


class _Walk:
    """The visited onset groups along a road; positions as a `Clock`'s.

    Attributes:
        road: its stretches.
        visits: (visits,) first heads of the onset groups.
        part: (visits,) the stretch of each.
        beats: (visits,) whole notes played so far.
        ends: (stretches,) whole notes played by the end of each stretch.
    """

    def __init__(self, road: Road, visits: np.ndarray, part: NDArray[np.intp]) -> None:
        self.road, self.visits, self.part = road, visits, part
        lengths = np.array([stretch.length for stretch in road])
        self.ends = np.cumsum(lengths)
        self.begins = np.append(0.0, self.ends[:-1])
        starts = np.array([stretch.start for stretch in road])
        self.beats = self.begins[part] + np.maximum(0, visits["onset"] - starts[part])
        self.positions = self.beats + part

    @property
    def bounds(self) -> NDArray[np.float64]:
        """(stretches, 2) first and last position of each stretch."""
        return np.stack([self.begins, self.ends], 1) + np.arange(len(self.road))[:, None]

    def durations(
        self, clock: Clock, visit: NDArray[np.intp], lengths: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """(notes,) seconds of notes of `lengths` whole notes, cut off where the road turns."""
        until = np.minimum(self.beats[visit] + lengths, self.ends[self.part[visit]])
        return clock.at(until + self.part[visit]) - clock.at(self.positions[visit])

    def silences(self, clock: Clock) -> NDArray[np.float64]:
        """Seconds at which a silence begins, the end included."""
        quiet = [i for i, stretch in enumerate(self.road[1:]) if stretch.pause]
        return clock.at(self.bounds[[*quiet, -1], 1])


def _visits(heads: np.ndarray, road: Road) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The onset groups along a road, and the stretch of each."""
    places = []
    for stretch in road:
        first, last = np.searchsorted(heads["score"], [stretch.score, stretch.score + 1])
        span = [stretch.start - SAME, stretch.end - SAME]
        places.append(np.arange(*(first + np.searchsorted(heads["onset"][first:last], span))))
    part = np.repeat(np.arange(len(road)), [len(place) for place in places])
    return np.concatenate(places), part


def _stretches(
    notes: np.ndarray, visits: np.ndarray, part: NDArray[np.intp], rng: np.random.Generator
) -> Road:
    """The road of consecutive onset groups, one stretch for each movement."""
    road: Road = []
    for first in np.searchsorted(part, np.arange(part[-1] + 1)) if len(part) else ():
        score, start = int(visits["score"][first]), float(visits["onset"][first])
        mine = notes[notes["score"] == score]
        end = max(start + SAME, float((mine["onset"] + mine["length"]).max()))
        pause = float(rng.uniform(0.8, 2.0)) if road else 0.0
        road.append(Stretch(score, start, end, "movement" if road else "start", pause))
    return road


def _timed(
    walk: _Walk,
    fermatas: NDArray[np.bool_],
    tempo: float,
    curve: NDArray[np.float64],
    style: Style,
    rng: np.random.Generator,
) -> tuple[Clock, NDArray[np.float64], list[Happening]]:
    """The clock, the seconds of every visit, and where time was not kept."""
    main = walk.visits["grace"] >= 0
    at = np.flatnonzero(main)
    count = len(at)
    heed = fermatas[at] & (rng.random(count) < style.marks)
    stretched = np.where(heed, rng.uniform(1.4, 2.4, count), 1.0)
    wrong = np.flatnonzero(rng.random(count) < style.wrong_rhythms)
    stretched[wrong] *= rng.uniform(1.4, 1.9, len(wrong))
    stretched[np.minimum(wrong + 1, count - 1)] *= rng.uniform(0.4, 0.7, len(wrong))
    waiting = np.flatnonzero(rng.random(count) < style.hesitations)
    waiting = waiting[waiting > 0]
    waits = np.zeros(count)
    waits[waiting] = rng.uniform(0.3, 1.2, len(waiting))
    jitter = rng.normal(0, style.jitter, count)
    pauses = np.array([stretch.pause for stretch in walk.road])
    clock = wind(
        walk.bounds, pauses, walk.positions[at], curve[at], tempo, stretched, waits, jitter
    )
    times = clock.at(walk.positions)
    small = np.flatnonzero(~main)
    if len(small):
        before = np.searchsorted(walk.positions[at], walk.positions[small]) - 1
        earlier = np.where(before >= 0, times[at][before], -np.inf) if count else -np.inf
        speed = tempo * np.exp(curve[small])
        times[small] = grace_times(
            walk.visits[small], times[small], speed, np.broadcast_to(earlier, len(small))
        )
    shift = FIRST_ONSET - times[0]
    clock.seconds += shift
    times += shift
    halts = [Happening(float(times[at[i]]), "hesitation", pause=float(waits[i])) for i in waiting]
    return clock, times, halts + [Happening(float(times[at[i]]), "wrong rhythm") for i in wrong]


def _heads_of(
    group: NDArray[np.intp], groups: int, place: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Every head of the visited groups as an index into the notes, and its visit."""
    fresh = np.flatnonzero(group >= 0)
    begins = np.searchsorted(group[fresh], np.arange(groups + 1))
    counts = np.diff(begins)[place]
    visit = np.repeat(np.arange(len(place)), counts)
    skipped = np.cumsum(counts) - counts
    return fresh[np.arange(len(visit)) + np.repeat(begins[place] - skipped, counts)], visit


def _ornamented(
    played: np.ndarray,
    engraving: Engraving,
    heed: NDArray[np.bool_],
    rng: np.random.Generator,
) -> np.ndarray:
    """The notes with their printed ornaments played out."""
    heads = engraving.notes[played["printed"]]
    chosen = np.flatnonzero(heed & (heads["ornament"] > 0))
    if not len(chosen):
        return played
    keys = Keys(engraving)
    rows = []
    for i in chosen:
        note, head = played[i], heads[i]
        sharps = keys.sharps(int(head["score"]), float(head["onset"]))
        duration = float(note["duration"])
        for late, down, pitch in figure(
            int(head["ornament"]), int(note["pitch"]), sharps, duration, rng
        ):
            row = note.copy()
            row["onset"] += late
            row["duration"], row["pitch"] = down, np.clip(pitch, *PIANO)
            rows.append(row)
    return np.concatenate([np.delete(played, chosen), np.array(rows, NOTE)])


def _released(played: np.ndarray) -> np.ndarray:
    """The notes with every key let go before it is struck again."""
    order = np.lexsort((played["onset"], played["pitch"]))
    first, again = order[:-1], order[1:]
    room = played["onset"][again] - played["onset"][first] - LIFT
    same = (played["pitch"][first] == played["pitch"][again]) & (room >= LIFT)
    first, room = first[same], room[same]
    played["duration"][first] = np.minimum(played["duration"][first], room)
    return played


def _passings(places: np.ndarray) -> NDArray[np.intp]:
    """(visits,) how many-th visit to its place each is, from 1."""
    order = np.argsort(places, kind="stable")
    ordered = places[order]
    count = np.empty(len(places), np.intp)
    count[order] = np.arange(len(places)) - np.searchsorted(ordered, ordered) + 1
    return count


def _measures_begun(engraving: Engraving, walk: _Walk, clock: Clock) -> np.ndarray:
    """The MEASURE table of a walk."""
    printed = printed_measures(engraving)
    visits = measure_positions(walk.road, printed, entered=True)
    part = np.searchsorted(walk.ends[:-1], visits[:, 0] + SAME / 2, side="right")
    begun = np.zeros(len(visits), MEASURE)
    begun["time"] = np.maximum(0.0, clock.at(visits[:, 0] + part))
    begun["number"] = printed["number"][visits[:, 1].astype(int)]
    begun["passing"] = _passings(begun["number"])
    return begun


def _turns(walk: _Walk, clock: Clock, begun: np.ndarray) -> list[Happening]:
    """What happens between the stretches of a road."""
    times = clock.at(walk.bounds)
    return [
        Happening(
            float(times[i, 0]),
            stretch.kind,
            left=0 if stretch.kind == "stop" else _measure_at(begun, times[i - 1, 1] - INSTANT),
            pause=stretch.pause,
        )
        for i, stretch in enumerate(walk.road)
        if i
    ]


def _measure_at(begun: np.ndarray, time: float) -> int:
    """The number of the measure that sounds at a time; 0 where unknown."""
    index = int(np.searchsorted(begun["time"], time, side="right")) - 1
    return int(begun["number"][index]) if index >= 0 else 0


def truth_table(performance: Performance, engraving: Engraving) -> np.ndarray:
    """The TRUTH_ROW of every onset, as for a CSV file."""
    onsets, printed = performance.onsets, printed_measures(engraving)
    rows = np.zeros(len(onsets), TRUTH_ROW)
    for name in ("time", "x", "passing"):
        rows[name] = onsets[name]
    rows["page"] = onsets["page"] + 1
    first = np.searchsorted(engraving.systems["page"], onsets["page"])
    rows["system"] = onsets["system"] - first + 1
    index = np.searchsorted(printed["system"] + printed["left"], onsets["system"] + onsets["x"])
    low = np.searchsorted(printed["system"], onsets["system"])
    index = np.clip(index - 1, low, len(printed) - 1)
    rows["measure"] = printed["number"][index]
    labels = printed["label"][index]
    rows["label"] = np.where(labels >= 0, labels.astype("U8"), "")
    return rows
