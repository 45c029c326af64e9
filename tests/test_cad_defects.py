"""The kinds of defect: each does what its name says, by as much as its severity says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad

import cad
from cad.defects import DEFECTS
from cad.deviation import deviation, distance
from cad.part import SHELF

TEXT = (SHELF / "notched_cap.yaml").read_text(encoding="utf-8")
MORE = """defects:
  dent:      {kind: dent, on: crown, height: [0.4, 1.2], diameter: [4.0, 10.0]}
  anywhere:  {kind: bulge, height: [0.5, 1.0], diameter: [2.0, 6.0]}
  no-notch:  {kind: missing, on: notch}
  broken:    {kind: missing, on: crown, fraction: [0.1, 0.3]}
  boss:      {kind: extra, on: crown, diameter: [2.0, 4.0], height: [1.0, 2.0]}
  hole:      {kind: extra, on: crown, diameter: [2.0, 4.0], height: [3.0, 4.0], shape: hole}
  chip:      {kind: chip, size: [2.0, 4.0]}
  burr:      {kind: burr, on: skirt, height: [0.3, 1.0], length: [4.0, 12.0]}
  crack:     {kind: crack, on: crown, depth: [0.3, 1.0], length: [3.0, 8.0]}
  unfilled:  {kind: short_shot, depth: [0.5, 3.0]}
  low:       {kind: short_shot, on: crown, depth: [0.3, 1.0], direction: [0, 0, 1]}
  bend:      {kind: bend, angle: [2.0, 8.0], axis: [0, 1, 0]}
  twist:     {kind: twist, angle: [5.0, 20.0]}
  scale:     {kind: scale, by: [0.9, 1.1]}
  stretch:   {kind: scale, by: [0.9, 1.1], axis: [1, 1, 0]}
  shift:     {kind: shift, on: notch, by: [0.5, 2.0], direction: [1, 0, 0]}
  slip:      {kind: shift, on: notch, by: [0.5, 2.0]}
"""
NAMES = [
    "bulge",
    "short-notch",
    "dent",
    "anywhere",
    "no-notch",
    "broken",
    "boss",
    "hole",
    "chip",
    "burr",
    "crack",
    "unfilled",
    "low",
    "bend",
    "twist",
    "scale",
    "stretch",
    "shift",
    "slip",
]
PLATE = """part: plate
features: [{name: plate, add: box, size: [200, 200, 20]}]
defects:
  bulge: {kind: bulge, height: [0.5, 2.0], diameter: [8.0, 12.0]}
  dent:  {kind: dent, height: [0.5, 2.0], diameter: [8.0, 12.0]}
  boss:  {kind: extra, diameter: [4.0, 8.0], height: [1.0, 3.0]}
  hole:  {kind: extra, diameter: [4.0, 8.0], height: [1.0, 3.0], shape: hole}
"""  # so large that none of these meets an edge


@pytest.fixture(scope="module")
def part() -> cad.Part:
    head, tail = TEXT.split("defects:", 1)
    return cad.parse(head + MORE + tail.split("\n", 1)[1])


@pytest.fixture(scope="module")
def plate() -> cad.Part:
    return cad.parse(PLATE)


def made(part: cad.Part, name: str, seed: int = 0, severity: float | None = None) -> tuple[cad.Mesh, cad.DefectRecord]:
    return part.with_defect(name, np.random.default_rng(seed), severity=severity)


def same(a: cad.Mesh, b: cad.Mesh) -> bool:
    return np.array_equal(a.vertices, b.vertices) and np.array_equal(a.faces, b.faces) and np.array_equal(a.feature, b.feature)


# Laws of all kinds


def test_every_kind_and_every_defect_is_tried_here(part: cad.Part) -> None:
    assert {spec.kind for spec in part.defects.values()} == DEFECTS.keys()
    assert set(NAMES) == part.defects.keys()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_defective_part_is_watertight_and_differs_from_the_good_one(part: cad.Part, name: str, seed: int) -> None:
    mesh, _ = made(part, name, seed)
    assert mesh.watertight
    assert mesh.names == part.names
    good = part.mesh()
    assert not (mesh.faces.shape == good.faces.shape and np.allclose(mesh.vertices, good.vertices, atol=1e-6))


@pytest.mark.parametrize("name", NAMES)
def test_the_same_generator_makes_the_same_mesh_and_record(part: cad.Part, name: str) -> None:
    (mesh, record), (again, recorded) = made(part, name, 5), made(part, name, 5)
    assert same(mesh, again)
    assert record == recorded


@pytest.mark.parametrize("name", NAMES)
def test_the_drawn_severity_lies_in_the_range_of_the_file(part: cad.Part, name: str) -> None:
    low, high = part.defects[name].range
    _, record = made(part, name, 3)
    assert low <= record.severity <= high
    assert (record.name, record.kind) == (name, part.defects[name].kind)


@pytest.mark.parametrize("name", NAMES)
def test_a_given_severity_replaces_the_drawn_one_and_leaves_all_else_the_same(part: cad.Part, name: str) -> None:
    drawn_mesh, drawn = made(part, name, 4)
    given_mesh, given = made(part, name, 4, severity=drawn.severity)
    assert same(drawn_mesh, given_mesh)
    assert given == drawn
    _, other = made(part, name, 4, severity=(drawn.severity + part.defects[name].range[0]) / 2)
    assert other.features == drawn.features
    if name != "broken":  # the middle of a longer gap lies elsewhere
        assert other.where == drawn.where


@pytest.mark.parametrize("name", NAMES)
def test_a_defect_starts_from_the_dimensions_it_is_given(part: cad.Part, name: str) -> None:
    dimensions = {**part.nominal, "radius": 14.09}
    mesh, _ = part.with_defect(name, np.random.default_rng(0), dimensions=dimensions, severity=part.defects[name].range[0])
    plain, _ = made(part, name, 0, severity=part.defects[name].range[0])
    assert mesh.volume > plain.volume  # 0.09 mm of radius at the same wall: 0.7 % more of it


@pytest.mark.parametrize("name", NAMES)
def test_a_record_is_plain_json(part: cad.Part, name: str) -> None:
    import json

    _, record = made(part, name)
    assert json.loads(json.dumps(record.json(), allow_nan=False))["severity"] == record.severity
    assert set(record.features) <= set(part.names)


def test_an_unknown_defect_names_the_nearest(part: cad.Part) -> None:
    with pytest.raises(cad.InputError, match=r'no defect "bluge" \(did you mean "bulge"'):
        made(part, "bluge")


# Bulge and dent


@pytest.mark.parametrize("name", ["bulge", "dent", "anywhere"])
@pytest.mark.parametrize("seed", range(4))
def test_the_largest_deviation_of_a_bump_is_its_severity(part: cad.Part, name: str, seed: int) -> None:
    flat, _ = made(part, name, seed, severity=0.0)  # the same triangles, not moved
    mesh, record = made(part, name, seed, severity=1.0)
    # the cosine's top may fall between vertices that are a sixth of the radius apart: 1 - cos(pi / 12) of half the height at most
    assert np.linalg.norm(mesh.vertices - flat.vertices, axis=1).max() == pytest.approx(1.0, rel=0.05)
    moved = np.linalg.norm(flat.vertices[(mesh.vertices != flat.vertices).any(1)] - record.where, axis=1)
    assert moved.max() <= 1.5 * record.details["diameter"]  # a bump is where it says, and on its side of the wall


@pytest.mark.parametrize(("name", "sign"), [("bulge", 1), ("dent", -1)])
def test_the_volume_of_a_bump_on_a_plane_is_that_of_a_raised_cosine(plate: cad.Part, name: str, sign: int) -> None:
    mesh, record = made(plate, name)
    radius = record.details["diameter"] / 2
    bump = math.pi * radius**2 * record.severity * (0.5 - 2 / math.pi**2)
    # linear between vertices a sixth of the radius apart
    assert mesh.volume - plate.mesh().volume == pytest.approx(sign * bump, rel=0.03)


@pytest.mark.parametrize(("name", "sign"), [("bulge", 1), ("dent", -1)])
def test_a_bulge_goes_out_and_a_dent_in(part: cad.Part, name: str, sign: int) -> None:
    for seed in range(3):
        mesh, _ = made(part, name, seed, severity=1.0)
        assert sign * (mesh.volume - part.mesh().volume) > 1.0  # mm3: the smallest bump has 3.7


def test_a_bulge_sits_on_its_feature_and_spares_the_other_side_of_the_wall(part: cad.Part) -> None:
    d = part.nominal
    for seed in range(4):
        mesh, record = made(part, "bulge", seed)
        x, y, z = record.where
        assert record.features == ("crown",)
        # a point of a facet lies a chord inside the ellipsoid
        assert (math.hypot(x, y) / d["radius"]) ** 2 + ((z - d["height"]) / d["dome"]) ** 2 == pytest.approx(1.0, abs=0.01)
        cavity = part.names.index("cavity") + 1
        assert np.array_equal(mesh.triangles[mesh.feature == cavity], part.mesh().triangles[part.mesh().feature == cavity])


# Dimension


def test_a_wrong_dimension_is_the_part_built_with_it(part: cad.Part) -> None:
    mesh, record = made(part, "short-notch")
    changed = {**part.nominal, "notch_depth": part.nominal["notch_depth"] + record.severity}
    assert same(mesh, part.mesh(changed))
    assert record.details == {"value": changed["notch_depth"]}
    assert record.features == ("notch",)


def test_a_notch_that_is_too_short_leaves_the_wall_that_the_formula_says(part: cad.Part) -> None:
    mesh, _ = made(part, "short-notch", severity=-2.5)
    assert mesh.volume - part.mesh().volume == pytest.approx(2.5 * wall_within(-3.0, 3.0), rel=5e-3)  # facets of the wall


def wall_within(low: float, high: float) -> float:
    """mm2: of the cap's wall, seen from below, on the notch's side and between two x."""
    return quad(lambda x: math.sqrt(14.0**2 - x**2) - math.sqrt(12.4**2 - x**2), low, high)[0]


# Missing


def test_a_missing_feature_is_the_part_without_it(part: cad.Part) -> None:
    mesh, record = made(part, "no-notch")
    assert same(mesh, part.mesh(without="notch"))
    assert (record.severity, record.features, record.where) == (1.0, ("notch",), None)


@pytest.mark.parametrize("fraction", [0.1, 0.35, 0.6])
def test_a_broken_ring_has_lost_its_fraction(fraction: float) -> None:
    ring = cad.parse("part: r\nfeatures: [{name: ring, add: tube, radius: 9, inner: 7, height: 4}]\ndefects: {gap: {kind: missing, on: ring, fraction: [0.1, 0.9]}}")  # fmt: skip
    mesh, record = made(ring, "gap", severity=fraction)
    assert mesh.watertight
    # the ring is a polygon, its sector cut between corners
    assert mesh.volume == pytest.approx((1 - fraction) * ring.mesh().volume, rel=5e-3)
    middle = math.atan2(record.where[1], record.where[0])
    angles = np.arctan2(mesh.vertices[:, 1], mesh.vertices[:, 0])
    away = abs((angles - middle + np.pi) % (2 * np.pi) - np.pi)
    assert away.min() == pytest.approx(math.pi * fraction, abs=1e-4)  # nothing is left about the middle of the gap


def test_what_is_broken_out_of_the_crown_is_broken_out_of_the_crown(part: cad.Part) -> None:
    mesh, record = made(part, "broken")
    good = part.mesh()
    assert record.features == ("crown",)
    assert mesh.volume < good.volume
    skirt = part.names.index("skirt") + 1
    d = part.nominal
    bared = (
        record.severity * math.pi * (d["radius"] ** 2 - (d["radius"] - d["wall"]) ** 2)
    )  # of the skirt's upper end, where the crown stood
    assert mesh.areas[mesh.feature == skirt].sum() == pytest.approx(good.areas[good.feature == skirt].sum() + bared, rel=2e-3)


# Extra and chip


@pytest.mark.parametrize(("name", "sign"), [("boss", 1), ("hole", -1)])
@pytest.mark.parametrize("seed", range(3))
def test_a_boss_or_hole_on_a_plane_has_the_volume_of_its_cylinder(plate: cad.Part, name: str, sign: int, seed: int) -> None:
    mesh, record = made(plate, name, seed)
    circle = 24 * (record.severity / 2) ** 2 * math.sin(2 * math.pi / 48)  # of 48 sides
    assert mesh.volume - plate.mesh().volume == pytest.approx(sign * circle * record.details["height"], rel=1e-6)


@pytest.mark.parametrize(("name", "sign"), [("boss", 1), ("hole", -1)])
def test_the_faces_of_a_boss_bear_the_feature_it_stands_on(part: cad.Part, name: str, sign: int) -> None:
    mesh, record = made(part, name)
    good = part.mesh()
    assert sign * (mesh.volume - good.volume) > 0
    assert record.features == ("crown",)
    crown = mesh.triangles[mesh.feature == part.names.index("crown") + 1]
    near = np.linalg.norm(crown - record.where, axis=2).min(1) < record.severity
    assert near.sum() > 48  # the wall of the cylinder alone has that many


@pytest.mark.parametrize("seed", range(6))
def test_a_chip_is_a_bite_out_of_a_sharp_edge(part: cad.Part, seed: int) -> None:
    mesh, record = made(part, "chip", seed)
    good, half = part.mesh(), record.severity / 2
    assert 0 < good.volume - mesh.volume < 4 / 3 * math.pi * half**3
    start, end = np.moveaxis(good.vertices[good.sharp_edges()], 1, 0)
    detour = np.linalg.norm(record.where - start, axis=1) + np.linalg.norm(record.where - end, axis=1) - np.linalg.norm(end - start, axis=1)
    assert min(detour) == pytest.approx(0, abs=1e-9)  # on one of the edges
    kept = {tuple(v) for v in good.vertices.round(6)}
    new = np.array([v for v in mesh.vertices if tuple(v.round(6)) not in kept])
    assert np.linalg.norm(new - record.where, axis=1).max() <= half + 1e-6
    assert len(record.features) == 1


def test_a_feature_without_an_edge_cannot_be_chipped() -> None:
    ball = cad.parse("part: b\nfeatures: [{name: ball, add: sphere, radius: 5}]\ndefects: {c: {kind: chip, on: ball, size: [1, 2]}}")
    with pytest.raises(cad.InputError, match="has no sharp edge to chip"):
        made(ball, "c")


# What a severity in mm is: the largest distance from the good surface

BLOCK = """part: block
dimensions: {hole: 10}
features:
  - {name: block, add: box, size: [60, 50, 40], fillet: {upright: 8}}
  - {name: post, add: cylinder, radius: 12, height: 45}
  - {name: hole, cut: cylinder, radius: hole / 2, height: 90, at: [0, 0, -30]}
defects:
  bulge:    {kind: bulge, height: [0.5, 2], diameter: [5, 9]}
  dent:     {kind: dent, height: [0.5, 2], diameter: [5, 9]}
  burr:     {kind: burr, height: [0.3, 1.5], length: [4, 20]}
  crack:    {kind: crack, depth: [0.5, 2], length: [4, 12]}
  unfilled: {kind: short_shot, depth: [0.5, 4]}
  low-post: {kind: short_shot, on: post, depth: [0.5, 4], direction: [0, 0, 1]}
  off-hole: {kind: shift, on: hole, by: [0.3, 2]}
  bore:     {kind: dimension, dimension: hole, by: [0.5, 3]}
"""


@pytest.fixture(scope="module")
def block() -> cad.Part:
    return cad.parse(BLOCK)


def far_from_edges(mesh: cad.Mesh, where: tuple[float, float, float] | None, reach: float) -> bool:
    """Whether no edge is so near that another face is nearer than the one the defect sits on."""
    edges = mesh.vertices[mesh.sharp_edges()]
    return where is None or not len(edges) or distance(np.asarray(where), edges[:, [0, 1, 1]]) > reach


@pytest.mark.parametrize("name", ["bulge", "dent", "burr", "crack", "unfilled", "low-post", "off-hole"])
def test_the_largest_distance_from_the_good_surface_is_the_severity(block: cad.Part, name: str) -> None:
    good, checked = block.mesh(), 0
    for seed in range(6):
        mesh, record = made(block, name, seed)
        if name in ("bulge", "dent", "crack") and not far_from_edges(good, record.where, 1.5 * record.severity):
            continue
        # 5 %: facets of the bump and of the front of the melt
        assert deviation(mesh, good) == pytest.approx(record.severity, rel=0.05)
        checked += 1
    assert checked >= 3


@pytest.mark.parametrize("name", ["boss", "hole"])
def test_the_height_of_an_extra_is_its_distance_from_the_good_surface(plate: cad.Part, name: str) -> None:
    for seed in range(3):
        mesh, record = made(plate, name, seed)
        assert deviation(mesh, plate.mesh()) == pytest.approx(record.details["height"], rel=1e-6)


def test_a_diameter_that_is_off_moves_the_wall_by_half_of_it(block: cad.Part) -> None:
    mesh, record = made(block, "bore")
    assert deviation(mesh, block.mesh()) == pytest.approx(record.severity / 2, rel=0.05)


def test_a_shape_does_not_deviate_from_itself_and_a_moved_one_by_as_much_as_it_was_moved(block: cad.Part) -> None:
    good = block.mesh()
    assert deviation(good, good) == 0.0
    assert deviation(good, good.moved(good.vertices + np.array([0.0, 0.0, 0.7]))) == pytest.approx(0.7, rel=1e-9)


def test_the_distance_from_a_triangle_is_known_on_all_of_its_sides() -> None:
    triangle = np.array([[[0.0, 0, 0], [4, 0, 0], [0, 3, 0]]])
    points = {(1, 1, 2): 2, (2, -5, 0): 5, (-3, -4, 0): 5, (7, -4, 0): 5, (4, 3, 0): 12 / 5, (0.5, 0.5, 0): 0}
    for point, expected in points.items():
        assert distance(np.array(point, float), triangle) == pytest.approx(expected, abs=1e-12)


# Burr, crack, short shot


@pytest.mark.parametrize("seed", range(4))
def test_a_burr_runs_along_an_edge_for_its_length_and_adds_little(block: cad.Part, seed: int) -> None:
    good = block.mesh()
    mesh, record = made(block, "burr", seed)
    assert not far_from_edges(good, record.where, 1e-6)
    known = {tuple(v) for v in good.vertices.round(6)}
    new = np.array([v for v in mesh.vertices if tuple(v.round(6)) not in known])
    assert np.linalg.norm(new - record.where, axis=1).max() <= record.details["length"] / 2 + record.severity + 1e-6
    # a fin: never wider than 0.4 of its height
    assert 0 < mesh.volume - good.volume < 0.2 * record.severity**2 * record.details["length"]


@pytest.mark.parametrize("seed", range(4))
def test_a_crack_takes_a_thin_wedge(plate_of_cracks: cad.Part, seed: int) -> None:
    good = plate_of_cracks.mesh()
    mesh, record = made(plate_of_cracks, "crack", seed)
    depth, length, width = record.severity, record.details["length"], record.details["width"]
    # half of depth x width in its middle; it runs out to 0.3 of that depth
    assert 0.25 * depth * width * length < good.volume - mesh.volume < 0.5 * depth * width * length
    known = {tuple(v) for v in good.vertices.round(6)}
    new = np.array([v for v in mesh.vertices if tuple(v.round(6)) not in known])
    assert np.linalg.norm(new - record.where, axis=1).max() <= math.hypot(0.5, 0.1) * length + depth


@pytest.fixture(scope="module")
def plate_of_cracks() -> cad.Part:
    return cad.parse(PLATE + "  crack: {kind: crack, depth: [1, 3], length: [6, 12], width: [0.2, 0.5]}\n")


def test_a_crack_on_a_narrow_face_is_as_long_as_there_is_room() -> None:
    part = cad.parse(
        "part: p\nfeatures: [{name: sheet, add: box, size: [8, 8, 0.5]}]\ndefects: {crack: {kind: crack, depth: [0.2, 0.2], length: [6, 6]}}"
    )
    lengths = []
    for seed in range(40):
        mesh, record = made(part, "crack", seed)
        assert mesh.watertight
        assert mesh.volume < part.mesh().volume
        lengths.append(record.details["length"])
    assert max(lengths) == 6
    assert min(lengths) < 2  # on a side, half a millimetre wide


@pytest.mark.parametrize("direction", [(0, 0, 1), (1, 0, 0), (1, 1, 1)])
def test_a_short_shot_ends_at_its_depth_and_leaves_the_rest(direction: tuple[int, int, int]) -> None:
    part = cad.parse(
        f"part: p\nfeatures: [{{name: bar, add: box, size: [20, 20, 60]}}]\ndefects: {{s: {{kind: short_shot, depth: [2, 6], direction: {list(direction)}}}}}"
    )
    mesh, record = made(part, "s")
    along = np.asarray(direction) / np.linalg.norm(direction)
    good = part.mesh()
    assert (good.vertices @ along).max() - (mesh.vertices @ along).max() == pytest.approx(
        record.severity, rel=0.35
    )  # the front is round: flatter in the middle
    assert (mesh.vertices @ along).min() == pytest.approx((good.vertices @ along).min())
    assert (np.linalg.norm(mesh.vertices - good.vertices[:, None], axis=2).min(1) > 1e-6).any()


def test_a_short_shot_of_one_feature_spares_the_others(block: cad.Part) -> None:
    mesh, record = made(block, "low-post")
    assert record.features == ("post",)
    assert mesh.bounds[1, 2] == pytest.approx(45 - record.severity, rel=0.01)
    own, good = mesh.feature == 1, block.mesh().feature == 1
    assert mesh.areas[own].sum() == pytest.approx(block.mesh().areas[good].sum(), rel=1e-3)


def test_a_short_shot_needs_a_feature_that_is_filled_and_leaves_some_of_it() -> None:
    body, hole = "{name: a, add: box, size: [9, 9, 9]}", "{name: c, cut: box, size: [5, 5, 5], at: [4, 4, 4]}"
    with pytest.raises(cad.InputError, match="leaves an empty part"):
        made(cad.parse(f"part: p\nfeatures: [{body}]\ndefects: {{s: {{kind: short_shot, on: a, depth: [20, 20]}}}}"), "s")
    with pytest.raises(cad.InputError, match="feature c is a hole or a trim"):
        made(cad.parse(f"part: p\nfeatures: [{body}, {hole}]\ndefects: {{s: {{kind: short_shot, on: c, depth: [1, 1]}}}}"), "s")


def test_holes_in_a_missing_feature_are_missing_with_it() -> None:
    text = "part: p\nfeatures: [{name: a, add: box, size: [9, 9, 9]}, {name: ear, add: box, size: [9, 4, 2], at: [8, 0, 0]}, {name: hole, cut: cylinder, radius: 1, height: 9, at: [10, 0, -4]}]\n"
    part = cad.parse(text + "defects: {gone: {kind: missing, on: ear}}")
    mesh, _ = made(part, "gone")
    assert mesh.volume == pytest.approx(729, rel=1e-12)
    with pytest.raises(cad.InputError, match=r"feature hole .* changes nothing"):  # as a part of its own it is still a mistake
        cad.parse(text.replace("{name: ear, add: box, size: [9, 4, 2], at: [8, 0, 0]}, ", ""))


# Bend, twist, scale, shift


@pytest.mark.parametrize("name", ["bend", "twist"])
def test_bending_and_twisting_keep_the_volume(part: cad.Part, name: str) -> None:
    mesh, _ = made(part, name)
    assert mesh.volume == pytest.approx(part.mesh().volume, rel=0.01)


@pytest.fixture(scope="module")
def rod() -> cad.Part:
    return cad.parse(
        "part: rod\nfeatures: [{name: rod, add: box, size: [2, 4, 40]}]\n"
        "defects: {bend: {kind: bend, angle: [0, 90]}, twist: {kind: twist, angle: [0, 90]}}"
    )


def ends(mesh: cad.Mesh, straight: cad.Mesh) -> tuple[np.ndarray, np.ndarray]:
    """The faces at the lower and at the upper end of the straight rod."""
    z = straight.triangles[..., 2]
    return (z < -20 + 1e-9).all(1), (z > 20 - 1e-9).all(1)


@pytest.mark.parametrize("angle", [10.0, 60.0])
def test_the_ends_of_a_bent_rod_stand_at_the_angle(rod: cad.Part, angle: float) -> None:
    straight, bent = made(rod, "bend", severity=1e-6)[0], made(rod, "bend", severity=angle)[0]
    low, high = ends(bent, straight)
    one, other = -bent.face_normals[low].mean(0), bent.face_normals[high].mean(0)
    assert math.degrees(math.acos(one @ other)) == pytest.approx(angle, abs=1e-6)
    # Pappus: the middle of the section keeps its length, so the volume; chords of an arc of 40 / 24 mm
    assert bent.volume == pytest.approx(320, rel=2e-3)


def test_a_rod_bent_by_nothing_is_the_rod(rod: cad.Part) -> None:
    assert made(rod, "bend", severity=0.0)[0].volume == pytest.approx(320, rel=1e-12)


@pytest.mark.parametrize("angle", [15.0, 80.0])
def test_the_ends_of_a_twisted_rod_are_turned_by_the_angle(rod: cad.Part, angle: float) -> None:
    straight, twisted = made(rod, "twist", severity=0.0)[0], made(rod, "twist", severity=angle)[0]
    turned = np.degrees(
        np.arctan2(twisted.vertices[:, 1], twisted.vertices[:, 0]) - np.arctan2(straight.vertices[:, 1], straight.vertices[:, 0])
    )
    off_axis = np.hypot(straight.vertices[:, 0], straight.vertices[:, 1]) > 0.1
    turned = (turned[off_axis] + 180) % 360 - 180
    assert turned == pytest.approx(angle * straight.vertices[off_axis, 2] / 40, abs=1e-6)


@pytest.mark.parametrize(("name", "power"), [("scale", 3), ("stretch", 1)])
@pytest.mark.parametrize("factor", [0.8, 1.2])
def test_scaling_changes_the_volume_by_its_factor_for_each_direction(part: cad.Part, name: str, power: int, factor: float) -> None:
    mesh, _ = made(part, name, severity=factor)
    assert mesh.volume == pytest.approx(factor**power * part.mesh().volume, rel=1e-9)


def test_stretching_acts_along_its_axis_alone(part: cad.Part) -> None:
    good, axis = part.mesh(), np.array([1.0, 1.0, 0.0]) / math.sqrt(2)
    moved = made(part, "stretch", severity=1.2)[0].vertices - good.vertices
    assert moved - np.outer(moved @ axis, axis) == pytest.approx(0.0, abs=1e-12)
    assert np.ptp((good.vertices + moved) @ axis) == pytest.approx(1.2 * np.ptp(good.vertices @ axis), rel=1e-12)


@pytest.mark.parametrize("factor", [0.0, -1.0])
def test_a_scale_of_nothing_is_refused(part: cad.Part, factor: float) -> None:
    with pytest.raises(cad.InputError, match="a factor above 0"):
        made(part, "scale", severity=factor)


def test_a_shifted_notch_lies_where_it_was_shifted_to(part: cad.Part) -> None:
    mesh, record = made(part, "shift", severity=1.5)
    notch = mesh.triangles[mesh.feature == part.names.index("notch") + 1]
    assert [notch[..., 0].min(), notch[..., 0].max()] == pytest.approx([-1.5, 4.5], abs=1e-6)
    assert record.details == {"x": 1.5, "y": 0.0, "z": 0.0}
    gone = part.mesh(without="notch").volume - mesh.volume
    assert gone == pytest.approx(5 * wall_within(-1.5, 4.5), rel=5e-3)  # facets of the wall


def test_a_shift_without_direction_goes_across_z(part: cad.Part) -> None:
    directions = np.array([list(made(part, "slip", seed, severity=1.0)[1].details.values()) for seed in range(3)])
    assert np.linalg.norm(directions, axis=1) == pytest.approx(1.0, rel=1e-12)
    assert directions[:, 2] == pytest.approx(0.0)
    assert len(np.unique(directions.round(6), axis=0)) == 3


def test_a_broken_feature_leaves_the_others_whole() -> None:
    text = "part: h\nfeatures: [{name: disc, add: cylinder, radius: 20, height: 4}, {name: hub, add: cylinder, radius: 8, height: 12}]\n"
    part = cad.parse(text + "defects: {gone: {kind: missing, on: hub, fraction: [0.25, 0.25]}}")
    mesh, record = made(part, "gone")
    # a quarter of what the hub adds above the disc; facets are lost alike from both
    assert part.mesh().volume - mesh.volume == pytest.approx(0.25 * math.pi * 64 * 8, rel=1e-2)
    assert record.features == ("hub",)


def test_only_outer_edges_are_chipped() -> None:
    text = "part: s\nfeatures: [{name: foot, add: cylinder, radius: 10, height: 4}, {name: post, add: cylinder, radius: 5, height: 12}]\n"
    mesh = cad.parse(text).mesh()
    places = {(round(float(np.hypot(x, y)), 1), round(float(z), 1)) for x, y, z in mesh.vertices[mesh.sharp_edges()].reshape(-1, 3)}
    assert places == {(10.0, 0.0), (10.0, 4.0), (5.0, 12.0)}  # and not the inner corner at (5, 4)
