"""Records in a process of its own: a sound system that hangs or dies harms nobody else.

Run as a program with its task as JSON.  It writes a line of JSON that says what it opened or
why it cannot, then blocks of sound, until its standard input ends or the device is gone.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

HEADER = struct.Struct("<dI?")
"""Of a block: when it came by `clock`, how many bytes of float32 follow, and whether some
sound before it was lost."""

BUFFER_SECONDS = 10.0
"""Sound kept for a listener that is late; of more, the oldest is lost."""

GONE_SECONDS = 3.0
"""A device that delivers nothing for so long is gone."""

SEARCH_SECONDS = 1.0
POLL_SECONDS = 0.2
OPEN_SECONDS = 20.0
FIRST_CHECK_SECONDS, MOST_CHECK_SECONDS = 3.0, 60.0


def clock() -> float:
    """Seconds that go on while the computer sleeps; the same in all processes."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)


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


@dataclass(frozen=True, slots=True)
class Task:
    """What to record.

    Attributes:
        wanted: as `fitting` takes it; None with "list" alone.
        channels: to record; the device's own number where it has fewer.
        rate: Hz; the device's own where 0 or impossible.
        wait: look for the device every second until it is there.
        list: say what devices there are, and end.
    """

    wanted: str | int | None = None
    channels: int = 2
    rate: int = 0
    wait: bool = False
    list: bool = False


def fitting(devices: Sequence[InputDevice], wanted: str | int | None) -> InputDevice | None:
    """The default for None; a number's device; else the one of this name or part of a name."""
    if wanted is None or wanted == "":
        return next((device for device in devices if device.default), next(iter(devices), None))
    number = wanted if isinstance(wanted, int) else int(wanted) if wanted.isdecimal() else None
    if number is not None:
        return next((device for device in devices if device.index == number), None)
    name = str(wanted).casefold()
    exact = (device for device in devices if device.name.casefold() == name)
    part = (device for device in devices if name in device.name.casefold())
    return next(exact, next(part, None))


class _Block(NamedTuple):
    number: int
    came: float
    data: bytes
    lost: bool


class _Recorder:
    def __init__(self, task: Task) -> None:
        self._task = task
        with _in_time():
            self._sounddevice = importlib.import_module("sounddevice")
        self._queue: SimpleQueue[_Block | None] = SimpleQueue()
        self._count = self._channels = self._rate = 0
        self._device: InputDevice | None = None
        self._stream: Any = None

    def devices(self) -> list[InputDevice]:
        sounddevice = self._sounddevice
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

    def find(self) -> InputDevice | None:
        while (found := fitting(self.devices(), self._task.wanted)) is None and self._task.wait:
            time.sleep(SEARCH_SECONDS)
            with _in_time():
                self._sounddevice._terminate()
                self._sounddevice._initialize()
        return found

    def open(self, device: InputDevice) -> None:
        """Raises PortAudioError where the device cannot record."""
        self._device = device
        self._channels = min(self._task.channels, device.channels)
        with _in_time():
            try:
                self._start(self._task.rate or device.sample_rate)
            except self._sounddevice.PortAudioError:
                self._start(device.sample_rate)
        say(device=asdict(device), channels=self._channels, rate=self._rate)

    def _start(self, rate: int) -> None:
        assert self._device is not None
        self._rate = rate
        self._stream = self._sounddevice.RawInputStream(
            device=self._device.index,
            channels=self._channels,
            samplerate=rate,
            dtype="float32",
            callback=self._callback,
            finished_callback=lambda: self._queue.put(None),
        )
        self._stream.start()

    def _callback(self, data: Any, frames: int, _time: Any, status: Any) -> None:
        if self._queue.qsize() * frames > BUFFER_SECONDS * self._rate:
            with contextlib.suppress(Empty):
                self._queue.get_nowait()
        self._queue.put(_Block(self._count, clock(), bytes(data), status.input_overflow))
        self._count += 1

    def relay(self) -> None:
        """Write blocks until the device is gone."""
        expected, idle, mute, check = 0, 0.0, 0.0, FIRST_CHECK_SECONDS
        while idle < GONE_SECONDS:
            try:
                block = self._queue.get(timeout=POLL_SECONDS)
            except Empty:
                idle += POLL_SECONDS
                continue
            if block is None:
                return
            idle = 0.0
            lost = block.lost or block.number > expected
            expected = block.number + 1
            write(HEADER.pack(block.came, len(block.data), lost) + block.data)
            if block.data.count(0) < len(block.data):
                mute, check = 0.0, FIRST_CHECK_SECONDS
                continue
            mute += len(block.data) / (4 * self._channels * self._rate)
            if mute > check and self._may_vanish():
                check = mute + min(mute, MOST_CHECK_SECONDS)
                threading.Thread(target=self._end_if_gone, daemon=True).start()

    def _may_vanish(self) -> bool:
        """Whether a device that is gone still delivers zeros."""
        return self._device is not None and "JACK" in self._device.host_api

    def _end_if_gone(self) -> None:
        if not self._is_there():
            self._queue.put(None)

    def _is_there(self) -> bool:
        """Ask another process: PortAudio sees what is new or gone only when it starts."""
        assert self._device is not None
        command = [sys.executable, "-P", __file__, json.dumps(asdict(Task(list=True)))]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=OPEN_SECONDS,
            )
            devices = json.loads(done.stdout)["devices"]
        except (subprocess.TimeoutExpired, ValueError, KeyError):
            return True
        return any(device["name"] == self._device.name for device in devices)


@contextlib.contextmanager
def _in_time() -> Iterator[None]:
    """Ends the process where PortAudio does not come back."""
    timer = threading.Timer(OPEN_SECONDS, os._exit, [1])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def say(**what: Any) -> None:
    write(json.dumps(what).encode() + b"\n")


def write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


def main(task: Task) -> None:
    """Do one task.  Ends without closing PortAudio, which may wait for ever or abort."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        recorder = _Recorder(task)
        if task.list:
            say(devices=[asdict(device) for device in recorder.devices()])
            return
        threading.Thread(target=_end_with_standard_input, daemon=True).start()
        device = recorder.find()
        if device is None:
            say(error="is not there")
            return
        recorder.open(device)
        recorder.relay()
    except ImportError:
        say(error="sounddevice is missing: pip install sounddevice")
    except OSError as error:
        say(error=f"PortAudio is missing ({error}): 'scorefollow doctor' says how to get it")
    except Exception as error:
        say(error=str(error))


def _end_with_standard_input() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main(Task(**json.loads(sys.argv[1])))
    os._exit(0)
