"""Every learned form and baseline on one bench: the same images, the same minutes, several seeds; which is the best for the case at hand.

The protocol. All learn from the same good images, are calibrated on the same further good ones, and are asked about the same test images, of which none
is used for anything else: no defect chooses a setting, a stop or a threshold. A learned form has ``minutes`` of training a seed; a baseline takes what
it takes. They are ranked by image AUROC, the mean over classes, then over seeds. What a part has no photographs for is drawn: views of another seed
calibrate, and views with injected defects are asked about.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cad.command import say
from cad.errors import InputError, nearest
from cad.files import fingerprint, read_json, sha256, write_json
from cad.part import Part
from train.catalogue import CATALOGUE

if TYPE_CHECKING:
    from detect.calibrate import Conformal

FORMAT = 2  # 1: another preparation, score and threshold
RESULT = "comparison.json"
CAD = "cad"  # the CAD form, of a part, beside the learned ones
HELD = 0.2  # share of a folder's good training images that is set aside to calibrate on, where it has none for that
FEWEST = 19  # images that a rate of 5 % wants
ENDLESS = 100_000  # epochs that no budget of minutes comes to


@dataclass(frozen=True)
class Budget:
    """``minutes`` of training a learned form and seed, or ``epochs``, whichever end first; ``size`` px; ``views``, ``calibration`` and ``test`` (of a
    class) that are drawn of a part."""

    minutes: float | None
    seeds: tuple[int, ...] = (0,)
    size: int = 64
    alpha: float = 0.05
    views: int = 8000
    calibration: int = 100
    test: int = 60
    severities: tuple[tuple[str, tuple[float, ...]], ...] = ()
    epochs: int = ENDLESS


@dataclass(frozen=True, eq=False)
class Bench:
    """Files: of ``train``, ``calibrate``, and ``test`` {class: files}, ``masks`` {file: its mask}; ``key`` of all of them; a rendered ``dataset``'s folder,
    where it is one; a ``part``, where one is known."""

    train: list[Path]
    calibrate: list[Path]
    test: dict[str, list[Path]]
    masks: dict[Path, Path]
    key: str
    dataset: Path | None = None
    part: Part | None = None


def names_of(models: str) -> list[str]:
    """``all``, or names with commas. Raises InputError for an unknown one."""
    from detect.baselines import BASELINES

    known = [*CATALOGUE, *BASELINES, CAD]
    if models == "all":
        return known
    names = [n.strip() for n in models.split(",") if n.strip()]
    for name in names:
        if name not in known:
            raise InputError("--models", f'found "{name}"', wanted="all, or " + ", ".join(known), step=nearest(name, known))
    return list(dict.fromkeys(names))


def compare(
    source: Part | Path, folder: Path, names: Sequence[str], budget: Budget, *, device: str = "auto", pictures: bool = True
) -> dict[str, Any]:
    """Trains and measures each that is not up to date, writes comparison.json and report.html into ``folder``, returns the former. ``pictures``: with the
    diagnostics of each learned form and its curve of AUROC against time. Raises InputError."""
    from pipelines.compare_report import write_report

    began = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    bench = drawn_bench(source, folder, budget) if isinstance(source, Part) else folder_bench(source)
    names = [n for n in names if _possible(n, bench)]
    records: dict[str, list[dict[str, Any]]] = {}
    for name in names:
        records[name] = [measured(name, seed, bench, folder, budget, device) for seed in budget.seeds[: 1 if name == CAD else None]]
    figures = {
        "format": FORMAT,
        "source": source.name,
        "budget": asdict(budget),
        "images": {"train": len(bench.train), "calibrate": len(bench.calibrate), "test": {k: len(v) for k, v in bench.test.items()}},
        "table": table(records),
        "best": None,
        "seconds": None,
    }
    figures["best"] = best(figures["table"])
    figures["curves"] = {n: curve(n, bench, folder, budget, device) for n in names if pictures and n in CATALOGUE}
    figures["seconds"] = round(time.perf_counter() - began, 1)
    write_json(folder / RESULT, figures)
    write_report(figures, bench, folder, budget, device, pictures)
    return figures


def drawn_bench(part: Part, folder: Path, budget: Budget) -> Bench:
    """Views of a part, drawn into ``folder``/data and ``folder``/calibration where they are not there."""
    from synth.dataset import open_dataset
    from synth.render import render
    from synth.sampling import Recipe

    data, other = folder / "data", folder / "calibration"
    severities = {k: list(v) for k, v in budget.severities}
    render(part, data, Recipe(budget.views, budget.test, size=budget.size, severities=severities), replace=True)
    render(part, other, Recipe(budget.calibration, 0, size=budget.size, seed=1), replace=True)
    opened = open_dataset(data, check=False)
    test: dict[str, list[Path]] = {}
    masks = {}
    for sample in opened.of("test"):
        if not sample.hidden:
            label = (
                sample.label
                if sample.label == "good" or sample.label not in severities
                else f"{sample.label} {sample.defect['severity']:g}"
            )
            test.setdefault(label, []).append(data / sample.image)
            if sample.mask:
                masks[data / sample.image] = data / sample.mask
    train = [data / s.image for s in opened.of("train", "good")]
    calibrate = [other / s.image for s in open_dataset(other, check=False).of("train", "good")]
    key = fingerprint([opened.manifest["files"], open_dataset(other, check=False).manifest["files"]])
    return Bench(train, calibrate, test, masks, key, data, part)


def folder_bench(source: Path) -> Bench:
    """Photographs: train/good, test/good and test/<class>; calibrate/good, or a share of train/good that is then not trained on. Raises InputError."""
    from detect.validation import check_layout, planned
    from train.photographs import find_images

    check_layout(source)
    train = find_images(source / "train" / "good")
    if (source / "calibrate" / "good").is_dir():
        calibrate = find_images(source / "calibrate" / "good")
    else:
        order = np.random.default_rng(0).permutation(len(train))
        held = max(FEWEST, round(HELD * len(train)))
        if held >= len(train):
            raise InputError(source / "train" / "good", f"holds {len(train)} images", wanted=f"more than {FEWEST}, some to calibrate on")
        calibrate, train = [train[i] for i in sorted(order[:held])], [train[i] for i in sorted(order[held:])]
    test: dict[str, list[Path]] = {}
    for label, path in planned(source):
        test.setdefault(label, []).append(path)
    if set(test) == {"good"}:
        raise InputError(source, "has good photographs alone", wanted="test/<class> too, to tell them from")
    masks = {p: m for own in test.values() for p in own if (m := source / "ground_truth" / p.parent.name / f"{p.stem}_mask.png").exists()}
    every = [*train, *calibrate, *(p for own in test.values() for p in own)]
    return Bench(train, calibrate, test, masks, fingerprint([(str(p.relative_to(source)), sha256(p)) for p in every]))


def _possible(name: str, bench: Bench) -> bool:
    """Whether it can learn from this bench; says so where not."""
    from detect.baselines import BASELINES
    from train import filters

    if name in CATALOGUE and CATALOGUE[name].needs == "scenes" and bench.dataset is None:
        say(f"{name}: left out, it learns from rendered views alone")
        return False
    if name == CAD and bench.part is None:
        say("cad: left out, no part file was given")
        return False
    if name in BASELINES and BASELINES[name].extra and not filters.available():
        say(f"{name}: left out, its pretrained filters are not installed (pip install 'formspect[features]')")
        return False
    return True


def measured(name: str, seed: int, bench: Bench, folder: Path, budget: Budget, device: str) -> dict[str, Any]:
    """One model and seed: its scores of every test image, kept in ``folder``/results."""
    told = [FORMAT, version("formspect"), name, seed, bench.key, budget.minutes, budget.size, budget.alpha]
    key = fingerprint(told if budget.epochs == ENDLESS else [*told, budget.epochs])
    path = folder / "results" / f"{name}-{seed}.json"
    if path.exists() and (kept := read_json(path, "a comparison's result")).get("key") == key:
        return kept
    began = time.perf_counter()
    asked, known, facts = (learned if name in CATALOGUE else cad_form if name == CAD else baseline)(
        name, seed, bench, folder, budget, device
    )
    facts["seconds"] = facts.get("seconds", round(time.perf_counter() - began, 1))
    record = {"key": key, "model": name, "seed": seed, **facts, **judged(asked, bench, budget.alpha, known)}
    write_json(path, record)
    whole = np.mean([v["image_auroc"] for v in record["classes"].values()])
    say(f"{name:<16} seed {seed}: AUROC {whole:.3f}, {record['milliseconds']:.0f} ms an image, {facts['seconds']:.0f} s")
    return record


Asked = Callable[[list[Path]], tuple[np.ndarray, dict[str, np.ndarray], np.ndarray | None]]  # files -> scores, terms, maps (n, S, S)


Measured = tuple[Asked, "Conformal | None", dict[str, Any]]  # how it is asked; what good images score, where it was calibrated; facts


def learned(name: str, seed: int, bench: Bench, folder: Path, budget: Budget, device: str) -> Measured:
    from train.fit import fit
    from train.runs import RunFolder, remove_run

    views, config = views_and_config(name, seed, bench, budget)
    made = folder / "runs" / f"{name}-{seed}"
    target = RunFolder(made, config, views.fingerprint)
    if not target.is_done(replace=True):
        if not (made / "checkpoint.json").exists():
            remove_run(made)
        fit(views, target, config, device=device)
    detector, asked = detector_of(made, bench, budget, device)
    return asked, detector.calibration.conformal, {"seconds": detector.run.facts["seconds"], "steps": detector.run.facts["steps"]}


def views_and_config(name: str, seed: int, bench: Bench, budget: Budget) -> Any:
    from synth.dataset import open_dataset
    from train.config import config_for
    from train.views import Views, of_dataset

    if bench.dataset is not None:
        views = of_dataset(open_dataset(bench.dataset, check=False))
    else:
        views = Views("photographs", bench.key, None, tuple(bench.train))
    return views, config_for(budget.size, model=name, seed=seed, minutes=budget.minutes, epochs=budget.epochs, normalize=views.normalize)


def detector_of(made: Path, bench: Bench, budget: Budget, device: str, **settings: Any) -> tuple[Any, Asked]:
    """A learned form calibrated on the bench's images, and how it is asked."""
    from detect.opening import open_detector
    from detect.projection import chunks
    from train.photographs import read_all

    detector = open_detector(made, calibrated=False, device=device, settings=settings)
    detector.calibrate(read_all(bench.calibrate, detector.size), budget.alpha)

    def asked(paths: list[Path]) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
        own, terms, maps = [], [], []
        for part in chunks(paths, detector.projector.together):
            found = detector.project(np.stack([p.pixels for p in read_all(part, detector.size)]))
            maps.append(detector.calibration.noise.maps(found.residuals))
            own.append(detector.scored(maps[-1], found.terms))
            terms.append({**found.terms, "map": detector.mapped(maps[-1])})
        return np.concatenate(own), {k: np.concatenate([t[k] for t in terms]) for k in terms[0]}, np.concatenate(maps)

    return detector, asked


def baseline(name: str, seed: int, bench: Bench, folder: Path, budget: Budget, device: str) -> Measured:
    from detect.baselines import BASELINES
    from train.photographs import read_all

    def pixels(paths: list[Path]) -> np.ndarray:
        return np.stack([p.pixels for p in read_all(paths, budget.size)])

    began = time.perf_counter()
    fitted = BASELINES[name].fit(pixels(bench.train), seed)

    def asked(paths: list[Path]) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray | None]:
        seen = pixels(paths)
        return fitted.scores(seen), {}, fitted.maps(seen)

    return asked, None, {"seconds": round(time.perf_counter() - began, 1), "steps": None}


def cad_form(name: str, seed: int, bench: Bench, folder: Path, budget: Budget, device: str) -> Measured:
    from detect.opening import calibrated_detector
    from train.cad_form import fit_form, wanted_of
    from train.photographs import read_all

    began = time.perf_counter()
    made = folder / "runs" / "cad"
    fit_form(made, bench.part, wanted_of(bench.part, budget.size, 0), replace_other=True)
    seconds = round(time.perf_counter() - began, 1)
    detector = calibrated_detector(made, bench.calibrate, budget.alpha, route="render")

    def asked(paths: list[Path]) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
        found = list(detector.inspect(read_all(paths, detector.size, detector.lens)))
        return np.array([i.score for i, _, _ in found]), {}, np.stack([m for _, m, _ in found])

    return asked, detector.calibration.conformal, {"seconds": seconds, "steps": None}


def judged(asked: Asked, bench: Bench, alpha: float, known: Conformal | None = None) -> dict[str, Any]:
    """Figures of a detector that is asked: by class, with the threshold that the calibration images give: as ``known`` of a calibrated one, whose noise is of
    these very images and which knows how to score each as if it were not."""
    from detect.calibrate import Conformal
    from detect.metrics import aupro, auroc, auroc_interval, pixel_auroc

    conformal = known or Conformal(np.sort(asked(bench.calibrate)[0].astype(float)), alpha)
    scores, terms, maps, spent = {}, {}, {}, []
    for label, paths in bench.test.items():
        began = time.perf_counter()
        scores[label], terms[label], maps[label] = asked(paths)
        spent.append((time.perf_counter() - began) / len(paths))
    good, bad = scores["good"], [label for label in scores if label != "good"]
    classes = {}
    for label in bad:
        low, high = auroc_interval(good, scores[label])
        masked = [i for i, p in enumerate(bench.test[label]) if p in bench.masks]
        own = maps[label][masked] if maps[label] is not None and masked else None
        masks = None if own is None else _masks([bench.masks[bench.test[label][i]] for i in masked], own.shape[-1])
        classes[label] = {
            "n": len(scores[label]), "image_auroc": auroc(good, scores[label]), "low": low, "high": high,
            "rejected": float((scores[label] > conformal.threshold).mean()),
            "pixel_auroc": None if own is None else pixel_auroc(own, masks), "aupro": None if own is None else aupro(own, masks),
            "terms": {k: auroc(terms["good"][k], terms[label][k]) for k in terms["good"]},
        }  # fmt: skip
    right = sum(int((scores[label] > conformal.threshold).sum()) for label in bad) + int((good <= conformal.threshold).sum())
    return {
        "classes": classes,
        "good_rejected": float((good > conformal.threshold).mean()),
        "accuracy": right / sum(len(s) for s in scores.values()),
        "milliseconds": round(1e3 * float(np.median(spent)), 3),
        "scores": {label: [round(float(v), 6) for v in s] for label, s in scores.items()},
    }


def _masks(paths: list[Path], side: int) -> np.ndarray:
    from PIL import Image

    return np.stack([np.asarray(Image.open(p).convert("L").resize((side, side), Image.Resampling.NEAREST)) > 127 for p in paths])


def table(records: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """A row a model, best first: mean and spread (the standard deviation over seeds, None of one) of each figure."""
    rows = []
    for name, own in records.items():
        whole = [float(np.mean([v["image_auroc"] for v in r["classes"].values()])) for r in own]
        row = {"model": name, "kind": _kind(name), "seeds": len(own)}
        row |= {"image_auroc": _mean(whole), "spread": _spread(whole)}
        row["classes"] = {
            label: {
                "image_auroc": _mean([r["classes"][label]["image_auroc"] for r in own]),
                "spread": _spread([r["classes"][label]["image_auroc"] for r in own]),
                "low": _mean([r["classes"][label]["low"] for r in own]),
                "high": _mean([r["classes"][label]["high"] for r in own]),
                "terms": {k: _mean([r["classes"][label]["terms"][k] for r in own]) for k in own[0]["classes"][label]["terms"]},
                **{k: _mean([r["classes"][label][k] for r in own]) for k in ("rejected", "pixel_auroc", "aupro")},
            }
            for label in own[0]["classes"]
        }
        for key in ("accuracy", "good_rejected", "milliseconds", "seconds", "steps"):
            row[key] = _mean([r[key] for r in own])
        row["accuracy_spread"] = _spread([r["accuracy"] for r in own])
        rows.append(row)
    return sorted(rows, key=lambda r: -r["image_auroc"])


def _kind(name: str) -> str:
    if name == CAD:
        return CAD
    return "learned" if name in CATALOGUE and not CATALOGUE[name].baseline else "baseline"


def best(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The first row, and the models that these images cannot tell from it: whose mean lies within its interval (the widest of its classes, halved about
    the mean) or within the two spreads together."""
    first = rows[0]
    slack = float(np.mean([(c["high"] - c["low"]) / 2 for c in first["classes"].values()]))
    near = [r["model"] for r in rows[1:] if first["image_auroc"] - r["image_auroc"] <= max(slack / np.sqrt(len(first["classes"])), (first["spread"] or 0) + (r["spread"] or 0))]  # fmt: skip
    trained = next((r["model"] for r in rows if r["kind"] == "learned"), None)
    return {"model": first["model"], "image_auroc": first["image_auroc"], "not_told_apart": near, "learned": trained}


def curve(name: str, bench: Bench, folder: Path, budget: Budget, device: str) -> list[dict[str, Any]]:
    """AUROC against milliseconds of the first seed's run, over how long it may descend; kept in ``folder``/curves. One point where it never descends."""
    from detect.projection import SETTINGS
    from train.runs import open_run

    own, made = SETTINGS[name], folder / "runs" / f"{name}-{budget.seeds[0]}"
    run = open_run(made)
    key = fingerprint([FORMAT, version("formspect"), sha256(made / "model.safetensors"), bench.key, asdict(own)])
    path = folder / "curves" / f"{name}.json"
    if path.exists() and (kept := read_json(path, "a curve")).get("key") == key:
        return kept["points"]
    ways = [{}] if not run.model.DECODES else [{"steps": n} for n in _lengths(own.steps, run.model.ENCODES)]
    points = []
    for way in ways:
        detector, asked = detector_of(made, bench, budget, device, **way)
        found = judged(asked, bench, budget.alpha, detector.calibration.conformal)
        points.append({"steps": way.get("steps", 0), "milliseconds": found["milliseconds"], "image_auroc": float(np.mean([v["image_auroc"] for v in found["classes"].values()]))})  # fmt: skip
    write_json(path, {"key": key, "points": points})
    return points


def _lengths(steps: int, encodes: bool) -> list[int]:
    most = steps or 16
    return [*([0] if encodes else []), *sorted({max(1, most // 4), most, 3 * most})]


def _mean(values: Sequence[float | None]) -> float | None:
    return None if any(v is None for v in values) else float(np.mean(values))


def _spread(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def lines_of(figures: dict[str, Any]) -> Iterator[str]:
    """The table as text."""
    labels = list(figures["table"][0]["classes"])
    wide = max(8, *(len(label) for label in labels))
    yield f"{'':<18}{'AUROC':>14}  " + "  ".join(f"{label:>{wide}}" for label in labels) + "   accuracy   ms an image"
    for row in figures["table"]:
        spread = f" ± {row['spread']:.3f}" if row["spread"] is not None else ""
        each = "  ".join(f"{row['classes'][label]['image_auroc']:>{wide}.3f}" for label in labels)
        yield f"{row['model']:<18}{row['image_auroc']:.3f}{spread:<8}  {each}   {row['accuracy']:.3f}      {row['milliseconds']:.1f}"
    found = figures["best"]
    near = f"; not told apart from it here: {', '.join(found['not_told_apart'])}" if found["not_told_apart"] else ""
    yield f"best for this case: {found['model']} ({found['image_auroc']:.3f}){near}"
