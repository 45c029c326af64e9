"""From 8-bit pictures to what the networks see. Kept with the run, so that training and inspection prepare alike."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
GREY = np.array(LUMA, np.float32)


def grey(images: np.ndarray) -> np.ndarray:
    """(n, H, W, 3) uint8 sRGB -> (n, H, W) float32 in [0, 1]."""
    return images.astype(np.float32) @ (GREY / 255)


def prepare(images: np.ndarray, normalize: str) -> Tensor:
    """(n, H, W, 3) uint8 -> (n, 1, H, W) float32: grey; ``standard``: less its image's mean, over twice its deviation."""
    values = torch.from_numpy(grey(images))[:, None]
    if normalize == "standard":
        mean, deviation = values.mean((1, 2, 3), keepdim=True), values.std((1, 2, 3), keepdim=True)
        return (values - mean) / (2 * deviation + 1e-2)
    return values * 2 - 1


def restore(forms: Tensor, images: np.ndarray, normalize: str) -> np.ndarray:
    """(n, 1, H, W) of what :func:`prepare` gives -> (n, H, W) float32 in [0, 1], in the greys of ``images`` (n, H, W, 3) uint8."""
    values, made = torch.from_numpy(grey(images)), forms[:, 0].float().cpu()
    if normalize == "standard":
        mean, deviation = values.mean((1, 2), keepdim=True), values.std((1, 2), keepdim=True)
        made = made * (2 * deviation + 1e-2) + mean
    else:
        made = (made + 1) / 2
    return made.clamp(0, 1).numpy()


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
