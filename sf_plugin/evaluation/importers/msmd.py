"""The Multimodal Sheet Music Dataset (MSMD) as two papers of CP JKU Linz published it.

Both are piano pieces of the Mutopia project, engraved by LilyPond, on grey pages
(white 255); all places are pixels of the page as stored.

**CUNet** (Henkel, Kelz and Widmer, ISMIR 2020; zenodo.org/record/3953657; read by
`load_score`, `load_performance` and `merge_onsets` in `audio_conditioned_unet/utils.py` of
github.com/CPJKU/audio_conditioned_unet).  One page a file:

- `score/NAME_page_N.npz`, N from 0: `sheet` (height, width) uint8; `coords` (n, 3) float: y of
  the middle of the system, x, height of the system; `coord2onset`, an object array of one
  dict from rows of `coords` to notes of the MIDI file in order of (onset, pitch).
- `performance/NAME_page_N_tempo_F.mid`, where F is a tempo factor in thousandths: 1000 is as
  written, and what the paper evaluates; it starts at 0 with the page's first note.
- Sets played by people have `performance/NAME_page_N.mid`, and recordings of it as
  `performance/NAME_page_N_TAG.wav` ("room", "di").

The paper renders MIDI with fluidsynth and a soundfont of its own.  It knows one onset a
frame of 1/20 s, the first of `coord2onset`; so do we.  Where systems begin and end on the left
and right, and measures, are not told: systems reach as far as their ink.

**CYOLO** (Henkel and Widmer, EUSIPCO 2021; zenodo.org/record/4745838; read by `load_piece`
in `cyolo_score_following/utils/data_utils.py` of
github.com/CPJKU/cyolo_score_following).  One piece a file:

- `NAME.npz`: `sheets` (pages, height, width) uint8; `coords`, an object array of dicts, one a
  note: `onset` in seconds, `note_x` (0 or less where it is not on the page), `system_idx` and
  `bar_idx` (rows of the next two), `page_nr` from 0; `systems` and `bars`, object arrays of
  dicts: `x`, `y` of the box's middle, `w`, `h`, `page_nr`; `synthesized`, whether the sound is.
  The first release of the set has no `bars`.
- `NAME.wav`, the performance of the whole piece.

The paper pads pages to squares when it loads them, which moves nothing here; it knows one
onset a frame of 1102/22050 s, in the system with most of its notes and at their mean x; so
do we.  Page by page is its protocol.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sf_plugin.audio.files import FileSource
from sf_plugin.errors import AudioError, ScoreError
from sf_plugin.evaluation.cases import Case
from sf_plugin.evaluation.importers.documents import PLACE, page_by_page, true_places
from sf_plugin.evaluation.importers.midi import read_midi
from sf_plugin.evaluation.importers.npz import read_npz
from sf_plugin.evaluation.importers.sounds import SAMPLE_RATE, Joined, Recorded, Rendered, Sound
from sf_plugin.score.images import to_page
from sf_plugin.score.layout import Layout, Measure, PageLayout, System
from sf_plugin.score.model import PageImage, Score

CUNET_FPS = 20
CYOLO_FPS = 22050 / 1102
TAIL = 0.5
"""Seconds after a page's last note until the next page goes on, where pages are joined."""

INK = 128
"""Grey levels below are ink."""


def check(folder: Path) -> None:
    """See that there are pieces to evaluate.

    Raises:
        ScoreError: the folder holds neither of the two layouts.
    """
    if _pages_of(folder) or _pieces_of(folder):
        return
    if not folder.is_dir():
        raise ScoreError(f"{folder}: no such folder: name the one where MSMD was unpacked")
    inside = [f for f in sorted(folder.rglob("*.npz")) if f.parent != folder]
    found = {f.parent.parent if f.parent.name == "score" else f.parent for f in inside}
    hint = f": name {sorted(found)[0]}" if found else ": name the one with the .npz files"
    raise ScoreError(f"{folder}: holds neither score/*.npz nor *.npz of MSMD{hint}")


def tasks(
    folder: Path, *, per_page: bool = False, pieces: Sequence[str] = ("*",)
) -> list[CunetPiece | CyoloPiece]:
    """What gives the cases of every piece whose name is like one of `pieces`.

    Raises:
        ScoreError: `check` fails.
    """
    check(folder)
    if pages := _pages_of(folder):
        documents: dict[str, list[tuple[int, Path]]] = {}
        for path in pages:
            found = re.fullmatch(r"(.+)_page_(\d+)", path.stem)
            name, number = (found[1], int(found[2])) if found else (path.stem, 0)
            if _wanted(name, pieces):
                documents.setdefault(name, []).append((number, path))
        return [
            CunetPiece(name, tuple(path for _, path in sorted(numbered)), per_page)
            for name, numbered in documents.items()
        ]
    return [
        CyoloPiece(path, per_page)
        for path in _pieces_of(folder)
        if _wanted(_piece_name(path.stem), pieces)
    ]


def _pages_of(folder: Path) -> list[Path]:
    return sorted((folder / "score").glob("*.npz"))


def _pieces_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.npz"))


def _wanted(name: str, pieces: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in pieces)


def _piece_name(stem: str) -> str:
    return stem.removesuffix("_synth")


def _arrays(path: Path, names: Sequence[str]) -> dict[str, Any]:
    arrays = read_npz(path)
    if missing := [name for name in names if name not in arrays]:
        raise ScoreError(
            f"{path}: has no {missing[0]!r}: name a folder of MSMD as published with CUNet or CYOLO"
        )
    return arrays


def _odd(path: Path, error: Exception) -> ScoreError:
    return ScoreError(f"{path}: its tables do not fit together ({error!r}): download the set again")


# CUNet


@dataclass(frozen=True)
class _Page:
    """One file: `coords` as stored, the notes they stand for, and the page."""

    path: Path
    image: PageImage
    systems: tuple[System, ...]
    system: np.ndarray
    x: np.ndarray
    notes: dict[int, int]

    def places(self, onsets: np.ndarray) -> np.ndarray:
        """Rows of PLACE on page 1 from the onset of every note in seconds."""
        places: dict[int, tuple[float, int, int, float]] = {}
        for coordinate, note in self.notes.items():
            time = float(onsets[note])
            frame = int(time * CUNET_FPS)
            if frame not in places:
                x = float(self.x[coordinate])
                places[frame] = (time, 1, int(self.system[coordinate]), x)
        return np.array(list(places.values()), PLACE)


@dataclass(frozen=True)
class CunetPiece:
    """Gives the cases of one piece, a file for each page.

    They are joined to a document unless `per_page`: the performances of the pages follow
    each other, TAIL seconds after the last note of each.
    """

    name: str
    paths: tuple[Path, ...]
    per_page: bool

    def __call__(self) -> list[Case]:
        pages = [_read_page(path) for path in self.paths]
        if self.per_page:
            parts = [(page.path.stem, [page]) for page in pages]
        else:
            parts = [(self.name, pages)]
        return [case for name, part in parts for case in _cunet_cases(name, self.name, part)]


def _read_page(path: Path) -> _Page:
    arrays = _arrays(path, ("sheet", "coords", "coord2onset"))
    try:
        sheet, coords = arrays["sheet"], np.asarray(arrays["coords"], float)
        height, width = sheet.shape
        middles, first, system = np.unique(coords[:, 0], return_index=True, return_inverse=True)
        systems = []
        for middle, half in zip(middles, coords[first, 2] / 2, strict=True):
            left, right = _ink_edges(sheet, middle - half, middle + half)
            top, bottom = np.clip([middle - half, middle + half], 0, height) / height
            systems.append(System(float(top), float(bottom), left / width, right / width))
        notes = {int(c): int(n) for c, n in arrays["coord2onset"].ravel()[0].items()}
        if not notes or min(notes) < 0 or max(notes) >= len(coords) or min(notes.values()) < 0:
            raise IndexError("coord2onset names other rows")
        page = to_page(Image.fromarray(sheet))
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise _odd(path, error) from None
    return _Page(path, page, tuple(systems), system.ravel() + 1, coords[:, 1] / width, notes)


def _ink_edges(sheet: np.ndarray, top: float, bottom: float) -> tuple[float, float]:
    """Where the fullest row of a band begins and ends, in pixels: a staff line."""
    band = sheet[max(0, int(top)) : int(np.ceil(bottom))] < INK
    row = band[band.sum(1).argmax()] if len(band) else np.zeros(0, bool)
    inked = np.flatnonzero(row)
    return (float(inked[0]), float(inked[-1] + 1)) if len(inked) else (0.0, float(sheet.shape[1]))


def _cunet_cases(name: str, piece: str, pages: Sequence[_Page]) -> Iterator[Case]:
    """The pages one after the other, in every way in which all of them were played."""
    score = Score(name, [page.image for page in pages])
    layout = Layout(tuple(PageLayout(i, page.systems) for i, page in enumerate(pages, 1)))
    ways = [_ways(page.path) for page in pages]
    for way in [way for way in ways[0] if all(way in other for other in ways)]:
        begin, tables, parts = 0.0, [], []
        for number, (page, played) in enumerate(zip(pages, ways, strict=True), 1):
            midi, sound = played[way]
            notes, pedals = read_midi(midi)
            try:
                places = page.places(notes["onset"])
            except IndexError as error:
                raise _odd(page.path, error) from None
            places["time"] += begin
            places["page"] = number
            seconds = float((notes["onset"] + notes["duration"]).max()) + TAIL
            if sound is not None:
                seconds = FileSource(sound.path).seconds or seconds
            tables.append(places)
            parts.append((sound or Rendered(notes, pedals), seconds))
            begin += seconds
        heard: Sound = parts[0][0] if len(parts) == 1 else Joined(tuple(parts))
        truth = true_places(np.concatenate(tables), layout)
        yield Case(f"{name}, {way}", piece, way, score, layout, truth, heard, SAMPLE_RATE)


def _ways(page: Path) -> dict[str, tuple[Path, Recorded | None]]:
    """By condition, the MIDI file of a page and the recording where there is one."""
    folder = page.parent.parent / "performance"
    midi = folder / f"{page.stem}.mid"
    as_written = folder / f"{page.stem}_tempo_1000.mid"
    ways: dict[str, tuple[Path, Recorded | None]] = {}
    for path in (as_written, midi):
        if path.exists():
            ways.setdefault("rendered", (path, None))
    for wav in sorted(folder.glob(f"{page.stem}_*.wav")) if midi.exists() else ():
        ways[wav.stem.removeprefix(f"{page.stem}_")] = (midi, Recorded(wav))
    if not ways:
        raise ScoreError(
            f"{as_written}: no such file, nor {midi.name}: check that the set is complete"
        )
    return ways


# CYOLO


@dataclass(frozen=True)
class CyoloPiece:
    """Gives the case of one piece, or the cases of its pages."""

    path: Path
    per_page: bool

    def __call__(self) -> list[Case]:
        case = _cyolo(self.path)
        return list(page_by_page(case)) if self.per_page else [case]


def _cyolo(path: Path) -> Case:
    arrays = _arrays(path, ("sheets", "coords", "systems", "synthesized"))
    wav = path.with_suffix(".wav")
    if not wav.exists():
        raise AudioError(f"{wav}: no such file: check that the set is complete")
    try:
        sheets = arrays["sheets"]
        pages = [to_page(Image.fromarray(sheet)) for sheet in sheets]
        systems, bars = list(arrays["systems"]), list(arrays.get("bars", ()))
        numbers, layout = _boxes(sheets.shape, systems, bars)
        places = _merge(list(arrays["coords"]), systems, numbers, sheets.shape[2])
        condition = "synthesised" if arrays["synthesized"].item() else "recorded"
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise _odd(path, error) from None
    if not len(places):
        raise ScoreError(f"{path}: has no note on a page: leave it out")
    truth = true_places(places, layout)
    name, piece, score = (
        f"{path.stem}, {condition}",
        _piece_name(path.stem),
        Score(path.stem, pages),
    )
    return Case(name, piece, condition, score, layout, truth, Recorded(wav), SAMPLE_RATE)


def _boxes(
    shape: tuple[int, int, int],
    systems: Sequence[dict[str, Any]],
    bars: Sequence[dict[str, Any]],
) -> tuple[list[int], Layout]:
    """For every system its number within the page, and the layout."""
    count, height, width = shape
    numbers = [0] * len(systems)
    measure = 0
    pages = []
    for page in range(count):
        here = sorted(
            (i for i, s in enumerate(systems) if s["page_nr"] == page),
            key=lambda i: float(systems[i]["y"]),
        )
        inside: dict[int, list[dict[str, Any]]] = {i: [] for i in here}
        for bar in bars:
            if bar["page_nr"] == page and here:
                near = min(here, key=lambda i: abs(float(systems[i]["y"]) - float(bar["y"])))
                inside[near].append(bar)
        found = []
        for number, i in enumerate(here, 1):
            numbers[i] = number
            measures = []
            for bar in sorted(inside[i], key=lambda bar: float(bar["x"])):
                measure += 1
                measures.append(Measure(measure, *_edges(bar["x"], bar["w"], width)))
            top, bottom = _edges(systems[i]["y"], systems[i]["h"], height)
            left, right = _edges(systems[i]["x"], systems[i]["w"], width)
            found.append(System(top, bottom, left, right, tuple(measures)))
        pages.append(PageLayout(page + 1, tuple(found)))
    return numbers, Layout(tuple(pages))


def _edges(middle: float, size: float, whole: int) -> tuple[float, float]:
    """Both edges of a box as fractions."""
    return (
        min(1.0, max(0.0, (float(middle) - float(size) / 2) / whole)),
        min(1.0, max(0.0, (float(middle) + float(size) / 2) / whole)),
    )


def _merge(
    coords: Sequence[dict[str, Any]],
    systems: Sequence[dict[str, Any]],
    numbers: Sequence[int],
    width: int,
) -> np.ndarray:
    """One row of PLACE for all notes of a frame."""
    frames: dict[int, list[dict[str, Any]]] = {}
    for note in coords:
        if float(note["note_x"]) > 0:
            if not 0 <= int(note["system_idx"]) < len(systems):
                raise IndexError(f"system_idx {note['system_idx']}")
            frames.setdefault(int(float(note["onset"]) * CYOLO_FPS), []).append(note)
    rows = []
    for notes in frames.values():
        system = int(Counter(int(note["system_idx"]) for note in notes).most_common(1)[0][0])
        xs = [float(note["note_x"]) for note in notes if int(note["system_idx"]) == system]
        rows.append(
            (
                min(float(note["onset"]) for note in notes),
                int(systems[system]["page_nr"]) + 1,
                numbers[system],
                float(np.mean(xs)) / width,
            )
        )
    return np.array(rows, PLACE)
