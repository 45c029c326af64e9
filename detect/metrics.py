"""Figures of a detector: image and pixel AUROC, AUPRO, F1max, TPR at 1 % FPR, bootstrap intervals, detection limits. What a set cannot tell is None."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from scipy.stats import rankdata

BOOTSTRAPS = 1000


def auroc(good: np.ndarray, bad: np.ndarray) -> float | None:
    """P(a bad score is above a good one), ties half: the Mann-Whitney statistic. (n,), (m,) -> [0, 1]."""
    good, bad = np.ravel(good), np.ravel(bad)
    if not len(good) or not len(bad):
        return None
    ranks = rankdata(np.concatenate([good, bad]))[len(good) :]
    return float((ranks.sum() - len(bad) * (len(bad) + 1) / 2) / len(good) / len(bad))


def auroc_interval(good: np.ndarray, bad: np.ndarray, *, seed: int = 0, level: float = 0.95) -> tuple[float, float] | None:
    """Percentile bootstrap over images, good and bad resampled apart."""
    if not len(good) or not len(bad):
        return None
    rng = np.random.default_rng(seed)
    wins = (bad[:, None] > good[None, :]) + 0.5 * (bad[:, None] == good[None, :])  # (m, n): AUROC is its mean
    draws = np.empty(BOOTSTRAPS)
    for i in range(BOOTSTRAPS):
        weight_bad = np.bincount(rng.integers(0, len(bad), len(bad)), minlength=len(bad))
        weight_good = np.bincount(rng.integers(0, len(good), len(good)), minlength=len(good))
        draws[i] = weight_bad @ wins @ weight_good / len(bad) / len(good)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def tpr_at(good: np.ndarray, bad: np.ndarray, fpr: float = 0.01) -> float | None:
    """The share of bad above the threshold that at most ``fpr`` of the good exceed; None where there are too few good to say."""
    if not len(bad) or len(good) * fpr < 1:
        return None
    return float((bad > threshold_at(good, fpr)).mean())


def threshold_at(good: np.ndarray, fpr: float) -> float:
    """What at most ``fpr`` of the good exceed."""
    return float(np.sort(good)[::-1][int(np.floor(len(good) * fpr))])


def detection_curve(sizes: np.ndarray, found: np.ndarray) -> tuple[float, float] | None:
    """(a, b) of the probability of detection 1 / (1 + exp(-a - b log size)), as MIL-HDBK-1823A has it for hit/miss data.

    ``sizes`` (n,) above 0, ``found`` (n,) bool. By maximum likelihood, held weakly (a deviation of 10) so that sizes that are all
    found above one and never below it have a curve too. None where there are not two different sizes.
    """
    sizes, found = np.asarray(sizes, float), np.asarray(found, float)
    if len(np.unique(sizes)) < 2:
        return None
    scale = np.exp(np.log(sizes).mean())
    rows = np.column_stack([np.ones(len(sizes)), np.log(sizes / scale)])
    weights = np.zeros(2)
    for _ in range(100):
        likely = 1 / (1 + np.exp(-np.clip(rows @ weights, -30, 30)))
        curve = rows.T @ (rows * (likely * (1 - likely))[:, None]) + 0.01 * np.eye(2)
        step = np.linalg.solve(curve, rows.T @ (found - likely) - 0.01 * weights)
        weights += step * min(1.0, 4.0 / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-9:
            break
    return float(weights[0] - weights[1] * np.log(scale)), float(weights[1])


def detection_limit(sizes: np.ndarray, found: np.ndarray, share: float = 0.95) -> float | None:
    """The size that is found in ``share`` of the views, by the detection curve; the smallest size that was tried where even that is;
    None where the largest is not."""
    curve = detection_curve(sizes, found)
    if curve is None or curve[1] <= 0:
        return None
    limit = float(np.exp(min((np.log(share / (1 - share)) - curve[0]) / curve[1], 700.0)))  # a flat curve reaches it nowhere
    return None if limit > np.max(sizes) else max(limit, float(np.min(sizes)))


def f1_max(good: np.ndarray, bad: np.ndarray) -> float | None:
    """The best F1 over all thresholds, bad as the positive class."""
    if not len(good) or not len(bad):
        return None
    order = np.argsort(-np.concatenate([good, bad]), kind="stable")
    scores = np.concatenate([good, bad])[order]
    hits = np.cumsum(np.r_[np.zeros(len(good)), np.ones(len(bad))][order])
    last = np.r_[scores[1:] != scores[:-1], True]  # thresholds fall between different scores only
    f1 = 2 * hits / (np.arange(1, len(scores) + 1) + len(bad))
    return float(f1[last].max())


def pixel_auroc(maps: np.ndarray, masks: np.ndarray) -> float | None:
    """(n, H, W) anomaly maps and bool masks -> AUROC over all their pixels."""
    return auroc(maps[~masks], maps[masks])


def aupro(maps: np.ndarray, masks: np.ndarray, limit: float = 0.3) -> float | None:
    """Area under the per-region overlap up to the false-positive rate ``limit``, as a share of it (Bergmann et al. 2021, MVTec AD).

    A region is an 8-connected component of a mask; each counts the same, whatever its size.
    """
    outside = np.sort(maps[~masks])[::-1]
    regions = []
    for values, mask in zip(maps, masks, strict=True):
        labels, count = ndimage.label(mask, np.ones((3, 3)))
        regions += [np.sort(values[labels == k]) for k in range(1, count + 1)]
    if not regions or not len(outside):
        return None
    # every threshold at which new outside pixels fall in, thinned to 2000: the curve's point just above it, and the one at it
    steps = np.unique(np.linspace(0, min(np.ceil(limit * len(outside)), len(outside) - 1), 2000).astype(int))
    thresholds = np.unique(outside[steps])[::-1]
    fpr = np.stack([np.searchsorted(-outside, -thresholds, side) for side in ("left", "right")], 1).ravel() / len(outside)
    overlap = np.mean(
        [[1 - np.searchsorted(r, thresholds, side) / len(r) for side in ("right", "left")] for r in regions], axis=0
    ).T.ravel()
    end = np.interp(limit, fpr, overlap)
    keep = fpr < limit
    x, y = np.r_[fpr[keep], limit], np.r_[overlap[keep], end]
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2) / limit)


def named_right(names: Sequence[str | None], truths: Sequence[Sequence[str]]) -> float | None:
    """The share of named regions whose sub-component is among the true ones; an empty truth (the whole part) does not count."""
    judged = [name in truth for name, truth in zip(names, truths, strict=True) if truth]
    return float(np.mean(judged)) if judged else None
