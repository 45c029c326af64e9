"""What renderers are given, and what they give: a mesh made ready, light with coverage, and the truth of each pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from cad.mesh import Mesh

WELD = 1e-7  # of a part's diagonal: vertices nearer than this share their normals


@dataclass(frozen=True, eq=False)
class Drawable:
    """A mesh made ready for drawing many times: ``corners`` (m, 3, 3), ``normals`` (m, 3, 3) smooth within creases, ``feature`` (m,)."""

    corners: np.ndarray
    normals: np.ndarray
    feature: np.ndarray

    @classmethod
    def of(cls, mesh: Mesh, crease: float = 30.0) -> Drawable:
        # solids that only just touch leave two rings of vertices 1e-15 mm apart: one, to the eye
        places, joined = np.unique(np.round(mesh.vertices / (WELD * mesh.diagonal)).astype(np.int64), axis=0, return_inverse=True)
        faces = joined.reshape(-1)[mesh.faces].astype(np.int32)
        order = np.argsort(faces.ravel(), kind="stable")
        start = np.searchsorted(faces.ravel()[order], np.arange(len(places) + 1))
        normals = _corner_normals(faces, order // 3, start, mesh.face_normals, mesh.face_vectors, np.cos(np.radians(crease)))
        return cls(mesh.triangles, normals, mesh.feature.astype(np.int32))


@dataclass(frozen=True, eq=False)
class Truth:
    """Per pixel, at its middle: ``depth`` (H, W) float32 mm along the view, inf behind the part; ``feature`` (H, W) uint8, 0
    behind it; ``normal`` (H, W, 3) float32 in the camera frame, zero behind it."""

    depth: np.ndarray
    feature: np.ndarray
    normal: np.ndarray


@dataclass(frozen=True, eq=False)
class Light:
    """``radiance`` (H, W, 3) float32: the part's linear light, times the share of each pixel that it fills; ``cover`` (H, W) float32: that
    share, in [0, 1]. The rest is left for what is behind it."""

    radiance: np.ndarray
    cover: np.ndarray


@njit(cache=True)
def _corner_normals(faces, around, start, unit, area, crease):  # pragma: no cover - compiled
    out = np.empty((len(faces), 3, 3))
    for f in range(len(faces)):
        for k in range(3):
            x = y = z = 0.0
            v = faces[f, k]
            for i in range(start[v], start[v + 1]):
                g = around[i]
                if unit[f, 0] * unit[g, 0] + unit[f, 1] * unit[g, 1] + unit[f, 2] * unit[g, 2] > crease:
                    x += area[g, 0]
                    y += area[g, 1]
                    z += area[g, 2]
            length = np.sqrt(x * x + y * y + z * z)
            if length > 1e-12:
                out[f, k, 0], out[f, k, 1], out[f, k, 2] = x / length, y / length, z / length
            else:
                out[f, k] = unit[f]
    return out
