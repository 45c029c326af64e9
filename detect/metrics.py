"""Figures of a detector: image and pixel AUROC, AUPRO, AUPIMO, average precision, F1max, TPR at 1 % FPR, intervals, detection limits.

What a set cannot tell is None.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from scipy.stats import beta, betabinom, binom, rankdata

BOOTSTRAPS = 1000
LOW, HIGH = 1e-5, 1e-4  # shares of good images' pixels between which AUPIMO looks


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


def share_interval(hits: int, count: int, *, level: float = 0.95) -> tuple[float, float] | None:
    """The exact interval of a share of which ``hits`` of ``count`` were seen (Clopper and Pearson 1934)."""
    if not count:
        return None
    tail = (1 - level) / 2
    low = beta.ppf(tail, hits, count - hits + 1) if hits else 0.0
    high = beta.ppf(1 - tail, hits + 1, count - hits) if hits < count else 1.0
    return float(low), float(high)


def rejections_expected(count: int, alpha: float, calibrated_on: int | None = None, *, level: float = 0.95) -> tuple[int, int]:
    """Between how many of ``count`` good images are rejected at a rate of ``alpha``, in ``level`` of such sets: the binomial law.

    With ``calibrated_on``, where the threshold is the conformal one of so many good images: its own rate varies, and the number rejected
    is beta-binomial.
    """
    law = binom(count, alpha) if calibrated_on is None else betabinom(count, *_true_rate(alpha, calibrated_on))
    return int(law.ppf((1 - level) / 2)), int(law.ppf((1 + level) / 2))


def rate_at_most(alpha: float, calibrated_on: int, *, level: float = 0.95) -> float:
    """What the rate of false rejects of a conformal threshold, stated as ``alpha``, does not exceed with a confidence of ``level``."""
    return float(beta.ppf(level, *_true_rate(alpha, calibrated_on)))


def _true_rate(alpha: float, count: int) -> tuple[int, int]:
    """The Beta law of the rate of false rejects over all thresholds that ``count`` good images might have given (Vovk 2012)."""
    above = int(np.floor(alpha * (count + 1) + 1e-9))  # so many of them or fewer lie above the threshold, itself included
    return above, count + 1 - above


def roc(good: np.ndarray, bad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(k,) false and (k,) true positive rates, from (0, 0) to (1, 1): a point for each different score. Of non-empty sets."""
    steps = np.unique(np.concatenate([good, bad]))[::-1]
    return tuple(np.r_[0.0, 1 - np.searchsorted(np.sort(v), steps, side="left") / len(v)] for v in (good, bad))


def precision_recall(good: np.ndarray, bad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(k,) precision and (k,) recall, a point for each different score, highest first. Of non-empty sets; precision hangs on how many
    of each are in them."""
    fpr, tpr = (v[1:] for v in roc(good, bad))
    return tpr * len(bad) / (tpr * len(bad) + fpr * len(good)), tpr


def average_precision(good: np.ndarray, bad: np.ndarray) -> float | None:
    """The mean precision over recall, not interpolated."""
    if not len(good) or not len(bad):
        return None
    precision, recall = precision_recall(good, bad)
    return float(np.diff(recall, prepend=0.0) @ precision)


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


def aupimo(maps: np.ndarray, masks: np.ndarray, low: float = LOW, high: float = HIGH) -> np.ndarray | None:
    """(k,) in [0, 1]: for each image with a defect, the share of its mask that is found, averaged over the logarithm of the false-positive
    rate from ``low`` to ``high`` (Bertoldo et al. 2024, AUPIMO).

    ``maps`` and bool ``masks`` are (n, H, W); the images with an empty mask are the good ones, and the rate is of their pixels alone: at
    each rate all images share the lowest threshold that no more of these exceed. None where there is no mask, or where ``low`` is
    less than one pixel of all good images (100,000 of them are wanted for the paper's bounds): such a set cannot resolve it.
    """
    defective = masks.any((1, 2))
    outside = np.sort(maps[~defective], axis=None)[::-1]
    if not defective.any() or len(outside) * low < 1 - 1e-9:
        return None
    allowed = np.arange(int(len(outside) * low + 1e-9), int(np.ceil(len(outside) * high - 1e-9)))  # false positives
    edges = np.log(np.clip(np.r_[allowed, allowed[-1] + 1] / len(outside), low, high))
    found = [1 - np.searchsorted(np.sort(m[k]), outside[allowed], side="right") / k.sum() for m, k in zip(maps[defective], masks[defective], strict=True)]  # fmt: skip
    return np.array(found) @ np.diff(edges) / np.log(high / low)


def named_right(names: Sequence[str | None], truths: Sequence[Sequence[str]]) -> float | None:
    """The share of named regions whose sub-component is among the true ones; an empty truth (the whole part) does not count."""
    judged = [name in truth for name, truth in zip(names, truths, strict=True) if truth]
    return float(np.mean(judged)) if judged else None
