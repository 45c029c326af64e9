"""How near the CAD form's poses come: prints JSON. ``python -m pipelines.benchmark_pose --size 128 --views 500``

A turn that this view cannot show is no error: where the part, spun about an axis of near-symmetry from its true pose into the pose
found, looks the same (a cap whose notch is on the far side: no 2 x 2 pixels of the picture change by more than TELLING), only the
axis' own error counts.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from scipy.ndimage import binary_opening

from cad.command import progress
from cad.files import write
from cad.part import Part, load
from detect.cad_detector import CadDetector, CadRun
from pipelines.benchmark_cad import CASES, drawn_views
from pipelines.benchmark_render import machine, summary
from synth.poses import quaternion_of
from synth.raycast import draw
from synth.sampling import Recipe
from synth.scene import Scene, about, matrix
from train.cad_form import CadForm, build_form, placement_of

NEAR = 1.0  # degrees: a pose that is right
TELLING = 8  # grey levels


def error(form: CadForm, found: np.ndarray, scene: Scene, size: int) -> float:
    """Degrees between a found turn (3, 3) and the scene's, as far as the view can tell."""
    true = scene.rotation
    angles = [form.symmetries.angle(found, true)]
    if angles[0] <= NEAR:
        return angles[0]
    seen = draw(form.item, scene, size)[..., 0].astype(int)
    for axis in form.symmetries.axes:
        swing = float(np.degrees(np.arccos(np.clip((found @ axis) @ (true @ axis), -1, 1))))
        relative = true.T @ found  # its twist about the axis, by the sum over the plane across it
        side = np.cross(axis, [1.0, 0.0, 0.0] if abs(axis[0]) < 0.9 else [0.0, 1.0, 0.0])
        side /= np.linalg.norm(side)
        up = np.cross(axis, side)
        twist = np.arctan2(up @ relative @ side - side @ relative @ up, side @ relative @ side + up @ relative @ up)
        spun = replace(scene, quaternion=tuple(map(float, quaternion_of(true @ matrix(about(axis, twist))))))
        changed = np.abs(draw(form.item, spun, size)[..., 0].astype(int) - seen) > TELLING
        if not binary_opening(changed, np.ones((2, 2))).any():
            angles.append(swing)
    return min(angles)


def pose_errors(part: Part, form: CadForm, count: int, case: str, seed: int) -> list[dict[str, Any]]:
    """Of ``count`` good views: degrees, mm across the view, and milliseconds."""
    detector, size = CadDetector(CadRun(Path(), form)), form.size
    detector.use(None)
    rows = []
    with progress(count, f"{size} px", "views") as advance:
        views = drawn_views(part, Recipe(0, count, size=size, seed=seed), "test", "good", count, case)
        for start in range(0, count, 16):
            chunk = views[start : start + 16]
            for (_, drawn), result in zip(chunk, detector.projected([p for p, _ in chunk]), strict=True):
                scene, at = Scene.of(drawn.sample.scene), result.refined.at
                off = at.position - placement_of(scene, form.pivot).position
                rows.append({"degrees": error(form, at.turn, scene, size), "mm": float(np.linalg.norm(off[:2])), "milliseconds": 1e3 * result.seconds})  # fmt: skip
                advance(1)
    return rows


@click.command()
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Also write the JSON there.")
@click.option("--part", default="notched_cap", help="Part file or shelf name.")
@click.option("--size", type=int, default=128, help="px.")
@click.option("--case", type=click.Choice(CASES), default="plain", help="How the views are drawn.")
@click.option("--views", type=click.IntRange(1), default=500, help="Good views in any pose of the part file's.")
@click.option("--seed", type=int, default=300, help="Of all views.")
def main(output: Path | None, part: str, size: int, case: str, views: int, seed: int) -> None:
    """Pose errors of the CAD form, from all starts and without calibration."""
    loaded = load(part)
    form, _ = build_form(loaded, size)
    rows = pose_errors(loaded, form, views, case, seed)
    degrees = np.array([r["degrees"] for r in rows])
    found = {
        "views": views, "within_1_degree": float((degrees <= NEAR).mean()), "degrees": {f"{100 * q:g} %": round(float(np.quantile(degrees, q)), 3) for q in (0.5, 0.9, 0.97)},
        "mm": summary([r["mm"] for r in rows]), "milliseconds": summary([r["milliseconds"] for r in rows]),
    }  # fmt: skip
    text = json.dumps({**machine(), "part": loaded.name, "size": size, "case": case, "seed": seed, **found}, indent=1)
    if output is not None:
        write(output, text + "\n")
    click.echo(text)


if __name__ == "__main__":
    main()
