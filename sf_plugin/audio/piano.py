"""A light piano: MIDI messages in, samples out.

A string is a sum of damped partials, each with a weak one that lasts, and the knock of
the hammer.  The constants of `String` were fitted to three sampled grands as the
spectrogram hears them; its notes are as near to them as they are to one another.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import mido
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

LOUDEST = 0.1
"""Amplitude (root mean square) with which a note of the highest velocity begins."""

SILENT = 1e-3
"""Share of its first amplitude below which a note is left out."""

DAMPED = 120.0
"""Decibels that a damper takes a second."""

MOST_NOTES = 256
"""That sound at once; of more, the oldest end."""

KEYS = range(21, 109)
"""MIDI numbers of a piano's keys."""

HEARD = ("note_on", "note_off", "control_change")
"""Types of the messages that are acted on."""

SUSTAIN, ALL_SOUND_OFF, RESET_CONTROLLERS, ALL_NOTES_OFF = 64, 120, 121, 123


@dataclass(frozen=True, slots=True)
class String:
    """How a piano's strings sound.

    Attributes:
        partials: at most.
        most_hertz: share of the sample rate above which partials are left out.
        slope: a partial's amplitude falls with this power of its number.
        bright: Hz above the lowest partial at which a partial is weaker by e.
        fall: decibels that middle C's lowest partial loses a second.
        fall_hertz: Hz at which a partial falls twice as quickly.
        fall_keys: semitones upwards in which the fall grows by e.
        lasting: share of a partial's amplitude that lasts.
        lasting_fall: how quickly that falls, beside the rest.
        longest: seconds after which nothing is left.
        rise: seconds.
        knock: amplitude (root mean square) of the knock, beside the string's.
        knock_fall: seconds in which it falls by e.
        knock_bright: Hz above which it is weaker.
    """

    partials: int = 28
    most_hertz: float = 0.45
    slope: float = 0.885
    bright: float = 1980.0
    fall: float = 19.3
    fall_hertz: float = 1930.0
    fall_keys: float = 32.0
    lasting: float = 0.074
    lasting_fall: float = 0.13
    longest: float = 6.0
    rise: float = 0.001
    knock: float = 0.1
    knock_fall: float = 0.08
    knock_bright: float = 410.0


PIANO = String()


class Piano:
    """Renders MIDI messages to mono samples, as they come.

    How the samples are cut into blocks does not change them.  Notes, the sustain pedal
    and the messages that end all notes are heard, on each channel by itself; all else
    is ignored.

    Args:
        sample_rate: Hz.

    Attributes:
        now: samples rendered so far.
    """

    def __init__(self, sample_rate: int) -> None:
        self.now = 0
        self._strings = strings(sample_rate)
        self._decay = DAMPED * np.log(10) / 20 / sample_rate
        self._fade = round(-np.log(SILENT) / self._decay)
        self._notes: list[_Note] = []
        self._pedals: set[int] = set()
        """Channels whose pedal is down."""

    def hear(self, message: mido.Message, at: int) -> None:
        """Act on a message at a sample, or at once where that has been rendered.

        Messages come in order of time.
        """
        at = max(at, self.now)
        match message.type:
            case "note_on" if message.velocity and message.note in self._strings:
                self._strike(message, at)
            case "note_on" | "note_off":
                self._let_go(message.channel, at, message.note)
            case "control_change":
                self._control(message, at)

    def release(self, at: int) -> None:
        """Let go of all keys and pedals."""
        self._pedals.clear()
        for note in self._notes:
            self._damp(note, max(at, self.now))

    def render(self, samples: int) -> Floats:
        """The next (samples,), full scale 1."""
        out = np.zeros(samples, np.float32)
        for note in self._notes:
            note.add(out, self.now, self._decay)
        self.now += samples
        self._notes = [note for note in self._notes if note.ends > self.now]
        return np.clip(out, -1, 1, out)

    def _strike(self, message: mido.Message, at: int) -> None:
        for note in self._notes:
            if (note.channel, note.key) == (message.channel, message.note):
                self._damp(note, at)
        sounding = [note for note in self._notes if note.ends > at]
        if len(sounding) >= MOST_NOTES:
            sounding[0].ends = at
        string = self._strings[message.note]
        gain = LOUDEST * (message.velocity / 127) ** 2
        self._notes.append(_Note(message.channel, message.note, string, gain, at, at + len(string)))

    def _let_go(self, channel: int, at: int, key: int | None = None) -> None:
        for note in self._notes:
            if note.channel == channel and key in (None, note.key):
                note.down = False
                if channel not in self._pedals:
                    self._damp(note, at)

    def _control(self, message: mido.Message, at: int) -> None:
        channel, control = message.channel, message.control
        if control == SUSTAIN and message.value >= 64:
            self._pedals.add(channel)
        elif control in (SUSTAIN, RESET_CONTROLLERS):
            self._pedals.discard(channel)
            for note in self._notes:
                if note.channel == channel and not note.down:
                    self._damp(note, at)
        elif control == ALL_SOUND_OFF:
            for note in self._notes:
                if note.channel == channel:
                    self._damp(note, at)
        elif control >= ALL_NOTES_OFF:
            self._let_go(channel, at)

    def _damp(self, note: _Note, at: int) -> None:
        if note.damped is None:
            note.damped = at
            note.ends = min(note.ends, at + self._fade)


@dataclass(slots=True)
class _Note:
    """A note that sounds; times in samples."""

    channel: int
    key: int
    string: Floats
    gain: float
    begins: int
    ends: int
    down: bool = True
    """Whether its key is."""
    damped: int | None = None
    """When the damper fell."""

    def add(self, out: Floats, now: int, decay: float) -> None:
        """Add what of it falls into a block that begins at `now`."""
        first, last = max(now, self.begins), min(now + len(out), self.ends)
        if first >= last:
            return
        sound = self.string[first - self.begins : last - self.begins] * np.float32(self.gain)
        if self.damped is not None and last > self.damped:
            since = np.arange(first - self.damped, last - self.damped)
            sound *= np.exp(-decay * np.maximum(since, 0)).astype(np.float32)
        out[first - now : last - now] += sound


@cache
def strings(sample_rate: int, made: String = PIANO) -> dict[int, Floats]:
    """The sound of each key from its beginning, (samples,), amplitude 1 at first.

    Keys that are too high for the sample rate have none.
    """
    most = made.most_hertz * sample_rate
    return {key: _string(key, sample_rate, made) for key in KEYS if _lowest(key) < most}


def _lowest(key: int) -> float:
    """Hz."""
    return float(440 * 2 ** ((key - 69) / 12))


def _string(key: int, rate: int, made: String) -> Floats:
    random = np.random.default_rng(key)
    lowest = _lowest(key)
    number = np.arange(1, made.partials + 1)
    stiffness = np.exp(0.0926 * key - 13.64) + np.exp(-0.0847 * key - 5.82)
    hertz = lowest * number * np.sqrt((1 + stiffness * number**2) / (1 + stiffness))
    heard = hertz < made.most_hertz * rate
    number, hertz = number[heard], hertz[heard]
    phase = np.exp(2j * np.pi * random.random(len(hertz)))
    amplitude = phase * number**-made.slope * np.exp(-(hertz - lowest) / made.bright)
    fall = made.fall * (1 + hertz / made.fall_hertz) * np.exp((key - 60) / made.fall_keys)
    fall *= np.log(10) / 20
    lasting = made.lasting_fall * fall
    seconds = min(made.longest, np.log(made.lasting / SILENT) / lasting.min())
    sound = _partials(made.lasting * amplitude, hertz, lasting, seconds, rate)
    seconds = min(seconds, -np.log(SILENT) / fall.min())
    struck = _partials((1 - made.lasting) * amplitude, hertz, fall, seconds, rate)
    sound[: len(struck)] += struck
    first = slice(round(made.rise * rate), round(0.1 * rate))
    sound[: first.start] *= np.linspace(0, 1, first.start)
    sound /= np.sqrt(np.square(sound[first]).mean())
    knock = _knock(random, rate, made)
    sound[: len(knock)] += knock[: len(sound)]
    end = round(0.05 * rate)
    sound[-end:] *= np.linspace(1, 0, end)
    return sound


def _partials(
    amplitude: NDArray[np.complex128],
    hertz: NDArray[np.float64],
    fall: NDArray[np.float64],
    seconds: float,
    rate: int,
) -> Floats:
    """The sum of partials, (samples,), each with its `fall` in nepers a second."""
    turn = (2j * np.pi * hertz - fall) / rate
    row, rows = 256, 16  # products so small that BLAS does not share them among threads
    starts = np.arange(0, seconds * rate, row * rows)[:, None] + np.arange(0, row * rows, row)
    begun = np.exp(starts[:, :, None] * turn) * amplitude
    within = np.exp(np.outer(turn, np.arange(row)))
    begun = np.concatenate([begun.real, -begun.imag], -1)
    within = np.concatenate([within.real, within.imag])
    return np.matmul(begun.astype(np.float32), within.astype(np.float32)).ravel()


def _knock(random: np.random.Generator, rate: int, made: String) -> Floats:
    time = np.arange(round(5 * made.knock_fall * rate)) / rate
    spectrum = np.fft.rfft(random.standard_normal(len(time)))
    hertz = np.fft.rfftfreq(len(time), 1 / rate)
    noise = np.fft.irfft(spectrum / np.sqrt(1 + (hertz / made.knock_bright) ** 2), len(time))
    noise *= made.knock / noise.std() * np.exp(-time / made.knock_fall)
    return noise.astype(np.float32)
