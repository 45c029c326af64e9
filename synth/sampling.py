"""One labelled sample: from (part, recipe, split, label, index) to picture, mask and truth. Nothing else is read."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from cad.defects import DefectRecord, check_severity
from cad.errors import InputError, nearest
from cad.mesh import Mesh
from cad.part import Part, parse
from synth.backends import MODULES
from synth.dataset import Sample
from synth.drawable import Drawable, Truth
from synth.photograph import outline_of, photograph, truth_of, unburied
from synth.poses import KINDS, turn_of
from synth.randomise import Blocks, Streams, blocks_of, varied_scene, varied_views
from synth.scene import Scene, draw_scene

# neighbouring samples that show one drawn item, from a sample on: to build one takes longer than to draw it, and a small set is to be varied
ITEM_VIEWS = ((0, 8), (256, 32), (2048, 64))
CHORD = 20  # chords to a pixel: facets finer than a picture can show would only cost
MASK_DEPTH = 2e-3  # of the part's diagonal: a smaller difference in depth is no defect
MIN_VISIBLE = 1e-3  # of the image: a defect that changes fewer pixels counts as hidden
TRIES = (6, 8)  # defects, then poses of each, until one shows


@dataclass(frozen=True)
class Recipe:
    """What to draw. ``n`` good views to train on; ``test`` views of good parts and of each defect; ``size`` px; ``samples``:
    rays a pixel are its square; ``poses``: one of :data:`synth.poses.KINDS`, or a list of unit quaternions (w, x, y, z) that are taken in
    turn; ``severities`` {defect: [values]} replace draws from the file's range, in turn;
    ``keep_hidden`` keeps defective views that do not show their defect; ``truth`` writes depth, normals and ids; ``backend`` draws the
    pictures, with ``denoise`` where it traces paths (masks and truth are the z-buffer's whatever draws); ``randomise``: classes to
    levels or ranges, as :func:`synth.randomise.blocks_of` reads them."""

    n: int
    test: int
    size: int = 64
    samples: int = 2
    seed: int = 0
    poses: str | list[list[float]] = "random"
    severities: dict[str, list[float]] = field(default_factory=dict)
    defects: list[str] | None = None
    keep_hidden: bool = False
    truth: bool = False
    backend: str = "raycast"
    denoise: bool = True
    randomise: dict[str, Any] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        return asdict(self)

    @cached_property
    def blocks(self) -> Blocks:
        return blocks_of(self.randomise)

    @classmethod
    def of(cls, data: dict[str, Any]) -> Recipe:
        """From what :meth:`json` gave, perhaps before there was one field or another."""
        return cls(**data)

    def turn(self, part: Part, split: str, label: str, index: int, rng: np.random.Generator) -> np.ndarray | None:
        """(4,) the unit quaternion of a sample, None where its scene draws one; ``rng``: the sample's own."""
        if self.poses == "random":
            return None
        count = self.n if split == "train" else self.test
        return turn_of(
            self.poses,
            varied_views(part, self.blocks).rotation,
            nominal(part.text),
            index,
            count,
            rng,
            _generator(self.seed, split, label, "poses"),
        )

    def streams(self, split: str, label: str, index: int) -> Streams:
        """Each class's own random numbers, for one sample."""
        known: dict[str, np.random.Generator] = {}

        def stream(name: str) -> np.random.Generator:
            if name not in known:
                known[name] = _generator(self.seed, split, label, name, index)
            return known[name]

        return stream

    def plan(self, part: Part) -> list[tuple[str, str, int]]:
        """(split, label, index) of each sample, in the dataset's order."""
        labels = ["good", *(part.defects if self.defects is None else self.defects)]
        return [("train", "good", i) for i in range(self.n)] + [("test", label, i) for label in labels for i in range(self.test)]

    def check(self, part: Part) -> None:
        """Raises InputError for numbers or names that cannot be drawn, before anything is written."""
        for name, low, high in (
            ("n", 0, 10**7),
            ("test", 0, 10**6),
            ("size", 8, 4096),
            ("samples", 1, 8 if self.backend != "cycles" else 4096),
        ):
            if not low <= getattr(self, name) <= high:
                raise InputError(f"--{name}", f"found {getattr(self, name)}", wanted=f"{low} to {high}")
        if not self.plan(part):
            raise InputError("--n", "nothing to draw: both n and test are 0", wanted="at least one view")
        if self.poses not in KINDS if isinstance(self.poses, str) else not self.poses:
            raise InputError("--poses", f"found {self.poses!r}", wanted=f"{', '.join(KINDS)}, or a list of views")
        if self.backend not in MODULES:
            raise InputError("--backend", f'found "{self.backend}"', wanted=", ".join(MODULES))
        for block in self.blocks.values():
            if not isinstance(block, str):
                block.check()
        part.check_tolerances()
        for name in [*self.severities, *(self.defects or [])]:
            if name not in part.defects:
                raise InputError("defects", f'the part has no defect "{name}"', step=nearest(name, part.defects))
        for name in self.defects or part.defects:
            for severity in self.severities.get(name, part.defects[name].range) if self.test else ():
                check_severity(part.defects[name].kind, severity, f"--severity {name}")
                try:
                    part.with_defect(name, np.random.default_rng(0), severity=severity)
                except InputError as error:
                    raise InputError(f"defects.{name}", f"severity {severity:g} cannot be built: {error}") from None


@dataclass(frozen=True, eq=False)
class Drawn:
    """``image`` (H, W, 3) uint8 sRGB; ``mask`` (H, W) bool: what this view shows of the defect; ``truth`` where the recipe asks."""

    sample: Sample
    image: np.ndarray
    mask: np.ndarray
    truth: Truth | None


Paint = Callable[[Drawable, Scene, int], np.ndarray]  # (what is there, the scene, px) -> (px, px, 3) uint8


def draw_sample(part: Part, recipe: Recipe, split: str, label: str, index: int, *, paint: Paint | None = None) -> Drawn:
    """The same bytes whenever, wherever and in whatever company it is drawn. ``paint``: another renderer for the picture alone."""
    part = as_fine(part, recipe.size)
    rng = _generator(recipe.seed, split, label, index)
    item = Item.of(part.text, part.chord, recipe.seed, split, label, item_number(index))
    scenes = _Scenes(part, recipe, split, label, index, item, rng)
    if label == "good":
        scene = scenes.drawn()
        sample = Sample(index, split, label, scene.json(), item.dimensions, recipe.seed)
        return _drawn(sample, item.drawable, scene, np.zeros((recipe.size,) * 2, bool), recipe, paint)
    given = recipe.severities.get(label)
    severity = None if given is None else given[index % len(given)]
    for attempt in _attempts(part, scenes, label, rng, severity):
        hidden = bool(attempt[3].sum() < max(1.0, MIN_VISIBLE * attempt[3].size))
        if not hidden or recipe.keep_hidden:
            break
    drawable, record, scene, mask = attempt
    sample = Sample(index, split, label, scene.json(), item.dimensions, recipe.seed, record.json(), int(mask.sum()), hidden)
    return _drawn(sample, drawable, scene, mask, recipe, paint)


def _drawn(sample: Sample, drawable: Drawable, scene: Scene, mask: np.ndarray, recipe: Recipe, paint: Paint | None) -> Drawn:
    if paint:
        image = paint(drawable, scene, recipe.size)
    else:
        image = photograph(drawable, scene, recipe.size, samples=recipe.samples, backend=recipe.backend, denoise=recipe.denoise)
    return Drawn(sample, image, mask, truth_of(drawable, scene, recipe.size) if recipe.truth else None)


@dataclass(frozen=True, eq=False)
class _Scenes:
    """One sample's scenes, of which a defect may ask for several until it shows."""

    part: Part
    recipe: Recipe
    split: str
    label: str
    index: int
    item: Item
    rng: np.random.Generator

    def drawn(self) -> Scene:
        turn = self.recipe.turn(self.part, self.split, self.label, self.index, self.rng)
        if not self.recipe.randomise:
            return draw_scene(self.part, self.item.mesh, self.rng, turn)
        return varied_scene(self.part, self.item.mesh, self.recipe.blocks, self._streams, turn)

    @cached_property
    def _streams(self) -> Streams:
        return self.recipe.streams(self.split, self.label, self.index)


Attempt = tuple[Drawable, DefectRecord, Scene, np.ndarray]


def _attempts(part: Part, scenes: _Scenes, label: str, rng: np.random.Generator, severity: float | None) -> Iterator[Attempt]:
    item, size = scenes.item, scenes.recipe.size
    defects, poses = TRIES if scenes.recipe.poses in ("random", "resting") else (TRIES[0], 1)  # one that is given is kept
    for _ in range(defects):
        mesh, record = part.with_defect(label, rng, dimensions=item.dimensions, severity=severity)
        drawable = Drawable.of(mesh)
        for _ in range(poses):
            scene = scenes.drawn()
            good, bad = outline_of(item.drawable, scene, size), outline_of(drawable, scene, size)
            yield drawable, record, scene, unburied(difference(good, bad, MASK_DEPTH * item.mesh.diagonal), scene)


def difference(good: Truth, bad: Truth, depth: float) -> np.ndarray:
    """(H, W) bool: the pixels where two renders at one pose differ in feature id, or in depth by more than ``depth`` mm."""
    with np.errstate(invalid="ignore"):
        return (good.feature != bad.feature) | (np.abs(good.depth - bad.depth) > depth)


@dataclass(frozen=True, eq=False)
class Item:
    """One produced part: dimensions drawn within their tolerances, its mesh, ready to draw."""

    dimensions: dict[str, float]
    mesh: Any
    drawable: Drawable

    @staticmethod
    @lru_cache(maxsize=8)
    def of(text: str, chord: float, seed: int, split: str, label: str, number: int) -> Item:
        part = replace(part_of(text), chord=chord)
        dimensions = part.vary(_generator(seed, split, f"{label} item", number))
        mesh = part.mesh(dimensions)
        return Item(dimensions, mesh, Drawable.of(mesh))


def item_number(index: int) -> int:
    """Which item a sample shows."""
    number = 0
    for (start, views), (end, _) in zip(ITEM_VIEWS, (*ITEM_VIEWS[1:], (index + 1, 0)), strict=True):
        number += -(-max(0, min(index + 1, end) - start) // views)
    return number - 1


def as_fine(part: Part, size: int) -> Part:
    """The part with facets as fine as a picture ``size`` px across can show, and no finer than its own."""
    return replace(part, chord=max(part.chord, _diagonal(part.text) / (CHORD * size)))


@lru_cache(maxsize=4)
def _diagonal(text: str) -> float:
    return nominal(text).diagonal


@lru_cache(maxsize=4)
def part_of(text: str) -> Part:
    """Parsing builds the part thrice: once for all samples of a process."""
    return parse(text)


@lru_cache(maxsize=4)
def nominal(text: str) -> Mesh:
    """The nominal part's mesh, built once."""
    return part_of(text).mesh()


def _generator(seed: int, *key: str | int) -> np.random.Generator:
    return np.random.default_rng(
        np.random.SeedSequence(seed, spawn_key=tuple(zlib.crc32(k.encode()) if isinstance(k, str) else k for k in key))
    )
