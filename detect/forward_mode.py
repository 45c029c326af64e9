"""Gauss-Newton on a decoder: its Jacobian by forward-mode differentiation, for latents of few numbers, and the steps it gives."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import cache
from threading import Lock

import torch
from torch import Tensor
from torch.func import jvp, vmap

from detect.solvers import Problem
from train.losses import laplacian_pyramid

# (decoded, image rows, latent) -> (rows, M) differences and what each counts, (M,) or (rows, M): the loss is their weighted sum of |.|
Residual = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]

WIDEST = 64  # numbers in a latent
AT_ONCE = 2**18  # pixels of tangents that are pushed forward together: their activations are some hundred times as many
HELD = 2**26  # numbers of Jacobians that are held together
LADDER = (1e-2, 1e-1, 1.0, 1e1, 1e2)  # dampings tried at once, in units of the last that was right
GENTLEST, HARDEST = 1e-6, 1e6  # damping, in units of the normal matrix's mean diagonal
CHORDS = 2  # moves made on one Jacobian
TURNS = 3  # solutions of the weighted problem a move
NUDGE, NUDGED = 5e-3, 32  # of a latent's number, for differences where forward mode is wanting; codes decoded together for these
ONE_AT_A_TIME = Lock()  # torch keeps a single level of forward mode for all threads: two at once spoil each other's tangents


def pyramid_residual(decoded: Tensor, image: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
    """The bands of a Laplacian pyramid of the difference, finest first; weighted and summed they are :func:`train.losses.pyramid_l1`."""
    bands = [band.flatten(1) for band in laplacian_pyramid(decoded - image)]
    return torch.cat(bands, 1), torch.cat([torch.full_like(band[0], 1 / band.shape[1]) for band in bands])


def jacobian(function: Callable[[Tensor], Tensor], latent: Tensor, size: int) -> Tensor:
    """(rows, Z, M): the derivatives of ``function``, (rows, Z) -> (rows, M), row by row, at ``latent`` (rows, Z).

    Tangents of all Z directions go forward together, so many at a time that AT_ONCE bounds them; ``size``: pixels of one row's picture.
    Raises NotImplementedError where an operation has no forward mode (grid_sample, fused attention).
    """
    width = latent.shape[1]
    chunk = max(1, min(width, AT_ONCE // (size * len(latent))))
    units = torch.eye(width, device=latent.device, dtype=latent.dtype)
    with torch.no_grad(), ONE_AT_A_TIME:
        _quietly_loaded()
        columns = vmap(lambda unit: jvp(function, (latent,), (unit.expand_as(latent),))[1], chunk_size=chunk)(units)
    return columns.transpose(0, 1).contiguous()


@cache
def _quietly_loaded() -> None:
    """What torch loads on its first use of forward mode, which warns of torch's own use of torch.jit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        one = torch.ones(1)
        vmap(lambda unit: jvp(torch.abs, (one,), (unit,))[1])(one[None])


class GaussNewton:
    """Damped Gauss-Newton on a weighted sum of absolute values, by iteratively re-weighted least squares (Nocedal and Wright 2006, chapter
    10; Huber 1981): a difference counts squared below ``huber`` times its row's weighted mean size, and straight above it; with an
    infinite ``huber`` the sum is half of that of squares. ``exact``: by forward mode; else by differences, as any thread may beside others.

    Each row has its own damping (Levenberg's, in units of its normal matrix's mean diagonal; ``rate`` at first): several are tried at once,
    and the one of the least loss is taken where that is less than before. A Jacobian costs as much as 2 Z pictures (by differences Z), so that
    CHORDS moves are made on each. ``ridge``: weight of the latent's mean square in the loss, which the residual need not hold.
    """

    def __init__(
        self,
        problem: Problem,
        latent: Tensor,
        residual: Residual,
        huber: float = 0.03,
        ridge: float = 0.0,
        rate: float = 1e-2,
        exact: bool = True,
    ) -> None:
        self.problem, self.latent, self.residual, self.huber, self.ridge, self.exact = problem, latent, residual, huber, ridge, exact
        self.value, self.damping = latent.new_full((len(latent),), torch.inf), latent.new_full((len(latent),), rate)
        self.known = torch.zeros(len(latent), dtype=torch.bool, device=latent.device)

    @torch.no_grad()
    def look(self, rows: Tensor, moving: bool) -> tuple[Tensor, Tensor]:
        """As :meth:`detect.solvers.Sgd.look`; what the last move found is known already."""
        fresh = rows[~self.known[rows]]
        if len(fresh):
            self.value[fresh] = self.problem.values(self.latent[fresh], fresh)
            self.known[fresh] = True
        return self.latent[rows], self.value[rows]

    @torch.no_grad()
    def move(self, rows: Tensor, done: float) -> None:
        decoded = self.problem.decode(self.latent[rows])
        values, weights = self._left(decoded, self.latent[rows], rows)
        together = max(1, HELD // (values.shape[1] * self.latent.shape[1]))
        for at in torch.arange(len(rows), device=rows.device).split(together):
            some, left, own = rows[at], values[at], weights[at]
            columns = self._columns(self.latent[some], some, left, decoded[0].numel())
            for _ in range(CHORDS):
                fell, left, own = self._chord(some, columns, left, own)
                some, columns, left, own = some[fell], columns[fell], left[fell], own[fell]
                if not len(some):
                    break

    def _left(self, decoded: Tensor, latent: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(n, M) differences and their weights (n, M)."""
        values, weights = self.residual(decoded, self.problem.images[rows // self.problem.tries], latent)
        return values, weights.expand_as(values)

    def _columns(self, latent: Tensor, rows: Tensor, left: Tensor, size: int) -> Tensor:
        """(n, Z, M): the derivatives of what is ``left`` (n, M) at ``latent`` (n, Z); ``size``: pixels of a picture."""
        if self.exact:
            try:
                return jacobian(lambda z: self._left(self.problem.decode(z), z, rows)[0], latent, size)
            except NotImplementedError:
                self.exact = False
        width = latent.shape[1]
        nudged = (latent[:, None] + NUDGE * torch.eye(width, device=latent.device, dtype=latent.dtype)).flatten(0, 1)
        parts = zip(nudged.split(NUDGED), rows.repeat_interleave(width).split(NUDGED), strict=True)
        moved = torch.cat([self._left(self.problem.decode(z), z, of)[0] for z, of in parts]).view(len(rows), width, -1)
        return (moved - left[:, None]) / NUDGE

    def _chord(self, rows: Tensor, columns: Tensor, values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Moves each row by the best of the damped steps: (n,) bool, those whose loss fell, and what is left over at each row's best."""
        problem, latent, before = self.problem, self.latent[rows], self.value[rows]
        ladder = torch.tensor(LADDER, device=latent.device, dtype=latent.dtype)
        damping = (self.damping[rows][:, None] * ladder).clamp(GENTLEST, HARDEST)  # (n, L)
        tried = (latent[:, None] + self._steps(values, weights, columns, latent, damping)).flatten(0, 1)
        decoded, images = problem.decode(tried), problem.images[rows // problem.tries].repeat_interleave(len(LADDER), 0)
        losses = problem.loss(decoded, images, tried).view(len(rows), -1)
        least, at = torch.where(losses.isfinite(), losses, torch.inf).min(1)
        best, fell = torch.arange(len(rows), device=rows.device) * len(LADDER) + at, least < before
        self.latent[rows] = torch.where(fell[:, None], tried[best], latent)
        self.value[rows] = torch.where(fell, least, before)
        self.damping[rows] = damping.gather(1, torch.where(fell, at, len(LADDER) - 1)[:, None])[:, 0]
        return fell, *self._left(decoded[best], tried[best], rows)

    def _steps(self, values: Tensor, weights: Tensor, columns: Tensor, latent: Tensor, damping: Tensor) -> Tensor:
        """(n, L, Z): the least of the weighted problem about each row, for each of its dampings. The weights are those that TURNS solutions
        with the middle one come to."""
        width, robust = latent.shape[1], not math.isinf(self.huber)
        unit, hold = torch.eye(width, device=latent.device, dtype=latent.dtype), 2 * self.ridge / width
        mean = (weights * values.abs()).sum(1, keepdim=True) / weights.sum(1, keepdim=True)
        now = values
        for turn in range(TURNS if robust else 1):
            own = weights / now.abs().clamp(min=(self.huber * mean).clamp_min(1e-12)) if robust else weights
            weighted = columns * own[:, None]
            normal = weighted @ columns.transpose(1, 2) + hold * unit
            right = -(weighted @ values[:, :, None])[..., 0] - hold * latent
            size = normal.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-30)
            if robust and turn < TURNS - 1:
                middle = (damping[:, len(LADDER) // 2] * size)[:, None, None]
                step = torch.linalg.solve_ex(normal + middle * unit, right)[0]
                now = values + (step[:, None] @ columns)[:, 0]
        damped = normal[:, None] + (damping * size[:, None])[..., None, None] * unit
        return torch.linalg.solve_ex(damped, right[:, None].expand(-1, damping.shape[1], -1))[0]
