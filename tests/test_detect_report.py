"""The report: what it says of a set, against counts by hand; its items; its page, as a parser reads it."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cad.errors import InputError
from detect.inspection import Inspection
from detect.limits import ROUTES, limits
from detect.opening import open_detector
from detect.pictures import PANEL
from detect.repeatability import check_items, read_items, repeatability, variance_components
from detect.report import as_stated, percent, section, validation_page, words
from detect.validation import ALARMS, MISSES, Case, Validation, good_figures, metrics, validate

VOID = {"meta", "img", "br", "link", "input", "hr"}


def case(score: float, *, label: str = "good", item: str | None = None, verdict: str = "pass", **options: object) -> Case:
    found = Inspection(f"test/{label}/a.png", score, 0.1, 3.0, verdict, [], {}, 1, 10.0, "cap", None)
    own = {k: options.pop(k) for k in ("regions", "dimensions", "reason") if k in options}
    return Case(label, replace(found, **own), np.zeros((2, 2)), item=item, **options)


def measured(value: float | None, plus: float = 0.1) -> dict[str, dict]:
    return {"height": {"value": value, "nominal": 10.0, "plus": plus, "minus": plus, "sigma": 0.01, "ok": True}}


# variance components


def test_variance_components_by_hand() -> None:
    # means 2, 6, 4; within 1, 1, 0 each way: 4 over 3; between 2 * (4 + 4 + 0) / 2 = 8
    found = variance_components([1, 3, 5, 7, 4, 4], ["a", "a", "b", "b", "c", "c"])
    within, between = 4 / 3, (8 - 4 / 3) / 2
    assert found["within"] == pytest.approx(within**0.5) and found["between"] == pytest.approx(between**0.5)
    assert found["share"] == pytest.approx((within / (within + between)) ** 0.5)
    assert found["within_low"] == pytest.approx((4 / 9.348) ** 0.5, rel=1e-3)  # chi-squared, 3 degrees of freedom, 97.5 and 2.5 %
    assert found["within_high"] == pytest.approx((4 / 0.2158) ** 0.5, rel=1e-3)


def test_items_photographed_unequally_often_by_hand() -> None:
    # means 1, 4; 2 within of 1 and 1 of 2 degrees of freedom; n0 = (3 - 5 / 3) / 1 = 4 / 3; grand mean 2: 2 * 1 + 1 * 4 = 6
    found = variance_components([0, 2, 4], ["a", "a", "b"])
    assert found["within"] == pytest.approx(2**0.5) and found["between"] == pytest.approx(((6 - 2) / (4 / 3)) ** 0.5)


def test_equal_photographs_of_an_item_repeat_wholly() -> None:
    found = variance_components([1, 1, 2, 2, 5, 5], list("aabbcc"))
    assert found["within"] == found["within_low"] == found["within_high"] == found["share"] == 0 and found["between"] > 1
    assert variance_components([3, 3, 3], list("aab")) | {"share": None, "between": 0.0} == variance_components([3, 3, 3], list("aab"))


def test_items_that_differ_no_more_than_their_photographs_have_no_spread() -> None:
    found = variance_components([1, 3, 1, 3], list("aabb"))
    assert found["between"] == 0 and found["share"] == 1


def test_too_few_photographs_tell_nothing() -> None:
    assert variance_components([1, 2, 3], list("abc")) is None and variance_components([], []) is None
    found = variance_components([1, 3], list("aa"))
    assert found["within"] == pytest.approx(2**0.5) and found["between"] is None and found["share"] is None


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 20)), min_size=2, max_size=25), st.randoms(), st.floats(0.1, 10))
def test_the_order_of_photographs_their_names_and_the_unit_change_nothing(rows: list[tuple[int, int]], random, unit: float) -> None:
    items, values = [str(i) for i, _ in rows], [float(v) for _, v in rows]
    wanted = variance_components(values, items)
    order = random.sample(range(len(rows)), len(rows))
    found = variance_components([unit * values[k] + 7 for k in order], [f"item {9 - int(items[k])}" for k in order])
    if wanted is None:
        assert found is None
        return
    for name, value in wanted.items():
        scale = 1 if name == "share" else unit
        if name == "share" and wanted["within"] == 0:
            continue  # of rounding alone
        assert found[name] == (None if value is None else pytest.approx(scale * value, rel=1e-6, abs=1e-6))


def test_variance_components_are_found_again(rng: np.random.Generator) -> None:
    items = np.repeat(np.arange(400), rng.integers(1, 6, 400))
    values = 2.0 * rng.normal(size=400)[items] + 0.5 * rng.normal(size=len(items))
    found = variance_components(values, items)
    assert found["within_low"] < 0.5 < found["within_high"] and found["between"] == pytest.approx(2.0, rel=0.1)
    assert found["share"] == pytest.approx(0.5 / np.hypot(2, 0.5), rel=0.1)


def test_an_interval_holds_the_true_spread_as_often_as_it_says(rng: np.random.Generator) -> None:
    held = []
    for _ in range(400):
        found = variance_components(rng.normal(size=12), np.repeat(np.arange(4), 3))
        held.append(found["within_low"] < 1 < found["within_high"])
    assert np.mean(held) == pytest.approx(0.95, abs=0.03)


# repeatability


def test_repeatability_by_hand() -> None:
    cases = [
        case(1.0, item="1", dimensions=measured(10.0)), case(np.e**2, item="1", dimensions=measured(10.02)), case(1.0, item="2"),
        case(np.e, item="2", dimensions=measured(9.0)), case(np.e**6, label="dent", item="3", verdict="fail"), case(np.e**6, label="dent", item="3"),
        case(99.0), case(5.0, label="dent", item="4"),
    ]  # fmt: skip
    found = repeatability(cases)
    assert (found["items"], found["photographs"], found["repeated"]) == (4, 7, 3) and found["verdicts_differ"] == pytest.approx(1 / 3)
    assert found["score"] == variance_components([0, 2, 0, 1, 6, 6, np.log(5)], list("1122334"))
    assert found["score_of_good"] == variance_components([0, 2, 0, 1], list("1122"))
    height = found["dimensions"]["height"]
    assert height["photographs"] == 3 and height["within"] == pytest.approx(0.02 / 2**0.5) and height["tolerance"] == 0.2
    assert height["to_tolerance"] == pytest.approx(6 * 0.02 / 2**0.5 / 0.2)


def test_repeatability_of_what_is_not_known() -> None:
    assert repeatability([case(1.0), case(2.0)]) is None  # no items
    assert repeatability([case(1.0, item="1"), case(2.0, item="2")]) is None  # none of them twice
    found = repeatability([case(0.0, item="1"), case(2.0, item="1")])
    assert found["score"] is None and found["dimensions"] == {}  # no logarithm
    found = repeatability([case(1.0, item="1", dimensions=measured(10.0, 0.0)), case(1.0, item="1", dimensions=measured(10.1, 0.0))])
    assert found["dimensions"]["height"]["to_tolerance"] is None  # no tolerance to hold it against
    assert repeatability([case(1.0, item="1", dimensions=measured(None)), case(1.0, item="1")])["dimensions"] == {}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("test/good/1.png", "test/good/2.png", "test/dent/1, cut.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def test_items_are_read_as_spreadsheets_write_them(photos: Path) -> None:
    wanted = {"test/good/1.png": "7", "test/good/2.png": "7", "test/dent/1, cut.png": "8 b"}
    assert read_items(photos) == {}
    texts = (
        'image,item\ntest/good/1.png,7\ntest/good/2.png,7\n"test/dent/1, cut.png",8 b\n',
        "\ufeffImage;Item\r\n./test/good/1.png;7\r\ntest/good/2.png; 7 \r\n\r\ntest/dent/1, cut.png;8 b",
        "image\titem\ntest/good/1.png\t7\ntest/good/2.png\t7\ntest/dent/1, cut.png\t8 b\n",
    )
    for text in texts:
        (photos / "items.csv").write_bytes(text.encode())
        assert read_items(photos) == wanted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no image"),
        ("image,item\n", "names no image"),
        ("picture,item\n", 'line 1: found "picture,item"; wanted image,item'),
        ("image,item\ntest/good/1.png\n", "line 2: found test/good/1.png; wanted an image and its item"),
        ("image,item\ntest/good/1.png,\n", "line 2: found test/good/1.png, ; wanted"),
        ("image,item\ntest/good/1.png,1,2\n", "line 2: found"),
        ("image,item\n\ntest/good/3.png,1\n", 'line 3: found "test/good/3.png"; wanted an image below'),
        ("image,item\n../1.png,1\n", "wanted an image below"),
        ("image,item\ntest/good,1\n", "wanted an image below"),
        ("image,item\ntest/good/1.png,1\ntest/good/1.png,2\n", "line 3: test/good/1.png stands there a second time"),
        ('image,item\n"test/good/1.png,1\n', "line 2: is damaged"),
    ],
)
def test_mistakes_in_items_are_named_with_their_line(photos: Path, text: str, said: str) -> None:
    (photos / "items.csv").write_text(text)
    with pytest.raises(InputError, match=re.escape(said)):
        read_items(photos)


@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(lambda t: ("image,item\n" + t).encode("utf-8", "replace"))))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / "items"
    folder.mkdir(exist_ok=True)
    (folder / "items.csv").write_bytes(data)
    with pytest.raises(InputError) as error:
        read_items(folder)  # there is no image that a line could rightly name
    assert "items.csv" in str(error.value)


def test_an_item_is_of_one_class() -> None:
    items, labels = {"a": "1", "b": "1", "c": "2", "left out": "2"}, {"a": "good", "b": "good", "c": "dent"}
    check_items(items, labels, Path("items.csv"))
    with pytest.raises(InputError, match=r"items.csv: item 1 is good in a and dent in b; wanted one class to an item"):
        check_items(items, labels | {"b": "dent"}, Path("items.csv"))


# words


def stated(hits: int, n: int, alpha: float, calibrated_on: int) -> tuple[str, bool]:
    good = [case(1.0, verdict="fail" if k < hits else "pass") for k in range(n)]
    figures = good_figures(good, alpha, calibrated_on)
    return as_stated({"good": figures, "alpha": alpha, "calibrated_on": calibrated_on}), figures["as_stated"]


@pytest.mark.parametrize(
    ("hits", "said", "right"),
    [
        (1, "1 of 24 good images rejected; at the stated rate of 5.0 % it would be 0 to 4 in 95 % of such sets: as stated.", True),
        (4, ": as stated.", True),
        (5, "more than stated, yet no more than a threshold from 20 good images explains (0 to 5)", False),
        (6, "(0 to 5): these good images differ from those that it was calibrated on.", False),
    ],
)
def test_whether_the_stated_rate_holds_is_said_in_words(hits: int, said: str, right: bool) -> None:
    text, holds = stated(hits, 24, 0.05, 20)
    assert said in text and holds is right


def test_too_few_rejections_are_said_too() -> None:
    assert "fewer than stated, yet no fewer than a threshold from 19 good images explains" in stated(2, 200, 0.05, 19)[0]
    text, holds = stated(0, 500, 0.05, 5000)
    assert "fewer than stated, and than a threshold" in text and "higher than it need be" in text and not holds


def test_words_of_a_case() -> None:
    defect = {"kind": "bulge", "severity": 0.8, "unit": "mm", "features": ["crown"]}
    short = {"height": measured(9.5)["height"] | {"ok": False}}
    regions = [{"feature": "notch", "deviation_mm": -0.5}]
    said = words(case(2.0, label="bulge", defect=defect, truth=("crown",), regions=regions, reason="a piece is missing", dimensions=short))
    assert said[:2] == ["its defect: bulge 0.80 mm on crown", "score 2.00, threshold 3.00, p 0.100"]
    assert said[2:4] == ["stands out on: notch, -0.50 mm", "a piece is missing"] and said[4].startswith("height 9.50 mm")
    assert words(case(2.0)) == ["score 2.00, threshold 3.00, p 0.100", "no place stands out"]
    assert words(case(2.0, regions=[{"feature": None, "deviation_mm": None}]))[1] == "stands out on: background"


# the page


@pytest.fixture(scope="module")
def result(form_folder: Path, dataset_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Validation:
    """The cap's CAD form on three views of each label; the first two good ones are said to be of one item."""
    folder = tmp_path_factory.mktemp("few") / "cap"
    for label in ("good", "bulge", "short-notch"):
        for index in range(3):
            for name in (f"test/{label}/{index:06d}.png", f"ground_truth/{label}/{index:06d}_mask.png"):
                if (dataset_folder / name).exists():
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(dataset_folder / name, folder / name)
    shutil.copy(dataset_folder / "samples.jsonl", folder / "samples.jsonl")
    (folder / "items.csv").write_text("image,item\ntest/good/000000.png,1\ntest/good/000001.png,1\ntest/bulge/000000.png,2\n")
    return validate(open_detector(form_folder), folder)


class Parsed(HTMLParser):
    """Tags in order, what hangs open, text, and what is fetched."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.lines: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.lines.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.lines).split())


@pytest.fixture(scope="module")
def page(result: Validation) -> Parsed:
    return Parsed(validation_page(result, metrics(result)))


def test_every_tag_is_closed(page: Parsed) -> None:
    assert page.open == [] and len(page.of("table")) >= 4


def test_nothing_is_fetched(page: Parsed) -> None:
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object")
        for name in ("src", "href", "xlink:href", "srcset", "data"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#"))
        assert "url(http" not in (attributes.get("style") or "")


def test_the_page_is_for_a_phone_and_for_print(page: Parsed) -> None:
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.of("meta")
    style = page.text[: page.text.index("@media print")]
    assert "img { max-width: 100%" in style and "overflow-x: auto" in style
    depth = [(i, t, a) for i, (t, a) in enumerate(page.tags)]
    for i, tag, _ in depth:  # every table scrolls within a box of its own
        if tag == "table":
            assert page.tags[i - 1] == ("div", {"class": "wide"})


def test_pictures_are_whole_and_have_words(page: Parsed, result: Validation) -> None:
    pictures = page.of("img")
    assert len(pictures) == 3 * sum(map(len, result.pictures.values()))
    for attributes in pictures:
        assert re.match(r"(photograph|nearest good form|anomaly map) of (good|bulge|short-notch)/\d+\.png$", attributes["alt"])
        with Image.open(io.BytesIO(base64.b64decode(attributes["src"].split(",")[1]))) as picture:
            assert picture.size == (PANEL, PANEL) and picture.convert("RGB").load()


def test_the_verdict_table_counts_every_image(page: Parsed, result: Validation) -> None:
    figures = metrics(result)
    for name, f in (("good", figures["good"]), *figures["classes"].items(), ("all defective", figures["overall"])):
        assert sum(f["verdicts"].values()) == f["n"] and f["rejected_low"] <= f["rejected"] <= f["rejected_high"]
        counts = " ".join(str(f["verdicts"][v]) for v in ("pass", "unsure", "fail", "not this part"))
        row = f"{name} {f['n']} {percent(f['rejected'])} ({percent(f['rejected_low'])} – {percent(f['rejected_high'])}) {counts}"
        assert row in page.text
    assert as_stated(figures) in page.text


def test_the_worst_are_those_let_through_and_those_rejected(result: Validation) -> None:
    shown = [c for c, _ in result.pictures[MISSES]]
    assert {c.label for c in shown} == {"bulge", "short-notch"} and len(shown) == 6
    keys = [(c.inspection.verdict == "fail", c.inspection.score) for c in shown]
    assert keys == sorted(keys)
    alarms = [c.inspection for c, _ in result.pictures[ALARMS]]
    assert len(alarms) == 3 and [a.score for a in alarms] == sorted((a.score for a in alarms), reverse=True)
    for group in result.pictures.values():
        assert all(len(panels) == 3 for _, panels in group)


def test_a_miss_that_is_not_this_part_is_no_miss(result: Validation) -> None:
    from detect.validation import _worst

    cases = [replace(c, inspection=replace(c.inspection, verdict=v, score=s)) for c, v, s in zip(result.cases, ("not this part", "fail", "pass") * 3, range(9), strict=True)]  # fmt: skip
    groups = _worst(replace(result, cases=cases))
    assert [c.inspection.verdict for c, _ in groups[MISSES]] == ["pass"] * 2 + ["not this part", "fail"] * 2
    assert [c.inspection.verdict for c, _ in groups[ALARMS]] == ["fail", "not this part", "pass"]


def test_the_form_that_is_shown_is_the_one_that_was_found(result: Validation) -> None:
    """Kept from the inspection, not sought again: an inspection of the same photograph has the same."""
    from train.photographs import read_all

    first = result.pictures[MISSES][0][0]
    ((again, anomaly, form),) = result.detector.inspect(read_all([first.inspection.image], result.detector.size))
    assert again.score == first.inspection.score and np.array_equal(anomaly, first.anomaly)
    np.testing.assert_allclose(first.form / 255, np.clip(form, 0, 1), atol=0.51 / 255)


def test_where_the_defect_is_known_it_is_drawn_around(result: Validation) -> None:
    for c, panels in result.pictures["highest bulge"]:
        green = (np.asarray(panels[0]) == (0, 190, 60)).all(-1)
        inside = np.asarray(Image.fromarray(c.mask).resize((PANEL, PANEL), Image.Resampling.NEAREST))
        assert green.any() and not (green & inside).any()
    assert not any((np.asarray(panels[0]) == (0, 190, 60)).all(-1).any() for _, panels in result.pictures[ALARMS])


def test_repeatability_reaches_the_figures_and_the_page(result: Validation, page: Parsed) -> None:
    found = metrics(result)["repeatability"]
    assert (found["items"], found["photographs"], found["repeated"]) == (2, 3, 1)
    assert found == repeatability(result.cases) and "3 photographs of 2 items, 1 of them photographed more than once" in page.text
    without = replace(result, cases=[replace(c, item=None) for c in result.cases])
    assert metrics(without)["repeatability"] is None
    assert "photographed more than once" not in validation_page(without, metrics(without))


def test_the_section_is_json_and_its_figures_are_those_written(result: Validation) -> None:
    figures = metrics(result)
    again = json.loads(json.dumps(section(result, figures), allow_nan=False))
    assert again["figures"] == json.loads(json.dumps(figures)) and again["limits"] == limits(result, figures)


def test_limits_are_those_of_the_route_and_of_the_set(result: Validation) -> None:
    figures = metrics(result)
    said = limits(result, figures)
    assert (
        figures["route"] == "render"
        and set(ROUTES["render"]) <= set(said)
        and not set(ROUTES["photograph"] + ROUTES["learned"]) & set(said)
    )
    assert any("3 good images cannot tell a rate of 1 %, 100 would" in s for s in said)
    assert any(f"The good images have {3 * 64 * 64:,} pixels together: AUPIMO" in s for s in said)
    assert any("from 60 good images" in s for s in said) and not any("No two photographs" in s or "no masks" in s for s in said)
    bare = replace(result, cases=[replace(c, item=None, mask=None) for c in result.cases], hidden=2)
    said = limits(bare, metrics(bare))
    assert (
        any("no masks" in s for s in said)
        and any("No two photographs" in s for s in said)
        and any("2 images whose defect" in s for s in said)
    )


def test_a_set_without_defects_has_a_page(result: Validation) -> None:
    alone = replace(result, cases=[c for c in result.cases if c.label == "good"], pictures={MISSES: [], ALARMS: result.pictures[ALARMS]})
    page = Parsed(validation_page(alone, metrics(alone)))
    assert page.open == [] and "all defective 0 – 0 0 0 0 " in page.text


def test_items_of_two_classes_are_refused_before_anything_is_calibrated(
    command, form_folder: Path, result: Validation, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(result.folder, tmp_path / "copy"))
    (copy / "items.csv").write_text("image,item\ntest/good/000000.png,1\ntest/bulge/000000.png,1\n")
    code, out, err = command(f"detect validate {copy} --run {form_folder} --calibrate -o {tmp_path / 'out'}")
    assert code == 2 and out == "" and err.count("\n") == 1 and not (tmp_path / "out").exists()
    assert "items.csv: item 1 is good in test/good/000000.png and bulge in test/bulge/000000.png" in err


def test_items_of_a_curated_set(result: Validation, tmp_path: Path) -> None:
    """Its file, or its folder: the same items, by paths below the folder; what is excluded may be named."""
    from detect.curate import curate, save
    from detect.validation import known_items

    copy = Path(shutil.copytree(result.folder, tmp_path / "copy"))
    file = save(curate(copy)[0])
    assert known_items(file) == known_items(copy) == known_items(result.folder) != {}


def test_the_page_of_the_documents_names_every_figure(result: Validation) -> None:
    def keys(value: object) -> set[str]:
        if not isinstance(value, dict):
            return set()
        free = set(value) & {"bulge", "short-notch", "pass", *result.detector.form.part.dimensions}  # not the format's own
        return (set() if free else set(value)).union(*map(keys, value.values()))

    text = (Path(__file__).parents[1] / "docs" / "report.md").read_text(encoding="utf-8")
    found = keys(metrics(result))
    assert {"aupimo", "to_tolerance", "expected_of_threshold"} <= found and sorted(k for k in found if f"`{k}`" not in text) == []
