"""Engrave symbolic scores with Verovio: page images with exact truth.

MusicXML, MEI and Humdrum are read by Verovio, ABC and the like by music21 first.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from sf_plugin.dataset.engraving import PAGE_WIDTH, Engraving, EngravingError
from sf_plugin.dataset.mei_facts import remove
from sf_plugin.dataset.verovio_truth import read_truth
from sf_plugin.dataset.verovio_variety import PLAIN, VerovioVariety, draw_variety
from sf_plugin.errors import ScoreError
from sf_plugin.score.engraving import (
    MUSIC21_SUFFIXES,
    VEROVIO_SUFFIXES,
    mei_text,
    new_toolkit,
    parse_with_music21,
    read_text,
    to_musicxml,
)
from sf_plugin.score.svg import local

SUFFIXES = (*VEROVIO_SUFFIXES, *MUSIC21_SUFFIXES)

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


def corpus_sources() -> dict[str, Path]:
    """music21's keyboard works, then what it has of Bach, mostly chorales, by name."""
    found = find_spec("music21")
    if found is None or not found.submodule_search_locations:
        raise ScoreError("music21 is not installed: pip install music21")
    folder = Path(found.submodule_search_locations[0]) / "corpus"
    keyboard = [folder / name for name in KEYBOARD]
    bach = (p for p in folder.glob("bach/bwv*") if p.suffix in (".mxl", ".xml"))
    paths = [*keyboard, *sorted(set(bach) - set(keyboard))]
    names = (path.relative_to(folder).with_suffix("") for path in paths)
    return {"__".join(name.parts): path for name, path in zip(names, paths, strict=True)}


def engrave_file(
    path: Path, rng: random.Random | None = None, page_width: int = PAGE_WIDTH
) -> Engraving:
    """One symbolic score in a house style by chance, or plainly.

    Raises:
        EngravingError: it cannot be read, or places and times do not fit together.
    """
    return engrave_files([path], rng, page_width)


def engrave_files(
    paths: Sequence[Path], rng: random.Random | None = None, page_width: int = PAGE_WIDTH
) -> Engraving:
    """Several scores as the movements of one document.

    Raises:
        EngravingError: as `engrave_file`.
    """
    try:
        texts = [text for path in paths for text in _texts(path)]
    except ScoreError as error:
        raise EngravingError(str(error)) from None
    return _engrave(texts, rng, page_width)


def engrave_stream(
    stream: Any, rng: random.Random | None = None, page_width: int = PAGE_WIDTH
) -> Engraving:
    """A music21 stream; the scores of an Opus become movements.

    Raises:
        EngravingError: as `engrave_file`.
    """
    try:
        texts = _texts_of_stream(stream)
    except ScoreError as error:
        raise EngravingError(str(error)) from None
    return _engrave(texts, rng, page_width)


def _texts(path: Path) -> list[str]:
    if path.suffix.lower() in VEROVIO_SUFFIXES:
        return [read_text(path)]
    return _texts_of_stream(parse_with_music21(path))


def _texts_of_stream(stream: Any) -> list[str]:
    from music21 import stream as streams

    scores = list(stream.scores) if isinstance(stream, streams.Opus) else [stream]
    return [to_musicxml(score) for score in scores]


def _engrave(texts: Sequence[str], rng: random.Random | None, page_width: int) -> Engraving:
    variety = PLAIN if rng is None else draw_variety(rng)
    document = read_mei(texts[0], variety.semitones)
    body = next(document.iter("body"))
    for number, text in enumerate(texts[1:], 2):
        body.extend(read_mei(text, variety.semitones, number).iter("mdiv"))
    apply_variety(document, variety)
    toolkit = new_toolkit({**variety.options, "mdivAll": True, "expandNever": True})
    if not toolkit.loadData(mei_text(document)):
        raise EngravingError("Verovio cannot engrave it")
    return read_truth(toolkit, variety.font, page_width, variety.text_font)


def read_mei(text: str, semitones: int = 0, ids: int = 1) -> ElementTree.Element:
    """A source as MEI, transposed; `ids` makes its element ids differ from others'.

    Raises:
        EngravingError: Verovio cannot read it.
    """
    options: dict[str, Any] = {"xmlIdSeed": ids, "mdivAll": True}
    if semitones:
        options["transpose"] = str(semitones)
    toolkit = new_toolkit(options)
    if not toolkit.loadData(text):
        raise EngravingError("Verovio cannot read it")
    root = ElementTree.fromstring(toolkit.getMEI())
    for element in root.iter():
        element.tag = local(element)
    remove(root, lambda element: element.tag in ("expansion", "extMeta"))
    return root


def apply_variety(document: ElementTree.Element, variety: VerovioVariety) -> None:
    """Take out, in place, what the house style does not print."""
    remove(document, lambda element: element.tag in variety.left_out)
    if not variety.measure_numbers:
        for definition in document.iter("scoreDef"):
            definition.set("mnum.visible", "false")
