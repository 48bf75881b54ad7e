from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sf_plugin.positions import STATES, Estimate, Position, State
from sf_plugin.score.layout import Layout, Measure, PageLayout, System
from sf_plugin.score.measures import PlainMapper, beat_at, fit_tempo, place_at

FRAME = 0.05


def layout_of(shape: list[list[int]], beats: float | None = 4.0) -> Layout:
    """Pages of systems of so many equal measures between x 0.1 and 0.9."""
    pages, number = [], 1
    for page, counts in enumerate(shape, 1):
        systems = []
        for index, count in enumerate(counts):
            measures = []
            for k in range(count):
                left, right = 0.1 + 0.8 * k / count, 0.1 + 0.8 * (k + 1) / count
                onsets = ((left + 0.01, 0.0), (right, beats)) if beats is not None else ()
                measures.append(Measure(number, left, right, label=str(number), onsets=onsets))
                number += 1
            top = (index + 0.2) / len(counts)
            bottom = (index + 0.8) / len(counts)
            systems.append(System(top, bottom, 0.1, 0.9, tuple(measures)))
        pages.append(PageLayout(page, tuple(systems)))
    return Layout(tuple(pages))


shapes = st.lists(st.lists(st.integers(1, 6), max_size=5), max_size=3)


class Player:
    """Plays over a layout, a frame at a time."""

    def __init__(self, layout: Layout) -> None:
        self.places = {
            m.number: (page.page, m, (s.top + s.bottom) / 2)
            for page in layout.pages
            for s in page.systems
            for m in s.measures
        }
        self.mapper = PlainMapper()
        self.mapper.open(layout)
        self.time = 0.0

    def at(self, number: int, inside: float, state: State = "tracking") -> Position:
        page, measure, y = self.places[number]
        self.time += FRAME
        x = measure.left + inside * (measure.right - measure.left)
        return self.mapper.locate(Estimate(self.time, page, x, y, 0.9, state))

    def play(self, *numbers: int, seconds: float = 1.0) -> list[Position]:
        frames = round(seconds / FRAME)
        return [self.at(n, (i + 0.5) / frames) for n in numbers for i in range(frames)]


@given(shapes)
def test_the_centre_of_each_measure_maps_to_it(shape: list[list[int]]) -> None:
    layout = layout_of(shape)
    mapper = PlainMapper()
    mapper.open(layout)
    for page in layout.pages:
        for index, system in enumerate(page.systems, 1):
            for measure in system.measures:
                y = (system.top + system.bottom) / 2
                x = (measure.left + measure.right) / 2
                position = mapper.locate(Estimate(1.0, page.page, x, y, 1.0, "lost"))
                found = (position.page, position.system, position.measure, position.label)
                assert found == (page.page, index, measure.number, measure.label)
                assert position.beat is not None
                assert 0 < position.beat < 4


anywhere = st.floats() | st.floats(-0.5, 1.5)


@given(
    shapes,
    st.lists(
        st.tuples(st.integers(-1, 5), anywhere, anywhere, st.sampled_from(STATES)), max_size=30
    ),
    st.booleans(),
)
def test_no_place_is_an_error_and_passes_hardly_fall(
    shape: list[list[int]],
    places: list[tuple[int, float, float, State]],
    beats: bool,
) -> None:
    mapper = PlainMapper()
    mapper.open(layout_of(shape, 4.0 if beats else None))
    passes: dict[int | None, int] = {}
    for frame, (page, x, y, state) in enumerate(places):
        estimate = Estimate(frame * 0.2, page, x, y, 0.5, state)
        position = mapper.locate(estimate)
        assert (position.time, position.page) == (estimate.time, page)
        assert (position.confidence, position.state) == (0.5, state)
        has_system = 1 <= page <= len(shape) and bool(shape[page - 1])
        assert (position.system is not None) == has_system
        assert (position.measure is not None) == has_system
        most = passes.get(position.measure, 1)
        assert position.pass_ >= max(most - 1, 1)  # one that was not played is taken back
        passes[position.measure] = max(most, position.pass_)
        if state in ("waiting", "lost") or not beats:
            assert position.tempo is None
        if math.isfinite(x):
            assert (position.beat is not None) == (has_system and beats)


def test_an_empty_layout_gives_nulls() -> None:
    mapper = PlainMapper()
    for layout in (
        Layout(()),
        Layout((PageLayout(1),)),
        Layout((PageLayout(1, (System(0, 1, 0, 1),)),)),
    ):
        mapper.open(layout)
        position = mapper.locate(Estimate(1.0, 1, 0.5, 0.5, 0.3, "tracking"))
        assert (position.measure, position.label, position.beat, position.tempo) == (None,) * 4
        assert position.pass_ == 1
        assert (position.x, position.y) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("x", "y", "system", "number"),
    [
        (-1.0, 0.25, 1, 1),
        (0.05, 0.25, 1, 1),
        (0.1, 0.25, 1, 1),
        (0.4999, 0.25, 1, 1),
        (0.5001, 0.25, 1, 2),
        (0.95, 0.25, 1, 2),
        (9.0, 0.25, 1, 2),
        (0.3, 0.44, 1, 1),
        (0.3, 0.56, 2, 3),
        (0.3, -3.0, 1, 1),
        (0.95, 3.0, 2, 4),
    ],
)
def test_edges_belong_to_the_nearest(x: float, y: float, system: int, number: int) -> None:
    place = place_at(layout_of([[2, 2]]).pages[0], x, y)
    assert place is not None
    assert place.measure is not None
    assert (place.system, place.measure.number) == (system, number)


def test_a_gap_between_measures_goes_to_the_nearer() -> None:
    system = System(0.1, 0.2, 0.1, 0.9, (Measure(1, 0.1, 0.4), Measure(2, 0.6, 0.9)))
    page = PageLayout(1, (system,))
    numbers = [place_at(page, x, 0.15).measure.number for x in (0.45, 0.49, 0.51, 0.55)]  # type: ignore[union-attr]
    assert numbers == [1, 1, 2, 2]


def test_beats_are_interpolated_between_onsets() -> None:
    measure = Measure(1, 0.1, 0.9, onsets=((0.2, 0.0), (0.4, 1.0), (0.5, 2.0), (0.9, 4.0)))
    found = [beat_at(measure, x) for x in (0.0, 0.2, 0.3, 0.4, 0.45, 0.7, 0.9, 2.0)]
    assert found == pytest.approx([0, 0, 0.5, 1, 1.5, 3, 4, 4])


def passes(positions: list[Position]) -> list[tuple[int | None, int]]:
    """(measure, pass) whenever either changes, the frames of a fresh leap left out."""
    runs = [(p.measure, p.pass_) for p in positions]
    seen = [runs[0]]
    seen += [here for before, here in pairwise(runs) if here != before]
    return [r for r, after in zip(seen, [*seen[1:], (None, 0)], strict=True) if r[0] != after[0]]


def test_a_repeat_with_two_endings_counts_passes() -> None:
    positions = Player(layout_of([[3, 3]])).play(1, 2, 3, 1, 2, 4, 5)
    assert passes(positions) == [(1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (4, 1), (5, 1)]


@st.composite
def performances(draw: st.DrawFn) -> tuple[int, list[int]]:
    """How many measures are printed, in repeated parts with endings or none, and those played."""
    number = 0
    played: list[int] = []
    for _ in range(draw(st.integers(1, 3))):
        body = range(number + 1, number + 1 + draw(st.integers(1, 3)))
        number = body[-1]
        endings = []
        for _ in range(draw(st.sampled_from([0, 0, 2, 3]))):
            endings.append(range(number + 1, number + 1 + draw(st.integers(1, 2))))
            number = endings[-1][-1]
        passes = range(len(endings) or draw(st.integers(1, 3)))
        for ending in passes if draw(st.booleans()) else passes[-1:]:
            played += [*body, *(endings[ending] if endings else ())]
    if draw(st.booleans()):  # da capo, from any measure to any
        played += range(draw(st.integers(1, number)), number + 1)
    return number, played


@settings(deadline=None, max_examples=50)
@given(performances(), st.integers(1, 5))
def test_passes_are_those_of_the_performance(
    performance: tuple[int, list[int]], systems: int
) -> None:
    count, played = performance
    size = -(-count // systems)
    player = Player(layout_of([[size] * systems]))
    visits: dict[int, int] = {}
    for number in played:
        visits[number] = visits.get(number, 0) + 1
        positions = player.play(number)
        assert {p.label for p in positions} == {str(number)}
        assert positions[-1].pass_ == visits[number], played


def test_one_measure_repeated_counts_passes() -> None:
    positions = Player(layout_of([[4]])).play(1, 2, 2, 2, 3)
    last = {}
    for position in positions:
        last[position.measure] = position.pass_
    assert last == {1: 1, 2: 3, 3: 1}


def test_a_third_time_from_the_top() -> None:
    positions = Player(layout_of([[2], [2]])).play(*[1, 2, 3, 4] * 3)
    assert positions[-1].pass_ == 3
    assert passes(positions)[-4:] == [(1, 3), (2, 3), (3, 3), (4, 3)]


def test_jitter_over_a_bar_line_is_no_new_pass() -> None:
    player = Player(layout_of([[4]]))
    positions = player.play(1, 2)
    for _ in range(40):
        positions += [player.at(3, 0.1), player.at(2, 0.9), player.at(3, 0.2), player.at(2, 0.75)]
    positions += player.play(3, 4)
    assert {p.pass_ for p in positions} == {1}


@pytest.mark.parametrize(("page", "x"), [(1, 0.12), (2, 0.88), (2, 0.3)])
def test_a_flicker_elsewhere_is_no_new_pass(page: int, x: float) -> None:
    player = Player(layout_of([[4], [4]]))
    positions = player.play(1, 2)
    for _ in range(10):
        player.time += FRAME
        flicker = Estimate(player.time, page, x, 0.5, 0.9, "tracking")
        player.mapper.locate(flicker)
        positions += [player.at(3, 0.1 + 0.01 * k) for k in range(4)]
    positions += player.play(3, 4, 5, 6, 7, 8)
    assert {p.pass_ for p in positions} == {1}


def test_running_on_for_a_moment_at_a_repeat_is_no_pass() -> None:
    player = Player(layout_of([[4]]))
    player.play(1, 2)
    player.play(3, seconds=0.2)
    assert [p.pass_ for p in player.play(1, 2)][-1] == 2
    assert {p.pass_ for p in player.play(3, 4)} == {1}


def test_being_lost_teaches_nothing() -> None:
    player = Player(layout_of([[4]]))
    player.play(1, 2, 3)
    lost = [player.at(1, 0.02 * i, "lost") for i in range(40)]
    assert {(p.measure, p.pass_, p.tempo) for p in lost} == {(1, 1, None)}
    assert {p.pass_ for p in player.play(4)} == {1}


def test_open_starts_a_new_performance() -> None:
    layout = layout_of([[2]])
    player = Player(layout)
    assert player.play(1, 2, 1, 2)[-1].pass_ == 2
    player.mapper.open(layout)
    assert {p.pass_ for p in player.play(1, 2)} == {1}


@pytest.mark.parametrize("bpm", [40, 96.5, 200])
def test_tempo_of_steady_playing(bpm: float) -> None:
    player = Player(layout_of([[4, 4], [4, 4]]))
    positions = player.play(*range(1, 17), seconds=4 * 60 / bpm)
    assert positions[0].tempo is None
    tempi = [p.tempo for p in positions if p.time > 3]
    assert all(t is not None for t in tempi)
    assert tempi == pytest.approx([bpm] * len(tempi), rel=0.16)
    assert sum(t for t in tempi if t) / len(tempi) == pytest.approx(bpm, rel=0.03)


def test_tempo_survives_a_few_wild_frames() -> None:
    points = [(0.1 * i, 0.2 * i) for i in range(40)]
    for wild in (5, 17, 30):
        points[wild] = (points[wild][0], points[wild][1] + 3)
    assert fit_tempo(points) == pytest.approx(120)


def test_tempo_depends_on_the_past_only() -> None:
    shorter, longer = Player(layout_of([[4]])), Player(layout_of([[4]]))
    first = shorter.play(1, 2, 3)
    assert longer.play(1, 2, 3, 4, seconds=1.0)[: len(first)] == first


def test_standing_still_has_no_tempo() -> None:
    player = Player(layout_of([[4]]))
    assert [player.at(1, 0.5) for _ in range(200)][-1].tempo is None


def test_tempo_starts_afresh_after_a_leap() -> None:
    player = Player(layout_of([[4, 4]]))
    player.play(*range(1, 8))
    after = player.play(1, 2, 3)
    fresh = [p.tempo for p in after if p.tempo is not None]
    assert fresh
    assert fresh == pytest.approx([240] * len(fresh), rel=0.12)
    assert after[10].tempo is None
