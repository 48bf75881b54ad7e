"""A scanned document whose repeat is taken, followed as a user does: only pages and sound."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pymupdf
import soundfile
from conftest import Run
from PIL import Image

from sf_plugin.api import open_audio
from sf_plugin.dataset.paper import PAPERS, spoil
from sf_plugin.demo import ASSETS, load_truth
from sf_plugin.positions import PageTurn, Position, event_from_json
from sf_plugin.score.layout import Layout
from sf_plugin.score.load import load_score

RATE = 22050
LAYOUT = Layout.from_json((ASSETS / "layout.json").read_text())
TRUTH = load_truth(ASSETS / "truth.json", LAYOUT)
BACK = 16
"""The measure after the repeat sign: the first time, measure 1 comes instead."""
END = 64
"""The measure with which the second movement ends."""


def scan(path: Path) -> None:
    """The demo's pages as a scanner sees them, as a PDF of nothing but pictures."""
    rng = np.random.default_rng(3)
    with pymupdf.open() as document:
        for page in load_score(ASSETS / "score.pdf").pages:
            image, _ = spoil(page, rng, PAPERS["clean scan"])
            file = io.BytesIO()
            Image.fromarray(image).save(file, "jpeg", quality=85)
            height, width = image.shape
            sheet = document.new_page(width=width / 2, height=height / 2)
            sheet.insert_image(sheet.rect, stream=file.getvalue())
        document.save(path)


def taken_twice(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The demo's take with its first part played twice; times and numbers of the onsets."""
    sound = np.concatenate(list(open_audio(ASSETS / "take.ogg").blocks(RATE)))
    turn = int(np.argmax(TRUTH.measure == BACK))
    stop = int(np.searchsorted(TRUTH.measure, END, side="right"))
    begin, back, end = (float(TRUTH.time[i]) - 0.01 for i in (0, turn, stop))
    edges = [round(t * RATE) for t in (begin, back, end)]
    once, rest = sound[edges[0] : edges[1]], sound[edges[1] : edges[2]]
    soundfile.write(path, np.concatenate([sound[: edges[0]], once, once, rest]), RATE)
    again = TRUTH.time + (back - begin)
    return (
        np.concatenate([TRUTH.time[:turn], again[:turn], again[turn:stop]]),
        np.concatenate([np.arange(turn), np.arange(turn), np.arange(turn, stop)]),
    )


def test_a_scan_is_followed_through_a_repeat(scorefollow: Run, tmp_path: Path) -> None:
    scan(tmp_path / "scan.pdf")
    times, onsets = taken_twice(tmp_path / "take.wav")
    done = scorefollow("follow", "scan.pdf", "--audio", "take.wav", "--out", "told.jsonl")
    assert done.returncode == 0, done.stderr
    told = [event_from_json(line) for line in (tmp_path / "told.jsonl").open()]
    positions = [event for event in told if isinstance(event, Position)]
    known = np.array([p.time for p in positions])
    said = [positions[i] for i in np.searchsorted(known, times + 0.075, side="right") - 1]
    measures = np.array([TRUTH.measure_at(p.page, p.x, p.y) for p in said])
    assert np.mean([p.page for p in said] == TRUTH.page[onsets]) > 0.98
    assert np.mean(measures == TRUTH.measure[onsets]) > 0.9
    passes = np.array([p.pass_ for p in said])
    first = np.flatnonzero(onsets == 0)[1]
    again = slice(first + 8, first + int(np.argmax(TRUTH.measure == BACK)))
    assert np.mean(passes[again] == 2) > 0.9
    assert np.mean(passes[:first] == 1) > 0.98
    assert [e.page for e in told if isinstance(e, PageTurn)] == [2]
    assert not [line for line in (tmp_path / "told.jsonl").open() if '"jump"' in line]
