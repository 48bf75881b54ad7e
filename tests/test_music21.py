"""music21 streams: what is followed are their measures and offsets."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from music21 import converter, corpus, note, stream
from numpy.typing import NDArray

from sf_adapters.music21 import align, follow
from sf_plugin.errors import AudioError, ScoreError
from sf_plugin.followers import Follower, Progress, no_progress
from sf_plugin.positions import Estimate
from sf_plugin.score.engraving import measures_of
from sf_plugin.score.layout import Layout, Measure
from sf_plugin.score.model import Score

RATE = 8000
FRAMES_PER_SECOND = 20


class Metronome(Follower):
    """Believes that the measures are played in a given order at a steady tempo.

    Args:
        tempo: quarter notes a minute.
        order: numbers of the measures; once from first to last where None.
    """

    sample_rate = RATE

    def __init__(self, tempo: float, order: list[int] | None = None) -> None:
        self._tempo, self._order = tempo, order
        self.reset()

    def prepare(self, score: Score, progress: Progress = no_progress) -> Layout:
        assert score.layout is not None
        places = [
            (page.page, (system.top + system.bottom) / 2, measure)
            for page in score.layout.pages
            for system in page.systems
            for measure in system.measures
        ]
        order = self._order or range(1, len(places) + 1)
        self._played = [places[number - 1] for number in order]
        return score.layout

    def reset(self) -> None:
        self._samples = self._frames = 0

    def feed(self, samples: NDArray[np.float32]) -> Iterator[Estimate]:
        self._samples += len(samples)
        while self._frames * RATE < self._samples * FRAMES_PER_SECOND:
            time = self._frames / FRAMES_PER_SECOND
            self._frames += 1
            beats = time * self._tempo / 60
            for page, y, measure in self._played:
                length = measure.onsets[-1][1]
                if beats < length - 1e-9:
                    yield Estimate(time, page, x_of(measure, beats), y, 0.9, "tracking")
                    break
                beats -= length


def x_of(measure: Measure, beat: float) -> float:
    xs, beats = zip(*measure.onsets, strict=True)
    return max(float(np.interp(beat, beats, xs)), measure.left)


def silence(seconds: float) -> tuple[NDArray[np.float32], int]:
    return np.zeros(round(seconds * RATE), np.float32), RATE


def tune() -> stream.Part:
    return converter.parse("tinynotation: 3/4 c4 d8 e f4 g2. a4 b c'8 d' e'2 d'4 c'2.").flatten()


def two_hands() -> stream.Score:
    right = converter.parse("tinynotation: 4/4 c'4 d' e' f' g'1 a'2 b'2 c''1")
    left = converter.parse("tinynotation: 4/4 c2 g2 e4 g c2 f1 c1")
    return stream.Score([right, left])


def test_offsets_are_those_of_the_stream() -> None:
    score = two_hands()
    places = list(follow(score, silence(8.0), follower=Metronome(120)))
    measures = measures_of(score)
    assert len(places) == 8 * FRAMES_PER_SECOND
    for place in places:
        expected = place.position.time * 2
        assert place.measure is measures[int(expected // 4)]
        assert place.offset == pytest.approx(expected, abs=1e-3)


def test_a_stream_without_measures_keeps_its_offsets() -> None:
    last = list(follow(tune(), silence(7.0), follower=Metronome(120)))[-1]
    assert isinstance(last.measure, stream.Measure)
    assert last.measure.number == 5
    assert last.offset == pytest.approx(2 * last.position.time, abs=1e-3)


def test_a_real_chorale_with_a_pickup() -> None:
    chorale = corpus.parse("bwv66.6")
    places = list(follow(chorale, silence(10.0), follower=Metronome(120)))
    first, later = places[0], places[-1]
    assert first.measure is chorale.parts[0].getElementsByClass("Measure")[0]
    assert first.offset == 0.0
    assert later.offset == pytest.approx(2 * later.position.time, abs=1e-3)


def test_alignment_times_every_measure_and_note() -> None:
    score = two_hands()
    result = align(score, silence(8.0), follower=Metronome(120))
    rows = [(row.number, row.pass_, row.start) for row in result.measures]
    assert rows == [(1, 1, 0.0), (2, 1, 2.0), (3, 1, 4.0), (4, 1, 6.0)]
    assert [row.end for row in result.measures] == pytest.approx([2.0, 4.0, 6.0, 7.95])
    for part in result.stream.parts:
        for index, measure in enumerate(part.getElementsByClass("Measure")):
            assert measure.editorial.sf_time == pytest.approx(
                (2.0 * index, min(2.0 * index + 2, 7.95))
            )
        for tone in part.recurse().notes:
            offset = float(tone.getOffsetInHierarchy(part))
            start, end = tone.editorial.sf_time
            assert start == pytest.approx(offset / 2, abs=1e-3)
            assert end == pytest.approx(min((offset + tone.quarterLength) / 2, 7.95), abs=1e-3)
    assert not any("sf_time" in tone.editorial for tone in score.recurse().notes)


def test_what_was_not_played_has_no_time() -> None:
    result = align(two_hands(), silence(3.0), follower=Metronome(120))
    assert [row.number for row in result.measures] == [1, 2]
    timed = [
        "sf_time" in measure.editorial
        for measure in result.stream.parts[0].getElementsByClass("Measure")
    ]
    assert timed == [True, True, False, False]


def test_a_repeated_measure_is_listed_twice_and_written_once() -> None:
    result = align(two_hands(), silence(12.0), follower=Metronome(120, [1, 2, 1, 2, 3, 4]))
    assert [(row.number, row.pass_) for row in result.measures] == [
        (1, 1),
        (2, 1),
        (1, 2),
        (2, 2),
        (3, 1),
        (4, 1),
    ]
    starts = [row.start for row in result.measures]
    assert starts == pytest.approx([0, 2, 4, 6, 8, 10])
    second = result.stream.parts[0].getElementsByClass("Measure")[1]
    assert second.editorial.sf_time[0] == pytest.approx(2.0)


def test_a_measure_repeated_at_once_is_two_passes() -> None:
    result = align(two_hands(), silence(8.0), follower=Metronome(120, [1, 1, 2, 3]))
    rows = [(row.number, row.pass_) for row in result.measures]
    assert rows == [(1, 1), (1, 2), (2, 1), (3, 1)]


def test_a_note_tied_over_the_bar_line_ends_in_the_next_measure() -> None:
    part = stream.Part()
    for quarter_length in (3.0, 2.0, 3.0):
        part.append(note.Note("C4", quarterLength=quarter_length))
    result = align(part, silence(4.0), follower=Metronome(120))
    notes = list(result.stream.recurse().notes)
    assert [round(tone.editorial.sf_time[0], 1) for tone in notes] == [0.0, 1.5, 2.0, 2.5]


def test_audio_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "take.wav"
    soundfile.write(path, np.full(4 * 44100, 0.1, np.float32), 44100)
    places = list(follow(two_hands(), path, follower=Metronome(120)))
    assert len(places) == 4 * FRAMES_PER_SECOND
    with pytest.raises(AudioError, match="no such file"):
        align(two_hands(), tmp_path / "nothing.wav", follower=Metronome(120))


def test_a_stream_without_notes() -> None:
    with pytest.raises(ScoreError, match="no notes"):
        follow(stream.Score(), silence(1.0), follower=Metronome(120))


def test_the_example_prints_measures(example_plugin: Path, wav: Path) -> None:
    example = Path(__file__).parent.parent / "examples" / "music21_follow.py"
    done = subprocess.run(
        [sys.executable, str(example), "bwv66.6", str(wav), "--follower", "constant-tempo"],
        env={**os.environ, "PYTHONPATH": str(example_plugin)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    numbers = [line.split("measure ")[1].split(" ")[0] for line in done.stdout.splitlines()]
    assert numbers[:4] == ["0", "1", "2", "3"]


def test_the_example_names_what_is_missing(tmp_path: Path) -> None:
    example = Path(__file__).parent.parent / "examples" / "music21_follow.py"
    done = subprocess.run(
        [sys.executable, str(example), "bwv66.6", str(tmp_path / "nothing.wav")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"{tmp_path / 'nothing.wav'}: no such file" in done.stderr
