"""What this machine and this environment can do, and the one command that brings what is missing."""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from synth.backends import MODULES

LIBRARIES = ("numpy", "numba", "manifold3d", "trimesh", "torch", "lightning-fabric")
EXTRAS = {
    "cluster": ("distributed", "synth render --scheduler"),
    "step": ("cascadio", "STEP files"),
    "hdri": ("OpenImageIO", ".hdr and .exr maps"),
    "features": ("efficientnet_lite_pytorch", "memories of photographs"),
}
PATIENCE = 120  # s that a back end may take to load
ASK = "from synth.backends import MODULES; import importlib; print(importlib.import_module(MODULES[{!r}]).missing() or '')"


def examined() -> dict[str, Any]:
    """Versions, cores and devices, and for each back end and extra None, or a line that says what is missing and what brings it."""
    return {
        "formspect": version("formspect"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: _version(name) for name in LIBRARIES},
        "device": _device(),
        "backends": {name: _backend(name) for name in MODULES},
        "extras": {name: _extra(name, *known) for name, known in EXTRAS.items()},
    }


def table(facts: dict[str, Any]) -> str:
    """For a person."""
    lines = [f"formspect {facts['formspect']}, Python {facts['python']}, {facts['system']}"]
    lines += [
        ", ".join(f"{name} {found or 'missing'}" for name, found in facts["versions"].items()),
        f"torch computes on {facts['device']}",
        "",
    ]
    for title in ("backends", "extras"):
        lines += [title, *(f"  {name:<8} {lack or 'ready'}" for name, lack in facts[title].items())]
    return "\n".join(lines)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _device() -> str:
    import torch

    return f"cuda ({torch.cuda.get_device_name()})" if torch.cuda.is_available() else f"the CPU ({torch.get_num_threads()} threads)"


def _backend(name: str) -> str | None:
    """Asked in a process of its own: a renderer that does not load may take its process with it."""
    try:
        asked = subprocess.run([sys.executable, "-c", ASK.format(name)], capture_output=True, text=True, check=False, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return f"does not load within {PATIENCE} s"
    if asked.returncode != 0:
        return f"ends its process ({asked.returncode}): {(asked.stderr.strip().splitlines() or [''])[-1]}"
    return asked.stdout.strip().splitlines()[-1] if asked.stdout.strip() else None


def _extra(name: str, module: str, use: str) -> str | None:
    return None if importlib.util.find_spec(module) else f"missing, for {use}: pip install 'formspect[{name}]'"
