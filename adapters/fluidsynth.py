"""A fluidsynth program of our own as an instrument; it needs no MIDI system."""

from __future__ import annotations

import logging
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import mido

from sf_plugin.errors import SinkError
from sf_plugin.midi_ports import jack_server

logger = logging.getLogger(__name__)

PROGRAM = "fluidsynth"

SOUNDFONTS = (
    "/usr/share/sounds/sf2/default-GM.sf2",
    "/usr/share/sounds/sf3/default-GM.sf3",
    "/usr/share/sounds/sf2/FluidR3_GM.sf2",
    "/usr/share/sounds/sf3/MuseScore_General.sf3",
    "/usr/share/sounds/sf2/TimGM6mb.sf2",
    "/usr/share/soundfonts/default.sf2",
    "/usr/share/soundfonts/FluidR3_GM.sf2",
)
"""Where distributions put them."""

START_SECONDS = 1.0
"""A program that runs longer has started."""

END_SECONDS = 2.0

MOST_STARTS = 5
"""A program that ends so often is left alone."""


class Synthesizer:
    """Plays through the computer's sound; what is sent goes to the program's own shell.

    A program that ends is started again by `look`.

    Args:
        soundfont: a file; one of the system's where empty.
        audio: the driver, such as "jack" or "pulseaudio"; the program's choice where empty.
        options: more words for the program.

    Attributes:
        here: whether it runs.
    """

    def __init__(self, soundfont: str = "", audio: str = "", options: Sequence[str] = ()) -> None:
        self.soundfont = soundfont
        self.audio = audio
        self.options = tuple(options)
        self.here = False
        self._process: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None
        self._starts = 0
        self._server: tuple[int, int] | None = None

    def open(self) -> None:
        """Start it.

        Raises:
            SinkError: the program or a soundfont is missing, or it ends at once.
        """
        program = shutil.which(PROGRAM)
        if program is None:
            raise SinkError(
                "fluidsynth is not installed: 'scorefollow doctor' says how to get it; or name a "
                "MIDI port with port=NAME"
            )
        font = self.soundfont or next((one for one in SOUNDFONTS if Path(one).is_file()), "")
        if not font:
            raise SinkError(
                "no soundfont was found: install one (Debian: fluid-soundfont-gm), or name a file "
                "with soundfont=FILE"
            )
        if not Path(font).is_file():
            raise SinkError(f"soundfont {font}: there is no such file: check the name")
        words = [program, "-n", "-q", "-o", "shell.prompt=", *self.options]
        words += ["-a", self.audio] if self.audio else []
        words += ["-j"] if self.audio == "jack" else []
        self._end()
        self._starts += 1
        self._server = jack_server()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [*words, font],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
            start_new_session=True,
        )
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(START_SECONDS)
        if self._process.poll() is None:
            self.here = True
            return
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").splitlines()
        self._end()
        reason = next((line.strip() for line in lines if "rror" in line), "it says nothing")
        raise SinkError(
            f"fluidsynth does not start ({reason[:200]}): choose a driver with audio=NAME "
            "('fluidsynth -a help' lists them)"
        )

    def send(self, messages: Sequence[mido.Message]) -> bool:
        """Send all of them; False where it has ended."""
        pipe = self._process.stdin if self._process is not None else None
        if pipe is None or not self.here:
            return False
        try:
            pipe.write(b"".join(shell_line(message) for message in messages))
            pipe.flush()
        except (OSError, ValueError):
            logger.warning("fluidsynth has ended: starting it again")
            self.here = False
        return self.here

    def look(self) -> None:
        """Notice that it has ended; start it anew."""
        if self.here and self._process is not None and self._process.poll() is not None:
            logger.warning("fluidsynth has ended: starting it again")
            self.here = False
        if self.here and self.audio == "jack" and jack_server() != self._server:
            logger.warning("the JACK server was started anew: so is fluidsynth")
            self.here = False
        if not self.here and 0 < self._starts < MOST_STARTS:
            try:
                self.open()
            except SinkError as error:
                logger.warning("%s", error)

    def close(self) -> None:
        """End it; closing twice is harmless."""
        self._starts = 0
        self._end()

    def _end(self) -> None:
        process, self._process, self.here = self._process, None, False
        if process is not None:
            with suppress(OSError, ValueError):
                if process.stdin is not None:
                    process.stdin.write(b"quit\n")
                    process.stdin.close()
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        said, self._said = self._said, None
        if said is not None:
            said.close()


def shell_line(message: mido.Message) -> bytes:
    """A message as a line of fluidsynth's shell; nothing for what it does not know."""
    match message.type:
        case "note_on":
            text = f"noteon {message.channel} {message.note} {message.velocity}\n"
        case "note_off":
            text = f"noteoff {message.channel} {message.note}\n"
        case "control_change":
            text = f"cc {message.channel} {message.control} {message.value}\n"
        case "program_change":
            text = f"prog {message.channel} {message.program}\n"
        case "pitchwheel":
            text = f"pitch_bend {message.channel} {message.pitch + 8192}\n"
        case _:
            text = ""
    return text.encode()
