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
        ("gear", {"module": 1, "teeth": 5, "height": 1}, "teeth"),
        ("gear", {"module": 1, "teeth": 20, "height": 1, "pressure_angle": 90}, "pressure_angle"),
    ],
)
def test_a_shape_that_cannot_be_is_named_by_its_field(solid: str, values: dict, place: str) -> None:
    with pytest.raises(cad.InputError) as caught:
        SOLIDS[solid](**values, chord=0.02)
    assert caught.value.place == place


def test_the_fields_of_a_solid_are_those_of_its_function() -> None:
    assert fields("prism") == {"sides": True, "height": True, "across_flats": False, "radius": False}


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
