"""Codes to start a descent from, and views to name sub-components by, kept with a run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from cad.files import whole, write
from train.catalogue import CATALOGUE
from train.config import Config
from train.learning import prepared
from train.models.base import Model
from train.physical import codes_of
from train.places import Places
from train.views import Views

CODES, SCENES = "bank.safetensors", "bank.jsonl"
MOST = 4096  # views that are kept
DRAWN = 2048  # codes that are drawn where there is no way back from an image
THUMB = 16  # px of the thumbnails


@dataclass(frozen=True, eq=False)
class Bank:
    """``codes`` (n, Z) float32 and ``code_thumbs`` (n, 256), the thumbnails of what they stand for; ``thumbs`` (m, 256) of good training views, and
    their ``scenes`` and dimensions, () of photographs. Thumbnails are float32, of unit length. ``descriptors`` (m, D) of photographs by a model that
    encodes none (:meth:`train.models.base.Model.described`); ``places``: what photographs have where (:meth:`train.models.base.Model.texture`)."""

    codes: Tensor
    code_thumbs: Tensor
    thumbs: Tensor
    scenes: list[dict[str, Any]]
    descriptors: Tensor | None = None
    places: Places | None = None


def thumbnails(images: Tensor) -> Tensor:
    """(n, 1, S, S) -> (n, 256) float32: the picture at 16 x 16, less its mean, unit length."""
    small = torch.nn.functional.adaptive_avg_pool2d(images, THUMB).flatten(1)
    return torch.nn.functional.normalize(small - small.mean(1, keepdim=True))


@torch.no_grad()
def make_bank(model: Model, views: Views, config: Config) -> Bank:
    """Of a trained model in evaluation mode, on the processor. Codes are what the encoder answers to the views; the views' own poses, where codes are
    physical; draws from the prior, where nothing leads back from an image; none, where forms have no codes."""
    scenes = (views.scenes() or [])[:MOST]
    codes, thumbs, described = [], [], []
    pictures = views.images(config, MOST)
    for images in _prepared(pictures, config):
        thumbs.append(thumbnails(images))
        if model.ENCODES:
            codes.append(model.encode(images.contiguous(memory_format=torch.channels_last)))
        elif not scenes and (own := model.described(images)) is not None:
            described.append(own.float())
    seen, descriptors = torch.cat(thumbs), torch.cat(described) if described else None
    places = None
    if not scenes and not config.picture and len(seen) > 1 and model.texture(images[:1]) is not None:
        places = Places.of((model.texture(images) for images in _prepared(pictures, config)), alike=True)
    if CATALOGUE[config.model].needs == "scenes":
        return Bank(torch.from_numpy(codes_of([s["scene"] for s in scenes])).float(), seen, seen, scenes)
    if model.ENCODES:
        return Bank(torch.cat(codes), seen, seen, scenes, None, places)
    if not model.DECODES:
        return Bank(torch.zeros(len(seen), config.latent), seen, seen, scenes, descriptors, places)
    drawn = torch.randn((DRAWN, config.latent), generator=torch.Generator().manual_seed(config.seed))
    return Bank(drawn, torch.cat([thumbnails(model.decode(part)) for part in drawn.split(64)]), seen, scenes, descriptors, places)


def _prepared(pictures: np.ndarray, config: Config) -> Iterator[Tensor]:
    """(n, P, P, 3) uint8 -> (64, 1, S, S) float32 a time; of pictures larger than the networks the middle stands for their tiles."""
    for start in range(0, len(pictures), 64):
        images = prepared(pictures[start : start + 64], config).float()
        at = (images.shape[-1] - config.size) // 2
        yield images[:, :, at : at + config.size, at : at + config.size]


def save_bank(bank: Bank, folder: Path) -> None:
    held = {"codes": bank.codes, "thumbs": bank.thumbs}
    if bank.code_thumbs is not bank.thumbs:
        held["code_thumbs"] = bank.code_thumbs
    if bank.descriptors is not None:
        held["descriptors"] = bank.descriptors
    if bank.places is not None:
        held |= {"place_middle": bank.places.middle, "place_whiten": bank.places.whiten}
    with whole(folder / CODES) as temporary:
        save_file({k: v.contiguous() for k, v in held.items()}, temporary)
    write(folder / SCENES, "".join(json.dumps(line) + "\n" for line in bank.scenes))


def open_bank(folder: Path) -> Bank:
    """Raises what a damaged or missing file does: FileNotFoundError, SafetensorError, json.JSONDecodeError."""
    held = load_file(folder / CODES)
    scenes = [json.loads(line) for line in (folder / SCENES).read_text(encoding="utf-8").splitlines()]
    places = Places(held["place_middle"], held["place_whiten"]) if "place_middle" in held else None
    return Bank(held["codes"], held.get("code_thumbs", held["thumbs"]), held["thumbs"], scenes, held.get("descriptors"), places)
