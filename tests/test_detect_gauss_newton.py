"""The descent's derivatives against finite differences, its light against a light that is known, its poses against the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import cad
from detect.cad_descent import Fit, Pyramid, Search, foreground, part_box
from detect.gauss_newton import fill_jacobian, turned
from detect.opening import open_detector
from synth.drawable import Drawable
from synth.raycast import draw
from synth.sampling import Recipe, draw_sample
from synth.scene import Scene, matrix, random_rotation
from train.cad_form import CadForm, build_form, luminance, placement_of
from train.reflectance import basis
from train.shading import EXTRA, Placement, lit, ridge, sheet, solve_light

SIZE, SAMPLES = 48, 12


@pytest.fixture(scope="module")
def form(form_folder: Path) -> CadForm:
    return open_detector(form_folder).form


def light_of(count: int, rng: np.random.Generator) -> np.ndarray:
    return np.r_[0.6, 0.1 * rng.normal(size=count - 1), 0.05 * rng.normal(size=3), 0.2, 0.1, -0.1]


@pytest.mark.parametrize("perspective", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_jacobian_agrees_with_finite_differences(form: CadForm, perspective: bool, seed: int) -> None:
    """Both smoothed over a pixel: the picture has steps where a ray leaves the part, so its differences are grains there. At a round
    limb the last ray that meets the part lies somewhat before the limb: tilts fall short by some per cent, less with more rays."""
    rng = np.random.default_rng(seed)
    scale = 1.8 if perspective else 1 / 40
    start = Placement(matrix(random_rotation("any", rng)), np.array([1.0, -2.0, -90.0]), scale, perspective)
    light = light_of(form.table.shape[2], rng)

    def picture(k: int, by: float) -> np.ndarray:
        turn = turned.py_func(by * np.eye(3)[k]) @ start.turn if k < 3 else start.turn
        position = start.position + (by * np.eye(3)[k - 3] if k in (3, 4) else 0.0)
        position = position * [1, 1, np.exp(by) if k == 5 else 1]
        at = Placement(turn, position, start.scale * (np.exp(by) if k == 6 else 1.0), perspective)
        return sheet(form.item, form.pivot, at, form.table, form.hollow, SIZE, SAMPLES).columns[:, : len(light)] @ light

    view = sheet(form.item, form.pivot, start, form.table, form.hollow, SIZE, SAMPLES)
    found = np.empty((SIZE**2, 7))
    fill_jacobian(view.near, view.face, view.slope, light, view.dark(light), form.table, form.hollow, start.position, scale * SIZE, perspective, SIZE, SAMPLES, found)  # fmt: skip
    for k, step in enumerate((0.02, 0.02, 0.02, 0.3, 0.3, 0.01, 0.01)):
        if k == 5 and not perspective:
            assert not found[:, 5].any()  # distance changes nothing
            continue
        wanted = (picture(k, step) - picture(k, -step)) / (2 * step)
        a, b = (gaussian_filter(v.reshape(SIZE, SIZE), 1.0).ravel() for v in (wanted, found[:, k]))
        assert np.corrcoef(a, b)[0, 1] > 0.93, k
        assert (a @ b) / (a @ a) == pytest.approx(1, abs=0.15), k


def test_a_light_is_found_again_whatever_a_tenth_of_the_pixels_say(form: CadForm, rng: np.random.Generator) -> None:
    view = sheet(form.item, form.pivot, Placement(matrix(random_rotation("any", rng)), form.reference.position, 1 / 40, False), form.table, form.hollow, 64, 2)  # fmt: skip
    light = light_of(form.table.shape[2], rng)
    wanted = view.columns @ light
    spoilt = wanted.copy()
    spoilt[rng.random(len(spoilt)) < 0.1] = rng.uniform(0, 1)
    np.testing.assert_allclose(lit(view, spoilt, sigma=1e-3, rounds=12)[1], wanted, atol=0.02)


def test_closed_form_light_is_the_least_squares_one(rng: np.random.Generator) -> None:
    """With residuals far below sigma all weights are alike: numpy's own ridge solution."""
    columns, image = rng.normal(size=(300, 5)), rng.normal(size=300)
    own, light, made, weight = np.full(5, 3.0), np.zeros(5), np.empty(300), np.empty(300)
    image[200:] = np.nan  # hidden
    solve_light(columns, image, own, 4, 1e9, 0.0, 1e4, 1, light, made, weight)
    seen = columns[:200]
    wanted = np.linalg.solve(seen.T @ seen * 1e-4 + 3 * np.eye(5), seen.T @ image[:200] * 1e-4)
    np.testing.assert_allclose(light, wanted, rtol=1e-5)
    np.testing.assert_allclose(made, columns @ light)


def test_the_part_files_light_is_in_the_basis(cap: cad.Part, rng: np.random.Generator) -> None:
    """Lambert with the file's lamp anywhere in its spread, on all normals: within 2 % of its mean."""
    from synth.scene import within
    from train.reflectance import normals

    grid, inside = normals()
    table = basis(cap.views)[inside]
    for _ in range(5):
        lamp = within(np.asarray(cap.views.light.direction), cap.views.light.spread, rng)
        wanted = (0.25 + 0.75 * np.clip(grid @ lamp, 0, None))[inside]
        found = table @ np.linalg.lstsq(table, wanted, rcond=None)[0]
        assert np.sqrt(np.mean((found - wanted) ** 2)) < 0.02 * wanted.mean()


def test_the_basis_is_the_same_each_time(cap: cad.Part) -> None:
    np.testing.assert_array_equal(basis(cap.views), basis(cap.views))


def test_a_descent_does_not_move_from_the_truth(form: CadForm, cap: cad.Part) -> None:
    """Its own picture, at its own pose: the loss is 0 and stays."""
    search = Search(form)
    at = Placement(matrix(random_rotation("any", np.random.default_rng(3))), form.reference.position, 1 / 40, False)
    light = light_of(form.table.shape[2], np.random.default_rng(4))
    picture = (form.drawn(at, 64).columns @ light).reshape(64, 64)
    start = Fit(at, np.zeros(len(ridge(form.table.shape[2]))), np.inf, 0)
    found = search._descended(Pyramid.of(picture), [start], 64, 6, 0.1, None, "")[0]
    assert found.loss < 2e-3
    assert form.symmetries.angle(found.at.turn, at.turn) < 0.3


def test_poses_are_found_from_nothing_but_the_picture(form: CadForm, cap: cad.Part) -> None:
    """The direction of the part's axis within 2 degrees in 95 % of good views at 64 px, within 1 in most. (The spin about it may not show.)"""
    detector_errors = []
    search, recipe = Search(form), Recipe(60, 0, size=64, seed=21)
    for k in range(60):
        drawn = draw_sample(cap, recipe, "train", "good", k)
        found = search(Pyramid.of(luminance(drawn.image)))[0]
        truth = placement_of(Scene.of(drawn.sample.scene), form.pivot)
        detector_errors.append(np.degrees(np.arccos(np.clip(found.at.turn[:, 2] @ truth.turn[:, 2], -1, 1))))
    assert np.quantile(detector_errors, 0.95) < 2.0
    assert np.median(detector_errors) < 1.0


def test_place_and_scale_are_found_where_the_file_leaves_them_open(nut: cad.Part) -> None:
    """Perspective, anywhere within the offset, any distance within the fill: position within 1 % of the field."""
    form, _ = build_form(nut, 64)
    assert form.index.boxed
    search, recipe = Search(form), Recipe(12, 0, size=64, seed=2)
    off, turn = [], []
    for k in range(12):
        drawn = draw_sample(nut, recipe, "train", "good", k)
        truth = placement_of(Scene.of(drawn.sample.scene), form.pivot)
        found = search(Pyramid.of(luminance(drawn.image)))[0]
        width = -truth.position[2] / truth.scale
        off.append(np.abs(found.at.position - truth.position)[:2].max() / width)
        turn.append(form.symmetries.angle(found.at.turn, truth.turn))
    assert np.median(off) < 0.01 and max(off) < 0.05
    assert np.median(turn) < 5  # a tilt of a few degrees hardly shows in a flat nut


def test_the_box_of_a_part_on_a_slanted_background(cap: cad.Part, rng: np.random.Generator) -> None:
    drawn = draw_sample(cap, Recipe(1, 0, size=96), "train", "good", 0)
    picture = luminance(drawn.image)
    part = picture > 0.02
    y, x = np.mgrid[:96, :96] / 96
    noisy = np.where(part, picture, 0.1 + 0.1 * x - 0.05 * y) + 0.004 * rng.normal(size=picture.shape)
    overlap = (foreground(noisy) & part).sum() / (foreground(noisy) | part).sum()
    assert overlap > 0.85  # an edge pixel more or less all round
    rows, columns = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
    wanted = [(columns[0] + columns[-1] + 1) / 192 - 0.5, 0.5 - (rows[0] + rows[-1] + 1) / 192, np.ptp(columns) / 96, np.ptp(rows) / 96]
    np.testing.assert_allclose(part_box(noisy), wanted, atol=0.06)  # its darkest rim is as dark as the background


def test_rotation_vectors_are_turns(rng: np.random.Generator) -> None:
    for size in (0.0, 1e-10, 0.1, 3.0):
        vector = rng.normal(size=3)
        vector *= size / np.linalg.norm(vector)
        turn = turned.py_func(vector)
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
        assert np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))) == pytest.approx(np.degrees(size), abs=1e-4)


def test_columns_add_up_to_the_renderers_own_picture(cap: cad.Part, form: CadForm) -> None:
    """Two routes to one picture: the renderer's own shading, and reflectance maps weighted by a light."""
    mesh = cap.mesh()
    drawn = draw_sample(cap, Recipe(1, 0, size=64), "train", "good", 4)
    scene = Scene.of(drawn.sample.scene)
    picture = luminance(draw(Drawable.of(mesh), scene, 64, samples=2)).ravel()
    made = lit(form.drawn(placement_of(scene, form.pivot), 64), picture)[1]
    assert np.sqrt(np.mean((made - picture) ** 2)) < 0.02
    assert form.table.shape[2] + EXTRA == len(ridge(form.table.shape[2]))
