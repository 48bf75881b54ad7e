from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import EXAMPLE, ROOT, Run, draw_pdf, make_layout

from sf_plugin.errors import ScoreFollowerError
from sf_plugin.positions import Control, event_from_json
from sf_plugin.recording import open_recording
from sf_plugin.replay_command import ReplayedSound

DEMO = ROOT / "sf_plugin" / "demo_assets"
OTHERWISE = ("--start", "1:3", "--half-pages", "--lead", "2beats", "--order", "1-8,1-16")


@pytest.fixture(scope="module")
def recorded(
    tmp_path_factory: pytest.TempPathFactory, example_plugin: Path, wav: Path, layout_file: Path
) -> Path:
    """A folder with a score, the layout kept beside it, and a recorded session."""
    here = tmp_path_factory.mktemp("recorded")
    draw_pdf(here / "sonata.pdf", make_layout(2))
    shutil.copy(layout_file, here / "sonata.layout.json")
    program = Path(sys.executable).parent / "scorefollow"
    words = ["follow", "sonata.pdf", "--audio", wav, *EXAMPLE, *OTHERWISE, "--record", "takes"]
    subprocess.run(
        [str(program), *map(str, words)],
        cwd=here,
        check=True,
        env={**os.environ, "PYTHONPATH": str(example_plugin)},
    )
    return here


@pytest.fixture
def stage(recorded: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may spoil; the command runs here."""
    shutil.copytree(recorded, tmp_path, dirs_exist_ok=True)
    (folder,) = (tmp_path / "takes").iterdir()
    folder = folder.rename(tmp_path / "take")
    session = folder / "session.json"
    session.write_text(session.read_text().replace(str(recorded), str(tmp_path)))
    return tmp_path


def test_the_events_come_again_with_the_recorded_settings(scorefollow: Run, stage: Path) -> None:
    done = scorefollow("replay", "take", "--check", "--out", "again.jsonl")
    assert done.returncode == 0, done.stderr
    heard, verdict = done.stderr.splitlines()
    assert heard.startswith("0:16.5 heard, 1 page turn")
    events = (stage / "take" / "events.jsonl").read_bytes()
    assert (stage / "again.jsonl").read_bytes() == events
    assert verdict == f"all {events.count(10)} events are the same as recorded"
    assert b'"half":true' in events, "a setting that shows"


def test_a_layout_corrected_since_does_not_count(scorefollow_here: Run, stage: Path) -> None:
    (stage / "sonata.layout.json").write_text(make_layout(2, measures=3).to_json())
    done = scorefollow_here("replay", "take", "--check", "--realtime")
    assert done.returncode == 0, done.stderr
    assert "are the same as recorded" in done.stderr


@pytest.mark.parametrize(
    ("spoil", "differs"),
    [
        (lambda lines: [*lines[:100], *lines[101:]], "now:      {"),
        (lambda lines: [*lines, lines[-1]], "now:      nothing"),
        (lambda lines: lines[:-1], "recorded: nothing"),
        (lambda lines: [line.replace('"page":2', '"page":1') for line in lines], '"page":2'),
    ],
)
def test_an_event_that_is_another_is_found(
    scorefollow_here: Run, stage: Path, spoil: object, differs: str
) -> None:
    events = stage / "take" / "events.jsonl"
    lines = events.read_text().splitlines(keepends=True)
    events.write_text("".join(spoil(lines)))  # type: ignore[operator]
    done = scorefollow_here("replay", "take", "--check")
    assert done.returncode == 1
    assert "the events differ from those recorded, from 0:" in done.stderr
    assert differs in done.stderr
    assert scorefollow_here("replay", "take").returncode == 0


def test_a_score_that_was_moved_is_named(scorefollow_here: Run, stage: Path) -> None:
    (stage / "sonata.pdf").rename(stage / "moved.pdf")
    done = scorefollow_here("replay", "take", "--check")
    assert done.returncode == 2
    assert done.stderr.strip() == (
        f"scorefollow: {stage / 'sonata.pdf'}: is not there any more: name the score with --score"
    )
    done = scorefollow_here("replay", "take", "--check", "--score", "moved.pdf")
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr


def test_a_score_that_has_changed_is_followed_only_if_named(
    scorefollow_here: Run, stage: Path
) -> None:
    draw_pdf(stage / "sonata.pdf", make_layout(2, systems=3))
    done = scorefollow_here("replay", "take")
    assert done.returncode == 2
    assert "has changed since it was recorded: name the score with --score" in done.stderr
    done = scorefollow_here("replay", "take", "--score", "sonata.pdf")
    assert done.returncode == 0, done.stderr
    assert "warning: this is another score than was recorded" in done.stderr
    draw_pdf(stage / "long.pdf", make_layout(3))
    done = scorefollow_here("replay", "take", "--score", "long.pdf")
    assert done.returncode == 2
    assert "has 3 pages, the recorded score had 2" in done.stderr


def test_a_report_is_made_of_what_was_told(scorefollow_here: Run, stage: Path) -> None:
    (stage / "take" / "sound.flac").unlink()
    done = scorefollow_here("replay", "take", "--report", "sonata.html")
    assert done.returncode == 0, done.stderr
    page = (stage / "sonata.html").read_text()
    assert "followed through 2 pages" in page and "page turned" in page
    done = scorefollow_here("replay", "take", "--report", "else.html", "--check")
    assert done.returncode == 2 and "--report follows nothing" in done.stderr
    assert not (stage / "else.html").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["takes"], "is a folder of recordings: name one, such as 'takes/20"),
        (["nowhere"], "there is no such folder"),
        (["empty"], "holds no recording"),
        (["take", "--weights", "w.safetensors"], "--weights are for the follower unet"),
    ],
)
def test_what_cannot_be_replayed_is_said(
    scorefollow_here: Run, stage: Path, recorded: Path, words: list[str], message: str
) -> None:
    shutil.copytree(recorded / "takes", stage / "takes", dirs_exist_ok=True)
    (stage / "empty").mkdir()
    done = scorefollow_here("replay", *words)
    assert done.returncode == 2
    assert message in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("events.jsonl", '{"type":"control","time":1.0,"act'),
        ("pace.jsonl", '{"time":1.0,"hu'),
        ("pace.jsonl", '{"hurry":2}'),
        ("pace.jsonl", "hurry"),
    ],
)
def test_a_damaged_line_is_named(stage: Path, file: str, line: str) -> None:
    path = stage / "take" / file
    whole = path.read_text() if path.exists() else ""
    path.write_text(f"{whole}{line}\n")
    count = len(whole.splitlines()) + 1
    with pytest.raises(ScoreFollowerError, match=f"{file}: line {count} is damaged"):
        list(ReplayedSound(open_recording(stage / "take")).blocks(8000))


def test_wishes_are_put_with_their_samples(stage: Path) -> None:
    """Also those of one moment, and at another rate than was recorded."""
    events = stage / "take" / "events.jsonl"
    wishes = [
        Control(0.0, "pause"),
        Control(1000 / 8000, "show", 2),
        Control(1000 / 8000, "resume"),
        Control(1001 / 8000, "goto", 1, 0.5, 0.25),
    ]
    events.write_text("".join(wish.to_json() + "\n" for wish in wishes))
    assert [event_from_json(line) for line in events.read_text().splitlines()] == wishes
    for rate, at in ((8000, [0, 1000, 1000, 1001]), (16000, [0, 2000, 2000, 2002])):
        heard = 0
        came: list[tuple[int, Control]] = []

        class Listener:
            def wish(self, control: Control) -> None:
                came.append((heard, control))  # noqa: B023

        sound = ReplayedSound(open_recording(stage / "take"))
        sound.controls = Listener()  # type: ignore[assignment]
        for block in sound.blocks(rate):
            heard += len(block)
        assert heard == 132000 * rate // 8000
        assert came == list(zip(at, wishes, strict=True))


def test_the_network_says_the_same_again(scorefollow_here: Run, tmp_path: Path) -> None:
    sound, rate = soundfile.read(DEMO / "take.ogg", frames=5 * 44100)
    soundfile.write(tmp_path / "short.wav", sound.astype(np.float32), rate, subtype="FLOAT")
    done = scorefollow_here(
        "follow", DEMO / "score.pdf", "--audio", "short.wav", "--record", "takes", "--pages", "1"
    )
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "takes").iterdir()
    kept = json.loads((folder / "session.json").read_text())
    assert kept["settings"]["layout"] is None and kept["sound"]["rate"] == 22050
    done = scorefollow_here("replay", folder, "--check")
    assert done.returncode == 0, done.stderr
    weights = shutil.copy(kept["settings"]["weights"]["path"], tmp_path / "mine.safetensors")
    done = scorefollow_here("replay", folder, "--check", "--weights", weights, "--html", "r.html")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "r.html").exists()
    kept["settings"]["weights"]["sha256"] = "0" * 64
    (folder / "session.json").write_text(json.dumps(kept))
    done = scorefollow_here("replay", folder)
    assert "the follower has other weights than when this was recorded" in done.stderr
