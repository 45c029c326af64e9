"""What is left over, against what good parts leave over: the anomaly map, its score, its regions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import ndimage
from torch import Tensor

from train.losses import blurred

PEAK = 10  # the score is the mean of this many highest pixels, at 64 px; in proportion at other sizes
LEVELS = np.geomspace(0.002, 0.5, 12)  # expected residual, grey levels: bins of the noise model
PLACED = 256  # px of a picture above which places are not told apart: their sums would be large
SMOOTH, FLOOR = 1.0, 0.3  # px over which a place is told from its neighbours; the least noise of one, in all of the picture's
FEWEST, ASKED = 16, 12  # good images from which places can be told; of which so many are asked whether they help
BETTER = 0.05  # mean log-likelihood a pixel from which they do
SMALLEST_REGION = 4  # px at 64


@dataclass(frozen=True, eq=False)
class Residuals:
    """``size`` (B, H, W): smoothed |image - form|. ``expected`` (B, H, W): what the generator expects of a good part there."""

    size: np.ndarray
    expected: np.ndarray

    @classmethod
    def of(cls, images: Tensor, forms: Tensor, log_size: Tensor) -> Residuals:
        """All (B, 1, H, W)."""
        return cls(blurred(images - forms).abs()[:, 0].cpu().numpy(), log_size.exp()[:, 0].cpu().numpy())

    def row(self, index: int) -> Residuals:
        """One image's, (1, H, W)."""
        return Residuals(self.size[index : index + 1], self.expected[index : index + 1])

    @property
    def ratio(self) -> np.ndarray:
        return self.size / self.expected


@dataclass(frozen=True, eq=False)
class Noise:
    """How good parts' residuals compare with what the generator expected: by the size expected (LEVELS), sums over pixels of
    the squared ratio (bins,) and their counts (bins,); where good photographs say so, by ``place`` too, the sum over images of the squared ratio
    (H, W): a part that always lies alike is hard to draw at the same places. On renders the ratio is near one; a camera's noise and edges
    change it.

    Sums, so that one image can be taken out again: each calibration image is scored by the noise of the others.
    """

    squares: np.ndarray
    counts: np.ndarray
    place: np.ndarray | None = None
    images: int = 1

    @classmethod
    def of(cls, residuals: Residuals) -> Noise:
        """(B, bins) sums and (B, H, W) places: one row an image."""
        count, bins = len(residuals.size), len(LEVELS)
        squares, counts = np.zeros((count, bins)), np.zeros((count, bins))
        for i in range(count):  # one at a time: a large picture's bins are larger than it
            one = residuals.row(i)
            at = np.clip(np.digitize(one.expected, LEVELS) - 1, 0, bins - 1).ravel()
            squares[i], counts[i] = np.bincount(at, one.ratio.ravel().astype(float) ** 2, bins), np.bincount(at, minlength=bins)
        place = residuals.ratio.astype(np.float32) ** 2 if residuals.size.shape[-1] <= PLACED else None
        return cls(squares, counts, place, count)

    @classmethod
    def joined(cls, parts: Sequence[Noise]) -> Noise:
        """Of more images, in the order given."""
        place = None if parts[0].place is None else np.concatenate([p.place for p in parts])
        squares, counts = (np.concatenate([getattr(p, name) for p in parts]) for name in ("squares", "counts"))
        return cls(squares, counts, place, sum(p.images for p in parts))

    def total(self) -> Noise:
        """Of all images, by the size expected alone."""
        return Noise(self.squares.sum(0), self.counts.sum(0), None, self.images)

    def without(self, part: Noise, row: int) -> Noise:
        place = None if self.place is None else self.place - part.place[row]
        return Noise(self.squares - part.squares[row], self.counts - part.counts[row], place, self.images - 1)

    def settled(self, rows: Sequence[Residuals], parts: Noise) -> Noise:
        """A total with the places of its ``parts`` where these tell each image of ``rows``, (1, H, W) each, from all others, clearly better (by the likelihood
        of what is left over under a Laplace law); else as it is."""
        if parts.place is None or self.images < FEWEST:
            return self
        placed, gains = replace(self, place=parts.place.sum(0, dtype=float)), []
        for i in np.unique(np.linspace(0, self.images - 1, ASKED).astype(int)):
            one = rows[i]
            gains.append(_likelihood(one, placed.without(parts, i)) - _likelihood(one, self.without(parts, i)))
        return placed if np.mean(gains) > BETTER else self

    def deviation(self) -> np.ndarray:
        """(bins,) root mean square ratio; sparse bins lean on the overall one (as if from 50 pixels more)."""
        overall = self.squares.sum() / max(self.counts.sum(), 1.0)
        return np.sqrt((self.squares + 50 * overall) / (self.counts + 50) + 1e-12)

    def maps(self, residuals: Residuals) -> np.ndarray:
        """(B, H, W) float32 anomaly maps: residuals in units of what good parts leave where this much is expected, or at this place."""
        if self.place is not None:
            mean = ndimage.gaussian_filter(self.place / self.images, SMOOTH)
            return (residuals.ratio / np.sqrt(mean + FLOOR**2 * mean.mean() + 1e-12)).astype(np.float32)
        return (residuals.ratio / np.interp(np.log(residuals.expected), np.log(LEVELS), self.deviation())).astype(np.float32)

    def json(self) -> dict[str, Any]:
        data: dict[str, Any] = {"squares": [float(v) for v in self.squares], "counts": [float(v) for v in self.counts]}
        if self.place is not None:
            data |= {"place": [[float(f"{v:.6g}") for v in row] for row in self.place], "images": self.images}
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Noise:
        place = np.asarray(data["place"], float) if "place" in data else None
        return cls(np.asarray(data["squares"], float), np.asarray(data["counts"], float), place, int(data.get("images", 1)))


def _likelihood(residuals: Residuals, noise: Noise) -> float:
    """The mean log-likelihood of a residual's size under a Laplace law of the size that the noise says."""
    size = np.maximum(residuals.size, 1e-9)
    scale = size / np.maximum(noise.maps(residuals), 1e-9) / np.sqrt(2)
    return float(-(np.log(scale) + size / scale).mean())


def scores(maps: np.ndarray, side: int | None = None) -> np.ndarray:
    """(B, H, W) -> (B,): the mean of the highest pixels, the share of PEAK in 64 x 64 of a square of ``side`` px, by default of the map: of a picture
    seen in tiles it is the tile's, for a defect grows no larger with the picture."""
    flat = maps.reshape(len(maps), -1)
    count = max(1, round(PEAK * (side**2 if side else flat.shape[1]) / 64**2))
    return np.sort(flat, axis=1)[:, -count:].mean(1, dtype=np.float64)


def regions(anomaly: np.ndarray, level: float) -> list[np.ndarray]:
    """(H, W) bool each: the connected pixels above ``level``, strongest first; specks are left out unless nothing else is there."""
    labels, count = ndimage.label(anomaly > level, np.ones((3, 3)))
    found = [labels == k for k in range(1, count + 1)]
    smallest = max(1, round(SMALLEST_REGION * anomaly.size / 64**2))
    found.sort(key=lambda r: -float(anomaly[r].max()))
    return [r for r in found if r.sum() >= smallest] or found[:1]
