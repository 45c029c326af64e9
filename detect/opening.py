"""Run folders, whatever form they hold, opened as detectors."""

from __future__ import annotations

from pathlib import Path

from detect import cad_detector, inspection
from detect.cad_detector import CadDetector, CadRun
from detect.inspection import Detector, Settings
from train.cad_form import open_form, read_config
from train.runs import open_run

AnyDetector = Detector | CadDetector


def open_detector(
    folder: str | Path, *, calibration: Path | None = None, calibrated: bool = True, device: str = "auto", settings: Settings | None = None
) -> AnyDetector:
    """With its calibration (of the folder, or another file) unless not ``calibrated``; ``device`` and ``settings`` are a learned form's.

    Raises InputError where the folder holds no finished run, or it is not calibrated.
    """
    folder = Path(folder)
    config = read_config(folder)
    if config is not None:
        run = CadRun(folder, open_form(folder, config))
        return CadDetector(run, calibration=cad_detector.load_calibration(run, calibration) if calibrated else None)
    opened = open_run(folder)
    known = inspection.load_calibration(opened, calibration) if calibrated else None
    return Detector(opened, device=device, settings=settings, calibration=known)


def save_calibration(detector: AnyDetector, path: Path | None = None) -> Path:
    """Of a calibrated detector, into its run folder or another ``path``."""
    return inspection.save_calibration(detector.run, detector.calibration, path)
