"""How close synthesised power is to the power of rendered sound: the same notes both ways.

python -m sf_plugin.dataset.closeness TEMPLATES.npz SET
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np

from sf_plugin.audio.spectrogram import Floats, Spectrogram, SpectrogramConfig
from sf_plugin.dataset.engraving import Engraving
from sf_plugin.dataset.perform import perform
from sf_plugin.dataset.performance import Performance, sounding
from sf_plugin.dataset.render import render
from sf_plugin.dataset.shards import ShardSet
from sf_plugin.dataset.templates import HEARD, Templates


@dataclass(frozen=True)
class Closeness:
    """Two spectrograms of the same notes.

    Attributes:
        mean_db: mean absolute difference of power, in the bins of the second that are
            within 40 dB of their frame's loudest.
        most_db: its 95th percentile.
        features: correlation of the compressed features.
        flux: correlation of the rises of the features, summed over bins, frame by frame.
    """

    mean_db: float
    most_db: float
    features: float
    flux: float


def closeness(power: Floats, other: Floats, config: SpectrogramConfig = HEARD) -> Closeness:
    """Compare (frames, bins) power with another's; a difference in level alone is none."""
    frames = min(len(power), len(other))
    power, other = power[:frames], other[:frames]
    peak = other.max(1, keepdims=True)
    heard = (other > 1e-4 * peak) & (peak > 1e-6 * other.max())
    apart = 10 * (np.log10(power[heard] + 1e-20) - np.log10(other[heard] + 1e-20))
    louder = np.median(apart)
    apart = np.abs(apart - louder)
    power = power * np.float32(10 ** (-louder / 10))
    ours, theirs = (Spectrogram(config).compress(p) for p in (power, other))
    flux = [np.maximum(np.diff(f, axis=0), 0).sum(1) for f in (ours, theirs)]
    return Closeness(
        float(apart.mean()),
        float(np.quantile(apart, 0.95)),
        float(np.corrcoef(ours.ravel(), theirs.ravel())[0, 1]),
        float(np.corrcoef(*flux)[0, 1]),
    )


def both_ways(
    templates: Templates, performance: Performance, synthesised: str, rendered: str, frames: int
) -> tuple[Floats, Floats]:
    """(frames, bins) power of a performance, synthesised on one instrument, rendered on one."""
    rng = np.random.default_rng(0)
    config = templates.config
    power = templates.synthesise(sounding(performance), frames, rng, synthesised, vary=False)
    sound = render(performance.notes, rendered, config.sample_rate, performance.pedals)
    return power, Spectrogram(config).power(sound)[:frames]


def report(templates: Templates, pieces: Sequence[Engraving], seconds: float = 20.0) -> str:
    """A Markdown table: every piece on one instrument both ways, then on two different ones."""
    names = list(templates.instruments)
    rows: dict[str, list[tuple[float, ...]]] = {"same": [], "another": []}
    for number, piece in enumerate(pieces):
        rng = np.random.default_rng(number)
        performance = perform(piece, rng, only=slice(0, 80))
        notes = performance.notes
        last = float((notes["onset"] + notes["duration"]).max())
        frames = int(min(seconds, last) * templates.config.fps)
        mine, other = names[number % len(names)], names[(number + 1) % len(names)]
        for kind, rendered in (("same", mine), ("another", other)):
            rows[kind].append(
                astuple(closeness(*both_ways(templates, performance, mine, rendered, frames)))
            )
    head = ["instrument", *(f.name for f in fields(Closeness))]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for kind, values in rows.items():
        means = [f"{value:.2f}" for value in np.mean(values, 0)]
        lines.append("| " + " | ".join([kind, *means]) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("templates", type=Path)
    parser.add_argument("set", type=Path, help="a built set")
    parser.add_argument("--use", default="valid", help="which part of it (default %(default)s)")
    parser.add_argument("--count", type=int, default=10, help="pieces (default %(default)s)")
    args = parser.parse_args()
    shards = ShardSet(args.set)
    chosen = [shards.load(entry.name, images=False) for entry in shards.of_use(args.use)]
    print(report(Templates(args.templates), chosen[: args.count]))


if __name__ == "__main__":
    main()
