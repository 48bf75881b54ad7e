"""The image U-Net as a follower: samples → frames → mask → one path."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sf_plugin.audio.spectrogram import Spectrogram
from sf_plugin.errors import ScoreError
from sf_plugin.followers import Follower, Progress, Reading, no_progress
from sf_plugin.positions import Estimate
from sf_plugin.score.layout import Layout
from sf_plugin.score.model import Score
from sf_plugin.score.structure import find_roads
from sf_plugin.score.symbols import named
from sf_plugin.tracking.attention import Attention
from sf_plugin.tracking.document import DocumentOnsets
from sf_plugin.tracking.smoothing import Hearing, Smoother
from sf_plugin.tracking.tracker import Tracker, TrackerConfig
from sf_plugin.unet.audio_encoder import audio_stream
from sf_plugin.unet.head import AskedOnsets, Head
from sf_plugin.unet.hearing import WholeLogits
from sf_plugin.unet.network import Onsets
from sf_plugin.unet.pages import EncodedPage, document_layout
from sf_plugin.unet.reading import LaterPages, PageReader, Pages
from sf_plugin.unet.weights import SHIPPED, load_weights

log = logging.getLogger("sf_plugin")

PATH = TrackerConfig()

SILENCE = 1e-3
"""Amplitude of the loudest partial, full scale 1, below which nothing sounds."""

BESIDE = 0.01
"""The same, beside what was loudest in the last seconds."""

SOUNDS = 0.5
"""Probability from which the network hears a note."""

AHEAD = 2
"""Pages beyond those asked for that are read before following begins."""

MANY = 60
"""Pages from which on a user is told that reading them takes its time."""


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
        self.head = Head(self.net)
        self.sample_rate = self.spectrogram.config.sample_rate
        self.lag = self.spectrogram.time(0)
        self.tracker_config = tracker
        self._forget = 0.5 ** (1 / (5 * self.spectrogram.config.fps))
        self.tracker: Tracker | None = None
        self.pages: list[EncodedPage | None] = []
        self._start: tuple[int, float, float] | None = None
        self.reset()

    def prepare(self, score: Score, progress: Progress = no_progress) -> Layout:
        with self.read(score, progress, len(score.pages)) as reading:
            return reading.layout

    def read(self, score: Score, progress: Progress = no_progress, through: int = 1) -> Reading:
        reader, indices = PageReader(self.net, score), list(score.followed)
        if score.written or score.order:
            through = len(score.pages)
        first = [index for index in indices if index < through + AHEAD]
        if len(first) >= MANY:
            log.warning(
                "%s: %d pages are read before following begins, which takes a while: "
                "--pages FIRST-LAST chooses those to follow",
                score.name,
                len(first),
            )
        self._score, self._start, self.tracker = score, None, None
        self.pages = [None] * len(score.pages)
        for done, index in enumerate(indices):
            if done >= len(first) and any(self.pages):
                break
            progress("reading pages", done, max(len(first), done + 1))
            self.pages[index] = reader.read(index)
        else:
            done = len(indices)
        progress("reading pages", done, done)
        layout = self._take_in([])
        rest = indices[done:]
        return LaterPages(layout, reader, rest, self._take_in) if rest else Reading(layout)

    def _take_in(self, pages: Pages) -> Layout:
        """Listen for what is on these pages too."""
        for index, page in pages:
            self.pages[index] = page
        read = [page for page in self.pages if page is not None]
        if not read:
            raise ScoreError(
                f"{self._score.name}: no staves found on any page; is it printed music?"
            )
        if self._score.written:
            read = self._name(self._score, read)
        self._onsets = Onsets.join([page.onsets for page in read])
        self._everywhere = AskedOnsets(self._onsets)
        self._document = DocumentOnsets.of_pages(read)
        layout = document_layout(self.pages)
        self.roads = find_roads(layout, self._score.order)
        numbers = [page.layout.page for page in read]
        if self.tracker is None:
            self._listen_for(self._onsets)
            self._here = slice(0, len(self._document))
            fps = self.spectrogram.config.fps
            self.tracker = Tracker(self._document, fps, self.tracker_config, self.roads)
            self.attention = Attention(numbers)
            self.reset()
        else:
            self.attention.extend(numbers)
            self._attend()
        known = None if self._score.written else self._score.layout
        return known or layout

    def _name(self, score: Score, read: list[EncodedPage]) -> list[EncodedPage]:
        """The pages with the names of the symbolic score beside them."""
        places = _places(DocumentOnsets.of_pages(read))
        layout = named(document_layout(self.pages), score, places)
        read = [replace(page, layout=layout.pages[page.layout.page - 1]) for page in read]
        for page in read:
            self.pages[page.layout.page - 1] = page
        return read

    def places(self) -> list[tuple[int, float, float]]:
        return [] if self.tracker is None else _places(self._document)

    def reset(self) -> None:
        self.spectrogram.reset()
        self.ear.reset()
        self._frame = 0
        self._loudest = 0.0
        if self.tracker is not None:
            self.attention.reset()
            if self._start is not None:
                self.attention.look_around(self._start[0])
            self._attend()
            self.tracker.reset()
            if self._start is not None:
                self.tracker.expect(*self._start)

    def _attend(self) -> None:
        """Listen for the pages that the attention is on."""
        assert self.tracker is not None
        first, last = self.attention.pages
        here = slice(*np.searchsorted(self._document.page, [first, last + 1]).tolist())
        if here != self._here:
            self._here = here
            self._listen_for(self._onsets.part(here))
            self.tracker.attend(self._document.part(here), self.roads)

    def _listen_for(self, onsets: Onsets) -> None:
        self.onsets = onsets
        self._asked = AskedOnsets(onsets, at_hand=True)

    @property
    def document(self) -> DocumentOnsets:
        """The onsets that are now listened for."""
        assert self.tracker is not None
        return self.tracker.document

    def expect(self, page: int, x: float, y: float) -> None:
        self._start = page, x, y
        self.reset()

    def feed(self, samples: NDArray[np.float32]) -> list[Estimate]:
        if self.tracker is None:
            raise ScoreError("no score on the stand: call prepare() first")
        estimates = []
        for frame, peak in zip(*self.spectrogram.hear(samples), strict=True):
            time = self.spectrogram.time(self._frame)
            self._frame += 1
            if self._frame % self.hurry:
                estimates.append(self.tracker.coast(time))
                continue
            logits, sounding, struck = self.hear(frame)
            quiet = self._is_quiet(float(peak), sounding)
            estimates.append(self.tracker.step(logits, time, quiet=quiet, struck=struck))
            if self.attention.hear(estimates[-1], quiet=quiet):
                self._attend()
        return estimates

    def _is_quiet(self, peak: float, sounding: float) -> bool:
        self._loudest = max(peak, self._loudest * self._forget)
        return peak < max(SILENCE, BESIDE * self._loudest) or sounding < 0.5 * SOUNDS

    def align(
        self, blocks: Iterable[NDArray[np.float32]], progress: Progress = no_progress
    ) -> list[Estimate]:
        hearing = self.hear_whole(blocks)
        fps = self.spectrogram.config.fps
        smoother = Smoother(self.document, fps, self.tracker_config, self.roads)
        return smoother.smooth(hearing, progress)

    @torch.inference_mode()
    def hear_whole(self, blocks: Iterable[NDArray[np.float32]]) -> Hearing:
        """Hear a performance from its beginning to its end; what `feed` hears, but quicker."""
        if self.tracker is None:
            raise ScoreError("no score on the stand: call prepare() first")
        self.reset()
        self.attention.reset()
        self._attend()
        said, state = [torch.zeros(0, self.net.audio.width)], None
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
        logits, heard = self.head.hear(self.ear.hear(torch.from_numpy(frame)), self._asked)
        sounding, struck = heard[:2].max(1).tolist()
        if struck > SOUNDS and not self.attention.everywhere:
            everywhere = self.head.ask(self._everywhere)
            here = math.exp(logsumexp(logits) - logsumexp(everywhere))
            self.attention.glance(1 - here)
        return logits, sounding, struck

    def goto(self, page: int, x: float, y: float) -> None:
        if self.tracker is not None:
            self.attention.look_around(page)
            self._attend()
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
        if not len(belief):
            return mask
        for number, (s, box) in enumerate(
            zip(encoded.systems, encoded.layout.systems, strict=True)
        ):
            mine = encoded.system == number
            edges = np.append(encoded.at[mine], s.right)
            painted = np.repeat(belief[mine], np.diff(edges))
            height = slice(int(box.top * rows), int(np.ceil(box.bottom * rows)))
            mask[height, edges[0] : s.right] = painted
        return mask


def logsumexp(logits: NDArray[np.float32]) -> float:
    """Logarithm of the sum of the exponentials."""
    highest = float(logits.max())
    return highest + math.log(float(np.exp(logits - highest).sum()))


def _places(onsets: DocumentOnsets) -> list[tuple[int, float, float]]:
    return list(zip(onsets.page.tolist(), onsets.x.tolist(), onsets.y.tolist(), strict=True))
