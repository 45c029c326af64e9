"""A part before anything is rendered in number: one view with all its buffers, and each defect from mild to severe at one pose."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from cad.errors import InputError
from cad.mesh import Mesh
from cad.part import Part
from synth.dataset import magnitude
from synth.drawable import Drawable, Truth
from synth.picture import feature_colors, outlined
from synth.raycast import draw, outline, truth
from synth.sampling import MASK_DEPTH, difference
from synth.scene import Scene, draw_scene

SCENES = 24  # of which a preview is the one that shows most of the defect
TITLE = 16  # px above a tile


def preview(part: Part, *, size: int = 256, seed: int = 0, defect: str | None = None, severity: float | None = None) -> Image.Image:
    """One view of the nominal part, or of one with ``defect``, in a pose that shows it: picture, mask, depth, normals, sub-components."""
    good, made, said = part.mesh(), None, ""
    if defect is not None:
        made, record = part.with_defect(defect, np.random.default_rng([seed, 1]), severity=severity)
        said = f"{defect} {record.severity:.2f} {record.unit}"
    scene = _telling(part, good, [made] if made else [], size, seed)
    item = Drawable.of(made or good)
    seen, picture = truth(item, scene, size), draw(item, scene, size, samples=3)
    mask = _mask(part, good, made, scene, size) if made else np.zeros((size, size), bool)
    colors = feature_colors(len(part.names))
    ids = np.where(seen.feature[..., None] > 0, 255 * colors[seen.feature], 255).astype(np.uint8)
    tiles = [
        (part.name, outlined(picture, mask, 1)), (f"mask: {said}, {mask.sum()} px" if made else "mask: no defect", _grey(mask)),
        (_span(seen), _grey(nearness(seen))), ("normals", np.rint(127.5 * (1 + seen.normal) * (seen.feature > 0)[..., None]).astype(np.uint8)),
        ("sub-components", ids),
    ]  # fmt: skip
    sheet = _row(tiles, size)
    pen = ImageDraw.Draw(sheet)
    for k, name in enumerate(part.names):
        x, y = 4 * (size + 4) + 8, TITLE + 6 + 13 * k
        pen.rectangle([x, y + 2, x + 8, y + 10], fill=tuple(int(255 * c) for c in colors[k + 1]), outline="black")
        pen.text((x + 12, y), name, fill="black")
    return sheet


def ladder(part: Part, *, steps: int = 6, size: int = 128, seed: int = 0, defects: list[str] | None = None) -> Image.Image:
    """A row for each defect: the good part, then ``steps`` severities over the file's range, all at one spot and in one pose."""
    for name in defects or []:
        if name not in part.defects:
            raise InputError("--defect", f'the part has no defect "{name}"', wanted=", ".join(part.defects) or "a part with defects")
    names = defects or list(part.defects)
    if not names:
        raise InputError(part.name, "has no defects", wanted="a part file with a defects block")
    good, rows = part.mesh(), []
    for name in names:
        severities = _rising(part, name, steps)
        made = [part.with_defect(name, np.random.default_rng([seed, 1]), severity=s) for s in severities]
        scene = _telling(part, good, [mesh for mesh, _ in made], size, seed)
        tiles = [(name, draw(Drawable.of(good), scene, size, samples=3))]
        for mesh, record in made:
            mask = _mask(part, good, mesh, scene, size)
            said = f"{record.severity:.2f} {record.unit}, {mask.sum()} px"
            tiles.append((said, outlined(draw(Drawable.of(mesh), scene, size, samples=3), mask, 1)))
        rows.append(np.asarray(_row(tiles, size)))
    widest = max(row.shape[1] for row in rows)  # a defect of one severity has a row of two
    return Image.fromarray(np.vstack([np.pad(row, ((0, 0), (0, widest - row.shape[1]), (0, 0)), constant_values=255) for row in rows]))


def nearness(seen: Truth) -> np.ndarray:
    """(H, W) in [0, 1]: the part's depth, 1 nearest, 0.2 farthest; 0 behind it."""
    hit = np.isfinite(seen.depth)
    if not hit.any():
        return np.zeros(hit.shape)
    near, far = seen.depth[hit].min(), seen.depth[hit].max()
    with np.errstate(invalid="ignore"):
        return np.where(hit, 1 - 0.8 * (seen.depth - near) / max(far - near, 1e-9), 0.0)


def _rising(part: Part, name: str, steps: int) -> list[float]:
    """From the mildest to the severest of the file's range, each once."""
    spec = part.defects[name]
    values = np.unique(np.linspace(*spec.range, steps)).tolist()
    return sorted(values, key=lambda s: magnitude({"kind": spec.kind, "severity": s}))


def _telling(part: Part, good: Mesh, made: list[Mesh], size: int, seed: int) -> Scene:
    """Of SCENES within the part file's ranges the one that shows most of the mildest of ``made``, then of the others."""
    scenes = [draw_scene(part, good, np.random.default_rng([seed, 2, k])) for k in range(SCENES if made else 1)]
    drawable = [Drawable.of(mesh) for mesh in made[:1] + made[-1:]]
    whole = Drawable.of(good)
    depth, small = MASK_DEPTH * good.diagonal, min(size, 96)

    def shows(scene: Scene) -> tuple[int, ...]:
        before = outline(whole, scene, small)
        return tuple(int(difference(before, outline(item, scene, small), depth).sum()) for item in drawable)

    return max(scenes, key=shows) if made else scenes[0]


def _mask(part: Part, good: Mesh, made: Mesh, scene: Scene, size: int) -> np.ndarray:
    return difference(outline(Drawable.of(good), scene, size), outline(Drawable.of(made), scene, size), MASK_DEPTH * good.diagonal)


def _grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(np.rint(255 * values).astype(np.uint8)[..., None], 3, 2)


def _span(seen: Truth) -> str:
    hit = np.isfinite(seen.depth)
    return f"depth: {seen.depth[hit].min():.1f} to {seen.depth[hit].max():.1f} mm" if hit.any() else "depth: nothing is seen"


def _row(tiles: list[tuple[str, np.ndarray]], size: int) -> Image.Image:
    sheet = Image.new("RGB", (len(tiles) * (size + 4) - 4, size + TITLE + 4), "white")
    pen = ImageDraw.Draw(sheet)
    for k, (title, pixels) in enumerate(tiles):
        pen.text((k * (size + 4) + 2, 2), title, fill="black")
        sheet.paste(Image.fromarray(pixels), (k * (size + 4), TITLE))
    return sheet
