"""Fixtures: a part, a tiny dataset, a tiny run. Small on purpose: what they are good at is tested, how good is measured elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: on tensors this small a second thread only waits, and long on a busy machine

import numpy as np
import pytest
from hypothesis import settings

import cad
from cad.command import run as run_command

# the same commit gets the same answer; `pytest --hypothesis-profile fresh` looks further, at other examples each time
settings.register_profile("same", derandomize=True)
settings.register_profile("fresh", max_examples=1000, deadline=None)
settings.load_profile("same")

SMALL = {"width": 8, "latent": 8, "batch": 16, "epochs": 1, "precision": "32-true"}


@pytest.fixture(scope="session")
def cap() -> cad.Part:
    return cad.load("notched_cap")


@pytest.fixture(scope="session")
def nut() -> cad.Part:
    return cad.load("hex_nut")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def dataset_folder(cap: cad.Part, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 good views to train on, 8 of each test label, 32 px. Read only: copy it before changing it."""
    from synth.render import render
    from synth.sampling import Recipe

    folder = tmp_path_factory.mktemp("dataset") / "cap"
    render(cap, folder, Recipe(32, 8, size=32), jobs=1)
    return folder


@pytest.fixture(scope="session")
def run_folder(dataset_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run trained for two steps on that dataset. Read only: copy it before changing it."""
    from synth.dataset import open_dataset
    from train.config import Config
    from train.fit import fit
    from train.runs import RunFolder, data_fingerprint

    folder = tmp_path_factory.mktemp("run") / "cap"
    data, config = open_dataset(dataset_folder), Config(size=32, **SMALL)
    fit(data, RunFolder(folder, config, data_fingerprint(data)), config, device="cpu")
    return folder


@pytest.fixture(scope="session")
def form_folder(cap: cad.Part, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cap's CAD form at 64 px, calibrated on 60 good views. Read only: copy it before changing it."""
    from detect.opening import open_detector, save_calibration
    from synth.render import render
    from synth.sampling import Recipe
    from train.cad_form import fit_form, wanted_of
    from train.photographs import find_images, read_all

    folder, views = tmp_path_factory.mktemp("form") / "cap", tmp_path_factory.mktemp("good") / "cap"
    fit_form(folder, cap, wanted_of(cap, 64, 0))
    render(cap, views, Recipe(60, 0, size=64, seed=5), jobs=1)
    detector = open_detector(folder, calibrated=False)
    detector.calibrate(read_all(find_images(views / "train" / "good"), 64), 0.05)
    save_calibration(detector)
    return folder


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """``command("cad show cap.yaml")`` -> (exit code, stdout, stderr), as the console script would end."""
    import importlib
    import shlex
    import sys

    def call(line: str) -> tuple[int, str, str]:
        name, *arguments = shlex.split(line)
        module = importlib.import_module({"formspect": "pipelines"}.get(name, name) + ".cli")
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run_command(getattr(module, name))
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return call
