"""How usual a photograph is among good ones: the density of its descriptor, and several terms as one score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import logsumexp

from cad.errors import InputError

KEPT, EACH = 64, 4  # principal components at most; good descriptors that one wants
MOST = 2048  # good descriptors that are asked
NARROWEST = 1e-3  # of the first component's variance: the least that one counts as
JOIN = "+"  # between the terms of a score
LEAST, NARROWEST_TERM = 1e-9, 1e-2  # of a term, before its logarithm; of how that spreads
HIGHEST = 500.0  # logarithm of a score over what is usual: the number stays finite


@dataclass(frozen=True, eq=False)
class Density:
    """The density of good parts' descriptors: Gaussian kernels about each (Parzen 1962), on their principal components at unit variance, as wide as
    Scott's rule (1992) has it. A nearest form may fit a photograph well and yet be one that no good part has: its code says so."""

    middle: np.ndarray
    axes: np.ndarray  # (D, k), over each one's deviation
    points: np.ndarray  # (n, k)
    width: float

    @classmethod
    def of(cls, good: np.ndarray) -> Density:
        """(n, D), n at least 2."""
        codes = good[:: -(-len(good) // MOST)].astype(np.float64)
        middle, count = codes.mean(0), len(codes)
        _, lengths, axes = np.linalg.svd(codes - middle, full_matrices=False)
        kept = max(1, min(KEPT, count // EACH, len(axes)))
        variance = lengths[:kept] ** 2 / (count - 1)
        axes = axes[:kept].T / np.sqrt(np.maximum(variance, NARROWEST * variance[0] + 1e-12))
        return cls(middle, axes, (codes - middle) @ axes, count ** (-1 / (kept + 4)))

    def rarity(self, seen: np.ndarray) -> np.ndarray:
        """(B, D) -> (B,) float64: minus the logarithm of the density, less what it would be were all good ones there: 0 or more. Each row by itself."""
        apart = ((seen.astype(np.float64) - self.middle) @ self.axes)[:, None] - self.points
        return np.maximum(np.log(len(self.points)) - logsumexp(-(apart**2).sum(2) / (2 * self.width**2), axis=1), 0.0)


@dataclass(frozen=True)
class Joint:
    """Several terms as one score, each as strange as it is among good parts: their logarithms' deviations there, of which the strangest counts most and
    all count (the logarithm of their exponentials' mean), in the first one's unit. Where a defect moves all, it tells about as well as the deviations' sum
    does (Stouffer et al. 1949); where a term knows nothing of it, better.

    ``typical`` and ``spread``: each term's geometric mean among good images, and its logarithm's deviation."""

    names: tuple[str, ...]
    typical: tuple[float, ...]
    spread: tuple[float, ...]

    @classmethod
    def of(cls, names: Sequence[str], good: dict[str, np.ndarray]) -> Joint:
        """From what good images have. Raises InputError for an unknown term, or one that is no size and has no logarithm."""
        for name in names:
            if name not in good:
                raise InputError("--score", f'found "{name}"', wanted=f"one or more of {', '.join(good)}, with {JOIN} between")
            if len(names) > 1 and good[name].min() < 0:
                raise InputError("--score", f'found "{name}" beside others, and it may be negative', wanted="it alone")
        if len(names) == 1:
            return cls(tuple(names), (1.0,), (1.0,))
        logs = [np.log(np.maximum(good[n], LEAST)) for n in names]
        return cls(tuple(names), tuple(float(np.exp(v.mean())) for v in logs), tuple(max(float(v.std()), NARROWEST_TERM) for v in logs))

    def score(self, terms: dict[str, np.ndarray]) -> np.ndarray:
        """(B,) float64 of the terms' (B,)."""
        if len(self.names) == 1:
            return np.asarray(terms[self.names[0]], np.float64)
        ways = zip(self.names, self.typical, self.spread, strict=True)
        deviations = [np.log(np.maximum(terms[n], LEAST) / t) / s for n, t, s in ways]
        strangest = logsumexp(deviations, axis=0) - np.log(len(self.names))
        return self.typical[0] * np.exp(np.minimum(self.spread[0] * strangest, HIGHEST))

    def json(self) -> dict[str, Any]:
        return {"names": list(self.names), "typical": list(self.typical), "spread": list(self.spread)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Joint:
        return cls(tuple(data["names"]), tuple(map(float, data["typical"])), tuple(map(float, data["spread"])))
