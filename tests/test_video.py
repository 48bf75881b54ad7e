from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import Run, make_layout
from numpy.typing import NDArray

from sf_adapters.video import FPS, MARK, Box, Picture, Video, choose_encoder, next_to, yuv
from sf_plugin.errors import SinkError
from sf_plugin.positions import PageTurn, Position, State
from sf_plugin.score.model import Pages, Score

LAYOUT = make_layout(3)
HEIGHT, WIDTH = 240, 426


def paper(index: int) -> NDArray[np.uint8]:
    """White; the second page has a black foot, the third a black head."""
    image = np.full((1200, 848), 255, np.uint8)
    image[1100:] = 0 if index == 1 else 255
    image[:60] = 0 if index == 2 else 255
    return image


def score(pages: int = 3) -> Score:
    return Score("trio", Pages(pages, paper), LAYOUT)


def play(sink: Video, seconds: float = 6.0, state: State = "tracking", pages: int = 3) -> None:
    """Half a second of waiting, then half a second in each measure; a turn at 4 s."""
    sink.open(score(pages), LAYOUT)
    places = [
        (page.page, number, system, measure)
        for page in LAYOUT.pages
        for number, system in enumerate(page.systems, 1)
        for measure in system.measures
    ]
    for frame in range(round(seconds * 40)):
        time = (frame + 1) / 40
        page, number, system, measure = places[int(max(time - 0.5, 0) * 2)]
        y = (system.top + system.bottom) / 2
        x = measure.left + (2 * (time - 0.5) % 1) * (measure.right - measure.left)
        heard: State = "waiting" if time < 0.5 else state
        sink.emit(
            Position(time, page, x, y, number, measure.number, None, 1, None, None, 0.9, heard)
        )
        if frame == 160:
            sink.emit(PageTurn(time, 2, 0.5))


def probe(path: Path) -> dict[str, dict[str, str]]:
    """What ffprobe says of each kind of stream."""
    done = subprocess.run(
        ["ffprobe", "-v", "error", "-show_streams", "-of", "json", str(path)],
        capture_output=True,
        check=True,
    )
    return {stream["codec_type"]: stream for stream in json.loads(done.stdout)["streams"]}


def frames(path: Path) -> NDArray[np.uint8]:
    """(n, height, width, 3), red, green and blue."""
    done = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"],
        capture_output=True,
        check=True,
    )
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, HEIGHT, WIDTH, 3)


def marked(frame: NDArray[np.uint8]) -> tuple[float, float, float, float] | None:
    """Left, top, right, bottom of what is blue on the pages, in pixels."""
    blue = frame[..., 2].astype(int) - frame[..., 0]
    rows, columns = np.nonzero((blue > 20) & (frame[..., 2] > 100))
    if not len(rows):
        return None
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "trio.mp4"
    with Video(f"{path},{HEIGHT}") as sink:
        play(sink)
        assert not path.exists()
    return path


def test_players_find_h264_of_25_frames_a_second(video: Path) -> None:
    stream = probe(video)["video"]
    assert (stream["codec_name"], stream["pix_fmt"]) == ("h264", "yuv420p")
    assert (stream["width"], stream["height"]) == (WIDTH, HEIGHT)
    assert stream["r_frame_rate"] == f"{FPS}/1"
    assert len(frames(video)) == 6 * FPS
    assert os.listdir(video.parent) == ["trio.mp4"]


def test_the_measure_is_marked_when_it_is_played(video: Path) -> None:
    """Two A4 pages, 230 pixels high, left and right of the middle."""
    shown = frames(video)
    assert marked(shown[2]) is None
    tall = HEIGHT - 2 * 0.02 * HEIGHT
    wide = tall * 848 / 1200
    left = WIDTH / 2 - 0.01 * HEIGHT - wide
    for measure in (0, 3, 4, 7):
        frame = shown[round((0.75 + measure / 2) * FPS)]
        box = marked(frame)
        system = LAYOUT.pages[0].systems[measure // 4]
        bar = system.measures[measure % 4]
        assert box is not None
        assert box[0] == pytest.approx(left + bar.left * wide, abs=4)
        assert box[2] == pytest.approx(left + bar.right * wide, abs=4)
        assert box[1] < (system.top + 0.05) * HEIGHT < system.bottom * HEIGHT < box[3]
    on_the_second = marked(shown[round(4.9 * FPS)])
    assert on_the_second is not None and on_the_second[0] > WIDTH / 2


def test_pages_are_turned_when_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "trio.mkv"
    with Video(f"{path},{HEIGHT}") as sink:
        play(sink, 2.0)
        sink.emit(PageTurn(2.0, 3, 0.5))
        play_on = Position(2.5, 2, 0.5, 0.2, 1, 9, None, 1, None, None, 0.9, "tracking")
        sink.emit(play_on)
        sink.emit(Position(3.0, 2, 0.5, 0.2, 1, 9, None, 1, None, None, 0.9, "tracking"))
    shown = frames(path)
    head, foot, left, right = 8, HEIGHT - 12, WIDTH // 4 + 30, 3 * WIDTH // 4 - 30
    dark = lambda frame, y, x: frame[y, x].max() < 80  # noqa: E731
    assert not dark(shown[30], head, left) and dark(shown[30], foot, right)
    assert dark(shown[-1], head, left) and dark(shown[-1], foot, right)


def test_the_sound_is_the_recordings(tmp_path: Path, wav: Path) -> None:
    path = tmp_path / "trio.mp4"
    with Video(f"{path},{HEIGHT}") as sink:
        sink.with_sound(wav)
        play(sink)
    streams = probe(path)
    assert streams["audio"]["codec_name"] == "aac"
    assert float(streams["video"]["duration"]) == pytest.approx(6.0, abs=0.05)
    assert float(streams["audio"]["duration"]) == pytest.approx(6.0, abs=0.3)
    done = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", str(path), "-f", "f32le", "-ac", "1", "-ar", "8000", "-"],
        capture_output=True,
        check=True,
    )
    sound = np.frombuffer(done.stdout, np.float32)
    begins = int(np.flatnonzero(np.abs(sound) > 0.05)[0]) / 8000
    assert begins == pytest.approx(0.5, abs=0.05)


def test_without_a_recording_it_is_silent_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), Video(f"{tmp_path / 'trio.mov'},{HEIGHT}") as sink:
        play(sink, 1.0)
    assert "trio.mov will be silent" in caplog.text
    assert set(probe(tmp_path / "trio.mov")) == {"video"}


def test_where_the_place_is_lost_nothing_is_marked(tmp_path: Path) -> None:
    boxes = {}
    states: tuple[State, ...] = ("lost", "unsure", "tracking")
    for state in states:
        path = tmp_path / f"{state}.mp4"
        with Video(f"{path},{HEIGHT}") as sink:
            play(sink, 1.5, state)
        frame = frames(path)[round(1.25 * FPS)].astype(int)
        boxes[state] = int((frame[..., 2] - frame[..., 0] > 6).sum())
    frame_of_desk = boxes["lost"]
    assert frame_of_desk < boxes["unsure"] < boxes["tracking"] + 1
    assert boxes["unsure"] - frame_of_desk > 100


@pytest.mark.parametrize(
    ("page", "standing", "pages", "then"),
    [
        (1, (), 3, (1, 2)),
        (1, (), 1, (1,)),
        (2, (1, 2), 3, (1, 2)),
        (3, (1, 2), 3, (3, 2)),
        (4, (3, 2), 9, (3, 4)),
        (5, (1, 2), 9, (5, 6)),
        (9, (1, 2), 9, (9, 8)),
        (1, (5, 4), 9, (1, 2)),
    ],
)
def test_the_page_before_stays_beside_the_one_that_is_told(
    page: int, standing: tuple[int, ...], pages: int, then: tuple[int, ...]
) -> None:
    assert next_to(page, standing, pages) == then


def test_a_mark_colours_paper_and_leaves_ink() -> None:
    picture = Picture(64, 32)
    image = np.full((32, 64), 255, np.uint8)
    image[:, 32:] = 0
    picture.put(image, Box(0, 0, 64, 32))
    picture.tint(Box(0, 0, 64, 16), MARK)
    paper, ink = ([int(plane[2, x]) for plane, x in zip(picture.planes, (at, at // 2, at // 2), strict=True)] for at in (8, 56))  # fmt: skip # noqa: E501
    assert paper == pytest.approx(yuv(MARK), abs=1)
    assert ink == [16, 128, 128]
    assert [int(plane[-1, 1]) for plane in picture.planes] == [235, 128, 128]


# what may go wrong


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("take.avi", "end it in .mp4"),
        ("take", "end it in .mp4"),
        ("take.mp4,12", "no height"),
        ("take.mp4,high", "no height"),
        ("take.mp4,²", "no height"),
        ("a,b.mp4", None),
        ("take.mp4,721", None),
    ],
)
def test_a_target_is_a_file_and_perhaps_a_height(target: str, says: str | None) -> None:
    if says is None:
        assert Video(target).height % 2 == 0
        return
    with pytest.raises(SinkError, match=says):
        Video(target)


def test_a_place_that_cannot_be_written_is_said_before_the_music(tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(SinkError, match="is a folder"):
        Video(str(tmp_path / "folder.mp4")).open(score(), LAYOUT)
    with pytest.raises(SinkError, match=r"missing.*choose another place"):
        Video(str(tmp_path / "missing" / "take.mp4")).open(score(), LAYOUT)
    assert os.listdir(tmp_path) == ["folder.mp4"]


def test_without_ffmpeg_it_says_where_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SinkError, match="apt install ffmpeg"):
        Video(str(tmp_path / "take.mp4")).open(score(), LAYOUT)
    other = tmp_path / "ffmpeg"
    other.write_text("#!/bin/sh\necho ' V..... gif GIF'\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    with pytest.raises(SinkError, match="none of the encoders"):
        choose_encoder()
    other.write_text("#!/bin/sh\necho ' V..... mpeg4 MPEG-4'\n")
    assert choose_encoder() == "mpeg4"


def test_nothing_heard_leaves_no_file(tmp_path: Path) -> None:
    with Video(str(tmp_path / "take.mp4")) as sink:
        sink.open(score(), LAYOUT)
    sink.close()
    assert os.listdir(tmp_path) == []


def test_what_is_cut_short_can_be_seen(tmp_path: Path, wav: Path) -> None:
    path = tmp_path / "take.mp4"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), Video(f"{path},{HEIGHT}") as sink:
        sink.with_sound(wav)
        play(sink, 2.0)
        raise KeyboardInterrupt
    assert len(frames(path)) == pytest.approx(2 * FPS, abs=2)
    assert os.listdir(tmp_path) == ["take.mp4"]


def test_an_encoder_that_dies_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    sink = Video(f"{tmp_path / 'take.mp4'},{HEIGHT}")
    with pytest.raises(SinkError, match=r"take\.mp4: ffmpeg failed"), sink:
        play(sink, 1.0)
        program = sink._program
        assert program is not None
        os.kill(program.pid, signal.SIGKILL)
        program.wait()
        for n in range(2000):
            sink.emit(Position(1 + n / 10, 1, 0.5, 0.2, 1, 2, None, 1, None, None, 0.9, "tracking"))
    assert os.listdir(tmp_path) == []


def test_a_recording_that_ffmpeg_cannot_read_is_told(tmp_path: Path) -> None:
    sound = tmp_path / "take.wav"
    sound.write_text("no sound")
    with pytest.raises(SinkError, match="ffmpeg failed"), Video(f"{tmp_path / 'a.mp4'}") as sink:
        sink.with_sound(sound)
        play(sink)
    assert os.listdir(tmp_path) == ["take.wav"]


def test_the_command_writes_it_with_the_sound(
    scorefollow: Run, tmp_path: Path, pdf: Path, wav: Path, layout_file: Path
) -> None:
    words = ("--layout", layout_file, "--follower", "constant-tempo", "--video", "take.mp4,240")
    done = scorefollow("follow", pdf, "--audio", wav, *words)
    assert done.returncode == 0, done.stderr
    assert set(probe(tmp_path / "take.mp4")) == {"video", "audio"}
    assert os.listdir(tmp_path) == ["take.mp4"]
