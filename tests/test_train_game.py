"""The game's losses by what their best judge says, the penalties by slopes known in closed form, and all gradients against finite
differences."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from cad.errors import InputError
from train.game import GAMES, PENALTIES, feature_matching, judge_loss, maker_loss, noised, r1, wgan_gp

torch.set_num_threads(1)  # on tensors this small a second thread only waits, and waits long on a busy machine

KINDS = sorted(GAMES)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Judge(nn.Module):
    """A smooth one, so that finite differences are good to many places: it has no kinks."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 3, 3, 2, 1), nn.Softplus(), nn.Conv2d(3, 1, 3, 1, 1))
        self.double()
        with torch.no_grad():
            for k, weight in enumerate(self.parameters()):
                weight.copy_(0.7 * noise(*weight.shape, seed=k))

    def forward(self, image: Tensor) -> Tensor:
        return self.body(image).mean((1, 2, 3))


def best_realness(kind: str, real_share: float, smoothing: float = 0.0) -> float:
    """What the judge says where so large a share of what it sees is real, found by looking at all answers."""
    answers = torch.linspace(-4, 4, 8001, dtype=torch.float64)
    nothing = torch.zeros_like(answers)
    cost = real_share * (judge_loss(kind, answers, nothing, smoothing) - judge_loss(kind, nothing, nothing, smoothing))
    cost = cost + (1 - real_share) * judge_loss(kind, nothing, answers)
    return float(answers[cost.argmin()])


def test_the_best_judge_of_each_game() -> None:
    for p in (0.1, 0.4, 0.9):
        assert best_realness("cross-entropy", p) == pytest.approx(torch.logit(torch.tensor(p)).item(), abs=1e-3)
        assert best_realness("least-squares", p) == pytest.approx(2 * p - 1, abs=1e-3)
        assert best_realness("hinge", p) == pytest.approx(1 if p > 0.5 else -1, abs=1e-3)
        assert best_realness("wasserstein", p) == (4 if p > 0.5 else -4)  # as far as it is let


def test_one_sided_smoothing_scales_what_the_best_judge_believes() -> None:
    for p in (0.2, 0.5, 0.8):
        believed = torch.sigmoid(torch.tensor(best_realness("cross-entropy", p, smoothing=0.1))).item()
        assert believed == pytest.approx(0.9 * p, abs=1e-3)  # Salimans et al. 2016: alpha p / (p + q), alpha the label of real


def test_cross_entropy_is_that_of_probabilities_and_of_torch() -> None:
    real, made = noise(50), noise(50, seed=1)
    by_torch = F.binary_cross_entropy_with_logits
    wanted = by_torch(real, torch.full_like(real, 0.75), reduction="none") + by_torch(made, torch.zeros_like(made), reduction="none")
    torch.testing.assert_close(judge_loss("cross-entropy", real, made, 0.25), wanted)
    torch.testing.assert_close(maker_loss("cross-entropy", made), -torch.log(torch.sigmoid(made)))


def test_an_overconfident_judge_costs_a_finite_sum() -> None:
    sure = torch.tensor([-1e4, 1e4])
    assert judge_loss("cross-entropy", sure, -sure).tolist() == pytest.approx([2e4, 0])
    assert maker_loss("cross-entropy", sure).tolist() == pytest.approx([1e4, 0])


@pytest.mark.parametrize("kind", KINDS)
def test_real_and_made_exchanged_cost_the_same(kind: str) -> None:
    real, made = noise(20), noise(20, seed=1)
    torch.testing.assert_close(judge_loss(kind, real, made), judge_loss(kind, -made, -real))


@pytest.mark.parametrize("kind", KINDS)
def test_maker_gains_by_seeming_real_and_judge_by_telling_apart(kind: str) -> None:
    answers, nothing = torch.linspace(-0.9, 0.9, 19, dtype=torch.float64), torch.zeros(19, dtype=torch.float64)
    for falling in (maker_loss(kind, answers), judge_loss(kind, answers, nothing), judge_loss(kind, nothing, -answers)):
        assert all(b < a for a, b in pairwise(falling.tolist()))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_the_losses(kind: str) -> None:
    real, made = noise(6).requires_grad_(), noise(6, seed=1).requires_grad_()
    assert min(float((x.detach().abs() - 1).abs().min()) for x in (real, made)) > 1e-3  # off the hinge's kinks
    assert torch.autograd.gradcheck(lambda a, b: judge_loss(kind, a, b), (real, made))
    assert torch.autograd.gradcheck(lambda b: maker_loss(kind, b), (made,))
    if kind == "cross-entropy":
        assert torch.autograd.gradcheck(lambda a, b: judge_loss(kind, a, b, 0.1), (real, made))


def test_a_game_that_is_not_known_and_labels_that_are_not_there_are_told() -> None:
    with pytest.raises(InputError, match='"hing"; wanted did you mean "hinge"'):
        judge_loss("hing", noise(2), noise(2))
    with pytest.raises(InputError, match="no labels"):
        judge_loss("hinge", noise(2), noise(2), 0.1)
    with pytest.raises(InputError, match=r"found 0\.5; wanted 0 to below 0\.5"):
        judge_loss("cross-entropy", noise(2), noise(2), 0.5)


def test_penalties_of_a_linear_judge_are_its_weights() -> None:
    weight, real, made, share = noise(1, 4, 4), noise(3, 1, 4, 4, seed=1), noise(3, 1, 4, 4, seed=2), torch.tensor([0.1, 0.5, 0.8])
    size = weight.square().sum()
    torch.testing.assert_close(r1(lambda x: (x * weight).sum((1, 2, 3)), real), size.expand(3))
    torch.testing.assert_close(wgan_gp(lambda x: (x * weight).sum((1, 2, 3)), real, made, share), ((size.sqrt() - 1) ** 2).expand(3))


def test_wgan_gp_looks_between_real_and_made() -> None:
    real, made, share = noise(3, 1, 4, 4), noise(3, 1, 4, 4, seed=1), torch.tensor([0.0, 0.3, 1.0])
    between = torch.stack([made[0], 0.3 * real[1] + 0.7 * made[1], real[2]])
    size = between.square().sum((1, 2, 3)).sqrt()  # the slope of half a square is the point itself
    torch.testing.assert_close(wgan_gp(lambda x: x.square().sum((1, 2, 3)) / 2, real, made, share), (size - 1) ** 2)


def test_the_slope_is_that_of_finite_differences() -> None:
    judge, image = Judge(), noise(1, 1, 4, 4)
    steps = 1e-5 * torch.eye(16, dtype=torch.float64).view(16, 1, 4, 4)
    with torch.no_grad():
        slope = (judge(image + steps) - judge(image - steps)) / 2e-5
    assert r1(judge, image).item() == pytest.approx(slope.square().sum().item(), rel=1e-7)


@pytest.mark.parametrize("name", sorted(PENALTIES))
def test_gradients_of_the_penalties_by_the_judges_weights(name: str) -> None:
    judge, real, made, share = Judge(), noise(3, 1, 6, 6), noise(3, 1, 6, 6, seed=1), torch.tensor([0.2, 0.5, 0.9])
    weights = {k: v.detach().clone().requires_grad_() for k, v in judge.named_parameters()}

    def penalty(*values: Tensor) -> Tensor:
        return PENALTIES[name](lambda x: functional_call(judge, dict(zip(weights, values, strict=True)), (x,)), real, made, share)

    assert torch.autograd.gradcheck(penalty, tuple(weights.values()))


@pytest.mark.parametrize("name", sorted(PENALTIES))
def test_a_rows_penalty_does_not_see_its_batch(name: str) -> None:
    judge, real, made, share = Judge(), noise(4, 1, 6, 6), noise(4, 1, 6, 6, seed=1), torch.tensor([0.0, 0.3, 0.6, 1.0])
    alone = torch.cat([PENALTIES[name](judge, real[i : i + 1], made[i : i + 1], share[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(PENALTIES[name](judge, real, made, share), alone)


@pytest.mark.parametrize("name", sorted(PENALTIES))
def test_penalties_pull_at_the_judge_alone_and_survive_a_flat_one(name: str) -> None:
    weight, real, made = torch.zeros(1, 4, 4, dtype=torch.float64, requires_grad=True), noise(2, 1, 4, 4), noise(2, 1, 4, 4, seed=1)
    real.requires_grad_()
    made.requires_grad_()
    with torch.no_grad():  # a caller that only looks gets an answer too
        looked = PENALTIES[name](lambda x: (x * weight).sum((1, 2, 3)), real, made, torch.tensor([0.2, 0.7]))
    found = PENALTIES[name](lambda x: (x * weight).sum((1, 2, 3)), real, made, torch.tensor([0.2, 0.7]))
    assert found.tolist() == looked.tolist() == [0.0 if name == "r1" else 1.0] * 2
    found.sum().backward()
    assert bool(weight.grad.isfinite().all()) and real.grad is None and made.grad is None


def test_a_judge_that_gives_no_number_a_row_is_told() -> None:
    with pytest.raises(ValueError, match=r"gave \(2, 1\) for 2 rows"):
        r1(lambda x: x.mean((2, 3)), noise(2, 1, 4, 4))


def test_noise_is_added_as_strong_as_said() -> None:
    images, extra = noise(2, 1, 4, 4).requires_grad_(), noise(2, 1, 4, 4, seed=1)
    torch.testing.assert_close((noised(images, 0.3, extra) - images) / 0.3, extra)
    assert torch.equal(noised(images, 0.0, extra), images)
    assert torch.autograd.gradcheck(lambda x: noised(x, 0.3, extra), (images,))


def test_feature_matching_compares_means_and_not_rows() -> None:
    features = [noise(5, 3, 4, 4), noise(5, 7, seed=1)]
    turned = [f[torch.tensor([3, 1, 4, 0, 2])] for f in features]
    assert feature_matching(turned, features).item() == pytest.approx(0, abs=1e-30)
    moved = [f + 0.5 * noise(*f.shape[1:], seed=2).sign() for f in features]
    assert feature_matching(moved, features).item() == pytest.approx(0.25)  # every feature's mean is half a unit off, in either layer


def test_gradients_of_feature_matching() -> None:
    made, real = (
        [noise(4, 2, 3, 3).requires_grad_(), noise(4, 5, seed=1).requires_grad_()],
        [noise(4, 2, 3, 3, seed=2), noise(4, 5, seed=3)],
    )
    assert torch.autograd.gradcheck(lambda *m: feature_matching(m, real), tuple(made))


def test_feature_matching_pulls_at_the_maker_alone() -> None:
    made, real = noise(4, 5).requires_grad_(), noise(4, 5, seed=1).requires_grad_()
    feature_matching([made], [real]).backward()
    assert float(made.grad.abs().max()) > 0 and real.grad is None


def test_a_penalty_takes_a_judge_of_pairs_joined_in_a_row() -> None:
    image, code, by_image, by_code = noise(3, 1, 4, 4), noise(3, 5, seed=1), noise(16, seed=2), noise(5, seed=3)
    judge: Callable[[Tensor], Tensor] = lambda row: row[:, :16] @ by_image + (row[:, 16:] @ by_code).tanh()  # noqa: E731
    slope = by_image.square().sum() + (1 - (code @ by_code).tanh() ** 2) ** 2 * by_code.square().sum()
    torch.testing.assert_close(r1(judge, torch.cat([image.flatten(1), code], 1)), slope)
