"""The published network as a follower: where its mask over the pages is highest, the music is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sf_plugin.audio.spectrogram import Spectrogram
from sf_plugin.errors import ScoreError
from sf_plugin.followers import Follower, Progress, no_progress
from sf_plugin.positions import Estimate
from sf_plugin.score.layout import Layout, PageLayout
from sf_plugin.score.model import Score
from sf_plugin.unet.audio_encoder import audio_stream
from sf_plugin.unet.weights import load_weights

MASKED = 0.5
"""Probability from which a pixel belongs to the mask."""


def shrunk(ink: Tensor, width: int) -> Tensor:
    """(1, 1, rows, columns) ink to the width that the network reads, its shape kept."""
    rows, columns = ink.shape[2:]
    small = F.interpolate(ink, (round(rows * width / columns), width), mode="area")
    return small.contiguous(memory_format=torch.channels_last)


class PixelFollower(Follower):
    """Follows by the mask of each frame alone: no systems, no tracker, nothing remembered.

    The conditioned blocks of all pages are computed every frame, so that a document of
    several pages takes longer than the music.

    Args:
        weights: a safetensors file written by training with the readout "pixels".

    Raises:
        WeightsError: the weights are missing, damaged or of another version.
    """

    def __init__(self, weights: Path) -> None:
        torch.set_num_threads(1)
        self.net = load_weights(weights)
        self.spectrogram = Spectrogram(self.net.config.spectrogram)
        self.ear = audio_stream(self.net.audio)
        self.sample_rate = self.spectrogram.config.sample_rate
        self.lag = self.spectrogram.time(0)
        self._pages: list[dict[str, Tensor]] = []
        self.reset()

    @torch.inference_mode()
    def prepare(self, score: Score, progress: Progress = no_progress) -> Layout:
        self._pages = []
        self._numbers = [index + 1 for index in score.followed]
        for done, number in enumerate(self._numbers):
            progress("reading pages", done, len(self._numbers))
            image = score.pages[number - 1]
            ink = torch.from_numpy(1 - image.astype(np.float32) / 255)[None, None]
            self._pages.append(self.net.page.encode(shrunk(ink, self.net.config.page_width)))
        progress("reading pages", len(self._numbers), len(self._numbers))
        self.reset()
        found = Layout(tuple(PageLayout(page + 1) for page in range(len(score.pages))))
        return score.layout or found

    def reset(self) -> None:
        self.spectrogram.reset()
        self.ear.reset()
        self._frame = 0
        self._begun = False
        self._masks: list[NDArray[np.float32]] = []

    def feed(self, samples: NDArray[np.float32]) -> list[Estimate]:
        if not self._pages:
            raise ScoreError("no score on the stand: call prepare() first")
        estimates = []
        for frame in self.spectrogram.feed(samples):
            self._masks = self.hear(frame)
            estimates.append(self._estimate(self.spectrogram.time(self._frame)))
            self._frame += 1
        return estimates

    @torch.inference_mode()
    def hear(self, frame: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """One (bins,) frame to the (rows, columns) probabilities of every page."""
        z = self.ear.hear(torch.from_numpy(frame))[None]
        logits = [self.net.page_logits(page, z)[0] for page in self._pages]
        return [torch.sigmoid(each).numpy() for each in logits]

    def _estimate(self, time: float) -> Estimate:
        """The middle of the pixel that is likeliest on all pages."""
        page = int(np.argmax([mask.max() for mask in self._masks]))
        mask = self._masks[page]
        row, column = np.unravel_index(int(mask.argmax()), mask.shape)
        confidence = float(mask[row, column])
        self._begun |= confidence > MASKED
        return Estimate(
            time,
            page=self._numbers[page],
            x=round((float(column) + 0.5) / mask.shape[1], 4),
            y=round((float(row) + 0.5) / mask.shape[0], 4),
            confidence=round(confidence, 4),
            state="waiting" if not self._begun else "tracking" if confidence > MASKED else "unsure",
        )

    def mask(self, page: int) -> NDArray[np.float32] | None:
        """What was last heard of the page."""
        shown = self._masks and page in self._numbers
        return self._masks[self._numbers.index(page)] if shown else None
