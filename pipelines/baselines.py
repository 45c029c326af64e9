"""What a score of ours stands beside: colour alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detect.baselines import colour_scores
from detect.metrics import auroc, auroc_interval
from train.photographs import find_images, read


def colour_baseline(folder: Path, size: int = 64) -> dict[str, Any]:
    """{class: {n, image_auroc, low, high}} of FOLDER/test by colour alone, calibrated on FOLDER/calibrate/good."""
    calibration = _pixels(folder / "calibrate" / "good", size)
    scores = {d.name: colour_scores(calibration, _pixels(d, size)) for d in sorted((folder / "test").iterdir()) if d.is_dir()}
    result = {}
    for label, own in scores.items():
        if label != "good":
            low, high = auroc_interval(scores["good"], own)
            result[label] = {"n": len(own), "image_auroc": auroc(scores["good"], own), "image_auroc_low": low, "image_auroc_high": high}
    return result


def _pixels(folder: Path, size: int) -> list[np.ndarray]:
    return [read(path, size).pixels for path in find_images(folder)]


def contact(folder: Path, labels: Sequence[str], count: int = 8, size: int = 96) -> Image.Image:
    """A row of photographs for each label of FOLDER/test."""
    rows = []
    for label in labels:
        found = find_images(folder / "test" / label)
        picks = [found[i] for i in np.linspace(0, len(found) - 1, count).round().astype(int)]
        rows.append(np.hstack([read(p, size).pixels for p in picks]))
    return Image.fromarray(np.vstack(rows))
