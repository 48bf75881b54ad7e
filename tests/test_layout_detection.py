from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sf_plugin.score.layout import PageLayout
from sf_plugin.score.layout_detection import Floats, detect_page, peaks, runs

ROWS, COLUMNS = 300, 200
Box = tuple[int, int, int, int]


def maps_of(systems: dict[Box, list[int]]) -> Floats:
    """Systems, staves and bars drawn from {(top, bottom, left, right): bar columns}."""
    maps = np.zeros((3, ROWS, COLUMNS), np.float32)
    for (top, bottom, left, right), bars in systems.items():
        maps[0, top:bottom, left:right] = 1
        maps[1, top : top + 4, left:right] = 1
        maps[1, bottom - 4 : bottom, left:right] = 1
        for bar in bars:
            maps[2, top:bottom, bar] = 1
    return maps


def boxes(page: PageLayout) -> list[tuple[float, ...]]:
    """Systems in rows and columns."""
    return [
        (s.top * ROWS, s.bottom * ROWS, s.left * COLUMNS, s.right * COLUMNS) for s in page.systems
    ]


def measures(page: PageLayout) -> list[list[tuple[int, float, float]]]:
    """Numbers and edges in columns by system."""
    return [
        [(m.number, round(m.left * COLUMNS, 2), round(m.right * COLUMNS, 2)) for m in s.measures]
        for s in page.systems
    ]


def test_systems_and_measures_are_found_where_they_are() -> None:
    page = detect_page(
        maps_of({(20, 50, 10, 190): [60, 120, 189], (80, 110, 20, 190): [100, 189]}), 3, 1
    )
    assert page.page == 3
    np.testing.assert_allclose(boxes(page), [(20, 50, 10, 190), (80, 110, 20, 190)])
    assert measures(page) == [
        [(1, 10, 60.5), (2, 60.5, 120.5), (3, 120.5, 190)],
        [(4, 20, 100.5), (5, 100.5, 190)],
    ]


def test_numbering_goes_on_from_the_pages_before() -> None:
    page = detect_page(maps_of({(20, 50, 10, 190): [60, 189]}), 2, 17)
    assert [m.number for m in page.systems[0].measures] == [17, 18]


def test_a_bar_line_at_the_start_opens_no_measure_of_its_own() -> None:
    page = detect_page(maps_of({(20, 50, 10, 190): [10, 100, 189]}), 1, 1)
    assert measures(page) == [[(1, 10, 100.5), (2, 100.5, 190)]]


def test_a_system_without_bar_lines_is_one_measure() -> None:
    assert measures(detect_page(maps_of({(20, 50, 10, 190): []}), 1, 1)) == [[(1, 10, 190)]]


def test_a_missing_last_bar_line_ends_with_the_system() -> None:
    page = detect_page(maps_of({(20, 50, 10, 190): [100]}), 1, 1)
    assert measures(page) == [[(1, 10, 100.5), (2, 100.5, 190)]]


def test_a_thick_bar_line_is_one() -> None:
    for width in range(1, 6):
        thick = list(range(100, 100 + width))
        found = measures(detect_page(maps_of({(20, 50, 10, 190): [*thick, 189]}), 1, 1))
        assert len(found[0]) == 2, width
        assert found[0][0][2] == pytest.approx(100 + width / 2, abs=2)


def test_two_bar_lines_close_together_are_both_found() -> None:
    page = detect_page(maps_of({(20, 50, 10, 190): [100, 110, 189]}), 1, 1)
    assert measures(page) == [[(1, 10, 100.5), (2, 100.5, 110.5), (3, 110.5, 190)]]


def test_short_strokes_are_no_bar_lines() -> None:
    maps = maps_of({(20, 60, 10, 190): [100, 189]})
    maps[2, 20:30, 50] = 1  # a stem
    assert len(detect_page(maps, 1, 1).systems[0].measures) == 2


def test_specks_and_short_lines_are_no_systems() -> None:
    maps = maps_of({(20, 50, 10, 190): [100]})
    maps[0, 100:101, :] = 1
    maps[0, 150:152, 10:190] = 1
    maps[0, 200:230, 10:40] = 1
    assert len(detect_page(maps, 1, 1).systems) == 1


def test_uncertain_maps_give_the_same_boxes_as_sure_ones() -> None:
    places = {(20, 50, 10, 190): [60, 120, 189], (80, 110, 20, 190): [100, 189]}
    rng = np.random.default_rng(0)
    sure = maps_of(places)
    unsure = 0.15 + 0.7 * sure + rng.uniform(-0.1, 0.1, sure.shape).astype(np.float32)
    expected, found = detect_page(sure, 1, 1), detect_page(unsure, 1, 1)
    np.testing.assert_allclose(boxes(found), boxes(expected), atol=1)
    assert [len(s.measures) for s in found.systems] == [3, 2]


def test_an_empty_page_has_no_systems() -> None:
    assert detect_page(np.zeros((3, ROWS, COLUMNS), np.float32), 4, 9) == PageLayout(4)


def check(page: PageLayout, first_measure: int, columns: int) -> None:
    numbers = [m.number for s in page.systems for m in s.measures]
    assert numbers == list(range(first_measure, first_measure + len(numbers)))
    for above, below in pairwise(page.systems):
        assert above.bottom <= below.top
    for s in page.systems:
        assert 0 <= s.top < s.bottom <= 1
        assert 0 <= s.left < s.right <= 1
        assert s.measures
        assert s.measures[0].left == s.left
        assert s.measures[-1].right == s.right
        for m in s.measures:
            assert m.left < m.right
        for one, next_one in pairwise(s.measures):
            assert one.right == next_one.left


RUNS = st.lists(st.tuples(st.integers(0, 39), st.integers(1, 12), st.floats(0, 1, width=32)))


@settings(max_examples=150, deadline=None)
@given(
    down=st.tuples(RUNS, RUNS),
    across=st.tuples(RUNS, RUNS),
    bars=arrays.arrays(np.float32, 40, elements=st.floats(0, 1, width=32)),
    first=st.integers(1, 500),
)
def test_striped_maps_give_sound_layouts(
    down: tuple[list, list], across: tuple[list, list], bars: Floats, first: int
) -> None:
    maps = np.zeros((3, 40, 40), np.float32)
    for layer in (0, 1):
        rows, columns = np.zeros(40, np.float32), np.full(40, 0.7, np.float32)
        for start, size, level in down[layer]:
            rows[start : start + size] = level
        for start, size, level in across[layer]:
            columns[start : start + size] = level
        maps[layer] = np.sqrt(rows[:, None] * columns)
    maps[2] = bars
    check(detect_page(maps, 1, first), first, 40)


@settings(max_examples=100, deadline=None)
@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.just(3), st.integers(1, 24), st.integers(1, 24)),
        elements=st.floats(0, 1, width=32),
        fill=st.sampled_from([np.float32(0), np.float32(0.6), np.float32(1)]),
    )
)
def test_any_map_gives_a_sound_layout(maps: Floats) -> None:
    check(detect_page(maps, 1, 1), 1, maps.shape[2])


@given(st.lists(st.booleans(), max_size=30))
def test_runs_are_the_stretches_of_true(on: list[bool]) -> None:
    found = runs(np.array(on, bool))
    covered = [i for start, end in found for i in range(start, end)]
    assert covered == [i for i, value in enumerate(on) if value]
    assert all(one[1] < two[0] for one, two in pairwise(found))


def test_peaks_are_found_between_columns_and_apart() -> None:
    profile = np.zeros(30, np.float32)
    profile[[5, 6]] = 0.8
    profile[[7, 20]] = 0.5, 0.9
    assert peaks(profile, 0.35, 4) == pytest.approx([5.5, 20.0], abs=0.4)
    assert peaks(profile, 0.85, 4) == [20.0]
