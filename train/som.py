"""A self-organising map of codes (Kohonen 1982): a grid of nodes laid over the codes so that its neighbours are neighbours there too.

Codes are (n, Z) float; nodes (rows * columns, Z) in row-major order. The batch rule is used (Kohonen 1995): in each round a node becomes
the mean of all codes, weighted by how near to it on the grid their own best node lies. Nothing is drawn but a random start; codes in
another order give the same map but for rounding.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

CHUNK = 4096  # codes at a time: bounds the memory, not the result
LAST = 0.45  # grid steps: the neighbourhood's deviation at the end


def fit_som(codes: Tensor, rows: int, columns: int, seed: int = 0, steps: int = 60, start: str = "pca") -> Tensor:
    """(n, Z) -> nodes (rows * columns, Z) of the codes' type. In ``steps`` rounds the neighbourhood shrinks from half the grid to LAST.

    ``start``: "pca" lays the grid over the codes' two main directions; "random" puts nodes on codes picked by ``seed``, which nothing else
    reads. Computed in float64. ValueError for no codes, codes that are no numbers, or an empty grid.
    """
    if codes.dim() != 2 or not len(codes) or min(rows, columns) < 1 or start not in ("pca", "random"):
        raise ValueError(f"a {rows} x {columns} map of codes {tuple(codes.shape)}, start {start!r}")
    values = codes.detach().double()
    if not values.isfinite().all():
        raise ValueError("codes that are no numbers have no map")
    mean = values.mean(0)
    values = values - mean  # so that products lose nothing to it
    nodes = _spread(values, rows, columns) if start == "pca" else _picked(values, rows * columns, seed)
    apart = _grid_distance(len(nodes), columns, values.device).square().sum(-1)
    first = max(max(rows, columns) / 2, LAST)
    for step in range(steps):
        width = first * (LAST / first) ** (step / max(steps - 1, 1))
        near = torch.exp(-apart / (2 * width**2))
        sums, counts = _members(nodes, values)
        weight = (near @ counts)[:, None]
        nodes = torch.where(weight > 1e-30, near @ sums / weight.clamp(min=1e-30), nodes)  # far from every code a node stays
    return (nodes + mean).to(codes.dtype)


def nearest(nodes: Tensor, codes: Tensor) -> Tensor:
    """(n,) int64: each code's best node, the first of equals."""
    return torch.cat([_distances(nodes, part).argmin(1) for part in codes.split(CHUNK)])


def quantised(nodes: Tensor, codes: Tensor, columns: int | None = None, blend: float = 0.0) -> Tensor:
    """(n, Z): what the map knows that is nearest to each code.

    With ``blend`` 0 that is its best node. Above, its best node and that one's up to eight neighbours on a grid of ``columns`` are mixed,
    weighted by exp(-d^2 / (blend s^2)) with d a code's distance to the node and s that of the best node to its neighbours: at 0.5 the
    mixture is nearly linear between nodes.
    """
    best = nearest(nodes, codes)
    if blend == 0:
        return nodes[best].to(codes.dtype)
    if columns is None or blend < 0:
        raise ValueError(f"blend {blend} with {columns} columns: a blend is not negative, and wants to know the grid")
    around, there = _neighbours(len(nodes), columns, nodes.device)
    spacing = ((nodes[around] - nodes[:, None]).square().sum(-1) * there).sum(1) / (there.sum(1) - 1).clamp(min=1)
    parts = []
    for own, part in zip(best.split(CHUNK), codes.split(CHUNK), strict=True):
        choice = nodes[around[own]].to(part.dtype)
        far = (choice - part[:, None]).square().sum(-1) / (blend * spacing[own, None].to(part.dtype)).clamp(min=1e-12)
        weight = torch.softmax((-far).masked_fill(~there[own], -torch.inf), 1)
        parts.append((weight[:, :, None] * choice).sum(1))
    return torch.cat(parts)


def quantisation_error(nodes: Tensor, codes: Tensor) -> float:
    """Mean distance of codes (n, Z) to their best nodes."""
    return float((nodes[nearest(nodes, codes)].double() - codes.double()).square().sum(1).sqrt().mean())


def topographic_error(nodes: Tensor, codes: Tensor, columns: int) -> float:
    """Share of codes whose best two nodes are not neighbours on the grid, diagonally or straight (Kiviluoto 1996)."""
    if len(nodes) < 2:
        return 0.0
    two = torch.cat([_distances(nodes, part).topk(2, largest=False).indices for part in codes.split(CHUNK)])
    steps = torch.stack([two // columns, two % columns], -1).diff(dim=1).abs().amax((1, 2))
    return float((steps > 1).double().mean())


def _distances(nodes: Tensor, codes: Tensor) -> Tensor:
    # in float64 and never by a matrix product, whose rounding would let a code's node hang on how many others are asked for
    return torch.cdist(codes.double(), nodes.double(), compute_mode="donot_use_mm_for_euclid_dist")


def _members(nodes: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """(K, Z) and (K,): the sum and the number of the codes that have each node as their best."""
    sums, counts = torch.zeros_like(nodes), nodes.new_zeros(len(nodes))
    half = nodes.square().sum(1) / 2
    for part in values.split(CHUNK):
        best = (half - part @ nodes.T).argmin(1)  # a product is faster than the distances themselves
        member = torch.nn.functional.one_hot(best, len(nodes)).to(nodes.dtype)  # adding by index has no fixed order on a GPU
        sums, counts = sums + member.T @ part, counts + member.sum(0)
    return sums, counts


def _spread(values: Tensor, rows: int, columns: int) -> Tensor:
    """The grid over the plane of the two main directions of centred codes, two deviations either way, its longer side along the first."""
    sizes, directions = torch.linalg.eigh(values.T @ values / len(values))
    axes = (directions * sizes.clamp(min=0).sqrt()).flip(1).T[:2]
    axes = axes * torch.sign(axes.gather(1, axes.abs().argmax(1, keepdim=True)))  # an eigenvector's sign is nobody's choice but ours
    if len(axes) < 2:
        axes = torch.cat([axes, torch.zeros_like(axes)])
    down, along = (
        2 * (torch.arange(n, device=values.device, dtype=values.dtype) - (n - 1) / 2) / max((n - 1) / 2, 1) for n in (rows, columns)
    )
    first, second = (axes[1], axes[0]) if columns >= rows else (axes[0], axes[1])
    return (down[:, None, None] * first + along[None, :, None] * second).flatten(0, 1)


def _picked(values: Tensor, count: int, seed: int) -> Tensor:
    """Codes, each once before any comes again."""
    generator = torch.Generator().manual_seed(seed)
    turns = [torch.randperm(len(values), generator=generator) for _ in range(math.ceil(count / len(values)))]
    return values[torch.cat(turns)[:count].to(values.device)]


def _grid_distance(count: int, columns: int, device: torch.device) -> Tensor:
    """(K, K, 2) float64 grid steps down and along between nodes."""
    node = torch.arange(count, device=device)
    place = torch.stack([node // columns, node % columns], -1).double()
    return place[:, None] - place[None]


def _neighbours(count: int, columns: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(K, 9) int64 the nodes about each and itself in their midst, and (K, 9) bool which of them the grid has."""
    node = torch.arange(count, device=device)[:, None]
    step = torch.arange(9, device=device)
    row, column = node // columns + step // 3 - 1, node % columns + step % 3 - 1
    there = (row >= 0) & (row < count // columns) & (column >= 0) & (column < columns)
    return torch.where(there, row * columns + column, node), there
