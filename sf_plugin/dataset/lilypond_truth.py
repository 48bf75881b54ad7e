"""Read the truth out of a PDF that LilyPond engraved with the links of `truth.ily`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pymupdf
from numpy.typing import NDArray

from sf_plugin.dataset.engraving import (
    ARTICULATIONS,
    ORNAMENTS,
    PAGE_WIDTH,
    Engraving,
    EngravingError,
)

SHORTEST_STAFF = 40.0
"""Points; shorter staff lines are an ossia's, a cue's or an example's."""

LOWEST_STAFF = 8.0
"""Points; on lower staves the place of a head says nothing of its pitch."""

MOST_WRONG = 0.03
"""Share of the heads, or of the steps from one onset to the next, that may look wrong."""

_CLEFS = {
    ("clefs.G", -2): "treble",
    ("clefs.GG", -2): "treble",
    ("clefs.tenorG", -2): "treble",
    ("clefs.G", -4): "french",
    ("clefs.F", 2): "bass",
    ("clefs.F", 0): "baritone",
    ("clefs.F", 4): "subbass",
    ("clefs.C", -4): "soprano",
    ("clefs.C", -2): "mezzosoprano",
    ("clefs.C", 0): "alto",
    ("clefs.C", 2): "tenor",
    ("clefs.C", 4): "baritone",
}
_OCTAVES = {-14: "_15", -7: "_8", 7: "^8", 14: "^15"}

_ARTICULATIONS = {
    "staccato": "staccato",
    "staccatissimo": "staccato",
    "portato": "staccato tenuto",
    "tenuto": "tenuto",
    "accent": "accent",
    "marcato": "accent",
    "fermata": "fermata",
    "shortfermata": "fermata",
    "longfermata": "fermata",
    "verylongfermata": "fermata",
    "arpeggio": "arpeggio",
}
_ORNAMENTS = {
    "trill": "trill",
    "mordent": "mordent",
    "downmordent": "mordent",
    "upmordent": "mordent",
    "prallmordent": "mordent",
    "prall": "prall",
    "prallprall": "prall",
    "upprall": "prall",
    "downprall": "prall",
    "lineprall": "prall",
    "prallup": "prall",
    "pralldown": "prall",
    "turn": "turn",
    "reverseturn": "turn",
    "slashturn": "turn",
    "haydnturn": "turn",
    "tremolo": "tremolo",
}

_MARKS = (
    (re.compile(r"\bto[ _]+(the )?coda\b|scripts\.var?coda.*\bto\b"), "to coda"),
    (re.compile(r"\bd\.[ _]*s\.?(?![a-z])|\bdal[ _]+(segno|scripts)"), "dal segno"),
    (re.compile(r"\bd\.[ _]*c\.?(?![a-z])|\bda[ _]+capo\b"), "da capo"),
    (re.compile(r"^[ _]*(al[ _]+)?fine?[ _.]*$"), "fine"),
    (re.compile(r"scripts\.(var)?segno"), "segno"),
    (re.compile(r"scripts\.(var)?coda|^[ _]*coda[ _.]*$"), "coda"),
)

Table = NDArray[np.void]


@dataclass(frozen=True)
class _Link:
    kind: str
    values: list[str]
    box: pymupdf.Rect

    @property
    def x(self) -> float:
        return float(self.box.x0 + self.box.x1) / 2

    @property
    def y(self) -> float:
        return float(self.box.y0 + self.box.y1) / 2


@dataclass(frozen=True)
class _Staff:
    """One printed staff; `names` are LilyPond's, as it may be drawn in several pieces."""

    system: int
    index: int
    top: float  # points, as all places here
    bottom: float
    names: frozenset[int]


@dataclass
class _Rows:
    pages: list[np.ndarray] = field(default_factory=list)
    notes: list[tuple[Any, ...]] = field(default_factory=list)
    systems: list[tuple[Any, ...]] = field(default_factory=list)
    staves: list[tuple[Any, ...]] = field(default_factory=list)
    bars: list[tuple[Any, ...]] = field(default_factory=list)
    voltas: set[tuple[Any, ...]] = field(default_factory=set)
    signs: set[tuple[Any, ...]] = field(default_factory=set)
    scores: dict[int, int] = field(default_factory=dict)  # LilyPond's number to ours
    heads: int = 0  # that stand on a known staff
    misplaced: int = 0  # of these: not where pitch and clef put them


def read_truth(pdf: Path | Sequence[Path], page_width: int = PAGE_WIDTH) -> Engraving:
    """Render a PDF, or several in order, engraved with truth links and collect the facts.

    Pages of different sizes are put at the top left of one that holds them all.

    Raises:
        EngravingError: there are no notes, or the facts contradict each other.
    """
    rows = _Rows()
    with ExitStack() as open_files:
        documents = [
            open_files.enter_context(pymupdf.open(path))
            for path in ([pdf] if isinstance(pdf, Path) else pdf)
        ]
        links = [(page, _upright(page)) for document in documents for page in document]
        links = [(page, facts) for page, facts in links if any(f.kind == "staff" for f in facts)]
        if not links:
            raise EngravingError("no note heads with truth on any page")
        width = max(page.rect.width for page, _ in links)
        height = max(page.rect.height for page, _ in links)
        for page, facts in links:
            _read_page(page, facts, rows, width, height, page_width)
    engraving = Engraving.of_rows(
        rows.pages,
        rows.notes,
        rows.systems,
        rows.staves,
        rows.bars,
        sorted(rows.voltas),
        sorted(rows.signs),
    )
    if rows.misplaced > MOST_WRONG * max(rows.heads, 1):
        raise EngravingError(
            f"does not join: {rows.misplaced} of {rows.heads} heads are not where their "
            "pitch and clef put them"
        )
    check(engraving)
    return engraving


def check(engraving: Engraving) -> None:
    """See that places and times agree.

    Raises:
        EngravingError: something lies outside its page, or x does not rise with the
            onsets of notes or bar lines.
    """
    notes, bars = engraving.notes, engraving.bars
    if any(((notes[axis] < 0) | (notes[axis] > 1)).any() for axis in ("x", "y")):
        raise EngravingError("does not join: a note lies outside its page")
    steps = wrong = 0
    for system in range(len(engraving.systems)):
        x = _first_x(notes[(notes["system"] == system) & (notes["grace"] == 0)])
        steps += max(len(x) - 1, 0)
        wrong += int((np.diff(x) <= 0).sum())
    if wrong > MOST_WRONG * max(steps, 1):
        raise EngravingError(f"does not join: {wrong} of {steps} onsets run backwards on the page")
    steps = wrong = 0
    for system in range(len(engraving.systems)):
        mine = bars[bars["system"] == system]
        onsets = mine["onset"][np.argsort(mine["x"], kind="stable")]
        steps += max(len(onsets) - 1, 0)
        wrong += int((np.diff(onsets) < 0).sum())
    if wrong > MOST_WRONG * max(steps, 1):
        raise EngravingError(f"does not join: {wrong} of {steps} bar lines run backwards")
    starts = [
        (int(system["score"]), float(notes["onset"][notes["system"] == index].min()))
        for index, system in enumerate(engraving.systems)
        if (notes["system"] == index).any()
    ]
    if starts != sorted(starts):
        raise EngravingError("does not join: a later system begins earlier in the music")


def _first_x(notes: Table) -> NDArray[np.float32]:
    """Of each onset in order of time, the middle of its heads, in widths of the page."""
    onsets, group = np.unique(notes["onset"], return_inverse=True)
    return np.array([np.median(notes["x"][group == i]) for i in range(len(onsets))], np.float32)


def _upright(page: pymupdf.Page) -> list[_Link]:
    """The page's facts; a landscape page that LilyPond drew sideways is turned first."""
    facts = list(_links(page))
    boxes = [fact.box for fact in facts if fact.kind == "staff"]
    if sum(box.height for box in boxes) > sum(box.width for box in boxes):
        page.set_rotation(90)
        facts = list(_links(page))
    return facts


def _links(page: pymupdf.Page) -> Iterator[_Link]:
    for link in page.get_links():
        uri = link.get("uri") or link.get("file") or ""
        if uri.startswith("sf://"):
            kind, _, values = uri[5:].partition("/")
            box = pymupdf.Rect(link["from"])
            yield _Link(kind, values.split(";"), box * page.rotation_matrix)


def _read_page(
    page: pymupdf.Page,
    facts: list[_Link],
    rows: _Rows,
    width: float,
    height: float,
    page_width: int,
) -> None:
    number = len(rows.pages)
    staves = _staves(facts, rows, number, width, height)
    if not staves:
        return
    rows.pages.append(_image(page, width, height, page_width))
    for fact in facts:
        x, y = fact.x / width, fact.y / height
        score = rows.scores.get(int(fact.values[0]))
        if score is None or (
            fact.kind in ("note", "bar", "sign")
            and score != rows.systems[_nearest(staves, fact.y, int(fact.values[1])).system][1]
        ):
            continue  # of a small example within the text
        if fact.kind in ("bar", "sign") and not (0 <= x <= 1 and 0 <= y <= 1):
            continue  # of a line that runs off the page
        if fact.kind == "note":
            _, name, onset, grace, pitch, length, tied, tempo, position, marks = fact.values
            staff = _nearest(staves, fact.y, int(name))
            known = int(name) in staff.names
            articulation, ornament = _scripts(marks)
            rows.heads += known
            rows.misplaced += known and not _agrees(fact, staff, float(position))
            rows.notes.append(
                (
                    number,
                    staff.system,
                    x,
                    y,
                    score,
                    float(Fraction(onset)),
                    float(Fraction(grace)),
                    round(float(pitch)) + 60,
                    float(Fraction(length)),
                    tied == "1",
                    float(Fraction(tempo)),
                    staff.index if known else -1,
                    articulation,
                    ornament,
                )
            )
        elif fact.kind == "bar":
            _, name, onset, measure, *rest = fact.values
            if glyph := ";".join(rest):
                system = _nearest(staves, fact.y, int(name)).system
                rows.bars.append((system, x, float(Fraction(onset)), int(measure), glyph))
        elif fact.kind == "volta":
            _, begin, end, text = fact.values
            passes = _passes(text)
            if passes and Fraction(end) > Fraction(begin):
                rows.voltas.add((score, float(Fraction(begin)), float(Fraction(end)), passes))
        elif fact.kind == "sign":
            _, name, onset, kind, raw = fact.values
            value = _value(kind, raw)
            if value:
                staff = _nearest(staves, fact.y, int(name))
                known = kind != "mark" and int(name) in staff.names
                index = staff.index if known else -1
                rows.signs.add((staff.system, index, x, y, float(Fraction(onset)), kind, value))


def _image(page: pymupdf.Page, width: float, height: float, page_width: int) -> np.ndarray:
    scale = page_width / width
    pixels = page.get_pixmap(
        matrix=pymupdf.Matrix(scale, scale), colorspace=pymupdf.csGRAY, annots=False
    )
    image = np.frombuffer(pixels.samples, np.uint8).reshape(pixels.h, pixels.stride)
    image = image[: round(height * scale), : pixels.w]
    if page.rect.width == width and page.rect.height == height:
        return image
    whole = np.full((round(height * scale), page_width), 255, np.uint8)
    part = image[: whole.shape[0], : whole.shape[1]]
    whole[: part.shape[0], : part.shape[1]] = part
    return whole


def _staves(
    facts: list[_Link], rows: _Rows, page: int, width: float, height: float
) -> list[_Staff]:
    """The staves of a page from top to bottom; adds its systems and staves to `rows`."""
    systems: dict[tuple[str, str], list[tuple[pymupdf.Rect, int]]] = {}
    for fact in facts:
        if fact.kind == "staff" and fact.values[0] != "0":
            score, system, name = fact.values
            systems.setdefault((score, system), []).append((fact.box, int(name)))
    found: list[_Staff] = []
    merged = [(score, _merge(pieces)) for (score, _), pieces in systems.items()]
    merged = [(score, staves) for score, staves in merged if staves]
    for score, staves in sorted(merged, key=lambda item: item[1][0][0].y0):
        index = len(rows.systems)
        for at, (box, names) in enumerate(staves):
            found.append(_Staff(index, at, box.y0, box.y1, frozenset(names)))
            rows.staves.append((index, box.y0 / height, box.y1 / height))
        boxes = [box for box, _ in staves]
        rows.systems.append(
            (
                page,
                rows.scores.setdefault(int(score), len(rows.scores)),
                len(staves),
                boxes[0].y0 / height,
                boxes[-1].y1 / height,
                min(box.x0 for box in boxes) / width,
                min(max(box.x1 for box in boxes) / width, 1.0),
            )
        )
    return found


def _merge(pieces: list[tuple[pymupdf.Rect, int]]) -> list[tuple[pymupdf.Rect, set[int]]]:
    """One box a staff, of pieces that stand at the same height; short ones left out."""
    staves: list[tuple[pymupdf.Rect, set[int]]] = []
    for box, name in sorted(pieces, key=lambda piece: (piece[0].y0, piece[0].x0)):
        if staves and box.y0 < (staves[-1][0].y0 + staves[-1][0].y1) / 2:
            staves[-1] = (staves[-1][0] | box, staves[-1][1] | {name})
        else:
            staves.append((pymupdf.Rect(box), {name}))
    return [staff for staff in staves if staff[0].width > SHORTEST_STAFF]


def _nearest(staves: list[_Staff], y: float, name: int) -> _Staff:
    """The staff of that name or, where it is none of them, any, that is nearest to `y`."""
    mine = [staff for staff in staves if name in staff.names] or staves
    return min(mine, key=lambda staff: max(staff.top - y, y - staff.bottom))


def _agrees(fact: _Link, staff: _Staff, position: float) -> bool:
    """Whether a head stands where pitch and clef put it, `position` half spaces up."""
    if staff.bottom - staff.top < LOWEST_STAFF:
        return True  # a percussion's single line
    step = (staff.bottom - staff.top) / 8
    return abs((staff.top + staff.bottom) / 2 - fact.y - position * step) < 0.75 * step


def _scripts(marks: str) -> tuple[int, int]:
    """(sum of ARTICULATIONS, one of ORNAMENTS) for the names of scripts."""
    names = marks.split(",")
    kinds = {kind for name in names for kind in _ARTICULATIONS.get(name, "").split()}
    ornaments = [ORNAMENTS[_ORNAMENTS[name]] for name in names if name in _ORNAMENTS]
    return sum(ARTICULATIONS[kind] for kind in kinds), min(ornaments, default=0)


def _passes(text: str) -> str:
    """Numbers of a volta bracket, "1" or "1,2", from its text as printed."""
    passes: list[int] = []
    for first, last in re.findall(r"(\d+)[._]*(?:-[._]*(\d+))?", text):
        passes.extend(range(int(first), int(last or first) + 1))
    return ",".join(map(str, sorted(set(passes))))[:8]


def _value(kind: str, raw: str) -> str:
    """A sign's value as SIGN has it; empty for what is none of ours."""
    if kind == "clef":
        glyph, position, transposition = raw.split(",")
        name = _CLEFS.get((glyph.removesuffix("_change"), int(float(position))), "")
        return name + _OCTAVES.get(int(float(transposition)), "") if name else ""
    if kind == "key":
        return str(round(float(Fraction(raw))))
    if kind == "mark":
        text = raw.lower()
        return next((value for pattern, value in _MARKS if pattern.search(text)), "")
    return raw
