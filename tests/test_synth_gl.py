"""The OpenGL renderer against geometry that is known, and against the built-in one: two routes to the same picture."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import cad
from cad.errors import InputError
from cad.mesh import Mesh
from cad.solids import SOLIDS
from synth import gl, raycast
from synth.color import linear
from synth.drawable import Drawable
from synth.scene import Lamp, Scene, draw_scene, random_rotation
from synth.surroundings import Sky

if find_spec("pyrender") is None:  # not importorskip: its import would come before the platform is chosen
    pytest.skip("pyrender is not installed", allow_module_level=True)

pytestmark = pytest.mark.gl

AHEAD = Scene((1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, -50.0), 20.0, None, (0.0, 0.0, 1.0), 0.3, (0.7, 0.6, 0.5), 1.0, 0.0, (0.1, 0.2, 0.3))  # fmt: skip
SIDE = (Lamp((0.6, 0.0, 0.8), 0.4, (1.0, 0.8, 0.6)), Lamp((0.0, -0.8, 0.6), 0.2))
PROJECTIONS = [{"field": 40.0, "angle": None}, {"field": None, "angle": 35.0, "position": (1.5, -1.0, -70.0)}]


def item(solid: str, **values: object) -> Drawable:
    made = SOLIDS[solid](**values, chord=0.002).as_original()
    return Drawable.of(Mesh.of(made, {made.original_id(): 1}, (solid,)))


@pytest.fixture(scope="module")
def ball() -> Drawable:
    return item("sphere", radius=6.0)


@pytest.fixture(scope="module")
def block() -> Drawable:
    return item("box", size=(8.0, 6.0, 4.0))


@pytest.fixture(scope="module", params=["notched_cap", "hex_nut"])
def part(request: pytest.FixtureRequest) -> cad.Part:
    return cad.load(request.param)


def scene_of(part: cad.Part, seed: int, **other: object) -> Scene:
    return replace(draw_scene(part, part.mesh(), np.random.default_rng(seed)), **other)


def memory() -> float:
    """MB that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def test_nothing_is_missing() -> None:
    assert gl.missing() is None


def test_what_is_missing_is_named_with_the_command_that_brings_it() -> None:
    code = "import sys; sys.modules['pyrender'] = None; from synth import gl; sys.stdout.write(gl.missing())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "pyrender is not installed: pip install 'formspect[gl]'"


def test_a_context_that_does_not_open_is_told_in_one_line() -> None:
    code = "import os, sys; os.environ['EGL_DEVICE_ID'] = '99'; from synth import gl; sys.stdout.write(gl.missing())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.startswith("OpenGL cannot draw here (ValueError: Invalid device ID")
    assert said.endswith("apt-get install libegl1 libgl1 libxrender1")


# Truth


@pytest.mark.parametrize("seed", range(3))
def test_the_silhouette_of_a_sphere_is_its_disc(ball: Drawable, seed: int) -> None:
    size, turn = 400, random_rotation("any", np.random.default_rng(seed))
    seen = gl.truth(ball, replace(AHEAD, quaternion=tuple(map(float, turn))), size).feature > 0
    # counting pixel middles errs by about the root of the perimeter's 750 pixels: 40 of 45,000
    assert seen.sum() * (20 / size) ** 2 == pytest.approx(math.pi * 36, rel=2e-3)
    line = (np.arange(size) + 0.5) * 20 / size - 10
    away = np.hypot(*np.meshgrid(line, -line))
    assert seen[away < 6 - 0.01].all()  # facets lie up to twice the chord inside the sphere
    assert not seen[away > 6 + 1e-3].any()  # OpenGL snaps corners to 1/256 px


@pytest.mark.parametrize("angle", [20.0, 60.0])
def test_the_silhouette_of_a_sphere_in_perspective_is_the_cone_that_touches_it(ball: Drawable, angle: float) -> None:
    size, half = 400, math.tan(math.asin(6 / 50))
    seen = gl.truth(ball, replace(AHEAD, field=None, angle=angle), size).feature > 0
    area = seen.sum() * (2 * math.tan(math.radians(angle) / 2) / size) ** 2
    assert area == pytest.approx(math.pi * half**2, rel=5e-3)  # the smaller has a perimeter of 430 pixels


@pytest.mark.parametrize("projection", [{}, {"field": None, "angle": 30.0}])
def test_the_depth_and_normal_of_a_box_face_are_exact(block: Drawable, projection: dict) -> None:
    seen = gl.truth(block, replace(AHEAD, **projection), 64)
    hit = seen.feature > 0
    assert seen.depth[hit] == pytest.approx(48.0, rel=1e-6)  # float32
    assert np.isposinf(seen.depth[~hit]).all()
    assert seen.normal[hit] == pytest.approx(np.broadcast_to([0, 0, 1], (hit.sum(), 3)), abs=1e-6)
    assert not seen.normal[~hit].any()
    assert (seen.depth.dtype, seen.feature.dtype, seen.normal.dtype) == (np.float32, np.uint8, np.float32)


@pytest.mark.parametrize("projection", PROJECTIONS, ids=["orthographic", "perspective"])
@pytest.mark.parametrize("seed", range(3))
def test_truth_is_that_of_the_built_in_renderer(part: cad.Part, seed: int, projection: dict) -> None:
    drawn, scene = Drawable.of(part.mesh()), scene_of(part, seed, **projection)
    ours, other = gl.truth(drawn, scene, 256), raycast.truth(drawn, scene, 256)
    mine, its = ours.feature > 0, other.feature > 0
    both = mine & its
    assert both.sum() > 1000
    assert both.sum() >= 0.999 * (mine | its).sum()
    assert np.median(abs(ours.depth[both] - other.depth[both])) < 1e-4  # mm
    assert (ours.feature == other.feature).mean() > 0.999
    assert np.median(abs(ours.normal[both] - other.normal[both])) < 1e-5


def test_a_part_behind_the_camera_is_refused(ball: Drawable) -> None:
    with pytest.raises(InputError, match="behind the camera"):
        gl.truth(ball, replace(AHEAD, field=None, angle=30.0, position=(0.0, 0.0, -5.0)), 32)


# Light


@pytest.mark.parametrize(("ambient", "further"), [(0.3, ()), (1.0, ()), (0.3, (Lamp((0.0, 0.0, 1.0), 0.5),))])
def test_a_face_towards_the_lamps_shines_by_their_powers(block: Drawable, ambient: float, further: tuple[Lamp, ...]) -> None:
    seen = gl.light(block, replace(AHEAD, ambient=ambient, lamps=further), 32)
    power = 1 - ambient + sum(lamp.power for lamp in further)
    expected = (ambient + power) * linear(np.asarray(AHEAD.color)) + power * 0.04 / math.pi  # the lobe of the roughest surface is flat
    assert seen.radiance[16, 16] == pytest.approx(expected, rel=1e-5)
    assert not seen.radiance[seen.cover == 0].any()


def test_cover_is_the_share_of_points_within(ball: Drawable) -> None:
    fine = gl.truth(ball, AHEAD, 96).feature > 0
    seen = gl.light(ball, AHEAD, 32, samples=3)
    assert seen.cover == pytest.approx(fine.reshape(32, 3, 32, 3).mean((1, 3)), abs=1e-6)
    assert set(np.unique(gl.light(ball, AHEAD, 32, samples=1).cover)) == {0, 1}


@pytest.mark.parametrize("projection", PROJECTIONS, ids=["orthographic", "perspective"])
@pytest.mark.parametrize(
    "look",
    [
        {"roughness": 1.0, "metallic": 0.0},
        {"roughness": 0.3, "metallic": 0.8},
        {"sky": Sky((0.0, 0.6, 0.8), (0.9, 0.95, 1.0), (0.4, 0.3, 0.2)), "ambient": 0.6},
        {"shadows": True},
    ],
    ids=["matt", "glossy", "sky", "shadows"],
)
def test_light_is_that_of_the_built_in_renderer(part: cad.Part, look: dict, projection: dict) -> None:
    drawn, scene = Drawable.of(part.mesh()), scene_of(part, 5, lamps=SIDE, **projection, **look)
    ours, other = gl.light(drawn, scene, 128), raycast.light(drawn, scene, 128)
    assert other.cover.sum() > 250  # px
    assert abs(ours.cover - other.cover).mean() < 1e-4
    # the other lights a pixel once where it is one smooth piece: up to a percent of a highlight, in few places
    assert abs(ours.radiance - other.radiance).mean() < 2e-3 * other.radiance.mean()


def test_shadows_only_take_light_away(part: cad.Part) -> None:
    drawn, scene = Drawable.of(part.mesh()), scene_of(part, 5, lamps=SIDE)
    lit, dark = (gl.light(drawn, replace(scene, shadows=shadows), 128).radiance for shadows in (False, True))
    assert (dark <= lit + 1e-6).all()
    assert (lit - dark).max() > 0.05


def test_a_convex_part_casts_no_shadow_on_itself(block: Drawable) -> None:
    turn = random_rotation("any", np.random.default_rng(4))
    scene = replace(AHEAD, quaternion=tuple(map(float, turn)), lamps=SIDE)
    lit, dark = (gl.light(block, replace(scene, shadows=shadows), 128).radiance for shadows in (False, True))
    assert abs(lit - dark).mean() < 1e-3  # a texel's width along the edges between light and dark


# One context for many pictures


def test_the_same_scene_gives_the_same_picture(part: cad.Part, ball: Drawable) -> None:
    drawn, scene = Drawable.of(part.mesh()), scene_of(part, 1, shadows=True)
    first, before = gl.light(drawn, scene, 64), gl.truth(drawn, scene, 64)
    gl.light(ball, replace(AHEAD, lamps=SIDE), 48)  # another mesh, size and number of lamps in between
    again, after = gl.light(drawn, scene, 64), gl.truth(drawn, scene, 64)
    assert np.array_equal(first.radiance, again.radiance)
    assert np.array_equal(first.cover, again.cover)
    assert all(np.array_equal(getattr(before, name), getattr(after, name)) for name in ("depth", "feature", "normal"))


def test_memory_stays_flat_over_many_scenes(cap: cad.Part) -> None:
    drawn = Drawable.of(cap.mesh())

    def draw(count: int) -> None:
        for k in range(count):
            fresh, scene = replace(drawn, corners=drawn.corners.copy()), scene_of(cap, k, shadows=True)
            gl.light(fresh, scene, 32 + 16 * (k % 2))
            gl.truth(fresh, scene, 32)

    draw(30)
    before = memory()
    draw(200)  # what was not freed would be 400 kB of vertices a scene, or 80 MB
    assert memory() - before < 5
