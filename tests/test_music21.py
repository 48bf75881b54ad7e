"""music21 streams: what is followed are their measures and offsets."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import mido
import numpy as np
import pytest
import soundfile
from music21 import bar, chord, converter, corpus, harmony, note, stream, tempo
from numpy.typing import NDArray
from PIL import Image

from sf_adapters.music21 import (
    Alignment,
    AlignmentConverter,
    AverageTempo,
    BeatDeviation,
    BeatProfile,
    TempoCurve,
    TempoVariability,
    align,
    alignment_of,
    follow,
    register,
)
from sf_adapters.music21.bars import Bars, Sounding
from sf_plugin.errors import AudioError, ScoreError, ScoreFollowerError
from sf_plugin.followers import Follower, Progress, no_progress
from sf_plugin.positions import Estimate
from sf_plugin.score.engraving import measures_of
from sf_plugin.score.layout import Layout, Measure
from sf_plugin.score.load import load_score
from sf_plugin.score.model import Score
from sf_plugin.score.symbols import without_names

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


def test_what_sounds_are_the_elements_of_the_stream() -> None:
    score = two_hands()
    for place in follow(score, silence(8.0), follower=Metronome(120)):
        assert place.offset is not None
        at = place.offset
        expected = [
            tone
            for part in score.parts
            for tone in part.recurse().notesAndRests
            if tone.getOffsetInHierarchy(score) <= at + 1e-3
            and at + 1e-3 < tone.getOffsetInHierarchy(score) + tone.quarterLength
        ]
        if all(
            tone.getOffsetInHierarchy(score) + tone.quarterLength - at > 0.5 for tone in expected
        ):
            assert [*map(id, place.sounding)] == [*map(id, expected)]


def test_right_before_an_onset_the_onset_sounds() -> None:
    sounding = Sounding(two_hands())
    assert [tone.name for tone in sounding.at(2.0)] == ["E", "G"]
    assert [tone.name for tone in sounding.at(2.7)] == ["E", "G"]
    assert [tone.name for tone in sounding.at(2.9)] == ["F", "G"]
    assert sounding.at(16.5) == () and sounding.at(-1.0) == ()


def test_a_stream_without_measures_sounds_its_own_notes() -> None:
    given = tune()
    for place in follow(given, silence(7.0), follower=Metronome(120)):
        for tone in place.sounding:
            assert any(tone is own for own in given)
    assert [tone.nameWithOctave for tone in place.sounding] == ["C5"]


def test_grace_notes_and_chord_symbols_do_not_sound() -> None:
    part = converter.parse("tinynotation: 4/4 c4 d e f g1").getElementsByClass("Measure").stream()
    part[0].insert(1.0, note.Note("B4", quarterLength=1).getGrace())
    symbol = harmony.ChordSymbol("Am")
    symbol.quarterLength = 4.0
    part[0].insert(0.0, symbol)
    sounding = Sounding(part)
    assert [[tone.name for tone in sounding.at(at)] for at in (0.0, 1.0, 4.0)] == [
        ["C"],
        ["D"],
        ["G"],
    ]


def test_rests_and_chords_sound() -> None:
    part = stream.Part([chord.Chord("C4 E4"), note.Rest(), note.Note("D4", quarterLength=2)])
    names = {
        tone.fullName
        for place in follow(part, silence(2.0), follower=Metronome(120))
        for tone in place.sounding
    }
    assert names == {element.fullName for element in part}


def test_beats_are_those_of_music21() -> None:
    waltz = converter.parse("tinynotation: 6/8 c8 d e f g a b4. c'4.")
    chorale = corpus.parse("bwv66.6")
    for score, seconds in ((waltz, 3.0), (chorale, 10.0)):
        bars = Bars.of(score)
        for tone in score.recurse().notes:
            offset = float(tone.getOffsetInHierarchy(score))
            index = bars.at(offset)
            assert bars.beat(index, offset - bars.starts[index]) == pytest.approx(tone.beat)
        for place in follow(score, silence(seconds), follower=Metronome(120)):
            assert place.beat is not None and place.measure is not None
            assert 1.0 <= place.beat <= 5.0
    assert bars.beat(1, 4.0) == 5.0


def repeated() -> stream.Score:
    part = converter.parse("tinynotation: 3/4 c4 d e f g a g2. e2.")
    part[stream.Measure][1].rightBarline = bar.Repeat(direction="end")
    return stream.Score([part])


def test_a_written_repeat_goes_back_in_offsets() -> None:
    follower = Metronome(120, [1, 2, 1, 2, 3, 4])
    places = list(follow(repeated(), silence(9.0), follower=follower))
    told = {(place.measure.number, place.position.pass_) for place in places if place.measure}
    assert told == {(1, 1), (2, 1), (1, 2), (2, 2), (3, 1), (4, 1)}
    for place in places:
        beats = 2 * place.position.time
        assert place.offset == pytest.approx(beats - 6 if beats >= 6 else beats, abs=1e-3)


def test_an_expanded_repeat_goes_on() -> None:
    expanded = repeated().expandRepeats()
    places = list(follow(expanded, silence(9.0), follower=Metronome(120)))
    assert [place.offset for place in places] == pytest.approx(
        [2 * place.position.time for place in places], abs=1e-3
    )
    measures = measures_of(expanded)
    assert len(measures) == 6
    assert [*dict.fromkeys(id(place.measure) for place in places)] == [*map(id, measures)]
    own = {id(tone) for tone in expanded.recurse().notes}
    assert all(id(tone) in own for place in places for tone in place.sounding)


def test_every_pass_is_written() -> None:
    follower = Metronome(120, [1, 2, 1, 2, 3, 4])
    result = align(repeated(), silence(9.0), follower=follower)
    second = result.stream.parts[0][stream.Measure][1]
    assert [*second.editorial.sf_times[0], *second.editorial.sf_times[1]] == pytest.approx(
        [1.5, 3.0, 4.5, 6.0]
    )
    tone = second.notes[1]
    assert [start for start, _ in tone.editorial.sf_times] == pytest.approx([2.0, 5.0], abs=1e-3)
    assert tone.editorial.sf_time == tone.editorial.sf_times[0]


def test_the_tempo_map_is_the_tempo_that_was_played() -> None:
    follower = Metronome(96, [1, 2, 1, 2, 3, 4])
    points = align(repeated(), silence(11.2), follower=follower).tempo_map
    assert [(point.measure, point.pass_) for point in points][:5] == [
        (1, 1),
        (2, 1),
        (1, 2),
        (2, 2),
        (3, 1),
    ]
    assert [point.offset for point in points][:5] == pytest.approx([0, 3, 0, 3, 6], abs=0.01)
    assert [point.tempo for point in points] == pytest.approx([96.0] * len(points), rel=0.02)
    assert [point.time for point in points][:2] == pytest.approx([0.0, 1.875], abs=0.06)


def test_metronome_marks_play_as_it_was_played(tmp_path: Path) -> None:
    result = align(two_hands(), silence(9.0), follower=Metronome(108))
    written = result.with_tempos().write("midi", tmp_path / "played.mid")
    marks = result.with_tempos().parts[0].recurse().getElementsByClass(tempo.MetronomeMark)
    assert [mark.getQuarterBPM() for mark in marks] == pytest.approx([108] * len(marks), rel=0.02)
    sounded, seconds = 0.0, 0.0
    for message in mido.MidiFile(written):
        seconds += message.time
        sounded = seconds if message.type == "note_off" else sounded
    assert sounded == pytest.approx(16 * 60 / 108, rel=0.03)
    plain = result.stream.recurse().getElementsByClass(tempo.MetronomeMark)
    assert not list(plain)


class Swing(Metronome):
    """Lingers on the first beat of four: it takes 1.3 of the four beats, the others 0.9."""

    def feed(self, samples: NDArray[np.float32]) -> Iterator[Estimate]:
        self._samples += len(samples)
        while self._frames * RATE < self._samples * FRAMES_PER_SECOND:
            time = self._frames / FRAMES_PER_SECOND
            self._frames += 1
            measure, even = divmod(time * self._tempo / 60, 4)
            page, y, box = self._played[min(int(measure), len(self._played) - 1)]
            beats = float(np.interp(even, [0, 1.3, 2.2, 3.1, 4], range(5)))
            yield Estimate(time, page, x_of(box, beats), y, 0.9, "tracking")


def test_timing_is_measured_beat_by_beat() -> None:
    part = converter.parse("tinynotation: 4/4 c4 d e f g a b c' d' c' b a g f e d c1")
    result = align(stream.Score([part]), silence(16.5), follower=Swing(60))
    known = [beat for beat in result.beats if beat.deviation is not None]
    assert [beat.beat for beat in known] == [1, 2, 3, 4] * 4
    for beat in known:
        late = (0.0, 0.3, 0.2, 0.1)[beat.beat - 1]
        assert beat.deviation == pytest.approx(late, abs=0.06)
        assert beat.tempo == pytest.approx(60 / 1.3 if beat.beat == 1 else 60 / 0.9, rel=0.12)
    profile = BeatProfile(result.stream).extract()
    assert profile.vector == pytest.approx([0, 0.3, 0.2, 0.1] + [0] * 8, abs=0.05)
    deviation = BeatDeviation(result.stream).extract()
    assert deviation.vector == pytest.approx([0.2], abs=0.04)
    average = AverageTempo(result.stream).extract()
    assert average.vector == pytest.approx([60.0], rel=0.02)
    curve = TempoCurve(result.stream).extract()
    assert curve.vector == pytest.approx([1.0] * 16, rel=0.03)
    assert TempoVariability(result.stream).extract().vector[0] < 0.03


def test_features_of_a_stream_without_times() -> None:
    with pytest.raises(ScoreError, match=r"no times: use the stream that align\(\) returns"):
        AverageTempo(two_hands()).extract()


@pytest.fixture
def registered() -> Iterator[None]:
    register()
    register()
    assert converter.Converter.subConvertersList().count(AlignmentConverter) == 1
    yield
    converter.unregisterSubConverter(AlignmentConverter)


def aligned(score: stream.Score | None = None, audio: Any = None) -> Alignment:
    return align(score or two_hands(), audio or silence(8.0), follower=Metronome(120))


def test_a_file_brings_back_all_times(tmp_path: Path, registered: None) -> None:
    take = tmp_path / "take.wav"
    soundfile.write(take, np.full(8 * 44100, 0.1, np.float32), 44100)
    result = aligned(audio=take)
    file = result.stream.write("scorefollow", tmp_path / "two hands.sfalign")
    assert file == tmp_path / "two hands.sfalign"
    for _ in range(2):  # the second time from music21's own store
        back = alignment_of(converter.parse(file))
        assert back.measures == result.measures
        assert back.tempo_map == result.tempo_map and back.beats == result.beats
        spans = [tone.editorial.sf_times for tone in back.stream.recurse().notes]
        assert spans == [tone.editorial.sf_times for tone in result.stream.recurse().notes]
        assert back.stream.editorial.sf_performance.audio == str(take)
    data = json.loads(file.read_text(encoding="utf-8"))
    assert [*data] == ["version", "name", "audio", "musicxml", "measures", "positions"]
    assert data["positions"][20] == [1.0, 1, 2.0, 1, 0.9, "tracking"]


def test_a_chorale_and_its_repeats_survive_a_file(tmp_path: Path, registered: None) -> None:
    for score in (corpus.parse("bwv66.6"), repeated(), repeated().expandRepeats()):
        result = aligned(score)
        back = converter.parse(result.stream.write("scorefollow", tmp_path / "a.sfalign"))
        assert alignment_of(back).tempo_map == result.tempo_map
        assert len(back.recurse().notes) == len(result.stream.recurse().notes)


def test_files_that_are_no_alignments(tmp_path: Path, registered: None) -> None:
    file = aligned().stream.write("scorefollow", tmp_path / "good.sfalign")
    data = json.loads(file.read_text())
    wrong = {
        "damaged or no alignment": file.read_text()[:500],
        "is no alignment": json.dumps({"version": 1}),
        "is of version 9, not 1": json.dumps({**data, "version": 9}),
        "measure 9 was played and the stream has 4": json.dumps(
            {**data, "measures": [{**data["measures"][0], "number": 9}]}
        ),
        "is damaged": json.dumps({**data, "positions": [[1, 2]]}),
    }
    for number, (reason, text) in enumerate(wrong.items()):
        path = tmp_path / f"wrong-{number}.sfalign"
        path.write_text(text)
        with pytest.raises(ScoreError, match=reason) as raised:
            converter.parse(path)
        assert str(raised.value).startswith(str(path)) and "\n" not in str(raised.value)


def test_a_stream_without_times_is_not_written(tmp_path: Path, registered: None) -> None:
    with pytest.raises(ScoreError, match="no times"):
        two_hands().write("scorefollow", tmp_path / "none.sfalign")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ScoreFollowerError, match="cannot be written"):
        aligned().stream.write("scorefollow", tmp_path / "no folder" / "a.sfalign")


def test_the_report_shows_the_stream(tmp_path: Path, registered: None) -> None:
    file = aligned(repeated()).stream.write("scorefollow.html", tmp_path / "report.html")
    text = file.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>") and "quarter notes a minute" in text
    track = json.loads(re.search(r"\[\[.*?\]\]", text)[0])  # type: ignore[index]
    assert track


def test_show_opens_a_browser(tmp_path: Path) -> None:
    """The browser is one that keeps what it is given."""
    browser = tmp_path / "browser"
    seen = tmp_path / "seen.txt"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {shlex.quote(str(seen))}\n')
    browser.chmod(0o755)
    script = tmp_path / "show.py"
    script.write_text(
        "from music21 import converter\n"
        "from sf_adapters.music21 import register\n"
        "register()\n"
        f"converter.parse({str(tmp_path / 'a.sfalign')!r}).show('scorefollow')\n"
    )
    register()
    try:
        aligned().stream.write("scorefollow", tmp_path / "a.sfalign")
    finally:
        converter.unregisterSubConverter(AlignmentConverter)
    environment = {**os.environ, "BROWSER": f"{browser} %s", "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, str(script)], check=True, env=environment)
    page = Path(unquote(urlsplit(seen.read_text()).path))
    assert page.suffix == ".html" and "<svg" in page.read_text(encoding="utf-8")
    empty = {**environment, "BROWSER": "", "PATH": "", "DISPLAY": ""}
    done = subprocess.run([sys.executable, str(script)], env=empty, capture_output=True, text=True)
    assert done.returncode == 1 and "no browser can be started: open " in done.stderr


class Scan(Metronome):
    """Sees on a page the boxes of the layout it is given, without their names."""

    def __init__(self, tempo: float, layout: Layout) -> None:
        self._seen = layout
        super().__init__(tempo)

    def prepare(self, score: Score, progress: Progress = no_progress) -> Layout:
        super().prepare(replace(score, layout=self._seen))
        return without_names(self._seen)


def test_a_scan_beside_the_stream(tmp_path: Path) -> None:
    score = two_hands()
    engraved = load_score(score)
    assert engraved.layout is not None
    Image.fromarray(engraved.pages[0]).save(tmp_path / "scan.png")
    follower = Scan(120, engraved.layout)
    places = list(follow(score, silence(8.0), scan=tmp_path / "scan.png", follower=follower))
    measures = measures_of(score)
    for place in places:
        index = min(int(2 * place.position.time // 4), 3)
        assert place.measure is measures[index]
        assert place.offset == pytest.approx(2 * place.position.time, abs=0.6)
    result = align(score, silence(8.0), scan=tmp_path / "scan.png", follower=follower)
    assert [point.measure for point in result.tempo_map][:3] == [1, 2, 3]
    with pytest.raises(ScoreError, match="beside a scan a music21 stream"):
        follow("score.musicxml", silence(1.0), scan=tmp_path / "scan.png")


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
