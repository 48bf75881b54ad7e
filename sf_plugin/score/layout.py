"""Where systems and measures stand on the pages.

All coordinates are fractions of the page's width and height from the top left.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from sf_plugin.errors import ScoreError


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure's place in its system.

    `onsets` holds (x, beat) pairs where the score's symbols are known: `beat` in
    quarter notes from the measure's start, counted from 0, rising with x.  The last
    pair is the measure's end: its right edge and its length.  `signs` are of "segno"
    and "coda", which stand where the measure begins, and "fine", "da capo" and "dal
    segno", which stand where it ends.
    `notes` are (beat, id) pairs where a symbolic score names them.
    """

    number: int
    left: float
    right: float
    label: str | None = None
    repeat_start: bool = False
    repeat_end: bool = False
    volta: str | None = None
    onsets: tuple[tuple[float, float], ...] = ()
    signs: tuple[str, ...] = ()
    notes: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True, slots=True)
class System:
    """Staves that sound together; `top` and `bottom` are the outermost staff lines."""

    top: float
    bottom: float
    left: float
    right: float
    measures: tuple[Measure, ...] = ()


@dataclass(frozen=True, slots=True)
class PageLayout:
    """The systems of one page from top to bottom; `page` counts from 1."""

    page: int
    systems: tuple[System, ...] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """A document's pages in order; `measures` are numbered from 1 in reading order."""

    pages: tuple[PageLayout, ...]

    def to_json(self) -> str:
        pages: list[dict[str, Any]] = [asdict(page) for page in self.pages]
        for page in pages:
            for system in page["systems"]:
                for measure in system["measures"]:
                    for name in ("onsets", "signs", "notes"):
                        if not measure[name]:
                            del measure[name]
        return json.dumps({"version": 1, "pages": pages}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Layout:
        """Read a layout file.

        Raises:
            ScoreError: the text is no layout of this version.
        """
        try:
            data = json.loads(text)
            if data["version"] != 1:
                raise ScoreError(f"layout version {data['version']} is not 1: detect it again")
            return cls(
                tuple(
                    PageLayout(
                        page["page"],
                        tuple(
                            System(
                                system["top"],
                                system["bottom"],
                                system["left"],
                                system["right"],
                                tuple(
                                    Measure(
                                        **{
                                            **measure,
                                            "onsets": tuple(
                                                (float(x), float(beat))
                                                for x, beat in measure.get("onsets", ())
                                            ),
                                            "signs": tuple(measure.get("signs", ())),
                                            "notes": tuple(
                                                (float(beat), name)
                                                for beat, name in measure.get("notes", ())
                                            ),
                                        }
                                    )
                                    for measure in system["measures"]
                                ),
                            )
                            for system in page["systems"]
                        ),
                    )
                    for page in data["pages"]
                )
            )
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ScoreError(f"not a layout file: {error!r}") from None
