"""Performances from MIDI files."""

from __future__ import annotations

from pathlib import Path

import mido
import numpy as np

from sf_plugin.dataset.performance import NOTE, PEDAL
from sf_plugin.errors import ScoreError

SUSTAIN = 64


def read_midi(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Rows of NOTE in order of (onset, pitch), and of PEDAL.

    A key struck again before it was released counts once, from the later stroke: so
    madmom reads files, on whose order of notes MSMD's tables rely.

    Raises:
        ScoreError: the file is missing, damaged or silent.
    """
    sounding: dict[tuple[int, int], tuple[float, int]] = {}
    notes: list[tuple[float, float, int, int]] = []
    pedals: list[tuple[float, int]] = []
    now = 0.0
    try:
        for message in mido.MidiFile(str(path)):
            now += message.time
            if message.type == "control_change" and message.control == SUSTAIN:
                pedals.append((now, message.value))
            if message.type not in ("note_on", "note_off"):
                continue
            key = (message.channel, message.note)
            if message.type == "note_on" and message.velocity > 0:
                sounding[key] = (now, message.velocity)
            elif key in sounding:
                onset, velocity = sounding.pop(key)
                notes.append((onset, now - onset, message.note, velocity))
    except FileNotFoundError:
        raise ScoreError(f"{path}: no such file: check that the set is complete") from None
    except (OSError, EOFError, ValueError, KeyError, IndexError, TypeError) as error:
        raise ScoreError(
            f"{path}: is no MIDI file or is damaged ({error!r}): download the set again"
        ) from None
    if not notes:
        raise ScoreError(f"{path}: holds no notes: download the set again")
    return note_table(notes), pedal_table(pedals)


def note_table(rows: list[tuple[float, float, int, int]]) -> np.ndarray:
    """Rows of NOTE from (onset, duration, pitch, velocity), by onset and pitch."""
    table = np.zeros(len(rows), NOTE)
    for name, column in zip(
        ("onset", "duration", "pitch", "velocity"), zip(*rows, strict=True), strict=True
    ):
        table[name] = column
    table["printed"] = -1
    return table[np.lexsort((table["pitch"], table["onset"]))]


def pedal_table(rows: list[tuple[float, int]]) -> np.ndarray:
    """Rows of PEDAL from (time, value), by time."""
    return np.array(sorted(rows), PEDAL)
