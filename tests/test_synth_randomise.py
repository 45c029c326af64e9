"""Randomisation by class: each can be switched alone, keeps to its ranges, and changes nothing of the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import cad
from cad.views import Turn
from synth.blocks import CLASSES, STRONG
from synth.randomise import LEVELS, blocks_json, blocks_of, blocks_text, parse_blocks, varied_scene
from synth.sampling import Recipe, draw_sample
from synth.scene import Scene

TILTED = "{axis: [0, 0, 1], spin: [0, 360], tilt: [0, 20]}"
# what of a scene each class may move, beside what follows from it: a turned or wider part is placed anew where the file asks for a fill
OWN = {
    "pose": {"quaternion"},
    "position": {"position", "field"},
    "light_direction": {"light"},
    "lights": {"lamps", "light_color", "light_size", "shadows"},
    "ambient": {"ambient", "sky", "occlusion"},
    "surface": {"color", "roughness", "metallic"},
    "camera": {"quaternion", "lens", "angle"},
    "background": {"backdrop"},
    "sensor": {"sensor"},
    "dust": {"dust"},
}


@pytest.fixture(scope="module")
def tilted(cap: cad.Part) -> cad.Part:
    return cad.parse(cap.text.replace("rotation: any", f"rotation: {TILTED}"))


def scene_of(part: cad.Part, randomise: dict[str, Any], index: int = 0) -> Scene:
    recipe = Recipe(1, 0, size=16, samples=1, randomise=blocks_json(blocks_of(randomise)))
    return varied_scene(part, part.mesh(), recipe.blocks, recipe.streams("train", "good", index))


def test_every_class_is_tried_here_and_has_both_levels() -> None:
    assert set(OWN) == set(CLASSES) == set(STRONG)
    for name, model in CLASSES.items():
        assert isinstance(STRONG[name], model) and (name in ("pose",) or STRONG[name] != model())


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("level", ["off", "default", "strong"])
def test_a_class_that_is_switched_moves_its_own_fields_alone(tilted: cad.Part, name: str, level: str) -> None:
    """What an ablation counts on: with one class off or on, all else of the very same view stays."""
    others = dict.fromkeys(CLASSES, "default")
    for index in range(4):
        before, after = (scene_of(tilted, {**others, name: how}, index) for how in ("file", level))
        moved = {k for k, v in asdict(after).items() if asdict(before)[k] != v}
        assert moved <= OWN[name], (name, level)
    if level == "strong":
        assert moved, name


def test_all_classes_left_as_the_file_has_them_are_the_files_views(cap: cad.Part) -> None:
    scene = scene_of(cap, dict.fromkeys(CLASSES, "file"))
    assert not blocks_of("file") and scene.sensor is scene.dust is scene.backdrop is scene.sky is None
    assert (scene.field, scene.ambient, scene.color) == (40.0, 0.25, (0.82, 0.82, 0.84))


def test_off_holds_still(tilted: cad.Part) -> None:
    scenes = [scene_of(tilted, dict.fromkeys(CLASSES, "off"), k) for k in range(3)]
    first = scenes[0]
    for scene in scenes[1:]:
        drawn = {k for k, v in asdict(scene).items() if v != asdict(first)[k]}
        assert drawn <= {"quaternion"}  # a tilt's direction, where the file's middle tilt is not 0
        tilt = np.degrees(np.arccos(np.clip(scene.rotation[2, 2], -1, 1)))
        assert tilt == pytest.approx(10.0)
    assert np.allclose(np.array(first.light) * np.linalg.norm((0.4, 0.5, 0.77)), (0.4, 0.5, 0.77))


def test_off_turns_a_part_that_may_be_seen_from_anywhere_to_one_side(cap: cad.Part) -> None:
    assert all(scene_of(cap, {"pose": "off"}, k).rotation == pytest.approx(np.eye(3)) for k in range(3))


def test_a_level_for_the_rest_stands_anywhere() -> None:
    assert parse_blocks("dust=off,strong") == parse_blocks("strong,dust=off") == {**STRONG, "dust": "off"}


def test_further_lamps_of_the_file_are_held_at_their_middle(cap: cad.Part) -> None:
    lit = cad.parse(cap.text.replace("ambient: 0.25}", "ambient: 0.25, lamps: [{direction: [-1, 0, 1], spread: 20, power: [0.1, 0.5]}]}"))
    lamps = {scene_of(lit, {"lights": "off"}, k).lamps for k in range(4)}
    assert len(lamps) == 1 and next(iter(lamps))[0].power == pytest.approx(0.3)


def test_a_file_that_no_backdrop_can_be_is_told_before_anything_is_drawn(cap: cad.Part, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"none")
    for block in ({"background": {"kinds": ["image"], "files": str(tmp_path)}}, {"ambient": {"hdri": str(tmp_path)}}):
        with pytest.raises(cad.InputError, match="does not decode"):
            Recipe(1, 0, size=16, randomise=block).check(cap)


def test_a_wider_pose_tilts_further(tilted: cad.Part) -> None:
    tilts = [np.degrees(np.arccos(scene_of(tilted, {"pose": {"tilt": 30}}, k).rotation[2, 2])) for k in range(60)]
    assert 20 < max(tilts) <= 50 + 1e-6


def drawn(part: cad.Part, block: dict[str, Any], get: Callable[[Scene], float], count: int = 200) -> tuple[float, float]:
    values = [get(scene_of(part, block, k)) for k in range(count)]
    return min(values), max(values)


@pytest.mark.parametrize(
    ("block", "get", "low", "high"),
    [
        ({"position": {"offset": 0.0, "scale": [0.5, 2.0]}}, lambda s: s.field, 20.0, 80.0),
        ({"position": {"offset": 0.2, "scale": [1.0, 1.0]}}, lambda s: s.position[0], -8.0, 8.0),
        ({"ambient": {"level": [0.2, 0.6]}}, lambda s: s.ambient, 0.2, 0.6),
        ({"surface": {"roughness": [-0.3, 0.2]}}, lambda s: s.roughness, 0.2, 0.7),
        ({"camera": {"k1": [-0.05, 0.1]}}, lambda s: s.lens.k1, -0.05, 0.1),
        ({"sensor": {"exposure": [-2, 1]}}, lambda s: s.sensor.exposure, -2.0, 1.0),
        ({"sensor": {"blur": [0.5, 1.5]}}, lambda s: s.sensor.blur, 0.5, 1.5),
        ({"background": {"blur": [0.0, 0.1]}}, lambda s: s.backdrop.blur, 0.0, 0.1),
        ({"lights": {"number": [1, 3]}}, lambda s: len(s.lamps), 1, 3),
        ({"lights": {"size": [1, 9]}}, lambda s: s.light_size, 1.0, 9.0),
        ({"dust": {"count": [2, 9]}}, lambda s: s.dust.count, 2, 9),
    ],
)
def test_a_range_is_kept_to_and_filled(
    cap: cad.Part, block: dict[str, Any], get: Callable[[Scene], float], low: float, high: float
) -> None:
    least, most = drawn(cap, block, get)
    slack = 0.08 * (high - low)
    assert low - 1e-9 <= least <= low + slack and high - slack <= most <= high + 1e-9


def test_light_comes_from_within_its_spread(cap: cad.Part) -> None:
    towards = np.array([0.4, 0.5, 0.77]) / np.linalg.norm([0.4, 0.5, 0.77])
    angles = [np.degrees(np.arccos(np.clip(np.dot(scene_of(cap, {"light_direction": {"spread": 50}}, k).light, towards), -1, 1))) for k in range(100)]  # fmt: skip
    assert 40 < max(angles) <= 50 + 1e-6


def test_a_wider_angle_of_view_shows_the_part_as_large(nut: cad.Part) -> None:
    """Nearer by as much as the angle is wider: the pivot's pixels to the mm stay."""
    before, after = scene_of(nut, {}), scene_of(nut, {"camera": {"lean": [0, 0], "angle": [2.0, 2.0], "k1": [0, 0]}})
    assert after.angle == pytest.approx(2 * before.angle)
    assert after.pixels_per_mm(100) == pytest.approx(before.pixels_per_mm(100))


def test_a_larger_scale_shows_the_part_larger_in_perspective(nut: cad.Part) -> None:
    before, after = scene_of(nut, {}), scene_of(nut, {"position": {"offset": 0.0, "scale": [1.25, 1.25]}})
    assert after.pixels_per_mm(100) == pytest.approx(1.25 * before.pixels_per_mm(100))
    pivot = np.array([before.pivot])
    assert after.pixels(after.camera_points(pivot), 100) == pytest.approx(before.pixels(before.camera_points(pivot), 100))


def test_files_of_backgrounds_and_maps_are_drawn_from(cap: cad.Part, tmp_path: Path) -> None:
    for k in range(3):
        Image.fromarray(np.full((16, 32, 3), 80 * k, np.uint8)).save(tmp_path / f"{k}.png")
    block = {"background": {"kinds": ["image"], "files": str(tmp_path)}, "ambient": {"hdri": str(tmp_path)}}
    scenes = [scene_of(cap, block, k) for k in range(30)]
    assert {Path(s.backdrop.file).name for s in scenes} == {Path(s.sky.hdri).name for s in scenes} == {"0.png", "1.png", "2.png"}


def test_a_varied_sample_alone_is_the_one_in_the_batch(cap: cad.Part) -> None:
    recipe = Recipe(6, 3, size=32, randomise=blocks_json(blocks_of("strong")))
    whole = {(label, k): draw_sample(cap, recipe, "test", label, k) for label in ("good", "bulge") for k in range(3)}
    for (label, k), one in reversed(whole.items()):
        again = draw_sample(cap, recipe, "test", label, k)
        assert np.array_equal(one.image, again.image) and np.array_equal(one.mask, again.mask)
        assert json.loads(one.sample.line()) == json.loads(again.sample.line())
        assert Scene.of(json.loads(one.sample.line())["scene"]) == Scene.of(one.sample.scene)


# How they are written


@pytest.mark.parametrize("text", LEVELS)
def test_a_level_stands_for_all_classes(text: str) -> None:
    blocks = parse_blocks(text)
    assert set(blocks) == (set() if text == "file" else set(CLASSES))
    if text == "strong":
        assert blocks == STRONG


def test_classes_are_named_after_a_level_for_the_rest() -> None:
    assert parse_blocks("sensor=strong, pose=off") == {"pose": "off", "sensor": STRONG["sensor"]}
    blocks = parse_blocks("default,dust=off,lights=file")
    assert blocks["dust"] == "off" and "lights" not in blocks and blocks["sensor"] == CLASSES["sensor"]()


@pytest.mark.parametrize("level", ["default", "strong", "sensor=strong"])
def test_a_printed_recipe_is_read_back(command, tmp_path: Path, level: str) -> None:
    code, out, _ = command(f"synth recipe --randomise {level}")
    assert code == 0
    path = tmp_path / "recipe.yaml"
    path.write_text(out, encoding="utf-8")
    assert parse_blocks(str(path)) == parse_blocks(level)


@given(st.dictionaries(st.sampled_from(list(CLASSES)), st.sampled_from([*LEVELS, "block"])))
@settings(max_examples=60, deadline=None)
def test_blocks_survive_json_and_text(levels: dict[str, str]) -> None:
    blocks = blocks_of({name: STRONG[name].model_dump() if level == "block" else level for name, level in levels.items()})
    assert blocks_of(json.loads(json.dumps(blocks_json(blocks)))) == blocks
    from cad.reading import read_yaml

    assert blocks_of(read_yaml(blocks_text(blocks))) == blocks


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("strnog", r'--randomise: found "strnog".*did you mean "strong"'),
        ("light=off", r'randomise\.light: unknown class \(did you mean "lights"'),
        ("sensor=of", r"randomise\.sensor: found 'of'"),
        ("missing.yaml", r"missing\.yaml: cannot be read"),
        ("dust=off,strnog", r"--randomise: found"),
        ("strong,default", r"--randomise: found"),
    ],
)
def test_a_misspelt_class_or_level_is_told(command, tmp_path: Path, text: str, words: str) -> None:
    code, _, err = command(f"synth render notched_cap -n 1 --test 0 --randomise {text} -o {tmp_path / 'x'}")
    assert code == 2 and len(err.strip().splitlines()) == 1
    import re

    assert re.search(words, err), err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"sensor": {"blurr": [0, 1]}}, r'sensor\.blurr: unknown key \(did you mean "blur"'),
        ({"sensor": {"jpeg": [0, 90]}}, r"jpeg is a quality: wanted 1 to 100|wanted 1 to 100"),
        ({"lights": {"kelvin": [100, 200]}}, r"wanted colour temperatures"),
        ({"camera": {"k1": [-0.5, 0]}}, r"wanted k1 within"),
        ({"background": {"kinds": ["image"]}}, r"wanted files"),
        ({"background": {"kinds": ["wallpaper"]}}, r"background\.kinds"),
        ({"dust": {"count": [5, 2]}}, r"wanted \[2, 5\]"),
        ({"position": {"scale": [2, 1]}}, r"wanted \[1, 2\]"),
        ({"position": {"scale": [0, 1]}}, r"scale is too small"),
        ({"dust": {"size": [-0.1, 0.1]}}, r"size is too small"),
        ({"lights": {"size": [0, 120]}}, r"size is too large"),
        ({"lights": {"power": [-1, 1]}}, r"power is too small"),
        ({"surface": {"lightness": [-1, 1]}}, r"lightness is too small"),
        ({"camera": {"angle": [0, 1]}}, r"angle is too small"),
        ({"pose": 7}, r"pose: found 7"),
        ([1], r"found \[1\]"),
    ],
)
def test_a_block_that_cannot_be_is_told_with_its_place(entry: Any, words: str) -> None:
    with pytest.raises(cad.InputError, match=words):
        blocks_of(entry)


def test_a_folder_without_pictures_is_told_before_anything_is_written(cap: cad.Part, tmp_path: Path) -> None:
    from synth.render import render

    recipe = Recipe(2, 0, size=16, randomise={"background": {"kinds": ["image"], "files": str(tmp_path)}})
    with pytest.raises(cad.InputError, match="holds no picture"):
        render(cap, tmp_path / "x", recipe, jobs=1)
    assert not (tmp_path / "x").exists()


def test_poses_of_a_list_are_kept_whatever_else_varies(tilted: cad.Part) -> None:
    turn = [1.0, 0.0, 0.0, 0.0]
    recipe = Recipe(3, 0, size=16, poses=[turn], randomise=blocks_json(blocks_of({"pose": "strong", "lights": "strong"})))
    assert all(draw_sample(tilted, recipe, "train", "good", k).sample.scene["quaternion"] == tuple(turn) for k in range(3))


def test_the_part_files_own_views_stay_as_they_are(tilted: cad.Part) -> None:
    before = tilted.views
    scene_of(tilted, dict.fromkeys(CLASSES, "strong"))
    assert tilted.views == before and isinstance(before.rotation, Turn)
    assert replace(tilted) == tilted
