"""`scorefollow doctor`: what this machine lacks."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from sf_plugin.arguments import channel_argument
from sf_plugin.errors import ScoreFollowerError
from sf_plugin.terminal import FAILED, OK, command, errors, print_table


def add_parser(commands: Any) -> None:
    """The command and its options."""
    parser = command(
        commands,
        "doctor",
        _doctor,
        "check this machine and say what is missing",
        "Check what following needs on this machine and say how to get what is missing.\n"
        "Exit code 1 when something that is always needed is missing.",
        ("check", "scorefollow doctor"),
        ("check a microphone and the room", "scorefollow doctor --mic USB"),
        ("for a program", "scorefollow doctor --json"),
    )
    parser.add_argument(
        "--mic",
        metavar="DEVICE",
        nargs="?",
        const="",
        help="listen to the room, then to some playing, through this microphone, and say how "
        "good it is",
    )
    channel_argument(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def _doctor(args: argparse.Namespace) -> int:
    if args.channel is not None and args.mic is None:
        raise ScoreFollowerError("--channel is one of a microphone: add --mic")
    if args.mic is not None:
        from sf_plugin.room_command import check_room

        return check_room(args)
    from sf_plugin.doctor import examine

    findings = []
    marks = {"ok": ("ok", "green"), "missing": ("missing", "red"), "optional": ("no", "yellow")}
    table = Table("", "what", "found", box=None, pad_edge=False)
    with errors.status("looking"):
        for finding in examine():
            findings.append(finding)
            mark, style = marks[finding.status]
            table.add_row(Text(mark, style=style), finding.what, Text(finding.found))
    if args.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        print_table(table)
        for finding in findings:
            if finding.advice:
                print(f"\n{finding.what}: {finding.advice}")
    return FAILED if any(finding.status == "missing" for finding in findings) else OK
