"""Raw samples from a pipe."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class PcmFormat:
    """Interleaved samples without a header.

    Attributes:
        encoding: "s16le" or "f32le".
        rate: Hz.
        channels: samples per frame.

    Raises:
        AudioError: an attribute is none of these.
    """

    encoding: str = "s16le"
    rate: int = 44100
    channels: int = 1

    def __post_init__(self) -> None:
        if self.encoding not in ENCODINGS:
            known = " or ".join(ENCODINGS)
            raise AudioError(f"raw audio: {self.encoding!r} is no known encoding: use {known}")
        if not 1000 <= self.rate <= 768000:
            raise AudioError(f"raw audio: rate {self.rate} Hz is not in 1000 to 768000")
        if not 1 <= self.channels <= 64:
            raise AudioError(f"raw audio: {self.channels} channels is not in 1 to 64")

    @classmethod
    def from_spec(cls, spec: str) -> PcmFormat:
        """Described as `[ENCODING[,RATE[,CHANNELS]]]`."""
        parts = [part.strip() for part in spec.split(",")] if spec else []
        try:
            encoding, rate, channels = [*parts, *("s16le", "44100", "1")[len(parts) :]]
            return cls(encoding, int(rate), int(channels))
        except ValueError:
            raise AudioError(
                f"raw audio {spec!r}: write ENCODING,RATE,CHANNELS such as s16le,44100,2"
            ) from None

    def read(self, data: bytes) -> tuple[NDArray[np.float32], bytes]:
        """(n, channels) samples, full scale 1.0, and the bytes after the last whole frame."""
        dtype, scale = ENCODINGS[self.encoding]
        frame_bytes = np.dtype(dtype).itemsize * self.channels
        whole = len(data) // frame_bytes * frame_bytes
        frames = np.frombuffer(data[:whole], dtype).reshape(-1, self.channels)
        with np.errstate(invalid="ignore"):
            return frames * np.float32(scale), data[whole:]


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
        self._format = PcmFormat(encoding, rate, channels)
        self._file = sys.stdin.buffer if file is None else file
        if self._file.isatty():
            raise AudioError("standard input is a terminal: pipe raw audio into it")
        self._closed = False

    @classmethod
    def from_spec(cls, spec: str) -> PcmSource:
        """Standard input described as `[ENCODING[,RATE[,CHANNELS]]]`."""
        form = PcmFormat.from_spec(spec)
        return cls(form.encoding, form.rate, form.channels)

    def blocks(self, sample_rate: int) -> Iterator[NDArray[np.float32]]:
        resampler = MonoResampler(self._format.rate, sample_rate)
        pending, heard = b"", False
        while (data := self._read()) is not None:
            frames, pending = self._format.read(pending + data)
            heard = heard or len(frames) > 0
            block = resampler.feed(frames)
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
