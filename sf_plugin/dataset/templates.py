"""A fast synthesiser in the spectrogram domain.

Every key of several instruments is rendered once and kept as filter-bank power over the
time since its onset; a performance is the sum in power, so every training step hears a
new instrument, tuning, room, microphone and level at the cost of a few milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from sf_plugin.audio.spectrogram import Floats, Spectrogram, SpectrogramConfig
from sf_plugin.dataset.acoustics import NOISES, Room, hall, home, loudness, phone_microphone
from sf_plugin.dataset.instruments import TRAINING_INSTRUMENTS
from sf_plugin.dataset.performance import NOTE
from sf_plugin.dataset.render import render
from sf_plugin.errors import ScoreFollowerError
from sf_plugin.workers import in_order

HEARD = SpectrogramConfig()
PITCHES = range(21, 109)
VELOCITIES = (24, 48, 76, 110)
KNOTS = np.concatenate([np.arange(-2, 10, 0.25), np.arange(10, 20, 0.5), np.arange(20, 40, 2),
                        np.arange(40, 80, 4), np.arange(80, 248, 8)])  # fmt: skip
"""Frames since the onset at which a note's power is kept; linear in between."""

STEP = 0.05  # powers of ten a step of the table
FLOOR = -10.0  # powers of ten of step 0

RELEASES = np.geomspace(2.0, 200.0, 24)
"""Powers of ten in which a damped note loses power a second; the table's choices."""
RELEASE_STEPS = 8  # of the release curves a frame
RELEASE_FRAMES = 60  # that a release curve covers
SILENT = 1e-6  # of a note's power: what the damper leaves and is no longer added
ROOMS = 0.75  # of the performances sound in a room

VERSION = 3
AGAIN = "scorefollow dataset templates FILE.npz"


class TemplatesError(ScoreFollowerError):
    """A file of templates that is damaged or of another version."""


# measuring


def measure_instrument(
    instrument: str, config: SpectrogramConfig
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A table (velocities, pitches, knots, bins) of held notes, and (pitches,) releases.

    The table is in steps of STEP powers of ten above FLOOR; a release is in powers of
    ten a second.
    """
    rate, hop = config.sample_rate, config.sample_rate / config.fps
    seconds = float(KNOTS[-1]) / config.fps + 0.2
    gap = seconds + 0.8
    heard = Spectrogram(config)
    shape = (len(VELOCITIES), len(PITCHES), len(KNOTS), config.bins)
    levels = np.zeros(shape, np.uint8)
    for v, velocity in enumerate(VELOCITIES):
        sound = render(_scale(velocity, gap, seconds), instrument, rate)
        for p in range(len(PITCHES)):
            onset = 1 + p * gap
            power = _at_knots(sound, onset * rate, hop, heard)
            levels[v, p] = np.clip(np.round((np.log10(power + 1e-20) - FLOOR) / STEP), 0, 255)
    return levels, _releases(instrument, rate)


def _scale(velocity: int, gap: float, duration: float) -> np.ndarray:
    notes = np.zeros(len(PITCHES), NOTE)
    notes["onset"] = 1 + np.arange(len(PITCHES)) * gap
    notes["duration"], notes["pitch"], notes["velocity"] = duration, list(PITCHES), velocity
    return notes


def _at_knots(sound: Floats, onset: float, hop: float, heard: Spectrogram) -> Floats:
    """(knots, bins) power at KNOTS after the onset (a sample number)."""
    out = np.zeros((len(KNOTS), heard.config.bins), np.float32)
    for phase in range(4):
        mine = np.flatnonzero(phase / 4 == (KNOTS % 1))
        last = int(KNOTS[mine[-1]]) + 2
        heard.reset()
        # frame 11 of the clip is centred `phase` quarters of a frame after the onset
        start = round(onset + (phase / 4 - 11) * hop)
        power = heard.power(sound[start : start + int((last + 13) * hop)])
        out[mine] = power[np.floor(KNOTS[mine]).astype(int) + 11]
    return out


def _releases(instrument: str, rate: int) -> NDArray[np.float32]:
    """(pitches,) powers of ten a second that a damper takes from what would sound."""
    held, gap = 0.6, 2.2
    kept, let_go = (
        render(_scale(64, gap, duration), instrument, rate) for duration in (gap - 0.2, held)
    )
    block = rate // 100
    out = np.zeros(len(PITCHES), np.float32)
    for p in range(len(PITCHES)):
        start = int((1 + p * gap + held) * rate)
        time = (np.arange(100) + 0.5) / 100
        powers = [
            np.square(sound[start : start + 100 * block]).reshape(100, block).mean(1) + 1e-14
            for sound in (kept, let_go)
        ]
        lost = np.log10(powers[0] / powers[1])
        first = lost < 3.0
        count = int(np.argmin(first)) if not first.all() else len(first)
        out[p] = (lost[:count] @ time[:count]) / (time[:count] @ time[:count]) if count > 1 else 100
    return np.clip(out, RELEASES[0], RELEASES[-1])


def save_templates(
    path: Path, tables: Mapping[str, tuple[NDArray[np.uint8], NDArray[np.float32]]]
) -> None:
    """Write instruments as `measure_instrument` gives them, whole or not at all."""
    arrays: dict[str, np.ndarray] = {"version": np.array(VERSION)}
    for name, (levels, releases) in tables.items():
        arrays[f"levels {name}"], arrays[f"releases {name}"] = levels, releases
    unfinished = path.with_suffix(".partial")
    with unfinished.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    unfinished.replace(path)


def measure(
    path: Path,
    instruments: Sequence[str] = TRAINING_INSTRUMENTS,
    config: SpectrogramConfig = HEARD,
    jobs: int = 1,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> None:
    """Measure instruments, half a minute each, and write their tables.

    Raises:
        ScoreFollowerError: fluidsynth or a soundfont is missing.
    """
    progress("measuring instruments", 0, len(instruments))
    tables = {}
    measured = in_order(partial(measure_instrument, config=config), instruments, jobs=jobs)
    for name, table in zip(instruments, measured, strict=True):
        tables[name] = table
        progress("measuring instruments", len(tables), len(instruments))
    save_templates(path, tables)


# synthesis


class _Instrument:
    """One instrument's tables, ready to be summed."""

    def __init__(
        self, levels: NDArray[np.uint8], releases: NDArray[np.float32], bands: list[slice]
    ) -> None:
        power = np.power(10.0, np.arange(256) * STEP + FLOOR).astype(np.float32)
        power[0] = 0
        rows = power[levels]
        # (velocities, pitches) powers of ten of a note's first quarter second
        self.loudness = np.log10(rows[:, :, KNOTS < 10].sum((2, 3)) + 1e-12)
        flat = rows.reshape(-1, rows.shape[-1])
        self.bands = [torch.from_numpy(np.ascontiguousarray(flat[:, band])) for band in bands]
        audible = rows.max(3) > 1e-7 * rows.max((2, 3))[:, :, None]
        # (pitches,) frames after which nothing is heard any more
        last = audible.any(0)[:, ::-1].argmax(1)
        self.until = KNOTS[len(KNOTS) - 1 - last]
        self.release = np.log(releases / RELEASES[0]) / np.log(RELEASES[1] / RELEASES[0])


class Templates:
    """Instruments as note templates; `synthesise` plays notes on one of them.

    Raises:
        TemplatesError: the file cannot be read, or an older version wrote it.
    """

    def __init__(self, path: Path, config: SpectrogramConfig = HEARD) -> None:
        self.config = config
        ends = np.cumsum([0] + [len(band.centres()) for band in config.bands])
        bands = [slice(a, b) for a, b in pairwise(ends.tolist())]
        self._curves = _release_curves(config)
        self.instruments: dict[str, _Instrument] = {}
        try:
            with np.load(path) as data:
                if "version" not in data or int(data["version"]) != VERSION:
                    raise TemplatesError(f"{path}: of another version; measure it again: {AGAIN}")
                for name in data.files:
                    if name.startswith("levels "):
                        short = name.removeprefix("levels ")
                        levels, releases = data[name], data[f"releases {short}"]
                        if levels.shape[2:] != (len(KNOTS), config.bins):
                            raise TemplatesError(
                                f"{path}: for other frames than these; measure it again: {AGAIN}"
                            )
                        self.instruments[short] = _Instrument(levels, releases, bands)
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise TemplatesError(f"{path}: cannot be read ({error}); measure it: {AGAIN}") from None

    def synthesise(
        self,
        notes: np.ndarray,
        frames: int,
        rng: np.random.Generator,
        instrument: str | None = None,
        vary: bool = True,
    ) -> Floats:
        """(frames, bins) power of `notes`; frame n is centred on n / fps seconds.

        Durations are as they sound, the pedal's help included.  Without a name, one of
        the instruments plays.  `vary` detunes the instrument and its dampers a little.
        """
        name = instrument or list(self.instruments)[rng.integers(len(self.instruments))]
        piano = self.instruments[name]
        tuning = rng.uniform(-0.25, 0.25) if vary else 0.0
        damper = rng.normal(0, 1.5) if vary else 0.0
        bag = self._rows(piano, notes, frames, damper)
        parts = [
            torch.nn.functional.embedding_bag(
                bag.row, table, bag.offsets, mode="sum", per_sample_weights=weight
            ).numpy()
            for table, weight in zip(piano.bands, bag.weights, strict=True)
        ]
        return np.concatenate([detuned(part, tuning) for part in parts], 1)

    def _rows(self, piano: _Instrument, notes: np.ndarray, frames: int, damper: float) -> _Bag:
        """Which table rows to add to which frame, and how much of each."""
        fps = self.config.fps
        notes = notes[(notes["onset"] * fps < frames + 1) & (notes["onset"] > -KNOTS[-1] / fps)]
        onset = notes["onset"] * fps
        pitch = np.clip(notes["pitch"].astype(int) - PITCHES[0], 0, len(PITCHES) - 1)
        choice = np.clip(np.round(piano.release[pitch] + damper), 0, len(RELEASES) - 1).astype(int)
        damped = onset + np.maximum(notes["duration"] * fps, 1e-3)
        end = np.minimum(onset + piano.until[pitch], damped + self._curves.frames[choice])
        first = np.maximum(np.ceil(onset + KNOTS[0]), 0).astype(int)
        count = np.maximum(np.minimum(np.floor(end).astype(int) + 1, frames) - first, 0)
        note = np.repeat(np.arange(len(notes)), count)
        frame = np.arange(len(note)) - np.repeat(np.cumsum(count) - count - first, count)
        order = np.argsort(frame, kind="stable")
        note, frame = note[order], frame[order]

        since = (frame - onset[note]).clip(KNOTS[0], KNOTS[-1] - 1e-3)
        knot = _KNOT_OF[((since - KNOTS[0]) * 4).astype(np.int32)]
        across = (since - KNOTS[knot]) * _PER_KNOT[knot]
        layers, shares = velocity_shares(notes["velocity"], piano.loudness[:, pitch])
        rows, amounts = [], []
        for layer, share in zip(layers, shares, strict=True):
            row = ((layer * len(PITCHES) + pitch) * len(KNOTS))[note] + knot
            rows += [row, row + 1]
            amount = share[note]
            amounts += [amount * (1 - across), amount * across]
        place = ((frame - damped[note] - KNOTS[0]) * RELEASE_STEPS).astype(np.int32)
        place = place.clip(0, self._curves.gain.shape[-1] - 1)
        weight = np.stack(amounts, 1)
        weights = [
            torch.from_numpy((weight * gain[choice[note], place, None]).astype(np.float32).ravel())
            for gain in self._curves.gain
        ]
        offsets = np.searchsorted(frame, np.arange(frames)) * len(rows)
        return _Bag(torch.from_numpy(np.stack(rows, 1).ravel()), torch.from_numpy(offsets), weights)


_KNOT_OF = (
    np.searchsorted(KNOTS, np.arange(int((KNOTS[-1] - KNOTS[0]) * 4) + 1) / 4 + KNOTS[0], "right")
    - 1
).clip(0, len(KNOTS) - 2)
_PER_KNOT = 1 / np.diff(KNOTS)


class _Bag:
    """Rows to add (their numbers, by frame), where each frame begins, weights by band."""

    def __init__(
        self, row: torch.Tensor, offsets: torch.Tensor, weights: list[torch.Tensor]
    ) -> None:
        self.row, self.offsets, self.weights = row, offsets, weights


def velocity_shares(
    velocity: np.ndarray, loudness: np.ndarray
) -> tuple[list[NDArray[np.intp]], list[NDArray[np.float64]]]:
    """Two measured velocities around each note's, and how much power of each to take.

    `loudness` is (velocities, notes), powers of ten; the blend's loudness is interpolated
    in decibels.  Beyond what was measured, power goes with velocity to the fourth.
    """
    measured = np.array(VELOCITIES, float)
    played = velocity.astype(float)
    low = np.clip(np.searchsorted(measured, played, "right") - 1, 0, len(measured) - 2)
    inside = np.clip(played, measured[0], measured[-1])
    part = (inside - measured[low]) / (measured[low + 1] - measured[low])
    beyond = 4 * np.log10(np.maximum(played, 1) / inside)
    each = np.arange(len(played))
    soft, loud = loudness[low, each], loudness[low + 1, each]
    wanted = (1 - part) * soft + part * loud + beyond
    return [low, low + 1], [(1 - part) * 10 ** (wanted - soft), part * 10 ** (wanted - loud)]


class _Curves:
    """What is left of a note's power over the time since the damper fell.

    Attributes:
        gain: per band (releases, steps); step 0 is where a window first hears the release.
        frames: (releases,) after which nothing is left.
    """

    def __init__(self, gain: NDArray[np.float32]) -> None:
        self.gain = gain
        left = gain.max(0) > SILENT
        last = left.shape[1] - left[:, ::-1].argmax(1)
        self.frames = last / RELEASE_STEPS + KNOTS[0]


def _release_curves(config: SpectrogramConfig) -> _Curves:
    """A tone's power in a window that hears it full, then decaying, for each of RELEASES."""
    steps = np.arange(RELEASE_FRAMES * RELEASE_STEPS) / RELEASE_STEPS + KNOTS[0]
    look = config.lookahead / config.sample_rate
    out = np.zeros((len(config.bands), len(RELEASES), len(steps)), np.float32)
    for b, band in enumerate(config.bands):
        points = 128
        weight = band.weights().reshape(points, -1).sum(1)[::-1]
        weight /= weight.sum()
        age = (np.arange(points) + 0.5) / points * band.window / config.sample_rate
        # seconds since the damper fell of each point of the window
        since = steps[:, None] / config.fps + look - age
        for r, release in enumerate(RELEASES):
            amplitude = 10 ** (-release / 2 * np.maximum(since, 0))
            out[b, r] = (amplitude @ weight) ** 2
    return _Curves(out)


def detuned(power: Floats, semitones: float) -> Floats:
    """(frames, bins) of one band of semitone-wide triangles, moved by a part of a bin."""
    if not semitones:
        return power
    away = abs(semitones)
    out = power * np.float32(1 - away)
    if semitones > 0:
        out[:, 1:] += np.float32(away) * power[:, :-1]
    else:
        out[:, :-1] += np.float32(away) * power[:, 1:]
    return out


# what the microphone makes of it


def smeared(power: Floats, room: Room, config: SpectrogramConfig = HEARD) -> Floats:
    """(frames, bins) power in a room: every bin decays exponentially, as the room says.

    The power-domain counterpart of convolving with `acoustics.room_response`.
    """
    hertz = np.concatenate([band.centres() for band in config.bands])
    frame = 1 / config.fps
    keep = (10 ** (-6 * frame / room.decays(hertz))).astype(np.float32)
    wet = np.float32(10 ** (-room.direct_to_reverberant / 10))
    echo = (1 - keep) * power
    # y[n] = x[n] + keep y[n - 1], by doubling the reach
    reach, factor = 1, keep
    while reach < len(power) and factor.max() > 1e-7:
        echo[reach:] += factor * echo[:-reach]
        reach, factor = reach * 2, factor**2
    # half a frame of the tail falls into the frame of the sound itself
    late = 0.5 * echo
    late[1:] += 0.5 * echo[:-1]
    return np.asarray(power + wet * late, np.float32)


@cache
def _heard_noise(name: str, config: SpectrogramConfig, seconds: float = 40.0) -> Floats:
    """(frames, bins) power of one of NOISES at loudness 1."""
    rng = np.random.default_rng(sorted(NOISES).index(name))
    noise = NOISES[name](rng, int(seconds * config.sample_rate), config.sample_rate)
    size = max(loudness(noise, config.sample_rate), float(noise.std()))
    return Spectrogram(config).power((noise / size).astype(np.float32))[24:]


def augment(
    power: Floats,
    rng: np.random.Generator,
    config: SpectrogramConfig = HEARD,
    rooms: float = ROOMS,
) -> Floats:
    """Rooms (a share `rooms` of the time), microphones, noise and level, in the power domain."""
    frames, bins = power.shape

    def noise(name: str, low: float, high: float) -> Floats:
        heard = _heard_noise(name, config)
        start = int(rng.integers(len(heard)))
        level = np.float32(loud * 10 ** rng.uniform(low, high))
        return heard[(start + np.arange(frames)) % len(heard)] * level

    if rng.random() < rooms:
        power = smeared(power, (home if rng.random() < 0.7 else hall)(rng), config)
    walk = np.cumsum(rng.standard_normal(bins)) * rng.uniform(0, 0.12)
    colour = 10 ** np.clip(walk - walk.mean(), -1.2, 1.2)
    if rng.random() < 0.3:
        hertz = np.concatenate([band.centres() for band in config.bands])
        colour *= phone_microphone(rng).magnitude(hertz) ** 2
    power = power * colour.astype(np.float32)
    flutter = rng.standard_normal((frames, bins), np.float32)
    flutter *= np.float32(rng.uniform(0.05, 0.35))
    power = power * np.exp(flutter, out=flutter)
    # the loudest bin against the whole sound: some 6 dB for a chord
    loud = 4 * (float(np.quantile(power.max(1), 0.9)) + 1e-9)
    power += noise("hiss", -6.5, -3)
    power += noise("room tone", -6, -2)
    for name, chance, least, most in (
        ("hum", 0.2, -4.5, -2.5), ("babble", 0.2, -3.5, -1.2), ("bursts", 0.2, -2.0, 0.0),
    ):  # fmt: skip
        if rng.random() < chance:
            power += noise(name, least, most)
    power *= np.float32(10 ** rng.uniform(-1.5, 1.0))
    return power
