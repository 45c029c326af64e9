"""Descent in the latent space: the nearest form that the generator can make, from many starts, the best kept."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from cad.errors import InputError, nearest
from detect.forward_mode import WIDEST, GaussNewton, Residual, pyramid_residual
from detect.solvers import LBFGS, Adam, Decode, Loss, Nadam, Problem, Sgd

METHODS = {"sgd": Sgd, "adam": Adam, "nadam": Nadam, "l-bfgs": LBFGS, "gauss-newton": GaussNewton}


@dataclass(frozen=True, eq=False)
class Descent:
    """For each of B images: ``latent`` (B, Z), ``decoded`` (B, 1, S, S), ``loss`` (B,), the winning ``start`` (B,) int, ``steps`` (B,) int
    that were spent, and ``trajectory`` (T + 1, B, K): each start's loss before each step, NaN once it or its image had stopped;
    ``latents`` (B, K, Z): the best that each start came to."""

    latent: Tensor
    decoded: Tensor
    loss: Tensor
    start: Tensor
    steps: Tensor
    trajectory: Tensor
    latents: Tensor


def descend(
    decode: Decode,
    loss: Loss,
    images: Tensor,
    starts: Tensor,
    *,
    method: str = "adam",
    steps: int = 30,
    rate: float | None = None,
    enough: float | None = None,
    tolerance: float = 2e-3,
    patience: int = 8,
    keep: int | None = None,
    scout: int = 0,
    residual: Residual = pyramid_residual,
    huber: float = 0.03,
    ridge: float = 0.0,
    exact: bool = True,
) -> Descent:
    """Down on ``loss(decode(z), image, z)`` from ``starts`` (B, K, Z) for ``images`` (B, ...), all rows at once, by a ``method``:

    ``sgd``, ``adam`` and ``nadam``: a gradient a step, against the mean of the gradients so far; ``rate`` falls as each has it. ``l-bfgs``: curvature from
    the gradients of the last steps, each step searched along. ``gauss-newton``: curvature from the ``residual``'s Jacobian, for latents of
    64 or less, with ``huber``, ``ridge`` and ``exact`` as :class:`detect.forward_mode.GaussNewton` has them; a step takes the time of Z / 3 of adam's.
    ``rate`` is in units of each latent's spread over the starts' population (adam: the longest step, which nadam's first exceeds; l-bfgs: the first one's root mean
    square); of sgd it is what a gradient is multiplied by, of gauss-newton the first damping. Where it is not given, each has its own.

    An image stops when its best loss is at most ``enough`` (the residual of a good part), or has not fallen by the share
    ``tolerance`` for ``patience`` steps. With ``keep``, after ``scout`` steps it goes on with that many of its starts, the best so far.
    Every row is on its own: neither its neighbours nor their number change its answer (beyond rounding).

    Raises InputError for an unknown method, and for latents too wide for gauss-newton.
    """
    if method not in METHODS:
        raise InputError("method", f"found {method!r}", wanted=nearest(method, METHODS))
    count, tries, width = starts.shape
    if method == "gauss-newton" and width > WIDEST:
        raise InputError("method gauss-newton", f"found latents of {width} numbers", wanted=f"at most {WIDEST}", step="l-bfgs takes any")
    options = {"rate": rate} if rate is not None else {}
    make = partial(GaussNewton, residual=residual, huber=huber, ridge=ridge, exact=exact) if method == "gauss-newton" else METHODS[method]
    solver = make(Problem(decode, loss, images, tries), starts.reshape(count * tries, width).clone(), **options)
    new = partial(torch.full, device=starts.device, dtype=starts.dtype)
    best, best_latent = new((count * tries,), torch.inf), solver.latent.clone()
    record, trajectory = new((count, steps + 1), torch.inf), new((steps + 1, count * tries), torch.nan)
    spent = torch.full((count,), steps, device=starts.device)
    going = torch.ones((count, tries), dtype=torch.bool, device=starts.device)
    pruned = keep is not None and keep < tries
    for step in range(steps + 1):
        rows = going.flatten().nonzero()[:, 0]
        prunes = pruned and step == scout < steps
        z, values = solver.look(rows, moving=step < steps and not prunes)
        better = values < best[rows]
        best[rows] = torch.where(better, values, best[rows])
        best_latent[rows] = torch.where(better[:, None], z, best_latent[rows])
        trajectory[step, rows] = values
        active = going.any(1).nonzero()[:, 0]
        record[active, step] = best.view(count, tries)[active].amin(1)
        stopped = _stopped(record[active], step, enough, tolerance, patience)
        spent[active[stopped]] = step
        if step == steps or bool(stopped.all()):
            break
        if prunes:
            order = best.view(count, tries).argsort(dim=1, stable=True)
            going &= torch.zeros_like(going).scatter(1, order[:, :keep], True)
            rows = going.flatten().nonzero()[:, 0]
            solver.look(rows, moving=True)
        solver.move(rows, step / steps)
        going[active[stopped]] = False
    winner = best.reshape(count, tries).argmin(1)
    rows = torch.arange(count, device=starts.device) * tries + winner
    with torch.no_grad():
        decoded = decode(best_latent[rows])
    trajectory = trajectory.view(steps + 1, count, tries)
    return Descent(best_latent[rows], decoded, best[rows], winner, spent, trajectory, best_latent.view(count, tries, width))


def _stopped(record: Tensor, step: int, enough: float | None, tolerance: float, patience: int) -> Tensor:
    now = record[:, step]
    stopped = torch.zeros_like(now, dtype=torch.bool) if enough is None else now <= enough
    if step >= patience:
        stopped |= now > record[:, step - patience] * (1 - tolerance)
    return stopped
