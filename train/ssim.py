"""How alike two pictures are in structure, place by place (SSIM: Wang, Bovik, Sheikh and Simoncelli, IEEE Transactions on Image Processing 13, 2004)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d

K1, K2 = 0.01, 0.03  # of the range: what keeps the quotients apart from 0 / 0


def ssim(a: Tensor, b: Tensor, window: int = 11, sigma: float = 1.5, range: float = 2.0) -> Tensor:
    """(B, C, H, W) twice -> (B, 1, H, W) in [-1, 1], the mean over channels: 1 where all that a window sees is equal, and only there.

    Means, variances and covariance are weighted by a Gaussian of ``sigma`` px within ``window`` x ``window``, an odd number of px; at the border by
    what of it lies in the picture. ``range``: between the darkest and the brightest value that there can be: 2 of what :func:`train.images.prepare`
    gives of ``none``. Half precision is raised to float32, under autocast too: variances are small differences. A gradient flows to both.

    As a loss, ``1 - ssim(a, b).mean((1, 2, 3))``.
    """
    if window % 2 != 1:
        raise ValueError(f"a window of {window} px has no middle")
    a, b = (x if x.dtype == torch.float64 else x.float() for x in (a, b))
    with torch.autocast(a.device.type, enabled=False):
        held = _blur(torch.ones_like(a[:1, :1]), window, sigma)
        mean_a, mean_b, square_a, square_b, product = (_blur(x, window, sigma) / held for x in (a, b, a * a, b * b, a * b))
        c1, c2 = (K1 * range) ** 2, (K2 * range) ** 2
        vary_a, vary_b = square_a - mean_a**2, square_b - mean_b**2  # not cut off at 0: equal pictures round alike above and below the line
        light = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
        structure = (2 * (product - mean_a * mean_b) + c2) / (vary_a + vary_b + c2)
        return (light * structure).mean(1, keepdim=True)


def _blur(x: Tensor, window: int, sigma: float) -> Tensor:
    """By a Gaussian along rows, then columns; zeros beyond the border."""
    along = torch.arange(window, dtype=x.dtype, device=x.device) - window // 2
    weight = torch.exp(-0.5 * (along / sigma) ** 2)
    weight = (weight / weight.sum()).expand(x.shape[1], 1, 1, window)
    rows = conv2d(x, weight, padding=(0, window // 2), groups=x.shape[1])
    return conv2d(rows, weight.transpose(2, 3), padding=(window // 2, 0), groups=x.shape[1])
