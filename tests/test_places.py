from __future__ import annotations

import numpy as np
import pytest
from conftest import make_layout
from hypothesis import given
from hypothesis import strategies as st

from sf_plugin.errors import ScoreError
from sf_plugin.score.layout import Layout, PageLayout
from sf_plugin.score.model import Pages, Score
from sf_plugin.score.places import Start, choose_pages


def book(pages: int, layout: Layout | None = None) -> Score:
    return Score("book", Pages(pages, lambda index: np.full((1200, 848), index, np.uint8)), layout)


@given(st.integers(1, 99_999), st.integers(1, 9_999))
def test_a_start_is_a_page_or_one_of_its_measures(page: int, measure: int) -> None:
    assert Start.of(f"{page}:{measure}") == Start(page, measure)
    assert Start.of(f" {page} : {measure} ") == Start(page, measure)
    assert Start.of(str(page)) == Start.of(page) == Start(page, 1)
    assert Start.of(Start(page, measure)) == Start(page, measure)


@given(st.text() | st.integers(max_value=0))
def test_anything_else_is_no_start(said: str | int) -> None:
    try:
        start = Start.of(said)
    except ScoreError as error:
        assert "37:5" in str(error)
    else:
        assert start.page >= 1
        assert start.measure >= 1


def test_a_start_is_where_the_measure_begins() -> None:
    layout = make_layout(3)
    assert Start(2).place(layout) == pytest.approx((0.1, 0.225))
    assert Start(2, 6).place(layout) == pytest.approx((0.3, 0.625))


@pytest.mark.parametrize(
    ("start", "says"),
    [
        (Start(4), "page 4: the score has 3 pages"),
        (Start(2, 9), "measure 9 of page 2: 8 measures were found"),
        (Start(3), "page 3: no music was found"),
    ],
)
def test_a_start_that_is_not_there_says_what_is(start: Start, says: str) -> None:
    layout = Layout((*make_layout(2).pages, PageLayout(3)))
    with pytest.raises(ScoreError, match=says):
        start.place(layout)


@pytest.mark.parametrize(
    ("said", "pages"),
    [("2-4", [2, 3, 4]), ("3", [3]), ("4-", [4, 5]), (" 1 - 5 ", [1, 2, 3, 4, 5])],
)
def test_chosen_pages_keep_their_numbers(said: str, pages: list[int]) -> None:
    layout = make_layout(5)
    chosen = choose_pages(book(5, layout), said)
    assert [index + 1 for index in chosen.followed] == pages
    assert len(chosen.pages) == 5
    assert chosen.layout is not None
    assert [page.page for page in chosen.layout.pages if page.systems] == pages
    assert [page for page in chosen.layout.pages if page.systems] == [
        layout.pages[n - 1] for n in pages
    ]


@pytest.mark.parametrize(
    "said", ["", "0", "0-3", "4-2", "1-6", "6", "6-", "a", "1-2-3", "-3", "1,2"]
)
def test_pages_that_are_none_are_refused(said: str) -> None:
    with pytest.raises(ScoreError, match="say the first and the last"):
        choose_pages(book(5), said)
