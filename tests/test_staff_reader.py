from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sf_plugin.unet.staff_reader import (
    ALTERATIONS,
    CELL_PIXELS,
    CLEFS,
    KEYS,
    LOWEST,
    OUT_OF_SIGHT,
    PITCHES,
    STEP_PIXELS,
    STEPS,
    Reading,
    StaffReader,
    Staves,
    cut_out,
    key_table,
    natural,
    start_columns,
)

torch.set_num_threads(1)

TREBLE, BASS = 30, 18


@pytest.fixture(scope="module")
def reader() -> StaffReader:
    torch.manual_seed(0)
    return StaffReader(channels=8, memory=8)


def pitch(reader: StaffReader, step: int, clef: int, alteration: int) -> int:
    """MIDI number in the reader's table."""
    place = step - LOWEST, clef - CLEFS.start, alteration - ALTERATIONS.start
    return int(reader.table[place]) + 21


def test_letters_count_white_keys() -> None:
    assert [natural(letter) for letter in range(28, 36)] == [60, 62, 64, 65, 67, 69, 71, 72]
    assert natural(TREBLE) == 64
    assert natural(BASS) == 43


@pytest.mark.parametrize(
    ("step", "clef", "alteration", "midi"),
    [
        (0, TREBLE, 0, 64),
        (8, TREBLE, 0, 77),
        (-2, TREBLE, 0, 60),
        (3, TREBLE, 1, 70),
        (6, TREBLE, -1, 73),
        (8, TREBLE, 2, 79),
        (0, BASS, 0, 43),
        (10, BASS, 0, 60),
        (2, BASS, -1, 46),
        (9, BASS, -2, 57),
    ],
)
def test_a_head_on_a_step_has_its_pitch(
    reader: StaffReader, step: int, clef: int, alteration: int, midi: int
) -> None:
    assert pitch(reader, step, clef, alteration) == midi


def test_what_no_piano_has_is_kept_apart(reader: StaffReader) -> None:
    assert pitch(reader, 19, CLEFS[-1], 2) == PITCHES + 21
    assert pitch(reader, -12, CLEFS[0], 0) == PITCHES + 21
    assert reader.table.shape == (STEPS, len(CLEFS), len(ALTERATIONS))
    assert reader.table.unique().tolist() == list(range(PITCHES + 1))


@pytest.mark.parametrize(
    ("key", "sharps", "flats"),
    [(0, "", ""), (1, "F", ""), (4, "FCGD", ""), (7, "FCGDAEB", ""), (-1, "", "B"),
     (-3, "", "BEA"), (-7, "", "BEADGCF")],
)  # fmt: skip
def test_keys_alter_letters(key: int, sharps: str, flats: str) -> None:
    rows = key_table()[key - KEYS.start]
    for row, letters in zip(rows, (sharps, flats), strict=True):
        assert {"CDEFGAB"[n] for n in torch.nonzero(row).squeeze(1).tolist()} == set(letters)


@given(st.integers(0, 200), st.integers(-10, 300))
def test_what_stands_before_the_first_onset_is_looked_at(left: int, first: int) -> None:
    ((begin, end),) = start_columns(np.array([left]), np.array([first])).tolist()
    assert begin == left
    assert left + 4 <= end <= left + 60
    assert end <= max(first, left + 4)


# cutting out

HEIGHT, WIDTH = 240, 320
COURSES = {
    "level": lambda x: np.zeros_like(x),
    "slanted": lambda x: 0.04 * (x - 160),
    "curved": lambda x: 8 * np.sin(x / 60),
    "bent upwards": lambda x: -0.0006 * (x - 160) ** 2 + 0.02 * x,
}


@pytest.mark.parametrize("space", [5.0, 7.3, 10.0])
@pytest.mark.parametrize("course", COURSES)
def test_lines_of_the_page_become_rows_of_the_crop(course: str, space: float) -> None:
    x = np.arange(WIDTH) + 0.5
    middle = 118.7 + COURSES[course](x)
    ink = np.zeros((HEIGHT, WIDTH), np.float32)
    row = np.arange(HEIGHT)[:, None] + 0.5
    for line in range(-2, 3):
        ink = np.maximum(ink, np.clip(1.1 - np.abs(row - middle - line * space), 0, 1))
    at = CELL_PIXELS * (np.arange(WIDTH // CELL_PIXELS) + 0.5)
    bows = np.interp(at, x, middle)
    lines = torch.from_numpy(np.stack([bows - 2 * space, bows + 2 * space])[None]).float()
    crop = cut_out(torch.from_numpy(ink)[None, None].float(), lines)[0, 0].numpy()
    assert crop.shape == (STEPS * STEP_PIXELS, WIDTH)
    inside = crop[:, 8:-8]
    for step in range(-4, 13, 2):
        centre = STEP_PIXELS * (step - LOWEST) + 1
        around = inside[centre - 2 : centre + 3]
        if 0 <= step <= 8:
            assert (np.abs(around.argmax(0) - 2) <= 1).all()
            assert (around.max(0) > 0.4).all()
        else:
            assert around.max() == 0


@given(st.integers(0, WIDTH // CELL_PIXELS - 1))
def test_a_stroke_at_a_cells_centre_stands_in_its_column(cell: int) -> None:
    ink = torch.zeros(1, 1, HEIGHT, WIDTH)
    left = CELL_PIXELS * cell + CELL_PIXELS // 2
    ink[..., left - 1 : left + 1] = 1
    lines = torch.tensor([[[100.0], [140.0]]]).expand(1, 2, WIDTH // CELL_PIXELS)
    crop = cut_out(ink, lines)[0, 0]
    assert int(crop.sum(0).argmax()) == CELL_PIXELS * cell
    assert torch.nonzero(crop.sum(0)).squeeze(1).sub(CELL_PIXELS * cell).abs().max() <= 1


def test_several_staves_are_cut_out_of_one_page() -> None:
    ink = torch.zeros(1, 1, HEIGHT, WIDTH)
    ink[:, :, 60] = 1
    ink[:, :, 160] = 0.5
    lines = torch.tensor([[60.5, 92.5], [128.5, 160.5]])[:, :, None].expand(-1, -1, 80)
    crop = cut_out(ink, lines)
    top, bottom = (STEP_PIXELS * (step - LOWEST) + 1 for step in (8, 0))
    assert crop.shape == (2, 1, 96, WIDTH)
    inside = crop[:, 0, :, :-CELL_PIXELS].argmax(1)
    assert inside[0].unique().tolist() == [top]
    assert inside[1].unique().tolist() == [bottom]


# reading


@pytest.mark.parametrize("columns", [1, 2, 7, 50])
def test_staves_of_any_width_are_read(reader: StaffReader, columns: int) -> None:
    staves = 3
    crops = torch.rand(staves, 1, STEPS * STEP_PIXELS, CELL_PIXELS * columns)
    reading = reader(crops, torch.tensor([[0, 4], [1, 5], [70, 90]]))
    assert reading.begins.shape == (staves, STEPS, columns)
    assert reading.alteration.shape == (staves, len(ALTERATIONS), STEPS, columns)
    assert reading.clef.shape == (staves, columns, len(CLEFS))
    assert reading.key.shape == (staves, 2, 7)
    assert all(value.isfinite().all() for value in vars(reading).values())


def test_columns_of_the_crop_and_of_the_reading_stand_together(reader: StaffReader) -> None:
    """What the first convolutions make of a stroke is strongest in its column and step."""
    blank = torch.zeros(1, 1, STEPS * STEP_PIXELS, 80)
    stroke = blank.clone()
    step, column = 9, 13
    stroke[..., STEP_PIXELS * step + 1, CELL_PIXELS * column] = 1
    with torch.no_grad():
        first, second = reader.convs[:2]
        away = second(first(stroke)) - second(first(blank))
    strength = away.square().sum(1)[0]
    rows, columns = torch.nonzero(strength > 1e-12, as_tuple=True)
    assert {int(rows.min()), int(rows.max())} == {step - 1, step + 1}
    assert {int(columns.min()), int(columns.max())} == {column - 1, column + 1}


def random_reading(seed: int, staves: int, columns: int) -> Reading:
    draw = torch.Generator().manual_seed(seed)
    shapes = (
        (staves, STEPS, columns),
        (staves, len(ALTERATIONS), STEPS, columns),
        (staves, columns, len(CLEFS)),
        (staves, 2, 7),
    )
    return Reading(*(3 * torch.randn(shape, generator=draw) - 1 for shape in shapes))


def on_page(of_staff: list[int], columns: int) -> Staves:
    """Staves of these systems."""
    start = torch.tensor([[0, 4]]).expand(len(of_staff), 2)
    system = torch.tensor(of_staff, dtype=torch.long)
    return Staves(torch.zeros(len(of_staff), 2, columns), system, start)


def slow_pitches(
    reading: Reading, of_staff: list[int], system: list[int], column: list[int]
) -> np.ndarray:
    """(onsets, 88) by a loop over all ways to a pitch."""
    last = reading.begins.shape[2] - 1
    out = np.zeros((len(column), PITCHES))
    begins = torch.sigmoid(reading.begins).double().numpy()
    alteration = reading.alteration.double().softmax(1).numpy()
    clef = reading.clef.double().softmax(2).numpy()
    for onset, (mine, at) in enumerate(zip(system, column, strict=True)):
        missed = np.ones(PITCHES)
        for staff in (n for n, other in enumerate(of_staff) if other == mine):
            for row in range(STEPS):
                near = range(max(0, at - 1), min(last, at + 1) + 1)
                where = max(near, key=lambda x: begins[staff, row, x])
                for c, letter in enumerate(CLEFS):
                    for a, sharps in enumerate(ALTERATIONS):
                        midi = natural(LOWEST + row + letter) + sharps
                        likely = begins[staff, row, where] * clef[staff, at, c]
                        likely *= alteration[staff, a, row, where]
                        if 21 <= midi <= 108:
                            missed[midi - 21] *= 1 - likely
        out[onset] = 1 - missed
    return out


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    of_staff=st.lists(st.integers(0, 2), min_size=1, max_size=3),
    columns=st.integers(1, 6),
    onsets=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5)), max_size=3),
)
def test_pitches_are_what_a_loop_over_all_ways_to_them_gives(
    reader: StaffReader,
    seed: int,
    of_staff: list[int],
    columns: int,
    onsets: list[tuple[int, int]],
) -> None:
    reading = random_reading(seed, len(of_staff), columns)
    system = [one for one, _ in onsets]
    column = [min(other, columns - 1) for _, other in onsets]
    staves = on_page(of_staff, columns)
    found = reader.pitches(
        reading, staves, torch.tensor(system).long(), torch.tensor(column).long()
    )
    slow = slow_pitches(reading, of_staff, system, column)
    np.testing.assert_allclose(found.numpy(), slow, atol=2e-5, rtol=1e-4)


def one_head(staff: int, step: int, column: int, clef: int, alteration: int) -> Reading:
    """Of two staves of 12 columns: surely one head, and all else surely not."""
    reading = Reading(
        torch.full((2, STEPS, 12), -20.0),
        torch.zeros(2, len(ALTERATIONS), STEPS, 12),
        torch.zeros(2, 12, len(CLEFS)),
        torch.zeros(2, 2, 7),
    )
    row = step - LOWEST
    reading.begins[staff, row, column] = 20
    reading.alteration[staff, alteration - ALTERATIONS.start, row, column] = 30
    reading.clef[staff, :, clef - CLEFS.start] = 30
    return reading


def read(reader: StaffReader, reading: Reading, of_staff: list[int], system: int) -> Tensor:
    """(12, 88) at every column of a system."""
    staves = on_page(of_staff, 12)
    return reader.pitches(reading, staves, torch.full((12,), system), torch.arange(12))


def test_a_head_counts_in_its_column_and_beside_it(reader: StaffReader) -> None:
    found = read(reader, one_head(1, 3, 6, TREBLE, 1), [0, 0], 0)
    wanted = torch.zeros(12, PITCHES)
    wanted[5:8, 70 - 21] = 1
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)


def test_a_head_does_not_sound_in_another_system(reader: StaffReader) -> None:
    reading = one_head(1, 3, 6, BASS, 0)
    here, there = (read(reader, reading, [0, 1], system) for system in (1, 0))
    assert torch.nonzero(here > 0.5).tolist() == [[column, 48 - 21] for column in (5, 6, 7)]
    assert float(there.max()) < 1e-4


def test_without_staves_nothing_is_read(reader: StaffReader) -> None:
    reading = random_reading(0, 0, 5)
    onsets = torch.tensor([0, 0, 1]), torch.tensor([0, 4, 2])
    found = reader.pitches(reading, on_page([], 5), *onsets)
    assert torch.equal(found, torch.zeros(3, PITCHES))


def key_glyphs(steps: dict[int, int], column: int = 5) -> Tensor:
    """(1, 2, steps, 20) logits of a sharp (0) or a flat (1) on each of `steps` in a column."""
    glyphs = torch.full((1, 2, STEPS, 20), -9.0)
    for step, kind in steps.items():
        glyphs[0, kind, step - LOWEST, column] = 9
    return glyphs


TREBLE_LETTERS = torch.tensor([(TREBLE + LOWEST + row) % 7 for row in range(STEPS)])


@pytest.mark.parametrize(
    ("steps", "key"),
    [
        ({}, 0),
        ({8: 0}, 1),
        ({8: 0, 5: 0, 9: 0}, 3),
        ({4: 1, 7: 1}, -2),
        ({4: 1, 7: 1, 3: 1, 6: 1}, -4),
        ({8: 0, 9: 0}, 3),
        ({11: 0, -3: 1}, 0),
    ],
)
def test_accidentals_before_the_first_onset_make_the_key(
    reader: StaffReader, steps: dict[int, int], key: int
) -> None:
    """On a treble staff; one that is overlooked is made up for, one off the staff is none."""
    letter = TREBLE_LETTERS[None, :, None].expand(1, -1, 20)
    letters = reader.key_letters(key_glyphs(steps), torch.tensor([[2, 9]]), letter)
    likely = reader.key_of(letters)
    assert likely.shape == (1, len(KEYS))
    assert float(likely.sum()) == pytest.approx(1)
    best = [KEYS[n] for n in torch.nonzero(likely[0] > likely.max() - 1e-4).squeeze(1)]
    assert key in best


@pytest.mark.parametrize("start", [(2, 5), (6, 9), (20, 30)])
def test_accidentals_elsewhere_are_not_the_keys(
    reader: StaffReader, start: tuple[int, int]
) -> None:
    letter = TREBLE_LETTERS[None, :, None].expand(1, -1, 20)
    letters = reader.key_letters(key_glyphs({8: 0}), torch.tensor([start]), letter)
    assert float(letters.max()) < -8
    assert float(letters.min()) >= OUT_OF_SIGHT
    assert KEYS[int(reader.key_of(letters).argmax())] == 0


def test_notes_are_read_under_the_clef_and_the_key_that_hold(reader: StaffReader) -> None:
    """Those given count, where they are known; the lines and spaces they alter differ."""
    crops = torch.rand(1, 1, STEPS * STEP_PIXELS, 80, generator=torch.Generator().manual_seed(1))
    start = torch.tensor([[0, 4]])
    unknown = torch.full((1, 20), -100)
    with torch.no_grad():
        own = reader(crops, start)
        same = reader(crops, start, unknown, unknown)
        g_major, c_major = (
            reader(crops, start, torch.full((1, 20), TREBLE - CLEFS.start),
                   torch.full((1, 20), key - KEYS.start))
            for key in (1, 0)
        )  # fmt: skip
    assert torch.equal(own.begins, same.begins)
    away = (g_major.alteration - c_major.alteration).abs().amax((0, 1, 3))
    assert torch.equal(away > 1e-6, TREBLE_LETTERS == 3)


@pytest.mark.parametrize("level", [1.0, 40.0])
def test_every_weight_learns_from_the_pitches(level: float) -> None:
    """Also from heads that are as good as sure."""
    torch.manual_seed(0)
    net = StaffReader(channels=8, memory=8)
    with torch.no_grad():
        net.note.weight.mul_(level)
    lines = torch.tensor([[[20.0], [52.0]], [[80.0], [110.0]]]).expand(-1, -1, 12)
    staves = Staves(lines, torch.tensor([0, 0]), torch.tensor([[0, 4], [0, 6]]))
    reading = net(cut_out(torch.rand(1, 1, 120, 48), lines), staves.start)
    onsets = torch.zeros(4, dtype=torch.long), torch.tensor([0, 3, 7, 11])
    loss = net.pitches(reading, staves, *onsets).sum()
    loss.backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0 or level > 1, name
