"""Judge a follower on engraved pieces that it hears for the first time.

A case is what a user has: page images and a performance.  The performance is
seeded and human-like, played by one of three sampled pianos, dry ("clean") or
in a synthetic room ("room"); the truth stays here.
"""

from __future__ import annotations

import hashlib
import time
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from sf_plugin.api import Samples
from sf_plugin.dataset.engraving import Engraving
from sf_plugin.dataset.perform import Style, perform, score_onsets
from sf_plugin.dataset.render import SOUNDFONTS, in_room, render, room_response
from sf_plugin.dataset.truth_layout import measures_of_engraving
from sf_plugin.errors import ScoreError, ScoreFollowerError
from sf_plugin.evaluation.metrics import THRESHOLDS, Answers, Truth, answers
from sf_plugin.followers import Follower, Progress, no_progress
from sf_plugin.positions import Position
from sf_plugin.score.layout import Layout
from sf_plugin.score.mapper import MeasureMapper
from sf_plugin.score.measures import PlainMapper
from sf_plugin.score.model import Score

CONDITIONS = ("clean", "room")
SAMPLE_RATE = 22050
BLOCK_SECONDS = 0.05
LEAST_ONSETS = 4
"""A page with fewer is no case of its own."""

SAME_BOX = 0.7
"""Least intersection over union of a detected box and its true one."""

RESAMPLES = 2000
"""Of the bootstrap over pieces."""

Boxes = NDArray[np.float64]
"""(boxes, 4): top, bottom, left, right."""


@dataclass(frozen=True)
class Case:
    """A score and what is played of it.

    Attributes:
        piece: the engraved file's stem.
        page: the one page (from 1) that is the whole score here; None for a document.
        score: page images only.
        layout: the true one, in the score's page numbers.
        truth: of every onset.
        notes: as `perform` gives them.
        seed: of the piano and the room.
    """

    piece: str
    page: int | None
    score: Score
    layout: Layout
    truth: Truth
    notes: np.ndarray
    seed: tuple[int, ...]


@dataclass(frozen=True)
class Matches:
    """Detected and true boxes, and how many of them are the same."""

    found: int = 0
    true: int = 0
    same: int = 0

    def __add__(self, other: Matches) -> Matches:
        return Matches(self.found + other.found, self.true + other.true, self.same + other.same)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.same / max(1, self.found + self.true)


@dataclass(frozen=True)
class Reading:
    """How the pages of a case were read; `unreadable` where no staff was found at all."""

    pages: int
    seconds: float
    unreadable: bool
    systems: Matches
    measures: Matches


@dataclass(frozen=True)
class Outcome:
    """How one recording of a piece was followed; `frame_seconds` is the time each took."""

    piece: str
    condition: str
    answers: Answers
    frame_seconds: NDArray[np.float64]


# cases


def find_pieces(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """Engraved files whose stems are like one of `patterns`, in order of name.

    Raises:
        ScoreError: there are none.
    """
    files = sorted({file for pattern in patterns for file in folder.glob(f"{pattern}.npz")})
    if not files:
        raise ScoreError(
            f"{folder}: no engraved pieces like {' '.join(patterns)}: check --pieces, or engrave "
            "some (docs/training.md)"
        )
    return files


def cases(path: Path, per_page: bool, seed: int) -> Iterator[Case]:
    """The cases of an engraved file: the document, or each page alone.

    Raises:
        ScoreError: the file holds no engraved piece.
    """
    try:
        engraving = Engraving.load(path)
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ScoreError(
            f"{path}: is no engraved piece ({error}): engrave it again (docs/training.md)"
        ) from None
    layout = measures_of_engraving(engraving)
    for page in range(len(engraving.pages)) if per_page else [None]:
        case = make_case(path.stem, engraving, layout, page, seed)
        if case is not None:
            yield case


def make_case(
    piece: str, engraving: Engraving, layout: Layout, page: int | None, seed: int
) -> Case | None:
    """A piece, or its page `page` (from 0); None where there is too little to play."""
    stretch = page_onsets(engraving, page) if page is not None else slice(None)
    if stretch is None:
        return None
    name = piece if page is None else f"{piece}, page {page + 1}"
    seeds = (seed, zlib.crc32(name.encode()))
    performance = perform(engraving, np.random.default_rng(seeds), Style(), stretch)
    onsets = performance.onsets
    first = np.searchsorted(engraving.systems["page"], np.arange(len(engraving.pages)))
    system = onsets["system"] - first[onsets["page"]] + 1
    number = onsets["page"] + 1
    images = list(engraving.pages)
    if page is not None:
        here = onsets["page"] == page
        onsets, system, number = onsets[here], system[here], np.ones(int(here.sum()), int)
        layout = Layout((replace(layout.pages[page], page=1),))
        images = images[page : page + 1]
    truth = truth_of(onsets, number, system, layout)
    shown = None if page is None else page + 1
    return Case(piece, shown, Score(name, images), layout, truth, performance.notes, seeds)


def page_onsets(engraving: Engraving, page: int) -> slice | None:
    """The onset groups of page `page` (from 0); None where they are too few."""
    heads, _ = score_onsets(engraving.notes)
    here = np.flatnonzero(heads["page"] == page)
    return slice(int(here[0]), int(here[-1]) + 1) if len(here) >= LEAST_ONSETS else None


def truth_of(onsets: np.ndarray, page: NDArray[Any], system: NDArray[Any], layout: Layout) -> Truth:
    """Where onsets stand, `page` and `system` (within the page) from 1, in the true layout."""
    centres = {
        page.page: [(system.top + system.bottom) / 2 for system in page.systems]
        for page in layout.pages
    }
    truth = Truth(
        time=onsets["time"].astype(float),
        page=page.astype(np.int64),
        system=system.astype(np.int64),
        x=onsets["x"].astype(float),
        measure=np.zeros(len(onsets), np.int64),
        system_centres=centres,
        bars={
            (page.page, i): [(measure.left, measure.number) for measure in system.measures]
            for page in layout.pages
            for i, system in enumerate(page.systems, 1)
        },
    )
    places = zip(truth.page.tolist(), truth.system.tolist(), truth.x.tolist(), strict=True)
    measure = [truth.measure_at(p, x, centres[p][s - 1]) for p, s, x in places]
    return replace(truth, measure=np.array(measure, np.int64))


# sound


def recording(case: Case, condition: str, cache: Path) -> NDArray[np.float32]:
    """(samples,) at SAMPLE_RATE, as 16-bit audio holds them; kept in `cache` as FLAC.

    Raises:
        ScoreFollowerError: it cannot be rendered or kept.
    """
    rng = np.random.default_rng((*case.seed, 1))
    font = str(rng.choice(sorted(SOUNDFONTS)))
    what = f"{font} {condition} {case.seed}".encode() + case.notes.tobytes()
    page = "" if case.page is None else f"--page{case.page}"
    name = f"{case.piece}{page}--{condition}--{hashlib.sha256(what).hexdigest()[:12]}.flac"
    file = cache / name
    if not file.exists():
        if condition == "clean":
            sound = render(case.notes, SOUNDFONTS[font], sample_rate=SAMPLE_RATE)
        else:
            dry = recording(case, "clean", cache)
            decay, ratio = rng.uniform(0.3, 1.2), rng.uniform(-3, 6)
            sound = in_room(dry, room_response(rng, decay, ratio, SAMPLE_RATE), rng)
        sound = sound / max(1.0, float(np.abs(sound).max()) / 0.99)
        part = file.with_suffix(".partial")
        try:
            cache.mkdir(parents=True, exist_ok=True)
            soundfile.write(part, sound, SAMPLE_RATE, subtype="PCM_16", format="FLAC")
            part.replace(file)
        except (OSError, soundfile.SoundFileError) as error:
            part.unlink(missing_ok=True)
            raise ScoreFollowerError(
                f"{file}: cannot be written ({error}): choose another --cache"
            ) from None
    kept: NDArray[np.float32] = soundfile.read(file, dtype="float32")[0]
    return kept


# following


def read(case: Case, follower: Follower) -> tuple[Reading, Layout]:
    """Put a case on the stand; the layout is what the follower found."""
    began = time.perf_counter()
    try:
        layout, unreadable = follower.prepare(case.score), False
    except ScoreError:
        layout, unreadable = Layout(()), True
    seconds = time.perf_counter() - began
    systems, measures = compare_layouts(layout, case.layout)
    return Reading(len(case.score.pages), seconds, unreadable, systems, measures), layout


def follow(
    follower: Follower, mapper: MeasureMapper, layout: Layout, sound: NDArray[np.float32]
) -> tuple[list[Position], NDArray[np.float64]]:
    """Hear (samples,) at SAMPLE_RATE as a user's session would, and the seconds each frame took."""
    follower.reset()
    mapper.open(layout)
    size = round(BLOCK_SECONDS * follower.sample_rate)
    positions: list[Position] = []
    seconds: list[float] = []
    spent = 0.0
    for block in Samples(sound, SAMPLE_RATE).blocks(follower.sample_rate):
        for piece in np.split(block, range(size, len(block), size)):
            began = time.perf_counter()
            heard = [mapper.locate(estimate) for estimate in follower.feed(piece)]
            spent += time.perf_counter() - began
            if heard:
                seconds += [spent / len(heard)] * len(heard)
                spent = 0.0
            positions += heard
    return positions, np.array(seconds)


def evaluate(
    pieces: Sequence[Path],
    follower: Follower,
    cache: Path,
    *,
    conditions: Sequence[str] = CONDITIONS,
    per_page: bool = False,
    seed: int = 0,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Follow every case in every condition; the report as JSON has it.

    All but its "speed" depends only on the pieces, the follower and the seed.

    Raises:
        ScoreFollowerError: a piece, a soundfont or the cache cannot be used.
    """
    readings: list[Reading] = []
    outcomes: list[Outcome] = []
    mapper = PlainMapper()
    for done, path in enumerate(pieces):
        progress("evaluating", done, len(pieces))
        for case in cases(path, per_page, seed):
            reading, layout = read(case, follower)
            readings.append(reading)
            for condition in conditions:
                sound = recording(case, condition, cache)
                positions, seconds = (
                    ([], np.zeros(0))
                    if reading.unreadable
                    else follow(follower, mapper, layout, sound)
                )
                said = answers(positions, case.truth)
                outcomes.append(Outcome(case.piece, condition, said, seconds))
    progress("evaluating", len(pieces), len(pieces))
    if not readings:
        raise ScoreError("no page of these pieces has enough notes: choose other --pieces")
    return report(readings, outcomes, per_page, seed)


# layouts


def compare_layouts(found: Layout, true: Layout) -> tuple[Matches, Matches]:
    """Systems and measures of the same places."""
    by_page = {page.page: page for page in found.pages}
    systems = measures = Matches()
    for page in true.pages:
        mine = by_page.get(page.page)
        there = mine.systems if mine is not None else ()
        systems += match(
            _boxes((s.top, s.bottom, s.left, s.right) for s in there),
            _boxes((s.top, s.bottom, s.left, s.right) for s in page.systems),
        )
        measures += match(
            _boxes((s.top, s.bottom, m.left, m.right) for s in there for m in s.measures),
            _boxes((s.top, s.bottom, m.left, m.right) for s in page.systems for m in s.measures),
        )
    return systems, measures


def _boxes(edges: Iterator[tuple[float, float, float, float]]) -> Boxes:
    return np.array(list(edges), float).reshape(-1, 4)


def match(found: Boxes, true: Boxes, least: float = SAME_BOX) -> Matches:
    """Pairs of boxes with at least `least` intersection over union, the best first."""
    top, bottom, left, right = (
        pick(found[:, None, i], true[None, :, i])
        for i, pick in enumerate((np.maximum, np.minimum, np.maximum, np.minimum))
    )
    inside = np.clip(bottom - top, 0, None) * np.clip(right - left, 0, None)
    size = [(b[:, 1] - b[:, 0]) * (b[:, 3] - b[:, 2]) for b in (found, true)]
    overlap = inside / np.maximum(size[0][:, None] + size[1][None] - inside, 1e-12)
    same = 0
    while overlap.size and overlap.max() >= least:
        i, j = np.unravel_index(int(overlap.argmax()), overlap.shape)
        overlap[i], overlap[:, j] = 0, 0
        same += 1
    return Matches(len(found), len(true), same)


# the report


def figures(said: Answers) -> dict[str, NDArray[np.bool_]]:
    """What each onset got right, by name."""
    return {
        **{f"within_{limit:g}s": said.error <= limit + 1e-9 for limit in THRESHOLDS},
        "page": said.right_page,
        "system": said.right_system,
        "measure": said.right_measure,
    }


def calibration_error(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], bins: int = 10
) -> float:
    """Expected calibration error: mean |confidence - share right| over equal bins by onsets."""
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(index, confidence, bins) - np.bincount(index, right, bins)
    return float(np.abs(gaps).sum() / max(1, len(right)))


def interval(
    right: NDArray[np.float64], count: NDArray[np.float64], pooled: bool, seed: int
) -> list[float] | None:
    """95 % bootstrap interval over pieces; None for fewer than two.

    Args:
        right: (pieces,) onsets that were right.
        count: (pieces,) onsets.
        pooled: of the share of all onsets, else of the mean of the pieces' shares.
        seed: of the resampling.
    """
    if len(right) < 2:
        return None
    chosen = np.random.default_rng(seed).integers(0, len(right), (RESAMPLES, len(right)))
    if pooled:
        shares = right[chosen].sum(1) / count[chosen].sum(1)
    else:
        shares = (right / count)[chosen].mean(1)
    return [round(float(edge), 4) for edge in np.quantile(shares, (0.025, 0.975))]


def report(
    readings: Sequence[Reading], outcomes: Sequence[Outcome], per_page: bool, seed: int
) -> dict[str, Any]:
    """The figures of an evaluation by name; shares are of onsets."""
    conditions: dict[str, Any] = {}
    pieces = []
    for condition in dict.fromkeys(outcome.condition for outcome in outcomes):
        by_piece: dict[str, list[Answers]] = {}
        for outcome in outcomes:
            if outcome.condition == condition:
                by_piece.setdefault(outcome.piece, []).append(outcome.answers)
        joined = {piece: Answers.join(parts) for piece, parts in by_piece.items()}
        everything = Answers.join(list(joined.values()))
        count = np.array([len(said.error) for said in joined.values()], float)
        summary: dict[str, Any] = {}
        for name in figures(everything):
            right = np.array([figures(said)[name].sum() for said in joined.values()], float)
            summary[name] = {
                "pooled": round(float(right.sum() / count.sum()), 4),
                "pooled_interval": interval(right, count, True, seed),
                "per_piece": round(float((right / count).mean()), 4),
                "per_piece_interval": interval(right, count, False, seed),
            }
        error = calibration_error(everything.confidence, everything.right_measure)
        conditions[condition] = {
            "onsets": len(everything.error),
            "figures": summary,
            "calibration_error": round(error, 4),
        }
        for piece, said in joined.items():
            values = {k: round(float(v.mean()), 4) for k, v in figures(said).items()}
            pieces.append(
                {"piece": piece, "condition": condition, "onsets": len(said.error), **values}
            )
    pages = sum(reading.pages for reading in readings)
    frames = 1000 * np.concatenate([outcome.frame_seconds for outcome in outcomes])
    systems = sum((reading.systems for reading in readings), Matches())
    measures = sum((reading.measures for reading in readings), Matches())
    return {
        "version": 1,
        "protocol": "page given" if per_page else "whole document",
        "seed": seed,
        "pieces": len({outcome.piece for outcome in outcomes}),
        "documents": len(readings),
        "unreadable": sum(reading.unreadable for reading in readings),
        "pages": pages,
        "conditions": conditions,
        "layout": {
            name: {"f1": round(m.f1, 4), "found": m.found, "true": m.true, "same": m.same}
            for name, m in (("systems", systems), ("measures", measures))
        },
        "by_piece": pieces,
        "speed": {
            "ms_per_frame": {
                name: round(float(np.quantile(frames, share)), 3) if len(frames) else None
                for name, share in (("median", 0.5), ("p95", 0.95), ("p99", 0.99))
            },
            "seconds_per_page": round(sum(r.seconds for r in readings) / pages, 3),
        },
    }


def table(report: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and rows for people: a figure each, with its interval."""
    conditions = report["conditions"]
    head = ["share of onsets"]
    for condition in conditions:
        head += [f"{condition}, pooled", f"{condition}, mean of pieces"]
    rows = []
    names = list(next(iter(conditions.values()))["figures"])
    for name in names:
        cells = [_figure_name(name)]
        for data in conditions.values():
            figure = data["figures"][name]
            cells += [
                _share(figure[kind], figure[f"{kind}_interval"]) for kind in ("pooled", "per_piece")
            ]
        rows.append(cells)
    return head, rows


def facts(report: dict[str, Any]) -> list[str]:
    """What the table's figures are of, and what else was measured, a line each."""
    onsets = max(data["onsets"] for data in report["conditions"].values())
    layout, speed = report["layout"], report["speed"]
    frame = speed["ms_per_frame"]
    ece = ", ".join(f"{c} {d['calibration_error']:.3f}" for c, d in report["conditions"].items())
    lines = [
        f"{report['protocol']}; {report['pieces']} pieces, {report['pages']} pages, "
        f"{onsets} onsets; seed {report['seed']}; brackets: 95 % bootstrap over pieces",
        f"expected calibration error against the right measure: {ece}",
        "detected layout, F1: " + ", ".join(f"{k} {v['f1']:.3f}" for k, v in layout.items()),
    ]
    if report["unreadable"]:
        lines.append(
            f"no staves found in {report['unreadable']} of {report['documents']} documents; "
            "their onsets count as wrong"
        )
    if frame["median"] is not None:
        lines.append(
            f"speed: {frame['median']:.1f} / {frame['p95']:.1f} / {frame['p99']:.1f} ms a frame "
            f"(median / p95 / p99), {speed['seconds_per_page']:.2f} s a page"
        )
    return lines


def markdown(report: dict[str, Any]) -> str:
    """Table and facts as Markdown."""
    head, rows = table(report)
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    text = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    return text + "\n\n" + "\n".join(f"- {fact}" for fact in facts(report)) + "\n"


def _figure_name(name: str) -> str:
    if name.startswith("within_"):
        return f"within {name.removeprefix('within_').removesuffix('s')} s"
    return f"right {name}"


def _share(value: float, edges: list[float] | None) -> str:
    return f"{value:.3f}" if edges is None else f"{value:.3f} [{edges[0]:.2f}, {edges[1]:.2f}]"
