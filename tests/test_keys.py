"""Keys that turn the pages of a real viewer on a real X11 display without a screen."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Run, draw_pdf, make_layout

from sf_adapters.keys import KEYS, KeySink, parse_keys
from sf_plugin.controls import Controls
from sf_plugin.errors import SinkError
from sf_plugin.positions import PageTurn
from sf_plugin.score.layout import Layout
from sf_plugin.score.model import Score

pytest.importorskip("Xlib", reason="python-xlib is not installed")

SCORE, LAYOUT = Score("a piece", []), Layout(())

needs_xvfb = pytest.mark.skipif(not shutil.which("Xvfb"), reason="Xvfb is not installed")
needs_viewer = pytest.mark.skipif(
    not (shutil.which("mupdf") and shutil.which("xdotool")),
    reason="mupdf and xdotool are not installed",
)


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    command = [
        "Xvfb",
        "-displayfd",
        "1",
        "-screen",
        "0",
        "800x900x24",
        "-nolisten",
        "tcp",
        "-noreset",
    ]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout is not None
    number = server.stdout.readline().strip()
    assert number.isdecimal()
    monkeypatch.setenv("DISPLAY", f":{number}")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    yield server
    server.terminate()
    server.wait(20)


@pytest.fixture
def viewer(display: None, tmp_path: Path) -> Iterator[None]:
    pages = draw_pdf(tmp_path / "long.pdf", make_layout(pages=5))
    process = subprocess.Popen(["mupdf", str(pages)], stderr=subprocess.DEVNULL)
    until_title("1/5")
    xdotool("mousemove", "400", "400")
    yield
    process.terminate()
    process.wait(20)


def xdotool(*words: str) -> str:
    return subprocess.run(["xdotool", *words], capture_output=True, text=True).stdout.strip()


def until_title(page: str) -> None:
    for _ in range(400):
        title = xdotool("search", "--name", "long.pdf", "getwindowname")
        if f" - {page} (" in title:
            return
        time.sleep(0.05)
    raise AssertionError(f"the title is {title!r}, not of page {page}")


def turn(sink: KeySink, page: int) -> None:
    sink.emit(PageTurn(1.0, page, 0.5))


@needs_xvfb
@needs_viewer
def test_a_viewer_turns_its_pages(viewer: None) -> None:
    with KeySink("") as sink:
        sink.open(SCORE, LAYOUT)
        turn(sink, 2)
        until_title("2/5")
        sink.emit(PageTurn(1.0, 3, 0.5, half=True))
        turn(sink, 2)
        turn(sink, 4)
        until_title("4/5")
        turn(sink, 1)
        until_title("1/5")
        sink.close()
        sink.close()
        turn(sink, 2)


@needs_xvfb
@needs_viewer
def test_the_first_page_shown_is_that_of_the_session(viewer: None) -> None:
    controls = Controls(50)
    controls.shown = 38
    with KeySink("pageup,prev=pagedown") as sink:
        sink.attach(controls)
        sink.open(SCORE, LAYOUT)
        turn(sink, 37)
        until_title("2/5")


@needs_xvfb
@pytest.mark.parametrize("key", sorted(KEYS))
def test_every_key_is_on_the_keyboard(display: None, key: str) -> None:
    other = "enter" if key != "enter" else "space"
    with KeySink(f"{key},prev={other}") as sink:
        sink.open(SCORE, LAYOUT)


@needs_xvfb
def test_a_display_that_goes_away(display: subprocess.Popen[str]) -> None:
    with KeySink("") as sink:
        sink.open(SCORE, LAYOUT)
        display.kill()
        display.wait(20)
        with pytest.raises(SinkError, match="the X11 display is gone"):
            turn(sink, 2)
            turn(sink, 3)


@needs_xvfb
@needs_viewer
def test_a_performance_turns_the_pages_of_a_viewer(
    viewer: None, scorefollow: Run, pdf: Path, layout_file: Path, wav: Path
) -> None:
    how = ("--layout", layout_file, "--follower", "constant-tempo", "--keys")
    done = scorefollow("follow", pdf, "--audio", wav, *how)
    assert done.returncode == 0 and "1 page turn" in done.stderr
    until_title("2/5")


def test_no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(SinkError, match="DISPLAY names none: run this in an X11 session"):
        KeySink("").open(SCORE, LAYOUT)
    monkeypatch.setenv("DISPLAY", ":97")
    with pytest.raises(SinkError, match="X11 display ':97' cannot be opened"):
        KeySink("").open(SCORE, LAYOUT)
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    with pytest.raises(SinkError, match="Wayland"):
        KeySink("").open(SCORE, LAYOUT)


def test_keys_by_name() -> None:
    assert parse_keys("") == ("pagedown", "pageup")
    assert parse_keys("right") == ("right", "left")
    assert parse_keys("space") == ("space", "backspace")
    assert parse_keys("enter, prev=up") == ("enter", "up")
    assert parse_keys(",prev=left") == ("pagedown", "left")


@pytest.mark.parametrize(
    "spec", ["f5", "pagedown,pageup", "right,prev=", "right,prev=right", "pageup", "left,next=up"]
)
def test_keys_that_are_none(spec: str) -> None:
    with pytest.raises(SinkError, match="keys"):
        KeySink(spec)
