"""The report as one HTML page that needs nothing else, with the worst cases on their pages."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from PIL import Image

from sf_plugin.evaluation import plots
from sf_plugin.evaluation.cases import Case
from sf_plugin.evaluation.following import Outcome
from sf_plugin.evaluation.tables import Rows, facts, tables
from sf_plugin.positions import STATES
from sf_plugin.score.model import PageImage

WORST = 6
"""Cases that are drawn."""

PAGES = 2
"""Pages of each that are drawn: those with most onsets wrong by more than `WRONG` seconds."""

WRONG = 0.5
SHOWN_WIDTH = 720
"""Pixels of a page in the report."""

LEAP = 0.08
"""Page widths from which on the path is drawn as broken off."""

STYLE = """
:root { color-scheme: light dark; --ground: #faf9f7; --card: #fff; --ink: #23211f; --soft: #6b675f;
  --line: #dcd8d0; --truth: #2d9a5b; --path: #2c66c4; --bad: #d33b3b; }
@media (prefers-color-scheme: dark) { :root { --ground: #161615; --card: #201f1e; --ink: #ebe8e1;
  --soft: #a19d94; --line: #3a3835; } .sheet img { filter: invert(.88); } }
body { margin: 0 auto; padding: 1.2rem 1.4rem 3rem; max-width: 78rem; background: var(--ground);
  color: var(--ink); font: 16px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 1.8rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; overflow-wrap: anywhere; }
p, li, figcaption { color: var(--soft); }
.scroll { overflow-x: auto; margin-bottom: 1rem; }
table { border-collapse: collapse; background: var(--card); font-size: .9rem; }
th, td { border: 1px solid var(--line); padding: .25rem .6rem; text-align: right;
  font-variant-numeric: tabular-nums; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
.plots { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(22rem, 1fr)); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: .6rem; margin: 0 0 1rem; }
.card > svg { display: block; width: 100%; height: auto; }
svg text { font: 11px system-ui, sans-serif; fill: var(--soft); }
.grid { stroke: var(--line); } .diagonal { stroke: var(--soft); stroke-dasharray: 4 4; }
.line { fill: none; stroke-width: 2; }
.key { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .85rem; margin: .5rem 0; }
.key i { display: inline-block; width: .8rem; height: .8rem; border-radius: 3px;
  margin-right: .35rem; vertical-align: -.1rem; }
.pages { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(24rem, 1fr)); }
.sheet { position: relative; line-height: 0; } .sheet img { width: 100%; height: auto; }
.sheet svg { position: absolute; inset: 0; width: 100%; height: 100%; }
.sheet .path { fill: none; stroke: var(--path); stroke-width: 4; opacity: .55; }
.sheet .astray { stroke: var(--bad); }
.sheet .truth { fill: var(--truth); } .sheet .wrong { fill: var(--bad); }
.sheet .off { stroke: var(--bad); stroke-width: 1.2; opacity: .6; }
"""


@dataclass(frozen=True)
class Drawn:
    """A case to draw with how it was followed."""

    case: Case
    outcome: Outcome


def worst(outcomes: Sequence[Outcome], most: int = WORST) -> list[int]:
    """The indices of the outcomes with the smallest share of onsets within `WRONG` seconds.

    Those of which nothing is wrong are left out, and those without onsets.
    """
    near = [outcome.answers.error <= WRONG for outcome in outcomes]
    shares = [float(right.mean()) if len(right) else 1.0 for right in near]
    order = sorted(range(len(outcomes)), key=lambda i: (shares[i], outcomes[i].case))
    return [i for i in order if shares[i] < 1][:most]


def html(report: dict[str, Any], drawn: Sequence[Drawn]) -> str:
    """The page: tables, plots and the drawn cases."""
    title = f"{report.get('follower', 'follower')}, {report['protocol']}"
    names = list(report["conditions"])
    figures = [data["figures"] for data in report["conditions"].values() if data["onsets"]]
    finest = "measure" if figures and "measure" in figures[0] else "system"
    key = f'<p class="key">{plots.key(names)}</p>'
    body = [
        f"<h1>{escape(title)}</h1>",
        "<ul>" + "".join(f"<li>{escape(fact)}</li>" for fact in facts(report)) + "</ul>",
        "<h2>Figures</h2>",
        *map(_table, tables(report)),
        "<h2>Over time, and how much confidence means</h2>" + key,
        '<div class="plots">'
        f'<div class="card">{plots.over_time(report)}</div>'
        f'<div class="card">{plots.calibration(report)}</div></div>',
        "<h2>Pieces</h2>" + key,
        f'<div class="card">{plots.bars(report)}</div>',
        f'<div class="card">{plots.bars(report, finest)}</div>',
    ]
    if drawn:
        body.append(
            "<h2>The worst cases</h2><p>Green: the true place of each onset answered within "
            f"{WRONG:g} s. Red: of each that was not, with a line to where the follower was then. "
            "Blue: the follower's path, red while it was unsure or lost.</p>"
        )
        body += [_case(one) for one in drawn]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _table(table: Rows) -> str:
    head, rows = table
    lines = ["".join(f"<th>{escape(cell)}</th>" for cell in head)]
    lines += ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll"><table>{body}</table></div>'


def _case(one: Drawn) -> str:
    truth, error = one.case.truth, one.outcome.answers.error
    wrong = error > WRONG
    lost = _astray(one.outcome)
    where = ", ".join(f"{start:.0f} to {end:.0f} s" for start, end in lost[:8]) or "never"
    numbers = np.unique(truth.page)
    count = np.array([wrong[truth.page == number].sum() for number in numbers])
    chosen = sorted(numbers[np.argsort(-count, kind="stable")[:PAGES]].tolist())
    pages = "".join(_page(one, number, wrong) for number in chosen)
    return (
        f"<h3>{escape(one.case.name)}</h3><p>{int((~wrong).sum())} of {len(wrong)} onsets within "
        f"{WRONG:g} s; unsure or lost: {where}</p>"
        f'<div class="pages">{pages}</div>'
    )


def _astray(outcome: Outcome) -> list[tuple[float, float]]:
    """From and to, in seconds, where the follower was unsure or lost."""
    track = outcome.track
    if not len(track):
        return []
    astray = np.isin(track["state"], (STATES.index("unsure"), STATES.index("lost")))
    edges = np.flatnonzero(np.diff(astray)) + 1
    parts = np.split(np.arange(len(track)), edges)
    return [
        (float(track["time"][part[0]]), float(track["time"][part[-1]]))
        for part in parts
        if astray[part[0]]
    ]


def _page(one: Drawn, number: int, wrong: np.ndarray) -> str:
    truth, track = one.case.truth, one.outcome.track
    image = one.case.score.pages[number - 1]
    height, width = image.shape
    out = [f'<svg viewBox="0 0 {width} {height}">']
    for points, astray in strokes(track[track["page"] == number]):
        at = " ".join(f"{x * width:.0f},{y * height:.0f}" for x, y in points)
        out.append(f'<polyline class="path{" astray" if astray else ""}" points="{at}"/>')
    said = np.searchsorted(track["time"], truth.time, side="right") - 1
    for i in np.flatnonzero(truth.page == number).tolist():
        x = float(truth.x[i]) * width
        y = truth.system_centres[number][int(truth.system[i]) - 1] * height
        kind = "wrong" if wrong[i] else "truth"
        if wrong[i] and said[i] >= 0 and track["page"][said[i]] == number:
            there = track[said[i]]
            out.append(
                f'<path class="off" d="M{x:.0f} {y:.0f}L{there["x"] * width:.0f} '
                f'{there["y"] * height:.0f}"/>'
            )
        out.append(
            f'<circle class="{kind}" cx="{x:.0f}" cy="{y:.0f}" r="3.5">'
            f"<title>{truth.time[i]:.1f} s</title></circle>"
        )
    return (
        f'<figure class="card"><div class="sheet">{_picture(image)}{"".join(out)}</svg></div>'
        f"<figcaption>page {number}</figcaption></figure>"
    )


def strokes(track: np.ndarray) -> list[tuple[list[tuple[float, float]], bool]]:
    """The path on a page in strokes that neither leap nor change between sure and astray."""
    if not len(track):
        return []
    astray = np.isin(track["state"], (STATES.index("unsure"), STATES.index("lost")))
    leaps = np.abs(np.diff(track["x"])) + np.abs(np.diff(track["y"])) > LEAP
    cuts = np.flatnonzero(leaps | (np.diff(track["time"]) > 1) | np.diff(astray)) + 1
    return [
        ([(float(p["x"]), float(p["y"])) for p in track[part]], bool(astray[part[0]]))
        for part in np.split(np.arange(len(track)), cuts)
    ]


def _picture(image: PageImage) -> str:
    picture = Image.fromarray(image)
    picture.thumbnail((SHOWN_WIDTH, SHOWN_WIDTH * image.shape[0] // image.shape[1] + 1))
    file = io.BytesIO()
    picture.quantize(16).save(file, "PNG", optimize=True)
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="" src="data:image/png;base64,{data}">'
