"""The CAD form's detector: verdicts, millimetres, honest states, and the doors it shares with the learned forms."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cad
from cad.errors import InputError
from detect.cad_descent import Pyramid, Search, Step
from detect.cad_detector import CadDetector
from detect.dimensions import Measured
from detect.group import fused
from detect.inspection import Inspection
from detect.look import blur_of, finer, grain, with_lobes
from detect.opening import open_detector
from synth.drawable import Drawable
from synth.raycast import draw
from synth.sampling import Recipe, draw_sample
from synth.scene import Scene, draw_scene
from train.cad_form import luminance, placement_of
from train.photographs import Photograph
from train.shading import lit

REGION = {"feature", "bbox", "area_px", "score", "size_mm", "deviation_mm"}


@pytest.fixture(scope="module")
def detector(form_folder: Path) -> CadDetector:
    return open_detector(form_folder)


def photograph(pixels: np.ndarray, name: str = "view.png") -> Photograph:
    return Photograph(Path(name), pixels, *pixels.shape[1::-1])


def views(cap: cad.Part, label: str, count: int, **severities: list[float]) -> list[tuple[Photograph, object]]:
    recipe = Recipe(0, count, size=64, seed=31, severities=severities)
    drawn = [draw_sample(cap, recipe, "test", label, k) for k in range(count)]
    return [(photograph(d.image, f"{label}{k}.png"), d) for k, d in enumerate(drawn) if not d.sample.hidden]


def without_time(found: Inspection) -> Inspection:
    return replace(found, milliseconds=0.0)


@pytest.fixture(scope="module")
def good(cap: cad.Part) -> list[Photograph]:
    return [p for p, _ in views(cap, "good", 20)]


@pytest.fixture(scope="module")
def bulged(cap: cad.Part) -> list[tuple[Photograph, object]]:
    """Those that show most of it first."""
    return sorted(views(cap, "bulge", 12, bulge=[3.0]), key=lambda pair: -pair[1].mask.sum())


@pytest.fixture(scope="module")
def inspected(detector: CadDetector, good: list[Photograph], bulged: list) -> tuple[list[Inspection], list[Inspection]]:
    return [i for i, _, _ in detector.inspect(good)], [i for i, _, _ in detector.inspect([p for p, _ in bulged])]


def test_good_parts_pass_and_bulged_ones_fail(inspected: tuple[list[Inspection], list[Inspection]]) -> None:
    passed, failed = inspected
    assert sum(i.verdict == "fail" for i in passed) <= 4
    assert sum(i.verdict == "fail" for i in failed) >= 10  # 64 px finds 95 % of them: one shows six pixels of its bulge
    assert max(i.score for i in passed[:10]) < np.median([i.score for i in failed])


def test_bulges_are_named_and_placed(inspected: tuple[list[Inspection], list[Inspection]], bulged: list) -> None:
    found = [(i, drawn) for i, (_, drawn) in zip(inspected[1], bulged, strict=True) if i.verdict == "fail"]
    assert np.mean([i.regions[0]["feature"] == "crown" for i, _ in found]) >= 0.8
    for inspection, drawn in found:
        ys, xs = np.nonzero(drawn.mask)
        x0, y0, x1, y1 = inspection.regions[0]["bbox"]
        assert x0 - 3 <= np.median(xs) <= x1 + 3 and y0 - 3 <= np.median(ys) <= y1 + 3


def test_the_height_of_a_bulge_on_the_outline(detector: CadDetector, cap: cad.Part) -> None:
    """Seen in profile, 3 mm stand out by 3 mm within a pixel (0.63 mm)."""
    mesh, record = cap.with_defect("bulge", np.random.default_rng(2), severity=3.0)
    away = np.asarray(record.where) - cap.mesh().bounds.mean(0)
    scene = draw_scene(cap, cap.mesh(), np.random.default_rng(0))
    across = np.cross(away, [0.3, 0.5, 0.8])
    turn = np.stack([away / np.linalg.norm(away), np.cross(across, away) / np.linalg.norm(np.cross(across, away)), np.zeros(3)])
    turn[2] = np.cross(turn[0], turn[1])
    scene = replace(scene, quaternion=tuple(_quaternion(turn)))
    found = detector.report(*_projected(detector, draw(Drawable.of(mesh), scene, 64)))
    assert found.verdict == "fail"
    assert found.regions[0]["deviation_mm"] == pytest.approx(3.0, abs=0.9)


def test_a_short_notch_is_measured_where_the_view_tells(detector: CadDetector, cap: cad.Part) -> None:
    """Of views that show it, those whose notch is told out of tolerance have its depth within 0.35 mm; so many are."""
    told = []
    for p, drawn in views(cap, "short-notch", 14, **{"short-notch": [-2.0]}):
        found = detector.report(*_projected(detector, p.pixels))
        depth = found.dimensions.get("notch_depth", {})
        if depth.get("ok") is False:
            told.append(abs(depth["value"] - (drawn.sample.dimensions["notch_depth"] - 2.0)))
    assert len(told) >= 4
    assert np.median(told) < 0.35


def test_a_view_that_does_not_show_the_notch_does_not_guess_its_depth(detector: CadDetector, cap: cad.Part) -> None:
    """The cap from above: the crown hides the notch."""
    mesh = cap.mesh()
    scene = replace(draw_scene(cap, mesh, np.random.default_rng(0)), quaternion=(1.0, 0.0, 0.0, 0.0))
    found = detector.report(*_projected(detector, draw(Drawable.of(mesh), scene, 64)))
    depth = found.dimensions["notch_depth"]
    assert depth["value"] is None and depth["sigma"] is None and depth["ok"] is None
    assert found.dimensions["radius"]["value"] == pytest.approx(14.0, abs=0.15)


def test_another_part_is_not_this_part(detector: CadDetector, nut: cad.Part, rng: np.random.Generator) -> None:
    pictures = [draw_sample(nut, Recipe(3, 0, size=64), "train", "good", k).image for k in range(3)]
    pictures.append(rng.integers(0, 256, (64, 64, 3)).astype(np.uint8))
    pictures.append(np.kron(rng.integers(0, 256, (8, 8, 1)), np.ones((8, 8, 3))).astype(np.uint8))  # clutter from border to border
    for found, _, _ in detector.inspect([photograph(p) for p in pictures]):
        assert found.verdict == "not this part" and "left over" in found.reason


def test_batch_order_and_repetition_change_nothing(detector: CadDetector, good: list[Photograph]) -> None:
    few = good[:4]
    together = [without_time(i) for i, _, _ in detector.inspect(few)]
    alone = [without_time(i) for p in few for i, _, _ in detector.inspect([p])]
    backwards = [without_time(i) for i, _, _ in detector.inspect(few[::-1])][::-1]
    assert together == alone == backwards


def test_a_line_follows_the_contract(detector: CadDetector, bulged: list) -> None:
    found, anomaly, form = next(detector.inspect([bulged[0][0]]))
    line = json.loads(json.dumps(found.json(), allow_nan=False))
    assert {"image", "score", "p_value", "threshold", "verdict", "regions", "pose", "dimensions", "steps", "milliseconds", "run"} <= set(
        line
    )
    assert all(set(r) == REGION for r in line["regions"])
    assert all(set(d) == {"value", "nominal", "plus", "minus", "sigma", "ok"} for d in line["dimensions"].values())
    np.testing.assert_allclose(np.array(line["pose"]["rotation"]) @ np.array(line["pose"]["rotation"]).T, np.eye(3), atol=1e-5)
    assert anomaly.shape == form.shape == (64, 64) and anomaly.min() >= 0 and form.min() >= 0 and form.max() <= 1


def test_two_photographs_of_one_item() -> None:
    """Sidak's correction; dimensions weighted by precision; one view's silence does not count."""

    def one(p: float, verdict: str, value: float | None, sigma: float | None) -> Inspection:
        depth = {"value": value, "nominal": 5.0, "plus": 0.1, "minus": 0.1, "sigma": sigma, "ok": None if value is None else True}
        return Inspection("a.png", 1.0, p, 1.0, verdict, [], {}, 1, 1.0, "run", None, {"depth": depth})

    item = fused([one(0.04, "fail", 4.8, 0.1), one(0.5, "pass", 4.5, 0.2)], 0.05)
    assert item.p_value == pytest.approx(1 - 0.96**2)
    assert item.verdict == "unsure"  # 0.078: the two together are not unlikely enough
    assert item.dimensions["depth"]["value"] == pytest.approx((4.8 / 0.01 + 4.5 / 0.04) / 125)
    assert item.dimensions["depth"]["sigma"] == pytest.approx(125**-0.5, abs=1e-4)
    item = fused([one(0.01, "fail", 4.5, 0.1), one(0.5, "pass", None, None)], 0.05)
    assert item.verdict == "fail" and item.dimensions["depth"]["ok"] is False
    assert fused([one(0.5, "pass", None, None)] * 2, 0.05).dimensions["depth"]["ok"] is None
    assert fused([one(0.01, "not this part", 5.0, 0.1), one(0.9, "pass", 5.0, 0.1)], 0.05).verdict == "not this part"


def test_verdicts_in_words() -> None:
    assert Measured(2.6, 5.0, 0.1, 0.1, 0.05, False).text("notch_depth") == "notch_depth 2.60 mm (± 0.05), wanted 5 ± 0.1: out, 2.40 short"
    assert Measured(5.3, 5.0, 0.1, 0.1, 0.05, False).text("depth").endswith("out, 0.30 over")
    assert Measured(5.0, 5.0, 0.1, 0.1, 0.05, True).text("depth").endswith(": in")
    assert "cannot tell" in Measured(None, 5.0, 0.1, 0.1, None, None).text("depth")


def test_blur_and_grain_are_found_again(detector: CadDetector, cap: cad.Part, rng: np.random.Generator) -> None:
    from scipy.ndimage import gaussian_filter

    drawn = draw_sample(cap, Recipe(1, 0, size=128), "train", "good", 0)
    view = detector.form.drawn(placement_of(Scene.of(drawn.sample.scene), detector.form.pivot), 128)
    _, made, _ = lit(view, luminance(drawn.image).ravel())
    for sigma in (0.0, 0.6, 1.1):
        seen = gaussian_filter(made.reshape(128, 128), sigma, mode="nearest").ravel() if sigma else made
        assert blur_of(made, seen, 128) == pytest.approx(sigma, abs=0.16)
    for sigma in (0.005, 0.02):
        noisy = made + sigma * rng.normal(size=made.shape)
        assert np.sqrt(grain(noisy, view).mean()) == pytest.approx(sigma, rel=0.25)


def test_a_highlight_is_light_and_no_defect(detector: CadDetector, cap: cad.Part) -> None:
    """A sharp lobe added to the light is explained by the maps that are added for it; a dark spot is not."""
    from train.reflectance import normals

    form = detector.form
    at = replace(form.reference, turn=np.eye(3))  # the crown: its normals face everywhere
    grid, _ = normals()
    direction = np.array([0.2, 0.3, np.sqrt(1 - 0.13)])
    lobe = (np.clip(grid @ direction, 0, None) ** 60)[..., None].astype(np.float32)
    view = form.drawn(at, 64, table=np.concatenate([form.table, lobe], 2))
    light = np.r_[0.4, np.zeros(form.table.shape[2] - 1), 0.3, np.zeros(6)]
    image = view.columns @ light
    before = form.drawn(at, 64)
    _, made, weight = lit(before, image)
    table, lobes = with_lobes(finer(form.table), before, image - made, np.ones_like(weight))
    assert lobes[0, :3] @ direction > np.cos(np.radians(1))
    after = lit(form.drawn(at, 64, table=table), image)[1]
    assert np.abs(image - after).max() < 0.5 * np.abs(image - made).max()
    none, lobes = with_lobes(finer(form.table), before, -np.abs(image - made), np.ones_like(weight))
    assert none.shape[2] == form.table.shape[2] and not len(lobes)


def test_trace_and_group_on_the_command_line(command, form_folder: Path, bulged: list, tmp_path: Path) -> None:
    for k in range(2):
        Image.fromarray(bulged[k][0].pixels).save(tmp_path / f"{k}.png")
    images = f"{tmp_path / '0.png'} {tmp_path / '1.png'}"
    code, out, err = command(f"detect inspect {images} --run {form_folder} --group --trace {tmp_path / 't.gif'} --overlay {tmp_path / 'o'}")
    assert code == 1 and "item in 2 photographs" in out and "t.gif" in err
    with Image.open(tmp_path / "t.gif") as picture:
        assert picture.n_frames > 5
    code, out, _ = command(f"detect inspect {images} --run {form_folder} --group --json")
    assert code == 1 and json.loads(out.splitlines()[-1])["group"]["verdict"] == "fail"
    assert command(f"detect inspect {images} --run {form_folder} --trace {tmp_path / 't.png'}")[0] == 2


def test_trace_wants_a_cad_form(command, run_folder: Path, form_folder: Path, dataset_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "learned"
    shutil.copytree(run_folder, folder)
    assert command(f"detect calibrate {dataset_folder}/train/good --run {folder} --alpha 0.1 --steps 0")[0] == 0
    code, _, err = command(f"detect inspect {dataset_folder}/test/good/000000.png --run {folder} --trace {tmp_path / 't.gif'}")
    assert code == 2 and "learned form" in err


def test_validation_of_a_cad_form(command, form_folder: Path, dataset_folder: Path, tmp_path: Path) -> None:
    """A folder of 32 px views under a form of 64: resized, counted, no figure of an encoder."""
    code, out, err = command(f"detect validate {dataset_folder} --run {form_folder} -o {tmp_path / 'v'} --json")
    assert code == 0, err
    figures = json.loads(out)
    assert figures["classes"]["bulge"]["encoder_auroc"] is None and figures["good"]["n"] == 8
    assert (tmp_path / "v" / "report.html").exists()


def test_calibrations_that_do_not_belong(form_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(form_folder, folder)
    data = json.loads((folder / "calibration.json").read_text())
    for change, said in (({"run": "x"}, "another form"), ({"format": 99}, "newer formspect"), ({"form": "learned"}, "no calibration"), ({"scores": None}, "damaged")):  # fmt: skip
        (folder / "calibration.json").write_text(json.dumps({**data, **change}))
        with pytest.raises(InputError, match=said):
            open_detector(folder)
    (folder / "calibration.json").unlink()
    with pytest.raises(InputError, match="is not calibrated"):
        open_detector(folder)


def _projected(detector: CadDetector, pixels: np.ndarray) -> tuple[Photograph, object]:
    return photograph(pixels), detector.project(pixels)


def _quaternion(turn: np.ndarray) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(turn).as_quat()
    return np.array([w, x, y, z])


def test_a_short_notch_is_not_turned_out_of_sight(detector: CadDetector, cap: cad.Part) -> None:
    """From a pose whose notch is hidden, one that turns it towards the camera explains more, by a dimension of the notch; from a good
    part's own pose none does."""
    from detect.cad_descent import Fit

    turned, kept = 0, 0
    for photograph, drawn in views(cap, "short-notch", 16, **{"short-notch": [-2.5]}):
        true = placement_of(Scene.of(drawn.sample.scene), detector.form.pivot)
        if true.turn[2, 1] < 0.6 or abs(true.turn[2, 2]) > 0.5:  # the notch faces the camera
            continue
        picture = luminance(photograph.pixels)
        hidden = replace(true, turn=true.turn @ np.diag([-1.0, -1.0, 1.0]))
        refined = detector.gauge(picture, Fit(hidden, np.zeros(1), 0.0, 64))
        other, suspect = detector._facing(picture, refined, (0.0, None, 0.0))
        turned += 1
        kept += suspect[0] > 0.1 and suspect[1].startswith("notch") and suspect[2] < -1 and other.loss < refined.loss
    assert turned >= 2 and kept == turned
    for photograph, drawn in views(cap, "good", 8):
        true = placement_of(Scene.of(drawn.sample.scene), detector.form.pivot)
        picture = luminance(photograph.pixels)
        refined = detector.gauge(picture, Fit(true, np.zeros(1), 0.0, 64))
        assert detector._facing(picture, refined, (0.0, None, 0.0))[0] is refined


def test_where_no_start_is_good_enough_more_are_tried(detector: CadDetector, cap: cad.Part) -> None:
    """Three batches, and nine more where the best of them is far from what good parts are left with; what is found is no worse."""
    drawn = draw_sample(cap, Recipe(0, 1, size=64, seed=5), "test", "good", 0)
    picture, losses, batches = Pyramid.of(luminance(drawn.image)), [], []
    for enough in (None, 1.0, 1e-6):
        stages: list[Step] = []
        fits = Search(detector.form, enough=enough)(picture, stages)
        losses.append(fits[0].coarse)
        batches.append(sum(s.name == "retrieved" for s in stages))
    assert batches[0] == 3 >= batches[1] and batches[2] > 9
    assert losses[2] <= losses[0] <= losses[1] + 1e-12
