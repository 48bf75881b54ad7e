from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from conftest import make_layout
from hypothesis import given, settings
from hypothesis import strategies as st

from sf_plugin.page_turns import PageTurner, TurnSettings
from sf_plugin.positions import STATES, PageTurn, Position
from sf_plugin.score.layout import Layout

FRAME = 0.05


def position(
    time: float,
    page: int,
    system: int = 1,
    x: float = 0.5,
    *,
    confidence: float = 0.9,
    state: str = "tracking",
    measure: int | None = None,
    pass_: int = 1,
) -> Position:
    return Position(
        time,
        page,
        x,
        0.5,
        system,
        measure,
        None,
        pass_,
        None,
        None,
        confidence,
        state,  # type: ignore[arg-type]
    )


def play(
    layout: Layout,
    seconds_a_system: float,
    *,
    start: float = 0.0,
    systems: Iterable[int] | None = None,
    pass_: int = 1,
    **how: object,
) -> list[Position]:
    """Read the given systems, counted from 0 through the document, at a constant speed."""
    places = [
        (page.page, row, system)
        for page in layout.pages
        for row, system in enumerate(page.systems, 1)
    ]
    frames = round(seconds_a_system / FRAME)
    heard = []
    time = start
    for index in range(len(places)) if systems is None else systems:
        page, row, system = places[index]
        for frame in range(frames):
            x = system.left + (system.right - system.left) * frame / frames
            number = next(m.number for m in reversed(system.measures) if m.left <= x + 1e-9)
            time += FRAME
            heard.append(position(time, page, row, x, measure=number, pass_=pass_, **how))  # type: ignore[arg-type]
    return heard


def turns(turner: PageTurner, heard: Iterable[Position]) -> list[PageTurn]:
    return [turn for turn in map(turner.hear, heard) if turn]


@given(
    seconds=st.floats(2.0, 20.0),
    lead=st.floats(0.3, 2.0),
    pages=st.integers(2, 5),
)
@settings(max_examples=40, deadline=None)
def test_a_steady_performance_turns_each_page_once_with_the_lead(
    seconds: float, lead: float, pages: int
) -> None:
    layout = make_layout(pages)
    made = turns(PageTurner(layout, TurnSettings(lead=lead)), play(layout, seconds))
    assert [turn.page for turn in made] == list(range(2, pages + 1))
    frames = round(seconds / FRAME)
    for index, turn in enumerate(made, 1):
        page_ends = index * len(layout.pages[0].systems) * frames * FRAME
        ahead = page_ends - turn.time
        assert min(lead, seconds) - 0.35 <= ahead <= lead + 0.1
        assert turn.lead == pytest.approx(ahead, abs=0.3)


def test_the_lead_is_to_the_last_note_where_it_is_known() -> None:
    plain = make_layout(2)
    system = plain.pages[0].systems[-1]
    last = system.measures[-1]
    known = replace(last, onsets=((last.left + 0.02, 0.0),))
    first = replace(
        plain.pages[0],
        systems=(
            plain.pages[0].systems[0],
            replace(system, measures=(*system.measures[:-1], known)),
        ),
    )
    layout = replace(plain, pages=(first, plain.pages[1]))
    heard = play(layout, 8.0)
    (early,) = turns(PageTurner(layout), heard)
    (late,) = turns(PageTurner(plain), heard)
    assert late.time - early.time == pytest.approx((last.right - last.left - 0.02) * 10, abs=0.1)
    assert early.lead == pytest.approx(late.lead + late.time - early.time, abs=0.1)


steps = st.lists(
    st.tuples(
        st.integers(1, 4),
        st.sampled_from([1, 2]),
        st.floats(0.0, 1.0),
        st.floats(0.0, 1.0),
        st.sampled_from(STATES),
        st.integers(1, 60),
    ),
    max_size=30,
)


@given(steps)
@settings(max_examples=200, deadline=None)
def test_whatever_is_heard_the_rules_hold(
    plan: list[tuple[int, int, float, float, str, int]],
) -> None:
    layout = make_layout(4)
    rules = TurnSettings()
    turner = PageTurner(layout, rules)
    shown, time, page_since, here = 1, 0.0, 0.0, None
    for page, system, x, confidence, state, frames in plan:
        for frame in range(frames):
            time += FRAME
            heard = position(
                time, page, system, min(x + frame * 0.005, 1.0), confidence=confidence, state=state
            )
            sure = state == "tracking" and confidence >= rules.confidence
            if not sure:
                here = None
            elif here != page:
                here, page_since = page, time
            turn = turner.hear(heard)
            if turn is None:
                continue
            assert sure
            assert turn.page != shown
            assert turn.lead >= 0
            if turn.page == page + 1 and page == shown:
                assert system == len(layout.pages[0].systems)
            else:
                assert turn.page == page
                patience = rules.back if page < shown else rules.onward
                assert time - page_since >= patience - 1e-6
            shown = turn.page
            assert turner.shown == shown


@pytest.mark.parametrize(
    "unsure", [{"state": "unsure"}, {"state": "lost"}, {"confidence": 0.3}, {"state": "ended"}]
)
def test_nothing_is_turned_while_unsure(unsure: dict[str, object]) -> None:
    layout = make_layout(3)
    assert turns(PageTurner(layout), play(layout, 6.0, **unsure)) == []


def test_a_fermata_on_the_last_note_does_not_turn_back() -> None:
    layout = make_layout(2)
    heard = play(layout, 6.0, systems=[0, 1])
    end = heard[-1]
    held = [
        position(end.time + (i + 1) * FRAME, 1, 2, end.x - 0.001 * (i % 7), measure=8)
        for i in range(400)
    ]
    onward = play(layout, 6.0, start=held[-1].time, systems=[2, 3])
    made = turns(PageTurner(layout), heard + held + onward)
    assert [turn.page for turn in made] == [2]


def test_going_back_to_practise_turns_back_after_two_seconds_and_on_again() -> None:
    layout = make_layout(2)
    first = play(layout, 6.0, systems=[0, 1, 2])
    again = play(layout, 6.0, start=first[-1].time, systems=[0, 1, 2])
    made = turns(PageTurner(layout), first + again)
    assert [turn.page for turn in made] == [2, 1, 2]
    assert made[1].time - first[-1].time == pytest.approx(2.0, abs=0.1)
    assert made[1].lead == 0.0


def test_going_back_within_the_last_system_turns_back_too() -> None:
    layout = make_layout(2)
    first = play(layout, 6.0, systems=[0, 1])
    again = play(layout, 6.0, start=first[-1].time, systems=[1, 2])
    assert [turn.page for turn in turns(PageTurner(layout), first + again)] == [2, 1, 2]


def test_a_glance_at_an_earlier_page_is_ignored() -> None:
    layout = make_layout(2)
    first = play(layout, 6.0, systems=[0, 1, 2])
    glance = play(layout, 6.0, start=first[-1].time, systems=[0])[: round(1.5 / FRAME)]
    rest = play(layout, 6.0, start=glance[-1].time, systems=[3])
    assert [turn.page for turn in turns(PageTurner(layout), first + glance + rest)] == [2]


def test_a_missed_turn_is_made_up_for() -> None:
    layout = make_layout(4)
    heard = play(layout, 6.0, systems=[0, 4, 5])
    made = turns(PageTurner(layout), heard)
    assert [turn.page for turn in made] == [3, 4]
    assert made[0].time - 6.0 == pytest.approx(1.0, abs=0.1)


def test_a_repeat_at_the_end_of_the_page_keeps_it_until_the_second_pass() -> None:
    layout = make_layout(2, repeat_start={5}, repeat_end={8})
    first = play(layout, 6.0, systems=[0, 1])
    second = play(layout, 6.0, start=first[-1].time, systems=[1], pass_=2)
    onward = play(layout, 6.0, start=second[-1].time, systems=[2])
    turner = PageTurner(layout)
    assert turns(turner, first) == []
    assert [turn.page for turn in turns(turner, second)] == [2]
    assert turns(turner, onward) == []


def test_pages_without_music_are_passed_over() -> None:
    plain = make_layout(3)
    layout = replace(
        plain, pages=(plain.pages[0], replace(plain.pages[1], systems=()), plain.pages[2])
    )
    assert [turn.page for turn in turns(PageTurner(layout), play(layout, 6.0))] == [3]


def test_reset_starts_from_the_first_page() -> None:
    layout = make_layout(2)
    turner = PageTurner(layout)
    once = turns(turner, play(layout, 6.0))
    turner.reset()
    assert turner.shown == 1
    assert turns(turner, play(layout, 6.0)) == once
