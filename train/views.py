"""What a generator learns from: the good views of a dataset, or a folder of good photographs; known abnormal ones beside them, where there are any."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cad.errors import InputError
from cad.files import fingerprint, sha256
from cad.part import Part
from synth.dataset import MANIFEST, PART, SAMPLES, Dataset, open_dataset
from train.config import Config
from train.images import resized
from train.photographs import find_images, read_all

USUAL = 64  # px that photographs are seen at, where nothing else is said
MOST_KNOWN = 512  # known abnormal images that are kept


@dataclass(frozen=True, eq=False)
class Views:
    """``good`` and ``known`` (abnormal ones): files of photographs, or None where they are a ``dataset``'s; ``fingerprint`` of what is learned from."""

    name: str
    fingerprint: str
    dataset: Dataset | None = None
    good: tuple[Path, ...] = ()
    known: tuple[Path, ...] = ()

    @property
    def part(self) -> Part | None:
        return self.dataset.part if self.dataset else None

    @property
    def size(self) -> int:
        return self.dataset.size if self.dataset else USUAL

    @property
    def normalize(self) -> str:
        """How images are prepared where nothing is said: of photographs contrast is kept, for a defect's darkness is one with it; a part that is drawn before
        one background may be photographed before another."""
        return "standard" if self.dataset else "brightness"

    @property
    def count(self) -> int:
        return len(self.dataset.of("train", "good")) if self.dataset else len(self.good)

    def scenes(self) -> list[dict[str, Any]] | None:
        """{scene, dimensions} of each view; None of photographs."""
        return [{"scene": s.scene, "dimensions": s.dimensions} for s in self.dataset.of("train", "good")] if self.dataset else None

    def images(self, config: Config, most: int | None = None) -> np.ndarray:
        """(n, side, side, 3) uint8 of the good ones, in order; ``side`` is ``config.picture``, or ``config.size`` where there are no tiles."""
        side = config.picture or config.size
        if self.dataset:
            return resized(self.dataset.images(self.dataset.of("train", "good")[:most]), side)
        return _read(self.good[:most], side)

    def abnormal(self, config: Config) -> np.ndarray:
        """(k, side, side, 3) uint8 of known abnormal ones; k may be 0."""
        side = config.picture or config.size
        if self.dataset:
            found = [s for s in self.dataset.of("train") if s.label != "good"][:MOST_KNOWN]
            return resized(self.dataset.images(found), side) if found else _read((), side)
        return _read(self.known[:MOST_KNOWN], side)


def open_views(folder: str | Path, known: str | Path | None = None) -> Views:
    """A dataset's folder, one with train/good in it, or one of images; ``known``: a folder of abnormal images that may be learned from, else what
    lies in train/ beside good. Raises InputError where there is nothing to learn from."""
    folder = Path(folder)
    if not folder.is_dir() or any((folder / n).exists() for n in (MANIFEST, SAMPLES, PART)):
        views = of_dataset(open_dataset(folder))
        if known is None:
            return views
        raise InputError("--known", "a rendered dataset is given", wanted="a folder of photographs to train on")
    good = folder / "train" / "good"
    paths = find_images(good if good.is_dir() else folder)
    if known is not None:
        abnormal = find_images(known)
    else:
        others = sorted(d for d in (folder / "train").iterdir() if d.is_dir() and d.name != "good") if good.is_dir() else []
        abnormal = [p for d in others for p in find_images(d)]
    key = fingerprint([[(p.name, sha256(p)) for p in group] for group in (paths, abnormal)])
    return Views(folder.name or "photographs", key, None, tuple(paths), tuple(abnormal))


def of_dataset(data: Dataset) -> Views:
    """The fingerprint is that of the training files' hashes."""
    files = {k: v for k, v in data.manifest["files"].items() if k.startswith("train/")}
    return Views(data.part.name, fingerprint(files), data)


def _read(paths: tuple[Path, ...], side: int) -> np.ndarray:
    return np.stack([p.pixels for p in read_all(paths, side)]) if paths else np.zeros((0, side, side, 3), np.uint8)
