"""The wheel: what is in it, what it asks for, and that it works away from the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
from conftest import ROOT
from packaging.requirements import Requirement

PIP = (sys.executable, "-m", "pip", "-q", "--disable-pip-version-check")
FOLDERS = {"sf_plugin": "sf_plugin", "adapters": "sf_adapters"}
LEFT_OUT = ("adapters/stand/protocol.md",)


@pytest.fixture(scope="module")
def files() -> list[str]:
    """Those that git would commit."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return sorted(name for name in listed.split("\0") if name and (ROOT / name).is_file())


@pytest.fixture(scope="module")
def wheel(files: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    top = ("pyproject.toml", "README.md", "LICENSE", "NOTICE", "adapters/", "sf_plugin/", "tests/")
    for name in files:
        if name.startswith(top):
            target = copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    options = ("--no-deps", "--no-build-isolation", "-w", str(out))
    subprocess.run([*PIP, "wheel", *options, str(copy)], check=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        return message_from_bytes(archive.read(name))


def test_it_is_for_every_system(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")


def test_it_holds_all_of_the_two_packages_and_nothing_else(wheel: Path, files: list[str]) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    held = {name for name in names if not name.split("/")[0].endswith(".dist-info")}
    ours = {
        "/".join([FOLDERS[top], *rest])
        for top, *rest in (name.split("/") for name in files)
        if top in FOLDERS and "/".join([top, *rest]) not in LEFT_OUT
    }
    assert held == ours


@pytest.mark.parametrize(
    "name",
    [
        "sf_plugin/unet/default.safetensors",
        "sf_plugin/demo_assets/score.pdf",
        "sf_plugin/demo_assets/take.ogg",
        "sf_adapters/report/report.html",
        "sf_adapters/stand/static/index.html",
        "sf_adapters/stand/static/worklet.js",
    ],
)
def test_it_holds_what_following_needs(wheel: Path, name: str) -> None:
    here = ROOT / name.replace("sf_adapters", "adapters")
    assert zipfile.ZipFile(wheel).read(name) == here.read_bytes()


def test_it_carries_the_licence_and_the_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert {"LICENSE", "NOTICE"} <= {
            name.rsplit("/", 1)[-1] for name in names if "/licenses/" in name
        }
        (entry,) = (name for name in names if name.endswith("entry_points.txt"))
        assert "scorefollow = sf_plugin.cli:main" in archive.read(entry).decode()


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
def test_midi_is_asked_for_where_it_comes_compiled(metadata: Message, python: str) -> None:
    assert f"Programming Language :: Python :: {python}" in metadata.get_all("Classifier", [])
    wanted = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    (plain, extra) = (need for need in wanted if need.name == "python-rtmidi")
    assert plain.marker is not None and extra.marker is not None
    here = {"python_version": python, "extra": ""}
    assert plain.marker.evaluate(here) == (python in ("3.11", "3.12"))
    assert not extra.marker.evaluate(here)
    assert extra.marker.evaluate({**here, "extra": "midi"})


def test_it_reads_a_score_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    options = ("--no-deps", "--no-index", "--target", str(site))
    subprocess.run([*PIP, "install", *options, str(wheel)], check=True)
    score = site / "sf_plugin" / "demo_assets" / "score.pdf"
    code = "import sf_plugin, sys; print(sf_plugin.__file__); import sf_plugin.cli as c; c.main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "layout", str(score), "--out", "layout.json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == str(site / "sf_plugin" / "__init__.py")
    assert "3 pages" in done.stderr
    assert (tmp_path / "layout.json").stat().st_size
