"""A view's picture as a linear function of its light: kernels. The solid's pixels are combinations of reflectance maps, those behind
it a plane; an edge's pixel is a mixture of both. All in linear light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from synth.drawable import Drawable
from synth.raster import interpolated, raster
from synth.scene import Placement
from synth.shadows import cast, lost

HOLLOW = 3  # columns where the part hides its own sky, by how much of it: even, and with the normal's x and y
BACKGROUND = 3  # columns behind the part: even, and rising along x and y
EXTRA = HOLLOW + BACKGROUND
FALLOFF = 5  # columns before a near camera, to which one normal shines unlike at two places: the mean map times x, y, x^2, xy, y^2
PLANES, SAMPLED = 100, 250  # that are tried for the background, and its pixels that they are judged by
TRUSTED, LIKELIER = 0.9, 0.1  # shares of a background: of a plane that is taken as it is, and by how much another must suit more of it
QUIET = 0.001  # of linear light: a background's residuals this small are noise
FULL = 0.97  # of linear light: a pixel this bright is saturated
BLOCK = 4  # pixels that normal equations are summed over at once


@dataclass(frozen=True, eq=False)
class Sheet:
    """A drawn view with ``samples`` x ``samples`` rays a pixel (fine arrays are (F, F), F = size * samples; pixels are rows, N = size ** 2).

    ``near`` grows towards the camera, -inf behind the part; ``face`` -1 there; ``slope`` (F, F, 2) the camera-frame normal's x and y;
    ``columns`` (N, K + EXTRA + F + L) what each weight of the light adds to a pixel; ``cover`` (N,) share of it that the part fills;
    ``falloff``: F, FALLOFF or 0; ``lost`` (L, F, F) float32 what the shadows of L lamps take at each fine sample, for weights of 1.
    """

    size: int
    samples: int
    near: np.ndarray
    face: np.ndarray
    slope: np.ndarray
    columns: np.ndarray
    cover: np.ndarray
    falloff: int
    lost: np.ndarray

    @property
    def maps(self) -> int:
        """K, the number of reflectance maps."""
        return self.columns.shape[1] - EXTRA - self.falloff - len(self.lost)

    def normals(self, pixels: np.ndarray) -> np.ndarray:
        """(n, 3) the mean normals of ``pixels`` that the part fills, an index of the N."""
        n, s = self.size, self.samples
        slope = self.slope.reshape(n, s, n, s, 2).mean((1, 3)).reshape(-1, 2)[pixels]
        return np.column_stack([slope, np.sqrt(np.clip(1 - (slope**2).sum(1), 0, None))])

    def dark(self, light: np.ndarray) -> np.ndarray:
        """(F, F) float64: what the ``light``'s lamps, its last weights, leave in shadow at each fine sample; negative."""
        return np.tensordot(light[len(light) - len(self.lost) :], self.lost, 1) if len(self.lost) else np.zeros(self.face.shape)


def sheet(
    item: Drawable, pivot: np.ndarray, at: Placement, table: np.ndarray, hollow: np.ndarray, size: int, samples: int, lamps: np.ndarray | None = None
) -> Sheet:  # fmt: skip
    """``table`` (G, G, K) float32: a basis of reflectance maps; ``hollow`` (m,) each triangle's share of hidden sky; ``lamps``: those
    whose shadows are cast, as :func:`~synth.shadows.cast` has them."""
    fine = size * samples
    slope, columns, cover = np.zeros((fine, fine, 2), np.float32), np.zeros((size**2, table.shape[2] + EXTRA)), np.zeros(size**2)
    near, face, w1, w2 = raster(item.corners, at.turn, at.shift(pivot), at.scale * fine, fine, at.perspective)
    fill_columns(face, w1, w2, item.normals, at.turn, table, hollow, size, samples, slope, columns, cover)
    falloff = FALLOFF if at.perspective else 0
    if falloff:
        y, x = (v.ravel() + 0.5 - size / 2 for v in np.mgrid[:size, :size] / 1.0)
        places = np.column_stack([x, y, x * x / size, x * y / size, y * y / size]) / size
        columns = np.concatenate([columns, columns[:, :1] * places], 1)
    if lamps is None or not len(lamps):
        return Sheet(size, samples, near, face, slope, columns, cover, falloff, np.empty((0, fine, fine), np.float32))
    taken = cast(item.corners, pivot, at, near, face, slope, lamps)
    return Sheet(size, samples, near, face, slope, np.concatenate([columns, lost(taken, samples)], 1), cover, falloff, taken)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "arcp", "nsz"})
def fill_columns(face, w1, w2, normals, turn, table, hollow, size, samples, slope, columns, cover):  # pragma: no cover - compiled
    """Fills ``slope``, ``columns`` and ``cover`` of a Sheet."""
    count, grid = table.shape[2], table.shape[0]
    columns[:] = 0.0
    cover[:] = 0.0
    share, half, fine = 1.0 / (samples * samples), 0.5 * (grid - 1), size * samples
    for j in range(fine):
        for i in range(fine):
            f = face[j, i]
            if f < 0:
                continue
            x, y, z = interpolated(normals, f, w1[j, i], w2[j, i])
            cx = turn[0, 0] * x + turn[0, 1] * y + turn[0, 2] * z
            cy = turn[1, 0] * x + turn[1, 1] * y + turn[1, 2] * z
            cz = max(turn[2, 0] * x + turn[2, 1] * y + turn[2, 2] * z, 0.0)
            unit = 1.0 / max(np.sqrt(cx * cx + cy * cy + cz * cz), 1e-9)
            cx *= unit
            cy *= unit
            slope[j, i, 0] = cx
            slope[j, i, 1] = cy
            gx = min(max((cx + 1.0) * half, 0.0), grid - 1.001)
            gy = min(max((cy + 1.0) * half, 0.0), grid - 1.001)
            ix, iy = int(gx), int(gy)
            fx, fy = gx - ix, gy - iy
            p = (j // samples) * size + i // samples
            cover[p] += share
            w00, w10, w01, w11 = share * (1 - fx) * (1 - fy), share * fx * (1 - fy), share * (1 - fx) * fy, share * fx * fy
            for k in range(count):
                columns[p, k] += (
                    w00 * table[ix, iy, k] + w10 * table[ix + 1, iy, k] + w01 * table[ix, iy + 1, k] + w11 * table[ix + 1, iy + 1, k]
                )
            hidden = share * hollow[f]
            columns[p, count] += hidden
            columns[p, count + 1] += hidden * cx
            columns[p, count + 2] += hidden * cy
    for p in range(size * size):
        behind = 1.0 - cover[p]
        columns[p, count + 3] = behind
        columns[p, count + 4] = behind * ((p % size + 0.5) / size - 0.5)
        columns[p, count + 5] = behind * ((p // size + 0.5) / size - 0.5)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "arcp", "nsz"})
def solve_light(columns, image, ridge, behind, full, clear, sigma, rounds, light, made, weight):  # pragma: no cover - compiled
    """Robust least squares, in place: the ``light`` (K,) whose picture ``made = columns @ light`` is nearest to ``image`` (N,), which is NaN
    where it is hidden.

    Minimises the sum of sqrt(residual^2 + sigma^2) with ``ridge`` (K,) on the weights, by ``rounds`` of re-weighting from the light
    given; ``weight`` (N,) are the last weights, 1 / sqrt(residual^2 + sigma^2). Where the column ``behind`` says that nothing but
    background is seen and ``clear`` is not 0, they are clear / (residual^2 + clear^2), Cauchy's: what hides a side of it has leverage, and
    is let go only by a loss that levels off. Pixels of ``full`` or more are as bright as the camera can tell: the picture, which goes no
    further, may be brighter there.
    """
    pixels, count = columns.shape
    left, right, none = np.empty((count, count)), np.empty(count), np.empty((pixels, 0))
    for turn in range(rounds + 1):
        for p in range(pixels):
            value = 0.0
            for k in range(count):
                value += columns[p, k] * light[k]
            made[p] = min(value, full / FULL)
            squared = (value - image[p]) ** 2
            weight[p] = 1.0 / np.sqrt(squared + sigma * sigma)
            if clear > 0.0 and columns[p, behind] > 0.99:
                weight[p] = clear / (squared + clear * clear)
            if np.isnan(squared) or (image[p] >= full and value >= full):
                weight[p] = 0.0
        if turn == rounds:
            break
        fill_normal_equations(none, columns, image, weight, left, right)
        for k in range(count):
            left[k, k] += ridge[k]
        light[:] = np.linalg.solve(left, right)


@njit(cache=True, nogil=True)
def fill_background(columns, image, behind, sigma, light):  # pragma: no cover - compiled
    """Fills the background's three weights in ``light`` where a plane suits a LIKELIER share more of its pixels than those it comes with:
    of PLANES through three of them each the one that most lie near (MSAC, Torr and Zisserman 2000). Returns up to what size residuals are
    noise there, ``sigma`` at most; 0 where no plane is better.
    """
    own = np.flatnonzero((columns[:, behind] > 0.99) & ~np.isnan(image))
    if len(own) < 30:
        return 0.0
    seen = own[:: max(1, len(own) // SAMPLED)]
    grain = np.empty(len(seen))
    for k in range(len(seen)):
        off = abs(image[min(seen[k] + 1, len(image) - 1)] - image[seen[k]])
        grain[k] = 0.0 if np.isnan(off) else off
    sigma = min(sigma, QUIET + 2 * np.median(grain))
    on = 0
    for p in seen:
        off = image[p] - light[behind] - light[behind + 1] * columns[p, behind + 1] - light[behind + 2] * columns[p, behind + 2]
        on += abs(off) < 3 * sigma
    if on > TRUSTED * len(seen):
        return 0.0
    best, state = np.inf, 1
    corner, level = np.empty(3, np.int64), np.empty(3)
    for _ in range(PLANES):
        for k in range(3):
            state = (1103515245 * state + 12345) % 2147483648  # a row of numbers that is always the same
            corner[k] = seen[(state >> 8) % len(seen)]
            level[k] = image[corner[k]]
        x0, y0 = columns[corner[0], behind + 1], columns[corner[0], behind + 2]
        ax, ay = columns[corner[1], behind + 1] - x0, columns[corner[1], behind + 2] - y0
        bx, by = columns[corner[2], behind + 1] - x0, columns[corner[2], behind + 2] - y0
        area = ax * by - ay * bx
        if abs(area) < 0.02:  # too near to each other, or in a row
            continue
        u, v = level[1] - level[0], level[2] - level[0]
        along_x, along_y = (u * by - v * ay) / area, (v * ax - u * bx) / area
        even = level[0] - along_x * x0 - along_y * y0
        loss, close = 0.0, 0
        for p in seen:
            off = image[p] - even - along_x * columns[p, behind + 1] - along_y * columns[p, behind + 2]
            loss += min(off * off, 9 * sigma * sigma)
            close += abs(off) < 3 * sigma
        if loss < best and close > on + LIKELIER * len(seen):
            best = loss
            light[behind], light[behind + 1], light[behind + 2] = even, along_x, along_y
    return sigma if best < np.inf else 0.0


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "arcp", "nsz"})
def fill_normal_equations(first, columns, target, weight, left, right):  # pragma: no cover - compiled
    """``left`` (Q, Q) and ``right`` (Q,) of the weighted least squares of ``target`` (N,), NaN where weights are 0 perhaps, over [first, columns]
    (N, Q)."""
    pixels, own = first.shape
    count = own + columns.shape[1]
    rows, aim, weigh = np.zeros((BLOCK, count)), np.zeros(BLOCK), np.zeros(BLOCK)
    left[:] = 0.0
    right[:] = 0.0
    for p in range(0, pixels, BLOCK):
        for q in range(BLOCK):
            if p + q >= pixels:
                weigh[q] = 0.0
                continue
            aim[q], weigh[q] = target[p + q] if weight[p + q] > 0.0 else 0.0, weight[p + q]
            for k in range(own):
                rows[q, k] = first[p + q, k]
            for k in range(count - own):
                rows[q, own + k] = columns[p + q, k]
        for k in range(count):
            v0, v1, v2, v3 = weigh[0] * rows[0, k], weigh[1] * rows[1, k], weigh[2] * rows[2, k], weigh[3] * rows[3, k]
            if v0 == 0.0 and v1 == 0.0 and v2 == 0.0 and v3 == 0.0:
                continue
            right[k] += v0 * aim[0] + v1 * aim[1] + v2 * aim[2] + v3 * aim[3]
            for m in range(k + 1):
                left[k, m] += v0 * rows[0, m] + v1 * rows[1, m] + v2 * rows[2, m] + v3 * rows[3, m]
    for k in range(count):
        for m in range(k):
            left[m, k] = left[k, m]


def ridge(count: int, more: int = 0) -> np.ndarray:
    """(count + EXTRA + more,) how strongly each weight of a light is held near 0: components by their deviation, the background
    hardly."""
    return np.r_[1e-4, np.full(count - 1 + HOLLOW, 0.02), np.full(BACKGROUND, 1e-4), np.full(more, 0.02)]


def narrowed(table: np.ndarray, light: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A table and a light that make the same picture of anything as these, with two maps instead of K: the mean map, which falloff
    goes by, and the one that is lit."""
    count = table.shape[2]
    maps = np.stack([table[..., 0], (table @ light[:count].astype(np.float32))], 2)
    return np.ascontiguousarray(maps), np.r_[0.0, 1.0, light[count:]]


def lit(view: Sheet, image: np.ndarray, *, sigma: float = 0.01, rounds: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The light (K + EXTRA + F + L,) that suits ``image`` (N,) best, its picture (N,), and the pixels' weights (N,)."""
    count, behind = view.columns.shape[1], view.maps + HOLLOW
    light, made, weight = np.zeros(count), np.empty(len(image)), np.empty(len(image))
    held = ridge(view.maps, count - EXTRA - view.maps)
    light[0] = 1.0
    solve_light(view.columns, image, held, behind, FULL, 0.0, sigma, rounds, light, made, weight)
    other = light.copy()
    clear = fill_background(view.columns, image, behind, sigma, other)
    if clear > 0:  # most of the background lies on another plane
        light[:] = other
        solve_light(view.columns, image, held, behind, FULL, clear, sigma, rounds, light, made, weight)
    return light, made, weight
