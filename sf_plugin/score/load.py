"""Puts files or a music21 stream on the stand."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sf_plugin.errors import ScoreError
from sf_plugin.score.layout_files import kept_beside, read_layout
from sf_plugin.score.model import Score

if TYPE_CHECKING:
    from sf_plugin.plugins import Registry


def load_score(
    source: Any,
    registry: Registry | None = None,
    *,
    layout: Path | None = None,
    ignore_layout: bool = False,
    symbols: Any = None,
) -> Score:
    """A score from a path, several paths in order, or a music21 stream.

    A layout that is kept beside the pages, as `sonata.layout.json` beside `sonata.pdf`,
    is taken from there.

    Args:
        source: the file or files of one document, a music21 stream, or a Score.
        registry: the page loaders to choose from; those installed by default.
        layout: the file of another layout.
        ignore_layout: find systems and measures anew though a layout is kept.
        symbols: the same music as a file that Verovio or music21 reads or as a music21
            stream: names the measures, beats and notes of the pages.

    Raises:
        ScoreError: a file is missing, of no known type, or cannot be read, or the
            layout is not one of these pages.
    """
    if isinstance(source, Score):
        return _with_symbols(source, symbols)
    if isinstance(source, str | os.PathLike):
        source = [source]
    elif _is_music21(source):
        from sf_plugin.score.engraving import engrave_stream

        return engrave_stream(source)
    if not isinstance(source, Iterable):
        raise ScoreError(
            f"a {type(source).__name__} is no score: give a file, page images in order "
            "or a music21 stream"
        )
    try:
        paths = [Path(path) for path in source]
    except TypeError as error:
        raise ScoreError(f"a score is given as paths of files: {error}") from None
    if registry is None:
        from sf_plugin.plugins import registry as installed

        registry = installed()
    for path in paths:
        _check_readable(path)
    score = replace(registry.load_score(paths), files=tuple(paths))
    if layout is not None:
        known = read_layout(Path(layout), len(score.pages))
        score = replace(score, layout=known, layout_file=Path(layout))
    elif not ignore_layout and score.layout is None:
        score = _with_kept(score, paths)
    return _with_symbols(score, symbols)


def _with_kept(score: Score, paths: Sequence[Path]) -> Score:
    kept = kept_beside(paths)
    if not kept.exists():
        return score
    try:
        return replace(score, layout=read_layout(kept, len(score.pages)), layout_file=kept)
    except ScoreError as error:
        raise ScoreError(f"{error}, or do without it: --ignore-layout") from None


def _with_symbols(score: Score, symbols: Any) -> Score:
    if symbols is None:
        return score
    from sf_plugin.score.symbols import read_symbols, without_names

    written = read_symbols(Path(symbols) if isinstance(symbols, str) else symbols)
    layout = without_names(score.layout) if score.layout is not None else None
    return replace(score, layout=layout, written=written)


def _check_readable(path: Path) -> None:
    try:
        with path.open("rb") as file:
            file.read(1)
    except FileNotFoundError:
        raise ScoreError(f"{path}: there is no such file: check the name") from None
    except IsADirectoryError:
        raise ScoreError(f"{path}: a folder is no score: name the files in it, in order") from None
    except PermissionError:
        raise ScoreError(f"{path}: may not be read: change its permissions") from None
    except (OSError, ValueError) as error:
        raise ScoreError(f"{path}: cannot be opened ({error})") from None


def _is_music21(source: object) -> bool:
    return any(kind.__module__.startswith("music21.") for kind in type(source).__mro__)
