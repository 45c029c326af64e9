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
LARGEST = 1e6  # mm, or degrees: beyond a kilometre no part is meant
ARITHMETIC = (
    ast.Expression, ast.Constant, ast.Name, ast.Load, ast.Call, ast.IfExp, ast.Compare, ast.cmpop, ast.BoolOp, ast.boolop,
    ast.UnaryOp, ast.USub, ast.UAdd, ast.Not, ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow,
)  # fmt: skip


def names_in(expression: object) -> set[str]:
    """The dimensions that an expression (number, text or nested list of them) reads."""
    if isinstance(expression, (list, tuple)):
        return set().union(*map(names_in, expression)) if expression else set()
    if isinstance(expression, dict):
        return names_in(list(expression.values()))
    if not isinstance(expression, str):
        return set()
    try:
        return _names(_tree(expression))
    except (SyntaxError, ArithmeticError, ValueError, RecursionError, MemoryError):
        return set()


def _names(tree: ast.expr) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - FUNCTIONS.keys() - CONSTANTS.keys()


@lru_cache(maxsize=4096)
def _tree(expression: str) -> ast.expr:
    """The parsed expression, its numbers as floats, so that no power of whole numbers grows without end.

    Raises SyntaxError for what is not arithmetic: text, attributes, subscripts, assignments.
    """
    tree = ast.parse(expression.strip(), mode="eval")
    for node in ast.walk(tree):
        number = isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool)
        if not isinstance(node, ARITHMETIC) or (isinstance(node, ast.Constant) and not number):
            raise SyntaxError("it is more than arithmetic")
        if number:
            node.value = float(node.value)
    return tree.body


def evaluate(expression: object, dimensions: Mapping[str, float], key: str) -> float:
    """The number that ``expression`` stands for; angles of sin, cos and tan are degrees.

    Raises InputError, its place ``key``, for unknown names, anything but arithmetic, and results that are not finite or beyond LARGEST.
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
            value = SimpleEval(functions=FUNCTIONS, names={**CONSTANTS, **dimensions}).eval(expression, _tree(expression))
        except (InvalidExpression, SyntaxError, ArithmeticError, ValueError, TypeError, RecursionError, MemoryError) as error:
            raise InputError(key, f'"{expression}" cannot be computed: {error}', wanted="arithmetic over the dimensions") from None
    else:
        value = expression
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= LARGEST:
        raise InputError(key, f'"{expression}" gives {value!r}', wanted=f"a number of at most {LARGEST:g}")
    return float(value)
