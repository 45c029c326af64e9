"""Data sets: a sample depends on (seed, index) alone; what is written is verified; what is there is never overwritten unasked."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import cad
from cad.build import _BUILT
from cad.files import sha256
from synth import render as stage
from synth import spread, store
from synth.dataset import FORMAT, MANIFEST, SAMPLES, Dataset, Sample, find_datasets, open_dataset, verify, walk
from synth.drawable import Drawable
from synth.raycast import draw, outline, truth
from synth.render import render
from synth.sampling import MASK_DEPTH, MIN_VISIBLE, Item, Recipe, as_fine, draw_sample, part_of
from synth.scene import Scene

RECIPE = Recipe(6, 4, size=32, samples=1, truth=True)  # 18 samples


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in walk(folder)}


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill costs four samples, and 18 samples are work for two processes."""
    monkeypatch.setattr(stage, "CHUNK", 4)


@pytest.fixture(scope="module")
def drawn(cap: cad.Part, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """RECIPE, drawn at one go. Read only."""
    return render(cap, tmp_path_factory.mktemp("drawn") / "cap", RECIPE, jobs=1)[0]


@pytest.fixture
def copy(drawn: Dataset, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drawn.folder, tmp_path / "copy"))


# A sample depends on seed and index alone


def test_a_sample_alone_is_the_one_in_the_batch(cap: cad.Part, drawn: Dataset) -> None:
    for sample in drawn.samples[::-3]:  # in another order, too
        for cache in (Item.of, part_of):
            cache.cache_clear()
        _BUILT.clear()
        alone = draw_sample(cap, RECIPE, sample.split, sample.label, sample.index)
        assert alone.sample.line() == sample.line()
        assert store.files_of(alone) == {name: (drawn.folder / name).read_bytes() for name in files_of(sample)}


def files_of(sample: Sample) -> list[str]:
    stored = f"truth/{sample.split}/{sample.label}/{sample.index:06d}.npz"
    return [name for name in (sample.image, sample.mask, stored) if name]


@pytest.mark.parametrize("number", [0, 9, 17])
def test_one_sample_asked_for_has_the_datasets_bytes(command, drawn: Dataset, tmp_path: Path, number: int) -> None:
    for _ in range(2):  # what is there already and the same is no other view
        code, out, _ = command(f"synth render notched_cap -n 6 --test 4 --size 32 --samples 1 --truth --only {number} -o {tmp_path} --json")
        assert code == 0
    found = json.loads(out)
    sample = drawn.samples[number]
    assert sorted(walk(tmp_path)) == sorted(files_of(sample))
    assert contents(tmp_path) == {name: (drawn.folder / name).read_bytes() for name in files_of(sample)}
    assert {k: found[k] for k in ("split", "label", "index", "scene")} == {k: json.loads(sample.line())[k] for k in ("split", "label", "index", "scene")}  # fmt: skip


def test_one_sample_never_replaces_another_view(command, tmp_path: Path) -> None:
    line = f"synth render notched_cap -n 2 --test 0 --size 16 -o {tmp_path}"
    assert command(f"{line} --only 1")[0] == 0
    before = contents(tmp_path)
    for more, said in (("--only 1 --seed 5", "holds another view"), ("--only 2", "wanted 0 to 1")):
        code, _, err = command(f"{line} {more}")
        assert code == 2 and said in err
    assert contents(tmp_path) == before


def test_two_processes_write_the_same_bytes_as_one(cap: cad.Part, drawn: Dataset, tmp_path: Path, small_chunks: None) -> None:
    render(cap, tmp_path / "two", RECIPE, jobs=2)
    assert contents(tmp_path / "two") == contents(drawn.folder)


def test_seeds_differ_and_a_seed_repeats(cap: cad.Part, drawn: Dataset) -> None:
    first = drawn.samples[0]
    again = draw_sample(cap, RECIPE, "train", "good", 0).sample
    other = draw_sample(cap, replace(RECIPE, seed=1), "train", "good", 0).sample
    assert again.line() == first.line()
    assert other.scene != first.scene
    assert other.dimensions != first.dimensions


def test_no_two_samples_show_one_pose(drawn: Dataset) -> None:
    assert len({tuple(s.scene["quaternion"]) for s in drawn.samples}) == len(drawn.samples)


def test_a_larger_dataset_begins_with_the_smaller(cap: cad.Part, drawn: Dataset, tmp_path: Path) -> None:
    more, _ = render(cap, tmp_path / "more", replace(RECIPE, n=9, test=5), jobs=1)
    for sample in drawn.samples:
        assert sample in more.samples
        for name in files_of(sample):
            assert (more.folder / name).read_bytes() == (drawn.folder / name).read_bytes()


def test_leaving_a_defect_out_leaves_the_others_as_they_are(cap: cad.Part, drawn: Dataset) -> None:
    some = replace(RECIPE, defects=["short-notch"])
    assert [k for k in some.plan(cap) if k[1] == "bulge"] == []
    assert draw_sample(cap, some, "test", "short-notch", 1).sample.line() == drawn.of("test", "short-notch")[1].line()


# What a sample says is what its files show


def test_files_lie_as_in_mvtec_ad(drawn: Dataset) -> None:
    images = {f"train/good/{i:06d}.png" for i in range(6)}
    for label in ("good", "bulge", "short-notch"):
        images |= {f"test/{label}/{i:06d}.png" for i in range(4)}
    masks = {f"ground_truth/{label}/{i:06d}_mask.png" for label in ("bulge", "short-notch") for i in range(4)}
    stored = {f"truth/{name.removesuffix('.png')}.npz" for name in images}
    assert set(walk(drawn.folder)) == images | masks | stored | {"manifest.json", "samples.jsonl", "part.yaml"}
    with Image.open(drawn.folder / "test/bulge/000000.png") as image:
        assert (image.size, image.mode) == ((32, 32), "RGB")
    with Image.open(drawn.folder / "ground_truth/bulge/000000_mask.png") as mask:
        assert set(np.unique(mask)) <= {0, 255}


def test_the_dataset_opens_in_the_order_of_the_plan(cap: cad.Part, drawn: Dataset) -> None:
    assert [(s.split, s.label, s.index) for s in drawn.samples] == RECIPE.plan(cap)
    assert drawn.labels == ["good", "bulge", "short-notch"]
    assert (drawn.size, drawn.part.name, len(drawn.of("test")), len(drawn.of("train", "good"))) == (32, "notched-cap", 12, 6)


def test_an_image_is_its_scene_drawn(cap: cad.Part, drawn: Dataset) -> None:
    for sample, image in zip(drawn.of("train"), drawn.images(drawn.of("train")), strict=True):
        again = draw(Drawable.of(as_fine(cap, 32).mesh(sample.dimensions)), Scene.of(sample.scene), 32, samples=1)
        assert np.array_equal(image, again)


def test_dimensions_lie_within_their_tolerances(cap: cad.Part, drawn: Dataset) -> None:
    for sample in drawn.samples:
        assert sample.dimensions.keys() == cap.dimensions.keys()
        assert all(cap.dimensions[n].low <= v <= cap.dimensions[n].high for n, v in sample.dimensions.items())


def test_a_mask_is_where_the_defective_part_differs_from_the_good_one(cap: cad.Part, drawn: Dataset) -> None:
    for sample in (s for s in drawn.samples if s.label != "good"):
        scene, mesh = Scene.of(sample.scene), as_fine(cap, 32).mesh(sample.dimensions)
        good = outline(Drawable.of(mesh), scene, 32)
        with np.load(drawn.folder / f"truth/test/{sample.label}/{sample.index:06d}.npz") as bad, np.errstate(invalid="ignore"):
            differs = (good.feature != bad["feature"]) | (abs(good.depth - bad["depth"]) > MASK_DEPTH * mesh.diagonal)
        mask = drawn.mask(sample)
        assert np.array_equal(mask, differs)
        assert mask.sum() == sample.visible_px >= max(1, MIN_VISIBLE * mask.size)
        assert not sample.hidden


def test_the_mask_of_a_bulge_lies_about_the_bulge(drawn: Dataset) -> None:
    for sample in drawn.of("test", "bulge"):
        scene, defect = Scene.of(sample.scene), sample.defect
        (x, y), scale = scene.pixels(scene.camera_points(np.array([defect["where"]])), 32)[0], scene.pixels_per_mm(32)
        rows, columns = np.nonzero(drawn.mask(sample))
        # no vertex moves that is farther than the radius; triangles on its edge are a sixth of it larger, pixels half a pixel
        reach = (defect["details"]["diameter"] / 2 * 7 / 6 + defect["severity"]) * scale + 1
        assert np.hypot(columns + 0.5 - x, rows + 0.5 - y).max() <= reach


def test_a_good_sample_has_no_mask(drawn: Dataset) -> None:
    good = drawn.of("test", "good")[0]
    assert (good.mask, good.defect, good.visible_px) == (None, None, 0)
    assert not drawn.mask(good).any()


def test_the_truth_on_disk_is_that_of_the_renderer(cap: cad.Part, drawn: Dataset) -> None:
    sample = drawn.of("test", "good")[2]
    expected = truth(Drawable.of(as_fine(cap, 32).mesh(sample.dimensions)), Scene.of(sample.scene), 32)
    with np.load(drawn.folder / "truth/test/good/000002.npz") as stored:
        assert np.array_equal(stored["depth"], expected.depth)
        assert np.array_equal(stored["feature"], expected.feature)
        assert stored["normal"] == pytest.approx(expected.normal, abs=5e-4)  # half precision


def test_given_severities_are_used_in_turn(cap: cad.Part) -> None:
    recipe = replace(RECIPE, severities={"bulge": [3.0, 1.5]})
    found = [draw_sample(cap, recipe, "test", "bulge", i).sample.defect["severity"] for i in range(4)]
    assert found == [3.0, 1.5, 3.0, 1.5]


def test_drawn_severities_lie_in_the_files_range(drawn: Dataset) -> None:
    assert all(0.5 <= s.defect["severity"] <= 3.0 for s in drawn.of("test", "bulge"))
    assert all(-3.0 <= s.defect["severity"] <= -0.5 for s in drawn.of("test", "short-notch"))


def test_hidden_views_are_kept_only_when_asked(cap: cad.Part) -> None:
    tiny = replace(RECIPE, severities={"short-notch": [-0.5]}, truth=False, keep_hidden=True)
    kept = [draw_sample(cap, tiny, "test", "short-notch", i).sample for i in range(8)]
    shown = [draw_sample(cap, replace(tiny, keep_hidden=False), "test", "short-notch", i).sample for i in range(8)]
    assert any(s.hidden for s in kept)  # a notch is out of sight from most sides
    assert not any(s.hidden for s in shown)
    assert all(s.hidden == (s.visible_px < max(1, MIN_VISIBLE * 32 * 32)) for s in (*kept, *shown))


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.builds(
        Sample,
        index=st.integers(0, 999_999),
        split=st.sampled_from(["train", "test"]),
        label=st.sampled_from(["good", "bulge"]),
        scene=st.dictionaries(st.text(), finite | st.lists(finite), max_size=3),
        dimensions=st.dictionaries(st.text(), finite, max_size=3),
        seed=st.integers(0, 2**32 - 1),
        defect=st.none() | st.dictionaries(st.text(), finite | st.text(), max_size=3),
        visible_px=st.integers(0, 99),
        hidden=st.booleans(),
    )
)
def test_a_sample_survives_its_line(sample: Sample) -> None:
    line = sample.line()
    assert "\n" not in line
    assert Sample.of(line) == sample


# Stopped and started again


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_killed_run_goes_on_to_the_same_bytes(
    cap: cad.Part, drawn: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_chunks: None, after: int
) -> None:
    whole, calls = spread.done, []

    def killed(folder: Path, task: spread.Task) -> spread.Chunk:
        calls.append(task.number)
        if len(calls) > after:
            whole(folder, replace(task, keys=task.keys[:2]))  # half of it is on disk
            raise KeyboardInterrupt
        return whole(folder, task)

    folder = tmp_path / "killed"
    with monkeypatch.context() as patch:
        patch.setattr(spread, "done", killed)
        with pytest.raises(KeyboardInterrupt):
            render(cap, folder, RECIPE, jobs=1)
    with pytest.raises(cad.InputError, match=r"has no manifest\.json"):
        open_dataset(folder)
    drawn_now: list[int] = []
    monkeypatch.setattr(spread, "done", lambda folder, task: drawn_now.append(task.number) or whole(folder, task))
    assert render(cap, folder, RECIPE, jobs=1)[1]
    assert drawn_now == list(range(after, 5))  # what was done is not done again
    assert contents(folder) == contents(drawn.folder)


def test_a_run_that_lost_a_journal_entry_draws_that_chunk_again(
    cap: cad.Part, drawn: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_chunks: None
) -> None:
    folder = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr(stage, "_finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            render(cap, folder, RECIPE, jobs=1)
    for chunk in (1, 3):
        stage._journal(folder, chunk).unlink()
    render(cap, folder, RECIPE, jobs=1)
    assert contents(folder) == contents(drawn.folder)


def test_a_finished_dataset_is_not_drawn_again(cap: cad.Part, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread, "done", lambda *_: pytest.fail("drew"))
    data, anew = render(cap, copy, RECIPE, jobs=1)
    assert not anew
    assert len(data.samples) == 18


@pytest.mark.parametrize("change", [{"n": 7}, {"seed": 1}, {"size": 40}, {"severities": {"bulge": [2.0]}}, {"truth": False}])
def test_another_recipe_is_refused_and_nothing_is_touched(cap: cad.Part, copy: Path, change: dict) -> None:
    before = contents(copy)
    with pytest.raises(cad.InputError, match=r"holds a dataset of another part file or recipe.*--force"):
        render(cap, copy, replace(RECIPE, **change), jobs=1)
    assert contents(copy) == before


def test_another_part_file_is_refused(cap: cad.Part, copy: Path) -> None:
    other = cad.parse(cap.text.replace("14.0 ± 0.10", "13.5 ± 0.10"))
    with pytest.raises(cad.InputError, match="another part file"):
        render(other, copy, RECIPE, jobs=1)


@pytest.mark.parametrize("how", ["force", "replace"])
def test_another_recipe_replaces_the_dataset_when_told_to(cap: cad.Part, copy: Path, how: str) -> None:
    smaller = Recipe(2, 0, size=16, samples=1)
    data, anew = render(cap, copy, smaller, jobs=1, **{how: True})
    assert anew
    assert set(walk(copy)) == {"manifest.json", "part.yaml", "samples.jsonl", "train/good/000000.png", "train/good/000001.png"}
    assert data.size == 16
    assert verify(copy) == []


def test_force_draws_anew_and_replace_does_not(cap: cad.Part, copy: Path, drawn: Dataset) -> None:
    assert not render(cap, copy, RECIPE, jobs=1, replace=True)[1]
    (copy / "train/good/000003.png").write_bytes(b"spoilt")
    assert render(cap, copy, RECIPE, jobs=1, force=True)[1]
    assert contents(copy) == contents(drawn.folder)


def test_a_redraw_that_was_killed_is_not_taken_for_the_whole(
    cap: cad.Part, copy: Path, monkeypatch: pytest.MonkeyPatch, drawn: Dataset
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(stage, "_finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            render(cap, copy, RECIPE, jobs=1, force=True)
    with pytest.raises(cad.InputError, match=r"has no manifest\.json"):
        open_dataset(copy)
    render(cap, copy, RECIPE, jobs=1)
    assert contents(copy) == contents(drawn.folder)


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_that_is_no_dataset_is_never_touched(cap: cad.Part, tmp_path: Path, force: bool) -> None:
    (tmp_path / "thesis.txt").write_text("years", encoding="utf-8")
    with pytest.raises(cad.InputError, match="is not empty and holds no dataset"):
        render(cap, tmp_path, RECIPE, jobs=1, force=force)
    assert list(walk(tmp_path)) == ["thesis.txt"]
    with pytest.raises(cad.InputError, match="is a file"):
        render(cap, tmp_path / "thesis.txt", RECIPE, jobs=1, force=force)


# Opened and verified


def test_a_dataset_is_as_its_manifest_says(drawn: Dataset) -> None:
    assert verify(drawn.folder) == []
    manifest = json.loads((drawn.folder / MANIFEST).read_text(encoding="utf-8"))
    assert manifest["files"] == {name: sha256(drawn.folder / name) for name in manifest["files"]}
    assert manifest["recipe"] == RECIPE.json()


def test_verify_finds_what_is_missing_changed_and_extra(copy: Path) -> None:
    (copy / "test/good/000001.png").unlink()
    path = copy / "train/good/000002.png"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    (copy / "test/good/mine.png").write_bytes(b"")
    assert sorted(verify(copy)) == ["changed: train/good/000002.png", "extra: test/good/mine.png", "missing: test/good/000001.png"]
    assert sorted(verify(copy, extra=False)) == ["changed: train/good/000002.png", "missing: test/good/000001.png"]


@pytest.mark.parametrize("name", ["train/good/000000.png", "ground_truth/bulge/000000_mask.png", SAMPLES, "part.yaml"])
def test_a_changed_file_is_named_on_opening(copy: Path, name: str) -> None:
    (copy / name).write_bytes(b"other")
    with pytest.raises(cad.InputError, match=f"changed: {name}.*synth verify"):
        open_dataset(copy)


def test_an_extra_file_does_not_keep_a_dataset_from_opening(copy: Path) -> None:
    (copy / "notes.txt").write_text("mine", encoding="utf-8")
    assert len(open_dataset(copy).samples) == 18


def test_a_newer_format_is_refused(copy: Path) -> None:
    manifest = json.loads((copy / MANIFEST).read_text(encoding="utf-8"))
    (copy / MANIFEST).write_text(json.dumps({**manifest, "format": FORMAT + 1}), encoding="utf-8")
    with pytest.raises(cad.InputError, match=rf"found format {FORMAT + 1}; wanted at most {FORMAT} \(use a newer formspect\)"):
        open_dataset(copy)


@pytest.mark.parametrize(("text", "line"), [("{", "not JSON"), ("[]", "no format number"), ('{"format": "one"}', "no format number")])
def test_a_manifest_that_is_none_is_a_mistake(copy: Path, text: str, line: str) -> None:
    (copy / MANIFEST).write_text(text, encoding="utf-8")
    with pytest.raises(cad.InputError, match=line):
        open_dataset(copy)


def test_a_folder_without_manifest_says_how_to_finish_it(copy: Path, tmp_path: Path) -> None:
    (copy / MANIFEST).unlink()
    with pytest.raises(cad.InputError, match=r"has no manifest\.json; wanted a complete dataset \(finish it"):
        open_dataset(copy)
    with pytest.raises(cad.InputError, match="no such folder"):
        open_dataset(tmp_path / "nowhere")


def test_an_image_that_does_not_decode_is_named(copy: Path) -> None:
    data = open_dataset(copy)
    (copy / data.samples[0].image).write_bytes(b"\x89PNG no more")
    with pytest.raises(cad.InputError, match=r"train/good/000000\.png: does not decode"):
        data.images([data.samples[0]])
    (copy / data.samples[1].image).unlink()
    with pytest.raises(cad.InputError, match=r"train/good/000001\.png: missing"):
        data.images([data.samples[1]])


def test_complete_datasets_are_found_newest_last(copy: Path, tmp_path: Path) -> None:
    import os

    shutil.copytree(copy, tmp_path / "older")
    os.utime(tmp_path / "older" / MANIFEST, (1, 1))
    (tmp_path / "unfinished").mkdir()
    assert [p.name for p in find_datasets(tmp_path)] == ["older", "copy"]


# Recipes that cannot be drawn


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"n": -1}, r"--n: found -1; wanted 0 to"),
        ({"n": 0, "test": 0}, "nothing to draw"),
        ({"size": 4}, r"--size: found 4; wanted 8 to 4096"),
        ({"samples": 9}, r"--samples: found 9; wanted 1 to 8"),
        ({"defects": ["bluge"]}, 'no defect "bluge" .did you mean "bulge"'),
        ({"severities": {"dent": [1.0]}}, 'no defect "dent"'),
        ({"severities": {"short-notch": [-9.0]}}, r"defects\.short-notch: severity -9 cannot be built: features\.4\.size\.2: found -8"),
    ],
)
def test_a_recipe_that_cannot_be_drawn_is_refused_before_anything_is_written(
    cap: cad.Part, tmp_path: Path, change: dict, line: str
) -> None:
    with pytest.raises(cad.InputError, match=line):
        render(cap, tmp_path / "new", replace(RECIPE, **change), jobs=1)
    assert not (tmp_path / "new").exists()
