"""A camera's own doing: from linear light to the picture that it saves. The order is that of the light's way."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from scipy.ndimage import convolve, gaussian_filter

from synth.color import of_kelvin, srgb
from synth.surroundings import Sensor


def developed(light: np.ndarray, sensor: Sensor) -> np.ndarray:
    """(H, W, 3) float32 linear light -> (H, W, 3) uint8 sRGB."""
    electrons = np.random.default_rng([sensor.seed, 5])
    light = exposed(smeared(light, sensor), sensor)
    raw = mosaic(light) if sensor.bayer else light
    raw = noisy(raw, sensor, electrons)
    color = demosaiced(raw) if sensor.bayer else raw
    balanced = np.clip(color * (of_kelvin(6504.0) / of_kelvin(sensor.kelvin)), 0, 1)  # white light at that temperature is made white
    pixels = np.rint(255 * srgb(balanced) ** sensor.gamma).astype(np.uint8)
    return compressed(pixels, sensor.jpeg) if sensor.jpeg else pixels


def smeared(light: np.ndarray, sensor: Sensor) -> np.ndarray:
    """By the lens (a Gaussian) and by motion (a line)."""
    if sensor.motion > 0.05:
        light = np.stack([convolve(light[..., c], line(sensor.motion, sensor.motion_angle), mode="nearest") for c in range(3)], -1)
    return gaussian_filter(light, (sensor.blur, sensor.blur, 0), mode="nearest") if sensor.blur > 0.05 else light


def line(length: float, angle: float) -> np.ndarray:
    """(k, k) float32 that sums to 1: the path of a point over ``length`` px at ``angle`` degrees, anti-aliased."""
    half = int(np.ceil(length / 2)) + 1
    kernel = np.zeros((2 * half + 1,) * 2, np.float32)
    steps = np.linspace(-length / 2, length / 2, 8 * half + 1)
    for x, y in zip(half + steps * np.cos(np.radians(angle)), half - steps * np.sin(np.radians(angle)), strict=True):
        i, j = int(x), int(y)
        u, v = x - i, y - j
        kernel[j : j + 2, i : i + 2] += np.outer([1 - v, v], [1 - u, u])
    return kernel / kernel.sum()


def exposed(light: np.ndarray, sensor: Sensor) -> np.ndarray:
    """Vignetted by a quadratic fall towards the corners, then brighter or darker by stops."""
    h, w = light.shape[:2]
    y, x = np.ogrid[:h, :w]
    corner = (((x + 0.5) / w * 2 - 1) ** 2 + ((y + 0.5) / h * 2 - 1) ** 2) / 2
    return light * (2.0**sensor.exposure * (1 - sensor.vignetting * corner))[..., None]


def noisy(raw: np.ndarray, sensor: Sensor, rng: np.random.Generator) -> np.ndarray:
    """Shot noise of the electrons that light frees (its variance is their number), and the amplifier's (EMVA 1288's model)."""
    if sensor.full_well <= 0:
        return raw
    electrons = np.clip(raw, 0, 1) * sensor.full_well
    spread = np.sqrt(electrons + sensor.read_noise**2)
    return (electrons + spread * rng.standard_normal(raw.shape)) / sensor.full_well


SITES = ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2))  # row, column, channel of an RGGB cell


ROUND, CROSS = ((1, 2, 1), (2, 4, 2), (1, 2, 1)), ((0, 1, 0), (1, 4, 1), (0, 1, 0))
NEIGHBOURS = (ROUND, CROSS, ROUND)  # by which a colour is filled in; where it was seen, none of it lies under the others


def mosaic(light: np.ndarray) -> np.ndarray:
    """(H, W, 3) -> (H, W): the one colour that each pixel of an RGGB sensor sees."""
    raw = np.empty(light.shape[:2], light.dtype)
    for j, i, c in SITES:
        raw[j::2, i::2] = light[j::2, i::2, c]
    return raw


def demosaiced(raw: np.ndarray) -> np.ndarray:
    """(H, W) RGGB -> (H, W, 3), bilinear."""
    known = np.zeros((*raw.shape, 3), raw.dtype)
    for j, i, c in SITES:
        known[j::2, i::2, c] = raw[j::2, i::2]
    sites = np.zeros_like(known)
    for j, i, c in SITES:
        sites[j::2, i::2, c] = 1
    near = [np.asarray(NEIGHBOURS[c], raw.dtype) for c in range(3)]
    return np.stack(
        [convolve(known[..., c], near[c], mode="mirror") / convolve(sites[..., c], near[c], mode="mirror") for c in range(3)], -1
    )


def compressed(pixels: np.ndarray, quality: int) -> np.ndarray:
    """As JPEG of ``quality`` gives it back."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))
