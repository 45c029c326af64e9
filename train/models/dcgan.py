"""dcgan and anogan: a generator of good images from noise, with no way back but a descent.

Both train alike (Radford et al. 2016); they differ in what they call strange: Lai et al. 2018 compare codes with those of good images by
the Fréchet distance, AnoGAN (Schlegl et al. 2017) sums what is left over and what the discriminator sees of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from train.config import Config
from train.losses import feature_distance, pyramid_l1
from train.models.base import Batch, Model, Projected, Turn
from train.networks import Discriminator, Generator

ANOGAN = 0.1  # the discriminator's share in AnoGAN's score


class Dcgan(Model):
    """``own``: the Laplacian pyramid's L1 that the descent ends at; ``latent``: how far the codes of all starts are from the prior."""

    PRIOR, ENCODES = True, False

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.generator, self.discriminator = Generator(config), Discriminator(config, width=config.width)

    def players(self) -> dict[str, Sequence[nn.Module]]:
        return {"maker": (self.generator,), "judge": (self.discriminator,)}

    def maker_turn(self, batch: Batch, made: Tensor | None) -> Turn:
        made = self.decode(batch.draw.normal(self.config.latent))
        return self.fooling(made, batch, paired=False), made.detach()

    def judge_turn(self, batch: Batch, made: Tensor | None) -> Turn:
        return self.judging(batch.clean, made, batch), None

    def terms(self, found: Projected) -> dict[str, Tensor]:
        return super().terms(found) | {"own": pyramid_l1(found.form, found.image), "latent": frechet_to_prior(found.codes)}


class AnoGan(Dcgan):
    """``own``: 0.9 of the residual and 0.1 of the features' distance."""

    def terms(self, found: Projected) -> dict[str, Tensor]:
        terms = super().terms(found)
        terms["own"] = (1 - ANOGAN) * terms["residual"] + ANOGAN * feature_distance(self.features(found.form), self.features(found.image))
        return terms


def frechet_to_prior(codes: Tensor) -> Tensor:
    """(B, K, Z) -> (B,): the squared Fréchet distance between the diagonal Gaussian of each image's K codes and a standard normal."""
    mean = codes.mean(1)
    deviation = codes.std(1, unbiased=False) if codes.shape[1] > 1 else torch.ones_like(mean)
    return mean.pow(2).sum(1) + (deviation - 1).pow(2).sum(1)
