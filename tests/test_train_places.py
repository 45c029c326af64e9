"""A Gaussian at each place: numpy's, however its pictures come; what is usual where it lies is strange elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from train.places import RIDGE, SMOOTH, Places


def features(count: int, seed: int, channels: int = 5, side: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(channels, channels, generator=torch.Generator().manual_seed(9))
    return torch.einsum("nchw,cd->ndhw", torch.randn(count, channels, side, side, generator=generator), mixing) + 30.0


def test_distances_are_mahalanobis_with_a_ridge() -> None:
    good, seen = features(60, 0), features(3, 1)
    scores, maps = Places.of([good]).look(seen)
    covariance = np.stack([np.cov(good[:, :, i, j].numpy().T) for i in range(4) for j in range(4)])
    ridge = RIDGE * np.trace(covariance, axis1=1, axis2=2).mean() / 5 * np.eye(5)
    wanted = np.empty((3, 4, 4))
    for k, (i, j) in enumerate(np.ndindex(4, 4)):
        off = (seen[:, :, i, j] - good[:, :, i, j].mean(0)).numpy()
        wanted[:, i, j] = np.sqrt(np.einsum("ni,ij,nj->n", off, np.linalg.inv(covariance[k] + ridge), off))
    wanted = ndimage.gaussian_filter(wanted, (0, SMOOTH, SMOOTH))
    np.testing.assert_allclose(maps, wanted, rtol=1e-3)
    np.testing.assert_allclose(scores, wanted.max((1, 2)), rtol=1e-3)


@pytest.mark.parametrize("alike", [False, True])
def test_parts_are_the_whole(alike: bool) -> None:
    good, seen = features(50, 0), features(4, 1)
    whole = Places.of([good], alike=alike).look(seen)[1]
    np.testing.assert_allclose(Places.of(good.split(7), alike=alike).look(seen)[1], whole, rtol=1e-4)
    np.testing.assert_allclose(Places.of([good], alike=alike).look(seen[[2]])[1], whole[[2]], rtol=1e-5)


def test_alike_hangs_on_no_channels_unit() -> None:
    good, seen, unit = features(50, 0), features(4, 1), torch.tensor([1e-2, 1.0, 10.0, 1e3, 3.0]).view(5, 1, 1)
    own = Places.of([good], alike=True).look(seen)[0]
    np.testing.assert_allclose(Places.of([good * unit], alike=True).look(seen * unit)[0], own, rtol=1e-3)
    assert not np.allclose(Places.of([good * unit]).look(seen * unit)[0], Places.of([good]).look(seen)[0], rtol=0.05)


def test_what_is_usual_here_is_strange_there() -> None:
    good = features(80, 0)
    good[:, :, 0, 0] += 40.0
    places, usual = Places.of([good], alike=True), features(1, 1)
    usual[:, :, 0, 0] += 40.0
    moved = usual.clone()
    moved[:, :, 2, 2] += 40.0
    scores, maps = places.look(torch.cat([moved, usual]))
    assert scores[0] > 3 * scores[1] and np.unravel_index(maps[0].argmax(), (4, 4)) == (2, 2)


@pytest.mark.parametrize("count", [2, 3])
def test_few_pictures_have_one(count: int) -> None:
    """Fewer than channels, and channels that never change: the ridge holds."""
    good = features(count, 0)
    good[:, 1] = 7.0
    for alike in (False, True):
        assert np.isfinite(Places.of([good], alike=alike).look(features(5, 1))[0]).all()
