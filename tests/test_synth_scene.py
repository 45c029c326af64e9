"""Scenes: turns, directions, cameras, and the value that is saved."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cad
from cad.part import SHELF
from cad.views import Turn
from synth.scene import Scene, about, between, draw_scene, matrix, product, random_rotation, within

CAP = (SHELF / "notched_cap.yaml").read_text(encoding="utf-8")
SCENE = Scene((1.0, 0.0, 0.0, 0.0), (1.0, 2.0, 3.0), (0.0, 0.0, -50.0), 40.0, None, (0.0, 0.0, 1.0), 0.3, (0.7, 0.7, 0.7), 0.5, 0.0, (0.0, 0.0, 0.0))  # fmt: skip

seeds = st.integers(0, 2**32 - 1)


def some_turn(seed: int) -> np.ndarray:
    return random_rotation("any", np.random.default_rng(seed))


def some_direction(seed: int) -> np.ndarray:
    vector = np.random.default_rng(seed).normal(size=3)
    return vector / np.linalg.norm(vector)


def viewed(views: str) -> cad.Part:
    """The cap with another ``views`` block."""
    return cad.parse(CAP.split("views:")[0] + f"views: {views}\n")


# Quaternions. 1e-12: a few roundings of numbers up to 1


@given(seeds)
def test_a_turn_is_a_rotation_matrix(seed: int) -> None:
    m = matrix(some_turn(seed))
    assert m @ m.T == pytest.approx(np.eye(3), abs=1e-12)
    assert np.linalg.det(m) == pytest.approx(1, abs=1e-12)


@given(seeds, seeds)
def test_the_matrix_of_a_product_is_the_product_of_the_matrices(first: int, second: int) -> None:
    q, p = some_turn(first), some_turn(second)
    assert matrix(product(q, p)) == pytest.approx(matrix(q) @ matrix(p), abs=1e-12)


@given(seeds)
def test_a_turn_and_its_opposite_are_one_turn(seed: int) -> None:
    q = some_turn(seed)
    assert matrix(-q) == pytest.approx(matrix(q), abs=1e-12)
    assert matrix(product(q, q * [1, -1, -1, -1])) == pytest.approx(np.eye(3), abs=1e-12)


@given(seeds, st.floats(-10, 10))
def test_a_turn_about_an_axis_leaves_the_axis_and_turns_by_the_angle(seed: int, angle: float) -> None:
    axis = some_direction(seed)
    m = matrix(about(axis, angle))
    assert m @ axis == pytest.approx(axis, abs=1e-12)
    assert np.trace(m) == pytest.approx(1 + 2 * math.cos(angle), abs=1e-12)


def test_a_turn_is_right_handed() -> None:
    assert matrix(about(np.array([0.0, 0.0, 1.0]), math.pi / 2)) @ [1, 0, 0] == pytest.approx([0, 1, 0], abs=1e-12)


@given(seeds, seeds)
def test_the_turn_between_two_directions_takes_one_to_the_other_by_the_shortest_way(first: int, second: int) -> None:
    a, b = some_direction(first), some_direction(second)
    q = between(3 * a, 0.1 * b)
    assert matrix(q) @ a == pytest.approx(b, abs=1e-7)  # near-opposite directions cancel to half the digits
    assert 2 * math.acos(min(1, q[0])) == pytest.approx(math.acos(np.clip(a @ b, -1, 1)), abs=1e-6)


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, -1), (0.6, 0, 0.8)])
def test_opposite_directions_are_half_a_turn_apart(axis: tuple[float, float, float]) -> None:
    a = np.array(axis, float)
    assert matrix(between(a, -a)) @ a == pytest.approx(-a, abs=1e-12)
    assert matrix(between(a, a)) == pytest.approx(np.eye(3), abs=1e-12)


# Draws


def test_free_rotations_are_uniform(rng: np.random.Generator) -> None:
    matrices = np.array([matrix(random_rotation("any", rng)) for _ in range(6000)])
    # over SO(3) every entry has mean 0 and mean square 1/3; of 6000 draws these stray by 0.0075 and 0.004 (one sigma)
    assert abs(matrices.mean(0)).max() < 0.035
    assert abs((matrices**2).mean(0) - 1 / 3).max() < 0.02
    # the angle of a uniform turn has density (1 - cos a) / pi
    angles = np.arccos(np.clip((np.trace(matrices, axis1=1, axis2=2) - 1) / 2, -1, 1))
    edges = np.linspace(0, np.pi, 9)
    expected = np.diff(edges - np.sin(edges)) / np.pi
    assert np.histogram(angles, edges)[0] / 6000 == pytest.approx(expected, abs=0.025)  # four sigma of the fullest bin


@pytest.mark.parametrize("axis", [(0, 0, 1), (1, 0, 0), (1, 2, -3)])
def test_a_tilt_stays_within_its_bounds(axis: tuple[float, float, float], rng: np.random.Generator) -> None:
    turn, along = Turn(axis=axis, spin=(0, 360), tilt=(10, 25)), np.array(axis) / np.linalg.norm(axis)
    ups = np.array([matrix(random_rotation(turn, rng)) @ along for _ in range(400)])
    tilts = np.degrees(np.arccos(ups[:, 2]))
    assert 10 - 1e-9 <= tilts.min() < 10.5
    assert 24.5 < tilts.max() <= 25 + 1e-9
    assert np.linalg.norm(ups[:, :2].mean(0)) < 0.06  # to all sides: sin(25) / sqrt(400), three times


def test_without_tilt_the_axis_faces_the_camera_and_the_part_spins_within_its_bounds(rng: np.random.Generator) -> None:
    turn = Turn(axis=(0, 0, 1), spin=(30, 60))
    xs = np.array([matrix(random_rotation(turn, rng)) @ [1, 0, 0] for _ in range(200)])
    spins = np.degrees(np.arctan2(xs[:, 1], xs[:, 0]))
    assert xs[:, 2] == pytest.approx(0, abs=1e-12)
    assert 30 <= spins.min() < 31
    assert 59 < spins.max() <= 60


@pytest.mark.parametrize("spread", [0.0, 10.0, 90.0, 180.0])
def test_a_direction_stays_in_its_cone_and_fills_it_evenly(spread: float, rng: np.random.Generator) -> None:
    direction = np.array([0.4, 0.5, 0.77])
    drawn = np.array([within(direction, spread, rng) for _ in range(1000)])
    assert np.linalg.norm(drawn, axis=1) == pytest.approx(1, abs=1e-12)
    up = drawn @ direction / np.linalg.norm(direction)
    low = math.cos(math.radians(spread))
    assert up.min() >= low - 1e-12
    # Archimedes: the height above the cap's rim is uniform; the mean of 1000 strays by 0.009 of the range
    assert up.mean() == pytest.approx((1 + low) / 2, abs=0.03 * (1 - low) + 1e-12)


def test_the_same_generator_draws_the_same_scene(cap: cad.Part) -> None:
    first, again, other = (draw_scene(cap, cap.mesh(), np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert first == again != other


# Scenes from a part's views


def test_a_drawn_scene_is_what_the_views_say(cap: cad.Part, rng: np.random.Generator) -> None:
    mesh = cap.mesh()
    for _ in range(20):
        scene = draw_scene(cap, mesh, rng)
        assert (scene.field, scene.angle, scene.ambient, scene.color) == (40.0, None, 0.25, (0.82, 0.82, 0.84))
        assert scene.pivot == pytest.approx(mesh.bounds.mean(0))
        assert math.hypot(*scene.quaternion) == pytest.approx(1, abs=1e-12)
        lamp = np.array([0.4, 0.5, 0.77]) / np.linalg.norm([0.4, 0.5, 0.77])
        assert np.degrees(np.arccos(min(1.0, lamp @ scene.light))) <= 10 + 1e-6


@pytest.mark.parametrize("projection", ["orthographic", "perspective"])
def test_fill_is_the_parts_share_of_the_image(projection: str, rng: np.random.Generator) -> None:
    part = viewed(f"{{rotation: any, camera: {{projection: {projection}, fill: [0.6, 0.6]}}}}")
    mesh = part.mesh()
    for _ in range(10):
        scene = draw_scene(part, mesh, rng)
        points = scene.pixels(scene.camera_points(mesh.vertices), 100)
        extent = np.ptp(points, axis=0).max()
        # perspective measures at the pivot: of 3 part sizes away, what is half a part nearer looks a fifth larger
        assert extent == pytest.approx(60, abs=1e-9) if projection == "orthographic" else extent == pytest.approx(60, rel=0.25)


@pytest.mark.parametrize("camera", ["projection: perspective, angle: 20, fill: [0.5, 0.8]", "projection: perspective, angle: 140, fill: [1.5, 1.5]", "fill: [0.2, 1.5]"])  # fmt: skip
def test_the_part_lies_before_the_camera(camera: str, rng: np.random.Generator) -> None:
    part = viewed(f"{{camera: {{{camera}, offset: 0.5}}}}")
    for _ in range(20):
        assert draw_scene(part, part.mesh(), rng).camera_points(part.mesh().vertices)[:, 2].max() < 0


@pytest.mark.parametrize("camera", ["field: 40", "projection: perspective, fill: [0.5, 0.8]"])
def test_the_pivot_strays_from_the_middle_by_the_offset_at_most(camera: str, rng: np.random.Generator) -> None:
    part = viewed(f"{{camera: {{{camera}, offset: 0.15}}}}")
    mesh = part.mesh()
    scenes = [draw_scene(part, mesh, rng) for _ in range(200)]
    at = np.array([s.pixels(s.camera_points(np.array([s.pivot])), 100)[0] for s in scenes]) - 50
    assert 14 < abs(at).max() <= 15 + 1e-9


# Points and pixels


@given(seeds)
def test_the_pivot_lands_on_the_position_and_distances_are_kept(seed: int) -> None:
    scene = replace(SCENE, quaternion=tuple(some_turn(seed)))
    points = np.random.default_rng(seed).normal(size=(5, 3)) * 20
    landed = scene.camera_points(points)
    assert scene.camera_points(np.array([scene.pivot]))[0] == pytest.approx(scene.position, abs=1e-12)
    assert np.linalg.norm(landed - scene.position, axis=1) == pytest.approx(np.linalg.norm(points - scene.pivot, axis=1), rel=1e-12)


def test_pixels_run_right_and_down_from_the_outer_corner() -> None:
    points = np.array([[0, 0, -50], [-20, 20, -50], [20, -20, -10], [10, 0, -50], [0, 10, -50.0]])
    assert SCENE.pixels(points, 64) == pytest.approx(np.array([[32, 32], [0, 0], [64, 64], [48, 32], [32, 16]]))


def test_a_perspective_camera_sees_its_angle() -> None:
    scene = replace(SCENE, field=None, angle=90.0)
    points = np.array([[50, 50, -50], [25, 0, -50], [25, 0, -25.0]])
    assert scene.pixels(points, 64) == pytest.approx(np.array([[64, 0], [48, 32], [64, 32]]))


@pytest.mark.parametrize("scene", [SCENE, replace(SCENE, field=None, angle=35.0)])
def test_pixels_per_mm_is_the_scale_at_the_pivot(scene: Scene) -> None:
    a, b = scene.pixels(np.array([[0, 0, -50], [1, 0, -50.0]]), 128)
    assert b[0] - a[0] == pytest.approx(scene.pixels_per_mm(128), rel=1e-12)


def test_both_cameras_agree_at_the_depth_of_the_pivot() -> None:
    angle = 2 * math.degrees(math.atan(20 / 50))
    points = np.array([[3, 4, -50], [-10, 5, -50.0]])
    assert replace(SCENE, field=None, angle=angle).pixels(points, 64) == pytest.approx(SCENE.pixels(points, 64), rel=1e-12)


# Saved and read


@pytest.mark.parametrize("name", cad.shelf())
def test_a_scene_survives_json(name: str, rng: np.random.Generator) -> None:
    part = cad.load(name)
    scene = draw_scene(part, part.mesh(), rng)
    assert Scene.of(json.loads(json.dumps(scene.json(), allow_nan=False))) == scene


def test_a_scene_with_an_unknown_field_is_refused() -> None:
    with pytest.raises(TypeError, match="bellows"):
        Scene.of({**SCENE.json(), "bellows": 50})
