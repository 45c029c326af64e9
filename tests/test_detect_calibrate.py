"""Conformal calibration: what it promises, counted over many draws; its three ways of saying no agree."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cad.errors import InputError
from detect.calibrate import Conformal, check_alpha, images_needed

ORDER = ("pass", "unsure", "fail")


@st.composite
def calibrations(draw: st.DrawFn) -> Conformal:
    """Ties, few images, and rates at and beside the steps k / (n + 1), where rounding could tell two answers apart."""
    count = draw(st.integers(2, 60))
    scores = np.sort(draw(st.lists(st.integers(0, 8).map(float), min_size=count, max_size=count)))
    step = draw(st.integers(1, count)) / (count + 1)
    alpha = draw(st.sampled_from([step, np.nextafter(step, 0), np.nextafter(step, 1), 1 - (1 - step), (1 + 0.3 / count) * step]))
    return Conformal(scores, min(float(alpha), 0.99))


any_score = st.integers(-2, 18).map(lambda v: v / 2)


@pytest.mark.parametrize(("alpha", "count"), [(0.05, 19), (0.01, 99), (0.1, 9), (0.2, 4), (0.5, 1), (0.3, 3), (1 - 0.9, 9), (0.001, 999)])
def test_images_needed(alpha: float, count: int) -> None:
    assert images_needed(alpha) == count
    assert Fraction(1, count + 1) <= Fraction(alpha) + Fraction(1, 10**9)  # the rate can be reached with so many
    assert count == 1 or Fraction(1, count) > Fraction(alpha)  # and not with one fewer
    check_alpha(alpha, count)


def test_too_few_images_are_refused_with_both_ways_out() -> None:
    with pytest.raises(InputError) as caught:
        check_alpha(0.05, 18)
    assert str(caught.value) == (
        "--alpha: 18 good images cannot support a false-reject rate of 0.05; wanted at least 19 images (add images, or use --alpha 0.053)"
    )


@pytest.mark.parametrize("count", [1, 2, 3, 7, 18, 100, 500])
def test_the_alpha_that_is_offered_is_accepted(count: int) -> None:
    with pytest.raises(InputError) as caught:
        check_alpha(0.5 / (count + 1), count)
    check_alpha(float(caught.value.step.split()[-1]), count)


def test_no_images_at_all_offers_no_alpha() -> None:
    with pytest.raises(InputError, match=r"0 good images.*\(add images\)$"):
        check_alpha(0.05, 0)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_no_rate_is_refused(alpha: float) -> None:
    with pytest.raises(InputError, match="above 0 and below 1"):
        check_alpha(alpha, 1000)


def test_a_calibration_checks_its_own_rate() -> None:
    with pytest.raises(InputError, match="18 good images cannot support"):
        Conformal(np.arange(18.0), 0.05)


def test_p_value_by_hand() -> None:
    found = Conformal(np.array([1.0, 2.0, 2.0, 5.0]), 0.2)
    assert [found.p_value(s) for s in (0, 1, 1.5, 2, 3, 5, 6)] == [1.0, 1.0, 0.8, 0.8, 0.4, 0.4, 0.2]


def test_threshold_by_hand() -> None:
    assert Conformal(np.arange(1.0, 20), 0.05).threshold == 19  # 19 images: only a score above all of them
    assert Conformal(np.arange(1.0, 20), 0.1).threshold == 18
    assert Conformal(np.arange(1.0, 100), 0.05).threshold == 95


@given(calibrations(), any_score)
def test_fails_exactly_above_the_threshold_where_p_is_at_most_alpha(found: Conformal, score: float) -> None:
    fails = found.verdict(score) == "fail"
    assert fails == (score > found.threshold)
    assert fails == (found.p_value(score) <= found.alpha + 1e-9)  # a rate written as 1 - 0.9 means 0.1


@given(calibrations(), st.lists(any_score, min_size=2))
def test_a_higher_score_is_never_a_better_verdict(found: Conformal, scores: list[float]) -> None:
    verdicts = [ORDER.index(found.verdict(s)) for s in sorted(scores)]
    assert verdicts == sorted(verdicts)
    ps = [found.p_value(s) for s in sorted(scores)]
    assert ps == sorted(ps, reverse=True)


@given(calibrations())
def test_doubt_is_a_good_score_at_or_below_the_threshold(found: Conformal) -> None:
    assert found.doubt() <= found.threshold and found.doubt() in found.scores
    assert found.verdict(found.doubt()) == "pass"
    assert found.doubt(0.99) <= found.doubt(0.5)  # surer: lower


def test_a_score_that_is_no_number_does_not_pass() -> None:
    assert Conformal(np.arange(1.0, 20), 0.05).verdict(float("nan")) == "fail"


@pytest.mark.parametrize(("count", "alpha", "rate"), [(19, 0.05, 1 / 20), (30, 0.05, 1 / 31), (99, 0.1, 0.1), (8, 0.2, 1 / 9)])
def test_good_parts_are_rejected_no_more_often_than_promised(count: int, alpha: float, rate: float) -> None:
    # exchangeable scores without ties: the rate over calibrations is floor(alpha (n + 1)) / (n + 1), exactly
    rng, draws = np.random.default_rng(0), 4000
    rejected = 0
    for _ in range(draws):
        *calibration, new = rng.exponential(size=count + 1)
        rejected += Conformal(np.sort(calibration), alpha).verdict(new) == "fail"
    assert rate <= alpha and abs(rejected / draws - rate) < 4 * np.sqrt(rate * (1 - rate) / draws)  # four deviations


def test_ties_only_make_it_reject_less() -> None:
    rng, draws = np.random.default_rng(0), 4000
    rejected = 0
    for _ in range(draws):
        *calibration, new = rng.integers(0, 5, 20)
        rejected += Conformal(np.sort(np.array(calibration, float)), 0.05).verdict(float(new)) == "fail"
    assert rejected / draws < 0.05


def test_doubt_lies_below_the_true_quantile_as_often_as_it_says() -> None:
    rng, draws = np.random.default_rng(0), 2000
    below = sum(Conformal(np.sort(rng.random(60)), 0.1).doubt() <= 0.9 for _ in range(draws))
    assert below / draws > 0.95 - 4 * np.sqrt(0.95 * 0.05 / draws)  # one end of a 90 % interval


@pytest.mark.parametrize(("count", "alpha"), [(60, 0.05), (19, 0.05), (99, 0.1), (30, 0.2)])
def test_the_true_rate_lies_where_it_is_said_to_as_often_as_said(count: int, alpha: float) -> None:
    """Of uniform scores, whose rate beyond a threshold is known."""
    rng, draws = np.random.default_rng(0), 3000
    beyond = np.array([1 - Conformal(np.sort(rng.random(count)), alpha).threshold for _ in range(draws)])
    found = Conformal(np.arange(float(count)), alpha)
    low, high = found.true_rate(0.8)
    within = np.mean((low <= beyond) & (beyond <= high))
    assert abs(within - 0.8) < 4 * np.sqrt(0.8 * 0.2 / draws)
    assert found.true_rate()[0] < low < found.rank / (count + 1) < high < found.true_rate()[1]


def test_the_true_rate_by_hand() -> None:
    """The highest of n: a share r lies above it with probability 1 - (1 - r)^n."""
    low, high = Conformal(np.arange(19.0), 0.05).true_rate()
    assert 1 - (1 - low) ** 19 == pytest.approx(0.025) and 1 - (1 - high) ** 19 == pytest.approx(0.975)
