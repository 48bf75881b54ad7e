"""How close an accompaniment comes to a soloist: `python -m sf_plugin.accompaniment.measure`.

The upper staff of engraved piano music is the soloist's, all others are accompaniment.  The
soloist plays with a person's timing (`sf_plugin.dataset.perform`).  The asynchrony of an
accompaniment's note is its time less that of the soloist's note at the same moment of the
score; chords count once.  Time is simulated, nobody sleeps.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sf_plugin.accompaniment.bent_clock import STEP_SECONDS, ClockSettings
from sf_plugin.accompaniment.music import Accompaniment, Bar, Note
from sf_plugin.accompaniment.player import Player
from sf_plugin.accompaniment.prediction import PredictionSettings
from sf_plugin.accompaniment.soloist import Soloist
from sf_plugin.dataset.engraving import ARTICULATIONS, Engraving
from sf_plugin.dataset.perform import STYLES, Performance, perform
from sf_plugin.dataset.truth_layout import measures_of_engraving, printed_measures
from sf_plugin.positions import Estimate, Event, Position
from sf_plugin.score.layout import Layout
from sf_plugin.score.measures import PlainMapper
from sf_plugin.score.structure import measures_of

Floats = NDArray[np.float64]

PIECES = (
    "mozart__k545__movement1_exposition",
    "cpebach__h186",
    "joplin__maple_leaf_rag",
    "schumann_clara__polonaise_op1n1",
    "schumann_clara__polonaise_op1n3",
    "schumann_clara__polonaise_op1n2",
    "bach__bwv1.6",
    "bach__bwv10.7",
    "bach__bwv101.7",
)
"""Of music21's corpus."""

FRAME = 0.025
"""Seconds between two positions."""

LAG = (0.031, 0.062)
"""Seconds from an onset to the position that knows it, of the shipped follower on the demo:
5 % and 95 %; a frame's length is in it."""

MISSED = 0.02
"""Share of onsets at which the simulated follower does not move."""

ASTRAY = 0.004
"""Standard deviation of its places, fraction of the page's width."""

SAME = 1e-3
"""Quarter notes below which two moments are one."""

NEAR = 3.0
"""Seconds from a note to the soloist's note that it belongs to, at most."""

STRANGE = 10.0
"""Tempos, quarter notes a second, that nobody plays."""


@dataclass(frozen=True)
class Duet:
    """A soloist who was followed, and what is to be played with it.

    Attributes:
        name: of the piece.
        style: how the soloist plays.
        music: the accompaniment, with the soloist's moments.
        layout: the pages as the session knows them.
        beats, times: (onsets,) the soloist's notes: quarter notes and seconds, in order of time.
        events: what a session told of it, in order of time.
    """

    name: str
    style: str
    music: Accompaniment
    layout: Layout
    beats: Floats
    times: Floats
    events: tuple[Event, ...]


@dataclass(frozen=True)
class Played:
    """(notes,) seconds and quarter notes of the accompaniment's notes, each chord once."""

    times: Floats
    beats: Floats


Method = Callable[[Duet], Played]


# three ways to accompany


def accompanied(
    duet: Duet,
    hearing: PredictionSettings | None = None,
    playing: ClockSettings | None = None,
) -> Played:
    """By prediction, as the sink plays."""
    soloist = Soloist(duet.music, settings=hearing)
    soloist.learn(duet.layout)
    player = Player(duet.music, playing)
    rows: list[tuple[float, float]] = []
    waiting = list(reversed(duet.events))
    end = duet.times[-1] + 3.0
    for tick in range(int(end / STEP_SECONDS)):
        now = tick * STEP_SECONDS
        while waiting and waiting[-1].time <= now:
            soloist.hear(waiting.pop(), now)
        for due in player.advance(now, soloist.at(now)):
            if due.message.type == "note_on" and due.beat is not None:
                rows.append((due.time, due.beat))
    return _played(rows)


def in_strict_time(duet: Duet) -> Played:
    """At the soloist's own mean tempo, from the first note on: both are told beforehand."""
    first, last = int(np.argmin(duet.beats)), int(np.argmax(duet.beats))
    span = duet.beats[last] - duet.beats[first]
    second = (duet.times[last] - duet.times[first]) / span if span else 0.6
    starts = [note.start for note in duet.music.notes]
    return _played([(duet.times[0] + (at - duet.beats[0]) * second, at) for at in starts])


def when_detected(duet: Duet) -> Played:
    """Each note when a position says that the soloist has come to it."""
    soloist = Soloist(duet.music)
    places = soloist.learn(duet.layout)
    starts = np.unique([note.start for note in duet.music.notes])
    rows: list[tuple[float, float]] = []
    reached = None
    for event in duet.events:
        if not isinstance(event, Position) or event.state != "tracking":
            continue
        moments = places.moments(event.page, event.x, event.y)
        if not moments:
            continue
        here = moments[0]
        if len(duet.music.solo):
            near = duet.music.solo[int(np.argmin(np.abs(np.array(duet.music.solo) - here)))]
            here = near if abs(near - here) <= 0.5 else here
        if reached is None or here < reached - 1.5 or here > reached + 8:
            reached = here - SAME
        due = starts[(starts > reached + SAME / 2) & (starts <= here + SAME)]
        rows += [(event.time, float(at)) for at in due]
        reached = max(here, reached)
    return _played(rows)


METHODS: dict[str, Method] = {
    "ours": accompanied,
    "strict time": in_strict_time,
    "when detected": when_detected,
}


def _played(rows: Iterable[tuple[float, float]]) -> Played:
    kept: list[tuple[float, float]] = []
    for time, beat in sorted(rows):
        if not any(abs(b - beat) < SAME and time - t < 0.05 for t, b in kept[-8:]):
            kept.append((time, beat))
    table = np.array(kept, float).reshape(-1, 2)
    return Played(table[:, 0], table[:, 1])


# judging


def asynchronies(duet: Duet, played: Played) -> tuple[Floats, int]:
    """Seconds by which notes come after the soloist's, and how many were to be played."""
    starts = np.unique([note.start for note in duet.music.notes])
    due = [i for i, beat in enumerate(duet.beats) if np.abs(starts - beat).min() < SAME]
    late = []
    for i in due:
        mine = played.times[np.abs(played.beats - duet.beats[i]) < SAME]
        away = mine - duet.times[i]
        if len(away) and np.abs(away).min() < NEAR:
            late.append(float(away[int(np.argmin(np.abs(away)))]))
    return np.array(late), len(due)


@dataclass(frozen=True)
class Row:
    """Figures of one way to accompany; seconds."""

    method: str
    due: int
    played: float
    median: float
    p95: float
    within_50: float
    within_100: float
    signed: float


def summary(method: str, duets: Sequence[Duet], method_of: Method) -> Row:
    """Pooled over duets; shares are of all notes that were due."""
    late, due = [], 0
    for duet in duets:
        found, count = asynchronies(duet, method_of(duet))
        late.append(found)
        due += count
    pooled = np.concatenate(late) if late else np.zeros(0)
    away = np.abs(pooled)
    if not len(pooled) or not due:
        return Row(method, due, 0.0, float("nan"), float("nan"), 0.0, 0.0, float("nan"))
    return Row(
        method,
        due,
        len(pooled) / due,
        float(np.median(away)),
        float(np.percentile(away, 95)),
        float((away <= 0.05).sum() / due),
        float((away <= 0.1).sum() / due),
        float(np.median(pooled)),
    )


# duets


def duet_of(
    name: str, engraving: Engraving, style: str, seed: int, layout: Layout | None = None
) -> Duet | None:
    """The soloist of an engraved piece with a simulated follower; None without two staves."""
    rng = np.random.default_rng((seed, zlib.crc32(name.encode())))
    performance = perform(engraving, rng, STYLES[style])
    parts = split(engraving, performance)
    if parts is None:
        return None
    music, beats, times, xs = parts
    printed = measures_of_engraving(engraving)
    events = tuple(simulated(xs, times, printed, rng))
    return Duet(name, style, music, layout or printed, beats, times, events)


def split(
    engraving: Engraving, performance: Performance
) -> tuple[Accompaniment, Floats, Floats, np.ndarray] | None:
    """Accompaniment, and the soloist's beats, seconds and note heads, of the first movement."""
    notes = engraving.notes
    mine = (notes["score"] == 0) & (notes["staff"] == 0) & (notes["grace"] == 0)
    others = (notes["score"] == 0) & (notes["staff"] > 0) & ~notes["tied"]
    others &= notes["grace"] == 0
    if mine.sum() < 16 or others.sum() < 16:
        return None
    played = performance.notes[performance.notes["printed"] >= 0]
    heads = notes[played["printed"]]
    solo = mine[played["printed"]] & ~heads["tied"]
    order = np.argsort(played["onset"][solo], kind="stable")
    heads, seconds = heads[solo][order], played["onset"][solo][order]
    beats = np.round(4 * heads["onset"], 4)
    new = np.append(True, np.abs(np.diff(beats)) > SAME)
    bars = [
        Bar(4 * float(row["start"]), 4 * float(row["end"] - row["start"]))
        for row in printed_measures(engraving)
        if row["score"] == 0
    ]
    rows = notes[others]
    sounding = [
        Note(
            round(4 * float(row["onset"]), 4),
            round(4 * float(row["onset"] + max(row["length"], 1 / 64)), 4),
            0,
            int(row["pitch"]),
            80,
        )
        for row in rows
    ]
    struck = np.round(4 * notes["onset"][mine & ~notes["tied"]], 4)
    solo_beats = tuple(sorted({float(beat) for beat in struck}))
    held = (notes["articulation"] & ARTICULATIONS["fermata"] > 0) & (notes["score"] == 0)
    holds = tuple(sorted({round(4 * float(at), 4) for at in notes["onset"][held]}))
    music = Accompaniment(tuple(sounding), (), tuple(bars), holds=holds, solo=solo_beats)
    return music, beats[new], seconds[new], heads[new]


def simulated(
    heads: np.ndarray, times: Floats, layout: Layout, rng: np.random.Generator
) -> Iterator[Position]:
    """Positions that step from onset to onset, late, sometimes not at all, and a little astray."""
    mapper = PlainMapper()
    mapper.open(layout)
    rise = rng.uniform(LAG[0], LAG[1] - FRAME, len(times))
    seen = rng.random(len(times)) >= MISSED
    seen[0] = True
    known = (times + rise)[seen]
    rows = heads[seen]
    xs = rows["x"] + rng.normal(0, ASTRAY / 2, len(rows))
    middles = {
        (page.page, i): (s.top + s.bottom) / 2
        for page in layout.pages
        for i, s in enumerate(page.systems)
    }
    first = {}
    total = 0
    for page in layout.pages:
        for i in range(len(page.systems)):
            first[total] = (page.page, i)
            total += 1
    for frame in range(int((times[-1] + 2.0) / FRAME)):
        time = (frame + 1) * FRAME
        here = int(np.searchsorted(known, time, side="right")) - 1
        row = rows[max(here, 0)]
        place = first[int(row["system"])]
        state = "tracking" if here >= 0 else "waiting"
        confidence = 0.95 if here >= 0 else 0.0
        yield mapper.locate(
            Estimate(time, place[0], float(xs[max(here, 0)]), middles[place], confidence, state)  # type: ignore[arg-type]
        )


def engraved_pieces(names: Sequence[str]) -> Iterator[tuple[str, Engraving]]:
    """Pieces of music21's corpus by Verovio."""
    from sf_plugin.dataset.engrave_verovio import corpus_sources, engrave_file

    sources = corpus_sources()
    for name in names:
        yield name, engrave_file(sources[name])


def heard(name: str, engraving: Engraving, style: str, seed: int) -> Duet | None:
    """The same with the shipped follower, which sees the pages and hears all that is played."""
    from sf_plugin.api import Samples, follow, make_follower
    from sf_plugin.dataset.render import render
    from sf_plugin.score.model import Score

    rng = np.random.default_rng((seed, zlib.crc32(name.encode())))
    performance = perform(engraving, rng, STYLES[style])
    parts = split(engraving, performance)
    if parts is None:
        return None
    music, beats, times, _ = parts
    sound = render(performance.notes, "fluid-grand", 22050, performance.pedals)
    score = Score(name, list(engraving.pages))
    layout = make_follower().prepare(score)
    events = tuple(follow(replace(score, layout=layout), Samples(sound, 22050)))
    return Duet(name, style, music, layout, beats, times, events)


def demo() -> Duet:
    """The shipped performance with the shipped follower; the accompaniment doubles it."""
    import sf_plugin
    from sf_plugin.accompaniment.places import timeline
    from sf_plugin.demo import ASSETS, load_truth

    layout = Layout.from_json((ASSETS / "layout.json").read_text(encoding="utf-8"))
    truth = load_truth(ASSETS / "truth.json", layout)
    bars = timeline(layout, 4.0).bars
    known = {measure.number: measure for measure in measures_of(layout)}
    beats = []
    for number, x in zip(truth.measure, truth.x, strict=True):
        onset = min(known[int(number)].onsets, key=lambda pair: abs(pair[0] - x))[1]
        beats.append(round(bars[int(number) - 1].start + onset, 4))
    moments = tuple(sorted(set(beats)))
    notes = tuple(Note(at, at + 0.2, 0, 60, 80) for at in moments)
    music = Accompaniment(notes, (), bars, solo=moments)
    score = sf_plugin.load_score([ASSETS / "score.pdf"], layout=ASSETS / "layout.json")
    events = tuple(sf_plugin.follow(score, str(ASSETS / "take.ogg")))
    return Duet("demo", "shipped", music, layout, np.array(beats), truth.time, events)


# the command


def table(rows: Sequence[tuple[str, Row]]) -> str:
    """Markdown; seconds and shares of the notes that were due."""
    head = "| soloist | accompaniment | notes | played | median | 95 % | ≤ 50 ms | ≤ 100 ms |"
    lines = [head, "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for what, row in rows:
        figures = (
            f"{row.due:,} | {row.played:.3f} | {1000 * row.median:.0f} ms | "
            f"{1000 * row.p95:.0f} ms | {row.within_50:.3f} | {row.within_100:.3f}"
        )
        lines.append(f"| {what} | {row.method} | {figures} |")
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> int:
    """Make the duets, accompany them in three ways, print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m sf_plugin.accompaniment.measure", description=__doc__
    )
    parser.add_argument(
        "--styles",
        default="human,expressive,student,jumps",
        help="how the soloist plays, by commas (default %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=100, help="of the first performance (default %(default)s)"
    )
    parser.add_argument(
        "--takes", type=int, default=2, help="performances of each piece (default %(default)s)"
    )
    parser.add_argument(
        "--set", type=Path, help="a built data set instead of pieces of music21's corpus"
    )
    parser.add_argument("--use", default="valid", help="which part of it (default %(default)s)")
    parser.add_argument("--most", type=int, default=20, help="pieces (default %(default)s)")
    parser.add_argument(
        "--heard",
        action="store_true",
        help="with the shipped follower: it reads the pages and hears both staves",
    )
    parser.add_argument(
        "--demo", action="store_true", help="the shipped performance, heard, its onsets doubled"
    )
    args = parser.parse_args(words)
    if args.demo:
        duet = demo()
        print(table([("demo", summary(name, [duet], way)) for name, way in METHODS.items()]))
        return 0
    if args.set is None:
        pieces = list(engraved_pieces(PIECES[: args.most]))
    else:
        pieces = list(pieces_of(args.set, args.use, args.most))
    make = heard if args.heard else duet_of
    rows = []
    for style in args.styles.split(","):
        seeds = range(args.seed, args.seed + args.takes)
        made = (make(name, piece, style, seed) for name, piece in pieces for seed in seeds)
        duets = [duet for duet in made if duet is not None]
        if args.heard:
            printed = {name: measures_of_engraving(piece) for name, piece in pieces}
            named = [replace(duet, layout=printed[duet.name]) for duet in duets]
            rows += [
                (f"{style}, symbols", summary(name, named, way)) for name, way in METHODS.items()
            ]
            style += ", bare pages"
        rows += [(style, summary(name, duets, way)) for name, way in METHODS.items()]
        print(f"{style}: {len(duets)} duets", file=sys.stderr, flush=True)
    print(table(rows))
    return 0


def pieces_of(folder: Path, use: str, most: int) -> Iterator[tuple[str, Engraving]]:
    """Pieces of a built set by name."""
    from sf_plugin.dataset.shards import ShardSet

    shards = ShardSet(folder)
    for entry in sorted(shards.of_use(use), key=lambda entry: entry.name)[:most]:
        yield entry.name, shards.load(entry.name)


if __name__ == "__main__":
    sys.exit(main())
