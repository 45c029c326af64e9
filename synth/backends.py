"""The renderers, by name. Each module has ``light``, ``truth`` and ``missing``; the optional ones are imported when they are asked for."""

from __future__ import annotations

import importlib
from types import ModuleType

from cad.errors import InputError

MODULES = {"raycast": "synth.raycast", "gl": "synth.gl", "cycles": "synth.cycles"}


def opened(name: str) -> ModuleType:
    """The module of a back end. Raises InputError where it is not one, or cannot render here."""
    if name not in MODULES:
        raise InputError("--backend", f'found "{name}"', wanted=", ".join(MODULES))
    return _checked(name) if name not in _OPEN else _OPEN[name]


_OPEN: dict[str, ModuleType] = {}


def _checked(name: str) -> ModuleType:
    module = importlib.import_module(MODULES[name])
    if (lack := module.missing()) is not None:
        raise InputError(f"--backend {name}", lack, step="formspect doctor says what else is missing")
    return _OPEN.setdefault(name, module)
