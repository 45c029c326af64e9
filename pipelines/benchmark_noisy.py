"""What defects that nobody labelled cost: models trained on clean good views, and on views of which a share is defective: prints JSON.
``python -m pipelines.benchmark_noisy PART -o DIR``

A pair of trainings each, alike but for the share; the same test views and calibration.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from cad.command import say
from cad.files import fingerprint, write_json
from cad.part import Part, load
from pipelines.benchmark_render import machine
from pipelines.compare import Bench, Budget, drawn_bench, measured

SPOILT = 7  # the seed of the defective views that are trained on: none of them is tested on


def spoilt(bench: Bench, part: Part, folder: Path, budget: Budget, share: float) -> Bench:
    """The bench with ``share`` of its training views exchanged for defective ones, of all the part's defects and its file's own ranges."""
    from synth.dataset import open_dataset
    from synth.render import render
    from synth.sampling import Recipe

    count = round(share * len(bench.train))
    each = -(-count // max(1, len(part.defects)))
    render(part, folder / "spoilt", Recipe(1, each, size=budget.size, seed=SPOILT), replace=True)
    opened = open_dataset(folder / "spoilt", check=False)
    bad = [folder / "spoilt" / s.image for s in opened.of("test") if s.label != "good"][:count]
    kept = np.random.default_rng(SPOILT).permutation(len(bench.train))[len(bad) :]
    train = [bench.train[i] for i in sorted(kept)] + bad
    return replace(bench, train=train, key=fingerprint([bench.key, share, len(bad)]), dataset=None, part=None)


def cost(part: Part, folder: Path, models: tuple[str, ...], budget: Budget, share: float) -> dict[str, Any]:
    """{model: {clean, spoilt, lost}}: AUROC, the mean over classes and then over seeds."""
    bench = replace(drawn_bench(part, folder, budget), dataset=None, part=None)  # both are trained on as photographs
    benches = {"clean": bench, "spoilt": spoilt(bench, part, folder, budget, share)}
    found: dict[str, Any] = {}
    for name in models:
        rows = {kind: [measured(name, s, own, folder / kind, budget, "auto") for s in budget.seeds] for kind, own in benches.items()}
        figures: dict[str, Any] = {
            kind: {label: round(float(np.mean([r["classes"][label]["image_auroc"] for r in own])), 4) for label in own[0]["classes"]}
            for kind, own in rows.items()
        }
        means = {kind: float(np.mean(list(v.values()))) for kind, v in figures.items()}
        found[name] = {**figures, "lost": round(means["clean"] - means["spoilt"], 4)}
        say(f"{name:<12} clean {means['clean']:.3f}, {share:.0%} defective {means['spoilt']:.3f}")
    return found


@click.command()
@click.argument("part", default="notched_cap")
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), default=Path("out/noisy"), show_default=True)
@click.option("--models", default="noisy-gan,unet-gan", show_default=True)
@click.option(
    "--epochs",
    type=click.IntRange(1),
    default=12,
    show_default=True,
    help="Passes over the views, clean or not: minutes would depend on what runs beside.",
)
@click.option("--share", type=click.FloatRange(0, 0.5), default=0.05, show_default=True, help="Of the training views that are defective.")
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True)
@click.option("-n", "views", type=int, default=4000, show_default=True)
@click.option("--test", type=int, default=60, show_default=True)
def main(part: str, output: Path, models: str, epochs: int, share: float, seeds: int, views: int, test: int) -> None:
    """Prints {model: AUROC clean, spoilt, lost} with machine and commit; keeps it in DIR/noisy.json."""
    budget = Budget(None, tuple(range(seeds)), epochs=epochs, views=views, test=test, severities=(("bulge", (3.0,)), ("short-notch", (-2.5,))) if part == "notched_cap" else ())  # fmt: skip
    facts = machine()
    output.mkdir(parents=True, exist_ok=True)
    found = {**facts, "budget": asdict(budget), "share": share, "models": cost(load(part), output, tuple(models.split(",")), budget, share)}
    write_json(output / "noisy.json", found)
    click.echo(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
