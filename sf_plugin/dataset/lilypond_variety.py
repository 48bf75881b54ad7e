"""One draw of how a LilyPond source is engraved: paper, sizes, fonts, key, and what is left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

PAPERS: dict[str, tuple[float, float]] = {
    "a4": (210, 297),
    "letter": (216, 279),
    "b4": (250, 353),
    "legal": (216, 356),
    "concert": (229, 305),
    "a4landscape": (297, 210),
}
"""Width and height in millimetres."""

FONTS = (
    "C059",
    "Nimbus Sans",
    "DejaVu Serif",
    "DejaVu Sans",
    "Liberation Serif",
    "Nimbus Mono PS",
)
BAR_NUMBERS = {
    "none": r"\remove Bar_number_engraver",
    "every bar": r"\override BarNumber.break-visibility = #end-of-line-invisible"
    "\n  barNumberVisibility = #all-bar-numbers-visible",
    "every system": r"\override BarNumber.break-visibility = #begin-of-line-visible",
}


@dataclass(frozen=True)
class LilyPondVariety:
    """How to engrave; None, 0 and True leave a thing as the source says.

    `staff_size` is the height of a staff in points; `margins` are top, bottom, left and right
    in millimetres; `distance` between systems is in staff spaces; `density` multiplies the
    horizontal room of a note; `transposition` is in semitones, and the spelling with the
    fewest sharps or flats is taken.
    """

    paper: str | None = None
    staff_size: float | None = None
    margins: tuple[float, float, float, float] | None = None
    distance: float | None = None
    density: float | None = None
    indent: float | None = None
    ragged_right: bool | None = None
    ragged_bottom: bool | None = None
    systems_per_page: int | None = None
    font: str | None = None
    line_thickness: float | None = None
    bar_numbers: str | None = None
    titles: bool = True
    fingerings: bool = True
    dynamics: bool = True
    slurs: bool = True
    transposition: int = 0

    def milder(self) -> Iterator[LilyPondVariety]:
        """The same with fewer and fewer changes, for a source that breaks under them."""
        mildest = LilyPondVariety(staff_size=self.staff_size)
        lighter = (
            replace(self, transposition=0),
            replace(
                mildest,
                paper=self.paper,
                margins=self.margins,
                font=self.font,
                titles=self.titles,
                line_thickness=self.line_thickness,
            ),
            mildest,
            LilyPondVariety(),
        )
        seen = {self}
        for variety in lighter:
            if variety not in seen:
                seen.add(variety)
                yield variety


def draw_variety(rng: np.random.Generator) -> LilyPondVariety:
    """Draw an engraving's variety."""

    def sometimes(chance: float) -> bool:
        return bool(rng.random() < chance)

    paper = str(rng.choice(list(PAPERS), p=(0.4, 0.28, 0.08, 0.06, 0.1, 0.08)))
    side = float(rng.uniform(8, 22))
    return LilyPondVariety(
        paper=paper,
        staff_size=float(rng.uniform(15.5, 23)) * (1.2 if "landscape" in paper else 1),
        margins=(
            float(rng.uniform(5, 18)),
            float(rng.uniform(5, 18)),
            side,
            float(np.clip(side + rng.normal(0, 3), 6, 25)),
        ),
        distance=float(rng.uniform(8, 18)) if sometimes(0.6) else None,
        density=float(rng.uniform(0.75, 1.5)) if sometimes(0.6) else None,
        indent=float(rng.choice([0, 0, 10, 20])) if sometimes(0.6) else None,
        ragged_right=True if sometimes(0.08) else None,
        ragged_bottom=sometimes(0.5) if sometimes(0.5) else None,
        systems_per_page=int(rng.integers(3, 8)) if sometimes(0.15) else None,
        font=str(rng.choice(FONTS)) if sometimes(0.6) else None,
        line_thickness=float(rng.uniform(0.7, 1.6)) if sometimes(0.6) else None,
        bar_numbers=str(rng.choice(list(BAR_NUMBERS))) if sometimes(0.6) else None,
        titles=not sometimes(0.3),
        fingerings=not sometimes(0.3),
        dynamics=not sometimes(0.2),
        slurs=not sometimes(0.15),
        transposition=int(rng.integers(-5, 7)) if sometimes(0.5) else 0,
    )


def before_source(variety: LilyPondVariety) -> str:
    """LilyPond text to read before the source."""
    lines = []
    if variety.staff_size is not None:
        lines.append(f"#(set-global-staff-size {variety.staff_size:.3f})")
        lines.append("#(define (set-global-staff-size . arguments) *unspecified*)")
    return "\n".join([*lines, after_source(variety), _layout(variety)])


def after_truth(variety: LilyPondVariety) -> str:
    """LilyPond text to read after `truth.ily`."""
    return f"#(define sf-semitones {variety.transposition})\n"


def after_source(variety: LilyPondVariety) -> str:
    """LilyPond text to read after the source, as what comes last counts."""
    lines = []
    if variety.paper is not None:
        lines.append(f'#(set-default-paper-size "{variety.paper}")')
    lines.append("\\paper {")
    if variety.margins is not None:
        top, bottom, left, right = variety.margins
        lines.append(f"  top-margin = {top:.2f}\\mm  bottom-margin = {bottom:.2f}\\mm")
        lines.append(f"  left-margin = {left:.2f}\\mm  right-margin = {right:.2f}\\mm")
        if variety.paper is not None:
            lines.append(f"  line-width = {PAPERS[variety.paper][0] - left - right:.2f}\\mm")
    if variety.distance is not None:
        distance = f"basic-distance = #{variety.distance:.2f}"
        lines.append(f"  system-system-spacing.{distance}")
        lines.append(f"  markup-system-spacing.{distance}")
    if variety.indent is not None:
        lines.append(f"  indent = {variety.indent:.2f}\\mm")
    for name, on in (("right", variety.ragged_right), ("bottom", variety.ragged_bottom)):
        if on is not None:
            lines.append(f"  ragged-{name} = ##{'t' if on else 'f'}")
    if variety.systems_per_page is not None:
        lines.append("  system-count = ##f  page-count = ##f  systems-per-page = ##f")
        lines.append(f"  max-systems-per-page = #{variety.systems_per_page}")
    if variety.font is not None:
        lines.append(f'  property-defaults.fonts.serif = "{variety.font}"')
    if not variety.titles:
        lines.append("  bookTitleMarkup = ##f  scoreTitleMarkup = ##f")
    return "\n".join([*lines, "}", ""])


def _layout(variety: LilyPondVariety) -> str:
    score, voice = [], []
    if variety.density is not None:
        score.append(f"\\override SpacingSpanner.spacing-increment = #{1.2 * variety.density:.3f}")
    if variety.line_thickness is not None:
        score.append(f"\\override StaffSymbol.thickness = #{variety.line_thickness:.3f}")
    if variety.bar_numbers is not None:
        score.append(BAR_NUMBERS[variety.bar_numbers])
    if not variety.fingerings:
        score.append("\\override Fingering.stencil = ##f")
    if not variety.dynamics:
        for grob in ("DynamicText", "Hairpin", "DynamicTextSpanner"):
            score.append(f"\\override {grob}.stencil = ##f")
    if not variety.slurs:
        for grob in ("Slur", "PhrasingSlur"):
            voice.append(f"\\override {grob}.stencil = ##f")
    lines = "\n  ".join([*score, *voice])
    return f"\\layout {{ \\context {{ \\Score\n  {lines}\n}} }}\n"
