"""From a refined form to a verdict's parts: the anomaly map, its score, regions with names, sizes and heights in millimetres."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

from detect.compare import regions
from detect.dimensions import Refined
from detect.explain import by_votes
from detect.inspection import region_record
from train.photographs import Photograph

SMOOTH = 0.7  # px at 64: how far neighbours' evidence is pooled
STRONG = 3.0  # deviations that belong to what reaches into the picture, where they hang together with its border
NECK = 0.05  # of the picture's width: half of the width of what joins two pieces that are one
ALIKE = 0.1  # of the picture's contrast by which it may differ within itself, at least
EXPLAINED = 0.15  # share of a region's misfit (the logarithm of Cauchy's law) that a dimension must take away to name it


def evidence(refined: Refined) -> np.ndarray:
    """(S, S) float32 anomaly map: :func:`pooled`, 0 where something reaches in from beyond the picture."""
    anomaly = pooled(refined)
    anomaly[from_outside(anomaly, pictured(refined))] = 0.0
    return anomaly


def pictured(refined: Refined) -> np.ndarray:
    """(S, S): the photograph in linear light; where something hides it, as the form is."""
    return (refined.made + refined.residual).reshape(refined.view.size, -1)


def pooled(refined: Refined) -> np.ndarray:
    """(S, S) float32: what is left over, in deviations of good parts' residuals at each kind of pixel.

    Pooled over neighbours as the logarithm of Cauchy's law, so that neither one wild pixel nor a wide faint one wins.
    """
    logs = ndimage.gaussian_filter(np.log1p(refined.anomaly.astype(np.float64) ** 2), SMOOTH * refined.view.size / 64)
    return np.sqrt(np.expm1(logs)).astype(np.float32)


def from_outside(anomaly: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """(S, S) bool: where ``anomaly`` (S, S) of ``picture`` (S, S) is one piece with its border: something that reaches in from beyond it
    and hides the part or its background (a hand, a fixture, a neighbour) is no defect of the part's. What hangs with it by a neck
    alone, stands out from it by less than NECK, or looks unlike it is not of it."""
    size = len(anomaly)
    close, thick = round(2 * SMOOTH * size / 64), NECK * size
    strong = ndimage.binary_closing(np.pad(anomaly > STRONG, close), iterations=close)[close:-close, close:-close]
    if not (strong[[0, -1]].any() or strong[:, [0, -1]].any()):
        return np.zeros_like(strong)
    beyond = int(np.ceil(thick)) + 1
    around = np.pad(strong, beyond, constant_values=True)  # the border itself is no end of it
    holes, count = ndimage.label(~around)  # where it looks like the part that it hides
    around |= (np.bincount(holes.ravel(), minlength=count + 1) < (2 * thick) ** 2)[holes]
    labels, _ = ndimage.label(ndimage.distance_transform_edt(around) > thick, np.ones((3, 3)))
    core = labels == labels[0, 0]
    near = (around & (ndimage.distance_transform_edt(~core) <= thick + 1))[beyond:-beyond, beyond:-beyond]
    if not near.any():
        return near
    wide = 2 * beyond  # gaps at its edge: where it looks like the part that it hides
    grown = ndimage.distance_transform_edt(~np.pad(near, wide, mode="edge")) <= 2 * thick
    filled = (ndimage.distance_transform_edt(grown) > 2 * thick)[wide:-wide, wide:-wide]
    outside = ndimage.binary_dilation(filled, iterations=close)
    alike = outside & _alike(picture, outside, round(thick))
    return outside & ndimage.binary_dilation(alike, iterations=close + 1)  # its edge is a mixture


def _alike(picture: np.ndarray, outside: np.ndarray, thick: int) -> np.ndarray:
    """(S, S) bool: what is as bright as ``outside`` is along the border, ``thick`` px deep, or nearly so."""
    along = np.ones_like(outside)
    along[thick:-thick, thick:-thick] = False
    own = picture[along & outside & np.isfinite(picture)]
    if not own.size:
        return outside
    low, middle, high = np.quantile(own, (0.1, 0.5, 0.9))
    more = max(high - low, ALIKE * float(np.nanmax(picture) - np.nanmin(picture)))
    return (picture > middle - more) & (picture < middle + more)


def score_of(anomaly: np.ndarray) -> float:
    """The highest pooled evidence."""
    return float(anomaly.max())


def misfit(refined: Refined) -> float:
    """How much of the photograph's detail the form leaves over: mean |residual| over mean distance of the picture from its background."""
    image = refined.made + refined.residual
    scene = np.abs(image - np.median(image[refined.view.cover < 0.01])).mean() if (refined.view.cover < 0.01).any() else image.std()
    return float(np.abs(refined.residual).mean() / max(scene, 1e-6))


def named_regions(
    anomaly: np.ndarray, level: float, refined: Refined, names: tuple[str, ...], features: np.ndarray,
    out: list[tuple[tuple[str, ...], np.ndarray]], photograph: Photograph,
) -> list[dict[str, Any]]:  # fmt: skip
    """The regions above ``level``, strongest first. ``features`` (m,) feature id of each triangle; ``out``: of each
    dimension that was found, or looks, out of tolerance, its sub-components and (N,) what that adds to the picture."""
    view = refined.view
    middle = view.face[view.samples // 2 :: view.samples, view.samples // 2 :: view.samples]
    ids = np.where(middle >= 0, features[middle], 0)
    pixel = refined.at.mm_per_pixel(view.size)
    found = []
    for region in regions(anomaly, min(level, 0.999 * float(anomaly.max()))):
        ys, xs = np.nonzero(region)
        record = region_record(region, anomaly, by_votes(region, anomaly, ids, names, _by_dimension(region, refined, out)), photograph)
        size = [round((int(np.ptp(v)) + 1) * pixel, 3) for v in (xs, ys)]
        found.append({**record, "size_mm": size, "deviation_mm": _height(region, refined, pixel)})
    return found


def _by_dimension(region: np.ndarray, refined: Refined, out: list[tuple[tuple[str, ...], np.ndarray]]) -> tuple[str, ...]:
    """The sub-components of the dimension out of tolerance whose change takes away most of what is left over here."""
    mask = ndimage.binary_dilation(region, iterations=2).ravel()
    left = refined.residual[mask] / refined.deviation[mask]
    best, share = (), EXPLAINED
    for features, added in out:
        explained = 1 - np.log1p((left - added[mask] / refined.deviation[mask]) ** 2).sum() / max(np.log1p(left**2).sum(), 1e-12)
        if features and explained > share:
            best, share = features, explained
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
