"""Changes of real and made pictures alike, through which the maker still learns: else the judge would learn a few real ones by heart.

DiffAugment (Zhao et al. 2020) for grey: brightness, contrast, translation, cutout. Images are (B, 1, H, W), with 0 near the middle of their greys and about
1 their range to either side, as :func:`train.images.prepare` gives them. What is done to row i hangs on row i of the draws alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from cad.errors import InputError, nearest

BRIGHTER = 0.5  # at most, either way
SHIFT = 1 / 8  # of a side, at most, either way
CUT = 1 / 2  # of a side


def draws(count: int, generator: torch.Generator) -> Tensor:
    """(count, 6) float32 uniform in [0, 1), on the generator's device: a row has every change's numbers, asked for or not."""
    return torch.rand((count, 6), generator=generator, device=generator.device)


def augment(images: Tensor, draws: Tensor, changes: Iterable[str] = ("brightness", "contrast", "translation", "cutout")) -> Tensor:
    """(B, 1, H, W) changed by (B, 6) :func:`draws`, in the order of ``changes``: differentiable by the images. A draw of 0.5 leaves
    brightness, contrast and place as they are. InputError for a change that is not known."""
    if len(draws) != len(images):
        raise ValueError(f"{len(images)} images, {len(draws)} draws")
    draws = draws.to(images.device)
    for name in changes:
        if name not in CHANGES:
            raise InputError("augment", f'found "{name}"', wanted=nearest(name, CHANGES))
        change, columns = CHANGES[name]
        images = change(images, draws[:, columns])
    return images


def brightness(images: Tensor, draw: Tensor) -> Tensor:
    """A grey added, (B, 1) in [0, 1) standing for -BRIGHTER to BRIGHTER."""
    return images + (2 * BRIGHTER * (draw - 0.5)).to(images.dtype).view(-1, 1, 1, 1)


def contrast(images: Tensor, draw: Tensor) -> Tensor:
    """Differences from an image's own mean times 0.5 to 1.5."""
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * (0.5 + draw).to(images.dtype).view(-1, 1, 1, 1)


def translation(images: Tensor, draw: Tensor) -> Tensor:
    """Moved by whole pixels down and right (B, 2), up to SHIFT of a side either way; middle grey follows."""
    height, width = images.shape[2:]
    y, x = (_whole(draw[:, k], 2 * round(SHIFT * side) + 1) for k, side in enumerate((height, width)))
    high, wide = round(SHIFT * height), round(SHIFT * width)
    padded = F.pad(images, (wide, wide, high, high))
    rows = torch.arange(height, device=images.device) + (2 * high - y)[:, None]
    columns = torch.arange(width, device=images.device) + (2 * wide - x)[:, None]
    each = torch.arange(len(images), device=images.device).view(-1, 1, 1)
    return padded[each, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cutout(images: Tensor, draw: Tensor) -> Tensor:
    """A rectangle of CUT of the sides, its middle (B, 2) anywhere in the picture, made middle grey."""
    inside = [_whole(draw[:, k], side)[:, None] - torch.arange(side, device=images.device) for k, side in enumerate(images.shape[2:])]
    rows, columns = ((-(n // 2) < i) & (i <= n - n // 2) for n, i in zip((round(CUT * s) for s in images.shape[2:]), inside, strict=True))
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


def _whole(draw: Tensor, count: int) -> Tensor:
    """(B,) in [0, 1) -> 0 ... count - 1; what rounds up to ``count`` stays below it."""
    return (draw * count).long().clamp(max=count - 1)


CHANGES: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], slice]] = {
    "brightness": (brightness, slice(0, 1)),
    "contrast": (contrast, slice(1, 2)),
    "translation": (translation, slice(2, 4)),
    "cutout": (cutout, slice(4, 6)),
}
