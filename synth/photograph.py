"""A scene as a camera takes it: a back end's light of the part, what is behind and before it, the lens and the sensor."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from synth import backends
from synth.backdrop import backdrop, specks
from synth.color import over8, srgb8
from synth.drawable import Drawable, Light, Truth
from synth.lens import FINE, RAYS, bends, bent_light, bent_truth, pinhole
from synth.raycast import outline as raycast_outline
from synth.scene import Scene
from synth.sensor import developed

BURIED = 0.5  # of a pixel that dust covers: nothing of the part shows there any more


def photograph(item: Drawable, scene: Scene, size: int, *, samples: int = 2, backend: str = "raycast", denoise: bool = True) -> np.ndarray:
    """(size, size, 3) uint8 sRGB. ``samples``: rays a pixel are its square; ``denoise``: for the path tracer."""
    seen = light_of(item, scene, size, samples=samples, backend=backend, denoise=denoise)
    behind = backdrop(scene, size)
    if scene.dust is None and scene.sensor is None:
        return over8(seen.radiance, seen.cover, behind)
    light = seen.radiance + (1 - seen.cover)[..., None] * behind
    if scene.dust is not None:
        tint, cover = specks(scene.dust, size)
        light = light + cover[..., None] * (tint * max(scene.ambient, 0.3) - light)
    return srgb8(light) if scene.sensor is None else developed(light, scene.sensor)


def light_of(item: Drawable, scene: Scene, size: int, *, samples: int, backend: str, denoise: bool = True) -> Light:
    """The part alone, through the scene's lens."""
    draw = backends.opened(backend).light
    options = {"denoise": denoise} if backend == "cycles" else {}
    if not bends(scene):
        return draw(item, scene, size, samples=samples, **options)
    straight, fine = pinhole(scene, size, RAYS)
    rays = max(1, round(samples / RAYS)) if backend != "cycles" else samples
    return bent_light(scene, draw(item, straight, fine, samples=rays, **options), size)


def truth_of(item: Drawable, scene: Scene, size: int, *, backend: str = "raycast") -> Truth:
    """Depth, ids and normals, through the scene's lens."""
    return _through(backends.opened(backend).truth, item, scene, size)


def outline_of(item: Drawable, scene: Scene, size: int) -> Truth:
    """As :func:`truth_of`, without normals (zero): what masks are made from."""
    return _through(raycast_outline, item, scene, size)


def _through(draw: Callable[[Drawable, Scene, int], Truth], item: Drawable, scene: Scene, size: int) -> Truth:
    if not bends(scene):
        return draw(item, scene, size)
    straight, fine = pinhole(scene, size, FINE)
    return bent_truth(scene, draw(item, straight, fine), size)


def unburied(mask: np.ndarray, scene: Scene) -> np.ndarray:
    """(H, W) bool: ``mask`` without the pixels that dust covers."""
    return mask if scene.dust is None else mask & (specks(scene.dust, len(mask))[1] < BURIED)
