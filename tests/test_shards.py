from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from sf_plugin.dataset.engraving import BAR, NOTE, SIGN, STAFF, SYSTEM, VOLTA, Engraving
from sf_plugin.dataset.shards import (
    INDEX,
    PENDING,
    ShardSet,
    ShardWriter,
    pack,
    pack_engraving,
)
from sf_plugin.errors import ScoreError

TABLES = {
    "notes": NOTE, "systems": SYSTEM, "staves": STAFF, "bars": BAR, "voltas": VOLTA, "signs": SIGN,
}  # fmt: skip
quick = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def random_table(rng: np.random.Generator, dtype: np.dtype) -> np.ndarray:
    """Rows of any bytes, but text that is text."""
    rows = np.frombuffer(rng.bytes(dtype.itemsize * 7), dtype).copy()[: rng.integers(0, 8)]
    for name in dtype.names or ():
        if dtype[name].kind == "U":
            rows[name] = ["".join(rng.choice(list("|:.,ß♯𝄞"), 4)) for _ in rows]
        if dtype[name].kind == "b":
            rows[name] = rng.random(len(rows)) < 0.5
    return rows


def make(seed: int, pages: int = 2, height: int = 40, width: int = 30) -> Engraving:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (pages, height, width)).astype(np.uint8)
    return Engraving(images, **{name: random_table(rng, dtype) for name, dtype in TABLES.items()})


def assert_same(one: Engraving, other: Engraving) -> None:
    for name in ("pages", *TABLES):
        a, b = getattr(one, name), getattr(other, name)
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert a.tobytes() == b.tobytes(), name


def build(folder: Path, names: list[str], shard_bytes: int = 12_000) -> ShardSet:
    writer = ShardWriter(folder, shard_bytes)
    for name in names:
        facts = {"piece": name[:1], "use": "valid" if name < "c" else "train"}
        writer.add(name, make(ord(name[0]) + len(name)), facts)
    return writer.finish()


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


NAMES = ["a", "b", "c1", "c2", "d", "é è"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return build(tmp_path_factory.mktemp("set") / "set", NAMES)


facts = st.dictionaries(
    st.text("abc ü", max_size=4),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=4,
    ),
    max_size=3,
)  # fmt: skip


@quick
@given(
    seed=st.integers(0, 10**6),
    pages=st.integers(1, 3),
    height=st.integers(1, 50),
    width=st.integers(1, 50),
    facts=facts,
)
def test_what_goes_in_comes_out(
    tmp_path_factory: pytest.TempPathFactory, seed: int, pages: int, height: int, width: int,
    facts: dict[str, object],
) -> None:  # fmt: skip
    engraving = make(seed, pages, height, width)
    writer = ShardWriter(tmp_path_factory.mktemp("one"))
    writer.add("piece", engraving, facts)
    shards = writer.finish()
    assert_same(shards.load("piece"), engraving)
    assert shards["piece"].facts == facts
    assert (shards["piece"].pages, shards["piece"].notes) == (pages, len(engraving.notes))
    for page in range(pages):
        assert np.array_equal(shards.page("piece", page), engraving.pages[page])
    bare = shards.load("piece", images=False)
    assert bare.pages.shape == (pages, 0, 0)
    assert bare.bars.tobytes() == engraving.bars.tobytes()
    assert shards.verify() == []


@quick
@given(st.permutations(NAMES), st.sets(st.sampled_from(NAMES)))
def test_the_bytes_depend_on_neither_order_nor_interruptions(
    tmp_path_factory: pytest.TempPathFactory, shards: ShardSet, order: list[str], before: set[str]
) -> None:
    folder = tmp_path_factory.mktemp("again")
    if before:
        build(folder, [name for name in order if name in before], 9_000)
    writer = ShardWriter(folder)
    assert {name for name in NAMES if name in writer} == before
    build(folder, [name for name in order if name not in before])
    assert bytes_of(folder) == bytes_of(shards.path)


def test_an_interrupted_build_goes_on_where_it_stopped(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path)
    writer.add("a", make(1), {"use": "train"})
    (tmp_path / PENDING / "b.partial").write_bytes(b"half")
    again = ShardWriter(tmp_path)
    assert "a" in again
    assert "b" not in again
    assert [(entry.name, entry.use) for entry in again.entries] == [("a", "train")]
    again.add("b", make(2), {})
    shards = again.finish()
    assert [entry.name for entry in shards.entries] == ["a", "b"]
    assert {path.suffix for path in tmp_path.iterdir()} == {".zip", ".json"}


def test_a_crash_before_the_index_is_written_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build(tmp_path, ["a", "b"])
    writer = ShardWriter(tmp_path)
    writer.add("c", make(3), {})

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sf_plugin.dataset.shards._write_index", crash)
    with pytest.raises(KeyboardInterrupt):
        writer.finish()
    monkeypatch.undo()
    assert ShardSet(tmp_path).entries == first.entries
    assert ShardSet(tmp_path).verify() == []
    shards = ShardWriter(tmp_path).finish()
    assert [entry.name for entry in shards.entries] == ["a", "b", "c"]
    assert shards.verify() == []
    used = {entry.shard for entry in shards.entries}
    assert {path.name for path in tmp_path.iterdir()} == {INDEX, *used}


def test_shards_are_plain_zips_of_plain_files(shards: ShardSet) -> None:
    assert len({entry.shard for entry in shards.entries}) > 1
    entry = shards["a"]
    shard = shards.path / entry.shard
    assert shard.stat().st_size <= 12_000
    with zipfile.ZipFile(shard) as outer:
        assert outer.testzip() is None
        inner = io.BytesIO(outer.read("a.zip"))
    with zipfile.ZipFile(inner) as archive:
        assert archive.testzip() is None
        names = ["page-1.webp", "page-2.webp", "tables.npz", "facts.json"]
        assert archive.namelist() == names
        picture = np.asarray(Image.open(io.BytesIO(archive.read("page-2.webp"))).convert("L"))
        assert json.loads(archive.read("facts.json"))["facts"] == entry.facts
    assert np.array_equal(picture, shards.page("a", 1))


@quick
@given(data=st.data())
def test_a_flipped_byte_is_found_and_named(
    tmp_path_factory: pytest.TempPathFactory, shards: ShardSet, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("flipped")
    for name, content in bytes_of(shards.path).items():
        (folder / name).write_bytes(content)
    entry = shards[data.draw(st.sampled_from(NAMES))]
    content = bytearray((folder / entry.shard).read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    (folder / entry.shard).write_bytes(content)
    told = ShardSet(folder).verify()
    assert len(told) == 1
    assert entry.shard in told[0]
    for other in shards.entries:
        hit = other.shard == entry.shard and 0 <= place - other.offset < other.size
        if hit:
            assert other.name in told[0]
            with pytest.raises(ScoreError, match="damaged") as raised:
                ShardSet(folder).load(other.name)
            assert str(folder / entry.shard) in str(raised.value)
            assert other.name in str(raised.value)
        else:
            assert_same(ShardSet(folder).load(other.name), shards.load(other.name))


def test_a_shard_cut_short_or_missing_is_named(shards: ShardSet, tmp_path: Path) -> None:
    for name, content in bytes_of(shards.path).items():
        (tmp_path / name).write_bytes(content)
    entry = max((e for e in shards.entries if e.shard == shards["a"].shard), key=lambda e: e.offset)
    shard = tmp_path / entry.shard
    shard.write_bytes(shard.read_bytes()[: entry.offset + entry.size // 2])
    cut = ShardSet(tmp_path)
    with pytest.raises(ScoreError, match=f"{entry.name} is damaged .the file ends too early"):
        cut.page(entry.name, 0)
    shard.unlink()
    with pytest.raises(ScoreError, match=f"cannot be read.*{entry.name}"):
        cut.load(entry.name)
    seen: list[tuple[int, int]] = []
    told = cut.verify(lambda done, total: seen.append((done, total)))
    gone = [e.name for e in shards.entries if e.shard == entry.shard]
    assert len(told) == len(gone)
    assert seen == [(i, len(NAMES)) for i in range(1, len(NAMES) + 1)]


def test_what_is_no_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScoreError, match="is missing"):
        ShardSet(tmp_path)
    for text in ("{", "[]", '{"version": 1, "entries": [{}]}', "\xff\xfe"):
        (tmp_path / INDEX).write_text(text, "latin-1")
        with pytest.raises(ScoreError, match="is no index"):
            ShardSet(tmp_path)
    (tmp_path / INDEX).write_text('{"version": 99, "entries": []}')
    with pytest.raises(ScoreError, match="version 99"):
        ShardSet(tmp_path)
    (tmp_path / "x.zip").write_bytes(b"no zip")
    with pytest.raises(ScoreError, match="is no index"):
        ShardSet(tmp_path / "x.zip")


def test_tables_of_another_version_are_refused(tmp_path: Path) -> None:
    packed = pack_engraving(make(1))
    tables = io.BytesIO()
    arrays = {name: np.zeros(1, dtype) for name, dtype in TABLES.items()}
    np.savez(tables, **{**arrays, "bars": np.zeros(1, STAFF)})  # type: ignore[arg-type]
    writer = ShardWriter(tmp_path)
    files = tuple(f if f[0] != "tables.npz" else (f[0], tables.getvalue()) for f in packed.files)
    writer.add_packed("old", type(packed)(files, packed.pages, packed.notes), {})
    with pytest.raises(ScoreError, match="old: its bars are of another version"):
        writer.finish().load("old")


def test_names_are_plain_and_given_once(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path)
    for name in ("", "../a", "a/b", "a\\b", ".a", "a\n", "a" * 201, "é" * 101):
        with pytest.raises(ScoreError, match="no name for an engraving"):
            writer.add(name, make(1), {})
    writer.add("a", make(1), {})
    with pytest.raises(ScoreError, match="has a already"):
        writer.add("a", make(2), {})
    with pytest.raises(ScoreError, match="without pages"):
        writer.add("b", make(1, 0), {})
    shards = writer.finish()
    with pytest.raises(ScoreError, match="has no engraving 'b'"):
        shards.load("b")


@quick
@given(limit=st.integers(9_000, 60_000), use=st.sampled_from(["train", "valid"]))
def test_packs_stay_below_their_limit_and_stand_alone(
    tmp_path_factory: pytest.TempPathFactory, shards: ShardSet, limit: int, use: str
) -> None:
    out = tmp_path_factory.mktemp("packs")
    packs = pack(shards, out, limit, lambda entry: entry.use == use)
    names = []
    for path in packs:
        assert path.stat().st_size <= limit
        alone = ShardSet(path)
        assert alone.verify() == []
        for entry in alone.entries:
            assert_same(alone.load(entry.name), shards.load(entry.name))
            names.append(entry.name)
    assert names == [entry.name for entry in shards.of_use(use)]
    assert [entry.name for entry in ShardSet(out).entries] == names
    if len(packs) > 1:
        first = ShardSet(packs[1]).entries[0]
        assert packs[0].stat().st_size + first.size + 1500 > limit


def test_packs_that_cannot_be_made_say_why(shards: ShardSet, tmp_path: Path) -> None:
    with pytest.raises(ScoreError, match="nothing to pack"):
        pack(shards, tmp_path / "none", choose=lambda entry: False)
    with pytest.raises(ScoreError, match="too many for a pack of 500"):
        pack(shards, tmp_path / "small", 500)
    pack(shards, tmp_path / "once")
    with pytest.raises(ScoreError, match="is not empty"):
        pack(shards, tmp_path / "once")
