"""unet-som: a U-Net by reconstruction alone, and a self-organising map of its descriptors that recalls the nearest seen object (Tiger Analytics,
option 1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from train.config import Config
from train.models.base import DOUBT_EVERY, Batch, Model, Projected, Turn
from train.networks import Encoder, Generator
from train.som import fit_som, quantised

ROWS, COLUMNS = 24, 24  # nodes of the map: about one to seven of the views that it is made from by default


class UnetSom(Model):
    """The map's nodes are codes too: what they decode to is seen, or lies between what was."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.encoder, self.generator = Encoder(config), Generator(config)
        self.register_buffer("nodes", torch.zeros(ROWS * COLUMNS, config.latent))

    def players(self) -> dict[str, Sequence[nn.Module]]:
        return {"maker": (self.encoder, self.generator)}

    def expected(self, code: Tensor) -> tuple[Tensor, Tensor]:
        return self.generator.expected(code)

    def nearest(self, code: Tensor) -> Tensor:
        return quantised(self.nodes, code)

    def drawn(self, image: Tensor, noise: Tensor) -> Tensor:
        return self.decode(self.encode(image))  # the map is made when all is learned

    def settle(self, codes: Tensor) -> None:
        self.nodes.copy_(fit_som(codes, ROWS, COLUMNS, seed=self.config.seed))

    def maker_turn(self, batch: Batch, made: Tensor | None) -> Turn:
        code = self.encoder(batch.seen)
        made, log_size = self.expected(code) if batch.step % DOUBT_EVERY == 0 else (self.decode(code), None)
        return self.reconstruction(made, batch, log_size), None

    def terms(self, found: Projected) -> dict[str, Tensor]:
        """``descriptor``: how far the image's descriptor is from the map."""
        code = self.encode(found.image)
        return super().terms(found) | {"descriptor": (code - self.nearest(code)).pow(2).mean(1).sqrt()}
