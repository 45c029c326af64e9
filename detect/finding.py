"""What is wrong with an outline, in words: a stretch of the whole part with the dimensions that are off by it, a piece that is missing, or one too
many; and the sub-components that may bear its name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import ndimage

from cad.errors import InputError
from cad.expressions import names_in
from cad.part import Part
from detect.dimensions import Measured
from detect.outline import STRETCHES, Outlined, OutlineSearch, stretched
from detect.silhouette import Silhouette
from synth.drawable import Drawable
from synth.raycast import outline

PIECE = 0.01  # of the part's area: a smaller piece of the outline is not said to be missing, or too much
WELL = 0.95  # IoU of outlines below which a photograph may show another part than this, and that is said
CHANGED = 1.1  # times its nominal size, by which a dimension is tried
MOVES = 0.04  # of the silhouette that must change for a dimension to be seen in it


@dataclass(frozen=True, eq=False)
class Finding:
    """``words`` for a person; ``kind``: ``out of tolerance``, ``missing piece`` or ``extra piece``; ``where`` (S, S) bool; ``among``: the
    sub-components that it may be on; ``dimensions`` that are off by it, as an Inspection has them."""

    words: str
    kind: str
    where: np.ndarray
    among: tuple[str, ...]
    dimensions: dict[str, dict[str, Any]] = field(default_factory=dict)


def finding(part: Part, search: OutlineSearch, seen: Silhouette, found: Outlined, level: float) -> Finding | None:
    """Of a fitted outline, disagreement above ``level`` counting; None where nothing can be said of it."""
    if (stretch := stretched(seen, found, search)) is not None:
        return _stretch(part, search, found, level, *stretch)
    area = max((found.ids > 0).sum(), 1)
    apart = "" if found.iou > WELL else f"; its outline agrees with the nearest pose's by {100 * found.iou:.0f} %"
    for sign, words, kind in ((-1, "a piece is missing", "missing piece"), (1, "more than the part is there", "extra piece")):
        labels, count = ndimage.label(sign * found.excess > level)
        sizes = np.bincount(labels.ravel(), minlength=2)[1:]
        if count and sizes.max() > PIECE * area:
            # what is missing is missing of something that was added
            added = tuple(dict.fromkeys(f.name for f in part.features if f.operation == "add")) or part.names
            told = f"{words}: {100 * sizes.max() / area:.0f} % of its outline's area{apart}"
            return Finding(told, kind, labels == 1 + int(np.argmax(sizes)), added)
    return None


def _stretch(part: Part, search: OutlineSearch, found: Outlined, level: float, factor: float, degrees: float) -> Finding:
    """No scale is known but the fit's own: a dimension's value is how it would be along the stretch if it were right across it."""
    off = across(part, search)
    sigma = float(np.diff(STRETCHES).min()) / 2
    told = {n: vars(Measured.of(part.dimensions[n], part.nominal[n] * factor, part.nominal[n] * sigma)) for n in off}
    sizes = ", ".join(f"{n} about {d['value']:.3g} mm" for n, d in told.items())
    words = f"{factor:.2f} times as long along {degrees:.0f} degrees as across: out of tolerance there: {sizes or 'the whole part'}"
    bears = tuple(dict.fromkeys(f.name for f in part.features if f.operation != "keep" and set(off) & names_in(f.values)))
    off_by = np.abs(found.excess)
    where = off_by > min(level, 0.999 * float(off_by.max()))  # a stretch is told all along the outline, however little each place is off
    return Finding(words, "out of tolerance", where, bears or part.names, told)


def across(part: Part, search: OutlineSearch) -> list[str]:
    """The dimensions that change the part's silhouette seen along its axis, or its holes."""
    scene = search.scene(np.array(search.known[0][0]), (0.0, 0.0), 0.0)
    own = outline(search.item, scene, 96).feature > 0

    def moves(name: str) -> bool:
        try:
            changed = Drawable.of(part.mesh({**part.nominal, name: CHANGED * part.nominal[name]}))
        except InputError:
            return False
        return bool((own != (outline(changed, scene, 96).feature > 0)).sum() > MOVES * own.sum())

    return [n for n in part.dimensions if moves(n)]
