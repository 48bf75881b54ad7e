"""A real JACK server without a sound card, and a program that plays into it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

needs_jackd = pytest.mark.skipif(not shutil.which("jackd"), reason="jackd is not installed")

SAMPLE_RATE = 44100


NAMES = tuple(f"sf-test-{n}" for n in range(4))
"""JACK keeps eight names a machine, also those of servers that were killed, and gives a
dead server's name back only to its namesake."""


@contextmanager
def before_others() -> Iterator[None]:
    """This thread and all that it starts compute before other tests, where the system lets us.

    A server that waits for a core loses sound and messages.
    """
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, usual)


@contextmanager
def jack_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    """A dummy server of its own name, which this process and its children use."""
    monkeypatch.setenv("JACK_NO_START_SERVER", "1")
    for name in NAMES:
        command = ["jackd", "-r", "-n", name, "-d", "dummy", "-r", str(SAMPLE_RATE), "-p", "1024"]
        with before_others():
            server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                if _is_up(server, name):
                    monkeypatch.setenv("JACK_DEFAULT_SERVER", name)
                    yield server
                    return
            finally:
                server.terminate()
                server.wait(20)
    pytest.fail("no JACK server starts; is /dev/shm full of dead ones? rm /dev/shm/jack*")


def _is_up(server: subprocess.Popen[bytes], name: str) -> bool:
    """Whether the server answers; False where it gave up, as where the name is taken."""
    for _ in range(20):
        if server.poll() is not None:
            return False
        waiting = ["jack_wait", "-s", name, "-w", "-t", "1"]
        done = subprocess.run(waiting, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if done.returncode == 0:
            return server.poll() is None
    return False


def start(code: str, *arguments: str, **options: object) -> subprocess.Popen[str]:
    """A Python program of its own."""
    return subprocess.Popen(
        [sys.executable, "-u", "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
        env=os.environ.copy(),
        **options,  # type: ignore[call-overload]
    )


def start_ready(code: str, *arguments: str) -> subprocess.Popen[str]:
    """One that says "ready" when it is."""
    process = start(code, *arguments)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def stop(process: subprocess.Popen[str]) -> None:
    """End a program: by the end of its input, else by force."""
    try:
        process.communicate(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
