"""Shapes, seeds and independence of the networks; that they can learn at all."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from train.config import Config
from train.losses import pyramid_l1
from train.models import build
from train.networks import LOG_START, Discriminator, frozen

torch.set_num_threads(1)  # on tensors this small a second thread only waits, and waits long on a busy machine


def small(**options: object) -> Config:
    return Config(**{"width": 8, "latent": 6, "size": 32, **options})


def pictures(count: int, size: int = 32, seed: int = 0) -> Tensor:
    return torch.randn((count, 1, size, size), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [32, 48, 64, 128])
@pytest.mark.parametrize("filter_", [3, 5])
def test_shapes(size: int, filter_: int) -> None:
    model, images = build(small(size=size, filter=filter_)), pictures(2, size)
    latent = model.encoder(images)
    made, log_size = model.rebuilt(images)[:2]
    realness, features = model.discriminator(images)
    assert latent.shape == (2, 6) and realness.shape == (2,)
    assert model.generator(latent).shape == made.shape == log_size.shape == images.shape
    assert [tuple(f.shape) for f in features] == [(2, 4 * 2**k, size // 4 // 2**k, size // 4 // 2**k) for k in range(3)]


def test_model_is_generator_of_encoder() -> None:
    model, images = build(small()).eval(), pictures(3)
    made, log_size = model.rebuilt(images)[:2]
    again, log_again = model.generator.expected(model.encoder(images))
    assert torch.equal(made, again) and torch.equal(log_size, log_again)
    assert torch.equal(made, model.generator(model.encoder(images)))


def test_build_is_a_function_of_the_seed() -> None:
    one, two, other = (build(small(seed=s)).state_dict() for s in (0, 0, 1))
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert any(not torch.equal(one[k], other[k]) for k in one)


def test_build_leaves_the_callers_generator_alone() -> None:
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    build(small())
    assert torch.equal(torch.rand(3), wanted)


def test_batch_equals_single_in_evaluation() -> None:
    model, images = build(small()).eval(), pictures(7)
    with torch.no_grad():
        together = [*model.rebuilt(images)[:2], model.discriminator(images)[0]]
        alone = [
            torch.cat(values)
            for values in zip(*([*model.rebuilt(i[None])[:2], model.discriminator(i[None])[0]] for i in images), strict=True)
        ]
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)  # float32 convolutions may sum in another order


def test_discriminator_does_not_see_the_neighbours_even_in_training() -> None:
    model, images, others = build(small()), pictures(4), pictures(4, seed=1)
    others[0] = images[0]
    one, two = (copy.deepcopy(model.discriminator)(batch)[0][0] for batch in (images, others))
    torch.testing.assert_close(one, two, rtol=0, atol=1e-6)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.discriminator.modules())


@pytest.mark.parametrize("wanted", [True, False])
def test_batch_norm_is_there_when_asked_for(wanted: bool) -> None:
    model = build(small(batch_norm=wanted))
    assert [any(isinstance(m, nn.BatchNorm2d) for m in part.modules()) for part in (model.encoder, model.generator)] == [wanted, wanted]


def test_doubt_does_not_pull_on_the_picture() -> None:
    model = build(small())
    _, log_size = model.rebuilt(pictures(2))[:2]
    log_size.sum().backward()
    pulled = {name.split(".")[1] for name, p in model.generator.named_parameters(prefix="g") if p.grad is not None and p.grad.any()}
    assert pulled == {"doubt"}
    assert all(p.grad is None for p in model.encoder.parameters())


def test_picture_does_not_pull_on_the_doubt() -> None:
    model = build(small())
    made, _ = model.rebuilt(pictures(2))[:2]
    made.square().sum().backward()
    assert all(p.grad is None for p in model.generator.doubt.parameters())
    assert all(p.grad is not None and p.grad.any() for p in model.generator.paint.parameters())


def test_doubt_starts_near_what_an_untrained_model_should_say() -> None:
    with torch.no_grad():
        _, log_size = build(small()).eval().rebuilt(pictures(4))[:2]
    assert float((log_size - LOG_START).abs().max()) < 1.0  # a fresh head adds little to its constant


def test_overfits_eight_images() -> None:
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 32), torch.linspace(-1, 1, 32), indexing="ij")
    at, size = torch.rand((8, 2, 1, 1), generator=generator) - 0.5, 0.2 + 0.4 * torch.rand((8, 1, 1), generator=generator)
    images = (torch.sigmoid(20 * (size - torch.hypot(y - at[:, 0], x - at[:, 1]))) - 0.5)[:, None]  # eight discs
    model = build(small(latent=8))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(150):
        loss = pyramid_l1(model.rebuilt(images)[:2][0], images).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-10:]) / 10 < 0.2 * losses[0]


def test_frozen_weights_say_the_same() -> None:
    judge, images = Discriminator(small(spectral=True)).train(), pictures(4)
    judge(images)
    judge.eval()
    with torch.no_grad():
        before = judge(images)
        assert any("parametrizations" in name for name in judge.state_dict())
        after = frozen(judge)(images)
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    assert not any("parametrizations" in name for name in judge.state_dict()) and frozen(judge) is judge
