"""Sessions on disk: what was heard, what was said, and how it was set up.

DIR/2026-11-29T14-03-22 sonata/
    session.json    settings, versions, when it began and how it ended
    sound.flac      what the follower heard: mono, at its own rate, 24 bits
    events.jsonl    every event as it came
    layout.json     systems and measures, as far as they were read
    pace.jsonl      when later pages came to be known, and frames were passed over
    log.txt         warnings
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import platform
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypeVar

import numpy as np
import soundfile
from numpy.typing import NDArray

from sf_plugin.audio.source import Source
from sf_plugin.controls import Controls
from sf_plugin.errors import AudioError, ScoreError, ScoreFollowerError, SinkError
from sf_plugin.followers import Follower, Reading
from sf_plugin.positions import Control, Event, event_from_json
from sf_plugin.score.layout import Layout
from sf_plugin.score.model import Score
from sf_plugin.session import Session
from sf_plugin.sinks import Sink
from sf_plugin.terminal import write_whole

VERSION = 1

FLUSH_SECONDS = 0.5
"""What is older than this is on the disk."""

MOST_WAITING = 2000
"""Blocks and lines that may wait for the disk: some 20 s of a live session."""

FULL_SCALE = 2**23
"""Of 24-bit samples."""

READ_FRAMES = 8192

PACKAGES = ("sf-plugin", "numpy", "torch", "soxr", "pymupdf", "verovio", "music21")

LOGGERS = ("sf_plugin", "sf_adapters")

Samples = NDArray[np.float32]
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class File:
    """A file that a session depends on, and the SHA-256 of what was in it."""

    path: str
    sha256: str

    @classmethod
    def of(cls, path: Path) -> File:
        """A file as it is now.

        Raises:
            ScoreError: it cannot be read.
        """
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ScoreError(f"{path}: cannot be read: {error.strerror}: check the name") from None
        return cls(str(path.resolve()), digest)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a session was told; what it is told again when it is replayed.

    Attributes:
        score: the files of the score, in order.
        pages: of the score, how many.
        chosen: those to follow, as "37-45"; all where None.
        layout: systems and measures from a layout file, if there was one.
        symbols: the symbolic score beside the pages, if there was one.
        order, start, lead, half_pages: as on the command line.
        follower, mapper: their names.
        weights: of the follower, where they are known.
    """

    score: tuple[File, ...]
    pages: int
    chosen: str | None = None
    layout: Layout | None = None
    symbols: File | None = None
    order: str = ""
    start: str | None = None
    lead: str = "1s"
    half_pages: bool = False
    follower: str = "unet"
    mapper: str = "plain"
    weights: File | None = None

    @classmethod
    def of(cls, args: argparse.Namespace, score: Score) -> Settings:
        """Those of `scorefollow follow`.

        Raises:
            ScoreError: a file of the score cannot be read any more.
        """
        weights = None
        if args.follower == "unet":
            from sf_plugin.unet.weights import SHIPPED

            weights = File.of(SHIPPED)
        return cls(
            score=tuple(map(File.of, args.score)),
            pages=len(score.pages),
            chosen=args.pages,
            layout=None if score.layout_file is None else score.layout,
            symbols=None if args.symbols is None else File.of(args.symbols),
            order=args.order,
            start=args.start,
            lead=str(args.lead),
            half_pages=args.half_pages,
            follower=args.follower,
            mapper=args.mapper,
            weights=weights,
        )

    def to_dict(self) -> dict[str, Any]:
        """As in `session.json`."""
        layout = None if self.layout is None else json.loads(self.layout.to_json())
        return {**asdict(replace(self, layout=None)), "layout": layout}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Settings:
        """Read them back.

        Raises:
            KeyError, TypeError, ValueError, ScoreError: they are no settings of this version.
        """
        files = {name: data[name] and File(**data[name]) for name in ("symbols", "weights")}
        layout = data["layout"] and Layout.from_json(json.dumps(data["layout"]))
        score = tuple(File(**file) for file in data["score"])
        return cls(**{**data, **files, "score": score, "layout": layout})


class RecordedSession(Session):
    """A session that is kept in a new folder of `parent`.

    The follower hears exactly the samples that are written.  Takes what `Session` takes.

    Raises:
        SinkError: the folder cannot be made.
    """

    def __init__(
        self,
        parent: Path,
        settings: Settings,
        source: Source,
        follower: Follower,
        *rest: Any,
        **named: Any,
    ) -> None:
        self.recording = Recording(parent, settings, source, follower.sample_rate)
        super().__init__(Recorded(source, self.recording), follower, *rest, **named)
        self.sinks.insert(0, ("record", self.recording))

    def events(self) -> Generator[Event, None, None]:
        with self.recording.logged():
            yield from super().events()

    def _read(self) -> Reading:
        return _Noted(super()._read(), self)

    def _keep_up(self, waiting: float) -> None:
        before = self.follower.hurry
        super()._keep_up(waiting)
        if self.follower.hurry != before:
            self.note_pace(hurry=self.follower.hurry)

    def note_pace(self, **what: int) -> None:
        """What is otherwise before the next sample is heard."""
        seconds = self._fed / self.follower.sample_rate
        self.recording.note("pace.jsonl", json.dumps({"time": seconds, **what}))


class _Noted(Reading):
    """A reading of which is noted when it went on."""

    def __init__(self, reading: Reading, session: RecordedSession) -> None:
        super().__init__(reading.layout)
        self._reading = reading
        self._session = session

    def more(self) -> Layout | None:
        larger = self._reading.more()
        if larger is not None:
            through = self._reading.through or len(self._session.score.pages)
            self._session.note_pace(pages=through)
        return larger

    def close(self) -> None:
        self._reading.close()


class Recorded(Source):
    """A source whose sound is written as it is heard."""

    def __init__(self, source: Source, recording: Recording) -> None:
        self.source = source
        self.recording = recording

    @property
    def live(self) -> bool:  # type: ignore[override]
        return self.source.live

    @property
    def seconds(self) -> float | None:  # type: ignore[override]
        return self.source.seconds

    @property
    def dropped_seconds(self) -> float:  # type: ignore[override]
        return self.source.dropped_seconds

    @property
    def waiting_seconds(self) -> float:  # type: ignore[override]
        return self.source.waiting_seconds

    def blocks(self, sample_rate: int) -> Iterator[Samples]:
        for block in self.source.blocks(sample_rate):
            steps = in_24_bits(block)
            self.recording.hear(steps)
            yield (steps / FULL_SCALE).astype(np.float32)
        self.recording.ended = "end of sound"

    def close(self) -> None:
        self.source.close()

    def __enter__(self) -> Recorded:
        self.source.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.source.__exit__(kind, error, trace)


def in_24_bits(block: Samples) -> NDArray[np.int32]:
    """(n,) samples of full scale 1.0 as whole steps of 24 bits."""
    limited = np.clip(block, -1.0, 1.0 - 1.0 / FULL_SCALE)
    steps: NDArray[np.int32] = np.rint(limited * FULL_SCALE).astype(np.int32)
    return steps


class Recording(Sink):
    """Writes a session into a folder of its own, named by the time and the score.

    What was written stays readable when the program is killed.  A disk that is full or too
    slow ends the recording, not the session.

    Attributes:
        folder: where, once the session is open.
        ended: how: "end of sound", "stopped", "interrupted" or "failed"; None before.
    """

    def __init__(self, parent: Path, settings: Settings, source: Source, rate: int) -> None:
        self.parent = parent
        self.settings = settings
        self.source = source
        self.rate = rate
        self.folder: Path | None = None
        self.ended: str | None = None
        self._writer: _Writer | None = None
        self._controls: Controls | None = None
        self._early: list[str] = []
        self._events = 0
        self._facts: dict[str, Any] = {}

    def attach(self, controls: Controls) -> None:
        self._controls = controls

    def open(self, score: Score, layout: Layout) -> None:
        started = datetime.now(UTC)
        name = "".join(c if c.isprintable() and c not in '/\\:*?"<>|' else "_" for c in score.name)
        try:
            self.folder = _new_folder(self.parent, started.astimezone(), name[:80])
        except OSError as error:
            raise SinkError(
                f"{self.parent}: no recording can be kept there: {error.strerror}: choose "
                "another folder"
            ) from None
        self._facts = {
            "version": VERSION,
            "started": started.isoformat(timespec="milliseconds"),
            "settings": self.settings.to_dict(),
            "sound": {
                "from": described(self.source),
                "live": self.source.live,
                "rate": self.rate,
            },
            "versions": _versions(),
            "ended": None,
        }
        self._write_facts()
        write_whole(self.folder / "layout.json", layout.to_json() + "\n")
        self._writer = _Writer(self.folder, self.rate, patient=not self.source.live)
        for line in self._early:
            self._writer.put(("log.txt", line))

    def hear(self, steps: NDArray[np.int32]) -> None:
        """(n,) samples in steps of 24 bits."""
        if self._writer is not None:
            self._writer.put(steps)

    def note(self, name: str, line: str) -> None:
        """A line for one of the files."""
        if self._writer is not None:
            self._writer.put((name, line))

    @contextmanager
    def logged(self) -> Iterator[None]:
        """Meanwhile warnings are kept, also those before and after the folder's other files."""
        handler = _Warnings(self._warn)
        for name in LOGGERS:
            logging.getLogger(name).addHandler(handler)
        try:
            yield
        finally:
            for name in LOGGERS:
                logging.getLogger(name).removeHandler(handler)

    def _warn(self, line: str) -> None:
        if self.folder is None:
            self._early.append(line)
        elif self._writer is not None:
            self._writer.put(("log.txt", line))
        else:
            with suppress(OSError), (self.folder / "log.txt").open("a", encoding="utf-8") as log:
                log.write(line + "\n")

    def extend(self, layout: Layout) -> None:
        if self._writer is not None:
            self._writer.put(layout)

    def emit(self, event: Event) -> None:
        if self._writer is None:
            return
        if self._writer.failure is not None:
            raise SinkError(
                f"{self.folder}: {self._writer.failure}: the recording ends here, what was "
                "written is kept"
            )
        if isinstance(event, Control) and event.action == "stop":
            self.ended = "stopped"
        self._events += 1
        self._writer.put(("events.jsonl", event.to_json()))

    def close(self) -> None:
        self._close(failed=False)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close(failed=kind is not None and not issubclass(kind, KeyboardInterrupt))

    def _close(self, *, failed: bool) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        writer.finish()
        cut_off = writer.failure is not None
        self.ended = "failed" if failed or cut_off else self.ended or "interrupted"
        lost = self._controls.dropped_seconds if self._controls is not None else 0.0
        self._facts |= {
            "ended": self.ended,
            "seconds": writer.samples / self.rate,
            "dropped_seconds": lost,
            "events": self._events,
        }
        with suppress(ScoreFollowerError) if cut_off else nullcontext():
            self._write_facts()
        if cut_off and not failed:
            raise SinkError(f"{self.folder}: {writer.failure}: the recording is cut off")

    def _write_facts(self) -> None:
        assert self.folder is not None
        write_whole(self.folder / "session.json", json.dumps(self._facts, indent=1) + "\n")


def _new_folder(parent: Path, now: datetime, name: str) -> Path:
    stem = f"{now:%Y-%m-%dT%H-%M-%S} {name}".rstrip(" .")
    number = 1
    while True:
        folder = parent / (stem if number == 1 else f"{stem} {number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            if not parent.is_dir():
                raise
            number += 1


def described(source: Source) -> str:
    """What a source listens to, for people."""
    device = getattr(source, "device", None)
    named = getattr(device, "name", None) or getattr(source, "path", None)
    return str(named or type(source).__name__)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "machine": platform.platform()}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


class _Warnings(logging.Handler):
    """Hands on what is logged."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__()
        self.tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        text = " ".join(record.getMessage().split())
        self.tell(f"{when} {record.levelname.lower()} {text}")


class _Writer:
    """Puts what comes into the files of a folder, in a thread of its own.

    Args:
        folder: where.
        rate: of the sound, Hz.
        patient: wait for a slow disk; else what waits too long ends the writing.

    Attributes:
        failure: why the writing ended before its time, if it did.
        samples: written so far.
    """

    def __init__(self, folder: Path, rate: int, *, patient: bool) -> None:
        self.folder = folder
        self.rate = rate
        self.patient = patient
        self.failure: str | None = None
        self.samples = 0
        self._lines: dict[str, IO[str]] = {}
        self._files = ExitStack()
        self._waiting: queue.Queue[Any] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._run, name="recording", daemon=True)
        self._thread.start()

    def put(self, item: NDArray[np.int32] | tuple[str, str] | Layout | None) -> None:
        """Samples, a line for a file, a layout, or None: the end."""
        while self.failure is None:
            try:
                self._waiting.put(item, timeout=0.1 if self.patient else 0.0)
                return
            except queue.Full:
                if not self.patient:
                    self.failure = "the disk is too slow"

    def finish(self) -> None:
        """Write what waits."""
        self.put(None)
        self._thread.join(None if self.failure is None else 1.0)

    def _run(self) -> None:
        path = self.folder / "sound.flac"
        flushed = time.monotonic()
        try:
            with (
                self._files,
                soundfile.SoundFile(path, "w", self.rate, 1, "PCM_24", format="FLAC") as sound,
            ):
                while self.failure is None:
                    try:
                        item = self._waiting.get(timeout=FLUSH_SECONDS)
                    except queue.Empty:
                        pass
                    else:
                        if item is None:
                            return
                        self._write(item, sound)
                    if time.monotonic() - flushed >= FLUSH_SECONDS:
                        self._flush(sound)
                        flushed = time.monotonic()
        except Exception as error:
            self.failure = getattr(error, "strerror", None) or str(error) or repr(error)

    def _write(self, item: Any, sound: soundfile.SoundFile) -> None:
        match item:
            case (str(name), str(line)):
                if name not in self._lines:
                    file = (self.folder / name).open("a", encoding="utf-8")
                    self._lines[name] = self._files.enter_context(file)
                self._lines[name].write(line + "\n")
            case Layout():
                write_whole(self.folder / "layout.json", item.to_json() + "\n")
            case steps:
                sound.write(steps << 8)
                self.samples += len(steps)

    def _flush(self, sound: soundfile.SoundFile) -> None:
        sound.flush()
        for file in self._lines.values():
            file.flush()
            os.fsync(file.fileno())


# what was recorded


@dataclass(frozen=True, slots=True)
class Recall:
    """A recorded session.

    Attributes:
        rate: of the sound, Hz.
        live: whether the sound was made then, and the pages read meanwhile.
        ended: as of `Recording`; None where the program was killed.
        seconds: of sound; None where the program was killed.
    """

    folder: Path
    settings: Settings
    rate: int
    live: bool
    started: str
    ended: str | None
    seconds: float | None

    @property
    def whole(self) -> bool:
        """Whether every event of the sound was told."""
        return self.ended in ("end of sound", "stopped")

    def lines(self) -> Iterator[str]:
        """The events as JSON lines; the last is left out where it was cut off."""
        yield from _whole_lines(self.folder / "events.jsonl")

    def events(self) -> Iterator[Event]:
        """The events.

        Raises:
            ScoreFollowerError: a line is none.
        """
        yield from _each(self.folder / "events.jsonl", event_from_json)

    def controls(self) -> list[Control]:
        """What the player wished; raises as `events`."""
        return [event for event in self.events() if isinstance(event, Control)]

    def pages_known(self) -> list[tuple[float, int]]:
        """(time, page): when the pages up to this one came to be known."""
        return self._pace("pages")

    def hurries(self) -> list[tuple[float, int]]:
        """(time, n): from when on one of n frames was listened to."""
        return self._pace("hurry")

    def _pace(self, what: str) -> list[tuple[float, int]]:
        def read(line: str) -> tuple[float, int | None]:
            said = json.loads(line)
            return float(said["time"]), said.get(what)

        paces = _each(self.folder / "pace.jsonl", read)
        return [(time, pace) for time, pace in paces if pace is not None]

    def layout(self) -> Layout:
        """Systems and measures as they were last known.

        Raises:
            ScoreError: they cannot be read.
        """
        path = self.folder / "layout.json"
        try:
            return Layout.from_json(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, ScoreError) as error:
            raise ScoreError(f"{path}: cannot be read: {error}") from None

    def sound(self) -> Generator[Samples, None, None]:
        """(n,) blocks of what the follower heard, also where the file was never finished.

        Raises:
            AudioError: there is none, or it is shorter than it was.
        """
        path = self.folder / "sound.flac"
        heard = 0
        try:
            with _Forward(path) as file:
                while len(block := file.read(READ_FRAMES, dtype="float32")):
                    heard += len(block)
                    yield block
        except soundfile.SoundFileError as error:
            if not heard or self.whole:
                raise AudioError(
                    f"{path}: cannot be read after {heard / self.rate:.1f} s: {error}"
                ) from None


class _Forward(soundfile.SoundFile):
    """Reads ahead only: what was never finished cannot be searched."""

    def seekable(self) -> bool:
        return False


def open_recording(folder: Path) -> Recall:
    """A folder that `scorefollow follow --record` made.

    Raises:
        ScoreFollowerError: it is none, or of another version.
    """
    path = folder / "session.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["version"] != VERSION:
            raise ScoreFollowerError(
                f"{path}: recorded as version {data['version']}, this program reads {VERSION}"
            )
        sound = data["sound"]
        return Recall(
            folder,
            Settings.from_dict(data["settings"]),
            sound["rate"],
            sound["live"],
            data["started"],
            data["ended"],
            data.get("seconds"),
        )
    except FileNotFoundError:
        raise ScoreFollowerError(f"{folder}: {_no_recording(folder)}") from None
    except (OSError, KeyError, TypeError, ValueError, AttributeError, ScoreError) as error:
        raise ScoreFollowerError(f"{path}: is damaged or no session: {error!r}") from None


def _no_recording(folder: Path) -> str:
    if not folder.is_dir():
        return "there is no such folder: name one that 'scorefollow follow --record' made"
    inside = sorted(path.parent.name for path in folder.glob("*/session.json"))
    if inside:
        return f"is a folder of recordings: name one, such as '{folder / inside[-1]}'"
    return "holds no recording: name a folder that 'scorefollow follow --record' made"


def _each(path: Path, read: Callable[[str], Item]) -> Iterator[Item]:
    """What is read of each line.

    Raises:
        ScoreFollowerError: a line is damaged.
    """
    for number, line in enumerate(_whole_lines(path), 1):
        try:
            item = read(line)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ScoreFollowerError(f"{path}: line {number} is damaged: {error!r}") from None
        yield item


def _whole_lines(path: Path) -> Iterator[str]:
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.endswith("\n"):
                yield line[:-1]
