"""Notes, pedal and tuning as a MIDI file."""

from __future__ import annotations

import mido
import numpy as np
from numpy.typing import NDArray

KEYS = range(21, 109)
"""MIDI numbers of a piano's keys."""


def midi_file(
    notes: np.ndarray,
    program: int = 0,
    pedals: np.ndarray | None = None,
    tuning: NDArray[np.float64] | None = None,
) -> mido.MidiFile:
    """Notes (onset and duration in seconds, pitch, velocity) as a MIDI file, 1 tick = 1 ms.

    `pedals` are (time, value) rows of the sustain pedal.  `tuning` is (128,) cents by
    which each key is off, sent by the MIDI Tuning Standard's real-time note change.
    """
    file = mido.MidiFile(ticks_per_beat=500)
    track = mido.MidiTrack()
    file.tracks.append(track)
    track.append(mido.Message("program_change", program=program))
    if tuning is not None:
        track.extend(_retuned(tuning))
    begin = np.round(notes["onset"] * 1000).astype(int)
    end = np.round((notes["onset"] + notes["duration"].astype(float)) * 1000).astype(int)
    keys, loud = notes["pitch"].tolist(), notes["velocity"].tolist()
    events = list(zip(begin.tolist(), [2] * len(notes), keys, loud, strict=True))
    ends = np.maximum(end, begin + 1).tolist()
    events += zip(ends, [1] * len(notes), keys, [0] * len(notes), strict=True)
    if pedals is not None:
        events += [(round(p["time"] * 1000), 0, 64, int(p["value"])) for p in pedals]
    now = 0
    sounding: dict[int, int] = {}
    for tick, kind, number, value in sorted(events):
        tick = max(tick, 0)
        if kind == 0:
            message = mido.Message("control_change", control=number, value=value)
        elif kind == 2:
            sounding[number] = sounding.get(number, 0) + 1
            message = mido.Message("note_on", note=number, velocity=value)
        else:
            sounding[number] = sounding.get(number, 1) - 1
            if sounding[number] > 0:
                continue  # the same key was struck again meanwhile
            message = mido.Message("note_off", note=number, velocity=0)
        track.append(message.copy(time=tick - now))
        now = tick
    return file


def _retuned(tuning: NDArray[np.float64]) -> list[mido.Message]:
    data = [0x7F, 0x7F, 0x08, 0x02, 0, len(KEYS)]
    for key in KEYS:
        steps = round((key + float(tuning[key]) / 100) * 16384)
        data += [key, steps >> 14, (steps >> 7) & 127, steps & 127]
    chosen = [(101, 0), (100, 3), (6, 0)]  # tuning program 0
    return [
        mido.Message("sysex", data=data),
        *(mido.Message("control_change", control=c, value=v) for c, v in chosen),
    ]
