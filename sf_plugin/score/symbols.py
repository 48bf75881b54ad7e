"""A symbolic score beside a scan: its labels, beats and note names for the printed measures."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from sf_plugin.errors import ScoreError
from sf_plugin.score import engraving
from sf_plugin.score.layout import Layout, Measure
from sf_plugin.score.layout_files import numbered
from sf_plugin.score.measure_matching import Match, Needed, Printed, match_measures, system_numbers
from sf_plugin.score.measures import place_at
from sf_plugin.score.model import Score
from sf_plugin.score.svg import local

Floats = NDArray[np.float64]

BAR_SPACE = 1.0
"""Space that a bar line needs, beside a quarter note's."""
LEAD = 0.8
"""Of it, from the bar line to the first note."""
OPENING = 0.063
"""Width of clef and key at a system's start, fraction of the page, where no note tells."""
FIRST_NOTE = 0.015
"""Width between a bar line and the first note, fraction of the page."""
SAME_COLUMN = 0.004
"""Fraction of the page below which two places are one."""
REACH = 0.004
"""Fraction of the page by which an onset stands elsewhere than where it is expected."""

Places = Sequence[tuple[int, float, float]]
"""(page, x, y) of every place where notes begin, as a follower read them."""


@dataclass(frozen=True, slots=True)
class WrittenMeasure:
    """A measure of a symbolic score.

    Attributes:
        label: its number as written.
        length: quarter notes.
        beats: where notes or rests begin, quarter notes from its start.
        notes: beat and id of every note that is no grace note; the id is empty where the
            file gives none.
    """

    label: str | None
    length: float
    beats: tuple[float, ...]
    notes: tuple[tuple[float, str], ...]
    repeat_start: bool = False
    repeat_end: bool = False
    volta: str | None = None

    @property
    def struck(self) -> tuple[float, ...]:
        """Beats at which notes begin."""
        return tuple(sorted({beat for beat, _ in self.notes}))

    @property
    def gaps(self) -> Floats:
        """(beats,) space between each beat and the next or the end: roots of quarter notes."""
        ends = np.append(np.array(self.beats), self.length)
        return np.asarray(np.sqrt(np.maximum(np.diff(ends), 0)))

    @property
    def space(self) -> float:
        """Width it needs, with its bar line, in those of a quarter note."""
        return BAR_SPACE + float(self.gaps.sum())


# reading


def read_symbols(source: Path | Any) -> tuple[WrittenMeasure, ...]:
    """The measures of a file that Verovio or music21 reads, or of a music21 stream.

    Notes of MusicXML without ids are called `P1-m12-n3`: the third note of the twelfth
    measure of part P1.

    Raises:
        ScoreError: damaged, without notes, or several movements.
    """
    try:
        text = with_note_ids(_text(source))
        toolkit = engraving.open_toolkit(text)
    except ScoreError as error:
        raise ScoreError(f"{source}: {error}") from None
    mei = toolkit.getMEI()
    facts, beats = engraving.facts_of(mei), engraving.beats_of(toolkit)
    known = set(re.findall(r'\bid="([^"]+)"', text))
    measures = []
    for element in ElementTree.fromstring(mei).iter():
        if local(element) != "measure":
            continue
        name = element.get(engraving.XML_ID, "")
        start, end = beats.measures.get(name, (0.0, 0.0))
        placed: list[tuple[float, str]] = []
        rests: set[float] = set()
        for sign in element.iter():
            called = sign.get(engraving.XML_ID, "")
            onset = beats.notes.get(called)
            if onset is None or not start <= onset < end:
                continue
            beat = round(onset - start, 6)
            if local(sign) == "note":
                placed.append((beat, called if called in known else ""))
            else:
                rests.add(beat)
        fact = facts[name]
        measures.append(
            WrittenMeasure(
                fact.label,
                round(end - start, 6),
                tuple(sorted(rests | {beat for beat, _ in placed})),
                tuple(sorted(placed)),
                fact.repeat_start,
                fact.repeat_end,
                fact.volta,
            )
        )
    return tuple(measures)


def _text(source: Path | Any) -> str:
    if not isinstance(source, Path):
        return engraving.to_musicxml(source)
    if not source.is_file():
        raise ScoreError("there is no such file: check the name")
    suffix = source.suffix.lower()
    if suffix in engraving.VEROVIO_SUFFIXES:
        text = engraving.read_text(source)
        return re.sub(r"<multiple-rest.*?</multiple-rest>", "", text, flags=re.DOTALL)
    if suffix in engraving.MUSIC21_SUFFIXES:
        return engraving.to_musicxml(engraving.parse_with_music21(source))
    known = ", ".join((*engraving.VEROVIO_SUFFIXES, *engraving.MUSIC21_SUFFIXES))
    raise ScoreError(f"'{source.suffix}' is no symbolic score: give a file of {known}")


def with_note_ids(text: str) -> str:
    """MusicXML with an id on every note; other text as it is."""
    if "<score-partwise" not in text:
        return text
    root = ElementTree.fromstring(text)
    for part in root.iter("part"):
        for n, measure in enumerate(part.iter("measure"), 1):
            for i, note in enumerate(measure.iter("note"), 1):
                note.attrib.setdefault("id", f"{part.get('id', 'P')}-m{n}-n{i}")
    return ElementTree.tostring(root, encoding="unicode")


# naming


def named(layout: Layout, score: Score, places: Places = ()) -> Layout:
    """A score's layout with the names of the symbolic score beside it, where it needs them."""
    has_names = any(m.onsets for page in layout.pages for s in page.systems for m in s.measures)
    return layout if has_names else name_measures(layout, score.written, places)


def without_names(layout: Layout) -> Layout:
    """Boxes only."""
    pages = [
        replace(
            page,
            systems=tuple(
                replace(
                    system,
                    measures=tuple(
                        replace(m, label=None, onsets=(), notes=()) for m in system.measures
                    ),
                )
                for system in page.systems
            ),
        )
        for page in layout.pages
    ]
    return Layout(tuple(pages))


@dataclass(frozen=True)
class _Box:
    """A printed measure: its page and system, from 0, and whether it opens the system."""

    page: int
    system: int
    opens: bool
    measure: Measure
    xs: Floats = field(default_factory=lambda: np.zeros(0))
    """Places in it where notes begin."""

    @property
    def music(self) -> float:
        """Width of what is written in it, without clef and key."""
        width = self.measure.right - self.measure.left
        if not self.opens:
            return width
        if len(self.xs):
            return min(self.measure.right - float(self.xs[0]) + FIRST_NOTE, width)
        return max(width - OPENING, width / 4)


def name_measures(layout: Layout, written: Sequence[WrittenMeasure], places: Places = ()) -> Layout:
    """The layout with the labels, repeats, beats and notes of a symbolic score.

    A box that holds several written measures is parted, boxes of one are joined, and
    what is no measure of the symbolic score stays as it is.  Measures are numbered anew.
    """
    boxes = _boxes(layout, places)
    if not boxes or not written:
        return layout
    printed = Printed(
        np.array([box.music for box in boxes]),
        system_numbers([(box.page, box.system) for box in boxes]),
        np.array([not box.opens or len(box.xs) > 0 for box in boxes]),
        np.array([len(box.xs) if len(places) else np.nan for box in boxes], float),
    )
    needed = Needed(
        np.array([measure.space for measure in written]),
        np.array([len(measure.struck) for measure in written], float),
        np.array([not measure.notes for measure in written]),
    )
    named: dict[tuple[int, int], list[Measure]] = {}
    for match in match_measures(printed, needed):
        mine = [boxes[i] for i in match.printed]
        for box, measure in _named(mine, [written[i] for i in match.written], match):
            named.setdefault((box.page, box.system), []).append(measure)
    pages = [
        replace(
            page,
            systems=tuple(
                replace(system, measures=tuple(named.get((p, s), ())))
                for s, system in enumerate(page.systems)
            ),
        )
        for p, page in enumerate(layout.pages)
    ]
    return numbered(Layout(tuple(pages)), boxes[0].measure.number)


def _boxes(layout: Layout, places: Places) -> list[_Box]:
    by_page = {page.page: page for page in layout.pages}
    inside: dict[tuple[int, int], list[float]] = {}
    for page, x, y in places:
        place = place_at(by_page.get(page), x, y)
        if place is not None:
            inside.setdefault((page, place.system), []).append(x)
    boxes = []
    for p, sheet in enumerate(layout.pages):
        for s, system in enumerate(sheet.systems):
            xs = np.sort(np.array(inside.get((sheet.page, s + 1), [])))
            for m, measure in enumerate(system.measures):
                mine = _apart(xs[(xs >= measure.left) & (xs < measure.right)])
                boxes.append(_Box(p, s, m == 0, measure, mine))
    return boxes


def _apart(xs: Floats) -> Floats:
    """Rising places, of those in one column the first."""
    return xs[np.diff(xs, prepend=-1.0) > SAME_COLUMN]


def _named(
    boxes: Sequence[_Box], written: Sequence[WrittenMeasure], match: Match
) -> Iterable[tuple[_Box, Measure]]:
    if not boxes or not written:
        return [(box, box.measure) for box in boxes]
    if len(boxes) == 1:
        silent = len(written) > 1 and not any(measure.notes for measure in written)
        measures = [_joined(written)] if silent else written
        return [(boxes[0], measure) for measure in _parted(boxes[0], measures)]
    return _spread(boxes, written[0])


def _joined(written: Sequence[WrittenMeasure]) -> WrittenMeasure:
    """Silent measures printed as one."""
    return replace(
        written[0],
        length=sum(measure.length for measure in written),
        repeat_end=written[-1].repeat_end,
    )


def _parted(box: _Box, written: Sequence[WrittenMeasure]) -> list[Measure]:
    """One box as the written measures in it."""
    spaces = np.array([measure.space for measure in written])
    bars = np.append(0.0, np.cumsum(spaces))
    at = [
        start + LEAD * BAR_SPACE + np.append(0.0, np.cumsum(measure.gaps)[:-1])
        for start, measure in zip(bars, written, strict=False)
        if measure.beats
    ]
    struck = [
        np.isin(np.round(measure.beats, 6), np.round(measure.struck, 6))
        for measure in written
        if measure.beats
    ]
    sounding = np.concatenate(at)[np.concatenate(struck)] if at else np.zeros(0)
    places = _Places(box, bars[-1], sounding)
    edges = places(bars)
    edges[0], edges[-1] = box.measure.left, box.measure.right
    measures = []
    rest = iter(at)
    for (left, right), measure in zip(pairwise(edges.tolist()), written, strict=True):
        xs = places(next(rest)).tolist() if measure.beats else []
        onsets = _rising(left, right, [*zip(xs, measure.beats, strict=True)], measure.length)
        measures.append(_measure(box.measure, left, right, measure, onsets))
    return measures


class _Places:
    """From space inside a box to x, through the places where notes were seen to begin.

    Args:
        box: the box.
        space: that of all measures in it.
        sounding: where notes begin, in space.
    """

    def __init__(self, box: _Box, space: float, sounding: Floats) -> None:
        left, right, xs = box.measure.left, box.measure.right, box.xs
        start = right - box.music
        if box.opens and len(xs) and len(sounding):
            unit = (right - float(xs[0])) / (space - float(sounding[0]))
            start = max(float(xs[0]) - unit * float(sounding[0]), left)
        self._start, self._unit = start, (right - start) / space
        expected = self._plain(sounding)
        pairs = match_places(expected, xs)
        self._from = np.array([start, *(expected[i] for i, _ in pairs), right])
        self._to = np.array([start, *(xs[j] for _, j in pairs), right])

    def _plain(self, space: Floats) -> Floats:
        return self._start + self._unit * space

    def __call__(self, space: Floats) -> Floats:
        return np.interp(self._plain(space), self._from, self._to)


def match_places(expected: Floats, seen: Floats) -> list[tuple[int, int]]:
    """Pairs in order that bring most of two rising rows of places together.

    As many of both belong together, wherever they stand.
    """
    n, m = len(expected), len(seen)
    if n == m:
        return [(i, i) for i in range(n)]
    cost = np.zeros((n + 1, m + 1))
    cost[:, 0], cost[0] = np.arange(n + 1), np.arange(m + 1)
    away = ((expected[:, None] - seen[None]) / REACH) ** 2
    for i in range(n):
        for j in range(m):
            skip = min(cost[i, j + 1], cost[i + 1, j]) + 1
            cost[i + 1, j + 1] = min(cost[i, j] + away[i, j], skip)
    pairs = []
    i, j = n, m
    while i and j:
        if cost[i, j] == cost[i - 1, j - 1] + away[i - 1, j - 1]:
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif cost[i, j] == cost[i - 1, j] + 1:
            i -= 1
        else:
            j -= 1
    return pairs[::-1]


def _rising(
    left: float, right: float, pairs: Sequence[tuple[float, float]], length: float
) -> tuple[tuple[float, float], ...]:
    """`Measure.onsets`: of two at one place the first, then the bar line."""
    kept: list[tuple[float, float]] = []
    for x, beat in pairs:
        x = round(min(max(x, left), right), 5)
        if x < round(right, 5) and (not kept or x > kept[-1][0]):
            kept.append((x, beat))
    if length <= (kept[-1][1] if kept else 0.0):
        return ()
    kept = kept or [(round(left, 5), 0.0)]
    return (*kept, (round(right, 5), length))


def _spread(boxes: Sequence[_Box], written: WrittenMeasure) -> Iterable[tuple[_Box, Measure]]:
    """Several boxes as one written measure: joined on a system, parted at a line's end."""
    lines: list[_Box] = []
    for box in boxes:
        before = lines[-1] if lines else None
        if before is None or (before.page, before.system) != (box.page, box.system):
            lines.append(box)
            continue
        joined = replace(before.measure, right=box.measure.right)
        lines[-1] = replace(before, measure=joined, xs=np.append(before.xs, box.xs))
    share = np.cumsum([line.music for line in lines]) / sum(line.music for line in lines)
    gone = np.append(0.0, np.cumsum(written.gaps)) / max(float(written.gaps.sum()), 1e-9)
    ends = [bisect_right(gone.tolist(), float(part) + 1e-9) - 1 for part in share[:-1]]
    ends.append(len(written.beats))
    first = 0
    for line, end in zip(lines, ends, strict=True):
        beats = written.beats[first:end]
        until = written.beats[end] if end < len(written.beats) else written.length
        start = beats[0] if beats else until
        part = replace(
            written,
            length=until - start,
            beats=tuple(beat - start for beat in beats),
            notes=tuple((beat - start, name) for beat, name in written.notes if beat in beats),
            repeat_start=written.repeat_start and first == 0,
            repeat_end=written.repeat_end and end == len(written.beats),
        )
        (measure,) = _parted(line, [part])
        onsets = tuple((x, round(beat + start, 6)) for x, beat in measure.onsets)
        notes = tuple((round(beat + start, 6), name) for beat, name in measure.notes)
        yield line, replace(measure, onsets=onsets, notes=notes)
        first = end


def _measure(
    found: Measure,
    left: float,
    right: float,
    written: WrittenMeasure,
    onsets: tuple[tuple[float, float], ...],
) -> Measure:
    return replace(
        found,
        left=left,
        right=right,
        label=written.label,
        repeat_start=written.repeat_start,
        repeat_end=written.repeat_end,
        volta=written.volta,
        onsets=onsets,
        notes=tuple((beat, name) for beat, name in written.notes if name),
    )
