"""Finding the part in a photograph, with nothing learned of defects: a background that a smooth surface follows, and the contour about
what departs from it that is sharpest for its size. No colour is used, and no overall brightness.

Where the picture holds no part, several, or a part that reaches beyond it, it says so instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

CORNER = 0.2  # of the picture's width from its middle, beyond which lie the corners
BEGUN = 0.15  # of the grey range that the corners may differ from its median to be taken for background at first
LEVELS = 25  # of departure from the background at which a contour is looked for
SIZES = (0.02, 0.8)  # shares of the picture that a part fills
SHARP = (0.6, 0.35)  # of the sharpest contour's gradient from which an outer one may be the part's
SAME = 0.9  # IoU of contours that are one
FAINT = 3.0  # background's own deviations that a part must depart by
DULL = 0.025  # of the grey range: a contour with less of a step than this is no part's
UNEVEN = 0.04  # of the grey range that a plain background may be off a smooth surface
STREWN = 0.15  # of the picture's border that may depart from it
ALIKE = 0.4  # of the largest piece's area from which another one is a second part
BESIDE = 0.05  # of the part's area from which a piece beside it is told: of another part that is cut off, or of what does not belong there
CUT = 0.08  # of its outline that may lie on the picture's border
OPEN = 0.6  # of how far the part's own grey is from the background's: a hole is no further from it
HOLE = 0.3  # of an expected hole that what is found for it must cover


@dataclass(frozen=True, eq=False)
class Silhouette:
    """``mask`` (S, S) bool: the part with its holes filled; ``departure`` (S, S) float64: how far each pixel is from the background, in the
    grey's own unit; ``reason``: why it is no silhouette of one whole part, None where it is."""

    mask: np.ndarray
    departure: np.ndarray
    reason: str | None = None

    @property
    def middle(self) -> np.ndarray:
        """(2,) x, y in px."""
        y, x = np.nonzero(self.mask)
        return np.array([x.mean() + 0.5, y.mean() + 0.5])

    @property
    def reach(self) -> float:
        """px: the radius of a disc as large."""
        return float(np.sqrt(self.mask.sum() / np.pi))


def background(grey: np.ndarray) -> tuple[np.ndarray, float]:
    """(S, S) a quadratic surface through what is behind the part, and the deviation of that from it. Begun in the picture's corners,
    grown to all that agrees."""
    h, w = grey.shape
    y, x = np.mgrid[:h, :w] / max(h, w) - 0.5
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1).reshape(-1, 6)
    rim = np.zeros((h, w), bool)
    width = max(2, h // 20)
    rim[:width] = rim[-width:] = rim[:, :width] = rim[:, -width:] = True
    rim &= (np.abs(x) > CORNER) & (np.abs(y) > CORNER)  # a part that fills the picture reaches its sides before its corners
    values, use = grey.ravel(), rim.ravel()
    use = use & (np.abs(values - np.median(values[use])) < BEGUN)  # what reaches in is not to bend it
    for grown in (False, False, True, True, True):
        factors = np.linalg.lstsq(terms[use], values[use], rcond=None)[0]
        left = np.abs(values - terms @ factors)
        deviation = 1.4826 * float(np.median(left[use])) + 1e-3
        use = left < 3 * deviation
        if not grown:
            use &= rim.ravel()
    return (terms @ factors).reshape(h, w), deviation


def cluttered(grey: np.ndarray) -> bool:
    """Whether no smooth surface is behind the part: too much of the picture's border departs from the one that fits best."""
    behind, deviation = background(grey)
    width = max(2, len(grey) // 20)
    off = np.abs(grey - behind) > max(FAINT * deviation, UNEVEN)
    rim = np.concatenate([off[:width].ravel(), off[-width:].ravel(), off[:, :width].ravel(), off[:, -width:].ravel()])
    return float(rim.mean()) > STREWN


def silhouettes(grey: np.ndarray) -> list[Silhouette]:
    """(S, S) float in [0, 1] -> what may be the part's, the likeliest first: the outermost of the sharp contours, and others of which a form
    of the part may say more (where a lit face is as bright as the background, an inner rim is sharper than the outline). Never empty."""
    behind, deviation = background(grey)
    departure = ndimage.gaussian_filter(np.abs(grey - behind), len(grey) / 160)
    steps = ndimage.gaussian_gradient_magnitude(grey, len(grey) / 120)
    found = _contours(departure, steps, max(FAINT * deviation, 0.03))
    if not found:
        return [Silhouette(np.zeros(grey.shape, bool), departure, "no part is seen: nothing stands out from the background")]
    sharpest = max(found, key=lambda f: f[0])
    outer = [max((f for f in found if f[0] >= share * sharpest[0]), key=lambda f: f[1].sum()) for share in SHARP]
    beside = _beside(*outer[0][1:])
    kept: list[Silhouette] = []
    for pick in (outer[0], sharpest, outer[1]):
        # of contours that are one but for a pixel, the sharpest is where the edge is
        _, mask, labels = max((f for f in found if _iou(f[1], pick[1]) >= SAME), key=lambda f: f[0])
        if all(_iou(mask, k.mask) < SAME for k in kept):
            kept.append(Silhouette(mask, departure, _fault(mask, labels) or beside))
    return kept


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max((a | b).sum(), 1))


def _contours(departure: np.ndarray, steps: np.ndarray, least: float) -> list[tuple[float, np.ndarray, np.ndarray]]:
    """For each level: the mean gradient along the contour of the largest piece above it, that piece filled, and all pieces by number."""
    found = []
    for level in np.unique(np.quantile(departure, np.linspace(0.5, 0.99, LEVELS))):
        if level < least:
            continue
        above = np.pad(departure > level, 2, mode="edge")  # else closing takes it from the picture's border
        labels, count = ndimage.label(ndimage.binary_closing(above)[2:-2, 2:-2])
        if not count:
            continue
        largest = 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
        mask = ndimage.binary_fill_holes(labels == largest)
        if SIZES[0] <= mask.mean() <= SIZES[1]:
            sharp = float(steps[mask & ~ndimage.binary_erosion(mask)].mean())
            if sharp >= DULL:
                found.append((sharp, mask, labels))
    return found


def _beside(mask: np.ndarray, labels: np.ndarray) -> str | None:
    """What lies beside the outermost contour: a rim further in leaves pieces of the part itself outside."""
    sizes = np.bincount(labels[~mask], minlength=1)
    sizes[0] = 0
    share = sizes.max() / mask.sum()
    return f"something else is in the picture, of {100 * share:.0f} % of the part's size" if BESIDE < share <= ALIKE else None


def _fault(mask: np.ndarray, labels: np.ndarray) -> str | None:
    sizes = np.bincount(labels[~mask], minlength=1)
    sizes[0] = 0
    if sizes.max() > ALIKE * mask.sum():
        return "more than one part is in the picture"
    rim = mask & ~ndimage.binary_erosion(mask, border_value=1)
    outer = int(mask[0].sum() + mask[-1].sum() + mask[:, 0].sum() + mask[:, -1].sum())
    if outer > CUT * (outer + rim.sum()):
        return "the part reaches beyond the picture"
    return None


def hole(grey: np.ndarray, seen: Silhouette, expected: np.ndarray) -> np.ndarray | None:
    """(S, S) bool: what shows the background within the part where a hole is ``expected`` (S, S); its contour the sharpest there is. None
    where nothing does."""
    steps = ndimage.gaussian_gradient_magnitude(grey, len(grey) / 120)
    inside = ndimage.binary_erosion(seen.mask, iterations=max(1, len(grey) // 40))
    if not inside.any():
        return None
    best, most = None, OPEN * np.quantile(seen.departure[inside], 0.9)
    for level in np.unique(np.quantile(seen.departure[inside], np.linspace(0.05, 0.9, LEVELS))):
        if level > most:
            break
        labels, count = ndimage.label(inside & (seen.departure < level))
        if not count:
            continue
        shared = np.bincount(labels[expected], minlength=count + 1)
        shared[0] = 0
        if not shared.any():
            continue
        piece = ndimage.binary_fill_holes(ndimage.binary_opening(labels == int(np.argmax(shared))))
        if (piece & expected).sum() < HOLE * expected.sum() or piece.sum() > 0.7 * seen.mask.sum():
            continue
        sharp = float(steps[piece & ~ndimage.binary_erosion(piece)].mean())
        if best is None or sharp > best[0]:
            best = (sharp, piece)
    return None if best is None else best[1]
