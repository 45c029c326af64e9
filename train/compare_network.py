"""The compare network: a U-Net that sees a photograph beside the fitted render's buffers, and marks what differs.

What it sees is (B, CHANNELS, S, S) float32, as :func:`beside` makes it; what it says is a logit a pixel, (B, 1, S, S). Ronneberger et al. 2015,
with group normalisation (Wu and He 2018): a picture's answer must not hang on its batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from synth.drawable import Truth

REACH = 0.40  # of that, from the part's middle to its furthest point: the rest is for what stands out
CHANNELS = 9  # photograph, shading, what that leaves over, three of the normal, height, form, edges
WIDTHS = (16, 32, 48)
CLIP = 3.0  # deviations of grey within the form
RIM = 0.02  # of the part's reach: a step of depth that is an edge
TOP = 0.004  # share of the pixels whose mean logit is a picture's score


@dataclass(frozen=True, eq=False)
class Crop:
    """Where in a photograph the network looks: ``rows``, ``columns`` (S, S) px."""

    rows: np.ndarray
    columns: np.ndarray

    @classmethod
    def about(cls, form: np.ndarray, side: int) -> Crop:
        """``side`` px across, about a form's mask (H, W) bool."""
        y, x = np.nonzero(form)
        if not len(y):
            raise ValueError("the form is nowhere in the picture")
        cy, cx = y.mean(), x.mean()
        line = (np.arange(side) - (side - 1) / 2) * max(np.hypot(y - cy, x - cx).max(), 1.0) / (REACH * side)
        rows, columns = np.meshgrid(cy + line, cx + line, indexing="ij")
        return cls(rows, columns)

    @property
    def zoom(self) -> float:
        """px of the photograph to one of the network's."""
        return float(self.rows[1, 0] - self.rows[0, 0])

    def of(self, picture: np.ndarray, order: int = 1, mode: str = "constant") -> np.ndarray:
        """(H, W) -> (S, S); beyond the picture 0, or as ``mode`` of :func:`scipy.ndimage.map_coordinates` says."""
        return ndimage.map_coordinates(picture, [self.rows, self.columns], order=order, mode=mode)


def beside(grey: np.ndarray, form: Truth, reach: float, side: int) -> tuple[np.ndarray, Crop]:
    """(H, W) grey in [0, 1] as it looks, the truth of its fitted render, and the part's half diagonal in mm -> (CHANNELS, side, side) float32
    and where that lies."""
    mask = form.feature > 0
    crop = Crop.about(mask, side)
    smooth = ndimage.gaussian_filter(grey, 0.4 * crop.zoom) if crop.zoom > 1 else grey
    inside = crop.of(mask.astype(np.uint8), 0) > 0
    photo = crop.of(smooth, mode="nearest")
    mean, spread = photo[inside].mean(), photo[inside].std() + 1e-2
    photo = np.clip((photo - mean) / spread, -CLIP, CLIP)
    normals = np.stack([crop.of(form.normal[..., c], 0) for c in range(3)])
    depth = np.where(mask, form.depth, 0.0)
    height = np.where(inside, (depth[mask].mean() - crop.of(depth, 0)) / reach, 0.0)
    shading = shaded(photo, normals, inside)
    ids = crop.of(form.feature, 0)
    left = np.where(inside, photo - shading, 0.0)
    return np.stack([photo, shading, left, *normals, height, inside, _edges(ids, height)]).astype(np.float32), crop


def shaded(photo: np.ndarray, normals: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """(H, W) the light on the form that explains the photograph best: nine harmonics of the normals (Ramamoorthi and Hanrahan 2001), by
    least squares in which what is far off counts less; 0 outside."""
    x, y, z = (n[inside].astype(float) for n in normals)
    rows = np.stack([np.ones_like(x), x, y, z, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y], 1)
    values, weight = photo[inside], np.ones(len(x))
    for _ in range(3):
        weighted = rows * weight[:, None]
        factors = np.linalg.solve(weighted.T @ rows + 1e-5 * weight.sum() * np.eye(9), weighted.T @ values)
        off = np.abs(values - rows @ factors)
        weight = 1 / np.maximum(off, 0.5 * np.median(off) + 1e-3)
        weight /= weight.max()
    out = np.zeros(photo.shape)
    out[inside] = np.clip(rows @ factors, -CLIP, CLIP)
    return out


def _edges(ids: np.ndarray, height: np.ndarray) -> np.ndarray:
    """(H, W) bool: where a sub-component ends, or the depth makes a step."""
    size = (3, 3)
    return (ndimage.maximum_filter(ids, size) != ndimage.minimum_filter(ids, size)) | (
        ndimage.maximum_filter(height, size) - ndimage.minimum_filter(height, size) > RIM * 4
    )


class CompareNet(nn.Module):
    """(B, CHANNELS, S, S) -> (B, 1, S, S) logits, S a multiple of 8. Four pixels are one at its finest layer: it is there that time is spent.
    ``side``: the S that it was trained at."""

    def __init__(self, side: int, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        self.side = side
        self.first = nn.Sequential(nn.PixelUnshuffle(2), _twice(4 * CHANNELS, widths[0]))
        self.down = nn.ModuleList(_twice(a, b) for a, b in pairwise(widths))
        self.up = nn.ModuleList(_twice(a + b, a) for a, b in pairwise(widths))
        self.mark = nn.Conv2d(widths[0], 4, 3, padding=1)
        nn.init.constant_(self.mark.bias, -3.0)  # most of a picture is good

    def forward(self, seen: Tensor) -> Tensor:
        kept = [self.first(seen)]
        for block in self.down:
            kept.append(block(nn.functional.max_pool2d(kept[-1], 2)))
        now = kept.pop()
        for block in reversed(self.up):
            now = block(torch.cat([kept.pop(), nn.functional.interpolate(now, scale_factor=2.0)], 1))
        return nn.functional.pixel_shuffle(self.mark(now), 2)


def _twice(inputs: int, outputs: int) -> nn.Sequential:
    def once(a: int) -> list[nn.Module]:
        return [nn.Conv2d(a, outputs, 3, padding=1, bias=False), nn.GroupNorm(4, outputs), nn.SiLU()]

    return nn.Sequential(*once(inputs), *once(outputs))


def score(logits: Tensor) -> Tensor:
    """(B, 1, S, S) -> (B,): the mean of the highest."""
    flat = logits.flatten(1)
    return flat.topk(max(1, round(TOP * flat.shape[1])), 1).values.mean(1)
