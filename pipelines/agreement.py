"""Do the back ends see the same? Masks, depth, feature ids and light of each against the z-buffer's, on scenes of the shelf's parts.

``python -m pipelines.agreement -o backends.png`` prints the figures and draws one scene of each part by every back end that is there.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image
from scipy.ndimage import binary_dilation

from cad.files import whole
from cad.part import load, shelf
from synth import backends
from synth.drawable import Drawable, Truth
from synth.photograph import photograph
from synth.raycast import light, truth
from synth.scene import draw_scene
from synth.surroundings import Sky

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


def picture(parts: tuple[str, ...], size: int) -> Image.Image:
    """A row for each back end that is there, a column for each part: one scene, with shadows and a sky."""
    rows = []
    for backend in (b for b in backends.MODULES if not backends.lacking(b)):
        tiles = []
        for name in parts:
            part = load(name)
            mesh = part.mesh()
            scene = draw_scene(part, mesh, np.random.default_rng(3))
            scene = replace(
                scene, shadows=True, ambient=0.35, sky=Sky(above=(0.85, 0.92, 1.0), below=(0.7, 0.65, 0.6)), background=(0.2, 0.22, 0.25)
            )
            tiles.append(
                photograph(Drawable.of(mesh), scene, size, samples=64 if backend == "cycles" else 3, backend=backend, denoise=True)
            )
        rows.append(np.hstack(tiles))
    return Image.fromarray(np.vstack(rows))


@click.command()
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="PNG", help="Where the picture goes.")
@click.option("--part", "parts", multiple=True, help="Part file or shelf name.  [default: the shelf]")
@click.option("--scenes", type=click.IntRange(1), default=4, help="Of each part.")
@click.option("--size", type=click.IntRange(16, 1024), default=256, help="px.")
def main(output: Path | None, parts: tuple[str, ...], scenes: int, size: int) -> None:
    """How well the back ends agree."""
    if output is not None:
        with whole(output) as temporary:
            picture(parts or tuple(shelf()), 192).save(temporary, format="PNG")
    click.echo(json.dumps(agreement(parts, scenes, size), indent=1))


if __name__ == "__main__":
    main()
