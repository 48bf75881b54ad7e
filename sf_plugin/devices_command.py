"""`scorefollow devices`: the microphones and MIDI ports of this computer."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

from rich.table import Table

from sf_plugin.terminal import OK, command, print_table


def add_parser(commands: Any) -> None:
    """The command and its options."""
    parser = command(
        commands,
        "devices",
        _devices,
        "list microphones and MIDI ports",
        "List what can be listened to and the MIDI ports that can be played to.\n"
        "Choose one by any part of its name.",
        ("as a table", "scorefollow devices"),
        ("for a program", "scorefollow devices --json"),
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def _devices(args: argparse.Namespace) -> int:
    from sf_plugin.doctor import find_devices

    found = find_devices()
    if args.json:
        print(json.dumps(asdict(found), indent=1))
        return OK
    table = Table("kind", "name", "details", box=None, pad_edge=False)
    for device in found.devices:
        table.add_row(device.kind, device.name, device.details)
    if found.devices:
        print_table(table)
    for problem in found.problems:
        print(problem)
    return OK
