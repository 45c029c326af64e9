"""The light from all sides: a gradient, or a photographed map (HDRI). As irradiance for the rasterisers, as radiance for backdrops."""

from __future__ import annotations

import importlib
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np

from cad.errors import InputError
from synth.color import LUMINANCE, linear
from synth.scene import Scene, about, matrix
from synth.surroundings import Sky

WIDTH = 1024  # px of a map at most: it lights a part, or stands out of focus behind it
CLIP = 200.0  # times its mean radiance: what is brighter (a sun) would ring in nine harmonics
STEP = "pip install 'formspect[hdri]' reads .hdr and .exr"


def ambient(scene: Scene) -> np.ndarray:
    """(9, 3) float64: what a white matt surface with normal n gives back of the sky, as its harmonics :func:`harmonics` (n). A far surface
    of any map is lit by these nine to within a percent or two (Ramamoorthi and Hanrahan 2001)."""
    out = np.zeros((9, 3))
    out[0] = scene.ambient
    sky = scene.sky
    if sky is None or scene.ambient == 0:
        return out
    if sky.hdri is None:
        above, below = colors_of(sky)
        out[0] = scene.ambient * (above + below) / 2
        out[1:4] = 2 / 3 * np.outer(sky.up, scene.ambient * (above - below) / 2)  # a clamped cosine keeps 2/3 of the first order
        return out
    return scene.ambient * _turned_harmonics(_map_harmonics(sky.hdri), into_map(sky).T)


def colors_of(sky: Sky) -> tuple[np.ndarray, np.ndarray]:
    """(3,) linear radiances along and against ``up``, whose mean has luminance 1."""
    above, below = linear(np.asarray(sky.above)), linear(np.asarray(sky.below))
    mean = max(float((above + below) @ LUMINANCE) / 2, 1e-6)
    return above / mean, below / mean


def radiance(sky: Sky, directions: np.ndarray) -> np.ndarray:
    """(..., 3) unit vectors in the camera's frame -> (..., 3) linear light that comes from there, its mean over all of them 1."""
    if sky.hdri is None:
        above, below = colors_of(sky)
        return below + (above - below) * (1 + directions @ np.asarray(sky.up))[..., None] / 2
    return _looked_up(read_map(sky.hdri), directions @ into_map(sky).T)


def harmonics(n: np.ndarray) -> np.ndarray:
    """(..., 3) unit vectors -> (..., 9): 1, x, y, z, xy, yz, 3 z^2 - 1, xz, x^2 - y^2."""
    x, y, z = np.moveaxis(n, -1, 0)
    return np.stack([np.ones_like(x), x, y, z, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y], -1)


def read_map(path: str) -> np.ndarray:
    """(H, W, 3) float32 linear radiance of an equirectangular map, its mean luminance over all directions 1. Raises InputError."""
    return _read(path)[0]


def mean_luminance(path: str) -> float:
    """Of the map as its file has it, over all directions. Raises InputError."""
    return _read(path)[1]


@lru_cache(maxsize=8)
def _read(path: str) -> tuple[np.ndarray, float]:
    if not Path(path).is_file():
        raise InputError(path, "no such file", wanted="an equirectangular map (.hdr, .exr, .png or .jpg)")
    light = _radiance_file(path) if Path(path).suffix.lower() in (".hdr", ".exr") else _picture_file(path)
    if light.shape[1] != 2 * light.shape[0]:
        raise InputError(
            path, f"found {light.shape[1]} x {light.shape[0]} px", wanted="an equirectangular map, twice as wide as it is high"
        )
    step = -(-light.shape[1] // WIDTH)
    h, w = (n // step for n in light.shape[:2])
    light = light[: h * step, : w * step].reshape(h, step, w, step, 3).mean((1, 3))
    weight = np.sin(np.pi * (np.arange(h) + 0.5) / h)
    mean = float((light @ LUMINANCE).mean(1) @ weight / weight.sum())
    if not mean > 0 or not np.isfinite(light).all():
        raise InputError(path, "holds no light", wanted="a map with finite, positive radiance")
    return (light / mean).astype(np.float32), mean


def _radiance_file(path: str) -> np.ndarray:
    library = _image_library()
    if library is None:
        raise InputError(path, "needs OpenImageIO", wanted="a .png or .jpg map, or the extra", step=STEP)
    source = library.ImageInput.open(path)
    if source is None:
        raise InputError(path, f"does not decode: {library.geterror()}", wanted="a .hdr or .exr map")
    pixels = source.read_image(0, 0, 0, source.spec().nchannels, library.FLOAT)
    if pixels is None:
        raise InputError(path, f"does not decode: {source.geterror()}", wanted="a .hdr or .exr map")
    source.close()
    return np.asarray(pixels, np.float32)[..., [0, 1, 2] if pixels.shape[2] >= 3 else [0, 0, 0]]


def _image_library() -> ModuleType | None:
    """OpenImageIO: its own wheel, or what Blender brings."""
    try:
        return importlib.import_module("OpenImageIO")
    except ImportError:
        if find_spec("bpy") is None:
            return None
    from synth.cycles import image_library

    return image_library()


def _picture_file(path: str) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return linear(np.asarray(image.convert("RGB"), np.float32) / 255)
    except (OSError, Image.DecompressionBombError) as error:
        raise InputError(path, f"does not decode: {error}", wanted="an image") from None


def into_map(sky: Sky) -> np.ndarray:
    """(3, 3) from the camera's frame to the map's, whose zenith is z and whose middle is x. At a spin of 0 its middle is in the view's
    direction (where ``up`` is along that: in that of y); a spin turns it about ``up``, right-handed."""
    up = np.asarray(sky.up)
    ahead = next(a for a in (np.array([0.0, 0.0, -1.0]), np.array([0.0, 1.0, 0.0])) if abs(a @ up) < 1 - 1e-9)
    middle = matrix(about(up, np.radians(sky.spin))) @ (ahead - (ahead @ up) * up)
    middle /= np.linalg.norm(middle)
    return np.stack([middle, np.cross(up, middle), up])


def _looked_up(light: np.ndarray, d: np.ndarray) -> np.ndarray:
    """(..., 3) of the map at unit vectors in its frame: the middle column looks along +x, as Blender has it."""
    h, w = light.shape[:2]
    u = (0.5 - np.arctan2(d[..., 1], d[..., 0]) / (2 * np.pi)) * w
    v = np.arccos(np.clip(d[..., 2], -1, 1)) / np.pi * h
    return light[np.clip(v.astype(int), 0, h - 1), u.astype(int) % w]


@lru_cache(maxsize=8)
def _map_harmonics(path: str) -> np.ndarray:
    """(9, 3) of a map in its own frame, as :func:`ambient` gives them."""
    light = np.minimum(read_map(path), CLIP).astype(float)
    h, w = light.shape[:2]
    polar, round_ = np.meshgrid(np.pi * (np.arange(h) + 0.5) / h, np.pi - 2 * np.pi * (np.arange(w) + 0.5) / w, indexing="ij")
    d = np.stack([np.sin(polar) * np.cos(round_), np.sin(polar) * np.sin(round_), np.cos(polar)], -1)
    weight = np.sin(polar) / np.sin(polar).sum()
    basis = harmonics(d)
    norm = np.einsum("hwk,hw->k", basis**2, weight)
    kept = np.array([1.0, *(2 / 3,) * 3, *(1 / 4,) * 5])  # what a clamped cosine keeps of each order
    return kept[:, None] * np.einsum("hwk,hwc,hw->kc", basis, light, weight) / norm[:, None]


def _turned_harmonics(own: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """The same light, turned: fitted at directions enough that nine harmonics are exact."""
    n = np.random.default_rng(0).normal(size=(32, 3))
    n /= np.linalg.norm(n, axis=1, keepdims=True)
    return np.linalg.lstsq(harmonics(n), harmonics(n @ turn) @ own, rcond=None)[0]
