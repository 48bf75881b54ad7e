"""The pages with the road that was taken drawn on them."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from html import escape

import numpy as np
from PIL import Image

from sf_adapters.report.track import ASTRAY, WAITING, Track, at, clock, colour
from sf_plugin.positions import Jump, PageTurn
from sf_plugin.score.layout import Layout, PageLayout
from sf_plugin.score.measures import place_at
from sf_plugin.score.model import PageImage

SMALLEST_STEP = 0.004
"""Page widths between two points of the path on a page."""


def page_figure(
    image: PageImage,
    number: int,
    layout: Layout,
    track: Track,
    turns: Sequence[PageTurn],
    jumps: Sequence[Jump],
    seconds: float,
) -> str:
    height, width = image.shape
    known = next((page for page in layout.pages if page.page == number), None)
    out = [f'<svg viewBox="0 0 {width} {height}" data-page="{number}" aria-hidden="true">']
    for system in known.systems if known else ():
        pad = 0.12 * (system.bottom - system.top)
        for measure in system.measures:
            out.append(
                f'<rect class="measure" x="{measure.left * width:.0f}" '
                f'y="{(system.top - pad) * height:.0f}" '
                f'width="{(measure.right - measure.left) * width:.0f}" '
                f'height="{(system.bottom - system.top + 2 * pad) * height:.0f}">'
                f"<title>measure {escape(measure.label or str(measure.number))}</title></rect>"
            )
    for run in _runs(track, number, known):
        out += _path(run, width, height, seconds)
    for turn in turns:
        here = at(track, turn.time)
        if here is not None and here["page"] == number:
            text = f"page {turn.page} · {clock(turn.time)}"
            out.append(_mark("to-turn", here, width, height, text))
    for jump in jumps:
        here = at(track, jump.time)
        if here is not None and here["page"] == number:
            out.append(_mark("to-jump", here, width, height, f"jump · {clock(jump.time)}"))
    reach = 0.03 * height
    out.append(f'<path class="now" d="M0 {-reach:.0f}V{reach:.0f}"/></svg>')
    mine = track[track["page"] == number]
    caption = f"Page {number}, {clock(mine['time'][0])} to {clock(mine['time'][-1])}"
    return (
        f'<figure class="page card" id="page-{number}"><figcaption>{caption}</figcaption>'
        '<div class="sheet">'
        f'<img alt="page {number}" width="{width}" height="{height}" src="{data_uri(image)}">'
        f"{''.join(out)}</div></figure>"
    )


def data_uri(image: PageImage) -> str:
    """A page as a PNG of 16 grey levels inside a URI."""
    levels = Image.fromarray(image // 16, "P")
    levels.putpalette([level * 17 for level in range(16) for _ in range(3)])
    buffer = io.BytesIO()
    levels.save(buffer, "PNG", bits=4)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _runs(track: Track, number: int, known: PageLayout | None) -> Iterator[Track]:
    """Stretches of the path that stay on one system and go on without a leap."""
    mine = np.flatnonzero((track["page"] == number) & (track["state"] != WAITING))
    if not len(mine):
        return
    path = track[mine]
    rows = np.array([_row(known, float(p["x"]), float(p["y"])) for p in path])
    leaps = np.abs(np.diff(path["x"])) > 0.06
    cuts = (np.diff(mine) != 1) | (np.diff(rows) != 0) | leaps | (np.diff(path["state"]) != 0)
    yield from np.split(path, np.flatnonzero(cuts) + 1)


def _row(known: PageLayout | None, x: float, y: float) -> int:
    place = place_at(known, x, y)
    return place.system if place else 0


def _path(run: Track, width: int, height: int, seconds: float) -> Iterator[str]:
    keep = [0]
    for i in range(1, len(run)):
        if abs(run["x"][i] - run["x"][keep[-1]]) >= SMALLEST_STEP:
            keep.append(i)
    if len(keep) == 1:
        keep.append(len(run) - 1)
    run = run[keep]
    kind = "path astray" if int(run["state"][0]) in ASTRAY else "path"
    start, end = float(run["time"][0]), float(run["time"][-1])
    tone = colour((start + end) / 2 / max(seconds, 1e-6))
    points = " ".join(f"{p['x'] * width:.0f},{p['y'] * height:.0f}" for p in run)
    yield (
        f'<polyline class="{kind}" stroke="{tone}" points="{points}">'
        f"<title>{clock(start)} to {clock(end)}</title></polyline>"
    )


def _mark(kind: str, here: np.void, width: int, height: int, text: str) -> str:
    x, y = float(here["x"]) * width, float(here["y"]) * height
    anchor = "end" if x > 0.5 * width else "start"
    below = -14 if kind == "to-turn" else 24
    return (
        f'<circle class="mark {kind}" cx="{x:.0f}" cy="{y:.0f}" r="8"/>'
        f'<text x="{x:.0f}" y="{y + below:.0f}" text-anchor="{anchor}">{text}</text>'
    )
