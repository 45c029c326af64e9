"""From light to picture: what is behind and before the part, the lens, the sensor, by the laws that each is made by."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cad
from cad.mesh import Mesh
from cad.solids import SOLIDS
from synth.backdrop import KINDS, backdrop, specks
from synth.color import LUMINANCE, linear, of_kelvin, over8, srgb, srgb8
from synth.drawable import Drawable
from synth.lens import straight
from synth.photograph import photograph, truth_of, unburied
from synth.raycast import draw, truth
from synth.scene import Scene, draw_scene
from synth.sensor import compressed, demosaiced, developed, exposed, line, mosaic, noisy, smeared
from synth.surroundings import BACKDROPS, Backdrop, Dust, Lens, Sensor, Sky

AHEAD = Scene((1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, -50.0), 20.0, None, (0.0, 0.0, 1.0), 0.3, (0.7, 0.6, 0.5), 1.0, 0.0, (0.1, 0.2, 0.3))  # fmt: skip


@pytest.fixture(scope="module")
def ball() -> Drawable:
    made = SOLIDS["sphere"](6.0, chord=0.002).as_original()
    return Drawable.of(Mesh.of(made, {made.original_id(): 1}, ("ball",)))


@pytest.fixture(scope="module")
def item(cap: cad.Part) -> Drawable:
    return Drawable.of(cap.mesh())


# Colour


def test_levels_are_those_of_the_formula(rng: np.random.Generator) -> None:
    light = rng.uniform(-0.1, 1.2, (64, 64, 3)).astype(np.float32)
    assert np.array_equal(srgb8(light), np.rint(255 * srgb(light.astype(float))).astype(np.uint8))
    cover, behind = rng.random((64, 64)).astype(np.float32), rng.random(3)
    mixed = light + (1 - cover)[..., None] * behind.astype(np.float32)
    assert np.abs(over8(light, cover, behind).astype(int) - np.rint(255 * srgb(mixed))).max() <= 1  # a level that lies on its edge


def test_white_light_is_white_and_warm_light_is_red() -> None:
    assert of_kelvin(6504.0) == pytest.approx(np.ones(3))
    for kelvin in (1700, 2856, 4000, 5000, 10000, 25000):
        assert of_kelvin(kelvin) @ LUMINANCE == pytest.approx(1.0)
    ratios = [of_kelvin(k)[0] / of_kelvin(k)[2] for k in (2000, 3000, 4500, 6504, 9000, 15000)]
    assert all(a > b for a, b in pairwise(ratios))


# Behind and before


def test_a_scene_with_nothing_about_it_is_the_plain_picture(cap: cad.Part, item: Drawable) -> None:
    scene = replace(draw_scene(cap, cap.mesh(), np.random.default_rng(1)), background=(0.2, 0.4, 0.6))
    assert np.array_equal(photograph(item, scene, 64), draw(item, scene, 64))
    plain = replace(scene, backdrop=Backdrop("plain", ((0.2, 0.4, 0.6),)))
    assert np.array_equal(photograph(item, plain, 64), draw(item, scene, 64))


def test_a_sensor_of_no_vices_is_the_plain_picture(item: Drawable, cap: cad.Part) -> None:
    scene = draw_scene(cap, cap.mesh(), np.random.default_rng(1))
    assert np.abs(photograph(item, replace(scene, sensor=Sensor()), 64).astype(int) - draw(item, scene, 64)).max() <= 1


def test_every_kind_of_backdrop_is_drawn(tmp_path: Path) -> None:
    assert set(KINDS) == set(BACKDROPS)
    path = tmp_path / "map.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 64, 3), dtype=np.uint8)).save(path)
    for kind in BACKDROPS:
        scene = replace(AHEAD, backdrop=Backdrop(kind, ((0.2, 0.3, 0.4), (0.8, 0.7, 0.6)), file=str(path), seed=3))
        light = backdrop(scene, 48)
        assert light.shape == (48, 48, 3) and light.dtype == np.float32 and np.isfinite(light).all() and light.min() >= 0
        assert np.array_equal(light, backdrop(scene, 48)), kind
        if kind in ("texture", "clutter", "image"):
            assert not np.array_equal(light, backdrop(replace(scene, backdrop=replace(scene.backdrop, seed=4)), 48)), kind


def test_a_gradient_runs_from_one_colour_to_the_other_along_its_angle() -> None:
    first, second = (0.1, 0.2, 0.3), (0.9, 0.8, 0.7)
    light = backdrop(replace(AHEAD, backdrop=Backdrop("gradient", (first, second), angle=0.0)), 100)
    assert light[50, 0] == pytest.approx(linear(np.array(first)), abs=0.01) and light[50, -1] == pytest.approx(
        linear(np.array(second)), abs=0.01
    )
    assert np.ptp(light, axis=0).max() < 1e-6


def test_what_is_behind_shows_where_the_part_is_not(cap: cad.Part, item: Drawable) -> None:
    scene = replace(
        draw_scene(cap, cap.mesh(), np.random.default_rng(1)), backdrop=Backdrop("clutter", ((0.1, 0.2, 0.9), (0.9, 0.8, 0.1)), seed=1)
    )
    seen, picture = truth(item, scene, 64).feature > 0, photograph(item, scene, 64)
    far = ~seen & ~np.roll(seen, 1, 0) & ~np.roll(seen, -1, 0) & ~np.roll(seen, 1, 1) & ~np.roll(seen, -1, 1)
    assert np.array_equal(picture[far], srgb8(np.ascontiguousarray(backdrop(scene, 64)[far])))


def test_dust_hides_what_is_under_it(item: Drawable, cap: cad.Part) -> None:
    scene = replace(draw_scene(cap, cap.mesh(), np.random.default_rng(1)), dust=Dust(30, 0.15, seed=2))
    _, cover = specks(scene.dust, 64)
    clean, dusty = photograph(item, replace(scene, dust=None), 64), photograph(item, scene, 64)
    changed = (clean != dusty).any(-1)
    assert 0.01 < (cover > 0.5).mean() < 0.5 and cover.min() >= 0 and cover.max() <= 1 + 1e-6
    assert not (changed & (cover == 0)).any()
    mask = np.ones((64, 64), bool)
    assert np.array_equal(unburied(mask, scene), cover < 0.5) and unburied(mask, AHEAD).all()


# Lens


@pytest.mark.parametrize(("k1", "k2"), [(0.0, 0.0), (0.1, 0.0), (-0.05, 0.0), (-0.06, 0.004), (0.05, 0.02)])
def test_straightening_undoes_the_distortion(rng: np.random.Generator, k1: float, k2: float) -> None:
    points = rng.uniform(-0.9, 0.9, (500, 2))
    square = (points**2).sum(1, keepdims=True)
    assert straight(Lens(k1, k2), points * (1 + square * (k1 + square * k2))) == pytest.approx(points, abs=1e-9)


@pytest.mark.parametrize("projection", [{}, {"field": None, "angle": 40.0, "position": (0.0, 0.0, -25.0)}])
@pytest.mark.parametrize("k1", [-0.06, 0.15])
def test_a_disc_stands_where_the_lens_bends_its_rim(ball: Drawable, projection: dict, k1: float) -> None:
    """A ball in the middle: a circle of r half widths is one of r (1 + k1 r^2)."""
    scene, size = replace(AHEAD, lens=Lens(k1=k1), **projection), 256
    r = 0.6 if not projection else math.tan(math.asin(6 / 25)) / math.tan(math.radians(20))
    wanted = r * (1 + k1 * r * r) * size / 2
    seen = truth_of(ball, scene, size).feature > 0
    assert math.sqrt(seen.sum() / math.pi) == pytest.approx(wanted, abs=0.2)  # 1/8 px of the finer picture, and the ball's facets
    cover = photograph(ball, replace(scene, color=(1.0, 1.0, 1.0), ambient=1.0, background=(0.0, 0.0, 0.0)), size)[..., 0] > 127
    assert math.sqrt(cover.sum() / math.pi) == pytest.approx(wanted, abs=0.35)


def test_depth_and_normals_come_along(ball: Drawable) -> None:
    scene = replace(AHEAD, lens=Lens(k1=0.1))
    bent, flat = truth_of(ball, scene, 128), truth(ball, replace(scene, lens=None), 128)
    assert bent.depth[64, 64] == pytest.approx(flat.depth[64, 64], abs=1e-3)
    hit = bent.feature > 0
    assert np.linalg.norm(bent.normal[hit], axis=1) == pytest.approx(1.0, abs=1e-5)


def test_a_lens_that_folds_is_refused(ball: Drawable) -> None:
    with pytest.raises(cad.InputError, match="folds the picture's corners over"):
        truth_of(ball, replace(AHEAD, lens=Lens(k1=-0.3)), 32)


# Sensor


def test_a_stop_is_twice_the_light(rng: np.random.Generator) -> None:
    light = rng.random((16, 16, 3)).astype(np.float32)
    assert exposed(light, Sensor(exposure=1.0)) == pytest.approx(2 * light)
    assert exposed(light, Sensor(exposure=-2.0)) == pytest.approx(light / 4)


def test_corners_lose_what_vignetting_says() -> None:
    light = exposed(np.ones((101, 101, 3), np.float32), Sensor(vignetting=0.4))
    assert (
        light[50, 50] == pytest.approx(1.0) and light[0, 0] == pytest.approx(0.6, abs=0.01) and light[0, 50] == pytest.approx(0.8, abs=0.01)
    )


@pytest.mark.parametrize(("length", "angle"), [(0.5, 0.0), (3.0, 0.0), (4.0, 90.0), (5.5, 37.0)])
def test_motion_is_a_line_that_loses_no_light(length: float, angle: float) -> None:
    kernel = line(length, angle)
    y, x = np.mgrid[: len(kernel), : len(kernel)] - len(kernel) // 2
    assert kernel.sum() == pytest.approx(1.0) and (kernel * x).sum() == pytest.approx(0, abs=1e-6)
    along, across = (
        x * math.cos(math.radians(angle)) - y * math.sin(math.radians(angle)),
        x * math.sin(math.radians(angle)) + y * math.cos(math.radians(angle)),
    )
    # a uniform line's variance, and what laying it on pixels adds: up to 1/4 a direction
    assert length**2 / 12 - 0.02 <= (kernel * along**2).sum() <= length**2 / 12 + 0.35 and (kernel * across**2).sum() <= 0.27


def test_blur_spreads_a_point_by_its_deviation() -> None:
    light = np.zeros((41, 41, 3), np.float32)
    light[20, 20] = 1.0
    spread = smeared(light, Sensor(blur=2.0))[..., 0]
    y = np.arange(41) - 20
    assert spread.sum() == pytest.approx(1.0, abs=1e-4) and math.sqrt((spread.sum(1) * y**2).sum()) == pytest.approx(2.0, rel=0.02)


@pytest.mark.parametrize("level", [0.02, 0.3, 0.9])
def test_noise_is_that_of_electrons(level: float) -> None:
    """Its variance in electrons is their number and the amplifier's square (EMVA 1288)."""
    sensor = Sensor(full_well=2000.0, read_noise=10.0)
    raw = noisy(np.full((200, 200), level), sensor, np.random.default_rng(0)) * 2000
    # of 40,000 draws: the mean is off by 0.3 of its own deviation, the variance by 0.7 %
    assert raw.mean() == pytest.approx(2000 * level, abs=4 * math.sqrt(2000 * level + 100) / 200)
    assert raw.var() == pytest.approx(2000 * level + 100, rel=0.03)


def test_a_grey_picture_is_grey_through_a_mosaic(rng: np.random.Generator) -> None:
    grey = np.full((20, 20, 3), 0.4)
    assert demosaiced(mosaic(grey)) == pytest.approx(grey)
    light = rng.random((20, 20, 3))
    raw = mosaic(light)
    for j, i, c in ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2)):
        assert demosaiced(raw)[j::2, i::2, c] == pytest.approx(light[j::2, i::2, c])  # what was seen stays


def test_a_slope_is_a_slope_through_a_mosaic() -> None:
    ramp = np.repeat(np.repeat(np.linspace(0, 1, 32)[None, :, None], 32, 0), 3, 2)
    assert demosaiced(mosaic(ramp))[2:-2, 2:-2] == pytest.approx(ramp[2:-2, 2:-2], abs=1e-6)


def test_white_balance_makes_light_of_its_own_temperature_white() -> None:
    light = np.broadcast_to((0.3 * of_kelvin(3200.0)).astype(np.float32), (4, 4, 3))
    seen = developed(light, Sensor(kelvin=3200.0)).astype(int)
    assert np.ptp(seen) <= 1
    assert developed(np.full((4, 4, 3), 0.3, np.float32), Sensor(kelvin=3200.0))[0, 0, 2] > seen[0, 0, 2]  # white light is blue to it


def test_gamma_darkens_what_is_neither_black_nor_white() -> None:
    ramp = np.repeat(np.linspace(0, 1, 9, dtype=np.float32)[None, :, None], 3, 2)
    plain, dark = developed(ramp, Sensor()).astype(int), developed(ramp, Sensor(gamma=1.5)).astype(int)
    assert (dark[0, [0, -1]] == plain[0, [0, -1]]).all() and (dark[0, 1:-1] < plain[0, 1:-1]).all()


def test_jpeg_is_what_pillow_writes(rng: np.random.Generator) -> None:
    smooth = np.clip(128 + 60 * np.sin(np.arange(64) / 9)[:, None, None] + np.zeros((64, 64, 3)), 0, 255).astype(np.uint8)
    errors = [np.abs(compressed(smooth, q).astype(int) - smooth).mean() for q in (98, 60, 15)]
    assert errors[0] < 1 and errors[0] <= errors[1] <= errors[2] and errors[2] > errors[0]
    sharp = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
    assert not np.array_equal(developed(linear(sharp / 255).astype(np.float32), Sensor(jpeg=20)), developed(linear(sharp / 255).astype(np.float32), Sensor()))  # fmt: skip


def test_the_same_seed_is_the_same_noise_and_another_is_not(item: Drawable, cap: cad.Part) -> None:
    scene = replace(
        draw_scene(cap, cap.mesh(), np.random.default_rng(1)), sensor=Sensor(full_well=1000.0, read_noise=5.0, bayer=True, seed=7)
    )
    one, two = photograph(item, scene, 32), photograph(item, scene, 32)
    other = photograph(item, replace(scene, sensor=replace(scene.sensor, seed=8)), 32)
    assert np.array_equal(one, two) and not np.array_equal(one, other)


# All of it, saved


def test_a_scene_with_everything_survives_json() -> None:
    import json

    scene = replace(
        AHEAD, sky=Sky((0.0, 0.6, 0.8), (1.0, 0.9, 0.8), (0.1, 0.1, 0.2)), lens=Lens(0.01, 0.002, 3.0), dust=Dust(3, 0.1, seed=4),
        backdrop=Backdrop("clutter", ((0.0, 0.1, 0.2), (0.3, 0.4, 0.5)), seed=5), sensor=Sensor(blur=1.0, jpeg=80, bayer=True, seed=6),
        light_color=(1.0, 0.9, 0.8), light_size=3.0, occlusion=16,
    )  # fmt: skip
    assert Scene.of(json.loads(json.dumps(scene.json()))) == scene
    assert not {"sky", "lens", "dust", "backdrop", "sensor"} & set(AHEAD.json())
