from __future__ import annotations

import json
import logging
import os
import resource
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pymupdf
import pytest
import soundfile
from conftest import EXAMPLE, ROOT, Run, make_layout
from numpy.typing import NDArray

from sf_adapters.jsonl import JsonLines
from sf_plugin.api import Samples, make_mapper
from sf_plugin.controls import Controls
from sf_plugin.errors import AudioError, ScoreFollowerError, SinkError
from sf_plugin.followers import Follower
from sf_plugin.page_turns import Lead
from sf_plugin.positions import Control, Event, Position, StateChange
from sf_plugin.recording import RecordedSession, Settings, open_recording
from sf_plugin.replay_command import Comparison, Replay
from sf_plugin.score.load import load_score
from sf_plugin.score.model import Score
from sf_plugin.sinks import Sink

DEMO = ROOT / "sf_plugin" / "demo_assets"


@pytest.fixture
def settings(score: Score) -> Settings:
    return Settings(score=(), pages=len(score.pages), follower="constant-tempo")


class Uneven(Samples):
    """Sound that comes in blocks of any size, as from a device."""

    def __init__(self, *args: Any, live: bool = False) -> None:
        super().__init__(*args)
        self.live = live

    def blocks(self, sample_rate: int) -> Iterator[NDArray[np.float32]]:
        sizes = np.random.default_rng(7)
        for block in super().blocks(sample_rate):
            while len(block):
                size = int(sizes.integers(1, 700))
                yield block[:size]
                block = block[size:]


class Player(Sink):
    """Someone at the controls: does things when so many positions have been told."""

    def __init__(self, **when: int) -> None:
        self.when = when
        self.told = 0
        self.controls: Controls | None = None

    def attach(self, controls: Controls) -> None:
        self.controls = controls

    def emit(self, event: Event) -> None:
        assert self.controls is not None
        self.told += isinstance(event, Position)
        if isinstance(event, Position):
            for name, at in self.when.items():
                if at == self.told:
                    self.act(self.controls, name)

    def act(self, controls: Controls, name: str) -> None:
        match name.split("_"):
            case ["goto", number]:
                controls.goto(int(number))
            case ["show", page]:
                controls.show(int(page))
            case ["both"]:
                controls.next_page()
                controls.point(1, 0.5, 0.3)
            case [action]:
                getattr(controls, action)()


WISHES = {
    "goto_11": 40,
    "pause": 71,
    "resume": 99,
    "show_2": 130,
    "both": 171,
    "reset": 203,
    "goto_3": 204,
    "previous": 999,
}


def overhear(follower: Follower) -> list[NDArray[np.float32]]:
    heard: list[NDArray[np.float32]] = []
    feed = follower.feed

    def hear(samples: NDArray[np.float32]) -> Any:
        heard.append(samples.copy())
        return feed(samples)

    follower.feed = hear  # type: ignore[method-assign]
    return heard


def record(folder: Path, settings: Settings, *rest: Any, **named: Any) -> Path:
    """The folder of a recorded session."""
    session = RecordedSession(folder, settings, *rest, **named)
    session.run()
    assert session.recording.folder is not None
    return session.recording.folder


def replay(folder: Path, out: Path, follower: Follower, score: Score, **named: Any) -> str:
    """The verdict; the events are in `out`."""
    recall = open_recording(folder)
    comparison = Comparison(recall)
    sinks = [("out", JsonLines(str(out))), ("comparison", comparison)]
    Replay(recall, follower, make_mapper(), score, sinks, **named).run()
    return comparison.verdict


def test_a_session_is_heard_and_told_again_bit_for_bit(
    follower: Follower, score: Score, take: Any, settings: Settings, tmp_path: Path
) -> None:
    heard = overhear(follower)
    sinks = [("player", Player(**WISHES))]
    folder = record(tmp_path, settings, Uneven(*take), follower, make_mapper(), score, sinks)
    recall = open_recording(folder)
    fed, written = np.concatenate(heard), np.concatenate(list(recall.sound()))
    playing = np.ones(len(fed), bool)
    paused = [c.time for c in recall.controls() if c.action in ("pause", "resume")]
    playing[slice(*(round(t * follower.sample_rate) for t in paused))] = False
    assert 0 < (~playing).sum() < len(fed)
    assert np.array_equal(fed[playing], written[playing])
    assert not fed[~playing].any() and written[~playing].any()
    controls = [event.action for event in recall.controls()]
    assert controls == ["goto", "pause", "resume", "show", "show", "goto", "reset", "goto"]
    assert any(c.time * 40 % 1 > 0.01 for c in recall.controls()), "wishes between frames"
    told = replay(folder, tmp_path / "again.jsonl", follower, score)
    events = (folder / "events.jsonl").read_bytes()
    assert (tmp_path / "again.jsonl").read_bytes() == events
    assert told == f"all {len(events.splitlines())} events are the same as recorded"


def test_a_wish_one_sample_later_makes_another_session(
    follower: Follower, score: Score, take: Any, settings: Settings, tmp_path: Path
) -> None:
    """What the check is worth."""
    sinks = [("player", Player(goto_11=40))]
    folder = record(tmp_path, settings, Uneven(*take), follower, make_mapper(), score, sinks)
    lines = (folder / "events.jsonl").read_text().splitlines(keepends=True)
    (number,) = [n for n, line in enumerate(lines) if '"control"' in line]
    control = json.loads(lines[number])
    control["time"] += 1 / follower.sample_rate
    lines[number] = json.dumps(control, separators=(",", ":")) + "\n"
    (folder / "events.jsonl").write_text("".join(lines))
    assert "differ" in replay(folder, tmp_path / "later.jsonl", follower, score)
    again = (tmp_path / "later.jsonl").read_text().splitlines(keepends=True)
    assert again[: number + 1] == lines[: number + 1]
    assert json.loads(again[number + 1])["time"] == control["time"]
    del lines[number]
    (folder / "events.jsonl").write_text("".join(lines))
    assert "differ" in replay(folder, tmp_path / "without.jsonl", follower, score)


def test_a_session_that_is_stopped_ends_there_again(
    follower: Follower, score: Score, take: Any, settings: Settings, tmp_path: Path
) -> None:
    sinks = [("player", Player(stop=33))]
    folder = record(tmp_path, settings, Uneven(*take), follower, make_mapper(), score, sinks)
    recall = open_recording(folder)
    assert (recall.ended, recall.whole) == ("stopped", True)
    last = list(recall.events())[-1]
    assert isinstance(last, Control) and last.action == "stop"
    assert "are the same" in replay(folder, tmp_path / "again.jsonl", follower, score)
    assert (tmp_path / "again.jsonl").read_bytes() == (folder / "events.jsonl").read_bytes()


def test_what_is_kept_says_how_it_was(
    scorefollow: Run, tmp_path: Path, pdf: Path, wav: Path, layout_file: Path
) -> None:
    words = ("--order", "1-8,1-16", "--lead", "2beats", "--layout", layout_file)
    done = scorefollow("follow", pdf, "--audio", wav, *EXAMPLE, *words, "--record", "takes")
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "takes").iterdir()
    assert folder.name.endswith(" score")
    names = {"session.json", "sound.flac", "events.jsonl", "layout.json"}
    assert set(os.listdir(folder)) == names
    kept = json.loads((folder / "session.json").read_text())
    assert kept["ended"] == "end of sound" and kept["seconds"] == 16.5
    assert kept["sound"] == {"from": str(wav), "live": False, "rate": 8000}
    told = kept["settings"]
    assert (told["order"], told["lead"], told["follower"]) == ("1-8,1-16", "2beats", EXAMPLE[1])
    assert told["score"][0]["path"] == str(pdf)
    assert len(told["score"][0]["sha256"]) == 64
    assert kept["started"].endswith("+00:00")
    assert kept["events"] == len((folder / "events.jsonl").read_text().splitlines())
    with soundfile.SoundFile(folder / "sound.flac") as sound:
        assert (sound.samplerate, sound.channels, sound.subtype) == (8000, 1, "PCM_24")
        assert sound.frames == 132000
    recall = open_recording(folder)
    assert recall.settings.layout == recall.layout() == make_layout(2)
    assert json.loads(json.dumps(recall.settings.to_dict())) == told


def test_sessions_of_one_second_have_folders_of_their_own(
    follower: Follower, score: Score, settings: Settings, tmp_path: Path
) -> None:
    short = (np.zeros(800), 8000)
    rest = (follower, make_mapper(), score)
    folders = {record(tmp_path, settings, Samples(*short), *rest) for _ in range(12)}
    assert len(folders) == 12 == len(os.listdir(tmp_path))


def test_a_folder_that_cannot_be_made_ends_the_session_first(
    follower: Follower, score: Score, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    source = Samples(np.zeros(800), 8000)
    session = RecordedSession(tmp_path / "file", settings, source, follower, make_mapper(), score)
    with pytest.raises(SinkError, match="no recording can be kept there"):
        session.run()


def test_warnings_are_kept(
    follower: Follower, score: Score, settings: Settings, tmp_path: Path
) -> None:
    class Complaint(Sink):
        def attach(self, controls: Controls) -> None:
            logging.getLogger("sf_adapters.midi").warning("before there\nis a folder")

        def emit(self, event: Event) -> None:
            if isinstance(event, StateChange):
                logging.getLogger("sf_plugin").error("cable pulled")

    class Early(Samples):
        def __enter__(self) -> Early:
            logging.getLogger("sf_plugin").warning("too early")
            return self

    sound = np.sin(np.arange(16000) / 3)
    rest = (follower, make_mapper(), score, [("warn", Complaint())])
    folder = record(tmp_path, settings, Early(sound, 8000), *rest)
    lines = [line.split(" ", 1) for line in (folder / "log.txt").read_text().splitlines()]
    assert [text for _, text in lines] == [
        "warning too early",
        "warning before there is a folder",
        "error cable pulled",
    ]
    assert all(when.endswith("+00:00") for when, _ in lines)


# live, and killed


class Live(Uneven):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args, live=True)


def test_a_warning_from_after_its_end_is_kept(
    follower: Follower, score: Score, settings: Settings, tmp_path: Path
) -> None:
    class Late(Sink):
        def close(self) -> None:
            for _ in range(500):
                if session.recording.ended is not None:
                    break
                time.sleep(0.01)
            time.sleep(0.2)
            raise SinkError("the disk is full: free some space")

    sound = np.sin(np.arange(16000) / 3)
    rest = (Live(sound, 8000), follower, make_mapper(), score, [("late", Late())])
    session = RecordedSession(tmp_path, settings, *rest)
    session.run()
    assert session.recording.folder is not None
    log = (session.recording.folder / "log.txt").read_text()
    assert log.endswith("error 'late' failed and is dropped: the disk is full: free some space\n")


@pytest.fixture(scope="module")
def long_pdf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's pages and two of them again: more than are read before following begins."""
    path = tmp_path_factory.mktemp("long") / "long.pdf"
    with pymupdf.open(DEMO / "score.pdf") as pages, pymupdf.open() as document:
        document.insert_pdf(pages)
        document.insert_pdf(pages, to_page=1)
        document.save(path)
    return path


class Busy(Live):
    """Sound of which some waits now and then, as where the computer is too slow."""

    def blocks(self, sample_rate: int) -> Iterator[NDArray[np.float32]]:
        waits = {20: 0.3, 27: 0.7, 33: 0.15, 40: 0.0, 70: 1.2, 78: 0.0}
        for number, block in enumerate(super().blocks(sample_rate)):
            self.waiting_seconds = waits.get(number, self.waiting_seconds)
            yield block


@pytest.mark.slow
def test_pages_read_meanwhile_and_frames_passed_over_come_again(
    long_pdf: Path, tmp_path: Path
) -> None:
    from sf_plugin.unet.follower import UNetFollower

    sound, rate = soundfile.read(DEMO / "take.ogg", frames=6 * 44100)
    score = load_score(long_pdf)
    settings = Settings(score=(), pages=len(score.pages))
    player = Player(goto_40=60, show_3=113, reset=170)
    follower = UNetFollower()

    class Waiting(Busy):
        """Waits at one place until more pages have been read."""

        def blocks(self, sample_rate: int) -> Iterator[NDArray[np.float32]]:
            for number, block in enumerate(super().blocks(sample_rate)):
                while number == 200 and not pages_known():
                    time.sleep(0.05)
                    yield np.zeros(0, np.float32)
                yield block

    def pages_known() -> int:
        return sum(page is not None for page in follower.pages) > 3

    rest = (follower, make_mapper(), score, [("player", player)])
    folder = record(tmp_path, settings, Waiting(sound, rate), *rest)
    recall = open_recording(folder)
    assert recall.pages_known(), "no page was read meanwhile"
    assert [hurry for _, hurry in recall.hurries()] == [2, 4, 1, 8, 1]
    told = replay(folder, tmp_path / "again.jsonl", UNetFollower(), score)
    assert (tmp_path / "again.jsonl").read_bytes() == (folder / "events.jsonl").read_bytes()
    assert "are the same" in told
    (folder / "pace.jsonl").unlink()
    assert "differ" in replay(folder, tmp_path / "else.jsonl", UNetFollower(), score)


def follow_live(
    pdf: Path, wav: Path, tmp_path: Path, site: Path, layout_file: Path, **options: Any
) -> subprocess.Popen[str]:
    """`scorefollow follow --record takes` at the speed of the music."""
    program = Path(sys.executable).parent / "scorefollow"
    words = ("--layout", layout_file, "--realtime", *EXAMPLE, "--record", "takes")
    return subprocess.Popen(
        [str(program), "follow", str(pdf), "--audio", str(wav), *map(str, words)],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(site)},
        **options,
    )


def wait_for_events(process: subprocess.Popen[str], parent: Path, count: int) -> Path:
    """The folder, when so many events are on the disk."""
    for _ in range(1200):
        for path in parent.glob("*/events.jsonl"):
            if path.read_bytes().count(b"\n") >= count:
                return path.parent
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("nothing is recorded")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_recording_that_is_interrupted_is_complete(
    pdf: Path,
    wav: Path,
    tmp_path: Path,
    example_plugin: Path,
    layout_file: Path,
    scorefollow: Run,
    number: signal.Signals,
) -> None:
    process = follow_live(pdf, wav, tmp_path, example_plugin, layout_file)
    folder = wait_for_events(process, tmp_path / "takes", 40)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "heard" in said and "Traceback" not in said
    kept = json.loads((folder / "session.json").read_text())
    assert kept["ended"] == "interrupted"
    with soundfile.SoundFile(folder / "sound.flac") as sound:
        assert sound.frames / 8000 == kept["seconds"]
    assert kept["events"] == (folder / "events.jsonl").read_bytes().count(b"\n")
    assert not list(folder.glob("*.part"))
    done = scorefollow("replay", folder, "--check")
    assert done.returncode == 0, done.stderr
    assert f"all {kept['events']} events are the same as recorded, up to 0:" in done.stderr


def test_a_recording_that_is_killed_can_be_replayed(
    pdf: Path, wav: Path, tmp_path: Path, example_plugin: Path, layout_file: Path, scorefollow: Run
) -> None:
    process = follow_live(pdf, wav, tmp_path, example_plugin, layout_file)
    folder = wait_for_events(process, tmp_path / "takes", 100)
    process.kill()
    process.communicate()
    recall = open_recording(folder)
    assert (recall.ended, recall.seconds) == (None, None)
    told = list(recall.events())[-1].time
    sound = sum(map(len, recall.sound())) / 8000
    assert told >= 4.5 and sound > told - 1.0
    done = scorefollow("replay", folder, "--check", "--out", "again.jsonl")
    assert done.returncode == 0, done.stderr
    assert "are the same as recorded, up to 0:0" in done.stderr
    again = (tmp_path / "again.jsonl").read_bytes()
    recorded = (folder / "events.jsonl").read_bytes()
    shorter = min(len(again), recorded.rindex(b"\n"))
    assert again[:shorter] == recorded[:shorter]
    done = scorefollow("replay", folder, "--report", "report.html")
    assert done.returncode == 0, done.stderr
    assert "</html>" in (tmp_path / "report.html").read_text()


def test_a_full_disk_ends_the_recording_and_not_the_session(
    pdf: Path, wav: Path, tmp_path: Path, example_plugin: Path, layout_file: Path, scorefollow: Run
) -> None:
    """The kernel refuses to make files larger than so much, as a full disk does."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    process = follow_live(pdf, wav, tmp_path, example_plugin, layout_file, preexec_fn=limit)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1, said
    assert "'record' failed and is dropped" in said
    assert "the recording ends here, what was written is kept" in said
    assert "0:16.5 heard, 1 page turn, ended in measure 16" in said
    (folder,) = (tmp_path / "takes").iterdir()
    recall = open_recording(folder)
    assert recall.ended == "failed"
    assert sum(map(len, recall.sound())) > 8000
    assert scorefollow("replay", folder, "--check").returncode == 0


@pytest.mark.parametrize("kept", [0, 3, 50, 100, 9_000, 20_001])
def test_sound_is_read_as_far_as_it_goes(
    follower: Follower, score: Score, take: Any, settings: Settings, tmp_path: Path, kept: int
) -> None:
    rest = (Samples(*take), follower, make_mapper(), score)
    folder = record(tmp_path, settings, *rest)
    sound = folder / "sound.flac"
    whole = np.concatenate(list(open_recording(folder).sound()))
    sound.write_bytes(sound.read_bytes()[:kept])
    with pytest.raises(AudioError, match=r"sound\.flac: cannot be read after"):
        list(open_recording(folder).sound())
    session = folder / "session.json"
    session.write_text(session.read_text().replace('"end of sound"', "null"))
    if kept < 9_000:
        with pytest.raises(AudioError, match=r"sound\.flac: cannot be read after 0\.0 s"):
            list(open_recording(folder).sound())
        return
    read = np.concatenate(list(open_recording(folder).sound()))
    assert len(read) and np.array_equal(read, whole[: len(read)])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:40], "is damaged or no session"),
        (lambda text: text.replace('"version": 1', '"version": 99', 1), "recorded as version 99"),
        (lambda text: text.replace('"sha256"', '"sha1"'), "is damaged or no session"),
        (lambda text: "[]", "is damaged or no session"),
    ],
)
def test_what_is_no_recording_is_said(
    scorefollow: Run, tmp_path: Path, pdf: Path, wav: Path, damage: Any, message: str
) -> None:
    done = scorefollow("follow", pdf, "--audio", wav, *EXAMPLE, "--record", "takes")
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "takes").iterdir()
    path = folder / "session.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(ScoreFollowerError, match=message):
        open_recording(folder)


def test_settings_are_those_of_the_command(pdf: Path, tmp_path: Path) -> None:
    args = Namespace(
        score=[pdf], pages="1-1", order="", start="1:2", symbols=None, lead=Lead.parse("1.5"),
        half_pages=True, follower="unet", mapper="plain",
    )  # fmt: skip
    settings = Settings.of(args, load_score(pdf))
    assert Settings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
    assert (settings.lead, settings.chosen, settings.start) == ("1.5s", "1-1", "1:2")
    assert settings.weights is not None and settings.weights.path.endswith(".safetensors")
