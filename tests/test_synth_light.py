"""Several lamps and the shadows that a part casts on itself: light adds up, and shadows lie where rays to the lamp are stopped."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

import cad
from cad.errors import InputError
from synth.color import linear
from synth.drawable import Drawable
from synth.raycast import draw, truth
from synth.sampling import Recipe, draw_sample
from synth.scene import Lamp, Scene, draw_scene, lamps_of

SIZE = 64


def lamp(seed: int, power: float = 0.2) -> Lamp:
    direction = np.random.default_rng(seed).normal(size=3) + np.array([0.0, 0.0, 1.5])
    return Lamp(tuple(map(float, direction / np.linalg.norm(direction))), power)


def scene_of(part: cad.Part, seed: int, **other: object) -> Scene:
    """One whose picture is nowhere as bright as its bits end, nor glossy."""
    scene = draw_scene(part, part.mesh(), np.random.default_rng(seed))
    return replace(scene, **{"ambient": 0.7, "color": (0.7, 0.7, 0.7), "roughness": 1.0, **other})


def lit_as(part: cad.Part, light: str) -> str:
    """Its part file with more said of its light."""
    text, count = re.subn(r"light: *\{", f"light: {{{light}, ", part.text)
    assert count == 1
    return text


@pytest.fixture(scope="module")
def item(cap: cad.Part) -> Drawable:
    return Drawable.of(cap.mesh())


@pytest.mark.parametrize("shadows", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_light_adds_up(cap: cad.Part, item: Drawable, seed: int, shadows: bool) -> None:
    """Two lamps give what each gives beside what all-round light gives; twice the power, twice as much of it."""
    scene = scene_of(cap, seed, shadows=shadows)
    one, two = lamp(seed + 10), lamp(seed + 20)

    def light(*lamps: Lamp) -> np.ndarray:
        return linear(draw(item, replace(scene, lamps=lamps), SIZE) / 255)

    none = light()
    step = 0.01  # of a level of 255 where it is steepest, and rounding of four pictures
    np.testing.assert_allclose(light(one, two) - none, (light(one) - none) + (light(two) - none), atol=2 * step)
    np.testing.assert_allclose(light(replace(one, power=0.4)) - none, 2 * (light(one) - none), atol=2 * step)
    assert (light(one) - none).max() > 0.05


def test_a_lamp_has_a_color(cap: cad.Part, item: Drawable) -> None:
    scene = scene_of(cap, 4, lamps=(replace(lamp(1), color=(1.0, 0.0, 0.0)),))
    more = draw(item, scene, SIZE).astype(int) - draw(item, replace(scene, lamps=()), SIZE)
    assert more[..., 0].max() > 5 and more[..., 1:].max() == 0


def test_every_scene_has_a_first_lamp(cap: cad.Part) -> None:
    scene = scene_of(cap, 0, ambient=0.3, lamps=(lamp(1),))
    assert lamps_of(scene) == (Lamp(scene.light, 0.7), lamp(1))


@pytest.mark.parametrize("seed", range(4))
def test_shadows_lie_where_rays_to_the_lamp_are_stopped(cap: cad.Part, item: Drawable, seed: int) -> None:
    """Two routes: the picture, and a ray from each pixel's place to the lamp (Moeller and Trumbore 1997)."""
    scene = scene_of(cap, seed, shadows=True, ambient=0.3, light=lamp(seed).direction)
    bright, dark = (linear(draw(item, replace(scene, shadows=s), SIZE, samples=1)[..., 0] / 255) for s in (False, True))
    buffers = truth(item, scene, SIZE)
    j, i = np.nonzero((buffers.feature > 0) & (buffers.normal @ scene.light > 0.15))
    step = scene.field / SIZE
    seen = np.column_stack([(i + 0.5 - SIZE / 2) * step, (SIZE / 2 - j - 0.5) * step, -buffers.depth[j, i]])
    points = (seen - scene.position) @ scene.rotation + scene.pivot
    towards = scene.rotation.T @ np.asarray(scene.light)
    a, b, c = np.moveaxis(item.corners, 1, 0)
    cross = np.cross(towards, c - a)
    det = ((b - a) * cross).sum(1)
    stopped = np.zeros(len(points), bool)
    for k, point in enumerate(points):
        with np.errstate(divide="ignore", invalid="ignore"):
            u = ((point - a) * cross).sum(1) / det
            other = np.cross(point - a, b - a)
            v, t = other @ towards / det, ((c - a) * other).sum(1) / det
            stopped[k] = ((np.abs(det) > 1e-12) & (u > 0) & (v > 0) & (u + v < 1) & (t > 0.1)).any()
    fell = (bright - dark)[j, i] > 0.02
    assert (fell == stopped).mean() > 0.95  # but for a texel at a shadow's edge
    assert (dark <= bright + 1e-9).all()


def test_some_view_of_the_cap_shows_a_shadow(cap: cad.Part, item: Drawable) -> None:
    pairs = [[draw(item, scene_of(cap, k, ambient=0.2, shadows=s), SIZE).astype(int) for s in (False, True)] for k in range(6)]
    assert max((a - b).max() for a, b in pairs) > 40


def test_a_ball_casts_none_on_itself() -> None:
    ball = cad.parse("part: p\nunits: mm\nfeatures:\n  - {name: ball, add: sphere, radius: 10}\n")
    made = Drawable.of(ball.mesh())
    scene = scene_of(ball, 1, ambient=0.3)
    assert (
        np.abs(draw(made, replace(scene, shadows=True), SIZE).astype(int) - draw(made, scene, SIZE)).max() <= 12
    )  # where light grazes a facet


def test_before_a_perspective_camera_shadows_tend_to_the_same(cap: cad.Part, item: Drawable) -> None:
    flat = scene_of(cap, 2, ambient=0.3, shadows=True, position=(0.0, 0.0, -3000.0))
    angle = float(2 * np.degrees(np.arctan(flat.field / 2 / 3000)))
    far = replace(flat, field=None, angle=angle)
    assert (np.abs(draw(item, far, SIZE).astype(int) - draw(item, flat, SIZE)) > 8).mean() < 0.01


def test_a_part_file_has_lamps_and_shadows(cap: cad.Part) -> None:
    text = lit_as(cap, "shadows: true, lamps: [{direction: [-1, 0, 1], spread: 5, power: [0.1, 0.4], color: [1, 0.9, 0.8]}]")
    lit = cad.parse(text)
    scene = draw_sample(lit, Recipe(1, 0, size=32), "train", "good", 0).sample.scene
    again = Scene.of(json.loads(json.dumps(scene)))
    assert again.json() == scene and again.shadows and 0.1 <= again.lamps[0].power <= 0.4 and again.lamps[0].color == (1.0, 0.9, 0.8)
    plain = draw_sample(cap, Recipe(1, 0, size=32), "train", "good", 0).sample.scene
    assert plain["lamps"] == [] and scene["quaternion"] == plain["quaternion"] and scene["light"] == plain["light"]


def test_a_scene_from_before_there_were_lamps_is_read(cap: cad.Part) -> None:
    scene = scene_of(cap, 0)
    old = {k: v for k, v in scene.json().items() if k not in ("lamps", "shadows")}
    assert Scene.of(json.loads(json.dumps(old))) == scene


@pytest.mark.parametrize(
    ("light", "said"),
    [
        ("lamps: [{power: 0.2}]", "views.light.lamps.0.direction"),
        ("lamps: [{direction: [0, 0, 1], power: -1}]", "views.light.lamps.0.power"),
        ("lamps: [{direction: [0, 0, 1], glow: 1}]", "views.light.lamps.0.glow"),
        ("shadows: maybe", "views.light.shadows"),
    ],
)
def test_a_mistake_in_a_light_is_told_by_its_key(cap: cad.Part, light: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        cad.parse(lit_as(cap, light))
    assert said in str(error.value)
