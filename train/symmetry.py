"""The turns under which a part looks the same, or nearly: measured from renders, not declared. A descent that ended in a near-miss
turn of the right pose tries them all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cad.mesh import Mesh
from synth.drawable import Drawable
from synth.scene import about, matrix, random_rotation
from train.pose_index import PoseIndex, box_of
from train.shading import Placement, lit, sheet

STEP = 7.5  # degrees between the turns that are tried about each axis
SIZE, POSES = 32, 10
ROUND = 12  # approximate turns about an axis that make a part nearly round
SAME, ALIKE = 0.03, 0.35  # loss over that of unrelated poses: below, a turn is a symmetry, or an approximate one


@dataclass(frozen=True, eq=False)
class Symmetries:
    """``turns`` (n, 3, 3) in the part's frame, most alike first; ``losses`` (n,) over the loss between unrelated poses: at most SAME, a
    turn cannot be told from none; at most ALIKE, it is an approximate symmetry."""

    turns: np.ndarray
    losses: np.ndarray

    @property
    def exact(self) -> np.ndarray:
        """(k, 3, 3), with the identity in front."""
        return np.concatenate([np.eye(3)[None], self.turns[self.losses <= SAME]])

    @property
    def approximate(self) -> np.ndarray:
        """(k, 3, 3): those worth trying, because they lead to another picture."""
        return self.turns[self.losses > SAME]

    @cached_property
    def axes(self) -> np.ndarray:
        """(k, 3) unit axes about which many turns are approximate symmetries: of parts that are nearly round."""
        found: list[np.ndarray] = []
        counts: list[int] = []
        for turn in self.approximate:
            axis = turn_axis(turn)
            near = [k for k, other in enumerate(found) if abs(axis @ other) > 0.999]
            if near:
                counts[near[0]] += 1
            else:
                found.append(axis)
                counts.append(1)
        return np.array([a for a, n in zip(found, counts, strict=True) if n >= ROUND]).reshape(-1, 3)

    def angle(self, a: np.ndarray, b: np.ndarray) -> float:
        """Degrees between the poses ``a`` and ``b`` (3, 3), the part's exact symmetries being no difference."""
        traces = np.einsum("ij,kil,lj->k", a, np.einsum("ij,kjl->kil", b, self.exact), np.eye(3))
        return float(np.degrees(np.arccos(np.clip((traces.max() - 1) / 2, -1, 1))))


def measured(
    mesh: Mesh, item: Drawable, pivot: np.ndarray, reference: Placement, table: np.ndarray, hollow: np.ndarray, index: PoseIndex
) -> Symmetries:
    """Turns about the axes of the part's frame and of its inertia, each judged by how well the turned part fits pictures of the other."""
    rng = np.random.default_rng(0)
    light = np.r_[0.5, 0.5 * rng.normal(size=table.shape[2] - 1) * 0.3, np.zeros(6)]
    picks = np.linspace(0, len(index.turns) - 1, POSES).astype(int)
    poses = [Placement(index.turns[k], reference.position, reference.scale, reference.perspective) for k in picks]
    pictures = [sheet(item, pivot, p, table, hollow, SIZE, 2).columns[:, : len(light)] @ light for p in poses]
    corners = (mesh.vertices - pivot)[np.unique(mesh.faces)]

    def loss(turn: np.ndarray, first: int, last: int) -> float:
        found = []
        for at, picture in zip(poses[first:last], pictures[first:last], strict=True):
            other = turned_about(at, turn, corners)
            made = lit(sheet(item, pivot, other, table, hollow, SIZE, 2), picture, rounds=3)[1]
            found.append(np.abs(made - picture).mean())
        return float(np.mean(found))

    unrelated = float(np.median([loss(matrix(random_rotation("any", rng)), 0, POSES) for _ in range(12)]))
    turns, losses = [], []
    for turn in _candidates(mesh):
        if loss(turn, 0, 2) > 1.5 * ALIKE * unrelated:  # two views are enough to rule most out
            continue
        share = loss(turn, 0, POSES) / unrelated
        if share <= ALIKE:
            turns.append(turn)
            losses.append(share)
    kept: list[int] = []
    for k in np.argsort(losses, kind="stable"):  # equal turns come twice where axes of inertia lie close to the frame's
        if all(np.trace(turns[k] @ turns[other].T) < 1 + 2 * np.cos(np.radians(STEP / 2)) for other in kept):
            kept.append(int(k))
    return Symmetries(np.array([turns[k] for k in kept]).reshape(-1, 3, 3), np.array([losses[k] for k in kept]))


def turn_axis(turn: np.ndarray) -> np.ndarray:
    """(3,) the unit axis of a turn (3, 3), either way round."""
    values, vectors = np.linalg.eigh((turn + turn.T) / 2)
    return vectors[:, values.argmax()]


def turned_about(at: Placement, turn: np.ndarray, corners: np.ndarray) -> Placement:
    """The part turned by ``turn`` in its own frame first, moved so that its box (of ``corners``, about the pivot) stays in its place."""
    other = Placement(at.turn @ turn, at.position, at.scale, at.perspective)
    off = (box_of(corners, at) - box_of(corners, other))[:2] * (-at.position[2] if at.perspective else 1.0) / at.scale
    return Placement(other.turn, at.position + np.r_[off, 0.0], at.scale, at.perspective)


def _candidates(mesh: Mesh) -> list[np.ndarray]:
    middles, areas = mesh.triangles.mean(1), mesh.areas
    off = middles - np.average(middles, axis=0, weights=areas)
    _, own = np.linalg.eigh(np.einsum("ni,nj,n->ij", off, off, areas))
    axes: list[np.ndarray] = []
    for axis in (*np.eye(3), *own.T):
        if all(abs(axis @ a) < 0.999 for a in axes):
            axes.append(axis)
    return [matrix(about(axis, np.radians(angle))) for axis in axes for angle in np.arange(STEP, 360, STEP)]
