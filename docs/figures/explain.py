"""Draw the figures of `docs/explanation` from the demo's score and recording.

python docs/figures/explain.py docs/images
"""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure

from sf_plugin.api import open_audio
from sf_plugin.demo import ASSETS, load_truth
from sf_plugin.evaluation.metrics import Truth
from sf_plugin.positions import Estimate
from sf_plugin.score.layout import Layout
from sf_plugin.score.load import load_score
from sf_plugin.score.model import Score
from sf_plugin.tracking.tracker import softmax
from sf_plugin.unet.follower import UNetFollower

Floats = NDArray[np.float32]

HEARD, TRUE, PALE = "#00695c", "#d84315", "#78909c"
INK = LinearSegmentedColormap.from_list("ink", ["#ffffff", "#80cbc4", "#00695c", "#00251a"])
STATES = {
    "waiting": "#eceff1",
    "tracking": "#b2dfdb",
    "unsure": "#ffe0b2",
    "lost": "#ffab91",
    "ended": "#eceff1",
}

MOMENT = 10.0
"""Seconds of the recording after which the mask is drawn: measure 5, which begins as measure 1."""

plt.rcParams.update(
    {
        "axes.spines.right": False,
        "axes.spines.top": False,
        "figure.dpi": 110,
        "font.size": 9,
    }
)


@dataclass(frozen=True)
class Road:
    """What was believed while some sound was followed.

    Attributes:
        time: (frames,) seconds into the sound.
        alone: (frames, onsets) what each frame says by itself.
        path: (frames, onsets) what the path believes.
        said: an estimate a frame.
    """

    time: Floats
    alone: Floats
    path: Floats
    said: list[Estimate]


def follow(follower: UNetFollower, samples: Floats) -> Road:
    """Follow sound as the product does, and keep what was believed."""
    follower.reset()
    assert follower.tracker is not None
    alone, path, said = [], [], []
    for block in np.array_split(samples, max(1, len(samples) // 256)):
        for frame, peak in zip(*follower.spectrogram.hear(block), strict=True):
            time = follower.spectrogram.time(len(said))
            logits, sounding, struck = follower.hear(frame)
            quiet = follower._is_quiet(float(peak), sounding)
            said.append(follower.tracker.step(logits, time, quiet=quiet, struck=struck))
            alone.append(softmax(logits))
            path.append(follower.tracker.belief())
    times = np.array([estimate.time - follower.lag for estimate in said], np.float32)
    return Road(times, np.array(alone), np.array(path), said)


def draw_mask(follower: UNetFollower, score: Score, layout: Layout, page: int) -> Figure:
    """Three systems of the page: what was read there, and the mask."""
    mask = follower.mask(page)
    assert mask is not None
    image, found = score.pages[page - 1], layout.pages[page - 1]
    rows, columns = image.shape
    at = int(
        np.argmax([mask[round((s.top + s.bottom) / 2 * len(mask))].max() for s in found.systems])
    )
    near = found.systems[max(0, at - 1) : at + 2]
    top, bottom = near[0].top - 0.021, near[-1].bottom + 0.025
    figure, (read, heard) = plt.subplots(2, 1, figsize=(7.6, 7.0), layout="constrained")
    for axes in (read, heard):
        axes.imshow(image, cmap="gray", extent=(0, 1, 1, 0), aspect=rows / columns, alpha=0.75)
        axes.set(ylim=(bottom, top), xlim=(0.05, 0.97), xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for system in near:
        height = system.bottom - system.top
        box = (system.left, system.top), system.right - system.left, height
        read.add_patch(plt.Rectangle(*box, color="#1976d2", alpha=0.10, lw=0))
        for measure in system.measures:
            read.vlines(measure.right, system.top, system.bottom, color="#2e7d32", lw=1.4)
            read.text(
                measure.left + 0.014, system.top - 0.006, measure.number, color="#2e7d32", size=8
            )
    document = follower.document
    mine = (document.page == page) & (document.y > top) & (document.y < bottom)
    ends = {round((s.top + s.bottom) / 2, 3): s.bottom for s in near}
    for x, y, beats in zip(document.x[mine], document.y[mine], document.beats[mine], strict=True):
        foot = ends.get(round(float(y), 3))
        if foot is not None:
            read.vlines(
                x, foot + 0.004, foot + 0.004 + 0.008 * float(beats) ** 0.5, color=TRUE, lw=1.4
            )
    painted = np.ma.masked_less(mask, 0.01)
    heard.imshow(
        painted, cmap=INK, extent=(0, 1, 1, 0), aspect=rows / columns, alpha=0.5, vmin=0, vmax=1
    )
    read.set_title("read once: systems, bar lines, onsets and how long each lasts", loc="left")
    heard.set_title(f"heard: the mask after {MOMENT:g} s of the recording", loc="left")
    return figure


def draw_moment(road: Road, truth: Floats) -> Figure:
    """One frame: what it says alone and what the path believes, over all onsets."""
    frame = len(road.time) - 1
    figure, axes = plt.subplots(2, 1, figsize=(7.6, 3.6), sharex=True, layout="constrained")
    for plot, belief, what in (
        (axes[0], road.alone[frame], "this frame alone"),
        (axes[1], road.path[frame], "the path, which knows what came before"),
    ):
        plot.vlines(np.arange(len(belief)), 1e-5, np.maximum(belief, 1e-5), color=HEARD, lw=0.9)
        plot.axvline(truth[frame], color=TRUE, lw=0.8, ls=":")
        plot.set(yscale="log", ylim=(1e-5, 1.2), ylabel="probability")
        plot.set_title(what, loc="left")
    axes[1].set(xlabel="onsets of the document in reading order", xlim=(0, len(road.path[0])))
    return figure


def draw_road(road: Road, truth: Floats, onsets: tuple[int, int], note: str) -> Figure:
    """Belief over time, of frames alone and of the path, and the confidence below."""
    figure, axes = plt.subplots(
        3, 1, figsize=(7.6, 6.6), sharex=True, layout="constrained", height_ratios=(4, 4, 2)
    )
    low, high = onsets
    edges = (float(road.time[0]), float(road.time[-1]), low - 0.5, high - 0.5)
    for plot, belief, what in (
        (axes[0], road.alone, "each frame alone"),
        (axes[1], road.path, "the path"),
    ):
        picture = plot.imshow(
            np.maximum(belief[:, low:high].T, 1e-4),
            cmap=INK, norm=LogNorm(1e-3, 1), extent=edges, aspect="auto", origin="lower",
        )  # fmt: skip
        plot.plot(road.time, np.where(truth < high, truth, np.nan), color=TRUE, lw=0.8, ls=":")
        plot.set_ylabel("onset")
        plot.set_title(what, loc="left")
    figure.colorbar(picture, ax=axes[:2], label="probability", pad=0.01)
    draw_confidence(axes[2], road)
    axes[2].set_xlabel(f"seconds; dotted: what was played. {note}")
    return figure


def draw_confidence(axes: Axes, road: Road) -> None:
    states = [estimate.state for estimate in road.said]
    starts = [0, *(i for i in range(1, len(states)) if states[i] != states[i - 1])]
    for start, stop in zip(starts, [*starts[1:], len(states)], strict=True):
        left, right = road.time[start], road.time[min(stop, len(states) - 1)]
        axes.axvspan(left, right, color=STATES[states[start]], lw=0)
        if right - left > 1.2:
            axes.text((left + right) / 2, 0.06, states[start], ha="center", size=8)
    axes.plot(road.time, [estimate.confidence for estimate in road.said], color=HEARD, lw=1.3)
    axes.set(ylim=(0, 1.05), ylabel="confidence")


def played(
    road: Road, follower: UNetFollower, truth: Truth, cuts: list[tuple[float, float]]
) -> Floats:
    """(frames,) the onset that was played last, of a recording put together from `cuts`."""
    document, place = follower.document, np.full(len(road.time), np.nan, np.float32)
    begins = 0.0
    for start, stop in cuts:
        for time, page, system, x in zip(
            truth.time, truth.page, truth.system, truth.x, strict=True
        ):
            if start <= time < stop:
                y = truth.system_centres[int(page)][int(system) - 1]
                place[road.time >= begins + time - start] = document.nearest(page, x, y)
        begins += stop - start
    return place


def main(folder: Path) -> None:
    score = load_score(ASSETS / "score.pdf")
    follower = UNetFollower()
    layout = follower.prepare(score)
    known = Layout.from_json((ASSETS / "layout.json").read_text(encoding="utf-8"))
    truth = load_truth(ASSETS / "truth.json", known)
    rate = follower.sample_rate
    with open_audio(ASSETS / "take.ogg") as source:
        sound = np.concatenate(list(source.blocks(rate)))

    def part(*cuts: tuple[float, float]) -> Floats:
        return np.concatenate([sound[round(a * rate) : round(b * rate)] for a, b in cuts])

    def save(figure: Figure, name: str) -> None:
        drawn = io.BytesIO()
        figure.savefig(drawn)
        Image.open(drawn).convert("RGB").quantize(192).save(folder / f"{name}.png", optimize=True)
        plt.close(figure)

    begun = [(0.0, MOMENT)]
    road = follow(follower, part(*begun))
    save(draw_mask(follower, score, layout, road.said[-1].page), "explained-mask")
    save(draw_moment(road, played(road, follower, truth, begun)), "explained-moment")

    def begin_of(measure: int) -> float:
        return float(truth.time[truth.measure == measure][0]) - 0.02

    repeat = [(0.0, begin_of(16)), (begin_of(1), begin_of(1) + 12)]
    road = follow(follower, part(*repeat))
    save(
        draw_road(
            road, played(road, follower, truth, repeat), (0, 170), "Measures 1 to 15, twice."
        ),
        "explained-repeat",
    )

    jump = [(0.0, begin_of(12)), (begin_of(63), begin_of(63) + 14)]
    road = follow(follower, part(*jump))
    save(
        draw_road(
            road,
            played(road, follower, truth, jump),
            (0, len(follower.document)),
            "From measure 11 to 63, without a pause.",
        ),
        "explained-jump",
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
