"""Fréchet distances between Gaussians of codes (Dowson and Landau 1982), as Heusel et al. 2017 measure a generator by.

All give the square, d^2 = |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)), in the codes' unit squared, from codes (n, Z) of any float type, n at
least 2, computed in float64 with covariances over n - 1. It falls with n towards its true value: compare sets of like size, or shrink.
"""

from __future__ import annotations

import torch
from torch import Tensor


def frechet(a: Tensor, b: Tensor, shrinkage: float | None = 0.0) -> float:
    """Between sets (n, Z) and (m, Z). ``shrinkage`` in [0, 1] moves each covariance so far towards its own mean variance in every
    direction, for few codes in many dimensions; None lets each set say how far (Ledoit and Wolf 2004)."""
    (mean_a, root_a), (mean_b, root_b) = _gaussian(a, shrinkage), _gaussian(b, shrinkage)
    if len(mean_a) != len(mean_b):
        raise ValueError(f"codes of {len(mean_a)} and of {len(mean_b)} dimensions")
    # with C = R'R the eigenvalues of the symmetric C^(1/2) C' C^(1/2) are the squared singular values of R R'^T: nothing is squared to be
    # rooted again, and covariances without full rank need no care
    cross = torch.linalg.svdvals(root_a @ root_b.T).sum()
    return _positive((mean_a - mean_b).square().sum() + root_a.square().sum() + root_b.square().sum() - 2 * cross)


def frechet_diagonal(a: Tensor, b: Tensor) -> float:
    """The same with every dimension by itself, correlations left out: for many dimensions and few codes."""
    (mean_a, off_a), (mean_b, off_b) = _centred(a), _centred(b)
    return float((mean_a - mean_b).square().sum() + (_deviation(off_a) - _deviation(off_b)).square().sum())


def frechet_standard(codes: Tensor, shrinkage: float | None = 0.0) -> float:
    """Of a set (n, Z) to the standard normal law, from which a generator's codes are drawn."""
    mean, root = _gaussian(codes, shrinkage)
    return _positive(mean.square().sum() + root.square().sum() + len(mean) - 2 * torch.linalg.svdvals(root).sum())


def ledoit_wolf(codes: Tensor) -> float:
    """In [0, 1]: the shrinkage of (n, Z) codes' covariance that is best in the mean square, whatever the law (Ledoit and Wolf 2004)."""
    _, off = _centred(codes)
    n, z = off.shape
    gram = off @ off.T if n < z else off.T @ off  # the same eigenvalues
    size = gram.square().sum() / n**2  # of the covariance, over n as the paper has it
    spread = size - (off.square().sum() / n) ** 2 / z
    noise = (off.square().sum(1).square().sum() / n - size) / n
    return float((noise / spread).clamp(0, 1)) if spread > 0 else 1.0


def _gaussian(codes: Tensor, shrinkage: float | None) -> tuple[Tensor, Tensor]:
    """(Z,) mean and (<= Z, Z) R of the covariance R'R."""
    mean, off = _centred(codes)
    n, z = off.shape
    share = ledoit_wolf(codes) if shrinkage is None else shrinkage
    if not 0 <= share <= 1:
        raise ValueError(f"shrinkage {share}: 0 to 1 is wanted")
    rows = off * ((1 - share) / (n - 1)) ** 0.5
    if share:
        even = (share * off.square().sum() / (n - 1) / z).sqrt()
        rows = torch.cat([rows, even * torch.eye(z, dtype=rows.dtype, device=rows.device)])
    return mean, torch.linalg.qr(rows, mode="r").R


def _centred(codes: Tensor) -> tuple[Tensor, Tensor]:
    if codes.dim() != 2 or len(codes) < 2:
        raise ValueError(f"found codes {tuple(codes.shape)}; (n, Z) with n at least 2 is wanted")
    codes = codes.detach().double()
    mean = codes.mean(0)
    return mean, codes - mean


def _deviation(off: Tensor) -> Tensor:
    return (off.square().sum(0) / (len(off) - 1)).sqrt()


def _positive(square: Tensor) -> float:
    return float(square.clamp(min=0))  # rounding may leave a hair below
