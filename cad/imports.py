"""Mesh files as they come: STL, OBJ, PLY, OFF and GLB through trimesh, STEP through cascadio, to named surfaces in mm."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cad.build import MAX_TRIANGLES
from cad.errors import InputError
from cad.mesh import Mesh
from cad.ply import is_ours, read_ply

UNITS = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "inch": 25.4}  # mm
METRES = ("glb", "step", "stp")  # what these count in is not a matter of opinion: glTF's metres, and cascadio writes glTF
SMALLEST, LARGEST = 0.1, 10_000.0  # mm across: anything else is a part in other units
MOST = 255  # sub-components
COARSE, CHORDS = 0.5, 2500  # mm for a first look at a STEP file's size; its diagonal over the chord tolerance
AGAIN = "export it anew, as STEP AP214 or as STL"
PATIENCE = 120  # s for a STEP file: some keep OpenCASCADE busy for ever


def read_surface(path: Path, units: str = "mm") -> Mesh:
    """The file's triangles in mm, as they are: neither joined nor closed. The ``names`` are those of its nodes, groups or colours; one
    empty name where it has none. Raises InputError for a file that cannot be read or has no triangles or too many."""
    kind = path.suffix.lstrip(".").lower()
    if kind not in READERS:
        raise InputError("mesh", f'found "{path.name}"', wanted=f"a file that ends in {', '.join('.' + k for k in READERS)}")
    if kind in METRES and units != "mm":
        raise InputError("units", f"found {units}", wanted=f"mm: a .{kind} file carries its own", step="dimensions: {scale: 25.4} enlarges")
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise InputError(
            "mesh",
            f"{path} cannot be read: {getattr(error, 'strerror', None) or error}",
            wanted="a mesh file; its path is relative to the part file",
        ) from None
    try:
        pieces = [p for p in READERS[kind](content) if len(p[1].faces)]
    except InputError as error:
        raise InputError("mesh", f"{path.name}: {error.problem}", wanted=error.wanted, step=error.step) from None
    except Exception as error:  # whatever a parser says of what is no such file
        raise InputError(
            "mesh", f"{path.name} cannot be read as .{kind}: {type(error).__name__} {error}", wanted=f"a .{kind} file"
        ) from None
    if len(pieces) > MOST:
        raise InputError(
            "mesh",
            f"{path.name} has {len(pieces)} pieces",
            wanted=f"at most {MOST}: an id buffer has 8 bits",
            step="join some where it was made",
        )
    surface = _joined(pieces, 1000.0 if kind in METRES else 1.0 if pieces and pieces[0][0] is None else UNITS[units])
    if not 0 < len(surface.faces) <= MAX_TRIANGLES or not np.isfinite(surface.vertices).all():
        raise InputError("mesh", f"{path.name} has {len(surface.faces)} triangles", wanted=f"1 to {MAX_TRIANGLES}, all numbers finite")
    return surface


def check_size(mesh: Mesh, file: str, units: str) -> None:
    """Raises InputError where the part would be smaller than a grain or larger than a room: then the units are wrong."""
    across = float(np.ptp(mesh.bounds, axis=0).max())
    if not SMALLEST <= across <= LARGEST:
        free = Path(file).suffix.lstrip(".").lower() not in METRES
        likely = [u for u, mm in UNITS.items() if free and 1 <= across / UNITS[units] * mm <= 1000]
        step = f"units: {' or '.join(likely)}?" if likely else "dimensions: {scale: 0.001} makes it smaller, 1000 larger"
        raise InputError(
            "units",
            f"{file} in {units if free else 'its own unit'} is {across:.3g} mm across",
            wanted=f"{SMALLEST:g} mm to {LARGEST / 1000:g} m",
            step=step,
        )


Piece = tuple[str | None, Any]  # a name ("": none; None: the mesh is our own Mesh, in mm) and a trimesh.Trimesh


def _joined(pieces: list[Piece], scale: float) -> Mesh:
    """One Mesh of all pieces, a feature each; pieces of one name are one feature."""
    meshes = [p if name is None else _colored(name, p) for name, p in pieces]
    names = tuple(dict.fromkeys(n for m in meshes for n in m.names))
    starts = np.cumsum([0, *(len(m.vertices) for m in meshes)])
    numbers = [np.array([names.index(n) + 1 for n in m.names])[m.feature - 1] for m in meshes]
    return Mesh(
        scale * np.concatenate([np.zeros((0, 3)), *(np.asarray(m.vertices, float) for m in meshes)]),
        np.concatenate([np.zeros((0, 3)), *(m.faces + start for m, start in zip(meshes, starts, strict=False))]).astype(np.int32),
        np.concatenate([np.zeros(0), *numbers]).astype(np.int32),
        names,
    )


def _colored(name: str, piece: Any) -> Mesh:
    """A piece by the colours of its faces where they differ and it has no name; else whole."""
    number = np.ones(len(piece.faces), np.int32)
    if not name and (colors := _colors(piece)) is not None:
        found, number = np.unique(colors, axis=0, return_inverse=True)
        if len(found) > 1:
            names = tuple(map(_hex, found))
            return Mesh(piece.vertices, piece.faces, number.reshape(-1).astype(np.int32) + 1, names)
        number = np.ones(len(piece.faces), np.int32)
    return Mesh(piece.vertices, piece.faces, number, (name,))


def _colors(piece: Any) -> np.ndarray | None:
    """(m, 4) uint8 where each face has one: its own, or that of all its corners."""
    visual = piece.visual
    if visual.kind == "face":
        return np.asarray(visual.face_colors)
    if visual.kind == "vertex":
        corners = np.asarray(visual.vertex_colors)[piece.faces]
        return corners[:, 0] if (corners == corners[:, :1]).all() else None
    return None


def _single(kind: str) -> Callable[[bytes], list[Piece]]:
    def read(content: bytes) -> list[Piece]:
        import trimesh

        return [("", trimesh.load_mesh(io.BytesIO(content), file_type=kind, process=False))]

    return read


def _ply(content: bytes) -> list[Piece]:
    return [(None, read_ply(content, "mesh")[0])] if is_ours(content) else _single("ply")(content)


def _obj(content: bytes) -> list[Piece]:
    """Corners and faces alone, by objects where there are several, else by groups, else by materials: trimesh names the last by number.

    Raises ValueError for a line that is not as the format has it.
    """
    import trimesh

    points, faces, now = [], [], {"o": "", "g": "", "usemtl": ""}
    said: dict[str, list[str]] = {key: [] for key in now}
    for line in content.decode("utf-8", "replace").replace("\\\n", " ").splitlines():
        word, *rest = line.split("#")[0].split() or [""]
        if word == "v":
            points.append([float(v) for v in rest[:3]])
        elif word in now:
            now[word] = " ".join(rest)
        elif word == "f":
            corners = [c - 1 if c > 0 else len(points) + c for c in (int(w.split("/")[0]) for w in rest)]
            faces += [(corners[0], corners[k], corners[k + 1]) for k in range(1, len(corners) - 1)]
            for key, names in said.items():
                names += [now[key]] * (len(corners) - 2)
    names = next((np.array(n) for n in said.values() if len(set(n)) > 1), np.array([""] * len(faces)))
    if faces and not (np.min(faces) >= 0 and np.max(faces) < len(points)):
        raise ValueError("a face has a corner that is not there")
    return [(str(n), trimesh.Trimesh(points, np.array(faces)[names == n], process=False)) for n in dict.fromkeys(names)]


def _glb(content: bytes) -> list[Piece]:
    """A piece a primitive, placed, in the order of the file's meshes; named by its node, or by its colour where there is but one node."""
    import trimesh

    scene = trimesh.load_scene(io.BytesIO(content), file_type="glb", process=False)
    order = list(scene.geometry)
    places = [(order.index(scene.graph[f][1]), _node(scene, f), f) for f in scene.graph.nodes_geometry]
    places = sorted(p for p in places if hasattr(scene.geometry[order[p[0]]], "faces"))  # neither points nor lines
    several = len({node for _, node, _ in places}) > 1
    pieces = []
    for _, node, frame in places:
        turn, geometry = scene.graph[frame]
        piece = scene.geometry[geometry].copy().apply_transform(turn)
        pieces.append((node if several else _material(piece), piece))
    return pieces


def _node(scene: Any, frame: str) -> str:
    """The file's node of a frame: trimesh hangs a node's primitives below it, under its name and six random digits."""
    parent = scene.graph.transforms.parents.get(frame)
    return parent if parent is not None and re.fullmatch(re.escape(str(parent)) + "_[0-9A-Za-z]{6}", frame) else frame


def _material(piece: Any) -> str:
    """``color-c8102e``, or nothing."""
    color = getattr(getattr(piece.visual, "material", None), "baseColorFactor", None)
    return "" if color is None else _hex(color)


def _hex(color: np.ndarray) -> str:
    return "color-" + "".join(f"{v:02x}" for v in color[:3])


CONVERT = """
import json, math, struct, sys, cascadio
step, (path, coarse, chords) = sys.stdin.buffer.read(), sys.argv[1:]
convert = lambda chord: cascadio.load(step, "step", tol_linear=chord, tol_angular=0.35, use_parallel=False)
if glb := convert(float(coarse)):
    shapes = json.loads(glb[20 : 20 + struct.unpack_from("<I", glb, 12)[0]]).get("accessors", [])
    size = max((1000 * math.dist(a["min"], a["max"]) for a in shapes if a["type"] == "VEC3" and "min" in a), default=0)
    with open(path, "wb") as file:
        file.write(convert(size / float(chords)) if size else glb)
"""


def _step(content: bytes) -> list[Piece]:
    """Through OpenCASCADE in a process of its own, which may be ended when it hangs or crashes; twice: the first tells the size."""
    import importlib.util
    import tempfile

    if importlib.util.find_spec("cascadio") is None:
        raise InputError("mesh", "STEP files need cascadio, which is not installed", step="pip install 'formspect[step]'")
    with tempfile.TemporaryDirectory() as folder:
        glb = Path(folder) / "part.glb"  # not stdout: OpenCASCADE writes there what it thinks
        command = [sys.executable, "-c", CONVERT, str(glb), str(COARSE), str(CHORDS)]
        try:
            done = subprocess.run(command, input=content, capture_output=True, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            raise InputError("mesh", f"OpenCASCADE did not read it within {PATIENCE} s", step=AGAIN) from None
        made = glb.read_bytes() if glb.is_file() else b""
    if not made:
        said = re.sub(r"\x1b\[[\d;]*m|\*+", "", (done.stdout + done.stderr).decode("utf-8", "replace")).split()
        raise InputError("mesh", f"OpenCASCADE cannot read it: {' '.join(said[:30]) or 'it crashed'}", wanted="a STEP file", step=AGAIN)
    return _glb(made)


READERS: dict[str, Callable[[bytes], list[Piece]]] = {
    "stl": _single("stl"), "obj": _obj, "ply": _ply, "off": _single("off"), "glb": _glb, "step": _step, "stp": _step,
}  # fmt: skip
