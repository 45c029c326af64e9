"""What is behind the part, and specks before it: plain, gradient, texture, clutter, an image, an HDRI; dust. As linear light."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter, zoom

from cad.errors import InputError
from synth.color import linear
from synth.scene import Scene
from synth.sky import radiance
from synth.surroundings import Backdrop, Dust, Sky

OCTAVES = 5
PIECES = 24  # of clutter
DISTANT = 50.0  # degrees across an HDRI behind an orthographic camera, which sees none of it


def backdrop(scene: Scene, size: int) -> np.ndarray:
    """(size, size, 3) float32 linear light."""
    if scene.backdrop is None:
        return np.broadcast_to(linear(np.asarray(scene.background)).astype(np.float32), (size, size, 3))
    light = KINDS[scene.backdrop.kind](scene.backdrop, scene, size).astype(np.float32)
    if scene.backdrop.blur > 0:
        light = gaussian_filter(light, (scene.backdrop.blur * size,) * 2 + (0,), mode="nearest")
    return light


def plain(what: Backdrop, scene: Scene, size: int) -> np.ndarray:
    return np.broadcast_to(linear(np.asarray(what.colors[0])), (size, size, 3))


def gradient(what: Backdrop, scene: Scene, size: int) -> np.ndarray:
    """From the first colour to the second across the picture."""
    x, y = _grid(size)
    across = x * np.cos(np.radians(what.angle)) + y * np.sin(np.radians(what.angle))
    return _mixed(what, np.clip(0.5 + across / 2, 0, 1))


def texture(what: Backdrop, scene: Scene, size: int) -> np.ndarray:
    """Noise between two colours, of half the amplitude at half the size each time (Perlin 1985)."""
    rng, total, weight = np.random.default_rng([what.seed, 1]), np.zeros((size, size)), 0.0
    for octave in range(OCTAVES):
        cells = max(2, round(2**octave / max(what.scale, 1e-2)))
        if cells > 2 * size:
            break
        grid = rng.random((cells + 3, cells + 3))
        total += 0.5**octave * zoom(grid, size * 1.0 / cells, order=1, mode="nearest", grid_mode=True)[:size, :size]
        weight += 0.5**octave
    return _mixed(what, np.clip(0.5 + 1.8 * (total / weight - 0.5), 0, 1))


def clutter(what: Backdrop, scene: Scene, size: int) -> np.ndarray:
    """Discs, bars and boards in several colours, one over the other, as things on a bench."""
    rng, fine = np.random.default_rng([what.seed, 2]), 2 * size
    sheet = Image.new("RGB", (fine, fine), _rgb(what.colors[0]))
    pen = ImageDraw.Draw(sheet)
    for _ in range(PIECES):
        color = _rgb(what.colors[rng.integers(len(what.colors))])
        middle, reach = rng.uniform(-0.1, 1.1, 2) * fine, what.scale * fine * rng.uniform(0.15, 0.5)
        if rng.random() < 0.4:
            pen.ellipse([*(middle - reach), *(middle + reach)], fill=color)
            continue
        turn, sides = rng.uniform(0, np.pi), np.array([1.0, rng.uniform(0.1, 1.0)]) * reach
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * sides
        spun = corners @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        pen.polygon([tuple(p) for p in (middle + spun).tolist()], fill=color)
    return linear(np.asarray(sheet.resize((size, size), Image.Resampling.BOX), float) / 255)


def image(what: Backdrop, scene: Scene, size: int) -> np.ndarray:
    """A square cut from the file, where and how large its seed says."""
    pixels = read_picture(str(what.file))
    rng, side = np.random.default_rng([what.seed, 3]), min(pixels.shape[:2])
    cut = max(1, int(side * rng.uniform(0.5, 1.0)))
    top, left = (int(rng.integers(n - cut + 1)) for n in pixels.shape[:2])
    return linear(np.asarray(Image.fromarray(pixels[top : top + cut, left : left + cut]).resize((size, size), Image.Resampling.BOX), float) / 255)  # fmt: skip


def hdri(what: Backdrop, scene: Scene, size: int) -> np.ndarray:
    """The map itself, as the camera sees it: the sky's, turned as that is, or the backdrop's own."""
    sky = scene.sky if scene.sky is not None and scene.sky.hdri is not None else Sky(hdri=what.file, spin=what.angle)
    x, y = _grid(size)
    slope = np.tan(np.radians(scene.angle if scene.angle is not None else DISTANT) / 2)
    rays = np.stack([slope * x, -slope * y, -np.ones_like(x)], -1)
    level = scene.ambient if scene.ambient > 0 else 0.5
    return level * radiance(sky, rays / np.linalg.norm(rays, axis=-1, keepdims=True))


KINDS: dict[str, Callable[[Backdrop, Scene, int], np.ndarray]] = {
    "plain": plain,
    "gradient": gradient,
    "texture": texture,
    "clutter": clutter,
    "image": image,
    "hdri": hdri,
}


GRAIN = 3  # pixels of a finer picture to one that dust is drawn in


@lru_cache(maxsize=2)
def specks(dust: Dust, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Linear light (size, size, 3) and opacity (size, size), float32, of ``dust``: half fibres, half grains, out of focus at their rims."""
    rng, fine = np.random.default_rng([dust.seed, 4]), GRAIN * size
    color, cover = Image.new("RGB", (fine, fine)), Image.new("L", (fine, fine))
    pens = ImageDraw.Draw(color), ImageDraw.Draw(cover)
    for _ in range(dust.count):
        tint = _rgb(dust.colors[rng.integers(len(dust.colors))])
        length, at, turn = dust.size * fine * rng.uniform(0.3, 1.0), rng.uniform(0, fine, 2), rng.uniform(0, np.pi)
        width = length * (rng.uniform(0.04, 0.12) if rng.random() < 0.5 else rng.uniform(0.5, 1.0))
        bow, t = rng.uniform(-0.4, 0.4) * (length - width), np.linspace(-0.5, 0.5, 9)
        local = np.stack([(length - width) * t, 4 * bow * (t * t - 0.25)], 1)
        path = at + local @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        for point in path:
            box = [*(point - width / 2).tolist(), *(point + width / 2).tolist()]
            for pen, fill in zip(pens, (tint, 255), strict=True):
                pen.ellipse(box, fill=fill)
        for pen, fill in zip(pens, (tint, 255), strict=True):
            pen.line([tuple(p) for p in path.tolist()], fill=fill, width=max(1, round(width)))
    covered = np.asarray(cover, np.float32) / 255
    light = linear(np.asarray(color, np.float32) / 255) * covered[..., None]
    both = np.concatenate([light, covered[..., None]], -1).reshape(size, GRAIN, size, GRAIN, 4).mean((1, 3))
    both = gaussian_filter(both.astype(np.float32), (0.5, 0.5, 0.0))
    return both[..., :3] / np.maximum(both[..., 3:], 1e-6), both[..., 3]


def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """x right and y down, each (size, size), from -1 to 1."""
    line = (np.arange(size) + 0.5) / size * 2 - 1
    return tuple(np.meshgrid(line, line))


def _mixed(what: Backdrop, share: np.ndarray) -> np.ndarray:
    first, second = linear(np.asarray(what.colors[0])), linear(np.asarray(what.colors[-1]))
    return first + (second - first) * share[..., None]


def _rgb(color: tuple[float, float, float]) -> tuple[int, int, int]:
    return tuple(round(255 * c) for c in color)


@lru_cache(maxsize=16)
def read_picture(path: str) -> np.ndarray:
    try:
        with Image.open(path) as found:
            found.thumbnail((2048, 2048))
            return np.asarray(found.convert("RGB"))
    except (OSError, Image.DecompressionBombError) as error:
        raise InputError(path, f"does not decode: {error}", wanted="an image for the background") from None
