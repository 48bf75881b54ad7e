"""The files that docs/plugins.md shows are what a plug-in author gets by typing them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from sf_plugin.api import Samples, make_mapper
from sf_plugin.conformance import Plugin, small_score, some_notes
from sf_plugin.followers import Follower
from sf_plugin.new_plugin_command import write_plugin
from sf_plugin.session import Session

TEXT = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"`(\w+\.py)`[^`]*?(?:`[^`]*`[^`]*?)*:\n\n```python\n(.*?)```", TEXT, re.S))
MOST_LINES = 60

Conformance = Callable[[ModuleType], Plugin]


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """The module of a file as it was typed."""
    for name, source in FILES.items():
        (tmp_path / name).write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))

    def imported(name: str) -> ModuleType:
        monkeypatch.delitem(sys.modules, name, raising=False)
        return import_module(name)

    return imported


def test_every_snippet_has_a_file() -> None:
    assert len(FILES) == TEXT.count("```python")
    assert set(FILES) == {
        "bell.py",
        "turn_log.py",
        "test_turn_log.py",
        "stop_at.py",
        "comic_book.py",
        "constant_tempo.py",
    }


@pytest.mark.parametrize("name", FILES)
def test_each_is_short(name: str) -> None:
    assert len(FILES[name].splitlines()) < MOST_LINES


def test_the_receivers_conform(
    typed: Callable[[str], ModuleType], conformance: Conformance, tmp_path: Path
) -> None:
    conformance(typed("bell")).sink("bell")
    conformance(typed("turn_log")).sink("turn-log", str(tmp_path / "turns"), bad=str(tmp_path))
    conformance(typed("stop_at")).sink("stop-at", "90", bad="soon")


def test_the_page_loader_conforms(
    typed: Callable[[str], ModuleType], conformance: Conformance, tmp_path: Path
) -> None:
    book = tmp_path / "sonata.cbz"
    with zipfile.ZipFile(book, "w") as pages:
        for number, page in enumerate(small_score().pages, 1):
            with pages.open(f"{number}.png", "w") as file:
                Image.fromarray(page).save(file, "PNG")
    module = typed("comic_book")
    conformance(module).page_loader(".cbz", book)
    read = module.load([book])
    assert all((a == b).all() for a, b in zip(read.pages, small_score().pages, strict=True))


def test_the_follower_conforms(
    typed: Callable[[str], ModuleType], conformance: Conformance
) -> None:
    conformance(typed("constant_tempo")).follower("constant-tempo")


def test_the_template_and_the_example_follow_as_the_text_does(
    typed: Callable[[str], ModuleType], follower: Follower, tmp_path: Path
) -> None:
    write_plugin(tmp_path / "my-plugin", "my-plugin", "follower")
    (tmp_path / "my-plugin" / "my_plugin.py").rename(tmp_path / "my_plugin.py")
    sound = np.concatenate([np.zeros(9999), some_notes(8000, 30.0)]).astype(np.float32)
    told = []
    for one in (typed("constant_tempo").ConstantTempo(), typed("my_plugin").MyPlugin(), follower):
        one.prepare(small_score())
        told.append(list(one.feed(sound)))
    assert told[0] == told[1] == told[2]
    assert {estimate.state for estimate in told[0]} == {"waiting", "tracking", "ended"}


def test_they_work_together(typed: Callable[[str], ModuleType], tmp_path: Path) -> None:
    follower = typed("constant_tempo").ConstantTempo()
    log = typed("turn_log").TurnLog(str(tmp_path / "turns"))
    source = Samples(some_notes(8000, 30.0), 8000)
    stop = typed("stop_at").StopAt("12")
    sinks = [("turn-log", log), ("stop-at", stop)]
    summary = Session(source, follower, make_mapper(), small_score(), sinks).run()
    assert summary.failed_sinks == []
    assert 12 <= summary.seconds < 15
    assert summary.last is not None and summary.last.page == 2
    (turn,) = (tmp_path / "turns").read_text().splitlines()
    assert turn.endswith("\t2")


def test_the_test_of_the_text_passes(typed: Callable[[str], ModuleType], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_turn_log.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
