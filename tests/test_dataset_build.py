"""`scorefollow dataset` through the real command line, on small sources of our own."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sf_plugin.cli import main
from sf_plugin.dataset import sources
from sf_plugin.dataset.build import Task, counts, run
from sf_plugin.dataset.registry import Registry
from sf_plugin.dataset.shards import ShardSet
from sf_plugin.errors import ScoreError

TUNE = "c'4 e' g' c'' b' g' e' d' f' a' d'' b' g' b' d'' g'' e'' c'' a' f' d' b c'1"


def lilypond(notes: str) -> str:
    return (
        '\\version "2.24.0"\n\\score { \\new PianoStaff <<\n'
        f"\\new Staff {{ \\time 4/4 {notes} }}\n"
        "\\new Staff { \\clef bass \\repeat unfold 6 { c4 g e g } }\n>> \\layout { } }\n"
    )


MUSICXML = """<?xml version="1.0" encoding="UTF-8"?>
<score-partwise version="3.1"><part-list><score-part id="P1"><part-name>Piano</part-name>
</score-part></part-list><part id="P1">
{measures}</part></score-partwise>"""


def musicxml(steps: str) -> str:
    measures = ""
    for number in range(0, len(steps), 4):
        first = "<attributes><divisions>1</divisions><time><beats>4</beats><beat-type>4</beat-type>"
        first += "</time><clef><sign>G</sign><line>2</line></clef></attributes>"
        notes = "".join(
            f"<note><pitch><step>{step}</step><octave>4</octave></pitch><duration>1</duration>"
            "<type>quarter</type></note>"
            for step in steps[number : number + 4]
        )
        measures += (
            f'<measure number="{number // 4 + 1}">{first if not number else ""}{notes}</measure>\n'
        )
    return MUSICXML.format(measures=measures)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of LilyPond pieces: one for training, one held out, one not free, one broken."""
    folder = tmp_path_factory.mktemp("tree")
    other = "g'4 f' e' d' c' d' e' f' g' a' b' a' g' a' g' e' c' e' d' f' e' g' f'1"
    texts = {"A/one": lilypond(TUNE), "A/copy": lilypond(f"\\transpose c d {{ {TUNE} }}"),
             "B/paid": lilypond(other), "C/broken": '\\version "2.24.0"\n{ \\nonsense'}  # fmt: skip
    rows = []
    for name, text in texts.items():
        file = folder / f"{name}.ly"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        licence = "All rights reserved" if "paid" in name else "Public Domain"
        rows.append({"path": f"{name}.ly", "title": name, "license": licence})
    (folder / "manifest.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture(scope="module")
def built(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "set"
    assert main(["dataset", "engrave", str(tree), str(out), "--vary", "1"]) == 0
    return out


def test_a_set_has_every_piece_with_its_use(built: Path) -> None:
    shards = ShardSet(built)
    found = {e.name: (e.use, e.facts["engraver"], e.facts["vary"]) for e in shards.entries}
    assert found == {
        "A__copy--0": ("train", "lilypond", 0),
        "A__copy--1": ("train", "lilypond", 1),
        "A__one--0": ("train", "lilypond", 0),
        "A__one--1": ("train", "lilypond", 1),
        "B__paid--0": ("licence", "lilypond", 0),
    }
    assert shards.verify() == []


def test_what_fails_is_reported_with_its_reason(built: Path) -> None:
    report = json.loads((built / "report.json").read_text())
    assert [(f["piece"], f["vary"]) for f in report["failures"]] == [("C/broken", 0)]
    assert report["failures"][0]["reason"]
    assert "unexpected" not in report["failures"][0]["reason"]
    assert "C/broken" in (built / "report.md").read_text()
    assert report["counts"] == counts(ShardSet(built))
    assert report["counts"]["train"]["pieces"] == 2
    assert report["counts"]["all"]["notes"] == sum(e.notes for e in ShardSet(built).entries)


def test_the_bytes_do_not_depend_on_who_worked(
    built: Path, tree: Path, tmp_path: Path, cluster: str
) -> None:
    index = (built / "index.json").read_bytes()
    for name, words in (("processes", ["--jobs", "2"]), ("cluster", ["--scheduler", cluster])):
        out = tmp_path / name
        assert main(["dataset", "engrave", str(tree), str(out), "--vary", "1", *words]) == 0
        assert (out / "index.json").read_bytes() == index


def test_an_interrupted_build_goes_on(built: Path, tree: Path, tmp_path: Path) -> None:
    out, copy = tmp_path / "set", tmp_path / "tree"
    shutil.copytree(tree, copy)
    words = ["dataset", "engrave", str(copy), str(out), "--vary", "1"]
    code = f"import sys\nfrom sf_plugin.cli import main\nsys.exit(main({words!r}))"
    running = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    while not (kept := list(out.glob("pending/*.zip"))):
        assert running.poll() is None
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    assert running.wait(60) == 130
    assert not (out / "index.json").exists()
    (copy / "A" / "copy.ly").write_text("engraved once, not again")
    assert kept[0].name == "A__copy--0.zip"
    assert main(words[:-2]) == 0
    there = {e.name: e.sha256 for e in ShardSet(out).entries}
    assert there.items() <= {e.name: e.sha256 for e in ShardSet(built).entries}.items()
    assert set(there) == {"A__copy--0", "A__one--0", "B__paid--0"}


def test_a_packed_source_needs_no_tree(tree: Path) -> None:
    with sources.opened([tree]) as found:
        source = next(s for s in found if s.piece == "A/one")
        here = run(Task(source, 0), Registry(()))
        moved = sources.Source(source.piece, Path("/nowhere"), source.file, source.title,
                               source.composer, source.licence)  # fmt: skip
        there = run(Task(moved, 0, source.packed()), Registry(()))
    assert here.reason == there.reason == ""
    assert here.packed == there.packed
    assert here.packed is not None


def test_symbolic_scores_are_engraved_too(tmp_path: Path) -> None:
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores" / "tune.musicxml").write_text(musicxml("CEGECDEFGFEDCDEC"))
    out = tmp_path / "set"
    assert main(["dataset", "engrave", str(tmp_path / "scores"), str(out), "--licence", "CC0"]) == 0
    (entry,) = ShardSet(out).entries
    assert (entry.use, entry.facts["engraver"], entry.notes) == ("train", "verovio", 16)
    assert ShardSet(out).load(entry.name).notes["pitch"][:4].tolist() == [60, 64, 67, 64]


def test_a_piece_can_be_held_out_in_any_key(built: Path, tree: Path, tmp_path: Path) -> None:
    registry, out = tmp_path / "held.json", tmp_path / "set"
    held = ["dataset", "hold-out", str(built), str(registry), "--pieces", "A/one"]
    assert main(held) == 0
    assert main(["dataset", "engrave", str(tree), str(out), "--registry", str(registry)]) == 0
    uses = {e.name: e.use for e in ShardSet(out).entries}
    assert uses == {"A__one--0": "test", "A__copy--0": "same", "B__paid--0": "licence"}


def test_a_take_is_what_was_asked_for(built: Path, tmp_path: Path) -> None:
    import soundfile

    words = ["dataset", "perform", str(built), "--pieces", "A__one--0", "--style", "human"]
    for name in ("first", "second"):
        assert main([*words[:3], str(tmp_path / name), *words[3:]]) == 0
    take = tmp_path / "first" / "A__one--0"
    assert {f.name for f in take.iterdir()} == {
        "page-1.png", "performance.flac", "performance.mid", "truth.csv", "layout.json",
        "happenings.json",
    }  # fmt: skip
    for file in take.iterdir():
        assert file.read_bytes() == (tmp_path / "second" / "A__one--0" / file.name).read_bytes()
    with (take / "truth.csv").open() as file:
        rows = list(csv.DictReader(file))
    times = [float(row["time"]) for row in rows]
    assert times == sorted(times)
    assert len(rows) == 24
    sound, rate = soundfile.read(take / "performance.flac")
    assert len(sound) / rate > times[-1]
    assert np.abs(sound).max() > 0.01


def test_what_a_set_holds_can_be_seen(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dataset", "list", str(built), "--names"]) == 0
    assert "B__paid--0" in capsys.readouterr().out
    picture = tmp_path / "page.png"
    assert main(["dataset", "show", str(built), "A__one--0", str(picture)]) == 0
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    heads = (pixels[..., 0] > 200) & (pixels[..., 1] < 70) & (pixels[..., 2] < 60)
    assert heads.sum() > 24 * 40
    assert main(["dataset", "pack", str(built), str(tmp_path / "packs"), "--use", "train"]) == 0
    assert len(ShardSet(tmp_path / "packs")) == 4
    assert main(["dataset", "verify", str(tmp_path / "packs")]) == 0


def test_damage_is_found(built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in built.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    shard = next(tmp_path.glob("shard-*"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    assert main(["dataset", "verify", str(tmp_path)]) == 1
    assert "damaged" in capsys.readouterr().err


def test_bad_sources_are_told_what_to_do(tmp_path: Path) -> None:
    for name, text in (("a.txt", "no score"), ("b.tar.gz", "no archive")):
        file = tmp_path / name
        file.write_text(text)
        with pytest.raises(ScoreError, match=name), sources.opened([file]):
            pass
    with pytest.raises(ScoreError, match="no scores there"), sources.opened([tmp_path]):
        pass
    (tmp_path / "manifest.json").write_text('[{"title": "no path"}]')
    with pytest.raises(ScoreError, match="is no manifest"), sources.opened([tmp_path]):
        pass


@pytest.mark.parametrize(
    "words",
    [
        ["perform", "SET", "OUT", "--style", "nonsense"],
        ["perform", "SET", "OUT", "--pieces", "nonsense"],
        ["show", "SET", "nonsense", "OUT.png"],
        ["show", "SET", "A__one--0", "OUT.png", "--page", "9"],
        ["hold-out", "SET", "OUT", "--pieces", "nonsense"],
        ["hold-out", "SET", "OUT", "--use", "train", "--pieces", "A*"],
        ["list", "OUT"],
    ],
)
def test_bad_words_are_told_what_to_do(words: list[str], built: Path, tmp_path: Path) -> None:
    put = {"SET": str(built), "OUT": str(tmp_path / "out"), "OUT.png": str(tmp_path / "out.png")}
    assert main(["dataset", *(put.get(word, word) for word in words)]) == 2
