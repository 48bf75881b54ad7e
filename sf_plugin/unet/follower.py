"""The image U-Net as a follower: samples → frames → mask → one path."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sf_plugin.audio.spectrogram import Spectrogram
from sf_plugin.errors import ScoreError
from sf_plugin.followers import Follower, Progress, no_progress
from sf_plugin.positions import Estimate
from sf_plugin.score.layout import Layout
from sf_plugin.score.model import Score
from sf_plugin.tracking.document import DocumentOnsets
from sf_plugin.tracking.smoothing import Hearing, Smoother
from sf_plugin.tracking.tracker import Tracker, TrackerConfig
from sf_plugin.unet.audio_encoder import audio_stream
from sf_plugin.unet.hearing import WholeLogits
from sf_plugin.unet.network import Onsets
from sf_plugin.unet.pages import EncodedPage, PageEncoder, document_layout
from sf_plugin.unet.weights import SHIPPED, load_weights

PATH = TrackerConfig()

SILENCE = 1e-3
"""Amplitude of the loudest partial, full scale 1, below which nothing sounds."""

BESIDE = 0.01
"""The same, beside what was loudest in the last seconds."""

SOUNDS = 0.5
"""Probability from which the network hears a note."""


class UNetFollower(Follower):
    """Follows a whole document; knows neither the page nor the boxes beforehand.

    Args:
        weights: a safetensors file written by training.
        tracker: how the path may move.

    Raises:
        WeightsError: the weights are missing, damaged or of another version.
    """

    def __init__(
        self,
        weights: Path = SHIPPED,
        tracker: TrackerConfig = PATH,
    ) -> None:
        torch.set_num_threads(1)
        self.net = load_weights(weights)
        self.spectrogram = Spectrogram(self.net.config.spectrogram)
        self.ear = audio_stream(self.net.audio)
        self.sample_rate = self.spectrogram.config.sample_rate
        self.lag = self.spectrogram.time(0)
        self.tracker_config = tracker
        self._forget = 0.5 ** (1 / (5 * self.spectrogram.config.fps))
        self.tracker: Tracker | None = None
        self.pages: list[EncodedPage | None] = []
        self.reset()

    def prepare(self, score: Score, progress: Progress = no_progress) -> Layout:
        encoder = PageEncoder(self.net)
        self.pages = []
        measures = 0
        known_pages = score.layout.pages if score.layout is not None else None
        if known_pages is not None and len(known_pages) != len(score.pages):
            raise ScoreError(
                f"{score.name}: the layout has {len(known_pages)} pages, the score "
                f"{len(score.pages)}: is it another score's layout?"
            )
        for number, image in enumerate(score.pages):
            progress("reading pages", number, len(score.pages))
            known = known_pages[number] if known_pages is not None else None
            page = encoder(image, number + 1, measures + 1, known)
            if page is not None:
                measures += sum(len(system.measures) for system in page.layout.systems)
            self.pages.append(page)
        progress("reading pages", len(score.pages), len(score.pages))
        read = [page for page in self.pages if page is not None]
        if not read:
            raise ScoreError(f"{score.name}: no staves found on any page; is it printed music?")
        self.onsets = Onsets.join([page.onsets for page in read])
        self.document = DocumentOnsets.of_pages(read)
        self.tracker = Tracker(self.document, self.spectrogram.config.fps, self.tracker_config)
        self.reset()
        return document_layout(self.pages)

    def reset(self) -> None:
        self.spectrogram.reset()
        self.ear.reset()
        self._frame = 0
        self._loudest = 0.0
        if self.tracker is not None:
            self.tracker.reset()

    def feed(self, samples: NDArray[np.float32]) -> list[Estimate]:
        if self.tracker is None:
            raise ScoreError("no score on the stand: call prepare() first")
        estimates = []
        for frame, peak in zip(*self.spectrogram.hear(samples), strict=True):
            logits, sounding, struck = self.hear(frame)
            quiet = self._is_quiet(float(peak), sounding)
            time = self.spectrogram.time(self._frame)
            estimates.append(self.tracker.step(logits, time, quiet=quiet, struck=struck))
            self._frame += 1
        return estimates

    def _is_quiet(self, peak: float, sounding: float) -> bool:
        self._loudest = max(peak, self._loudest * self._forget)
        return peak < max(SILENCE, BESIDE * self._loudest) or sounding < 0.5 * SOUNDS

    def align(
        self, blocks: Iterable[NDArray[np.float32]], progress: Progress = no_progress
    ) -> list[Estimate]:
        hearing = self.hear_whole(blocks)
        fps = self.spectrogram.config.fps
        return Smoother(self.document, fps, self.tracker_config).smooth(hearing, progress)

    @torch.inference_mode()
    def hear_whole(self, blocks: Iterable[NDArray[np.float32]]) -> Hearing:
        """Hear a performance from its beginning to its end; what `feed` hears, but quicker."""
        if self.tracker is None:
            raise ScoreError("no score on the stand: call prepare() first")
        self.reset()
        said, state = [torch.zeros(0, self.net.audio.out)], None
        quiet: list[bool] = []
        struck: list[float] = []
        for block in blocks:
            frames, peaks = self.spectrogram.hear(block)
            if not len(frames):
                continue
            z, state = self.net.audio(torch.from_numpy(frames)[None], state)
            sounding, begun = self.net.hear(z[0])[:, :2].amax(2).T.tolist()
            quiet += map(self._is_quiet, peaks.tolist(), sounding)
            struck += begun
            said.append(z[0])
        time = np.array([self.spectrogram.time(n) for n in range(len(quiet))])
        logits = WholeLogits(self.net, self.onsets, torch.cat(said))
        return Hearing(logits, time, np.array(quiet, bool), np.array(struck, np.float32))

    @torch.inference_mode()
    def hear(self, frame: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, float]:
        """One (bins,) frame to (onsets,) logits over the document.

        Also how likely the surest pitch sounds, and how likely the surest begins.
        """
        z = self.ear.hear(torch.from_numpy(frame))
        logits, heard = self.net.place_logits(self.onsets, z[None])
        sounding, struck = heard[0, :2].amax(1).tolist()
        return logits[0].numpy(), sounding, struck

    def goto(self, page: int, x: float, y: float) -> None:
        if self.tracker is not None:
            self.tracker.goto(page, x, y)

    def mask(self, page: int) -> NDArray[np.float32] | None:
        """The tracker's belief painted into the systems of a page, likeliest cell 1."""
        if self.tracker is None or not 1 <= page <= len(self.pages):
            return None
        encoded = self.pages[page - 1]
        if encoded is None:
            return None
        rows, columns = encoded.grid
        mask = np.zeros((rows, columns), np.float32)
        belief = self.tracker.belief()
        belief = belief[self.document.page == page] / max(float(belief.max()), 1e-12)
        for number, (s, box) in enumerate(
            zip(encoded.systems, encoded.layout.systems, strict=True)
        ):
            mine = encoded.system == number
            edges = np.append(encoded.at[mine], s.right)
            painted = np.repeat(belief[mine], np.diff(edges))
            height = slice(int(box.top * rows), int(np.ceil(box.bottom * rows)))
            mask[height, edges[0] : s.right] = painted
        return mask
