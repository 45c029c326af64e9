"""Weighted least squares over pose, light and dimensions: one step of a refinement, its bounds and its standard errors.

Weights are what good parts leave at each kind of pixel, made robust (Cauchy), so that what comes out has standard errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.ndimage import uniform_filter
from scipy.optimize import lsq_linear

from detect.cad_descent import held
from detect.gauss_newton import FIXED, PARAMETERS, SCALE, SHIFT, turned
from train.cad_form import CadForm
from train.reflectance import COMPONENTS
from train.shading import BACKGROUND, EXTRA, Placement, Sheet

OUTLIER = 2.5  # deviations at which a residual begins to count less
DAZZLING = 1e-2  # of the precision of the form's own maps: a highlight may be many times as bright as the light
SPREAD = 3.0  # precision of a dimension uniform over its tolerance, in half tolerances: 1 / variance


@dataclass(frozen=True, eq=False)
class Problem:
    """Weighted least squares over [pose (7), light (K + EXTRA), dimensions (D)] about the present form."""

    view: Sheet
    made: np.ndarray
    residual: np.ndarray
    deviation: np.ndarray
    found: np.ndarray
    jacobian: np.ndarray
    columns: np.ndarray
    dimensions: np.ndarray
    light: np.ndarray
    hold: tuple[np.ndarray, np.ndarray]

    @property
    def behind(self) -> slice:
        """The columns of the background."""
        end = self.view.maps + EXTRA
        return slice(end - BACKGROUND, end)

    @cached_property
    def _weighted(self) -> np.ndarray:
        weight = 1 / (self.deviation**2 * (1 + (self.residual / self.deviation / OUTLIER) ** 2))
        return self._rows * weight[:, None]

    @cached_property
    def _rows(self) -> np.ndarray:
        return np.concatenate([self.jacobian, self.columns, self.dimensions], 1)

    @cached_property
    def _equations(self) -> tuple[np.ndarray, np.ndarray]:
        """(Q, Q) and (Q,): with what is known of light and place, and nothing of the dimensions."""
        left, right = self._rows.T @ self._weighted, self._weighted.T @ self.residual
        count = self.columns.shape[1]
        at, level = slice(PARAMETERS, PARAMETERS + count), max(abs(self.light[0]), 1e-3)
        prior = np.full(count, 1 / level**2)
        prior[0] = prior[self.behind] = 1e-6
        prior[COMPONENTS : self.view.maps] *= DAZZLING
        prior[count - len(self.view.lost) :] *= DAZZLING
        left[at, at] += np.diag(prior)
        right[at] -= prior * self.light
        precision, off = self.hold
        left[range(PARAMETERS), range(PARAMETERS)] += precision
        right[:PARAMETERS] -= precision * off
        return left, right

    @property
    def first(self) -> int:
        return PARAMETERS + self.columns.shape[1]

    def solve(self, precision: np.ndarray, within: np.ndarray) -> np.ndarray:
        """The move of all parameters, each dimension held at 0 with its ``precision`` (D,) from ``within`` (D,)."""
        return np.linalg.solve(*self._held(precision, within))

    def _held(self, precision: np.ndarray, within: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The equations with each dimension held at 0 with its ``precision`` (D,) from ``within`` (D,)."""
        left, right = (part.copy() for part in self._equations)
        left[range(self.first, len(left)), range(self.first, len(left))] += precision + 1e-9
        right[self.first :] -= precision * within
        return left, right

    def bounded(self, precision: np.ndarray, within: np.ndarray) -> np.ndarray:
        """As :meth:`solve`, no dimension leaving its tolerance: what is clipped afterwards would leave the pose where it does not belong."""
        left, right = self._held(precision, within)
        if not len(within):
            return np.linalg.solve(left, right)
        rest, dims = slice(self.first), slice(self.first, None)
        solved = np.linalg.solve(left[rest, rest], np.column_stack([left[rest, dims], right[rest]]))
        by, alone = solved[:, :-1], solved[:, -1]
        root = np.linalg.cholesky(left[dims, dims] - left[dims, rest] @ by)
        aim = np.linalg.solve(root, right[dims] - left[dims, rest] @ alone)
        own = lsq_linear(root.T, aim, (-1 - within, 1 - within), method="bvls").x
        return np.r_[alone - by @ own, own]

    def own(self, move: np.ndarray) -> np.ndarray:
        return move[self.first :]

    def moved(self, at: Placement, move: np.ndarray) -> tuple[Placement, np.ndarray]:
        position = at.position + np.r_[move[3:5], 0.0]
        position[2] *= np.exp(move[5])
        step = move[:3] * min(1.0, 0.2 / max(float(np.linalg.norm(move[:3])), 1e-12))
        other = Placement(turned.py_func(step) @ at.turn, position, at.scale * float(np.exp(move[6])), at.perspective)
        return other, self.light + move[PARAMETERS : self.first]

    def error(self, precision: np.ndarray, k: int) -> float:
        """The standard error of dimension ``k``: the sandwich of White (1980), scores summed over 5 x 5 pixels because neighbours err
        alike."""
        inverse = np.linalg.solve(self._held(precision, np.zeros(len(precision)))[0], np.eye(len(self._equations[0]))[self.first + k])
        size = self.view.size
        own = (self._weighted @ inverse) * self.residual
        near = uniform_filter(own.reshape(size, size), 5, mode="constant").ravel() * 25
        return float(np.sqrt(max(own @ near, own @ own, inverse[self.first + k])))

    def freed(self, within: np.ndarray, half: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(D,) mm beyond nominal and (D,) standard errors, each dimension freed alone while the others keep to their tolerances."""
        value, sigma = np.empty(len(within)), np.empty(len(within))
        for k in range(len(within)):
            precision = np.full(len(within), SPREAD)
            precision[k] = 0.0
            value[k] = (within + self.own(self.solve(precision, within)))[k] - offsets[k]
            sigma[k] = self.error(precision, k)
        return value * half, sigma * half


def held_now(form: CadForm, at: Placement) -> tuple[np.ndarray, np.ndarray]:
    """((7,) precisions, (7,) present distances from what the part file says), in the units of a likelihood."""
    precision, anchor = held(form, at, 1.0)
    off = np.zeros(PARAMETERS)
    off[SHIFT] = at.position[:2] - anchor[SHIFT]
    off[SCALE] = np.log(at.scale) - anchor[SCALE] if 0 < precision[SCALE] < FIXED else 0.0
    return np.where(precision > 0, precision, 1e-6), off
