"""synth recipe, synth preview, synth render, synth show, synth verify, synth export."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import click

from cad.command import SETTINGS, json_option, result, run, say, seed_option
from cad.errors import InputError
from cad.files import whole
from cad.part import load

DATA = Path("data")


@click.group(context_settings=SETTINGS)
@click.version_option(package_name="formspect")
def synth() -> None:
    """Renders: labelled views of good and defective parts, with exact masks."""


@synth.command()
@click.argument("part")
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DATASET",
    help="The dataset folder.  [default: data/<part>]",
)
@click.option("-n", type=click.IntRange(0), default=2000, metavar="N", help="Good views to train on.")
@click.option("--test", type=click.IntRange(0), default=100, metavar="N", help="Held-out views of good parts, and of each defect.")
@click.option("--size", type=click.IntRange(8, 4096), default=64, metavar="PX", help="Of the square images.")
@click.option("--samples", type=click.IntRange(1, 4096), metavar="S", help="S x S rays a pixel; cycles: S paths.  [default: 2; cycles: 1]")
@click.option(
    "--poses",
    default="random",
    metavar="random|grid|resting|FILE",
    help="Rotations within the part file's range: drawn at random; evenly over it; at rest on a plane, seen from above; or those of a list,"
    " in turn: w x y z or nine matrix numbers a line.",
)
@click.option(
    "--severity",
    multiple=True,
    metavar="DEFECT=V,V...",
    help="Draw these severities in turn instead of the file's range (mm; degrees; fractions).",
)
@click.option("--defect", multiple=True, metavar="NAME", help="Draw only these defects.  [default: all of the part file]")
@click.option(
    "--keep-hidden",
    is_flag=True,
    help="Take each defect's first view, shown or hidden. Otherwise others are tried, and only what never shows is recorded as hidden.",
)
@click.option("--truth", is_flag=True, help="Also write depth, normals and feature ids (NPZ).")
@click.option("--only", type=click.IntRange(0), metavar="K", help="Draw sample K alone: its line in samples.jsonl, from 0.")
@click.option("--jobs", type=click.IntRange(1), metavar="J", help="Processes; the bytes do not depend on it.  [default: all cores]")
@click.option(
    "--backend",
    type=click.Choice(["raycast", "gl", "cycles"]),
    default="raycast",
    help="What draws the pictures: the built-in z-buffer, OpenGL (pyrender), or the path tracer (bpy). Masks and truth are the same.",
)
@click.option("--denoise/--no-denoise", default=True, help="Of path-traced pictures; for them --samples 1 is then enough.")
@click.option(
    "--randomise",
    metavar="LEVEL|CLASS=LEVEL,...|FILE",
    help="What varies beyond the part file: off, file, default or strong for all classes, for some (lights=strong,sensor=default),"
    " or ranges from a YAML file (synth recipe prints one).  [default: file]",
)
@click.option("--shard", type=click.IntRange(1), metavar="N", help="Write WebDataset shards of N samples in place of loose files.")
@click.option("--scheduler", metavar="tcp://HOST:PORT", help="Draw on the workers of this dask scheduler in place of local processes.")
@click.option("--force", is_flag=True, help="Replace a dataset of another recipe.")
@seed_option
@json_option
def render(
    part: str,
    output: Path | None,
    n: int,
    test: int,
    poses: str,
    severity: tuple[str, ...],
    defect: tuple[str, ...],
    only: int | None,
    jobs: int | None,
    force: bool,
    as_json: bool,
    randomise: str | None,
    shard: int | None,
    scheduler: str | None,
    samples: int | None,
    backend: str,
    **numbers: object,
) -> None:
    """Draws rotated, lit views of PART: good ones, and defective ones of each named defect, with masks.

    Typed again after a kill, it goes on; after it is done, it says so.

    Example: synth render notched_cap -n 2000 --size 64
    """
    from synth.poses import KINDS, read_views
    from synth.randomise import blocks_json, parse_blocks
    from synth.render import render as draw
    from synth.render import render_one
    from synth.sampling import Recipe

    loaded = load(part)
    if poses not in KINDS and not Path(poses).exists():
        raise InputError("--poses", f'found "{poses}"', wanted=f"{', '.join(KINDS)}, or a file with a list of views")
    turns = poses if poses in KINDS else read_views(poses)
    recipe = Recipe(
        n, test, poses=turns, severities=severities(severity), defects=list(defect) or None, backend=backend,
        samples=samples or (1 if backend == "cycles" else 2), randomise=blocks_json(parse_blocks(randomise)) if randomise else {}, **numbers,
    )  # fmt: skip
    folder = output or DATA / loaded.name
    if only is not None:
        drawn_one, files = render_one(loaded, folder, recipe, only)
        result({**json.loads(drawn_one.sample.line()), "files": [str(f) for f in files]}, as_json, "\n".join(map(str, files)))
        return
    start = time.perf_counter()
    data, drawn = draw(loaded, folder, recipe, jobs=jobs, scheduler=scheduler, shard=shard, force=force)
    seconds = time.perf_counter() - start
    hidden = sum(s.hidden for s in data.samples)
    for label in data.labels:
        views = data.of("test", label)
        if unseen := sum(s.hidden for s in views):
            say(
                f"{label}: {unseen} of {len(views)} views do not show the defect at {data.size} px (a larger --size or severity shows more)"
            )
    facts = {
        "dataset": str(folder),
        "views": len(data.samples),
        "hidden": hidden,
        "seconds": round(seconds, 3) if drawn else 0.0,
        "views_per_second": round(len(data.samples) / seconds, 1) if drawn else None,
        "drawn": drawn,
    }
    done = f"{folder}: {len(data.samples)} views of {loaded.name} at {data.size} px" + (
        f" in {seconds:.1f} s ({len(data.samples) / seconds:.0f} views/s)" if drawn else ", up to date"
    )
    result(facts, as_json, done + (f", {hidden} hidden" if hidden else ""))
    say(f"next: synth show {folder}, or train fit {folder}")


@synth.command()
@click.option("--randomise", default="default", metavar="LEVEL|CLASS=LEVEL,...|FILE", help="What the printed file starts from.")
def recipe(randomise: str) -> None:
    """Prints the classes of randomisation with their ranges, as a file for synth render --randomise to be edited.

    Example: synth recipe > recipe.yaml
    """
    from synth.randomise import blocks_text, parse_blocks

    click.echo(blocks_text(parse_blocks(randomise)), nl=False)


@synth.command()
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="PNG", help="Where the sheet goes.  [default: <dataset>.png]"
)
@click.option("--columns", type=click.IntRange(1, 64), default=8, metavar="N", help="Views a row.")
@click.option("--rows", type=click.IntRange(1, 64), default=2, metavar="N", help="Rows a label.")
def show(dataset: Path, output: Path | None, columns: int, rows: int) -> None:
    """A contact sheet of DATASET: good views, then each defect from mild to severe, outlined by its mask.

    Example: synth show data/notched-cap -o sheet.png
    """
    from synth.dataset import open_dataset
    from synth.picture import contact_sheet

    output = output or Path(f"{dataset.name or 'dataset'}.png")
    sheet = contact_sheet(open_dataset(dataset), columns=columns, rows=rows)
    with whole(output) as temporary:
        sheet.save(temporary, format="PNG")
    click.echo(f"{output}")


@synth.command()
@click.argument("part")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="PNG", help="Where the picture goes.  [default: <part>-preview.png]")  # fmt: skip
@click.option("--size", type=click.IntRange(16, 2048), default=256, metavar="PX", help="Of each square image.")
@click.option("--defect", multiple=True, metavar="NAME", help="Show this defect, in a pose where it is seen; with --ladder several.")
@click.option("--severity", type=float, metavar="V", help="How severe it is (mm; degrees; fractions).  [default: drawn]")
@click.option(
    "--ladder", type=click.IntRange(2, 24), metavar="N", help="Instead: each defect at one spot, N severities from mild to severe."
)
@seed_option
def preview(
    part: str, output: Path | None, size: int, defect: tuple[str, ...], severity: float | None, ladder: int | None, seed: int
) -> None:  # fmt: skip
    """One view of PART with its mask, depth, normals and sub-components; or its defects from mild to severe.

    Example: synth preview notched_cap --defect short-notch
    """
    from synth import preview as pictures

    loaded = load(part)
    if ladder is not None:
        if severity is not None:
            raise InputError("--severity", "given with --ladder", wanted="one of them: a ladder has the file's range")
        picture = pictures.ladder(loaded, steps=ladder, size=size, seed=seed, defects=list(defect) or None)
    else:
        if len(defect) > 1:
            raise InputError("--defect", f"found {len(defect)} of them", wanted="one, or --ladder N")
        if severity is not None and not defect:
            raise InputError("--severity", "given without --defect", wanted="a defect, such as --defect bulge")
        picture = pictures.preview(loaded, size=size, seed=seed, defect=defect[0] if defect else None, severity=severity)
    output = output or Path(f"{loaded.name}-preview.png")
    with whole(output) as temporary:
        picture.save(temporary, format="PNG")
    click.echo(f"{output}")


@synth.command()
@click.argument("dataset", type=click.Path(path_type=Path))
@json_option
def verify(dataset: Path, as_json: bool) -> None:
    """Lists every missing, changed or extra file of DATASET; exit 2 where there is one.

    Example: synth verify data/notched-cap
    """
    from synth.dataset import open_dataset
    from synth.dataset import verify as check

    data = open_dataset(dataset, check=False)
    wrong = check(dataset, data.manifest)
    result(
        {"dataset": str(dataset), "files": len(data.manifest["files"]), "wrong": wrong},
        as_json,
        "\n".join(wrong) or f"{dataset}: {len(data.manifest['files'])} files, all as the manifest says",
    )
    if wrong:
        raise InputError(dataset, f"{len(wrong)} files are not as the manifest says", step="render again with --force")


@synth.command()
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--format", "kind", type=click.Choice(["coco", "yolo", "bop", "webdataset"]), required=True, help="Whose layout.")
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="A new folder.  [default: <dataset>-<format>]")  # fmt: skip
@click.option(
    "--label",
    "labels",
    type=click.Choice(["defects", "part", "features"]),
    multiple=True,
    default=("defects",),
    help="What COCO and YOLO label: what shows of a defect, the part, its sub-components. May be given again.",
)
@click.option("--shard", type=click.IntRange(1), default=1000, metavar="N", help="Samples a WebDataset tar.")
@json_option
def export(dataset: Path, kind: str, output: Path | None, labels: tuple[str, ...], shard: int, as_json: bool) -> None:
    """Writes DATASET as other tools read it. MVTec AD's layout, which anomalib reads, is its own: it needs no export.

    Example: synth export data/notched-cap --format coco --label defects --label part
    """
    from synth.dataset import open_dataset
    from synth.export import export as write_as

    data = open_dataset(dataset)
    output = output or dataset.with_name(f"{dataset.resolve().name}-{kind}")
    files = write_as(data, kind, output, labels=labels, shard=shard)
    facts = {"folder": str(output), "format": kind, "views": len(data.samples), "files": files}
    result(facts, as_json, f"{output}: {len(data.samples)} views as {kind}, {files} files")


def severities(texts: tuple[str, ...]) -> dict[str, list[float]]:
    """From ``bulge=3.0,1.5`` and the like."""
    found = {}
    for text in texts:
        name, _, values = text.partition("=")
        try:
            found[name] = [float(v) for v in values.split(",")]
            if not all(map(math.isfinite, found[name])):
                raise ValueError
        except ValueError:
            raise InputError("--severity", f'found "{text}"', wanted="a defect and numbers, such as bulge=3.0,1.5") from None
    return found


def main() -> None:
    run(synth)
