"""Audio files: what libsndfile reads, and through ffmpeg what it does not."""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from sf_plugin.audio.quiet import quiet_stderr
from sf_plugin.audio.resampler import MonoResampler
from sf_plugin.audio.source import Source
from sf_plugin.errors import AudioError

logger = logging.getLogger(__name__)

BLOCK_FRAMES = 8192
SILENCE = 1e-4
"""Peak below which a file holds nothing to hear: -80 dB of full scale."""

Frames = Generator[NDArray[np.float32], None, None]
"""Blocks of (n, channels)."""


class FileSource(Source):
    """Streams one audio file from its beginning each time `blocks` is called.

    Memory does not grow with the length of the file.

    Raises:
        AudioError: the file is missing, empty, damaged or no audio.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._closed = False
        _check_file(self.path)
        self._decoder = _SndFile.probe(self.path) or _Ffmpeg.probe(self.path)
        self.seconds = self._decoder.seconds

    def blocks(self, sample_rate: int) -> Iterator[NDArray[np.float32]]:
        resampler = MonoResampler(self._decoder.rate, sample_rate)
        peak, heard = 0.0, 0
        with closing(self._decoder.frames()) as decoded:
            for frames in decoded:
                if self._closed:
                    return
                heard += len(frames)
                peak = max(peak, float(np.abs(frames).max(initial=0.0)))
                block = resampler.feed(frames)
                if len(block):
                    yield block
        if not heard:
            raise AudioError(f"{self.path}: holds no sound: record or export it again")
        rest = resampler.finish()
        if len(rest) and not self._closed:
            yield rest
        if peak < SILENCE:
            logger.warning(
                "%s is silent: check that the right channel or file was recorded", self.path
            )

    def close(self) -> None:
        self._closed = True


def _check_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise AudioError(f"{path}: is a folder: name an audio file in it")
        with path.open("rb") as file:
            if not file.read(1):
                raise AudioError(f"{path}: is empty: record or copy it again")
    except FileNotFoundError:
        raise AudioError(f"{path}: no such file: check the name") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"{path}: cannot be read: {reason}") from None


class _Forward(soundfile.SoundFile):
    """Reads ahead only: soundfile seeks after each block otherwise, which garbles MP3."""

    def seekable(self) -> bool:
        return False


class _SndFile:
    """Decodes with libsndfile."""

    _SHORT_DATA = re.compile(r"^\s*(?:data|SSND)\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE)
    _LENGTH_UNKNOWN = 0x7FFFFF00
    """Writers that stream to a pipe put at least this as the length."""

    def __init__(self, path: Path, rate: int, count: int) -> None:
        self._path, self.rate, self._count = path, rate, count
        self.seconds: float | None = count / rate

    @classmethod
    def probe(cls, path: Path) -> _SndFile | None:
        try:
            with quiet_stderr(), soundfile.SoundFile(path) as file:
                if file.format == "MP3" and not _tells_length(path) and shutil.which("ffmpeg"):
                    return None
                short = cls._SHORT_DATA.search(file.extra_info)
                if short and int(short[2]) < int(short[1]) < cls._LENGTH_UNKNOWN:
                    raise AudioError(
                        f"{path}: is cut off: {short[2]} of {short[1]} bytes of sound are there: "
                        "copy it again"
                    )
                return cls(path, file.samplerate, file.frames)
        except (soundfile.SoundFileError, TypeError):
            return None

    def frames(self) -> Frames:
        heard = 0
        try:
            with quiet_stderr():
                file = _Forward(self._path)
            with file:
                while len(block := file.read(BLOCK_FRAMES, dtype="float32", always_2d=True)):
                    heard += len(block)
                    yield block
        except soundfile.SoundFileError as error:
            raise AudioError(
                f"{self._path}: is damaged after {heard / self.rate:.1f} s ({error}): copy it again"
            ) from None
        if heard < self._count - self.rate:
            raise AudioError(
                f"{self._path}: is cut off after {heard / self.rate:.1f} s of "
                f"{self._count / self.rate:.1f} s: copy it again"
            )


class _Ffmpeg:
    """Decodes through the ffmpeg program."""

    def __init__(self, path: Path, rate: int, channels: int, seconds: float | None) -> None:
        self._path, self.rate, self._channels = path, rate, channels
        self.seconds = seconds

    @classmethod
    def probe(cls, path: Path) -> _Ffmpeg:
        if not (shutil.which("ffmpeg") and shutil.which("ffprobe")):
            raise AudioError(
                f"{path}: libsndfile cannot read it and ffmpeg is not installed: install ffmpeg "
                "(Debian: apt install ffmpeg, macOS: brew install ffmpeg) or convert it to WAV"
            )
        command = ["ffprobe", "-v", "error", "-select_streams", "a:0", "-of", "json"]
        command += ["-show_entries", "stream=sample_rate,channels:format=duration"]
        done = subprocess.run(
            [*command, f"file:{path}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
        if done.returncode:
            raise AudioError(
                f"{path}: is no audio file or is damaged ({_last_line(done.stderr, path)}): "
                "check it in a player or convert it to WAV"
            )
        found = json.loads(done.stdout)
        streams = found.get("streams")
        if not streams or not int(streams[0].get("sample_rate", 0)):
            raise AudioError(f"{path}: holds no audio: name a recording")
        duration = found.get("format", {}).get("duration")
        return cls(
            path,
            int(streams[0]["sample_rate"]),
            int(streams[0]["channels"]),
            float(duration) if duration else None,
        )

    def frames(self) -> Frames:
        command = ["ffmpeg", "-v", "error", "-nostdin", "-i", f"file:{self._path}"]
        command += ["-map", "0:a:0", "-f", "f32le", "-ac", str(self._channels)]
        command += ["-ar", str(self.rate), "-"]
        with tempfile.TemporaryFile() as messages:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=messages
            )
            assert process.stdout is not None
            try:
                size = 4 * self._channels
                while len(data := process.stdout.read(BLOCK_FRAMES * size)) >= size:
                    whole = data[: len(data) // size * size]
                    yield np.frombuffer(whole, "<f4").reshape(-1, self._channels)
                status = process.wait()
            finally:
                process.stdout.close()
                process.kill()
                process.wait()
            messages.seek(0)
            said = messages.read().decode(errors="replace").strip()
        if status or "partial file" in said or "ended prematurely" in said:
            raise AudioError(
                f"{self._path}: is damaged or cut off ({_last_line(said, self._path)}): "
                "copy it again"
            )
        if said:
            logger.warning("%s: ffmpeg says: %s", self._path, _last_line(said, self._path))


def _tells_length(mp3: Path) -> bool:
    """Whether an MP3 states its length; libsndfile guesses and cuts off where it does not."""
    with mp3.open("rb") as file:
        start = file.read(1 << 20)
    return b"Xing" in start or b"Info" in start


def _last_line(text: str, path: Path) -> str:
    lines = text.strip().splitlines() or ["no reason given"]
    return lines[-1].replace(f"file:{path}: ", "").strip()
