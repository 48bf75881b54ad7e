"""An engraved piece: its pages, and where every sign stands on them.

Places are fractions of the page from the top left; onsets are in whole notes as
printed, from the start of the movement; counts are from 0 unless they are printed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

PAGE_WIDTH = 848  # pixels; heights follow the paper (A4: 1199)

NOTE = np.dtype(
    [
        ("page", "i2"),  # from 0
        ("system", "i2"),  # within the document, from 0
        ("x", "f4"),  # fraction of the page's width, head's centre
        ("y", "f4"),  # fraction of the page's height
        ("score", "i2"),  # movement (a \score block), from 0
        ("onset", "f8"),  # whole notes from the start of the movement
        ("grace", "f4"),  # whole notes, negative before the onset
        ("pitch", "i2"),  # MIDI number
        ("length", "f4"),  # whole notes
        ("tied", "?"),  # continues a tie: no new onset
        ("tempo", "f4"),  # whole notes a minute, 0 where the source says none
        ("staff", "i1"),  # within the system, 0 at the top; -1 unknown
        ("articulation", "u1"),  # sum of ARTICULATIONS
        ("ornament", "u1"),  # one of ORNAMENTS, 0 for none
    ]
)
ARTICULATIONS = {"staccato": 1, "tenuto": 2, "accent": 4, "fermata": 8, "arpeggio": 16}
ORNAMENTS = {"trill": 1, "mordent": 2, "prall": 3, "turn": 4, "tremolo": 5}

SYSTEM = np.dtype(
    [
        ("page", "i2"),
        ("score", "i2"),
        ("staves", "i2"),
        ("top", "f4"),  # first staff line, fraction of the page's height
        ("bottom", "f4"),
        ("left", "f4"),
        ("right", "f4"),
    ]
)
STAFF = np.dtype([("system", "i2"), ("top", "f4"), ("bottom", "f4")])
BAR = np.dtype([("system", "i2"), ("x", "f4"), ("onset", "f8"), ("measure", "i2"), ("glyph", "U8")])
"""A bar line of one staff or system; `measure` is the printed number that begins there, and
`glyph` is LilyPond's name: "|", "||", "|.", ".|:", ":|.", ":|.|:", …"""

VOLTA = np.dtype([("score", "i2"), ("start", "f8"), ("end", "f8"), ("passes", "U8")])
"""A bracket over `start` <= onset < `end`; `passes` as "1" or "1,2"."""

SIGN = np.dtype(
    [
        ("system", "i2"),
        ("staff", "i1"),  # -1 where it belongs to the system
        ("x", "f4"),
        ("y", "f4"),
        ("onset", "f8"),
        ("kind", "U8"),  # clef, key, time, mark
        ("value", "U16"),
    ]
)
"""clef: "treble", "bass", "alto", "tenor", … with "_8" or "^8"; key: sharps less flats ("-3");
time: "3/4"; mark: "segno", "coda", "fine", "da capo", "dal segno"."""


class EngravingError(RuntimeError):
    """No page was made, or the page's facts do not fit together."""


@dataclass
class Engraving:
    """A piece as pages and truth; `pages` is (pages, height, width) uint8, white 255."""

    pages: np.ndarray
    notes: np.ndarray
    systems: np.ndarray
    staves: np.ndarray
    bars: np.ndarray
    voltas: np.ndarray = field(default_factory=lambda: np.zeros(0, VOLTA))
    signs: np.ndarray = field(default_factory=lambda: np.zeros(0, SIGN))

    @classmethod
    def of_rows(
        cls,
        pages: Sequence[np.ndarray],
        notes: Sequence[tuple[Any, ...]],
        systems: Sequence[tuple[Any, ...]],
        staves: Sequence[tuple[Any, ...]],
        bars: Sequence[tuple[Any, ...]],
        voltas: Sequence[tuple[Any, ...]] = (),
        signs: Sequence[tuple[Any, ...]] = (),
    ) -> Engraving:
        """From pages and rows of the tables above; notes are put in order of time.

        Raises:
            EngravingError: there are no notes, or the pages differ in size.
        """
        if not pages or not notes:
            raise EngravingError("no note heads with truth on any page")
        if len({page.shape for page in pages}) > 1:
            raise EngravingError("pages of different sizes")
        table = np.array(notes, NOTE)
        table = table[np.lexsort((table["x"], table["grace"], table["onset"], table["score"]))]
        return cls(
            np.stack(pages),
            table,
            np.array(systems, SYSTEM),
            np.array(staves, STAFF),
            np.array(bars, BAR),
            np.array(list(voltas), VOLTA),
            np.array(list(signs), SIGN),
        )
