"""Perform the demo's recording on a stage without a musician or a sound card, and measure.

python stage.py
python stage.py --times 3 --priority 10 --out measured

A JACK server is started. The recording is played into a virtual microphone, `scorefollow follow`
hears it and follows the PDF. A second process has its pages turned by MIDI, a third gets OSC and
notes when each packet came, fluidsynth plays an accompaniment that is recorded beside the
soloist. What came out is compared with what was played: the table has the figures and their
goals, and the exit code is 0 when all were reached. Needs Linux, jackd and fluidsynth.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import jack
import mido
import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from stage_outcome import Floats, judge

from sf_plugin.demo import ASSETS, load_truth
from sf_plugin.evaluation.metrics import Truth
from sf_plugin.score.layout import Layout

MICROPHONE, READER = "player", "Sheet Reader"
"""Names of the JACK clients."""

SERVERS = ("stage-0", "stage-1", "stage-2")
"""Of JACK; the first whose name is free.  JACK keeps few names and never forgets one."""

SAMPLE_RATE = 44100

BAR_LENGTHS = (4.0, 3.0, 1.5)
"""Quarter notes in a measure of the three movements."""

STICK = 76
"""A high wood block of the General MIDI drums: its beginning is easily found in a recording."""

PAUSE_SECONDS = 3.0
"""Silence before and after the recording."""

PAGES = """
import sys, time, mido
def turn(message):
    print(time.monotonic(), message.hex(), flush=True)
port = mido.open_input("pages", virtual=True, client_name=sys.argv[1], callback=turn)
print("ready", flush=True)
sys.stdin.read()
"""

PACKETS = """
import json, os, signal, socket, sys, time
from pythonosc.osc_bundle import OscBundle
signal.signal(signal.SIGINT, signal.SIG_IGN)
listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
listener.bind(("127.0.0.1", int(sys.argv[1])))
print("ready", flush=True)
while True:
    packet, came = listener.recv(65536), time.monotonic()
    for message in OscBundle(packet):
        print(json.dumps([came, message.address, *message.params]), flush=True)
"""


def free_port() -> int:
    """A UDP port that nobody uses."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_accompaniment(path: Path, truth: Sequence[dict[str, Any]]) -> list[int]:
    """A MIDI file with the soloist's notes and a wood block on the quarter notes.

    In the last movement it is on the first of each measure.

    Returns:
        the soloist's onsets, counted from 0, with which the wood block plays.
    """
    piano, wood = mido.MidiTrack(), mido.MidiTrack()
    meters, solo, sticks, doubled = [], [], [], []
    start = 0.0
    for movement, bar in enumerate(BAR_LENGTHS, 1):
        numbers = [n for n, onset in enumerate(truth) if onset["movement"] == movement]
        meter = {"numerator": round(2 * bar), "denominator": 8}
        meters.append((start, mido.MetaMessage("time_signature", **meter)))
        step = 1.0 if bar != 1.5 else bar
        for n in numbers:
            at = start + truth[n]["moment"]
            solo.append(at)
            if truth[n]["moment"] % step == 0 and at not in sticks:
                sticks.append(at)
                doubled.append(n)
        last = max(truth[n]["measure"] for n in numbers)
        start += bar * (last - truth[numbers[0]]["measure"] + 1)
    fill(piano, "piano", sorted(set(solo)), 0, 60, meters)
    fill(wood, "wood", sticks, 9, STICK, [])
    file = mido.MidiFile(ticks_per_beat=480)
    file.tracks += [piano, wood]
    file.save(path)
    return doubled


def fill(
    track: mido.MidiTrack,
    name: str,
    moments: Sequence[float],
    channel: int,
    pitch: int,
    others: Sequence[tuple[float, mido.MetaMessage]],
) -> None:
    """Write a short note at each moment, in quarter notes."""
    track.append(mido.MetaMessage("track_name", name=name))
    events = [(at, 0, message) for at, message in others]
    for at in moments:
        events.append((at, 2, mido.Message("note_on", channel=channel, note=pitch, velocity=90)))
        events.append((at + 0.1, 1, mido.Message("note_off", channel=channel, note=pitch)))
    now = 0
    for at, _, message in sorted(events, key=lambda event: event[:2]):
        ticks = round(at * 480)
        track.append(message.copy(time=ticks - now))
        now = ticks


class Desk:
    """Plays into the virtual microphone and records what fluidsynth plays, sample by sample.

    Attributes:
        at: the sample that is played next.
        came: (blocks,) monotonic times at which JACK asked for the blocks of the performance.
        recorded: (samples,) the accompaniment since the performance began.
    """

    def __init__(self, samples: NDArray[np.float32], server: str) -> None:
        self.samples = samples
        self.recorded = np.zeros(len(samples), np.float32)
        self.client = jack.Client(MICROPHONE, no_start_server=True, servername=server)
        self.period = self.client.blocksize
        self.came = np.zeros(len(samples) // self.period + 1)
        self.xruns = 0
        self._out = self.client.outports.register("out_1")
        self._in = self.client.inports.register("in_1")
        self.at = len(samples)
        self._dither = np.resize(np.array([1, -1], np.float32) * 2e-5, self.period)
        self.client.set_process_callback(self._process)
        self.client.set_xrun_callback(self._count)
        self.client.activate()

    def begin(self, at: int = 0) -> None:
        """Play from this sample."""
        self.at = at

    @property
    def busy(self) -> bool:
        """Whether the performance lasts."""
        return self.at < len(self.samples)

    def connect(self) -> None:
        """Record every fluidsynth there is."""
        for port in self.client.get_ports("fluidsynth", is_audio=True, is_output=True):
            if port not in self._in.connections:
                with suppress(jack.JackError):
                    self.client.connect(port, self._in)

    def close(self) -> None:
        """Let go of JACK; also where it is dead."""
        with suppress(jack.JackError):
            self.client.deactivate(ignore_errors=True)
            self.client.close(ignore_errors=True)

    def _process(self, frames: int) -> None:
        now = time.monotonic()
        out, at = self._out.get_array(), self.at
        out[:] = self._dither[:frames]
        if at >= len(self.samples):
            return
        count = min(frames, len(self.samples) - at)
        out[:count] += self.samples[at : at + count]
        self.recorded[at : at + count] = self._in.get_array()[:count]
        self.came[at // self.period] = now
        self.at = at + count

    def _count(self, delay: float) -> None:
        self.xruns += 1


@dataclass
class Performance:
    """One time through the recording.

    Attributes:
        came, recorded: as of `Desk`.
        period: samples in a block.
        rate: samples a second.
    """

    came: Floats
    recorded: NDArray[np.float32]
    period: int
    rate: int

    @property
    def begun(self) -> float:
        """Monotonic time of its first sample."""
        return float(self.sounded(np.zeros(1))[0])

    def sounded(self, seconds: Floats) -> Floats:
        """Monotonic times at which these seconds of the samples sounded.

        A sound card gives a block when its last sample was heard, so its first is a block old.
        """
        block, inside = np.divmod(np.round(seconds * self.rate).astype(int), self.period)
        return self.came[block] - (self.period - inside) / self.rate


@dataclass
class Usage:
    """What the follower's processes use; its own first, then with its recorder."""

    time: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    cpu_of_all: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)

    def look(self, pid: int) -> None:
        """Note it now; seconds of CPU so far, and resident memory."""
        with suppress(OSError, TypeError, IndexError):
            cpu, megabytes = cpu_seconds(pid), resident(pid)
            everybody = cpu + sum(cpu_seconds(child) for child in children(pid))
            self.time.append(time.monotonic())
            self.cpu.append(cpu)
            self.cpu_of_all.append(everybody)
            self.megabytes.append(megabytes)

    @staticmethod
    def share(times: Sequence[float], seconds: Sequence[float]) -> float:
        """Of one core."""
        return (seconds[-1] - seconds[0]) / (times[-1] - times[0])


def children(pid: int) -> list[int]:
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in files for child in file.read_text().split()]


def name_of(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> float:
    """Megabytes; 0 of a process that has just ended."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Stage:
    """A JACK server and all who work with it; a context manager.

    Each of them can be ended and opened anew by its `open_` method.
    """

    def __init__(
        self,
        out: Path,
        samples: NDArray[np.float32],
        rate: int,
        *,
        period: int = 882,
        priority: int = 0,
        options: Sequence[str] = (),
    ) -> None:
        self.out = out
        self.samples = samples
        self.rate = rate
        self.period = period
        self.priority = priority
        self.options = list(options)
        self.names: tuple[str, ...] = SERVERS
        self.osc_port, self.control_port = free_port(), free_port()
        self.usage = Usage()
        self.environment = os.environ | {
            "JACK_NO_START_SERVER": "1",
            "MIDO_BACKEND": "mido.backends.rtmidi/UNIX_JACK",
        }
        self.server: subprocess.Popen[bytes]
        self.pages: subprocess.Popen[bytes]
        self.packets: subprocess.Popen[bytes]
        self.follow: subprocess.Popen[bytes]
        self.desk: Desk
        self._ends = ExitStack()

    def __enter__(self) -> Stage:
        out = self.out
        out.mkdir(parents=True, exist_ok=True)
        with self._ends as ends:
            self.open_server()
            self.open_desk()
            self.open_pages()
            self.open_packets()
            self.follow = self._popen(self._command(), out / "follow.log")
            self._ends = ends.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def open_server(self) -> None:
        """Start JACK and wait until it answers.

        One that was open before is started by the same name, so that its clients find it.
        """
        how = ["-R", f"-P{60 + self.priority}"] if self.priority else ["-r"]
        dummy = ["-d", "dummy", "-r", str(self.rate), "-p", str(self.period)]
        for name in self.names:
            self.environment["JACK_DEFAULT_SERVER"] = name
            if self._is_running():
                continue
            self.server = self._popen(["jackd", *how, "-n", name, *dummy], self.out / "jackd.log")
            for _ in range(20):
                running = self._is_running()
                if self.server.poll() is not None:
                    break
                if running:
                    self.names = (name,)
                    return
        raise SystemExit(f"no JACK server starts: see {self.out / 'jackd.log'}")

    def _is_running(self) -> bool:
        """Whether a JACK server of the present name answers."""
        words = ["jack_wait", "-w", "-t", "1"]
        return subprocess.run(words, env=self.environment, capture_output=True).returncode == 0

    def open_desk(self) -> None:
        """Plug the virtual microphone in."""
        self.desk = Desk(self.samples, self.names[0])
        self._ends.callback(self.desk.close)

    def open_pages(self) -> None:
        """Who has the pages turned."""
        self.pages = self._python(PAGES, READER, log=self.out / "midi.log")

    def open_packets(self) -> None:
        """Who gets OSC."""
        self.packets = self._python(PACKETS, str(self.osc_port), log=self.out / "osc.log")

    def fluidsynth(self) -> int | None:
        """Its process, where it runs."""
        return next((p for p in children(self.follow.pid) if name_of(p) == "fluidsynth"), None)

    def wait_for_positions(self, seconds: float = 120.0) -> None:
        """Until the follower has read the pages and hears."""
        packets = self.out / "osc.log"
        deadline = time.monotonic() + seconds
        while "/sf/position" not in packets.read_text(encoding="utf-8"):
            if self.follow.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the follower does not follow: see {self.out / 'follow.log'}")
            time.sleep(0.2)

    def wait(self, seconds: float = np.inf) -> None:
        """Let the performance go on, at most to its end."""
        until = time.monotonic() + seconds
        while self.desk.busy and time.monotonic() < until:
            self.desk.connect()
            self.usage.look(self.follow.pid)
            time.sleep(0.5)

    def perform(self) -> Performance:
        """Play once."""
        self.desk.begin()
        self.wait()
        return self.performed()

    def performed(self) -> Performance:
        """What was played."""
        desk = self.desk
        blocks = -(-desk.at // desk.period)
        return Performance(desk.came[:blocks].copy(), desk.recorded.copy(), desk.period, self.rate)

    def send(self, address: str) -> None:
        """Tell the follower by OSC."""
        text = address.encode()
        packet = text + bytes(4 - len(text) % 4) + b",\0\0\0"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(packet, ("127.0.0.1", self.control_port))

    def end(self) -> int:
        """Stop following; the exit code."""
        self.send("/sf/stop")
        try:
            return self.follow.wait(30)
        except subprocess.TimeoutExpired:
            self.follow.kill()
            return self.follow.wait()

    def _command(self) -> list[str]:
        out = self.out
        program = "import sys; from sf_plugin.cli import main; sys.exit(main())"
        words = [*self._urgent(), sys.executable, "-c", program]
        words += ["follow", str(ASSETS / "score.pdf"), "--mic", MICROPHONE]
        words += ["--osc", f"127.0.0.1:{self.osc_port}", "--osc-in", str(self.control_port)]
        words += ["--turn", f"{READER},cc-page", "--record", str(out / "takes")]
        words += ["--accompany", f"{out / 'accompaniment.mid'},without=piano,audio=jack"]
        return [*words, *self.options]

    def _python(self, code: str, *words: str, log: Path) -> subprocess.Popen[bytes]:
        words = (*self._urgent(), sys.executable, "-u", "-c", code, *words)
        before = log.read_bytes().count(b"ready") if log.exists() else 0
        process = self._popen(words, log)
        while log.read_bytes().count(b"ready") <= before:
            if process.poll() is not None:
                raise SystemExit(f"a receiver does not start: see {log}")
            time.sleep(0.05)
        return process

    def _urgent(self) -> list[str]:
        return ["chrt", "-f", str(self.priority)] if self.priority else []

    def _popen(self, words: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as file:
            process = subprocess.Popen(
                words,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        self._ends.callback(end, process)
        return process


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process, gently at first."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# the programme


def prepare(
    begin: float, seconds: float, accompaniment: Path
) -> tuple[NDArray[np.float32], int, Truth, list[int]]:
    """A part of the recording with silence around it, and its accompaniment as a file.

    Returns:
        samples; their rate; the onsets in them; and which of these, counted from 0, the
        accompaniment doubles.
    """
    layout = Layout.from_json((ASSETS / "layout.json").read_text(encoding="utf-8"))
    truth = load_truth(ASSETS / "truth.json", layout)
    told = json.loads((ASSETS / "truth.json").read_text(encoding="utf-8"))["onsets"]
    doubled = write_accompaniment(accompaniment, told)
    take, own = soundfile.read(ASSETS / "take.ogg", dtype="float32")
    rate = SAMPLE_RATE
    take = soxr.resample(take, own, rate)
    take = take[round(begin * rate) : round((begin + seconds) * rate)]
    heard = (truth.time >= begin) & (truth.time < begin + len(take) / rate)
    first = int(np.argmax(heard))
    columns = ("time", "page", "system", "x", "measure")
    part = replace(truth, **{name: getattr(truth, name)[heard] for name in columns})
    part = replace(part, time=part.time - begin + PAUSE_SECONDS)
    silence = np.zeros(round(PAUSE_SECONDS * rate), np.float32)
    samples = np.concatenate([silence, take, silence])
    return samples, rate, part, [n - first for n in doubled if heard[n]]


def main(words: Sequence[str] | None = None) -> int:
    """Perform, measure, print the table; 0 when all goals were reached, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        default=Path("stage-out"),
        help="a new folder for all that is written (default %(default)s)",
    )
    parser.add_argument("--begin", type=float, default=0.0, help="second of the recording")
    parser.add_argument("--seconds", type=float, default=1e4, help="of the recording")
    parser.add_argument("--times", type=int, default=1, help="how often (default %(default)s)")
    parser.add_argument(
        "--period",
        type=int,
        default=882,
        help="frames in a block of JACK's sound at 44100 Hz (default %(default)s: 20 ms)",
    )
    parser.add_argument(
        "--priority",
        type=int,
        default=0,
        help="of the real-time scheduler, 1 to 30; 0, the default, for none",
    )
    parser.add_argument("follow", nargs="*", metavar="-- OPTION", help="more for the follower")
    args = parser.parse_args(words)
    out: Path = args.out
    if out.exists():
        parser.error(f"{out} is there already: choose another --out")
    out.mkdir(parents=True)
    samples, rate, truth, doubled = prepare(args.begin, args.seconds, out / "accompaniment.mid")
    with Stage(
        out, samples, rate, period=args.period, priority=args.priority, options=args.follow
    ) as stage:
        stage.wait_for_positions()
        performances = []
        for n in range(args.times):
            if n:
                stage.send("/sf/reset")
                time.sleep(PAUSE_SECONDS)
            performances.append(stage.perform())
        code = stage.end()
    used = asdict(stage.usage)
    header = ",".join(used)
    np.savetxt(out / "usage.csv", np.column_stack([*used.values()]), "%.2f", ",", header=header)
    outcome = judge(stage, performances, truth, doubled)
    outcome.code = code
    soundfile.write(out / "accompaniment.wav", performances[-1].recorded, rate)
    both = np.stack([samples, performances[-1].recorded], 1)
    soundfile.write(out / "together.wav", both, rate)
    (out / "figures.json").write_text(json.dumps(asdict(outcome)), encoding="utf-8")
    table = Table("what", "measured", "goal", "", box=None, pad_edge=False)
    for what, measured, goal, good in outcome.rows():
        table.add_row(what, measured, goal, "" if not goal else "yes" if good else "NO")
    Console(highlight=False).print(table)
    return 0 if all(good for *_, good in outcome.rows()) else 1


if __name__ == "__main__":
    sys.exit(main())
