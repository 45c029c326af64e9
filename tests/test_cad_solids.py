"""Solids against their formulas, and where they stand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from manifold3d import Manifold
from scipy.integrate import trapezoid

import cad
from cad.mesh import Mesh
from cad.solids import SOLIDS, fields, segments

PI = math.pi
L_SHAPE = ((0, 0), (3, 0), (3, 1), (1, 1), (1, 4), (0, 4))  # area 3 + 3
RING = ((2, 0), (4, 0), (4, 3))  # a right triangle: area 3, its middle at r = 10/3


def thread_volume(diameter: float, pitch: float, height: float) -> float:
    """mm3: of ISO 68-1's basic profile, by the mean of its squared radius over a pitch."""
    big, small = diameter / 2, diameter / 2 - 5 / 8 * math.sqrt(3) / 2 * pitch
    return PI * height * (big**2 / 8 + small**2 / 4 + 5 / 8 * (big**2 + big * small + small**2) / 3)


CASES: dict[str, list[tuple[dict, float]]] = {
    "box": [({"size": (2, 3, 4)}, 24)],
    "cylinder": [({"radius": 3, "height": 5}, PI * 9 * 5)],
    "cone": [({"radius": 3, "top": 1, "height": 5}, PI * 5 * (9 + 3 + 1) / 3), ({"radius": 1, "top": 3, "height": 5}, PI * 5 * (9 + 3 + 1) / 3),
             ({"radius": 3, "top": 0, "height": 5}, PI * 5 * 9 / 3)],
    "sphere": [({"radius": 3}, 4 / 3 * PI * 27)],
    "dome": [({"radius": 3, "height": 2}, 2 / 3 * PI * 9 * 2), ({"radius": 2, "height": 5}, 2 / 3 * PI * 4 * 5)],
    "ellipsoid": [({"radii": (1, 2, 3)}, 4 / 3 * PI * 6)],
    "capsule": [({"radius": 2, "height": 3}, PI * 4 * (3 + 4 / 3 * 2))],
    "prism": [({"sides": 6, "height": 2, "across_flats": 13}, 6 * 6.5**2 * math.tan(PI / 6) * 2), ({"sides": 4, "height": 3, "radius": math.sqrt(2)}, 4 * 3)],
    "tube": [({"radius": 3, "inner": 2, "height": 4}, PI * 5 * 4)],
    "torus": [({"radius": 4, "tube": 1}, 2 * PI**2 * 4)],
    "extrude": [({"polygon": L_SHAPE, "height": 4}, 24), ({"polygon": L_SHAPE[::-1], "height": 4}, 24)],
    "revolve": [({"profile": RING}, 2 * PI * 3 * 10 / 3), ({"profile": RING[::-1]}, 2 * PI * 3 * 10 / 3)],
    "thread": [({"diameter": 8, "pitch": 1.25, "height": 10}, thread_volume(8, 1.25, 10)), ({"diameter": 20, "pitch": 2.5, "height": 4}, thread_volume(20, 2.5, 4))],
    "vane": [({"inner": 10, "radius": 38, "angle": 30, "thickness": 3, "height": 12}, 3 * 28 / 0.5 * 12), ({"inner": 3, "radius": 9, "angle": -30, "thickness": 1, "height": 2}, 6 / 0.5 * 2)],
    "strip": [({"path": ((0, 0), (10, 0), (10, 10)), "thickness": 1, "height": 5, "bend": 2}, (16 + PI) * 5)],
}  # fmt: skip
ALL = [pytest.param(solid, values, volume, id=f"{solid}-{i}") for solid, cases in CASES.items() for i, (values, volume) in enumerate(cases)]
FLAT = ("box", "prism", "extrude")
GRID = 2e-8  # mm: outlines are rounded to 1e-8 before they are turned or swept


def mesh_of(solid: Manifold) -> Mesh:
    solid = solid.as_original()
    return Mesh.of(solid, {solid.original_id(): 1}, ("solid",))


def made(*entries: str, chord: float = 0.02) -> Mesh:
    """The mesh of a part with these features."""
    lines = "".join(f"  - {{name: f{i}, {entry}}}\n" for i, entry in enumerate(entries))
    part = cad.parse(f"part: p\nfeatures:\n{lines}")
    return cad.build.build(part.features, {}, chord=chord)


def test_every_solid_has_a_formula_here() -> None:
    assert {*CASES, "gear"} == SOLIDS.keys()


@pytest.mark.parametrize(("solid", "values", "volume"), ALL)
def test_the_volume_is_that_of_the_formula_and_the_error_shrinks_with_the_chord(solid: str, values: dict, volume: float) -> None:
    meshes = [mesh_of(SOLIDS[solid](**values, chord=chord)) for chord in (0.04, 0.01, 0.0025)]
    lost = [volume - m.volume for m in meshes]
    if solid in FLAT:
        assert lost == pytest.approx([0, 0, 0], abs=1e-9 * volume)
        return
    for chord, mesh, missing in zip((0.04, 0.01, 0.0025), meshes, lost, strict=True):
        # facets lie within the true surface, at most a chord below it round the axis and a chord below it along the profile
        assert 0 < missing < 2 * chord * mesh.areas.sum()
    # a quarter of the chord is a quarter of the error, but facets come in multiples of 8
    assert lost[1] < 0.5 * lost[0]
    assert lost[2] < 0.5 * lost[1]


@pytest.mark.parametrize(
    ("solid", "values", "volume"), [*ALL, pytest.param("gear", {"module": 1, "teeth": 17, "height": 3}, None, id="gear")]
)
def test_a_solid_is_watertight_and_faces_outward(solid: str, values: dict, volume: float | None) -> None:
    mesh = mesh_of(SOLIDS[solid](**values, chord=0.02))
    assert mesh.watertight
    assert mesh.volume > 0
    assert (mesh.areas > 0).all()


def height_of(solid: str, values: dict) -> float:
    if solid == "capsule":
        return values["height"] + 2 * values["radius"]
    return values.get("height") or {"sphere": 6, "box": 4, "ellipsoid": 6, "torus": 2, "revolve": 3}[solid]


@pytest.mark.parametrize(("solid", "values", "volume"), ALL)
def test_a_solid_is_centred_or_stands_on_its_place(solid: str, values: dict, volume: float) -> None:
    mesh, height = mesh_of(SOLIDS[solid](**values, chord=0.02)), height_of(solid, values)
    low = -height / 2 if solid in ("box", "sphere", "ellipsoid", "capsule", "torus") else 0
    assert mesh.bounds[:, 2] == pytest.approx([low, low + height], abs=1e-9)


@pytest.mark.parametrize("radius", [0.3, 2.0, 14.0, 400.0])
@pytest.mark.parametrize("chord", [0.5, 0.02])
def test_a_polygon_strays_from_its_circle_by_the_chord_at_most(radius: float, chord: float) -> None:
    count = segments(radius, chord)
    assert count % 8 == 0
    assert 16 <= count <= 512
    assert radius * (1 - math.cos(PI / count)) <= chord or count == 512


def test_every_vertex_of_a_sphere_lies_on_it() -> None:
    assert np.linalg.norm(mesh_of(SOLIDS["sphere"](3.0, chord=0.02)).vertices, axis=1) == pytest.approx(3.0, abs=GRID)


def test_every_vertex_of_a_torus_lies_on_it() -> None:
    x, y, z = mesh_of(SOLIDS["torus"](4.0, 1.0, chord=0.02)).vertices.T
    assert np.hypot(np.hypot(x, y) - 4, z) == pytest.approx(1.0, abs=GRID)


def test_every_vertex_of_a_tube_lies_on_one_of_two_radii() -> None:
    x, y, _ = mesh_of(SOLIDS["tube"](3.0, 2.0, 4.0, chord=0.02)).vertices.T
    radius = np.hypot(x, y)
    assert np.minimum(abs(radius - 2), abs(radius - 3)) == pytest.approx(0.0, abs=GRID)


def test_a_round_ellipsoid_is_a_sphere() -> None:
    assert mesh_of(SOLIDS["ellipsoid"]((3.0, 3.0, 3.0), chord=0.02)).volume == pytest.approx(
        mesh_of(SOLIDS["sphere"](3.0, chord=0.02)).volume, rel=1e-12
    )


def test_a_prism_turns_a_flat_to_y() -> None:
    mesh = mesh_of(SOLIDS["prism"](6, 2.0, across_flats=13.0, chord=0.02))
    assert mesh.bounds[:, 1] == pytest.approx([-6.5, 6.5], abs=1e-9)
    assert mesh.bounds[1, 0] == pytest.approx(6.5 / math.cos(PI / 6), abs=1e-9)


# Gears


def gear_area(module: float, teeth: int, pressure: float) -> float:
    """mm2: of the involute outline, by integrating the tooth's angular width over the radius."""
    pitch, a = module * teeth / 2, math.radians(pressure)
    base, outer, root = pitch * math.cos(a), pitch + module, pitch - 1.25 * module
    r = np.linspace(root, outer, 20001)
    roll = np.arccos(np.minimum(base / r, 1))  # below the base circle the flank runs straight to the middle
    half = PI / (2 * teeth) + (math.tan(a) - a) - (np.tan(roll) - roll)
    return float(trapezoid(2 * half * r, r) * teeth + PI * root**2)


@pytest.mark.parametrize(("module", "teeth", "pressure"), [(1.0, 20, 20.0), (0.5, 60, 20.0), (2.0, 12, 14.5)])
def test_the_volume_of_a_gear_is_that_of_its_outline(module: float, teeth: int, pressure: float) -> None:
    mesh = mesh_of(SOLIDS["gear"](module, teeth, 3.0, pressure, chord=0.02))
    # root and tip are straight from tooth to tooth, where the circles bulge by (angle between teeth)^2 / 6 of what lies there: under 0.5 %
    assert mesh.volume == pytest.approx(3 * gear_area(module, teeth, pressure), rel=5e-3)


def test_teeth_and_gaps_of_a_gear_are_equally_wide_on_the_pitch_circle() -> None:
    gear, ring = SOLIDS["gear"](1.0, 20, 3.0, chord=0.02), SOLIDS["tube"](10.001, 9.999, 3.0, chord=1e-4)
    # flanks of seven straight pieces, and a ring of 512 sides: 0.0002 mm each
    assert (gear ^ ring).volume() / ring.volume() == pytest.approx(0.5, abs=2e-3)


def test_a_gear_reaches_its_addendum_circle() -> None:
    x, y, _ = mesh_of(SOLIDS["gear"](1.0, 20, 3.0, chord=0.02)).vertices.T
    assert np.hypot(x, y).max() == pytest.approx(11.0, abs=GRID)
    assert np.hypot(x, y).min() == pytest.approx(8.75, abs=GRID)


# Threads, strips, vanes


def thread_radius(x: np.ndarray, y: np.ndarray, z: np.ndarray, diameter: float, pitch: float) -> np.ndarray:
    """mm: the radius of ISO 68-1's profile where a right-hand helix takes it, at the angle and height of each point."""
    from_crest = abs((z / pitch - np.arctan2(y, x) / (2 * PI) + 0.5) % 1 - 0.5) * pitch
    return diameter / 2 - np.clip((from_crest - pitch / 16) * math.sqrt(3), 0, 5 / 8 * math.sqrt(3) / 2 * pitch)


def test_every_vertex_of_a_thread_lies_on_its_right_hand_helix() -> None:
    x, y, z = mesh_of(SOLIDS["thread"](8.0, 1.25, 10.0, chord=0.02)).vertices.T
    side = (z > 1e-6) & (z < 10 - 1e-6)
    assert side.sum() > 1000
    assert np.hypot(x, y)[side] == pytest.approx(thread_radius(x, y, z, 8.0, 1.25)[side], abs=1e-6)


def test_flanks_of_a_thread_include_sixty_degrees() -> None:
    solid = SOLIDS["thread"](8.0, 1.25, 10.0, chord=1e-3)
    low, high = (solid ^ Manifold.cube([4, 2e-3, 3]).translate([2, -1e-3, 3])).bounding_box()[2::3]
    assert (low, high) == pytest.approx((3, 6))
    mesh = mesh_of(solid)
    flank = mesh.face_normals[(abs(mesh.face_normals[:, 2]) > 0.1) & (abs(mesh.face_normals[:, 2]) < 0.99)]
    # 60 degrees to the axis in a plane through it; the lead angle, 3 degrees, makes cos a little less
    assert np.degrees(np.arccos(abs(flank[:, 2]))) == pytest.approx(30, abs=0.2)


def test_a_chamfered_thread_has_its_crests_taken_off_at_the_end() -> None:
    plain, made = (mesh_of(SOLIDS["thread"](8.0, 1.25, 10.0, **edge, chord=0.01)) for edge in ({}, {"chamfer": (("bottom", 1.0),)}))
    x, y, z = made.vertices.T
    assert (np.hypot(x, y) - z).max(where=z < 0.9, initial=0) < 3.0 + 0.01  # the cone; 0.01: its facets stand out of it
    assert made.volume < plain.volume
    assert made.watertight


def test_a_strip_is_as_thick_as_it_says_along_all_of_its_path() -> None:
    mesh = mesh_of(SOLIDS["strip"](((0, 0), (10, 0), (10, 10)), 1.0, 2.0, 3.0, chord=1e-3))
    x, y, _ = mesh.vertices.T
    bend = (x > 7 + 1e-6) & (y < 3 - 1e-6)
    radius = np.hypot(x - 7, y - 3)[bend]
    assert np.minimum(abs(radius - 2.5), abs(radius - 3.5)) == pytest.approx(0, abs=1e-3)


def test_a_vane_crosses_its_circles_at_its_angle() -> None:
    mesh = mesh_of(SOLIDS["vane"](10.0, 40.0, 25.0, 0.01, 1.0, chord=1e-3))
    foot = mesh.vertices[mesh.vertices[:, 2] < 0.5][:, :2]
    foot = foot[np.argsort(np.linalg.norm(foot, axis=1))][::2]
    step, radial = np.diff(foot, axis=0), foot[:-1] / np.linalg.norm(foot[:-1], axis=1, keepdims=True)
    lean = np.degrees(np.arcsin((step * radial).sum(1) / np.linalg.norm(step, axis=1)))
    assert np.median(lean) == pytest.approx(25, abs=0.5)
    assert (foot[:-1, 0] * foot[1:, 1] - foot[:-1, 1] * foot[1:, 0]).mean() > 0  # counter-clockwise outward


# Broken edges


def frustum(a: float, b: float, c: float) -> float:
    """mm3: what a chamfer ``c`` takes from the rim of a box whose rim is ``a`` by ``b``."""
    return a * b * c - ((a * b) * c - (a + b) * c**2 + 4 * c**3 / 3)


def pill(a: float, b: float, c: float, r: float) -> float:
    """mm3: a box with all of its edges and corners rounded (Steiner): a smaller box, grown by a ball."""
    x, y, z = a - 2 * r, b - 2 * r, c - 2 * r
    return x * y * z + 2 * r * (x * y + y * z + z * x) + PI * r**2 * (x + y + z) + 4 / 3 * PI * r**3


SPANDREL = (
    1 - PI / 4,
    (10 - 3 * PI) / (3 * (4 - PI)),
)  # between a square corner and its arc, radius 1: area, its middle's distance from each side
BROKEN = [
    ("box", {"size": (9, 7, 5)}, {"chamfer": 1.0}, 315 - 2 * frustum(9, 7, 1)),
    ("box", {"size": (9, 7, 5)}, {"chamfer": {"upright": 1.0}}, 315 - 4 * 0.5 * 5),
    ("box", {"size": (9, 7, 5)}, {"fillet": {"upright": 2.0}}, 315 - (4 - PI) * 4 * 5),
    ("box", {"size": (9, 7, 5)}, {"fillet": {"upright": 2.0, "top": 2.0, "bottom": 2.0}}, pill(9, 7, 5, 2)),
    ("extrude", {"polygon": L_SHAPE, "height": 4}, {"fillet": {"upright": 0.4}}, 24 - (1 - PI / 4) * 0.16 * 4 * (5 - 1)),
    ("extrude", {"polygon": L_SHAPE[::-1], "height": 4}, {"chamfer": {"top": 0.3}}, 24 - 14 * 0.3**2 / 2 + 4 * 0.3**3 / 3),
    ("cylinder", {"radius": 5, "height": 4}, {"chamfer": {"top": 1.0}}, PI * (25 * 3 + (25 + 20 + 16) / 3)),
    ("cylinder", {"radius": 5, "height": 4}, {"fillet": 1.0}, PI * 100 - 2 * 2 * PI * (5 - SPANDREL[1]) * SPANDREL[0]),
    ("cone", {"radius": 5, "top": 0, "height": 5}, {"chamfer": {"bottom": 1.0}}, PI * 125 / 3 - 2 * PI * math.sin(PI / 4) / 2 * (5 + 4 + 5 - math.sqrt(0.5)) / 3),
    ("tube", {"radius": 5, "inner": 3, "height": 4}, {"chamfer": {"top_inner": 0.5, "bottom": 0.5}}, PI * 64 - 2 * PI * 0.125 * (3 + 0.5 / 3 + 5 - 0.5 / 3)),
    ("revolve", {"profile": ((3, 0), (5, 0), (5, 4), (3, 4))}, {"chamfer": {"top_inner": 0.5, "bottom": 0.5}}, PI * 64 - 2 * PI * 0.125 * 8),
]  # fmt: skip


@pytest.mark.parametrize(("solid", "values", "edges", "volume"), BROKEN, ids=lambda v: str(v) if isinstance(v, str) else None)
def test_a_broken_edge_takes_the_volume_of_its_formula(solid: str, values: dict, edges: dict, volume: float) -> None:
    given = {k: tuple(v.items()) if isinstance(v, dict) else v for k, v in edges.items()}
    meshes = [mesh_of(SOLIDS[solid](**values, **given, chord=chord)) for chord in (1e-3, 1e-4)]
    assert all(m.watertight for m in meshes)
    errors = [abs(m.volume - volume) / volume for m in meshes]
    assert errors[1] < 2e-4
    assert errors[1] < 0.5 * errors[0] or errors[0] < 1e-9
    whole = mesh_of(SOLIDS[solid](**values, chord=1e-3))
    assert meshes[0].bounds[:, 2] == pytest.approx(whole.bounds[:, 2], abs=1e-9)


def test_a_chamfered_cylinder_is_the_revolved_profile() -> None:
    one = mesh_of(SOLIDS["cylinder"](5.0, 4.0, chamfer=1.0, chord=0.02))
    other = mesh_of(SOLIDS["revolve"](((0, 0), (4, 0), (5, 1), (5, 3), (4, 4), (0, 4)), chord=0.02))
    assert one.volume == pytest.approx(other.volume, rel=1e-9)


def test_a_prism_of_many_sides_is_broken_as_a_cylinder_is() -> None:
    prism = mesh_of(SOLIDS["prism"](256, 4.0, radius=5.0, fillet=1.0, chord=1e-3))
    cylinder = mesh_of(SOLIDS["cylinder"](5.0, 4.0, fillet=1.0, chord=1e-3))
    assert prism.volume == pytest.approx(cylinder.volume, rel=1e-3)


@pytest.mark.parametrize(
    ("solid", "values", "edges", "place"),
    [
        ("box", {"size": (9, 7, 5)}, {"chamfer": (("top", 3.6),)}, "chamfer.top"),
        ("box", {"size": (9, 7, 5)}, {"fillet": (("upright", 3.6),)}, "fillet.upright"),
        ("box", {"size": (9, 7, 5)}, {"chamfer": 2.6}, "chamfer"),
        ("box", {"size": (9, 7, 5)}, {"chamfer": 0}, "chamfer"),
        ("box", {"size": (9, 7, 5)}, {"chamfer": 1, "fillet": (("top", 1),)}, "fillet.top"),
        ("cylinder", {"radius": 5, "height": 4}, {"fillet": (("upright", 1),)}, "fillet.upright"),
        ("cylinder", {"radius": 5, "height": 4}, {"fillet": (("top", 5.5),)}, "fillet.top"),
        ("cone", {"radius": 5, "top": 0, "height": 4}, {"chamfer": (("top", 1),)}, "chamfer.top"),
        ("revolve", {"profile": ((0, 0), (3, 0), (3, 2), (0, 2))}, {"chamfer": (("top_inner", 1),)}, "chamfer.top_inner"),
        ("gear", {"module": 1, "teeth": 20, "height": 5}, {"chamfer": 2.0}, "chamfer"),
    ],
)
def test_an_edge_that_cannot_be_broken_is_named(solid: str, values: dict, edges: dict, place: str) -> None:
    with pytest.raises(cad.InputError) as caught:
        SOLIDS[solid](**values, **edges, chord=0.02)
    assert caught.value.place == place


# What a solid refuses


@pytest.mark.parametrize("solid", [s for s in SOLIDS if s not in ("extrude", "revolve")])
def test_a_length_of_zero_is_named(solid: str) -> None:
    values = CASES.get(solid, [({"module": 1, "teeth": 17, "height": 3}, 0)])[0][0]
    name = "height" if "height" in values else next(iter(values))
    broken = (0, *values[name][1:]) if isinstance(values[name], tuple) else 0
    with pytest.raises(cad.InputError) as caught:
        SOLIDS[solid](**{**values, name: broken}, chord=0.02)
    assert caught.value.place.startswith(name)
    assert caught.value.wanted == "a length above 0 mm"


@pytest.mark.parametrize(
    ("solid", "values", "place"),
    [
        ("cone", {"radius": 1, "top": -1, "height": 1}, "top"),
        ("prism", {"sides": 2.5, "height": 1, "radius": 1}, "sides"),
        ("prism", {"sides": 6, "height": 1}, "across_flats"),
        ("prism", {"sides": 6, "height": 1, "radius": 1, "across_flats": 1}, "across_flats"),
        ("tube", {"radius": 1, "inner": 1, "height": 1}, "inner"),
        ("torus", {"radius": 1, "tube": 1}, "tube"),
        ("extrude", {"polygon": ((0, 0), (1, 1), (1, 0), (0, 1)), "height": 1}, "polygon"),
        ("extrude", {"polygon": ((0, 0), (1, 1), (2, 2)), "height": 1}, "polygon"),
        ("revolve", {"profile": ((-1, 0), (1, 0), (1, 1))}, "profile"),
        ("thread", {"diameter": 4, "pitch": 2, "height": 9}, "pitch"),
        ("thread", {"diameter": 4, "pitch": 0.01, "height": 9}, "pitch"),
        ("vane", {"inner": 4, "radius": 4, "angle": 30, "thickness": 1, "height": 1}, "inner"),
        ("vane", {"inner": 2, "radius": 4, "angle": 0, "thickness": 1, "height": 1}, "angle"),
        ("vane", {"inner": 0.5, "radius": 9, "angle": 5, "thickness": 2, "height": 1}, "thickness"),
        ("strip", {"path": ((0, 0), (0, 0), (1, 1)), "thickness": 0.1, "height": 1}, "path"),
        ("strip", {"path": ((0, 0), (4, 0), (4, 4)), "thickness": 1, "height": 1, "bend": 0.4}, "bend"),
        ("strip", {"path": ((0, 0), (4, 0), (4, 4)), "thickness": 1, "height": 1, "bend": 5}, "bend"),
        ("strip", {"path": ((0, 0), (4, 0), (2, 3), (2, -3)), "thickness": 1, "height": 1}, "path"),
        ("gear", {"module": 1, "teeth": 5, "height": 1}, "teeth"),
        ("gear", {"module": 1, "teeth": 20, "height": 1, "pressure_angle": 90}, "pressure_angle"),
    ],
)
def test_a_shape_that_cannot_be_is_named_by_its_field(solid: str, values: dict, place: str) -> None:
    with pytest.raises(cad.InputError) as caught:
        SOLIDS[solid](**values, chord=0.02)
    assert caught.value.place == place


def test_the_fields_of_a_solid_are_those_of_its_function() -> None:
    assert fields("prism") == {"sides": True, "height": True, "across_flats": False, "radius": False, "chamfer": False, "fillet": False}


# Where a feature stands: rotate, then at; repeat


def test_rotate_comes_before_at() -> None:
    mesh = made("add: box, size: [2, 4, 6], rotate: [0, 0, 90], at: [10, 0, 0]")
    assert mesh.bounds == pytest.approx(np.array([[8, -1, -3], [12, 1, 3]]), abs=1e-9)


def test_rotate_is_x_then_y_then_z() -> None:
    # a rod along +z: x turns it to -y, y leaves it there, z turns it to +x
    mesh = made("add: cylinder, radius: 1, height: 10, rotate: [90, 90, 90]")
    assert mesh.bounds[:, 0] == pytest.approx([0, 10], abs=1e-9)


def test_a_turn_is_counter_clockwise() -> None:
    mesh = made(
        "add: box, size: [2, 2, 2], at: [5, 0, 0], rotate: [0, 0, 30]", "add: box, size: [10, 0.1, 0.1], rotate: [0, 0, 30], at: [0, 0, 0]"
    )
    rod = mesh.vertices[np.unique(mesh.faces[mesh.feature == 2])]
    assert (rod[:, 0] * rod[:, 1]).max() > 0  # into the first quadrant
    far = rod[np.argmin(rod[:, 0])]
    assert math.degrees(math.atan2(-far[1], -far[0])) == pytest.approx(30, abs=1)


def test_a_repeat_turns_the_placed_solid_about_the_origin() -> None:
    mesh = made("add: box, size: [2, 1, 2], at: [5, 0, 7], repeat: {count: 4}")
    assert mesh.volume == pytest.approx(4 * 4, rel=1e-9)
    assert mesh.bounds == pytest.approx(np.array([[-6, -6, 6], [6, 6, 8]]), abs=1e-9)


def test_a_repeat_with_a_radius_lies_on_a_circle_about_at() -> None:
    mesh = made("add: sphere, radius: 1, at: [10, 20, 30], repeat: {count: 3, radius: 4}", chord=0.01)
    one = made("add: sphere, radius: 1", chord=0.01)
    assert mesh.volume == pytest.approx(3 * one.volume, rel=1e-9)
    distance = np.linalg.norm(mesh.vertices[:, :2] - [10, 20], axis=1)
    assert distance.min() == pytest.approx(3, abs=0.01)
    assert distance.max() == pytest.approx(5, abs=0.01)
    assert mesh.bounds[:, 2] == pytest.approx([29, 31], abs=1e-9)


@pytest.mark.parametrize("axis", ["x", "y", "z", "[1, 1, 0]"])
def test_a_repeat_goes_round_its_axis(axis: str) -> None:
    mesh = made(f"add: sphere, radius: 1, repeat: {{count: 5, radius: 4, axis: {axis}}}", chord=0.02)
    direction = {"x": (1, 0, 0), "y": (0, 1, 0), "z": (0, 0, 1)}.get(axis, (math.sqrt(0.5), math.sqrt(0.5), 0))
    # every point is a point of a sphere whose middle is 4 mm from the axis, on the plane across it
    assert abs(mesh.vertices @ direction).max() == pytest.approx(1, abs=0.02)
    assert np.linalg.norm(mesh.vertices.mean(0)) < 1e-9


def test_copies_that_meet_are_one_solid() -> None:
    once, often = made("add: box, size: [4, 4, 2]"), made("add: box, size: [4, 4, 2], repeat: {count: 4}")
    assert often.volume == pytest.approx(once.volume, rel=1e-9)
    assert often.watertight


@pytest.mark.parametrize(("repeat", "place"), [("{count: 0}", "count"), ("{count: 2, axis: [0, 0, 0]}", "axis"), ("{count: 2, axis: w}", "axis"), ("{count: 2, radius: r}", "radius")])  # fmt: skip
def test_a_repeat_that_cannot_be_is_named_by_its_key(repeat: str, place: str) -> None:
    with pytest.raises(cad.InputError, match=rf"^features\.0\.repeat\.{place}: "):
        made(f"add: box, size: [1, 1, 1], repeat: {repeat}")


def test_a_repeat_with_a_step_goes_in_a_row() -> None:
    mesh = made("add: box, size: [2, 2, 2], at: [1, 0, 0], repeat: {count: 3, step: [5, 0, 1]}")
    assert mesh.volume == pytest.approx(3 * 8, rel=1e-9)
    assert mesh.bounds == pytest.approx(np.array([[0, -1, -1], [12, 1, 3]]), abs=1e-9)


def test_a_step_and_a_circle_are_two_repeats() -> None:
    with pytest.raises(cad.InputError, match=r"features\.0\.repeat: .*step goes in a row"):
        made("add: box, size: [1, 1, 1], repeat: {count: 2, step: [1, 0, 0], radius: 4}")


def test_many_copies_that_meet_are_the_solid_that_few_make() -> None:
    row = made("add: box, size: [2, 1, 1], repeat: {count: 99, step: [1, 0, 0]}")
    assert row.volume == pytest.approx(100, rel=1e-9)
    assert row.watertight


@pytest.mark.parametrize(("mirror", "copies"), [("x", 2), ("[x]", 2), ("[x, y]", 4), ("[x, y, z]", 8)])
def test_a_mirror_keeps_the_solid_and_adds_its_image(mirror: str, copies: int) -> None:
    mesh = made(f"add: cone, radius: 1, top: 0.5, height: 2, at: [5, 7, 9], mirror: {mirror}", chord=0.01)
    one = made("add: cone, radius: 1, top: 0.5, height: 2", chord=0.01)
    assert mesh.volume == pytest.approx(copies * one.volume, rel=1e-9)
    for axis in range(3):
        mirrored = "xyz"[axis] in mirror
        assert (mesh.bounds[0, axis] == pytest.approx(-mesh.bounds[1, axis], abs=1e-9)) == mirrored


def test_the_mirror_image_of_a_thread_is_left_handed() -> None:
    mesh = made("add: thread, diameter: 8, pitch: 1.25, height: 5, at: [10, 0, 0], mirror: x")
    x, y, z = mesh.vertices[(mesh.vertices[:, 0] < 0) & (mesh.vertices[:, 2] > 1e-6) & (mesh.vertices[:, 2] < 5 - 1e-6)].T
    assert np.hypot(x + 10, y) == pytest.approx(thread_radius(-(x + 10), y, z, 8, 1.25), abs=1e-6)


def test_a_plane_that_is_none_is_named() -> None:
    with pytest.raises(cad.InputError, match=r"^features\.0\.mirror"):
        made("add: box, size: [1, 1, 1], mirror: w")


# Budgets


def test_a_repeat_of_too_many_triangles_is_refused() -> None:
    with pytest.raises(cad.InputError, match=r"features\.0\.repeat\.count: 720 copies have \d+ triangles; wanted at most 400000"):
        made("add: sphere, radius: 90, repeat: {count: 720, radius: 9000}")


def test_a_build_that_takes_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cad.build.MAX_SECONDS", 0.0)
    with pytest.raises(cad.InputError, match=r"features\.0: the part is not built after 0 s; wanted fewer copies or facets"):
        made("add: box, size: [1.25, 1, 1]")
