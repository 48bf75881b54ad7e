"""The events of a session as predictions on the wall's clock."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import replace

from sf_plugin.accompaniment.music import Accompaniment
from sf_plugin.accompaniment.places import Places, find_places
from sf_plugin.accompaniment.prediction import BeatTracker, Prediction, PredictionSettings
from sf_plugin.positions import Control, Event, Position
from sf_plugin.score.layout import Layout
from sf_plugin.score.structure import Order, find_roads


class SoundClock:
    """From seconds of sound to seconds of the wall.

    A position is told some time after its sound; the quickest of late ones tell best.
    """

    MEMORY = 400
    """Positions, ten seconds."""

    def __init__(self) -> None:
        self._offsets: deque[tuple[int, float]] = deque()
        self._count = 0

    def hear(self, sound: float, wall: float) -> None:
        """A position of `sound` came at `wall`."""
        offset = wall - sound
        while self._offsets and self._offsets[-1][1] >= offset:
            self._offsets.pop()
        self._offsets.append((self._count, offset))
        self._count += 1
        while self._offsets[0][0] <= self._count - self.MEMORY:
            self._offsets.popleft()

    @property
    def offset(self) -> float:
        """Seconds of the wall's clock when the sound began."""
        return self._offsets[0][1] if self._offsets else 0.0


class Soloist:
    """Hears the events of a session; tells where the soloist is at a time of the wall.

    May be heard and asked from different threads.

    Args:
        music: what the soloist is placed in.
        order: the stretches of measures that will be played, if stated.
        settings: how positions are heard.
    """

    def __init__(
        self, music: Accompaniment, order: Order = (), settings: PredictionSettings | None = None
    ) -> None:
        self.music = music
        self.order = order
        self.settings = settings or PredictionSettings()
        self.places: Places | None = None
        self.paused = False
        self._has_intro = self._intro = False
        """Whether the music is there before the soloist, and whether it is yet to begin so."""
        self._tracker = BeatTracker(
            music.tempo_at(0.0), music.solo, holds=music.holds, settings=self.settings
        )
        self._clock = SoundClock()
        self._lock = threading.Lock()
        self._successors: dict[int, set[int]] = {}
        self._measures: deque[int] = deque(maxlen=3)

    def learn(self, layout: Layout) -> Places:
        """The measures of the pages, read so far."""
        places = find_places(self.music, layout, self.order)
        with self._lock:
            self.places = places
            self._tracker.exact = places.exact
            self._tracker.onsets = places.solo
            self._tracker.others = _starts(self.music) if places.solo else ()
            self._successors = find_roads(layout, self.order).successors()
        return places

    def begin(self) -> None:
        """The music begins with the first sound, before the soloist does; also after a reset."""
        self._has_intro = self._intro = True

    def hear(self, event: Event, wall: float) -> None:
        """An event that came at a time of the wall."""
        with self._lock:
            match event:
                case Position():
                    self._clock.hear(event.time, wall)
                    self._hear(event)
                case Control(action="reset"):
                    self._tracker.reset()
                    self._intro = self._has_intro
                case Control(action="pause"):
                    self.paused = True
                case Control(action="resume"):
                    self.paused = False

    def at(self, wall: float) -> Prediction:
        """Where the soloist is at a time of the wall, now or a little later."""
        with self._lock:
            now = self._tracker.at(wall - self._clock.offset)
        return replace(now, beat=None, going="waiting") if self.paused else now

    def _hear(self, position: Position) -> None:
        if self._intro:
            self._tracker.begin(position.time)
            self._intro = False
        if position.state in ("lost", "ended"):
            self._tracker.lose(position.time)
            return
        if position.state == "waiting":
            self._tracker.wait(position.time)
        if self.places is None or position.state == "waiting":
            return
        sure = position.state == "tracking" and position.confidence >= self.settings.confidence
        moments = self.places.moments(position.page, position.x, position.y)
        near = False
        measure = position.measure
        if sure and measure is not None:
            near = any(measure in self._successors.get(m, ()) for m in self._measures)
            if not self._measures or self._measures[-1] != measure:
                self._measures.append(measure)
        self._tracker.hear(position.time, moments, sure=sure, near=near)


def _starts(music: Accompaniment) -> tuple[float, ...]:
    """Moments at which the accompaniment's notes begin."""
    return tuple(sorted({round(note.start, 4) for note in music.notes}))
