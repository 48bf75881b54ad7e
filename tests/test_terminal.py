from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from sf_plugin.terminal import clock


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0:00.0"), (5.25, "0:05.2"), (59.94, "0:59.9"), (59.96, "1:00.0"), (3599.99, "60:00.0")],
)
def test_seconds_are_told_in_minutes(seconds: float, told: str) -> None:
    assert clock(seconds) == told


def test_what_is_written_to_a_pipe_does_not_go_to_the_terminal_beside_it() -> None:
    script = """
from sf_plugin.terminal import Display
display = Display(live=False)
with display.shown():
    display.progress("following", 1, 2)
    print("a line")
"""
    terminal, end = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            stderr=end,
            env={**os.environ, "TERM": "xterm"},
        )
        shown = os.read(terminal, 65536).decode()
    finally:
        os.close(terminal)
        os.close(end)
    assert done.stdout == b"a line\n"
    assert "following" in shown and "a line" not in shown
