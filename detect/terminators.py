"""Where a lamp's light ends on a matt surface: a kink of the reflectance map that a few smooth components do not have.

Matching pursuit (Mallat and Zhang 1993) over Lambert's clipped cosines, each projected out of what the light can do already
(orthogonal least squares, Chen, Billings and Luo 1989).
"""

from __future__ import annotations

import numpy as np

from detect.lamps import DIRECTIONS, TURNS
from synth.shadows import beside
from train import reflectance
from train.shading import EXTRA, Sheet, lit, ridge

LAMPS = 2
PIXELS = 1500  # of the part, about, that they are told from
WORTH = 0.05  # of the weighted squares left over: a lamp that explains less is none
DISTINCT = 1e-6  # of a map's weighted squares: what must be left of it beside the light's own maps
HELD = 1e-4  # the ridge of a lamp's weight


def with_terminators(table: np.ndarray, view: Sheet, image: np.ndarray) -> list[np.ndarray]:
    """``table`` (G, G, K), and where there may be such lamps a second one with Lambert's maps of up to LAMPS that ``image`` (N,), drawn as
    ``view`` from a table like it, shows: what they explain may be shadows or highlights."""
    _, made, weight = lit(view, image)
    normals, inside = _facing(view, np.isfinite(image))
    columns, weight, left = view.columns[inside], weight[inside], (image - made)[inside]
    held, found = ridge(view.maps, view.columns.shape[1] - EXTRA - view.maps), []
    for _ in range(LAMPS if len(inside) > 4 * columns.shape[1] else 0):
        lamp, shading, worth = _pursued(normals, columns, held, weight, left)
        if worth < WORTH * float(weight @ left**2):
            break
        found.append(lamp)
        columns, held = np.column_stack([columns, shading]), np.r_[held, HELD]
        weighed = columns * weight[:, None]
        left = left - columns @ np.linalg.solve(weighed.T @ columns + np.diag(held), weighed.T @ left)
    grid = reflectance.normals(len(table))[0]
    maps = [np.clip(grid @ lamp, 0, None)[..., None].astype(np.float32) for lamp in found]
    return [table, np.concatenate([table, *maps], 2)] if maps else [table]


def _pursued(
    normals: np.ndarray, columns: np.ndarray, held: np.ndarray, weight: np.ndarray, left: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """The lamp (3,) whose light explains most of ``left`` (n,) beside ``columns`` (n, Q), its shading (n,), and the weighted squares that
    it takes away."""
    weighed = columns * weight[:, None]
    inverse = np.linalg.inv(weighed.T @ columns + np.diag(held))

    def worths(lamps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shading = np.clip(normals @ lamps.T, 0, None)
        along, squares = weighed.T @ shading, weight @ shading**2
        alone = np.maximum(squares - (along * (inverse @ along)).sum(0), DISTINCT * squares + 1e-12)
        return np.clip((weight * left) @ shading, 0, None) ** 2 / alone, shading

    lamp = DIRECTIONS[int(worths(DIRECTIONS)[0].argmax())]
    for angle in np.radians(TURNS):
        for _ in range(3):
            near = beside(lamp, angle)
            worth, shading = worths(near)
            best = int(worth.argmax())
            lamp = near[best]
            if best == 0:
                break
    return lamp, shading[:, best], float(worth[best])


def _facing(view: Sheet, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, 3) normals of pixels that the part fills and nothing hides, every k-th where they are many, and (n,) these pixels."""
    inside = np.flatnonzero((view.cover > 0.99) & seen)
    inside = inside[:: max(1, len(inside) // PIXELS)]
    return view.normals(inside), inside
