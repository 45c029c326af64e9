"""formspect run, formspect ablate, formspect compare, formspect doctor."""

from __future__ import annotations

from pathlib import Path

import click

from cad.command import SETTINGS, json_option, result, run, say, seed_option
from cad.errors import InputError
from cad.part import load
from train.catalogue import NORMALIZE

OUT = Path("out")


@click.group(context_settings=SETTINGS)
@click.version_option(package_name="formspect")
def formspect() -> None:
    """From a part file to a calibrated detector of shape defects, and a report of what it can do."""


@formspect.command(name="run")
@click.argument("part")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="Where everything goes.  [default: out/<part>]")
@click.option(
    "--real",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Photographs: test/good, test/<class>, and calibrate/good where there are any for it.",
)
@click.option(
    "--form",
    type=click.Choice(["cad", "learned"]),
    default="cad",
    help="cad: the part's own renderer, nothing trained. learned: a generator; --epochs and what follows it are its options.",
)
@click.option(
    "-n", "--views", type=click.IntRange(0), metavar="N", help="Good views to train on.  [default: 16000 for a learned form, else none]"
)
@click.option("--test", type=click.IntRange(1), default=120, metavar="N", help="Held-out views of good parts, and of each defect.")
@click.option("--calibration", type=click.IntRange(1), default=200, metavar="N", help="Good views to calibrate the synthetic figures on.")
@click.option("--severity", multiple=True, metavar="DEFECT=V,V...", help="Test these severities instead of the file's range.")
@click.option("--size", type=click.IntRange(32, 512), default=64, metavar="PX", help="Of the square images.")
@click.option("--epochs", type=click.IntRange(1), metavar="N", help="Passes over the training views.")
@click.option(
    "--minutes",
    type=click.FloatRange(0, min_open=True),
    metavar="M",
    help="Stop training after so long; the result then depends on the machine.",
)
@click.option("--width", type=click.IntRange(8, 512), metavar="N", help="Channels of the networks' finest layer.")
@click.option("--batch", type=click.IntRange(2), metavar="N", help="Images a step.")
@click.option("--normalize", type=click.Choice(NORMALIZE), help="standard: the networks see neither brightness nor contrast.")
@click.option("--alpha", type=float, default=0.05, metavar="RATE", help="The share of good parts that may be rejected.")
@click.option("--jobs", type=click.IntRange(1), metavar="J", help="Processes that render.  [default: all cores]")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", help="Where training and descent compute.")
@seed_option
@json_option
def run_all(
    part: str,
    output: Path | None,
    real: Path | None,
    form: str,
    views: int | None,
    test: int,
    calibration: int,
    severity: tuple[str, ...],
    size: int,
    alpha: float,
    jobs: int | None,
    device: str,
    seed: int,
    as_json: bool,
    **training: object,
) -> None:
    """All stages for PART, skipping what is up to date: render, fit the form, calibrate, validate, report.

    Example: formspect run cad/parts/hex_nut.yaml --real photos
    """
    from detect.calibrate import check_alpha
    from pipelines.end_to_end import Plan
    from pipelines.end_to_end import run as run_stages
    from synth.cli import severities
    from synth.sampling import Recipe

    loaded = load(part)
    check_alpha(alpha, calibration)
    if form == "learned" and views == 0:
        raise InputError("--views", "found 0", wanted="at least one good view to train on")
    if views is None:
        views = 16000 if form == "learned" else 0
    recipe = Recipe(views, test, size=size, seed=seed, severities=severities(severity))
    plan = Plan(recipe, calibration, {k: v for k, v in training.items() if v is not None}, form, alpha, real, device, jobs)
    facts = run_stages(loaded, output or OUT / loaded.name, plan)
    result(
        facts, as_json, f"report: {facts['report']}  ({facts['total_seconds']:.0f} s of work, {len(facts['skipped'])} stages up to date)"
    )
    say(f"next: detect inspect IMAGE... --run {output or OUT / loaded.name}/run")


@formspect.command()
@click.argument("part")
@click.option(
    "--real",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Photographs: test/good and test/<class>, or a curated set.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="Where everything goes.  [default: out/<part>/ablation]"
)
@click.option("--full", is_flag=True, help="Three seeds, all photographs, finer pictures: hours in place of half an hour.")
@click.option("--class", "names", multiple=True, metavar="NAME", help="Only this class, and as many as are named.  [default: all]")
@click.option("--apart", multiple=True, metavar="CLASS", help="A class of photographs that is no defect of shape: its figures stand apart.")
@click.option("--pairs", type=click.IntRange(8), metavar="N", help="Rendered pairs that each variant draws.")
@click.option("--steps", type=click.IntRange(1), metavar="N", help="Of each variant's training.")
@click.option("--most", type=click.IntRange(2), metavar="N", help="Photographs of a class that are looked at.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", help="Where to train.")
@json_option
def ablate(
    part: str,
    real: Path,
    output: Path | None,
    full: bool,
    names: tuple[str, ...],
    apart: tuple[str, ...],
    pairs: int | None,
    steps: int | None,
    most: int | None,
    device: str,
    as_json: bool,
) -> None:
    """What each class of synthesis is worth on real photographs of PART: trained without it, and with it alone.

    Example: formspect ablate cad/parts/hex_nut.yaml --real photos
    """
    from dataclasses import replace

    from pipelines.ablate import FULL, NAMES, QUICK, rows_of
    from pipelines.ablate import ablate as measure

    loaded = load(part)
    folder = output or OUT / loaded.name / "ablation"
    given = {k: v for k, v in (("pairs", pairs), ("steps", steps), ("most", most)) if v is not None}
    figures = measure(loaded, real, folder, replace(FULL if full else QUICK, **given), names=names or NAMES, apart=apart, device=device)
    result(figures, as_json, "\n".join([*rows_of(figures), "", *figures["advice"], f"report: {folder / 'report.html'}"]))


@formspect.command()
@click.argument("source", metavar="PART_OR_FOLDER")
@click.option("--models", default="all", metavar="all|NAME,...", help="Learned forms (train list), baselines, cad.")
@click.option(
    "--minutes", type=click.FloatRange(0, min_open=True), default=2.0, metavar="M", help="Training of each learned form and seed."
)
@click.option("--seeds", type=click.IntRange(1), default=1, metavar="N", help="So many trainings of each: mean and spread.")
@click.option("--size", type=int, default=64, metavar="PX", help="Of what all of them see, a multiple of 16.")
@click.option("-n", "views", type=click.IntRange(64), default=8000, metavar="N", help="Of a part: views to train on.")
@click.option("--test", type=click.IntRange(8), default=60, metavar="N", help="Of a part: test views of good parts and of each defect.")
@click.option(
    "--severity",
    multiple=True,
    metavar="DEFECT=V,V...",
    help="Of a part: test these severities, each a class, instead of the file's range.",
)
@click.option("--alpha", type=float, default=0.05, metavar="RATE", help="The share of good parts that may be rejected.")
@click.option("--pictures/--no-pictures", default=True, help="With diagnostics and curves of AUROC against time.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", help="Where to train and to look.")
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="[default: out/compare-<name>]")
@json_option
def compare(
    source: str, models: str, minutes: float, seeds: int, size: int, views: int, test: int, severity: tuple[str, ...], alpha: float,
    pictures: bool, device: str, output: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Trains and measures learned forms and baselines on one bench, ranks them, and names the best for a part, or for a folder of photographs.

    Example: formspect compare notched_cap --minutes 5

    Example: formspect compare photos --models unet-gan,f-anogan,patchcore --seeds 3
    """
    from detect.calibrate import images_needed
    from pipelines.compare import Budget, lines_of, names_of
    from pipelines.compare import compare as measure
    from synth.cli import severities

    names = names_of(models)
    if size % 16 or not 32 <= size <= 512:
        raise InputError("--size", f"found {size}", wanted="a multiple of 16 from 32 to 512")
    found = Path(source) if Path(source).is_dir() else load(source)
    tried = tuple((k, tuple(v)) for k, v in severities(severity).items())
    budget = Budget(minutes, tuple(range(seeds)), size, alpha, views, max(100, images_needed(alpha)), test, tried)
    folder = output or Path("out") / f"compare-{found.name}"
    figures = measure(found, folder, names, budget, device=device, pictures=pictures)
    result(figures, as_json, "\n".join([*lines_of(figures), f"report: {folder / 'report.html'}"]))


@formspect.command()
@json_option
def doctor(as_json: bool) -> None:
    """What this machine can do: versions, devices, renderers; what is missing, and the command that brings it.

    Example: formspect doctor
    """
    from pipelines.doctor import examined, table

    facts = examined()
    result(facts, as_json, table(facts))


def main() -> None:
    run(formspect)
