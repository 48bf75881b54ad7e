"""What limits a network: how often it is right when it is told what it should have read or heard.

    python -m sf_plugin.training.oracles DATA WEIGHTS --paper engraved

The pairs of pages are those that training validates on, always in a room.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from sf_plugin.dataset.paper import PAPERS
from sf_plugin.dataset.registry import EXTRA
from sf_plugin.dataset.shards import ShardSet
from sf_plugin.dataset.templates import Templates
from sf_plugin.training.data import PageSample, Sampler
from sf_plugin.training.losses import match_onsets
from sf_plugin.training.validation import PAIRS, SEED
from sf_plugin.unet.network import Onsets, ScoreUNet
from sf_plugin.unet.pages import find_onsets, strip_places
from sf_plugin.unet.staff_reader import cut_out
from sf_plugin.unet.weights import load_weights

ORACLES = {
    "as it is": (False, False),
    "true pitches of the page": (True, False),
    "what truly sounds": (False, True),
    "both": (True, True),
}


@torch.inference_mode()
def read_page(net: ScoreUNet, sample: PageSample) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The strip, its onsets' cells, the place of every true one, and (onsets, 88) pitches."""
    with torch.autocast("cpu", torch.bfloat16):
        features = net.page.encode(sample.ink.contiguous(memory_format=torch.channels_last))["x"]
        pitch_maps = net.pitch_maps(features)
        staves = sample.staves.staves
        reading = net.staff(cut_out(sample.ink, staves.lines), staves.start)
    strip = net.strip(features.float(), pitch_maps.float(), sample.systems)
    likely = torch.sigmoid(net.strip_pitches(strip)[:, -1]).numpy()
    found = torch.from_numpy(find_onsets(likely, sample.systems))
    at, place = match_onsets(found, sample.onset_cells)
    pitches = net.staff.pitches(reading, staves, *strip_places(at, sample.systems))
    return strip, at, place, pitches


@torch.inference_mode()
def right(net: ScoreUNet, pairs: Iterable[tuple[PageSample, ...]]) -> dict[str, float]:
    """Share of frames whose likeliest onset is the true one, by name of `ORACLES`.

    Also "pitches": the share of onsets whose pitches are read exactly.
    """
    hits = dict.fromkeys(ORACLES, 0)
    frames = exact = onsets = 0
    for pair in pairs:
        read, true, places = [], [], []
        count = 0
        for sample in pair:
            strip, at, place, pitches = read_page(net, sample)
            told = torch.zeros_like(pitches)
            told[place] = sample.onset_pitches.float()
            exact += int(((pitches[place] > 0.5) == sample.onset_pitches).all(1).sum())
            onsets += len(place)
            read.append(net.read_onsets(strip, at, pitches)[0])
            true.append(net.read_onsets(strip, at, told)[0])
            places.append(place + count)
            count += len(at)
        page = {False: Onsets.join(read), True: Onsets.join(true)}
        for sample, place in zip(pair, places, strict=True):
            performance, frame = sample.target_frames.T
            z = net.audio(sample.frames)[0][performance, frame]
            heard = {False: net.hear(z), True: sample.heard[performance, frame].float()}
            target = place[sample.target_onsets]
            frames += len(target)
            for name, (by_page, by_ear) in ORACLES.items():
                logits = net.block_i(page[by_page], z[:, : net.audio.out], heard[by_ear])
                hits[name] += int((logits.argmax(1) == target).sum())
    shares = {name: hit / max(frames, 1) for name, hit in hits.items()}
    return shares | {"pitches": exact / max(onsets, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="a built set")
    parser.add_argument("weights", type=Path)
    parser.add_argument("--paper", choices=sorted(PAPERS), help="(default: as in training)")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="of pages (default %(default)s)")
    args = parser.parse_args()
    sound = Templates(args.data / "templates.npz")
    paper = PAPERS[args.paper] if args.paper else None
    shards = ShardSet(args.data)
    sampler = Sampler(shards, sound, sound.config, use=EXTRA, rooms=1.0, paper=paper)
    net = load_weights(args.weights)
    for name, share in right(net, islice(sampler.pairs(SEED), args.pairs)).items():
        print(f"{name:28} {share:.3f}")


if __name__ == "__main__":
    main()
