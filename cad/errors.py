"""The one error that a user is meant to read: a line with place, value found, what was wanted, next step."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(Exception):
    """A mistake in what the user gave. Every console script prints its line and exits with 2.

    ``place`` says where (``part.yaml: features.2.radius``), ``found`` what stood there, ``wanted`` what would be right
    and ``step`` what to do next; the last three may be empty.
    """

    def __init__(self, place: object, problem: str, *, wanted: str = "", step: str = "") -> None:
        self.place, self.problem, self.wanted, self.step = str(place), problem, wanted, step
        line = f"{place}: {problem}"
        if wanted:
            line += f"; wanted {wanted}"
        if step:
            line += f" ({step})"
        super().__init__(" ".join(line.split()).encode("utf-8", "backslashreplace").decode())  # half a surrogate pair cannot be printed

    def __reduce__(self) -> tuple:
        """So that it comes back from a worker process as it was: an exception is else made again from its one line."""
        return _again, (self.place, self.problem, self.wanted, self.step)

    def inside(self, outer: object) -> InputError:
        """The same error, its place read from further out (``features.2`` becomes ``part.yaml: features.2``)."""
        return InputError(f"{outer}: {self.place}", self.problem, wanted=self.wanted, step=self.step)


def _again(place: str, problem: str, wanted: str, step: str) -> InputError:
    return InputError(place, problem, wanted=wanted, step=step)


def nearest(word: object, known: Iterable[str]) -> str:
    """``did you mean "radius"?`` or, where nothing is near, the known words."""
    known = sorted(map(str, known))
    close = difflib.get_close_matches(str(word), known, n=1, cutoff=0.55)
    return f'did you mean "{close[0]}"?' if close else f"known: {', '.join(known)}"
