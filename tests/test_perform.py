from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sf_plugin.dataset.engraving import BAR, NOTE, STAFF, SYSTEM, Engraving
from sf_plugin.dataset.perform import (
    MECHANICAL,
    Performance,
    Style,
    choose_tempo,
    perform,
    score_onsets,
    sounding_lengths,
)
from sf_plugin.dataset.perform import NOTE as PLAYED
from sf_plugin.dataset.render import RenderError, in_room, midi_file, render, room_response

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


def test_a_new_movement_begins_after_a_breath() -> None:
    played = mechanical(np.concatenate([heads((0, 60, 1)), heads((0, 62, 1), score=1)]))
    assert 0.8 <= np.diff(played.onsets["time"])[0] <= 2.0
    assert played.onsets["score"].tolist() == [0, 1]


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


STYLES = st.sampled_from(
    [Style(), MECHANICAL, Style(0.3, 0.5, 0.05, 0.1, 40, 1), replace(MECHANICAL, jitter=0.05)]
)


@settings(max_examples=80, deadline=None)
@given(pieces(), STYLES, st.integers(0, 1000))
def test_any_piece_in_any_style_is_playable(piece: Engraving, style: Style, seed: int) -> None:
    played = perform(piece, np.random.default_rng(seed), style)
    struck = piece.notes[~piece.notes["tied"]]
    assert sorted(played.notes["pitch"]) == sorted(struck["pitch"])
    assert (np.diff(played.onsets["time"]) >= 0).all()
    assert (np.diff(played.notes["onset"]) >= 0).all()
    assert played.onsets["time"][0] == pytest.approx(0.5)
    assert len(played.onsets) == len({(n["onset"], n["grace"]) for n in struck})
    assert (played.notes["duration"] > 0).all()
    assert ((played.notes["velocity"] >= 15) & (played.notes["velocity"] <= 120)).all()
    assert np.isfinite(played.notes["onset"]).all()


@settings(max_examples=20, deadline=None)
@given(pieces(), STYLES, st.integers(0, 1000))
def test_a_seed_gives_the_same_performance(piece: Engraving, style: Style, seed: int) -> None:
    one, other = (perform(piece, np.random.default_rng(seed), style) for _ in range(2))
    np.testing.assert_array_equal(one.notes, other.notes)
    np.testing.assert_array_equal(one.onsets, other.onsets)


def test_seeds_differ() -> None:
    one, other = (perform(engraving(SCALE), np.random.default_rng(seed)) for seed in (1, 2))
    assert not np.allclose(one.onsets["time"], other.onsets["time"], atol=0.01)
    assert not np.array_equal(one.notes["velocity"], other.notes["velocity"])


def test_notes_sound_close_to_their_onset() -> None:
    style = Style(chord_spread=0.02)
    notes = heads(*((i // 3 / 4, 60 + 4 * (i % 3), 0.25) for i in range(60)))
    played = perform(engraving(notes), np.random.default_rng(5), style)
    early = played.notes["onset"][:, None] - played.onsets["time"]
    late = np.where(early > -1e-9, early, np.inf).min(1)
    assert late.max() <= 0.02 * 1.5


def test_the_pedal_holds_to_the_next_half_note() -> None:
    pedal = replace(MECHANICAL, pedal=1)
    played = perform(engraving(SCALE), np.random.default_rng(0), pedal)
    ends = played.notes["onset"] + played.notes["duration"] - 0.5
    assert ends == pytest.approx(np.repeat([0.5, 1.0, 1.5, 2.0], 2), abs=1e-5)


def test_onset_groups_name_every_head() -> None:
    notes = engraving(TIED).notes
    first, group = score_onsets(notes)
    assert first["onset"].tolist() == [0, 0.25, 0.625]
    assert group[notes["tied"]].tolist() == [-1, -1]
    assert sorted(group[~notes["tied"]]) == [0, 1, 2]


def sounding(*rows: tuple[float, float, int]) -> np.ndarray:
    """(onset, duration, pitch) in seconds."""
    notes = np.zeros(len(rows), PLAYED)
    for note, (onset, duration, pitch) in zip(notes, rows, strict=True):
        note["onset"], note["duration"], note["pitch"], note["velocity"] = (
            onset,
            duration,
            pitch,
            70,
        )
    return notes


def test_midi_has_every_note_at_its_millisecond() -> None:
    file = midi_file(sounding((0.5, 0.25, 60), (1.0, 0.5, 64)), program=3)
    now, events = 0, []
    for message in file.tracks[0]:
        now += message.time
        if message.type != "program_change" and not message.is_meta:
            events.append((now, message.type, message.note))
    assert events == [
        (500, "note_on", 60), (750, "note_off", 60), (1000, "note_on", 64), (1500, "note_off", 64),
    ]  # fmt: skip
    assert file.ticks_per_beat == 500
    assert file.tracks[0][0].program == 3


def test_a_key_struck_again_is_not_cut_off_by_its_first_end() -> None:
    file = midi_file(sounding((0.0, 1.0, 60), (0.5, 1.5, 60)))
    now, ends = 0, []
    for message in file.tracks[0]:
        now += message.time
        if message.type == "note_off":
            ends.append(now)
    assert ends == [2000]


def test_a_missing_soundfont_is_named(tmp_path: Path) -> None:
    if shutil.which("fluidsynth") is None:
        pytest.skip("fluidsynth is not installed")
    with pytest.raises(RenderError, match=r"none\.sf2: no such soundfont"):
        render(sounding((0, 1, 60)), tmp_path / "none.sf2")


def test_without_fluidsynth_the_next_step_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RenderError, match="apt-get install fluidsynth"):
        render(sounding((0, 1, 60)), Path("any.sf2"))


def test_a_room_does_not_move_the_music() -> None:
    rng = np.random.default_rng(0)
    response = room_response(rng, decay=0.4, sample_rate=4000)
    assert response[0] >= 1
    assert np.abs(response).argmax() == 0
    click = np.zeros(4000, np.float32)
    click[1000] = 0.5
    wet = in_room(click, response, rng, noise_db=-90)
    assert len(wet) == len(click)
    assert int(np.abs(wet).argmax()) == 1000
    assert np.abs(wet[:1000]).max() < 1e-3
    assert np.square(wet[1001:2600]).sum() > 0.05 * wet[1000] ** 2
    assert np.abs(wet).max() <= 1
