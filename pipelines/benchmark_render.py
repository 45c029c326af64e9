"""How many labelled views a second reach the disk: prints JSON. ``python -m pipelines.benchmark_render -o render.json``"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from cad.files import write
from cad.part import load
from synth.drawable import Drawable
from synth.raycast import draw, outline
from synth.render import render
from synth.sampling import Recipe
from synth.scene import draw_scene


def machine() -> dict[str, Any]:
    """What the figures hold for."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    ).stdout.strip()
    return {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "commit": commit or None,
    }


def summary(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 4),
        "low": round(min(values), 4),
        "high": round(max(values), 4),
        "repeats": len(values),
    }


def views_per_second(part: str, recipe: Recipe, repeats: int) -> dict[str, Any]:
    """The whole stage, start-up of its processes included, into a folder that is new each time."""
    loaded, rates = load(part), []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            data, _ = render(loaded, Path(folder) / "data", recipe)
            rates.append(len(data.samples) / (time.perf_counter() - start))
    return {"views": len(data.samples), "views_per_second": summary(rates)}


def kernel_milliseconds(part: str, size: int, repeats: int) -> dict[str, Any]:
    """The bare renderer on one core: picture at 2 x 2 samples, and depth with ids, the same scenes."""
    import numpy as np

    loaded = load(part)
    mesh = loaded.mesh()
    item, rng = Drawable.of(mesh), np.random.default_rng(0)
    scenes = [draw_scene(loaded, mesh, rng) for _ in range(50)]
    draw(item, scenes[0], size)
    outline(item, scenes[0], size)
    times: dict[str, list[float]] = {"picture": [], "ids": []}
    for _ in range(repeats):
        for name, work in (("picture", draw), ("ids", outline)):
            start = time.perf_counter()
            for scene in scenes:
                work(item, scene, size)
            times[name].append(1e3 * (time.perf_counter() - start) / len(scenes))
    return {name: summary(values) for name, values in times.items()}


@click.command()
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Also write the JSON there.")
@click.option("--part", default="notched_cap", help="Part file or shelf name.")
@click.option("--size", type=int, default=64, help="px.")
@click.option("--repeats", type=click.IntRange(1), default=3, help="Of each measurement.")
def main(output: Path | None, part: str, size: int, repeats: int) -> None:
    """Views a second: the default mix, good views alone, and as many defective views of each kind as good ones."""
    mixes = {"default": Recipe(2000, 100, size=size), "good": Recipe(4000, 0, size=size), "equal parts": Recipe(0, 700, size=size)}
    figures = {
        **machine(), "part": part, "size": size,
        "stage": {name: views_per_second(part, recipe, repeats) for name, recipe in mixes.items()},
        "kernel_milliseconds": kernel_milliseconds(part, size, repeats),
    }  # fmt: skip
    text = json.dumps(figures, indent=1)
    if output is not None:
        write(output, text + "\n")
    click.echo(text)


if __name__ == "__main__":
    main()
