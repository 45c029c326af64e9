"""The CAD form's run folder: nothing is trained but what a descent over the renderer's own parameters needs.

config.yaml        format, form, size, seed, and what was measured      part.yaml       the part file
form.safetensors   reflectance maps, pose index, symmetries, hollows    noise.json      expected residuals by kind of pixel
lens.json          the camera's calibration, where one was given
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from scipy.spatial import ConvexHull, cKDTree

from cad.command import progress
from cad.errors import InputError
from cad.files import fingerprint, read_json, whole, write, write_json
from cad.mesh import Mesh
from cad.part import Part, parse
from cad.reading import yaml_text
from cad.views import Camera
from synth.color import linear
from synth.drawable import Drawable
from synth.sampling import Recipe, draw_sample
from synth.scene import Placement, Scene, placement_of
from train import runs
from train.images import LUMA
from train.lens import Lens
from train.pose_index import PoseIndex, build_index
from train.reflectance import basis
from train.residual_noise import ResidualNoise, hollows, kinds
from train.runs import is_done, remove_run
from train.shading import Sheet, lit, sheet
from train.symmetry import Symmetries, measured

FORMAT, LENS = 2, "lens.json"
COARSER, FINEST = 2.5, 160  # the descent's chords against the part's own at most, and the px from which they are the same
SAMPLES = 2  # rays a pixel are its square
NOISE_VIEWS = 96
NEARLY = 1.1  # a scale known within this factor is known well enough for whole-image templates
CAD_SIZE, SMALLEST, LARGEST = 128, 32, 1024  # px: by default, and what is taken


@dataclass(frozen=True, eq=False)
class CadForm:
    """A part as its own generator: ``decode`` is the renderer. Opened by :func:`open_form`, made by :func:`build_form`."""

    part: Part
    size: int
    table: np.ndarray
    index: PoseIndex
    symmetries: Symmetries
    hollow: np.ndarray
    noise: ResidualNoise
    lens: Lens | None = None

    @cached_property
    def coarse(self) -> Part:
        """The part with chords that are seen as little at any size: about diagonal / 1000 at 64 px."""
        return replace(self.part, chord=min(COARSER, max(1.0, FINEST / self.size)) * self.part.chord)

    @cached_property
    def mesh(self) -> Mesh:
        return self.coarse.mesh()

    @cached_property
    def item(self) -> Drawable:
        return Drawable.of(self.mesh)

    @cached_property
    def pivot(self) -> np.ndarray:
        """(3,) mm: the middle of the nominal part's box."""
        return self.mesh.bounds.mean(0)

    @cached_property
    def corners(self) -> np.ndarray:
        """(n, 3) mm about the pivot: those of the convex hull, from which any view's box can be told."""
        return (self.mesh.vertices - self.pivot)[ConvexHull(self.mesh.vertices).vertices]

    @cached_property
    def _places(self) -> cKDTree:
        return cKDTree(self._place(self.item))

    def _place(self, item: Drawable) -> np.ndarray:
        """(m, 7): a triangle's middle, side and sub-component; the two sides of a thin wall are far apart in it."""
        across = np.cross(item.corners[:, 1] - item.corners[:, 0], item.corners[:, 2] - item.corners[:, 0])
        facing = across / np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-300)
        return np.column_stack([item.corners.mean(1), 0.3 * self.mesh.diagonal * facing, self.mesh.diagonal * item.feature])

    def hollow_of(self, item: Drawable) -> np.ndarray:
        """(m,) the hidden sky of a variant's triangles: that of the nominal part's nearest."""
        return self.hollow if item is self.item else self.hollow[self._places.query(self._place(item))[1]]

    def drawn(
        self, at: Placement, size: int, item: Drawable | None = None, hollow: np.ndarray | None = None,
        *, table: np.ndarray | None = None, lamps: np.ndarray | None = None,
    ) -> Sheet:  # fmt: skip
        """A view of the nominal part, or of a variant."""
        item = item or self.item
        table, hollow = self.table if table is None else table, self.hollow_of(item) if hollow is None else hollow
        return sheet(item, self.pivot, at, table, hollow, size, SAMPLES, lamps)

    @cached_property
    def reference(self) -> Placement:
        return reference_of(self.part, self.mesh)


def reference_of(part: Part, mesh: Mesh) -> Placement:
    """Where the part file's camera has the part: exactly, or in the middle of its ranges."""
    camera = part.views.camera
    fill = float(np.mean(camera.fill or (0.7, 0.7)))
    if not camera.perspective:
        field = float(np.sqrt(np.prod(camera.fields))) if camera.fields else mesh.diagonal / fill
        return Placement(np.eye(3), np.array([0.0, 0.0, -2.0 * mesh.diagonal]), 1 / field, False)
    scale = float(np.sqrt(np.prod([1 / (2 * np.tan(np.radians(angle) / 2)) for angle in camera.angles])))
    return Placement(np.eye(3), np.array([0.0, 0.0, -max(mesh.diagonal / fill * scale, 0.75 * mesh.diagonal)]), scale, True)


def placed_elsewhere(part: Part) -> bool:
    """Whether the part's place or scale in the image is not known beforehand."""
    camera = part.views.camera
    return camera.offset > 0 or camera.fields is None or camera.fields[1] > NEARLY * camera.fields[0]


def luminance(images: np.ndarray) -> np.ndarray:
    """(..., H, W, 3) uint8 sRGB -> (..., H, W) float64 linear light in [0, 1]."""
    return linear(images / 255.0) @ np.array(LUMA)


def seen_through(part: Part, lens: Lens | None) -> Part:
    """The part before the pinhole camera that photographs through ``lens`` are straightened to."""
    if lens is None:
        return part
    camera = Camera(projection="perspective", angle=lens.angle, fill=part.views.camera.fill, offset=part.views.camera.offset)
    return replace(part, views=part.views.model_copy(update={"camera": camera}))


def build_form(part: Part, size: int, *, seed: int = 0, lens: Lens | None = None) -> tuple[CadForm, dict[str, Any]]:
    """The form, and what was measured on the way. Deterministic for a part and ``seed``. ``lens``: the camera's calibration, instead
    of the part file's projection."""
    start = time.perf_counter()
    part.check_tolerances()
    part = seen_through(part, lens)
    with progress(4, "fitting", "steps") as advance:
        table = basis(part.views, seed=seed)
        shell = CadForm(part, size, table, None, None, None, None, lens)  # type: ignore[arg-type] - filled in below, in this order
        advance(1)
        hollow = hollows(shell.item, shell.pivot, shell.mesh.diagonal)
        index = build_index(part, shell.item, shell.pivot, shell.reference, table, hollow, placed_elsewhere(part))
        advance(1)
        symmetries = measured(shell.mesh, shell.item, shell.pivot, shell.reference, table, hollow, index)
        advance(1)
        form = replace(shell, index=index, symmetries=symmetries, hollow=hollow)
        form = replace(form, noise=_noise(form, seed))
        advance(1)
    facts = {
        "poses": len(index.turns),
        "exact_symmetries": len(symmetries.exact),
        "approximate_symmetries": len(symmetries.approximate),
        "seconds": round(time.perf_counter() - start, 1),
    }
    return form, facts


def _noise(form: CadForm, seed: int) -> ResidualNoise:
    """From good views at their true poses: what tolerances, sampling and a light outside the basis leave over."""
    recipe = Recipe(NOISE_VIEWS, 0, size=form.size, seed=seed + 7919)  # views that no dataset of the user's shares
    found, residuals = [], []
    for k in range(NOISE_VIEWS):
        drawn = draw_sample(form.part, recipe, "train", "good", k)
        picture = luminance(drawn.image).ravel()
        view = form.drawn(placement_of(Scene.of(drawn.sample.scene), form.pivot), form.size)
        light, made, _ = lit(view, picture)
        found.append(kinds(view, made, light, form.table, form.hollow))
        residuals.append(picture - made)
    return ResidualNoise.of(*thinned(found, residuals))


def thinned(*columns: list[np.ndarray], most: int = 200_000) -> list[np.ndarray]:
    """Each column's rows of all images joined; every k-th, the same of each column, where they are more than ``most``."""
    step = max(1, sum(map(len, columns[0])) // most)
    return [np.concatenate(column)[::step] for column in columns]


def wanted_of(part: Part, size: int, seed: int, lens: Lens | None = None) -> dict[str, Any]:
    """What a finished folder must say to be up to date."""
    camera = {"lens": fingerprint(lens.json())} if lens else {}
    return {"format": FORMAT, "form": "cad", "size": size, "seed": seed, "part": fingerprint(part.text), **camera}


def check_size(size: int) -> int:
    """Raises InputError for a size that cannot be searched."""
    if not SMALLEST <= size <= LARGEST:
        raise InputError("--size", f"found {size}", wanted=f"{SMALLEST} to {LARGEST} px")
    return size


def fit_form(
    folder: str | Path, part: Part, wanted: dict[str, Any], *, lens: Lens | None = None, replace_other: bool = False
) -> dict[str, Any] | None:
    """Builds and saves the form that ``wanted`` says; None where it is there. Another run in the folder raises InputError, or with
    ``replace_other`` is removed."""
    folder = Path(folder)
    if is_done(folder, wanted, "holds another run", replace=replace_other):
        return None
    remove_run(folder)  # what a training that was stopped left there
    form, facts = build_form(part, wanted["size"], seed=wanted["seed"], lens=lens)
    save_form(folder, form, wanted, facts)
    return facts


def save_form(folder: str | Path, form: CadForm, wanted: dict[str, Any], facts: dict[str, Any]) -> None:
    """config.yaml last, so its presence means complete."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {
        "table": form.table, "turns": form.index.turns, "templates": form.index.templates, "boxes": form.index.boxes,
        "symmetry_turns": form.symmetries.turns, "symmetry_losses": form.symmetries.losses, "hollow": form.hollow,
    }  # fmt: skip
    with whole(folder / "form.safetensors") as temporary:
        save_file({k: torch.as_tensor(v).contiguous() for k, v in arrays.items()}, temporary)
    write_json(folder / "noise.json", form.noise.json())
    if form.lens:
        write_json(folder / LENS, form.lens.json())
    write(folder / "part.yaml", form.part.text)
    write(folder / "config.yaml", yaml_text({**wanted, "measured": facts}))


def open_form(folder: str | Path, config: dict[str, Any]) -> CadForm:
    """Raises InputError where a file is missing, damaged, or of a newer format."""
    folder = Path(folder)
    if config.get("format", 0) > FORMAT:
        raise InputError(
            folder / "config.yaml", f"found format {config['format']}", wanted=f"at most {FORMAT}", step="use a newer formspect"
        )
    again = "train fit --form cad --force makes it anew"
    try:
        arrays = load_file(folder / "form.safetensors")
        lens = Lens.of(read_json(folder / LENS, "a camera's calibration")) if "lens" in config else None
        part = seen_through(parse((folder / "part.yaml").read_text(encoding="utf-8")), lens)
        noise = ResidualNoise.from_json(read_json(folder / "noise.json", "a noise model"))
        values = {k: v.numpy() for k, v in arrays.items() if k != "templates"}
        index = PoseIndex(values["turns"], arrays["templates"], values["boxes"], placed_elsewhere(part))
        symmetries = Symmetries(values["symmetry_turns"], values["symmetry_losses"])
        form = CadForm(part, int(config["size"]), values["table"], index, symmetries, values["hollow"], noise, lens)
    except FileNotFoundError as error:
        raise InputError(error.filename or folder, "missing", wanted="a whole run folder", step=again) from None
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(folder, f"is damaged: {type(error).__name__} {error}", wanted="a whole run folder", step=again) from None
    if len(form.hollow) != len(form.item.corners):
        raise InputError(folder, "was made by another version's mesh", wanted="a form of this version", step=again)
    return form


def read_config(folder: Path) -> dict[str, Any] | None:
    """The folder's config where it is a CAD form's; None where it is something else's."""
    found = runs.read_config(folder) if (folder / "config.yaml").is_file() else None
    return found if isinstance(found, dict) and found.get("form") == "cad" else None
