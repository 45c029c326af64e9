"""train fit, train list."""

from __future__ import annotations

import time
from pathlib import Path

import click

from cad.command import SETTINGS, json_option, result, run, say, seed_option
from cad.errors import InputError
from train.catalogue import CATALOGUE, NORMALIZE

DATA, RUNS = Path("data"), Path("runs")
FORM = (
    "no network (--form cad): the part's own renderer, descended by Gauss-Newton over pose, light and dimensions",
    "a pose index of about ten seconds; answers in millimetres",
)


@click.group(context_settings=SETTINGS)
@click.version_option(package_name="formspect")
def train() -> None:
    """Training: the space of good forms."""


@train.command()
@click.argument("dataset", required=False, type=click.Path(path_type=Path))
@click.option(
    "--form",
    type=click.Choice(["learned", "cad"]),
    default="learned",
    help="learned: a generator, trained. cad: the renderer itself; DATASET may then be a part file too, and --size and --seed alone count.",
)
@click.option(
    "-o", "--output", type=click.Path(file_okay=False, path_type=Path), metavar="RUN", help="The run folder.  [default: runs/<dataset>]"
)
@click.option("--model", type=click.Choice(list(CATALOGUE)), default="unet-gan", help="What to train: train list.")
@click.option("--epochs", type=click.IntRange(1), metavar="N", help="Passes over the good training views.")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), metavar="M", help="Stop after so long, whatever the epochs.")
@click.option("--size", type=int, metavar="PX", help="Of what the networks see.  [default: the dataset's, to the next multiple of 16]")
@click.option("--latent", type=click.IntRange(2, 1024), metavar="Z", help="Numbers in the narrow waist.")
@click.option("--width", type=click.IntRange(8, 512), metavar="N", help="Channels of the finest layer.")
@click.option("--filter", type=click.Choice(["3", "5"]), metavar="PX", help="Filter size of the convolutions.")
@click.option("--batch-norm/--no-batch-norm", default=None, help="Batch normalisation in encoder and generator.")
@click.option(
    "--normalize",
    type=click.Choice(NORMALIZE),
    help="What is taken out of each image. standard: brightness and contrast.  [default: standard of renders, brightness of photographs]",
)
@click.option(
    "--corrupt", type=click.FloatRange(0, 1), metavar="SHARE", help="Share of images that the encoder sees with a patch disturbed."
)
@click.option("--adversarial", type=click.FloatRange(0), metavar="W", help="Weight of the game; 0: a plain autoencoder.")
@click.option("--perceptual", type=click.FloatRange(0), metavar="W", help="Weight of pretrained filters' distance (extra features).")
@click.option("--batch", type=click.IntRange(2), metavar="N", help="Images a step.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), metavar="R", help="Learning rate.")
@click.option("--accumulate", type=click.IntRange(1), metavar="N", help="Parts that a step's images are computed in: less memory.")
@click.option(
    "--ema", type=click.FloatRange(0, 1, max_open=True), metavar="D", help="Decay of the weights' running average, which a run keeps."
)
@click.option(
    "--patience", type=click.IntRange(0), metavar="N", help="Stop after N epochs without a better measure on held-out good views; 0: never."
)
@click.option(
    "--validation", type=click.FloatRange(0, 1, max_open=True), metavar="SHARE", help="Of the good views, held out for --patience."
)
@click.option("--picture", type=click.IntRange(32, 8192), metavar="PX", help="Large photographs: their side, seen in tiles of --size.")
@click.option("--game", type=click.Choice(["hinge", "cross-entropy", "least-squares", "wasserstein"]), help="The adversarial loss.")
@click.option("--adversarial-every", type=click.IntRange(1), metavar="N", help="Steps between two of the discriminator's.")
@click.option(
    "--judge-rate", type=click.FloatRange(0, min_open=True), metavar="X", help="The discriminator's learning rate, in the generator's."
)
@click.option("--matching", type=click.FloatRange(0), metavar="W", help="Weight of feature matching.")
@click.option("--penalty", type=click.Choice(["none", "r1", "wgan-gp"]), help="On the discriminator's slope.")
@click.option("--penalty-weight", type=click.FloatRange(0), metavar="W", help="Weight of that penalty.")
@click.option("--spectral/--no-spectral", default=None, help="Spectral normalisation of the discriminator.")
@click.option("--minibatch/--no-minibatch", default=None, help="Minibatch discrimination.")
@click.option("--augment/--no-augment", default=None, help="DiffAugment: for few training images.")
@click.option("--instance-noise", type=click.FloatRange(0), metavar="S", help="Noise on what the discriminator sees, fading.")
@click.option("--smoothing", type=click.FloatRange(0, 0.5, max_open=True), metavar="SHARE", help="One-sided label smoothing.")
@click.option("--precision", type=click.Choice(["auto", "32-true", "bf16-mixed", "16-mixed"]), help="auto: bfloat16 where it is quicker.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", help="Where to train.")
@click.option("--devices", type=click.IntRange(1), default=1, metavar="N", help="Processes, a device and a batch each (torch.distributed).")
@click.option(
    "--known",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Known abnormal images that noisy-gan and descargan learn from.  [default: train/<other than good>]",
)
@click.option(
    "--camera", type=click.Path(path_type=Path), metavar="FILE", help="CAD form: the camera's calibration, from OpenCV (.yml, .json)."
)
@click.option("--dry-run", is_flag=True, help="Print the resolved config and stop.")
@click.option("--force", is_flag=True, help="Replace a run of another config or dataset.")
@seed_option
@json_option
def fit(
    dataset: Path | None,
    form: str,
    output: Path | None,
    device: str,
    devices: int,
    known: Path | None,
    camera: Path | None,
    dry_run: bool,
    force: bool,
    seed: int,
    as_json: bool,
    **options: object,
) -> None:
    """Trains on the good views of DATASET. Typed again after a kill, it goes on; after it is done, it says so.

    Example: train fit data/notched-cap --minutes 5

    Example: train fit cad/parts/notched_cap.yaml --form cad --size 128
    """
    if form == "cad":
        _fit_cad(dataset or _the_dataset(), output, options.get("size"), camera, seed, dry_run, force, as_json)
        return
    if camera is not None:
        raise InputError("--camera", "a learned form knows no camera", step="train fit PART --form cad --camera FILE")
    from train.config import config_for
    from train.views import open_views

    folder = dataset or _the_dataset()
    views = open_views(folder, known)
    config = config_for(views.size, seed=seed, **options | {"normalize": options["normalize"] or views.normalize})
    run_folder = output or RUNS / folder.name
    if dry_run:
        from cad.reading import yaml_text

        result(config.model_dump(), as_json, yaml_text(config.model_dump()).rstrip())
        return
    from train.fit import fit as learn
    from train.runs import RunFolder, remove_run
    from train.sync_norm import is_first

    if force:
        remove_run(run_folder)
    target = RunFolder(run_folder, config, views.fingerprint)
    if target.is_done():
        result({"run": str(run_folder), "trained": False}, as_json, f"{run_folder}: up to date")
    else:
        start = time.perf_counter()
        progress = learn(views, target, config, device=device, devices=devices)
        if not is_first():
            return  # one process tells
        loss = progress.history[-1].get("pyramid") if progress.history else None
        result(
            {
                "run": str(run_folder),
                "trained": True,
                "steps": progress.step,
                "seconds": round(time.perf_counter() - start, 1),
                "loss": loss,
            },
            as_json,
            f"{run_folder}: {progress.step} steps in {progress.seconds:.0f} s",
        )
    say(f"next: detect calibrate {folder}/test/good --run {run_folder}")


@train.command()
@click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--pairs", type=click.IntRange(16), default=4000, metavar="N", help="Rendered pairs to learn from.")
@click.option("--steps", type=click.IntRange(1), default=1500, metavar="N", help="Of training.")
@click.option("--side", type=click.IntRange(32, 256), default=96, metavar="PX", help="Of what it sees, a multiple of 8.")
@click.option(
    "--randomise",
    metavar="LEVEL|CLASS=LEVEL,...|FILE",
    help="What varies in the pairs, as in synth render.  [default: ambient, surface and sensor]",
)
@click.option("--finish", type=click.FloatRange(0, 1), default=0.3, metavar="SHARE", help="Of pairs that get greys which no renderer has.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", help="Where to train.")
@seed_option
@json_option
def compare(
    run_folder: Path, pairs: int, steps: int, side: int, randomise: str | None, finish: float, device: str, seed: int, as_json: bool
) -> None:
    """Gives the CAD form RUN a compare network: it learns from rendered pairs with injected defects to mark what differs from the nearest form.

    Example: train compare runs/hex_nut
    """
    from dataclasses import replace

    from synth.randomise import blocks_json, parse_blocks
    from train.cad_form import open_form, read_config
    from train.compare_fit import Plan, fit_compare, held_out, save_network

    config = read_config(run_folder)
    if config is None:
        raise InputError(run_folder, "holds no CAD form", wanted="a run of a CAD form", step="train fit PART --form cad")
    if side % 8:
        raise InputError("--side", f"found {side}", wanted="a multiple of 8")
    part = open_form(run_folder, config).part
    plan = Plan(side=side, pairs=pairs, steps=steps, finish=finish, seed=seed)
    plan = plan if randomise is None else replace(plan, randomise=blocks_json(parse_blocks(randomise)))
    network, facts = fit_compare(part, plan, device=device)
    facts |= held_out(network, part, plan)
    save_network(network, run_folder, plan, facts)
    verdict = "it will be asked" if facts["asked"] else "it is no better: it is left out"
    result(
        {"run": str(run_folder), **facts},
        as_json,
        f"{run_folder}: AUROC of held-out pairs {facts['auroc']:.3f}, of the plain residual {facts['residual_auroc']:.3f}: {verdict}; {facts['seconds']:.0f} s",
    )
    say(f"next: detect calibrate GOOD --run {run_folder}")


@train.command(name="list")
@json_option
def list_models(as_json: bool) -> None:
    """The models that can be trained: what each learns, and what it costs.

    Example: train list
    """
    told = {k: {"learns": e.learns, "paper": e.paper, "cost": e.cost, "defaults": e.settings} for k, e in CATALOGUE.items()}
    told["cad"] = {"learns": FORM[0], "paper": "docs/cad_form.md", "cost": FORM[1], "defaults": {}}
    rows = [f"{k:<12} {t['learns']}\n{'':<12} paper: {t['paper']}\n{'':<12} cost:  {t['cost']}" for k, t in told.items()]
    result(told, as_json, "\n".join(rows))


def _fit_cad(
    source: Path, output: Path | None, size: object, camera: Path | None, seed: int, dry_run: bool, force: bool, as_json: bool
) -> None:
    """The CAD form of a dataset's part, or of a part file's."""
    from cad.part import load
    from synth.dataset import MANIFEST, open_dataset
    from train.cad_form import CAD_SIZE, check_size, fit_form, wanted_of
    from train.lens import read_lens
    from train.runs import remove_run

    lens = None if camera is None else read_lens(camera)
    data = open_dataset(source) if (source / MANIFEST).exists() or source.is_dir() else None
    part = data.part if data else load(source)
    folder = output or RUNS / (source.name if data else part.name)
    wanted = wanted_of(part, check_size(int(size or (data.size if data else CAD_SIZE))), seed, lens)
    if dry_run:
        result(wanted, as_json, "\n".join(f"{k}: {v}" for k, v in wanted.items()))
        return
    if force:
        remove_run(folder)
    facts = fit_form(folder, part, wanted, lens=lens)
    if facts is None:
        result({"run": str(folder), "trained": False}, as_json, f"{folder}: up to date")
    else:
        shown = ", ".join(f"{v} {k.replace('_', ' ')}" for k, v in facts.items() if k != "seconds")
        result({"run": str(folder), "trained": True, **facts}, as_json, f"{folder}: {shown}, in {facts['seconds']:.0f} s")
    good = f"{source}/test/good" if data else "GOOD_FOLDER"
    say(f"next: detect calibrate {good} --run {folder}")


def _the_dataset() -> Path:
    from synth.dataset import find_datasets

    found = find_datasets(DATA)
    if len(found) != 1:
        raise InputError(
            "DATASET",
            "no dataset below data/" if not found else "several datasets below data/",
            wanted="the one to train on",
            step="make one: synth render PART" if not found else "name one of " + ", ".join(map(str, found)),
        )
    say(f"dataset: {found[0]}")
    return found[0]


def main() -> None:
    run(train)
