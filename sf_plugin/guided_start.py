"""`scorefollow follow` without arguments: asks, and says which command line that is."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.prompt import Confirm, IntPrompt, Prompt
from rich.text import Text

from sf_plugin.doctor import midi_ports, why_no_midi
from sf_plugin.errors import ScoreFollowerError
from sf_plugin.score.load import load_score
from sf_plugin.terminal import errors, one_line, say

if TYPE_CHECKING:
    from sf_plugin.audio.microphone import Microphone

MOST_SUGGESTED = 9
LEVEL_SECONDS = 3.0
SOFT_DB, LOUD_DB = -40.0, -0.5
"""Peaks below the first are hardly music; above the second they are clipped."""

OSC_ADDRESS = "127.0.0.1:9000"


@dataclass(frozen=True, slots=True)
class Sound:
    """What is listened to.

    Attributes:
        words: the options that say so; empty for a browser's microphone.
        live: whether it is played now.
    """

    words: tuple[str, ...]
    live: bool = True


def ask() -> list[str]:
    """The words of a command line, without the program's name.

    Raises:
        KeyboardInterrupt: also at the end of the input.
    """
    try:
        say("A few questions; Ctrl-C leaves at any of them.")
        score = _ask_score()
        sound = _ask_sound()
        words = _ask_purpose(score, sound)
        say("\nThis is the command; next time, type it:\n")
        say(f"  {in_shell(['scorefollow', *words])}\n")
        if not Confirm.ask("Begin", default=True, console=errors):
            raise KeyboardInterrupt
    except (EOFError, KeyboardInterrupt):
        say("")
        raise KeyboardInterrupt from None
    return words


def in_shell(words: Sequence[str]) -> str:
    """A command line to type."""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


# the score


def _ask_score() -> list[str]:
    """The files of a score that can be read."""
    suggested = sorted(Path().glob("*.[pP][dD][fF]"))[:MOST_SUGGESTED]
    number = "A number, or the" if suggested else "The"
    _list(f"\nWhich score? {number} path of a PDF, page images or MusicXML.", suggested)
    while True:
        answer = Prompt.ask("Score", default="1" if suggested else None, console=errors) or ""
        if answer.isdecimal() and 1 <= int(answer) <= len(suggested):
            paths = [str(suggested[int(answer) - 1])]
        else:
            paths = paths_of(answer)
        if not paths:
            continue
        try:
            pages = len(load_score(paths).pages)
        except ScoreFollowerError as error:
            say(one_line(error))
        else:
            say(f"{Path(paths[0]).name}: {pages} page{'' if pages == 1 else 's'}")
            return paths


def paths_of(answer: str) -> list[str]:
    """The files that were typed, or dropped on the terminal with quotes or escapes."""
    answer = answer.strip()
    if not answer or os.path.exists(os.path.expanduser(answer)):
        names = [answer] if answer else []
    else:
        try:
            names = shlex.split(answer, posix=os.name != "nt")
        except ValueError:
            names = [answer]
    return [os.path.expanduser(name.strip("'\"")) for name in names]


# the sound


def _ask_sound() -> Sound:
    choices = [*_microphones(), *_keyboards()]
    recording, browser = "a recording: a file", "the microphone of a tablet or browser"
    names = [name for name, _ in choices]
    answer = _choose("\nWhat is listened to?", [*names, recording, browser])
    if answer == len(names):
        return _ask_recording()
    if answer > len(names):
        return Sound(())
    sound = choices[answer][1]
    if sound.words[0] == "--mic":
        _show_level(sound.words[1] if len(sound.words) > 1 else "")
    return sound


def _microphones() -> list[tuple[str, Sound]]:
    from sf_plugin.audio.microphone import lasting_name, list_devices

    try:
        with errors.status("looking for microphones"):
            devices = list_devices()
    except ScoreFollowerError as error:
        say(f"{one_line(error)} ('scorefollow doctor' says more)")
        return []
    return [
        (
            f"microphone {device.name}" + (" (the system's choice)" if device.default else ""),
            Sound(("--mic",) if device.default else ("--mic", lasting_name(device, None))),
        )
        for device in sorted(devices, key=lambda device: not device.default)
    ]


def _keyboards() -> list[tuple[str, Sound]]:
    return [
        (f"MIDI keyboard {name}", Sound(("--midi-in", lasting_port(name))))
        for name in _ports("MIDI in") or ()
    ]


def _ports(kind: str) -> list[str] | None:
    """The names of MIDI ports of a kind; None, after saying so, where there is no MIDI."""
    try:
        with errors.status("looking for MIDI ports"):
            return [port.name for port in midi_ports() if port.kind == kind]
    except Exception as error:
        say(why_no_midi(error))
        return None


def lasting_port(name: str) -> str:
    """A port's name without the numbers that ALSA gives anew each time."""
    return re.sub(r" \d+:\d+$", "", name)


def _ask_recording() -> Sound:
    from sf_plugin.api import open_audio

    while True:
        paths = paths_of(Prompt.ask("File", console=errors) or "")
        if len(paths) != 1:
            continue
        try:
            with open_audio(paths[0]) as source:
                seconds = source.seconds
        except ScoreFollowerError as error:
            say(one_line(error))
            continue
        length = "" if seconds is None else f": {seconds:.0f} s"
        say(f"{Path(paths[0]).name}{length}")
        return Sound(("--audio", paths[0]), live=False)


def _show_level(device: str) -> None:
    """Hear a microphone for a while and say how loud it is."""
    from sf_plugin.audio.microphone import Microphone

    say(f"Play a little: it is heard for {LEVEL_SECONDS:.0f} s.")
    try:
        with Microphone(device) as microphone:
            peak = _peak(microphone)
    except ScoreFollowerError as error:
        say(one_line(error))
        return
    if peak < SOFT_DB:
        advice = "very soft: turn the input up or move nearer"
    elif peak > LOUD_DB:
        advice = "too loud: turn the input down"
    else:
        advice = "good"
    say(f"loudest {peak:.0f} dB of full scale: {advice}")


def _peak(microphone: Microphone) -> float:
    """The loudest of `LEVEL_SECONDS` in dB of full scale, with a bar meanwhile."""
    from sf_plugin.audio.level import decibels

    heard, highest = 0.0, 0.0
    with errors.status("") as status:
        for block, rate in microphone.recorded():
            heard += len(block) / rate
            loudest = float(np.abs(block).max(initial=0.0))
            highest = max(highest, loudest)
            bars = round(max(0.0, 60 + decibels(loudest)) / 2)
            status.update(Text("#" * bars + "-" * (30 - bars) + f" {decibels(loudest):4.0f} dB"))
            if heard >= LEVEL_SECONDS:
                break
    return decibels(highest)


# what to do


def _ask_purpose(score: Sequence[str], sound: Sound) -> list[str]:
    """The whole command line."""
    here = ["serve", *score, *sound.words, "--open"]
    tablet = ["serve", *score, "--host", "0.0.0.0", *(sound.words or ("--tls",))]
    stands = ["show the pages on a tablet", "show the pages in this computer's browser"]
    if not sound.words:
        return (tablet, here)[_choose("\nWhat shall it do?", stands)]
    follow = ["follow", *score, *sound.words, *(() if sound.live else ("--realtime",))]
    others = [
        "turn the pages of another program by MIDI",
        "send OSC to another program",
        "show the place here in the terminal",
    ]
    while True:
        match _choose("\nWhat shall it do?", [*stands, *others]):
            case 0:
                return tablet
            case 1:
                return here
            case 2 if port := _ask_port():
                return [*follow, "--turn", port]
            case 3:
                address = Prompt.ask("Host and port", default=OSC_ADDRESS, console=errors)
                return [*follow, "--osc", address]
            case 4:
                return [*follow, "--tui"]


def _ask_port() -> str:
    """A part of the name of a MIDI output; empty where there is none."""
    ports = _ports("MIDI out")
    if ports:
        return lasting_port(ports[_choose("\nTo which MIDI port?", ports)])
    if ports is not None:
        say("There is no MIDI port to play to: connect the tablet, then choose this again.")
    return ""


# asking


def _list(question: str, answers: Sequence[object]) -> None:
    say(question)
    for number, answer in enumerate(answers, 1):
        say(f"  {number}  {answer}")


def _choose(question: str, answers: Sequence[str]) -> int:
    """Which of the answers, from 0."""
    _list(question, answers)
    numbers = [str(number) for number in range(1, len(answers) + 1)]
    chosen = IntPrompt.ask("Number", choices=numbers, show_choices=False, default=1, console=errors)
    return int(chosen) - 1
