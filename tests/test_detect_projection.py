"""Nearest forms of every learned form: alike whatever is beside an image, from whatever starts, and as starts of a CAD form's search."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import cad
from cad.errors import InputError
from detect.diagnosing import diagnosed, subject_of
from detect.inspection import Detector
from detect.pose_starts import open_starts
from detect.projection import SETTINGS, Projector, Settings, settings_for
from synth.dataset import Dataset, open_dataset
from train.catalogue import CATALOGUE, class_of
from train.config import config_for
from train.fit import fit
from train.photographs import find_images, read_all
from train.runs import Run, RunFolder, open_run
from train.views import of_dataset

torch.set_num_threads(1)

NAMES = list(CATALOGUE)
DESCENDED = ("unet-gan", "dcgan", "conditioned")
TINY = {"width": 8, "batch": 8, "epochs": 1, "precision": "32-true"}


@pytest.fixture(scope="module")
def runs(dataset_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """One of each, hardly trained, but those that a descent is tried in: a picture has to hang on its code for that. Read only."""
    views, made = of_dataset(open_dataset(dataset_folder)), {}
    for name in NAMES:
        latent = {} if name == "conditioned" else {"latent": 8}
        longer = {"epochs": 20, "rate": 5e-3} if name in DESCENDED else {}
        config, folder = config_for(32, model=name, **{**TINY, **latent, **longer}), tmp_path_factory.mktemp(name) / "run"
        fit(views, RunFolder(folder, config, views.fingerprint), config, device="cpu")
        made[name] = open_run(folder)
    return made


@pytest.fixture(scope="module")
def pixels(dataset_folder: Path) -> np.ndarray:
    data: Dataset = open_dataset(dataset_folder)
    return data.images([*data.of("test", "good")[:3], *data.of("test", "bulge")[:2]])


def short(run: Run) -> Settings:
    own = settings_for(run)
    return replace(own, steps=min(own.steps, 3), starts=min(own.starts, 4))


def test_every_model_has_its_way() -> None:
    assert set(SETTINGS) == set(CATALOGUE)
    assert all(s.steps > 0 for n, s in SETTINGS.items() if not class_of(n).ENCODES and class_of(n).DECODES)


@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_projected_alike_alone_and_among_others(name: str, runs: dict[str, Run], pixels: np.ndarray) -> None:
    projector = Projector(runs[name], torch.device("cpu"), short(runs[name]))
    together, alone = projector.project(pixels), [projector.project(p[None]) for p in pixels]
    backwards = projector.project(pixels[::-1])
    for k, one in enumerate(alone):
        for found, row in ((together, k), (backwards, len(pixels) - 1 - k)):
            assert torch.equal(found.forms[row], one.forms[0])
            assert np.array_equal(found.residuals.size[row], one.residuals.size[0]) and np.array_equal(found.codes[row], one.codes[0])
            assert {t: v[row] for t, v in found.terms.items()} == {t: v[0] for t, v in one.terms.items()}
    assert together.forms.shape == (5, 1, 32, 32) and all(np.isfinite(v).all() for v in together.terms.values())


@pytest.mark.parametrize("method", ["sgd", "adam", "nadam", "l-bfgs", "gauss-newton"])
@pytest.mark.parametrize("name", DESCENDED)
def test_every_method_goes_down(name: str, method: str, runs: dict[str, Run], pixels: np.ndarray) -> None:
    still = Settings(steps=1, starts=2, rate=1e-9, features=0.0, prior=0.0, trust=0.0)
    start = Projector(runs[name], torch.device("cpu"), still).project(pixels[:2])
    moving = replace(still, steps=6, rate=0.5 if method == "sgd" else 0.05, method=method)
    found = Projector(runs[name], torch.device("cpu"), moving).project(pixels[:2])
    assert (found.losses <= start.losses + 1e-6).all() and (found.losses < start.losses - 1e-4).any()  # each keeps its best


@pytest.mark.parametrize("name", [n for n in NAMES if class_of(n).DECODES])
def test_any_may_be_told_to_descend(name: str, runs: dict[str, Run], pixels: np.ndarray) -> None:
    """By its own settings but for the steps, whether its own way has any or not, and whether it has a discriminator whose features count or not."""
    found = Projector(runs[name], torch.device("cpu"), replace(short(runs[name]), steps=3)).project(pixels[:2])
    assert np.isfinite(found.losses).all() and (found.losses > 0).all() and (found.steps > 0).all()


@pytest.mark.parametrize("name", ["unet-gan", "dcgan", "conditioned"])
def test_polish_goes_further_down(name: str, runs: dict[str, Run], pixels: np.ndarray) -> None:
    plain = replace(short(runs[name]), polish=0)
    before, after = (Projector(runs[name], torch.device("cpu"), replace(plain, polish=n)).project(pixels[:3]) for n in (0, 3))
    if name == "conditioned":  # the forms that look alike are gone down from in another way
        assert after.losses.mean() < before.losses.mean()
    else:
        assert (after.losses <= before.losses).all() and (after.losses < before.losses).any() and (after.steps >= before.steps).all()


def test_random_starts_take_the_place_of_known_ones(runs: dict[str, Run], pixels: np.ndarray) -> None:
    run = runs["unet-gan"]
    images = torch.zeros((2, 1, 32, 32))
    known, mixed, drawn = (Projector(run, torch.device("cpu"), Settings(starts=4, drawn=n)).starts(images) for n in (0, 2, 4))
    assert known.shape == mixed.shape == drawn.shape == (2, 4, 8)
    assert torch.equal(known[:, :2], mixed[:, :2]) and not torch.equal(known[:, 2:], mixed[:, 2:])
    assert torch.equal(mixed[:, 2:], drawn[:, :2]) and torch.equal(drawn[0], drawn[1])


def test_a_generator_from_noise_wants_a_descent(runs: dict[str, Run]) -> None:
    with pytest.raises(InputError, match=r"--steps.*dcgan has no encoder"):
        Projector(runs["dcgan"], torch.device("cpu"), Settings(steps=0))


def test_a_score_that_is_none_is_refused(runs: dict[str, Run], dataset_folder: Path) -> None:
    detector = Detector(runs["ganomaly"], device="cpu", settings=Settings(steps=0, score="own"))
    seen = read_all(find_images(dataset_folder / "train" / "good")[:20], 32)
    own = detector.calibrate(seen, 0.05).conformal.scores
    assert np.allclose(own, np.sort(detector.project(np.stack([p.pixels for p in seen])).terms["own"]))
    with pytest.raises(InputError, match=r'--score: found "beauty"; wanted one or more of map, residual'):
        Detector(runs["ganomaly"], device="cpu", settings=Settings(steps=0, score="beauty")).calibrate(seen, 0.05)


def test_poses_begin_a_search(runs: dict[str, Run], cap: cad.Part, form_folder: Path, pixels: np.ndarray) -> None:
    from detect.opening import open_detector

    detector = open_detector(form_folder)
    starts = open_starts(runs["conditioned"].folder, detector.form.part.text)
    (place,) = starts(pixels[0], detector.form.pivot)
    assert np.allclose(place.turn @ place.turn.T, np.eye(3), atol=1e-6) and np.isfinite(place.position).all() and place.scale > 0
    asked = []
    detector.starts = lambda image, pivot: asked.append(image.shape) or [place]
    detector.project(np.zeros((64, 64, 3), np.uint8) + np.arange(64, dtype=np.uint8)[:, None, None])
    assert asked == [(64, 64, 3)]


def test_starts_of_another_part_or_model_are_refused(runs: dict[str, Run], nut: cad.Part) -> None:
    with pytest.raises(InputError, match=r"--poses.*another part"):
        open_starts(runs["conditioned"].folder, nut.text)
    with pytest.raises(InputError, match=r"--poses.*unet-gan.*conditioned"):
        open_starts(runs["unet-gan"].folder, runs["unet-gan"].part.text)


@pytest.mark.parametrize("name", ["unet-gan", "dcgan", "conditioned"])
def test_a_run_is_diagnosed(name: str, runs: dict[str, Run], dataset_folder: Path, tmp_path: Path) -> None:
    detector = Detector(runs[name], device="cpu", settings=short(runs[name]))
    photographs = {label: read_all(find_images(dataset_folder / "test" / label)[:6], 32) for label in ("good", "bulge")}
    figures = diagnosed(detector, photographs, tmp_path)
    assert figures["n"] == {"good": 6, "bulge": 6, "generated": 512} and figures["pose_coverage"] is not None
    assert json.loads((tmp_path / "diagnostics.json").read_text()) == figures and (tmp_path / "diagnostics.html").exists()


def test_a_translation_has_no_latent_space(runs: dict[str, Run]) -> None:
    with pytest.raises(InputError, match="descargan has no latent space"):
        subject_of(Detector(runs["descargan"], device="cpu"))


def test_diagnose_command(runs: dict[str, Run], dataset_folder: Path, tmp_path: Path, command, form_folder: Path) -> None:
    code, out, _ = command(f"detect diagnose {dataset_folder} --run {runs['unet-som'].folder} -o {tmp_path / 'out'} --most 8")
    assert code == 0 and "diagnostics.html" in out and (tmp_path / "out" / "diagnostics.html").exists()
    code, _, err = command(f"detect diagnose {dataset_folder} --run {form_folder}")
    assert code == 2 and "CAD form" in err and len(err.splitlines()) == 1
