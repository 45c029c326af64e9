"""A descent as a moving picture: the photograph, the form at each step, what is left over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from cad.errors import InputError
from cad.files import whole
from detect.cad_descent import Step
from detect.cad_detector import CadDetector
from detect.opening import AnyDetector
from detect.photo_detector import PhotoDetector
from synth.color import srgb
from train.cad_form import luminance
from train.photographs import Photograph
from train.shading import Placement, lit

PANEL = 192  # px
MILLISECONDS, LAST = 220, 1800  # a frame, and the last


def write_trace(detector: AnyDetector, photograph: Photograph, path: Path) -> None:
    """Writes the GIF. Raises InputError where the form is learned, or the file's name does not end in .gif."""
    if isinstance(detector, PhotoDetector):
        raise InputError("--trace", "the run compares photographs by their outlines", wanted="a run that compares renders", step="detect calibrate GOOD --route render")  # fmt: skip
    if not isinstance(detector, CadDetector):
        raise InputError("--trace", "the run holds a learned form", wanted="a CAD form", step="train fit --form cad")
    if path.suffix.lower() != ".gif":
        raise InputError("--trace", f'found "{path}"', wanted="a name that ends in .gif")
    shown = frames(detector, photograph)
    with whole(path) as temporary:
        durations = [MILLISECONDS] * (len(shown) - 1) + [LAST]
        shown[0].save(temporary, format="GIF", save_all=True, append_images=shown[1:], duration=durations, loop=0)


def frames(detector: CadDetector, photograph: Photograph) -> list[Image.Image]:
    """A picture for each step of each stage's best start."""
    steps: list[Step] = []
    detector.project(photograph.pixels, steps)
    return [f for step in steps for f in _frames(detector, photograph, step)]


def _frames(detector: CadDetector, photograph: Photograph, step: Step) -> list[Image.Image]:
    size, form = detector.size, detector.form
    picture = luminance(photograph.pixels).ravel()
    frames = []
    for row in step.path[np.isfinite(step.path[:, 0])]:
        at = Placement(row[1:10].reshape(3, 3), row[10:13], float(row[13]), form.reference.perspective)
        made = lit(form.drawn(at, size), picture)[1]
        panels = [srgb(picture), srgb(made), np.clip(0.5 + 2 * (picture - made), 0, 1)]
        frame = Image.new("L", (3 * PANEL + 8, PANEL + 20), 255)
        for k, panel in enumerate(panels):
            shown = Image.fromarray(np.rint(255 * panel.reshape(size, size)).astype(np.uint8))
            frame.paste(shown.resize((PANEL, PANEL), Image.Resampling.NEAREST), (k * (PANEL + 4), 0))
        ImageDraw.Draw(frame).text((4, PANEL + 4), f"{step.name}   residual {row[0]:.4f}", fill=0)
        frames.append(frame)
    return frames
