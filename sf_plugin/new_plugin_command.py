"""`scorefollow new-plugin`: the beginning of a plug-in, which works at once."""

from __future__ import annotations

import argparse
import importlib.util
import keyword
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sf_plugin.errors import PluginError
from sf_plugin.plugins import registry
from sf_plugin.terminal import command, say

TEMPLATE = Path(__file__).with_name("plugin_template")


@dataclass(frozen=True, slots=True)
class Kind:
    """What a plug-in can be.

    Attributes:
        shelf: of the registry, where its name must be free.
        called: in the text.
        use: a command that uses it.
    """

    shelf: str
    called: str
    use: str


KINDS = {
    "sink": Kind(
        "sinks",
        "receiver of events",
        "scorefollow follow sonata.pdf --audio take.wav --my-plugin turns.tsv",
    ),
    "follower": Kind(
        "followers",
        "follower",
        "scorefollow follow sonata.musicxml --audio take.wav --follower my-plugin --out -",
    ),
    "source": Kind(
        "sources",
        "sound source",
        "scorefollow follow sonata.pdf --audio my-plugin:90 --out -",
    ),
    "loader": Kind(
        "page_loaders",
        "page loader",
        "scorefollow follow sonata.my-plugin --audio take.wav --out -",
    ),
    "mapper": Kind(
        "mappers",
        "measure mapper",
        "scorefollow follow sonata.pdf --audio take.wav --mapper my-plugin --out -",
    ),
}


def add_parser(commands: Any) -> None:
    """The command and its options."""
    parser = command(
        commands,
        "new-plugin",
        _new_plugin,
        "begin a plug-in of your own",
        "Write a plug-in into the new folder NAME: a module, packaging, a README and a test\n"
        "with the conformance kit. It does something small and works at once.",
        ("a receiver of events", "scorefollow new-plugin turn-log"),
        ("a follower", "scorefollow new-plugin my-follower --kind follower"),
    )
    parser.add_argument("name", metavar="NAME", help="small letters, digits and hyphens")
    parser.add_argument(
        "--kind", choices=KINDS, default="sink", help="what it is (default %(default)s)"
    )


def _new_plugin(args: argparse.Namespace) -> None:
    kind = KINDS[args.kind]
    write_plugin(Path(args.name), args.name, args.kind)
    say(f"{args.name} is a {kind.called} that works. Install it, try it, see it listed:")
    say(f"    pip install -e './{args.name}[test]'")
    say(f"    pytest {args.name}")
    say("    scorefollow plugins")


def write_plugin(folder: Path, name: str, kind: str) -> None:
    """Write all files of a plug-in, or none.

    Args:
        folder: is made.
        name: of the distribution, and of what it registers.
        kind: one of KINDS.

    Raises:
        PluginError: the name cannot be one or is taken, or the folder is there or cannot
            be made.
    """
    check_name(name, kind)
    if folder.exists():
        raise PluginError(f"{folder}: is there already: choose another name, or move it away")
    files = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        f"{kind}.py": f"{_module(name)}.py",
        f"test_{kind}.py": f"test_{_module(name)}.py",
    }
    try:
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            for template, file in files.items():
                text = (TEMPLATE / template).read_text(encoding="utf-8")
                (part / file).write_text(_filled(text, name, kind), encoding="utf-8")
            part.chmod(0o755)
            part.rename(folder)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
    except OSError as error:
        raise PluginError(
            f"{folder}: cannot be made: {error.strerror}: go to another folder"
        ) from None


def check_name(name: str, kind: str) -> None:
    """Nothing, where a plug-in may be called so.

    Raises:
        PluginError: it is no name, or something has it.
    """
    if not re.fullmatch("[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or keyword.iskeyword(name):
        raise PluginError(
            f"'{name}' is no name for a plug-in: take small letters, digits and hyphens, such as "
            "turn-log"
        )
    shelf = getattr(registry(), KINDS[kind].shelf)
    called = f".{name}" if kind == "loader" else name
    if called in shelf:
        raise PluginError(
            f"there is a {shelf.kind} '{called}' of plug-in '{shelf[called].plugin}': choose "
            "another name"
        )
    if importlib.util.find_spec(_module(name)) is not None:
        raise PluginError(
            f"there is a Python module '{_module(name)}', which the plug-in would hide: choose "
            "another name"
        )


def _module(name: str) -> str:
    return name.replace("-", "_")


def _filled(text: str, name: str, kind: str) -> str:
    words = {
        "USE": KINDS[kind].use,
        "KIND": KINDS[kind].called,
        "MyPlugin": "".join(word.capitalize() for word in name.split("-")),
        "my_plugin": _module(name),
        "my-plugin": name,
    }
    for word, meant in words.items():
        text = text.replace(word, meant)
    return text
