"""Descent where the answer is known: forms that are linear in the code, losses that are quadratic."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from detect.descend import Descent, descend

torch.set_num_threads(1)  # on tensors this small a second thread only waits, and waits long on a busy machine

WIDTH, SIZE = 4, 8
# orthonormal forms: the nearest to an image has the image's products with them as its code
FORMS = torch.linalg.qr(torch.randn((SIZE * SIZE, WIDTH), generator=torch.Generator().manual_seed(0)))[0].T.contiguous()


def decode(latent: Tensor) -> Tensor:
    return (latent @ FORMS).view(-1, 1, SIZE, SIZE)


def loss(form: Tensor, image: Tensor, latent: Tensor) -> Tensor:
    return ((form - image) ** 2).sum((1, 2, 3))


def draw(count: int, starts: int = 3, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Codes (count, Z), their images plus noise that no form has, and starts (count, starts, Z)."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randn((count, WIDTH), generator=generator)
    noise = 0.1 * torch.randn((count, SIZE * SIZE), generator=generator)
    images = decode(codes) + (noise - noise @ FORMS.T @ FORMS).view(-1, 1, SIZE, SIZE)
    return codes, images, torch.randn((count, starts, WIDTH), generator=generator)


def far(images: Tensor, starts: Tensor, **options: object) -> Descent:
    """With nothing that stops it early."""
    return descend(decode, loss, images, starts, **{"steps": 300, "rate": 0.1, "tolerance": 0.0} | options)


def test_reaches_the_known_minimum() -> None:
    codes, images, starts = draw(5)
    found = far(images, starts)
    torch.testing.assert_close(found.latent, codes, rtol=0, atol=2e-3)  # the last steps are of a hundredth, shrunk by Adam's means
    torch.testing.assert_close(found.loss, loss(decode(codes), images, codes), rtol=0, atol=1e-4)


def test_answer_belongs_together() -> None:
    _, images, starts = draw(5)
    found = far(images, starts, steps=10)
    assert torch.equal(found.decoded, decode(found.latent))
    torch.testing.assert_close(found.loss, loss(found.decoded, images, found.latent))


@pytest.mark.parametrize("rate", [0.05, 5.0])
def test_never_worse_than_the_best_start(rate: float) -> None:
    _, images, starts = draw(20)
    first = loss(decode(starts.flatten(0, 1)), images.repeat_interleave(3, 0), starts).view(20, 3).amin(1)
    assert bool((far(images, starts, steps=12, rate=rate).loss <= first).all())


def test_loss_is_the_least_of_the_trajectory() -> None:
    _, images, starts = draw(6)
    found = far(images, starts, steps=40, rate=1.0)  # a rate that overshoots: the last step is not the best
    least, where = found.trajectory.amin(0).min(1)
    assert torch.equal(found.loss, least) and torch.equal(found.start, where)
    assert bool((found.trajectory[-1].amin(1) > least).any())


def test_best_start_wins() -> None:
    codes, images, starts = draw(3)
    for i, at in enumerate((2, 0, 1)):
        starts[i, at] = codes[i]
    found = far(images, starts, steps=5)
    assert found.start.tolist() == [2, 0, 1]
    torch.testing.assert_close(found.latent, codes)


def test_permuted_images_give_permuted_answers() -> None:
    _, images, starts = draw(8)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    one, two = (descend(decode, loss, a, b, steps=60, enough=0.8) for a, b in ((images, starts), (images[order], starts[order])))
    assert len(set(one.steps.tolist())) > 2  # they stop at different steps
    for name in ("latent", "decoded", "loss"):
        torch.testing.assert_close(getattr(two, name), getattr(one, name)[order], rtol=0, atol=1e-5)
    assert torch.equal(two.steps, one.steps[order]) and torch.equal(two.start, one.start[order])


def test_batch_equals_single() -> None:
    _, images, starts = draw(8)
    together = descend(decode, loss, images, starts, steps=60, enough=0.8)
    for i in range(8):
        alone = descend(decode, loss, images[i : i + 1], starts[i : i + 1], steps=60, enough=0.8)
        for name in ("latent", "decoded", "loss"):
            torch.testing.assert_close(getattr(alone, name)[0], getattr(together, name)[i], rtol=0, atol=1e-5)
        assert alone.steps[0] == together.steps[i] and alone.start[0] == together.start[i]


def test_enough_stops_at_once() -> None:
    _, images, starts = draw(4)
    found = descend(decode, loss, images, starts, steps=50, enough=1e6)
    assert found.steps.tolist() == [0] * 4
    assert torch.equal(found.latent, starts[torch.arange(4), found.start])


def test_no_steps_takes_the_best_start() -> None:
    _, images, starts = draw(4)
    found = descend(decode, loss, images, starts, steps=0)
    values = loss(decode(starts.flatten(0, 1)), images.repeat_interleave(3, 0), starts).view(4, 3)
    assert torch.equal(found.start, values.argmin(1)) and found.trajectory.shape == (1, 4, 3) and found.steps.tolist() == [0] * 4


def test_steps_are_counted_up_to_enough() -> None:
    _, images, starts = draw(6)
    found = far(images, starts, enough=0.8, steps=200)
    for i, spent in enumerate(found.steps.tolist()):
        best = found.trajectory[:, i].amin(1)
        assert best[spent] <= 0.8 and bool((best[:spent] > 0.8).all())


def test_all_steps_are_spent_where_nothing_is_enough() -> None:
    _, images, starts = draw(3)
    assert far(images, starts, steps=17, rate=1e-3).steps.tolist() == [17] * 3


def test_stops_when_it_no_longer_falls() -> None:
    codes, images, starts = draw(2)
    starts[0] = codes[0]  # nothing to gain
    found = descend(decode, loss, images, starts, steps=50, patience=6)
    assert found.steps[0] == 6 < found.steps[1]


def test_trajectory_is_a_number_until_its_image_stops_and_nan_after() -> None:
    _, images, starts = draw(6)
    found = descend(decode, loss, images, starts, steps=60, enough=0.8)
    assert found.trajectory.shape == (61, 6, 3)
    steps = torch.arange(61)[:, None, None]
    assert torch.equal(found.trajectory.isnan(), (steps > found.steps[None, :, None]).expand(61, 6, 3))
    torch.testing.assert_close(found.trajectory[0], loss(decode(starts.flatten(0, 1)), images.repeat_interleave(3, 0), starts).view(6, 3))


def test_one_step_has_the_size_of_the_rate() -> None:
    codes, images, starts = draw(1, starts=1)
    found = far(images, starts, steps=1, rate=0.07)  # Adam's first step: the rate, whatever the gradient's size, against its sign
    torch.testing.assert_close((found.latent - starts[:, 0]).abs(), torch.full((1, WIDTH), 0.07), rtol=1e-4, atol=0)
    assert bool(((found.latent - starts[:, 0]).sign() == (codes - starts[:, 0]).sign()).all())


def test_rate_falls_towards_a_tenth() -> None:
    _, images, starts = draw(2, starts=1)
    slope = torch.tensor([2.0, -0.5, 1.0, -3.0])  # of a loss that is linear: each of Adam's steps then has the size of its rate
    found = descend(decode, lambda form, image, latent: latent @ slope, images, starts, steps=4, rate=0.1)
    way = 0.1 * (1.0 + 0.775 + 0.55 + 0.325)
    torch.testing.assert_close(found.latent - starts[:, 0], (-way * slope.sign()).expand(2, WIDTH), rtol=1e-4, atol=0)


def test_what_it_is_given_is_left_as_it_was() -> None:
    _, images, starts = draw(2)
    kept = images.clone(), starts.clone()
    far(images, starts, steps=5)
    assert torch.equal(images, kept[0]) and torch.equal(starts, kept[1])
