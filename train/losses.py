"""Losses on images (B, 1, S, S): each gives (B,), one number an image, so that no image's depends on its batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LEVELS = 3


def laplacian_pyramid(image: Tensor, levels: int = LEVELS) -> list[Tensor]:
    """Band-pass images, finest first, the rest last (Burt and Adelson 1983): sizes S, S/2, S/4, ..."""
    bands = []
    for _ in range(levels):
        small = F.avg_pool2d(image, 2)
        bands.append(image - F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False))
        image = small
    return [*bands, image]


def pyramid_l1(a: Tensor, b: Tensor, levels: int = LEVELS) -> Tensor:
    """(B,) mean |difference| of each band, summed with equal weights (Bojanowski et al. 2018, up to their 4^j)."""
    return torch.stack([band.abs().mean((1, 2, 3)) for band in laplacian_pyramid(a - b, levels)]).sum(0)


def feature_distance(a: list[Tensor], b: list[Tensor]) -> Tensor:
    """(B,) mean |difference| of the discriminator's features, each scale by its own mean size."""
    total = torch.zeros(len(a[0]), device=a[0].device)
    for x, y in zip(a, b, strict=True):
        total = total + (x - y).abs().mean((1, 2, 3)) / (y.abs().mean((1, 2, 3)) + 1e-3)
    return total / len(a)
