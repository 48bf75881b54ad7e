from __future__ import annotations

from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sf_plugin.dataset.engraving import (
    ARTICULATIONS,
    BAR,
    NOTE,
    ORNAMENTS,
    SIGN,
    STAFF,
    SYSTEM,
    Engraving,
)
from sf_plugin.dataset.ornaments import figure, neighbour
from sf_plugin.dataset.perform import (
    MECHANICAL,
    PEDAL,
    STYLES,
    Performance,
    Style,
    choose_tempo,
    perform,
    score_onsets,
    sounding,
    sounding_lengths,
    to_midi,
    truth_table,
)
from sf_plugin.dataset.perform import NOTE as PLAYED
from sf_plugin.dataset.timing import arc, bar_places, ritardando
from sf_plugin.dataset.truth_layout import printed_measures

Head = tuple[float, int, float]


def engraving(notes: np.ndarray) -> Engraving:
    order = np.lexsort((notes["x"], notes["grace"], notes["onset"], notes["score"]))
    return Engraving(
        np.zeros((1, 12, 8), np.uint8),
        notes[order],
        np.zeros(1, SYSTEM),
        np.zeros(0, STAFF),
        np.zeros(0, BAR),
    )


def heads(*rows: Head, tempo: float = 60.0, score: int = 0) -> np.ndarray:
    """(onset, pitch, length) in whole notes; a negative length continues a tie."""
    notes = np.zeros(len(rows), NOTE)
    for note, (onset, pitch, length) in zip(notes, rows, strict=True):
        note["onset"], note["pitch"] = onset, pitch
        note["length"], note["tied"] = abs(length), length < 0
    notes["tempo"], notes["score"] = tempo, score
    notes["x"] = 0.1 + 0.1 * notes["onset"]
    return notes


def mechanical(notes: np.ndarray, only: slice | None = None) -> Performance:
    return perform(engraving(notes), np.random.default_rng(0), MECHANICAL, only)


SCALE = heads(*((i / 4, 60 + i, 0.25) for i in range(8)))
TIED = heads(
    (0, 60, 0.25), (0.25, 60, -0.25), (0.5, 60, -0.125), (0.25, 64, 0.25), (0.625, 60, 0.25)
)


def test_a_mechanical_performance_keeps_exact_time() -> None:
    played = mechanical(SCALE)
    assert played.onsets["time"] == pytest.approx(0.5 + 0.25 * np.arange(8), abs=1e-6)
    assert played.notes["onset"] == pytest.approx(0.5 + 0.25 * np.arange(8), abs=1e-6)
    assert played.notes["duration"] == pytest.approx(0.25 * 0.95, abs=1e-6)
    assert played.notes["pitch"].tolist() == list(range(60, 68))
    assert set(played.notes["velocity"]) == {66}
    np.testing.assert_array_equal(played.onsets["moment"], SCALE["onset"])
    np.testing.assert_array_equal(played.onsets["x"], SCALE["x"])


def test_chords_begin_together_and_are_one_onset() -> None:
    played = mechanical(heads((0, 60, 0.5), (0, 64, 0.5), (0.5, 67, 0.5)))
    assert played.onsets["time"] == pytest.approx([0.5, 1.0], abs=1e-6)
    assert played.notes["onset"] == pytest.approx([0.5, 0.5, 1.0], abs=1e-6)


def test_ties_are_held_and_not_struck_again() -> None:
    played = mechanical(TIED)
    assert sorted(played.notes["pitch"]) == [60, 60, 64]
    assert played.onsets["moment"].tolist() == [0, 0.25, 0.625]
    low = played.notes[played.notes["pitch"] == 60]
    assert low["onset"] == pytest.approx([0.5, 1.125], abs=1e-6)
    assert low["duration"] == pytest.approx([0.625 * 0.95, 0.25 * 0.95], abs=1e-6)


def test_lengths_add_up_along_ties_of_one_pitch_only() -> None:
    notes = engraving(TIED).notes
    lengths = {
        (float(note["onset"]), int(note["pitch"])): length
        for note, length in zip(notes, sounding_lengths(notes), strict=True)
    }
    assert lengths[0.0, 60] == pytest.approx(0.625)
    assert lengths[0.25, 64] == pytest.approx(0.25)
    assert lengths[0.625, 60] == pytest.approx(0.25)


def test_a_tie_that_continues_nothing_is_silent() -> None:
    played = mechanical(heads((0, 60, -0.25), (0.25, 62, 0.25), (0.5, 64, 0.25)))
    assert played.notes["pitch"].tolist() == [62, 64]
    assert played.onsets["time"] == pytest.approx([0.5, 0.75], abs=1e-6)


def test_grace_notes_come_before_their_main_note() -> None:
    notes = heads((0, 60, 0.25), (0.25, 76, 0.0625), (0.25, 77, 0.25))
    notes["grace"][1] = -0.0625
    played = mechanical(notes)
    assert played.notes["pitch"].tolist() == [60, 76, 77]
    assert played.onsets["time"] == pytest.approx([0.5, 0.75 - 0.03125, 0.75], abs=1e-6)


def test_only_a_stretch_is_played() -> None:
    played = mechanical(SCALE, slice(2, 5))
    assert played.notes["pitch"].tolist() == [62, 63, 64]
    assert played.onsets["time"] == pytest.approx([0.5, 0.75, 1.0], abs=1e-6)
    assert mechanical(SCALE, slice(6, 100)).notes["pitch"].tolist() == [66, 67]


@pytest.mark.parametrize("only", [None, slice(0, 2)])
def test_a_new_movement_begins_after_a_breath(only: slice | None) -> None:
    notes = np.concatenate([heads((0, 60, 1)), heads((0, 62, 1), score=1)])
    notes["system"] = [0, 1]
    piece = engraving(notes)
    piece.systems = np.zeros(2, SYSTEM)
    piece.systems["score"] = [0, 1]
    played = perform(piece, np.random.default_rng(0), MECHANICAL, only)
    assert 1.8 <= np.diff(played.onsets["time"])[0] <= 3.0
    assert played.onsets["score"].tolist() == [0, 1]
    [movement] = played.happenings
    assert movement.kind == "movement"
    assert movement.time == pytest.approx(played.onsets["time"][1])
    assert movement.pause == pytest.approx(movement.time - 1.5)


def test_the_tempo_is_the_sources_or_fits_the_density_within_reason() -> None:
    rng = np.random.default_rng(0)
    quarters = {
        tempo: heads(*((i / 4, 60, 0.25) for i in range(8)), tempo=tempo)
        for tempo in (0, 30, 3000, 1)
    }
    assert choose_tempo(quarters[30], rng, 0) == pytest.approx(0.5)
    assert choose_tempo(quarters[0], rng, 0) == pytest.approx(0.25 / 0.27)
    assert choose_tempo(quarters[3000], rng, 0) == pytest.approx(0.25 / 0.085)
    assert choose_tempo(quarters[1], rng, 0) == pytest.approx(0.25 / 0.9)


@st.composite
def pieces(draw: st.DrawFn) -> Engraving:
    rows = draw(
        st.lists(
            st.tuples(st.integers(0, 64), st.integers(21, 108), st.integers(1, 16), st.booleans()),
            min_size=1,
            max_size=40,
        )
    )
    first = (0, 60, 4, False)
    notes = heads(*((o / 16, p, (-n if tied else n) / 16) for o, p, n, tied in [first, *rows]))
    notes["tempo"] = draw(st.sampled_from([0, 15, 30, 60]))
    notes["grace"] = [0, *(-1 / 16 * draw(st.booleans()) for _ in rows)]
    return engraving(notes)


ANY_STYLE = st.one_of(
    st.sampled_from(list(STYLES.values())),
    st.builds(
        Style,
        tempo_drift=st.floats(0.01, 0.3),
        phrase_end=st.floats(0, 0.5),
        jitter=st.floats(0, 0.05),
        chord_spread=st.floats(0, 0.1),
        dynamics=st.floats(0, 40),
        pedal=st.just(1.0),
        unevenness=st.floats(0, 0.3),
        wrong_rhythms=st.floats(0, 0.5),
        hesitations=st.floats(0, 0.5),
        jumps=st.just((1, 3)),
        stops=st.just(0.3),
        loops=st.just(0.3),
    ),
)


@settings(max_examples=80, deadline=None)
@given(pieces(), ANY_STYLE, st.integers(0, 1000))
def test_any_piece_in_any_style_is_in_order_of_time(
    piece: Engraving, style: Style, seed: int
) -> None:
    played = perform(piece, np.random.default_rng(seed), style)
    for times in (
        played.onsets["time"],
        played.notes["onset"],
        played.pedals["time"],
        played.measures["time"],
        np.array([happening.time for happening in played.happenings]),
    ):
        assert np.isfinite(times).all()
        assert (np.diff(times) >= 0).all()
    assert played.onsets["time"][0] == pytest.approx(0.5)
    assert (played.notes["duration"] > 0).all()
    assert ((played.notes["velocity"] >= 10) & (played.notes["velocity"] <= 120)).all()
    assert ((played.notes["pitch"] >= 21) & (played.notes["pitch"] <= 108)).all()
    assert (sounding(played)["duration"] > 0).all()


FLAWLESS = [name for name, style in STYLES.items() if not style.wrong_notes]


@settings(max_examples=60, deadline=None)
@given(pieces(), st.sampled_from(FLAWLESS), st.integers(0, 1000))
def test_without_mistakes_every_printed_head_sounds_once_a_visit_at_its_place(
    piece: Engraving, name: str, seed: int
) -> None:
    played = perform(piece, np.random.default_rng(seed), STYLES[name])
    first, group = score_onsets(piece.notes)
    for field in ("page", "system", "x", "score"):
        key = np.stack([played.onsets[field]])
        assert set(key.ravel()) <= set(first[field])
    by_place = {(float(h["x"]), float(h["onset"]), float(h["grace"])) for h in first}
    visits: dict[float, int] = {}
    for onset in played.onsets:
        assert any(onset["x"] == x and onset["moment"] == moment for x, moment, _ in by_place)
        at = float(onset["moment"])
        visits[at] = visits.get(at, 0) + 1
    for moment in np.unique(first["onset"]):
        groups = int((first["onset"] == moment).sum())
        mine = played.onsets[played.onsets["moment"] == moment]
        assert len(mine) % groups == 0
        times = len(mine) // groups
        assert sorted(mine["passing"]) == sorted(list(range(1, times + 1)) * groups)
        fresh = np.flatnonzero((piece.notes["onset"] == moment) & ~piece.notes["tied"])
        for head in fresh:
            assert (played.notes["printed"] == head).sum() == times
    struck = piece.notes[played.notes["printed"]]
    assert played.notes["pitch"].tolist() == struck["pitch"].tolist()
    if name in ("mechanical", "human", "expressive"):
        assert sorted(played.notes["printed"]) == np.flatnonzero(group >= 0).tolist()


@settings(max_examples=40, deadline=None)
@given(pieces(), st.sampled_from(["human", "expressive", "jumps"]), st.integers(0, 1000))
def test_the_first_note_of_each_onset_sounds_at_its_time(
    piece: Engraving, name: str, seed: int
) -> None:
    played = perform(piece, np.random.default_rng(seed), STYLES[name])
    away = np.abs(played.notes["onset"][:, None] - played.onsets["time"])
    assert away.min(0).max() < 1e-9


@settings(max_examples=30, deadline=None)
@given(pieces(), st.sampled_from(list(STYLES)), st.integers(0, 1000))
def test_a_seed_gives_the_same_performance(piece: Engraving, name: str, seed: int) -> None:
    one, other = (perform(piece, np.random.default_rng(seed), STYLES[name]) for _ in range(2))
    for field in fields(Performance):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


def test_seeds_differ() -> None:
    one, other = (perform(engraving(SCALE), np.random.default_rng(seed)) for seed in (1, 2))
    assert not np.allclose(one.onsets["time"], other.onsets["time"], atol=0.01)
    assert not np.array_equal(one.notes["velocity"], other.notes["velocity"])


CHORDS = heads(*((i // 3 / 4, 60 + 4 * (i % 3), 0.25) for i in range(300)))


def delays(played: Performance, piece: Engraving) -> np.ndarray:
    """(notes,) seconds after the onset, in the order of the printed heads."""
    notes = played.notes[np.argsort(played.notes["printed"])]
    _, group = score_onsets(piece.notes)
    return np.asarray(notes["onset"] - played.onsets["time"][group[notes["printed"]]])


def test_notes_sound_close_to_their_onset() -> None:
    style = Style(melody_lead=0, hands=0)
    piece = engraving(CHORDS)
    late = delays(perform(piece, np.random.default_rng(5), style), piece)
    assert 0.002 < late.max() <= 0.02 * 1.5


def test_the_melody_leads_its_chord() -> None:
    style = replace(MECHANICAL, melody_lead=0.03)
    piece = engraving(CHORDS)
    late = delays(perform(piece, np.random.default_rng(0), style), piece).reshape(-1, 3)
    highest = piece.notes["pitch"].reshape(-1, 3).argmax(1)
    lead = np.delete(late[0], highest[0])
    assert late[np.arange(100), highest] == pytest.approx(0)
    assert (lead >= 0.015).all()
    assert (lead <= 0.039).all()


def test_hands_come_apart_by_staff() -> None:
    notes = heads(*((i // 4 / 4, 40 + 9 * (i % 4), 0.25) for i in range(80)))
    notes["staff"] = [1, 1, 0, 0] * 20
    piece = engraving(notes)
    played = perform(piece, np.random.default_rng(0), replace(MECHANICAL, hands=0.02))
    late = delays(played, piece)
    staff = piece.notes["staff"]
    upper, lower = (late[staff == s].reshape(-1, 2) for s in (0, 1))
    assert upper[:, 0] == pytest.approx(upper[:, 1])
    assert lower[:, 0] == pytest.approx(lower[:, 1])
    assert 0.005 < np.abs(upper - lower).mean() < 0.05


def marked(name: str, *rows: int) -> Engraving:
    notes = SCALE.copy()
    notes["articulation"][list(rows)] = ARTICULATIONS[name]
    return engraving(notes)


HEEDING = replace(MECHANICAL, marks=1)


def test_an_arpeggio_runs_upwards_from_its_onset() -> None:
    notes = heads((0, 67, 1), (0, 60, 1), (0, 64, 1), (1, 60, 1))
    notes["articulation"][:3] = ARTICULATIONS["arpeggio"]
    played = perform(engraving(notes), np.random.default_rng(0), HEEDING)
    assert played.notes["pitch"].tolist() == [60, 64, 67, 60]
    steps = np.diff(played.notes["onset"][:3])
    assert ((steps >= 0.03) & (steps <= 0.08)).all()
    assert played.notes["onset"][0] == pytest.approx(played.onsets["time"][0])


def test_a_fermata_is_held_and_time_goes_on_as_before() -> None:
    played = perform(marked("fermata", 3), np.random.default_rng(0), HEEDING)
    steps = np.diff(played.onsets["time"])
    assert np.delete(steps, 3) == pytest.approx(0.25, abs=1e-6)
    assert 1.4 * 0.25 <= steps[3] <= 2.4 * 0.25
    assert played.notes["duration"][3] == pytest.approx(0.95 * steps[3], abs=1e-6)


def test_staccato_is_short_and_an_accent_is_loud() -> None:
    style = Style(marks=1, dynamics=1)
    short = perform(marked("staccato", 3), np.random.default_rng(0), style).notes
    plain = perform(engraving(SCALE), np.random.default_rng(0), style).notes
    assert short["duration"][3] < 0.6 * plain["duration"][3]
    loud = perform(marked("accent", 3), np.random.default_rng(0), style).notes
    assert loud["velocity"][3] == plain["velocity"][3] + 14


@pytest.mark.parametrize("name", list(ORNAMENTS))
def test_an_ornament_is_played_out_over_its_head(name: str) -> None:
    notes = heads((0, 71, 1), (1, 72, 1))
    notes["ornament"][0] = ORNAMENTS[name]
    piece = engraving(notes)
    piece.signs = np.array([(0, 0, 0, 0, 0, "key", "1")], SIGN)
    played = perform(piece, np.random.default_rng(1), HEEDING)
    assert len(played.onsets) == 2
    out = played.notes[played.notes["printed"] == 0]
    assert out["onset"][0] == played.onsets["time"][0]
    assert (out["onset"] + out["duration"] <= played.onsets["time"][1] + 1e-6).all()
    assert out["pitch"][-1] == 71
    heard = {"trill": {71, 72}, "mordent": {69, 71}, "prall": {71, 72}, "turn": {69, 71, 72}}
    assert set(out["pitch"]) == heard.get(name, {71})
    assert len(out) == {"mordent": 3, "prall": 3, "turn": 4}.get(name, len(out))
    if name in ("trill", "tremolo"):
        assert 8 <= len(out) <= 17
    plain = perform(piece, np.random.default_rng(1), MECHANICAL)
    assert plain.notes["pitch"].tolist() == [71, 72]


@given(
    st.integers(0, 6), st.integers(22, 107), st.integers(-7, 7), st.floats(0.01, 5),
    st.integers(0, 99),
)  # fmt: skip
def test_a_figure_fills_its_time_in_order(
    ornament: int, pitch: int, sharps: int, duration: float, seed: int
) -> None:
    played = figure(ornament, pitch, sharps, duration, np.random.default_rng(seed))
    starts = [late for late, _, _ in played]
    assert starts[0] == 0
    assert starts == sorted(starts)
    assert played[-1][0] + played[-1][1] == pytest.approx(duration, rel=1e-6)
    for (late, down, _), (later, _, _) in pairwise(played):
        assert 0.04 <= down <= later - late + 1e-9
    assert {p for _, _, p in played} <= {
        pitch, neighbour(pitch, sharps, True), neighbour(pitch, sharps, False),
    }  # fmt: skip


@given(st.integers(22, 107), st.integers(-7, 7))
def test_neighbours_are_a_step_away(pitch: int, sharps: int) -> None:
    assert 1 <= neighbour(pitch, sharps, True) - pitch <= 2
    assert 1 <= pitch - neighbour(pitch, sharps, False) <= 2
    assert neighbour(64, 0, True) == 65
    assert neighbour(64, 2, True) == 66


LONG = heads(*((i / 4, 40 + i % 40, 0.25) for i in range(400)))


@pytest.mark.parametrize(
    ("field", "kind"),
    [("wrong_notes", "wrong note"), ("missing_notes", "missing note"),
     ("extra_notes", "extra note"), ("hesitations", "hesitation"),
     ("wrong_rhythms", "wrong rhythm")],
)  # fmt: skip
def test_a_mistake_comes_at_its_rate_and_is_told(field: str, kind: str) -> None:
    piece = engraving(LONG)
    rate: dict[str, Any] = {field: 0.1}
    style = replace(MECHANICAL, **rate)
    plain = perform(piece, np.random.default_rng(0), MECHANICAL)
    played = perform(piece, np.random.default_rng(0), style)
    assert 20 <= len(played.happenings) <= 65
    assert {happening.kind for happening in played.happenings} == {kind}
    told = np.array([happening.printed for happening in played.happenings])
    printed = played.notes["printed"]
    assert len(played.onsets) == 400
    if kind == "wrong note":
        wrong = played.notes["pitch"] != piece.notes["pitch"][printed]
        assert sorted(printed[wrong]) == sorted(told)
    elif kind == "missing note":
        assert sorted(set(range(400)) - set(printed)) == sorted(told)
    elif kind == "extra note":
        assert (printed == -1).sum() == len(told)
        np.testing.assert_array_equal(played.onsets, plain.onsets)
    elif kind == "hesitation":
        waits = np.diff(played.onsets["time"]) - 0.25
        found = played.onsets["time"][1:][waits > 0.01]
        assert found == pytest.approx([happening.time for happening in played.happenings])
        assert waits[waits > 0.01] == pytest.approx([h.pause for h in played.happenings])
    else:
        steps = np.diff(played.onsets["time"])
        longer = played.onsets["time"][:-1][steps > 0.34]
        assert set(longer) <= {happening.time for happening in played.happenings}
        assert len(longer) > 10


def test_jumps_are_told_with_where_they_lead_and_the_measures_follow() -> None:
    piece = engraving(LONG)
    piece.bars = np.array(
        [(0, 0.1 + 0.1 * (i + 1) - 0.02, i + 1, i + 2, "|") for i in range(100)], BAR
    )
    piece.systems["left"], piece.systems["right"] = 0.05, 20
    style = replace(MECHANICAL, jumps=(3, 3))
    played = perform(piece, np.random.default_rng(2), style)
    assert [happening.kind for happening in played.happenings] == ["jump"] * 3
    for jump in played.happenings:
        index = int(np.searchsorted(played.onsets["time"], jump.time - 1e-6))
        landed, last = played.onsets[index], played.onsets[index - 1]
        assert landed["time"] == pytest.approx(jump.time)
        assert jump.measure == int(landed["moment"]) + 1
        assert jump.left == int(last["moment"]) + 1
        assert landed["time"] - last["time"] <= jump.pause + 0.25 + 1e-6
        assert landed["time"] - last["time"] >= jump.pause
    for row in played.measures:
        index = int(np.searchsorted(played.onsets["time"], row["time"] - 1e-6))
        assert int(played.onsets["moment"][index]) + 1 == row["number"]
        assert played.onsets["passing"][index] == row["passing"]


def test_repeated_measures_count_their_visits() -> None:
    notes = heads((0, 60, 1), (1, 62, 1), (2, 64, 1), tempo=120)
    piece = engraving(notes)
    piece.bars = np.array(
        [(0, 0.15, 1, 2, "|"), (0, 0.25, 2, 3, ":|."), (0, 0.35, 3, 4, "|.")], BAR
    )
    piece.systems["left"], piece.systems["right"] = 0.05, 0.35
    played = perform(piece, np.random.default_rng(0), replace(MECHANICAL, repeats=1.0))
    assert played.notes["pitch"].tolist() == [60, 62, 60, 62, 64]
    assert played.onsets["time"] == pytest.approx(0.5 + np.arange(5) / 2)
    assert played.onsets["passing"].tolist() == [1, 1, 2, 2, 1]
    assert played.measures["number"].tolist() == [1, 2, 1, 2, 3]
    assert played.measures["passing"].tolist() == [1, 1, 2, 2, 1]
    assert played.measures["time"] == pytest.approx(0.5 + np.arange(5) / 2)
    [repeat] = played.happenings
    assert (repeat.kind, repeat.time, repeat.left, repeat.measure) == (
        "repeat", pytest.approx(1.5), 2, 1,
    )  # fmt: skip
    table = truth_table(played, piece)
    assert table["measure"].tolist() == [1, 2, 1, 2, 3]
    assert table["label"].tolist() == ["1", "2", "1", "2", "3"]
    assert set(table["page"]) == set(table["system"]) == {1}
    assert table["passing"].tolist() == [1, 1, 2, 2, 1]


def test_a_stop_is_a_silence() -> None:
    notes = heads((0, 60, 4))
    more = heads(*((i, 62, 1) for i in range(1, 12)))
    piece = engraving(np.concatenate([notes, more]))
    piece.bars = np.array([(0, 0.15 + 0.1 * i, i + 1, i + 2, "|") for i in range(12)], BAR)
    piece.systems["left"], piece.systems["right"] = 0.05, 2
    played = perform(piece, np.random.default_rng(1), replace(MECHANICAL, stops=0.4))
    stops = played.happenings
    assert {stop.kind for stop in stops} == {"stop"}
    ends = played.notes["onset"] + played.notes["duration"]
    for stop in stops:
        silence = (stop.time - stop.pause + 1e-6, stop.time - 1e-6)
        begun = played.notes["onset"] < stop.time - 1e-6
        assert (ends[begun] <= silence[0]).all()
    assert played.onsets["moment"].tolist() == list(range(12))
    assert (played.measures["passing"] == 1).all()


def test_a_pedal_lifts_with_the_bass_and_holds_what_was_struck() -> None:
    rows = [(i / 8, (36 + i // 4) if i % 4 == 0 else 60 + i % 7, 0.125) for i in range(32)]
    piece = engraving(heads(*rows))
    played = perform(piece, np.random.default_rng(0), replace(MECHANICAL, pedal=1))
    plain = perform(piece, np.random.default_rng(0), MECHANICAL)
    assert played.notes["duration"] == pytest.approx(plain.notes["duration"])
    assert (played.pedals["value"][:-1:2] == 0).all()
    assert (played.pedals["value"][1::2] >= 90).all()
    assert played.pedals["value"][-1] == 0
    bass = played.notes["onset"][::4]
    late = played.pedals["time"][:-1:2] - bass
    assert ((late >= 0) & (late <= 0.03)).all()
    ends = played.notes["onset"] + sounding(played)["duration"]
    lifts = played.pedals["time"][played.pedals["value"] == 0]
    held = np.arange(32) % 4 == 1
    assert ends[held] == pytest.approx(lifts[1:], abs=1e-5)


def test_keys_are_up_before_they_are_struck_again() -> None:
    piece = engraving(heads((0, 60, 4), *((i / 4, 60, 0.5) for i in range(1, 9))))
    played = perform(piece, np.random.default_rng(0), MECHANICAL)
    ends = played.notes["onset"] + played.notes["duration"]
    assert (ends[:-1] < played.notes["onset"][1:]).all()


def test_midi_has_the_notes_and_the_pedal_at_their_milliseconds() -> None:
    notes = np.zeros(1, PLAYED)
    notes[0] = (0.5, 0.25, 60, 70, 0)
    pedals = np.array([(0.4, 0), (0.6, 127), (1.0, 0)], PEDAL)
    performance = Performance(notes, np.zeros(0), pedals)
    events = []
    for track in to_midi(performance).tracks:
        now = 0
        for message in track:
            now += message.time
            if message.type == "control_change":
                events.append((now, message.control, message.value))
            elif message.type in ("note_on", "note_off"):
                events.append((now, message.type, message.note))
    assert sorted(events, key=str) == sorted(
        [(400, 64, 0), (500, "note_on", 60), (600, 64, 127), (750, "note_off", 60), (1000, 64, 0)],
        key=str,
    )
    assert sounding(performance)["duration"] == pytest.approx([0.5])


def test_phrases_are_counted_in_bars_from_the_first_full_one() -> None:
    piece = engraving(heads(*((i / 4, 60, 0.25) for i in range(16))))
    piece.bars = np.array([(0, 0.1 * i, 0.25 + i, i + 1, "|") for i in range(4)], BAR)
    places = bar_places(piece, piece.notes["score"], piece.notes["onset"])
    assert places[1::4] == pytest.approx([0, 1, 2, 3])
    assert places[0] == pytest.approx(-0.25)
    assert places[3] == pytest.approx(0.5)


def test_a_phrase_is_slow_at_its_edges_and_a_piece_slows_down_to_its_end() -> None:
    assert arc(np.array([0.0, 1, 2, 3, 4]), 4) == pytest.approx([0, 0.75, 1, 0.75, 0])
    assert np.exp(ritardando(np.array([5.0, 2, 0]), 2, 0.4)) == pytest.approx([1, 1, 0.6])
    style = replace(MECHANICAL, tempo_drift=1e-9, final_ritardando=0.5)
    steps = np.diff(perform(engraving(LONG), np.random.default_rng(0), style).onsets["time"])
    assert np.ptp(steps[:380]) < 1e-5
    assert (np.diff(steps[-3:]) > 0).all()
    assert steps[-1] > 1.1 * steps[0]


def test_a_printed_change_of_tempo_is_followed() -> None:
    notes = LONG.copy()
    notes["tempo"][300:] = 30
    steps = np.diff(perform(engraving(notes), np.random.default_rng(0), MECHANICAL).onsets["time"])
    assert steps[:299] == pytest.approx(0.25)
    assert steps[299:] == pytest.approx(0.5)


def test_onset_groups_name_every_head() -> None:
    notes = engraving(TIED).notes
    first, group = score_onsets(notes)
    assert first["onset"].tolist() == [0, 0.25, 0.625]
    assert group[notes["tied"]].tolist() == [-1, -1]
    assert sorted(group[~notes["tied"]]) == [0, 1, 2]


def test_only_a_stretch_has_the_truth_of_the_whole() -> None:
    piece = engraving(LONG)
    played = perform(piece, np.random.default_rng(0), Style(), slice(10, 60))
    heads_, _ = score_onsets(piece.notes)
    np.testing.assert_array_equal(played.onsets["moment"], heads_["onset"][10:60])
    assert sorted(played.notes["printed"]) == list(range(10, 60))
    assert len(played.measures) == 0
    assert len(perform(piece, np.random.default_rng(0), Style(), slice(0, 0)).notes) == 0
    assert len(printed_measures(piece)) == 1
