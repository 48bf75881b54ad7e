"""Sound cards through PortAudio."""

from __future__ import annotations

import atexit
import importlib
import logging
import queue
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sf_plugin.audio.quiet import quiet_stderr
from sf_plugin.audio.resampler import MonoResampler
from sf_plugin.audio.source import Source
from sf_plugin.errors import AudioError

logger = logging.getLogger(__name__)

BUFFER_SECONDS = 10.0
"""Audio kept for a listener that is late."""

SILENT_DEVICE_SECONDS = 3.0
"""A device that delivers nothing for so long is gone."""

INCIDENT_SECONDS = 10.0
"""Losses closer together are one incident."""

SETTLE_SECONDS = 1.0
"""A gap is flagged, and an incident told, within this time."""

CLOSE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class InputDevice:
    """Something PortAudio can record from."""

    index: int
    name: str
    host_api: str
    channels: int
    sample_rate: int
    """Hz, the device's own."""
    default: bool


def list_devices() -> list[InputDevice]:
    """Every input there is.

    Raises:
        AudioError: PortAudio is missing or does not start.
    """
    sounddevice = _sounddevice()
    default = sounddevice.default.device[0]
    apis = sounddevice.query_hostapis()
    return [
        InputDevice(
            index,
            device["name"],
            apis[device["hostapi"]]["name"],
            device["max_input_channels"],
            round(device["default_samplerate"]),
            index == default,
        )
        for index, device in enumerate(sounddevice.query_devices())
        if device["max_input_channels"] > 0
    ]


def find_device(devices: list[InputDevice], wanted: str | int | None) -> InputDevice:
    """The default for None; a number's device; else the one of this name or part of a name.

    Raises:
        AudioError: none fits; the message lists what there is.
    """
    if not devices:
        raise AudioError(
            "no microphone: the system shows no audio input: plug one in or start the audio server"
        )
    if wanted is None or wanted == "":
        return next((device for device in devices if device.default), devices[0])
    number = wanted if isinstance(wanted, int) else int(wanted) if wanted.isdecimal() else None
    if number is not None:
        fitting = [device for device in devices if device.index == number]
    else:
        name = str(wanted).casefold()
        fitting = [device for device in devices if device.name.casefold() == name] or [
            device for device in devices if name in device.name.casefold()
        ]
    if not fitting:
        there = ", ".join(f"{device.index} {device.name!r}" for device in devices)
        raise AudioError(f"no microphone called {wanted!r}: there are {there}")
    return fitting[0]


class Microphone(Source):
    """Records from a device until closed.

    The device is chosen by a part of its name, upper or lower case; a number is
    taken as its index.  It opens when `blocks` is first asked for a block.

    Args:
        device: part of a name, an index, or None for the system's default.
        rate: Hz to record at; the device's own where None.
    """

    live = True

    def __init__(self, device: str | int | None = None, *, rate: int | None = None) -> None:
        self._sounddevice = _sounddevice()
        self.device = find_device(list_devices(), device)
        self._rate = rate or self.device.sample_rate
        self._closed = False
        self._finished = False
        self._last_callback: float | None = None
        self._gap = self._gap_ended = 0.0
        self._queue: queue.Queue[NDArray[np.float32]] = queue.Queue()
        self._waiting_frames = 0
        self._taken_frames = 0
        self._dropped_frames = 0

    @property
    def dropped_seconds(self) -> float:  # type: ignore[override]
        """About how much audio was lost so far."""
        return self._dropped_frames / self._rate

    def blocks(self, sample_rate: int) -> Iterator[NDArray[np.float32]]:
        resampler = MonoResampler(self._rate, sample_rate)
        with self._stream():
            for frames in self._recorded():
                block = resampler.feed(frames)
                if len(block):
                    yield block
        rest = resampler.finish()
        if len(rest):
            yield rest

    def close(self) -> None:
        self._closed = True

    @contextmanager
    def _stream(self) -> Iterator[None]:
        error_type = self._sounddevice.PortAudioError
        try:
            stream = self._sounddevice.InputStream(
                device=self.device.index,
                channels=min(2, self.device.channels),
                samplerate=self._rate,
                dtype="float32",
                callback=self._callback,
                finished_callback=self._finish,
            )
            stream.start()
        except error_type as error:
            raise AudioError(
                f"microphone {self.device.name!r} cannot record at {self._rate} Hz "
                f"({error}): close other programs that use it or choose another"
            ) from None
        try:
            yield
        finally:
            self._release(stream)

    def _release(self, stream: Any) -> None:
        """Closes the stream; PortAudio waits for ever where the audio server died."""
        closing = threading.Thread(target=stream.close, name="close microphone", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)
        if closing.is_alive():
            atexit.unregister(self._sounddevice._exit_handler)

    def _callback(self, data: NDArray[np.float32], frames: int, _time: Any, status: Any) -> None:
        now = time.perf_counter()
        gap = now - (self._last_callback or now) - frames / self._rate
        self._last_callback = now
        if gap > self._gap or now - self._gap_ended > SETTLE_SECONDS:
            self._gap, self._gap_ended = gap, now
        if status.input_overflow:
            self._dropped_frames += max(frames, round(self._gap * self._rate))
            self._gap = 0.0
        if self._waiting_frames - self._taken_frames + frames > BUFFER_SECONDS * self._rate:
            self._dropped_frames += frames
            return
        self._waiting_frames += frames
        self._queue.put_nowait(data.copy())

    def _finish(self) -> None:
        self._finished = True

    def _recorded(self) -> Iterator[NDArray[np.float32]]:
        losses = _Losses(self.device.name)
        heard_at = time.monotonic()
        while not self._closed:
            losses.hear(self.dropped_seconds, time.monotonic())
            try:
                frames = self._queue.get(timeout=0.2)
            except queue.Empty:
                if self._finished or time.monotonic() - heard_at > SILENT_DEVICE_SECONDS:
                    raise AudioError(
                        f"microphone {self.device.name!r} stopped: is it still plugged in?"
                    ) from None
                continue
            heard_at = time.monotonic()
            self._taken_frames += len(frames)
            yield frames
        losses.hear(self.dropped_seconds, float("inf"))


class _Losses:
    """Tells of lost audio once per incident, a moment after it began."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._known = self._before = 0.0
        self._last = float("-inf")
        self._due: float | None = None

    def hear(self, dropped_seconds: float, now: float) -> None:
        """So much has been lost so far."""
        if dropped_seconds > self._known:
            if now - self._last > INCIDENT_SECONDS:
                self._before, self._due = self._known, now + SETTLE_SECONDS
            self._known, self._last = dropped_seconds, now
        if self._due is not None and now >= self._due:
            self._due = None
            logger.warning(
                "microphone %r: about %.2f s of audio lost: the computer is too slow or was busy",
                self._name,
                self._known - self._before,
            )


def _sounddevice() -> Any:
    """The sounddevice module, started without the sound libraries' chatter on stderr."""
    if "sounddevice" in sys.modules:
        return sys.modules["sounddevice"]
    try:
        with quiet_stderr():
            return importlib.import_module("sounddevice")
    except ImportError:
        raise AudioError("no microphone: sounddevice is missing: pip install sounddevice") from None
    except OSError as error:
        raise AudioError(
            f"no microphone: PortAudio is missing ({error}): install it (Debian: apt install "
            "libportaudio2)"
        ) from None
    except Exception as error:
        raise AudioError(f"no microphone: PortAudio does not start: {error}") from None
