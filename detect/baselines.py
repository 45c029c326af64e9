"""What a user would pick instead, one entry each: the detectors that a score of ours stands beside.

All learn from good pictures alone, from one interface: ``BASELINES[name].fit(images, seed).scores(images)``. What a baseline sees of a picture hangs
on that picture alone, so that no score depends on what else is in the batch, and baselines that see alike can share what was seen.

Each has the settings that its field uses. Where they mattered (PCA to 16, 32, 64 or 128 numbers, whitened or not; 1 to 12 components; 5 to 50
neighbours; kernels of 0.25 to 32; a pixel's mean, mean square or highest) one is taken that did well on the test photographs of the elpv solar cells
(:mod:`pipelines.elpv`), mono and poly together: in the baselines' favour, who are not to be blamed for a poor choice.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cad.errors import InputError

CHUNK = 16  # pictures looked at together
THUMB = 32  # px of what the classical three see
KEPT = 32  # principal components
COMPONENTS, SAMPLES, RIDGE = 8, 16, 1e-2  # of the mixture; good pictures that one wants; of the mean variance, added to each
KERNEL, OUTSIDE = 8.0, 0.1  # gamma times the number of components; the share of good pictures that may lie outside
NEIGHBOURS = 35
SIDE = 64  # px of the mean image
FLOOR = 0.1  # of the median deviation: the least that a pixel is said to vary by

Look = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]


@dataclass(frozen=True, eq=False)
class Fitted:
    """``see``: (n, S, S, 3) uint8 -> (n, ...) float, each picture by itself. ``look``: of that, (n,) scores, and (n, h, w) maps or None."""

    see: Callable[[np.ndarray], np.ndarray]
    look: Look

    def _looks(self, images: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        return (self.look(self.see(images[i : i + CHUNK])) for i in range(0, len(images), CHUNK))

    def scores(self, images: np.ndarray) -> np.ndarray:
        """(n, S, S, 3) uint8 -> (n,) float64, the higher the stranger."""
        return np.concatenate([np.zeros(0), *(scores for scores, _ in self._looks(images))]).astype(np.float64)

    def maps(self, images: np.ndarray) -> np.ndarray | None:
        """(n, S, S, 3) uint8 -> (n, S, S) float32, where the strangeness lies; None of a baseline that does not tell."""
        found = [maps for _, maps in self._looks(images)]
        if not found or any(maps is None for maps in found):
            return None
        import torch
        from torch.nn.functional import interpolate

        small = torch.from_numpy(np.concatenate(found).astype(np.float32))[:, None]
        return interpolate(small, images.shape[1:3], mode="bilinear", align_corners=False)[:, 0].numpy()


@dataclass(frozen=True)
class Baseline:
    """``about``: what it learns; ``paper``: whose it is; ``see``: as of :class:`Fitted`; ``learn``: what was seen of good pictures, and a seed,
    to a ``look``; ``maps``: whether it tells where; ``extra``: what has to be installed beside the package."""

    about: str
    paper: str
    see: Callable[[np.ndarray], np.ndarray]
    learn: Callable[[np.ndarray, int], Look]
    maps: bool = False
    extra: str | None = None

    def fit(self, images: np.ndarray, seed: int = 0) -> Fitted:
        """From good pictures, (n, S, S, 3) uint8. Raises InputError for fewer than two, or where the extra is not installed."""
        if len(images) < 2:
            raise InputError("good pictures", f"found {len(images)}", wanted="at least 2 to learn from")
        return Fitted(self.see, self.learn(self.see(images), seed))


def thumbs(images: np.ndarray) -> np.ndarray:
    """(n, S, S, 3) uint8 -> (n, THUMB * THUMB) float64: grey, less each picture's mean, over twice its deviation."""
    return _prepared(images, THUMB).reshape(len(images), -1)


def small(images: np.ndarray) -> np.ndarray:
    """(n, S, S, 3) uint8 -> (n, SIDE, SIDE) float64, as :func:`thumbs`."""
    return _prepared(images, SIDE)


def _prepared(images: np.ndarray, side: int) -> np.ndarray:
    from train.images import prepare, resized

    return prepare(resized(images, side), "standard")[:, 0].numpy().astype(np.float64)


def colours(images: Sequence[np.ndarray]) -> np.ndarray:
    """n pictures (H, W, 3) uint8 -> (n, 6): the mean and the deviation of R, G, B."""
    return np.array([[*i.mean((0, 1)), *i.std((0, 1))] for i in images], float).reshape(-1, 6)


def learn_mixture(seen: np.ndarray, seed: int) -> Look:
    """Gaussians with full covariances on principal components, fitted by EM from k-means; the score is minus the logarithm of the density."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    reduce = _components(seen, whiten=False)
    count = min(COMPONENTS, max(1, len(seen) // SAMPLES))
    model = GaussianMixture(count, reg_covar=RIDGE, n_init=3, max_iter=300, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(reduce(seen))
    return lambda x: (-model.score_samples(reduce(x)), None)


def learn_svm(seen: np.ndarray, seed: int) -> Look:
    """A boundary about the whitened principal components, by a Gaussian kernel; it draws nothing."""
    from sklearn.svm import OneClassSVM

    reduce = _components(seen, whiten=True)
    good = reduce(seen)
    model = OneClassSVM(gamma=KERNEL / good.shape[1], nu=OUTSIDE).fit(good)
    return lambda x: (-model.decision_function(reduce(x)), None)


def learn_outliers(seen: np.ndarray, seed: int) -> Look:
    """How much sparser a picture lies than its neighbours do, by distances of principal components; it draws nothing."""
    from sklearn.neighbors import LocalOutlierFactor

    reduce = _components(seen, whiten=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of good pictures that are alike
        model = LocalOutlierFactor(min(NEIGHBOURS, len(seen) // 2), novelty=True)  # of all others, it would tell nothing
        model.fit(reduce(seen))
    return lambda x: (-model.score_samples(reduce(x)), None)


def _components(seen: np.ndarray, *, whiten: bool) -> Callable[[np.ndarray], np.ndarray]:
    """To the first KEPT principal components of good pictures: each of unit variance, or all of unit variance on average."""
    middle, count = seen.mean(0), min(KEPT, len(seen) - 1)
    _, lengths, axes = np.linalg.svd(seen - middle, full_matrices=False)
    variance = lengths[:count] ** 2 / (len(seen) - 1)
    scale = np.sqrt(np.maximum(variance if whiten else variance.mean(), 1e-12 + 1e-6 * variance.mean()))
    return lambda x: (x - middle) @ axes[:count].T / scale


def learn_mean_image(seen: np.ndarray, seed: int) -> Look:
    """How far each pixel is from the mean image, in that pixel's deviations; the score is the mean of the squares. It draws nothing."""
    middle, deviation = seen.mean(0), seen.std(0)
    spread = np.maximum(np.hypot(deviation, FLOOR * np.median(deviation)), 1e-3)

    def look(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        off = np.abs(x - middle) / spread
        return (off**2).mean((1, 2)), off

    return look


def learn_colour(seen: np.ndarray, seed: int) -> Look:
    """Mahalanobis distances of :func:`colours`. It draws nothing."""
    middle, inverse = seen.mean(0), np.linalg.inv(np.cov(seen.T) + 1e-3 * np.eye(6))
    return lambda x: (np.sqrt(np.einsum("ij,jk,ik->i", x - middle, inverse, x - middle)), None)


def colour_scores(calibration: Sequence[np.ndarray], images: Sequence[np.ndarray]) -> np.ndarray:
    """(n,) Mahalanobis distances of mean and deviation of R, G, B from those of good ``calibration`` pictures, each (H, W, 3) uint8.

    It sees neither place nor shape: what it separates, it separates by colour or brightness alone.
    """
    return learn_colour(colours(calibration), 0)(colours(images))[0]


def _patches(images: np.ndarray) -> np.ndarray:
    from detect.patch_baselines import patches

    return patches(images)


def _patchcore(seen: np.ndarray, seed: int) -> Look:
    from detect.patch_baselines import learn_patchcore

    return learn_patchcore(seen, seed)


def _padim(seen: np.ndarray, seed: int) -> Look:
    from detect.patch_baselines import learn_padim

    return learn_padim(seen, seed)


BASELINES: dict[str, Baseline] = {
    "gaussian-mixture": Baseline(
        "the density of small grey pictures, as a sum of Gaussians",
        "Bishop, Pattern Recognition and Machine Learning, 2006, section 9.2",
        thumbs, learn_mixture,
    ),
    "one-class-svm": Baseline(
        "a boundary around small grey pictures",
        "Schölkopf et al., Estimating the support of a high-dimensional distribution, Neural Computation 13, 2001",
        thumbs, learn_svm,
    ),
    "outlier-factor": Baseline(
        "how densely small grey pictures lie next to each other",
        "Breunig et al., LOF: identifying density-based local outliers, SIGMOD 2000",
        thumbs, learn_outliers,
    ),
    "mean-image": Baseline(
        "each pixel's mean and deviation",
        "none: the least that a learned form has to beat",
        small, learn_mean_image, maps=True,
    ),
    "colour": Baseline(
        "mean and deviation of R, G, B, blind to place and shape",
        "none: what it separates, no detector of shape should be praised for",
        colours, learn_colour,
    ),
    "patchcore": Baseline(
        "a thinned memory of pretrained filters' answers, compared patch by patch wherever they lie",
        "Roth et al., Towards total recall in industrial anomaly detection, CVPR 2022",
        _patches, _patchcore, maps=True, extra="features",
    ),
    "padim": Baseline(
        "a Gaussian of pretrained filters' answers at each place",
        "Defard et al., PaDiM: a patch distribution modeling framework for anomaly detection and localization, ICPR 2021",
        _patches, _padim, maps=True, extra="features",
    ),
}  # fmt: skip
