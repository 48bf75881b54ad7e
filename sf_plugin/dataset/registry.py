"""Which pieces are held out, and the rule that keeps them out of training.

A held-out piece is known by its name and by its melody: runs of twelve intervals
between the highest notes of successive onsets.  So another edition of it, or one in
another key, is recognised too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from sf_plugin.errors import ScoreFollowerError

RUN = 12
"""Intervals of a run."""

SAME = 0.2
"""Share of the shorter piece's runs that makes two pieces the same music."""

HELD_OUT = Path(__file__).with_name("held_out.json")
"""The registry that comes with the package."""

TRAIN, VALID, EXTRA, TEST = "train", "valid", "extra", "test"
USES = (TRAIN, VALID, EXTRA, TEST)
"""`valid`: MSMD's validation pieces, reported on; `extra`: ours, for choosing settings;
`test`: looked at last."""

LEFT_OUT = "licence", "same"
"""Not used: no free licence; the same music as a held-out piece."""

FREE = ("public domain", "creative commons", "cc0", "cc by")


class HeldOutError(ScoreFollowerError):
    """A held-out piece is about to be trained on."""


def melody(notes: np.ndarray) -> list[int]:
    """Intervals in semitones between the highest of the notes that begin together.

    Args:
        notes: `NOTE` rows of an engraving, in order of time.
    """
    fresh = notes[~notes["tied"]]
    if not len(fresh):
        return []
    key = np.stack([fresh["score"], fresh["onset"], fresh["grace"]])
    new = np.ones(len(fresh), bool)
    new[1:] = (np.diff(key, axis=1) != 0).any(0)
    top = np.maximum.reduceat(fresh["pitch"].astype(int), np.flatnonzero(new))
    return np.diff(top).tolist()


def runs(intervals: list[int]) -> frozenset[tuple[int, ...]]:
    """All runs of RUN intervals; a shorter piece is one run."""
    if 0 < len(intervals) < RUN:
        return frozenset([tuple(intervals)])
    return frozenset(tuple(intervals[i : i + RUN]) for i in range(len(intervals) - RUN + 1))


def overlap(a: frozenset[tuple[int, ...]], b: frozenset[tuple[int, ...]]) -> float:
    """Share of the shorter piece's runs that the other has too."""
    return len(a & b) / max(1, min(len(a), len(b)))


@dataclass(frozen=True)
class HeldOut:
    """A piece that is not trained on."""

    piece: str
    use: str
    melody: tuple[int, ...]

    @cached_property
    def runs(self) -> frozenset[tuple[int, ...]]:
        return runs(list(self.melody))


@dataclass(frozen=True)
class Registry:
    """The held-out pieces."""

    pieces: tuple[HeldOut, ...]

    @classmethod
    def load(cls, path: Path = HELD_OUT) -> Registry:
        """Read a registry.

        Raises:
            ScoreFollowerError: the file is missing or no registry.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                tuple(
                    HeldOut(row["piece"], row["use"], tuple(map(int, row["melody"].split())))
                    for row in data["pieces"]
                )
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ScoreFollowerError(
                f"{path}: is no registry of held-out pieces ({error}): "
                "make one with 'scorefollow dataset hold-out'"
            ) from None

    def save(self, path: Path) -> None:
        """Write it, a line a piece, in order of name."""
        rows = [
            json.dumps(
                {"piece": p.piece, "use": p.use, "melody": " ".join(map(str, p.melody))},
                ensure_ascii=False,
            )
            for p in sorted(self.pieces, key=lambda p: p.piece)
        ]
        part = path.with_name(path.name + ".part")
        part.write_text('{"pieces": [\n' + ",\n".join(rows) + "\n]}\n", encoding="utf-8")
        part.replace(path)

    def with_pieces(self, more: Iterable[HeldOut]) -> Registry:
        """With other pieces held out as well; the later of two with one name counts."""
        by_name = {p.piece: p for p in (*self.pieces, *more)}
        return Registry(tuple(by_name.values()))

    @cached_property
    def _by_run(self) -> dict[tuple[int, ...], list[int]]:
        index: dict[tuple[int, ...], list[int]] = {}
        for i, held in enumerate(self.pieces):
            for run in held.runs:
                index.setdefault(run, []).append(i)
        return index

    def same_music(self, notes: np.ndarray) -> HeldOut | None:
        """The held-out piece that these notes also say, in whatever key or edition."""
        mine = runs(melody(notes))
        shared: dict[int, int] = {}
        for run in mine:
            for i in self._by_run.get(run, ()):
                shared[i] = shared.get(i, 0) + 1
        for i in sorted(shared, key=lambda i: -shared[i]):
            if overlap(mine, self.pieces[i].runs) > SAME:
                return self.pieces[i]
        return None

    def use_of(self, piece: str, licence: str | None, notes: np.ndarray) -> tuple[str, str]:
        """What a piece may be used for, and why where it is not for training."""
        held = next((p for p in self.pieces if p.piece == piece), None)
        if held is not None:
            return held.use, "held out by name"
        same = self.same_music(notes)
        if same is not None:
            return "same", f"says what {same.piece} says, which is held out"
        if not is_free(licence):
            return "licence", f"licence: {licence or 'none stated'}"
        return TRAIN, ""

    def check_training(
        self, pieces: Mapping[str, np.ndarray] | Iterable[tuple[str, np.ndarray]]
    ) -> None:
        """Refuse to train on a held-out piece.

        Args:
            pieces: name and `NOTE` rows of each.

        Raises:
            HeldOutError: a piece is held out by name, or is the same music as one that is.
        """
        names = {p.piece for p in self.pieces}
        for name, notes in pieces.items() if isinstance(pieces, Mapping) else pieces:
            same = self.same_music(notes)
            if name in names or same is not None:
                raise HeldOutError(
                    f"{name}: is held out"
                    + (f" as {same.piece}" if same and same.piece != name else "")
                    + ": take it out of the training set"
                )


def is_free(licence: str | None) -> bool:
    """Whether a model trained on the piece may be given away: public domain, CC BY, CC BY-SA."""
    words = (licence or "").lower()
    return words.startswith(FREE) and not ("-nc" in words or "noncommercial" in words)
