"""Cases of engraved pieces: played, recorded and printed under named conditions, by seed."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from sf_plugin.dataset.acoustics import Crowd
from sf_plugin.dataset.engraving import Engraving
from sf_plugin.dataset.paper import PAPERS, spoil_engraving
from sf_plugin.dataset.perform import HUMAN, STYLES, perform, score_onsets
from sf_plugin.dataset.programme import PROGRAMMES, Programme
from sf_plugin.dataset.shards import Entry, ShardSet
from sf_plugin.dataset.takes import SAMPLE_RATE, sound_of
from sf_plugin.dataset.truth_layout import measures_of_engraving
from sf_plugin.errors import ScoreError, ScoreFollowerError
from sf_plugin.evaluation.cases import Case
from sf_plugin.evaluation.conditions import CONDITIONS
from sf_plugin.evaluation.metrics import Truth
from sf_plugin.score.layout import Layout
from sf_plugin.score.model import Score

LEAST_ONSETS = 4
"""A page with fewer is no case of its own."""


@dataclass(frozen=True)
class Setting:
    """What all pieces of an evaluation have in common.

    Attributes:
        conditions: names of `CONDITIONS`.
        per_page: whether each page is a score of its own.
        seed: of performances, pianos, rooms and papers.
        cache: the folder where recordings are kept.
    """

    conditions: tuple[str, ...]
    per_page: bool
    seed: int
    cache: Path


@dataclass(frozen=True)
class EngravedPiece:
    """Gives the cases of one engraving.

    Attributes:
        source: a built data set, or a pack of one.
        name: of the engraving there.
        piece: that it is an engraving of.
        setting: under which it is heard.
        other: the engraving of another piece, where a condition asks for one; "" for none.
    """

    source: Path
    name: str
    piece: str
    setting: Setting
    other: str = ""

    def __call__(self) -> list[Case]:
        """The document, or each page alone, under each condition.

        Raises:
            ScoreError: there is no such piece, or no other one where one is needed.
        """
        shards = ShardSet(self.source)
        other = partial(shards.load, self.other) if self.other else no_other
        return make_cases(self.name, self.piece, shards.load(self.name), self.setting, other)


def no_other() -> Engraving:
    """For a piece that is alone.

    Raises:
        ScoreError: always.
    """
    raise ScoreError(
        "there is no second piece for the same use, which 'wrong' and 'interrupted' play: "
        "build a larger set or leave them out of --conditions"
    )


def find_pieces(
    source: Path, use: Sequence[str], patterns: Sequence[str], setting: Setting
) -> list[EngravedPiece]:
    """The engravings of `source` for `use` whose names are like one of `patterns`, by name.

    Raises:
        ScoreError: there are none, or `source` is no data set.
    """
    known = sorted(ShardSet(source).of_use(*use), key=lambda entry: entry.name)
    chosen = [entry for entry in known if any(fnmatch(entry.name, like) for like in patterns)]
    if not chosen:
        raise ScoreError(
            f"{source}: holds no engraved pieces for {' or '.join(use)} like "
            f"{' '.join(patterns)}: check --use and --pieces, or build a set "
            "('scorefollow dataset build')"
        )
    return [
        EngravedPiece(source, one.name, one.piece, setting, _as_long(one, known)) for one in chosen
    ]


def _as_long(one: Entry, known: Sequence[Entry]) -> str:
    """The engraving of another piece that is nearest to it in notes, or ""."""
    others = [entry for entry in known if entry.piece != one.piece]
    nearest = min(others, key=lambda entry: abs(entry.notes - one.notes), default=None)
    return nearest.name if nearest else ""


def make_cases(
    name: str,
    piece: str,
    engraving: Engraving,
    setting: Setting,
    other: Callable[[], Engraving] = no_other,
) -> list[Case]:
    """A piece under every condition of `setting`, or each of its pages with enough to play.

    Conditions on the same paper come together, so that pages are read once.
    """
    stands: dict[tuple[str, int | None], _Stand] = {}
    cases = []
    pages = range(len(engraving.pages)) if setting.per_page else (None,)
    for page in pages:
        if page is not None and page_onsets(engraving, page) is None:
            continue
        papers = [CONDITIONS[condition].paper for condition in setting.conditions]
        for paper, condition in sorted(
            zip(papers, setting.conditions, strict=True), key=lambda both: papers.index(both[0])
        ):
            if (paper, page) not in stands:
                stands[paper, page] = _print(name, engraving, page, paper, setting.seed)
            cases.append(_play(stands[paper, page], piece, condition, setting.cache, other))
    return cases


def page_onsets(engraving: Engraving, page: int) -> slice | None:
    """The onset groups of page `page` (from 0); None where they are too few."""
    heads, _ = score_onsets(engraving.notes)
    here = np.flatnonzero(heads["page"] == page)
    return slice(int(here[0]), int(here[-1]) + 1) if len(here) >= LEAST_ONSETS else None


@dataclass(frozen=True)
class _Stand:
    """What is on the stand: a whole piece as printed, of which one `page` or all is shown."""

    printed: Engraving
    page: int | None
    layout: Layout
    score: Score
    seeds: tuple[int, int]


def _print(name: str, engraving: Engraving, page: int | None, paper: str, seed: int) -> _Stand:
    shown = name if page is None else f"{name}, page {page + 1}"
    seeds = (seed, zlib.crc32(shown.encode()))
    if paper != "engraved":
        engraving = spoil_engraving(engraving, np.random.default_rng((*seeds, 2)), PAPERS[paper])
    layout = measures_of_engraving(engraving)
    images = list(engraving.pages)
    if page is not None:
        layout = Layout((replace(layout.pages[page], page=1),))
        images = images[page : page + 1]
    return _Stand(engraving, page, layout, Score(shown, images), seeds)


def _play(
    stand: _Stand, piece: str, condition: str, cache: Path, other: Callable[[], Engraving]
) -> Case:
    how = CONDITIONS[condition]
    printed, page, layout = stand.printed, stand.page, stand.layout
    stretch = None if page is None else page_onsets(printed, page)
    rng = np.random.default_rng(stand.seeds)
    programme = Programme(perform(printed, rng, STYLES[how.style], stretch))
    if how.programme:
        rng = np.random.default_rng((*stand.seeds, 4))
        programme = PROGRAMMES[how.programme](
            programme.performance, lambda: perform(other(), rng, HUMAN), rng
        )
    performance = programme.performance
    onsets = performance.onsets
    if page is not None:
        onsets = onsets[onsets["page"] == page]
    first = np.searchsorted(printed.systems["page"], np.arange(len(printed.pages)))
    system = onsets["system"] - first[onsets["page"]] + 1
    number = onsets["page"] + 1 if page is None else np.ones(len(onsets), int)
    chosen = np.random.default_rng((*stand.seeds, 1)).choice(sorted(how.instruments))
    name = stand.score.name
    sound = Recording(
        f"{name.replace(', ', '--')}--{condition}",
        performance.notes,
        performance.pedals,
        str(chosen),
        how.acoustics,
        stand.seeds,
        cache,
        programme.crowd,
    )
    return Case(
        f"{name}, {condition}",
        piece,
        condition,
        stand.score,
        layout,
        truth_of(onsets, number, system, layout),
        sound,
        SAMPLE_RATE,
        tuple(performance.happenings),
        symbols(printed, page),
        how.paper,
        programme.asides,
    )


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


def symbols(engraving: Engraving, page: int | None) -> Engraving:
    """What is printed, on all pages or on one as the only page, without the pictures."""
    bare = replace(engraving, pages=engraving.pages[:, :0, :0])
    if page is None:
        return bare
    here = np.flatnonzero(engraving.systems["page"] == page)

    def cut(table: np.ndarray) -> np.ndarray:
        rows = table[np.isin(table["system"], here)].copy()
        rows["system"] -= here[0]
        return rows

    systems, notes = engraving.systems[here].copy(), cut(engraving.notes)
    systems["page"] = notes["page"] = 0
    return Engraving(
        bare.pages[:1],
        notes,
        systems,
        cut(engraving.staves),
        cut(engraving.bars),
        engraving.voltas,
        cut(engraving.signs),
    )


@dataclass(frozen=True)
class Recording:
    """Renders a performance when it is first heard and keeps it as 16-bit FLAC.

    Attributes:
        name: what its file is called, before a digest of all that it depends on.
        notes: as `perform` gives them.
        pedals: the same.
        instrument: a name of `sf_plugin.dataset.instruments`.
        acoustics: a name of `ACOUSTICS`.
        seeds: of the acoustics.
        cache: the folder.
        crowd: what people do meanwhile.
    """

    name: str
    notes: np.ndarray
    pedals: np.ndarray
    instrument: str
    acoustics: str
    seeds: tuple[int, ...]
    cache: Path
    crowd: tuple[Crowd, ...] = ()

    @property
    def file(self) -> Path:
        """Where it is kept."""
        what = f"{self.instrument} {self.acoustics} {self.seeds}".encode()
        what += self.notes.tobytes() + self.pedals.tobytes()
        what += f"{self.crowd}".encode() if self.crowd else b""
        return (
            self.cache
            / f"{self.name.replace('/', '_')}--{hashlib.sha256(what).hexdigest()[:12]}.flac"
        )

    def __call__(self) -> NDArray[np.float32]:
        """(samples,) at SAMPLE_RATE.

        Raises:
            ScoreFollowerError: it cannot be rendered or kept.
        """
        file = self.file
        if not file.exists():
            self._write(file, self.render())
        kept: NDArray[np.float32] = soundfile.read(file, dtype="float32")[0]
        return kept

    def render(self) -> NDArray[np.float32]:
        """(samples,), no louder than full scale."""
        rng = np.random.default_rng((*self.seeds, 3))
        return sound_of(
            self.notes, self.pedals, self.instrument, self.acoustics, rng, crowd=self.crowd
        )

    def _write(self, file: Path, sound: NDArray[np.float32]) -> None:
        part = file.with_name(f"{file.name}.{os.getpid()}.partial")
        try:
            self.cache.mkdir(parents=True, exist_ok=True)
            try:
                soundfile.write(part, sound, SAMPLE_RATE, subtype="PCM_16", format="FLAC")
                part.replace(file)
            finally:
                part.unlink(missing_ok=True)
        except (OSError, soundfile.SoundFileError) as error:
            raise ScoreFollowerError(
                f"{file}: cannot be written ({error}): choose another --cache"
            ) from None
