"""A run's diagnostics: :mod:`detect.diagnostics` asked about a learned form and labelled photographs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cad.errors import InputError
from detect.diagnostics import Diagnosis, diagnose, write_diagnostics
from detect.inspection import Detector
from detect.latent_space import Subject, prior_of, standard_normal
from detect.pose_coverage import TrainingViews
from detect.projection import chunks
from synth.scene import Scene
from train.photographs import Photograph

MANY = 8  # codes to a latent from which their covariance is known well enough


def subject_of(detector: Detector) -> Subject:
    """Raises InputError where the model's forms have no code."""
    run = detector.run
    if not run.model.DECODES:
        raise InputError(run.folder, f"{run.config.model} has no latent space", wanted="a model with codes", step="train list")
    if run.config.picture:
        raise InputError(run.folder, "sees pictures in tiles", wanted="a run on whole pictures")
    codes = run.bank.codes.to(detector.device)
    latent = codes.shape[1]
    prior = standard_normal(latent, detector.device) if run.model.PRIOR else prior_of(codes, correlated=len(codes) > MANY * latent)
    return Subject(run.config.model, run.model.decode, latent, run.model.encode if run.model.ENCODES else None, prior)


def asked(detector: Detector, photographs: Mapping[str, Sequence[Photograph]]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """{label: (n, 1, S, S)} prepared, and {label: (n, Z)} the codes that the run's own descent finds."""
    from train.images import prepare

    pictures, codes = {}, {}
    for label, own in photographs.items():
        pixels = [np.stack([p.pixels for p in part]) for part in chunks(own, detector.projector.together)]
        pictures[label] = torch.cat([prepare(part, detector.run.config.normalize) for part in pixels])
        codes[label] = torch.from_numpy(np.concatenate([detector.project(part).codes for part in pixels])).to(detector.device)
    return pictures, codes


def options_of(detector: Detector) -> dict[str, Any]:
    """What the diagnostics know besides: what was trained on, where its poses are known."""
    bank = detector.run.bank
    views = TrainingViews(bank.thumbs, [Scene.of(s["scene"]) for s in bank.scenes]) if bank.scenes else None
    return {"views": views}


def diagnosis(detector: Detector, photographs: Mapping[str, Sequence[Photograph]], seed: int = 0) -> Diagnosis:
    """``photographs``: {label: some}, one of them ``good``; none of them trained on. Raises InputError."""
    subject = subject_of(detector)
    return diagnose(subject, *asked(detector, photographs), seed=seed, **options_of(detector))


def diagnosed(detector: Detector, photographs: Mapping[str, Sequence[Photograph]], folder: Path, seed: int = 0) -> dict[str, Any]:
    """The same, written into ``folder`` as pictures and a page; the figures."""
    subject = subject_of(detector)
    return write_diagnostics(subject, *asked(detector, photographs), folder, seed=seed, **options_of(detector))
