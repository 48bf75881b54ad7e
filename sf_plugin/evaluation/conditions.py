"""Named conditions: how a piece is played, heard and printed."""

from __future__ import annotations

from dataclasses import dataclass

GRANDS = ("fluid-grand", "musescore-grand", "timgm-grand")
"""The sampled pianos whose notes are also the stuff of the training sounds."""


@dataclass(frozen=True)
class Condition:
    """What a condition is made of, each by the name that its module gives it.

    Attributes:
        help: one line for people.
        style: how it is played, of `sf_plugin.dataset.perform.STYLES`.
        acoustics: how it is heard, of `sf_plugin.dataset.acoustics.ACOUSTICS`.
        paper: how it is printed, of `sf_plugin.dataset.paper.PAPERS`.
        instruments: one of these plays it, by seed, of `sf_plugin.dataset.instruments`.
        programme: what else is heard, of `sf_plugin.dataset.programme.PROGRAMMES`; "" for
            nothing.
    """

    help: str
    style: str = "human"
    acoustics: str = "dry"
    paper: str = "engraved"
    instruments: tuple[str, ...] = GRANDS
    programme: str = ""


CONDITIONS = {
    "clean": Condition("human timing, dry sound"),
    "room": Condition("human timing, at home", acoustics="room"),
    "hall": Condition("human timing, in a recital hall or church", acoustics="hall"),
    "noisy": Condition("human timing, at home among people talking and hum", acoustics="noisy"),
    "phone": Condition("human timing, by a phone, at a low bit rate", acoustics="phone"),
    "mechanical": Condition("strict time, dry: the papers' synthetic data", "mechanical"),
    "expressive": Condition("broad phrasing and much rubato, at home", "expressive", "room"),
    "mistakes": Condition("a student's mistakes, hesitations and restarts", "student", "room"),
    "repeats": Condition("repeats and endings taken as printed, at home", "repeats", "room"),
    "jumps": Condition("jumps anywhere, with and without a pause, at home", "jumps", "room"),
    "practice": Condition("loops, restarts and stops, beginning anywhere", "practice", "room"),
    "scan": Condition("at home, from a bad scan", acoustics="room", paper="bad scan"),
    "photo": Condition("at home, from a photograph", acoustics="room", paper="photo"),
    "other-piano": Condition(
        "at home, on a piano never heard", acoustics="room", instruments=("salamander",)
    ),
    "keyboard": Condition(
        "human timing, on a MIDI keyboard whose events are heard", instruments=("keyboard",)
    ),
    "audience": Condition(
        "in a hall, after people talk and before they applaud",
        acoustics="hall",
        programme="audience",
    ),
    "wrong": Condition(
        "another piece is played, at home", acoustics="room", programme="wrong piece"
    ),
    "interrupted": Condition(
        "ten seconds of talk or another piece, then on elsewhere, at home",
        "interrupted",
        "room",
        programme="interruption",
    ),
}
DEFAULT = ("clean", "room")
