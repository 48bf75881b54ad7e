"""MIDI as sound: a keyboard that is played now, or a file."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import mido
import numpy as np
from numpy.typing import NDArray

from sf_plugin.audio.piano import HEARD, Piano
from sf_plugin.audio.recorder import clock
from sf_plugin.audio.source import Source
from sf_plugin.errors import AudioError, SinkError
from sf_plugin.midi_ports import LOOK_SECONDS, MidiPort

logger = logging.getLogger(__name__)

BLOCK_SECONDS = 0.0125
"""Of music that is rendered at once."""

MOST_WAITING = 10_000
"""Messages that may wait; while there are more, none is heard."""

MOST_LATE_SECONDS = 60.0
"""Music that has waited for longer is left out."""

CLOSE_SECONDS = 2.0

PERCUSSION = 9
"""Channel of General MIDI's drums, counted from 0."""

TAIL_SECONDS = 1.0
"""That a file goes on after its last message."""

MOST_HOURS = 24

MIDI_SUFFIXES = (".mid", ".midi", ".smf", ".kar")


class Keyboard(Source):
    """Plays a MIDI keyboard on a piano of its own, in the time of the clock, until closed.

    All channels are heard.  A keyboard that goes away is looked for; its keys are let go.

    Args:
        port: a part of the MIDI port's name, upper or lower case.

    Raises:
        AudioError: there is no such port, or it cannot be opened.
    """

    live = True

    def __init__(self, port: str) -> None:
        self._port = MidiPort(port, self._hear)
        self._waiting: deque[tuple[float, mido.Message | None]] = deque()
        """When each came, by the clock; None lets go of everything."""
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._due: float | None = None
        try:
            self._port.open()
        except SinkError as error:
            raise AudioError(f"MIDI keyboard: {error}") from None

    @property
    def waiting_seconds(self) -> float:  # type: ignore[override]
        """Music that was played and not yet taken."""
        return 0.0 if self._due is None else max(0.0, clock() - self._due)

    def blocks(self, sample_rate: int) -> Iterator[NDArray[np.float32]]:
        piano = Piano(sample_rate)
        size = round(BLOCK_SECONDS * sample_rate)
        self._waiting.clear()
        self._thread = threading.Thread(target=self._look, name="MIDI keyboard", daemon=True)
        self._thread.start()
        began = clock()
        try:
            while True:
                end = began + (piano.now + size) / sample_rate
                if self._closed.wait(max(0.0, end - clock())):
                    return
                late = clock() - end - MOST_LATE_SECONDS
                if late > 0:
                    began, end = began + late, end + late
                    self.dropped_seconds += late
                    logger.warning("MIDI keyboard: time stood still for %.0f s", late)
                self._play(piano, began, end, sample_rate)
                self._due = end
                yield piano.render(size)
        finally:
            self.close()
            self._thread.join(CLOSE_SECONDS)

    def _play(self, piano: Piano, began: float, end: float, sample_rate: int) -> None:
        """Hear what came before `end`."""
        while self._waiting and self._waiting[0][0] < end:
            came, message = self._waiting.popleft()
            at = round((came - began) * sample_rate)
            if message is None:
                piano.release(at)
            else:
                piano.hear(message, at)

    def close(self) -> None:
        self._closed.set()
        if self._thread is None:
            self._port.close()

    def _hear(self, message: mido.Message) -> None:
        """In the thread of the MIDI back end."""
        if message.type not in HEARD:
            return
        waiting = len(self._waiting)
        if waiting < MOST_WAITING:
            self._waiting.append((clock(), message))
        elif waiting == MOST_WAITING:
            self._waiting.append((clock(), None))
            logger.warning("MIDI keyboard: too many messages at once: some are not heard")

    def _look(self) -> None:
        while not self._closed.wait(LOOK_SECONDS):
            here = self._port.here
            self._port.look()
            if here and not self._port.here:
                self._waiting.append((clock(), None))
        self._port.close()


class MidiFile(Source):
    """Plays a MIDI file on a piano, all of its parts but the drums.

    Raises:
        AudioError: the file is missing, damaged or no MIDI file, or holds no notes.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._closed = False
        self._messages = list(_messages(self.path))
        if not any(message.type == "note_on" for _, message in self._messages):
            raise AudioError(f"{path}: holds no notes: record or export it again")
        self.seconds = self._messages[-1][0] + TAIL_SECONDS
        if self.seconds > MOST_HOURS * 3600:
            raise AudioError(
                f"{path}: lasts for {self.seconds / 3600:.0f} hours: record or export it again"
            )

    def blocks(self, sample_rate: int) -> Iterator[NDArray[np.float32]]:
        assert self.seconds is not None
        piano = Piano(sample_rate)
        waiting = deque((round(time * sample_rate), message) for time, message in self._messages)
        samples = round(self.seconds * sample_rate)
        while piano.now < samples and not self._closed:
            size = min(sample_rate, samples - piano.now)
            while waiting and waiting[0][0] < piano.now + size:
                at, message = waiting.popleft()
                piano.hear(message, at)
            yield piano.render(size)

    def close(self) -> None:
        self._closed = True


def is_midi_file(path: str | Path) -> bool:
    """Whether a file is a MIDI file, by its name."""
    return Path(path).suffix.lower() in MIDI_SUFFIXES


def _messages(path: Path) -> Iterator[tuple[float, mido.Message]]:
    """Seconds and messages that a piano hears, in order of time."""
    time = 0.0
    try:
        for message in mido.MidiFile(path, clip=True):
            time += message.time
            if message.type in HEARD and message.channel != PERCUSSION:
                yield time, message
    except FileNotFoundError:
        raise AudioError(f"{path}: no such file: check the name") from None
    except IsADirectoryError:
        raise AudioError(f"{path}: is a folder: name a MIDI file in it") from None
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise AudioError(
            f"{path}: is no MIDI file or is damaged ({reason}): export it again as a MIDI file of "
            "type 0 or 1"
        ) from None
