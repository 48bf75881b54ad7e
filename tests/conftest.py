from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pymupdf
import pytest
import soundfile
from hypothesis import settings
from numpy.typing import NDArray

from sf_plugin.cli import main
from sf_plugin.followers import Follower
from sf_plugin.plugins import registry
from sf_plugin.score.layout import Layout, Measure, PageLayout, System
from sf_plugin.score.model import Pages, Score

settings.register_profile("no clock", deadline=None)
settings.load_profile("no clock")

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ("--follower", "constant-tempo")
"""Of `scorefollow` where `example_plugin` is installed."""
SYSTEMS = 2
MEASURES = 4


def page_of(*systems: int) -> PageLayout:
    """Systems of so many equal measures, from 0.1 to 0.9 of the width."""
    number, found = 1, []
    for i, count in enumerate(systems):
        edges = np.linspace(0.1, 0.9, count + 1)
        measures = tuple(Measure(number + k, edges[k], edges[k + 1]) for k in range(count))
        number += count
        found.append(System(0.3 * i + 0.1, 0.3 * i + 0.2, 0.1, 0.9, measures))
    return PageLayout(1, tuple(found))


def make_layout(
    pages: int, systems: int = SYSTEMS, measures: int = MEASURES, **marks: set[int]
) -> Layout:
    """Equal measures on equal systems; `marks` are measure numbers by field."""
    number = 0
    made = []
    for page in range(1, pages + 1):
        rows = []
        for row in range(systems):
            edges = np.linspace(0.1, 0.9, measures + 1)
            bars = []
            for left, right in pairwise(edges):
                number += 1
                bars.append(
                    Measure(
                        number,
                        float(left),
                        float(right),
                        repeat_start=number in marks.get("repeat_start", ()),
                        repeat_end=number in marks.get("repeat_end", ()),
                    )
                )
            top = 0.1 + row * 0.8 / systems
            rows.append(System(top, top + 0.5 / systems, 0.1, 0.9, tuple(bars)))
        made.append(PageLayout(page, tuple(rows)))
    return Layout(tuple(made))


def draw_pdf(path: Path, layout: Layout) -> Path:
    """Five staff lines a system and its bar lines, on A4."""
    document = pymupdf.open()
    for page in layout.pages:
        sheet = document.new_page(width=595, height=842)
        for system in page.systems:
            left, right = system.left * 595, system.right * 595
            for line in range(5):
                y = system.top * 842 + line * 6
                sheet.draw_line((left, y), (right, y), width=0.6)
            for measure in system.measures:
                x = measure.right * 595
                sheet.draw_line((x, system.top * 842), (x, system.top * 842 + 24), width=0.8)
                middle = (measure.left + measure.right) / 2 * 595
                sheet.draw_circle((middle, system.top * 842 + 15), 3, fill=(0, 0, 0))
    document.save(path)
    return path


def until(true: Callable[[], object], seconds: float = 60) -> None:
    """Wait until it is."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def layout() -> Layout:
    return make_layout(pages=2)


@pytest.fixture(scope="session")
def pdf(tmp_path_factory: pytest.TempPathFactory, layout: Layout) -> Path:
    return draw_pdf(tmp_path_factory.mktemp("score") / "score.pdf", layout)


@pytest.fixture(scope="session")
def layout_file(tmp_path_factory: pytest.TempPathFactory, layout: Layout) -> Path:
    path = tmp_path_factory.mktemp("layout") / "layout.json"
    path.write_text(layout.to_json())
    return path


@pytest.fixture(scope="session")
def wav(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a second of silence, then 16 s of quarter notes: four systems of four seconds."""
    rate = 16000
    time = np.arange(16 * rate) / rate
    pitch = 220 * 2 ** (np.floor(time) % 12 / 12)
    tone = 0.3 * np.sin(2 * np.pi * pitch * time) * np.exp(-2 * (time % 1))
    path = tmp_path_factory.mktemp("audio") / "take.wav"
    soundfile.write(path, np.concatenate([np.zeros(rate // 2), tone]), rate)
    return path


@pytest.fixture
def score(layout: Layout) -> Score:
    """Two blank pages whose layout is known."""
    blank = np.full((1200, 848), 255, np.uint8)
    return Score("two pages", Pages(2, lambda index: blank), layout)


@pytest.fixture
def take(wav: Path) -> tuple[NDArray[np.float64], int]:
    """Samples and rate of `wav`."""
    samples, rate = soundfile.read(wav)
    return samples, rate


@pytest.fixture
def follower(monkeypatch: pytest.MonkeyPatch) -> Follower:
    """The example: it reads on at a constant pace."""
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "constant_tempo_follower"))
    from constant_tempo_follower import ConstantTempo

    return ConstantTempo()


@pytest.fixture(scope="session")
def example_plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which the example follower is installed."""
    target = tmp_path_factory.mktemp("site")
    source = ROOT / "examples" / "constant_tempo_follower" / "constant_tempo_follower.py"
    add_distribution(target, "constant-tempo-follower", source.read_text(), entry="constant_tempo")
    return target


def add_distribution(
    site: Path, name: str, source: str, *, version: str = "1.0", entry: str | None = None
) -> None:
    """Install a one-module plug-in the way pip leaves it on disk."""
    module = name.replace("-", "_")
    (site / f"{module}.py").write_text(source)
    info = site / f"{module}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[sf_plugin]\n{entry or name} = {module}\n")


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def scorefollow(example_plugin: Path, tmp_path: Path) -> Run:
    """Runs the installed command in an empty folder, with the example plug-in installed."""
    program = Path(sys.executable).parent / "scorefollow"

    def run(
        *words: object, stdin: bytes | None = None, site: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        paths = [str(example_plugin), *([str(site)] if site else [])]
        done = subprocess.run(
            [str(program), *map(str, words)],
            cwd=tmp_path,
            input=stdin,
            capture_output=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    return run


@pytest.fixture
def scorefollow_here(
    example_plugin: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Iterator[Run]:
    """Runs the command as `scorefollow` does, in this process, which begins at once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(example_plugin))
    registry.cache_clear()

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        capfd.readouterr()
        arguments = [str(word) for word in words]
        try:
            code = main(arguments)
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        return subprocess.CompletedProcess(arguments, code, *capfd.readouterr())

    yield run
    registry.cache_clear()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real scheduler and two workers on loopback, started as a user does."""
    folder = tmp_path_factory.mktemp("dask")
    file = folder / "scheduler.json"
    scheduler = [
        sys.executable, "-c", "from distributed.cli.dask_scheduler import main; main()",
        "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file),
    ]  # fmt: skip
    worker = [
        sys.executable, "-c", "from distributed.cli.dask_worker import main; main()",
        "--scheduler-file", str(file), "--nthreads", "1", "--no-dashboard",
        "--host", "127.0.0.1", "--local-directory", str(folder),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    running = [subprocess.Popen(scheduler, cwd=folder, **quiet)]  # type: ignore[call-overload]
    try:
        for _ in range(600):
            if file.exists() and file.stat().st_size:
                break
            time.sleep(0.05)
        running += [
            subprocess.Popen(worker, cwd=folder, **quiet)  # type: ignore[call-overload]
            for _ in range(2)
        ]

        from distributed import Client

        address = json.loads(file.read_text())["address"]
        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
        yield address
    finally:
        for process in reversed(running):
            process.terminate()
        for process in running:
            process.wait(20)
