"""Curation: what is planted in a folder is found, nothing else is left out, and a set survives its file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

import cad
from detect.curate import NAME, SPLITS, Curated, Entry, curate, open_curated, save

SIZE = 150


def photo(seed: int, tint: int = 0) -> Image.Image:
    """A dark disc with two marks on a pale board, somewhere."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE]
    cx, cy, r = *rng.uniform(60, 90, 2), rng.uniform(32, 38)
    pixels = np.full((SIZE, SIZE, 3), 175.0) + rng.normal(0, 2, (SIZE, SIZE, 3))
    pixels[np.hypot(x - cx, y - cy) < r] = 70 + tint
    for angle in rng.uniform(0, 2 * np.pi, 2):
        pixels[np.hypot(x - cx - 0.6 * r * np.cos(angle), y - cy - 0.6 * r * np.sin(angle)) < 6] = 120
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split, label, seeds in (("calibrate", "good", range(8)), ("test", "good", range(10, 18)), ("test", "bent", range(20, 26))):
        target = tmp_path / "photos" / split / label
        target.mkdir(parents=True)
        for k in seeds:
            photo(k, 25 if label == "bent" else 0).save(target / f"{k}.png")
    return tmp_path / "photos"


def excluded(folder: Path) -> dict[str, str]:
    return {e.file: e.excluded for e in curate(folder)[0].entries if e.excluded is not None}


def test_a_clean_folder_loses_nothing(folder: Path) -> None:
    data, sheet = curate(folder)
    assert [e for e in data.entries if e.excluded] == [] and len(data.entries) == 22
    assert {s: len(data.of(s)) for s in SPLITS} == {"calibrate": 8, "train": 0, "test": 14}
    assert sheet.size[0] > 500


def test_what_is_planted_is_found(folder: Path) -> None:
    good = folder / "calibrate" / "good"
    shutil.copy(folder / "test" / "good" / "12.png", good / "copy.png")
    photo(13).save(good / "saved.jpg", quality=90)
    photo(30).filter(ImageFilter.GaussianBlur(4)).save(good / "blurred.png")
    bright = np.clip(np.asarray(photo(31)).astype(int) + 110, 0, 255).astype(np.uint8)
    Image.fromarray(bright).save(good / "burnt.png")
    Image.fromarray(
        np.full((SIZE, SIZE, 3), 175, np.uint8) + np.random.default_rng(0).integers(0, 4, (SIZE, SIZE, 3), dtype=np.uint8)
    ).save(good / "empty.png")
    photo(32).crop((70, 0, 150, 150)).resize((SIZE, SIZE)).save(good / "cut.png")
    (good / "broken.png").write_bytes(b"none")
    found = excluded(folder)
    words = {"copy.png": "the same file as test/good/12.png", "saved.jpg": "the same picture as test/good/13.png", "blurred.png": "blurred", "burnt.png": "over-exposed",
             "empty.png": "no part is seen|blurred", "cut.png": "the part reaches beyond the picture", "broken.png": "is not an image"}  # fmt: skip
    import re

    for name, expected in words.items():
        assert re.search(expected, found.pop(f"calibrate/good/{name}")), name
    assert found == {}


def test_sizes_and_turns_are_noted_and_kept(folder: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    photo(40).save(folder / "test" / "good" / "turned.jpg", exif=exif, quality=95)
    photo(41).resize((200, 200)).save(folder / "test" / "good" / "large.png")
    notes = {e.file: " ".join(e.notes) for e in curate(folder)[0].entries if e.notes and e.excluded is None}
    assert "turned by its EXIF data" in notes["test/good/turned.jpg"] and "200 x 200 px" in notes["test/good/large.png"]


def test_a_class_that_brightness_tells_is_warned_of(folder: Path) -> None:
    assert any("bent" in w and "AUROC 1.000" in w for w in curate(folder)[0].warnings)


def test_a_flat_folder_is_split(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "test", tmp_path / "flat")
    data, _ = curate(tmp_path / "flat")
    assert len(data.of("calibrate")) == 4 and {e.label for e in data.of("calibrate")} == {"good"}
    assert len(data.of("test")) == 10


def test_a_set_survives_its_file_and_its_edits(folder: Path) -> None:
    data, _ = curate(folder)
    path = save(data)
    assert open_curated(path).entries == data.entries == open_curated(folder).entries
    path.write_text(path.read_text().replace("split: calibrate\n  excluded: null", "split: calibrate\n  excluded: a thumb in it", 1))
    assert len(open_curated(path).of("calibrate")) == 7


@given(st.lists(st.builds(
    Entry, st.text(min_size=1, max_size=20), st.text("0123456789abcdef", min_size=64, max_size=64), st.text(min_size=1, max_size=9), st.sampled_from(SPLITS),
    st.none() | st.text(min_size=1, max_size=30), st.lists(st.text(max_size=20), max_size=2).map(tuple)), max_size=5))  # fmt: skip
def test_any_set_survives_its_text(entries: list[Entry]) -> None:
    from cad.reading import read_yaml
    from detect.curate import _entry

    rows = read_yaml(Curated(Path("x"), tuple(entries)).text())["images"]
    assert tuple(_entry("x", row) for row in rows) == tuple(entries)


def test_a_changed_or_missing_photograph_is_told(folder: Path) -> None:
    path = save(curate(folder)[0])
    photo(99).save(folder / "test" / "good" / "10.png")
    with pytest.raises(cad.InputError, match=r"images\.\d+: test/good/10\.png was changed"):
        open_curated(path)
    (folder / "test" / "good" / "10.png").unlink()
    with pytest.raises(cad.InputError, match="is missing"):
        open_curated(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("format: 2\nimages: []", "is no curated set"),
        ("[1]", "is no curated set"),
        ("format: 1\nimages: [{file: a}]", r"images\.0: found"),
        ("format: 1\nimages: [{file: a, sha256: b, label: good, split: tset}]", r'images\.0\.split: found "tset"'),
        ("format: 1\nimages: [{file: a, sha256: b, label: good, split: test, excluded: 3}]", "wanted why, in words"),
    ],
)
def test_a_file_that_is_no_set_is_told(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / NAME).write_text(text)
    with pytest.raises(cad.InputError, match=words):
        open_curated(tmp_path / NAME)


def test_validation_takes_a_set_and_refuses_one_that_leaks(command, form_folder: Path, dataset_folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "set"
    shutil.copytree(dataset_folder / "test", data / "test")
    (data / "calibrate").mkdir()
    shutil.copytree(dataset_folder / "train" / "good", data / "calibrate" / "good")
    for k in range(4, 8):
        (data / "test" / "good" / f"{k:06d}.png").unlink()
    shutil.rmtree(data / "test" / "bulge")
    shutil.copy(data / "calibrate" / "good" / "000003.png", data / "test" / "good" / "leak.png")
    code, _, err = command(f"detect validate {data} --run {form_folder} -o {tmp_path / 'o'}")
    assert code == 2 and "test/good/leak.png is calibrate/good/000003.png, the same file" in err and not (tmp_path / "o").exists()
    assert command(f"detect validate {data} --run {form_folder} -o {tmp_path / 'o'} --allow-leaks")[0] == 0
    code, out, _ = command(f"detect curate {data} --json")
    facts = json.loads(out)
    assert (
        code == 0
        and facts["excluded"]["calibrate/good/000003.png"] == "the same file as test/good/leak.png"
        and Path(facts["sheet"]).exists()
    )
    code, out, err = command(f"detect validate {data / NAME} --run {form_folder} -o {tmp_path / 'p'} --json")
    assert code == 0, err
    kept = sum(e.split == "test" and e.label == "good" and e.excluded is None for e in open_curated(data).entries)
    assert json.loads(out)["good"]["n"] == kept


def test_a_set_that_is_there_is_not_replaced_unasked(command, folder: Path) -> None:
    assert command(f"detect curate {folder}")[0] == 0
    (folder / NAME).write_text((folder / NAME).read_text() + "# mine\n")
    code, _, err = command(f"detect curate {folder}")
    assert code == 2 and "may have been edited" in err and (folder / NAME).read_text().endswith("# mine\n")
    assert command(f"detect curate {folder} --force")[0] == 0 and not (folder / NAME).read_text().endswith("# mine\n")


def test_a_scene_that_crosses_into_the_test_split_is_found_behind_a_nearer_one(folder: Path) -> None:
    """A burst: the second of two calibration shots is nearer to the first than to the test shot that both repeat."""
    base = np.asarray(Image.open(folder / "test" / "good" / "12.png")).astype(int)
    for k, level in enumerate((3, 4)):
        rng = np.random.default_rng(k)
        shifted = np.clip(np.roll(base, k, 1) + rng.normal(0, level, base.shape), 0, 255).astype(np.uint8)
        Image.fromarray(shifted).save(folder / "calibrate" / "good" / f"z{k}.png")
    found = excluded(folder)
    assert set(found) == {"calibrate/good/z0.png", "calibrate/good/z1.png"} and all("test/good/12.png" in w for w in found.values())


def test_an_empty_folder_is_told(command, tmp_path: Path) -> None:
    code, _, err = command(f"detect curate {tmp_path}")
    assert code == 2 and "holds no photographs" in err
    code, _, err = command(f"detect curate {tmp_path / 'nowhere'}")
    assert code == 2 and "no such folder" in err
