"""PatchCore and PaDiM on EfficientNet-Lite0's filters (:mod:`train.filters`): a memory of good patches, and a Gaussian at each place.

Both papers take a larger backbone; what is compared here is that every detector runs on the same small computer.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from cad.errors import InputError
from train.filters import SIDE, available, features
from train.images import grey, resized
from train.places import SMOOTH, Places

CHUNK, FITTED = 8, 64  # pictures whose patches are seen, or compared, together; whose are summed up together
POOL, COVER, PROJECTED = 100_000, 5_000, 64  # patches drawn from all; centres kept of them; numbers by which centres are chosen
NEAR = 9  # neighbours of the nearest centre that a score is weighted by
CHANNELS = 100  # that each place's Gaussian knows


def patches(images: np.ndarray) -> np.ndarray:
    """(n, S, S, 3) uint8 -> (n, CELLS, CELLS, C) float32. Raises InputError where the extra ``features`` is not installed."""
    if not available():
        raise InputError(
            "patchcore and padim", "want pretrained filters", wanted="the extra features", step="pip install 'formspect[features]'"
        )
    seen = grey(resized(images, SIDE))
    return np.concatenate([features(seen[i : i + CHUNK]) for i in range(0, len(seen), CHUNK)])


def learn_patchcore(seen: np.ndarray, seed: int) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """(n, CELLS, CELLS, C) of good pictures -> what tells (m,) scores and (m, CELLS, CELLS) maps (Roth et al. 2022).

    Patches are thinned by greedy k-centre, so that rare good ones stay. A patch's distance is that to the nearest centre; a picture's score is its
    furthest patch's, less where that centre itself lies apart from its neighbours (their equation 7).
    """
    every = torch.from_numpy(seen.reshape(-1, seen.shape[-1]))
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(len(every), generator=generator)[:POOL].sort().values
    pool = every[drawn]
    bank = pool[centres(pool, COVER, generator)]
    square = bank.pow(2).sum(1)

    def look(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        parts = [_compared(torch.from_numpy(x[i : i + CHUNK]), bank, square) for i in range(0, len(x), CHUNK)]
        scores, maps = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
        return scores.astype(float), ndimage.gaussian_filter(maps, (0, SMOOTH, SMOOTH))

    return look


def centres(points: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Indices of ``count`` of the (n, C) points, each the furthest from those before it, by a random projection to PROJECTED numbers.

    Greedy k-centre: no point is further from a centre than twice what the best choice would leave (Gonzalez 1985).
    """
    if count >= len(points):
        return torch.arange(len(points))
    if points.shape[1] > PROJECTED:
        points = points @ torch.randn(points.shape[1], PROJECTED, generator=generator).div(PROJECTED**0.5)
    square = points.pow(2).sum(1)
    chosen = torch.empty(count, dtype=torch.long)
    chosen[0] = torch.randint(len(points), (1,), generator=generator)
    far = torch.full((len(points),), torch.inf)
    for k in range(1, count):
        last = chosen[k - 1]
        torch.minimum(far, torch.addmv(square, points, points[last], alpha=-2).add_(square[last]), out=far)
        chosen[k] = far.argmax()
    return chosen


def _compared(x: Tensor, bank: Tensor, square: Tensor) -> tuple[Tensor, Tensor]:
    """(n, h, w, C) -> (n,) weighted scores, (n, h, w) distances to the nearest of ``bank``, whose lengths squared are ``square``."""
    n, h, w, channels = x.shape
    flat = x.reshape(-1, channels)
    gap, nearest = torch.addmm(square, flat, bank.T, alpha=-2).min(1)
    far = (gap + flat.pow(2).sum(1)).clamp(min=0).sqrt().view(n, h * w)
    worst, at = far.max(1)
    patch = x.reshape(n, h * w, channels)[torch.arange(n), at]
    centre = bank[nearest.view(n, h * w)[torch.arange(n), at]]
    near = torch.cdist(centre, bank).topk(min(NEAR, len(bank)), largest=False).indices
    others = (bank[near] - patch[:, None]).norm(dim=2)
    weight = 1 - torch.exp(worst - torch.logsumexp(others, 1)) if len(bank) > 1 else torch.ones(n)
    return weight * worst, far.view(n, h, w)


def learn_padim(seen: np.ndarray, seed: int) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """(n, CELLS, CELLS, C) of good pictures -> what tells (m,) scores and (m, CELLS, CELLS) maps (:class:`train.places.Places`), by CHANNELS channels that the
    seed draws. Its ridge told the elpv cells better than the paper's (AUROC 0.95 against 0.94 on mono)."""
    channels = torch.randperm(seen.shape[-1], generator=torch.Generator().manual_seed(seed))[:CHANNELS]

    def drawn(x: np.ndarray) -> Tensor:
        return torch.from_numpy(x)[..., channels].permute(0, 3, 1, 2)

    places = Places.of(drawn(seen[i : i + FITTED]) for i in range(0, len(seen), FITTED))
    return lambda x: places.look(drawn(x))
