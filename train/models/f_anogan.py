"""f-anogan: a generator for the first half of training, then an encoder that maps images back to its noise (Schlegl et al. 2019).

The paper's game is Wasserstein's with a gradient penalty; the defaults are those of dcgan, which come further in minutes (train.catalogue).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from train.config import Config
from train.losses import feature_distance
from train.models.base import Batch, Projected, Turn
from train.models.dcgan import Dcgan
from train.networks import Encoder

GAME = 0.5  # share of training that the generator and the discriminator get
KAPPA = 1.0  # weight of the discriminator's features beside the residual


class FAnoGan(Dcgan):
    """The encoder learns as izi_f does: image to code to image, alike in pixels and in the discriminator's features."""

    ENCODES = True

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.encoder = Encoder(config)

    def players(self) -> dict[str, Sequence[nn.Module]]:
        return {**super().players(), "mapper": (self.encoder,)}

    def due(self, player: str, step: int, done: float) -> bool:
        return (player == "mapper") == (done >= GAME) and super().due(player, step, done)

    def mapper_turn(self, batch: Batch, made: Tensor | None) -> Turn:
        self.generator.eval(), self.discriminator.eval()  # they no longer learn, nor do their statistics
        form = self.decode(self.encoder(batch.seen))
        with torch.no_grad():
            wanted = self.features(batch.clean)
        losses = self.reconstruction(form, batch)
        losses["features"] = KAPPA * feature_distance(self.features(form), wanted).float().mean()
        return losses, None

    def terms(self, found: Projected) -> dict[str, Tensor]:
        terms = super().terms(found)
        apart = feature_distance(self.features(found.form), self.features(found.image))
        terms["own"] = (found.image - found.form).pow(2).mean((1, 2, 3)) + KAPPA * apart
        return terms
