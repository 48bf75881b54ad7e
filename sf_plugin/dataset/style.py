"""How someone plays: how freely, how well, and along which road through the score."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Style:
    """How to play; the defaults are a good amateur who reads straight through."""

    tempo_drift: float = 0.10  # standard deviation of log tempo
    phrase_end: float = 0.15  # how much slower at phrase ends
    jitter: float = 0.008  # seconds
    chord_spread: float = 0.02  # seconds from first to last note of a chord
    dynamics: float = 14.0  # standard deviation of velocity
    pedal: float = 0.5  # probability of a pedalled piece
    rubato: float = 0.06  # log tempo gained from a phrase's edge to its middle
    final_ritardando: float = 0.4  # share of the tempo lost by the last note
    melody_lead: float = 0.02  # seconds by which a chord's top note comes first
    hands: float = 0.008  # seconds, standard deviation between staves
    marks: float = 0.9  # probability that a printed ornament or articulation is heeded
    unevenness: float = 0.0  # standard deviation of each step's log length
    wrong_rhythms: float = 0.0  # per onset: one step too long, the next too short
    hesitations: float = 0.0  # per onset: a short pause before it
    wrong_notes: float = 0.0  # per note
    missing_notes: float = 0.0  # per note
    extra_notes: float = 0.0  # per note
    repeats: float | None = None  # probability of each repeat; None reads straight through
    jumps: tuple[int, int] = (0, 0)  # fewest and most jumps to a random measure
    paused: float = 0.5  # probability of a silence before such a jump
    pause: tuple[float, float] = (0.5, 3.0)  # shortest and longest, in seconds
    stumbles: float = 0.0  # per measure: break off, go back to a measure's start, go on
    loops: float = 0.0  # per measure: play the last few measures again
    stops: float = 0.0  # per measure: a long silence, then on
    starts_inside: float = 0.0  # probability of beginning at any measure
    ends_early: float = 0.0  # probability of ending before the end

    @property
    def free(self) -> bool:
        """Whether tempo and touch vary at all."""
        return self.tempo_drift > 0


HUMAN = Style()
MECHANICAL = Style(*(0,) * 11)
_EXPRESSIVE = Style(
    tempo_drift=0.14, phrase_end=0.3, rubato=0.16, chord_spread=0.03, dynamics=18, pedal=0.9,
    final_ritardando=0.55, melody_lead=0.03, hands=0.02, marks=1.0,
)  # fmt: skip
_STUDENT = Style(
    tempo_drift=0.12, jitter=0.018, chord_spread=0.03, pedal=0.2, rubato=0.03, melody_lead=0.01,
    hands=0.015, marks=0.6, unevenness=0.08, wrong_rhythms=0.01, hesitations=0.015,
    wrong_notes=0.02, missing_notes=0.015, extra_notes=0.01, stumbles=0.02,
)  # fmt: skip

STYLES: dict[str, Style] = {
    "mechanical": MECHANICAL,
    "human": HUMAN,
    "expressive": _EXPRESSIVE,
    "student": _STUDENT,
    "repeats": Style(repeats=1.0),
    "jumps": Style(jumps=(1, 4)),
    "interrupted": Style(jumps=(1, 1), paused=1.0, pause=(9.5, 11.5)),
    "practice": replace(
        _STUDENT, stumbles=0.05, loops=0.04, stops=0.03, starts_inside=0.5, ends_early=0.3
    ),
}
"""mechanical: as printed, in strict time, all equally loud.
human: straight through with a good amateur's timing, touch and pedal.
expressive: broad phrasing, much rubato, melody well ahead, pedalled.
student: wrong, missing and extra notes, hesitations, stumbles with a fresh start.
repeats: human, with all repeats, endings, da capo and dal segno as printed.
jumps: human, with one to four jumps to any measure, half of them after 0.5 to 3 s of silence.
interrupted: human, with a silence of some ten seconds and a jump to any measure.
practice: a student who begins anywhere, goes over passages again, stops and goes on.
"""
