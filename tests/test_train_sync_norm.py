"""Two gloo processes with half the rows each, against one process with all of them: values, gradients, statistics, and a whole training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from train.game import feature_matching, r1
from train.minibatch import MinibatchDiscrimination
from train.sync_norm import BatchNorm1d, BatchNorm2d, batch_mean, gathered, processes, summed

torch.set_num_threads(1)  # on tensors this small a second thread only waits, and waits long on a busy machine

CASES = {
    "plain": {},
    "cumulative": {"momentum": None},
    "bare": {"affine": False},
    "untracked": {"track_running_stats": False},
}
SPLITS = {"even": 4, "uneven": 3}  # rows of eight in the first process


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Network(nn.Module):
    """Both layers, between others."""

    def __init__(self, norms: tuple[type, type], options: dict, *, alike: bool = False) -> None:
        super().__init__()
        self.first, self.flat = nn.Conv2d(2, 3, 3, padding=1), nn.Linear(27, 4)
        self.norm2, self.norm1 = norms[0](3, **options), norms[1](4, **options)
        self.last = nn.Sequential(*([MinibatchDiscrimination(4, 2, 2)] if alike else []), nn.Linear(6 if alike else 4, 2))
        self.double()
        with torch.no_grad():
            for k, weight in enumerate(self.parameters()):
                weight.copy_(0.5 * noise(*weight.shape, seed=k))

    def features(self, image: Tensor) -> Tensor:
        return self.norm1(self.flat(F.softplus(self.norm2(self.first(image))).flatten(1)))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(image)
        return self.last(features.tanh()), features


def looked_at(network: Network, images: Tensor, wanted: Tensor) -> dict[str, object]:
    """Values, gradients by images and weights, gradients of a penalty on slopes, running statistics after two steps, and evaluation."""
    found = {}
    for step in range(2):
        rows = (images + step).detach().requires_grad_()
        out, _ = network(rows)
        (slope,) = torch.autograd.grad((out * wanted).sum(), rows, create_graph=True)
        weights = [w for n, w in network.named_parameters()]
        found |= {f"out{step}": out.detach(), f"slope{step}": slope.detach()}
        found[f"weights{step}"] = list(torch.autograd.grad((out * wanted).sum() + 0.1 * slope.square().sum(), weights))
    found["buffers"] = dict(network.named_buffers())
    with torch.no_grad():
        found["eval"] = network.eval()(images)[0]
    return found


def trained(network: nn.Module, images: Tensor, wanted: Tensor) -> tuple[list[float], dict[str, Tensor]]:
    """A loss curve and weights after four steps of SGD on own rows, in the mean."""
    curve, optimizer = [], torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for _ in range(4):
        out, features = network(images)
        loss = (out - wanted).square().mean() + feature_matching([features], [wanted.repeat(1, 2)])
        loss = loss + 0.1 * r1(lambda rows: network(rows)[0].sum(1), images).mean()  # a slope of slopes, through both norms
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(float(batch_mean(loss.detach()[None])))
    return curve, {k: v.clone() for k, v in getattr(network, "module", network).state_dict().items()}


def in_process(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=(folder / "meeting").as_uri(), rank=rank, world_size=2)
    images, wanted, found = noise(8, 2, 3, 3), noise(8, 2, seed=1), {}
    for split, first in SPLITS.items():
        own = slice(0, first) if rank == 0 else slice(first, 8)
        for name, options in CASES.items():
            found[split, name] = looked_at(Network((BatchNorm2d, BatchNorm1d), options), images[own], wanted[own])
        found[split, "mean"] = batch_mean(images[own])
    own = slice(4 * rank, 4 * rank + 4)
    found["sum"], found["gathered"] = summed(torch.tensor([rank + 1.0])), gathered(images[own])
    network = DistributedDataParallel(Network((BatchNorm2d, BatchNorm1d), {}, alike=True))
    found["trained"] = trained(network, images[own], wanted[own])
    large = (1000 + 0.1 * noise(8, 3, 4, 4)).float()
    found["large"] = BatchNorm2d(3)(large[own]).detach()
    found["half"] = BatchNorm2d(3)(noise(8, 3, 4, 4).bfloat16()[own]).detach()
    found["one row"] = BatchNorm1d(3)(large[rank : rank + 1, :, 0, 0]).detach()
    torch.save(found, folder / f"{rank}.pt")
    distributed.barrier()
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp("processes")
    multiprocessing.spawn(in_process, (folder,), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def close(a: object, b: object) -> None:
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)  # float64: sums in another order at most


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("case", CASES)
def test_two_processes_are_one_with_all_rows(both: list[dict], split: str, case: str) -> None:
    one = looked_at(Network((nn.BatchNorm2d, nn.BatchNorm1d), CASES[case]), noise(8, 2, 3, 3), noise(8, 2, seed=1))
    a, b = (found[split, case] for found in both)
    for step in range(2):
        for name in ("out", "slope"):
            close(torch.cat([a[f"{name}{step}"], b[f"{name}{step}"]]), one[f"{name}{step}"])
        close([x + y for x, y in zip(a[f"weights{step}"], b[f"weights{step}"], strict=True)], one[f"weights{step}"])
    assert list(a["buffers"]) == list(one["buffers"])
    for found in (a, b):
        close(found["buffers"], one["buffers"])
    if case != "untracked":  # without statistics evaluation uses those of the rows at hand, as torch's own does
        close(torch.cat([a["eval"], b["eval"]]), one["eval"])


def test_a_whole_training_is_that_of_one_process(both: list[dict]) -> None:
    curve, weights = trained(Network((nn.BatchNorm2d, nn.BatchNorm1d), {}, alike=True), noise(8, 2, 3, 3), noise(8, 2, seed=1))
    assert curve[-1] < 0.9 * curve[0]  # it does learn
    for found in both:
        close(found["trained"][0], curve)
        close(found["trained"][1], weights)


def test_sums_means_and_rows_of_both(both: list[dict]) -> None:
    images = noise(8, 2, 3, 3)
    for rank, found in enumerate(both):
        assert found["sum"].item() == 3 and found["gathered"][1] == 4 * rank and torch.equal(found["gathered"][0], images)
        for split in SPLITS:
            close(found[split, "mean"], images.mean(0))


def test_small_deviations_of_large_values_are_kept(both: list[dict]) -> None:
    values = (1000 + 0.1 * noise(8, 3, 4, 4)).float()
    exact = F.batch_norm(values.double(), None, None, training=True)
    # float32 holds a value of 1000 to 6e-5, here 6e-4 deviations, and their mean as well
    torch.testing.assert_close(torch.cat([f["large"] for f in both]).double(), exact, rtol=0, atol=2e-3)


def test_half_precision_comes_back_as_it_came(both: list[dict]) -> None:
    half = torch.cat([f["half"] for f in both])
    wanted = nn.BatchNorm2d(3)(noise(8, 3, 4, 4).bfloat16())
    assert half.dtype == wanted.dtype == torch.bfloat16
    torch.testing.assert_close(half, wanted.detach(), rtol=1e-2, atol=1e-2)


def test_a_row_in_each_process_makes_two(both: list[dict]) -> None:
    values = (1000 + 0.1 * noise(8, 3, 4, 4)).float()[:2, :, 0, 0]
    torch.testing.assert_close(torch.cat([f["one row"] for f in both]), nn.BatchNorm1d(3)(values).detach(), rtol=0, atol=5e-3)


@pytest.mark.parametrize(("ours", "theirs", "shape"), [(BatchNorm2d, nn.BatchNorm2d, (4, 3, 5, 5)), (BatchNorm1d, nn.BatchNorm1d, (4, 3))])
def test_alone_it_is_torchs_own(ours: type, theirs: type, shape: tuple[int, ...]) -> None:
    assert processes() == 1
    a, b = ours(3), theirs(3)
    a.load_state_dict(b.state_dict())
    assert isinstance(a, theirs)
    for values in (noise(*shape).float(), noise(*shape, seed=1).float()):
        assert torch.equal(a(values), b(values))
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    assert torch.equal(a.eval()(values), b.eval()(values))
    rows, own = gathered(values)
    assert (
        own == 0 and torch.equal(rows, values) and torch.equal(summed(values), values) and torch.equal(batch_mean(values), values.mean(0))
    )
