"""Every staff of a page: where its five lines run, and from where to where.

The page encoder's map tells roughly where staves are; the ink tells exactly: five
dark lines at equal distances, with light between them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

BLOCK = 16  # pixels in which the paper is even
STEP = 8  # of the rows by which streaks are told
PIECES = 8  # in one of which a streak may be broken
STRIP = 4  # columns of the map that are looked at together
THIN = 3  # rows of the map: less is no staff
BLUR = 12  # columns whose mean is taken
LIKELY = 0.4
THICK = 3  # pixels from top to bottom that a staff line has not
SHORT = 0.15  # of the page's width: less is no staff
SIMILAR = 0.3  # staves on a page differ by less, or are of another size
CLEARLY = 0.75  # a staff must look less like one of another size than this
WINDOW = 48  # pixels along a staff, in which it is taken to be straight
REACH = 4.0  # staff spaces that are looked at above and below the middle line
OFFSETS = np.linspace(-0.6, 0.6, 13)  # staff spaces beside the map's middle
FAR = np.linspace(-1.2, 1.2, 49)  # the same for all windows of a staff together
STAY = 0.1  # staff spaces by which one window may differ from the next
LEAP = 0.15  # staff spaces by which it seldom differs more than that
TRUST = 0.3  # what the map's middle counts
SPACES = np.linspace(0.75, 1.25, 21)  # times the map's staff space
GUESS = 0.6  # share by which the map's staff space is seldom wrong
STRETCH = 0.15  # share by which a staff seldom differs from the page's usual size
OWN = 1.0  # how little a staff bends otherwise than the page
NEAR = 0.2  # staff spaces by which a staff is seen beside its course
BEYOND = 7  # staff spaces that a staff may go on where the map does not show it
UNSEEN = 0.01  # contrast: less tells nothing
INSIDE = 3  # staff spaces that it may end before it does on the map
LINES = np.arange(-2, 3.0)
GAPS = np.arange(-2.5, 3.0)


def runs(on: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and past-the-last index of each stretch of True."""
    edges = np.diff(np.concatenate([[0], on.astype(np.int8), [0]]))
    return list(
        zip(np.flatnonzero(edges > 0).tolist(), np.flatnonzero(edges < 0).tolist(), strict=True)
    )


def weights(pixels: int, cells: int, size: float) -> Floats:
    """(pixels, cells) what cells of `size` pixels count at each pixel between their centres."""
    at = np.clip((np.arange(pixels) + 0.5) / size - 0.5, 0, cells - 1)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(cells))).astype(np.float32)


def level(ink: Floats) -> Floats:
    """Ink over the paper around it, 0 to 1: shadows, stains and dark tables are gone."""
    height, width = ink.shape
    rows, columns = -(-height // BLOCK), -(-width // BLOCK)
    edge = ((0, rows * BLOCK - height), (0, columns * BLOCK - width))
    padded = np.pad(ink, edge, mode="edge").reshape(rows, BLOCK, columns, BLOCK)
    blocks = padded[:, ::2, :, ::2].swapaxes(1, 2).reshape(rows, columns, -1)
    lightest = blocks.shape[2] // 4
    paper = np.partition(blocks, lightest, 2)[:, :, lightest]
    around = weights(height, rows, BLOCK) @ paper @ weights(width, columns, BLOCK).T
    return np.asarray(np.clip((ink - around) / np.maximum(1 - around, 0.1), 0, 1), np.float32)


def streaks(ink: Floats) -> Floats:
    """(width,) how dark the streaks of a dirty scanner are, which go from top to bottom."""
    some = np.ascontiguousarray(ink[::STEP].T)
    rank = some.shape[1] // PIECES
    return np.partition(some, rank, 1)[:, rank]


def thin(ink: Floats) -> Floats:
    """Without what is thicker than a staff line from top to bottom: heads and beams."""
    padded = np.pad(ink, ((THICK - 1, THICK - 1), (0, 0)), mode="edge")
    height = len(ink) + THICK - 1
    least = padded[:height].copy()
    for i in range(1, THICK):
        np.minimum(least, padded[i : i + height], out=least)
    opened = least[: len(ink)].copy()
    for i in range(1, THICK):
        np.maximum(opened, least[i : i + len(ink)], out=opened)
    return ink - opened


@dataclass(frozen=True)
class Staff:
    """One staff; everything in pixels.

    Attributes:
        middle: (width,) rows of the middle line over the page's columns.
        space: between two lines.
        left, right: first and past-the-last column.
    """

    middle: Floats
    space: float
    left: int
    right: int

    @property
    def top(self) -> Floats:
        """(width,) rows of the top line."""
        return self.middle - np.float32(2 * self.space)

    @property
    def bottom(self) -> Floats:
        """(width,) rows of the bottom line."""
        return self.middle + np.float32(2 * self.space)

    def between(self, rows: Floats) -> float:
        """Mean of (width,) rows over the staff."""
        return float(rows[self.left : self.right].mean())

    def contrast(self, ink: Floats) -> Floats:
        """(columns of the staff,) by how much its lines are darker than what is beside them."""
        here = slice(self.left, self.right)
        on = along(ink[:, here], self.middle[here] + self.space * LINES[:, None])
        off = along(ink[:, here], self.middle[here] + self.space * GAPS[:, None])
        return np.asarray(on.mean(0) - off.mean(0))

    def darkness(self, ink: Floats) -> float:
        """Of its lines."""
        x = np.arange(self.left, self.right)
        rows = self.middle[x] + self.space * LINES[:, None]
        return float(np.median(ink[np.clip(np.round(rows), 0, len(ink) - 1).astype(int), x]))


@dataclass
class _Trace:
    """A staff as the map shows it: strips, tops and bottoms in rows of the map."""

    strips: list[int] = field(default_factory=list)
    tops: list[int] = field(default_factory=list)
    bottoms: list[int] = field(default_factory=list)
    middle: float = 0.0
    slope: float = 0.0

    def add(self, strip: int, top: int, bottom: int) -> None:
        middle = (top + bottom) / 2
        if self.strips:
            away = middle - self.expected(strip)
            seen = len(self.strips)
            self.middle = self.expected(strip) + max(0.3, 1 / (seen + 1)) * away
            self.slope += (0.05 if seen > 3 else 0.0) * away / (strip - self.strips[-1])
        else:
            self.middle = middle
        self.strips.append(strip)
        self.tops.append(top)
        self.bottoms.append(bottom)

    def expected(self, strip: int) -> float:
        """Middle at a later strip."""
        return self.middle + self.slope * (strip - self.strips[-1])

    @property
    def height(self) -> float:
        """Rows of the map."""
        return float(np.median(np.subtract(self.bottoms, self.tops)))

    def take(self, other: _Trace) -> None:
        """What another shows of the same staff, where this one shows nothing."""
        for strip, top, bottom in zip(other.strips, other.tops, other.bottoms, strict=True):
            if strip not in self.strips:
                self.strips.append(strip)
                self.tops.append(top)
                self.bottoms.append(bottom)


@dataclass(frozen=True)
class _Points:
    """Where staves were seen, in pixels: (points,) of which staff, where, and how surely."""

    staff: NDArray[np.intp]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    sure: NDArray[np.float64]


def find_staves(ink: Floats, likely: Floats) -> list[Staff]:
    """The staves of a page from top to bottom.

    Args:
        ink: (height, width), paper 0.
        likely: (rows, columns) how likely a cell of the map lies on a staff.
    """
    columns = likely.shape[1]
    traces = [t for t in _traces(likely) if len(t.strips) * STRIP >= SHORT * columns]
    if not traces:
        return []
    scale = ink.shape[0] / likely.shape[0], ink.shape[1] / columns
    traces.sort(key=lambda trace: -len(trace.strips))
    traces = _whole(traces, _rough(traces, ink, scale), scale)
    ends = [_ends(trace, ink.shape[1], scale[1]) for trace in traces]
    rough = _rough(traces, ink, scale)
    spaces = np.array([trace.height for trace in traces]) * scale[0] / 4
    usual = float(np.median(spaces))
    for i, own in enumerate(spaces):
        alike = abs(own / usual - 1) < SIMILAR
        spaces[i] = usual if alike else _likelier(ink, rough[i], usual, own, ends[i])
    found = _fitted(ink, rough, spaces, spaces == usual, ends)
    found = [_ended(ink, staff) for staff in found]
    found = [staff for staff in found if staff.right - staff.left > SHORT * ink.shape[1]]
    return sorted(found, key=lambda staff: staff.between(staff.middle))


def _rough(traces: list[_Trace], ink: Floats, scale: tuple[float, float]) -> Floats:
    """(traces, width) rows of the middle lines, as far as the map tells."""
    points = _Points(
        np.repeat(np.arange(len(traces)), [len(trace.strips) for trace in traces]),
        (np.concatenate([trace.strips for trace in traces]) + 0.5) * STRIP * scale[1],
        np.concatenate([np.add(t.tops, t.bottoms) for t in traces]) / 2 * scale[0] - 0.5,
        np.ones(sum(len(trace.strips) for trace in traces)),
    )
    space = float(np.median([trace.height for trace in traces])) * scale[0] / 4
    return _courses(points, len(traces), ink.shape, NEAR * space)


def _ends(trace: _Trace, width: int, scale: float) -> tuple[int, int]:
    """First and past-the-last column."""
    first, last = min(trace.strips) * STRIP * scale, (max(trace.strips) + 1) * STRIP * scale
    last = min(int(last), width)
    return min(int(first), last - 1), last


def _whole(traces: list[_Trace], rows: Floats, scale: tuple[float, float]) -> list[_Trace]:
    """The traces, the longest first, with those that go on where another ends as one."""
    kept: list[int] = []
    for i, trace in enumerate(traces):
        first, last = _ends(trace, rows.shape[1], scale[1])
        x = (first + last) // 2
        near = 3 * trace.height * scale[0] / 4
        same = [k for k in kept if abs(rows[k, x] - rows[i, x]) < near]
        if same:
            traces[same[0]].take(trace)
        else:
            kept.append(i)
    return [traces[i] for i in kept]


def _traces(likely: Floats) -> list[_Trace]:
    """Runs of likely rows, strip by strip, joined to those before."""
    traces: list[_Trace] = []
    padded = np.pad(likely, ((0, 0), (BLUR // 2, BLUR - BLUR // 2)))
    sums = np.cumsum(padded, 1)
    means = (sums[:, BLUR:] - sums[:, :-BLUR])[:, STRIP // 2 :: STRIP] / BLUR
    for strip in range(means.shape[1]):
        here = [r for r in runs(means[:, strip] > LIKELY) if r[1] - r[0] >= THIN]
        for trace in traces:
            if not here:
                break
            middle = trace.expected(strip)
            height = trace.bottoms[-1] - trace.tops[-1]
            away, best = min((abs((a + b) / 2 - middle), (a, b)) for a, b in here)
            if away < 0.6 * height and 0.6 < (best[1] - best[0]) / height < 1.6:
                trace.add(strip, *best)
                here.remove(best)
        for top, bottom in here:
            traces.append(_Trace())
            traces[-1].add(strip, top, bottom)
    return traces


def along(ink: Floats, rows: NDArray[np.floating]) -> Floats:
    """Ink at (..., width) fractional rows, each column in its own."""
    height, width = ink.shape
    rows = np.clip(rows, 0, height - 1.001)
    low = rows.astype(np.intp)
    part = (rows - low).astype(np.float32)
    column = np.arange(width)
    return ink[low, column] * (1 - part) + ink[np.minimum(low + 1, height - 1), column] * part


def _fitted(
    ink: Floats,
    rough: Floats,
    spaces: NDArray[np.float64],
    similar: NDArray[np.bool_],
    ends: list[tuple[int, int]],
) -> list[Staff]:
    """The staves in the ink.

    All of a page say how far apart its lines are and how they bend, because those
    of one alone may be too faint.

    Args:
        rough: (staves, width) rows of the middle lines.
        spaces: (staves,) pixels between two lines as the map has it.
        similar: (staves,) which are of the page's usual size.
    """
    cut = [_cut(ink, *each) for each in zip(rough, spaces, ends, strict=True)]
    own, best = _spaces([profiles for _, profiles, _ in cut], spaces, similar)
    staff, x, y, sure = [], [], [], []
    for i, (centres, profiles, shift) in enumerate(cut):
        score = _scores(profiles, own[i] * FAR, np.array([own[i]]))[:, :, 0] / best
        way = _way(score)
        staff.append(np.full(len(centres), i))
        x.append(centres)
        y.append(rough[i, centres.astype(int)] + shift + own[i] * FAR[way])
        sure.append(score[np.arange(len(way)), way])
    weight = np.clip(np.concatenate(sure), 0.1, 1) ** 2
    points = _Points(np.concatenate(staff), np.concatenate(x), np.concatenate(y), weight)
    courses = _courses(points, len(cut), ink.shape, NEAR * float(np.median(own)))
    return [
        Staff(middle, space, first, last)
        for middle, space, (first, last) in zip(courses, own, ends, strict=True)
    ]


def _spaces(
    profiles: list[Floats], spaces: NDArray[np.float64], similar: NDArray[np.bool_]
) -> tuple[list[float], float]:
    """Pixels between two lines of each staff, and the score of a clear one."""
    fits = [
        _scores(each, s * OFFSETS, s * SPACES).max(1).mean(0)
        for each, s in zip(profiles, spaces, strict=True)
    ]
    total = np.sum([fit for fit, own in zip(fits, similar, strict=True) if own], 0)
    surprise = ((SPACES - 1) / GUESS) ** 2
    usual = SPACES[int(np.argmax(total / max(float(total.max()), 1e-6) - surprise))]
    best = max(float(np.quantile([fit.max() for fit in fits], 0.75)), 0.01)
    unusual = ((SPACES / usual - 1) / STRETCH) ** 2
    own = [int(np.argmax(fit / best - unusual)) for fit in fits]
    return [float(s * SPACES[i]) for s, i in zip(spaces, own, strict=True)], best


def _way(score: Floats) -> NDArray[np.intp]:
    """(windows,) shifts with the highest scores whose neighbours are alike."""
    leap = np.maximum(np.abs(FAR[:, None] - FAR) - STAY, 0) ** 2 / LEAP**2
    total = score - (FAR / FAR[-1]) ** 2 * TRUST
    before = []
    for i in range(1, len(total)):
        costs = total[i - 1] - leap
        before.append(costs.argmax(1))
        total[i] += costs.max(1)
    way = [int(total[-1].argmax())]
    for best in reversed(before):
        way.append(int(best[way[-1]]))
    return np.array(way[::-1])


def _likelier(
    ink: Floats, course: Floats, usual: float, own: float, ends: tuple[int, int]
) -> float:
    """Which staff space the ink shows: the map may have seen half a staff only."""

    def seen(space: float) -> float:
        profiles = _cut(ink, course, space, ends)[1]
        return float(_scores(profiles, space * FAR, space * SPACES).max(1).mean(0).max())

    return usual if CLEARLY * seen(usual) > seen(own) else own


def _courses(points: _Points, count: int, shape: tuple[int, ...], near: float) -> Floats:
    """(count, width) rows through most of the points of each staff, straight on beyond them.

    What bends one staff bends its neighbours: a curve for all, which changes from
    the top of the page to the bottom, and as little as may be for each alone.
    Points more than `near` pixels away count less.
    """
    seen = np.bincount(points.staff, minlength=count)
    mean = np.bincount(points.staff, points.y, count) / seen
    down = 2 * mean / shape[0] - 1
    staff, x = points.staff, 2 * points.x / shape[1] - 1
    powers = x[:, None] ** np.arange(5)
    each = np.zeros((len(x), count, 4))
    each[np.arange(len(x)), staff] = powers[:, :4]
    terms = np.concatenate(
        [powers[:, 1:], down[staff, None] * powers[:, 1:4], each.reshape(len(x), -1)], 1
    )
    ridge = np.diag(np.concatenate([np.full(7, 0.01), np.tile([0.001, *[OWN] * 3], count)]))
    weight = points.sure
    for _ in range(5):
        weighted = terms * weight[:, None]
        found = np.linalg.solve(weighted.T @ terms + ridge, weighted.T @ (points.y - mean[staff]))
        away = (terms @ found - (points.y - mean[staff])) / near
        weight = points.sure / (1 + away**2)
    curves = np.zeros((count, 5))
    curves[:, 1:] = found[:4]
    curves[:, 1:4] += down[:, None] * found[4:7]
    curves[:, :4] += found[7:].reshape(count, 4)
    at = 2 * (np.arange(shape[1]) + 0.5) / shape[1] - 1
    inside = np.clip(at, x.min(), x.max())
    power = np.arange(5)[:, None]
    slopes = (curves[:, 1:] * power[1:, 0]) @ inside ** power[:-1]
    rows = mean[:, None] + curves @ inside**power + slopes * (at - inside)
    return np.asarray(rows, np.float32)


def _ended(ink: Floats, staff: Staff) -> Staff:
    """The staff with its ends where the lines end in the ink."""
    on = along(ink, staff.middle + staff.space * LINES[:, None])
    off = along(ink, staff.middle + staff.space * GAPS[1:-1, None])
    # lines are seen where they are darker than what is beside them
    contrast = np.sort(on, 0)[1:].mean(0) - off.mean(0)
    size = max(3, round(staff.space))
    contrast = np.convolve(contrast, np.full(size, 1 / size), "same")
    usual = float(np.median(contrast[staff.left : staff.right]))
    if usual < UNSEEN:
        return staff
    seen = contrast > 0.4 * usual
    beyond, inside = round(BEYOND * staff.space), round(INSIDE * staff.space)
    left = _end(seen[max(staff.left - beyond, 0) : staff.left + inside][::-1], staff.space)
    right = _end(seen[max(staff.right - inside, 0) : staff.right + beyond], staff.space)
    left, right = staff.left + inside - left, staff.right - inside + right
    return replace(staff, left=left, right=right) if left < right else staff


def _end(seen: NDArray[np.bool_], space: float) -> int:
    """How far lines are seen without a gap of one and a half spaces."""
    places = np.concatenate([[0], np.flatnonzero(seen) + 1])
    gaps = np.flatnonzero(np.diff(places) > 1.5 * space)
    return int(places[gaps[0]] if len(gaps) else places[-1])


def _cut(
    ink: Floats, course: Floats, space: float, ends: tuple[int, int]
) -> tuple[NDArray[np.float64], Floats, NDArray[np.float64]]:
    """Windows along a staff: centres, mean ink (windows, rows) about its course, and rounding.

    The middle of the rows lies `rounding` pixels below the course.
    """
    first, last = ends
    reach = int(np.ceil(REACH * space))
    edges = np.linspace(first, last, max(1, round((last - first) / WINDOW)) + 1).astype(int)
    sizes = np.diff(edges)
    base = np.round(course[first:last]).astype(int)
    rows = np.clip(base + np.arange(-reach, reach + 1)[:, None], 0, len(ink) - 1)
    band = thin(ink[rows, np.arange(first, last)])
    profiles = np.asarray(np.add.reduceat(band, edges[:-1] - first, 1) / sizes, np.float32)
    rounding = np.add.reduceat(base - course[first:last], edges[:-1] - first) / sizes
    return (edges[:-1] + edges[1:]) / 2, profiles.T, rounding


def _scores(profiles: Floats, shifts: NDArray[np.float64], spaces: NDArray[np.float64]) -> Floats:
    """(windows, shifts, spaces) by how much lines there are darker than what is between them."""
    centre = profiles.shape[1] // 2 + shifts[:, None, None]

    def read(lines: NDArray[np.float64]) -> Floats:
        at = centre + spaces[:, None] * lines
        low = np.clip(at, 0, profiles.shape[1] - 2).astype(np.intp)
        part = (at - low).astype(np.float32)
        return profiles[:, low] * (1 - part) + profiles[:, low + 1] * part

    on, off = read(LINES), read(GAPS)
    # the faintest line counts too: a beam or a ledger line is not a staff
    return np.asarray(on.mean(3) + 0.5 * on.min(3) - off.mean(3), np.float32)
