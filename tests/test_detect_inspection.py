"""From a run and photographs to verdicts, metrics and the page: what must hold however little the run has learned."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import detect.inspection
from cad.errors import InputError
from detect.calibrate import Conformal
from detect.inspection import Calibration, Detector, Inspection, Settings, load_calibration, save_calibration, write_lines
from detect.photographs import Photograph, find_images, read, read_all
from detect.pictures import PANEL
from detect.validation import Validation, metrics, validate, write_validation
from synth.dataset import open_dataset
from train.runs import Run, open_run

torch.set_num_threads(1)  # on tensors this small a second thread only waits, and waits long on a busy machine

LINE = ["image", "score", "p_value", "threshold", "verdict", "regions", "pose", "dimensions", "steps", "milliseconds", "run"]
REGION = ["feature", "bbox", "area_px", "score", "deviation_mm"]
CLASS = ["n", "image_auroc", "image_auroc_low", "image_auroc_high", "tpr_at_1fpr", "rejected", "pixel_auroc", "aupro", "named_right"]
SETTINGS = Settings(steps=8, starts=2)


@pytest.fixture(scope="module")
def folder(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that holds a calibration."""
    return Path(shutil.copytree(run_folder, tmp_path_factory.mktemp("calibrated") / "cap"))


@pytest.fixture(scope="module")
def good(dataset_folder: Path) -> list[Photograph]:
    return read_all(find_images(dataset_folder / "test" / "good"), 32)


@pytest.fixture(scope="module")
def calibration(folder: Path, good: list[Photograph]) -> Calibration:
    run = open_run(folder)
    found = Detector(run, device="cpu", settings=SETTINGS).calibrate(good, 0.2)
    save_calibration(run, found)
    return found


@pytest.fixture
def detector(folder: Path, calibration: Calibration) -> Detector:
    run = open_run(folder)
    return Detector(run, device="cpu", calibration=load_calibration(run))


@pytest.fixture(scope="module")
def mixed(dataset_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Photograph]:
    """Good and defective views, and one that no part is like: more than a chunk."""
    strange = tmp_path_factory.mktemp("strange") / "strange.png"
    Image.fromarray(np.kron(np.indices((8, 8)).sum(0) % 2 * 255, np.ones((4, 4))).astype(np.uint8)).save(strange)
    views = [p for d in sorted((dataset_folder / "test").iterdir()) for p in sorted(d.iterdir())[:3]]
    return read_all([*views, strange], 32)


@pytest.fixture(scope="module")
def validated(folder: Path, calibration: Calibration, dataset_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that ``detect validate`` writes."""
    output, run = tmp_path_factory.mktemp("validated"), open_run(folder)
    write_validation(validate(Detector(run, device="cpu", calibration=load_calibration(run)), dataset_folder), output)
    return output


def without_time(found: Iterator[tuple[Inspection, np.ndarray, np.ndarray]]) -> list[tuple]:
    return [({**i.json(), "milliseconds": 0}, anomaly.tobytes(), form.tobytes()) for i, anomaly, form in found]


def test_a_batch_equals_its_images_one_by_one(detector: Detector, mixed: list[Photograph]) -> None:
    together = list(detector.inspect(mixed))
    alone = [next(detector.inspect([p])) for p in mixed]
    print([(a[0].score - b[0].score) for a, b in zip(together, alone)], [a[0].steps for a in together], [a[0].steps for a in alone])
    assert len(mixed) > detect.inspection.CHUNK
    for (a, map_a, _), (b, map_b, _) in zip(together, alone, strict=True):
        assert a.score == pytest.approx(b.score, abs=1e-5) and a.encoder_score == pytest.approx(b.encoder_score, abs=1e-5)
        np.testing.assert_allclose(map_a, map_b, atol=1e-4)  # a pixel's, of which a score is a mean
        assert (a.verdict, a.steps, a.p_value) == (b.verdict, b.steps, b.p_value)
