"""What the figures of a validation do not say: limits of the way that was gone, and of the set that it was measured on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import beta

from detect.metrics import LOW
from detect.repeatability import ITEMS

if TYPE_CHECKING:
    from detect.validation import Validation

WIDE = 0.2  # an interval of a rejected share from which on it is said in words
SHAPE = "Shape only: scratches, stains and misprints are outside its aim."
EXCHANGE = (
    "The p-values hold for parts photographed like the calibration images; a change of camera, light or background wants a new calibration."
)
HIDDEN = "A defect that a view does not show cannot be found in it."
ROUTES = {  # by validation.route_of
    "render": (
        "Each photograph is held against the part as it is drawn: a finish that no render has is left over, and counts.",
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
    held = (
        ""
        if calibration.outlined
        else " No outline was found in the good photographs: the memory is of whole pictures, and nothing else is asked."
    )
    return [
        f"The memory knows the finish of {len(calibration.images)} good photographs: another finish, a mark or a stain counts as strange.{held}"
    ]


def _of_calibration(figures: dict[str, Any]) -> list[str]:
    """How far a threshold from so few images may be off: the conformal one's own rate of false rejects is a Beta variable."""
    count, alpha = figures["calibrated_on"], figures["alpha"]
    above = int(np.floor(alpha * (count + 1) + 1e-9))
    worst = beta.ppf(0.95, above, count + 1 - above)
    return [
        f"The threshold is from {count} good images: at a stated {alpha:.1%} its true rate of false rejects is, with 95 % confidence, at most {worst:.1%}."
    ]


def _of_set(result: Validation, figures: dict[str, Any]) -> list[str]:
    said, good, overall = [], figures["good"]["n"], figures["overall"]
    if good * 0.01 < 1:
        said.append(
            f"{good} good images cannot tell a rate of 1 %: TPR at 1 % false rejects and detection limits are open. 100 would tell."
        )
    elif not figures["detection_limits"]:
        said.append("The sizes of its defects are not known, or all alike: no detection limit.")
    if overall["pixel_auroc"] is None:
        said.append("It has no masks: whether the right place was found is not scored (pixel AUROC, AUPRO, AUPIMO).")
    elif overall["aupimo"] is None:
        pixels = sum(c.mask.size for c in result.cases if c.label == "good" and c.mask is not None)
        said.append(f"Its good images have {pixels:,} pixels together: AUPIMO, which allows one false pixel in {1 / LOW:,.0f}, is open.")
    for label, f in figures["classes"].items():
        if f["n"] and f["rejected_high"] - f["rejected_low"] > WIDE:
            said.append(f"{label}: of {f['n']} images {f['rejected']:.0%} were rejected; of all such parts it may be {f['rejected_low']:.0%} to {f['rejected_high']:.0%} (95 %).")  # fmt: skip
    if figures["hidden"]:
        said.append(f"{figures['hidden']} images whose defect cannot be seen in them are left out.")
    if figures["repeatability"] is None:
        said.append(
            f"No two photographs are said to show one item ({ITEMS}: image,item): how far a verdict hangs on the photograph is not known."
        )
    return said
