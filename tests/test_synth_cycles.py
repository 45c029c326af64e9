"""The path tracer against light that is known in closed form, and against the z-buffer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import cad
from cad.errors import InputError
from cad.mesh import Mesh
from cad.solids import SOLIDS
from synth import cycles, raycast
from synth.color import LUMINANCE, linear
from synth.drawable import Drawable, Light
from synth.scene import Lamp, Scene, draw_scene
from synth.surroundings import Lens, Sky

pytestmark = pytest.mark.blender
pytest.importorskip("bpy", exc_type=ModuleNotFoundError)  # installed but broken is a failure

WHITE = (1.0, 1.0, 1.0)
DARK = Scene((1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, -50.0), 20.0, None, (0.0, 0.0, 1.0), 1.0, WHITE, 1.0, 0.0, (0.1, 0.2, 0.3))
UNLIT = replace(DARK, ambient=0.0, light=(0.0, 0.0, -1.0), shadows=True)  # the lamp is behind the part
LIT = replace(DARK, ambient=0.0)  # by a lamp of power 1 at the camera


def item(*boxes: tuple[tuple[float, float, float], tuple[float, float, float]]) -> Drawable:
    """Of boxes, each by its size and its middle."""
    solid = SOLIDS["box"](size=boxes[0][0], chord=0.01).translate(boxes[0][1])
    for size, middle in boxes[1:]:
        solid += SOLIDS["box"](size=size, chord=0.01).translate(middle)
    made = solid.as_original()
    return Drawable.of(Mesh.of(made, {made.original_id(): 1}, ("box",)))


@pytest.fixture(scope="module")
def block() -> Drawable:
    return item(((12.0, 12.0, 4.0), (0.0, 0.0, 0.0)))


@pytest.fixture(scope="module")
def ball() -> Drawable:
    made = SOLIDS["sphere"](radius=6.0, chord=0.005).as_original()
    return Drawable.of(Mesh.of(made, {made.original_id(): 1}, ("sphere",)))


def middle(seen: Light) -> np.ndarray:
    """(3,) the mean light of the picture's middle quarter."""
    size = len(seen.cover)
    inner = slice(3 * size // 8, 5 * size // 8)
    return seen.radiance[inner, inner].mean((0, 1))


def perspective(scene: Scene, angle: float = 30.0) -> Scene:
    """The same width at the pivot."""
    distance = scene.field / (2 * np.tan(np.radians(angle) / 2))
    return replace(scene, field=None, angle=angle, position=(*scene.position[:2], -distance))


def map_file(folder: Path, pixels: np.ndarray, name: str = "map.exr") -> str:
    images = cycles.image_library()
    path = str(folder / name)
    out = images.ImageOutput.create(path)
    assert out.open(path, images.ImageSpec(pixels.shape[1], pixels.shape[0], 3, images.FLOAT))
    out.write_image(np.ascontiguousarray(pixels, np.float32))
    out.close()
    return path


def test_nothing_is_missing() -> None:
    assert cycles.missing() is None


# Truth


@pytest.mark.parametrize("from_near", [False, True], ids=["orthographic", "perspective"])
@pytest.mark.parametrize("name", ["notched_cap", "hex_nut", "bracket"])
def test_the_truth_is_the_z_buffers(name: str, from_near: bool) -> None:
    part = cad.load(name)
    mesh, rng = part.mesh(), np.random.default_rng(3)
    drawable = Drawable.of(mesh)
    for _ in range(2):
        scene = replace(draw_scene(part, mesh, rng), field=40.0, angle=None)
        scene = perspective(scene) if from_near else scene
        ours, known = cycles.truth(drawable, scene, 256), raycast.truth(drawable, scene, 256)
        hit, wanted = ours.feature > 0, known.feature > 0
        both = hit & wanted
        assert both.sum() >= 0.995 * (hit | wanted).sum()
        assert (hit == np.isfinite(ours.depth)).all()
        assert np.abs(ours.depth[both] - known.depth[both]).max() < 0.02  # mm, along the view: not along the rays
        assert (ours.feature[both] == known.feature[both]).mean() >= 0.99
        assert (ours.normal[both] * known.normal[both]).sum(1).min() > np.cos(np.radians(0.5)) or from_near
        assert np.median((ours.normal[both] * known.normal[both]).sum(1)) > np.cos(np.radians(0.05))
        assert np.linalg.norm(ours.normal[hit], axis=1) == pytest.approx(1, abs=1e-5)
        assert not ours.normal[~hit].any()
        assert (ours.depth.dtype, ours.feature.dtype, ours.normal.dtype) == (np.float32, np.uint8, np.float32)


def test_the_truth_has_neither_lens_nor_light(block: Drawable) -> None:
    plain = perspective(LIT)
    other = replace(plain, lens=Lens(aperture=5.0), ambient=0.7, sky=Sky(above=(1.0, 0.0, 0.0)), roughness=0.1, metallic=1.0)
    for name, values in vars(cycles.truth(block, plain, 32)).items():
        assert (values == getattr(cycles.truth(block, other, 32), name)).all(), name


# Light


@pytest.mark.parametrize("size", [0.0, 5.0])
@pytest.mark.parametrize(("power", "tilt"), [(1.0, 0.0), (2.5, 0.0), (1.0, 60.0)])
def test_a_lamp_adds_its_power_to_a_white_face(block: Drawable, power: float, tilt: float, size: float) -> None:
    towards = (0.0, float(np.sin(np.radians(tilt))), float(np.cos(np.radians(tilt))))
    scene = replace(UNLIT, lamps=(Lamp(towards, power, size=size),))
    # 4 % of the light at the surface is mirrored, of which this rough a face sends little to the camera
    assert middle(cycles.light(block, scene, 32, samples=4)) == pytest.approx(power * np.cos(np.radians(tilt)), rel=0.05)


def test_lamp_and_sky_add_up(block: Drawable) -> None:
    """A sky of 0.3, the scene's own lamp of what that leaves of 1, a further one of 0.5."""
    scene = replace(LIT, ambient=0.3, lamps=(Lamp((0.0, 0.0, 1.0), 0.5),))
    assert middle(cycles.light(block, scene, 32, samples=16)) == pytest.approx(1.5, rel=0.05)


def test_a_white_ball_under_an_even_sky_cannot_be_told_from_it(ball: Drawable) -> None:
    seen = cycles.light(ball, replace(DARK, ambient=0.4, light=(0.0, 0.0, -1.0)), 32, samples=16, denoise=False)
    assert middle(seen) == pytest.approx(0.4, rel=0.01)


def test_colours_multiply(block: Drawable) -> None:
    color, lamp = (0.9, 0.5, 0.2), (1.0, 0.6, 0.4)
    wanted = linear(np.array(color)) * linear(np.array(lamp))
    seen = middle(cycles.light(block, replace(LIT, color=color, light_color=lamp), 32, samples=4))
    assert seen == pytest.approx(wanted, abs=0.02)


@pytest.mark.parametrize("denoise", [False, True])
def test_twice_the_power_is_twice_the_light(ball: Drawable, denoise: bool) -> None:
    lamp = Lamp((0.6, 0.0, 0.8), 0.4)
    one, two = (cycles.light(ball, replace(UNLIT, lamps=(replace(lamp, power=p),)), 32, denoise=denoise) for p in (0.4, 0.8))
    assert (one.cover == two.cover).all()
    # the denoiser's network is near to linear, and no more
    assert np.abs(two.radiance - 2 * one.radiance).max() < (0.02 if denoise else 1e-5)


def test_light_is_of_the_part_alone(ball: Drawable) -> None:
    """Nothing outside of the outline, whose disc it fills; a white ball's pixels have the sky's light times their cover."""
    scene = replace(DARK, light=(0.0, 0.0, -1.0))
    seen = cycles.light(ball, scene, 64)
    assert not seen.radiance[seen.cover == 0].any()
    assert seen.cover.sum() * (20 / 64) ** 2 == pytest.approx(np.pi * 36, rel=0.005)
    full = seen.cover[..., None] * np.ones(3)
    assert np.abs(seen.radiance - full).mean() < 0.01  # at one sample a pixel
    outline = (seen.cover > 0) & (seen.cover < 1)
    assert seen.radiance[outline].mean() == pytest.approx(seen.cover[outline].mean(), rel=0.03)  # neither dark nor bright
    assert (seen.radiance.dtype, seen.cover.dtype, seen.radiance.shape) == (np.float32, np.float32, (64, 64, 3))


def test_a_wall_keeps_the_lamp_from_the_floor_where_shadows_are_asked_for() -> None:
    corner = item(((16.0, 16.0, 2.0), (0.0, 0.0, 0.0)), ((2.0, 16.0, 12.0), (-7.0, 0.0, 5.0)))
    low = replace(UNLIT, color=(0.2, 0.2, 0.2), lamps=(Lamp((-0.8, 0.0, 0.6), 1.0),))
    dark, open_ = (cycles.light(corner, replace(low, shadows=on), 32, samples=4).radiance for on in (True, False))
    assert middle(Light(dark, dark[..., 0])) == pytest.approx(0, abs=1e-4)
    assert middle(Light(open_, open_[..., 0])) == pytest.approx(0.6 * (linear(np.array(0.2)) + 0.04 / np.pi), abs=0.001)


def test_a_metal_mirrors_its_own_colour(ball: Drawable) -> None:
    scene = replace(DARK, color=(0.9, 0.6, 0.3), metallic=1.0, roughness=0.3, light=(0.0, 0.0, -1.0))
    assert middle(cycles.light(ball, scene, 32, samples=16)) == pytest.approx(linear(np.array(scene.color)), rel=0.1)


# Skies


@pytest.mark.parametrize(("up", "share"), [((0.0, 0.0, 1.0), 2 / 3), ((0.0, 1.0, 0.0), 0.0), ((0.0, 0.0, -1.0), -2 / 3)])
def test_a_sky_between_two_colours(block: Drawable, up: tuple[float, float, float], share: float) -> None:
    """Radiance m + h (d . up) lights a matt face of normal n by m + 2/3 h (n . up)."""
    above, below = (1.0, 0.8, 0.6), (0.1, 0.2, 0.3)
    scene = replace(DARK, ambient=0.5, light=(0.0, 0.0, -1.0), sky=Sky(up, above, below))
    mean, half = (linear(np.array(above)) + linear(np.array(below))) / 2, (linear(np.array(above)) - linear(np.array(below))) / 2
    wanted = 0.5 * (mean + share * half) / (mean @ LUMINANCE)
    assert middle(cycles.light(block, scene, 32, samples=64)) == pytest.approx(wanted, rel=0.04)


@pytest.mark.parametrize("name", ["even.exr", "even.hdr"])
def test_a_maps_own_brightness_does_not_matter(block: Drawable, tmp_path: Path, name: str) -> None:
    path = map_file(tmp_path, np.full((8, 16, 3), 7.0), name)
    scene = replace(DARK, ambient=0.5, light=(0.0, 0.0, -1.0), sky=Sky(hdri=path))
    assert middle(cycles.light(block, scene, 32, samples=16)) == pytest.approx(0.5, rel=0.02)


@pytest.mark.parametrize(
    ("spin", "side"), [(0.0, (0.0, 0.0, -1.0)), (90.0, (-1.0, 0.0, 0.0)), (180.0, (0.0, 0.0, 1.0)), (-90.0, (1.0, 0.0, 0.0))]
)
def test_which_way_a_map_is_turned(ball: Drawable, tmp_path: Path, spin: float, side: tuple[float, float, float]) -> None:
    """Its bright middle is ahead of the camera, behind the part, and a spin takes it about ``up`` by the right hand."""
    pixels = np.zeros((32, 64, 3))
    pixels[15:17, 31:33] = 1.0
    scene = replace(DARK, light=(0.0, 0.0, -1.0), sky=Sky(hdri=map_file(tmp_path, pixels), spin=spin))
    seen, known = cycles.light(ball, scene, 32, samples=16), raycast.truth(ball, scene, 32)
    facing = np.clip(known.normal @ np.array(side), 0, 1)[known.feature > 0]
    wanted = facing * 4  # all the light of a sphere of radiance 1 from one side: 4 pi / pi
    assert np.abs(seen.radiance[..., 0][known.feature > 0] - wanted).mean() < 0.15


def test_a_map_whose_zenith_is_bright_lights_from_above(ball: Drawable, tmp_path: Path) -> None:
    pixels = np.zeros((32, 64, 3))
    pixels[:16] = 1.0
    scene = replace(DARK, light=(0.0, 0.0, -1.0), sky=Sky((0.6, 0.8, 0.0), hdri=map_file(tmp_path, pixels)))
    seen, known = cycles.light(ball, scene, 32, samples=32), raycast.truth(ball, scene, 32)
    wanted = (1 + known.normal @ np.array(scene.sky.up))[known.feature > 0]  # of half a sky of radiance 2
    assert np.abs(seen.radiance[..., 1][known.feature > 0] - wanted).mean() < 0.06


def test_a_map_that_is_none_is_told(block: Drawable, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.exr: no such file; wanted an equirectangular"):
        cycles.light(block, replace(DARK, sky=Sky(hdri=str(tmp_path / "nowhere.exr"))), 32)


# Lens


def test_out_of_focus_by_the_circle_of_confusion(block: Drawable) -> None:
    """The near face's edge, 2 mm before the pivot: at the pivot's depth its blur is aperture * 2 / (distance - 2) across."""
    scene, size = replace(perspective(LIT, 20.0), lens=Lens(aperture=40.0)), 64
    distance, line = -scene.position[2], slice(28, 36)
    cover = cycles.light(block, scene, size, samples=64, denoise=False).cover[line].mean(0)
    sharp = cycles.light(block, replace(scene, lens=None), size, samples=1).cover[line].mean(0)
    partial = (cover[: size // 2] > 0.01) & (cover[: size // 2] < 0.99)
    assert partial.sum() * 20 / size == pytest.approx(40.0 * 2 / (distance - 2), abs=2 * 20 / size)
    assert cover.sum() == pytest.approx(sharp.sum(), abs=1.0)


# What it is to be called many times


def test_the_same_bytes_whatever_was_drawn_before(cap: cad.Part, block: Drawable, tmp_path: Path) -> None:
    mesh = cap.mesh()
    drawable, scene = Drawable.of(mesh), draw_scene(cap, mesh, np.random.default_rng(5))
    sky = Sky(hdri=map_file(tmp_path, np.ones((8, 16, 3))))
    seen = []
    for other in (None, None, replace(perspective(DARK), lamps=(Lamp((0.0, 1.0, 0.0), 1.0),), lens=Lens(aperture=1.0), sky=sky)):
        if other is not None:
            cycles.light(block, other, 48, samples=2, denoise=False)
        first, second = cycles.light(drawable, scene, 64), cycles.truth(drawable, scene, 64)
        seen.append([values.tobytes() for made in (first, second) for values in vars(made).values()])
    assert seen[0] == seen[1] == seen[2]


def test_memory_stays_flat(ball: Drawable) -> None:
    data, sizes = cycles._blender().data, []
    for k in range(60):
        grown = Drawable(ball.corners * (1 + k / 1000), ball.normals, ball.feature)
        cycles.light(grown, replace(LIT, lamps=(Lamp((0.0, 1.0, 0.0), 0.3),) * (k % 3)), 16)
        cycles.truth(grown, LIT, 16)
        sizes.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20)
    assert max(sizes[-10:]) - max(sizes[10:20]) < 8  # MiB
    assert (len(data.meshes), len(data.materials), len(data.cameras), len(data.objects)) == (1, 1, 1, 2 + len(data.lights))


def test_blender_keeps_quiet(block: Drawable, capfd: pytest.CaptureFixture[str]) -> None:
    cycles.light(block, LIT, 16)
    cycles.truth(block, LIT, 16)
    assert capfd.readouterr() == ("", "")


def test_threads_are_said_first(block: Drawable) -> None:
    cycles.truth(block, LIT, 16)
    with pytest.raises(RuntimeError, match="after Blender was loaded"):
        cycles.use_threads(cycles._asked[0] + 1)


def test_what_it_cannot_draw(block: Drawable) -> None:
    with pytest.raises(InputError, match="found 3 px; wanted 4 to 16384"):
        cycles.light(block, LIT, 3)
    with pytest.raises(InputError, match="behind the camera"):
        cycles.truth(block, replace(perspective(LIT), position=(0.0, 0.0, -1.0)), 16)
