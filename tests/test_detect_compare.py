"""Anomaly maps, scores and regions, on residuals made by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from detect.compare import LEVELS, Noise, Residuals, regions, scores


def draw(count: int, seed: int = 0, gain: float = 1.0, size: int = 24) -> Residuals:
    """Residuals ``gain`` times what was expected, on average; the expected ones span the noise model's range and beyond."""
    rng = np.random.default_rng(seed)
    expected = np.exp(rng.uniform(np.log(1e-3), np.log(0.8), (count, size, size)))
    return Residuals(gain * expected * rng.exponential(size=expected.shape), expected)


def part(residuals: Residuals, rows: list[int]) -> Residuals:
    return Residuals(residuals.size[rows], residuals.expected[rows])


def same(a: Noise, b: Noise) -> bool:
    """But for sums of floats in another order."""
    return np.allclose(a.squares, b.squares, rtol=1e-12, atol=0) and np.array_equal(a.counts, b.counts)


def test_noise_is_additive() -> None:
    residuals = draw(6)
    one, two = Noise.of(part(residuals, [0, 1, 2])).total(), Noise.of(part(residuals, [3, 4, 5])).total()
    assert same(Noise.of(residuals).total(), Noise(one.squares + two.squares, one.counts + two.counts))


@pytest.mark.parametrize("row", [0, 3])
def test_noise_without_an_image_is_the_noise_of_the_others(row: int) -> None:
    residuals = draw(4)
    parts = Noise.of(residuals)
    assert same(parts.total().without(parts, row), Noise.of(part(residuals, [i for i in range(4) if i != row])).total())


def test_noise_is_joined_in_order() -> None:
    residuals = draw(5)
    whole, joined = Noise.of(residuals), Noise.joined([Noise.of(residuals.row(i)) for i in range(5)])
    assert np.array_equal(whole.squares, joined.squares) and np.array_equal(whole.place, joined.place) and joined.images == 5


def test_noise_counts_every_pixel_once() -> None:
    parts = Noise.of(draw(3))
    assert parts.counts.shape == (3, len(LEVELS)) and parts.counts.sum(1).tolist() == [24 * 24] * 3


def test_noise_survives_json() -> None:
    noise = Noise.of(draw(3)).total()
    again = Noise.from_json(json.loads(json.dumps(noise.json())))
    assert np.array_equal(noise.squares, again.squares) and np.array_equal(noise.counts, again.counts)


@pytest.mark.parametrize("gain", [1.0, 7.0, 0.2])
def test_a_residual_in_proportion_to_what_is_expected_leaves_a_flat_map(gain: float) -> None:
    expected = draw(3).expected
    residuals = Residuals(gain * expected, expected)
    maps = Noise.of(residuals).total().maps(residuals)
    assert maps.dtype == np.float32
    np.testing.assert_allclose(maps, 1, rtol=1e-5)  # float32; a trillionth is added under the root


def test_maps_are_in_units_of_what_good_parts_leave() -> None:
    good = draw(40)
    assert np.sqrt((Noise.of(good).total().maps(good) ** 2).mean()) == pytest.approx(1, rel=0.02)  # deviations are joined between bins


def test_maps_do_not_mind_a_camera_with_more_noise() -> None:
    quiet, loud = draw(20), draw(20, gain=3.0)
    np.testing.assert_allclose(Noise.of(quiet).total().maps(quiet), Noise.of(loud).total().maps(loud), rtol=1e-5)


def test_maps_do_not_depend_on_the_batch() -> None:
    residuals, noise = draw(5), Noise.of(draw(9, seed=1)).total()
    alone = np.concatenate([noise.maps(part(residuals, [i])) for i in range(5)])
    assert np.array_equal(noise.maps(residuals), alone)


def test_a_bin_nobody_filled_leans_on_the_others() -> None:
    noise = Noise.of(Residuals(np.full((1, 24, 24), 0.2), np.full((1, 24, 24), 0.1))).total()  # one bin alone, twice what was expected
    np.testing.assert_allclose(noise.deviation(), 2, rtol=1e-6)


def test_residuals_of_tensors() -> None:
    image, form = torch.zeros(2, 1, 16, 16), torch.zeros(2, 1, 16, 16)
    form[1] = 0.5
    found = Residuals.of(image, form, torch.full((2, 1, 16, 16), 0.25).log())
    assert found.size.shape == (2, 16, 16)
    np.testing.assert_allclose(found.ratio, np.array([0, 2])[:, None, None] * np.ones((2, 16, 16)), rtol=1e-6)


@pytest.mark.parametrize(("size", "count"), [(64, 10), (128, 40), (32, 2), (16, 1)])
def test_score_of_one_bright_blob_is_its_height(size: int, count: int) -> None:
    maps = np.zeros((2, size, size), np.float32)
    maps[1].flat[np.arange(count) * 5] = 7.0  # wherever they lie
    assert scores(maps).tolist() == [0.0, 7.0]
    maps[1].flat[0] = 0.0  # one pixel fewer than counts
    assert scores(maps)[1] == pytest.approx(7 * (count - 1) / count)


def test_score_does_not_depend_on_the_batch_or_on_where_it_is() -> None:
    maps = draw(5).size.astype(np.float32)
    assert scores(maps).tolist() == [scores(m[None])[0] for m in maps] == scores(maps[:, ::-1, ::-1]).tolist()


def test_regions_come_strongest_first_without_specks() -> None:
    anomaly = np.zeros((64, 64), np.float32)
    anomaly[5:10, 5:10] = 3.0
    anomaly[30:33, 30:33] = 6.0
    anomaly[31, 31] = 9.0
    anomaly[50, 50] = 20.0  # a speck
    anomaly[20:40, 50:60] = 0.9  # below the level
    found = regions(anomaly, 1.0)
    assert [int(r.sum()) for r in found] == [9, 25]
    assert found[0][31, 31] and found[1][5, 5] and found[0].dtype == bool


def test_regions_join_at_corners() -> None:
    anomaly = np.zeros((64, 64), np.float32)
    anomaly[5:8, 5:8] = anomaly[8:11, 8:11] = 2.0
    assert [int(r.sum()) for r in regions(anomaly, 1.0)] == [18]


def test_a_speck_is_kept_where_nothing_else_is() -> None:
    anomaly = np.zeros((64, 64), np.float32)
    anomaly[50, 50], anomaly[10, 10] = 2.0, 3.0
    (found,) = regions(anomaly, 1.0)
    assert found.sum() == 1 and found[10, 10]


def test_nothing_above_the_level_is_no_region() -> None:
    assert regions(np.ones((64, 64), np.float32), 1.0) == []


@pytest.mark.parametrize(("size", "smallest"), [(64, 4), (128, 16), (32, 1)])
def test_what_is_a_speck_grows_with_the_picture(size: int, smallest: int) -> None:
    anomaly = np.zeros((size, size), np.float32)
    anomaly[-8:, -8:] = 5.0
    anomaly[0, :smallest] = 9.0
    assert len(regions(anomaly, 1.0)) == 2
    anomaly[0, 0] = 0.0
    assert len(regions(anomaly, 1.0)) == 1


def placed(count: int, seed: int, size: int = 24) -> Residuals:
    """What a part that always lies alike leaves: the same is expected everywhere, and a stripe of it is always worse."""
    rng = np.random.default_rng(seed)
    noise = rng.exponential(size=(count, size, size))
    noise[:, 8:12] *= 6
    expected = np.full(noise.shape, 0.05)
    return Residuals(expected * noise, expected)


def settled(residuals: Residuals) -> Noise:
    parts = Noise.of(residuals)
    return parts.total().settled([residuals.row(i) for i in range(len(residuals.size))], parts)


def test_places_are_told_apart_where_good_parts_lie_alike() -> None:
    noise, fresh = settled(placed(40, 0)), placed(200, 1)
    assert noise.place is not None and noise.images == 40
    maps = (noise.maps(fresh) ** 2).mean(0)
    assert maps[9:11].mean() == pytest.approx(1, rel=0.15) and 0.4 < maps[16:].mean() < 1  # there the floor tells
    plain = (Noise.of(placed(40, 0)).total().maps(fresh) ** 2).mean(0)
    assert plain[9:11].mean() > 4 * maps[9:11].mean()


def test_places_are_left_alone_where_they_tell_nothing() -> None:
    assert settled(draw(40)).place is None
    assert settled(placed(8, 0)).place is None  # too few to say


def test_placed_noise_without_an_image_is_that_of_the_others() -> None:
    residuals = placed(20, 2)
    parts, fresh = Noise.of(residuals), placed(3, 3)
    whole = settled(residuals)
    others = Noise.of(part(residuals, [i for i in range(20) if i != 5]))
    wanted = Noise(others.squares.sum(0), others.counts.sum(0), others.place.sum(0, dtype=float), 19)
    np.testing.assert_allclose(whole.without(parts, 5).maps(fresh), wanted.maps(fresh), rtol=1e-4)


def test_placed_noise_survives_json() -> None:
    noise, fresh = settled(placed(20, 2)), placed(3, 3)
    again = Noise.from_json(json.loads(json.dumps(noise.json())))
    np.testing.assert_allclose(again.maps(fresh), noise.maps(fresh), rtol=1e-4)


def test_a_defect_counts_alike_however_large_the_picture() -> None:
    small, large = np.zeros((1, 64, 64)), np.zeros((1, 256, 256))
    small[0, 10:13, 10:13] = large[0, 10:13, 10:13] = 5.0
    assert scores(small, 64) == scores(large, 64) > scores(large)
