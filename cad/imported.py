"""A part whose shape is a mesh file: read once, kept in the part's text, open to the same defects as a built one."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cad.errors import InputError, nearest
from cad.imports import MOST, UNITS, read_surface
from cad.mesh import Mesh
from cad.patches import apart, combined, numbered, renamed, split, united
from cad.ply import ply_bytes, read_ply
from cad.repair import closed_bodies

KEYS = ("mesh", "crease", "names", "embedded")  # of a part file, beside its other ones
CREASE = 40.0  # degrees
START = "\nembedded: |\n"
NAME = re.compile(r"^[A-Za-z][\w-]*$")


@dataclass(frozen=True, eq=False)
class Imported:
    """The solid of a mesh file in mm, ``whole`` with the names of the part file and ``read`` with its own; what was mended (``repairs``).
    Its features are surfaces or bodies of it, not steps of making it."""

    whole: Mesh
    read: Mesh
    repairs: tuple[str, ...]
    file: str

    def mesh(
        self,
        dimensions: Mapping[str, float],
        *,
        without: str | None = None,
        shift: tuple[str, np.ndarray] | None = None,
        trim: tuple[str, Any] | None = None,
    ) -> Mesh:
        """The solid, ``scale`` times as large where that is a dimension; ``without``, ``shift`` and ``trim`` as for :func:`cad.build.build`.

        Raises InputError where a sub-component is no hole, pocket, boss or body that can be taken out.
        """
        scale = float(dimensions.get("scale", 1.0))
        whole = self.whole if scale == 1.0 else self.whole.moved(scale * self.whole.vertices)
        name = without or (shift or trim or (None,))[0]
        if name is None:
            return whole
        base, own, cut = apart(whole, name)
        if without is not None:
            return base
        if shift is not None:
            return combined(base, own.moved(own.vertices + shift[1]), cut=cut)
        solid, feature_of = own.manifold()
        tool = trim[1].as_original()
        left = solid - tool
        if left.is_empty():
            return base
        return combined(base, Mesh.of(left, feature_of | {tool.original_id(): whole.names.index(name) + 1}, whole.names), cut=cut)


def imported(data: Mapping[str, Any], folder: Path) -> Imported:
    """From the keys of a part file: what it embeds, else the file it names, looked for in ``folder``. Raises InputError."""
    if not isinstance(data["mesh"], str) or not data["mesh"].strip():
        raise InputError("mesh", f"found {data['mesh']!r}", wanted="the path of a mesh file, relative to the part file")
    units, crease = data.get("units", "mm"), data.get("crease")
    if not isinstance(units, str) or units not in UNITS:
        raise InputError("units", f"found {units!r}", wanted=", ".join(UNITS), step="what the mesh file counts in; all else here is mm")
    if crease is not None and (isinstance(crease, bool) or not isinstance(crease, (int, float)) or not 0 < crease <= 180):
        raise InputError("crease", f"found {crease!r}", wanted="an angle above 0 and at most 180 degrees")
    path = folder / data["mesh"]
    if data.get("embedded") is not None:
        read, repairs = read_ply(_decoded(data["embedded"]), "embedded")
    else:
        read, repairs = _read(path, units, crease)
    return Imported(renamed(read, _names(data.get("names"), read.names)), read, repairs, path.name)


def _read(path: Path, units: str, crease: float | None) -> tuple[Mesh, tuple[str, ...]]:
    surface = read_surface(path, units)
    bodies, repairs = closed_bodies(_named(surface))
    named = len({n for b in bodies for n in b.names}) > 1
    if not named and len(bodies) > 1:
        numbers = tuple(map(str, range(1, len(bodies) + 1)))
        bodies = [Mesh(b.vertices, b.faces, np.full(len(b.faces), i, np.int32), numbers) for i, b in enumerate(bodies, 1)]
    whole = united(bodies)
    if not named and len(bodies) > 1:
        label = np.unique(whole.feature, return_inverse=True)[1].reshape(-1)
        whole = numbered(whole, label, ["body"] * (label.max() + 1), "by bodies")
    if crease is not None or not (named or len(bodies) > 1):
        whole = split(whole, CREASE if crease is None else crease)
    return _used(whole), repairs.lines()


def embedded(text: str, solid: Imported) -> str:
    """The part file with its mesh in it: what a dataset or run keeps needs no other file."""
    content = base64.b64encode(ply_bytes(solid.read, solid.repairs)).decode()
    lines = "".join(f"  {content[i : i + 120]}\n" for i in range(0, len(content), 120))
    return f"{text.rstrip()}\n\n# {solid.file} as it was read, in mm: a PLY file in base64{START}{lines}"


def parted(text: str) -> tuple[str, str | None]:
    """The part file without what it embeds, and that: YAML's own reader would take seconds for it."""
    head, found, block = text.partition(START)
    return head, block if found else None


def _decoded(block: Any) -> bytes:
    try:
        return base64.b64decode("".join(block.split()), validate=True)
    except (AttributeError, ValueError, binascii.Error):
        raise InputError("embedded", "is damaged: it is not base64", step="take the key away to read the mesh file again") from None


def _named(surface: Mesh) -> Mesh:
    """Names that a part file can say: letters, digits, - and _, the first a letter."""
    clean = [re.sub(r"[^A-Za-z0-9_-]+", "-", n).strip("-") for n in surface.names]
    clean = [n if not n or n[0].isalpha() else f"part-{n}".replace("-_", "-") for n in clean]
    return renamed(surface, dict(zip(surface.names, clean, strict=True)))


def _used(mesh: Mesh) -> Mesh:
    """Without the names of which no face is left. Raises InputError where there are more than an id buffer can tell."""
    numbers, feature = np.unique(mesh.feature, return_inverse=True)
    if len(numbers) > MOST:
        raise InputError("mesh", f"found {len(numbers)} sub-components", wanted=f"at most {MOST}: an id buffer has 8 bits")
    return Mesh(mesh.vertices, mesh.faces, feature.reshape(-1).astype(np.int32) + 1, tuple(mesh.names[i - 1] or "rest" for i in numbers))


def _names(names: Any, known: tuple[str, ...]) -> dict[str, str]:
    if names is None:
        return {}
    if not isinstance(names, dict):
        raise InputError("names", f"found {names!r}", wanted="a mapping of found names to your own: {face-1: base}")
    for old, new in names.items():
        if old not in known:
            raise InputError(f"names.{old}", "the mesh has no such sub-component", step=nearest(old, known))
        if not isinstance(new, str) or not NAME.match(new):
            raise InputError(f"names.{old}", f"found {new!r}", wanted="letters, digits, - and _, the first a letter")
    return dict(names)
