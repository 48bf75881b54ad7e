from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pymupdf
import pytest
import soundfile
from conftest import EXAMPLE, Run, add_distribution, draw_pdf, make_layout

from sf_plugin.positions import PageTurn, Position, event_from_json
from sf_plugin.score.layout import Layout


def test_following_a_file_writes_every_position(
    scorefollow: Run, tmp_path: Path, pdf: Path, wav: Path, layout_file: Path
) -> None:
    done = scorefollow(
        "follow", pdf, "--audio", wav, *EXAMPLE, "--layout", layout_file, "--out", "p.jsonl"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr.strip() == "0:16.5 heard, 1 page turn, ended in measure 16"
    events = [event_from_json(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    positions = [event for event in events if isinstance(event, Position)]
    assert len(positions) == 330
    assert {(p.page, p.system) for p in positions} == {(1, 1), (1, 2), (2, 1), (2, 2)}
    assert [event.page for event in events if isinstance(event, PageTurn)] == [2]
    assert os.listdir(tmp_path) == ["p.jsonl"]


@pytest.mark.parametrize(
    ("words", "turns"),
    [
        (["--lead", "2s"], [(2, False, 6.5)]),
        (["--lead", "2beats"], [(2, False, 7.3)]),
        (["--half-pages"], [(2, True, 5.0), (2, False, 9.0)]),
    ],
)
def test_pages_are_turned_as_asked_for(
    scorefollow: Run,
    tmp_path: Path,
    pdf: Path,
    wav: Path,
    layout_file: Path,
    words: list[str],
    turns: list[tuple[int, bool, float]],
) -> None:
    common = ("--audio", wav, *EXAMPLE, "--layout", layout_file, "--out", "p.jsonl")
    done = scorefollow("follow", pdf, *common, *words)
    assert done.returncode == 0, done.stderr
    assert "1 page turn," in done.stderr
    events = [event_from_json(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    made = [event for event in events if isinstance(event, PageTurn)]
    assert [(turn.page, turn.half) for turn in made] == [turn[:2] for turn in turns]
    assert [turn.time for turn in made] == pytest.approx([turn[2] for turn in turns], abs=0.3)


def test_raw_samples_on_stdin_and_realtime_say_the_same(
    scorefollow: Run, pdf: Path, wav: Path, tmp_path: Path, layout_file: Path
) -> None:
    samples, rate = soundfile.read(wav, dtype="int16", frames=2 * 16000)
    short = tmp_path / "short.wav"
    soundfile.write(short, samples, rate)
    common = (*EXAMPLE, "--layout", layout_file, "--out", "-")
    from_file = scorefollow("follow", pdf, "--audio", short, *common)
    paced = scorefollow("follow", pdf, "--audio", short, "--realtime", *common)
    stereo = np.stack([samples, samples], axis=1).astype("<i2").tobytes()
    words = ("--audio", "-", "--pcm-rate", rate, "--pcm-channels", 2)
    raw = scorefollow("follow", pdf, *words, *common, stdin=stereo)
    assert from_file.returncode == paced.returncode == raw.returncode == 0, raw.stderr
    assert len(from_file.stdout.splitlines()) > 30
    assert paced.stdout == from_file.stdout == raw.stdout
    assert "measure 1" in paced.stderr
    assert "\x1b" not in paced.stderr


def test_layout_can_be_written_and_given_back(
    scorefollow: Run, tmp_path: Path, pdf: Path, wav: Path
) -> None:
    shown = scorefollow("layout", pdf, *EXAMPLE)
    assert shown.returncode == 0, shown.stderr
    assert len(Layout.from_json(shown.stdout).pages) == 2
    kept = scorefollow("layout", pdf, *EXAMPLE, "--out", "found.json")
    assert kept.returncode == 0
    assert kept.stdout == ""
    assert "2 pages, 2 systems, 2 measures" in kept.stderr
    assert (tmp_path / "found.json").read_text() == shown.stdout
    words = ("--audio", wav, *EXAMPLE, "--layout", "found.json")
    assert scorefollow("follow", pdf, *words).returncode == 0


def test_a_piece_in_a_book_is_followed_from_where_it_starts(
    scorefollow: Run, tmp_path: Path, wav: Path
) -> None:
    book = draw_pdf(tmp_path / "book.pdf", make_layout(5))
    words = ("--audio", wav, *EXAMPLE, "--out", "positions.jsonl")
    done = scorefollow("follow", book, "--pages", "3-4", "--start", "4", *words)
    assert done.returncode == 0, done.stderr
    assert "0 page turns" in done.stderr
    lines = [json.loads(line) for line in (tmp_path / "positions.jsonl").read_text().splitlines()]
    assert {line["page"] for line in lines if line["type"] == "position"} == {4}
    shown = scorefollow("layout", book, *EXAMPLE, "--pages", "3-4")
    assert [bool(p.systems) for p in Layout.from_json(shown.stdout).pages][-2:] == [True, True]


def write_bad_inputs(folder: Path) -> None:
    files = {
        "empty.pdf": b"",
        "text.pdf": b"this is no PDF at all",
        "score.doc": b"words",
        "empty.wav": b"",
        "noise.wav": b"RIFF but not really",
        "text.json": b"[1, 2",
        "binary.json": b"\xff\xfe\x00\x80",
        "old.json": b'{"version": 0, "pages": []}',
        "one-page.json": make_layout(1).to_json().encode(),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("score", "options", "says"),
    [
        ("missing.pdf", ["--audio", "WAV"], "missing.pdf"),
        ("empty.pdf", ["--audio", "WAV"], "empty.pdf"),
        ("text.pdf", ["--audio", "WAV"], "text.pdf"),
        ("score.doc", ["--audio", "WAV"], "score.doc"),
        ("PDF", ["--audio", "missing.wav"], "missing.wav"),
        ("PDF", ["--audio", "empty.wav"], "empty.wav"),
        ("PDF", ["--audio", "noise.wav"], "noise.wav"),
        ("PDF", ["--audio", "WAV", "--layout", "missing.json"], "missing.json"),
        ("PDF", ["--audio", "WAV", "--layout", "text.json"], "text.json"),
        ("PDF", ["--audio", "WAV", "--layout", "binary.json"], "binary.json"),
        ("PDF", ["--audio", "WAV", "--layout", "old.json"], "old.json"),
        ("PDF", ["--audio", "WAV", "--layout", "one-page.json"], "has 1 pages, the score has 2"),
        ("PDF", ["--audio", "WAV", "--follower", "nobody"], "no follower 'nobody'"),
        ("PDF", ["--audio", "WAV", "--mapper", "nothing"], "no mapper 'nothing'"),
        ("PDF", ["--audio", "WAV", "--pages", "2-9"], "has 2 pages, so there are no pages 2-9"),
        ("PDF", ["--audio", "WAV", "--start", "page 2"], "'page 2' is no start"),
        ("PDF", ["--audio", "WAV", "--start", "3"], "cannot start on page 3"),
        ("PDF", ["--audio", "WAV", "--pcm-rate", "8000"], "add --audio -"),
        ("PDF", ["--audio", "-", "--pcm-rate", "0"], "rate 0"),
        ("PDF", ["--mic", "no such microphone"], "microphone"),
        ("PDF", ["--audio", "WAV", "--out", "no/such/folder/p.jsonl"], "no/such/folder/p.jsonl"),
        ("PDF", ["--audio", "WAV", "--osc", "not a host"], "not a host"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    scorefollow_here: Run,
    tmp_path: Path,
    pdf: Path,
    wav: Path,
    score: str,
    options: list[str],
    says: str,
) -> None:
    write_bad_inputs(tmp_path)
    before = sorted(os.listdir(tmp_path))
    names = {"PDF": pdf, "WAV": wav}
    words = [names.get(word, word) for word in [score, *options]]
    if "--follower" not in options:
        words += EXAMPLE
    if "--out" not in options:
        words += ["--out", "out.jsonl"]
    done = scorefollow_here("follow", *words)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith("scorefollow: ")
    assert done.stdout == ""
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "COMMAND"),
        (["fly"], "invalid choice"),
        (["follow", "a.pdf"], "--audio --mic --midi-in is required"),
        (["follow", "--audio", "a.wav"], "SCORE"),
        (["follow", "a.pdf", "--audio", "a.wav", "--mic"], "not allowed with"),
        (["follow", "a.pdf", "--audio", "a.wav", "--lead", "2 bars"], "1.5s, 2beats"),
        (["layout"], "SCORE"),
    ],
)
def test_wrong_words_are_explained(scorefollow: Run, words: list[str], says: str) -> None:
    done = scorefollow(*words)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_debug_shows_the_traceback(scorefollow: Run, wav: Path) -> None:
    done = scorefollow("follow", "missing.pdf", "--audio", wav, "--debug")
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert "scorefollow: missing.pdf" in done.stderr


BUGGY = """
from sf_plugin import Follower, Sink, hookimpl

class Forgetful(Follower):
    sample_rate = 8000
    def prepare(self, score, progress=None):
        raise KeyError("an unforeseen\\nthing")
    def feed(self, samples):
        return ()
    def reset(self):
        pass

class Deaf(Sink):
    def __init__(self, argument):
        pass
    def emit(self, event):
        raise OSError("no ear")

def refuse(argument):
    raise LookupError("not today")

@hookimpl
def register_followers(register):
    register("forgetful", Forgetful)

@hookimpl
def register_sinks(register):
    register("deaf", Deaf, help="hears nothing")
    register("refuse", refuse, help="will not be made", metavar="X")
    register("audio", Deaf, help="a name that an option has")
"""


def test_a_bug_is_one_line_too_and_exit_code_1(
    scorefollow: Run, tmp_path: Path, pdf: Path, wav: Path
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    add_distribution(site, "buggy", BUGGY)
    words = ("follow", pdf, "--audio", wav, "--out", "p.jsonl")
    done = scorefollow(*words, "--follower", "forgetful", site=site)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "unexpected KeyError" in last
    assert "--debug" in last
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("p.jsonl*"))

    seen = scorefollow(*words, "--follower", "forgetful", "--debug", site=site)
    assert "Traceback" in seen.stderr

    dropped = scorefollow(*words, *EXAMPLE, "--deaf", site=site)
    assert dropped.returncode == 1
    assert dropped.stderr.count("'deaf' failed and is dropped: OSError('no ear')") == 1
    assert "1 page turn" in dropped.stderr or "heard" in dropped.stderr
    assert len((tmp_path / "p.jsonl").read_text().splitlines()) >= 330

    refused = scorefollow(*words, *EXAMPLE, "--refuse", "x", site=site)
    assert refused.returncode == 2
    assert "--refuse of plug-in 'buggy' failed: LookupError('not today')" in refused.stderr
    assert "no option for sink 'audio'" in refused.stderr


def test_ctrl_c_ends_cleanly_and_keeps_what_was_heard(
    example_plugin: Path, tmp_path: Path, pdf: Path, layout_file: Path
) -> None:
    program = str(Path(sys.executable).parent / "scorefollow")
    options = ("--pcm-rate", "8000", "--layout", str(layout_file), "--out", "p.jsonl", *EXAMPLE)
    process = subprocess.Popen(
        [program, "follow", str(pdf), "--audio", "-", *options],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=False,
        env={**os.environ, "PYTHONPATH": str(example_plugin)},
    )
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write(np.full(8000, 9000, "<i2").tobytes())
    process.stdin.flush()
    said = process.stderr.readline().decode()
    assert "measure 1" in said or "tracking" in said
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read().decode()
    assert process.wait(timeout=60) == 130
    process.stdin.close()
    process.stderr.close()
    assert "Traceback" not in rest
    assert "heard" in rest
    lines = (tmp_path / "p.jsonl").read_text().splitlines()
    assert lines
    assert all(event_from_json(line) for line in lines)
    assert os.listdir(tmp_path) == ["p.jsonl"]


def test_a_reader_that_leaves_is_no_traceback(pdf: Path, example_plugin: Path) -> None:
    program = str(Path(sys.executable).parent / "scorefollow")
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [program, "layout", str(pdf), *EXAMPLE],
        stdout=write,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(example_plugin)},
    )
    os.close(write)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert b"BrokenPipe" not in done.stderr


COMMANDS = ("follow", "layout", "demo", "plugins", "devices", "doctor")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_by_example(scorefollow_here: Run, command: str) -> None:
    done = scorefollow_here(command, "--help")
    assert done.returncode == 0
    assert f"scorefollow {command}" in done.stdout.split("examples:")[1]


def test_help_lists_the_commands_and_the_receivers(scorefollow_here: Run) -> None:
    done = scorefollow_here("--help")
    assert all(f"    {command} " in done.stdout for command in COMMANDS)
    follow = scorefollow_here("follow", "--help").stdout
    for option in ("--out FILE", "--osc HOST:PORT", "--turn PORT", "--html FILE"):
        assert option in follow


def test_doctor_looks_at_everything(scorefollow: Run) -> None:
    done = scorefollow("doctor", "--json")
    findings = {finding["what"]: finding for finding in json.loads(done.stdout)}
    assert {"Python", "torch", "weights", "ffmpeg", "PortAudio", "microphone", "MIDI"} <= set(
        findings
    )
    assert findings["Python"]["status"] == findings["torch"]["status"] == "ok"
    for finding in findings.values():
        assert (finding["status"] == "ok") != bool(finding["advice"])
    missing = [what for what, finding in findings.items() if finding["status"] == "missing"]
    assert done.returncode == (1 if missing else 0)
    assert "torch" in scorefollow("doctor").stdout


def test_devices_says_what_there_is_or_is_not(scorefollow: Run) -> None:
    done = scorefollow("devices", "--json")
    assert done.returncode == 0
    found = json.loads(done.stdout)
    kinds = {device["kind"] for device in found["devices"]}
    assert "microphone" in kinds or any("no microphone" in text for text in found["problems"])
    assert kinds & {"MIDI in", "MIDI out"} or any("MIDI" in text for text in found["problems"])
    plain = scorefollow("devices")
    assert plain.returncode == 0
    for problem in found["problems"]:
        assert problem in plain.stdout


def test_page_images_are_followed_as_one_score(scorefollow: Run, tmp_path: Path, wav: Path) -> None:
    pages = []
    for name in ("z", "a"):
        file = draw_pdf(tmp_path / f"{name}.pdf", make_layout(1))
        with pymupdf.open(file) as document:
            document[0].get_pixmap(dpi=60).save(tmp_path / f"{name}.png")
        pages.append(tmp_path / f"{name}.png")
    done = scorefollow("follow", *pages, "--audio", wav, *EXAMPLE, "--out", "-")
    assert done.returncode == 0, done.stderr
    events = map(event_from_json, done.stdout.splitlines())
    assert {event.page for event in events if isinstance(event, Position)} == {1, 2}
