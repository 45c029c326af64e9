"""Where a part stands in its own light: the shadows of far lamps, by shadow maps (Williams 1978).

A map holds the faces that look away from the lamp: a lit point lies in shadow where one of those is nearer to the lamp, and next to
no bias is needed to keep a surface from shadowing itself (Wang and Molnar 1994).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from synth.raster import inverses, span
from synth.scene import Placement

FINEST = 384  # texels of a map's side at most


def cast(
    corners: np.ndarray, pivot: np.ndarray, at: Placement, near: np.ndarray, face: np.ndarray, slope: np.ndarray, lamps: np.ndarray
) -> np.ndarray:
    """(L, F, F) float32: what the shadows of ``lamps`` (L, 3), unit vectors in the camera's frame, take from each sample of a fine
    grid, by the cosine to the lamp, or (L, 7) as :func:`shining` has them; 0 on surfaces that face away from it. ``at``: the Placement
    that ``near``, ``face`` and ``slope`` were drawn at."""
    fine, texels = len(near), min(FINEST, len(near))
    out, map_ = np.empty((len(lamps), fine, fine), np.float32), np.empty((texels, texels), np.float32)
    rows = np.ascontiguousarray(lamps if lamps.shape[1] == 7 else shining(lamps, lamps, np.ones(len(lamps))), float)
    fill_cast(corners, np.asarray(pivot, float), at.turn, at.position, at.scale * fine, at.perspective, near, face, slope, rows, map_, out)
    return out


def shining(lamps: np.ndarray, aims: np.ndarray, powers: np.ndarray) -> np.ndarray:
    """(L, 7): each lamp (3,), and the lobe by which it lights a surface: the cosine to ``aims`` (L, 3) to the ``powers`` (L,)."""
    return np.column_stack([lamps, aims, powers])


def lost(taken: np.ndarray, samples: int) -> np.ndarray:
    """(C, F, F) -> (N, C) float64: means over the samples of each pixel."""
    columns = np.zeros(((taken.shape[1] // samples) ** 2, len(taken)))
    fill_means(taken, samples, columns)
    return columns


def lamp_frame(lamp: np.ndarray) -> np.ndarray:
    """(3, 3) rows: two directions across the ``lamp``'s (3,), and its own."""
    frame = np.empty((3, 3))
    fill_frame(np.asarray(lamp, float), frame)
    return frame


def beside(lamp: np.ndarray, angle: float) -> np.ndarray:
    """(5, 3) unit vectors: a direction (3,) and four about ``angle`` radians off it."""
    across = lamp_frame(lamp)[:2]
    around = np.stack([lamp, *(lamp + angle * side for side in (across[0], -across[0], across[1], -across[1]))])
    return around / np.linalg.norm(around, axis=1, keepdims=True)


@njit(cache=True, nogil=True)
def fill_frame(lamp, frame):  # pragma: no cover - compiled
    x, y, z = lamp
    if abs(y) < 0.9:  # (0, 1, 0) x lamp
        a, b, c = z, 0.0, -x
    else:  # (1, 0, 0) x lamp
        a, b, c = 0.0, -z, y
    length = np.sqrt(a * a + b * b + c * c)
    a, b, c = a / length, b / length, c / length
    frame[0, 0], frame[0, 1], frame[0, 2] = a, b, c
    frame[1, 0], frame[1, 1], frame[1, 2] = y * c - z * b, z * a - x * c, x * b - y * a
    frame[2, 0], frame[2, 1], frame[2, 2] = x, y, z


@njit(cache=True, nogil=True)
def fill_means(taken, samples, columns):  # pragma: no cover - compiled
    fine, share = taken.shape[1], 1.0 / (samples * samples)
    size = fine // samples
    for c in range(len(taken)):
        for j in range(fine):
            for i in range(fine):
                if taken[c, j, i] != 0.0:
                    columns[(j // samples) * size + i // samples, c] += share * taken[c, j, i]


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "arcp", "nsz"})
def fill_cast(corners, pivot, turn, position, scale, perspective, near, face, slope, lamps, map_, out):  # pragma: no cover - compiled
    """Fills ``out`` (L, F, F); ``corners`` (m, 3, 3); ``scale`` fine px per mm, or the focal length in them."""
    reach = 0.0
    for f in range(len(corners)):
        for k in range(3):
            reach = max(reach, corners[f, k, 0] ** 2 + corners[f, k, 1] ** 2 + corners[f, k, 2] ** 2)
    texels = len(map_)
    fine = texels / (2.04 * np.sqrt(reach))
    frame, own = np.empty((3, 3)), np.empty((3, 3))
    for k in range(len(lamps)):
        same = k > 0
        for a in range(3):
            same = same and lamps[k, a] == lamps[k - 1, a]
        if not same:
            fill_frame(lamps[k, :3], frame)
            for a in range(3):
                for b in range(3):
                    own[a, b] = frame[a, 0] * turn[0, b] + frame[a, 1] * turn[1, b] + frame[a, 2] * turn[2, b]
            fill_map(corners, pivot, own, fine, map_)
        fill_shadow(near, face, slope, frame, lamps[k, 3:], position, scale, perspective, map_, fine, out[k])


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "arcp", "nsz"})
def fill_map(corners, pivot, turn, scale, map_):  # pragma: no cover - compiled
    """How near to the lamp the nearest face that looks away from it is, -inf where there is none; ``turn``: into the lamp's frame."""
    texels = len(map_)
    map_[:] = -np.inf
    x, y, z = np.empty(3), np.empty(3), np.empty(3)
    for f in range(len(corners)):
        for k in range(3):
            px, py, pz = corners[f, k, 0] - pivot[0], corners[f, k, 1] - pivot[1], corners[f, k, 2] - pivot[2]
            x[k] = 0.5 * texels + scale * (turn[0, 0] * px + turn[0, 1] * py + turn[0, 2] * pz)
            y[k] = 0.5 * texels - scale * (turn[1, 0] * px + turn[1, 1] * py + turn[1, 2] * pz)
            z[k] = turn[2, 0] * px + turn[2, 1] * py + turn[2, 2] * pz
        area = (x[2] - x[0]) * (y[1] - y[0]) - (x[1] - x[0]) * (y[2] - y[0])  # positive: it faces the lamp
        if area >= -1e-12:
            continue
        j0, j1 = max(0, int(np.ceil(min(y[0], y[1], y[2]) - 0.5))), min(texels - 1, int(np.floor(max(y[0], y[1], y[2]) - 0.5)))
        i0, i1 = max(0, int(np.ceil(min(x[0], x[1], x[2]) - 0.5))), min(texels - 1, int(np.floor(max(x[0], x[1], x[2]) - 0.5)))
        if i0 > i1 or j0 > j1:
            continue
        inverse = 1.0 / area
        ux, uy = -(y[2] - y[0]) * inverse, (x[2] - x[0]) * inverse  # both weights are linear over the map
        vx, vy = (y[1] - y[0]) * inverse, -(x[1] - x[0]) * inverse
        across, down = ux * (z[1] - z[0]) + vx * (z[2] - z[0]), uy * (z[1] - z[0]) + vy * (z[2] - z[0])
        slopes = inverses(ux, vx, -ux - vx)
        for j in range(j0, j1 + 1):
            dy = j + 0.5 - y[0]
            low, high = span((uy * dy, vy * dy, 1.0 - (uy + vy) * dy), slopes, i0 + 0.5 - x[0], i1 + 0.5 - x[0])
            for i in range(int(np.ceil(low + x[0] - 0.5)), int(np.floor(high + x[0] - 0.5)) + 1):
                depth = z[0] + across * (i + 0.5 - x[0]) + down * dy
                if depth > map_[j, i]:
                    map_[j, i] = depth


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "arcp", "nsz"})
def fill_shadow(near, face, slope, frame, lobe, position, scale, perspective, map_, fine, out):  # pragma: no cover - compiled
    """Fills ``out`` with the share of each sample in shadow, from the four texels about it, times the ``lobe`` (4,) there."""
    size, texels = len(near), len(map_)
    middle, half, slack, unit = 0.5 * size, 0.5 * texels - 0.5, 0.5 / fine, 1.0 / scale
    plain, simple = lobe[3] == 0.0, lobe[3] == 1.0
    for j in range(size):
        for i in range(size):
            out[j, i] = 0.0
            if face[j, i] < 0:
                continue
            nx, ny = slope[j, i, 0], slope[j, i, 1]
            nz = np.sqrt(max(0.0, 1 - nx * nx - ny * ny))
            cosine = nx * frame[2, 0] + ny * frame[2, 1] + nz * frame[2, 2]
            if cosine <= 0.0:
                continue
            z = -1.0 / near[j, i] if perspective else near[j, i]
            wide = -z * unit if perspective else unit  # mm a sample
            x, y = (i + 0.5 - middle) * wide - position[0], (middle - j - 0.5) * wide - position[1]
            z -= position[2]
            u = half + fine * (frame[0, 0] * x + frame[0, 1] * y + frame[0, 2] * z)
            v = half - fine * (frame[1, 0] * x + frame[1, 1] * y + frame[1, 2] * z)
            depth = frame[2, 0] * x + frame[2, 1] * y + frame[2, 2] * z + slack
            if not (0 <= u < texels - 1 and 0 <= v < texels - 1):
                continue
            a, b = int(u), int(v)
            fx, fy = u - a, v - b
            share = 0.0
            if map_[b, a] > depth:
                share += (1 - fx) * (1 - fy)
            if map_[b, a + 1] > depth:
                share += fx * (1 - fy)
            if map_[b + 1, a] > depth:
                share += (1 - fx) * fy
            if map_[b + 1, a + 1] > depth:
                share += fx * fy
            if share > 0.0:
                shine = nx * lobe[0] + ny * lobe[1] + nz * lobe[2]
                out[j, i] = share * (1.0 if plain else shine if simple else max(shine, 0.0) ** lobe[3])
