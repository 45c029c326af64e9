"""A data set for other tools: COCO, YOLO, BOP, WebDataset shards. Its own layout is MVTec AD's, which needs no export.

COCO: Lin et al. 2014, annotations as pycocotools reads them. YOLO: Ultralytics' segmentation labels. BOP: Hodan et al. 2018, the
toolkit's scene files. WebDataset: POSIX tar shards, a sample's files beside each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cad.command import progress
from cad.errors import InputError
from cad.files import whole_folder, write, write_json
from cad.reading import yaml_text
from synth.dataset import Dataset, Sample
from synth.drawable import Drawable
from synth.instances import View, categories, instances, outlines, run_lengths, views_of
from synth.lens import bends
from synth.raycast import truth
from synth.sampling import part_of
from synth.scene import Scene
from synth.store import png, tar

SHARD = 1000  # samples a tar
DEPTH_UNITS = (0.01, 0.1, 1.0)  # mm a step of BOP's 16-bit depth: the finest that reaches far enough
FLIP = np.array([1.0, -1.0, -1.0])  # from our camera (y up, looking along -z) to OpenCV's (y down, along z)


def export(data: Dataset, kind: str, folder: Path, *, labels: tuple[str, ...] = ("defects",), shard: int = SHARD) -> int:
    """Writes ``data`` as one of KINDS into a new ``folder``; the number of files. Nothing half-written stays behind."""
    if kind not in KINDS:
        raise InputError("--format", f'found "{kind}"', wanted=", ".join(KINDS))
    with whole_folder(folder) as temporary:
        KINDS[kind](data, temporary, labels, shard)
        return sum(p.is_file() for p in temporary.rglob("*"))


def _each(data: Dataset) -> Iterator[View]:
    with progress(len(data.samples), "exporting", "views") as advance:
        for view in views_of(data):
            yield view
            advance()


def _copied(data: Dataset, sample: Sample, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_bytes(data.read(sample.image))


def to_coco(data: Dataset, folder: Path, labels: tuple[str, ...], shard: int) -> None:
    """images/<split>/<label>/000000.png and annotations/instances_<split>.json. Masks are polygons along the pixels' edges; run lengths
    where there is a hole, which a polygon cannot have."""
    known = categories(data, labels)
    listed = [{"id": k + 1, "name": name, "supercategory": kind} for k, (name, kind) in enumerate(known)]
    info = {"description": f"{data.part.name}, rendered from its part file", "version": "1.0"}
    splits: dict[str, dict[str, Any]] = {}
    for view in _each(data):
        sample = view.sample
        into = splits.setdefault(sample.split, {"info": info, "licenses": [], "images": [], "annotations": [], "categories": listed})
        _copied(data, sample, folder / "images" / sample.image)
        number = len(into["images"]) + 1
        into["images"].append({"id": number, "file_name": sample.image, "width": data.size, "height": data.size})
        for one in instances(view, known):
            outer, holes = outlines(one.mask)
            shape = {"counts": run_lengths(one.mask), "size": list(one.mask.shape)} if holes else [o.ravel().tolist() for o in outer]
            into["annotations"].append({
                "id": len(into["annotations"]) + 1, "image_id": number, "category_id": one.category + 1, "segmentation": shape,
                "area": int(one.mask.sum()), "bbox": list(one.box), "iscrowd": 0,
            })  # fmt: skip
    for split, content in splits.items():
        write_json(folder / "annotations" / f"instances_{split}.json", content)


def to_yolo(data: Dataset, folder: Path, labels: tuple[str, ...], shard: int) -> None:
    """images/<split>/<key>.png, labels/<split>/<key>.txt (class and polygon, in shares of the image, a line a piece; holes are filled)
    and data.yaml. A good view has an empty file."""
    known = categories(data, labels)
    for view in _each(data):
        split = view.sample.split
        _copied(data, view.sample, folder / "images" / split / f"{view.key}.png")
        lines = [
            f"{one.category} " + " ".join(f"{v:.6g}" for v in (piece / data.size).ravel())
            for one in instances(view, known) for piece in outlines(one.mask)[0]
        ]  # fmt: skip
        write(folder / "labels" / split / f"{view.key}.txt", "".join(line + "\n" for line in lines))
    splits = {("val" if s == "test" else s): f"images/{s}" for s in dict.fromkeys(s.split for s in data.samples)}
    names = {k: name for k, (name, _) in enumerate(known)}
    write(folder / "data.yaml", yaml_text({"path": ".", **splits, "names": names}))


def to_webdataset(data: Dataset, folder: Path, labels: tuple[str, ...], shard: int) -> None:
    """<split>-000000.tar and on: <key>.png, <key>.json (the line of samples.jsonl), and <key>.mask.png of defective ones. The same data
    set gives the same bytes."""
    for split in dict.fromkeys(s.split for s in data.samples):
        samples = data.of(split)
        for number, start in enumerate(range(0, len(samples), shard)):
            files = []
            for sample in samples[start : start + shard]:
                files.append((f"{sample.key}.png", data.read(sample.image)))
                if sample.mask is not None:
                    files.append((f"{sample.key}.mask.png", data.read(sample.mask)))
                files.append((f"{sample.key}.json", sample.line().encode()))
            write(folder / f"{split}-{number:06d}.tar", tar(files))


def to_bop(data: Dataset, folder: Path, labels: tuple[str, ...], shard: int) -> None:
    """models/, camera.json, and for each split and label a scene: rgb, depth, mask, mask_visib, scene_gt.json, scene_gt_info.json,
    scene_camera.json. The model is the nominal part; scenes.json says each scene's label and each image's dimensions and defect."""
    first = Scene.of(data.samples[0].scene)
    if first.angle is None:
        raise InputError(
            data.folder, "was drawn by an orthographic camera", wanted="a perspective one: BOP's cameras are pinholes",
            step="set views.camera.projection: perspective in the part file and render again",
        )  # fmt: skip
    if any(bends(Scene.of(s.scene)) for s in data.samples):
        raise InputError(
            data.folder, "was drawn through a lens that bends", wanted="pinholes, as BOP's cameras are", step="render with a recipe whose camera has k1: [0, 0]"
        )  # fmt: skip
    mesh = part_of(data.part.text).mesh()
    item = Drawable.of(mesh)
    _bop_model(folder / "models", mesh)
    scenes: dict[tuple[str, str], dict[str, Any]] = {}
    unit = None
    for view in _each(data):
        sample, scene, k = view.sample, Scene.of(view.sample.scene), str(view.sample.index)
        depth, seen = np.where(np.isfinite(view.truth.depth), view.truth.depth, 0), view.truth.feature > 0
        unit = unit or next((u for u in DEPTH_UNITS if 4 * depth.max() / u < 2**16), DEPTH_UNITS[-1])
        empty = {"number": len(scenes), "said": {}, "scene_camera": {}, "scene_gt": {}, "scene_gt_info": {}}
        files = scenes.setdefault((sample.split, sample.label), empty)
        at = folder / sample.split / f"{files['number']:06d}"
        _copied(data, sample, at / "rgb" / f"{sample.index:06d}.png")
        write(at / "depth" / f"{sample.index:06d}.png", png(np.rint(depth / unit).astype(np.uint16)))
        for name in ("mask", "mask_visib"):  # nothing hides the part
            write(at / name / f"{sample.index:06d}_000000.png", png(255 * seen.astype(np.uint8)))
        turn, shift = scene.rotation, np.asarray(scene.position) - scene.rotation @ np.asarray(scene.pivot)
        pose = {"cam_R_m2c": (FLIP[:, None] * turn).ravel().tolist(), "cam_t_m2c": (FLIP * shift).tolist(), "obj_id": 1}
        files["scene_camera"][k] = {"cam_K": pinhole(scene, data.size).ravel().tolist(), "depth_scale": unit}
        files["scene_gt"][k], files["scene_gt_info"][k] = [pose], [_bop_info(scene, item, mesh.vertices, seen)]
        files["said"][k] = {"dimensions": sample.dimensions, "defect": sample.defect}
    for (split, _), files in scenes.items():
        for name in ("scene_camera", "scene_gt", "scene_gt_info"):
            write_json(folder / split / f"{files['number']:06d}" / f"{name}.json", files[name])
    k = pinhole(first, data.size)
    lens = {"cx": k[0, 2], "cy": k[1, 2], "depth_scale": unit, "fx": k[0, 0], "fy": k[1, 1], "height": data.size, "width": data.size}
    write_json(folder / "camera.json", lens)
    told = [{"scene": f["number"], "split": split, "label": label, "images": f["said"]} for (split, label), f in scenes.items()]
    write_json(folder / "scenes.json", told)


def pinhole(scene: Scene, size: int) -> np.ndarray:
    """(3, 3) OpenCV's camera matrix, px; (0, 0) is the middle of the first pixel."""
    focal = size / (2 * np.tan(np.radians(scene.angle) / 2))
    return np.array([[focal, 0, (size - 1) / 2], [0, focal, (size - 1) / 2], [0, 0, 1]])


def _bop_model(folder: Path, mesh: Any) -> None:
    from scipy.spatial import ConvexHull
    from scipy.spatial.distance import pdist
    from trimesh import Trimesh

    write(folder / "obj_000001.ply", Trimesh(mesh.vertices, mesh.faces, process=False).export(file_type="ply", encoding="ascii"))
    low, high = mesh.bounds
    widest = float(pdist(mesh.vertices[ConvexHull(mesh.vertices).vertices]).max())
    sizes = {f"{what}_{axis}": float(v) for what, values in (("min", low), ("size", high - low)) for axis, v in zip("xyz", values, strict=True)}  # fmt: skip
    write_json(folder / "models_info.json", {"1": {"diameter": widest, **sizes}})


def _bop_info(scene: Scene, item: Drawable, vertices: np.ndarray, seen: np.ndarray) -> dict[str, Any]:
    """Boxes and counts: ``_obj`` and ``_all`` of the whole silhouette, in the picture or not, ``_visib`` of what is in it."""
    size = len(seen)
    pixels = scene.pixels(scene.camera_points(vertices), size)
    whole, beyond = int(seen.sum()), max(-pixels.min(), pixels.max() - size)
    if beyond > 0:  # drawn again, as many pixels wider as it takes
        more = int(np.ceil(beyond))
        wide = 2 * np.degrees(np.arctan(np.tan(np.radians(scene.angle) / 2) * (size + 2 * more) / size))
        whole = max(whole, int((truth(item, replace(scene, angle=float(wide)), size + 2 * more).feature > 0).sum()))
    low, high = np.floor(pixels.min(0)).astype(int), np.ceil(pixels.max(0)).astype(int)
    ys, xs = np.nonzero(seen)
    box = [int(xs.min()), int(ys.min()), int(np.ptp(xs)) + 1, int(np.ptp(ys)) + 1] if len(xs) else [-1, -1, -1, -1]
    return {
        "bbox_obj": [*low.tolist(), *(high - low).tolist()], "bbox_visib": box, "px_count_all": whole, "px_count_valid": int(seen.sum()),
        "px_count_visib": int(seen.sum()), "visib_fract": float(seen.sum() / max(whole, 1)),
    }  # fmt: skip


KINDS: dict[str, Callable[[Dataset, Path, tuple[str, ...], int], None]] = {
    "coco": to_coco,
    "yolo": to_yolo,
    "bop": to_bop,
    "webdataset": to_webdataset,
}
