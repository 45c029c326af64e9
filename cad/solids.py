"""Solids: one function each, from numbers in mm to a closed Manifold, and one entry each in SOLIDS.

Box, sphere, ellipsoid, capsule and torus are centred on the origin; the others stand on it, z up. Round ones take their
facet count from ``chord``: the largest distance in mm between the true circle and its polygon.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence

import numpy as np
from manifold3d import CrossSection, Manifold

from cad.errors import InputError

Number = float
Points = Sequence[Sequence[float]]


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


def box(size: Points, *, chord: float) -> Manifold:
    """Volume x * y * z."""
    positive(**{f"size.{i}": v for i, v in enumerate(size)})
    return Manifold.cube(list(size), True)


def cylinder(radius: Number, height: Number, *, chord: float) -> Manifold:
    """Volume pi r^2 h."""
    return cone(radius, radius, height, chord=chord)


def cone(radius: Number, top: Number, height: Number, *, chord: float) -> Manifold:
    """``radius`` below, ``top`` (0 for a point) above: volume pi h (r^2 + r t + t^2) / 3."""
    positive(radius=radius, height=height)
    if top < 0:
        raise InputError("top", f"found {top:g}", wanted="a radius of at least 0 mm")
    upper = [(top, height)] if top else []
    # turned as domes are: where both meet, their corners agree to the last digit and no slivers are left
    return _turned([(0.0, 0.0), (radius, 0.0), *upper, (0.0, height)], max(radius, top), chord)


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


def prism(sides: Number, height: Number, across_flats: Number = 0.0, radius: Number = 0.0, *, chord: float) -> Manifold:
    """A regular prism, a flat facing +y, given by ``across_flats`` (2 x inradius) or corner ``radius``: volume n a^2 tan(pi/n) h, a = inradius."""
    if sides != int(sides) or not 3 <= sides <= 512:
        raise InputError("sides", f"found {sides:g}", wanted="a whole number from 3 to 512")
    if (across_flats != 0) == (radius != 0):
        raise InputError("across_flats", "found both or neither of across_flats and radius", wanted="one of them")
    positive(height=height, **({"across_flats": across_flats} if across_flats else {"radius": radius}))
    corner = radius or across_flats / 2 / math.cos(math.pi / sides)
    return Manifold.cylinder(height, corner, corner, int(sides)).rotate([0, 0, 90 - 180 / sides])


def tube(radius: Number, inner: Number, height: Number, *, chord: float) -> Manifold:
    """Volume pi (r^2 - i^2) h."""
    positive(inner=inner, height=height)
    if inner >= radius:
        raise InputError("inner", f"found {inner:g}", wanted=f"less than radius, {radius:g}")
    return _turned([(inner, 0.0), (radius, 0.0), (radius, height), (inner, height)], radius, chord)


def torus(radius: Number, tube: Number, *, chord: float) -> Manifold:
    """``radius`` to the middle of the ring, ``tube`` its own: volume 2 pi^2 R r^2."""
    positive(radius=radius, tube=tube)
    if tube >= radius:
        raise InputError("tube", f"found {tube:g}", wanted=f"less than radius, {radius:g}")
    ring = [(radius + x, z) for x, z in _circle(tube, chord)]
    return _turned(ring, radius + tube, chord)


def extrude(polygon: Points, height: Number, *, chord: float) -> Manifold:
    """``polygon`` [[x, y], ...] swept along z: volume area * h."""
    positive(height=height)
    return Manifold.extrude(_section(polygon, "polygon"), height)


def revolve(profile: Points, *, chord: float) -> Manifold:
    """``profile`` [[r, z], ...], r at least 0, turned about z: volume 2 pi x area x centroid's r (Pappus)."""
    if any(point[0] < 0 for point in profile):
        raise InputError("profile", "found a negative radius", wanted="r of at least 0 mm in each [r, z]")
    return Manifold.revolve(_section(profile, "profile"), segments(max(p[0] for p in profile), chord))


def gear(module: Number, teeth: Number, height: Number, pressure_angle: Number = 20.0, *, chord: float) -> Manifold:
    """An involute spur gear (ISO 53 proportions: addendum 1 m, dedendum 1.25 m): volume outline area * h."""
    positive(module=module, height=height)
    if teeth != int(teeth) or not 6 <= teeth <= 300:
        raise InputError("teeth", f"found {teeth:g}", wanted="a whole number from 6 to 300")
    if not 10 <= pressure_angle <= 30:
        raise InputError("pressure_angle", f"found {pressure_angle:g}", wanted="10 to 30 degrees")
    return Manifold.extrude(CrossSection([_gear_outline(module, int(teeth), math.radians(pressure_angle))]), height)


SOLIDS: dict[str, Callable[..., Manifold]] = {
    function.__name__: function
    for function in (box, cylinder, cone, sphere, dome, ellipsoid, capsule, prism, tube, torus, extrude, revolve, gear)
}
FIELD_SHAPE = {"size": (3,), "radii": (3,), "polygon": (-1, 2), "profile": (-1, 2)}


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


def _turned(profile: Points, radius: float, chord: float) -> Manifold:
    return Manifold.revolve(CrossSection([np.asarray(profile, float)]), segments(radius, chord))


def _section(points: Points, key: str) -> CrossSection:
    """A simple polygon, either way round; raises InputError where it has no area or crosses itself."""
    outline = np.asarray(points, float)
    x, y = outline.T
    area = 0.5 * float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))
    section = CrossSection([outline if area > 0 else outline[::-1]])
    if abs(area) < 1e-9 or abs(section.area() - abs(area)) > 1e-6 * abs(area):
        raise InputError(
            key, f"found {len(outline)} points with signed area {area:g} mm2", wanted="a polygon with area that does not cross itself"
        )
    return section


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
