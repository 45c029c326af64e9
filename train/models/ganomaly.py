"""ganomaly: encoder, decoder, encoder; what is strange has a code that does not survive being drawn (Akcay et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from train.config import Config
from train.models.base import Batch, Projected, Turn
from train.models.unet_gan import UnetGan
from train.networks import Encoder

CODE = 0.1  # weight of the codes' agreement beside the reconstruction's


class Ganomaly(UnetGan):
    """``own``: the mean difference between an image's code and the second encoder's of its form."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.again = Encoder(config)

    def players(self) -> dict[str, Sequence[nn.Module]]:
        return {"maker": (self.encoder, self.generator, self.again), "judge": (self.discriminator,)}

    def maker_turn(self, batch: Batch, made: Tensor | None) -> Turn:
        code = self.encoder(batch.seen)
        made, log_size = self.expected(code)
        losses = self.reconstruction(made, batch, log_size)
        losses["code"] = CODE * (code - self.again(made)).float().pow(2).mean()
        if self.due("judge", batch.step, batch.done):
            losses |= self.fooling(made, batch)
        return losses, made.detach()

    def terms(self, found: Projected) -> dict[str, Tensor]:
        code = self.encode(found.image)
        return super().terms(found) | {"own": (code - self.again(found.form)).abs().mean(1)}
