"""A labelled folder in, figures out: metrics.json, inspections.jsonl, overlays and report.html."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cad.command import progress
from cad.errors import InputError
from cad.files import write, write_json
from detect.cad_detector import CadDetector
from detect.curate import NAME, open_curated
from detect.inspection import Inspection, write_lines
from detect.metrics import (
    aupimo,
    aupro,
    auroc,
    auroc_interval,
    average_precision,
    detection_limit,
    f1_max,
    named_right,
    pixel_auroc,
    rejections_expected,
    share_interval,
    threshold_at,
    tpr_at,
)
from detect.opening import AnyDetector
from detect.photo_detector import PhotoDetector
from detect.pictures import panels
from detect.repeatability import ITEMS, check_items, read_items, repeatability
from synth.dataset import SAMPLES, Sample, magnitude
from train.photographs import Photograph, find_images, read, read_all

FORMAT = 1
LIMIT_RATE = 0.01  # of good parts that may be rejected where a detection limit is stated
WORST = 6  # pictures of the worst misses, and of the worst false alarms
VERDICTS = ("pass", "unsure", "fail", "not this part")
MISSES, ALARMS = "worst misses", "worst false alarms"


@dataclass(frozen=True, eq=False)
class Case:
    """One inspected image with all that is known of it. ``truth``: the sub-components that a verdict may name (empty: unknown); ``form``
    (S, S) uint8: the nearest good form; ``item``: the one that it shows, where that is known."""

    label: str
    inspection: Inspection
    anomaly: np.ndarray
    mask: np.ndarray | None = None
    truth: tuple[str, ...] = ()
    defect: dict[str, Any] | None = None
    form: np.ndarray | None = None
    item: str | None = None

    @property
    def severity(self) -> float | None:
        return self.defect["severity"] if self.defect else None

    @property
    def magnitude(self) -> float:
        """How far from good: a stretch's distance from 1 counts, anything else's severity from 0."""
        return magnitude(self.defect)


@dataclass(frozen=True, eq=False)
class Validation:
    """All cases of a folder; ``pictures`` are of the worst of them, each with its panels: photograph, nearest form, anomaly map."""

    cases: list[Case]
    detector: AnyDetector
    folder: Path
    hidden: int = 0
    pictures: dict[str, list[tuple[Case, list[Image.Image]]]] = field(default_factory=dict)

    @property
    def labels(self) -> list[str]:
        return sorted({c.label for c in self.cases if c.label != "good"})

    def scores(self, keep: Callable[[Case], bool], which: str = "score") -> np.ndarray:
        return np.array([getattr(c.inspection, which) for c in self.cases if keep(c)], float)


def validate(detector: AnyDetector, folder: str | Path) -> Validation:
    """Inspects ``FOLDER/test/good`` and ``FOLDER/test/<class>``; a dataset's hidden defects do not count. ``FOLDER/items.csv``, where there
    is one, says which photographs show one item (:mod:`detect.repeatability`).

    Raises InputError where the folder has no test/good or no images, or its items.csv has a mistake.
    """
    folder = Path(folder)
    check_layout(folder)
    plan, items = planned(folder), known_items(folder)
    folder = folder if folder.is_dir() else folder.parent
    known = _samples(folder)
    hidden = {p for _, p in plan if (s := known.get(_key(p))) is not None and s.hidden}
    plan = [(label, path) for label, path in plan if path not in hidden]
    cases: list[Case] = []
    with progress(len(plan), "inspecting", "images") as advance:
        for start in range(0, len(plan), 64):
            part = plan[start : start + 64]
            photographs = read_all([path for _, path in part], detector.size, detector.lens)
            for (label, path), photograph, (inspection, anomaly, form) in zip(
                part, photographs, detector.inspect(photographs), strict=True
            ):
                case = _case(label, path, photograph, inspection, anomaly, known.get(_key(path)), folder)
                cases.append(replace(case, form=_grey(form), item=items.get(_below(path, folder))))
                advance(1)
    result = Validation(cases, detector, folder, len(hidden))
    result.pictures.update(_worst(result))
    return result


def planned(folder: Path) -> list[tuple[str, Path]]:
    """(label, path) of what is to be inspected: FOLDER/test/<class>, or the test split of a curated set."""
    if folder.is_file() or (folder / NAME).exists():
        return [(e.label, folder.parent / e.file if folder.is_file() else folder / e.file) for e in open_curated(folder).of("test")]
    return [(d.name, path) for d in sorted((folder / "test").iterdir()) if d.is_dir() for path in find_images(d)]


def check_splits(folder: Path) -> None:
    """Raises InputError where a photograph of FOLDER (a curated set, or a plain folder) is both to be learned from and tested on."""
    if leaks := open_curated(folder, check=False).leaks():
        learned, tested = leaks[0]
        more = f" (and {len(leaks) - 1} more)" if len(leaks) > 1 else ""
        raise InputError(folder, f"{tested} is {learned}, the same file{more}", wanted="splits that share nothing", step="detect curate FOLDER excludes what is double; --allow-leaks measures all the same")  # fmt: skip


def check_layout(folder: Path) -> None:
    """Raises InputError where the folder has no test/good, and is no curated set, or its items.csv has a mistake."""
    if folder.is_file() or (folder / NAME).exists():
        if not any(e.label == "good" for e in open_curated(folder).of("test")):
            raise InputError(folder, "has no good photograph in its test split", wanted="some, to hold the others against")
    elif not (folder / "test" / "good").is_dir():
        raise InputError(folder, "has no test/good", wanted="FOLDER/test/good and FOLDER/test/<class>, as MVTec AD has them")
    known_items(folder)


def known_items(folder: Path) -> dict[str, str]:
    """{image below the folder: item} of its items.csv, nothing without one. Raises InputError where one item stands in two classes."""
    root = folder if folder.is_dir() else folder.parent
    if items := read_items(root):
        check_items(items, {_below(path, root): label for label, path in planned(folder)}, root / ITEMS)
    return items


def write_validation(result: Validation, output: str | Path) -> dict[str, Any]:
    """metrics.json, inspections.jsonl and report.html below ``output``; returns the metrics."""
    from detect.report import validation_page

    output = Path(output)
    figures = metrics(result)
    write_lines(output / "inspections.jsonl", (c.inspection for c in result.cases))
    write_json(output / "metrics.json", figures)
    write(output / "report.html", validation_page(result, figures))
    return figures


def metrics(result: Validation) -> dict[str, Any]:
    """The contract's metrics.json; ``overall`` is all classes against good."""
    good = [c for c in result.cases if c.label == "good"]
    bad = [c for c in result.cases if c.label != "good"]
    times = {"good": [c.inspection.milliseconds for c in good], "defective": [c.inspection.milliseconds for c in bad]}
    conformal = result.detector.calibration.conformal
    return {
        "format": FORMAT,
        "run": result.detector.name,
        "route": route_of(result.detector),
        "alpha": conformal.alpha,
        "calibrated_on": len(conformal.scores),
        "good": good_figures(good, conformal.alpha, len(conformal.scores)),
        "classes": {label: class_figures(good, [c for c in bad if c.label == label]) for label in result.labels},
        "overall": class_figures(good, bad),
        "detection_limits": {label: detection_limit(*pair) for label in result.labels if (pair := sizes_found(result, label)) is not None},
        "terms": term_figures(result),
        "hidden": result.hidden,
        "milliseconds": {k: {"median": _quantile(v, 0.5), "p95": _quantile(v, 0.95)} for k, v in times.items()},
        "repeatability": repeatability(result.cases),
    }


def route_of(detector: AnyDetector) -> str:
    """What it holds a photograph against: the part as it is drawn (``render``), outline, holes and memory (``photograph``), or a ``learned``
    form."""
    return "photograph" if isinstance(detector, PhotoDetector) else "render" if isinstance(detector, CadDetector) else "learned"


def good_figures(good: list[Case], alpha: float, calibrated_on: int) -> dict[str, Any]:
    """What became of the good ones, and how many of them would be rejected at a rate of ``alpha``: the 95 % range of the binomial law
    (``expected``), and of the beta-binomial one, with the threshold that so many good images give (``expected_of_threshold``)."""
    hits, outlines = sum(map(rejected, good)), [c.inspection.pose["outline_iou"] for c in good if "outline_iou" in c.inspection.pose]
    expected = rejections_expected(len(good), alpha)
    return {
        "n": len(good),
        **verdict_figures(good),
        "unsure": share([c.inspection.verdict == "unsure" for c in good]),
        "expected": list(expected),
        "expected_of_threshold": list(rejections_expected(len(good), alpha, calibrated_on)),
        "as_stated": expected[0] <= hits <= expected[1],
        "outline_iou": _quantile(outlines, 0.5),
    }


def verdict_figures(cases: list[Case]) -> dict[str, Any]:
    """How many got which verdict, and the share that was rejected with its exact 95 % interval."""
    hits = sum(map(rejected, cases))
    low, high = share_interval(hits, len(cases)) or (None, None)
    return {
        "rejected": share([rejected(c) for c in cases]),
        "rejected_low": low,
        "rejected_high": high,
        "verdicts": {v: sum(c.inspection.verdict == v for c in cases) for v in VERDICTS},
    }


def term_figures(result: Validation) -> dict[str, dict[str, float | None]]:
    """{term: {class: AUROC by it alone}} where a score has terms: what each is worth on this set. Images that show no part count in none."""
    told = [c for c in result.cases if c.inspection.terms]
    names = dict.fromkeys(n for c in told for n in c.inspection.terms)

    def of(name: str, label: str) -> np.ndarray:
        return np.array([c.inspection.terms[name] for c in told if c.label == label], float)

    return {n: {label: auroc(of(n, "good"), of(n, label)) for label in result.labels} for n in names}


def class_figures(good: list[Case], bad: list[Case]) -> dict[str, Any]:
    """All figures of one class (or severity) of cases against the good ones."""
    a, b = (np.array([c.inspection.score for c in cases], float) for cases in (good, bad))
    masked = [c for c in bad if c.mask is not None and c.mask.any()]
    shown = masked + [c for c in good if c.mask is not None] if masked else []
    encoder = [[c.inspection.encoder_score for c in cases if c.inspection.encoder_score is not None] for cases in (good, bad)]
    encoder = [np.array(e, float) for e in encoder]
    interval = auroc_interval(a, b)
    stack = (np.stack([c.anomaly for c in shown]), np.stack([c.mask for c in shown])) if shown else None
    found = [c for c in bad if c.inspection.verdict == "fail" and c.inspection.regions]
    overlaps = aupimo(*stack) if stack else None
    return {
        "n": len(bad),
        "image_auroc": auroc(a, b),
        "image_auroc_low": interval[0] if interval else None,
        "image_auroc_high": interval[1] if interval else None,
        "encoder_auroc": auroc(*encoder) if all(len(e) for e in encoder) else None,
        "tpr_at_1fpr": tpr_at(a, b),
        "f1_max": f1_max(a, b),
        "average_precision": average_precision(a, b),
        **verdict_figures(bad),
        "pixel_auroc": pixel_auroc(*stack) if stack else None,
        "aupro": aupro(*stack) if stack else None,
        "aupimo": None if overlaps is None else float(overlaps.mean()),
        "named_right": named_right([c.inspection.regions[0]["feature"] for c in found], [c.truth for c in found]),
    }


def severity_table(result: Validation, bins: int = 3) -> list[dict[str, Any]]:
    """A row for each class and third of its severities (each value where there are no more than ``bins``), mildest first."""
    rows, good = [], [c for c in result.cases if c.label == "good"]
    for label in result.labels:
        cases = sorted((c for c in result.cases if c.label == label and c.defect), key=Case.magnitude.fget)
        values = list(dict.fromkeys(c.severity for c in cases))
        groups = (
            [[c for c in cases if c.severity == v] for v in values]
            if len(values) <= bins
            else [[cases[k] for k in part] for part in np.array_split(np.arange(len(cases)), bins)]
        )
        for group in (g for g in groups if g):
            low, high = group[0].severity, group[-1].severity
            rows.append({"class": label, "from": low, "to": high, "unit": group[0].defect["unit"], **class_figures(good, group)})
    return rows


def sizes_found(result: Validation, label: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Of a class: (n,) its defects' sizes, in their unit, and (n,) whether each is found at 1 % false rejects. None where sizes are not
    known or all the same, or the good images are too few to tell 1 %."""
    good = result.scores(lambda c: c.label == "good")
    cases = [c for c in result.cases if c.label == label and c.defect and c.magnitude > 0]
    sizes = np.array([c.magnitude for c in cases])
    if len(good) * LIMIT_RATE < 1 or len(np.unique(sizes)) < 2:
        return None
    return sizes, np.array([c.inspection.score for c in cases]) > threshold_at(good, LIMIT_RATE)


def rejected(case: Case) -> bool:
    """Neither passed nor left open."""
    return case.inspection.verdict in ("fail", "not this part")


def share(values: list[bool]) -> float | None:
    return float(np.mean(values)) if values else None


def _case(
    label: str, path: Path, photograph: Photograph, inspection: Inspection, anomaly: np.ndarray, sample: Sample | None, folder: Path
) -> Case:
    mask_file = folder / "ground_truth" / label / f"{path.stem}_mask.png"
    size = len(photograph.pixels)
    mask = None
    if label == "good":
        mask = np.zeros((size, size), bool) if (folder / "ground_truth").is_dir() else None
    elif mask_file.exists():
        mask = read(mask_file, size, photograph.lens).pixels[..., 0] > 127
    defect = sample.defect if sample else None
    return Case(label, inspection, anomaly, mask, tuple(defect["features"]) if defect else (), defect)


def _samples(folder: Path) -> dict[str, Sample]:
    """What a dataset of ours says of its images; nothing for another's folder."""
    if not (folder / SAMPLES).exists():
        return {}
    return {s.image: s for line in (folder / SAMPLES).read_text(encoding="utf-8").splitlines() if (s := Sample.of(line)).split == "test"}


def _key(path: Path) -> str:
    return "/".join(path.parts[-3:])


def _below(path: Path, folder: Path) -> str:
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def _grey(form: np.ndarray) -> np.ndarray:
    return np.rint(255 * np.clip(form, 0, 1)).astype(np.uint8)


def _worst(result: Validation) -> dict[str, list[tuple[Case, list[Image.Image]]]]:
    """The defective that were let through (or came nearest to it), the good that were rejected (or came nearest to it), and each class's
    lowest and highest scores."""
    good, bad = ([c for c in result.cases if (c.label == "good") is which] for which in (True, False))
    groups = {
        MISSES: sorted(bad, key=lambda c: (rejected(c), c.inspection.score)),
        ALARMS: sorted(good, key=lambda c: (not rejected(c), -c.inspection.score)),
    }
    for label in result.labels:
        groups[f"lowest {label}"] = sorted((c for c in bad if c.label == label), key=lambda c: c.inspection.score)
        groups[f"highest {label}"] = groups[f"lowest {label}"][::-1]
    return {name: [(c, _panels(c, result.detector)) for c in cases[:WORST]] for name, cases in groups.items()}


def _panels(case: Case, detector: AnyDetector) -> list[Image.Image]:
    photograph = read(case.inspection.image, detector.size, detector.lens)
    return panels(photograph, case.form / 255, case.anomaly, case.inspection, detector.calibration, case.mask)


def _quantile(values: list[float], q: float) -> float | None:
    return round(float(np.quantile(values, q)), 3) if values else None
