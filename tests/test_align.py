"""`scorefollow align`: a whole recording, its measures in the order played, and its places."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import EXAMPLE, Run, make_layout
from numpy.typing import NDArray
from tiny_network import RATE, random_network

import sf_plugin
from sf_plugin.alignment import Alignment, make_alignment
from sf_plugin.alignment_formats import FORMATS, UNKNOWN
from sf_plugin.errors import AudioError, ScoreError, ScoreFollowerError
from sf_plugin.evaluation.following import follow, hear_whole
from sf_plugin.followers import Follower, Progress, no_progress
from sf_plugin.positions import Estimate, Jump, Position, StateChange, event_from_json
from sf_plugin.score.layout import Layout
from sf_plugin.score.measures import PlainMapper
from sf_plugin.score.model import Score
from sf_plugin.tracking.smoothing import Smoother
from sf_plugin.tracking.tracker import Tracker
from sf_plugin.unet.follower import UNetFollower
from sf_plugin.unet.weights import save_weights

FPS = 20

Stay = tuple[int, float]
"""A measure and the seconds spent in it."""


def estimates_of(layout: Layout, stays: Sequence[Stay], lag: float = 0.0) -> list[Estimate]:
    """A steady way through measures, four places each, after half a second of waiting."""
    at = {
        measure.number: (page.page, (system.top + system.bottom) / 2, measure)
        for page in layout.pages
        for system in page.systems
        for measure in system.measures
    }
    page, y, first = at[stays[0][0]]
    out = [Estimate(n / FPS + lag, page, first.left, y, 0.0, "waiting") for n in range(FPS // 2)]
    for number, seconds in stays:
        page, y, measure = at[number]
        frames = round(seconds * FPS)
        for n in range(frames):
            inside = (4 * n // frames + 0.5) / 4
            x = measure.left + inside * (measure.right - measure.left)
            out.append(Estimate(len(out) / FPS + lag, page, x, y, 0.9, "tracking"))
    return out


def aligned(layout: Layout, *stays: Stay, lag: float = 0.0) -> Alignment:
    return make_alignment(estimates_of(layout, stays, lag), layout, PlainMapper(), "sonata", lag)


def rows(alignment: Alignment) -> list[tuple[int, int, bool]]:
    return [(m.number, m.pass_, m.jumped) for m in alignment.measures]


# what is played


@pytest.mark.parametrize("lag", [0.0, 0.045])
def test_measures_and_places_have_the_times_at_which_they_sounded(lag: float) -> None:
    layout = make_layout(pages=2)
    found = aligned(layout, *((number, 1.0) for number in range(1, 17)), lag=lag)
    assert rows(found) == [(number, 1, False) for number in range(1, 17)]
    for m in found.measures:
        assert (m.start, m.end) == pytest.approx((m.number - 0.5, m.number + 0.5), abs=0.051)
        assert (m.page, m.system) == ((m.number - 1) // 8 + 1, (m.number - 1) // 4 % 2 + 1)
        assert [o.time - m.start for o in m.onsets] == pytest.approx([0, 0.25, 0.5, 0.75])
        assert [o.x for o in m.onsets] == sorted({o.x for o in m.onsets})
    assert [p.time for p in found.positions[:2]] == pytest.approx([lag, 0.05 + lag])


def test_printed_repeats_are_passes_and_other_ways_are_jumps() -> None:
    layout = make_layout(pages=1, repeat_end={2})
    order = [1, 2, 1, 2, 3, 4, 3, 4, 7, 8]
    found = aligned(layout, *((number, 0.8) for number in order))
    assert rows(found) == [
        (1, 1, False),
        (2, 1, False),
        (1, 2, False),
        (2, 2, False),
        (3, 1, False),
        (4, 1, False),
        (3, 2, True),
        (4, 2, False),
        (7, 1, True),
        (8, 1, False),
    ]
    jumps = [event for event in found.events if isinstance(event, Jump)]
    assert [(j.from_measure, j.to_measure) for j in jumps] == [(4, 3), (4, 7)]
    assert [j.time for j in jumps] == pytest.approx([0.5 + 6 * 0.8, 0.5 + 8 * 0.8])
    assert [m.name for m in found.measures][5:] == ["4", "→ 3 (2)", "4 (2)", "→ 7", "8"]


def test_every_position_of_a_repeat_knows_that_it_is_one() -> None:
    found = aligned(make_layout(pages=1, repeat_end={2}), *((n, 1.0) for n in (1, 2, 1, 2, 3)))
    passes = [(p.measure, p.pass_) for p in found.positions if p.state == "tracking"]
    assert passes == [pair for pair in [(1, 1), (2, 1), (1, 2), (2, 2), (3, 1)] for _ in range(20)]


def test_a_measure_begun_again_is_played_twice() -> None:
    assert rows(aligned(make_layout(pages=1), (1, 1.0), (1, 1.0), (2, 1.0))) == [
        (1, 1, False),
        (1, 2, True),
        (2, 1, False),
    ]


@pytest.mark.parametrize(
    "stays",
    [
        [(1, 1.0), (2, 0.05), (1, 0.05), (2, 1.0), (3, 1.0)],
        [(1, 1.0), (7, 0.1), (2, 1.0), (3, 1.0)],
        [(1, 0.15), (2, 1.0), (3, 1.0)],
    ],
    ids=["to and fro", "a moment elsewhere", "a short measure"],
)
def test_what_is_over_at_once_is_no_visit(stays: list[Stay]) -> None:
    layout = make_layout(pages=1)
    estimates = estimates_of(layout, stays)
    found = make_alignment(estimates, layout, PlainMapper(), "sonata")
    assert rows(found) == [(1, 1, False), (2, 1, False), (3, 1, False)]
    assert all(a.end == b.start for a, b in zip(found.measures, found.measures[1:], strict=False))


def test_a_measure_ends_where_the_place_is_lost() -> None:
    layout = make_layout(pages=1)
    said = estimates_of(layout, [(1, 1.0), (2, 3.0), (3, 1.0)])
    lost = [replace(e, state="lost") if 2 <= e.time < 4.475 else e for e in said]
    found = make_alignment(lost, layout, PlainMapper(), "sonata")
    assert rows(found) == [(1, 1, False), (2, 1, False), (3, 1, False)]
    times = [time for m in found.measures for time in (m.start, m.end)]
    assert times == pytest.approx([0.5, 1.5, 1.5, 2.0, 4.5, 5.45])
    states = [event.state for event in found.events if isinstance(event, StateChange)]
    assert states == ["tracking", "lost", "tracking"]


@pytest.mark.parametrize(
    ("state", "error", "says"),
    [("waiting", AudioError, "no note was heard"), ("lost", ScoreError, "sonata: was not recog")],
)
def test_what_cannot_be_aligned_says_so(
    state: str, error: type[ScoreFollowerError], says: str
) -> None:
    layout = make_layout(pages=1)
    said = [replace(e, state=state) for e in estimates_of(layout, [(1, 2.0)])]  # type: ignore[arg-type]
    with pytest.raises(error, match=says):
        make_alignment(said, layout, PlainMapper(), "sonata")
    with pytest.raises(AudioError):
        make_alignment([], layout, PlainMapper(), "sonata")


# as text


@pytest.fixture
def played() -> Alignment:
    layout = make_layout(pages=1)
    return aligned(layout, *((number, 1.0) for number in (1, 2, 3, 2, 3)), lag=0.05)


def test_the_table_has_a_row_a_measure(played: Alignment) -> None:
    table = list(csv.DictReader(FORMATS["csv"].write(played, UNKNOWN).splitlines()))
    assert [(r["measure"], r["pass"], r["jump"]) for r in table] == [
        ("1", "1", "0"),
        ("2", "1", "0"),
        ("3", "1", "0"),
        ("2", "2", "1"),
        ("3", "2", "0"),
    ]
    assert [float(r["time"]) for r in table] == pytest.approx([0.5, 1.5, 2.5, 3.5, 4.5])
    assert [r["end"] for r in table[:-1]] == [r["time"] for r in table[1:]]
    assert {(r["page"], r["system"], r["label"]) for r in table} == {("1", "1", "")}


def test_labels_are_start_end_and_name(played: Alignment) -> None:
    lines = [line.split("\t") for line in FORMATS["audacity"].write(played, UNKNOWN).splitlines()]
    assert [name for _, _, name in lines] == ["1", "2", "3", "→ 2 (2)", "3 (2)"]
    assert all(float(start) < float(end) for start, end, _ in lines)


def test_instants_are_every_place_with_measures_by_name(played: Alignment) -> None:
    instants = list(csv.reader(FORMATS["sonic-visualiser"].write(played, UNKNOWN).splitlines()))
    assert len(instants) == 5 * 4
    times = [float(time) for time, _ in instants]
    assert times == sorted(times)
    assert [name for _, name in instants[::4]] == ["1", "2", "3", "→ 2 (2)", "3 (2)"]
    assert {name for n, (_, name) in enumerate(instants) if n % 4} == {""}


def test_lines_are_events_in_order_of_time(played: Alignment) -> None:
    events = [
        event_from_json(line) for line in FORMATS["jsonl"].write(played, UNKNOWN).splitlines()
    ]
    assert tuple(events) == played.events
    assert [e.time for e in events] == sorted(e.time for e in events)
    assert sum(isinstance(e, Position) for e in events) == len(played.positions)


# the command


def align(scorefollow: Run, pdf: Path, wav: Path, layout: Path, *words: object):  # type: ignore[no-untyped-def]
    return scorefollow("align", pdf, "--audio", wav, "--layout", layout, *EXAMPLE, *words)


def test_the_command_writes_what_the_file_name_says(
    scorefollow: Run,
    scorefollow_here: Run,
    tmp_path: Path,
    pdf: Path,
    wav: Path,
    layout_file: Path,
) -> None:
    shown = align(scorefollow, pdf, wav, layout_file)
    assert shown.returncode == 0, shown.stderr
    assert shown.stderr.strip() == "0:16.5 heard, 16 measures played, 0 jumps"
    table = list(csv.DictReader(shown.stdout.splitlines()))
    assert [float(row["time"]) for row in table] == pytest.approx(
        [0.5 + n for n in range(16)], abs=0.11
    )
    for name, words in (
        ("take.csv", ()),
        ("take.TXT", ()),
        ("take.jsonl", ()),
        ("take", ("--format", "sonic-visualiser")),
    ):
        assert align(scorefollow_here, pdf, wav, layout_file, "--out", name, *words).returncode == 0
    assert (tmp_path / "take.csv").read_text() == shown.stdout
    assert (tmp_path / "take.TXT").read_text(encoding="utf-8").splitlines()[15].endswith("\t16")
    assert json.loads((tmp_path / "take.jsonl").read_text().splitlines()[0])["type"] == "position"
    assert len((tmp_path / "take").read_text().splitlines()) > 100
    assert sorted(os.listdir(tmp_path)) == ["take", "take.TXT", "take.csv", "take.jsonl"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--audio", "missing.wav"), "missing.wav"),
        (("--audio", "silent.wav"), "no note was heard"),
        (("--audio", "WAV", "--out", "take"), "take: ends with none of .csv, .beats, .jsonl, .txt"),
        (("--audio", "WAV", "--out", "no/such/take.csv"), "no such folder"),
        (("--audio", "WAV", "--follower", "nobody"), "no follower 'nobody'"),
    ],
)
def test_bad_input_is_told_and_nothing_is_written(
    scorefollow_here: Run,
    tmp_path: Path,
    pdf: Path,
    wav: Path,
    words: tuple[str, ...],
    says: str,
) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(16000), 8000)
    words = tuple(str(wav) if word == "WAV" else word for word in words)
    follower = () if "--follower" in words else EXAMPLE
    out = () if "--out" in words else ("--out", "take.csv")
    done = scorefollow_here("align", pdf, *words, *follower, *out)
    assert done.returncode == 2
    assert says in done.stderr.splitlines()[-1]
    assert done.stdout == ""
    assert os.listdir(tmp_path) == ["silent.wav"]


def test_ctrl_c_writes_nothing(
    example_plugin: Path, tmp_path: Path, pdf: Path, layout_file: Path
) -> None:
    program = str(Path(sys.executable).parent / "scorefollow")
    words = ("--audio", "pcm:s16le,8000,1", "--layout", str(layout_file), "--out", "take.csv")
    process = subprocess.Popen(
        [program, "align", str(pdf), *words, *EXAMPLE, "--debug"],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(example_plugin)},
    )
    assert process.stdin is not None and process.stderr is not None
    for _ in range(40):
        process.stdin.write(np.full(8000, 9000, "<i2").tobytes())
    process.stdin.flush()
    process.send_signal(signal.SIGINT)
    said = process.stderr.read().decode()
    assert process.wait(timeout=60) == 130, said
    process.stdin.close()
    process.stderr.close()
    assert "Traceback" not in said
    assert os.listdir(tmp_path) == []


def test_help_teaches_by_example(scorefollow: Run) -> None:
    done = scorefollow("align", "--help")
    assert "scorefollow align" in done.stdout.split("examples:")[1]
    assert all(name in done.stdout for name in FORMATS)


# the follower


@pytest.fixture(scope="module")
def unet(tmp_path_factory: pytest.TempPathFactory) -> UNetFollower:
    """A random network that hears notes all the time, with two pages on the stand."""
    path = tmp_path_factory.mktemp("net") / "tiny.safetensors"
    save_weights(random_network(), path)
    follower = UNetFollower(path)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (121, 83), np.uint8) for _ in range(2)]
    follower.prepare(Score("two pages", images, make_layout(pages=2)))
    return follower


@pytest.fixture(scope="module")
def sound() -> NDArray[np.float32]:
    """Silence, notes, a pause of 1.5 s, notes."""
    time = np.arange(2 * RATE) / RATE
    notes = 0.5 * np.sin(2 * np.pi * 220 * 2 ** (np.floor(time / 0.2) * 5 % 12 / 12) * time)
    silence = np.zeros(RATE // 2)
    return np.concatenate([silence, notes, *[silence] * 3, notes]).astype(np.float32)


@dataclass
class Told:
    """Stands in the tracker's place and keeps what it is told."""

    rows: list[tuple[np.ndarray, float, bool, float]]

    def step(self, logits: np.ndarray, time: float, *, quiet: bool, struck: float) -> Estimate:
        self.rows.append((logits, time, quiet, struck))
        return Estimate(time, 1, 0.0, 0.0, 0.0, "waiting")

    def reset(self) -> None:
        self.rows.clear()


@pytest.mark.parametrize("block", [333, RATE, 100 * RATE])
def test_a_whole_recording_is_heard_as_it_is_followed(
    unet: UNetFollower, sound: NDArray[np.float32], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told([])
    monkeypatch.setattr(unet, "tracker", told)
    unet.reset()
    list(unet.feed(sound))
    logits, time, quiet, struck = map(np.array, zip(*told.rows, strict=True))
    hearing = unet.hear_whole(np.split(sound, range(block, len(sound), block)))
    assert hearing.time == pytest.approx(time)
    assert hearing.quiet.tolist() == quiet.tolist()
    assert 20 < hearing.quiet.sum() < len(quiet) / 2
    assert hearing.struck == pytest.approx(struck, abs=1e-4)
    for stretch in (slice(0, len(time)), slice(50, 97)):
        assert np.abs(hearing.logits[stretch] - logits[stretch]).max() < 1e-4
    assert logits.std(0).max() > 0.1, "it says other things of every frame"


def test_the_network_aligns_with_the_smoother(
    unet: UNetFollower, sound: NDArray[np.float32]
) -> None:
    steps: list[tuple[str, int, int]] = []
    estimates = unet.align([sound], lambda *step: steps.append(step))
    hearing = unet.hear_whole([sound])
    smoother = Smoother(unet.document, unet.spectrogram.config.fps, unet.tracker_config)
    assert estimates == smoother.smooth(hearing)
    assert isinstance(unet.tracker, Tracker)
    assert [done for _, done, _ in steps] == list(range(1, steps[-1][2] + 1))
    assert {e.page for e in estimates} <= {1, 2}
    assert unet.lag == pytest.approx(128 / RATE)


def test_a_short_or_no_recording_is_heard_too(unet: UNetFollower) -> None:
    assert unet.align([]) == []
    assert len(unet.align([np.zeros(200, np.float32)])) == 1


class Hindsight(Follower):
    """Live it knows only the first measure; afterwards it knows that all were played."""

    sample_rate = 8000
    lag = 0.1

    def prepare(self, score: Score, progress: Progress = no_progress) -> Layout:
        assert score.layout is not None
        self.layout = score.layout
        return score.layout

    def reset(self) -> None:
        self.frames = 0

    def feed(self, samples: NDArray[np.float32]) -> Iterator[Estimate]:
        for _ in range(len(samples) * FPS // self.sample_rate):
            yield replace(estimates_of(self.layout, [(1, 1.0)])[-1], time=self.frames / FPS)
            self.frames += 1

    def align(  # type: ignore[override]
        self, blocks: Iterator[NDArray[np.float32]], progress: Progress = no_progress
    ) -> list[Estimate]:
        seconds = sum(map(len, blocks)) // self.sample_rate
        return estimates_of(self.layout, [(n, 1.0) for n in range(1, seconds + 1)], self.lag)


def test_in_python_it_is_a_call(layout: Layout) -> None:
    score = Score("sonata", [np.full((80, 60), 255, np.uint8)] * 2, layout)
    said: list[tuple[str, int, int]] = []
    found = sf_plugin.align(
        score,
        (np.zeros(4 * 8000, np.float32), 8000),
        follower=Hindsight(),
        progress=lambda *step: said.append(step),
    )
    assert [m.number for m in found.measures] == [1, 2, 3, 4]
    assert found.measures[0].start == pytest.approx(0.5)
    assert said[-1] == ("hearing", 4, 4)


def test_who_only_follows_aligns_by_following(layout: Layout) -> None:
    score = Score("sonata", [np.full((80, 60), 255, np.uint8)] * 2, layout)
    follower = Hindsight()
    follower.prepare(score)
    follower.reset()
    blocks = [np.zeros(8000, np.float32)] * 3
    once = list(Follower.align(follower, blocks))
    assert once == list(Follower.align(follower, blocks))
    assert [e.time for e in once] == pytest.approx([n / FPS for n in range(60)])


# the evaluation


def test_an_evaluation_may_hear_to_the_end_first(layout: Layout) -> None:
    follower = Hindsight()
    follower.prepare(Score("sonata", [], layout))
    sound = np.zeros(8 * 8000, np.float32)
    live, _, _ = follow(follower, layout, sound, 8000)
    positions, turned, spent = hear_whole(follower, layout, sound, 8000)
    assert {p.measure for p in live} == {1}
    assert [p.measure for p in positions if p.state == "tracking"][::20] == list(range(1, 9))
    assert [turn.page for turn in turned] == [2]
    assert len(spent) == len(positions) and spent.min() == spent.max() > 0
