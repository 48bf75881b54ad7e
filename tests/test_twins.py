from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_tracker import CONFIG, FPS, follow, make_document, near, played

from sf_plugin.tracking.tracker import Tracker
from sf_plugin.tracking.twins import ALIKE, AROUND, FAR, SEMITONE, TwinFinder, kinds

PITCHES = 12


def music(count: int, seed: int) -> np.ndarray:
    """(count, pitches) of one to three notes each."""
    rng = np.random.default_rng(seed)
    read = np.zeros((count, PITCHES), np.float32)
    for row in read:
        row[rng.choice(PITCHES, rng.integers(1, 4), replace=False)] = 1
    return read


def compared(pitches: np.ndarray) -> set[tuple[int, int]]:
    """The twins, each two windows compared by themselves."""
    wide = np.array([np.convolve(row, (SEMITONE, 1, SEMITONE), "same") for row in pitches])
    unit = wide / np.linalg.norm(wide, axis=1, keepdims=True).clip(1e-6)
    inside = range(AROUND, len(unit) - AROUND)
    around = {n: unit[n - AROUND : n + AROUND + 1] for n in inside}
    return {
        (one, other)
        for one in inside
        for other in inside
        if one < other and (around[one] * around[other]).sum(1).mean() > ALIKE
    }


def found(pages: list[np.ndarray]) -> set[tuple[int, int]]:
    finder = TwinFinder()
    return {tuple(pair) for page in pages for pair in finder.add(page).tolist()}


def test_what_comes_again_is_found_and_nothing_else() -> None:
    first, other = music(40, 1), music(30, 2)
    pairs = found([np.concatenate([first, other, first])])
    assert pairs == {(n, n + 70) for n in range(AROUND, 40 - AROUND)} | {
        pair for pair in pairs if pair[0] + 70 == pair[1] and 40 - AROUND <= pair[0] < 40
    }
    assert len(pairs) < 40


def test_a_semitone_misread_here_and_there_changes_nothing_a_third_does() -> None:
    first, between = music(40, 1), music(30, 2)
    for interval, twins in ((1, True), (4, False)):
        again = first.copy()
        again[::4] = np.roll(again[::4], interval, 1)
        pairs = found([np.concatenate([first, between, again])])
        assert ((20, 90) in pairs) == twins


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=6),
    st.lists(st.integers(1, 60), max_size=4),
    st.floats(0, 0.3),
)
def test_twins_are_the_same_however_the_pages_are_cut(
    parts: list[int], cuts: list[int], noise: float
) -> None:
    whole = np.concatenate([music(25, seed) for seed in parts])
    whole += np.random.default_rng(7).uniform(0, noise, whole.shape).astype(np.float32)
    pages = np.split(whole, sorted({cut for cut in cuts if cut < len(whole)}))
    assert found(pages) == found([whole]) == compared(whole)


def test_what_stands_far_before_is_forgotten() -> None:
    theme = music(40, 1)
    near, far = (
        [theme, *[music(1000, 2 + n) for n in range(pages)], theme] for pages in (3, FAR // 1000)
    )
    assert any(early < 40 <= late for early, late in found(near))
    assert not any(early < 40 <= late for early, late in found(far))
    again = found([*far, theme])
    assert (FAR // 1000 * 1000 + 60, FAR // 1000 * 1000 + 100) in again, "numbers go on"


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12))
def test_a_kind_is_all_that_hang_together(pairs: list[tuple[int, int]]) -> None:
    sets = [{n} for n in range(10)]
    for one, other in pairs:
        joined = sets[one] | sets[other]
        for member in joined:
            sets[member] = joined
    wanted = [min(each) for each in sets]
    rows = [np.array(pair, np.int64).reshape(-1, 2) for pair in pairs]
    assert kinds(10, rows).tolist() == wanted


@pytest.mark.parametrize("known", [True, False])
def test_the_path_stays_where_a_twin_is_read_a_little_better(known: bool) -> None:
    document = make_document(pages=2, systems=3)
    half = len(document) // 2
    if known:
        document = replace(document, kind=np.arange(len(document)) % half)
    tracker = Tracker(document, FPS, replace(CONFIG, jump=3e-3))
    better = np.where(np.arange(len(document)) < half, 0, 0.6).astype(np.float32)
    hear = tracker.heard

    def both(logits: np.ndarray) -> np.ndarray:
        """Also where the same is printed, there better."""
        same = np.maximum(logits, np.roll(logits, half))
        return hear(same + better)

    tracker.heard = both  # type: ignore[method-assign]
    frames = played(document, range(half), 1.5)
    estimates = follow(tracker, frames)
    right = np.mean(near(estimates, document, frames)[FPS:])
    assert right > 0.99 if known else right < 0.6


def test_onsets_of_a_kind_are_heard_alike_and_the_belief_is_a_probability() -> None:
    document = make_document(pages=2, systems=2)
    kind = np.arange(len(document))
    kind[40:50] = kind[10:20]
    kind[55] = kind[12]
    logits = np.random.default_rng(0).normal(0, 3, len(document)).astype(np.float32)
    plain = Tracker(document, FPS, CONFIG).heard(logits)
    heard = Tracker(replace(document, kind=kind), FPS, CONFIG).heard(logits)
    assert heard.sum() == pytest.approx(1, abs=1e-5) and heard.dtype == np.float32
    assert np.array_equal(heard[40:50], heard[10:20])
    assert heard[55] == pytest.approx(plain[[12, 42, 55]].mean())
    others = np.setdiff1d(np.arange(len(document)), [*range(10, 20), *range(40, 50), 55])
    assert heard[others] == pytest.approx(plain[others])
