"""The part file's JSON Schema, made from the tables and models that read the file: editors complete and check with it."""

from __future__ import annotations

import re
from typing import Any, get_args

from pydantic import TypeAdapter

from cad.build import OPERATIONS, Feature
from cad.defects import DEFECTS
from cad.fits import FIT, GENERAL
from cad.imported import KEYS as MESH_KEYS
from cad.imported import NAME
from cad.imports import READERS, UNITS
from cad.part import CHORD_RANGE, DEFECT_NAME, KEYS, ONE_SIDED, PART_NAME, SYMMETRIC
from cad.population import Normal, Population
from cad.solids import EDGE_FIELDS, EDGES, FIELD_SHAPE, SOLIDS, fields
from cad.views import Views

DRAFT = "https://json-schema.org/draft/2020-12/schema"
EXPRESSION = {"type": ["number", "string"], "description": "a number, or arithmetic over the dimensions: radius - wall"}
OF_A_SHAPE = ("features", "mesh")


def schema() -> dict[str, Any]:
    """Draft 2020-12. What it accepts is a part file as far as its words and types go; whether it builds, `cad show` tells."""
    top = {
        "part": {"type": "string", "pattern": _whole(PART_NAME), "description": "the part's name"},
        "units": {"enum": list(UNITS), "description": "mm; what a mesh file counts in, where there is one"},
        "tolerances": {
            "type": "string",
            "pattern": GENERAL.pattern,
            "description": "ISO 2768-m: for dimensions without a tolerance of their own",
        },
        "population": _population(),
        "chord": {
            "type": "number",
            "minimum": CHORD_RANGE[0],
            "maximum": CHORD_RANGE[1],
            "description": "mm between a circle and its facets",
        },
        "dimensions": _named(_tolerance(), "every number of the part, with its tolerance, once"),
        "features": {
            "type": "array",
            "minItems": 1,
            "items": {"anyOf": [_feature(s) for s in SOLIDS]},
            "description": "solids, applied in order",
        },
        "mesh": {
            "type": "string",
            "pattern": rf"\.({'|'.join(_anyhow(k) for k in READERS)})$",
            "description": "a mesh file in place of features; its path is relative to this file",
        },
        "crease": {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": 180,
            "description": "degrees: faces that meet at more are two sub-components",
        },
        "names": _named({"type": "string", "pattern": NAME.pattern}, "your own names for the mesh's sub-components"),
        "embedded": {"type": "string", "description": "the mesh as it was read: written by programs"},
        "defects": _named({"anyOf": [_defect(kind) for kind in DEFECTS]}, "what may go wrong", DEFECT_NAME),
        "views": TypeAdapter(Views).json_schema(),
    }
    definitions = top["views"].pop("$defs", {})
    return {
        "$schema": DRAFT, "title": "Formspect part file", "type": "object", "properties": {key: _or_nothing(key, top[key]) for key in KEYS},
        "required": ["part"], "oneOf": [{"required": [key]} for key in OF_A_SHAPE], "additionalProperties": False, "$defs": definitions,
        "dependentRequired": {key: ["mesh"] for key in MESH_KEYS if key != "mesh"},
        "if": {"required": ["features"]}, "then": {"properties": {"units": {"const": "mm"}}},
    }  # fmt: skip


def _or_nothing(key: str, own: dict[str, Any]) -> dict[str, Any]:
    """A mapping may be left empty: the key alone."""
    return {**own, "type": ["object", "null"]} if key in ("dimensions", "defects", "views", "names") else own


def _named(values: dict[str, Any], description: str, names: re.Pattern | None = None) -> dict[str, Any]:
    return {"description": description, "additionalProperties": values} | ({"propertyNames": {"pattern": _whole(names)}} if names else {})


def _whole(pattern: re.Pattern) -> str:
    return f"^(?:{pattern.pattern})$"


def _anyhow(word: str) -> str:
    return "".join(f"[{c}{c.upper()}]" if c.isalpha() else c for c in word)


def _tolerance() -> dict[str, Any]:
    number = {"type": "number"}
    mapping = {
        "type": "object",
        "properties": {"nominal": number, "plus": number, "minus": number},
        "required": ["nominal"],
        "additionalProperties": False,
    }
    return {
        "anyOf": [number, *({"type": "string", "pattern": p.pattern} for p in (SYMMETRIC, ONE_SIDED, FIT)), mapping],
        "description": "14.0, 14.0 ± 0.1, 14.0 +- 0.1, 14.0 +0.2 -0.1, 14 H7 or {nominal, plus, minus}",
    }


def _population() -> dict[str, Any]:
    alone = list(get_args(Population.model_fields["kind"].annotation))
    normal = {"type": "object", "properties": {"normal": _inlined(Normal.model_json_schema())}, "required": ["normal"], "additionalProperties": False}  # fmt: skip
    return {"anyOf": [{"enum": alone}, normal], "description": "how good parts are spread over their tolerances"}


def _feature(solid: str) -> dict[str, Any]:
    """An entry that adds, cuts or keeps this solid."""
    own, (common, needed) = fields(solid), _common()
    operations = {o: {"const": solid} for o in OPERATIONS}
    return {
        "type": "object", "title": solid, "description": (SOLIDS[solid].__doc__ or "").strip().splitlines()[0],
        "properties": {**common, **operations, **{name: _field(solid, name) for name in own}},
        "required": [*needed, *(name for name, must in own.items() if must)],
        "oneOf": [{"required": [o]} for o in OPERATIONS], "additionalProperties": False,
    }  # fmt: skip


def _field(solid: str, name: str) -> dict[str, Any]:
    if name not in EDGE_FIELDS:
        return _shaped(FIELD_SHAPE.get(name, ()))
    each = {"type": "object", "properties": dict.fromkeys(EDGES[solid], EXPRESSION), "additionalProperties": False}
    return {"anyOf": [EXPRESSION, each]}


def _common() -> tuple[dict[str, Any], list[str]]:
    """What every entry may have, and what it must, beside its solid."""
    model = _inlined(Feature.model_json_schema())
    own = {k: v for k, v in model["properties"].items() if k not in ("operation", "solid", "values")}
    return own, [k for k in model["required"] if k in own]


def _shaped(shape: tuple[int, ...]) -> dict[str, Any]:
    if not shape:
        return EXPRESSION
    bounds = {"minItems": -shape[0]} if shape[0] < 0 else {"minItems": shape[0], "maxItems": shape[0]}
    return {"type": "array", "items": _shaped(shape[1:]), **bounds}


def _defect(kind: str) -> dict[str, Any]:
    model = _inlined(DEFECTS[kind].model.model_json_schema())
    about = " ".join((DEFECTS[kind].make.__doc__ or "").split())
    return {**model, "title": kind, "description": about, "properties": {**model["properties"], "kind": {"const": kind}}}


def _inlined(model: Any, definitions: dict[str, Any] | None = None) -> Any:
    """A model's schema with its definitions put where they are used, so that models can stand beside each other."""
    if isinstance(model, list):
        return [_inlined(value, definitions) for value in model]
    if not isinstance(model, dict):
        return model
    known = definitions if definitions is not None else model.get("$defs", {})
    if "$ref" in model:
        return _inlined(known[model["$ref"].rsplit("/", 1)[1]], known)
    return {key: _inlined(value, known) for key, value in model.items() if key != "$defs"}
