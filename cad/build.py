"""From features and dimensions to a watertight Mesh: solids added, cut and kept in order."""

from __future__ import annotations

import atexit
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from manifold3d import Error, Manifold, OpType
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from cad.errors import InputError, nearest
from cad.expressions import evaluate
from cad.mesh import Mesh
from cad.solids import EDGE_FIELDS, EDGES, FIELD_SHAPE, SOLIDS, fields
from cad.views import Direction

Expression = int | float | str
AXES = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}
OPERATIONS = ("add", "cut", "keep")
MAX_TRIANGLES = 400_000
MAX_SECONDS = 20.0  # of one build: a part takes hundredths of one
AT_ONCE = 32  # copies that are united in one step; more of them in pairs, the clock looked at in between
COUNTED = {2: "two", 3: "three"}


class Repeat(BaseModel):
    """Copies of the placed solid: about an axis through the origin; given ``radius``, on a circle about ``at``; given ``step``, in a row."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    count: Annotated[int, Field(ge=1, le=720)]
    axis: Literal["x", "y", "z"] | Direction = "z"
    radius: Expression | None = None
    step: tuple[Expression, Expression, Expression] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Repeat:
        if self.step is not None and self.model_fields_set & {"axis", "radius"}:
            raise ValueError("step goes in a row, axis and radius in a circle: wanted one of them")
        return self

    @property
    def expressions(self) -> list[Any]:
        return [self.radius, list(self.step or ())]

    @property
    def direction(self) -> np.ndarray:
        vector = np.asarray(AXES[self.axis] if isinstance(self.axis, str) else self.axis, float)
        return vector / np.linalg.norm(vector)


def _planes(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Plane = Literal["x", "y", "z"]
Mirror = Annotated[tuple[Plane, ...], BeforeValidator(_planes, json_schema_input_type=Plane | tuple[Plane, ...])]


class Feature(BaseModel):
    """One entry of ``features``: an operation with a solid, its fields as expressions over the dimensions."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: Annotated[str, Field(pattern=r"^[A-Za-z][\w-]*$")]
    operation: Literal["add", "cut", "keep"]
    solid: str
    values: dict[str, Any]
    at: tuple[Expression, Expression, Expression] = (0, 0, 0)
    rotate: tuple[Expression, Expression, Expression] = (0, 0, 0)
    repeat: Repeat | None = None
    mirror: Mirror = ()

    @property
    def expressions(self) -> list[Any]:
        """All that may read dimensions."""
        return [self.values, self.at, self.rotate, self.repeat.expressions if self.repeat else []]

    @classmethod
    def of(cls, entry: Any, key: str) -> Feature:
        """From the YAML mapping, ``key`` its dotted place; raises InputError for what does not belong there."""
        if not isinstance(entry, dict):
            raise InputError(key, f"found {entry!r}", wanted="a mapping such as {name: hole, cut: cylinder, radius: 2, height: 5}")
        operations = [o for o in OPERATIONS if o in entry]
        if len(operations) != 1:
            raise InputError(key, f"found {' and '.join(operations) or 'no operation'}", wanted="exactly one of add, cut, keep")
        operation, solid = operations[0], entry[operations[0]]
        if not isinstance(solid, str) or solid not in SOLIDS:
            raise InputError(f"{key}.{operation}", f'found the unknown solid "{solid}"', step=nearest(solid, SOLIDS))
        own, common = fields(solid), ("name", "at", "rotate", "repeat", "mirror")
        for name in entry:
            if name not in own and name not in (*common, operation):
                raise InputError(f"{key}.{name}", f"unknown key for a {solid}", step=nearest(name, (*own, *common)))
        for name, needed in own.items():
            if needed and name not in entry:
                raise InputError(f"{key}.{name}", f"missing; a {solid} needs it")
        return cls(
            operation=operation, solid=solid, values={n: entry[n] for n in own if n in entry}, **{n: entry[n] for n in common if n in entry}
        )


class Clock:
    """What a build may take: asked between steps, it raises InputError when MAX_SECONDS are over."""

    def __init__(self) -> None:
        self.end = time.monotonic() + MAX_SECONDS

    def check(self, place: str) -> None:
        if time.monotonic() > self.end:
            raise InputError(
                place, f"the part is not built after {MAX_SECONDS:g} s", wanted="fewer copies or facets", step="a larger chord, say"
            )


class Placed(NamedTuple):
    """A feature with every expression computed: hashable, so that builds that share their first steps share the work."""

    operation: str
    kind: str
    values: tuple[tuple[str, Any], ...]
    rotate: tuple[float, ...]
    at: tuple[float, ...]
    repeat: tuple[int, tuple[float, ...], float | None, tuple[float, ...] | None] | None
    mirror: tuple[str, ...]
    name: str

    @classmethod
    def of(cls, feature: Feature, dimensions: Mapping[str, float], key: str) -> Placed:
        """Errors bear the dotted ``key`` of the feature."""
        values = tuple((n, _value(feature.solid, n, v, dimensions, f"{key}.{n}")) for n, v in feature.values.items())
        turn, at = (_numbers(v, (3,), dimensions, f"{key}.{n}") for n, v in (("rotate", feature.rotate), ("at", feature.at)))
        repeat = None
        if (r := feature.repeat) is not None:
            radius = None if r.radius is None else evaluate(r.radius, dimensions, f"{key}.repeat.radius")
            step = None if r.step is None else _numbers(r.step, (3,), dimensions, f"{key}.repeat.step")
            repeat = (r.count, tuple(r.direction), radius, step)
        return cls(feature.operation, feature.solid, values, turn, at, repeat, feature.mirror, feature.name)

    def solid(self, chord: float, key: str, clock: Clock) -> Manifold:
        """Made, turned, moved, repeated and mirrored; errors bear the dotted ``key`` of the feature."""
        try:
            solid = self._repeated(SOLIDS[self.kind](**dict(self.values), chord=chord).rotate(self.rotate), clock)
            for plane in self.mirror:
                solid = solid + solid.mirror(AXES[plane])
            return solid
        except InputError as error:
            raise InputError(f"{key}.{error.place}", error.problem, wanted=error.wanted, step=f"feature {self.name}") from None

    def _repeated(self, solid: Manifold, clock: Clock) -> Manifold:
        if self.repeat is None:
            return solid.translate(self.at)
        count, axis, reach, step = self.repeat
        if step is not None:
            return _united(_in_a_row(solid.translate(self.at), step, count), clock)
        if reach is None:
            return _united(_around(solid.translate(self.at), np.asarray(axis), count), clock)
        outward = np.cross(AXES["y"] if abs(axis[1]) < 0.9 else AXES["z"], axis)  # +x for an upright axis
        placed = solid.translate(list(reach * outward / np.linalg.norm(outward)))
        return _united(_around(placed, np.asarray(axis), count), clock).translate(self.at)


def build(
    features: Sequence[Feature],
    dimensions: Mapping[str, float],
    *,
    chord: float,
    without: str | None = None,
    shift: tuple[str, np.ndarray] | None = None,
    trim: tuple[str, Manifold] | None = None,
) -> Mesh:
    """The part's solid in mm, each face carrying 1 + the index of its feature's name.

    ``without`` leaves a feature out, ``shift`` = (name, (3,) mm) moves one, ``trim`` = (name, tool) takes
    a tool away from one's own solid, before others are cut from it: defects use them. Raises InputError naming
    the feature that empties the part, changes nothing, breaks, has more than MAX_TRIANGLES or comes after MAX_SECONDS.
    """
    clock = Clock()
    names = tuple(dict.fromkeys(f.name for f in features))
    whole, feature_of, done = None, {}, ()
    for index, feature in enumerate(features):
        if feature.name == without:
            continue
        key = f"features.{index}"
        placed = Placed.of(feature, dimensions, key)
        move = tuple(map(float, shift[1])) if shift is not None and feature.name == shift[0] else None
        done = (*done, (chord, move, placed))
        if trim is None and done in _BUILT:
            whole, feature_of = _BUILT[done]
            continue
        clock.check(key)
        solid = placed.solid(chord, key, clock)
        solid = solid.translate(list(move)) if move else solid
        before = whole
        whole, original = _joined(feature, key, before, solid - trim[1] if trim is not None and feature.name == trim[0] else solid)
        feature_of = {**feature_of, original: names.index(feature.name) + 1}
        if without is None and trim is None:
            _changed(feature, key, before, whole)  # of what a defect took away, nothing is left to cut from
        if trim is None and (without is None or _differs(before, whole)):
            _remember(done, (whole, feature_of))
    if whole is None:
        raise InputError("features", "nothing is left to build", wanted="at least one add")
    return Mesh.of(whole, feature_of, names)


_BUILT: OrderedDict[tuple, tuple[Manifold, dict[int, int]]] = OrderedDict()  # steps done -> solid; a defect shares most with its good part


atexit.register(_BUILT.clear)  # manifold3d complains of what is still alive when the interpreter goes


def forget() -> None:
    """Lets go of the steps built so far: the next build starts from nothing."""
    _BUILT.clear()


def _remember(done: tuple, built: tuple[Manifold, dict[int, int]]) -> None:
    _BUILT[done] = built
    while len(_BUILT) > 64:
        _BUILT.popitem(last=False)


def _joined(feature: Feature, key: str, whole: Manifold | None, solid: Manifold) -> tuple[Manifold, int]:
    """``whole`` after the feature's operation with ``solid``, and the original id that its new faces bear."""
    solid = solid.as_original()
    if solid.status() != Error.NoError or solid.num_tri() > MAX_TRIANGLES:
        raise InputError(
            key,
            f"the {feature.solid} of feature {feature.name} has {solid.num_tri()} triangles ({solid.status().name})",
            wanted=f"a valid solid of at most {MAX_TRIANGLES}",
        )
    if whole is None and feature.operation != "add":
        raise InputError(key, f"feature {feature.name} would {feature.operation} before anything was added", wanted="an add first")
    joined = (
        solid
        if whole is None
        else {"add": Manifold.__add__, "cut": Manifold.__sub__, "keep": Manifold.__xor__}[feature.operation](whole, solid)
    )
    if joined.is_empty() or joined.volume() <= 1e-9:
        raise InputError(
            key,
            f"feature {feature.name} ({feature.operation} {feature.solid}) leaves an empty part",
            wanted="a solid with volume above 0 mm3",
        )
    if joined.num_tri() > MAX_TRIANGLES:
        raise InputError(key, f"with feature {feature.name} the part has {joined.num_tri()} triangles", wanted=f"at most {MAX_TRIANGLES}")
    return joined, solid.original_id()


def _differs(before: Manifold | None, whole: Manifold) -> bool:
    old, new = 0.0 if before is None else before.volume(), whole.volume()
    return abs(new - old) > 1e-9 * max(old, new)


def _changed(feature: Feature, key: str, before: Manifold | None, whole: Manifold) -> None:
    if not _differs(before, whole):
        raise InputError(
            key,
            f"feature {feature.name} ({feature.operation} {feature.solid}) changes nothing: its volume cancels out",
            wanted="a feature that meets the part",
        )


def _countable(solid: Manifold, count: int) -> None:
    if count * solid.num_tri() > MAX_TRIANGLES:
        raise InputError("repeat.count", f"{count} copies have {count * solid.num_tri()} triangles", wanted=f"at most {MAX_TRIANGLES}")


def _in_a_row(solid: Manifold, step: tuple[float, ...], count: int) -> list[Manifold]:
    _countable(solid, count)
    return [solid.translate([k * s for s in step]) for k in range(count)]


def _around(solid: Manifold, axis: np.ndarray, count: int) -> list[Manifold]:
    """``count`` copies of ``solid`` turned evenly about ``axis`` through the origin."""
    _countable(solid, count)
    copies = []
    for angle in 2 * np.pi * np.arange(count) / count:
        cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
        turn = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
        copies.append(solid.transform(np.column_stack([turn, np.zeros(3)])))
    return copies


def _united(copies: list[Manifold], clock: Clock) -> Manifold:
    while len(copies) > AT_ONCE:
        pairs = zip(copies[::2], copies[1::2], strict=False)
        joined = []
        for a, b in pairs:
            clock.check("repeat.count")
            joined.append(a + b)
            joined[-1].num_tri()  # now: what is put off cannot be stopped
        copies = joined + copies[len(copies) // 2 * 2 :]
    return Manifold.batch_boolean(copies, OpType.Add)


def _value(solid: str, name: str, value: Any, dimensions: Mapping[str, float], key: str) -> Any:
    """The field of a solid, computed; a chamfer's or fillet's edges as pairs of name and mm."""
    if name not in EDGE_FIELDS or not isinstance(value, dict):
        return _numbers(value, FIELD_SHAPE.get(name), dimensions, key)
    for edge in value:
        if edge not in EDGES[solid]:
            raise InputError(f"{key}.{edge}", f"a {solid} has no such edge", step=nearest(edge, EDGES[solid]))
    return tuple((edge, evaluate(size, dimensions, f"{key}.{edge}")) for edge, size in value.items())


def _numbers(value: Any, shape: tuple[int, ...] | None, dimensions: Mapping[str, float], key: str) -> Any:
    """A number, or nested lists of numbers of the given shape (-3: any length of at least 3)."""
    if shape is None:
        return evaluate(value, dimensions, key)
    if not isinstance(value, (list, tuple)) or (shape[0] >= 0 and len(value) != shape[0]) or len(value) < -shape[0]:
        raise InputError(key, f"found {value!r}", wanted=f"a list of {shape[0] if shape[0] >= 0 else f'{COUNTED[-shape[0]]} or more'}")
    return tuple(_numbers(v, shape[1:] or None, dimensions, f"{key}.{i}") for i, v in enumerate(value))
