"""What a training step picks from: good images ready for the networks, whole or in tiles, their poses, known abnormal ones, and some held out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from cad.errors import InputError
from train.catalogue import CATALOGUE
from train.config import Config
from train.images import prepare
from train.views import Views

CHUNK = 64  # pictures prepared at a time
FEWEST_HELD = 8  # images that a validation measure is taken of


@dataclass(frozen=True, eq=False)
class Learning:
    """``images`` (n, 1, P, P), ``held_out`` (m, 1, P, P) and ``known`` (k, 1, P, P), prepared; P is the networks' ``size`` or, where they see tiles, the
    picture's; ``poses`` (n, C) or None; ``steps`` make an epoch."""

    images: Tensor
    held_out: Tensor
    known: Tensor
    poses: Tensor | None
    steps: int
    size: int

    @property
    def choices(self) -> int:
        """Of an epoch: an image each or, where there are tiles, one for each tile that covers it."""
        return len(self.images) * (self.images.shape[-1] // self.size) ** 2

    def to(self, move: Callable[[Tensor], Tensor]) -> Learning:
        poses = None if self.poses is None else move(self.poses)
        return replace(self, images=move(self.images), held_out=move(self.held_out), known=move(self.known), poses=poses)

    def pictures(self, picks: Tensor, seed: int) -> Tensor:
        """(len(picks), 1, S, S) float32 of ``picks`` in [0, choices); where there are tiles, each from a place that hangs on ``seed``."""
        return self._cut(self.images, picks % len(self.images), seed)

    def abnormal(self, picks: Tensor, seed: int) -> Tensor:
        """The same of the known abnormal images."""
        return self._cut(self.known, picks, seed)

    def sample(self, count: int, stride: int = 1) -> Tensor:
        """(count, 1, S, S): the same good ones each time; fewer where there are not so many."""
        picks = torch.arange(len(self.images), device=self.images.device)[: stride * count : stride]
        return self.pictures(picks, 0)

    def held(self) -> Tensor:
        """(m, 1, S, S) of those held out."""
        return self._cut(self.held_out, torch.arange(len(self.held_out), device=self.held_out.device), 1)

    def _cut(self, pictures: Tensor, picks: Tensor, seed: int) -> Tensor:
        spare = pictures.shape[-1] - self.size
        if spare == 0:
            return pictures[picks].float()
        corners = np.random.default_rng([seed, 2]).integers(0, spare + 1, (len(picks), 2)).tolist()
        return torch.stack([pictures[p, :, y : y + self.size, x : x + self.size] for p, (y, x) in zip(picks, corners, strict=True)]).float()


def learning(views: Views, config: Config, world: int = 1) -> Learning:
    """On the processor, in the views' order. Raises InputError where they are too few, or have no poses for a model that wants them."""
    _check(views, config, world)
    images = prepared(views.images(config), config)
    poses = None
    if CATALOGUE[config.model].needs == "scenes":
        from train.physical import codes_of

        poses = torch.from_numpy(codes_of([s["scene"] for s in views.scenes()])).float()
    held_out, keep = images[:0], torch.arange(len(images))
    if config.patience:
        order = torch.from_numpy(np.random.default_rng([config.seed, 3]).permutation(len(images)))
        held = max(FEWEST_HELD, round(config.validation * len(images)))
        held_out, keep = images[order[:held]], order[held:].sort().values
        images = images[keep]
    known = prepared(views.abnormal(config), config)
    found = Learning(images, held_out, known, None if poses is None else poses[keep], 1, config.size)
    steps = found.choices // (config.batch * world)
    if not steps:
        raise _too_few(views, len(images), config.batch * world)
    return replace(found, steps=steps)


def prepared(pictures: np.ndarray, config: Config) -> Tensor:
    """(n, P, P, 3) uint8 -> (n, 1, P, P), each as a whole, in halves of the memory where it is to be cut into tiles."""
    kind = torch.float16 if pictures.shape[1] > config.size else torch.float32
    parts = [prepare(pictures[i : i + CHUNK], config.normalize).to(kind) for i in range(0, len(pictures), CHUNK)]
    return torch.cat(parts) if parts else torch.zeros((0, 1, *pictures.shape[1:3]), dtype=kind)


def _check(views: Views, config: Config, world: int) -> None:
    tiles = ((config.picture or config.size) // config.size) ** 2
    if views.count * tiles < config.batch * world:
        raise _too_few(views, views.count, config.batch * world)
    if CATALOGUE[config.model].needs == "scenes" and views.scenes() is None:
        raise InputError(
            "--model", f"{config.model} learns from known poses", wanted="a rendered dataset", step="synth render PART, or another --model"
        )


def _too_few(views: Views, found: int, batch: int) -> InputError:
    step = (
        "synth render with a larger -n, or train fit with a smaller --batch" if views.dataset else "add photographs, or a smaller --batch"
    )
    return InputError(
        views.dataset.folder if views.dataset else views.name,
        f"found {found} good training views",
        wanted=f"at least a batch, {batch}",
        step=step,
    )
