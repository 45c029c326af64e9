"""The end-to-end report: one HTML file that opens offline."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image

from cad.files import read_json, write
from cad.part import Part
from detect.report import data_uri, environment, new_figure, svg
from pipelines.ablate import RESULT, bars
from synth.dataset import open_dataset
from synth.picture import contact_sheet, part_picture

VERSIONS = ("formspect", "torch", "numpy", "scipy", "manifold3d", "numba", "lightning-fabric", "pillow")


def write_report(part: Part, folder: Path, plan: dict[str, Any], seconds: dict[str, float]) -> Path:
    """Gathers what the stages left in ``folder`` into report.html."""
    real = folder / "real"
    facts = {
        "title": f"Formspect: {part.name}",
        "part": part,
        "mesh": part.mesh(),
        "picture": data_uri(part_picture(part, 280)),
        "sheet": data_uri(contact_sheet(open_dataset(folder / "data", check=False), rows=1).quantize(64)),
        **(_form_facts(folder) if plan["form"] == "cad" else _training_facts(folder)),
        "config": (folder / "run" / "config.yaml").read_text(encoding="utf-8"),
        "synthetic": read_json(folder / "synthetic" / "section.json", "a section"),
        "real": read_json(real / "section.json", "a section") if plan["real"] else None,
        "baseline": read_json(real / "baseline.json", "a baseline") if plan["real"] else None,
        "ablation": (ablation := _ablation(folder)),
        "ablation_plot": ablation and svg(bars(ablation)),
        "plan": plan,
        "seconds": seconds,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in VERSIONS}},
        "machine": f"{platform.machine()}, {platform.system()}",
    }
    page = environment("pipelines").get_template("report.html").render(facts)
    write(folder / "report.html", page)
    return folder / "report.html"


def _ablation(folder: Path) -> dict[str, Any] | None:
    """What formspect ablate found, where it was run."""
    path = folder / "ablation" / RESULT
    return read_json(path, "an ablation") if path.exists() else None


def _training_facts(folder: Path) -> dict[str, Any]:
    """What a learned form's run shows of its training."""
    log = [json.loads(line) for line in (folder / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    grid = sorted((folder / "run" / "samples").glob("*.png"))[-1]
    return {"descents": None, "curves": svg(_training_curves(log)), "grid": data_uri(_enlarged(grid))}


def _form_facts(folder: Path) -> dict[str, Any]:
    """Descents of the CAD form: the first test view of each label, from the first start to the end."""
    from detect.opening import open_detector
    from detect.trace import frames
    from train.photographs import find_images, read

    detector = open_detector(folder / "run", calibration=folder / "synthetic" / "calibration.json")
    strips = []
    for label in sorted(d for d in (folder / "data" / "test").iterdir() if d.is_dir()):
        shown = frames(detector, read(find_images(label)[0], detector.size, detector.lens))
        strips.append((label.name, data_uri(_strip([shown[0], shown[len(shown) // 2], shown[-1]]))))
    return {"descents": strips, "curves": "", "grid": ""}


def _strip(pictures: list[Image.Image]) -> Image.Image:
    joined = Image.new("L", (sum(p.width for p in pictures) + 8 * (len(pictures) - 1), pictures[0].height), 255)
    for k, picture in enumerate(pictures):
        joined.paste(picture, (k * (picture.width + 8), 0))
    return joined


def _training_curves(log: list[dict[str, float]]) -> Any:
    drawn = new_figure(7.5, 3.0)
    left, right = drawn.subplots(1, 2)
    left.plot([r["epoch"] for r in log], [r["pyramid"] for r in log])
    left.set(xlabel="epoch", title="reconstruction loss", yscale="log")
    for name in ("adversarial", "discriminator", "features"):
        rows = [r for r in log if name in r]
        if rows:
            right.plot([r["epoch"] for r in rows], [r[name] for r in rows], label=name)
    right.set(xlabel="epoch", title="the game")
    if right.lines:
        right.legend(frameon=False)
    return drawn


def _enlarged(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.resize((image.width * 2, image.height * 2), Image.Resampling.NEAREST)
