from __future__ import annotations

import numpy as np
import pytest
from test_tracker import FPS, follow, make_document, near, played

from sf_plugin.positions import Estimate, State
from sf_plugin.score.structure import Roads
from sf_plugin.tracking.attention import ASTRAY, MEMORY, REACH, REST, STEADY, Attention
from sf_plugin.tracking.tracker import Tracker

PAGES = range(1, 41)


def say(
    attention: Attention,
    page: int,
    seconds: float,
    state: State = "tracking",
    *,
    start: float = 0.0,
    confidence: float = 0.9,
) -> list[float]:
    """Seconds at which the attention changes while the place is said to be on a page."""
    times = start + np.arange(int(seconds * FPS)) / FPS
    return [
        float(time)
        for time in times
        if attention.hear(Estimate(float(time), page, 0.5, 0.5, confidence, state))
    ]


def test_all_pages_are_listened_for_until_the_place_has_been_sure_for_a_while() -> None:
    attention = Attention(PAGES)
    assert attention.pages == (1, 40)
    assert say(attention, 20, STEADY + 1) == pytest.approx([STEADY])
    assert attention.pages == (20 - REACH, 20 + REACH)


def test_the_attention_goes_with_the_music_and_does_not_flicker() -> None:
    attention = Attention(PAGES)
    say(attention, 1, STEADY + 1)
    assert attention.pages == (1, 1 + REACH)
    changes = []
    for page in (*range(1, 40), 39, 40, 39, 40):
        changes += say(attention, page, 1, start=STEADY + 1 + page)
        first, last = attention.pages
        assert first <= max(1, page - 1)
        assert last >= min(40, page + 1)
        assert last - first <= 2 * REACH
    assert len(changes) < 40 / (REACH // 2) + 2


@pytest.mark.parametrize("confidence", [0.2, 0.0])
@pytest.mark.parametrize("state", ["unsure", "lost", "ended"])
def test_all_pages_are_listened_for_again_when_the_place_is_not_sure(
    state: State, confidence: float
) -> None:
    attention = Attention(PAGES)
    say(attention, 20, STEADY + 1)
    start = STEADY + 1
    assert not say(attention, 20, ASTRAY - 0.1, state, start=start)
    assert not say(attention, 20, 1, start=start + ASTRAY)
    start += ASTRAY + 1
    changes = say(attention, 20, 1, state, start=start, confidence=confidence)
    assert changes == pytest.approx([start + ASTRAY])
    assert attention.pages == (1, 40)


def test_before_the_first_note_nothing_changes() -> None:
    attention = Attention(PAGES)
    attention.look_around(20)
    assert not say(attention, 20, 10, "waiting", confidence=0.0)
    assert attention.pages == (20 - REACH, 20 + REACH)


def test_all_pages_are_listened_for_after_a_silence() -> None:
    attention = Attention(PAGES)
    say(attention, 20, STEADY + 1)
    silent = [
        attention.hear(Estimate(4 + n / 10, 20, 0.5, 0.5, 0.9, "tracking"), quiet=True)
        for n in range(20)
    ]
    assert silent.index(True) == round(10 * REST)
    assert attention.everywhere
    assert say(attention, 30, STEADY + 1, start=7) == pytest.approx([7 + STEADY], abs=0.1)
    assert attention.pages == (30 - REACH, 30 + REACH)


def test_notes_that_fit_other_pages_better_call_the_attention_there() -> None:
    attention = Attention(PAGES)
    say(attention, 20, STEADY + 1)
    for _ in range(100):
        attention.glance(0.4)
        assert not say(attention, 20, 0.1, start=4)
    frames = 0
    while not say(attention, 20, 1 / FPS, start=5):
        attention.glance(1.0)
        frames += 1
    assert 1 < frames < MEMORY
    assert attention.everywhere


def test_a_score_of_few_pages_is_always_listened_for_whole() -> None:
    attention = Attention(range(1, 2 * REACH + 2))
    assert not say(attention, 1, 10)
    assert not say(attention, 7, 10, "lost", start=10)


def test_pages_without_music_are_no_neighbours() -> None:
    music = [3, *range(20, 50)]
    attention = Attention(music)
    say(attention, 3, STEADY + 1)
    assert attention.pages == (3, 20 + REACH - 1)
    attention.look_around(90)
    assert attention.pages == (music[-1 - REACH], 49)


def test_pages_that_were_read_later_are_listened_for() -> None:
    attention = Attention(range(1, 4))
    attention.extend(range(1, 31))
    assert attention.pages == (1, 30)
    say(attention, 15, STEADY + 1)
    attention.extend(PAGES)
    assert attention.pages == (15 - REACH, 15 + REACH)


def on_page(tracker: Tracker, page: int) -> np.ndarray:
    return tracker.belief()[tracker.document.page == page]


def test_belief_in_pages_that_stay_is_kept_and_pages_that_come_are_possible() -> None:
    document = make_document(pages=6)
    tracker = Tracker(document, FPS)
    notes = np.flatnonzero(document.page == 3)
    follow(tracker, played(document, notes[:20].tolist()))
    place = tracker.step(np.zeros(len(document), np.float32), 20.0, quiet=True)
    before = {page: on_page(tracker, page) for page in range(1, 7)}
    inside = np.flatnonzero((document.page >= 2) & (document.page <= 4))
    tracker.attend(document.part(slice(inside[0], inside[-1] + 1)), Roads())
    assert set(tracker.document.page) == {2, 3, 4}
    kept = sum(before[page].sum() for page in (2, 3, 4))
    for page in (2, 3, 4):
        np.testing.assert_allclose(on_page(tracker, page), before[page] / kept, rtol=1e-4)
    same = tracker.step(np.zeros(len(inside), np.float32), 20.1, quiet=True)
    assert (same.page, same.x, same.y) == (place.page, place.x, place.y)
    tracker.attend(document, Roads())
    come = sum(float(on_page(tracker, page).sum()) for page in (1, 5, 6))
    assert come == pytest.approx(tracker.config.search, rel=1e-3)
    assert tracker.belief().sum() == pytest.approx(1, rel=1e-4)
    assert int(tracker.belief().argmax()) in notes


def test_a_jump_to_pages_that_come_is_found() -> None:
    document = make_document(pages=8)
    tracker = Tracker(document, FPS)
    first = np.flatnonzero(document.page <= 4)
    follow(tracker, played(document, first[:30].tolist()))
    tracker.attend(document.part(slice(0, len(first))), Roads())
    follow(tracker, played(document.part(slice(0, len(first))), range(30, 40)), start=20.0)
    tracker.attend(document, Roads())
    there = np.flatnonzero(document.page == 7)[:24].tolist()
    frames = played(document, there)
    estimates = follow(tracker, frames, start=30.0)
    assert np.mean(near(estimates, document, frames)[3 * FPS :]) > 0.95


def test_a_performance_begins_where_it_is_said_to() -> None:
    document = make_document(pages=4)
    tracker = Tracker(document, FPS)
    start = int(np.flatnonzero(document.page == 3)[4])
    place = int(document.page[start]), float(document.x[start]), float(document.y[start])
    tracker.expect(*place)
    waiting = tracker.step(np.zeros(len(document), np.float32), 0.0, quiet=True)
    assert waiting.page == 3
    assert waiting.x == pytest.approx(document.x[start], abs=1e-3)
    assert tracker.belief()[start] >= tracker.config.begin
    tracker.reset()
    assert tracker.belief()[start] >= tracker.config.begin
