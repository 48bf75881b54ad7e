"""The Vienna 4x22 piano corpus: 22 pianists play four excerpts.

Werner Goebl, 1999, doi:10.21939/4X22, CC BY 4.0; github.com/CPJKU/vienna4x22.
`musicxml/PIECE.musicxml` are the scores, `match/PIECE_pNN.match` the note alignments,
`midi/PIECE_pNN.mid` the same as MIDI.  Recordings are not in the repository; its scripts
read them as `PIECE_pNN.wav` from any folder, and since March 2024 its match files begin
where the recordings do.  We take a recording from wherever it lies under the folder.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from sf_plugin.errors import ScoreError
from sf_plugin.evaluation.importers.matches import Performances


def check(folder: Path) -> None:
    """See that there are scores with match files.

    Raises:
        ScoreError: there are none.
    """
    if not folder.is_dir():
        raise ScoreError(f"{folder}: no such folder: name the one where Vienna 4x22 was unpacked")
    if not _performances(folder):
        raise ScoreError(
            f"{folder}: holds no match/PIECE_pNN.match with musicxml/PIECE.musicxml: name the "
            "folder of github.com/CPJKU/vienna4x22"
        )


def tasks(
    folder: Path, *, per_page: bool = False, pieces: Sequence[str] = ("*",)
) -> list[Performances]:
    """What gives the cases of every piece whose name is like one of `pieces`.

    Raises:
        ScoreError: `check` fails.
    """
    check(folder)
    recordings = {path.stem: path for path in sorted(folder.rglob("*.wav"))}
    chosen = []
    for piece, matches in _performances(folder).items():
        if any(fnmatch(piece, pattern) for pattern in pieces):
            played = tuple(
                (match.stem.removeprefix(f"{piece}_"), match, recordings.get(match.stem))
                for match in matches
            )
            chosen.append(Performances(_score(folder, piece), piece, played, per_page))
    return chosen


def _score(folder: Path, piece: str) -> Path:
    return folder / "musicxml" / f"{piece}.musicxml"


def _performances(folder: Path) -> dict[str, list[Path]]:
    """Match files by piece, of those that have a score."""
    found: dict[str, list[Path]] = {}
    for match in sorted((folder / "match").glob("*.match")):
        name = re.fullmatch(r"(.+)_p\d+", match.stem)
        if name and _score(folder, name[1]).exists():
            found.setdefault(name[1], []).append(match)
    return found
