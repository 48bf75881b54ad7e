"""What several commands take: a score, sound, receivers; and what is made of it."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

from sf_plugin.audio.source import Source
from sf_plugin.errors import PluginError, ScoreFollowerError
from sf_plugin.plugins import Offer, registry
from sf_plugin.score.load import load_score
from sf_plugin.score.model import Score
from sf_plugin.score.places import choose_pages
from sf_plugin.sinks import Sink
from sf_plugin.terminal import count, say

log = logging.getLogger("sf_plugin")


def score_argument(parser: argparse.ArgumentParser) -> None:
    """The files of the score."""
    parser.add_argument(
        "score",
        metavar="SCORE",
        nargs="+",
        type=Path,
        help="a PDF, page images in order, MusicXML, or another file type of "
        + ", ".join(sorted(registry().page_loaders)),
    )
    parser.add_argument(
        "--pages",
        metavar="FIRST-LAST",
        help="follow only these pages of SCORE, as 37-45; they keep their numbers, and the "
        "others are not read",
    )


def layout_arguments(parser: Any) -> None:
    """What is known of the score besides its pages."""
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--layout",
        metavar="FILE",
        type=Path,
        help="systems and measures from this layout file (default: from the one kept beside "
        "SCORE, as sonata.layout.json beside sonata.pdf, if there is one)",
    )
    either.add_argument(
        "--ignore-layout",
        action="store_true",
        help="find systems and measures anew though a layout is kept beside SCORE",
    )
    parser.add_argument(
        "--symbols",
        metavar="FILE",
        type=Path,
        help="the same music as MusicXML or another symbolic file: gives the measures of the pages "
        "its numbers, beats, repeats and notes",
    )


def order_argument(parser: Any) -> None:
    """What the player means to play."""
    parser.add_argument(
        "--order",
        metavar="A-B,C-D,...",
        default="",
        help="the measures that will be played, as 1-8,1-8,9-24, counted from 1 as printed: makes "
        "this likely, and leaves all else possible (default: repeats may be taken or not)",
    )


def score_of(args: argparse.Namespace) -> Score:
    """The score that the arguments name; says where its layout comes from.

    Raises:
        ScoreFollowerError: it cannot be read, or has not these pages.
    """
    score = load_score(
        args.score, layout=args.layout, ignore_layout=args.ignore_layout, symbols=args.symbols
    )
    if score.layout_file is not None and args.layout is None:
        say(f"layout from {score.layout_file} (--ignore-layout does without it)")
    return score if args.pages is None else choose_pages(score, args.pages)


def sound_arguments(parser: argparse.ArgumentParser, title: str, *, required: bool) -> None:
    """What can be listened to."""
    plugins = registry()
    sound = parser.add_argument_group(title)
    either = sound.add_mutually_exclusive_group(required=required)
    schemes = ", ".join(f"{name}:" for name in sorted(plugins.sources))
    either.add_argument(
        "--audio",
        metavar="FILE",
        help="any audio or MIDI file; '-' for raw samples on standard input; "
        f"or one of the sources {schemes} followed by what it opens",
    )
    either.add_argument(
        "--mic",
        metavar="DEVICE",
        nargs="?",
        const="",
        help="a microphone, by part of its name ('scorefollow devices' lists them)",
    )
    either.add_argument(
        "--midi-in",
        metavar="PORT",
        help="a MIDI keyboard, by part of its port's name: what is played on it is heard as a "
        "piano",
    )
    channel_argument(sound)
    sound.add_argument(
        "--pcm-rate", metavar="HZ", type=int, help="rate of raw samples (default 44100)"
    )
    sound.add_argument(
        "--pcm-channels", metavar="N", type=int, help="channels of raw samples (default 1)"
    )
    sound.add_argument(
        "--realtime", action="store_true", help="pace a file by its own clock, like a performance"
    )


def channel_argument(parser: Any) -> None:
    """The channel of the microphone."""
    parser.add_argument(
        "--channel",
        metavar="N",
        type=count,
        help="the channel of the microphone to hear, from 1 (default: the first two, mixed)",
    )


def source_of(args: argparse.Namespace) -> Source:
    """The sound that the arguments name.

    Raises:
        ScoreFollowerError: it cannot be opened, or arguments are of another kind of sound.
    """
    from sf_plugin.api import open_audio
    from sf_plugin.audio.microphone import Microphone

    raw = args.pcm_rate is not None or args.pcm_channels is not None
    if raw and args.audio != "-":
        raise ScoreFollowerError("--pcm-rate and --pcm-channels are for raw samples: add --audio -")
    if args.channel is not None and args.mic is None:
        raise ScoreFollowerError("--channel is one of a microphone: add --mic")
    if args.mic is not None:
        return Microphone(args.mic, channel=args.channel)
    if args.midi_in is not None:
        return open_audio(f"midi:{args.midi_in}")
    if args.audio == "-":
        rate = 44100 if args.pcm_rate is None else args.pcm_rate
        channels = 1 if args.pcm_channels is None else args.pcm_channels
        return open_audio(f"pcm:s16le,{rate},{channels}")
    return open_audio(args.audio)


def sink_options(group: Any) -> None:
    """An option for every kind of receiver that there is."""
    for offer in registry().sinks.values():
        _sink_option(group, offer)


def _sink_option(group: Any, offer: Offer[Any]) -> None:
    options: dict[str, Any] = {"action": "append", "help": offer.help.replace("%", "%%")}
    if offer.metavar is None:
        options |= {"action": "append_const", "const": ""}
    elif offer.metavar.startswith("["):
        options |= {"metavar": offer.metavar.strip("[]"), "nargs": "?", "const": ""}
    else:
        options |= {"metavar": offer.metavar}
    try:
        group.add_argument(f"--{offer.name}", dest=_sink_dest(offer.name), **options)
    except (argparse.ArgumentError, ValueError) as error:
        log.warning("plug-in '%s': no option for sink '%s': %s", offer.plugin, offer.name, error)


def _sink_dest(name: str) -> str:
    return f"sink {name}"


def make_sinks(args: argparse.Namespace) -> list[tuple[str, Sink]]:
    """The receivers that the arguments name, each with the name of its kind.

    Raises:
        ScoreFollowerError: one does not take its argument.
        PluginError: one failed.
    """
    made = []
    for offer in registry().sinks.values():
        for argument in getattr(args, _sink_dest(offer.name), None) or ():
            try:
                made.append((offer.name, offer.make(argument)))
            except ScoreFollowerError:
                raise
            except Exception as error:
                raise PluginError(
                    f"--{offer.name} of plug-in '{offer.plugin}' failed: {error!r}: "
                    "leave the option out or tell the plug-in's author"
                ) from error
    return made


def follower_argument(parser: Any, what: str, others: str = "") -> None:
    """The follower; `what` it does and which `others` there are, for the help."""
    parser.add_argument(
        "--follower",
        metavar="NAME",
        default="unet",
        help=f"{what}: {names(registry().followers)}{others} (default %(default)s)",
    )


def names(offers: dict[str, Offer[Any]]) -> str:
    return ", ".join(sorted(offers)) or "none"
