"""Performances with note alignments (match files), on pages engraved from their scores.

A match file says which note of the score each played note is (Foscarin, Karystinaios,
Peter, Cancino-Chacón, Grachten and Widmer: The match file format, MEC 2022); partitura
(Cancino-Chacón et al., MEC 2022) reads it and the score.  It names a note of the MusicXML
file, "n12", and which visit to it, "n12-2", where repeats are taken.  Verovio engraves the
same file as printed, and heads are found by their onset in whole notes, their pitch, and
whether they are grace notes.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from sf_plugin.dataset.engrave_verovio import engrave_file
from sf_plugin.dataset.engraving import Engraving, EngravingError
from sf_plugin.dataset.perform import score_onsets
from sf_plugin.dataset.performance import Happening
from sf_plugin.dataset.truth_layout import measures_of_engraving
from sf_plugin.errors import ScoreError
from sf_plugin.evaluation.cases import Case
from sf_plugin.evaluation.engraved import symbols
from sf_plugin.evaluation.importers.documents import PLACE, page_by_page, true_places
from sf_plugin.evaluation.importers.midi import SUSTAIN, note_table, pedal_table
from sf_plugin.evaluation.importers.sounds import SAMPLE_RATE, Recorded, Rendered
from sf_plugin.score.layout import Layout
from sf_plugin.score.model import Score

logger = logging.getLogger(__name__)

LEAST_JOINED = 0.9
"""Share of a performance's matched notes that must be found on the pages."""

TICKS = 3840
"""To a whole note, by which onsets are compared."""


@dataclass(frozen=True)
class Printed:
    """A score on its pages.

    Attributes:
        engraving: with the pages.
        layout: its true layout.
        score: its pages, shared by all cases.
        heads: rows of NOTE, one for all that begin together.
        group: for the name of every note of the score, the index of its row in `heads`;
            notes that were not found on the pages are missing.
    """

    engraving: Engraving
    layout: Layout
    score: Score
    heads: np.ndarray
    group: dict[str, int]


@dataclass(frozen=True)
class Played:
    """A match file: when each note of the score was played, and all that was."""

    times: list[tuple[str, float]]
    notes: np.ndarray
    pedals: np.ndarray


def print_score(path: Path, name: str) -> Printed:
    """Engrave a MusicXML file and find its notes on the pages.

    Raises:
        ScoreError: it cannot be engraved, or partitura is missing or cannot read it.
    """
    try:
        engraving = engrave_file(path, None)
    except EngravingError as error:
        raise ScoreError(f"{path}: cannot be engraved ({error}): leave it out") from None
    heads, group = score_onsets(engraving.notes)
    found: defaultdict[tuple[int, int, bool], list[int]] = defaultdict(list)
    for note, index in zip(engraving.notes, group.tolist(), strict=True):
        if index >= 0 and note["score"] == 0:
            key = (round(note["onset"] * TICKS), int(note["pitch"]), bool(note["grace"]))
            found[key].append(index)
    named: dict[str, int] = {}
    visited: defaultdict[tuple[int, int, bool], int] = defaultdict(int)
    for key, mark in _notes_of_score(path):
        places = found.get(key)
        if places:
            named[mark] = places[min(visited[key], len(places) - 1)]
            visited[key] += 1
    layout = measures_of_engraving(engraving)
    return Printed(engraving, layout, Score(name, list(engraving.pages)), heads, named)


def _notes_of_score(path: Path) -> Iterator[tuple[tuple[int, int, bool], str]]:
    """(onset in ticks, pitch, grace) and name of every note that does not continue a tie."""
    partitura = _partitura()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parts = partitura.load_musicxml(str(path), force_note_ids="keep", quiet=True).parts
    except Exception as error:
        raise ScoreError(f"{path}: partitura cannot read it ({error}): leave it out") from None
    for part in parts:
        start = float(part.quarter_map(part.first_point.t))
        for note in part.notes_tied:
            quarters = float(part.quarter_map(note.start.t)) - start
            grace = isinstance(note, partitura.score.GraceNote)
            yield (round(quarters * TICKS / 4), int(note.midi_pitch), grace), str(note.id)


def read_match(path: Path) -> Played:
    """What a match file holds.

    Raises:
        ScoreError: partitura is missing or cannot read it, or nothing in it is matched.
    """
    partitura = _partitura()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            performance, alignment = partitura.load_match(str(path), quiet=True)
        parts = performance.performedparts
        played = {note["id"]: note for part in parts for note in part.notes}
        times = [
            (str(row["score_id"]), float(played[row["performance_id"]]["note_on"]))
            for row in alignment
            if row["label"] == "match" and row["performance_id"] in played
        ]
        notes = [
            (n["note_on"], n["note_off"] - n["note_on"], n["midi_pitch"], n["velocity"])
            for n in played.values()
        ]
        pedals = [
            (c["time"], c["value"]) for p in parts for c in p.controls if c["number"] == SUSTAIN
        ]
    except Exception as error:
        raise ScoreError(
            f"{path}: is no match file that partitura reads ({error}): download the set again"
        ) from None
    if not times:
        raise ScoreError(f"{path}: matches no notes: download the set again")
    return Played(times, note_table(notes), pedal_table(pedals))


def _partitura() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import partitura
    except ImportError:
        raise ScoreError("partitura is not installed: pip install 'sf-plugin[evaluate]'") from None
    return partitura


def make_case(name: str, piece: str, printed: Printed, match: Path, recording: Path | None) -> Case:
    """One performance of a score; rendered from the match file where there is no recording.

    An onset is all notes of one visit that are printed as beginning together; its time is
    that of the first of them.

    Raises:
        ScoreError: the match file cannot be read, or does not belong to the score.
    """
    played = read_match(match)
    onsets: dict[tuple[int, int], float] = {}
    joined = 0
    for mark, time in played.times:
        group, visit = _locate(mark, printed.group)
        if group is not None:
            joined += 1
            onsets[group, visit] = min(time, onsets.get((group, visit), np.inf))
    share = joined / len(played.times)
    if share < LEAST_JOINED:
        raise ScoreError(
            f"{match}: only {share:.0%} of its notes are found on the engraved pages: leave it out"
        )
    order = sorted(onsets, key=lambda key: (onsets[key], key))
    heads = printed.heads[[group for group, _ in order]]
    first = np.searchsorted(
        printed.engraving.systems["page"], np.arange(len(printed.engraving.pages))
    )
    places = np.zeros(len(order), PLACE)
    places["time"] = [onsets[key] for key in order]
    places["page"] = heads["page"] + 1
    places["system"] = heads["system"] - first[heads["page"]] + 1
    places["x"] = heads["x"]
    truth = true_places(places, printed.layout)
    return Case(
        name,
        piece,
        "recorded" if recording else "rendered",
        printed.score,
        printed.layout,
        truth,
        Recorded(recording) if recording else Rendered(played.notes, played.pedals),
        SAMPLE_RATE,
        tuple(_jumps(truth.time, truth.measure, [visit for _, visit in order])),
        symbols(printed.engraving, None),
    )


def _locate(mark: str, group: dict[str, int]) -> tuple[int | None, int]:
    """The row of a note and how many-th visit it is; part names may stand before."""
    for name in (mark, re.sub(r"^P\d+_", "", mark)):
        if name in group:
            return group[name], 1
        found = re.fullmatch(r"(.+)-(\d+)", name)
        if found and found[1] in group:
            return group[found[1]], int(found[2])
    return None, 0


def _jumps(times: np.ndarray, measures: np.ndarray, visits: list[int]) -> Iterator[Happening]:
    """Where a later visit begins further back, or a measure or more is passed over."""
    rows = zip(times.tolist(), measures.tolist(), visits, strict=True)
    for (_, left, before), (time, measure, visit) in pairwise(rows):
        if measure and left and measure < left and visit > before:
            yield Happening(time, "repeat", measure, left)
        elif measure and left and measure > left + 1:
            yield Happening(time, "volta", measure, left)


@dataclass(frozen=True)
class Performances:
    """Gives the cases of one score.

    Attributes:
        path: the MusicXML file.
        piece: what it is called.
        played: (player, match file, recording) of each performance.
        per_page: whether each page is a score of its own.
    """

    path: Path
    piece: str
    played: tuple[tuple[str, Path, Path | None], ...]
    per_page: bool

    def __call__(self) -> list[Case]:
        """What cannot be engraved or joined is left out with a warning: sets have odd files.

        Raises:
            ScoreError: partitura is not installed.
        """
        _partitura()
        cases: list[Case] = []
        try:
            printed = print_score(self.path, self.piece)
        except ScoreError as error:
            logger.warning("%s", error)
            return cases
        for player, match, recording in self.played:
            name = f"{self.piece}, {player}"
            try:
                case = make_case(name, self.piece, printed, match, recording)
            except ScoreError as error:
                logger.warning("%s", error)
                continue
            cases += page_by_page(case) if self.per_page else (case,)
        return cases
