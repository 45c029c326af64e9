"""From triangles as they come to closed bodies: small faults are mended and told, others refused with the place."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cad.errors import InputError
from cad.mesh import Mesh

WELD = 1e-5  # of the part's diagonal: corners nearer than this are meant to be one
BODIES = 1000  # more are a cloud of triangles that nothing joins
BRANCHING = "edges that more than two faces share"
EDGES = 4  # a hole of at most so many edges is a lost triangle or two


@dataclass
class Repairs:
    """What was done to a mesh: counts, told once in words."""

    counts: dict[str, int] = field(default_factory=dict)

    def add(self, what: str, count: int) -> None:
        if count:
            self.counts[what] = self.counts.get(what, 0) + int(count)

    def lines(self) -> tuple[str, ...]:
        return tuple(f"{what}: {count}" for what, count in self.counts.items())


def closed_bodies(surface: Mesh) -> tuple[list[Mesh], Repairs]:
    """The closed, outward bodies of a surface (voids face inward), largest first, and what had to be mended.

    Raises InputError naming the first place where the surface is open, branches, or has no volume.
    """
    repairs, bodies = Repairs(), []
    for shell in _shells(surface):
        shell = _clean(shell, repairs)
        bodies += [_closed(piece, shell, repairs) for piece in _components(shell)]
    bodies.sort(key=lambda m: (-round(m.diagonal, 6), *np.round(m.bounds.ravel(), 6)))
    return [_outward(body, bodies[:i], repairs) for i, body in enumerate(bodies)], repairs


def _shells(surface: Mesh) -> list[Mesh]:
    """Features that are closed by themselves (an assembly's bodies, which may touch), and all the others as one."""
    if len(surface.names) == 1:
        return [exact(surface)]
    own = [exact(picked(surface, surface.feature == i)) for i in range(1, len(surface.names) + 1)]
    apart = [m.watertight for m in own]
    rest = np.isin(surface.feature, [i for i, closed in enumerate(apart, 1) if not closed])
    shells = [m for m, closed in zip(own, apart, strict=True) if closed]
    return shells + ([exact(picked(surface, rest))] if rest.any() else [])


def exact(mesh: Mesh) -> Mesh:
    """Corners at one place are one vertex; the order of vertices and faces no longer depends on the file's."""
    vertices = mesh.vertices + 0.0  # no negative zeros
    firsts, number, _ = _alike(vertices)
    return ordered(Mesh(vertices[firsts], number[mesh.faces].astype(np.int32), mesh.feature, mesh.names))


def _alike(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first of each kind of equal rows (n, k), each row's kind, and how many each kind has: np.unique by columns, ten times as fast."""
    order = np.lexsort(rows.T[::-1])
    new = np.r_[True, (rows[order][1:] != rows[order][:-1]).any(1)]
    number = np.empty(len(rows), int)
    number[order] = np.cumsum(new) - 1
    return order[new], number, np.bincount(number)


def ordered(mesh: Mesh) -> Mesh:
    """The same surface, vertices by x, y, z and faces by their corners: one order for any permutation."""
    order = np.lexsort(mesh.vertices.T[::-1])
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order))
    faces = rank[mesh.faces]
    faces = np.take_along_axis(faces, (faces.argmin(1)[:, None] + np.arange(3)) % 3, 1)
    rows = np.lexsort((mesh.feature, *faces.T[::-1]))
    return Mesh(mesh.vertices[order], faces[rows].astype(np.int32), mesh.feature[rows], mesh.names)


def picked(mesh: Mesh, rows: np.ndarray | slice) -> Mesh:
    """Some of the faces, and only the vertices that they use."""
    used, faces = np.unique(mesh.faces[rows], return_inverse=True)
    return Mesh(mesh.vertices[used], faces.reshape(-1, 3).astype(np.int32), mesh.feature[rows], mesh.names)


def _clean(mesh: Mesh, repairs: Repairs) -> Mesh:
    """Without faces that are lines or doubles; corners that are almost one are joined where it is not closed."""
    mesh = _simple(mesh, repairs)
    if mesh.watertight or not len(mesh.faces):
        return mesh
    from scipy.spatial import cKDTree

    near = cKDTree(mesh.vertices).query_pairs(WELD * mesh.diagonal, output_type="ndarray")
    if not len(near):
        return mesh
    label = linked(near[:, 0], near[:, 1], len(mesh.vertices))
    count = label.max() + 1
    first = np.full(count, len(label))
    np.minimum.at(first, label, np.arange(len(label)))
    repairs.add(f"corners within {WELD * mesh.diagonal:.2g} mm joined", len(label) - count)
    return _simple(picked(Mesh(mesh.vertices, first[label][mesh.faces].astype(np.int32), mesh.feature, mesh.names), slice(None)), repairs)


def _simple(mesh: Mesh, repairs: Repairs) -> Mesh:
    corners = np.sort(mesh.faces, 1)
    line = (corners[:, :-1] == corners[:, 1:]).any(1)
    double = ~line
    double[_alike(corners)[0]] = False
    repairs.add("faces without area left out", line.sum())
    repairs.add("doubled faces left out", double.sum())
    return picked(mesh, ~line & ~double) if (line | double).any() else mesh


def _components(mesh: Mesh) -> list[Mesh]:
    """What hangs together over edges that two faces share; bodies that only touch along an edge are two."""
    _, key, count = _alike(np.sort(mesh.edges, 1))
    face = np.tile(np.arange(len(mesh.faces)), 3)
    order = np.argsort(key, kind="stable")
    pair = order[np.repeat(count == 2, count)].reshape(-1, 2)
    label = linked(face[pair[:, 0]], face[pair[:, 1]], len(mesh.faces))
    if label.max() >= BODIES:
        if (count < 2).any():
            raise _refusal(mesh, mesh)
        raise InputError("mesh", f"found {label.max() + 1} separate bodies", wanted=f"at most {BODIES}")
    return [ordered(picked(mesh, label == i)) for i in range(label.max() + 1)]


def linked(first: np.ndarray, second: np.ndarray, count: int) -> np.ndarray:
    """(count,) int: which things hang together over the pairs (first, second), numbered by their first members."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    return connected_components(coo_matrix((np.ones(len(first)), (first, second)), shape=(count, count)), directed=False)[1]


def _closed(mesh: Mesh, shell: Mesh, repairs: Repairs) -> Mesh:
    """One component of ``shell``, its faces all the same way round and its small holes filled."""
    if mesh.watertight:
        return mesh
    import trimesh

    turned = _against(mesh)
    repairs.add("faces turned round", turned.sum())
    mended = trimesh.Trimesh(mesh.vertices, np.where(turned[:, None], mesh.faces[:, ::-1], mesh.faces), process=False)
    trimesh.repair.fill_holes(mended)  # of three or four edges: trimesh's own bound as well as ours
    new = len(mended.faces) - len(mesh.faces)
    repairs.add("faces put into small holes", new)
    feature = np.concatenate([mesh.feature, _beside(mesh, np.asarray(mended.faces[len(mesh.faces) :]))])
    closed = ordered(Mesh(mesh.vertices, np.asarray(mended.faces, np.int32), feature.astype(np.int32), mesh.names))
    if not closed.watertight:
        raise _refusal(closed, shell)
    return closed


def _against(mesh: Mesh) -> np.ndarray:
    """(m,) bool: the faces of a component that look the other way than most, told from neighbour to neighbour."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import breadth_first_order

    if len(mesh.faces) == 1:
        return np.zeros(1, bool)
    edges, face = mesh.edges, np.tile(np.arange(len(mesh.faces)), 3)
    _, key, count = _alike(np.sort(edges, 1))
    one, other = np.argsort(key, kind="stable")[np.repeat(count == 2, count)].reshape(-1, 2).T
    # an edge that both faces run along the same way counts a thousand: two faces may share two edges, and the matrix adds them up
    weight = np.where(edges[one, 0] == edges[other, 0], 1000, 1)
    link = coo_matrix((weight, (face[one], face[other])), shape=(len(mesh.faces),) * 2).tocsr()
    link = link + link.T
    order, before = breadth_first_order(link, 0, directed=False)
    differs = np.asarray(link[order[1:], before[order[1:]]]).ravel() >= 1000
    against = np.zeros(len(mesh.faces), bool)
    for face_number, previous, other_way in zip(order[1:].tolist(), before[order[1:]].tolist(), differs.tolist(), strict=True):
        against[face_number] = against[previous] != other_way
    return ~against if against.sum() > len(against) / 2 else against


def _beside(mesh: Mesh, faces: np.ndarray) -> np.ndarray:
    """The feature of a face that shares most corners with each of the new ``faces``."""
    return np.array([mesh.feature[np.isin(mesh.faces, f).sum(1).argmax()] for f in faces], np.int32).reshape(-1)


def _refusal(mesh: Mesh, shell: Mesh) -> InputError:
    """What is wrong with a component that stays open: where its shell branches, that is why."""
    where = shell if len(_bad_edges(shell)[BRANCHING]) else mesh
    what, rows = next((what, rows) for what, rows in _bad_edges(where).items() if len(rows))
    middle = where.vertices[where.edges[rows[0]]].mean(0)
    return InputError(
        "mesh",
        f"its surface is not closed and cannot be mended: {len(rows)} {what}, the first about {place(middle)}",
        wanted="a closed surface",
        step=f"mend it where it was made; holes of up to {EDGES} edges, gaps below {WELD:g} of its size and turned faces are mended here",
    )


def _bad_edges(mesh: Mesh) -> dict[str, np.ndarray]:
    """What keeps a surface from being closed, worst first: rows of ``mesh.edges``, one for each bad edge."""
    firsts, key, count = _alike(np.sort(mesh.edges, 1))
    balance = np.bincount(key, np.where(mesh.edges[:, 0] < mesh.edges[:, 1], 1, -1))
    return {
        BRANCHING: firsts[(count > 2) & (count % 2 == 1)],
        "open edges": firsts[count == 1],
        "edges along which it touches itself": firsts[(count > 2) & (count % 2 == 0)],
        "edges that both faces run along the same way": firsts[(count == 2) & (balance != 0)],
    }


def place(point: np.ndarray) -> str:
    """``(1.5, 2, -3) mm``."""
    return f"({', '.join(f'{v:.4g}' for v in point + 0.0)}) mm"


def _outward(body: Mesh, larger: list[Mesh], repairs: Repairs) -> Mesh:
    """Turned round where it faces inward and is no void inside a larger body."""
    if abs(body.volume) <= 1e-9 * body.diagonal**3:
        raise InputError(
            "mesh",
            f"a surface without volume, about {place(body.bounds.mean(0))}",
            wanted="a solid: a sheet has no inside",
            step="give it a thickness",
        )
    if body.volume > 0 or any(_inside(body.vertices[0], other) for other in larger):
        return body
    repairs.add("bodies turned inside out", 1)
    return ordered(Mesh(body.vertices, body.faces[:, ::-1], body.feature, body.names))


def _inside(point: np.ndarray, mesh: Mesh) -> bool:
    """By the solid angle that the surface fills, seen from the point (van Oosterom and Strackee 1983)."""
    a, b, c = np.moveaxis(mesh.triangles - point, 1, 0)
    x, y, z = (np.linalg.norm(v, axis=1) for v in (a, b, c))
    dot = lambda u, v: np.einsum("ij,ij->i", u, v)  # noqa: E731
    angle = 2 * np.arctan2(dot(a, np.cross(b, c)), x * y * z + dot(a, b) * z + dot(b, c) * x + dot(c, a) * y)
    return bool(abs(angle.sum()) > 2 * np.pi)
