"""The built-in renderer: a Numba z-buffer. No display, no OpenGL; grey or colour, depth, normals, feature ids.

Closed meshes only (back faces are culled). Truth buffers sample the pixel's middle; the picture averages samples x samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from cad.errors import InputError
from cad.mesh import Mesh
from synth.scene import Scene

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


def draw(item: Drawable, scene: Scene, size: int, *, samples: int = 2) -> np.ndarray:
    """The picture: (size, size, 3) uint8 sRGB, each pixel the mean light of ``samples`` x ``samples`` rays."""
    if not 1 <= size * samples <= 16384:
        raise InputError("size", f"found {size} px with {samples} x {samples} samples", wanted="1 to 16384 rays across")
    _, face, b1, b2 = _visible(item, scene, size * samples)
    color, back, turn = linear(np.asarray(scene.color)), linear(np.asarray(scene.background)), scene.rotation
    slope = 0.0 if scene.angle is None else np.tan(np.radians(scene.angle) / 2)
    # the lamp and the view are turned into the part's frame, rather than every normal into the camera's
    light = _shaded(
        face,
        b1,
        b2,
        item.normals,
        size,
        samples,
        np.asarray(scene.light) @ turn,
        turn,
        scene.ambient,
        color,
        scene.roughness,
        scene.metallic,
        back,
        slope,
    )
    return np.rint(255 * srgb(light)).astype(np.uint8)


def truth(item: Drawable, scene: Scene, size: int) -> Truth:
    """Depth, normals and feature ids at the pixels' middles."""
    near, face, b1, b2 = _visible(item, scene, size)
    hit = face >= 0
    normals = item.normals[face[hit]]
    normal = np.zeros((size, size, 3), np.float32)
    weights = np.stack([1 - b1[hit] - b2[hit], b1[hit], b2[hit]], 1)
    mixed = np.einsum("nk,nkj->nj", weights, normals) @ scene.rotation.T
    normal[hit] = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
    return Truth(*_depth_and_ids(item, scene, near, face), normal)


def outline(item: Drawable, scene: Scene, size: int) -> Truth:
    """As :func:`truth`, without the normals (zero): what masks are made from."""
    near, face, _, _ = _visible(item, scene, size)
    return Truth(*_depth_and_ids(item, scene, near, face), np.zeros((size, size, 3), np.float32))


def _depth_and_ids(item: Drawable, scene: Scene, near: np.ndarray, face: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    hit = face >= 0
    depth = np.full(face.shape, np.inf, np.float32)
    depth[hit] = -near[hit] if scene.angle is None else 1.0 / near[hit]
    return depth, np.where(hit, item.feature[face], 0).astype(np.uint8)


def linear(color: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] -> linear light (IEC 61966-2-1)."""
    return np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)


def srgb(light: np.ndarray) -> np.ndarray:
    """Linear light, clipped to [0, 1], -> sRGB (IEC 61966-2-1)."""
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def _visible(item: Drawable, scene: Scene, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    perspective = scene.angle is not None
    scale = size / (2 * np.tan(np.radians(scene.angle) / 2)) if perspective else size / scene.field
    turn = scene.rotation
    shift = np.asarray(scene.position) - turn @ np.asarray(scene.pivot)
    near, face, w1, w2 = raster(item.corners, turn, shift, scale, size, perspective)
    if perspective and face[0, 0] == -2:
        raise InputError("camera", "the part reaches behind the camera", wanted="a smaller fill or a narrower angle")
    return near, face, w1, w2


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
def span(starts, across, low, high):  # pragma: no cover - compiled
    """(low, high) of a row where a triangle's three weights, ``starts`` + ``across`` * x, are none below 0: no more than that is looked
    at of a sliver's box. Empty where low > high."""
    for k in range(3):
        if across[k] > 1e-12:
            low = max(low, (-1e-9 - starts[k]) / across[k])
        elif across[k] < -1e-12:
            high = min(high, (-1e-9 - starts[k]) / across[k])
        elif starts[k] < -1e-9:
            high = low - 1.0
    return low, high


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
        ux, vx = (ay - cy) / area, (by - ay) / area
        across = (ux, vx, -ux - vx)  # of the weights of b, c and a, by x
        for j in range(y0, y1 + 1):
            down = j + 0.5 - ay
            u0, v0 = (cx - ax) * down / area, (ax - bx) * down / area
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


@njit(cache=True)
def _shaded(
    face, b1, b2, normals, size, samples, light, turn, ambient, color, roughness, metallic, back, slope
):  # pragma: no cover - compiled
    """(size, size, 3) linear light: ambient + Lambert, and a normalised Blinn-Phong lobe (Schlick's F0 without the edge term)."""
    out = np.zeros((size, size, 3))
    power = max(2.0 / max(roughness, 0.08) ** 4 - 2.0, 0.0)
    lobe = (power + 8.0) / 8.0 / 3.141592653589793
    share = 1.0 / (samples * samples)
    for j in range(size * samples):
        for i in range(size * samples):
            f = face[j, i]
            if f < 0:
                for c in range(3):
                    out[j // samples, i // samples, c] += share * back[c]
                continue
            a, b = b1[j, i], b2[j, i]
            w = 1.0 - a - b
            nx = w * normals[f, 0, 0] + a * normals[f, 1, 0] + b * normals[f, 2, 0]
            ny = w * normals[f, 0, 1] + a * normals[f, 1, 1] + b * normals[f, 2, 1]
            nz = w * normals[f, 0, 2] + a * normals[f, 1, 2] + b * normals[f, 2, 2]
            length = max(np.sqrt(nx * nx + ny * ny + nz * nz), 1e-12)
            lit = max(0.0, (nx * light[0] + ny * light[1] + nz * light[2]) / length)
            vx = -slope * (2.0 * (i + 0.5) / (size * samples) - 1.0)
            vy = slope * (2.0 * (j + 0.5) / (size * samples) - 1.0)
            seen = np.sqrt(vx * vx + vy * vy + 1.0)
            hx = light[0] + (turn[0, 0] * vx + turn[1, 0] * vy + turn[2, 0]) / seen
            hy = light[1] + (turn[0, 1] * vx + turn[1, 1] * vy + turn[2, 1]) / seen
            hz = light[2] + (turn[0, 2] * vx + turn[1, 2] * vy + turn[2, 2]) / seen
            half = max(np.sqrt(hx * hx + hy * hy + hz * hz), 1e-12)
            gloss = 0.0
            if lit > 0.0:
                gloss = lobe * max(0.0, (nx * hx + ny * hy + nz * hz) / length / half) ** power * lit
            for c in range(3):
                mirror = 0.04 * (1.0 - metallic) + color[c] * metallic
                matt = color[c] * (1.0 - 0.5 * metallic)
                out[j // samples, i // samples, c] += share * (matt * (ambient + (1.0 - ambient) * lit) + (1.0 - ambient) * mirror * gloss)
    return out
