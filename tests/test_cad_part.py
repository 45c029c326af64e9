"""The part file: what it may say, and the line that answers each mistake."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

import cad
from cad.expressions import evaluate
from cad.part import KEYS, SHELF, Tolerance
from cad.reading import read_yaml, yaml_text
from cad.solids import SOLIDS, fields

CAP = (SHELF / "notched_cap.yaml").read_text(encoding="utf-8")
BLOCK = "part: block\ndimensions: {side: 4.0 ± 0.1}\nfeatures:\n  - {name: body, add: box, size: [side, side, side]}\n"


def complaint(text: str) -> str:
    """The line that the part file is answered with."""
    with pytest.raises(cad.InputError) as caught:
        cad.parse(text)
    return str(caught.value)


# Tolerances


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("14", (14.0, 0.0, 0.0)),
        ("14.0", (14.0, 0.0, 0.0)),
        ("14.0 ± 0.1", (14.0, 0.1, 0.1)),
        ("14.0±0.1", (14.0, 0.1, 0.1)),
        ("14.0 +- 0.1", (14.0, 0.1, 0.1)),
        ("14.0 +/- 0.1", (14.0, 0.1, 0.1)),
        ("14 ± 1e-1", (14.0, 0.1, 0.1)),
        (".5 ± .25", (0.5, 0.25, 0.25)),
        ("-3.0 ± 0.5", (-3.0, 0.5, 0.5)),
        ("{nominal: 14.0, plus: 0.2, minus: 0.1}", (14.0, 0.2, 0.1)),
        ("{nominal: 14.0, plus: 0.2}", (14.0, 0.2, 0.0)),
        ("{nominal: 14.0}", (14.0, 0.0, 0.0)),
    ],
)
def test_a_tolerance_is_read_in_each_of_its_forms(text: str, expected: tuple[float, float, float]) -> None:
    assert Tolerance.of(yaml.safe_load(text), "d") == Tolerance(*expected)


@given(st.floats(0.1, 999), st.floats(0, 0.09))
def test_a_symmetric_tolerance_reads_back_what_was_written(nominal: float, plus: float) -> None:
    assert Tolerance.of(f"{nominal!r} ± {plus!r}", "d") == Tolerance(nominal, plus, plus)


def test_the_limits_of_a_tolerance_are_its_nominal_plus_and_minus() -> None:
    tolerance = Tolerance.of({"nominal": 13.0, "plus": 0.25, "minus": 0.5}, "d")
    assert (tolerance.low, tolerance.high) == (12.5, 13.25)


@pytest.mark.parametrize("text", ["wide", "14 ± ", "14 ± 0.1 mm", "'14'", "true", "null", "[14, 0.1]", ".nan", ".inf", "1e9", "{plus: 0.1}", "{nominal: x}", "9" * 400])  # fmt: skip
def test_a_dimension_that_is_no_length_is_named_with_the_forms_it_may_take(text: str) -> None:
    line = complaint(BLOCK.replace("4.0 ± 0.1", text))
    assert line.startswith("dimensions.side: found ")
    assert "14.0 ± 0.1" in line


def test_a_tolerance_with_a_misspelt_key_names_the_nearest() -> None:
    assert complaint(BLOCK.replace("4.0 ± 0.1", "{nominal: 4, plsu: 0.1}")) == 'dimensions.side.plsu: unknown key (did you mean "plus"?)'


def test_a_tolerance_that_allows_a_negative_length_is_refused() -> None:
    line = complaint(BLOCK.replace("4.0 ± 0.1", "4.0 ± 4.5"))
    assert line == "dimensions.side: found 4 ± 4.5, whose tolerance allows -0.5; wanted a length that stays above 0"


def test_a_negative_tolerance_is_refused() -> None:
    assert "plus and minus of at least 0" in complaint(BLOCK.replace("4.0 ± 0.1", "{nominal: 4, plus: -0.1}"))


@pytest.mark.parametrize("name", ["1", "notch-width", "two words", "sin", "pi"])
def test_a_dimension_bears_a_name_that_arithmetic_can_read(name: str) -> None:
    assert complaint(BLOCK.replace("{side:", f"{{{name}: 1.0, side:")).startswith(f"dimensions.{name}: cannot be a dimension's name")


# YAML


def test_on_is_a_word() -> None:
    assert read_yaml("{on: on, off: no, y: yes}") == {"on": "on", "off": "no", "y": "yes"}


@pytest.mark.parametrize(("text", "value"), [("1e-3", 1e-3), ("1E3", 1000.0), ("1.", 1.0), (".5", 0.5), ("-2.5e+2", -250.0), ("-7", -7), ("0", 0)])  # fmt: skip
def test_a_number_is_read_as_yaml_1_2_writes_it(text: str, value: float) -> None:
    found = read_yaml(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", ["010", "1:30", "0b11", "1_000", "2024-01-02", "e3", "."])
def test_what_only_yaml_1_1_takes_for_a_number_stays_text(text: str) -> None:
    assert read_yaml(text) == text


SCALARS = st.one_of(st.text(), st.sampled_from(["0E0", "on", "010", "1:30", "1e-3", "null", "2024-01-02", ".", "-"]), st.integers(), st.floats(allow_nan=False), st.booleans(), st.none())  # fmt: skip


@given(
    st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1), inner, max_size=3), max_leaves=6)
)
@example(["0E0", "1E5", 1e-5, float("-inf")])
def test_what_is_written_is_read_back_the_same_by_this_reader_and_by_pyyaml(data: object) -> None:
    assert read_yaml(yaml_text(data)) == data
    assert yaml.safe_load(yaml_text(data)) == data


@pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False), ("null", None), ("~", None)])
def test_truth_and_nothing_are_read(text: str, value: object) -> None:
    assert read_yaml(text) is value


def test_a_key_that_stands_twice_is_refused_where_it_stands_again() -> None:
    assert complaint("part: a\nunits: mm\npart: b\n").startswith('line 3, column 1: the key "part" stands here twice')


def test_a_key_that_stands_twice_is_refused_further_in() -> None:
    assert complaint(BLOCK.replace("size: [", "size: 3, size: [")).startswith('line 4, column 37: the key "size" stands here twice')


def test_a_syntax_error_has_its_line_and_column() -> None:
    assert complaint("part: block\nfeatures: [}\n").startswith("line 2, column 12: ")


@pytest.mark.parametrize("text", ["? [a, b]\n: c", "!!map [a]", "a: !!int ''", "a: !!bool maybe", "a: !!timestamp noon", "a: !!python/name:os.system", "&a [*a]", '"\\uD800": 1', "\x00"])  # fmt: skip
def test_odd_yaml_is_a_mistake_and_no_crash(text: str) -> None:
    assert complaint(text).encode()  # can be printed


# Keys and values, each with its dotted place


@pytest.mark.parametrize(
    ("found", "instead", "line"),
    [
        ("dimensions:", "dimension:", 'dimension: unknown key (did you mean "dimensions"?)'),
        ("size: [", "sise: [", 'features.0.sise: unknown key for a box (did you mean "size"?)'),
        ("side]}", "side], rotat: [0, 0, 9]}", 'features.0.rotat: unknown key for a box (did you mean "rotate"?)'),
        ("side]}", "side], repeat: {cuont: 2}}", 'features.0.repeat.cuont: unknown key (did you mean "count"?)'),
        ("add: box", "add: bx", 'features.0.add: found the unknown solid "bx" (did you mean "box"?)'),
        ("add: box", "add: [box]", 'features.0.add: found the unknown solid "[\'box\']" (did you mean "box"?)'),
        ("add: box", "add: box, cut: box", "features.0: found add and cut; wanted exactly one of add, cut, keep"),
        ("add: box, ", "", "features.0: found no operation; wanted exactly one of add, cut, keep"),
        (", size: [side, side, side]", "", "features.0.size: missing; a box needs it"),
        ("name: body, ", "", "features.0.name: missing"),
        ("part: block", "part: ../x", "part: found '../x'; wanted a name of letters, digits, - and _"),
        ("part: block", "units: mm", "part: missing; every part file needs it"),
        ("part: block", "part: block\nunits: inch", "units: found 'inch'; wanted mm"),
        ("side, side, side", "side, side", "features.0.size: found ['side', 'side']; wanted a list of 3"),
        ("side, side, side", "side, side, sde", 'features.0.size.2: "sde" reads the unknown dimension "sde" (did you mean "side"?)'),
        ("side, side, side", "side, side, -side", "features.0.size.2: found -4; wanted a length above 0 mm (feature body)"),
        ("add: box", "cut: box", "features.0: feature body would cut before anything was added; wanted an add first"),
    ],
)
def test_a_mistake_in_dimensions_or_features_is_answered_with_its_place(found: str, instead: str, line: str) -> None:
    assert BLOCK.count(found) == 1
    assert complaint(BLOCK.replace(found, instead)) == line


@pytest.mark.parametrize(
    ("views", "line"),
    [
        ("{lihgt: {}}", 'views.lihgt: unknown key (did you mean "light"?)'),
        ("{camera: {projektion: perspective}}", 'views.camera.projektion: unknown key (did you mean "projection"?)'),
        ("{rotation: {axsi: [0, 0, 1]}}", 'views.rotation.axsi: unknown key (did you mean "axis"?)'),
        ("{rotation: {spin: [90, 10]}}", "views.rotation.spin: found [90, 10]: the range is upside down; wanted [10, 90]"),
        ("{camera: {fill: [0.8, 0.5]}}", "views.camera.fill: found [0.8, 0.5]: the range is upside down; wanted [0.5, 0.8]"),
        ("{surface: {color: [2, 0, 0]}}", "views.surface.color.0: found 2; wanted less than or equal to 1"),
        ("{light: {direction: [0, 0, 0]}}", "views.light.direction: found [0, 0, 0]; wanted a vector of a length between 1e-06 and 1e+06"),
        ("{light: {direction: [.inf, 0, 0]}}", "views.light.direction.0: found inf; wanted a finite number"),
        ("[]", "views: found []; wanted a mapping of names"),
    ],
)
def test_a_mistake_in_views_is_answered_with_its_place(views: str, line: str) -> None:
    assert complaint(f"{BLOCK}views: {views}\n") == line


@pytest.mark.parametrize(
    ("defect", "line"),
    [
        ("{kind: bulge, hieght: [1, 2], diameter: [1, 2]}", 'defects.d.hieght: unknown key (did you mean "height"?)'),
        ("{kind: bulge, height: [2, 1], diameter: [1, 2]}", "defects.d.height: found [2, 1]: the range is upside down; wanted [1, 2]"),
        ("{kind: bulge, height: [.nan, 1], diameter: [1, 2]}", "defects.d.height.0: found nan; wanted a finite number"),
        ("{kind: bulge, height: [1, 2], diameter: [0, 2]}", "defects.d.diameter: found 0; wanted a number above 0"),
        ("{kind: bulge, height: [1, 2]}", "defects.d.diameter: missing"),
        ("{kind: bluge}", 'defects.d.kind: found the unknown kind "bluge" (did you mean "bulge"?)'),
        ("{kind: missing, on: boddy}", 'defects.d.on: found the unknown name "boddy" (did you mean "body"?)'),
        ("{kind: missing}", "defects.d.on: missing; a missing needs the feature that it concerns"),
        ("{kind: dimension, dimension: sid, by: [1, 2]}", 'defects.d.dimension: found the unknown name "sid" (did you mean "side"?)'),
        ("{kind: missing, on: body, fraction: [0.5, 1.5]}", "defects.d.fraction: found 1.5; wanted a number above 0 and at most 1"),
        ("bulge", "defects.d: found 'bulge'; wanted a mapping with a kind"),
    ],
)
def test_a_mistake_in_defects_is_answered_with_its_place(defect: str, line: str) -> None:
    assert complaint(f"{BLOCK}defects: {{d: {defect}}}\n") == line


@pytest.mark.parametrize("name", ["good", "a/b", "..", "1"])
def test_a_defect_bears_a_name_that_can_be_a_folder(name: str) -> None:
    assert complaint(f"{BLOCK}defects: {{{name}: {{kind: twist, angle: [1, 2]}}}}").startswith(f"defects.{name}: cannot be a defect's name")


def test_a_feature_that_empties_the_part_is_named() -> None:
    line = complaint(BLOCK + "  - {name: saw, cut: box, size: [9, 9, 9]}\n")
    assert line == "features.1: feature saw (cut box) leaves an empty part; wanted a solid with volume above 0 mm3"


@pytest.mark.parametrize("entry", ["cut: box, size: [1, 1, 1], at: [9, 0, 0]", "add: box, size: [1, 1, 1]", "keep: box, size: [9, 9, 9]"])
def test_a_feature_that_changes_nothing_is_named(entry: str) -> None:
    line = complaint(f"{BLOCK}  - {{name: idle, {entry}}}\n")
    assert line.startswith("features.1: feature idle (")
    assert "changes nothing" in line


def test_a_tolerance_whose_limit_breaks_the_part_says_which_limit() -> None:
    line = complaint("part: p\ndimensions: {a: 3 ± 2, b: 2}\nfeatures: [{name: ring, add: tube, radius: a, inner: b, height: 1}]")
    assert line == "features.0.inner: with every dimension at its low limit, found 2; wanted less than radius, 1 (feature ring)"


# Expressions


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        (3, 3.0),
        ("a + b", 5.0),
        ("(a - b) * -2", 2.0),
        ("b / a", 1.5),
        ("a ** b", 8.0),
        ("b // a + b % a", 2.0),
        ("min(a, b) + max(a, b, 7) + abs(-a)", 11.0),
        ("hypot(3, 4) + sqrt(9)", 8.0),
        ("sin(30) + cos(60) + tan(45)", 2.0),
        ("pi * a", 2 * math.pi),
        (" a\n", 2.0),
    ],
)
def test_an_expression_is_arithmetic_with_angles_in_degrees(expression: str, value: float) -> None:
    # rounding of sin and cos of a degree
    assert evaluate(expression, {"a": 2.0, "b": 3.0}, "key") == pytest.approx(value, rel=1e-14)


@pytest.mark.parametrize(
    "expression",
    ["__import__('os')", "a.__class__", "a.real", "open('x')", "'x' * 9", "(lambda: 1)()", "[a][0]", "'abc'[5]", "{a}", "f'{a}'", "a = 3", "a; a", "a if", "",
     "1 / 0", "(-8) ** 0.5", "sqrt(-1)", "10 ** 400", "9 ** 9 ** 9", "3999999 ** 3999999", "1 << 99", "tan(90)", "1e999", "a == a", "True", "min()",
     "(" * 300 + ")" * 300, "-" * 100_000 + "1", "a\0", "\ud800"],
)  # fmt: skip
def test_an_expression_that_is_not_a_moderate_number_is_refused(expression: str) -> None:
    with pytest.raises(cad.InputError, match=r"^features\.0\.radius: "):
        evaluate(expression, {"a": 2.0}, "features.0.radius")


def test_a_part_file_runs_no_code(tmp_path) -> None:
    marker = tmp_path / "ran"
    line = complaint(BLOCK.replace("size: [side", f"""size: ["__import__('pathlib').Path('{marker}').touch()" """))
    assert line.startswith('features.0.size.0: "__import__')
    assert not marker.exists()


# Any text at all


def parses_or_complains(text: str) -> bool:
    """Whether it is a part with a watertight mesh, or a mistake said in one line."""
    try:
        part = cad.parse(text)
    except cad.InputError as error:
        return "\n" not in str(error)
    return isinstance(part, cad.Part) and part.mesh().watertight


@given(st.text())
@example("")
@example("- a\n- b")
@example("{1: 2}")
def test_any_text_is_a_part_or_a_mistake(text: str) -> None:
    assert parses_or_complains(text)


PIECES = [m.span() for m in re.finditer(r"[\w.]+|[^\w\s]", CAP)]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(PIECES), st.sampled_from([CAP[a:b] for a, b in PIECES]) | st.text(max_size=6) | st.floats().map(str))
@example(PIECES[0], "!!int ''")
def test_a_part_file_with_one_word_changed_is_a_part_or_a_mistake(where: tuple[int, int], word: str) -> None:
    assert parses_or_complains(CAP[: where[0]] + word + CAP[where[1] :])


WORDS = st.sampled_from(["side", "any", "x", "box", "bulge", "body", "4 ± 0.1", "side / 2", "perspective"])
NUMBERS = st.integers() | st.floats() | st.integers(-2, 9) | st.floats(0.5, 9)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.sampled_from(["kind", "on", "count", "axis"]) | st.integers(), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
POINTS = st.lists(st.tuples(NUMBERS, NUMBERS).map(list), max_size=5)
FIELDS = [
    "diameter",
    "pitch",
    "path",
    "thickness",
    "chamfer",
    "fillet",
    "mirror",
    "radius",
    "height",
    "top",
    "inner",
    "tube",
    "sides",
    "across_flats",
    "module",
    "teeth",
    "size",
    "radii",
    "polygon",
    "profile",
    "at",
    "rotate",
    "repeat",
]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(SOLIDS)),
    st.fixed_dictionaries({}, optional={name: NUMBERS | POINTS | st.lists(NUMBERS, min_size=3, max_size=3) | VALUES for name in FIELDS}),
    st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, VALUES)),
)
def test_values_of_the_wrong_kind_make_a_mistake(solid: str, fields: dict, others: dict) -> None:
    body = {"name": "body", "add": solid, **fields}
    data = {"part": "p", "dimensions": {"side": 4.0}, "features": [body], **others}
    assert parses_or_complains(yaml.safe_dump(data, sort_keys=False))


# Files that could be meant: every solid with fields that fit it, in any order and place

LENGTHS = st.sampled_from([0.5, 1, 2, 3, 5, 8, "side", "side / 2", "2 * side - 3"])
PLACE = st.lists(st.sampled_from([-3, -1, 0, 0, 0, 1, 3, "side"]), min_size=3, max_size=3)
TURN = st.lists(st.sampled_from([0, 0, 30, 45, 90]), min_size=3, max_size=3)
RIMS = LENGTHS | st.dictionaries(st.sampled_from(["top", "bottom", "upright", "top_inner"]), st.sampled_from([0.2, 0.5, 1]), max_size=2)
POLYGON = st.lists(st.lists(st.integers(0, 6), min_size=2, max_size=2), min_size=3, max_size=6)
MEANT = {
    "radius": LENGTHS, "height": LENGTHS, "top": LENGTHS | st.just(0), "inner": LENGTHS, "tube": LENGTHS, "sides": st.integers(3, 9), "across_flats": LENGTHS,
    "module": st.sampled_from([0.5, 1]), "teeth": st.integers(6, 24), "pressure_angle": st.sampled_from([14.5, 20, 25]), "diameter": LENGTHS,
    "pitch": st.sampled_from([0.5, 1, 1.25]), "thickness": st.sampled_from([0.2, 0.5, 1]), "angle": st.integers(-80, 80), "bend": st.sampled_from([0, 0.5, 1]),
    "size": st.lists(LENGTHS, min_size=3, max_size=3), "radii": st.lists(LENGTHS, min_size=3, max_size=3), "polygon": POLYGON, "profile": POLYGON, "path": POLYGON,
    "chamfer": RIMS, "fillet": RIMS,
}  # fmt: skip
REPEATS = st.fixed_dictionaries(
    {"count": st.integers(1, 9)}, optional={"axis": st.sampled_from(["x", "y", "z"]), "radius": LENGTHS}
) | st.fixed_dictionaries({"count": st.integers(1, 9), "step": PLACE})


@st.composite
def entries(draw: st.DrawFn, operations: tuple[str, ...] = ("add", "add", "cut", "keep")) -> dict:
    solid = draw(st.sampled_from(sorted(SOLIDS)))
    own = fields(solid)
    values = draw(
        st.fixed_dictionaries(
            {n: MEANT[n] for n, needed in own.items() if needed}, optional={n: MEANT[n] for n, needed in own.items() if not needed}
        )
    )
    common = {"at": PLACE, "rotate": TURN, "repeat": REPEATS, "mirror": st.sampled_from(["x", ["x", "y"]])}
    extra = draw(st.fixed_dictionaries({}, optional=common))
    name, operation = draw(st.sampled_from("abc")), draw(st.sampled_from(operations))
    return {"name": name, operation: solid, **values, **extra}


@settings(max_examples=300, deadline=None)
@given(
    st.tuples(entries(("add",)), st.lists(entries(), max_size=2)).map(lambda f: [f[0], *f[1]]),
    st.sampled_from(["4.0", "4.0 ± 0.1", "4 H7", "4.0 +0.2 -0.1"]),
    st.fixed_dictionaries({"chord": st.sampled_from([0.05, 0.2])}, optional={"tolerances": st.sampled_from(["ISO 2768-m", "ISO 2768-v"]), "population": st.sampled_from(["corners", "normal"])}),
)  # fmt: skip
def test_a_file_that_could_be_meant_builds_or_is_refused_with_its_key(features: list[dict], side: str, others: dict) -> None:
    data = {"part": "p", **others, "dimensions": {"side": side}, "features": features}
    try:
        part = cad.parse(yaml_text(data))
    except cad.InputError as error:
        key = error.place.split(".")
        assert key[0] in KEYS
        assert key[0] != "features" or int(key[1]) < len(features)
        assert "\n" not in str(error)
        return
    for dimensions in (part.nominal, part.vary(np.random.default_rng(0))):
        mesh = part.mesh(dimensions)
        assert mesh.watertight
        assert mesh.volume > 0


# The shelf


@pytest.mark.parametrize("name", cad.shelf())
def test_a_part_of_the_shelf_loads_and_is_watertight(name: str) -> None:
    assert cad.load(name).mesh().watertight


def test_the_shelf_is_found_with_either_dash() -> None:
    assert cad.load("hex-nut").text == cad.load("hex_nut").text


def test_a_file_that_is_not_there_names_the_shelf(tmp_path) -> None:
    with pytest.raises(cad.InputError, match=r"nut\.yaml: no such file; wanted a part file \(on the shelf: bracket, .*, washer\)"):
        cad.load(tmp_path / "nut.yaml")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00bad", None])
def test_a_file_that_cannot_be_read_is_a_mistake(tmp_path, content: bytes | None) -> None:
    path = tmp_path / "part.yaml"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(cad.InputError, match=r"part\.yaml: cannot be read"):
        cad.load(path)


def test_a_mistake_in_a_file_bears_its_path(tmp_path) -> None:
    path = tmp_path / "part.yaml"
    path.write_text("part: 3", encoding="utf-8")
    with pytest.raises(cad.InputError) as caught:
        cad.load(path)
    assert str(caught.value) == f"{path}: features: missing; every part file needs it"


# What a part knows


def test_sub_components_are_named_once_in_the_order_of_the_file(cap: cad.Part) -> None:
    assert cap.names == ("skirt", "crown", "cavity", "notch")


def test_varied_dimensions_fill_their_tolerances(nut: cad.Part, rng: np.random.Generator) -> None:
    draws = [nut.vary(rng) for _ in range(500)]
    for name, tolerance in nut.dimensions.items():
        values = np.array([d[name] for d in draws])
        width = tolerance.high - tolerance.low
        assert tolerance.low <= values.min() <= values.max() <= tolerance.high
        # uniform: the mean of 500 strays by 0.013 of the width, the range misses 0.004 of it
        assert abs(values.mean() - (tolerance.low + tolerance.high) / 2) < 0.06 * width
        assert np.ptp(values) > 0.97 * width


def test_the_features_of_a_dimension_are_those_whose_entries_read_it() -> None:
    part = cad.parse(
        "part: p\ndimensions: {a: 6, b: 1, c: 2, ring: 4}\nfeatures:\n"
        "  - {name: plate, add: box, size: [2 * a, 2 * a, c]}\n"
        "  - {name: hole, cut: cylinder, radius: b / 2, height: 9, at: [0, 0, -c], repeat: {count: 4, radius: ring}}\n"
    )
    assert {name: part.features_of(name) for name in part.dimensions} == {
        "a": ("plate",), "b": ("hole",), "c": ("plate", "hole"), "ring": ("hole",)
    }  # fmt: skip
