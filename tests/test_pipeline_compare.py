"""The bench: everything learns from the same images, nothing is done twice, the table says what the scores say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cad.errors import InputError
from detect.calibrate import Conformal
from detect.metrics import auroc
from detect.projection import SETTINGS
from pipelines.compare import CAD, Budget, best, compare, detector_of, folder_bench, judged, names_of, table
from train.catalogue import CATALOGUE
from train.runs import open_run

torch.set_num_threads(1)

BUDGET = Budget(minutes=0.01, seeds=(0, 1), size=32)


def blobs(folder: Path, count: int, seed: int, *, spoiled: bool = False) -> None:
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    y, x = np.mgrid[:32, :32]
    for k in range(count):
        grey = 60 + 150 * (np.hypot(y - 16, x - 16) < 9 + rng.normal(0, 0.3)) + rng.normal(0, 3, (32, 32))
        if spoiled:
            at = rng.integers(10, 18, 2)
            grey[at[0] : at[0] + 5, at[1] : at[1] + 5] = 60
            mask = np.zeros((32, 32), np.uint8)
            mask[at[0] : at[0] + 5, at[1] : at[1] + 5] = 255
            truth = folder.parents[1] / "ground_truth" / folder.name
            truth.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(truth / f"{k:03d}_mask.png")
        Image.fromarray(np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, 2)).save(folder / f"{k:03d}.png")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set") / "blobs"
    blobs(folder / "train" / "good", 80, 0)
    blobs(folder / "test" / "good", 12, 1)
    blobs(folder / "test" / "hole", 10, 2, spoiled=True)
    return folder


@pytest.fixture(scope="module")
def compared(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    out, names = tmp_path_factory.mktemp("out"), ["unet-gan", "descargan", "mean-image", "gaussian-mixture"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SETTINGS, "unet-gan", replace(SETTINGS["unet-gan"], steps=8))  # a short descent says as much here
        return out, compare(photographs, out, names, BUDGET, device="cpu", pictures=True)


def test_the_table_says_what_the_scores_say(compared: tuple[Path, dict]) -> None:
    out, figures = compared
    assert {r["model"] for r in figures["table"]} == {"unet-gan", "descargan", "mean-image", "gaussian-mixture"}
    assert figures["table"] == sorted(figures["table"], key=lambda r: -r["image_auroc"])
    assert figures["best"]["model"] == figures["table"][0]["model"]
    for row in figures["table"]:
        kept = [json.loads((out / "results" / f"{row['model']}-{s}.json").read_text()) for s in (0, 1)]
        own = [auroc(np.array(r["scores"]["good"]), np.array(r["scores"]["hole"])) for r in kept]
        assert row["classes"]["hole"]["image_auroc"] == pytest.approx(np.mean(own), abs=1e-6)
        assert row["spread"] == pytest.approx(np.std(own, ddof=1), abs=1e-6)
        assert 0 <= row["accuracy"] <= 1 and row["milliseconds"] > 0
    plain = next(r for r in figures["table"] if r["model"] == "mean-image")
    assert plain["image_auroc"] > 0.9 and plain["classes"]["hole"]["pixel_auroc"] > 0.9  # a hole in a disc that never moves


def test_the_page_has_every_model_and_its_pictures(compared: tuple[Path, dict]) -> None:
    out, figures = compared
    page = (out / "report.html").read_text()
    assert all(r["model"] in page for r in figures["table"])
    assert "Diagnostics of unet-gan" in page and "Diagnostics of descargan" not in page  # its forms have no code
    assert 'src="http' not in page and page.count("<svg") >= 2 and "&lt;svg" not in page  # it opens offline, and its plots are plots
    assert (out / "diagnostics" / "unet-gan" / "diagnostics.json").exists()
    assert [p["steps"] for p in figures["curves"]["unet-gan"]] == [0, 2, 8, 24] and len(figures["curves"]["descargan"]) == 1


def test_what_is_done_is_not_done_again(compared: tuple[Path, dict], photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import train.fit

    out, figures = compared
    monkeypatch.setattr(train.fit, "fit", lambda *a, **k: pytest.fail("trained again"))
    again = compare(photographs, out, ["unet-gan", "mean-image"], BUDGET, device="cpu", pictures=False)
    assert [r["image_auroc"] for r in again["table"]] == [
        r["image_auroc"] for r in figures["table"] if r["model"] in ("unet-gan", "mean-image")
    ]


def test_nothing_learned_from_is_calibrated_or_tested_on(photographs: Path) -> None:
    bench = folder_bench(photographs)
    assert len(bench.train) + len(bench.calibrate) == 80 and len(bench.calibrate) == 19
    assert not set(bench.train) & set(bench.calibrate) and not set(bench.train) & {p for own in bench.test.values() for p in own}
    assert len(bench.masks) == 10 and folder_bench(photographs).key == bench.key


def test_a_learned_forms_threshold_is_its_calibrations(compared: tuple[Path, dict], photographs: Path) -> None:
    out, bench = compared[0], folder_bench(photographs)
    detector, _ = detector_of(out / "runs" / "descargan-0", bench, BUDGET, "cpu")
    kept = json.loads((out / "results" / "descargan-0.json").read_text())
    threshold = detector.calibration.conformal.threshold
    assert kept["good_rejected"] == np.mean(np.array(kept["scores"]["good"]) > threshold)
    assert kept["classes"]["hole"]["rejected"] == np.mean(np.array(kept["scores"]["hole"]) > threshold)


def test_what_a_calibration_has_learned_from_sets_no_threshold(photographs: Path) -> None:
    """A detector that knows its calibration images finds them too usual: its own scores of them, each as by one that has not seen it, count."""
    bench = folder_bench(photographs)
    seen = set(bench.calibrate)

    def asked(paths: list[Path]) -> tuple[np.ndarray, dict[str, np.ndarray], None]:
        return np.array([0.1 if p in seen else 1.0 for p in paths]), {}, None

    alone = judged(asked, bench, 0.05)
    fair = judged(asked, bench, 0.05, Conformal(np.linspace(0.5, 2.0, 19), 0.05))
    assert alone["good_rejected"] == 1.0 and fair["good_rejected"] == 0.0
    assert alone["classes"].keys() == fair["classes"].keys()


def test_a_part_is_drawn_and_its_cad_form_stands_beside(cap, tmp_path: Path) -> None:
    budget = Budget(0.01, (0,), 32, views=64, calibration=20, test=8, severities=(("bulge", (3.0,)),))
    figures = compare(cap, tmp_path, ["conditioned", "colour", CAD], budget, device="cpu", pictures=False)
    assert figures["images"]["train"] == 64 and set(figures["images"]["test"]) == {"good", "bulge 3", "short-notch"}
    assert {r["kind"] for r in figures["table"]} == {"learned", "baseline", "cad"}
    assert open_run(tmp_path / "runs" / "conditioned-0").bank.codes.shape == (64, 11)
    assert figures["table"][0]["classes"]["bulge 3"]["pixel_auroc"] is not None or figures["table"][0]["model"] == "colour"


def test_models_are_named_or_refused() -> None:
    assert set(names_of("all")) >= {*CATALOGUE, "patchcore", "padim", "one-class-svm", CAD}
    assert names_of("unet-gan, colour,unet-gan") == ["unet-gan", "colour"]
    with pytest.raises(InputError, match=r'--models: found "gan".*'):
        names_of("gan")


def test_only_what_the_images_tell_is_told() -> None:
    def record(model: str, value: float, low: float, high: float) -> list[dict]:
        each = {"n": 9, "image_auroc": value, "low": low, "high": high, "rejected": 0.5, "pixel_auroc": None, "aupro": None, "terms": {}}
        return [{"classes": {"x": each}, "accuracy": 0.5, "good_rejected": 0.0, "milliseconds": 1.0, "seconds": 1.0, "steps": None}]

    rows = table(
        {
            "unet-gan": record("unet-gan", 0.9, 0.85, 0.95),
            "colour": record("colour", 0.87, 0.8, 0.93),
            "dcgan": record("dcgan", 0.6, 0.5, 0.7),
            "ae-ssim": record("ae-ssim", 0.91, 0.9, 0.92),
        }
    )
    assert (
        rows[0]["model"] == "ae-ssim" and rows[0]["kind"] == "baseline" and best(rows)["learned"] == "unet-gan"
    )  # one to be compared with
    assert best(rows[1:]) == {"model": "unet-gan", "image_auroc": 0.9, "not_told_apart": ["colour"], "learned": "unet-gan"}


def test_compare_command(photographs: Path, tmp_path: Path, command) -> None:
    line = f"formspect compare {photographs} --models mean-image,colour,conditioned -o {tmp_path / 'out'} --size 32 --no-pictures"
    code, out, err = command(line)
    assert code == 0 and "best for this case: mean-image" in out and "conditioned: left out" in err
    assert json.loads(command(line + " --json")[1])["best"]["model"] == "mean-image"
    code, out, err = command(f"formspect compare {photographs} --models mean-image --size 40")
    assert code == 2 and "--size" in err and len(err.splitlines()) == 1


def test_a_share_of_what_is_learned_from_is_spoilt(cap, tmp_path: Path) -> None:
    from pipelines.benchmark_noisy import cost, spoilt
    from pipelines.compare import drawn_bench

    budget = Budget(None, (0,), 32, views=64, calibration=20, test=8, epochs=2)
    bench = drawn_bench(cap, tmp_path, budget)
    bad = spoilt(bench, cap, tmp_path, budget, 0.25)
    changed = [p for p in bad.train if p not in bench.train]
    assert len(bad.train) == len(bench.train) == 64 and len(changed) == 16 and {p.parent.name for p in changed} == {"bulge", "short-notch"}
    assert bad.key != bench.key and bad.test == bench.test
    found = cost(cap, tmp_path, ("noisy-gan",), budget, 0.25)["noisy-gan"]
    assert found["lost"] == pytest.approx(np.mean(list(found["clean"].values())) - np.mean(list(found["spoilt"].values())), abs=1e-3)
    assert [json.loads((tmp_path / kind / "results" / "noisy-gan-0.json").read_text())["steps"] for kind in ("clean", "spoilt")] == [4, 4]
