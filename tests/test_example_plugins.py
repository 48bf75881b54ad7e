"""The example plug-ins, installed by pip as a user does, pass their own tests and work."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import ROOT

from sf_plugin.conformance import check_follower

EXAMPLES = ROOT / "examples"
DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which both are installed, from copies."""
    target = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source")
    left = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    for name in ("constant_tempo_follower", "online_time_warping"):
        shutil.copytree(EXAMPLES / name, source / name, ignore=left)
    options = ("-q", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    copies = map(str, sorted(source.iterdir()))
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", str(target), *copies],
        check=True,
    )
    return target


def run(site: Path, folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """`scorefollow` where both are installed."""
    return subprocess.run(
        [str(Path(sys.executable).parent / "scorefollow"), *map(str, words)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(site)},
        cwd=folder,
    )


def test_the_constant_tempo_conforms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES / "constant_tempo_follower"))
    from constant_tempo_follower import ConstantTempo

    check_follower(ConstantTempo)


@pytest.mark.skipif(not shutil.which("fluidsynth"), reason="fluidsynth is not installed")
def test_online_time_warping_passes_its_own_tests(site: Path, tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "online_time_warping" / "test_online_time_warping.py", tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(site)},
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout
    assert "7 passed" in done.stdout


def test_they_follow_from_the_command_line(site: Path, tmp_path: Path) -> None:
    listed = {i["name"]: i for i in json.loads(run(site, tmp_path, "plugins", "--json").stdout)}
    assert listed["constant_tempo"]["registered"] == [["follower", "constant-tempo"]]
    assert listed["online_time_warping"]["registered"] == [["follower", "time-warping"]]
    midi = DATA / "sonatina-1.mid"
    how = ("--follower", "time-warping", "--out", "-")
    done = run(site, tmp_path, "follow", midi, "--audio", midi, *how)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    measures = [event["measure"] for event in events if event["type"] == "position"]
    assert measures[0] == 1
    assert [a for a, b in pairwise([*measures, None]) if a != b] == list(range(1, 9))

    pages = ROOT / "sf_plugin" / "demo_assets" / "score.pdf"
    refused = run(site, tmp_path, "follow", pages, "--audio", midi, *how)
    assert refused.returncode == 2
    assert "time warping needs the notes" in refused.stderr
