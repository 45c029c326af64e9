"""Finding the part, and the CAD form by its outline: against pictures whose answer is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

import cad
from detect.finding import finding
from detect.outline import Outlined, OutlineSearch, alike, normalised, stretched, turned_in_plane
from detect.silhouette import Silhouette, background, hole, silhouettes
from synth.drawable import Drawable
from synth.photograph import photograph
from synth.raycast import truth
from synth.scene import Scene, about, draw_scene, matrix, product
from train.cad_form import luminance

SIZE = 160


def board(rng: np.random.Generator, size: int = SIZE) -> np.ndarray:
    """A pale background that fades across the picture, with grain."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    return 0.62 + 0.06 * x - 0.04 * y * y + 0.006 * rng.standard_normal((size, size))


def disc(at: tuple[float, float], radius: float, size: int = SIZE) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    return np.hypot(x - at[0], y - at[1]) < radius


@pytest.fixture(scope="module")
def search(nut: cad.Part) -> OutlineSearch:
    return OutlineSearch(nut)


def pictured(nut: cad.Part, scene: Scene, mesh: cad.Mesh | None = None) -> np.ndarray:
    """(S, S) as a camera has it, in grey: dark on a pale board."""
    scene = replace(scene, color=(0.25, 0.25, 0.25), background=(0.75, 0.76, 0.75), shadows=True)
    return luminance(photograph(Drawable.of(mesh or nut.mesh()), scene, SIZE)) ** (1 / 2.2)


def found(search: OutlineSearch, grey: np.ndarray) -> tuple[Silhouette, Outlined]:
    seen = silhouettes(grey)[0]
    return seen, search(grey, seen)


# Finding it


def test_a_background_is_followed_under_a_part(rng: np.random.Generator) -> None:
    clean = board(np.random.default_rng(5))
    grey = np.where(disc((90, 70), 40), 0.2, board(rng))
    behind, deviation = background(grey)
    assert np.abs(behind - ndimage.gaussian_filter(clean, 5))[20:-20, 20:-20].mean() < 0.005
    assert deviation == pytest.approx(0.006, abs=0.003)


@pytest.mark.parametrize("level", [0.2, 0.95])
def test_a_disc_is_found_dark_or_bright(rng: np.random.Generator, level: float) -> None:
    wanted = disc((90, 70), 40)
    seen = silhouettes(np.where(wanted, level, board(rng)))[0]
    assert seen.reason is None
    assert (seen.mask & wanted).sum() / (seen.mask | wanted).sum() > 0.96
    assert seen.reach == pytest.approx(40, abs=1) and seen.middle == pytest.approx([90.5, 70.5], abs=0.5)


def test_a_part_as_bright_as_the_board_within_a_dark_rim_is_found_whole(rng: np.random.Generator) -> None:
    whole, face = disc((80, 80), 45), disc((80, 80), 41)
    bore = disc((80, 80), 20)
    grey = board(rng)
    grey[whole & ~face] -= 0.3
    grey[bore] -= 0.4  # sharper than the outline
    masks = [s.mask for s in silhouettes(ndimage.gaussian_filter(grey, 0.7))]
    assert max((m & whole).sum() / (m | whole).sum() for m in masks) > 0.95


def test_an_empty_board_shows_no_part(rng: np.random.Generator) -> None:
    only = silhouettes(board(rng))
    assert len(only) == 1 and not only[0].mask.any() and "no part is seen" in only[0].reason


def test_two_parts_are_told(rng: np.random.Generator) -> None:
    grey = np.where(disc((45, 80), 28) | disc((115, 80), 26), 0.2, board(rng))
    assert silhouettes(grey)[0].reason == "more than one part is in the picture"


def test_a_part_that_reaches_beyond_the_picture_is_told(rng: np.random.Generator) -> None:
    assert silhouettes(np.where(disc((20, 80), 45), 0.2, board(rng)))[0].reason == "the part reaches beyond the picture"


def test_a_hole_is_found_where_one_is_expected(rng: np.random.Generator) -> None:
    ring, bore = disc((80, 80), 45), disc((82, 79), 18)
    grey = ndimage.gaussian_filter(np.where(ring & ~bore, 0.2, board(rng)), 0.7)
    seen = silhouettes(grey)[0]
    piece = hole(grey, seen, disc((80, 80), 20))
    assert (piece & bore).sum() / (piece | bore).sum() > 0.8
    assert hole(np.where(ring, 0.2, board(rng)), silhouettes(np.where(ring, 0.2, board(rng)))[0], disc((80, 80), 20)) is None


# Shapes


def test_shapes_are_compared_whatever_their_place_and_size() -> None:
    small, large = disc((40, 50), 12), disc((90, 80), 50)
    assert alike(small, large) > 0.95
    oval = np.hypot((np.mgrid[:SIZE, :SIZE][1] - 80) / 1.5, np.mgrid[:SIZE, :SIZE][0] - 80) < 30
    assert alike(oval, large) < 0.88 and alike(oval, oval) == 1.0
    assert np.linalg.norm(normalised(large)) == pytest.approx(1.0) and not normalised(np.zeros((SIZE, SIZE), bool)).any()


# The form


@pytest.mark.parametrize("seed", range(3))
def test_a_good_part_is_found_where_it_is(nut: cad.Part, search: OutlineSearch, seed: int) -> None:
    """Its spin up to a sixth of a turn, after which it looks alike; its place to a part in a hundred of the picture."""
    scene = draw_scene(nut, nut.mesh(), np.random.default_rng(seed))
    grey = pictured(nut, scene)
    _, outlined = found(search, grey)
    known = truth(Drawable.of(nut.mesh()), scene, SIZE).feature > 0
    known, fitted = (ndimage.binary_fill_holes(m) for m in (known, outlined.ids > 0))
    assert outlined.iou > 0.97 and (known & fitted).sum() / (known | fitted).sum() > 0.97
    pivot = np.array([scene.pivot])
    there, here = (s.pixels(s.camera_points(pivot), SIZE)[0] for s in (scene, outlined.scene))
    assert np.abs(there - here).max() < 0.02 * SIZE
    spin = (
        turned_in_plane(outlined) - math.atan2(scene.rotation[1, 0] - scene.rotation[0, 1], scene.rotation[0, 0] + scene.rotation[1, 1])
    ) % (math.pi / 3)
    assert min(spin, math.pi / 3 - spin) < math.radians(3)


@pytest.mark.parametrize("factor", [0.7, 0.85])
def test_a_squashed_part_is_told_with_factor_and_direction(nut: cad.Part, search: OutlineSearch, factor: float) -> None:
    mesh, _ = nut.with_defect("squashed", np.random.default_rng(0), severity=factor)
    scene = draw_scene(nut, nut.mesh(), np.random.default_rng(1))
    good, bad = (found(search, pictured(nut, scene, m)) for m in (nut.mesh(), mesh))
    assert bad[1].loss > 2 * good[1].loss and bad[1].holes > 2 * good[1].holes
    assert stretched(*good, search) is None
    told, degrees = stretched(*bad, search)
    x = scene.rotation[:2, 0]  # along which it was squashed, in the picture
    wanted = math.degrees(math.atan2(x[1], x[0])) % 180
    if told > 1:  # as much as being longer across
        told, degrees = 1 / told, (degrees + 90) % 180
    assert told == pytest.approx(factor, abs=0.1)
    assert min(abs(degrees - wanted), 180 - abs(degrees - wanted)) <= 20


@pytest.mark.parametrize("level", [0.01, 10.0])
def test_findings_name_kind_place_and_dimensions_whatever_the_level(nut: cad.Part, search: OutlineSearch, level: float) -> None:
    squashed, _ = nut.with_defect("squashed", np.random.default_rng(0), severity=0.75)
    scene = draw_scene(nut, nut.mesh(), np.random.default_rng(1))
    told = finding(nut, search, *found(search, pictured(nut, scene, squashed)), level)
    assert told.kind == "out of tolerance" and told.where.any() and set(told.among) == {"body", "bore"}
    assert set(told.dimensions) == {"across_flats", "bore"} and not any(d["ok"] for d in told.dimensions.values())
    broken, _ = nut.with_defect("broken-ring", np.random.default_rng(2), severity=0.25)
    told = finding(nut, search, *found(search, pictured(nut, scene, broken)), min(level, 0.05))
    assert told.kind == "missing piece" and told.where.any() and told.among == ("body",) and not told.dimensions


def test_a_missing_piece_lies_where_the_outline_lacks_it(nut: cad.Part, search: OutlineSearch) -> None:
    mesh, record = nut.with_defect("broken-ring", np.random.default_rng(2), severity=0.25)
    scene = draw_scene(nut, nut.mesh(), np.random.default_rng(2))
    seen, outlined = found(search, pictured(nut, scene, mesh))
    y, x = np.nonzero(outlined.excess < -0.05)
    where, pivot = scene.pixels(scene.camera_points(np.array([record.where, scene.pivot])), SIZE)
    (px, py), (qx, qy) = np.array([x.mean(), y.mean()]) - pivot, where - pivot
    assert len(x) > 50 and abs(np.angle((px + 1j * py) / (qx + 1j * qy))) < math.radians(30)
    assert outlined.holes == 1.0  # the bore is open: there is no hole where one is expected
    assert stretched(seen, outlined, search) is None


def test_the_same_photograph_gives_the_same_form(nut: cad.Part, search: OutlineSearch) -> None:
    grey = pictured(nut, draw_scene(nut, nut.mesh(), np.random.default_rng(4)))
    (_, one), (_, two) = found(search, grey), found(search, grey)
    assert one.scene == two.scene and one.loss == two.loss


def test_a_turn_in_the_picture_is_read_off_a_pose(search: OutlineSearch) -> None:
    for degrees in (-100, 0, 35, 170):
        turn = about(np.array([0.0, 0.0, 1.0]), math.radians(degrees))
        scene = search.scene(turn, (0.0, 0.0), 0.0)
        assert matrix(product(turn, np.array([1.0, 0, 0, 0]))) == pytest.approx(scene.rotation)
        outlined = Outlined(scene, 0, 0, np.zeros((2, 2), np.uint8), np.zeros((2, 2)), 1, 0)
        assert math.degrees(turned_in_plane(outlined)) == pytest.approx(degrees)
