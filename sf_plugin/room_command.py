"""`scorefollow doctor --mic`: hear the room, hear the player, and say what to do."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.live import Live
from rich.text import Text

from sf_plugin.audio.level import decibels
from sf_plugin.audio.live import PATIENCE_SECONDS
from sf_plugin.audio.microphone import Microphone
from sf_plugin.audio.room import Room, Take, find_hum, judge, measure
from sf_plugin.errors import AudioError
from sf_plugin.terminal import errors, print_rows, say

Floats = NDArray[np.float32]

TAKE_SECONDS = 5.0
READY_SECONDS = 2.0
"""Between the quiet and the playing; also what is heard while the device settles."""

METER_DB = 60
STYLES = {"ok": "green", "poor": "yellow", "bad": "red"}


def check_room(args: argparse.Namespace) -> int:
    """Record the room and some playing, and print what was found.

    Returns:
        1 where following will not go well, else 0.
    """
    microphone = Microphone(args.mic, channel=args.channel)
    say(f"listening to {microphone.device.name}")
    with microphone:
        sound = microphone.recorded()
        say(f"be quiet for {TAKE_SECONDS:.0f} s")
        _record(sound, READY_SECONDS / 2, "")
        quiet, rate = _record(sound, TAKE_SECONDS, "the room")
        say(f"now play, for {READY_SECONDS + TAKE_SECONDS:.0f} s, as loud as you will")
        _record(sound, READY_SECONDS, "")
        playing, rate = _record(sound, TAKE_SECONDS, "playing")
        room = judge(measure(quiet, rate), measure(playing, rate), find_hum(quiet, rate))
    if args.json:
        print(json.dumps({"microphone": asdict(microphone.device), **asdict(room)}, indent=1))
    else:
        _print(room)
    return int(any(advice.status == "bad" for advice in room.advice))


def _record(sound: Iterator[tuple[Floats, int]], seconds: float, what: str) -> tuple[Floats, int]:
    """(n, channels) samples of so many seconds, and their rate.

    Raises:
        AudioError: the microphone stopped.
    """
    blocks: list[Floats] = []
    heard = missing = 0.0
    with _meter(what) as show:
        for block, rate in sound:
            if block.ndim == 1:
                missing += len(block) / rate
                if missing > PATIENCE_SECONDS:
                    break
                continue
            blocks.append(block)
            heard += len(block) / rate
            show(decibels(float(np.abs(block).max())), heard / seconds)
            if heard >= seconds:
                return np.concatenate(blocks), rate
    raise AudioError("the microphone stopped: plug it in again, then run this again")


@contextmanager
def _meter(what: str) -> Iterator[Callable[[float, float], None]]:
    """Shows the level in dB and the share done, on a terminal."""
    if not errors.is_terminal or not what:
        yield lambda level, done: None
        return
    full, empty = "#-" if errors.options.ascii_only else "█░"
    with Live(console=errors, transient=True, refresh_per_second=10) as live:

        def show(level: float, done: float) -> None:
            bars = round(METER_DB / 2 * min(max(1 + level / METER_DB, 0.0), 1.0))
            color = "red" if level > -1 else "green"
            line = Text(f"{what} {min(done, 1.0):4.0%} ")
            line.append(full * bars, color)
            live.update(line.append(f"{empty * (METER_DB // 2 - bars)} {level:4.0f} dB"))

        yield show


def _print(room: Room) -> None:
    def row(what: str, tell: Callable[[Take], str]) -> tuple[str, str, str]:
        return what, tell(room.quiet), tell(room.playing)

    print_rows(
        ("", "the room", "playing"),
        (
            row("level (RMS)", lambda take: f"{take.level:.0f} dB"),
            row("highest peak", lambda take: f"{take.peak:.0f} dB"),
            row("softest tenth", lambda take: f"{take.floor:.0f} dB"),
            row("loudest tenth, from", lambda take: f"{take.loud:.0f} dB"),
            row("clipped", lambda take: f"{take.clipped:.1%}"),
            row("off centre", lambda take: f"{abs(take.offset):.1%}"),
        ),
    )
    hum = room.hum
    print(f"\nhum: {f'{hum.frequency} Hz and above, {hum.level:.0f} dB' if hum else 'none'}")
    print(f"playing above the room: {room.above_noise:.0f} dB\n")
    console = Console(highlight=False, soft_wrap=True)
    for advice in room.advice:
        console.print(
            Text(advice.status, STYLES[advice.status]).append(f"  {advice.what}", "default")
        )
