"""How far one surface is from another, in mm: what a defect did, measured on the meshes."""

from __future__ import annotations

import numpy as np

from cad.mesh import Mesh


def deviation(mesh: Mesh, good: Mesh) -> float:
    """The largest distance in mm of a point of either surface from the other (Hausdorff), over the corners and middles of the faces that
    they do not share: what lies within a face is missed, so that ``mesh`` should have corners where it deviates most."""
    return max(_furthest(_own(mesh, good), good.triangles), _furthest(_own(good, mesh), mesh.triangles))


def distance(point: np.ndarray, triangles: np.ndarray, boxes: tuple[np.ndarray, np.ndarray] | None = None) -> float:
    """mm from ``point`` (3,) to the nearest point of any of the triangles (m, 3, 3); ``boxes``: their lowest and highest corners, where known."""
    low, high = boxes or (triangles.min(1), triangles.max(1))
    gap = np.maximum(np.maximum(low - point, point - high), 0)
    at_least = np.einsum("ij,ij->i", gap, gap)
    first = _to_triangles(point, triangles[[np.argmin(at_least)]]).min()
    return float(_to_triangles(point, triangles[at_least <= first**2 * (1 + 1e-9)]).min(initial=first))


def _furthest(points: np.ndarray, triangles: np.ndarray) -> float:
    """The largest of the points' distances. A neighbour is at most its own distance further off: most are never asked."""
    best, at_most = 0.0, np.full(len(points), np.inf)
    boxes = triangles.min(1), triangles.max(1)
    while len(points) and at_most.max() > best * (1 + 1e-6) + 1e-9:
        i = np.argmax(at_most)
        found = distance(points[i], triangles, boxes)
        best, at_most = max(best, found), np.minimum(at_most, found + np.linalg.norm(points - points[i], axis=1))
    return best


def _own(mesh: Mesh, other: Mesh) -> np.ndarray:
    """(n, 3): corners and middles of the faces that ``other`` has not."""
    known = {t.tobytes() for t in other.triangles.round(6)}
    own = mesh.triangles[[t.tobytes() not in known for t in mesh.triangles.round(6)]]
    return np.concatenate([np.unique(own.reshape(-1, 3), axis=0), own.mean(1)])


def _to_triangles(p: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """(m,) distances of one point: to the plane where its foot lies within the triangle, else to the nearest side."""
    a, b, c = np.moveaxis(triangles, 1, 0)
    normal = np.cross(b - a, c - a)
    size = np.einsum("ij,ij->i", normal, normal)
    sides = [(a, b), (b, c), (c, a)]
    within = np.all([np.einsum("ij,ij->i", np.cross(e - s, p - s), normal) >= 0 for s, e in sides], axis=0) & (size > 0)
    plane = abs(np.einsum("ij,ij->i", p - a, normal)) / np.sqrt(np.maximum(size, 1e-300))
    return np.where(within, plane, np.min([_to_side(p, s, e) for s, e in sides], axis=0))


def _to_side(p: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    along = end - start
    share = np.einsum("ij,ij->i", p - start, along) / np.maximum(np.einsum("ij,ij->i", along, along), 1e-300)
    return np.linalg.norm(p - start - np.clip(share, 0, 1)[:, None] * along, axis=1)
