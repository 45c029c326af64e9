"""Laws of the image losses: what they are zero for, what they do not mind, and their gradients."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from train import filters
from train.losses import blurred, doubt_loss, feature_distance, laplacian_pyramid, perceptual_distance, pyramid_l1

torch.set_num_threads(1)  # on tensors this small a second thread only waits, and waits long on a busy machine


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("size", [32, 48, 128])
@pytest.mark.parametrize("levels", [1, 3])
def test_pyramid_adds_up_to_the_image(size: int, levels: int) -> None:
    image = noise(2, 1, size, size)
    *bands, total = laplacian_pyramid(image, levels)
    for band in reversed(bands):
        total = band + F.interpolate(total, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(total, image, rtol=0, atol=1e-12)  # float64: the law holds to rounding


def test_pyramid_halves_its_sizes() -> None:
    assert [band.shape[-1] for band in laplacian_pyramid(noise(1, 1, 48, 48), 3)] == [48, 24, 12, 6]


def test_flat_image_has_no_bands() -> None:
    *bands, rest = laplacian_pyramid(torch.full((1, 1, 32, 32), 0.7, dtype=torch.float64))
    assert max(float(b.abs().max()) for b in bands) < 1e-12
    torch.testing.assert_close(rest, torch.full_like(rest, 0.7))


def test_pyramid_l1_is_zero_for_the_same_image_alone() -> None:
    image = noise(1, 1, 32, 32)
    assert float(pyramid_l1(image, image)) == 0
    for pixel in ((0, 0), (13, 20), (31, 31)):
        changed = image.clone()
        changed[0, 0, *pixel] += 1e-3
        assert float(pyramid_l1(image, changed)) > 1e-3 / 32**2 / 2  # at least half the pixel's share stays in the finest band


def test_pyramid_l1_does_not_mind_the_order() -> None:
    a, b = noise(3, 1, 32, 32), noise(3, 1, 32, 32, seed=1)
    assert torch.equal(pyramid_l1(a, b), pyramid_l1(b, a))


def test_pyramid_l1_grows_with_the_difference() -> None:
    a, d = noise(2, 1, 32, 32), noise(2, 1, 32, 32, seed=1)
    torch.testing.assert_close(pyramid_l1(a, a + 3 * d), 3 * pyramid_l1(a, a + d))


def test_pyramid_l1_of_a_shift_in_grey_is_the_shift() -> None:
    image = noise(1, 1, 32, 32)
    torch.testing.assert_close(pyramid_l1(image, image + 0.25), torch.tensor([0.25], dtype=torch.float64))


@pytest.mark.parametrize("loss", [pyramid_l1, lambda a, b: doubt_loss(a, b, b * 0.1), lambda a, b: feature_distance([a, b], [b, a])])
def test_an_image_does_not_see_its_batch(loss) -> None:
    a, b = noise(4, 1, 32, 32), noise(4, 1, 32, 32, seed=1)
    alone = torch.cat([loss(a[i : i + 1], b[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(loss(a, b), alone, rtol=1e-12, atol=0)  # float64: sums in another order at most


def test_gradients_of_pyramid_l1() -> None:
    a, b = noise(2, 1, 8, 8).requires_grad_(), noise(2, 1, 8, 8, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(pyramid_l1, (a, b))  # no band is near its kink: random differences are far from 0


def test_gradients_of_feature_distance() -> None:
    a, b = noise(2, 3, 4, 4).requires_grad_(), noise(2, 3, 4, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: feature_distance([x, x[:, :, ::2]], [y, y[:, :, ::2]]), (a, b))


def test_gradients_of_doubt_loss() -> None:
    image, made, log_size = noise(2, 1, 6, 6), noise(2, 1, 6, 6, seed=1).requires_grad_(), noise(2, 1, 6, 6, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(doubt_loss, (image, made, log_size))


def test_doubt_is_least_at_the_size_of_the_residual() -> None:
    image, made = noise(1, 1, 16, 16), noise(1, 1, 16, 16, seed=1)
    log_size = blurred(image - made).abs().log().requires_grad_()
    least = doubt_loss(image, made, log_size)
    (gradient,) = torch.autograd.grad(least.sum(), log_size)
    assert float(gradient.abs().max()) < 1e-12
    lower, higher = (doubt_loss(image, made, log_size.detach() + d) for d in (-0.1, 0.1))
    assert lower.item() > least.item() < higher.item()


def test_features_by_hand() -> None:
    # scale 1: mean |difference| 1 over mean size 2; scale 2: 3 over 1; the thousandth keeps an empty feature finite
    a = [torch.full((1, 2, 2, 2), 3.0), torch.full((1, 1, 1, 1), -2.0)]
    b = [torch.full((1, 2, 2, 2), 2.0), torch.full((1, 1, 1, 1), 1.0)]
    torch.testing.assert_close(feature_distance(a, b), torch.tensor([(1 / 2.001 + 3 / 1.001) / 2]))


def test_features_of_the_same_image_are_no_distance_apart() -> None:
    features = [noise(2, 4, 8, 8), noise(2, 8, 4, 4)]
    assert torch.equal(feature_distance(features, features), torch.zeros(2, dtype=torch.float64))


def test_blur_keeps_a_flat_image() -> None:
    flat = torch.full((1, 1, 12, 9), 0.3, dtype=torch.float64)
    torch.testing.assert_close(blurred(flat, 2.0), flat, rtol=0, atol=1e-15)


def test_blur_keeps_the_mean_of_what_lies_off_the_border() -> None:
    image = F.pad(noise(2, 1, 16, 16), (4, 4, 4, 4))  # a mirror at the border repeats all but the border's own row: 3 px and one
    torch.testing.assert_close(blurred(image).mean((1, 2, 3)), image.mean((1, 2, 3)), rtol=0, atol=1e-15)


def test_blur_has_the_width_it_says() -> None:
    point = torch.zeros(1, 1, 33, 33, dtype=torch.float64)
    point[0, 0, 16, 16] = 1
    spread, away = blurred(point, 2.0)[0, 0], torch.arange(33.0, dtype=torch.float64) - 16
    assert float((spread.sum(0) * away**2).sum()) == pytest.approx(4, rel=0.03)  # the tails beyond three sigma are cut: 2.7 %
    torch.testing.assert_close(spread, spread.T)


needs_filters = pytest.mark.skipif(not filters.available(), reason="the extra features is not installed")


@needs_filters
def test_pretrained_filters_find_nothing_between_equal_images_and_more_the_more_they_differ() -> None:
    image = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert perceptual_distance(image, image).tolist() == [0.0, 0.0]
    far = [perceptual_distance(image + s * torch.roll(image, 7, -1), image) for s in (0.05, 0.2, 0.8)]
    assert (far[0] < far[1]).all() and (far[1] < far[2]).all()
    assert torch.allclose(
        perceptual_distance(image.flip(0) * 0.9, image.flip(0)), perceptual_distance(image * 0.9, image).flip(0), rtol=1e-4
    )


@needs_filters
def test_their_gradient_is_that_of_finite_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    network = copy.deepcopy(filters._network()).double()
    monkeypatch.setattr(filters, "_network", lambda device="cpu": network)
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.rand(1, 1, 32, 32, generator=generator, dtype=torch.float64) * 2 - 1 for _ in range(2))
    a.requires_grad_(True)
    (slope,) = torch.autograd.grad(perceptual_distance(a, b).sum(), a)
    way = torch.randn(a.shape, generator=generator, dtype=torch.float64)
    step = 1e-6
    with torch.no_grad():
        found = (perceptual_distance(a + step * way, b) - perceptual_distance(a - step * way, b)).sum() / (2 * step)
    assert float((slope * way).sum()) == pytest.approx(float(found), rel=1e-3)


@needs_filters
def test_training_by_them_logs_what_they_say(dataset_folder: Path, tmp_path: Path, command) -> None:
    line = f"train fit {dataset_folder} -o {tmp_path / 'run'} --epochs 1 --width 8 --latent 8 --batch 16 --device cpu --precision 32-true"
    code, _, err = command(f"{line} --perceptual 0.1")
    assert code == 0, err
    rows = [json.loads(row) for row in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert all(row["perceptual"] > 0 for row in rows)


def test_filters_that_are_not_installed_are_told_before_anything_is_trained(
    dataset_folder: Path, tmp_path: Path, command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "available", lambda: False)
    code, _, err = command(f"train fit {dataset_folder} -o {tmp_path / 'run'} --perceptual 0.1 --device cpu")
    assert code == 2 and "formspect[features]" in err and not (tmp_path / "run" / "model.safetensors").exists()
