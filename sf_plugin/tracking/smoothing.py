"""The path of a whole performance, when all of it has been heard: forward, then backward."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sf_plugin.followers import Progress, no_progress
from sf_plugin.positions import Estimate
from sf_plugin.tracking.tracker import LEAVE_END, Floats, Leap, Tracker

Flags = NDArray[np.bool_]

_Step = tuple[Leap, float] | None
"""What moved a frame's belief and how much was struck; None where it stood still."""


class Logits(Protocol):
    """(frames, onsets) logits, an array or what computes them when asked."""

    def __getitem__(self, frames: slice, /) -> Floats: ...


@dataclass(frozen=True)
class Hearing:
    """A whole recording as a network hears it: what `Tracker.step` takes, of every frame.

    Attributes:
        logits: (frames, onsets).
        time: (frames,) seconds of sound heard when each is known.
        quiet: (frames,) whether nothing sounds.
        struck: (frames,) how likely a note begins.
    """

    logits: Logits
    time: NDArray[np.float64]
    quiet: Flags
    struck: Floats


class Smoother(Tracker):
    """A tracker that knows how the music goes on.

    Forward it is the live tracker, and what moves it a frame is kept; backward every
    frame's belief is weighed by how well each place explains what follows.  Beliefs
    are kept of every `sqrt(frames)`-th frame only and made again between them.

    The frame's own belief (`glance`) chooses within reach of the likeliest place.
    """

    def smooth(self, hearing: Hearing, progress: Progress = no_progress) -> list[Estimate]:
        """An estimate a frame; times and states are as the live tracker tells them."""
        frames = len(hearing.time)
        size = max(1, math.isqrt(frames))
        stretches = [slice(n, min(n + size, frames)) for n in range(0, frames, size)]
        self.reset()
        steps: list[_Step] = []
        kept = []
        for done, stretch in enumerate(stretches, 1):
            kept.append(self._memory.belief)
            steps += self._forward(hearing, stretch)
            progress("aligning", done, 2 * len(stretches))
        read = _Read.of(frames)
        after = np.ones_like(self._memory.belief)
        for done, stretch in enumerate(reversed(stretches), len(stretches) + 1):
            after = self._backward(hearing, stretch, kept.pop(), steps[stretch], after, read)
            progress("aligning", done, 2 * len(stretches))
        heard = np.array([step is not None for step in steps], bool)
        return self._estimates(hearing, heard, read)

    def move_back(self, after: Floats, leap: Leap, heard: Floats, struck: float) -> Floats:
        """The transpose of `move`.

        (tempi, places) how well each place explains what follows the motion, to how
        well each explains it before.
        """
        stay = np.float32(1 - leap.chance)
        leave = np.float32(LEAVE_END / self.fps)
        over = (1 - leave) * after[0, -1] + leave * (after * self._anywhere).sum()
        count, places = after.shape
        unheard = self._unheard(struck)
        shares = 1 - unheard * self._comes
        onward = np.full((count, places + self._reach), over, np.float32)
        onward[:, :places] = after
        onward[0, places - 1] = over
        moved = np.empty_like(after)
        for tempi, whole, part in self._strides:
            moved[tempi] = onward[tempi, whole : whole + places] * ((1 - part) * shares[whole])
            ahead = onward[tempi, whole + 1 : whole + 1 + places]
            moved[tempi] += ahead * (part * shares[whole + 1])
        self._turns.take_back(onward, moved, unheard)
        before = moved * self._keep
        before[:-1] += self._pass_on[:-1] * moved[1:]
        before[1:] += self._pass_on[1:] * moved[:-1]
        landing = after[:, self.first_place].mean(0) @ self._landing(leap, heard)
        return before * stay + landing

    def _leap(self, heard: Floats, struck: float, rested: bool) -> Leap:
        leap = super()._leap(heard, struck, rested)
        self._done: _Step = leap, struck
        return leap

    def _forward(self, hearing: Hearing, stretch: slice) -> list[_Step]:
        """Follow some frames: what moved each."""
        steps: list[_Step] = []
        for logits, time, quiet, struck in frames_of(hearing, stretch):
            self._done = None
            self.step(logits, time, quiet=quiet, struck=struck)
            steps.append(self._done)
        return steps

    def _backward(
        self,
        hearing: Hearing,
        stretch: slice,
        belief: Floats,
        steps: list[_Step],
        after: Floats,
        read: _Read,
    ) -> Floats:
        """Read some frames, last first, `belief` being from before them.

        Takes and gives (tempi, places) how well what follows them, or what follows the
        frame before them, is explained.
        """
        frames = []
        for n, step, logits in zip(
            range(stretch.start, stretch.stop), steps, hearing.logits[stretch], strict=True
        ):
            if step is None:
                continue
            leap, struck = step
            heard = self.heard(logits)
            evidence = self.evidence(heard, struck)
            belief = self.move(belief, leap, heard, struck) * evidence[self.onset_of]
            belief /= belief.sum()
            frames.append((n, leap, logits, heard, struck, evidence, belief))
        for n, leap, logits, heard, struck, evidence, belief in reversed(frames):
            here = self.of_onsets(belief * after)
            here /= here.sum()
            expected = here / np.maximum(evidence, 1e-30)
            read.expected[n] = expected @ heard / expected.sum()
            near = self.near(int(np.argmax(here)))
            glance = (heard[near] + self.config.doubt) ** self.config.glance
            read.anchor[n] = near.start + np.argmax(here[near] * glance)
            read.mass[n] = here[self.near(int(read.anchor[n]))].sum()
            read.fit[n] = logits[read.anchor[n]]
            after = self.move_back(after * evidence[self.onset_of], leap, heard, struck)
            after /= after.max()
        return after

    def _estimates(self, hearing: Hearing, heard: Flags, read: _Read) -> list[Estimate]:
        """What was read, told in order of time; who stands still stays where it was."""
        reach = round(self.fps * self.config.agreement_seconds)
        sounds = heard & ~hearing.quiet
        agreement, fit = np.zeros((2, len(heard)))
        agreement[sounds] = average(read.expected[sounds], reach)
        fit[sounds] = average(read.fit[sounds], reach)
        mass = np.clip(read.mass, 1e-4, 1 - 1e-4)
        self.reset()
        memory, out = self._memory, []
        for n, time in enumerate(hearing.time.tolist()):
            memory.quiet_since = (memory.quiet_since or time) if hearing.quiet[n] else None
            if heard[n]:
                memory.anchor = int(read.anchor[n])
            if sounds[n]:
                memory.mass, memory.agreement = float(mass[n]), float(agreement[n])
                memory.fit = float(fit[n])
                memory.confidence = self.calibrated()
            if memory.confidence:
                self._judge(time)
            out.append(self._estimate(time))
        return out


@dataclass(frozen=True)
class _Read:
    """(frames,) the onset read off, and what the confidence is made of: see `Tracker.signs`."""

    anchor: NDArray[np.int64]
    mass: NDArray[np.float64]
    expected: NDArray[np.float64]
    fit: NDArray[np.float64]

    @classmethod
    def of(cls, frames: int) -> _Read:
        return cls(np.zeros(frames, np.int64), *np.zeros((3, frames)))


def average(values: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    """(n,) means over `reach` values to either side, as far as there are."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    first, last = np.maximum(index - reach, 0), np.minimum(index + reach + 1, len(values))
    return np.asarray((total[last] - total[first]) / (last - first))


def frames_of(hearing: Hearing, stretch: slice) -> zip[tuple[Floats, float, bool, float]]:
    """Some frames, one by one."""
    return zip(
        hearing.logits[stretch],
        hearing.time[stretch].tolist(),
        hearing.quiet[stretch].tolist(),
        hearing.struck[stretch].tolist(),
        strict=True,
    )
