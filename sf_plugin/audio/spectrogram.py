"""The streaming, frame-exact, causal log-frequency spectrogram."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Band:
    """Semitone-wide filters over one window.

    Attributes:
        window: samples.
        lowest: MIDI number of the lowest filter's centre.
        highest: MIDI number of the highest filter's centre.
        per_octave: filters an octave.
        fall: samples in which the window falls to nothing at its end; 0 for half of
            it, a Hann window.  A short fall hears a new note early: 25 ms after an
            onset a Hann window of 93 ms has a tenth of its weight on the new note, one
            that falls in 12 ms four tenths.
    """

    window: int
    lowest: float
    highest: float
    per_octave: int = 12
    fall: int = 0

    def centres(self) -> NDArray[np.float64]:
        """Hz, (filters,)."""
        step = 12 / self.per_octave
        midi = np.arange(self.lowest, self.highest + step / 2, step)
        return 440.0 * 2 ** ((midi - 69) / 12)

    def weights(self) -> NDArray[np.float64]:
        """(window,) a slow rise and a quick fall; a full-scale sine peaks at 1."""
        fall = self.fall or self.window // 2
        rise = self.window - fall
        up = np.hanning(2 * rise + 1)[:rise]
        down = np.hanning(2 * fall + 1)[fall : 2 * fall]
        weights = np.concatenate([up, down])
        return weights / (weights.sum() / 2)


@dataclass(frozen=True, slots=True)
class SpectrogramConfig:
    """What a frame is.

    Frame n is centred on n / fps seconds: it hears `lookahead` samples beyond
    that and is known only then.  All windows of a frame end at the same sample.

    `level_half_life` is seconds in which the automatic gain forgets a loud
    sound; 0 switches it off (and `level_floor` divides instead).
    """

    sample_rate: int = 22050
    fps: int = 40
    lookahead: int = 1024
    bands: tuple[Band, ...] = (Band(8192, 28, 88, fall=1024), Band(2048, 45, 119, fall=256))
    gain: float = 100.0
    level_half_life: float = 6.0
    level_floor: float = 1e-3

    @property
    def bins(self) -> int:
        return sum(len(band.centres()) for band in self.bands)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> SpectrogramConfig:
        return cls(**{**data, "bands": tuple(Band(**band) for band in data["bands"])})


PAPER = SpectrogramConfig(
    fps=20,
    bands=(Band(2048, 34.5, 111.5),),
    gain=1.0,
    level_half_life=0.0,
    level_floor=1.0,
)
"""78 semitone bins from 60 Hz to 5.1 kHz at 20 fps, as in Henkel et al. 2020."""


class _FilterBank:
    """Triangular filters of one band as a sparse product over the power spectrum."""

    def __init__(self, band: Band, sample_rate: int) -> None:
        self.window = band.weights().astype(np.float32)
        frequencies = np.fft.rfftfreq(band.window, 1 / sample_rate)
        resolution = sample_rate / band.window
        centres = band.centres()
        ratio = 2 ** (1 / band.per_octave)
        index: list[NDArray[np.intp]] = []
        weight: list[NDArray[np.float64]] = []
        starts: list[int] = []
        for centre in centres:
            low = min(centre / ratio, centre - resolution)
            high = max(centre * ratio, centre + resolution)
            inside = np.flatnonzero((frequencies > low) & (frequencies < high))
            f = frequencies[inside]
            starts.append(sum(len(inside) for inside in index))
            index.append(inside)
            weight.append(np.minimum((f - low) / (centre - low), (high - f) / (high - centre)))
        self._index = np.concatenate(index)
        self._weight = np.concatenate(weight).astype(np.float32)
        self._starts = np.array(starts)

    def __call__(self, samples: Floats) -> Floats:
        spectrum = np.fft.rfft(samples * self.window)
        power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
        bins: Floats = np.add.reduceat(power[self._index] * self._weight, self._starts)
        return bins


class Spectrogram:
    """Samples in, frames out; the same numbers however the samples are cut.

    `power` gives filter-bank power before gain and logarithm; `feed` gives
    features.  Use one or the other on one object.
    """

    def __init__(self, config: SpectrogramConfig = SpectrogramConfig()) -> None:
        self.config = config
        self._banks = [_FilterBank(band, config.sample_rate) for band in config.bands]
        self._longest = max(band.window for band in config.bands)
        self.reset()

    def reset(self) -> None:
        """Start again at time 0 in silence."""
        self._next = 0
        self._level = self.config.level_floor
        self._first = -self._longest
        self._buffer = np.zeros(self._longest, np.float32)

    def time(self, frame: int) -> float:
        """Seconds of audio heard when `frame` is known."""
        return self._end(frame) / self.config.sample_rate

    def _end(self, frame: int) -> int:
        return frame * self.config.sample_rate // self.config.fps + self.config.lookahead

    def power(self, samples: Floats) -> Floats:
        """(n,) samples to (frames, bins) power of the frames they complete."""
        if len(samples):
            self._buffer = np.concatenate([self._buffer, samples.astype(np.float32, copy=False)])
        frames = []
        while (end := self._end(self._next) - self._first) <= len(self._buffer):
            frames.append(
                np.concatenate(
                    [bank(self._buffer[end - len(bank.window) : end]) for bank in self._banks]
                )
            )
            self._next += 1
        surplus = self._end(self._next) - self._longest - self._first
        if surplus > 0:
            self._buffer = self._buffer[surplus:]
            self._first += surplus
        if not frames:
            return np.zeros((0, self.config.bins), np.float32)
        return np.stack(frames)

    def compress(self, power: Floats) -> Floats:
        """(frames, bins) power to features, carrying the automatic gain along."""
        c = self.config
        magnitude = np.sqrt(power)
        if not c.level_half_life:
            return np.log1p(magnitude * np.float32(c.gain / c.level_floor))
        forget = 0.5 ** (1 / (c.fps * c.level_half_life))
        scale = np.empty(len(magnitude), np.float32)
        for n, peak in enumerate(magnitude.max(1, initial=0).tolist()):
            self._level = max(self._level * forget, peak, c.level_floor)
            scale[n] = c.gain / self._level
        return np.log1p(magnitude * scale[:, None])

    def hear(self, samples: Floats) -> tuple[Floats, Floats]:
        """(n,) samples to (frames, bins) features and (frames,) peaks.

        A peak is the amplitude of a frame's strongest bin before the gain, full
        scale 1.
        """
        power = self.power(samples)
        return self.compress(power), np.sqrt(power.max(1, initial=0))

    def feed(self, samples: Floats) -> Floats:
        """(n,) samples to (frames, bins) features of the frames they complete."""
        return self.hear(samples)[0]
