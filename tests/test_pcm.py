"""Raw samples through a pipe."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sf_plugin.audio.pcm import PcmSource
from sf_plugin.errors import AudioError

NOISE = np.random.default_rng(3).uniform(-0.9, 0.9, (20000, 2)).astype(np.float32)

READ_STDIN = """
import sys
import numpy as np
from sf_plugin.audio.sources import open_source
with open_source(sys.argv[1]) as source:
    blocks = list(source.blocks(22050))
sys.stdout.buffer.write(np.concatenate(blocks).tobytes())
"""


def through_a_pipe(data: bytes, source: PcmSource, writer: int, cut: int) -> NDArray[np.float32]:
    def write() -> None:
        for at in range(0, len(data), cut):
            os.write(writer, data[at : at + cut])
        os.close(writer)

    thread = threading.Thread(target=write)
    thread.start()
    blocks = list(source.blocks(22050))
    thread.join()
    return np.concatenate(blocks)


@pytest.mark.parametrize("cut", [1000, 4097, 10**6])
@pytest.mark.parametrize("trailing", [b"", b"\x01", b"\x01\x02\x03"])
def test_samples_come_through_whatever_the_pieces(cut: int, trailing: bytes) -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as pipe:
        source = PcmSource("f32le", 22050, 2, pipe)
        got = through_a_pipe(NOISE.astype("<f4").tobytes() + trailing, source, writer, cut)
    np.testing.assert_array_equal(got, NOISE.mean(axis=1))


def test_sixteen_bits_are_scaled_to_one() -> None:
    reader, writer = os.pipe()
    values = np.array([0, 16384, -32768, 32767], "<i2")
    with os.fdopen(reader, "rb") as pipe:
        got = through_a_pipe(values.tobytes(), PcmSource("s16le", 22050, 1, pipe), writer, 3)
    np.testing.assert_allclose(got, [0, 0.5, -1, 32767 / 32768])


def test_standard_input_in_another_process() -> None:
    values = (NOISE * 32767).astype("<i2")
    done = subprocess.run(
        [sys.executable, "-c", READ_STDIN, "pcm:s16le,22050,2"],
        input=values.tobytes() + b"\x07",
        capture_output=True,
        check=True,
    )
    expected = (values.astype(np.float32) / 32768).mean(axis=1)
    np.testing.assert_allclose(np.frombuffer(done.stdout, np.float32), expected, atol=1e-7)


def test_a_dash_is_one_channel_of_sixteen_bits_at_44100_hz() -> None:
    done = subprocess.run(
        [sys.executable, "-c", READ_STDIN, "-"],
        input=np.full(44100, 8192, "<i2").tobytes(),
        capture_output=True,
        check=True,
    )
    got = np.frombuffer(done.stdout, np.float32)
    assert len(got) == 22050
    assert got[1000:-1000] == pytest.approx(0.25, abs=1e-3)


def test_a_regular_file_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "take.pcm"
    path.write_bytes(NOISE.astype("<f4").tobytes())
    with path.open("rb") as file:
        got = np.concatenate(list(PcmSource("f32le", 22050, 2, file).blocks(22050)))
    np.testing.assert_array_equal(got, NOISE.mean(axis=1))


def test_close_ends_a_pipe_that_is_still_open() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as pipe:
        source = PcmSource("s16le", 22050, 1, pipe)
        blocks = source.blocks(22050)
        os.write(writer, bytes(2000))
        assert len(next(blocks)) == 1000
        threading.Timer(0.2, source.close).start()
        assert list(blocks) == []
        source.close()
    os.close(writer)


def test_nothing_on_the_pipe() -> None:
    reader, writer = os.pipe()
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe, pytest.raises(AudioError, match="without a sample"):
        list(PcmSource(file=pipe).blocks(22050))


@pytest.mark.parametrize(
    "spec", ["s24le", "s16le,0", "s16le,44100,0", "s16le,x", "s16le,44100,1,1", "s16le,1e3"]
)
def test_a_wrong_description(spec: str) -> None:
    with pytest.raises(AudioError, match="raw audio"):
        PcmSource.from_spec(spec)


def test_a_terminal_is_no_source() -> None:
    main, terminal = os.openpty()
    with os.fdopen(terminal, "rb") as file, pytest.raises(AudioError, match="is a terminal"):
        PcmSource(file=file)
    os.close(main)
