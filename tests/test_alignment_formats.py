"""Alignments as other programs read them."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import mido
import numpy as np
import pytest
import verovio
from conftest import make_layout
from music21 import converter, tempo

from sf_plugin.alignment import Alignment, make_alignment
from sf_plugin.alignment_formats import FORMATS, UNKNOWN, Origin
from sf_plugin.errors import ScoreError
from sf_plugin.passages import passages
from sf_plugin.positions import Estimate
from sf_plugin.score.engraving import XML_ID
from sf_plugin.score.layout import Layout
from sf_plugin.score.load import load_score
from sf_plugin.score.measures import PlainMapper
from sf_plugin.score.model import Score
from sf_plugin.score.structure import measures_of

FPS = 100
MEI = "{http://www.music-encoding.org/ns/mei}"

Stay = tuple[int, float]
"""A measure and its tempo in quarter notes a minute."""

ROAD: list[Stay] = [(1, 60), (2, 90), (1, 80), (2, 100), (3, 120), (4, 75)]
"""Three quarters a measure, the first two repeated."""
STARTS = [0.5, *(0.5 + np.cumsum([180 / tempo for _, tempo in ROAD])).tolist()]


def note(step: str, quarters: int, name: str = "") -> str:
    told = f' id="{name}"' if name else ""
    kind = {1: "quarter", 2: "half", 3: "half"}[quarters]
    dot = "<dot/>" if quarters == 3 else ""
    return (
        f"<note{told}><pitch><step>{step}</step><octave>5</octave></pitch>"
        f"<duration>{quarters}</duration><type>{kind}</type>{dot}</note>"
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four measures of 3/4 with a repeat after the second and a printed tempo."""
    end = '<barline location="right"><repeat direction="backward"/></barline>'
    marks = '<direction><direction-type><words>Allegro</words></direction-type><sound tempo="200"/>'
    bars = [
        "<attributes><divisions>1</divisions><time><beats>3</beats><beat-type>4</beat-type></time>"
        "<clef><sign>G</sign><line>2</line></clef></attributes>"
        + marks
        + "</direction>"
        + note("C", 1, "first")
        + note("D", 1)
        + note("E", 1),
        note("F", 2) + note("G", 1) + end,
        note("A", 1) + note("B", 2),
        note("C", 3, "last"),
    ]
    body = "".join(f'<measure number="{n}">{bar}</measure>' for n, bar in enumerate(bars, 1))
    path = tmp_path_factory.mktemp("symbols") / "waltz.musicxml"
    path.write_text(
        '<?xml version="1.0"?><score-partwise version="4.0"><part-list><score-part id="P1">'
        f'<part-name/></score-part></part-list><part id="P1">{body}</part></score-partwise>'
    )
    return path


def perform(layout: Layout, road: Sequence[Stay], begin: float = 0.5) -> list[Estimate]:
    """The place is at each note from when it sounds to the next."""
    places = {
        m.number: (page.page, (system.top + system.bottom) / 2, m)
        for page in layout.pages
        for system in page.systems
        for m in system.measures
    }
    sounding: list[tuple[float, int, float, float]] = []
    now = begin
    for number, beats_a_minute in road:
        page, y, measure = places[number]
        onsets = measure.onsets or ((measure.left, 0.0), (measure.right, 3.0))
        for x, beat in onsets[:-1]:
            sounding.append((now + beat * 60 / beats_a_minute, page, x + 1e-6, y))
        now += onsets[-1][1] * 60 / beats_a_minute
    times = [at for at, *_ in sounding]
    estimates = []
    for n in range(round((now + 0.5) * FPS)):
        time = n / FPS
        _, page, x, y = sounding[max(int(np.searchsorted(times, time + 1e-6)) - 1, 0)]
        over = time >= now - 1e-6
        state = "waiting" if time < begin - 1e-6 else "ended" if over else "tracking"
        estimates.append(Estimate(time, page, x, y, 0.9, state))  # type: ignore[arg-type]
    return estimates


def play(score: Score, road: Sequence[Stay], begin: float = 0.5) -> Alignment:
    assert score.layout is not None
    estimates = perform(score.layout, road, begin)
    return make_alignment(estimates, score.layout, PlainMapper(), score.name)


@pytest.fixture(scope="module")
def score(written: Path) -> Score:
    return load_score(written)


@pytest.fixture(scope="module")
def origin(score: Score, written: Path) -> Origin:
    return Origin(score, (written,), None, "take one.wav")


@pytest.fixture(scope="module")
def played(score: Score) -> Alignment:
    found = play(score, ROAD)
    assert [(m.number, m.pass_, m.jumped) for m in found.measures] == [
        (1, 1, False),
        (2, 1, False),
        (1, 2, False),
        (2, 2, False),
        (3, 1, False),
        (4, 1, False),
    ]
    assert [m.start for m in found.measures] == pytest.approx(STARTS[:-1], abs=0.011)
    return found


@pytest.fixture(scope="module")
def bare() -> Alignment:
    """Pages without symbols: measures of 1 s, the second jumped away from."""
    layout = make_layout(pages=2)
    score = Score("sonata", [np.full((1200, 848), 255, np.uint8)] * 2, layout)
    return play(score, [(1, 180), (2, 180), (9, 180), (10, 90)])


def text_of(name: str, alignment: Alignment, origin: Origin = UNKNOWN) -> str:
    written = FORMATS[name].write(alignment, origin)
    assert isinstance(written, str)
    return written


# the way in quarter notes


def test_a_passage_goes_on_through_repeats_and_a_jump_begins_another(
    played: Alignment, bare: Alignment
) -> None:
    (passage,) = passages(played)
    assert passage.offsets == (0, 3, 6, 9, 12, 15, 18)
    assert [passage.at(q) for q in passage.offsets] == pytest.approx(STARTS, abs=0.011)
    assert passage.at(4) == pytest.approx(STARTS[1] + 60 / 90, abs=0.011)
    assert [len(p.measures) for p in passages(bare)] == [2, 2]


def test_a_beat_without_a_note_lies_between_its_neighbours(played: Alignment) -> None:
    found = [(m.number, beat, time) for m, beat, time in passages(played)[0].beats()]
    assert len(found) == 18
    assert found[4] == (2, 1.0, pytest.approx(STARTS[1] + 60 / 90, abs=0.011))
    assert [time for *_, time in found] == sorted(time for *_, time in found)


# tables


def test_mir_eval_reads_beats_and_labels(tmp_path: Path, played: Alignment) -> None:
    import mir_eval

    beats, labels = tmp_path / "take.beats", tmp_path / "take.txt"
    beats.write_text(text_of("beats", played))
    times, places = mir_eval.io.load_labeled_events(str(beats))
    assert places == ["1", "2", "3"] * 6
    expected = [
        start + n * 60 / quarters
        for start, (_, quarters) in zip(STARTS, ROAD, strict=False)
        for n in range(3)
    ]
    mir_eval.alignment.validate(np.array(expected), times)
    assert mir_eval.alignment.absolute_error(np.array(expected), times)[1] < 0.01
    labels.write_text(text_of("audacity", played))
    intervals, names = mir_eval.io.load_labeled_intervals(str(labels))
    assert names == ["1", "2", "1 (2)", "2 (2)", "3", "4"]
    mir_eval.util.validate_intervals(intervals)


def test_a_measure_of_unknown_beats_is_one_line(bare: Alignment) -> None:
    lines = text_of("beats", bare).splitlines()
    assert [line.split("\t")[1] for line in lines] == ["1"] * 4
    assert [float(line.split("\t")[0]) for line in lines] == pytest.approx(
        [0.5, 1.5, 2.5, 3.5], abs=0.011
    )


def test_notes_have_the_names_that_the_file_gives_them(
    played: Alignment, origin: Origin, written: Path
) -> None:
    import partitura

    rows = list(csv.DictReader(text_of("notes", played, origin).splitlines()))
    assert [row["note"] for row in rows[:3]] == ["first", "P1-m1-n2", "P1-m1-n3"]
    assert len(rows) == 3 + 2 + 3 + 2 + 2 + 1
    again = [float(row["time"]) for row in rows if row["note"] == "first"]
    assert again == pytest.approx([STARTS[0], STARTS[2]], abs=0.011)
    assert [row["pass"] for row in rows if row["note"] == "first"] == ["1", "2"]
    assert rows[-1]["note"] == "last" and float(rows[-1]["time"]) == pytest.approx(
        STARTS[5], abs=0.011
    )
    known = {note.id for note in partitura.load_musicxml(written)[0].notes}
    assert known & {row["note"] for row in rows} == {"first", "last"}


def test_notes_of_a_scan_without_symbols_are_refused_before_the_work() -> None:
    with pytest.raises(ScoreError, match="add --symbols"):
        FORMATS["notes"].check(Origin(files=(Path("scan.pdf"),)))
    for name in FORMATS:
        if name != "notes":
            FORMATS[name].check(UNKNOWN)


# JAMS


@pytest.mark.parametrize("which", ["played", "bare"])
def test_jams_are_valid(tmp_path: Path, which: str, request: pytest.FixtureRequest) -> None:
    import jams

    alignment = request.getfixturevalue(which)
    path = tmp_path / "take.jams"
    path.write_text(text_of("jams", alignment, Origin(audio="take.wav")), encoding="utf-8")
    read = jams.load(str(path), validate=True, strict=True)
    assert read.file_metadata.duration == pytest.approx(alignment.positions[-1].time)
    (segments,) = read.annotations.search(namespace="segment_open")
    intervals, names = segments.to_interval_values()
    assert names == [m.name for m in alignment.measures]
    assert intervals[:, 0] == pytest.approx([m.start for m in alignment.measures])
    (beats,) = read.annotations.search(namespace="beat")
    times, values = beats.to_event_values()
    downbeats = times[np.array(values) == 1]
    assert downbeats == pytest.approx([m.start for m in alignment.measures], abs=0.001)
    (onsets,) = read.annotations.search(namespace="onset")
    assert len(onsets.data) == sum(len(m.onsets) for m in alignment.measures)


# MIDI


def tempo_map(data: bytes) -> tuple[list[tuple[float, str]], list[float], mido.MidiFile]:
    """Markers, seconds at each bar line, and the file."""
    file = mido.MidiFile(file=io.BytesIO(data), charset="utf-8")
    markers, changes, tick = [], [(0, 500000)], 0
    metres: list[tuple[int, float]] = []
    seconds = 0.0
    for message in file:
        seconds += message.time
        if message.type == "marker":
            markers.append((seconds, message.text))
    for message in file.tracks[0]:
        tick += message.time
        if message.type == "set_tempo":
            changes.append((tick, message.tempo))
        if message.type == "time_signature":
            metres.append((tick, message.numerator * 4 / message.denominator))

    def at(wanted: float) -> float:
        out = 0.0
        for (start, length), (end, _) in itertools.pairwise([*changes, (10**9, 0)]):
            out += mido.tick2second(max(min(wanted, end) - start, 0), file.ticks_per_beat, length)
        return out

    bars = []
    for (start, quarters), (end, _) in itertools.pairwise([*metres, (tick, 0.0)]):
        bars += [at(t) for t in np.arange(start, end - 0.5, quarters * file.ticks_per_beat)]
    return markers, [*bars, at(tick)], file


def test_bars_of_the_tempo_map_stand_where_they_were_played(played: Alignment) -> None:
    written = FORMATS["midi"].write(played, UNKNOWN)
    assert isinstance(written, bytes)
    markers, bars, file = tempo_map(written)
    assert [name for _, name in markers] == ["1", "2", "1 (2)", "2 (2)", "3", "4"]
    starts = [m.start for m in played.measures]
    assert [time for time, _ in markers] == pytest.approx(starts, abs=1e-4)
    assert bars == pytest.approx([0.0, *starts, played.measures[-1].end], abs=1e-4)
    assert file.length == pytest.approx(played.measures[-1].end, abs=1e-4)
    tempos = [round(60e6 / m.tempo) for m in file.tracks[0] if m.type == "set_tempo"]
    assert tempos[1:4] == pytest.approx([60, 60, 60], abs=2)
    assert tempos[-3:] == pytest.approx([75, 75, 75], abs=2)


def test_silence_and_jumps_become_bars_of_their_own(score: Score) -> None:
    found = play(score, [(1, 60), (4, 60)], begin=5.0)
    assert [m.jumped for m in found.measures] == [False, True]
    markers, bars, _ = tempo_map(FORMATS["midi"].write(found, UNKNOWN))  # type: ignore[arg-type]
    assert markers == [(pytest.approx(5.0, abs=0.011), "1"), (pytest.approx(8, abs=0.011), "→ 4")]
    assert bars == pytest.approx([0, 2.5, 5, 8, 11], abs=0.011)


def test_measures_of_unknown_length_are_bars_too(bare: Alignment) -> None:
    markers, bars, _ = tempo_map(FORMATS["midi"].write(bare, UNKNOWN))  # type: ignore[arg-type]
    assert [name for _, name in markers] == ["1", "2", "→ 9", "10"]
    assert bars == pytest.approx([0, 0.5, 1.5, 2.5, 3.5, 5.5], abs=0.011)


# MusicXML


def test_music21_plays_the_musicxml_as_it_was_played(score: Score, origin: Origin) -> None:
    road = [(1, 60.0), (2, 90.0), (3, 120.0), (4, 75.0)]
    text = text_of("musicxml", play(score, road), origin)
    stream = converter.parseData(text, format="musicxml").parts[0]
    times = {
        entry["element"].pitch.step: entry["offsetSeconds"]
        for entry in stream.flatten().secondsMap
        if "Note" in entry["element"].classes
    }
    expected = [0.5, *(0.5 + np.cumsum([180 / tempo for _, tempo in road]))]
    assert times["F"] == pytest.approx(expected[1] - 0.5, abs=0.02)
    assert times["A"] == pytest.approx(expected[2] - 0.5, abs=0.02)
    assert "200" not in {m.get("tempo") for m in ElementTree.fromstring(text).iter("sound")}
    assert "Allegro" in text


def test_verovio_plays_the_musicxml_as_it_was_played(score: Score, origin: Origin) -> None:
    road = [(1, 60.0), (2, 90.0), (3, 120.0), (4, 75.0)]
    toolkit = verovio.toolkit()
    assert toolkit.loadData(text_of("musicxml", play(score, road), origin))
    timemap = toolkit.renderToTimemap({"includeMeasures": True})
    starts = [entry["tstamp"] / 1000 for entry in timemap if "measureOn" in entry]
    with_repeat = [180 / quarters for _, quarters in [*road[:2], *road]]
    assert starts == pytest.approx([0, *np.cumsum(with_repeat)[:-1]], abs=0.03)


def test_passes_of_a_repeat_have_tempos_of_their_own(played: Alignment, origin: Origin) -> None:
    root = ElementTree.fromstring(text_of("musicxml", played, origin))
    told = [
        [(s.get("time-only"), round(float(s.get("tempo", "0")))) for s in bar.iter("sound")]
        for bar in root.iter("measure")
    ]
    told = [[pair for pair in bar if pair[1]] for bar in told]
    assert told[0] == [("1", pytest.approx(60, abs=1)), ("2", pytest.approx(80, abs=1))]
    assert told[3] == [(None, pytest.approx(75, abs=1))]


def test_a_scan_becomes_empty_measures_with_tempos(bare: Alignment) -> None:
    stream = converter.parseData(text_of("musicxml", bare), format="musicxml")
    marks = [
        (m.measureNumber, m.numberSounding)
        for m in stream.recurse().getElementsByClass(tempo.MetronomeMark)
    ]
    assert marks == [
        (1, pytest.approx(240, rel=0.02)),
        (2, pytest.approx(240, rel=0.02)),
        (9, pytest.approx(240, rel=0.02)),
        (10, pytest.approx(120, rel=0.02)),
    ]


# MEI


def whens(text: str) -> list[tuple[float, list[str], str | None]]:
    found = []
    for when in ElementTree.fromstring(text).iter(f"{MEI}when"):
        assert when.get("abstype") == "time" and when.get(XML_ID)
        hours, minutes, seconds = map(float, (when.get("absolute") or "").split(":"))
        names = [name.removeprefix("#") for name in (when.get("data") or "").split()]
        found.append((3600 * hours + 60 * minutes + seconds, names, when.get("label")))
    return found


def test_mei_points_from_the_recording_to_measures_and_notes(
    played: Alignment, origin: Origin
) -> None:
    text = text_of("mei", played, origin)
    root = ElementTree.fromstring(text)
    ids = {e.get(XML_ID): e for e in root.iter() if e.get(XML_ID)}
    told = whens(text)
    assert [time for time, *_ in told] == sorted(time for time, *_ in told)
    assert all(name in ids for _, names, _ in told for name in names)
    measures = [(time, label) for time, _, label in told if label]
    assert [label for _, label in measures] == ["1", "2", "1 (2)", "2 (2)", "3", "4"]
    assert [time for time, _ in measures] == pytest.approx(STARTS[:-1], abs=0.011)
    notes = [(time, names) for time, names, label in told if label is None]
    assert [names for _, names in notes].count(["first"]) == 2
    assert notes[-1] == (pytest.approx(STARTS[5], abs=0.011), ["last"])
    (file,) = root.iter(f"{MEI}avFile")
    assert file.get("target") == "take%20one.wav"
    order = [child.tag for child in next(root.iter(f"{MEI}music"))]
    assert order.index(f"{MEI}performance") < order.index(f"{MEI}body")


def test_verovio_and_music21_read_the_mei(played: Alignment, origin: Origin) -> None:
    text = text_of("mei", played, origin)
    toolkit = verovio.toolkit()
    assert toolkit.loadData(text)
    for _, names, _ in whens(text):
        for name in names:
            assert toolkit.getElementAttr(name), "what a time points at is there"
    assert len(converter.parseData(text, format="mei").recurse().notes) == 8


def test_mei_stays_as_it_is_and_is_aligned_once(
    tmp_path: Path, played: Alignment, origin: Origin
) -> None:
    path = tmp_path / "waltz.mei"
    path.write_text(text_of("mei", played, origin).replace("<title />", "<title>Mine</title>"))
    score = load_score(path)
    found = play(score, [(1, 60), (2, 60)])
    text = text_of("mei", found, Origin(score, (path,)))
    assert "<title>Mine</title>" in text
    assert text.count("<recording ") == 1
    assert [label for *_, label in whens(text) if label] == ["1", "2"]


def test_a_scan_in_mei_has_zones_and_times_of_its_measures(bare: Alignment) -> None:
    score = Score("sonata", [np.full((1200, 848), 255, np.uint8)] * 2, bare.layout)
    text = text_of("mei", bare, Origin(score, (Path("my sonata.pdf"),)))
    toolkit = verovio.toolkit()
    assert toolkit.loadData(text)
    assert [names for _, names, _ in whens(text)] == [
        ["measure-1"],
        ["measure-2"],
        ["measure-9"],
        ["measure-10"],
    ]
    assert 'target="my%20sonata.pdf#page=2"' in text


# symbols beside a scan


def test_symbols_beside_pages_say_which_measure_is_which(written: Path) -> None:
    """The pages have one measure more than the symbols, before them."""
    engraved = load_score(written)
    assert engraved.layout is not None
    pages = replace(engraved, layout=make_layout(1, systems=1, measures=4))
    score = load_score(pages, symbols=written)
    from sf_plugin.score.symbols import name_measures

    layout = name_measures(make_layout(1, systems=1, measures=4), score.written)
    found = play(replace(score, layout=layout), [(n, 60) for n in (1, 2, 3, 4)])
    origin = Origin(score, (Path("scan.pdf"),), written)
    assert origin.written(found) == {m.number: int(m.label or 0) - 1 for m in measures_of(layout)}
    rows = list(csv.DictReader(text_of("notes", found, origin).splitlines()))
    assert rows[0]["note"] == "first" and rows[-1]["note"] == "last"
    root = ElementTree.fromstring(text_of("musicxml", found, origin))
    tempos = [float(s.get("tempo", "0")) for s in root.iter("sound") if s.get("tempo")]
    assert tempos == pytest.approx([60] * 4, abs=1)


def test_a_stream_of_music21_is_its_own_symbols(written: Path) -> None:
    score = load_score(converter.parse(written))
    found = play(score, [(1, 60), (2, 60)])
    origin = Origin(score)
    assert origin.symbolic
    rows = list(csv.DictReader(text_of("notes", found, origin).splitlines()))
    assert len(rows) == 5
    assert re.search(r'<sound tempo="(59|60)\.', text_of("musicxml", found, origin))
