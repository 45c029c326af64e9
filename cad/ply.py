"""A mesh with its sub-components as one PLY file that any viewer opens: what `cad export` writes, and what travels with an imported part."""

from __future__ import annotations

import re

import numpy as np

from cad.errors import InputError
from cad.mesh import Mesh

MARK = "comment formspect mesh in mm"
VERTEX = np.dtype([("x", "<f8"), ("y", "<f8"), ("z", "<f8")])
FACE = np.dtype([("count", "u1"), ("corners", "<i4", (3,)), ("feature", "u1")])


def ply_bytes(mesh: Mesh, notes: tuple[str, ...] = ()) -> bytes:
    """Binary PLY: double coordinates in mm, each face with its ``feature`` (1 + index of a name); names and ``notes`` are comments."""
    header = [
        "ply",
        "format binary_little_endian 1.0",
        MARK,
        *(f"comment feature {i} {name}" for i, name in enumerate(mesh.names, 1)),
        *(f"comment note {' '.join(note.split())}" for note in notes),
        f"element vertex {len(mesh.vertices)}",
        *(f"property double {axis}" for axis in "xyz"),
        f"element face {len(mesh.faces)}",
        "property list uchar int vertex_indices",
        "property uchar feature",
        "end_header\n",
    ]
    faces = np.empty(len(mesh.faces), FACE)
    faces["count"], faces["corners"], faces["feature"] = 3, mesh.faces, mesh.feature
    return "\n".join(header).encode() + np.ascontiguousarray(mesh.vertices, "<f8").tobytes() + faces.tobytes()


def is_ours(content: bytes) -> bool:
    """Whether :func:`ply_bytes` wrote it."""
    return MARK.encode() in content[:200]


def read_ply(content: bytes, place: object) -> tuple[Mesh, tuple[str, ...]]:
    """The mesh and the notes that :func:`ply_bytes` was given. Raises InputError, its place ``place``, where it is damaged."""
    header, found, body = content.partition(b"end_header\n")
    lines = header.decode("utf-8", "replace").splitlines()
    names = tuple(m[1] for line in lines if (m := re.match(r"comment feature \d+ (.+)", line)))
    notes = tuple(line.removeprefix("comment note ") for line in lines if line.startswith("comment note "))
    counts = {m[1]: int(m[2]) for line in lines if (m := re.match(r"element (\w+) (\d{1,9})$", line))}
    vertices, faces = counts.get("vertex", 0), counts.get("face", 0)
    if not found or not names or not vertices or len(body) != vertices * VERTEX.itemsize + faces * FACE.itemsize:
        raise InputError(place, "is damaged: its length is not what its header says", wanted="the mesh as it was written")
    points = np.frombuffer(body, "<f8", 3 * vertices).reshape(-1, 3).copy()
    rows = np.frombuffer(body, FACE, faces, vertices * VERTEX.itemsize)
    mesh = Mesh(points, rows["corners"].astype(np.int32), rows["feature"].astype(np.int32), names)
    sound = np.isfinite(points).all() and mesh.faces.min() >= 0 and mesh.faces.max() < vertices
    if not (sound and mesh.feature.min() >= 1 and mesh.feature.max() <= len(names) and mesh.watertight):
        raise InputError(place, "is damaged: it is no closed surface", wanted="the mesh as it was written")
    return mesh, notes
