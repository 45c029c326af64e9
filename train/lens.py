"""A camera as OpenCV's calibration knows it: read from its file, and how to undo it.

The model is Brown's with rational radial terms, as cv::calibrateCamera writes it: (k1, k2, p1, p2[, k3[, k4, k5, k6]]).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy.ndimage import map_coordinates

from cad.errors import InputError

MATRICES = ("camera_matrix", "cameraMatrix", "Camera_Matrix", "mtx", "K")
DISTORTIONS = ("distortion_coefficients", "distCoeffs", "Distortion_Coefficients", "dist", "D")
WIDTHS, HEIGHTS = ("image_width", "image_Width"), ("image_height", "image_Height")
TERMS = (0, 4, 5, 8)
WANTED = "camera_matrix, distortion_coefficients, image_width and image_height, as OpenCV's calibration writes them"
STEP = "cv::FileStorage or the calibration sample writes such a file, as .yml, .yaml or .json"


@dataclass(frozen=True)
class Lens:
    """Focal lengths and principal point in px of a picture of ``width`` x ``height``; ``terms`` k1, k2, p1, p2, k3, k4, k5, k6."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    terms: tuple[float, ...]

    @property
    def side(self) -> int:
        return max(self.width, self.height)

    @property
    def angle(self) -> float:
        """Degrees across the square picture that :meth:`straightened` gives."""
        return float(2 * np.degrees(np.arctan(self.side / (2 * self.fx))))

    def source(self, points: np.ndarray) -> np.ndarray:
        """(..., 2) px of the straightened square -> (..., 2) px of the photograph, both with (0, 0) the outer corner of the first pixel."""
        x, y = np.moveaxis((np.asarray(points, float) - self.side / 2) / self.fx, -1, 0)
        k1, k2, p1, p2, k3, k4, k5, k6 = self.terms
        square = x * x + y * y
        radial = (1 + square * (k1 + square * (k2 + square * k3))) / (1 + square * (k4 + square * (k5 + square * k6)))
        u = x * radial + 2 * p1 * x * y + p2 * (square + 2 * x * x)
        v = y * radial + p1 * (square + 2 * y * y) + 2 * p2 * x * y
        return np.stack([self.fx * u + self.cx + 0.5, self.fy * v + self.cy + 0.5], -1)  # OpenCV counts from the pixel's middle

    def straightened(self, pixels: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 -> (side, side, 3) uint8: as a pinhole camera of :attr:`angle` with the part's axis in the middle sees it; the
        border's median where the photograph shows nothing."""
        border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        y, x = np.mgrid[: self.side, : self.side] + 0.5
        at = np.moveaxis(self.source(np.stack([x, y], -1)), -1, 0)[::-1] - 0.5
        planes = [
            map_coordinates(pixels[..., c].astype(np.float32), at, order=1, mode="constant", cval=float(np.median(border[:, c])))
            for c in range(3)
        ]
        return np.rint(np.stack(planes, -1)).clip(0, 255).astype(np.uint8)

    def of_size(self, width: int, height: int) -> Lens | None:
        """The same lens for photographs saved smaller or larger; None for another shape of picture."""
        factor = width / self.width
        if abs(self.height * factor - height) > 1:
            return None
        at = [(c + 0.5) * factor - 0.5 for c in (self.cx, self.cy)]
        return Lens(width, height, self.fx * factor, self.fy * factor, *at, self.terms)

    def json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, data: dict[str, Any]) -> Lens:
        """From what :meth:`json` gave."""
        return cls(**{**data, "terms": tuple(data["terms"])})


class _Loader(yaml.SafeLoader):
    """YAML with OpenCV's matrices."""


_Loader.add_constructor("tag:yaml.org,2002:opencv-matrix", lambda loader, node: loader.construct_mapping(node, deep=True))


def read_lens(path: str | Path) -> Lens:
    """From a calibration file of OpenCV (or of ROS, which has the same names). Raises InputError where it is none."""
    path = Path(path)
    found = _parsed(path)
    matrix = _numbers(path, found, MATRICES)
    if matrix is None or len(matrix) != 9:
        raise InputError(path, "has no 3 x 3 camera_matrix", wanted=WANTED, step=STEP)
    fx, skew, cx, _, fy, cy, *last = matrix
    if not (fx > 0 and fy > 0) or abs(skew) > 1e-6 * fx or list(last) != [0, 0, 1]:
        raise InputError(f"{path}: camera_matrix", f"found {matrix}", wanted="[fx, 0, cx, 0, fy, cy, 0, 0, 1] with fx, fy > 0")
    terms = _numbers(path, found, DISTORTIONS) or []
    if len(terms) > 8 and not any(terms[8:]):  # thin prism and tilt, not in use
        terms = terms[:8]
    if len(terms) not in TERMS:
        raise InputError(f"{path}: distortion_coefficients", f"found {len(terms)} of them", wanted="none, 4, 5 or 8: k1, k2, p1, p2, k3, k4, k5, k6", step="calibrate without the thin prism and tilted models")  # fmt: skip
    size = [next((found[n] for n in names if n in found), None) for names in (WIDTHS, HEIGHTS)]
    if not all(isinstance(s, int) and 0 < s <= 100_000 for s in size):
        raise InputError(path, f"found image_width {size[0]} and image_height {size[1]}", wanted="the size of the pictures that it was calibrated with, px")  # fmt: skip
    if not (-size[0] < cx < 2 * size[0] and -size[1] < cy < 2 * size[1]):
        raise InputError(f"{path}: camera_matrix", f"found a principal point of {cx:g}, {cy:g} px", wanted=f"one near the middle of {size[0]} x {size[1]} px")  # fmt: skip
    return Lens(*size, fx, fy, cx, cy, tuple(terms) + (0.0,) * (8 - len(terms)))


def _parsed(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        if text.startswith("%YAML"):  # OpenCV writes %YAML:1.0, which no parser but its own takes
            text = text.split("\n", 1)[-1]
        found = json.loads(text) if path.suffix.lower() == ".json" else yaml.load(text, _Loader)
    except FileNotFoundError:
        raise InputError(path, "no such file", wanted="a camera calibration", step=STEP) from None
    except (yaml.YAMLError, ValueError, OSError, RecursionError) as error:
        raise InputError(path, f"cannot be read: {str(error).splitlines()[0]}", wanted=WANTED, step=STEP) from None
    if not isinstance(found, dict):
        raise InputError(path, "is no calibration", wanted=WANTED, step=STEP)
    return found


def _numbers(path: Path, found: dict[str, Any], names: tuple[str, ...]) -> list[float] | None:
    """The flat numbers of a matrix under any of these names; None where there is none of them."""
    name = next((n for n in names if n in found), None)
    if name is None:
        return None
    value = found[name].get("data") if isinstance(found[name], dict) else found[name]
    try:
        flat = np.asarray(value, float).ravel()
    except (TypeError, ValueError):
        flat = np.array([np.nan])
    if not np.isfinite(flat).all():
        raise InputError(f"{path}: {name}", "is not a matrix of numbers", wanted=WANTED)
    return [float(v) for v in flat]
