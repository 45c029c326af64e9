"""The sub-components of an imported mesh: split at creases, in an order that any permutation keeps, and taken out as a whole."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from manifold3d import triangulate

from cad.errors import InputError
from cad.imports import MOST
from cad.mesh import Mesh
from cad.repair import linked, ordered, picked, place

CRUMB = 1e-5  # of the whole area: a smaller patch is a sliver of the one beside it
FLAT = 1e-3  # of the part's diagonal: how far a border may leave its plane


def united(bodies: list[Mesh]) -> Mesh:
    """One solid of closed bodies, largest first: those that face outward are added, voids are cut. One body stays as it is."""
    whole = bodies[0]
    for body in bodies[1:]:
        whole = combined(whole, body if body.volume > 0 else turned(body), cut=body.volume < 0)
    return whole if len(bodies) == 1 else ordered(whole)


def combined(whole: Mesh, body: Mesh, *, cut: bool) -> Mesh:
    """``body`` added to the whole or cut from it; its faces keep their feature."""
    (solid, first), (tool, second) = whole.manifold(), body.manifold()
    return Mesh.of(solid - tool if cut else solid + tool, first | second, whole.names)


def turned(mesh: Mesh) -> Mesh:
    """Inside out."""
    return Mesh(mesh.vertices, mesh.faces[:, ::-1], mesh.feature, mesh.names)


def split(mesh: Mesh, crease: float) -> Mesh:
    """Each feature split where faces meet at more than ``crease`` degrees: smooth patches ``face-1``, ``face-2`` ..., largest first.

    Raises InputError where there are more than 255.
    """
    first, second = _neighbours(mesh)
    flat = np.einsum("ij,ij->i", mesh.face_normals[first], mesh.face_normals[second]) >= np.cos(np.radians(crease))
    flat &= mesh.feature[first] == mesh.feature[second]
    label = _without_crumbs(mesh, linked(first[flat], second[flat], len(mesh.faces)), first, second)
    stems = [mesh.names[mesh.feature[np.argmax(label == i)] - 1] for i in range(label.max() + 1)]
    return numbered(mesh, label, [stem or "face" for stem in stems], f"at a crease of {crease:g} degrees")


def numbered(mesh: Mesh, label: np.ndarray, stems: list[str], how: str) -> Mesh:
    """Features from ``label`` (m,), named by their ``stems`` and a number: by area, then by where they are."""
    count = len(stems)
    if count > MOST:
        raise InputError(
            "crease", f"{how} the mesh has {count} sub-components", wanted=f"at most {MOST}", step="a larger angle splits less"
        )
    area = np.bincount(label, mesh.areas, count)
    middle = np.stack([np.bincount(label, mesh.areas * m, count) for m in mesh.triangles.mean(1).T], 1) / np.maximum(area, 1e-300)[:, None]
    # rounded: sums may differ in their last digit from machine to machine
    keys = np.round(np.column_stack([-area / area.sum(), middle / mesh.diagonal]), 6)
    order = np.lexsort(keys.T[::-1])
    rank = np.empty(count, int)
    rank[order] = np.arange(count)
    seen: dict[str, int] = {}
    names = []
    for stem in (stems[i] for i in order):
        seen[stem] = seen.get(stem, 0) + 1
        names.append(f"{stem}-{seen[stem]}")
    return Mesh(mesh.vertices, mesh.faces, (rank[label] + 1).astype(np.int32), tuple(names))


def _neighbours(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """(k,), (k,): the two faces of each edge of a watertight mesh."""
    edges = mesh.edges.astype(np.int64)
    order = np.argsort(edges.min(1) * len(mesh.vertices) + edges.max(1), kind="stable")
    return tuple(np.tile(np.arange(len(mesh.faces)), 3)[order].reshape(-1, 2).T)


def _without_crumbs(mesh: Mesh, label: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Patches too small to see join, smallest first, the neighbour in the same feature that is largest."""
    area = np.bincount(label, mesh.areas)
    for crumb in np.flatnonzero(area < CRUMB * area.sum())[np.argsort(area[area < CRUMB * area.sum()], kind="stable")]:
        own = label == crumb
        beside = np.concatenate([second[own[first] & ~own[second]], first[own[second] & ~own[first]]])
        beside = beside[mesh.feature[beside] == mesh.feature[np.argmax(own)]]
        if len(beside):
            label = np.where(own, label[beside][np.bincount(label, mesh.areas)[label[beside]].argmax()], label)
    return np.unique(label, return_inverse=True)[1].reshape(-1)


def renamed(mesh: Mesh, names: dict[str, str]) -> Mesh:
    """With other names for some features; those of one name become one feature."""
    new = [names.get(n, n) for n in mesh.names]
    known = tuple(dict.fromkeys(new))
    return Mesh(mesh.vertices, mesh.faces, np.array([known.index(n) + 1 for n in new], np.int32)[mesh.feature - 1], known)


class Apart(NamedTuple):
    """A part without one sub-component: ``base``, its openings closed flat; the sub-component's ``own`` solid; whether that was ``cut``."""

    base: Mesh
    own: Mesh
    cut: bool


def apart(mesh: Mesh, name: str) -> Apart:
    """Takes a hole, pocket or boss out of the surface: its faces go, and flat lids close what they leave.

    Raises InputError where the borders do not lie in planes, or where nothing is left of the part or of the sub-component.
    """
    out = mesh.feature == mesh.names.index(name) + 1
    edges, rows = mesh.edges, np.tile(np.arange(len(mesh.faces)), 3)
    size = len(mesh.vertices)
    inner = set((edges[out[rows]].astype(np.int64) @ [size, 1]).tolist())
    border = [(int(a), int(b)) for a, b in edges[out[rows]] if int(b) * size + int(a) not in inner]
    if out.all():
        raise InputError("on", f"{name} is the whole surface", wanted="a sub-component of several")
    lids = [_lid(mesh, group, name) for group in _planes(mesh, _loops(border, name))]
    faces = np.concatenate([np.zeros((0, 3), np.int32), *(f for f, _ in lids)])
    feature = np.concatenate([np.zeros(0, np.int32), *(np.full(len(f), _beside(mesh, ~out, edges)) for f, edges in lids)])
    base, own = _with_lid(mesh, ~out, faces, feature), _with_lid(mesh, out, faces[:, ::-1], feature)
    if not (base.watertight and own.watertight and base.volume > 0) or abs(own.volume) <= 1e-7 * mesh.volume:
        raise InputError(
            "on", f"{name} cannot be taken out: flat lids over its borders leave no solid", wanted="a hole, pocket, boss or body"
        )
    cut = own.volume < 0
    return Apart(base, turned(own) if cut else own, cut)


def _with_lid(mesh: Mesh, rows: np.ndarray, lid: np.ndarray, feature: np.ndarray) -> Mesh:
    """Some of the mesh's faces and a ``lid`` (k, 3) over its vertices."""
    faces = np.concatenate([mesh.faces[rows], lid]).astype(np.int32)
    return picked(Mesh(mesh.vertices, faces, np.r_[mesh.feature[rows], feature].astype(np.int32), mesh.names), slice(None))


def _loops(border: list[tuple[int, int]], name: str) -> list[list[int]]:
    """Closed chains of directed edges."""
    after: dict[int, int] = dict(border)
    if len(after) != len(border):
        raise InputError("on", f"{name} cannot be taken out: its border touches itself", wanted="a hole, pocket, boss or body")
    loops = []
    while after:
        loop = [next(iter(after))]
        while (following := after.pop(loop[-1])) != loop[0]:
            loop.append(following)
        loops.append(loop)
    return loops


def _planes(mesh: Mesh, loops: list[list[int]]) -> list[list[list[int]]]:
    """Loops by the plane they lie in, the largest first."""
    groups: list[tuple[np.ndarray, float, list[list[int]]]] = []
    for loop in sorted(loops, key=lambda ring: -np.linalg.norm(_vector(mesh, ring))):
        normal = _vector(mesh, loop)
        normal = normal / max(np.linalg.norm(normal), 1e-300)
        level = float(mesh.vertices[loop].mean(0) @ normal)
        for other, height, members in groups:
            if abs(normal @ other) > 1 - 1e-6 and abs(mesh.vertices[loop].mean(0) @ other - height) < FLAT * mesh.diagonal:
                members.append(loop)
                break
        else:
            groups.append((normal, level, [loop]))
    return [members for _, _, members in groups]


def _vector(mesh: Mesh, loop: list[int]) -> np.ndarray:
    """Twice the area, along the normal (Newell)."""
    points = mesh.vertices[loop] - mesh.vertices[loop].mean(0)
    return np.cross(points, np.roll(points, -1, 0)).sum(0)


def _lid(mesh: Mesh, loops: list[list[int]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """(k, 3) the faces of a flat lid over loops in one plane, and (n, 2) the border's edges as the faces beyond it have them."""
    z = _vector(mesh, loops[0]) / max(np.linalg.norm(_vector(mesh, loops[0])), 1e-300)
    corners = np.concatenate(loops)
    points = mesh.vertices[corners] - mesh.vertices[loops[0]].mean(0)
    if np.abs(points @ z).max() > FLAT * mesh.diagonal:
        where = place(mesh.vertices[loops[0]].mean(0))
        raise InputError(
            "on", f"{name} cannot be taken out: its border about {where} does not lie in a plane", wanted="a hole, pocket, boss or body"
        )
    x = np.cross([0.0, 1.0, 0.0] if abs(z[1]) < 0.9 else [0.0, 0.0, 1.0], z)
    x /= np.linalg.norm(x)
    flat = points @ np.column_stack([x, np.cross(z, x)])
    faces = triangulate(np.split(flat, np.cumsum([len(loop) for loop in loops])[:-1]))
    edges = np.concatenate([np.column_stack([np.roll(loop, -1), loop]) for loop in loops])
    return corners[np.asarray(faces, int)].reshape(-1, 3), edges


def _beside(mesh: Mesh, kept: np.ndarray, edges: np.ndarray) -> int:
    """The feature with most of the border's ``edges`` (n, 2)."""
    size = len(mesh.vertices)
    key = np.isin(mesh.edges.astype(np.int64) @ [size, 1], edges.astype(np.int64) @ [size, 1])
    rows = np.tile(np.arange(len(mesh.faces)), 3)[key]
    return int(np.bincount(mesh.feature[rows[kept[rows]]]).argmax())
