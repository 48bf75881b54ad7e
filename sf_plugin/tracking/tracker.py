"""From the network's belief to one path: a causal Bayes filter over the document's onsets.

The state is a place in the music, in twelfths of a quarter note, and a tempo.
The page says how long each onset lasts; the tempo changes slowly; with a small
probability the music goes anywhere.  What is seen of a place is the network's
belief in the onset it belongs to.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sf_plugin.positions import Estimate, State
from sf_plugin.tracking.document import DocumentOnsets

Floats = NDArray[np.float32]

STEPS = 12
"""Places a quarter note."""
LONGEST = 4 * STEPS
"""Places of an onset at most: who waits longer stands still there."""
LEAVE_END = 0.2
"""Share a second of the belief that all is over that goes anywhere instead."""
ANYWHERE = 0.3
"""Share of the jumps that may go to any onset; the others go to the first of a measure."""
REST = 0.4
"""Seconds of silence from which one may go on elsewhere."""
STRIKE = 0.075
"""Seconds that an onset is heard as one."""


@dataclass(frozen=True)
class TrackerConfig:
    """How the path may move; fitted on pieces neither trained nor reported on.

    Attributes:
        tempi: quarter notes a second.
        change: how often a second the tempo goes to a neighbouring one.
        jump: probability a second of going elsewhere in the document.
        search: the same while lost.
        pause_jump: probability that the music goes on anywhere after a silence.
        trust: exponent of the network's belief as evidence, a second; frames are not
            independent.
        accent: exponent that a struck note adds.
        doubt: added to the belief, so that one wrong frame cannot rule a place out.
        glance: exponent of the present frame's belief when the place is read off.
        begin: probability that the music starts at the first onset.
        reach: quarter notes around the place that count as the same for the confidence.
        agreement_seconds: how long the network's agreement with the path is averaged.
        calibration: confidence is the logistic function of the first, plus the second
            times the log odds of the belief around the place, plus the third times the
            log of the agreement.
        tracking: confidence from which the state is "tracking".
        lost: confidence below which, for `lost_after` seconds, it is "lost".
        pause: seconds of silence after which the music is taken to stand still.
        ended_after: seconds of silence on the last system that end the piece.
    """

    tempi: tuple[float, ...] = (0, 0.35, 0.5, 0.7, 0.9, 1.15, 1.5, 1.9, 2.5, 3.2, 4.2, 6)
    change: float = 0.15
    jump: float = 1e-3
    search: float = 0.02
    pause_jump: float = 0.05
    trust: float = 0.0
    accent: float = 0.45
    doubt: float = 1e-6
    glance: float = 1.0
    begin: float = 0.5
    reach: float = 2.0
    agreement_seconds: float = 2.0
    calibration: tuple[float, float, float] = (2.348, 0.211, 1.476)
    tracking: float = 0.55
    lost: float = 0.2
    lost_after: float = 1.5
    pause: float = 1.0
    ended_after: float = 2.0


@dataclass
class _Memory:
    belief: Floats  # (tempi, places)
    anchor: int = 0
    state: State = "waiting"
    confidence: float = 0.0
    mass: float = 0.5
    agreement: float = 1.0
    sure_at: float = 0.0
    quiet_since: float | None = None


class Tracker:
    """One performance's path; `step` once a frame."""

    def __init__(
        self, document: DocumentOnsets, fps: float, config: TrackerConfig = TrackerConfig()
    ) -> None:
        self.document = document
        self.config = config
        self.fps = fps
        counts = np.clip(np.round(document.beats * STEPS), 1, LONGEST).astype(np.int64)
        self.onset_of = np.repeat(np.arange(len(document)), counts)
        """(places,) the onset that each belongs to."""
        self.first_place = np.cumsum(counts) - counts
        """(onsets,) where each begins."""
        self._speeds = (np.array(config.tempi) * STEPS / fps).tolist()
        count = len(self._speeds)
        change = min(config.change / fps, 1.0) if count > 1 else 0.0
        self._keep = np.float32(1 - change)
        self._pass_on = np.full((count, 1), change / 2, np.float32)
        self._pass_on[[0, -1]] = change
        likely = document.opens * (1 - ANYWHERE) / document.opens.sum() + ANYWHERE / len(document)
        self._anywhere = np.zeros(len(self.onset_of), np.float32)
        self._anywhere[self.first_place] = likely
        self._leap = np.outer(np.full(count, 1 / count, np.float32), self._anywhere)
        self.reset()

    def reset(self) -> None:
        """Expect the beginning, but be ready for any place."""
        belief = (1 - self.config.begin) * self._leap
        belief[:, 0] += self.config.begin / len(belief)
        self._memory = _Memory(belief)

    def goto(self, page: int, x: float, y: float) -> None:
        """Believe in a place, within a few onsets."""
        anchor = self.document.nearest(page, x, y)
        near = np.exp(-0.5 * ((np.arange(len(self.document)) - anchor) / 1.5) ** 2)
        belief = np.zeros_like(self._leap)
        belief[:, self.first_place] = near / near.sum() / len(belief)
        sure_at = self._memory.sure_at
        self._memory = _Memory(belief, anchor, "tracking", 1.0, sure_at=sure_at)

    def move(self, belief: Floats, jump: float) -> Floats:
        """One frame of motion of a (tempi, places) belief; `jump` is the probability of one."""
        mixed = belief * self._keep
        mixed[1:] += self._pass_on[:-1] * belief[:-1]
        mixed[:-1] += self._pass_on[1:] * belief[1:]
        out = np.empty_like(mixed)
        over = 0.0
        for row, target, speed in zip(mixed, out, self._speeds, strict=True):
            whole = min(int(speed), len(row) - 1)
            part = np.float32(speed - int(speed))
            stays = len(row) - whole
            target[:whole] = 0
            np.multiply(row[:stays], 1 - part, out=target[whole:])
            target[whole + 1 :] += part * row[: stays - 1]
            over += float(row[stays:].sum() + part * row[stays - 1])
        # what runs over the end stands there, and in time goes anywhere
        leave = np.float32(LEAVE_END / self.fps) * (out[0, -1] + np.float32(over))
        out[0, -1] += np.float32(over) - leave
        out *= np.float32(1 - jump)
        out += (np.float32(jump) + leave * np.float32(1 - jump)) * self._leap
        return out

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
            jump = (config.search if memory.state == "lost" else config.jump) / self.fps
            self._hear(logits, struck, config.pause_jump if rested else jump)
        self._judge(time)
        return self._estimate(time)

    def evidence(self, belief: Floats, struck: float) -> Floats:
        """(onsets,) how much a frame with the network's `belief` speaks for each onset."""
        weight = self.config.trust / self.fps + self.config.accent * struck / (STRIKE * self.fps)
        seen: Floats = np.power(belief + np.float32(self.config.doubt), np.float32(weight))
        return seen

    def _hear(self, logits: Floats, struck: float, jump: float) -> None:
        """Move on and weigh the evidence; then read off the place."""
        memory, config = self._memory, self.config
        heard = softmax(logits)
        belief = self.move(memory.belief, jump)
        belief *= self.evidence(heard, struck)[self.onset_of]
        belief /= belief.sum()
        memory.belief = belief
        here = self.of_onsets(belief)
        memory.anchor = int(np.argmax(here * (heard + config.doubt) ** config.glance))
        near = self.near(memory.anchor)
        memory.mass = min(max(float(here[near].sum()), 1e-4), 1 - 1e-4)
        fade = 1 / (self.fps * config.agreement_seconds)
        memory.agreement += fade * (float(heard[near].sum()) - memory.agreement)
        memory.confidence = self.calibrated()

    def calibrated(self) -> float:
        """The confidence that the signs make."""
        bias, *weights = self.config.calibration
        score = bias + sum(w * sign for w, sign in zip(weights, self.signs(), strict=True))
        return float(1 / (1 + np.exp(-score)))

    def of_onsets(self, belief: Floats) -> Floats:
        """(tempi, places) to (onsets,)."""
        here: Floats = np.add.reduceat(belief.sum(0), self.first_place)
        return here

    def near(self, onset: int) -> slice:
        """The onsets within reach of one."""
        at, reach = self.first_place[onset], self.config.reach * STEPS
        first, last = np.searchsorted(self.first_place, [at - reach, at + reach + 1])
        return slice(int(first), int(last))

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
            last = self.document.system[memory.anchor] == self.document.system[-1]
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


def softmax(logits: Floats) -> Floats:
    """Probabilities of logits."""
    p = np.exp(logits - logits.max())
    return np.asarray(p / p.sum(), np.float32)
