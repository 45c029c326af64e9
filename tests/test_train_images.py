"""What the networks see: prepared, resized and disturbed pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from train.images import disturbed, grey, prepare, resized, restore


@pytest.fixture
def pictures(rng: np.random.Generator) -> np.ndarray:
    """(4, 32, 32, 3) uint8 in [60, 180], smooth as photographs are."""
    values = ndimage.gaussian_filter(rng.normal(size=(4, 32, 32, 3)), (0, 2, 2, 0))
    low, high = values.min((1, 2, 3), keepdims=True), values.max((1, 2, 3), keepdims=True)
    return (60 + 120 * (values - low) / (high - low)).astype(np.uint8)


def test_grey_of_a_grey_picture_is_its_value() -> None:
    levels = np.repeat(np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1), 3, axis=3)
    np.testing.assert_allclose(grey(levels)[0], levels[0, ..., 0] / 255, atol=1e-6)  # float32, luma weights that sum to 1


def test_green_weighs_most_and_blue_least() -> None:
    red, green, blue = grey(np.eye(3, dtype=np.uint8).reshape(3, 1, 1, 3) * 255).ravel()
    np.testing.assert_allclose([red, green, blue], [0.299, 0.587, 0.114], rtol=1e-6)


def test_standard_has_mean_0_and_deviation_near_a_half(pictures: np.ndarray) -> None:
    seen, raw = prepare(pictures, "standard"), prepare(pictures, "none")
    assert seen.shape == (4, 1, 32, 32) and seen.dtype == torch.float32
    assert float(seen.mean((1, 2, 3)).abs().max()) < 1e-6
    deviation = raw.std((1, 2, 3)) / 2  # "none" spans twice the grey values
    torch.testing.assert_close(seen.std((1, 2, 3)), deviation / (2 * deviation + 1e-2), rtol=1e-4, atol=0)


def test_standard_does_not_mind_more_light(pictures: np.ndarray) -> None:
    # whole grey levels added: nothing is rounded, so only float32 is left
    torch.testing.assert_close(prepare(pictures + np.uint8(40), "standard"), prepare(pictures, "standard"), rtol=0, atol=1e-5)


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.4])
def test_standard_does_not_mind_contrast(pictures: np.ndarray, factor: float) -> None:
    seen, scaled = prepare(pictures, "standard"), prepare(np.rint(pictures * factor).astype(np.uint8), "standard")
    deviation = prepare(pictures, "none").std((1, 2, 3)).min() / 2 * factor
    added = 1e-2 * abs(1 - factor) / (2 * deviation)  # share by which the added hundredth changes an image's scale
    rounding = 0.5 / 255 / (2 * deviation)  # half a grey level
    assert float((scaled - seen).abs().max()) < float(added * seen.abs().max() + 1.2 * rounding)  # 1.2: mean and deviation are rounded too


def test_standard_leaves_a_flat_picture_flat() -> None:
    assert float(prepare(np.full((1, 32, 32, 3), 77, np.uint8), "standard").abs().max()) < 1e-4  # not noise blown up


def test_brightness_takes_out_a_gain_and_keeps_contrast(rng: np.random.Generator) -> None:
    dark = rng.integers(0, 60, (2, 32, 32, 3), np.uint8)
    torch.testing.assert_close(prepare(4 * dark, "brightness"), prepare(dark, "brightness"), rtol=0, atol=1e-5)
    half = dark.copy()
    half[:, :, :16] //= 2  # what is half as bright stays so
    whole, darker = (prepare(x, "brightness") + 2.5 for x in (dark, half))  # black at 0
    shown = (darker[..., :16].mean() / darker[..., 16:].mean()) / (whole[..., :16].mean() / whole[..., 16:].mean())
    assert float(shown) == pytest.approx(0.49, abs=0.02)  # half, rounded down
    assert torch.isfinite(prepare(np.zeros((1, 32, 32, 3), np.uint8), "brightness")).all()


def test_brightness_has_black_and_white_where_it_says() -> None:
    seen = np.full((1, 32, 32, 3), 200, np.uint8)
    seen[:, :2] = 0
    np.testing.assert_allclose(prepare(seen, "brightness").unique().numpy(), [-2.5, 0.5], atol=1e-5)


def test_none_spans_minus_one_to_one() -> None:
    black_white = np.stack([np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 255, np.uint8)])
    torch.testing.assert_close(prepare(black_white, "none").amax((1, 2, 3)), torch.tensor([-1.0, 1.0]))


@pytest.mark.parametrize("normalize", ["standard", "brightness", "none"])
def test_prepared_alone_or_together(pictures: np.ndarray, normalize: str) -> None:
    alone = torch.cat([prepare(p[None], normalize) for p in pictures])
    torch.testing.assert_close(prepare(pictures, normalize), alone, rtol=0, atol=1e-6)


def test_resized_to_its_own_size_is_the_picture(pictures: np.ndarray) -> None:
    assert np.array_equal(resized(pictures, 32), pictures)


@pytest.mark.parametrize("size", [16, 8])
def test_resized_by_a_whole_factor_is_the_mean_of_each_area(rng: np.random.Generator, size: int) -> None:
    pictures = rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    step = 32 // size
    means = pictures.reshape(2, size, step, size, step, 3).mean((2, 4))
    assert np.abs(resized(pictures, size) - means).max() <= 1.0  # rounded after each axis: half a level, twice


@pytest.mark.parametrize("size", [16, 24, 48])
def test_resized_flat_picture_stays_flat(size: int) -> None:
    small = resized(np.full((1, 32, 32, 3), (10, 130, 250), np.uint8), size)
    assert small.shape == (1, size, size, 3) and np.array_equal(np.unique(small.reshape(-1, 3), axis=0), [[10, 130, 250]])


def test_share_0_changes_nothing() -> None:
    images = views(64, 32)
    assert torch.equal(disturbed(images, 0.0, torch.Generator().manual_seed(0)), images)


def test_share_1_changes_something_in_nearly_every_image() -> None:
    # an ellipse has its centre in the picture; only a grey shift drawn near nothing can leave an image as it was
    assert float(changed(disturbed(views(400, 32), 1.0, torch.Generator().manual_seed(0)), views(400, 32)).mean()) > 0.98


def test_share_is_the_share_of_images_and_the_others_are_as_they_were() -> None:
    images = views(1000, 16)
    after = disturbed(images, 0.3, torch.Generator().manual_seed(0))
    same = (after == images).flatten(1).all(1)
    assert abs(float((~same).float().mean()) - 0.3) < 4 * (0.3 * 0.7 / 1000) ** 0.5  # four deviations of a share of 1000


def test_changes_lie_in_one_ellipse() -> None:
    size, images = 256, views(60, 256)
    change = (disturbed(images, 1.0, torch.Generator().manual_seed(0)) - images).abs()[:, 0].numpy()
    whole = 0
    for one in change:
        inside = one > 0.5 * one.max()  # flat pictures: the change is the blend, which passes 1/2 on the ellipse
        border = np.r_[inside[0], inside[-1], inside[:, 0], inside[:, -1]]
        if one.max() < 0.05 or border.any():
            continue
        axes = 2 * np.sqrt(np.linalg.eigvalsh(np.cov(np.nonzero(inside)))) / (size - 1)
        assert 0.03 * 0.95 < axes[0] <= axes[1] < 0.15 * 1.05  # half a pixel on half axes of 8 px and more
        assert inside.sum() / (size - 1) ** 2 == pytest.approx(np.pi * axes[0] * axes[1], rel=0.01)  # a rectangle would be 5 % off
        far = np.ones_like(inside)
        y, x = (int(v.mean()) for v in np.nonzero(inside))
        reach = int(2 * axes[1] * size) + 2
        far[max(y - reach, 0) : y + reach, max(x - reach, 0) : x + reach] = False
        assert one[far].max(initial=0.0) < 1e-6  # twice its half axes away the soft edge has ended
        whole += 1
    assert whole >= 20


def test_the_same_generator_draws_the_same() -> None:
    images = views(16, 32)
    one, two, other = (disturbed(images, 0.5, torch.Generator().manual_seed(s)) for s in (3, 3, 4))
    assert torch.equal(one, two) and not torch.equal(one, other)


def test_disturbed_is_a_copy() -> None:
    images = views(8, 32)
    disturbed(images, 1.0, torch.Generator().manual_seed(0))
    assert torch.equal(images, views(8, 32))


def views(count: int, size: int) -> Tensor:
    """(count, 1, size, size): flat pictures, each of another grey, no two neighbours alike."""
    return torch.linspace(-1, 1, count).view(-1, 1, 1, 1).roll(1, 0)[torch.arange(count) * 7 % count].expand(-1, 1, size, size).clone()


def changed(after: Tensor, before: Tensor) -> Tensor:
    return ((after - before).abs().amax((1, 2, 3)) > 1e-2).float()


@pytest.mark.parametrize("normalize", ["standard", "brightness", "none"])
def test_restore_undoes_prepare(normalize: str, rng: np.random.Generator) -> None:
    images = rng.integers(0, 256, (3, 16, 16, 3), np.uint8)
    np.testing.assert_allclose(restore(prepare(images, normalize), images, normalize), grey(images), atol=1e-6)
