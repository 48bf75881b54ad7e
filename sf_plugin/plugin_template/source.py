"""A metronome to practise with the follower: `--audio my-plugin:90`, beats a minute."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sf_plugin import AudioError, hookimpl
from sf_plugin.audio.source import Source
from sf_plugin.hookspecs import RegisterSource

BEATS = 16
SLOWEST, FASTEST = 20.0, 400.0


@hookimpl
def register_sources(register: RegisterSource) -> None:
    register("my-plugin", MyPlugin, help="a metronome: beats a minute")


class MyPlugin(Source):
    """A click a beat.

    Args:
        rest: what stands after the colon.

    Raises:
        AudioError: it is no tempo.
    """

    def __init__(self, rest: str) -> None:
        try:
            self.tempo = float(rest)
        except ValueError:
            self.tempo = 0.0
        if not SLOWEST <= self.tempo <= FASTEST:
            raise AudioError(f"my-plugin:{rest}: is no tempo: say beats a minute, such as 90")
        self.seconds = BEATS * 60 / self.tempo
        self.closed = False

    def blocks(self, sample_rate: int) -> Iterator[NDArray[np.float32]]:
        time = np.arange(round(60 / self.tempo * sample_rate)) / sample_rate
        click = 0.5 * np.sin(2 * np.pi * 1000 * time) * np.exp(-60 * time)
        for _ in range(BEATS):
            if self.closed:
                return
            yield click.astype(np.float32)

    def close(self) -> None:
        self.closed = True
