"""A second, unlike renderer to hold the detector against: same geometry, other light transport and another camera.

Rough (Oren and Nayar 1994) and glossy (GGX, Walter et al. 2007) reflection, two lamps with cast shadows of their own, a background
that fades across the picture, lens blur, shot and read noise, another gamma. Nothing in cad/, synth/, train/ or detect/ knows of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from synth.drawable import Drawable
from synth.raster import raster
from synth.scene import Scene, within

SAMPLES = 3
SHADOW_MAP = 384  # px


@dataclass(frozen=True)
class Look:
    """A light set-up, a surface and a camera, drawn once a picture."""

    lamps: np.ndarray
    powers: np.ndarray
    ambient: float
    rough: float
    gloss: float
    glossy: float
    background: tuple[float, float, float]
    blur: float
    noise: float
    gamma: float
    exposure: float

    @classmethod
    def drawn(cls, scene: Scene, rng: np.random.Generator, *, shift: float = 0.0) -> Look:
        """``shift``: degrees by which the first lamp is off the scene's."""
        first = within(np.asarray(scene.light), 5.0, rng) if not shift else tilted(np.asarray(scene.light), shift, rng)
        second = within(np.array([-0.6, 0.2, 0.75]) / np.linalg.norm([-0.6, 0.2, 0.75]), 25.0, rng)
        return cls(
            np.stack([first, second]), np.array([1.0, rng.uniform(0.15, 0.5)]), rng.uniform(0.1, 0.3), rng.uniform(0.1, 0.6), rng.uniform(0.02, 0.2),
            rng.uniform(0.25, 0.5), (rng.uniform(0.02, 0.15), *rng.uniform(-0.08, 0.08, 2)), rng.uniform(0.3, 0.8), rng.uniform(0.004, 0.015),
            rng.uniform(1.9, 2.5), rng.uniform(0.45, 0.65),
        )  # fmt: skip


def tilted(direction: np.ndarray, degrees: float, rng: np.random.Generator) -> np.ndarray:
    """A unit vector exactly ``degrees`` away."""
    side = np.cross(direction, rng.normal(size=3))
    angle = np.radians(degrees)
    return np.cos(angle) * direction / np.linalg.norm(direction) + np.sin(angle) * side / np.linalg.norm(side)


def draw_other(item: Drawable, scene: Scene, size: int, look: Look, rng: np.random.Generator) -> np.ndarray:
    """(size, size, 3) uint8."""
    fine, turn = size * SAMPLES, scene.rotation
    shift = np.asarray(scene.position) - turn @ np.asarray(scene.pivot)
    scale = fine / scene.field if scene.field is not None else fine / (2 * np.tan(np.radians(scene.angle) / 2))
    _, face, w1, w2 = raster(item.corners, turn, shift, scale, fine, scene.field is None)
    hit = face >= 0
    weights = np.stack([1 - w1 - w2, w1, w2], -1)[hit][..., None]
    points = (item.corners[face[hit]] * weights).sum(1)
    normals = (item.normals[face[hit]] * weights).sum(1) @ turn.T
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    seen = points @ turn.T + shift
    view = np.broadcast_to([0.0, 0.0, 1.0], seen.shape) if scene.field is not None else -seen / np.linalg.norm(seen, axis=1, keepdims=True)
    light = np.full(len(points), look.ambient) * (0.8 + 0.2 * normals[:, 1])
    for lamp, power in zip(look.lamps, look.powers, strict=True):
        light += power * (1 - look.ambient) * lit(item, points, normals, view, lamp, turn, look)
    y, x = np.mgrid[:fine, :fine] / fine - 0.5
    level, slope_x, slope_y = look.background
    picture = np.clip(level + slope_x * x + slope_y * y, 0, None)
    picture[hit] = look.exposure * light
    picture = gaussian_filter(picture.reshape(size, SAMPLES, size, SAMPLES).mean((1, 3)), look.blur)
    picture += rng.normal(size=picture.shape) * np.sqrt(look.noise**2 * (0.3 + np.clip(picture, 0, None)))
    grey = np.clip(picture, 0, 1) ** (1 / look.gamma)
    return np.repeat(np.rint(255 * grey).astype(np.uint8)[..., None], 3, 2)


def lit(
    item: Drawable, points: np.ndarray, normals: np.ndarray, view: np.ndarray, lamp: np.ndarray, turn: np.ndarray, look: Look
) -> np.ndarray:
    """(n,) reflected light of one lamp, 0 in its shadow."""
    cosine, facing = np.clip(normals @ lamp, 0, 1), np.clip((normals * view).sum(1), 1e-3, 1)
    square = look.rough**2
    flat_lamp, flat_view = lamp - cosine[:, None] * normals, view - facing[:, None] * normals
    between = np.clip((flat_lamp * flat_view).sum(1) / np.maximum(np.linalg.norm(flat_lamp, axis=1) * np.linalg.norm(flat_view, axis=1), 1e-6), 0, 1)  # fmt: skip
    alpha, beta = np.maximum(np.arccos(cosine), np.arccos(facing)), np.minimum(np.arccos(cosine), np.arccos(facing))
    matt = cosine * (
        1 - 0.5 * square / (square + 0.33) + 0.45 * square / (square + 0.09) * between * np.sin(alpha) * np.tan(np.minimum(beta, 1.4))
    )
    half = lamp + view
    half /= np.maximum(np.linalg.norm(half, axis=1, keepdims=True), 1e-9)
    width = look.glossy**4
    lobe = width / (np.pi * (np.clip((normals * half).sum(1), 0, 1) ** 2 * (width - 1) + 1) ** 2)
    return (matt + look.gloss * lobe * cosine) * (1 - shadowed(item, points, turn.T @ lamp))


def shadowed(item: Drawable, points: np.ndarray, lamp: np.ndarray) -> np.ndarray:
    """(n,) share of four neighbouring shadow-map texels that something nearer to the lamp fills; ``lamp`` in the part's frame."""
    side = np.cross([0.0, 1.0, 0.0] if abs(lamp[1]) < 0.9 else [1.0, 0.0, 0.0], lamp)
    side /= np.linalg.norm(side)
    turn = np.stack([side, np.cross(lamp, side), lamp])
    everywhere = item.corners.reshape(-1, 3)
    middle, reach = everywhere.mean(0), 2.1 * np.linalg.norm(everywhere - everywhere.mean(0), axis=1).max()
    scale = SHADOW_MAP / reach
    near, _, _, _ = raster(item.corners, turn, -turn @ middle, scale, SHADOW_MAP, False)
    seen = (points - middle) @ turn.T
    u, v = SHADOW_MAP / 2 + scale * seen[:, 0] - 0.5, SHADOW_MAP / 2 - scale * seen[:, 1] - 0.5
    total = np.zeros(len(points))
    for dx in (0, 1):
        for dy in (0, 1):
            column, row = np.clip(u.astype(int) + dx, 0, SHADOW_MAP - 1), np.clip(v.astype(int) + dy, 0, SHADOW_MAP - 1)
            total += near[row, column] > seen[:, 2] + 0.02 * reach
    return total / 4
