"""What good parts leave over, by the kind of pixel: its variance is a sum of what an edge, a highlight, a hollow ... each add."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import maximum_filter
from scipy.optimize import nnls

from synth.raycast import Drawable, raster
from train.shading import HOLLOW, Sheet

KINDS = ("floor", "brightness", "edge", "outline", "near edge", "curved light", "hollow")
FLOOR = (0.6 / 255) ** 2  # what 8 bits leave
CLIP = 16.0  # times its expected square: a residual counts no more than so
PRIOR = 3000  # pixels that an earlier model weighs


def kinds(view: Sheet, made: np.ndarray, light: np.ndarray, table: np.ndarray, hollow: np.ndarray) -> np.ndarray:
    """(N, len(KINDS)) squares of linear light: how much of each kind a pixel of the picture ``made`` (N,) is.

    ``hollow`` (m,) is each drawn triangle's share of hidden sky, from :func:`hollows`.
    """
    n, s = view.size, view.samples
    picture = made.reshape(n, n)
    padded = np.pad(picture, 1, mode="edge")
    step = np.max([np.abs(padded[1:-1, :-2] - picture), np.abs(padded[1:-1, 2:] - picture), np.abs(padded[:-2, 1:-1] - picture), np.abs(padded[2:, 1:-1] - picture)], axis=0)  # fmt: skip
    cover = view.cover.reshape(n, n)
    full = made[view.cover > 0.99]
    contrast = np.abs((np.median(full) if len(full) else 0.0) - light[table.shape[2] + HOLLOW])
    hit = view.face >= 0
    inside = np.where(hit, hollow[view.face], 0.0).reshape(n, s, n, s).mean((1, 3))
    lit = table @ light[: table.shape[2]]
    bend = np.zeros_like(lit)
    bend[1:-1, 1:-1] = np.abs(lit[2:, 1:-1] + lit[:-2, 1:-1] + lit[1:-1, 2:] + lit[1:-1, :-2] - 4 * lit[1:-1, 1:-1])
    node = np.clip(np.rint((view.slope + 1) * 0.5 * (len(bend) - 1)).astype(int), 0, len(bend) - 1)
    curved = np.where(hit, bend[node[..., 0], node[..., 1]], 0.0).reshape(n, s, n, s).mean((1, 3))
    mixed = 4 * cover * (1 - cover) * contrast
    values = (np.ones_like(picture), picture, step, mixed, maximum_filter(step, 3), curved, inside * picture)
    return np.stack([v.ravel() for v in values], 1) ** 2


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
