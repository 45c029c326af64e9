"""Drift alarms: bets that are fair, by formula and by count; what they find, and what they say of it."""

from __future__ import annotations

import io
import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from cad.errors import InputError
from detect.calibrate import CALIBRATION, Conformal
from detect.drift import HEAD, ODDS, SHIFTS, Judged, Procedure, Rejections, Scores, Watch, inspections, rank_factors, spread

ALPHA = 0.05


def calibration(rng: np.random.Generator, count: int = 60) -> Conformal:
    return Conformal(np.sort(rng.normal(size=count)), ALPHA)


def judged(score: float, conformal: Conformal, name: str = "a.png") -> Judged:
    return Judged(name, float(score), conformal.threshold, conformal.verdict(float(score)))


def watched(conformal: Conformal, scores: np.ndarray, **options: float) -> Watch:
    watch = Watch(conformal, **options)
    for k, score in enumerate(scores, 1):
        watch.see(judged(score, conformal, f"{k}.png"))
    return watch


# Bets


@pytest.mark.parametrize("others", [0, 1, 7, 57, 1000])
def test_a_bet_on_ranks_is_fair(others: int) -> None:
    """Over the ranks that a new score may have among so many, each as likely, it pays 1 on average."""
    edges = np.linspace(0, 1, others + 2)
    paid = [rank_factors(low, high) for low, high in pairwise(edges)]
    np.testing.assert_allclose(np.mean(paid, 0), 1, rtol=1e-9)


def test_a_narrow_rank_pays_the_likelihood_ratio_of_a_shift() -> None:
    for p in (0.01, 0.3, 0.9):
        z = norm.isf(p)
        np.testing.assert_allclose(rank_factors(p - 1e-6, p + 1e-6), norm.pdf(z - SHIFTS) / norm.pdf(z), rtol=1e-5)


def test_ties_pay_what_their_ranks_would_on_average() -> None:
    apart = np.mean([rank_factors(k / 10, (k + 1) / 10) for k in range(3, 7)], 0)
    np.testing.assert_allclose(rank_factors(0.3, 0.7), apart)


@pytest.mark.parametrize(("count", "rejected"), [(60, []), (60, [0, 3, 4, 40]), (19, list(range(10))), (400, list(range(0, 200, 10)))])
def test_a_rejection_is_as_likely_as_an_urn_has_it(count: int, rejected: list[int]) -> None:
    """Without defects: l of n + 1 at first, and one more of each kind for each that was seen (Pólya), as order statistics have it."""
    conformal = Conformal(np.arange(float(count)), ALPHA)
    chart = Rejections(conformal, 1e300, 0.0)
    for t in range(201):
        k = sum(r < t for r in rejected)
        assert float(chart.weights @ chart.rates) == pytest.approx((conformal.rank + k) / (count + 1 + t), rel=1e-4)
        chart.see(t + 1, judged(1e9 if t in rejected else -1.0, conformal))


def test_bets_on_rejections_are_fair_whatever_came_before() -> None:
    conformal = Conformal(np.arange(60.0), ALPHA)
    for score in (1e9, -1.0):
        chart = Rejections(conformal, 1e300, 0.03)
        chart.see(1, judged(score, conformal))
        p = float(chart.weights @ chart.rates)
        np.testing.assert_allclose((p * ODDS + 1 - p) / (1 - p + ODDS * p), 1)
        assert p > 0.03


@given(st.lists(st.lists(st.floats(0.1, 5.0), min_size=2, max_size=2), min_size=1, max_size=12))
def test_the_sum_is_what_was_won_from_each_image_on(factors: list[list[float]]) -> None:
    """And the change is likeliest where the won is most."""
    paid = np.array(factors)
    procedure = Procedure(2, 1e9)
    for row in paid:
        procedure.pay(row)
    onwards = np.cumprod(paid[::-1], 0)[::-1]
    np.testing.assert_allclose(procedure.total, onwards.sum(0) + HEAD * 1e9 * onwards[0], rtol=1e-9)
    best, begun = procedure.likeliest()
    assert best == int(np.argmax(procedure.total))
    assert (onwards[:, best] < 1).all() or onwards[begun, best] >= (1 - 1e-9) * onwards[:, best].max()


# What is stated


def test_false_alarms_within_a_thousand_images_are_no_more_than_stated() -> None:
    """Calibrations and streams drawn anew, so that the calibration's own chance counts too."""
    alarms, draws = 0, 40
    for k in range(draws):
        rng = np.random.default_rng(k)
        watch = watched(calibration(rng), rng.normal(size=1000), every=2000, defects=0.0)
        alarms += bool(watch.alarms)
    stated = watch.chance(1000)
    assert stated == pytest.approx(1000 / 2000 * (1 - 2 * HEAD) + 2 * HEAD)
    assert 0 < alarms / draws <= stated


def test_defects_alone_are_no_change_of_scores_and_as_many_as_allowed_no_alarm() -> None:
    drawn = []
    for k in range(20):
        rng = np.random.default_rng(k)
        scores = rng.normal(size=500)
        scores[rng.random(500) < 0.05] += 8
        drawn.append(watched(calibration(rng), scores, defects=0.05).alarms)
    assert sum(bool(a) for a in drawn) <= 2  # 7 % of 20 at most, and the chance of twenty draws


def test_a_shift_of_one_deviation_is_found_within_a_hundred_images() -> None:
    for k in range(12):
        rng = np.random.default_rng(k)
        scores = rng.normal(size=500)
        scores[300:] += 1
        alarm = watched(calibration(rng), scores).alarms[0]
        assert 300 < alarm.at <= 400 and alarm.image == f"{alarm.at}.png"
        assert abs(alarm.since - 301) < 60 and alarm.higher


def test_a_change_before_the_first_image_is_found() -> None:
    found = []
    for k in range(12):
        rng = np.random.default_rng(k)
        found += [a.at for a in watched(calibration(rng), rng.normal(-1, 1, 150)).alarms if not a.higher and a.chart == "scores"]
    assert len(found) >= 11 and np.median(found) < 50


def test_what_changed_is_told_apart() -> None:
    rng = np.random.default_rng(3)
    known = calibration(rng, 200)
    defects, camera = rng.normal(size=900), rng.normal(size=900)
    defects[400:][rng.random(500) < 0.3] += 9
    camera[400:] = 1.2 * camera[400:] + 0.8
    for scores, charts, words in (
        (defects, {"rejections"}, "most likely defects"),
        (camera, {"scores", "rejections"}, "camera, light or process"),
    ):
        watch = watched(known, scores)
        assert {a.chart for a in watch.alarms} == charts and words in watch.json()["meaning"]
        assert all(400 < a.at < 600 for a in watch.alarms)
    scores = next(a for a in watch.alarms if a.chart == "scores")
    assert scores.since_then > scores.before and scores.spreads > 0.3


def test_order_before_a_change_of_scale_and_units_change_nothing() -> None:
    """Ranks alone count: any rising function of the scores gives the same alarms."""
    rng = np.random.default_rng(0)
    known, scores = calibration(rng), np.r_[rng.normal(size=100), rng.normal(1, 1, 200)]
    plain = watched(known, scores)
    bent = watched(Conformal(np.exp(known.scores), ALPHA), np.exp(scores))
    assert [(a.at, a.since, a.chart) for a in plain.alarms] == [(a.at, a.since, a.chart) for a in bent.alarms] != []


def test_scores_beyond_the_threshold_are_left_out_on_both_sides() -> None:
    known = calibration(np.random.default_rng(0))
    chart = Scores(known, 1e9)
    assert max(chart.known) < known.threshold and len(chart.known) == 60 - known.rank
    chart.see(1, judged(known.threshold + 1, known))
    chart.see(2, Judged("a.png", 0.0, known.threshold, "not this part"))
    assert chart.procedure.count == 0


def test_the_spread_of_a_normal_law_is_its_deviation() -> None:
    assert spread(np.random.default_rng(0).normal(3, 2, 100_000)) == pytest.approx(2, rel=0.02)
    assert spread(np.full(9, 4.0)) > 0


# The command


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Of a run, what a stream is held against."""
    (tmp_path / "run").mkdir()
    scores = np.sort(np.random.default_rng(1).normal(size=60))
    (tmp_path / "run" / CALIBRATION).write_text(json.dumps({"scores": scores.tolist(), "alpha": ALPHA}))
    return tmp_path / "run"


def lines(run: Path, scores: np.ndarray) -> str:
    data = json.loads((run / CALIBRATION).read_text())
    conformal = Conformal(np.array(data["scores"]), data["alpha"])
    return "".join(json.dumps(vars(judged(s, conformal, f"{k}.png"))) + "\n" for k, s in enumerate(scores, 1))


def test_a_stream_is_read_from_a_file_and_from_stdin(command, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    text = lines(run, np.r_[rng.normal(size=100), rng.normal(2, 1, 60)])
    (tmp_path / "all.jsonl").write_text(text + '\n{"group": {"verdict": "fail"}}\n')
    code, out, err = command(f"detect drift {tmp_path / 'all.jsonl'} --run {run} --json")
    facts = json.loads(out)
    assert code == 1 and facts["images"] == 160 and 100 < facts["alarms"][0]["at"] <= 120
    assert f"detect calibrate GOOD --run {run}" in err and f"since {min(a['since'] for a in facts['alarms'])}.png" in err
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    code, again, _ = command(f"detect drift - --run {run}")
    assert code == 1 and again.startswith(f"alarm at image {facts['alarms'][0]['at']} (")
    assert facts["meaning"] in again.splitlines()[-1]
    (tmp_path / "calm.jsonl").write_text("".join(text.splitlines(keepends=True)[:100]))
    code, out, err = command(f"detect drift {tmp_path / 'calm.jsonl'} --run {run}")
    assert code == 0 and "no alarm" in out and "next" not in err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", ["line 2", "is not JSON"]),
        ("[]", ["line 2", "no inspection"]),
        ('{"image": "a"}', ["line 2: score", "a number"]),
        ('{"image": 3, "score": 1, "threshold": 1, "verdict": "pass"}', ["line 2: image", "found 3"]),
        ('{"image": "a", "score": NaN, "threshold": 1, "verdict": "pass"}', ["line 2: score", "found nan"]),
        ('{"image": "a", "score": true, "threshold": 1, "verdict": "pass"}', ["line 2: score", "found True"]),
        ('{"image": "a", "score": 1, "threshold": 77, "verdict": "pass"}', ["line 2: threshold", "another calibration", "--run"]),
    ],
)
def test_bad_lines_get_one_line(command, run: Path, tmp_path: Path, line: str, words: list[str]) -> None:
    (tmp_path / "s.jsonl").write_text(lines(run, np.zeros(1)) + line + "\n")
    code, _, err = command(f"detect drift {tmp_path / 's.jsonl'} --run {run}")
    assert code == 2 and len(err.strip().splitlines()) == 1 and all(w in err for w in words), err


def test_bad_streams_and_runs_get_one_line(command, run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    for name, words in (("none.jsonl", "no such file"), ("run", "is a folder"), ("empty.jsonl", "holds no inspections")):
        code, _, err = command(f"detect drift {tmp_path / name} --run {run}")
        assert code == 2 and words in err and len(err.strip().splitlines()) == 1
    (run / CALIBRATION).write_text('{"scores": [1, "a"], "alpha": 0.5}')
    assert "is damaged" in command(f"detect drift {tmp_path / 'empty.jsonl'} --run {run}")[2]
    (run / CALIBRATION).unlink()
    assert "is not calibrated" in command(f"detect drift {tmp_path / 'empty.jsonl'} --run {run}")[2]


@given(st.text(max_size=200) | st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), lambda c: st.lists(c) | st.dictionaries(st.sampled_from(["image", "score", "threshold", "verdict", "group"]), c)).map(json.dumps))  # fmt: skip
def test_any_text_is_read_or_refused(text: str) -> None:
    conformal = Conformal(np.arange(1.0, 20), ALPHA)
    try:
        for found in inspections(text.splitlines(), "s", conformal):
            assert np.isfinite(found.score)
    except InputError as error:
        assert str(error).startswith("s: line ")


@pytest.mark.parametrize("every", [1, 3, 10])
def test_an_alarm_at_any_level_names_an_image_that_was_seen(every: int) -> None:
    """Where hardly anything need be won, the sum alone raises it."""
    for k in range(30):
        rng = np.random.default_rng(k)
        for alarm in watched(calibration(rng), rng.normal(size=60), every=every).alarms:
            assert 1 <= alarm.since <= alarm.at and alarm.since_image == f"{alarm.since}.png"


def test_nearly_all_rejected_are_hardly_defects() -> None:
    rng = np.random.default_rng(0)
    watch = watched(calibration(rng), np.r_[rng.normal(size=50), np.full(20, 99.0)])
    assert "nearly all are rejected" in watch.json()["meaning"] and watch.alarms[0].since == 51
