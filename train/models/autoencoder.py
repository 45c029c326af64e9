"""ae-ssim: an autoencoder that learns structural similarity, and is judged by it (Bergmann et al. 2019): a baseline."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from train.config import Config
from train.models.base import Batch, Model, Projected, Turn
from train.networks import Encoder, Generator
from train.ssim import ssim

RANGE = 4.0  # of prepared grey values: from two deviations below the mean to two above


class SsimAutoencoder(Model):
    """Loss and score are one less the mean similarity."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.encoder, self.generator = Encoder(config), Generator(config)

    def players(self) -> dict[str, Sequence[nn.Module]]:
        return {"maker": (self.encoder, self.generator)}

    def expected(self, code: Tensor) -> tuple[Tensor, Tensor]:
        return self.generator.expected(code)

    def maker_turn(self, batch: Batch, made: Tensor | None) -> Turn:
        made, log_size = self.expected(self.encoder(batch.seen))
        losses = self.reconstruction(made, batch, log_size)
        return {"ssim": 1 - ssim(made.float(), batch.clean, range=RANGE).mean(), "doubt": losses["doubt"]}, None

    def terms(self, found: Projected) -> dict[str, Tensor]:
        apart = 1 - ssim(found.form, found.image, range=RANGE)
        return super().terms(found) | {"own": apart.amax((1, 2, 3))}
