"""Pages engraved by Verovio, and where everything stands on them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from sf_plugin.dataset.engraving import PAGE_WIDTH, Engraving, EngravingError
from sf_plugin.dataset.mei_facts import Facts, Measure, read_facts
from sf_plugin.score.pdf import MUPDF_LOCK, mupdf
from sf_plugin.score.svg import Drawing, centre_of_glyph, local, numbers

Element = ElementTree.Element

_GLYPHS = {
    "dbl": "||",
    "dashed": "!",
    "dotted": ";",
    "end": "|.",
    "heavy": ".",
    "rptend": ":|.",
    "rptstart": ".|:",
    "rptboth": ":|.|:",
}
"""LilyPond's names of MEI's bar lines; others are "|"."""

_CLEFS = {
    "E050": ("G", 0, ""),
    "E051": ("G", -2, "_15"),
    "E052": ("G", -1, "_8"),
    "E053": ("G", 1, "^8"),
    "E054": ("G", 2, "^15"),
    "E05C": ("C", 0, ""),
    "E05D": ("C", -1, "_8"),
    "E062": ("F", 0, ""),
    "E063": ("F", -2, "_15"),
    "E064": ("F", -1, "_8"),
    "E065": ("F", 1, "^8"),
    "E066": ("F", 2, "^15"),
}
"""SMuFL's clefs: letter, octaves, LilyPond's ending."""

_CLEF_STEP = {"G": 7 * 4 + 4, "C": 7 * 4, "F": 7 * 3 + 3}
"""Letters above C0 of the line that a clef stands on."""

_CLEF_NAMES = {
    "G1": "french",
    "G2": "treble",
    "C1": "soprano",
    "C2": "mezzosoprano",
    "C3": "alto",
    "C4": "tenor",
    "C5": "baritone",
    "F3": "varbaritone",
    "F4": "bass",
    "F5": "subbass",
}
_WHOLE_TIMES = {"E08A": "4/4", "E08B": "2/2"}
_TIME_DIGITS = {f"E08{digit}": str(digit) for digit in range(10)} | {"E08C": "+"}
_KEY_SIGNS = {"E260": -1, "E262": 1}

PITCHES_CHECKED = 200


class _Lines(NamedTuple):
    """A staff's lines in one measure, in units of the drawing."""

    top: float
    bottom: float
    spaces: int

    @property
    def space(self) -> float:
        return (self.bottom - self.top) / max(self.spaces, 1)


class _Clef(NamedTuple):
    x: float
    y: float
    step: int


def read_truth(
    toolkit: Any, font: str, page_width: int = PAGE_WIDTH, text_font: str = "Times"
) -> Engraving:
    """Render what the toolkit holds and collect its facts.

    Raises:
        EngravingError: no heads, or facts that do not fit together.
    """
    root = ElementTree.fromstring(toolkit.getMEI())
    for element in root.iter():
        element.tag = local(element)
    facts = read_facts(root)
    rows = _Rows(toolkit, facts, font)
    pages = []
    for page in range(toolkit.getPageCount()):
        drawing = Drawing(toolkit.renderToSVG(page + 1))
        pages.append(_render(drawing, page_width, text_font))
        for group in _of_class(drawing.inner, "system"):
            rows.add_system(drawing, group, page)
    rows.check_pitches()
    engraving = Engraving.of_rows(
        pages, rows.notes, rows.systems, rows.staves, rows.bars, facts.voltas, rows.signs
    )
    check(engraving)
    return engraving


def _render(drawing: Drawing, page_width: int, text_font: str) -> NDArray[np.uint8]:
    text = drawing.flat().replace('font-family="Times"', f'font-family="{text_font}"')
    with MUPDF_LOCK:
        page = mupdf().open(stream=text.encode(), filetype="svg")[0]
        zoom = page_width / page.rect.width
        pixels = page.get_pixmap(
            matrix=mupdf().Matrix(zoom, zoom), colorspace=mupdf().csGRAY, alpha=False
        )
        image = np.frombuffer(pixels.samples, np.uint8).reshape(pixels.h, pixels.stride)
        whole = np.full((round(page.rect.height * zoom), page_width), 255, np.uint8)
        height, width = min(pixels.h, len(whole)), min(pixels.w, page_width)
        whole[:height, :width] = image[:height, :width]
        mupdf().TOOLS.store_shrink(100)
    return whole


class _Rows:
    """The tables' rows as they come, system by system."""

    def __init__(self, toolkit: Any, facts: Facts, font: str) -> None:
        self.toolkit, self.facts, self.font = toolkit, facts, font
        self.following = {
            a: b
            for a, b in pairwise(facts.measures)
            if facts.measures[a].score == facts.measures[b].score
        }
        self.notes: list[tuple[Any, ...]] = []
        self.systems: list[tuple[Any, ...]] = []
        self.staves: list[tuple[Any, ...]] = []
        self.bars: list[tuple[Any, ...]] = []
        self.signs: list[tuple[Any, ...]] = []
        self.pitches: list[tuple[str, int]] = []

    def check_pitches(self) -> None:
        """Ask Verovio about some of the heads; it searches the whole document for each."""
        self.toolkit.renderToTimemap()  # without it Verovio tells no pitches
        for name, pitch in self.pitches[:: len(self.pitches) // PITCHES_CHECKED + 1]:
            played = self.toolkit.getMIDIValuesForElement(name).get("pitch")
            if played is not None and (played - pitch) % 12:
                raise EngravingError("a pitch that Verovio plays otherwise")

    def add_system(self, drawing: Drawing, group: Element, page: int) -> None:
        measures = [m for m in _of_class(group, "measure") if m.get("id") in self.facts.measures]
        lines: dict[str, dict[str, _Lines]] = {}
        xs: list[float] = []
        for measure in measures:
            mine = lines[measure.get("id", "")] = {}
            for staff in _of_class(measure, "staff"):
                ys = [numbers(p.get("d", ""))[1] for p in staff if local(p) == "path"]
                if ys:
                    number = self.facts.staves[staff.get("id", "")]
                    mine[number] = _Lines(min(ys), max(ys), len(ys) - 1)
                    xs += _across(staff)
        edges = {n: staff for mine in lines.values() for n, staff in mine.items()}
        if not edges:
            return
        order = sorted(edges, key=lambda n: edges[n].top)
        rows = {number: row for row, number in enumerate(order)}
        system = len(self.systems)
        for number in order:
            top, bottom, _ = edges[number]
            self.staves.append((system, drawing.y(top), drawing.y(bottom)))
        score = self.facts.measures[measures[0].get("id", "")].score
        top, bottom = edges[order[0]].top, max(staff.bottom for staff in edges.values())
        left, right = drawing.x(min(xs)), drawing.x(max(xs))
        self.systems.append(
            (page, score, len(order), drawing.y(top), drawing.y(bottom), left, right)
        )
        clefs: dict[str, list[_Clef]] = {number: [] for number in order}
        for measure in measures:
            self._signs(drawing, measure, lines[measure.get("id", "")], rows, clefs)
        for measure in measures:
            for note in _of_class(measure, "note"):
                self._note(drawing, note, edges, rows, clefs, page)
        self._bars(drawing, measures)

    def _note(
        self,
        drawing: Drawing,
        note: Element,
        lines: dict[str, _Lines],
        rows: dict[str, int],
        clefs: dict[str, list[_Clef]],
        page: int,
    ) -> None:
        head, fact = _head(note), self.facts.heads.get(note.get("id", ""))
        if head is None or fact is None or fact.staff not in rows:
            return
        x, y = centre_of_glyph(head, self.font), numbers(head.get("transform", ""))[1]
        before = [clef for clef in clefs[fact.staff] if clef.x < x]
        if before and before[-1].step:
            steps = (before[-1].y - y) / (lines[fact.staff].space / 2) + before[-1].step
            if abs(steps - fact.written) > 0.3:
                raise EngravingError("a head stands where its pitch does not belong")
        self.pitches.append((note.get("id", ""), fact.pitch - fact.transposition))
        self.notes.append((
            page, len(self.systems) - 1, drawing.x(x), drawing.y(y), fact.score, fact.onset,
            fact.grace, fact.pitch, fact.length, fact.tied, fact.tempo,
            rows[fact.staff], fact.articulation, fact.ornament,
        ))  # fmt: skip

    def _signs(
        self,
        drawing: Drawing,
        measure: Element,
        lines: dict[str, _Lines],
        rows: dict[str, int],
        clefs: dict[str, list[_Clef]],
    ) -> None:
        system = len(self.systems) - 1
        onset_at = self._onsets(measure)
        for staff in _of_class(measure, "staff"):
            number = self.facts.staves[staff.get("id", "")]
            if number not in lines:
                continue
            edges = lines[number]
            middle = drawing.y((edges.top + edges.bottom) / 2)
            for kind, read in (("clef", _clef), ("keySig", _key), ("meterSig", _time)):
                for group in _of_class(staff, kind):
                    uses = [e for e in group.iter() if local(e) == "use"]
                    if not uses:
                        continue
                    centres = [centre_of_glyph(use, self.font) for use in uses]
                    x = (min(centres) + max(centres)) / 2
                    value = read(uses, edges)
                    if kind == "clef":
                        code, y = _code(uses[0]), numbers(uses[0].get("transform", ""))[1]
                        letter, octaves, _ = _CLEFS.get(code, ("", 0, ""))
                        step = _CLEF_STEP[letter] + 7 * octaves if letter else 0
                        clefs[number].append(_Clef(x, y, step))
                        clefs[number].sort()
                    if value:
                        name = {"keySig": "key", "meterSig": "time"}.get(kind, kind)
                        row = rows[number]
                        self.signs.append(
                            (system, row, drawing.x(x), middle, onset_at(x), name, value)
                        )
        for group in measure:
            if mark := self.facts.marks.get(group.get("id", "")):
                place = _place(group, self.font)
                if place is not None:
                    x, y = drawing.x(place[0]), drawing.y(place[1])
                    self.signs.append((system, -1, x, y, mark[1], "mark", mark[0]))

    def _onsets(self, measure: Element) -> Any:
        """When a sign of the measure takes effect, by its place."""
        fact = self.facts.measures[measure.get("id", "")]
        found = []
        for kind in ("note", "rest", "mRest", "multiRest"):
            for group in _of_class(measure, kind):
                onset = self.facts.times.get(group.get("id", ""))
                drawn = next((e for e in group.iter() if local(e) == "use"), None)
                if onset is not None and drawn is not None:
                    found.append((numbers(drawn.get("transform", ""))[0], onset))

        def onset_at(x: float) -> float:
            if not found or x < min(found)[0]:
                return fact.start
            return min((onset for at, onset in found if at > x), default=fact.end)

        return onset_at

    def _bars(self, drawing: Drawing, measures: list[Element]) -> None:
        system = len(self.systems) - 1
        drawn = {m.get("id", ""): _bar_lines(drawing, m) for m in measures}
        for name, (lefts, rights) in drawn.items():
            fact = self.facts.measures[name]
            for x in lefts:
                glyph = _GLYPHS.get(fact.left, "|")
                self.bars.append((system, x, fact.start, fact.number, glyph))
            after = self.following.get(name)
            right, number = fact.right, fact.number + 1
            if after:
                number = self.facts.measures[after].number
            if after in drawn and not drawn[after][0]:
                right = _both(right, self.facts.measures[after])
            for x in rights:
                self.bars.append((system, x, fact.end, number, _GLYPHS.get(right, "|")))


def _both(right: str, after: Measure) -> str:
    """The bar line between two measures of a system."""
    if after.left == "rptstart":
        return "rptboth" if right == "rptend" else "rptstart"
    return right


def _of_class(element: Element, name: str) -> Iterator[Element]:
    """Drawn elements of a class."""
    for child in element:
        if child.get("visibility") == "hidden":
            continue
        if name in child.get("class", "").split():
            yield child
        yield from _of_class(child, name)


def _head(note: Element) -> Element | None:
    for group in _of_class(note, "notehead"):
        return next((e for e in group.iter() if local(e) == "use"), None)
    return None


def _code(use: Element) -> str:
    """The SMuFL code of a drawn glyph."""
    href = next((v for k, v in use.attrib.items() if k.endswith("href")), "")
    return href[1:].partition("-")[0]


def _clef(uses: list[Element], lines: _Lines) -> str:
    letter, _, ending = _CLEFS.get(_code(uses[0]), ("", 0, ""))
    line = round((lines.bottom - numbers(uses[0].get("transform", ""))[1]) / lines.space) + 1
    name = _CLEF_NAMES.get(f"{letter}{line}")
    return name + ending if name else "percussion" if _code(uses[0]) in ("E069", "E06A") else ""


def _key(uses: list[Element], lines: _Lines) -> str:
    return str(sum(_KEY_SIGNS.get(_code(use), 0) for use in uses))


def _time(uses: list[Element], lines: _Lines) -> str:
    """From digits above and below the middle line."""
    codes = [_code(use) for use in uses]
    if whole := next((_WHOLE_TIMES[code] for code in codes if code in _WHOLE_TIMES), None):
        return whole
    middle = (lines.top + lines.bottom) / 2
    above, below = "", ""
    for use in uses:
        if numbers(use.get("transform", ""))[1] < middle:
            above += _TIME_DIGITS.get(_code(use), "")
        else:
            below += _TIME_DIGITS.get(_code(use), "")
    return f"{above}/{below}" if above and below else above or below


def _place(group: Element, font: str) -> tuple[float, float] | None:
    """Where a mark is drawn: the middle of its glyph or the start of its text."""
    for element in group.iter():
        if local(element) == "use":
            return centre_of_glyph(element, font), numbers(element.get("transform", ""))[1]
        if local(element) == "text" and element.get("x"):
            return float(element.get("x", 0)), float(element.get("y", 0))
    return None


def _bar_lines(drawing: Drawing, measure: Element) -> tuple[list[float], list[float]]:
    """Places of the bar lines at a measure's left and at its right."""
    heads = [
        numbers(drawn.get("transform", ""))[0]
        for kind in ("note", "rest", "mRest", "multiRest")
        for group in _of_class(measure, kind)
        for drawn in group.iter()
        if local(drawn) == "use"
    ]
    edges = [x for staff in _of_class(measure, "staff") for x in _across(staff)]
    if not edges:
        return [], []
    first = min(heads or [(min(edges) + max(edges)) / 2])
    sides: tuple[list[float], list[float]] = ([], [])
    for group in measure:
        if "barLine" not in group.get("class", "").split():
            continue
        if xs := [x for line in group for x in _upright(line)]:
            x = (min(xs) + max(xs)) / 2
            sides[x > first].append(drawing.x(x))
    return sides


def _across(staff: Element) -> list[float]:
    """Horizontal ends of a staff's lines."""
    paths = [numbers(e.get("d", "")) for e in staff if local(e) == "path"]
    return [x for path in paths for x in path[:4:2]]


def _upright(element: Element) -> list[float]:
    """The place of an upright line; Verovio draws some ties in bar lines' groups, too."""
    shape = element.get("d", "") if local(element) == "path" else ""
    ends = numbers(shape)
    return [ends[0]] if len(ends) == 4 and "C" not in shape and ends[0] == ends[2] else []


def check(engraving: Engraving) -> None:
    """Whether places agree with times: heads and bar lines come in the order of both.

    Raises:
        EngravingError: they do not.
    """
    notes = engraving.notes[engraving.notes["grace"] == 0]
    for system in range(len(engraving.systems)):
        mine = notes[notes["system"] == system]
        onsets = np.unique(mine["onset"])
        middles = [float(np.median(mine["x"][mine["onset"] == onset])) for onset in onsets]
        if (np.diff(middles) <= 0).any():
            raise EngravingError(f"heads out of order in system {system + 1}")
        bars = engraving.bars[engraving.bars["system"] == system]
        bars = bars[np.argsort(bars["x"], kind="stable")]
        if (np.diff(bars["onset"]) < 0).any():
            raise EngravingError(f"bar lines out of order in system {system + 1}")
        for bar in bars:
            early = mine["onset"] < bar["onset"] - 1e-6
            if (mine["x"][early] > bar["x"]).any() or (mine["x"][~early] < bar["x"]).any():
                raise EngravingError(f"heads beyond their bar lines in system {system + 1}")
    for score in np.unique(engraving.systems["score"]):
        starts = [
            notes["onset"][notes["system"] == system].min()
            for system in np.flatnonzero(engraving.systems["score"] == score)
            if (notes["system"] == system).any()
        ]
        if (np.diff(starts) < 0).any():
            raise EngravingError(f"systems out of order in movement {score + 1}")
