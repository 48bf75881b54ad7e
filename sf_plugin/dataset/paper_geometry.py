"""How a flat page comes to lie in a scan or a photograph: bend, view, lens and placement.

Every stage maps points both ways in closed form or by Newton's method, so that the
picture (drawn backward) and the labels (moved forward) agree. Lengths are in pixels of
the old page, pixel edges at whole numbers, unless they are fractions of a page.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn.functional import grid_sample

Array = NDArray[np.floating]
Grey = NDArray[np.float32]
"""(height, width) reflectance: 0 black, 1 white."""
Range = tuple[float, float]
"""What a strength is drawn from, evenly; below 0 it is 0, which leaves some pages without."""

NONE: Range = (0.0, 0.0)
CAMERA = 1.5  # distance of the eye from the page, in page widths
MESH = 16  # pixels between the points that are traced back exactly
MARGIN = 6  # pixels of paper that a crop always leaves around the ink


def drawn(rng: np.random.Generator, strength: Range) -> float:
    """One value of a range, at least 0."""
    return max(0.0, float(rng.uniform(*strength)))


@dataclass(frozen=True)
class Geometry:
    """What a page's own warp is drawn from."""

    rotation: float = 0.0  # degrees, at most, either way
    perspective: float = 0.0  # shift of each corner at most, share of the page's width
    slope: Range = NONE  # of the paper where it meets the spine, rise over run, up to 0.6
    barrel: float = 0.0  # radial distortion at the corners at most, either sign
    around: Range = NONE  # seen beyond the page, share of its width; -1 cuts to the ink
    background: float | None = 1.0  # reflectance beyond the page; None for a table

    def __post_init__(self) -> None:
        if self.slope[1] > 0.6 or abs(self.barrel) > 0.1 or self.perspective > 0.1:
            raise ValueError("a page so steep or distorted would fold over itself")


@dataclass(frozen=True)
class Bend:
    """A page as a cylinder that sinks into the spine, seen from above its middle.

    Depth falls off exponentially with the distance along the paper. `spine` is the
    page's left (0) or right (1) edge.
    """

    slope: float
    reach: float  # share of the page's width after which the slope is 1/e
    spine: int
    width: float
    height: float

    def _table(self) -> tuple[Array, Array, Array]:
        along = np.linspace(-0.5, 1.5, 257)
        steep = self.slope * np.exp(-np.maximum(along, 0) / self.reach)
        across = np.cumsum(np.sqrt(1 - steep**2)) * (along[1] - along[0])
        across -= np.interp(0.5, along, across) - 0.5
        depth = self.reach * steep + np.maximum(-along, 0) * self.slope
        nearness = CAMERA / (CAMERA + depth)
        return along, 0.5 + (across - 0.5) * nearness, nearness

    def _mirrored(self, x: Array) -> Array:
        return 1 - x if self.spine else x

    def forward(self, x: Array, y: Array) -> tuple[Array, Array]:
        along, across, nearness = self._table()
        s = self._mirrored(x / self.width)
        out = self._mirrored(np.interp(s, along, across)) * self.width
        middle = self.height / 2
        return out, middle + (y - middle) * np.interp(s, along, nearness)

    def backward(self, x: Array, y: Array) -> tuple[Array, Array]:
        along, across, nearness = self._table()
        s = np.interp(self._mirrored(x / self.width), across, along)
        middle = self.height / 2
        out = self._mirrored(s) * self.width
        return out, middle + (y - middle) / np.interp(s, along, nearness)

    def steepness(self, x: Array) -> Array:
        """The paper's slope at `x` of the flat page."""
        s = self._mirrored(x / self.width)
        return self.slope * np.exp(-np.maximum(s, 0) / self.reach)


@dataclass(frozen=True)
class Lens:
    """Radial distortion of one term (Brown 1971), exact from the picture back to the scene."""

    k: float  # at distance `radius`
    radius: float
    middle: tuple[float, float]

    def _scaled(self, x: Array, y: Array, factor: Array) -> tuple[Array, Array]:
        cx, cy = self.middle
        return cx + (x - cx) * factor, cy + (y - cy) * factor

    def backward(self, x: Array, y: Array) -> tuple[Array, Array]:
        cx, cy = self.middle
        square = ((x - cx) ** 2 + (y - cy) ** 2) / self.radius**2
        return self._scaled(x, y, 1 + self.k * square)

    def forward(self, x: Array, y: Array) -> tuple[Array, Array]:
        cx, cy = self.middle
        scene = np.hypot(x - cx, y - cy) / self.radius
        seen = scene.copy()
        for _ in range(8):
            seen -= (seen * (1 + self.k * seen**2) - scene) / (1 + 3 * self.k * seen**2)
        return self._scaled(x, y, np.divide(seen, scene, out=np.ones_like(seen), where=scene > 0))


def homography(old: Array, new: Array) -> Array:
    """The 3 x 3 matrix that takes four points (4, 2) to four others."""
    rows = []
    for (x, y), (u, v) in zip(old, new, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
    return np.append(np.linalg.solve(np.array(rows), new.ravel()), 1).reshape(3, 3)


def _seen(matrix: Array, x: Array, y: Array) -> tuple[Array, Array]:
    u, v, w = matrix @ np.stack([x, y, np.ones_like(x)])
    return u / w, v / w


@dataclass(frozen=True)
class Warp:
    """From a page to its picture: bent, viewed, through a lens, and placed.

    `page` and `picture` are (height, width) in pixels. The part of the scene that is
    pictured, `frame` (left, top, right, bottom), fills `place` (left, top, width,
    height), whole pixels of the picture; beyond it the picture is blank.
    """

    page: tuple[int, int]
    picture: tuple[int, int]
    frame: tuple[float, float, float, float]
    place: tuple[int, int, int, int]
    bend: Bend | None = None
    view: Array | None = None
    lens: Lens | None = None

    @property
    def upright(self) -> bool:
        """Whether it only scales and shifts."""
        return self.bend is None and self.view is None and self.lens is None

    def points(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Fractions of the page, any shape, to fractions of the picture."""
        x, y = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
        u, v = scene(x.ravel() * self.page[1], y.ravel() * self.page[0], self)
        left, top, right, bottom = self.frame
        column, row, width, height = self.place
        u = (column + (u - left) / (right - left) * width) / self.picture[1]
        v = (row + (v - top) / (bottom - top) * height) / self.picture[0]
        return u.reshape(x.shape), v.reshape(x.shape)

    def origins(self, x: Array, y: Array) -> tuple[Array, Array]:
        """The way back: fractions of the picture to fractions of the page."""
        x, y = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
        left, top, right, bottom = self.frame
        column, row, width, height = self.place
        u: Array = left + (x.ravel() * self.picture[1] - column) / width * (right - left)
        v: Array = top + (y.ravel() * self.picture[0] - row) / height * (bottom - top)
        if self.lens is not None:
            u, v = self.lens.backward(u, v)
        if self.view is not None:
            u, v = _seen(np.linalg.inv(self.view), u, v)
        if self.bend is not None:
            u, v = self.bend.backward(u, v)
        return (u / self.page[1]).reshape(x.shape), (v / self.page[0]).reshape(x.shape)

    def mesh(self) -> tuple[Array, Array]:
        """Pixels of the page (rows, columns each) seen at every sixteenth pixel of `place`.

        Begins in the middle of the first pixel and reaches beyond the last.
        """
        column, row, width, height = self.place
        xs = column + 0.5 + MESH * np.arange(-(-width // MESH) + 1)
        ys = row + 0.5 + MESH * np.arange(-(-height // MESH) + 1)
        x, y = self.origins(xs[None] / self.picture[1], ys[:, None] / self.picture[0])
        return x * self.page[1], y * self.page[0]


def _finer(mesh: Grey, size: int) -> Grey:
    """(rows, columns, 2) at every sixteenth pixel to (size, columns, 2) at every pixel."""
    between = (np.arange(MESH, dtype=np.float32) / MESH)[:, None, None]
    fine = np.multiply(np.diff(mesh, axis=0)[:, None], between, dtype=np.float32)
    fine += mesh[:-1, None]
    return fine.reshape(-1, *mesh.shape[1:])[:size]


def scene(x: Array, y: Array, warp: Warp) -> tuple[Array, Array]:
    """Pixels of the page to the scene that the frame is cut from."""
    if warp.bend is not None:
        x, y = warp.bend.forward(x, y)
    if warp.view is not None:
        x, y = _seen(warp.view, x, y)
    if warp.lens is not None:
        x, y = warp.lens.forward(x, y)
    return x, y


def ink_box(page: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom pixel of what is printed; the whole page where nothing is."""
    rows = np.flatnonzero(page.min(1) < 128)
    columns = np.flatnonzero(page.min(0) < 128)
    if not len(rows):
        return 0, 0, page.shape[1], page.shape[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _bounds(box: tuple[float, float, float, float], warp: Warp) -> Array:
    """Left, top, right, bottom that enclose a box of the page in the scene."""
    left, top, right, bottom = box
    t = np.linspace(0, 1, 9)
    across, down = left + t * (right - left), top + t * (bottom - top)
    x = np.concatenate([across, across, np.full(9, left), np.full(9, right)])
    y = np.concatenate([np.full(9, top), np.full(9, bottom), down, down])
    u, v = scene(x, y, warp)
    return np.array([u.min(), v.min(), u.max(), v.max()])


def draw_warp(
    page: NDArray[np.uint8],
    rng: np.random.Generator,
    geometry: Geometry,
    canvas: tuple[int, int] | None = None,
) -> Warp:
    """A warp that keeps all ink of the page in the picture.

    Without a canvas the picture is as large as the page; with one, (height, width), the
    page is scaled to 0.86 to 1.02 of its size, as far as it fits, and lies anywhere on it.
    """
    height, width = page.shape
    bend = view = lens = None
    slope = drawn(rng, geometry.slope)
    if slope > 0:
        reach, spine = rng.uniform(0.08, 0.25), int(rng.integers(2))
        bend = Bend(slope, reach, spine, width, height)
    if geometry.rotation or geometry.perspective:
        angle = np.deg2rad(rng.uniform(-1, 1) * geometry.rotation)
        corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], float)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        middle = corners.mean(0)
        shift = rng.uniform(-1, 1, (4, 2)) * geometry.perspective * width
        view = homography(corners, (corners - middle) @ turn + middle + shift)
    if geometry.barrel:
        k = rng.uniform(-1, 1) * geometry.barrel
        lens = Lens(k, float(np.hypot(width, height)) / 2, (width / 2, height / 2))

    factor = 1.0
    if canvas is not None:
        most = min(1.02, canvas[0] / height, canvas[1] / width)
        factor = rng.uniform(0.86 * most, most)
    picture = page.shape if canvas is None else canvas
    place_height, place_width = int(height * factor), int(width * factor)
    left = int(rng.integers(0, picture[1] - place_width + 1))
    top = int(rng.integers(0, picture[0] - place_height + 1))
    place = (left, top, place_width, place_height)
    whole = (0.0, 0.0, float(width), float(height))
    warp = Warp((height, width), picture, whole, place, bend, view, lens)
    if warp.upright and geometry.around == NONE:
        return warp

    outer = _bounds(whole, warp)
    box = ink_box(page)
    inner = _bounds((box[0] - MARGIN, box[1] - MARGIN, box[2] + MARGIN, box[3] + MARGIN), warp)
    seen = rng.uniform(*geometry.around, 4)
    outward = np.array([-1, -1, 1, 1]) * width
    frame = np.where(seen < 0, outer + (inner - outer) * -seen, outer + outward * seen)
    frame = np.where(outward < 0, np.minimum(frame, inner), np.maximum(frame, inner))
    spare_width = (frame[3] - frame[1]) * width / height - (frame[2] - frame[0])
    spare = np.array([spare_width, -spare_width * height / width]).clip(0)
    share = rng.uniform(0.3, 0.7)
    frame += np.concatenate([-spare * share, spare * (1 - share)])
    return Warp((height, width), picture, tuple(frame.tolist()), place, bend, view, lens)


def _on_table(page: Grey, pads: tuple[int, int, int, int], background: Grey | float) -> Grey:
    left, top, right, bottom = pads
    if not any(pads):
        return page
    shape = (page.shape[0] + top + bottom, page.shape[1] + left + right)
    if isinstance(background, float):
        out = np.full(shape, background, np.float32)
    else:
        out = np.asarray(
            Image.fromarray(background).resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
        ).copy()
    out[top : top + page.shape[0], left : left + page.shape[1]] = page
    return out


def render(page: Grey, warp: Warp, background: Grey | float) -> Grey:
    """The picture inside `place`, resampled once, (place height, place width).

    `background` is what the page lies on: one reflectance, or a picture that is
    stretched to what is seen.
    """
    _, _, width, height = warp.place
    xs, ys = warp.mesh()
    edge_x, edge_y = (
        np.ceil(np.array([-a.min(), a.max() - size]) + 1).clip(0, size // 2).astype(int)
        for a, size in ((xs, page.shape[1]), (ys, page.shape[0]))
    )
    if xs.min() > 0 and xs.max() < page.shape[1]:
        edge_x[:] = 0
    if ys.min() > 0 and ys.max() < page.shape[0]:
        edge_y[:] = 0
    pads = (int(edge_x[0]), int(edge_y[0]), int(edge_x[1]), int(edge_y[1]))
    source = _on_table(page, pads, background)
    if warp.upright:
        left, top, right, bottom = warp.frame
        if (left, top) == (0, 0) and (width, height) == page.shape[::-1] == (right, bottom):
            return page
        box = (
            max(0, left + pads[0]),
            max(0, top + pads[1]),
            min(source.shape[1], right + pads[0]),
            min(source.shape[0], bottom + pads[1]),
        )
        sized = Image.fromarray(source).resize((width, height), Image.Resampling.BICUBIC, box)
        return np.asarray(sized).copy()
    mesh = np.stack(
        [
            (xs + pads[0]) * (2 / source.shape[1]) - 1,
            (ys + pads[1]) * (2 / source.shape[0]) - 1,
        ],
        axis=2,
    ).astype(np.float32)
    columns = np.ascontiguousarray(_finer(mesh.swapaxes(0, 1), width).swapaxes(0, 1))
    grid = torch.from_numpy(_finer(columns, height))[None]
    seen = grid_sample(
        torch.from_numpy(source)[None, None],
        grid,
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    return seen[0, 0].numpy()
