"""Photographs in, whatever their format: square (S, S, 3) uint8 sRGB out, with the way back to the photograph's own pixels."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from cad.errors import InputError
from train.images import resized
from train.lens import Lens

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
SMALLEST, LONGEST, LARGEST = 16, 20_000, 100_000_000  # px a side; px a side, for it is padded to a square; px in all


@dataclass(frozen=True, eq=False)
class Photograph:
    """``pixels`` (S, S, 3) uint8: the whole photograph, its shorter side padded with the border's median colour, resized.

    Pixel (x, y) of it lies at ``(x, y) * scale - offset`` in the photograph's own pixels, of which it has ``width`` x ``height``; where it
    was straightened, at ``lens.source((x, y) * scale)``.
    """

    path: Path
    pixels: np.ndarray
    width: int
    height: int
    lens: Lens | None = None

    @property
    def scale(self) -> float:
        return max(self.width, self.height) / len(self.pixels)

    @property
    def offset(self) -> tuple[float, float]:
        side = max(self.width, self.height)
        return (side - self.width) // 2, (side - self.height) // 2

    def own_box(self, box: tuple[int, int, int, int]) -> list[int]:
        """(x0, y0, x1, y1) of ``pixels`` -> the photograph's own pixels, clipped to it."""
        limits, corners = (self.width, self.height) * 2, np.array(box, float) * self.scale
        if self.lens is None:
            corners -= self.offset * 2
        else:
            x0, y0, x1, y1 = corners
            around = self.lens.source(np.array([[x0, y0], [x1, y0], [x0, y1], [x1, y1]]))
            corners = np.r_[around.min(0), around.max(0)]
        return [int(np.clip(round(v), 0, m)) for v, m in zip(corners.tolist(), limits, strict=True)]


def read(path: str | Path, size: int, lens: Lens | None = None) -> Photograph:
    """8- and 16-bit, grey, palette, RGBA (over black) and EXIF-rotated files alike. ``lens``: the calibration of the camera, to be undone.

    Raises InputError for what is no usable image, or was not taken through ``lens``.
    """
    path = Path(path)
    try:
        with _quiet(), Image.open(path) as image:
            width, height = image.size
            if width * height > LARGEST:
                raise InputError(
                    path, f"is {width} x {height} px", wanted=f"at most {LARGEST // 10**6} megapixels", step="crop to the part"
                )
            if max(width, height) > LONGEST:
                raise InputError(path, f"is {width} x {height} px", wanted=f"at most {LONGEST} px a side", step="crop to the part")
            if min(width, height) < SMALLEST:
                raise InputError(path, f"is {width} x {height} px", wanted=f"at least {SMALLEST} px a side")
            pixels = _rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise InputError(path, "no such file", wanted="an image") from None
    except IsADirectoryError:
        raise InputError(path, "is a folder", wanted="an image", step=f"name the files: {path}/*.png") from None
    except Image.DecompressionBombError:
        raise InputError(path, "is far too large", wanted=f"at most {LARGEST // 10**6} megapixels", step="crop to the part") from None
    except UnidentifiedImageError:
        raise InputError(path, "is not an image that can be read", wanted=f"one of {', '.join(ENDINGS)}") from None
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow's decoders raise for broken files
        raise InputError(path, f"is damaged: {error}", wanted="a whole image file") from None
    height, width = pixels.shape[:2]
    if lens is None:
        return Photograph(path, resized(_squared(pixels)[None], size)[0], width, height)
    own = lens.of_size(width, height)
    if own is None:
        raise InputError(path, f"is {width} x {height} px", wanted=f"the shape of the camera's calibration, {lens.width} x {lens.height} px", step="photographs are not to be cropped or turned")  # fmt: skip
    return Photograph(path, resized(own.straightened(pixels)[None], size)[0], width, height, own)


def find_images(folder: str | Path) -> list[Path]:
    """The images of a folder, in order of name. Raises InputError where there is no folder, or no image in it."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(folder, "no such folder" if not folder.exists() else "is a file", wanted="a folder of images")
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in ENDINGS and p.is_file())
    if not found:
        raise InputError(folder, "holds no images", wanted=f"files ending in {', '.join(ENDINGS)}")
    return found


def read_all(paths: Iterable[str | Path], size: int, lens: Lens | None = None) -> list[Photograph]:
    return [read(p, size, lens) for p in paths]


@contextmanager
def _quiet() -> Iterator[None]:
    """Pillow warns of large and of broken files: they are refused here, or read."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def _rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image).astype(np.float64)
        top = values.max(initial=0.0)
        full = 1.0 if image.mode == "F" and top <= 1 else 255.0 if top <= 255 else 65535.0
        return np.repeat(np.rint(np.clip(values / full * 255, 0, 255)).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        return np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image).convert("RGB"))
    return np.asarray(image.convert("RGB"))


def _squared(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    if height == width:
        return pixels
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    side = max(height, width)
    square = np.empty((side, side, 3), np.uint8)
    square[:] = np.median(border, axis=0).astype(np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = pixels
    return square
