"""(n)ASAP: aligned scores and performances of piano music, with note alignments.

Foscarin et al., ISMIR 2020, and Peter et al., TISMIR 2023; github.com/CPJKU/asap-dataset.
`COMPOSER/…/PIECE/` holds `xml_score.musicxml`, whose notes have names, and for every player
`PLAYER.mid`, `PLAYER.match` and, where MAESTRO was unpacked into it with the set's own
script, `PLAYER.wav`.  `metadata.csv` at the top says of each `midi_performance` whether its
`robust_note_alignment` is 1: the authors advise to evaluate on those only, and so we do
where the file is there.  ASAP without note alignments (github.com/fosfrancesco/asap-dataset)
tells beats only and is no such set.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from sf_plugin.errors import ScoreError
from sf_plugin.evaluation.importers.matches import Performances

SCORE = "xml_score.musicxml"


def check(folder: Path) -> None:
    """See that there are scores with note alignments.

    Raises:
        ScoreError: there are none.
    """
    if not folder.is_dir():
        raise ScoreError(f"{folder}: no such folder: name the one where (n)ASAP was unpacked")
    scores = sorted(folder.rglob(SCORE))
    if not scores:
        raise ScoreError(
            f"{folder}: holds no {SCORE}: name the folder of github.com/CPJKU/asap-dataset"
        )
    if not any(_matches(score) for score in scores):
        raise ScoreError(
            f"{folder}: holds no match files beside {SCORE}: this is ASAP without note alignments; "
            "get github.com/CPJKU/asap-dataset"
        )


def tasks(
    folder: Path, *, per_page: bool = False, pieces: Sequence[str] = ("*",)
) -> list[Performances]:
    """What gives the cases of every piece whose folder, as "Bach/Fugue/bwv_846", is like one
    of `pieces`.

    Raises:
        ScoreError: `check` fails, or `metadata.csv` is not the set's.
    """
    check(folder)
    doubtful = _doubtful(folder / "metadata.csv")
    chosen = []
    for score in sorted(folder.rglob(SCORE)):
        piece = score.parent.relative_to(folder).as_posix()
        if not any(fnmatch(piece, pattern) for pattern in pieces):
            continue
        played = []
        for match in _matches(score):
            if match.with_suffix(".mid").relative_to(folder).as_posix() not in doubtful:
                wav = match.with_suffix(".wav")
                played.append((match.stem, match, wav if wav.exists() else None))
        if played:
            chosen.append(Performances(score, piece, tuple(played), per_page))
    return chosen


def _matches(score: Path) -> list[Path]:
    return sorted(score.parent.glob("*.match"))


def _doubtful(metadata: Path) -> set[str]:
    """MIDI files whose alignments are not known to be robust."""
    if not metadata.exists():
        return set()
    try:
        with metadata.open(newline="", encoding="utf-8") as file:
            return {
                row["midi_performance"]
                for row in csv.DictReader(file)
                if row["robust_note_alignment"].strip().lower() not in ("1", "1.0", "true")
            }
    except (OSError, KeyError, AttributeError, UnicodeDecodeError, csv.Error) as error:
        raise ScoreError(
            f"{metadata}: is not the table of (n)ASAP ({error!r}): download the set again"
        ) from None
