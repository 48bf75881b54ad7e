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
from conftest import ROOT, Run

from sf_plugin.conformance import check_follower

EXAMPLES = ROOT / "examples"
DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which online time warping is installed, from a copy."""
    target = tmp_path_factory.mktemp("site")
    copy = tmp_path_factory.mktemp("source") / "online_time_warping"
    left = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    shutil.copytree(EXAMPLES / "online_time_warping", copy, ignore=left)
    options = ("-q", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(copy)],
        check=True,
    )
    return target


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


def test_online_time_warping_follows_from_the_command_line(scorefollow: Run, site: Path) -> None:
    listed = {i["name"]: i for i in json.loads(scorefollow("plugins", "--json", site=site).stdout)}
    assert listed["online_time_warping"]["registered"] == [["follower", "time-warping"]]
    midi = DATA / "sonatina-1.mid"
    how = ("--follower", "time-warping", "--out", "-")
    done = scorefollow("follow", midi, "--audio", midi, *how, site=site)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    measures = [event["measure"] for event in events if event["type"] == "position"]
    assert measures[0] == 1
    assert [a for a, b in pairwise([*measures, None]) if a != b] == list(range(1, 9))

    pages = ROOT / "sf_plugin" / "demo_assets" / "score.pdf"
    refused = scorefollow("follow", pages, "--audio", midi, *how, site=site)
    assert refused.returncode == 2
    assert "time warping needs the notes" in refused.stderr
