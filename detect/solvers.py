"""What moves latents downhill: each solver holds N rows, says where they are (``look``) and moves those that it is told to (``move``).

A row is one start of one image. Nothing here sums over rows but to take all their gradients at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Decode = Callable[[Tensor], Tensor]
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # (decoded, image rows, latent) -> (rows,)

HISTORY = 8  # steps whose change of gradient L-BFGS keeps
ARMIJO = 1e-4  # share of the promised fall that a step must bring
TRIALS = 6  # lengths tried along a direction
CURVED = 1e-8  # cosine of step and change of gradient, below which a step tells no curvature


@dataclass(frozen=True, eq=False)
class Problem:
    """``loss(decode(z), image, z)`` for rows of which each image has ``tries``."""

    decode: Decode
    loss: Loss
    images: Tensor
    tries: int

    def values(self, latent: Tensor, rows: Tensor) -> Tensor:
        """(n, Z) at ``rows`` (n,) of all -> (n,)."""
        return self.loss(self.decode(latent), self.images[rows // self.tries], latent)

    def slopes(self, latent: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(n,) values and (n, Z) gradients."""
        with torch.enable_grad():
            latent = latent.detach().requires_grad_()
            values = self.values(latent, rows)
            (gradient,) = torch.autograd.grad(values.sum(), latent)
        return values.detach(), gradient


class Sgd:
    """Gradient descent with Polyak's momentum; ``rate`` a unit of gradient, falling to FALLEN of it, by POWER 1 evenly."""

    MOMENTUM, POWER, FALLEN = 0.9, 1, 0.02  # over the kinks of an L1 loss a step that stays long goes to and fro

    def __init__(self, problem: Problem, latent: Tensor, rate: float = 1.0) -> None:
        self.problem, self.latent, self.rate = problem, latent, rate
        self.mean = torch.zeros_like(latent)

    def look(self, rows: Tensor, moving: bool) -> tuple[Tensor, Tensor]:
        """Where the rows are, (n, Z), and their losses (n,); ``moving``: they will be moved next, so that the graph is kept."""
        self.z = self.latent[rows].requires_grad_(moving)
        with torch.set_grad_enabled(moving):
            self.losses = self.problem.values(self.z, rows)
        return self.z.detach(), self.losses.detach()

    def move(self, rows: Tensor, done: float) -> None:
        """The rows last looked at, one step on; ``done``: share of the steps behind them."""
        (gradient,) = torch.autograd.grad(self.losses.sum(), self.z)
        self._update(rows, gradient, self.rate * (self.FALLEN + (1 - self.FALLEN) * (1 - done) ** self.POWER))

    def _update(self, rows: Tensor, gradient: Tensor, rate: float) -> None:
        self.mean[rows] = self.MOMENTUM * self.mean[rows] + gradient
        self.latent[rows] -= rate * self.mean[rows]


class Adam(Sgd):
    """Each number of a latent by its own gradients' size (Kingma and Ba 2015); ``rate``: the longest step of one number."""

    MOMENTUM, POWER, FALLEN = 0.8, 2, 0.005  # measured: of the same steps these end lowest on a U-Net's loss

    def __init__(self, problem: Problem, latent: Tensor, rate: float = 0.05) -> None:
        super().__init__(problem, latent, rate)
        self.square, self.step = torch.zeros_like(latent), 0

    def _update(self, rows: Tensor, gradient: Tensor, rate: float) -> None:
        self.step += 1
        self.mean[rows] = self.MOMENTUM * self.mean[rows] + (1 - self.MOMENTUM) * gradient
        self.square[rows] = 0.99 * self.square[rows] + 0.01 * gradient**2
        size = self.square[rows] / (1 - 0.99**self.step)
        self.latent[rows] -= rate * self._drift(rows, gradient) / (size.sqrt() + 1e-8)

    def _drift(self, rows: Tensor, gradient: Tensor) -> Tensor:
        """(n, Z): the mean of the gradients, freed of the zeros that it began with."""
        return self.mean[rows] / (1 - self.MOMENTUM**self.step)


class Nadam(Adam):
    """Adam that looks ahead as Nesterov's momentum does: the newest gradient counts once more (Dozat 2016)."""

    MOMENTUM, POWER, FALLEN = 0.85, 3, 0.002  # measured likewise

    def _drift(self, rows: Tensor, gradient: Tensor) -> Tensor:
        b = self.MOMENTUM
        return b * self.mean[rows] / (1 - b ** (self.step + 1)) + (1 - b) * gradient / (1 - b**self.step)


class LBFGS:
    """Quasi-Newton with a limited memory (Nocedal and Wright 2006, algorithms 7.4 and 3.1): two loops over the last steps give each row
    its direction, and each row backtracks along its own until the fall is enough. A row that finds none forgets its past and tries shorter.

    ``rate``: the root mean square of its first step's numbers.
    """

    def __init__(self, problem: Problem, latent: Tensor, rate: float = 0.1) -> None:
        self.problem, self.latent, count = problem, latent, len(latent)
        self.value, self.gradient = latent.new_full((count,), torch.inf), torch.zeros_like(latent)
        self.known = torch.zeros(count, dtype=torch.bool, device=latent.device)
        self.reach = latent.new_full((count,), rate * latent.shape[1] ** 0.5)  # of a step that knows no curvature
        self.moves, self.changes = latent.new_zeros((HISTORY, *latent.shape)), latent.new_zeros((HISTORY, *latent.shape))
        self.weight = latent.new_zeros((HISTORY, count))  # 1 / (move . change); 0: nothing known
        self.slot = 0

    def look(self, rows: Tensor, moving: bool) -> tuple[Tensor, Tensor]:
        """As :meth:`Sgd.look`; what the last search found is known already."""
        fresh = rows[~self.known[rows]]
        if len(fresh) and moving:
            self.value[fresh], self.gradient[fresh] = self.problem.slopes(self.latent[fresh], fresh)
            self.known[fresh] = True
        elif len(fresh):
            with torch.no_grad():
                self.value[fresh] = self.problem.values(self.latent[fresh], fresh)
        return self.latent[rows], self.value[rows]

    def move(self, rows: Tensor, done: float) -> None:
        start, gradient = self.latent[rows], self.gradient[rows]
        direction = self._direction(rows, gradient)
        found = self._search(rows, direction)
        move, change = self.latent[rows] - start, self.gradient[rows] - gradient
        bend = (move * change).sum(1)
        curved = found & (bend > CURVED * move.norm(dim=1) * change.norm(dim=1))
        self.moves[self.slot, rows], self.changes[self.slot, rows] = move, change
        self.weight[self.slot, rows] = torch.where(curved, 1 / torch.where(curved, bend, 1.0), 0.0)
        lost = rows[~found]
        self.weight[:, lost] = 0.0
        self.reach[lost] *= 0.25
        self.slot = (self.slot + 1) % HISTORY

    def _direction(self, rows: Tensor, gradient: Tensor) -> Tensor:
        """(n, Z): minus the approximate inverse Hessian times the gradient; of length ``reach`` where nothing is known of it."""
        back = [(self.slot - 1 - k) % HISTORY for k in range(HISTORY)]  # newest first
        moves, changes, weight = self.moves[:, rows], self.changes[:, rows], self.weight[:, rows]
        q, share = gradient.clone(), {}
        scale = torch.zeros_like(gradient[:, 0])
        for k in back:
            share[k] = weight[k] * (moves[k] * q).sum(1)
            q -= share[k][:, None] * changes[k]
            newest = (scale == 0) & (weight[k] > 0)
            scale = torch.where(newest, 1 / (weight[k] * (changes[k] ** 2).sum(1)).clamp_min(1e-30), scale)
        length = self.reach[rows] / gradient.norm(dim=1).clamp_min(1e-30)
        q *= torch.where(scale > 0, scale, length)[:, None]
        for k in reversed(back):
            q += (share[k] - weight[k] * (changes[k] * q).sum(1))[:, None] * moves[k]
        return -q

    def _search(self, rows: Tensor, direction: Tensor) -> Tensor:
        """Moves each row along its direction as far as its loss falls enough; (n,) bool: those that moved."""
        slope, length = (self.gradient[rows] * direction).sum(1), torch.ones_like(direction[:, 0])
        found = torch.zeros_like(length, dtype=torch.bool)
        trying = (slope < 0).nonzero()[:, 0]
        for _ in range(TRIALS):
            if not len(trying):
                break
            at, t = rows[trying], length[trying]
            latent = self.latent[at] + t[:, None] * direction[trying]
            value, gradient = self.problem.slopes(latent, at)
            fell = value <= self.value[at] + ARMIJO * t * slope[trying]
            # the least of the parabola through what is known, within a half and a tenth
            least = -slope[trying] * t**2 / (2 * (value - self.value[at] - slope[trying] * t)).clamp_min(1e-30)
            length[trying] = torch.where(least.isfinite(), least, 0.0).clamp(0.1 * t, 0.5 * t)
            self.latent[at[fell]], self.value[at[fell]], self.gradient[at[fell]] = latent[fell], value[fell], gradient[fell]
            found[trying[fell]] = True
            trying = trying[~fell]
        return found
