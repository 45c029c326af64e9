"""noisy-gan: the U-Net GAN from data that hold defects nobody labelled (Kimura and Yanagihara 2018, arXiv 1807.01136).

Known abnormal images, where there are any, count as made ones to the discriminator, and what the generator makes of them has to pass for real: the
learned distribution bends away from them. Unlabelled ones among the good are those that fit worst: they are left out of each step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from train import game
from train.losses import pyramid_l1
from train.models.base import DOUBT_EVERY, Batch, Turn
from train.models.unet_gan import UnetGan

LEFT_OUT = 3.0  # deviations (by the median) of a step's losses above which an image is not learned from
SETTLED = 0.15  # share of training before which nothing is left out: at first everything fits badly
KNOWN = 0.5  # weight of the known abnormal images in the discriminator's loss


class NoisyGan(UnetGan):
    """Scores as unet-gan does."""

    def maker_turn(self, batch: Batch, made: Tensor | None) -> Turn:
        known = 0 if batch.known is None else len(batch.known)
        code = self.encoder(batch.seen if not known else torch.cat([batch.seen, batch.known]))
        made, log_size = self.expected(code) if batch.step % DOUBT_EVERY == 0 else (self.decode(code), None)
        made, mended = made.split([len(batch.clean), known])
        fits = self.trusted(made, batch)
        losses = self.reconstruction(fits * made + (1 - fits) * batch.clean, batch)
        if log_size is not None:
            rows = (batch.seen == batch.clean).flatten(1).all(1) & (fits.flatten() > 0)
            losses["doubt"] = self.likelihood(made, batch.clean, log_size[: len(made)], rows)
        if self.due("judge", batch.step, batch.done):
            losses |= self.fooling(made, batch)
            if known:
                realness = self.discriminator(mended)[0].float()
                losses["mended"] = (
                    self.config.adversarial * self.config.adversarial_every * game.maker_loss(self.config.game, realness).mean()
                )
        return losses, made.detach()

    def trusted(self, made: Tensor, batch: Batch) -> Tensor:
        """(B, 1, 1, 1) 0 or 1: whether an image fits about as well as the others of its step."""
        off = pyramid_l1(made.detach().float(), batch.clean)
        middle = off.median()
        spread = 1.4826 * (off - middle).abs().median()
        trusted = (off <= middle + LEFT_OUT * spread) | torch.tensor(batch.done < SETTLED, device=off.device)
        return trusted.float().view(-1, 1, 1, 1)

    def judge_turn(self, batch: Batch, made: Tensor | None) -> Turn:
        losses = self.judging(batch.clean, made, batch)
        if batch.known is not None and len(batch.known):
            real, abnormal = (self.discriminator(x)[0].float() for x in (batch.clean, batch.known))
            count = min(len(real), len(abnormal))
            losses["known"] = KNOWN * game.judge_loss(self.config.game, real[:count], abnormal[:count]).mean()
        return losses, None
