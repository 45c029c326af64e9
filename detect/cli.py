"""detect curate, detect calibrate, detect inspect, detect drift, detect validate."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cad.command import SETTINGS, json_option, result, run, say, seed_option
from cad.errors import InputError

if TYPE_CHECKING:
    from detect.inspection import Inspection

RUNS = Path("runs")
REJECTED = ("fail", "not this part")
run_option = click.option(
    "--run", "run_folder", type=click.Path(path_type=Path), metavar="RUN", help="The run folder.  [default: the newest below runs/]"
)
device_option = click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", help="Where the descent computes.")


@click.group(context_settings=SETTINGS)
@click.version_option(package_name="formspect")
def detect() -> None:
    """Verdicts: the nearest good form, what is left over, where, and how sure."""


@detect.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="YAML", help="Where the set is written.  [default: FOLDER/curated.yaml]")  # fmt: skip
@click.option("--sheet", type=click.Path(dir_okay=False, path_type=Path), metavar="PNG", help="Where the contact sheet goes.  [default: beside it]")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace a set that is there, edits and all.")
@json_option
def curate(folder: Path, output: Path | None, sheet: Path | None, force: bool, as_json: bool) -> None:
    """Looks through FOLDER/<split>/<class>, or FOLDER/<class>, for what is double, blurred, over-exposed, cropped or absent, of another size,
    or told by colour alone; writes a set for detect validate, to be edited.

    Example: detect curate photos
    """
    from cad.files import whole
    from detect.curate import NAME, save
    from detect.curate import curate as look

    if output is not None and output.resolve().parent != folder.resolve():
        raise InputError(output, "is not in the folder of photographs", wanted=f"a file in {folder}: its entries are found below it")
    if (output or folder / NAME).exists() and not force:
        raise InputError(output or folder / NAME, "is there already, and may have been edited", wanted="another name with -o, or --force")
    data, picture = look(folder)
    path = save(data, output)
    sheet = sheet or path.with_suffix(".png")
    with whole(sheet) as temporary:
        picture.save(temporary, format="PNG")
    left_out = [e for e in data.entries if e.excluded is not None]
    lines = [f"{e.file}: {e.excluded}" for e in left_out] + list(data.warnings)
    facts = {"set": str(path), "sheet": str(sheet), "images": len(data.entries), "excluded": {e.file: e.excluded for e in left_out}, "warnings": list(data.warnings)}  # fmt: skip
    lines.append(f"{path}: {len(data.entries)} photographs, {len(left_out)} excluded; sheet: {sheet}")
    result(facts, as_json, "\n".join(lines))
    say(f"next: look at {sheet}, edit {path}, then detect validate {path} --calibrate")


route_option = click.option(
    "--route",
    type=click.Choice(["auto", "render", "photograph"]),
    default="auto",
    help="CAD form: compare with the part as it is drawn (render), or by outline, holes and a memory of the good photographs (photograph)."
    " auto: render, where renders look like the good images.",
)

terms_option = click.option(
    "--terms",
    metavar="NAME,...",
    help="Photographs: ask these alone, of outline, holes, memory, compare (a network of train compare's).  [default: all that are to be had]",
)


@detect.command()
@click.argument("good", type=click.Path(path_type=Path), required=False)
@click.option(
    "--rendered", type=click.IntRange(1), metavar="N", help="In place of GOOD: N drawn views. No photograph is needed, and none remembered."
)
@route_option
@terms_option
@run_option
@click.option("--alpha", type=float, default=0.05, metavar="RATE", help="The share of good parts that may be rejected.")
@click.option("--steps", type=click.IntRange(0, 10_000), metavar="N", help="Learned forms: steps of descent at most; 0: the encoder alone.")
@click.option("--starts", type=click.IntRange(1, 256), metavar="K", help="Learned forms: codes to descend from, the encoder's first.")
@click.option("--drawn", type=click.IntRange(0, 256), metavar="R", help="Learned forms: of the starts, so many at random.")
@click.option(
    "--method",
    type=click.Choice(["sgd", "adam", "nadam", "l-bfgs", "gauss-newton"]),
    help="Learned forms: of descent.  [default: the model's own]",
)
@click.option(
    "--score",
    metavar="TERM[+TERM...]",
    help="Learned forms: map, a term of the model's own, or several as one.  [default: map; of photographs, but in tiles, with both rarities]",
)
@device_option
@json_option
def calibrate(
    good: Path | None,
    rendered: int | None,
    route: str,
    terms: str | None,
    run_folder: Path | None,
    alpha: float,
    steps: int | None,
    starts: int | None,
    drawn: int | None,
    method: str | None,
    score: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Learns from GOOD, a folder of good images and nothing else, what a good part's score is.

    Example: detect calibrate data/notched-cap/test/good --alpha 0.05
    """
    from detect.calibrate import CALIBRATION
    from detect.changes import changes, former, words
    from detect.opening import calibrated_detector, save_calibration
    from detect.photo_detector import PhotoDetector
    from train.photographs import find_images

    folder = _run_folder(run_folder)
    before = former(folder / CALIBRATION)
    if (good is None) == (rendered is None):
        raise InputError("detect calibrate", "one of GOOD and --rendered is wanted", wanted="a folder of good images, or --rendered N")
    settings = {
        k: v for k, v in (("steps", steps), ("starts", starts), ("drawn", drawn), ("method", method), ("score", score)) if v is not None
    }
    if rendered is not None:
        from detect.opening import rendered_detector

        if route == "render":
            raise InputError(
                "--route", "found render with --rendered", wanted="--route photograph, or good photographs in place of --rendered"
            )

        detector = rendered_detector(folder, rendered, alpha, terms=_terms(terms))
    else:
        detector = calibrated_detector(folder, find_images(good), alpha, route=route, terms=_terms(terms), device=device, settings=settings)
    calibration = detector.calibration
    path = save_calibration(detector)
    changed = changes(before, calibration.json()) if before is not None else None
    facts = {
        "route": "photograph" if isinstance(detector, PhotoDetector) else "render",
        "run": str(folder),
        "calibration": str(path),
        "n": len(calibration.conformal.scores),
        "alpha": alpha,
        "threshold": calibration.conformal.threshold,
        "true_rate": calibration.conformal.true_rate(),
        "changed": changed,
    }
    how = ""
    if isinstance(detector, PhotoDetector):
        how = " by outline and holes" if calibration.outlined else " without outlines, which are not found in them"
        how += ", and a memory of them" if calibration.memory is not None else ", without a memory"
    low, high = (100 * rate for rate in facts["true_rate"])
    lines = [
        f"{path}: {facts['n']} good images, threshold {facts['threshold']:.4g} at a false-reject rate of {alpha:g}{how}",
        f"threshold {facts['threshold']:.4g}: at most {100 * alpha:g} % of good parts are rejected on average; with {facts['n']} images the true rate is between {low:.1f} and {high:.1f} % (95 %)",
        *(words(changed) if changed is not None else []),
    ]
    result(facts, as_json, "\n".join(lines))
    say("next: detect inspect IMAGE..., or detect validate FOLDER")


@detect.command()
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@run_option
@click.option(
    "--overlay", "overlays", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Write a picture for each image there."
)
@click.option(
    "--trace", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.gif", help="CAD form: show the first image's descent."
)
@click.option("--group", "grouped", is_flag=True, help="IMAGES show one item: fuse them into one verdict.")
@click.option(
    "--poses",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="RUN",
    help="CAD form: a run of train fit --model conditioned, whose poses the search begins with.",
)
@device_option
@json_option
@click.pass_context
def inspect(
    context: click.Context,
    images: tuple[Path, ...],
    run_folder: Path | None,
    overlays: Path | None,
    trace: Path | None,
    grouped: bool,
    poses: Path | None,
    device: str,
    as_json: bool,
) -> int:
    """Verdict, score, p-value and regions of each of IMAGES. Exit 1 when a part fails, or is not this part.

    Example: detect inspect photos/*.png --overlay overlays

    Example: detect inspect item7_*.png --group --trace descent.gif
    """
    from cad.files import whole
    from detect.group import fused
    from detect.opening import open_detector
    from detect.pictures import overlay
    from train.photographs import read_all

    detector = open_detector(_run_folder(run_folder), device=device)
    if poses is not None:
        from detect.cad_detector import CadDetector
        from detect.pose_starts import open_starts

        if not isinstance(detector, CadDetector):
            raise InputError("--poses", "the run searches for no pose of renders", wanted="a CAD form that is calibrated on renders")
        detector.starts = open_starts(poses, detector.form.part.text)
    photographs = read_all(images, detector.size, detector.lens)
    if trace is not None:
        from detect.trace import write_trace

        write_trace(detector, photographs[0], trace)
        say(f"trace: {trace}")
    found = []
    for photograph, (inspection, anomaly, form) in zip(photographs, detector.inspect(photographs), strict=True):
        found.append(inspection)
        if overlays is not None:
            with whole(overlays / f"{_unique(photograph.path, images)}.png") as temporary:
                overlay(photograph, form, anomaly, inspection, detector.calibration).save(temporary, format="PNG")
        if as_json:
            click.echo(json.dumps(inspection.json(), allow_nan=False))
        else:
            click.echo("\n".join(_lines(inspection)))
    if grouped:
        item = fused(found, detector.calibration.conformal.alpha)
        if as_json:
            click.echo(json.dumps(item.json(), allow_nan=False))
        else:
            click.echo(
                "\n".join([f"{item.verdict:<6} item in {len(found)} photographs  p {item.p_value:.3f}", *_dimensions(item.dimensions)])
            )
        return int(item.verdict in REJECTED)
    return int(any(i.verdict in REJECTED for i in found))


def _lines(inspection: Inspection) -> list[str]:
    """What a terminal is told of one photograph."""
    places = ", ".join(
        f"{r['feature'] or 'background'} {r['bbox']}" + (f" {r['deviation_mm']:+.2f} mm" if r["deviation_mm"] is not None else "")
        for r in inspection.regions[:3]
    )
    head = f"{inspection.verdict:<6} {inspection.image}  score {inspection.score:.3f}  p {inspection.p_value:.3f}"
    return [
        head + (f"  {places}" if places else "") + (f"  ({inspection.reason})" if inspection.reason else ""),
        *_dimensions(inspection.dimensions),
    ]


def _dimensions(dimensions: dict[str, dict]) -> list[str]:
    """Those found out of tolerance, in words."""
    from detect.dimensions import Measured

    return [f"       {Measured(**d).text(name)}" for name, d in dimensions.items() if d["ok"] is False]


@detect.command()
@click.argument("stream", type=click.Path(allow_dash=True, path_type=Path), metavar="INSPECTIONS.jsonl")
@run_option
@click.option("--every", type=click.IntRange(10), default=10_000, metavar="N", help="Images between two false alarms, at the least, on average.")  # fmt: skip
@click.option("--defects", type=click.FloatRange(0, 1, max_open=True), default=0.05, metavar="SHARE", help="The share of parts that may be defective without an alarm.")  # fmt: skip
@json_option
def drift(stream: Path, run_folder: Path | None, every: int, defects: float, as_json: bool) -> int:
    """Whether photographs are still like those of the calibration: reads inspections in the order in which they were taken, or - for those
    that detect inspect --json prints as it goes. Exit 1 when an alarm is raised: scores of parts that pass have moved, or more are rejected.

    Example: detect drift out/validation/inspections.jsonl --run runs/notched-cap
    """
    from detect.calibrate import read_conformal
    from detect.drift import Watch, inspections

    folder = _run_folder(run_folder)
    conformal = read_conformal(folder)
    watch, name = Watch(conformal, every=every, defects=defects), "stdin" if str(stream) == "-" else str(stream)
    with _opened(stream) as lines:
        for judged in inspections(lines, name, conformal):
            for alarm in watch.see(judged):
                if not as_json:
                    click.echo(f"alarm at image {alarm.at} ({alarm.image}), probably since {alarm.since} ({alarm.since_image}): {alarm.words}")  # fmt: skip
    if not watch.images:
        raise InputError(name, "holds no inspections", wanted="a line for each image", step="detect inspect IMAGE... --json")
    result(watch.json(), as_json, watch.text())
    if watch.alarms:
        say(f"next: look at what was taken since {watch.since.since_image}; where the parts are good, detect calibrate GOOD --run {folder}")
    return int(bool(watch.alarms))


@contextmanager
def _opened(stream: Path) -> Iterator[Iterable[str]]:
    """The lines of a file, or of stdin as they come."""
    try:
        with click.open_file(str(stream), encoding="utf-8", errors="replace") as lines:
            yield lines
    except FileNotFoundError:
        raise InputError(stream, "no such file", wanted="inspections.jsonl") from None
    except IsADirectoryError:
        raise InputError(stream, "is a folder", wanted="inspections.jsonl") from None


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
@route_option
@terms_option
@click.option("--allow-leaks", "leaky", is_flag=True, help="Measure although a photograph is both learned from and tested on.")
@device_option
@json_option
def validate(
    folder: Path,
    run_folder: Path | None,
    output: Path,
    recalibrate: bool,
    alpha: float,
    route: str,
    terms: str | None,
    leaky: bool,
    device: str,
    as_json: bool,
) -> None:
    """Figures of a run on FOLDER/test/good and FOLDER/test/<class>, with masks in FOLDER/ground_truth where there are any; or on a set of
    detect curate's.

    Example: detect validate data/notched-cap -o out/validation
    """
    from detect.curate import NAME, open_curated
    from detect.opening import calibrated_detector, open_detector, save_calibration
    from detect.report import figure
    from detect.validation import check_layout, check_splits, write_validation
    from detect.validation import validate as inspect_all
    from train.photographs import find_images

    check_layout(folder)
    if not leaky:
        check_splits(folder)
    if recalibrate:
        curated = open_curated(folder) if folder.is_file() or (folder / NAME).exists() else None
        good = curated.paths("calibrate", "good") if curated else find_images(folder / "calibrate" / "good")
        detector = calibrated_detector(_run_folder(run_folder), good, alpha, route=route, terms=_terms(terms), device=device)
        save_calibration(detector)
    else:
        detector = open_detector(_run_folder(run_folder), device=device)
    figures = write_validation(inspect_all(detector, folder), output)
    rows = [
        f"{name:<16} {c['n']:>5} images  AUROC {figure(c['image_auroc'])}  rejected {figure(c['rejected'])}  pixel AUROC {figure(c['pixel_auroc'])}  AUPRO {figure(c['aupro'])}"
        for name, c in figures["classes"].items()
    ]
    good = figures["good"]
    result(
        figures,
        as_json,
        "\n".join(
            [
                *rows,
                f"{'good':<16} {good['n']:>5} images  rejected {figure(good['rejected'])}"
                + (f"  outline IoU {figure(good['outline_iou'])}" if good["outline_iou"] is not None else ""),
                f"report: {output / 'report.html'}",
            ]
        ),
    )


def _run_folder(folder: Path | None) -> Path:
    from train.runs import find_runs

    if folder is None:
        found = find_runs(RUNS)
        if not found:
            raise InputError(
                RUNS, "holds no finished run", wanted="a run folder", step="make one: train fit DATASET, or name it with --run"
            )
        folder = found[-1]
        say(f"run: {folder}")
    return folder


@detect.command()
@click.argument("folder", type=click.Path(path_type=Path))
@run_option
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), metavar="OUT", help="[default: out/diagnosis]")
@click.option("--most", type=click.IntRange(8), default=60, metavar="N", help="Photographs of each class that are looked at.")
@device_option
@seed_option
@json_option
def diagnose(folder: Path, run_folder: Path | None, output: Path | None, most: int, device: str, seed: int, as_json: bool) -> None:
    """What a learned form has learned: generated pictures, interpolations, t-SNE, Fréchet distances, reconstructions of FOLDER/test/<class>, poses reached.

    Example: detect diagnose data/notched-cap --run runs/gan
    """
    from detect.diagnosing import diagnosed
    from detect.inspection import Detector
    from detect.opening import open_detector
    from detect.validation import check_layout, planned
    from train.photographs import read_all

    detector = open_detector(_run_folder(run_folder), calibrated=False, device=device)
    if not isinstance(detector, Detector):
        raise InputError("--run", "the run holds a CAD form", wanted="a learned form", step="train fit DATASET --model unet-gan")
    check_layout(folder)
    files: dict[str, list[Path]] = {}
    for label, path in planned(folder):
        files.setdefault(label, []).append(path)
    out = output or Path("out") / "diagnosis"
    photographs = {label: read_all(own[:: max(1, len(own) // most)][:most], detector.size) for label, own in files.items()}
    figures = diagnosed(detector, photographs, out, seed)
    told = figures["generated"]
    words = f"{out / 'diagnostics.html'}: generated pictures vary {100 * told['variety']:.0f} % as much as real ones, told apart {100 * told['told_apart']:.0f} %"
    result(figures, as_json, words)


@detect.command()
@click.argument("good", type=click.Path(path_type=Path))
@run_option
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("appearance.yaml"),
    metavar="FILE",
    help="Where the classes go.",
)
@json_option
def appearance(good: Path, run_folder: Path | None, output: Path, as_json: bool) -> None:
    """What GOOD photographs say of background, surface, light, camera and sensor, as classes that synth render and train compare take.

    Example: detect appearance photos/good -o appearance.yaml
    """
    from cad.files import write
    from detect.appearance import appearance as measured
    from detect.cad_detector import CadDetector
    from detect.opening import open_detector
    from detect.photo_detector import PhotoDetector
    from synth.randomise import blocks_json, blocks_text
    from train.photographs import find_images, read_all

    opened = open_detector(_run_folder(run_folder), calibrated=False)
    if not isinstance(opened, CadDetector):
        raise InputError("--run", "the run is a learned form", wanted="a CAD form", step="train fit PART --form cad")
    detector = PhotoDetector(opened.run)
    blocks, middles = measured(detector, read_all(find_images(good), detector.size, detector.lens))
    write(output, f"# Fitted to {middles['photographs']} photographs.\n{blocks_text(blocks)}")
    rows = [f"{name:<12} {value:.3g}" for name, value in middles.items()]
    result({"file": str(output), "medians": middles, "classes": blocks_json(blocks)}, as_json, "\n".join([*rows, f"classes: {output}"]))
    say(f"next: train compare RUN --randomise {output}, or synth render PART --randomise {output}")


def _terms(given: str | None) -> tuple[str, ...]:
    """Raises InputError for a name that is no term's."""
    from cad.errors import nearest
    from detect.photo_detector import TERMS

    names = tuple(TERMS) if given is None else tuple(n.strip() for n in given.split(","))
    for name in names:
        if name not in TERMS:
            raise InputError("--terms", f'found "{name}"', wanted=", ".join(TERMS), step=nearest(name, TERMS))
    return names


def _unique(path: Path, images: tuple[Path, ...]) -> str:
    """The image's stem, behind as many of its folders' names as tell it from the others'; its name where only the ending does."""
    own, stems = path.with_suffix("").parts, [p.with_suffix("").parts for p in images]
    depth = next((n for n in range(1, len(own) + 1) if sum(s[-n:] == own[-n:] for s in stems) == 1), 0)
    return "_".join(own[-depth:]) if depth else path.name


def main() -> None:
    run(detect)
