"""What a calibration says that the one before it did not: of the same run, by the same route."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import ks_2samp, mannwhitneyu

from cad.errors import InputError
from cad.files import read_json
from detect.drift import spread

TERMS = {"render": ("map", "dimension"), "learned": ("residual",)}
SURE = 0.01  # a p-value below which good photographs are said to look otherwise
FACTOR = 1.5  # times what it was, up or down, from which a unit is said to have changed


def former(path: Path) -> dict[str, Any] | None:
    """The calibration that is about to be replaced; None where there is none that can be read: a new one is the cure."""
    try:
        data = read_json(path, "a calibration") if path.exists() else None
    except (InputError, OSError):
        return None
    return data if isinstance(data, dict) else None


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Two calibrations, as written -> what changed, fit for JSON.

    ``n``, ``alpha``, ``threshold`` and ``median`` (of the good scores) are {before, after}; ``same``: photographs of one name in both.
    ``units``: what nearly all good photographs stay below, of each term that both have, as a ratio; ``noise``: of the CAD form by renders, the
    ratio of each kind's deviation. Scores are in units of their own calibration. They are brought to the former ones by the ratio, between the
    least and the most of ``units``, that leaves the smallest change: ``moved`` is how far the median has moved at the least, in former
    deviations, with the p-values of Mann & Whitney (1947) and of Kolmogorov and Smirnov that nothing has.

    Only ``reason`` is there where they cannot be compared: another route, another form, another format or a damaged one.
    """
    try:
        if (reason := _apart(before, after)) is not None:
            return {"reason": reason}
        return _compared(before, after)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError):
        return {"reason": "the former calibration is damaged"}


def route(data: dict[str, Any]) -> str:
    """photograph, render or learned."""
    return {"photograph": "photograph", "cad": "render"}.get(str(data.get("form")), "learned")


def _apart(before: dict[str, Any], after: dict[str, Any]) -> str | None:
    ways = route(before), route(after)
    if ways[0] != ways[1]:
        return f"the route is {ways[1]}, {ways[0]} before: their scores have nothing in common"
    if before["run"] != after["run"]:
        return "the run's form is another than the former calibration's"
    if before["format"] != after["format"]:
        return "the former calibration is of another format"
    if before.get("outlined", True) != after.get("outlined", True):
        return f"outlines are {'found' if after['outlined'] else 'not found'} in the photographs, and were {'not' if after['outlined'] else ''} before".replace("  ", " ")  # fmt: skip
    return None


def _compared(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    old, new = (np.asarray(d["scores"], float) for d in (before, after))
    if not old.size:
        raise ValueError("no scores")
    first, second = units(before), units(after)
    ratios = {name: second[name] / first[name] for name in first if name in second}
    middles = float(np.median(old)), float(np.median(new))
    factor = float(np.clip(middles[0] / max(middles[1], 1e-12), min(ratios.values()), max(ratios.values())))
    brought = new * factor
    told = {key: {"before": before[key], "after": after[key]} for key in ("n", "alpha", "threshold")}
    return {
        **told,
        "same": len(set(before["images"]) & set(after["images"])),
        "threshold_ratio": after["threshold"] / before["threshold"],
        "median": {"before": middles[0], "after": middles[1]},
        "moved": (float(np.median(brought)) - middles[0]) / spread(old),
        "mann_whitney_p": _mann_whitney(old, brought),
        "kolmogorov_smirnov_p": float(ks_2samp(old, brought, method="asymp").pvalue),
        "units": ratios,
        "noise": _noise(before, after) if route(after) == "render" else {},
    }


def units(data: dict[str, Any]) -> dict[str, float]:
    """What a score of 1 is of each term: of outline, holes, memory and network, those that are asked, in each's own measure; of the evidence on the map
    and of a dimension; or of learned residuals, in what the generator expects."""
    way = route(data)
    if way == "learned":
        noise = data["noise"]
        return {"residual": float(np.sqrt(sum(noise["squares"]) / max(sum(noise["counts"]), 1.0))) + 1e-12}
    if way == "photograph":
        return {name: float(unit) for name, unit in data["units"].items()}
    return dict(zip(TERMS[way], map(float, data["terms"]), strict=True))


def _noise(before: dict[str, Any], after: dict[str, Any]) -> dict[str, float]:
    old, new = before["noise"], after["noise"]
    return {kind: float(np.sqrt(new[kind] / old[kind])) for kind in old if old[kind] > 0 and new.get(kind, 0) > 0}


def _mann_whitney(old: np.ndarray, new: np.ndarray) -> float:
    if np.ptp(np.concatenate([old, new])) == 0:
        return 1.0
    return float(mannwhitneyu(old, new).pvalue)


def words(found: dict[str, Any]) -> list[str]:
    """Lines for a person."""
    if "reason" in found:
        return [f"not compared with the former calibration: {found['reason']}"]
    n, t, m = found["n"], found["threshold"], found["median"]
    again = f", {found['same']} by the same name" if found["same"] else ""
    rate = "" if found["alpha"]["before"] == found["alpha"]["after"] else f", at a rate of {found['alpha']['before']:g} then"
    units_ = ", ".join(f"{name} {ratio:.2f}" for name, ratio in found["units"].items())
    lines = [
        f"before: {n['before']} good images ({n['after']} now{again}), threshold {t['before']:.4g} ({found['threshold_ratio']:.2f} times that now){rate}",
        f"a good part's unit, times the former: {units_}",
    ]
    if found["noise"]:
        lines.append("noise of good parts, times the former: " + ", ".join(f"{kind} {ratio:.2f}" for kind, ratio in found["noise"].items()))
    lines.append(
        f"median good score {m['after']:.3g}, {m['before']:.3g} before, each in its own units; moved by {found['moved']:+.1f} former deviations at the least"
        f" (Mann-Whitney p {found['mann_whitney_p']:.2g}, Kolmogorov-Smirnov p {found['kolmogorov_smirnov_p']:.2g})"
    )
    return [*lines, _conclusion(found)]


def _conclusion(found: dict[str, Any]) -> str:
    other = [f"{name} is {ratio:.2f} times what it was" for name, ratio in found["units"].items() if not 1 / FACTOR < ratio < FACTOR]
    if min(found["mann_whitney_p"], found["kolmogorov_smirnov_p"]) < SURE / 2:  # two tests
        other.insert(0, f"scores are {'higher' if found['moved'] > 0 else 'lower' if found['moved'] < 0 else 'spread otherwise'}")
    if other:
        return f"good parts look otherwise than they did: {'; '.join(other)}"
    return "no change of good parts that these photographs could tell"
