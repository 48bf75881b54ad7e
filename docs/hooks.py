"""What MkDocs does for the site besides rendering: pages made of other files, and links to them."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from sf_plugin.cli import _parser

ROOT = Path(__file__).resolve().parent.parent

BORROWED = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "NOTICE": "notice.md",
    "adapters/stand/protocol.md": "reference/stand-protocol.md",
}
"""Files of the repository that are pages of the site."""

HOMES = {**BORROWED, "README.md": "index.md"}
"""Where a link to something outside of `docs` leads."""

COMMANDS = "<!-- commands -->"
"""Stands in `reference/commands.md` where the help of every command comes."""

WIDTH = "88"
"""Columns of the help."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """All decisions and guides are listed; `sf_adapters` has the name that it installs as."""
    sections = {title: part for entry in config.nav for title, part in entry.items()}
    docs = Path(config.docs_dir)
    sections["Decisions"] += sorted(f"decisions/{p.name}" for p in docs.glob("decisions/*.md"))
    listed = repr(config.nav)
    sections["Guides"] += sorted(p.name for p in docs.glob("*.md") if repr(p.name) not in listed)
    packages = ROOT / "build" / "types"
    packages.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        (packages / "sf_adapters").symlink_to(Path("..", "..", "adapters"))
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, page in BORROWED.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        if not source.endswith(".md"):
            text = f"# {source.capitalize()}\n\n```text\n{text}```\n"
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    if COMMANDS in markdown:
        return markdown.replace(COMMANDS, "\n".join(command_sections()))
    return relinked(markdown, page.file.src_uri)


def command_sections() -> Iterator[str]:
    """A heading and the help of every command, as Markdown."""
    for parser in parsers(_parser()):
        yield f"## {parser.prog}\n\n```text\n{help_text(parser)}```\n"


def help_text(parser: argparse.ArgumentParser) -> str:
    before = {name: os.environ.get(name) for name in ("COLUMNS", "NO_COLOR")}
    os.environ.update(COLUMNS=WIDTH, NO_COLOR="1")
    try:
        return parser.format_help()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and those of its commands, and of theirs."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in dict.fromkeys(action.choices.values()):
                yield from parsers(command)


def relinked(markdown: str, page: str) -> str:
    """Links out of `docs` lead to the page that borrows the file, or are text alone."""
    source = {to: come for come, to in BORROWED.items()}.get(page, f"docs/{page}")

    def relink(match: re.Match[str]) -> str:
        text, target, anchor = match.groups()
        file = os.path.normpath(PurePosixPath(source).parent / target)
        home = HOMES.get(file) or (file.removeprefix("docs/") if file.startswith("docs/") else None)
        if home is None:
            return text
        return f"[{text}]({os.path.relpath(home, PurePosixPath(page).parent)}{anchor or ''})"

    return re.sub(r"(?<!!)\[([^]]+)\]\((?!https?:)([^)#\s]+)(#[^)]*)?\)", relink, markdown)
