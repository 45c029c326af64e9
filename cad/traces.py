"""Lines over a mesh, along its edges and across its faces: where burrs and cracks run."""

from __future__ import annotations

import numpy as np

from cad.mesh import Mesh


def fin(mesh: Mesh, edges: np.ndarray, k: int, where: np.ndarray, height: float, length: float) -> list[np.ndarray]:
    """Sections (3, 3) of a burr about ``where`` on edge ``k``: two points within the part, one outside, ``height`` mm off in the middle."""
    (back, behind), (on, ahead) = (_walk(mesh, edges, k, end, where, length / 2) for end in (0, 1))
    points, own = np.array([*back[::-1], where, *on]), [*behind[::-1], *ahead]
    along = np.diff(points, axis=0)
    run = np.concatenate([[0.0], np.cumsum(np.linalg.norm(along, axis=1))])
    run -= run[len(back)]
    out = np.array([mesh.face_normals[(mesh.faces == a).any(1) & (mesh.faces == b).any(1)].sum(0) for a, b in edges[own]])
    place = np.unique(np.concatenate([run, np.linspace(run[0], 0, 9), np.linspace(0, run[-1], 9)]))
    left, right = (np.clip(np.searchsorted(run, place, side) - 1, 0, len(own) - 1) for side in ("left", "right"))
    d, t = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (out[left] + out[right], along[left] + along[right]))
    line = np.column_stack([np.interp(place, run, points[:, a]) for a in range(3)])
    rise = height * (1 - (place / np.where(place < 0, run[0], run[-1])) ** 4)
    foot, side = line - 0.5 * height * d, 0.2 * height * np.cross(t, d)
    return list(np.stack([foot - side, foot + side, line + rise[:, None] * d], 1))


def heights(mesh: Mesh, points: np.ndarray, frame: np.ndarray, reach: float) -> np.ndarray:
    """(n,) mm along the third axis of ``frame`` (3, 3) from each point to the nearest surface that looks the same way, NaN where there is
    none within ``reach``."""
    facing = mesh.triangles[mesh.face_normals @ frame[:, 2] > 0.2]
    a, b, c = np.moveaxis(facing @ frame, 1, 0)
    found = np.full(len(points), np.nan)
    for i, (x, y, z) in enumerate(points @ frame):
        u, v, w = ((q[:, 0] - p[:, 0]) * (y - p[:, 1]) - (q[:, 1] - p[:, 1]) * (x - p[:, 0]) for p, q in ((b, c), (c, a), (a, b)))
        hit = (u >= 0) & (v >= 0) & (w >= 0) & (u + v + w > 1e-12)
        level = ((u * a[:, 2] + v * b[:, 2] + w * c[:, 2])[hit] / (u + v + w)[hit]) - z
        if len(level) and abs(level).min() < reach:
            found[i] = level[np.argmin(abs(level))]
    return found


def _walk(mesh: Mesh, edges: np.ndarray, k: int, end: int, start: np.ndarray, reach: float) -> tuple[list[np.ndarray], list[int]]:
    """From ``start`` on edge ``k`` towards its ``end`` and on along edges that turn by less than 60 degrees: the points within ``reach`` mm,
    the last one at that distance where the edges go so far, and the edge that leads to each."""
    points, own, last = [], [], start
    while reach > 0:
        step = mesh.vertices[edges[k, end]] - last
        length = float(np.linalg.norm(step))
        points.append(last + step * min(1.0, reach / max(length, 1e-12)))
        own.append(k)
        reach, last, corner = reach - length, points[-1], edges[k, end]
        beside = np.array([e for e in np.flatnonzero((edges == corner).any(1)) if e not in own], int)
        if not len(beside):
            break
        ends = (edges[beside, 0] == corner).astype(int)  # the far end of each
        away = mesh.vertices[edges[beside, ends]] - mesh.vertices[corner]
        bend = away @ step / np.maximum(np.linalg.norm(away, axis=1) * length, 1e-12)
        k, end = int(beside[np.argmax(bend)]), int(ends[np.argmax(bend)])
        if bend.max() < 0.5:
            break
    return points, own
