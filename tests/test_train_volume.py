"""The learned volume: its rays are the camera's, and what lies in it is seen where and as it should be."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from train.volume import FEATURES, GRID, SAMPLES, STRONG, Volume

torch.set_num_threads(1)

SIDE = 32
TURN = torch.from_numpy(Rotation.from_rotvec([0.3, -0.8, 0.5]).as_matrix()).float()[None]
PLACE, SCALE = torch.tensor([[0.2, -0.1]]), torch.tensor([0.9])


@pytest.fixture
def volume() -> Volume:
    torch.manual_seed(0)
    return Volume(SIDE, 3)


def filled(volume: Volume, inside: object) -> Volume:
    """Thick where ``inside`` says so of (n, 3) points, in spans; empty elsewhere."""
    line = (torch.arange(GRID) + 0.5) * 2 / GRID - 1
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    with torch.no_grad():
        volume.density.copy_(torch.where(inside(torch.stack([x, y, z], -1).reshape(-1, 3)), 1.0, -1.0)[None])
    return volume


def centre(seen: torch.Tensor) -> tuple[float, float]:
    """Of an image (h, w) of rays: x right and y up, half widths."""
    n = len(seen)
    line = (torch.arange(n) + 0.5) * 2 / n - 1
    return float((seen.sum(0) * line).sum() / seen.sum()), float(-(seen.sum(1) * line).sum() / seen.sum())


def test_rays_are_the_cameras(volume: Volume) -> None:
    """A point that a ray was asked at is seen in that ray's pixel, with and without perspective."""
    for angle in (0.0, 0.3):
        with torch.no_grad():
            volume.angle.fill_(angle)
            volume.span.fill_(0.8)
        at, middle, along, depth, apart = volume.rays(TURN, PLACE, SCALE)
        points = middle[:, None] + depth[..., None] * along[:, None]
        assert 0 < len(at) < (SIDE // 2) ** 2 and points.shape == (len(at), SAMPLES, 3) and apart.shape == (len(at), 1)
        unit = 0.8 * 0.9
        camera = points @ TURN[0].T  # in spans, in the camera's frame
        away = 1 - angle * unit * camera[..., 2]  # from the camera, in distances of the middle
        line = (torch.arange(SIDE // 2) + 0.5) * 4 / SIDE - 1
        v, u = (values.flatten()[at, None].expand(-1, SAMPLES) for values in torch.meshgrid(-line, line, indexing="ij"))
        torch.testing.assert_close((unit * camera[..., 0] + 0.2) / away, u, atol=1e-5, rtol=0)
        torch.testing.assert_close((unit * camera[..., 1] - 0.1) / away, v, atol=1e-5, rtol=0)
        torch.testing.assert_close(camera[..., 2], depth, atol=1e-5, rtol=0)
        assert (depth.diff(dim=-1) < 0).all()  # nearest first


def test_a_ball_is_seen_where_it_lies_and_as_large(volume: Volume) -> None:
    at = torch.tensor([0.4, -0.2, 0.3])
    filled(volume, lambda p: (p - at).norm(dim=1) < 0.3).side = 128
    with torch.no_grad():
        stopped = volume.collected(TURN, PLACE, SCALE)[0, 0]
    wanted = (at @ TURN[0].T)[:2] * 0.9 + PLACE[0]
    np.testing.assert_allclose(centre(stopped), wanted, atol=0.02)
    area = float(stopped.sum()) * (4 / 128) ** 2
    assert area == pytest.approx(math.pi * (0.3 * 0.9) ** 2, rel=0.15)  # grid points are 0.04 apart
    assert stopped.min() >= 0 and stopped.max() <= 1 + 1e-5


def test_what_is_in_front_hides_what_is_behind(volume: Volume) -> None:
    """Two balls on one ray, with features of their own: from either side the nearer one's are seen."""
    near, far = torch.tensor([0.0, 0.0, 0.5]), torch.tensor([0.0, 0.0, -0.5])
    filled(volume, lambda p: ((p - near).norm(dim=1) < 0.25) | ((p - far).norm(dim=1) < 0.25))
    line = ((torch.arange(GRID) + 0.5) * 2 / GRID - 1).view(-1, 1, 1).expand(-1, GRID, GRID).reshape(-1)
    with torch.no_grad():
        volume.features.copy_(line.sign().expand(FEATURES, -1))
        for side, turn in ((1.0, torch.eye(3)), (-1.0, torch.diag(torch.tensor([1.0, -1.0, -1.0])))):
            met = volume.collected(turn[None], torch.zeros(1, 2), torch.ones(1))[0]
            middle = met[:, SIDE // 4, SIDE // 4]
            assert middle[0] > 0.95 and middle[1] > 0.4  # stopped, near
            assert (middle[2:] / STRONG * side > 0.95).all()


def test_no_image_hangs_on_its_batch(volume: Volume) -> None:
    turns = torch.from_numpy(Rotation.random(5, rng=0).as_matrix()).float()
    rest = (torch.zeros(5, 2), torch.ones(5), torch.nn.functional.normalize(torch.randn(5, 3), dim=1), torch.randn(5, 3))
    with torch.no_grad():
        together = volume(turns, *rest)
        alone = torch.cat([volume(turns[k : k + 1], *(r[k : k + 1] for r in rest)) for k in range(5)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    assert together.shape == (5, 1, SIDE, SIDE) and together.std(0).max() > 0


def test_a_part_out_of_the_picture_is_not_seen(volume: Volume) -> None:
    place = torch.tensor([[9.0, 9.0], [0.0, 0.0]], requires_grad=True)
    for rows in (slice(0, 1), slice(0, 2)):
        met = volume.collected(TURN.expand(2, -1, -1)[rows], place[rows], torch.ones(2)[rows])
        assert met.isfinite().all() and met[0, 0].max() < 0.02
        assert torch.autograd.grad(met.sum(), place)[0].isfinite().all()
