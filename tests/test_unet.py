from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sf_plugin.audio.spectrogram import Band, SpectrogramConfig
from sf_plugin.score.layout import PageLayout, System
from sf_plugin.unet.audio_encoder import audio_encoder, audio_stream
from sf_plugin.unet.config import BLOCKS, CUNET, DEFAULT, UNetConfig
from sf_plugin.unet.network import HEARD, PITCHES, Onsets, ScoreUNet, SystemRows, unit
from sf_plugin.unet.pages import (
    APART,
    NOTE,
    PageEncoder,
    document_layout,
    find_onsets,
    find_staves,
    strip_places,
    system_rows,
)

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
    assert whole.shape == (batch, 50, encoder.width)


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


@pytest.mark.parametrize("kind", ENCODERS)
@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    bins=st.integers(5, 24),
    width=st.sampled_from([4, 9]),
    memory=st.sampled_from([3, 6]),
    count=st.integers(1, 70),
)
def test_hearing_frame_by_frame_gives_what_the_encoder_gives(
    kind: str, seed: int, bins: int, width: int, memory: int, count: int
) -> None:
    torch.manual_seed(seed)
    heard = SpectrogramConfig(bands=(Band(512, 60, 59 + max(bins, 16)),))
    config = replace(ENCODERS[kind], spectrogram=heard, audio_channels=width, audio_memory=memory)
    encoder = audio_encoder(config).eval()
    frames = torch.randn(count, heard.bins)
    with torch.inference_mode():
        for norm in encoder.norms if kind == "causal" else ():
            norm.weight.uniform_(0.5, 2)
            norm.bias.uniform_(-1, 1)
        encoder.mean.uniform_(-1, 1)
        encoder.deviation.uniform_(0.5, 2)
        whole = encoder(frames[None])[0][0]
        stream = audio_stream(encoder)
        for _ in range(2):
            told = torch.stack([stream.hear(frame) for frame in frames])
            torch.testing.assert_close(told, whole, atol=3e-5, rtol=1e-4)
            stream.reset()


def test_what_was_told_does_not_change_with_what_is_heard_later() -> None:
    torch.manual_seed(0)
    encoder = audio_encoder(ENCODERS["causal"]).eval()
    with torch.inference_mode():
        stream = audio_stream(encoder)
        first = stream.hear(torch.rand(FEW_BINS.bins))
        kept = first.clone()
        for _ in range(40):
            stream.hear(torch.rand(FEW_BINS.bins))
    assert torch.equal(first, kept)


@given(st.integers(0, 10**6), st.integers(1, 12), st.floats(-6, 6))
def test_a_row_becomes_about_one_long_and_keeps_its_direction(
    seed: int, rows: int, power: float
) -> None:
    x = 10**power * torch.rand(rows, 5, generator=torch.Generator().manual_seed(seed))
    x[0] = 0
    out, length = unit(x), x.norm(dim=1)
    wanted = length / (length**2 + 0.1).sqrt()
    torch.testing.assert_close(out.norm(dim=1), wanted, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(out * length[:, None], x * wanted[:, None], atol=1e-5, rtol=1e-4)


ROWS = st.lists(
    st.lists(
        st.floats(0, 1, width=32) | st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]),
        min_size=1,
        max_size=20,
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=200)
@given(ROWS)
def test_onsets_are_the_peaks_of_every_system(likely: list[list[float]]) -> None:
    systems = [SystemRows(0, 1, 3, 3 + len(row)) for row in likely]
    cells = find_onsets(np.concatenate(likely).astype(np.float32), systems)
    start = 0
    assert (np.diff(cells) > 0).all()
    for row in likely:
        inside = cells[(cells >= start) & (cells < start + len(row))] - start
        assert len(inside)
        for a, b in pairwise(inside):
            assert b - a > APART
        for n in inside:
            assert row[n] == max(row[max(0, n - 1) : n + 2])
            assert row[n] > NOTE or (len(inside) == 1 and row[n] == max(row))
        assert int(np.argmax(row)) in inside
        start += len(row)
    assert start > cells[-1]


@pytest.mark.parametrize(
    ("likely", "wanted"),
    [
        ([0.1, 0.9, 0.1, 0.1, 0.6], [1, 4]),
        ([0.1, 0.9, 0.8, 0.1, 0.6], [1, 4]),
        ([0.9, 0.9, 0.9, 0.1, 0.1], [0]),
        ([0.9, 0.1, 0.9, 0.1, 0.9], [0, 4]),
        ([0.9, 0.9, 0.1, 0.9, 0.9], [0, 3]),
        ([0.1, 0.2, 0.1, 0.1, 0.2], [1]),
        ([0.0, 0.0, 0.0, 0.0, 0.0], [0]),
        ([0.4, 0.1, 0.5, 0.1, 0.1], [2]),
    ],
)
def test_ties_and_plateaus(likely: list[float], wanted: list[int]) -> None:
    two = np.array(likely * 2, np.float32)
    systems = [SystemRows(0, 4, 7, 12), SystemRows(4, 8, 2, 7)]
    assert find_onsets(two, systems).tolist() == [*wanted, *(5 + n for n in wanted)]


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 20)), min_size=1, max_size=5),
    st.randoms(use_true_random=False),
)
def test_cells_of_the_strip_go_back_to_their_columns(
    widths: list[tuple[int, int]], random: Random
) -> None:
    systems = [SystemRows(0, 1, left, left + width) for left, width in widths]
    places = [(n, x) for n, s in enumerate(systems) for x in range(s.left, s.right)]
    cells = [random.randrange(len(places)) for _ in range(9)]
    system, column = strip_places(torch.tensor(cells), systems)
    found = zip(system.tolist(), column.tolist(), strict=True)
    assert list(found) == [places[cell] for cell in cells]


def random_onsets(net: ScoreUNet, cells: int, seed: int) -> Onsets:
    draw = torch.Generator().manual_seed(seed)
    strip = torch.randn(cells, net.config.cells, generator=draw)
    at = torch.arange(0, cells, 3)
    return net.read_onsets(strip, at, torch.rand(len(at), PITCHES, generator=draw))[0]


def test_joined_pages_give_the_concatenation_of_their_logits() -> None:
    net = network(STRIP)
    with torch.no_grad():
        pages = [random_onsets(net, cells, seed) for seed, cells in enumerate((20, 1, 90))]
        z = random_z(net, 5)
        joined = net.place_logits(Onsets.join(pages), z)[0]
        apart = torch.cat([net.place_logits(page, z)[0] for page in pages], 1)
    assert joined.shape == (5, 38)
    torch.testing.assert_close(joined, apart, atol=1e-5, rtol=1e-5)


def test_the_onsets_hear_the_audio() -> None:
    net = network(STRIP)
    with torch.no_grad():
        logits, heard = net.place_logits(random_onsets(net, 60, 0), random_z(net, 2))
        centred = logits - logits.mean(1, keepdim=True)
    assert not torch.allclose(centred[0], centred[1], atol=1e-3)
    assert heard.shape == (2, len(HEARD), PITCHES)
    assert ((heard >= 0) & (heard <= 1)).all()


@pytest.mark.parametrize("what", range(len(HEARD)))
def test_what_is_heard_speaks_for_where_it_is_read(what: int) -> None:
    """Five onsets of one pitch each; the frame hears the last three of them, or the present."""
    net = network(STRIP)
    pitches = torch.zeros(5, PITCHES)
    pitches[torch.arange(5), torch.arange(40, 45)] = 1
    heard = torch.zeros(1, len(HEARD), PITCHES)
    back = max(0, what - HEARD.index("last"))
    heard[0, what, 43 - back] = 1
    with torch.no_grad():
        onsets = net.block_i.prepare(torch.zeros(5, STRIP.cells), pitches)
        z = random_z(net, 1)
        silent = net.block_i(onsets, z, torch.zeros_like(heard))
        speaks = (net.block_i(onsets, z, heard) - silent)[0]
    assert speaks[3] > 1
    torch.testing.assert_close(speaks[[0, 1, 2, 4]], torch.zeros(4), atol=1e-5, rtol=0)


def test_an_onset_is_read_from_its_cells_its_pitches_and_its_neighbours() -> None:
    net = network(STRIP)
    draw = torch.Generator().manual_seed(0)
    strip = torch.randn(60, STRIP.cells, generator=draw)
    at = torch.tensor([0, 10, 20, 30, 40, 59])
    pitches = torch.rand(6, PITCHES, generator=draw)
    with torch.no_grad():
        before = net.onsets(strip, at, pitches)
        for changed in (0, 11, 15, 58):
            other = strip.clone()
            other[changed] += 1
            same = torch.isclose(net.onsets(other, at, pitches), before, atol=1e-6).all(1)
            assert bool(same.all()) == (changed == 15)
        same = torch.isclose(net.onsets(strip, at, 1 - pitches), before, atol=1e-6).all(1)
        assert not same.any()
        onsets, length = net.read_onsets(strip, at, pitches)
    assert length.shape == (6,)
    torch.testing.assert_close(onsets.key[:, STRIP.cells :], unit(pitches))
    assert onsets.follows.tolist() == [[0, 0], [1, 0], *[[1, 1]] * 4]


def test_onsets_are_compared_with_what_came_before_them_on_their_page() -> None:
    net = network(STRIP)
    draw = torch.Generator().manual_seed(0)

    def page(count: int) -> tuple[Onsets, Tensor]:
        pitches = torch.rand(count, PITCHES, generator=draw)
        return net.block_i.prepare(
            torch.randn(count, STRIP.cells, generator=draw), pitches
        ), pitches

    pages = [page(count) for count in (5, 1, 2, 7)]
    z = torch.randn(3, net.audio.out, generator=draw)
    heard = torch.rand(3, 5, PITCHES, generator=draw)
    with torch.no_grad():
        whole = net.block_i(Onsets.join([onsets for onsets, _ in pages]), z, heard)
        apart = torch.cat([net.block_i(onsets, z, heard) for onsets, _ in pages], 1)
        torch.testing.assert_close(whole, apart)
        torch.testing.assert_close(
            net.block_i(Onsets.join([onsets for onsets, _ in pages]).part(slice(6, 15)), z, heard),
            whole[:, 6:],
        )
        onsets, pitches = pages[3]
        none = heard.clone()
        none[:, 3] = 0  # nothing was heard at the onset before the last
        gain = apart[:, 8:] - net.block_i(onsets, z, none)
        wanted = net.block_i.grams[1] * unit(heard[:, 3])
        read = torch.cat([torch.zeros(1, PITCHES), unit(pitches)[:-1]])
        torch.testing.assert_close(gain, wanted @ read.T, atol=1e-4, rtol=1e-4)


def test_the_staves_of_every_system_are_found() -> None:
    image = np.full((160, 160), 255, np.uint8)
    likely = np.zeros((40, 40), np.float32)
    for top in (32, 96):
        image[top : top + 33 : 8, 8:152] = 0
        likely[top // 4 : top // 4 + 8, 2:38] = 1
    known = PageLayout(1, (System(0.2, 0.4, 0.05, 0.95), System(0.6, 0.8, 0.05, 0.95)))
    staves = find_staves(1 - image / np.float32(255), likely, known, np.array([12, 90]))
    assert staves.system.tolist() == [0, 1]
    assert staves.start.tolist() == [[2, 8], [2, 62]]
    wanted = torch.tensor([[32.5, 64.5], [96.5, 128.5]])[:, :, None].expand(-1, -1, 40)
    torch.testing.assert_close(staves.lines, wanted, atol=0.8, rtol=0)
    none = find_staves(
        np.zeros((160, 160), np.float32), np.zeros((40, 40), np.float32), known, np.array([9, 9])
    )
    assert none.lines.shape == (0, 2, 40)
    assert len(none.system) == len(none.start) == 0


@settings(max_examples=15, deadline=None)
@given(height=st.integers(40, 90), width=st.integers(40, 90))
def test_onsets_are_found_on_a_page_of_any_size(height: int, width: int) -> None:
    net = network(STRIP)
    image = (random_page(height, width)[0, 0] * 255).to(torch.uint8).numpy()
    known = PageLayout(1, (System(0.1, 0.3, 0.1, 0.9), System(0.5, 0.7, 0.2, 0.95)))
    page = PageEncoder(net, bf16=False)(image, 1, 1, known)
    assert page is not None
    assert (
        len(page.x) == len(page.system) == len(page.beats) == len(page.onsets.key) == len(page.at)
    )
    assert page.grid == (-(-height // 4), -(-width // 4))
    np.testing.assert_allclose(page.x, (page.at + 0.5) / page.grid[1], rtol=1e-6)
    assert (page.beats > 0).all()
    assert page.layout is known
    assert page.system.tolist() == sorted(page.system.tolist())
    for number, system in enumerate(page.systems):
        at = page.at[page.system == number]
        assert len(at)
        assert system.left <= at[0] and at[-1] < system.right
        assert (np.diff(at) >= APART).all()


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
