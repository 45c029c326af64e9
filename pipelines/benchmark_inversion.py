"""What each way down to the nearest form costs and finds: prints JSON. ``python -m pipelines.benchmark_inversion RUN DATASET -o inversion.json``

``default`` says what this is about: what an inspection does by the model's own settings, beside Adam from random starts on the model's own loss. The
other ways go down on one loss, from the same encoder, bank and draws, image after image: what the machine does beside it falls on all alike.
The baseline is Adam from random starts, so many steps that it moves no more; a way is as good where the median loss is no higher.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from cad.command import progress
from cad.errors import InputError
from cad.files import write
from pipelines.benchmark_render import machine, summary

if TYPE_CHECKING:
    from torch import Tensor

    from synth.dataset import Dataset
    from train.runs import Run

NEVER = {"tolerance": 0.0, "patience": 10**6}  # nothing stops a descent before its steps are done
TENTH = 0.1
GOOD = "good"


@dataclass(frozen=True)
class Way:
    """A setting of :func:`detect.descend.descend`: from the ``first`` (``encoder``, ``random``, ``nearest``, or ``mixed``: the encoder's, the
    nearest, half as many random ones) of ``starts`` codes, of which ``keep`` go on."""

    method: str
    first: str
    starts: int
    steps: int
    rate: float | None = None
    keep: int | None = None
    scout: int = 0


BASELINE = Way("adam", "random", 4, 500)
CURVES = (  # method, where from, how many, steps, rate
    ("sgd", "encoder", 1, (8, 16, 32, 48), 10.0),
    ("adam", "encoder", 1, (4, 8, 16, 32, 48, 80, 192), 0.1),
    ("nadam", "encoder", 1, (8, 16, 32, 48, 84), 0.07),
    ("l-bfgs", "encoder", 1, (4, 8, 16, 32, 64), None),
    ("gauss-newton", "encoder", 1, (1, 2, 3, 4), None),
    ("adam", "nearest", 1, (32, 80), 0.1),
    ("adam", "random", 1, (80, 500), 0.05),
    ("l-bfgs", "random", 1, (48,), None),
    ("gauss-newton", "random", 1, (2, 4), None),
    ("adam", "mixed", 6, (48,), 0.1),
)
PRUNED = (Way("adam", "mixed", 6, 48, 0.1, keep=1), Way("adam", "mixed", 6, 48, 0.1, keep=2, scout=6))


def ways() -> tuple[Way, ...]:
    """The encoder's answer alone, then every curve, by steps."""
    curves = [Way(method, first, starts, steps, rate) for method, first, starts, all_steps, rate in CURVES for steps in all_steps]
    return (Way("adam", "encoder", 1, 0), *curves, *PRUNED)


@dataclass(frozen=True, eq=False)
class Forms:
    """A learned form as the bench sees it. Latents are whitened: of mean 0 and deviation 1 over the training views."""

    decode: Callable[[Tensor], Tensor]
    encode: Callable[[Tensor], Tensor]
    bank_thumbs: Tensor
    bank_codes: Tensor


def forms_of(run: Run, device: str) -> Forms:
    """The one place that knows what a run's model is made of."""
    model = run.model.to(device)
    codes = run.bank.codes.to(device)
    mean, spread = codes.mean(0), codes.std(0) + 1e-3
    return Forms(
        lambda z: model.decode(z * spread + mean),
        lambda x: (model.encode(x) - mean) / spread,
        run.bank.code_thumbs.to(device),
        (codes - mean) / spread,
    )


def starts_of(forms: Forms, images: Tensor, way: Way, seed: int) -> Tensor:
    """(B, K, Z)."""
    from detect.starts import mixed_starts, nearest_starts, random_starts
    from train.bank import thumbnails

    def near(count: int) -> Tensor:
        return nearest_starts(thumbnails(images), forms.bank_thumbs, forms.bank_codes, count)

    def drawn(count: int) -> Tensor:
        return random_starts(len(images), count, forms.bank_codes.shape[1], seed, images.device)

    if way.first == "random":
        return drawn(way.starts)
    if way.first == "nearest":
        return near(way.starts)
    if way.starts == 1:
        return mixed_starts(forms.encode(images))
    others = -(-2 * (way.starts - 1) // 3)
    return mixed_starts(forms.encode(images), near(others), drawn(way.starts - 1 - others))


def went(forms: Forms, images: Tensor, way: Way, prior: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(B,) final losses and (B,) scores: the highest pixels of what is left over."""
    import torch

    from detect.compare import scores
    from detect.descend import descend
    from train.losses import blurred, pyramid_l1

    def loss(form: Tensor, image: Tensor, latent: Tensor) -> Tensor:
        return pyramid_l1(form, image) + prior * (latent**2).mean(1)

    with torch.no_grad():
        starts = starts_of(forms, images, way, seed)
    found = descend(
        forms.decode, loss, images, starts, method=way.method, steps=way.steps, rate=way.rate, keep=way.keep, scout=way.scout, ridge=prior, **NEVER
    )  # fmt: skip
    return found.loss.cpu().numpy(), scores(blurred(images - found.decoded).abs()[:, 0].cpu().numpy())


def timed(forms: Forms, batch: Tensor, way: Way, prior: float, seed: int) -> dict[str, np.ndarray]:
    """(B,) each: losses, scores, milliseconds of the clock and of the processor an image."""
    wall, own = time.perf_counter(), time.process_time()
    losses, scores = went(forms, batch, way, prior, seed)  # they are on the CPU: nothing is left to wait for
    share = np.full(len(batch), 1e3 / len(batch))
    wall, own = time.perf_counter() - wall, time.process_time() - own
    return {"loss": losses, "score": scores, "milliseconds": share * wall, "cpu": share * own}


def bench(forms: Forms, images: Tensor, tried: tuple[Way, ...], *, together: int, prior: float, seed: int) -> list[dict[str, np.ndarray]]:
    """What :func:`timed` says of all images, for each way; ``together`` images in a batch."""
    import torch

    rows: list[dict[str, list[np.ndarray]]] = [{} for _ in tried]
    for way in {(w.method, w.first): w for w in tried}.values():  # what is loaded or chosen at the first use
        went(forms, images[:together], Way(way.method, way.first, way.starts, min(way.steps, 2)), prior, seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as an inspection has it: an image, a thread
    try:
        with progress(len(images), "descending", "images") as advance:
            for batch in images.split(together):
                for row, way in zip(rows, tried, strict=True):
                    for name, values in timed(forms, batch, way, prior, seed).items():
                        row.setdefault(name, []).append(values)
                advance(len(batch))
    finally:
        torch.set_num_threads(threads)
    return [{name: np.concatenate(parts) for name, parts in row.items()} for row in rows]


def by_default(run: Run, images: Tensor, base: Way, seed: int) -> dict[str, Any]:
    """The model's own settings beside ``base``, on the model's own loss, image after image."""
    from detect.descend import descend
    from detect.projection import Projector, one_thread_each, settings_for
    from detect.starts import random_starts

    projector = Projector(run, images.device, settings_for(run))
    facts: dict[str, Any] = {"settings": asdict(projector.settings)}
    if not (projector.model.DECODES and projector.settings.steps):
        return facts | {"loss": None, "as_low": None}  # it never descends

    def adam(image: Tensor) -> Tensor:
        drawn = random_starts(1, base.starts, len(projector.mean), seed, images.device)
        decode, loss, _, target = projector.problem(image, projector.starts(image))
        return descend(decode, loss, target, drawn, method=base.method, steps=base.steps, **NEVER).loss

    losses, spent = np.zeros((2, len(images))), np.zeros((2, len(images)))
    with one_thread_each(), progress(len(images), "by default", "images") as advance:
        for k, image in enumerate(images.split(1)):
            for row, way in enumerate((lambda image: projector.descended(image, projector.starts(image)).loss, adam)):
                began = time.process_time()
                losses[row, k] = float(way(image)[0])
                spent[row, k] = 1e3 * (time.process_time() - began)
            advance(1)
    own, other = losses
    return facts | {
        "loss": round(float(np.median(own)), 6), "baseline_loss": round(float(np.median(other)), 6), "as_low": bool(np.median(own) <= np.median(other)),
        "as_low_share": round(float((own <= other).mean()), 3), "excess_percent": {"median": round(float(np.median(100 * (own / other - 1))), 3), "highest": round(float((100 * (own / other - 1)).max()), 3)},
        "cpu_milliseconds": summary(spent[0].tolist()), "baseline_cpu_milliseconds": summary(spent[1].tolist()), "share_of_time": round(float(np.median(spent[0]) / np.median(spent[1])), 4),
    }  # fmt: skip


def line(way: Way, found: dict[str, np.ndarray], base: dict[str, np.ndarray], labels: np.ndarray) -> dict[str, Any]:
    """A row of the table: what a way finds, beside the baseline image by image, and what it costs."""
    from detect.metrics import auroc

    excess = 100 * (found["loss"] / base["loss"] - 1)
    good = found["score"][labels == GOOD]
    by_label = {str(k): found["score"][labels == k] for k in dict.fromkeys(labels.tolist()) if k != GOOD}
    by_label |= {"all": found["score"][labels != GOOD]}
    return {
        **asdict(way), "loss": round(float(np.median(found["loss"])), 6), "excess_percent": {"median": round(float(np.median(excess)), 3), "highest": round(float(excess.max()), 3)},
        "as_low": round(float((found["loss"] <= base["loss"]).mean()), 3), "milliseconds": summary(found["milliseconds"].tolist()), "cpu_milliseconds": summary(found["cpu"].tolist()),
        "share_of_time": round(float(np.median(found["cpu"]) / np.median(base["cpu"])), 4),
        "image_auroc": {k: None if (value := auroc(good, bad)) is None else round(value, 4) for k, bad in by_label.items()},
    }  # fmt: skip


def answer(rows: list[dict[str, Any]], base: dict[str, Any]) -> dict[str, Any]:
    """The way of the lowest median loss within a tenth of the baseline's time, and whether it is as low."""
    quick = [r for r in rows if r["share_of_time"] <= TENTH]
    if not quick:
        return {"within_a_tenth": None, "as_low": False}
    best = min(quick, key=lambda r: r["loss"])
    return {"within_a_tenth": best, "as_low": best["loss"] <= base["loss"], "loss_over_baseline": round(best["loss"] / base["loss"], 5)}


def pictures(data: Dataset, run: Run, count: int) -> tuple[Tensor, np.ndarray]:
    """(n, 1, S, S) as the networks see them, and (n,) labels: the first ``count`` of each. Raises InputError where there is no good one."""
    from train.images import prepare, resized

    samples = [s for label in data.labels for s in [s for s in data.of("test", label) if not s.hidden][:count]]
    if GOOD not in {s.label for s in samples}:
        raise InputError(data.folder / "test" / GOOD, "holds no image", wanted="good views beside the defective ones")
    return prepare(resized(data.images(samples), run.config.size), run.config.normalize), np.array([s.label for s in samples])


@click.command()
@click.argument("run", type=click.Path(file_okay=False, path_type=Path))
@click.argument("dataset", type=click.Path(file_okay=False, path_type=Path))
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Also write the JSON there.")
@click.option("--images", type=click.IntRange(1), default=12, help="Of each label.")
@click.option("--restarts", type=click.IntRange(1), default=BASELINE.starts, help="Random starts of the baseline.")
@click.option("--together", type=click.IntRange(1), default=1, help="Images in a batch; on a CPU an inspection has one.")
@click.option("--prior", type=click.FloatRange(0), default=0.02, help="Weight of the latent's mean square in the loss.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu")
@click.option("--seed", type=int, default=0, help="Of the random starts.")
def main(run: Path, dataset: Path, output: Path | None, images: int, restarts: int, together: int, prior: float, device: str, seed: int) -> None:  # fmt: skip
    """Loss, AUROC and milliseconds of every method, start and number of steps on a trained RUN and a DATASET's test views."""
    import torch

    from synth.dataset import open_dataset
    from train.runs import open_run

    facts = machine()  # the commit that the run begins with
    opened, base = open_run(run), Way("adam", "random", restarts, BASELINE.steps)
    views, labels = pictures(open_dataset(dataset), opened, images)
    tried = (base, *(w for w in ways() if w.method != "gauss-newton" or opened.config.latent <= 64))
    found = bench(forms_of(opened, device), views.to(device), tried, together=together, prior=prior, seed=seed)
    rows = [line(way, row, found[0], labels) for way, row in zip(tried, found, strict=True)]
    told = {
        **facts, "torch": torch.__version__, "device": device, "run": opened.folder.name, "model": opened.config.model, "size": opened.config.size, "latent": opened.config.latent,
        "trained": opened.facts, "images": len(views), "together": together, "prior": prior, "seed": seed, "baseline": rows[0], "ways": rows[1:], "answer": answer(rows[1:], rows[0]), "default": by_default(opened, views.to(device), base, seed),
    }  # fmt: skip
    text = json.dumps(told, indent=1)
    if output is not None:
        write(output, text + "\n")
    click.echo(text)


if __name__ == "__main__":
    main()
