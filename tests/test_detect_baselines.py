"""The baselines: one interface, scores that hang on one picture alone, and each against its formula."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.spatial.distance import cdist

from cad.errors import InputError
from detect import baselines, patch_baselines
from detect.baselines import BASELINES, Baseline, Fitted, colour_scores, colours, thumbs
from detect.patch_baselines import NEAR, centres, learn_padim, learn_patchcore
from pipelines.benchmark_baselines import CALIBRATE, bench, figures, measured
from train.filters import available
from train.places import RIDGE, SMOOTH

torch.set_num_threads(1)
PLAIN = [n for n, b in BASELINES.items() if b.extra is None]
ALL = [
    pytest.param(n, marks=pytest.mark.skipif(b.extra is not None and not available(), reason="the extra features is not installed"))
    for n, b in BASELINES.items()
]


def pictures(count: int, seed: int, *, marked: bool = False, side: int = 64) -> np.ndarray:
    """Bars, somewhat moved, with grain; ``marked``: and a dark square at the lower right that covers (5/8, 7/8) of rows and columns."""
    rng = np.random.default_rng(seed)
    bars = 120 + 60 * np.sin(np.arange(side) * 12.6 / side + rng.normal(0, 0.15, (count, 1)))
    grey = np.repeat(bars[:, :, None], side, 2) + rng.normal(0, 6, (count, side, side))
    if marked:
        grey[:, 5 * side // 8 : 7 * side // 8, 5 * side // 8 : 7 * side // 8] = 5
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, -1)


@pytest.fixture(scope="module", autouse=True)
def few_centres() -> Iterator[None]:
    """Laws hold of a small memory as of a large one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patch_baselines, "COVER", 500)
        yield


@pytest.fixture(scope="module")
def fitted(few_centres: None) -> dict[str, Fitted]:
    good = pictures(24, 0)
    return {n: b.fit(good, 0) for n, b in BASELINES.items() if b.extra is None or available()}


def test_the_registry_tells_what_each_is() -> None:
    assert list(BASELINES) == ["gaussian-mixture", "one-class-svm", "outlier-factor", "mean-image", "colour", "patchcore", "padim"]
    for one in BASELINES.values():
        assert one.about and "\n" not in one.about and one.paper


@pytest.mark.parametrize("name", ALL)
def test_a_score_hangs_on_its_own_picture(fitted: dict[str, Fitted], name: str) -> None:
    images = np.concatenate([pictures(5, 1), pictures(4, 2, marked=True)])
    scores, order = fitted[name].scores(images), np.random.default_rng(0).permutation(9)
    assert scores.shape == (9,) and scores.dtype == np.float64 and np.isfinite(scores).all()
    alone = np.array([fitted[name].scores(i[None])[0] for i in images])
    np.testing.assert_allclose(scores, alone, rtol=2e-4, atol=1e-5)
    np.testing.assert_allclose(fitted[name].scores(images[order]), scores[order], rtol=2e-4, atol=1e-5)
    assert fitted[name].scores(images[:0]).shape == (0,)


@pytest.mark.parametrize("name", ALL)
def test_the_mark_is_stranger_than_any_good_picture(fitted: dict[str, Fitted], name: str) -> None:
    assert fitted[name].scores(pictures(6, 2, marked=True)).min() > fitted[name].scores(pictures(12, 1)).max()


@pytest.mark.parametrize("name", ALL)
def test_maps_are_of_the_pictures_size_and_show_the_mark(fitted: dict[str, Fitted], name: str) -> None:
    images = pictures(3, 2, marked=True, side=96)
    maps = fitted[name].maps(images)
    assert (maps is not None) == BASELINES[name].maps
    if maps is not None:
        assert maps.shape == (3, 96, 96) and maps.dtype == np.float32
        inside = np.zeros((96, 96), bool)
        inside[56:88, 56:88] = True  # the mark, and a cell about it
        assert all(inside.flat[m.argmax()] for m in maps)
        assert (maps[:, inside].mean(1) > 2 * maps[:, ~inside].mean(1)).all()


@pytest.mark.parametrize("name", ALL)
def test_the_seed_decides(fitted: dict[str, Fitted], name: str) -> None:
    images = pictures(4, 3)
    np.testing.assert_array_equal(BASELINES[name].fit(pictures(24, 0), 0).scores(images), fitted[name].scores(images))


@pytest.mark.parametrize("name", ["one-class-svm", "outlier-factor", "mean-image", "colour"])
def test_what_draws_nothing_does_not_ask_the_order(fitted: dict[str, Fitted], name: str) -> None:
    images, order = pictures(6, 3), np.random.default_rng(1).permutation(24)
    turned = BASELINES[name].fit(pictures(24, 0)[order], 7).scores(images)
    np.testing.assert_allclose(turned, fitted[name].scores(images), rtol=1e-3, atol=1e-3)  # the SVM's solver stops at 1e-3


@pytest.mark.parametrize("name", PLAIN)
def test_pictures_that_are_all_alike_are_learned_from(name: str) -> None:
    """Without a warning, and without a number that is none."""
    good = np.repeat(pictures(1, 0), 5, 0)
    assert np.isfinite(BASELINES[name].fit(good).scores(np.concatenate([good[:1], pictures(1, 0, marked=True)]))).all()


def test_a_mixture_of_one_is_a_mahalanobis_distance() -> None:
    """24 pictures are enough for one Gaussian: minus the log density is half the distance squared, but for a constant."""
    good, images = thumbs(pictures(24, 0)), thumbs(pictures(6, 1))
    found = baselines.learn_mixture(good, 0)(images)[0]
    middle = good.mean(0)
    _, length, axes = np.linalg.svd(good - middle, full_matrices=False)
    mean_variance = (length[:23] ** 2).mean() / 23
    x = (images - middle) @ axes[:23].T / np.sqrt(mean_variance)
    variance = length[:23] ** 2 / 24 / mean_variance + baselines.RIDGE  # EM's covariance is over n, that of PCA over n - 1
    half = 0.5 * (x**2 / variance).sum(1)
    np.testing.assert_allclose(found - found[0], half - half[0], rtol=1e-6, atol=1e-8)


def test_the_mean_image_by_hand() -> None:
    good = np.stack([np.zeros((2, 2)), np.full((2, 2), 2.0)])  # mean 1, deviation 1 everywhere
    scores, maps = baselines.learn_mean_image(good, 0)(np.array([[[1.0, 1.0], [1.0, 4.0]]]))
    spread = np.hypot(1, baselines.FLOOR)
    np.testing.assert_allclose(maps, [[[0, 0], [0, 3 / spread]]])
    np.testing.assert_allclose(scores, [9 / spread**2 / 4])


def test_colour_is_blind_to_place(rng: np.random.Generator) -> None:
    good, images = pictures(12, 0), pictures(3, 1)
    shuffled = np.stack([rng.permutation(i.reshape(-1, 3)).reshape(i.shape) for i in images])
    np.testing.assert_allclose(BASELINES["colour"].fit(good).scores(shuffled), colour_scores(good, images))
    np.testing.assert_allclose(colours(images)[:, :3], images.mean((1, 2)))


def test_centres_cover_what_they_were_chosen_from(rng: np.random.Generator) -> None:
    """The greedy choice: each centre as far from those before it as any point is, so that none is left further away than two centres are apart."""
    points = torch.from_numpy(rng.normal(size=(300, 5)).astype(np.float32))
    chosen = centres(points, 20, torch.Generator().manual_seed(0))
    assert len(set(chosen.tolist())) == 20
    far = cdist(points, points[chosen])
    for k in range(1, 20):
        assert far[chosen[k], :k].min() == pytest.approx(far[:, :k].min(1).max(), rel=1e-3)
    apart = far[chosen]
    assert far.min(1).max() <= apart[~np.eye(20, dtype=bool)].min() + 1e-4
    assert centres(points, 300, torch.Generator()).tolist() == list(range(300))


def test_a_projection_keeps_distances_well_enough_to_choose_by(rng: np.random.Generator) -> None:
    """One point apart from all others is among the first few, of 200 numbers as of 5."""
    points = rng.normal(size=(400, 200)).astype(np.float32)
    points[123] += 10
    assert 123 in centres(torch.from_numpy(points), 3, torch.Generator().manual_seed(0)).tolist()


def test_patchcore_against_its_formula(rng: np.random.Generator) -> None:
    good, x = rng.normal(size=(6, 4, 4, 7)).astype(np.float32), rng.normal(size=(3, 4, 4, 7)).astype(np.float32)
    look = learn_patchcore(good, 0)
    scores, maps = look(x)
    bank = good.reshape(-1, 7)  # few enough that all are kept
    for k in range(3):
        far = cdist(x[k].reshape(-1, 7), bank)
        np.testing.assert_allclose(maps[k], ndimage.gaussian_filter(far.min(1).reshape(4, 4), SMOOTH), rtol=1e-4)
        worst = far.min(1).argmax()
        near = cdist(bank[far[worst].argmin()][None], bank)[0].argsort()[:NEAR]
        weight = 1 - np.exp(far[worst].min()) / np.exp(far[worst][near]).sum()
        assert scores[k] == pytest.approx(weight * far[worst].min(), rel=1e-4)
    np.testing.assert_allclose(look(good)[0], 0, atol=5e-3)  # what is remembered is not strange


def test_padim_against_its_formula(rng: np.random.Generator) -> None:
    good, x = rng.normal(size=(30, 3, 3, 6)).astype(np.float32), rng.normal(size=(4, 3, 3, 6)).astype(np.float32)
    scores, maps = learn_padim(good, 0)(x)
    covariances = np.stack([np.cov(good[:, i, j].T) for i in range(3) for j in range(3)])
    ridge = RIDGE * np.trace(covariances, axis1=1, axis2=2).mean() / 6
    wanted = np.empty((4, 3, 3))
    for i, j in np.ndindex(3, 3):
        off = x[:, i, j] - good[:, i, j].mean(0)
        inverse = np.linalg.inv(covariances[3 * i + j] + ridge * np.eye(6))
        wanted[:, i, j] = np.sqrt(np.einsum("ni,ij,nj->n", off, inverse, off))
    wanted = ndimage.gaussian_filter(wanted, (0, SMOOTH, SMOOTH))
    np.testing.assert_allclose(maps, wanted, rtol=1e-3)
    np.testing.assert_allclose(scores, wanted.max((1, 2)), rtol=1e-3)


def test_padim_draws_its_channels_by_the_seed(rng: np.random.Generator) -> None:
    """Where all are taken, their order changes nothing; of more than that, the seed chooses."""
    good, x = rng.normal(size=(20, 2, 2, 140)).astype(np.float32), rng.normal(size=(3, 2, 2, 140)).astype(np.float32)
    few = [learn_padim(good[..., :50], seed)(x[..., :50])[0] for seed in (0, 1)]
    np.testing.assert_allclose(*few, rtol=1e-3)
    many = [learn_padim(good, seed)(x)[0] for seed in (0, 1)]
    assert not np.allclose(*many, rtol=1e-3)


def test_one_picture_is_not_learned_from() -> None:
    with pytest.raises(InputError, match="found 1; wanted at least 2"):
        BASELINES["mean-image"].fit(pictures(1, 0))


@pytest.mark.parametrize("name", ["patchcore", "padim"])
def test_a_missing_extra_is_said(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(patch_baselines, "available", lambda: False)
    with pytest.raises(InputError, match=r"pip install 'formspect\[features\]'"):
        BASELINES[name].fit(pictures(2, 0))


def test_figures_by_hand() -> None:
    found = figures(np.array([1.0, 2.0, 3.0, 4.0]), np.array([3.5, 5.0]), 3.0)
    wanted = {"image_auroc": 7 / 8, "accuracy": 5 / 6, "balanced_accuracy": 7 / 8, "rejected_good": 1 / 4, "found": 1.0}
    assert found == pytest.approx(wanted)


def test_the_threshold_comes_of_pictures_that_were_not_learned_from() -> None:
    """A baseline that knows by heart: what it learned scores 0, all else its own value."""
    learned: list[set[float]] = []

    def learn(seen: np.ndarray, seed: int) -> baselines.Look:
        learned.append(set(seen.tolist()))
        return lambda x: (np.array([0.0 if v in learned[-1] else v for v in x]), None)

    train = np.arange(1.0, 101.0)
    seen = {"train/good": train, "test/good": np.array([0.5, 200.0]), "test/bent": np.array([300.0, 0.1])}
    found = measured(Baseline("", "", lambda x: x, learn), seen, 3, 0.05)
    held = np.sort(list(set(train) - learned[0]))
    assert len(held) == CALIBRATE * 100
    assert found["image_auroc"] == found["classes"]["bent"] == 0.5
    assert found["rejected_good"] == found["found"] == 0.5  # 200 and 300 lie above the highest of those held out
    assert measured(Baseline("", "", lambda x: x, learn), seen, 4, 0.05) and learned[0] != learned[1]


def test_the_bench_tells_a_folder(tmp_path: Path) -> None:
    from PIL import Image

    for name, images in {"train/good": pictures(100, 0), "test/good": pictures(6, 1), "test/mark": pictures(5, 2, marked=True)}.items():
        (tmp_path / name).mkdir(parents=True)
        for k, image in enumerate(images):
            Image.fromarray(image).save(tmp_path / name / f"{k:03}.png")
    found = bench(tmp_path, ["mean-image", "colour", "one-class-svm"], range(2), 64, 0.05)
    assert found["counts"] == {"train/good": 100, "test/good": 6, "test/mark": 5} and found["held_for_threshold"] == 20
    assert list(found["baselines"]) == ["mean-image", "colour", "one-class-svm"]
    for row in found["baselines"].values():
        assert row["mean"]["image_auroc"] == {"mean": 1.0, "low": 1.0, "high": 1.0} and row["mean"]["found"]["low"] == 1.0
    with pytest.raises(InputError, match="no test photographs of a defect"):
        bench(tmp_path / "train", ["colour"], range(1), 64, 0.05)
