"""Descent over pose, position, distance, scale and light of a rendered part: damped Gauss-Newton, compiled, one start a call.

The light is linear and solved in closed form at each step, then kept in the normal equations, which is to project it out of the
Jacobian (Golub and Pereyra 1973, variable projection). The Jacobian is analytic: a change of pose moves the picture along
(minus its slope times the surface's velocity on the image; at an outline or a hidden edge the nearer surface's velocity) and
turns the normals under the reflectance map. Slopes are taken on the fine grid of the anti-aliased picture.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from synth.raster import fill_raster
from train.shading import HOLLOW, fill_columns, fill_normal_equations, solve_light

TURN, SHIFT, DISTANCE, SCALE = slice(0, 3), slice(3, 5), 5, 6
PARAMETERS = 7  # turn about x, y, z (radians); shift along x, y (mm); log distance; log scale
FIXED = 1e12
LONGEST_TURN = 0.35  # radians a step


@njit(cache=True, nogil=True)
def turned(by):  # pragma: no cover - compiled
    """(3, 3): the turn by the vector ``by`` (radians), Rodrigues' formula."""
    angle = np.sqrt(by[0] ** 2 + by[1] ** 2 + by[2] ** 2)
    cross = np.array([[0.0, -by[2], by[1]], [by[2], 0.0, -by[0]], [-by[1], by[0], 0.0]])
    if angle < 1e-9:
        return np.eye(3) + cross
    return np.eye(3) + np.sin(angle) / angle * cross + (1 - np.cos(angle)) / angle**2 * (cross @ cross)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "arcp", "nsz"})
def fill_jacobian(
    near, face, slope, light, dark, table, hollow, position, scale, perspective, size, samples, out
):  # pragma: no cover - compiled
    """``out`` (N, 7): derivatives of the picture ``columns @ light`` by the PARAMETERS; ``scale`` px per mm (or focal length in px).

    ``dark`` (F, F): what cast shadows add, taken to move with the surface that they lie on.
    """
    count, grid, fine = table.shape[2], table.shape[0], size * samples
    half, share, middle = 0.5 * (grid - 1), 1.0 / (samples * samples), 0.5 * size
    lit = np.zeros((grid, grid))
    for a in range(grid):
        for b in range(grid):
            for k in range(count):
                lit[a, b] += light[k] * table[a, b, k]
    value, by_x, by_y = np.empty((fine, fine)), np.zeros((fine, fine)), np.zeros((fine, fine))
    for j in range(fine):
        for i in range(fine):
            if face[j, i] < 0:
                value[j, i] = light[count + 3] + light[count + 4] * ((i + 0.5) / fine - 0.5) + light[count + 5] * ((j + 0.5) / fine - 0.5)
                continue
            gx = min(max((slope[j, i, 0] + 1) * half, 0.0), grid - 1.001)
            gy = min(max((slope[j, i, 1] + 1) * half, 0.0), grid - 1.001)
            ix, iy = int(gx), int(gy)
            fx, fy = gx - ix, gy - iy
            low, high = (1 - fy) * lit[ix, iy] + fy * lit[ix, iy + 1], (1 - fy) * lit[ix + 1, iy] + fy * lit[ix + 1, iy + 1]
            hidden = hollow[face[j, i]]
            value[j, i] = (
                (1 - fx) * low + fx * high + hidden * (light[count] + slope[j, i, 0] * light[count + 1] + slope[j, i, 1] * light[count + 2])
            )
            value[j, i] += dark[j, i]
            by_x[j, i] = (high - low) * half + hidden * light[count + 1]
            by_y[j, i] = (
                (1 - fx) * (lit[ix, iy + 1] - lit[ix, iy]) + fx * (lit[ix + 1, iy + 1] - lit[ix + 1, iy])
            ) * half + hidden * light[count + 2]
    out[:] = 0.0
    for j in range(fine):
        for i in range(fine):
            p = (j // samples) * size + i // samples
            if face[j, i] >= 0:  # the normals turn
                nx, ny = slope[j, i, 0], slope[j, i, 1]
                nz = np.sqrt(max(0.0, 1 - nx * nx - ny * ny))
                dx, dy = by_x[j, i] * share, by_y[j, i] * share
                out[p, 0] -= dy * nz
                out[p, 1] += dx * nz
                out[p, 2] += dy * nx - dx * ny
            for axis in range(2):  # the picture moves along
                j0, j1 = (j, j) if axis == 0 else (max(j - 1, 0), min(j + 1, fine - 1))
                i0, i1 = (max(i - 1, 0), min(i + 1, fine - 1)) if axis == 0 else (i, i)
                rise = (value[j1, i1] - value[j0, i0]) * 0.5 * samples
                if rise == 0.0:
                    continue
                jj, ii = (j0, i0) if near[j0, i0] > near[j1, i1] else (j1, i1)  # the nearer surface is the one whose edge is seen
                if near[j, i] >= near[jj, ii]:
                    jj, ii = j, i
                if face[jj, ii] < 0:
                    continue
                px, py = (ii + 0.5) / samples, (jj + 0.5) / samples
                if perspective:
                    inverse = near[jj, ii]  # 1 / depth
                    z = -1.0 / inverse
                    x, y = (px - middle) / scale / inverse, (middle - py) / scale / inverse
                else:
                    inverse, z = 1.0, near[jj, ii]
                    x, y = (px - middle) / scale, (middle - py) / scale
                qx, qy, qz = x - position[0], y - position[1], z - position[2]
                if axis == 0:
                    along, away = scale * inverse, scale * x * inverse * inverse if perspective else 0.0
                    by = (away * qy, along * qz - away * qx, -along * qy, along, 0.0, away * position[2], px - middle)
                else:
                    along, away = -scale * inverse, -scale * y * inverse * inverse if perspective else 0.0
                    by = (away * qy - along * qz, -away * qx, along * qx, 0.0, along, away * position[2], py - middle)
                for k in range(7):
                    out[p, k] -= rise * share * by[k]


@njit(cache=True, nogil=True)
def mean_loss(made, image, sigma):  # pragma: no cover - compiled
    """Of residuals that count as sqrt(r^2 + sigma^2), less sigma, where ``image`` is not NaN."""
    loss, seen = 0.0, 0
    for p in range(len(made)):
        if not np.isnan(image[p]):
            loss += np.sqrt((made[p] - image[p]) ** 2 + sigma * sigma) - sigma
            seen += 1
    return loss / max(seen, 1)


@njit(cache=True, nogil=True)
def add_priors(left, right, ridge, light, hold, anchor, position, scale):  # pragma: no cover - compiled
    """To the normal equations: the light's ``ridge``, and each parameter held to its ``anchor``."""
    for k in range(len(ridge)):
        left[PARAMETERS + k, PARAMETERS + k] += ridge[k]
        right[PARAMETERS + k] -= ridge[k] * light[k]
    now = (0.0, 0.0, 0.0, position[0], position[1], np.log(-position[2]), np.log(scale))
    for k in range(PARAMETERS):
        left[k, k] += hold[k]
        if 0.0 < hold[k] < FIXED:
            right[k] -= hold[k] * (now[k] - anchor[k])


@njit(cache=True, nogil=True)
def damped_step(left, right, damping):  # pragma: no cover - compiled
    """The move of all parameters, Marquardt's damping on the pose's; no turn beyond LONGEST_TURN."""
    damped = left.copy()
    for k in range(PARAMETERS):
        damped[k, k] = damped[k, k] * (1 + damping) + 1e-12
    move = np.linalg.solve(damped, right)
    length = np.sqrt(move[0] ** 2 + move[1] ** 2 + move[2] ** 2)
    return move * min(1.0, LONGEST_TURN / max(length, 1e-300))


@njit(cache=True, nogil=True)
def descend_pose(
    corners, normals, pivot, turn, position, scale, perspective, image, full, size, samples, table, hollow, ridge, hold, anchor, light, steps, sigma, soft, path
):  # pragma: no cover - compiled  # fmt: skip
    """From one start to the nearest pose. Returns (loss, turn, position, scale, light) of the best.

    ``image`` (N,) linear light, NaN where it is hidden, saturated from ``full``; ``hold`` (7,) precision with which each parameter is
    held at ``anchor`` (7,), FIXED for not at all free; ``light`` (K + EXTRA,), all 0 where it is not known; residuals count as
    sqrt(r^2 + sigma^2), sigma falling from ``soft`` by halves to ``sigma``: large misfits pull at first, then they are outliers.
    ``path`` (steps + 1, 14): loss, turn, position and scale before each step, NaN once it stopped.
    """
    pixels, fine = size * size, size * samples
    slope, columns, cover = np.zeros((fine, fine, 2), np.float32), np.zeros((pixels, len(ridge))), np.zeros(pixels)
    made, weight, jacobian, dark = np.empty(pixels), np.empty(pixels), np.zeros((pixels, PARAMETERS)), np.zeros((fine, fine))
    unknown = PARAMETERS + len(ridge)
    left, right = np.zeros((unknown, unknown)), np.zeros(unknown)
    near, face, w1, w2 = np.empty((fine, fine)), np.empty((fine, fine), np.int32), np.empty((fine, fine)), np.empty((fine, fine))
    best, damping = 1e300, 1e-3
    best_turn, best_position, best_scale, best_light = turn.copy(), position.copy(), scale, light.copy()
    light = light.copy()
    known = np.abs(light).sum() > 0
    for step in range(steps + 1):
        fill_raster(corners, turn, position - turn @ pivot, scale * fine, perspective, near, face, w1, w2)
        if face[0, 0] == -2:  # behind the camera
            break
        fill_columns(face, w1, w2, normals, turn, table, hollow, size, samples, slope, columns, cover)
        now = max(sigma, soft * 0.5**step)
        if not known:
            light[:] = 0.0
            light[0] = 1.0
        solve_light(columns, image, ridge, table.shape[2] + HOLLOW, full, 0.0, now, 2 if known else 4, light, made, weight)
        known = True
        loss = mean_loss(made, image, sigma)
        path[step, 0] = loss
        path[step, 1:10] = turn.copy().reshape(9)
        path[step, 10:13] = position
        path[step, 13] = scale
        if loss < best:
            gain = best - loss
            best, best_turn, best_position, best_scale, best_light = loss, turn.copy(), position.copy(), scale, light.copy()
            damping = max(0.3 * damping, 1e-5)
            if step == steps or (gain < 2e-3 * loss and now <= 1.01 * sigma):
                break
            fill_jacobian(near, face, slope, light, dark, table, hollow, position, scale * size, perspective, size, samples, jacobian)
            fill_normal_equations(jacobian, columns, image - made, weight, left, right)
            add_priors(left, right, ridge, light, hold, anchor, position, scale)
        else:
            damping = max(8 * damping, 1e-2)
            light = best_light.copy()
            if step == steps or damping > 100:
                break
        move = damped_step(left, right, damping)
        turn = turned(move[:3]) @ best_turn
        position = best_position.copy()
        position[0] += move[3]
        position[1] += move[4]
        position[2] *= np.exp(move[5])
        scale = best_scale * np.exp(move[6])
    return best, best_turn, best_position, best_scale, best_light
