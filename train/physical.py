"""A latent that is physical: a scene's turn, place, size and light as a vector, and back.

(11,): quaternion (w, x, y, z) of part to camera; where the pivot lies in the picture, in half widths, x right and y up; the logarithm of image widths per
mm; the direction to the lamp, camera frame; ambient light.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from synth.scene import Scene

CODES = 11
QUATERNION, PLACE, SIZE, LIGHT, AMBIENT = slice(0, 4), slice(4, 6), 6, slice(7, 10), 10


def codes_of(scenes: Sequence[dict[str, Any]]) -> np.ndarray:
    """(n, 11) float64 of scenes as JSON has them."""
    return np.array([code_of(Scene.of(s)) for s in scenes]).reshape(-1, CODES)


def code_of(scene: Scene) -> np.ndarray:
    """(11,); the quaternion's w is not negative."""
    turn = np.asarray(scene.quaternion)
    turn = turn if turn[0] >= 0 else -turn
    per_mm = scene.pixels_per_mm(1)
    return np.r_[turn, 2 * per_mm * np.asarray(scene.position[:2]), np.log(per_mm), scene.light, scene.ambient]


def scene_of(code: np.ndarray, like: Scene) -> Scene:
    """The scene of a code; what a code does not tell, camera and colours, is as in ``like``."""
    turn, light = (v / np.linalg.norm(v) for v in (code[QUATERNION], code[LIGHT]))
    per_mm = float(np.exp(code[SIZE]))
    x, y = code[PLACE] / 2 / per_mm
    given = {"quaternion": tuple(turn), "light": tuple(light), "ambient": float(np.clip(code[AMBIENT], 0, 1))}
    if like.field is not None:
        return replace(like, position=(float(x), float(y), like.position[2]), field=1 / per_mm, **given)
    return replace(like, position=(float(x), float(y), -1 / (2 * np.tan(np.radians(like.angle) / 2) * per_mm)), **given)
