"""Laws of the map: it keeps neighbourhoods, lies on its codes, beats codes picked blindly, and does not mind their order."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from train import som
from train.som import fit_som, nearest, quantisation_error, quantised, topographic_error

torch.set_num_threads(1)  # on tensors this small a second thread only waits, and waits long on a busy machine


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sheet(count: int = 1500, dims: int = 8, seed: int = 0, bent: float = 0.3) -> Tensor:
    """(count, dims) float64: a rectangle of 1.5 x 1, turned anyhow into ``dims`` dimensions and bent there."""
    flat = torch.rand((count, 2), generator=generator(seed), dtype=torch.float64) * torch.tensor([1.5, 1.0])
    turn = torch.linalg.qr(torch.randn((dims, dims), generator=generator(9), dtype=torch.float64)).Q
    return torch.cat([flat, bent * torch.sin(3 * flat[:, :1])], 1) @ turn[:3]


@pytest.fixture(scope="module")
def codes() -> Tensor:
    return sheet()


@pytest.fixture(scope="module")
def nodes(codes: Tensor) -> Tensor:
    return fit_som(codes, 6, 9)


def test_a_sheet_keeps_its_neighbourhoods(codes: Tensor, nodes: Tensor) -> None:
    assert nodes.shape == (54, 8) and nodes.dtype == codes.dtype
    assert topographic_error(nodes, codes, 9) < 0.03
    order = torch.randperm(54, generator=generator(0))
    assert topographic_error(nodes[order], codes, 9) > 0.5  # the same nodes, not in their places
    grid = nodes.view(6, 9, 8)
    step, leap = (grid[:, 1:] - grid[:, :-1]).norm(dim=-1), (grid[:, 8] - grid[:, 0]).norm(dim=-1)
    assert float(step.max()) < 0.4 * float(leap.min())


@pytest.mark.parametrize("start", ["pca", "random"])
def test_it_says_more_of_new_codes_than_picked_codes_do(codes: Tensor, start: str) -> None:
    new, found = sheet(500, seed=1), fit_som(codes, 6, 9, start=start)
    picked = [quantisation_error(codes[torch.randperm(len(codes), generator=generator(k))[:54]], new) for k in range(10)]
    assert quantisation_error(found, new) < min(picked)


def test_nodes_lie_within_their_codes(codes: Tensor, nodes: Tensor) -> None:
    """Each is a weighted mean of them: in no direction further out than the outermost."""
    ways = torch.randn((8, 50), generator=generator(3), dtype=torch.float64)
    assert bool(((codes @ ways).amin(0) <= (nodes @ ways).amin(0)).all() and ((nodes @ ways).amax(0) <= (codes @ ways).amax(0)).all())
    flat = sheet(400, bent=0.0)
    _, sizes, directions = torch.linalg.svd(flat - flat.mean(0))
    assert float(sizes[2]) < 1e-12
    off_plane = (fit_som(flat, 5, 5) - flat.mean(0)) @ directions[2:].T
    assert float(off_plane.abs().max()) < 1e-12


def test_as_many_places_as_nodes_are_learned_nearly_by_heart() -> None:
    places = torch.cartesian_prod(torch.arange(4.0), torch.arange(3.0)).double()
    found = fit_som(places.repeat(20, 1), 4, 3)
    assert sorted(nearest(found, places).tolist()) == list(range(12))  # a node each
    assert quantisation_error(found, places) < 0.25  # of a step between places: the last neighbourhood still pulls a little


def test_codes_in_another_order_give_the_same_map(codes: Tensor, nodes: Tensor) -> None:
    order = torch.randperm(len(codes), generator=generator(5))
    torch.testing.assert_close(fit_som(codes[order], 6, 9), nodes, rtol=0, atol=1e-9)
    assert torch.equal(fit_som(codes, 6, 9), nodes)


def test_moved_turned_and_scaled_codes_give_a_map_moved_turned_and_scaled(codes: Tensor, nodes: Tensor) -> None:
    turn = torch.linalg.qr(torch.randn((8, 8), generator=generator(4), dtype=torch.float64)).Q
    moved = fit_som(3 * codes @ turn + 5, 6, 9).view(6, 9, 8)
    wanted = 3 * nodes.view(6, 9, 8) @ turn + 5
    mirrored = [wanted, wanted.flip(0), wanted.flip(1), wanted.flip(0, 1)]  # which way round a main direction runs is open
    assert min(float((moved - other).abs().max()) for other in mirrored) < 1e-7


def test_seeds_draw_the_random_start_alone(codes: Tensor, nodes: Tensor) -> None:
    once, again, other = (fit_som(codes, 4, 4, seed, start="random") for seed in (0, 0, 1))
    assert torch.equal(once, again) and not torch.equal(once, other)
    assert torch.equal(fit_som(codes, 6, 9, seed=1), nodes)


def test_chunks_do_not_show(codes: Tensor, nodes: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    best, mixed, error = nearest(nodes, codes), quantised(nodes, codes, 9, 0.5), topographic_error(nodes, codes, 9)
    monkeypatch.setattr(som, "CHUNK", 64)
    torch.testing.assert_close(fit_som(codes, 6, 9), nodes, rtol=0, atol=1e-9)
    assert torch.equal(nearest(nodes, codes), best) and torch.equal(quantised(nodes, codes, 9, 0.5), mixed)
    assert topographic_error(nodes, codes, 9) == error


def test_nearest_is_nearest_and_sees_no_batch(codes: Tensor, nodes: Tensor) -> None:
    best = nearest(nodes, codes)
    far = (codes[:, None] - nodes[None]).norm(dim=-1)
    assert torch.equal(far.gather(1, best[:, None])[:, 0], far.amin(1))
    assert torch.equal(torch.cat([nearest(nodes, codes[k : k + 1]) for k in range(50)]), best[:50])
    assert quantisation_error(nodes, codes) == pytest.approx(far.amin(1).mean().item())
    assert torch.equal(nearest(nodes, nodes), torch.arange(54)) and nearest(nodes, codes[:0]).shape == (0,)


def test_a_blend_is_between_neighbours_and_nearer(codes: Tensor, nodes: Tensor) -> None:
    plain = quantised(nodes, codes)
    assert torch.equal(plain, nodes[nearest(nodes, codes)])
    torch.testing.assert_close(quantised(nodes, codes, 9, 1e-9), plain)
    mixed = quantised(nodes, codes, 9, 0.5)
    assert float((mixed - codes).norm(dim=1).mean()) < 0.7 * float((plain - codes).norm(dim=1).mean())
    alone = torch.cat([quantised(nodes, codes[k : k + 1], 9, 0.5) for k in range(20)])
    torch.testing.assert_close(mixed[:20], alone)


def test_a_blend_on_an_even_grid_is_nearly_linear() -> None:
    even = torch.cartesian_prod(torch.arange(5.0), torch.arange(7.0)).double()
    inside = 1 + torch.rand((200, 2), generator=generator(0), dtype=torch.float64) * torch.tensor([2.0, 4.0])
    assert float((quantised(even, inside, 7, 0.5) - inside).abs().max()) < 0.12  # s^2 is 1.5 with diagonals in it
    huge = quantised(even, inside, 7, 1e9)  # all nine alike: their middle, the best node
    torch.testing.assert_close(huge, inside.round(), rtol=0, atol=1e-6)


def test_a_blend_at_the_corner_mixes_the_four_that_are_there() -> None:
    even = torch.cartesian_prod(torch.arange(3.0), torch.arange(4.0)).double()
    torch.testing.assert_close(quantised(even, even[:1], 4, 1e9), torch.full((1, 2), 0.5, dtype=torch.float64))


def test_a_blend_by_hand() -> None:
    line = torch.tensor([[0.0], [3.0], [7.0]])  # about the middle node s^2 is (9 + 16) / 2
    weight = torch.exp(-torch.tensor([4.0, 1.0, 25.0]) / (0.5 * 12.5))
    torch.testing.assert_close(quantised(line, torch.tensor([[2.0]]), 3, 0.5), (weight @ line / weight.sum())[None])


def test_topographic_error_by_hand() -> None:
    line = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    codes = torch.tensor([[0.1], [1.2], [2.9]])
    assert topographic_error(line, codes, 4) == 0
    assert topographic_error(line[[0, 2, 1, 3]], codes, 4) == pytest.approx(
        2 / 3
    )  # 0 and 1 lie two apart, 3 and 2 too; 1 and 2 side by side
    assert topographic_error(line[[0, 2, 1, 3]], codes, 2) == 0  # on a square all are neighbours


@pytest.mark.parametrize(("count", "dims"), [(1, 3), (5, 1), (2, 2), (40, 3)])
@pytest.mark.parametrize("start", ["pca", "random"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (3, 4)])
def test_few_codes_and_thin_grids_have_a_map(count: int, dims: int, start: str, shape: tuple[int, int]) -> None:
    codes = torch.randn((count, dims), generator=generator(0))
    found = fit_som(codes, *shape, start=start)
    assert found.shape == (shape[0] * shape[1], dims) and found.dtype == torch.float32 and bool(found.isfinite().all())
    assert bool(quantised(found, codes, shape[1], 0.5).isfinite().all()) and 0 <= topographic_error(found, codes, shape[1]) <= 1
    if shape == (1, 1):
        torch.testing.assert_close(found[0], codes.mean(0))


def test_equal_codes_have_a_map() -> None:
    found = fit_som(torch.full((10, 3), 0.7), 3, 3)
    torch.testing.assert_close(found, torch.full((9, 3), 0.7))
    torch.testing.assert_close(quantised(found, torch.full((2, 3), 0.7), 3, 0.5), torch.full((2, 3), 0.7))


def test_what_has_no_map_is_told() -> None:
    for codes, rows in ((torch.zeros(0, 3), 2), (torch.zeros(5, 3), 0), (torch.full((5, 3), torch.nan), 2)):
        with pytest.raises(ValueError, match="map"):
            fit_som(codes, rows, 2)
    with pytest.raises(ValueError, match="the grid"):
        quantised(torch.zeros(4, 3), torch.zeros(2, 3), blend=0.5)
