"""A memory in the part's own frame: what k good photographs look like at each place of the part, by pretrained filters.

Each photograph is brought to the frame that its fitted pose says, turned to where it agrees best with the others, its grey levels
standardised within the part. A patch is compared with good ones at its own place and next to it alone, so that a handful of photographs
teaches what a memory that knows no place wants hundreds for; a part that looks alike after a turn teaches once a turn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy import ndimage

from detect.outline import Outlined, turned_in_plane
from train.filters import CELLS, SIDE, features

REACH = 0.47  # of the frame's width that the part's furthest point is from its middle
SPREAD, MIDDLE, BOUND = 0.2, 0.5, 2.5  # grey levels of a standard deviation, of the mean, and where they are clipped, in deviations
RINGS, SPOKES = 24, 240  # of the polar picture by which turns are found
FOLDS = 12  # the most turns to a round that a part may look alike after
SIMILAR = 0.5  # correlation of the mean photograph with itself, turned, from which it repeats: light does not turn with it
UNLIKE, FACETED = 0.02, 0.002  # of what the worst turn changes, or of the view's own variation, that may differ after such a turn
MOST = 120  # pictures that are remembered: turned ones are left out first
WINDOW = 1  # cells to each side that a patch may have moved by
FLOOR = 0.25  # of the median good distance: the least that a place is said to vary by
SMOOTH = 1.0  # cells over which good distances are told from their neighbours
POOLED = 0.4  # cells over which a picture's own distances are pooled: a small dent is one cell
TOP = 0.0026  # share of the frame's cells whose mean is a picture's score


@dataclass(frozen=True, eq=False)
class Frame:
    """A photograph in the part's frame: ``picture`` (SIDE, SIDE) in [0, 1] and ``inside`` (SIDE, SIDE) bool, where the form is;
    ``rows``, ``columns`` (SIDE, SIDE): where in the photograph each of its pixels lies."""

    picture: np.ndarray
    inside: np.ndarray
    rows: np.ndarray
    columns: np.ndarray

    def turned(self, angle: float) -> Frame:
        """By ``angle`` radians, counter-clockwise."""
        line = np.arange(SIDE) - (SIDE - 1) / 2
        y, x = np.meshgrid(line, line, indexing="ij")
        c, s = np.cos(angle), np.sin(angle)
        at = [(SIDE - 1) / 2 + s * x + c * y, (SIDE - 1) / 2 + c * x - s * y]
        picture, rows, columns = (ndimage.map_coordinates(v, at, order=1, mode="nearest") for v in (self.picture, self.rows, self.columns))
        inside = ndimage.map_coordinates(self.inside.astype(np.uint8), at, order=0) > 0
        return Frame(picture, inside, rows, columns)


def framed(grey: np.ndarray, found: Outlined) -> Frame:
    """(S, S) in [0, 1] and its fit -> its frame."""
    form = ndimage.binary_fill_holes(found.ids > 0)
    cy, cx = ndimage.center_of_mass(form)
    rows, columns = np.nonzero(form)
    zoom, angle = np.hypot(rows - cy, columns - cx).max() / (REACH * SIDE), turned_in_plane(found)
    line = (np.arange(SIDE) - (SIDE - 1) / 2) * zoom
    y, x = np.meshgrid(line, line, indexing="ij")
    c, s = np.cos(angle), np.sin(angle)
    columns, rows = cx + c * x + s * y, cy - s * x + c * y
    inside = ndimage.map_coordinates(form.astype(np.uint8), [rows, columns], order=0) > 0
    picture = ndimage.map_coordinates(grey, [rows, columns], order=1, mode="nearest")
    return _standardised(picture, inside, rows, columns)


def unframed(grey: np.ndarray) -> Frame:
    """The whole picture as its frame, where no outline tells more."""
    line = (np.arange(SIDE) + 0.5) * len(grey) / SIDE - 0.5
    rows, columns = np.meshgrid(line, line, indexing="ij")
    picture = ndimage.map_coordinates(grey, [rows, columns], order=1, mode="nearest")
    return _standardised(picture, np.ones((SIDE, SIDE), bool), rows, columns)


def _standardised(picture: np.ndarray, inside: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> Frame:
    mean, spread = picture[inside].mean(), picture[inside].std() + 1e-3
    return Frame(np.clip((picture - mean) / spread, -BOUND, BOUND) * SPREAD + MIDDLE, inside, rows, columns)


def polar(picture: np.ndarray) -> np.ndarray:
    """(RINGS, SPOKES) about the frame's middle, each ring less its mean."""
    radius = (np.arange(RINGS) + 0.5) / RINGS * SIDE / 2
    angle = 2 * np.pi * np.arange(SPOKES) / SPOKES
    rows, columns = ((SIDE - 1) / 2 + radius[:, None] * f(angle) * sign for f, sign in ((np.sin, -1), (np.cos, 1)))
    rings = ndimage.map_coordinates(ndimage.gaussian_filter(picture, 2.0), [rows, columns], order=1)
    return (rings - rings.mean(1, keepdims=True)) * np.sqrt(radius)[:, None]


def agreement(rings: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(SPOKES,) correlation of two polar pictures after ``rings`` is turned by each step, clockwise."""
    product = np.fft.ifft(np.fft.fft(rings, axis=1) * np.conj(np.fft.fft(other, axis=1)), axis=1).real.sum(0)
    return product / max(np.linalg.norm(rings) * np.linalg.norm(other), 1e-9)


@dataclass(frozen=True, eq=False)
class Memory:
    """``reference`` (RINGS, SPOKES): the mean good picture; ``period``: turns to a round after which it looks alike; ``patches`` (N, CELLS,
    CELLS, C) float16 of good photographs and their turns, ``owner`` (N,) whose they are; ``good`` (K, CELLS, CELLS): how far each photograph's
    places are from the others', by which it is told what is far."""

    reference: np.ndarray
    period: int
    patches: np.ndarray
    owner: np.ndarray
    good: np.ndarray
    spins: bool

    @classmethod
    def of(cls, frames: list[Frame], spins: bool, period: int = 1) -> Memory:
        """From good photographs; ``spins``: whether the part may be turned any way in the picture's plane; ``period``: turns to a round
        after which it looks alike."""
        reference = polar(frames[0].picture)
        if spins:
            for _ in range(2):
                frames = [_aligned(f, reference) for f in frames]
                reference = np.mean([polar(f.picture) for f in frames], 0)
        else:
            reference = np.mean([polar(f.picture) for f in frames], 0)
        period = _repeats(reference, period if spins else 1, max(1, MOST // len(frames)))
        turns = [2 * np.pi * k / period for k in range(period)]
        pictures = [(f.turned(t) if t else f).picture for t in turns for f in frames]
        patches = np.concatenate([features(np.stack(pictures[i : i + 8])) for i in range(0, len(pictures), 8)]).astype(np.float16)
        owner = np.tile(np.arange(len(frames)), len(turns))
        blank = cls(reference, period, patches, owner, np.zeros((0, CELLS, CELLS), np.float32), spins)
        if len(frames) < 2:
            return blank
        good = np.stack([blank.distances(patches[k].astype(np.float32), owner != k) for k in range(len(frames))])
        return replace(blank, good=ndimage.gaussian_filter(good, (0, POOLED, POOLED)).astype(np.float32))

    def usual(self, leave: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(CELLS, CELLS) the middle and the spread of good distances at each place; those of photograph ``leave`` do not count: beside
        its own, it would look less strange than a photograph to come."""
        good = self.good if leave is None or len(self.good) < 3 else np.delete(self.good, leave, 0)
        if not len(good):
            return np.zeros((CELLS, CELLS)), np.ones((CELLS, CELLS))
        middle = np.median(good, 0)
        centre = ndimage.gaussian_filter(middle, SMOOTH)
        spread = ndimage.gaussian_filter(1.4826 * np.median(np.abs(good - middle), 0), 2 * SMOOTH)
        return centre, np.maximum(spread, FLOOR * np.median(centre))

    def distances(self, query: np.ndarray, use: np.ndarray | None = None) -> np.ndarray:
        """(CELLS, CELLS) from patches (CELLS, CELLS, C) to the nearest remembered ones no more than WINDOW cells away, of the pictures that
        ``use`` (N,) names."""
        import torch

        known, at = self._known if use is None else self._known[torch.from_numpy(use)], torch.from_numpy(query)
        best = torch.full((CELLS, CELLS), torch.inf)
        square = at.pow(2).sum(-1)
        for dy in range(-WINDOW, WINDOW + 1):
            for dx in range(-WINDOW, WINDOW + 1):
                y0, y1, x0, x1 = max(0, dy), CELLS + min(0, dy), max(0, dx), CELLS + min(0, dx)
                here = (slice(y0 - dy, y1 - dy), slice(x0 - dx, x1 - dx))
                there = known[:, y0:y1, x0:x1]
                gap = there.pow(2).sum(-1) - 2 * torch.einsum("nhwc,hwc->nhw", there, at[here]) + square[here]
                best[here] = torch.minimum(best[here], gap.amin(0))
        return best.clamp(min=0).sqrt().numpy().astype(float)

    @cached_property
    def _usual(self) -> tuple[np.ndarray, np.ndarray]:
        return self.usual()

    @cached_property
    def _known(self) -> Any:
        import torch

        return torch.from_numpy(self.patches.astype(np.float32))

    def compared(self, frame: Frame, leave: int | None = None) -> tuple[np.ndarray, float, Frame]:
        """(CELLS, CELLS) how far from good each place of ``frame`` is, in deviations of good ones; the mean of the highest within the part;
        and the frame as it was turned. ``leave``: a remembered photograph that is not to be asked, for it is this one."""
        frame = _aligned(frame, self.reference) if self.spins else frame
        far = ndimage.gaussian_filter(
            self.distances(features(frame.picture[None])[0], None if leave is None else self.owner != leave), POOLED
        )
        share = frame.inside.reshape(CELLS, SIDE // CELLS, CELLS, SIDE // CELLS).mean((1, 3))
        centre, spread = self._usual if leave is None else self.usual(leave)
        places = np.where(ndimage.binary_dilation(share > 0.25), (far - centre) / spread, 0.0)
        count = max(1, round(TOP * places.size))
        return places, float(np.sort(places.ravel())[-count:].mean()), frame

    @property
    def fingerprint(self) -> str:
        """Of what is remembered: a threshold holds for this memory alone."""
        return hashlib.sha256(self.patches.tobytes() + self.good.tobytes()).hexdigest()[:16]

    def tensors(self) -> dict[str, np.ndarray]:
        """What a file of it holds."""
        return {
            "reference": self.reference, "patches": self.patches, "owner": self.owner.astype(np.int64), "good": self.good,
            "period": np.array([self.period]), "spins": np.array([int(self.spins)]),
        }  # fmt: skip

    @classmethod
    def from_tensors(cls, held: dict[str, np.ndarray]) -> Memory:
        return cls(
            held["reference"],
            int(held["period"][0]),
            held["patches"],
            held["owner"],
            held["good"],
            bool(held["spins"][0]),
        )


def _aligned(frame: Frame, reference: np.ndarray) -> Frame:
    """Turned to where it agrees best with the ``reference``."""
    step = int(np.argmax(agreement(polar(frame.picture), reference)))
    return frame.turned(-2 * np.pi * step / SPOKES) if step else frame


def _repeats(reference: np.ndarray, period: int, most: int) -> int:
    """The most turns to a round, of those that divide ``period`` and are no more than ``most``, after which the mean photograph looks
    alike too: print on a part, say, has no part in its symmetry."""
    own = agreement(reference, reference)
    fit = (n for n in range(1, min(period, most) + 1) if period % n == 0)
    return max(n for n in fit if all(own[round(SPOKES * k / n) % SPOKES] > SIMILAR for k in range(n)))


def symmetry_of(view: Callable[[float], np.ndarray]) -> int:
    """The most turns to a round after which a part looks alike. ``view(angle)``: (..., S, S) layers of what is seen of it, turned by
    ``angle`` radians about its axis: drawn anew, for a picture that is turned blurs walls as thin as a pixel."""
    still = view(0.0)
    varies = np.abs(still - still.mean((-2, -1), keepdims=True)).mean()
    unlike = {n: np.abs(view(2 * np.pi / n) - still).mean() for n in range(2, FOLDS + 1)}
    bound = max(UNLIKE * max(unlike.values()), FACETED * varies)  # a round part's facets do not turn into each other
    return max((n for n, u in unlike.items() if u < bound), default=1)
