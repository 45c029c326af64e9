"""Overlays: photograph, nearest good form, anomaly map, one beside the other, on a scale fixed by the calibration."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from detect.inspection import Calibration, Inspection
from detect.photographs import Photograph

PANEL = 192  # px


def overlay(photograph: Photograph, form: np.ndarray, anomaly: np.ndarray, inspection: Inspection, calibration: Calibration) -> Image.Image:
    """Three panels and a line of text. The heat starts at half the level of a region and ends at twice it, the same for every image:
    a good part stays cold."""
    level = calibration.level
    heat = np.clip((anomaly / level - 0.5) / 1.5, 0, 1)
    grey = photograph.pixels.mean(2, keepdims=True).repeat(3, 2)
    warm = heat[..., None] * np.array([255.0, 60.0, 0.0]) + (1 - heat[..., None]) * grey
    panels = [photograph.pixels, np.repeat((255 * form)[..., None], 3, 2), warm]
    picture = Image.new("RGB", (3 * PANEL + 8, PANEL + 20), "white")
    for i, panel in enumerate(panels):
        picture.paste(
            Image.fromarray(np.clip(panel, 0, 255).astype(np.uint8)).resize((PANEL, PANEL), Image.Resampling.NEAREST), (i * (PANEL + 4), 0)
        )
    pen = ImageDraw.Draw(picture)
    factor = PANEL / len(photograph.pixels) / photograph.scale
    dx, dy = photograph.offset
    for region in inspection.regions[:4]:
        x0, y0, x1, y1 = region["bbox"]
        corners = [(x0 + dx) * factor, (y0 + dy) * factor, (x1 + dx) * factor, (y1 + dy) * factor]
        left, top, right, bottom = corners  # a region of a photograph smaller than the form may be less than a pixel of it
        pen.rectangle([left, top, max(right - 1, left), max(bottom - 1, top)], outline=(255, 40, 40))
    where = f" on {inspection.regions[0]['feature']}" if inspection.regions and inspection.regions[0]["feature"] else ""
    pen.text(
        (4, PANEL + 4),
        f"{inspection.verdict}{where}   score {inspection.score:.2f} (threshold {inspection.threshold:.2f})   p {inspection.p_value:.3f}",
        fill="black",
    )
    return picture
