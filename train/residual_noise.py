"""What good parts leave over, by the kind of pixel: its variance is a sum of what an edge, a highlight, a hollow ... each add."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from scipy.optimize import nnls

from synth.drawable import Drawable
from synth.raster import raster
from train.shading import HOLLOW, Sheet

KINDS = ("floor", "brightness", "edge", "outline", "near edge", "curved light", "hollow")
FLOOR = (0.6 / 255) ** 2  # what 8 bits leave
CLIP = 16.0  # times its expected square: a residual counts no more than so
PRIOR = 3000  # pixels that an earlier model weighs


def kinds(view: Sheet, made: np.ndarray, light: np.ndarray, table: np.ndarray, hollow: np.ndarray) -> np.ndarray:
    """(N, len(KINDS)) squares of linear light: how much of each kind a pixel of the picture ``made`` (N,) is.

    ``hollow`` (m,) is each drawn triangle's share of hidden sky, from :func:`hollows`.
    """
    full = made[view.cover > 0.99]
    contrast = abs((float(np.median(full)) if len(full) else 0.0) - float(light[table.shape[2] + HOLLOW]))
    found = np.empty((len(made), len(KINDS)))
    fill_kinds(view.face, view.slope, view.cover, made, table @ light[: table.shape[2]], hollow, contrast, view.size, view.samples, found)
    return found


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "arcp", "nsz"})
def fill_kinds(face, slope, cover, made, lit, hollow, contrast, size, samples, found):  # pragma: no cover - compiled
    """``found`` (N, len(KINDS)); ``lit`` (G, G) the reflectance map that is lit; ``contrast`` of the part and its background."""
    grid, share = len(lit), 1.0 / (samples * samples)
    bend = np.zeros((grid, grid))
    for a in range(1, grid - 1):
        for b in range(1, grid - 1):
            bend[a, b] = abs(lit[a + 1, b] + lit[a - 1, b] + lit[a, b + 1] + lit[a, b - 1] - 4 * lit[a, b])
    for j in range(size):
        for i in range(size):
            p = j * size + i
            own = made[p]
            step = max(
                abs(made[p - 1] - own) if i > 0 else 0.0, abs(made[p + 1] - own) if i < size - 1 else 0.0,
                abs(made[p - size] - own) if j > 0 else 0.0, abs(made[p + size] - own) if j < size - 1 else 0.0,
            )  # fmt: skip
            inside, curved = 0.0, 0.0
            for y in range(j * samples, (j + 1) * samples):
                for x in range(i * samples, (i + 1) * samples):
                    if face[y, x] >= 0:
                        inside += hollow[face[y, x]]
                        a = min(max(int(np.rint((slope[y, x, 0] + 1) * 0.5 * (grid - 1))), 0), grid - 1)
                        b = min(max(int(np.rint((slope[y, x, 1] + 1) * 0.5 * (grid - 1))), 0), grid - 1)
                        curved += bend[a, b]
            found[p, 0], found[p, 1], found[p, 2] = 1.0, own * own, step * step
            found[p, 3] = (4 * cover[p] * (1 - cover[p]) * contrast) ** 2
            found[p, 5], found[p, 6] = (curved * share) ** 2, (inside * share * own) ** 2
    for j in range(size):
        for i in range(size):
            near = 0.0
            for y in range(max(j - 1, 0), min(j + 2, size)):
                for x in range(max(i - 1, 0), min(i + 2, size)):
                    near = max(near, found[y * size + x, 2])
            found[j * size + i, 4] = near


@dataclass(frozen=True, eq=False)
class ResidualNoise:
    """``weights`` (len(KINDS),): a good pixel's expected squared residual is its kinds times these."""

    weights: np.ndarray

    def deviation(self, found: np.ndarray, floor: np.ndarray | float = FLOOR) -> np.ndarray:
        """(N,) expected size of a good part's residual in pixels of these :func:`kinds`; ``floor`` (N,): the camera's own noise, squared."""
        return np.sqrt(found @ self.weights + floor)

    @classmethod
    def of(
        cls, found: np.ndarray, residuals: np.ndarray, floor: np.ndarray | float = FLOOR, prior: ResidualNoise | None = None
    ) -> ResidualNoise:
        """From (n, len(KINDS)) kinds and (n,) residuals of good parts, by non-negative least squares on relative squares.

        ``prior`` counts as PRIOR pixels more: with few images the model stays near it.
        """
        if prior is not None:
            pick = np.random.default_rng(0).integers(0, len(found), PRIOR)
            floor = np.broadcast_to(floor, residuals.shape)
            likely = prior.deviation(found[pick], floor[pick])
            found, residuals, floor = np.concatenate([found, found[pick]]), np.concatenate([residuals, likely]), np.concatenate([floor, floor[pick]])  # fmt: skip
        weights = np.full(found.shape[1], 1e-3) if prior is None else prior.weights.copy()
        squares = residuals**2
        for _ in range(12):
            expected = found @ weights + floor
            wanted = np.minimum(squares, CLIP * expected)
            weights, _ = nnls(found / expected[:, None], (wanted - floor).clip(0) / expected)
        return cls(weights)

    def json(self) -> dict[str, Any]:
        return {name: float(v) for name, v in zip(KINDS, self.weights, strict=True)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ResidualNoise:
        return cls(np.array([float(data[name]) for name in KINDS]))


def hollows(item: Drawable, pivot: np.ndarray, diagonal: float, directions: int = 96, size: int = 192) -> np.ndarray:
    """(m,) float64: for each triangle, the share of the sky over it (by the cosine) that the part itself hides: where shadows fall."""
    middles, normal = item.corners.mean(1), np.cross(item.corners[:, 1] - item.corners[:, 0], item.corners[:, 2] - item.corners[:, 0])
    normal = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-300)
    height = 1 - 2 * (np.arange(directions) + 0.5) / directions  # a spiral of directions, evenly over the sphere
    angle = np.pi * (1 + 5**0.5) * np.arange(directions)
    open_, whole = np.zeros(len(middles)), np.zeros(len(middles))
    for z, a in zip(height, angle, strict=True):
        sky = np.array([np.sqrt(1 - z * z) * np.cos(a), np.sqrt(1 - z * z) * np.sin(a), z])
        side = np.cross([0.0, 1.0, 0.0] if abs(sky[1]) < 0.9 else [1.0, 0.0, 0.0], sky)
        side /= np.linalg.norm(side)
        turn = np.stack([side, np.cross(sky, side), sky])
        seen = (middles - pivot) @ turn.T
        near, _, _, _ = raster(item.corners, turn, -turn @ pivot, size / (1.05 * diagonal), size, False)
        scale = size / (1.05 * diagonal)
        column, row = np.clip((0.5 * size + scale * seen[:, 0]).astype(int), 0, size - 1), np.clip((0.5 * size - scale * seen[:, 1]).astype(int), 0, size - 1)  # fmt: skip
        cosine = np.clip(normal @ sky, 0, None)
        whole += cosine
        open_ += cosine * (seen[:, 2] > near[row, column] - 0.02 * diagonal)
    return 1 - open_ / np.maximum(whole, 1e-9)
