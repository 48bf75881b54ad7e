from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sf_plugin.dataset.engraving import BAR, NOTE, SIGN, STAFF, SYSTEM, VOLTA, Engraving
from sf_plugin.dataset.truth_layout import measures_of_engraving, printed_measures
from sf_plugin.score.layout import Layout, Measure

Bar = tuple[float, float, int, str]
Note = tuple[float, float]


def engraving(
    *systems: tuple[list[Note], list[Bar]],
    pages: tuple[int, ...] = (),
    scores: tuple[int, ...] = (),
) -> Engraving:
    """Systems of (x, onset) notes and (x, onset, number, glyph) bar lines, two grobs each."""
    pages = pages or (0,) * len(systems)
    scores = scores or (0,) * len(systems)
    notes = np.zeros(sum(len(n) for n, _ in systems), NOTE)
    places = [(i, x, onset) for i, (inside, _) in enumerate(systems) for x, onset in inside]
    for note, (system, x, onset) in zip(notes, places, strict=True):
        note["system"], note["x"], note["onset"] = system, x, onset
    bars = [
        (i, bar_x, onset, number, glyph)
        for i, (_, lines) in enumerate(systems)
        for x, onset, number, glyph in lines
        for bar_x in (x, x + 0.001)
    ]
    table = np.zeros(len(systems), SYSTEM)
    table["page"], table["score"] = pages, scores
    table["top"] = 0.1 + 0.2 * np.arange(len(systems))
    table["bottom"] = table["top"] + 0.1
    table["left"], table["right"] = 0.1, 0.9
    return Engraving(
        np.zeros((max(pages) + 1, 12, 8), np.uint8),
        notes,
        table,
        np.zeros(0, STAFF),
        np.array(bars, BAR),
    )


def edges(layout: Layout) -> list[list[tuple[int, float, float]]]:
    return [
        [(m.number, round(m.left, 2), round(m.right, 2)) for m in system.measures]
        for page in layout.pages
        for system in page.systems
    ]


def measures(layout: Layout) -> list[Measure]:
    return [m for page in layout.pages for system in page.systems for m in system.measures]


def test_measures_lie_between_bar_lines_and_are_numbered_through_the_document() -> None:
    first = ([(0.2, 0.0), (0.3, 0.5), (0.6, 1.0)], [(0.5, 1.0, 2, "|"), (0.9, 2.0, 3, "|")])
    second = ([(0.2, 2.0)], [(0.9, 3.0, 4, "|.")])
    layout = measures_of_engraving(engraving(first, second, pages=(0, 1)))
    assert edges(layout) == [[(1, 0.1, 0.5), (2, 0.5, 0.9)], [(3, 0.1, 0.9)]]
    assert [page.page for page in layout.pages] == [1, 2]
    assert [m.label for m in measures(layout)] == ["1", "2", "3"]
    assert np.array(measures(layout)[0].onsets) == pytest.approx(
        np.array([(0.2, 0.0), (0.3, 2.0), (0.5005, 4.0)]), abs=1e-4
    )


def test_a_bar_line_that_begins_a_system_makes_no_measure() -> None:
    first = ([(0.3, 0.0)], [(0.2, 0.0, 1, ".|:"), (0.9, 1.0, 2, ":|.")])
    second = ([(0.3, 1.0)], [(0.2, 1.0, 2, ".|:"), (0.9, 2.0, 3, ":|.")])
    layout = measures_of_engraving(engraving(first, second))
    assert edges(layout) == [[(1, 0.1, 0.9)], [(2, 0.1, 0.9)]]
    assert all(m.repeat_start and m.repeat_end for m in measures(layout))


def test_a_bar_of_rest_and_a_pickup_before_the_first_bar_line_are_measures() -> None:
    rest = ([(0.6, 1.0)], [(0.4, 1.0, 2, "|"), (0.9, 2.0, 3, "|")])
    assert edges(measures_of_engraving(engraving(rest))) == [[(1, 0.1, 0.4), (2, 0.4, 0.9)]]
    pickup = ([(0.2, 0.0), (0.6, 0.25)], [(0.3, 0.25, 1, "|"), (0.9, 1.25, 2, "|")])
    assert [m.label for m in measures(measures_of_engraving(engraving(pickup)))] == ["0", "1"]


def test_a_repeat_inside_a_line_ends_one_part_and_begins_the_next() -> None:
    line = ([(0.2, 0.0), (0.6, 1.0)], [(0.5, 1.0, 2, ":..:"), (0.9, 2.0, 3, ":|.")])
    left, right = measures(measures_of_engraving(engraving(line)))
    assert (left.repeat_start, left.repeat_end) == (False, True)
    assert (right.repeat_start, right.repeat_end) == (True, True)


def test_what_is_no_end_of_a_measure_is_left_out() -> None:
    line = (
        [(0.2, 0.0), (0.6, 0.5)],
        [(0.5, 0.5, 1, "!"), (0.88, 1.0, 2, "|"), (0.891, 1.0, 2, "|.")],
    )
    assert [len(row) for row in edges(measures_of_engraving(engraving(line)))] == [1]


def test_a_measure_may_break_across_lines() -> None:
    first = ([(0.2, 0.0), (0.7, 1.0)], [(0.5, 1.0, 2, "|")])
    second = ([(0.2, 1.5)], [(0.9, 2.0, 3, "|.")])
    layout = measures_of_engraving(engraving(first, second))
    assert edges(layout) == [[(1, 0.1, 0.5), (2, 0.5, 0.9)], [(3, 0.1, 0.9)]]
    assert measures(layout)[2].onsets[0] == pytest.approx((0.2, 2.0))


def test_each_movement_counts_its_own_bars() -> None:
    line = ([(0.2, 0.0)], [(0.9, 1.0, 2, "|.")])
    layout = measures_of_engraving(engraving(line, line, scores=(0, 1)))
    assert [(m.number, m.label) for m in measures(layout)] == [(1, "1"), (2, "1")]


def test_a_system_without_bar_lines_is_one_measure() -> None:
    layout = measures_of_engraving(engraving(([(0.2, 0.0), (0.8, 1.0)], [])))
    assert edges(layout) == [[(1, 0.1, 0.9)]]
    assert np.array(measures(layout)[0].onsets) == pytest.approx(
        np.array([(0.2, 0), (0.8, 4), (0.9, 4.0625)])
    )


def test_a_broken_measure_knows_how_much_of_it_went_before() -> None:
    first = ([(0.2, 0.0), (0.7, 1.0)], [(0.5, 1.0, 2, "|")])
    second = ([(0.2, 1.5)], [(0.9, 2.0, 3, "|.")])
    table = printed_measures(engraving(first, second))
    assert table["start"].tolist() == [0, 1, 1.5]
    assert table["end"].tolist() == [1, 1.5, 2]
    assert table["before"].tolist() == [0, 0, 0.5]
    assert table["label"].tolist() == [1, 2, 2]


def test_brackets_name_the_endings() -> None:
    line = ([(0.2, 0.0), (0.6, 1.0)], [(0.5, 1.0, 2, ":|."), (0.9, 2.0, 3, "|.")])
    piece = engraving(line)
    piece.voltas = np.array([(0, 0, 1, "1,2"), (0, 1, 2, "3"), (1, 0, 9, "7")], VOLTA)
    assert printed_measures(piece)["volta"].tolist() == ["1,2", "3"]
    assert [m.volta for m in measures(measures_of_engraving(piece))] == ["1,2", "3"]


def test_marks_stand_at_the_end_or_the_beginning_of_their_measures() -> None:
    notes = [(0.2, 0.0), (0.3, 0.5), (0.45, 1.0), (0.6, 1.5), (0.7, 2.0)]
    line = (notes, [(0.4, 1.0, 2, "|"), (0.65, 2.0, 3, "|"), (0.9, 3.0, 4, "|.")])
    piece = engraving(line, line, scores=(0, 1))
    marks = [
        (0, "segno", 0.0),
        (0, "coda", 1.0),
        (0, "coda", 1.0),
        (0, "fine", 1.0),
        (0, "dal segno", 1.5),
        (0, "da capo", 3.0),
        (1, "fine", 2.0),
    ]
    piece.signs = np.array(
        [(system, 0, 0, 0, onset, "mark", mark) for system, mark, onset in marks], SIGN
    )
    assert [m.signs for m in measures(measures_of_engraving(piece))] == [
        ("segno", "fine"),
        ("coda", "dal segno"),
        ("da capo",),
        (),
        ("fine",),
        (),
    ]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(1, 8), st.booleans()), min_size=1, max_size=5),
        min_size=1,
        max_size=4,
    )
)
def test_measures_join_without_gaps(lines: list[list[tuple[int, bool]]]) -> None:
    systems, now, number = [], 0.0, 1
    for line in lines:
        notes, bars = [], []
        for i, (eighths, played) in enumerate(line):
            if played:
                notes.append((0.12 + 0.15 * i, now))
            now, number = now + eighths / 8, number + 1
            bars.append((0.25 + 0.15 * i, now, number, "|"))
        systems.append((notes, bars))
    table = printed_measures(engraving(*systems))
    assert table["start"][0] == 0
    assert table["end"][-1] >= now
    np.testing.assert_array_equal(table["start"][1:], table["end"][:-1])
    assert table["number"].tolist() == list(range(1, sum(map(len, lines)) + 1))
    assert table["label"].tolist() == table["number"].tolist()


def test_a_repeat_that_would_be_another_bar_line_at_a_lines_end_begins_here() -> None:
    first = ([(0.2, 0.0), (0.7, 1.0)], [(0.5, 1.0, 2, ".|:-|"), (0.9, 2.0, 3, ":|.")])
    found = measures(measures_of_engraving(engraving(first)))
    assert [(m.repeat_start, m.repeat_end) for m in found] == [(False, False), (True, True)]
