"""Scores to engrave: an archive or folder with a manifest, or symbolic scores of any folder."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from sf_plugin.errors import ScoreError

MANIFEST = "manifest.json"
LILYPOND = (".ly",)
VEROVIO = (".musicxml", ".mxl", ".xml", ".mei", ".krn", ".abc")


@dataclass(frozen=True)
class Source:
    """A piece that can be engraved.

    Attributes:
        piece: its name, for ever: the path within its tree without the ending.
        tree: folder that holds the file and whatever it includes.
        file: path of its main file within the tree.
        licence: as its publisher states it; empty where unknown.
        split: of a published split ("train", "valid"), or empty.
    """

    piece: str
    tree: Path
    file: str
    title: str = ""
    composer: str = ""
    licence: str = ""
    split: str = ""

    @property
    def engraver(self) -> str:
        return "lilypond" if Path(self.file).suffix.lower() in LILYPOND else "verovio"

    def packed(self) -> bytes:
        """What engraving it needs, as a zip: for a machine that does not see the tree."""
        parts = Path(self.file).parts
        top = self.tree.joinpath(*parts[: min(2, len(parts) - 1)])
        one = self.engraver == "verovio" or top == self.tree
        files = [self.tree / self.file] if one else sorted(f for f in top.rglob("*") if f.is_file())
        if (manifest := self.tree / MANIFEST).is_file():
            files.append(manifest)
        memory = io.BytesIO()
        with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                archive.write(file, file.relative_to(self.tree))
        return memory.getvalue()


@contextmanager
def opened(paths: Sequence[Path], licence: str = "") -> Iterator[list[Source]]:
    """The sources of archives, folders and files, in order of name; unpacked as long as needed.

    `licence` is that of sources whose manifest, if any, states none.

    Raises:
        ScoreError: there are none, or a manifest or archive cannot be read.
    """
    with ExitStack() as stack:
        found: dict[str, Source] = {}
        for path in paths:
            tree = path
            if path.is_file() and path.name.endswith(
                (".tar.xz", ".tar.gz", ".tgz", ".tar", ".zip")
            ):
                tree = Path(stack.enter_context(TemporaryDirectory(prefix="sf-sources-")))
                _unpack(path, tree)
            for source in _sources(tree, licence):
                other = found.setdefault(source.piece, source)
                if other is not source:
                    raise ScoreError(
                        f"{path}: a second piece is called {source.piece}: rename one of the two"
                    )
        if not found:
            names = " ".join(map(str, paths))
            kinds = ", ".join(LILYPOND + VEROVIO)
            raise ScoreError(f"{names}: no scores there: give files or folders of {kinds}")
        yield [found[name] for name in sorted(found)]


def _unpack(archive: Path, folder: Path) -> None:
    try:
        if archive.suffix == ".zip":
            with zipfile.ZipFile(archive) as packed:
                packed.extractall(folder)
        else:
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")
    except (OSError, tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise ScoreError(f"{archive}: cannot be unpacked ({error}): get it again") from None


def _sources(path: Path, licence: str) -> Iterator[Source]:
    if path.is_file():
        if path.suffix.lower() in LILYPOND + VEROVIO:
            yield Source(path.stem, path.parent, path.name, path.stem, licence=licence)
            return
        raise ScoreError(f"{path}: is no score to engrave: give {', '.join(LILYPOND + VEROVIO)}")
    if not path.is_dir():
        raise ScoreError(f"{path}: there is no such file or folder: check the name")
    manifest = path / MANIFEST
    if manifest.exists():
        yield from _of_manifest(manifest, licence)
        return
    for file in sorted(path.rglob("*")):
        if file.suffix.lower() in LILYPOND + VEROVIO and file.is_file():
            name = file.relative_to(path)
            yield Source(str(name.with_suffix("")), path, str(name), file.stem, licence=licence)


def _of_manifest(manifest: Path, licence: str) -> Iterator[Source]:
    try:
        rows = json.loads(manifest.read_text(encoding="utf-8"))
        for row in rows:
            yield Source(
                str(Path(row["path"]).with_suffix("")),
                manifest.parent,
                row["path"],
                row.get("title") or "",
                row.get("composer") or "",
                row.get("license") or licence,
                row.get("msmd_split") or "",
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ScoreError(
            f"{manifest}: is no manifest ({error!r}): it lists objects with 'path' and 'license'"
        ) from None
