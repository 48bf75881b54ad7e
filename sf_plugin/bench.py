"""What following costs on this machine: one CPU thread, a document of several pages.

Following is measured in blocks of 50 ms of sound, however many frames they complete.
The first block is told apart; the percentiles are of the rest.  The document's layout is
given, so that every network has the same systems to read.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sf_plugin.api import open_audio
from sf_plugin.audio.spectrogram import Spectrogram
from sf_plugin.errors import ScoreFollowerError
from sf_plugin.followers import Progress, no_progress
from sf_plugin.score.layout import Layout, PageLayout
from sf_plugin.score.layout_detection import detect_page
from sf_plugin.score.load import load_score
from sf_plugin.score.measures import PlainMapper
from sf_plugin.score.model import Pages, Score
from sf_plugin.unet.config import CUNET
from sf_plugin.unet.follower import UNetFollower
from sf_plugin.unet.network import ScoreUNet
from sf_plugin.unet.pages import PageEncoder, page_maps
from sf_plugin.unet.weights import SHIPPED

ASSETS = Path(__file__).parent / "demo_assets"
BLOCK_SECONDS = 0.05
STARTS = 3
"""Cold starts whose median is told."""

PAPER_PAGE = (393, 278)
"""Rows and columns of 1181 x 835 at a third, as published."""

PAPER_SECONDS = 3
"""Of sound for the published configuration: each frame costs as much as the next."""

Samples = NDArray[np.float32]
Seconds = list[float]


def bench(
    pages: int = 10,
    seconds: int = 60,
    weights: Path | None = None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """All figures as JSON has them; milliseconds unless the name says otherwise.

    Args:
        pages: of the document; the demo's pages over and over.
        seconds: of the demo's performance to follow.
        weights: a file that training wrote; the shipped ones by default.
        progress: called between the parts.

    Raises:
        ScoreFollowerError: the weights cannot be used.
    """
    torch.set_num_threads(1)
    score = document(pages)
    follower = UNetFollower(weights or SHIPPED)
    progress("measuring", 0, 4)
    page = per_page(follower, score)
    progress("measuring", 1, 4)
    follower.prepare(score)
    sound = demo_sound(seconds, follower.sample_rate)
    ours = per_block(follower, score, sound)
    progress("measuring", 2, 4)
    paper = per_block_as_published(sound[: int(PAPER_SECONDS * follower.sample_rate)])
    progress("measuring", 3, 4)
    starts = [start(pages, seconds if i == 0 else 1, weights) for i in range(STARTS)]
    progress("measuring", 4, 4)
    return {
        "version": 2,
        "machine": {
            "cpu": cpu_name(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "bfloat16": PageEncoder(follower.net).bf16,
        },
        "pages": pages,
        "onsets": len(follower.document),
        "sound_seconds": round(len(sound) / follower.sample_rate, 1),
        "per_50_ms": {name: spread(times) for name, times in ours.items()},
        "per_50_ms_as_published": {name: spread(times) for name, times in paper.items()},
        "per_page": {name: spread(times) for name, times in page.items()},
        "times_as_published": round(
            statistics.median(paper["everything"][1:]) / statistics.median(ours["everything"][1:]),
            1,
        ),
        "seconds_to_ready": round(statistics.median(s["seconds_to_ready"] for s in starts), 2),
        "peak_mebibytes": round(starts[0]["peak_mebibytes"]),
    }


def document(pages: int) -> Score:
    """The demo's pages over and over, with their true layout."""
    demo = load_score(ASSETS / "score.pdf")
    layout = Layout.from_json((ASSETS / "layout.json").read_text(encoding="utf-8"))
    count = len(layout.pages)
    systems = [layout.pages[i % count].systems for i in range(pages)]
    return Score(
        "bench",
        Pages(pages, lambda index: demo.pages[index % count]),
        Layout(tuple(PageLayout(i, own) for i, own in enumerate(systems, 1))),
    )


def demo_sound(seconds: float, sample_rate: int) -> Samples:
    """(samples,) the first `seconds` of the demo's performance."""
    with open_audio(ASSETS / "take.ogg") as source:
        heard, length = [], 0
        for block in source.blocks(sample_rate):
            heard.append(block)
            length += len(block)
            if length >= seconds * sample_rate:
                break
    return np.concatenate(heard)[: int(seconds * sample_rate)]


def stopwatch(owner: object, method: str, times: Seconds) -> None:
    """Make each call of a method of `owner` add the seconds it takes to `times`."""
    original: Callable[..., Any] = getattr(owner, method)

    def timed(*arguments: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return original(*arguments, **named)
        finally:
            times.append(time.perf_counter() - began)

    setattr(owner, method, timed)


def per_page(follower: UNetFollower, score: Score) -> dict[str, Seconds]:
    """Seconds of each step of reading a page."""
    encoder = PageEncoder(follower.net)
    assert score.layout is not None
    times: dict[str, Seconds] = {"render": [], "encode": [], "find systems": []}
    for number, known in enumerate(score.layout.pages, 1):
        began = time.perf_counter()
        image = score.pages[number - 1]
        times["render"].append(time.perf_counter() - began)
        began = time.perf_counter()
        encoder(image, number, 1, known)
        times["encode"].append(time.perf_counter() - began)
        maps = page_maps(follower.net, image, encoder.bf16)
        began = time.perf_counter()
        detect_page(np.asarray(1 - image.astype(np.float32) / 255, np.float32), maps, number, 1)
        times["find systems"].append(time.perf_counter() - began)
    times["everything"] = [sum(steps) for steps in zip(*times.values(), strict=True)]
    return times


def per_block(follower: UNetFollower, score: Score, sound: Samples) -> dict[str, Seconds]:
    """Seconds of each step of hearing a block, in a follower with `score` on the stand.

    The follower is of no use afterwards but for this.
    """
    assert score.layout is not None
    mapper = PlainMapper()
    mapper.open(score.layout)
    calls: dict[str, Seconds] = {}
    for name, owner, method in (
        ("features", follower.spectrogram, "hear"),
        ("audio encoder", follower.ear, "hear"),
        ("head", follower.head, "hear"),
        ("tracker", follower.tracker, "step"),
        ("mapper", mapper, "locate"),
    ):
        calls[name] = []
        stopwatch(owner, method, calls[name])
    times: dict[str, Seconds] = {name: [] for name in (*calls, "everything")}
    follower.reset()
    for block in blocks(sound, follower.sample_rate):
        began = time.perf_counter()
        for estimate in follower.feed(block):
            mapper.locate(estimate)
        times["everything"].append(time.perf_counter() - began)
        for name, seconds in calls.items():
            times[name].append(sum(seconds))
            seconds.clear()
    return times


@torch.inference_mode()
def per_block_as_published(sound: Samples) -> dict[str, Seconds]:
    """The same for the published setting: the whole U-Net every frame, over one page.

    Random weights: the time does not depend on them.  No tracker and no mapper.
    """
    net = ScoreUNet(CUNET).eval()
    spectrogram = Spectrogram(CUNET.spectrogram)
    page = torch.rand(1, 1, *PAPER_PAGE)
    state = None
    times: dict[str, Seconds] = {
        "features": [], "audio encoder": [], "U-Net": [], "everything": []
    }  # fmt: skip
    for block in blocks(sound, CUNET.spectrogram.sample_rate):
        marks = [time.perf_counter()]
        frames = torch.from_numpy(spectrogram.feed(block))
        marks.append(time.perf_counter())
        for frame in frames:
            z, state = net.audio(frame[None, None], state)
            marks.append(time.perf_counter())
            net.page_logits(net.page.encode(page), z[0])
            marks.append(time.perf_counter())
        if len(marks) != 4:
            continue
        for name, begin, end in zip(times, marks, marks[1:], strict=False):
            times[name].append(end - begin)
        times["everything"].append(marks[-1] - marks[0])
    return times


def blocks(sound: Samples, sample_rate: int) -> list[Samples]:
    """Cut into blocks of 50 ms, the last up to twice as long."""
    count = int(len(sound) / sample_rate / BLOCK_SECONDS)
    edges = (np.arange(1, count) * BLOCK_SECONDS * sample_rate).astype(int)
    return np.split(sound, edges)


def spread(times: Sequence[float]) -> dict[str, float]:
    """The first of some seconds, and percentiles of the others, in milliseconds."""
    rest = np.array(times[1:] or times) * 1000
    shares = {"median": 0.5, "p95": 0.95, "p99": 0.99}
    return {"first": round(times[0] * 1000, 3)} | {
        name: round(float(np.quantile(rest, share)), 3) for name, share in shares.items()
    }


# a process of its own


def start(pages: int, seconds: int, weights: Path | None) -> dict[str, float]:
    """A fresh process that reads the demo's first page, says so, and then follows a document.

    Raises:
        ScoreFollowerError: it did not come to its end.
    """
    arguments = (pages, seconds, str(weights) if weights else None)
    script = f"from sf_plugin.bench import live\nlive(*{arguments!r})"
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        ready = time.perf_counter() - began
        rest, said = process.communicate()
    if process.returncode:
        raise ScoreFollowerError(f"the fresh process failed: {said.strip()[-200:]}")
    return {"seconds_to_ready": ready, "peak_mebibytes": float(json.loads(rest))}


def live(pages: int, seconds: int, weights: str | None) -> None:
    """What `start` runs: prints a line when the first page is read, and its peak memory."""
    follower = UNetFollower(Path(weights) if weights else SHIPPED)
    follower.prepare(document(1))
    print("ready", flush=True)
    follower.prepare(document(pages))
    for block in blocks(demo_sound(seconds, follower.sample_rate), follower.sample_rate):
        for _ in follower.feed(block):
            pass
    print(peak_mebibytes())


def peak_mebibytes() -> float:
    """Peak resident memory of this process."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def cpu_name() -> str:
    """As the system calls it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


# for people


def table(report: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and rows, in milliseconds."""
    head = ["milliseconds", "first", "median", "p95", "p99"]
    rows = []
    for title, part in (
        (f"per 50 ms of sound, {report['pages']} pages", "per_50_ms"),
        ("per 50 ms as published, 1 page", "per_50_ms_as_published"),
        ("per page", "per_page"),
    ):
        rows.append([title, "", "", "", ""])
        for name, values in report[part].items():
            rows.append([f"  {name}", *(f"{values[column]:.2f}" for column in head[1:])])
    return head, rows


def facts(report: dict[str, Any]) -> list[str]:
    """What the table does not say, a line each."""
    machine = report["machine"]
    block = report["per_50_ms"]["everything"]["median"]
    return [
        f"{1000 * BLOCK_SECONDS / block:.0f} times faster than the music, "
        f"{report['times_as_published']:g} times faster than as published",
        f"ready {report['seconds_to_ready']:.1f} s after the start of a fresh process "
        "(weights loaded, one page read)",
        f"peak memory {report['peak_mebibytes']} MiB with {report['pages']} pages on the stand",
        f"{machine['cpu']}, {machine['threads']} thread, torch {machine['torch']}, bfloat16 "
        f"{'on' if machine['bfloat16'] else 'off'}",
    ]
