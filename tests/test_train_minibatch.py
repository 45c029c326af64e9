"""How alike a batch is: the layer by its definition, and the alarm on pictures that are more and less alike."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from train.minibatch import MinibatchDiscrimination, variety

torch.set_num_threads(1)  # on tensors this small a second thread only waits, and waits long on a busy machine


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layer(features: int = 6, kernels: int = 3, width: int = 2) -> MinibatchDiscrimination:
    found = MinibatchDiscrimination(features, kernels, width).double()
    with torch.no_grad():
        found.seen.weight.copy_(0.5 * noise(kernels * width, features, seed=9))
    return found


def test_closeness_is_as_defined_and_the_features_come_first() -> None:
    network, rows = layer(), noise(5, 6)
    found = network(rows)
    assert torch.equal(found[:, :6], rows)
    seen = (rows @ network.seen.weight.T).view(5, 3, 2)
    for i in range(5):
        for k in range(3):
            others = [torch.exp(-(seen[i, k] - seen[j, k]).abs().sum()).item() for j in range(5) if j != i]
            assert found[i, 6 + k].item() == pytest.approx(sum(others) / 4)


def test_copies_are_wholly_close_and_strangers_not_at_all() -> None:
    network = layer()
    torch.testing.assert_close(network(noise(1, 6).repeat(4, 1))[:, 6:], torch.ones(4, 3, dtype=torch.float64))
    assert float(network(1e4 * noise(4, 6)).detach()[:, 6:].max()) < 1e-6


def test_permuted_rows_give_permuted_closeness() -> None:
    network, rows, order = layer(), noise(5, 6), torch.tensor([4, 2, 0, 1, 3])
    torch.testing.assert_close(network(rows[order]), network(rows)[order])


def test_in_evaluation_no_row_sees_its_batch() -> None:
    network, rows = layer(), noise(5, 6)
    with torch.no_grad():
        for _ in range(200):
            taught = network(rows)
    network.eval()
    alone = torch.cat([network(rows[i : i + 1]) for i in range(5)])
    assert torch.equal(network(rows), alone)
    torch.testing.assert_close(alone[:, 6:], taught[:, 6:].mean(0).expand(5, -1))  # the usual closeness: after 200 batches all of it
    assert set(network.state_dict()) == {"seen.weight", "usual"}


def test_a_lone_row_is_close_to_nobody() -> None:
    assert layer()(noise(1, 6))[0, 6:].tolist() == [0.0, 0.0, 0.0]


def test_gradients_and_slopes_of_slopes() -> None:
    network, rows = layer(), noise(4, 6).requires_grad_()
    weight = network.seen.weight.detach().clone().requires_grad_()

    def closeness(x: Tensor, w: Tensor) -> Tensor:
        return torch.func.functional_call(network, {"seen.weight": w}, (x,))[:, 6:]

    assert torch.autograd.gradcheck(closeness, (rows, weight))
    assert torch.autograd.gradgradcheck(closeness, (rows, weight))  # R1 through the layer


def test_variety_by_hand() -> None:
    greys = torch.tensor([0.0, 0.5, 0.7]).view(3, 1, 1, 1).expand(3, 1, 32, 32)
    assert variety(greys) == pytest.approx((0.5 + 0.7 + 0.2) / 3)


def test_variety_is_a_distance() -> None:
    images = noise(6, 1, 32, 32)
    assert variety(images[:1].repeat(4, 1, 1, 1)) == 0
    assert variety(images.flip(0)) == pytest.approx(variety(images))
    assert variety(3 * images + 5) == pytest.approx(3 * variety(images))
    pairs = [variety(images[[i, j]]) for i in range(6) for j in range(i)]
    assert variety(images) == pytest.approx(sum(pairs) / len(pairs))


def test_variety_does_not_see_what_a_thumbnail_does_not() -> None:
    board = (-1.0) ** (torch.arange(32)[:, None] + torch.arange(32))
    images = noise(4, 1, 32, 32)
    assert variety(images + board * noise(4, 1, 1, 1, seed=1)) == pytest.approx(variety(images))


def test_variety_of_what_is_no_variety() -> None:
    real = noise(8, 1, 32, 32)
    assert variety(0.5 * real.flip(3)) == pytest.approx(0.5 * variety(real), rel=1e-5)
    assert variety(real[:1].repeat(8, 1, 1, 1)) < 1e-6 * variety(real)
    assert not variety(real * torch.nan) >= 0
    with pytest.raises(ValueError, match="found 1"):
        variety(real[:1])
