"""The command `scorefollow`."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sf_plugin import __version__
from sf_plugin.errors import ScoreFollowerError
from sf_plugin.terminal import (
    BAD_INPUT,
    FAILED,
    INTERRUPTED,
    OK,
    errors,
    example_lines,
    one_line,
    say,
)

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
    from sf_plugin import (
        align_command,
        bench_command,
        demo,
        devices_command,
        doctor_command,
        follow_command,
        layout_command,
        new_plugin_command,
        plugins_command,
        replay_command,
        serve_command,
        turn_command,
    )
    from sf_plugin.dataset import commands as dataset_commands
    from sf_plugin.evaluation import command as evaluate_command
    from sf_plugin.training import command as train_command

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
    for one in (
        follow_command,
        serve_command,
        replay_command,
        align_command,
        layout_command,
        demo,
        plugins_command,
        new_plugin_command,
        devices_command,
        turn_command,
        doctor_command,
        dataset_commands,
        train_command,
        evaluate_command,
        bench_command,
    ):
        one.add_parser(commands)
    return parser


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
