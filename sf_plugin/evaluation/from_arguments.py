"""What `scorefollow evaluate` does, from its words to the report."""

from __future__ import annotations

import argparse
import hashlib
import importlib
import pkgutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sf_plugin.errors import ScoreError, ScoreFollowerError
from sf_plugin.evaluation import importers
from sf_plugin.evaluation.baselines import BASELINES
from sf_plugin.evaluation.conditions import CONDITIONS
from sf_plugin.evaluation.engraved import Setting, find_pieces
from sf_plugin.evaluation.evaluate import Contestant, Task, evaluate
from sf_plugin.evaluation.following import Outcome
from sf_plugin.evaluation.html import Drawn, html, worst
from sf_plugin.evaluation.report import make_report
from sf_plugin.followers import Progress, no_progress


@dataclass(frozen=True)
class Measured:
    """What an evaluation came to; `html` is empty where nobody asked for it."""

    report: dict[str, Any]
    html: str = ""


def run(args: argparse.Namespace, progress: Progress = no_progress) -> Measured:
    """Follow everything that the command's arguments name.

    After Ctrl-C the report is of what was measured so far and is not "complete".

    Raises:
        ScoreFollowerError: a name, a piece, an instrument or the cache cannot be used.
        KeyboardInterrupt: before anything was measured.
    """
    contestant = Contestant(args.follower, args.weights)
    if args.weights is not None and args.follower != "unet":
        raise ScoreFollowerError(
            f"--weights {args.weights}: '{args.follower}' takes none: leave --weights out"
        )
    contestant()
    tasks = list(_tasks(args))
    results: list[list[Outcome]] = []
    complete = False
    progress("evaluating", 0, len(tasks))
    try:
        for members in evaluate(
            tasks, contestant, jobs=args.jobs, scheduler=args.scheduler, align=args.align
        ):
            results.append(members)
            progress("evaluating", len(results), len(tasks))
        complete = True
    except KeyboardInterrupt:
        if not any(results):
            raise
    outcomes = [outcome for members in results for outcome in members]
    if not outcomes:
        raise ScoreError("no page of these pieces has enough notes: choose other --pieces")
    report = {
        "follower": args.follower,
        "aligned": args.align,
        **_identity(contestant),
        **make_report(outcomes, per_page=args.per_page, seed=args.seed, complete=complete),
    }
    if args.html is None or not complete:
        return Measured(report)
    return Measured(report, html(report, _draw(results, tasks)))


def _draw(results: Sequence[list[Outcome]], tasks: Sequence[Task]) -> list[Drawn]:
    """The worst cases, made once more for their pages and truth."""
    origin = [
        (task, outcome) for task, members in zip(tasks, results, strict=True) for outcome in members
    ]
    drawn = []
    for index in worst([outcome for _, outcome in origin]):
        task, outcome = origin[index]
        cases = {case.name: case for case in task()}
        drawn.append(Drawn(cases[outcome.case], outcome))
    return drawn


def importer_names() -> list[str]:
    """The field's own sets that can be read."""
    return sorted(
        module.name
        for module in pkgutil.iter_modules(importers.__path__)
        if hasattr(importlib.import_module(f"{importers.__name__}.{module.name}"), "tasks")
    )


def _tasks(args: argparse.Namespace) -> Iterator[Task]:
    first, *rest = args.cases
    if first in importer_names() and not Path(first).exists():
        if len(rest) != 1:
            raise ScoreFollowerError(f"{first}: name the one folder that holds it after it")
        yield from _imported(first, Path(rest[0]), args)
        return
    for source in map(Path, args.cases):
        if not source.exists():
            raise ScoreFollowerError(
                f"{source}: is not there: name built data sets, or one of "
                f"{', '.join(importer_names())} and its folder"
            )
        folder = source if source.is_dir() else source.parent
        cache = args.cache or folder / "recordings"
        setting = Setting(_conditions(args.conditions), args.per_page, args.seed, cache)
        yield from find_pieces(source, args.use.split(","), args.pieces, setting)


def _imported(name: str, folder: Path, args: argparse.Namespace) -> Iterator[Task]:
    module = importlib.import_module(f"{importers.__name__}.{name}")
    module.check(folder)
    yield from module.tasks(folder, per_page=args.per_page, pieces=args.pieces)


def _conditions(names: str) -> tuple[str, ...]:
    chosen = tuple(CONDITIONS) if names == "all" else tuple(dict.fromkeys(names.split(",")))
    if unknown := sorted(set(chosen) - set(CONDITIONS)):
        raise ScoreFollowerError(
            f"--conditions {names}: {', '.join(unknown)} is none of {', '.join(CONDITIONS)}"
        )
    return chosen


def _identity(contestant: Contestant) -> dict[str, str]:
    """What the figures are of: weights by their digest, or what a baseline is told."""
    if contestant.name in BASELINES:
        return {"sees": BASELINES[contestant.name].sees}
    if contestant.name != "unet":
        return {}
    from sf_plugin.unet.weights import SHIPPED

    file = contestant.weights or SHIPPED
    return {"weights": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
