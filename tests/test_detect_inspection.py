"""From a run and photographs to verdicts, metrics and the page: what must hold however little the run has learned."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cad.errors import InputError
from detect import inspection, projection
from detect.compare import Noise, Residuals, scores
from detect.inspection import FORMAT, Calibration, Detector, Inspection, load_calibration, save_calibration
from detect.pictures import PANEL
from detect.projection import Settings
from detect.validation import Case, Validation, metrics, validate, write_validation
from synth.dataset import open_dataset
from train.photographs import Photograph, find_images, read, read_all
from train.runs import open_run

torch.set_num_threads(1)  # on tensors this small a second thread only waits, and waits long on a busy machine

LINE = ["image", "score", "p_value", "threshold", "verdict", "regions", "pose", "dimensions", "steps", "milliseconds", "run"]
REGION = ["feature", "bbox", "area_px", "score", "deviation_mm"]
CLASS = ["n", "image_auroc", "image_auroc_low", "image_auroc_high", "tpr_at_1fpr", "rejected", "pixel_auroc", "aupro", "named_right"]
SETTINGS = Settings(steps=8, starts=2)


@pytest.fixture(scope="module")
def folder(dataset_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learned enough for its descent to go somewhere; a calibration is written into it."""
    from train.config import Config
    from train.fit import fit
    from train.runs import RunFolder, data_fingerprint

    target, data = tmp_path_factory.mktemp("trained") / "cap", open_dataset(dataset_folder)
    config = Config(size=32, width=8, latent=16, batch=16, epochs=50, precision="32-true")
    fit(data, RunFolder(target, config, data_fingerprint(data)), config, device="cpu")
    return target


@pytest.fixture(scope="module")
def good(dataset_folder: Path) -> list[Photograph]:
    return read_all(find_images(dataset_folder / "test" / "good"), 32)


@pytest.fixture(scope="module")
def calibration(folder: Path, good: list[Photograph]) -> Calibration:
    run = open_run(folder)
    found = Detector(run, device="cpu", settings=SETTINGS).calibrate(good, 0.2)
    save_calibration(run, found)
    return found


@pytest.fixture
def detector(folder: Path, calibration: Calibration) -> Detector:
    run = open_run(folder)
    return Detector(run, device="cpu", calibration=load_calibration(run))


@pytest.fixture(scope="module")
def mixed(dataset_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Photograph]:
    """Good and defective views, and a lamp in the dark, which no part looks like: more than a chunk."""
    lamp = np.zeros((32, 32), np.uint8)
    lamp[8:11, 20:24] = 255
    path = tmp_path_factory.mktemp("strange") / "lamp.png"
    Image.fromarray(lamp).save(path)
    views = [p for d in sorted((dataset_folder / "test").iterdir()) for p in sorted(d.iterdir())]
    return read_all([*views, path], 32)


@pytest.fixture(scope="module")
def validated(folder: Path, calibration: Calibration, dataset_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that ``detect validate`` writes."""
    output, run = tmp_path_factory.mktemp("validated"), open_run(folder)
    write_validation(validate(Detector(run, device="cpu", calibration=load_calibration(run)), dataset_folder), output)
    return output


# inspect


def test_a_batch_equals_its_images_one_by_one(folder: Path, good: list[Photograph], mixed: list[Photograph]) -> None:
    # the whole descent, and more than a chunk; to the last bit, for a kink of the loss would make much of a rounding
    detector = Detector(open_run(folder), device="cpu")
    detector.calibrate(good, 0.2)
    together = without_time(detector.inspect(mixed))
    assert together == [one for p in mixed for one in without_time(detector.inspect([p]))]
    assert len(mixed) > projection.CHUNK and max(line["steps"] for line, _, _ in together) > 10


def test_the_order_of_the_images_changes_nothing(detector: Detector, mixed: list[Photograph]) -> None:
    assert without_time(detector.inspect(mixed[::-1])) == without_time(detector.inspect(mixed))[::-1]


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_changes_nothing(detector: Detector, mixed: list[Photograph], threads: int) -> None:
    before = without_time(detector.inspect(mixed[-4:]))
    torch.set_num_threads(threads)
    try:
        assert without_time(detector.inspect(mixed[-4:])) == before
        assert torch.get_num_threads() == threads  # left as it was
    finally:
        torch.set_num_threads(1)


def test_the_same_inspection_twice_is_the_same(detector: Detector, mixed: list[Photograph]) -> None:
    assert without_time(detector.inspect(mixed[:5])) == without_time(detector.inspect(mixed[:5]))


def test_inspections_come_in_the_order_of_the_photographs(detector: Detector, mixed: list[Photograph]) -> None:
    found = [i for i, _, _ in detector.inspect(mixed)]
    assert [i.image for i in found] == [str(p.path) for p in mixed]


def test_line_has_the_keys_of_the_contract(detector: Detector, mixed: list[Photograph]) -> None:
    for found, anomaly, form in detector.inspect(mixed):
        line = json.loads(json.dumps(found.json(), allow_nan=False))
        assert set(line) == {*LINE, "encoder_score", "reason", "terms"}
        assert all(list(region) == REGION for region in line["regions"])
        assert line["run"] == "cap" and line["dimensions"] == {} and line["milliseconds"] > 0
        assert 0 <= line["steps"] <= SETTINGS.steps
        assert anomaly.shape == form.shape == (32, 32) and anomaly.min() >= 0 and 0 <= form.min() <= form.max() <= 1


def test_verdict_p_value_and_threshold_are_the_calibrations(detector: Detector, calibration: Calibration, mixed: list[Photograph]) -> None:
    verdicts = set()
    for found, anomaly, _ in detector.inspect(mixed):
        conformal = calibration.conformal
        assert (found.verdict, found.p_value) == (conformal.verdict(found.score), conformal.p_value(found.score))
        assert found.threshold == conformal.threshold and found.score == scores(anomaly[None])[0]
        verdicts.add(found.verdict)
    assert verdicts >= {"pass", "fail"}


def test_twice_the_noise_halves_the_score_that_it_belongs_to(detector: Detector, calibration: Calibration, mixed: list[Photograph]) -> None:
    def twice(noise: Noise) -> Noise:
        return Noise(4 * noise.squares, noise.counts)  # squares of what good parts leave

    found = []
    for changes in ({}, {"noise": twice(calibration.noise)}, {"encoder_noise": twice(calibration.encoder_noise)}):
        detector.calibration = replace(calibration, **changes)
        found.append(next(detector.inspect(mixed))[0])
    plain, form, encoder = found
    assert (2 * form.score, form.encoder_score) == pytest.approx((plain.score, plain.encoder_score), rel=1e-6)
    assert (encoder.score, 2 * encoder.encoder_score) == pytest.approx((plain.score, plain.encoder_score), rel=1e-6)


def test_regions_are_on_sub_components_and_only_of_what_does_not_pass(detector: Detector, mixed: list[Photograph]) -> None:
    names = {*detector.run.part.names, None}
    for found, anomaly, _ in detector.inspect(mixed):
        assert bool(found.regions) == (found.verdict != "pass")
        for region in found.regions:
            x0, y0, x1, y1 = region["bbox"]
            assert region["feature"] in names and region["deviation_mm"] is None
            assert 0 <= x0 < x1 <= 32 and 0 <= y0 < y1 <= 32 and 1 <= region["area_px"] <= (x1 - x0) * (y1 - y0)
            assert region["score"] == pytest.approx(anomaly[y0:y1, x0:x1].max(), abs=1e-4)  # written to four digits
        strongest = [r["score"] for r in found.regions]
        assert strongest == sorted(strongest, reverse=True)


def test_boxes_are_in_the_photographs_own_pixels(detector: Detector, mixed: list[Photograph], tmp_path: Path) -> None:
    small = mixed[-1]  # the lamp
    Image.fromarray(small.pixels).resize((96, 96), Image.Resampling.NEAREST).save(tmp_path / "large.png")
    (one, _, _), (two, _, _) = detector.inspect([small, read(tmp_path / "large.png", 32)])
    assert one.score == two.score and one.verdict == "fail"
    x0, y0, x1, y1 = one.regions[0]["bbox"]
    assert x0 <= 20 < 24 <= x1 and y0 <= 8 < 11 <= y1
    assert [[3 * v for v in r["bbox"]] for r in one.regions] == [r["bbox"] for r in two.regions]
    assert [9 * r["area_px"] for r in one.regions] == pytest.approx([r["area_px"] for r in two.regions])


def test_without_descent_the_encoder_answers(folder: Path, good: list[Photograph]) -> None:
    detector = Detector(open_run(folder), device="cpu", settings=replace(SETTINGS, steps=0))
    calibration = detector.calibrate(good, 0.2)
    assert calibration.enough is None
    for found, _, _ in detector.inspect(good):
        assert found.score == found.encoder_score and found.steps == 0


def test_descent_is_never_worse_than_where_it_starts(detector: Detector, mixed: list[Photograph]) -> None:
    pixels = np.stack([p.pixels for p in mixed])
    losses = {}
    for steps in (1, 12):
        detector.projector.settings, detector.projector.enough = replace(SETTINGS, steps=steps), None
        losses[steps] = detector.project(pixels).losses
    assert (losses[12] <= losses[1] + 1e-6).all() and (losses[12] < losses[1] - 1e-3).any()


def test_good_parts_stop_at_what_is_enough(detector: Detector, good: list[Photograph]) -> None:
    found = detector.project(np.stack([p.pixels for p in good]))
    stopped = found.losses <= detector.projector.enough
    assert (found.steps < SETTINGS.steps).sum() >= stopped.sum() >= 4  # half of eight: it is their median


# calibrate


def test_uncalibrated_run_is_refused_with_the_next_step(run_folder: Path, good: list[Photograph]) -> None:
    run = open_run(run_folder)
    for ask in (lambda: next(Detector(run, device="cpu").inspect(good)), lambda: load_calibration(run)):
        with pytest.raises(InputError, match=r"is not calibrated; wanted calibration.json \(detect calibrate GOOD_FOLDER --run "):
            ask()


def test_calibration_is_written_and_read_back(folder: Path, calibration: Calibration) -> None:
    again = load_calibration(open_run(folder))
    assert again.json() == calibration.json() == json.loads((folder / "calibration.json").read_text())
    assert again.settings == SETTINGS and again.images == [f"{i:06d}.png" for i in range(8)]


def test_calibrating_does_not_mind_the_order(folder: Path, calibration: Calibration, good: list[Photograph]) -> None:
    again = Detector(open_run(folder), device="cpu", settings=SETTINGS).calibrate(good[::-1], 0.2)
    np.testing.assert_allclose(again.conformal.scores, calibration.conformal.scores, atol=1e-5)  # another order of sums
    assert again.level == pytest.approx(calibration.level, abs=1e-4) and again.enough == pytest.approx(calibration.enough, abs=1e-5)


def test_calibration_scores_an_image_by_the_noise_of_the_others(rng: np.random.Generator) -> None:
    residuals = Residuals(rng.random((4, 16, 16)), 0.01 + 0.2 * rng.random((4, 16, 16)))
    total, parts = inspection.noise_of([residuals.row(i) for i in range(4)])
    for i in range(4):
        others = np.arange(4) != i
        noise = Noise.of(Residuals(residuals.size[others], residuals.expected[others])).total()
        own = noise.maps(Residuals(residuals.size[i : i + 1], residuals.expected[i : i + 1]))
        np.testing.assert_allclose(total.without(parts, i).maps(residuals.row(i))[0], own[0], rtol=1e-5)  # float32
    np.testing.assert_array_equal(total.counts, Noise.of(residuals).counts.sum(0))


def test_too_few_good_images_are_refused(folder: Path, good: list[Photograph]) -> None:
    with pytest.raises(InputError, match=r"8 good images cannot support a false-reject rate of 0.05; wanted at least 19 images"):
        Detector(open_run(folder), device="cpu").calibrate(good, 0.05)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (FORMAT + 1, f"c.json: found format {FORMAT + 1}; wanted at most {FORMAT}"),
        (FORMAT - 1, f"c.json: found format {FORMAT - 1}, of an older formspect"),
    ],
)
def test_calibration_of_another_format_is_refused(number: int, said: str, folder: Path, calibration: Calibration, tmp_path: Path) -> None:
    """An older one was made by another descent or score: what it calls usual is not what is found now."""
    (tmp_path / "c.json").write_text(json.dumps(calibration.json() | {"format": number}))
    with pytest.raises(InputError, match=said):
        load_calibration(open_run(folder), tmp_path / "c.json")


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_damaged_calibration_is_refused(folder: Path, calibration: Calibration, tmp_path: Path, keep: float) -> None:
    text = json.dumps(calibration.json())
    (tmp_path / "c.json").write_text(text[: int(keep * len(text))])
    with pytest.raises(InputError, match=r"c.json: not JSON"):
        load_calibration(open_run(folder), tmp_path / "c.json")


# validate


def test_metrics_have_the_keys_of_the_contract(validated: Path, dataset_folder: Path) -> None:
    found = json.loads((validated / "metrics.json").read_text())
    labels = sorted(d.name for d in (dataset_folder / "test").iterdir() if d.name != "good")
    assert {"good", "classes", "overall", "milliseconds", "alpha", "run", "format"} <= set(found)
    assert found["format"] == 1 and found["alpha"] == 0.2 and found["run"] == "cap" and found["hidden"] == 0
    assert set(found["good"]) >= {"n", "rejected"} and list(found["classes"]) == labels
    assert set(found["milliseconds"]) == {"good", "defective"} and all(set(v) == {"median", "p95"} for v in found["milliseconds"].values())
    for figures in (*found["classes"].values(), found["overall"]):
        assert set(CLASS) <= set(figures)
        assert 0 <= figures["image_auroc_low"] <= figures["image_auroc"] <= figures["image_auroc_high"] <= 1
        assert figures["tpr_at_1fpr"] is None  # eight good images cannot tell
        assert 0 <= figures["aupro"] <= 1 and 0 <= figures["pixel_auroc"] <= 1
    assert [found["classes"][k]["n"] for k in labels] == [8] * len(labels) and found["overall"]["n"] == 8 * len(labels)


def test_metrics_are_those_of_the_lines(validated: Path) -> None:
    found = json.loads((validated / "metrics.json").read_text())
    lines = [json.loads(line) for line in (validated / "inspections.jsonl").read_text().splitlines()]
    assert len(lines) == found["good"]["n"] + found["overall"]["n"]
    good = [i for i in lines if Path(i["image"]).parent.name == "good"]
    for label, figures in found["classes"].items():
        bad = [i for i in lines if Path(i["image"]).parent.name == label]
        wins = np.mean([(b["score"] > g["score"]) + 0.5 * (b["score"] == g["score"]) for b in bad for g in good])
        assert figures["image_auroc"] == pytest.approx(wins)
        assert figures["rejected"] == np.mean([i["verdict"] == "fail" for i in bad])
    assert found["good"]["rejected"] == np.mean([i["verdict"] == "fail" for i in good])


def test_report_opens_offline(validated: Path) -> None:
    page = (validated / "report.html").read_text()
    links = re.findall(r"""(?:src|href)\s*=\s*["']?([^"'\s>]*)""", page)
    pictures = [link for link in links if link.startswith("data:image/png;base64,")]
    assert len(pictures) == len(re.findall("<img", page)) > 20
    assert all(link.startswith(("data:", "#")) for link in links)
    assert not re.search(r"<script|<link|<iframe|@import|url\((?!#)", page)
    assert len(re.findall("<svg", page)) == 3


def test_report_shows_the_metrics(validated: Path) -> None:
    page, found = (validated / "report.html").read_text(), json.loads((validated / "metrics.json").read_text())
    for name, figures in found["classes"].items():
        (row,) = re.findall(rf"<tr><td>{name}</td>.*?</tr>", page)
        assert f"<td>{figures['n']}</td><td>{figures['image_auroc']:.3f}</td>" in row and f"{figures['aupro']:.3f}" in row
        assert f"lowest {name}" in page


def test_hidden_defects_are_not_counted(detector: Detector, dataset_folder: Path, tmp_path: Path) -> None:
    copy = few(dataset_folder, tmp_path, samples=True)
    lines = [json.loads(line) for line in (copy / "samples.jsonl").read_text().splitlines()]
    for line in lines:
        line["hidden"] = line["image"] in ("test/bulge/000000.png", "test/bulge/000002.png")
    (copy / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = validate(detector, copy)
    found = metrics(result)
    assert found["hidden"] == result.hidden == 2 and found["classes"]["bulge"]["n"] == 1
    assert [Path(c.inspection.image).name for c in result.cases if c.label == "bulge"] == ["000001.png"]


def test_another_makers_folder_tells_less(detector: Detector, dataset_folder: Path, tmp_path: Path) -> None:
    found = metrics(validate(detector, few(dataset_folder, tmp_path, samples=False)))
    bulge = found["classes"]["bulge"]
    assert bulge["n"] == 3 and bulge["image_auroc"] is not None and found["hidden"] == 0
    assert [bulge[k] for k in ("pixel_auroc", "aupro", "named_right", "tpr_at_1fpr")] == [None] * 4


def test_figures_by_hand(detector: Detector) -> None:
    def case(label: str, score: float, **options: object) -> Case:
        found = Inspection("a.png", score, 0.1, 3.0, "fail" if score > 3 else "pass", [], {}, 1, 2.0 * score, "cap", -score)
        feature = options.pop("feature", None)
        regions = [{"feature": feature}] if score > 3 else []
        return Case(label, replace(found, regions=regions), np.full((2, 2), score), **options)

    cases = [case("good", s) for s in (1.0, 2.0, 4.0)] + [
        case("dent", 3.0, truth=("rim",)),
        case("dent", 5.0, truth=("rim",), feature="rim"),
        case("dent", 6.0, truth=("rim", "dome"), feature="base"),
        case("dent", 7.0, feature="base"),  # the whole part: no name is right or wrong
    ]
    found = metrics(Validation(cases, detector, Path("a")))
    assert found["good"] | {"n": 3, "rejected": pytest.approx(1 / 3), "unsure": 0, "outline_iou": None} == found["good"]
    assert found["good"]["verdicts"] == {"pass": 2, "unsure": 0, "fail": 1, "not this part": 0}
    dent = found["classes"]["dent"]
    assert dent["image_auroc"] == pytest.approx(11 / 12) and dent["rejected"] == 0.75 and dent["named_right"] == 0.5
    assert dent["encoder_auroc"] == pytest.approx(1 / 12) and dent["f1_max"] == pytest.approx(8 / 9) and dent["aupro"] is None
    assert dent == found["overall"]
    assert found["milliseconds"] == {"good": {"median": 4.0, "p95": 7.6}, "defective": {"median": 11.0, "p95": 13.7}}


def test_folder_without_good_is_refused(detector: Detector, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no test/good; wanted FOLDER/test/good and FOLDER/test/<class>"):
        validate(detector, tmp_path)


# commands


@pytest.fixture
def chosen(detector: Detector, mixed: list[Photograph]) -> dict[str, str]:
    """An image for each of the verdicts pass and fail."""
    return {i.verdict: i.image for i, _, _ in detector.inspect(mixed)}


def test_inspect_ends_with_1_where_a_part_fails_and_with_0_otherwise(command, folder: Path, chosen: dict[str, str]) -> None:
    assert command(f"detect inspect {chosen['pass']} --run {folder}")[0] == 0
    assert command(f"detect inspect {chosen['fail']} --run {folder}")[0] == 1
    code, out, _ = command(f"detect inspect {chosen['pass']} {chosen['fail']} --run {folder}")
    assert code == 1 and [line.split()[:2] for line in out.splitlines()] == [[v, chosen[v]] for v in ("pass", "fail")]


def test_inspect_prints_json_lines(command, folder: Path, chosen: dict[str, str], detector: Detector) -> None:
    _, out, _ = command(f"detect inspect {chosen['fail']} {chosen['pass']} --run {folder} --device cpu --json")
    assert [json.loads(line)["verdict"] for line in out.splitlines()] == ["fail", "pass"]
    (wanted, _, _), _ = detector.inspect(read_all([chosen["fail"], chosen["pass"]], 32))
    assert json.loads(out.splitlines()[0]) | {"milliseconds": 0} == json.loads(json.dumps(wanted.json())) | {"milliseconds": 0}


def test_inspect_writes_overlays(command, folder: Path, chosen: dict[str, str], tmp_path: Path) -> None:
    command(f"detect inspect {chosen['fail']} --run {folder} --overlay {tmp_path / 'o'}")
    (path,) = (tmp_path / "o").iterdir()
    assert path.name == Path(chosen["fail"]).name
    with Image.open(path) as picture:
        assert picture.format == "PNG" and picture.size == (3 * PANEL + 8, PANEL + 20)


def test_overlays_of_images_of_one_name_are_kept_apart(command, folder: Path, good: list[Photograph], tmp_path: Path) -> None:
    names = ["monday/cam/1.png", "tuesday/cam/1.png", "monday/door/1.png", "monday/door/1.bmp", "monday/cam/2.png"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(good[0].pixels).save(tmp_path / name)
    code, _, _ = command(f"detect inspect {' '.join(str(tmp_path / n) for n in names)} --run {folder} --overlay {tmp_path / 'o'}")
    assert code in (0, 1) and len(list((tmp_path / "o").iterdir())) == len(names)


def test_inspect_refuses_bad_input_with_2_and_one_line(command, folder: Path, chosen: dict[str, str], tmp_path: Path) -> None:
    code, out, err = command(f"detect inspect {chosen['pass']} {tmp_path / 'none.png'} --run {folder}")
    assert code == 2 and out == "" and err.startswith("error: ") and "no such file" in err and len(err.splitlines()) == 1


def test_inspect_takes_the_newest_run_and_says_so(
    command, folder: Path, chosen: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = command(f"detect inspect {chosen['pass']}")
    assert code == 2 and "runs: holds no finished run" in err and "train fit" in err
    shutil.copytree(folder, tmp_path / "runs" / "cap")
    code, _, err = command(f"detect inspect {chosen['pass']}")
    assert code == 0 and err == "run: runs/cap\n"


def test_calibrate_command(command, run_folder: Path, dataset_folder: Path, tmp_path: Path) -> None:
    own, photographs = shutil.copytree(run_folder, tmp_path / "own"), dataset_folder / "test" / "good"
    assert command(f"detect inspect {photographs}/000000.png --run {own}")[0] == 2
    code, _, err = command(f"detect calibrate {photographs} --run {own}")
    assert code == 2 and "wanted at least 19 images" in err and not (own / "calibration.json").exists()
    code, out, _ = command(f"detect calibrate {photographs} --run {own} --alpha 0.2 --steps 2 --starts 1 --json")
    found, saved = json.loads(out), json.loads((own / "calibration.json").read_text())
    assert code == 0 and found["n"] == 8 == len(saved["scores"]) and found["threshold"] == saved["threshold"]
    assert saved["settings"] == Settings(steps=2, starts=1).__dict__
    assert command(f"detect inspect {photographs}/000000.png --run {own}")[0] in (0, 1)


def test_validate_command(command, folder: Path, dataset_folder: Path, tmp_path: Path) -> None:
    code, out, _ = command(f"detect validate {few(dataset_folder, tmp_path, samples=True)} --run {folder} -o {tmp_path / 'out'} --json")
    assert code == 0 and json.loads(out) == json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["inspections.jsonl", "metrics.json", "report.html"]


def test_validate_calibrates_on_good_images_set_aside(command, run_folder: Path, dataset_folder: Path, tmp_path: Path) -> None:
    own, copy = shutil.copytree(run_folder, tmp_path / "own"), few(dataset_folder, tmp_path, samples=True)
    line = f"detect validate {copy} --run {own} -o {tmp_path / 'out'} --calibrate --alpha 0.2"
    code, _, err = command(line)
    assert code == 2 and "calibrate/good" in err
    shutil.copytree(dataset_folder / "test" / "good", copy / "calibrate" / "good")
    code, _, err = command(line)
    assert code == 2 and "the same file" in err  # what is tested on is not to be learned from
    shutil.rmtree(copy / "calibrate" / "good")
    shutil.copytree(dataset_folder / "train" / "good", copy / "calibrate" / "good")
    assert command(line)[0] == 0 and json.loads((own / "calibration.json").read_text())["n"] == 32


def few(dataset: Path, target: Path, *, samples: bool) -> Path:
    """Three good views and three bulges of the dataset; with what it knows of them, or the pictures alone."""
    for label in ("good", "bulge"):
        for index in range(3):
            for name in (f"test/{label}/{index:06d}.png", f"ground_truth/{label}/{index:06d}_mask.png"):
                if (dataset / name).exists() and (samples or name.startswith("test")):
                    (target / "few" / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(dataset / name, target / "few" / name)
    if samples:
        shutil.copy(dataset / "samples.jsonl", target / "few" / "samples.jsonl")
    return target / "few"


def without_time(found: Iterator[tuple[Inspection, np.ndarray, np.ndarray]]) -> list[tuple]:
    return [(i.json() | {"milliseconds": 0}, anomaly.tobytes(), form.tobytes()) for i, anomaly, form in found]
