"""What an MEI document says of its notes and measures, by element id, in printed order."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple
from xml.etree import ElementTree

from sf_plugin.dataset.engraving import ARTICULATIONS, ORNAMENTS, EngravingError
from sf_plugin.score.engraving import XML_ID, mei_text, new_toolkit

Element = ElementTree.Element

LETTERS = {"c": 0, "d": 1, "e": 2, "f": 3, "g": 4, "a": 5, "b": 6}
NATURALS = (0, 2, 4, 5, 7, 9, 11)
"""Semitones above C of the letters."""

_ARTICULATIONS = {
    "stacc": "staccato",
    "stacciss": "staccato",
    "spicc": "staccato",
    "ten": "tenuto",
    "acc": "accent",
    "marc": "accent",
}
_ALTERATIONS = {
    "n": 0,
    "s": 1,
    "ns": 1,
    "ss": 2,
    "x": 2,
    "xs": 3,
    "ts": 3,
    "f": -1,
    "nf": -1,
    "ff": -2,
    "tf": -3,
}
_MARKS = {
    "segno": "segno",
    "coda": "coda",
    "fine": "fine",
    "daCapo": "da capo",
    "dalSegno": "dal segno",
}
_WORDS = (
    (r"\bD\. ?C\b|\bDC\b|\bda capo\b", "da capo"),
    (r"\bD\. ?S\b|\bDS\b|\bd[ae]l segno\b", "dal segno"),
    (r"^fine\b", "fine"),
    (r"\bcoda\b", "coda"),
    (r"^segno$", "segno"),
)
_NOT_UNDERSTOOD = {
    "mRpt": "measure repeats",
    "mRpt2": "measure repeats",
    "multiRpt": "measure repeats",
    "beatRpt": "beat repeats",
    "halfmRpt": "measure repeats",
}
_NOTHING = Fraction(0)


class Head(NamedTuple):
    """A printed and played note; times in whole notes from the start of its movement."""

    score: int
    onset: float
    grace: float
    length: float
    written: int  # 7 times the octave plus the letter, C 0
    pitch: int  # sounding MIDI number
    transposition: int  # of the instrument, in semitones
    staff: str  # MEI's number of the staff it stands on
    tied: bool
    tempo: float
    articulation: int
    ornament: int


class Measure(NamedTuple):
    score: int
    start: float
    end: float
    number: int
    left: str
    right: str


@dataclass
class Facts:
    """By element id; `times` holds rests as well, `voltas` rows of VOLTA."""

    heads: dict[str, Head] = field(default_factory=dict)
    times: dict[str, float] = field(default_factory=dict)
    measures: dict[str, Measure] = field(default_factory=dict)
    staves: dict[str, str] = field(default_factory=dict)
    marks: dict[str, tuple[str, float]] = field(default_factory=dict)
    voltas: list[tuple[int, float, float, str]] = field(default_factory=list)


def remove(root: Element, unwanted: Callable[[Element], bool]) -> None:
    """Take the unwanted elements out of a tree, in place."""
    for child in list(root):
        if unwanted(child):
            root.remove(child)
        else:
            remove(child, unwanted)


def read_facts(root: Element) -> Facts:
    """All of a document without namespaces.

    Raises:
        EngravingError: something whose time is not understood.
    """
    for element in root.iter():
        if element.tag in _NOT_UNDERSTOOD:
            raise EngravingError(f"{_NOT_UNDERSTOOD[element.tag]} (<{element.tag}>)")
    clock = _Clock(root)
    facts = Facts()
    for score, movement in enumerate(root.iter("mdiv")):
        _Movement(movement, score, clock, facts).read()
    return facts


class _Clock:
    """Verovio's times in whole notes; grace notes and arpeggios take none."""

    def __init__(self, root: Element) -> None:
        plain = copy.deepcopy(root)
        remove(plain, lambda e: e.get("grace") is not None or e.tag in ("graceGrp", "arpeg"))
        toolkit = new_toolkit({"mdivAll": True, "expandNever": True})
        if not toolkit.loadData(mei_text(plain)):
            raise EngravingError("Verovio cannot read it again")
        self.on: dict[str, Fraction] = {}
        self.off: dict[str, Fraction] = {}
        starts: list[tuple[str, Fraction]] = []
        now = _NOTHING
        for entry in toolkit.renderToTimemap({"includeMeasures": True, "includeRests": True}):
            now = Fraction(float(entry["qstamp"]) / 4).limit_denominator(10080)
            if name := entry.get("measureOn"):
                starts.append((name, now))
            for name in (*entry.get("on", ()), *entry.get("restsOn", ())):
                self.on.setdefault(name, now)
            for name in (*entry.get("off", ()), *entry.get("restsOff", ())):
                self.off[name] = now
        ends = [start for _, start in starts[1:]] + [now]
        self.measures = {
            name: (start, end) for (name, start), end in zip(starts, ends, strict=True)
        }


class _Movement:
    """Reads one movement into the facts."""

    def __init__(self, movement: Element, score: int, clock: _Clock, facts: Facts) -> None:
        self.movement, self.score, self.clock, self.facts = movement, score, clock, facts
        self.start = _NOTHING
        self.unit = 4  # of the time signature
        self.units: dict[str, int] = {}
        self.number = 0
        self.transposition: dict[str, int] = {}
        self.tempi: list[tuple[Fraction, float]] = []
        self.heads: dict[str, tuple[Element, Head]] = {}
        self.of: dict[str, list[str]] = {}  # ids of the notes of a note or chord
        self.articulation: dict[str, int] = {}
        self.ornament: dict[str, int] = {}
        self.tied: set[str] = set()
        self.octaves: list[tuple[str, float, float, int]] = []

    def read(self) -> None:
        measures = list(self.movement.iter("measure"))
        if not measures:
            return
        self.start = self._span(measures[0])[0]
        self._walk(self.movement)
        for measure in measures:
            self._control(measure)
        for ending in self.movement.iter("ending"):
            self._volta(ending)
        self._finish()

    def _span(self, measure: Element) -> tuple[Fraction, Fraction]:
        name = measure.get(XML_ID, "")
        if name not in self.clock.measures:
            raise EngravingError("a measure without time")
        return self.clock.measures[name]

    def _walk(self, element: Element) -> None:
        if element.tag == "staffDef" and (semitones := element.get("trans.semi")):
            self.transposition[element.get("n", "")] = round(float(semitones))
        if element.tag in ("staffDef", "scoreDef", "meterSig"):
            self.unit = int(element.get("meter.unit") or element.get("unit") or self.unit)
        if element.tag == "scoreDef" and (bpm := element.get("midi.bpm")):
            now = max((m.end for m in self._mine()), default=0.0)
            self.tempi.append((Fraction(now), float(bpm) / 4))
        if element.tag == "measure":
            self._measure(element)
            return
        for child in element:
            self._walk(child)

    def _mine(self) -> Iterator[Measure]:
        return (m for m in self.facts.measures.values() if m.score == self.score)

    def _measure(self, measure: Element) -> None:
        start, end = self._span(measure)
        label = measure.get("n")
        if label is None:
            self.number += 1
        elif digits := re.match(r"\d+", label):
            self.number = int(digits.group())
        self.facts.measures[measure.get(XML_ID, "")] = Measure(
            self.score,
            float(start - self.start),
            float(end - self.start),
            self.number,
            measure.get("left", ""),
            measure.get("right", ""),
        )
        self.units[measure.get(XML_ID, "")] = self.unit
        for staff in measure.iter("staff"):
            number = staff.get("n", "")
            self.facts.staves[staff.get(XML_ID, "")] = number
            for layer in staff.iter("layer"):
                self._layer(layer, number, end)

    def _layer(self, layer: Element, staff: str, end: Fraction) -> None:
        """Heads of a voice; grace notes come before the note or rest that they stand at."""
        waiting: list[list[tuple[Element, str]]] = []

        def settle(onset: Fraction) -> None:
            before = _NOTHING
            for notes in reversed(waiting):
                length = _nominal(notes[0][0])
                before += length
                for note, place in notes:
                    self._head(note, place, onset, -before, length)
            waiting.clear()

        for event, staff_of_event, tremolo, grace in _events(layer, staff, False, False):
            name = event.get(XML_ID, "")
            chord = event.tag == "chord"
            notes = list(event.iter("note")) if chord else [event] * (event.tag == "note")
            self.of[name] = [note.get(XML_ID, "") for note in notes]
            placed = [(note, note.get("staff", staff_of_event)) for note in notes]
            if grace or any(note.get("grace") for note in (event, *notes)):
                for note in notes:
                    _inherit(note, event)
                waiting.append(placed)
            else:
                ids = [name, *self.of[name]]
                onset = next((self.clock.on[i] for i in ids if i in self.clock.on), None)
                if onset is not None:
                    settle(onset)
                    self.facts.times[name] = float(onset - self.start)
                for note, place in placed:
                    mine = note.get(XML_ID, "")
                    if onset is None or mine not in self.clock.on:
                        raise EngravingError("a note without time")
                    length = self.clock.off.get(mine, end) - onset
                    self._head(note, place, onset, _NOTHING, length)
                slashes = {event.get("stem.mod"), *(note.get("stem.mod") for note in notes)}
                if tremolo or any(s and s.endswith("slash") for s in slashes):
                    self._ornament(self.of[name], "tremolo")
            for note in notes:
                self._articulate(note, event)
        settle(end)

    def _head(
        self, note: Element, staff: str, onset: Fraction, grace: Fraction, length: Fraction
    ) -> None:
        name, letter = note.get(XML_ID, ""), note.get("pname", "")
        if note.get("cue") == "true" or letter not in LETTERS or not note.get("oct"):
            return
        octave = int(note.get("oct", ""))
        transposition = self.transposition.get(staff, 0)
        head = Head(
            score=self.score,
            onset=float(onset - self.start),
            grace=float(grace),
            length=float(length),
            written=7 * octave + LETTERS[letter],
            pitch=12 * int(note.get("oct.ges", octave))
            + 12
            + NATURALS[LETTERS[letter]]
            + _alteration(note)
            + transposition,
            transposition=transposition,
            staff=staff,
            tied=note.get("tie", "") in ("m", "t"),
            tempo=0.0,
            articulation=0,
            ornament=0,
        )
        self.heads[name] = note, head
        self.facts.times.setdefault(name, head.onset)

    def _articulate(self, note: Element, event: Element) -> None:
        signs = [e.get("artic", "") for x in {note, event} for e in (x, *x.findall("artic"))]
        for sign in " ".join(signs).replace("-", " ").split():
            if kind := _ARTICULATIONS.get(sign):
                self._add(note.get(XML_ID, ""), kind)

    def _add(self, name: str, articulation: str) -> None:
        self.articulation[name] = self.articulation.get(name, 0) | ARTICULATIONS[articulation]

    def _ornament(self, names: list[str], ornament: str) -> None:
        self.ornament.update(dict.fromkeys(names, ORNAMENTS[ornament]))

    def _control(self, measure: Element) -> None:
        for event in measure:
            kind = event.tag
            if kind == "fermata":
                for name in self._targets(event, measure):
                    self._add(name, "fermata")
            elif kind == "arpeg" and event.get("order") != "nonarp":
                for name in self._targets(event, measure):
                    self._add(name, "arpeggio")
            elif kind in ("trill", "turn"):
                self._ornament(self._targets(event, measure), kind)
            elif kind == "mordent":
                lower = event.get("form", "lower") == "lower"
                self._ornament(self._targets(event, measure), "mordent" if lower else "prall")
            elif kind == "tie":
                self.tied.update(self._ids(event.get("endid", "")))
            elif kind == "octave":
                self._octave(event, measure)
            elif kind == "tempo":
                self._tempo(event, measure)
            elif kind in ("repeatMark", "dir"):
                self._mark(event, measure)

    def _ids(self, references: str) -> list[str]:
        found = []
        for name in references.replace("#", " ").split():
            found += self.of.get(name, [name])
        return found

    def _time(self, event: Element, measure: Element, stamp: str = "tstamp") -> float:
        fact = self.facts.measures[measure.get(XML_ID, "")]
        start = event.get("startid", "")[1:]
        if start in self.facts.times:
            return self.facts.times[start]
        beat = float(event.get(stamp, 1))
        onset = fact.start + max(beat - 1, 0.0) / self.units[measure.get(XML_ID, "")]
        return min(onset, fact.end)

    def _targets(self, event: Element, measure: Element) -> list[str]:
        """The heads that a sign belongs to."""
        if references := f"{event.get('startid', '')} {event.get('plist', '')}".strip():
            return self._ids(references)
        onset = self._time(event, measure)
        inside = {note.get(XML_ID, "") for note in measure.iter("note")}
        return [
            name
            for name, (_, head) in self.heads.items()
            if name in inside
            and head.staff in event.get("staff", head.staff).split()
            and not head.grace
            and abs(head.onset - onset) < 1e-4
        ]

    def _octave(self, event: Element, measure: Element) -> None:
        shift = {"8": 1, "15": 2, "22": 3}.get(event.get("dis", ""), 0)
        shift *= -1 if event.get("dis.place") == "below" else 1
        end = [self.facts.times[n] for n in self._ids(event.get("endid", "")) if n in self.heads]
        if end and shift:
            start = self._time(event, measure)
            self.octaves.append((event.get("staff", ""), start, max(end), shift))

    def _tempo(self, event: Element, measure: Element) -> None:
        tempo = float(event.get("midi.bpm", 0)) / 4
        if mm := event.get("mm"):
            dots = int(event.get("mm.dots", 0))
            unit = _value(event.get("mm.unit", "4"))
            tempo = float(mm) * float(unit * (2 - Fraction(1, 2**dots)))
        if tempo > 0:
            self.tempi.append((Fraction(self._time(event, measure)), tempo))

    def _mark(self, event: Element, measure: Element) -> None:
        mark = _MARKS.get(event.get("func", ""))
        text = " ".join("".join(event.itertext()).split())
        if mark is None:
            found = (m for pattern, m in _WORDS if re.search(pattern, text, re.IGNORECASE))
            mark = next(found, None)
        if mark:
            self.facts.marks[event.get(XML_ID, "")] = mark, self._time(event, measure)

    def _volta(self, ending: Element) -> None:
        inside = [self.facts.measures[m.get(XML_ID, "")] for m in ending.iter("measure")]
        label = ending.get("n") or ending.get("label") or ""
        ranges = re.findall(r"(\d+)(?:\s*[-–]\s*(\d+))?", label)
        passes = [str(i) for a, b in ranges for i in range(int(a), int(b or a) + 1)]
        if inside and passes:
            span = inside[0].start, inside[-1].end
            self.facts.voltas.append((self.score, *span, ",".join(passes)))

    def _finish(self) -> None:
        self.tempi.sort(key=lambda pair: pair[0])
        for name, (note, head) in self.heads.items():
            octaves = 0
            if note.get("oct.ges") is None:
                octaves = sum(
                    shift
                    for staff, start, end, shift in self.octaves
                    if head.staff == staff and start - 1e-6 <= head.onset <= end + 1e-6
                )
            self.facts.heads[name] = head._replace(
                pitch=head.pitch + 12 * octaves,
                tied=head.tied or name in self.tied,
                tempo=next((t for at, t in reversed(self.tempi) if at <= head.onset + 1e-6), 0.0),
                articulation=self.articulation.get(name, 0),
                ornament=self.ornament.get(name, 0),
            )


def _events(
    element: Element, staff: str, tremolo: bool, grace: bool
) -> Iterator[tuple[Element, str, bool, bool]]:
    """Notes, chords and rests of a voice: (event, staff, in a tremolo, grace)."""
    for child in element:
        place = child.get("staff", staff)
        if child.tag in ("note", "chord", "rest", "mRest", "space", "mSpace", "multiRest"):
            yield child, place, tremolo, grace
        else:
            inside = child.tag in ("bTrem", "fTrem")
            yield from _events(child, place, tremolo or inside, grace or child.tag == "graceGrp")


def _inherit(note: Element, chord: Element) -> None:
    for name in ("dur", "dots"):
        if note.get(name) is None and (value := chord.get(name)):
            note.set(name, value)


def _value(name: str) -> Fraction:
    """Whole notes of a duration by MEI's name."""
    if name.isdigit() and int(name):
        return Fraction(1, int(name))
    return {"long": Fraction(4), "breve": Fraction(2)}.get(name, Fraction(1, 4))


def _alteration(note: Element) -> int:
    """Semitones by which a note is altered; Verovio's imports say it of every such note."""
    signs = [sign.get("accid.ges") or sign.get("accid") for sign in (note, *note.findall("accid"))]
    sign = next((sign for sign in signs if sign), "n")
    if sign not in _ALTERATIONS:
        raise EngravingError(f"an accidental that is no whole semitone ({sign})")
    return _ALTERATIONS[sign]


def _nominal(note: Element) -> Fraction:
    dots = int(note.get("dots", 0)) or len(note.findall("dot"))
    return _value(note.get("dur", "8")) * (2 - Fraction(1, 2**dots))
