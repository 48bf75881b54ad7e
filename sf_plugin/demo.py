"""The demo: follow a performance that comes with the package, and say how well it went."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from sf_adapters.jsonl import JsonLines
from sf_adapters.report import Recorder
from sf_plugin.errors import SinkError
from sf_plugin.evaluation.metrics import (
    THRESHOLDS,
    Answers,
    Truth,
    Turns,
    answers,
    judge_turns,
)
from sf_plugin.positions import Event, Jump, PageTurn, Position, StateChange
from sf_plugin.score.layout import Layout
from sf_plugin.score.model import Score
from sf_plugin.sinks import Sink
from sf_plugin.terminal import clock, command, write_whole

ASSETS = Path(__file__).with_name("demo_assets")
TITLE = "Muzio Clementi, Sonatina op. 36 no. 1"

ENOUGH = 0.85
"""Least share of onsets in the right measure."""

SETTLED = 0.2
"""Seconds a measure must last to be shown."""


def add_parser(commands: Any) -> None:
    """The command and its options."""
    parser = command(
        commands,
        "demo",
        main,
        "follow a performance that comes with the package",
        "Follow a performance of a score of several pages that comes with the package,\n"
        "and write demo.html (pages, path, accuracy) and positions.jsonl.",
        ("as fast as the computer can", "scorefollow demo"),
        ("at the speed of the music", "scorefollow demo --realtime"),
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        default=Path("demo-out"),
        help="folder for demo.html and positions.jsonl (default %(default)s)",
    )
    parser.add_argument("--realtime", action="store_true", help="at the speed of the music")
    parser.add_argument(
        "--follower",
        metavar="NAME",
        default="unet",
        help="which follower listens (default %(default)s)",
    )


def main(args: argparse.Namespace) -> int:
    """Run the demo.

    Returns:
        0 when at least `ENOUGH` of the onsets were in the right measure, else 1.
    """
    from sf_plugin.api import make_follower, make_mapper, open_audio
    from sf_plugin.score.load import load_score
    from sf_plugin.session import Session

    out: Path = args.out
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"{out}: cannot be made: {error.strerror}: choose --out") from None
    console = Console(highlight=False)
    score = replace(load_score(ASSETS / "score.pdf"), name=TITLE)
    recorder = Recorder()
    recorder.with_sound(ASSETS / "take.ogg")
    with console.status("getting ready") as status:
        board = Board(console, status)
        session = Session(
            open_audio(ASSETS / "take.ogg"),
            make_follower(args.follower),
            make_mapper(),
            score,
            [
                ("positions", JsonLines(str(out / "positions.jsonl"))),
                ("report", recorder),
                ("table", board),
            ],
            realtime=args.realtime,
            progress=board.progress,
        )
        positions = [event for event in session.events() if isinstance(event, Position)]
    wall = time.perf_counter() - board.began
    layout = Layout.from_json((ASSETS / "layout.json").read_text(encoding="utf-8"))
    truth = load_truth(ASSETS / "truth.json", layout)
    outcome = answers(positions, truth)
    facts = how_it_went(outcome)
    facts.append(("pages turned", how_it_turned(judge_turns(recorder.turns, truth))))
    if not args.realtime:
        facts.append(("speed", f"{session.summary.seconds / max(wall, 1e-9):.1f} x real time"))
    write_whole(out / "demo.html", recorder.report(places(truth), facts, layout))

    table = Table(box=None, show_header=False, pad_edge=False)
    for what, value in facts:
        table.add_row(what, Text(value, style="bold"))
    console.print()
    console.print(table)
    console.print()
    console.print(
        f"{out / 'demo.html'} shows it; {out / 'positions.jsonl'} has every frame", soft_wrap=True
    )
    if outcome.right_measure.mean() < ENOUGH:
        console.print(
            Text(f"Less than {ENOUGH:.0%} of the onsets are in the right measure.", style="red")
        )
        return 1
    return 1 if session.summary.failed_sinks else 0


class Board(Sink):
    """A table that grows by a row for every measure as it passes."""

    def __init__(self, console: Console, status: Status) -> None:
        self.console = console
        self.status = status
        self.began = time.perf_counter()
        self._entered: Position | None = None
        self._shown: tuple[int, int | None] | None = None

    def progress(self, what: str, done: int, total: int) -> None:
        """Beside the spinner, on a terminal."""
        self.status.update(f"{what} {done} of {total}" if total else what)

    def open(self, score: Score, layout: Layout) -> None:
        self.began = time.perf_counter()
        systems = [system for page in layout.pages for system in page.systems]
        measures = sum(len(system.measures) for system in systems)
        self.console.print(Text(score.name, style="bold"))
        self.console.print(
            f"found {len(layout.pages)} pages, {len(systems)} systems, {measures} measures\n"
        )
        self.console.print(Text("   time  page  system  measure  confidence", style="dim"))

    def emit(self, event: Event) -> None:
        match event:
            case Position():
                self._pass(event)
            case PageTurn():
                self._say(event.time, f"turn to page {event.page}", "bold cyan")
            case Jump():
                self._say(event.time, f"jump to measure {event.to_measure}", "bold magenta")
            case StateChange():
                self._say(event.time, event.state, "dim")

    def _pass(self, position: Position) -> None:
        if position.state == "waiting":
            return
        here = (position.page, position.measure)
        entered = self._entered
        if entered is None or here != (entered.page, entered.measure):
            self._entered = position
        elif here != self._shown and position.time - entered.time >= SETTLED:
            self._shown = here
            self._row(entered)

    def _row(self, position: Position) -> None:
        row = Text(
            f"{clock(position.time):>7}  {position.page:>4}  {position.system or '?':>6}  "
            f"{position.measure or '?':>7}  "
        )
        sure = position.confidence
        style = "green" if sure >= 0.8 else "yellow" if sure >= 0.5 else "red"
        full, empty = "#-" if self.console.options.ascii_only else "█░"
        row.append(full * round(10 * sure), style)
        row.append(empty * (10 - round(10 * sure)), "dim")
        row.append(f" {sure:.2f}")
        self.console.print(row)

    def _say(self, seconds: float, what: str, style: str) -> None:
        self.console.print(Text(f"{clock(seconds):>7}  ").append(what, style))


# how well it went


def load_truth(path: Path, layout: Layout) -> Truth:
    """Read `truth.json`, which says what its fields are; `layout` is the true one."""
    onsets = json.loads(path.read_text(encoding="utf-8"))["onsets"]
    columns = {name: np.array([onset[name] for onset in onsets]) for name in onsets[0]}
    systems = {(p.page, i): s for p in layout.pages for i, s in enumerate(p.systems, 1)}
    return Truth(
        **{name: columns[name] for name in ("time", "page", "system", "x", "measure")},
        system_centres={
            page.page: [(s.top + s.bottom) / 2 for s in page.systems] for page in layout.pages
        },
        bars={
            place: [(measure.left, measure.number) for measure in system.measures]
            for place, system in systems.items()
        },
    )


def places(truth: Truth) -> NDArray[np.float64]:
    """(onsets, 4): time, page, x and y, as the report takes them."""
    y = [
        truth.system_centres[int(page)][int(system) - 1]
        for page, system in zip(truth.page, truth.system, strict=True)
    ]
    return np.stack([truth.time, truth.page, truth.x, y], 1)


def how_it_went(outcome: Answers) -> list[tuple[str, str]]:
    """(what, value) pairs for people."""
    within = " / ".join(f"{share:.2f}" for share in outcome.ratios())
    limits = " / ".join(f"{limit:g}" for limit in THRESHOLDS)
    count = len(outcome.error)
    return [
        ("onsets in the right measure", f"{outcome.right_measure.mean():.1%} of {count}"),
        ("onsets in the right system", f"{outcome.right_system.mean():.1%}"),
        ("onsets on the right page", f"{outcome.right_page.mean():.1%}"),
        (f"onsets within {limits} s", within),
    ]


def how_it_turned(turns: Turns) -> str:
    """Such as "2 of 2: 1.1 s ahead, 0.9 s late"."""
    text = f"{turns.right} of {turns.due}"
    if leads := turns.leads():
        told = (f"{abs(lead):.1f} s {'ahead' if lead >= 0 else 'late'}" for lead in leads)
        text += ": " + ", ".join(told)
    return f"{text}; {turns.false} wrong" if turns.false else text
