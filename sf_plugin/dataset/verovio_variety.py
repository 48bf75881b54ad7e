"""House styles for Verovio: what may differ between two engravings of one piece."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FONTS = ("Leipzig", "Bravura", "Leland", "Petaluma", "Gootville")
TEXT_FONTS = ("Times", "Times", "Helvetica")
PAPERS = (297 / 210, 297 / 210, 11 / 8.5, 320 / 240, 353 / 250, 210 / 297)
"""Height over width: A4, letter, concert sizes, A4 landscape."""

STAFF_SPACE = 18
"""Distance of staff lines in the units of Verovio's page width."""

SPACES = (100, 155)
"""Staff spaces across the page: large to small notes."""

MARGINS = (0.03, 0.09)
"""Shares of the page's width."""

NUMBERS: Mapping[str, tuple[float, float]] = {
    "spacingLinear": (0.2, 0.34),
    "spacingNonLinear": (0.52, 0.66),
    "staffLineWidth": (0.11, 0.24),
    "ledgerLineThickness": (0.18, 0.32),
    "stemWidth": (0.14, 0.26),
    "barLineWidth": (0.2, 0.4),
    "thickBarlineThickness": (0.7, 1.3),
    "barLineSeparation": (0.6, 1.1),
    "slurMidpointThickness": (0.4, 0.8),
    "slurCurveFactor": (0.7, 1.6),
    "graceFactor": (0.62, 0.85),
    "fingeringScale": (0.6, 0.9),
    "lyricSize": (3.5, 5.5),
    "hairpinSize": (2.0, 4.0),
}
WHOLE_NUMBERS: Mapping[str, tuple[int, int]] = {
    "spacingSystem": (4, 16),
    "spacingStaff": (7, 16),
    "spacingBraceGroup": (8, 16),
    "measureMinWidth": (8, 25),
    "beamMaxSlope": (5, 18),
}
CHOICES: Mapping[str, tuple[Any, ...]] = {
    "font": FONTS,
    "breaks": ("auto", "auto", "smart"),
    "header": ("auto", "none"),
    "mnumInterval": (0, 0, 1, 2, 5, 10),
    "systemMaxPerPage": (0, 0, 0, 3, 4, 5, 6),
    "justifyVertically": (False, False, True),
    "noJustification": (False,) * 9 + (True,),
    "condense": ("none", "auto"),
    "multiRestStyle": ("auto", "block", "symbols"),
    "pedalStyle": ("auto", "line", "pedstar"),
    "systemDivider": ("auto", "none", "left"),
    "beamFrenchStyle": (False,) * 9 + (True,),
}
"""Verovio's options by name, each value as often as it is named."""

LEFT_OUT: Mapping[tuple[str, ...], float] = {
    ("verse",): 0.6,
    ("fing",): 0.4,
    ("dynam", "hairpin"): 0.25,
    ("slur", "phrase"): 0.15,
    ("pedal",): 0.4,
    ("harm",): 0.4,
    ("label", "labelAbbr"): 0.5,
}
"""How often signs that change neither heads nor times are not printed, by MEI elements."""

WITHOUT_NUMBERS = 0.3
"""How often no measure numbers are printed."""


@dataclass(frozen=True)
class VerovioVariety:
    """One house style; the default is Verovio's own on A4."""

    options: Mapping[str, Any] = field(default_factory=dict)
    semitones: int = 0
    left_out: frozenset[str] = frozenset()
    measure_numbers: bool = True
    text_font: str = "Times"

    @property
    def font(self) -> str:
        """The music font."""
        return str(self.options.get("font", FONTS[0]))


PLAIN = VerovioVariety()


def draw_variety(rng: random.Random) -> VerovioVariety:
    """A house style by chance."""
    width = STAFF_SPACE * rng.uniform(*SPACES)
    height = width * rng.choice(PAPERS)
    options: dict[str, Any] = {"pageWidth": round(width), "pageHeight": round(height)}
    for side in ("Left", "Right", "Top", "Bottom"):
        options[f"pageMargin{side}"] = round(width * rng.uniform(*MARGINS))
    options |= {name: round(rng.uniform(*ends), 2) for name, ends in NUMBERS.items()}
    options |= {name: rng.randint(*ends) for name, ends in WHOLE_NUMBERS.items()}
    options |= {name: rng.choice(values) for name, values in CHOICES.items()}
    left_out = [names for names, share in LEFT_OUT.items() if rng.random() < share]
    return VerovioVariety(
        options=options,
        semitones=rng.randint(-5, 6),
        left_out=frozenset(name for names in left_out for name in names),
        measure_numbers=rng.random() >= WITHOUT_NUMBERS,
        text_font=rng.choice(TEXT_FONTS),
    )
