"""Photographs that are no photographs of one part, whole, and of this part: each has its answer, and none is a confident pass."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

import cad
from detect.cad_detector import CadRun
from detect.inspection import Inspection
from detect.opening import another_part, save_calibration
from detect.photo_detector import SIZE, PhotoDetector
from synth.drawable import Drawable
from synth.photograph import photograph
from synth.scene import draw_scene
from synth.surroundings import Sensor
from train.cad_form import fit_form, open_form, read_config, wanted_of
from train.photographs import Photograph

BOARD = (178, 182, 178)


def pictured(name: str, seed: int) -> np.ndarray:
    """(S, S, 3) a part of the shelf on a pale board, with grain."""
    part = cad.load(name)
    scene = draw_scene(part, part.mesh(), np.random.default_rng(seed))
    scene = replace(
        scene, color=(0.3, 0.32, 0.3), background=(0.445, 0.468, 0.445), shadows=True, sensor=Sensor(blur=0.6, full_well=4000.0, read_noise=8.0, seed=seed),
    )  # fmt: skip
    return photograph(Drawable.of(part.mesh()), scene, SIZE)


def board() -> np.ndarray:
    return np.clip(BOARD + np.random.default_rng(9).normal(0, 2, (SIZE, SIZE, 3)), 0, 255).astype(np.uint8)


def laid(*places: tuple[int, int, int]) -> np.ndarray:
    """Nuts of (width, row, column) on one board; what lies beyond it is cut off."""
    wide = np.pad(board(), ((SIZE, SIZE), (SIZE, SIZE), (0, 0)), mode="wrap")
    for k, (width, row, column) in enumerate(places):
        one = np.asarray(Image.fromarray(pictured("hex_nut", 3 + k)).resize((width, width)))
        part = ndimage.binary_opening(np.abs(one.astype(int) - BOARD).max(2) > 25)
        wide[SIZE + row : SIZE + row + width, SIZE + column : SIZE + column + width][part] = one[part]
    return wide[SIZE : 2 * SIZE, SIZE : 2 * SIZE].copy()


def shape(inside: np.ndarray) -> np.ndarray:
    return np.where(inside[..., None], 60, board()).astype(np.uint8)


def polygon(sides: int, hole: float = 0.0) -> np.ndarray:
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    half = np.pi / sides
    return shape((radius * np.cos((angle + half) % (2 * half) - half) < 42) & (radius > hole))


@pytest.fixture(scope="module")
def folder(nut: cad.Part, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("strange") / "nut"
    fit_form(folder, nut, wanted_of(nut, 32, 0))
    return folder


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("good")
    for k in range(19):
        Image.fromarray(pictured("hex_nut", 100 + k)).save(folder / f"{k:02d}.png")
    return sorted(folder.iterdir())


def opened(folder: Path, part: cad.Part | None = None) -> PhotoDetector:
    form = open_form(folder, read_config(folder))
    return PhotoDetector(CadRun(folder, replace(form, part=part) if part else form))


@pytest.fixture(scope="module")
def detector(folder: Path, good: list[Path]) -> PhotoDetector:
    """By outline and holes alone: what a memory adds can only reject more."""
    detector = opened(folder)
    detector.calibrate([Photograph(p, np.asarray(Image.open(p)), SIZE, SIZE) for p in good], 0.05, terms=("outline", "holes"))
    save_calibration(detector)
    return detector


def verdict(detector: PhotoDetector, pixels: np.ndarray) -> Inspection:
    return next(detector.inspect([Photograph(Path("a.png"), pixels, SIZE, SIZE)]))[0]


def test_one_whole_part_passes(detector: PhotoDetector) -> None:
    """Else the others' answers would say nothing."""
    assert verdict(detector, laid((160, 0, 0))).verdict == verdict(detector, pictured("hex_nut", 4)).verdict == "pass"


@pytest.mark.parametrize(
    "places",
    [[(80, 40, 0), (80, 40, 80)], [(70, 5, 5), (70, 5, 85), (70, 85, 40)]],
    ids=["two", "three"],
)
def test_several_parts_are_no_pass_of_one(detector: PhotoDetector, places: list[tuple[int, int, int]]) -> None:
    found = verdict(detector, laid(*places))
    assert found.verdict in ("unsure", "fail") and found.reason == "more than one part is in the picture"


@pytest.mark.parametrize("column", [66, 55, 40])
def test_parts_that_touch_or_overlap_are_no_pass_of_one(detector: PhotoDetector, column: int) -> None:
    assert verdict(detector, laid((80, 30, 8), (80, 40, column))).verdict != "pass"


@pytest.mark.parametrize("column", [-70, 70])
def test_a_part_that_is_cut_off_is_no_pass(detector: PhotoDetector, column: int) -> None:
    found = verdict(detector, laid((150, 5, column)))
    assert found.verdict in ("unsure", "fail") and found.reason == "the part reaches beyond the picture"


@pytest.mark.parametrize("level", [0, 120, 255])
def test_a_picture_of_nothing_shows_no_part(detector: PhotoDetector, level: int) -> None:
    x = np.mgrid[:SIZE, :SIZE][1]
    fade = np.repeat((x * 1.5).astype(np.uint8)[..., None], 3, 2)
    noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    for pixels in (np.full((SIZE, SIZE, 3), level, np.uint8), board(), fade, noise):
        found = verdict(detector, pixels)
        assert found.verdict == "not this part" and found.reason.startswith("no part is seen")
        assert found.regions == [] and found.p_value == pytest.approx(1 / 20)


@pytest.mark.parametrize("name", ["washer", "flange", "spur_gear", "bracket", "notched_cap", "stepped_shaft"])
def test_another_part_is_rejected(detector: PhotoDetector, name: str) -> None:
    found = verdict(detector, pictured(name, 1))
    assert found.verdict in ("fail", "not this part") and found.score > 2 * found.threshold


def test_other_shapes_are_rejected(detector: PhotoDetector) -> None:
    """Those of a nut's outline without its bore too."""
    x = np.mgrid[:SIZE, :SIZE][1]
    stripes = np.repeat(((np.sin(x / 4) > 0) * 120 + 60).astype(np.uint8)[..., None], 3, 2)
    for pixels in (polygon(4, 20), polygon(5, 20), polygon(8, 20), polygon(60, 20), polygon(6), polygon(6, 8), stripes):
        assert verdict(detector, pixels).verdict in ("fail", "not this part")


# Files


def test_a_turned_file_is_judged_as_it_is_shown(command, detector: PhotoDetector, folder: Path, tmp_path: Path) -> None:
    shown = Image.fromarray(laid((120, 15, 25))).crop((0, 0, 160, 150))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter, clockwise
    shown.save(tmp_path / "a.png")
    shown.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "b.png", exif=exif)
    code, out, _ = command(f"detect inspect {tmp_path / 'a.png'} {tmp_path / 'b.png'} --run {folder} --json")
    one, two = (json.loads(line) for line in out.splitlines())
    assert code == 0 and one["score"] == two["score"] and one["pose"] == two["pose"]


def test_what_is_no_image_is_refused_before_any_is_judged(command, detector: PhotoDetector, good: list[Path], folder: Path, tmp_path: Path) -> None:  # fmt: skip
    whole = good[0].read_bytes()
    for name, content, words in (("text.png", b"not a picture", "not an image"), ("cut.png", whole[: len(whole) // 2], "damaged"), ("empty.jpg", b"", "not an image")):  # fmt: skip
        (tmp_path / name).write_bytes(content)
        code, out, err = command(f"detect inspect {good[0]} {tmp_path / name} --run {folder}")
        assert code == 2 and out == "" and len(err.strip().splitlines()) == 1 and name in err and words in err


def test_a_good_photograph_without_a_part_is_named(good: list[Path], folder: Path) -> None:
    pictures = [Photograph(p, np.asarray(Image.open(p)), SIZE, SIZE) for p in good[:4]]
    with pytest.raises(cad.InputError, match=r"bare\.png: no part is seen.*wanted a photograph of one good part, whole"):
        opened(folder).calibrate([*pictures, Photograph(Path("bare.png"), board(), SIZE, SIZE)], 0.2, terms=("outline", "holes"))


# Another part's file


def test_a_calibration_by_another_parts_file_is_warned_of(folder: Path, good: list[Path]) -> None:
    other = opened(folder, cad.load("washer"))
    other.calibrate([Photograph(p, np.asarray(Image.open(p)), SIZE, SIZE) for p in good[:5]], 0.2, terms=("outline", "holes"))
    assert re.search(r"outlines agree with washer by 9[34] % in the median, less than 96 %", another_part(other, good[:5]))


def test_a_calibration_by_the_parts_own_file_is_not(detector: PhotoDetector, good: list[Path]) -> None:
    assert another_part(detector, good[:5]) is None
