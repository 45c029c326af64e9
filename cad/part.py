"""The part file: dimensions with tolerances, features, what may go wrong, what the camera will meet."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from cad.build import Feature, build
from cad.defects import DEFECTS, Defect, DefectRecord, spec_of
from cad.errors import InputError, nearest
from cad.expressions import CONSTANTS, FUNCTIONS, LARGEST, names_in
from cad.fits import fit, general, general_class
from cad.imported import KEYS as MESH_KEYS
from cad.imported import Imported, embedded, imported, parted
from cad.imports import check_size
from cad.mesh import Mesh
from cad.population import Population
from cad.reading import checked, read_yaml
from cad.views import Views

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
SYMMETRIC = re.compile(rf"^\s*({NUMBER})\s*(?:±|\+-|\+/-)\s*({NUMBER})\s*$")
ONE_SIDED = re.compile(rf"^\s*({NUMBER})\s*\+\s*({NUMBER.removeprefix('[-+]?')})\s*/?\s*-\s*({NUMBER.removeprefix('[-+]?')})\s*$")
PART_NAME = DEFECT_NAME = re.compile(r"[A-Za-z0-9][\w-]*")
CHORD_RANGE = (1e-4, 1e3)  # mm
CHORDS = 2500  # a part's bounding diagonal over the default chord tolerance
KEYS = ("part", "units", "tolerances", "population", "chord", "dimensions", "features", *MESH_KEYS, "defects", "views")
SHELF = Path(__file__).parent / "parts"


@dataclass(frozen=True)
class Tolerance:
    """A dimension: ``nominal`` + ``plus`` - ``minus``, mm (or degrees, where a feature uses it so)."""

    nominal: float
    plus: float = 0.0
    minus: float = 0.0

    @property
    def low(self) -> float:
        return self.nominal - self.minus

    @property
    def high(self) -> float:
        return self.nominal + self.plus

    def __str__(self) -> str:
        if self.plus == self.minus:
            return f"{self.nominal:g} ± {self.plus:g}" if self.plus else f"{self.nominal:g}"
        return f"{self.nominal:g} +{self.plus:g} -{self.minus:g}"

    @classmethod
    def of(cls, value: Any, key: str) -> Tolerance:
        """From ``14.0``, ``14.0 ± 0.1``, ``14.0 +- 0.1``, ``14.0 +0.2 -0.1``, ``14 H7`` or ``{nominal, plus, minus}``."""
        wanted = "14.0, 14.0 ± 0.1, 14.0 +- 0.1, 14.0 +0.2 -0.1, 14 H7 or {nominal: 14.0, plus: 0.1, minus: 0.1}"
        if isinstance(value, dict):
            for name in value:
                if name not in ("nominal", "plus", "minus"):
                    raise InputError(f"{key}.{name}", "unknown key", step=nearest(name, ("nominal", "plus", "minus")))
            parts = [value.get("nominal"), value.get("plus", 0.0), value.get("minus", 0.0)]
        elif isinstance(value, str) and (match := SYMMETRIC.match(value)):
            parts = [float(match[1]), float(match[2]), float(match[2])]
        elif isinstance(value, str) and (match := ONE_SIDED.match(value)):
            parts = [float(match[k]) for k in (1, 2, 3)]
        elif isinstance(value, str) and (found := fit(value, key)):
            size, upper, lower = found
            nominal = min(max(size, size + lower), size + upper)  # g6 lies below its size: the part's own is then the nearest limit
            parts = [round(v, 6) + 0.0 for v in (nominal, size + upper - nominal, nominal - size - lower)]  # + 0.0: no -0
        else:
            parts = [value, 0.0, 0.0]
        if not all(isinstance(p, (int, float)) and not isinstance(p, bool) and abs(p) <= LARGEST for p in parts):
            raise InputError(key, f"found {value!r}", wanted=wanted)
        result = cls(*map(float, parts))
        if result.plus < 0 or result.minus < 0:
            raise InputError(key, f"found a tolerance of +{result.plus:g} -{result.minus:g}", wanted="plus and minus of at least 0")
        if result.nominal > 0 >= result.low:
            raise InputError(key, f"found {result}, whose tolerance allows {result.low:g}", wanted="a length that stays above 0")
        return result


@dataclass(frozen=True)
class Part:
    """A part as its file describes it. Immutable; meshes are built on demand, from ``features`` or, without any, the imported ``solid``."""

    name: str
    dimensions: dict[str, Tolerance]
    features: tuple[Feature, ...]
    defects: dict[str, Defect]
    views: Views
    text: str = field(repr=False, default="")
    chord: float = field(default=0.0, repr=False)
    population: Population = field(default_factory=Population)
    solid: Imported | None = field(default=None, repr=False)

    @property
    def nominal(self) -> dict[str, float]:
        return {name: t.nominal for name, t in self.dimensions.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """The sub-components, in the order of the file; feature id k is ``names[k - 1]``."""
        return self.solid.whole.names if self.solid else tuple(dict.fromkeys(f.name for f in self.features))

    def mesh(self, dimensions: Mapping[str, float] | None = None, **changes: Any) -> Mesh:
        """The watertight solid at ``dimensions`` (nominal by default); ``changes`` as for :func:`cad.build.build`."""
        dimensions = self.nominal if dimensions is None else dimensions
        return self.solid.mesh(dimensions, **changes) if self.solid else build(self.features, dimensions, chord=self.chord, **changes)

    def vary(self, rng: np.random.Generator) -> dict[str, float]:
        """The dimensions of one good part, mm: within their tolerances, spread as the file's ``population`` says."""
        return {name: self.population.draw(t.low, t.high, rng) for name, t in self.dimensions.items()}

    def with_defect(
        self, name: str, rng: np.random.Generator, *, dimensions: Mapping[str, float] | None = None, severity: float | None = None
    ) -> tuple[Mesh, DefectRecord]:
        """A mesh with the named defect, its severity drawn from the file's range unless given, and what was done."""
        if name not in self.defects:
            raise InputError("defects", f'the part has no defect "{name}"', step=nearest(name, self.defects))
        dimensions = self.nominal if dimensions is None else dict(dimensions)
        spec = self.defects[name]
        mesh, record = DEFECTS[spec.kind].make(self, dimensions, spec, rng, severity)
        return mesh, record.named(name)

    def check_tolerances(self) -> None:
        """Builds the part with each dimension at one limit and all others at the other. Raises InputError where one cannot be built."""
        for name in self.dimensions:
            for own, others in (("low", "high"), ("high", "low")):
                sizes = {n: getattr(t, own if n == name else others) for n, t in self.dimensions.items()}
                try:
                    self.mesh(sizes)
                except InputError as error:
                    at = f"with {name} at its {own} limit and the others at their {others}"
                    raise InputError(error.place, f"{at}, {error.problem}", wanted=error.wanted, step="narrow the tolerances") from None

    def features_of(self, dimension: str) -> tuple[str, ...]:
        """The sub-components whose entries read ``dimension``, in the order of the file."""
        users = [f for f in self.features if dimension in names_in(f.expressions)]
        return tuple(dict.fromkeys(f.name for f in users))


def load(path: str | Path) -> Part:
    """Reads a part file, or one of the shelf by its name (``notched_cap``). Raises InputError with place and next step."""
    path = find(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(path, "no such file", wanted="a part file", step=f"on the shelf: {', '.join(shelf())}") from None
    except (IsADirectoryError, PermissionError, UnicodeDecodeError) as error:
        raise InputError(
            path, f"cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8 text'}", wanted="a part file in YAML"
        ) from None
    try:
        return parse(text, path.parent)
    except InputError as error:
        raise error.inside(path) from None


def shelf() -> list[str]:
    """The names of the parts that ship with the package."""
    return sorted(p.stem for p in SHELF.glob("*.yaml"))


def find(path: str | Path) -> Path:
    """The file itself, or the shelf's part of that name (``hex-nut`` and ``hex_nut`` both)."""
    shelved = SHELF / f"{str(path).replace('-', '_')}.yaml"
    return shelved if not Path(path).exists() and shelved.exists() else Path(path)


def parse(text: str, folder: str | Path = ".") -> Part:
    """From the text of a part file; builds the nominal part and its tolerance corners once, so that errors come here.

    A mesh file is looked for in ``folder``; the part's own ``text`` then embeds it, and reads back the same without it.
    """
    head, block = parted(text)
    data = read_yaml(head)
    if block is not None and isinstance(data, dict):
        data["embedded"] = block
    if not isinstance(data, dict):
        raise InputError("top level", f"found {type(data).__name__}", wanted=f"the keys {', '.join(KEYS)}")
    for key in data:
        if key not in KEYS:
            raise InputError(key, "unknown key", step=nearest(key, KEYS))
    for key in ("part", "features"):
        if key not in data and not (key == "features" and "mesh" in data):
            raise InputError(key, "missing; every part file needs it")
    _one_shape(data)
    if not isinstance(data["part"], str) or not PART_NAME.fullmatch(data["part"]):
        raise InputError("part", f"found {data['part']!r}", wanted="a name of letters, digits, - and _")
    dimensions = _dimensions(data)
    for name in dimensions:
        if not isinstance(name, str) or not name.isidentifier() or name in FUNCTIONS or name in CONSTANTS:
            raise InputError(f"dimensions.{name}", "cannot be a dimension's name", wanted="letters, digits and _, and no function's name")
    solid = imported(data, Path(folder)) if "mesh" in data else None
    entries = [] if solid else data["features"]
    if not isinstance(entries, list) or not (entries or solid):
        raise InputError("features", f"found {entries!r}", wanted="a list of at least one entry")
    features = tuple(checked(Feature.of, entry, f"features.{i}", Feature) for i, entry in enumerate(entries))
    names = solid.whole.names if solid else tuple(dict.fromkeys(f.name for f in features))
    if len(names) > 255:
        raise InputError("features", f"found {len(names)} sub-components", wanted="at most 255: an id buffer has 8 bits")
    defects = {name: checked(spec_of, entry, f"defects.{name}") for name, entry in _mapping(data, "defects").items()}
    for name, spec in defects.items():
        if name == "good" or not isinstance(name, str) or not DEFECT_NAME.fullmatch(name):
            raise InputError(f"defects.{name}", "cannot be a defect's name", wanted="letters, digits, - and _, and not good")
        spec.refer(names, dimensions, f"defects.{name}")
    views = checked(lambda entry, key: TypeAdapter(Views).validate_python(entry), _mapping(data, "views"), "views", Views)
    population = checked(Population.of, data.get("population", "uniform"), "population", Population)
    if solid:
        _check_imported(solid, dimensions, defects, data.get("units", "mm"))
        text = text if data.get("embedded") else embedded(text, solid)
    part = Part(data["part"], dimensions, features, defects, views, text, _chord(data, features, dimensions, solid), population, solid)
    for corner in ("nominal", "low", "high"):
        try:
            part.mesh({name: getattr(t, corner) for name, t in dimensions.items()})
        except InputError as error:
            where = (
                error
                if corner == "nominal"
                else InputError(
                    error.place, f"with every dimension at its {corner} limit, {error.problem}", wanted=error.wanted, step=error.step
                )
            )
            raise where from None
    return part


def _mapping(data: dict, key: str) -> dict:
    value = {} if data.get(key) is None else data[key]
    if not isinstance(value, dict):
        raise InputError(key, f"found {value!r}", wanted="a mapping of names")
    return value


def _one_shape(data: dict) -> None:
    """Raises InputError where features and a mesh stand beside each other, or a key belongs to the other."""
    if "mesh" in data and "features" in data:
        raise InputError("features", "stands beside mesh", wanted="one of them")
    if "mesh" not in data:
        for key in MESH_KEYS:
            if key in data:
                raise InputError(key, "belongs to a mesh", wanted="a mesh, or no such key")
        if data.get("units", "mm") != "mm":
            raise InputError("units", f"found {data['units']!r}", wanted="mm")


def _check_imported(solid: Imported, dimensions: dict[str, Tolerance], defects: dict[str, Defect], units: str) -> None:
    """Raises InputError for a dimension, a size or a defect that a mesh cannot have."""
    for name in dimensions:
        if name != "scale":
            raise InputError(f"dimensions.{name}", "a mesh has no such dimension", wanted="scale, a factor on all of it, or none")
    check_size(solid.mesh({name: t.nominal for name, t in dimensions.items()}), solid.file, units)
    for name, spec in defects.items():
        if spec.kind in ("missing", "shift"):
            try:
                solid.mesh({}, without=spec.on)
            except InputError as error:
                raise InputError(f"defects.{name}.{error.place}", error.problem, wanted=error.wanted, step=error.step) from None


def _dimensions(data: dict) -> dict[str, Tolerance]:
    """Those without a tolerance of their own get the general one, where the file names it."""
    found = {name: Tolerance.of(value, f"dimensions.{name}") for name, value in _mapping(data, "dimensions").items()}
    if data.get("tolerances") is None:
        return found
    general_class(data["tolerances"])
    for name, value in data.get("dimensions", {}).items() if found else ():
        if isinstance(value, (int, float)) or (isinstance(value, dict) and "plus" not in value and "minus" not in value):
            limit = general(found[name].nominal, data["tolerances"], f"dimensions.{name}")
            found[name] = Tolerance.of({"nominal": found[name].nominal, "plus": limit, "minus": limit}, f"dimensions.{name}")
    return found


def _chord(data: dict, features: tuple[Feature, ...], dimensions: dict[str, Tolerance], solid: Imported | None) -> float:
    """The file's own chord tolerance, else a fixed share of the part's size; the same for all its variants."""
    if (given := data.get("chord")) is not None:
        if isinstance(given, bool) or not isinstance(given, (int, float)) or not CHORD_RANGE[0] <= given <= CHORD_RANGE[1]:
            raise InputError("chord", f"found {given!r}", wanted="mm between a circle and its facets, from 0.0001 to 1000")
        return float(given)
    nominal = {name: t.nominal for name, t in dimensions.items()}
    return (solid.mesh(nominal) if solid else build(features, nominal, chord=0.25)).diagonal / CHORDS
