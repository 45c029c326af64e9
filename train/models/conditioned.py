"""conditioned: an image from turn, place, size and light, and an encoder that regresses them. The latent is physical (train.physical).

A camera that rolls about its axis turns the picture and nothing else. So the part is drawn upright, as a function of the side that is seen (the azimuth and
elevation of the camera about the part's own z axis) and of the light as it falls there, and the picture is then turned, moved and scaled: two angles
are learned instead of three. Drawn from parameters as in Dosovitskiy et al. 2015.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from train.config import Config
from train.models.base import DOUBT_EVERY, Batch, Model, Projected, Turn
from train.networks import SLOPE, Encoder, Generator
from train.physical import AMBIENT, CODES, LIGHT, PLACE, QUATERNION, SIZE

FINER = 1.5  # px of the upright picture to one of the picture: turning it should blur nothing
WAVES = 12  # harmonics of the two angles that the generator is told
HIDDEN, WAIST = 256, 192
SPINS = 24  # turns to a round that are asked for a second start
SQUARE = 4.0  # weight of the squared difference: to an absolute one, a small notch that is not drawn at all costs next to nothing
LEARNED = 0.5  # weight of the regressed code
READ_EVERY = 2  # steps between two of the encoder's


class Conditioned(Model):
    """``decode(code)`` draws; ``encode(image)`` regresses a code, which a descent then makes exact."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        upright = 16 * math.ceil(FINER * config.size / 16)
        self.encoder = Encoder(config.model_copy(update={"latent": CODES}))
        told = 2 * WAVES * 2 + 3 + LIT + 3
        self.mixer = nn.Sequential(nn.Linear(told, HIDDEN), nn.LeakyReLU(SLOPE), nn.Linear(HIDDEN, WAIST), nn.LeakyReLU(SLOPE))
        self.generator = Generator(config.model_copy(update={"latent": WAIST, "size": upright}))
        self.register_buffer("usual", torch.zeros(1))  # the log of image widths per mm in the middle of training

    def begin(self, poses: Tensor | None) -> None:
        self.usual.fill_(poses[:, SIZE].mean())

    def players(self) -> dict[str, Sequence[nn.Module]]:
        return {"maker": (self.mixer, self.generator), "reader": (self.encoder,)}

    def due(self, player: str, step: int, done: float) -> bool:
        """The reader moves each READ_EVERY steps: its answers are starts, which the bank has too."""
        return player == "maker" or step % READ_EVERY == 0

    def decode(self, code: Tensor) -> Tensor:
        waist, turn = self.upright(code)
        return turn(self.generator(waist))

    def expected(self, code: Tensor) -> tuple[Tensor, Tensor]:
        waist, turn = self.upright(code)
        form, log_size = self.generator.expected(waist)
        return turn(form), turn(log_size)

    def upright(self, code: Tensor) -> tuple[Tensor, object]:
        """What the generator is told, (B, WAIST), and what makes a picture of the upright one, (B, 1, P, P) -> (B, 1, S, S)."""
        matrix = rotation(code[:, QUATERNION])
        side = matrix[:, 2]  # towards the camera, in the part's frame
        up = matrix[:, :2, 2]  # the part's z axis, in the picture
        roll = torch.atan2(up[:, 0], up[:, 1] + 1e-9)  # clockwise, of the picture
        cos, sin = torch.cos(roll), torch.sin(roll)
        azimuth, elevation = torch.atan2(side[:, 1], side[:, 0] + 1e-9), torch.asin(side[:, 2].clamp(-1 + 1e-6, 1 - 1e-6))
        light = functional.normalize(code[:, LIGHT])
        light = torch.stack([cos * light[:, 0] - sin * light[:, 1], sin * light[:, 0] + cos * light[:, 1], light[:, 2]], 1)
        x, y = code[:, PLACE].unbind(1)
        place = torch.stack([cos * x - sin * y, sin * x + cos * y], 1)
        size = code[:, SIZE] - self.usual
        told = torch.cat([waves(azimuth), waves(elevation), side, lit(light), place, code[:, AMBIENT, None]], 1)
        return self.mixer(told), lambda picture: turned(picture, cos, sin, x, y, torch.exp(size), self.config.size)

    def relatives(self, code: Tensor) -> Tensor:
        """The part spun about its own z axis, SPINS - 1 ways: what tells them apart may be a small thing at the rim."""
        half = torch.arange(1, SPINS, device=code.device, dtype=code.dtype) * (math.pi / SPINS)
        w, x, y, z = (v[:, None] for v in code[:, QUATERNION].unbind(1))
        c, s = torch.cos(half), torch.sin(half)
        spun = torch.stack([w * c - z * s, x * c + y * s, y * c - x * s, z * c + w * s], -1)
        return torch.cat([spun, code[:, None, 4:].expand(-1, SPINS - 1, -1)], -1)

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


LIT = 9


def lit(light: Tensor) -> Tensor:
    """(B, 3) -> (B, 9): a direction and its products."""
    x, y, z = light.unbind(1)
    return torch.stack([x, y, z, x * y, y * z, z * x, x * x - y * y, 3 * z * z - 1, x * y * z], 1)


def waves(angle: Tensor) -> Tensor:
    """(B,) radians -> (B, 2 WAVES)."""
    order = torch.arange(1, WAVES + 1, device=angle.device, dtype=angle.dtype)
    return torch.cat([torch.sin(angle[:, None] * order), torch.cos(angle[:, None] * order)], 1)


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


def turned(picture: Tensor, cos: Tensor, sin: Tensor, x: Tensor, y: Tensor, grown: Tensor, side: int) -> Tensor:
    """(B, 1, P, P) -> (B, 1, side, side): turned clockwise by the angle of ``cos`` and ``sin``, moved by (x, y) half widths (y up), ``grown``; what lies
    beyond is the border's."""
    line = (torch.arange(side, device=picture.device, dtype=picture.dtype) + 0.5) * 2 / side - 1
    v, u = torch.meshgrid(line, line, indexing="ij")  # down, right
    u, v = (u - x.view(-1, 1, 1)) / grown.view(-1, 1, 1), (v + y.view(-1, 1, 1)) / grown.view(-1, 1, 1)
    c, s = cos.view(-1, 1, 1), sin.view(-1, 1, 1)
    at = torch.stack([c * u + s * v, -s * u + c * v], -1)
    return functional.grid_sample(picture, at, mode="bilinear", padding_mode="border", align_corners=False)
