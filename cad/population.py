"""How the dimensions of good parts are spread over their tolerances."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from cad.errors import InputError
from cad.views import Strict

KINDS = "uniform, corners, or {normal: {cpk: 1.33}}"


class Normal(Strict):
    """Centred on the middle of the tolerance; ``cpk``: half of its width over three standard deviations (ISO 22514-2)."""

    cpk: Annotated[float, Field(ge=0.1, le=10)] = 1.33


class Population(Strict):
    """``uniform``: evenly between the limits. ``corners``: each dimension at one of its limits, the worst cases.
    ``normal``: as a process of that capability makes them, those beyond a limit sorted out."""

    kind: Literal["uniform", "corners", "normal"] = "uniform"
    normal: Normal = Normal()

    @classmethod
    def of(cls, entry: Any, key: str) -> Population:
        """From ``uniform``, ``corners``, ``normal`` or ``{normal: {cpk: 1.33}}``."""
        if isinstance(entry, dict) and list(entry) == ["normal"] and isinstance(entry["normal"], dict):
            return cls(kind="normal", normal=entry["normal"])
        if entry not in ("uniform", "corners", "normal"):
            raise InputError(key, f"found {entry!r}", wanted=KINDS)
        return cls(kind=entry)

    def draw(self, low: float, high: float, rng: np.random.Generator) -> float:
        """One number from ``low`` to ``high``, by one draw from ``rng``."""
        if self.kind == "uniform":
            return float(rng.uniform(low, high))
        if self.kind == "corners":
            return float((low, high)[rng.integers(2)])
        from scipy.special import ndtr, ndtri

        limit = 3 * self.normal.cpk  # standard deviations from the middle
        place = float(ndtri(rng.uniform(ndtr(-limit), ndtr(limit)))) / limit
        return float(np.clip((low + high) / 2 + place * (high - low) / 2, low, high))
