"""The ear's rows: one for every pitch, alike, at the right filters."""

import pytest
import torch

from sf_plugin.audio.spectrogram import Band, SpectrogramConfig
from sf_plugin.unet.config import DEFAULT
from sf_plugin.unet.pitch_rows import HARMONICS, HEARD, LOWEST, OTHERS, PitchRows, offsets
from sf_plugin.unet.staff_reader import PITCHES

WIDE = SpectrogramConfig(bands=(Band(2048, 0, 200),))
"""Every row finds all its harmonics."""


def rows(spectrogram: SpectrogramConfig = WIDE) -> PitchRows:
    torch.manual_seed(0)
    return PitchRows(spectrogram, channels=6, told=4).eval()


def test_a_row_looks_at_the_filters_of_its_pitch_and_of_its_partials() -> None:
    centres = [hz for band in DEFAULT.spectrogram.bands for hz in band.centres()]
    filters = rows(DEFAULT.spectrogram).filters
    assert filters.shape == (PITCHES, len(DEFAULT.spectrogram.bands) * len(HARMONICS))
    seen = set()
    for pitch, places in enumerate(filters.tolist()):
        fundamental = 440 * 2 ** ((pitch + LOWEST - 69) / 12)
        for step, place in zip(HARMONICS * 2, places, strict=True):
            if place < len(centres):
                assert centres[place] == pytest.approx(fundamental * 2 ** (step / 12))
                seen.add(place)
    assert seen == set(range(len(centres)))


def test_beside_what_there_is_lies_nothing() -> None:
    table = offsets(60, 12, (-1, 0, 11))
    assert table[60 - LOWEST].tolist() == [12, 0, 11]
    assert table[71 - LOWEST].tolist() == [10, 11, 12]
    assert table[0].tolist() == [12, 12, 12]


def test_what_is_heard_of_one_pitch_is_heard_of_another() -> None:
    module = rows()
    frames = torch.zeros(1, 30, WIDE.bins)
    frames[0, 10:, 60:100] = torch.rand(20, 40)
    higher = frames.roll(5, dims=2)
    told = torch.rand(1, 30, 4)

    def said(heard: torch.Tensor) -> torch.Tensor:
        looked, _ = module.look(heard, None)
        return module.remember(looked, told, None)[0][0]

    with torch.no_grad():
        low, high = said(frames), said(higher)
    assert low.shape == (30, len(HEARD), PITCHES)
    middle = slice(-OTHERS[0], PITCHES + OTHERS[0] - 5)
    moved = slice(middle.start + 5, middle.stop + 5)
    torch.testing.assert_close(high[:, :, moved], low[:, :, middle])
    assert not torch.allclose(low[:, :, moved], low[:, :, middle], atol=1e-3)


def test_every_pitch_may_sound_in_its_own_way() -> None:
    module = rows()
    frames = torch.rand(1, 4, WIDE.bins)
    with torch.no_grad():
        plain, _ = module.look(frames, None)
        module.pitch[10] += torch.arange(6)
        other, _ = module.look(frames, None)
    changed = (other - plain).abs().amax((0, 1, 3)) > 1e-6
    explained = [p for p in range(PITCHES) if 10 - p in OTHERS]
    assert changed.nonzero().flatten().tolist() == sorted(explained)


def test_the_moment_reaches_every_row() -> None:
    module = rows()
    looked, _ = module.look(torch.rand(1, 5, WIDE.bins), None)
    told = torch.zeros(1, 5, 4)
    with torch.no_grad():
        before, _ = module.remember(looked, told, None)
        told[0, 2] = 1
        after, _ = module.remember(looked, told, None)
    changed = (after - before).abs().amax(2)[0] > 1e-6
    assert changed[2:].any(1).all() and not changed[:2].any()
