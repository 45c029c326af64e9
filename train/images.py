"""From 8-bit pictures to what the networks see. Kept with the run, so that training and inspection prepare alike."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
GREY = np.array(LUMA, np.float32)
WHITE, DARKEST = 0.9, 0.02  # the quantile of an image's greys that is its white; the least that it counts as
# of white: a bright photograph's middle grey (a nut's, a solar cell's), and twice its deviation; what begins about 0 learns from such numbers soonest
USUAL = (5 / 6, 1 / 3)


def grey(images: np.ndarray) -> np.ndarray:
    """(n, H, W, 3) uint8 sRGB -> (n, H, W) float32 in [0, 1]."""
    return images.astype(np.float32) @ (GREY / 255)


def prepare(images: np.ndarray, normalize: str) -> Tensor:
    """(n, H, W, 3) uint8 -> (n, 1, H, W) float32: grey; ``standard``: less its image's mean, over twice its deviation, so that neither brightness nor
    contrast is seen; ``brightness``: over its image's white, so that contrast is; ``none``: as photographed, in [-1, 1]."""
    values = torch.from_numpy(grey(images))[:, None]
    middle, unit = _scale(values, normalize)
    return (values - middle) / unit


def restore(forms: Tensor, images: np.ndarray, normalize: str) -> np.ndarray:
    """(n, 1, H, W) of what :func:`prepare` gives -> (n, H, W) float32 in [0, 1], in the greys of ``images`` (n, H, W, 3) uint8."""
    middle, unit = _scale(torch.from_numpy(grey(images))[:, None], normalize)
    return (forms.float().cpu() * unit + middle)[:, 0].clamp(0, 1).numpy()


def _scale(values: Tensor, normalize: str) -> tuple[Tensor, Tensor]:
    """The grey that each image's (n, 1, H, W) has as 0, and that which it has as 1 more; (n, 1, 1, 1)."""
    if normalize == "standard":
        return values.mean((1, 2, 3), keepdim=True), 2 * values.std((1, 2, 3), keepdim=True) + 1e-2
    if normalize == "brightness":
        white = np.quantile(values.numpy(), WHITE, axis=(1, 2, 3), keepdims=True).clip(min=DARKEST)
        return tuple(torch.from_numpy((share * white).astype(np.float32)) for share in USUAL)
    half = torch.full((len(values), 1, 1, 1), 0.5)
    return half, half


def disturbed(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """A copy in which a ``share`` of the images has one soft-edged ellipse replaced by another image's pixels, shifted grey or noise.

    The encoder learns to answer with the good form behind it: nothing of the part's own defects is used.
    """
    count, _, height, width = images.shape
    draw = torch.rand((count, 8), generator=generator).to(images.device)
    y = torch.linspace(0, 1, height, device=images.device).view(1, height, 1) - draw[:, 0].view(-1, 1, 1)
    x = torch.linspace(0, 1, width, device=images.device).view(1, 1, width) - draw[:, 1].view(-1, 1, 1)
    cos, sin = torch.cos(6.2832 * draw[:, 2]).view(-1, 1, 1), torch.sin(6.2832 * draw[:, 2]).view(-1, 1, 1)
    long, wide = 0.03 + 0.12 * draw[:, 3].view(-1, 1, 1), 0.03 + 0.12 * draw[:, 4].view(-1, 1, 1)
    inside = ((x * cos + y * sin) / long) ** 2 + ((y * cos - x * sin) / wide) ** 2
    blend = torch.sigmoid(8 * (1 - inside))[:, None] * (draw[:, 5] < share).float().view(-1, 1, 1, 1)
    other = torch.where((draw[:, 6] < 0.5).view(-1, 1, 1, 1), images.roll(1, 0), images + (2 * draw[:, 7] - 1).view(-1, 1, 1, 1))
    return images * (1 - blend) + other * blend


def resized(images: np.ndarray, size: int) -> np.ndarray:
    """(n, H, W, 3) uint8 at ``size`` px: area-averaged down, bicubic up."""
    if images.shape[1:3] == (size, size):
        return images
    from PIL import Image

    way = (
        Image.Resampling.BOX
        if images.shape[1] % size == 0
        else Image.Resampling.LANCZOS
        if images.shape[1] > size
        else Image.Resampling.BICUBIC
    )
    return np.stack([np.asarray(Image.fromarray(i).resize((size, size), way)) for i in images])
