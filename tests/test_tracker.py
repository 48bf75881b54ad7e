from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sf_plugin.positions import Estimate
from sf_plugin.score.layout import PageLayout, System
from sf_plugin.tracking.document import DocumentCells
from sf_plugin.tracking.tracker import Tracker

FPS = 20
WIDTH = 60
"""Cells a system."""
FIRST_NOTE, SPACING = 8, 4
NOTES = (WIDTH - FIRST_NOTE) // SPACING


@dataclass(frozen=True)
class Page:
    """What an encoded page gives to the document."""

    layout: PageLayout
    x: np.ndarray
    system: np.ndarray
    onset: np.ndarray


def make_page(number: int, systems: int) -> Page:
    """Equal systems with a note every four cells after a clef's width."""
    height = 0.8 / systems
    boxes = [System(0.1 + i * height, 0.1 + (i + 0.6) * height, 0.1, 0.9) for i in range(systems)]
    onset = np.full(WIDTH, 0.01, np.float32)
    onset[FIRST_NOTE::SPACING] = 0.9
    return Page(
        PageLayout(number, tuple(boxes)),
        np.tile(0.1 + 0.8 * (np.arange(WIDTH, dtype=np.float32) + 0.5) / WIDTH, systems),
        np.repeat(np.arange(systems, dtype=np.int32), WIDTH),
        np.tile(onset, systems),
    )


def make_document(pages: int = 2, systems: int = 3) -> DocumentCells:
    return DocumentCells.of_pages([make_page(page, systems) for page in range(1, pages + 1)])


def note_cell(note: int) -> int:
    """The cell of a note counted through the whole document."""
    return note // NOTES * WIDTH + FIRST_NOTE + note % NOTES * SPACING


def notes_in(document: DocumentCells) -> int:
    return len(document) // WIDTH * NOTES


def logits_at(document: DocumentCells, note: int, rng: np.random.Generator) -> np.ndarray:
    """A belief in one note over noise, with a rival somewhere else."""
    logits = rng.normal(0, 1, len(document)).astype(np.float32)
    away = np.arange(len(document)) - note_cell(note)
    logits += 9 * np.exp(-0.5 * (away / 1.5) ** 2).astype(np.float32)
    logits[rng.integers(len(document))] += 5
    return logits


def played(notes: range | list[int], seconds_a_note: float) -> list[int]:
    """The note that sounds in every frame."""
    frames = round(len(notes) * seconds_a_note * FPS)
    return [notes[int(frame / FPS / seconds_a_note)] for frame in range(frames)]


def follow(
    tracker: Tracker, frames: Sequence[int | None], start: float = 0.0, seed: int = 0
) -> list[Estimate]:
    """Estimates for the notes that sound; None is silence."""
    rng = np.random.default_rng(seed)
    document, out = tracker.document, []
    for n, note in enumerate(frames):
        if note is None:
            logits = rng.normal(0, 1, len(document)).astype(np.float32)
        else:
            logits = logits_at(document, note, rng)
        out.append(tracker.step(logits, start + n / FPS, quiet=note is None))
    return out


def is_near(estimate: Estimate, document: DocumentCells, note: int, notes: int = 2) -> bool:
    """On the right system, and within a few notes."""
    cell = note_cell(note)
    step = 0.8 / WIDTH * SPACING
    return (
        estimate.page == document.page[cell]
        and abs(estimate.y - document.y[cell]) < 0.01
        and abs(estimate.x - document.x[cell]) < (notes + 0.5) * step
    )


@pytest.mark.parametrize("seconds_a_note", [0.15, 0.25, 0.5, 1.0])
def test_a_performance_is_followed_over_systems_and_pages(seconds_a_note: float) -> None:
    document = make_document(pages=3, systems=2)
    frames = played(range(notes_in(document)), seconds_a_note)
    estimates = follow(Tracker(document, FPS), [*[None] * 10, *frames])[10:]
    right = [is_near(e, document, note) for e, note in zip(estimates, frames, strict=True)]
    assert np.mean(right[FPS:]) > 0.98
    assert np.mean([e.state == "tracking" for e in estimates[FPS:]]) > 0.98
    assert {e.page for e in estimates} == {1, 2, 3}
    pages = [e.page for e in estimates[FPS:]]
    assert pages == sorted(pages)


def test_a_changing_tempo_is_followed() -> None:
    document = make_document()
    frames: list[int] = []
    for note in range(notes_in(document)):
        frames += [note] * round(FPS * (0.15 if note % 30 < 15 else 0.6))
    estimates = follow(Tracker(document, FPS), frames)
    right = [is_near(e, document, note) for e, note in zip(estimates, frames, strict=True)]
    assert np.mean(right[FPS:]) > 0.95


def test_a_performance_that_begins_in_the_middle_is_found() -> None:
    document = make_document(pages=3)
    frames = played(range(70, 110), 0.3)
    estimates = follow(Tracker(document, FPS), frames)
    right = [is_near(e, document, note) for e, note in zip(estimates, frames, strict=True)]
    assert all(right[2 * FPS :])


@pytest.mark.parametrize(("leave", "land"), [(30, 90), (95, 12), (20, 24 + NOTES)])
def test_a_jump_is_found_within_two_seconds(leave: int, land: int) -> None:
    document = make_document(pages=3)
    before, after = played(range(leave), 0.3), played(range(land, land + 20), 0.3)
    estimates = follow(Tracker(document, FPS), before + after)
    landed = [
        is_near(e, document, note) for e, note in zip(estimates[len(before) :], after, strict=True)
    ]
    assert is_near(estimates[len(before) - 1], document, leave - 1)
    assert all(landed[2 * FPS :])
    assert estimates[-1].state == "tracking"


def test_hearing_nothing_known_makes_unsure_then_lost_then_found_again() -> None:
    document = make_document(pages=3)
    tracker = Tracker(document, FPS)
    before = follow(tracker, played(range(30), 0.3))
    flat = np.zeros(len(document), np.float32)
    doubt = [tracker.step(flat, 9 + n / FPS) for n in range(20 * FPS)]
    states = [e.state for e in doubt]
    assert before[-1].state == "tracking"
    assert "unsure" in states[: states.index("lost")]
    assert states[-1] == "lost"
    assert max(e.confidence for e in doubt if e.state == "lost") < 0.5
    frames = played(range(100, 115), 0.3)
    estimates = follow(tracker, frames, start=29)
    right = [is_near(e, document, note) for e, note in zip(estimates, frames, strict=True)]
    assert all(right[2 * FPS :])
    assert estimates[-1].state == "tracking"


def test_noise_is_not_taken_for_music() -> None:
    document = make_document(pages=8)
    tracker = Tracker(document, FPS)
    follow(tracker, played(range(30), 0.3))
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 1, (30 * FPS, len(document))).astype(np.float32)
    estimates = [tracker.step(logits, 9 + n / FPS) for n, logits in enumerate(noise)]
    assert np.mean([e.state == "tracking" for e in estimates[5 * FPS :]]) < 0.1


def test_silence_at_the_start_is_waiting() -> None:
    document = make_document()
    tracker = Tracker(document, FPS)
    silence = follow(tracker, [None] * (30 * FPS))
    assert {e.state for e in silence} == {"waiting"}
    assert {e.confidence for e in silence} == {0.0}
    assert is_near(silence[-1], document, 0, 0)
    frames = played(range(20), 0.3)
    estimates = follow(tracker, frames, start=30)
    assert estimates[-1].state == "tracking"
    assert is_near(estimates[-1], document, frames[-1])


def test_a_pause_inside_the_piece_does_not_end_it() -> None:
    document = make_document()
    tracker = Tracker(document, FPS)
    follow(tracker, played(range(20), 0.3))
    pause = follow(tracker, [None] * (6 * FPS), start=6)
    assert "ended" not in {e.state for e in pause}


def test_silence_after_the_last_note_is_the_end() -> None:
    document = make_document()
    tracker = Tracker(document, FPS)
    frames = played(range(notes_in(document)), 0.3)
    last = follow(tracker, frames)[-1]
    assert last.state == "tracking"
    silence = follow(tracker, [None] * (6 * FPS), start=len(frames) / FPS)
    assert silence[-1].state == "ended"
    again = follow(tracker, played(range(20), 0.3), start=len(frames) / FPS + 6)
    assert again[-1].state == "tracking"


@settings(max_examples=40, deadline=None)
@given(
    notes=st.lists(st.integers(0, 2 * 3 * NOTES - 1), max_size=25),
    goto=st.none() | st.tuples(st.integers(1, 2), st.floats(0, 1), st.floats(0, 1)),
)
def test_the_belief_is_a_probability(
    notes: list[int], goto: tuple[int, float, float] | None
) -> None:
    document = make_document()
    tracker = Tracker(document, FPS)
    follow(tracker, list(notes))
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
        (4, 60),
        elements=st.floats(-1e6, 1e6, width=32),
        fill=st.sampled_from([np.float32(0), np.float32(-50), np.float32(1e6)]),
    ),
    st.lists(st.booleans(), min_size=4, max_size=4),
)
def test_any_finite_logits_give_an_estimate(logits: np.ndarray, quiet: list[bool]) -> None:
    document = make_document(pages=1, systems=1)
    tracker = Tracker(document, FPS)
    for n in range(4):
        estimate = tracker.step(logits[n], n / FPS, quiet=quiet[n])
        assert estimate.time == n / FPS
        assert estimate.page == 1
        assert 0 <= estimate.x <= 1
        assert 0 <= estimate.y <= 1
        assert 0 <= estimate.confidence <= 1
        assert np.isfinite(tracker.belief()).all()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=12), min_size=1, max_size=4)
)
def test_systems_of_any_length_and_content_can_be_followed(onsets: list[list[float]]) -> None:
    height = 0.9 / len(onsets)
    boxes = [System(i * height, (i + 0.5) * height, 0.1, 0.9) for i in range(len(onsets))]
    system = np.concatenate([np.full(len(o), i, np.int32) for i, o in enumerate(onsets)])
    page = Page(
        PageLayout(1, tuple(boxes)),
        np.linspace(0.1, 0.9, len(system), dtype=np.float32),
        system,
        np.concatenate([np.array(o, np.float32) for o in onsets]),
    )
    document = DocumentCells.of_pages([page])
    tracker = Tracker(document, FPS)
    rng = np.random.default_rng(0)
    for n in range(5):
        logits = rng.normal(0, 3, len(document)).astype(np.float32)
        assert tracker.step(logits, n / FPS).page == 1
    assert tracker.belief().sum() == pytest.approx(1, abs=1e-4)


def test_a_reset_tracker_gives_the_same_answers() -> None:
    document = make_document()
    tracker = Tracker(document, FPS)
    frames: list[int | None] = [None] * 5 + [*played(range(20), 0.3)] + [*played([70, 71], 0.5)]
    first = follow(tracker, frames)
    tracker.goto(2, 0.5, 0.5)
    tracker.reset()
    assert follow(tracker, frames) == first
    assert follow(Tracker(document, FPS), frames) == first


def test_the_past_does_not_depend_on_the_future() -> None:
    document = make_document()
    common = played(range(20), 0.3)
    one = follow(Tracker(document, FPS), common + played(range(20, 30), 0.3))
    other = follow(Tracker(document, FPS), common + played(range(60, 70), 0.3))
    assert one[: len(common)] == other[: len(common)]
    assert one != other


def test_goto_is_believed_until_the_music_says_otherwise() -> None:
    document = make_document(pages=3)
    tracker = Tracker(document, FPS)
    follow(tracker, played(range(10), 0.3))
    note = 5 * NOTES + 6
    cell = note_cell(note)
    tracker.goto(int(document.page[cell]), float(document.x[cell]), float(document.y[cell]))
    near = slice(cell - 4 * SPACING, cell + 4 * SPACING + 1)
    assert tracker.belief()[near].sum() > 0.95
    flat = np.zeros(len(document), np.float32)
    assert is_near(tracker.step(flat, 3.0), document, note)
    estimates = follow(tracker, played(range(note, note + 5), 0.3), start=3.05)
    assert is_near(estimates[-1], document, note + 4)


@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (1.0, 1.0), (0.5, 0.99), (-3.0, 7.0)])
def test_goto_beside_the_music_goes_to_the_nearest(x: float, y: float) -> None:
    document = make_document(pages=2, systems=2)
    tracker = Tracker(document, FPS)
    follow(tracker, played(range(10), 0.3))
    tracker.goto(2, x, y)
    estimate = tracker.step(np.zeros(len(document), np.float32), 3.0)
    assert estimate.page == 2
    assert (estimate.y < 0.5) == (y < 0.5)


def test_memory_does_not_grow() -> None:
    tracker = Tracker(make_document(pages=1), FPS)
    follow(tracker, played(range(20), 0.3))
    size = len(pickle.dumps(tracker))
    follow(tracker, played(range(30), 1.0), start=6)
    assert len(pickle.dumps(tracker)) <= size + 100


def test_the_document_is_in_reading_order() -> None:
    document = make_document(pages=2, systems=3)
    assert len(document) == 6 * WIDTH
    assert document.page.tolist() == [1] * 3 * WIDTH + [2] * 3 * WIDTH
    assert document.system.tolist() == np.repeat(np.arange(6), WIDTH).tolist()
    assert document.starts.tolist() == [WIDTH * i for i in range(6)]
    assert document.y[0] == pytest.approx(0.1 + 0.3 * 0.8 / 3)


def test_the_nearest_cell_is_on_the_page_then_the_system_then_the_place() -> None:
    document = make_document(pages=2, systems=2)
    for cell in (0, 59, 61, 130, len(document) - 1):
        place = float(document.x[cell]), float(document.y[cell])
        assert document.nearest(int(document.page[cell]), *place) == cell
    assert document.nearest(2, 0.0, 0.0) == 2 * WIDTH
    assert document.nearest(9, 1.0, 1.0) == len(document) - 1
