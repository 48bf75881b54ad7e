"""What came out of a performance on the stage, compared with what was played."""

from __future__ import annotations

import bisect
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from sf_plugin.evaluation.metrics import Truth, answers, judge_turns
from sf_plugin.positions import PageTurn, Position, event_from_json

if TYPE_CHECKING:
    from stage import Performance, Stage

Floats = NDArray[np.floating[Any]]

MOVED_SECONDS = 1.0
"""A place that comes later than this after its onset was not found by its sound."""

FIT_SECONDS = 10.0
"""Of the recording are looked for in what the follower heard."""

MISSING = 2400
"""Packets that may be missing in a row."""

PIECE_SECONDS = 5.0
"""The follower's time is compared with the clock so often."""

PIECE_WITHIN = 0.15
"""Seconds; further away the music may be like itself."""

APART = 0.005
"""Of the page's width: places closer together are one."""

NEAR_SECONDS = 0.2
"""An accompaniment's note further from the soloist's was not played with it."""


@dataclass
class Outcome:
    """All performances of a stage, compared with what was played.

    Attributes:
        onsets, right: how many were played, and were in the right measure.
        turns_due, turns_right, turns_wrong: of pages, by MIDI.
        heard: milliseconds from each onset to the first packet whose time includes it.
        moved: milliseconds from each onset to the first packet that has its place.
        early: onsets whose place was told before.
        unmoved: onsets whose place was not told within a second.
        accompaniment: milliseconds from the soloist's notes to those of the accompaniment.
        unplayed: notes of the accompaniment that were not there.
        drift: milliseconds by which the follower's time was off the clock at most, and ahead
            of it where positive, of each performance.
        cpu, cpu_of_all: shares of one core: the follower; with its recorder and fluidsynth.
        megabytes, growth: resident memory at the end, and since the music began.
        lost: seconds of sound.
        xruns: of the JACK server.
        code: the follower's exit code.
    """

    onsets: int = 0
    right: int = 0
    turns_due: int = 0
    turns_right: int = 0
    turns_wrong: int = 0
    heard: list[float] = field(default_factory=list)
    moved: list[float] = field(default_factory=list)
    early: int = 0
    unmoved: int = 0
    accompaniment: list[float] = field(default_factory=list)
    unplayed: int = 0
    drift: list[float] = field(default_factory=list)
    cpu: float = 0.0
    cpu_of_all: float = 0.0
    megabytes: float = 0.0
    growth: float = 0.0
    lost: float = 0.0
    xruns: int = 0
    code: int = 0

    def rows(self) -> Iterator[tuple[str, str, str, bool]]:
        """What, how much, the goal, and whether it is reached."""
        right = self.right / max(self.onsets, 1)
        yield "onsets in the right measure", f"{right:.1%} of {self.onsets}", "85 %", right >= 0.85
        turned = f"{self.turns_right} of {self.turns_due}, {self.turns_wrong} wrong"
        good = self.turns_right == self.turns_due and not self.turns_wrong
        yield "pages turned by MIDI", turned, "all, none wrong", good
        for what, values in (("sound to packet", self.heard), ("sound to its place", self.moved)):
            median, p95, p99 = spread(values)
            most = max(values, default=np.inf)
            text = f"median {median:.0f}, 95 % {p95:.0f}, 99 % {p99:.0f}, all {most:.0f} ms"
            good = median < 120 and (p99 < 200 or values is self.moved)
            goal = "median 120, 99 % 200 ms" if values is self.heard else "median 120 ms"
            yield what, text, goal, good
        text = f"{len(self.moved)} by sound, {self.early} before, {self.unmoved} not in a second"
        yield "places told", text, "", True
        median, p95, _ = spread(np.abs(self.accompaniment).tolist())
        count = len(self.accompaniment)
        where = np.median(self.accompaniment) if count else np.inf
        text = (
            f"median {where:+.0f}, away {median:.0f}, 95 % {p95:.0f} ms, "
            f"{count} of {count + self.unplayed} notes"
        )
        good = median < 50 and count >= 0.9 * (count + self.unplayed)
        yield "accompaniment's asynchrony", text, "50 ms, 90 % of notes", good
        yield "CPU of the follower", f"{self.cpu:.1%} of a core", "25 %", self.cpu < 0.25
        yield "with recorder and fluidsynth", f"{self.cpu_of_all:.1%} of a core", "", True
        memory = f"{self.megabytes:.0f} MB, {self.growth:+.1f} MB since the music began"
        yield "memory", memory, "+20 MB", self.growth < 20
        drift = max(map(abs, self.drift), default=np.inf)
        yield "time against the clock", f"{drift:.0f} ms off at most", "100 ms", drift < 100
        yield "sound lost", f"{self.lost:.2f} s, {self.xruns} xruns", "", True
        yield "ended", f"exit code {self.code}", "0", self.code == 0


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, 95 % and 99 %; infinite of nothing."""
    if not values:
        return np.inf, np.inf, np.inf
    median, p95, p99 = np.percentile(values, (50, 95, 99)).tolist()
    return median, p95, p99


def judge(
    stage: Stage, performances: Sequence[Performance], truth: Truth, doubled: Sequence[int]
) -> Outcome:
    """Read what a stage left behind; `truth` has times in its samples."""
    (take,) = sorted((stage.out / "takes").iterdir())[-1:]
    session = json.loads((take / "session.json").read_text(encoding="utf-8"))
    lines = (take / "events.jsonl").read_text(encoding="utf-8").splitlines()
    positions = [e for line in lines if isinstance(e := event_from_json(line), Position)]
    packets = dict(match(positions, read_packets(stage.out / "osc.log")))
    sound, rate = soundfile.read(take / "sound.flac", dtype="float32")
    turns = list(read_turns(stage.out / "midi.log"))
    outcome = Outcome(lost=session["dropped_seconds"] or 0.0, xruns=stage.desk.xruns)
    first = find(stage.samples, stage.rate, sound, rate) - performances[0].begun
    for performance in performances:
        heard = when_heard(stage, performance, sound, rate, first)
        ahead = heard - performance.sounded(np.arange(len(heard)) * PIECE_SECONDS) - first
        outcome.drift.append(1000 * float(ahead[np.argmax(np.abs(ahead))]))
        piece = (truth.time / PIECE_SECONDS).astype(int)
        there = replace(truth, time=heard[piece] + truth.time - piece * PIECE_SECONDS)
        outcome.onsets += len(truth.time)
        outcome.right += int(answers(positions, there).right_measure.sum())
        mine = [
            PageTurn(came + first, page, 0.0)
            for came, page in turns
            if performance.begun < came < performance.came[-1]
        ]
        made = judge_turns(mine, there)
        outcome.turns_due += made.due
        outcome.turns_right += made.right
        outcome.turns_wrong += made.false
        sounded = performance.sounded(truth.time)
        _latencies(outcome, sounded, there, positions, packets)
        _accompaniment(outcome, stage, performance, truth, doubled)
    usage = stage.usage
    outcome.cpu = usage.share(usage.time, usage.cpu)
    outcome.cpu_of_all = usage.share(usage.time, usage.cpu_of_all)
    settled = min(len(usage.megabytes) - 1, 20)
    outcome.megabytes = usage.megabytes[-1]
    outcome.growth = usage.megabytes[-1] - usage.megabytes[settled]
    return outcome


def read_packets(path: Path) -> Iterator[tuple[float, tuple[float, ...]]]:
    """When each position came, and its arguments."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if "/sf/position" in line:
            came, _, *arguments = json.loads(line)
            yield came, tuple(arguments)


def read_turns(path: Path) -> Iterator[tuple[float, int]]:
    """When a page was asked for by MIDI, and which."""
    for line in path.read_text(encoding="utf-8").splitlines():
        came, *message = line.split()
        if len(message) == 3:
            yield float(came), int(message[2], 16)


def match(
    positions: Sequence[Position], packets: Iterator[tuple[float, tuple[float, ...]]]
) -> Iterator[tuple[int, float]]:
    """(position, when its packet came); packets may be missing."""
    at = 0
    for came, (page, x, y, *_, confidence) in packets:
        told = (page, x, y, confidence)
        for n in range(at, min(at + MISSING, len(positions))):
            one = positions[n]
            sent = np.array((one.page, one.x, one.y, one.confidence), np.float32)
            if told == tuple(sent.tolist()):
                yield n, came
                at = n + 1
                break


def find(
    samples: NDArray[np.float32],
    rate: int,
    sound: NDArray[np.float32],
    sound_rate: int,
    near: float | None = None,
    within: float = 1.0,
) -> float:
    """Seconds into `sound` at which `samples` begin; at most `within` seconds from `near`."""
    wanted = soxr.resample(samples[: round(FIT_SECONDS * rate)], rate, sound_rate)
    begin = 0 if near is None else max(0, round((near - within) * sound_rate))
    more = round((60 if near is None else 2 * within) * sound_rate)
    there = sound[begin : begin + len(wanted) + more]
    size = len(there) + len(wanted)
    spectrum = np.fft.rfft(there, size) * np.conj(np.fft.rfft(wanted, size))
    fits = np.fft.irfft(spectrum, size)[: max(1, len(there) - len(wanted) + 1)]
    return (begin + int(np.argmax(fits))) / sound_rate


def when_heard(
    stage: Stage,
    performance: Performance,
    sound: NDArray[np.float32],
    sound_rate: int,
    first: float,
) -> Floats:
    """(pieces,) seconds into what the follower heard, of each `PIECE_SECONDS` of the samples."""
    step = round(PIECE_SECONDS * stage.rate)
    starts = np.arange(0, len(stage.samples), step)
    by_clock = performance.sounded(starts / stage.rate) + first
    heard: list[float] = []
    ahead = 0.0
    for at, due in zip(starts, by_clock, strict=True):
        piece = stage.samples[at : at + step]
        if len(piece) == step and np.abs(piece).max() > 0.02:
            found = find(piece, stage.rate, sound, sound_rate, due + ahead, PIECE_WITHIN)
            ahead = found - due
        heard.append(due + ahead)
    return np.array(heard)


def _latencies(
    outcome: Outcome,
    sounded: Floats,
    truth: Truth,
    positions: Sequence[Position],
    packets: dict[int, float],
) -> None:
    times = [position.time for position in positions]
    for n, heard in enumerate(truth.time):
        at = bisect.bisect_left(times, heard)
        known = next((k for k in range(at, len(times)) if k in packets), None)
        if known is None:
            continue
        outcome.heard.append(1000 * (packets[known] - sounded[n]))
        place = (truth.page[n], truth.system[n])
        if n == 0 or place != (truth.page[n - 1], truth.system[n - 1]):
            continue
        if truth.x[n] - truth.x[n - 1] < APART:
            continue
        half = (truth.x[n] + truth.x[n - 1]) / 2
        until = bisect.bisect_left(times, heard + MOVED_SECONDS)
        there = [
            k
            for k in range(max(at - 1, 0), until)
            if (positions[k].page, truth.system_at(positions[k].page, positions[k].y)) == place
            and positions[k].x > half
        ]
        if there and there[0] < at:
            outcome.early += 1
        elif moved := [k for k in there if k in packets]:
            outcome.moved.append(1000 * (packets[moved[0]] - sounded[n]))
        else:
            outcome.unmoved += 1


def _accompaniment(
    outcome: Outcome,
    stage: Stage,
    performance: Performance,
    truth: Truth,
    doubled: Sequence[int],
) -> None:
    """A sound card plays a block after it heard the one before: two blocks lie between."""
    found = onsets(performance.recorded, stage.rate) + 2 * stage.period / stage.rate
    for n in doubled:
        away = found - truth.time[n]
        nearest = away[np.argmin(np.abs(away))] if len(away) else np.inf
        if abs(nearest) > NEAR_SECONDS:
            outcome.unplayed += 1
        else:
            outcome.accompaniment.append(1000 * float(nearest))


def onsets(sound: NDArray[np.float32], rate: int) -> Floats:
    """Seconds at which something short and loud begins."""
    step = rate // 1000
    edge = np.abs(np.diff(sound, prepend=sound[:1]))
    level = edge[: len(edge) // step * step].reshape(-1, step).max(1)
    loud = 0.2 * np.percentile(level[level > level.max() / 10], 90) if level.any() else 1.0
    before = np.maximum.reduce([np.roll(level, shift) for shift in range(2, 30)])
    begins = np.flatnonzero((level > loud) & (level > 3 * before))
    apart = np.diff(begins, prepend=-1000) > 60
    return begins[apart] * (step / rate)
