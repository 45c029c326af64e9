"""All stages in order, each skipped when its inputs have not changed: part -> views -> run -> calibration -> figures -> report."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cad.command import say
from cad.errors import InputError
from cad.files import fingerprint, read_json, sha256, write, write_json
from cad.part import Part
from synth.sampling import Recipe

STATE = "state.json"
ABLATION = Path("ablation") / "ablation.json"  # where formspect ablate leaves it, which the report shows too
DRAWN = 60  # views that stand in for good photographs where there are none


@dataclass(frozen=True)
class Plan:
    """What ``formspect run`` does. ``calibration``: good views rendered for calibrating the synthetic figures;
    ``form``: ``cad``, or ``learned`` with its ``training`` options."""

    recipe: Recipe
    calibration: int
    training: dict[str, Any]
    form: str = "cad"
    alpha: float = 0.05
    real: Path | None = None
    device: str = "auto"
    jobs: int | None = None


@dataclass
class Stages:
    """Remembers what each stage was made from and how long it took."""

    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        path = self.folder / STATE
        self.state = read_json(path, "the state of a pipeline") if path.exists() else {}

    def run(self, name: str, made_from: Any, outputs: list[Path], work: Callable[[], Any]) -> None:
        """``work()`` unless ``made_from`` is as last time and every output is still there."""
        key = fingerprint([version("formspect"), made_from])
        if self.state.get(name, {}).get("key") == key and all(p.exists() for p in outputs):
            self.seconds[name] = self.state[name]["seconds"]
            self.skipped.append(name)
            say(f"{name:<12} up to date")
            return
        start = time.perf_counter()
        work()
        self.seconds[name] = round(time.perf_counter() - start, 1)
        self.state[name] = {"key": key, "seconds": self.seconds[name]}
        write_json(self.folder / STATE, self.state)
        say(f"{name:<12} {self.seconds[name]:.1f} s")


def run(part: Part, folder: str | Path, plan: Plan) -> dict[str, Any]:
    """Runs the stages into ``folder`` and returns {report, seconds, skipped}. Raises InputError for mistakes in any stage."""
    folder = Path(folder)
    _check_folder(folder)
    if plan.real is not None:
        _check_real(plan.real, plan)
    stages = Stages(folder)
    data, views, made = folder / "data", folder / "calibration", folder / "run"
    recipe = plan.recipe.json()
    stages.run(
        "render",
        [part.text, recipe, plan.calibration],
        [data / "manifest.json", views / "manifest.json"],
        lambda: _render(part, data, views, plan),
    )
    learned = [sha256(data / "samples.jsonl"), sha256(views / "samples.jsonl"), plan.training, plan.form]
    stages.run("train", learned, [made / "config.yaml"], lambda: _train(data, made, plan))
    weights = [sha256(made / n) for n in ("model.safetensors", "form.safetensors", "noise.json") if (made / n).exists()]
    outputs = [folder / "synthetic" / n for n in ("section.json", "metrics.json", "calibration.json")]
    stages.run(
        "validate",
        [weights, learned, plan.alpha],
        outputs,
        lambda: _validate(made, views / "train" / "good", data, folder / "synthetic", plan, "render" if plan.form == "cad" else "auto"),
    )
    if plan.real is not None:
        files = sorted((p.relative_to(plan.real).as_posix(), sha256(p)) for p in plan.real.rglob("*") if p.is_file())
        outputs = [folder / "real" / n for n in ("section.json", "metrics.json", "calibration.json", "baseline.json")]
        stages.run("real", [weights, files, plan.alpha], outputs, lambda: _real(made, folder / "real", plan))
    _use_calibration(folder / ("real" if plan.real else "synthetic"), made)
    page = folder / "report.html"
    sections = [sha256(folder / n / "section.json") for n in ("synthetic", "real") if (n == "synthetic" or plan.real)]
    sections += [sha256(folder / ABLATION)] if (folder / ABLATION).exists() else []
    stages.run("report", [part.text, weights, sections, str(plan.real)], [page], lambda: _report(part, folder, plan, stages))
    return {
        "report": str(page),
        "seconds": stages.seconds,
        "skipped": stages.skipped,
        "total_seconds": round(sum(v for k, v in stages.seconds.items() if k not in stages.skipped), 1),
    }


def _render(part: Part, data: Path, views: Path, plan: Plan) -> None:
    from synth.render import render

    render(part, data, plan.recipe, jobs=plan.jobs, replace=True)
    other = Recipe(
        plan.calibration, 0, plan.recipe.size, plan.recipe.samples, plan.recipe.seed + 1
    )  # another seed: views that nobody trains or tests on
    render(part, views, other, jobs=plan.jobs, replace=True)


def _train(data: Path, made: Path, plan: Plan) -> None:
    from synth.dataset import open_dataset

    if plan.form == "cad":
        from train.cad_form import check_size, fit_form, wanted_of

        part = open_dataset(data, check=False).part
        fit_form(made, part, wanted_of(part, check_size(plan.recipe.size), plan.recipe.seed), replace_other=True)
        return
    from train.config import config_for
    from train.fit import fit
    from train.runs import RunFolder, data_fingerprint

    opened = open_dataset(data)
    config = config_for(opened.size, seed=plan.recipe.seed, **plan.training)
    target = RunFolder(made, config, data_fingerprint(opened))
    if not target.is_done(replace=True):
        fit(opened, target, config, device=plan.device)


def _validate(made: Path, good: Path | None, folder: Path, output: Path, plan: Plan, route: str = "auto") -> None:
    """Calibrates on ``good``, or on drawn views where it is None; inspects ``folder``, leaves calibration, figures and the report's section in
    ``output``."""
    from detect.opening import calibrated_detector, rendered_detector, save_calibration
    from detect.report import section
    from detect.validation import validate, write_validation
    from train.photographs import find_images

    if good is None:
        detector: Any = rendered_detector(made, DRAWN, plan.alpha)
    else:
        detector = calibrated_detector(made, find_images(good), plan.alpha, route=route, device=plan.device)
    save_calibration(detector, output / "calibration.json")
    result = validate(detector, folder)
    told = f"{DRAWN} drawn views: outline and holes alone" if good is None else f"{good.parent.name}/{good.name}"
    write_json(output / "section.json", {**section(result, write_validation(result, output)), "calibrated_on": told})


def _use_calibration(source: Path, made: Path) -> None:
    """The run that the user goes on with is calibrated on what he has; its memory comes along."""
    names = {p.name for folder in (source, made) for p in folder.glob("calibration.*")}
    for name in sorted(names):
        if not (source / name).exists():
            (made / name).unlink()
        elif not (made / name).exists() or (made / name).read_bytes() != (source / name).read_bytes():
            write(made / name, (source / name).read_bytes())


def _real(made: Path, output: Path, plan: Plan) -> None:
    from pipelines.baselines import colour_baseline

    photographed = _photographed(plan.real)
    _validate(made, plan.real / "calibrate" / "good" if photographed else None, plan.real, output, plan)
    write_json(output / "baseline.json", colour_baseline(plan.real) if photographed else {})  # colour is learned from good photographs


def _photographed(folder: Path) -> bool:
    """Whether there are photographs to calibrate on: else drawn views do."""
    return (folder / "calibrate").exists()


def _report(part: Part, folder: Path, plan: Plan, stages: Stages) -> None:
    from pipelines.report import write_report

    write_report(part, folder, {**asdict(plan), "real": plan.real and str(plan.real)}, dict(stages.seconds))


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(folder, "is a file", wanted="a folder")
    ours = (STATE, "data")
    if folder.exists() and any(folder.iterdir()) and not any((folder / n).exists() for n in ours):
        raise InputError(folder, "is not empty and holds no pipeline", wanted="a new or empty folder", step="choose another with -o")


def _check_real(folder: Path, plan: Plan) -> None:
    """Every photograph that will be read, and enough of them: before an hour of training, not after it."""
    from train.photographs import find_images, read

    for name in ("calibrate/good", "test/good") if _photographed(folder) else ("test/good",):
        if not (folder / name).is_dir():
            raise InputError(
                folder, f"has no {name}", wanted="test/good, test/<class>, and calibrate/good where there are photographs for it"
            )
    good = _check_good(folder / "calibrate" / "good", plan) if _photographed(folder) else _check_drawn(folder, plan)
    for path in [*good, *(p for d in sorted((folder / "test").iterdir()) if d.is_dir() for p in find_images(d))]:
        read(path, 16)


def _check_good(folder: Path, plan: Plan) -> list[Path]:
    """The photographs to calibrate on."""
    from detect.calibrate import check_alpha
    from train.photographs import find_images

    good = find_images(folder)
    try:
        check_alpha(plan.alpha, len(good))
    except InputError as error:
        raise error.inside(folder) from None
    return good


def _check_drawn(folder: Path, plan: Plan) -> list[Path]:
    """That drawn views can stand in for them: there are none."""
    from detect.calibrate import check_alpha

    if plan.form != "cad":
        raise InputError(folder, "has no calibrate/good", wanted="good photographs, or --form cad, which drawn views can calibrate")
    check_alpha(plan.alpha, DRAWN)
    say(f"real         {folder} has no calibrate/good: calibrated on {DRAWN} drawn views, by outline and holes alone")
    return []
