"""formspect run, end to end, tiny."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TINY = "--form learned --views 48 --test 8 --calibration 24 --size 32 --epochs 1 --width 8 --batch 16 --alpha 0.1 --jobs 1 --device cpu"


@pytest.fixture(scope="module")
def real_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of a kind: rendered nuts from another seed under JPEG, sorted as ../shared/real/hexnut is."""
    import cad
    from synth.sampling import Recipe, draw_sample

    folder, part, recipe = tmp_path_factory.mktemp("real"), cad.load("hex_nut"), Recipe(24, 6, size=48, seed=9)
    plan = [("calibrate", "good", "train", "good", 24), ("test", "good", "test", "good", 6), ("test", "squashed", "test", "squashed", 6)]
    for split, label, drawn_split, drawn_label, count in plan:
        (folder / split / label).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(draw_sample(part, recipe, drawn_split, drawn_label, i).image).save(
                folder / split / label / f"{i:03d}.jpg", quality=90
            )
    return folder


@pytest.fixture(scope="module")
def finished(real_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    return tmp_path_factory.mktemp("out") / "nut", f"formspect run hex_nut --real {real_folder} {TINY}"


@pytest.mark.slow
def test_runs_all_stages_and_then_none(finished: tuple[Path, str], command) -> None:
    folder, line = finished
    code, out, err = command(f"{line} -o {folder} --json")
    assert code == 0, err
    facts = json.loads(out)
    assert facts["skipped"] == []
    assert list(facts["seconds"]) == ["render", "train", "validate", "real", "report"]
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
    code, out, _ = command(f"{line} -o {folder} --json")
    assert code == 0
    assert json.loads(out)["skipped"] == ["render", "train", "validate", "real", "report"]
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()} == before


@pytest.mark.slow
def test_report_is_self_contained_and_keeps_real_and_synthetic_apart(finished: tuple[Path, str]) -> None:
    page = (finished[0] / "report.html").read_text(encoding="utf-8")
    sources = re.findall(r"""(?:src|href)=["']([^"']+)""", page)
    assert sources
    assert all(s.startswith(("data:", "#")) for s in sources)
    assert page.index("<h2>Synthetic figures</h2>") < page.index("<h2>Real photographs</h2>") < page.index("colour alone</h3>")
    assert "nan" not in re.sub(r"<svg.*?</svg>|data:[^\"]+", "", page, flags=re.S).lower().split()


@pytest.mark.slow
def test_figures_follow_the_contract(finished: tuple[Path, str]) -> None:
    for name, classes in (("synthetic", {"squashed", "broken-ring"}), ("real", {"squashed"})):
        figures = json.loads((finished[0] / name / "metrics.json").read_text())
        assert set(figures["classes"]) == classes
        assert {"good", "classes", "overall", "milliseconds", "alpha", "run", "format"} <= set(figures)
        assert figures["good"]["n"] == (8 if name == "synthetic" else 6)
    assert figures["classes"]["squashed"]["pixel_auroc"] is None  # photographs without masks cannot tell


@pytest.mark.slow
def test_another_alpha_repeats_only_what_hangs_on_it(finished: tuple[Path, str], command) -> None:
    folder, line = finished
    code, out, _ = command(f"{line.replace('--alpha 0.1', '--alpha 0.2')} -o {folder} --json")
    assert code == 0
    assert json.loads(out)["skipped"] == ["render", "train"]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_scores(finished: tuple[Path, str], command, tmp_path: Path) -> None:
    """Rendered, trained and calibrated anew in another folder."""
    folder, line = finished
    assert command(f"{line.replace('--alpha 0.1', '--alpha 0.2')} -o {tmp_path / 'again'}")[0] == 0
    first, second = (
        [json.loads(s)["score"] for s in (f / "synthetic" / "inspections.jsonl").read_text().splitlines()]
        for f in (folder, tmp_path / "again")
    )
    np.testing.assert_allclose(first, second, rtol=1e-5)


def test_calibration_that_cannot_support_alpha_is_refused_before_anything_is_made(command, tmp_path: Path) -> None:
    code, _, err = command(f"formspect run hex_nut -o {tmp_path / 'x'} --calibration 10 --alpha 0.05")
    assert code == 2
    assert "at least 19" in err
    assert not (tmp_path / "x").exists()


def test_a_real_folder_without_its_parts_is_refused_before_anything_is_made(command, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    code, _, err = command(f"formspect run hex_nut -o {tmp_path / 'x'} --real {tmp_path / 'real'}")
    assert code == 2
    assert "calibrate/good" in err
    assert not (tmp_path / "x").exists()


def test_photographs_without_calibration_want_a_form_that_can_be_drawn(command, real_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(real_folder / "test", tmp_path / "real" / "test")
    code, _, err = command(f"formspect run hex_nut -o {tmp_path / 'x'} --real {tmp_path / 'real'} {TINY}")
    assert code == 2 and "has no calibrate/good" in err and "--form cad" in err
    (tmp_path / "real" / "calibrate").mkdir()  # begun, and not finished: no reason to do without
    code, _, err = command(f"formspect run hex_nut -o {tmp_path / 'x'} --real {tmp_path / 'real'}")
    assert code == 2 and "has no calibrate/good" in err
    shutil.rmtree(tmp_path / "real" / "calibrate")
    shutil.rmtree(tmp_path / "real" / "test" / "good")
    code, _, err = command(f"formspect run hex_nut -o {tmp_path / 'x'} --real {tmp_path / 'real'}")
    assert code == 2 and "has no test/good" in err
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_without_any_photograph_to_calibrate_on_drawn_views_do(real_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    import cad
    from pipelines import end_to_end
    from synth.sampling import Recipe
    from train.cad_form import fit_form, wanted_of

    nut = cad.load("hex_nut")
    fit_form(tmp_path / "run", nut, wanted_of(nut, 32, 0))
    shutil.copytree(real_folder / "test", tmp_path / "real" / "test")
    monkeypatch.setattr(end_to_end, "DRAWN", 9)
    plan = end_to_end.Plan(Recipe(0, 1, size=32), 24, {}, alpha=0.1, real=tmp_path / "real")
    end_to_end._check_real(plan.real, plan)
    assert "has no calibrate/good: calibrated on 9 drawn views" in capsys.readouterr().err
    end_to_end._real(tmp_path / "run", tmp_path / "out", plan)
    made = {n: json.loads((tmp_path / "out" / f"{n}.json").read_text()) for n in ("calibration", "section", "metrics", "baseline")}
    assert made["calibration"]["form"] == "photograph" and made["calibration"]["n"] == 9 and made["calibration"]["memory"] is None
    assert made["section"]["calibrated_on"] == "9 drawn views: outline and holes alone" and made["baseline"] == {}
    assert made["metrics"]["good"]["n"] == made["metrics"]["classes"]["squashed"]["n"] == 6


def test_colour_alone_separates_colours_and_nothing_else(rng: np.random.Generator) -> None:
    from detect.metrics import auroc
    from pipelines.baselines import colour_scores

    def pictures(level: float) -> list[np.ndarray]:
        return [np.clip(rng.normal(level, 20, (16, 16, 3)), 0, 255).astype(np.uint8) for _ in range(60)]

    calibration, good, dark = pictures(120), pictures(120), pictures(90)
    shuffled = [rng.permutation(p.reshape(-1, 3)).reshape(p.shape) for p in good]
    np.testing.assert_allclose(colour_scores(calibration, shuffled), colour_scores(calibration, good))
    assert auroc(colour_scores(calibration, good), colour_scores(calibration, dark)) > 0.99


HEXNUT = Path(__file__).parents[2] / "shared" / "real" / "hexnut"


@pytest.mark.slow
@pytest.mark.skipif(
    not HEXNUT.is_dir(), reason="the photographs of real nuts are not in the repository: place them in ../shared/real/hexnut"
)
def test_real_nuts_run_to_the_end(command, tmp_path: Path) -> None:
    """Figures of a two-step model mean nothing here; that each photograph is counted, and colour separates as its README warns, does."""
    code, _, err = command(f"formspect run hex_nut --real {HEXNUT} {TINY} -o {tmp_path / 'nut'}")
    assert code == 0, err
    figures = json.loads((tmp_path / "nut" / "real" / "metrics.json").read_text())
    assert figures["good"]["n"] == 150
    assert {k: v["n"] for k, v in figures["classes"].items()} == {"broken_ring": 36, "other": 60, "squashed": 120}
    baseline = json.loads((tmp_path / "nut" / "real" / "baseline.json").read_text())
    assert all(b["image_auroc"] > 0.99 for b in baseline.values())
