"""What k good photographs say of the station: background, surface, scale and place, light, sensor; as classes of randomisation, so that rendered views look
like its pictures. Nothing of the part's shape is learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import ndimage

from cad.errors import InputError
from detect.outline import Outlined
from detect.photo_detector import SIZE, PhotoDetector
from detect.silhouette import Silhouette, background
from synth.blocks import CLASSES
from synth.color import linear
from synth.randomise import Blocks, blocks_of
from synth.raycast import draw, truth
from train.cad_form import luminance
from train.compare_network import shaded
from train.photographs import Photograph

WIDER = 0.15  # of a measured range, by which it is widened at each end: k photographs do not show its ends
LEAST = 3  # photographs from which a range is told
SLOPED = 0.05  # of the part's pixels that must lean for light to be told by them
GRADED = 0.04  # grey levels across a background from which it is no plain one
QUIET = 1.4826 / 1.4142  # of the median difference of neighbours: their deviation, where noise is alike
WELL = (200.0, 100000.0)  # electrons: what a sensor may hold


@dataclass(frozen=True)
class Shown:
    """One photograph's numbers; None where it cannot tell."""

    background: float
    tint: float
    graded: float
    lightness: float | None
    offset: float
    scale: float
    lean: float | None
    ambient: float | None
    blur: float
    well: float
    vignetting: float


def appearance(detector: PhotoDetector, photographs: Sequence[Photograph]) -> tuple[Blocks, dict[str, Any]]:
    """Classes of randomisation as :func:`synth.randomise.blocks_of` has them, each range from what was measured, a little wider; and the
    measurements' medians. What photographs cannot tell is left at its default. Raises InputError where they are fewer than LEAST or show no part.
    """
    if len(photographs) < LEAST:
        raise InputError("GOOD", f"{len(photographs)} photographs", wanted=f"at least {LEAST}, for a range")
    shown = [s for s in detector.each(lambda p: look(detector, p), photographs) if s is not None]
    if len(shown) < LEAST:
        raise InputError(photographs[0].path.parent, f"the part is seen in {len(shown)} of {len(photographs)}", wanted="photographs of the part before a plain background")  # fmt: skip
    told = {name: [v for s in shown if (v := getattr(s, name)) is not None] for name in Shown.__dataclass_fields__}
    return blocks_of(_blocks(told)), {name: round(float(np.median(v)), 4) for name, v in told.items() if v} | {"photographs": len(shown)}


def look(detector: PhotoDetector, photograph: Photograph) -> Shown | None:
    """None where the part is not seen whole."""
    seen = detector.fitted(photograph)
    if seen.found is None or seen.silhouette.reason is not None:
        return None
    grey = luminance(photograph.pixels) ** (1 / 2.2)
    behind = ~ndimage.binary_dilation(seen.silhouette.mask, iterations=4)
    color = np.median(photograph.pixels[behind], 0) / 255
    surface, _ = background(grey)
    scene, views = seen.found.scene, detector.form.part.views
    form = truth(detector.search.item, scene, SIZE)
    inside = ndimage.binary_erosion(form.feature > 0, iterations=2) & seen.silhouette.mask
    lean, ambient = _light(grey, form.normal, inside, np.asarray(views.light.direction, float))
    return Shown(
        float(color.max()), float(1 - color.min() / max(color.max(), 1e-6)), float(np.ptp(ndimage.zoom(surface, 0.1))),
        _lightness(detector, grey, seen.found, inside), float(np.abs(np.array(_place(seen.silhouette))).max()), _scale(detector, seen.found), lean, ambient,
        _blur(grey, seen.silhouette), _well(photograph.pixels[..., 1] / 255, behind), _vignetting(grey, behind),
    )  # fmt: skip


def _blocks(told: dict[str, list[float]]) -> dict[str, Any]:
    kinds = ["gradient", "plain"] if np.median(told["graded"]) > GRADED else ["plain"]
    sensor = {
        "blur": _range(told["blur"], 0.0),
        "full_well": _range(told["well"], *WELL),
        "vignetting": _range(told["vignetting"], 0.0, 1.0),
    }
    blocks: dict[str, Any] = dict.fromkeys(CLASSES, "file") | {
        "position": {"offset": min(0.5, _range(told["offset"], 0.0)[1]), "scale": _range(told["scale"], 0.05, 20.0)},
        "background": {"kinds": kinds, "lightness": _range(told["background"], 0.0, 1.0), "tint": min(1.0, max(told["tint"]))},
        "lights": "default", "sensor": sensor,
    }  # fmt: skip
    if told["lightness"]:
        blocks["surface"] = {"lightness": _range(told["lightness"], 0.0)}
    if len(told["lean"]) >= LEAST:
        blocks["light_direction"] = {"spread": float(np.clip(1.5 * np.quantile(told["lean"], 0.9), 1.0, 180.0))}
        blocks["ambient"] = {"level": _range(told["ambient"], 0.0, 1.0), "tint": 0.0}
    return blocks


def _range(values: list[float], low: float = -np.inf, high: float = np.inf) -> list[float]:
    """From the least to the most, wider by WIDER of that at each end, within ``low`` and ``high``."""
    least, most = min(values), max(values)
    wider = WIDER * (most - least) + 1e-3 * abs(most)
    return [round(float(np.clip(v, low, high)), 4) for v in (least - wider, most + wider)]


def _place(seen: Silhouette) -> tuple[float, float]:
    x, y = seen.middle / len(seen.mask) - 0.5
    return float(x), float(y)


def _scale(detector: PhotoDetector, found: Outlined) -> float:
    """Times as large as the part file's camera shows it, in the middle of its range."""
    camera = detector.form.part.views.camera
    wide = SIZE / found.scene.pixels_per_mm(SIZE)  # mm across the picture
    if camera.fill is None:
        return float(np.mean(camera.field)) / wide
    filled = (found.ids > 0).any(0).sum(), (found.ids > 0).any(1).sum()
    return max(filled) / SIZE / float(np.mean(camera.fill))


def _lightness(detector: PhotoDetector, grey: np.ndarray, found: Outlined, inside: np.ndarray) -> float | None:
    """Times the grey that the file's own surface has in the file's own light."""
    light, surface = detector.form.part.views.light, detector.form.part.views.surface
    towards = np.asarray(light.direction, float)
    scene = replace(
        found.scene, light=tuple(towards / np.linalg.norm(towards)), ambient=light.ambient, color=surface.color, roughness=surface.roughness, metallic=surface.metallic,
    )  # fmt: skip
    drawn = luminance(draw(detector.search.item, scene, len(grey))) ** (1 / 2.2)
    return float(np.median(grey[inside]) / max(float(np.median(drawn[inside])), 1e-3)) if inside.any() else None


def _light(grey: np.ndarray, normal: np.ndarray, inside: np.ndarray, file: np.ndarray) -> tuple[float | None, float | None]:
    """(degrees between the light that explains the grey best and the ``file``'s, its share from all sides); None of a part that shows too few slopes."""
    leaning = inside & (np.hypot(normal[..., 0], normal[..., 1]) > 0.3)
    if leaning.sum() < SLOPED * max(inside.sum(), 1):
        return None, None
    light = linear(shaded(grey, np.moveaxis(normal, -1, 0), inside).clip(0, 1)[inside])
    rows = np.column_stack([np.ones(inside.sum()), normal[inside]])
    even, *towards = np.linalg.lstsq(rows, light, rcond=None)[0]
    strong = float(np.linalg.norm(towards))
    if strong < 1e-3:
        return None, 1.0
    cosine = float(np.dot(towards, file) / strong / np.linalg.norm(file))
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))), float(np.clip(even / (even + strong), 0, 1))


def _blur(grey: np.ndarray, seen: Silhouette) -> float:
    """px of a Gaussian: how far the steepest places of the outline spread their step."""
    rim = seen.mask ^ ndimage.binary_erosion(seen.mask)
    near = ndimage.binary_dilation(rim, iterations=3)
    step = float(np.quantile(grey[near], 0.95) - np.quantile(grey[near], 0.05))
    steepest = float(np.quantile(ndimage.gaussian_gradient_magnitude(grey, 0.5)[rim], 0.9))
    return float(np.sqrt(max((step / max(steepest, 1e-6)) ** 2 / (2 * np.pi) - 0.5**2, 0.0)))


def _well(green: np.ndarray, behind: np.ndarray) -> float:
    """Electrons of a full well whose shot noise is the background's: level over variance, in linear light, of one channel (grey averages three)."""
    light = linear(green)
    both = behind[:, 1:] & behind[:, :-1]
    deviation = QUIET * float(np.median(np.abs(np.diff(light, axis=1)[both]))) if both.any() else 0.0
    level = float(np.median(light[behind])) if behind.any() else 0.5
    return float(np.clip(level / max(deviation**2, 1e-9), *WELL))


def _vignetting(grey: np.ndarray, behind: np.ndarray) -> float:
    """Share of light that a corner has less than the middle would, by a quadratic in the distance from it."""
    size = len(grey)
    y, x = (np.mgrid[:size, :size] + 0.5) / size - 0.5
    far = (x * x + y * y) / 0.5
    rows = np.column_stack([np.ones(behind.sum()), x[behind], y[behind], far[behind]])
    middle, _, _, falls = np.linalg.lstsq(rows, linear(grey)[behind], rcond=None)[0]
    return float(np.clip(-falls / max(middle, 1e-3), 0.0, 1.0))
