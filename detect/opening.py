"""Run folders, whatever form they hold, opened as detectors."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cad.command import say
from cad.errors import InputError
from cad.files import read_json
from detect import cad_detector, inspection, photo_detector
from detect.cad_detector import CadDetector, CadRun
from detect.calibrate import check_alpha
from detect.inspection import CALIBRATION, Detector
from detect.photo_detector import TERMS, PhotoDetector
from detect.projection import settings_for
from synth.sampling import Recipe, draw_sample
from train.cad_form import open_form, read_config
from train.photographs import Photograph, read_all
from train.runs import open_run

AnyDetector = Detector | CadDetector | PhotoDetector

ASKED = 8  # good photographs by which a route is chosen
VIEWS = 7907  # the seed of drawn views that a calibration is made on
VARIED = ("lights", "ambient", "surface", "sensor")  # of them
AGREED = (
    0.96  # median IoU of good photographs' outlines with the part's, below which it may be another part: a washer's file and nuts have 0.93
)
STRANGE = 0.12  # of a picture that a render leaves over, median, from which no render has the photographs' finish


def open_detector(
    folder: str | Path,
    *,
    calibration: Path | None = None,
    calibrated: bool = True,
    device: str = "auto",
    settings: dict[str, Any] | None = None,
) -> AnyDetector:
    """With its calibration (of the folder, or another file) unless not ``calibrated``; ``device`` and ``settings``, where they differ from the
    model's own, are a learned form's.

    Raises InputError where the folder holds no finished run, or it is not calibrated.
    """
    folder = Path(folder)
    config = read_config(folder)
    if config is not None:
        run = CadRun(folder, open_form(folder, config))
        if calibrated and _of_photographs(calibration or folder / CALIBRATION):
            return PhotoDetector(run, calibration=photo_detector.load_calibration(run, calibration or folder / CALIBRATION))
        return CadDetector(run, calibration=cad_detector.load_calibration(run, calibration) if calibrated else None)
    opened = open_run(folder)
    known = inspection.load_calibration(opened, calibration) if calibrated else None
    changed = replace(settings_for(opened), **settings) if settings else None
    return Detector(opened, device=device, settings=changed, calibration=known)


def _of_photographs(path: Path) -> bool:
    if not path.exists():
        return False
    data = read_json(path, "a calibration")
    return isinstance(data, dict) and data.get("form") == "photograph"


def calibrated_detector(
    folder: str | Path,
    images: list[Path],
    alpha: float,
    *,
    route: str = "auto",
    terms: Collection[str] = tuple(TERMS),
    device: str = "auto",
    settings: dict[str, Any] | None = None,
) -> AnyDetector:
    """A run calibrated on good ``images``. ``route``, of a CAD form: ``render`` compares with the part as it is drawn, ``photograph`` by
    those of ``terms`` that are to be had; ``auto`` takes the first where renders look like the images. Raises InputError."""
    check_alpha(alpha, len(images))
    detector = open_detector(folder, calibrated=False, device=device, settings=settings)
    if isinstance(detector, CadDetector):
        if route == "photograph" or (route == "auto" and shines_otherwise(detector, images)):
            detector = PhotoDetector(detector.run)
    elif route != "auto":
        raise InputError("--route", f"found {route}, and the run is a learned form", wanted="a CAD form", step="train fit PART --form cad")
    photographs = read_all(images, detector.size, detector.lens)
    if isinstance(detector, PhotoDetector):
        detector.calibrate(photographs, alpha, terms=terms)
    else:
        detector.calibrate(photographs, alpha)
    if isinstance(detector, PhotoDetector) and (doubt := another_part(detector, images)) is not None:
        say(f"warning: {doubt}")
    return detector


def another_part(detector: PhotoDetector, images: list[Path]) -> str | None:
    """Why some of the ``images`` may show another part than the run's, whose outlines agree with theirs too little; None where they agree, or
    none are to be had. Defects that are smaller than the difference could not be seen."""
    if not detector.calibration.outlined:
        return None
    agreed = float(np.median([detector.fitted(p).found.iou for p in read_all(_some(images), detector.size, detector.lens)]))
    if agreed >= AGREED:
        return None
    return (
        f"outlines agree with {detector.form.part.name} by {100 * agreed:.0f} % in the median, less than {100 * AGREED:.0f} %:"
        " is this the part's own file? if it is, plainer backgrounds let smaller defects be seen"
    )


def rendered_detector(folder: str | Path, count: int, alpha: float, *, terms: Collection[str] = tuple(TERMS)) -> PhotoDetector:
    """A CAD form calibrated, by those of ``terms`` that need no photograph, on ``count`` drawn good views, their light, surface and sensor varied before the file's background: no
    photograph at all. Raises InputError."""
    detector = open_detector(folder, calibrated=False)
    if not isinstance(detector, CadDetector):
        raise InputError("--rendered", "the run is a learned form", wanted="a CAD form", step="train fit PART --form cad")
    photo, part = PhotoDetector(detector.run), detector.form.part
    recipe = Recipe(count, 0, size=photo.size, seed=VIEWS, randomise=dict.fromkeys(VARIED, "default"))
    views = [draw_sample(part, recipe, "train", "good", k).image for k in range(count)]
    photo.calibrate(
        [Photograph(Path(f"{k:06d}.png"), v, photo.size, photo.size) for k, v in enumerate(views)],
        alpha,
        terms=[t for t in terms if t != "memory"],
    )
    return photo


def shines_otherwise(detector: CadDetector, images: list[Path]) -> bool:
    """Whether the nearest renders leave over too much of some of the ``images`` for their light to be told."""
    detector.use(None, content=(np.inf, np.inf))
    found = detector.projected(read_all(_some(images), detector.size, detector.lens))
    return float(np.median([cad_detector.misfit(f.refined) for f in found])) > STRANGE


def _some(images: list[Path]) -> list[Path]:
    """ASKED of them, from first to last."""
    return [images[k] for k in np.unique(np.linspace(0, len(images) - 1, ASKED).astype(int))]


def save_calibration(detector: AnyDetector, path: Path | None = None) -> Path:
    """Of a calibrated detector, into its run folder or another ``path``; a memory beside it."""
    path = path or detector.run.folder / CALIBRATION
    if isinstance(detector, PhotoDetector):
        photo_detector.save_memory(detector.calibration, path)
    return inspection.save_calibration(detector.run, detector.calibration, path)
