from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sf_plugin.errors import ScoreError
from sf_plugin.score.layout import Layout, Measure, PageLayout, System

fractions = st.floats(0, 1)
texts = st.sampled_from([None, "", "12a", "1, 2", "Ü", '"'])
measures = st.builds(
    Measure,
    number=st.integers(1, 9999),
    left=fractions,
    right=fractions,
    label=texts,
    repeat_start=st.booleans(),
    repeat_end=st.booleans(),
    volta=texts,
    onsets=st.lists(st.tuples(fractions, st.floats(0, 16)), max_size=3).map(tuple),
    signs=st.lists(st.sampled_from(["segno", "coda", "fine"]), max_size=2).map(tuple),
)
systems = st.builds(
    System, fractions, fractions, fractions, fractions, st.lists(measures, max_size=2).map(tuple)
)
pages = st.builds(PageLayout, st.integers(1, 999), st.lists(systems, max_size=2).map(tuple))
layouts = st.builds(Layout, st.lists(pages, max_size=2).map(tuple))


@given(layouts)
def test_json_round_trip(layout: Layout) -> None:
    assert Layout.from_json(layout.to_json()) == layout


def test_json_has_the_promised_fields() -> None:
    measure = Measure(1, 0.1, 0.5, label="1", onsets=((0.2, 0.0), (0.5, 4.0)))
    layout = Layout(
        (PageLayout(1, (System(0.1, 0.2, 0.1, 0.9, (measure, Measure(2, 0.5, 0.9))),)),)
    )
    data = json.loads(layout.to_json())
    system = data["pages"][0]["systems"][0]
    assert {k: system[k] for k in ("top", "bottom", "left", "right")} == {
        "top": 0.1,
        "bottom": 0.2,
        "left": 0.1,
        "right": 0.9,
    }
    first, second = system["measures"]
    assert first["onsets"] == [[0.2, 0.0], [0.5, 4.0]]
    assert second == {
        "number": 2,
        "label": None,
        "left": 0.5,
        "right": 0.9,
        "repeat_start": False,
        "repeat_end": False,
        "volta": None,
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"version": 2, "pages": []}',
        '{"version": 1}',
        '{"version": 1, "pages": [{"page": 1}]}',
        '{"version": 1, "pages": [{"page": 1, "systems": [{"top": 0}]}]}',
        "null",
    ],
)
def test_another_file_is_no_layout(text: str) -> None:
    with pytest.raises(ScoreError, match="layout"):
        Layout.from_json(text)
