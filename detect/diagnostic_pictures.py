"""The pictures of a :class:`detect.diagnostics.Diagnosis`, and the page that holds them. Greys, residuals and heat have one scale each for all
pictures, so that none is made to look like another."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from cad.files import whole, write, write_json
from detect.pose_coverage import SPINS, Coverage, cell_outlines, hammer
from detect.report import data_uri, environment, new_figure, svg

if TYPE_CHECKING:
    from detect.diagnostics import Diagnosis, Reconstruction
    from detect.latent_space import Interpolation

SMALLEST = 64  # px of a picture among others: smaller ones are enlarged
GAP, COLUMNS = 2, 8
EVERY = 7  # frames of an interpolation between two that its strip shows, the first and the last of 64 among them
STEP, REST = 60, 700  # milliseconds that an animation shows a frame, and its first and its last
PANELS = ("photograph", "nearest form", "residual", "anomaly map")
LIKELY = 3  # views expected in a cell that is outlined where there is none: one such cell in twenty is missed by the luck of the draw
FULL = 3  # times the share of the cell that was trained on most: darkest on the map
KINDS = {"real good": ("#0072b2", "o"), "real defective": ("#d55e00", "^"), "generated": ("#222222", "x")}  # Okabe and Ito's colours


def write_pictures(found: Diagnosis, folder: Path) -> None:
    """All files of a diagnosis, diagnostics.json last."""
    labels = list(dict.fromkeys(p.label for p in found.interpolations))
    _save(grid(found.generated, found.window), folder / "generated.png")
    _save(grid(found.real, found.window), folder / "real.png")
    _save(titled([(_out(f["deviations"]), row) for f, row in _outside(found)]), folder / "outside.png")
    for label in labels:
        own = [p for p in found.interpolations if p.label == label]
        _save(_stacked([strip(p, found.window) for p in own]), folder / f"interpolation-{label}.png")
        write(folder / f"interpolation-{label}.gif", animation(own, found.window))
    for label in dict.fromkeys(r.label for r in found.reconstructions):
        rows = [(f"{r.rank}, {r.score:.3g}", row_of(panels(r, found))) for r in found.reconstructions if r.label == label]
        _save(titled(rows), folder / f"reconstructions-{label}.png")
    shown = section(found)
    for name, plot in shown["plots"].items():
        write(folder / f"{name}.svg", plot)
    page = environment().get_template("diagnostics.html").render(title=f"Diagnostics of {found.figures['subject']}", d=shown)
    write(folder / "diagnostics.html", page)
    write_json(folder / "diagnostics.json", found.figures)


def section(found: Diagnosis) -> dict[str, Any]:
    """What the templates' ``diagnosed`` macro needs; JSON."""
    labels = list(dict.fromkeys(p.label for p in found.interpolations))
    return {
        "figures": found.figures,
        "generated": data_uri(grid(found.generated, found.window)),
        "real": data_uri(grid(found.real, found.window)),
        "outside": [(f, data_uri(row)) for f, row in _outside(found)],
        "strips": [
            (f, data_uri(strip(p, found.window))) for f, p in zip(found.figures["interpolation"], found.interpolations, strict=True)
        ],
        "animations": [(label, _gif_uri([p for p in found.interpolations if p.label == label], found.window)) for label in labels],
        "plots": plots(found),
        "reconstructions": [
            {
                "label": r.label,
                "words": f"{r.label}, {r.rank}: picture {r.index}, score {r.score:.3g}",
                "panels": [(name, data_uri(picture)) for name, picture in zip(PANELS, panels(r, found), strict=True)],
            }
            for r in found.reconstructions
        ],
    }


def greys(pictures: Tensor | np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Prepared ones -> uint8: the window's ends are black and white."""
    low, high = window
    return np.rint(255 * np.clip((np.asarray(pictures, np.float32) - low) / max(high - low, 1e-6), 0, 1)).astype(np.uint8)


def grid(pictures: Tensor, window: tuple[float, float], columns: int = COLUMNS) -> Image.Image:
    """(n, 1, S, S) row by row, ``columns`` beside each other, GAP px of white between them; the last row is filled with white."""
    tiles = [_enlarged(p) for p in greys(pictures[:, 0], window)]
    side, columns = tiles[0].shape[0] + GAP, min(columns, len(tiles))
    out = np.full((-(-len(tiles) // columns) * side - GAP, columns * side - GAP), 255, np.uint8)
    for k, tile in enumerate(tiles):
        y, x = k // columns * side, k % columns * side
        out[y : y + len(tile), x : x + len(tile)] = tile
    return Image.fromarray(out)


def strip(path: Interpolation, window: tuple[float, float]) -> Image.Image:
    """Every EVERY-th frame, from the first on."""
    return grid(path.frames[::EVERY], window, columns=len(path.frames))


def animation(paths: Sequence[Interpolation], window: tuple[float, float]) -> bytes:
    """A GIF of all frames in 64 greys, the paths beside each other; it rests at both ends and starts again."""
    frames = [grid(np.stack([p.frames[k].numpy() for p in paths]), window) for k in range(len(paths[0].frames))]
    frames = [f.point(lambda grey: grey // 4 * 255 // 63) for f in frames]
    buffer, times = io.BytesIO(), [REST, *[STEP] * (len(frames) - 2), REST]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=times, loop=0, optimize=False)
    return buffer.getvalue()


def panels(shown: Reconstruction, found: Diagnosis) -> list[Image.Image]:
    """PANELS, (S, S) RGB each. Residual: red where the photograph is brighter than the form, blue where it is darker, full at half the window;
    heat starts at half the level that good pictures stay below, and ends at twice it."""
    photo, form = (greys(p, found.window)[..., None].repeat(3, 2) for p in (shown.photograph, shown.form))
    low, high = found.window
    off = np.clip(2 * (shown.photograph - shown.form) / max(high - low, 1e-6), -1, 1)[..., None]
    colour = np.where(off > 0, np.array([178.0, 24.0, 43.0]), np.array([33.0, 102.0, 172.0]))
    residual = np.rint(255 + np.abs(off) * (colour - 255)).astype(np.uint8)
    heat = np.clip((shown.anomaly / max(found.level, 1e-12) - 0.5) / 1.5, 0, 1)[..., None]
    warm = np.rint(heat * np.array([255.0, 60.0, 0.0]) + (1 - heat) * photo).astype(np.uint8)
    return [Image.fromarray(_enlarged(p)) for p in (photo, form, residual, warm)]


def row_of(pictures: Sequence[Image.Image]) -> Image.Image:
    """Beside each other."""
    out = Image.new("RGB", (sum(p.width + GAP for p in pictures) - GAP, max(p.height for p in pictures)), "white")
    for k, picture in enumerate(pictures):
        out.paste(picture, (sum(p.width + GAP for p in pictures[:k]), 0))
    return out


def titled(rows: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Above each other, each below its line of text."""
    lines = []
    for text, row in rows:
        line = Image.new("RGB", (max(row.width, 8 * len(text)), row.height + 16), "white")
        line.paste(row, (0, 14))
        ImageDraw.Draw(line).text((2, 1), text, fill="black")
        lines.append(line)
    return _stacked(lines)


def plots(found: Diagnosis) -> dict[str, str]:
    """{name: SVG}."""
    drawn = {"steps": _steps(found), "plane": _plane(found), "coverage": found.coverage and _coverage(found.coverage)}
    return {name: svg(plot) for name, plot in drawn.items() if plot is not None}


def _steps(found: Diagnosis) -> Any:
    """Each interpolation's steps over their median one: even ones are flat."""
    paths = [p for p in found.interpolations if np.median(p.steps) > 0]
    if not paths:
        return None
    drawn = new_figure(6.4, 3.2)
    axes = drawn.subplots()
    for kind, (colour, _) in list(KINDS.items())[:2]:
        own = [p for p in paths if (p.label == "good") == (kind == "real good")]
        for k, path in enumerate(own):
            axes.plot(path.steps / np.median(path.steps), color=colour, linewidth=1, alpha=0.7, label=f"between {kind[5:]} codes" if k == 0 else None)  # fmt: skip
    axes.axhline(1, color="0.8", linewidth=0.8, zorder=0)
    axes.set(xlabel="frame", ylabel="step over the median step", ylim=(0, None), title="how evenly the picture changes on the way")
    axes.legend(frameon=False)
    return drawn


def _plane(found: Diagnosis) -> Any:
    if found.plane is None:
        return None
    drawn = new_figure(6.4, 5.2)
    axes = drawn.subplots()
    for kind, places in found.plane.items():
        colour, marker = KINDS[kind]
        axes.scatter(*places.T, s=14, color=colour, marker=marker, linewidths=0.9 if marker == "x" else 0, alpha=0.75, label=f"{kind} ({len(places)})")  # fmt: skip
    axes.set(xticks=[], yticks=[], title="t-SNE of thumbnails: near is alike, distances and axes mean nothing")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=3, frameon=False)
    return drawn


def _coverage(found: Coverage) -> Any:
    """Maps of trained, generated and real views on one scale of shares, cells outlined that should be reached and are not; and of spins."""
    drawn = new_figure(10.4, 4.6)
    counts = {"trained on": found.trained, "generated": found.generated, "real good": found.real}
    spins = {"trained on": found.trained_spins, "generated": found.generated_spins, "real good": found.real_spins}
    maps, bars = drawn.subplots(2, 3, height_ratios=(1.2, 1))
    highest = 1.1 * max(float((own / max(own.sum(), 1)).max()) for own in spins.values())
    most = FULL * float(found.trained.max() / max(found.trained.sum(), 1))
    for axes, (name, own) in zip(maps, counts.items(), strict=True):
        shares = _map(axes, own, found.trained, most)
        axes.set_title(f"{name}: {own.sum()} views")
    drawn.colorbar(shares, ax=maps, label="share of views in a cell", location="bottom", shrink=0.35, aspect=40, extend="max", format=lambda v, _: f"{100 * v:.0f} %")  # fmt: skip
    for axes, (name, own) in zip(bars, spins.items(), strict=True):
        axes.bar((np.arange(SPINS) + 0.5) * 360 / SPINS, own / max(own.sum(), 1), 0.9 * 360 / SPINS, color="#4292c6")
        axes.axhline(1 / SPINS, color="0.6", linewidth=0.8)
        axes.set(xlabel=f"spin in the image, degrees ({name})", xticks=range(0, 361, 90), ylim=(0, highest))
    bars[0].set(ylabel="share of views")
    return drawn


def _map(axes: Any, counts: np.ndarray, trained: np.ndarray, most: float) -> Any:
    from matplotlib.collections import PolyCollection

    places = [hammer(outline) for outline in cell_outlines()]
    missed = (counts == 0) & (trained * counts.sum() >= LIKELY * trained.sum())
    cells = PolyCollection(places, array=counts / max(counts.sum(), 1), cmap="Blues", edgecolors="0.75", linewidths=0.4)
    cells.set_clim(0, most)
    axes.add_collection(cells)
    axes.add_collection(PolyCollection([p for p, m in zip(places, missed, strict=True) if m], facecolors="none", edgecolors="#d7191c", linewidths=1.2))  # fmt: skip
    for text, longitude, latitude in (("+X", 0, 0), ("+Y", 90, 0), ("−Y", -90, 0), ("+Z", 0, 90), ("−Z", 0, -90), ("−X", 180, 0), ("−X", -180, 0)):  # fmt: skip
        x, y = hammer(np.radians([[longitude, latitude]]))[0] * (1.1 if abs(latitude) == 90 or abs(longitude) == 180 else 1)
        axes.text(x, y, text, ha="center", va="center", fontsize=7, color="0.25", bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.8})  # fmt: skip
    axes.set(xlim=(-3.35, 3.35), ylim=(-1.7, 1.7), aspect="equal")
    axes.axis("off")
    return cells


def _outside(found: Diagnosis) -> list[tuple[dict[str, Any], Image.Image]]:
    return [(f, grid(row, found.window)) for f, row in zip(found.figures["outside"], found.outside, strict=True)]


def _out(deviations: float) -> str:
    return f"{deviations:g} deviation{'s' if deviations != 1 else ''} out" + (", as far as draws from the prior" if deviations == 1 else "")


def _enlarged(picture: np.ndarray) -> np.ndarray:
    """By a whole number, pixel by pixel."""
    times = -(-SMALLEST // len(picture))
    return picture.repeat(times, 0).repeat(times, 1)


def _stacked(rows: Sequence[Image.Image]) -> Image.Image:
    out = Image.new(rows[0].mode, (max(r.width for r in rows), sum(r.height + GAP for r in rows) - GAP), "white")
    for k, row in enumerate(rows):
        out.paste(row, (0, sum(r.height + GAP for r in rows[:k])))
    return out


def _gif_uri(paths: Sequence[Interpolation], window: tuple[float, float]) -> str:
    return "data:image/gif;base64," + base64.b64encode(animation(paths, window)).decode()


def _save(picture: Image.Image, path: Path) -> None:
    with whole(path) as temporary:
        picture.save(temporary, "PNG", optimize=True)
