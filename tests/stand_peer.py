"""A music stand that runs as a user starts it, and the browser that looks at it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
"""The browser of the system; playwright brings none here."""

MINUTE = 60_000
"""Milliseconds; how long a browser waits for something on a busy computer."""

ADDRESS = re.compile(r"https?://\S+")

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


@dataclass
class RunningStand:
    """A `scorefollow serve` of its own."""

    process: subprocess.Popen[str]
    said: list[str] = field(default_factory=list)
    url: str = ""

    @property
    def port(self) -> int:
        found = re.search(r":(\d+)/", self.url)
        assert found is not None
        return int(found[1])

    def read(self) -> None:
        """What it says, until it ends."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)

    def kill(self) -> None:
        """End it as a power cut does."""
        self.process.kill()
        self.process.wait(30)


@contextmanager
def serving(score: Path, *options: object, port: int = 0) -> Iterator[RunningStand]:
    """A stand on which a score is; its follower is ready when sound comes."""
    program = Path(sys.executable).parent / "scorefollow"
    process = subprocess.Popen(
        [str(program), "serve", str(score), "--port", str(port), *map(str, options)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    stand = RunningStand(process)
    reader = threading.Thread(target=stand.read, daemon=True)
    reader.start()
    try:
        stand.url = _address(stand)
        yield stand
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(30)
        reader.join(10)


def _address(stand: RunningStand) -> str:
    """The address it prints."""
    for _ in range(1200):
        found = ADDRESS.search("".join(stand.said))
        if found:
            return found[0]
        try:
            stand.process.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
        break
    pytest.fail("no stand: " + "".join(stand.said))


@contextmanager
def browsing(playwright: Playwright, *options: str) -> Iterator[Browser]:
    """The system's browser, without a window."""
    browser = playwright.chromium.launch(
        executable_path=CHROMIUM, headless=True, args=["--no-sandbox", *options]
    )
    try:
        yield browser
    finally:
        browser.close()


@contextmanager
def viewing(browser: Browser, url: str, **settings: object) -> Iterator[Page]:
    """A viewer of the stand.

    What its browser complains about, such as a style that the policy forbids, fails the test;
    that the network is away, or the address not safe, does not.
    """
    context = browser.new_context(**settings)  # type: ignore[arg-type]
    context.set_default_timeout(MINUTE)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text))
    try:
        page.goto(url)
        page.wait_for_selector(".sheet.shown")
        yield page
    finally:
        context.close()
    known = ("ERR_CONNECTION", "WebSocket connection", "origin was untrustworthy")
    complaints = [text for text in complaints if not any(words in text for words in known)]
    assert not complaints, complaints
