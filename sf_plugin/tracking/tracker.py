"""From the network's belief to one path: a causal Bayes filter over the document's onsets.

The state is a place in the music, in twelfths of a quarter note, and a tempo.
The page says how long each onset lasts; the tempo changes slowly; an onset is seldom come
to unless a note is struck; with a small probability a struck note is one elsewhere, and at
the end of some measures a share of the music takes a road, as the score's signs say.  What
is seen of a place is the network's belief in the onset it belongs to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from sf_plugin.positions import Estimate, State
from sf_plugin.score.structure import NO_ROADS, Roads
from sf_plugin.tracking.document import DocumentOnsets
from sf_plugin.tracking.trills import Trill

Floats = NDArray[np.float32]

STEPS = 12
"""Places a quarter note."""
LONGEST = 4 * STEPS
"""Places of an onset at most: who waits longer stands still there."""
LEAVE_END = 0.2
"""Share a second of the belief that all is over that goes anywhere instead."""
ANYWHERE = 0.3
"""Share of the jumps that may go to any onset; the others go to the first of a measure."""
NEARBY = 0.5
"""Share of the jumps that stay within `NEIGHBOURS` of the place."""
NEIGHBOURS = 12
"""Measures before and after one."""
HEARD = 0.5
"""Share of the jumps that the frame may lead where it hears the music itself, if it hears it
clearly there and not at the place."""
HARDLY = 0.02
"""Network's belief around the place from which it is heard there."""
SLOW = 1.0
"""Seconds from one struck note to the next from which a jump is as likely as it can be."""
STRUCK = 0.5
"""Probability from which a note is struck."""
REST = 0.4
"""Seconds of silence from which one may go on elsewhere."""
LATELY = 8.0
"""Seconds of sound after the last notes in which to get lost is to have ended."""
STRIKE = 0.075
"""Seconds that an onset is heard as one."""


@dataclass(frozen=True)
class TrackerConfig:
    """How the path may move; fitted on pieces neither trained nor reported on.

    Attributes:
        tempi: quarter notes a second.
        change: how often a second the tempo goes to a neighbouring one.
        jump: probability that a struck note is one elsewhere in the document, after a slow one;
            falls with the square of the time between them, since fast notes tell more.
        search: probability a second of going elsewhere while lost.
        pause_jump: probability that the music goes on anywhere after a silence.
        trust: exponent of the network's belief as evidence, a second; frames are not
            independent.
        accent: exponent that a struck note adds.
        unheard: share of what comes from a quarter note or a longer one to the next onset that
            is given up while no note is struck; of shorter ones less.
        doubt: added to the belief, so that one wrong frame cannot rule a place out.
        glance: exponent of the present frame's belief when the place is read off.
        begin: probability that the music starts at the first onset.
        reach: quarter notes around the place that count as the same for the confidence.
        agreement_seconds: how long is averaged how well the music agrees with the path.
        calibration: bias, and weights of the belief around the place and of the agreement:
            see `Tracker.signs`; their logistic function is how likely it is the right
            measure, if it is this music.
        known: bias, and weights of the agreement and of the fit: how likely it is this
            music.  The confidence is the product.
        tracking: confidence from which the state is "tracking".
        lost: confidence below which, for `lost_after` seconds of sound, it is "lost"; at
            first for as long as is averaged besides.
        pause: seconds of silence after which the music is taken to stand still.
        ended_after: seconds of silence on the last system that end the piece; noise and
            other music after its last notes end it when they would make it lost.
    """

    tempi: tuple[float, ...] = (0, 0.35, 0.5, 0.7, 0.9, 1.15, 1.5, 1.9, 2.5, 3.2, 4.2, 6)
    change: float = 0.4
    jump: float = 3e-3
    search: float = 0.02
    pause_jump: float = 0.05
    trust: float = 0.0
    accent: float = 0.3
    unheard: float = 0.4
    doubt: float = 1e-6
    glance: float = 0.7
    begin: float = 0.5
    reach: float = 2.0
    agreement_seconds: float = 2.0
    calibration: tuple[float, float, float] = (1.508, 0.389, 0.434)
    known: tuple[float, float, float] = (-8.301, 1.916, 1.587)
    tracking: float = 0.65
    lost: float = 0.3
    lost_after: float = 1.5
    pause: float = 1.0
    ended_after: float = 2.0


@dataclass(frozen=True, slots=True)
class Leap:
    """How likely the music goes elsewhere in one frame.

    Attributes:
        anywhere: the probability that it goes to any place.
        there: the probability that it goes where the frame hears it.
        origin: the onset it goes from; places near it are likelier.
    """

    anywhere: float = 0.0
    there: float = 0.0
    origin: int = 0

    @property
    def chance(self) -> float:
        """The probability of either."""
        return self.anywhere + self.there


STAY = Leap()


@dataclass
class _Memory:
    belief: Floats  # (tempi, places)
    anchor: int = 0
    state: State = "waiting"
    confidence: float = 0.0
    mass: float = 0.5
    frames: int = 0
    agreement: float = 0.0
    fit: float = 0.0
    doubted: float = 0.0
    past_end: float = np.inf
    quiet_since: float | None = None
    struck: bool = False
    struck_at: float = np.inf
    since_note: float = 0.0  # seconds from the note before to the last one
    trill: Trill = field(default_factory=Trill)


@dataclass(frozen=True)
class _Turns:
    """Steps of one frame that a road leads elsewhere, (turns,) each.

    Attributes:
        source: the state before, of (tempi, places) in a row.
        onward: the state after by going straight on, of (tempi, places and what is past
            the end) in a row.
        target: the state after by the road, of the same.
        share: of the source's belief.
        length: quarter notes of the source's onset, at most 1.
    """

    source: NDArray[np.int64]
    onward: NDArray[np.int64]
    target: NDArray[np.int64]
    share: Floats
    length: Floats

    @classmethod
    def of(cls, turns: list[tuple[int, int, int, float]], length: Floats) -> _Turns:
        """`length` is that of every place."""
        places = np.array([turn[:3] for turn in turns], np.int64).reshape(-1, 3)
        source, onward, target = np.ascontiguousarray(places.T)
        share = np.array([turn[3] for turn in turns], np.float32)
        return cls(source, onward, target, share, length[source % len(length)])

    def take(self, before: Floats, after: Floats, unheard: np.float32) -> None:
        """Lead what turns of a belief `before` a frame to where it is `after` the frame.

        `unheard` is the share that is given up after a quarter note.
        """
        if len(self.share):
            turned = before.reshape(-1)[self.source] * self.share * (1 - unheard * self.length)
            np.add.at(after.reshape(-1), self.target, turned)
            np.subtract.at(after.reshape(-1), self.onward, turned)

    def take_back(self, after: Floats, before: Floats, unheard: np.float32) -> None:
        """The transpose: `before` changes by what is explained better `after` the frame."""
        if len(self.share):
            row = after.reshape(-1)
            gain = self.share * (1 - unheard * self.length) * (row[self.target] - row[self.onward])
            np.add.at(before.reshape(-1), self.source, gain)


class Tracker:
    """One performance's path; `step` once a frame."""

    def __init__(
        self,
        document: DocumentOnsets,
        fps: float,
        config: TrackerConfig = TrackerConfig(),
        roads: Roads = NO_ROADS,
    ) -> None:
        self.config = config
        self.fps = fps
        self._stand(document, roads)
        self.reset()

    def _stand(self, document: DocumentOnsets, roads: Roads) -> None:
        """Lay out the places of the onsets that are followed."""
        config, fps = self.config, self.fps
        self.document = document
        counts = np.clip(np.round(document.beats * STEPS), 1, LONGEST).astype(np.int64)
        self.onset_of = np.repeat(np.arange(len(document)), counts)
        """(places,) the onset that each belongs to."""
        self.first_place = np.cumsum(counts) - counts
        """(onsets,) where each begins."""
        self._speeds = (np.array(config.tempi) * STEPS / fps).tolist()
        self._strides = _strides(self._speeds)
        count = len(self._speeds)
        change = min(config.change / fps, 1.0) if count > 1 else 0.0
        self._keep = np.float32(1 - change)
        self._pass_on = np.full((count, 1), change / 2, np.float32)
        self._pass_on[[0, -1]] = change
        likely = document.opens * (1 - ANYWHERE) / document.opens.sum() + ANYWHERE / len(document)
        self._likely = likely.astype(np.float32)
        self._anywhere = np.zeros((count, len(self.onset_of)), np.float32)
        self._anywhere[:, self.first_place] = self._likely / count
        _, self._kind, self._of_kind = np.unique(
            document.kind, return_inverse=True, return_counts=True
        )
        self._twins = len(self._of_kind) < len(document)
        self._reach = int(max(self._speeds)) + 2
        self._length = np.minimum(counts / STEPS, 1)[self.onset_of].astype(np.float32)
        self._comes = _comes_to_another(self.onset_of, self._reach) * self._length
        self._turns = self._turns_of(roads)
        begin = int(np.searchsorted(document.measure, roads.begin))
        self._begin = begin if begin < len(document) else 0

    def attend(self, document: DocumentOnsets, roads: Roads) -> None:
        """Go on among other pages of the same score, of which `roads` are all.

        Belief in pages that both hold stays; a second's `search` falls on those that come.
        """
        before, onset_of, memory = self.document, self.onset_of, self._memory
        stays = np.isin(before.page, document.page)
        self._stand(document, roads.within(*document.measure[[0, -1]].tolist()))
        kept = np.isin(document.page, before.page)[self.onset_of]
        belief = np.where(kept, 0, self._anywhere)
        if belief.any():
            belief *= self.config.search / belief.sum()
        old = memory.belief[:, stays[onset_of]]
        belief[:, kept] = old * ((1 - belief.sum()) / max(float(old.sum()), 1e-30))
        memory.belief = belief / belief.sum()
        here = before.page[memory.anchor], before.x[memory.anchor], before.y[memory.anchor]
        memory.anchor = document.nearest(*here)

    def expect(self, page: int, x: float, y: float) -> None:
        """Performances begin there; forgets the present one."""
        self._begin = self.document.nearest(page, x, y)
        self.reset()

    def reset(self) -> None:
        """Expect the beginning, but be ready for any place."""
        belief = (1 - self.config.begin) * self._anywhere
        belief[:, self.first_place[self._begin]] += self.config.begin / len(belief)
        self._memory = _Memory(belief, self._begin)

    def goto(self, page: int, x: float, y: float) -> None:
        """Believe in a place, within a few onsets."""
        anchor = self.document.nearest(page, x, y)
        near = np.exp(-0.5 * ((np.arange(len(self.document)) - anchor) / 1.5) ** 2)
        belief = np.zeros_like(self._anywhere)
        belief[:, self.first_place] = near / near.sum() / len(belief)
        self._memory = _Memory(belief, anchor, "tracking", 1.0)

    def move(self, belief: Floats, leap: Leap, heard: Floats, struck: float) -> Floats:
        """One frame of motion of a (tempi, places) belief whose sum is 1.

        `heard` is the network's (onsets,) belief.  The sum falls by what is given up.
        """
        mixed, passed = belief * self._keep, belief * self._pass_on
        mixed[1:] += passed[:-1]
        mixed[:-1] += passed[1:]
        count, places = mixed.shape
        unheard = self._unheard(struck)
        shares = 1 - unheard * self._comes
        out = np.empty((count, places + self._reach), np.float32)
        for tempi, whole, part in self._strides:
            rows, there = mixed[tempi], out[tempi]
            there[:, :whole] = there[:, whole + places :] = 0
            np.multiply(rows, (1 - part) * shares[whole], out=there[:, whole : whole + places])
            there[:, whole + 1 : whole + 1 + places] += rows * (part * shares[whole + 1])
        self._turns.take(mixed, out, unheard)
        over = out[:, places:].sum()
        out = out[:, :places]
        # what runs over the end stands there, and in time goes anywhere
        leave = np.float32(LEAVE_END / self.fps) * (out[0, -1] + over)
        out[0, -1] += over - leave
        out *= np.float32(1 - leap.chance)
        landing = np.zeros(places, np.float32)
        landing[self.first_place] = self._landing(leap, heard)
        landing[self.first_place] += leave * np.float32(1 - leap.chance) * self._likely
        out += landing / np.float32(count)
        return out

    def _unheard(self, struck: float) -> np.float32:
        return np.float32(self.config.unheard * max(0.0, 1 - struck / STRUCK))

    def _landing(self, leap: Leap, heard: Floats) -> Floats:
        """(onsets,) chance of a leap to each."""
        if not leap.chance:
            return np.zeros_like(self._likely)
        near = self._neighbours(leap.origin)
        nearer = np.full_like(self._likely, 1 - NEARBY)
        nearer[near] += NEARBY / self._likely[near].sum()
        landing: Floats = np.float32(leap.anywhere) * self._likely * nearer
        if leap.there:
            clear = clearly(heard) * nearer
            landing += clear * (np.float32(leap.there) / clear.sum())
        return landing

    def _neighbours(self, onset: int) -> slice:
        """The onsets of the measures around one."""
        measure = self.document.measure
        at = measure[onset]
        first = np.searchsorted(measure, at - NEIGHBOURS)
        return slice(int(first), int(np.searchsorted(measure, at + NEIGHBOURS, "right")))

    def _turns_of(self, roads: Roads) -> _Turns:
        """All steps of a frame over the end of a measure from which a road leads."""
        document = self.document
        ends = np.append(self.first_place[1:], len(self.onset_of))
        turns: list[tuple[int, int, int, float]] = []
        left: dict[tuple[int, int, int], float] = {}
        for road in roads.roads:
            last = int(np.searchsorted(document.measure, road.leave, side="right")) - 1
            first = int(np.searchsorted(document.measure, road.enter))
            if last < 0 or first >= len(document):
                continue
            end, start = int(ends[last]), int(self.first_place[first])
            width = len(self.onset_of)
            for tempo, speed in enumerate(self._speeds):
                whole = int(speed)
                for step, part in ((whole, 1 - speed + whole), (whole + 1, speed - whole)):
                    for source in range(max(end - step, 0), end):
                        step_left = left.get((tempo, source, step), 1.0)
                        left[tempo, source, step] = step_left * (1 - road.share)
                        turns.append(
                            (
                                tempo * width + source,
                                tempo * (width + self._reach) + source + step,
                                tempo * (width + self._reach) + start + source + step - end,
                                part * step_left * road.share,
                            )
                        )
        return _Turns.of(turns, self._length)

    def step(
        self, logits: Floats, time: float, *, quiet: bool = False, struck: float = 1.0
    ) -> Estimate:
        """Take one frame's (onsets,) logits, known at `time` seconds.

        `quiet` says that nothing sounds; `struck` how likely a note begins, without which
        no performance begins.
        """
        memory, config = self._memory, self.config
        began = memory.quiet_since
        rested = began is not None and not quiet and time - began >= REST
        memory.quiet_since = (memory.quiet_since or time) if quiet else None
        if memory.state == "waiting" and (quiet or struck < 0.5) and not memory.confidence:
            return self._estimate(time)
        if memory.quiet_since is None or time - memory.quiet_since <= config.pause:
            heard = self.heard(logits)
            struck *= memory.trill.fresh(heard, struck, time)
            self._listen_for_notes(struck, time)
            self._hear(logits, heard, struck, rested)
        self._judge(time)
        return self._estimate(time)

    def heard(self, logits: Floats) -> Floats:
        """A frame's (onsets,) logits to the network's belief, the same for onsets that read alike.

        How well each of them happens to be read would tell the wrong one from the right one,
        note after note.
        """
        likely = softmax(logits)
        if not self._twins:
            return likely
        of_kind = np.bincount(self._kind, likely) / self._of_kind
        return of_kind[self._kind].astype(np.float32)

    def _leap(self, heard: Floats, struck: float, rested: bool) -> Leap:
        memory, config = self._memory, self.config
        if rested:
            return Leap(config.pause_jump, origin=memory.anchor)
        if memory.state in ("lost", "ended"):
            chance = config.search / self.fps
        else:
            slowly = min(memory.since_note / SLOW, 1.0) ** 2
            chance = config.jump * slowly * struck / (STRIKE * self.fps)
        if struck < STRUCK:
            return Leap((1 - HEARD) * chance, origin=memory.anchor)
        away = max(0.0, 1 - float(heard[self.near(memory.anchor)].sum()) / HARDLY)
        there = HEARD * chance * away * float(clearly(heard).sum())
        return Leap((1 - HEARD) * chance, there, memory.anchor)

    def _listen_for_notes(self, struck: float, time: float) -> None:
        memory = self._memory
        if struck >= STRUCK and not memory.struck:
            memory.since_note = max(time - memory.struck_at, 0.0)
            memory.struck_at = time
        memory.struck = struck >= STRUCK

    def coast(self, time: float) -> Estimate:
        """Pass over a frame that nobody listened to: the music goes on as it did."""
        memory = self._memory
        if memory.state != "waiting" and memory.quiet_since is None:
            memory.belief = self.move(memory.belief, STAY, self._likely, 1.0)
        return self._estimate(time)

    def evidence(self, belief: Floats, struck: float) -> Floats:
        """(onsets,) how much a frame with the network's `belief` speaks for each onset."""
        weight = self.config.trust / self.fps + self.config.accent * struck / (STRIKE * self.fps)
        seen: Floats = np.power(belief + np.float32(self.config.doubt), np.float32(weight))
        return seen

    def _hear(self, logits: Floats, heard: Floats, struck: float, rested: bool) -> None:
        """Move on and weigh the evidence; then read off the place."""
        memory, config = self._memory, self.config
        leap = self._leap(heard, struck, rested)
        belief = self.move(memory.belief, leap, heard, struck)
        before, evidence = self.of_onsets(belief), self.evidence(heard, struck)
        expected = float(before @ heard) / float(before.sum())
        here = before * evidence
        total = here.sum()
        here /= total
        belief *= (evidence / total)[self.onset_of]
        memory.belief = belief
        if memory.quiet_since is None:  # in silence no onset is come to
            memory.anchor = int(np.argmax(here * (heard + config.doubt) ** config.glance))
            near = self.near(memory.anchor)
            memory.mass = min(max(float(here[near].sum()), 1e-4), 1 - 1e-4)
            memory.frames += 1
            fade = max(1 / (self.fps * config.agreement_seconds), 1 / memory.frames)
            memory.agreement += fade * (expected - memory.agreement)
            memory.fit += fade * (float(logits[memory.anchor]) - memory.fit)
            memory.confidence = self.calibrated()

    def calibrated(self) -> float:
        """The confidence that the signs make."""
        odds, agreement, fit = self.signs()
        right = logistic(self.config.calibration, odds, agreement)
        return right * logistic(self.config.known, agreement, fit)

    def of_onsets(self, belief: Floats) -> Floats:
        """(tempi, places) to (onsets,)."""
        here: Floats = np.add.reduceat(belief.sum(0), self.first_place)
        return here

    def near(self, onset: int) -> slice:
        """The onsets within reach of one."""
        at, reach = self.first_place[onset], self.config.reach * STEPS
        first, last = np.searchsorted(self.first_place, [at - reach, at + reach + 1])
        return slice(int(first), int(last))

    def signs(self) -> tuple[float, float, float]:
        """What the confidence is made of: belief, agreement and fit.

        The log odds of the belief around the place; the log of the share of the network's
        own belief that has lately fallen where the path expected it before it heard; and the
        network's logit of the place, lately.  Other music than the page's finds places now
        and then, but not where they were expected, and none that fits well.
        """
        memory = self._memory
        odds = math.log(memory.mass / (1 - memory.mass))
        return odds, math.log(memory.agreement + 0.01), memory.fit

    def _judge(self, time: float) -> None:
        memory, config = self._memory, self.config
        if memory.quiet_since is not None:
            last = self.document.system[memory.anchor] == self.document.system[-1]
            over = time - memory.quiet_since > config.ended_after
            if last and over and memory.state != "waiting":
                memory.state = "ended"
            return
        memory.doubted += 1 / self.fps
        memory.past_end += 1 / self.fps
        if memory.confidence >= config.lost:
            memory.doubted = 0.0
        patience = config.lost_after
        if memory.state == "waiting":
            patience += config.agreement_seconds
        if memory.confidence >= config.tracking:
            memory.state = "tracking"
            left = self.first_place[-1] - self.first_place[memory.anchor]
            if left < config.reach * STEPS + 1:  # the last onset is near
                memory.past_end = 0.0
        elif memory.state == "tracking" or (memory.state == "waiting" and not memory.doubted):
            memory.state = "unsure"
        elif memory.doubted > patience and memory.state != "ended":
            memory.state = "ended" if memory.past_end < LATELY else "lost"

    def _estimate(self, time: float) -> Estimate:
        memory, document = self._memory, self.document
        return Estimate(
            time=round(time, 4),
            page=int(document.page[memory.anchor]),
            x=round(float(document.x[memory.anchor]), 4),
            y=round(float(document.y[memory.anchor]), 4),
            confidence=round(memory.confidence, 4),
            state=memory.state,
        )

    def belief(self) -> Floats:
        """(onsets,) probability of every onset of the document."""
        return self.of_onsets(self._memory.belief)


def _strides(speeds: Sequence[float]) -> list[tuple[slice, int, Floats]]:
    """Tempi in a row that move on by as many whole places a frame, and their (tempi, 1) rests."""
    out, first = [], 0
    for whole, alike in groupby(speeds, int):
        rests = np.array(list(alike), np.float32)[:, None] - np.float32(whole)
        out.append((slice(first, first + len(rests)), whole, rests))
        first += len(rests)
    return out


def _comes_to_another(onset_of: NDArray[np.int64], reach: int) -> Floats:
    """(reach, places) 1 where so many places on is another onset or the end, else 0."""
    ahead = np.pad(onset_of, (0, reach), constant_values=-1)
    places = len(onset_of)
    return np.array([ahead[n : n + places] != onset_of for n in range(reach)], np.float32)


def clearly(heard: Floats) -> Floats:
    """(onsets,) the network's belief where it is sure, and hardly any elsewhere."""
    return heard * heard * heard


def logistic(weights: tuple[float, float, float], one: float, other: float) -> float:
    """A probability: of a bias and two weighted signs."""
    score = weights[0] + weights[1] * one + weights[2] * other
    return 1 / (1 + math.exp(-min(max(score, -30.0), 30.0)))


def softmax(logits: Floats) -> Floats:
    """Probabilities of logits."""
    p = np.exp(logits - logits.max())
    return np.asarray(p / p.sum(), np.float32)
