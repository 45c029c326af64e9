"""The JSON Schema of part files: what the reader takes it takes, what is misspelt it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import cad
from cad.cli import cad as commands
from cad.defects import DEFECTS
from cad.part import SHELF
from cad.reading import read_yaml
from cad.schema import schema
from cad.solids import SOLIDS

jsonschema = pytest.importorskip("jsonschema")
DOCS = Path(__file__).parents[1] / "docs" / "part_files.md"


@pytest.fixture(scope="module")
def validator() -> Any:
    made = schema()
    jsonschema.Draft202012Validator.check_schema(made)
    return jsonschema.Draft202012Validator(made)


def shelved(name: str) -> dict:
    return read_yaml((SHELF / f"{name}.yaml").read_text(encoding="utf-8"))


def keys(data: Any, path: tuple = ()) -> list[tuple]:
    """The paths of all keys whose names are the format's, not the user's."""
    if isinstance(data, list):
        return [k for i, value in enumerate(data) for k in keys(value, (*path, i))]
    if not isinstance(data, dict):
        return []
    own = path in (("dimensions",), ("defects",), ("names",))
    return [k for key, value in data.items() for k in [*([] if own else [(*path, key)]), *keys(value, (*path, key))]]


def misspelt(data: Any, path: tuple) -> Any:
    """The same with the key at ``path`` ending in an x more."""
    first, *rest = path
    if isinstance(data, list):
        return [misspelt(v, tuple(rest)) if i == first else v for i, v in enumerate(data)]
    return {(f"{k}x" if k == first and not rest else k): misspelt(v, tuple(rest)) if k == first and rest else v for k, v in data.items()}


@pytest.mark.parametrize("name", cad.shelf())
def test_every_part_of_the_shelf_is_valid(name: str, validator: Any) -> None:
    assert [e.message for e in validator.iter_errors(shelved(name))] == []


def test_the_examples_of_the_page_are_valid(validator: Any) -> None:
    blocks = [b for b in re.findall(r"```yaml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.S) if b.startswith("part:")]
    assert len(blocks) >= 2
    assert any("\nmesh:" in b for b in blocks)
    for block in blocks:
        assert [e.message for e in validator.iter_errors(read_yaml(block))] == []


@pytest.mark.parametrize("name", cad.shelf())
def test_no_key_may_be_misspelt_for_the_schema_or_the_reader(name: str, validator: Any) -> None:
    data = shelved(name)
    places = keys(data)
    assert len(places) > 20
    for place in places:
        wrong = misspelt(data, place)
        assert not validator.is_valid(wrong), place
        with pytest.raises(cad.InputError):
            cad.parse(json.dumps(wrong))


@pytest.mark.parametrize(
    "value", [3, 3.5, "3 ± 0.1", "3 +- .1", {"nominal": 3, "plus": 0.1}, "3 mm", "three", [3], {"plus": 1}, {"nominal": 3, "off": 1}]
)
def test_dimensions_as_the_reader_has_them(value: Any, validator: Any) -> None:
    data = {"part": "p", "dimensions": {"a": value}, "features": [{"name": "a", "add": "sphere", "radius": "a"}]}
    try:
        cad.parse(json.dumps(data))
    except cad.InputError:
        assert not validator.is_valid(data)
    else:
        assert validator.is_valid(data)


@pytest.mark.parametrize(
    "data",
    [
        {"part": "p"},
        {"part": "p", "mesh": "a.stl", "features": [{"name": "a", "add": "sphere", "radius": 1}]},
        {"part": "p", "mesh": "a.doc"},
        {"part": "p q", "mesh": "a.stl"},
        {"part": "p", "mesh": "a.stl", "units": "furlong"},
        {"part": "p", "mesh": "a.stl", "crease": 0},
        {"part": "p", "features": []},
        {"part": "p", "units": "inch", "features": [{"name": "a", "add": "sphere", "radius": 1}]},
        {"part": "p", "crease": 3, "features": [{"name": "a", "add": "sphere", "radius": 1}]},
        {"part": "p", "features": [{"name": "a", "add": "sphere", "cut": "sphere", "radius": 1}]},
        {"part": "p", "features": [{"name": "a", "add": "sphere"}]},
        {"part": "p", "features": [{"name": "a", "add": "sfere", "radius": 1}]},
        {"part": "p", "features": [{"name": "a", "add": "box", "size": [1, 2]}]},
        {"part": "p", "mesh": "a.stl", "defects": {"d": {"kind": "bulge", "on": "face-1"}}},
        {"part": "p", "mesh": "a.stl", "views": {"light": {"ambient": 3}}},
    ],
)
def test_what_neither_takes(data: dict, validator: Any) -> None:
    assert not validator.is_valid(data)
    with pytest.raises(cad.InputError):
        cad.parse(json.dumps(data))


@pytest.mark.parametrize(
    "data",
    [
        {"mesh": "a.STEP"},
        {"mesh": "b/a.stl", "units": "inch", "crease": 30, "names": {"face-1": "top"}},
        {"mesh": "a.glb", "defects": None},
    ],
)
def test_what_a_mesh_may_have(data: dict, validator: Any) -> None:
    assert validator.is_valid({"part": "p", **data})


def test_the_command_prints_it_and_it_knows_every_word(validator: Any) -> None:
    printed = CliRunner().invoke(commands, ["schema"]).stdout
    assert json.loads(printed) == validator.schema == schema()
    assert {s["title"] for s in validator.schema["properties"]["features"]["items"]["anyOf"]} == set(SOLIDS)
    assert {d["title"] for d in validator.schema["properties"]["defects"]["additionalProperties"]["anyOf"]} == set(DEFECTS)
