"""Radial lens distortion, the same for every renderer: a pinhole draws a wider, finer picture, and each pixel takes what its ray meets.

Exact but for the finer picture's own pixels: a mask's edge is off by half of one of FINE, 1/8 px.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cad.errors import InputError
from synth.drawable import Light, Truth
from synth.scene import Scene
from synth.surroundings import Lens

FINE = 4  # pixels of the pinhole's buffers to one of the lens's
RAYS = 2  # of its light: a ray that is a quarter of a pixel off is still one of that pixel's
STEPS = 512  # of the table by which a radius is found
ROUNDS = 12  # of Newton's method: distortion is smooth and small


def bends(scene: Scene) -> bool:
    return scene.lens is not None and bool(scene.lens.k1 or scene.lens.k2)


def pinhole(scene: Scene, size: int, fine: int) -> tuple[Scene, int]:
    """The scene without its lens, seen as wide as the lens does, and how many pixels across that is at ``fine`` to one."""
    reach = float(np.abs(straight(scene.lens, np.array([[1.0, 1.0], [1.0, 0.0]]))).max())
    wide = int(np.ceil(size * max(reach, 1.0) / 2)) * 2 + 2
    grow = wide / size
    if scene.field is not None:
        return replace(scene, field=scene.field * grow, lens=replace(scene.lens, k1=0.0, k2=0.0)), wide * fine
    angle = float(2 * np.degrees(np.arctan(np.tan(np.radians(scene.angle) / 2) * grow)))
    return replace(scene, angle=angle, lens=replace(scene.lens, k1=0.0, k2=0.0)), wide * fine


def bent_light(scene: Scene, seen: Light, size: int) -> Light:
    """From the light of :func:`pinhole`'s scene at RAYS: each pixel is the mean of RAYS x RAYS."""
    j, i = _places(scene.lens, size, RAYS, RAYS, len(seen.cover))
    radiance = seen.radiance[j, i].reshape(size, RAYS, size, RAYS, 3).mean((1, 3), dtype=np.float32)
    return Light(radiance, seen.cover[j, i].reshape(size, RAYS, size, RAYS).mean((1, 3), dtype=np.float32))


def bent_truth(scene: Scene, seen: Truth, size: int) -> Truth:
    """From the buffers of :func:`pinhole`'s scene at FINE: what the ray through each pixel's middle meets."""
    j, i = _places(scene.lens, size, 1, FINE, len(seen.depth))
    return Truth(seen.depth[j, i], seen.feature[j, i], seen.normal[j, i])


def _places(lens: Lens, size: int, rays: int, fine: int, across: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns (size x rays, size x rays) of the pinhole's picture that the lens's rays fall on; ``across`` px, ``fine`` to one."""
    line = (np.arange(size * rays) + 0.5) / (size * rays) * 2 - 1
    x, y = np.meshgrid(line, line)
    reach = np.linspace(0, np.sqrt(2), STEPS)
    factor = straight(lens, np.stack([reach, np.zeros(STEPS)], 1))[:, 0] / np.maximum(reach, 1e-12)
    factor[0] = 1.0
    scale = size * fine / 2 * np.interp(np.hypot(x, y), reach, factor)
    return tuple(np.clip(np.floor(across / 2 + scale * v).astype(int), 0, across - 1) for v in (y, x))


def straight(lens: Lens, points: np.ndarray) -> np.ndarray:
    """(..., 2) in half widths of the picture -> (..., 2) where a pinhole would show them. Raises InputError where the lens folds over."""
    bent = np.linalg.norm(points, axis=-1)
    r = bent.copy()
    for _ in range(ROUNDS):
        s = r * r
        slope = 1 + s * (3 * lens.k1 + 5 * s * lens.k2)
        r = r - (r * (1 + s * (lens.k1 + s * lens.k2)) - bent) / np.where(np.abs(slope) < 1e-3, 1e-3, slope)
    s = r * r
    if (1 + s * (3 * lens.k1 + 5 * s * lens.k2) < 0.05).any() or np.abs(r * (1 + s * (lens.k1 + s * lens.k2)) - bent).max() > 1e-6:
        raise InputError("lens", f"k1 {lens.k1:g}, k2 {lens.k2:g} folds the picture's corners over", wanted="less distortion")
    return points * (r / np.maximum(bent, 1e-12))[..., None]
