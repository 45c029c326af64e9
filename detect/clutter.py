"""Finding the part before clutter, where no smooth surface is behind it: edges retrieved against rendered outlines, then the contour that the
picture itself has near the best of them. Nothing is learned of defects."""

from __future__ import annotations

import numpy as np
from scipy import fft, ndimage

from cad.views import Turn
from detect.outline import FINE, OutlineSearch
from detect.silhouette import Silhouette
from synth.raycast import outline, truth

TURNS, SCALES = 60, 6  # of outlines that are tried, over the file's range of turns and sizes
NEAR, FINER = 14, 5  # turns next to the best, and sizes about its, that are tried after that
SPAN = (0.3, 0.95)  # shares of the picture that the part's longer side may fill, where the file does not say
WIDER = 1.15  # times, at each end, where it does
INNER = 0.5  # weight of edges within the part beside its outline: they tell the one from the other where light draws both
BAND = 0.12  # of the part's reach, to each side of the outline, within which the picture's own contour is looked for
NARROW = 0.07  # of it, beyond which an edge counts less
CLEAR = 0.3  # of an outline's edges that must be there, by the cosine of twice the angle between them
LOUD = 0.5  # quantile of gradients from which an edge begins to count
STEEP = 0.05  # of a render's steepest edge: a flatter one is none


def among_clutter(grey: np.ndarray, search: OutlineSearch) -> Silhouette | None:
    """(S, S) in [0, 1] -> the part's silhouette where its outline is likeliest; None where no outline of the part's is there, or where the part
    may lie any way up: so many outlines find one of themselves in any clutter."""
    if not isinstance(search.part.views.rotation, Turn):
        return None
    small = ndimage.zoom(grey, FINE / len(grey), order=1, grid_mode=True, mode="nearest") if len(grey) != FINE else grey
    steps = [ndimage.gaussian_filter(small, 1.0, order=o) for o in ((1, 0), (0, 1))]
    loud = 3 * max(float(np.quantile(np.hypot(*steps), LOUD)), 1e-3)
    edges = [np.conj(fft.rfft2(e)) for e in _doubled(*steps, np.minimum(np.hypot(*steps) / loud, 1.0))]
    turns, _, _ = search.known
    first = max((_match(edges, search, turns[k], share) for k in np.unique(np.linspace(0, len(turns) - 1, TURNS).astype(int)) for share in _shares(search)), key=lambda m: m[0])  # fmt: skip
    _, turn, share, _ = first
    near = np.argsort(-np.abs(turns @ turn))[:NEAR]
    last = max((_match(edges, search, turns[k], share * f) for k in near for f in np.linspace(0.92, 1.08, FINER)), key=lambda m: m[0])
    clear, _, _, mask = max(first, last, key=lambda m: m[0])
    return None if mask is None or clear < CLEAR else _contour(grey, mask)


def _shares(search: OutlineSearch) -> np.ndarray:
    fill = search.part.views.camera.fill
    return np.geomspace(*((fill[0] / WIDER, min(fill[1] * WIDER, SPAN[1])) if fill else SPAN), SCALES)


def _match(
    edges: list[np.ndarray], search: OutlineSearch, turn: np.ndarray, share: float
) -> tuple[float, np.ndarray, float, np.ndarray | None]:
    """How much of the part's edges, turned so and filling that share, is there at the best place; and its filled silhouette there (None: it
    would leave the picture)."""
    as_is = outline(search.item, search.scene(turn, (0.0, 0.0), 0.0), FINE).feature > 0
    long = max(np.ptp(v) for v in np.nonzero(as_is)) / FINE
    form = truth(search.item, search.scene(turn, (0.0, 0.0), float(np.log(share / max(long, 1e-3)))), FINE)
    filled = ndimage.binary_fill_holes(form.feature > 0)
    field = [0.0, 0.0]
    for layer, weight in ((filled.astype(float), 1.0), *((form.normal[..., c], INNER) for c in range(3))):
        steps = [ndimage.gaussian_filter(layer, 1.0, order=o) for o in ((1, 0), (0, 1))]
        strength = weight * (np.hypot(*steps) > STEEP)
        field = [a + b for a, b in zip(field, _doubled(*steps, strength), strict=True)]
    total = float(np.hypot(*field).sum())
    match = fft.irfft2(sum(fft.rfft2(f) * e for f, e in zip(field, edges, strict=True)), s=filled.shape) / max(total, 1e-9)
    j, i = np.unravel_index(int(np.argmax(match)), match.shape)
    mask = _moved(filled, [-int(v) if v <= FINE // 2 else FINE - int(v) for v in (j, i)])
    return (float(match[j, i]) if mask is not None else 0.0), turn, share, mask


def _doubled(gy: np.ndarray, gx: np.ndarray, strength: np.ndarray) -> list[np.ndarray]:
    """``strength`` times cosine and sine of twice each edge's angle: dark before light and light before dark are one."""
    angle = 2 * np.arctan2(gy, gx)
    return [strength * np.cos(angle), strength * np.sin(angle)]


def _moved(shape: np.ndarray, shift: list[int]) -> np.ndarray | None:
    """None where that takes it out of the picture."""
    y, x = np.nonzero(shape)
    y, x = y + shift[0], x + shift[1]
    if min(y.min(), x.min()) < 0 or max(y.max(), x.max()) >= len(shape):
        return None
    out = np.zeros_like(shape)
    out[y, x] = True
    return out


def _contour(grey: np.ndarray, mask: np.ndarray) -> Silhouette:
    """The picture's own contour about there: a watershed (Meyer 1994) of its gradient between what lies well within the outline and what
    lies well without."""
    size = len(grey)
    fine = ndimage.zoom(mask.astype(float), size / len(mask), order=1, grid_mode=True, mode="nearest") > 0.5
    reach = np.sqrt(fine.sum() / np.pi)
    within, beyond = (ndimage.distance_transform_edt(m) for m in (fine, ~fine))
    deep, far = within > BAND * reach, beyond > BAND * reach
    markers = np.zeros(grey.shape, np.int16)
    markers[deep], markers[far] = 2, 1
    steps = ndimage.gaussian_gradient_magnitude(grey, size / 160) * np.exp(-0.5 * ((within + beyond - 1) / (NARROW * reach)) ** 2)
    levels = np.clip(65535 * steps / max(float(np.quantile(steps, 0.995)), 1e-9), 0, 65535).astype(np.uint16)
    found = ndimage.binary_fill_holes(ndimage.binary_opening(ndimage.watershed_ift(levels, markers) == 2, iterations=1))
    behind = float(np.median(grey[far])) if far.any() else 0.5
    return Silhouette(found, np.abs(grey - behind))
