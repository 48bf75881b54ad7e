from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sf_plugin.dataset.engraving import BAR, NOTE, STAFF, SYSTEM, Engraving
from sf_plugin.dataset.shards import ShardSet, ShardWriter
from sf_plugin.errors import ScoreError
from sf_plugin.training.loader import CachedSet, Recent, flatten, restore, stream
from sf_plugin.workers import WorkerError


@dataclass(frozen=True)
class Made:
    step: int
    pid: int
    values: torch.Tensor


def make(step: int) -> Made:
    return Made(step, os.getpid(), torch.full((1000,), step))


def refuse_three(step: int) -> Made:
    if step == 3:
        raise ScoreError("page 3: is damaged: copy it again")
    return make(step)


def fail_at_three(step: int) -> Made:
    if step == 3:
        raise ZeroDivisionError("a mistake of ours")
    return make(step)


def die_at_three(step: int) -> Made:
    if step == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return make(step)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_steps_come_in_order_from_any_start(workers: int) -> None:
    with closing(stream(make, 5, workers)) as items:
        made = [next(items) for _ in range(12)]
    assert [item.step for item in made] == list(range(5, 17))
    assert all((item.values == item.step).all() for item in made)
    assert len({item.pid for item in made} - {os.getpid()}) == workers
    assert not multiprocessing.active_children()


def test_many_items_can_be_kept_open() -> None:
    with closing(stream(make, 0, 1, ahead=8)) as items:
        made = [next(items) for _ in range(600)]
    assert [int(item.values[0]) for item in made] == list(range(600))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_that_can_be_mended_comes_through_as_it_is(workers: int) -> None:
    with closing(stream(refuse_three, 1, workers)) as items:
        assert [next(items).step for _ in range(2)] == [1, 2]
        with pytest.raises(ScoreError) as raised:
            next(items)
    assert str(raised.value) == "page 3: is damaged: copy it again"
    assert not multiprocessing.active_children()


def test_a_mistake_of_ours_keeps_its_kind() -> None:
    with closing(stream(fail_at_three, 3, 1)) as items, pytest.raises(ZeroDivisionError):
        next(items)


def test_a_worker_that_dies_is_an_error() -> None:
    with pytest.raises(WorkerError, match="a worker process died"):
        for item in stream(die_at_three, 0, 2):
            assert item.step < 3
    assert not multiprocessing.active_children()


ENDLESS = """
import os, sys
from test_loader import make
from sf_plugin.training.loader import stream
seen = set()
for item in stream(make, 0, 2):
    if item.pid not in seen:
        seen.add(item.pid)
        print(item.pid, flush=True)
"""


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("how", ["terminal", "interrupt", "kill"])
def test_no_worker_outlives_an_interrupted_program(how: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    ) as program:
        assert program.stdout is not None
        workers = [int(program.stdout.readline()) for _ in range(2)]
        assert all(map(alive, workers))
        if how == "terminal":  # tells all of them
            os.killpg(program.pid, signal.SIGINT)
        else:
            program.send_signal(signal.SIGINT if how == "interrupt" else signal.SIGKILL)
        program.wait(60)
        deadline = time.monotonic() + 60
        while any(map(alive, workers)) and time.monotonic() < deadline:
            time.sleep(0.1)
        left = [pid for pid in workers if alive(pid)]
        if left:
            os.killpg(program.pid, signal.SIGKILL)
    assert program.returncode != 0
    assert not left


shapes = st.lists(st.integers(0, 4), max_size=3)
dtypes = st.sampled_from([torch.bool, torch.uint8, torch.int64, torch.float32, torch.float64])


@settings(deadline=None)
@given(st.lists(st.tuples(shapes, dtypes), max_size=5), st.text(max_size=5), st.booleans())
def test_flattened_is_restored(
    tensors: list[tuple[list[int], torch.dtype]], text: str, transposed: bool
) -> None:
    values = [torch.randint(0, 2, shape).to(dtype) for shape, dtype in tensors]
    if transposed:
        values = [value.permute(tuple(range(value.dim()))[::-1]) for value in values]
    pickled, flat = flatten({"values": values, text: [text, 3]})
    assert flat.dtype == torch.uint8
    again = restore(pickled, flat.clone())
    assert again[text] == [text, 3] or text == "values"
    for value, other in zip(values, again["values"], strict=True) if text != "values" else ():
        assert other.dtype == value.dtype
        assert other.shape == value.shape
        assert torch.equal(other, value)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 5)), max_size=60), st.integers(0, 20))
def test_what_was_used_last_is_kept_within_its_bytes(
    asked: list[tuple[int, int]], limit: int
) -> None:
    recent = Recent(limit)
    order: list[tuple[int, bytes]] = []
    for key, size in asked:
        kept = dict(order)
        made: list[bytes] = []

        def build(size: int = size, made: list[bytes] = made) -> bytes:
            made.append(bytes(size))
            return made[0]

        value = recent.get(key, build, len)
        assert bool(made) == (key not in kept)
        assert value is kept.get(key, made[0] if made else None)
        order = [(k, v) for k, v in order if k != key] + [(key, value)]
        while sum(len(v) for _, v in order) > limit:
            order.pop(0)
        assert recent.used == sum(len(v) for _, v in order) <= limit


def test_pages_are_decoded_once_while_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 20, 10)).astype(np.uint8)
    tables = (np.zeros(2, NOTE), np.zeros(1, SYSTEM), np.zeros(1, STAFF), np.zeros(1, BAR))
    writer = ShardWriter(tmp_path)
    writer.add("a", Engraving(images, *tables), {})
    shards = writer.finish()
    read: list[str] = []
    whole = ShardSet.read
    monkeypatch.setattr(ShardSet, "read", lambda s, e: read.append(e.name) or whole(s, e))
    roomy, narrow = CachedSet(shards), CachedSet(shards, cache_bytes=500)
    for _ in range(2):
        for page in range(3):
            assert np.array_equal(roomy.page("a", page), images[page])
        assert len(roomy.tables("a").notes) == 2
    assert len(read) == 4
    for _ in range(2):
        for page in range(3):
            assert np.array_equal(narrow.page("a", page), images[page])
    assert len(read) == 10
