"""What a labelled view shows, as other tools' labels have it: masks with categories, run lengths, outlines along the pixels' edges."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from cad.errors import InputError
from synth.dataset import Dataset, Sample
from synth.drawable import Truth
from synth.sampling import Recipe, draw_sample, part_of

LABELS = ("defects", "part", "features")


@dataclass(frozen=True, eq=False)
class View:
    """A sample with its buffers; ``mask`` (S, S) bool what it shows of its defect."""

    sample: Sample
    mask: np.ndarray
    truth: Truth

    @property
    def key(self) -> str:
        return self.sample.key


@dataclass(frozen=True, eq=False)
class Instance:
    """One thing in a view: an index into :func:`categories`, and its (S, S) bool mask."""

    category: int
    mask: np.ndarray

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x, y, width, height in px."""
        (y0, y1), (x0, x1) = ((int(v.min()), int(v.max()) + 1) for v in np.nonzero(self.mask))
        return x0, y0, x1 - x0, y1 - y0


def views_of(data: Dataset) -> Iterator[View]:
    """Every sample with depth and ids, drawn again from its recipe. Raises InputError where this version draws another one."""
    recipe = replace(Recipe.of(data.manifest["recipe"]), truth=True, backend="raycast", samples=1)  # its picture is there already
    part = part_of(data.part.text)
    for sample in data.samples:
        drawn = draw_sample(part, recipe, sample.split, sample.label, sample.index)
        if drawn.sample.line() != sample.line():
            raise InputError(data.folder / sample.image, "was drawn by another version", step="render the data set again with --force")
        yield View(sample, drawn.mask, drawn.truth)


def categories(data: Dataset, labels: tuple[str, ...]) -> list[tuple[str, str]]:
    """(name, kind) of each category: the defects, the part, its sub-components, as far as ``labels`` asks for them."""
    part, kinds = data.part, {"defects": "defect", "part": "part", "features": "sub-component"}
    names = {"defects": list(part.defects), "part": [part.name], "features": list(part.names)}
    return [(name, kinds[label]) for label in LABELS if label in labels for name in names[label]]


def instances(view: View, known: list[tuple[str, str]]) -> list[Instance]:
    """What ``view`` shows of each of ``known`` categories; nothing that it does not show."""
    names = [name for name, kind in known if kind == "sub-component"]

    def mask(name: str, kind: str) -> np.ndarray:
        if kind == "defect":
            return view.mask & (name == view.sample.label)
        return view.truth.feature > 0 if kind == "part" else view.truth.feature == 1 + names.index(name)

    found = [Instance(k, mask(*category)) for k, category in enumerate(known)]
    return [i for i in found if i.mask.any()]


def run_lengths(mask: np.ndarray) -> list[int]:
    """COCO's uncompressed counts of (H, W) bool: down the columns, of 0 first."""
    flat = mask.ravel(order="F")
    ends = np.r_[0, np.flatnonzero(flat[1:] != flat[:-1]) + 1, flat.size]
    counts = np.diff(ends).tolist()
    return [0, *counts] if flat[0] else counts


def outlines(mask: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The outlines of (H, W) bool, and those of its holes: (n, 2) int corners x, y along the pixels' edges, clockwise on the screen;
    holes the other way. Pixels that only touch at a corner belong to two outlines."""
    outer, holes = [], []
    labels = ndimage.label(mask)[0]
    for number, box in enumerate(ndimage.find_objects(labels), 1):
        corner = np.array([box[1].start, box[0].start])
        for loop in _loops(labels[box] == number):
            x, y = (loop - loop[0]).T
            turning = (x * np.roll(y, -1) - np.roll(x, -1) * y).sum()
            (outer if turning > 0 else holes).append(loop + corner)
    return outer, holes


def _loops(mask: np.ndarray) -> Iterator[np.ndarray]:
    """(n, 2) closed chains of pixel edges with the mask on their right."""
    inside = np.pad(mask, 1)
    onward: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for (dy, dx), (ax, ay), (bx, by) in (
        ((-1, 0), (0, 0), (1, 0)), ((0, 1), (1, 0), (1, 1)), ((1, 0), (1, 1), (0, 1)), ((0, -1), (0, 1), (0, 0)),
    ):  # fmt: skip
        ys, xs = np.nonzero(inside[1:-1, 1:-1] & ~np.roll(inside, (-dy, -dx), (0, 1))[1:-1, 1:-1])
        for x, y in zip(xs.tolist(), ys.tolist(), strict=True):
            onward.setdefault((x + ax, y + ay), []).append((x + bx, y + by))
    while onward:
        start = next(iter(onward))
        chain, at = [start], onward[start].pop()
        while True:
            if not onward[chain[-1]]:
                del onward[chain[-1]]
            if at == start:
                break
            dx, dy = at[0] - chain[-1][0], at[1] - chain[-1][1]
            right = (at[0] - dy, at[1] + dx)  # of two ways on, the one about the same pixel
            ways = onward[at]
            ways.remove(then := right if right in ways else ways[0])
            chain.append(at)
            at = then
        corners = np.array(chain)
        steps = corners - np.roll(corners, 1, 0)
        yield corners[(steps != np.roll(steps, -1, 0)).any(1)]
