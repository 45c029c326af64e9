"""Figures against a second route, or on pictures small enough to score by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from scipy.stats import beta, binomtest
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from detect.metrics import (
    aupimo,
    aupro,
    auroc,
    auroc_interval,
    average_precision,
    detection_curve,
    detection_limit,
    f1_max,
    named_right,
    pixel_auroc,
    precision_recall,
    rate_at_most,
    rejections_expected,
    roc,
    share_interval,
    threshold_at,
    tpr_at,
)

levels = st.integers(0, 6).map(float)  # so few that ties are the rule
some = st.lists(levels, min_size=1, max_size=20).map(np.array)


@given(some, some)
def test_auroc_is_sklearns_with_ties(good: np.ndarray, bad: np.ndarray) -> None:
    labels = np.r_[np.zeros(len(good)), np.ones(len(bad))]
    assert auroc(good, bad) == pytest.approx(roc_auc_score(labels, np.r_[good, bad]), abs=1e-12)


def test_auroc_by_hand() -> None:
    assert auroc(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0])) == pytest.approx((1 + 0.5 + 0 + 3) / 6)
    assert auroc(np.array([1.0]), np.array([2.0])) == 1 and auroc(np.array([2.0]), np.array([1.0])) == 0


@given(some, some)
def test_auroc_of_the_two_swapped_is_the_rest(good: np.ndarray, bad: np.ndarray) -> None:
    assert auroc(good, bad) + auroc(bad, good) == pytest.approx(1)


@pytest.mark.parametrize("figure", [auroc, auroc_interval, average_precision, tpr_at, f1_max])
def test_an_empty_set_tells_nothing(figure) -> None:
    assert figure(np.array([]), np.arange(200.0)) is None and figure(np.arange(200.0), np.array([])) is None


@pytest.mark.parametrize("seed", range(8))
def test_interval_holds_the_figure_and_lies_in_0_1(seed: int) -> None:
    rng = np.random.default_rng(seed)
    good, bad = rng.normal(size=30), rng.normal(0.8, size=20)
    low, high = auroc_interval(good, bad)
    assert 0 <= low < auroc(good, bad) < high <= 1


def test_interval_shrinks_with_the_root_of_the_number() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for count in (25, 100, 400):
        low, high = np.mean([auroc_interval(rng.normal(size=count), rng.normal(1, size=count)) for _ in range(4)], axis=0)
        widths.append(high - low)
    assert widths[0] / widths[1] == pytest.approx(2, rel=0.25) and widths[1] / widths[2] == pytest.approx(2, rel=0.25)


def test_interval_of_well_parted_sets_is_a_point() -> None:
    assert auroc_interval(np.arange(10.0), np.arange(20.0, 30.0)) == (1.0, 1.0)


def test_interval_is_of_the_stated_width() -> None:
    # against the standard deviation of Hanley and McNeil 1982 for two normals one deviation apart (AUROC 0.760)
    rng = np.random.default_rng(0)
    low, high = np.mean([auroc_interval(rng.normal(size=100), rng.normal(1, size=100)) for _ in range(10)], axis=0)
    a = 0.760
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    deviation = np.sqrt((a * (1 - a) + 99 * (q1 - a * a) + 99 * (q2 - a * a)) / 100**2)
    assert high - low == pytest.approx(2 * 1.96 * deviation, rel=0.15)  # their formula is an approximation, ten draws vary
    assert auroc_interval(np.arange(9.0), np.arange(5.0, 14)) == auroc_interval(np.arange(9.0), np.arange(5.0, 14))


def test_tpr_by_hand() -> None:
    good = np.arange(200.0)  # two may be above the threshold: it is 197
    assert tpr_at(good, np.array([196.0, 197.0, 197.5, 500.0])) == 0.5
    assert tpr_at(good, np.array([197.0, 198.0]), fpr=0.005) == 0.0 and tpr_at(good, np.array([198.0, 198.5]), fpr=0.005) == 0.5


def test_tpr_needs_good_ones_enough() -> None:
    assert tpr_at(np.arange(99.0), np.array([500.0])) is None
    assert tpr_at(np.arange(100.0), np.array([500.0])) == 1.0
    assert tpr_at(np.arange(19.0), np.array([500.0]), fpr=0.05) is None and tpr_at(np.arange(20.0), np.array([500.0]), fpr=0.05) == 1.0


@given(st.lists(levels, min_size=10, max_size=40).map(np.array), some)
def test_tpr_is_the_best_over_all_thresholds(good: np.ndarray, bad: np.ndarray) -> None:
    every = np.unique(np.r_[-1.0, good, bad])
    assert tpr_at(good, bad, 0.1) == max((bad > t).mean() for t in every if (good > t).sum() <= np.floor(0.1 * len(good)))


@given(some, some)
def test_f1_is_the_best_over_all_thresholds(good: np.ndarray, bad: np.ndarray) -> None:
    found = []
    for threshold in np.r_[good, bad]:
        hits, alarms = (bad >= threshold).sum(), (good >= threshold).sum()
        found.append(2 * hits / (2 * hits + alarms + (len(bad) - hits)))
    assert f1_max(good, bad) == pytest.approx(max(found))


@given(some, some)
def test_curves_are_sklearns(good: np.ndarray, bad: np.ndarray) -> None:
    labels, scores = np.r_[np.zeros(len(good)), np.ones(len(bad))], np.r_[good, bad]
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose(roc(good, bad), (fpr, tpr), atol=1e-12)
    precision, recall, _ = precision_recall_curve(labels, scores)
    np.testing.assert_allclose(precision_recall(good, bad), (precision[-2::-1], recall[-2::-1]), atol=1e-12)
    assert average_precision(good, bad) == pytest.approx(average_precision_score(labels, scores))


@given(some, some)
def test_the_area_under_the_roc_is_auroc(good: np.ndarray, bad: np.ndarray) -> None:
    x, y = roc(good, bad)
    assert np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2) == pytest.approx(auroc(good, bad))


@given(st.integers(0, 40), st.integers(0, 40), st.sampled_from([0.8, 0.95, 0.99]))
def test_an_interval_of_a_share_is_scipys_and_turns_over(hits: int, others: int, level: float) -> None:
    if hits + others == 0:
        assert share_interval(0, 0) is None
        return
    low, high = share_interval(hits, hits + others, level=level)
    assert (low, high) == pytest.approx(tuple(binomtest(hits, hits + others).proportion_ci(level, "exact")))
    assert share_interval(others, hits + others, level=level) == pytest.approx((1 - high, 1 - low))


def test_an_interval_of_a_share_by_hand() -> None:
    low, high = share_interval(6, 6)
    assert high == 1 and low**6 == pytest.approx(0.025)  # at the lower end, all six are seen in one set of forty


def test_rejections_expected_by_hand() -> None:
    assert rejections_expected(1, 0.5) == (0, 1)
    assert rejections_expected(24, 0.05) == (0, 4)  # P(more than 3) = 0.030, P(more than 4) = 0.006
    assert rejections_expected(0, 0.05) == (0, 0)


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_a_threshold_of_more_images_is_nearer_to_the_stated_rate(alpha: float) -> None:
    widths = [np.ptp(rejections_expected(200, alpha, count)) for count in (19, 99, 999, 99_999)]
    assert widths == sorted(widths, reverse=True) and widths[0] > widths[-1] > 0
    assert abs(widths[-1] - np.ptp(rejections_expected(200, alpha))) <= 1
    rates = [rate_at_most(alpha, count) for count in (19, 99, 999, 99_999)]
    assert rates == sorted(rates, reverse=True) and rates[-1] == pytest.approx(alpha, rel=0.03)


def test_rejections_are_as_expected_of_conformal_thresholds(rng: np.random.Generator) -> None:
    """Calibrated on 39, tested on 100, 2000 times: as often outside as is said, and the rate of the worst thresholds is as said."""
    from detect.calibrate import Conformal

    low, high = rejections_expected(100, 0.05, 39)
    draws = rng.random((2000, 139))
    thresholds = np.array([Conformal(np.sort(row[:39]), 0.05).threshold for row in draws])
    rejected = (draws[:, 39:] > thresholds[:, None]).sum(1)
    assert 0.94 < ((rejected >= low) & (rejected <= high)).mean() < 0.99
    assert ((1 - thresholds) <= rate_at_most(0.05, 39)).mean() == pytest.approx(0.95, abs=0.02)  # scores are even: 1 - t is its rate
    assert rate_at_most(0.05, 39) == beta.ppf(0.95, 2, 38)


def test_pixel_auroc_by_hand() -> None:
    maps = np.array([[[0.1, 0.4], [0.35, 0.8]], [[0.0, 0.9], [0.2, 0.3]]])
    masks = np.array([[[0, 0], [1, 1]], [[0, 0], [0, 0]]], bool)
    assert pixel_auroc(maps, masks) == pytest.approx((4 + 5) / 12)  # 0.35 is above 0.1, 0, 0.2, 0.3; 0.8 above all but 0.9
    assert pixel_auroc(masks.astype(float), masks) == 1
    assert pixel_auroc(maps, np.zeros_like(masks)) is None


MASK = np.zeros((1, 5, 5), bool)
MASK[0, 0, 0] = MASK[0, 3:5, 3:5] = True  # a region of one pixel, one of four; 20 pixels outside


def test_perfect_map_has_aupro_1() -> None:
    assert aupro(MASK.astype(float), MASK) == pytest.approx(1)
    rng = np.random.default_rng(0)
    large = ndimage.binary_dilation(rng.random((2, 100, 100)) < 0.002, np.ones((1, 3, 3)))  # more thresholds than are kept
    assert aupro(large + 0.9 * rng.random(large.shape), large) == pytest.approx(1)


def test_flat_map_has_half_the_limit() -> None:
    for limit in (0.3, 0.05, 1.0):  # one threshold lets all in at once: the curve is the diagonal
        assert aupro(np.full(MASK.shape, 0.5), MASK, limit) == pytest.approx(limit / 2)


def test_opposite_map_has_aupro_0() -> None:
    assert aupro(1.0 - MASK, MASK) == pytest.approx(0)


def test_aupro_by_hand() -> None:
    maps = np.zeros(MASK.shape)
    maps[0, 0, 4] = 3.0  # outside, above both regions
    maps[0, 0, 0] = 2.0  # the small region: an overlap of 1/2 from 1/20 of false positives on
    maps[0, 4, 0] = 1.5  # outside
    maps[0, 3, 3:5] = 1.0  # half of the large one: 3/4 from 2/20 on
    # the remaining 18 outside and 2 inside share 0: a diagonal from (2/20, 3/4) to (1, 1), at 0.3 it is at 3/4 + (0.2 / 0.9) / 4
    end = 0.75 + 0.25 * 0.2 / 0.9
    assert aupro(maps, MASK) == pytest.approx((0.05 * 0 + 0.05 * 0.5 + 0.2 * (0.75 + end) / 2) / 0.3)


def test_a_region_counts_the_same_whatever_its_size() -> None:
    small, large = np.zeros(MASK.shape), np.zeros(MASK.shape)
    small[0, 0, 0] = 1.0
    large[0, 3:5, 3:5] = 1.0
    # one found, the other in step with the outside: 1/2 at once, then the diagonal to 1
    assert aupro(small, MASK) == pytest.approx(aupro(large, MASK)) == pytest.approx((0.5 + 0.65) / 2)


def test_regions_touching_at_a_corner_are_one() -> None:
    mask = np.zeros((1, 4, 4), bool)
    mask[0, 0, 0] = mask[0, 1, 1] = mask[0, 2, 1] = True
    maps = np.zeros(mask.shape)
    maps[0, 0, 0] = 1.0
    assert aupro(maps, mask) == pytest.approx(1 / 3 + 2 / 3 * 0.15)  # a third of one region; two of them would give a half


@given(arrays(float, (2, 4, 5), elements=levels), arrays(bool, (2, 4, 5)), st.sampled_from([0.05, 0.3, 1.0]))
def test_aupro_is_the_area_under_the_curve_over_all_thresholds(maps: np.ndarray, masks: np.ndarray, limit: float) -> None:
    if not masks.any() or masks.all():
        assert aupro(maps, masks, limit) is None
        return
    labels = np.stack([ndimage.label(m, np.ones((3, 3)))[0] for m in masks])
    regions = [maps[i][labels[i] == k] for i in range(2) for k in range(1, labels[i].max() + 1)]
    curve = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        curve.append(((maps[~masks] >= threshold).mean(), np.mean([(r >= threshold).mean() for r in regions])))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(curve):
        if x1 > x0 and x0 < limit:
            cut = min(x1, limit)
            area += (cut - x0) * (y0 + y0 + (y1 - y0) * (cut - x0) / (x1 - x0)) / 2
    assert aupro(maps, masks, limit) == pytest.approx(area / limit)


def test_aupro_and_auroc_do_not_mind_the_scale_of_the_maps() -> None:
    rng = np.random.default_rng(0)
    masks = ndimage.binary_dilation(rng.random((3, 64, 64)) < 0.002, np.ones((1, 5, 5)))
    maps = rng.random(masks.shape) + 0.3 * masks
    for change in (np.exp, lambda v: 1e-3 * v - 7, lambda v: v**3):
        assert aupro(change(maps), masks) == pytest.approx(aupro(maps, masks), abs=1e-12)
        assert pixel_auroc(change(maps), masks) == pytest.approx(pixel_auroc(maps, masks), abs=1e-12)


def test_thinned_thresholds_cost_less_than_a_thousandth() -> None:
    rng = np.random.default_rng(0)
    masks = ndimage.binary_dilation(rng.random((1, 150, 150)) < 0.002, np.ones((1, 5, 5)))  # some 6000 thresholds below 0.3
    maps = rng.normal(size=masks.shape) + 1.5 * masks
    labels, count = ndimage.label(masks[0], np.ones((3, 3)))
    edges = np.sort(maps[~masks])[::-1][: int(0.3 * (~masks).sum())]
    overlap = np.mean([(np.sort(maps[0][labels == k])[:, None] >= edges).mean(0) for k in range(1, count + 1)], axis=0)
    assert len(edges) > 3 * 2000 and aupro(maps, masks) == pytest.approx(overlap.mean(), abs=1e-3)


def pimo_case() -> tuple[np.ndarray, np.ndarray]:
    """Two good images of 50 pixels that count 1 to 100, and two defective ones with a mask of four and of one."""
    good = np.arange(1.0, 101).reshape(2, 5, 10)
    bad, masks = np.zeros((2, 5, 10)), np.zeros((4, 5, 10), bool)
    bad[0, 0, :4], masks[2, 0, :4] = (100.5, 98.5, 97.5, 0.0), True
    bad[1, 2, 2], masks[3, 2, 2] = 50.0, True
    bad[:, 4, 9] = 1000.0  # a false positive on a defective image is none of the rate's
    return np.concatenate([good, bad]), masks


def test_aupimo_by_hand() -> None:
    maps, masks = pimo_case()
    # from 1 to 4 of 100 pixels: above 99 one of four, above 98 (two pixels) two, above 97 (three) three
    wanted = (0.25 * np.log(2 / 1) + 0.5 * np.log(3 / 2) + 0.75 * np.log(4 / 3)) / np.log(4)
    assert aupimo(maps, masks, 0.01, 0.04) == pytest.approx([wanted, 0.0])
    assert aupimo(maps, masks, 0.015, 0.02) == pytest.approx([0.25, 0.0])  # between two steps
    assert aupimo(maps, masks, 0.5, 1.0)[1] == pytest.approx(1 - np.log(51 / 50) / np.log(2))  # 50 is above 49, which 51 pixels exceed


def test_aupimo_of_perfect_flat_and_opposite_maps() -> None:
    _, masks = pimo_case()
    assert aupimo(masks.astype(float), masks, 0.01, 0.1) == pytest.approx([1, 1])
    assert aupimo(np.full(masks.shape, 0.5), masks, 0.01, 0.1) == pytest.approx([0, 0])  # no threshold finds one and spares the good
    assert aupimo(1.0 - masks, masks, 0.01, 0.1) == pytest.approx([0, 0])


def test_aupimo_wants_pixels_that_resolve_its_bounds() -> None:
    maps, masks = pimo_case()
    assert aupimo(maps, masks) is None and aupimo(maps, masks, 0.009, 0.1) is None and aupimo(maps, masks, 0.01, 0.1) is not None
    assert aupimo(maps, np.zeros_like(masks), 0.01, 0.1) is None and aupimo(maps[2:], masks[2:], 0.01, 0.1) is None
    large = np.zeros((3, 250, 200)), np.zeros((3, 250, 200), bool)  # two good images of 50,000: the paper's bounds, exactly
    large[1][2, 0, 0] = True
    assert aupimo(*large) is not None and aupimo(large[0][1:], large[1][1:]) is None


@given(arrays(float, (4, 5, 6), elements=levels), arrays(bool, (2, 5, 6)), st.sampled_from([(0.05, 0.2), (0.1, 1.0), (0.033, 0.034)]))
def test_aupimo_is_the_integral_over_all_thresholds(maps: np.ndarray, marked: np.ndarray, bounds: tuple[float, float]) -> None:
    """Against a sum over fine steps of the logarithm, each with the best threshold that exceeds its rate nowhere."""
    masks = np.concatenate([np.zeros((2, 5, 6), bool), marked])
    if not marked.any():
        assert aupimo(maps, masks, *bounds) is None
        return
    # only the good images (whose mask is empty) set the rate
    good = maps[~masks.any((1, 2))]
    rates = np.exp(np.linspace(*np.log(bounds), 501)[:-1] + np.diff(np.log(bounds)) / 1000)
    thresholds = np.r_[-1.0, np.unique(maps)]
    fpr = np.array([(good > t).mean() for t in thresholds])
    found = []
    for values, mask in zip(maps, masks, strict=True):
        if mask.any():
            tpr = np.array([(values[mask] > t).mean() for t in thresholds])
            found.append(np.where(fpr <= rates[:, None], tpr, 0).max(1).mean())
    assert aupimo(maps, masks, *bounds) == pytest.approx(found, abs=3e-3)


def test_aupimo_does_not_mind_scale_or_order_of_images_or_pixels(rng: np.random.Generator) -> None:
    masks = np.zeros((6, 20, 20), bool)
    masks[3:, 5:9, 5:11] = True
    maps = rng.normal(size=masks.shape) + 2.0 * masks
    wanted = aupimo(maps, masks, 0.001, 0.05)
    assert wanted.min() > 0.05 and wanted.max() < 0.95
    for change in (np.exp, lambda v: 1e-3 * v - 7, lambda v: v**3):
        assert aupimo(change(maps), masks, 0.001, 0.05) == pytest.approx(wanted, abs=1e-12)
    order, pixels = np.array([4, 1, 5, 0, 2, 3]), rng.permutation(400)
    moved = [np.reshape(v.reshape(6, 400)[:, pixels], v.shape) for v in (maps, masks)]
    assert aupimo(*moved, 0.001, 0.05) == pytest.approx(wanted, abs=1e-12)
    assert aupimo(maps[order], masks[order], 0.001, 0.05) == pytest.approx(wanted[[1, 2, 0]], abs=1e-12)


def test_no_region_tells_nothing() -> None:
    assert aupro(np.zeros((2, 4, 4)), np.zeros((2, 4, 4), bool)) is None
    assert aupro(np.zeros((2, 4, 4)), np.ones((2, 4, 4), bool)) is None


def test_named_right_by_hand() -> None:
    assert named_right(["rim", "notch", None, "dome"], [["rim"], ["rim", "notch"], ["rim"], []]) == pytest.approx(2 / 3)
    assert named_right(["rim"], [[]]) is None and named_right([], []) is None


def hits(limit: float, slope: float, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sizes and whether each was found, by a curve that reaches 95 % at ``limit``."""
    rng = np.random.default_rng(seed)
    sizes = np.exp(rng.uniform(np.log(0.1), np.log(10), count))
    likely = 1 / (1 + np.exp(-np.log(19) - slope * np.log(sizes / limit)))
    return sizes, rng.random(count) < likely


@pytest.mark.parametrize("limit", [0.5, 1.0, 3.0])
def test_a_detection_limit_is_found_again(limit: float) -> None:
    assert detection_limit(*hits(limit, 4.0, 4000, 1)) == pytest.approx(limit, rel=0.12)


def test_the_detection_curve_is_sklearns() -> None:
    from sklearn.linear_model import LogisticRegression

    sizes, found = hits(1.0, 3.0, 300, 2)
    model = LogisticRegression(C=100.0, tol=1e-10).fit(np.log(sizes)[:, None], found)
    assert detection_curve(sizes, found) == pytest.approx([model.intercept_[0], model.coef_[0, 0]], rel=2e-3)


@given(st.floats(0.01, 100), st.integers(0, 20))
def test_a_detection_limit_has_the_sizes_unit(scale: float, seed: int) -> None:
    sizes, found = hits(1.0, 3.0, 60, seed)
    limit, other = detection_limit(sizes, found), detection_limit((scale * sizes)[::-1], found[::-1])
    assert (limit is None and other is None) or other == pytest.approx(scale * limit, rel=1e-6)


def test_detection_limits_at_the_ends() -> None:
    """All found: the smallest that was tried. None found, or smaller ones found oftener: none. A clean step: between its sides."""
    sizes = np.repeat([0.5, 1.0, 2.0, 4.0], 10)
    assert detection_limit(sizes, sizes > 0) == 0.5
    assert detection_limit(sizes, sizes < 0) is None and detection_limit(sizes, sizes < 1.5) is None
    assert 1.0 < detection_limit(sizes, sizes > 1.5) <= 2.0
    assert detection_limit(np.ones(10), np.ones(10, bool)) is None


def test_a_threshold_is_exceeded_by_no_more(rng: np.random.Generator) -> None:
    good = rng.normal(size=250)
    assert (good > threshold_at(good, 0.01)).sum() == 2
