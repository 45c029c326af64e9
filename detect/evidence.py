"""From a refined form to a verdict's parts: the anomaly map, its score, regions with names, sizes and heights in millimetres."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

from detect.compare import regions
from detect.dimensions import Measured, Refined
from detect.photographs import Photograph

SMOOTH = 0.7  # px at 64: how far neighbours' evidence is pooled
ALIKE = 0.3  # share of a region's residual that a dimension must explain to name it
BORDER = 1  # px at 64: a picture's rim is not judged


def evidence(refined: Refined) -> np.ndarray:
    """(S, S) float32 anomaly map, in deviations of good parts' residuals at each kind of pixel.

    Pooled over neighbours as the logarithm of Cauchy's law, so that neither one wild pixel nor a wide faint one wins.
    """
    pooled = ndimage.gaussian_filter(np.log1p(refined.anomaly.astype(np.float64) ** 2), SMOOTH * refined.view.size / 64)
    return np.sqrt(np.expm1(pooled)).astype(np.float32)


def score_of(anomaly: np.ndarray) -> float:
    """The highest pooled evidence."""
    return float(anomaly.max())


def misfit(refined: Refined) -> float:
    """How much of the photograph's detail the form leaves over: mean |residual| over mean distance of the picture from its background."""
    image = refined.made + refined.residual
    scene = np.abs(image - np.median(image[refined.view.cover < 0.01])).mean() if (refined.view.cover < 0.01).any() else image.std()
    return float(np.abs(refined.residual).mean() / max(scene, 1e-6))


def named_regions(
    anomaly: np.ndarray, level: float, refined: Refined, names: tuple[str, ...], features: np.ndarray, out: dict[str, tuple[str, ...]], photograph: Photograph
) -> list[dict[str, Any]]:  # fmt: skip
    """The regions above ``level``, strongest first. ``features`` (m,) feature id of each triangle; ``out``: the sub-components of
    each dimension that was found, or looks, out of tolerance."""
    view = refined.view
    middle = view.face[view.samples // 2 :: view.samples, view.samples // 2 :: view.samples]
    ids = np.where(middle >= 0, features[middle], 0)
    pixel = refined.at.mm_per_pixel(view.size)
    found = []
    for region in regions(anomaly, min(level, 0.999 * float(anomaly.max()))):
        ys, xs = np.nonzero(region)
        box = (int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1)
        found.append({
            "feature": by_votes(region, anomaly, ids, names, _by_dimension(region, refined, out)),
            "bbox": photograph.own_box(box),
            "area_px": round(float(region.sum()) * photograph.scale**2, 1),
            "score": round(float(anomaly[region].max()), 4),
            "size_mm": [round((box[2] - box[0]) * pixel, 3), round((box[3] - box[1]) * pixel, 3)],
            "deviation_mm": _height(region, refined, pixel),
        })  # fmt: skip
    return found


def by_votes(region: np.ndarray, anomaly: np.ndarray, ids: np.ndarray, names: tuple[str, ...], among: tuple[str, ...] = ()) -> str | None:
    """The sub-component that the region speaks for most: evidence on it and beside it, over the root of its size in view.

    A notch is a small thing whose defect shows on what surrounds it; without the root the largest neighbour would always win.
    ``among`` leaves the choice to these, where there are any.
    """
    weight = anomaly * ndimage.binary_dilation(region, iterations=1)
    votes = {}
    for feature in np.unique(ids[ids > 0]):
        own = ids == feature
        votes[int(feature)] = float(weight[ndimage.binary_dilation(own, iterations=1)].sum()) / np.sqrt(own.sum())
    if among:
        votes = {f: v for f, v in votes.items() if names[f - 1] in among}
    if not votes or max(votes.values()) <= 0:
        return among[-1] if among else None
    return names[max(votes, key=votes.get) - 1]


def _by_dimension(region: np.ndarray, refined: Refined, out: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The sub-components of the dimension out of tolerance whose change looks most like what is left over here."""
    mask = ndimage.binary_dilation(region, iterations=2).ravel()
    left = refined.residual[mask] / refined.deviation[mask]
    best, share = (), ALIKE
    for name, features in out.items():
        if not features:
            continue
        effect = refined.effects[name][mask] / refined.deviation[mask]
        alike = float(left @ effect) ** 2 / max(float(left @ left) * float(effect @ effect), 1e-12)
        if alike > share:
            best, share = features, alike
    return best


def _height(region: np.ndarray, refined: Refined, pixel: float) -> float | None:
    """mm by which the outline stands out (+) or falls short (-) within the region, from how much of each pixel beyond it is filled;
    None where the region does not reach the outline."""
    size = refined.view.size
    cover = refined.view.cover.reshape(size, size)
    behind, inside = refined.made.reshape(size, size)[cover < 0.01], refined.made.reshape(size, size)[cover > 0.99]
    if not len(behind) or not len(inside):
        return None
    image = (refined.made + refined.residual).reshape(size, size)
    contrast = np.median(inside) - np.median(behind)
    if abs(contrast) < 1e-3:
        return None
    filled = np.clip((image - np.median(behind)) / contrast, 0, 1)
    beyond, short = ndimage.distance_transform_edt(cover < 0.5), ndimage.distance_transform_edt(cover >= 0.5)
    out = region & (cover < 0.5) & (filled > 0.5)
    gone = region & (cover >= 0.5) & (filled < 0.5)
    if out.sum() >= max(gone.sum(), 1):
        return round(float(beyond[out].max()) * pixel, 3)
    if gone.any() and (gone & (short <= 1.5)).any():
        return round(-float(short[gone].max()) * pixel, 3)
    return None


def out_of_tolerance(measured: dict[str, Measured]) -> list[str]:
    return [name for name, m in measured.items() if m.ok is False]
