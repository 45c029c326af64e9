"""The benchmark's views and figures, tiny: that it runs, and that its cases do what they say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import cad
from detect.opening import open_detector
from pipelines.benchmark_cad import CASES, bench, noisy, occluded, painter
from pipelines.detection_limit import ladder, limits
from synth.sampling import Recipe, draw_sample


@pytest.mark.parametrize("case", ["plain", "other"])
def test_figures_of_a_few_views(form_folder: Path, cap: cad.Part, case: str) -> None:
    found = bench(cap, open_detector(form_folder), {"bulge": [3.0], "short-notch": [-2.5]}, 4, case, 0)
    json.dumps(found, allow_nan=False)
    assert found["good"]["n"] == 8 and set(found["defects"]) == {"bulge 3", "short-notch -2.5"}
    assert found["defects"]["short-notch -2.5"]["measured"]["dimension"] == "notch_depth"
    if case == "plain":
        assert found["defects"]["bulge 3"]["image_auroc"] > 0.9


def test_a_tenth_of_the_pixels_and_a_bar(rng: np.random.Generator) -> None:
    image = np.full((100, 100, 3), 250, np.uint8)
    assert (noisy(image, rng) != image).any(2).mean() == pytest.approx(0.1, abs=0.02)
    bars = [(occluded(image, rng) != image).any(2) for _ in range(8)]
    assert all(b.mean() == pytest.approx(0.15) for b in bars)
    assert len({b[0, 50] for b in bars}) == 2  # from more sides than one


@pytest.mark.parametrize("case", CASES)
def test_every_case_shows_the_same_geometry(cap: cad.Part, case: str) -> None:
    """Pose, mask and record are the sample's; only the picture is another."""
    recipe = Recipe(0, 1, size=48)
    plain = draw_sample(cap, recipe, "test", "bulge", 0)
    other = draw_sample(cap, recipe, "test", "bulge", 0, paint=painter(case, np.random.default_rng(0)))
    assert other.sample == plain.sample
    np.testing.assert_array_equal(other.mask, plain.mask)
    assert (other.image == plain.image).all() == (case == "plain")


def test_ladders_keep_the_ranges_sign() -> None:
    assert ladder(0.5, 3.0, 4)[0] == pytest.approx(0.5 / 3) and ladder(0.5, 3.0, 4)[-1] == pytest.approx(3.0)
    down = ladder(-3.0, -0.5, 5)
    assert down[0] == pytest.approx(-0.5 / 3) and down[-1] == pytest.approx(-3.0)
    assert np.ptp(np.diff(np.log(np.abs(down)))) < 1e-9


def test_limits_of_a_few_views(form_folder: Path, cap: cad.Part) -> None:
    found, curves = limits(cap, open_detector(form_folder), ["bulge"], 8, 100, 4, "plain", 3)
    json.dumps(found, allow_nan=False)
    assert found["bulge"]["unit"] == "mm" and len(found["bulge"]["found"]) == 4 and found["bulge"]["found"]["3"] == 1.0
    assert len(curves["bulge"][0]) == found["bulge"]["views"] <= 8
    from detect.report import detection_plot, svg

    assert "95 %" in svg(detection_plot({"bulge": {"64 px": curves["bulge"]}}))
