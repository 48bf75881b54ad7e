"""Sound cards through PortAudio."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sf_plugin.audio import recorder
from sf_plugin.audio.live import DEVICE_TOLERANCE_SECONDS, SoundBuffer
from sf_plugin.audio.recorder import HEADER, InputDevice, Task, fitting
from sf_plugin.audio.source import Source
from sf_plugin.errors import AudioError

logger = logging.getLogger(__name__)

CHANNELS = 2
"""Recorded and mixed where no channel is chosen."""

SEARCH_SECONDS = 1.0
CLOSE_SECONDS = 2.0


def list_devices() -> list[InputDevice]:
    """Every input there is.

    Raises:
        AudioError: PortAudio is missing or does not start.
    """
    listing = _Recording(Task(list=True))
    try:
        return [InputDevice(**device) for device in listing.open()["devices"]]
    except AudioError as error:
        raise AudioError(f"no microphone: {error}") from None
    finally:
        listing.end()


def find_device(devices: Sequence[InputDevice], wanted: str | int | None) -> InputDevice:
    """The default for None; a number's device; else the one of this name or part of a name.

    Raises:
        AudioError: none fits; the message lists what there is.
    """
    if not devices:
        raise AudioError(
            "no microphone: the system shows no audio input: plug one in or start the audio server"
        )
    found = fitting(devices, wanted)
    if found is None:
        there = ", ".join(f"{device.index} {device.name!r}" for device in devices)
        raise AudioError(f"no microphone called {wanted!r}: there are {there}")
    return found


class Microphone(Source):
    """Records from a device until closed, in a process of its own.

    The device is chosen by a part of its name, upper or lower case; a number is
    taken as its index.  It opens when `blocks` is first asked for a block.  One that goes
    away is looked for by its name; until it is back, silence keeps the time.

    Args:
        device: part of a name, an index, or None for the system's default.
        channel: the one to hear, counted from 1; the mean of the first two where None.
        rate: Hz to record at; the device's own where None or where it cannot.

    Raises:
        AudioError: there is no such device or channel.
    """

    live = True

    def __init__(
        self,
        device: str | int | None = None,
        *,
        channel: int | None = None,
        rate: int | None = None,
    ) -> None:
        self.device = find_device(list_devices(), device)
        if channel is not None and not 1 <= channel <= self.device.channels:
            raise AudioError(
                f"microphone {self.device.name!r} has no channel {channel}: "
                f"choose one of 1 to {self.device.channels}"
            )
        self._name = lasting_name(self.device, device)
        self._channel = channel
        self._rate = rate or 0
        self._closed = threading.Event()
        self._recording: _Recording | None = None
        self._buffer = SoundBuffer(
            f"microphone {self.device.name!r}", tolerance=DEVICE_TOLERANCE_SECONDS
        )

    @property
    def dropped_seconds(self) -> float:  # type: ignore[override]
        """About how much audio was lost so far, also while the device was gone."""
        return self._buffer.dropped_seconds

    @property
    def waiting_seconds(self) -> float:  # type: ignore[override]
        """Audio recorded and not yet taken."""
        return self._buffer.waiting_seconds

    def blocks(self, sample_rate: int) -> Iterator[NDArray[np.float32]]:
        with self._opened() as rate:
            yield from self._buffer.blocks(sample_rate, rate)

    def recorded(self) -> Iterator[tuple[NDArray[np.float32], int]]:
        """(n, channels) samples as the device gives them and their rate in Hz."""
        with self._opened() as rate:
            yield from self._buffer.sound(rate)

    def close(self) -> None:
        self._closed.set()
        self._buffer.close()

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """Records meanwhile; the rate in Hz."""
        recording = self._record(self.device.index)
        thread = threading.Thread(
            target=self._keep_recording, args=(recording,), name="microphone", daemon=True
        )
        thread.start()
        try:
            yield recording.rate
        finally:
            self.close()
            self._end_recording()
            thread.join(CLOSE_SECONDS)
            self._end_recording()

    def _end_recording(self) -> None:
        if self._recording is not None:
            self._recording.end()

    def _record(self, wanted: str | int, *, wait: bool = False) -> _Recording:
        task = Task(wanted, self._channel or CHANNELS, self._rate, wait)
        recording = self._recording = _Recording(task)
        try:
            opened = recording.open()
        except AudioError as error:
            raise AudioError(
                f"microphone {self.device.name!r} cannot record ({error}): close other programs "
                "that use it or choose another"
            ) from None
        recording.rate, recording.channels = opened["rate"], opened["channels"]
        if self._channel is not None and recording.channels < self._channel:
            recording.end()
            raise AudioError(f"microphone {self.device.name!r} has no channel {self._channel}")
        return recording

    def _keep_recording(self, recording: _Recording | None) -> None:
        there = True
        while not self._closed.is_set():
            if recording is not None:
                there = self._relay(recording, there)
            if self._closed.is_set():
                return
            self._buffer.absent = True
            if there:
                there = False
                logger.warning(
                    "microphone %r is gone: silence is heard until it is back: is it still "
                    "plugged in?",
                    self.device.name,
                )
            self._closed.wait(SEARCH_SECONDS)
            try:
                recording = self._record(self._name, wait=True)
            except AudioError as error:
                recording = None
                logger.debug("%s", error)

    def _relay(self, recording: _Recording, there: bool) -> bool:
        """Hear one recording to its end; whether the device was there then."""
        for samples, came, lost in recording.blocks():
            if not there:
                there = True
                logger.warning("microphone %r is back", self.device.name)
            if self._channel is not None:
                samples = samples[:, self._channel - 1 : self._channel]
            self._buffer.push(samples, recording.rate, came, lost)
        recording.end()
        return there


def lasting_name(device: InputDevice, wanted: str | int | None) -> str:
    """What finds a device again: the number that ALSA gives a card may change."""
    if isinstance(wanted, str) and wanted and not wanted.isdecimal():
        return wanted
    return device.name.partition(" (hw:")[0]


class _Recording:
    """The recorder at work in its process."""

    rate = 0
    channels = 0

    def __init__(self, task: Task) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", recorder.__file__, json.dumps(asdict(task))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdout is not None
        self._out = self._process.stdout

    def open(self) -> dict[str, Any]:
        """What it says first.

        Raises:
            AudioError: it cannot do its task.
        """
        try:
            said: dict[str, Any] = json.loads(self._out.readline())
        except ValueError:
            said = {"error": "PortAudio does not answer"}
        if "error" in said:
            self.end()
            raise AudioError(said["error"])
        return said

    def blocks(self) -> Iterator[tuple[NDArray[np.float32], float, bool]]:
        """(n, channels) samples, when they came, and whether some before them were lost."""
        while len(header := self._out.read(HEADER.size)) == HEADER.size:
            came, size, lost = HEADER.unpack(header)
            data = self._out.read(size)
            if len(data) < size:
                return
            yield np.frombuffer(data, np.float32).reshape(-1, self.channels), came, lost

    def end(self) -> None:
        """Stop it; more than once is harmless."""
        self._process.kill()
        self._process.wait()
