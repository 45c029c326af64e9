"""What a photograph's light and camera are like beyond the form's own basis: highlights, cast shadows, blur, grain. None of it is a defect."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numba import njit
from scipy.ndimage import gaussian_filter

from detect.lamps import HOLLOW, taken
from synth.scene import within
from synth.shadows import beside
from train import reflectance
from train.residual_noise import FLOOR
from train.shading import Sheet

DIRECTIONS, CELLS = 200, 51  # of lobes that are tried, and of normals a side that residuals are gathered by
SHARPNESS = (6.0, 20.0, 60.0, 200.0, 600.0)  # exponents of a highlight's lobe
LOBES = 3
AIMS = (2.0, 1.0, 0.5, 0.25)  # degrees by which a lobe is moved to see whether it fits better
WORTH = 0.03  # of the weighted squares left over: a lobe that explains less is none
BRIGHTEST = 3.0  # of linear light, about: what only the far tail of a lobe would explain is not one of so bright a lamp
BLURS = (0.0, 0.3, 0.45, 0.6, 0.75, 0.9, 1.1, 1.4)  # px, standard deviations
IMPULSES, STANDS_OUT = 0.03, 0.08  # share of pixels from which impulses are the camera's, and by how much of the contrast they stand out
FINE = 2  # the extended table's nodes a node of the form's


def despeckled(picture: np.ndarray) -> np.ndarray:
    """(S, S) linear light without impulses, where the camera leaves many: a pixel that stands out from all but one of its neighbours
    takes their median. Pictures with fewer than IMPULSES of such pixels are given back as they are: a nick may be one of them.

    An extremum filter in the manner of Sun and Neuvo (1994): what is not an impulse stays as it is.
    """
    out = float(STANDS_OUT * np.ptp(np.quantile(picture, (0.01, 0.99))))
    across = np.pad(picture, 1, mode="edge")
    sides = np.stack([across[:-2, 1:-1], across[2:, 1:-1], across[1:-1, :-2], across[1:-1, 2:]])
    if ((picture > sides.max(0) + out) | (picture < sides.min(0) - out)).mean() < IMPULSES:
        return picture
    for _ in range(2):  # two impulses beside each other hide one another
        across, size = np.pad(picture, 1, mode="edge"), len(picture)
        ring = np.sort([across[j : j + size, i : i + size] for j in range(3) for i in range(3) if (j, i) != (1, 1)], axis=0)
        wild = (picture > ring[-2] + out) | (picture < ring[1] - out)
        picture = np.where(wild, (ring[3] + ring[4]) / 2, picture)
    return picture


@dataclass(frozen=True, eq=False)
class Look:
    """``table`` (G', G', K') float32: the form's reflectance maps and the photograph's highlights, ``lobes`` (H, 4), its last maps;
    ``lamps`` (L, 3) whose shadows fall on the part; ``blur`` px; ``floor`` (N,) the variance that the photograph's own grain leaves at
    each pixel."""

    table: np.ndarray
    lobes: np.ndarray
    lamps: np.ndarray
    blur: float
    floor: np.ndarray

    @cached_property
    def shadows(self) -> np.ndarray:
        """(L + H, 7) what the lamps' shadows take, as :func:`taken` has it."""
        return taken(self.lamps, self.lobes)

    def blurred(self, rows: np.ndarray, size: int) -> np.ndarray:
        """(N, ...) pictures as the photograph's lens shows them."""
        if not self.blur:
            return rows
        return blurred(rows, size, self.blur)


def blurred(rows: np.ndarray, size: int, sigma: float) -> np.ndarray:
    """(N, ...) pictures under a Gaussian of ``sigma`` px, cut off at three of them; the border goes on beyond the picture."""
    planes = np.ascontiguousarray(rows.reshape(size, size, -1), float)
    if planes.shape[2] < 4:  # too few for the loops below to be wide
        return gaussian_filter(planes, (sigma, sigma, 0), mode="nearest", truncate=3.0).reshape(rows.shape)
    half = np.exp(-0.5 * (np.arange(int(3 * sigma + 0.5) + 1) / sigma) ** 2)
    half /= half[0] + 2 * half[1:].sum()
    turned, out = np.empty_like(planes), np.empty_like(planes)
    fill_blurred(planes, half, turned)
    fill_blurred(turned, half, out)
    return out.reshape(rows.shape)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "arcp", "nsz"})
def fill_blurred(planes, half, out):  # pragma: no cover - compiled
    """``out`` (S, S, C): ``planes`` along their rows under a kernel whose middle and one side are ``half``, rows and columns exchanged:
    twice is along both, the right way round."""
    size, count = len(planes), planes.shape[2]
    for j in range(size):
        for i in range(size):
            for k in range(count):
                out[i, j, k] = half[0] * planes[j, i, k]
            for d in range(1, len(half)):
                left, right = max(i - d, 0), min(i + d, size - 1)
                for k in range(count):
                    out[i, j, k] += half[d] * (planes[j, left, k] + planes[j, right, k])


def finer(table: np.ndarray) -> np.ndarray:
    """(G, G, K) -> (FINE (G - 1) + 1, ...): the same maps between the nodes too, for sharp lobes to be added."""
    at = np.arange(FINE * (len(table) - 1) + 1) / FINE
    low = np.minimum(at.astype(int), len(table) - 2)
    share = (at - low).astype(np.float32)[:, None, None]
    rows = table[low] * (1 - share) + table[low + 1] * share
    columns = np.moveaxis(rows, 1, 0)
    return np.ascontiguousarray(np.moveaxis(columns[low] * (1 - share) + columns[low + 1] * share, 0, 1))


def with_lobes(table: np.ndarray, view: Sheet, residual: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``table`` and up to LOBES highlights that the ``residual`` (N,) shows, and (H, 4) direction and exponent of each map that they add.

    Greedily the direction and sharpness of a Phong lobe that explains most of it (matching pursuit, Mallat and Zhang 1993). A lobe is
    bright only, where a bump has a dark side too. In a hollow, where shadows may fall, a lamp's highlight may be missing: pixels
    outside of them are asked alone too, and what they say counts where it is more.
    """
    lobes, squared, normals = _lobes()
    inside = np.flatnonzero(view.cover > 0.99)
    facing, clear = view.normals(inside), view.columns[inside, view.maps] < HOLLOW
    node = np.clip(np.rint((facing[:, :2] + 1) * 0.5 * (CELLS - 1)).astype(int), 0, CELLS - 1)
    cell = node[:, 0] * CELLS + node[:, 1]
    left, found = residual[inside].copy(), []
    owns = [weight[inside], weight[inside] * clear][: 1 if clear.all() or not clear.any() else 2]
    squares = [squared @ np.bincount(cell, own, CELLS**2).astype(np.float32) + BRIGHTEST**-2 for own in owns]
    for _ in range(LOBES):
        pulls = [np.bincount(cell, own * left, CELLS**2) for own in owns]
        gains = [np.clip(lobes @ pull.astype(np.float32), 0, None) ** 2 / square for pull, square in zip(pulls, squares, strict=True)]
        told = [float(gain.max()) if gain.max() > WORTH * float(own @ left**2) else 0.0 for gain, own in zip(gains, owns, strict=True)]
        side = int(np.argmax(told))
        if not told[side] > 0:
            break
        own, pull, best = owns[side], pulls[side], int(gains[side].argmax())
        direction, sharpness = _DIRECTIONS[best // len(SHARPNESS)], best % len(SHARPNESS)
        near = np.clip(pull, 0, None) * (normals @ direction > np.cos(np.radians(10)))  # between the directions that were tried
        direction = near @ normals if near.sum() > 0 else direction
        direction, shape, height = _aimed(direction / np.linalg.norm(direction), SHARPNESS[sharpness], facing, own, left)
        powers = SHARPNESS[max(0, sharpness - 1) : sharpness + 2]
        table = np.concatenate([table, _maps(len(table), direction, powers)], 2)
        found += [np.r_[direction, power] for power in powers]
        left -= np.where(clear, height * shape, np.clip(height * shape, 0, np.maximum(left, 0)))
    return np.ascontiguousarray(table), np.array(found).reshape(-1, 4)


def _aimed(
    direction: np.ndarray, power: float, normals: np.ndarray, weight: np.ndarray, left: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """The direction near ``direction`` whose lobe explains most of ``left`` (n,), this lobe (n,), and how bright it is."""
    for angle in np.radians(AIMS):
        for _ in range(3):
            near = beside(direction, angle)
            shapes = np.clip(normals @ near.T, 0, None) ** power
            along, squares = shapes.T @ (weight * left), (shapes**2).T @ weight + BRIGHTEST**-2
            best = int(np.argmax(np.where(along > 0, along**2 / squares, 0.0)))
            direction = near[best]
            if best == 0:
                break
    return direction, shapes[:, best], float(along[best] / squares[best])


def _maps(grid: int, direction: np.ndarray, powers: tuple[float, ...]) -> np.ndarray:
    """(grid, grid, len(powers)) float32."""
    cosine = np.clip(reflectance.normals(grid)[0] @ direction, 0, None)
    return np.stack([cosine**p for p in powers], 2).astype(np.float32)


@lru_cache(maxsize=1)
def _lobes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(DIRECTIONS * len(SHARPNESS), CELLS ** 2) float32 lobes, their squares, and (CELLS ** 2, 3) the cells' normals."""
    normals = reflectance.normals(CELLS)[0].reshape(-1, 3)
    cosines = np.clip(normals @ _DIRECTIONS.T, 0, None)
    lobes = np.stack([cosines[:, d] ** p for d in range(DIRECTIONS) for p in SHARPNESS]).astype(np.float32)
    return lobes, lobes**2, normals


_DIRECTIONS = np.stack([within(np.array([0.0, 0.0, 1.0]), 85.0, np.random.default_rng(k)) for k in range(DIRECTIONS)])


def blur_of(made: np.ndarray, image: np.ndarray, size: int) -> float:
    """px: the standard deviation at which the form's picture ``made`` (N,) is nearest to ``image`` (N,), robustly."""
    losses = []
    for sigma in BLURS:
        off = (blurred(made, size, sigma) if sigma else made) - image
        losses.append(np.nanmean(np.sqrt(off**2 + 1e-4)))
    return BLURS[int(np.argmin(losses))]


def grain(image: np.ndarray, view: Sheet) -> np.ndarray:
    """(N,) variance of the photograph's noise, told from its finest detail on the part and behind it (Immerkaer 1996, by medians)."""
    n = view.size
    picture, cover = image.reshape(n, n), view.cover.reshape(n, n)
    detail = np.abs(
        4 * picture[1:-1, 1:-1]
        - 2 * (picture[2:, 1:-1] + picture[:-2, 1:-1] + picture[1:-1, 2:] + picture[1:-1, :-2])
        + picture[2:, 2:] + picture[2:, :-2] + picture[:-2, 2:] + picture[:-2, :-2]
    )  # fmt: skip
    own = np.where(np.isfinite(detail), cover[1:-1, 1:-1], np.nan)
    levels = [1.4826 * np.median(detail[side]) / 6 if side.sum() > 20 else 0.0 for side in (own > 0.99, own < 0.01)]
    return view.cover * levels[0] ** 2 + (1 - view.cover) * levels[1] ** 2 + FLOOR
