"""Descent in the latent space: the nearest form that the generator can make, from many starts, the best kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Decode = Callable[[Tensor], Tensor]
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # (decoded, image rows, latent) -> (rows,)


@dataclass(frozen=True, eq=False)
class Descent:
    """For each of B images: ``latent`` (B, Z), ``decoded`` (B, 1, S, S), ``loss`` (B,), the winning ``start`` (B,) int, ``steps`` (B,) int
    that were spent, and ``trajectory`` (T + 1, B, K): each start's loss before each step, NaN once its image had stopped."""

    latent: Tensor
    decoded: Tensor
    loss: Tensor
    start: Tensor
    steps: Tensor
    trajectory: Tensor


def descend(
    decode: Decode,
    loss: Loss,
    images: Tensor,
    starts: Tensor,
    *,
    steps: int = 30,
    rate: float = 0.05,
    enough: float | None = None,
    tolerance: float = 2e-3,
    patience: int = 8,
) -> Descent:
    """Adam on ``loss(decode(z), image, z)`` from ``starts`` (B, K, Z) for ``images`` (B, ...), all rows at once.

    An image stops when its best loss is at most ``enough`` (the residual of a good part), or has not fallen by the share
    ``tolerance`` for ``patience`` steps. ``rate`` is in units of each latent's spread over the starts' population and falls to a
    tenth. Every row is on its own: neither its neighbours nor their number change its answer (beyond rounding).
    """
    count, tries, width = starts.shape
    latent = starts.reshape(count * tries, width).clone()
    first, second = torch.zeros_like(latent), torch.zeros_like(latent)
    best, best_latent = torch.full((count * tries,), torch.inf, device=latent.device), latent.clone()
    record, spent = torch.full((count, steps + 1), torch.inf, device=latent.device), torch.full((count,), steps, device=latent.device)
    trajectory = torch.full((steps + 1, count, tries), torch.nan, device=latent.device)
    active = torch.arange(count, device=latent.device)
    for step in range(steps + 1):
        rows = (active[:, None] * tries + torch.arange(tries, device=latent.device)).flatten()
        z = latent[rows].requires_grad_(step < steps)
        with torch.set_grad_enabled(step < steps):
            values = loss(decode(z), images[active].repeat_interleave(tries, 0), z)
        better = values.detach() < best[rows]
        best[rows] = torch.where(better, values.detach(), best[rows])
        best_latent[rows] = torch.where(better[:, None], z.detach(), best_latent[rows])
        trajectory[step, active] = values.detach().reshape(-1, tries)
        record[active, step] = best[rows].reshape(-1, tries).amin(1)
        stopped = _stopped(record[active], step, enough, tolerance, patience)
        spent[active[stopped]] = step
        if step == steps or bool(stopped.all()):
            break
        (gradient,) = torch.autograd.grad(values.sum(), z)
        _adam(latent, first, second, rows, gradient, step, rate * (0.1 + 0.9 * (1 - step / steps)))
        active = active[~stopped]
    winner = best.reshape(count, tries).argmin(1)
    rows = torch.arange(count, device=latent.device) * tries + winner
    with torch.no_grad():
        decoded = decode(best_latent[rows])
    return Descent(best_latent[rows], decoded, best[rows], winner, spent, trajectory)


def _stopped(record: Tensor, step: int, enough: float | None, tolerance: float, patience: int) -> Tensor:
    now = record[:, step]
    stopped = torch.zeros_like(now, dtype=torch.bool) if enough is None else now <= enough
    if step >= patience:
        stopped |= now > record[:, step - patience] * (1 - tolerance)
    return stopped


def _adam(latent: Tensor, first: Tensor, second: Tensor, rows: Tensor, gradient: Tensor, step: int, rate: float) -> None:
    first[rows] = 0.9 * first[rows] + 0.1 * gradient
    second[rows] = 0.99 * second[rows] + 0.01 * gradient**2
    mean, size = first[rows] / (1 - 0.9 ** (step + 1)), second[rows] / (1 - 0.99 ** (step + 1))
    latent[rows] -= rate * mean / (size.sqrt() + 1e-8)
