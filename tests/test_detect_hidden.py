"""What reaches into a photograph from beyond its border: found, left out, said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import cad
from detect.cad_descent import Fit, Pyramid
from detect.cad_detector import CadDetector
from detect.evidence import from_outside
from detect.opening import open_detector
from synth.sampling import Recipe, draw_sample
from synth.scene import Scene
from train.cad_form import luminance, placement_of
from train.photographs import Photograph
from train.pose_index import PoseIndex
from train.shading import lit

HOLDS = 0.85  # share of views


@pytest.fixture(scope="module")
def detector(form_folder: Path) -> CadDetector:
    return open_detector(form_folder)


@pytest.fixture(scope="module")
def views(cap: cad.Part) -> list:
    return [draw_sample(cap, Recipe(0, 12, size=64, seed=8), "test", "good", k) for k in range(12)]


def barred(image: np.ndarray, level: int, turns: int, share: float = 0.15) -> np.ndarray:
    """``image`` (S, S, 3) behind a grey bar over its side, a ``share`` of it."""
    out = image.copy()
    np.rot90(out, turns)[:, : round(share * len(image))] = level
    return out


@pytest.mark.parametrize("turns", range(4))
def test_what_reaches_into_the_picture_is_told_from_what_is_in_it(turns: int) -> None:
    """A bar is, with the gap in it; a patch in the middle is not, nor is one that hangs with the bar by a neck, or is of another grey."""
    anomaly, picture = np.zeros((64, 64), np.float32), np.full((64, 64), 0.1)
    anomaly[:10], picture[:10] = 9.0, 0.5
    anomaly[10:24, 40:56], picture[10:24, 40:56] = 9.0, 0.8
    anomaly[4:7, 40:43] = 0.0
    anomaly[30:36, 30:36] = 9.0
    anomaly[10:14, 20:22], anomaly[14:22, 17:25] = 9.0, 9.0
    outside = np.rot90(from_outside(np.rot90(anomaly, turns), np.rot90(picture, turns)), -turns)
    assert outside[:10].all() and not outside[15:].any()
    assert not from_outside(np.full((64, 64), 2.0, np.float32), picture).any()


@pytest.mark.parametrize("level", [40, 75, 190])
def test_a_background_is_what_most_of_it_is(detector: CadDetector, views: list, level: int) -> None:
    """A bar over a side has leverage on a sloping plane; the light of the rest is found as if it were not there."""
    form = detector.form
    for k, drawn in enumerate(views):
        view = form.drawn(placement_of(Scene.of(drawn.sample.scene), form.pivot), 64)
        wanted = lit(view, luminance(drawn.image).ravel())[1]
        behind = view.cover < 0.01
        assert np.abs(lit(view, luminance(barred(drawn.image, level, k)).ravel())[1] - wanted)[behind].max() < 0.01


def test_hidden_thumbs_match_what_the_rest_shows(rng: np.random.Generator) -> None:
    """Two routes: the share that least squares over the pixels that are seen leaves."""
    rows = np.stack([np.linalg.qr(rng.normal(size=(256, 6)))[0].T for _ in range(5)]).astype(np.float32)
    index = PoseIndex(np.empty((5, 3, 3)), torch.from_numpy(rows), np.empty((5, 4)), False)
    thumb = rng.normal(size=256)
    thumb[rng.random(256) < 0.2] = np.nan
    seen = np.isfinite(thumb)
    left = [np.linalg.lstsq(r[:, seen].T, thumb[seen], rcond=None)[1][0] for r in rows.astype(float)]
    np.testing.assert_allclose(index.distances(thumb), left / (thumb[seen] ** 2).sum(), atol=1e-3)


def test_hidden_pixels_say_nothing(detector: CadDetector, views: list) -> None:
    """Whatever stands where the picture is NaN, a refinement is the same, and their residual is 0."""
    picture = luminance(views[0].image)
    at = placement_of(Scene.of(views[0].sample.scene), detector.form.pivot)
    picture[:, :10] = np.nan
    refined = detector.gauge(picture, Fit(at, np.zeros(1), 0.0, 64))
    assert np.isfinite(refined.at.turn).all() and np.isfinite(refined.loss)
    assert np.array_equal(refined.seen, np.isfinite(picture).ravel())
    assert (refined.residual[~refined.seen] == 0).all()
    assert detector.form.symmetries.angle(refined.at.turn, at.turn) < 2
    assert all(np.isnan(level).any() for level in Pyramid.of(picture).levels.values())


def test_a_good_part_behind_a_bar_is_good(detector: CadDetector, views: list) -> None:
    """Its pose is found, the map shows nothing of the bar, and the report says how much of the part was hidden."""
    pictures = [Photograph(Path("bar.png"), barred(v.image, 90 + 20 * (k % 4), k), 64, 64) for k, v in enumerate(views)]
    found = detector.projected(pictures)
    dark = []  # where a bar is as bright as the part that it hides, a bite may be missing from what is found of it
    for picture, view, own in zip(pictures, views, found, strict=True):
        bar = (picture.pixels != view.image).all(2)
        dark.append(own.anomaly[bar].max() < detector.calibration.level)
        hides = own.refined.view.cover[~own.refined.seen].sum() > 0
        assert ("hidden" in (detector.report(picture, own).reason or "")) == hides
    assert np.mean(dark) >= HOLDS
    clear = detector.projected([Photograph(Path("view.png"), v.image, 64, 64) for v in views])
    near = [np.abs(a.refined.at.position - b.refined.at.position)[:2].max() < 0.5 for a, b in zip(found, clear, strict=True)]
    assert np.mean(near) >= HOLDS
    assert np.mean([detector.score(f) < 1.5 * detector.calibration.conformal.threshold for f in found]) >= HOLDS


@pytest.mark.parametrize("share", [0.37, 0.5, 0.8])
def test_what_is_hardly_seen_does_not_pass(detector: CadDetector, views: list, share: float) -> None:
    pictures = [Photograph(Path("bar.png"), barred(v.image, 110, k, share), 64, 64) for k, v in enumerate(views[:6])]
    assert all(found.verdict != "pass" for found, _, _ in detector.inspect(pictures))
