"""What a microphone makes of a performance: room, noise, colour, codec, level.

Everything here is synthetic and seeded, and nothing moves the music in time: direct
sound comes at time 0, and codecs' delays are taken out again.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sf_plugin.errors import ScoreFollowerError

Samples = NDArray[np.float32]
Floats = NDArray[np.floating]
SOUND_SPEED = 343.0  # metres a second


class AcousticsError(ScoreFollowerError):
    """ffmpeg is missing, or a codec failed."""


# rooms


@dataclass(frozen=True)
class Room:
    """A shoebox room; how long it sounds depends on the frequency.

    Attributes:
        volume: cubic metres.
        decay: seconds to -60 dB at 1 kHz.
        distance: metres from the instrument to the microphone.
        bass: decay at 125 Hz and below over that at 1 kHz.
        treble: decay at 8 kHz over that at 1 kHz.
    """

    volume: float
    decay: float
    distance: float
    bass: float = 1.2
    treble: float = 0.5

    @property
    def direct_to_reverberant(self) -> float:
        """dB, by the critical distance of a point source in a diffuse field (Kuttruff)."""
        critical = 0.057 * np.sqrt(self.volume / self.decay)
        return float(20 * np.log10(critical / self.distance))

    def decays(self, hertz: Floats) -> NDArray[np.float64]:
        """Seconds to -60 dB at each frequency."""
        octaves = np.log2(np.maximum(hertz, 1) / 1000)
        return np.asarray(self.decay * np.interp(octaves, [-3, 0, 3], [self.bass, 1, self.treble]))


def home(rng: np.random.Generator) -> Room:
    """A living or teaching room, the microphone on the piano or across the room."""
    return Room(
        volume=float(np.exp(rng.uniform(np.log(30), np.log(250)))),
        decay=float(np.exp(rng.uniform(np.log(0.2), np.log(0.9)))),
        distance=float(np.exp(rng.uniform(np.log(0.3), np.log(3)))),
        bass=rng.uniform(0.9, 1.5),
        treble=rng.uniform(0.4, 0.9),
    )


def hall(rng: np.random.Generator) -> Room:
    """A recital hall or church, the microphone on the stage or in the first rows."""
    return Room(
        volume=float(np.exp(rng.uniform(np.log(800), np.log(12000)))),
        decay=float(np.exp(rng.uniform(np.log(1.0), np.log(3.0)))),
        distance=float(np.exp(rng.uniform(np.log(1.5), np.log(12)))),
        bass=rng.uniform(1.0, 1.4),
        treble=rng.uniform(0.3, 0.6),
    )


def room_response(
    room: Room, rng: np.random.Generator, sample_rate: int = 22050
) -> NDArray[np.float64]:
    """(samples,) impulse response, direct sound first and of amplitude 1.

    Early reflections are the image sources of a shoebox (Allen & Berkley 1979); the
    rest is noise that decays as fast as the room says, octave by octave.
    """
    length = int(1.1 * room.decay * max(1.0, room.bass) * sample_rate) + 2
    early = np.zeros(length)
    mixing = min(0.002 * np.sqrt(room.volume), 0.3 * room.decay)  # seconds
    delays, gains = _reflections(room, rng)
    index = np.round(delays * sample_rate).astype(int)
    inside = (index > 0) & (index < min(length, int(1.5 * mixing * sample_rate)))
    np.add.at(early, index[inside], gains[inside])

    time = np.arange(length) / sample_rate
    spectrum = np.fft.rfft(rng.standard_normal(length))
    hertz = np.fft.rfftfreq(length, 1 / sample_rate)
    centres = 62.5 * 2.0 ** np.arange(9)
    late = np.zeros(length)
    octaves = np.log2(np.maximum(hertz, 1))
    for centre, decay in zip(centres, room.decays(centres), strict=True):
        away = np.abs(octaves - np.log2(centre))
        if centre == centres[0]:
            away[hertz < centre] = 0
        band = np.fft.irfft(spectrum * np.sqrt(np.clip(1 - away, 0, 1)), length)
        late += band * 10 ** (-3 * time / decay)
    late *= np.clip(time / mixing, 0, 1)
    share = 10 ** (-6 * mixing / room.decay)  # of the energy that comes after the mixing time
    reverberant = np.sqrt(1 - share) * _unit(early) + np.sqrt(share) * _unit(late)
    response = _unit(reverberant) * 10 ** (-room.direct_to_reverberant / 20)
    response[0] = 1.0
    return np.asarray(response)


def _reflections(
    room: Room, rng: np.random.Generator, order: int = 4
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Delays after the direct sound (seconds) and amplitudes relative to it."""
    sides = np.array([1.0, rng.uniform(0.6, 0.95), rng.uniform(0.35, 0.7)])
    sides *= (room.volume / sides.prod()) ** (1 / 3)
    source = sides * rng.uniform(0.2, 0.8, 3)
    source[2] = min(1.0, 0.4 * sides[2])
    direction = rng.standard_normal(3) * [1, 1, 0.3]
    ear = np.clip(
        source + direction / np.linalg.norm(direction) * room.distance, 0.02 * sides, 0.98 * sides
    )
    # Eyring's mean absorption from the decay time
    surface = 2 * (sides[0] * sides[1] + sides[0] * sides[2] + sides[1] * sides[2])
    reflected = np.exp(-0.5 * 0.161 * room.volume / (surface * room.decay))
    near = np.arange(-order, order + 1)
    cells = np.stack(np.meshgrid(near, near, near), -1).reshape(-1, 3)
    cells = cells[np.abs(cells).sum(1) <= order]
    images = np.where(cells % 2, (cells + 1) * sides - source, cells * sides + source)
    distance = np.linalg.norm(images - ear, axis=1)
    direct = np.linalg.norm(source - ear)
    gains = reflected ** np.abs(cells).sum(1) * direct / np.maximum(distance, 0.1)
    return (distance - direct) / SOUND_SPEED, gains


def _unit(sound: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(sound / np.sqrt(np.square(sound).sum() + 1e-20))


def convolve(sound: Samples, response: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convolved in full, cut to the sound's length: labels do not move."""
    size = 1 << (len(sound) + len(response) - 2).bit_length()
    return np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(response, size), size)[: len(sound)]


# noise


def hiss(rng: np.random.Generator, samples: int, sample_rate: int) -> NDArray[np.float64]:
    """White noise of electronics."""
    return rng.standard_normal(samples)


def room_tone(rng: np.random.Generator, samples: int, sample_rate: int) -> NDArray[np.float64]:
    """Ventilation and streets: noise that falls by 6 dB an octave above 80 Hz."""
    return _shaped(rng, samples, sample_rate, lambda f: 1 / np.maximum(f, 80.0))


def hum(rng: np.random.Generator, samples: int, sample_rate: int) -> NDArray[np.float64]:
    """The mains: 50 or 60 Hz and harmonics."""
    base = rng.choice([50.0, 60.0]) * (1 + rng.normal(0, 0.0005))
    phase = 2 * np.pi * base * np.arange(samples) / sample_rate
    harmonics = [1, 2, 3, 4, 5, 6, 7, 9, 10, 12]
    return np.asarray(
        sum(
            rng.uniform(0.2, 1) / np.sqrt(k) * np.cos(k * phase + rng.uniform(0, 6.3))
            for k in harmonics
        )
    )


def babble(
    rng: np.random.Generator, samples: int, sample_rate: int, talkers: int = 4
) -> NDArray[np.float64]:
    """People talking: voices of wandering pitch through changing formants, in syllables."""
    out = np.zeros(samples)
    seconds = samples / sample_rate
    table = np.arange(2048) / 2048
    for _ in range(talkers):
        syllables = max(2, int(seconds * rng.uniform(3, 6)))
        knots = np.sort(rng.uniform(0, seconds, syllables))
        time = np.arange(samples) / sample_rate
        pitch = rng.uniform(90, 230) * np.exp(
            np.interp(time, knots, rng.normal(0, 0.12, syllables))
        )
        phase = np.cumsum(pitch) / sample_rate
        loud = np.interp(time, knots, rng.choice([0, 0.3, 1, 1.4], syllables) ** 2)
        place = (phase % 1 * 2048).astype(np.int32)
        vowels = []
        for formants in rng.permutation([(300, 2300), (700, 1200), (500, 1700), (350, 800)])[:2]:
            hertz = 150.0 * np.arange(1, 31)
            weight = sum(np.exp(-(((hertz - f) / 150) ** 2)) for f in formants) + 0.02
            weight = weight / np.arange(1, 31) ** 0.5
            turns = np.arange(1, 31)[:, None] * table + rng.uniform(0, 1, (30, 1))
            vowels.append((weight[:, None] * np.cos(2 * np.pi * turns)).sum(0))
        blend = np.interp(time, knots, rng.uniform(0, 1, syllables))
        voice = vowels[0][place] * blend + vowels[1][place] * (1 - blend)
        breath = _shaped(rng, samples, sample_rate, lambda f: np.exp(-(((f - 4000) / 2500) ** 2)))
        breath = breath * np.interp(time, knots, rng.choice([0, 0, 1], syllables))
        out += loud * voice / voice.std() + 0.3 * breath
    return out


def bursts(rng: np.random.Generator, samples: int, sample_rate: int) -> NDArray[np.float64]:
    """Pages turned, coughs and bumps, one every few seconds."""
    out = np.zeros(samples)
    for start in np.cumsum(rng.exponential(3.0, int(samples / sample_rate / 2) + 2)):
        kind = rng.choice(["page", "cough", "bump"])
        seconds = {"page": rng.uniform(0.3, 0.9), "cough": 0.35, "bump": 0.25}[kind]
        count = int(seconds * sample_rate)
        time = np.linspace(0, 1, count)
        if kind == "page":
            sound = _shaped(rng, count, sample_rate, lambda f: f / (f + 1500) / (1 + f / 6000))
            sound *= np.sin(np.pi * time) ** 2 * (
                0.3 + rng.uniform(0, 1, 40)[(time * 39).astype(int)]
            )
        elif kind == "cough":
            sound = _shaped(rng, count, sample_rate, lambda f: np.exp(-(((f - 900) / 900) ** 2)))
            sound *= 3 * np.minimum(time * 30, 1) * np.exp(-6 * time)
        else:
            sound = _shaped(rng, count, sample_rate, lambda f: 1 / (1 + (f / 120) ** 2))
            sound *= 2 * np.minimum(time * 50, 1) * np.exp(-8 * time)
        begin = int(start * sample_rate)
        if begin < samples:
            out[begin : begin + count] += sound[: samples - begin] * rng.uniform(0.3, 1.5)
    return out


def applause(
    rng: np.random.Generator, samples: int, sample_rate: int, people: int = 40
) -> NDArray[np.float64]:
    """Hands clapping: every pair a short burst of noise of its own colour, at its own pace.

    It swells within a second, and dies away over the last third.
    """
    out = np.zeros(samples)
    seconds = samples / sample_rate
    length = min(round(0.03 * sample_rate), samples)
    for _ in range(people):
        centre, width = np.exp(rng.uniform(np.log(600), np.log(2500))), rng.uniform(0.5, 1.2)
        clap = _shaped(
            rng,
            length,
            sample_rate,
            lambda f, c=centre, w=width: np.exp(-((np.log2(np.maximum(f, 1) / c) / w) ** 2)),  # type: ignore[misc]
        )
        clap *= np.exp(-np.arange(length) / (rng.uniform(0.002, 0.006) * sample_rate))
        pace = rng.uniform(2.5, 5.0)
        begin, end = rng.uniform(0, 1), seconds * rng.uniform(0.67, 1.0)
        times = np.arange(begin, end, 1 / pace)
        times += rng.normal(0, 0.03, len(times))
        starts = (times * sample_rate).astype(int)
        starts = starts[(starts >= 0) & (starts <= samples - length)]
        gains = rng.uniform(0.2, 1) * rng.uniform(0.6, 1, len(starts))
        np.add.at(out, starts[:, None] + np.arange(length), gains[:, None] * clap)
    return out


def _shaped(
    rng: np.random.Generator,
    samples: int,
    sample_rate: int,
    magnitude: Callable[[Floats], Floats],
) -> NDArray[np.float64]:
    """Noise of unit variance with the given magnitude over frequency (Hz)."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    spectrum *= magnitude(np.fft.rfftfreq(samples, 1 / sample_rate))
    noise = np.fft.irfft(spectrum, samples)
    return np.asarray(noise / (noise.std() + 1e-12))


NOISES: dict[str, Callable[[np.random.Generator, int, int], NDArray[np.float64]]] = {
    "hiss": hiss,
    "room tone": room_tone,
    "hum": hum,
    "babble": babble,
    "bursts": bursts,
}
"""Each gives (samples,), its level arbitrary."""


def loudness(sound: Floats, sample_rate: int) -> float:
    """Root mean square of the loud parts: the 90th percentile over blocks of 50 ms."""
    block = max(1, sample_rate // 20)
    whole = len(sound) // block * block
    if not whole:
        return float(np.sqrt(np.mean(np.square(sound)))) if len(sound) else 0.0
    powers = np.square(sound[:whole]).reshape(-1, block).mean(1)
    return float(np.sqrt(np.quantile(powers, 0.9)))


# people


CROWDS: dict[str, Callable[[np.random.Generator, int, int], NDArray[np.float64]]] = {
    "talk": babble,
    "applause": applause,
}


@dataclass(frozen=True)
class Crowd:
    """What people in the room do for a while.

    Attributes:
        kind: of `CROWDS`.
        begin, end: seconds.
        level: dB relative to the loud parts of the music.
    """

    kind: str
    begin: float
    end: float
    level: float


def among(
    sound: Samples, crowd: tuple[Crowd, ...], rng: np.random.Generator, sample_rate: int = 22050
) -> Samples:
    """(samples,) dry sound with all that people do, longer where that ends later."""
    count = round(max(c.end for c in crowd) * sample_rate) if crowd else 0
    out = np.pad(sound.astype(float), (0, max(0, count - len(sound))))
    loud = loudness(sound, sample_rate)
    for c in crowd:
        begin = round(c.begin * sample_rate)
        made = CROWDS[c.kind](rng, round(c.end * sample_rate) - begin, sample_rate)
        size = max(loudness(made, sample_rate), 1e-9)
        out[begin : begin + len(made)] += made * (loud * 10 ** (c.level / 20) / size)
    return out.astype(np.float32)


# microphones and codecs


@dataclass(frozen=True)
class Microphone:
    """A microphone and what its device does to the signal.

    Attributes:
        low, high: Hz where it has lost 3 dB.
        resonances: (Hz, dB, octaves wide) of the case.
        drive: dB by which the loudest sample exceeds what it can take; clips softly.
        automatic_gain: 0 for none to 1, which makes everything equally loud.
    """

    low: float = 20.0
    high: float = 20000.0
    resonances: tuple[tuple[float, float, float], ...] = ()
    drive: float = -20.0
    automatic_gain: float = 0.0

    def magnitude(self, hertz: Floats) -> NDArray[np.float64]:
        """Amplitude at each frequency, before the case's limits of level."""
        f = np.maximum(hertz, 1.0)
        db = -10 * np.log10(1 + (self.low / f) ** 4) - 10 * np.log10(1 + (f / self.high) ** 6)
        for centre, peak, width in self.resonances:
            db = db + peak * np.exp(-((np.log2(f / centre) / width) ** 2))
        return np.asarray(10 ** (db / 20))


def phone_microphone(rng: np.random.Generator) -> Microphone:
    """A phone's or laptop's: little bass, peaks of the case, gain control, some clipping."""
    return Microphone(
        low=rng.uniform(80, 300),
        high=rng.uniform(5000, 10000),
        resonances=tuple(
            (
                float(np.exp(rng.uniform(np.log(300), np.log(6000)))),
                rng.normal(0, 5),
                rng.uniform(0.15, 0.5),
            )
            for _ in range(4)
        ),
        drive=rng.uniform(-10, 6),
        automatic_gain=rng.uniform(0, 0.8),
    )


def through(sound: Floats, microphone: Microphone, sample_rate: int) -> NDArray[np.float64]:
    """(samples,) the signal of a microphone; its filter is of minimum phase."""
    size = 8192
    hertz = np.fft.rfftfreq(size, 1 / sample_rate)
    cepstrum = np.fft.irfft(np.log(microphone.magnitude(hertz) + 1e-6), size)
    cepstrum[1 : size // 2] *= 2
    cepstrum[size // 2 + 1 :] = 0
    impulse = np.fft.irfft(np.exp(np.fft.rfft(cepstrum)), size)[: size // 2]
    out = convolve(np.asarray(sound, np.float32), impulse)
    if microphone.automatic_gain:
        out = out * _automatic_gain(out, microphone.automatic_gain, sample_rate)
    limit = np.abs(out).max(initial=1e-9) * 10 ** (-microphone.drive / 20)
    return np.asarray(limit * np.tanh(out / limit))


def _automatic_gain(
    sound: NDArray[np.float64], strength: float, sample_rate: int
) -> NDArray[np.float64]:
    """Gain over time: fast down, slow up."""
    block = sample_rate // 100
    count = -(-len(sound) // block)
    level = np.sqrt(
        np.square(np.pad(sound, (0, count * block - len(sound)))).reshape(count, block).mean(1)
    )
    floor = 0.01 * level.max(initial=1e-9)
    state, followed = floor, np.empty(count)
    for i, now in enumerate(level.tolist()):
        speed = 0.5 if now > state else 0.01
        state += speed * (max(now, floor) - state)
        followed[i] = state
    gain = (followed / followed.max(initial=1e-9)) ** -strength
    return np.interp(np.arange(len(sound)), (np.arange(count) + 0.5) * block, gain)


CODECS = {
    "mp3": ("libmp3lame", "mp3"),
    "opus": ("libopus", "ogg"),
    "aac": ("aac", "m4a"),
}
"""ffmpeg's encoder and file name suffix."""


@dataclass(frozen=True)
class Codec:
    """A lossy codec (one of CODECS) at so many thousand bits a second."""

    name: str
    kilobits: int


def coded(sound: Floats, codec: Codec, sample_rate: int) -> NDArray[np.float64]:
    """(samples,) encoded and decoded again by ffmpeg, without delay.

    Raises:
        AcousticsError: ffmpeg is missing or cannot do it.
    """
    if not shutil.which("ffmpeg"):
        raise AcousticsError("ffmpeg is not installed: apt-get install ffmpeg")
    encoder, suffix = CODECS[codec.name]
    raw = ["-f", "f32le", "-ar", str(sample_rate), "-ac", "1"]
    with tempfile.TemporaryDirectory() as scratch:
        file = str(Path(scratch) / f"sound.{suffix}")
        quiet = ["ffmpeg", "-nostdin", "-v", "error", "-threads", "1"]
        rate = ["-c:a", encoder, "-b:a", f"{codec.kilobits}k"]
        plain = np.asarray(sound, np.float32)
        _run([*quiet[:1], *quiet[2:], *raw, "-i", "-", *rate, file], plain.tobytes())
        decoded = np.frombuffer(_run([*quiet, "-i", file, *raw, "-"], b""), np.float32)
    lag = delay(plain, decoded, sample_rate)
    out = np.zeros(len(sound))
    moved = decoded[lag:] if lag >= 0 else np.pad(decoded, (-lag, 0))
    out[: len(moved)] = moved[: len(out)]
    return out


def _run(command: list[str], data: bytes) -> bytes:
    done = subprocess.run(command, input=data, capture_output=True)
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise AcousticsError(f"ffmpeg failed ({reason[-1][:200]}); does it have this codec?")
    return done.stdout


def delay(before: Floats, after: Floats, sample_rate: int, most: float = 0.25) -> int:
    """Samples by which `after` comes later, at most `most` seconds, by cross-correlation."""
    count = min(len(before), len(after), 20 * sample_rate)
    if not count or not np.any(before[:count]) or not np.any(after[:count]):
        return 0
    size = 1 << (2 * count - 1).bit_length()
    spectrum = np.conj(np.fft.rfft(before[:count], size)) * np.fft.rfft(after[:count], size)
    correlation = np.fft.irfft(spectrum, size)
    reach = min(int(most * sample_rate), count - 1)
    lags = np.arange(-reach, reach + 1)
    return int(lags[np.argmax(correlation[lags])])


# all together


@dataclass(frozen=True)
class Acoustics:
    """One draw of room, noise, microphone, codec and level.

    Attributes:
        room: None for none.
        noises: (one of NOISES, dB relative to the loud parts of the music).
        microphone: None for a perfect one.
        codec: None for none.
        level: dB of the largest sample, full scale 0; None leaves it as it is.
    """

    room: Room | None = None
    noises: tuple[tuple[str, float], ...] = ()
    microphone: Microphone | None = None
    codec: Codec | None = None
    level: float | None = None


def heard_in(
    sound: Samples, acoustics: Acoustics, rng: np.random.Generator, sample_rate: int = 22050
) -> Samples:
    """(samples,) what is recorded of (samples,) dry sound; nothing moves in time.

    Raises:
        AcousticsError: a codec is wanted and ffmpeg is missing or failed.
    """
    out = sound.astype(float)
    if acoustics.room is not None:
        out = convolve(sound, room_response(acoustics.room, rng, sample_rate))
    loud = loudness(out, sample_rate)
    for name, db in acoustics.noises:
        noise = NOISES[name](rng, len(out), sample_rate)
        # what comes in bursts is as loud as its own loud moments
        size = max(loudness(noise, sample_rate), float(noise.std()), 1e-9)
        out = out + noise * (loud * 10 ** (db / 20) / size)
    if acoustics.microphone is not None:
        out = through(out, acoustics.microphone, sample_rate)
    peak = float(np.abs(out).max(initial=0))
    if acoustics.level is not None and peak:
        out = out * (10 ** (acoustics.level / 20) / peak)
    elif peak > 0.99:
        out = out * (0.99 / peak)
    if acoustics.codec is not None:
        out = coded(out, acoustics.codec, sample_rate)
    return np.clip(out, -1, 1).astype(np.float32)


def dry(rng: np.random.Generator) -> Acoustics:
    """As rendered."""
    return Acoustics()


def in_room(rng: np.random.Generator) -> Acoustics:
    """A good microphone in a quiet room at home."""
    return Acoustics(
        home(rng),
        (("room tone", rng.uniform(-60, -45)), ("hiss", -65.0)),
        level=rng.uniform(-12, -1),
    )


def in_hall(rng: np.random.Generator) -> Acoustics:
    """A good microphone in a recital hall or church."""
    return Acoustics(
        hall(rng),
        (("room tone", rng.uniform(-55, -40)), ("hiss", -65.0)),
        level=rng.uniform(-18, -1),
    )


def noisy(rng: np.random.Generator) -> Acoustics:
    """At home with people talking, the mains humming, pages turned."""
    return Acoustics(
        home(rng),
        (
            ("room tone", rng.uniform(-35, -20)),
            ("hiss", rng.uniform(-55, -35)),
            ("hum", rng.uniform(-45, -25)),
            ("babble", rng.uniform(-30, -12)),
            ("bursts", rng.uniform(-15, -3)),
        ),
        level=rng.uniform(-20, -1),
    )


def phone(rng: np.random.Generator) -> Acoustics:
    """A phone or laptop in a room at home, then a low bit rate."""
    rates = {"mp3": (32, 48, 64), "opus": (16, 24, 32), "aac": (32, 48, 64)}
    name = str(rng.choice(list(rates)))
    return Acoustics(
        home(rng),
        (("room tone", rng.uniform(-45, -30)), ("hiss", rng.uniform(-50, -35))),
        phone_microphone(rng),
        Codec(name, int(rng.choice(rates[name]))),
        level=rng.uniform(-20, -1),
    )


ACOUSTICS: dict[str, Callable[[np.random.Generator], Acoustics]] = {
    "dry": dry,
    "room": in_room,
    "hall": in_hall,
    "noisy": noisy,
    "phone": phone,
}
"""Each draws one of its kind."""
