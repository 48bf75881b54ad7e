"""Symbolic scores engraved with Verovio: page images and their exact layout."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from sf_plugin.errors import ScoreError
from sf_plugin.score.layout import Layout, Measure, PageLayout, System
from sf_plugin.score.model import Pages, Score
from sf_plugin.score.svg import Drawing, Picture, centre_of_glyph, data_folder, local, numbers

VEROVIO_SUFFIXES = (".musicxml", ".xml", ".mxl", ".mei", ".krn", ".kern")
MUSIC21_SUFFIXES = (".abc", ".mid", ".midi", ".capx", ".rntxt", ".musedata")
MAX_TEXT = 200_000_000
"""Bytes of the largest score that is unpacked from an .mxl file."""

_OPTIONS = {
    "pageWidth": 2100,
    "pageHeight": 2970,
    "pageMarginLeft": 100,
    "pageMarginRight": 100,
    "pageMarginTop": 100,
    "pageMarginBottom": 100,
    "staffLineWidth": 0.2,
    "breaks": "auto",
    "footer": "none",
    "header": "auto",
    "xmlIdSeed": 1,
}
_TO_MEI = """
import sys, verovio
verovio.enableLog(verovio.LOG_OFF)
toolkit = verovio.toolkit(False)
toolkit.setResourcePath(sys.argv[1])
if not toolkit.loadData(sys.stdin.buffer.read().decode()):
    sys.exit(1)
sys.stdout.buffer.write(toolkit.getMEI().encode())
"""
"""Reads Humdrum in a process of its own: malformed spines make Verovio abort."""
XML_ID = "{http://www.w3.org/XML/1998/namespace}id"


def load_engraved(paths: Sequence[Path]) -> Score:
    """One symbolic file as A4 pages.

    Raises:
        ScoreError: the file is damaged, empty, or holds several movements.
    """
    if len(paths) > 1:
        raise ScoreError(
            f"{paths[1]}: only one symbolic score can be followed at a time: join the files first"
        )
    path = paths[0]
    if path.stat().st_size == 0:
        raise ScoreError(f"{path}: the file is empty (0 bytes): get it again")
    try:
        if path.suffix.lower() in VEROVIO_SUFFIXES:
            return replace(engrave(read_text(path)), name=path.stem)
        return replace(engrave_stream(parse_with_music21(path)), name=path.stem)
    except ScoreError as error:
        raise ScoreError(f"{path}: {error}") from None


def engrave_stream(stream: Any) -> Score:
    """A music21 stream as A4 pages; `Score.symbols` is the stream.

    Measure n of the layout is the n-th measure of the first part.  A stream
    without measures is put into measures first, and `symbols` is the result.

    Raises:
        ScoreError: it has no notes or several scores.
    """
    from music21 import stream as streams

    if isinstance(stream, streams.Opus):
        raise ScoreError(
            f"holds {len(list(stream.scores))} pieces: save the one to follow as a file of its own"
        )
    if not isinstance(stream, streams.Stream):
        raise ScoreError(f"a {type(stream).__name__} is no music21 stream")
    if not stream.recurse().notes:
        raise ScoreError("has no notes: choose a score with music in it")
    if isinstance(stream, streams.Measure):
        stream = streams.Part([stream])
    elif not measures_of(stream):
        stream = stream.makeNotation()
    score = engrave(to_musicxml(stream))
    assert score.layout is not None
    engraved = sum(len(s.measures) for page in score.layout.pages for s in page.systems)
    if engraved != len(measures_of(stream)):
        raise ScoreError(
            f"{len(measures_of(stream))} measures became {engraved} when engraved: "
            "give all parts the same measures"
        )
    title = stream.metadata.bestTitle if stream.metadata is not None else None
    return replace(score, name=title or "stream", symbols=stream)


def measures_of(stream: Any) -> list[Any]:
    """The music21 measures of the first part; measure n of the layout is number n - 1."""
    part = next(iter(stream.parts), stream) if hasattr(stream, "parts") else stream
    return list(part.getElementsByClass("Measure"))


def engrave(text: str) -> Score:
    """MusicXML, MEI or Humdrum as A4 pages with layout.

    Raises:
        ScoreError: Verovio finds no music in the text, or several movements.
    """
    toolkit = open_toolkit(text)
    facts = facts_of(toolkit.getMEI())
    beats = beats_of(toolkit)
    pictures, pages, number = [], [], 1
    for page in range(1, toolkit.getPageCount() + 1):
        drawing = Drawing(toolkit.renderToSVG(page))
        pictures.append(Picture(drawing))
        systems = []
        for group in drawing.inner.iter():
            if "system" in group.get("class", "").split():
                system = _system(drawing, group, facts, beats, number)
                if system is not None:
                    systems.append(system)
                    number += len(system.measures)
        pages.append(PageLayout(page, tuple(systems)))
    if number == 1:
        raise ScoreError("has no measures: choose a score with music in it")
    return Score(
        name="score",
        pages=Pages(len(pictures), lambda page: pictures[page].render()),
        layout=Layout(tuple(pages)),
    )


@dataclass(frozen=True, slots=True)
class Fact:
    """What MEI says of a measure."""

    label: str | None
    repeat_start: bool
    repeat_end: bool
    volta: str | None


def new_toolkit(options: Mapping[str, Any] | None = None) -> Any:
    """A quiet Verovio toolkit for A4 pages, with other options where given."""
    import verovio

    verovio.enableLog(verovio.LOG_OFF)
    toolkit = verovio.toolkit(False)
    toolkit.setResourcePath(str(data_folder()))
    toolkit.setOptions({**_OPTIONS, **(options or {})})
    return toolkit


def open_toolkit(text: str) -> Any:
    """A toolkit with one movement of music in it.

    Raises:
        ScoreError: the text holds none, several, or no notes.
    """
    toolkit = new_toolkit()
    if not toolkit.loadData(text) or toolkit.getPageCount() == 0:
        raise ScoreError("cannot be engraved: check that a notation program opens it")
    mei = ElementTree.fromstring(toolkit.getMEI())
    movements = sum(local(e) == "mdiv" for e in mei.iter())
    if movements > 1:
        raise ScoreError(
            f"holds {movements} movements: save the one to follow as a file of its own"
        )
    if not any(local(e) == "note" for e in mei.iter()):
        raise ScoreError("has no notes: choose a score with music in it")
    return toolkit


def facts_of(mei: str) -> dict[str, Fact]:
    """Labels, repeats and endings by measure id, in order."""
    facts: dict[str, Fact] = {}
    opens_next = False

    def walk(element: ElementTree.Element, volta: str | None) -> None:
        nonlocal opens_next
        if local(element) == "ending":
            volta = element.get("n") or element.get("label") or volta
        if local(element) == "measure":
            left, right = element.get("left", ""), element.get("right", "")
            facts[element.get(XML_ID, "")] = Fact(
                label=element.get("n"),
                repeat_start=opens_next or left in ("rptstart", "rptboth"),
                repeat_end=right in ("rptend", "rptboth"),
                volta=volta,
            )
            opens_next = right in ("rptstart", "rptboth")
            return
        for child in element:
            walk(child, volta)

    walk(ElementTree.fromstring(mei), None)
    return facts


@dataclass(frozen=True, slots=True)
class Beats:
    """Onsets in quarter notes from the start of the piece."""

    notes: dict[str, float]
    measures: dict[str, tuple[float, float]]
    """Start and end by measure id."""


def beats_of(toolkit: Any) -> Beats:
    """Times by id; grace notes take none."""
    mei = toolkit.getMEI()
    if re.search(r'\bgrace="', mei):
        root = ElementTree.fromstring(mei)
        _drop_grace(root)
        toolkit = new_toolkit()
        toolkit.loadData(mei_text(root))
    notes: dict[str, float] = {}
    starts: list[tuple[str, float]] = []
    end = 0.0
    for entry in toolkit.renderToTimemap({"includeMeasures": True, "includeRests": True}):
        end = max(end, float(entry["qstamp"]))
        if measure := entry.get("measureOn"):
            starts.append((measure, float(entry["qstamp"])))
        for name in (*entry.get("on", ()), *entry.get("restsOn", ())):
            notes.setdefault(name, float(entry["qstamp"]))
    ends = [*(start for _, start in starts[1:]), end]
    return Beats(
        notes, {name: (start, last) for (name, start), last in zip(starts, ends, strict=True)}
    )


def mei_text(root: ElementTree.Element) -> str:
    """The tree as Verovio reads it: one default namespace, no prefixes."""
    for element in root.iter():
        element.tag = local(element)
    root.set("xmlns", "http://www.music-encoding.org/ns/mei")
    return ElementTree.tostring(root, encoding="unicode")


def _drop_grace(element: ElementTree.Element) -> None:
    for child in list(element):
        if child.get("grace") is not None or local(child) == "graceGrp":
            element.remove(child)
        else:
            _drop_grace(child)


def _system(
    drawing: Drawing,
    group: ElementTree.Element,
    facts: dict[str, Fact],
    beats: Beats,
    number: int,
) -> System | None:
    """A system and its measures, numbered from `number`; None where nothing is drawn."""
    measures: list[Measure] = []
    ys: list[float] = []
    for element in group.iter():
        if "measure" not in element.get("class", "").split():
            continue
        xs = []
        for staff in element.iter():
            if "staff" not in staff.get("class", "").split():
                continue
            for line in staff:
                if local(line) == "path":
                    x0, y0, x1, y1 = numbers(line.get("d", ""))[:4]
                    xs += [drawing.x(x0), drawing.x(x1)]
                    ys += [drawing.y(y0), drawing.y(y1)]
        if not xs:
            continue
        name = element.get("id", "")
        fact = facts[name]
        measures.append(
            Measure(
                number=number + len(measures),
                left=min(xs),
                right=max(xs),
                label=fact.label,
                repeat_start=fact.repeat_start,
                repeat_end=fact.repeat_end,
                volta=fact.volta,
                onsets=_onsets(drawing, element, beats, min(xs), max(xs)),
            )
        )
    if not measures:
        return None
    return System(
        top=min(ys),
        bottom=max(ys),
        left=min(m.left for m in measures),
        right=max(m.right for m in measures),
        measures=tuple(measures),
    )


def _onsets(
    drawing: Drawing,
    measure: ElementTree.Element,
    beats: Beats,
    left: float,
    right: float,
) -> tuple[tuple[float, float], ...]:
    """Leftmost note or rest per beat, then the bar line with the measure's length."""
    span = beats.measures.get(measure.get("id", ""))
    if span is None or span[1] <= span[0]:
        return ()
    start, end = span
    found: dict[float, float] = {}
    for element in measure.iter():
        kinds = element.get("class", "").split()
        onset = beats.notes.get(element.get("id", ""))
        if onset is None or not ("note" in kinds or "rest" in kinds):
            continue
        head = next((e for e in element.iter() if local(e) == "use"), None)
        if head is not None and start <= onset < end:
            x = drawing.x(centre_of_glyph(head))
            beat = round(onset - start, 6)
            found[beat] = min(x, found.get(beat, x))
    pairs: list[tuple[float, float]] = []
    for beat, x in sorted(found.items()):
        if not pairs or x > pairs[-1][0]:
            pairs.append((x, beat))
    if not pairs:
        pairs.append((left, 0.0))
    if pairs[-1][0] < right:
        pairs.append((right, round(end - start, 6)))
    return tuple(pairs)


def read_text(path: Path) -> str:
    """MusicXML or MEI (Humdrum becomes MEI), unpacked where packed.

    Raises:
        ScoreError: damaged, cut off or another format.
    """
    data = path.read_bytes()
    if path.suffix.lower() == ".mxl" or data.startswith(b"PK"):
        data = _unpack(data)
    if path.suffix.lower() in (".krn", ".kern"):
        return _humdrum(data)
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise ScoreError(f"damaged or cut off ({error}): export it again") from None
    if local(root) not in ("score-partwise", "mei"):
        raise ScoreError(
            f"<{local(root)}> is neither MusicXML (score-partwise) nor MEI: export it as MusicXML"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return ElementTree.tostring(root, encoding="unicode")


def _humdrum(data: bytes) -> str:
    text = data.decode("utf-8", errors="replace")
    lines = text.split("\n")
    if not any(line.startswith("**") for line in lines):
        raise ScoreError("no Humdrum (**kern) file: check its type")
    if not any(line.startswith("*-") for line in lines):
        raise ScoreError("cut off (its spines do not end with *-): get the file again")
    done = subprocess.run(
        [sys.executable, "-c", _TO_MEI, str(data_folder())],
        input=text.encode(),
        capture_output=True,
    )
    if done.returncode != 0:
        raise ScoreError("its spines cannot be read: check it with a Humdrum tool")
    return done.stdout.decode()


def _unpack(data: bytes) -> bytes:
    """The score inside an .mxl file."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [n for n in archive.namelist() if not n.startswith(("META-INF", "__MACOSX"))]
            if "META-INF/container.xml" in archive.namelist():
                container = ElementTree.fromstring(archive.read("META-INF/container.xml"))
                roots = [e.get("full-path") for e in container.iter() if local(e) == "rootfile"]
                names = [n for n in roots if n] or names
            scores = [n for n in names if n.lower().endswith((".xml", ".musicxml"))]
            if not scores:
                raise ScoreError("holds no score: export it again")
            if archive.getinfo(scores[0]).file_size > MAX_TEXT:
                raise ScoreError("unpacks to more than 200 MB: export it again")
            return archive.read(scores[0])
    except (zipfile.BadZipFile, KeyError, OSError, EOFError, ElementTree.ParseError) as error:
        raise ScoreError(f"damaged or cut off ({error}): export it again") from None


def parse_with_music21(path: Path) -> Any:
    from music21 import converter

    try:
        return converter.parse(path, forceSource=True)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ScoreError(
            f"music21 cannot read it ({reason[:200]}): export it as MusicXML"
        ) from None


def to_musicxml(stream: Any) -> str:
    from music21.musicxml.m21ToXml import GeneralObjectExporter

    try:
        text = GeneralObjectExporter(stream).parse().decode()
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ScoreError(f"music21 cannot write it as MusicXML ({reason[:200]})") from None
    return re.sub(r"<multiple-rest.*?</multiple-rest>", "", text, flags=re.DOTALL)
