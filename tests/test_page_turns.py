from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from conftest import make_layout
from hypothesis import given, settings
from hypothesis import strategies as st

from sf_plugin.errors import ScoreError
from sf_plugin.page_turns import BEAT, LONGEST_LEAD, Lead, PageTurner, TurnSettings
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
    made = turns(PageTurner(layout, TurnSettings(lead=Lead(lead))), play(layout, seconds))
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
    known = replace(last, onsets=((last.left + 0.02, 0.0), (last.right, 4.0)))
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
    least = min(rules.printed, rules.rested, rules.elsewhere)
    for page, system, x, confidence, state, frames in plan:
        for frame in range(frames):
            time += FRAME
            heard = position(
                time, page, system, min(x + frame * 0.005, 1.0), confidence=confidence, state=state
            )
            sure = state == "tracking" and confidence >= rules.confidence
            if sure and here != page:
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
                assert time - page_since >= least - 1e-6
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


def test_going_back_to_practise_turns_back_and_on_again() -> None:
    layout = make_layout(2)
    first = play(layout, 6.0, systems=[0, 1, 2])
    again = play(layout, 6.0, start=first[-1].time, systems=[0, 1, 2])
    made = turns(PageTurner(layout), first + again)
    assert [turn.page for turn in made] == [2, 1, 2]
    patience = TurnSettings().elsewhere
    assert made[1].time - first[-1].time == pytest.approx(patience, abs=0.1)
    assert made[1].lead == 0.0


def test_going_back_within_the_last_system_turns_back_too() -> None:
    layout = make_layout(2)
    first = play(layout, 6.0, systems=[0, 1])
    again = play(layout, 6.0, start=first[-1].time, systems=[1, 2])
    assert [turn.page for turn in turns(PageTurner(layout), first + again)] == [2, 1, 2]


def test_a_glance_at_an_earlier_page_is_ignored() -> None:
    layout = make_layout(2)
    first = play(layout, 6.0, systems=[0, 1, 2])
    glance = play(layout, 6.0, start=first[-1].time, systems=[0])[: round(1.0 / FRAME)]
    rest = play(layout, 6.0, start=glance[-1].time, systems=[3])
    assert [turn.page for turn in turns(PageTurner(layout), first + glance + rest)] == [2]


def test_a_missed_turn_is_made_up_for() -> None:
    layout = make_layout(4)
    heard = play(layout, 6.0, systems=[0, 4, 5])
    made = turns(PageTurner(layout), heard)
    assert [turn.page for turn in made] == [3, 4]
    assert made[0].time - 6.0 == pytest.approx(TurnSettings().elsewhere, abs=0.1)


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


def still(at: Position, seconds: float, **changes: object) -> list[Position]:
    """The same place for some seconds more."""
    frames = range(1, round(seconds / FRAME) + 1)
    return [replace(at, time=at.time + n * FRAME, **changes) for n in frames]  # type: ignore[arg-type]


def test_after_a_pause_the_page_is_turned_sooner() -> None:
    layout = make_layout(3)
    first = play(layout, 6.0, systems=[0])
    rest = still(first[-1], 1.0)
    away = play(layout, 6.0, start=rest[-1].time, systems=[4])
    (made,) = turns(PageTurner(layout), first + rest + away)
    assert made.page == 3
    assert made.time - rest[-1].time == pytest.approx(TurnSettings().rested, abs=0.1)


def test_doubt_delays_a_turn_but_does_not_begin_it_anew() -> None:
    layout = make_layout(3)
    first = play(layout, 6.0, systems=[0])
    away = play(layout, 12.0, start=first[-1].time, systems=[4])
    doubted = [
        replace(p, confidence=0.2) if 0.5 < p.time - first[-1].time < 1.0 else p for p in away
    ]
    (sure,) = turns(PageTurner(layout), first + away)
    (made,) = turns(PageTurner(layout), first + doubted)
    assert made.page == sure.page == 3
    assert made.time - sure.time == pytest.approx(0.5, abs=0.1)


def test_a_printed_repeat_to_an_earlier_page_is_turned_back_for_at_once() -> None:
    layout = make_layout(3, repeat_start={1}, repeat_end={12})
    first = play(layout, 6.0, systems=[0, 1, 2])
    second = play(layout, 6.0, start=first[-1].time, systems=[0, 1, 2, 3], pass_=2)
    made = turns(PageTurner(layout), first + second)
    assert [turn.page for turn in made] == [2, 1, 2, 3]
    assert made[1].time - first[-1].time == pytest.approx(TurnSettings().printed, abs=0.1)


def test_a_repeat_that_is_not_taken_is_turned_for_when_the_music_goes_on() -> None:
    layout = make_layout(2, repeat_start={5}, repeat_end={8})
    heard = play(layout, 6.0, systems=[0, 1, 2])
    (made,) = turns(PageTurner(layout), heard)
    assert made.time - 12.0 == pytest.approx(TurnSettings().passed_over, abs=0.1)


def test_a_long_last_note_is_waited_for_no_longer_than_it_takes() -> None:
    layout = make_layout(2)
    heard = play(layout, 8.0, systems=[0, 1])
    held = next(n for n, p in enumerate(heard) if p.time > 14.8)
    waiting = [*heard[:held], *still(heard[held - 1], 16.0 - heard[held - 1].time)]
    (made,) = turns(PageTurner(layout), waiting)
    assert made.time == pytest.approx(15.0, abs=0.2)


def test_who_stops_before_the_last_measure_sees_the_page() -> None:
    layout = make_layout(2)
    heard = play(layout, 8.0, systems=[0, 1])
    (stop,) = (n for n, p in enumerate(heard) if p.measure == 7 and heard[n + 1].measure == 8)
    assert turns(PageTurner(layout), [*heard[: stop + 1], *still(heard[stop], 60.0)]) == []


# leads


@given(st.floats(0, LONGEST_LEAD), st.sampled_from(["", "s", " s", "beat", "beats", " beats"]))
@settings(max_examples=50, deadline=None)
def test_a_lead_is_read_as_it_is_written(amount: float, unit: str) -> None:
    lead = Lead.parse(f"{amount:.3f}{unit}")
    assert lead.amount == pytest.approx(amount, abs=1e-3)
    assert lead.unit == ("beats" if "beat" in unit else "s")
    assert Lead.parse(str(lead)).unit == lead.unit


@given(st.text(max_size=12))
@settings(max_examples=100, deadline=None)
def test_any_text_is_a_lead_or_is_explained(text: str) -> None:
    try:
        assert 0 <= Lead.parse(text).amount <= LONGEST_LEAD
    except ValueError as error:
        assert "2beats" in str(error)


@pytest.mark.parametrize("text", ["", "s", "-1", "1e3", "31", "2 bars", "nan", "1,5s", "٣"])
def test_what_is_no_lead_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"1\.5s, 2beats"):
        Lead.parse(text)


def test_beats_are_as_long_as_the_tempo_says() -> None:
    assert Lead(2, "beats").seconds(60.0) == 2.0
    assert Lead(2, "beats").seconds(None) == 2 * BEAT
    assert Lead(2).seconds(60.0) == 2.0


@pytest.mark.parametrize(("tempo", "ahead"), [(60.0, 2.0), (120.0, 1.0)])
def test_a_lead_in_beats_follows_the_tempo(tempo: float, ahead: float) -> None:
    layout = make_layout(2)
    heard = [replace(p, tempo=tempo) for p in play(layout, 8.0, systems=[0, 1])]
    (made,) = turns(PageTurner(layout, TurnSettings(lead=Lead(2, "beats"))), heard)
    assert 16.0 - made.time == pytest.approx(ahead, abs=0.2)


# half pages


HALVES = TurnSettings(half_pages=True)


def told(made: Iterable[PageTurn]) -> list[tuple[int, bool]]:
    return [(turn.page, turn.half) for turn in made]


def test_half_pages_follow_the_music() -> None:
    layout = make_layout(3)
    heard = play(layout, 6.0)
    made = turns(PageTurner(layout, HALVES), heard)
    assert told(made) == [(2, True), (2, False), (3, True), (3, False)]
    for turn, begins in zip(made, (6.0, 12.0, 18.0, 24.0), strict=True):
        assert turn.time - begins == pytest.approx(HALVES.printed, abs=0.15)
    assert made[0].lead == pytest.approx(12.0 - made[0].time, abs=0.3)


def test_going_back_to_a_hidden_upper_half_shows_the_whole_page() -> None:
    layout = make_layout(2)
    first = play(layout, 6.0, systems=[0, 1])
    again = play(layout, 6.0, start=first[-1].time, systems=[0, 1, 2])
    made = turns(PageTurner(layout, HALVES), first + again)
    assert told(made) == [(2, True), (1, False), (2, True), (2, False)]


def test_a_page_with_nothing_in_its_lower_half_is_turned_whole() -> None:
    plain = make_layout(2)
    first = plain.pages[0]
    layout = replace(plain, pages=(replace(first, systems=first.systems[:1]), plain.pages[1]))
    heard = play(layout, 6.0, systems=[0, 1])
    assert told(turns(PageTurner(layout, HALVES), heard)) == [(2, False)]


def test_a_half_turn_waits_for_the_repeat() -> None:
    layout = make_layout(2, repeat_start={1}, repeat_end={8})
    first = play(layout, 6.0, systems=[0, 1])
    second = play(layout, 6.0, start=first[-1].time, systems=[0, 1, 2], pass_=2)
    turner = PageTurner(layout, HALVES)
    assert turns(turner, first) == []
    assert told(turns(turner, second)) == [(2, True), (2, False)]


# the player's word


def test_the_player_is_not_fought() -> None:
    layout = make_layout(3)
    turner = PageTurner(layout)
    heard = play(layout, 6.0, systems=[0, 1, 2])
    assert turns(turner, heard[:60]) == []
    wish = turner.show(2)
    assert wish is not None
    assert (wish.page, wish.lead, turner.shown) == (2, 0.0, 2)
    assert turner.show(2) is None
    assert turns(turner, heard[60:]) == []
    onward = play(layout, 6.0, start=heard[-1].time, systems=[3, 4])
    assert [turn.page for turn in turns(turner, onward)] == [3]


def test_after_the_music_left_the_page_it_is_followed_again() -> None:
    layout = make_layout(3)
    turner = PageTurner(layout)
    heard = play(layout, 6.0, systems=[0, 1, 2])
    turns(turner, heard[:60])
    turner.show(3)
    made = turns(turner, heard[60:])
    assert [turn.page for turn in made] == [2]
    assert made[0].time > 12.0


def test_where_to_look_for_the_music_on_a_page_that_was_chosen() -> None:
    layout = make_layout(3)
    turner = PageTurner(layout)
    system = layout.pages[2].systems[0]
    top = (system.left, (system.top + system.bottom) / 2)
    assert turner.beginning(3) == top
    turns(turner, play(layout, 6.0, systems=[0, 1]))
    assert turner.beginning(3) == top
    assert turner.beginning(2) is None
    assert turner.beginning(1) is None


def test_a_page_that_is_not_there_cannot_be_shown() -> None:
    with pytest.raises(ScoreError, match="no page 4 to show: the score has 3 pages"):
        PageTurner(make_layout(3)).show(4)


def test_the_less_certain_the_longer_a_turn_to_elsewhere_takes() -> None:
    layout = make_layout(3)
    first = play(layout, 6.0, systems=[0])
    away = play(layout, 12.0, start=first[-1].time, systems=[4])
    times = []
    for confidence in (0.95, 0.8, 0.65):
        heard = [*first, *(replace(p, confidence=confidence) for p in away)]
        (made,) = turns(PageTurner(layout), heard)
        times.append(made.time)
    assert times[0] + 0.2 < times[1] < times[2] - 0.5
