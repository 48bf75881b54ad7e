"""Any rate and channel count to mono at the rate wanted, block by block."""

from __future__ import annotations

from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray


def mix_down(samples: NDArray[Any]) -> NDArray[np.float32]:
    """The mean of the channels: (n,) or (n, channels) to (n,) float32.

    Values that are no numbers become silence: one of them would stay in a
    recurrent network for good.
    """
    mono = samples if samples.ndim == 1 else samples.mean(axis=1)
    finite = np.asarray(mono, dtype=np.float32)
    if not np.isfinite(finite).all():
        finite = np.nan_to_num(finite, nan=0.0, posinf=1.0, neginf=-1.0)
    return np.ascontiguousarray(finite)


class MonoResampler:
    """Streams (n,) or (n, channels) at `input_rate` Hz to mono at `output_rate` Hz.

    How the input is cut into blocks does not change the samples that come out.
    """

    def __init__(self, input_rate: float, output_rate: float) -> None:
        self._stream = (
            None
            if input_rate == output_rate
            else soxr.ResampleStream(input_rate, output_rate, 1, dtype="float32", quality="HQ")
        )

    def feed(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        """What is known after these samples: (m,), perhaps empty."""
        mono = mix_down(samples)
        if self._stream is None or not len(mono):
            return mono
        return np.asarray(self._stream.resample_chunk(mono), dtype=np.float32)

    def finish(self) -> NDArray[np.float32]:
        """The rest, at the end of the input."""
        empty = np.zeros(0, np.float32)
        if self._stream is None:
            return empty
        return np.asarray(self._stream.resample_chunk(empty, last=True), dtype=np.float32)
