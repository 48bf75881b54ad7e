"""What a session did, as one HTML page that needs nothing else: `--html FILE`.

The page shows the score with the follower's path on it, its place over time, and how
sure it was; with the truth also how right.
"""

from __future__ import annotations

import base64
import io
import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sf_plugin.errors import SinkError
from sf_plugin.hookspecs import RegisterSink, hookimpl
from sf_plugin.positions import STATES, Event, Jump, PageTurn, Position
from sf_plugin.score.layout import Layout, PageLayout
from sf_plugin.score.measures import place_at
from sf_plugin.score.model import PageImage, Score
from sf_plugin.sinks import Sink

TRACK = np.dtype(
    [
        ("time", "f8"),
        ("page", "i4"),
        ("x", "f4"),
        ("y", "f4"),
        ("confidence", "f4"),
        ("state", "i1"),
    ]
)
"""One row a position; `state` is an index into `STATES`."""

Track = NDArray[np.void]
Truth = NDArray[np.float64]
"""(onsets, 4): time, page, x, y in order of time."""

ASTRAY = (STATES.index("lost"), STATES.index("unsure"))
LOST, UNSURE = ASTRAY
WAITING = STATES.index("waiting")

WIDTH, HEIGHT, STRIP = 960, 380, 60
"""Pixels of the plot, and the height of the strip of confidence below it."""
LEFT, RIGHT, TOP, GAP, BOTTOM = 46, 12, 12, 14, 26
CLOCK_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 3600, 7200)
PLACE_STEPS = tuple(m * 10**power for power in range(5) for m in (1, 2, 5))
COLOURS = 24
PLOT_POINTS = 3000
"""Points drawn over time at most; more could not be seen."""
SMALLEST_STEP = 0.004
"""Page widths between two points of the path on a page."""


@hookimpl
def register_sinks(register: RegisterSink) -> None:
    """`--html`."""
    register("html", Report, help="write a report to look at in a browser", metavar="FILE")


class Recorder(Sink):
    """Keeps what a report needs, about 25 bytes a position."""

    def __init__(self) -> None:
        self.score: Score | None = None
        self.layout = Layout(())
        self.turns: list[PageTurn] = []
        self.jumps: list[Jump] = []
        self._numbers = array("d")
        self._places = array("f")
        self._counts = array("i")

    def open(self, score: Score, layout: Layout) -> None:
        self.score, self.layout = score, layout

    def extend(self, layout: Layout) -> None:
        self.layout = layout

    def emit(self, event: Event) -> None:
        match event:
            case Position():
                self._numbers.append(event.time)
                self._places.extend((event.x, event.y, event.confidence))
                self._counts.extend((event.page, STATES.index(event.state)))
            case PageTurn(half=False):
                self.turns.append(event)
            case Jump():
                self.jumps.append(event)

    @property
    def track(self) -> Track:
        """The positions so far, (n,) of `TRACK`."""
        out = np.zeros(len(self._numbers), TRACK)
        out["time"] = self._numbers
        places = np.array(self._places, "f4").reshape(-1, 3)
        counts = np.array(self._counts, "i4").reshape(-1, 2)
        out["x"], out["y"], out["confidence"] = places.T
        out["page"], out["state"] = counts.T
        return out

    def report(
        self,
        truth: Truth | None = None,
        facts: Sequence[tuple[str, str]] = (),
        ruler: Layout | None = None,
    ) -> str:
        """The HTML page of what was recorded; see `build_report`."""
        if self.score is None:
            raise ValueError("nothing was recorded")
        track, turns, jumps = self.track, self.turns, self.jumps
        return build_report(self.score, self.layout, track, turns, jumps, truth, facts, ruler)


class Report(Recorder):
    """Writes the report when the session ends, also when it is cut short.

    The file gets its name when it is whole; without any position there is none.
    """

    def __init__(self, target: str) -> None:
        super().__init__()
        self.path = Path(target)
        self._part: Path | None = None

    def open(self, score: Score, layout: Layout) -> None:
        super().open(score, layout)
        if self.path.is_dir():
            raise SinkError(f"{self.path}: is a folder: name a file in it")
        part = Path(f"{self.path.resolve()}.part")
        try:
            part.touch()
        except OSError as error:
            raise SinkError(
                f"{self.path}: cannot be written: {error.strerror}: choose another place"
            ) from None
        self._part = part

    def close(self) -> None:
        part, self._part = self._part, None
        if part is None:
            return
        try:
            if self._numbers:
                part.write_text(self.report(), encoding="utf-8")
                part.replace(self.path)
        except OSError as error:
            raise SinkError(f"{self.path}: cannot be written: {error.strerror}") from None
        finally:
            part.unlink(missing_ok=True)


def build_report(
    score: Score,
    layout: Layout,
    track: Track,
    turns: Sequence[PageTurn] = (),
    jumps: Sequence[Jump] = (),
    truth: Truth | None = None,
    facts: Sequence[tuple[str, str]] = (),
    ruler: Layout | None = None,
) -> str:
    """One self-contained HTML page about a performance.

    Args:
        score: the document; its pages are read one at a time.
        layout: systems and measures as the follower saw them.
        track: (n,) of `TRACK`, in order of time.
        turns: the pages turned.
        jumps: the jumps told.
        truth: (onsets, 4) true time, page, x and y; drawn beside the follower's path.
        facts: (what, value) pairs to show first.
        ruler: the layout that places are measured by over time; `layout` by default.
    """
    line = ScoreLine(ruler or layout)
    seconds = float(track["time"][-1]) if len(track) else 0.0
    rows = [*facts, *_plain_facts(track, turns, jumps)]
    key = ['<span><i style="color:var(--good)"></i>page turned</span>'] if turns else []
    key += ['<span><i style="color:var(--bad)"></i>jump</span>'] if jumps else []
    key += ['<span><i style="color:var(--truth)"></i>the truth</span>'] if truth is not None else []
    ramp = ", ".join(colour(i / 6) for i in range(7))
    pages = [
        _page(score.pages[number - 1], number, layout, track, turns, jumps, seconds)
        for number in sorted({int(page) for page in np.unique(track["page"])})
        if 1 <= number <= len(score.pages)
    ]
    template = Template(Path(__file__).with_name("report.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(score.name),
        subtitle=f"{clock(seconds)} followed through {len(score.pages)} "
        f"page{'' if len(score.pages) == 1 else 's'}",
        ramp=f"linear-gradient(90deg, {ramp})",
        facts="\n".join(
            f"<div><dt>{escape(what)}</dt><dd>{escape(value)}</dd></div>" for what, value in rows
        ),
        plot=_plot(line, track, turns, jumps, truth, seconds),
        key="".join(key),
        pages="\n".join(pages),
    )


def clock(seconds: float) -> str:
    """Minutes and seconds, such as "1:05"."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"


def colour(share: float) -> str:
    """From blue at 0 through magenta to orange at 1."""
    return f"hsl({(225 + 170 * min(max(share, 0.0), 1.0)) % 360:.0f} 85% 52%)"


@dataclass(frozen=True)
class _Stretch:
    page: int
    first: float
    last: float


class ScoreLine:
    """The document as one line: measures where the layout has them, else systems."""

    def __init__(self, layout: Layout) -> None:
        self._pages = {page.page: page for page in layout.pages}
        systems = [system for page in layout.pages for system in page.systems]
        self.unit = "measure" if systems and all(s.measures for s in systems) else "system"
        self.stretches: list[_Stretch] = []
        self._before: dict[int, int] = {}
        end = 1.0
        count = 0
        for page in layout.pages:
            self._before[page.page] = count
            count += len(page.systems)
            start = end
            for system in page.systems:
                end += len(system.measures) if self.unit == "measure" else 1
            if end > start:
                self.stretches.append(_Stretch(page.page, start, end))
        self.end = max(end, 2.0)

    def at(self, page: int, x: float, y: float) -> float:
        """The place counted from 1.0; NaN off the layout."""
        known = self._pages.get(page)
        place = place_at(known, x, y)
        if known is None or place is None:
            return float("nan")
        if self.unit == "measure" and place.measure is not None:
            return place.measure.number + place.inside
        system = known.systems[place.system - 1]
        inside = (x - system.left) / max(system.right - system.left, 1e-6)
        return self._before[page] + place.system + min(max(inside, 0.0), 1.0)


def _plain_facts(
    track: Track, turns: Sequence[PageTurn], jumps: Sequence[Jump]
) -> list[tuple[str, str]]:
    heard = track[track["state"] != WAITING]
    sure = float((~np.isin(heard["state"], ASTRAY)).mean()) if len(heard) else 0.0
    confidence = float(heard["confidence"].mean()) if len(heard) else 0.0
    return [
        ("sure of the place", f"{sure:.1%} of the time"),
        ("mean confidence", f"{confidence:.2f}"),
        ("page turns at", ", ".join(clock(turn.time) for turn in turns) or "none"),
        ("jumps told", str(len(jumps)) if jumps else "none"),
    ]


# the place over time


def _plot(
    line: ScoreLine,
    track: Track,
    turns: Sequence[PageTurn],
    jumps: Sequence[Jump],
    truth: Truth | None,
    seconds: float,
) -> str:
    width = WIDTH - LEFT - RIGHT
    strip = TOP + HEIGHT + GAP
    until = max(seconds, 1.0)

    def across(time: float) -> float:
        return LEFT + width * time / until

    def down(place: float) -> float:
        return TOP + HEIGHT * (line.end - place) / (line.end - 1)

    out = [
        f'<svg viewBox="0 0 {WIDTH} {strip + STRIP + BOTTOM}" role="img" '
        f'aria-label="{line.unit} against time, and confidence">'
    ]
    for i, stretch in enumerate(line.stretches):
        top, bottom = down(stretch.last), down(stretch.first)
        if i % 2 == 0:
            out.append(
                f'<rect class="band" x="{LEFT}" y="{top:.1f}" width="{width}" '
                f'height="{bottom - top:.1f}"/>'
            )
        if bottom - top > 16:
            out.append(
                f'<text x="{WIDTH - RIGHT - 6}" y="{bottom - 6:.1f}" text-anchor="end">'
                f"page {stretch.page}</text>"
            )
    for value in ticks(1, line.end - 1, 8, PLACE_STEPS):
        y = down(value)
        out.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        out.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    out.append(
        f'<text transform="translate(11 {TOP + HEIGHT / 2}) rotate(-90)" text-anchor="middle">'
        f"{line.unit}</text>"
    )
    for value in ticks(0, until, 10, CLOCK_STEPS):
        x = across(value)
        out.append(f'<path class="grid" d="M{x:.1f} {TOP}V{strip + STRIP}"/>')
        out.append(
            f'<text x="{x:.1f}" y="{strip + STRIP + 17}" text-anchor="middle">{clock(value)}</text>'
        )
    for kind, start, end in _astray(track):
        x0, x1 = across(start), across(end)
        out.append(
            f'<rect class="{kind}" x="{x0:.1f}" y="{TOP}" width="{max(x1 - x0, 0.8):.1f}" '
            f'height="{strip + STRIP - TOP}"/>'
        )
    for turn in turns:
        out.append(_upright("turn", across(turn.time), f"page {turn.page}, {clock(turn.time)}"))
    for jump in jumps:
        what = f"jump to measure {jump.to_measure}, {clock(jump.time)}"
        out.append(_upright("jump", across(jump.time), what))
    seen = track[:: max(1, -(-len(track) // PLOT_POINTS))]
    places = [line.at(int(p["page"]), float(p["x"]), float(p["y"])) for p in seen]
    for share, piece in _pieces(seen["time"], places, seconds):
        points = " ".join(f"{across(t):.1f},{down(v):.1f}" for t, v in piece)
        out.append(f'<polyline class="path" stroke="{colour(share)}" points="{points}"/>')
    if truth is not None and len(truth):
        places = [line.at(int(page), float(x), float(y)) for _, page, x, y in truth]
        points = " ".join(
            f"{across(t):.1f},{down(v):.1f}"
            for t, v in zip(truth[:, 0], places, strict=True)
            if np.isfinite(v)
        )
        out.append(f'<polyline class="truth" points="{points}"/>')
    points = " ".join(
        f"{across(p['time']):.1f},{strip + STRIP * (1 - float(p['confidence'])):.1f}" for p in seen
    )
    out.append(f'<polyline class="confidence" points="{points}"/>')
    out.append(f'<text x="{LEFT - 6}" y="{strip + 9}" text-anchor="end">sure</text>')
    out.append(f'<text x="{LEFT - 6}" y="{strip + STRIP}" text-anchor="end">not</text>')
    return "\n".join([*out, "</svg>"])


def _upright(kind: str, x: float, title: str) -> str:
    return f'<path class="{kind}" d="M{x:.1f} {TOP}V{TOP + HEIGHT}"><title>{title}</title></path>'


def ticks(first: float, last: float, most: int, steps: Sequence[int]) -> list[float]:
    """Multiples of the smallest of `steps` that gives at most `most`, from `first` to `last`."""
    wanted = (last - first) / most
    step = next((step for step in steps if step >= wanted), steps[-1])
    return [float(i * step) for i in range(math.ceil(first / step), int(last // step) + 1)]


def _astray(track: Track) -> Iterator[tuple[str, float, float]]:
    """("lost" or "unsure", from, to) in seconds."""
    edges = np.flatnonzero(np.diff(track["state"])) + 1
    for part in np.split(np.arange(len(track)), edges):
        if len(part) and int(track["state"][part[0]]) in ASTRAY:
            after = min(int(part[-1]) + 1, len(track) - 1)
            name = STATES[int(track["state"][part[0]])]
            yield name, float(track["time"][part[0]]), float(track["time"][after])


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


# the pages


def _page(
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
    out = [f'<svg viewBox="0 0 {width} {height}" aria-hidden="true">']
    for system in known.systems if known else ():
        pad = 0.12 * (system.bottom - system.top)
        for measure in system.measures:
            out.append(
                f'<rect class="measure" x="{measure.left * width:.0f}" '
                f'y="{(system.top - pad) * height:.0f}" '
                f'width="{(measure.right - measure.left) * width:.0f}" '
                f'height="{(system.bottom - system.top + 2 * pad) * height:.0f}">'
                f"<title>measure {measure.label or measure.number}</title></rect>"
            )
    for run in _runs(track, number, known):
        out += _path(run, width, height, seconds)
    for turn in turns:
        here = _at(track, turn.time)
        if here is not None and here["page"] == number:
            text = f"page {turn.page} · {clock(turn.time)}"
            out.append(_mark("to-turn", here, width, height, text))
    for jump in jumps:
        here = _at(track, jump.time)
        if here is not None and here["page"] == number:
            out.append(_mark("to-jump", here, width, height, f"jump · {clock(jump.time)}"))
    out.append("</svg>")
    mine = track[track["page"] == number]
    caption = f"Page {number}, {clock(mine['time'][0])} to {clock(mine['time'][-1])}"
    return (
        f'<figure class="page card"><figcaption>{caption}</figcaption><div class="sheet">'
        f'<img alt="page {number}" width="{width}" height="{height}" src="{data_uri(image)}">'
        f"{''.join(out)}</div></figure>"
    )


def data_uri(image: PageImage) -> str:
    """A page as a PNG of 16 grey levels inside a URI."""
    levels = Image.fromarray(image // 16, "P")
    levels.putpalette([level * 17 for level in range(16) for _ in range(3)])
    buffer = io.BytesIO()
    levels.save(buffer, "PNG", optimize=True, bits=4)
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


def _at(track: Track, time: float) -> np.void | None:
    """The position of an event told at `time`."""
    if not len(track):
        return None
    after = int(np.searchsorted(track["time"], time, side="right"))
    row: np.void = track[max(after - 1, 0)]
    return row


def _mark(kind: str, here: np.void, width: int, height: int, text: str) -> str:
    x, y = float(here["x"]) * width, float(here["y"]) * height
    anchor = "end" if x > 0.5 * width else "start"
    below = -14 if kind == "to-turn" else 24
    return (
        f'<circle class="mark {kind}" cx="{x:.0f}" cy="{y:.0f}" r="8"/>'
        f'<text x="{x:.0f}" y="{y + below:.0f}" text-anchor="{anchor}">{text}</text>'
    )
