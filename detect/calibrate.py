"""Calibration on good images only: conformal p-values, and what a number of images can and cannot support."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import beta, binom

from cad.errors import InputError
from cad.files import read_json

CALIBRATION = "calibration.json"


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
    def rank(self) -> int:
        """The threshold's, from the highest good score down: the l of l / (n + 1) <= alpha."""
        return math.floor(self.alpha * (len(self.scores) + 1) + 1e-9)

    @property
    def threshold(self) -> float:
        """The score above which, and not at which, the p-value is at most alpha."""
        return float(self.scores[len(self.scores) - self.rank])

    def true_rate(self, level: float = 0.95) -> tuple[float, float]:
        """Between what shares the good parts to come that this threshold rejects lie, at ``level`` over calibrations with so many images.

        The l-th highest of n scores leaves a share above it that is distributed as Beta(l, n + 1 - l), whatever the scores are (Vovk 2012,
        "Conditional validity of inductive conformal predictors"): ``alpha`` holds on average over calibrations, this for the one at hand.
        Where scores are tied, less is rejected.
        """
        low, high = beta.ppf(((1 - level) / 2, (1 + level) / 2), self.rank, len(self.scores) + 1 - self.rank)
        return float(low), float(high)

    def doubt(self, level: float = 0.9) -> float:
        """The lower end of the confidence interval (order statistics) of the good scores' (1 - alpha) quantile."""
        low = int(binom.ppf((1 - level) / 2, len(self.scores), 1 - self.alpha))
        return float(min(self.scores[max(low - 1, 0)], self.threshold))

    def verdict(self, score: float) -> str:
        """``fail``: p at most alpha. ``unsure``: not rejected, but with so few good images the true threshold may lie below it. ``pass``."""
        if not score <= self.threshold:  # what is no number fails too
            return "fail"
        return "unsure" if score > self.doubt() else "pass"


def not_calibrated(folder: Path) -> InputError:
    return InputError(folder, "is not calibrated", wanted=CALIBRATION, step=calibrate_step(folder))


def calibrate_step(folder: Path) -> str:
    """The command that a run is calibrated by."""
    return f"detect calibrate GOOD_FOLDER --run {folder}"


def read_conformal(folder: Path) -> Conformal:
    """The scores and the rate of a run's calibration, whatever form it is of. Raises InputError where there is none, or a damaged one."""
    path = folder / CALIBRATION
    if not path.exists():
        raise not_calibrated(folder)
    data = read_json(path, "a calibration")
    try:
        scores = np.sort(np.asarray(data["scores"], float))
        if scores.ndim != 1 or not np.isfinite(scores).all():
            raise ValueError("scores that are no numbers")
        return Conformal(scores, float(data["alpha"]))
    except (KeyError, TypeError, ValueError, InputError) as error:
        raise InputError(path, f"is damaged: {type(error).__name__} {error}", wanted="a calibration", step=calibrate_step(folder)) from None
