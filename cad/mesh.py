"""A watertight triangle mesh whose faces know the feature that made them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import manifold3d
import numpy as np


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles in mm, counter-clockwise seen from outside.

    ``vertices`` (n, 3) float64; ``faces`` (m, 3) int32; ``feature`` (m,) int32, 1 + index into ``names`` (0 is left for
    the background of rendered id buffers); ``names`` the sub-components in the part file's order.
    """

    vertices: np.ndarray
    faces: np.ndarray
    feature: np.ndarray
    names: tuple[str, ...]

    @cached_property
    def triangles(self) -> np.ndarray:
        """(m, 3, 3) float64: corner positions."""
        return self.vertices[self.faces]

    @cached_property
    def face_vectors(self) -> np.ndarray:
        """(m, 3) float64: outward, twice the area long."""
        a, b, c = np.moveaxis(self.triangles, 1, 0)
        return np.cross(b - a, c - a)

    @cached_property
    def face_normals(self) -> np.ndarray:
        """(m, 3) float64, unit length (zero for a sliver without area)."""
        length = np.linalg.norm(self.face_vectors, axis=1, keepdims=True)
        return self.face_vectors / np.maximum(length, 1e-300)

    @property
    def areas(self) -> np.ndarray:
        """(m,) float64, mm2."""
        return 0.5 * np.linalg.norm(self.face_vectors, axis=1)

    @property
    def volume(self) -> float:
        """mm3, by the divergence theorem."""
        return float(np.einsum("ij,ij->", self.triangles[:, 0], self.face_vectors) / 6.0)

    @cached_property
    def bounds(self) -> np.ndarray:
        """(2, 3) float64: lowest and highest corner, mm."""
        return np.stack([self.vertices.min(0), self.vertices.max(0)])

    @property
    def diagonal(self) -> float:
        """mm, of the bounding box."""
        return float(np.linalg.norm(np.ptp(self.bounds, axis=0)))

    @property
    def watertight(self) -> bool:
        """Every directed edge occurs once and its reverse once."""
        edges = self.edges
        keys = edges[:, 0].astype(np.int64) * len(self.vertices) + edges[:, 1]
        back = edges[:, 1].astype(np.int64) * len(self.vertices) + edges[:, 0]
        return len(np.unique(keys)) == len(keys) and np.array_equal(np.sort(keys), np.sort(back))

    def sharp_edges(self, crease: float = 30.0) -> np.ndarray:
        """(k, 2) int: the vertices of the outer edges where two faces meet at more than ``crease`` degrees; inner corners are none."""
        edges = self.edges
        face, apex = np.tile(np.arange(len(self.faces)), 3), np.concatenate([self.faces[:, 2], self.faces[:, 0], self.faces[:, 1]])
        order = np.argsort(edges.min(1).astype(np.int64) * len(self.vertices) + edges.max(1), kind="stable")
        first, second = face[order].reshape(-1, 2).T  # watertight: each edge has two faces
        ends, beyond = edges[order][::2], apex[order][1::2]
        bent = np.einsum("ij,ij->i", self.face_normals[first], self.face_normals[second]) < np.cos(np.radians(crease))
        below = np.einsum("ij,ij->i", self.vertices[beyond] - self.vertices[ends[:, 0]], self.face_normals[first]) < 0
        return ends[bent & below]

    def moved(self, vertices: np.ndarray) -> Mesh:
        """The same faces over other ``vertices`` (n, 3) mm."""
        return Mesh(np.asarray(vertices, float), self.faces, self.feature, self.names)

    def refined(self, near: np.ndarray, length: float) -> Mesh:
        """Edges longer than ``length`` mm of the faces marked by ``near(mesh) -> (m,) bool`` are halved until none is left.

        Stays watertight: an edge is halved for both its faces (red-green refinement).
        """
        touched = np.zeros(len(self.vertices), bool)
        touched[self.faces[near(self)]] = True
        ring = touched[self.faces].any(1)  # a halved edge belongs to a marked face and to one beside it: the rest stays as it is
        part = Mesh(self.vertices, self.faces[ring], self.feature[ring], self.names)
        for _ in range(24):
            part, changed = part._halved(near(part), length)
            if not changed:
                break
        return Mesh(
            part.vertices, np.concatenate([self.faces[~ring], part.faces]), np.concatenate([self.feature[~ring], part.feature]), self.names
        )

    @property
    def edges(self) -> np.ndarray:
        """(3 m, 2) int32: each face's directed edges, all first ones, all second, all third."""
        return np.concatenate([self.faces[:, [0, 1]], self.faces[:, [1, 2]], self.faces[:, [2, 0]]])

    def _halved(self, marked: np.ndarray, length: float) -> tuple[Mesh, bool]:
        pairs = self.faces[:, [[0, 1], [1, 2], [2, 0]]]  # (m, 3, 2): edges of corners 01, 12, 20
        keys = np.minimum(pairs[..., 0], pairs[..., 1]).astype(np.int64) * len(self.vertices) + np.maximum(pairs[..., 0], pairs[..., 1])
        ends = self.vertices[pairs[marked]]
        split = np.unique(keys[marked][np.linalg.norm(ends[:, :, 1] - ends[:, :, 0], axis=2) > length])
        if not len(split):
            return self, False
        slot = np.minimum(np.searchsorted(split, keys), len(split) - 1)
        m = np.where(split[slot] == keys, len(self.vertices) + slot, -1)
        middles = (self.vertices[split // len(self.vertices)] + self.vertices[split % len(self.vertices)]) / 2
        vertices = np.concatenate([self.vertices, middles])
        count = (m >= 0).sum(1)
        faces, feature = [self.faces[count == 0]], [self.feature[count == 0]]
        for number in (1, 2, 3):
            rows = np.flatnonzero(count == number)
            # turn each face so that its halved edges come first (1: edge 0; 2: edges 0 and 1)
            pattern = m[rows] >= 0
            turn = np.argmax(pattern, 1) if number == 1 else (np.argmin(pattern, 1) + 1) % 3 if number == 2 else np.zeros(len(rows), int)
            columns = (np.arange(3) + turn[:, None]) % 3
            a, b, c = np.take_along_axis(self.faces[rows], columns, 1).T
            ab, bc, ca = np.take_along_axis(m[rows], columns, 1).T
            pieces = {
                1: [(a, ab, c), (ab, b, c)],
                2: [(ab, b, bc), (a, ab, bc), (a, bc, c)],
                3: [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)],
            }
            for piece in pieces[number]:
                faces.append(np.stack(piece, 1))
                feature.append(self.feature[rows])
        return Mesh(vertices, np.concatenate(faces).astype(np.int32), np.concatenate(feature), self.names), True

    def manifold(self) -> tuple[manifold3d.Manifold, dict[int, int]]:
        """The solid for Boolean operations, and which of its original ids stands for which feature id."""
        order = np.argsort(self.feature, kind="stable")
        ids, starts = np.unique(self.feature[order], return_index=True)
        first = manifold3d.Manifold.reserve_ids(len(ids))
        solid = manifold3d.Manifold(
            manifold3d.Mesh64(
                self.vertices,
                self.faces[order].astype(np.uint64),
                run_index=np.r_[starts, len(order)].astype(np.uint64) * 3,
                run_original_id=(first + np.arange(len(ids))).astype(np.uint32),
            )
        )
        return solid, {first + i: int(feature) for i, feature in enumerate(ids)}

    @staticmethod
    def of(solid: manifold3d.Manifold, feature_of: dict[int, int], names: tuple[str, ...]) -> Mesh:
        """From a Manifold; ``feature_of`` maps its original ids to feature ids."""
        data = solid.to_mesh64()
        faces = np.asarray(data.tri_verts, np.int32).reshape(-1, 3)
        runs = np.diff(np.asarray(data.run_index, np.int64)) // 3
        feature = np.repeat([feature_of[int(i)] for i in data.run_original_id], runs).astype(np.int32)
        return Mesh(np.array(data.vert_properties[:, :3], float), faces, feature, names)
