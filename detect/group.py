"""Several photographs of one item, fused into one verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cad.part import Tolerance
from detect.dimensions import Measured
from detect.inspection import Inspection


@dataclass(frozen=True)
class Item:
    """What ``images`` say together. ``p_value``: how often the least likely of so many photographs of a good item would be as unlikely."""

    images: list[str]
    verdict: str
    p_value: float
    regions: list[dict[str, Any]]
    dimensions: dict[str, Any]

    def json(self) -> dict[str, Any]:
        return {"group": asdict(self)}


def fused(inspections: Sequence[Inspection], alpha: float) -> Item:
    """One verdict of one or more photographs.

    The least p-value is corrected for their number (Šidák 1967: photographs of a good item err independently). A photograph that is
    not of this part makes the item so; where none fails but one is unsure, the item is. Dimensions are weighted by precision, each
    by the views that can tell it.
    """
    least = min(i.p_value for i in inspections)
    p_value = float(1 - (1 - least) ** len(inspections))
    verdicts = {i.verdict for i in inspections}
    dimensions = _dimensions(inspections)
    if "not this part" in verdicts:
        verdict = "not this part"
    elif p_value <= alpha or any(d["ok"] is False for d in dimensions.values()):
        verdict = "fail"
    elif verdicts & {"fail", "unsure"}:
        verdict = "unsure"
    else:
        verdict = "pass"
    worst = min(inspections, key=lambda i: (i.p_value, -i.score))
    return Item([i.image for i in inspections], verdict, p_value, worst.regions, dimensions)


def _dimensions(inspections: Sequence[Inspection]) -> dict[str, Any]:
    joined = {}
    for name in dict.fromkeys(n for i in inspections for n in i.dimensions):
        seen = [i.dimensions[name] for i in inspections if name in i.dimensions]
        told = [d for d in seen if d["value"] is not None]
        tolerance, value, sigma = Tolerance(*(seen[0][k] for k in ("nominal", "plus", "minus"))), None, None
        if told:
            weights = np.array([1 / max(d["sigma"], 1e-6) ** 2 for d in told])
            value, sigma = weights @ [d["value"] for d in told] / weights.sum(), weights.sum() ** -0.5
        joined[name] = Measured.of(tolerance, value, sigma).json()
    return joined
