"""Puts files or a music21 stream on the stand."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sf_plugin.errors import ScoreError
from sf_plugin.score.model import Score

if TYPE_CHECKING:
    from sf_plugin.plugins import Registry


def load_score(source: Any, registry: Registry | None = None) -> Score:
    """A score from a path, several paths in order, or a music21 stream.

    Args:
        source: the file or files of one document, a music21 stream, or a Score.
        registry: the page loaders to choose from; those installed by default.

    Raises:
        ScoreError: a file is missing, of no known type, or cannot be read.
    """
    if isinstance(source, Score):
        return source
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
    return registry.load_score(paths)


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
