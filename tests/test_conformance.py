from __future__ import annotations

import shutil
import socket
import threading
import time
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from jackd import needs_jackd, start_ready, stop
from midi_peers import midi_server
from numpy.typing import NDArray

from sf_plugin.api import Samples
from sf_plugin.conformance import (
    Broken,
    Plugin,
    check_follower,
    check_mapper,
    check_page_loader,
    check_sink,
    check_source,
    small_score,
    some_notes,
)
from sf_plugin.conformance import sinks as sink_rules
from sf_plugin.conformance import sources as source_rules
from sf_plugin.errors import ScoreError
from sf_plugin.followers import Follower, Progress, no_progress
from sf_plugin.hookspecs import hookimpl
from sf_plugin.plugins import registry
from sf_plugin.positions import Control, Estimate, Event, Position
from sf_plugin.score.layout import Layout
from sf_plugin.score.measures import PlainMapper
from sf_plugin.score.model import PAGE_WIDTH, Score
from sf_plugin.sinks import Sink

DATA = Path(__file__).parent / "data"
DEMO = ROOT / "sf_plugin" / "demo_assets"


# the built-ins


@pytest.mark.parametrize(
    ("name", "argument", "bad"),
    [
        ("out", "{folder}/positions.jsonl", "{folder}/no/positions.jsonl"),
        ("osc", "127.0.0.1:9", "127.0.0.1:0"),
        ("osc", "127.0.0.1:9,beats", "127.0.0.1:9,nonsense"),
        ("osc-in", "{port}", "{port},nonsense"),
        ("html", "{folder}/report.html", "{folder}/no/report.html"),
        ("serve", "127.0.0.1:{port}", "127.0.0.1:http"),
    ],
)
def test_built_in_sinks_conform(name: str, argument: str, bad: str, tmp_path: Path) -> None:
    make = registry().sinks.choose(name)
    with socket.socket(type=socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        known = {"folder": tmp_path, "port": free.getsockname()[1]}
    check_sink(lambda: make(argument.format(**known)), lambda: make(bad.format(**known)))


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed")
def test_the_video_conforms(tmp_path: Path) -> None:
    make = registry().sinks.choose("video")
    check_sink(lambda: make(f"{tmp_path}/video.mp4,240"), lambda: make(f"{tmp_path}/no/video.mp4"))


PEER = """
import sys, mido
ports = [mido.open_input("in", virtual=True, client_name="Peer"),
         mido.open_output("out", virtual=True, client_name="Keys")]
print("ready")
sys.stdin.read()
"""


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A MIDI input called Peer and an output called Keys, of another program, over JACK."""
    with midi_server(monkeypatch):
        process = start_ready(PEER)
        yield
        stop(process)


@needs_jackd
@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("turn", "peer"),
        ("clock", "peer"),
        ("midi-control", "keys"),
        ("accompany", f"{DATA / 'sonatina-1.mid'},port=peer"),
    ],
)
def test_midi_sinks_conform(name: str, argument: str, peer: None) -> None:
    make = registry().sinks.choose(name)
    check_sink(lambda: make(argument), lambda: make("no such port"))


@needs_jackd
def test_the_keyboard_conforms(peer: None) -> None:
    make = registry().sources.choose("midi")
    check_source(lambda: make("keys"), lambda: make("no such port"))


def test_sound_from_the_network_conforms() -> None:
    make = registry().sources.choose("tcp")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    over = threading.Event()

    def send() -> None:
        """Noise to whoever listens, again and again."""
        noise = np.random.default_rng(0).integers(-9999, 9999, 4410).astype("<i2").tobytes()
        while not over.wait(0.02):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as line:
                while not over.wait(0.05):
                    line.sendall(noise)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        check_source(lambda: make(f"{port},s16le,44100,1"), lambda: make(f"{port},mp3,44100,1"))
    finally:
        over.set()
        sender.join(20)


@pytest.mark.parametrize("file", [DEMO / "take.ogg", DATA / "sonatina-1.mid"])
def test_files_as_sources_conform(file: Path, tmp_path: Path) -> None:
    make = registry().sources.choose("file")
    check_source(lambda: make(str(file)), lambda: make(str(tmp_path / "there-is-none.wav")))


def test_samples_in_memory_conform() -> None:
    check_source(
        lambda: Samples(some_notes(44100), 44100), lambda: Samples(np.zeros(0, np.float32), 44100)
    )


@pytest.mark.parametrize(
    ("suffix", "file"),
    [
        (".pdf", DEMO / "score.pdf"),
        (".musicxml", DATA / "waltz.musicxml"),
        (".krn", DATA / "pickup.krn"),
    ],
)
def test_built_in_loaders_conform(suffix: str, file: Path, tmp_path: Path) -> None:
    loader = registry().page_loaders.choose(suffix)
    check_page_loader(loader, [file], tmp_path)


def test_the_mapper_conforms() -> None:
    check_mapper(registry().mappers.choose("plain"))


def test_the_unet_conforms() -> None:
    make = registry().followers.choose("unet")
    check_follower(make, sound=some_notes(make().sample_rate, seconds=2.0))


# followers that break a rule


class Steady(Follower):
    """A frame every tenth of a second, all at one place."""

    sample_rate = 1000

    def prepare(self, score: Score, progress: Progress = no_progress) -> Layout:
        if score.layout is None:
            raise ScoreError("has no layout: give one")
        self.layout = score.layout
        self.first = score.followed.start + 1
        self.reset()
        return self.layout

    def reset(self) -> None:
        self.heard = np.zeros(0, np.float32)
        self.frames = 0

    def feed(self, samples: NDArray[np.float32]) -> Iterator[Estimate]:
        self.heard = np.concatenate([self.heard, samples])
        while len(self.heard) >= (self.frames + 1) * 100:
            self.frames += 1
            yield self.estimate()

    def estimate(self) -> Estimate:
        return Estimate(self.frames / 10, self.first, 0.5, 0.2, 0.5, "tracking")


def test_a_follower_that_does_little_conforms() -> None:
    check_follower(Steady)


class OffThePage(Steady):
    def estimate(self) -> Estimate:
        return replace(super().estimate(), x=1.2)


class OfAnotherState(Steady):
    def estimate(self) -> Estimate:
        return replace(super().estimate(), state="playing")  # type: ignore[arg-type]


class BackInTime(Steady):
    def estimate(self) -> Estimate:
        return replace(super().estimate(), time=1.0)


class AheadOfTime(Steady):
    def estimate(self) -> Estimate:
        return replace(super().estimate(), time=self.frames / 10 + 1)


class Late(Steady):
    def estimate(self) -> Estimate:
        return replace(super().estimate(), time=self.frames / 10 - 0.3)


class ByTheBlock(Steady):
    def feed(self, samples: NDArray[np.float32]) -> Iterator[Estimate]:
        level = float(np.abs(samples).max(initial=0))
        for one in super().feed(samples):
            yield replace(one, confidence=min(level, 1.0))


class Forgetless(Steady):
    def reset(self) -> None:
        self.heard = np.zeros(0, np.float32)
        self.frames = getattr(self, "frames", -1) + 1


class Scribbling(Steady):
    def feed(self, samples: NDArray[np.float32]) -> Iterator[Estimate]:
        samples *= 0.5
        return super().feed(samples)


class Deaf(Steady):
    def feed(self, samples: NDArray[np.float32]) -> Iterator[Estimate]:
        return iter(())


class Silent(Steady):
    def feed(self, samples: NDArray[np.float32]) -> Iterator[Estimate]:
        return super().feed(samples) if np.abs(samples).max(initial=0) > 0.01 else iter(())


class Sparse(Steady):
    def feed(self, samples: NDArray[np.float32]) -> Iterator[Estimate]:
        for one in super().feed(samples):
            if self.frames % self.hurry == 0:
                yield one


class EveryPage(Steady):
    def estimate(self) -> Estimate:
        return replace(super().estimate(), page=1)


class OwnLayout(Steady):
    def prepare(self, score: Score, progress: Progress = no_progress) -> Layout:
        super().prepare(score)
        return Layout(self.layout.pages[:1])


class Guessing(Steady):
    def prepare(self, score: Score, progress: Progress = no_progress) -> Layout:
        (page, *_), backwards = self.pages_of(score), slice(None, None, -1)
        if score.layout is None:
            system = replace(page.systems[0], measures=page.systems[0].measures[backwards])
            return Layout((replace(page, systems=(system,)),))
        return super().prepare(score)

    @staticmethod
    def pages_of(score: Score) -> tuple[Any, ...]:
        layout = small_score().layout if score.layout is None else score.layout
        assert layout is not None
        return layout.pages


class Breaking(Steady):
    def goto(self, page: int, x: float, y: float) -> None:
        raise ZeroDivisionError("on purpose")


@pytest.mark.parametrize(
    ("follower", "rule"),
    [
        (OffThePage, "x and y from 0 to 1: x 1.2"),
        (OfAnotherState, "`state` must be one of waiting, tracking"),
        (BackInTime, "`time` must rise from estimate to estimate: 1.0 after 1.0"),
        (AheadOfTime, "an estimate must be told when it is known"),
        (Late, "an estimate must be told when it is known"),
        (ByTheBlock, "must not depend on how the samples are cut into blocks"),
        (ByTheBlock, "must not depend on what comes later"),
        (Forgetless, "`reset` must forget the performance"),
        (Scribbling, "`feed` must not write to the samples"),
        (Deaf, "`feed` must give estimates for the samples it hears: it gave none in 6 s"),
        (Silent, "silence must be followed as well as sound"),
        (Sparse, "with `hurry` above 1 there must be an estimate of each frame"),
        (EveryPage, "only the pages `score.followed`"),
        (OwnLayout, "the score's own if any: it gave another"),
        (Guessing, "a score without a layout must be read, or refused with a ScoreError"),
        (Breaking, "`goto` must be taken, or ignored, at any time: it raised ZeroDivisionError"),
    ],
)
def test_a_follower_is_told_what_it_must_do(follower: type[Follower], rule: str) -> None:
    with pytest.raises(Broken) as broken:
        check_follower(follower)
    assert rule in str(broken.value)


# sinks that break a rule


class Quiet(Sink):
    pass


def test_a_sink_that_does_nothing_conforms() -> None:
    check_sink(Quiet)


class ClosesOnce(Sink):
    def open(self, score: Score, layout: Layout) -> None:
        self.items: list[Event] | None = []

    def close(self) -> None:
        assert self.items is not None
        self.items = None


class KnowsAll(Sink):
    def emit(self, event: Event) -> None:
        if isinstance(event, Position):
            assert event.measure is not None, "no measure"


class Strict(Sink):
    def emit(self, event: Event) -> None:
        if isinstance(event, Control):
            raise TypeError("what is this?")


class Sleepy(Sink):
    def emit(self, event: Event) -> None:
        time.sleep(0.1)


class Hiding(Sink):
    def __exit__(self, *error: Any) -> bool:  # type: ignore[override]
        return True


class Leaving(Sink):
    def open(self, score: Score, layout: Layout) -> None:
        threading.Thread(target=time.sleep, args=(1,), name="left behind").start()


class OneThread(Sink):
    def open(self, score: Score, layout: Layout) -> None:
        self.thread = threading.current_thread()

    def emit(self, event: Event) -> None:
        assert threading.current_thread() is self.thread


class RaisesAnything(Sink):
    def open(self, score: Score, layout: Layout) -> None:
        raise OSError("on purpose")


@pytest.mark.parametrize(
    ("sink", "rule"),
    [
        (ClosesOnce, "`close` must be harmless before `open`"),
        (ClosesOnce, "`close` must be harmless a second time"),
        (KnowsAll, "must take what a session tells: it raised AssertionError: no measure"),
        (Strict, "must take what a session tells: it raised TypeError: what is this?"),
        (Sleepy, "`emit` must return quickly"),
        (Hiding, "it must close also when the session fails"),
        (Leaving, "`close` must end the threads it began: still there: left behind"),
        (OneThread, "it must work in another thread than it was opened in"),
    ],
)
def test_a_sink_is_told_what_it_must_do(
    sink: type[Sink], rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink_rules, "SECONDS", 0.2)
    monkeypatch.setattr(sink_rules, "WAIT_SECONDS", 0.1)
    with pytest.raises(Broken) as broken:
        check_sink(sink)
    assert rule in str(broken.value)


@pytest.mark.parametrize("bad", [Quiet, RaisesAnything])
def test_a_receiver_that_cannot_be_used_is_to_be_refused(bad: Callable[[], Sink]) -> None:
    with pytest.raises(Broken, match="must be refused with a SinkError"):
        check_sink(Quiet, bad)


# sources that break a rule


class Tone(Samples):
    """Three seconds in blocks of one."""

    blocks_of: Callable[[NDArray[np.float32]], Any] = staticmethod(lambda block: block)

    def __init__(self) -> None:
        super().__init__(some_notes(8000, 3.0), 8000)

    def blocks(self, sample_rate: int) -> Iterator[NDArray[np.float32]]:
        for block in super().blocks(sample_rate):
            yield type(self).blocks_of(block)


class Double(Tone):
    blocks_of = staticmethod(lambda block: block.astype(float))


class Stereo(Tone):
    blocks_of = staticmethod(lambda block: np.stack([block, block], 1))


class Integers(Tone):
    blocks_of = staticmethod(lambda block: block * 32768)


class OneRate(Tone):
    def blocks(self, sample_rate: int) -> Iterator[NDArray[np.float32]]:
        return super().blocks(16000)


class WrongLength(Tone):
    def __init__(self) -> None:
        super().__init__()
        self.seconds = 9.0


class Endless(Tone):
    live = True

    def blocks(self, sample_rate: int) -> Iterator[NDArray[np.float32]]:
        while True:
            time.sleep(0.02)
            yield np.zeros(sample_rate // 10, np.float32)


class Stuck(Tone):
    def blocks(self, sample_rate: int) -> Iterator[NDArray[np.float32]]:
        time.sleep(2)
        yield from super().blocks(sample_rate)


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        (Double, "float32 samples, full scale 1.0: they are float64"),
        (Stereo, "mix the channels to one"),
        (Integers, "divide integers by their full scale"),
        (OneRate, "`blocks` must resample to the rate that is asked for"),
        (WrongLength, "`seconds` must be the length: 9.0, not 3.00"),
        (Endless, "`blocks` must end soon after `close`"),
        (Stuck, "nothing came for 0.5 s"),
    ],
)
def test_a_source_is_told_what_it_must_do(
    source: type[Samples], rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_rules, "WAIT_SECONDS", 0.5)
    with pytest.raises(Broken) as broken:
        check_source(source)
    assert rule in str(broken.value)


# loaders and mappers that break a rule


def loading(page: NDArray[Any], name: str = "score") -> Callable[[Sequence[Path]], Score]:
    return lambda paths: Score(name, [page])


PAGE = np.full((1200, PAGE_WIDTH), 255, np.uint8)


@pytest.mark.parametrize(
    ("loader", "rule"),
    [
        (loading(PAGE.astype(float)), "grey levels, uint8: it is float64"),
        (loading(np.stack([PAGE] * 3, 2)), "grey levels, uint8: it has shape (1200, 848, 3)"),
        (loading(PAGE[:, :800]), "it has shape (1200, 800)"),
        (loading(PAGE, name=" "), "`Score.name` must say what to call it"),
        (loading(PAGE), "a file that is empty must be refused with a ScoreError"),
        (lambda paths: None, "give a sf_plugin.Score: it gave a NoneType"),
    ],
)
def test_a_loader_is_told_what_it_must_do(loader: Any, rule: str, tmp_path: Path) -> None:
    file = tmp_path / "score.abc"
    file.write_text("X:1")
    with pytest.raises(Broken) as broken:
        check_page_loader(loader, [file], tmp_path)
    assert rule in str(broken.value)


def test_a_loader_must_name_the_file_that_it_refuses(tmp_path: Path) -> None:
    good = tmp_path / "good.txt"
    good.write_text("a score")

    def loader(paths: Sequence[Path]) -> Score:
        if paths[0] != good:
            raise ScoreError("bad file")
        return Score("score", [PAGE])

    with pytest.raises(Broken, match="ScoreError that names it, or be read: its message was"):
        check_page_loader(loader, [good], tmp_path)


class Early(PlainMapper):
    def locate(self, estimate: Estimate) -> Position:
        return super().locate(replace(estimate, time=estimate.time - 1))


class Elsewhere(PlainMapper):
    def locate(self, estimate: Estimate) -> Position:
        return replace(super().locate(estimate), measure=99)


class Remembering(PlainMapper):
    def open(self, layout: Layout) -> None:
        if hasattr(self, "_passes"):
            self.extend(layout)
        else:
            super().open(layout)


class Restarting(PlainMapper):
    def extend(self, layout: Layout) -> None:
        if hasattr(self, "_passes"):
            del self._passes
            self.open(layout)
        else:
            super().extend(layout)


@pytest.mark.parametrize(
    ("mapper", "rule"),
    [
        (Early, "time, page, confidence and state must be those of the estimate"),
        (Elsewhere, "system and measure must be None or of the page, `pass_` from 1: measure 99"),
        (Elsewhere, "a page without systems, or not in the layout"),
        (Remembering, "`open` must begin a new performance"),
        (Restarting, "`extend` must keep what is known of the performance"),
    ],
)
def test_a_mapper_is_told_what_it_must_do(mapper: type[PlainMapper], rule: str) -> None:
    with pytest.raises(Broken) as broken:
        check_mapper(mapper)
    assert rule in str(broken.value)


# a plug-in


def plugin(**hooks: Callable[[Any], None]) -> types.ModuleType:
    module = types.ModuleType("a_plugin")
    for name, hook in hooks.items():
        setattr(module, name, hookimpl(hook))
    return module


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("quiet", None),
        ("osc", "sink 'osc' is registered by both 'sf_adapters.osc' and 'a_plugin'"),
        ("Quiet", "its name becomes an option"),
        ("loud", "it must register the sink 'quiet'"),
    ],
)
def test_a_plugin_is_tried_as_it_is_registered(
    name: str, reason: str | None, conformance: Callable[[types.ModuleType], Plugin]
) -> None:
    def register_sinks(register) -> None:  # type: ignore[no-untyped-def]
        register(name, lambda argument: Quiet(), help="hears and says nothing")

    module = plugin(register_sinks=register_sinks)
    asked = "quiet" if name == "loud" else name
    if reason is None:
        conformance(module).sink(asked)
        return
    with pytest.raises(Broken) as broken:
        conformance(module).sink(asked)
    assert reason in str(broken.value)


def test_a_module_without_hooks_is_told_so(
    conformance: Callable[[types.ModuleType], Plugin],
) -> None:
    with pytest.raises(Broken, match=r"no functions marked with sf_plugin\.hookimpl"):
        conformance(types.ModuleType("empty"))
