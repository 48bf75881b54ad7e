"""`scorefollow evaluate`: how well a follower follows."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from sf_plugin.arguments import follower_argument
from sf_plugin.evaluation.conditions import CONDITIONS, DEFAULT
from sf_plugin.terminal import (
    INTERRUPTED,
    OK,
    Display,
    command,
    count,
    print_rows,
    say,
    write_whole,
)


def add_parser(commands: Any) -> None:
    """The command and its options."""
    parser = command(
        commands,
        "evaluate",
        _evaluate,
        "judge a follower on music it has never heard",
        "Follow seeded performances of engraved pieces, or the recordings of a published\n"
        "set, and say how many onsets were right, how pages were turned and how jumps were\n"
        "survived. The follower sees page images and hears sound, nothing else.\n\n"
        "CASES: folders built by 'scorefollow dataset build', or the name of a published set\n"
        "and its folder (msmd, asap, vienna).\n\n"
        "conditions:\n"
        + "\n".join(f"  {name:<12} {what.help}" for name, what in CONDITIONS.items()),
        ("whole documents, dry and in a room", "scorefollow evaluate data/set"),
        (
            "each page alone, as the papers do, as a table for the docs",
            "scorefollow evaluate data/set --per-page --conditions mechanical --markdown",
        ),
        (
            "everything, with plots and the worst cases on their pages",
            "scorefollow evaluate data/set --conditions all --jobs 4 --html report.html",
        ),
        (
            "something to stand against",
            "scorefollow evaluate data/set --follower chroma-oltw",
        ),
    )
    parser.add_argument("cases", metavar="CASES", nargs="+", help="what to follow")
    parser.add_argument(
        "--use",
        metavar="USES",
        default="valid",
        help="which part of a built set, by commas (default %(default)s)",
    )
    parser.add_argument(
        "--pieces",
        metavar="PATTERN",
        nargs="+",
        default=["*"],
        help="only those whose names are like one of these",
    )
    follower_argument(
        parser, "which follower listens", ", or a baseline: constant-speed, chroma-oltw"
    )
    parser.add_argument(
        "--weights", metavar="FILE", type=Path, help="of the follower unet (default: the shipped)"
    )
    parser.add_argument(
        "--align",
        action="store_true",
        help="hear each case to its end before saying where it was, as 'scorefollow align' does",
    )
    parser.add_argument(
        "--conditions",
        metavar="NAMES",
        default=",".join(DEFAULT),
        help="of a built set, by commas, or all (default %(default)s)",
    )
    parser.add_argument(
        "--per-page", action="store_true", help="each page is a score of its own: the page is given"
    )
    parser.add_argument(
        "--seed", metavar="N", type=int, default=0, help="of the performances (default %(default)s)"
    )
    parser.add_argument(
        "--cache",
        metavar="DIR",
        type=Path,
        help="where recordings are kept (default: recordings in CASES)",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--jobs", metavar="N", type=count, default=1, help="processes here (default %(default)s)"
    )
    where.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="of a Dask cluster whose workers see the same files; the figures are the same",
    )
    parser.add_argument("--out", metavar="FILE", type=Path, help="write the report as JSON")
    parser.add_argument("--html", metavar="FILE", type=Path, help="write a report to look at")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")


def _evaluate(args: argparse.Namespace) -> int:
    from sf_plugin.evaluation.from_arguments import run
    from sf_plugin.evaluation.tables import facts, markdown, tables

    display = Display(live=False)
    with display.shown():
        measured = run(args, display.progress)
    report = measured.report
    if report["complete"] and args.out is not None:
        write_whole(args.out, json.dumps(report, indent=1) + "\n")
    if measured.html:
        write_whole(args.html, measured.html)
    if args.markdown:
        sys.stdout.write(markdown(report))
    else:
        for head, rows in tables(report):
            print_rows(head, rows)
            print()
        print("\n".join(facts(report)))
    if not report["complete"]:
        say("interrupted: the figures are of what was measured so far; no file was written")
        return INTERRUPTED
    return OK
