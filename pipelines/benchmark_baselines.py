"""How well the baselines tell good photographs from defective ones: prints JSON. ``python -m pipelines.benchmark_baselines FOLDER...``

Each FOLDER is laid out as MVTec AD: ``train/good`` to learn from, ``test/good`` and ``test/<class>`` to be told apart. A fifth of ``train/good``, drawn by
the seed, is not learned from: of its scores comes the conformal threshold, which rejects a share ``alpha`` of good photographs to come. Nothing of
``test`` is used for anything but the figures.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from threadpoolctl import threadpool_limits

from cad.command import progress, run, say
from cad.errors import InputError, nearest
from cad.files import write
from detect.baselines import BASELINES, Baseline, Fitted
from detect.calibrate import Conformal
from detect.metrics import auroc, auroc_interval
from pipelines.benchmark_render import machine
from train.photographs import find_images, read

CALIBRATE = 0.2  # of the good training photographs: for the threshold alone


def photographs(folder: Path, size: int) -> dict[str, np.ndarray]:
    """{``train/good``, ``test/good``, ``test/<class>``: (n, size, size, 3) uint8} of an MVTec AD folder. Raises InputError where one is missing."""
    labels = (
        ["good", *sorted(d.name for d in (folder / "test").iterdir() if d.is_dir() and d.name != "good")]
        if (folder / "test").is_dir()
        else []
    )
    if len(labels) < 2:
        raise InputError(folder, "has no test photographs of a defect", wanted="train/good, test/good and test/CLASS")
    return {
        name: np.stack([read(p, size).pixels for p in find_images(folder / name)])
        for name in ("train/good", *(f"test/{n}" for n in labels))
    }


def figures(good: np.ndarray, bad: np.ndarray, threshold: float) -> dict[str, float]:
    """Of test scores and the score above which a photograph fails; ``balanced_accuracy``: the mean of the shares of good and of bad ones told right."""
    passed, failed = float((good <= threshold).mean()), float((bad > threshold).mean())
    right = passed * len(good) + failed * len(bad)
    return {
        "image_auroc": auroc(good, bad), "accuracy": right / (len(good) + len(bad)), "balanced_accuracy": (passed + failed) / 2,
        "rejected_good": 1 - passed, "found": failed,
    }  # fmt: skip


def measured(baseline: Baseline, seen: dict[str, np.ndarray], seed: int, alpha: float) -> dict[str, Any]:
    """One baseline, one seed, from what it saw of each group of :func:`photographs`."""
    order = np.random.default_rng(seed).permutation(len(seen["train/good"]))
    held, learned = np.split(order, [round(CALIBRATE * len(order))])
    start = time.perf_counter()
    fitted = Fitted(lambda x: x, baseline.learn(seen["train/good"][learned], seed))
    ready = time.perf_counter()
    threshold = Conformal(np.sort(fitted.scores(seen["train/good"][held])), alpha).threshold
    scores = {name: fitted.scores(x) for name, x in seen.items() if name.startswith("test/")}
    looked = len(held) + sum(map(len, scores.values()))
    classes = [name for name in scores if name != "test/good"]
    good, bad = scores["test/good"], np.concatenate([scores[name] for name in classes])
    return {
        **figures(good, bad, threshold), "interval": auroc_interval(good, bad),
        "classes": {name.removeprefix("test/"): auroc(good, scores[name]) for name in classes},
        "learn_seconds": ready - start, "look_milliseconds": 1e3 * (time.perf_counter() - ready) / looked,
    }  # fmt: skip


def bench(folder: Path, names: Sequence[str], seeds: Sequence[int], size: int, alpha: float) -> dict[str, Any]:
    """All figures of one folder. What baselines see alike is seen once."""
    groups = photographs(folder, size)
    every, told = sum(map(len, groups.values())), {}
    with progress(len(names) * len(seeds), folder.name, "fits") as advance:
        for see in dict.fromkeys(BASELINES[n].see for n in names):
            start = time.perf_counter()
            seen = {group: see(images) for group, images in groups.items()}
            cost = 1e3 * (time.perf_counter() - start) / every
            for name in (n for n in names if BASELINES[n].see is see):
                rows = []
                for seed in seeds:
                    rows.append(measured(BASELINES[name], seen, seed, alpha))
                    advance(1)
                told[name] = {"see_milliseconds": cost, "mean": _means(rows), "seeds": rows}
    counts = {group: len(images) for group, images in groups.items()}
    return {"counts": counts, "held_for_threshold": round(CALIBRATE * counts["train/good"]), "baselines": {n: told[n] for n in names}}


def _means(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Of each number over seeds: mean, lowest, highest."""
    numbers = [k for k, v in rows[0].items() if isinstance(v, float)]
    return {k: {"mean": float(np.mean(v)), "low": min(v), "high": max(v)} for k in numbers for v in [[row[k] for row in rows]]}


def table(found: dict[str, Any]) -> str:
    """Of what :func:`bench` gives, for a person."""
    lines = [f"{'':<18}{'AUROC':>8}{'(seeds)':>16}{'accuracy':>10}{'balanced':>10}{'good rejected':>15}"]
    for name, row in found["baselines"].items():
        m = row["mean"]
        spread = f"({m['image_auroc']['low']:.3f} - {m['image_auroc']['high']:.3f})"
        lines.append(
            f"{name:<18}{m['image_auroc']['mean']:>8.3f}{spread:>16}{m['accuracy']['mean']:>10.3f}"
            f"{m['balanced_accuracy']['mean']:>10.3f}{m['rejected_good']['mean']:>15.3f}"
        )
    return "\n".join(lines)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(v) for v in value]
    return round(value, 4) if isinstance(value, float) else value


@click.command()
@click.argument("folders", nargs=-1, required=True, metavar="FOLDER...", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Also write the JSON there.")
@click.option("--baseline", "names", multiple=True, metavar="NAME", help=f"Of {', '.join(BASELINES)}; all without it. May be given again.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Fits of each: seeds 0, 1, ...")
@click.option("--size", type=click.IntRange(32), default=224, show_default=True, help="px that photographs are read at.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="More are slower where others want the cores too.")
@click.option("--alpha", type=float, default=0.05, show_default=True, help="Rate of false rejects that the threshold is for.")
def main(folders: tuple[Path, ...], output: Path | None, names: tuple[str, ...], seeds: int, size: int, threads: int, alpha: float) -> None:
    """AUROC and accuracy of every baseline on folders of photographs.

    Example: python -m pipelines.benchmark_baselines data/elpv/mono data/elpv/poly -o baselines.json
    """
    for name in names:
        if name not in BASELINES:
            raise InputError("--baseline", f'found "{name}"', wanted="a known one", step=nearest(name, BASELINES))
    if len({f.resolve().name for f in folders}) < len(folders):
        raise InputError("FOLDER...", "two of one name", wanted="names that tell them apart")
    import torch

    torch.set_num_threads(threads)
    told = {}
    with threadpool_limits(threads):
        for folder in folders:
            found = told[folder.resolve().name] = bench(folder, names or tuple(BASELINES), range(seeds), size, alpha)
            say(f"{folder}\n{table(found)}")
    facts = {"size": size, "threads": threads, "alpha": alpha, "seeds": seeds}
    text = json.dumps(_rounded({**machine(), **facts, "folders": told}), indent=1)
    if output is not None:
        write(output, text + "\n")
    click.echo(text)


if __name__ == "__main__":
    run(main)
