"""Pose, light and dimensions together: bounds, standard errors, dimensions out of tolerance."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, maximum_filter

import cad
from detect.cad_descent import Fit
from detect.cad_detector import CadDetector
from detect.gauss_newton import PARAMETERS
from detect.least_squares import SPREAD, Problem
from detect.look import blurred, despeckled
from detect.opening import open_detector
from synth.sampling import Recipe, draw_sample
from synth.scene import Scene, about, matrix, random_rotation
from train.cad_form import luminance, placement_of
from train.reflectance import normals
from train.residual_noise import kinds
from train.shading import EXTRA, lit, narrowed
from train.symmetry import turned_about

SIZE = 16


@pytest.fixture(scope="module")
def detector(form_folder: Path) -> CadDetector:
    return open_detector(form_folder)


def problem(rng: np.random.Generator, dimensions: int) -> Problem:
    """Random rows: only the algebra counts."""
    pixels, maps = SIZE**2, 3
    deviation = rng.uniform(0.5, 2, pixels)
    return Problem(
        SimpleNamespace(maps=maps, size=SIZE, lost=()), np.zeros(pixels), rng.normal(size=pixels), deviation, np.empty(0), rng.normal(size=(pixels, PARAMETERS)),
        rng.normal(size=(pixels, maps + EXTRA)), rng.normal(size=(pixels, dimensions)) * 0.2, rng.normal(size=maps + EXTRA), (np.ones(PARAMETERS), np.zeros(PARAMETERS)),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_a_bounded_move_is_the_best_one_within_the_tolerances(seed: int) -> None:
    """The conditions of Karush, Kuhn and Tucker: no pull on what is free, and at a limit none but outwards."""
    rng = np.random.default_rng(seed)
    own = problem(rng, 4)
    within, precision = rng.uniform(-1, 1, 4), np.full(4, SPREAD)
    move = own.bounded(precision, within)
    to = within + own.own(move)
    left, right = own._held(precision, within)
    pull = right - left @ move
    assert np.abs(to).max() <= 1 + 1e-9
    assert np.allclose(pull[: own.first], 0, atol=1e-6)
    free = np.abs(to) < 1 - 1e-9
    assert np.allclose(pull[own.first :][free], 0, atol=1e-6)
    assert (pull[own.first :][~free] * np.sign(to[~free]) >= -1e-6).all()


def test_without_dimensions_a_bounded_move_is_the_unbounded_one(rng: np.random.Generator) -> None:
    own = problem(rng, 0)
    assert np.allclose(own.bounded(np.empty(0), np.empty(0)), own.solve(np.empty(0), np.empty(0)))


@pytest.mark.parametrize("count", [1, 3, 9])
@pytest.mark.parametrize("sigma", [0.3, 0.75, 1.4])
def test_blur_is_the_gaussian_filter(rng: np.random.Generator, sigma: float, count: int) -> None:
    rows = rng.normal(size=(SIZE**2, count))
    expected = gaussian_filter(rows.reshape(SIZE, SIZE, count), (sigma, sigma, 0), mode="nearest", truncate=3.0)
    assert np.allclose(blurred(rows, SIZE, sigma), expected.reshape(rows.shape), atol=1e-12)


def test_a_narrowed_light_makes_the_same_picture(detector: CadDetector, cap: cad.Part, rng: np.random.Generator) -> None:
    form = detector.form
    light = rng.normal(size=form.table.shape[2] + EXTRA + 1)  # and a lamp's shadow
    lamps = np.array([[0.6, 0.0, 0.8]])
    drawn = draw_sample(cap, Recipe(0, 1, size=64, seed=3), "test", "good", 0)
    at = placement_of(Scene.of(drawn.sample.scene), form.pivot)
    table, narrow = narrowed(form.table, light)
    wide = form.drawn(at, 64, lamps=lamps).columns @ light
    assert np.allclose(form.drawn(at, 64, table=table, lamps=lamps).columns @ narrow, wide, atol=1e-5)


def at_the_truth(detector: CadDetector, cap: cad.Part, label: str, count: int, **severities: list[float]) -> list:
    """(picture, true placement, sample) of views whose defect shows."""
    recipe, found = Recipe(0, count, size=64, seed=57, severities=severities), []
    for k in range(count):
        drawn = draw_sample(cap, recipe, "test", label, k)
        if not drawn.sample.hidden:
            found.append((luminance(drawn.image), placement_of(Scene.of(drawn.sample.scene), detector.form.pivot), drawn.sample))
    return found


def test_a_dimension_out_of_tolerance_gains_where_it_is_and_none_does_elsewhere(detector: CadDetector, cap: cad.Part) -> None:
    gauge = detector.gauge
    short = at_the_truth(detector, cap, "short-notch", 12, **{"short-notch": [-2.0]})
    suspects = [gauge.suspect(gauge(p, Fit(at, np.zeros(1), 0.0, 64))) for p, at, _ in short]
    good = [gauge.suspect(gauge(p, Fit(at, np.zeros(1), 0.0, 64))) for p, at, _ in at_the_truth(detector, cap, "good", 12)]
    named = [gain > 8 and name.startswith("notch") and by < 0 for gain, name, by in suspects]
    assert np.mean(named) >= 0.8
    assert np.quantile([g[0] for g in good], 0.9) < np.median([s[0] for s in suspects])
    assert all((gain == 0) == (name is None) and gain >= 0 for gain, name, _ in good + suspects)


def test_settling_spins_back_what_was_turned(detector: CadDetector, cap: cad.Part) -> None:
    """Three degrees off about the cap's axis, where the notch shows: never a worse form, and most come back."""
    gauge, form = detector.gauge, detector.form
    back = []
    for picture, true, _ in at_the_truth(detector, cap, "good", 16):
        if true.turn[2, 1] < 0.6 or abs(true.turn[2, 2]) > 0.6:  # the notch faces the camera
            continue
        off = turned_about(true, matrix(about(form.symmetries.axes[0], np.radians(3.0))), form.corners)
        fit = Fit(off, np.zeros(1), 0.0, 64)
        settled = gauge.settled(picture, fit)
        assert settled.loss <= gauge(picture, fit).loss
        back.append(form.symmetries.angle(settled.at.turn, true.turn) < 1.5)
    assert len(back) >= 2 and np.mean(back) >= 0.75


def test_impulses_are_taken_out_and_nothing_else_is(cap: cad.Part, rng: np.random.Generator) -> None:
    """A picture without them comes back as it is; with a tenth of its pixels replaced, most of the harm is undone."""
    for k in range(4):
        clean = luminance(draw_sample(cap, Recipe(0, 4, size=64, seed=5), "test", "short-notch", k).image)
        assert despeckled(clean) is clean
        spoilt = np.where(rng.random(clean.shape) < 0.1, rng.random(clean.shape), clean)
        assert np.abs(despeckled(spoilt) - clean).mean() < 0.25 * np.abs(spoilt - clean).mean()


def test_places_that_are_far_worse_are_not_asked_closely(detector: CadDetector, cap: cad.Part) -> None:
    """The first's own loss and its like are known; a tilt by a quarter turn is not worth a closer look."""
    form = detector.form
    for picture, true, _ in at_the_truth(detector, cap, "good", 4):
        first = detector.gauge(picture, Fit(true, np.zeros(1), 0.0, 64))
        tilted = turned_about(true, matrix(about(np.array([1.0, 0.0, 0.0]), np.pi / 2)), form.corners)
        losses = detector.gauge.compared(picture, first, [first.at, first.at, tilted])
        assert np.isfinite(losses[:2]).all() and losses[0] == losses[1] and losses[2] > losses[0] + 0.05


def test_a_saturated_highlight_is_told_from_its_flanks(detector: CadDetector, rng: np.random.Generator) -> None:
    """Where the camera cannot tell how bright it is, the picture is as bright as can be, and the rest is what it was."""
    form = detector.form
    for k in range(4):
        at = replace(form.reference, turn=matrix(random_rotation("any", rng)))
        power = np.clip(normals(len(form.table))[0] @ unit(rng.normal(size=3) * [0.4, 0.4, 0] + [0, 0, 1]), 0, None) ** 60
        view = form.drawn(at, 64, table=np.concatenate([form.table, power[..., None].astype(np.float32)], 2))
        light = np.zeros(view.columns.shape[1])
        light[0], light[form.table.shape[2]] = 0.3, 3.0
        wanted = np.minimum(view.columns @ light, 1.0)
        made = lit(view, wanted, rounds=20)[1]
        full = wanted >= 0.97
        assert np.abs(made - wanted)[~full].mean() < 0.01, k
        assert not full.any() or (made[full] > 0.9).mean() > 0.8, k


def test_kinds_of_pixels_by_another_route(detector: CadDetector, cap: cad.Part) -> None:
    """As numpy and scipy make them of whole arrays."""
    form = detector.form
    ((picture, at, _),) = at_the_truth(detector, cap, "good", 1)
    view = form.drawn(at, 64)
    light, made, _ = lit(view, picture.ravel())
    found = kinds(view, made, light, form.table, form.hollow).reshape(64, 64, -1)
    whole = made.reshape(64, 64)
    padded = np.pad(whole, 1, mode="edge")
    around = [padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1]]
    step = np.max([np.abs(side - whole) for side in around], axis=0)
    hidden = np.where(view.face >= 0, form.hollow[view.face], 0.0).reshape(64, view.samples, 64, view.samples).mean((1, 3))
    np.testing.assert_allclose(found[..., 1], whole**2)
    np.testing.assert_allclose(found[..., 2], step**2, atol=1e-15)
    np.testing.assert_allclose(found[..., 4], maximum_filter(step, 3) ** 2, atol=1e-15)
    np.testing.assert_allclose(found[..., 6], (hidden * whole) ** 2, atol=1e-15)
    assert (found[..., 0] == 1).all() and (found >= 0).all()
    assert (found[view.cover.reshape(64, 64) == 0][:, [3, 5, 6]] == 0).all()


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)
