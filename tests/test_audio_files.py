"""Files of many kinds come in as the same mono samples."""

from __future__ import annotations

import logging
import shutil
import subprocess
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sf_plugin.audio.files import FileSource
from sf_plugin.audio.keyboard import Keyboard
from sf_plugin.audio.microphone import Microphone
from sf_plugin.audio.network import TcpSource
from sf_plugin.audio.pcm import PcmSource
from sf_plugin.audio.resampler import MonoResampler
from sf_plugin.audio.sources import open_file, open_source, register_sources
from sf_plugin.errors import AudioError

RATE = 22050
needs_ffmpeg = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed")


def tone(rate: int, seconds: float, hz: float = 440.0) -> NDArray[np.float32]:
    times = np.arange(round(rate * seconds)) / rate
    return (0.5 * np.sin(2 * np.pi * hz * times)).astype(np.float32)


def read(path: Path) -> NDArray[np.float32]:
    with FileSource(path) as source:
        return np.concatenate(list(source.blocks(RATE)))


def loudest_hz(samples: NDArray[np.float32]) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax() * RATE / len(samples))


def ffmpeg(source: Path, target: Path, *options: str) -> Path:
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-i", str(source), *options, str(target)]
    subprocess.run(command, check=True)
    return target


def resample(samples: NDArray[np.float32], rate: int, sizes: list[int]) -> NDArray[np.float32]:
    resampler = MonoResampler(rate, RATE)
    pieces, at, turn = [], 0, 0
    while at < len(samples):
        size = sizes[turn % len(sizes)]
        pieces.append(resampler.feed(samples[at : at + size]))
        at, turn = at + size, turn + 1
    return np.concatenate([*pieces, resampler.finish()])


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_blocks_of_any_size_resample_to_the_same_samples(rate: int) -> None:
    noise = np.random.default_rng(rate).uniform(-1, 1, 10 * rate + 17).astype(np.float32)
    whole = resample(noise, rate, [len(noise)])
    assert len(whole) == pytest.approx(len(noise) * RATE / rate, abs=1)
    for size in (1, 480, 4096, 3 * rate):
        np.testing.assert_array_equal(resample(noise, rate, [size]), whole)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 5000), min_size=1, max_size=8), st.sampled_from([11025, 44100]))
def test_uneven_blocks_resample_to_the_same_samples(sizes: list[int], rate: int) -> None:
    noise = np.random.default_rng(1).uniform(-1, 1, (20011, 2)).astype(np.float32)
    np.testing.assert_array_equal(resample(noise, rate, sizes), resample(noise, rate, [20011]))


def test_resampling_keeps_a_tone_and_its_level() -> None:
    expected = tone(RATE, 1.0)
    got = resample(tone(48000, 1.0), 48000, [1024])
    assert np.abs(got - expected)[200:-200].max() < 1e-3


def test_channels_are_averaged_and_broken_numbers_are_silence() -> None:
    stereo = np.array([[1.0, 0.0], [np.nan, 0.5], [0.25, 0.75]], np.float32)
    np.testing.assert_array_equal(MonoResampler(RATE, RATE).feed(stereo), [0.5, 0.0, 0.5])


@pytest.mark.parametrize(
    ("name", "rate", "channels", "options"),
    [
        ("a.wav", 44100, 1, {}),
        ("a.wav", 96000, 6, {"subtype": "PCM_24"}),
        ("float.wav", 48000, 2, {"subtype": "FLOAT"}),
        ("u8.wav", 11025, 1, {"subtype": "PCM_U8"}),
        ("a.aiff", 32000, 2, {}),
        ("a.flac", 44100, 2, {}),
        ("a.ogg", 44100, 2, {}),
        ("a.mp3", 8000, 2, {}),
        ("a.mp3", 44100, 1, {}),
    ],
)
def test_formats_of_libsndfile(
    tmp_path: Path, name: str, rate: int, channels: int, options: dict[str, str]
) -> None:
    path = tmp_path / name
    soundfile.write(path, np.tile(tone(rate, 2.0)[:, None], channels), rate, **options)
    samples = read(path)
    assert len(samples) == pytest.approx(2 * RATE, abs=2)
    assert loudest_hz(samples) == pytest.approx(440, abs=1)
    assert np.std(samples[2000:-2000]) == pytest.approx(0.5 / np.sqrt(2), rel=0.01)
    assert FileSource(path).seconds == pytest.approx(2.0)


@pytest.mark.parametrize("name", ["a.mp3", "a.ogg", "a.flac"])
def test_blocks_are_the_whole_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    noise = np.random.default_rng(2).uniform(-0.5, 0.5, 5 * RATE).astype(np.float32)
    soundfile.write(path, noise, RATE)
    np.testing.assert_allclose(read(path), soundfile.read(path)[0], atol=1e-6)


@needs_ffmpeg
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.m4a", ()),
        ("a.webm", ("-c:a", "libopus", "-ar", "48000")),
        ("a.mkv", ("-f", "matroska", "-c:a", "ac3")),
        ("unknown length.mp3", ("-q:a", "4", "-write_xing", "0")),
    ],
)
def test_other_formats_come_through_ffmpeg(
    tmp_path: Path, name: str, options: tuple[str, ...]
) -> None:
    wav = tmp_path / "a.wav"
    soundfile.write(wav, np.tile(tone(44100, 3.0)[:, None], 2), 44100)
    samples = read(ffmpeg(wav, tmp_path / name, *options))
    assert len(samples) == pytest.approx(3 * RATE, abs=0.1 * RATE)
    assert loudest_hz(samples) == pytest.approx(440, abs=1)


@needs_ffmpeg
def test_a_wav_streamed_through_a_pipe_is_not_cut_off(tmp_path: Path) -> None:
    wav = tmp_path / "a.wav"
    soundfile.write(wav, tone(44100, 1.0), 44100)
    piped = tmp_path / "piped.wav"
    with piped.open("wb") as out:
        command = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(wav), "-f", "wav", "-"]
        subprocess.run(command, stdout=out, check=True)
    np.testing.assert_array_equal(read(piped), read(wav))


def test_a_file_can_be_read_again_and_closed_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(44100, 2.0), 44100)
    source = FileSource(path)
    first, second = (np.concatenate(list(source.blocks(RATE))) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    blocks = source.blocks(RATE)
    next(blocks)
    source.close()
    source.close()
    assert list(blocks) == []


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.tile(tone(44100, 1.0), 90), 44100)
    tracemalloc.start()
    heard = sum(len(block) for block in FileSource(path).blocks(RATE))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert heard == 90 * RATE
    assert peak < 1_000_000


def test_a_silent_file_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "silent.wav"
    soundfile.write(path, np.zeros(44100, np.float32), 44100)
    with caplog.at_level(logging.WARNING):
        assert len(read(path)) == RATE
    assert [record.message for record in caplog.records if "is silent" in record.message]
    caplog.clear()
    soundfile.write(path, tone(44100, 1.0), 44100)
    read(path)
    assert not caplog.records


@pytest.mark.parametrize("content", [b"", b"hello\n" * 100, bytes(range(256)) * 20])
@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.m4a", "a.raw", "a"])
def test_what_is_no_audio(
    tmp_path: Path, name: str, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(AudioError) as raised:
        read(path)
    message = str(raised.value)
    assert message.startswith(str(path)) and "\n" not in message
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["a.wav", "a.aiff", "a.flac", "a.mp3"])
def test_a_truncated_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    soundfile.write(path, np.tile(tone(44100, 5.0)[:, None], 2), 44100)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 5])
    with pytest.raises(AudioError, match=r"cut off|damaged"):
        read(path)


@needs_ffmpeg
@pytest.mark.parametrize(
    ("name", "options"),
    [("a.m4a", ()), ("fast.m4a", ("-movflags", "+faststart")), ("a.webm", ("-c:a", "libopus"))],
)
def test_a_truncated_file_through_ffmpeg(
    tmp_path: Path, name: str, options: tuple[str, ...]
) -> None:
    wav = tmp_path / "a.wav"
    soundfile.write(wav, tone(44100, 5.0), 44100)
    path = ffmpeg(wav, tmp_path / name, *options)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 5])
    with pytest.raises(AudioError, match=r"cut off|damaged"):
        read(path)


def test_a_file_without_samples(tmp_path: Path) -> None:
    path = tmp_path / "none.wav"
    soundfile.write(path, np.zeros(0, np.float32), 44100)
    with pytest.raises(AudioError, match="holds no sound"):
        read(path)


@needs_ffmpeg
def test_a_film_without_sound(tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "color=s=64x64:d=0.2", str(path)]
    subprocess.run(command, check=True)
    with pytest.raises(AudioError, match="holds no audio"):
        FileSource(path)


@needs_ffmpeg
def test_ffmpeg_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wav = tmp_path / "a.wav"
    soundfile.write(wav, tone(44100, 1.0), 44100)
    path = ffmpeg(wav, tmp_path / "a.m4a")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AudioError, match="install ffmpeg"):
        FileSource(path)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="no such file"):
        FileSource(tmp_path / "nothing.wav")
    with pytest.raises(AudioError, match="is a folder"):
        FileSource(tmp_path)


def test_sources_by_name(tmp_path: Path) -> None:
    path = tmp_path / "pcm:take.wav"
    soundfile.write(path, tone(44100, 0.1), 44100)
    assert isinstance(open_source(path), FileSource)
    assert isinstance(open_source(str(path)), FileSource)
    assert isinstance(open_source(f"file:{path}"), FileSource)
    source = FileSource(path)
    assert open_source(source) is source
    with pytest.raises(AudioError, match="s16le,44100,2"):
        open_source("pcm:s16le,fast")
    offered = {}
    register_sources(lambda scheme, factory, *, help="": offered.update({scheme: factory}))
    assert offered == {
        "file": open_file,
        "mic": Microphone,
        "midi": Keyboard,
        "pcm": PcmSource.from_spec,
        "tcp": TcpSource.from_spec,
    }
