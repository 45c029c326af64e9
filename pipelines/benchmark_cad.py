"""How well the CAD form finds defects, and how fast: prints JSON. ``python -m pipelines.benchmark_cad --size 64 -o cad.json``

Every view is drawn here, by the built-in renderer or by another, so that no figure hangs on a dataset that lies about.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

from cad.command import progress
from cad.files import write
from cad.part import Part, load
from detect.cad_detector import CadDetector
from detect.inspection import Inspection
from detect.metrics import aupro, auroc, auroc_interval, named_right, pixel_auroc, tpr_at
from detect.opening import open_detector
from pipelines.benchmark_render import machine, summary
from pipelines.other_shading import Look, draw_other, tilted
from synth.drawable import Drawable
from synth.raycast import draw
from synth.sampling import Drawn, Paint, Recipe, draw_sample
from synth.scene import Scene
from train.cad_form import fit_form, wanted_of
from train.photographs import Photograph

Spoil = Callable[[np.ndarray, np.random.Generator], np.ndarray]
CASES = ("plain", "noise", "occluder", "light", "other")


def noisy(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A tenth of the pixels replaced by noise."""
    out, hit = image.copy(), rng.random(image.shape[:2]) < 0.1
    out[hit] = rng.integers(0, 256, (hit.sum(), 1))
    return out


def occluded(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A grey bar over 15 % of the picture, from one side."""
    out, width = image.copy(), round(0.15 * len(image))
    turned = np.rot90(out, int(rng.integers(4)))
    turned[:, :width] = int(rng.integers(40, 200))
    return out


def painter(case: str, rng: np.random.Generator) -> Paint:
    """A renderer of one picture: the built-in one, spoilt or with its lamp 40 degrees off, or the other."""

    def paint(item: Drawable, scene: Scene, size: int) -> np.ndarray:
        if case == "other":
            return draw_other(item, scene, size, Look.drawn(scene, rng), rng)
        if case == "light":
            lamp = tilted(np.asarray(scene.light), 40.0, rng)
            return draw(item, Scene(**{**scene.json(), "light": tuple(map(float, lamp))}), size)
        image = draw(item, scene, size)
        return {"noise": noisy, "occluder": occluded}.get(case, lambda i, _: i)(image, rng)

    return paint


def drawn_views(part: Part, recipe: Recipe, split: str, label: str, count: int, case: str) -> list[tuple[Photograph, Drawn]]:
    """Views whose defect shows, as photographs."""
    views = []
    for k in range(count):
        drawn = draw_sample(part, recipe, split, label, k, paint=painter(case, np.random.default_rng([recipe.seed, k, len(label)])))
        if not drawn.sample.hidden:
            views.append((Photograph(Path(f"{label}{k}.png"), drawn.image, recipe.size, recipe.size), drawn))
    return views


def inspected(detector: CadDetector, views: list[tuple[Photograph, Drawn]], advance: Any) -> list[tuple[Inspection, np.ndarray, Drawn]]:
    """One at a time: the time of each is its own."""
    found = []
    for photograph, drawn in views:
        inspection, anomaly, _ = next(detector.inspect([photograph]))
        found.append((inspection, anomaly, drawn))
        advance(1)
    return found


def figures_of(good: list, bad: list) -> dict[str, Any]:
    """Of one defect and severity against the good views."""
    a, b = (np.array([i.score for i, _, _ in group]) for group in (good, bad))
    maps, masks = (np.stack([row[k] if k == 1 else row[2].mask for row in good + bad]) for k in (1, 2))
    named = [(i.regions[0]["feature"], d.sample.defect["features"]) for i, _, d in bad if i.verdict == "fail" and i.regions]
    few = tpr_at(a, b)  # None where there are too few good ones to tell
    return {
        "n": len(bad), "image_auroc": round(auroc(a, b), 4), "interval": [round(v, 4) for v in auroc_interval(a, b)], "tpr_at_1fpr": few and round(few, 4),
        "pixel_auroc": round(pixel_auroc(maps, masks), 4), "aupro": round(aupro(maps, masks), 4),
        "named_right": named_right([n for n, _ in named], [t for _, t in named]), "milliseconds": summary([i.milliseconds for i, _, _ in bad]),
    }  # fmt: skip


def dimension_errors(part: Part, found: list[tuple[Inspection, np.ndarray, Drawn]]) -> dict[str, Any]:
    """Of a ``dimension`` defect: |measured - true| in mm where the view was said to tell."""
    label = found[0][2].sample.label
    name = part.defects[label].dimension
    told = [(i.dimensions[name], d.sample.defect["details"]["value"]) for i, _, d in found if i.dimensions.get(name, {}).get("value") is not None]  # fmt: skip
    off = [abs(m["value"] - true) for m, true in told]
    out = [abs(m["value"] - true) for m, true in told if m["ok"] is False]
    return {
        "dimension": name, "views": len(found), "told": len(told), "median_error_mm": round(float(np.median(off)), 4) if off else None,
        "out_of_tolerance": len(out), "median_error_of_those_mm": round(float(np.median(out)), 4) if out else None,
    }  # fmt: skip


def bench(part: Part, detector: CadDetector, severities: dict[str, list[float | None]], views: int, case: str, seed: int) -> dict[str, Any]:
    """All figures of one case, the detector being calibrated already. A severity of None: drawn from the part file's range."""
    size = detector.size
    plan = [(label, value) for label, values in severities.items() for value in values]
    with progress(views * (len(plan) + 2), case, "views") as advance:
        good = inspected(detector, drawn_views(part, Recipe(0, 2 * views, size=size, seed=seed), "test", "good", 2 * views, case), advance)
        rows, pooled = {}, []
        for label, value in plan:
            recipe = Recipe(0, views, size=size, seed=seed, severities={} if value is None else {label: [value]})
            bad = inspected(detector, drawn_views(part, recipe, "test", label, views, case), advance)
            name = label if value is None else f"{label} {value:g}"
            rows[name] = figures_of(good, bad)
            if part.defects[label].kind == "dimension":
                rows[name]["measured"] = dimension_errors(part, bad)
            pooled += bad
    return {
        "good": {"n": len(good), "rejected": float(np.mean([i.verdict in ("fail", "not this part") for i, _, _ in good])), "milliseconds": summary([i.milliseconds for i, _, _ in good])},
        "defects": rows, "all": figures_of(good, pooled),
    }  # fmt: skip


def calibrated(part: Part, size: int, count: int, case: str, seed: int, folder: Path) -> CadDetector:
    """A fresh form, calibrated on good views of the same case."""
    fit_form(folder / "form", part, wanted_of(part, size, seed), replace_other=True)
    detector = open_detector(folder / "form", calibrated=False)
    detector.calibrate([p for p, _ in drawn_views(part, Recipe(count, 0, size=size, seed=seed + 1), "train", "good", count, case)], 0.05)
    return detector


@click.command()
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Also write the JSON there.")
@click.option("--part", default="notched_cap", help="Part file or shelf name.")
@click.option("--size", type=int, default=64, help="px.")
@click.option("--case", "cases", type=click.Choice(CASES), multiple=True, default=("plain",), help="How the views are drawn.")
@click.option("--severity", multiple=True, metavar="DEFECT=V,V...", help="[default: drawn from each range of the file]")
@click.option("--views", type=click.IntRange(4), default=40, help="Of each defect and severity; twice as many good ones.")
@click.option("--calibration", type=click.IntRange(19), default=100, help="Good views to calibrate on, drawn as the test is.")
@click.option("--seed", type=int, default=100, help="Of all views.")
def main(
    output: Path | None, part: str, size: int, cases: tuple[str, ...], severity: tuple[str, ...], views: int, calibration: int, seed: int
) -> None:
    """AUROC by defect and severity, masks, names, dimensions and milliseconds of the CAD form."""
    from synth.cli import severities

    loaded = load(part)
    wanted = severities(severity) or {name: [None] for name in loaded.defects}
    found = {}
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            found[case] = bench(loaded, calibrated(loaded, size, calibration, case, seed, Path(folder)), wanted, views, case, seed)
    text = json.dumps({**machine(), "part": loaded.name, "size": size, "seed": seed, "calibration": calibration, "cases": found}, indent=1)
    if output is not None:
        write(output, text + "\n")
    click.echo(text)


if __name__ == "__main__":
    main()
