"""descargan: defective images are translated into good ones; the change is the defect (DeScarGAN, Wolleb et al. 2020).

It learns from two sets with a label an image: good ones, and known abnormal ones or, where there are none, good ones with a patch disturbed. Cross
connections keep what is good of an image, so that the form needs no code and there is nothing to descend in.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from train import game
from train.config import Config
from train.models.base import Batch, Model, Turn
from train.networks import Discriminator, UNet

GOOD, BAD = 0, 1
IDENTITY, CYCLE, CLASS = 1.0, 0.5, 0.2  # weights beside the game's


class DeScarGan(Model):
    """``unet(image, class)`` is the image less what does not belong to the class."""

    ENCODES = DECODES = False

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.unet = UNet(config, classes=2)
        self.discriminator = Discriminator(config, classes=2)

    def players(self) -> dict[str, Sequence[nn.Module]]:
        return {"maker": (self.unet,), "judge": (self.discriminator,)}

    def rebuilt(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        form, log_size = self.unet.expected(image, GOOD)
        return form, log_size, image.new_zeros(len(image), self.config.latent)

    def bad(self, batch: Batch) -> Tensor:
        return batch.known if batch.known is not None and len(batch.known) else batch.seen

    def maker_turn(self, batch: Batch, made: Tensor | None) -> Turn:
        clean, bad = batch.clean, self.bad(batch)
        same, log_size = self.unet.expected(clean, GOOD)
        made = self.unet(bad, GOOD)
        losses = {"identity": IDENTITY * (same - clean).abs().float().mean()}
        losses["doubt"] = self.likelihood(same, clean, log_size, torch.ones(len(clean), dtype=torch.bool, device=clean.device))
        losses["cycle"] = CYCLE * (self.unet(made, BAD) - bad).abs().float().mean()
        if bad is batch.seen:  # its good image is known
            losses |= {"pyramid": self.reconstruction(made, batch)["pyramid"]}
        if self.due("judge", batch.step, batch.done):
            weight = self.config.adversarial * self.config.adversarial_every
            realness = self.discriminator(made)[0].float()
            losses["adversarial"] = weight * game.maker_loss(self.config.game, realness).mean()
            losses["class"] = weight * CLASS * _told(self.discriminator.classified(made), GOOD)
        return losses, made.detach()

    def judge_turn(self, batch: Batch, made: Tensor | None) -> Turn:
        losses = self.judging(batch.clean, made, batch)
        told = _told(self.discriminator.classified(batch.clean), GOOD) + _told(self.discriminator.classified(self.bad(batch)), BAD)
        losses["class"] = CLASS * told
        return losses, None


def _told(logits: Tensor, label: int) -> Tensor:
    return functional.cross_entropy(logits.float(), torch.full((len(logits),), label, device=logits.device))
