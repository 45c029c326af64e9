"""Pictures for people: contact sheets of a dataset, and a part from four sides with its sub-components in colour."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw

from cad.mesh import Mesh
from cad.part import Part
from synth.dataset import Dataset
from synth.drawable import Drawable
from synth.raycast import draw, truth
from synth.scene import Scene, about, product

SIDES = ((35.0, -60.0), (160.0, -60.0), (35.0, -150.0), (0.0, 0.0))  # degrees: spin about z, then tilt about x


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
    """The nominal part from four sides: (2 size, 4 size) px, as the camera sees it above and by sub-component below."""
    mesh = part.mesh()
    item, colors = Drawable.of(mesh), feature_colors(len(mesh.names))
    top, bottom = [], []
    for spin, tilt in SIDES:
        view = _from_side(part, mesh, spin, tilt)
        top.append(draw(item, view, size, samples=3))
        bottom.append(_by_feature(item, view, size, len(mesh.names)))
    picture = Image.fromarray(np.vstack([np.hstack(top), np.hstack(bottom)]))
    pen = ImageDraw.Draw(picture)
    for i, name in enumerate(mesh.names):
        pen.rectangle([8, size + 8 + 16 * i, 20, size + 20 + 16 * i], fill=tuple(int(255 * c) for c in colors[i + 1]))
        pen.text((26, size + 8 + 16 * i), name, fill="black")
    return picture


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


def feature_colors(count: int) -> np.ndarray:
    """(count + 1, 3) in [0, 1]: white for the background, then hues far apart."""
    return np.array([(1.0, 1.0, 1.0), *(colorsys.hsv_to_rgb((0.58 + 0.381966 * i) % 1, 0.55, 1.0) for i in range(count))])
