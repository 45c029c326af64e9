"""The CAD form by its outline alone: pose, place and scale by descent over silhouettes, and what of outline and holes is left over.

It needs no light: a photograph whose finish no render has is fitted all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage
from scipy.optimize import minimize

from cad.errors import InputError
from cad.part import Part
from cad.views import Turn
from detect.silhouette import Silhouette, hole
from synth.drawable import Drawable, Truth
from synth.poses import rotations
from synth.raycast import outline, truth
from synth.scene import Scene, about, matrix, product

FINE, COARSE = 96, 32  # px at which silhouettes are compared, and looked up
POSES = 1500  # that are looked up
STARTS, APART = 4, np.radians(8)  # that descend, each so far from the others
STEPS = ((0.12, 0.02, 0.04), (0.05, 0.01, 0.02))  # of turn (radians), place (widths) and scale (logarithm), of each round's simplex
EVALUATIONS = 180
FAR = 6.0  # px at FINE: a disagreement further from the outline counts no more for it
LEANING = 20.0  # how dear a turn beyond the file's tilts is
SMALL = 0.01  # of the part's area: a smaller hole of the form's silhouette is not looked for
STRETCHES = np.r_[np.linspace(0.6, 0.95, 8), np.linspace(1.05, 1.4, 6)]
EXPLAINS = 0.5  # of the misfit that a stretch must take away to be what is wrong


@dataclass(frozen=True, eq=False)
class Outlined:
    """A photograph's nearest good form by outline. ``scene``: where it is; ``loss``: what is left over of the outline, a share of the
    part's area weighed by how far off it lies; ``holes``: how unlike its holes are, in shape, in [0, 1]; ``ids`` (S, S) uint8: the
    form's feature ids; ``excess`` (S, S) float32: disagreement, weighed by its distance from the outline in shares of the part's reach,
    positive where the photograph has more than the form, negative where less; ``iou`` of both outlines."""

    scene: Scene
    loss: float
    holes: float
    ids: np.ndarray
    excess: np.ndarray
    iou: float
    steps: int


class OutlineSearch:
    """A part's silhouettes, looked up and descended on."""

    def __init__(self, part: Part) -> None:
        self.part, mesh = part, part.mesh()
        self.item, self.pivot, self.diagonal = Drawable.of(mesh), mesh.bounds.mean(0), mesh.diagonal
        self.angle = float(np.mean(part.views.camera.angles)) if part.views.camera.perspective else None

    @cached_property
    def known(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(n, 4) quaternions over the file's range, their (n, COARSE^2) silhouettes brought to one place and size, and (n,) the log scale
        at which each has the area of the picture over 2 pi."""
        turns = np.array(list(rotations(self.part.views.rotation, POSES)))
        rows, scales = [], []
        for turn in turns:
            mask = ndimage.binary_fill_holes(outline(self.item, self.scene(turn, (0.0, 0.0), 0.0), COARSE * 2).feature > 0)
            rows.append(normalised(mask))
            scales.append(0.5 * np.log(mask.mean() * 2 * np.pi))
        return turns, np.array(rows), np.array(scales)

    def scene(self, turn: np.ndarray, place: tuple[float, float], scale: float) -> Scene:
        """The part turned by ``turn`` (4,), its pivot at ``place`` in shares of the picture's width from the middle, right and up; at a
        ``scale`` (a logarithm) of 0 the part's diagonal is as wide as 0.7 of the picture."""
        width = self.diagonal / 0.7 * np.exp(-scale)  # mm across the picture at the pivot
        depth = 2 * self.diagonal if self.angle is None else width / (2 * np.tan(np.radians(self.angle) / 2))
        return Scene(
            tuple(map(float, turn)), tuple(map(float, self.pivot)), (place[0] * width, place[1] * width, -depth), None if self.angle else width, self.angle,
            (0.0, 0.0, 1.0), 0.5, (0.5, 0.5, 0.5), 0.5, 0.0, (0.0, 0.0, 0.0),
        )  # fmt: skip

    def __call__(self, grey: np.ndarray, seen: Silhouette) -> Outlined:
        """Of a photograph (S, S) in [0, 1] and its silhouette."""
        size = len(grey)
        target = ndimage.zoom(seen.mask.astype(float), FINE / size, order=1, grid_mode=True, mode="nearest") > 0.5
        goal = _Goal(target)
        tried = [self._descended(goal, *start) for start in self._starts(seen)]
        loss, turn, place, scale, _ = min(tried, key=lambda t: t[0])
        scene = self.scene(turn, place, scale)
        form = truth(self.item, scene, size)
        filled = ndimage.binary_fill_holes(form.feature > 0)
        shared, either = (filled & seen.mask).sum(), (filled | seen.mask).sum()
        return Outlined(
            scene, float(loss), self._holes(grey, seen, form, filled), form.feature, _excess(filled, seen.mask), float(shared / max(either, 1)), sum(t[-1] for t in tried)
        )  # fmt: skip

    def _starts(self, seen: Silhouette) -> Iterator[tuple[np.ndarray, tuple[float, float], float]]:
        turns, rows, scales = self.known
        size, (x, y) = len(seen.mask), seen.middle
        order = np.argsort(-(rows @ normalised(seen.mask)))
        kept: list[np.ndarray] = []
        for k in order:
            if all(2 * np.arccos(min(1.0, abs(turns[k] @ turns[j]))) > APART for j in kept):
                kept.append(k)
                yield turns[k], (x / size - 0.5, 0.5 - y / size), 0.5 * np.log(seen.mask.mean() * 2 * np.pi) - scales[k]
            if len(kept) == STARTS:
                return

    def _descended(
        self, goal: _Goal, turn: np.ndarray, place: tuple[float, float], scale: float
    ) -> tuple[float, np.ndarray, tuple[float, float], float, int]:
        """By simplices (Nelder and Mead 1965): a silhouette's area changes in steps of a pixel, which leaves no gradient."""

        def unpacked(p: np.ndarray) -> tuple[np.ndarray, tuple[float, float], float]:
            angle = float(np.linalg.norm(p[:3]))
            return product(about(p[:3] / angle, angle), turn) if angle > 1e-9 else turn, (p[3], p[4]), p[5]

        def loss(p: np.ndarray) -> float:
            now, at, size = unpacked(p)
            try:
                mask = ndimage.binary_fill_holes(outline(self.item, self.scene(now, at, size), FINE).feature > 0)
            except InputError:  # so near that it reaches behind the camera
                return 10.0
            return goal.loss(mask) + LEANING * self._beyond(now) ** 2

        best, asked = np.array([0.0, 0.0, 0.0, *place, scale]), 0
        for turned, moved, grown in STEPS:
            simplex = np.vstack([best, best + np.diag([turned] * 3 + [moved] * 2 + [grown])])
            options = {"initial_simplex": simplex, "maxfev": EVALUATIONS, "xatol": 1e-3, "fatol": 1e-4}
            found = minimize(loss, best, method="Nelder-Mead", options=options)
            best, asked = found.x, asked + int(found.nfev)
        return (loss(best), *unpacked(best), asked)

    def _beyond(self, turn: np.ndarray) -> float:
        """Radians by which a turn's tilt is outside the file's range."""
        ranges = self.part.views.rotation
        if not isinstance(ranges, Turn):
            return 0.0
        axis = np.asarray(ranges.axis) / np.linalg.norm(ranges.axis)
        tilt = np.degrees(np.arccos(np.clip((matrix(turn) @ axis)[2], -1, 1)))
        return float(np.radians(max(0.0, tilt - ranges.tilt[1], ranges.tilt[0] - tilt)))

    def _holes(self, grey: np.ndarray, seen: Silhouette, form: Truth, filled: np.ndarray) -> float:
        """The least alike of the form's holes: 1 - IoU of its shape and the photograph's, brought to one place and area, for how much of a
        hole's walls is seen depends on light; 1 where there is none."""
        labels, count = ndimage.label(filled & (form.feature == 0))
        worst = 0.0
        for k in range(1, count + 1):
            own = labels == k
            if own.sum() >= max(SMALL * filled.sum(), 12):
                found = hole(grey, seen, own)
                worst = max(worst, 1.0 if found is None else 1 - alike(own, found))
        return float(worst)


@dataclass(frozen=True, eq=False)
class _Goal:
    mask: np.ndarray

    @cached_property
    def distance(self) -> np.ndarray:
        """(F, F) px from the outline, at most FAR."""
        inside, outside = (ndimage.distance_transform_edt(m) for m in (self.mask, ~self.mask))
        return np.minimum(np.where(self.mask, inside, outside), FAR)

    def loss(self, mask: np.ndarray) -> float:
        bad, area = mask != self.mask, max(self.mask.sum(), 1)
        return float((self.distance[bad].sum() / (10 * np.sqrt(area))) + bad.sum() / area)


def normalised(mask: np.ndarray) -> np.ndarray:
    """(COARSE^2,) of unit length: a silhouette about its own middle, its area 1 / (2 pi) of the picture."""
    y, x = np.nonzero(mask)
    if not len(x):
        return np.zeros(COARSE * COARSE)
    zoom = np.sqrt(len(x) * 2 * np.pi) / COARSE
    line = (np.arange(COARSE) - (COARSE - 1) / 2) * zoom
    rows, columns = np.meshgrid(y.mean() + line, x.mean() + line, indexing="ij")
    flat = ndimage.map_coordinates(mask.astype(float), [rows, columns], order=1, mode="constant").ravel()
    flat -= flat.mean()
    return flat / max(np.linalg.norm(flat), 1e-9)


def alike(a: np.ndarray, b: np.ndarray) -> float:
    """IoU of two shapes brought to one place and area."""
    one, two = (normalised(m).reshape(COARSE, COARSE) > 0 for m in (a, b))
    return float((one & two).sum() / max((one | two).sum(), 1))


def _excess(form: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """(S, S) float32, as :class:`Outlined` has it."""
    far = ndimage.distance_transform_edt(form) + ndimage.distance_transform_edt(~form) - 0.5
    return (np.where(seen, 1.0, -1.0) * (seen != form) * far / np.sqrt(max(form.sum(), 1) / np.pi)).astype(np.float32)


def stretched(seen: Silhouette, found: Outlined, search: OutlineSearch) -> tuple[float, float] | None:
    """(factor, degrees from the picture's x axis, counter-clockwise) of the stretch of the form that takes away most of what is left over of
    the outline; None where none takes away half of it."""
    scene, size = found.scene, len(seen.mask)
    filled = ndimage.binary_fill_holes(outline(search.item, scene, size).feature > 0)
    before = (filled != seen.mask).sum()
    y, x = np.mgrid[:size, :size]
    cy, cx = ndimage.center_of_mass(filled)
    my, mx = ndimage.center_of_mass(seen.mask)
    best = (before, 1.0, 0.0)
    for degrees in range(0, 180, 15):
        along = np.array([np.cos(np.radians(degrees)), -np.sin(np.radians(degrees))])
        u = (x - mx) * along[0] + (y - my) * along[1]
        for factor in STRETCHES:
            for area in (1.0, factor**-0.5):  # it may have grown across, as squashed metal does
                back = u * (1 / (factor * area) - 1 / area)
                rows, columns = cy + (y - my) / area + back * along[1], cx + (x - mx) / area + back * along[0]
                mask = ndimage.map_coordinates(filled.astype(np.uint8), [rows, columns], order=0) > 0
                best = min(best, ((mask != seen.mask).sum(), float(factor), float(degrees)), key=lambda b: b[0])
    return best[1:] if best[0] < EXPLAINS * before else None


def turned_in_plane(found: Outlined) -> float:
    """Radians by which the form's own x axis is turned in the picture, counter-clockwise: what a frame of its own takes back."""
    turn = found.scene.rotation
    return float(np.arctan2(turn[1, 0] - turn[0, 1], turn[0, 0] + turn[1, 1]))
