"""Features into one watertight mesh: the cap against its closed formula, faces that know who made them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad

import cad
from cad import build as building
from cad.build import build
from cad.mesh import Mesh

TINY = 1e-6  # mm: Boolean operations keep double precision, outlines are rounded to 1e-8


def cap_volume(d: dict[str, float]) -> float:
    """mm3: skirt and crown, less the cavity, less the piece of wall that the notch takes."""
    outer, inner = d["radius"], d["radius"] - d["wall"]
    shell = math.pi * (outer**2 - inner**2) * d["height"]
    shell += 2 / 3 * math.pi * (outer**2 * d["dome"] - inner**2 * (d["dome"] - d["wall"]))
    across, _ = quad(lambda x: math.sqrt(outer**2 - x**2) - math.sqrt(inner**2 - x**2), -d["notch_width"] / 2, d["notch_width"] / 2)
    return shell - across * d["notch_depth"]


def corners(mesh: Mesh, name: str) -> np.ndarray:
    """(m, 3, 3): the triangles of a feature."""
    return mesh.triangles[mesh.feature == mesh.names.index(name) + 1]


def area_by_feature(mesh: Mesh) -> np.ndarray:
    return np.bincount(mesh.feature, mesh.areas, minlength=len(mesh.names) + 1)


@pytest.fixture(scope="module")
def mesh(cap: cad.Part) -> Mesh:
    return cap.mesh()


# Volume


def test_the_cap_has_the_volume_of_its_formula(cap: cad.Part, mesh: Mesh) -> None:
    assert mesh.volume == pytest.approx(cap_volume(cap.nominal), rel=5e-3)


def test_the_volume_converges_as_the_chord_shrinks(cap: cad.Part) -> None:
    exact = cap_volume(cap.nominal)
    errors = [abs(build(cap.features, cap.nominal, chord=chord).volume - exact) / exact for chord in (0.2, 0.05, 0.0125)]
    # a quarter of the chord is a quarter of the error, but facets come in multiples of 8
    assert errors[1] < 0.5 * errors[0]
    assert errors[2] < 0.5 * errors[1]
    assert errors[2] < 2e-3  # two walls, each off by less than the chord: 2 x 0.0125 / 1.6 / 8 of it


def test_every_dimension_moves_the_volume_as_the_formula_says(cap: cad.Part) -> None:
    for name in cap.dimensions:
        low, high = ({**cap.nominal, name: cap.nominal[name] + step} for step in (-0.5, 0.5))
        change = cap.mesh(high).volume - cap.mesh(low).volume
        # the facets' own error, 0.2 % of the volume, all but cancels in the difference
        assert change == pytest.approx(cap_volume(high) - cap_volume(low), rel=0.02)


def test_the_nut_is_a_chamfered_prism_with_a_hole(nut: cad.Part) -> None:
    d = nut.nominal
    mesh = nut.mesh()
    assert mesh.bounds[:, 1] == pytest.approx([-d["across_flats"] / 2, d["across_flats"] / 2], abs=TINY)
    assert mesh.bounds[:, 2] == pytest.approx([0, d["height"]], abs=TINY)
    prism = 6 * (d["across_flats"] / 2) ** 2 * math.tan(math.pi / 6) * d["height"]
    hole = math.pi * (d["bore"] / 2) ** 2 * d["height"]
    assert 0.95 * (prism - hole) < mesh.volume < prism - hole  # the chamfer takes the corners


# Variants


def test_twenty_variants_are_watertight_and_as_large_as_their_dimensions_say(cap: cad.Part, rng: np.random.Generator) -> None:
    for _ in range(20):
        d = cap.vary(rng)
        assert all(cap.dimensions[n].low <= v <= cap.dimensions[n].high for n, v in d.items())
        variant = cap.mesh(d)
        assert variant.watertight
        assert variant.bounds[:, 2] == pytest.approx([0, d["height"] + d["dome"]], abs=TINY)
        # the polygon has corners on both axes, but for +y, where the notch is, only above it
        assert variant.bounds[:, :2] == pytest.approx(np.array([[-d["radius"]] * 2, [d["radius"]] * 2]), abs=TINY)
        assert variant.volume == pytest.approx(cap_volume(d), rel=5e-3)


def test_a_part_without_a_feature_is_the_file_without_its_entry(cap: cad.Part) -> None:
    features = [f for f in cap.features if f.name != "notch"]
    assert np.array_equal(cap.mesh(without="notch").vertices, build(features, cap.nominal, chord=cap.chord).vertices)


def test_nothing_left_to_build_is_a_mistake() -> None:
    part = cad.parse("part: p\nfeatures: [{name: only, add: box, size: [1, 1, 1]}]")
    with pytest.raises(cad.InputError, match=r"features: nothing is left to build"):
        part.mesh(without="only")


def test_the_order_of_the_features_counts() -> None:
    add, cut = "{name: peg, add: cylinder, radius: 1, height: 5}", "{name: hole, cut: cylinder, radius: 2, height: 9}"
    plate = "{name: plate, add: box, size: [9, 9, 2]}"
    first, last = (cad.parse(f"part: p\nfeatures:\n  - {plate}\n  - {a}\n  - {b}\n").mesh() for a, b in ((cut, add), (add, cut)))
    assert first.volume - last.volume == pytest.approx(math.pi * 5, rel=0.01)  # the peg in its hole; 1 %: its facets


# Each face bears the feature that made it


def test_the_skirt_is_a_wall_at_its_radius_and_the_rim(cap: cad.Part, mesh: Mesh) -> None:
    skirt = corners(mesh, "skirt")
    rim = (skirt[..., 2] < TINY).all(1)
    radius = np.hypot(skirt[..., 0], skirt[..., 1])
    assert 0 < rim.sum() < len(skirt)
    # the notch cuts facets between their corners: there a point may lie a chord inside the circle
    assert radius[~rim].max() <= cap.nominal["radius"] + TINY
    assert radius[~rim].min() >= cap.nominal["radius"] - cap.chord - TINY
    assert skirt[..., 2].max() == pytest.approx(cap.nominal["height"], abs=TINY)


def test_the_crown_is_half_an_ellipsoid(cap: cad.Part, mesh: Mesh) -> None:
    d, (x, y, z) = cap.nominal, np.moveaxis(corners(mesh, "crown"), -1, 0)
    assert (np.hypot(x, y) / d["radius"]) ** 2 + ((z - d["height"]) / d["dome"]) ** 2 == pytest.approx(1.0, abs=TINY)


def test_the_cavity_is_the_wall_further_in(cap: cad.Part, mesh: Mesh) -> None:
    d, (x, y, z) = cap.nominal, np.moveaxis(corners(mesh, "cavity"), -1, 0)
    inner, above = d["radius"] - d["wall"], np.maximum(z - d["height"], 0) / (d["dome"] - d["wall"])
    size = np.hypot(np.hypot(x, y) / inner, above)  # 1 on the tube below and on the ellipsoid above
    assert size.max() <= 1 + TINY
    assert size.min() >= 1 - cap.chord / inner - TINY


def test_the_notch_has_two_sides_and_a_floor(cap: cad.Part, mesh: Mesh) -> None:
    d, notch = cap.nominal, corners(mesh, "notch")
    left, right = ((abs(notch[..., 0] - side * d["notch_width"] / 2) < TINY).all(1) for side in (-1, 1))
    floor = (abs(notch[..., 2] - d["notch_depth"]) < TINY).all(1)
    assert (left.astype(int) + right + floor == 1).all()
    assert left.any() and right.any() and floor.any()
    assert notch[..., 1].min() > 0


def test_the_outer_faces_look_out_and_the_cavity_looks_in(mesh: Mesh) -> None:
    inside = np.array([0.0, 0.0, 12.0])
    for name, sign in (("skirt", 1), ("crown", 1), ("cavity", -1)):
        own = mesh.feature == mesh.names.index(name) + 1
        wall = own & ~(mesh.triangles[..., 2] < TINY).all(1)  # not the rim
        towards = np.einsum("ij,ij->i", mesh.face_normals, mesh.triangles.mean(1) - inside)
        assert (sign * towards[wall] > 0).all()


def test_two_entries_of_one_name_are_one_sub_component(mesh: Mesh) -> None:
    assert set(np.unique(mesh.feature)) == {1, 2, 3, 4}
    assert mesh.names == ("skirt", "crown", "cavity", "notch")


def test_the_areas_of_the_sub_components_are_those_of_the_formulas(cap: cad.Part, mesh: Mesh) -> None:
    d, area = cap.nominal, area_by_feature(mesh)
    width, depth, outer, inner = d["notch_width"], d["notch_depth"], d["radius"], d["radius"] - d["wall"]
    wall, _ = quad(lambda x: math.sqrt(outer**2 - x**2) - math.sqrt(inner**2 - x**2), -width / 2, width / 2)
    gap = 2 * outer * math.asin(width / 2 / outer)  # along the skirt
    skirt = 2 * math.pi * outer * d["height"] - gap * depth + math.pi * (outer**2 - inner**2) - wall
    side = math.sqrt(outer**2 - width**2 / 4) - math.sqrt(inner**2 - width**2 / 4)
    assert area[1] == pytest.approx(skirt, rel=1e-3)  # facets: (1 - chord / radius)
    assert area[4] == pytest.approx(wall + 2 * side * depth, rel=1e-2)  # the wall in the notch is 1.6 mm, each side of it off by a chord


def test_smooth_joints_are_no_edges(cap: cad.Part, mesh: Mesh) -> None:
    z = mesh.vertices[mesh.sharp_edges()][..., 2]
    # only rim and notch are sharp: skirt and crown, and the two of the cavity, run into each other
    assert (np.minimum(abs(z), abs(z - cap.nominal["notch_depth"])) < TINY).all()


# The cache


def test_a_mesh_is_the_same_from_the_cache_and_without_it(cap: cad.Part) -> None:
    d = {**cap.nominal, "radius": 14.03}
    first = cap.mesh(d)
    cap.mesh({**d, "notch_depth": 4.2})  # shares the steps before the notch
    again = cap.mesh(d)
    building._BUILT.clear()
    fresh = cap.mesh(d)
    for other in (again, fresh):
        assert np.array_equal(other.vertices, first.vertices)
        assert np.array_equal(other.faces, first.faces)
        assert np.array_equal(other.feature, first.feature)


def test_the_cache_tells_chords_apart(cap: cad.Part) -> None:
    coarse, fine = (build(cap.features, cap.nominal, chord=chord) for chord in (0.3, 0.03))
    assert len(coarse.faces) < len(fine.faces)


def test_the_cache_stays_small(cap: cad.Part, rng: np.random.Generator) -> None:
    for _ in range(30):
        build(cap.features, cap.vary(rng), chord=0.5)
    assert len(building._BUILT) <= 64


# The mesh itself


def test_a_mesh_survives_the_way_to_a_solid_and_back(mesh: Mesh) -> None:
    back = Mesh.of(*mesh.manifold(), mesh.names)
    assert back.watertight
    assert back.volume == pytest.approx(mesh.volume, rel=1e-12)
    assert len(back.faces) == len(mesh.faces)
    assert area_by_feature(back) == pytest.approx(area_by_feature(mesh), rel=1e-12)


@pytest.mark.parametrize("length", [6.0, 1.5])
def test_a_refined_mesh_is_the_same_shape_with_short_edges(mesh: Mesh, length: float) -> None:
    fine = mesh.refined(lambda m: np.ones(len(m.faces), bool), length)
    assert fine.watertight
    assert fine.volume == pytest.approx(mesh.volume, rel=1e-12)
    assert area_by_feature(fine) == pytest.approx(area_by_feature(mesh), rel=1e-12)
    edges = np.linalg.norm(fine.triangles - np.roll(fine.triangles, 1, axis=1), axis=2)
    assert edges.max() <= length


def test_refining_one_feature_stays_watertight_and_leaves_far_faces_alone(mesh: Mesh) -> None:
    def crown(m: Mesh) -> np.ndarray:
        return m.feature == 2

    fine = mesh.refined(crown, 1.0)
    assert fine.watertight
    assert fine.volume == pytest.approx(mesh.volume, rel=1e-12)
    own = fine.triangles[crown(fine)]
    assert np.linalg.norm(own - np.roll(own, 1, axis=1), axis=2).max() <= 1.0
    assert np.array_equal(fine.triangles[fine.feature == 3], mesh.triangles[mesh.feature == 3])


def test_refining_to_a_length_that_all_edges_have_changes_nothing(mesh: Mesh) -> None:
    same = mesh.refined(lambda m: np.ones(len(m.faces), bool), 1e3)
    assert np.array_equal(same.vertices, mesh.vertices)
    assert np.array_equal(same.faces, mesh.faces)


def test_a_mesh_with_a_face_missing_is_not_watertight(mesh: Mesh) -> None:
    assert not Mesh(mesh.vertices, mesh.faces[1:], mesh.feature[1:], mesh.names).watertight


def test_a_mesh_with_a_face_turned_over_is_not_watertight(mesh: Mesh) -> None:
    faces = mesh.faces.copy()
    faces[0] = faces[0][::-1]
    assert not Mesh(mesh.vertices, faces, mesh.feature, mesh.names).watertight


def test_a_moved_mesh_keeps_volume_area_and_names(mesh: Mesh) -> None:
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    moved = mesh.moved(mesh.vertices @ turn.T + [1.0, 2.0, 3.0])
    assert moved.volume == pytest.approx(mesh.volume, rel=1e-10)
    assert area_by_feature(moved) == pytest.approx(area_by_feature(mesh), rel=1e-12)


def test_the_diagonal_is_that_of_the_bounds(cap: cad.Part, mesh: Mesh) -> None:
    d = cap.nominal
    assert mesh.diagonal == pytest.approx(math.hypot(2 * d["radius"], 2 * d["radius"], d["height"] + d["dome"]), abs=TINY)
