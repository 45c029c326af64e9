"""SSIM: against its formula by another library, against finite differences, and its limits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from train.ssim import K1, K2, ssim

torch.set_num_threads(1)


def pair(rng: np.random.Generator, *shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two pictures in [-1, 1] that have something in common, float64."""
    a, b = rng.uniform(-1, 1, (2, *shape))
    return torch.from_numpy(a), torch.from_numpy(0.6 * a + 0.4 * b)


def by_scipy(a: np.ndarray, b: np.ndarray, window: int, sigma: float, span: float) -> np.ndarray:
    """The paper's formula on (H, W), each window's weights those that lie in the picture."""

    def mean(x: np.ndarray) -> np.ndarray:
        def blur(v: np.ndarray) -> np.ndarray:
            return ndimage.gaussian_filter(v, sigma, mode="constant", radius=window // 2)

        return blur(x) / blur(np.ones_like(x))

    mu_a, mu_b = mean(a), mean(b)
    var_a, var_b, cov = mean(a * a) - mu_a**2, mean(b * b) - mu_b**2, mean(a * b) - mu_a * mu_b
    c1, c2 = (K1 * span) ** 2, (K2 * span) ** 2
    return (2 * mu_a * mu_b + c1) * (2 * cov + c2) / ((mu_a**2 + mu_b**2 + c1) * (var_a + var_b + c2))


@pytest.mark.parametrize(("window", "sigma", "span"), [(11, 1.5, 2.0), (7, 1.0, 1.0), (5, 3.0, 255.0)])
def test_is_the_papers_formula(rng: np.random.Generator, window: int, sigma: float, span: float) -> None:
    a, b = pair(rng, 2, 1, 17, 23)
    found = ssim(a, b, window, sigma, span)
    assert found.shape == (2, 1, 17, 23) and found.dtype == torch.float64
    for k in range(2):
        np.testing.assert_allclose(found[k, 0], by_scipy(a[k, 0].numpy(), b[k, 0].numpy(), window, sigma, span), atol=1e-10)


def test_one_window_by_hand(rng: np.random.Generator) -> None:
    """A 3 x 3 picture under a window of equal weights: plain moments of nine numbers."""
    a, b = pair(rng, 1, 1, 3, 3)
    c1, c2 = (K1 * 2) ** 2, (K2 * 2) ** 2
    x, y = a.flatten(), b.flatten()
    covariance = ((x - x.mean()) * (y - y.mean())).mean()
    wanted = (2 * x.mean() * y.mean() + c1) * (2 * covariance + c2)
    wanted /= (x.mean() ** 2 + y.mean() ** 2 + c1) * (x.var(correction=0) + y.var(correction=0) + c2)
    assert ssim(a, b, 3, 1e4)[0, 0, 1, 1].item() == pytest.approx(wanted.item(), abs=1e-7)


def test_equal_pictures_and_no_others_are_at_one(rng: np.random.Generator) -> None:
    a, b = pair(rng, 3, 1, 16, 16)
    torch.testing.assert_close(ssim(a, a), torch.ones(3, 1, 16, 16, dtype=a.dtype))
    assert (ssim(a, b) < 1 - 1e-4).all() and (ssim(a, b) >= -1).all()
    torch.testing.assert_close(ssim(a, b), ssim(b, a))
    flat = torch.full((1, 1, 12, 12), 0.3)
    torch.testing.assert_close(ssim(flat, flat), torch.ones(1, 1, 12, 12))  # no variance at all, in float32


def test_only_the_light_differs_between_flat_pictures() -> None:
    dark, bright = torch.full((1, 1, 9, 9), -0.5, dtype=torch.float64), torch.full((1, 1, 9, 9), 0.8, dtype=torch.float64)
    wanted = (2 * -0.5 * 0.8 + (2 * K1) ** 2) / (0.25 + 0.64 + (2 * K1) ** 2)
    torch.testing.assert_close(ssim(dark, bright), torch.full_like(dark, wanted))


def test_what_differs_is_seen_where_it_lies(rng: np.random.Generator) -> None:
    a, _ = pair(rng, 1, 1, 40, 40)
    b = a.clone()
    b[..., 20, 20] += 1
    changed = (ssim(a, b)[0, 0] - 1).abs() > 1e-9
    rows, columns = changed.nonzero().T
    assert rows.min() == columns.min() == 15 and rows.max() == columns.max() == 25


def test_batch_and_channels(rng: np.random.Generator) -> None:
    a, b = pair(rng, 4, 3, 16, 16)
    together = ssim(a, b)
    torch.testing.assert_close(together, torch.cat([ssim(a[k : k + 1], b[k : k + 1]) for k in range(4)]))
    torch.testing.assert_close(together, torch.cat([ssim(a[:, c : c + 1], b[:, c : c + 1]) for c in range(3)], 1).mean(1, keepdim=True))


def test_gradient_against_finite_differences(rng: np.random.Generator) -> None:
    a, b = (x.requires_grad_() for x in pair(rng, 1, 1, 7, 6))
    assert torch.autograd.gradcheck(lambda a, b: ssim(a, b, 5, 1.5).mean(), (a, b), eps=1e-6, atol=1e-7)
    equal = a.detach().clone().requires_grad_()
    (1 - ssim(equal, a.detach()).mean()).backward()
    torch.testing.assert_close(equal.grad, torch.zeros_like(equal), atol=1e-12, rtol=0)  # equal is the optimum


def test_autocast_and_half_precision_lose_nothing(rng: np.random.Generator) -> None:
    a, b = (x.bfloat16() for x in pair(rng, 2, 1, 16, 16))
    exact = ssim(a.double(), b.double())
    with torch.autocast("cpu", torch.bfloat16):
        found = ssim(a, b)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, atol=1e-5, rtol=0)


def test_an_even_window_is_refused() -> None:
    with pytest.raises(ValueError, match="10 px"):
        ssim(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8), window=10)
