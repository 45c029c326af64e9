"""Light and colour: sRGB and back, and the colour of a lamp by its temperature."""

from __future__ import annotations

import numpy as np
from numba import njit


def linear(color: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] -> linear light (IEC 61966-2-1)."""
    return np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)


def srgb(light: np.ndarray) -> np.ndarray:
    """Linear light, clipped to [0, 1], -> sRGB (IEC 61966-2-1)."""
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def srgb8(light: np.ndarray) -> np.ndarray:
    """Linear light, any shape -> uint8 sRGB: what rounding 255 times :func:`srgb` gives, by a table."""
    out = np.empty(light.shape, np.uint8)
    fill_srgb8(light.reshape(-1), EDGES, FIRST, out.reshape(-1))
    return out


EDGES = np.r_[linear((np.arange(255) + 0.5) / 255), np.inf]  # above the k-th of them a level is at least k + 1
FIRST = np.searchsorted(EDGES, np.arange(4096) / 4096)  # the level at the foot of each of 4096 equal steps of light


@njit(cache=True, nogil=True)
def fill_srgb8(light, edges, first, out):  # pragma: no cover - compiled
    for i in range(len(light)):
        value = light[i]
        if value >= 1.0:
            out[i] = 255
        elif value > 0.0:
            level = first[int(value * 4096)]
            while value > edges[level]:
                level += 1
            out[i] = level
        else:
            out[i] = 0


def over8(light: np.ndarray, cover: np.ndarray, behind: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 sRGB of premultiplied ``light`` (H, W, 3) that covers ``cover`` (H, W) of what is ``behind`` (3,) or (H, W, 3), linear."""
    out = np.empty(light.shape, np.uint8)
    behind = np.broadcast_to(np.asarray(behind, np.float32), light.shape)
    fill_over8(light, cover, behind, EDGES, FIRST, out)
    return out


@njit(cache=True, nogil=True)
def fill_over8(light, cover, behind, edges, first, out):  # pragma: no cover - compiled
    for j in range(out.shape[0]):
        for i in range(out.shape[1]):
            rest = np.float32(1.0) - cover[j, i]
            for c in range(3):
                value = light[j, i, c] + rest * behind[j, i, c]
                level = 255
                if value < 1.0:
                    level = first[int(max(value, np.float32(0.0)) * 4096)]
                    while value > edges[level]:
                        level += 1
                out[j, i, c] = level


def of_kelvin(kelvin: float) -> np.ndarray:
    """(3,) linear RGB of a black body at ``kelvin`` (1667 to 25000), its luminance 1: its chromaticity by Kim et al. 2002, relative to
    6504 K, whose light is white."""
    rgb = _body(kelvin) / _body(6504.0)
    return rgb / (rgb @ LUMINANCE)


LUMINANCE = np.array([0.2126, 0.7152, 0.0722])  # of linear sRGB (ITU-R BT.709)
FROM_XYZ = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]])


def _body(kelvin: float) -> np.ndarray:
    t = 1e3 / kelvin
    if kelvin <= 4000:
        x = -0.2661239 * t**3 - 0.2343589 * t**2 + 0.8776956 * t + 0.179910
    else:
        x = -3.0258469 * t**3 + 2.1070379 * t**2 + 0.2226347 * t + 0.240390
    if kelvin <= 2222:
        y = -1.1063814 * x**3 - 1.34811020 * x**2 + 2.18555832 * x - 0.20219683
    elif kelvin <= 4000:
        y = -0.9549476 * x**3 - 1.37418593 * x**2 + 2.09137015 * x - 0.16748867
    else:
        y = 3.0817580 * x**3 - 5.87338670 * x**2 + 3.75112997 * x - 0.37001483
    return np.clip(FROM_XYZ @ [x / y, 1.0, (1 - x - y) / y], 1e-3, None)
