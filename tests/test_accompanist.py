"""The accompanist with real receivers: a MIDI port of another program, and fluidsynth."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile
from conftest import Run, until
from jackd import needs_jackd
from midi_peers import SCORE, Receiver, live, midi_server
from test_accompaniment import every_quarter, midi, played, position, score_of

from sf_adapters.accompanist import Accompanist, parse_accompaniment
from sf_adapters.fluidsynth import SOUNDFONTS, Synthesizer, shell_line
from sf_plugin.accompaniment.music import Accompaniment
from sf_plugin.errors import ScoreError, SinkError
from sf_plugin.midi_ports import MidiPort

pytest.importorskip("rtmidi", reason="python-rtmidi is not installed")

needs_fluidsynth = pytest.mark.skipif(
    not shutil.which("fluidsynth") or not any(Path(font).is_file() for font in SOUNDFONTS),
    reason="fluidsynth or a soundfont is not installed",
)

CONCERT = """
import sys, threading, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from midi_peers import SCORE
from test_accompaniment import position, score_of
from sf_adapters.accompanist import Accompanist
with Accompanist({file!r}, port="module", part="contra") as sink:
    sink.open(SCORE, score_of(2))
    began = time.monotonic()
    print("ready", flush=True)
    while True:
        now = time.monotonic() - began
        sink.emit(position(now, min(2 * now, 0.5)))
        if {fails!r} and now > 0.5:
            raise RuntimeError("the session breaks")
        time.sleep(0.025)
"""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with midi_server(monkeypatch):
        yield


class Module(Receiver):
    """Knows which notes sound."""

    def __init__(self) -> None:
        super().__init__("notes", "Piano Module")

    def hanging(self) -> set[tuple[int, int]]:
        down: set[tuple[int, int]] = set()
        for _, message in list(self.rows):
            if message.type == "note_on" and message.velocity:
                down.add((message.channel, message.note))
            elif message.type in ("note_on", "note_off"):
                down.discard((message.channel, message.note))
        return down

    def notes(self) -> list[tuple[float, int]]:
        rows = list(self.rows)
        return [(when, m.note) for when, m in rows if m.type == "note_on" and m.velocity]


@pytest.fixture
def receiver(server: None) -> Iterator[Module]:
    made = Module()
    yield made
    made.close()


def accompanist(music: Accompaniment, port: str = "module", **options: object) -> Accompanist:
    """One that plays made music."""
    from music21 import converter

    sink = Accompanist(converter.parse("tinynotation: 4/4 c1"), port, **options)  # type: ignore[arg-type]
    sink.music = music
    return sink


STEADY = [(0.5 + 0.4 * n, float(n)) for n in range(16)]


@needs_jackd
def test_another_program_hears_the_notes_with_the_soloist(receiver: Module) -> None:
    with accompanist(every_quarter(16), delay=0.0) as sink:
        began = live(sink, played(STEADY, 7.0), score_of(4))
    until(lambda: not receiver.hanging())
    notes = receiver.notes()
    assert [note for _, note in notes] == [60 + n % 12 for n in range(16)]
    late = np.array([when - began - at for (when, _), (at, _) in zip(notes, STEADY, strict=True)])
    print(f"late: median {1000 * np.median(late):.0f} ms, most {1000 * np.abs(late).max():.0f} ms")
    assert np.median(np.abs(late)) < 0.15
    until(lambda: receiver.rows[-1][1].bytes() == [0xB0, 123, 0])


@needs_jackd
def test_no_note_hangs_when_the_session_fails(receiver: Module) -> None:
    with pytest.raises(RuntimeError), accompanist(every_quarter(16)) as sink:
        live(sink, played(STEADY, 1.2), score_of(4))
        until(lambda: bool(receiver.hanging()))
        raise RuntimeError("the session breaks")
    until(lambda: not receiver.hanging())
    sink.close()


@needs_jackd
def test_a_receiver_that_is_killed_and_comes_back(
    server: None, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = Module(), None
    made: list[Module] = []

    def meanwhile(seconds: float) -> None:
        if seconds > 1.5 and first.process.poll() is None:
            first.process.kill()
            first.process.wait()
        if seconds > 3.0 and not made:
            made.append(Module())

    with accompanist(every_quarter(40)) as sink:
        live(
            sink,
            played([(0.5 + 0.4 * n, float(n)) for n in range(40)], 12.0),
            score_of(10),
            meanwhile,
        )
        until(lambda: len(made[0].notes()) > 3)
    second = made[0]
    until(lambda: not second.hanging())
    said = " ".join(record.message for record in caplog.records)
    assert "is gone" in said and "is back" in said
    pitches = [note for _, note in second.notes()]
    assert all((b - a) % 12 == 1 for a, b in pairwise(pitches))
    second.close()
    first.close()


@needs_jackd
@pytest.mark.parametrize("ends", [signal.SIGTERM, signal.SIGINT, "error"])
def test_no_note_hangs_however_the_program_ends(
    receiver: Module, tmp_path: Path, ends: signal.Signals | str
) -> None:
    tests = str(Path(__file__).parent)
    code = CONCERT.format(tests=tests, file=str(midi(tmp_path / "duo.mid")), fails=ends == "error")
    if ends == signal.SIGTERM:
        code = "import signal\nsignal.signal(signal.SIGTERM, signal.default_int_handler)\n" + code
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ.copy(),
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    until(lambda: bool(receiver.notes()))
    if isinstance(ends, signal.Signals):
        assert receiver.hanging()
        process.send_signal(ends)
    process.wait(20)
    until(lambda: not receiver.hanging())


@needs_jackd
def test_programs_of_the_file_come_before_its_notes(receiver: Module, tmp_path: Path) -> None:
    with Accompanist(str(midi(tmp_path / "duo.mid")), "module", without="violin") as sink:
        live(sink, played([(0.3 + 0.3 * n, float(n)) for n in range(6)], 2.5), score_of(2))
    until(lambda: not receiver.hanging())
    kinds = [message.type for _, message in receiver.rows]
    first = next(m for _, m in receiver.rows if m.type == "note_on")
    assert (first.channel, first.note) == (1, 40)
    assert kinds.index("program_change") < kinds.index("note_on")


@needs_jackd
def test_a_port_that_is_not_there(server: None) -> None:
    sink = accompanist(every_quarter(4), "organ")
    with pytest.raises(SinkError, match="no MIDI port called 'organ'"):
        sink.open(SCORE, score_of(1))
    sink.close()


# fluidsynth


@needs_fluidsynth
def test_fluidsynth_sounds_with_the_soloist(tmp_path: Path) -> None:
    wav = tmp_path / "played.wav"
    sink = accompanist(every_quarter(8), "fluidsynth", audio="file", delay=0.0)
    assert isinstance(sink.instrument, Synthesizer)
    sink.instrument.options = ("-o", f"audio.file.name={wav}", "-R", "0", "-C", "0")
    with sink:
        live(sink, played([(0.5 + 0.5 * n, float(n)) for n in range(8)], 5.0), score_of(2))
    assert sink.instrument._process is None
    sound, rate = soundfile.read(wav)
    loud = np.abs(sound).max(1) > 0.003
    assert loud.any()
    first = np.flatnonzero(loud)[0] / rate
    length = (np.flatnonzero(loud)[-1] / rate) - first
    assert 2.5 < length < 5.5
    spectrum = np.abs(np.fft.rfft(sound[:, 0], 1 << 18))
    for pitch in (60, 64, 67):
        place = round(440 * 2 ** ((pitch - 69) / 12) * (1 << 18) / rate)
        assert spectrum[place - 8 : place + 9].max() > 20 * np.median(spectrum)


@needs_fluidsynth
def test_a_fluidsynth_that_is_killed_is_started_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = Synthesizer(audio="file", options=("-o", f"audio.file.name={tmp_path / 'x.wav'}"))
    made.open()
    note = mido.Message("note_on", note=60, velocity=80)
    assert made.send([note])
    assert made._process is not None
    made._process.kill()
    made._process.wait()
    made.look()
    assert made.here and made.send([note])
    assert "starting it again" in caplog.text
    process = made._process
    made.close()
    made.close()
    assert process.poll() is not None
    assert not made.send([note])
    made.look()
    assert not made.here


@needs_fluidsynth
def test_fluidsynth_ends_with_the_program_that_started_it(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom sf_adapters.fluidsynth import Synthesizer\n"
        f"s = Synthesizer(audio='file', options=('-o', 'audio.file.name={tmp_path / 'y.wav'}'))\n"
        "s.open(); print(s._process.pid, flush=True); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    pid = int(done.stdout)

    def gone() -> bool:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        return state == "Z"

    until(gone)


def test_no_fluidsynth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SinkError, match="fluidsynth is not installed: 'scorefollow doctor'"):
        Synthesizer().open()


@needs_fluidsynth
def test_soundfonts_and_drivers_that_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sf_adapters.fluidsynth.START_SECONDS", 60)  # for a slow machine
    with pytest.raises(SinkError, match=r"soundfont /none\.sf2: there is no such file"):
        Synthesizer("/none.sf2").open()
    with pytest.raises(SinkError, match="fluidsynth does not start"):
        Synthesizer(audio="nonsense").open()


def test_messages_as_fluidsynth_reads_them() -> None:
    lines = [
        (mido.Message("note_on", channel=1, note=60, velocity=7), b"noteon 1 60 7\n"),
        (mido.Message("note_off", channel=15, note=0), b"noteoff 15 0\n"),
        (mido.Message("control_change", control=64, value=127), b"cc 0 64 127\n"),
        (mido.Message("program_change", program=40), b"prog 0 40\n"),
        (mido.Message("pitchwheel", pitch=-8192), b"pitch_bend 0 0\n"),
        (mido.Message("aftertouch", value=3), b""),
    ]
    for message, line in lines:
        assert shell_line(message) == line


# what is written on the command line


def test_options(tmp_path: Path) -> None:
    path = midi(tmp_path / "duo.mid")
    sink = parse_accompaniment(f"{path}, port=Nord, without=violin, delay=12.5, intro")
    assert isinstance(sink.instrument, MidiPort) and sink.instrument.wanted == "Nord"
    assert sink.delay == pytest.approx(0.0125) and sink.intro
    assert sink.music.channels == (1,)
    plain = parse_accompaniment(f"{path},soundfont=a.sf2,audio=jack")
    assert isinstance(plain.instrument, Synthesizer)
    assert (plain.instrument.soundfont, plain.instrument.audio) == ("a.sf2", "jack")


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        ("", SinkError, "name a file"),
        ("{},nonsense=1", SinkError, "is none of"),
        ("{},port=", SinkError, "is none of"),
        ("{},delay=-1", SinkError, "not in 0 to 1000"),
        ("{},delay=soon", SinkError, "not in 0 to 1000"),
        ("{},part=flute", ScoreError, "no part is called 'flute'"),
        ("nothing.mid", ScoreError, "there is no such file"),
    ],
)
def test_options_that_are_none(
    tmp_path: Path, words: str, error: type[Exception], says: str
) -> None:
    path = midi(tmp_path / "duo.mid")
    with pytest.raises(error, match=says):
        parse_accompaniment(words.format(path))


@needs_fluidsynth
def test_sound_that_comes_too_fast_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sink = accompanist(every_quarter(16), "fluidsynth", audio="file")
    assert isinstance(sink.instrument, Synthesizer)
    sink.instrument.options = ("-o", f"audio.file.name={tmp_path / 'z.wav'}")
    with sink:
        sink.open(SCORE, score_of(2))
        for event in played(STEADY, 7.0):
            sink.emit(event)
        sink.emit(position(7.0, 1.0))
    messages = [record.message for record in caplog.records]
    assert sum("give --realtime" in message for message in messages) == 1
    assert sum("has 4 measures and the pages have fewer" in message for message in messages) == 1


@needs_fluidsynth
def test_the_command_plays_along(
    scorefollow: Run, tmp_path: Path, pdf: Path, layout_file: Path, wav: Path
) -> None:
    done = scorefollow(
        "follow", pdf, "--layout", layout_file, "--audio", wav, "--realtime",
        "--follower", "constant-tempo",
        "--accompany", f"{midi(tmp_path / 'duo.mid')},audio=file,without=violin",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    sound, _ = soundfile.read(tmp_path / "fluidsynth.wav")
    assert np.abs(sound).max() > 0.003
    refused = scorefollow(
        "follow", pdf, "--layout", layout_file, "--audio", wav, "--accompany", "none.mid"
    )
    assert refused.returncode == 2
    assert refused.stderr == "scorefollow: none.mid: there is no such file: check the name\n"
