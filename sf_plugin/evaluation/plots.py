"""The report's plots as SVG: onsets over time, calibration, and a bar for each piece."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from sf_plugin.evaluation.tables import figure_name

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 12, 40
ROW = 15
"""Pixels of a bar with its gap."""

NAMES = 260
"""Pixels for the names of pieces."""


def hue(index: int, count: int) -> str:
    """A colour for one of `count` conditions."""
    return f"hsl({(210 + 360 * index / max(1, count)) % 360:.0f} 65% 48%)"


def _frame(across: str, up: str, starts: float = 0.0) -> tuple[list[str], Any, Any]:
    """Axes from 0 to 1 across and from `starts` to 1 upwards, and the two scales."""
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(value: float) -> float:
        return round(LEFT + wide * value, 1)

    def y(value: float) -> float:
        return round(TOP + high * (1 - (value - starts) / (1 - starts)), 1)

    out = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{up} by {across}">']
    for step in range(6):
        at = starts + (1 - starts) * step / 5
        out.append(f'<path class="grid" d="M{LEFT} {y(at)}H{WIDTH - RIGHT}"/>')
        out.append(f'<text x="{LEFT - 5}" y="{y(at) + 4}" text-anchor="end">{at:.2g}</text>')
        out.append(f'<text x="{x(step / 5)}" y="{y(starts) + 15}" text-anchor="middle">')
        out.append(f"{step / 5:.2g}</text>")
    out.append(f'<text x="{LEFT + wide / 2}" y="{HEIGHT - 6}" text-anchor="middle">{across}</text>')
    out.append(
        f'<text transform="translate(11 {TOP + high / 2}) rotate(-90)" text-anchor="middle">'
        f"{up}</text>"
    )
    return out, x, y


def over_time(report: dict[str, Any]) -> str:
    """Share of onsets within 0.5 s against the way through the performance."""
    conditions = report["conditions"]
    lowest = min((min(d["over_time"]) for d in conditions.values() if d["onsets"]), default=0)
    starts = 0.8 if lowest >= 0.8 else 0.5 if lowest >= 0.5 else 0.0
    out, x, y = _frame("way through the performance", "onsets within 0.5 s", starts)
    for i, data in enumerate(conditions.values()):
        shares = data["over_time"]
        points = " ".join(
            f"{x((j + 0.5) / len(shares))},{y(share)}" for j, share in enumerate(shares)
        )
        out.append(_line(points, hue(i, len(conditions))))
    return "\n".join([*out, "</svg>"])


def calibration(report: dict[str, Any]) -> str:
    """Share that was right against confidence; on the diagonal the two agree.

    A dot's area is the share of onsets.
    """
    conditions = report["conditions"]
    of = " or ".join(dict.fromkeys(d["calibration"]["of"] for d in conditions.values()))
    out, x, y = _frame("confidence", f"right {of}")
    out.append(f'<path class="diagonal" d="M{x(0)} {y(0)}L{x(1)} {y(1)}"/>')
    for i, data in enumerate(conditions.values()):
        colour = hue(i, len(conditions))
        full = [bin for bin in data["calibration"]["bins"] if bin["onsets"]]
        points = " ".join(f"{x(bin['confidence'])},{y(bin['right'])}" for bin in full)
        out.append(_line(points, colour))
        for bin in full:
            radius = 1.5 + 8 * (bin["onsets"] / data["onsets"]) ** 0.5
            out.append(
                f'<circle cx="{x(bin["confidence"])}" cy="{y(bin["right"])}" r="{radius:.1f}" '
                f'fill="{colour}"><title>{bin["onsets"]} onsets</title></circle>'
            )
    return "\n".join([*out, "</svg>"])


def bars(report: dict[str, Any], figure: str = "within_0.5s") -> str:
    """One figure of every piece, the worst first, a bar for each condition."""
    conditions = list(report["conditions"])
    by_piece: dict[str, dict[str, float]] = {}
    for row in report["by_piece"]:
        by_piece.setdefault(row["piece"], {})[row["condition"]] = row[figure]
    order = sorted(by_piece, key=lambda piece: (min(by_piece[piece].values()), piece))
    bar = max(3.0, (ROW - 3) / max(1, len(conditions)))
    row_height = max(ROW, bar * len(conditions) + 3)
    high = TOP + row_height * len(order) + BOTTOM
    wide = 2 * WIDTH - NAMES - RIGHT
    out = [
        f'<svg viewBox="0 0 {2 * WIDTH} {high:.0f}" role="img" '
        f'aria-label="{figure_name(figure)} of each piece">'
    ]
    for step in range(6):
        x = NAMES + wide * step / 5
        out.append(f'<path class="grid" d="M{x:.1f} {TOP}V{high - BOTTOM:.1f}"/>')
        out.append(f'<text x="{x:.1f}" y="{high - BOTTOM + 15:.1f}" text-anchor="middle">')
        out.append(f"{step / 5:.1f}</text>")
    for i, piece in enumerate(order):
        top = TOP + row_height * i
        out.append(
            f'<text x="{NAMES - 6}" y="{top + row_height / 2 + 4:.1f}" text-anchor="end">'
            f"{escape(_short(piece))}<title>{escape(piece)}</title></text>"
        )
        for j, condition in enumerate(conditions):
            if condition in by_piece[piece]:
                value = by_piece[piece][condition]
                out.append(
                    f'<rect x="{NAMES}" y="{top + bar * j:.1f}" width="{wide * value:.1f}" '
                    f'height="{bar:.1f}" fill="{hue(j, len(conditions))}">'
                    f"<title>{escape(condition)}: {value:.3f}</title></rect>"
                )
    out.append(f'<text x="{NAMES + wide / 2}" y="{high - 6:.0f}" text-anchor="middle">')
    out.append(f"share of onsets {figure_name(figure)}</text></svg>")
    return "\n".join(out)


def key(names: Sequence[str]) -> str:
    """Which colour is which condition, as HTML."""
    return "".join(
        f'<span><i style="background:{hue(i, len(names))}"></i>{escape(name)}</span>'
        for i, name in enumerate(names)
    )


def _line(points: str, colour: str) -> str:
    return f'<polyline class="line" stroke="{colour}" points="{points}"/>'


def _short(piece: str, most: int = 40) -> str:
    return piece if len(piece) <= most else f"{piece[: most // 2 - 1]}…{piece[-most // 2 :]}"
