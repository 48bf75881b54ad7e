"""Layouts in the formats of other programs: MEI, MusicXML, Web Annotations."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from sf_plugin.errors import ScoreError
from sf_plugin.score.layout import Layout, Measure, System

MEI = "http://www.music-encoding.org/ns/mei"
XML_ID = "xml:id"
PAGE_TENTHS = 1200
"""Width of the page in MusicXML's tenths: 40 make the height of a staff of 7 mm on A4."""


@dataclass(frozen=True)
class Sheets:
    """What an export is made of.

    Attributes:
        name: of the score.
        layout: its systems and measures.
        sizes: width and height of every page in the pixels that are written, where the
            format needs them.
        sources: what every page is called: a file, a part of one, or a IIIF canvas.
    """

    name: str
    layout: Layout
    sizes: tuple[tuple[int, int], ...]
    sources: tuple[str, ...]


@dataclass(frozen=True)
class LayoutFormat:
    """A way to write a layout down."""

    suffix: str
    write: Callable[[Sheets], str]
    help: str
    in_pixels: bool = False
    """Whether it needs the sizes of the pages."""


def page_names(paths: Sequence[Path], pages: int, base: str | None = None) -> tuple[str, ...]:
    """An IRI for every page.

    Args:
        paths: the files of the score.
        pages: how many they make.
        base: of IIIF canvases: `{page}` in it is the number; without one it comes last.
    """
    numbers = range(1, pages + 1)
    if base is not None:
        pattern = base if "{page}" in base else base + "{page}"
        return tuple(pattern.replace("{page}", str(n)) for n in numbers)
    if len(paths) == pages:
        return tuple(quote(path.name) for path in paths)
    return tuple(f"{quote(paths[0].name)}#page={n}" for n in numbers)


def to_json(sheets: Sheets) -> str:
    return sheets.layout.to_json() + "\n"


def to_mei(sheets: Sheets) -> str:
    """MEI: a surface a page, zones in its pixels, and a skeleton whose measures point at them."""
    root = Element("mei", {"xmlns": MEI, "meiversion": "5.0"})
    description = SubElement(SubElement(root, "meiHead"), "fileDesc")
    SubElement(SubElement(description, "titleStmt"), "title").text = sheets.name
    SubElement(description, "pubStmt")
    music = SubElement(root, "music")
    facsimile = SubElement(music, "facsimile")
    score = SubElement(SubElement(SubElement(music, "body"), "mdiv"), "score")
    staves = SubElement(SubElement(score, "scoreDef"), "staffGrp")
    SubElement(staves, "staffDef", {"n": "1", "lines": "5", "clef.shape": "G", "clef.line": "2"})
    section = SubElement(score, "section")
    for page, size, source in zip(sheets.layout.pages, sheets.sizes, sheets.sources, strict=True):
        name = f"page-{page.page}"
        width, height = size
        edges = {"ulx": "0", "uly": "0", "lrx": str(width), "lry": str(height)}
        surface = SubElement(facsimile, "surface", {XML_ID: name, "n": str(page.page), **edges})
        pixels = {"width": f"{width}px", "height": f"{height}px"}
        SubElement(surface, "graphic", {"target": source, **pixels})
        SubElement(section, "pb", {"n": str(page.page), "facs": f"#{name}"})
        for index, system in enumerate(page.systems, 1):
            zone = f"system-{page.page}-{index}"
            box = _pixels(system, system, size)
            SubElement(surface, "zone", {XML_ID: zone, "type": "system", **box})
            SubElement(section, "sb", {"facs": f"#{zone}"})
            ending = None
            for measure in system.measures:
                ending = _mei_measure(section, ending, measure)
                box = _pixels(system, measure, size)
                zone = f"zone-{measure.number}"
                SubElement(surface, "zone", {XML_ID: zone, "type": "measure", **box})
    return _text(root)


def _mei_measure(section: Element, ending: Element | None, measure: Measure) -> Element | None:
    """Writes a measure; returns the ending it stands in."""
    if measure.volta is None:
        ending = None
    elif ending is None or ending.get("n") != measure.volta:
        ending = SubElement(section, "ending", {"n": measure.volta})
    marks = {"left": "rptstart"} if measure.repeat_start else {}
    marks |= {"right": "rptend"} if measure.repeat_end else {}
    number = str(measure.number)
    names = {XML_ID: f"measure-{number}", "n": measure.label or number, "facs": f"#zone-{number}"}
    written = SubElement(section if ending is None else ending, "measure", names | marks)
    layer = SubElement(SubElement(written, "staff", {"n": "1"}), "layer", {"n": "1"})
    SubElement(layer, "mSpace")
    return ending


def to_musicxml(sheets: Sheets) -> str:
    """MusicXML: empty measures with their numbers, widths and breaks as on the pages."""
    root = Element("score-partwise", {"version": "4.0"})
    SubElement(SubElement(root, "work"), "work-title").text = sheets.name
    _defaults(root, sheets.sizes[0])
    part = SubElement(SubElement(root, "part-list"), "score-part", {"id": "P1"})
    SubElement(part, "part-name")
    part = SubElement(root, "part", {"id": "P1"})
    ends = _ending_marks(sheets.layout)
    for page, (width, height) in zip(sheets.layout.pages, sheets.sizes, strict=True):
        tall = PAGE_TENTHS * height / width
        above = 0.0
        for index, system in enumerate(page.systems):
            written = [_measure(part, measure, ends[measure.number]) for measure in system.measures]
            if written:
                distance = tall * (system.top - above)
                name = "top-system-distance" if index == 0 else "system-distance"
                _print(written[0], page.page, index == 0, system, (name, distance))
            above = system.bottom
    if len(part) == 0:
        raise ScoreError(f"{sheets.name}: there are no measures to write: choose another format")
    _attributes(part[0])
    return _text(
        root,
        '<!DOCTYPE score-partwise PUBLIC "-//Recordare//DTD MusicXML 4.0 Partwise//EN" '
        '"http://www.musicxml.org/dtds/partwise.dtd">\n',
    )


def _defaults(root: Element, size: tuple[int, int]) -> None:
    defaults = SubElement(root, "defaults")
    scaling = SubElement(defaults, "scaling")
    _values(scaling, millimeters="210", tenths=str(PAGE_TENTHS))
    page = SubElement(defaults, "page-layout")
    height = PAGE_TENTHS * size[1] / size[0]
    _values(page, **{"page-height": _tenths(height), "page-width": str(PAGE_TENTHS)})
    sides = ("left-margin", "right-margin", "top-margin", "bottom-margin")
    _values(SubElement(page, "page-margins", {"type": "both"}), **dict.fromkeys(sides, "0"))


def _print(
    measure: Element, page: int, opens: bool, system: System, distance: tuple[str, float]
) -> None:
    """The break before a measure, and where its system stands, as the measure's first child."""
    first = {"new-page": "yes", "page-number": str(page)} if opens else {"new-system": "yes"}
    breaks = Element("print", first)
    measure.insert(0, breaks)
    placed = SubElement(breaks, "system-layout")
    left, right = PAGE_TENTHS * system.left, PAGE_TENTHS * (1 - system.right)
    margins = {"left-margin": _tenths(left), "right-margin": _tenths(right)}
    _values(SubElement(placed, "system-margins"), **margins)
    _values(placed, **{distance[0]: _tenths(distance[1])})


def _attributes(measure: Element) -> None:
    """A clef and no metre, after the break of the first measure."""
    attributes = Element("attributes")
    measure.insert(1, attributes)
    _values(attributes, divisions="1")
    _values(SubElement(attributes, "time", {"print-object": "no"}), beats="4", **{"beat-type": "4"})
    _values(SubElement(attributes, "clef"), sign="G", line="2")


def _ending_marks(layout: Layout) -> dict[int, tuple[bool, bool]]:
    """Whether an ending begins and stops with each measure, by number."""
    measures = [m for page in layout.pages for system in page.systems for m in system.measures]
    voltas = [None, *(measure.volta for measure in measures), None]
    return {
        measure.number: (measure.volta not in (None, before), measure.volta not in (None, after))
        for before, measure, after in zip(voltas, measures, voltas[2:], strict=False)
    }


def _measure(part: Element, measure: Measure, ending: tuple[bool, bool]) -> Element:
    width = _tenths(PAGE_TENTHS * (measure.right - measure.left))
    number = measure.label or str(measure.number)
    written = SubElement(part, "measure", {"number": number, "width": width})
    begins, stops = (
        (measure.volta, kind) if mark else None
        for mark, kind in zip(ending, ("start", "stop"), strict=True)
    )
    if measure.repeat_start or begins:
        _bar_line(written, "left", "forward" if measure.repeat_start else None, begins)
    rest = SubElement(written, "note")
    SubElement(rest, "rest", {"measure": "yes"})
    _values(rest, duration="4")
    if measure.repeat_end or stops:
        _bar_line(written, "right", "backward" if measure.repeat_end else None, stops)
    return written


def _bar_line(
    measure: Element, location: str, repeat: str | None, ending: tuple[str | None, str] | None
) -> None:
    line = SubElement(measure, "barline", {"location": location})
    if repeat is not None:
        style = {"forward": "heavy-light", "backward": "light-heavy"}[repeat]
        _values(line, **{"bar-style": style})
    if ending is not None:
        passes = ",".join(re.findall(r"\d+", ending[0] or "")) or "1"
        SubElement(line, "ending", {"number": passes, "type": ending[1]})
    if repeat is not None:
        SubElement(line, "repeat", {"direction": repeat})


def _values(parent: Element, **children: str) -> None:
    for name, text in children.items():
        SubElement(parent, name).text = text


def _tenths(value: float) -> str:
    return f"{value:.2f}"


def _pixels(system: System, box: System | Measure, size: tuple[int, int]) -> dict[str, str]:
    """Corners in whole pixels; a box keeps at least one."""
    width, height = size
    left, top = round(box.left * width), round(system.top * height)
    right = max(round(box.right * width), left + 1)
    bottom = max(round(system.bottom * height), top + 1)
    return {"ulx": str(left), "uly": str(top), "lrx": str(right), "lry": str(bottom)}


def _text(root: Element, doctype: str = "") -> str:
    ElementTree.indent(root)
    body = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{doctype}{body}\n'


def to_web_annotations(sheets: Sheets) -> str:
    """W3C Web Annotations: one for every system and measure, places in percent of its page."""
    page = {
        "@context": "http://www.w3.org/ns/anno.jsonld",
        "id": "#layout",
        "type": "AnnotationPage",
        "label": f"systems and measures of {sheets.name}",
        "items": list(_annotations(sheets)),
    }
    return json.dumps(page, indent=1) + "\n"


def _annotations(sheets: Sheets) -> Iterator[dict[str, Any]]:
    for page, source in zip(sheets.layout.pages, sheets.sources, strict=True):
        for index, system in enumerate(page.systems, 1):
            name = f"system-{page.page}-{index}"
            yield _annotation(name, "system", str(index), source, system, system)
            for measure in system.measures:
                text = measure.label or str(measure.number)
                name = f"measure-{measure.number}"
                yield _annotation(name, "measure", text, source, system, measure)


def _annotation(
    name: str, kind: str, text: str, source: str, system: System, box: System | Measure
) -> dict[str, Any]:
    edges = (box.left, system.top, box.right - box.left, system.bottom - system.top)
    percent = ",".join(f"{100 * edge:.3f}" for edge in edges)
    return {
        "id": f"#{name}",
        "type": "Annotation",
        "motivation": "identifying",
        "body": [
            {"type": "TextualBody", "purpose": "tagging", "value": kind},
            {"type": "TextualBody", "purpose": "identifying", "value": text},
        ],
        "target": {
            "source": source,
            "selector": {
                "type": "FragmentSelector",
                "conformsTo": "http://www.w3.org/TR/media-frags/",
                "value": f"xywh=percent:{percent}",
            },
        },
    }


FORMATS = {
    "json": LayoutFormat(".json", to_json, "fractions of the page: what 'follow' reads back"),
    "mei": LayoutFormat(
        ".mei", to_mei, "facsimile zones in pixels, and measures that point at them", True
    ),
    "musicxml": LayoutFormat(
        ".musicxml", to_musicxml, "empty measures with the page's breaks", True
    ),
    "annotations": LayoutFormat(".jsonld", to_web_annotations, "W3C Web Annotations, for IIIF"),
}


def format_of(path: Path) -> LayoutFormat:
    """The format that a file's suffix names.

    Raises:
        ScoreError: none.
    """
    for one in FORMATS.values():
        if path.suffix.lower() == one.suffix:
            return one
    known = ", ".join(one.suffix for one in FORMATS.values())
    raise ScoreError(f"{path}: '{path.suffix}' names no format: end it in {known}, or say --format")
