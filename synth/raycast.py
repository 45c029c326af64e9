"""The built-in renderer: a Numba z-buffer. No display, no OpenGL; grey or colour, depth, normals, feature ids.

Closed meshes only (back faces are culled). Truth buffers sample the pixel's middle; the picture averages samples x samples.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from cad.errors import InputError
from synth.color import linear, srgb8
from synth.drawable import Drawable, Truth
from synth.raster import interpolated, raster
from synth.scene import Lamp, Scene, lamps_of, placement_of
from synth.shadows import cast, shining


def draw(item: Drawable, scene: Scene, size: int, *, samples: int = 2) -> np.ndarray:
    """The picture: (size, size, 3) uint8 sRGB, each pixel the mean light of ``samples`` x ``samples`` rays."""
    if not 1 <= size * samples <= 16384:
        raise InputError("size", f"found {size} px with {samples} x {samples} samples", wanted="1 to 16384 rays across")
    near, face, b1, b2 = _visible(item, scene, size * samples)
    color, back, turn = linear(np.asarray(scene.color)), linear(np.asarray(scene.background)), scene.rotation
    slope = 0.0 if scene.angle is None else np.tan(np.radians(scene.angle) / 2)
    lamps = lamps_of(scene)
    # lamps and the view are turned into the part's frame, rather than every normal into the camera's
    towards = np.array([lamp.direction for lamp in lamps]) @ turn
    powers = np.array([lamp.power * linear(np.asarray(lamp.color)) for lamp in lamps])
    dark = _shadowed(item, scene, near, face, b1, b2, lamps) if scene.shadows else np.zeros((len(lamps), 0, 0), np.float32)
    light = _shaded(
        face, b1, b2, item.normals, size, samples, towards, powers, dark, turn, scene.ambient, color, scene.roughness, scene.metallic, back, slope
    )  # fmt: skip
    return srgb8(light)


def _shadowed(
    item: Drawable, scene: Scene, near: np.ndarray, face: np.ndarray, b1: np.ndarray, b2: np.ndarray, lamps: tuple[Lamp, ...]
) -> np.ndarray:
    """(L, F, F) float32: the share of each ray's place that lies in the shadow of each lamp."""
    normals = np.zeros((*face.shape, 2), np.float32)
    fill_slopes(face, b1, b2, item.normals, scene.rotation, normals)
    pivot = np.asarray(scene.pivot)
    directions = np.array([lamp.direction for lamp in lamps])
    rows = shining(directions, directions, np.zeros(len(lamps)))  # to the power of 0: the shadow alone
    return cast(item.corners, pivot, placement_of(scene, pivot), near, face, normals, rows)


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


def _visible(item: Drawable, scene: Scene, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    perspective = scene.angle is not None
    scale = size / (2 * np.tan(np.radians(scene.angle) / 2)) if perspective else size / scene.field
    turn = scene.rotation
    shift = np.asarray(scene.position) - turn @ np.asarray(scene.pivot)
    near, face, w1, w2 = raster(item.corners, turn, shift, scale, size, perspective)
    if perspective and face[0, 0] == -2:
        raise InputError("camera", "the part reaches behind the camera", wanted="a smaller fill or a narrower angle")
    return near, face, w1, w2


@njit(cache=True, nogil=True)
def fill_slopes(face, b1, b2, normals, turn, out):  # pragma: no cover - compiled
    """``out`` (F, F, 2) float32: x and y of the unit normals in the camera's frame; 0 behind the part."""
    for j in range(len(face)):
        for i in range(len(face)):
            f = face[j, i]
            if f < 0:
                continue
            x, y, z = interpolated(normals, f, b1[j, i], b2[j, i])
            unit = 1.0 / max(np.sqrt(x * x + y * y + z * z), 1e-12)
            out[j, i, 0] = unit * (turn[0, 0] * x + turn[0, 1] * y + turn[0, 2] * z)
            out[j, i, 1] = unit * (turn[1, 0] * x + turn[1, 1] * y + turn[1, 2] * z)


@njit(cache=True)
def _shaded(
    face, b1, b2, normals, size, samples, lamps, powers, dark, turn, ambient, color, roughness, metallic, back, slope
):  # pragma: no cover - compiled
    """(size, size, 3) linear light: ambient + Lambert, and a normalised Blinn-Phong lobe (Schlick's F0 without the edge term), of each of
    ``lamps`` (L, 3), as bright as ``powers`` (L, 3) where it is not ``dark`` (L, F, F; F 0: nowhere)."""
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
            nx, ny, nz = interpolated(normals, f, b1[j, i], b2[j, i])
            length = max(np.sqrt(nx * nx + ny * ny + nz * nz), 1e-12)
            vx = -slope * (2.0 * (i + 0.5) / (size * samples) - 1.0)
            vy = slope * (2.0 * (j + 0.5) / (size * samples) - 1.0)
            seen = np.sqrt(vx * vx + vy * vy + 1.0)
            for c in range(3):
                out[j // samples, i // samples, c] += share * color[c] * (1.0 - 0.5 * metallic) * ambient
            for k in range(len(lamps)):
                lit = (nx * lamps[k, 0] + ny * lamps[k, 1] + nz * lamps[k, 2]) / length
                if lit <= 0.0:
                    continue
                hx = lamps[k, 0] + (turn[0, 0] * vx + turn[1, 0] * vy + turn[2, 0]) / seen
                hy = lamps[k, 1] + (turn[0, 1] * vx + turn[1, 1] * vy + turn[2, 1]) / seen
                hz = lamps[k, 2] + (turn[0, 2] * vx + turn[1, 2] * vy + turn[2, 2]) / seen
                half = max(np.sqrt(hx * hx + hy * hy + hz * hz), 1e-12)
                gloss = lobe * max(0.0, (nx * hx + ny * hy + nz * hz) / length / half) ** power * lit
                free = share if dark.shape[1] == 0 else share * (1.0 - dark[k, j, i])
                for c in range(3):
                    mirror = 0.04 * (1.0 - metallic) + color[c] * metallic
                    matt = color[c] * (1.0 - 0.5 * metallic)
                    out[j // samples, i // samples, c] += free * powers[k, c] * (matt * lit + mirror * gloss)
    return out
