"""The learned forms, a module each, over shared networks (train.networks) and one game (train.game)."""

from __future__ import annotations

import torch

from train.catalogue import class_of
from train.config import Config
from train.models.base import Model


def build(config: Config) -> Model:
    """A freshly initialised model; the draw comes from ``config.seed`` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return class_of(config.model)(config).to(memory_format=torch.channels_last)
