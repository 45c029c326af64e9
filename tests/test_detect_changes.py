"""What a new calibration says that the former did not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detect.calibrate import CALIBRATION
from detect.changes import changes, former, units, words


def photographs(scores: np.ndarray, units: tuple[float, float, float] = (0.1, 0.2, 3.0), **more: Any) -> dict[str, Any]:
    """A calibration of the photograph route, as it is written."""
    return {
        "format": 2, "form": "photograph", "run": "a", "alpha": 0.05, "n": len(scores), "threshold": float(np.sort(scores)[-2]), "scores": np.sort(scores).tolist(),
        "units": dict(zip(("outline", "holes", "memory"), units, strict=True)), "memory": "m", "images": [f"{k}.png" for k in range(len(scores))], "outlined": True,
    } | more  # fmt: skip


def renders(scores: np.ndarray, terms: tuple[float, float] = (4.0, 3.0), **noise: float) -> dict[str, Any]:
    return photographs(scores) | {"form": "cad", "terms": list(terms), "noise": {"floor": 1e-4, "edge": 0.01, "hollow": 0.0} | noise}


def learned(scores: np.ndarray, residual: float = 1.0) -> dict[str, Any]:
    data = photographs(scores) | {"noise": {"squares": [residual**2 * 10, 0.0], "counts": [10.0, 0.0]}}
    return {k: v for k, v in data.items() if k != "form"}


@pytest.fixture
def scores(rng: np.random.Generator) -> np.ndarray:
    return rng.gamma(4, 0.12, 60)


@pytest.mark.parametrize("made", [photographs, renders, learned])
def test_the_same_calibration_has_not_changed(made, scores: np.ndarray, rng: np.random.Generator) -> None:
    found = changes(made(scores), made(rng.permutation(scores)))
    assert found["moved"] == 0 and found["mann_whitney_p"] == pytest.approx(1) and found["kolmogorov_smirnov_p"] == pytest.approx(1)
    assert set(found["units"].values()) == {1.0} and found["same"] == 60 and found["threshold_ratio"] == 1
    assert words(found)[-1].startswith("no change")
    json.dumps(found, allow_nan=False)


def test_a_unit_that_has_doubled_moves_scores_in_the_former_ones(scores: np.ndarray) -> None:
    """Each new score counts twice, then: all terms have doubled. Back again, half."""
    before, after = photographs(scores), photographs(scores, (0.2, 0.4, 6.0))
    there, back = changes(before, after), changes(after, before)
    assert there["units"] == pytest.approx({"outline": 2, "holes": 2, "memory": 2})
    low, middle, high = np.quantile(scores, (0.25, 0.5, 0.75))
    assert there["moved"] == pytest.approx(middle / ((high - low) / 1.349))
    assert back["moved"] == pytest.approx(-there["moved"] / 2)
    assert "scores are higher" in words(there)[-1] and "outline is 2.00 times what it was" in words(there)[-1]
    assert there["mann_whitney_p"] == pytest.approx(changes(photographs(scores), photographs(2 * scores))["mann_whitney_p"])


def test_where_one_term_alone_has_changed_scores_move_by_what_is_sure(scores: np.ndarray) -> None:
    """A score may have come from the term that has not: nothing is sure of it, and the unit is what is said."""
    found = changes(photographs(scores), photographs(scores, (0.2, 0.2, 3.0)))
    assert found["moved"] == pytest.approx(0) and "outline is 2.00 times" in words(found)[-1] and "holes is" not in words(found)[-1]


def test_a_memory_that_one_has_alone_is_no_common_unit(scores: np.ndarray) -> None:
    found = changes(photographs(scores) | {"units": {"outline": 0.1, "holes": 0.2}}, photographs(scores))
    assert set(found["units"]) == {"outline", "holes"}
    assert set(units(photographs(scores) | {"units": {"memory": 3.0}})) == {"memory"}


def test_a_shift_is_found_by_both_tests_and_chance_is_not(rng: np.random.Generator) -> None:
    told = [changes(photographs(rng.random(60)), photographs(rng.random(60) + move)) for move in [0.0] * 40 + [0.5] * 10]
    sure = ["look otherwise" in words(t)[-1] for t in told]
    assert sum(sure[:40]) <= 3 and all(sure[40:])
    assert np.median([t["moved"] for t in told[40:]]) == pytest.approx(0.5 / (0.5 / 1.349), rel=0.2)


def test_noise_of_renders_is_told_by_kind(scores: np.ndarray) -> None:
    found = changes(renders(scores), renders(scores, edge=0.04))
    assert found["noise"] == pytest.approx({"floor": 1, "edge": 2})
    assert any("edge 2.00" in line for line in words(found))


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (lambda s: renders(s), "the route is render, photograph before"),
        (lambda s: learned(s), "the route is learned"),
        (lambda s: photographs(s, run="b"), "another than the former"),
        (lambda s: photographs(s, outlined=False), "outlines are not found in the photographs, and were before"),
        (lambda s: photographs(s, format=1), "another format"),
    ],
)
def test_what_has_nothing_in_common_is_not_compared(other, reason: str, scores: np.ndarray) -> None:
    found = changes(photographs(scores), other(scores))
    assert list(found) == ["reason"] and reason in found["reason"] and reason in words(found)[0]


def test_damaged_calibrations_are_no_mistake_of_the_new_one(scores: np.ndarray, tmp_path: Path) -> None:
    for damage in (
        {"scores": "x"},
        {"scores": []},
        {"units": [1]},
        {"threshold": None},
        {"threshold": 0},
        {"images": 3},
        {"units": {"outline": 0, "holes": 1, "memory": 1}},
    ):
        assert changes(photographs(scores) | damage, photographs(scores)) == {"reason": "the former calibration is damaged"}, damage
    assert "reason" in changes({}, photographs(scores))
    assert former(tmp_path / "none.json") is None
    for text in ("{", "[]", "\x00"):
        (tmp_path / "c.json").write_text(text)
        assert former(tmp_path / "c.json") is None


@pytest.mark.slow
def test_calibrating_again_says_what_changed(command, run_folder: Path, dataset_folder: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(run_folder, tmp_path / "run"))
    line = f"detect calibrate {dataset_folder / 'train' / 'good'} --run {own} --steps 0 --starts 1"
    code, out, _ = command(f"{line} --alpha 0.05 --json")
    first = json.loads(out)
    assert code == 0 and first["changed"] is None and first["true_rate"][0] < 1 / 33 < first["true_rate"][1]
    code, out, _ = command(f"{line} --alpha 0.2 --json")
    changed = json.loads(out)["changed"]
    assert code == 0 and changed["same"] == 32 and changed["moved"] == 0 and changed["alpha"] == {"before": 0.05, "after": 0.2}
    code, out, _ = command(f"{line} --alpha 0.2")
    assert "the true rate is between" in out and "no change of good parts" in out
    data = json.loads((own / CALIBRATION).read_text()) | {"run": "another"}
    (own / CALIBRATION).write_text(json.dumps(data))
    assert "not compared with the former calibration" in command(f"{line} --alpha 0.2")[1]
