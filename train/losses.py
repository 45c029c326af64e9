"""Losses on images (B, 1, S, S): each gives (B,), one number an image, so that no image's depends on its batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from train.images import USUAL

LEVELS = 3
BLUR = 1.0  # px: smoothing of a residual before its size is taken


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
    """(B,) mean |difference| of features (the discriminator's, or pretrained ones), each scale by its own mean size; 0 of none."""
    if not a:
        return torch.zeros(())
    total = torch.zeros(len(a[0]), device=a[0].device)
    for x, y in zip(a, b, strict=True):
        total = total + (x - y).abs().mean((1, 2, 3)) / (y.abs().mean((1, 2, 3)) + 1e-3)
    return total / len(a)


def perceptual_distance(a: Tensor, b: Tensor, normalize: str = "standard") -> Tensor:
    """(B,) :func:`feature_distance` of pretrained filters' responses (Johnson et al. 2016) to prepared images."""
    from train.filters import responses

    with torch.no_grad():
        wanted = responses(shown(b, normalize))
    return feature_distance(responses(shown(a, normalize)), wanted)


def shown(image: Tensor, normalize: str = "standard") -> Tensor:
    """What :func:`train.images.prepare` gives, as grey about a half: what lies beyond black and white still has a gradient."""
    return USUAL[0] + USUAL[1] * image if normalize == "brightness" else 0.5 + 0.4 * image


def blurred(image: Tensor, sigma: float = BLUR) -> Tensor:
    """Gaussian, (B, 1, H, W), reflecting borders."""
    reach = int(3 * sigma)
    offset = torch.arange(-reach, reach + 1, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-(offset**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    image = F.conv2d(F.pad(image, (reach, reach, 0, 0), mode="reflect"), kernel.view(1, 1, 1, -1))
    return F.conv2d(F.pad(image, (0, 0, reach, reach), mode="reflect"), kernel.view(1, 1, -1, 1))


def doubt_loss(image: Tensor, made: Tensor, log_size: Tensor) -> Tensor:
    """(B,) negative log-likelihood of the smoothed residual under a Laplace law of the given log scale (Kendall and Gal 2017)."""
    residual = blurred(image - made).abs()
    return (residual * torch.exp(-log_size) + log_size).mean((1, 2, 3))
