"""Engrave free works of music21's corpus with Verovio: other fonts, the same truth.

Bach's chorales become two staves like a piano score and are joined into longer
documents; works for keyboard stay as they are.

    python -m sf_plugin.dataset.engrave_verovio OUT --count 300 --jobs 2 --seed 0
"""

from __future__ import annotations

import argparse
import random
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from fractions import Fraction
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np

from sf_plugin.dataset.engraving import (
    PAGE_WIDTH,
    Engraving,
    EngravingError,
)
from sf_plugin.errors import ScoreError
from sf_plugin.score.engraving import XML_ID, beats_of, mei_text, new_toolkit, read_text
from sf_plugin.score.svg import Drawing, Picture, centre_of_glyph, local, numbers

KEYBOARD = (
    "bach/bwv846.mxl",
    "cpebach/h186.mxl",
    "joplin/maple_leaf_rag.mxl",
    "mozart/k545/movement1_exposition.mxl",
    "schoenberg/opus19/movement2.mxl",
    "schoenberg/opus19/movement6.mxl",
    "schumann_clara/polonaise_op1n1.mxl",
    "schumann_clara/polonaise_op1n2.mxl",
    "schumann_clara/polonaise_op1n3.mxl",
    "schumann_clara/polonaise_op1n4.mxl",
)
FONTS = ("Leipzig", "Bravura", "Leland", "Petaluma", "Gootville")
PUBLISHED = ("bach__bwv269",)
"""Never engraved: in the validation split of MSMD."""

HELD_OUT = 12
"""Every so many pieces in name order one is for validation."""

STAFF_SPACE = 18
"""Distance of staff lines in the units of Verovio's page width."""

_ALTER = {"s": 1, "f": -1, "n": 0, "x": 2, "ss": 2, "ff": -2}
_ACCID = {alter: accid for accid, alter in _ALTER.items() if accid != "ss"}
_GLYPHS = {"dbl": "||", "end": "|.", "rptend": ":|.", "rptstart": ".|:", "rptboth": ":|.|:"}
_SILENT = ("rest", "space")
_NO_TIME = ("mRest", "mSpace", "clef", "keySig", "meterSig", "barLine", "accid", "artic", "dot")
_GROUPS = ("beam", "tuplet", "graceGrp", "bTrem")


def corpus_folder() -> Path:
    """Where music21 keeps its corpus."""
    found = find_spec("music21")
    if found is None or not found.submodule_search_locations:
        raise ScoreError("music21 is not installed: pip install music21")
    return Path(found.submodule_search_locations[0]) / "corpus"


def sources() -> dict[str, Path]:
    """Keyboard works, then four-part chorales in a fixed mixed order, by name."""
    folder = corpus_folder()
    chorales = []
    for path in sorted([*folder.glob("bach/*.mxl"), *folder.glob("bach/*.xml")]):
        if path.name not in ("bwv846.mxl",) and read_text(path).count("<score-part ") == 4:
            chorales.append(path)
    random.Random(0).shuffle(chorales)
    paths = [*(folder / name for name in KEYBOARD), *chorales]
    names = (p.relative_to(folder).with_suffix("") for p in paths)
    return {"__".join(name.parts): path for name, path in zip(names, paths, strict=True)}


def held_out(names: list[str]) -> set[str]:
    """The pieces kept for validation; documents join pieces of one side only."""
    return set(sorted(names)[HELD_OUT - 1 :: HELD_OUT])


def choose_options(rng: random.Random) -> dict[str, Any]:
    """A house style: Verovio's options."""
    width = STAFF_SPACE * PAGE_WIDTH / rng.uniform(5.5, 8.5)
    ratio = rng.choice([297 / 210, 297 / 210, 11 / 8.5])
    return {
        "font": rng.choice(FONTS),
        "pageWidth": round(width),
        "pageHeight": round(width * ratio),
        "pageMarginLeft": round(width * rng.uniform(0.03, 0.09)),
        "pageMarginRight": round(width * rng.uniform(0.03, 0.09)),
        "pageMarginTop": round(width * rng.uniform(0.03, 0.08)),
        "pageMarginBottom": round(width * rng.uniform(0.03, 0.08)),
        "spacingLinear": round(rng.uniform(0.2, 0.34), 3),
        "spacingNonLinear": round(rng.uniform(0.52, 0.66), 3),
        "spacingSystem": rng.randint(4, 14),
        "spacingStaff": rng.randint(8, 14),
        "staffLineWidth": round(rng.uniform(0.14, 0.24), 3),
        "stemWidth": round(rng.uniform(0.16, 0.26), 3),
        "barLineWidth": round(rng.uniform(0.24, 0.4), 3),
        "mnumInterval": rng.choice([0, 0, 1, 1000]),
        "header": rng.choice(["auto", "none"]),
        "justifyVertically": rng.random() < 0.3,
        "condense": "none",
    }


def read_mei(path: Path, semitones: int = 0, ids: int = 1) -> ElementTree.Element:
    """A source as MEI, transposed; `ids` makes its element ids differ from others'."""
    toolkit = new_toolkit({"xmlIdSeed": ids} | ({"transpose": str(semitones)} if semitones else {}))
    if not toolkit.loadData(read_text(path)):
        raise EngravingError("Verovio cannot read it")
    root = ElementTree.fromstring(toolkit.getMEI())
    for element in root.iter():
        element.tag = local(element)
    for parent in root.iter():
        for child in list(parent):
            if child.tag in ("expansion", "pb", "sb"):
                parent.remove(child)
    return root


def two_staves(root: ElementTree.Element, words: bool) -> None:
    """Turn four parts on staves of their own into two voices on each of two staves, in place.

    Raises:
        EngravingError: other than four staves with one voice each.
    """
    definition = next(root.iter("scoreDef"))
    group = definition.find("staffGrp")
    staves = list(definition.iter("staffDef"))
    if group is None or len(staves) != 4:
        raise EngravingError(f"{len(staves)} staves instead of four")
    clefs = [clef for clef in root.iter("clef")]
    if len(clefs) != 4 or any(clef.get("dis") for clef in clefs):
        raise EngravingError("changes of clef")
    for child in list(group):
        group.remove(child)
    group.set("bar.thru", "true")
    ElementTree.SubElement(group, "grpSym", symbol="brace")
    for number, shape, line in (("1", "G", "2"), ("2", "F", "4")):
        staff = staves[2 * int(number) - 2]
        staff.set("n", number)
        for child in list(staff):
            if child.tag in ("label", "labelAbbr", "instrDef", "clef"):
                staff.remove(child)
        staff.insert(0, ElementTree.Element("clef", shape=shape, line=line))
        group.append(staff)
    later = [e for e in root.iter("staffDef") if e not in staves]
    if later:
        raise EngravingError("changes in single staves")
    signature: dict[str, int] = {}
    for element in root.iter():
        if element.tag == "keySig":
            signature = _signature(element.get("sig", "0"))
        elif element.tag == "measure":
            _join_voices(element, signature)
            if not words:
                _drop_words(element)


def _signature(sig: str) -> dict[str, int]:
    """Alterations by letter, from "3s" or "2f"."""
    count = int(sig[:-1] or 0)
    if sig.endswith("f"):
        return dict.fromkeys("beadgcf"[:count], -1)
    return dict.fromkeys("fcgdaeb"[:count], 1) if sig.endswith("s") else {}


def _join_voices(measure: ElementTree.Element, signature: dict[str, int]) -> None:
    staves = {staff.get("n"): staff for staff in measure.findall("staff")}
    if sorted(staves, key=str) != ["1", "2", "3", "4"]:
        raise EngravingError("a measure without all four parts")
    if any(len(staff.findall("layer")) != 1 for staff in staves.values()):
        raise EngravingError("a part with several voices")
    for upper, lower, number in (("1", "2", "1"), ("3", "4", "2")):
        staff, other = staves[upper], staves[lower]
        staff.set("n", number)
        layer = other.findall("layer")[0]
        layer.set("n", "2")
        staff.append(layer)
        measure.remove(other)
        _spell(staff, signature)
    for element in list(measure):
        place = element.get("staff")
        if element.tag == "fermata" and place in ("2", "3"):
            measure.remove(element)
        elif place in ("1", "2", "3", "4"):
            element.set("staff", "1" if place in "12" else "2")
        element.attrib.pop("curvedir", None)


def _spell(staff: ElementTree.Element, signature: dict[str, int]) -> None:
    """Print an accidental wherever the staff's earlier notes or its key ask for one."""
    timed = sorted(
        ((played.onset, played.note) for layer in staff.iter("layer") for played in walk(layer)),
        key=lambda pair: pair[0],
    )
    current: dict[tuple[str, str], int] = {}
    for _, note in timed:
        alter = _alteration(note)
        for child in note.findall("accid"):
            note.remove(child)
        for name in ("accid", "accid.ges", "stem.dir"):
            note.attrib.pop(name, None)
        letter = note.get("pname", "")
        place = (letter, note.get("oct", ""))
        if current.get(place, signature.get(letter, 0)) == alter:
            note.set("accid.ges", _ACCID[alter])
        else:
            note.set("accid", _ACCID[alter])
            current[place] = alter


def _drop_words(element: ElementTree.Element) -> None:
    for child in list(element):
        if child.tag == "verse":
            element.remove(child)
        else:
            _drop_words(child)


def join(first: ElementTree.Element, second: ElementTree.Element) -> None:
    """Append the measures of `second`, with its key and time, to `first`."""
    home, guest = next(first.iter("section")), next(second.iter("section"))
    definition = ElementTree.SubElement(home, "scoreDef")
    staff = next(second.iter("staffDef"))
    definition.extend(child for child in staff if child.tag in ("keySig", "meterSig"))
    home.extend(guest)


class Played(NamedTuple):
    """A note element's time in its measure, in whole notes."""

    note: ElementTree.Element
    onset: Fraction
    grace: Fraction
    length: Fraction


def walk(layer: ElementTree.Element) -> Iterator[Played]:
    """The notes of one voice of one measure.

    Raises:
        EngravingError: something whose time is not understood.
    """
    now = Fraction(0)
    waiting: list[tuple[list[ElementTree.Element], Fraction]] = []

    def graces() -> Iterator[Played]:
        before = Fraction(0)
        for notes, length in reversed(waiting):
            before += length
            yield from (Played(note, now, -before, length) for note in notes)
        waiting.clear()

    def visit(element: ElementTree.Element, ratio: Fraction, grace: bool) -> Iterator[Played]:
        nonlocal now
        for child in element:
            if child.tag in ("note", "chord", *_SILENT):
                notes = [child] if child.tag == "note" else list(child.iter("note"))
                length = _length(child) * ratio
                if grace or child.get("grace"):
                    waiting.append((notes, length))
                    continue
                if notes:
                    yield from graces()
                yield from (Played(note, now, Fraction(0), length) for note in notes)
                now += length
            elif child.tag in _GROUPS:
                inner = ratio
                if child.tag == "tuplet":
                    inner *= Fraction(int(child.get("numbase", 1)), int(child.get("num", 1)))
                yield from visit(child, inner, grace or child.tag == "graceGrp")
            elif child.tag not in _NO_TIME:
                raise EngravingError(f"<{child.tag}> in a voice")

    yield from visit(layer, Fraction(1), False)
    yield from graces()


def _length(element: ElementTree.Element) -> Fraction:
    name = element.get("dur")
    if name is None:
        raise EngravingError(f"a <{element.tag}> without duration")
    value = {"long": Fraction(4), "breve": Fraction(2)}.get(name)
    value = Fraction(1, int(name)) if value is None else value
    dots = int(element.get("dots", 0)) or len(element.findall("dot"))
    return value * (2 - Fraction(1, 2**dots))


def pitch_of(note: ElementTree.Element) -> int:
    """The MIDI number of an MEI note that says its own alteration, as Verovio's imports do."""
    letter = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}[note.get("pname", "")]
    octave = int(note.get("oct.ges", note.get("oct", "")))
    return 12 * (octave + 1) + letter + _alteration(note)


def _alteration(note: ElementTree.Element) -> int:
    signs = [sign.get("accid.ges") or sign.get("accid") for sign in (note, *note.findall("accid"))]
    return _ALTER[next((sign for sign in signs if sign), "n")]


class _Heard(NamedTuple):
    onset: Fraction  # whole notes from the start of the piece
    grace: Fraction
    length: Fraction
    pitch: int


class _Measure(NamedTuple):
    start: Fraction
    end: Fraction
    number: int
    left: str
    right: str


class _Times(NamedTuple):
    notes: dict[str, _Heard]
    measures: dict[str, _Measure]
    ties: set[str]


def _times(toolkit: Any) -> _Times:
    """When everything is played, in printed order; our sums and Verovio's must agree."""
    root = ElementTree.fromstring(toolkit.getMEI())
    for element in root.iter():
        element.tag = local(element)
    for parent in root.iter("measure"):
        for spread in parent.findall("arpeg"):
            parent.remove(spread)
    plain = new_toolkit()
    plain.loadData(mei_text(root))
    beats = beats_of(plain)
    notes: dict[str, _Heard] = {}
    measures: dict[str, _Measure] = {}
    number = 0
    for measure in root.iter("measure"):
        name = measure.get(XML_ID, "")
        if name not in beats.measures:
            raise EngravingError("a measure without time")
        start, end = (Fraction(q / 4).limit_denominator(10080) for q in beats.measures[name])
        label = re.match(r"\d+$", measure.get("n", ""))
        number = int(label.group()) if label else number + 1
        measures[name] = _Measure(
            start, end, number, measure.get("left", ""), measure.get("right", "")
        )
        for layer in measure.iter("layer"):
            for note, onset, grace, length in walk(layer):
                notes[note.get(XML_ID, "")] = _Heard(start + onset, grace, length, pitch_of(note))
    for name, quarters in beats.notes.items():
        heard = notes.get(name)
        if heard and not heard.grace and abs(float(heard.onset) * 4 - quarters) > 0.01:
            raise EngravingError("its voices do not fill their measures")
    ties = {tie.get("endid", "")[1:] for tie in root.iter("tie")}
    return _Times(notes, measures, ties)


def read_truth(toolkit: Any, font: str) -> Engraving:
    """Render what the toolkit holds and collect its facts.

    Raises:
        EngravingError: no heads, or facts that do not fit together.
    """
    times = _times(toolkit)
    pages: list[np.ndarray] = []
    notes: list[tuple[Any, ...]] = []
    systems: list[tuple[Any, ...]] = []
    staves: list[tuple[Any, ...]] = []
    bars: list[tuple[Any, ...]] = []
    for page in range(toolkit.getPageCount()):
        drawing = Drawing(toolkit.renderToSVG(page + 1))
        pages.append(Picture(drawing).render())
        for group in _of_class(drawing.inner, "system"):
            lines: dict[int, list[float]] = {}
            xs: list[float] = []
            inside = [m for m in _of_class(group, "measure") if m.get("id", "") in times.measures]
            for measure in inside:
                for row, staff in enumerate(_of_class(measure, "staff")):
                    xs += [drawing.x(x) for x in _across(staff)]
                    for line in (e for e in staff if local(e) == "path"):
                        y = numbers(line.get("d", ""))[1]
                        lines.setdefault(row, []).append(drawing.y(y))
                for note in _of_class(measure, "note"):
                    head = _head(note)
                    if head is None:
                        continue
                    mark = note.get("id", "")
                    heard = times.notes[mark]
                    pitch = toolkit.getMIDIValuesForElement(mark).get("pitch", heard.pitch)
                    if pitch != heard.pitch:
                        raise EngravingError("a pitch that Verovio plays otherwise")
                    x, y = centre_of_glyph(head, font), numbers(head.get("transform", ""))[1]
                    notes.append((
                        page, len(systems), drawing.x(x), drawing.y(y), 0, float(heard.onset),
                        float(heard.grace), pitch, float(heard.length), mark in times.ties, 0.0,
                        -1, 0, 0,
                    ))  # fmt: skip
            if not xs:
                continue
            bars += _bars(drawing, inside, times, len(systems))
            edges = sorted((min(ys), max(ys)) for ys in lines.values())
            staves += [(len(systems), top, bottom) for top, bottom in edges]
            systems.append((page, 0, len(edges), edges[0][0], edges[-1][1], min(xs), max(xs)))
    return Engraving.of_rows(pages, notes, systems, staves, bars)


def _of_class(element: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    return (e for e in element.iter() if name in e.get("class", "").split())


def _head(note: ElementTree.Element) -> ElementTree.Element | None:
    """The drawn head, None where it is hidden."""
    if note.get("visibility") == "hidden":
        return None
    for group in _of_class(note, "notehead"):
        return next((e for e in group.iter() if local(e) == "use"), None)
    return None


def _bars(
    drawing: Drawing, measures: list[ElementTree.Element], times: _Times, system: int
) -> Iterator[tuple[Any, ...]]:
    """Rows of BAR for the bar lines drawn in one system's measures."""
    following = dict(pairwise(times.measures))
    drawn = {m.get("id", ""): _bar_lines(drawing, m) for m in measures}
    for name, (lefts, rights) in drawn.items():
        fact = times.measures[name]
        for x in lefts:
            yield system, x, float(fact.start), fact.number, _GLYPHS.get(fact.left, "|")
        after = following.get(name)
        right = fact.right
        if after in drawn and not drawn[after][0] and times.measures[after].left == "rptstart":
            right = "rptboth" if right == "rptend" else "rptstart"
        number = times.measures[after].number if after else fact.number + 1
        for x in rights:
            yield system, x, float(fact.end), number, _GLYPHS.get(right, "|")


def _bar_lines(drawing: Drawing, measure: ElementTree.Element) -> tuple[list[float], list[float]]:
    """Places of the bar lines at a measure's left and at its right."""
    heads = [
        numbers(drawn.get("transform", ""))[0]
        for kind in ("note", "rest", "mRest")
        for group in _of_class(measure, kind)
        for drawn in group.iter()
        if local(drawn) == "use"
    ]
    edges = [x for staff in _of_class(measure, "staff") for x in _across(staff)]
    first = min(heads or [(min(edges) + max(edges)) / 2])
    sides: tuple[list[float], list[float]] = ([], [])
    for group in _of_class(measure, "barLine"):
        if xs := [x for line in group.iter() for x in _across(line)]:
            x = (min(xs) + max(xs)) / 2
            sides[x > first].append(drawing.x(x))
    return sides


def _across(element: ElementTree.Element) -> list[float]:
    """Horizontal coordinates of a straight line, or of those right inside a group.

    Verovio draws some ties over a system's end inside a bar line's group.
    """
    paths = [element] if local(element) == "path" else [e for e in element if local(e) == "path"]
    shapes = [path.get("d", "") for path in paths]
    return [x for shape in shapes if "C" not in shape for x in numbers(shape)[:4:2]]


def engrave(paths: list[Path], rng: random.Random) -> Engraving:
    """The sources as one document in a style and in keys that the generator chooses."""
    options = choose_options(rng)
    words = rng.random() < 0.15
    document: ElementTree.Element | None = None
    for number, path in enumerate(paths, 1):
        root = read_mei(path, rng.randint(-5, 6), number)
        if str(path.relative_to(corpus_folder())) not in KEYBOARD:
            two_staves(root, words)
        if document is None:
            document = root
        else:
            join(document, root)
    assert document is not None
    toolkit = new_toolkit(options)
    if not toolkit.loadData(mei_text(document)):
        raise EngravingError("Verovio cannot engrave it")
    return read_truth(toolkit, options["font"])


def companions(name: str, pieces: dict[str, Path], rng: random.Random) -> list[Path]:
    """The piece, and for a chorale some more chorales of its side of the split."""
    if pieces[name].parent.name != "bach" or name == "bach__bwv846":
        return [pieces[name]]
    aside = held_out(list(pieces))
    others = [
        other
        for other in pieces
        if other.startswith("bach__bwv")
        and other not in (name, "bach__bwv846")
        and (other in aside) == (name in aside)
    ]
    chosen = rng.sample(others, rng.choice([0, 1, 2, 3]))
    return [pieces[n] for n in (name, *chosen) if n not in PUBLISHED]


def _one(name: str, seed: int, out: Path, pieces: dict[str, Path]) -> str | None:
    """Engrave one document; returns why it failed."""
    path = out / f"verovio--{name}--{seed}.npz"
    if path.exists():
        return None
    rng = random.Random(f"{name}/{seed}")
    try:
        engrave(companions(name, pieces, rng), rng).save(path)
    except (EngravingError, ScoreError, ValueError, KeyError) as error:
        return f"{name}\t{seed}\t{type(error).__name__}: {error}"
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=300, help="documents")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    pieces = sources()
    names = [name for name in pieces if name not in PUBLISHED]
    failures = 0
    with (
        ProcessPoolExecutor(args.jobs) as pool,
        (args.out / f"failures-verovio-{args.seed}.txt").open("w") as log,
    ):
        jobs = [
            pool.submit(_one, names[i % len(names)], args.seed + i // len(names), args.out, pieces)
            for i in range(args.count)
        ]
        done: Any = as_completed(jobs)
        if sys.stdout.isatty():
            from rich.progress import track

            done = track(done, "engraving", total=len(jobs))
        for job in done:
            if failure := job.result():
                failures += 1
                log.write(failure + "\n")
                log.flush()
    print(f"{args.count - failures} documents, {failures} failed")


if __name__ == "__main__":
    main()
