"""Raw samples from a pipe."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from sf_plugin.audio.resampler import MonoResampler
from sf_plugin.audio.source import Source
from sf_plugin.errors import AudioError

ENCODINGS = {"s16le": ("<i2", 1 / 32768), "f32le": ("<f4", 1.0)}
"""Name to numpy type and the factor to full scale 1.0."""

READ_BYTES = 16384
POLL_SECONDS = 0.1


class PcmSource(Source):
    """Interleaved samples without a header, as they arrive.

    Bytes after the last whole frame are ignored.

    Args:
        encoding: "s16le" or "f32le".
        rate: Hz.
        channels: samples per frame.
        file: a pipe or file; standard input where not given.

    Raises:
        AudioError: an argument is none of these, or standard input is a terminal.
    """

    def __init__(
        self,
        encoding: str = "s16le",
        rate: int = 44100,
        channels: int = 1,
        file: BinaryIO | None = None,
    ) -> None:
        if encoding not in ENCODINGS:
            known = " or ".join(ENCODINGS)
            raise AudioError(f"raw audio: {encoding!r} is no known encoding: use {known}")
        if not 1000 <= rate <= 768000:
            raise AudioError(f"raw audio: rate {rate} Hz is not in 1000 to 768000")
        if not 1 <= channels <= 64:
            raise AudioError(f"raw audio: {channels} channels is not in 1 to 64")
        self._file = sys.stdin.buffer if file is None else file
        if self._file.isatty():
            raise AudioError("standard input is a terminal: pipe raw audio into it")
        self._encoding, self._rate, self._channels = encoding, rate, channels
        self._closed = False

    @classmethod
    def from_spec(cls, spec: str) -> PcmSource:
        """Standard input described as `[ENCODING[,RATE[,CHANNELS]]]`."""
        parts = [part.strip() for part in spec.split(",")] if spec else []
        try:
            encoding, rate, channels = [*parts, *("s16le", "44100", "1")[len(parts) :]]
            return cls(encoding, int(rate), int(channels))
        except ValueError:
            raise AudioError(
                f"raw audio {spec!r}: write ENCODING,RATE,CHANNELS such as s16le,44100,2"
            ) from None

    def blocks(self, sample_rate: int) -> Iterator[NDArray[np.float32]]:
        dtype, scale = ENCODINGS[self._encoding]
        frame_bytes = np.dtype(dtype).itemsize * self._channels
        resampler = MonoResampler(self._rate, sample_rate)
        pending, heard = b"", False
        while (data := self._read()) is not None:
            pending += data
            whole = len(pending) // frame_bytes * frame_bytes
            frames = np.frombuffer(pending[:whole], dtype).reshape(-1, self._channels)
            pending = pending[whole:]
            heard = heard or len(frames) > 0
            block = resampler.feed(frames * np.float32(scale))
            if len(block):
                yield block
        if self._closed:
            return
        if not heard:
            raise AudioError("standard input ended without a sample: pipe raw audio into it")
        rest = resampler.finish()
        if len(rest):
            yield rest

    def _read(self) -> bytes | None:
        descriptor = self._file.fileno()
        while not self._closed:
            if os.name == "posix" and not select.select([descriptor], [], [], POLL_SECONDS)[0]:
                continue
            return os.read(descriptor, READ_BYTES) or None
        return None

    def close(self) -> None:
        self._closed = True
