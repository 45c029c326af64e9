"""Light from all sides, large lamps, and what of it the part keeps from itself: against integrals done the long way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cad
from cad.mesh import Mesh
from cad.solids import SOLIDS
from synth.color import LUMINANCE
from synth.drawable import Drawable
from synth.raycast import disc, light, truth
from synth.scene import Lamp, Scene
from synth.sky import ambient, harmonics, into_map, mean_luminance, radiance, read_map
from synth.surroundings import Sky

DARK = Scene((1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, -50.0), 20.0, None, (0.0, 0.0, -1.0), 0.6, (1.0, 1.0, 1.0), 1.0, 0.0, (0.0, 0.0, 0.0))  # fmt: skip


def made(solid: str, **values: object) -> Drawable:
    one = SOLIDS[solid](**values, chord=0.01).as_original()
    return Drawable.of(Mesh.of(one, {one.original_id(): 1}, (solid,)))


@pytest.fixture(scope="module")
def ball() -> Drawable:
    return made("sphere", radius=6.0)


def directions(count: int) -> np.ndarray:
    """(n, 3) evenly over the sphere."""
    k = np.arange(count) + 0.5
    up, turn = 1 - 2 * k / count, np.pi * (1 + 5**0.5) * k
    return np.stack([np.sqrt(1 - up**2) * np.cos(turn), np.sqrt(1 - up**2) * np.sin(turn), up], 1)


def reflected(scene: Scene, normals: np.ndarray) -> np.ndarray:
    """(n, 3) of a white matt surface, by adding up 20,000 directions."""
    ways = directions(20_000)
    cosines = np.clip(normals @ ways.T, 0, None)
    return scene.ambient * 4 * (cosines @ radiance(scene.sky, ways)) / len(ways)


@pytest.fixture
def map_file(tmp_path: Path) -> str:
    """Dim, with a bright patch: soft enough for nine harmonics."""
    y, x = np.mgrid[:64, :128]
    spot = 60 + 180 * np.exp(-((x - 90) ** 2 / 600 + (y - 22) ** 2 / 300))
    Image.fromarray(np.stack([spot, 0.8 * spot, 0.5 * spot], -1).astype(np.uint8)).save(tmp_path / "map.png")
    return str(tmp_path / "map.png")


def test_no_sky_is_the_same_from_all_sides() -> None:
    assert ambient(DARK)[0] == pytest.approx(0.6) and not ambient(DARK)[1:].any()
    even = replace(DARK, sky=Sky())
    assert ambient(even) == pytest.approx(ambient(DARK))


@pytest.mark.parametrize("up", [(0.0, 1.0, 0.0), (0.6, 0.0, -0.8)])
def test_a_gradient_lights_as_its_integral(up: tuple[float, float, float]) -> None:
    scene = replace(DARK, sky=Sky(up, (0.9, 0.8, 1.0), (0.3, 0.2, 0.1)))
    normals = directions(40)
    assert harmonics(normals) @ ambient(scene) == pytest.approx(reflected(scene, normals), rel=2e-3)
    assert radiance(scene.sky, directions(20_000)).mean(0) @ LUMINANCE == pytest.approx(1.0, abs=1e-3)


def test_a_map_lights_as_its_integral(map_file: str) -> None:
    scene = replace(DARK, sky=Sky((0.0, 0.6, 0.8), hdri=map_file, spin=50.0))
    normals = directions(40)
    wanted = reflected(scene, normals)
    # nine harmonics: within 3 % of the brightest (Ramamoorthi and Hanrahan 2001), its pixels included
    assert harmonics(normals) @ ambient(scene) == pytest.approx(wanted, abs=0.03 * wanted.max())
    assert radiance(scene.sky, directions(20_000)).mean(0) @ LUMINANCE == pytest.approx(1.0, abs=0.01)


def test_a_ball_is_lit_by_its_sky(ball: Drawable) -> None:
    scene = replace(DARK, sky=Sky((0.0, 1.0, 0.0), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)))
    seen, known = light(ball, scene, 64), truth(ball, scene, 64)
    inside = seen.cover == 1
    wanted = 0.6 * (1 + 2 / 3 * known.normal[inside][:, 1])
    assert seen.radiance[inside][:, 1] == pytest.approx(wanted, abs=0.02)


def test_a_map_is_where_its_turn_says(map_file: str) -> None:
    """Its middle ahead of the camera at no spin; its zenith up; a spin turns it about up by the right hand."""
    assert into_map(Sky()) @ [0, 0, -1] == pytest.approx([1, 0, 0])
    assert into_map(Sky(up=(0.6, 0.8, 0.0))) @ [0.6, 0.8, 0.0] == pytest.approx([0, 0, 1])
    assert into_map(Sky(spin=90.0)) @ [-1, 0, 0] == pytest.approx([1, 0, 0])
    assert into_map(Sky(up=(0.0, 0.0, 1.0))) @ [0, 1, 0] == pytest.approx([1, 0, 0])
    pixels = read_map(map_file)
    assert radiance(Sky(hdri=map_file), np.array([[0.0, 0.0, -1.0]]))[0] == pytest.approx(pixels[32, 64])
    assert mean_luminance(map_file) > 0


def test_a_radiance_map_of_any_brightness_is_read_alike(tmp_path: Path) -> None:
    library = pytest.importorskip("OpenImageIO")
    rng = np.random.default_rng(0)
    pixels = rng.uniform(1, 40, (16, 32, 3)).astype(np.float32)
    for name, factor in (("a.exr", 1.0), ("b.exr", 30.0), ("c.hdr", 1.0)):
        out = library.ImageOutput.create(str(tmp_path / name))
        assert out.open(str(tmp_path / name), library.ImageSpec(32, 16, 3, library.FLOAT))
        out.write_image(pixels * factor)
        out.close()
    assert read_map(str(tmp_path / "b.exr")) == pytest.approx(read_map(str(tmp_path / "a.exr")), rel=1e-5)
    assert read_map(str(tmp_path / "c.hdr")) == pytest.approx(
        read_map(str(tmp_path / "a.exr")), abs=0.01 * 40 / 20
    )  # eight bits of the brightest channel, of twice the mean


@pytest.mark.parametrize(
    ("shape", "words"), [((32, 48, 3), "found 48 x 32 px; wanted an equirectangular map"), ((16, 32, 3), "holds no light")]
)
def test_a_map_that_is_none_is_told(tmp_path: Path, shape: tuple[int, ...], words: str) -> None:
    path = tmp_path / "map.png"
    Image.fromarray(np.zeros(shape, np.uint8)).save(path)
    with pytest.raises(cad.InputError, match=words):
        read_map(str(path))


def test_a_radiance_map_that_ends_too_soon_is_told(tmp_path: Path) -> None:
    library = pytest.importorskip("OpenImageIO")
    path = tmp_path / "whole.exr"
    out = library.ImageOutput.create(str(path))
    assert out.open(str(path), library.ImageSpec(64, 32, 3, library.FLOAT))
    out.write_image(np.random.default_rng(0).random((32, 64, 3)).astype(np.float32))
    out.close()
    (tmp_path / "cut.exr").write_bytes(path.read_bytes()[:6000])
    with pytest.raises(cad.InputError, match="does not decode"):
        read_map(str(tmp_path / "cut.exr"))


def test_a_file_that_is_no_image_is_told(tmp_path: Path) -> None:
    for name in ("x.png", "x.exr"):
        (tmp_path / name).write_bytes(b"none")
        with pytest.raises(cad.InputError, match=r"does not decode|OpenImageIO"):
            read_map(str(tmp_path / name))


# What the part keeps from itself


def test_nothing_hides_the_sky_from_a_ball(ball: Drawable) -> None:
    open_, asked = (light(ball, replace(DARK, occlusion=n), 64) for n in (0, 64))
    assert asked.radiance == pytest.approx(open_.radiance, abs=0.02)


def test_a_deep_hole_sees_little_of_the_sky() -> None:
    """The floor of a tube of radius 2 and depth 8 sees the share sin^2 of its rim's angle: 1 / 17 of the light, seen from the middle."""
    tube = SOLIDS["tube"](6.0, 2.0, 8.0, chord=0.01) + SOLIDS["cylinder"](6.0, 1.0, chord=0.01).translate([0, 0, -1])
    one = tube.as_original()
    item = Drawable.of(Mesh.of(one, {one.original_id(): 1}, ("pot",)))
    seen = light(item, replace(DARK, occlusion=256, pivot=(0.0, 0.0, 4.0)), 81)
    assert seen.radiance[40, 40, 0] / 0.6 == pytest.approx(1 / 17, abs=0.03)
    assert seen.radiance[40, 56, 0] / 0.6 == pytest.approx(1.0, abs=0.03)  # the rim lies open


def test_a_lamps_disc_is_filled_evenly() -> None:
    lamp = Lamp((0.0, 0.6, 0.8), 1.0, size=10.0)
    ways = disc(lamp)
    angles = np.degrees(np.arccos(np.clip(ways @ np.array(lamp.direction), -1, 1)))
    assert angles.max() <= 10 and np.linalg.norm(ways, axis=1) == pytest.approx(1.0)
    assert np.degrees(np.arctan(np.tan(np.radians(10)) * np.sqrt(0.5))) == pytest.approx(
        np.median(angles), abs=0.5
    )  # half of them within half its area
    assert disc(replace(lamp, size=0.0)) == pytest.approx(np.array([lamp.direction]))


def test_a_large_lamp_casts_soft_shadows(cap: cad.Part) -> None:
    """From a point, a place is lit or not; from a disc there are those between; far from the rim both agree."""
    item = Drawable.of(cap.mesh())
    scene = replace(DARK, ambient=0.0, light=(0.5, 0.0, 0.866), pivot=(0.0, 0.0, 10.0), field=40.0, quaternion=(0.0, 1.0, 0.0, 0.0), shadows=True, metallic=0.0)  # fmt: skip
    free = light(item, replace(scene, shadows=False), 96, samples=1)
    hard, soft = (light(item, replace(scene, light_size=s), 96, samples=1).radiance[..., 0] for s in (0.0, 8.0))
    lit = free.radiance[..., 0] > 0.3

    def between(seen: np.ndarray) -> float:
        share = (seen / np.maximum(free.radiance[..., 0], 1e-6))[lit]
        return float(((share > 0.1) & (share < 0.9)).mean())

    assert between(soft) > 2 * between(hard)  # a map's own texels blur even a point's
    assert soft.sum() == pytest.approx(hard.sum(), rel=0.05)
