"""Events as OSC over UDP: `--osc HOST:PORT[,PROFILE]`.

Profile `sf`, the default; what is unknown is -1 (an empty string for a label):

    /sf/position ,iffifff  page x y measure beat tempo confidence   every frame
    /sf/measure  ,isi      measure label pass                       when it changes
    /sf/tempo    ,f        quarter notes a minute                   when it changes
    /sf/page     ,if       page lead                                turn to this page
    /sf/half     ,if       page lead                                show its upper half
    /sf/state    ,ss       state previous
    /sf/jump     ,iif      from to confidence
    /sf/status   ,fsiiisifi  time state page half measure label pass tempo paused
                                                                    once a second

UDP loses packets.  `/sf/status` repeats what was told when it changed, so who missed it knows
a second later: the page that is shown, whether its upper half only, and all else.

Profile `antescofo`: `/antescofo/event_beatpos ,f` (quarter notes from the start of
the score as it is printed, where its symbols are known) and `/antescofo/tempo ,f`,
when they change.

Profile `inscore`: `/ITL/scene/cursor ,sf` "x" and "y" in the scene's -1 to 1, and
`/ITL/scene/score ,si` "page" n, which is repeated once a second.

Profiles that tell others which measure has come, once each, while the follower is sure:
`musescore` (`/select-measure ,i` measure, and `/goto ,i` page at turns), `qlab`
(`/cue/mN/start`, the cue with the number "m" and the measure) and `ardour`
(`/marker ,s` "mN", the marker of that name).  `reaper` is told the tempo,
`/tempo/raw ,f` quarter notes a minute, when it changes.

Profile `beats` is sent at a steady rate: see `sf_adapters.osc_beats`.

The messages of one event travel in one bundle with the time tag "immediately": the
clocks of two machines differ by more than the network's delay.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any

from pythonosc.osc_bundle import OscBundle
from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message_builder import OscMessageBuilder

from sf_adapters.osc_beats import Beats
from sf_plugin.controls import Controls
from sf_plugin.errors import SinkError
from sf_plugin.hookspecs import RegisterSink, hookimpl
from sf_plugin.positions import Control, Event, Jump, PageTurn, Position, StateChange
from sf_plugin.score.layout import Layout
from sf_plugin.score.measures import measure_starts
from sf_plugin.score.model import Score
from sf_plugin.sinks import Sink

logger = logging.getLogger(__name__)

Message = tuple[str, str, tuple[int | float | str, ...]]
"""Address, type tags, arguments."""

SURE = 0.6
"""Confidence with which others are told of a measure, as of a page turn."""

REPEAT_SECONDS = 1.0
"""Of sound heard, after which what is shown is told again."""


@hookimpl
def register_sinks(register: RegisterSink) -> None:
    """`--osc`."""
    register(
        "osc",
        OscSink,
        help="send events by OSC over UDP; profiles: sf, antescofo, inscore, musescore, qlab, "
        "ardour, reaper, beats",
        metavar="HOST:PORT[,PROFILE]",
    )


def _or_unknown(value: int | float | None) -> int | float:
    return -1 if value is None else value


class _Repeating:
    """Knows what is shown, and when to tell it again to who may have missed it.

    Attributes:
        shown: the page.
        half: whether its upper half only, above the lower half of the page before.
    """

    def __init__(self, layout: Layout) -> None:
        self.shown = 1
        self.half = False
        self._repeated = -REPEAT_SECONDS

    def turn(self, event: PageTurn) -> None:
        """This is shown from now on."""
        self.shown, self.half = event.page, event.half

    def due(self, time: float) -> bool:
        """Whether it is told with the position of this time."""
        if 0 <= time - self._repeated < REPEAT_SECONDS:
            return False
        self._repeated = time
        return True


class Native(_Repeating):
    """Profile `sf`."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self._measure: tuple[int | None, int] | None = None
        self._tempo: float | None = None
        self._paused = False

    def messages(self, event: Event) -> Iterator[Message]:
        """What to send for an event."""
        match event:
            case Position():
                yield self._position(event)
                if (event.measure, event.pass_) != self._measure:
                    self._measure = (event.measure, event.pass_)
                    number = int(_or_unknown(event.measure))
                    yield "/sf/measure", "isi", (number, event.label or "", event.pass_)
                if event.tempo != self._tempo:
                    self._tempo = event.tempo
                    yield "/sf/tempo", "f", (_or_unknown(event.tempo),)
                if self.due(event.time):
                    yield self._status(event)
            case PageTurn():
                self.turn(event)
                yield "/sf/half" if event.half else "/sf/page", "if", (event.page, event.lead)
            case StateChange():
                yield "/sf/state", "ss", (event.state, event.previous)
            case Jump():
                places = (_or_unknown(event.from_measure), _or_unknown(event.to_measure))
                yield "/sf/jump", "iif", (*places, event.confidence)
            case Control(action="pause" | "resume"):
                self._paused = event.action == "pause"

    def _status(self, event: Position) -> Message:
        shown = (event.time, event.state, self.shown, int(self.half))
        measure = (int(_or_unknown(event.measure)), event.label or "", event.pass_)
        return (
            "/sf/status",
            "fsiiisifi",
            (*shown, *measure, _or_unknown(event.tempo), int(self._paused)),
        )

    @staticmethod
    def _position(event: Position) -> Message:
        place = (event.page, event.x, event.y, _or_unknown(event.measure))
        sense = (_or_unknown(event.beat), _or_unknown(event.tempo), event.confidence)
        return "/sf/position", "iffifff", (*place, *sense)


class Antescofo:
    """Profile `antescofo`."""

    def __init__(self, layout: Layout) -> None:
        self._starts = measure_starts(layout)
        self._position: float | None = None
        self._tempo: float | None = None

    def messages(self, event: Event) -> Iterator[Message]:
        """What to send for an event."""
        if not isinstance(event, Position) or event.state not in ("tracking", "unsure"):
            return
        if event.measure is not None and event.measure in self._starts:
            position = self._starts[event.measure] + (event.beat or 0.0)
            if position != self._position:
                self._position = position
                yield "/antescofo/event_beatpos", "f", (position,)
        if event.tempo is not None and event.tempo != self._tempo:
            self._tempo = event.tempo
            yield "/antescofo/tempo", "f", (event.tempo,)


class Inscore(_Repeating):
    """Profile `inscore`."""

    def messages(self, event: Event) -> Iterator[Message]:
        """What to send for an event."""
        match event:
            case Position():
                yield "/ITL/scene/cursor", "sf", ("x", 2 * event.x - 1)
                yield "/ITL/scene/cursor", "sf", ("y", 2 * event.y - 1)
                if self.due(event.time):
                    yield "/ITL/scene/score", "si", ("page", self.shown)
            case PageTurn(half=False):
                self.turn(event)
                yield "/ITL/scene/score", "si", ("page", event.page)


class _Arrivals:
    """Tells when the music has come to another measure."""

    def __init__(self, layout: Layout) -> None:
        self._measure: int | None = None

    def arrived(self, event: Event) -> int | None:
        """The measure, where it is another than the last."""
        if (
            not isinstance(event, Position)
            or event.state != "tracking"
            or event.confidence < SURE
            or event.measure in (None, self._measure)
        ):
            return None
        self._measure = event.measure
        return event.measure


class MuseScore(_Arrivals):
    """Profile `musescore`.  A measure is selected on the page that is shown only, since
    MuseScore turns to what it selects."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self._shown: int | None = None

    def messages(self, event: Event) -> Iterator[Message]:
        """What to send for an event."""
        if isinstance(event, PageTurn) and not event.half:
            self._shown = event.page
            yield "/goto", "i", (event.page,)
        elif isinstance(event, Position) and self._shown in (None, event.page):
            measure = self.arrived(event)
            if measure is not None:
                yield "/select-measure", "i", (measure,)


class Qlab(_Arrivals):
    """Profile `qlab`."""

    def messages(self, event: Event) -> Iterator[Message]:
        """What to send for an event."""
        measure = self.arrived(event)
        if measure is not None:
            yield f"/cue/m{measure}/start", "", ()


class Ardour(_Arrivals):
    """Profile `ardour`."""

    def messages(self, event: Event) -> Iterator[Message]:
        """What to send for an event."""
        measure = self.arrived(event)
        if measure is not None:
            yield "/marker", "s", (f"m{measure}",)


class Reaper:
    """Profile `reaper`."""

    def __init__(self, layout: Layout) -> None:
        self._tempo: float | None = None

    def messages(self, event: Event) -> Iterator[Message]:
        """What to send for an event."""
        if isinstance(event, Position) and event.tempo and event.tempo != self._tempo:
            self._tempo = event.tempo
            yield "/tempo/raw", "f", (event.tempo,)


class Steady:
    """Profile `beats`: nothing of events; `Beats` sends at its own rate."""

    def __init__(self, layout: Layout) -> None:
        pass

    def messages(self, event: Event) -> Iterator[Message]:
        """Nothing."""
        return iter(())


Profile = Native | Antescofo | Inscore | MuseScore | Qlab | Ardour | Reaper | Steady

PROFILES: dict[str, Callable[[Layout], Profile]] = {
    "sf": Native,
    "antescofo": Antescofo,
    "inscore": Inscore,
    "musescore": MuseScore,
    "qlab": Qlab,
    "ardour": Ardour,
    "reaper": Reaper,
    "beats": Steady,
}


def bundle(messages: list[Message], when: float = IMMEDIATELY) -> OscBundle:
    """One bundle to be acted on when it arrives, or at a time in seconds since 1970."""
    builder = OscBundleBuilder(when)  # type: ignore[arg-type]
    for address, tags, arguments in messages:
        message = OscMessageBuilder(address)
        for tag, argument in zip(tags, arguments, strict=True):
            message.add_arg(argument, tag)
        builder.add_content(message.build())
    return builder.build()


def parse_target(spec: str) -> tuple[str, int, str]:
    """Host, port and profile of `HOST:PORT[,PROFILE]`.

    Raises:
        SinkError: it is written in another way.
    """
    address, _, profile = spec.partition(",")
    host, _, port = address.rpartition(":")
    profile = profile.strip() or "sf"
    if not host or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise SinkError(f"OSC target {spec!r}: write HOST:PORT such as 127.0.0.1:9000")
    if profile not in PROFILES:
        raise SinkError(f"OSC profile {profile!r} is unknown: choose {', '.join(PROFILES)}")
    return host.strip("[] "), int(port), profile


class OscSink(Sink):
    """Sends each event as one UDP datagram.

    Nobody needs to listen; a network that fails in mid-session is warned of once.

    Args:
        target: `HOST:PORT[,PROFILE]`.

    Raises:
        SinkError: the target is written in another way.
    """

    def __init__(self, target: str) -> None:
        self._host, self._port, self._profile_name = parse_target(target)
        self._socket: socket.socket | None = None
        self._address: Any = None
        self._profile: Profile | None = None
        self._beats: Beats | None = None
        self._controls: Controls | None = None
        self._warned = False

    def attach(self, controls: Controls) -> None:
        self._controls = controls

    def open(self, score: Score, layout: Layout) -> None:
        try:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)
            found.sort(key=lambda entry: entry[0] != socket.AF_INET)
            family, kind, protocol, _, self._address = found[0]
            self._socket = socket.socket(family, kind, protocol)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SinkError(
                f"OSC host {self._host!r} is not known ({reason}): check the name or give its "
                "number"
            ) from None
        self._socket.setblocking(False)
        self._profile = PROFILES[self._profile_name](layout)
        if isinstance(self._profile, Steady):
            self._beats = Beats(score, layout, self._send)
        if isinstance(self._profile, _Repeating) and self._controls is not None:
            self._profile.shown = self._controls.shown

    def extend(self, layout: Layout) -> None:
        if self._beats is not None:
            self._beats.extend(layout)

    def emit(self, event: Event) -> None:
        if self._beats is not None:
            self._beats.hear(event)
        if self._profile is not None:
            self._send(list(self._profile.messages(event)))

    def _send(self, messages: list[Message], when: float = IMMEDIATELY) -> None:
        if self._socket is None or not messages:
            return
        try:
            self._socket.sendto(bundle(messages, when).dgram, self._address)
        except OSError as error:
            if not self._warned:
                logger.warning("OSC to %s:%d does not get out: %s", self._host, self._port, error)
                self._warned = True

    def close(self) -> None:
        beats, self._beats = self._beats, None
        if beats is not None:
            beats.close()
        opened, self._socket = self._socket, None
        if opened is not None:
            opened.close()
