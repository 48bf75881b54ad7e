"""Does a network that learned from note templates hear as well as one that learned from samples?

    python -m sf_plugin.training.compare_sound SET TEMPLATES OUT --steps 600

Twice the same training from the same start with the same pages: the shipped network learns to
hear anew, everything else of it stays.  Once its sound is synthesised from templates, once
rendered by fluidsynth; instruments, rooms and noises are drawn alike.  Judge the two files
with `scorefollow evaluate --weights`.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sf_plugin.audio.spectrogram import Floats, Spectrogram, SpectrogramConfig
from sf_plugin.dataset.registry import Registry
from sf_plugin.dataset.render import render
from sf_plugin.dataset.shards import ShardSet
from sf_plugin.dataset.templates import Templates
from sf_plugin.training.data import Sampler, Synthesiser
from sf_plugin.training.losses import WEIGHTS, losses
from sf_plugin.training.train import learning_rate
from sf_plugin.unet.network import ScoreUNet
from sf_plugin.unet.weights import load_weights, save_weights

INSTRUMENTS = ("fluid-grand", "fluid-bright", "timgm-grand", "timgm-bright")
"""Those whose soundfonts fluidsynth opens fast."""

TERMS = ("place", "audio")


@dataclass(frozen=True)
class Rendered:
    """Stands in the templates' place: fluidsynth's sound in the follower's filter bank."""

    config: SpectrogramConfig

    def synthesise(self, notes: np.ndarray, frames: int, rng: np.random.Generator) -> Floats:
        """(frames, bins) power of `notes`, whose durations are as they sound."""
        name = str(rng.choice(INSTRUMENTS))
        heard = notes[notes["onset"] < frames / self.config.fps]
        sound = render(heard, name, self.config.sample_rate)
        power = Spectrogram(self.config).power(sound)[:frames]
        return np.pad(power, ((0, frames - len(power)), (0, 0)))


@dataclass(frozen=True)
class Synthesised:
    """The templates of the same instruments."""

    templates: Templates

    def synthesise(self, notes: np.ndarray, frames: int, rng: np.random.Generator) -> Floats:
        """(frames, bins) power of `notes`, whose durations are as they sound."""
        return self.templates.synthesise(notes, frames, rng, str(rng.choice(INSTRUMENTS)))


def deaf(seed: int) -> ScoreUNet:
    """The shipped network with an audio encoder that has learned nothing."""
    net = load_weights()
    torch.manual_seed(seed)
    fresh = ScoreUNet(net.config)
    fresh.audio.mean.copy_(net.audio.mean)
    fresh.audio.deviation.copy_(net.audio.deviation)
    net.requires_grad_(False)
    net.audio, net.heard_pitches = fresh.audio, fresh.heard_pitches
    return net


def learn(
    net: ScoreUNet, sampler: Sampler, steps: int, seed: int, workers: int, rate: float = 1.5e-3
) -> list[dict[str, float]]:
    """Train what may be trained; the means of every 50 steps."""
    learners = [p for p in net.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learners, lr=rate, weight_decay=1e-2)
    curve: list[dict[str, float]] = []
    kept: list[dict[str, float]] = []
    samples = sampler.pairs(seed, 0, workers)
    began = time.time()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, step / steps, rate)
        terms, scores = losses(net, next(samples))
        loss = torch.stack([WEIGHTS[name] * terms[name] for name in TERMS]).sum()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learners, 2.0)
        optimiser.step()
        kept.append(scores | {name: float(terms[name].detach()) for name in TERMS})
        if len(kept) == 50:
            means = {name: float(np.mean([row[name] for row in kept])) for name in kept[0]}
            curve.append({"step": step + 1, **{k: round(v, 4) for k, v in means.items()}})
            print(json.dumps(curve[-1]), f"{(time.time() - began) / 50:.2f} s a step", flush=True)
            kept, began = [], time.time()
    return curve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="set of engraved pieces")
    parser.add_argument("templates", type=Path)
    parser.add_argument("out", type=Path, help="folder for both weights and curves")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--only", choices=("synthesised", "rendered"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    config = SpectrogramConfig()
    shards = ShardSet(args.data)
    sounds: dict[str, Synthesiser] = {
        "synthesised": Synthesised(Templates(args.templates, config)),
        "rendered": Rendered(config),
    }
    for name, sound in sounds.items():
        if args.only not in (None, name):
            continue
        sampler = Sampler(shards, sound, config)
        Registry.load().check_training(
            (entry.piece, shards.load(entry.name, images=False).notes) for entry in sampler.entries
        )
        net = deaf(args.seed)
        curve = learn(net, sampler, args.steps, args.seed, args.workers)
        save_weights(net, args.out / f"{name}.safetensors")
        (args.out / f"{name}.json").write_text(json.dumps(curve) + "\n")


if __name__ == "__main__":
    main()
