"""What the documents tell people to type exists."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest

from sf_plugin.cli import _parser

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PLUGIN_OF_THE_TEXT = ("--turn-log", "constant-tempo")

COMMANDS = [
    (document, line.strip())
    for document in DOCUMENTS
    for line in document.read_text(encoding="utf-8").splitlines()
    if re.match(r"    (\w+=\S+ )?(scorefollow|python|make) ", line)
]
SNIPPETS = [
    (document, snippet)
    for document in DOCUMENTS
    for snippet in re.findall(r"```python\n(.*?)```", document.read_text(encoding="utf-8"), re.S)
]


def ids(pairs: list[tuple[Path, str]]) -> list[str]:
    return [f"{document.name}: {text.splitlines()[0]}" for document, text in pairs]


@pytest.mark.parametrize(("document", "line"), COMMANDS, ids=ids(COMMANDS))
def test_a_command_is_one_that_there_is(
    document: Path,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = shlex.split(line.rstrip("| "), comments=True)
    if "=" in words[0]:
        words = words[1:]
    program, *rest = words
    if program == "make":
        assert re.search(rf"^{rest[0]}:", (ROOT / "Makefile").read_text(), re.M)
    elif program == "scorefollow":
        if not any(word in rest for word in PLUGIN_OF_THE_TEXT):
            _parser().parse_args(rest)
    elif rest[0] == "-m":
        module = importlib.import_module(rest[1])
        if hasattr(module, "main"):
            monkeypatch.setattr(sys, "argv", [rest[1], "--help"])
            with pytest.raises(SystemExit):
                module.main()
            known = capsys.readouterr().out
        else:
            known = Path(str(module.__file__)).read_text(encoding="utf-8")
        for option in (word for word in rest if word.startswith("--")):
            assert re.search(rf"{option}\b", known)
    elif rest[0] != "-c":
        assert (ROOT / rest[0]).exists()


@pytest.mark.parametrize(("document", "snippet"), SNIPPETS, ids=ids(SNIPPETS))
def test_a_snippet_imports_what_there_is(document: Path, snippet: str) -> None:
    for node in ast.walk(ast.parse(snippet)):
        if isinstance(node, ast.ImportFrom) and node.module:
            module = importlib.import_module(node.module)
            for name in node.names:
                assert hasattr(module, name.name)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("https://"):
            assert (document.parent / target).exists(), target
