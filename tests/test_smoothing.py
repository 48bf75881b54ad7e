"""Forward and backward over the tracker's states, against the plain sums they stand for."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sf_plugin.positions import Estimate
from sf_plugin.score.structure import Road, Roads
from sf_plugin.tracking.document import DocumentOnsets
from sf_plugin.tracking.smoothing import Hearing, Smoother, average
from sf_plugin.tracking.tracker import Leap, Tracker, TrackerConfig, softmax

FPS = 20
SYSTEM = 8
"""Onsets a system."""


PLAIN = TrackerConfig(
    change=0.4, jump=2e-5, pause_jump=0.01, trust=1.0, accent=0.1, doubt=1e-4,
    calibration=(0.644, 0.329, 0.719), known=(-1.5, 2.0, 1.0),
)  # fmt: skip
"""Settings that weigh every frame."""


def make_document(beats: Sequence[float]) -> DocumentOnsets:
    index = np.arange(len(beats))
    return DocumentOnsets(
        np.ones(len(beats), np.int32),
        index // SYSTEM,
        (0.1 + 0.1 * (index % SYSTEM)).astype(np.float32),
        (0.1 + 0.1 * (index // SYSTEM)).astype(np.float32),
        np.array(beats, np.float32),
        index % 3 == 0,
        index // 3 + 1,
        index,
    )


def onset_at(document: DocumentOnsets, estimate: Estimate) -> int:
    return document.nearest(estimate.page, estimate.x, estimate.y)


def hearing_of(
    logits: np.ndarray, quiet: np.ndarray | None = None, struck: np.ndarray | None = None
) -> Hearing:
    frames = len(logits)
    return Hearing(
        logits.astype(np.float32),
        (np.arange(frames) + 1) / FPS,
        np.zeros(frames, bool) if quiet is None else quiet,
        np.ones(frames, np.float32) if struck is None else struck,
    )


def belief_in(notes: Sequence[int | None], count: int, seed: int = 0) -> Hearing:
    """What is heard while these onsets sound, one a frame; None is silence."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1, (len(notes), count))
    struck = np.zeros(len(notes), np.float32)
    for n, note in enumerate(notes):
        if note is not None:
            logits[n, note] += 6
            struck[n] = n == 0 or notes[n - 1] != note
    return hearing_of(logits, np.array([note is None for note in notes]), struck)


def held(notes: Sequence[int], frames: int = 5) -> list[int]:
    return [note for note in notes for _ in range(frames)]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0.01, 5), min_size=1, max_size=9),
    st.lists(st.floats(0, 9), min_size=2, max_size=5),
    st.builds(Leap, st.floats(0, 0.5), st.floats(0, 0.5), st.integers(0, 5)),
    st.floats(0, 1),
    st.floats(10, 60),
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4), st.floats(0, 1)), max_size=4),
    st.integers(0, 2**32 - 1),
)
def test_back_is_the_transpose_of_onward(
    beats: list[float],
    tempi: list[float],
    leap: Leap,
    struck: float,
    fps: float,
    ways: list[tuple[int, int, float]],
    seed: int,
) -> None:
    config = TrackerConfig(tempi=tuple(sorted(tempi)), change=2.0)
    leap = replace(leap, origin=leap.origin % len(beats))
    roads = Roads(roads=tuple(Road(*way) for way in ways))
    smoother = Smoother(make_document(beats), fps, config, roads)
    rng = np.random.default_rng(seed)
    shape = (len(tempi), len(smoother.onset_of))
    belief, after = rng.random((2, *shape), np.float32)
    belief[rng.random(shape) < 0.5] = 0
    assume(belief.any())
    belief /= belief.sum()
    heard = rng.dirichlet(np.ones(len(beats))).astype(np.float32)
    moved = smoother.move(belief, leap, heard, struck)
    assert float(moved.min()) >= -1e-6
    assert 1 - config.unheard - 1e-5 <= float(moved.sum()) <= 1 + 1e-5
    onward = float((moved * after).sum())
    assert float((belief * smoother.move_back(after, leap, heard, struck)).sum()) == pytest.approx(
        onward, rel=1e-5, abs=1e-6
    )


def plain_sums(
    document: DocumentOnsets, config: TrackerConfig, roads: Roads, hearing: Hearing
) -> list[np.ndarray]:
    """(onsets,) posterior of every frame, by matrices over all states."""
    tracker = Tracker(document, FPS, config, roads)
    shape = (len(config.tempi), len(tracker.onset_of))
    states = np.eye(shape[0] * shape[1], dtype=np.float32).reshape(-1, *shape)
    evidence, motions = [], []
    steps = Smoother(document, FPS, config, roads)._forward(hearing, slice(None))
    for logits, step in zip(np.asarray(hearing.logits), steps, strict=True):
        assert step is not None
        leap, struck = step
        heard = softmax(logits)
        moved = [tracker.move(state, leap, heard, struck).ravel() for state in states]
        motions.append(np.array(moved, np.float64).T)
        seen = tracker.evidence(heard, struck)[tracker.onset_of]
        evidence.append(np.tile(seen, shape[0]).astype(np.float64))
    belief = tracker._memory.belief.ravel().astype(np.float64)
    forward = []
    for motion, seen in zip(motions, evidence, strict=True):
        belief = seen * (motion @ belief)
        belief /= belief.sum()
        forward.append(belief)
    after = np.ones_like(belief)
    out = []
    backward = zip(reversed(forward), reversed(evidence), reversed(motions), strict=True)
    for belief, seen, motion in backward:
        both = (belief * after).reshape(shape).sum(0)
        out.append(np.bincount(tracker.onset_of, both / both.sum()))
        after = motion.T @ (after * seen)
        after /= after.max()
    return out[::-1]


@pytest.mark.parametrize("frames", [1, 2, 17, 36])
def test_the_places_are_those_of_the_plain_sums(frames: int) -> None:
    """Also at the seams between the frames whose beliefs are kept."""
    document = make_document([0.5, 0.25, 1.0, 0.25, 0.5, 0.5])
    config = TrackerConfig(tempi=(0, 1, 2, 4), trust=6.0, jump=0.5, search=0.5, glance=0.0)
    roads = Roads(roads=(Road(1, 1, 0.5), Road(2, 1, 0.8)))
    rng = np.random.default_rng(frames)
    struck = rng.random(frames, np.float32)
    struck[0] = 1  # it begins
    hearing = hearing_of(rng.normal(0, 3, (frames, 6)), struck=struck)
    estimates = Smoother(document, FPS, config, roads).smooth(hearing)
    sums = plain_sums(document, config, roads, hearing)
    for estimate, posterior in zip(estimates, sums, strict=True):
        assert posterior[onset_at(document, estimate)] == pytest.approx(posterior.max(), rel=1e-3)


def test_what_comes_later_tells_two_like_passages_apart() -> None:
    """The second of two lines that begin alike: live it cannot be known, afterwards it can."""
    document = make_document([0.5] * 3 * SYSTEM)
    notes = held(range(SYSTEM, 3 * SYSTEM))
    hearing = belief_in(notes, len(document))
    alike = [n for n, note in enumerate(notes) if note < SYSTEM + 6]
    logits = np.array(hearing.logits)
    for n in alike:
        logits[n, notes[n] - SYSTEM] = logits[n, notes[n]] + 1
    hearing = replace(hearing, logits=logits)
    config = replace(PLAIN, begin=0.5)

    def right(estimates: Sequence[Estimate]) -> float:
        return float(np.mean([onset_at(document, estimates[n]) == notes[n] for n in alike]))

    tracker = Tracker(document, FPS, config)
    live = [
        tracker.step(row, time, struck=float(struck))
        for row, time, struck in zip(logits, hearing.time, hearing.struck, strict=True)
    ]
    assert right(live) < 0.2
    assert right(Smoother(document, FPS, replace(config, glance=0.0)).smooth(hearing)) > 0.9


def test_a_jump_is_told_where_it_was_made() -> None:
    document = make_document([0.5] * 4 * SYSTEM)
    notes = held([*range(10), *range(20, 30)])
    config = replace(PLAIN, trust=4.0)
    estimates = Smoother(document, FPS, config).smooth(belief_in(notes, len(document)))
    away = [abs(onset_at(document, e) - note) for e, note in zip(estimates, notes, strict=True)]
    assert np.mean(np.array(away) == 0) > 0.95
    assert np.mean(np.diff(away) != 0) < 0.1
    assert max(away[45:49] + away[51:]) <= 1


def test_silence_is_waited_through_and_stood_still_in() -> None:
    document = make_document([0.5] * 2 * SYSTEM)
    first, second = held(range(6)), held(range(6, 16))
    silence = [None] * 3 * FPS
    notes = [*silence, *first, *silence, *second, *silence]
    estimates = Smoother(document, FPS, PLAIN).smooth(belief_in(notes, len(document)))
    begun, paused = len(silence), len(silence) + len(first)
    assert {e.state for e in estimates[:begun]} == {"waiting"}
    still = estimates[paused + FPS + 1 : paused + len(silence)]
    assert {onset_at(document, e) for e in still} <= {5, 6}
    assert len({(e.x, e.confidence) for e in still}) == 1
    assert [e.state for e in estimates[-2:]] == ["ended"] * 2
    for n, note in enumerate(notes):
        if note is not None:
            assert abs(onset_at(document, estimates[n]) - note) <= 1


def test_nothing_heard_is_nothing_said() -> None:
    document = make_document([0.5] * 4)
    assert Smoother(document, FPS, PLAIN).smooth(hearing_of(np.zeros((0, 4)))) == []
    silent = Smoother(document, FPS, PLAIN).smooth(belief_in([None] * 9, 4))
    assert {e.state for e in silent} == {"waiting"}


def test_the_confidence_counts_who_is_right() -> None:
    document = make_document([0.5] * 3 * SYSTEM)
    known = Smoother(document, FPS, PLAIN).smooth(belief_in(held(range(24)), 24))
    noise = Smoother(document, FPS, PLAIN).smooth(belief_in([*held(range(3)), *[None] * 5], 24))
    lost = Smoother(document, FPS, PLAIN).smooth(hearing_of(np.zeros((120, 24))))
    assert np.median([e.confidence for e in known]) > 0.8
    assert len(noise) == 20
    assert max(e.confidence for e in lost) < 0.5
    assert "tracking" not in {e.state for e in lost}


def test_memory_grows_with_the_root_of_the_frames() -> None:
    document = make_document([4.0] * 25)
    rng = np.random.default_rng(0)

    def peak(frames: int) -> int:
        hearing = hearing_of(rng.normal(0, 1, (frames, 25)))
        smoother = Smoother(document, FPS)
        tracemalloc.start()
        smoother.smooth(hearing)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    assert peak(900) < 4.5 * peak(100)


def test_two_performances_are_two() -> None:
    document = make_document([0.5] * 2 * SYSTEM)
    smoother = Smoother(document, FPS)
    first = smoother.smooth(belief_in(held(range(16)), 16))
    smoother.smooth(belief_in(held(range(4, 9)), 16, seed=1))
    assert smoother.smooth(belief_in(held(range(16)), 16)) == first


@given(st.lists(st.floats(-1e3, 1e3), max_size=20), st.integers(0, 30))
def test_an_average_is_of_what_is_there(values: list[float], reach: int) -> None:
    expected = [np.mean(values[max(0, n - reach) : n + reach + 1]) for n in range(len(values))]
    assert average(np.array(values), reach) == pytest.approx(np.array(expected), abs=1e-9)
