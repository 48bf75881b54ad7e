"""When the onsets of a performance come: tempo, phrasing, hesitations, grace notes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sf_plugin.dataset.engraving import ARTICULATIONS, Engraving
from sf_plugin.dataset.style import Style

Floats = NDArray[np.float64]


def score_onsets(notes: np.ndarray) -> tuple[np.ndarray, NDArray[np.intp]]:
    """Group note heads that begin together.

    Returns the first head of each group and the group of every head; heads that
    continue a tie have group -1.
    """
    group = np.full(len(notes), -1)
    fresh = np.flatnonzero(~notes["tied"])
    heads = notes[fresh]
    new = np.ones(len(heads), bool)
    new[1:] = False
    for name in ("score", "onset", "grace"):
        new[1:] |= np.diff(heads[name]) != 0
    group[fresh] = np.cumsum(new) - 1
    return heads[new], group


def sounding_lengths(notes: np.ndarray) -> Floats:
    """Length in whole notes with tied continuations added; the order is the notes' own."""
    length = notes["length"].astype(float)
    tied = np.flatnonzero(notes["tied"])
    if not len(tied):
        return length
    place = (notes["score"].astype(np.int64) * 128 + notes["pitch"]) << 40
    begins = place + np.round(notes["onset"] * 3840).astype(np.int64)
    ends = place + np.round((notes["onset"] + notes["length"]) * 3840).astype(np.int64)
    order = np.argsort(ends, kind="stable")
    found = np.searchsorted(ends[order], begins[tied], side="right") - 1
    known = (found >= 0) & (ends[order][found] == begins[tied])
    root = np.arange(len(notes))
    root[tied[known]] = order[found[known]]
    root[root > np.arange(len(notes))] = np.flatnonzero(root > np.arange(len(notes)))
    while (root[root] != root).any():
        root = root[root]
    np.add.at(length, root[tied], np.where(root[tied] == tied, 0, notes["length"][tied]))
    return length


def wander(count: int, deviation: float, memory: float, rng: np.random.Generator) -> Floats:
    """(count,) values of a mean-reverting random walk with the given standard deviation."""
    value = float(rng.standard_normal() * deviation)
    out = []
    for step in (rng.standard_normal(count) * deviation * np.sqrt(1 - memory**2)).tolist():
        value = memory * value + step
        out.append(value)
    return np.array(out)


def choose_tempo(engraving_notes: np.ndarray, rng: np.random.Generator, free: float) -> float:
    """Whole notes a second: the source's tempo if it names one, else by note density."""
    first, _ = score_onsets(engraving_notes)
    gaps = np.diff(first["onset"])
    gaps = gaps[(gaps > 0) & (gaps <= 1)]
    gap = float(np.median(gaps)) if len(gaps) else 0.125
    named = float(np.median(engraving_notes["tempo"])) / 60
    tempo = named if named else gap / 0.27
    tempo *= float(np.exp(rng.normal(0, 0.22 * free)))
    return float(np.clip(tempo, gap / 0.9, gap / 0.085))


def bar_places(engraving: Engraving, score: NDArray[np.integer], moment: Floats) -> Floats:
    """Moments counted in bars from the first full bar; in whole notes where no bars are printed."""
    places = moment.copy()
    bar_score = engraving.systems["score"][engraving.bars["system"]]
    for number in np.unique(score):
        edges = np.unique(engraving.bars["onset"][bar_score == number])
        edges = edges[edges > 0]
        if len(edges) < 3:
            continue
        usual = float(np.median(np.diff(edges)))
        edges = np.concatenate([[min(0.0, edges[0] - usual)], edges, edges[-1:] + usual])
        pickup = 0.0 if edges[0] == 0 else 1.0
        mine = score == number
        places[mine] = np.interp(moment[mine], edges, np.arange(len(edges)) - pickup)
    return places


def arc(place: Floats, length: float) -> Floats:
    """A phrase's parabola, 0 at its edges and 1 in its middle.

    After N. P. M. Todd, "The dynamics of dynamics: a model of musical expression",
    Journal of the Acoustical Society of America 91, 1992.
    """
    within = (place % length) / length
    return 4 * within * (1 - within)


def ritardando(before_end: Floats, length: float, lost: float) -> Floats:
    """Log tempo of a final ritardando `before_end` whole notes from the last onset.

    After A. Friberg and J. Sundberg, "Does music performance allude to locomotion? A model
    of final ritardandi derived from measurements of stopping runners", Journal of the
    Acoustical Society of America 105, 1999, with curvature 3.
    """
    place = np.clip(1 - before_end / length, 0, 1)
    return np.log(1 + ((1 - lost) ** 3 - 1) * place) / 3


def tempo_curve(
    engraving: Engraving,
    heads: np.ndarray,
    stretch: NDArray[np.intp],
    style: Style,
    rng: np.random.Generator,
) -> Floats:
    """Log tempo of each visited onset group, against the piece's own tempo.

    `stretch` counts the parts of the road; only a movement's last one ends with a ritardando.
    """
    curve = wander(len(heads), style.tempo_drift, 0.97, rng)
    named = engraving.notes["tempo"]
    usual = float(np.median(named))
    if usual > 0 and named.max() > named.min():
        told = heads["tempo"]
        curve += np.log(np.where(told > 0, told, usual) / usual)
    if style.rubato or style.phrase_end:
        length = float(rng.choice([2.0, 4.0, 4.0, 8.0]))
        place = bar_places(engraving, heads["score"], heads["onset"])
        curve += style.rubato * rng.uniform(0.5, 1.5) * arc(place, length)
        late = np.clip(((place % length) / length - 0.8) / 0.2, 0, 1)
        curve -= style.phrase_end * rng.uniform(0, 1.5) * late**2
    if style.final_ritardando:
        notes = engraving.notes
        for score in np.unique(heads["score"]):
            mine = heads["score"] == score
            mine &= stretch == stretch[mine].max()
            last = float(notes["onset"][(notes["score"] == score) & ~notes["tied"]].max())
            lost = min(0.8, style.final_ritardando * rng.uniform(0.3, 1.4))
            curve[mine] += ritardando(last - heads["onset"][mine], rng.uniform(0.75, 2), lost)
    if style.unevenness:
        curve += rng.normal(0, style.unevenness, len(heads))
    return curve


def held(engraving: Engraving, group: NDArray[np.intp], groups: int) -> NDArray[np.bool_]:
    """(groups,) which onset groups stand under a fermata."""
    marked = (engraving.notes["articulation"] & ARTICULATIONS["fermata"]) > 0
    out = np.zeros(groups, bool)
    out[group[marked & (group >= 0)]] = True
    return out


@dataclass
class Clock:
    """The seconds of every position along a road.

    `knots` are positions and `seconds` their times, both rising.  A position is the
    whole notes played so far, and one more for each seam between two stretches, over
    which the silence passes.
    """

    knots: Floats
    seconds: Floats

    def at(self, positions: Floats) -> Floats:
        return np.interp(positions, self.knots, self.seconds)


def wind(
    bounds: Floats,
    pauses: Floats,
    visits: Floats,
    curve: Floats,
    tempo: float,
    stretched: Floats,
    waits: Floats,
    jitter: Floats,
) -> Clock:
    """A clock from positions of stretches and visits.

    Args:
        bounds: (stretches, 2) first and last position of each.
        pauses: (stretches,) seconds of silence before each.
        visits: (visits,) rising positions of the onsets.
        curve: (visits,) log tempo on the way to each.
        tempo: whole notes a second.
        stretched: (visits,) factor on the time from each to the next.
        waits: (visits,) seconds before each.
        jitter: (visits,) seconds that each comes late.
    """
    positions = np.concatenate([bounds[:, 0], visits, bounds[:, 1]])
    order = np.argsort(positions, kind="stable")
    knots = positions[order]
    own = np.full(len(knots), -1)
    starts, count = len(bounds), len(visits)
    is_visit = (order >= starts) & (order < starts + count)
    own[is_visit] = order[is_visit] - starts
    steps = np.diff(knots, prepend=knots[:1])
    speed = tempo * np.exp(np.interp(knots, visits, curve)) if count else np.full(len(knots), tempo)
    seconds = steps / speed
    since = np.maximum.accumulate(np.where(is_visit, own, -1))
    arrived = np.append(-1, since[:-1])
    seconds *= np.where(arrived >= 0, stretched[arrived], 1.0) if count else 1.0
    seam = order < starts
    seconds[seam] = pauses[order[seam]]
    seconds[is_visit] += waits[own[is_visit]]
    late = np.zeros(len(knots))
    late[is_visit] = jitter[own[is_visit]]
    return Clock(knots, np.maximum.accumulate(np.cumsum(seconds) + late))


def grace_times(heads: np.ndarray, main: Floats, speed: Floats, earlier: Floats) -> Floats:
    """Seconds at which grace notes come before their main note.

    Half their written length, and no more than 60 % of the way back to the onset before.

    Args:
        heads: the grace notes' rows, those of one main note from first to last.
        main: (notes,) when the main note is due, seconds.
        speed: (notes,) whole notes a second.
        earlier: (notes,) the onset before the main note, seconds; -inf for none.
    """
    back = -0.5 * heads["grace"] / speed
    cluster = np.cumsum(np.diff(main, prepend=main[:1]) != 0)
    longest = np.zeros(int(cluster[-1]) + 1)
    np.maximum.at(longest, cluster, back)
    room = 0.6 * (main - earlier)
    return main - back * np.minimum(1.0, room / longest[cluster])
