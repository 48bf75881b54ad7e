"""Raw samples through real sockets."""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from sf_plugin.audio.live import PushedSource
from sf_plugin.audio.network import TcpSource
from sf_plugin.audio.pcm import PcmFormat
from sf_plugin.audio.source import Source
from sf_plugin.audio.sources import open_source
from sf_plugin.errors import AudioError

RATE = 22050
FLOATS = PcmFormat("f32le", RATE, 1)
NOISE = np.random.default_rng(7).uniform(-0.9, 0.9, RATE).astype("<f4")


class Ear:
    """Listens to a source in a thread of its own."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.blocks: list[NDArray[np.float32]] = []
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        for block in self.source.blocks(RATE):
            self.blocks.append(block)

    @property
    def heard(self) -> NDArray[np.float32]:
        return np.concatenate([np.zeros(0, np.float32), *self.blocks])

    @property
    def seconds(self) -> float:
        return len(self.heard) / RATE

    @property
    def loud(self) -> int:
        return int(np.count_nonzero(self.heard))

    def wait(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not true():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def end(self) -> NDArray[np.float32]:
        self.source.close()
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.heard


@contextmanager
def listening(source: Source) -> Iterator[Ear]:
    with source:
        ear = Ear(source)
        ear.wait(lambda: bool(ear.blocks))
        yield ear
        ear.end()


def connect(source: TcpSource) -> socket.socket:
    return socket.create_connection((source.host, source.port), timeout=30)


def assert_heard(heard: NDArray[np.float32], sent: NDArray[np.float32]) -> None:
    """All that was sent came, in one piece."""
    at = int(np.flatnonzero(heard == sent[0])[0])
    np.testing.assert_array_equal(heard[at : at + len(sent)], sent)


def send_in_time(connection: socket.socket, samples: NDArray[np.float32], cut: int = 441) -> None:
    began = time.monotonic()
    for at in range(0, len(samples), cut):
        connection.sendall(samples[at : at + cut].tobytes())
        time.sleep(max(0.0, began + (at + cut) / RATE - time.monotonic()))


@pytest.mark.parametrize("cut", [331, 4096])
def test_every_sample_arrives(cut: int) -> None:
    with listening(TcpSource(form=FLOATS)) as ear, connect(ear.source) as sender:
        send_in_time(sender, NOISE, cut)
        ear.wait(lambda: ear.loud >= len(NOISE))
        assert ear.source.dropped_seconds == 0
        assert_heard(ear.end(), NOISE)


def test_pieces_of_a_frame_are_put_together() -> None:
    values = (NOISE.repeat(2)[: 2 * 4000] * 32767).astype("<i2")
    form = PcmFormat("s16le", RATE, 2)
    with listening(TcpSource(form=form)) as ear, connect(ear.source) as sender:
        data = values.tobytes() + b"\x01\x02\x03"
        for at in range(0, len(data), 999):
            sender.sendall(data[at : at + 999])
        ear.wait(lambda: ear.loud >= 3990)
        expected = values.reshape(-1, 2).astype(np.float32).mean(axis=1) / 32768
        heard = ear.end()
    at = int(np.argmin(np.abs(heard - expected[0]) + (heard == 0)))
    np.testing.assert_allclose(heard[at : at + 4000], expected, atol=1e-6)


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed")
def test_ffmpeg_sends_a_recording(tmp_path: Path) -> None:
    time_ = np.arange(2 * 44100) / 44100
    soundfile.write(tmp_path / "take.wav", 0.5 * np.sin(2 * np.pi * 441 * time_), 44100)
    with listening(TcpSource(form=PcmFormat("s16le", 48000, 2))) as ear:
        command = ["ffmpeg", "-v", "error", "-nostdin", "-re", "-i", str(tmp_path / "take.wav")]
        command += ["-f", "s16le", "-ar", "48000", "-ac", "2"]
        subprocess.run([*command, f"tcp://127.0.0.1:{ear.source.port}"], check=True, timeout=60)
        ear.wait(lambda: ear.loud > 1.9 * RATE)
        heard = ear.end()
    loud = np.flatnonzero(np.abs(heard) > 0.1)
    sound = heard[loud[0] : loud[-1]]
    assert len(sound) == pytest.approx(2 * RATE, abs=0.02 * RATE)
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    assert np.argmax(spectrum) * RATE / len(sound) == pytest.approx(441, abs=1)


def test_the_sender_drops_and_another_comes(caplog: pytest.LogCaptureFixture) -> None:
    with listening(TcpSource(form=FLOATS)) as ear:
        with connect(ear.source) as sender:
            began = time.monotonic()
            send_in_time(sender, NOISE[: RATE // 2])
        time.sleep(1.3)
        with connect(ear.source) as sender:
            send_in_time(sender, NOISE[RATE // 2 :])
            elapsed = time.monotonic() - began
            ear.wait(lambda: ear.loud >= len(NOISE) - 1)
        heard = ear.end()
    assert_heard(heard, NOISE[: RATE // 2])
    assert_heard(heard, NOISE[RATE // 2 :])
    loud = np.flatnonzero(heard)
    assert (loud[-1] - loud[0]) / RATE == pytest.approx(elapsed, abs=0.4)
    assert ear.source.dropped_seconds == pytest.approx(1.3, abs=0.6)
    assert [record.getMessage() for record in caplog.records][:2] == [
        "network sound: the sender is gone: silence is heard until it is back",
        "network sound: there is a sender again",
    ]


def test_a_second_sender_is_refused_while_one_plays(caplog: pytest.LogCaptureFixture) -> None:
    with listening(TcpSource(form=FLOATS)) as ear, connect(ear.source) as first:
        first.sendall(NOISE[:2000].tobytes())
        ear.wait(lambda: ear.loud >= 2000)
        with connect(ear.source) as second:
            second.sendall(np.full(4000, 0.5, "<f4").tobytes())
            assert closed_by_the_other(second)
        first.sendall(NOISE[2000:4000].tobytes())
        ear.wait(lambda: ear.loud >= 4000)
        heard = ear.end()
    assert_heard(heard, NOISE[2000:4000])
    assert not (heard == 0.5).any()
    assert "another sender is" in caplog.text


def test_a_sender_that_fell_silent_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sf_plugin.audio.network.PATIENCE_SECONDS", 0.3)
    with listening(TcpSource(form=FLOATS)) as ear, connect(ear.source) as first:
        first.sendall(NOISE[:2000].tobytes())
        ear.wait(lambda: ear.loud >= 2000)
        time.sleep(0.5)
        with connect(ear.source) as second:
            second.sendall(NOISE[2000:6000].tobytes())
            ear.wait(lambda: ear.loud >= 6000)
            assert closed_by_the_other(first)


def closed_by_the_other(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def test_an_idle_connection_does_not_hold_the_seat() -> None:
    with (
        listening(TcpSource(form=FLOATS)) as ear,
        connect(ear.source),
        connect(ear.source) as sender,
    ):
        sender.sendall(NOISE[:2000].tobytes())
        ear.wait(lambda: ear.loud >= 2000)


def test_a_sender_that_is_too_fast_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with listening(TcpSource(form=FLOATS)) as ear, connect(ear.source) as sender:
        began = time.monotonic()
        sender.sendall(np.tile(NOISE, 8).tobytes())
        ear.wait(lambda: ear.source.dropped_seconds > 5)
        seconds = time.monotonic() - began
        ear.wait(lambda: "ffmpeg -re" in caplog.text)
        assert ear.loud / RATE < seconds + 2


def test_time_goes_on_in_silence_without_a_sender() -> None:
    with listening(TcpSource(form=FLOATS)) as ear:
        began, before = time.monotonic(), ear.seconds
        ear.wait(lambda: ear.seconds > before + 1)
        assert time.monotonic() - began > 0.5
        assert ear.loud == 0
        assert ear.source.dropped_seconds == 0


TOKEN = "a-token-of-ours"


@pytest.fixture
def guarded() -> Iterator[Ear]:
    with listening(TcpSource("0.0.0.0", form=FLOATS, token=TOKEN)) as ear:
        yield ear


def test_the_right_token(guarded: Ear) -> None:
    with socket.create_connection(("127.0.0.1", guarded.source.port)) as sender:
        sender.sendall(f"SF-TOKEN {TOKEN}\r\n".encode() + NOISE[:3000].tobytes())
        guarded.wait(lambda: guarded.loud >= 3000)
    assert_heard(guarded.end(), NOISE[:3000])


@pytest.mark.parametrize(
    "beginning",
    [
        b"SF-TOKEN wrong\n",
        b"SF-TOKEN \n",
        b"SF-TOKEN a-token-of-our\n",
        b"SF-TOKEN a-token-of-ourss\n",
        b"sf-token a-token-of-ours\n",
        b"\n",
        b"x" * 1000 + b"\n",
        b"\xff" * 300,
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_a_wrong_token(guarded: Ear, beginning: bytes) -> None:
    with socket.create_connection(("127.0.0.1", guarded.source.port), timeout=30) as sender:
        sender.sendall(beginning + NOISE[:3000].tobytes())
        assert closed_by_the_other(sender)
    assert guarded.loud == 0


def test_a_token_is_made_up_and_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SCOREFOLLOW_TOKEN", raising=False)
    with listening(open_source("tcp:0.0.0.0:0,f32le,22050")) as ear:
        line = caplog.records[0].getMessage().split("'")[1].encode() + b"\n"
        assert len(line) > 20
        with socket.create_connection(("127.0.0.1", ear.source.port)) as sender:
            sender.sendall(line + NOISE[:3000].tobytes())
            ear.wait(lambda: ear.loud >= 3000)


def test_a_token_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCOREFOLLOW_TOKEN", TOKEN)
    source = open_source("tcp:0.0.0.0:0,f32le,22050")
    assert isinstance(source, TcpSource)
    with (
        listening(source) as ear,
        socket.create_connection(("127.0.0.1", source.port)) as sender,
    ):
        sender.sendall(f"SF-TOKEN {TOKEN}\n".encode() + NOISE[:3000].tobytes())
        ear.wait(lambda: ear.loud >= 3000)


@pytest.mark.parametrize(
    "beginning",
    [b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"POST /", b"RIFF\x24\x08\x00\x00WAVE"],
)
def test_browsers_and_files_are_refused(beginning: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with listening(TcpSource(form=PcmFormat("s16le", RATE, 1))) as ear:
        with connect(ear.source) as sender:
            with suppress(ConnectionError):
                for at in range(len(beginning)):
                    sender.sendall(beginning[at : at + 1])
                sender.sendall(bytes(range(1, 101)))
            assert closed_by_the_other(sender)
        assert ear.loud == 0
    assert "without a header" in caplog.text


def test_garbage_is_only_noise() -> None:
    """Ten thousand pieces of anything, from many connections; then music as ever."""
    chance = random.Random(11)
    nasty = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45], "<f4").tobytes()
    with listening(TcpSource(form=PcmFormat("f32le", RATE, 2))) as ear:
        for _ in range(100):
            with connect(ear.source) as sender, suppress(ConnectionError):
                for _ in range(100):
                    piece = chance.randbytes(chance.randrange(1, 200))
                    sender.sendall(chance.choice((piece, nasty, piece[:3])))
        ear.wait(lambda: len(ear.heard) and ear.source.waiting_seconds == 0)
        heard = ear.heard
        assert np.isfinite(heard).all() and np.abs(heard).max() <= 1
        before = len(heard)
        time.sleep(0.5)
        with connect(ear.source) as sender:
            stereo = np.repeat(NOISE[:4000], 2)
            sender.sendall(stereo.tobytes())
            ear.wait(lambda: np.count_nonzero(ear.heard[before:]) >= 4000)
        assert_heard(ear.end()[before:], NOISE[:4000])


@pytest.mark.parametrize(
    "spec",
    ["", "x", "99999999", "70000", "9100,s24le", "9100,s16le,0", "localhost", "h:9100:1", "-1"],
)
def test_a_wrong_description(spec: str) -> None:
    with pytest.raises(AudioError, match=r"network sound|raw audio"):
        open_source(f"tcp:{spec}")


def test_a_port_in_use() -> None:
    with TcpSource() as first, pytest.raises(AudioError, match="in use: choose another port"):
        TcpSource(port=first.port)


def test_closing_twice_and_without_listening() -> None:
    source = TcpSource()
    port = source.port
    source.close()
    source.close()
    assert list(source.blocks(RATE)) == []
    TcpSource(port=port).close()


# pushed


def test_pushed_from_any_thread_and_restarted_at_another_rate() -> None:
    with listening(PushedSource(RATE)) as ear:
        assert isinstance(ear.source, PushedSource)
        threads = [
            threading.Thread(target=ear.source.push, args=(np.full(500, 0.5),)) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        ear.wait(lambda: ear.loud >= 4000)
        ear.source.restart(44100)
        ear.source.push(np.full(8820, 0.25, np.float32))
        ear.wait(lambda: ear.loud >= 4000 + 4000)
        assert ear.source.waiting_seconds == 0
        heard = ear.end()
    assert np.count_nonzero(heard == 0.5) == 4000
    assert np.count_nonzero(np.abs(heard - 0.25) < 0.01) == pytest.approx(4410, abs=100)


def test_a_late_listener_keeps_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    source = PushedSource(RATE)
    blocks = source.blocks(RATE)
    next(blocks)
    for n in range(300):
        source.push(np.full(RATE // 10, (n + 1) / 1000, np.float32))
        assert source.waiting_seconds <= 10.01
    assert source.dropped_seconds == pytest.approx(20, abs=0.2)
    assert source.waiting_seconds == pytest.approx(10, abs=0.2)
    source.close()
