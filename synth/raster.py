"""The z-buffer: which triangle each ray meets first, and where on it. Back faces are culled, so closed meshes only."""

from __future__ import annotations

import numpy as np
from numba import njit


def raster(
    corners: np.ndarray, turn: np.ndarray, shift: np.ndarray, scale: float, size: int, perspective: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Nearness (grows towards the camera, linear on the image; -inf behind the part), face (-1: none) and the weights of corners 1 and
    2, each (size, size). A part that reaches behind a perspective camera gives face[0, 0] = -2."""
    best, face = np.empty((size, size)), np.empty((size, size), np.int32)
    w1, w2 = np.empty((size, size)), np.empty((size, size))
    fill_raster(corners, turn, shift, scale, perspective, best, face, w1, w2)
    return best, face, w1, w2


@njit(cache=True, nogil=True)
def span(starts, inverse, low, high):  # pragma: no cover - compiled
    """(low, high) of a row where a triangle's three weights, ``starts`` + x / ``inverse``, are none below 0: no more than that is looked
    at of a sliver's box. Empty where low > high. An ``inverse`` of 0: the weight is the same all along the row."""
    for k in range(3):
        edge = (-1e-9 - starts[k]) * inverse[k]
        if inverse[k] > 0.0:
            low = max(low, edge)
        elif inverse[k] < 0.0:
            high = min(high, edge)
        elif starts[k] < -1e-9:
            high = low - 1.0
    return low, high


@njit(cache=True, nogil=True)
def inverses(a, b, c):  # pragma: no cover - compiled
    """What :func:`span` wants of three slopes: divided once a triangle, not once a row."""
    return (1.0 / a if abs(a) > 1e-12 else 0.0, 1.0 / b if abs(b) > 1e-12 else 0.0, 1.0 / c if abs(c) > 1e-12 else 0.0)


@njit(cache=True, nogil=True)
def fill_raster(corners, turn, shift, scale, perspective, best, face, w1, w2):  # pragma: no cover - compiled
    """Fills what :func:`raster` gives. In place: compiled code that calls it leaves no arrays of its own to be handed to Python, which
    Numba 0.68 cannot do for a function whose first caller was another cached one."""
    size = len(best)
    x, y, near = np.empty(3), np.empty(3), np.empty(3)
    best[:] = -np.inf
    face[:] = -1
    w1[:] = 0.0
    w2[:] = 0.0
    for f in range(len(corners)):
        for k in range(3):
            px, py, pz = corners[f, k, 0], corners[f, k, 1], corners[f, k, 2]
            cam_z = turn[2, 0] * px + turn[2, 1] * py + turn[2, 2] * pz + shift[2]
            x[k] = turn[0, 0] * px + turn[0, 1] * py + turn[0, 2] * pz + shift[0]
            y[k] = turn[1, 0] * px + turn[1, 1] * py + turn[1, 2] * pz + shift[1]
            near[k] = cam_z
            if perspective:
                if cam_z > -1e-3:
                    face[0, 0] = -2
                    return
                near[k] = -1.0 / cam_z
                x[k] *= near[k]
                y[k] *= near[k]
        ax, ay = 0.5 * size + scale * x[0], 0.5 * size - scale * y[0]
        bx, by = 0.5 * size + scale * x[1], 0.5 * size - scale * y[1]
        cx, cy = 0.5 * size + scale * x[2], 0.5 * size - scale * y[2]
        area = (cx - ax) * (by - ay) - (bx - ax) * (cy - ay)  # y runs down: front faces are positive so
        if area <= 1e-12:
            continue
        y0 = max(0, int(np.ceil(min(ay, by, cy) - 0.5)))
        y1 = min(size - 1, int(np.floor(max(ay, by, cy) - 0.5)))
        x0 = max(0, int(np.ceil(min(ax, bx, cx) - 0.5)))
        x1 = min(size - 1, int(np.floor(max(ax, bx, cx) - 0.5)))
        if x0 > x1 or y0 > y1:
            continue
        na, nb, nc = near[0], near[1], near[2]
        ux, vx, uy, vy = (ay - cy) / area, (by - ay) / area, (cx - ax) / area, (ax - bx) / area
        across = inverses(ux, vx, -ux - vx)  # of the weights of b, c and a, by x
        for j in range(y0, y1 + 1):
            u0, v0 = uy * (j + 0.5 - ay), vy * (j + 0.5 - ay)
            low, high = span((u0, v0, 1.0 - u0 - v0), across, x0 + 0.5 - ax, x1 + 0.5 - ax)
            for i in range(int(np.ceil(low + ax - 0.5)), int(np.floor(high + ax - 0.5)) + 1):
                right = i + 0.5 - ax
                u, v = u0 + ux * right, v0 + vx * right
                n = (1.0 - u - v) * na + u * nb + v * nc
                if n > best[j, i]:
                    best[j, i] = n
                    face[j, i] = f
                    if perspective:
                        w1[j, i] = u * nb / n
                        w2[j, i] = v * nc / n
                    else:
                        w1[j, i] = u
                        w2[j, i] = v


@njit(inline="always")
def interpolated(normals, face, w1, w2):  # pragma: no cover - compiled
    """The normal (x, y, z) within a triangle of ``normals`` (m, 3, 3), by the weights of its corners 1 and 2; not of unit length. Written
    into each caller, so that it is compiled with that one's flags."""
    w0 = 1.0 - w1 - w2
    return (
        w0 * normals[face, 0, 0] + w1 * normals[face, 1, 0] + w2 * normals[face, 2, 0],
        w0 * normals[face, 0, 1] + w1 * normals[face, 1, 1] + w2 * normals[face, 2, 1],
        w0 * normals[face, 0, 2] + w1 * normals[face, 1, 2] + w2 * normals[face, 2, 2],
    )
