"""`scorefollow plugins`: which there are and what they offer."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from sf_plugin.plugins import registry
from sf_plugin.terminal import OK, command, print_table


def add_parser(commands: Any) -> None:
    """The command and its options."""
    parser = command(
        commands,
        "plugins",
        _plugins,
        "list the plug-ins and what they offer",
        "List every plug-in with the distribution it came with and what it registered.\n"
        "Others are found through the entry-point group 'sf_plugin'.",
        ("as a table", "scorefollow plugins"),
        ("for a program", "scorefollow plugins --json"),
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def _plugins(args: argparse.Namespace) -> int:
    plugins = registry().plugins
    if args.json:
        print(json.dumps([asdict(info) for info in plugins], indent=1))
        return OK
    table = Table("plug-in", "distribution", "version", "offers", box=None, pad_edge=False)
    for info in plugins:
        by_kind: dict[str, list[str]] = {}
        for kind, name in info.registered:
            by_kind.setdefault(kind, []).append(name)
        offers = "; ".join(f"{kind} {', '.join(names)}" for kind, names in by_kind.items())
        table.add_row(
            info.name,
            info.distribution,
            info.version,
            Text(f"disabled: {info.error}", style="red") if info.error else Text(offers),
        )
    print_table(table)
    return OK
