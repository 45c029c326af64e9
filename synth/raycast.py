"""The built-in renderer: a Numba z-buffer. No display, no OpenGL; light, depth, normals, feature ids.

Closed meshes only (back faces are culled). Truth buffers sample the pixel's middle; light averages samples x samples rays, and is
worked out once a pixel where they all meet one smooth piece.
"""

from __future__ import annotations

import threading

import numpy as np
from numba import njit

from cad.errors import InputError
from synth.color import linear, over8
from synth.drawable import Drawable, Light, Truth
from synth.raster import fill_raster, interpolated
from synth.scene import Lamp, Scene, lamps_of, placement_of
from synth.shadows import cast, lamp_frame, shining
from synth.sky import ambient

SOFT = 12  # directions to a lamp's disc that its soft shadow is the mean of
KEPT = 4  # sizes of buffers that a thread keeps
SMOOTH = 0.01  # of a highlight that may change within a pixel that is lit as one


def draw(item: Drawable, scene: Scene, size: int, *, samples: int = 2) -> np.ndarray:
    """The picture of a pinhole before the scene's plain background: (size, size, 3) uint8 sRGB. What else a scene may have about it,
    :func:`synth.photograph.photograph` draws."""
    seen = light(item, scene, size, samples=samples)
    return over8(seen.radiance, seen.cover, linear(np.asarray(scene.background)))


def light(item: Drawable, scene: Scene, size: int, *, samples: int = 2) -> Light:
    """What the part gives off towards a pinhole: each pixel the mean of ``samples`` x ``samples`` rays."""
    if not 1 <= size * samples <= 16384:
        raise InputError("size", f"found {size} px with {samples} x {samples} samples", wanted="1 to 16384 rays across")
    near, face, b1, b2 = _visible(item, scene, size * samples)
    normals = _buffers(size * samples)[-1]
    fill_normals(face, b1, b2, item.normals, scene.rotation, normals)
    lamps = lamps_of(scene)
    dark = _shadowed(item, scene, near, face, normals, lamps) if scene.shadows else np.zeros((len(lamps), 0, 0), np.float32)
    closed = _occluded(item, scene, near, face, normals) if scene.occlusion else np.zeros((0, 0), np.float32)
    towards = np.array([lamp.direction for lamp in lamps])
    powers = np.array([lamp.power * linear(np.asarray(lamp.color)) for lamp in lamps])
    radiance, cover = np.empty((size, size, 3), np.float32), np.empty((size, size), np.float32)
    slope = 0.0 if scene.angle is None else np.tan(np.radians(scene.angle) / 2)
    fill_light(
        face, normals, samples, towards, powers, dark, ambient(scene), scene.sky is not None, closed, linear(np.asarray(scene.color)),
        scene.roughness, scene.metallic, slope, radiance, cover,
    )  # fmt: skip
    return Light(radiance, cover)


def _shadowed(item: Drawable, scene: Scene, near: np.ndarray, face: np.ndarray, normals: np.ndarray, lamps: tuple[Lamp, ...]) -> np.ndarray:
    """(L, F, F) float32: the share of each lamp that each ray's place does not see."""
    if not any(lamp.size for lamp in lamps):
        return _hidden(item, scene, near, face, normals, np.array([lamp.direction for lamp in lamps]))
    parts = [_hidden(item, scene, near, face, normals, disc(lamp)) for lamp in lamps]
    return np.stack([part.mean(0) for part in parts])


def disc(lamp: Lamp) -> np.ndarray:
    """(n, 3) unit vectors evenly over a lamp's disc (a sunflower's: Vogel 1979); one where it is a point."""
    direction = np.asarray(lamp.direction, float)
    if not lamp.size:
        return direction[None]
    k = np.arange(SOFT) + 0.5
    reach, turn = np.tan(np.radians(lamp.size)) * np.sqrt(k / SOFT), np.pi * (3 - np.sqrt(5)) * k
    across = lamp_frame(direction)[:2]
    rays = direction + reach[:, None] * (np.cos(turn)[:, None] * across[0] + np.sin(turn)[:, None] * across[1])
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)


def _occluded(item: Drawable, scene: Scene, near: np.ndarray, face: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """(F, F) float32: the share of the sky's light that the part hides from itself: over directions evenly about it, by the cosine."""
    k = np.arange(scene.occlusion) + 0.5
    up, turn = 1 - 2 * k / scene.occlusion, np.pi * (3 - np.sqrt(5)) * k
    across = np.sqrt(1 - up**2)
    ways = np.column_stack([across * np.cos(turn), across * np.sin(turn), up])
    lost, total = np.zeros(face.shape, np.float32), np.full(face.shape, 1e-6, np.float32)
    for way in ways:  # one at a time: all of them would fill the memory
        cosine = np.clip(normals @ way.astype(np.float32), 0, None)
        lost += cosine * _hidden(item, scene, near, face, normals, way[None])[0]
        total += cosine
    return lost / total


def _hidden(item: Drawable, scene: Scene, near: np.ndarray, face: np.ndarray, normals: np.ndarray, ways: np.ndarray) -> np.ndarray:
    """(L, F, F) float32: 1 where the part stands between a ray's place and what is far off in the direction of ``ways`` (L, 3)."""
    pivot = np.asarray(scene.pivot)
    rows = shining(ways, ways, np.zeros(len(ways)))  # to the power of 0: the shadow alone
    return cast(item.corners, pivot, placement_of(scene, pivot), near, face, normals, rows)


def truth(item: Drawable, scene: Scene, size: int) -> Truth:
    """Depth, normals and feature ids at the pixels' middles."""
    return _truth(item, scene, size, normals=True)


def outline(item: Drawable, scene: Scene, size: int) -> Truth:
    """As :func:`truth`, without the normals (zero): what masks are made from."""
    return _truth(item, scene, size, normals=False)


def _truth(item: Drawable, scene: Scene, size: int, *, normals: bool) -> Truth:
    near, face, b1, b2 = _visible(item, scene, size)
    depth, feature = np.empty((size, size), np.float32), np.empty((size, size), np.uint8)
    fill_truth(near, face, scene.angle is not None, item.feature, depth, feature)
    normal = np.zeros((size, size, 3), np.float32)
    if normals:
        fill_normals(face, b1, b2, item.normals, scene.rotation, normal)
    return Truth(depth, feature, normal)


def missing() -> None:
    """It renders wherever this package does."""


def _visible(item: Drawable, scene: Scene, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    perspective = scene.angle is not None
    scale = size / (2 * np.tan(np.radians(scene.angle) / 2)) if perspective else size / scene.field
    turn = scene.rotation
    shift = np.asarray(scene.position) - turn @ np.asarray(scene.pivot)
    near, face, w1, w2, _ = _buffers(size)
    fill_raster(item.corners, turn, shift, scale, perspective, near, face, w1, w2)
    if perspective and face[0, 0] == -2:
        raise InputError("camera", "the part reaches behind the camera", wanted="a smaller fill or a narrower angle")
    return near, face, w1, w2


_kept = threading.local()


def _buffers(size: int) -> tuple[np.ndarray, ...]:
    """Nearness, face, weights and normals of ``size`` x ``size`` rays, good until the next of that size: pages that are new to a process
    cost as much as what is drawn in them."""
    known = vars(_kept)
    if size not in known.setdefault("buffers", {}):
        if len(known["buffers"]) >= KEPT:
            known["buffers"].pop(next(iter(known["buffers"])))
        square, wide = (size, size), (size, size, 3)
        known["buffers"][size] = (
            np.empty(square),
            np.empty(square, np.int32),
            np.empty(square),
            np.empty(square),
            np.empty(wide, np.float32),
        )
    return known["buffers"][size]


@njit(cache=True, nogil=True)
def fill_truth(near, face, perspective, ids, depth, feature):  # pragma: no cover - compiled
    for j in range(len(face)):
        for i in range(len(face)):
            f = face[j, i]
            if f < 0:
                depth[j, i], feature[j, i] = np.inf, 0
            else:
                depth[j, i], feature[j, i] = 1.0 / near[j, i] if perspective else -near[j, i], ids[f]


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "arcp", "nsz"})
def fill_normals(face, b1, b2, normals, turn, out):  # pragma: no cover - compiled
    """``out`` (F, F, 3) float32: unit normals in the camera's frame; 0 behind the part."""
    for j in range(len(face)):
        for i in range(len(face)):
            f = face[j, i]
            if f < 0:
                out[j, i, 0] = out[j, i, 1] = out[j, i, 2] = 0.0
                continue
            x, y, z = interpolated(normals, f, b1[j, i], b2[j, i])
            unit = 1.0 / max(np.sqrt(x * x + y * y + z * z), 1e-12)
            for c in range(3):
                out[j, i, c] = unit * (turn[c, 0] * x + turn[c, 1] * y + turn[c, 2] * z)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "arcp", "nsz"})
def fill_light(
    face, normals, samples, lamps, powers, dark, sky, varied, closed, color, roughness, metallic, slope, radiance, cover
):  # pragma: no cover - compiled
    """Fills ``radiance`` (S, S, 3) and ``cover`` (S, S). The ``sky``'s harmonics (9, 3; alike on all sides unless ``varied``), less the
    share ``closed`` to it (F, F; F 0: nowhere), and Lambert with a normalised Blinn-Phong lobe (Schlick's F0 without the edge term) of
    each of ``lamps`` (L, 3), as bright as ``powers`` (L, 3) where it is not ``dark`` (L, F, F; F 0: nowhere)."""
    size = len(cover)
    power = max(2.0 / max(roughness, 0.08) ** 4 - 2.0, 0.0)
    lobe = (power + 8.0) / 8.0 / 3.141592653589793
    faint = 1e-5 ** (1.0 / max(power, 1e-3))  # a cosine whose lobe is too dim to count
    alike = SMOOTH / max(power, 1.0)
    share = 1.0 / (samples * samples)
    matt, mirror = np.empty(3), np.empty(3)
    for c in range(3):
        matt[c] = color[c] * (1.0 - 0.5 * metallic)
        mirror[c] = 0.04 * (1.0 - metallic) + color[c] * metallic
    scale = 2.0 / (size * samples)
    for j in range(size):
        for i in range(size):
            for c in range(3):
                radiance[j, i, c] = 0.0
            hits, one = 0, True
            x, y, z = np.float32(0.0), np.float32(0.0), np.float32(0.0)
            j0, i0 = j * samples, i * samples
            for b in range(j0, j0 + samples):
                for a in range(i0, i0 + samples):
                    if face[b, a] >= 0:
                        hits += 1
                        x += normals[b, a, 0]
                        y += normals[b, a, 1]
                        z += normals[b, a, 2]
            cover[j, i] = hits * share
            if hits == 0:
                continue
            length = np.sqrt(x * x + y * y + z * z)
            one = length > (1.0 - alike) * hits  # the mean of unit vectors is short where they differ
            x, y, z = x / length, y / length, z / length
            left = True
            for b in range(j0, j0 + samples):
                for a in range(i0, i0 + samples):
                    if face[b, a] < 0 or not left:
                        continue
                    count, free = 1.0, np.float32(1.0)
                    if one:
                        count, left = hits, False
                    else:
                        x, y, z = normals[b, a, 0], normals[b, a, 1], normals[b, a, 2]
                    if closed.shape[0] > 0:
                        free = 1.0 - (lit_share(face, closed, j0, i0, samples) if one else closed[b, a])
                    for c in range(3):
                        level = sky[0, c]
                        if varied:
                            level += sky[1, c] * x + sky[2, c] * y + sky[3, c] * z + sky[4, c] * x * y + sky[5, c] * y * z
                            level += sky[6, c] * (3.0 * z * z - 1.0) + sky[7, c] * x * z + sky[8, c] * (x * x - y * y)
                        radiance[j, i, c] += share * count * free * matt[c] * max(level, 0.0)
                    vx, vy = -slope * (scale * (a + 0.5) - 1.0), slope * (scale * (b + 0.5) - 1.0)
                    seen = 1.0 / np.sqrt(vx * vx + vy * vy + 1.0)
                    for k in range(len(lamps)):
                        lit = x * lamps[k, 0] + y * lamps[k, 1] + z * lamps[k, 2]
                        if lit <= 0.0:
                            continue
                        hx, hy, hz = lamps[k, 0] + vx * seen, lamps[k, 1] + vy * seen, lamps[k, 2] + seen
                        half = (x * hx + y * hy + z * hz) / max(np.sqrt(hx * hx + hy * hy + hz * hz), 1e-12)
                        gloss = lobe * half**power * lit if half > faint else 0.0
                        free = np.float32(1.0)
                        if dark.shape[1] > 0:
                            free = 1.0 - (lit_share(face, dark[k], j0, i0, samples) if one else dark[k, b, a])
                        for c in range(3):
                            radiance[j, i, c] += share * count * free * powers[k, c] * (matt[c] * lit + mirror[c] * gloss)


@njit(inline="always")
def lit_share(face, dark, j0, i0, samples):  # pragma: no cover - compiled
    """The mean of ``dark`` over the rays of a pixel that meet the part."""
    total, hits = np.float32(0.0), 0
    for b in range(j0, j0 + samples):
        for a in range(i0, i0 + samples):
            if face[b, a] >= 0:
                total += dark[b, a]
                hits += 1
    return total / max(hits, 1)
