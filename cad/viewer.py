"""A part as one HTML page that turns in a browser: viewer and mesh are in it, nothing is fetched."""

from __future__ import annotations

import base64
import colorsys
import html
import json
from pathlib import Path

import numpy as np

from cad.mesh import Mesh
from cad.part import Part

TEMPLATE = Path(__file__).parent / "templates" / "viewer.html"
CREASE = 30.0  # degrees: faces that meet at less are shaded as one surface
CORNER = np.dtype([("position", "<f4", (3,)), ("normal", "i1", (3,)), ("feature", "u1")])


def page(part: Part) -> str:
    """The nominal part, its sub-components in the colours of `cad show`, their names on the part and in a legend."""
    mesh = part.mesh()
    size = " x ".join(f"{v:.4g}" for v in np.ptp(mesh.bounds, axis=0))
    areas, colors = np.bincount(mesh.feature, mesh.areas, len(mesh.names) + 1), feature_colors(len(mesh.names))
    data = {
        "about": f"{size} mm · {mesh.volume:.4g} mm³ · {len(mesh.faces)} triangles",
        "diagonal": round(mesh.diagonal, 6),
        "features": [
            {"name": name, "area": f"{areas[i]:.4g} mm²", "color": [round(float(c), 4) for c in colors[i]]}
            for i, name in enumerate(mesh.names, 1)
        ],
        **packed(mesh),
    }
    text = json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")  # no name may end the script
    return TEMPLATE.read_text(encoding="utf-8").replace("{{ title }}", html.escape(part.name)).replace("{{ data }}", text)


def packed(mesh: Mesh) -> dict[str, str]:
    """Base64 of what the viewer reads: ``corners`` (CORNER: mm about the middle of the part's box), ``faces`` (m, 3) uint32 into them,
    ``edges`` (k, 2, 3) float32: where sub-components meet and where the surface is sharp."""
    middle = mesh.bounds.mean(0)
    corners = np.zeros(3 * len(mesh.faces), CORNER)
    corners["position"] = (mesh.triangles - middle).reshape(-1, 3)
    corners["normal"] = np.round(127 * corner_normals(mesh).reshape(-1, 3))
    corners["feature"] = np.repeat(mesh.feature, 3)
    kept, faces = np.unique(corners, return_inverse=True)
    edges = (mesh.vertices[borders(mesh)] - middle).astype("<f4")
    arrays = {"corners": kept, "faces": faces.reshape(-1).astype("<u4"), "edges": edges}
    return {name: base64.b64encode(np.ascontiguousarray(array).tobytes()).decode() for name, array in arrays.items()}


def corner_normals(mesh: Mesh) -> np.ndarray:
    """(m, 3, 3) float64, unit length: each face's at each corner, smooth over those about the corner that meet it at less than CREASE."""
    from scipy.sparse import csr_matrix

    corner = mesh.faces.ravel()
    around = csr_matrix((np.ones(len(corner)), (np.arange(len(corner)), corner)), shape=(len(corner), len(mesh.vertices)))
    one, other = (around @ around.T).nonzero()
    alike = np.einsum("ij,ij->i", mesh.face_normals[one // 3], mesh.face_normals[other // 3]) > np.cos(np.radians(CREASE))
    alike |= one == other
    total = np.stack([np.bincount(one[alike], mesh.face_vectors[other[alike] // 3, k], len(corner)) for k in range(3)], 1)
    return (total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-300)).reshape(-1, 3, 3)


def borders(mesh: Mesh) -> np.ndarray:
    """(k, 2) int: the edges between sub-components, and those at more than CREASE, outer and inner."""
    edges = mesh.edges.astype(np.int64)
    order = np.argsort(edges.min(1) * len(mesh.vertices) + edges.max(1), kind="stable")
    first, second = np.tile(np.arange(len(mesh.faces)), 3)[order].reshape(-1, 2).T
    bent = np.einsum("ij,ij->i", mesh.face_normals[first], mesh.face_normals[second]) < np.cos(np.radians(CREASE))
    return edges[order][::2][bent | (mesh.feature[first] != mesh.feature[second])]


def feature_colors(count: int) -> np.ndarray:
    """(count + 1, 3) in [0, 1]: white for the background, then hues far apart."""
    return np.array([(1.0, 1.0, 1.0), *(colorsys.hsv_to_rgb((0.58 + 0.381966 * i) % 1, 0.55, 1.0) for i in range(count))])
