from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sf_plugin.cli import main
from sf_plugin.new_plugin_command import KINDS

OFFERS = {
    "sink": ["sink", "my-sink"],
    "follower": ["follower", "my-follower"],
    "source": ["source", "my-source"],
    "loader": ["page loader", ".my-loader"],
    "mapper": ["mapper", "my-mapper"],
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_new_plugins_install_pass_their_tests_and_are_listed(here: Path) -> None:
    site = here / "site"
    environment = {**os.environ, "PYTHONPATH": str(site)}

    def run(*words: object) -> str:
        done = subprocess.run(
            [sys.executable, *map(str, words)], capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    for kind in KINDS:
        assert main(["new-plugin", f"my-{kind}", "--kind", kind]) == 0
        folder = here / f"my-{kind}"
        names = {path.name for path in folder.iterdir()}
        assert names == {"pyproject.toml", "README.md", f"my_{kind}.py", f"test_my_{kind}.py"}
        for path in folder.iterdir():
            assert not re.search("my.?plugin|MyPlugin|KIND|USE", path.read_text())

    folders = [f"./my-{kind}" for kind in KINDS]
    options = ("-q", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    run("-m", "pip", "install", *options, "--target", site, *folders)
    passed = run("-m", "pytest", "-q", "-p", "no:cacheprovider", *folders)
    assert f"{2 * len(KINDS)} passed" in passed
    found = {
        info["name"]: info for info in json.loads(run("-m", "sf_plugin.cli", "plugins", "--json"))
    }
    for kind, offer in OFFERS.items():
        assert found[f"my_{kind}"]["registered"] == [offer]
        assert found[f"my_{kind}"]["error"] is None
    run("-m", "ruff", "check", "--isolated", "--select", "E,F,W", "--line-length", "100", *folders)


def test_what_is_there_is_left_alone(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "turn-log").mkdir()
    (here / "turn-log" / "mine.txt").write_text("mine")
    assert main(["new-plugin", "turn-log"]) == 2
    assert "turn-log: is there already" in capsys.readouterr().err
    assert [path.name for path in here.rglob("*")] == ["turn-log", "mine.txt"]


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("Turn Log", "sink", "is no name"),
        ("../turn-log", "sink", "is no name"),
        ("turn_log", "sink", "is no name"),
        ("-", "sink", "is no name"),
        ("class", "sink", "is no name"),
        ("osc", "sink", "there is a sink 'osc'"),
        ("unet", "follower", "there is a follower 'unet'"),
        ("pdf", "loader", "there is a page loader '.pdf'"),
        ("json", "follower", "module 'json'"),
        ("sf-plugin", "sink", "module 'sf_plugin'"),
    ],
)
def test_a_name_that_cannot_be_is_refused(
    name: str, kind: str, reason: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new-plugin", "--kind", kind, "--", name]) == 2
    assert reason in capsys.readouterr().err
    assert list(here.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_an_error(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here.chmod(0o500)
    try:
        assert main(["new-plugin", "turn-log"]) == 2
    finally:
        here.chmod(0o700)
    assert "cannot be made" in capsys.readouterr().err
