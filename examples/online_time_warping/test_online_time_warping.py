from __future__ import annotations

from pathlib import Path

import numpy as np
import online_time_warping
import pytest
from music21 import corpus, note, stream
from online_time_warping.chroma import SAMPLE_RATE
from online_time_warping.reference import _notes, play
from online_time_warping.warping import OnlineTimeWarping

from sf_plugin import Score, ScoreError, load_score
from sf_plugin.conformance import small_score, some_notes
from sf_plugin.dataset.performance import NOTE
from sf_plugin.dataset.render import render
from sf_plugin.positions import Estimate

PIANO = "timgm-grand"


def melody(measures: int) -> Score:
    """Eighth notes on several pages."""
    part = stream.Part()
    for number in range(measures):
        bar = stream.Measure(number=number + 1)
        for step in range(8):
            bar.append(note.Note(48 + (number * 5 + step * 7) % 36, quarterLength=0.5))
        part.append(bar)
    return load_score(part)


def test_it_keeps_the_contract(conformance) -> None:
    score = melody(40)
    assert len(score.pages) > 1
    sound = some_notes(SAMPLE_RATE, seconds=3.0)
    conformance(online_time_warping).follower("time-warping", score, sound)


def test_a_score_without_notes_is_refused() -> None:
    with pytest.raises(ScoreError, match="needs the notes"):
        online_time_warping.TimeWarping().prepare(small_score())


def test_musicxml_is_read_for_its_notes(chorale: Score, tmp_path: Path) -> None:
    file = tmp_path / "chorale.musicxml"
    chorale.symbols.write("musicxml", file)
    of_file, of_stream = play(load_score(file)), play(chorale)
    assert of_file.frames.shape == of_stream.frames.shape
    assert np.abs(of_file.x - of_stream.x).max() < 0.01


def test_a_path_at_half_and_at_double_speed() -> None:
    rng = np.random.default_rng(0)
    reference = rng.random((400, 24))
    reference /= np.linalg.norm(reference, axis=1, keepdims=True)
    for pace in (0.5, 1.0, 2.0):
        warping = OnlineTimeWarping(reference, search=100)
        places = np.floor(np.arange(0, 380, pace)).astype(int)
        found = np.array([warping.step(reference[place]) for place in places])
        assert np.abs(found - places).max() <= 2


@pytest.fixture(scope="module")
def chorale() -> Score:
    return load_score(corpus.parse("bwv66.6"))


def played(score: Score, tempo: float) -> tuple[np.ndarray, dict[float, float]]:
    """A sampled piano at a tempo that swings by a quarter; seconds by quarter note."""
    notes = _notes(score.symbols)
    grid = np.arange(0, max(end for _, end, _ in notes) + 0.25, 0.25)
    swing = tempo * np.exp(0.25 * np.sin(2 * np.pi * grid / 13))
    seconds = 0.7 + np.append(0, np.cumsum(0.25 * 60 / swing)[:-1])

    def at(beat: float) -> float:
        return float(np.interp(beat, grid, seconds))

    rows = np.array(
        [(at(start), at(end) - at(start), pitch, 70, 0) for start, end, pitch in notes], NOTE
    )
    sound = render(np.sort(rows, order="onset"), PIANO, SAMPLE_RATE)
    return sound, {start: at(start) for start, _, _ in notes}


@pytest.mark.parametrize("tempo", [80.0, 115.0])
def test_it_follows_a_chorale_at_a_free_tempo(chorale: Score, tempo: float) -> None:
    sound, onsets = played(chorale, tempo)
    follower = online_time_warping.TimeWarping()
    layout = follower.prepare(chorale)
    told = list(follower.feed(sound))
    assert told[0].state == "waiting"
    wrong = [
        abs(_beat(_at(told, seconds + 0.075), layout, chorale) - beat)
        for beat, seconds in onsets.items()
    ]
    assert np.mean(np.array(wrong) <= 1.0) >= 0.9
    assert np.median(wrong) <= 0.5


def test_it_can_be_told_where_the_music_is(chorale: Score) -> None:
    sound, onsets = played(chorale, 100.0)
    half = max(onsets) / 2
    begin = min(seconds for beat, seconds in onsets.items() if beat >= half)
    follower = online_time_warping.TimeWarping()
    layout = follower.prepare(chorale)
    place = _at(list(follower.feed(sound)), begin + 0.1)
    follower.expect(place.page, place.x, place.y)
    told = list(follower.feed(sound[round(begin * SAMPLE_RATE) :]))
    last = max(onsets)
    assert abs(_beat(_at(told, onsets[last] - begin + 0.075), layout, chorale) - last) <= 2


def _at(told: list[Estimate], seconds: float) -> Estimate:
    return max((one for one in told if one.time <= seconds), key=lambda one: one.time)


def _beat(one: Estimate, layout, score: Score) -> float:
    """The moment of a place, quarter notes from the beginning."""
    from sf_plugin.score.engraving import measures_of
    from sf_plugin.score.measures import beat_at, place_at

    place = place_at(layout.pages[one.page - 1], one.x, one.y)
    assert place is not None and place.measure is not None
    beat = beat_at(place.measure, one.x)
    assert beat is not None
    return float(measures_of(score.symbols)[place.measure.number - 1].offset) + beat
