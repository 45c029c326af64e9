"""Whether a learned form has learned the good parts, and only these: figures of a decoder, of real pictures and of the codes found for them.

Needs no run and no trainer: a :class:`detect.latent_space.Subject` is a decoder with the law of its codes. The order of the pictures does
not matter, and each draw comes from the seed. The pictures are made by :mod:`detect.diagnostic_pictures`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cad.errors import InputError
from detect.compare import scores
from detect.latent_space import (
    CHUNK,
    Interpolation,
    Subject,
    decoded,
    deviations_out,
    draw,
    interpolation,
    interpolation_figures,
    outside,
    shrunk,
)
from detect.pose_coverage import Coverage, TrainingViews, coverage
from detect.resemblance import detail, frechet_table, in_a_plane, nearest_distance, sorted_rows, told_apart, variety
from train.bank import thumbnails
from train.losses import blurred

FORMAT = 1
GOOD, GENERATED = "good", "generated"
DEVIATIONS = (1.0, 2.0, 3.0, 5.0)  # of samples; the first is where draws from the prior lie
PAIRS = 2  # of codes of each label, between which is interpolated
SHOWN, ROW = 64, 8  # pictures of a grid, and of a row of samples from outside
EXTREMES = 2  # best, and worst, reconstructions of each label
DRAWS = 512  # generated views that are counted and compared
MAPPED = 300  # pictures of each kind in the plane
WINDOW = (0.001, 0.999)  # quantiles of the real good pictures shown, that are black and white on all of them
BELOW = 0.95  # share of real good pictures whose highest pixels are below the anomaly maps' level

Anomaly = Callable[[Tensor, Tensor], Tensor]  # photographs and forms (n, 1, S, S), on the CPU -> maps (n, S, S), 0 where nothing is


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """A picture of a ``label``, ``rank`` ``best`` or ``worst`` by its ``score``, the ``index``-th that was given; ``photograph``, ``form``
    and ``anomaly`` (S, S) float32."""

    label: str
    rank: str
    index: int
    score: float
    photograph: np.ndarray
    form: np.ndarray
    anomaly: np.ndarray


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """All that is shown, and ``figures``, JSON. ``window``: what is black and what is white on every picture; ``level``: of the anomaly maps;
    ``real`` and ``generated`` (<= SHOWN, 1, s, s) and ``outside`` (DEVIATIONS, ROW, 1, s, s), :func:`shrunk`; ``plane``: {kind: (n, 2)}, None of too few."""

    figures: dict[str, Any]
    window: tuple[float, float]
    level: float
    real: Tensor
    generated: Tensor
    outside: Tensor
    interpolations: list[Interpolation]
    plane: dict[str, np.ndarray] | None
    reconstructions: list[Reconstruction]
    coverage: Coverage | None


def write_diagnostics(
    subject: Subject, photos: Mapping[str, Tensor], codes: Mapping[str, Tensor], folder: str | Path, **options: Any
) -> dict[str, Any]:
    """What :func:`diagnose`, which takes the ``options``, finds: pictures, animations, plots and diagnostics.html below ``folder``, and last
    diagnostics.json, whose content it returns. The page is whole by itself."""
    from detect.diagnostic_pictures import write_pictures

    found = diagnose(subject, photos, codes, **options)
    write_pictures(found, Path(folder))
    return found.figures


@torch.no_grad()
def diagnose(
    subject: Subject,
    photos: Mapping[str, Tensor],
    codes: Mapping[str, Tensor],
    *,
    views: TrainingViews | None = None,
    anomaly: Anomaly | None = None,
    ranks: Mapping[str, np.ndarray] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Diagnosis:
    """``photos``: {label: (n, 1, S, S) prepared}, one of them ``good``, none of them trained on; ``codes``: {label: (n, Z)} that were found for
    them. ``views``: what was trained on, for the pose coverage; ``anomaly``: the detector's map, else the smoothed residual; ``ranks``:
    {label: (n,)} scores by which reconstructions are best and worst, else the map's highest pixels.

    Raises InputError where no picture is good, or pictures and codes do not belong together.
    """
    _check(subject, photos, codes)
    order = {label: _by_content(photos[label], codes[label]) for label in (GOOD, *sorted(set(photos) - {GOOD}))}
    photos = {label: photos[label][rows].float().cpu() for label, rows in order.items()}
    codes = {label: codes[label][rows] for label, rows in order.items()}
    ranks = {label: np.asarray(ranks[label], float)[rows] for label, rows in order.items()} if ranks else None

    def rng(stream: int) -> np.random.Generator:
        return np.random.default_rng((seed, stream))

    drawn, beyond = draw(subject, draws, rng(0)), outside(subject, ROW, DEVIATIONS, rng(1))
    generated, far = decoded(subject, drawn[:SHOWN]), torch.stack([decoded(subject, row) for row in beyond])
    paths = [path for label, own in codes.items() for path in _paths(subject, label, own, rng(2))]
    thumbs = {label: thumbnails(pictures) for label, pictures in photos.items()}
    thumbs[GENERATED] = torch.cat([thumbnails(decoded(subject, part)) for part in drawn.split(CHUNK)])
    real = photos[GOOD][rng(6).permutation(len(photos[GOOD]))[:SHOWN]]
    kinds = {kind: rows[rng(3).permutation(len(rows))[:MAPPED]] for kind, rows in _kinds(thumbs).items()}
    plane = in_a_plane(kinds, seed)
    peaks, shown, level = reconstructed(subject, photos, codes, anomaly or _smoothed, ranks, order)
    covered = coverage(views, thumbs[GENERATED], thumbs[GOOD]) if views is not None else None
    spaces = {label: {"latent": subject.scaled(c).cpu(), "picture": thumbs[label]} for label, c in {**codes, GENERATED: drawn}.items()}
    figures = {
        "format": FORMAT,
        "subject": subject.name,
        "seed": seed,
        "latent": subject.latent,
        "prior": "independent" if subject.prior[1].ndim == 1 else "correlated",
        "n": {label: len(rows) for label, rows in thumbs.items()},
        "generated": {
            "variety": variety(thumbs[GOOD], thumbs[GENERATED]),
            "detail": detail(real, generated),
            "told_apart": told_apart(thumbs[GOOD], thumbs[GENERATED], rng(4)),
            "from_good": nearest_distance(thumbs[GENERATED], thumbs[GOOD]),
            "good_from_good": nearest_distance(thumbs[GOOD]),
        },
        "outside": [_outside_figures(subject, k, row, thumbs[GOOD]) for k, row in zip(DEVIATIONS, far, strict=True)],
        "interpolation": [{"label": p.label, **interpolation_figures(p)} for p in paths],
        "frechet": frechet_table(spaces.pop(GOOD), spaces, rng(5)),
        "reconstruction": {
            label: {"peak": _quantiles(peaks[label]), "out": _quantiles(deviations_out(subject, codes[label]).cpu().numpy())}
            for label in codes
        },
        "level": level,
        "pose_coverage": covered.figures if covered else None,
    }
    window = tuple(float(v) for v in np.quantile(real.numpy(), WINDOW))
    return Diagnosis(
        figures, window, level, shrunk(real), shrunk(generated), torch.stack([shrunk(row) for row in far]), paths, plane, shown, covered
    )


def reconstructed(
    subject: Subject,
    photos: Mapping[str, Tensor],
    codes: Mapping[str, Tensor],
    anomaly: Anomaly,
    ranks: Mapping[str, np.ndarray] | None,
    index: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], list[Reconstruction], float]:
    """The peaks {label: (n,)} of all anomaly maps (:func:`detect.compare.scores`), the EXTREMES of each label, and the level that the peaks of
    BELOW of the good ones are below. ``ranks``: as of :func:`diagnose`; ``index``: {label: (n,)} what each picture was given as."""

    def seen(label: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        forms = decoded(subject, codes[label][rows])
        return forms[:, 0].numpy(), anomaly(photos[label][rows], forms).float().cpu().numpy()

    peaks, found = {}, []
    for label, pictures in photos.items():
        chunks = np.split(np.arange(len(pictures)), range(CHUNK, len(pictures), CHUNK))
        peaks[label] = np.concatenate([scores(seen(label, rows)[1]) for rows in chunks])
        by = ranks[label] if ranks else peaks[label]
        ranked, few = np.argsort(by, kind="stable"), min(EXTREMES, len(by) // 2)
        picks = [("best", k) for k in ranked[:few]] + [("worst", k) for k in ranked[::-1][: max(few, 1)]]
        for (rank, k), form, heat in zip(picks, *seen(label, np.array([k for _, k in picks])), strict=True):
            found.append(Reconstruction(label, rank, int(index[label][k]), float(by[k]), pictures[k, 0].numpy(), form, heat))
    return peaks, found, float(np.quantile(peaks[GOOD], BELOW))


def _check(subject: Subject, photos: Mapping[str, Tensor], codes: Mapping[str, Tensor]) -> None:
    if GOOD not in photos or not len(photos[GOOD]):
        raise InputError("photos", f"no good picture, labels: {', '.join(photos) or 'none'}", wanted="some, to hold the others against")
    if GENERATED in photos:
        raise InputError("photos", f'found a label "{GENERATED}"', wanted="another name for it")
    for label, pictures in photos.items():
        found = tuple(codes[label].shape) if label in codes else "none"
        if not len(pictures) or found != (len(pictures), subject.latent):
            wanted = f"a code of {subject.latent} latents for each of at least one picture"
            raise InputError(f"codes of {label}", f"found {found} for {len(pictures)} pictures", wanted=wanted)


def _by_content(photos: Tensor, codes: Tensor) -> np.ndarray:
    return sorted_rows(np.concatenate([t.reshape(len(t), -1).float().cpu().numpy() for t in (photos, codes)], 1))


def _smoothed(photos: Tensor, forms: Tensor) -> Tensor:
    return blurred(photos - forms).abs()[:, 0]


def _paths(subject: Subject, label: str, codes: Tensor, rng: np.random.Generator) -> list[Interpolation]:
    """PAIRS of them, no code twice."""
    pairs = rng.permutation(len(codes))[: 2 * PAIRS]
    return [interpolation(subject, label, codes[a], codes[b]) for a, b in zip(pairs[::2], pairs[1::2], strict=False)]


def _kinds(thumbs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    bad = [t for label, t in thumbs.items() if label not in (GOOD, GENERATED)]
    return {"real good": thumbs[GOOD], **({"real defective": torch.cat(bad)} if bad else {}), GENERATED: thumbs[GENERATED]}


def _outside_figures(subject: Subject, deviations: float, pictures: Tensor, good: Tensor) -> dict[str, float | None]:
    """``from_good``: median distance to the nearest good thumbnail; ``encoder_off``: root mean square of what the encoder's answer, decoded
    again, leaves of a picture, over the picture's own deviation (median)."""
    off = None
    if subject.encode is not None:
        again = torch.cat([decoded(subject, subject.encode(part.to(subject.prior[0]))) for part in pictures.split(CHUNK)])
        left, own = (
            (p - shift).square().mean((1, 2, 3)).sqrt() for p, shift in ((pictures, again), (pictures, pictures.mean((1, 2, 3), True)))
        )
        off = float((left / own.clamp(min=1e-12)).median())
    return {"deviations": deviations, "from_good": nearest_distance(thumbnails(pictures), good), "encoder_off": off}


def _quantiles(values: np.ndarray) -> dict[str, float]:
    return {name: float(np.quantile(values, q)) for name, q in (("low", 0.05), ("median", 0.5), ("high", 0.95))}
