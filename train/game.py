"""The game between a judge and a maker of pictures, in parts that a trainer puts together: losses by kind, penalties on the judge's slope,
instance noise, feature matching.

Realness is what a judge says of B images, (B,) float: positive for real, negative for made, 0 where it cannot tell. Losses and penalties
give (B,), one number an image; feature matching compares whole batches and gives (). Nothing here draws: noise and weights are handed in.
Draw them for the batch of all processes from one generator and give each process its rows: then it does not matter how many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from cad.errors import InputError, nearest
from train.sync_norm import batch_mean

Judge = Callable[[Tensor], Tensor]


class Game(NamedTuple):
    """What realness costs: the judge that of a ``real`` image and of a ``made`` one, the ``maker`` that of its own."""

    real: Callable[[Tensor], Tensor]
    made: Callable[[Tensor], Tensor]
    maker: Callable[[Tensor], Tensor]


GAMES: dict[str, Game] = {
    # Lim and Ye 2017
    "hinge": Game(lambda r: torch.relu(1 - r), lambda r: torch.relu(1 + r), lambda r: -r),
    # Goodfellow et al. 2014, the maker's loss being their second one, which does not fade where the judge is sure
    "cross-entropy": Game(lambda r: F.softplus(-r), F.softplus, lambda r: F.softplus(-r)),
    # Mao et al. 2017, real at 1, made at -1, the maker aiming at 1
    "least-squares": Game(lambda r: (r - 1) ** 2 / 2, lambda r: (r + 1) ** 2 / 2, lambda r: (r - 1) ** 2 / 2),
    # Arjovsky et al. 2017: a distance only while the judge's slope is held, by wgan_gp or spectral normalisation
    "wasserstein": Game(lambda r: -r, lambda r: r, lambda r: -r),
}


def judge_loss(kind: str, real: Tensor, made: Tensor, smoothing: float = 0.0) -> Tensor:
    """(B,) from the realness (B,) of real images and (B,) of made ones.

    ``smoothing`` in [0, 0.5): real images are called real with 1 - ``smoothing``, made ones wholly made (one-sided label smoothing,
    Salimans et al. 2016). Cross-entropy alone has labels to smooth: InputError with another kind, or for a kind that is not known.
    """
    game = _game(kind)
    if not 0 <= smoothing < 0.5:
        raise InputError("smoothing", f"found {smoothing}", wanted="0 to below 0.5")
    if smoothing and kind != "cross-entropy":
        raise InputError("smoothing", f'the game is "{kind}", which has no labels', wanted="0, or the game cross-entropy")
    praised = game.real(real)
    if smoothing:
        praised = (1 - smoothing) * praised + smoothing * game.made(real)
    return praised + game.made(made)


def maker_loss(kind: str, made: Tensor) -> Tensor:
    """(B,) from the realness (B,) of what it made. InputError for a kind that is not known.

    In a game of pairs (BiGAN: image and code) the encoder, which wants real pairs to be called made, has ``maker_loss(kind, -real)``:
    every kind here costs the same with real and made exchanged.
    """
    return _game(kind).maker(made)


def _game(kind: str) -> Game:
    if kind not in GAMES:
        raise InputError("game", f'found "{kind}"', wanted=nearest(kind, GAMES))
    return GAMES[kind]


def r1(judge: Judge, real: Tensor) -> Tensor:
    """(B,) the squared slope |dD/dx|^2 of ``judge`` at real images (B, ...); its weight is half of gamma in Mescheder et al. 2018.

    ``judge`` gives (B,) and must judge each row by itself (no batch normalisation), else the slopes of others are counted in. A judge of
    pairs is given them joined in one row. Slopes may be too large or small for float16: keep autocast off in here.
    """
    return _slopes(judge, real).square().sum(1)


def wgan_gp(judge: Judge, real: Tensor, made: Tensor, share: Tensor) -> Tensor:
    """(B,) the squared distance of the slope's size from 1 at ``share`` * real + (1 - ``share``) * made, rows (B, ...) and share (B,)
    uniform in [0, 1] (Gulrajani et al. 2017). Of ``judge`` it asks what :func:`r1` does."""
    share = share.to(real).view(-1, *[1] * (real.dim() - 1))
    between = torch.lerp(made.detach(), real.detach(), share)
    size = torch.linalg.vector_norm(_slopes(judge, between), dim=1)  # its own slope at 0 is 0, where a root's is infinite
    return (size - 1).square()


PENALTIES: dict[str, Callable[[Judge, Tensor, Tensor, Tensor], Tensor]] = {
    "r1": lambda judge, real, made, share: r1(judge, real),
    "wgan-gp": wgan_gp,
}


def _slopes(judge: Judge, rows: Tensor) -> Tensor:
    """(B, N): each row's realness by its own N numbers, itself open to a further derivative by the judge's weights."""
    rows = rows.detach().requires_grad_()
    with torch.enable_grad():
        realness = judge(rows)
        if realness.shape != rows.shape[:1]:
            raise ValueError(f"the judge gave {tuple(realness.shape)} for {len(rows)} rows; a penalty wants one number a row")
        (slopes,) = torch.autograd.grad(realness.sum(), rows, create_graph=True)
    return slopes.flatten(1)


def noised(images: Tensor, sigma: float, noise: Tensor) -> Tensor:
    """Images (B, ...) as the judge sees them, real and made alike: ``noise`` (B, ...) of deviation 1 added ``sigma`` strong. It makes real
    and made overlap, so that the judge has a slope to teach by (instance noise, Sonderby et al. 2017; they let ``sigma`` fade)."""
    return images + sigma * noise.to(images)


def feature_matching(made: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """() the mean squared difference between batch means of the judge's features (Salimans et al. 2016), layers (B, ...) counting alike.

    The means are over all processes' rows; the real ones pull at nothing.
    """
    apart = [(batch_mean(m) - batch_mean(r.detach())).square().mean() for m, r in zip(made, real, strict=True)]
    return torch.stack(apart).mean()
