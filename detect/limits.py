"""What the figures of a validation do not say: limits of the way that was gone, and of the set that it was measured on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from detect.metrics import LOW, rate_at_most
from detect.repeatability import ITEMS
from detect.report import percent

if TYPE_CHECKING:
    from detect.validation import Validation

RATE = 0.01  # of false rejects, at which detection rates and limits are stated
WIDE = 0.2  # an interval of a rejected share from which on it is said in words
SHAPE = "Shape only: scratches, stains and misprints are outside its aim."
EXCHANGE = (
    "The p-values hold for parts photographed like the calibration images; a change of camera, light or background wants a new calibration."
)
HIDDEN = "A defect that a view does not show cannot be found in it."
ROUTES = {  # by validation.route_of
    "render": (
        "Each photograph is held against the part as it is drawn: a finish that no render has is left over, and counts.",
        "A compare network is not asked: on views that another renderer drew it told less than the form's own residual (python -m pipelines.benchmark_compare).",
        "It measures in the plane of the image: a depth along the line of sight is told by its shading alone.",
        "A dimension is judged only where the view can tell it, and one at a time: of two that change the same outline, the likelier is named.",
    ),
    "photograph": (
        "Outline and holes want a plain background, and one whole part in the picture.",
        "The outline's dimensions are said to be off by so much where the whole part is stretched; no other is measured.",
    ),
    "learned": (
        "A sub-component is named by the nearest rendered training view; nothing is measured in millimetres.",
        "What the generator redraws too roughly is not told from good.",
    ),
}


def limits(result: Validation, figures: dict[str, Any]) -> list[str]:
    """Sentences, those on the route first."""
    own = _of_photographs(result.detector.calibration) if figures["route"] == "photograph" else []
    return [SHAPE, EXCHANGE, HIDDEN, *ROUTES[figures["route"]], *own, *_of_calibration(figures), *_of_set(result, figures)]


def _of_photographs(calibration: Any) -> list[str]:
    if calibration.memory is None:
        return ["Nothing is remembered of good surfaces: a defect that changes neither outline nor hole is not found."]
    said = [
        f"The memory knows the finish of {len(calibration.images)} good photographs: another finish, a mark or a stain counts as strange."
    ]
    return said if calibration.outlined else [*said, "No outline was found in the good photographs: the memory is of whole pictures, and nothing else is asked."]  # fmt: skip


def _of_calibration(figures: dict[str, Any]) -> list[str]:
    count, alpha = figures["calibrated_on"], figures["alpha"]
    worst = percent(rate_at_most(alpha, count))
    return [
        f"The threshold is from {count} good images: stated as {percent(alpha)}, its true rate of false rejects is at most {worst} (95 % confidence)."
    ]


def _of_set(result: Validation, figures: dict[str, Any]) -> list[str]:
    """What there was too little of to tell."""
    said = [*_of_good(figures), *_of_masks(result, figures["overall"]), *_of_classes(figures["classes"])]
    if figures["hidden"]:
        said.append(f"{figures['hidden']} images whose defect cannot be seen in them are left out.")
    if figures["repeatability"] is None:
        said.append(f"No two photographs are said to show one item ({ITEMS}): how far a verdict hangs on the photograph is not known.")
    return said


def _of_good(figures: dict[str, Any]) -> list[str]:
    count = figures["good"]["n"]
    if count * RATE < 1:
        return [
            f"{count} good images cannot tell a rate of 1 %, {1 / RATE:.0f} would: TPR at 1 % false rejects and detection limits are open."
        ]
    return [] if figures["detection_limits"] else ["The sizes of the defects are not known, or all alike: no detection limit."]


def _of_masks(result: Validation, overall: dict[str, Any]) -> list[str]:
    if not overall["n"]:
        return []
    if overall["pixel_auroc"] is None:
        return ["There are no masks: whether the right place was found is not scored (pixel AUROC, AUPRO, AUPIMO)."]
    pixels = sum(c.mask.size for c in result.cases if c.label == "good" and c.mask is not None)
    return [] if overall["aupimo"] is not None else [f"The good images have {pixels:,} pixels together: AUPIMO, which allows one of {1 / LOW:,.0f} to be wrong, is open."]  # fmt: skip


def _of_classes(classes: dict[str, dict[str, Any]]) -> list[str]:
    wide = [(name, f) for name, f in classes.items() if f["n"] and f["rejected_high"] - f["rejected_low"] > WIDE]
    return [f"{name}: {percent(f['rejected'], 0)} of {f['n']} images were rejected; of all such parts it may be {percent(f['rejected_low'], 0)} to {percent(f['rejected_high'], 0)} (95 %)." for name, f in wide]  # fmt: skip
