"""How much of a score, a verdict or a dimension hangs on the photograph and not on the item: where several photographs show the same one.

Which do is told by ``items.csv`` beside the photographs: ``image,item``, an image a line, its path below the folder. Nothing is guessed
from names of files.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import chi2

from cad.errors import InputError

if TYPE_CHECKING:
    from detect.validation import Case

ITEMS = "items.csv"
HEADER = ["image", "item"]
SPREADS = 6.0  # standard deviations that a tolerance is held against (AIAG MSA, 4th edition)


def read_items(folder: Path) -> dict[str, str]:
    """{image below ``folder``: item} of its items.csv; nothing where it has none. Raises InputError with the line."""
    path = folder / ITEMS
    if not path.exists():
        return {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, f"cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8 text'}", wanted="image,item") from None
    comma = next((c for c in ",;\t" if c in (lines or [""])[0]), ",")  # as spreadsheets of other countries have it
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        row = [cell.strip() for cell in _cells(path, number, line, comma)]
        if number == 1:
            if [c.lower() for c in row] != HEADER:
                raise InputError(f"{path}: line 1", f'found "{line[:80]}"', wanted="image,item")
        elif any(row):
            image = _image(folder, f"{path}: line {number}", row)
            if image in found:
                raise InputError(f"{path}: line {number}", f"{image} stands there a second time", wanted="each image once")
            found[image] = row[1]
    if not found:
        raise InputError(path, "names no image", wanted="image,item, and a line for each image")
    return found


def _cells(path: Path, number: int, line: str, comma: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=comma, strict=True), [])
    except csv.Error as error:
        raise InputError(f"{path}: line {number}", f"is damaged: {error}", wanted="image,item") from None


def _image(folder: Path, place: str, row: list[str]) -> str:
    """The image of a line, which must be there: a slip would else take it out of the figures in silence."""
    if len(row) != 2 or not all(row):
        raise InputError(place, f"found {', '.join(row)[:80]}", wanted="an image and its item")
    image = PurePosixPath(row[0])
    try:
        there = not image.is_absolute() and ".." not in image.parts and (folder / image).is_file()
    except (OSError, ValueError):  # no name that a file could have
        there = False
    if not there:
        raise InputError(place, f'found "{row[0][:80]}"', wanted=f"an image below {folder}")
    return image.as_posix()


def check_items(items: dict[str, str], labels: dict[str, str], path: Path) -> None:
    """Raises InputError where one item stands in two classes. ``labels``: {image: class} of those that will be inspected."""
    first: dict[str, str] = {}
    for image, item in items.items():
        if image in labels and labels[first.setdefault(item, image)] != labels[image]:
            raise InputError(path, f"item {item} is {labels[first[item]]} in {first[item]} and {labels[image]} in {image}", wanted="one class to an item")  # fmt: skip


def variance_components(values: Sequence[float], items: Sequence[str], *, level: float = 0.95) -> dict[str, float | None] | None:
    """One-way random-effects analysis of variance of ``values`` (n,) by the ``items`` (n,) that they are of, in the values' unit.

    ``within``: standard deviation of one item's photographs (repeatability), with its ``level`` interval by chi-squared; ``between``:
    of the items (a negative estimate is 0); ``share``: within over total standard deviation, AIAG's %EV. None where no item was
    photographed twice; ``between`` and ``share`` are None where there is but one item, ``share`` too where nothing varies.
    """
    values, (_, of) = np.asarray(values, float), np.unique(np.asarray(items, str), return_inverse=True)
    counts = np.bincount(of)
    free, groups = len(values) - len(counts), len(counts) - 1
    if free < 1:
        return None
    means = np.bincount(of, values) / counts
    squares = float(((values - means[of]) ** 2).sum())
    within, between, share = squares / free, None, None
    if groups:
        usual = (len(values) - (counts**2).sum() / len(values)) / groups  # photographs an item, where their numbers differ
        spread = (counts * (means - values.mean()) ** 2).sum() / groups
        between = max(float(spread - within) / usual, 0.0)
        share = float(np.sqrt(within / (within + between))) if within + between > 0 else None
    low, high = (float(np.sqrt(squares / chi2.ppf(q, free))) for q in ((1 + level) / 2, (1 - level) / 2))
    return {
        "within": float(np.sqrt(within)), "within_low": low, "within_high": high,
        "between": None if between is None else float(np.sqrt(between)), "share": share,
    }  # fmt: skip


def repeatability(cases: Sequence[Case]) -> dict[str, Any] | None:
    """A gauge study of the cases whose item is known; None where no two of them are of one item.

    ``score`` (and ``score_of_good``, of the good ones alone): variance components of the score's natural logarithm, which is nearer to
    normal than the score; ``within`` is then the relative spread of one item's scores. ``verdicts_differ``: share of the items
    photographed more than once that got more than one verdict. ``dimensions``: of each that was measured, mm, ``to_tolerance`` is 6 within
    over the tolerance's width (P/T).
    """
    known = [c for c in cases if c.item is not None]
    groups: dict[str, list[Case]] = {}
    for case in known:
        groups.setdefault(case.item, []).append(case)
    repeated = [g for g in groups.values() if len(g) > 1]
    if not repeated:
        return None
    return {
        "items": len(groups),
        "photographs": len(known),
        "repeated": len(repeated),
        "score": _of_logarithms(known),
        "score_of_good": _of_logarithms([c for c in known if c.label == "good"]),
        "verdicts_differ": float(np.mean([len({c.inspection.verdict for c in g}) > 1 for g in repeated])),
        "dimensions": {n: d for n in _dimensions(known) if (d := _of_dimension(known, n)) is not None},
    }


def _of_logarithms(cases: list[Case]) -> dict[str, float | None] | None:
    """None where a score has no logarithm."""
    if any(not 0 < c.inspection.score < np.inf for c in cases):
        return None
    return _components(cases, lambda c: float(np.log(c.inspection.score)))


def _of_dimension(cases: list[Case], name: str) -> dict[str, Any] | None:
    """Of the photographs that tell it."""
    told = [c for c in cases if c.inspection.dimensions.get(name, {}).get("value") is not None]
    found = _components(told, lambda c: c.inspection.dimensions[name]["value"])
    if found is None:
        return None
    measured = told[0].inspection.dimensions[name]
    width = measured["plus"] + measured["minus"]
    return {"photographs": len(told), **found, "tolerance": width, "to_tolerance": SPREADS * found["within"] / width if width > 0 else None}


def _components(cases: list[Case], value: Callable[[Case], float]) -> dict[str, float | None] | None:
    return variance_components([value(c) for c in cases], [c.item for c in cases])


def _dimensions(cases: list[Case]) -> list[str]:
    return list(dict.fromkeys(n for c in cases for n in c.inspection.dimensions))
