"""unet-gan: reconstruction through a narrow waist, and a discriminator that wants it real (Tiger Analytics, option 2)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from train.config import Config
from train.models.base import DOUBT_EVERY, Batch, Model, Turn
from train.networks import Discriminator, Encoder, Generator


class UnetGan(Model):
    """Encoder and generator are one U-Net without cross connections; the code is all that passes."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.encoder, self.generator, self.discriminator = Encoder(config), Generator(config), Discriminator(config)

    def players(self) -> dict[str, Sequence[nn.Module]]:
        return {"maker": (self.encoder, self.generator), "judge": (self.discriminator,)}

    def expected(self, code: Tensor) -> tuple[Tensor, Tensor]:
        return self.generator.expected(code)

    def maker_turn(self, batch: Batch, made: Tensor | None) -> Turn:
        code = self.encoder(batch.seen)
        made, log_size = self.expected(code) if batch.step % DOUBT_EVERY == 0 else (self.decode(code), None)
        losses = self.reconstruction(made, batch, log_size)
        if self.due("judge", batch.step, batch.done):
            losses |= self.fooling(made, batch)
        return losses, made.detach()

    def judge_turn(self, batch: Batch, made: Tensor | None) -> Turn:
        return self.judging(batch.clean, made, batch), None
