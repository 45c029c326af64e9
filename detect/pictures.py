"""Overlays: photograph, nearest good form, anomaly map, one beside the other, on a scale fixed by the calibration."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from detect.inspection import Calibration, Inspection
from train.photographs import Photograph

PANEL = 192  # px


def panels(
    photograph: Photograph,
    form: np.ndarray,
    anomaly: np.ndarray,
    inspection: Inspection,
    calibration: Calibration,
    mask: np.ndarray | None = None,
) -> list[Image.Image]:
    """Photograph with its regions, nearest good form, anomaly map, PANEL px each; ``mask`` (S, S) bool: where the defect is, outlined in
    green. The heat starts at half the level of a region and ends at twice it, the same for every image: a good part stays cold."""
    heat = np.clip((anomaly / calibration.level - 0.5) / 1.5, 0, 1)
    grey = photograph.pixels.mean(2, keepdims=True).repeat(3, 2)
    warm = heat[..., None] * np.array([255.0, 60.0, 0.0]) + (1 - heat[..., None]) * grey
    layers = [photograph.pixels, np.repeat((255 * form)[..., None], 3, 2), warm]
    drawn = [Image.fromarray(np.clip(a, 0, 255).astype(np.uint8)).resize((PANEL, PANEL), Image.Resampling.NEAREST) for a in layers]
    if mask is not None:
        drawn[0] = _traced(drawn[0], mask)
    _boxed(ImageDraw.Draw(drawn[0]), photograph, inspection)
    return drawn


def overlay(photograph: Photograph, form: np.ndarray, anomaly: np.ndarray, inspection: Inspection, calibration: Calibration) -> Image.Image:
    """The panels and a line of text."""
    picture = Image.new("RGB", (3 * PANEL + 8, PANEL + 20), "white")
    for i, panel in enumerate(panels(photograph, form, anomaly, inspection, calibration)):
        picture.paste(panel, (i * (PANEL + 4), 0))
    where = f" on {inspection.regions[0]['feature']}" if inspection.regions and inspection.regions[0]["feature"] else ""
    ImageDraw.Draw(picture).text(
        (4, PANEL + 4),
        f"{inspection.verdict}{where}   score {inspection.score:.2f} (threshold {inspection.threshold:.2f})   p {inspection.p_value:.3f}",
        fill="black",
    )
    return picture


def _traced(picture: Image.Image, mask: np.ndarray) -> Image.Image:
    large = np.asarray(Image.fromarray(mask).resize(picture.size, Image.Resampling.NEAREST))
    return Image.fromarray(np.where((ndimage.binary_dilation(large) & ~large)[..., None], np.uint8([0, 190, 60]), np.asarray(picture)))


def _boxed(pen: ImageDraw.ImageDraw, photograph: Photograph, inspection: Inspection) -> None:
    """The boxes of the first four regions."""
    factor = PANEL / len(photograph.pixels) / photograph.scale
    dx, dy = photograph.offset
    for region in inspection.regions[:4]:
        x0, y0, x1, y1 = region["bbox"]
        left, top, right, bottom = ((x0 + dx) * factor, (y0 + dy) * factor, (x1 + dx) * factor, (y1 + dy) * factor)
        # a region of a photograph smaller than the form may be less than a pixel of it
        pen.rectangle([left, top, max(right - 1, left), max(bottom - 1, top)], outline=(255, 40, 40))
