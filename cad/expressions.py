"""Arithmetic over a part's dimensions: ``radius - wall``, ``across_flats / 2 + height``."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from functools import lru_cache

from cad.errors import InputError, nearest

FUNCTIONS = {
    "min": min, "max": max, "abs": abs, "sqrt": math.sqrt, "hypot": math.hypot,
    "sin": lambda a: math.sin(math.radians(a)), "cos": lambda a: math.cos(math.radians(a)), "tan": lambda a: math.tan(math.radians(a)),
}  # fmt: skip
CONSTANTS = {"pi": math.pi}


def names_in(expression: object) -> set[str]:
    """The dimensions that an expression (number, text or nested list of them) reads."""
    if isinstance(expression, (list, tuple)):
        return set().union(*map(names_in, expression)) if expression else set()
    if isinstance(expression, dict):
        return names_in(list(expression.values()))
    if not isinstance(expression, str):
        return set()
    return _names(expression)


@lru_cache(maxsize=4096)
def _names(expression: str) -> set[str]:
    try:
        tree = ast.parse(expression, mode="eval")
    except SyntaxError:
        return set()
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - FUNCTIONS.keys() - CONSTANTS.keys()


def evaluate(expression: object, dimensions: Mapping[str, float], key: str) -> float:
    """The finite number that ``expression`` stands for; angles of sin, cos and tan are degrees.

    Raises InputError, its place ``key``, for unknown names, anything but arithmetic, and results that are not finite.
    """
    from simpleeval import InvalidExpression, SimpleEval

    if isinstance(expression, bool) or not isinstance(expression, (int, float, str)):
        raise InputError(key, f"found {expression!r}", wanted="a number or arithmetic over the dimensions")
    if isinstance(expression, str):
        unknown = names_in(expression) - dimensions.keys()
        if unknown:
            name = sorted(unknown)[0]
            raise InputError(key, f'"{expression}" reads the unknown dimension "{name}"', step=nearest(name, dimensions))
        try:
            value = SimpleEval(functions=FUNCTIONS, names={**CONSTANTS, **dimensions}).eval(expression)
        except (InvalidExpression, SyntaxError, ArithmeticError, ValueError, TypeError, RecursionError, MemoryError) as error:
            raise InputError(key, f'"{expression}" cannot be computed: {error}', wanted="arithmetic over the dimensions") from None
    else:
        value = expression
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InputError(key, f'"{expression}" gives {value!r}', wanted="a finite number")
    return float(value)
