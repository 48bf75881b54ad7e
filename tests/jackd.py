"""A real JACK server without a sound card, and a program that plays into it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

needs_jackd = pytest.mark.skipif(not shutil.which("jackd"), reason="jackd is not installed")

SAMPLE_RATE = 44100


@contextmanager
def jack_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    """A dummy server of its own name, which this process and its children use."""
    name = f"sf-{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("JACK_DEFAULT_SERVER", name)
    monkeypatch.setenv("JACK_NO_START_SERVER", "1")
    command = ["jackd", "-r", "-n", name, "-d", "dummy", "-r", str(SAMPLE_RATE), "-p", "1024"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        waiting = ["jack_wait", "-s", name, "-w", "-t", "20"]
        subprocess.run(waiting, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        yield server
    finally:
        server.terminate()
        server.wait(20)


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


def stop(process: subprocess.Popen[str]) -> None:
    """End a program: by the end of its input, else by force."""
    try:
        process.communicate(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
