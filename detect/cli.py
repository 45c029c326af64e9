"""detect calibrate, detect inspect, detect validate."""

from __future__ import annotations

import json
from pathlib import Path

import click

from cad.command import SETTINGS, json_option, result, run, say
from cad.errors import InputError

RUNS = Path("runs")
run_option = click.option(
    "--run", "run_folder", type=click.Path(path_type=Path), metavar="RUN", help="The run folder.  [default: the newest below runs/]"
)
device_option = click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", help="Where the descent computes.")


@click.group(context_settings=SETTINGS)
@click.version_option(package_name="formspect")
def detect() -> None:
    """Verdicts: the nearest good form, what is left over, where, and how sure."""


@detect.command()
@click.argument("good", type=click.Path(path_type=Path))
@run_option
@click.option("--alpha", type=float, default=0.05, metavar="RATE", help="The share of good parts that may be rejected.")
@click.option("--steps", type=click.IntRange(0, 10_000), metavar="N", help="Steps of descent at most; 0: the encoder alone.")
@click.option("--starts", type=click.IntRange(1, 256), metavar="K", help="Codes to descend from, the encoder's first.")
@device_option
@json_option
def calibrate(good: Path, run_folder: Path | None, alpha: float, steps: int | None, starts: int | None, device: str, as_json: bool) -> None:
    """Learns from GOOD, a folder of good images and nothing else, what a good part's score is.

    Example: detect calibrate data/notched-cap/test/good --alpha 0.05
    """
    from dataclasses import replace

    from detect.inspection import Detector, Settings, save_calibration
    from detect.photographs import find_images, read_all

    opened = _open(run_folder)
    settings = replace(Settings(), **{k: v for k, v in (("steps", steps), ("starts", starts)) if v is not None})
    detector = Detector(opened, device=device, settings=settings)
    calibration = detector.calibrate(read_all(find_images(good), opened.config.size), alpha)
    path = save_calibration(opened, calibration)
    facts = {
        "run": str(opened.folder),
        "calibration": str(path),
        "n": len(calibration.conformal.scores),
        "alpha": alpha,
        "threshold": calibration.conformal.threshold,
    }
    result(facts, as_json, f"{path}: {facts['n']} good images, threshold {facts['threshold']:.4g} at a false-reject rate of {alpha:g}")
    say("next: detect inspect IMAGE..., or detect validate FOLDER")


@detect.command()
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@run_option
@click.option(
    "--overlay", "overlays", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Write a picture for each image there."
)
@device_option
@json_option
@click.pass_context
def inspect(
    context: click.Context, images: tuple[Path, ...], run_folder: Path | None, overlays: Path | None, device: str, as_json: bool
) -> int:
    """Verdict, score, p-value and regions of each of IMAGES. Exit 1 when a part fails.

    Example: detect inspect photos/*.png --overlay overlays
    """
    from cad.files import whole
    from detect.inspection import Detector, load_calibration
    from detect.photographs import read
    from detect.pictures import overlay

    opened = _open(run_folder)
    detector = Detector(opened, device=device, calibration=load_calibration(opened))
    photographs = [read(path, opened.config.size) for path in images]
    found = []
    for photograph, (inspection, anomaly, form) in zip(photographs, detector.inspect(photographs), strict=True):
        found.append(inspection)
        if overlays is not None:
            with whole(overlays / f"{_unique(photograph.path, images)}.png") as temporary:
                overlay(photograph, form, anomaly, inspection, detector.calibration).save(temporary, format="PNG")
        if as_json:
            click.echo(json.dumps(inspection.json(), allow_nan=False))
        else:
            places = ", ".join(f"{r['feature'] or 'background'} {r['bbox']}" for r in inspection.regions[:3])
            click.echo(
                f"{inspection.verdict:<6} {inspection.image}  score {inspection.score:.3f}  p {inspection.p_value:.3f}{'  ' + places if places else ''}"
            )
    return 1 if any(i.verdict == "fail" for i in found) else 0


@detect.command()
@click.argument("folder", type=click.Path(path_type=Path))
@run_option
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("out/validation"),
    metavar="OUT",
    help="Where metrics.json, inspections.jsonl and report.html go.",
)
@click.option("--calibrate", "recalibrate", is_flag=True, help="First calibrate on FOLDER/calibrate/good.")
@click.option("--alpha", type=float, default=0.05, metavar="RATE", help="With --calibrate: the share of good parts that may be rejected.")
@device_option
@json_option
def validate(folder: Path, run_folder: Path | None, output: Path, recalibrate: bool, alpha: float, device: str, as_json: bool) -> None:
    """Figures of a run on FOLDER/test/good and FOLDER/test/<class>, with masks in FOLDER/ground_truth where there are any.

    Example: detect validate data/notched-cap -o out/validation
    """
    from detect.inspection import Detector, load_calibration, save_calibration
    from detect.photographs import find_images, read_all
    from detect.report import figure
    from detect.validation import check_layout, write_validation
    from detect.validation import validate as inspect_all

    check_layout(folder)
    opened = _open(run_folder)
    if recalibrate:
        detector = Detector(opened, device=device)
        save_calibration(opened, detector.calibrate(read_all(find_images(folder / "calibrate" / "good"), opened.config.size), alpha))
    else:
        detector = Detector(opened, device=device, calibration=load_calibration(opened))
    figures = write_validation(inspect_all(detector, folder), output)
    rows = [
        f"{name:<16} {c['n']:>5} images  AUROC {figure(c['image_auroc'])}  rejected {figure(c['rejected'])}  pixel AUROC {figure(c['pixel_auroc'])}  AUPRO {figure(c['aupro'])}"
        for name, c in figures["classes"].items()
    ]
    good = figures["good"]
    result(
        figures,
        as_json,
        "\n".join([*rows, f"{'good':<16} {good['n']:>5} images  rejected {figure(good['rejected'])}", f"report: {output / 'report.html'}"]),
    )


def _open(folder: Path | None) -> object:
    from train.runs import find_runs, open_run

    if folder is None:
        found = find_runs(RUNS)
        if not found:
            raise InputError(
                RUNS, "holds no finished run", wanted="a run folder", step="make one: train fit DATASET, or name it with --run"
            )
        folder = found[-1]
        say(f"run: {folder}")
    return open_run(folder)


def _unique(path: Path, images: tuple[Path, ...]) -> str:
    """The image's stem, behind as many of its folders' names as tell it from the others'; its name where only the ending does."""
    own, stems = path.with_suffix("").parts, [p.with_suffix("").parts for p in images]
    depth = next((n for n in range(1, len(own) + 1) if sum(s[-n:] == own[-n:] for s in stems) == 1), 0)
    return "_".join(own[-depth:]) if depth else path.name


def main() -> None:
    run(detect)
