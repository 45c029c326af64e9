"""The page of a comparison: its table, its pictures, the curve of AUROC against time, and each learned form's diagnostics."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cad.files import write

if TYPE_CHECKING:
    from pipelines.compare import Bench, Budget

LOOKED_AT = 40  # test images of a class that diagnostics are made of


def write_report(figures: dict[str, Any], bench: Bench, folder: Path, budget: Budget, device: str, pictures: bool) -> None:
    """``folder``/report.html, and ``folder``/diagnostics/<model>/, a page each."""
    from detect.report import environment, svg
    from train.catalogue import CATALOGUE

    shown = [r["model"] for r in figures["table"] if r["model"] in CATALOGUE] if pictures else []
    sections = {name: found for name in shown if (found := _diagnosed(name, bench, folder, budget, device)) is not None}
    page = (
        environment("pipelines")
        .get_template("comparison.html")
        .render(
            title=f"Comparison: {figures['source']}",
            c=figures,
            bars=svg(bars(figures)),
            curves=svg(curves(figures)) if figures["curves"] else None,
            sections=sections,
            catalogue={k: e for k, e in CATALOGUE.items() if k in {r["model"] for r in figures["table"]}},
            samples={name: sample for name in shown if (sample := _sample(folder / "runs" / f"{name}-{budget.seeds[0]}")) is not None},
        )
    )
    write(folder / "report.html", page)


def _diagnosed(name: str, bench: Bench, folder: Path, budget: Budget, device: str) -> dict[str, Any] | None:
    """What the templates' macro needs of a model's first seed; its own page beside. None where its forms have no code."""
    from cad.errors import InputError
    from detect.diagnosing import diagnosis
    from detect.diagnostic_pictures import section, write_pictures
    from pipelines.compare import detector_of
    from train.photographs import read_all

    detector, _ = detector_of(folder / "runs" / f"{name}-{budget.seeds[0]}", bench, budget, device)
    photographs = {label: read_all(_some(paths), detector.size) for label, paths in bench.test.items()}
    try:
        found = diagnosis(detector, photographs)
    except InputError:
        return None
    write_pictures(found, folder / "diagnostics" / name)
    return section(found)


def _some(paths: list[Path]) -> list[Path]:
    return [paths[k] for k in np.unique(np.linspace(0, len(paths) - 1, LOOKED_AT).astype(int))]


def _sample(run: Path) -> str | None:
    """The last grid that training drew: pictures above, what the model makes below."""
    from PIL import Image

    from detect.report import data_uri

    found = sorted((run / "samples").glob("*.png"))
    return data_uri(Image.open(found[-1])) if found else None


def bars(figures: dict[str, Any]) -> Any:
    """AUROC of each class, a model a row."""
    from detect.report import new_figure

    rows, labels = figures["table"], list(figures["table"][0]["classes"])
    drawn = new_figure(7.5, 1.1 + 0.2 * len(rows) * max(1, 0.6 * len(labels)))
    axes = drawn.subplots()
    thick = 0.8 / len(labels)
    for k, label in enumerate(labels):
        values = [r["classes"][label] for r in rows]
        at = np.arange(len(rows)) + (k - (len(labels) - 1) / 2) * thick
        means = np.array([v["image_auroc"] for v in values])
        off = np.abs(np.array([[v["low"], v["high"]] for v in values]).T - means)
        axes.barh(at, means - 0.5, thick, left=0.5, xerr=off, label=label, error_kw={"linewidth": 0.6})
    axes.set(
        yticks=range(len(rows)), yticklabels=[r["model"] for r in rows], xlabel="image AUROC, 95 % interval over images", xlim=(0.2, 1.02)
    )
    axes.axvline(0.5, color="black", linewidth=0.8)
    axes.invert_yaxis()
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    return drawn


def curves(figures: dict[str, Any]) -> Any:
    """AUROC against milliseconds an image, over how long each may descend."""
    from detect.report import new_figure

    drawn = new_figure(7.5, 4.2)
    axes = drawn.subplots()
    for name, points in figures["curves"].items():
        axes.plot(
            [p["milliseconds"] for p in points], [p["image_auroc"] for p in points], marker="o", markersize=3, linewidth=1, label=name
        )
    axes.set(xscale="log", xlabel="milliseconds an image", ylabel="image AUROC, mean over classes")
    axes.legend(frameon=False, fontsize=7, ncols=3)
    return drawn
