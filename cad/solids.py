"""Solids: one function each, from numbers in mm to a closed Manifold, and one entry each in SOLIDS.

Box, sphere, ellipsoid, capsule and torus are centred on the origin; the others stand on it, z up. Round ones take their
facet count from ``chord``: the largest distance in mm between the true circle and its polygon. ``chamfer`` and ``fillet`` break
the edges that EDGES names: a leg or radius in mm for both rims, or for each of ``((edge, mm), ...)``.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence

import numpy as np
from manifold3d import CrossSection, Manifold, Mesh64, triangulate

from cad.edges import BACK, MOST, Break, band, broken, corners, lofted, rings, rounded_path, turns, turns_back
from cad.errors import InputError, nearest

Number = float
Points = Sequence[Sequence[float]]
Edges = float | Sequence[tuple[str, float]]
ROUND = ("top", "bottom", "top_inner", "bottom_inner")
EDGES = {  # the loops of edges that chamfer and fillet may name
    "box": ("top", "bottom", "upright"), "prism": ("top", "bottom", "upright"), "extrude": ("top", "bottom", "upright"),
    "gear": ("top", "bottom"), "thread": ("top", "bottom"),
    "cylinder": ("top", "bottom"), "cone": ("top", "bottom"), "tube": ROUND, "revolve": ROUND,
}  # fmt: skip
MAX_TURNS = 200  # of a thread


def segments(radius: float, chord: float) -> int:
    """Sides of a polygon whose chords stay within ``chord`` mm of a circle of ``radius`` mm: a multiple of 8, 16 to 512.

    >>> segments(14.0, 0.01)
    88
    """
    if radius <= chord:
        return 16
    wanted = math.pi / math.acos(1.0 - chord / radius)
    return int(min(512, max(16, 8 * math.ceil(wanted / 8))))


def positive(**lengths: float) -> None:
    """Raises InputError naming the first length that is not above zero."""
    for name, value in lengths.items():
        if not value > 0:
            raise InputError(name, f"found {value:g}", wanted="a length above 0 mm")


def box(size: Points, chamfer: Edges = (), fillet: Edges = (), *, chord: float) -> Manifold:
    """Volume x * y * z."""
    positive(**{f"size.{i}": v for i, v in enumerate(size)})
    x, y, z = size
    breaks = _breaks("box", chamfer, fillet)
    if not breaks:
        return Manifold.cube([x, y, z], True)
    outline = np.array([[-x, -y], [x, -y], [x, y], [-x, y]]) / 2
    return _upright(outline, z, breaks, chord).translate([0, 0, -z / 2])


def cylinder(radius: Number, height: Number, chamfer: Edges = (), fillet: Edges = (), *, chord: float) -> Manifold:
    """Volume pi r^2 h."""
    return _cone(radius, radius, height, _breaks("cylinder", chamfer, fillet), chord)


def cone(radius: Number, top: Number, height: Number, chamfer: Edges = (), fillet: Edges = (), *, chord: float) -> Manifold:
    """``radius`` below, ``top`` (0 for a point) above: volume pi h (r^2 + r t + t^2) / 3."""
    return _cone(radius, top, height, _breaks("cone", chamfer, fillet), chord)


def _cone(radius: float, top: float, height: float, breaks: dict[str, Break], chord: float) -> Manifold:
    positive(radius=radius, height=height)
    if top < 0:
        raise InputError("top", f"found {top:g}", wanted="a radius of at least 0 mm")
    upper = [(top, height)] if top else []
    # turned as domes are: where both meet, their corners agree to the last digit and no slivers are left
    return _turned([(0.0, 0.0), (radius, 0.0), *upper, (0.0, height)], max(radius, top), chord, breaks)


def sphere(radius: Number, *, chord: float) -> Manifold:
    """Volume 4/3 pi r^3."""
    positive(radius=radius)
    return _turned(_arc(radius, radius, -90, 90, chord), radius, chord)


def dome(radius: Number, height: Number, *, chord: float) -> Manifold:
    """The upper half of an ellipsoid: volume 2/3 pi r^2 h."""
    positive(radius=radius, height=height)
    return _turned([(0.0, 0.0), *_arc(radius, height, 0, 90, chord)], radius, chord)


def ellipsoid(radii: Points, *, chord: float) -> Manifold:
    """Volume 4/3 pi a b c."""
    positive(**{f"radii.{i}": v for i, v in enumerate(radii)})
    longest = max(radii)
    return sphere(longest, chord=chord).scale([r / longest for r in radii])


def capsule(radius: Number, height: Number, *, chord: float) -> Manifold:
    """A cylinder of ``height`` between two half spheres: volume pi r^2 (h + 4/3 r)."""
    positive(radius=radius, height=height)
    low = [(x, z - height / 2) for x, z in _arc(radius, radius, -90, 0, chord)]
    high = [(x, z + height / 2) for x, z in _arc(radius, radius, 0, 90, chord)]
    return _turned(low + high, radius, chord)


def prism(
    sides: Number,
    height: Number,
    across_flats: Number = 0.0,
    radius: Number = 0.0,
    chamfer: Edges = (),
    fillet: Edges = (),
    *,
    chord: float,
) -> Manifold:
    """A regular prism, a flat facing +y, given by ``across_flats`` (2 x inradius) or corner ``radius``: volume n a^2 tan(pi/n) h, a = inradius."""
    if sides != int(sides) or not 3 <= sides <= 512:
        raise InputError("sides", f"found {sides:g}", wanted="a whole number from 3 to 512")
    if (across_flats != 0) == (radius != 0):
        raise InputError("across_flats", "found both or neither of across_flats and radius", wanted="one of them")
    positive(height=height, **({"across_flats": across_flats} if across_flats else {"radius": radius}))
    corner = radius or across_flats / 2 / math.cos(math.pi / sides)
    breaks = _breaks("prism", chamfer, fillet)
    if not breaks:
        return Manifold.cylinder(height, corner, corner, int(sides)).rotate([0, 0, 90 - 180 / sides])
    angles = math.pi / 2 + math.pi / sides * (2 * np.arange(int(sides)) - 1)
    return _upright(corner * np.column_stack([np.cos(angles), np.sin(angles)]), height, breaks, chord)


def tube(radius: Number, inner: Number, height: Number, chamfer: Edges = (), fillet: Edges = (), *, chord: float) -> Manifold:
    """Volume pi (r^2 - i^2) h."""
    positive(inner=inner, height=height)
    if inner >= radius:
        raise InputError("inner", f"found {inner:g}", wanted=f"less than radius, {radius:g}")
    return _turned([(inner, 0.0), (radius, 0.0), (radius, height), (inner, height)], radius, chord, _breaks("tube", chamfer, fillet))


def torus(radius: Number, tube: Number, *, chord: float) -> Manifold:
    """``radius`` to the middle of the ring, ``tube`` its own: volume 2 pi^2 R r^2."""
    positive(radius=radius, tube=tube)
    if tube >= radius:
        raise InputError("tube", f"found {tube:g}", wanted=f"less than radius, {radius:g}")
    ring = [(radius + x, z) for x, z in _circle(tube, chord)]
    return _turned(ring, radius + tube, chord)


def extrude(polygon: Points, height: Number, chamfer: Edges = (), fillet: Edges = (), *, chord: float) -> Manifold:
    """``polygon`` [[x, y], ...] swept along z: volume area * h."""
    positive(height=height)
    section, breaks = _section(polygon, "polygon"), _breaks("extrude", chamfer, fillet)
    return _upright(_ccw(polygon), height, breaks, chord) if breaks else Manifold.extrude(section, height)


def revolve(profile: Points, chamfer: Edges = (), fillet: Edges = (), *, chord: float) -> Manifold:
    """``profile`` [[r, z], ...], r at least 0, turned about z: volume 2 pi x area x centroid's r (Pappus)."""
    if any(point[0] < 0 for point in profile):
        raise InputError("profile", "found a negative radius", wanted="r of at least 0 mm in each [r, z]")
    _section(profile, "profile")
    radius = max(point[0] for point in profile)
    if len(profile) * segments(radius, chord) > MOST:
        raise InputError("profile", f"{len(profile)} points, {segments(radius, chord)} times round", wanted=f"at most {MOST} in all")
    return _turned(_ccw(profile), radius, chord, _breaks("revolve", chamfer, fillet))


def gear(
    module: Number, teeth: Number, height: Number, pressure_angle: Number = 20.0, chamfer: Edges = (), fillet: Edges = (), *, chord: float
) -> Manifold:
    """An involute spur gear (ISO 53 proportions: addendum 1 m, dedendum 1.25 m): volume outline area * h."""
    positive(module=module, height=height)
    if teeth != int(teeth) or not 6 <= teeth <= 300:
        raise InputError("teeth", f"found {teeth:g}", wanted="a whole number from 6 to 300")
    if not 10 <= pressure_angle <= 30:
        raise InputError("pressure_angle", f"found {pressure_angle:g}", wanted="10 to 30 degrees")
    outline = _gear_outline(module, int(teeth), math.radians(pressure_angle))
    breaks = _breaks("gear", chamfer, fillet)
    return _upright(outline, height, breaks, chord) if breaks else Manifold.extrude(CrossSection([outline]), height)


def thread(diameter: Number, pitch: Number, height: Number, chamfer: Edges = (), fillet: Edges = (), *, chord: float) -> Manifold:
    """A right-hand metric thread of ISO 68-1's basic profile, a helix with a core: crests pitch / 8 wide at R = ``diameter`` / 2, roots pitch / 4
    wide at r = R - 5/8 sqrt(3)/2 pitch, the middle of a crest at +x, z = 0. Volume pi h (R^2 / 8 + r^2 / 4 + 5/8 (R^2 + R r + r^2) / 3): the
    mean of the squared radius over a pitch.
    """
    positive(diameter=diameter, pitch=pitch, height=height)
    if pitch > 0.45 * diameter:
        raise InputError("pitch", f"found {pitch:g}", wanted=f"at most 0.45 of the diameter, {0.45 * diameter:g}")
    if height > MAX_TURNS * pitch:
        raise InputError("pitch", f"found {pitch:g}: {height / pitch:.0f} turns", wanted=f"at most {MAX_TURNS} turns")
    steps = segments(diameter / 2, chord)
    whole = _meshed(*_helix(diameter / 2, pitch, height, steps))
    beyond = diameter / 2 * (1.001 / math.cos(math.pi / steps) - 1)  # clear of the crests' facets
    breaks = {name: b._replace(size=b.size + beyond) for name, b in _breaks("thread", chamfer, fillet).items()}
    return whole ^ _cone(diameter / 2 + beyond, diameter / 2 + beyond, height, breaks, chord)


def strip(path: Points, thickness: Number, height: Number, bend: Number = 0.0, *, chord: float) -> Manifold:
    """A band of ``thickness`` along the open ``path`` [[x, y], ...] of its middle, corners turned on the radius ``bend`` (0: sharp), standing
    ``height`` high: volume thickness x length of the path x h."""
    positive(thickness=thickness, height=height)
    line = np.asarray(path, float)
    if (np.linalg.norm(np.diff(line, axis=0), axis=1) < 1e-6).any():
        raise InputError("path", "two points that follow each other are one", wanted="points apart")
    if (abs(turns(line)[1:-1]) > math.radians(BACK)).any():
        raise InputError("path", "it turns back on itself", wanted=f"turns of at most {BACK:g} degrees")
    if bend < 0 or (bend and bend < thickness / 2):
        raise InputError("bend", f"found {bend:g}", wanted=f"0, or at least half the thickness, {thickness / 2:g}")
    outline = band(rounded_path(line, bend, chord, "bend") if bend else line, thickness)
    return Manifold.extrude(_section(outline, "path"), height)


def vane(inner: Number, radius: Number, angle: Number, thickness: Number, height: Number, *, chord: float) -> Manifold:
    """A curved blade about z from ``inner`` to ``radius``, leaning ``angle`` degrees from the circles that it crosses (a logarithmic spiral, counter-clockwise
    outward; negative: clockwise): volume thickness x (R - i) / sin(angle) x h."""
    positive(inner=inner, thickness=thickness, height=height)
    if inner >= radius:
        raise InputError("inner", f"found {inner:g}", wanted=f"less than radius, {radius:g}")
    if not 5 <= abs(angle) < 90:
        raise InputError("angle", f"found {angle:g}", wanted="5 to 90 degrees, or as much the other way round")
    slope = math.tan(math.radians(angle))
    total = math.log(radius / inner) / slope
    count = max(2, math.ceil(abs(total) * segments(radius, chord) / (2 * math.pi)))
    turn = np.linspace(0, total, count + 1)
    r = inner * np.exp(turn * slope)
    outline = band(np.column_stack([r * np.cos(turn), r * np.sin(turn)]), thickness)
    return Manifold.extrude(_section(outline, "thickness"), height)


SOLIDS: dict[str, Callable[..., Manifold]] = {
    function.__name__: function
    for function in (box, cylinder, cone, sphere, dome, ellipsoid, capsule, prism, tube, torus, extrude, revolve, gear, thread, strip, vane)
}
FIELD_SHAPE = {"size": (3,), "radii": (3,), "polygon": (-3, 2), "profile": (-3, 2), "path": (-2, 2)}  # -3: three or more
EDGE_FIELDS = ("chamfer", "fillet")


def fields(solid: str) -> dict[str, bool]:
    """The fields of a solid: name -> whether it must be given."""
    parameters = inspect.signature(SOLIDS[solid]).parameters.values()
    return {p.name: p.default is p.empty for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}


def _arc(radius: float, height: float, start: float, stop: float, chord: float) -> list[tuple[float, float]]:
    count = max(4, round(segments(max(radius, height), chord) * abs(stop - start) / 360))
    angles = np.radians(np.linspace(start, stop, count + 1))
    return [(max(0.0, radius * math.cos(a)), height * math.sin(a)) for a in angles]


def _circle(radius: float, chord: float) -> list[tuple[float, float]]:
    angles = np.linspace(0, 2 * math.pi, segments(radius, chord), endpoint=False)
    return [(radius * math.cos(a), radius * math.sin(a)) for a in angles]


def _turned(profile: Points, radius: float, chord: float, breaks: dict[str, Break] | None = None) -> Manifold:
    outline = np.asarray(profile, float)
    if breaks and turns_back(outline):
        raise InputError(
            next(iter(breaks.values())).place, "the profile has a spike or a point twice", wanted="a profile with plain corners"
        )
    if breaks:
        outline = broken(outline, {_rim(outline, name, b): b for name, b in breaks.items()}, chord)
    return Manifold.revolve(CrossSection([outline]), segments(radius, chord))


def _rim(outline: np.ndarray, name: str, b: Break) -> int:
    """The corner of a profile whose loop bears the name: of those at the highest or lowest z, the outermost or innermost off the axis."""
    r, z = outline.T
    level = z.max() if name.startswith("top") else z.min()
    own = [k for k in corners(outline) if abs(z[k] - level) < 1e-9 and r[k] > 1e-9]
    own.sort(key=lambda k: r[k])
    if not own or (name.endswith("inner") and len(own) < 2):
        raise InputError(b.place, "the profile has no such edge", wanted="one that meets the level of its rim at a corner")
    return int(own[0] if name.endswith("inner") else own[-1])


def _breaks(solid: str, chamfer: Edges, fillet: Edges) -> dict[str, Break]:
    """By the edge's name; a plain number stands for both rims. Raises InputError naming the field."""
    found: dict[str, Break] = {}
    for kind, given in (("chamfer", chamfer), ("fillet", fillet)):
        plain = isinstance(given, (int, float))
        for edge, size in [("top", given), ("bottom", given)] if plain else given:
            place = kind if plain else f"{kind}.{edge}"
            if edge not in EDGES[solid]:
                raise InputError(place, f"a {solid} has no such edge", step=nearest(edge, EDGES[solid]))
            if edge in found:
                raise InputError(place, "the edge is broken twice", wanted="a chamfer or a fillet")
            positive(**{place: size})
            found[edge] = Break(kind, float(size), place)
    return found


def _upright(outline: np.ndarray, height: float, breaks: dict[str, Break], chord: float) -> Manifold:
    """The counter-clockwise outline (n, 2) extruded, its upright edges and rims broken."""
    if turns_back(outline):
        raise InputError(
            next(iter(breaks.values())).place, "the outline has a spike or a point twice", wanted="an outline with plain corners"
        )
    if "upright" in breaks:
        outline = broken(outline, dict.fromkeys(map(int, corners(outline)), breaks["upright"]), chord)
    layers = rings(outline, height, breaks, chord)
    for layer, rim in ((layers[0], "bottom"), (layers[-1], "top")):
        if rim in breaks:
            _section(layer[:, :2], breaks[rim].place)
    return _meshed(*lofted(layers, triangulate([layers[0][:, :2]])))


def _meshed(vertices: np.ndarray, faces: np.ndarray) -> Manifold:
    """From vertices (n, 3) mm and faces (m, 3), all counter-clockwise seen from outside."""
    return Manifold(Mesh64(np.asarray(vertices, float), np.asarray(faces, np.uint64)))


def _helix(radius: float, pitch: float, height: float, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces of a thread that reaches beyond 0 and ``height``: a ribbon of four edges, ``steps`` points a turn, closed by two fans."""
    root, count = radius - 5 / 8 * math.sqrt(3) / 2 * pitch, steps * math.ceil(height / pitch + 3.5)
    rise = pitch * np.array([-1, 1, 6, 10]) / 16  # crest, crest, root, root; the next crest begins at 15 / 16
    step = np.arange(count + 1)
    angle, z = 2 * math.pi * step / steps, pitch * (step / steps - 2)
    points = np.stack([r * np.column_stack([np.cos(angle), np.sin(angle)]) for r in (radius, radius, root, root)], 1)
    vertices = np.concatenate([points, (z[:, None] + rise)[..., None]], 2).reshape(-1, 3)
    at = lambda j, k: 4 * j + k  # noqa: E731
    sides = [(at(step[:-1], k), at(step[:-1] + 1, k), at(step[:-1], k + 1), at(step[:-1] + 1, k + 1)) for k in range(3)]
    j = step[: count - steps]  # where the next turn lies on this one
    sides.append((at(j, 3), at(j + 1, 3), at(j + steps, 0), at(j + steps + 1, 0)))
    faces = [np.stack([a, b, d], 1) for a, b, _, d in sides] + [np.stack([a, d, c], 1) for a, _, c, d in sides]
    first, last = step[: steps + 1], step[count - steps :]
    lower = np.concatenate([at(first, 0), at(0, np.array([3, 2, 1]))])
    upper = np.concatenate([at(last, 3), at(count, np.array([2, 1, 0]))])
    for loop, inward in ((lower, True), (upper, False)):
        vertices = np.concatenate([vertices, [[0.0, 0.0, vertices[loop, 2].mean()]]])
        a, b = loop, np.roll(loop, -1)
        ends = np.full(len(loop), len(vertices) - 1)
        faces.append(np.stack([ends, b, a], 1) if inward else np.stack([ends, a, b], 1))
    return vertices, np.concatenate(faces)


def _section(points: Points, key: str) -> CrossSection:
    """A simple polygon, either way round; raises InputError where it has no area or crosses itself."""
    outline = np.asarray(points, float)
    area = _area(outline)
    section = CrossSection([outline if area > 0 else outline[::-1]])
    if abs(area) < 1e-9 or abs(section.area() - abs(area)) > 1e-6 * abs(area):
        raise InputError(
            key, f"found {len(outline)} points with signed area {area:g} mm2", wanted="a polygon with area that does not cross itself"
        )
    return section


def _area(outline: np.ndarray) -> float:
    """mm2, positive where it runs counter-clockwise."""
    x, y = outline.T
    return 0.5 * float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))


def _ccw(points: Points) -> np.ndarray:
    outline = np.asarray(points, float)
    return outline if _area(outline) > 0 else outline[::-1]


def _gear_outline(module: float, teeth: int, pressure: float) -> np.ndarray:
    pitch = module * teeth / 2
    base, outer, root = pitch * math.cos(pressure), pitch + module, max(pitch - 1.25 * module, 0.2 * module)
    involute = lambda r: math.sqrt(max((r / base) ** 2 - 1, 0)) - math.acos(min(base / r, 1.0))  # noqa: E731
    half = math.pi / (2 * teeth) + math.tan(pressure) - pressure  # half a tooth's angle on the base circle
    flank = [(r, half - involute(r)) for r in np.linspace(max(base, root), outer, 8)]
    side = [(root, flank[0][1]), *flank] if root < base else flank
    tooth = [(r, -a) for r, a in side] + [(r, a) for r, a in reversed(side)]
    turns = 2 * math.pi * np.arange(teeth) / teeth
    return np.array([(r * math.cos(a + t), r * math.sin(a + t)) for t in turns for r, a in tooth])
