"""Descent where the answer is known: forms that are linear in the code, losses that are quadratic."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.optimize
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cad.errors import InputError
from detect import forward_mode
from detect.descend import METHODS, Descent, descend
from detect.forward_mode import GaussNewton, jacobian, pyramid_residual
from detect.solvers import Problem
from train.losses import pyramid_l1

torch.set_num_threads(1)  # on tensors this small a second thread only waits, and waits long on a busy machine

WIDTH, SIZE = 4, 8
# orthonormal forms: the nearest to an image has the image's products with them as its code
FORMS = torch.linalg.qr(torch.randn((SIZE * SIZE, WIDTH), generator=torch.Generator().manual_seed(0)))[0].T.contiguous()
# what brings each method down on these squares; a residual whose plain squares they are
KNOWN = {"sgd": {"rate": 0.05}, "adam": {"rate": 0.1}, "nadam": {"rate": 0.1}, "l-bfgs": {}, "gauss-newton": {"huber": float("inf")}}
# what stops each of them before its starts have come to one place
SLOWLY = {
    "sgd": {"steps": 60},
    "adam": {"steps": 60},
    "nadam": {"steps": 60},
    "l-bfgs": {"steps": 1},
    "gauss-newton": {"steps": 1, "rate": 1e4},
}
every_method = pytest.mark.parametrize("method", METHODS)


def decode(latent: Tensor) -> Tensor:
    return (latent @ FORMS.to(latent.dtype)).view(-1, 1, SIZE, SIZE)


def loss(form: Tensor, image: Tensor, latent: Tensor) -> Tensor:
    return ((form - image) ** 2).sum((1, 2, 3))


def left(form: Tensor, image: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
    return (form - image).flatten(1), torch.ones(SIZE * SIZE, dtype=form.dtype)


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


def by(method: str, images: Tensor, starts: Tensor, **options: object) -> Descent:
    """In float64, so that rounding does not turn a decision about a step."""
    return descend(decode, loss, images.double(), starts.double(), method=method, residual=left, **KNOWN[method] | options)


def values_of(images: Tensor, starts: Tensor) -> Tensor:
    """(B, K): the losses of the starts."""
    return loss(decode(starts.flatten(0, 1)), images.repeat_interleave(starts.shape[1], 0), starts).view(starts.shape[:2])


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


@every_method
def test_every_method_reaches_the_known_minimum(method: str) -> None:
    codes, images, starts = draw(5)
    found = by(method, images, starts, steps=400 if method in ("sgd", "adam", "nadam") else 12, tolerance=0.0)
    torch.testing.assert_close(found.latent, codes.double(), rtol=0, atol=2e-3 if method in ("adam", "nadam") else 1e-6)


@every_method
@pytest.mark.parametrize("rate", [0.05, 5.0])
def test_never_worse_than_the_best_start(method: str, rate: float) -> None:
    _, images, starts = draw(20)
    found = by(method, images, starts, steps=12, rate=rate, tolerance=0.0)
    assert bool((found.loss <= values_of(images.double(), starts.double()).amin(1)).all())


@every_method
def test_latents_are_the_best_of_each_start(method: str) -> None:
    _, images, starts = draw(6)
    found = by(method, images, starts, steps=6, tolerance=0.0)
    assert found.latents.shape == starts.shape and found.latents.dtype == torch.float64
    torch.testing.assert_close(values_of(images.double(), found.latents), found.trajectory.amin(0))
    assert torch.equal(found.latents[torch.arange(6), found.start], found.latent)


def test_loss_is_the_least_of_the_trajectory() -> None:
    _, images, starts = draw(6)
    found = far(images, starts, steps=6, rate=5.0)  # a rate that overshoots: the last step is not the best
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


@every_method
def test_permuted_images_give_permuted_answers(method: str) -> None:
    codes, images, starts = draw(8)
    starts[0, 1] = codes[0]  # it stops before the others
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    one, two = (by(method, a, b, enough=0.8, **SLOWLY[method]) for a, b in ((images, starts), (images[order], starts[order])))
    assert len(set(one.steps.tolist())) > 1  # they stop at different steps
    for name in ("latent", "latents", "decoded", "loss"):
        torch.testing.assert_close(getattr(two, name), getattr(one, name)[order], rtol=0, atol=1e-9)
    assert torch.equal(two.steps, one.steps[order]) and torch.equal(two.start, one.start[order])


@every_method
def test_batch_equals_single(method: str) -> None:
    codes, images, starts = draw(8)
    starts[0, 1] = codes[0]  # it stops before the others
    together = by(method, images, starts, enough=0.8, **SLOWLY[method])
    for i in range(8):
        alone = by(method, images[i : i + 1], starts[i : i + 1], enough=0.8, **SLOWLY[method])
        for name in ("latent", "latents", "decoded", "loss"):
            torch.testing.assert_close(getattr(alone, name)[0], getattr(together, name)[i], rtol=0, atol=1e-9)
        assert alone.steps[0] == together.steps[i] and alone.start[0] == together.start[i]


@every_method
def test_starts_do_not_know_of_each_other(method: str) -> None:
    _, images, starts = draw(4)
    together = by(method, images, starts, steps=8, tolerance=0.0)
    for k in range(3):
        alone = by(method, images, starts[:, k : k + 1], steps=8, tolerance=0.0)
        torch.testing.assert_close(alone.latent, together.latents[:, k], rtol=0, atol=1e-9)


@every_method
def test_what_is_no_number_spoils_no_neighbour(method: str) -> None:
    _, images, starts = draw(3)
    spoilt = images.clone()
    spoilt[1] = torch.nan
    found, whole = (by(method, i, starts, steps=5, tolerance=0.0) for i in (spoilt, images))
    assert bool(found.loss[1].isinf())
    for i in (0, 2):
        torch.testing.assert_close(found.latent[i], whole.latent[i], rtol=0, atol=1e-9)


@every_method
def test_enough_stops_at_once(method: str) -> None:
    _, images, starts = draw(4)
    found = by(method, images, starts, steps=50, enough=1e6)
    assert found.steps.tolist() == [0] * 4
    assert torch.equal(found.latent, starts[torch.arange(4), found.start].double())


@every_method
def test_each_image_stops_where_it_is_enough(method: str) -> None:
    codes, images, starts = draw(6)
    starts[0, 1] = codes[0]
    found = by(method, images, starts, enough=0.8, steps=200, tolerance=0.0)
    assert len(set(found.steps.tolist())) > 1
    for i, spent in enumerate(found.steps.tolist()):
        best = found.trajectory[:, i].amin(1)
        assert best[spent] <= 0.8 and bool((best[:spent] > 0.8).all()) and bool(found.trajectory[spent + 1 :, i].isnan().all())


def test_no_steps_takes_the_best_start() -> None:
    _, images, starts = draw(4)
    found = descend(decode, loss, images, starts, steps=0)
    values = loss(decode(starts.flatten(0, 1)), images.repeat_interleave(3, 0), starts).view(4, 3)
    assert torch.equal(found.start, values.argmin(1)) and found.trajectory.shape == (1, 4, 3) and found.steps.tolist() == [0] * 4


def test_steps_are_counted_up_to_enough() -> None:
    codes, images, starts = draw(6)
    starts[0, 1] = codes[0]
    found = far(images, starts, enough=0.8, steps=200)
    for i, spent in enumerate(found.steps.tolist()):
        best = found.trajectory[:, i].amin(1)
        assert best[spent] <= 0.8 and bool((best[:spent] > 0.8).all())


def test_all_steps_are_spent_where_nothing_is_enough() -> None:
    _, images, starts = draw(3)
    assert far(images, starts, steps=17, rate=1e-3).steps.tolist() == [17] * 3


@every_method
def test_stops_when_it_no_longer_falls(method: str) -> None:
    codes, images, starts = draw(2)
    starts[0] = codes[0]  # nothing to gain
    found = by(method, images, starts, steps=50, patience=6)
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


def test_rate_falls_by_the_square_of_what_is_left() -> None:
    _, images, starts = draw(2, starts=1)
    slope = torch.tensor([2.0, -0.5, 1.0, -3.0])  # of a loss that is linear: each of Adam's steps then has the size of its rate
    found = descend(decode, lambda form, image, latent: latent @ slope, images, starts, steps=4, rate=0.1)
    way = 0.1 * sum(0.005 + 0.995 * left**2 for left in (1.0, 0.75, 0.5, 0.25))
    torch.testing.assert_close(found.latent - starts[:, 0], (-way * slope.sign()).expand(2, WIDTH), rtol=1e-4, atol=0)


def test_nadam_is_the_papers() -> None:
    """Dozat 2016, algorithm 8, by hand, its momentum constant; the rate falls by the cube."""
    _, images, starts = draw(1, starts=1)
    found = descend(decode, loss, images, starts, method="nadam", steps=5, rate=0.1, tolerance=0.0, patience=9)
    z, m, n = starts[0, 0].clone(), torch.zeros(WIDTH), torch.zeros(WIDTH)
    for t in range(1, 6):
        slope = 2 * (z - FORMS @ images[0].flatten())
        m, n = 0.85 * m + 0.15 * slope, 0.99 * n + 0.01 * slope**2
        ahead = 0.85 * m / (1 - 0.85 ** (t + 1)) + 0.15 * slope / (1 - 0.85**t)
        z = z - 0.1 * (0.002 + 0.998 * (1 - (t - 1) / 5) ** 3) * ahead / ((n / (1 - 0.99**t)).sqrt() + 1e-8)
    torch.testing.assert_close(found.latents[0, 0], z, rtol=1e-4, atol=1e-5)


@every_method
def test_what_it_is_given_is_left_as_it_was(method: str) -> None:
    _, images, starts = draw(2)
    images, starts = images.double(), starts.double()
    kept = images.clone(), starts.clone()
    by(method, images, starts, steps=5)
    assert torch.equal(images, kept[0]) and torch.equal(starts, kept[1])


@every_method
def test_the_best_starts_alone_go_on(method: str) -> None:
    """As if they had been the only ones, from where they stood."""
    _, images, starts = draw(5)
    found = by(method, images, starts, steps=9, keep=1, scout=0, tolerance=0.0)
    first = values_of(images.double(), starts.double())
    torch.testing.assert_close(found.trajectory[0], first)
    alone = by(method, images, starts[torch.arange(5), first.argmin(1)][:, None], steps=9, tolerance=0.0)
    torch.testing.assert_close(found.latent, alone.latent, rtol=0, atol=1e-9)
    assert bool((found.trajectory[1:].isnan().sum(2) == 2).all())


@every_method
def test_starts_are_kept_by_their_best_after_the_scouting_steps(method: str) -> None:
    _, images, starts = draw(7)
    options = SLOWLY[method] | {"steps": 3, "tolerance": 0.0}
    full, found = (by(method, images, starts, **options, **more) for more in ({}, {"keep": 2, "scout": 1}))
    torch.testing.assert_close(found.trajectory[:2], full.trajectory[:2], rtol=0, atol=1e-9)
    gone, worst = found.trajectory[2:].isnan(), full.trajectory[:2].amin(0).argmax(1)
    assert bool(gone[:, torch.arange(7), worst].all()) and bool((gone.sum(2) == 1).all())
    assert torch.equal(by(method, images, starts, **options, keep=3).loss, full.loss)


def test_an_unknown_method_names_the_nearest() -> None:
    _, images, starts = draw(1)
    with pytest.raises(InputError, match=r"lbfgs.*l-bfgs"):
        descend(decode, loss, images, starts, method="lbfgs")


def test_gauss_newton_refuses_wide_latents() -> None:
    with pytest.raises(InputError, match=r"65.*at most 64"):
        descend(decode, loss, torch.zeros(1, 1, SIZE, SIZE), torch.zeros(1, 1, 65), method="gauss-newton")


# Where there is curvature: other routes to the same minimum


def bent(latent: Tensor) -> Tensor:
    """A picture that is no plane in its latent (2 numbers): Rosenbrock's valley, as two pixels whose squares it is."""
    x, y = latent.unbind(1)
    return torch.stack([10 * (y - x**2), 1 - x], 1).view(-1, 1, 1, 2)


@pytest.mark.parametrize(("method", "steps"), [("l-bfgs", 60), ("gauss-newton", 15)])
def test_curved_valley_ends_where_scipy_ends(method: str, steps: int) -> None:
    starts = torch.tensor([[-1.2, 1.0], [0.0, 0.0], [2.0, -1.0]], dtype=torch.float64)
    found = descend(
        bent, loss, torch.zeros((3, 1, 1, 2), dtype=torch.float64), starts[:, None], method=method, steps=steps, tolerance=0.0,
        residual=lambda form, image, latent: ((form - image).flatten(1), torch.ones(2, dtype=form.dtype)), huber=float("inf"),
    )  # fmt: skip
    for i, start in enumerate(starts.numpy()):
        other = scipy.optimize.minimize(lambda z: 100 * (z[1] - z[0] ** 2) ** 2 + (1 - z[0]) ** 2, start, method="L-BFGS-B", tol=1e-12)
        np.testing.assert_allclose(found.latent[i].numpy(), other.x, atol=2e-4)
        np.testing.assert_allclose(found.latent[i].numpy(), [1.0, 1.0], atol=1e-5)


def crooked(seed: int = 2) -> Tensor:
    """(Z, pixels) forms of very different sizes that lean on each other, float64."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn((WIDTH, WIDTH), generator=generator, dtype=torch.float64) * torch.tensor([3.0, 1.0, 1.0, 0.3], dtype=torch.float64)
    return mix @ torch.randn((WIDTH, SIZE * SIZE), generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("ridge", [0.0, 5.0])
def test_gauss_newton_takes_two_steps_to_least_squares(ridge: float) -> None:
    """By the normal equations, and by a larger least-squares problem."""
    forms, (_, images, starts) = crooked(), draw(4)
    images, flat = images.double(), images.double().flatten(1)
    found = descend(
        lambda z: (z @ forms).view(-1, 1, SIZE, SIZE), lambda form, image, z: ((form - image) ** 2).sum((1, 2, 3)) / 2 + ridge * (z**2).mean(1),
        images, starts.double(), method="gauss-newton", steps=2, residual=left, huber=float("inf"), ridge=ridge, rate=1e-5,
    )  # fmt: skip
    hold = 2 * ridge / WIDTH * torch.eye(WIDTH, dtype=torch.float64)
    normal = torch.linalg.solve(forms @ forms.T + hold, forms @ flat.T).T
    larger = torch.linalg.lstsq(
        torch.cat([forms.T, hold.sqrt()]), torch.cat([flat.T, torch.zeros((WIDTH, 4), dtype=torch.float64)])
    ).solution.T
    torch.testing.assert_close(normal, larger, rtol=0, atol=1e-8)
    torch.testing.assert_close(found.latent, normal, rtol=0, atol=1e-6)


def test_gauss_newton_comes_to_the_least_sum_of_absolute_values() -> None:
    """Of all bands of a pyramid: the optimum of a linear programme."""
    forms, (codes, _, starts) = crooked(), draw(2)
    noise = torch.randn((2, SIZE * SIZE), generator=torch.Generator().manual_seed(3), dtype=torch.float64) ** 3  # long tails
    images = (codes.double() @ forms + noise).view(-1, 1, SIZE, SIZE)

    def made(latent: Tensor) -> Tensor:
        return (latent @ forms).view(-1, 1, SIZE, SIZE)

    found = descend(
        made, lambda form, image, z: pyramid_l1(form, image), images, starts.double(), method="gauss-newton", steps=20, tolerance=0.0
    )
    for i in range(2):
        zero = torch.zeros((1, WIDTH), dtype=torch.float64)
        at, weights = pyramid_residual(made(zero), images[i : i + 1], zero)
        slopes = (pyramid_residual(made(torch.eye(WIDTH, dtype=torch.float64)), images[i : i + 1], zero)[0] - at).numpy()
        bound, eye = at[0].numpy(), np.eye(at.shape[1])
        best = scipy.optimize.linprog(  # least weighted t of |at + z @ slopes| <= t
            np.r_[np.zeros(WIDTH), weights.numpy()],
            np.vstack([np.hstack([slopes.T, -eye]), np.hstack([-slopes.T, -eye])]),
            np.r_[-bound, bound], bounds=[(None, None)] * (WIDTH + len(bound)),
        )  # fmt: skip
        assert best.fun <= float(found.loss[i]) + 1e-9
        assert float(found.loss[i]) == pytest.approx(best.fun, rel=2e-3)


def test_pyramid_residual_weighs_up_to_the_pyramids_loss() -> None:
    one, two = torch.randn((2, 3, 1, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values, weights = pyramid_residual(one, two, torch.zeros(3, 1))
    torch.testing.assert_close((weights * values.abs()).sum(1), pyramid_l1(one, two))


# The Jacobian


@pytest.fixture
def network() -> nn.Module:
    """What decoders are made of, float64, 6 numbers -> (1, 8, 8), as they run: channels last, norms at rest."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = nn.Sequential(
            nn.Linear(6, 32), nn.Unflatten(1, (8, 2, 2)), nn.BatchNorm2d(8), nn.LeakyReLU(0.2), nn.ConvTranspose2d(8, 8, 4, 2, 1, bias=False),
            nn.BatchNorm2d(8), nn.SiLU(), nn.Conv2d(8, 4, 3, padding=1), nn.PixelShuffle(2), nn.Tanh(),
        )  # fmt: skip
        for norm in (body[2], body[5]):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2.0)
    return body.double().eval().requires_grad_(False).to(memory_format=torch.channels_last)


def draw_latents(count: int) -> Tensor:
    return torch.randn((count, 6), generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def reverse(function: object, latent: Tensor) -> Tensor:
    """(rows, Z, M) by reverse mode, a row at a time."""
    return torch.stack([torch.autograd.functional.jacobian(function, row[None])[0, :, 0].T for row in latent])


def differences(function: object, latent: Tensor, nudge: float) -> Tensor:
    """(rows, Z, M), central ones."""
    units = nudge * torch.eye(latent.shape[1], dtype=latent.dtype)
    return torch.stack([(function(latent + unit) - function(latent - unit)) / (2 * nudge) for unit in units], 1)


def test_jacobian_is_that_of_finite_differences_and_of_reverse_mode(network: nn.Module) -> None:
    latent, image = draw_latents(3), torch.zeros((1, 1, 8, 8), dtype=torch.float64)

    def function(z: Tensor) -> Tensor:
        return pyramid_residual(network(z), image, z)[0]

    found = jacobian(function, latent, 64)
    assert found.shape == (3, 6, 64 + 16 + 4 + 1) and not found.requires_grad
    torch.testing.assert_close(found, differences(function, latent, 1e-6), rtol=0, atol=1e-8)
    torch.testing.assert_close(found, reverse(function, latent), rtol=0, atol=1e-12)


def test_jacobian_in_pieces_is_the_whole(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    latent, whole = draw_latents(3), jacobian(lambda z: network(z).flatten(1), draw_latents(3), 64)
    for pixels in (1, 64 * 3 * 4, 10**9):
        monkeypatch.setattr(forward_mode, "AT_ONCE", pixels)
        torch.testing.assert_close(jacobian(lambda z: network(z).flatten(1), latent, 64), whole, rtol=0, atol=1e-12)


def shifted(z: Tensor) -> Tensor:
    """(n, 6) -> (n, 1, 8, 8): a smooth picture shifted and turned by its latent; sampled from a grid, which has no forward mode."""
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, 16, dtype=z.dtype)] * 2, indexing="ij")
    picture = torch.exp(-8 * ((x - 0.2) ** 2 + 2 * y**2)) + torch.exp(-8 * (2 * (x + 0.3) ** 2 + (y - 0.3) ** 2))
    line = torch.linspace(-0.8, 0.8, 8, dtype=z.dtype)
    turned = torch.stack(torch.meshgrid(line, line, indexing="xy"), 2) @ (torch.eye(2) + 0.3 * z[:, :4].view(-1, 1, 2, 2))
    return F.grid_sample(picture.expand(len(z), 1, -1, -1), turned + 0.3 * z[:, None, None, 4:], mode="bicubic", align_corners=False)


def test_gauss_newton_goes_by_differences_where_there_is_no_forward_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, starts = 0.3 * draw_latents(3), torch.zeros((3, 1, 6), dtype=torch.float64)
    with pytest.raises(NotImplementedError):
        jacobian(lambda z: shifted(z).flatten(1), wanted, 64)

    def found() -> Descent:
        return descend(shifted, lambda form, image, z: pyramid_l1(form, image), shifted(wanted), starts, method="gauss-newton", steps=8)

    whole = found()
    assert bool((whole.loss < 0.05 * whole.trajectory[0, :, 0]).all())
    monkeypatch.setattr(forward_mode, "NUDGED", 5)
    torch.testing.assert_close(found().latents, whole.latents, rtol=0, atol=1e-9)


def test_differences_are_what_forward_mode_says(network: nn.Module) -> None:
    latent, images = draw_latents(3), torch.zeros((3, 1, 8, 8), dtype=torch.float64)
    problem = Problem(network, lambda form, image, z: pyramid_l1(form, image), images, 1)
    rows, (left, _) = torch.arange(3), pyramid_residual(network(latent), images, latent)
    exact, near = (GaussNewton(problem, latent, pyramid_residual, exact=way)._columns(latent, rows, left, 64) for way in (True, False))
    torch.testing.assert_close(near, exact, rtol=0, atol=5e-3)


def test_jacobian_is_the_same_in_threads(network: nn.Module) -> None:
    latents = draw_latents(48)[:, None]
    alone = [jacobian(lambda z: network(z).flatten(1), z, 64) for z in latents]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(pool.map(lambda z: jacobian(lambda z: network(z).flatten(1), z, 64), latents), alone, strict=True):
            assert torch.equal(one, other)


def test_gauss_newton_in_pieces_is_the_whole(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    images, starts = network(draw_latents(3)), torch.zeros((3, 2, 6), dtype=torch.float64)
    starts[:, 1] = 0.3

    def found() -> Descent:
        return descend(network, lambda form, image, z: pyramid_l1(form, image), images, starts, method="gauss-newton", steps=4)

    whole = found()
    monkeypatch.setattr(forward_mode, "HELD", 1)
    torch.testing.assert_close(found().latents, whole.latents, rtol=0, atol=1e-9)
    assert bool((whole.loss < 0.2 * whole.trajectory[0].amin(1)).all())
