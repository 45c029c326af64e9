"""conditioned: an image from turn, place, size and light, and an encoder that regresses them. The latent is physical (train.physical).

What a part is does not hang on how it lies, so that it is learned once, as a volume that the camera of a code looks through (train.volume), and not anew
for each side of it, as a network that draws from parameters alone (Dosovitskiy et al. 2015) has to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from train.config import Config
from train.models.base import DOUBT_EVERY, Batch, Model, Projected, Turn
from train.networks import Encoder
from train.physical import AMBIENT, CODES, LIGHT, PLACE, QUATERNION, SIZE
from train.volume import Volume

DIFFERS = 0.1  # in prepared images
LOOKED = 8  # one of so many training images says how far the part reaches
SPINS = 24  # turns to a round that are asked for a second start
SQUARE = 4.0  # weight of the squared difference: to an absolute one, a small notch that is not drawn at all costs next to nothing
LEARNED = 0.5  # weight of the regressed code
LIT = 9  # numbers that tell a direction
READ_EVERY = 2  # steps between two of the encoder's


class Conditioned(Model):
    """``decode(code)`` draws; ``encode(image)`` regresses a code, which a descent then makes exact."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.encoder = Encoder(config.model_copy(update={"latent": CODES}))
        self.generator = Volume(config.size, 3 * LIT + 1)
        self.register_buffer("usual", torch.zeros(1))  # the log of image widths per mm in the middle of training

    def begin(self, images: Tensor, poses: Tensor | None) -> None:
        self.usual.fill_(poses[:, SIZE].mean())
        self.generator.span.fill_(reach(images[::LOOKED], poses[::LOOKED, PLACE], torch.exp(poses[::LOOKED, SIZE] - self.usual)))

    def players(self) -> dict[str, Sequence[nn.Module]]:
        return {"maker": (self.generator,), "reader": (self.encoder,)}

    def due(self, player: str, step: int, done: float) -> bool:
        """The reader moves each READ_EVERY steps: its answers are starts, which the bank has too."""
        return player == "maker" or step % READ_EVERY == 0

    def decode(self, code: Tensor) -> Tensor:
        return self.generator(*self.camera(code))

    def expected(self, code: Tensor) -> tuple[Tensor, Tensor]:
        return self.generator.expected(*self.camera(code))

    def camera(self, code: Tensor) -> tuple[Tensor, ...]:
        """(B, 11) -> what the volume is told: turn, place, scale, light in the part's frame, and what the painting hangs on."""
        turn, light = rotation(code[:, QUATERNION]), functional.normalize(code[:, LIGHT])
        own = torch.einsum("bij,bi->bj", turn, light)
        told = torch.cat([lit(turn[:, 2]), lit(own), lit(light), code[:, AMBIENT, None]], 1)
        return turn, code[:, PLACE], torch.exp(code[:, SIZE] - self.usual), own, told

    def relatives(self, code: Tensor) -> Tensor:
        """The part spun about its own z axis, 2 SPINS - 1 ways, for what tells these apart may be a small thing at the rim; half of them with that axis
        leaning as far away from the camera as it leans towards it, for an outline does not tell which (Necker's reversal)."""
        half = torch.arange(SPINS, device=code.device, dtype=code.dtype) * (math.pi / SPINS)
        spun = torch.stack([torch.cos(half), *torch.zeros(2, SPINS).to(half), torch.sin(half)], -1)
        axis = rotation(code[:, QUATERNION])[:, :, 2]
        lean = torch.atan2(axis[:, 2], torch.hypot(axis[:, 0], axis[:, 1]))  # the camera looks along -z
        flat = functional.normalize(axis[:, :2], dim=1)
        about = torch.stack([torch.cos(lean), -flat[:, 1] * torch.sin(lean), flat[:, 0] * torch.sin(lean), torch.zeros_like(lean)], -1)
        own = functional.normalize(code[:, QUATERNION])
        both = product(torch.stack([own, product(about, own)], 1)[:, :, None], spun).flatten(1, 2)[:, 1:]
        return torch.cat([both, code[:, None, 4:].expand(-1, both.shape[1], -1)], -1)

    def maker_turn(self, batch: Batch, made: Tensor | None) -> Turn:
        made, log_size = self.expected(batch.pose) if batch.step % DOUBT_EVERY == 0 else (self.decode(batch.pose), None)
        losses = self.reconstruction(made, batch, log_size)
        losses["square"] = SQUARE * (made.float() - batch.clean).pow(2).mean()
        return losses, None

    def reader_turn(self, batch: Batch, made: Tensor | None) -> Turn:
        read, true = self.encode(batch.seen), batch.pose
        turned_ = rotation(read[:, QUATERNION]) - rotation(true[:, QUATERNION])
        others = (read[:, 4:] - true[:, 4:]).abs().float().mean()
        return {"turn": LEARNED * turned_.pow(2).sum((1, 2)).float().mean(), "light": LEARNED * others}, None

    def terms(self, found: Projected) -> dict[str, Tensor]:
        """``turn``: by how much, in radians, the encoder's answer and the descent's differ in the way that the part lies."""
        a, b = rotation(self.encode(found.image)[:, QUATERNION]), rotation(found.code[:, QUATERNION])
        chord = (a - b).pow(2).sum((1, 2)).sqrt() / 8**0.5  # the sine of half the angle: an arc cosine would be all rounding near 0
        return super().terms(found) | {"turn": 2 * torch.asin(chord.clamp(0, 1))}


def lit(light: Tensor) -> Tensor:
    """(B, 3) -> (B, 9): a direction and its products."""
    x, y, z = light.unbind(1)
    return torch.stack([x, y, z, x * y, y * z, z * x, x * x - y * y, 3 * z * z - 1, x * y * z], 1)


def product(a: Tensor, b: Tensor) -> Tensor:
    """(..., 4) and (..., 4) quaternions, w first: of b's turn and then a's."""
    w, x, y, z = a.unbind(-1)
    m, i, j, k = b.unbind(-1)
    parts = [w * m - x * i - y * j - z * k, w * i + x * m + y * k - z * j, w * j - x * k + y * m + z * i, w * k + x * j - y * i + z * m]
    return torch.stack(parts, -1)


def rotation(quaternion: Tensor) -> Tensor:
    """(B, 4) of any length but 0 -> (B, 3, 3)."""
    w, x, y, z = functional.normalize(quaternion, dim=1).unbind(1)
    return torch.stack(
        [
            1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
            2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
            2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
        ],
        1,
    ).unflatten(1, (3, 3))  # fmt: skip


def reach(images: Tensor, place: Tensor, scale: Tensor) -> float:
    """How far from its middle, in half widths at the usual scale, a part's pictures (n, 1, S, S) differ from their borders."""
    side = images.shape[-1]
    line = (torch.arange(side, device=images.device) + 0.5) * 2 / side - 1
    border = torch.cat([images[:, 0, 0], images[:, 0, -1], images[:, 0, :, 0], images[:, 0, :, -1]], 1).median(1).values
    other = (images[:, 0] - border.view(-1, 1, 1)).abs() > DIFFERS
    away = torch.hypot(line - place[:, 0].view(-1, 1, 1), -line[:, None] - place[:, 1].view(-1, 1, 1)) / scale.view(-1, 1, 1)
    farthest = (away * other).flatten(1).amax(1)
    return float(torch.quantile(farthest, 0.99).clamp(0.2, 1.5)) + 2 / side
