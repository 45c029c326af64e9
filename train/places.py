"""A Gaussian of features at each place of pictures that lie alike (PaDiM: Defard et al. 2021)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

RIDGE = 0.1  # of the mean variance, added to each channel's
SMOOTH = 0.5  # cells, of the maps


@dataclass(frozen=True, eq=False)
class Places:
    """``middle`` (P, C) and ``whiten`` (P, C, C) float32 of P = h * w places: the latter makes of what a good picture has there, less the former, a vector
    of unit covariance, but for the ridge."""

    middle: Tensor
    whiten: Tensor

    @classmethod
    def of(cls, parts: Iterable[Tensor], *, alike: bool = False) -> Places:
        """From good pictures' features, (n, C, h, w) a part. ``alike``: channels of whatever scale count alike, else by their variance.

        The paper's ridge of 0.01 is for larger answers: here it is a share of the channels' variance.
        """
        count, total, square, shift = 0, None, None, None
        for part in parts:
            seen = _by_place(part).double()
            if shift is None:  # of the first pictures' mean little is lost to rounding
                shift = seen.mean(1, keepdim=True)
                total, square = torch.zeros_like(shift), seen.new_zeros(len(seen), seen.shape[2], seen.shape[2])
            off = seen - shift
            count += seen.shape[1]
            total += off.sum(1, keepdim=True)
            square += off.transpose(1, 2) @ off
        middle = total / count
        spread = (square - count * middle.transpose(1, 2) @ middle) / max(count - 1, 1)
        middle = (middle + shift)[:, 0]
        unit = torch.ones_like(middle[0])
        if alike:
            unit = (spread.diagonal(dim1=1, dim2=2).mean(0) + middle.var(0, correction=0) + 1e-12).sqrt()
        spread = spread / (unit[:, None] * unit)
        ridge = RIDGE * spread.diagonal(dim1=1, dim2=2).mean() + 1e-9
        eye = torch.eye(len(unit), dtype=spread.dtype, device=spread.device)
        whiten = torch.linalg.solve_triangular(torch.linalg.cholesky(spread + ridge * eye), eye, upper=False) / unit
        return cls(middle.float(), whiten.float())

    def look(self, features: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """(B, C, h, w) -> (B,) float64, the highest of each map, and the (B, h, w) maps of Mahalanobis distances, smoothed. Each picture by itself."""
        off = (_by_place(features) - self.middle[:, None]).transpose(1, 2)
        maps = (self.whiten @ off).pow(2).sum(1).sqrt().T.reshape(-1, *features.shape[2:]).cpu().numpy()
        smooth = ndimage.gaussian_filter(maps, (0, SMOOTH, SMOOTH))
        return smooth.max((1, 2)).astype(float), smooth


def _by_place(features: Tensor) -> Tensor:
    """(n, C, h, w) -> (h * w, n, C)."""
    return features.flatten(2).permute(2, 0, 1).contiguous()
