"""The parts that ship: each against the same part as a set of points, which knows nothing of meshes; its variants; every defect on every part."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.stats import qmc

import cad
from cad.build import Feature
from cad.defects import DEFECTS
from cad.expressions import evaluate

SHELF = cad.shelf()
POINTS = 2**19  # of a Sobol sequence: volumes to 0.1 % or so
VARIANTS = 50  # of each part; `python -m pipelines.benchmark_parts` makes a thousand


@pytest.fixture(scope="module", params=SHELF)
def part(request: pytest.FixtureRequest) -> cad.Part:
    return cad.load(request.param)


# The part as a set of points: (n, 3) mm -> (n,) bool, each solid by its own inequality

Given = dict[str, object]


def within(polygon: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(n,) whether points (n, 2) lie in the closed polygon, by counting the sides that a ray crosses."""
    inside = np.zeros(len(points), bool)
    x, y = points.T
    for (ax, ay), (bx, by) in zip(polygon, np.roll(polygon, -1, 0), strict=True):
        if ay != by:
            inside ^= ((ay > y) != (by > y)) & (x < ax + (y - ay) / (by - ay) * (bx - ax))
    return inside


def broken_off(at: np.ndarray, before: np.ndarray, after: np.ndarray, kind: str, size: float, points: np.ndarray) -> np.ndarray:
    """(n,) what a chamfer or fillet takes at the corner ``at`` between the points before and after it."""
    u, v = ((p - at) / np.linalg.norm(p - at) for p in (before, after))
    half = math.acos(np.clip(u @ v, -1, 1)) / 2
    reach = size / math.tan(half) if kind == "fillet" else size
    a, b = (points - at) @ u, (points - at) @ v
    if kind == "chamfer":
        return np.linalg.solve(np.column_stack([u, v]), (points - at).T).sum(0) < size
    centre = at + (u + v) / np.linalg.norm(u + v) * size / math.sin(half)
    return (a < reach) & (b < reach) & (np.linalg.norm(points - centre, axis=1) > size)


def turned(profile: np.ndarray, given: Given, p: np.ndarray) -> np.ndarray:
    flat = np.column_stack([np.hypot(p[:, 0], p[:, 1]), p[:, 2]])
    inside = within(profile, flat)
    for kind in ("chamfer", "fillet"):
        edges = given.get(kind, {})
        for name, size in (edges if isinstance(edges, dict) else {"top": edges, "bottom": edges}).items():
            level = profile[:, 1].max() if name.startswith("top") else profile[:, 1].min()
            k = max((i for i in range(len(profile)) if profile[i, 1] == level), key=lambda i: profile[i, 0])
            inside &= ~broken_off(profile[k], profile[k - 1], profile[(k + 1) % len(profile)], kind, size, flat)
    return inside


def cone(p: np.ndarray, radius: float, top: float, height: float, **given: object) -> np.ndarray:
    return turned(np.array([[0, 0], [radius, 0], [top, height], [0, height]]), given, p)


def prism(p: np.ndarray, sides: float, height: float, across_flats: float) -> np.ndarray:
    angles = np.pi / 2 + 2 * np.pi * np.arange(int(sides)) / sides
    return (p[:, :2] @ np.array([np.cos(angles), np.sin(angles)]) <= across_flats / 2).all(1) & (p[:, 2] >= 0) & (p[:, 2] <= height)


def gear(p: np.ndarray, module: float, teeth: float, height: float, pressure_angle: float = 20.0) -> np.ndarray:
    pitch, a = module * teeth / 2, math.radians(pressure_angle)
    r, angle = np.hypot(p[:, 0], p[:, 1]), np.arctan2(p[:, 1], p[:, 0])
    roll = np.arccos(np.minimum(pitch * math.cos(a) / np.maximum(r, 1e-9), 1))
    half = np.pi / (2 * teeth) + (math.tan(a) - a) - (np.tan(roll) - roll)
    from_tooth = abs((angle / (2 * np.pi) * teeth + 0.5) % 1 - 0.5) * 2 * np.pi / teeth
    return ((r < pitch - 1.25 * module) | ((r < pitch + module) & (from_tooth < half))) & (p[:, 2] >= 0) & (p[:, 2] <= height)


def thread(p: np.ndarray, diameter: float, pitch: float, height: float, chamfer: dict[str, float]) -> np.ndarray:
    x, y, z = p.T
    from_crest = abs((z / pitch - np.arctan2(y, x) / (2 * np.pi) + 0.5) % 1 - 0.5) * pitch
    radius = diameter / 2 - np.clip((from_crest - pitch / 16) * math.sqrt(3), 0, 5 / 8 * math.sqrt(3) / 2 * pitch)
    return (np.hypot(x, y) <= np.minimum(radius, diameter / 2 - chamfer["bottom"] + z)) & (z >= 0) & (z <= height)


def strip(p: np.ndarray, path: np.ndarray, thickness: float, height: float, bend: float) -> np.ndarray:
    """Within half the thickness of the path, its corners rounded: of the straight pieces up to where the arcs begin, and of the arcs."""
    flat, inside = p[:, :2], np.zeros(len(p), bool)
    cut = np.zeros(len(path))
    for k in range(1, len(path) - 1):
        u, v = ((path[j] - path[k]) / np.linalg.norm(path[j] - path[k]) for j in (k - 1, k + 1))
        half = math.acos(u @ v) / 2
        cut[k] = bend / math.tan(half)
        centre = path[k] + (u + v) / np.linalg.norm(u + v) * bend / math.sin(half)
        sector = np.linalg.solve(np.column_stack([path[k] + cut[k] * u - centre, path[k] + cut[k] * v - centre]), (flat - centre).T)
        inside |= (sector >= 0).all(0) & (abs(np.linalg.norm(flat - centre, axis=1) - bend) <= thickness / 2)
    for k, (a, b) in enumerate(pairwise(path)):
        length = np.linalg.norm(b - a)
        along = (b - a) / length
        s, d = (flat - a) @ along, (flat - a) @ [-along[1], along[0]]
        inside |= (s >= cut[k]) & (s <= length - cut[k + 1]) & (abs(d) <= thickness / 2)
    return inside & (p[:, 2] >= 0) & (p[:, 2] <= height)


def vane(p: np.ndarray, inner: float, radius: float, angle: float, thickness: float, height: float) -> np.ndarray:
    """Within half the thickness of the spiral, but for its two ends."""
    turn = np.linspace(0, math.log(radius / inner) / math.tan(math.radians(angle)), 4001)
    r = inner * np.exp(turn * math.tan(math.radians(angle)))
    line = np.column_stack([r * np.cos(turn), r * np.sin(turn)])
    away, nearest = cKDTree(line).query(p[:, :2], distance_upper_bound=thickness)
    return (away <= thickness / 2) & (nearest > 0) & (nearest < 4000) & (p[:, 2] >= 0) & (p[:, 2] <= height)


INSIDE: dict[str, Callable[..., np.ndarray]] = {
    "box": lambda p, size: (abs(p) <= np.array(size) / 2).all(1),
    "cylinder": lambda p, radius, height, **given: cone(p, radius, radius, height, **given),
    "cone": cone,
    "dome": lambda p, radius, height: ((p / [radius, radius, height]) ** 2).sum(1) * (p[:, 2] >= 0) + (p[:, 2] < 0) * 2 <= 1,
    "prism": prism,
    "extrude": lambda p, polygon, height: within(np.array(polygon), p[:, :2]) & (p[:, 2] >= 0) & (p[:, 2] <= height),
    "revolve": lambda p, profile, **given: turned(np.array(profile), given, p),
    "gear": gear,
    "thread": thread,
    "strip": lambda p, path, **given: strip(p, np.array(path), **given),
    "vane": vane,
}


def computed(value: object, dimensions: dict[str, float]) -> object:
    if isinstance(value, dict):
        return {k: computed(v, dimensions) for k, v in value.items()}
    return [computed(v, dimensions) for v in value] if isinstance(value, (list, tuple)) else evaluate(value, dimensions, "k")


def about(axis: int, degrees: float) -> np.ndarray:
    c, s, m = math.cos(math.radians(degrees)), math.sin(math.radians(degrees)), np.eye(3)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    m[i, i], m[i, j], m[j, i], m[j, j] = c, -s, s, c
    return m


def holds(feature: Feature, dimensions: dict[str, float], points: np.ndarray) -> np.ndarray:
    """(n,) whether the placed solid holds the points: they are moved back to where it was made."""
    at, rotate = (np.array(computed(v, dimensions)) for v in (feature.at, feature.rotate))
    turn = about(2, rotate[2]) @ about(1, rotate[1]) @ about(0, rotate[0])
    given = computed(feature.values, dimensions)
    copies = [points - at]
    if feature.repeat is not None:
        assert feature.repeat.axis == "z"
        angles = 360 / feature.repeat.count * np.arange(feature.repeat.count)
        if feature.repeat.radius is None:
            copies = [points @ about(2, a) - at for a in angles]
        else:
            reach = np.array([computed(feature.repeat.radius, dimensions), 0, 0])
            copies = [(points - at) @ about(2, a) - reach for a in angles]
    return np.any([INSIDE[feature.solid](p @ turn, **given) for p in copies], axis=0)


def volume_of_points(part: cad.Part, low: np.ndarray, high: np.ndarray) -> float:
    points = low + (high - low) * qmc.Sobol(3, rng=np.random.default_rng(0)).random(POINTS)
    inside = np.zeros(len(points), bool)
    for feature in part.features:
        own = holds(feature, part.nominal, points)
        inside = inside | own if feature.operation == "add" else inside & (own if feature.operation == "keep" else ~own)
    return float(inside.mean() * np.prod(high - low))


def test_the_volume_is_that_of_the_same_part_as_a_set_of_points(part: cad.Part) -> None:
    mesh = part.mesh()
    low, high = mesh.bounds + np.array([[-0.5], [0.5]])
    assert mesh.volume == pytest.approx(volume_of_points(part, low, high), rel=5e-3)


def test_every_sub_component_has_faces_and_every_face_one(part: cad.Part) -> None:
    mesh = part.mesh()
    assert set(np.unique(mesh.feature)) == set(range(1, len(part.names) + 1))
    assert mesh.watertight


def test_a_part_is_what_its_text_says(part: cad.Part) -> None:
    assert cad.parse(part.text) == part


# Variants


def test_variants_are_watertight_and_their_dimensions_within_tolerance(part: cad.Part, rng: np.random.Generator) -> None:
    for _ in range(VARIANTS):
        check_variant(part, rng)


@pytest.mark.slow
def test_corners_of_the_tolerances_are_watertight(part: cad.Part) -> None:
    text = part.text.replace("units: mm", "units: mm\npopulation: corners", 1)
    worst, rng = cad.parse(text), np.random.default_rng(1)
    for _ in range(20):
        check_variant(worst, rng)


def check_variant(part: cad.Part, rng: np.random.Generator) -> None:
    dimensions = part.vary(rng)
    assert all(part.dimensions[n].low <= v <= part.dimensions[n].high for n, v in dimensions.items())
    mesh = part.mesh(dimensions)
    assert mesh.watertight
    assert set(np.unique(mesh.feature)) == set(range(1, len(part.names) + 1))


def test_no_good_part_has_a_dimension_that_a_defect_makes(part: cad.Part) -> None:
    """By the least that the file allows, from whatever the tolerance allows, the dimension is out."""
    for spec in part.defects.values():
        if spec.kind == "dimension":
            t = part.dimensions[spec.dimension]
            assert t.high + spec.by[1] < t.low or t.low + spec.by[0] > t.high


# Defects


def test_the_defects_of_the_file_can_be_made_on_any_good_part(part: cad.Part, rng: np.random.Generator) -> None:
    for name, spec in part.defects.items():
        for severity in spec.range:
            dimensions = part.vary(rng)
            mesh, record = part.with_defect(name, rng, dimensions=dimensions, severity=severity)
            assert mesh.watertight
            assert set(record.features) <= set(part.names)
            good = part.mesh(dimensions)
            assert mesh.faces.shape != good.faces.shape or not np.allclose(mesh.vertices, good.vertices, atol=1e-6)


def spec_for(kind: str, part: cad.Part, size: float) -> str:
    """A defect of the kind in proportion to a part ``size`` mm across."""
    length = f"[{0.02 * size:g}, {0.02 * size:g}]"
    fields = {
        "bulge": f"height: {length}, diameter: [{0.1 * size:g}, {0.1 * size:g}]",
        "dent": f"height: {length}, diameter: [{0.1 * size:g}, {0.1 * size:g}]",
        "dimension": f"dimension: {next(iter(part.dimensions))}, by: [{-0.02 * size:g}, {-0.02 * size:g}]",
        "missing": "fraction: [0.2, 0.2]",
        "extra": f"diameter: [{0.05 * size:g}, {0.05 * size:g}], height: {length}",
        "chip": f"size: [{0.06 * size:g}, {0.06 * size:g}]",
        "burr": f"height: {length}, length: [{0.1 * size:g}, {0.1 * size:g}]",
        "crack": f"depth: {length}, length: [{0.1 * size:g}, {0.1 * size:g}], width: [{0.004 * size:g}, {0.004 * size:g}]",
        "short_shot": f"depth: {length}",
        "bend": "angle: [5, 5]",
        "twist": "angle: [5, 5]",
        "scale": "by: [0.95, 0.95]",
        "shift": f"by: {length}",
    }
    return fields[kind]


@pytest.mark.parametrize("kind", DEFECTS)
def test_every_defect_works_on_every_feature_or_says_why_it_cannot(part: cad.Part, kind: str) -> None:
    head = part.text[: part.text.index("defects:")]
    good, made = part.mesh(), 0
    for name in part.names:
        on = "" if kind in ("dimension", "bend", "twist", "scale") else f", on: {name}"
        changed = cad.parse(f"{head}defects: {{d: {{kind: {kind}{on}, {spec_for(kind, part, good.diagonal)}}}}}\n")
        try:
            mesh, record = changed.with_defect("d", np.random.default_rng(0))
        except cad.InputError as error:
            assert error.place.startswith(("defects", "features.", "dimensions."))
            assert name in str(error) or error.wanted
            continue
        made += 1
        assert mesh.watertight
        assert record.kind == kind
        assert abs(mesh.volume - good.volume) > 0 or np.abs(mesh.vertices - good.vertices).max() > 0
    assert made
