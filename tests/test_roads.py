from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import mido
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sf_plugin.dataset.engraving import BAR, NOTE, SIGN, STAFF, SYSTEM, VOLTA, Engraving
from sf_plugin.dataset.perform import MECHANICAL, Style, perform
from sf_plugin.dataset.roads import (
    Road,
    Stretch,
    after,
    before,
    choose_road,
    joined,
    measure_positions,
    straight,
    unfolded,
)
from sf_plugin.dataset.truth_layout import printed_measures


def piece(
    bars: str,
    voltas: tuple[tuple[float, float, str], ...] = (),
    marks: tuple[tuple[float, str], ...] = (),
    systems: int = 1,
    length: float = 1.0,
) -> Engraving:
    """Bar lines ("| :| |: :|: |."), one at the end of each measure of `length` whole notes.

    A first "|:" begins the piece.  Four notes a measure; measures are spread evenly over
    systems, one a page.
    """
    glyphs = bars.split()
    names = {"|": "|", ":|": ":|.", "|:": ".|:", ":|:": ":..:", "|.": "|."}
    opening = glyphs[0] == "|:"
    ends = glyphs[1:] if opening else glyphs
    count = len(ends)
    row = -(-count // systems)
    notes = np.zeros(4 * count, NOTE)
    table = []
    if opening:
        table.append((0, 0.1, 0.0, 1, ".|:"))
    for i, glyph in enumerate(ends):
        system, place = divmod(i, row)
        left = 0.1 + 0.8 * place / row
        for j in range(4):
            note = notes[4 * i + j]
            note["onset"], note["length"] = length * (i + j / 4), length / 4
            note["pitch"], note["tempo"] = 40 + 4 * i + j, 60
            note["x"] = left + 0.8 / row * (0.15 + 0.2 * j)
            note["system"] = note["page"] = system
        table.append((system, left + 0.8 / row, length * (i + 1), i + 2, names[glyph]))
    lines = np.zeros(systems, SYSTEM)
    lines["page"] = np.arange(systems)
    lines["left"], lines["right"], lines["top"], lines["bottom"] = 0.1, 0.9, 0.2, 0.4
    return Engraving(
        np.zeros((systems, 12, 8), np.uint8),
        notes,
        lines,
        np.zeros(0, STAFF),
        np.array(table, BAR),
        np.array([(0, *volta) for volta in voltas], VOLTA),
        np.array([(0, -1, 0.5, 0.1, onset, "mark", kind) for onset, kind in marks], SIGN),
    )


def spans(road: Road) -> list[tuple[float, float]]:
    return [(stretch.start, stretch.end) for stretch in road]


def order(engraving: Engraving, repeats: float = 1.0) -> list[int]:
    """Numbers of the measures in the order played."""
    measures = printed_measures(engraving)
    road = unfolded(engraving, measures, np.random.default_rng(0), repeats)
    rows = measure_positions(road, measures)[:, 1].astype(int)
    return [int(n) for n in measures["number"][rows]]


def test_a_repeat_without_a_start_sign_goes_back_to_the_beginning() -> None:
    assert order(piece("| :| | |.")) == [1, 2, 1, 2, 3, 4]


def test_a_repeat_goes_back_to_the_last_start_sign() -> None:
    assert order(piece("| |: | :| |.")) == [1, 2, 3, 4, 3, 4, 5]
    assert order(piece("|: | :|: | :|")) == [1, 2, 1, 2, 3, 4, 3, 4]
    assert order(piece("| :| | :| |.")) == [1, 2, 1, 2, 3, 4, 3, 4, 5]


def test_repeats_that_are_not_taken_play_once() -> None:
    assert order(piece("| :| | :| |."), repeats=0) == [1, 2, 3, 4, 5]


def test_each_pass_takes_its_ending() -> None:
    two = piece("| | :| | |.", voltas=((2, 3, "1"), (3, 4, "2")))
    assert order(two) == [1, 2, 3, 1, 2, 4, 5]
    assert order(two, repeats=0) == [1, 2, 4, 5]
    three = piece("|: | :| :| | |.", voltas=((1, 2, "1,2"), (2, 3, "3."), (3, 4, "4")))
    assert order(three) == [1, 2, 1, 2, 1, 3, 1, 4, 5]
    assert order(piece("| :| | |.", voltas=((1, 2, "1-3"), (2, 3, "4")))) == [
        *(1, 2) * 3, 1, 3, 4,
    ]  # fmt: skip


def test_da_capo_plays_to_the_fine_without_repeats() -> None:
    minuet = piece("| :| | |.", marks=((2, "fine"), (4, "da capo")))
    assert order(minuet) == [1, 2, 1, 2, 3, 4, 1, 2]
    assert order(piece("| | |.", marks=((3, "da capo"),))) == [1, 2, 3, 1, 2, 3]
    endings = piece(
        "| :| | | |.",
        voltas=((1, 2, "1"), (2, 3, "2")),
        marks=((4, "fine"), (5, "da capo")),
    )
    assert order(endings) == [1, 2, 1, 3, 4, 5, 1, 3, 4]


def test_dal_segno_goes_to_the_sign_and_over_the_coda() -> None:
    signs = ((1, "segno"), (3, "coda"), (4, "dal segno"), (4, "coda"))
    assert order(piece("| | | | |.", marks=signs)) == [1, 2, 3, 4, 2, 3, 5]
    al_fine = ((1, "segno"), (2, "fine"), (4, "dal segno"))
    assert order(piece("| | | |.", marks=al_fine)) == [1, 2, 3, 4, 2]
    assert order(piece("| | | |.", marks=((4, "dal segno"),))) == [1, 2, 3, 4]


def test_signs_inside_a_measure_mean_its_edges() -> None:
    signs = ((1.25, "segno"), (2.75, "fine"), (3.5, "dal segno"))
    assert order(piece("| | | |.", marks=signs)) == [1, 2, 3, 4, 2, 3]


def test_a_repeat_sign_inside_a_bar_counts_to_the_sign() -> None:
    pickup = piece("| :| | |.", length=1.0)
    pickup.bars["onset"] -= 0.75
    pickup.notes["onset"] -= 0.75
    pickup.notes = pickup.notes[pickup.notes["onset"] >= 0]
    road = unfolded(pickup, printed_measures(pickup), np.random.default_rng(0), 1.0)
    assert spans(road) == [(0, 1.25), (0, 3.25)]
    assert [stretch.kind for stretch in road] == ["start", "repeat"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["|", "|", ":|", "|:", ":|:"]), min_size=1, max_size=12),
    st.integers(0, 3),
)
def test_all_repeats_play_every_measure_at_most_twice_and_none_exactly_once(
    glyphs: list[str], seed: int
) -> None:
    engraving = piece(" ".join([*glyphs, "|."]))
    count = len(printed_measures(engraving))
    assert order(engraving, repeats=0) == list(range(1, count + 1))
    played = order(engraving)
    assert set(played) == set(range(1, count + 1))
    assert max(played.count(n) for n in played) <= 2
    some = order(engraving, repeats=0.5)
    assert len(played) >= len(some) >= count


spots = st.floats(0, 1, allow_nan=False)
roads = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 30)), min_size=1, max_size=6).map(
    lambda rows: [Stretch(0, start / 4, (start + length) / 4) for start, length in rows]
)


@given(roads, spots)
def test_what_is_before_and_after_a_place_is_the_whole_road(road: Road, share: float) -> None:
    whole = sum(stretch.length for stretch in road)
    one, other = before(road, share * whole), after(road, share * whole)
    lengths = [sum(stretch.length for stretch in part) for part in (one, other)]
    assert lengths == pytest.approx([share * whole, (1 - share) * whole], abs=1e-4)
    for ours, theirs in zip(joined(one + other), joined(road), strict=True):
        assert (ours.start, ours.end) == pytest.approx((theirs.start, theirs.end), abs=1e-4)


STYLES = st.builds(
    Style,
    repeats=st.sampled_from([None, 0.0, 0.5, 1.0]),
    jumps=st.sampled_from([(0, 0), (1, 4), (3, 3)]),
    stumbles=st.sampled_from([0.0, 0.3]),
    loops=st.sampled_from([0.0, 0.3]),
    stops=st.sampled_from([0.0, 0.3]),
    starts_inside=st.sampled_from([0.0, 1.0]),
    ends_early=st.sampled_from([0.0, 1.0]),
)


@settings(max_examples=80, deadline=None)
@given(STYLES, st.integers(0, 10_000))
@example(Style(jumps=(1, 4), stumbles=0.3, loops=0.3), 2)  # rounding below the beginning
def test_any_road_stays_in_the_print(style: Style, seed: int) -> None:
    engraving = piece("|: | | :|: | | | :| | |.", systems=3)
    road = choose_road(engraving, style, np.random.default_rng(seed))
    assert road == choose_road(engraving, style, np.random.default_rng(seed))
    assert road
    for stretch in road:
        assert 0 <= stretch.start < stretch.end <= 9
        assert stretch.pause >= 0
    for last, stretch in pairwise(road):
        turned = abs(last.end - stretch.start) > 1e-6
        assert turned or stretch.pause > 0
        if stretch.kind == "stop":
            assert not turned
    if style == Style(repeats=style.repeats):
        assert {s.kind for s in road} <= {"start", "repeat", "volta"}


def test_jumps_lead_to_other_measures_half_of_them_after_a_pause() -> None:
    engraving = piece("| " * 11 + "|.", systems=3)
    style = Style(jumps=(2, 2))
    jumps, pages = [], []
    for seed in range(200):
        road = choose_road(engraving, style, np.random.default_rng(seed))
        for last, stretch in pairwise(road):
            assert stretch.kind == "jump"
            assert abs(stretch.start - last.end) > 0.2
            assert stretch.start == pytest.approx(round(stretch.start))
            jumps.append(stretch.pause)
            pages.append(int((last.end - 1e-6) // 4) != int(stretch.start // 4))
    waited = [pause for pause in jumps if pause]
    assert 0.4 < len(waited) / len(jumps) < 0.6
    assert all(0.5 <= pause <= 3 for pause in waited)
    assert 0.6 < np.mean(pages) < 0.95


def test_a_stumble_goes_back_to_the_start_of_a_measure_and_on_over_the_place() -> None:
    engraving = piece("| " * 9 + "|.")
    for seed in range(30):
        road = choose_road(engraving, Style(stumbles=0.3), np.random.default_rng(seed))
        for last, again in pairwise(road):
            assert again.kind == "restart"
            assert again.start == pytest.approx(round(again.start))
            assert again.start < last.end
            assert 0.3 <= again.pause <= 1.5
        assert road[-1].end == 10


def test_loops_and_stops_lose_nothing() -> None:
    engraving = piece("| " * 9 + "|.")
    kinds = set()
    for seed in range(30):
        style = Style(loops=0.2, stops=0.2)
        road = choose_road(engraving, style, np.random.default_rng(seed))
        kinds |= {stretch.kind for stretch in road}
        measures = printed_measures(engraving)
        rows = measure_positions(road, measures)[:, 1].astype(int)
        assert set(rows) == set(range(10))
        assert (np.diff(rows) <= 1).all()
    assert kinds == {"start", "loop", "stop"}


def test_movements_follow_each_other_after_a_breath() -> None:
    first = piece("| |.")
    second = piece("| |.")
    for table in (second.notes, second.systems):
        table["score"] = 1
    second.notes["system"] = 1
    second.bars["system"] = 1
    both = Engraving(
        first.pages,
        np.concatenate([first.notes, second.notes]),
        np.concatenate([first.systems, second.systems]),
        first.staves,
        np.concatenate([first.bars, second.bars]),
    )
    assert [s.score for s in straight(printed_measures(both))] == [0, 1]
    road = choose_road(both, MECHANICAL, np.random.default_rng(0))
    assert [stretch.kind for stretch in road] == ["start", "movement"]
    assert 0.8 <= road[1].pause <= 2.0


SOURCE = r"""
\version "2.24.0"
first = \fixed c' {
  \partial 4 d4
  \repeat volta 2 { g4 a b c' | d'2 }
  \repeat volta 2 { r4 b4 | e'4 d' c' b | }
  \alternative { { a2 b | } { a1 | } }
  \repeat volta 3 { c'4 d' e' fis' | }
  \alternative { { g'2 fis' } { g'2 a'~ } }
  a'4 b'2.
}
second = \fixed c' { \repeat segno 2 { c1 d2 e | \volta 2 \fine \volta 1 { f4 g a b } } }
"""
PRINT = r"\score { \new Staff \first \layout {} } \score { \new Staff \second \layout {} }"
PLAY = r"\score { \unfoldRepeats \%s \midi {} }"


def test_repeats_unfold_as_lilypond_unfolds_them(tmp_path: Path) -> None:
    lilypond = pytest.importorskip("lilypond").executable("lilypond")
    if shutil.which(str(lilypond)) is None:
        pytest.skip("LilyPond is not installed")
    from sf_plugin.dataset.engrave_lilypond import engrave_source

    (tmp_path / "printed").mkdir()
    (tmp_path / "printed" / "piece.ly").write_text(SOURCE + PRINT)
    (tmp_path / "played.ly").write_text(SOURCE + PLAY % "first" + PLAY % "second")
    command = [str(lilypond), "-s", "-o", "played", "played.ly"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=120)
    engraving = engrave_source(tmp_path, "printed/piece.ly")
    engraving.notes["tempo"] = 60
    style = replace(MECHANICAL, repeats=1.0)
    performance = perform(engraving, np.random.default_rng(0), style)
    starts = [performance.onsets["time"][performance.onsets["score"] == s][0] for s in (0, 1)]
    for score, name in enumerate(("played.midi", "played-1.midi")):
        events, now = [], 0
        file = mido.MidiFile(tmp_path / name)
        for message in file.tracks[1]:
            now += message.time
            if message.type == "note_on" and message.velocity:
                events.append((now / file.ticks_per_beat, message.note))
        mine = performance.notes[engraving.notes["score"][performance.notes["printed"]] == score]
        ours = [(4 * float(n["onset"] - starts[score]), int(n["pitch"])) for n in mine]
        assert [pitch for _, pitch in ours] == [pitch for _, pitch in events]
        assert [t for t, _ in ours] == pytest.approx([t for t, _ in events], abs=1e-5)
