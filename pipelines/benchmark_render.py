"""What rendering costs: prints JSON. ``python -m pipelines.benchmark_render -o render.json``; sections of back ends that are not there are null.

In an environment with Blender, ``--section cycles --section agreement`` alone.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from cad.files import write
from cad.part import Part, load, parse
from pipelines.agreement import agreement
from synth import backends
from synth.drawable import Drawable
from synth.raycast import draw, light, truth
from synth.render import render, tasks_of
from synth.sampling import Recipe, as_fine, draw_sample
from synth.scene import Scene, draw_scene
from synth.spread import on_cores

SCENES = 40
TARGETS = {64: 1000, 128: 400, 256: 100}  # views a second


def machine() -> dict[str, Any]:
    """What the figures hold for."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    ).stdout.strip()
    return {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "commit": commit or None,
    }


def summary(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 4),
        "low": round(min(values), 4),
        "high": round(max(values), 4),
        "repeats": len(values),
    }


def shaded(name: str) -> Part:
    """A part whose views cast shadows."""
    part = load(name)
    return parse(
        part.text if part.views.light.shadows else part.text.replace("light: ", "light: ").replace("ambient:", "shadows: true, ambient:", 1)
    )


def speed(part: Part, views: int, repeats: int) -> dict[str, Any]:
    """Views a second, 2 x 2 rays a pixel and shadows, at three sizes: in steady state (from each process's first task on) and with start-up,
    beside the bare renderer on as many cores at once."""
    out = {}
    for size, share in ((64, 1.0), (128, 0.4), (256, 0.1)):
        recipe = Recipe(int(views * share), 100, size=size, truth=size == 256)  # the command's own mix
        rates, whole, kernel = [], [], []
        for _ in range(repeats):
            rates.append(steady(part, recipe))
            kernel.append(kernel_milliseconds(part, recipe))
        whole.append(whole_rate(part, recipe))
        cores = os.cpu_count() or 1
        if size == 64:
            out["64, shards of 1000"] = {"views_per_second": summary([steady(part, recipe, shard=1000) for _ in range(repeats)])}
        out[str(size)] = {
            "outputs": "picture, mask, pose" + (", depth, normals, ids" if recipe.truth else ""), "asked": TARGETS[size],
            "views_per_second": summary(rates), "with_start_up": summary(whole), "kernel_milliseconds": summary(kernel),
            "times_the_kernel": summary([1e3 * cores / r / k for r, k in zip(rates, kernel, strict=True)]),
        }  # fmt: skip
    return out


def steady(part: Part, recipe: Recipe, shard: int | None = None) -> float:
    """Views a second after every process has done its first task."""
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        times, done = [], []
        for chunk in on_cores(Path(folder), tasks_of(part, recipe, shard), cores):
            times.append(time.perf_counter())
            done.append(len(chunk.lines))
        first = min(cores, len(times) - 1)  # where there are no more tasks than cores, from the first of them on
        return sum(done[first:]) / max(times[-1] - times[max(first - 1, 0)], 1e-9)


def whole_rate(part: Part, recipe: Recipe) -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        data, _ = render(part, Path(folder) / "data", recipe)
        return len(data.samples) / (time.perf_counter() - start)


def kernel_milliseconds(part: Part, recipe: Recipe) -> float:
    """CPU of the bare renderer a view: rays, shadows, light (and the truth buffers where they are asked for), on every core at once."""
    cores = os.cpu_count() or 1
    with ProcessPoolExecutor(cores, mp_context=multiprocessing.get_context("spawn")) as pool:
        return statistics.mean(pool.map(_kernel, [part.text] * cores, [recipe] * cores))


def _kernel(text: str, recipe: Recipe) -> float:
    item, scenes = _scenes(as_fine(parse(text), recipe.size))

    def once() -> None:
        for scene in scenes:
            light(item, scene, recipe.size, samples=recipe.samples)
            if recipe.truth:
                truth(item, scene, recipe.size)

    return timed(once, 5, len(scenes))


def _scenes(part: Part, count: int = SCENES) -> tuple[Drawable, list[Scene]]:
    mesh, rng = part.mesh(), np.random.default_rng(0)
    return Drawable.of(mesh), [draw_scene(part, mesh, rng) for _ in range(count)]


def timed(work: Callable[[], Any], repeats: int, views: int) -> float:
    """Milliseconds a view, median, after one round to warm up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - start) / views)
    return statistics.median(times)


def against_gl(part: Part, size: int = 128) -> dict[str, Any] | None:
    """Milliseconds a view on one core, all outputs counted: ours (picture 2 x 2, depth, normals, ids), the gl back end's, and pyrender's as its
    own interface draws (colour, depth, ids; no normals)."""
    if backends.lacking("gl"):
        return None
    found = {}
    for way in ("raycast", "gl", "pyrender"):  # each in a process of its own: two OpenGL contexts in one clash
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            found[way] = pool.submit(_drawn_by, way, part.text, size).result()
    return {"size": size, "milliseconds": found, "times_as_fast_as_pyrender": round(found["pyrender"] / found["raycast"], 2)}


def _drawn_by(way: str, text: str, size: int) -> float:
    from synth import gl

    item, scenes = _scenes(parse(text))
    scenes = [replace(s, shadows=False) for s in scenes]
    plain = gl.Plain(item, size) if way == "pyrender" else None
    ways = {
        "raycast": lambda s: (draw(item, s, size), truth(item, s, size)),
        "gl": lambda s: (gl.light(item, s, size), gl.truth(item, s, size)),
        "pyrender": lambda s: plain.draw(s),
    }
    return round(timed(lambda: [ways[way](s) for s in scenes], 3, len(scenes)), 3)


def with_cycles(part: Part, views: int, size: int = 128) -> dict[str, Any] | None:
    """Milliseconds a view in one process at 16 samples, and at 1 with the denoiser; and the whole command on all cores."""
    if backends.lacking("cycles"):
        return None
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:  # a thread, as workers have it
        single = pool.submit(_cycles, part.text, size).result()
    recipe = Recipe(views, 0, size=size, samples=1, backend="cycles")
    start = time.perf_counter()
    rate = whole_rate(part, recipe)
    return {
        "size": size,
        "milliseconds": single,
        "command": {"views": views, "seconds": round(time.perf_counter() - start, 1), "views_per_second": round(rate, 2)},
    }


def _cycles(text: str, size: int) -> dict[str, float]:
    from synth import cycles

    cycles.use_threads(1)
    item, scenes = _scenes(parse(text), 12)
    ways = {"16 samples": {"samples": 16, "denoise": False}, "1 sample, denoised": {"samples": 1, "denoise": True}}
    found = {name: timed(lambda k=k: [cycles.light(item, s, size, **k) for s in scenes], 3, len(scenes)) for name, k in ways.items()}
    found["raycast"] = timed(lambda: [light(item, s, size) for s in scenes], 3, len(scenes))
    return {name: round(v, 3) for name, v in found.items()}


def start_up(repeats: int) -> dict[str, Any]:
    """Seconds of ``synth render --help`` and of importing what it imports, each in a new process; and what it must not load."""
    ways = {"help": "from synth.cli import synth; synth(['render', '--help'])", "import": "import synth.cli"}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(2 * repeats + 1):
        for name, code in ways.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
            times[name].append(time.perf_counter() - start)
    code = "import sys, synth.render; print([m for m in ('torch', 'bpy', 'pyrender') if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    return {"seconds": {name: summary(t) for name, t in times.items()}, "synth loads of torch, bpy, pyrender": loaded}


def memory(part: Part, views: int) -> dict[str, Any]:
    """MB that a process has needed at most, after a tenth of the views and after all: what grows would show."""
    recipe, at = Recipe(views, 0, size=64), {}
    for k in range(views):
        draw_sample(part, recipe, "train", "good", k)
        if k + 1 in (views // 10, views // 2, views):
            at[str(k + 1)] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    return {"megabytes_after_views": at}


SECTIONS = ("speed", "start-up", "gl", "cycles", "agreement", "memory")


@click.command()
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Also write the JSON there.")
@click.option("--part", "name", default="notched_cap", help="Part file or shelf name.")
@click.option("--section", "sections", type=click.Choice(SECTIONS), multiple=True, help="Only these.  [default: all]")
@click.option("--views", type=click.IntRange(100), default=20000, help="At 64 px; fewer at larger sizes.")
@click.option("--photoreal", type=click.IntRange(1), default=2000, help="Path-traced views of the whole command.")
@click.option("--repeats", type=click.IntRange(1), default=3, help="Of each measurement.")
def main(output: Path | None, name: str, sections: tuple[str, ...], views: int, photoreal: int, repeats: int) -> None:
    """Speed of the whole command beside its kernel, pyrender and Cycles; start-up; agreement of the back ends; memory."""
    part = shaded(name)
    work: dict[str, Callable[[], Any]] = {
        "speed": lambda: speed(part, views, repeats),
        "start-up": lambda: start_up(repeats),
        "gl": lambda: against_gl(part),
        "cycles": lambda: with_cycles(part, photoreal),
        "agreement": lambda: agreement(),
        "memory": lambda: memory(part, views),
    }
    figures = {**machine(), "part": name, **{s: work[s]() for s in sections or SECTIONS}}
    text = json.dumps(figures, indent=1)
    if output is not None:
        write(output, text + "\n")
    click.echo(text)


if __name__ == "__main__":
    main()
