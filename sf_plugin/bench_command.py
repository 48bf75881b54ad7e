"""`scorefollow bench`: the speed and memory of this machine."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from sf_plugin.terminal import OK, Display, command, count, print_rows, write_whole


def add_parser(commands: Any) -> None:
    """The command and its options."""
    parser = command(
        commands,
        "bench",
        _bench,
        "measure speed and memory on this machine",
        "Follow the demo on a document of several pages, on one CPU thread, and say how\n"
        "long each step takes, how long starting takes and how much memory it needs;\n"
        "beside it the configuration of Henkel et al. 2020 with random weights.",
        ("measure", "scorefollow bench"),
        ("keep the figures", "scorefollow bench --json bench.json"),
    )
    parser.add_argument(
        "--pages",
        metavar="N",
        type=count,
        default=10,
        help="pages of the document (default %(default)s)",
    )
    parser.add_argument(
        "--seconds",
        metavar="N",
        type=count,
        default=60,
        help="seconds of sound to follow (default %(default)s)",
    )
    parser.add_argument(
        "--weights", metavar="FILE", type=Path, help="weights of your own (default: the shipped)"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures as JSON")


def _bench(args: argparse.Namespace) -> int:
    from sf_plugin import bench

    display = Display(live=False)
    with display.shown():
        report = bench.bench(args.pages, args.seconds, args.weights, display.progress)
    if args.json is not None:
        write_whole(args.json, json.dumps(report, indent=1) + "\n")
    print_rows(*bench.table(report))
    print("\n" + "\n".join(bench.facts(report)))
    return OK
