"""Do the back ends see the same? Masks, depth, feature ids and light of each against the z-buffer's, on scenes of the shelf's parts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from scipy.ndimage import binary_dilation

from cad.part import load, shelf
from synth import backends
from synth.drawable import Drawable, Truth
from synth.raycast import light, truth
from synth.scene import draw_scene

ASKED = {"mask_iou": 0.995, "depth_mm": 0.02, "ids_equal": 0.99}


def agreement(parts: tuple[str, ...] = (), scenes: int = 4, size: int = 256) -> dict[str, Any]:
    """For each back end that is there, the worst of ``scenes`` scenes of each part: IoU of the masks, median depth error in mm on a field of
    40 mm, share of equal ids off the edges; and the mean difference of light. None for a back end that is not there."""
    names = parts or tuple(shelf())
    found: dict[str, Any] = {"parts": list(names), "scenes": scenes * len(names), "size": size, "asked": ASKED}
    for backend in ("gl", "cycles"):
        lack = backends.lacking(backend)
        found[backend] = None if lack else _compared(backend, names, scenes, size)
    return found


def _compared(backend: str, names: tuple[str, ...], scenes: int, size: int) -> dict[str, float]:
    module, rows = backends.opened(backend), []
    for name in names:
        part = load(name)
        mesh, rng = part.mesh(), np.random.default_rng(7)
        item = Drawable.of(mesh)
        for _ in range(scenes):
            scene = replace(draw_scene(part, mesh, rng), shadows=True)
            width = size / scene.pixels_per_mm(size)
            ours, theirs = truth(item, scene, size), module.truth(item, scene, size)
            more = {"samples": 16, "denoise": False} if backend == "cycles" else {"samples": 2}
            shone = np.abs(light(item, scene, size).radiance - module.light(item, scene, size, **more).radiance).mean()
            rows.append((*compared(ours, theirs, 40.0 / width), shone))
    iou, depth, ids, shone = np.array(rows).T
    return {
        "mask_iou": round(float(iou.min()), 5), "depth_mm": float(f"{depth.max():.3g}"), "ids_equal": round(float(ids.min()), 5),
        "light_mean_difference": float(f"{shone.mean():.3g}"),
    }  # fmt: skip


def compared(ours: Truth, theirs: Truth, scale: float) -> tuple[float, float, float]:
    """IoU of the masks; median difference of depth where both see the part, times ``scale``; share of equal ids in the pixels that lie on
    no edge of either."""
    a, b = ours.feature > 0, theirs.feature > 0
    both = a & b
    edge = np.zeros_like(a)
    for ids in (ours.feature, theirs.feature):
        edge[:, 1:] |= ids[:, 1:] != ids[:, :-1]
        edge[1:] |= ids[1:] != ids[:-1]
    inside = (a | b) & ~binary_dilation(edge, np.ones((3, 3)))
    depth = float(np.median(np.abs(ours.depth[both] - theirs.depth[both]))) * scale
    return both.sum() / (a | b).sum(), depth, float((ours.feature == theirs.feature)[inside].mean())
