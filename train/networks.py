"""What the learned forms are built of: the U-Net without cross connections, cut at its waist into encoder and generator, and a discriminator.

Images are (B, 1, S, S) float32, S a multiple of 16; latents (B, Z) float32. The source article's settings (5x5 filters, Leaky
ReLU, batch normalisation) are the defaults; most channels live at S/4 and below, where they cost least.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from train.config import Config
from train.minibatch import MinibatchDiscrimination
from train.sync_norm import BatchNorm2d

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

    def features(self, image: Tensor) -> list[Tensor]:
        """Finest first, as the Discriminator's: (B, w, S/4, S/4), (B, 2w, S/8, S/8), (B, 4w, S/16, S/16)."""
        features, x = [], image
        for layer in self.body:
            x = layer(x)
            if isinstance(layer, nn.LeakyReLU):
                features.append(x)
        return features


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
        self.paint, self.doubt = painters(w)

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


class UNet(nn.Module):
    """With cross connections: (B, 1, S, S) and a class -> (B, 1, S, S), the image and what the class changes of it; a class is a constant further
    channel."""

    def __init__(self, config: Config, classes: int) -> None:
        super().__init__()
        w, self.classes = config.width, classes
        self.unshuffle = nn.PixelUnshuffle(2)
        self.down = nn.ModuleList(nn.Sequential(*_block(a, b, config, stride=2)) for a, b in ((4 + classes, w), (w, 2 * w), (2 * w, 4 * w)))
        self.up = nn.ModuleList(nn.Sequential(*_grow(a, b, config)) for a, b in ((4 * w, 2 * w), (4 * w, w), (2 * w, w)))
        self.paint, self.doubt = painters(w)

    def forward(self, image: Tensor, kind: int) -> Tensor:
        return image + self.paint(self.hidden(image, kind))

    def hidden(self, image: Tensor, kind: int) -> Tensor:
        x = self.unshuffle(image)
        told = x.new_zeros(len(x), self.classes, *x.shape[2:])
        told[:, kind] = 1
        x, crossed = torch.cat([x, told], 1), []
        for block in self.down:
            x = block(x)
            crossed.append(x)
        for block, beside in zip(self.up, [None, *crossed[-2::-1]], strict=True):
            x = block(x if beside is None else torch.cat([x, beside], 1))
        return x

    def expected(self, image: Tensor, kind: int) -> tuple[Tensor, Tensor]:
        """As the Generator's."""
        features = self.hidden(image, kind)
        return image + self.paint(features), self.doubt(features.detach()) + LOG_START


class Discriminator(nn.Module):
    """(B, 1, S, S) -> (B,) realness and its features, finest first: (B, w, S/4, S/4), (B, 2w, S/8, S/8), (B, 4w, S/16, S/16).

    No batch normalisation here: an image's score must not depend on its neighbours'. ``code``: with (B, code) numbers beside each image, it
    judges pairs (BiGAN), and its last features are of both, (B, 4w, 1, 1). ``classes``: so many further verdicts, :meth:`classified`.
    ``width``: w, by default half the generator's: where it alone teaches, it wants as many.
    """

    def __init__(self, config: Config, code: int = 0, classes: int = 0, width: int | None = None) -> None:
        super().__init__()
        w, plain = width or config.width // 2, config.model_copy(update={"batch_norm": False})
        norm = nn.utils.parametrizations.spectral_norm if config.spectral else _as_is
        self.unshuffle = nn.PixelUnshuffle(2)
        self.blocks = nn.ModuleList(
            nn.Sequential(*_block(a, b, plain, stride=2, norm=norm)) for a, b in ((4, w), (w, 2 * w), (2 * w, 4 * w))
        )
        self.neighbours = MinibatchDiscrimination(4 * w) if config.minibatch else None
        self.pair = None
        if code:
            self.pair = nn.Sequential(
                norm(nn.Linear(4 * w + code, 8 * w)), nn.LeakyReLU(SLOPE), norm(nn.Linear(8 * w, 4 * w)), nn.LeakyReLU(SLOPE)
            )
        self.judge = nn.Conv2d(4 * w + (self.neighbours.kernels if self.neighbours else 0), 1, 1)
        self.sort = nn.Conv2d(4 * w, classes, 1) if classes else None

    def forward(self, image: Tensor, code: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        features = self.features(image)
        x = features[-1]
        if self.pair is not None:
            x = self.pair(torch.cat([x.mean((2, 3)), code], 1))[:, :, None, None]
            features = [*features, x]
        if self.neighbours is not None:
            beside = self.neighbours(x.mean((2, 3)))[:, x.shape[1] :]
            x = torch.cat([x, beside[:, :, None, None].expand(-1, -1, *x.shape[2:])], 1)
        return self.judge(x).mean((1, 2, 3)), features

    def features(self, image: Tensor) -> list[Tensor]:
        """Of the image alone."""
        features, x = [], self.unshuffle(image)
        for block in self.blocks:
            x = block(x)
            features.append(x)
        return features

    def classified(self, image: Tensor) -> Tensor:
        """(B, classes) logits."""
        return self.sort(self.features(image)[-1]).mean((2, 3))


def painters(channels: int) -> tuple[nn.Sequential, nn.Sequential]:
    """From features (B, channels, S/2, S/2) to the picture and to the log of its expected residual over LOG_START, (B, 1, S, S) each."""
    paint = nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1), nn.PixelShuffle(2))
    doubt = nn.Sequential(nn.Conv2d(channels, 16, 3, padding=1), nn.LeakyReLU(SLOPE), nn.Conv2d(16, 4, 3, padding=1), nn.PixelShuffle(2))
    return paint, doubt


def frozen(module: nn.Module) -> nn.Module:
    """The same, its normalised weights worked out once and for all: in evaluation they no longer change, and a descent asks for them at each step."""
    for part in module.modules():
        if parametrize.is_parametrized(part):
            for name in list(part.parametrizations):
                parametrize.remove_parametrizations(part, name, leave_parametrized=True)
    return module


def _as_is(module: nn.Module) -> nn.Module:
    return module


def _after(channels: int, config: Config) -> list[nn.Module]:
    return [*([BatchNorm2d(channels)] if config.batch_norm else []), nn.LeakyReLU(SLOPE)]


def _block(
    inputs: int, outputs: int, config: Config, *, stride: int = 1, norm: Callable[[nn.Module], nn.Module] = lambda m: m
) -> list[nn.Module]:
    return [
        norm(nn.Conv2d(inputs, outputs, config.filter, stride, config.filter // 2, bias=not config.batch_norm)),
        *_after(outputs, config),
    ]


def _grow(inputs: int, outputs: int, config: Config) -> list[nn.Module]:
    """Twice the size; 4x4 transposed convolutions measured four times as fast as upsample + 5x5."""
    return [nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=not config.batch_norm), *_after(outputs, config)]
