"""The interface of everything that can be listened to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray


class Source(ABC):
    """Mono samples in order, resampled to the rate that was asked for.

    A context manager; closing twice is harmless.  What the samples are cut into
    carries no meaning.
    """

    dropped_seconds: float = 0.0
    """Audio lost so far (overruns); 0 for files."""

    waiting_seconds: float = 0.0
    """Sound recorded and not yet taken; 0 for files."""

    live: bool = False
    """Whether the sound is made now, and does not wait."""

    seconds: float | None = None
    """Length where known beforehand."""

    @abstractmethod
    def blocks(self, sample_rate: int) -> Iterator[NDArray[np.float32]]:
        """(n,) float32 blocks, full scale 1.0, until the end or `close`.

        Raises:
            AudioError: the device or file cannot be read.
        """

    def close(self) -> None:
        """Stop; `blocks` ends soon after."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
