from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sf_plugin.workers import WorkerError, in_order


def square(number: int) -> int:
    time.sleep(0.02 * (number % 3))  # later items may be ready before earlier ones
    return number * number


def refuse(number: int) -> int:
    if number == 3:
        raise ValueError("three is refused")
    return number


def die(number: int) -> int:
    os._exit(7)


def mark(folder: str) -> str:
    Path(folder, str(os.getpid())).touch()
    return folder


@pytest.mark.parametrize("jobs", [1, 3])
def test_results_come_in_the_order_of_the_items(jobs: int) -> None:
    assert list(in_order(square, range(20), jobs=jobs)) == [n * n for n in range(20)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_fails_fails_here(jobs: int) -> None:
    results = in_order(refuse, range(9), jobs=jobs)
    with pytest.raises(ValueError, match="three is refused"):
        list(results)


def test_a_dead_worker_is_an_error() -> None:
    with pytest.raises(WorkerError, match="a worker process died"):
        list(in_order(die, range(3), jobs=2))


def test_few_items_are_taken_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    results = in_order(square, items(), jobs=2)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert len(taken) < 20


def test_work_is_done_on_a_cluster(cluster: str, tmp_path: Path) -> None:
    assert list(in_order(square, range(20), scheduler=cluster)) == [n * n for n in range(20)]
    list(in_order(mark, [str(tmp_path)] * 20, scheduler=cluster))
    there = {int(file.name) for file in tmp_path.iterdir()}
    assert len(there) == 2
    assert os.getpid() not in there
    with pytest.raises(ValueError, match="three is refused"):
        list(in_order(refuse, range(9), scheduler=cluster))


def test_a_scheduler_that_is_not_there_is_an_error() -> None:
    with pytest.raises(WorkerError, match="no Dask scheduler answers"):
        list(in_order(square, [1], scheduler="tcp://127.0.0.1:9"))


def test_an_interrupt_leaves_no_worker(tmp_path: Path) -> None:
    code = (
        "import os, time\nfrom pathlib import Path\nfrom sf_plugin.workers import in_order\n"
        "from test_workers import slow\n"
        f"if __name__ == '__main__': list(in_order(slow, [{str(tmp_path)!r}] * 9, jobs=2))\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    running = subprocess.Popen(
        [sys.executable, str(script)], env=environment, stderr=subprocess.PIPE, text=True
    )
    while len(list(tmp_path.glob("*.pid"))) < 2:
        assert running.poll() is None
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, complaints = running.communicate(timeout=60)
    assert "KeyboardInterrupt" in complaints
    for file in tmp_path.glob("*.pid"):
        assert not Path("/proc", file.stem).exists() or not sys.platform.startswith("linux")


def slow(folder: str) -> None:
    Path(folder, f"{os.getpid()}.pid").touch()
    time.sleep(60)
