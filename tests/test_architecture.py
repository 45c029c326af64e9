"""The direction of imports, and who may know of what."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = ("cad", "synth", "train", "detect", "pipelines")  # each may import those before it
MODULES = sorted(p for package in ORDER for p in (ROOT / package).rglob("*.py"))
ONE_FILE_EACH = ("bpy", "pyrender", "embreex", "manifold3d")  # heavy or fragile back ends: imported in so many files at most
AT_MOST = {"manifold3d": 5}


def imports(path: Path, *, top_only: bool = False) -> list[str]:
    """The modules that a file imports; ``top_only``: when it is itself imported, so not within functions or TYPE_CHECKING."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = list(tree.body) if top_only else list(ast.walk(tree))
    found = []
    for node in nodes:
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the direction"
            found.append(node.module or "")
    return found


def test_there_is_something_to_check() -> None:
    assert len(MODULES) > 20


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_to_the_right(path: Path) -> None:
    own = ORDER.index(path.relative_to(ROOT).parts[0])
    for name in imports(path):
        head = name.split(".")[0]
        if head in ORDER:
            assert ORDER.index(head) <= own, f"{path.name} imports {name}"


def test_no_import_cycles() -> None:
    """Within and between packages, over what is imported when a module is."""
    names = {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in MODULES}
    edges = {n: {i for i in imports(p, top_only=True) if i in names and i != n} for n, p in names.items()}
    while leaves := {n for n, e in edges.items() if not e}:
        edges = {n: e - leaves for n, e in edges.items() if n not in leaves}
    assert not edges, f"in a cycle, or behind one: {sorted(edges)}"


@pytest.mark.parametrize(("package", "banned"), [("cad", {"PIL", "torch", "matplotlib"}), ("synth", {"torch"})])
def test_what_a_package_must_not_know(package: str, banned: set[str]) -> None:
    for path in (ROOT / package).rglob("*.py"):
        assert not banned & {i.split(".")[0] for i in imports(path)}, path


@pytest.mark.parametrize("name", ONE_FILE_EACH)
def test_back_ends_are_imported_in_one_place(name: str) -> None:
    users = [p for p in MODULES if name in {i.split(".")[0] for i in imports(p)}]
    assert len(users) <= AT_MOST.get(name, 1), users


def test_no_rooms_without_a_name() -> None:
    assert not [p for p in MODULES if p.stem in ("utils", "util", "helpers", "common", "misc")]


@pytest.mark.parametrize("package", ["cad", "synth"])
def test_command_lines_start_without_torch(package: str) -> None:
    """What a help text costs: neither torch nor bpy nor matplotlib."""
    code = f"import sys, {package}.cli; print(*(m for m in ('torch', 'bpy', 'matplotlib', 'numba') if m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == []


@pytest.mark.parametrize("package", ["train", "detect", "pipelines"])
def test_help_does_not_wait_for_torch(package: str) -> None:
    code = f"import sys, {package}.cli; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
