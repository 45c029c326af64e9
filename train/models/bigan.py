"""bigan and egbad: a generator and an encoder at once, told apart as pairs of image and code.

BiGAN/ALI (Donahue et al. 2017, Dumoulin et al. 2017) as GANspection has it: the Wasserstein distance, the stabilisers of Salimans et al. 2016, and an L2
between the discriminator's features of an image and of its reconstruction. EGBAD (Zenati et al. 2018) plays by cross-entropy, without that L2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from train import game
from train.config import Config
from train.models.base import Batch, Losses, Model, Projected, Turn
from train.networks import Discriminator, Encoder, Generator

EGBAD = 0.9  # the reconstruction's share in EGBAD's score


class BiGan(Model):
    """The discriminator sees (x, E(x)) and (G(z), z). Terms: ``latent``, how far G(E(x))'s code is from E(x); the residual; the features of both
    pairs; the verdict on the pair."""

    PRIOR = True

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.encoder, self.generator = Encoder(config), Generator(config)
        self.discriminator = Discriminator(config, code=config.latent, width=config.width)

    def players(self) -> dict[str, Sequence[nn.Module]]:
        return {"maker": (self.encoder, self.generator), "judge": (self.discriminator,)}

    def features(self, image: Tensor) -> list[Tensor]:
        return self.discriminator.features(image)

    def maker_turn(self, batch: Batch, made: Tensor | None) -> Turn:
        c, noise = self.config, batch.draw.normal(self.config.latent)
        code, made = self.encoder(batch.clean), self.decode(noise)
        show = self._shown(batch)
        taken = self.discriminator(show(made), noise)[0]
        read = self.discriminator(show(batch.clean), code)[0]
        weight = c.adversarial * c.adversarial_every
        # the encoder plays from the other side: its pairs are the real ones
        losses = {"adversarial": weight * (game.maker_loss(c.game, taken.float()) + game.maker_loss(c.game, -read.float())).mean()}
        losses |= self.agreement(code, batch)
        return losses, made.detach()

    def agreement(self, code: Tensor, batch: Batch) -> Losses:
        """The L2 between feature representations of x and of G(E(x)), and what makes the reconstruction a form of its image."""
        form = self.decode(code)
        losses = self.reconstruction(form, batch)
        with torch.no_grad():
            wanted = self.features(batch.clean)
        if self.config.matching:
            losses["features"] = self.config.matching * apart(self.features(form), wanted).float().mean()
        return losses

    def judge_turn(self, batch: Batch, made: Tensor | None) -> Turn:
        noise = batch.draw.normal(self.config.latent)  # what the maker drew from: each turn draws the same
        with torch.no_grad():
            code = self.encoder(batch.clean)
        c, show = self.config, self._shown(batch)
        real, fake = show(batch.clean), show(made)
        verdicts = self.discriminator(real, code)[0].float(), self.discriminator(fake, noise)[0].float()
        losses = {"discriminator": game.judge_loss(c.game, *verdicts, c.smoothing).mean()}
        if c.penalty != "none":
            losses["penalty"] = self.slope_weight * self._penalty(real, code, fake, noise, batch).mean()
        return losses, None

    def _penalty(self, real: Tensor, code: Tensor, made: Tensor, noise: Tensor, batch: Batch) -> Tensor:
        """Of image and code together, as one row each."""
        pairs = [torch.cat([image.flatten(1), z], 1) for image, z in ((real, code), (made, noise))]
        side = self.config.size

        def judge(pair: Tensor) -> Tensor:
            return self.discriminator(pair[:, : side * side].unflatten(1, (1, side, side)), pair[:, side * side :])[0]

        return game.PENALTIES[self.config.penalty](judge, *pairs, batch.draw.uniform())

    def terms(self, found: Projected) -> dict[str, Tensor]:
        code = self.encode(found.image)
        again = self.encode(found.form)
        realness, seen = self.discriminator(found.image, code)
        _, rebuilt = self.discriminator(found.form, code)
        return {
            "residual": (found.image - found.form).abs().mean((1, 2, 3)),
            "latent": (code - again).pow(2).mean(1).sqrt(),
            "features": apart(seen, rebuilt),
            "confidence": -realness.float(),
        }


class Egbad(BiGan):
    """``own``: 0.9 of the residual and 0.1 of the pair's last features."""

    def agreement(self, code: Tensor, batch: Batch) -> Losses:
        return {}

    def terms(self, found: Projected) -> dict[str, Tensor]:
        terms = super().terms(found)
        return terms | {"own": EGBAD * terms["residual"] + (1 - EGBAD) * terms["features"]}


def apart(a: list[Tensor], b: list[Tensor]) -> Tensor:
    """(B,) root mean square difference of features, each scale by its own mean size."""
    total = [(x - y).pow(2).mean((1, 2, 3)).sqrt() / (y.pow(2).mean((1, 2, 3)).sqrt() + 1e-3) for x, y in zip(a, b, strict=True)]
    return torch.stack(total).mean(0)
