"""Alignments as files of other programs."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import mido

from sf_plugin.alignment import Alignment, MeasureTime
from sf_plugin.errors import ScoreError, ScoreFollowerError
from sf_plugin.passages import BREAK, TINY, UNKNOWN_LENGTH, passages
from sf_plugin.score import engraving
from sf_plugin.score.layout_exports import Sheets, page_names, to_mei, to_musicxml
from sf_plugin.score.model import PAGE_WIDTH, Score
from sf_plugin.score.structure import measures_of
from sf_plugin.score.svg import local
from sf_plugin.score.symbols import with_note_ids

A4 = (PAGE_WIDTH, 1200)
TICKS = 480
"""Of a MIDI file's quarter note."""
LONGEST = 0xFFFFFF
"""Microseconds of a quarter note that a MIDI file can tell."""
FREE_BAR = 2.0
"""Seconds near which a bar of a MIDI file is before and between the music."""
XML_NAME = engraving.XML_ID
XML_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
MUSICXML_TYPE = (
    '<!DOCTYPE score-partwise PUBLIC "-//Recordare//DTD MusicXML 4.0 Partwise//EN" '
    '"http://www.musicxml.org/dtds/partwise.dtd">\n'
)


@dataclass(frozen=True)
class Origin:
    """What an alignment was made from, for formats that contain it or point at it.

    Attributes:
        score: its pages, and its stream where it came from music21.
        files: of the score, in order.
        symbols: the file of symbols given beside the pages, if any.
        audio: the recording as it is called in files that point at it.
    """

    score: Score | None = None
    files: tuple[Path, ...] = ()
    symbols: Path | None = None
    audio: str = ""

    @property
    def symbolic(self) -> bool:
        """Whether there are symbols."""
        return self.symbols is not None or self._stream is not None or self._engraved is not None

    def text(self) -> str:
        """The symbols as MusicXML or MEI; an empty string where there are none.

        Raises:
            ScoreError: the file went away, or is damaged.
        """
        if self._stream is not None:
            return with_note_ids(engraving.to_musicxml(self._stream))
        path = self.symbols or self._engraved
        if path is None:
            return ""
        if path.suffix.lower() in engraving.VEROVIO_SUFFIXES:
            return with_note_ids(engraving.read_text(path))
        return with_note_ids(engraving.to_musicxml(engraving.parse_with_music21(path)))

    def written(self, alignment: Alignment) -> dict[int, int]:
        """Which measure of the symbols, from 0, each measure of the pages is, by its number."""
        measures = measures_of(alignment.layout)
        if self.symbols is None or self.score is None:
            return {measure.number: measure.number - 1 for measure in measures}
        by_note = {n: i for i, w in enumerate(self.score.written) for _, n in w.notes if n}
        by_label = {w.label: i for i, w in enumerate(self.score.written) if w.label}
        found = {}
        for measure in measures:
            notes = (by_note[name] for _, name in measure.notes if name in by_note)
            index = next(notes, by_label.get(measure.label or ""))
            if index is not None:
                found[measure.number] = index
        return found

    def sheets(self, alignment: Alignment) -> Sheets:
        """The pages as the exports of layouts take them."""
        layout = alignment.layout
        pages = self.score.pages if self.score is not None else ()
        count = max(len(pages), *(page.page for page in layout.pages), 1)
        names = (
            page_names(self.files, count) if self.files else tuple(map(str, range(1, count + 1)))
        )
        shapes = [pages[p.page - 1].shape if pages else A4[::-1] for p in layout.pages]
        return Sheets(
            alignment.name,
            layout,
            tuple((width, height) for height, width in shapes),
            tuple(names[page.page - 1] for page in layout.pages),
        )

    @property
    def _stream(self) -> Any:
        return self.score.symbols if self.score is not None and self.symbols is None else None

    @property
    def _engraved(self) -> Path | None:
        known = (*engraving.VEROVIO_SUFFIXES, *engraving.MUSIC21_SUFFIXES)
        one = len(self.files) == 1 and self.files[0].suffix.lower() in known
        return self.files[0] if one else None


UNKNOWN = Origin()

# tables


def csv_table(alignment: Alignment, origin: Origin = UNKNOWN) -> str:
    """A row a measure."""
    rows = []
    for m in alignment.measures:
        span = [f"{m.start:.3f}", f"{m.end:.3f}"]
        rows.append([*span, m.page, m.system, m.number, m.label, m.pass_, int(m.jumped)])
    return _csv(["time", "end", "page", "system", "measure", "label", "pass", "jump"], rows)


def note_table(alignment: Alignment, origin: Origin = UNKNOWN) -> str:
    """A row a note, by the id that the symbols give it."""
    rows = [
        [f"{time:.3f}", note, m.number, m.label, m.pass_, f"{beat:g}"]
        for m, beat, time, notes in _Encoded(alignment, origin).onsets()
        for note in notes
    ]
    return _csv(["time", "note", "measure", "label", "pass", "beat"], rows)


def json_lines(alignment: Alignment, origin: Origin = UNKNOWN) -> str:
    """Every event, as `scorefollow follow --out` writes them."""
    return "".join(event.to_json() + "\n" for event in alignment.events)


def audacity_labels(alignment: Alignment, origin: Origin = UNKNOWN) -> str:
    """A label track of Audacity, a label a measure."""
    return "".join(f"{m.start:.3f}\t{m.end:.3f}\t{m.name}\n" for m in alignment.measures)


def time_instants(alignment: Alignment, origin: Origin = UNKNOWN) -> str:
    """A time instants layer of Sonic Visualiser: every place passed, measures by name."""
    return _csv(
        None,
        [
            [f"{onset.time:.3f}", "" if i else measure.name]
            for measure in alignment.measures
            for i, onset in enumerate(measure.onsets)
        ],
    )


def beat_table(alignment: Alignment, origin: Origin = UNKNOWN) -> str:
    """Time and place in the measure of every quarter note, the first being 1."""
    return "".join(f"{time:.3f}\t{beat + 1:g}\n" for _, beat, time in _beats(alignment))


def _csv(head: Sequence[str] | None, rows: Sequence[Sequence[Any]]) -> str:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    if head is not None:
        writer.writerow(head)
    writer.writerows(rows)
    return table.getvalue()


def _beats(alignment: Alignment) -> Iterator[tuple[MeasureTime, float, float]]:
    for passage in passages(alignment):
        yield from passage.beats()


# JAMS


def jams(alignment: Alignment, origin: Origin = UNKNOWN) -> str:
    """Measures as open segments, beats, and every place passed as an onset."""
    seconds = round(alignment.positions[-1].time, 4)
    kinds: dict[str, list[tuple[float, float, Any]]] = {
        "segment_open": [(m.start, m.end - m.start, m.name) for m in alignment.measures],
        "beat": [(time, 0.0, beat + 1) for _, beat, time in _beats(alignment)],
        "onset": [(o.time, 0.0, None) for m in alignment.measures for o in m.onsets],
    }
    about = {
        "annotation_tools": "scorefollow align",
        "data_source": "program",
        "annotation_rules": f"of the score {alignment.name}; beats are quarter notes",
        "annotator": {},
        "curator": {"name": "", "email": ""},
        "corpus": "",
        "version": "",
        "validation": "",
    }
    whole = {
        "file_metadata": {
            "title": alignment.name,
            "artist": "",
            "release": "",
            "duration": seconds,
            "identifiers": {"audio": origin.audio} if origin.audio else {},
            "jams_version": "0.3.4",
        },
        "annotations": [
            {
                "namespace": kind,
                "annotation_metadata": about,
                "data": [_observation(*row) for row in rows],
                "sandbox": {},
                "time": 0.0,
                "duration": seconds,
            }
            for kind, rows in kinds.items()
        ],
        "sandbox": {},
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _observation(time: float, duration: float, value: Any) -> dict[str, Any]:
    return {
        "time": round(time, 4),
        "duration": round(duration, 4),
        "value": value,
        "confidence": None,
    }


# a tempo map


def midi_tempo_map(alignment: Alignment, origin: Origin = UNKNOWN) -> bytes:
    """A MIDI file whose bars and quarter notes fall where they were played.

    A marker a measure.  Before the music, and where the place was not known, stand bars
    without one.
    """
    grid = _Grid(alignment.name)
    for passage in passages(alignment):
        silence = passage.seconds[0] - grid.seconds
        if silence > BREAK:
            bars = max(1, round(silence / FREE_BAR))
            grid.metre(4.0)
            grid.go(4.0 * bars, passage.seconds[0])
        for measure, start, end in passage.bars():
            grid.metre(end - start)
            grid.mark(measure.name)
            steps = [start, end]
            if measure.onsets[0].beat is not None:
                steps[1:1] = [start + n for n in range(1, math.ceil(end - start - TINY))]
            for before, after in pairwise(steps):
                grid.go(after - before, passage.at(after))
    return grid.to_bytes()


class _Grid:
    """A track of metres, tempos and markers that knows how late it is."""

    def __init__(self, name: str) -> None:
        self.seconds = 0.0
        self._file = mido.MidiFile(type=0, ticks_per_beat=TICKS, charset="utf-8")
        self._track = self._file.add_track(name)
        self._quarters = 0.0
        self._ticks = 0
        self._written = 0
        self._metre: tuple[int, int] | None = None

    def metre(self, quarters: float) -> None:
        """Bars are now so long."""
        unit = next((n for n in (4, 8, 16, 32) if (quarters * n / 4).is_integer()), 32)
        metre = (min(max(round(quarters * unit / 4), 1), 255), unit)
        if metre != self._metre:
            self._metre = metre
            self._say("time_signature", numerator=metre[0], denominator=metre[1])

    def mark(self, text: str) -> None:
        self._say("marker", text=text)

    def go(self, quarters: float, until: float) -> None:
        """Quarter notes that are over at `until`, in seconds."""
        self._quarters += quarters
        ticks = max(round(self._quarters * TICKS) - self._ticks, 1)
        tempo = min(max(round((until - self.seconds) * 1e6 * TICKS / ticks), 1), LONGEST)
        self._say("set_tempo", tempo=tempo)
        self._ticks += ticks
        self.seconds += tempo * ticks / TICKS / 1e6

    def to_bytes(self) -> bytes:
        self._say("end_of_track")
        out = io.BytesIO()
        self._file.save(file=out)
        return out.getvalue()

    def _say(self, kind: str, **what: Any) -> None:
        self._track.append(mido.MetaMessage(kind, time=self._ticks - self._written, **what))
        self._written = self._ticks


# scores


def musicxml(alignment: Alignment, origin: Origin = UNKNOWN) -> str:
    """The score with the tempo of every measure, so that it plays as it was played.

    Where there is no MusicXML, empty measures with the breaks of the pages.
    """
    text = origin.text()
    empty = "<score-partwise" not in text
    if not empty:
        root, index = ElementTree.fromstring(text), origin.written(alignment)
    else:
        root = ElementTree.fromstring(to_musicxml(origin.sheets(alignment)))
        numbers = [measure.number for measure in measures_of(alignment.layout)]
        index = {number: i for i, number in enumerate(numbers)}
    for sound in root.iter("sound"):
        sound.attrib.pop("tempo", None)
    tempos: dict[int, dict[int, float]] = {}
    for passage in passages(alignment):
        for measure, start, end in passage.bars():
            seconds = passage.at(end) - passage.at(start)
            if measure.number in index and seconds > 0 and end > start:
                quarters = UNKNOWN_LENGTH if empty else end - start
                passes = tempos.setdefault(index[measure.number], {})
                passes[measure.pass_] = 60 * quarters / seconds
    measures = list(next(root.iter("part")).iter("measure"))
    for i, passes in tempos.items():
        if i < len(measures):
            _write_tempos(measures[i], passes)
    ElementTree.indent(root)
    return f"{XML_HEAD}{MUSICXML_TYPE}{ElementTree.tostring(root, encoding='unicode')}\n"


def _write_tempos(measure: Element, passes: dict[int, float]) -> None:
    """Before the first note; of a measure played several times, each with its pass."""
    tags = [child.tag for child in measure]
    at = next((i for i, tag in enumerate(tags) if tag in ("note", "backup", "forward")), len(tags))
    for number, tempo in passes.items():
        direction = Element("direction")
        SubElement(SubElement(direction, "direction-type"), "words")
        sound = SubElement(direction, "sound", {"tempo": f"{tempo:.4f}"})
        if len(passes) > 1:
            sound.set("time-only", str(number))
        measure.insert(at, direction)
        at += 1


def mei(alignment: Alignment, origin: Origin = UNKNOWN) -> str:
    """The score in MEI with a recording: when each measure, and each note, was played.

    Where there are no symbols, empty measures and zones on the pages.
    """
    score = _Encoded(alignment, origin)
    music = next(element for element in score.root.iter() if local(element) == "music")
    for child in list(music):
        if local(child) == "performance":
            music.remove(child)
    body = next(i for i, child in enumerate(music) if local(child) in ("body", "group"))
    performance = Element("performance")
    music.insert(body, performance)
    recording = SubElement(performance, "recording", {XML_NAME: "recording-1"})
    if origin.audio:
        SubElement(recording, "avFile", {"target": quote(origin.audio)})
    whens = [
        (measure.start, [score.measures[index]], measure.name) for measure, index in score.played()
    ]
    whens += [(time, notes, "") for _, _, time, notes in score.onsets()]
    for n, (time, names, label) in enumerate(sorted(whens, key=lambda when: when[0]), 1):
        what = {XML_NAME: f"when-{n}", "absolute": _clock(time), "abstype": "time"}
        what |= {"label": label} if label else {}
        what["data"] = " ".join(f"#{name}" for name in names)
        SubElement(recording, "when", what)
    ElementTree.indent(score.root)
    return f"{XML_HEAD}{engraving.mei_text(score.root)}\n"


class _Encoded:
    """The score as MEI.

    Attributes:
        root: the document; every measure in it has an id.
        measures: ids in order.
    """

    def __init__(self, alignment: Alignment, origin: Origin) -> None:
        self._alignment = alignment
        text = origin.text()
        self._symbolic = bool(text)
        if text:
            self._index = origin.written(alignment)
        else:
            text = to_mei(origin.sheets(alignment))
            numbers = [measure.number for measure in measures_of(alignment.layout)]
            self._index = {number: i for i, number in enumerate(numbers)}
        if "<score-partwise" in text:
            text = engraving.open_toolkit(text).getMEI()
        self.root = ElementTree.fromstring(text)
        elements = [element for element in self.root.iter() if local(element) == "measure"]
        for n, element in enumerate(elements, 1):
            element.attrib.setdefault(XML_NAME, f"measure-{n}")
        self.measures = [element.get(XML_NAME, "") for element in elements]
        self._elements = elements

    def played(self) -> Iterator[tuple[MeasureTime, int]]:
        """Every measure that was played, and which measure of the document it is, from 0."""
        for measure in self._alignment.measures:
            index = self._index.get(measure.number)
            if index is not None and index < len(self.measures):
                yield measure, index

    def onsets(self) -> Iterator[tuple[MeasureTime, float, float, list[str]]]:
        """Where notes begin: measure, quarter notes into it, seconds, ids of the notes."""
        notes = self._notes()
        for passage in passages(self._alignment):
            for measure, start in zip(passage.measures, passage.offsets, strict=False):
                begins = notes.get(self._index.get(measure.number, -1), {})
                known = measure.onsets[0].beat is not None
                for beat, names in sorted(begins.items()) if known else ():
                    if passage.quarters[0] <= start + beat + TINY:
                        yield measure, beat, passage.at(start + beat), names

    def _notes(self) -> dict[int, dict[float, list[str]]]:
        """Ids of the notes that begin at each beat of each measure."""
        if not self._symbolic:
            return {}
        beats = engraving.beats_of(engraving.open_toolkit(engraving.mei_text(self.root)))
        found: dict[int, dict[float, list[str]]] = {}
        for i, element in enumerate(self._elements):
            start, end = beats.measures.get(self.measures[i], (0.0, 0.0))
            for note in element.iter():
                name = note.get(XML_NAME, "")
                onset = beats.notes.get(name)
                if local(note) == "note" and onset is not None and start <= onset < end:
                    found.setdefault(i, {}).setdefault(round(onset - start, 6), []).append(name)
        return found


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds, 3), 60)
    return f"{int(minutes // 60):02d}:{int(minutes % 60):02d}:{rest:06.3f}"


# all of them


@dataclass(frozen=True)
class Format:
    """A way to write an alignment.

    Attributes:
        help: what it is.
        suffix: of the files that are so, or none.
        write: text, or bytes, of an alignment.
        of_symbols: whether it cannot be written without symbols.
    """

    help: str
    suffix: str | None
    write: Callable[[Alignment, Origin], str | bytes]
    of_symbols: bool = False

    def check(self, origin: Origin) -> None:
        """Before the work.

        Raises:
            ScoreError: there are no symbols to write it of.
        """
        if self.of_symbols and not origin.symbolic:
            raise ScoreError(
                "there are no symbols that name the notes: add --symbols FILE, or choose "
                "another --format"
            )


FORMATS = {
    "csv": Format("a row a measure", ".csv", csv_table),
    "notes": Format("a row a note, by its id in the symbols", None, note_table, True),
    "beats": Format("time and beat of every quarter note", ".beats", beat_table),
    "jsonl": Format("a position a frame, and jumps, as 'follow' writes", ".jsonl", json_lines),
    "audacity": Format("a label track of Audacity, a label a measure", ".txt", audacity_labels),
    "sonic-visualiser": Format(
        "time instants of Sonic Visualiser, every place passed", None, time_instants
    ),
    "jams": Format("measures, beats and places as annotations", ".jams", jams),
    "midi": Format("a tempo map: bars and beats where they were played", ".mid", midi_tempo_map),
    "musicxml": Format("the score with the tempo of every measure", ".musicxml", musicxml),
    "mei": Format("the score with a recording, and when its notes were played", ".mei", mei),
}


def format_of(file: Path) -> Format:
    """The format that the name of a file asks for.

    Raises:
        ScoreFollowerError: it asks for none.
    """
    for one in FORMATS.values():
        if one.suffix == file.suffix.lower():
            return one
    known = ", ".join(one.suffix for one in FORMATS.values() if one.suffix)
    raise ScoreFollowerError(f"{file}: ends with none of {known}: add --format")
