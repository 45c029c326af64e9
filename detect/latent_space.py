"""A decoder with the law of its codes: draws from it, codes outside it, and the way from one code to another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

FRAMES = 64  # of an interpolation
CHUNK = 16  # pictures decoded at a time: a generator's layers want many times the memory that its pictures do
TILE = 128  # px, of pictures that are only looked at


@dataclass(frozen=True, eq=False)
class Subject:
    """What is looked at. ``decode``: (n, Z) -> (n, 1, S, S) of what :func:`train.images.prepare` gives, each row on its own; ``latent``: Z;
    ``encode``: the other way, where there is one; ``prior``: on the decoder's device the mean (Z,) and the deviations of the codes of training
    views (:func:`prior_of`), or :func:`standard_normal`. The deviations are (Z,) each latent's own, or, of latents that go together, (Z, Z),
    the lower triangular root of their covariance."""

    name: str
    decode: Callable[[Tensor], Tensor]
    latent: int
    encode: Callable[[Tensor], Tensor] | None
    prior: tuple[Tensor, Tensor]

    def whitened(self, codes: Tensor) -> Tensor:
        """(n, Z) in the prior's deviations from its mean."""
        mean, deviation = self.prior
        if deviation.ndim == 1:
            return (codes.to(mean) - mean) / deviation
        return torch.linalg.solve_triangular(deviation, (codes.to(mean) - mean).mT, upper=False).mT

    def scaled(self, codes: Tensor) -> Tensor:
        """(n, Z) each latent in its own deviation from its mean, whether or not they go together."""
        mean, deviation = self.prior
        return (codes.to(mean) - mean) / (deviation if deviation.ndim == 1 else deviation.norm(dim=1))

    def colored(self, whitened: Tensor) -> Tensor:
        """The other way."""
        mean, deviation = self.prior
        return mean + (whitened.to(mean) * deviation if deviation.ndim == 1 else whitened.to(mean) @ deviation.mT)


@dataclass(frozen=True, eq=False)
class Interpolation:
    """``frames`` (FRAMES, 1, s, s), :func:`shrunk`, from one code of a ``label`` to another; ``steps`` (FRAMES - 1,) between them, and from
    end to end, ``straight``: root mean square difference over the pixels at full size."""

    label: str
    frames: Tensor
    steps: np.ndarray
    straight: float


def standard_normal(latent: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """The prior of codes that are drawn so: mean 0, deviation 1."""
    return torch.zeros(latent, device=device), torch.ones(latent, device=device)


def prior_of(codes: Tensor, *, correlated: bool = False) -> tuple[Tensor, Tensor]:
    """(n, Z) codes of training views -> the normal law nearest to them whose latents are independent, or (``correlated``: wants many more codes
    than latents) which have their covariance. An encoder's latents mostly go together: draws from the first are then like no view."""
    mean = codes.mean(0)
    if not correlated:
        return mean, codes.std(0) + 1e-3
    covariance = torch.cov(codes.double().mT).reshape(codes.shape[1], -1)
    least = 1e-6 * covariance.trace() / len(covariance)
    return mean, torch.linalg.cholesky(covariance + least * torch.eye(len(covariance)).to(covariance)).to(codes)


def draw(subject: Subject, count: int, rng: np.random.Generator) -> Tensor:
    """(count, Z) from the prior."""
    return subject.colored(torch.from_numpy(rng.standard_normal((count, subject.latent))))


def outside(subject: Subject, count: int, deviations: Sequence[float], rng: np.random.Generator) -> Tensor:
    """(len(deviations), count, Z): the same ``count`` directions, each so far out that the root mean square over the latents is so many
    deviations. Draws from the prior lie at about 1, the more closely the more latents there are."""
    towards = rng.standard_normal((count, subject.latent))
    towards *= np.sqrt(subject.latent) / np.linalg.norm(towards, axis=1, keepdims=True)
    return torch.stack([subject.colored(torch.from_numpy(k * towards)) for k in deviations])


def deviations_out(subject: Subject, codes: Tensor) -> Tensor:
    """(n, Z) -> (n,) root mean square over the latents, in the prior's deviations from its mean."""
    return subject.whitened(codes).square().mean(1).sqrt()


@torch.no_grad()
def decoded(subject: Subject, codes: Tensor) -> Tensor:
    """(n, Z) -> (n, 1, S, S) float32 on the CPU."""
    return torch.cat([subject.decode(part.to(subject.prior[0])).float().cpu() for part in codes.split(CHUNK)])


def between(subject: Subject, start: Tensor, end: Tensor, frames: int = FRAMES) -> Tensor:
    """(frames, Z) from ``start`` (Z,) to ``end`` (Z,), both given back as they are.

    Along the great circle in the prior's deviations, the length changing evenly (after White 2016): a straight line between two draws of
    many latents passes where no draw lies, 1 / sqrt(2) as far from the mean, and what a decoder makes there tells nothing of what it has
    learned. Straight where the two lie in one direction, or in opposite ones, between which no circle is the shortest.
    """
    a, b = subject.whitened(torch.stack([start, end]))
    t = torch.linspace(0, 1, frames, dtype=a.dtype, device=a.device)[:, None]
    lengths, path = (a.norm(), b.norm()), torch.lerp(a[None], b[None], t)
    if min(lengths) > 0:
        a, b = a / lengths[0], b / lengths[1]
        angle = 2 * torch.atan2((a - b).norm(), (a + b).norm())  # exact near 0 and pi, where an arc cosine is not
        if angle.sin() > 1e-4:
            circle = (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)
            path = circle * torch.lerp(*lengths, t)
    path = subject.colored(path)
    path[0], path[-1] = start.to(path), end.to(path)
    return path


def interpolation(subject: Subject, label: str, start: Tensor, end: Tensor) -> Interpolation:
    """What is decoded on the way."""
    frames = decoded(subject, between(subject, start, end))
    steps = np.array([_rms(b - a) for a, b in pairwise(frames)])
    return Interpolation(label, shrunk(frames), steps, _rms(frames[-1] - frames[0]))


def interpolation_figures(found: Interpolation) -> dict[str, float | None]:
    """``length``: sum of the steps; ``detour``: this over ``straight``, the difference between both ends; ``evenness``: the largest step over
    the median one: 1 is a form that changes evenly, much more one that jumps. In greys, where Karras et al. (2019) have a pretrained
    network's distance. None where nothing changes."""
    length, median = float(found.steps.sum()), float(np.median(found.steps))
    return {
        "length": length,
        "straight": found.straight,
        "detour": length / found.straight if found.straight > 0 else None,
        "evenness": float(found.steps.max()) / median if median > 0 else None,
    }


def shrunk(pictures: Tensor) -> Tensor:
    """(n, 1, S, S) -> (n, 1, s, s), areas averaged, of at most TILE px."""
    return torch.nn.functional.adaptive_avg_pool2d(pictures, TILE) if pictures.shape[-1] > TILE else pictures


def _rms(picture: Tensor) -> float:
    return float(picture.double().square().mean().sqrt())
