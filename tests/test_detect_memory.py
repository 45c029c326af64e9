"""A memory in the part's own frame, and the detector that asks it."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import cad
from detect.cad_detector import CadRun
from detect.inspection import CALIBRATION
from detect.memory import REACH, SIDE, SPOKES, Frame, Memory, agreement, polar, symmetry_of
from detect.opening import open_detector, save_calibration
from detect.photo_detector import SIZE, PhotoDetector, memory_file
from synth.drawable import Drawable
from synth.photograph import photograph
from synth.scene import draw_scene
from synth.surroundings import Sensor
from train import filters
from train.cad_form import fit_form, open_form, read_config, wanted_of
from train.photographs import Photograph

pytestmark = pytest.mark.skipif(not filters.available(), reason="the extra features is not installed")


def picture(nut: cad.Part, seed: int, mesh: cad.Mesh | None = None, spot: float | None = None) -> Photograph:
    """A nut whose shine no render of its part file has: a bright face, and grain; ``spot``: with a dark mark on it."""
    scene = draw_scene(nut, nut.mesh(), np.random.default_rng(seed))
    scene = replace(
        scene, color=(0.45, 0.5, 0.45), roughness=0.25, metallic=0.6, background=(0.7, 0.72, 0.7), shadows=True,
        sensor=Sensor(blur=0.6, full_well=4000.0, read_noise=8.0, seed=seed),
    )  # fmt: skip
    pixels = photograph(Drawable.of(mesh or nut.mesh()), scene, SIZE).copy()
    if spot is not None:
        ring = scene.camera_points(np.array([[4.9 * math.cos(spot), 4.9 * math.sin(spot), 6.6]]))
        x, y = scene.pixels(ring, SIZE)[0]
        j, i = np.mgrid[:SIZE, :SIZE]
        pixels[np.hypot(i - x, j - y) < 5] //= 4
    return Photograph(Path(f"{seed}.png"), pixels, SIZE, SIZE)


def detector_of(part: cad.Part) -> PhotoDetector:
    """Of a part that nothing was fitted to yet: for what hangs on its shape alone."""
    return PhotoDetector(CadRun(Path("none"), SimpleNamespace(part=part)))


@pytest.fixture(scope="module")
def folder(nut: cad.Part, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photo") / "nut"
    fit_form(folder, nut, wanted_of(nut, 32, 0))
    return folder


@pytest.fixture(scope="module")
def detector(nut: cad.Part, folder: Path) -> PhotoDetector:
    detector = PhotoDetector(CadRun(folder, open_form(folder, read_config(folder))))
    detector.calibrate([picture(nut, k) for k in range(100, 112)], 0.1)
    save_calibration(detector)
    return detector


# Frames and turns


def blob() -> Frame:
    line = np.arange(SIDE) - (SIDE - 1) / 2
    y, x = np.meshgrid(line, line, indexing="ij")
    values = 0.5 + 0.3 * np.exp(-((x - 50) ** 2 + (y - 10) ** 2) / 200) - 0.2 * np.exp(-((x + 20) ** 2 + (y + 40) ** 2) / 300)
    return Frame(values, np.hypot(x, y) < REACH * SIDE, y + 80, x + 80)


@pytest.mark.parametrize("step", [0, 17, 90, 200])
def test_a_turn_is_found_again_and_undone(step: int) -> None:
    frame = blob()
    turned = frame.turned(2 * math.pi * step / SPOKES)
    assert int(np.argmax(agreement(polar(turned.picture), polar(frame.picture)))) == step
    again = turned.turned(-2 * math.pi * step / SPOKES)
    inner = np.hypot(*np.meshgrid(*[np.arange(SIDE) - (SIDE - 1) / 2] * 2)) < 0.45 * SIDE
    assert np.abs(again.picture - frame.picture)[inner].max() < 0.02 and np.abs(again.rows - frame.rows)[inner].max() < 0.1


@pytest.mark.parametrize(("name", "period"), [("hex_nut", 6), ("flange", 4), ("washer", 12)])
def test_after_how_much_of_a_turn_a_part_looks_alike(name: str, period: int) -> None:
    assert detector_of(cad.load(name)).period == period


VANED = "part: wheel\ndimensions: {radius: 20.0 ± 0.1}\nfeatures:\n  - {name: disc, add: cylinder, radius: radius, height: 3}\n  - {name: vanes, add: box, size: [12, 0.6, 6], at: [12, 0, 3], repeat: {count: 7, axis: z}}\nviews: {rotation: {axis: [0, 0, 1], spin: [0, 360]}}\n"  # fmt: skip


def test_walls_as_thin_as_a_pixel_and_a_mark_that_is_no_edge_count() -> None:
    """Seven vanes, seen from above, are seven thin lines; a plate on one of them is of the same slope as they are."""
    assert detector_of(cad.parse(VANED)).period == 7
    plate = "  - {name: mark, add: box, size: [4, 4, 1], at: [0, 8, 3]}\n"
    assert detector_of(cad.parse(VANED.replace("views:", plate + "views:"))).period == 1


def test_a_turn_of_layers_is_told_from_how_they_are_drawn() -> None:
    def view(angle: float) -> np.ndarray:
        spokes = np.arange(240) * 2 * np.pi / 240 + angle
        return np.tile(np.cos(5 * spokes), (1, 4, 1))

    assert symmetry_of(view) == 10 // 2


def test_features_do_not_depend_on_the_batch(rng: np.random.Generator) -> None:
    pictures = rng.random((3, SIDE, SIDE)).astype(np.float32)
    together = filters.features(pictures)
    assert together.shape == (3, filters.CELLS, filters.CELLS, 24 + 40 + 112)
    for k in range(3):
        assert filters.features(pictures[k : k + 1])[0] == pytest.approx(together[k], abs=1e-4)


def test_what_is_remembered_is_no_distance_away_and_the_window_forgives_a_cell(rng: np.random.Generator) -> None:
    frames = [replace(blob(), picture=np.clip(blob().picture + 0.05 * rng.standard_normal((SIDE, SIDE)), 0, 1)) for _ in range(3)]
    memory = Memory.of(frames, spins=False)
    own = memory.patches[1].astype(np.float32)
    assert memory.distances(own).max() < 0.05
    moved = np.roll(own, 1, 1)
    assert memory.distances(moved)[:, 2:-2].max() < 0.05 < np.median(memory.distances(np.roll(own, 4, 1)))
    without = memory.distances(own, memory.owner != 1)
    assert (without >= memory.distances(own) - 1e-3).all() and without.mean() > 0.05


# The detector


def test_good_nuts_pass_and_defective_ones_fail(nut: cad.Part, detector: PhotoDetector) -> None:
    good = [i for i, _, _ in detector.inspect([picture(nut, k) for k in range(10)])]
    assert sum(i.verdict == "fail" for i in good) <= 2
    for label, severity, words in (("squashed", 0.75, "times as long along"), ("broken-ring", 0.3, "a piece is missing")):
        made = [nut.with_defect(label, np.random.default_rng(k), severity=severity)[0] for k in range(3)]
        found = [i for i, _, _ in detector.inspect([picture(nut, 20 + k, m) for k, m in enumerate(made)])]
        assert all(i.verdict == "fail" for i in found), label
        told = [i for i in found if words in (i.reason or "")]
        assert len(told) >= 2, label
        if label == "broken-ring":  # of the body, whose top a chamfer made
            assert all(i.regions[0]["feature"] == "body" for i in told)
        assert min(i.score for i in found) > np.median([i.score for i in good])


def test_a_mark_that_no_outline_shows_is_remembered_as_strange_and_lies_where_it_is(nut: cad.Part, detector: PhotoDetector) -> None:
    clean, marked = (detector.inspect([picture(nut, 31, spot=s)]) for s in (None, 0.3))
    (before, _, _), (after, anomaly, _) = next(clean), next(marked)
    assert after.score > 1.2 * before.score and after.verdict == "fail"
    j, i = np.mgrid[:SIZE, :SIZE]
    dark = picture(nut, 31).pixels.astype(int).sum(2) - picture(nut, 31, spot=0.3).pixels.astype(int).sum(2) > 60
    x0, y0, x1, y1 = after.regions[0]["bbox"]
    assert x0 - 4 <= i[dark].mean() <= x1 + 4 and y0 - 4 <= j[dark].mean() <= y1 + 4
    assert anomaly[dark].max() > 1


def test_without_a_memory_no_mark_is_seen_but_shapes_are(nut: cad.Part, folder: Path) -> None:
    detector = PhotoDetector(CadRun(folder, open_form(folder, read_config(folder))))
    detector.calibrate([picture(nut, k) for k in range(100, 109)], 0.1, terms=("outline", "holes"))
    mesh, _ = nut.with_defect("broken-ring", np.random.default_rng(0), severity=0.3)
    broken, marked = (i for i, _, _ in detector.inspect([picture(nut, 20, mesh), picture(nut, 31, spot=0.3)]))
    assert broken.verdict == "fail" and marked.score < broken.score / 2


def test_what_is_no_picture_of_one_part_is_no_confident_pass(nut: cad.Part, detector: PhotoDetector, rng: np.random.Generator) -> None:
    empty = np.full((SIZE, SIZE, 3), 180, np.uint8) + rng.integers(0, 6, (SIZE, SIZE, 3), dtype=np.uint8)
    one = picture(nut, 3).pixels
    half = np.asarray(Image.fromarray(one).resize((SIZE // 2, SIZE // 2)))
    two = np.full_like(one, np.median(one[:4], (0, 1)).astype(np.uint8))
    two[40:120, :80], two[40:120, 80:] = half, half
    cap = cad.load("notched_cap")
    scene = replace(draw_scene(cap, cap.mesh(), np.random.default_rng(1)), background=(0.7, 0.72, 0.7), color=(0.3, 0.3, 0.3), field=60.0)
    other = photograph(Drawable.of(cap.mesh()), scene, SIZE)
    pictures = [Photograph(Path(f"{k}.png"), p, SIZE, SIZE) for k, p in enumerate((empty, two, other))]
    found = [i for i, _, _ in detector.inspect(pictures)]
    assert all(i.verdict != "pass" for i in found)
    assert found[0].verdict == "not this part" and "no part is seen" in found[0].reason
    assert "more than one part" in found[1].reason


def close(nut: cad.Part, seed: int, spot: bool = False) -> Photograph:
    """A part that fills its picture: a fixed pattern under changing grain, with no outline to be had."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    pixels = 120 + 40 * np.sin(9 * x + 4 * y) + 30 * np.cos(14 * y) + rng.normal(0, 3, (SIZE, SIZE))
    if spot:
        pixels[np.hypot(y - 0.6, x - 0.4) < 0.05] -= 70
    return Photograph(Path(f"{seed}.png"), np.repeat(np.clip(pixels, 0, 255).astype(np.uint8)[..., None], 3, 2), SIZE, SIZE)


def test_where_no_outline_is_found_whole_pictures_are_remembered(nut: cad.Part, folder: Path) -> None:
    still = cad.parse(nut.text.replace("spin: [0, 360]", "spin: [0, 0]"))
    detector = PhotoDetector(CadRun(folder, replace(open_form(folder, read_config(folder)), part=still)))
    calibration = detector.calibrate([close(nut, k) for k in range(12)], 0.1)
    assert not calibration.outlined
    good, marked = (next(detector.inspect([close(nut, 50, spot=s)])) for s in (False, True))
    assert good[0].verdict != "fail" and marked[0].verdict == "fail" and marked[0].score > 2 * good[0].score
    x0, y0, x1, y1 = marked[0].regions[0]["bbox"]
    assert x0 <= 0.4 * SIZE <= x1 and y0 <= 0.6 * SIZE <= y1
    with pytest.raises(cad.InputError, match="no outline of the part is found in it"):
        detector.calibrate([close(nut, k) for k in range(12)], 0.1, terms=("outline", "holes"))


def test_batch_order_and_repetition_change_nothing(nut: cad.Part, detector: PhotoDetector) -> None:
    some = [picture(nut, k) for k in (1, 2, 3)]
    together = [i.score for i, _, _ in detector.inspect(some)]
    assert [i.score for i, _, _ in detector.inspect(some[::-1])][::-1] == pytest.approx(together, rel=1e-5)
    assert [next(detector.inspect([p]))[0].score for p in some] == pytest.approx(together, rel=1e-5)


def test_a_saved_calibration_says_the_same(nut: cad.Part, detector: PhotoDetector, folder: Path, tmp_path: Path) -> None:
    again = open_detector(folder)
    assert isinstance(again, PhotoDetector) and memory_file(folder / CALIBRATION).exists()
    one, two = (next(d.inspect([picture(nut, 5)]))[0] for d in (detector, again))
    assert one.score == pytest.approx(two.score, rel=1e-5) and one.threshold == two.threshold
    data = json.loads((folder / CALIBRATION).read_text())
    assert data["form"] == "photograph" and data["n"] == 12
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    data["memory"] = "0" * 16
    (other / CALIBRATION).write_text(json.dumps(data))
    with pytest.raises(cad.InputError, match="its memory is another's"):
        open_detector(other)
    memory_file(folder / CALIBRATION).rename(folder / "away")
    with pytest.raises(cad.InputError, match="calibrate again"):
        open_detector(folder)
    (folder / "away").rename(memory_file(folder / CALIBRATION))


def test_which_route_is_taken_and_said(command, nut: cad.Part, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    for k in range(5):
        Image.fromarray(picture(nut, 200 + k).pixels).save(tmp_path / "good" / f"{k:02d}.png")
    copy = shutil.copytree(folder, tmp_path / "run")
    code, out, _ = command(f"detect calibrate {tmp_path / 'good'} --run {copy} --route photograph --alpha 0.2 --json")
    assert code == 0 and json.loads(out)["route"] == "photograph"
    code, out, _ = command(f"detect calibrate --rendered 5 --alpha 0.2 --run {copy} --json")
    assert code == 0 and json.loads(out)["route"] == "photograph" and not memory_file(copy / CALIBRATION).exists()
    assert command(f"detect inspect {tmp_path / 'good' / '00.png'} --run {copy}")[0] in (0, 1)
    code, _, err = command(f"detect calibrate --rendered 19 --route render --run {copy}")
    assert code == 2 and "found render with --rendered" in err
    code, _, err = command(f"detect calibrate --run {copy}")
    assert code == 2 and "one of GOOD and --rendered is wanted" in err
    code, _, err = command(f"detect inspect {tmp_path / 'good' / '00.png'} --run {copy} --trace {tmp_path / 't.gif'}")
    assert code == 2 and len(err.strip().splitlines()) == 1
