"""What a session did, as one HTML page that needs nothing else: `--html FILE`.

The page shows the score with the follower's path on it, its place and the tempo over
time, how sure it was, and where it was lost; with the truth also how right.  Where a
file was followed, it can be heard, and a cursor shows where the music is.
"""

from __future__ import annotations

import base64
import json
import os
from array import array
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from string import Template
from urllib.parse import quote

import numpy as np

from sf_adapters.report.pages import data_uri, page_figure
from sf_adapters.report.plots import place_plot, tempo_plot
from sf_adapters.report.track import (
    ASTRAY,
    TRACK,
    WAITING,
    ScoreLine,
    Stay,
    TempoCurve,
    Track,
    Truth,
    astray,
    at,
    clock,
    colour,
    tempo_curve,
    time_link,
)
from sf_plugin.errors import SinkError
from sf_plugin.hookspecs import RegisterSink, hookimpl
from sf_plugin.positions import STATES, Action, Control, Event, Jump, PageTurn, Position
from sf_plugin.score.layout import Layout
from sf_plugin.score.model import Score
from sf_plugin.sinks import Sink

__all__ = ["Recorder", "Report", "build_report", "data_uri"]

EMBEDDED = 4_000_000
"""Bytes of the largest recording that is put into the page; a larger one stays where it is."""
SOUNDS = {
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".oga": "audio/ogg",
    ".opus": "audio/ogg",
    ".flac": "audio/flac",
    ".m4a": "audio/mp4",
    ".aac": "audio/aac",
    ".webm": "audio/webm",
}
"""What browsers play."""

WISHES: dict[Action, str] = {
    "show": "{} shown",
    "goto": "sent to {}",
    "reset": "begun anew",
    "pause": "paused",
    "resume": "resumed",
    "stop": "stopped",
}

NOTICED = 1.0
"""Seconds for which the place must be unsure to be listed."""
MOST_ROWS = 200
CURSOR_POINTS = 20_000
"""Places that the cursor knows at most."""


@hookimpl
def register_sinks(register: RegisterSink) -> None:
    """`--html`."""
    register("html", Report, help="write a report to look at in a browser", metavar="FILE")


class Recorder(Sink):
    """Keeps what a report needs, about 40 bytes a position."""

    def __init__(self) -> None:
        self.score: Score | None = None
        self.layout = Layout(())
        self.turns: list[PageTurn] = []
        self.jumps: list[Jump] = []
        self.controls: list[Control] = []
        self.recording: Path | None = None
        self._numbers = array("d")
        self._places = array("f")
        self._counts = array("i")

    def with_sound(self, path: Path) -> None:
        """The recording that is followed, to be heard with the report."""
        self.recording = path

    def open(self, score: Score, layout: Layout) -> None:
        self.score, self.layout = score, layout

    def extend(self, layout: Layout) -> None:
        self.layout = layout

    def emit(self, event: Event) -> None:
        match event:
            case Position():
                self._numbers.append(event.time)
                self._places.extend((event.x, event.y, event.confidence))
                state = STATES.index(event.state)
                self._counts.extend((event.page, state, event.measure or 0, event.pass_))
            case PageTurn(half=False):
                self.turns.append(event)
            case Jump():
                self.jumps.append(event)
            case Control():
                self.controls.append(event)

    @property
    def track(self) -> Track:
        """The positions so far, (n,) of `TRACK`."""
        out = np.zeros(len(self._numbers), TRACK)
        out["time"] = self._numbers
        places = np.array(self._places, "f4").reshape(-1, 3)
        counts = np.array(self._counts, "i4").reshape(-1, 4)
        out["x"], out["y"], out["confidence"] = places.T
        out["page"], out["state"], out["measure"], out["pass"] = counts.T
        return out

    def report(
        self,
        truth: Truth | None = None,
        facts: Sequence[tuple[str, str]] = (),
        ruler: Layout | None = None,
        beside: Path = Path(),
    ) -> str:
        """The HTML page of what was recorded; see `build_report`.

        `beside` is the folder where the page will be.
        """
        if self.score is None:
            raise ValueError("nothing was recorded")
        return build_report(
            self.score,
            self.layout,
            self.track,
            self.turns,
            self.jumps,
            truth,
            facts,
            ruler,
            self.controls,
            "" if self.recording is None else sound_source(self.recording, beside),
        )


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
                part.write_text(self.report(beside=part.parent), encoding="utf-8")
                part.replace(self.path)
        except OSError as error:
            raise SinkError(f"{self.path}: cannot be written: {error.strerror}") from None
        finally:
            part.unlink(missing_ok=True)


def sound_source(recording: Path, beside: Path) -> str:
    """A recording as a browser finds it: inside the page if it is small, else by its place."""
    try:
        if recording.stat().st_size <= EMBEDDED and recording.suffix.lower() in SOUNDS:
            kind = SOUNDS[recording.suffix.lower()]
            return f"data:{kind};base64," + base64.b64encode(recording.read_bytes()).decode()
        return quote(Path(os.path.relpath(recording.resolve(), beside.resolve())).as_posix())
    except (OSError, ValueError):
        return ""


def build_report(
    score: Score,
    layout: Layout,
    track: Track,
    turns: Sequence[PageTurn] = (),
    jumps: Sequence[Jump] = (),
    truth: Truth | None = None,
    facts: Sequence[tuple[str, str]] = (),
    ruler: Layout | None = None,
    controls: Sequence[Control] = (),
    sound: str = "",
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
        controls: what the player wished.
        sound: where a browser finds the recording; there is no player without one.
    """
    line = ScoreLine(ruler or layout)
    seconds = float(track["time"][-1]) if len(track) else 0.0
    curve = tempo_curve(track, layout)
    rows = [*facts, *_plain_facts(track, turns, jumps, curve)]
    key = ['<span><i style="color:var(--good)"></i>page turned</span>'] if turns else []
    key += ['<span><i style="color:var(--bad)"></i>jump</span>'] if jumps else []
    key += ['<span><i style="color:var(--truth)"></i>the truth</span>'] if truth is not None else []
    ramp = ", ".join(colour(i / 6) for i in range(7))
    pages = [
        page_figure(score.pages[number - 1], number, layout, track, turns, jumps, seconds)
        for number in sorted({int(page) for page in np.unique(track["page"])})
        if 1 <= number <= len(score.pages)
    ]
    folder = Path(__file__).parent
    template = Template((folder / "report.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(score.name),
        subtitle=f"{clock(seconds)} followed through {len(score.pages)} "
        f"page{'' if len(score.pages) == 1 else 's'}",
        ramp=f"linear-gradient(90deg, {ramp})",
        player=_player(sound, seconds),
        facts="\n".join(
            f"<div><dt>{escape(what)}</dt><dd>{escape(value)}</dd></div>" for what, value in rows
        ),
        plot=place_plot(line, track, turns, jumps, truth, seconds),
        key="".join(key),
        tempo=_section("Tempo", "plot", tempo_plot(curve, seconds)) if curve.measures else "",
        lost=_section("Where it was unsure", "table", _table(_astray_rows(track))),
        told=_section(
            "Page turns and jumps", "table", _table(_told_rows(track, turns, jumps, controls))
        ),
        pages="\n".join(pages),
        track=json.dumps(_cursor(track), separators=(",", ":")),
        script=(folder / "report.js").read_text(encoding="utf-8"),
    )


def _plain_facts(
    track: Track, turns: Sequence[PageTurn], jumps: Sequence[Jump], curve: TempoCurve
) -> list[tuple[str, str]]:
    heard = track[track["state"] != WAITING]
    sure = float((~np.isin(heard["state"], ASTRAY)).mean()) if len(heard) else 0.0
    confidence = float(heard["confidence"].mean()) if len(heard) else 0.0
    lost = [stay.end - stay.start for kind, stay in astray(track) if kind == "lost"]
    times = "once" if len(lost) == 1 else f"{len(lost)} times"
    facts = [
        ("sure of the place", f"{sure:.1%} of the time"),
        ("mean confidence", f"{confidence:.2f}"),
        ("lost", f"{times}, {sum(lost):.0f} s" if lost else "never"),
        ("page turns", str(len(turns)) if turns else "none"),
        ("jumps told", str(len(jumps)) if jumps else "none"),
    ]
    if curve.measures:
        low, high = np.percentile([one.value for one in curve.measures], [10, 90])
        facts.append(
            (f"{curve.unit} a minute", f"{curve.median:.0f}, mostly {low:.0f} to {high:.0f}")
        )
    return facts


def _player(sound: str, seconds: float) -> str:
    """What moves the cursor: the recording, or a slider."""
    if sound:
        return f'<audio controls preload="metadata" src="{escape(sound)}"></audio>'
    return (
        f'<input type="range" min="0" max="{seconds:.2f}" step="0.05" value="0" '
        'aria-label="moment of the performance">'
    )


def _section(title: str, kind: str, content: str) -> str:
    return f'<section><h2>{title}</h2>\n<div class="{kind} card">\n{content}\n</div></section>'


Row = tuple[str, str, str]
"""When, as a link; what; and more about it."""


def _astray_rows(track: Track) -> list[Row]:
    rows = []
    for kind, stay in astray(track):
        lasted = stay.end - stay.start
        if kind == "unsure" and lasted < NOTICED:
            continue
        link = time_link(stay.start, int(track["page"][stay.first]))
        rows.append((link, f"{kind} for {lasted:.1f} s", _whereabouts(track, stay)))
    return rows


def _whereabouts(track: Track, stay: Stay) -> str:
    """Where the music was last known to be, and where next."""
    known = [
        f"{when} {_place(track[row])}"
        for when, row in (("after", stay.first - 1), ("then", stay.last + 1))
        if 0 <= row < len(track) and int(track["state"][row]) != WAITING
    ]
    return ", ".join(known)


def _place(row: np.void) -> str:
    measure = f", measure {row['measure']}" if row["measure"] else ""
    return f"page {row['page']}{measure}"


def _told_rows(
    track: Track, turns: Sequence[PageTurn], jumps: Sequence[Jump], controls: Sequence[Control]
) -> list[Row]:
    rows: list[tuple[float, str, str]] = []
    for turn in turns:
        when = f"{turn.lead:.1f} s before its music" if turn.lead >= 0.05 else "with its music"
        rows.append((turn.time, f"page {turn.page} shown", when))
    for jump in jumps:
        left = f" from measure {jump.from_measure}" if jump.from_measure else ""
        sure = f"confidence {jump.confidence:.2f}"
        rows.append((jump.time, f"jump{left} to measure {jump.to_measure or '?'}", sure))
    for wish in controls:
        where = f"measure {wish.measure}" if wish.measure else f"page {wish.page}"
        rows.append((wish.time, WISHES[wish.action].format(where), "by hand"))
    out = []
    for time, what, more in sorted(rows):
        here = at(track, time)
        out.append((time_link(time, int(here["page"]) if here is not None else 1), what, more))
    return out


def _table(rows: Sequence[Row]) -> str:
    if not rows:
        return "<p>never</p>"
    body = "\n".join(
        f"<tr><td>{link}</td><td>{escape(what)}</td><td>{escape(more)}</td></tr>"
        for link, what, more in rows[:MOST_ROWS]
    )
    rest = f"<p>and {len(rows) - MOST_ROWS} more</p>" if len(rows) > MOST_ROWS else ""
    return f"<table><tbody>\n{body}\n</tbody></table>{rest}"


def _cursor(track: Track) -> list[list[int]]:
    """Times in hundredths of a second, pages, and x and y in thousandths of the page."""
    columns: tuple[list[int], ...] = ([], [], [], [])
    for point in _cursor_points(track):
        for column, value in zip(columns, point, strict=True):
            column.append(value)
    return list(columns)


def _cursor_points(track: Track) -> Iterator[tuple[int, int, int, int]]:
    last: tuple[int, int, int] | None = None
    for row in track[:: max(1, -(-len(track) // CURSOR_POINTS))]:
        known = int(row["state"]) not in (WAITING, *ASTRAY)
        page = int(row["page"]) if known else 0
        place = (page, round(1000 * float(row["x"])), round(1000 * float(row["y"])))
        if not known:
            place = (0, 0, 0)
        if place != last:
            last = place
            yield (round(100 * float(row["time"])), *place)
