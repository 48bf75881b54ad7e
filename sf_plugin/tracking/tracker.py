"""From masks to one path: a causal Bayes filter over the unrolled document.

The state is a place on the row of cells and a speed.  Music moves on with a
speed that changes slowly; with a small probability it goes anywhere.  What is
seen of a place is the network's belief in the note that sounds there: a note
sounds until the next one begins, so all cells from one note to the next share
the belief in the first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sf_plugin.positions import Estimate, State
from sf_plugin.tracking.document import DocumentCells

Floats = NDArray[np.float32]

LEAVE_END = 0.01
"""Share a frame of what runs over the end that starts anew somewhere."""


@dataclass(frozen=True)
class TrackerConfig:
    """How the path may move; fitted on validation pieces.

    Attributes:
        speeds: cells a second.
        hold: probability a frame of keeping the speed; the rest goes to its
            neighbours.
        jump: probability a frame of going to any note of the document.
        search: the same while lost.
        trust: exponent of the network's belief as evidence; frames are not
            independent.
        doubt: added to the belief, so that one wrong frame cannot rule a place out.
        glance: exponent of the present frame's belief when the place is read off.
        begin: probability that the music starts at the first note.
        note: how likely a column must be to hold a note.
        reach: cells around the place that count as the same for the confidence.
        agreement_seconds: how long the network's agreement with the path is averaged.
        calibration: confidence is the logistic function of the first, plus the
            second times the log odds of the belief around the place, plus the third
            times the log of the agreement.
        tracking: confidence from which the state is "tracking".
        lost: confidence below which, for `lost_after` seconds, it is "lost".
        pause: seconds of silence after which the music is taken to stand still.
        ended_after: seconds of silence on the last system that end the piece.
    """

    speeds: tuple[float, ...] = (0, 2, 4, 6, 8, 10, 13, 16, 20, 25, 32, 40)
    hold: float = 0.98
    jump: float = 1e-6
    search: float = 1e-3
    trust: float = 0.05
    doubt: float = 1e-4
    glance: float = 1.0
    begin: float = 0.5
    note: float = 0.3
    reach: int = 24
    agreement_seconds: float = 2.0
    calibration: tuple[float, float, float] = (0.644, 0.329, 0.719)
    tracking: float = 0.55
    lost: float = 0.2
    lost_after: float = 1.5
    pause: float = 1.0
    ended_after: float = 2.0


def note_columns(onset: Floats, starts: NDArray[np.int64], threshold: float) -> NDArray[np.int64]:
    """Cells where notes stand: local maxima of `onset`; at least one in every system."""
    ends = np.append(starts[1:], len(onset))
    padded = np.concatenate([[0], onset, [0]])
    top = (padded[1:-1] >= padded[:-2]) & (padded[1:-1] > padded[2:]) & (onset > threshold)
    found = []
    for start, end in zip(starts, ends, strict=True):
        inside = np.flatnonzero(top[start:end]) + start
        found.append(
            inside if len(inside) else np.array([start + int(np.argmax(onset[start:end]))])
        )
    return np.concatenate(found)


@dataclass
class _Memory:
    belief: Floats  # (speeds, path)
    anchor: int = 0
    state: State = "waiting"
    confidence: float = 0.0
    mass: float = 0.5
    agreement: float = 1.0
    sure_at: float = 0.0
    quiet_since: float | None = None


class Tracker:
    """One performance's path; `step` once a frame.

    Only the stretch from a system's first note to its end is part of the path:
    clefs and key signatures take no time.
    """

    def __init__(
        self, document: DocumentCells, fps: float, config: TrackerConfig = TrackerConfig()
    ) -> None:
        self.document = document
        self.config = config
        self.fps = fps
        anchors = note_columns(document.onset, document.starts, config.note)
        first = np.ones(len(anchors), bool)
        first[1:] = document.system[anchors[1:]] != document.system[anchors[:-1]]
        first_of_system = dict(zip(document.system[anchors[first]], anchors[first], strict=True))
        begins = np.array([first_of_system[s] for s in document.system])
        self.path = np.flatnonzero(np.arange(len(document)) >= begins)
        """Cells of the path, in order."""
        self.anchors = anchors
        self._note_of_path = np.searchsorted(anchors, self.path, side="right") - 1
        # every cell's belief goes to the nearest note of its system
        middle = (anchors[1:] + anchors[:-1] + 1) // 2
        same = document.system[anchors[1:]] == document.system[anchors[:-1]]
        borders = np.where(same, middle, document.starts[document.system[anchors[1:]]])
        self._borders = np.concatenate([[0], borders])
        self._starts_on_path = np.searchsorted(self.path, anchors)
        self._speeds = np.array(config.speeds, np.float32) / fps
        count = len(self._speeds)
        change = np.eye(count, dtype=np.float32) * config.hold
        for i in range(count):
            near = [j for j in (i - 1, i + 1) if 0 <= j < count]
            change[near, i] = (1 - config.hold) / len(near)
        self._change = change
        self._anywhere = np.zeros(len(self.path), np.float32)
        self._anywhere[self._starts_on_path] = 1 / len(anchors)
        self._speed_prior = np.full(count, 1 / count, np.float32)
        self._leap = np.outer(self._speed_prior, self._anywhere)
        self.reset()

    def reset(self) -> None:
        """Expect the beginning, but be ready for any place."""
        place = (1 - self.config.begin) * self._anywhere
        place[self._starts_on_path[0]] += self.config.begin
        self._memory = _Memory(np.outer(self._speed_prior, place).astype(np.float32))

    def goto(self, page: int, x: float, y: float) -> None:
        """Believe in a place, within a few notes."""
        cell = self.document.nearest(page, x, y)
        at = int(np.clip(np.searchsorted(self.path, cell), 0, len(self.path) - 1))
        place = np.exp(-0.5 * ((np.arange(len(self.path)) - at) / 4.0) ** 2).astype(np.float32)
        belief = np.outer(self._speed_prior, place / place.sum()).astype(np.float32)
        anchor = int(np.argmax(np.add.reduceat(place, self._starts_on_path)))
        self._memory = _Memory(belief, anchor, "tracking", 1.0)

    def note_belief(self, logits: Floats) -> Floats:
        """(cells,) logits to (notes,) probabilities."""
        p = np.exp(logits - logits.max())
        notes: Floats = np.add.reduceat(p, self._borders)
        return notes / notes.sum()

    def move(self, belief: Floats, jump: float) -> Floats:
        """One frame of motion of a (speeds, path) belief."""
        mixed = self._change @ belief
        out = np.zeros_like(mixed)
        for row, target, speed in zip(mixed, out, self._speeds, strict=True):
            whole = min(int(speed), len(row) - 1)
            part = float(speed) - int(speed)
            target[whole:] = (1 - part) * row[: len(row) - whole]
            target[whole + 1 :] += part * row[: max(0, len(row) - whole - 1)]
        # what ran over the end stands there, and in time goes anywhere
        over = max(0.0, 1 - float(out.sum()))
        out[0, -1] += (1 - LEAVE_END) * over
        return (1 - jump) * out + (jump + LEAVE_END * over) * self._leap

    def step(
        self, logits: Floats, time: float, *, quiet: bool = False, struck: bool = True
    ) -> Estimate:
        """Take one frame's (cells,) logits, known at `time` seconds.

        `quiet` says that nothing sounds; `struck` that a note begins, without which
        no performance begins.
        """
        memory, config = self._memory, self.config
        memory.quiet_since = (memory.quiet_since or time) if quiet else None
        if memory.state == "waiting" and (quiet or not struck) and not memory.confidence:
            return self._estimate(time)
        if memory.quiet_since is None or time - memory.quiet_since <= config.pause:
            self._hear(logits)
        self._judge(time)
        return self._estimate(time)

    def _hear(self, logits: Floats) -> None:
        """Move on and weigh the evidence; then read off the place."""
        memory, config = self._memory, self.config
        notes = self.note_belief(logits)
        evidence = notes**config.trust + config.doubt
        belief = self.move(memory.belief, config.search if memory.state == "lost" else config.jump)
        belief *= evidence[self._note_of_path]
        belief /= belief.sum()
        memory.belief = belief
        place = belief.sum(0)
        likely = np.add.reduceat(place, self._starts_on_path) * (
            notes**config.glance + config.doubt
        )
        memory.anchor = int(np.argmax(likely))
        at = int(self._starts_on_path[memory.anchor])
        mass = float(place[max(0, at - config.reach) : at + config.reach + 1].sum())
        memory.mass = min(max(mass, 1e-4), 1 - 1e-4)
        near = np.abs(self._starts_on_path - at) <= config.reach
        fade = 1 / (self.fps * config.agreement_seconds)
        memory.agreement += fade * (float(notes[near].sum()) - memory.agreement)
        bias, *weights = config.calibration
        score = bias + sum(w * sign for w, sign in zip(weights, self.signs(), strict=True))
        memory.confidence = float(1 / (1 + np.exp(-score)))

    def signs(self) -> tuple[float, float]:
        """What the confidence is made of.

        The log odds of the belief around the place, and the log of the share of the
        network's own belief that has lately fallen there.
        """
        mass = self._memory.mass
        return float(np.log(mass / (1 - mass))), float(np.log(self._memory.agreement + 1e-3))

    def _judge(self, time: float) -> None:
        memory, config = self._memory, self.config
        if memory.quiet_since is not None:
            over = time - memory.quiet_since > config.ended_after
            last = self.document.system[self.anchors[memory.anchor]] == self.document.system[-1]
            if over and last and memory.state != "waiting":
                memory.state = "ended"
            if memory.state == "ended":
                return
        if memory.confidence >= config.lost:
            memory.sure_at = time
        if memory.confidence >= config.tracking:
            memory.state = "tracking"
        elif memory.state not in ("waiting", "lost"):
            late = time - memory.sure_at > config.lost_after
            memory.state = "lost" if late else "unsure"

    def _estimate(self, time: float) -> Estimate:
        memory, document = self._memory, self.document
        cell = int(self.anchors[memory.anchor])
        return Estimate(
            time=round(time, 4),
            page=int(document.page[cell]),
            x=round(float(document.x[cell]), 4),
            y=round(float(document.y[cell]), 4),
            confidence=round(memory.confidence, 4),
            state=memory.state,
        )

    def belief(self) -> Floats:
        """(cells,) probability of every cell of the document."""
        out = np.zeros(len(self.document), np.float32)
        out[self.path] = self._memory.belief.sum(0)
        return out
