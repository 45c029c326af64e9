"""The nearest good form of a photograph among all that the part can look like: retrieve starts, descend, try symmetries, refine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image
from scipy import ndimage

from detect.gauss_newton import DISTANCE, FIXED, PARAMETERS, SCALE, SHIFT, descend_pose
from synth.scene import about, matrix
from train.cad_form import SAMPLES, CadForm
from train.pose_index import FILL, THUMB
from train.shading import FULL, Placement, narrowed, ridge
from train.symmetry import turned_about

COARSE = 32  # px, where starts are told apart
STARTS, BATCH = 12, 4
LOST, MORE = 2.0, 36  # times the loss that is good enough, above which so many more starts are tried
FINALISTS, SECOND = 2, 2
KNOWN = 64  # px at most, where turns are told apart once the light is known
SIGMA = 0.03  # of the image's contrast: a residual below it is noise, above it counts by its size
BEATEN = 1.1  # times the best loss: a finalist above it is dropped
APART, UNLIKE = 4.0, 12.0  # degrees between finalists, and between second chances
SPINS = (4.0, 2.0, 1.0, 0.5)  # degrees
LOOSE = 0.02  # of the image's width: how well its middle is known where the part file says that the part is there


@dataclass(frozen=True, eq=False)
class Fit:
    """A pose, the light (K + EXTRA,) that goes with it, and the mean robust residual over the image's contrast, at ``size`` px;
    ``coarse``: the best loss of the coarse search that it came from."""

    at: Placement
    light: np.ndarray
    loss: float
    size: int
    coarse: float = np.inf


@dataclass(frozen=True, eq=False)
class Pyramid:
    """A photograph in linear light: ``levels`` {px: (px * px,)}, over its ``contrast``, so that losses compare between photographs; NaN where
    something hides the view."""

    levels: dict[int, np.ndarray]
    contrast: float

    @classmethod
    def of(cls, picture: np.ndarray) -> Pyramid:
        """(S, S) float64 linear light."""
        size, contrast = len(picture), max(float(np.nanstd(picture)), 1e-3)
        smaller = [s for s in (THUMB, COARSE, 64, 128, 256, 512) if s < size]
        return cls({s: (shrunk(picture, s) / contrast).ravel() for s in smaller} | {size: (picture / contrast).ravel()}, contrast)


def shrunk(picture: np.ndarray, size: int) -> np.ndarray:
    """(S, S) -> (size, size) float64, averaged over areas; one that holds a NaN is NaN."""
    return np.asarray(Image.fromarray(picture.astype(np.float32)).resize((size, size), Image.Resampling.BOX), float)


@dataclass(frozen=True, eq=False)
class Step:
    """A stage of a search as it was: its name, px, and (T, 14) loss, turn, position, scale before each step of its best start."""

    name: str
    size: int
    path: np.ndarray


class Search:
    """Finds a part's pose in photographs. ``enough``: the coarse loss at which no further start is tried; None: all are.
    ``each`` maps over poses: a pool's map, where cores are idle."""

    def __init__(self, form: CadForm, *, enough: float | None = None) -> None:
        self.form, self.enough = form, enough
        self.each: Callable = map
        self.ridge = ridge(form.table.shape[2])

    def __call__(self, picture: Pyramid, trace: list[Step] | None = None, known: Sequence[Placement] = ()) -> list[Fit]:
        """The finalists at the photograph's own size, best first; ``trace`` is given each stage; ``known``: places to start from besides."""
        found = self._starts(picture, known, trace)
        if self.enough is None or found[0].loss > self.enough:
            found = self._turned(picture, found, trace)
        finalists: list[Fit] = []
        for fit in found:
            if len(finalists) < FINALISTS and all(self.form.symmetries.angle(fit.at.turn, f.at.turn) > APART for f in finalists):
                finalists.append(fit)
        for size in [s for s in picture.levels if s > COARSE]:
            finalists = self._descended(picture, finalists, size, 10, 0.4, trace, f"refine at {size} px")
            finalists = [f for f in finalists if f.loss < BEATEN * finalists[0].loss]
        finalists[0] = self.spun(picture, finalists[0])
        return [replace(f, coarse=found[0].loss) for f in finalists]

    def _starts(self, picture: Pyramid, known: Sequence[Placement], trace: list[Step] | None) -> list[Fit]:
        """All known and retrieved poses descended at COARSE px, best first; batches stop when one is good enough."""
        enough = -np.inf if self.enough is None else self.enough
        found = self._batches(picture, [*known, *self._retrieved(picture, STARTS)], enough, trace)
        if self.enough is not None and found[0].loss > LOST * enough:  # none of them was near
            found += self._batches(picture, self._retrieved(picture, STARTS + MORE)[STARTS:], LOST * enough, trace)
        return sorted(found, key=lambda f: f.loss)

    def _batches(self, picture: Pyramid, places: Sequence[Placement], enough: float, trace: list[Step] | None) -> list[Fit]:
        """``places`` descended at COARSE px, best first, until one's loss is ``enough``."""
        found: list[Fit] = []
        for k in range(0, len(places), BATCH):
            starts = [Fit(at, np.zeros(len(self.ridge)), np.inf, 0) for at in places[k : k + BATCH]]
            found = sorted(found + self._descended(picture, starts, COARSE, 6, 0.6, trace, "retrieved"), key=lambda f: f.loss)
            if found[0].loss <= enough:
                break
        return found

    def _turned(self, picture: Pyramid, found: list[Fit], trace: list[Step] | None) -> list[Fit]:
        """The best pose under all approximate symmetries of the part: those that fit best descend."""
        turns = self.form.symmetries.approximate
        if not len(turns):
            return found
        best = found[0]
        others = [replace(best, at=turned_about(best.at, turn, self.form.corners)) for turn in turns]
        others = self._descended(picture, others, COARSE, 0, 0.0, None, "")[:3]
        others = self._descended(picture, others, COARSE, 6, 0.2, trace, "turned by a near-symmetry")
        return sorted(found + others, key=lambda f: f.loss)

    def spun(self, picture: Pyramid, fit: Fit) -> Fit:
        """The best spin about an axis of near-symmetry in the light of ``fit``, step by step: what tells it is so little of the picture
        that a descent, to which it is an outlier, stops short of it."""
        size = max(picture.levels)
        image, (table, light) = picture.levels[size], narrowed(self.form.table, fit.light)

        def loss(at: Placement) -> float:
            made = np.minimum(self.form.drawn(at, size, table=table).columns[:, : len(light)] @ light, 1 / picture.contrast)
            return float(np.nanmean(np.sqrt((made - image) ** 2 + SIGMA**2) - SIGMA))

        at = best_spin(self.form, fit.at, loss, np.radians(SPINS), 0.0, self.each)
        return fit if at is fit.at else self._descended(picture, [replace(fit, at=at)], size, 3, SIGMA, None, "")[0]

    def turned(self, at: Placement) -> list[Placement]:
        """``at`` under every approximate symmetry of the part."""
        return [turned_about(at, turn, self.form.corners) for turn in self.form.symmetries.approximate]

    def again(
        self, picture: Pyramid, places: Sequence[Placement], losses: Sequence[float], below: float, trace: list[Step] | None
    ) -> list[Fit]:
        """Second chances: of ``places`` the SECOND unlike ones of the least ``losses``, those ``below`` a loss, descended at the photograph's
        own size."""
        best: list[Placement] = []
        for k in np.argsort(losses, kind="stable"):
            if losses[k] < below and len(best) < SECOND and all(self.form.symmetries.angle(places[k].turn, b.turn) > UNLIKE for b in best):
                best.append(places[k])
        starts = [Fit(place, np.zeros(len(self.ridge)), np.inf, 0) for place in best]
        return self._descended(picture, starts, max(picture.levels), 10, 0.4, trace, "turned, the lamps known")

    def _descended(
        self, picture: Pyramid, starts: Sequence[Fit], size: int, steps: int, soft: float, trace: list[Step] | None, name: str
    ) -> list[Fit]:
        form, image = self.form, picture.levels[size]

        def one(start: Fit) -> tuple[Fit, np.ndarray]:
            hold, anchor = held(form, start.at, SIGMA)  # residuals weigh 1 / SIGMA at most
            path = np.full((steps + 1, 14), np.nan)
            loss, turn, position, scale, light = descend_pose(
                form.item.corners, form.item.normals, form.pivot, start.at.turn, start.at.position, start.at.scale, start.at.perspective, image, FULL / picture.contrast, size,
                SAMPLES, form.table, form.hollow, self.ridge, hold, anchor, start.light, steps, SIGMA, soft, path,
            )  # fmt: skip
            return Fit(Placement(turn, position, scale, start.at.perspective), light, loss, size), path

        done = sorted(self.each(one, starts), key=lambda pair: pair[0].loss)
        if trace is not None and done:
            trace.append(Step(name, size, done[0][1]))
        return [fit for fit, _ in done]

    def _retrieved(self, picture: Pyramid, count: int) -> list[Placement]:
        form, index, reference = self.form, self.form.index, self.form.reference
        if not index.boxed:
            return [replace(reference, turn=index.turns[k]) for k in index.nearest(picture.levels[THUMB], count)]
        size = max(picture.levels)
        whole = picture.levels[size].reshape(size, size)
        box = part_box(whole)
        near = index.nearest(_cropped(whole, box).ravel(), count)
        return [_in_box(replace(reference, turn=index.turns[k]), index.boxes[k], box, form) for k in near]


def best_spin(
    form: CadForm, start: Placement, loss: Callable[[Placement], float], angles: Sequence[float], least: float, each: Callable
) -> Placement:
    """From ``start``, spun about the axes of near-symmetry step by step as long as the ``loss`` falls, at first by more than ``least``."""
    best, lowest = start, loss(start) - least
    for axis in form.symmetries.axes:
        for angle in angles:
            ways = [matrix(about(axis, way)) for way in (angle, -angle)]
            places = [turned_about(best, way, form.corners) for way in ways]
            losses = list(each(loss, places))
            way = int(losses[1] < losses[0])
            at, found = places[way], losses[way]
            while found < lowest:
                best, lowest, at = at, found, turned_about(at, ways[way], form.corners)
                found = loss(at)
    return best


def held(form: CadForm, at: Placement, weight: float) -> tuple[np.ndarray, np.ndarray]:
    """((7,) precisions, (7,) anchors) of the descent's parameters: what the part file knows of place, distance and scale.

    A deviation s of a parameter has the precision ``weight`` / s^2, FIXED where it is not free at all: ``weight`` is the square of a
    residual that counts 1.
    """
    camera, reference = form.part.views.camera, form.reference
    hold, anchor = np.zeros(PARAMETERS), np.zeros(PARAMETERS)
    anchor[SHIFT], anchor[DISTANCE], anchor[SCALE] = reference.position[:2], np.log(-at.position[2]), np.log(reference.scale)
    width = (-reference.position[2] if at.perspective else 1.0) / reference.scale
    hold[SHIFT] = weight / ((LOOSE + 0.6 * camera.offset) * width) ** 2
    hold[DISTANCE] = 0.0 if at.perspective else FIXED
    scales = camera.fields or (1.0, 1.0) if not at.perspective else tuple(np.tan(np.radians(a) / 2) for a in camera.angles)
    unsure = np.log(scales[1] / scales[0]) / np.sqrt(12)  # a range's standard deviation
    hold[SCALE] = weight / unsure**2 if unsure > 0 else FIXED if at.perspective or camera.fields else 0.0
    return hold, anchor


def _in_box(at: Placement, own: np.ndarray, box: np.ndarray, form: CadForm) -> Placement:
    """``at`` moved, and nearer or larger, so that the part's box, ``own`` at the reference, lies in ``box`` (centre, width, height)."""
    camera, larger = form.part.views.camera, box[2:].max() / own[2:].max()
    position, scale = at.position.copy(), at.scale
    if at.perspective:
        position[2] /= larger
    elif camera.fields is None:
        scale *= larger
    else:
        larger = float(np.clip(larger, *(1 / (field * scale) for field in camera.fields[::-1])))
        scale *= larger
    away = -position[2] if at.perspective else 1.0
    position[:2] = (box[:2] - own[:2] * larger) * away / scale
    return replace(at, position=position, scale=scale)


def part_box(picture: np.ndarray) -> np.ndarray:
    """(4,) centre x, y (y up) and width, height in image widths, from the middle: of what is not a plane fitted to the border."""
    mask = foreground(picture)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    size = len(picture)
    if not len(rows):
        return np.array([0.0, 0.0, FILL, FILL])
    left, right, top, bottom = columns[0], columns[-1] + 1, rows[0], rows[-1] + 1
    return np.array([(left + right) / 2 / size - 0.5, 0.5 - (top + bottom) / 2 / size, (right - left) / size, (bottom - top) / size])


def foreground(picture: np.ndarray) -> np.ndarray:
    """(S, S) bool: pixels unlike a plane fitted robustly to the border, in connected patches of a hundredth of the image or more."""
    size = len(picture)
    y, x = np.mgrid[:size, :size] / size - 0.5
    plane = np.stack([np.ones_like(x), x, y], -1)
    border = np.zeros((size, size), bool)
    edge = max(1, size // 20)
    border[:edge], border[-edge:], border[:, :edge], border[:, -edge:] = True, True, True, True
    border &= np.isfinite(picture)
    if border.sum() < 3:
        return np.isfinite(picture)
    weights = np.ones(border.sum())
    for _ in range(8):
        coefficients = np.linalg.lstsq(plane[border] * weights[:, None], picture[border] * weights, rcond=None)[0]
        off = np.abs(picture[border] - plane[border] @ coefficients)
        weights = 1 / np.sqrt(off + 1e-3)
    off = np.abs(picture - plane @ coefficients)
    noise = 1.4826 * np.median(off[border])
    mask = off > max(6 * noise, 0.15 * np.nanquantile(off, 0.98))
    labels, count = ndimage.label(ndimage.binary_closing(mask, iterations=1) | mask)
    large = 1 + np.flatnonzero(np.bincount(labels.ravel(), minlength=count + 1)[1:] >= 0.01 * mask.size)
    return np.isin(labels, large)


def _cropped(picture: np.ndarray, box: np.ndarray) -> np.ndarray:
    """(THUMB, THUMB): the box in the middle at FILL of the width, the border's colour beyond the picture."""
    size, side = len(picture), box[2:].max() / FILL * len(picture)
    around = np.pad(picture, size, mode="edge").astype(np.float32)
    x, y = (1.5 + box[0]) * size, (1.5 - box[1]) * size
    area = (x - side / 2, y - side / 2, x + side / 2, y + side / 2)
    return np.asarray(Image.fromarray(around).resize((THUMB, THUMB), Image.Resampling.BOX, box=area), float)
