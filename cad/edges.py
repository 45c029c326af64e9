"""Broken edges: chamfers and fillets of outlines and of the rims of upright bodies, as plain arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cad.errors import InputError

SHARP = 30.0  # degrees: an outline that turns by less goes round a curve, and has no corner there
BACK = 170.0  # degrees: one that turns by more comes back on itself
MOST = 200_000  # points of one body's outline over all of its rings


class Break(NamedTuple):
    """How an edge is broken: ``chamfer`` or ``fillet``, and its leg or radius in mm."""

    kind: str
    size: float
    place: str

    def arc(self, angle: float, chord: float) -> np.ndarray:
        """Angles in radians of the facets of a fillet that turns by ``angle``: as fine as a circle's, at most 128 a quarter."""
        step = 2 * math.acos(1 - chord / self.size) if chord < self.size else math.pi / 2
        return np.linspace(0, angle, max(2, math.ceil(angle / max(step, math.pi / 256)) + 1))


def turns(outline: np.ndarray) -> np.ndarray:
    """(n,) radians by which a closed outline (n, 2) turns at each point; to the left is positive."""
    along = np.roll(outline, -1, 0) - outline
    before = np.roll(along, 1, 0)
    return np.arctan2(before[:, 0] * along[:, 1] - before[:, 1] * along[:, 0], (before * along).sum(1))


def corners(outline: np.ndarray) -> np.ndarray:
    """Indices of the points where the outline has a corner."""
    return np.flatnonzero(abs(turns(outline)) > math.radians(SHARP))


def turns_back(outline: np.ndarray) -> bool:
    """Whether the outline (n, 2) has a spike, or a point twice."""
    return bool(
        (abs(turns(outline)) > math.radians(BACK)).any() or (np.linalg.norm(np.roll(outline, -1, 0) - outline, axis=1) < 1e-9).any()
    )


def broken(outline: np.ndarray, breaks: Mapping[int, Break], chord: float) -> np.ndarray:
    """The closed outline (n, 2) with a chamfer or fillet at the points ``breaks`` names.

    Raises InputError where an edge is too short for what is taken from its ends.
    """
    angle, length = turns(outline), np.linalg.norm(np.roll(outline, -1, 0) - outline, axis=1)
    taken = np.zeros(len(outline))  # of the edges on both sides of each point
    for k, b in breaks.items():
        taken[k] = b.size * (math.tan(abs(angle[k]) / 2) if b.kind == "fillet" else 1.0)
    if breaks and (taken + np.roll(taken, -1) > length * (1 + 1e-9)).any():
        worst = max(breaks.values(), key=lambda b: b.size)
        raise InputError(worst.place, f"found {worst.size:g}: an edge is too short for it", wanted="less")
    points: list[np.ndarray] = []
    for k, point in enumerate(outline):
        if k not in breaks or not taken[k]:
            points.append(point[None])
            continue
        back, on = (outline[k - 1] - point) / length[k - 1], (outline[(k + 1) % len(outline)] - point) / length[k]
        start, end = point + taken[k] * back, point + taken[k] * on
        points.append(_bow(start, end, back, on, breaks[k], abs(angle[k]), chord))
    found = np.concatenate(points)
    return found[np.linalg.norm(found - np.roll(found, 1, 0), axis=1) > 1e-9]


def rounded_path(path: np.ndarray, radius: float, chord: float, place: str) -> np.ndarray:
    """The open path (n, 2) with each inner corner turned on an arc of ``radius`` mm."""
    closed = np.concatenate([path, path[-1:] + path[-1:] - path[-2:-1], path[:1] + path[:1] - path[1:2]])  # ends go on straight
    inner = {k: Break("fillet", radius, place) for k in range(1, len(path) - 1) if abs(turns(closed)[k]) > 1e-9}
    return broken(closed, inner, chord)[:-2]


def band(path: np.ndarray, thickness: float) -> np.ndarray:
    """The outline of a band along an open path (n, 2): its area is thickness times the path's length."""
    along = np.diff(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    normal = np.stack([-along[:, 1], along[:, 0]], 1)
    first, second = np.concatenate([normal[:1], normal]), np.concatenate([normal, normal[-1:]])
    side = thickness / 2 * (first + second) / (1 + (first * second).sum(1, keepdims=True))  # mitred
    return np.concatenate([path - side, (path + side)[::-1]])


def inset(outline: np.ndarray, depth: float) -> np.ndarray:
    """Every edge of the counter-clockwise outline (n, 2) moved inward by ``depth`` mm, point for point; on curves the points.

    Raises ValueError where an edge vanishes before.
    """
    along = np.roll(outline, -1, 0) - outline
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    inward = np.stack([-along[:, 1], along[:, 0]], 1)
    before = np.roll(inward, 1, 0)
    both, cosine = before + inward, (before * inward).sum(1, keepdims=True)
    mitred, round_ = both / (1 + cosine), both / np.linalg.norm(both, axis=1, keepdims=True)  # round_: a fillet shrinks into its centre
    moved = outline + depth * np.where(cosine < math.cos(math.radians(SHARP)), mitred, round_)
    if (((np.roll(moved, -1, 0) - moved) * along).sum(1) < -1e-9).any():
        raise ValueError("an edge vanishes")
    return moved


def rings(outline: np.ndarray, height: float, breaks: Mapping[str, Break], chord: float) -> list[np.ndarray]:
    """(n, 3) each, from the foot up: the upright body over ``outline`` with its ``top`` and ``bottom`` rims broken."""
    steps: list[tuple[float, float]] = []  # inset, z
    for rim, foot, up in (("bottom", 0.0, 1.0), ("top", height, -1.0)):
        level = [(0.0, foot)] if rim not in breaks else [(i, foot + up * z) for i, z in _profile(breaks[rim], chord)]
        steps += level if up > 0 else level[::-1]
    own = [b for name, b in breaks.items() if name != "upright"]
    worst = max(own, key=lambda b: b.size, default=None)
    if sum(b.size for b in own) > height * (1 + 1e-9):
        raise InputError(worst.place, f"found {worst.size:g} on a height of {height:g}", wanted="less than the height for both rims")
    if len(outline) * len(steps) > MOST:
        raise InputError(worst.place, f"{len(outline)} points of the outline with {len(steps)} rings", wanted=f"at most {MOST} in all")
    try:
        return [np.column_stack([inset(outline, i), np.full(len(outline), z)]) for i, z in steps]
    except ValueError:
        raise InputError(worst.place, f"found {worst.size:g}: an edge of the rim is too short for it", wanted="less") from None


def lofted(layers: Sequence[np.ndarray], cap: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces of the body between rings of as many points each; ``cap`` (k, 3): a triangulation of one ring, seen from above."""
    n, count = len(layers[0]), len(layers)
    ring = np.arange(n)
    a, b = ring, (ring + 1) % n
    sides = [np.concatenate([np.stack([a, b, b + n], 1), np.stack([a, b + n, a + n], 1)]) + n * k for k in range(count - 1)]
    return np.concatenate(layers), np.concatenate([cap[:, ::-1], *sides, cap + n * (count - 1)])


def _profile(b: Break, chord: float) -> list[tuple[float, float]]:
    """(inset, distance from the rim's own plane), from that plane on to where the side is whole."""
    if b.kind == "chamfer":
        return [(b.size, 0.0), (0.0, b.size)]
    angles = b.arc(math.pi / 2, chord)
    return [(b.size * (1 - math.sin(t)), b.size * (1 - math.cos(t))) for t in angles]


def _bow(start: np.ndarray, end: np.ndarray, back: np.ndarray, on: np.ndarray, b: Break, angle: float, chord: float) -> np.ndarray:
    """(k, 2): from ``start`` to ``end``, straight or on the arc that touches both edges."""
    if b.kind == "chamfer":
        return np.stack([start, end])
    middle = (back + on) / np.linalg.norm(back + on)  # from the corner towards the arc's centre
    centre = start - b.size * math.tan(angle / 2) * back + b.size / math.cos(angle / 2) * middle
    arc, x, y = b.arc(angle, chord)[:, None], (start - centre) / b.size, -back  # y: along the outline where it arrives
    return centre + b.size * (np.cos(arc) * x + np.sin(arc) * y)
