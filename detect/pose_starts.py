"""Where a CAD form's search may begin: the poses that a conditioned form answers to a photograph with, in one pass and a short descent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from cad.errors import InputError
from detect.projection import Projector, Settings
from synth.scene import Placement, placement_of
from train.catalogue import CATALOGUE
from train.images import resized
from train.physical import scene_of
from train.runs import Run, open_run

SHORT = Settings(steps=12, starts=8, rate=0.05, features=0.0, prior=0.0, trust=0.0, method="adam", keep=1)


class PoseStarts:
    """``starts(pixels, pivot)``: (S, S, 3) uint8 -> places of the part, the likeliest first."""

    def __init__(self, run: Run) -> None:
        self.run, self.projector = run, Projector(run, torch.device("cpu"), SHORT)

    def __call__(self, pixels: np.ndarray, pivot: np.ndarray) -> list[Placement]:
        seen = resized(pixels[None], self.run.config.size)
        code = self.projector.whole(seen).codes[0].astype(float)
        return [placement_of(scene_of(code, self.run.scene(0)), pivot)]


def open_starts(folder: Path, part_text: str) -> PoseStarts:
    """Raises InputError where the run's codes are no poses, or it has learned another part."""
    run = open_run(folder)
    if CATALOGUE[run.config.model].needs != "scenes":
        raise InputError(
            "--poses", f"{folder} holds {run.config.model}", wanted="a run whose codes are poses", step="train fit --model conditioned"
        )
    if run.part is None or run.part.text != part_text:
        raise InputError("--poses", f"{folder} has learned another part file", wanted="the part of the CAD form")
    return PoseStarts(run)
