"""Calibration on good images only: conformal p-values, and what a number of images can and cannot support."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from cad.errors import InputError


def images_needed(alpha: float) -> int:
    """The fewest good images with which a conformal p-value can reach ``alpha``: the least n with 1 / (n + 1) <= alpha."""
    return math.ceil(1 / alpha - 1 - 1e-9)


def check_alpha(alpha: float, count: int) -> None:
    """Raises InputError where ``count`` good images cannot support a false-reject rate of ``alpha``."""
    if not 0 < alpha < 1:
        raise InputError("--alpha", f"found {alpha:g}", wanted="a false-reject rate above 0 and below 1")
    if count < images_needed(alpha):
        raise InputError(
            "--alpha",
            f"{count} good images cannot support a false-reject rate of {alpha:g}",
            wanted=f"at least {images_needed(alpha)} images",
            step=f"add images, or use --alpha {math.ceil(1000 / (count + 1)) / 1000:g}" if count else "add images",
        )


@dataclass(frozen=True, eq=False)
class Conformal:
    """The scores of n good images, ascending, and the false-reject rate ``alpha`` that was asked for.

    Split conformal prediction (Vovk et al. 2005): if the images to come are exchangeable with these, a good one is
    rejected with probability at most ``alpha``.
    """

    scores: np.ndarray
    alpha: float

    def __post_init__(self) -> None:
        check_alpha(self.alpha, len(self.scores))

    def p_value(self, score: float) -> float:
        """(1 + how many good scores are at least this high) / (n + 1)."""
        return float((1 + len(self.scores) - np.searchsorted(self.scores, score, side="left")) / (len(self.scores) + 1))

    @property
    def threshold(self) -> float:
        """The score above which, and not at which, the p-value is at most alpha."""
        rank = math.floor(self.alpha * (len(self.scores) + 1) + 1e-9)  # so many good scores or fewer may lie above
        return float(self.scores[len(self.scores) - rank])

    def doubt(self, level: float = 0.9) -> float:
        """The lower end of the confidence interval (order statistics) of the good scores' (1 - alpha) quantile."""
        low = int(binom.ppf((1 - level) / 2, len(self.scores), 1 - self.alpha))
        return float(min(self.scores[max(low - 1, 0)], self.threshold))

    def verdict(self, score: float) -> str:
        """``fail``: p at most alpha. ``unsure``: not rejected, but with so few good images the true threshold may lie below it. ``pass``."""
        if not score <= self.threshold:  # what is no number fails too
            return "fail"
        return "unsure" if score > self.doubt() else "pass"
