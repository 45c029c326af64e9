"""Parts from mesh files: what comes in is what went out, in whatever order, mended where it can be, refused with the place where not."""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trimesh
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from step_files import Block, step

import cad
from cad.cli import cad as commands
from cad.imports import READERS
from cad.mesh import Mesh
from cad.patches import apart
from cad.ply import ply_bytes, read_ply

NAMED = ("glb", "obj", "ply")  # formats that carry names
PLATE = Block("plate", (30.0, 20.0, 5.0), hole=4.0)


def part_of(path: Path, more: str = "") -> cad.Part:
    return cad.parse(f"part: p\nmesh: {path.name}\n{more}", path.parent)


def exported(part: str, path: Path) -> Path:
    done = CliRunner().invoke(commands, ["export", part, "-o", str(path)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return path


def saved(path: Path, vertices: np.ndarray, faces: np.ndarray) -> Path:
    trimesh.Trimesh(vertices, faces, process=False).export(path)
    return path


def box(size: float = 10.0, at: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> tuple[np.ndarray, np.ndarray]:
    made = trimesh.creation.box((size, size, size))
    return np.asarray(made.vertices) + at, np.asarray(made.faces)


def both(*meshes: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    starts = np.cumsum([0, *(len(v) for v, _ in meshes)])
    return np.concatenate([v for v, _ in meshes]), np.concatenate([f + s for (_, f), s in zip(meshes, starts, strict=False)])


# --- round trips


@pytest.mark.parametrize("kind", ["stl", "glb", "obj", "ply", "off"])
@pytest.mark.parametrize("name", cad.shelf())
def test_an_exported_part_comes_back(name: str, kind: str, tmp_path: Path) -> None:
    part = cad.load(name)
    again = part_of(exported(name, tmp_path / f"again.{kind}"))
    good, mesh = part.mesh(), again.mesh()
    assert mesh.watertight
    assert mesh.volume == pytest.approx(good.volume, rel=1e-6)
    assert not again.solid.repairs
    if kind in NAMED:
        assert again.names == part.names
        for number in range(1, len(part.names) + 1):
            assert mesh.areas[mesh.feature == number].sum() == pytest.approx(good.areas[good.feature == number].sum(), rel=1e-5)


def test_part_text_part_is_identity(tmp_path: Path) -> None:
    exported("hex_nut", tmp_path / "nut.stl")
    (tmp_path / "part.yaml").write_text("# mine\npart: nut\nmesh: nut.stl\nnames: {face-1: top}\ndimensions: {scale: 1.0 ± 0.01}\n")
    part = cad.load(tmp_path / "part.yaml")
    (tmp_path / "nut.stl").unlink()
    again = cad.parse(part.text)
    assert part.text.startswith("# mine\npart: nut\n")
    assert (again.text, again.names, again.dimensions, again.chord) == (part.text, part.names, part.dimensions, part.chord)
    for field in ("vertices", "faces", "feature"):
        assert np.array_equal(getattr(again.mesh(), field), getattr(part.mesh(), field))


def test_our_ply_opens_elsewhere_as_what_it_is(cap: cad.Part, tmp_path: Path) -> None:
    mesh = cap.mesh()
    (tmp_path / "cap.ply").write_bytes(ply_bytes(mesh, ("a note",)))
    other = trimesh.load_mesh(tmp_path / "cap.ply", process=False)
    assert np.array_equal(other.vertices, mesh.vertices)
    assert np.array_equal(other.faces, mesh.faces)
    own, notes = read_ply((tmp_path / "cap.ply").read_bytes(), "here")
    assert (own.names, notes) == (mesh.names, ("a note",))
    assert np.array_equal(own.feature, mesh.feature)


@pytest.mark.parametrize(
    "spoilt", [lambda n: n[:-1], lambda n: n[1:], lambda n: n[:3] + n[4:], lambda n: [*n, n[-1]], lambda n: ["  ?\n", *n]]
)
def test_a_damaged_embedded_mesh_is_refused(spoilt: Callable, tmp_path: Path) -> None:
    text = part_of(saved(tmp_path / "box.stl", *box())).text
    head, start, block = text.partition("\nembedded: |\n")
    assert cad.parse(head + start + block).text == text
    with pytest.raises(cad.InputError, match=r"^embedded: is damaged"):
        cad.parse(head + start + "".join(spoilt(block.splitlines(keepends=True))))


# --- order, names


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_a_permuted_file_is_the_same_part(seed: int, nut: cad.Part, tmp_path: Path) -> None:
    """Faces, their first corners and the vertices in any order: the same ids, the same bytes."""
    rng, mesh = np.random.default_rng(seed), nut.mesh()
    order, rank = rng.permutation(len(mesh.vertices)), np.empty(len(mesh.vertices), int)
    rank[order] = np.arange(len(order))
    faces = rank[mesh.faces][rng.permutation(len(mesh.faces))]
    faces = np.take_along_axis(faces, (rng.integers(0, 3, len(faces))[:, None] + np.arange(3)) % 3, 1)
    saved(tmp_path / "nut.stl", mesh.vertices, mesh.faces)
    first = part_of(tmp_path / "nut.stl").text
    saved(tmp_path / "nut.stl", mesh.vertices[order], faces)
    assert part_of(tmp_path / "nut.stl").text == first


def test_a_box_has_six_faces_whatever_their_size(tmp_path: Path) -> None:
    made = trimesh.creation.box((30, 20, 10))
    mesh = part_of(saved(tmp_path / "box.stl", made.vertices, made.faces)).mesh()
    assert mesh.names == tuple(f"face-{i}" for i in range(1, 7))
    areas = [mesh.areas[mesh.feature == i].sum() for i in range(1, 7)]
    assert areas == pytest.approx([600, 600, 300, 300, 200, 200])
    for i in range(1, 7):
        assert np.ptp(mesh.face_normals[mesh.feature == i], axis=0) == pytest.approx(0, abs=1e-6)
    middles = [mesh.triangles[mesh.feature == i].mean((0, 1)) for i in range(1, 7)]
    assert all(tuple(a) < tuple(b) for a, b in zip(middles[::2], middles[1::2], strict=True))  # of equal ones the lower comes first


@pytest.mark.parametrize(("crease", "count"), [(10.0, 34), (12.0, 3), (89.0, 3), (91.0, 1)])
def test_creases_are_where_the_angle_says(crease: float, count: int, tmp_path: Path) -> None:
    """A prism of 32 sides: 11.25 degrees from side to side, 90 from side to end."""
    made = trimesh.creation.cylinder(5, 10, sections=32)
    part = part_of(saved(tmp_path / "rod.stl", made.vertices, made.faces), f"crease: {crease}\n")
    assert len(part.names) == count


def test_objects_groups_and_materials_of_an_obj(tmp_path: Path) -> None:
    corners = "v 0 0 0\nv 9 0 0\nv 0 9 0\nv 0 0 9\n"
    for key in ("o", "g", "usemtl"):
        (tmp_path / "a.obj").write_text(
            f"mtllib none.mtl\n{corners}{key} low side\nf 1/1/1 3/2/1 2/3/1\n{key} rest\nf 1 2 4\nf -3 -2 -1\nf 1 4 3\n"
        )
        part = part_of(tmp_path / "a.obj")
        assert part.names == ("low-side", "rest")
        assert part.mesh().volume == pytest.approx(9**3 / 6)


def test_colours_of_faces_are_sub_components(tmp_path: Path) -> None:
    vertices, faces = box()
    made = trimesh.Trimesh(vertices, faces, process=False)
    made.visual.face_colors = np.where(made.face_normals[:, 2:] > 0.5, [[200, 16, 46, 255]], [[0, 0, 255, 255]]).astype(np.uint8)
    made.export(tmp_path / "box.ply")
    mesh = part_of(tmp_path / "box.ply").mesh()
    assert set(mesh.names) == {"color-c8102e", "color-0000ff"}
    assert mesh.areas[mesh.feature == mesh.names.index("color-c8102e") + 1].sum() == pytest.approx(100)


def with_one_node(glb: bytes, colors: list[list[float] | None]) -> bytes:
    """The GLB with the primitives of all its meshes under one node, in these colours."""
    length = struct.unpack_from("<I", glb, 12)[0]
    data, rest = json.loads(glb[20 : 20 + length]), glb[20 + length :]
    primitives = [p for mesh in data["meshes"] for p in mesh["primitives"]]
    data["materials"] = [{"pbrMetallicRoughness": {"baseColorFactor": c}} for c in colors if c]
    for primitive, color in zip(primitives, colors, strict=True):
        primitive.pop("material", None)
        if color:
            primitive["material"] = [c for c in colors if c].index(color)
    data |= {
        "meshes": [{"name": "all", "primitives": primitives}],
        "nodes": [{"name": "all", "mesh": 0}],
        "scenes": [{"nodes": [0]}],
        "scene": 0,
    }
    text = json.dumps(data).encode()
    text += b" " * (-len(text) % 4)
    return struct.pack("<4sIIII", b"glTF", 2, 20 + len(text) + len(rest), len(text), 0x4E4F534A) + text + rest


def test_primitives_of_one_node_are_told_by_their_colours(tmp_path: Path) -> None:
    path = exported("hex_nut", tmp_path / "nut.glb")
    glb = path.read_bytes()
    path.write_bytes(with_one_node(glb, [[1, 0, 0, 1], [0, 0, 1, 1], None]))
    parts = [part_of(path) for _ in range(2)]
    assert parts[0].names == ("color-ff0000", "color-0000ff", "rest")
    assert parts[0].text == parts[1].text
    path.write_bytes(with_one_node(glb, [None] * 3))
    assert part_of(path).names[0] == "face-1"


def test_separate_bodies_are_sub_components_and_touching_ones_are_united(tmp_path: Path) -> None:
    part = part_of(saved(tmp_path / "two.stl", *both(box(10), box(4, (20, 0, 0)))))
    assert part.names == ("body-1", "body-2")
    assert part.mesh().volume == pytest.approx(1064)
    scene = trimesh.Scene()
    for name, (vertices, faces) in {"foot": box(10), "post": box(4, (0, 0, 7))}.items():  # the post stands on the foot
        scene.add_geometry(trimesh.Trimesh(vertices / 1000, faces, process=False), node_name=name)
    scene.export(tmp_path / "two.glb")
    part = part_of(tmp_path / "two.glb")
    assert part.names == ("foot", "post")
    assert part.mesh().volume == pytest.approx(1064, rel=1e-6)
    assert part.mesh().areas.sum() == pytest.approx(600 + 96 - 2 * 16, rel=1e-6)  # where they touch there is no surface


def test_a_void_stays_a_void_and_what_is_in_it_stays_there(tmp_path: Path) -> None:
    hollow, inner = box(6), box(2)
    part = part_of(saved(tmp_path / "hollow.stl", *both(box(10), (hollow[0], hollow[1][:, ::-1]), inner)))
    assert part.mesh().volume == pytest.approx(1000 - 216 + 8)
    assert not part.solid.repairs


def test_names_of_ones_own(tmp_path: Path) -> None:
    path = saved(tmp_path / "box.stl", *box())
    part = part_of(path, "names: {face-2: top, face-4: top}\ndefects: {d: {kind: dent, on: top, height: [1, 1], diameter: [3, 3]}}\n")
    assert part.names == ("face-1", "top", "face-3", "face-5", "face-6")
    assert part.with_defect("d", np.random.default_rng(0))[1].features == ("top",)
    with pytest.raises(cad.InputError, match=r'^names\.face-9: the mesh has no such sub-component \(did you mean "face-'):
        part_of(path, "names: {face-9: top}\n")


# --- units


@pytest.mark.parametrize(("units", "mm"), [("mm", 1), ("cm", 10), ("m", 1000), ("inch", 25.4)])
def test_units(units: str, mm: float, tmp_path: Path) -> None:
    part = part_of(saved(tmp_path / "box.stl", *box(2.0)), f"units: {units}\n")
    assert part.mesh().volume == pytest.approx((2 * mm) ** 3)


def test_sizes_that_no_part_has(tmp_path: Path) -> None:
    small, large = saved(tmp_path / "small.stl", *box(0.03)), saved(tmp_path / "large.stl", *box(30_000))
    with pytest.raises(cad.InputError, match=r"^units: small\.stl in mm is 0\.03 mm across; wanted 0\.1 mm to 10 m \(units: m\?\)"):
        part_of(small)
    assert part_of(small, "units: m\n").mesh().volume == pytest.approx(27_000)
    with pytest.raises(cad.InputError, match=r"^units: large\.stl in mm is 3e\+04 mm across"):
        part_of(large)
    assert part_of(large, "dimensions: {scale: 0.001}\n").mesh().bounds[1] == pytest.approx([15, 15, 15])


def test_a_glb_carries_its_own(tmp_path: Path) -> None:
    vertices, faces = box(0.02)
    path = saved(tmp_path / "box.glb", vertices, faces)
    assert part_of(path).mesh().volume == pytest.approx(8000, rel=1e-6)
    with pytest.raises(cad.InputError, match=r"^units: found inch; wanted mm: a \.glb file carries its own"):
        part_of(path, "units: inch\n")


def test_scale_is_the_one_dimension(tmp_path: Path, rng: np.random.Generator) -> None:
    path = saved(tmp_path / "box.stl", *box())
    part = part_of(path, "dimensions: {scale: 1.0 ± 0.1}\ndefects: {large: {kind: dimension, dimension: scale, by: [0.2, 0.3]}}\n")
    sizes = part.vary(rng)
    assert part.mesh(sizes).volume == pytest.approx(1000 * sizes["scale"] ** 3)
    assert part.with_defect("large", rng, severity=0.25)[0].volume == pytest.approx(1000 * 1.25**3)
    with pytest.raises(cad.InputError, match=r"^dimensions\.width: a mesh has no such dimension"):
        part_of(path, "dimensions: {width: 3}\n")


# --- mending


def test_small_faults_are_mended_and_told(tmp_path: Path) -> None:
    ball = trimesh.creation.icosphere(2, 10)
    vertices, faces = np.asarray(ball.vertices), np.asarray(ball.faces)
    good = part_of(saved(tmp_path / "good.stl", vertices, faces))
    assert good.solid.repairs == ()
    spoilt = faces.copy()
    spoilt[[5, 80]] = spoilt[[5, 80], ::-1]  # two look inward
    spoilt = np.concatenate([np.delete(spoilt, 20, 0), spoilt[40:41], [[7, 7, 9]]])  # one is missing, one double, one a line
    corners = vertices[spoilt] + 0.0
    corners[0] += 1e-5  # one is a little off
    part = part_of(saved(tmp_path / "bad.ply", corners.reshape(-1, 3), np.arange(3 * len(spoilt)).reshape(-1, 3)))
    told = " ".join(part.solid.repairs)
    for words in (
        "doubled faces left out: 1",
        "faces without area left out: 1",
        "mm joined: 3",
        "faces turned round: 2",
        "faces put into small holes: 1",
    ):
        assert words in told
    assert part.mesh().watertight
    assert part.mesh().volume == pytest.approx(good.mesh().volume, rel=1e-5)
    assert cad.parse(part.text).solid.repairs == part.solid.repairs


def test_inside_out_is_turned(tmp_path: Path) -> None:
    vertices, faces = box()
    part = part_of(saved(tmp_path / "in.stl", vertices, faces[:, ::-1]))
    assert part.mesh().volume == pytest.approx(1000)
    assert part.solid.repairs == ("bodies turned inside out: 1",)


def test_mending_stands_in_cad_show(tmp_path: Path) -> None:
    vertices, faces = box()
    saved(tmp_path / "box.stl", vertices, faces[1:])
    (tmp_path / "part.yaml").write_text("part: p\nmesh: box.stl\n")
    done = CliRunner().invoke(commands, ["show", str(tmp_path / "part.yaml"), "-o", str(tmp_path / "p.png"), "--size", "32"])
    assert done.exit_code == 0
    assert "mesh box.stl: faces put into small holes: 1" in done.output


def test_an_open_surface_is_refused_with_the_place(tmp_path: Path) -> None:
    ball = trimesh.creation.icosphere(2, 10)
    faces = np.asarray(ball.faces)[ball.triangles_center[:, 2] < 9]
    with pytest.raises(
        cad.InputError,
        match=r"^mesh: its surface is not closed and cannot be mended: (\d+) open edges, the first about \((.+), (.+), (.+)\) mm",
    ) as caught:
        part_of(saved(tmp_path / "open.stl", ball.vertices, faces))
    count, *place = (float(v) for v in re.search(r"(\d+) open edges.*\((\S+), (\S+), (\S+)\) mm", str(caught.value)).groups())
    rim = trimesh.Trimesh(ball.vertices, faces, process=False)
    edges = rim.edges[trimesh.grouping.group_rows(rim.edges_sorted, require_count=1)]
    assert count == len(edges)
    assert np.linalg.norm(rim.vertices[edges].mean(1) - place, axis=1).min() < 0.01


def test_a_one_sided_surface_is_refused(tmp_path: Path) -> None:
    """The projective plane on six vertices: closed, and no way round is outward for all of its faces."""
    faces = [(0, 1, 2), (0, 2, 3), (0, 3, 4), (0, 4, 5), (0, 5, 1), (1, 2, 4), (2, 3, 5), (3, 4, 1), (4, 5, 2), (5, 1, 3)]
    path = saved(tmp_path / "p.ply", np.random.default_rng(0).normal(size=(6, 3)) * 10, np.array(faces))
    with pytest.raises(cad.InputError, match=r"\d edges that both faces run along the same way, the first about \("):
        part_of(path)


def test_a_branching_surface_and_a_sheet_are_refused(tmp_path: Path) -> None:
    vertices, faces = box()
    fin = np.array([[5, 5, 5], [5, 5, -5], [12, 12, 0]], float)
    with pytest.raises(cad.InputError, match=r"1 edges that more than two faces share, the first about \(5, 5, 0\) mm"):
        part_of(saved(tmp_path / "fin.stl", *both((vertices, faces), (fin, np.array([[0, 1, 2]])))))
    # two boxes that touch along an edge are two bodies
    assert part_of(saved(tmp_path / "edge.stl", *both((vertices, faces), box(10, (10, 10, 0))))).names == ("body-1", "body-2")
    flat = np.array([[0, 0, 0], [9, 0, 0], [0, 9, 0]], float)
    with pytest.raises(cad.InputError, match="open edges"):
        part_of(saved(tmp_path / "sheet.ply", flat, np.array([[0, 1, 2]])))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from([k for k in READERS if k not in ("step", "stp")]), content=st.binary(max_size=300), start=st.booleans())
def test_what_is_no_mesh_is_refused_in_one_line(kind: str, content: bytes, start: bool, tmp_path: Path) -> None:
    heads = {"ply": b"ply\nformat ascii 1.0\n", "off": b"OFF\n", "obj": b"v 0 0 0\nf ", "stl": b"solid\n", "glb": b"glTF\x02\x00\x00\x00"}
    (tmp_path / f"a.{kind}").write_bytes((heads[kind] if start else b"") + content)
    with pytest.raises(cad.InputError) as caught:
        part_of(tmp_path / f"a.{kind}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("units: furlong", "units: found 'furlong'; wanted mm, cm, m, inch"),
        ("crease: 0", "crease: found 0; wanted an angle above 0 and at most 180 degrees"),
        ("names: 3", "names: found 3; wanted a mapping"),
        ("features: []", "features: stands beside mesh"),
        ("embedded: '%'", "embedded: is damaged: it is not base64"),
        ("names: {face-1: '1'}", "names.face-1: found '1'; wanted letters"),
        ("defects: {d: {kind: dimension, dimension: width, by: [1, 2]}}", 'defects.d.dimension: found the unknown name "width"'),
        (
            "defects: {d: {kind: missing, on: face-1}}",
            "defects.d.on: face-1 cannot be taken out: flat lids over its borders leave no solid",
        ),
    ],
)
def test_keys_that_cannot_be(more: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(cad.InputError) as caught:
        part_of(saved(tmp_path / "box.stl", *box()), more)
    assert str(caught.value).startswith(words)


@pytest.mark.parametrize("name", ["none.stl", "a.x3d", "\\0.stl", ""])
def test_files_that_cannot_be(name: str, tmp_path: Path) -> None:
    with pytest.raises(cad.InputError, match=r"^mesh: "):
        cad.parse(f'part: p\nmesh: "{name}"\n', tmp_path)
    with pytest.raises(cad.InputError, match=r"^crease: belongs to a mesh"):
        cad.parse("part: p\ncrease: 4\nfeatures: [{name: a, add: sphere, radius: 1}]\n")


# --- defects


def plate(tmp_path: Path) -> tuple[cad.Part, cad.Part]:
    """A plate with a hole and a boss, built, and the same as a mesh whose names are its own."""
    text = """part: plate
features:
  - {name: body, add: box, size: [40, 24, 6]}
  - {name: boss, add: cylinder, radius: 4, height: 5, at: [10, 0, 2]}
  - {name: hole, cut: cylinder, radius: 3, height: 20, at: [-10, 2, -10]}
"""
    defects = """defects:
  no-hole: {kind: missing, on: hole}
  no-boss: {kind: missing, on: boss}
  moved-boss: {kind: shift, on: boss, by: [1, 1], direction: [0, 1, 0]}
  moved-hole: {kind: shift, on: hole, by: [1, 1], direction: [1, 0, 0]}
  broken-boss: {kind: missing, on: boss, fraction: [0.3, 0.3]}
  bulge: {kind: bulge, on: body, height: [1, 1], diameter: [5, 5]}
  dent: {kind: dent, on: boss, height: [0.5, 0.5], diameter: [3, 3]}
  extra: {kind: extra, on: body, diameter: [2, 2]}
  chip: {kind: chip, on: body, size: [3, 3]}
  bend: {kind: bend, angle: [8, 8], axis: [1, 0, 0]}
  twist: {kind: twist, angle: [8, 8], axis: [1, 0, 0]}
  squashed: {kind: scale, by: [0.9, 0.9], axis: [0, 0, 1]}
"""
    (tmp_path / "built.yaml").write_text(text + defects)
    exported(str(tmp_path / "built.yaml"), tmp_path / "plate.ply")
    return cad.load(tmp_path / "built.yaml"), part_of(tmp_path / "plate.ply", defects)


def test_every_kind_of_defect_is_that_of_the_built_part(tmp_path: Path) -> None:
    built, read = plate(tmp_path)
    assert read.names == built.names
    for name in built.defects:
        (good, _), (mesh, record) = (p.with_defect(name, np.random.default_rng(4)) for p in (built, read))
        assert mesh.watertight, name
        assert record.kind == built.defects[name].kind
        if name.startswith(("no-", "moved-", "squashed")):
            assert mesh.volume == pytest.approx(good.volume, rel=1e-6), name
            assert mesh.bounds == pytest.approx(good.bounds, abs=1e-6), name
        assert mesh.volume != pytest.approx(read.mesh().volume, rel=1e-9) or name in ("moved-hole", "moved-boss", "twist"), name


def test_a_sub_component_taken_apart_is_the_part(tmp_path: Path) -> None:
    """Base and own solid have the volumes of the formulas, and together that of the part."""
    _, read = plate(tmp_path)
    whole = read.mesh()
    for name, volume, sign in (("hole", math.pi * 9 * 6, -1), ("boss", math.pi * 16 * 4, +1)):
        base, own, cut = apart(whole, name)
        assert cut == (sign < 0)
        assert base.volume + sign * own.volume == pytest.approx(whole.volume, rel=1e-9)
        assert own.volume == pytest.approx(volume, rel=0.01)
        assert base.watertight
        assert own.watertight


def test_a_border_off_its_plane_is_told(tmp_path: Path) -> None:
    """A pipe on a pipe: their seam lies in no plane."""
    text = "part: tee\nfeatures:\n  - {name: run, add: cylinder, radius: 8, height: 40, rotate: [0, 90, 0], at: [-20, 0, 0]}\n  - {name: branch, add: cylinder, radius: 5, height: 20}\n"
    (tmp_path / "tee.yaml").write_text(text)
    exported(str(tmp_path / "tee.yaml"), tmp_path / "tee.glb")
    with pytest.raises(
        cad.InputError, match=r"^defects\.d\.on: branch cannot be taken out: its border about \(.*\) mm does not lie in a plane"
    ):
        part_of(tmp_path / "tee.glb", "defects: {d: {kind: missing, on: branch}}\n")


# --- with the stages that follow


def test_a_dataset_keeps_the_mesh(tmp_path: Path) -> None:
    from synth.dataset import open_dataset, verify
    from synth.render import render
    from synth.sampling import Recipe, draw_sample

    path = saved(tmp_path / "box.stl", *box())
    part = part_of(path, "defects: {bulge: {kind: bulge, height: [1.5, 2], diameter: [5, 6]}}\n")
    render(part, tmp_path / "data", Recipe(3, 2, size=32), jobs=1)
    path.unlink()
    data = open_dataset(tmp_path / "data")
    assert data.part.text == part.text
    drawn = draw_sample(data.part, Recipe(3, 2, size=32), "test", "bulge", 1)
    assert np.array_equal(data.mask(data.of("test", "bulge")[1]), drawn.mask)
    assert drawn.mask.any()
    kept = tmp_path / "data" / "part.yaml"
    kept.write_text(kept.read_text()[:-9] + "AAAAAA==\n")
    assert verify(tmp_path / "data") == ["changed: part.yaml"]


# --- STEP


def step_part(tmp_path: Path, blocks: list[Block], unit: str = "mm", more: str = "") -> cad.Part:
    pytest.importorskip("cascadio")
    (tmp_path / "a.step").write_text(step(blocks, unit))
    return part_of(tmp_path / "a.step", more)


@pytest.mark.parametrize(("unit", "mm"), [("mm", 1.0), ("m", 1000.0), ("inch", 25.4)])
def test_a_step_block_has_the_volume_of_its_formula(unit: str, mm: float, tmp_path: Path) -> None:
    block = Block("plate", tuple(v / mm for v in PLATE.size), hole=PLATE.hole / mm)
    part = step_part(tmp_path, [block], unit)
    assert part.mesh().watertight
    assert part.mesh().volume == pytest.approx(PLATE.volume, rel=1e-3)
    assert part.mesh().bounds == pytest.approx(np.array([[0, 0, 0], PLATE.size]), abs=1e-5)
    x, y, z = PLATE.size
    areas = sorted([x * y - math.pi * 16] * 2 + [x * z] * 2 + [y * z] * 2 + [2 * math.pi * 4 * z], reverse=True)
    mesh = part.mesh()
    assert [mesh.areas[mesh.feature == i].sum() for i in range(1, 8)] == pytest.approx(areas, rel=2e-3)


def test_products_of_a_step_file_are_sub_components(tmp_path: Path) -> None:
    blocks = [PLATE, Block("post, left", (4.0, 4.0, 10.0), (1.0, 1.0, 5.0))]
    part = step_part(tmp_path, blocks, more="defects: {gone: {kind: missing, on: post-left}}\n")
    assert part.names == ("plate", "post-left")
    assert part.mesh().volume == pytest.approx(sum(b.volume for b in blocks), rel=1e-3)
    gone, _ = part.with_defect("gone", np.random.default_rng(0))
    assert gone.volume == pytest.approx(PLATE.volume, rel=1e-3)


def test_what_is_no_step_file(tmp_path: Path) -> None:
    pytest.importorskip("cascadio")
    (tmp_path / "a.step").write_text("ISO-10303-21;\nHEADER;\nnothing\n")
    with pytest.raises(cad.InputError, match=r"^mesh: a\.step: OpenCASCADE cannot read it"):
        part_of(tmp_path / "a.step")


def test_without_cascadio_the_command_that_brings_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None)
    (tmp_path / "a.stp").write_text(step([PLATE]))
    with pytest.raises(cad.InputError, match=r"need cascadio, which is not installed \(pip install 'formspect\[step\]'\)"):
        part_of(tmp_path / "a.stp")


def test_a_reader_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cascadio")
    monkeypatch.setattr("cad.imports.CONVERT", "import time; time.sleep(60)")
    monkeypatch.setattr("cad.imports.PATIENCE", 0.3)
    (tmp_path / "a.stp").write_text(step([PLATE]))
    with pytest.raises(cad.InputError, match="OpenCASCADE did not read it within"):
        part_of(tmp_path / "a.stp")


def test_meshes_are_ordered_the_same_by_any_route(cap: cad.Part) -> None:
    from cad.repair import exact

    mesh = cap.mesh()
    soup = Mesh(mesh.triangles.reshape(-1, 3), np.arange(3 * len(mesh.faces)).reshape(-1, 3).astype(np.int32), mesh.feature, mesh.names)
    for field in ("vertices", "faces", "feature"):
        assert np.array_equal(getattr(exact(soup), field), getattr(exact(mesh), field))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turned=st.lists(st.integers(0, 79), max_size=39, unique=True))
def test_any_minority_of_turned_faces_is_turned_back(turned: list[int], tmp_path: Path) -> None:
    ball = trimesh.creation.icosphere(1, 10)
    faces = np.asarray(ball.faces).copy()
    saved(tmp_path / "ball.stl", ball.vertices, faces)
    good = part_of(tmp_path / "ball.stl")
    faces[turned] = faces[turned, ::-1]
    saved(tmp_path / "ball.stl", ball.vertices, faces)
    part = part_of(tmp_path / "ball.stl")
    assert np.array_equal(part.mesh().faces, good.mesh().faces)
    assert part.solid.repairs == ((f"faces turned round: {len(turned)}",) if turned else ())


def test_a_mesh_that_cannot_be_is_one_line_and_leaves_nothing(command, tmp_path: Path) -> None:
    vertices, faces = box()
    saved(tmp_path / "open.stl", vertices, faces[3:])
    saved(tmp_path / "huge.glb", *box(30_000))
    for file, words in (("open.stl", "open edges, the first about"), ("huge.glb", "huge.glb in its own unit is 3e+07 mm across")):
        (tmp_path / "part.yaml").write_text(f"part: p\nmesh: {file}\n")
        code, _, err = command(f"synth render {tmp_path}/part.yaml -o {tmp_path}/data")
        assert code == 2
        assert len(err.strip().splitlines()) == 1
        assert words in err
        assert not (tmp_path / "data").exists()
