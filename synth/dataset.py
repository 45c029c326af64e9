"""The dataset folder: MVTec AD's layout, samples.jsonl beside it, manifest.json with a hash for each file.

train/good/000000.png   test/good/...   test/<defect>/...   ground_truth/<defect>/000000_mask.png
samples.jsonl           a line a sample: file, scene, dimensions, defect, seed
part.yaml               the part file, as it was
truth/<split>/<class>/000000.npz   depth, normal, feature (when asked)
shards/<split>-000000.tar   in place of those files, when asked: WebDataset, a sample's files beside each other; shards.json says where
manifest.json           format, part, recipe, versions, {file: sha256}; written last, so its presence means complete
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cad.errors import InputError
from cad.files import read_json, sha256
from cad.part import Part, parse

FORMAT = 3
MANIFEST, SAMPLES, PART, SHARDS = "manifest.json", "samples.jsonl", "part.yaml", "shards.json"


@dataclass(frozen=True)
class Sample:
    """A line of samples.jsonl. ``label`` is ``good`` or the defect's name; ``visible_px`` the pixels of its mask."""

    index: int
    split: str
    label: str
    scene: dict[str, Any]
    dimensions: dict[str, float]
    seed: int
    defect: dict[str, Any] | None = None
    visible_px: int = 0
    hidden: bool = False

    @property
    def key(self) -> str:
        """Names it within its split."""
        return f"{self.label}_{self.index:06d}"

    @property
    def image(self) -> str:
        return f"{self.split}/{self.label}/{self.index:06d}.png"

    @property
    def mask(self) -> str | None:
        return None if self.label == "good" else f"ground_truth/{self.label}/{self.index:06d}_mask.png"

    @property
    def truth(self) -> str:
        return f"truth/{self.split}/{self.label}/{self.index:06d}.npz"

    @property
    def magnitude(self) -> float:
        """How far from good a defective one is: a stretch's distance from 1 counts, anything else's severity from 0."""
        return magnitude(self.defect)

    def line(self) -> str:
        data = {"image": self.image, "mask": self.mask, "split": self.split, "label": self.label, "index": self.index, "seed": self.seed,
                "scene": self.scene, "dimensions": self.dimensions, "defect": self.defect, "visible_px": self.visible_px, "hidden": self.hidden}  # fmt: skip
        return json.dumps(data, allow_nan=False)

    @classmethod
    def of(cls, line: str) -> Sample:
        data = json.loads(line)
        return cls(**{k: data[k] for k in ("index", "split", "label", "scene", "dimensions", "seed", "defect", "visible_px", "hidden")})


def magnitude(defect: dict[str, Any]) -> float:
    """As :attr:`Sample.magnitude`, of a defect's record."""
    return float(abs(np.log(defect["severity"])) if defect["kind"] == "scale" else abs(defect["severity"]))


@dataclass(frozen=True)
class Dataset:
    """A complete dataset folder, opened by :func:`open_dataset`."""

    folder: Path
    manifest: dict[str, Any]
    samples: tuple[Sample, ...]

    @property
    def part(self) -> Part:
        return parse((self.folder / PART).read_text(encoding="utf-8"))

    @property
    def size(self) -> int:
        return int(self.manifest["recipe"]["size"])

    @property
    def labels(self) -> list[str]:
        """``good``, then the defects in the order of the folder."""
        return list(dict.fromkeys(s.label for s in self.samples))

    def of(self, split: str, label: str | None = None) -> list[Sample]:
        return [s for s in self.samples if s.split == split and label in (None, s.label)]

    def images(self, samples: list[Sample]) -> np.ndarray:
        """(n, size, size, 3) uint8 sRGB. Raises InputError for a file that is missing or does not decode."""
        out = np.empty((len(samples), self.size, self.size, 3), np.uint8)
        for row, sample in zip(out, samples, strict=True):
            row[:] = self._pixels(sample.image, "RGB")
        return out

    def mask(self, sample: Sample) -> np.ndarray:
        """(size, size) bool; all False for a good one."""
        if sample.mask is None:
            return np.zeros((self.size, self.size), bool)
        return self._pixels(sample.mask, "L") > 127

    def read(self, name: str) -> bytes:
        """The content of a sample's file (its ``image``, ``mask`` or ``truth``), loose or in a shard. Raises InputError where it is missing."""
        tar, offset, size = self._places.get(name, (name, 0, -1))
        try:
            with (self.folder / tar).open("rb") as file:
                file.seek(offset)
                return file.read(size)
        except OSError:
            raise InputError(self.folder / name, "missing", step=f"synth verify {self.folder} lists what differs") from None

    @cached_property
    def _places(self) -> dict[str, tuple[str, int, int]]:
        """The shard, offset and length of each file that lies in one."""
        if not (self.folder / SHARDS).exists():
            return {}
        inside = {
            (tar.split("/")[1].rsplit("-", 1)[0], name): (tar, *place)
            for tar, files in read_json(self.folder / SHARDS, "an index of shards").items()
            for name, place in files.items()
        }
        return {
            name: inside[s.split, member]
            for s in self.samples
            for name, member in ((s.image, f"{s.key}.png"), (s.mask, f"{s.key}.mask.png"), (s.truth, f"{s.key}.truth.npz"))
            if (s.split, member) in inside
        }

    def _pixels(self, name: str, mode: str) -> np.ndarray:
        try:
            with Image.open(io.BytesIO(self.read(name))) as image:
                return np.asarray(image.convert(mode))
        except OSError as error:
            raise InputError(self.folder / name, f"does not decode: {error}", wanted="a PNG") from None


def open_dataset(folder: str | Path, *, check: bool = True) -> Dataset:
    """Raises InputError where the folder is no complete dataset, has a newer format, or (``check``) any file was changed or is missing."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(folder, "no such folder", wanted="a dataset", step="make one: synth render PART")
    if not (folder / MANIFEST).exists():
        raise InputError(
            folder, f"has no {MANIFEST}", wanted="a complete dataset", step="finish it with the synth render command that began it"
        )
    manifest = read_json(folder / MANIFEST, "a dataset's manifest")
    if not isinstance(manifest, dict) or not isinstance(manifest.get("format"), int):
        raise InputError(folder / MANIFEST, "has no format number", wanted="a dataset's manifest")
    if manifest["format"] > FORMAT:
        raise InputError(folder / MANIFEST, f"found format {manifest['format']}", wanted=f"at most {FORMAT}", step="use a newer formspect")
    if check:
        wrong = verify(folder, manifest, extra=False)
        if wrong:
            raise InputError(
                folder,
                f"{wrong[0]}" + (f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""),
                wanted="the files of the manifest",
                step=f"synth verify {folder} lists them; render again with --force",
            )
    lines = (folder / SAMPLES).read_text(encoding="utf-8").splitlines()
    return Dataset(folder, manifest, tuple(Sample.of(line) for line in lines))


def verify(folder: Path, manifest: dict[str, Any] | None = None, *, extra: bool = True) -> list[str]:
    """``missing: x``, ``changed: x`` and (``extra``) ``extra: x`` for each file that is not as the manifest says."""
    manifest = manifest or read_json(folder / MANIFEST, "a dataset's manifest")
    wrong = []
    for name, digest in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            wrong.append(f"missing: {name}")
        elif sha256(path) != digest:
            wrong.append(f"changed: {name}")
    if extra:
        known = {*manifest["files"], MANIFEST}
        wrong += [f"extra: {p}" for p in walk(folder) if p not in known]
    return wrong


def walk(folder: Path) -> Iterator[str]:
    """The folder's files, relative, in order."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix()


def find_datasets(root: Path) -> list[Path]:
    """The complete datasets directly below ``root``, newest last."""
    return sorted((p.parent for p in root.glob(f"*/{MANIFEST}")), key=lambda p: (p / MANIFEST).stat().st_mtime)
