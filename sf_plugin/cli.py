"""The command `scorefollow`."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from sf_plugin import __version__
from sf_plugin.alignment_formats import FORMATS, Origin, format_of
from sf_plugin.dataset import commands as dataset_commands
from sf_plugin.errors import PluginError, ScoreFollowerError
from sf_plugin.new_plugin_command import add_parser as _new_plugin_parser
from sf_plugin.page_turns import Lead, PageTurner, TurnSettings
from sf_plugin.plugins import Offer, registry
from sf_plugin.score.layout import Layout
from sf_plugin.score.layout_exports import FORMATS as LAYOUT_FORMATS
from sf_plugin.score.layout_exports import Sheets, page_names
from sf_plugin.score.layout_exports import format_of as layout_format_of
from sf_plugin.score.layout_files import kept_beside
from sf_plugin.score.load import load_score
from sf_plugin.score.model import PAGE_WIDTH, Score
from sf_plugin.score.places import Start, choose_pages
from sf_plugin.score.structure import parse_order
from sf_plugin.sinks import Sink
from sf_plugin.terminal import (
    Display,
    clock,
    command,
    count,
    errors,
    example_lines,
    one_line,
    print_rows,
    print_table,
    say,
    write_anew,
    write_whole,
)
from sf_plugin.training import command as train_command
from sf_plugin.turn_command import add_parser as _turn_parser

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

log = logging.getLogger("sf_plugin")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 when all went well, 1 when something failed, 2 for bad input, 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    with _log_to_stderr(debug), _terminable():
        try:
            if words == ["follow"] and sys.stdin.isatty() and errors.is_terminal:
                from sf_plugin.guided_start import ask

                words = ask()
            args = _parser().parse_args(words)
            code = int(args.run(args) or OK)
            sys.stdout.flush()
            return code
        except KeyboardInterrupt:
            return INTERRUPTED
        except ScoreFollowerError as error:
            if debug:
                errors.print_exception()
            say(f"scorefollow: {one_line(error)}")
            return BAD_INPUT
        except BrokenPipeError:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), sys.stdout.fileno())
            return FAILED
        except Exception as error:
            if debug:
                errors.print_exception()
                return FAILED
            say(
                f"scorefollow: unexpected {type(error).__name__}: {one_line(error)}: "
                "run again with --debug to see where"
            )
            return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scorefollow",
        description="Follow a musician through the pages of a score.",
        epilog=example_lines(
            ("see it work", "scorefollow demo"),
            ("be asked, question by question", "scorefollow follow"),
            ("turn pages while you play", "scorefollow follow sonata.pdf --mic --turn 'my tablet'"),
            ("what a command does", "scorefollow follow --help"),
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"scorefollow {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _follow_parser(commands)
    _serve_parser(commands)
    _replay_parser(commands)
    _align_parser(commands)
    _layout_parser(commands)
    _demo_parser(commands)
    _plugins_parser(commands)
    _new_plugin_parser(commands)
    _devices_parser(commands)
    _turn_parser(commands)
    _doctor_parser(commands)
    dataset_commands.add_parser(commands)
    train_command.add_parser(commands)
    _evaluate_parser(commands)
    _bench_parser(commands)
    return parser


# follow


def _follow_parser(commands: Any) -> None:
    parser = command(
        commands,
        "follow",
        _follow,
        "follow a performance and act on it",
        "Listen to a performance of SCORE, find the place on its pages, and tell the\n"
        "receivers: every position, page turns, jumps and changes of state.\n\n"
        "A file is followed as fast as the computer can; --realtime paces it like a\n"
        "performance, with the same results. Ctrl-C ends it; what was written is kept.\n\n"
        "Without any arguments, on a terminal, it asks for what it needs.",
        (
            "where was the pianist, frame by frame",
            "scorefollow follow sonata.pdf --audio take.wav --out positions.jsonl",
        ),
        ("pages as images, in order; live", "scorefollow follow page1.png page2.png --mic"),
        (
            "one piece in a book, from its second page",
            "scorefollow follow book.pdf --pages 37-45 --start 38 --mic",
        ),
        (
            "turn pages on a tablet, send OSC",
            "scorefollow follow sonata.pdf --mic 'USB' --turn ipad --osc 127.0.0.1:7000",
        ),
        (
            "the first repeat is taken, the second is not",
            "scorefollow follow minuet.pdf --mic --order 1-8,1-24",
        ),
        (
            "from any program that writes raw 16-bit samples",
            "ffmpeg -v error -i concert.mkv -f s16le -ac 1 -ar 44100 - |\n"
            "      scorefollow follow sonata.pdf --audio - --pcm-rate 44100",
        ),
    )
    _score_argument(parser)
    _sound_arguments(parser, "sound (one of these)", required=True)
    _following_arguments(parser)


def _sound_arguments(parser: argparse.ArgumentParser, title: str, *, required: bool) -> None:
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
    _channel_argument(sound)
    sound.add_argument(
        "--pcm-rate", metavar="HZ", type=int, help="rate of raw samples (default 44100)"
    )
    sound.add_argument(
        "--pcm-channels", metavar="N", type=int, help="channels of raw samples (default 1)"
    )
    sound.add_argument(
        "--realtime", action="store_true", help="pace a file by its own clock, like a performance"
    )


def _following_arguments(parser: argparse.ArgumentParser) -> None:
    """The receivers, and how to follow."""
    plugins = registry()
    receivers = parser.add_argument_group("receivers (any number, each may be repeated)")
    _sink_options(receivers)
    receivers.add_argument(
        "--record",
        metavar="DIR",
        type=Path,
        help="keep the session in a new folder of DIR: sound, events, settings, warnings",
    )
    how = parser.add_argument_group("how to follow")
    _layout_arguments(how)
    _order_argument(how)
    how.add_argument(
        "--start",
        metavar="PAGE[:MEASURE]",
        help="the performance begins on this page, or in this measure of it, counted from 1 "
        "(default: most likely with the first note, else found by listening)",
    )
    how.add_argument(
        "--lead",
        metavar="TIME",
        type=_lead,
        default=TurnSettings().lead,
        help="turn a page this long before its last notes: 1.5s, or 2beats at the tempo "
        "then played (default %(default)s)",
    )
    how.add_argument(
        "--half-pages",
        action="store_true",
        help="while the lower half of a page is played, show the upper half of the next above "
        "it, and the rest when the music is there",
    )
    how.add_argument(
        "--follower",
        metavar="NAME",
        default="unet",
        help=f"which follower listens: {_names(plugins.followers)} (default %(default)s)",
    )
    how.add_argument(
        "--mapper",
        metavar="NAME",
        default="plain",
        help=f"from place to measure: {_names(plugins.mappers)} (default %(default)s)",
    )


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


def _follow(args: argparse.Namespace) -> int:
    from sf_plugin.api import make_follower

    score = _load_score(args)
    score.order = parse_order(args.order)
    source = _open_source(args)
    display = Display(source.live or args.realtime or args.audio == "-")
    sinks = [*_make_sinks(args), ("status line", display)]
    with errors.status("starting"):
        follower = make_follower(args.follower)
    session = _make_session(args, source, follower, score, sinks, display)
    try:
        with display.shown():
            session.run()
    except KeyboardInterrupt:
        say(_summary(session.summary))
        raise
    say(_summary(session.summary))
    return FAILED if session.summary.failed_sinks else OK


def _make_session(
    args: argparse.Namespace,
    source: Any,
    follower: Any,
    score: Score,
    sinks: Sequence[tuple[str, Sink]],
    display: Display,
) -> Any:
    from sf_plugin.api import make_mapper
    from sf_plugin.session import Session

    turning = TurnSettings(lead=args.lead, half_pages=args.half_pages)
    new_session: Any = Session
    if args.record is not None:
        from sf_plugin.recording import RecordedSession, Settings

        new_session = partial(RecordedSession, args.record, Settings.of(args, score))
    _tell_recording(source, sinks)
    return new_session(
        source,
        follower,
        make_mapper(args.mapper),
        score,
        sinks,
        start=None if args.start is None else Start.of(args.start),
        turner=lambda layout: PageTurner(layout, turning),
        realtime=args.realtime,
        progress=display.progress,
    )


def _tell_recording(source: Any, sinks: Sequence[tuple[str, Sink]]) -> None:
    """Receivers that let a recording be heard need to know which file is followed."""
    from sf_plugin.audio.files import FileSource

    for _, sink in sinks:
        if isinstance(source, FileSource) and hasattr(sink, "with_sound"):
            sink.with_sound(source.path)


def _serve_parser(commands: Any) -> None:
    from sf_plugin import serve_command

    parts = serve_command.Parts(_load_score, _open_source, _make_sinks, _make_session)
    parser = serve_command.add_parser(commands, parts)
    _score_argument(parser)
    _sound_arguments(parser, "sound (default: the browser's microphone)", required=False)
    serve_command.add_arguments(parser)
    _following_arguments(parser)


def _replay_parser(commands: Any) -> None:
    from sf_plugin import replay_command

    replay_command.add_parser(commands, _sink_options, _make_sinks, _summary)


def _sink_options(group: Any) -> None:
    for offer in registry().sinks.values():
        _sink_option(group, offer)


def _open_source(args: argparse.Namespace) -> Any:
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


def _make_sinks(args: argparse.Namespace) -> list[tuple[str, Sink]]:
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


def _summary(summary: Any) -> str:
    last = summary.last
    where = f", ended in measure {last.label or last.measure}" if last and last.measure else ""
    lost = f", {summary.dropped_seconds:.1f} s lost" if summary.dropped_seconds else ""
    turns = f"{summary.turns} page turn{'' if summary.turns == 1 else 's'}"
    return f"{clock(summary.seconds)} heard{lost}, {turns}{where}"


# align


def _align_parser(commands: Any) -> None:
    parser = command(
        commands,
        "align",
        _align,
        "say when each measure of a recording was played",
        "Hear a whole recording of SCORE and write when each measure was played, in the\n"
        "order played, repeats and jumps included. Since what comes later helps to find a\n"
        "place, this is better than following where it need not be live.\n\n"
        "formats, by the file's suffix or by --format:\n"
        + "\n".join(
            f"  {name:<17} {one.suffix or '':<10} {one.help}" for name, one in FORMATS.items()
        ),
        ("look at it", "scorefollow align sonata.pdf --audio take.wav"),
        (
            "as labels under the waveform in Audacity",
            "scorefollow align sonata.pdf --audio take.wav --out take.txt",
        ),
        (
            "every note's time, for Sonic Visualiser",
            "scorefollow align sonata.pdf --audio take.wav --out take.csv "
            "--format sonic-visualiser",
        ),
        (
            "as bars and beats under the recording, in a music program",
            "scorefollow align sonata.pdf --audio take.wav --out take.mid",
        ),
        (
            "with systems and measures corrected by hand",
            "scorefollow align sonata.pdf --audio take.wav --layout sonata.layout.json",
        ),
    )
    _score_argument(parser)
    parser.add_argument("--audio", metavar="FILE", required=True, help="any audio or MIDI file")
    parser.add_argument(
        "--out", metavar="FILE", default="-", help="where to write ('-', the default: stdout)"
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="what to write (default: by the suffix of FILE; csv on stdout)",
    )
    _layout_arguments(parser)
    _order_argument(parser)
    parser.add_argument(
        "--follower",
        metavar="NAME",
        default="unet",
        help=f"which follower listens: {_names(registry().followers)} (default %(default)s)",
    )


def _align(args: argparse.Namespace) -> int:
    from sf_plugin.api import align

    out = None if args.out == "-" else Path(args.out)
    if out is not None and not out.parent.is_dir():
        raise ScoreFollowerError(f"{out}: there is no such folder: make it or choose another place")
    if out is not None and out.is_dir():
        raise ScoreFollowerError(f"{out}: is a folder: name a file in it")
    how = FORMATS[args.format or "csv"] if args.format or out is None else format_of(out)
    score = _load_score(args)
    folder = Path() if out is None else out.parent
    audio = os.path.relpath(args.audio, folder) if Path(args.audio).is_file() else args.audio
    origin = Origin(score, tuple(args.score), args.symbols, audio)
    how.check(origin)
    score.order = parse_order(args.order)
    display = Display(live=False)
    with display.shown():
        found = align(score, args.audio, follower=args.follower, progress=display.progress)
    content = how.write(found, origin)
    if out is not None:
        write_whole(out, content)
    elif isinstance(content, bytes):
        sys.stdout.buffer.write(content)
    else:
        sys.stdout.write(content)
    jumps = sum(measure.jumped for measure in found.measures)
    count = len(found.measures)
    say(
        f"{clock(found.positions[-1].time)} heard, {count} measure{'' if count == 1 else 's'} "
        f"played, {jumps} jump{'' if jumps == 1 else 's'}"
    )
    return OK


# layout


def _layout_parser(commands: Any) -> None:
    parser = command(
        commands,
        "layout",
        _layout,
        "find systems and measures on the pages",
        "Find the systems and measures of SCORE and write them as JSON: fractions of\n"
        "the page from the top left, measures numbered from 1. Kept beside the score, and\n"
        "corrected by hand where needed, this file is used by follow, align and layout.\n\n"
        "formats, by the file's suffix or by --format:\n"
        + "\n".join(
            f"  {name:<12} {one.suffix:<10} {one.help}" for name, one in LAYOUT_FORMATS.items()
        ),
        ("look at it", "scorefollow layout sonata.pdf --picture sonata-layout.pdf"),
        ("correct it by hand in a browser, and keep it", "scorefollow layout sonata.pdf --edit"),
        ("keep it as sonata.layout.json, to correct it", "scorefollow layout sonata.pdf --keep"),
        (
            "zones in the pixels of your images, for MEI",
            "scorefollow layout page1.png page2.png --out zones.mei --width 2480",
        ),
        (
            "with the measure numbers of a symbolic score",
            "scorefollow layout sonata.pdf --symbols sonata.musicxml --keep",
        ),
    )
    _score_argument(parser)
    _layout_arguments(parser)
    written = parser.add_argument_group("what to write (default: JSON on stdout)")
    written.add_argument("--out", metavar="FILE", type=Path, help="a file")
    written.add_argument(
        "--format",
        choices=LAYOUT_FORMATS,
        help="of FILE or stdout (default: by the suffix of FILE; json on stdout)",
    )
    written.add_argument(
        "--keep",
        action="store_true",
        help="JSON beside the score, as sonata.layout.json; an older one gets a ~ at its end",
    )
    written.add_argument(
        "--edit",
        action="store_true",
        help="open the stand in a browser, to correct it there by hand and keep it; nothing else "
        "is written",
    )
    written.add_argument(
        "--picture",
        metavar="FILE",
        type=Path,
        help="the layout drawn on the pages: a .pdf, or a .png for every page",
    )
    written.add_argument(
        "--width",
        metavar="PIXELS",
        type=_pixels,
        default=PAGE_WIDTH,
        help="of a page, where places are written in pixels (default %(default)s)",
    )
    written.add_argument(
        "--canvas-base",
        metavar="URL",
        help="what pages are called: the URL of a IIIF canvas, with {page} for the number of the "
        "page or ending before it (default: the names of the files)",
    )
    parser.add_argument(
        "--follower",
        metavar="NAME",
        default="unet",
        help=f"which follower reads: {_names(registry().followers)} (default %(default)s)",
    )


def _layout(args: argparse.Namespace) -> int:
    from sf_plugin.api import make_follower
    from sf_plugin.score.overlay import pictures
    from sf_plugin.score.symbols import named

    if args.edit:
        return _edit(args)
    known = args.format is not None or args.out is None
    how = LAYOUT_FORMATS[args.format or "json"] if known else layout_format_of(args.out)
    score = _load_score(args)
    with errors.status("starting"):
        follower = make_follower(args.follower)
    display = Display(live=False)
    with display.shown():
        layout = named(follower.prepare(score, display.progress), score)
    if args.out is not None or not (args.keep or args.picture):
        sheets = _sheets(score, layout, args, sized=how.in_pixels)
        if args.out is None:
            sys.stdout.write(how.write(sheets))
        else:
            write_whole(args.out, how.write(sheets))
    if args.picture is not None:
        for path, picture in pictures(args.picture, score, layout):
            write_whole(path, picture)
    if args.keep:
        _keep(kept_beside(args.score), layout)
    systems = [system for page in layout.pages for system in page.systems]
    measures = sum(len(system.measures) for system in systems)
    say(f"{len(layout.pages)} pages, {len(systems)} systems, {measures} measures")
    return OK


def _edit(args: argparse.Namespace) -> int:
    """`scorefollow serve --correct` with what was said of the layout."""
    words = ["serve", "--correct", "--port", "0", "--follower", args.follower]
    words += [] if args.layout is None else ["--layout", str(args.layout)]
    words += ["--ignore-layout"] if args.ignore_layout else []
    words += [] if args.symbols is None else ["--symbols", str(args.symbols)]
    words += ["--debug"] if args.debug else []
    served = _parser().parse_args([*words, "--", *map(str, args.score)])
    return int(served.run(served) or OK)


def _sheets(score: Score, layout: Layout, args: argparse.Namespace, *, sized: bool) -> Sheets:
    """What is written of a layout; pages are looked at only where their sizes count."""
    shapes = [page.shape for page in score.pages] if sized else []
    sizes = tuple((args.width, round(args.width * h / w)) for h, w in shapes)
    names = page_names(args.score, len(score.pages), args.canvas_base)
    return Sheets(score.name, layout, sizes, names)


def _keep(path: Path, layout: Layout) -> None:
    write_anew(path, f"{layout.to_json()}\n".encode())
    say(f"kept as {path}: correct it there")


# demo


def _demo_parser(commands: Any) -> None:
    from sf_plugin import demo

    parser = command(
        commands,
        "demo",
        _demo,
        "follow a performance that comes with the package",
        "Follow a performance of a score of several pages that comes with the package,\n"
        "and write demo.html (pages, path, accuracy) and positions.jsonl.",
        ("as fast as the computer can", "scorefollow demo"),
        ("at the speed of the music", "scorefollow demo --realtime"),
    )
    demo.add_arguments(parser)


def _demo(args: argparse.Namespace) -> int | None:
    from sf_plugin import demo

    return demo.main(args)


# plugins, devices, doctor


def _plugins_parser(commands: Any) -> None:
    parser = command(
        commands,
        "plugins",
        _plugins,
        "list the plug-ins and what they offer",
        "List every plug-in with the distribution it came with and what it registered.\n"
        "Others are found through the entry-point group 'sf_plugin'.",
        ("as a table", "scorefollow plugins"),
        ("for a program", "scorefollow plugins --json"),
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def _plugins(args: argparse.Namespace) -> int:
    plugins = registry().plugins
    if args.json:
        print(json.dumps([asdict(info) for info in plugins], indent=1))
        return OK
    table = Table("plug-in", "distribution", "version", "offers", box=None, pad_edge=False)
    for info in plugins:
        by_kind: dict[str, list[str]] = {}
        for kind, name in info.registered:
            by_kind.setdefault(kind, []).append(name)
        offers = "; ".join(f"{kind} {', '.join(names)}" for kind, names in by_kind.items())
        table.add_row(
            info.name,
            info.distribution,
            info.version,
            Text(f"disabled: {info.error}", style="red") if info.error else Text(offers),
        )
    print_table(table)
    return OK


def _devices_parser(commands: Any) -> None:
    parser = command(
        commands,
        "devices",
        _devices,
        "list microphones and MIDI ports",
        "List what can be listened to and the MIDI ports that can be played to.\n"
        "Choose one by any part of its name.",
        ("as a table", "scorefollow devices"),
        ("for a program", "scorefollow devices --json"),
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def _devices(args: argparse.Namespace) -> int:
    from sf_plugin.doctor import find_devices

    found = find_devices()
    if args.json:
        print(json.dumps(asdict(found), indent=1))
        return OK
    table = Table("kind", "name", "details", box=None, pad_edge=False)
    for device in found.devices:
        table.add_row(device.kind, device.name, device.details)
    if found.devices:
        print_table(table)
    for problem in found.problems:
        print(problem)
    return OK


def _channel_argument(parser: Any) -> None:
    parser.add_argument(
        "--channel",
        metavar="N",
        type=count,
        help="the channel of the microphone to hear, from 1 (default: the first two, mixed)",
    )


def _doctor_parser(commands: Any) -> None:
    parser = command(
        commands,
        "doctor",
        _doctor,
        "check this machine and say what is missing",
        "Check what following needs on this machine and say how to get what is missing.\n"
        "Exit code 1 when something that is always needed is missing.",
        ("check", "scorefollow doctor"),
        ("check a microphone and the room", "scorefollow doctor --mic USB"),
        ("for a program", "scorefollow doctor --json"),
    )
    parser.add_argument(
        "--mic",
        metavar="DEVICE",
        nargs="?",
        const="",
        help="listen to the room, then to some playing, through this microphone, and say how "
        "good it is",
    )
    _channel_argument(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def _doctor(args: argparse.Namespace) -> int:
    if args.channel is not None and args.mic is None:
        raise ScoreFollowerError("--channel is one of a microphone: add --mic")
    if args.mic is not None:
        from sf_plugin.room_command import check_room

        return check_room(args)
    from sf_plugin.doctor import examine

    findings = []
    marks = {"ok": ("ok", "green"), "missing": ("missing", "red"), "optional": ("no", "yellow")}
    table = Table("", "what", "found", box=None, pad_edge=False)
    with errors.status("looking"):
        for finding in examine():
            findings.append(finding)
            mark, style = marks[finding.status]
            table.add_row(Text(mark, style=style), finding.what, Text(finding.found))
    if args.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        print_table(table)
        for finding in findings:
            if finding.advice:
                print(f"\n{finding.what}: {finding.advice}")
    return FAILED if any(finding.status == "missing" for finding in findings) else OK


# evaluate, bench


def _evaluate_parser(commands: Any) -> None:
    from sf_plugin.evaluation.conditions import CONDITIONS, DEFAULT

    parser = command(
        commands,
        "evaluate",
        _evaluate,
        "judge a follower on music it has never heard",
        "Follow seeded performances of engraved pieces, or the recordings of a published\n"
        "set, and say how many onsets were right, how pages were turned and how jumps were\n"
        "survived. The follower sees page images and hears sound, nothing else.\n\n"
        "CASES: folders built by 'scorefollow dataset build', or the name of a published set\n"
        "and its folder (msmd, asap, vienna).\n\n"
        "conditions:\n"
        + "\n".join(f"  {name:<12} {what.help}" for name, what in CONDITIONS.items()),
        ("whole documents, dry and in a room", "scorefollow evaluate data/set"),
        (
            "each page alone, as the papers do, as a table for the docs",
            "scorefollow evaluate data/set --per-page --conditions mechanical --markdown",
        ),
        (
            "everything, with plots and the worst cases on their pages",
            "scorefollow evaluate data/set --conditions all --jobs 4 --html report.html",
        ),
        (
            "something to stand against",
            "scorefollow evaluate data/set --follower chroma-oltw",
        ),
    )
    parser.add_argument("cases", metavar="CASES", nargs="+", help="what to follow")
    parser.add_argument(
        "--use",
        metavar="USES",
        default="valid",
        help="which part of a built set, by commas (default %(default)s)",
    )
    parser.add_argument(
        "--pieces",
        metavar="PATTERN",
        nargs="+",
        default=["*"],
        help="only those whose names are like one of these",
    )
    parser.add_argument(
        "--follower",
        metavar="NAME",
        default="unet",
        help=f"which follower listens: {_names(registry().followers)}, or a baseline: "
        "constant-speed, chroma-oltw (default %(default)s)",
    )
    parser.add_argument(
        "--weights", metavar="FILE", type=Path, help="of the follower unet (default: the shipped)"
    )
    parser.add_argument(
        "--align",
        action="store_true",
        help="hear each case to its end before saying where it was, as 'scorefollow align' does",
    )
    parser.add_argument(
        "--conditions",
        metavar="NAMES",
        default=",".join(DEFAULT),
        help="of a built set, by commas, or all (default %(default)s)",
    )
    parser.add_argument(
        "--per-page", action="store_true", help="each page is a score of its own: the page is given"
    )
    parser.add_argument(
        "--seed", metavar="N", type=int, default=0, help="of the performances (default %(default)s)"
    )
    parser.add_argument(
        "--cache",
        metavar="DIR",
        type=Path,
        help="where recordings are kept (default: recordings in CASES)",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--jobs", metavar="N", type=count, default=1, help="processes here (default %(default)s)"
    )
    where.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="of a Dask cluster whose workers see the same files; the figures are the same",
    )
    parser.add_argument("--out", metavar="FILE", type=Path, help="write the report as JSON")
    parser.add_argument("--html", metavar="FILE", type=Path, help="write a report to look at")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")


def _evaluate(args: argparse.Namespace) -> int:
    from sf_plugin.evaluation import command
    from sf_plugin.evaluation.tables import facts, markdown, tables

    display = Display(live=False)
    with display.shown():
        measured = command.run(args, display.progress)
    report = measured.report
    if report["complete"] and args.out is not None:
        write_whole(args.out, json.dumps(report, indent=1) + "\n")
    if measured.html:
        write_whole(args.html, measured.html)
    if args.markdown:
        sys.stdout.write(markdown(report))
    else:
        for head, rows in tables(report):
            print_rows(head, rows)
            print()
        print("\n".join(facts(report)))
    if not report["complete"]:
        say("interrupted: the figures are of what was measured so far; no file was written")
        return INTERRUPTED
    return OK


def _bench_parser(commands: Any) -> None:
    parser = command(
        commands,
        "bench",
        _bench,
        "measure speed and memory on this machine",
        "Follow the demo on a document of several pages, on one CPU thread, and say how\n"
        "long each step takes, how long starting takes and how much memory it needs;\n"
        "beside it the configuration of Henkel et al. 2020 with random weights.",
        ("measure", "scorefollow bench"),
        ("keep the figures", "scorefollow bench --json bench.json"),
    )
    parser.add_argument(
        "--pages",
        metavar="N",
        type=count,
        default=10,
        help="pages of the document (default %(default)s)",
    )
    parser.add_argument(
        "--seconds",
        metavar="N",
        type=count,
        default=60,
        help="seconds of sound to follow (default %(default)s)",
    )
    parser.add_argument(
        "--weights", metavar="FILE", type=Path, help="weights of your own (default: the shipped)"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures as JSON")


def _bench(args: argparse.Namespace) -> int:
    from sf_plugin import bench

    display = Display(live=False)
    with display.shown():
        report = bench.bench(args.pages, args.seconds, args.weights, display.progress)
    if args.json is not None:
        write_whole(args.json, json.dumps(report, indent=1) + "\n")
    print_rows(*bench.table(report))
    print("\n" + "\n".join(bench.facts(report)))
    return OK


def _score_argument(parser: argparse.ArgumentParser) -> None:
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


def _order_argument(parser: Any) -> None:
    parser.add_argument(
        "--order",
        metavar="A-B,C-D,...",
        default="",
        help="the measures that will be played, as 1-8,1-8,9-24, counted from 1 as printed: makes "
        "this likely, and leaves all else possible (default: repeats may be taken or not)",
    )


def _layout_arguments(parser: Any) -> None:
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


def _load_score(args: argparse.Namespace) -> Score:
    score = load_score(
        args.score, layout=args.layout, ignore_layout=args.ignore_layout, symbols=args.symbols
    )
    if score.layout_file is not None and args.layout is None:
        say(f"layout from {score.layout_file} (--ignore-layout does without it)")
    return score if args.pages is None else choose_pages(score, args.pages)


def _pixels(text: str) -> int:
    value = int(text)
    if not 100 <= value <= 100_000:
        raise argparse.ArgumentTypeError(f"{text} is not in 100 to 100000 pixels")
    return value


def _lead(text: str) -> Lead:
    try:
        return Lead.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _names(offers: dict[str, Offer[Any]]) -> str:
    return ", ".join(sorted(offers)) or "none"


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM, and the end of the terminal, end a command as Ctrl-C does."""
    numbers = [n for n in (signal.SIGTERM, getattr(signal, "SIGHUP", None)) if n is not None]
    ours = [n for n in numbers if signal.getsignal(n) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        ours = []
    for number in ours:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def _log_to_stderr(debug: bool) -> Iterator[None]:
    handler = _Lines()
    log.addHandler(handler)
    adapters = logging.getLogger("sf_adapters")
    adapters.addHandler(handler)
    before = log.level
    log.setLevel(logging.DEBUG if debug else logging.WARNING)
    try:
        yield
    finally:
        log.removeHandler(handler)
        adapters.removeHandler(handler)
        log.setLevel(before)


class _Lines(logging.Handler):
    """One line a message, around the status line; tracebacks only with --debug."""

    def emit(self, record: logging.LogRecord) -> None:
        say(f"scorefollow: {record.levelname.lower()}: {_one_line_of(record)}")
        if record.exc_info and record.exc_info[1] and log.level == logging.DEBUG:
            say(logging.Formatter().formatException(record.exc_info))


def _one_line_of(record: logging.LogRecord) -> str:
    return " ".join(record.getMessage().split())


if __name__ == "__main__":
    sys.exit(main())
