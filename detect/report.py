"""The validation page: one HTML file that opens offline. Its tables and plots are used by the end-to-end report too."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from jinja2 import Environment

    from detect.validation import Validation

LIMITS = (
    "Shape only: scratches, stains and misprints are outside its aim.",
    "The p-values hold for parts photographed like the calibration images; a change of camera, light or background wants a new calibration.",
    "The learned forms name a sub-component by the nearest rendered training view, and give no deviation in millimetres; the CAD form measures in the plane of the image.",
    "A dimension is judged only where the view can tell it, and one at a time: of two that change the same outline, the likelier is named.",
    "A defect that a view does not show cannot be found in it: hidden ones are left out of these figures.",
)


def validation_page(result: Validation, figures: dict[str, Any]) -> str:
    """The HTML text."""
    return environment().get_template("validation.html").render(title=f"Validation of {result.detector.name}", **section(result, figures))


def section(result: Validation, figures: dict[str, Any]) -> dict[str, Any]:
    """What the templates' ``results`` macro needs of one validated folder."""
    from detect.validation import severity_table

    return {
        "folder": result.folder.name,
        "figures": figures,
        "severities": severity_table(result),
        "plots": [svg(plot) for plot in (_histogram(result), _curves(result), _detection(result)) if plot is not None],
        "pictures": {name: [(caption, data_uri(image)) for caption, image in pairs] for name, pairs in result.pictures.items()},
        "limits": LIMITS,
    }


def environment(*packages: str) -> Environment:
    """Templates of this package, those of ``packages`` in front."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    found = Environment(
        loader=ChoiceLoader([PackageLoader(p) for p in (*packages, "detect")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"figure": figure, "percent": lambda v: "–" if v is None else f"{100 * v:.1f} %"}
    return found


def figure(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def new_figure(width: float = 5.2, height: float = 3.2) -> Any:
    """A matplotlib figure of its own: no global state, no display."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def svg(drawn: Any) -> str:
    """Inline SVG; the text stays text, ids do not change from run to run."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "formspect", "font.size": 9}):
        drawn.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _histogram(result: Validation) -> Any:
    drawn = new_figure()
    axes = drawn.subplots()
    scores = {label: result.scores(lambda c, wanted=label: c.label == wanted) for label in ("good", *result.labels)}
    joined = np.concatenate(list(scores.values()))
    edges = np.geomspace(max(joined.min(), 1e-3), max(joined.max(), 2e-3), 40)
    for label, values in scores.items():
        axes.hist(values, edges, histtype="stepfilled", alpha=0.45, label=label)
    axes.axvline(result.detector.calibration.conformal.threshold, color="black", linewidth=1)
    axes.set(xscale="log", xlabel="score (line: threshold)", ylabel="images", title="scores")
    axes.legend(frameon=False)
    return drawn


def _detection(result: Validation) -> Any:
    """Share of defects found against their size; None where the set knows no sizes, or has too few good images."""
    from detect.validation import sizes_found

    rows = {label: pair for label in result.labels if (pair := sizes_found(result, label)) is not None}
    return detection_plot({label: {"share found": pair} for label, pair in rows.items()}) if rows else None


def detection_plot(rows: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]) -> Any:
    """{defect: {curve: ((n,) sizes, (n,) found)}} -> probability of detection against size, an axis for each defect."""
    from detect.metrics import detection_curve, detection_limit

    drawn = new_figure(max(5.2, 3.6 * len(rows)), 3.2)
    for axes, (label, curves) in zip(np.atleast_1d(drawn.subplots(1, len(rows), sharey=True)), rows.items(), strict=True):
        for name, (sizes, found) in curves.items():
            across = np.geomspace(sizes.min(), sizes.max(), 100)
            curve, limit = detection_curve(sizes, found), detection_limit(sizes, found)
            known = f"{name}: 95 % at {limit:.2g}" if limit is not None else f"{name}: 95 % not reached"
            (line,) = axes.plot(across, 1 / (1 + np.exp(-curve[0] - curve[1] * np.log(across))), label=known)
            groups = np.array_split(np.argsort(sizes, kind="stable"), min(8, len(np.unique(sizes))))
            axes.plot([sizes[g].mean() for g in groups], [found[g].mean() for g in groups], "o", markersize=3, color=line.get_color())
        axes.axhline(0.95, color="0.8", linewidth=0.8)
        axes.set(xlabel=f"{label}, size", ylim=(-0.03, 1.03))
        axes.legend(frameon=False, loc="lower right")
    drawn.axes[0].set(ylabel="found at 1 % false rejects")
    return drawn


def _curves(result: Validation) -> Any:
    drawn = new_figure()
    axes = drawn.subplots()
    good = np.sort(result.scores(lambda c: c.label == "good"))
    for label in result.labels:
        bad = np.sort(result.scores(lambda c, wanted=label: c.label == wanted))
        steps = np.unique(np.concatenate([good, bad]))[::-1]
        fpr = np.r_[0, 1 - np.searchsorted(good, steps, side="left") / len(good)]
        tpr = np.r_[0, 1 - np.searchsorted(bad, steps, side="left") / len(bad)]
        axes.plot(fpr, tpr, label=label, linewidth=1.4)
    axes.plot([0, 1], [0, 1], color="0.8", linewidth=0.8)
    axes.set(xlabel="good parts rejected", ylabel="defective parts found", title="ROC")
    axes.legend(frameon=False, loc="lower right")
    return drawn
