"""Verovio's SVG pages: where things stand in them, and their pixels.

MuPDF draws SVG but knows neither style sheets, nested `svg` elements nor music
fonts; `Drawing.flat` says the same without them.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

from sf_plugin.score.model import PageImage
from sf_plugin.score.pdf import MUPDF_LOCK, mupdf, rasterise

_HREF = "{http://www.w3.org/1999/xlink}href"
_STROKED = ("path", "polygon", "polyline", "rect", "ellipse")
_BOLD = {"ending", "fing", "reh", "tempo"}
_ITALIC = {"dir", "dynam", "mNum"}
_MUSIC_FONTS = {"Leipzig", "Bravura", "Gootville", "Leland", "Petaluma"}
_BUILTIN = {
    (False, False): "tiro",
    (True, False): "tibo",
    (False, True): "tiit",
    (True, True): "tibi",
}


def data_folder() -> Path:
    """Verovio's fonts and tables."""
    import verovio

    return Path(verovio.__file__).parent / "data"


@dataclass(frozen=True)
class _Style:
    """What text inherits."""

    size: float = 0.0
    family: str = "Times"
    bold: bool = False
    italic: bool = False


@dataclass
class _Line:
    """Runs of text that share one anchor."""

    x: float
    y: float
    anchor: str
    runs: list[tuple[str, _Style]] = field(default_factory=list)


class Drawing:
    """One page as Verovio drew it."""

    def __init__(self, text: str) -> None:
        self.root = ElementTree.fromstring(text)
        inner = next(e for e in self.root.iter() if "definition-scale" in e.get("class", ""))
        margin = next(e for e in self.root.iter() if "page-margin" in e.get("class", ""))
        self.inner = inner
        self.width, self.height = (float(v) for v in inner.get("viewBox", "").split()[2:])
        self.dx, self.dy = numbers(margin.get("transform", "translate(0, 0)"))[:2]
        self.pixels = tuple(float(self.root.get(k, "0").rstrip("px")) for k in ("width", "height"))

    def x(self, units: float) -> float:
        """A coordinate inside the page margin as a fraction of the page's width."""
        return round((units + self.dx) / self.width, 6)

    def y(self, units: float) -> float:
        """The same for the height."""
        return round((units + self.dy) / self.height, 6)

    def flat(self) -> str:
        """The page in the part of SVG that MuPDF draws."""
        width, height = self.pixels
        out = [
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'width="{width}px" height="{height}px">'
        ]
        out.append("<defs>")
        for defs in (e for e in self.root if local(e) == "defs"):
            for glyph in defs:
                out.append(f"<g id={quoteattr(glyph.get('id', ''))}>")
                out += [_open(shape, close=True) for shape in glyph]
                out.append("</g>")
        out.append(f'</defs><g transform="scale({width / self.width}, {height / self.height})">')
        for element in self.inner:
            out += _flatten(element, _Style())
        out.append("</g></svg>")
        return "".join(out)


class Picture:
    """A page kept as a compressed drawing and rendered when asked for."""

    def __init__(self, drawing: Drawing) -> None:
        self._packed = zlib.compress(drawing.flat().encode())

    def render(self) -> PageImage:
        """(height, PAGE_WIDTH) grey."""
        with MUPDF_LOCK:
            document = mupdf().open(stream=zlib.decompress(self._packed), filetype="svg")
            return rasterise(document[0])


def local(element: ElementTree.Element) -> str:
    """The tag without its namespace."""
    return str(element.tag).rpartition("}")[2]


def numbers(text: str) -> list[float]:
    """The decimal numbers in a piece of path or transform."""
    return [float(v) for v in re.findall(r"-?\d*\.?\d+(?:e-?\d+)?", text)]


def centre_of_glyph(use: ElementTree.Element, font: str = "Leipzig") -> float:
    """Where the middle of a drawn glyph stands, in units inside the page margin."""
    x, _, scale = numbers(use.get("transform", ""))[:3]
    code = use.get(_HREF, use.get("href", ""))[1:].partition("-")[0]
    return x + scale * _advances(font).get(code, 0.0) / 2


@cache
def _advances(font: str) -> dict[str, float]:
    """Widths of a music font's glyphs by hexadecimal code, 1000 to the em."""
    table = ElementTree.parse(data_folder() / f"{font}.xml").getroot()
    return {g.get("c", ""): float(g.get("h-a-x", 0)) for g in table if g.get("c")}


@cache
def _glyph(font: str, code: str) -> str:
    """A music font's glyph as path elements, y upwards undone."""
    file = data_folder() / font / f"{code}.xml"
    if not file.is_file():
        return ""
    return "".join(_open(e, close=True) for e in ElementTree.parse(file).getroot())


def _open(element: ElementTree.Element, *, close: bool = False, **more: str) -> str:
    given = {k.replace(_HREF, "xlink:href"): v for k, v in element.attrib.items()}
    given = {k: v for k, v in {**more, **given}.items() if "{" not in k and k != "class"}
    inside = "".join(f" {name}={quoteattr(value)}" for name, value in given.items())
    return f"<{local(element)}{inside}{'/' if close else ''}>"


def _inherit(element: ElementTree.Element, style: _Style) -> _Style:
    classes = set(element.get("class", "").split())
    if classes & _BOLD:
        style = replace(style, bold=True)
    if classes & _ITALIC:
        style = replace(style, italic=True)
    if "label" in classes:
        style = replace(style, bold=False)
    if weight := element.get("font-weight"):
        style = replace(style, bold=weight == "bold")
    if slant := element.get("font-style"):
        style = replace(style, italic=slant in ("italic", "oblique"))
    if family := element.get("font-family"):
        style = replace(style, family=family)
    if size := element.get("font-size"):
        style = replace(style, size=numbers(size)[0])
    return style


def _flatten(element: ElementTree.Element, style: _Style) -> Iterator[str]:
    tag, classes = local(element), element.get("class", "").split()
    if "placeholder" in classes or element.get("visibility") == "hidden":
        return
    style = _inherit(element, style)
    if tag == "text":
        turn = element.get("transform")
        yield f"<g transform={quoteattr(turn)}>" if turn else "<g>"
        for line in _lines(element, style):
            yield from _set(line)
        yield "</g>"
    elif tag == "use":
        yield _open(element, close=True)
    elif tag in _STROKED:
        yield _open(element, close=True, stroke="black")
    elif tag == "g":
        yield _open(element)
        for child in element:
            yield from _flatten(child, style)
        yield "</g>"


def _lines(text: ElementTree.Element, style: _Style) -> list[_Line]:
    lines = [_Line(0.0, 0.0, "start")]

    def walk(element: ElementTree.Element, style: _Style) -> None:
        x, y = element.get("x"), element.get("y")
        if x is not None or y is not None:
            last = lines[-1]
            lines.append(
                _Line(
                    numbers(x)[0] if x else last.x,
                    numbers(y)[0] if y else last.y,
                    element.get("text-anchor", last.anchor),
                )
            )
        elif anchor := element.get("text-anchor"):
            lines[-1].anchor = anchor
        if element.text and element.text.strip(" \n\t"):
            lines[-1].runs.append((element.text, style))
        for child in element:
            walk(child, _inherit(child, style))

    walk(text, style)
    return [line for line in lines if line.runs]


def _is_music(character: str, style: _Style) -> bool:
    return style.family in _MUSIC_FONTS or 0xE000 <= ord(character) <= 0xF8FF


def _music_font(style: _Style) -> str:
    return style.family if style.family in _MUSIC_FONTS else "Leipzig"


def _pieces(line: _Line) -> Iterator[tuple[str, _Style, float]]:
    """Stretches of one kind: (text, style, width); music glyphs come one by one."""
    for text, style in line.runs:
        words = ""
        for character in text:
            if not _is_music(character, style):
                words += character
                continue
            if words:
                yield words, style, _width(words, style)
                words = ""
            advance = _advances(_music_font(style)).get(f"{ord(character):04X}", 0.0)
            yield character, style, advance * style.size / 1000
        if words:
            yield words, style, _width(words, style)


def _width(text: str, style: _Style) -> float:
    font = _font(_BUILTIN[style.bold, style.italic])
    return float(font.text_length(text, fontsize=style.size))


@cache
def _font(name: str) -> Any:
    return mupdf().Font(name)


def _set(line: _Line) -> Iterator[str]:
    pieces = list(_pieces(line))
    total = sum(width for _, _, width in pieces)
    x = line.x - total * {"start": 0.0, "middle": 0.5, "end": 1.0}.get(line.anchor, 0.0)
    for text, style, width in pieces:
        if _is_music(text[0], style):
            scale = style.size / 1000
            yield (
                f'<g transform="translate({x:g}, {line.y:g}) scale({scale:g}, {scale:g})">'
                f"{_glyph(_music_font(style), f'{ord(text[0]):04X}')}</g>"
            )
        else:
            weight = ' font-weight="bold"' if style.bold else ""
            slant = ' font-style="italic"' if style.italic else ""
            yield (
                f'<text x="{x:g}" y="{line.y:g}" font-size="{style.size:g}" '
                f'font-family="Times"{weight}{slant}>{escape(text)}</text>'
            )
        x += width
