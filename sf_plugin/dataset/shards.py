"""Engraved pieces in compact shards: lossless pages, tables, facts, checksums.

A set is a folder with `index.json` and shards.  A shard is a plain `.zip` whose members, one
an engraving, are `.zip` files themselves: `page-1.webp`, …, `tables.npz`, `facts.json`.  The
index says where in its shard each engraving lies, so that one read fetches it.  A shard
carries an index of its own as its last member and is a set by itself.

The same engravings give the same bytes, in whatever order and however often interrupted
they were added.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sf_plugin.dataset.engraving import BAR, NOTE, SIGN, STAFF, SYSTEM, VOLTA, Engraving
from sf_plugin.errors import ScoreError

VERSION = 1
SHARD_BYTES = 50_000_000
PACK_BYTES = 60_000_000
INDEX = "index.json"
PENDING = "pending"
TABLES = {
    "notes": NOTE,
    "systems": SYSTEM,
    "staves": STAFF,
    "bars": BAR,
    "voltas": VOLTA,
    "signs": SIGN,
}

Image8 = NDArray[np.uint8]
Progress = Callable[[int, int], None]
"""Told how many of how many are done."""

_ZIP_HEADER = 30  # bytes before a member's name
_GOOD_NAME = re.compile(r'[^./\\:*?"<>|\s\x00-\x1f\x7f][^/\\:*?"<>|\x00-\x1f\x7f]*')
_DAMAGE = (
    OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, SyntaxError,
    zipfile.BadZipFile, zlib.error, Image.DecompressionBombError,
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One engraving of a set.

    Attributes:
        name: unique within the set.
        shard: file that holds it.
        offset: its first byte in the shard.
        size: bytes.
        sha256: of those bytes.
        pages: how many.
        notes: printed heads.
        facts: what is known of it: "piece", "use", "licence", "engraver", …
    """

    name: str
    shard: str
    offset: int
    size: int
    sha256: str
    pages: int
    notes: int
    facts: dict[str, Any]

    @property
    def use(self) -> str | None:
        """What it is for: "train", "valid", …"""
        return self.facts.get("use")

    @property
    def piece(self) -> str:
        """The piece it is an engraving of."""
        return str(self.facts.get("piece", self.name))


def _json(value: object) -> bytes:
    text = json.dumps(
        value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False
    )
    return text.encode()


def _member(archive: zipfile.ZipFile, name: str, data: bytes) -> int:
    """Store `data`, the same bytes on any machine and day; returns where it begins."""
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, 0o644 << 16
    archive.writestr(info, data)
    return info.header_offset + _ZIP_HEADER + len(name.encode())


@dataclass(frozen=True)
class Packed:
    """An engraving as files: page-1.webp, …, tables.npz; small enough to send about."""

    files: tuple[tuple[str, bytes], ...]
    pages: int
    notes: int


def pack_engraving(engraving: Engraving) -> Packed:
    """Compress an engraving: the slow part of adding it, so let workers do it.

    Raises:
        ScoreError: there are no pages.
    """
    if not engraving.pages.size:
        raise ScoreError("an engraving without pages: engrave it again")
    files = []
    for number, page in enumerate(engraving.pages, 1):
        picture = io.BytesIO()
        Image.fromarray(page).save(picture, "WEBP", lossless=True, method=4)
        files.append((f"page-{number}.webp", picture.getvalue()))
    tables = io.BytesIO()
    arrays: dict[str, Any] = {
        table: getattr(engraving, table).astype(dtype, casting="equiv", copy=False)
        for table, dtype in TABLES.items()
    }
    np.savez_compressed(tables, **arrays)
    files.append(("tables.npz", tables.getvalue()))
    return Packed(tuple(files), len(engraving.pages), len(engraving.notes))


class ShardWriter:
    """Collects engravings in a folder; `finish` makes shards of them.

    Each waits as a file of its own, whole or absent, so a build that was interrupted goes on
    with what `name in writer` does not know yet.  A finished set can be added to.  Several
    processes may add to one folder, one may finish.
    """

    def __init__(self, folder: Path, shard_bytes: int = SHARD_BYTES) -> None:
        self.folder, self.shard_bytes = folder, shard_bytes
        self._pending = folder / PENDING
        self._finished = ShardSet(folder) if (folder / INDEX).exists() else None
        try:
            self._pending.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ScoreError(f"{folder}: cannot be written ({error.strerror})") from None

    def __contains__(self, name: str) -> bool:
        finished = self._finished is not None and name in self._finished
        return finished or self._file(name).exists()

    @property
    def entries(self) -> list[Entry]:
        """What there is so far; of what waits, the shard is open yet."""
        finished = self._finished.entries if self._finished is not None else ()
        return sorted(
            [*finished, *(_described(file, file.read_bytes()) for file in self._waiting())],
            key=_by_name,
        )

    def _file(self, name: str) -> Path:
        return self._pending / f"{name}.zip"

    def _waiting(self) -> list[Path]:
        known = self._finished
        return [f for f in self._pending.glob("*.zip") if known is None or f.stem not in known]

    def add(self, name: str, engraving: Engraving, facts: dict[str, Any]) -> None:
        """Compress and keep one engraving.

        Raises:
            ScoreError: the name is no plain file name or is there already, or there are no
                pages.
        """
        self.add_packed(name, pack_engraving(engraving), facts)

    def add_packed(self, name: str, packed: Packed, facts: dict[str, Any]) -> None:
        """Keep what `pack_engraving` made.

        Raises:
            ScoreError: the name is no plain file name or is there already.
        """
        if not _GOOD_NAME.fullmatch(name) or len(name.encode()) > 200:
            raise ScoreError(f"{name!r}: is no name for an engraving: use a short plain file name")
        if name in self:
            raise ScoreError(f"{self.folder}: has {name} already: choose another name")
        about = {"name": name, "pages": packed.pages, "notes": packed.notes, "facts": facts}
        partial = self._file(name).with_suffix(".partial")
        with zipfile.ZipFile(partial, "w") as archive:
            for file, data in (*packed.files, ("facts.json", _json(about))):
                _member(archive, file, data)
        partial.replace(self._file(name))

    def finish(self) -> ShardSet:
        """Make shards of all there is, replace the index, then delete what it replaces.

        Raises:
            ScoreError: what waits or was there is damaged.
        """
        old = self._finished

        def read(entry: Entry) -> bytes:
            file = self._file(entry.name)
            return file.read_bytes() if old is None or entry.name not in old else old.read(entry)

        entries = _write_shards(self.folder, self.entries, read, self.shard_bytes, "shard")
        _write_index(self.folder, entries)
        for shard in self.folder.glob("shard-*.zip*"):
            if shard.name not in {entry.shard for entry in entries}:
                shard.unlink()
        shutil.rmtree(self._pending)
        return ShardSet(self.folder)


def _by_name(entry: Entry) -> str:
    return entry.name


def _write_shards(
    folder: Path, entries: Iterable[Entry], read: Callable[[Entry], bytes], limit: int, stem: str
) -> list[Entry]:
    """Shards of at most `limit` bytes, named by number and content.

    An engraving bigger than that gets one of its own.
    """
    groups: list[list[Entry]] = []
    filled = limit
    for entry in entries:
        need = _need(entry)
        if filled + need > limit:
            groups.append([])
            filled = _SHARD_NEED
        groups[-1].append(entry)
        filled += need
    done: list[Entry] = []
    for number, group in enumerate(groups):
        partial = folder / f"{stem}-{number:05d}.zip.partial"
        placed = []
        with zipfile.ZipFile(partial, "w") as archive:
            for entry in group:
                offset = _member(archive, f"{entry.name}.zip", read(entry))
                placed.append(replace(entry, shard="", offset=offset))
            _member(archive, INDEX, _json(_index_of(placed)))
        shard = f"{stem}-{number:05d}-{_checksum(partial)[:10]}.zip"
        partial.replace(folder / shard)
        done.extend(replace(entry, shard=shard) for entry in placed)
    return done


_SHARD_NEED = 300


def _need(entry: Entry) -> int:
    """Bytes an engraving takes in a shard, at most: itself, the directory, the index."""
    return entry.size + 2 * len(entry.name.encode()) + len(_json(asdict(entry))) + 200


def _described(file: Path, blob: bytes) -> Entry:
    """The entry of an engraving that waits."""
    try:
        with zipfile.ZipFile(io.BytesIO(blob)) as archive:
            about = json.loads(archive.read("facts.json"))
        return Entry(
            name=about["name"], shard="", offset=0, size=len(blob),
            sha256=hashlib.sha256(blob).hexdigest(),
            pages=about["pages"], notes=about["notes"], facts=about["facts"],
        )  # fmt: skip
    except _DAMAGE as error:
        raise ScoreError(f"{file}: is damaged ({error}): delete it and build again") from None


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _index_of(entries: Iterable[Entry]) -> dict[str, object]:
    return {"version": VERSION, "entries": [asdict(entry) for entry in entries]}


def _write_index(folder: Path, entries: list[Entry]) -> None:
    shards = {shard: _checksum(folder / shard) for shard in {entry.shard for entry in entries}}
    partial = folder / f"{INDEX}.partial"
    partial.write_bytes(_json(_index_of(entries) | {"shards": shards}))
    partial.replace(folder / INDEX)


class ShardSet:
    """A set to read: a folder with an index, or a single shard or pack.

    Attributes:
        path: of the folder or file.
        entries: in order of name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folder = path if path.is_dir() else path.parent
        try:
            if path.is_dir():
                index = json.loads((path / INDEX).read_bytes())
            else:
                with zipfile.ZipFile(path) as archive:
                    index = json.loads(archive.read(INDEX))
            version = index["version"]
            self.entries = tuple(Entry(**row) for row in index["entries"])
            self._checksums: dict[str, str] = dict(index.get("shards", {}))
        except FileNotFoundError as error:
            raise ScoreError(
                f"{error.filename}: is missing: make a set with 'scorefollow dataset build'"
            ) from None
        except _DAMAGE as error:
            raise ScoreError(
                f"{path}: is no index of shards ({error}): build the set again"
            ) from None
        if version != VERSION:
            raise ScoreError(f"{path}: is of version {version}, not {VERSION}: build the set again")
        if not path.is_dir():
            self.entries = tuple(replace(entry, shard=path.name) for entry in self.entries)
        self._by_name = {entry.name: entry for entry in self.entries}

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, name: str) -> Entry:
        try:
            return self._by_name[name]
        except KeyError:
            raise ScoreError(f"{self.path}: has no engraving {name!r}: see its index") from None

    def of_use(self, *uses: str) -> list[Entry]:
        """Entries for these uses, "train", "valid", …, in order of name."""
        return [entry for entry in self.entries if entry.use in uses]

    def load(self, name: str, images: bool = True) -> Engraving:
        """One engraving; without `images` its pages are (pages, 0, 0).

        Raises:
            ScoreError: there is no such engraving, or its shard is missing or damaged.
        """
        entry = self[name]
        blob = self.read(entry)
        try:
            with zipfile.ZipFile(io.BytesIO(blob)) as archive:
                with np.load(io.BytesIO(archive.read("tables.npz"))) as data:
                    tables = {table: data[table] for table in TABLES}
                if images:
                    pages = np.stack([_page(archive, i) for i in range(entry.pages)])
                else:
                    pages = np.zeros((entry.pages, 0, 0), np.uint8)
        except _DAMAGE as error:
            raise self._damaged(entry, str(error)) from None
        for table, dtype in TABLES.items():
            if tables[table].dtype != dtype:
                raise ScoreError(
                    f"{self._folder / entry.shard}: {name}: its {table} are of another version: "
                    "build the set again"
                )
        return Engraving(pages, **tables)

    def page(self, name: str, page: int) -> Image8:
        """(height, width) of one page, from 0.

        Raises:
            ScoreError: as `load`.
        """
        entry = self[name]
        blob = self.read(entry)
        try:
            with zipfile.ZipFile(io.BytesIO(blob)) as archive:
                return _page(archive, page)
        except _DAMAGE as error:
            raise self._damaged(entry, str(error)) from None

    def verify(self, progress: Progress | None = None) -> list[str]:
        """Compare every byte with its checksum; a line for each thing that is damaged."""
        wrong: list[str] = []
        for done, entry in enumerate(self.entries, 1):
            try:
                self.read(entry)
            except ScoreError as error:
                wrong.append(str(error))
            if progress is not None:
                progress(done, len(self.entries))
        for shard, checksum in self._checksums.items():
            with suppress(OSError):
                sound = _checksum(self._folder / shard) == checksum
                if not sound and not any(shard in line for line in wrong):
                    wrong.append(
                        f"{self._folder / shard}: its directory is damaged, the engravings are "
                        "not: copy or build it again"
                    )
        return wrong

    def read(self, entry: Entry) -> bytes:
        """The bytes of one engraving, compared with their checksum.

        Raises:
            ScoreError: the shard is missing or damaged.
        """
        try:
            with (self._folder / entry.shard).open("rb") as file:
                file.seek(entry.offset)
                blob = file.read(entry.size)
        except OSError as error:
            raise ScoreError(
                f"{self._folder / entry.shard}: cannot be read ({error.strerror}), but holds "
                f"{entry.name}: copy or build it again"
            ) from None
        if len(blob) < entry.size:
            raise self._damaged(entry, "the file ends too early")
        if hashlib.sha256(blob).hexdigest() != entry.sha256:
            raise self._damaged(entry, "wrong checksum")
        return blob

    def _damaged(self, entry: Entry, reason: str) -> ScoreError:
        return ScoreError(
            f"{self._folder / entry.shard}: {entry.name} is damaged ({reason}): "
            "copy or build the shard again"
        )


def _page(archive: zipfile.ZipFile, page: int) -> Image8:
    with Image.open(io.BytesIO(archive.read(f"page-{page + 1}.webp"))) as picture:
        # WebP knows no grey: the three channels are the same
        return np.ascontiguousarray(np.asarray(picture)[..., 1])


def pack(
    shards: ShardSet,
    out: Path,
    limit_bytes: int = PACK_BYTES,
    choose: Callable[[Entry], bool] = lambda entry: True,
) -> list[Path]:
    """Group chosen engravings anew into files of at most `limit_bytes`, to be carried by hand.

    `out` becomes a set; each pack alone is one too.

    Raises:
        ScoreError: `out` holds something already, nothing is chosen, an engraving is bigger
            than a pack, or a shard is damaged.
    """
    chosen = [entry for entry in shards.entries if choose(entry)]
    if not chosen:
        raise ScoreError(f"{shards.path}: nothing to pack was chosen: choose another use")
    for entry in chosen:
        if _need(entry) + _SHARD_NEED > limit_bytes:
            raise ScoreError(
                f"{entry.name}: has {entry.size} bytes, too many for a pack of {limit_bytes}: "
                "allow bigger packs"
            )
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        raise ScoreError(f"{out}: is not empty: name a new folder for the packs")
    entries = _write_shards(out, chosen, shards.read, limit_bytes, "pack")
    _write_index(out, entries)
    return sorted({out / entry.shard for entry in entries})
