"""How like real pictures generated ones are, and real defective ones: by thumbnails (:func:`train.bank.thumbnails`) and by latent codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from train.losses import laplacian_pyramid

COMPONENTS = 30  # principal ones, that the plane is made from
SPLITS = 8  # random halves of the good ones, over which a distance is averaged


def variety(real: Tensor, generated: Tensor) -> float | None:
    """Deviation of generated thumbnails (n, D) from their mean over that of real ones: near 0 of a generator that has collapsed."""
    made, seen = (float(t.sub(t.mean(0)).square().sum(1).mean().sqrt()) for t in (generated, real))
    return made / seen if seen > 0 else None


def detail(real: Tensor, generated: Tensor) -> float | None:
    """Mean size of the finest band of a Laplacian pyramid, of generated pictures (n, 1, S, S) over real ones: below 1 where they are blurred."""
    made, seen = (float(laplacian_pyramid(t, 1)[0].abs().mean()) for t in (generated, real))
    return made / seen if seen > 0 else None


def told_apart(real: Tensor, generated: Tensor, rng: np.random.Generator) -> float | None:
    """Share of thumbnails (n, D), as many of either kind, whose nearest other one is of their own kind (Lopez-Paz & Oquab 2017): 0.5 where
    nothing tells them apart, 1 where everything does, below 0.5 where generated ones sit on real ones. None of fewer than two."""
    n = min(len(real), len(generated))
    if n < 2:
        return None
    both = torch.cat([t[rng.permutation(len(t))[:n]] for t in (real, generated)])
    kind = torch.arange(2 * n) < n
    return float((kind[_apart(both, both).fill_diagonal_(torch.inf).argmin(1)] == kind).double().mean())


def nearest_distance(thumbs: Tensor, others: Tensor | None = None) -> float | None:
    """Median distance to the nearest of ``others``, or (None) to the nearest one of their own. None where there is none."""
    apart = _apart(thumbs, others) if others is not None else _apart(thumbs, thumbs).fill_diagonal_(torch.inf)
    return float(apart.amin(1).median()) if apart.isfinite().any() else None


def in_a_plane(groups: Mapping[str, Tensor], seed: int) -> dict[str, np.ndarray] | None:
    """{kind: (n, D) rows} -> {kind: (n, 2)} by t-SNE (van der Maaten & Hinton 2008) of principal components. The rows' order does not matter.
    None of fewer than 8 rows in all."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    rows = np.concatenate([g.cpu().numpy().astype(np.float64) for g in groups.values()])
    if len(rows) < 8:
        return None
    order = sorted_rows(rows)
    flat = PCA(min(COMPONENTS, *rows.shape), svd_solver="full").fit_transform(rows[order])
    flat /= max(float(flat[:, 0].std()), 1e-12)
    method = TSNE(perplexity=min(30.0, (len(rows) - 1) / 4), init=flat[:, :2] * 1e-4, random_state=seed)
    found = np.empty((len(rows), 2))
    found[order] = method.fit_transform(flat)
    return dict(zip(groups, np.split(found, np.cumsum([len(g) for g in groups.values()])[:-1]), strict=True))


def frechet_table(
    good: Mapping[str, Tensor], others: Mapping[str, Mapping[str, Tensor]], rng: np.random.Generator
) -> dict[str, dict[str, Any]]:
    """``good`` and each of ``others``: {space: (n, D)} -> {other: {"n", space: {mean, low, high, good}}}, Fréchet distances between the normal
    laws of ``n`` good ones and as many others, over SPLITS random halves of the good ones, as Lai et al. (2018) have them of latent codes and
    of pictures.

    Estimated from few, a distance is too large, the more so the fewer: ``good`` beside each is that to as many good ones of the other half.
    Others too few for a covariance are left out.
    """
    table: dict[str, dict[str, Any]] = {}
    count = len(next(iter(good.values())))
    halves = [rng.permutation(count) for _ in range(SPLITS)]
    for name, other in others.items():
        own = len(next(iter(other.values())))
        n = min(count // 2, own)
        if n < 2:
            continue
        taken = [rng.permutation(own)[:n] for _ in range(SPLITS)]
        table[name] = {"n": n}
        for space, a in good.items():
            table[name][space] = _distances([(a[h[:n]], other[space][t]) for h, t in zip(halves, taken, strict=True)])
            table[name][space]["good"] = _distances([(a[h[:n]], a[h[n : 2 * n]]) for h in halves])["mean"]
    return table


def sorted_rows(rows: np.ndarray) -> np.ndarray:
    """(n,) int: an order of (n, D) rows by their content, the same whatever the order that they come in."""
    return np.array(sorted(range(len(rows)), key=lambda k: rows[k].tobytes()), int)


def _distances(pairs: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    from train.frechet import frechet

    found = [float(frechet(a, b)) for a, b in pairs]
    return {"mean": float(np.mean(found)), "low": min(found), "high": max(found)}


def _apart(a: Tensor, b: Tensor) -> Tensor:
    return torch.cdist(a.double(), b.double(), compute_mode="donot_use_mm_for_euclid_dist")
