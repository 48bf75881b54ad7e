"""Make the demo's recording soft or noisy, follow it, and print the onsets in the right measure.

python soft_sound.py 0 -30 -40 0,20

Each argument is a level in dB, and behind a comma by how many dB the louder playing stands above
a room's noise. A microphone has an automatic gain, a file has none.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
import soundfile
from numpy.typing import NDArray

from sf_plugin import follow
from sf_plugin.api import Samples
from sf_plugin.audio.level import AutomaticGain
from sf_plugin.audio.room import measure
from sf_plugin.demo import ASSETS, load_truth
from sf_plugin.evaluation.metrics import answers
from sf_plugin.score.layout import Layout

BLOCK_SECONDS = 0.02


class Gained(Samples):
    """Samples that are heard as those of a microphone."""

    def blocks(self, sample_rate: int) -> Iterator[NDArray[np.float32]]:
        gain = AutomaticGain(sample_rate)
        cut = round(BLOCK_SECONDS * sample_rate)
        for block in super().blocks(sample_rate):
            for at in range(0, len(block), cut):
                yield gain.feed(block[at : at + cut])


def pink_noise(count: int, rate: int) -> NDArray[np.float64]:
    """(count,) samples with an RMS of 1, as much in each octave above 20 Hz."""
    spectrum = np.fft.rfft(np.random.default_rng(0).normal(size=count))
    frequency = np.fft.rfftfreq(count, 1 / rate)
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(frequency, 20)), count)
    return noise / noise.std()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("levels", nargs="+", metavar="LEVEL[,ABOVE]", help="in dB")
    parser.add_argument("--seconds", type=float, default=1e9, help="of the recording")
    args = parser.parse_args()
    layout = Layout.from_json((ASSETS / "layout.json").read_text(encoding="utf-8"))
    truth = load_truth(ASSETS / "truth.json", layout)
    take, rate = soundfile.read(ASSETS / "take.ogg", dtype="float32")
    take = take[: round(min(args.seconds * rate, len(take)))]
    loud = measure(take, rate).loud
    heard = truth.time < len(take) / rate
    print(f"{'level':>6} {'above noise':>12} {'file':>6} {'microphone':>11}")
    for text in args.levels:
        level, _, above = text.partition(",")
        samples = take
        if above:
            noise = pink_noise(len(take), rate) * 10 ** ((loud - float(above)) / 20)
            samples = take + noise
        samples = np.clip(samples * 10 ** (float(level) / 20), -1, 32767 / 32768)
        samples = np.round(samples * 32768) / 32768
        right = [
            answers(list(follow(ASSETS / "score.pdf", kind(samples, rate))), truth).right_measure
            for kind in (Samples, Gained)
        ]
        shares = [float(one[heard].mean()) for one in right]
        print(
            f"{level:>3} dB {above + ' dB' if above else 'none':>12} "
            f"{shares[0]:6.3f} {shares[1]:11.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
