"""What every learned form is: players who take turns in a game, a decoder, a way back to a code, and what it scores an image by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from train import game
from train.augment import augment, draws
from train.config import Config
from train.losses import doubt_loss, feature_distance, perceptual_distance, pyramid_l1
from train.networks import LOG_START

COARSE = 4  # px of the features that describe an image
PLACES, CHANNELS = 16, 128  # px of the features that describe its places, and how many of them at most
DOUBT_EVERY = 3  # steps between two of the expected residual's: it is learned long before the picture is


@dataclass(frozen=True, eq=False)
class Batch:
    """What a step sees. ``clean`` and ``seen``, the same images with a patch disturbed in some, (B, 1, S, S); ``pose`` (B, P) of the views, where
    they are known; ``known`` (B, 1, S, S): abnormal images; ``draw``: random numbers of rows of this batch, (B, *shape) normal, the same
    however the step's images are shared out; ``done``: the share of training that is over, in [0, 1)."""

    clean: Tensor
    seen: Tensor
    draw: Draw
    step: int
    done: float = 0.0
    pose: Tensor | None = None
    known: Tensor | None = None

    def again(self) -> Batch:
        """The same for another turn, its random numbers from the first on."""
        return replace(self, draw=Draw(self.draw.seed, self.draw.total, self.draw.rows, self.draw.device))


class Draw:
    """Random numbers for some rows of a step's images: drawn for all of them, so that rows are alike on one process or several."""

    def __init__(self, seed: int, total: int, rows: slice, device: torch.device) -> None:
        self.seed, self.total, self.rows, self.device = seed, total, rows, device
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int) -> Tensor:
        """(B, *shape) float32, standard normal."""
        return torch.randn((self.total, *shape), generator=self.generator)[self.rows].to(self.device)

    def uniform(self, *shape: int) -> Tensor:
        """(B, *shape) float32 in [0, 1)."""
        return torch.rand((self.total, *shape), generator=self.generator)[self.rows].to(self.device)

    def augmentation(self) -> Tensor:
        """What DiffAugment does to each row."""
        return draws(self.total, self.generator)[self.rows].to(self.device)


@dataclass(frozen=True, eq=False)
class Projected:
    """What a score may look at. ``image`` and its nearest ``form`` (B, 1, S, S); ``code`` (B, Z) of the form; ``codes`` (B, K, Z): where each
    start's descent ended; ``bank`` (n, Z): codes of good training images."""

    image: Tensor
    form: Tensor
    code: Tensor
    codes: Tensor
    bank: Tensor


Losses = dict[str, Tensor]
Turn = tuple[Losses, Tensor | None]  # what a player descends on, weighted; the images that it made, for the next player


class Model(nn.Module):
    """Networks are named by attribute; ``players`` says who moves which.

    ``play(batch, player, made)`` are that player's losses in this step. In evaluation nothing depends on an image's neighbours.
    """

    PRIOR: ClassVar[bool] = False  # whether codes are drawn from a standard normal: it can draw an image that answers no photograph
    ENCODES: ClassVar[bool] = True  # whether it has a way back in one pass
    DECODES: ClassVar[bool] = True  # whether forms have a code that can be descended in

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def players(self) -> dict[str, Sequence[nn.Module]]:
        """Who takes turns, in order, and the networks that each moves."""
        raise NotImplementedError

    def due(self, player: str, step: int, done: float) -> bool:
        """Whether the player moves in this step: ``judge`` each ``adversarial_every`` steps, all others always."""
        return player != "judge" or (self.config.adversarial > 0 and step % self.config.adversarial_every == 0)

    def play(self, batch: Batch, player: str, made: Tensor | None = None) -> Turn:
        return getattr(self, f"{player}_turn")(batch, made)

    def forward(self, turn: Callable[[], Turn]) -> Turn:
        """A turn that is ready to be played: of images as arguments, Fabric's mixed precision would make bfloat16 ones before anything is computed."""
        return turn()

    # -- images and codes

    def decode(self, code: Tensor) -> Tensor:
        """(B, Z) -> (B, 1, S, S)."""
        return self.generator(code)

    def encode(self, image: Tensor) -> Tensor:
        """(B, 1, S, S) -> (B, Z). Of models that have ``ENCODES``."""
        return self.encoder(image)

    def expected(self, code: Tensor) -> tuple[Tensor, Tensor]:
        """The form, and the log of the residual that a good image is expected to leave, both (B, 1, S, S)."""
        form = self.decode(code)
        return form, torch.full_like(form, LOG_START)

    def nearest(self, code: Tensor) -> Tensor:
        """(B, Z) -> (B, Z): the code of a good form for a code that is none."""
        return code

    def relatives(self, code: Tensor) -> Tensor | None:
        """(B, Z) -> (B, K, Z): codes of forms that look much like a code's, from which a descent may start again; None where nothing says which."""
        return None

    def rebuilt(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The nearest form in one pass: form, log of its expected residual, code."""
        code = self.nearest(self.encode(image))
        return *self.expected(code), code

    def drawn(self, image: Tensor, noise: Tensor) -> Tensor:
        """(B, 1, S, S) generated: from ``noise`` (B, Z) where there is a prior, else what comes back of ``image``."""
        return self.decode(noise) if self.PRIOR else self.rebuilt(image)[0]

    def features(self, image: Tensor) -> list[Tensor]:
        """The discriminator's, finest first; none where there is no discriminator."""
        judge = getattr(self, "discriminator", None)
        return judge(image)[1] if judge is not None else []

    def described(self, image: Tensor) -> Tensor | None:
        """(B, D) by which an image is told from others: its code, else the discriminator's coarsest features, at most COARSE x COARSE of each; None where
        there is neither."""
        if self.ENCODES:
            return self.encode(image)
        features = self.features(image)
        return functional.adaptive_avg_pool2d(features[-1], min(COARSE, features[-1].shape[-1])).flatten(1) if features else None

    def texture(self, image: Tensor) -> Tensor | None:
        """(B, C, h, w) by which a place of an image is told from the same of others, h and w at most PLACES: the finer two features of the way back, else of
        the discriminator; None where there is neither."""
        features = self.encoder.features(image) if self.ENCODES else self.features(image)
        if not features:
            return None
        side = min(PLACES, features[0].shape[-1])
        both = torch.cat([_to_side(f, side) for f in features[:2]], 1)
        return both[:, :: -(-both.shape[1] // CHANNELS)]

    def begin(self, images: Tensor, poses: Tensor | None) -> None:
        """Called once, before training, with all training images (n, 1, P, P) and their (n, C) poses, where they are known."""

    def settle(self, codes: Tensor) -> None:
        """Called once, after training, with (n, Z) codes of good training images."""

    def terms(self, found: Projected) -> dict[str, Tensor]:
        """(B,) each: what the paper scores an image by, its own sum as ``own`` where it has one. Higher is stranger."""
        terms = {"residual": (found.image - found.form).abs().mean((1, 2, 3))}
        if getattr(self, "discriminator", None) is not None and self.config.adversarial:
            terms["features"] = feature_distance(self.features(found.form), self.features(found.image))
            terms["confidence"] = -self.discriminator(found.image)[0].float()
        return terms

    # -- shared turns

    def reconstruction(self, made: Tensor, batch: Batch, log_size: Tensor | None = None) -> Losses:
        """Pyramid and plain L1 of ``made`` against ``clean``; where ``log_size`` is given, :meth:`likelihood`; the pretrained filters' where asked for."""
        clean, c = batch.clean, self.config
        losses = {"pyramid": c.pyramid * pyramid_l1(made.float(), clean).mean() + (made.float() - clean).abs().mean()}
        if log_size is not None:  # what a disturbed view leaves over says nothing of good parts
            losses["doubt"] = self.likelihood(made, batch.clean, log_size, (batch.seen == clean).flatten(1).all(1))
        if c.perceptual:
            losses["perceptual"] = c.perceptual * perceptual_distance(made, clean, c.normalize).float().mean()
        return losses

    def likelihood(self, made: Tensor, clean: Tensor, log_size: Tensor, rows: Tensor) -> Tensor:
        """Of what is left over in ``rows`` (B,) bool, given the size that was expected. Of a step's images by equal weights however they are shared out."""
        return (doubt_loss(clean, made.detach().float(), log_size.float()) * rows.float()).mean()

    def fooling(
        self, made: Tensor, batch: Batch, judge: Callable[[Tensor], tuple[Tensor, list[Tensor]]] | None = None, paired: bool = True
    ) -> Losses:
        """What the maker wants of the discriminator: to be taken for real, with features like the real ones' (row by row where they are ``paired``,
        else of the batch)."""
        c, judge = self.config, judge or self.discriminator
        weight = c.adversarial * c.adversarial_every
        show = self._shown(batch)
        with torch.no_grad():
            wanted = judge(show(batch.clean))[1] if c.matching else []
        realness, features = judge(show(made))
        losses = {"adversarial": weight * game.maker_loss(c.game, realness.float()).mean()}
        if c.matching:
            close = feature_distance(features, wanted).mean() if paired else game.feature_matching(features, wanted)
            losses["features"] = weight * c.matching * close.float()
        return losses

    def judging(
        self, real: Tensor, made: Tensor, batch: Batch, judge: Callable[[Tensor], tuple[Tensor, list[Tensor]]] | None = None
    ) -> Losses:
        """The discriminator's own: ``real`` against ``made`` (B, 1, S, S), and its penalty; of fewer made ones, against as many real ones."""
        c, judge, count = self.config, judge or self.discriminator, len(made)
        show, share = self._shown(batch), batch.draw.uniform()[:count]
        real, made = show(real)[:count], show(made.detach())
        losses = {"discriminator": game.judge_loss(c.game, judge(real)[0].float(), judge(made)[0].float(), c.smoothing).mean()}
        if c.penalty != "none":
            losses["penalty"] = self.slope_weight * game.PENALTIES[c.penalty](lambda x: judge(x)[0], real, made, share).mean()
        return losses

    @property
    def slope_weight(self) -> float:
        """Of the penalty; R1's is half of its gamma (Mescheder et al. 2018)."""
        return self.config.penalty_weight * (0.5 if self.config.penalty == "r1" else 1.0)

    def _shown(self, batch: Batch) -> Callable[[Tensor], Tensor]:
        """What the discriminator sees of an image: under instance noise and augmentation, where they are on; alike for all of a turn."""
        c = self.config
        noise = batch.draw.normal(1, c.size, c.size) if c.instance_noise else None
        how = batch.draw.augmentation() if c.augment else None

        def show(image: Tensor) -> Tensor:
            image = image if noise is None else game.noised(image, c.instance_noise * (1 - batch.done), noise[: len(image)])
            return image if how is None else augment(image, how[: len(image)])

        return show


def trainable(model: Model, player: str) -> Any:
    """Lets gradients reach this player's networks alone, and gives its parameters."""
    model.requires_grad_(False)
    own = [p for m in model.players()[player] for p in m.parameters()]
    for parameter in own:
        parameter.requires_grad_(True)
    return own


def _to_side(features: Tensor, side: int) -> Tensor:
    """(B, C, h, w) -> (B, C, side, side): means of areas, or in between."""
    if features.shape[-1] >= side:
        return functional.adaptive_avg_pool2d(features, side)
    return functional.interpolate(features, size=(side, side), mode="bilinear", align_corners=False)
