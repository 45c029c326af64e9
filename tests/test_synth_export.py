"""Exports, each read by its own reader: pycocotools, webdataset, YOLO's and BOP's rules."""

from __future__ import annotations

import gc
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.path import Path as Polygon
from PIL import Image
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO
from scipy import ndimage

import cad
from cad.errors import InputError
from synth.dataset import Dataset, open_dataset, walk
from synth.drawable import Drawable
from synth.export import KINDS, _bop_info, export, pinhole
from synth.instances import categories, instances, outlines, run_lengths, views_of
from synth.raycast import truth
from synth.render import render
from synth.sampling import Recipe
from synth.scene import Scene

NEAR = """part: block
units: mm
dimensions: {w: 20 ± 0.1}
features:
  - {name: body, add: box, size: [w, 14, 10]}
  - {name: knob, add: cylinder, at: [4, 0, 5], radius: 3, height: 4}
defects: {knock: {kind: dent, on: body, height: [2, 3], diameter: [6, 8]}}
views:
  camera: {projection: perspective, angle: 30, fill: [0.6, 0.8]}
"""


@pytest.fixture(scope="module")
def data(cap: cad.Part, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return render(cap, tmp_path_factory.mktemp("export") / "cap", Recipe(3, 4, size=64), jobs=1)[0]


@pytest.fixture(scope="module")
def near(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Before a perspective camera."""
    return render(cad.parse(NEAR), tmp_path_factory.mktemp("export") / "block", Recipe(3, 2, size=96), jobs=1)[0]


# Shapes


@settings(max_examples=60)
@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.booleans()))
def test_run_lengths_are_coco_s(mask: np.ndarray) -> None:
    rle = coco_masks.frPyObjects({"counts": run_lengths(mask), "size": list(mask.shape)}, *mask.shape)
    assert np.array_equal(coco_masks.decode(rle).astype(bool), mask)


@settings(max_examples=60)
@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.booleans()))
def test_outlines_hold_their_pixels_and_no_others(mask: np.ndarray) -> None:
    """Filled by the even-odd rule at the pixels' middles, outlines and holes together give the mask; so does their signed area."""
    outer, holes = outlines(mask)
    inside = np.zeros(mask.shape, bool)
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]] + 0.5
    area = 0.0
    for loop in [*outer, *holes]:
        (ax, ay), (bx, by) = loop.T, np.roll(loop, -1, 0).T
        area += 0.5 * (ax * by - bx * ay).sum()
        for p, q, r in zip(ax[ax == bx], ay[ax == bx], by[ax == bx], strict=True):  # upright edges to the right of a middle
            inside ^= (x < p) & (y > min(q, r)) & (y < max(q, r))
        assert ((loop != np.roll(loop, 1, 0)).sum(1) == 1).all()  # along the pixels' edges, a corner at each end
    assert np.array_equal(inside, mask) and area == mask.sum()


# COCO


@pytest.mark.parametrize("labels", [("defects",), ("defects", "part", "features")])
def test_coco_is_what_pycocotools_reads(data: Dataset, labels: tuple[str, ...], tmp_path: Path, capsys) -> None:
    export(data, "coco", tmp_path / "out", labels=labels)
    known, views = categories(data, labels), list(views_of(data))
    for split in ("train", "test"):
        coco = COCO(str(tmp_path / "out/annotations" / f"instances_{split}.json"))
        assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == [name for name, _ in known]
        own = [v for v in views if v.sample.split == split]
        assert len(coco.getImgIds()) == len(own)
        for number, view in zip(coco.getImgIds(), own, strict=True):
            image = coco.loadImgs(number)[0]
            with Image.open(tmp_path / "out/images" / image["file_name"]) as picture:
                assert picture.size == (image["width"], image["height"]) == (64, 64)
            told, wanted = coco.loadAnns(coco.getAnnIds(number)), instances(view, known)
            assert len(told) == len(wanted)
            for said, one in zip(told, wanted, strict=True):
                mask = coco.annToMask(said).astype(bool)
                assert said["category_id"] == one.category + 1 and said["area"] == one.mask.sum()
                assert np.array_equal(mask, one.mask)
                assert said["bbox"] == coco_masks.toBbox(coco_masks.encode(np.asfortranarray(one.mask.astype(np.uint8)))).tolist()


def test_only_what_shows_is_labelled(data: Dataset) -> None:
    """A defective view has its defect once where its mask has pixels; a good one has none. Sub-components make up the part."""
    known = categories(data, ("defects", "part", "features"))
    kinds = {k: kind for k, (_, kind) in enumerate(known)}
    for view in views_of(data):
        found = instances(view, known)
        defects = [known[i.category][0] for i in found if kinds[i.category] == "defect"]
        assert defects == ([view.sample.label] if view.mask.any() else [])
        parts, pieces = ([i.mask for i in found if kinds[i.category] == kind] for kind in ("part", "sub-component"))
        assert np.array_equal(sum(p.astype(int) for p in pieces), parts[0].astype(int))


# YOLO


def test_yolo_polygons_fill_their_masks(data: Dataset, tmp_path: Path) -> None:
    """As its trainer reads it: a label file beside each image's folder, class and points in shares of the image."""
    out = tmp_path / "out"
    export(data, "yolo", out, labels=("defects", "part"))
    setup = yaml.safe_load((out / "data.yaml").read_text())
    known = categories(data, ("defects", "part"))
    assert [setup["names"][k] for k in range(len(known))] == [n for n, _ in known]
    views = {(v.sample.split, v.key): v for v in views_of(data)}
    middles = (np.stack(np.meshgrid(np.arange(64), np.arange(64)), 2).reshape(-1, 2) + 0.5) / 64
    for path in [p for split in (setup["train"], setup["val"]) for p in sorted((out / split).glob("*.png"))]:
        view = views.pop((path.parent.name, path.stem))
        filled = np.zeros((len(known), 64 * 64), bool)
        for line in (out / "labels" / path.parent.name / f"{path.stem}.txt").read_text().splitlines():
            number, *points = line.split()
            corners = np.array(points, float).reshape(-1, 2)
            assert len(corners) >= 3 and corners.min() >= 0 and corners.max() <= 1
            filled[int(number)] |= Polygon(np.vstack([corners, corners[:1]]), closed=True).contains_points(middles)
        shown = {one.category: one.mask for one in instances(view, known)}
        for number, pixels in enumerate(filled.reshape(-1, 64, 64)):
            assert np.array_equal(pixels, ndimage.binary_fill_holes(shown[number]) if number in shown else np.zeros_like(pixels))
    assert not views


# WebDataset


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_shards_give_every_sample_once(data: Dataset, tmp_path: Path) -> None:
    import webdataset  # leaves its shards open

    out = tmp_path / "out"
    export(data, "webdataset", out, shard=5)
    shards = {split: sorted(map(str, out.glob(f"{split}-*.tar"))) for split in ("train", "test")}
    assert len(shards["test"]) == 3  # of 12 samples
    for split, urls in shards.items():
        read = list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False).decode("rgb8"))
        assert [s["__key__"] for s in read] == [f"{s.label}_{s.index:06d}" for s in data.of(split)]
        for got, sample in zip(read, data.of(split), strict=True):
            assert np.array_equal(got["png"], data.images([sample])[0])
            assert got["json"] == json.loads(sample.line())
            assert ("mask.png" in got) == (sample.mask is not None)
            if sample.mask is not None:
                assert np.array_equal(got["mask.png"][..., 0] > 127, data.mask(sample))
    gc.collect()


@pytest.mark.parametrize("kind", ["coco", "yolo", "webdataset"])
def test_the_same_set_gives_the_same_bytes(data: Dataset, kind: str, tmp_path: Path) -> None:
    for k in range(2):
        export(data, kind, tmp_path / str(k))
    first, second = ({n: (tmp_path / str(k) / n).read_bytes() for n in walk(tmp_path / str(k))} for k in range(2))
    assert first == second and first


# MVTec AD


def test_the_native_layout_keeps_mvtec_s_rules(data: Dataset) -> None:
    """As anomalib's folder reader has it: only good ones to train on, every other folder of test a defect, its masks by name."""
    assert [p.name for p in (data.folder / "train").iterdir()] == ["good"]
    for folder in (data.folder / "test").iterdir():
        images = sorted(folder.glob("*.png"))
        assert images
        masks = [data.folder / "ground_truth" / folder.name / f"{p.stem}_mask.png" for p in images]
        assert all(m.exists() == (folder.name != "good") for m in masks)
        for image, mask in zip(images, masks, strict=True):
            if folder.name != "good":
                with Image.open(image) as a, Image.open(mask) as b:
                    assert a.size == b.size and b.mode == "L" and set(np.unique(np.asarray(b))) <= {0, 255}


# BOP


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def bop_scenes(root: Path) -> list[tuple[Path, dict, dict, dict]]:
    """As the toolkit reads them: folders of six digits, three files in each, keys image numbers."""
    found = []
    for scene in sorted(root.glob("*/[0-9][0-9][0-9][0-9][0-9][0-9]")):
        camera, poses, info = (json.loads((scene / f"scene_{n}.json").read_text()) for n in ("camera", "gt", "gt_info"))
        assert camera.keys() == poses.keys() == info.keys()
        found.append((scene, camera, poses, info))
    return found


def test_bop_refuses_a_lens_that_bends(nut: cad.Part, tmp_path: Path) -> None:
    data, _ = render(nut, tmp_path / "bent", Recipe(1, 0, size=16, randomise={"camera": {"k1": [0.02, 0.03]}}), jobs=1)
    with pytest.raises(cad.InputError, match="was drawn through a lens that bends"):
        export(data, "bop", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bop_poses_carry_the_model_onto_its_mask_and_depth(near: Dataset, tmp_path: Path) -> None:
    from trimesh import load

    out = tmp_path / "out"
    export(near, "bop", out)
    model = load(out / "models/obj_000001.ply")
    sizes = json.loads((out / "models/models_info.json").read_text())["1"]
    assert [sizes[f"size_{a}"] for a in "xyz"] == pytest.approx(np.ptp(model.vertices, axis=0), abs=1e-4)
    assert max(sizes[f"size_{a}"] for a in "xyz") < sizes["diameter"] <= np.linalg.norm(np.ptp(model.vertices, axis=0)) + 1e-6
    scenes = bop_scenes(out)
    assert sum(len(camera) for _, camera, _, _ in scenes) == len(near.samples) and len(scenes) == 3
    told = {(s["split"], s["scene"]): s for s in json.loads((out / "scenes.json").read_text())}
    for folder, camera, poses, info in scenes:
        label = told[folder.parent.name, int(folder.name)]["label"]
        for number in camera:
            lens = np.array(camera[number]["cam_K"]).reshape(3, 3)
            pose, counts = poses[number][0], info[number][0]
            turn, shift = np.array(pose["cam_R_m2c"]).reshape(3, 3), np.array(pose["cam_t_m2c"])
            assert pose["obj_id"] == 1 and np.linalg.det(turn) == pytest.approx(1) and shift[2] > 0
            seen = model.vertices @ turn.T + shift
            pixels = (seen @ lens.T)[:, :2] / seen[:, 2:]
            mask = pixels_of(folder / "mask_visib" / f"{int(number):06d}_000000.png") > 0
            depth = pixels_of(folder / "depth" / f"{int(number):06d}.png") * camera[number]["depth_scale"]
            assert pixels_of(folder / "rgb" / f"{int(number):06d}.png").shape == (*mask.shape, 3)
            ys, xs = np.nonzero(mask)
            if label == "good":  # within tolerance: 0.1 mm is half a pixel here
                assert [xs.min(), ys.min(), xs.max(), ys.max()] == pytest.approx([*pixels.min(0), *pixels.max(0)], abs=1.6)
                assert seen[:, 2].min() - 0.2 < depth[mask].min() < seen[:, 2].min() + 2.0
            assert (depth[mask] > 0).all() and (depth[~mask] == 0).all() and depth[mask].max() < seen[:, 2].max() + 0.2
            x, y, w, h = counts["bbox_visib"]
            assert (x, y, w, h) == (xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1)
            assert counts["px_count_visib"] == mask.sum() <= counts["px_count_all"] and 0.9 < counts["visib_fract"] <= 1


def test_what_lies_outside_the_picture_is_counted(near: Dataset) -> None:
    """Two routes to a silhouette's size: drawn wider, and the same scene drawn from twice as far, whole."""
    mesh = near.part.mesh()
    item, scene = Drawable.of(mesh), Scene.of(near.samples[0].scene)
    aside = replace(scene, position=(scene.position[0] + 22.0, *scene.position[1:]))
    seen = truth(item, aside, 96).feature > 0
    info = _bop_info(aside, item, mesh.vertices, seen)
    wide = replace(aside, angle=float(2 * np.degrees(np.arctan(3 * np.tan(np.radians(aside.angle) / 2)))))
    whole = (truth(item, wide, 288).feature > 0).sum()
    assert seen.sum() < 0.9 * whole
    assert info["px_count_all"] == pytest.approx(whole, rel=0.01) and info["visib_fract"] == pytest.approx(seen.sum() / whole, rel=0.01)
    x, _, w, _ = info["bbox_obj"]
    assert x + w > 96 >= info["bbox_visib"][0] + info["bbox_visib"][2]


def test_a_pinhole_puts_points_where_the_scene_does(near: Dataset, rng: np.random.Generator) -> None:
    scene = Scene.of(near.samples[0].scene)
    points = rng.normal(size=(20, 3)) - np.array([0, 0, 60])
    lens = pinhole(scene, 96) @ (points * [1, -1, -1]).T
    np.testing.assert_allclose((lens[:2] / lens[2]).T + 0.5, scene.pixels(points, 96), atol=1e-9)


# Mistakes


def test_bop_wants_a_pinhole(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="orthographic"):
        export(data, "bop", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_not_written_over(data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    for kind in KINDS:
        with pytest.raises(InputError, match="new or empty folder"):
            export(data, kind, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_on_the_command_line(command, data: Dataset, tmp_path: Path) -> None:
    code, said, _ = command(f"synth export {data.folder} --format coco --label part -o {tmp_path / 'out'} --json")
    assert code == 0 and json.loads(said)["views"] == len(data.samples) and (tmp_path / "out/annotations/instances_test.json").exists()
    assert open_dataset(data.folder).samples == data.samples  # left as it was
