from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sf_plugin.audio.spectrogram import Band, SpectrogramConfig
from sf_plugin.score.layout import PageLayout, System
from sf_plugin.unet.audio_encoder import audio_encoder
from sf_plugin.unet.config import BLOCKS, CUNET, DEFAULT, UNetConfig
from sf_plugin.unet.network import Cells, ScoreUNet, SystemRows
from sf_plugin.unet.pages import PageEncoder, document_layout, system_rows

torch.set_num_threads(1)

FEW_BINS = SpectrogramConfig(bands=(Band(512, 60, 75),))
PIXELS = UNetConfig(
    channels=(2, 4, 4, 6, 8),
    strides=((1, 1), (2, 2), (2, 2), (2, 2), (2, 2)),
    groups=1,
    film="BCDEFGH",
    readout="pixels",
    row_memory=False,
    audio_channels=8,
    audio_memory=6,
    spectrogram=FEW_BINS,
)
STRIP = replace(
    PIXELS,
    channels=(2, 4, 4, 6, 8),
    strides=DEFAULT.strides,
    film="I",
    readout="strip",
    row_memory=True,
    cells=16,
)
FILMS = ["BCDEFGH", "I", "A", "E", "CG", "GH", "ABCDEFGHI"]


def network(config: UNetConfig, seed: int = 0) -> ScoreUNet:
    torch.manual_seed(seed)
    return ScoreUNet(config).eval()


def random_page(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand(1, 1, height, width, generator=torch.Generator().manual_seed(seed))


def random_z(net: ScoreUNet, frames: int, seed: int = 0) -> Tensor:
    return torch.randn(frames, net.audio.out, generator=torch.Generator().manual_seed(seed))


def all_blocks(net: ScoreUNet, page: Tensor, z: Tensor) -> Tensor:
    """Mask logits with every block computed for every frame."""
    whole = {"x": page.expand(len(z), -1, -1, -1)}
    return net.mask(net.page._run(whole, net.page.names, z)).squeeze(1)


@settings(max_examples=25, deadline=None)
@given(
    base=st.sampled_from([PIXELS, replace(PIXELS, pool=True), replace(PIXELS, row_memory=True)]),
    film=st.sampled_from([*FILMS, *BLOCKS]),
    height=st.integers(16, 61),
    width=st.integers(16, 61),
)
def test_cached_and_uncached_network_agree(
    base: UNetConfig, film: str, height: int, width: int
) -> None:
    net = network(replace(base, film=film))
    page, z = random_page(height, width), random_z(net, 3)
    with torch.no_grad():
        cached = net.page_logits(net.page.encode(page), z)
        torch.testing.assert_close(cached, all_blocks(net, page, z), atol=1e-5, rtol=1e-5)
    assert cached.shape == (3, height, width)


@pytest.mark.parametrize("film", FILMS)
def test_what_is_cached_is_what_the_conditioned_blocks_need(film: str) -> None:
    net = network(replace(PIXELS, film=film))
    cache = net.page.encode(random_page(33, 47))
    mirrored = {"F": "D", "G": "C", "H": "B", "I": "A"}
    first = min(film)
    skips = {mirrored[block] for block in BLOCKS[BLOCKS.index(first) :] if block in mirrored}
    assert set(cache) == {"x"} | {block for block in skips if block < first}


@pytest.mark.parametrize("film", FILMS)
def test_the_audio_conditions_only_from_the_first_conditioned_block_on(film: str) -> None:
    net = network(replace(PIXELS, film=film))
    seen: dict[str, Tensor] = {}
    for name, block in net.page.blocks.items():
        block.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
    z = random_z(net, 2)
    with torch.no_grad():
        logits = all_blocks(net, random_page(40, 40), z)
    same = {name for name, out in seen.items() if torch.allclose(out[0], out[1], atol=1e-5)}
    assert same == {block for block in BLOCKS if block < min(film)}
    assert not torch.allclose(logits[0], logits[1], atol=1e-4)


def test_frames_do_not_see_one_another() -> None:
    net = network(PIXELS)
    cache, z = net.page.encode(random_page(35, 41)), random_z(net, 4)
    with torch.no_grad():
        together = net.page_logits(cache, z)
        for n in range(4):
            alone = net.page_logits(cache, z[n : n + 1])[0]
            torch.testing.assert_close(together[n], alone, atol=1e-5, rtol=1e-5)


def test_blocks_outside_the_alphabet_and_early_film_on_a_strip_are_refused() -> None:
    with pytest.raises(ValueError, match="names blocks other than"):
        replace(PIXELS, film="J")
    with pytest.raises(ValueError, match="names blocks other than"):
        replace(PIXELS, film="")
    with pytest.raises(ValueError, match="block I only"):
        replace(STRIP, film="H")


def test_the_paper_setting_runs_forward_and_backward_at_its_real_size() -> None:
    torch.manual_seed(0)
    net = ScoreUNet(CUNET)
    assert (CUNET.spectrogram.bins, CUNET.context, CUNET.film) == (78, 40, "BCDEFGH")
    page = random_page(393, CUNET.page_width)
    z, _ = net.audio(torch.rand(1, 2, 78))
    logits = net.page_logits(net.page.encode(page), z[0, -1:])
    assert logits.shape == (1, 393, 278)
    target = torch.zeros_like(logits)
    target[0, 100:120, 50:60] = 1
    torch.nn.functional.binary_cross_entropy_with_logits(logits, target).backward()
    for name, parameter in net.named_parameters():
        if not name.startswith("heard_pitches"):
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
    numbers = sum(p.numel() for n, p in net.named_parameters() if not n.startswith("heard"))
    assert round(numbers / 1e6, 2) == 0.94  # as in the published weights
    conditioned = [name for name, block in net.page.blocks.items() if block.film is not None]
    assert "".join(conditioned) == "BCDEFGH"
    assert sum(float(p.grad.abs().sum()) for p in net.audio.parameters() if p.grad is not None) > 0


def test_the_default_network_fits_the_wheel() -> None:
    net = ScoreUNet(DEFAULT)
    assert 2 * sum(value.numel() for value in net.state_dict().values()) <= 10_000_000


ENCODERS = {
    "causal": replace(STRIP, audio="causal"),
    "window": replace(STRIP, audio="window", context=16),
}


@pytest.mark.parametrize("kind", ENCODERS)
@settings(max_examples=20, deadline=None)
@given(edges=st.sets(st.integers(1, 49), max_size=8), batch=st.integers(1, 2))
def test_streaming_audio_gives_what_the_whole_sequence_gives(
    kind: str, edges: set[int], batch: int
) -> None:
    torch.manual_seed(0)
    encoder = audio_encoder(ENCODERS[kind]).eval()
    frames = torch.rand(batch, 50, FEW_BINS.bins)
    with torch.no_grad():
        whole, _ = encoder(frames)
        parts, state = [], None
        for piece in torch.tensor_split(frames, sorted(edges), 1):
            z, state = encoder(piece, state)
            parts.append(z)
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=1e-5)
    assert whole.shape == (batch, 50, encoder.out)


@pytest.mark.parametrize("kind", ENCODERS)
def test_streaming_frame_by_frame_and_starting_anew(kind: str) -> None:
    torch.manual_seed(0)
    encoder = audio_encoder(ENCODERS[kind]).eval()
    frames = torch.rand(1, 45, FEW_BINS.bins)
    with torch.no_grad():
        whole, _ = encoder(frames)
        for _ in range(2):
            state = None
            for n in range(45):
                z, state = encoder(frames[:, n : n + 1], state)
                torch.testing.assert_close(z[:, 0], whole[:, n], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ENCODERS)
@settings(max_examples=15, deadline=None)
@given(heard=st.integers(1, 49))
def test_the_audio_encoder_is_causal(kind: str, heard: int) -> None:
    torch.manual_seed(0)
    encoder = audio_encoder(ENCODERS[kind]).eval()
    frames = torch.rand(1, 50, FEW_BINS.bins)
    other = frames.clone()
    other[:, heard:] += 3
    with torch.no_grad():
        before, after = encoder(frames)[0], encoder(other)[0]
    torch.testing.assert_close(before[:, :heard], after[:, :heard], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(before[:, heard], after[:, heard], atol=1e-5)


@pytest.mark.parametrize("kind", ENCODERS)
def test_frames_are_standardised_by_what_the_network_keeps(kind: str) -> None:
    torch.manual_seed(0)
    encoder = audio_encoder(ENCODERS[kind]).eval()
    frames = torch.rand(1, 20, FEW_BINS.bins)
    with torch.no_grad():
        plain, _ = encoder(frames)
        encoder.mean += 2
        encoder.deviation *= 3
        moved, _ = encoder(frames * 3 + 2)
    torch.testing.assert_close(moved, plain, atol=1e-5, rtol=1e-5)


def test_the_state_does_not_grow() -> None:
    for config in ENCODERS.values():
        encoder = audio_encoder(config).eval()
        state, sizes = None, set()
        with torch.no_grad():
            for _ in range(60):
                _, state = encoder(torch.rand(1, 1, FEW_BINS.bins), state)
                sizes.add(sum(part.numel() for part in state))
        assert len(sizes) == 1


def random_strip(net: ScoreUNet, cells: int, seed: int) -> Cells:
    strip = torch.randn(cells, net.config.cells, generator=torch.Generator().manual_seed(seed))
    return net.read_strip(strip)


def test_joined_pages_give_the_concatenation_of_their_logits() -> None:
    net = network(STRIP)
    with torch.no_grad():
        strips = [random_strip(net, cells, seed) for seed, cells in enumerate((7, 1, 30))]
        z = random_z(net, 5)
        joined = net.place_logits(Cells.join(strips), z)[0]
        apart = torch.cat([net.place_logits(strip, z)[0] for strip in strips], 1)
    assert joined.shape == (5, 38)
    torch.testing.assert_close(joined, apart, atol=1e-5, rtol=1e-5)


def test_the_strip_hears_the_audio() -> None:
    net = network(STRIP)
    with torch.no_grad():
        logits, _ = net.place_logits(random_strip(net, 20, 0), random_z(net, 2))
        centred = logits - logits.mean(1, keepdim=True)
    assert not torch.allclose(centred[0], centred[1], atol=1e-3)


@settings(max_examples=15, deadline=None)
@given(height=st.integers(40, 90), width=st.integers(40, 90))
def test_a_page_of_any_size_is_read_into_cells(height: int, width: int) -> None:
    net = network(STRIP)
    image = (random_page(height, width)[0, 0] * 255).to(torch.uint8).numpy()
    known = PageLayout(1, (System(0.1, 0.3, 0.1, 0.9), System(0.5, 0.7, 0.2, 0.95)))
    page = PageEncoder(net, bf16=False)(image, 1, 1, known)
    assert page is not None
    cells = sum(s.right - s.left for s in page.systems)
    assert len(page.x) == len(page.system) == len(page.onset) == len(page.cells.key) == cells
    assert page.grid == (-(-height // 4), -(-width // 4))
    assert ((page.x > 0) & (page.x < 1)).all()
    assert ((page.onset >= 0) & (page.onset <= 1)).all()
    assert page.layout is known
    assert set(page.system.tolist()) == {0, 1}


def test_a_page_on_which_no_system_is_known_gives_nothing() -> None:
    encoder = PageEncoder(network(STRIP), bf16=False)
    assert encoder(np.full((60, 50), 255, np.uint8), 1, 1, PageLayout(1)) is None


def test_pages_without_music_keep_their_numbers_in_the_layout() -> None:
    encoder = PageEncoder(network(STRIP), bf16=False)
    image = np.full((60, 50), 255, np.uint8)
    known = PageLayout(2, (System(0.1, 0.3, 0.1, 0.9),))
    layout = document_layout([None, encoder(image, 2, 1, known), None])
    assert [page.page for page in layout.pages] == [1, 2, 3]
    assert [len(page.systems) for page in layout.pages] == [0, 1, 0]


EDGE = st.floats(0, 1)
SYSTEMS = st.lists(st.builds(System, EDGE, EDGE, EDGE, EDGE), min_size=1, max_size=6)


@settings(max_examples=80, deadline=None)
@given(SYSTEMS, st.integers(4, 320), st.integers(4, 240))
def test_boxes_on_the_grid_are_never_empty_nor_outside(
    systems: list[System], rows: int, columns: int
) -> None:
    boxes = system_rows(PageLayout(1, tuple(systems)), rows, columns)
    assert len(boxes) == len(systems)
    for box in boxes:
        assert 0 <= box.top < box.bottom <= rows
        assert 0 <= box.left < box.right <= columns


def test_boxes_reach_for_ledger_lines_but_not_into_their_neighbours() -> None:
    layout = PageLayout(1, (System(0.10, 0.20, 0.1, 0.9), System(0.24, 0.34, 0.1, 0.9)))
    first, second = system_rows(layout, 200, 100)
    assert first == SystemRows(10, 44, 10, 90)
    assert second == SystemRows(44, 78, 10, 90)
