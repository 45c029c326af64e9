"""Which of the views that it was trained on a generator still makes: counts over cells of view directions, and of in-plane spins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from synth.scene import Scene

RINGS = (3, 9, 13, 16, 16, 13, 9, 3)  # cells round each, from the part's +Z down: of equal area, about 22 degrees wide
CELLS = sum(RINGS)
SPINS = 12  # bins of 30 degrees


@dataclass(frozen=True, eq=False)
class TrainingViews:
    """What a run was trained on: ``thumbs`` (n, 256) float32 as :func:`train.bank.thumbnails` has them, and the n ``scenes``."""

    thumbs: Tensor
    scenes: Sequence[Scene]


@dataclass(frozen=True, eq=False)
class Coverage:
    """Views in each cell of directions, (CELLS,) int, and in each bin of spins, (SPINS,) int: those trained on, those generated, and real
    good ones that were assigned to cells as the generated were; ``figures``: JSON."""

    trained: np.ndarray
    generated: np.ndarray
    real: np.ndarray
    trained_spins: np.ndarray
    generated_spins: np.ndarray
    real_spins: np.ndarray
    figures: dict[str, Any]


def coverage(views: TrainingViews, generated: Tensor, real: Tensor) -> Coverage:
    """Of generated and of real good thumbnails (n, 256). Each lies where the training view nearest to it lies: a part that looks the same
    from two sides is assigned to one of them by its noise, real and generated alike, so the real ones say what the assignment is worth."""
    cells, bins = cell_of(directions(views.scenes)), spin_bin_of(spins(views.scenes))
    picks = [nearest(thumbs, views.thumbs) for thumbs in (generated, real)]
    trained, made, seen = (np.bincount(cells[at], minlength=CELLS) for at in (slice(None), *picks))
    turned, turned_made, turned_seen = (np.bincount(bins[at], minlength=SPINS) for at in (slice(None), *picks))
    figures = {
        "trained": len(cells),
        "directions": {"cells": CELLS, "generated": reached(trained, made), "real": reached(trained, seen)},
        "spins": {"cells": SPINS, "generated": reached(turned, turned_made), "real": reached(turned, turned_seen)},
    }
    return Coverage(trained, made, seen, turned, turned_made, turned_seen, figures)


def reached(trained: np.ndarray, found: np.ndarray) -> dict[str, Any]:
    """Of counts (cells,): how many cells were trained on, the share of them that the ``found`` views reach, and ``expected``, the share that
    as many views drawn as the trained ones lie would reach; ``off``: the share of views that lie in other cells than these would (total
    variation), and ``off_expected``, of as many drawn, by the luck of the draw (mean of a normal law's size). Shares are None of nothing."""
    p, n, used = trained / max(trained.sum(), 1), int(found.sum()), int((trained > 0).sum())
    told = n > 0 and used > 0
    return {
        "n": n,
        "trained": used,
        "share": float(((found > 0) & (trained > 0)).sum() / used) if told else None,
        "expected": float((1 - (1 - p) ** n).sum() / used) if told else None,
        "off": float(np.abs(found / n - p).sum() / 2) if told else None,
        "off_expected": float(np.sqrt(2 * p * (1 - p) / (np.pi * n)).sum() / 2) if told else None,
    }


def nearest(thumbs: Tensor, bank: Tensor) -> np.ndarray:
    """(n, 256) and (m, 256) of unit length -> (n,) int: the one of the bank that each is most like."""
    picks = [(part.to(bank) @ bank.T).argmax(1).cpu() for part in thumbs.split(1024)]
    return torch.cat(picks).numpy() if picks else np.zeros(0, int)


def directions(scenes: Sequence[Scene]) -> np.ndarray:
    """(n, 3) float64 unit vectors from the part towards the camera, in the part's frame: of an orthographic camera against its axis."""
    found = [s.rotation.T @ (np.array([0.0, 0.0, 1.0]) if s.field is not None else -np.asarray(s.position)) for s in scenes]
    return np.array([d / np.linalg.norm(d) for d in found]).reshape(-1, 3)


def spins(scenes: Sequence[Scene]) -> np.ndarray:
    """(n,) radians in [0, 2 pi): each turn is the shortest one that brings its view direction to the camera, then this one about the camera's
    axis, counter-clockwise in the image (the twist of a quaternion about z). Even over SO(3) wherever the camera stands."""
    turns = np.array([s.quaternion for s in scenes], float).reshape(-1, 4)
    return 2 * np.arctan2(turns[:, 3], turns[:, 0]) % (2 * np.pi)


def spin_bin_of(angles: np.ndarray) -> np.ndarray:
    """(n,) int."""
    return np.floor(angles % (2 * np.pi) / (2 * np.pi) * SPINS).astype(int) % SPINS


def cell_of(vectors: np.ndarray) -> np.ndarray:
    """(n, 3) unit -> (n,) int: rings from +Z down, in each by longitude from -pi on."""
    edges, first = _edges(), np.r_[0, np.cumsum(RINGS)[:-1]]
    ring = np.clip(np.searchsorted(-edges, -vectors[:, 2], side="right") - 1, 0, len(RINGS) - 1)
    across = (np.arctan2(vectors[:, 1], vectors[:, 0]) + np.pi) / (2 * np.pi)
    count = np.array(RINGS)[ring]
    return first[ring] + np.minimum((across * count).astype(int), count - 1)


def cell_outlines(points: int = 7) -> list[np.ndarray]:
    """Of each cell the border, (4 points, 2): longitude and latitude in radians, ``points`` to a side."""
    heights, along, found = np.arcsin(_edges()), np.linspace(0, 1, points), []
    for ring, count in enumerate(RINGS):
        top, bottom = heights[ring], heights[ring + 1]
        for k in range(count):
            west, east = (-np.pi + 2 * np.pi * j / count for j in (k, k + 1))
            across, down = west + (east - west) * along, top + (bottom - top) * along
            longitude = np.r_[across, np.full(points, east), across[::-1], np.full(points, west)]
            found.append(np.c_[longitude, np.r_[np.full(points, top), down, np.full(points, bottom), down[::-1]]])
    return found


def hammer(places: np.ndarray) -> np.ndarray:
    """(n, 2) longitude and latitude in radians -> (n, 2) on the map: the whole sphere, areas kept (Hammer 1892), 2 sqrt(2) by sqrt(2)."""
    longitude, latitude = places.T
    scale = np.sqrt(2 / (1 + np.cos(latitude) * np.cos(longitude / 2)))
    return np.c_[2 * scale * np.cos(latitude) * np.sin(longitude / 2), scale * np.sin(latitude)]


def _edges() -> np.ndarray:
    """(rings + 1,) heights from 1 to -1 between rings: as much area to each cell (equal heights of a sphere have equal areas)."""
    return 1 - 2 * np.r_[0, np.cumsum(RINGS)] / CELLS
