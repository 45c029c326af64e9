"""The distance against its formula where that is simple, against scipy's matrix root, and by its invariances."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from sklearn.covariance import ledoit_wolf_shrinkage
from torch import Tensor

from train.frechet import frechet, frechet_diagonal, frechet_standard, ledoit_wolf

torch.set_num_threads(1)  # on tensors this small a second thread only waits, and waits long on a busy machine


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def turn(dims: int, seed: int = 9) -> Tensor:
    return torch.linalg.qr(noise(dims, dims, seed=seed)).Q


def exactly(mean: Tensor, root: Tensor, count: int = 40, seed: int = 0) -> Tensor:
    """(count, Z) codes whose mean is ``mean`` and whose covariance root'root, both to rounding."""
    off = noise(count, len(mean), seed=seed)
    white = torch.linalg.qr(off - off.mean(0)).Q * (count - 1) ** 0.5
    return mean + white @ root


def skewed(count: int, dims: int, seed: int) -> Tensor:
    return noise(count, dims, seed=seed) @ noise(dims, dims, seed=seed + 50) + noise(dims, seed=seed + 90)


def test_covariances_that_commute_have_a_simple_formula() -> None:
    first, second, axes = torch.tensor([3.0, 1.0, 0.5, 0.1]).double(), torch.tensor([1.0, 2.0, 0.5, 4.0]).double(), turn(4)
    mean = noise(4)
    a = exactly(mean, first.diag() @ axes)
    b = exactly(mean + 2 * axes[0], second.diag() @ axes, 30, seed=1)
    wanted = 4 + (first - second).square().sum().item()
    assert frechet(a, b) == pytest.approx(wanted, rel=1e-12)
    assert frechet(a, b, 0.3) != pytest.approx(wanted, rel=1e-3)


def test_diagonal_is_the_same_without_correlations() -> None:
    a, b = exactly(noise(3), torch.tensor([3.0, 1.0, 0.5]).double().diag()), exactly(noise(3, seed=1), noise(3, seed=2).abs().diag(), 30, 1)
    assert frechet_diagonal(a, b) == pytest.approx(frechet(a, b), rel=1e-12)
    root = torch.tensor([[1.0, 0.8], [0.0, 0.6]]).double()
    up, down = exactly(torch.zeros(2).double(), root), exactly(torch.zeros(2).double(), root @ torch.tensor([1.0, -1.0]).double().diag())
    assert frechet_diagonal(up, down) < 1e-12 < 0.1 < frechet(up, down)  # it is blind to those
    for seed in range(5):  # and so never further: what moves a set moves each dimension of it
        assert frechet_diagonal(skewed(20, 5, seed), skewed(20, 5, seed + 10)) <= frechet(skewed(20, 5, seed), skewed(20, 5, seed + 10))


def test_against_the_matrix_root() -> None:
    for seed in range(4):
        a, b = skewed(60, 6, seed), skewed(80, 6, seed + 10)
        first, second = np.cov(a.numpy().T), np.cov(b.numpy().T)
        wanted = float((a.mean(0) - b.mean(0)).square().sum()) + np.trace(first + second - 2 * np.real(sqrtm(first @ second)))
        assert frechet(a, b) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("shrinkage", [0.0, 0.2, 1.0, None])
@pytest.mark.parametrize("count", [3, 10, 100])  # fewer codes than dimensions too
def test_a_set_is_no_distance_from_itself(shrinkage: float | None, count: int) -> None:
    a = skewed(count, 12, 0)
    assert frechet(a, a, shrinkage) < 1e-12 * float(a.square().sum())
    assert frechet(a, a.flip(0), shrinkage) < 1e-12 * float(a.square().sum())
    assert frechet_diagonal(a, a) == 0


@pytest.mark.parametrize("shrinkage", [0.0, 0.2, None])
@pytest.mark.parametrize("count", [4, 60])
def test_a_turn_a_shift_and_the_order_of_sets_change_nothing(shrinkage: float | None, count: int) -> None:
    a, b, axes = skewed(count, 7, 0), skewed(count + 3, 7, 1), turn(7)
    wanted = frechet(a, b, shrinkage)
    assert wanted > 1
    assert frechet(b, a, shrinkage) == pytest.approx(wanted, rel=1e-9)
    assert frechet(a @ axes + 3, b @ axes + 3, shrinkage) == pytest.approx(wanted, rel=1e-9)
    assert frechet(5 * a, 5 * b, shrinkage) == pytest.approx(25 * wanted, rel=1e-9)
    assert frechet((a @ axes).float(), b.float() @ axes.float(), shrinkage) == pytest.approx(wanted, rel=1e-4)


@settings(deadline=None)
@given(st.integers(2, 12), st.integers(2, 12), st.integers(2, 12), st.integers(1, 8), st.integers(0, 999))
def test_its_root_is_a_distance(i: int, j: int, k: int, dims: int, seed: int) -> None:
    a, b, c = (skewed(n, dims, seed + s) for n, s in ((i, 0), (j, 1), (k, 2)))
    ab, bc, ac = (frechet(x, y) ** 0.5 for x, y in ((a, b), (b, c), (a, c)))
    assert ac <= ab + bc + 1e-6
    assert ab >= float((a.mean(0) - b.mean(0)).norm()) - 1e-6


def test_to_the_standard_law() -> None:
    scales = torch.tensor([1.0, 2.0, 0.25]).double()
    assert frechet_standard(exactly(torch.zeros(3).double(), turn(3))) == pytest.approx(0, abs=1e-12)
    codes = exactly(torch.tensor([1.0, -2.0, 0.0]).double(), scales.diag() @ turn(3))
    assert frechet_standard(codes) == pytest.approx(5 + (scales - 1).square().sum().item(), rel=1e-12)
    standard = exactly(torch.zeros(3).double(), turn(3), 50, seed=3)
    assert frechet_standard(codes) == pytest.approx(frechet(codes, standard), rel=1e-12)  # two routes
    assert frechet_standard(codes, 0.4) == pytest.approx(frechet(codes, standard, 0.4), rel=1e-12)  # shrinking the identity leaves it


@pytest.mark.parametrize(("count", "dims"), [(5, 20), (20, 5), (200, 20), (2, 3)])
def test_shrinkage_is_sklearns(count: int, dims: int) -> None:
    codes = skewed(count, dims, 0)
    assert ledoit_wolf(codes) == pytest.approx(ledoit_wolf_shrinkage(codes.numpy()), rel=1e-9)


def test_shrunk_sets_have_the_shrunk_covariance() -> None:
    a, b, share = skewed(9, 4, 0), skewed(11, 4, 1), 0.3
    covariances = [np.cov(x.numpy().T) for x in (a, b)]
    first, second = ((1 - share) * c + share * np.trace(c) / 4 * np.eye(4) for c in covariances)
    wanted = float((a.mean(0) - b.mean(0)).square().sum()) + np.trace(first + second - 2 * np.real(sqrtm(first @ second)))
    assert frechet(a, b, share) == pytest.approx(wanted, rel=1e-9)


def test_few_codes_of_one_law_are_nearer_when_shrunk() -> None:
    pairs = [(noise(20, 32, seed=2 * k), noise(20, 32, seed=2 * k + 1)) for k in range(10)]
    assert all(frechet(a, b, None) < 0.2 * frechet(a, b) for a, b in pairs)  # the truth is 0


def test_what_is_no_number_stays_so_and_what_is_no_set_is_told() -> None:
    with pytest.raises(ValueError, match="n at least 2"):
        frechet(noise(1, 3), noise(4, 3))
    with pytest.raises(ValueError, match="of 3 and of 4"):
        frechet(noise(5, 3), noise(5, 4))
    with pytest.raises(ValueError, match="0 to 1"):
        frechet(noise(5, 3), noise(5, 3), 1.5)
    assert np.isnan(frechet_diagonal(noise(5, 3) * torch.nan, noise(5, 3)))


def test_equal_codes_are_a_point() -> None:
    a, b = torch.full((5, 3), 2.0), torch.zeros(4, 3)
    for shrinkage in (0.0, 0.5, None):
        assert frechet(a, b, shrinkage) == pytest.approx(12)
    assert frechet_standard(b) == pytest.approx(3) and ledoit_wolf(b) == 1
