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


def lacking(name: str) -> str | None:
    """None where a back end can render here, else what is missing and what brings it."""
    return importlib.import_module(MODULES[name]).missing()


def share_cores(name: str) -> None:
    """Before anything else in a process of which there are as many as cores: a renderer that would take them all takes one."""
    if (use_threads := getattr(importlib.import_module(MODULES[name]), "use_threads", None)) is not None:
        use_threads(1)


_OPEN: dict[str, ModuleType] = {}


def _checked(name: str) -> ModuleType:
    module = importlib.import_module(MODULES[name])
    if (lack := lacking(name)) is not None:
        raise InputError(f"--backend {name}", lack, step="formspect doctor says what else is missing")
    return _OPEN.setdefault(name, module)
