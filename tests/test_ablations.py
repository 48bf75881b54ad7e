from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from heard_system import FPS, NOTES, Piece, hearing, noise
from tiny_network import random_network

from sf_plugin.evaluation.metrics import answers
from sf_plugin.training.ablations import (
    ABLATIONS,
    SHIPS,
    Ablation,
    ablate,
    followed,
    likeliest,
    silenced,
    table,
    thinned,
)
from sf_plugin.training.fit_tracker import follow
from sf_plugin.unet.weights import save_weights


def test_what_ships_is_followed_as_ever() -> None:
    heard = hearing(6)
    assert followed(heard, ABLATIONS["as it ships"]) == follow(heard, SHIPS)[0]


def test_without_a_path_every_frame_stands_for_itself() -> None:
    heard = hearing(2)
    sure = replace(heard.hearing, logits=heard.hearing.logits[:] + np.float32(6))
    heard = replace(heard, hearing=sure)
    said = likeliest(heard)
    assert [p.x for p in said] == heard.document.x[heard.hearing.logits[:].argmax(1)].tolist()
    alone, path = (answers(each, heard.truth) for each in (said, follow(heard, SHIPS)[0]))
    assert alone.ratios()[0] < path.ratios()[0]


def test_nothing_is_said_before_the_first_note() -> None:
    heard = hearing(6)
    late = np.where(np.arange(len(heard.hearing.time)) < FPS, np.float32(0), heard.hearing.struck)
    said = likeliest(replace(heard, hearing=replace(heard.hearing, struck=late)))
    assert {p.state for p in said[:FPS]} == {"waiting"}
    assert said[-1].state == "tracking"


def test_of_two_frames_the_later_is_kept_and_strikes_of_both() -> None:
    whole = hearing(6).hearing
    half = thinned(whole, 2)
    assert half.time.tolist() == whole.time[1::2].tolist()
    assert np.array_equal(half.logits[:], whole.logits[1::2])
    assert half.struck.tolist() == np.maximum(whole.struck[::2], whole.struck[1::2]).tolist()
    assert len(followed(hearing(6), Ablation(every=2))) == len(half.time)


def test_what_is_silenced_speaks_again() -> None:
    net = random_network()
    before = {name: value.clone() for name, value in net.block_i.state_dict().items()}
    with pytest.raises(ZeroDivisionError), silenced(net, ("match", "query.weight")):
        assert not net.block_i.match.any() and not net.block_i.query.weight.any()
        assert net.block_i.grams.any()
        raise ZeroDivisionError
    after = net.block_i.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_all_ablations_answer_for_every_onset_and_silencing_is_heard(tmp_path: Path) -> None:
    weights = tmp_path / "tiny.safetensors"
    save_weights(random_network(6), weights)
    said = ablate([Piece("noise", noise(12000))], weights, list(ABLATIONS))["clean"]
    assert list(said) == list(ABLATIONS)
    assert {len(given.error) for given in said.values()} == {NOTES}
    silent = [name for name, ablation in ABLATIONS.items() if ablation.silent]
    errors = {tuple(said[name].error) for name in ["as it ships", *silent]}
    assert len(errors) > 1, "silencing reaches what is heard"
    lines = table(said).splitlines()
    assert len(lines) == 2 + len(ABLATIONS)
    assert lines[2].startswith("| as it ships |")
