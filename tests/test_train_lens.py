"""A camera's calibration: OpenCV's files, and pictures straightened by them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import cad
from cad.errors import InputError
from detect.cad_detector import CadDetector, CadRun
from synth.drawable import Drawable
from synth.raycast import draw
from synth.scene import Scene, draw_scene
from train.cad_form import build_form, open_form, placement_of, read_config, save_form, wanted_of
from train.lens import Lens, read_lens
from train.photographs import read

PINHOLE = Lens(320, 240, 500.0, 500.0, 159.5, 159.5 - 40, (0.0,) * 8)
BARREL = Lens(320, 320, 500.0, 505.0, 150.0, 165.0, (-0.4, 0.3, 0.002, -0.001, 0.1, 0.0, 0.0, 0.0))
OPENCV = """%YAML:1.0
---
calibration_time: "Thu 19 Nov 2026"
nframes: 25
image_width: 640
image_height: 480
flags: 0
camera_matrix: !!opencv-matrix
   rows: 3
   cols: 3
   dt: d
   data: [ 6.5746697e+02, 0., 3.195e+02, 0., 6.5746697e+02, 2.395e+02, 0., 0., 1. ]
distortion_coefficients: !!opencv-matrix
   rows: 5
   cols: 1
   dt: d
   data: [ -4.1802327e-01, 5.0715244e-01, 0., 0., -5.7843597e-01 ]
avg_reprojection_error: 3.0e-01
"""


def saved(tmp_path: Path, text: str, name: str = "camera.yml") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_reads_what_opencv_writes(tmp_path: Path) -> None:
    lens = read_lens(saved(tmp_path, OPENCV))
    assert (lens.width, lens.height, lens.fx, lens.cx) == (640, 480, 657.46697, 319.5)
    assert lens.terms == (-0.41802327, 0.50715244, 0.0, 0.0, -0.57843597, 0.0, 0.0, 0.0)
    assert lens.angle == pytest.approx(2 * np.degrees(np.arctan(320 / 657.46697)))
    assert Lens.of(json.loads(json.dumps(lens.json()))) == lens


@pytest.mark.parametrize("names", [("camera_matrix", "distortion_coefficients"), ("K", "D"), ("mtx", "dist")])
def test_reads_json_and_other_names(tmp_path: Path, names: tuple[str, str]) -> None:
    known = {names[0]: [[500, 0, 159.5], [0, 500, 119.5], [0, 0, 1]], names[1]: [[0.1, 0, 0, 0]], "image_width": 320, "image_height": 240}
    assert read_lens(saved(tmp_path, json.dumps(known), "camera.json")).terms == (0.1,) + (0.0,) * 7


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("image_width: 640", "image_width: wide", "found image_width wide and image_height 480"),
        ("camera_matrix", "matrix", "has no 3 x 3 camera_matrix"),
        ("0., 0., 1. ]", "0., 0., 2. ]", "camera_matrix: found"),
        ("3.195e+02", "3.195e+05", "found a principal point of 319500, 239.5 px"),
        ("-5.7843597e-01 ]", "-5.7843597e-01, 1 ]", "found 6 of them"),
        ("6.5746697e+02, 0.,", "many, 0.,", "camera_matrix: is not a matrix of numbers"),
        ("---", "[", "cannot be read"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, before: str, after: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_lens(saved(tmp_path, OPENCV.replace(before, after, 1)))


@pytest.mark.parametrize(("text", "says"), [("", "is no calibration"), ("- 1", "is no calibration")])
def test_what_is_no_calibration(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_lens(saved(tmp_path, text))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_lens(tmp_path / "none.yml")


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = saved(tmp_path_factory.mktemp("text"), text)
    try:
        read_lens(path)
    except InputError as error:
        assert "\n" not in str(error)


def test_a_pinhole_changes_no_pixel(rng: np.random.Generator) -> None:
    """Principal point in the middle, no distortion: the picture, padded to a square."""
    picture = rng.integers(0, 256, (240, 320, 3), np.uint8)
    middle = replace(PINHOLE, cy=119.5)
    assert (middle.straightened(picture)[40:280] == picture).all()


@given(st.floats(-0.3, 0.3), st.floats(-0.2, 0.2), st.floats(-0.01, 0.01), st.floats(-0.01, 0.01))
def test_distortion_is_browns(k1: float, k2: float, p1: float, p2: float) -> None:
    """Against the formula in complex numbers: z |-> z (1 + k1 |z|^2 + k2 |z|^4) + tangential terms; the axis lands on the principal point."""
    lens = replace(BARREL, terms=(k1, k2, p1, p2, 0.0, 0.0, 0.0, 0.0))
    points = np.array([[10.0, 20.0], [160.0, 160.0], [300.0, 55.0]])
    z = ((points - 160) / lens.fx) @ [1, 1j]
    r = np.abs(z) ** 2
    bent = z * (1 + k1 * r + k2 * r**2) + (p2 + 1j * p1) * r + 2 * z * (p1 * z.imag + p2 * z.real)
    wanted = np.column_stack([lens.fx * bent.real + lens.cx, lens.fy * bent.imag + lens.cy]) + 0.5
    assert np.allclose(lens.source(points), wanted)


def test_photographs_of_another_size(tmp_path: Path, rng: np.random.Generator) -> None:
    """Half as large is the same picture; another shape is another camera."""
    picture = np.repeat(np.repeat(rng.integers(0, 256, (160, 160, 1), np.uint8), 2, 0), 2, 1).repeat(3, 2)
    Image.fromarray(picture).save(tmp_path / "a.png")
    Image.fromarray(picture[::2, ::2]).save(tmp_path / "b.png")
    Image.fromarray(picture[:200]).save(tmp_path / "c.png")
    a, b = (read(tmp_path / f"{n}.png", 40, BARREL).pixels.astype(int) for n in "ab")
    assert np.abs(a - b).mean() < 6
    with pytest.raises(InputError, match="wanted the shape of the camera's calibration, 320 x 320 px"):
        read(tmp_path / "c.png", 40, BARREL)


def bent(lens: Lens, pixels: np.ndarray) -> np.ndarray:
    """What ``lens`` would have shown where a pinhole shows ``pixels`` (side, side, 3): the inverse of its map, by iteration."""
    y, x = np.mgrid[: lens.height, : lens.width] + 0.5
    wanted = np.stack([x, y], -1)
    at = wanted.copy()
    for _ in range(50):
        at += wanted - lens.source(at)
    i, j = (np.clip(np.floor(at[..., k]).astype(int), 0, lens.side - 1) for k in (0, 1))
    return pixels[j, i]


def test_pose_through_a_bent_lens(cap: cad.Part, tmp_path: Path) -> None:
    """A form fitted with the calibration finds poses in bent photographs, and boxes in their own pixels; it is saved with the form."""
    lens = replace(BARREL, width=512, height=512, fx=900.0, fy=900.0, cx=245.0, cy=262.0)
    form, facts = build_form(cap, 64, lens=lens)
    save_form(tmp_path / "run", form, wanted_of(cap, 64, 0, lens), facts)
    form = open_form(tmp_path / "run", read_config(tmp_path / "run"))
    assert form.lens == lens and form.reference.perspective
    detector, rng, near = CadDetector(CadRun(tmp_path / "run", form)), np.random.default_rng(3), []
    for k in range(4):
        scene = draw_scene(form.part, form.mesh, rng)
        Image.fromarray(bent(lens, draw(Drawable.of(cap.mesh()), scene, 512))).save(tmp_path / f"{k}.png")
        photograph = read(tmp_path / f"{k}.png", 64, detector.lens)
        found, true = detector.project(photograph.pixels).refined.at, placement_of(scene, form.pivot)
        offset = np.linalg.norm(found.position[:2] - true.position[:2])
        near.append((offset, abs(found.mm_per_pixel(64) / true.mm_per_pixel(64) - 1)))
        middle = scene.pixels(np.asarray(scene.position)[None], 64)[0]
        box = photograph.own_box((*np.floor(middle).astype(int), *np.ceil(middle).astype(int)))
        own = lens.source(scene.pixels(np.asarray(scene.position)[None], 512)[0])
        assert box[0] - 1 <= own[0] <= box[2] + 1 and box[1] - 1 <= own[1] <= box[3] + 1
    assert np.median([n[0] for n in near]) < 0.3 and np.median([n[1] for n in near]) < 0.02


@pytest.mark.parametrize(
    "camera", ["projection: orthographic, field: [34.0, 46.0]", "projection: perspective, angle: [25.0, 45.0], fill: [0.6, 0.8]"]
)
def test_scale_within_a_range(cap: cad.Part, camera: str) -> None:
    """A range of mm a pixel, or of focal lengths: what a pixel measures is found to a hundredth."""
    part = cad.parse(cap.text.replace("projection: orthographic, field: 40.0", camera))
    form, _ = build_form(part, 64)
    detector, rng, off, seen = CadDetector(CadRun(Path("run"), form)), np.random.default_rng(5), [], set()
    for _ in range(6):
        scene: Scene = draw_scene(part, form.mesh, rng)
        seen.add(scene.field or scene.angle)
        found = detector.project(draw(form.item, scene, 64)).refined.at
        off.append(abs(found.mm_per_pixel(64) / placement_of(scene, form.pivot).mm_per_pixel(64) - 1))
    assert len(seen) == 6 and np.median(off) < 0.01, off


def test_on_the_command_line(command, tmp_path: Path) -> None:
    """The calibration is part of what a run was made from; a learned form has no use for one; a bad file leaves nothing behind."""
    path, other = saved(tmp_path, OPENCV), saved(tmp_path, OPENCV.replace("640", "641"), "other.yml")
    code, out, _ = command(f"train fit notched_cap --form cad --camera {path} --dry-run -o {tmp_path / 'run'} --json")
    assert code == 0 and "lens" in json.loads(out)
    other_out = command(f"train fit notched_cap --form cad --camera {other} --dry-run -o {tmp_path / 'run'} --json")[1]
    assert json.loads(other_out)["lens"] != json.loads(out)["lens"]
    code, _, err = command(f"train fit notched_cap --camera {path}")
    assert code == 2 and "a learned form knows no camera" in err
    code, _, err = command(f"train fit notched_cap --form cad --camera {tmp_path / 'none.yml'} -o {tmp_path / 'run'}")
    assert code == 2 and "no such file; wanted a camera calibration" in err
    assert not (tmp_path / "run").exists()
