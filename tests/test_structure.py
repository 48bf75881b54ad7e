"""Roads through a score: what the signs say, what the user says, and how they are followed."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import Run
from hypothesis import given, settings
from hypothesis import strategies as st

from sf_plugin.api import make_follower, make_mapper, open_audio
from sf_plugin.errors import ScoreError
from sf_plugin.followers import Follower
from sf_plugin.positions import Estimate, Jump, Position
from sf_plugin.score.layout import Layout, Measure, PageLayout, System
from sf_plugin.score.load import load_score
from sf_plugin.score.model import Score
from sf_plugin.score.structure import (
    STATED,
    Order,
    Roads,
    find_roads,
    measures_of,
    movements,
    parse_order,
    spell,
)
from sf_plugin.session import Session
from sf_plugin.tracking.document import DocumentOnsets
from sf_plugin.tracking.tracker import Tracker

FPS = 40
SIGNS = {"S": "segno", "O": "coda", "F": "fine", "C": "da capo", "D": "dal segno"}


def bars(*marks: str, labels: str = "") -> Layout:
    """Measures from marks: '[' repeat start, ']' repeat end, a digit its volta, else SIGNS."""
    measures = tuple(
        Measure(
            number,
            number / 20,
            (number + 1) / 20,
            label=labels.split()[number - 1] if labels else None,
            repeat_start="[" in mark,
            repeat_end="]" in mark,
            volta=next(filter(str.isdigit, mark), None),
            signs=tuple(SIGNS[sign] for sign in mark if sign in SIGNS),
        )
        for number, mark in enumerate(marks, 1)
    )
    return Layout((PageLayout(1, (System(0.1, 0.2, 0.0, 1.0, measures),)),))


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        (["", "", "]", ""], {3: {1}}),
        (["", "[", "]", "", "]"], {3: {2}, 5: {4}}),
        (["[", "", "1]", "2", ""], {3: {1}, 2: {4}}),
        (["[", "", "1", "1]", "2]", "3"], {4: {1}, 2: {5, 6}, 5: {1}}),
        (["[", "1]", "2", "", "]"], {2: {1}, 1: {3}, 5: {4}}),
        (["[", "1]", "2", "[", "1]", "2"], {2: {1}, 1: {3}, 5: {4}, 4: {6}}),
        (["", "", "F", "", "C"], {5: {1}}),
        (["", "S", "F", "", "D"], {5: {2}}),
        (["", "", "D"], {}),
        (["", "", "O", "C", "O"], {4: {1}, 2: {5}}),
        (["", "O", ""], {}),
        (["", ""], {}),
        ([], {}),
    ],
)
def test_signs_say_what_may_follow(marks: list[str], expected: dict[int, set[int]]) -> None:
    assert find_roads(bars(*marks)).successors() == expected


def test_another_movement_does_not_go_back_to_the_first() -> None:
    layout = bars("", "", "", "]", "C", labels="1 2 1 2 3")
    assert [len(part) for part in movements(measures_of(layout))] == [2, 3]
    assert find_roads(layout).successors() == {4: {3}, 5: {3}}


def test_a_line_end_within_a_measure_begins_no_movement() -> None:
    layout = bars("", "", "", "]", labels="0 1 1 2")
    assert find_roads(layout).successors() == {4: {1}}


marks = st.lists(st.text("[]12SOFCD", max_size=3), max_size=12)


@st.composite
def orders(draw: st.DrawFn, measures: int = 12) -> Order:
    spans = st.lists(st.integers(1, measures), min_size=2, max_size=2).map(sorted)
    return tuple((a, b) for a, b in draw(st.lists(spans, min_size=1, max_size=5)))


@settings(deadline=None)
@given(marks, st.none() | orders(3))
def test_every_road_leads_somewhere_else_and_none_takes_all(
    marks: list[str], order: Order | None
) -> None:
    layout = bars(*marks, "", "", "")
    roads = find_roads(layout, order or ())
    staying = dict.fromkeys(range(1, len(marks) + 4), 1.0)
    for road in roads.roads:
        assert {road.leave, road.enter} <= set(staying)
        assert 0 < road.share < 1
        staying[road.leave] *= 1 - road.share
    assert min(staying.values()) > 0.004
    assert roads.begin == (order[0][0] if order else 1)


@settings(deadline=None)
@given(orders())
def test_a_stated_order_is_likely(order: Order) -> None:
    roads = find_roads(bars(*[""] * 12), order)
    likely: dict[tuple[int, int], float] = {}
    staying: dict[int, float] = {}
    for road in roads.roads:
        left = staying.get(road.leave, 1.0)
        likely[road.leave, road.enter] = left * road.share
        staying[road.leave] = left * (1 - road.share)
    played = [n for first, last in order for n in range(first, last + 1)]
    for leave, enter in pairwise(played):
        onward = [b for a, b in pairwise([*played, 0]) if a == leave]
        share = STATED * onward.count(enter) / len(onward)
        if enter == leave + 1:
            assert staying.get(leave, 1.0) >= share - 1e-9
        else:
            assert likely[leave, enter] == pytest.approx(share)


@settings(deadline=None)
@given(orders())
def test_an_order_is_read_as_it_is_written(order: Order) -> None:
    assert parse_order(spell(order)) == order
    assert parse_order(" " + spell(order).replace(",", " , ")) == order


@settings(deadline=None)
@given(st.text("0123456789-–, x\n²", min_size=1, max_size=12))
def test_what_is_no_order_is_one_clear_error(text: str) -> None:
    try:
        order = parse_order(text)
    except ScoreError as error:
        assert str(error).startswith("--order ")
    else:
        assert all(1 <= first <= last for first, last in order)


def test_an_order_beyond_the_last_measure_is_refused() -> None:
    with pytest.raises(ScoreError, match="no measure 24: the last one found is 3"):
        find_roads(bars("", "", ""), parse_order("1-3,2-24"))


def test_a_printed_repeat_stays_possible_beside_a_stated_order() -> None:
    (stated, printed) = find_roads(bars("", "]", ""), ((1, 2), (1, 3))).roads
    assert (stated.leave, stated.enter) == (printed.leave, printed.enter) == (2, 1)
    assert printed.share < 0.1 < stated.share


def test_roads_to_where_nobody_listens_are_left_out() -> None:
    roads = find_roads(bars("", "]", "", "]", ""))
    assert roads.within(3, 5).successors() == {4: {3}}
    assert roads.within(1, 5) == roads


# followed


NOTES = 4
"""Onsets a measure."""


def document_of(measures: int) -> DocumentOnsets:
    """Systems of four measures of quarter notes."""
    onset = np.arange(NOTES * measures)
    system = onset // (4 * NOTES)
    return DocumentOnsets(
        np.ones(len(onset), np.int32),
        system,
        ((onset % (4 * NOTES) + 0.5) / (4 * NOTES)).astype(np.float32),
        (0.1 + 0.1 * system).astype(np.float32),
        np.ones(len(onset), np.float32),
        onset % NOTES == 0,
        onset // NOTES + 1,
        onset,
    )


def play(
    tracker: Tracker, measures: list[int], like: dict[int, int] | None = None, clear: float = 5.0
) -> list[int]:
    """The measure said at the middle of every one played, at two notes a second.

    `like` names the measure that sounds the same as one.
    """
    document, rng = tracker.document, np.random.default_rng(0)
    said, time = [], 0.0
    frames = NOTES * FPS // 2
    for measure in measures:
        for frame in range(frames):
            logits = rng.normal(0, 1, len(document)).astype(np.float32)
            for number in {measure, (like or {}).get(measure, measure)}:
                logits[(number - 1) * NOTES + frame * NOTES // frames] += clear
            time += 1 / FPS
            struck = 0.9 if frame % (FPS // 2) < 3 else 0.05
            here = tracker.step(logits, time, struck=struck)
            if frame == frames // 2:
                said.append(int(document.measure[nearest(document, here)]))
    return said


def nearest(document: DocumentOnsets, here: Estimate) -> int:
    return document.nearest(here.page, here.x, here.y)


@pytest.mark.parametrize(
    "played",
    [
        [1, 2, 3, 4, 1, 2, 3, 4, 5, 6, 7, 8],
        [1, 2, 3, 4, 5, 6, 7, 8],
        [1, 2, 3, 4, 5, 6, 7, 8, 5, 6, 7, 8],
    ],
    ids=["first taken", "none taken", "last taken"],
)
def test_a_repeat_may_be_taken_or_not(played: list[int]) -> None:
    roads = find_roads(bars("[", "", "", "]", "[", "", "", "]"))
    assert play(Tracker(document_of(8), FPS, roads=roads), played) == played


def test_a_sign_tells_where_the_same_music_goes_on() -> None:
    """Measures 1 and 9 sound alike; only the signs say that after 8 comes 1 again."""
    layout = bars(*["[", *[""] * 6, "]", *[""] * 8])
    twice = [*range(1, 9), 1, 2]
    alike = {1: 9}
    assert play(Tracker(document_of(16), FPS), twice, alike)[8] == 9
    printed = find_roads(layout)
    assert play(Tracker(document_of(16), FPS, roads=printed), twice, alike)[-1] == 2
    order = find_roads(layout, parse_order("1-8,1-4"))
    assert play(Tracker(document_of(16), FPS, roads=order), twice, alike)[8:] == [1, 2]


def test_any_other_place_stays_possible() -> None:
    roads = find_roads(bars(*[""] * 16), parse_order("1-4,1-8,13-16"))
    assert play(Tracker(document_of(16), FPS, roads=roads), [1, 2, 3, 11, 12, 13])[-2:] == [12, 13]


def test_an_order_says_where_the_music_begins() -> None:
    document = document_of(8)
    tracker = Tracker(document, FPS, roads=find_roads(bars(*[""] * 8), parse_order("5-8")))
    assert int(np.argmax(tracker.belief())) == 4 * NOTES


def test_the_tempo_is_kept_over_a_repeat() -> None:
    roads = find_roads(bars("[", "", "", "]", "", "", "", ""))
    taken, straight = Tracker(document_of(8), FPS, roads=roads), Tracker(document_of(8), FPS)
    play(taken, [1, 2, 3, 4, 1])
    play(straight, [1, 2, 3, 4, 5])
    tempi = [t._memory.belief.sum(1) for t in (taken, straight)]
    assert np.argmax(tempi[0]) == np.argmax(tempi[1])


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=2, max_size=6), st.integers(1, 4))
def test_no_road_no_difference(measures: list[int], begin: int) -> None:
    document = document_of(4)
    unmarked = find_roads(bars(*[""] * 4))
    assert unmarked == Roads()
    assert play(Tracker(document, FPS, roads=unmarked), measures) == play(
        Tracker(document, FPS), measures
    )


# as a user sees it


def test_an_order_that_is_none_is_one_line(scorefollow: Run, pdf: object, wav: object) -> None:
    words = (pdf, "--audio", wav, "--follower", "constant-tempo")
    done = scorefollow("follow", *words, "--order", "8-1")
    assert done.returncode == 2
    assert "'8-1' is no stretch of measures" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    done = scorefollow("align", *words, "--order", "1-2,1-99")
    assert done.returncode == 2
    assert "no measure 99" in done.stderr


PITCHES = [48, 50, 52, 53, 55, 57, 59, 60, 62, 64, 65, 67, 69, 71, 72, 74, 76, 77, 79, 81]
STEPS = "CDEFGAB"
MELODY = np.random.default_rng(3).permuted(np.tile(range(7, 20), (8, 1)), axis=1)[:, :4]
"""(measures, 4) notes as indices into PITCHES."""


def write_score(path: Path) -> Path:
    """Eight measures of quarter notes, the first four repeated."""
    measures = []
    for number, notes in enumerate(MELODY.tolist(), 1):
        drawn = "".join(
            f"<note><pitch><step>{STEPS[note % 7]}</step><octave>{3 + note // 7}</octave></pitch>"
            "<duration>1</duration><type>quarter</type></note>"
            for note in notes
        )
        begin = "<attributes><divisions>1</divisions><time><beats>4</beats><beat-type>4</beat-type></time><clef><sign>G</sign><line>2</line></clef></attributes>"  # noqa: E501
        left = '<barline location="left"><repeat direction="forward"/></barline>'
        right = '<barline location="right"><repeat direction="backward"/></barline>'
        measures.append(
            f'<measure number="{number}">{left + begin if number == 1 else ""}{drawn}'
            f"{right if number == 4 else ''}</measure>"
        )
    path.write_text(
        '<score-partwise version="4.0"><part-list><score-part id="P1"><part-name/></score-part>'
        f'</part-list><part id="P1">{"".join(measures)}</part></score-partwise>'
    )
    return path


def write_take(path: Path, measures: list[int]) -> Path:
    """The measures played, two quarter notes a second, on strings that die away."""
    rate = 22050
    sound = np.zeros((2 * len(measures) + 2) * rate)
    time = np.arange(rate) / rate
    for n, note in enumerate(np.concatenate([MELODY[m - 1] for m in measures]).tolist()):
        partials = np.arange(1, 9) * 440 * 2 ** ((PITCHES[note] - 69) / 12)
        tone = (np.exp(-time * (2 + partials[:, None] / 400)) / partials[:, None]) * np.sin(
            2 * np.pi * partials[:, None] * time
        )
        begin = rate // 2 + n * rate // 2
        sound[begin : begin + rate] += tone.sum(0) * np.minimum(1, 8 * (1 - time)) * partials[0]
    soundfile.write(path, 0.2 * sound, rate)
    return path


def followed(
    follower: Follower, score: Score, take: Path, order: str = ""
) -> tuple[list[tuple[int, int]], list[Position]]:
    """The jumps told, from and to, and the positions."""
    ordered = replace(score, order=parse_order(order))
    events = list(Session(open_audio(take), follower, make_mapper(), ordered).events())
    jumps = [(e.from_measure, e.to_measure) for e in events if isinstance(e, Jump)]
    return jumps, [e for e in events if isinstance(e, Position)]


def test_repeats_are_no_jumps_and_jumps_are_told_to_the_user(tmp_path: Path) -> None:
    follower = make_follower("unet")
    score = load_score(write_score(tmp_path / "tune.musicxml"))
    repeated = write_take(tmp_path / "a.wav", [1, 2, 3, 4, 1, 2, 3, 4, 5, 6, 2, 3])
    jumps, positions = followed(follower, score, repeated)
    assert jumps in ([(6, 2)], [(7, 2)])  # it may look for 7 first
    passes = [(p.measure, p.pass_) for p in positions]
    times = [p.time for p in positions]
    middles = [passes[np.searchsorted(times, 1.5 + 2 * n)] for n in (*range(10), 11)]
    first, second = [(m, 1) for m in (1, 2, 3, 4)], [(m, 2) for m in (1, 2, 3, 4)]
    assert middles == [*first, *second, (5, 1), (6, 1), (3, 3)]
    jumps, positions = followed(follower, score, repeated, "1-4,1-6,2-3")
    assert jumps == []
    assert positions[np.searchsorted(times, 23.5)].measure == 3
    skipped = write_take(tmp_path / "b.wav", [1, 2, 3, 4, 5, 6])
    for order in ("", "1-4,1-8"):
        jumps, positions = followed(follower, score, skipped, order)
        assert jumps == []
        assert {p.pass_ for p in positions} == {1}
