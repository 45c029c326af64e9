"""Whether a compare network beats the plain residual on views that another renderer drew: prints JSON. ``python -m pipelines.benchmark_compare``

The forms are the CAD form's own fits, and both are asked about the same ones: what the light on the form leaves over (the plain residual), what the CAD
form makes of it with its noise model, and what the network marks.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from scipy.spatial.transform import Rotation

from cad.files import write
from cad.part import Part, load
from detect.cad_detector import CadDetector, Found
from detect.evidence import evidence, score_of
from detect.metrics import auroc, auroc_interval
from detect.opening import open_detector
from pipelines.benchmark_cad import drawn_views
from pipelines.benchmark_render import machine
from synth.drawable import Drawable
from synth.photograph import photograph
from synth.raycast import truth
from synth.sampling import Drawn, Recipe, draw_sample
from synth.scene import Placement, Scene
from train.cad_form import fit_form, luminance, wanted_of
from train.compare_fit import Plan, differences, fit_compare, residuals
from train.compare_network import beside
from train.photographs import Photograph

BACKENDS = ("other", "gl", "cycles")


def scene_of(at: Placement, pivot: np.ndarray) -> Scene:
    """A fitted placement as a scene, in any light: its geometry alone is used."""
    x, y, z, w = Rotation.from_matrix(at.turn).as_quat()
    field, angle = (None, float(2 * np.degrees(np.arctan(0.5 / at.scale)))) if at.perspective else (1 / at.scale, None)
    position = tuple(map(float, at.position))
    return Scene((w, x, y, z), tuple(map(float, pivot)), position, field, angle, (0.0, 0.0, 1.0), 0.5, (0.5,) * 3, 0.5, 0.0, (0.0,) * 3)


def views_of(part: Part, label: str, count: int, size: int, seed: int, backend: str) -> list[tuple[Photograph, Drawn]]:
    """Drawn by another renderer, with lamps and sensor varied."""
    if backend == "other":
        return drawn_views(part, Recipe(0, count, size=size, seed=seed), "test", label, count, "other")
    recipe = Recipe(0, count, size=size, seed=seed, randomise={"lights": "default", "sensor": "default"})

    def paint(item: Drawable, scene: Scene, px: int) -> np.ndarray:
        return photograph(item, scene, px, samples=4 if backend == "cycles" else 2, backend=backend)

    drawn = [draw_sample(part, recipe, "test", label, k, paint=paint) for k in range(count)]
    return [(Photograph(Path(f"{label}{k}.png"), d.image, size, size), d) for k, d in enumerate(drawn) if not d.sample.hidden]


def told(detector: CadDetector, views: list[tuple[Photograph, Drawn]], side: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, CHANNELS, side, side) what a network is shown beside each fit, and (n,) the CAD form's own evidence."""
    shell = detector.form
    item, reach = Drawable.of(shell.part.mesh()), shell.part.mesh().diagonal / 2
    found: list[Found] = detector.projected([p for p, _ in views])
    seen = []
    for (shown, _), fit in zip(views, found, strict=True):
        form = truth(item, scene_of(fit.refined.at, shell.pivot), detector.size)
        seen.append(beside(luminance(shown.pixels) ** (1 / 2.2), form, reach, side)[0])
    return np.stack(seen), np.array([score_of(evidence(f.refined)) for f in found])


def compared(good: dict[str, np.ndarray], bad: dict[str, np.ndarray]) -> dict[str, Any]:
    return {
        name: {
            "image_auroc": round(auroc(good[name], bad[name]), 4),
            "interval": [round(v, 4) for v in auroc_interval(good[name], bad[name])],
        }
        for name in good
    }


def bench(part: Part, plan: Plan, size: int, views: int, backend: str, seed: int, folder: Path) -> dict[str, Any]:
    """All figures of one back end."""
    fit_form(folder / "form", part, wanted_of(part, size, seed), replace_other=True)
    detector = open_detector(folder / "form", calibrated=False)
    network, facts = fit_compare(part, plan)
    scores: dict[str, dict[str, np.ndarray]] = {}
    for label in ("good", *part.defects):
        seen, own = told(detector, views_of(part, label, views * (2 if label == "good" else 1), size, seed, backend), plan.side)
        scores[label] = {"plain_residual": residuals(seen), "cad_form": own, "network": differences(network, seen)[1]}
    pooled = {n: np.concatenate([scores[label][n] for label in part.defects]) for n in scores["good"]}
    rows = {label: {"n": len(scores[label]["network"]), **compared(scores["good"], scores[label])} for label in part.defects}
    return {"training": facts, "good": len(scores["good"]["network"]), "defects": rows, "all": compared(scores["good"], pooled)}


@click.command()
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Also write the JSON there.")
@click.option("--part", default="notched_cap", help="Part file or shelf name.")
@click.option("--size", type=int, default=128, help="px of the views.")
@click.option("--backend", type=click.Choice(BACKENDS), default="other", help="What draws them.")
@click.option("--views", type=click.IntRange(4), default=24, help="Of each defect; twice as many good ones.")
@click.option("--pairs", type=click.IntRange(16), default=Plan.pairs, help="That the network learns from.")
@click.option("--steps", type=click.IntRange(1), default=Plan.steps, help="Of its training.")
@click.option("--side", type=click.IntRange(32, 256), default=Plan.side, help="px of what it sees, a multiple of 8.")
@click.option("--seed", type=int, default=100, help="Of all views.")
def main(output: Path | None, part: str, size: int, backend: str, views: int, pairs: int, steps: int, side: int, seed: int) -> None:
    """AUROC by defect of plain residual, CAD form and compare network on another renderer's views."""
    loaded, plan = load(part), replace(Plan(), pairs=pairs, steps=steps, side=side)
    with tempfile.TemporaryDirectory() as folder:
        found = bench(loaded, plan, size, views, backend, seed, Path(folder))
    told_ = {**machine(), "part": loaded.name, "size": size, "seed": seed, "backend": backend, "plan": asdict(plan), **found}
    text = json.dumps(told_, indent=1)
    if output is not None:
        write(output, text + "\n")
    click.echo(text)


if __name__ == "__main__":
    main()
