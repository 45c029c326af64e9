"""Pictures for people: contact sheets of a dataset, and a part from four sides with its sub-components in colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw

from cad.mesh import Mesh
from cad.part import Part
from cad.viewer import feature_colors
from synth.dataset import Dataset
from synth.drawable import Drawable
from synth.raycast import draw, truth
from synth.scene import Scene, about, product

SIDES = ((35.0, -60.0), (215.0, -60.0), (35.0, -150.0), (0.0, 0.0))  # degrees: spin about z, then tilt about x: all sides of a box
ROW, COLUMN, LETTERS = 16, 150, 20  # of a legend: px, px, letters
LABELS = 8  # names that a tile has room for


def contact_sheet(data: Dataset, *, columns: int = 8, rows: int = 2, scale: int = 0) -> Image.Image:
    """A block of rows for each label of the test split (train where there is none), defects outlined, mildest first."""
    scale = scale or max(1, round(128 / data.size))
    tile, blocks = data.size * scale, []
    for label in data.labels:
        samples = data.of("test", label) or data.of("train", label)
        if label != "good":
            samples = sorted(samples, key=lambda s: s.magnitude)
        picks = [samples[i] for i in np.unique(np.linspace(0, len(samples) - 1, columns * rows).round().astype(int))]
        blocks.append((label, picks))
    height = sum(24 + -(-len(p) // columns) * (tile + 18) for _, p in blocks)
    sheet = Image.new("RGB", (columns * (tile + 4) + 4, height + 4), "white")
    pen, top = ImageDraw.Draw(sheet), 4
    for label, picks in blocks:
        pen.text((6, top + 4), f"{label} ({len(data.of('test', label) or data.of('train', label))} views)", fill="black")
        top += 24
        for i, sample in enumerate(picks):
            x, y = 4 + (i % columns) * (tile + 4), top + (i // columns) * (tile + 18)
            picture = outlined(data.images([sample])[0], data.mask(sample), scale)
            sheet.paste(Image.fromarray(picture), (x, y))
            if sample.defect:
                pen.text(
                    (x + 2, y + tile + 1),
                    f"{sample.defect['severity']:.2f} {sample.defect['unit']}{' hidden' if sample.hidden else ''}",
                    fill="black",
                )
        top += -(-len(picks) // columns) * (tile + 18)
    return sheet


def outlined(image: np.ndarray, mask: np.ndarray, scale: int, color: tuple[int, int, int] = (255, 40, 40)) -> np.ndarray:
    """(H, W, 3) uint8 enlarged ``scale`` times, with a line one pixel wide about the mask."""
    big = np.kron(image, np.ones((scale, scale, 1), np.uint8))
    inside = np.pad(np.kron(mask, np.ones((scale, scale), bool)), 1)
    shrunk = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    big[inside[1:-1, 1:-1] & ~shrunk] = color
    return big


def part_picture(part: Part, size: int = 384) -> Image.Image:
    """The nominal part from four sides, 4 tiles of ``size`` px across: as the camera sees it above, by sub-component below, each named
    where it shows best; a legend of all of them on the right."""
    mesh = part.mesh()
    item, colors = Drawable.of(mesh), feature_colors(len(mesh.names))
    top, bottom, seen = [], [], []
    for spin, tilt in SIDES:
        view = replace(_from_side(part, mesh, spin, tilt), field=1.3 * mesh.diagonal)
        shaded = draw(item, view, size, samples=3)
        seen.append(truth(item, view, size).feature)
        grey = draw(item, replace(view, color=(0.85, 0.85, 0.85)), size, samples=3).astype(float) / 255
        top.append(shaded)
        bottom.append(np.where(seen[-1][..., None] > 0, 255 * colors[seen[-1]] * grey, 255).astype(np.uint8))
    legend = _legend(mesh.names, colors, 2 * size)
    picture = Image.fromarray(np.hstack([np.vstack([np.hstack(top), np.hstack(bottom)]), np.asarray(legend)]))
    for k, spots in enumerate(_spots(seen)):
        _label(ImageDraw.Draw(picture), spots, mesh.names, (k * size, size), size)
    return picture


def _legend(names: tuple[str, ...], colors: np.ndarray, height: int) -> Image.Image:
    """All names with their colours, in as many columns as they need; a name too long for its column is cut."""
    rows = max(1, (height - 8) // ROW)
    sheet = Image.new("RGB", (COLUMN * -(-len(names) // rows), height), "white")
    pen = ImageDraw.Draw(sheet)
    for i, name in enumerate(names):
        x, y = 8 + COLUMN * (i // rows), 4 + ROW * (i % rows)
        pen.rectangle([x, y + 2, x + 11, y + 13], fill=tuple(int(255 * c) for c in colors[i + 1]))
        pen.text((x + 18, y + 2), _short(name), fill="black")
    return sheet


def _short(name: str) -> str:
    return name if len(name) <= LETTERS else f"{name[: LETTERS - 2]}.."


def _spots(seen: list[np.ndarray]) -> list[list[tuple[int, int, int]]]:
    """For each view (feature, x, y) of the sub-components that it shows best of all views, at most LABELS, the largest: a point well
    inside them, which is the one farthest from where they end."""
    from scipy.ndimage import distance_transform_edt

    counts = np.array([np.bincount(ids.ravel(), minlength=max(v.max() for v in seen) + 1) for ids in seen])
    best, spots = counts.argmax(0), [[] for _ in seen]
    for feature in np.argsort(-counts.max(0), kind="stable"):
        own = spots[best[feature]]
        if feature and counts[best[feature], feature] and len(own) < LABELS:
            depth = distance_transform_edt(np.pad(seen[best[feature]] == feature, 1))[1:-1, 1:-1]
            y, x = np.unravel_index(depth.argmax(), depth.shape)
            own.append((int(feature), int(x), int(y)))
    return spots


def _label(pen: ImageDraw.ImageDraw, spots: list[tuple[int, int, int]], names: tuple[str, ...], corner: tuple[int, int], size: int) -> None:
    """Names down the left and right of a tile, each with a line to its spot; those of one side in the order of their spots."""
    left, top = corner
    for right in (False, True):
        side = sorted((s for s in spots if (s[1] >= size / 2) == right), key=lambda s: s[2])
        height = 0
        for row, (feature, x, y) in enumerate(side):
            height = max(height + ROW, min(y, size - ROW * (len(side) - row)))
            text = _short(names[feature - 1])
            wide = pen.textlength(text)
            start = left + size - 8 - wide if right else left + 8
            spot, end = (left + x, top + y), (start - 3 if right else start + wide + 3, top + height)
            pen.line([spot, end], fill="white", width=3)
            pen.line([spot, end], fill="black", width=1)
            pen.ellipse([spot[0] - 3, spot[1] - 3, spot[0] + 3, spot[1] + 3], fill="black", outline="white")
            pen.text((start, top + height), text, fill="black", anchor="lm", stroke_width=2, stroke_fill="white")


def _from_side(part: Part, mesh: Mesh, spin: float, tilt: float) -> Scene:
    """All of the part from the side that the angles in degrees turn to the camera, before white."""
    lamp = np.array([0.35, 0.45, 0.82]) / np.linalg.norm([0.35, 0.45, 0.82])
    turn = product(about(np.array([1.0, 0, 0]), np.radians(tilt)), about(np.array([0, 0, 1.0]), np.radians(spin)))
    return Scene(tuple(map(float, turn)), tuple(map(float, mesh.bounds.mean(0))), (0.0, 0.0, -2 * mesh.diagonal), 1.08 * mesh.diagonal, None,
                 tuple(map(float, lamp)), 0.35, part.views.surface.color, 0.6, 0.0, (1.0, 1.0, 1.0))  # fmt: skip


def parts_picture(parts: Sequence[Part], size: int = 160, columns: int = 4) -> Image.Image:
    """The nominal parts in rows, each named with its extent, from above and, by sub-component, from below: two tiles of ``size`` px, a line of text."""
    picture = Image.new("RGB", (columns * 2 * size, -(-len(parts) // columns) * (size + 22)), "white")
    pen = ImageDraw.Draw(picture)
    for k, part in enumerate(parts):
        mesh, (x, y) = part.mesh(), (k % columns * 2 * size, k // columns * (size + 22))
        item = Drawable.of(mesh)
        picture.paste(Image.fromarray(draw(item, _from_side(part, mesh, *SIDES[0]), size, samples=3)), (x, y))
        picture.paste(Image.fromarray(_by_feature(item, _from_side(part, mesh, *SIDES[2]), size, len(mesh.names))), (x + size, y))
        extent = " x ".join(f"{v:.0f}" for v in np.ptp(mesh.bounds, axis=0))
        pen.text((x + 8, y + size + 2), f"{part.name}, {extent} mm", fill="black")
    return picture


def _by_feature(item: Drawable, scene: Scene, size: int, count: int) -> np.ndarray:
    """(size, size, 3) uint8: the sub-components in their colours, on white."""
    ids = truth(item, scene, size).feature
    grey = draw(item, replace(scene, color=(0.85, 0.85, 0.85)), size, samples=3).astype(float) / 255
    return np.where(ids[..., None] > 0, 255 * feature_colors(count)[ids] * grey, 255).astype(np.uint8)
