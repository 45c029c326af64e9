"""The validation page: one HTML file that opens offline. Its tables and plots are used by the end-to-end report too."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from jinja2 import Environment

    from detect.validation import Case, Validation

PANELS = ("photograph", "nearest good form", "anomaly map")


def validation_page(result: Validation, figures: dict[str, Any]) -> str:
    """The HTML text."""
    return (
        environment()
        .get_template("validation.html")
        .render(title=f"Validation of {result.detector.name}", section=section(result, figures))
    )


def section(result: Validation, figures: dict[str, Any]) -> dict[str, Any]:
    """What the templates' ``results`` macro needs of one validated folder; JSON."""
    from detect.limits import limits
    from detect.validation import severity_table

    plots = (_histogram(result), _roc(result), _precision_recall(result), _detection(result))
    return {
        "folder": result.folder.name,
        "figures": figures,
        "as_stated": as_stated(figures),
        "severities": severity_table(result),
        "plots": [svg(plot) for plot in plots if plot is not None],
        "pictures": {name: [card(*shown) for shown in group] for name, group in result.pictures.items()},
        "limits": limits(result, figures),
    }


def as_stated(figures: dict[str, Any]) -> str:
    """Whether good parts are rejected at the rate that was stated, in words."""
    good, n = figures["good"], figures["good"]["n"]
    hits = good["verdicts"]["fail"] + good["verdicts"]["not this part"]
    (low, high), (least, most) = good["expected"], good["expected_of_threshold"]
    found = f"{hits} of {n} good images rejected; at the stated rate of {percent(figures['alpha'])} it would be {low} to {high} in 95 % of such sets: "
    if low <= hits <= high:
        return found + "as stated."
    way = "more" if hits > high else "fewer"
    if least <= hits <= most:
        return (
            found
            + f"{way} than stated, yet no {way} than a threshold from {figures['calibrated_on']} good images explains ({least} to {most})."
        )
    why = "these good images differ from those that it was calibrated on" if hits > high else "the threshold is higher than it need be"
    return (
        found + f"{way} than stated, and than a threshold from {figures['calibrated_on']} good images explains ({least} to {most}): {why}."
    )


def card(case: Case, panels: list[Image.Image]) -> dict[str, Any]:
    """One case to look at: its name, verdict, what is said of it, and its panels."""
    return {
        "name": "/".join(Path(case.inspection.image).parts[-2:]),
        "verdict": case.inspection.verdict,
        "words": words(case),
        "panels": [(name, data_uri(panel)) for name, panel in zip(PANELS, panels, strict=True)],
    }


def words(case: Case) -> list[str]:
    """What is known of a defect, and what was found: score, sub-component, reason, dimensions out of tolerance."""
    from detect.dimensions import Measured

    found = case.inspection
    said = [f"score {found.score:.2f}, threshold {found.threshold:.2f}, p {found.p_value:.3f}"]
    if case.defect:
        place = f" on {', '.join(case.truth)}" if case.truth else ""
        said.insert(0, f"its defect: {case.label} {case.defect['severity']:.2f} {case.defect['unit']}{place}")
    if found.regions:
        region = found.regions[0]
        by = f", {region['deviation_mm']:+.2f} mm" if region["deviation_mm"] is not None else ""
        said.append(f"stands out on: {region['feature'] or 'background'}{by}")
    else:
        said.append("no place stands out")
    said += [found.reason] if found.reason else []
    return said + [Measured(**d).text(name) for name, d in found.dimensions.items() if d["ok"] is False]


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
    found.filters |= {"figure": figure, "percent": percent}
    return found


def figure(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def percent(share: float | None, digits: int = 1) -> str:
    return "–" if share is None else f"{100 * share:.{digits}f} %"


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
    scores = {"good": result.scores(lambda c: c.label == "good"), **_scores(result)}
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


def _roc(result: Validation) -> Any:
    """A dot where the threshold lies."""
    from detect.metrics import auroc, roc

    drawn, good = new_figure(), result.scores(lambda c: c.label == "good")
    axes, threshold = drawn.subplots(), result.detector.calibration.conformal.threshold
    for label, bad in _scores(result).items():
        (line,) = axes.plot(*roc(good, bad), label=f"{label}: {auroc(good, bad):.3f}", linewidth=1.4)
        axes.plot((good > threshold).mean(), (bad > threshold).mean(), "o", markersize=4, color=line.get_color(), clip_on=False)
    axes.plot([0, 1], [0, 1], color="0.8", linewidth=0.8)
    axes.set(xlabel="good parts rejected", ylabel="defective parts found", title="ROC, area (dot: threshold)")
    if result.labels:
        axes.legend(frameon=False)
    return drawn


def _precision_recall(result: Validation) -> Any:
    """None where nothing is defective. Precision hangs on how many are, so that is said."""
    from detect.metrics import average_precision, precision_recall

    good = result.scores(lambda c: c.label == "good")
    if not result.labels:
        return None
    drawn = new_figure()
    axes = drawn.subplots()
    for label, bad in _scores(result).items():
        precision, recall = precision_recall(good, bad)
        known = f"{label}: {average_precision(good, bad):.3f} ({len(bad)} in {len(bad) + len(good)})"
        axes.step(np.r_[0.0, recall], np.r_[precision[0], precision], where="pre", label=known, linewidth=1.4)
    axes.set(xlabel="recall: defective parts found", ylabel="precision: of those rejected", title="precision and recall, mean precision", ylim=(-0.03, 1.03))  # fmt: skip
    axes.legend(frameon=False)
    return drawn


def _scores(result: Validation) -> dict[str, np.ndarray]:
    return {label: result.scores(lambda c, wanted=label: c.label == wanted) for label in result.labels}
