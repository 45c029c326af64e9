"""The ablation: what its variants switch, what its figures say, and that it goes on where it was stopped."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cad
from pipelines import ablate as module
from pipelines.ablate import NAMES, advice, variants, worth
from synth.randomise import blocks_of
from synth.sampling import Recipe, draw_sample


def test_each_variant_switches_what_its_name_says() -> None:
    known = variants()
    assert len(known) == 2 + 2 * len(NAMES)
    for name in NAMES:
        assert [n for n in NAMES if known[f"without {name}"][n] != known["all"][n]] == [name]
        assert [n for n in NAMES if known[f"only {name}"][n] != known["none"][n]] == [name]
    for levels in known.values():
        blocks_of({n: v for n, v in levels.items() if n != module.FINISH})


def scores_of(rng: np.random.Generator, good: np.ndarray, apart: float) -> np.ndarray:
    return (rng.standard_normal(len(good)) + np.where(good, 0, apart))[None]


def test_a_class_that_helps_is_told_from_one_that_does_nothing(rng: np.random.Generator) -> None:
    good = np.arange(120) < 60
    noise = rng.standard_normal(120)
    strong, weak = (noise + np.where(good, 0, 2.0))[None], noise[None]
    helps = {"all": strong, "without x": weak, "only x": strong, "none": weak}
    found = worth("x", helps, good, ~good)
    assert found["adds"] > 0.3 and found["adds_low"] > 0 and found["advice"].startswith("switch on x")
    hurts = worth("x", {"all": weak, "without x": strong, "only x": weak, "none": strong}, good, ~good)
    assert hurts["adds"] == -found["adds"] and hurts["advice"].startswith("switch off x")
    nothing = worth("x", dict.fromkeys(helps, strong), good, ~good)
    assert nothing["adds"] == nothing["adds_low"] == nothing["adds_high"] == 0 and "does nothing" in nothing["advice"]


def test_seeds_in_another_order_change_nothing(rng: np.random.Generator) -> None:
    good = np.arange(40) < 20
    rows = {n: np.concatenate([scores_of(rng, good, 1.0) for _ in range(3)]) for n in ("all", "without x", "only x", "none")}
    one, other = worth("x", rows, good, ~good), worth("x", {n: v[::-1] for n, v in rows.items()}, good, ~good)
    assert {k: v for k, v in one.items() if k != "advice"} == pytest.approx({k: v for k, v in other.items() if k != "advice"})


def test_advice_says_what_the_interval_allows() -> None:
    assert "0.100" in advice("dust", 0.1, 0.02, 0.2) and advice("dust", -0.1, -0.2, -0.01).startswith("switch off")
    assert "nothing here" in advice("dust", 0.1, -0.01, 0.2)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, part = tmp_path_factory.mktemp("photographs"), cad.load("hex_nut")
    recipe = Recipe(0, 3, size=96, seed=4)
    for label in ("good", "squashed", "broken-ring"):
        (folder / "test" / label).mkdir(parents=True)
        for k in range(3):
            Image.fromarray(draw_sample(part, recipe, "test", label, k).image).save(folder / "test" / label / f"{k}.png")
    (folder / "calibrate" / "good").mkdir(parents=True)
    for k in range(3):
        Image.fromarray(draw_sample(part, replace(recipe, seed=5), "test", "good", k).image).save(
            folder / "calibrate" / "good" / f"{k}.png"
        )
    return folder


def test_an_ablation_of_one_class(photographs: Path, tmp_path: Path, command) -> None:
    line = (
        f"formspect ablate hex_nut --real {photographs} -o {tmp_path} --class sensor --pairs 8 --steps 1 --apart broken-ring --device cpu"
    )
    code, out, err = command(f"{line} --json")
    assert code == 0, err
    figures = json.loads(out)
    assert figures == json.loads((tmp_path / module.RESULT).read_text()) and list(figures["worth"]) == ["sensor"]
    assert list(figures["variants"]) == ["all", "none", "without sensor", "only sensor", "fitted to 3 good"]
    assert figures["photographs"] == {"good": 3, "broken-ring": 3, "squashed": 3}
    v = figures["variants"]
    for key, (a, b) in {"adds": ("all", "without sensor"), "alone": ("only sensor", "none")}.items():
        assert figures["worth"]["sensor"][key] == pytest.approx(v[a]["image_auroc"] - v[b]["image_auroc"])
    assert v["all"]["image_auroc"] == pytest.approx(v["all"]["classes"]["squashed"])  # the other stands apart
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert figures["advice"][0].split(" told most")[0] in v and all(line in page for line in figures["advice"])
    assert "<svg" in page and not re.findall(r"""(?:src|href)=["'](?!data:|#)""", page)
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "scores").iterdir()}
    assert len(kept) == 5
    assert command(line)[0] == 0
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "scores").iterdir()} == kept


@pytest.mark.parametrize(
    ("options", "words"),
    [("--class sensors", ("--class", "sensor")), ("--apart rust --class dust --pairs 8 --steps 1", ("--apart", "squashed"))],
)
def test_mistakes(photographs: Path, tmp_path: Path, command, options: str, words: tuple[str, ...]) -> None:
    code, _, err = command(f"formspect ablate hex_nut --real {photographs} -o {tmp_path} --device cpu {options}")
    assert code == 2 and all(w in err for w in words) and not (tmp_path / module.RESULT).exists()


def test_good_photographs_alone_tell_nothing(tmp_path: Path, command) -> None:
    (tmp_path / "set" / "test" / "good").mkdir(parents=True)
    Image.new("RGB", (64, 64)).save(tmp_path / "set" / "test" / "good" / "a.png")
    code, _, err = command(f"formspect ablate hex_nut --real {tmp_path / 'set'} -o {tmp_path / 'out'}")
    assert code == 2 and "has good photographs alone" in err
