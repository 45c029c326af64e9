"""Where a descent may start: a part's poses, evenly over its view range, each with a small template that does not care about light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cad.part import Part
from synth.drawable import Drawable
from synth.poses import rotations
from synth.scene import matrix
from train.shading import Placement, sheet

THUMB = 16  # px of a template
LIGHTS = 6  # its columns: the first reflectance maps, one for hollows and one for the background
POSES = 6000
FILL = 0.8  # of a template's width, where it shows the part's box and not the whole image
CANDIDATES = 400  # nearest poses among which unlike ones are picked


@dataclass(frozen=True, eq=False)
class PoseIndex:
    """``turns`` (n, 3, 3) float64; ``templates`` (n, LIGHTS, 256) float32, orthonormal rows that span each pose's pictures under any
    light; ``boxes`` (n, 4) float64: the part's box in the template's reference placement, as centre x, y and width, height in units
    of image widths; ``boxed``: templates show this box at FILL, not the whole image, because place or scale are not known."""

    turns: np.ndarray
    templates: Tensor
    boxes: np.ndarray
    boxed: bool

    def distances(self, thumbs: np.ndarray) -> np.ndarray:
        """(n,) float32 share of a (256,) float picture's energy that no light on the pose explains: 0 a match, 1 nothing alike. Pixels that
        are NaN, because something hides them, are left out."""
        seen = np.isfinite(thumbs)
        picture = torch.from_numpy(np.ascontiguousarray(np.where(seen, thumbs, 0), np.float32)).to(self.templates.device)
        along = (self.templates.flatten(0, 1) @ picture).view(len(self.turns), -1)
        if seen.all():
            shares = along.square().sum(1)
        else:  # rows without these pixels are orthonormal no more
            rows = self.templates[:, :, torch.from_numpy(seen)]
            gram = rows @ rows.mT + 1e-3 * torch.eye(rows.shape[1], device=rows.device)
            shares = (along * torch.linalg.solve(gram, along)).sum(1)
        return (1 - shares / picture.square().sum().clamp(min=1e-12)).cpu().numpy()

    def nearest(self, thumbs: np.ndarray, count: int, apart: float = 12.0) -> np.ndarray:
        """(<= count,) int: the best matches, no two within ``apart`` degrees."""
        distance = self.distances(thumbs)
        order = np.argpartition(distance, min(CANDIDATES, len(distance) - 1))[:CANDIDATES]
        order = order[np.argsort(distance[order], kind="stable")]
        near = np.einsum("aij,bij->ab", self.turns[order], self.turns[order]) > 1 + 2 * np.cos(np.radians(apart))
        chosen: list[int] = []
        for k in range(len(order)):
            if not near[k, chosen].any():
                chosen.append(k)
            if len(chosen) == count:
                break
        return order[chosen]


def build_index(
    part: Part, item: Drawable, pivot: np.ndarray, reference: Placement, table: np.ndarray, hollow: np.ndarray, boxed: bool
) -> PoseIndex:
    """Draws every pose at ``reference``'s position and scale."""
    turns = np.stack([matrix(q) for q in rotations(part.views.rotation, POSES)])
    templates, boxes = np.empty((len(turns), LIGHTS, THUMB**2), np.float32), np.empty((len(turns), 4))
    table = np.ascontiguousarray(table[:, :, : LIGHTS - 2])
    corners = item.corners.reshape(-1, 3) - pivot
    for k, turn in enumerate(turns):
        at = Placement(turn, reference.position, reference.scale, reference.perspective)
        boxes[k] = box_of(corners, at)
        view = sheet(item, pivot, framed(at, boxes[k]) if boxed else at, table, hollow, THUMB, 3)
        templates[k] = np.linalg.qr(
            np.column_stack([view.columns[:, : LIGHTS - 2], view.columns[:, LIGHTS - 2], view.columns[:, LIGHTS + 1]])
        )[0].T
    return PoseIndex(turns, torch.from_numpy(templates), boxes, boxed)


def box_of(points: np.ndarray, at: Placement) -> np.ndarray:
    """(4,) centre x, y (y up) and width, height of (n, 3) ``points`` about the pivot, in image widths from the image's middle."""
    seen = points @ at.turn.T + at.position
    flat = seen[:, :2] * at.scale / (-seen[:, 2:] if at.perspective else 1.0)
    low, high = flat.min(0), flat.max(0)
    return np.r_[(low + high) / 2, high - low]


def framed(at: Placement, box: np.ndarray) -> Placement:
    """The placement whose image shows ``box`` in its middle at FILL: moved across the view and scaled, not tilted."""
    away = -at.position[2] if at.perspective else 1.0
    middle = np.r_[box[:2] * away / at.scale, 0.0]
    return Placement(at.turn, at.position - middle, at.scale * FILL / box[2:].max(), at.perspective)
