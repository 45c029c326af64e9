"""The U-Net without cross connections, cut at its waist, and the discriminator of its game.

Images are (B, 1, S, S) float32, S a multiple of 16; latents (B, Z) float32. The source article's settings (5x5 filters, Leaky
ReLU, batch normalisation) are the defaults; most channels live at S/4 and below, where they cost least.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from train.config import Config

SLOPE = 0.2
LOG_START = -3.0  # log of the residual expected before anything is learned, grey levels


class Encoder(nn.Module):
    """(B, 1, S, S) -> (B, Z)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        w, grid = config.width, config.size // 16
        self.body = nn.Sequential(
            nn.PixelUnshuffle(2),
            *_block(4, w, config, stride=2),
            *_block(w, 2 * w, config, stride=2),
            *_block(2 * w, 4 * w, config, stride=2),
        )
        self.waist = nn.Linear(4 * w * grid * grid, config.latent)

    def forward(self, image: Tensor) -> Tensor:
        return self.waist(self.body(image).flatten(1))


class Generator(nn.Module):
    """(B, Z) -> (B, 1, S, S); :meth:`expected` also says how far off a good part's picture may be, pixel by pixel."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        w, self.grid = config.width, config.size // 16
        self.waist = nn.Linear(config.latent, 4 * w * self.grid * self.grid)
        self.body = nn.Sequential(
            *_after(4 * w, config),
            *_grow(4 * w, 2 * w, config),
            *_block(2 * w, 2 * w, config),
            *_grow(2 * w, w, config),
            *_block(w, w, config),
            *_grow(w, w, config),
        )
        self.paint = nn.Sequential(nn.Conv2d(w, 4, 3, padding=1), nn.PixelShuffle(2))
        self.doubt = nn.Sequential(nn.Conv2d(w, 16, 3, padding=1), nn.LeakyReLU(SLOPE), nn.Conv2d(16, 4, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, latent: Tensor) -> Tensor:
        return self.paint(self.hidden(latent))

    def hidden(self, latent: Tensor) -> Tensor:
        return self.body(self.waist(latent).unflatten(1, (-1, self.grid, self.grid)))

    def expected(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """The picture, and the log of the smoothed residual's expected size, both (B, 1, S, S).

        The second is read off the same features without pulling on them: learning what cannot be drawn well must not
        make it drawn worse.
        """
        features = self.hidden(latent)
        return self.paint(features), self.doubt(features.detach()) + LOG_START


class Discriminator(nn.Module):
    """(B, 1, S, S) -> (B,) realness and its features, finest first: (B, w, S/4, S/4), (B, 2w, S/8, S/8), (B, 4w, S/16, S/16).

    No batch normalisation here: an image's score must not depend on its neighbours'.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        w, plain = config.width // 2, config.model_copy(update={"batch_norm": False})
        self.unshuffle = nn.PixelUnshuffle(2)
        self.blocks = nn.ModuleList(
            nn.Sequential(*_block(a, b, plain, stride=2, norm=nn.utils.parametrizations.spectral_norm))
            for a, b in ((4, w), (w, 2 * w), (2 * w, 4 * w))
        )
        self.judge = nn.Conv2d(4 * w, 1, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        features, x = [], self.unshuffle(image)
        for block in self.blocks:
            x = block(x)
            features.append(x)
        return self.judge(x).mean((1, 2, 3)), features


class UnetGan(nn.Module):
    """The three together: ``model(image)`` is the reconstruction and the log of its expected residual, ``generator.expected(encoder(image))``."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.encoder, self.generator, self.discriminator = Encoder(config), Generator(config), Discriminator(config)

    def forward(self, image: Tensor, doubt: bool = True) -> tuple[Tensor, Tensor | None]:
        latent = self.encoder(image)
        return self.generator.expected(latent) if doubt else (self.generator(latent), None)


MODELS: dict[str, type[nn.Module]] = {"unet-gan": UnetGan}


def build(config: Config) -> nn.Module:
    """A freshly initialised model; the draw comes from ``config.seed`` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return MODELS[config.model](config).to(memory_format=torch.channels_last)


def _after(channels: int, config: Config) -> list[nn.Module]:
    return [*([nn.BatchNorm2d(channels)] if config.batch_norm else []), nn.LeakyReLU(SLOPE)]


def _block(inputs: int, outputs: int, config: Config, *, stride: int = 1, norm: object = lambda m: m) -> list[nn.Module]:
    return [
        norm(nn.Conv2d(inputs, outputs, config.filter, stride, config.filter // 2, bias=not config.batch_norm)),
        *_after(outputs, config),
    ]


def _grow(inputs: int, outputs: int, config: Config) -> list[nn.Module]:
    """Twice the size; 4x4 transposed convolutions measured four times as fast as upsample + 5x5."""
    return [nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=not config.batch_norm), *_after(outputs, config)]
