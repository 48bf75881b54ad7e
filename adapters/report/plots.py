"""What was recorded, drawn over time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from sf_adapters.report.track import (
    ScoreLine,
    TempoCurve,
    Track,
    Truth,
    astray,
    clock,
    colour,
)
from sf_plugin.positions import Jump, PageTurn

WIDTH = 960
"""Pixels of a plot."""
PLACES, STRIP, TEMPOS = 380, 60, 170
"""Heights of the plot of places, of the strip of confidence below it, and of the tempos."""
LEFT, RIGHT, TOP, GAP, BOTTOM = 46, 12, 12, 14, 26
INNER = WIDTH - LEFT - RIGHT
CLOCK_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 3600, 7200)
PLACE_STEPS = tuple(m * 10**power for power in range(5) for m in (1, 2, 5))
COLOURS = 24
PLOT_POINTS = 3000
"""Points drawn over time at most; more could not be seen."""
OUTLIER = 2.5
"""Times the median tempo, or part of it, beyond which a tempo is drawn at the edge."""


def place_plot(
    line: ScoreLine,
    track: Track,
    turns: Sequence[PageTurn],
    jumps: Sequence[Jump],
    truth: Truth | None,
    seconds: float,
) -> str:
    """The place in the score, and the confidence below it."""
    strip = TOP + PLACES + GAP
    foot = strip + STRIP
    until = max(seconds, 1.0)

    def down(place: float) -> float:
        return TOP + PLACES * (line.end - place) / (line.end - 1)

    out = [_opening(foot, until, f"{line.unit} against time, and confidence")]
    for i, stretch in enumerate(line.stretches):
        top, bottom = down(stretch.last), down(stretch.first)
        if i % 2 == 0:
            out.append(
                f'<rect class="band" x="{LEFT}" y="{top:.1f}" width="{INNER}" '
                f'height="{bottom - top:.1f}"/>'
            )
        if bottom - top > 16:
            out.append(
                f'<text x="{WIDTH - RIGHT - 6}" y="{bottom - 6:.1f}" text-anchor="end">'
                f"page {stretch.page}</text>"
            )
    for value in ticks(1, line.end - 1, 8, PLACE_STEPS):
        out += _level(down(value), f"{value:g}")
    out += _axes(line.unit, TOP + PLACES / 2, foot, until)
    for kind, stay in astray(track):
        x0, x1 = _across(stay.start, until), _across(stay.end, until)
        out.append(
            f'<rect class="{kind}" x="{x0:.1f}" y="{TOP}" width="{max(x1 - x0, 0.8):.1f}" '
            f'height="{foot - TOP}"/>'
        )
    for turn in turns:
        title = f"page {turn.page}, {clock(turn.time)}"
        out.append(_upright("turn", _across(turn.time, until), TOP + PLACES, title))
    for jump in jumps:
        title = f"jump to measure {jump.to_measure}, {clock(jump.time)}"
        out.append(_upright("jump", _across(jump.time, until), TOP + PLACES, title))
    seen = track[:: max(1, -(-len(track) // PLOT_POINTS))]
    places = [line.at(int(p["page"]), float(p["x"]), float(p["y"])) for p in seen]
    for share, piece in _pieces(seen["time"], places, seconds):
        points = " ".join(f"{_across(t, until):.1f},{down(v):.1f}" for t, v in piece)
        out.append(f'<polyline class="path" stroke="{colour(share)}" points="{points}"/>')
    if truth is not None and len(truth):
        places = [line.at(int(page), float(x), float(y)) for _, page, x, y in truth]
        points = " ".join(
            f"{_across(t, until):.1f},{down(v):.1f}"
            for t, v in zip(truth[:, 0], places, strict=True)
            if np.isfinite(v)
        )
        out.append(f'<polyline class="truth" points="{points}"/>')
    points = " ".join(
        f"{_across(p['time'], until):.1f},{strip + STRIP * (1 - float(p['confidence'])):.1f}"
        for p in seen
    )
    out.append(f'<polyline class="confidence" points="{points}"/>')
    out.append(f'<text x="{LEFT - 6}" y="{strip + 9}" text-anchor="end">sure</text>')
    out.append(f'<text x="{LEFT - 6}" y="{strip + STRIP}" text-anchor="end">not</text>')
    return "\n".join([*out, _closing(foot)])


def tempo_plot(curve: TempoCurve, seconds: float) -> str:
    """A step a measure."""
    foot = TOP + TEMPOS
    until = max(seconds, 1.0)
    values = [one.value for one in curve.measures]
    middle = curve.median
    low = max(min(values), middle / OUTLIER) * 0.95
    high = min(max(values), middle * OUTLIER) * 1.05

    def down(value: float) -> float:
        return TOP + TEMPOS * (high - min(max(value, low), high)) / (high - low)

    out = [_opening(foot, until, f"tempo in {curve.unit} a minute against time")]
    for value in ticks(low, high, 5, PLACE_STEPS):
        out += _level(down(value), f"{value:g}")
    out += _axes(f"{curve.unit} / min", TOP + TEMPOS / 2, foot, until)
    out.append(f'<path class="median" d="M{LEFT} {down(middle):.1f}H{WIDTH - RIGHT}"/>')
    step, end = "", -1.0
    for one in curve.measures:
        x0, x1, y = _across(one.start, until), _across(one.end, until), down(one.value)
        step += f"{'L' if one.start == end else 'M'}{x0:.1f} {y:.1f}H{x1:.1f}"
        end = one.end
    out.append(f'<path class="tempo" d="{step}"/>')
    for one in curve.measures:
        x0, x1 = _across(one.start, until), _across(one.end, until)
        out.append(
            f'<rect class="hit" x="{x0:.1f}" y="{TOP}" width="{x1 - x0:.1f}" height="{TEMPOS}">'
            f"<title>measure {one.measure}, {clock(one.start)}: {one.value:.0f}</title></rect>"
        )
    return "\n".join([*out, _closing(foot)])


def _across(time: float, until: float) -> float:
    return LEFT + INNER * float(time) / until


def _opening(foot: float, until: float, what: str) -> str:
    """The beginning of a plot that knows where times stand on it."""
    return (
        f'<svg viewBox="0 0 {WIDTH} {foot + BOTTOM}" role="img" aria-label="{what}" '
        f'data-left="{LEFT}" data-right="{WIDTH - RIGHT}" data-until="{until:.3f}">'
    )


def _closing(foot: float) -> str:
    return f'<path class="now" d="M0 {TOP}V{foot}"/>\n</svg>'


def _level(y: float, text: str) -> Iterator[str]:
    yield f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
    yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'


def _axes(what: str, middle: float, foot: float, until: float) -> Iterator[str]:
    yield (
        f'<text transform="translate(11 {middle}) rotate(-90)" text-anchor="middle">{what}</text>'
    )
    for value in ticks(0, until, 10, CLOCK_STEPS):
        x = _across(value, until)
        yield f'<path class="grid" d="M{x:.1f} {TOP}V{foot}"/>'
        yield f'<text x="{x:.1f}" y="{foot + 17}" text-anchor="middle">{clock(value)}</text>'


def _upright(kind: str, x: float, bottom: float, title: str) -> str:
    return f'<path class="{kind}" d="M{x:.1f} {TOP}V{bottom}"><title>{title}</title></path>'


def ticks(first: float, last: float, most: int, steps: Sequence[int]) -> list[float]:
    """Multiples of the smallest of `steps` that gives at most `most`, from `first` to `last`."""
    wanted = (last - first) / most
    step = next((step for step in steps if step >= wanted), steps[-1])
    return [float(i * step) for i in range(math.ceil(first / step), int(last // step) + 1)]


def _pieces(
    times: NDArray[np.float64], values: Sequence[float], seconds: float
) -> Iterator[tuple[float, list[tuple[float, float]]]]:
    """A line cut where its colour changes; (share of the time, points) that join up."""
    buckets = np.minimum((times / max(seconds, 1e-6) * COLOURS).astype(int), COLOURS - 1)
    line = [(float(t), v) for t, v in zip(times, values, strict=True)]
    for bucket in np.unique(buckets):
        inside = np.flatnonzero(buckets == bucket)
        piece = [p for p in line[inside[0] : inside[-1] + 2] if np.isfinite(p[1])]
        if len(piece) > 1:
            yield bucket / (COLOURS - 1), piece
