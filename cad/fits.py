"""Tolerances by name: fits of ISO 286-1:2010 (``20 H7``, ``12 h6``) and general tolerances of ISO 2768-1:1989 (``ISO 2768-m``).

Tables in micrometres, a column for each range of nominal sizes up to and including the bound above it.
"""

from __future__ import annotations

import re
from bisect import bisect_left

from cad.errors import InputError

LARGEST_FIT = 500.0  # mm
FIT = re.compile(r"^\s*(\d+\.?\d*|\.\d+)\s*([A-Za-z]{1,2})\s?(\d{1,2})\s*$")
RANGES = (3, 6, 10, 18, 30, 50, 80, 120, 180, 250, 315, 400, 500)  # mm
GRADES = {  # ISO 286-1 table 1: the width of the zone
    4: (3, 4, 4, 5, 6, 7, 8, 10, 12, 14, 16, 18, 20),
    5: (4, 5, 6, 8, 9, 11, 13, 15, 18, 20, 23, 25, 27),
    6: (6, 8, 9, 11, 13, 16, 19, 22, 25, 29, 32, 36, 40),
    7: (10, 12, 15, 18, 21, 25, 30, 35, 40, 46, 52, 57, 63),
    8: (14, 18, 22, 27, 33, 39, 46, 54, 63, 72, 81, 89, 97),
    9: (25, 30, 36, 43, 52, 62, 74, 87, 100, 115, 130, 140, 155),
    10: (40, 48, 58, 70, 84, 100, 120, 140, 160, 185, 210, 230, 250),
    11: (60, 75, 90, 110, 130, 160, 190, 220, 250, 290, 320, 360, 400),
    12: (100, 120, 150, 180, 210, 250, 300, 350, 400, 460, 520, 570, 630),
    13: (140, 180, 220, 270, 330, 390, 460, 540, 630, 720, 810, 890, 970),
}
FINE_RANGES = (3, 6, 10, 18, 30, 40, 50, 65, 80, 100, 120, 140, 160, 180, 200, 225, 250, 280, 315, 355, 400, 450, 500)  # mm
BELOW = {  # ISO 286-1 table 4: how far the shaft's zone ends below the nominal size; a hole's begins as far above it (table 2)
    "a": (270, 270, 280, 290, 300, 310, 320, 340, 360, 380, 410, 460, 520, 580, 660, 740, 820, 920, 1050, 1200, 1350, 1500, 1650),
    "b": (140, 140, 150, 150, 160, 170, 180, 190, 200, 220, 240, 260, 280, 310, 340, 380, 420, 480, 540, 600, 680, 760, 840),
    "c": (60, 70, 80, 95, 110, 120, 130, 140, 150, 170, 180, 200, 210, 230, 240, 260, 280, 300, 330, 360, 400, 440, 480),
    "d": (20, 30, 40, 50, 65, 80, 100, 120, 145, 170, 190, 210, 230),
    "e": (14, 20, 25, 32, 40, 50, 60, 72, 85, 100, 110, 125, 135),
    "f": (6, 10, 13, 16, 20, 25, 30, 36, 43, 50, 56, 62, 68),
    "g": (2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 18, 20),
    "h": (0,) * 13,
}
ABOVE = {  # ISO 286-1 table 5: how far above the nominal size the shaft's zone begins; k of grades up to 7, 0 beyond them
    "k": (0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 4, 4, 5),
    "m": (2, 4, 6, 7, 8, 9, 11, 13, 15, 17, 20, 21, 23),
    "n": (4, 8, 10, 12, 15, 17, 20, 23, 27, 31, 34, 37, 40),
    "p": (6, 12, 15, 18, 22, 26, 32, 37, 43, 50, 56, 62, 68),
    "r": (10, 15, 19, 23, 28, 34, 34, 41, 43, 51, 54, 63, 65, 68, 77, 80, 84, 94, 98, 108, 114, 126, 132),
    "s": (14, 19, 23, 28, 35, 43, 43, 53, 59, 71, 79, 92, 100, 108, 122, 130, 140, 158, 170, 190, 208, 232, 252),
}
LETTERS = (*BELOW, "js", *ABOVE)

GENERAL = re.compile(r"^\s*ISO\s*2768\s*-\s*([fmcv])\s*$")
GENERAL_RANGES = (3, 6, 30, 120, 400, 1000, 2000, 4000)  # mm, from 0.5 on
GENERAL_CLASSES = {  # ISO 2768-1 table 1, linear dimensions but for broken edges: plus and minus, mm; None: the standard gives none
    "f": (0.05, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, None),
    "m": (0.1, 0.1, 0.2, 0.3, 0.5, 0.8, 1.2, 2.0),
    "c": (0.2, 0.3, 0.5, 0.8, 1.2, 2.0, 3.0, 4.0),
    "v": (None, 0.5, 1.0, 1.5, 2.5, 4.0, 6.0, 8.0),
}


def fit(text: str, key: str) -> tuple[float, float, float] | None:
    """(nominal, upper, lower) in mm of ``20 H7``; the deviations bear their signs. None where ``text`` is no fit at all.

    Raises InputError, its place ``key``, for a letter, grade or size that the tables do not have.
    """
    if (match := FIT.match(text)) is None:
        return None
    size, letter, grade = float(match[1]), match[2], int(match[3])
    if letter.lower() not in LETTERS or letter not in (letter.lower(), letter.upper()):
        raise InputError(
            key, f'found the fit "{text}"', wanted=f"one of {', '.join(LETTERS)} for shafts, of {', '.join(LETTERS).upper()} for holes"
        )
    if not 5 <= grade <= 13:
        raise InputError(key, f'found the fit "{text}"', wanted="a grade from 5 to 13")
    if not (1 if letter.lower() in "ab" else 0) < size <= LARGEST_FIT:
        raise InputError(
            key, f'found the fit "{text}"', wanted=f"a size above {1 if letter.lower() in 'ab' else 0} and at most {LARGEST_FIT:g} mm"
        )
    if letter == "K" and grade > 8 and size > 3:
        raise InputError(key, f'found the fit "{text}"', wanted="a grade of at most 8: ISO 286 has no coarser K above 3 mm")
    upper, lower = _hole(size, letter.lower(), grade) if letter.isupper() else _shaft(size, letter, grade)
    return size, upper / 1e3, lower / 1e3


def general(size: float, text: str, key: str) -> float:
    """mm: plus and minus of a length ``size`` mm by ``ISO 2768-m``. Raises InputError where the standard gives none."""
    letter = general_class(text)
    column = bisect_left(GENERAL_RANGES, size)
    limit = GENERAL_CLASSES[letter][column] if size >= 0.5 and column < len(GENERAL_RANGES) else None
    if limit is None:
        raise InputError(key, f"ISO 2768-{letter} has no tolerance for {size:g} mm", wanted="one of its own, such as 0.4 ± 0.05, or ± 0")
    return limit


def general_class(text: object) -> str:
    """f, m, c or v. Raises InputError with the place ``tolerances``."""
    match = GENERAL.match(text) if isinstance(text, str) else None
    if match is None:
        raise InputError("tolerances", f"found {text!r}", wanted="ISO 2768-f, ISO 2768-m, ISO 2768-c or ISO 2768-v")
    return match[1]


def _column(size: float, row: tuple[float, ...]) -> float:
    return row[bisect_left(RANGES if len(row) == len(RANGES) else FINE_RANGES, size)]


def _shaft(size: float, letter: str, grade: int) -> tuple[float, float]:
    """(upper, lower) deviation in micrometres."""
    width = _column(size, GRADES[grade])
    if letter == "js":
        return width / 2, -width / 2
    if letter in BELOW:
        return -_column(size, BELOW[letter]), -_column(size, BELOW[letter]) - width
    begins = 0.0 if letter == "k" and grade > 7 else _column(size, ABOVE[letter])
    return begins + width, begins


def _hole(size: float, letter: str, grade: int) -> tuple[float, float]:
    """(upper, lower) deviation in micrometres: the shaft's mirrored, and moved up by the difference of two grades where table 3 says so."""
    width = _column(size, GRADES[grade])
    if letter in BELOW or letter == "js":
        upper, lower = _shaft(size, letter, grade)
        return -lower, -upper
    fine = grade <= (8 if letter in "kmn" else 7)
    rise = width - _column(size, GRADES[grade - 1]) if fine and size > 3 else 0.0
    ends = 0.0 if letter == "n" and not fine and size > 3 else rise - _column(size, ABOVE[letter])
    if (letter, grade) == ("m", 6) and 250 < size <= 315:
        ends = -9.0  # the table's one exception
    return ends, ends - width
