"""Pages with marks put on them: da capo, dal segno, segno, coda and fine in many fonts.

Words and signs are set above, below and between the systems of engraved pages, with
other words and signs among them, before a page is spoilt like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pymupdf
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sf_plugin.dataset.engraving import SIGN, Engraving
from sf_plugin.dataset.truth_layout import printed_measures
from sf_plugin.score.svg import data_folder
from sf_plugin.unet.mark_reader import BEGINS, MORE, NONE

Grey = NDArray[np.float32]
"""Ink 1, paper 0."""

NOT_TEXT = ("mono", "math", "emoji", "symbol", "brace", "emmentaler", "notdef", "siz", "nonuni",
            "caps", "cursor", "display", "unsl", "_m.", "_k.", "lastresort")  # fmt: skip
"""Parts of the names of font files that hold no words as scores have them."""
MUSIC_FONTS = "Leipzig", "Bravura", "Gootville", "Leland", "Petaluma"
"""Of Verovio."""
SIGNS = {
    "segno": ("E047", "E04A", "E04B"),
    "coda": ("E048", "E048", "E049"),
}
"""Codes of Verovio's."""
LILYPOND_SIGNS = {"segno": "\ue062\ue063", "coda": "\ue064\ue065"}
"""The same in LilyPond's fonts."""

DA_CAPO = ("D.C.", "D. C.", "D.C", "Da Capo", "Da capo", "da capo", "D. Capo", "DA CAPO", "D.c.")
DAL_SEGNO = ("D.S.", "D. S.", "D.S", "Dal Segno", "Dal segno", "dal segno", "D. Segno",
             "DAL SEGNO", "Del Segno")  # fmt: skip
DAL = ("Dal", "dal", "D.S.", "D. S.")
FINE = ("Fine", "Fine", "Fine", "Fine.", "FINE", "fine", "FINE.", "Fine")
CODA = ("Coda", "CODA", "Coda.", "Coda")
TO_CODA = ("To Coda", "to Coda", "To coda", "TO CODA", "To Coda")
TO = ("To", "to")
AL_FINE = ("al Fine", "al fine", "al Fine.", "al FINE", "sin' al Fine", "sino al Fine",
           "e poi Fine", "Fine")  # fmt: skip
AL_CODA = ("al Coda", "al coda", "al Coda.", "e poi la Coda", "e Coda", "poi la Coda")
AFTER = ("senza replica", "senza repetizione", "senza rep.", "e poi", "with repeats", "al segno",
         "senza Fine", "ma senza replica")  # fmt: skip
BEFORE = ("Menuetto", "Minuetto", "Menuet", "Scherzo", "Marcia", "Trio", "Valse", "Rondo")
"""Before da capo they belong to it, elsewhere they are other words."""
OTHERS = (
    "Andante", "Allegro", "Allegretto", "Adagio", "Presto", "Moderato", "Tempo di Menuetto",
    "a tempo", "rit.", "ritard.", "rall.", "dolce", "cresc.", "decresc.", "dim.", "con fuoco",
    "con espressione", "cantabile", "calando", "legato", "sempre", "sempre legato", "simile",
    "marcato", "segue", "attacca", "da", "al", "Finale", "Fin", "Finis", "Fuga", "Solo", "Tutti",
    "Ped.", "Tempo I", "Tempo primo", "poco a poco", "sf", "fz", "m.d.", "m.s.", "m.g.", "8va",
    "Fing.", "Var. 1", "Variation II", "Introduction", "Polka", "Coro", "Canto", "Code", "Pedal",
    "due corde", "una corda", "tre corde", "D", "C", "G7", "Dm", "D7", "C#", "F", "Fm", "Cdim",
    "D.", "C.", "S.", "F.", "A.B.", "D.G.", "C.D.", "P.S.", "D.B.", "O.C.", "D.T.", "B.C.", "S.D.",
    "Line", "Pine", "Fire", "fino", "Fede", "Wine", "Mine", "Find", "Five", "Fina", "Finn", "Soda",
    "Code", "Codo", "Corda", "Cado", "Oda", "Caro", "Capo", "Da", "Dal", "Del", "De capo", "To",
    "Das", "Dolce", "Decapo?", "Sign", "Segue", "Seno", "Legno", "Signo", "Largo", "Largetto",
    "The end", "End", "Ende", "Edited by", "Op. 12", "No. 3", "(1810)", "A", "B", "I.", "II.",
    "1.", "2.", "3", "12", "25", "mf", "pp", "f", "p", "ff", "sfz", "tr", "dim. e rit.",
)  # fmt: skip
LETTERS = "aabcdeeefghiiklmnooprsttuvACDFSTM."


@dataclass(frozen=True)
class Piece:
    """Words, or a sign, of a kind of the reader's `KINDS`."""

    kind: str
    text: str = ""
    sign: str = ""


@dataclass(frozen=True)
class Stamp:
    """A phrase as ink: (height, width), and (kind, left, right) of its pieces in pixels."""

    ink: Grey
    parts: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True)
class Placed:
    """A piece of a phrase on a page: its kind, and its box as fractions of the page."""

    kind: str
    left: float
    right: float
    top: float
    bottom: float


def find_fonts(folders: Sequence[Path]) -> list[Path]:
    """Font files below some folders that are for words and have Latin letters.

    Raises:
        FileNotFoundError: there are none.
    """
    files = [
        file
        for folder in folders
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in (".otf", ".ttf")
        and not any(word in file.name.lower() for word in NOT_TEXT)
    ]
    fonts = [file for file in files if _has_letters(file)]
    if not fonts:
        raise FileNotFoundError(f"{', '.join(map(str, folders))}: no fonts with letters there")
    return fonts


def _has_letters(file: Path) -> bool:
    font = ImageFont.truetype(str(file), 24)
    none = bytes(font.getmask("\uffff"))
    return all(bytes(font.getmask(letter)) != none for letter in "DCSFinealdo.")


def families(fonts: Sequence[Path]) -> list[list[Path]]:
    """Files whose names begin with the same six letters, so that no family weighs more."""
    groups: dict[str, list[Path]] = {}
    for font in fonts:
        groups.setdefault(font.name[:6], []).append(font)
    return list(groups.values())


@cache
def _font(file: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(file), size)


@cache
def lilypond_fonts() -> tuple[Path, ...]:
    """LilyPond's music fonts in all their sizes; none where it is not installed."""
    try:
        import lilypond
    except ImportError:
        return ()
    folder = Path(lilypond.executable("lilypond")).parents[1] / "share"
    return tuple(sorted(folder.rglob("emmentaler-[0-9]*.otf")))


DRAWN = 48
"""Pixels a staff space at which signs are drawn before they are made smaller."""


@cache
def verovio_sign(font: str, code: str) -> Grey:
    """A glyph of one of Verovio's fonts, tight, at `DRAWN`."""
    glyph = (data_folder() / font / f"{code}.xml").read_text(encoding="utf-8")
    scale = 4 * DRAWN / 1000
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{6 * DRAWN}" height="{6 * DRAWN}">'
        f'<g transform="translate({DRAWN},{3 * DRAWN}) scale({scale})">{glyph}</g></svg>'
    )
    with pymupdf.open(stream=svg.encode(), filetype="svg") as document:
        drawn = document[0].get_pixmap(colorspace=pymupdf.csGRAY)
    grey = np.frombuffer(drawn.samples, np.uint8).reshape(drawn.height, drawn.width)
    return _tight(np.asarray(1 - grey / 255, np.float32))


@cache
def lilypond_sign(file: Path, character: str) -> Grey:
    """A glyph of one of LilyPond's fonts, tight, at `DRAWN`."""
    image = Image.new("L", (8 * DRAWN, 8 * DRAWN))
    ImageDraw.Draw(image).text(
        (4 * DRAWN, 4 * DRAWN), character, 255, _font(file, 4 * DRAWN), anchor="ms"
    )
    return _tight(np.asarray(np.asarray(image) / 255, np.float32))


def _tight(ink: Grey) -> Grey:
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    if not len(rows):
        return np.zeros((1, 1), np.float32)
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


@cache
def _other_signs() -> tuple[tuple[str, str], ...]:
    """(font, code) of Verovio's glyphs that are neither segno nor coda."""
    taken = {code for codes in SIGNS.values() for code in codes}
    return tuple(
        (font, file.stem)
        for font in MUSIC_FONTS
        for file in sorted((data_folder() / font).glob("E*.xml"))
        if file.stem not in taken and not file.stem.startswith("E0A")
    )


def draw_sign(sign: str, rng: np.random.Generator) -> Grey:
    """A segno, a coda, or another sign, in a design of some font, at `DRAWN`."""
    lilypond = lilypond_fonts()
    if sign in SIGNS and lilypond and rng.random() < 0.35:
        file = lilypond[rng.integers(len(lilypond))]
        return lilypond_sign(file, LILYPOND_SIGNS[sign][int(rng.random() < 0.25)])
    if sign in SIGNS:
        choices = [
            (font, code)
            for font in MUSIC_FONTS
            for code in SIGNS[sign]
            if (data_folder() / font / f"{code}.xml").is_file()
        ]
    else:
        choices = list(_other_signs())
    while True:
        ink = verovio_sign(*choices[rng.integers(len(choices))])
        if max(ink.shape) < 5 * DRAWN:
            return ink


def _one(words: Sequence[str], rng: np.random.Generator) -> str:
    return words[int(rng.integers(len(words)))]


def draw_phrase(rng: np.random.Generator) -> list[Piece]:
    """A mark as it is printed, with what belongs to it."""
    kind = _one(["da capo", "dal segno", "fine", "segno", "coda", "to coda"], rng)
    if kind == "fine":
        return [Piece(kind, _one(FINE, rng))]
    if kind == "segno":
        return [Piece(kind, sign="segno")]
    if kind == "coda":
        word, sign = Piece(kind, _one(CODA, rng)), Piece(kind, sign="coda")
        return [[sign], [sign], [word], [sign, word], [word, sign]][rng.integers(5)]
    if kind == "to coda":
        sign = Piece(kind, sign="coda")
        word = Piece(kind, _one(TO_CODA, rng))
        return [[word], [word, sign], [Piece(kind, _one(TO, rng)), sign]][rng.integers(3)]
    phrase = [Piece(kind, _one(DA_CAPO if kind == "da capo" else DAL_SEGNO, rng))]
    if kind == "dal segno" and rng.random() < 0.25:
        phrase = [Piece(kind, _one(DAL, rng)), Piece(kind, sign="segno")]
    if kind == "da capo" and rng.random() < 0.1:
        phrase = [Piece(MORE, _one(BEFORE, rng)), *phrase]
    choice = rng.random()
    if choice < 0.4:
        phrase.append(Piece(MORE, _one(AL_FINE, rng)))
    elif choice < 0.65:
        phrase.append(Piece(MORE, _one(AL_CODA, rng)))
        if rng.random() < 0.25:
            phrase.append(Piece(MORE, sign="coda"))
    elif choice < 0.72:
        phrase.append(Piece(MORE, _one(AFTER, rng)))
    return phrase


def draw_other(rng: np.random.Generator) -> list[Piece]:
    """Words or a sign that are no mark."""
    choice = rng.random()
    if choice < 0.25:
        return [Piece(NONE, sign="other")]
    if choice < 0.45:
        length = rng.integers(1, 9)
        return [Piece(NONE, "".join(LETTERS[i] for i in rng.integers(0, len(LETTERS), length)))]
    if choice < 0.55:
        return [Piece(NONE, _one(OTHERS, rng)), Piece(NONE, _one(OTHERS, rng))]
    return [Piece(NONE, _one((*OTHERS, *BEFORE), rng))]


def set_phrase(
    phrase: Sequence[Piece], space: float, fonts: Sequence[Sequence[Path]], rng: np.random.Generator
) -> Stamp:
    """A phrase in one font and size, as it would be set where a staff space is `space` pixels."""
    fine = 4
    family = fonts[int(rng.integers(len(fonts)))]
    size = space * float(np.exp(rng.uniform(np.log(1.9), np.log(3.7))))
    font = _font(family[int(rng.integers(len(family)))], max(round(fine * size), 8))
    sign_scale = float(np.exp(rng.uniform(np.log(0.75), np.log(1.35)))) * space * fine / DRAWN
    gap = float(rng.uniform(0.2, 0.45)) * size * fine
    strength = float(rng.uniform(0.8, 1.0))
    images: list[tuple[str, Grey, float]] = []  # kind, ink, rows above the base line
    for piece in phrase:
        if piece.text:
            box = font.getbbox(piece.text, anchor="ls")
            left, top, right, bottom = (int(v) for v in box)
            image = Image.new("L", (max(right - left, 1) + 2, max(bottom - top, 1) + 2))
            ImageDraw.Draw(image).text((1 - left, 1 - top), piece.text, 255, font, anchor="ls")
            ink = np.asarray(np.asarray(image) / 255, np.float32)
            images.append((piece.kind, ink, 1.0 - top))
        else:
            drawn = Image.fromarray((255 * draw_sign(piece.sign, rng)).astype(np.uint8))
            wide, tall = (max(round(side * sign_scale), 2) for side in drawn.size)
            small = drawn.resize((wide, tall), Image.Resampling.BOX)
            ink = np.asarray(np.asarray(small) / 255, np.float32)
            above = len(ink) / 2 + 0.3 * size * fine if len(phrase) > 1 else len(ink)
            images.append((piece.kind, ink, above))
    above = max(up for _, _, up in images)
    below = max(len(ink) - up for _, ink, up in images)
    width = sum(ink.shape[1] for _, ink, _ in images) + gap * (len(images) - 1)
    sheet = np.zeros((int(above + below) + 2 * fine, int(width) + 2 * fine), np.float32)
    parts, x = [], float(rng.uniform(0, fine))
    for kind, ink, up in images:
        row, column = round(above - up), int(x)
        here = sheet[row : row + ink.shape[0], column : column + ink.shape[1]]
        np.maximum(here, ink[: here.shape[0], : here.shape[1]], out=here)
        parts.append((kind, x / fine, (x + ink.shape[1]) / fine))
        x += ink.shape[1] + gap
    height, width = sheet.shape[0] // fine, sheet.shape[1] // fine
    cells = sheet[: height * fine, : width * fine].reshape(height, fine, width, fine)
    return Stamp(np.asarray(strength * cells.mean((1, 3)), np.float32), tuple(parts))


TRIES = 12
"""Places that are tried for a phrase before it is left out."""
CROWDED = 0.02
"""Share of ink up to which a place is empty enough."""


def put_marks(
    image: NDArray[np.uint8],
    piece: Engraving,
    page: int,
    fonts: Sequence[Sequence[Path]],
    rng: np.random.Generator,
    marks: float = 3.0,
    others: float = 2.5,
) -> tuple[NDArray[np.uint8], list[Placed]]:
    """A page with marks and other words put on it: so many of each a system, on the average."""
    ink = 1 - image.astype(np.float32) / 255
    height, width = ink.shape
    placed: list[Placed] = []
    taken = np.zeros(ink.shape, bool)
    for system in np.flatnonzero(piece.systems["page"] == page):
        box = piece.systems[system]
        lines = piece.staves[piece.staves["system"] == system]
        if not len(lines):
            continue
        space = float((lines["bottom"] - lines["top"]).mean()) / 4 * height
        bars = piece.bars["x"][piece.bars["system"] == system] * width
        edges = np.unique(np.round([box["left"] * width, *bars, box["right"] * width]))
        sorts = [draw_phrase] * rng.poisson(marks) + [draw_other] * rng.poisson(others)
        for draw in sorts:
            stamp = set_phrase(draw(rng), space, fonts, rng)
            for _ in range(TRIES):
                row, column = _somewhere(lines, edges, space, height, stamp, rng)
                here = (
                    slice(row, row + stamp.ink.shape[0]),
                    slice(column, column + stamp.ink.shape[1]),
                )
                under = ink[here]
                if row < 0 or column < 0 or under.shape != stamp.ink.shape or taken[here].any():
                    continue
                if under.mean() > CROWDED * (1 if rng.random() < 0.8 else 3):
                    continue
                np.maximum(under, stamp.ink, out=under)
                taken[here] = True
                bottom = row + stamp.ink.shape[0]
                placed += [
                    Placed(kind, (column + a) / width, (column + b) / width, row / height,
                           bottom / height)
                    for kind, a, b in stamp.parts if kind
                ]  # fmt: skip
                break
    return (255 * (1 - ink)).round().astype(np.uint8), placed


def _somewhere(
    staves: np.ndarray,
    edges: NDArray[np.float64],
    space: float,
    height: int,
    stamp: Stamp,
    rng: np.random.Generator,
) -> tuple[int, int]:
    """Row and column of a phrase above, below or between staves, often beside a bar line."""
    tall, wide = stamp.ink.shape
    away = space * float(rng.uniform(0.6, 5))
    where = rng.random()
    staff = staves[0] if where < 0.5 else staves[-1]
    if where > 0.85 and len(staves) > 1:
        staff = staves[rng.integers(len(staves) - 1)]
    row = float(staff["top"]) * height - away - tall
    if where >= 0.5:
        row = float(staff["bottom"]) * height + away
    edge = float(edges[rng.integers(len(edges))])
    beside = rng.random()
    if beside < 0.35:
        column = edge - wide + rng.normal(0, 0.7) * space
    elif beside < 0.55:
        column = edge + rng.normal(0, 0.7) * space
    elif beside < 0.75:
        column = edge - wide / 2
    else:
        first, last = edges[0] - 2 * space, edges[-1] - wide + 2 * space
        column = rng.uniform(first, max(first, last))
    return round(row), round(column)


def put_marks_on(
    piece: Engraving,
    fonts: Sequence[Sequence[Path]],
    rng: np.random.Generator,
    marks: float = 0.6,
) -> Engraving:
    """An engraved piece with marks where they belong, so many a system on the average.

    They are among its signs: what begins a measure stands over its start, what ends one at
    its end; a "to coda" is a "coda" of the measure after it, as that is left out.
    """
    pages = piece.pages.copy()
    measures = printed_measures(piece)
    signs = []
    height, width = pages.shape[1:]
    for number, system in enumerate(piece.systems):
        lines = piece.staves[piece.staves["system"] == number]
        own = measures[(measures["system"] == number) & (measures["end"] > measures["start"])]
        if not len(lines) or not len(own):
            continue
        space = float((lines["bottom"] - lines["top"]).mean()) / 4 * height
        taken = np.zeros((height, width), bool)
        for _ in range(rng.poisson(marks)):
            phrase = draw_phrase(rng)
            kind = next(part.kind for part in phrase if part.kind != MORE)
            stamp = set_phrase(phrase, space, fonts, rng)
            row = own[rng.integers(len(own))]
            ends_score = (
                row["number"] == measures["number"][measures["score"] == row["score"]].max()
            )
            if kind == "to coda" and ends_score:
                continue
            wide = stamp.ink.shape[1]
            left, right = float(row["left"]) * width, float(row["right"]) * width
            if kind in BEGINS:
                onset = float(row["start"])
                opens = row["number"] == own["number"][0]
                middle = left + space * rng.uniform(-0.5, 10.0 if opens else 2.0)
                column = round(middle if phrase[0].text else middle - wide / 2)
            else:
                onset = float(row["end"])
                centred = kind == "fine" and rng.random() < 0.3
                column = round(right - wide / (2 if centred else 1) + space * rng.uniform(-1, 0.5))
            above = rng.random() < (0.9 if kind in BEGINS else 0.6)
            for away in np.arange(0.8, 7, 0.4) * space:
                top = float(lines["top"][0]) * height - away - stamp.ink.shape[0]
                line = round(top if above else float(lines["bottom"][-1]) * height + away)
                here = (
                    slice(line, line + stamp.ink.shape[0]),
                    slice(column, column + wide),
                )
                page = pages[system["page"]]
                free = min(line, column) >= 0 and page[here].shape == stamp.ink.shape
                if free and (page[here] > 128).mean() > 1 - CROWDED / 4 and not taken[here].any():
                    page[here] = np.minimum(page[here], 255 * (1 - stamp.ink)).astype(np.uint8)
                    taken[here] = True
                    x, y = (column + wide / 2) / width, (line + stamp.ink.shape[0] / 2) / height
                    value = "coda" if kind == "to coda" else kind
                    signs.append((number, -1, x, y, onset, "mark", value))
                    break
    return replace(piece, pages=pages, signs=np.append(piece.signs, np.array(signs, SIGN)))
