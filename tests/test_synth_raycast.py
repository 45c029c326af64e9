"""The renderer against geometry that is known: spheres, boxes, turns of the whole scene."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

import cad
from cad.mesh import Mesh
from cad.solids import SOLIDS
from synth.color import linear, srgb
from synth.drawable import Drawable
from synth.raycast import draw, outline, truth
from synth.scene import Scene, about, draw_scene, matrix, product, random_rotation

AHEAD = Scene((1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, -50.0), 20.0, None, (0.0, 0.0, 1.0), 0.3, (0.7, 0.6, 0.5), 1.0, 0.0, (0.1, 0.2, 0.3))  # fmt: skip


def item(solid: str, *, chord: float = 0.002, **values: object) -> Drawable:
    made = SOLIDS[solid](**values, chord=chord).as_original()
    return Drawable.of(Mesh.of(made, {made.original_id(): 1}, (solid,)))


@pytest.fixture(scope="module")
def ball() -> Drawable:
    return item("sphere", radius=6.0)


@pytest.fixture(scope="module")
def block() -> Drawable:
    return item("box", size=(8.0, 6.0, 4.0))


@pytest.fixture(scope="module")
def drawn_cap(cap: cad.Part) -> Drawable:
    return Drawable.of(cap.mesh())


def turned(scene: Scene, seed: int) -> Scene:
    return replace(scene, quaternion=tuple(map(float, random_rotation("any", np.random.default_rng(seed)))))


def middles(size: int, field: float) -> tuple[np.ndarray, np.ndarray]:
    """x and y in mm of each pixel's middle, orthographic."""
    line = (np.arange(size) + 0.5) * field / size - field / 2
    return np.meshgrid(line, -line)


# Silhouettes


@pytest.mark.parametrize("seed", range(3))
def test_the_silhouette_of_a_sphere_is_its_disc(ball: Drawable, seed: int) -> None:
    size = 400
    seen = truth(ball, turned(AHEAD, seed), size).feature > 0
    # counting pixel middles errs by about the root of the perimeter's 750 pixels: 40 of 45,000
    assert seen.sum() * (20 / size) ** 2 == pytest.approx(math.pi * 36, rel=2e-3)
    x, y = middles(size, 20.0)
    inside = np.hypot(x, y) < 6 - 0.01  # facets lie up to twice the chord inside the sphere
    outside = np.hypot(x, y) > 6
    assert seen[inside].all()
    assert not seen[outside].any()


@pytest.mark.parametrize("angle", [20.0, 60.0])
def test_the_silhouette_of_a_sphere_in_perspective_is_the_cone_that_touches_it(ball: Drawable, angle: float) -> None:
    size = 400
    half = math.tan(math.asin(6 / 50))  # of the touching cone
    field = 2 * math.tan(math.radians(angle) / 2)
    seen = truth(ball, replace(AHEAD, field=None, angle=angle), size).feature > 0
    assert seen.sum() * (field / size) ** 2 == pytest.approx(math.pi * half**2, rel=5e-3)  # the smaller has a perimeter of 430 pixels


@pytest.mark.parametrize("seed", range(3))
def test_a_part_covers_the_hull_of_a_box(block: Drawable, seed: int) -> None:
    scene, size = turned(AHEAD, seed), 256
    seen = truth(block, scene, size).feature > 0
    area = (abs(scene.rotation[2]) * [6 * 4, 8 * 4, 8 * 6]).sum()  # three faces, each by the cosine it is seen under
    assert seen.sum() * (20 / size) ** 2 == pytest.approx(area, rel=0.01)


# Depth and normals


def test_the_depth_of_a_box_face_is_exact(block: Drawable) -> None:
    buffers = truth(block, AHEAD, 64)
    hit = buffers.feature > 0
    assert np.unique(buffers.depth[hit]) == pytest.approx([48.0], rel=1e-6)  # stored as float32
    assert buffers.normal[hit] == pytest.approx(np.broadcast_to([0, 0, 1], (hit.sum(), 3)), abs=1e-6)
    x, y = middles(64, 20.0)
    assert np.array_equal(hit, (abs(x) < 4) & (abs(y) < 3))


def test_the_depth_of_a_tilted_face_is_that_of_its_plane_also_in_perspective(block: Drawable) -> None:
    scene = replace(AHEAD, field=None, angle=25.0, quaternion=tuple(about(np.array([0.6, 0.8, 0.0]), 0.5)))
    buffers, size = truth(block, scene, 96), 96
    up = scene.rotation[:, 2]
    on_top = (buffers.normal @ up > 0.999) & (buffers.feature > 0)
    slope = 2 * math.tan(math.radians(12.5)) / size
    line = (np.arange(size) + 0.5 - size / 2) * slope
    rays = np.stack([*np.meshgrid(line, -line), -np.ones((size, size))], -1)
    # a point t * ray lies in the plane through the face's middle
    expected = (up @ (np.array([0, 0, -50.0]) + 2 * up)) / (rays @ up)
    assert on_top.sum() > 500
    assert buffers.depth[on_top] == pytest.approx(expected[on_top], rel=1e-6)  # stored as float32


@pytest.mark.parametrize("projection", [{"field": 20.0, "angle": None}, {"field": None, "angle": 30.0}])
def test_the_normals_of_a_sphere_point_away_from_its_middle(ball: Drawable, projection: dict) -> None:
    scene, size = replace(turned(AHEAD, 1), **projection), 128
    buffers = truth(ball, scene, size)
    if scene.field:
        x, y = middles(size, 20.0)
        points = np.stack([x, y, -buffers.depth], -1)
    else:
        line = (np.arange(size) + 0.5 - size / 2) * 2 * math.tan(math.radians(15)) / size
        points = buffers.depth[..., None] * np.stack([*np.meshgrid(line, -line), -np.ones((size, size))], -1)
    hit = buffers.feature > 0
    away = (points[hit] - [0, 0, -50]) / 6
    assert np.linalg.norm(away, axis=1) == pytest.approx(1, abs=2e-3)  # facets: up to twice the chord inside
    assert np.linalg.norm(buffers.normal[hit], axis=1) == pytest.approx(1, abs=1e-6)
    assert np.linalg.norm(buffers.normal[hit] - away, axis=1).max() < 0.02  # smooth across facets of 0.05 rad, near the rim seen askew


def test_a_sharp_edge_is_not_smoothed(block: Drawable) -> None:
    scene = turned(AHEAD, 4)
    buffers = truth(block, scene, 64)
    own = buffers.normal[buffers.feature > 0] @ scene.rotation  # in the part's frame
    assert abs(own).max(1) == pytest.approx(1, abs=1e-6)  # stored as float32
    assert len(np.unique(own.round(3), axis=0)) == 3


@pytest.mark.parametrize("projection", [{"field": 20.0, "angle": None}, {"field": None, "angle": 60.0}])
def test_corner_normals_are_mixed_as_the_corners_of_the_triangle_are(projection: dict) -> None:
    corners = np.array([[-8.0, -8.0, 20.0], [8.0, -6.0, 12.0], [1.0, 9.0, -20.0]])  # far from level: perspective counts
    triangle = Drawable(corners[None], np.eye(3)[None], np.ones(1, np.int32))  # so that a normal is the three weights
    scene, size = replace(AHEAD, **projection), 64
    buffers = truth(triangle, scene, size)
    hit = buffers.feature > 0
    line = (np.arange(size) + 0.5) / size - 0.5
    across, up = np.meshgrid(line, -line)
    scale = 20.0 if scene.field else 2 * math.tan(math.radians(30)) * buffers.depth[hit]
    points = np.stack([across[hit] * scale, up[hit] * scale, -buffers.depth[hit]], -1) - [0, 0, -50]
    weights = np.linalg.lstsq(np.vstack([corners.T, np.ones(3)]), np.vstack([points.T, np.ones(len(points))]), rcond=None)[0].T
    assert hit.sum() > 200
    assert weights @ corners == pytest.approx(points, abs=1e-5)  # in the plane of the triangle; depth of 50 mm is float32
    assert buffers.normal[hit] == pytest.approx(weights / np.linalg.norm(weights, axis=1, keepdims=True), abs=1e-5)


@pytest.mark.parametrize("projection", [{"field": 20.0, "angle": None}, {"field": None, "angle": 30.0}])
def test_the_nearer_hides_the_farther_from_either_side(projection: dict) -> None:
    part = cad.parse(
        "part: p\nfeatures:\n  - {name: low, add: box, size: [6, 6, 1], at: [0, 0, -5]}\n  - {name: high, add: box, size: [6, 6, 1], at: [0, 0, 5]}"
    )
    drawable, scene = Drawable.of(part.mesh()), replace(AHEAD, **projection)
    from_above, from_below = (
        truth(drawable, replace(scene, quaternion=q), 32).feature for q in ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0))
    )
    assert from_above[16, 16] == 2
    assert set(np.unique(from_above)) == {0, 2}
    assert np.array_equal(from_below * 2, from_above)


def test_truth_and_outline_agree(drawn_cap: Drawable) -> None:
    full, quick = truth(drawn_cap, turned(AHEAD, 2), 64), outline(drawn_cap, turned(AHEAD, 2), 64)
    assert np.array_equal(full.depth, quick.depth)
    assert np.array_equal(full.feature, quick.feature)


def test_every_feature_of_the_cap_is_seen_from_some_side(drawn_cap: Drawable) -> None:
    seen = set().union(*(np.unique(outline(drawn_cap, replace(turned(AHEAD, s), field=40.0), 64).feature) for s in range(12)))
    assert seen == {0, 1, 2, 3, 4}


# Cameras


def test_perspective_tends_to_orthographic_as_the_angle_goes_to_zero(drawn_cap: Drawable) -> None:
    flat = replace(turned(AHEAD, 3), field=40.0, pivot=(0.0, 0.0, 10.0))
    square = draw(drawn_cap, flat, 64).astype(float)
    differences = []
    for angle in (8.0, 2.0, 0.5):
        away = 20.0 / math.tan(math.radians(angle) / 2)
        scene = replace(flat, field=None, angle=angle, position=(0.0, 0.0, -away))
        differences.append(abs(draw(drawn_cap, scene, 64) - square).mean())
    assert differences[0] > 2 * differences[1] > 4 * differences[2]
    assert differences[2] < 0.3  # of 255


@pytest.mark.parametrize("distance", [1.0, 3.0, 6.0])
def test_a_part_that_reaches_behind_the_camera_is_refused(ball: Drawable, distance: float) -> None:
    scene = replace(AHEAD, field=None, angle=40.0, position=(0.0, 0.0, -distance))
    for picture in (draw, truth, outline):
        with pytest.raises(cad.InputError, match="the part reaches behind the camera"):
            picture(ball, scene, 32)


def test_what_lies_beside_the_image_leaves_it_empty(ball: Drawable) -> None:
    scene = replace(AHEAD, position=(30.0, 0.0, -50.0))
    assert not truth(ball, scene, 32).feature.any()
    assert (np.abs(draw(ball, scene, 32) - 255 * np.array(AHEAD.background)) <= 0.5 + 1e-9).all()  # 25.5 may go either way


@pytest.mark.parametrize("size", [0, 10_000])
def test_a_picture_of_no_size_or_a_giant_one_is_refused(ball: Drawable, size: int) -> None:
    with pytest.raises(cad.InputError, match="1 to 16384 rays across"):
        draw(ball, AHEAD, size)


# Turning everything turns the picture


@pytest.mark.parametrize("quarters", [1, 2, 3])
@pytest.mark.parametrize("projection", [{"field": 40.0}, {"field": None, "angle": 40.0}])
def test_turning_scene_and_light_about_the_view_turns_the_picture(drawn_cap: Drawable, quarters: int, projection: dict) -> None:
    scene = replace(turned(AHEAD, 5), **projection, light=(0.6, 0.0, 0.8), position=(2.0, 1.0, -60.0), metallic=0.5, roughness=0.4)
    spin = about(np.array([0.0, 0.0, 1.0]), quarters * math.pi / 2)
    after = replace(
        scene,
        quaternion=tuple(product(spin, np.array(scene.quaternion))),
        light=tuple(matrix(spin) @ scene.light),
        position=tuple(matrix(spin) @ scene.position),
    )
    picture, second = draw(drawn_cap, scene, 64).astype(int), draw(drawn_cap, after, 64).astype(int)
    # rounding to 8 bits may fall either way; a ray along an edge may hit either face
    assert (abs(np.rot90(picture, quarters) - second) > 1).mean() < 1e-3
    ids, second_ids = (truth(drawn_cap, s, 64).feature for s in (scene, after))
    assert (np.rot90(ids, quarters) != second_ids).mean() < 1e-3
    assert abs(picture - second).mean() > 1  # the picture is no symmetric one


def test_turning_part_and_pose_against_each_other_changes_nothing(cap: cad.Part, drawn_cap: Drawable) -> None:
    turn = random_rotation("any", np.random.default_rng(6))
    mesh, scene = cap.mesh(), replace(turned(AHEAD, 7), field=40.0)
    other = Drawable.of(mesh.moved(mesh.vertices @ matrix(turn).T))
    back = replace(scene, quaternion=tuple(product(np.array(scene.quaternion), turn * [1, -1, -1, -1])))
    assert (abs(draw(drawn_cap, scene, 64).astype(int) - draw(other, back, 64)) > 1).mean() < 1e-3  # rounding, as above


# Light


@pytest.mark.parametrize("seed", range(3))
def test_picture_and_truth_agree_where_the_background_is(drawn_cap: Drawable, seed: int) -> None:
    scene = replace(turned(AHEAD, seed), field=40.0, background=(0.0, 1.0, 0.0), color=(1.0, 0.0, 0.0))
    picture = draw(drawn_cap, scene, 64, samples=1)
    assert np.array_equal((picture == [0, 255, 0]).all(-1), truth(drawn_cap, scene, 64).feature == 0)


def test_more_rays_keep_the_mean_and_smooth_the_edge(drawn_cap: Drawable) -> None:
    scene = replace(turned(AHEAD, 8), field=40.0, background=(0.0, 0.0, 0.0))
    one, sixteen = draw(drawn_cap, scene, 64, samples=1), draw(drawn_cap, scene, 64, samples=4)
    light, smooth = (linear(p / 255).mean() for p in (one, sixteen))
    assert light == pytest.approx(smooth, rel=0.01)  # the edge: 130 pixels of 2,000, each off by up to a half either way
    assert len(np.unique(sixteen)) > len(np.unique(one))


def test_a_fine_picture_shrunk_is_the_picture_of_more_rays(drawn_cap: Drawable) -> None:
    scene = replace(turned(AHEAD, 9), field=40.0, roughness=0.4)
    fine = linear(draw(drawn_cap, scene, 128, samples=1) / 255).reshape(64, 2, 64, 2, 3).mean((1, 3))
    assert abs(np.rint(255 * srgb(fine)) - draw(drawn_cap, scene, 64, samples=2)).max() <= 2  # rounded once more


def test_a_matt_face_turned_from_the_lamp_darkens_with_the_cosine(block: Drawable) -> None:
    for degrees in (0, 30, 60, 80, 120):
        a = math.radians(degrees)
        scene = replace(AHEAD, light=(math.sin(a), 0.0, math.cos(a)), roughness=1.0, color=(0.5, 0.5, 0.5))
        found = linear(draw(block, scene, 32)[16, 16] / 255)
        lit = max(0.0, math.cos(a))
        matt = linear(np.array(0.5)) * (0.3 + 0.7 * lit)
        gloss = 0.7 * 0.04 / math.pi * lit  # at roughness 1 the lobe is flat
        assert found == pytest.approx(np.full(3, matt + gloss), abs=0.004)  # 8 bits


def test_only_ambient_light_shows_an_even_silhouette(drawn_cap: Drawable) -> None:
    scene = replace(turned(AHEAD, 2), field=40.0, ambient=1.0, color=(0.8, 0.8, 0.8), background=(0.0, 0.0, 0.0))
    assert set(np.unique(draw(drawn_cap, scene, 64, samples=1))) == {0, round(255 * 0.8)}


def test_a_glossy_ball_shines_where_lamp_and_eye_meet(ball: Drawable) -> None:
    light = np.array([0.6, 0.0, 0.8])
    picture = draw(ball, replace(AHEAD, light=tuple(light), roughness=0.3, metallic=1.0), 129, samples=1)
    half = light + np.array([0.0, 0.0, 1.0])
    half /= np.linalg.norm(half)
    row, column = np.unravel_index(picture.sum(-1).argmax(), (129, 129))
    x, y = middles(129, 20.0)
    assert math.hypot(x[row, column] - 6 * half[0], y[row, column] - 6 * half[1]) < 0.5  # flat top of the lobe, 8 bits


def test_eight_bits_survive_linear_light_and_back() -> None:
    values = np.arange(256) / 255
    assert np.array_equal(np.rint(255 * srgb(linear(values))), np.arange(256))


def test_srgb_and_linear_undo_each_other_and_rise() -> None:
    values = np.linspace(0, 1, 1001)
    assert srgb(linear(values)) == pytest.approx(values, abs=1e-6)  # the standard's two pieces meet to 1e-7
    assert linear(srgb(values)) == pytest.approx(values, abs=1e-6)
    assert (np.diff(linear(values)) > 0).all()
    assert srgb(np.array([-1.0, 2.0])) == pytest.approx([0, 1])


def test_middle_grey_is_a_fifth_of_the_light() -> None:
    assert linear(np.array(0.5)) == pytest.approx(0.21404, abs=1e-5)  # IEC 61966-2-1


def test_a_drawn_scene_of_each_shelf_part_shows_the_part(cap: cad.Part, nut: cad.Part, rng: np.random.Generator) -> None:
    for part in (cap, nut):
        mesh = part.mesh()
        for _ in range(5):
            scene = draw_scene(part, mesh, rng)
            seen = truth(Drawable.of(mesh), scene, 48).feature > 0
            points = scene.pixels(scene.camera_points(mesh.vertices), 48)
            rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
            # the silhouette ends where the outermost vertices land, to the pixel, but for the image's border
            low, high = np.clip(points.min(0), 0, 48), np.clip(points.max(0), 0, 48)
            assert [columns[0], rows[0]] == pytest.approx(low, abs=1.5)
            assert [columns[-1] + 1, rows[-1] + 1] == pytest.approx(high, abs=1.5)
