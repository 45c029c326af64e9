"""What a generator may learn from, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cad.errors import InputError
from synth.dataset import open_dataset
from train.config import config_for
from train.fit import fit
from train.images import prepare
from train.learning import learning
from train.photographs import read_all
from train.places import Places
from train.runs import RunFolder, open_run
from train.views import of_dataset, open_views

torch.set_num_threads(1)

SMALL = {"width": 8, "latent": 8, "batch": 8, "epochs": 1, "precision": "32-true"}


def photographs(folder: Path, count: int, side: int = 40, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for k in range(count):
        picture = np.full((side, side, 3), 60, np.uint8)
        y, x = rng.integers(4, side - 14, 2)
        picture[y : y + 10, x : x + 10] = rng.integers(150, 250)
        Image.fromarray(picture).save(folder / f"{k:03d}.png")
    return folder


def test_a_folder_is_read_as_a_dataset_a_set_or_images(dataset_folder: Path, tmp_path: Path) -> None:
    rendered = open_views(dataset_folder)
    assert rendered.count == 32 and rendered.part is not None and len(rendered.scenes()) == 32 and rendered.size == 32
    assert rendered.fingerprint == of_dataset(open_dataset(dataset_folder)).fingerprint
    photographs(tmp_path / "set" / "train" / "good", 5)
    photographs(tmp_path / "set" / "train" / "scratch", 2)
    photographs(tmp_path / "images", 4)
    found, plain = open_views(tmp_path / "set"), open_views(tmp_path / "images")
    assert (found.count, len(found.known), found.part, found.scenes()) == (5, 2, None, None)
    assert (plain.count, len(plain.known)) == (4, 0)
    config = config_for(32)
    assert found.images(config).shape == (5, 32, 32, 3) and found.abnormal(config).shape == (2, 32, 32, 3)
    assert found.images(config, 3).shape[0] == 3 and plain.abnormal(config).shape == (0, 32, 32, 3)


def test_the_fingerprint_is_of_what_is_learned(tmp_path: Path) -> None:
    photographs(tmp_path / "a" / "train" / "good", 4)
    before = open_views(tmp_path / "a").fingerprint
    assert open_views(tmp_path / "a").fingerprint == before
    Image.new("RGB", (40, 40)).save(tmp_path / "a" / "train" / "good" / "000.png")
    assert open_views(tmp_path / "a").fingerprint != before


@pytest.mark.parametrize("name", ["train/good/000000.png", "manifest.json"])
def test_a_rendered_dataset_is_no_folder_of_photographs(dataset_folder: Path, tmp_path: Path, name: str) -> None:
    import shutil

    folder = Path(shutil.copytree(dataset_folder, tmp_path / "cap"))
    (folder / name).unlink()
    with pytest.raises(InputError, match=r"missing|has no manifest"):
        open_views(folder)


def test_known_images_of_a_rendered_dataset_are_refused(dataset_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--known.*photographs"):
        open_views(dataset_folder, photographs(tmp_path / "bad", 2))


def test_poses_are_wanted_of_what_has_none(tmp_path: Path) -> None:
    views = open_views(photographs(tmp_path / "images", 9))
    with pytest.raises(InputError, match=r"conditioned learns from known poses.*synth render"):
        learning(views, config_for(32, model="conditioned", batch=8))


@pytest.mark.parametrize("model", ["unet-gan", "noisy-gan", "descargan", "dcgan"])
def test_photographs_are_learned_from_and_looked_at(model: str, tmp_path: Path, command) -> None:
    photographs(tmp_path / "set" / "train" / "good", 16)
    photographs(tmp_path / "set" / "train" / "scratch", 3, seed=1)
    photographs(tmp_path / "new", 20, seed=2)
    run = tmp_path / "run"
    line = f"train fit {tmp_path / 'set'} -o {run} --model {model} --size 32 --width 8 --latent 8 --batch 8 --epochs 1 --device cpu"
    assert command(line)[0] == 0
    assert not (run / "part.yaml").exists()
    assert command(f"detect calibrate {tmp_path / 'new'} --run {run} --steps {3 if model == 'dcgan' else 1}")[0] == 0
    code, out, _ = command(f"detect inspect {tmp_path / 'new' / '000.png'} --run {run} --json")
    found = json.loads(out.splitlines()[0])
    assert code in (0, 1) and {"residual", "rarity", "patch-rarity"} <= set(found["terms"])
    opened = open_run(run)
    assert opened.config.normalize == "brightness"
    images = prepare(np.stack([p.pixels for p in read_all(open_views(tmp_path / "set").good, 32)]), "brightness")
    with torch.no_grad():
        again = Places.of([opened.model.texture(part) for part in images.split(5)], alike=True)
        seen = opened.model.texture(images[:4])
    np.testing.assert_allclose(opened.bank.places.look(seen)[0], again.look(seen)[0], rtol=1e-2)
    told = json.loads((run / "calibration.json").read_text(encoding="utf-8"))
    assert told["settings"]["score"] == "map+rarity+patch-rarity" and told["joint"]["names"] == ["map", "rarity", "patch-rarity"]


def test_what_is_rare_is_strange_among_photographs(tmp_path: Path) -> None:
    """The score is what the calibration makes of all terms; a picture of another kind is rarer than good ones are, by whichever model."""
    from detect.inspection import Detector

    views = open_views(photographs(tmp_path / "images", 40))
    good = read_all(open_views(photographs(tmp_path / "further", 40, seed=1)).good, 32)
    other = tmp_path / "other.png"
    Image.fromarray(np.kron(np.eye(8) * 255, np.ones((5, 5)))[..., None].repeat(3, 2).astype(np.uint8)).save(other)
    for model in ("ganomaly", "descargan"):
        config = config_for(32, model=model, normalize=views.normalize, **SMALL | {"epochs": 20})
        fit(views, RunFolder(tmp_path / model, config, views.fingerprint), config, device="cpu")
        detector = Detector(open_run(tmp_path / model), device="cpu")
        detector.calibrate(good, 0.05)
        seen = list(detector.inspect([*good[:9], *read_all([other], 32)]))
        for told in ([i.terms["rarity"] for i, _, _ in seen], [i.terms["patch-rarity"] for i, _, _ in seen], [i.score for i, _, _ in seen]):
            assert np.median(told[:9]) < told[9]
        joint = detector.calibration.joint
        for found, anomaly, _ in seen:
            terms = {"map": detector.mapped(anomaly[None])} | {k: np.array([found.terms[k]]) for k in ("rarity", "patch-rarity")}
            assert found.score == pytest.approx(joint.score(terms)[0], rel=1e-4)


def test_of_renders_the_score_is_the_map(dataset_folder: Path, tmp_path: Path) -> None:
    from detect.projection import descriptors, settings_for

    views = open_views(dataset_folder)
    config = config_for(32, model="ganomaly", normalize=views.normalize, **SMALL)
    fit(views, RunFolder(tmp_path / "run", config, views.fingerprint), config, device="cpu")
    run = open_run(tmp_path / "run")
    assert config.normalize == "standard" and settings_for(run).score == "map" and descriptors(run) is None and run.bank.places is None


def test_pictures_a_pixel_larger_than_the_networks_have_a_bank(tmp_path: Path) -> None:
    views = open_views(photographs(tmp_path / "images", 10))
    config = config_for(32, picture=33, model="unet-som", **SMALL)
    fit(views, RunFolder(tmp_path / "run", config, views.fingerprint), config, device="cpu")
    assert len(open_run(tmp_path / "run").bank.codes) == 10


def test_tiles_cover_what_a_picture_is_cut_into(tmp_path: Path) -> None:
    views = open_views(photographs(tmp_path / "images", 6, side=96))
    config = config_for(32, picture=96, size=32, **SMALL)
    found = learning(views, config)
    assert found.images.shape == (6, 1, 96, 96) and found.choices == 54 and found.steps == 6
    cut = found.pictures(torch.arange(12), 5)
    assert cut.shape == (12, 1, 32, 32) and cut.dtype == torch.float32
    assert torch.equal(cut, found.pictures(torch.arange(12), 5)) and not torch.equal(cut, found.pictures(torch.arange(12), 6))
    fit(views, RunFolder(tmp_path / "run", config, views.fingerprint), config, device="cpu")
    assert open_run(tmp_path / "run").bank.thumbs.shape == (6, 256)


def test_a_run_on_tiles_looks_at_whole_pictures(tmp_path: Path) -> None:
    from detect.inspection import Detector
    from train.photographs import read

    views = open_views(photographs(tmp_path / "images", 20, side=96))
    config = config_for(32, picture=96, size=32, **SMALL)
    fit(views, RunFolder(tmp_path / "run", config, views.fingerprint), config, device="cpu")
    detector = Detector(open_run(tmp_path / "run"), device="cpu")
    seen = [read(p, detector.size) for p in views.good]
    assert detector.size == 96
    detector.calibrate(seen, 0.05)
    found = list(detector.inspect(seen[:3]))
    assert all(anomaly.shape == form.shape == (96, 96) and np.isfinite(anomaly).all() for _, anomaly, form in found)
    alone = next(detector.inspect([seen[1]]))
    assert alone[0].score == pytest.approx(found[1][0].score, rel=1e-6)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"accumulate": 5}, "divisor"),
        ({"picture": 16}, "tile|32"),
        ({"model": "gan"}, "--model"),
        ({"model": "conditioned", "latent": 8}, "--latent.*11"),
    ],
)
def test_configs_that_cannot_be(options: dict[str, object], word: str) -> None:
    with pytest.raises(InputError, match=word):
        config_for(32, **options)
