"""The smallest defect that is found in 95 % of views at 1 % false rejects: prints JSON. ``python -m pipelines.detection_limit --size 64``

Each defect of the part file is drawn in a ladder of sizes; the limit is read off the curve of MIL-HDBK-1823A (hit/miss).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from cad.command import progress
from cad.files import write
from cad.part import Part, load
from detect.cad_detector import CadDetector
from detect.metrics import detection_limit, threshold_at
from detect.report import detection_plot, svg
from detect.validation import LIMIT_RATE
from pipelines.benchmark_cad import CASES, calibrated, drawn_views
from pipelines.benchmark_render import machine
from synth.dataset import magnitude
from synth.sampling import Drawn, Recipe
from synth.scene import Scene

Curve = tuple[np.ndarray, np.ndarray]


def ladder(low: float, high: float, steps: int) -> list[float]:
    """``steps`` severities, evenly by ratio, from a third of the file's mildest to its worst; the sign is the range's."""
    sign = -1.0 if high <= 0 else 1.0
    small, large = sorted((abs(low), abs(high)))
    return [float(sign * v) for v in np.geomspace(small / 3, large, steps)]


def scored(
    detector: CadDetector, part: Part, recipe: Recipe, label: str, count: int, case: str, advance: Any
) -> Iterator[tuple[float, Drawn]]:
    """Scores of ``count`` views of ``label``, those that hide their defect left out."""
    views = drawn_views(part, recipe, "test", label, count, case)
    for start in range(0, len(views), 32):
        for (_, drawn), (inspection, _, _) in zip(
            views[start : start + 32], detector.inspect([p for p, _ in views[start : start + 32]]), strict=True
        ):
            yield inspection.score, drawn
            advance(1)


def limits(
    part: Part, detector: CadDetector, defects: list[str], views: int, good: int, steps: int, case: str, seed: int
) -> tuple[dict[str, Any], dict[str, Curve]]:
    """Of each defect its limit in its unit and in px, and the sizes and whether they were found, for a plot."""
    size, found, curves = detector.size, {}, {}
    with progress(good + views * len(defects), f"{size} px", "views") as advance:
        threshold = threshold_at(
            np.array([s for s, _ in scored(detector, part, Recipe(0, good, size=size, seed=seed), "good", good, case, advance)]), LIMIT_RATE
        )
        for label in defects:
            recipe = Recipe(0, views, size=size, seed=seed, severities={label: ladder(*part.defects[label].range, steps)})
            rows = list(scored(detector, part, recipe, label, views, case, advance))
            sizes, hit = np.array([magnitude(d.sample.defect) for _, d in rows]), np.array([s > threshold for s, _ in rows])
            scale = float(np.median([Scene.of(d.sample.scene).pixels_per_mm(size) for _, d in rows]))
            limit = detection_limit(sizes, hit)
            found[label] = {
                "limit": limit and round(limit, 3), "unit": rows[0][1].sample.defect["unit"], "px": limit and round(limit * scale, 2), "views": len(rows),
                "found": {f"{v:.3g}": round(float(hit[sizes == v].mean()), 3) for v in np.unique(sizes)},
            }  # fmt: skip
            curves[label] = (sizes, hit)
    return found, curves


@click.command()
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Also write the JSON there.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.svg", help="Draw the detection curves there.")
@click.option("--part", default="notched_cap", help="Part file or shelf name.")
@click.option("--size", "sizes", type=int, multiple=True, default=(64, 128, 256), help="px; may be given several times.")
@click.option("--case", type=click.Choice(CASES), default="plain", help="How the views are drawn.")
@click.option("--views", type=click.IntRange(20), default=160, help="Of each defect, over all its sizes.")
@click.option("--good", type=click.IntRange(100), default=150, help="Good views that tell where 1 % false rejects are.")
@click.option("--steps", type=click.IntRange(4), default=8, help="Sizes of each defect.")
@click.option("--calibration", type=click.IntRange(19), default=100, help="Good views to calibrate on, drawn as the test is.")
@click.option("--seed", type=int, default=200, help="Of all views.")
def main(
    output: Path | None, plot: Path | None, part: str, sizes: tuple[int, ...], case: str, views: int, good: int, steps: int, calibration: int, seed: int
) -> None:  # fmt: skip
    """Detection limits of the CAD form, in mm and px, by image size."""
    loaded = load(part)
    defects = [n for n, d in loaded.defects.items() if min(map(abs, d.range)) > 0 and d.range[0] != d.range[1]]
    found, curves = {}, {name: {} for name in defects}
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            detector = calibrated(loaded, size, calibration, case, seed, Path(folder))
            found[str(size)], own = limits(loaded, detector, defects, views, good, steps, case, seed)
        for name, curve in own.items():
            curves[name][f"{size} px"] = curve
    text = json.dumps({**machine(), "part": loaded.name, "case": case, "seed": seed, "good": good, "share": 0.95, "false_rejects": LIMIT_RATE, "limits": found}, indent=1)  # fmt: skip
    if output is not None:
        write(output, text + "\n")
    if plot is not None:
        write(plot, svg(detection_plot(curves)))
    click.echo(text)


if __name__ == "__main__":
    main()
