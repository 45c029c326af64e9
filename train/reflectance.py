"""How light may fall on a part: a linear basis of reflectance maps, so that the light of a photograph is solved in closed form.

Under far lights and a far camera the brightness of a surface of one material is a function of its normal alone, the reflectance
map (Horn 1977). Second-order spherical harmonics span those of matt surfaces (Basri and Jacobs 2003; Ramamoorthi and Hanrahan
2001); gloss and the edge of an attached shadow are not in them. So the basis is learned: principal components of maps drawn from
what the part file says of its light, and as many from anything else: lamps anywhere, gloss, wrapped and uneven light.
"""

from __future__ import annotations

import numpy as np

from cad.views import Views
from synth.scene import within

GRID = 41  # nodes of a map along nx, and along ny, both from -1 to 1
COMPONENTS = 12
DRAWS = 3000
NOMINAL = 0.5  # share of the maps that the part file's own light and surface make


def normals(grid: int = GRID) -> tuple[np.ndarray, np.ndarray]:
    """(G, G, 3) unit normals that face the camera at the ``grid`` x ``grid`` nodes [nx, ny], and (G, G) bool: inside the disc; outside,
    its rim's."""
    nodes = np.linspace(-1, 1, grid)
    x, y = np.meshgrid(nodes, nodes, indexing="ij")
    reach = np.sqrt(x**2 + y**2)
    x, y = x / np.maximum(reach, 1), y / np.maximum(reach, 1)
    return np.stack([x, y, np.sqrt(np.maximum(0, 1 - x**2 - y**2))], -1), reach <= 1


def basis(views: Views, count: int = COMPONENTS, seed: int = 0) -> np.ndarray:
    """(G, G, count) float32: the mean map, then components scaled so that their weights have deviation 1 beside a first weight of 1."""
    rng = np.random.default_rng(seed)
    grid, inside = normals()
    maps = np.stack([_nominal(grid, views, rng) if i < NOMINAL * DRAWS else _anything(grid, rng) for i in range(DRAWS)])
    maps = (maps / maps.mean((1, 2), keepdims=True)).reshape(DRAWS, -1)
    weight = np.sqrt(np.where(inside, 1.0, 0.02)).ravel()
    mean = maps.mean(0)
    off = (maps - mean) * weight
    power, vectors = np.linalg.eigh(off.T @ off / DRAWS)
    largest = np.argsort(power)[::-1][: count - 1]
    signs = np.where(vectors[:, largest].sum(0) < 0, -1.0, 1.0)  # eigenvectors have no sign of their own
    components = vectors[:, largest] * signs * np.sqrt(power[largest]) / weight[:, None]
    return np.column_stack([mean, components]).reshape(GRID, GRID, count).astype(np.float32)


def _nominal(grid: np.ndarray, views: Views, rng: np.random.Generator) -> np.ndarray:
    """The part file's lamp within somewhat more than its spread, its surface's gloss up to twice as strong."""
    lamp = within(np.asarray(views.light.direction), max(1.3 * views.light.spread, 3.0), rng)
    roughness = np.clip(views.surface.roughness + rng.uniform(-0.15, 0.15), 0.15, 1)
    power = max(2 / roughness**4 - 2, 0.0)
    matt, gloss = _lamp(grid, lamp, power)
    ambient = min(views.light.ambient * rng.uniform(0.6, 1.4), 1.0)
    mirror = (0.04 + views.surface.metallic) * rng.uniform(0, 2) * (power + 8) / 8 / np.pi
    return ambient + 1e-3 + (1 - ambient) * (matt + min(mirror, 3.0) * gloss * matt)


def _anything(grid: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Uneven light from all sides and one to three lamps, each with gloss of its own."""
    light = rng.uniform(0.05, 0.6) * (1 + grid[..., :2] @ rng.uniform([-0.3, -0.5], [0.3, 0.5]))
    for _ in range(rng.integers(1, 4)):
        lamp = rng.normal(size=3)
        while lamp[2] < -0.2 * np.linalg.norm(lamp):
            lamp = rng.normal(size=3)
        wrap = rng.uniform(0, 0.3) if rng.random() < 0.5 else 0.0
        matt, gloss = _lamp(grid, lamp / np.linalg.norm(lamp), np.exp(rng.uniform(np.log(2), np.log(60))), wrap)
        light = light + rng.uniform(0.2, 1.0) * (matt + rng.uniform(0, 0.35) * gloss)
    return light


def _lamp(grid: np.ndarray, lamp: np.ndarray, power: float, wrap: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Lambert's cosine, wrapped round the edge by ``wrap``, and the cosine to the half vector to the ``power``."""
    matt = np.clip((grid @ lamp + wrap) / (1 + wrap), 0, None)
    half = lamp + np.array([0.0, 0.0, 1.0])
    half = half / max(np.linalg.norm(half), 1e-9)
    return matt, np.where(matt > 0, np.clip(grid @ half, 0, None) ** power, 0.0)
