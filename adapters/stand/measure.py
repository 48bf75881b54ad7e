"""What viewers cost the follower: `python -m sf_adapters.stand.measure --viewers 200`.

Follows the demo in real time while so many WebSocket clients in another process look on.
With `--first` the follower's thread goes before all other work (Linux, as root), so that
what is measured is what viewers do to it, and not the load of the computer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import aiohttp
import numpy as np

from sf_adapters.stand import Stand
from sf_plugin.api import make_follower, make_mapper, open_audio
from sf_plugin.positions import Event, Position
from sf_plugin.score.load import load_score
from sf_plugin.session import Session

WITNESSES = 10
"""Every so many-th viewer notes when it heard of a position."""

SETTLE_SECONDS = 10.0


class _TimedStand(Stand):
    """Notes when it was told of each position, and how long that took."""

    told: dict[float, tuple[float, float]]

    def emit(self, event: Event) -> None:
        began = time.monotonic()
        super().emit(event)
        if isinstance(event, Position):
            self.told[event.time] = began, time.monotonic() - began


def measure(viewers: int, seconds: float, first: bool) -> list[str]:
    """The figures, a line each."""
    demo = Path(str(files("sf_plugin"))) / "demo_assets"
    score = demo / "score.pdf"
    stand = _TimedStand("0", files=[score])
    stand.told = {}
    follower, fed = make_follower(), []
    feed = follower.feed

    def timed_feed(block):  # type: ignore[no-untyped-def]
        began = time.monotonic()
        estimates = feed(block)
        fed.append((began, time.monotonic() - began))
        return estimates

    follower.feed = timed_feed  # type: ignore[method-assign]
    source = open_audio(str(demo / "take.ogg"))
    session = Session(
        source, follower, make_mapper(), load_score(score), [("stand", stand)], realtime=True
    )
    late: list[tuple[float, float]] = []
    started = time.monotonic()
    crowd: subprocess.Popen[str] | None = None
    for event in session.events():
        if crowd is None and stand.server is not None:
            command = [sys.executable, "-m", "sf_adapters.stand.measure", "--crowd"]
            words = [str(stand.server.port), str(viewers), str(seconds + SETTLE_SECONDS)]
            crowd = subprocess.Popen([*command, *words], stdout=subprocess.PIPE, text=True)
            begin = time.monotonic() + SETTLE_SECONDS
            if first:
                policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
                os.sched_setscheduler(0, policy, os.sched_param(1))
        if isinstance(event, Position):
            late.append((time.monotonic(), time.monotonic() - event.time))
            if crowd is not None and time.monotonic() > begin + seconds:
                session.controls.stop()
    assert crowd is not None
    spent = os.times()
    share = (spent.children_user + spent.children_system) / (time.monotonic() - started)
    heard = json.loads(crowd.communicate()[0])
    delays = [
        at - stand.told[position][0]
        for position, at in heard
        if position in stand.told and stand.told[position][0] > begin
    ]
    lateness = np.array([seconds for at, seconds in late if at > begin])
    return [
        _line("told to the stand", [cost for at, cost in stand.told.values() if at > begin]),
        _line("25 ms of sound followed", [cost for at, cost in fed if at > begin]),
        _line("late, against the earliest", (lateness - lateness.min()).tolist()),
        _line("told to a viewer", delays),
        f"the stand's processes, their start included: {share:.1%} of a core",
    ]


def _line(what: str, seconds: Sequence[float]) -> str:
    if not seconds:
        return f"{what}: never"
    figures = np.percentile(seconds, (50, 95, 99, 100)) * 1000
    names = ("median", "95 %", "99 %", "most")
    told = ", ".join(f"{name} {ms:.2f}" for name, ms in zip(names, figures, strict=True))
    return f"{what}: {told} ms"


async def _crowd(port: int, viewers: int, seconds: float) -> list[tuple[float, float]]:
    """Look on; when witnesses heard of a position, by its time."""
    heard: defaultdict[int, list[tuple[float, float]]] = defaultdict(list)

    async def look(number: int) -> None:
        async with browser.ws_connect("/ws", max_msg_size=0) as ws:
            async for message in ws:
                if number % WITNESSES == 0 and '"type":"position"' in message.data[:20]:
                    heard[number].append((json.loads(message.data)["time"], time.monotonic()))

    connector = aiohttp.TCPConnector(limit=0)
    address = f"http://127.0.0.1:{port}"
    async with aiohttp.ClientSession(address, connector=connector) as browser:
        looking = asyncio.gather(*(look(number) for number in range(viewers)))
        await asyncio.wait([asyncio.ensure_future(looking)], timeout=seconds)
        looking.cancel()
    return [one for several in heard.values() for one in several]


def main() -> None:
    parser = argparse.ArgumentParser(description="What viewers cost the follower.")
    parser.add_argument("--viewers", type=int, default=200, help="(default %(default)s)")
    parser.add_argument("--seconds", type=float, default=20.0, help="(default %(default)s)")
    parser.add_argument("--first", action="store_true", help="the follower goes first")
    parser.add_argument("--crowd", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.crowd is not None:
        port, viewers, seconds = args.crowd
        print(json.dumps(asyncio.run(_crowd(int(port), int(viewers), float(seconds)))))
        return
    for line in measure(args.viewers, args.seconds, args.first):
        print(line)


if __name__ == "__main__":
    main()
