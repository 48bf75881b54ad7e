"""Layouts in other programs' formats, read back by those programs."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from conftest import make_layout
from music21 import bar, converter, spanner
from music21 import layout as layouts

from sf_plugin.errors import ScoreError
from sf_plugin.score.engraving import XML_ID, new_toolkit
from sf_plugin.score.layout import Layout, PageLayout
from sf_plugin.score.layout_exports import (
    Sheets,
    page_names,
    to_mei,
    to_musicxml,
    to_web_annotations,
)

SIZES = ((1000, 1414), (1000, 1400))


@pytest.fixture(scope="module")
def sheets() -> Sheets:
    """Two pages of two systems of four measures: a repeat with two endings, one label."""
    layout = make_layout(2, repeat_start={2}, repeat_end={7})
    marks: dict[int, dict[str, Any]] = {7: {"volta": "1"}, 8: {"volta": "2"}, 3: {"label": "3a"}}
    pages = []
    for page in layout.pages:
        systems = [
            replace(
                system,
                measures=tuple(replace(m, **marks.get(m.number, {})) for m in system.measures),
            )
            for system in page.systems
        ]
        pages.append(replace(page, systems=tuple(systems)))
    return Sheets("A & B", Layout(tuple(pages)), SIZES, page_names([Path("a b.pdf")], 2))


MEI = "{http://www.music-encoding.org/ns/mei}"


def test_every_mei_measure_points_at_its_zone(sheets: Sheets) -> None:
    root = ElementTree.fromstring(to_mei(sheets))
    by_id = {element.get(XML_ID): element for element in root.iter() if element.get(XML_ID)}
    assert len(by_id) == sum(1 for element in root.iter() if element.get(XML_ID))
    surfaces = root.findall(f".//{MEI}surface")
    edges = [[int(s.get(k, "")) for k in ("ulx", "uly", "lrx", "lry")] for s in surfaces]
    assert edges == [[0, 0, *size] for size in SIZES]
    targets = [s.find(f"{MEI}graphic").get("target") for s in surfaces]  # type: ignore[union-attr]
    assert targets == ["a%20b.pdf#page=1", "a%20b.pdf#page=2"]
    measures = root.findall(f".//{MEI}measure")
    assert [m.get("n") for m in measures][:4] == ["1", "2", "3a", "4"]
    boxes = [
        (page, system, measure)
        for page in sheets.layout.pages
        for system in page.systems
        for measure in system.measures
    ]
    for element, (page, system, measure) in zip(measures, boxes, strict=True):
        zone = by_id[element.get("facs", "")[1:]]
        assert zone.get("type") == "measure"
        width, height = SIZES[page.page - 1]
        found = [int(zone.get(k, "")) for k in ("ulx", "uly", "lrx", "lry")]
        assert found == pytest.approx(
            [measure.left * width, system.top * height, measure.right * width,
             system.bottom * height], abs=0.51,
        )  # fmt: skip
    for name in ("pb", "sb"):
        for element in root.findall(f".//{MEI}{name}"):
            assert element.get("facs", "")[1:] in by_id


def test_verovio_and_music21_read_the_mei(sheets: Sheets) -> None:
    text = to_mei(sheets)
    toolkit = new_toolkit({"breaks": "encoded"})
    assert toolkit.loadData(text)
    assert toolkit.getPageCount() == 2
    engraved = toolkit.getMEI()
    assert len(re.findall("<measure ", engraved)) == 16
    assert len(re.findall('class="system"', toolkit.renderToSVG(1))) == 2
    # music21 loses what stands in endings, and takes only whole numbers as names of measures
    part = converter.parse(to_mei(replace(sheets, layout=make_layout(2))), format="mei").parts[0]
    assert len(part.getElementsByClass("Measure")) == 16


def test_music21_reads_the_musicxml_with_its_breaks(sheets: Sheets) -> None:
    part = converter.parse(to_musicxml(sheets), format="musicxml").parts[0]
    measures = list(part.getElementsByClass("Measure"))
    assert [m.measureNumberWithSuffix() for m in measures][:4] == ["1", "2", "3a", "4"]
    assert len(measures) == 16
    breaks = [bool(m.getElementsByClass(layouts.SystemLayout)) for m in measures]
    assert [i for i, here in enumerate(breaks) if here] == [0, 4, 8, 12]
    pages = [m.getElementsByClass(layouts.PageLayout) for m in measures]
    assert [i for i, here in enumerate(pages) if here] == [0, 8]
    assert measures[0].layoutWidth == pytest.approx(0.2 * 1200, abs=0.01)
    assert isinstance(measures[1].leftBarline, bar.Repeat)
    assert isinstance(measures[6].rightBarline, bar.Repeat)
    endings = list(part.recurse().getElementsByClass(spanner.RepeatBracket))
    assert [(e.number, [m.number for m in e.getSpannedElements()]) for e in endings] == [
        ("1", [7]),
        ("2", [8]),
    ]


def test_verovio_breaks_the_musicxml_as_the_pages_do(sheets: Sheets) -> None:
    toolkit = new_toolkit({"breaks": "encoded"})
    assert toolkit.loadData(to_musicxml(sheets))
    assert toolkit.getPageCount() == 2
    assert len(re.findall('class="system"', toolkit.renderToSVG(2))) == 2


def test_a_layout_without_measures_is_no_musicxml() -> None:
    empty = Sheets("empty", Layout((PageLayout(1),)), SIZES[:1], ("a.pdf",))
    with pytest.raises(ScoreError, match="no measures to write"):
        to_musicxml(empty)
    assert ElementTree.fromstring(to_mei(empty)).findall(f".//{MEI}surface")
    assert json.loads(to_web_annotations(empty))["items"] == []


# the terms of http://www.w3.org/ns/anno.jsonld that are used, and what may stand in them
TERMS: dict[str, set[str]] = {
    "AnnotationPage": {"@context", "id", "type", "label", "items"},
    "Annotation": {"id", "type", "motivation", "body", "target"},
    "TextualBody": {"type", "purpose", "value"},
    "FragmentSelector": {"type", "conformsTo", "value"},
}
MOTIVATIONS = {"identifying", "tagging", "describing", "linking"}


def check(node: dict[str, Any]) -> None:
    assert set(node) <= TERMS[node["type"]], node
    for term in ("purpose", "motivation"):
        assert node.get(term, "tagging") in MOTIVATIONS


def test_web_annotations_keep_the_rules_of_the_model(sheets: Sheets) -> None:
    page = json.loads(to_web_annotations(sheets))
    assert page["@context"] == "http://www.w3.org/ns/anno.jsonld"
    assert page["type"] == "AnnotationPage"
    check(page)
    names = [one["id"] for one in page["items"]]
    assert len(set(names)) == len(names) == 4 + 16
    for one in page["items"]:
        check(one)
        for body in one["body"]:
            check(body)
        assert set(one["target"]) == {"source", "selector"}
        selector = one["target"]["selector"]
        check(selector)
        assert selector["conformsTo"] == "http://www.w3.org/TR/media-frags/"
        found = re.fullmatch(r"xywh=percent:([\d.]+),([\d.]+),([\d.]+),([\d.]+)", selector["value"])
        assert found
        x, y, width, height = map(float, found.groups())
        assert 0 < width <= 100 - x and 0 < height <= 100 - y
    third = next(one for one in page["items"] if one["id"] == "#measure-3")
    assert [body["value"] for body in third["body"]] == ["measure", "3a"]
    assert third["target"]["selector"]["value"] == "xywh=percent:50.000,10.000,20.000,25.000"
    assert third["target"]["source"] == "a%20b.pdf#page=1"


def test_pages_are_named_by_files_or_canvases() -> None:
    images = [Path("in/p 1.png"), Path("p2.png")]
    assert page_names(images, 2) == ("p%201.png", "p2.png")
    assert page_names([Path("s.pdf")], 2) == ("s.pdf#page=1", "s.pdf#page=2")
    base = "https://example.org/iiif/s/canvas/p"
    assert page_names(images, 2, base) == (f"{base}1", f"{base}2")
    assert page_names(images, 2, "urn:s:{page}:c") == ("urn:s:1:c", "urn:s:2:c")
