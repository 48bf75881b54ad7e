"""LilyPond sources of any age, made ready for today's LilyPond in a scratch folder.

`convert-ly` mends most of what changed since a source was written; `REPAIRS` and
`repairs.ily` mend general constructions that it leaves alone.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from sf_plugin.dataset.engraving import EngravingError

TODAY = (2, 25, 12)
"""Sources that say they are for this version or a later one are not converted."""

OLDEST = (2, 4, 0)
"""What a source without a version is taken for."""

REPAIRS: tuple[tuple[str, str], ...] = (
    (r"#\(set-octavation\s+(-?\d+)\s*\)", r"\\ottava #\1 "),
    (r"(?<=#)(-?\d+)(?=[\\<])", r"\1 "),
    (r"\\bigger\b", r"\\larger"),
    (r"\\(repeat|context|new)\s+\"(\w+)\"", r"\\\1 \2"),
    (
        r"(\\(?:new|context)\s+\w+(?:\s*=\s*(?:#?\"[^\"]*\"|\w+))?)(\s*\\(?:override|set)\b)",
        r"\1 {}\2",
    ),
    (r"\bEngraver_group_engraver\b", "Engraver_group"),
    (r"\bPerformer_group_performer\b", "Performer_group"),
    (r"\\sustainDown\b", r"\\sustainOn"),
    (r"\\sustainUp\b", r"\\sustainOff"),
)
"""(regular expression, replacement) for what convert-ly does not know."""

_GROB_PATH = re.compile(
    r"(\\(?:override|revert)\s+[A-Z][\w.]*)((?:\s*#'(?:\([a-zA-Z][\w\s-]*\)|[a-zA-Z][\w-]*))+)"
    r"(?=\s|=|$)"
)
_DEPRECATED = re.compile(r"\\deprecated(\w+)")
_DEFINED = re.compile(r"^\s*(\w+)\s*=", re.MULTILINE)
_COMMENT = re.compile(r"%\{.*?%\}|%[^\n]*", re.DOTALL)
_INCLUDE = re.compile(r'\\include\s+#?"([^"]+)"')
_VERSION = re.compile(r'\\version\s+#?"(\d+)\.(\d+)(?:\.(\d+))?')
_SCORE = re.compile(r"\\(?:score|book|bookpart)\b")


def read_source(path: Path) -> str:
    """The text of a source in UTF-8 or, as many old ones are, Latin-1."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def stage(tree: Path, piece: str, folder: Path) -> list[Path]:
    """Copy a piece's surroundings into `folder`; returns the files to engrave it through.

    The first is the source itself.  Where it has no score another follows, which makes one
    of its notes; should the first give no page, that one will.

    Raises:
        EngravingError: the piece is missing, or is a part of another that the tree lists.
    """
    source = tree / piece
    if not source.is_file():
        raise EngravingError(f"{source} does not exist")
    # some sources include files from beside or above their own folder
    top = source.parent.parent if len(Path(piece).parts) > 3 else source.parent
    shutil.copytree(top, folder)
    copy = (folder / source.relative_to(top)).resolve()
    if _has_score(copy) or (other := _user(copy)) is None:
        return [copy]
    whole = (top / other.relative_to(folder.resolve())).relative_to(tree).as_posix()
    if whole in _listed(tree):
        raise EngravingError(f"only a part of {whole}, which is listed too")
    return [copy, other]


def _listed(tree: Path) -> set[str]:
    manifest = tree / "manifest.json"
    if not manifest.is_file():
        return set()
    return {str(piece.get("path")) for piece in json.loads(manifest.read_text(encoding="utf-8"))}


def included(path: Path) -> list[Path]:
    """`path` and every file it includes, directly or not, that exists."""
    found: list[Path] = []
    waiting = [path]
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.append(file)
        for name in _INCLUDE.findall(_COMMENT.sub("", read_source(file))):
            for base in (file.parent, path.parent):
                if target := _existing(base / name):
                    waiting.append(target.resolve())
                    break
    return found


def _existing(path: Path) -> Path | None:
    """`path`, or the file that is called so but for upper and lower case."""
    if path.is_file():
        return path
    if not path.parent.is_dir():
        return None
    alike = (other for other in path.parent.iterdir() if other.name.lower() == path.name.lower())
    return next((other for other in alike if other.is_file()), None)


def _include_as_called(text: str, folder: Path) -> str:
    """`text` with names in \\include as the files of `folder` are called."""

    def called(found: re.Match[str]) -> str:
        target = _existing(folder / found[1])
        return found[0] if target is None else found[0].replace(Path(found[1]).name, target.name)

    return _INCLUDE.sub(called, text)


def _user(source: Path) -> Path | None:
    """The file that makes a score of `source`, or else stands beside it and has a score."""
    near = sorted(path.resolve() for path in source.parent.rglob("*.ly"))
    roots = [path for path in near if path != source and _has_score(path)]
    includes = {path: included(path) for path in roots}
    roots = [
        path
        for path in roots
        if not any(path in files for other, files in includes.items() if other != path)
    ]
    users = [path for path in roots if source in includes[path]]
    beside = [path for path in roots if path.parent == source.parent]
    return max(
        users or beside,
        key=lambda path: sum(len(read_source(file)) for file in includes[path]),
        default=None,
    )


def _has_score(path: Path) -> bool:
    return any(_SCORE.search(_COMMENT.sub("", read_source(file))) for file in included(path))


def modernise(main: Path, timeout: float = 60) -> None:
    """Convert `main` and all it includes, in place, to today's LilyPond.

    A file that names no version is taken for as old as `main`.

    Raises:
        EngravingError: convert-ly took more than `timeout` seconds.
    """
    files = included(main)
    versions = {file: version_of(read_source(file)) for file in files}
    known = [version for version in versions.values() if version]
    fallback = versions[main] or min(known, default=OLDEST)
    for file in files:
        file.write_text(_include_as_called(read_source(file), file.parent), encoding="utf-8")
    old = [file for file, version in versions.items() if version and version < TODAY]
    _convert(old, [], timeout)
    if fallback < TODAY:
        unversioned = [file for file, version in versions.items() if version is None]
        _convert(unversioned, [f"--from={'.'.join(map(str, fallback))}"], timeout)
    texts = {file: repair(read_source(file)) for file in files}
    defined = set(_DEFINED.findall("\n".join(texts.values())))
    for file, text in texts.items():
        file.write_text(_DEPRECATED.sub(lambda name: _kept(name, defined), text), encoding="utf-8")


def version_of(text: str) -> tuple[int, ...] | None:
    """The LilyPond version a source says it is for."""
    found = _VERSION.search(_COMMENT.sub("", text))
    return tuple(int(part or 0) for part in found.groups()) if found else None


def repair(text: str) -> str:
    """`text` with the general repairs that convert-ly does not do."""
    for pattern, replacement in REPAIRS:
        text = re.sub(pattern, replacement, text)
    return _GROB_PATH.sub(_dotted, text)


def _kept(found: re.Match[str], defined: set[str]) -> str:
    """A command that convert-ly renamed, though the source has its own of the old name."""
    return f"\\{found[1]}" if found[1] in defined else found[0]


def _dotted(found: re.Match[str]) -> str:
    return ".".join([found[1], *_words(found[2])])


def _words(path: str) -> Iterator[str]:
    yield from re.findall(r"[a-zA-Z][\w-]*", path)


def _convert(files: list[Path], options: list[str], timeout: float) -> None:
    import lilypond

    if not files:
        return
    try:
        subprocess.run(
            [str(lilypond.executable("convert-ly")), "-e", *options, *map(str, files)],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        raise EngravingError(f"convert-ly took more than {timeout:g} s") from None
