"""Alignments as files of music21: `stream.write("scorefollow")`, `converter.parse(...)`.

An .sfalign file is JSON, UTF-8:

    version    1
    name       of the score
    audio      the recording's file, or an empty string
    musicxml   the score
    measures   number, label, page, system, pass, start, end, jumped, and onsets: rows of
               seconds, x and quarter notes into the measure; in order of time
    positions  rows of seconds, measure (0: unknown), quarter notes into it, pass,
               confidence and state; one a frame

Measure n is the n-th of the first part.
"""

from __future__ import annotations

import json
import webbrowser
from collections.abc import Iterable
from html import escape
from io import IOBase
from pathlib import Path
from typing import Any

import numpy as np
from music21 import common, converter
from music21.converter.subConverters import SubConverter
from music21.stream import Stream

from sf_adapters.music21.aligning import PLACES, Performance, performance_of, write
from sf_adapters.report import SOUNDS, build_report, sound_source
from sf_adapters.report.track import TRACK, Track
from sf_plugin.alignment import MeasureTime, OnsetTime
from sf_plugin.errors import ScoreError, ScoreFollowerError
from sf_plugin.positions import STATES, Jump
from sf_plugin.score.engraving import to_musicxml
from sf_plugin.score.layout import Layout
from sf_plugin.score.load import load_score
from sf_plugin.terminal import write_whole

VERSION = 1
HEIGHT = 700
"""Pixels of a report in a notebook."""


def register() -> None:
    """Teach music21 the format "scorefollow"; twice is harmless."""
    if AlignmentConverter not in converter.Converter.subConvertersList():
        converter.registerSubConverter(AlignmentConverter)


class AlignmentConverter(SubConverter):
    """Writes, reads and shows aligned streams.

    `write("scorefollow")` makes an .sfalign file, `write("scorefollow.html")` the report,
    and `show("scorefollow")` opens it in the browser, or in the notebook it is called in.
    """

    registerFormats = ("scorefollow",)
    registerShowFormats = ("scorefollow",)
    registerInputExtensions = ("sfalign",)
    registerOutputExtensions = ("sfalign",)
    registerOutputSubformatExtensions = {"html": "html"}  # noqa: RUF012

    def parseData(self, dataString: str | bytes, number: int | None = None) -> Stream:
        """An alignment's text as a stream with times.

        Raises:
            ScoreError: it is no alignment of this version.
        """
        self.stream = from_text(dataString)
        return self.stream

    def parseFile(self, filePath: str | Path, number: int | None = None, **keywords: Any) -> Stream:
        """An .sfalign file as a stream with times.

        Raises:
            ScoreError: it is no alignment of this version.
        """
        try:
            self.stream = from_text(Path(filePath).read_bytes())
        except ScoreError as error:
            raise ScoreError(f"{filePath}: {error}") from None
        return self.stream

    def write(
        self,
        obj: Any,
        fmt: str | None,
        fp: str | Path | IOBase | None = None,
        subformats: Iterable[str] = (),
        **keywords: Any,
    ) -> Path:
        """Write an aligned stream to a file.

        Raises:
            ScoreFollowerError: it was not aligned, or the file cannot be written.
        """
        if fp is None:
            fp = self.getTemporaryFile(subformats)
        html = "html" in subformats
        path = None if isinstance(fp, IOBase) else Path(common.cleanpath(fp))
        text = report_of(obj, path.parent if path else Path()) if html else to_text(obj)
        if path is None:
            return Path(self.writeDataStream(fp, text))
        write_whole(path, text)
        return path

    def show(
        self,
        obj: Any,
        fmt: str | None,
        app: str | None = None,
        subformats: Iterable[str] = (),
        **keywords: Any,
    ) -> Any:
        """Open the report of an aligned stream.

        Raises:
            ScoreFollowerError: it was not aligned, or there is no browser.
        """
        if common.runningInNotebook():
            from IPython.display import HTML

            page = escape(report_of(obj, Path()))
            return HTML(f'<iframe srcdoc="{page}" width="100%" height="{HEIGHT}"></iframe>')
        path = self.write(obj, fmt, subformats=("html",))
        try:
            opened = webbrowser.get(app).open(path.resolve().as_uri())
        except webbrowser.Error:
            opened = False
        if not opened:
            raise ScoreFollowerError(f"no browser can be started: open {path} in one")
        return None


def to_text(stream: Stream) -> str:
    """An aligned stream as the text of a file.

    Raises:
        ScoreError: it was not aligned, or music21 cannot write it as MusicXML.
    """
    performance = performance_of(stream)
    title = stream.metadata.bestTitle if stream.metadata is not None else None
    whole = {
        "version": VERSION,
        "name": title or "stream",
        "audio": performance.audio,
        "musicxml": to_musicxml(stream),
        "measures": [_measure_row(measure) for measure in performance.measures],
        "positions": [
            [
                round(float(row["time"]), 4),
                int(row["measure"]),
                round(float(row["beat"]), 4),
                int(row["pass"]),
                round(float(row["confidence"]), 3),
                STATES[int(row["state"])],
            ]
            for row in performance.positions
        ],
    }
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n"


def _measure_row(measure: MeasureTime) -> dict[str, Any]:
    return {
        "number": measure.number,
        "label": measure.label,
        "page": measure.page,
        "system": measure.system,
        "pass": measure.pass_,
        "start": measure.start,
        "end": measure.end,
        "jumped": measure.jumped,
        "onsets": [[onset.time, onset.x, onset.beat] for onset in measure.onsets],
    }


def from_text(text: str | bytes) -> Stream:
    """The text of a file as an aligned stream.

    Raises:
        ScoreError: it is no alignment of this version, or damaged.
    """
    try:
        data = json.loads(text)
    except (ValueError, UnicodeDecodeError) as error:
        raise ScoreError(f"damaged or no alignment ({error}): write it again") from None
    if not isinstance(data, dict) or "musicxml" not in data or "measures" not in data:
        raise ScoreError("is no alignment: write one with stream.write('scorefollow')")
    if data.get("version") != VERSION:
        raise ScoreError(f"is of version {data.get('version')}, not {VERSION}: write it again")
    try:
        measures = tuple(
            MeasureTime(
                **{("pass_" if name == "pass" else name): value for name, value in row.items()}
                | {"onsets": tuple(OnsetTime(*onset) for onset in row["onsets"])}
            )
            for row in data["measures"]
        )
        rows = [(*row[:5], STATES.index(row[5])) for row in data["positions"]]
        performance = Performance(measures, np.array(rows, PLACES), str(data.get("audio", "")))
        stream = converter.parse(data["musicxml"], format="musicxml")
        write(stream, performance)
    except ScoreError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ScoreError(f"is damaged ({reason[:200]}): write it again") from None
    return stream


def report_of(stream: Stream, beside: Path) -> str:
    """The HTML report of an aligned stream; `beside` is the folder where it will be.

    Raises:
        ScoreError: it was not aligned, or cannot be engraved.
    """
    performance = performance_of(stream)
    score = load_score(stream)
    assert score.layout is not None
    track = _track(performance, score.layout)
    audio = Path(performance.audio)
    heard = audio.suffix.lower() in SOUNDS and audio.is_file()
    sound = sound_source(audio, beside) if heard else ""
    return build_report(score, score.layout, track, jumps=_jumps(performance), sound=sound)


def _track(performance: Performance, layout: Layout) -> Track:
    """The positions on pages engraved from the stream."""
    places = performance.positions
    track = np.zeros(len(places), TRACK)
    for name in ("time", "measure", "pass", "confidence", "state"):
        track[name] = places[name]
    for page in layout.pages:
        for system in page.systems:
            for measure in system.measures:
                mine = places["measure"] == measure.number
                xs, beats = zip(*(measure.onsets or ((measure.left, 0.0),)), strict=True)
                track["x"][mine] = np.interp(places["beat"][mine], beats, xs)
                track["y"][mine] = (system.top + system.bottom) / 2
                track["page"][mine] = page.page
    return track[track["page"] > 0]


def _jumps(performance: Performance) -> list[Jump]:
    jumps = []
    places = performance.positions
    for before, after in zip(performance.measures, performance.measures[1:], strict=False):
        if after.jumped:
            sure = float(np.interp(after.start, places["time"], places["confidence"]))
            jumps.append(Jump(after.start, before.number, after.number, round(sure, 3)))
    return jumps
