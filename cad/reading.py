"""Reading YAML strictly, and turning what pydantic says into one line with a dotted key."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from cad.errors import InputError, nearest


class _Loader(yaml.SafeLoader):
    """YAML 1.2 scalars where 1.1 surprises (``on`` is a word, ``1e-3`` a number, ``010`` and ``1:30`` no numbers), and no key twice."""


_Loader.yaml_implicit_resolvers = {
    k: [(tag, r) for tag, r in v if tag.rpartition(":")[2] not in ("bool", "int", "float", "timestamp")]
    for k, v in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9]\d*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][-+]?\d+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"),
    list("-+0123456789."),
)


def _no_twins(loader: _Loader, node: yaml.MappingNode) -> dict:
    if not isinstance(node, yaml.MappingNode):
        raise yaml.constructor.ConstructorError(None, None, "found something else than a mapping", node.start_mark)
    seen = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(None, None, "a key must be a single word or number", key.start_mark)
        if key.value in seen:
            raise yaml.constructor.ConstructorError(None, None, f'the key "{key.value}" stands here twice', key.start_mark)
        seen.add(key.value)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _no_twins)


def read_yaml(text: str) -> Any:
    """YAML as this project reads it; raises InputError with line and column."""
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise InputError(
            f"line {mark.line + 1}, column {mark.column + 1}", error.problem or "not YAML", step="mend the YAML there"
        ) from None
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:  # a tag's word can break PyYAML
        raise InputError("file", f"not YAML: {error}") from None


class _Dumper(yaml.SafeDumper):
    """Quotes words that this loader, or PyYAML's own, would take for something else: ``0E0`` here, ``on`` there."""


_Dumper.yaml_implicit_resolvers = {
    k: yaml.SafeDumper.yaml_implicit_resolvers.get(k, []) + _Loader.yaml_implicit_resolvers.get(k, [])
    for k in {*yaml.SafeDumper.yaml_implicit_resolvers, *_Loader.yaml_implicit_resolvers}
}


def yaml_text(data: Any, **layout: Any) -> str:
    """What :func:`read_yaml` reads back the same, keys in their order; ``layout`` is PyYAML's own (width, flow style)."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, **layout)


def checked(make: Callable[[Any, str], Any], entry: Any, key: str, model: type[BaseModel] | None = None) -> Any:
    """``make(entry, key)``; pydantic's complaint becomes an InputError whose place is the dotted key."""
    try:
        return make(entry, key)
    except ValidationError as error:
        raise model_error(error, key, model) from None


def model_error(error: ValidationError, key: str, model: type[BaseModel] | None = None) -> InputError:
    """The first complaint of pydantic as one line; ``model`` tells the known keys."""
    # of a union's alternatives, the one that got furthest into the value is the one that was meant; a misspelt key explains a missing one
    first = max(error.errors(), key=lambda e: (len(e["loc"]), e["type"] == "extra_forbidden"))
    steps, known = [], model
    for step in first["loc"]:
        if isinstance(step, str) and (
            step.startswith(("function-", "literal[", "tuple[", "constrained"))
            or step in ("int", "float", "str")
            or (known and step == known.__name__)
        ):
            continue
        steps.append(str(step))
        found = known.model_fields.get(step) if known and isinstance(step, str) else None
        if found:
            known = next(iter(_models(found.annotation)), None)
    place = ".".join([key, *steps])
    if first["type"] == "extra_forbidden":
        return InputError(place, "unknown key", step=nearest(first["loc"][-1], known.model_fields) if known else "")
    if first["type"] == "tuple_type":
        return InputError(
            place, f"found {first['input']!r}", wanted="a list: [low, high] for a range, [x, y, z] for a direction, [r, g, b] for a colour"
        )
    if first["type"] == "missing":
        return InputError(place, "missing")
    wanted = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ").removeprefix("Input should ")
    problem, _, wish = wanted.rpartition("wanted ")
    return InputError(place, f"found {first['input']!r}" + (f": {problem.rstrip(': ')}" if problem else ""), wanted=wish)


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [m for a in getattr(annotation, "__args__", ()) for m in _models(a)]
