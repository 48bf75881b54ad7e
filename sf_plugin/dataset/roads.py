"""Roads: the order in which the printed music is played.

A road is a list of stretches of printed time, each played without a break.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sf_plugin.dataset.engraving import Engraving
from sf_plugin.dataset.style import Style
from sf_plugin.dataset.truth_layout import printed_measures

SAME = 1e-6
"""Whole notes below which two moments are one."""


@dataclass(frozen=True)
class Stretch:
    """`start` <= moment < `end` of a movement, in whole notes.

    Attributes:
        kind: how one gets here: "start", "movement", "repeat", "volta", "da capo",
            "dal segno", "coda", "jump", "restart", "loop", "stop".
        pause: seconds of silence before, besides the music's own time.
    """

    score: int
    start: float
    end: float
    kind: str = "start"
    pause: float = 0.0

    @property
    def length(self) -> float:
        return self.end - self.start


Road = list[Stretch]


@dataclass(frozen=True)
class _Region:
    """Music between repeat signs, with its endings as (start, end, passes)."""

    start: float
    body_end: float
    end: float
    endings: tuple[tuple[float, float, frozenset[int]], ...]

    @property
    def passes(self) -> int:
        return max((n for *_, passes in self.endings for n in passes), default=2)

    def play(self, score: int, passes: Sequence[int], kind: str) -> Road:
        road: Road = []
        for number in passes:
            road.append(Stretch(score, self.start, self.body_end, "repeat" if road else kind))
            if self.endings:
                chosen = [e for e in self.endings if number in e[2]] or [self.endings[-1]]
                start, end, _ = chosen[0]
                road.append(Stretch(score, start, end, "volta"))
        return road


def straight(measures: np.ndarray) -> Road:
    """Every printed measure once; `measures` is a PRINTED table."""
    road: Road = []
    for score in np.unique(measures["score"]):
        mine = measures[measures["score"] == score]
        kind = "movement" if road else "start"
        road.append(Stretch(int(score), 0.0, float(mine["end"].max()), kind))
    return road


def unfolded(
    engraving: Engraving, measures: np.ndarray, rng: np.random.Generator, repeats: float
) -> Road:
    """As the signs say: endings, da capo and dal segno; each repeat taken with a probability.

    A repeat goes back to the last start sign, else to the end of the repeat before, else
    to the movement's beginning.  After da capo or dal segno no repeat is taken, and the
    last ending is played; without a fine or coda the music ends where it turned back.
    """
    road: Road = []
    for whole in straight(measures):
        mine = measures[measures["score"] == whole.score]
        voltas = engraving.voltas[engraving.voltas["score"] == whole.score]
        regions = _regions(mine, voltas)
        first: Road = []
        here, kind = 0.0, whole.kind
        for region in regions:
            if region.start > here + SAME:
                first.append(Stretch(whole.score, here, region.start, kind))
                kind = "repeat"
            taken = rng.random() < repeats
            passes = range(1, region.passes + 1) if taken else [region.passes]
            first += region.play(whole.score, passes, kind)
            here, kind = region.end, "repeat"
        if whole.end > here + SAME:
            first.append(Stretch(whole.score, here, whole.end, kind))
        if first:
            road += joined(_signs_followed(first, engraving, mine, regions))
    return road


def _regions(measures: np.ndarray, voltas: np.ndarray) -> list[_Region]:
    starts = sorted({float(m["start"]) for m in measures if m["repeat_start"]})
    ends = sorted({float(m["end"]) for m in measures if m["repeat_end"]})
    endings = sorted(
        {(float(v["start"]), float(v["end"]), _passes(str(v["passes"]))) for v in voltas},
        key=lambda ending: ending[:2],
    )
    regions: list[_Region] = []
    here = 0.0
    for end in ends:
        if end <= here + SAME:
            continue
        group = [e for e in endings if here - SAME <= e[0] < end - SAME]
        while follower := [e for e in endings if group and abs(e[0] - group[-1][1]) < SAME]:
            if min(follower[0][2], default=0) <= max(group[-1][2], default=0):
                break
            group.append(follower[0])
        body_end = group[0][0] if group else end
        opened = [s for s in starts if here - SAME <= s < body_end - SAME]
        regions.append(
            _Region(
                opened[-1] if opened else here,
                body_end,
                max(end, group[-1][1]) if group else end,
                tuple(group),
            )
        )
        here = regions[-1].end
    return regions


def _passes(text: str) -> frozenset[int]:
    """ "1,2", "1.", "1-3" """
    passes: set[int] = set()
    for part in text.replace(";", ",").split(","):
        numbers = [int(n) for n in part.replace(".", " ").replace("-", " ").split() if n.isdigit()]
        if numbers:
            passes |= set(range(numbers[0], numbers[-1] + 1)) if "-" in part else set(numbers)
    return frozenset(passes)


def _signs_followed(
    road: Road, engraving: Engraving, measures: np.ndarray, regions: list[_Region]
) -> Road:
    """The movement's road with its da capo or dal segno, to fine or over the coda."""
    score = road[0].score
    signs = engraving.signs[engraving.signs["kind"] == "mark"]
    signs = signs[engraving.systems["score"][signs["system"]] == score]
    edges = np.unique(np.concatenate([measures["start"], measures["end"]]))

    def where(value: str, late: bool) -> list[float]:
        """Moments of the sign, moved to the bar line at or after it, or at or before it."""
        found = []
        for onset in np.unique(signs["onset"][signs["value"] == value]):
            side = edges[edges >= onset - SAME] if late else edges[edges <= onset + SAME]
            if len(side):
                found.append(float(side[0] if late else side[-1]))
        return sorted(set(found))

    for kind in ("da capo", "dal segno"):
        for back in where(kind, late=True):
            segno = [s for s in where("segno", late=False) if s < back - SAME]
            target = 0.0 if kind == "da capo" else segno[-1] if segno else None
            if target is None or back < SAME:
                continue
            played = _until(road, back)
            again = _once(score, target, road[-1].end, regions, kind)
            fine = [f for f in where("fine", late=True) if f > target + SAME]
            codas = where("coda", late=False)
            if len(codas) > 1 and target < codas[0] - SAME and codas[0] < codas[-1] - SAME:
                end = road[-1].end
                return [*played, *_until(again, codas[0]), Stretch(score, codas[-1], end, "coda")]
            return [*played, *_until(again, fine[0] if fine else back)]
    return road


def _once(score: int, start: float, end: float, regions: list[_Region], kind: str) -> Road:
    """From `start` on without repeats, with the last endings."""
    road: Road = []
    here = start
    for region in regions:
        last = region.endings[-1][0] if region.endings else region.body_end
        if region.endings and here < region.body_end - SAME:
            road.append(Stretch(score, here, region.body_end, "volta" if road else kind))
            here = last
    if end > here + SAME:
        road.append(Stretch(score, here, end, "volta" if road else kind))
    return road


def _until(road: Road, moment: float) -> Road:
    """The road up to its last arrival at a moment; all of it where it never gets there."""
    for i in range(len(road) - 1, -1, -1):
        if road[i].start + SAME < moment <= road[i].end + SAME:
            return [*road[:i], replace(road[i], end=min(moment, road[i].end))]
    return road


def joined(road: Road) -> Road:
    """Stretches that follow each other in print without a pause become one."""
    out: Road = []
    for stretch in road:
        if stretch.length <= SAME:
            continue
        last = out[-1] if out else None
        if (
            last
            and not stretch.pause
            and last.score == stretch.score
            and abs(last.end - stretch.start) < SAME
        ):
            out[-1] = replace(last, end=stretch.end)
        else:
            out.append(stretch)
    return out


def before(road: Road, position: float) -> Road:
    """The first `position` whole notes of a road."""
    out: Road = []
    for stretch in road:
        if position <= SAME:
            break
        out.append(replace(stretch, end=min(stretch.end, stretch.start + position)))
        position -= stretch.length
    return out


def after(road: Road, position: float) -> Road:
    """What `before` leaves."""
    for i, stretch in enumerate(road):
        if position < stretch.length - SAME:
            begin = stretch.start + max(0.0, position)  # rounding may leave a trace below 0
            return [replace(stretch, start=begin), *road[i + 1 :]]
        position -= stretch.length
    return []


def measure_positions(road: Road, measures: np.ndarray, entered: bool = False) -> np.ndarray:
    """Where measures begin along the road, (visits, 2): position in whole notes, table row.

    With `entered`, also where a jump leads into the middle of a measure.
    """
    found = []
    position = 0.0
    for stretch in road:
        inside = (measures["score"] == stretch.score) & (measures["end"] > measures["start"] + SAME)
        inside &= measures["start"] < stretch.end - SAME
        if entered and stretch.kind != "stop":
            inside &= measures["end"] > stretch.start + SAME
        else:
            inside &= measures["start"] >= stretch.start - SAME
        for row in np.flatnonzero(inside):
            found.append((position + max(0.0, float(measures["start"][row]) - stretch.start), row))
        position += stretch.length
    return np.array(found, float).reshape(-1, 2)


def _goes_on(road: Road, target: float, kind: str, pause: float) -> Road:
    """The road from a position along it, entered by a jump."""
    rest = after(road, target)
    return [replace(rest[0], kind=kind, pause=pause), *rest[1:]] if rest else []


def choose_road(engraving: Engraving, style: Style, rng: np.random.Generator) -> Road:
    """A road through the engraving in a style."""
    measures = printed_measures(engraving)
    if style.repeats is None:
        road = straight(measures)
    else:
        road = unfolded(engraving, measures, rng, style.repeats)
    if rng.random() < style.starts_inside:
        begins = measure_positions(road, measures)[:, 0]
        road = _goes_on(road, float(rng.choice(begins[: max(1, 3 * len(begins) // 4)])), "start", 0)
    road = _practised(road, measures, style, rng)
    if style.jumps[1]:
        road = _jumped(road, measures, style, rng)
    if rng.random() < style.ends_early:
        road = before(road, _length(road) * rng.uniform(0.4, 1.0))
    return [
        replace(stretch, pause=float(rng.uniform(0.8, 2.0)))
        if stretch.kind == "movement"
        else stretch
        for stretch in joined(road)
    ]


def _jumped(road: Road, measures: np.ndarray, style: Style, rng: np.random.Generator) -> Road:
    """The road with jumps from anywhere to any measure, half of them to another page.

    After a jump the road goes on as after its last visit to that measure.
    """
    visits = measure_positions(road, measures)
    positions = {int(row): float(position) for position, row in visits}
    rows = np.array(sorted(positions))
    played: Road = []
    rest = road
    for _ in range(int(rng.integers(style.jumps[0], style.jumps[1] + 1))):
        places = measure_positions(rest, measures)
        if len(places) < 3:
            break
        leave = float(rng.choice(places[1:, 0]))
        if rng.random() < 0.5:  # inside a measure
            leave -= float(rng.uniform(0, 1)) * min(0.5, leave / 2)
        here = after(rest, leave)[0]
        onward = (measures["score"][rows] == here.score) & (
            np.abs(measures["start"][rows] - here.start) < 0.25
        )
        last = max(0, int(np.searchsorted(places[:, 0], leave)) - 1)
        left = measures["page"][int(places[last, 1])]
        choice = ~onward
        elsewhere = choice & (measures["page"][rows] != left)
        if rng.random() < 0.5 and elsewhere.any():
            choice = elsewhere
        if not choice.any():
            break
        target = positions[int(rng.choice(rows[choice]))]
        pause = float(rng.uniform(*style.pause)) if rng.random() < style.paused else 0.0
        played += before(rest, leave)
        rest = _goes_on(road, target, "jump", pause)
    return played + rest


def _length(road: Road) -> float:
    return float(sum(stretch.length for stretch in road))


def _practised(road: Road, measures: np.ndarray, style: Style, rng: np.random.Generator) -> Road:
    """The road with stumbles and fresh starts, passages played again, and stops."""
    rates = (style.stumbles, style.loops, style.stops)
    if not any(rates):
        return road
    places = measure_positions(road, measures)[:, 0]
    ends = np.append(places[1:], _length(road))
    out: Road = []
    here = 0.0
    for i in range(len(places)):
        stumble, loop, stop = rng.random(3) < rates
        if stumble:
            at = float(places[i] + rng.uniform(0.3, 0.9) * (ends[i] - places[i]))
            back = max(0, i - int(rng.choice([0, 0, 0, 1, 2, 3])))
            out += before(after(road, here), at - here)
            out += _again(road, float(places[back]), at, "restart", rng.uniform(0.3, 1.5))
            here = at
        elif loop:
            at = float(ends[i])
            first = float(places[max(0, i - int(rng.integers(0, 4)))])
            out += before(after(road, here), at - here)
            for _ in range(int(rng.integers(1, 4))):
                out += _again(road, first, at, "loop", rng.uniform(0.2, 1.5))
            here = at
        elif stop and i:
            at = float(places[i])
            if at > here + SAME:
                out += before(after(road, here), at - here)
                here = at
            silence = float(rng.uniform(2.0, 8.0))
            rest = after(road, at)
            turned = rest[0].score != out[-1].score or abs(rest[0].start - out[-1].end) > SAME
            rest[0] = replace(rest[0], kind=rest[0].kind if turned else "stop", pause=silence)
            out += before(rest, float(ends[i]) - at)
            here = float(ends[i])
    return out + after(road, here)


def _again(road: Road, first: float, last: float, kind: str, pause: float) -> Road:
    return before(_goes_on(road, first, kind, float(pause)), last - first)
