"""Finishes that no renderer has: a random grey for each sub-component, each slope and each distance from an edge, so that what learns from it
goes by shape (domain randomisation, Tobin et al. 2017)."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from synth.drawable import Truth

LOBES = 4  # of grey over the normals
SHARP = (2.0, 80.0)  # how narrow a lobe is, from broad light to a mirror's
BEVEL = 0.12  # of the part's reach, from its edges, that a bevel which no part file has may shine over
STEP = 0.03  # of its reach: a step of depth that is an edge
STRONG = (0.3, 1.0)  # how much of the grey is the finish's
SPREAD = (0.08, 0.35)  # grey levels that a finish varies by


def finished(grey: np.ndarray, seen: Truth, rng: np.random.Generator) -> np.ndarray:
    """(S, S) in [0, 1], and the truth of what is drawn there -> the same with another finish on the part."""
    inside = seen.feature > 0
    if not inside.any():
        return grey
    values = _by_feature(seen.feature, rng) + _by_slope(seen.normal, rng) + _by_edge(seen, inside, rng)
    own = values[inside]
    values = (values - own.mean()) / (own.std() + 1e-6) * rng.uniform(*SPREAD) + grey[inside].mean() + rng.normal(0, 0.15)
    strong = rng.uniform(*STRONG)
    cover = ndimage.gaussian_filter(inside.astype(float), 0.5) * inside  # the outline keeps its own grey
    return np.clip(grey + strong * cover * (ndimage.gaussian_filter(values, 0.5) - grey), 0, 1)


def _by_feature(feature: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.normal(0, 0.7, 256)[feature]


def _by_slope(normal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    total = np.zeros(normal.shape[:2])
    for _ in range(LOBES):
        towards = rng.standard_normal(3)
        towards[2] = abs(towards[2])
        sharp = np.exp(rng.uniform(*np.log(SHARP)))
        total += rng.normal() * np.exp(sharp * (normal @ (towards / np.linalg.norm(towards)) - 1))
    return total


def _by_edge(seen: Truth, inside: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two bands along the edges of some sub-components."""
    reach = np.sqrt(inside.sum() / np.pi)
    depth = np.where(inside, seen.depth, 0.0)
    width = 1e-9 + np.ptp(depth[inside])
    size = (3, 3)
    edge = ndimage.maximum_filter(seen.feature, size) != ndimage.minimum_filter(seen.feature, size)
    edge |= ndimage.maximum_filter(depth, size) - ndimage.minimum_filter(depth, size) > max(STEP * width * 4, 1e-6)
    far = ndimage.distance_transform_edt(~edge) / (BEVEL * reach)
    shines = (rng.random(256) < 0.6)[seen.feature]
    total = np.zeros(inside.shape)
    for _ in range(2):
        total += rng.normal() * np.exp(-0.5 * ((far - rng.uniform(0, 1)) / rng.uniform(0.1, 0.5)) ** 2)
    return 1.5 * total * shines
