"""`scorefollow turn`: page turns by hand, to try out or to teach a program that shows scores."""

from __future__ import annotations

import argparse
import os
import queue
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

from rich.table import Table

from sf_plugin.errors import ScoreFollowerError
from sf_plugin.terminal import command, print_table, say

if TYPE_CHECKING:
    from mido import Message

    from sf_adapters.midi import TurnProfile

TEST_SECONDS = 2.0
"""Between the two turns of a test."""

LEARN_SECONDS = 30.0
"""For which a press is waited for."""

SETTLE_SECONDS = 0.4
"""A press with all of its messages is over after this time."""


def add_parser(commands: Any) -> None:
    """The command and its options."""
    parser = command(
        commands,
        "turn",
        _turn,
        "turn pages by hand, to try out or to teach a program",
        "Send the messages of --turn by hand: with 'n' the next page, with 'p' the previous,\n"
        "with 'q' the end. A program that learns messages is taught so: start its learning,\n"
        "then press the key. PORT and PROFILE are those of 'scorefollow follow --turn'.",
        ("teach a program, key by key", "scorefollow turn ipad,forscore"),
        ("turn a page and turn back", "scorefollow turn ipad --test"),
        ("what a pedal sends that a program obeys already", "scorefollow turn pedal --learn"),
        ("profiles and programs", "scorefollow turn --list-profiles"),
    )
    parser.add_argument(
        "target",
        metavar="PORT[,PROFILE]",
        nargs="?",
        help="MIDI port by part of its name ('scorefollow devices' lists them), and what is sent",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--test",
        action="store_true",
        help=f"send the next page, after {TEST_SECONDS:g} s the previous page, and end",
    )
    how.add_argument(
        "--learn",
        action="store_true",
        help="listen on the input PORT for a press of 'next' and one of 'previous', and print "
        "the profile that sends the same",
    )
    how.add_argument(
        "--list-profiles", action="store_true", help="list profiles, and programs they are for"
    )


def _turn(args: argparse.Namespace) -> int | None:
    if args.list_profiles:
        _list_profiles()
    elif args.target is None:
        raise ScoreFollowerError(
            "turn where? Name a MIDI port, such as 'scorefollow turn ipad' ('scorefollow devices' "
            "lists them)"
        )
    elif args.learn:
        print(learn(args.target))
    elif args.test:
        _turn_pages(args.target, _test_steps())
    elif os.name == "posix" and sys.stdin.isatty():
        _turn_pages(args.target, _pressed_steps())
    else:
        raise ScoreFollowerError(
            "keys are read from a terminal only, on Linux and macOS: add --test"
        )
    return None


# sending


def _turn_pages(target: str, steps: Iterator[int]) -> None:
    """Turn a page for each step of 1 or -1, and say what was sent; page 1 is shown at first."""
    from sf_adapters.midi import parse_turn
    from sf_plugin.midi_ports import MidiPort

    wanted, profile = parse_turn(target)
    with closing(MidiPort(wanted)) as port:
        port.open()
        shown = 1
        for step in steps:
            page = shown + step
            if profile.kind == "cc-page" and not 1 <= page <= 127:
                continue
            messages = profile.messages(shown, page)
            if not port.send(messages):
                raise ScoreFollowerError(f"MIDI port {wanted!r} does not take messages")
            what = "next page" if step > 0 else "previous page"
            say(f"{what}: {', '.join(map(in_words, messages))}")
            shown = page


def _test_steps() -> Iterator[int]:
    yield 1
    time.sleep(TEST_SECONDS)
    yield -1


def _pressed_steps() -> Iterator[int]:
    import termios
    import tty

    steps = {"n": 1, "p": -1}
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    try:
        tty.setcbreak(terminal, termios.TCSADRAIN)
        say("n: next page   p: previous page   q: quit")
        while (key := sys.stdin.read(1).lower()) not in ("q", ""):
            if key in steps:
                yield steps[key]
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def in_words(message: Message) -> str:
    """A message as people set it; channels count from 1."""
    channel = f"channel {message.channel + 1}"
    match message.type:
        case "note_on":
            return f"note {message.note} on with velocity {message.velocity}, {channel}"
        case "note_off":
            return f"note {message.note} off, {channel}"
        case "program_change":
            return f"program {message.program}, {channel}"
    return f"controller {message.control} at {message.value}, {channel}"


def _list_profiles() -> None:
    from sf_adapters.midi import APPS, KINDS

    table = Table("profile", "next page", "previous page", "the program", box=None, pad_edge=False)
    for name, profile in KINDS.items():
        table.add_row(name, *_sent(profile), "")
    for name, app in APPS.items():
        table.add_row(name, *_sent(app.profile), app.setting)
    print_table(table)


def _sent(profile: TurnProfile) -> tuple[str, str]:
    if profile.kind == "cc-page":
        return (f"controller {profile.number} at the page, channel {profile.channel}",) * 2
    return in_words(profile.messages(1, 2)[0]), in_words(profile.messages(2, 1)[0])


# learning


def learn(wanted: str, seconds: float = LEARN_SECONDS) -> str:
    """The options of --turn that send what a MIDI input hears: "next" first, then "previous".

    Raises:
        ScoreFollowerError: nothing is heard within `seconds`, or no profile sends it.
    """
    from sf_plugin.midi_ports import MidiPort

    heard: queue.SimpleQueue[Message] = queue.SimpleQueue()
    with closing(MidiPort(wanted, heard.put)) as port:
        port.open()
        say("press 'next page'")
        forward = _press(heard, seconds, None)
        if forward is None:
            raise ScoreFollowerError(f"nothing was pressed on {wanted!r} for {seconds:g} s")
        say(f"next page: {in_words(forward)}")
        say(f"press 'previous page', or wait {seconds:g} s")
        back = _press(heard, seconds, forward)
        if back is not None:
            say(f"previous page: {in_words(back)}")
    return profile_of(forward, back)


def profile_of(forward: Message, back: Message | None) -> str:
    """The options of --turn, such as "note=64,prev=63,channel=2", for one or two messages.

    Raises:
        ScoreFollowerError: one profile does not send both.
    """
    kind, channel, number, value = _parts(forward)
    options = [f"{kind}={number}"]
    if back is not None:
        other = _parts(back)
        if (kind, channel, value) != (other[0], other[1], other[3]):
            raise ScoreFollowerError(
                f"{in_words(forward)} and {in_words(back)} differ in more than their number: set "
                "the pedal to alike messages"
            )
        options.append(f"prev={other[2]}")
    if channel != 1:
        options.append(f"channel={channel}")
    if value != 127:
        options.append(f"value={value}")
    return ",".join(options)


def _parts(message: Message) -> tuple[str, int, int, int]:
    """Kind, channel from 1, number and value."""
    channel = message.channel + 1
    match message.type:
        case "note_on":
            return "note", channel, message.note, message.velocity
        case "program_change":
            return "program", channel, message.program, 127
    return "cc", channel, message.control, message.value


def _press(
    heard: queue.SimpleQueue[Message], seconds: float, other_than: Message | None
) -> Message | None:
    """The next press of another switch, at its strongest; None where nothing comes."""
    known = None if other_than is None else _parts(other_than)[:3]
    until = time.monotonic() + seconds
    pressed: Message | None = None
    while (left := until - time.monotonic()) > 0:
        try:
            message = heard.get(timeout=left)
        except queue.Empty:
            break
        if not _is_press(message) or _parts(message)[:3] == known:
            continue
        if pressed is None:
            until = time.monotonic() + SETTLE_SECONDS
            pressed = message
        elif _parts(message)[:3] == _parts(pressed)[:3] and _parts(message)[3] > _parts(pressed)[3]:
            pressed = message
    return pressed


def _is_press(message: Message) -> bool:
    match message.type:
        case "note_on":
            return bool(message.velocity)
        case "control_change":
            return bool(message.value)
    return bool(message.type == "program_change")
