"""What may go wrong with a part's shape: one function each, ``(part, dimensions, spec, rng, severity) -> (mesh, record)``.

A severity is the first range of the spec: mm for bulge, dent, dimension, extra, chip, burr, crack, short_shot and shift; degrees for bend
and twist; a fraction for missing (of the full turn) and scale (the factor). For bulge, dent, burr, crack, short_shot and shift, and for the
height of an extra, it is also the largest distance from the good surface (:func:`cad.deviation.deviation`), where the wall is thick enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from manifold3d import CrossSection, Manifold, OpType

from cad.errors import InputError, nearest
from cad.mesh import Mesh
from cad.solids import segments
from cad.traces import fin, heights
from cad.views import Direction, Range, Strict

if TYPE_CHECKING:
    from cad.part import Part


@dataclass(frozen=True)
class DefectRecord:
    """What was done: the defect's ``name`` in the part file, its ``kind``, the sub-components a verdict may rightly name
    (empty: the whole part), ``severity`` in ``unit``, ``where`` on the part in mm (None: everywhere), further numbers."""

    kind: str
    features: tuple[str, ...]
    severity: float
    unit: str = "mm"
    where: tuple[float, float, float] | None = None
    details: dict[str, float] = field(default_factory=dict)
    name: str = ""

    def named(self, name: str) -> DefectRecord:
        return replace(self, name=name)

    def json(self) -> dict[str, Any]:
        return asdict(self)


class Defect(Strict):
    """What all specs share. ``on`` is the sub-component that the defect sits on (none: anywhere)."""

    kind: str
    on: str | None = None

    @property
    def range(self) -> tuple[float, float]:
        """The severities that the file allows."""
        return getattr(self, DEFECTS[self.kind].severity)

    def refer(self, features: tuple[str, ...], dimensions: Mapping[str, Any], key: str) -> None:
        """Raises InputError where the spec points at a feature or dimension that is not there."""
        for name, value, known in (("on", self.on, features), ("dimension", getattr(self, "dimension", None), dimensions)):
            if value is not None and value not in known:
                raise InputError(f"{key}.{name}", f'found the unknown name "{value}"', step=nearest(value, known))
        if getattr(self, "on", None) is None and self.kind in ("missing", "shift"):
            raise InputError(f"{key}.on", f"missing; a {self.kind} needs the feature that it concerns")


class Bump(Defect):
    kind: Literal["bulge", "dent"]
    height: Range
    diameter: Range


class Dimension(Defect):
    kind: Literal["dimension"]
    dimension: str
    by: Range


class Missing(Defect):
    kind: Literal["missing"]
    fraction: Range = (1.0, 1.0)


class Extra(Defect):
    kind: Literal["extra"]
    diameter: Range
    height: Range = (1.0, 1.0)
    shape: Literal["boss", "hole"] = "boss"


class Chip(Defect):
    kind: Literal["chip"]
    size: Range


class Burr(Defect):
    kind: Literal["burr"]
    height: Range
    length: Range


class Crack(Defect):
    kind: Literal["crack"]
    depth: Range
    length: Range
    width: Range = (0.1, 0.3)


class ShortShot(Defect):
    kind: Literal["short_shot"]
    depth: Range
    direction: Direction | None = None


class Bend(Defect):
    kind: Literal["bend"]
    angle: Range
    axis: Direction = (0.0, 0.0, 1.0)


class Twist(Defect):
    kind: Literal["twist"]
    angle: Range
    axis: Direction = (0.0, 0.0, 1.0)


class Scale(Defect):
    kind: Literal["scale"]
    by: Range
    axis: Direction | None = None


class Shift(Defect):
    kind: Literal["shift"]
    by: Range
    direction: Direction | None = None


Made = tuple[Mesh, DefectRecord]


def bulge(part: Part, dimensions: Mapping[str, float], spec: Bump, rng: np.random.Generator, severity: float | None) -> Made:
    """A smooth bump (raised cosine) of ``severity`` mm over a disc of the drawn diameter, outward along the surface's normal."""
    return _bump(part, dimensions, spec, rng, severity, +1.0)


def dent(part: Part, dimensions: Mapping[str, float], spec: Bump, rng: np.random.Generator, severity: float | None) -> Made:
    """As a bulge, inward."""
    return _bump(part, dimensions, spec, rng, severity, -1.0)


def dimension(part: Part, dimensions: Mapping[str, float], spec: Dimension, rng: np.random.Generator, severity: float | None) -> Made:
    """The part with one dimension ``severity`` mm off its drawn value."""
    amount = _draw(rng, spec.by, severity)
    changed = {**dimensions, spec.dimension: dimensions[spec.dimension] + amount}
    return part.mesh(changed), DefectRecord(
        "dimension", part.features_of(spec.dimension), amount, details={"value": changed[spec.dimension]}
    )


def missing(part: Part, dimensions: Mapping[str, float], spec: Missing, rng: np.random.Generator, severity: float | None) -> Made:
    """The feature left out (fraction 1), or a sector of that fraction of the full turn broken out of it, about its own upright axis."""
    fraction = _draw(rng, spec.fraction, severity)
    if fraction >= 1.0:
        return part.mesh(dimensions, without=spec.on), DefectRecord("missing", (spec.on,), 1.0, "fraction")
    mesh = part.mesh(dimensions)
    own = mesh.vertices[np.unique(mesh.faces[_on(mesh, spec.on)])]
    low, high = own.min(0), own.max(0)
    middle, reach = (low + high) / 2, mesh.diagonal
    start = rng.uniform(0, 2 * np.pi)
    angles = start + 2 * np.pi * fraction * np.linspace(0, 1, 25)
    sector = CrossSection([np.concatenate([[[0.0, 0.0]], reach * np.column_stack([np.cos(angles), np.sin(angles)])])])
    # through all of the part: faces that a later feature made (a chamfer's top) are not the feature's own, but the solid below them is
    bottom, top = mesh.bounds[:, 2]
    tool = Manifold.extrude(sector, top - bottom + 2e-3).translate([middle[0], middle[1], bottom - 1e-3])
    angle = float(start + np.pi * fraction)
    where = middle + np.array([np.cos(angle), np.sin(angle), 0]) * (high - low)[:2].max() / 2
    return part.mesh(dimensions, trim=(spec.on, tool)), DefectRecord("missing", (spec.on,), fraction, "fraction", _point(where))


def extra(part: Part, dimensions: Mapping[str, float], spec: Extra, rng: np.random.Generator, severity: float | None) -> Made:
    """A round boss or hole of ``severity`` mm diameter that the drawing does not have, along the surface's normal."""
    diameter, height = _draw(rng, spec.diameter, severity), _draw(rng, spec.height)
    mesh = part.mesh(dimensions)
    face, where, normal = _spot(mesh, spec.on, rng)
    root = 0.3 * diameter  # sunk so far that it joins a curved surface all round
    solid = Manifold.cylinder(height + root, diameter / 2, diameter / 2, 48).translate([0, 0, -root if spec.shape == "boss" else -height])
    name = mesh.names[mesh.feature[face] - 1]
    made = _combined(mesh, _stood(solid, where, normal), name, cut=spec.shape == "hole")
    return made, DefectRecord("extra", (name,), diameter, where=_point(where), details={"height": height})


def chip(part: Part, dimensions: Mapping[str, float], spec: Chip, rng: np.random.Generator, severity: float | None) -> Made:
    """A bite of about ``severity`` mm across out of an outer edge: an ellipsoid about a point of the edge, drawn by length, is cut away."""
    size = _draw(rng, spec.size, severity)
    mesh = part.mesh(dimensions)
    _, _, where, name = _edge_spot(mesh, spec, rng)
    radii = size / 2 * rng.uniform(0.7, 1.0, 3)
    radii[rng.integers(3)] = size / 2
    tool = Manifold.sphere(1.0, 32).scale(list(radii)).rotate(list(rng.uniform(0, 360, 3))).translate(list(where))
    return _combined(mesh, tool, name, cut=True), DefectRecord("chip", (name,), size, where=_point(where))


def burr(part: Part, dimensions: Mapping[str, float], spec: Burr, rng: np.random.Generator, severity: float | None) -> Made:
    """A thin fin of ``severity`` mm, flash, standing out of an outer edge along the drawn length; its ends run out into the edge."""
    height, length = _draw(rng, spec.height, severity), _draw(rng, spec.length)
    mesh = part.mesh(dimensions)
    edges, k, where, name = _edge_spot(mesh, spec, rng)
    tool = _swept(fin(mesh, edges, k, where, height, length))
    return _combined(mesh, tool, name, cut=False), DefectRecord("burr", (name,), height, where=_point(where), details={"length": length})


def crack(part: Part, dimensions: Mapping[str, float], spec: Crack, rng: np.random.Generator, severity: float | None) -> Made:
    """A thin jagged cut, ``severity`` mm deep in its middle and running out towards its ends, wedge-shaped across; it ends where the surface
    does, and is shorter where there is no room."""
    depth, length, width = _draw(rng, spec.depth, severity), _draw(rng, spec.length), _draw(rng, spec.width)
    mesh = part.mesh(dimensions)
    face, where, normal = _spot(mesh, spec.on, rng)
    turn, place = rng.uniform(0, 2 * np.pi), np.linspace(-1, 1, 9)
    along, across = (_frame(normal) @ [np.cos(t), np.sin(t), 0.0] for t in (turn, turn + np.pi / 2))
    jag = rng.uniform(-0.07, 0.07, 9) * (abs(place) > 0.1)
    line = length * (np.outer(place / 2, along) + np.outer(jag, across))
    room, level = next(_with_room(mesh, where, line, _frame(normal)))
    path, deep = where + room * line + np.outer(level, normal), np.outer(depth * (1 - 0.7 * place**2), normal)
    top, side = 0.5 * depth * normal, 0.75 * width * across  # half a depth above the surface it is half as wide again
    sections = np.stack([path + top + side, path + top - side, path - deep], 1)
    off = np.flatnonzero(np.isnan(level))
    sections = sections[max(off[off < 4], default=-1) + 1 : min(off[off > 4], default=9)]
    name = mesh.names[mesh.feature[face] - 1]
    made = _combined(mesh, _swept(sections), name, cut=True)
    return made, DefectRecord("crack", (name,), depth, where=_point(where), details={"length": room * length, "width": width})


def short_shot(part: Part, dimensions: Mapping[str, float], spec: ShortShot, rng: np.random.Generator, severity: float | None) -> Made:
    """A mould not filled to its end: what lies furthest along ``direction`` (any, where none is given) is missing to a depth of ``severity`` mm,
    behind the round front of the melt. With ``on``, that feature alone."""
    depth, drawn = _draw(rng, spec.depth, severity), rng.normal(size=3)
    direction = np.asarray(drawn if spec.direction is None else spec.direction, float)
    direction /= np.linalg.norm(direction)
    operations = {f.operation for f in part.features if f.name == spec.on}
    if operations and "add" not in operations:
        raise InputError("defects", f"feature {spec.on} is a hole or a trim: no melt fills it", wanted="a feature that is added")
    mesh = part.mesh(dimensions)
    gate = mesh.bounds.mean(0) - 5 * mesh.diagonal * direction  # the front is a sphere about it, all but flat
    rows = np.flatnonzero(_on(mesh, spec.on))
    own = mesh.triangles[rows] - gate
    reach = np.linalg.norm(own, axis=2)
    last = int(np.argmax(reach))
    where, name = own.reshape(-1, 3)[last] + gate, mesh.names[mesh.feature[rows[last // 3]] - 1]
    beyond = own[(reach >= reach.max() - depth).any(1)].reshape(-1, 3)
    tool = _beyond(beyond, direction, reach.max() - depth, 0.01 * depth).translate(list(gate))
    made = _combined(mesh, tool, name, cut=True) if spec.on is None else part.mesh(dimensions, trim=(spec.on, tool))
    if abs(made.volume - mesh.volume) <= 1e-9 * mesh.volume:
        raise InputError(
            "defects", f"nothing of feature {name} is missing: it is no solid of its own there", wanted="a feature that is added"
        )
    return made, DefectRecord("short_shot", (name,), depth, where=_point(where))


def bend(part: Part, dimensions: Mapping[str, float], spec: Bend, rng: np.random.Generator, severity: float | None) -> Made:
    """The part bent along ``axis`` to a circular arc of ``severity`` degrees over its length, about its middle."""
    angle = _draw(rng, spec.angle, severity)
    mesh, frame, local, length = _framed(part, dimensions, spec.axis)
    if abs(angle) < 1e-9:
        return mesh, DefectRecord("bend", (), angle, "degrees")
    radius = length / np.radians(angle)
    x, y, z = local.T
    if abs(radius) <= np.abs(x).max():
        raise InputError(
            "defects",
            f"a bend of {angle:g} degrees has a radius of {abs(radius):.3g} mm",
            wanted=f"more than the part's half width, {np.abs(x).max():.3g} mm",
        )
    turn = z / radius
    bent = np.stack([radius - (radius - x) * np.cos(turn), y, (radius - x) * np.sin(turn)], 1)
    return mesh.moved(_unframed(mesh, bent, frame)), DefectRecord("bend", (), angle, "degrees")


def twist(part: Part, dimensions: Mapping[str, float], spec: Twist, rng: np.random.Generator, severity: float | None) -> Made:
    """The part twisted about ``axis`` by ``severity`` degrees from end to end."""
    angle = _draw(rng, spec.angle, severity)
    mesh, frame, local, length = _framed(part, dimensions, spec.axis)
    x, y, z = local.T
    turn = np.radians(angle) * z / length
    twisted = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn), z], 1)
    return mesh.moved(_unframed(mesh, twisted, frame)), DefectRecord("twist", (), angle, "degrees")


def scale(part: Part, dimensions: Mapping[str, float], spec: Scale, rng: np.random.Generator, severity: float | None) -> Made:
    """The part stretched (or squashed) by the factor ``severity`` along ``axis``, or in all directions."""
    factor = _draw(rng, spec.by, severity)
    if not factor > 0:
        raise InputError("defects", f"found a scale of {factor:g}", wanted="a factor above 0")
    mesh = part.mesh(dimensions)
    middle = mesh.bounds.mean(0)
    if spec.axis is None:
        return mesh.moved(middle + factor * (mesh.vertices - middle)), DefectRecord("scale", (), factor, "fraction")
    axis = np.asarray(spec.axis) / np.linalg.norm(spec.axis)
    along = (mesh.vertices - middle) @ axis
    return mesh.moved(mesh.vertices + (factor - 1) * along[:, None] * axis), DefectRecord("scale", (), factor, "fraction")


def shift(part: Part, dimensions: Mapping[str, float], spec: Shift, rng: np.random.Generator, severity: float | None) -> Made:
    """One feature ``severity`` mm away from its place, along ``direction`` or a random direction across z."""
    amount, angle = _draw(rng, spec.by, severity), rng.uniform(0, 2 * np.pi)
    direction = (
        np.array([np.cos(angle), np.sin(angle), 0.0])
        if spec.direction is None
        else np.asarray(spec.direction) / np.linalg.norm(spec.direction)
    )
    made = part.mesh(dimensions, shift=(spec.on, amount * direction))
    return made, DefectRecord("shift", (spec.on,), amount, details=dict(zip("xyz", map(float, amount * direction), strict=True)))


class DefectKind(NamedTuple):
    """A kind of defect: the model of its spec, which field is its severity, the function that makes it."""

    model: type[Defect]
    severity: str
    make: Callable[..., Made]


DEFECTS: dict[str, DefectKind] = {
    "bulge": DefectKind(Bump, "height", bulge),
    "dent": DefectKind(Bump, "height", dent),
    "dimension": DefectKind(Dimension, "by", dimension),
    "missing": DefectKind(Missing, "fraction", missing),
    "extra": DefectKind(Extra, "diameter", extra),
    "chip": DefectKind(Chip, "size", chip),
    "burr": DefectKind(Burr, "height", burr),
    "crack": DefectKind(Crack, "depth", crack),
    "short_shot": DefectKind(ShortShot, "depth", short_shot),
    "bend": DefectKind(Bend, "angle", bend),
    "twist": DefectKind(Twist, "angle", twist),
    "scale": DefectKind(Scale, "by", scale),
    "shift": DefectKind(Shift, "by", shift),
}
LENGTHS = {
    "bulge": ("height", "diameter"),
    "dent": ("height", "diameter"),
    "extra": ("diameter", "height"),
    "chip": ("size",),
    "burr": ("height", "length"),
    "crack": ("depth", "length", "width"),
    "short_shot": ("depth",),
    "missing": ("fraction",),
    "scale": ("by",),
}


def spec_of(entry: Any, key: str) -> Defect:
    """The validated spec from a mapping such as ``{kind: bulge, on: crown, height: [0.5, 3.0], diameter: [4, 10]}``."""
    if not isinstance(entry, dict) or "kind" not in entry:
        raise InputError(key, f"found {entry!r}", wanted="a mapping with a kind")
    if not isinstance(entry["kind"], str) or entry["kind"] not in DEFECTS:
        raise InputError(f"{key}.kind", f'found the unknown kind "{entry["kind"]}"', step=nearest(entry["kind"], DEFECTS))
    from cad.reading import checked

    model = DEFECTS[entry["kind"]].model
    spec = checked(lambda e, _: model.model_validate(e), entry, key, model)
    for name in LENGTHS.get(spec.kind, ()):
        for value in getattr(spec, name):
            check_severity(spec.kind, value, f"{key}.{name}")
    return spec


def check_severity(kind: str, value: float, key: str) -> None:
    """Raises InputError where a defect of that kind cannot be so large: a length or factor of 0 or less, more than all of a feature."""
    if not np.isfinite(value) or (kind in LENGTHS and value <= 0) or (kind == "missing" and value > 1):
        wanted = "a number" if kind not in LENGTHS else "a number above 0" + (" and at most 1" if kind == "missing" else "")
        raise InputError(key, f"found {value:g}", wanted=wanted)


def _draw(rng: np.random.Generator, bounds: tuple[float, float], given: float | None = None) -> float:
    """Uniform within ``bounds``; a given value replaces the draw but not its use of ``rng``, so all else stays the same."""
    value = float(rng.uniform(*bounds))
    return value if given is None else float(given)


def _on(mesh: Mesh, name: str | None) -> np.ndarray:
    return np.ones(len(mesh.faces), bool) if name is None else mesh.feature == mesh.names.index(name) + 1


def _spot(mesh: Mesh, name: str | None, rng: np.random.Generator) -> tuple[int, np.ndarray, np.ndarray]:
    """A face of the feature drawn by area, a point on it, and the outward normal."""
    weight = np.where(_on(mesh, name), mesh.areas, 0.0)
    if weight.sum() <= 0:
        raise InputError("defects", f"feature {name} has no surface left to put a defect on")
    face = int(rng.choice(len(weight), p=weight / weight.sum()))
    u, v = rng.random(2)
    u, v = (u, v) if u + v <= 1 else (1 - u, 1 - v)
    a, b, c = mesh.triangles[face]
    return face, a + u * (b - a) + v * (c - a), mesh.face_normals[face]


def _edge_spot(mesh: Mesh, spec: Defect, rng: np.random.Generator) -> tuple[np.ndarray, int, np.ndarray, str]:
    """The feature's outer edges (k, 2), which of them was drawn by length, a point on it, and the feature to name."""
    own = np.zeros(len(mesh.vertices), bool)
    own[mesh.faces[_on(mesh, spec.on)]] = True
    edges = mesh.sharp_edges()
    edges = edges[own[edges].all(1)]
    if not len(edges):
        raise InputError(f"defects.{spec.kind}", f"feature {spec.on} has no sharp edge to {spec.kind}", wanted="a feature with an edge")
    start, end = mesh.vertices[edges[:, 0]], mesh.vertices[edges[:, 1]]
    length = np.linalg.norm(end - start, axis=1)
    k = int(rng.choice(len(edges), p=length / length.sum()))
    where = start[k] + rng.random() * (end[k] - start[k])
    return edges, k, where, spec.on or mesh.names[mesh.feature[np.flatnonzero((mesh.faces == edges[k, 0]).any(1))[0]] - 1]


def _with_room(mesh: Mesh, where: np.ndarray, line: np.ndarray, frame: np.ndarray) -> Iterator[tuple[float, np.ndarray]]:
    """The scales, of 1, 1/2, 1/4 and so on, at which a line (9, 3) about ``where`` has surface beside its middle, and how high that lies."""
    for room in 0.5 ** np.arange(16):
        level = heights(mesh, where + room * line, frame, room * np.linalg.norm(line[-1]))
        level[4] = 0.0  # the spot itself
        if not np.isnan(level[3:6]).any():
            yield float(room), level
    raise InputError("defects", "the surface at the spot has no room for a crack", wanted="another feature")


def _swept(sections: Sequence[np.ndarray]) -> Manifold:
    """The solid along sections (k, 3), each convex, one after the other."""
    return Manifold.batch_boolean([Manifold.hull_points(np.concatenate(pair)) for pair in pairwise(sections)], OpType.Add)


def _beyond(points: np.ndarray, direction: np.ndarray, radius: float, chord: float) -> Manifold:
    """What lies outside of the sphere of ``radius`` mm about the origin, about ``direction``, as far aside as any of the points (n, 3)."""
    if radius <= 0:
        raise InputError("defects", "nothing of the part would be left", wanted="a smaller severity")
    reach = np.linalg.norm(points, axis=1)
    angle = np.arccos(np.clip((points @ direction / reach).min(), 0.0, 1.0)) + 1e-3
    count = max(2, int(np.ceil(angle / 2 / np.arccos(1 - chord / radius))))
    arc = radius * np.column_stack([np.sin(a := np.linspace(0, angle, count + 1)), np.cos(a)])
    far = 2 * reach.max()
    rim = far * np.array([np.sin(angle), np.cos(angle)])
    profile = np.concatenate([arc, [rim, [rim[0], 2 * far], [0.0, 2 * far]]])
    solid = Manifold.revolve(CrossSection([profile]), segments(radius * np.sin(angle), chord))
    return solid.transform(np.column_stack([_frame(direction), np.zeros(3)]))


def _bump(part: Part, dimensions: Mapping[str, float], spec: Bump, rng: np.random.Generator, severity: float | None, sign: float) -> Made:
    height, diameter = _draw(rng, spec.height, severity), _draw(rng, spec.diameter)
    mesh = part.mesh(dimensions)
    face, where, normal = _spot(mesh, spec.on, rng)
    radius, name = diameter / 2, mesh.names[mesh.feature[face] - 1]

    def near(m: Mesh) -> np.ndarray:
        a, b, c = (m.vertices[m.faces[:, k]] - where for k in range(3))  # a box about each face, against the ball about the spot
        gap = np.maximum(np.maximum(np.minimum(np.minimum(a, b), c), -np.maximum(np.maximum(a, b), c)), 0)
        return (np.einsum("ij,ij->i", gap, gap) < radius**2) & (
            m.face_vectors @ normal > 0.2 * np.sqrt(np.einsum("ij,ij->i", m.face_vectors, m.face_vectors))
        )

    mesh = mesh.refined(near, radius / 6)
    patch = _connected(mesh, np.flatnonzero(near(mesh)), where)
    vertices = np.unique(mesh.faces[patch])
    offset = mesh.vertices[vertices] - where
    across = np.linalg.norm(offset - np.outer(offset @ normal, normal), axis=1)
    lift = np.where(across < radius, 0.5 * height * (1 + np.cos(np.pi * across / radius)), 0.0)
    moved = mesh.vertices.copy()
    moved[vertices] += sign * lift[:, None] * normal
    return mesh.moved(moved), DefectRecord(spec.kind, (name,), height, where=_point(where), details={"diameter": diameter})


def _connected(mesh: Mesh, rows: np.ndarray, where: np.ndarray) -> np.ndarray:
    """The faces among ``rows`` that hang together with the one nearest to ``where``: one side of a thin wall, not the other."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    corners = np.unique(mesh.faces[rows], return_inverse=True)[1].ravel()
    link = coo_matrix((np.ones(len(corners)), (np.repeat(np.arange(len(rows)), 3), corners)), shape=(len(rows), corners.max() + 1)).tocsr()
    _, label = connected_components(link @ link.T, directed=False)
    seed = np.argmin(np.linalg.norm(mesh.vertices[mesh.faces[rows]].mean(1) - where, axis=1))
    return rows[label == label[seed]]


def _combined(mesh: Mesh, tool: Manifold, name: str, *, cut: bool) -> Mesh:
    """``tool`` cut from or added to the mesh; its faces bear the feature ``name``."""
    solid, feature_of = mesh.manifold()
    tool = tool.as_original()
    feature_of[tool.original_id()] = mesh.names.index(name) + 1
    made = solid - tool if cut else solid + tool
    if made.is_empty():
        raise InputError("defects", f"the defect on {name} leaves nothing of the part", wanted="a smaller severity")
    return Mesh.of(made, feature_of, mesh.names)


def _stood(solid: Manifold, where: np.ndarray, normal: np.ndarray) -> Manifold:
    """The solid with its z axis along ``normal`` and its origin at ``where``."""
    return solid.transform(np.column_stack([_frame(normal), where]))


def _frame(axis: np.ndarray) -> np.ndarray:
    """(3, 3): columns x, y, z of a right-handed frame whose z is ``axis``."""
    z = np.asarray(axis, float) / np.linalg.norm(axis)
    x = np.cross([0.0, 1.0, 0.0] if abs(z[1]) < 0.9 else [0.0, 0.0, 1.0], z)
    x /= np.linalg.norm(x)
    return np.column_stack([x, np.cross(z, x), z])


def _framed(part: Part, dimensions: Mapping[str, float], axis: Direction) -> tuple[Mesh, np.ndarray, np.ndarray, float]:
    """The mesh, refined enough to be bent, a frame about ``axis``, the vertices in it, and the length along it."""
    mesh = part.mesh(dimensions)
    mesh = mesh.refined(lambda m: np.ones(len(m.faces), bool), mesh.diagonal / 24)
    frame = _frame(np.asarray(axis))
    local = (mesh.vertices - mesh.bounds.mean(0)) @ frame
    return mesh, frame, local, float(np.ptp(local[:, 2]))


def _unframed(mesh: Mesh, local: np.ndarray, frame: np.ndarray) -> np.ndarray:
    return local @ frame.T + mesh.bounds.mean(0)


def _point(where: np.ndarray) -> tuple[float, float, float]:
    return tuple(float(v) for v in where)
