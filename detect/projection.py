"""From photographs to the nearest forms that a learned form can make: codes to start from, the descent, what is left over, what the model itself calls strange.

A picture larger than the networks is projected tile by tile and put together again; memory is that of its maps and of a few tiles.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from cad.errors import InputError
from detect.compare import Residuals
from detect.descend import Descent, descend
from detect.explain import start_codes
from detect.forward_mode import Residual, pyramid_residual
from detect.solvers import Decode, Loss
from detect.starts import random_starts
from detect.typical import JOIN, Density
from train.images import prepare
from train.losses import feature_distance, pyramid_l1
from train.models.base import Projected
from train.networks import frozen
from train.places import Places
from train.runs import Run
from train.tiles import Blend, Grid

CHUNK, LARGE = 16, 2  # images, or tiles of one, projected at a time; large pictures
ROWS = 256  # images times their starts that a GPU descends with together
AGAIN = 4  # of the forms that look much like the best, so many are descended from too
MAP, RARITY, PATCH = "map", "rarity", "patch-rarity"  # terms that a score may be of, beside the model's own
OVERLAP = 4  # a tile's side over what it shares with the next

Item = TypeVar("Item")


@dataclass(frozen=True)
class Settings:
    """How the nearest form is sought. The same for calibration and inspection: it is part of what a score means.

    ``steps`` of descent (0: the encoder's answer alone) by ``method`` from ``starts`` codes at ``rate`` (in the latents' deviations a step);
    ``features``: weight of the discriminator's feature distance; ``prior``: of the latent's squared distance from the encoder's answer, which
    is a good form's, or from the mean where there is no encoder; ``trust``: a pixel counts by how sure the generator is of it, at most so many
    times the average (0: all alike); ``score``: ``map``, the anomaly map's highest pixels, or a term, or several with + between; with ``keep``, the
    best so many starts go on after ``scout`` steps; ``drawn`` of the starts are random. ``square``: weight of the squared difference, by which
    small things that are clearly off count more (gauss-newton goes by the rest alone). ``polish``: steps of Gauss-Newton, of latents of 64 or
    less, from the best form that was found and those that look much like it. ``tolerance``: the share of a loss by which it has to fall in eight
    steps for the descent to go on; 0: it always does.
    """

    steps: int = 84
    starts: int = 1
    rate: float = 0.07
    features: float = 0.05
    prior: float = 0.2
    trust: float = 4.0
    method: str = "nadam"
    score: str = MAP
    keep: int = 0
    scout: int = 0
    drawn: int = 0
    square: float = 0.0
    polish: int = 0
    tolerance: float = 0.0


# how the papers descend, where that is not the above. Every model is scored alike (settings_for): what its paper sums up is among the terms, and --score
# takes it, but no paper says what a good image's is, which the map has from calibration
SETTINGS: dict[str, Settings] = {
    "unet-gan": Settings(),
    "noisy-gan": Settings(),
    "unet-som": Settings(steps=0),
    "dcgan": Settings(steps=150, starts=4, rate=0.5, features=0.0, prior=0.002, trust=0.0, method="sgd", tolerance=2e-4),
    "anogan": Settings(steps=60, starts=4, rate=0.1, features=0.1, prior=0.002, trust=0.0, method="adam", keep=2, tolerance=2e-4),
    "f-anogan": Settings(steps=0),
    "bigan": Settings(steps=0),
    "egbad": Settings(steps=60, starts=5, drawn=4, rate=0.1, features=0.0, prior=0.002, trust=0.0, method="adam", keep=2, tolerance=2e-4),
    "ganomaly": Settings(steps=0),
    "descargan": Settings(steps=0),
    "conditioned": Settings(
        steps=15, starts=24, rate=0.1, features=0.0, prior=0.0, trust=0.0, method="adam", keep=4, square=4.0, polish=3, tolerance=2e-4
    ),
    "ae-ssim": Settings(steps=0),
}


def settings_for(run: Run) -> Settings:
    """A model's own; of a run on tiles, of which a picture has hundreds, the encoder's answer alone, where there is one.

    Of photographs, which lie alike, it tells whether one, and each place of it, is of a kind that good parts are; of a part drawn in every pose that would
    tell of the pose alone.
    """
    own = SETTINGS[run.config.model]
    if run.config.picture:
        return replace(own, steps=0) if run.model.ENCODES else own
    terms = [MAP, *([] if descriptors(run) is None else [RARITY]), *([] if run.bank.places is None else [PATCH])]
    return replace(own, score=JOIN.join(terms))


def descriptors(run: Run) -> Tensor | None:
    """(n, D) of good photographs, by which another is told to be rare; None of renders, and of tiles."""
    if run.bank.scenes or run.config.picture or len(run.bank.thumbs) < 2:
        return None
    return run.bank.codes if run.model.ENCODES else run.bank.descriptors


@dataclass(frozen=True, eq=False)
class Projection:
    """The nearest ``forms`` (B, 1, S, S) and what they leave over, ``residuals``; ``encoder``: what one pass back alone leaves, or the nearest
    start where there is no way back; ``terms`` (B,) each: what the model itself calls strange; ``codes`` (B, Z); ``steps`` and final ``losses`` of
    the descent, (B,); ``seconds`` that all of it took."""

    forms: Tensor
    residuals: Residuals
    encoder: Residuals
    terms: dict[str, np.ndarray]
    codes: np.ndarray
    steps: np.ndarray
    losses: np.ndarray
    seconds: float = 0.0


class Projector:
    """A run on a device. ``enough``: the loss at which a descent may stop."""

    def __init__(self, run: Run, device: torch.device, settings: Settings, enough: float | None = None) -> None:
        self.run, self.device, self.settings, self.enough = run, device, settings, enough
        self.model = frozen(run.model.to(device))
        if not (self.model.ENCODES and self.model.DECODES) and not (settings.steps or not self.model.DECODES):
            raise InputError("--steps", f"found 0, and {run.config.model} has no encoder", wanted="1 or more")
        codes = run.bank.codes.to(device)
        self.mean, self.spread = codes.mean(0), codes.std(0) + 1e-3
        self.bank = codes
        known = descriptors(run)
        self.density = None if known is None else Density.of(known.numpy())
        places = run.bank.places
        self.places = None if places is None else Places(places.middle.to(device), places.whiten.to(device))

    @property
    def together(self) -> int:
        """Photographs that are held at a time."""
        if self.run.config.picture:
            return LARGE
        return CHUNK if self.device.type == "cpu" else max(1, ROWS // (self.settings.starts if self.settings.steps else 1))

    def project(self, pixels: np.ndarray) -> Projection:
        """(B, P, P, 3) uint8 -> nearest good forms; P is the networks' S or, of a run on tiles, the picture's.

        On a CPU each image is computed by itself, on one thread, as many at a time as there are cores: rounding depends on a batch's
        size, and a descent over the kinks of an L1 loss makes 1e-4 of a score out of 1e-7 of rounding. On a GPU they go together.
        """
        began = time.perf_counter()
        work = self._tiled if self.run.config.picture else self.whole
        if self.device.type != "cpu" and not self.run.config.picture:
            return replace(self.whole(pixels), seconds=time.perf_counter() - began)
        if self.device.type != "cpu" or self.settings.method == "gauss-newton":  # forward-mode levels are a process's, not a thread's
            parts = [work(one[None]) for one in pixels]
        else:
            with one_thread_each() as pool:
                parts = list(pool.map(work, pixels[:, None]))
        return replace(joined(parts), seconds=time.perf_counter() - began)

    def whole(self, pixels: np.ndarray) -> Projection:
        """(B, S, S, 3) uint8 at the networks' size, all together, on the calling thread."""
        return self._projected(prepare(pixels, self.run.config.normalize).to(self.device))

    def _tiled(self, pixels: np.ndarray) -> Projection:
        """Of one picture: maps are blended, what is told of a tile is told of the picture by its strangest."""
        config = self.run.config
        image = prepare(pixels, config.normalize)[0, 0].numpy()
        grid = Grid.of(*image.shape, config.size, config.size // OVERLAP)
        layers = [Blend(grid) for _ in range(5 if self.settings.steps else 3)]  # without a descent the form is the encoder's
        tiles, told = grid.tiles(image), []
        while chunk := list(islice(tiles, CHUNK)):
            found = self._projected(torch.from_numpy(np.stack([values for _, values in chunk]))[:, None].to(self.device))
            parts = (
                found.forms[:, 0].cpu().numpy(),
                found.residuals.size,
                found.residuals.expected,
                found.encoder.size,
                found.encoder.expected,
            )
            for layer, values in zip(layers, parts, strict=False):
                for (place, _), own in zip(chunk, values, strict=True):
                    layer.add(place, own)
            told.append((found.terms, found.codes, found.steps, found.losses))
        form, *maps = (layer.result()[None] for layer in layers)
        residuals = Residuals(*maps[:2])
        encoder = Residuals(*maps[2:]) if maps[2:] else residuals
        terms = {k: np.concatenate([t[0][k] for t in told]).max(keepdims=True) for k in told[0][0]}
        codes, steps, losses = (np.concatenate([t[i] for t in told]) for i in (1, 2, 3))
        return Projection(torch.from_numpy(form)[None], residuals, encoder, terms, codes.mean(0, keepdims=True), steps.max(keepdims=True), losses.mean(keepdims=True))  # fmt: skip

    def _projected(self, images: Tensor) -> Projection:
        model, s = self.model, self.settings
        steps, losses = np.zeros(len(images), int), np.zeros(len(images))
        with torch.no_grad():
            if not model.DECODES:
                forms, log_size, code = model.rebuilt(images)
                codes = code[:, None]
            else:
                starts = self.starts(images)
                code = model.nearest(starts[:, 0])
                codes = code[:, None]
                forms, log_size = model.expected(code)
            encoder = Residuals.of(images, forms, log_size)
        if s.steps and model.DECODES:
            found = self.descended(images, starts)
            code, steps, losses = self._plain(found.latent), found.steps.cpu().numpy(), found.loss.cpu().numpy()
            codes = self._plain(found.latents)
        with torch.no_grad():
            if s.steps and model.DECODES:
                forms, log_size = model.expected(code)
            terms = model.terms(Projected(images, forms, code, codes, self.bank))
        terms = {k: v.float().cpu().numpy().astype(float) for k, v in terms.items()}
        if self.density is not None:
            with torch.no_grad():  # an encoder's answer is the first start
                own = starts[:, 0] if model.ENCODES else model.described(images)
            terms[RARITY] = self.density.rarity(own.float().cpu().numpy())
        if self.places is not None:
            with torch.no_grad():
                terms[PATCH] = self.places.look(model.texture(images).float())[0]
        return Projection(forms, Residuals.of(images, forms, log_size), encoder, terms, code.cpu().numpy(), steps, losses)

    def starts(self, images: Tensor) -> Tensor:
        """(B, K, Z); those drawn are at random within the training codes' spread, or of the prior."""
        s = self.settings
        if not s.steps:
            return start_codes(self.run, images, 1)
        drawn = min(s.drawn, s.starts)
        known = start_codes(self.run, images, s.starts - drawn) if s.starts > drawn else None
        if not drawn:
            return known
        random = self._plain(random_starts(len(images), drawn, len(self.mean), 0, images.device))
        return random if known is None else torch.cat([known, random], 1)

    def _plain(self, whitened: Tensor) -> Tensor:
        return whitened * self.spread + self.mean

    def problem(self, images: Tensor, starts: Tensor) -> tuple[Decode, Loss, Residual, Tensor]:
        """What is descended on: a decoder of whitened codes, the loss, its parts for Gauss-Newton, and the targets (B, 2 S S + Z): images, how much each
        pixel counts, and the code that the prior is about."""
        s, model = self.settings, self.model
        pixels, side = images[0].numel(), images.shape[-1]
        with torch.no_grad():
            alone = model.features(images) if len(images) == 1 and s.features else None  # one image's features serve all its starts
            expected = model.expected(starts[:, 0])[1].exp()
            trust = (expected.mean((1, 2, 3), keepdim=True) / expected).clamp(max=s.trust) if s.trust else torch.ones_like(expected)
            about = s.prior and model.ENCODES
            usual = (model.encode(images) - self.mean) / self.spread if about else torch.zeros_like(starts[:, 0])

        def decode(whitened: Tensor) -> Tensor:
            return model.decode(self._plain(whitened))

        def image_of(target: Tensor) -> Tensor:
            return target[:, :pixels].view(-1, 1, side, side)

        def loss(form: Tensor, target: Tensor, whitened: Tensor) -> Tensor:
            image, weight = image_of(target), image_of(target[:, pixels:])
            total = pyramid_l1(form * weight, image * weight) + s.prior * (whitened - target[:, 2 * pixels :]).pow(2).mean(1)
            if s.square:
                total = total + s.square * (form - image).pow(2).mean((1, 2, 3))
            if s.features:
                with torch.no_grad():
                    wanted = alone or model.features(image)
                total = total + s.features * feature_distance(model.features(form), wanted)
            return total

        def residual(form: Tensor, target: Tensor, whitened: Tensor) -> tuple[Tensor, Tensor]:
            return pyramid_residual(form, image_of(target), whitened)

        return decode, loss, residual, torch.cat([images.flatten(1), trust.flatten(1), usual], 1)

    def descended(self, images: Tensor, starts: Tensor) -> Descent:
        """(B, 1, S, S) from (B, K, Z) as the settings say, of a model that has codes to descend in; what it gives is whitened."""
        s = self.settings
        decode, loss, residual, targets = self.problem(images, starts)
        whitened = (starts - self.mean) / self.spread
        ways: dict[str, Any] = {
            "steps": s.steps,
            "rate": s.rate,
            "enough": self.enough,
            "tolerance": s.tolerance,
            "method": s.method,
            "residual": residual,
        }
        found = descend(decode, loss, targets, whitened, keep=s.keep or None, scout=s.scout, **ways)
        going = torch.ones_like(found.loss, dtype=torch.bool) if self.enough is None else found.loss > self.enough
        if not bool(going.any()):
            return found
        others = self.model.relatives(self._plain(found.latent[going]))
        if others is not None:
            again = torch.cat([found.latent[going, None], (others - self.mean) / self.spread], 1)
        elif s.polish:
            again = found.latent[going, None]
        else:
            return found
        if s.polish:
            ways |= {"steps": s.polish, "rate": None, "method": "gauss-newton", "exact": False}
        return _further(found, going, descend(decode, loss, targets[going], again, keep=AGAIN, **ways))


def _further(found: Descent, going: Tensor, then: Descent) -> Descent:
    """With what a further descent of the images ``going`` (B,) came to."""
    latent, decoded, loss, steps = found.latent.clone(), found.decoded.clone(), found.loss.clone(), found.steps.clone()
    latent[going], decoded[going], loss[going], steps[going] = then.latent, then.decoded, then.loss, steps[going] + then.steps
    return replace(found, latent=latent, decoded=decoded, loss=loss, steps=steps)


def joined(parts: Sequence[Projection]) -> Projection:
    """Of images that were projected apart."""
    return Projection(
        torch.cat([p.forms for p in parts]),
        joined_residuals([p.residuals for p in parts]),
        joined_residuals([p.encoder for p in parts]),
        {k: np.concatenate([p.terms[k] for p in parts]) for k in parts[0].terms},
        np.concatenate([p.codes for p in parts]),
        np.concatenate([p.steps for p in parts]),
        np.concatenate([p.losses for p in parts]),
    )


def joined_residuals(found: Sequence[Residuals]) -> Residuals:
    return Residuals(np.concatenate([r.size for r in found]), np.concatenate([r.expected for r in found]))


@contextmanager
def one_thread_each() -> Iterator[ThreadPoolExecutor]:
    """A pool of as many threads as torch has, each of which computes with one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)


def chunks(items: Sequence[Item], together: int = CHUNK) -> Iterator[Sequence[Item]]:
    """As many at a time as are projected together."""
    for start in range(0, len(items), together):
        yield items[start : start + together]


def device_for(name: str) -> torch.device:
    if name not in ("auto", "cpu", "cuda") or (name == "cuda" and not torch.cuda.is_available()):
        raise InputError(
            "--device",
            f'found "{name}"' if name != "cuda" else "this machine has no CUDA device",
            wanted="auto, cpu or cuda" if name != "cuda" else "auto or cpu",
        )
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
