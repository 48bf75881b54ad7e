from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sf_plugin.positions import Estimate, PageTurn
from sf_plugin.score.layout import Layout, Measure, PageLayout, System
from sf_plugin.score.measures import PlainMapper
from sf_plugin.session import Narrator
from sf_plugin.tracking.document import DocumentOnsets
from sf_plugin.tracking.tracker import (
    LONGEST,
    NEARBY,
    NEIGHBOURS,
    STAY,
    STEPS,
    STRIKE,
    Leap,
    Tracker,
    TrackerConfig,
    softmax,
)

FPS = 40
NOTES = 16
"""Onsets a system."""
EQUAL = (0.5,)
UNEQUAL = (1.0, 0.5, 0.5, 0.25, 0.25, 1.5, 2 / 3, 1 / 3)
"""Quarter notes of the onsets, over and over."""
CONFIG = TrackerConfig(
    change=0.4, jump=1e-3, search=0.02, pause_jump=0.05, trust=0.0, accent=0.3, unheard=0.4,
    glance=0.7, calibration=(1.5, 0.4, 0.4), known=(-2.5, 2.0, 1.0), tracking=0.65, lost=0.3,
)  # fmt: skip
"""For the logits of `logits_at`: 9 where the music is, 6 where other music fits."""


@dataclass(frozen=True)
class Page:
    """What an encoded page gives to the document."""

    layout: PageLayout
    x: np.ndarray
    system: np.ndarray
    beats: np.ndarray
    twins: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.int64))


def make_page(number: int, systems: int, beats: Sequence[float]) -> Page:
    """Equal systems with notes at equal distances after a clef's width."""
    height = 0.8 / systems
    boxes = [System(0.1 + i * height, 0.1 + (i + 0.6) * height, 0.1, 0.9) for i in range(systems)]
    return Page(
        PageLayout(number, tuple(boxes)),
        np.tile(np.linspace(0.2, 0.88, NOTES, dtype=np.float32), systems),
        np.repeat(np.arange(systems), NOTES),
        np.resize(np.array(beats, np.float32), systems * NOTES),
    )


def make_document(
    pages: int = 2, systems: int = 3, beats: Sequence[float] = EQUAL
) -> DocumentOnsets:
    return DocumentOnsets.of_pages([make_page(n, systems, beats) for n in range(1, pages + 1)])


def logits_at(document: DocumentOnsets, note: int, rng: np.random.Generator) -> np.ndarray:
    """A belief in one note and a little in its neighbours over noise, with a rival elsewhere."""
    logits = rng.normal(0, 1, len(document)).astype(np.float32)
    away = np.arange(len(document)) - note
    logits += 9 * np.exp(-0.5 * (away / 0.8) ** 2).astype(np.float32)
    logits[(note + rng.integers(3, len(document) - 3)) % len(document)] += 5
    return logits


def played(
    document: DocumentOnsets, notes: range | list[int], tempo: float | Sequence[float] = 1.5
) -> list[int]:
    """The note that sounds in every frame, at quarter notes a second, of each note if several."""
    times = np.cumsum(document.beats[list(notes)] / np.array(tempo))
    frames = np.arange(int(times[-1] * FPS + 1e-3)) / FPS + 1e-6
    return [notes[n] for n in np.searchsorted(times, frames, side="right")]


def move(
    tracker: Tracker, belief: np.ndarray, leap: Leap = STAY, struck: float = 1.0
) -> np.ndarray:
    """A frame's motion when every onset is heard alike."""
    heard = np.full(len(tracker.document), 1 / len(tracker.document), np.float32)
    return tracker.move(belief, leap, heard, struck)


def follow(
    tracker: Tracker, frames: Sequence[int | None], start: float = 0.0, seed: int = 0
) -> list[Estimate]:
    """Estimates for the notes that sound; None is silence."""
    rng = np.random.default_rng(seed)
    document, out = tracker.document, []
    since = 0
    for n, note in enumerate(frames):
        since = since + 1 if n and note == frames[n - 1] else 0
        if note is None:
            logits = rng.normal(0, 1, len(document)).astype(np.float32)
        else:
            logits = logits_at(document, note, rng)
        struck = 0.9 if note is not None and since < STRIKE * FPS else 0.05
        out.append(tracker.step(logits, start + n / FPS, quiet=note is None, struck=struck))
    return out


def near(estimates: Sequence[Estimate], document: DocumentOnsets, notes: Sequence[int]) -> list:
    """Of each whether it is on the right system, and within a note."""
    step = 0.68 / (NOTES - 1)
    return [
        e.page == document.page[note]
        and abs(e.y - document.y[note]) < 0.01
        and abs(e.x - document.x[note]) < 1.5 * step
        for e, note in zip(estimates, notes, strict=True)
    ]


@pytest.mark.parametrize("beats", [EQUAL, UNEQUAL], ids=["equal", "unequal"])
@pytest.mark.parametrize("tempo", [0.5, 1.0, 2.0, 3.5])
def test_a_performance_is_followed_over_systems_and_pages(
    tempo: float, beats: Sequence[float]
) -> None:
    document = make_document(pages=3, systems=2, beats=beats)
    frames = played(document, range(len(document)), tempo)
    estimates = follow(Tracker(document, FPS, CONFIG), [*[None] * 20, *frames])[20:]
    assert np.mean(near(estimates, document, frames)[FPS:]) > 0.99
    assert np.mean([e.state == "tracking" for e in estimates[FPS:]]) > 0.98
    assert {e.page for e in estimates} == {1, 2, 3}
    pages = np.array([e.page for e in estimates[FPS:]])
    assert np.mean(pages != np.maximum.accumulate(pages)) < 0.01


def test_the_page_says_how_long_a_note_lasts() -> None:
    document = make_document(pages=1, systems=1, beats=(1.0, 1.0, 1.0, 4.0, 0.25, 0.25))
    tracker = Tracker(document, FPS, CONFIG)
    frames = played(document, range(9), 1.5)
    follow(tracker, frames[: frames.index(4)])
    flat = np.zeros(len(document), np.float32)
    likely = []
    for n in range(round(1.25 / 1.5 * FPS)):  # the two short ones and two of a quarter note
        tracker.step(flat, 9 + n / FPS, struck=1.0)
        likely.append(int(np.argmax(tracker.belief())))
    assert likely == sorted(likely)
    assert likely[0] == 3 or likely[0] == 4
    assert likely[-1] in (6, 7)
    held = follow(Tracker(document, FPS, CONFIG), frames[: frames.index(4)])
    assert near(held[-1:], document, [3]) == [True]


def test_a_held_note_is_left_later_while_no_other_is_struck() -> None:
    document = make_document(pages=1, systems=1, beats=(1.0, 1.0, 1.0, 2.0, 1.0, 1.0))
    flat = np.zeros(len(document), np.float32)
    stays = {}
    for unheard in (0.0, 0.4):
        tracker = Tracker(document, FPS, replace(CONFIG, unheard=unheard))
        follow(tracker, played(document, range(4), 1.5))
        for n in range(FPS):  # a quarter note and a half
            tracker.step(flat, 9 + n / FPS, struck=0.0)
        stays[unheard] = float(tracker.belief()[:4].sum())
    assert stays[0.4] > 1.5 * stays[0.0]
    belief = tracker._memory.belief
    assert tracker.move(belief, Leap(), flat, 0.0).sum() < 0.999
    assert tracker.move(belief, Leap(), flat, 1.0).sum() == pytest.approx(1, abs=1e-5)


def test_what_is_given_up_comes_to_another_onset_while_nothing_is_struck() -> None:
    document = make_document(pages=1, systems=1, beats=(1.0, 0.25))
    tracker = Tracker(document, FPS, replace(CONFIG, change=0.0))
    fast = int(np.argmax(tracker.config.tempi))
    kept = {}
    for onset in (2, 3):
        belief = np.zeros((len(tracker.config.tempi), len(tracker.onset_of)), np.float32)
        belief[fast, tracker.first_place[onset + 1] - 1] = 1
        assert move(tracker, belief).sum() == pytest.approx(1)
        kept[onset] = float(move(tracker, belief, struck=0.0).sum())
    assert kept[2] == pytest.approx(1 - CONFIG.unheard)
    assert kept[3] == pytest.approx(1 - CONFIG.unheard / 4)


def test_a_changing_tempo_is_followed() -> None:
    document = make_document(beats=UNEQUAL)
    tempo = [2.4 if note % 24 < 12 else 0.8 for note in range(len(document))]
    frames = played(document, range(len(document)), tempo)
    estimates = follow(Tracker(document, FPS, CONFIG), frames)
    assert np.mean(near(estimates, document, frames)[FPS:]) > 0.98


def test_a_performance_that_begins_in_the_middle_is_found() -> None:
    document = make_document(pages=3)
    frames = played(document, range(70, 110))
    estimates = follow(Tracker(document, FPS, CONFIG), frames)
    assert all(near(estimates, document, frames)[2 * FPS :])


@pytest.mark.parametrize(("leave", "land"), [(30, 90), (95, 12), (20, 24 + NOTES), (144, 0)])
def test_a_jump_is_found_within_two_seconds(leave: int, land: int) -> None:
    document = make_document(pages=3, beats=UNEQUAL)
    before = played(document, range(leave))
    after = played(document, range(land, land + 20))
    estimates = follow(Tracker(document, FPS, CONFIG), before + after)
    assert all(near(estimates[len(before) - 5 : len(before)], document, before[-5:]))
    assert all(near(estimates[len(before) :], document, after)[2 * FPS :])
    assert estimates[-1].state == "tracking"


def test_hearing_nothing_known_makes_unsure_then_lost_then_found_again() -> None:
    document = make_document(pages=3)
    tracker = Tracker(document, FPS, CONFIG)
    before = follow(tracker, played(document, range(30)))
    flat = np.zeros(len(document), np.float32)
    doubt = [tracker.step(flat, 10 + n / FPS, struck=0.3) for n in range(30 * FPS)]
    states = [e.state for e in doubt]
    assert before[-1].state == "tracking"
    assert "unsure" in states[: states.index("lost")]
    assert states[-1] == "lost"
    assert max(e.confidence for e in doubt if e.state == "lost") < 0.5
    frames = played(document, range(100, 115))
    estimates = follow(tracker, frames, start=40)
    assert all(near(estimates, document, frames)[2 * FPS :])
    assert estimates[-1].state == "tracking"


def test_who_is_lost_looks_everywhere() -> None:
    document = make_document(pages=3)
    frames = played(document, range(20, 30))
    found = []
    for search in (2e-5, 0.02, 0.5):
        tracker = Tracker(document, FPS, replace(CONFIG, search=search, glance=0.0))
        follow(tracker, played(document, range(30)))
        flat = np.zeros(len(document), np.float32)
        for n in range(60 * FPS):
            estimate = tracker.step(flat, 10 + n / FPS, struck=0.0)
        assert estimate.state == "lost"
        found.append(near(follow(tracker, frames, start=70), document, frames).index(True))
    assert found[0] > found[1] > found[2]


def test_noise_is_not_taken_for_music() -> None:
    document = make_document(pages=8)
    tracker = Tracker(document, FPS, CONFIG)
    follow(tracker, played(document, range(30)))
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 1, (30 * FPS, len(document))).astype(np.float32)
    estimates = [tracker.step(logits, 10 + n / FPS) for n, logits in enumerate(noise)]
    assert np.mean([e.state == "tracking" for e in estimates[5 * FPS :]]) < 0.1


def other_music(document: DocumentOnsets, seconds: float, seed: int = 5) -> np.ndarray:
    """(frames, onsets) logits of a piece that is not printed: three times a second a new place
    fits somewhat."""
    rng = np.random.default_rng(seed)
    notes = np.repeat(rng.integers(0, len(document), int(3 * seconds)), FPS // 3)
    logits = np.array([logits_at(document, int(note), rng) for note in notes], np.float32)
    return logits * np.float32(0.7)


def hear_other(tracker: Tracker, seconds: float, start: float) -> list[Estimate]:
    """Estimates while another piece is played."""
    return [
        tracker.step(row, start + n / FPS, struck=0.9 if n % (FPS // 3) < 3 else 0.05)
        for n, row in enumerate(other_music(tracker.document, seconds))
    ]


def test_another_piece_is_not_followed_and_turns_nothing() -> None:
    document = make_document(pages=4)
    layout = Layout(tuple(make_page(n, 3, EQUAL).layout for n in range(1, 5)))
    narrator = Narrator(layout, PlainMapper())
    estimates = hear_other(Tracker(document, FPS, CONFIG), 40, 0.0)
    events = [event for said in estimates for event in narrator.tell(said)]
    assert not any(isinstance(event, PageTurn) for event in events)
    assert np.mean([e.state == "tracking" for e in estimates]) < 0.05
    assert np.mean([e.confidence for e in estimates]) < 0.3


def test_another_piece_in_between_is_lost_within_six_seconds_and_left_in_two() -> None:
    document = make_document(pages=3)
    tracker = Tracker(document, FPS, CONFIG)
    first = played(document, range(40))
    assert follow(tracker, first)[-1].state == "tracking"
    here = len(first) / FPS
    between = hear_other(tracker, 10, here)
    states = [e.state for e in between]
    assert "tracking" not in states[3 * FPS :]
    assert "lost" in states[: 6 * FPS]
    assert states[-1] == "lost"
    again = played(document, range(90, 110))
    estimates = follow(tracker, again, start=here + 10)
    assert all(near(estimates, document, again)[2 * FPS :])
    assert {e.state for e in estimates[2 * FPS :]} == {"tracking"}


def test_silence_at_the_start_is_waiting() -> None:
    document = make_document()
    tracker = Tracker(document, FPS, CONFIG)
    silence = follow(tracker, [None] * (30 * FPS))
    assert {e.state for e in silence} == {"waiting"}
    assert {e.confidence for e in silence} == {0.0}
    assert near(silence[-1:], document, [0]) == [True]
    frames = played(document, range(20))
    estimates = follow(tracker, frames, start=30)
    assert estimates[-1].state == "tracking"
    assert near(estimates, document, frames)[-1]


def test_what_sounds_before_a_note_is_struck_is_waiting() -> None:
    document = make_document()
    tracker = Tracker(document, FPS, CONFIG)
    rng = np.random.default_rng(0)
    before = tracker.belief()
    for n in range(5 * FPS):
        estimate = tracker.step(logits_at(document, 40, rng), n / FPS, struck=0.4)
        assert (estimate.state, estimate.confidence) == ("waiting", 0.0)
    assert (tracker.belief() == before).all()
    assert tracker.step(logits_at(document, 40, rng), 5.0, struck=0.6).confidence > 0


def test_a_pause_inside_the_piece_does_not_end_it() -> None:
    document = make_document()
    tracker = Tracker(document, FPS, CONFIG)
    follow(tracker, played(document, range(20)))
    pause = follow(tracker, [None] * (6 * FPS), start=7)
    assert "ended" not in {e.state for e in pause}
    frames = played(document, range(20, 30))
    assert all(near(follow(tracker, frames, start=13), document, frames)[FPS:])


def test_in_silence_no_onset_is_come_to() -> None:
    document = make_document()
    tracker = Tracker(document, FPS, CONFIG)
    last = follow(tracker, played(document, range(20)))[-1]
    silence = follow(tracker, [None] * 2 * FPS, start=7)
    assert {(e.page, e.x, e.y) for e in silence} == {(last.page, last.x, last.y)}


def test_silence_after_the_last_note_is_the_end() -> None:
    document = make_document()
    tracker = Tracker(document, FPS, CONFIG)
    frames = played(document, range(len(document)))
    last = follow(tracker, frames)[-1]
    assert last.state == "tracking"
    silence = follow(tracker, [None] * (6 * FPS), start=len(frames) / FPS)
    assert silence[-1].state == "ended"
    again = played(document, range(20))
    estimates = follow(tracker, again, start=len(frames) / FPS + 6)
    assert estimates[-1].state == "tracking"
    assert all(near(estimates, document, again)[2 * FPS :])


@pytest.mark.parametrize(("notes", "state"), [(96, "ended"), (60, "lost")])
def test_applause_is_the_end_after_the_last_notes_only(notes: int, state: str) -> None:
    document = make_document()
    tracker = Tracker(document, FPS, CONFIG)
    frames = played(document, range(notes))
    assert follow(tracker, frames)[-1].state == "tracking"
    rng = np.random.default_rng(2)
    claps = rng.normal(2, 1, (8 * FPS, len(document))).astype(np.float32)
    heard = [
        tracker.step(logits, (len(frames) + n) / FPS, struck=float(rng.uniform(0.2, 0.8)))
        for n, logits in enumerate(claps)
    ]
    assert heard[-1].state == state
    assert state in {e.state for e in heard[: 6 * FPS]}
    again = played(document, range(20))
    estimates = follow(tracker, again, start=len(frames) / FPS + 8)
    assert all(near(estimates, document, again)[2 * FPS :])
    assert {e.state for e in estimates[2 * FPS :]} == {"tracking"}


def test_noise_before_the_music_is_not_followed_and_does_not_hide_its_beginning() -> None:
    document = make_document(pages=3)
    tracker = Tracker(document, FPS, CONFIG)
    rng = np.random.default_rng(2)
    talk = rng.normal(2, 1, (8 * FPS, len(document))).astype(np.float32)
    heard = [
        tracker.step(row, n / FPS, struck=float(rng.uniform(0.2, 0.8)))
        for n, row in enumerate(talk)
    ]
    assert {e.state for e in heard} == {"waiting", "lost"}
    follow(tracker, [None] * FPS, start=8.0)
    frames = played(document, range(20))
    estimates = follow(tracker, frames, start=9.0)
    assert all(near(estimates, document, frames)[2 * FPS :])
    assert {e.state for e in estimates[2 * FPS :]} == {"tracking"}


BEATS = st.floats(2.0**-10, 2.0**10, width=32) | st.sampled_from([0.0, 1e-30, 1e30])


@settings(max_examples=40, deadline=None)
@given(
    beats=st.lists(BEATS, min_size=1, max_size=9),
    notes=st.lists(st.none() | st.integers(0, 2 * 3 * NOTES - 1), max_size=25),
    goto=st.none() | st.tuples(st.integers(1, 2), st.floats(0, 1), st.floats(0, 1)),
)
def test_the_belief_is_a_probability(
    beats: list[float], notes: list[int | None], goto: tuple[int, float, float] | None
) -> None:
    document = make_document(beats=beats)
    tracker = Tracker(document, FPS, CONFIG)
    follow(tracker, notes)
    if goto is not None:
        tracker.goto(*goto)
    belief = tracker.belief()
    assert belief.shape == (len(document),)
    assert (belief >= 0).all()
    assert belief.sum() == pytest.approx(1, abs=1e-4)


@settings(max_examples=80, deadline=None)
@given(
    arrays.arrays(
        np.float32,
        (6, NOTES),
        elements=st.floats(-1e6, 1e6, width=32),
        fill=st.sampled_from([np.float32(0), np.float32(-50), np.float32(1e6)]),
    ),
    st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=6, max_size=6),
    st.lists(BEATS, min_size=1, max_size=NOTES),
)
def test_any_finite_logits_give_an_estimate(
    logits: np.ndarray, heard: list[tuple[bool, float]], beats: list[float]
) -> None:
    document = make_document(pages=1, systems=1, beats=beats)
    tracker = Tracker(document, FPS, CONFIG)
    for n, (quiet, struck) in enumerate(heard):
        estimate = tracker.step(logits[n], n / FPS, quiet=quiet, struck=struck)
        assert estimate.time == round(n / FPS, 4)
        assert estimate.page == 1
        assert 0 <= estimate.x <= 1
        assert 0 <= estimate.y <= 1
        assert 0 <= estimate.confidence <= 1
        assert (tracker.belief() >= 0).all()
        assert tracker.belief().sum() == pytest.approx(1, abs=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(BEATS, min_size=1, max_size=12), min_size=1, max_size=4))
def test_systems_of_any_length_and_content_can_be_followed(beats: list[list[float]]) -> None:
    height = 0.9 / len(beats)
    boxes = [System(i * height, (i + 0.5) * height, 0.1, 0.9) for i in range(len(beats))]
    system = np.concatenate([np.full(len(row), i) for i, row in enumerate(beats)])
    page = Page(
        PageLayout(1, tuple(boxes)),
        np.linspace(0.1, 0.9, len(system), dtype=np.float32),
        system,
        np.concatenate([np.array(row, np.float32) for row in beats]),
    )
    document = DocumentOnsets.of_pages([page])
    tracker = Tracker(document, FPS, CONFIG)
    rng = np.random.default_rng(0)
    for n in range(5):
        logits = rng.normal(0, 3, len(document)).astype(np.float32)
        assert tracker.step(logits, n / FPS).page == 1
    assert tracker.belief().sum() == pytest.approx(1, abs=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    beats=st.lists(BEATS, min_size=1, max_size=30),
    jump=st.floats(0, 1),
    share=st.floats(0, 1),
    fps=st.sampled_from([1, 10, 20, 40, 100]),
    seed=st.integers(0, 1000),
)
def test_motion_keeps_the_mass(
    beats: list[float], jump: float, share: float, fps: int, seed: int
) -> None:
    document = make_document(pages=1, systems=2, beats=beats)
    tracker = Tracker(document, fps, CONFIG)
    places = len(tracker.onset_of)
    assert places == np.clip(np.round(document.beats * STEPS), 1, LONGEST).sum()
    shape = (len(tracker.config.tempi), places)
    belief = np.random.default_rng(seed).random(shape, np.float32) ** 8
    belief /= belief.sum()
    for _ in range(5):
        belief = move(tracker, belief, Leap(jump * (1 - share), jump * share))
        assert (belief >= 0).all()
        assert belief.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("fps", [20, 40])
def test_motion_is_as_fast_as_the_tempo_says(fps: int) -> None:
    document = make_document(pages=4, beats=(1.0,))
    config = TrackerConfig(change=0.0)
    tracker = Tracker(document, fps, config)
    belief = np.zeros((len(config.tempi), len(tracker.onset_of)), np.float32)
    belief[:, 0] = 1 / len(belief)
    for _ in range(4 * fps):
        belief = move(tracker, belief)
    quarters = belief @ np.arange(belief.shape[1]) / belief.sum(1) / STEPS
    np.testing.assert_allclose(quarters, 4 * np.array(config.tempi), rtol=1e-3)
    np.testing.assert_allclose(belief.sum(1), 1 / len(belief), rtol=1e-4)


def test_the_tempo_changes_as_often_a_second_at_any_frame_rate() -> None:
    document = make_document(pages=4)
    kept = []
    for fps in (20, 40, 80):
        tracker = Tracker(document, fps, CONFIG)
        belief = np.zeros((len(tracker.config.tempi), len(tracker.onset_of)), np.float32)
        belief[5, 0] = 1
        for _ in range(fps):
            belief = move(tracker, belief)
        kept.append(belief[5].sum())
    assert kept == pytest.approx([np.exp(-tracker.config.change)] * 3, abs=0.05)


def test_a_jump_lands_where_notes_begin_at_any_tempo() -> None:
    tracker = Tracker(make_document(beats=UNEQUAL), FPS, CONFIG)
    belief = np.zeros((len(tracker.config.tempi), len(tracker.onset_of)), np.float32)
    belief[3, 100] = 1
    landed = move(tracker, belief, Leap(1.0))
    assert (np.flatnonzero(landed.sum(0)) == tracker.first_place).all()
    np.testing.assert_allclose(landed.sum(1), 1 / len(landed), rtol=1e-4)


def test_a_jump_goes_where_the_frame_hears_it_if_it_hears_it_clearly_and_not_here() -> None:
    document = make_document(beats=UNEQUAL)
    tracker = Tracker(document, FPS, CONFIG)
    follow(tracker, played(document, range(10), 1.0))
    there = np.full(len(document), -5, np.float32)
    there[60] = 9
    both = np.array(there)
    both[9] = 9
    chances = []
    for logits in (there, both, np.zeros(len(document), np.float32)):
        heard = softmax(logits)
        leap = tracker._leap(heard, 1.0, rested=False)
        chances.append(leap.there)
        assert 0 < leap.anywhere < CONFIG.jump
        landed = tracker.of_onsets(tracker.move(tracker._anywhere, Leap(0.0, 1.0), heard, 1.0))
        assert landed[np.argmax(heard)] == landed.max()
    assert chances[0] > 0.01 * CONFIG.jump
    assert chances[1] == chances[2] == 0
    assert tracker._leap(softmax(there), 0.2, rested=False).there == 0


def test_half_of_the_jumps_stay_near() -> None:
    document = make_document(pages=6, systems=3)
    document = replace(document, measure=np.arange(len(document)) // 2 + 1)
    tracker = Tracker(document, FPS, CONFIG)
    origin = 100
    near = np.abs(document.measure - document.measure[origin]) <= NEIGHBOURS
    at_origin = np.zeros_like(tracker._anywhere)
    at_origin[0, tracker.first_place[origin]] = 1
    landed = tracker.of_onsets(move(tracker, at_origin, Leap(1.0, origin=origin)))
    share = float(tracker._likely[near].sum())
    assert landed.sum() == pytest.approx(1, abs=1e-4)
    assert landed[near].sum() == pytest.approx(NEARBY + (1 - NEARBY) * share, abs=1e-3)
    heard = np.zeros(len(document), np.float32)
    heard[[origin + 10, origin - 90]] = 0.5
    landed = tracker.of_onsets(tracker.move(at_origin, Leap(0.0, 1.0, origin), heard, 1.0))
    assert landed[origin + 10] > 5 * landed[origin - 90] > 0
    leap = tracker._leap(heard, 1.0, rested=True)
    assert leap.origin == tracker._memory.anchor


def test_a_jump_is_less_likely_between_fast_notes() -> None:
    document = make_document()
    chances = []
    for tempo in (0.5, 1.0, 3.0):
        tracker = Tracker(document, FPS, CONFIG)
        follow(tracker, played(document, range(10), tempo))
        heard = np.full(len(document), 1 / len(document), np.float32)
        chances.append(tracker._leap(heard, 1.0, rested=False).chance)
    assert chances == pytest.approx([chances[0], chances[0] / 4, chances[0] / 36], rel=0.3)


@pytest.mark.parametrize(("seconds", "rests"), [(0.2, 0), (0.6, 1), (5.0, 1)])
def test_a_jump_is_likelier_after_a_silence(seconds: float, rests: int) -> None:
    document = make_document(pages=3)
    elsewhere = slice(100, None)
    mass = {}
    for pause_jump in (0.0, 0.01, 0.1):
        config = replace(CONFIG, pause_jump=pause_jump, trust=0.0, accent=0.0)
        tracker = Tracker(document, FPS, config)
        follow(tracker, played(document, range(30)))
        tracker.goto(1, *(float(v[20]) for v in (document.x, document.y)))
        flat = np.zeros(len(document), np.float32)
        silence = round(seconds * FPS)
        for n in range(silence):
            tracker.step(flat, 10 + n / FPS, quiet=True, struck=0.0)
        before = tracker.belief()[elsewhere].sum()
        tracker.step(flat, 10 + silence / FPS)
        mass[pause_jump] = tracker.belief()[elsewhere].sum() - before
        before = tracker.belief()[elsewhere].sum()
        tracker.step(flat, 10 + (silence + 1) / FPS)
        assert tracker.belief()[elsewhere].sum() - before < 1e-4
    share = rests * tracker.of_onsets(tracker._anywhere)[elsewhere].sum()
    assert mass[0.0] < 1e-4
    assert mass[0.01] == pytest.approx(0.01 * share, rel=0.1, abs=1e-4)
    assert mass[0.1] == pytest.approx(0.1 * share, rel=0.1, abs=1e-4)


def test_evidence_grows_with_trust_and_with_a_strike() -> None:
    document = make_document(pages=1, systems=1)
    heard = np.array([0.9, *[0.1 / (NOTES - 1)] * (NOTES - 1)], np.float32)

    def odds(fps: int, struck: float) -> float:
        seen = Tracker(document, fps, TrackerConfig(trust=1.0, accent=0.3, doubt=1e-4)).evidence(
            heard, struck
        )
        return float(np.log(seen[0] / seen[1]))

    whole = np.log((0.9 + 1e-4) / (0.1 / (NOTES - 1) + 1e-4))
    for fps in (20, 40, 80):
        assert fps * odds(fps, 0.0) == pytest.approx(whole, rel=1e-3)  # in a second
        strike = STRIKE * fps * (odds(fps, 1.0) - odds(fps, 0.0))
        assert strike == pytest.approx(0.3 * whole, rel=1e-3)  # in a strike


def test_a_reset_tracker_gives_the_same_answers() -> None:
    document = make_document()
    tracker = Tracker(document, FPS, CONFIG)
    frames: list[int | None] = [None] * 5
    frames += played(document, range(20)) + played(document, [70, 71])
    first = follow(tracker, frames)
    tracker.goto(2, 0.5, 0.5)
    tracker.reset()
    assert follow(tracker, frames) == first
    assert follow(Tracker(document, FPS, CONFIG), frames) == first


def test_the_past_does_not_depend_on_the_future() -> None:
    document = make_document()
    common = played(document, range(20))
    one = follow(Tracker(document, FPS, CONFIG), common + played(document, range(20, 30)))
    other = follow(Tracker(document, FPS, CONFIG), common + played(document, range(60, 70)))
    assert one[: len(common)] == other[: len(common)]
    assert one != other


def test_goto_is_believed_until_the_music_says_otherwise() -> None:
    document = make_document(pages=3)
    tracker = Tracker(document, FPS, CONFIG)
    follow(tracker, played(document, range(10)))
    note = 5 * NOTES + 6
    tracker.goto(int(document.page[note]), float(document.x[note]), float(document.y[note]))
    assert tracker.belief()[note - 4 : note + 5].sum() > 0.95
    flat = np.zeros(len(document), np.float32)
    assert near([tracker.step(flat, 4.0)], document, [note]) == [True]
    frames = played(document, range(note, note + 5))
    assert near(follow(tracker, frames, start=4 + 1 / FPS), document, frames)[-1]
    frames = played(document, range(12))
    assert near(follow(tracker, frames, start=8.0), document, frames)[-1]


@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (1.0, 1.0), (0.5, 0.99), (-3.0, 7.0)])
def test_goto_beside_the_music_goes_to_the_nearest(x: float, y: float) -> None:
    document = make_document(pages=2, systems=2)
    tracker = Tracker(document, FPS, CONFIG)
    follow(tracker, played(document, range(10)))
    tracker.goto(2, x, y)
    estimate = tracker.step(np.zeros(len(document), np.float32), 4.0)
    assert estimate.page == 2
    assert (estimate.y < 0.5) == (y < 0.5)


def test_memory_does_not_grow() -> None:
    document = make_document(pages=1)
    tracker = Tracker(document, FPS, CONFIG)
    follow(tracker, played(document, range(20)))
    size = len(pickle.dumps(tracker))
    follow(tracker, played(document, range(30), 0.5), start=7)
    assert len(pickle.dumps(tracker)) <= size + 100


def test_the_document_is_in_reading_order() -> None:
    document = make_document(pages=2, systems=3, beats=UNEQUAL)
    assert len(document) == 6 * NOTES
    assert document.page.tolist() == [1] * 3 * NOTES + [2] * 3 * NOTES
    assert document.system.tolist() == np.repeat(np.arange(6), NOTES).tolist()
    assert document.beats[:8].tolist() == pytest.approx(list(UNEQUAL))
    assert document.y[0] == pytest.approx(0.1 + 0.3 * 0.8 / 3)


def test_the_nearest_onset_is_on_the_page_then_the_system_then_the_place() -> None:
    document = make_document(pages=2, systems=2)
    for note in (0, NOTES - 1, NOTES, 2 * NOTES + 3, len(document) - 1):
        place = float(document.x[note]), float(document.y[note])
        assert document.nearest(int(document.page[note]), *place) == note
    assert document.nearest(2, 0.0, 0.0) == 2 * NOTES
    assert document.nearest(9, 1.0, 1.0) == len(document) - 1


def test_the_first_onset_after_each_bar_line_opens_a_measure() -> None:
    measures = (Measure(1, 0.0, 0.35), Measure(2, 0.35, 0.5), Measure(3, 0.5, 0.9))
    systems = tuple(System(0.1 + 0.5 * i, 0.3 + 0.5 * i, 0.0, 1.0, measures) for i in range(2))
    x = np.array([0.1, 0.2, 0.34, 0.36, 0.4, 0.7, 0.8, 0.55, 0.6], np.float32)
    system = np.array([0] * 7 + [1] * 2)
    page = Page(PageLayout(1, systems), x, system, np.ones(9, np.float32))
    document = DocumentOnsets.of_pages([page])
    assert np.flatnonzero(document.opens).tolist() == [0, 3, 5, 7]
    bare = Page(PageLayout(1, (System(0.1, 0.3, 0.0, 1.0),)), x, 0 * system, np.ones(9, np.float32))
    assert np.flatnonzero(DocumentOnsets.of_pages([bare]).opens).tolist() == [0]
