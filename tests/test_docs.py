"""The documentation, held against the program."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PACKAGES = {"cad": "cad", "synth": "synth", "train": "train", "detect": "detect", "formspect": "pipelines"}


def groups() -> dict[str, click.Group]:
    return {name: getattr(importlib.import_module(f"{package}.cli"), name) for name, package in PACKAGES.items()}


COMMANDS = {f"{name} {sub}": command for name, group in groups().items() for sub, command in group.commands.items()}
BLOCKS = [line.strip() for block in re.findall(r"```(?:console|sh|bash)\n(.*?)```", README, re.S) for line in block.splitlines()]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_stands_in_the_readme(name: str) -> None:
    assert name in README


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_that_parses(name: str) -> None:
    """The example's options exist: what a user copies is not refused for its words."""
    command = COMMANDS[name]
    text = CliRunner().invoke(command, ["--help"]).output
    found = re.search(r"Example: (.+)", command.help or "")
    assert found, f"{name} --help has no example"
    assert "Example:" in text
    words = shlex.split(found[1].split(" > ")[0])
    assert " ".join(words[:2]) == name
    command.make_context(name, words[2:], resilient_parsing=False).close()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_is(name: str) -> None:
    for parameter in COMMANDS[name].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts[0]} has no help"


def test_commands_of_the_readme_exist() -> None:
    """Each line of a shell block that starts with a command of ours parses."""
    checked = 0
    for line in BLOCKS:
        words = shlex.split(line.removeprefix("$ ").split(" #")[0].split(" > ")[0])
        if len(words) >= 2 and words[0] in PACKAGES:
            name = " ".join(words[:2])
            assert name in COMMANDS, line
            COMMANDS[name].make_context(name, words[2:]).close()
            checked += 1
    assert checked >= 8


def test_the_readme_names_the_two_commands_and_their_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("demo", "test", "setup"):
        assert f"make {target}" in README
        assert re.search(rf"^{target}:", makefile, re.M)


def test_ci_does_what_the_readme_says() -> None:
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").strip().splitlines()[-1] == "make test"


def test_pictures_of_the_documents_are_there() -> None:
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).is_file(), f"{document.name}: {target}"


def test_links_of_the_documents_lead_somewhere() -> None:
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"(?<!!)\[[^\]]*\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            if not target.startswith(("http:", "https:")):
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_citation_names_the_papers() -> None:
    from cad.reading import read_yaml

    data = read_yaml((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert data["license"] == "Apache-2.0"
    for reference in data["references"]:
        assert reference["title"]
        assert reference["authors"]
        for path in re.findall(r"\w+/\w+\.py", reference["notes"]):
            assert (ROOT / path).is_file(), path


def test_shelf_parts_are_those_of_the_contract() -> None:
    """Copies that ship load and name what the README's first picture shows."""
    import cad

    assert {"hex_nut", "notched_cap"} <= set(cad.shelf())
    assert cad.load("notched_cap").names == ("skirt", "crown", "cavity", "notch")


def test_the_part_file_page_names_every_word_of_the_format() -> None:
    from cad.defects import DEFECTS
    from cad.solids import SOLIDS, fields
    from cad.views import Views

    page = (ROOT / "docs" / "part_files.md").read_text(encoding="utf-8")
    words = {
        *SOLIDS,
        *(f for s in SOLIDS for f in fields(s)),
        *DEFECTS,
        *Views.model_fields,
        "add",
        "cut",
        "keep",
        "at",
        "rotate",
        "repeat",
    }
    words |= {f for kind in DEFECTS.values() for f in kind.model.model_fields}
    assert sorted(w for w in words if not re.search(rf"\b{w}\b", page)) == []


def test_the_part_file_page_opens_with_a_part_that_builds_and_renders() -> None:
    import cad
    from synth.sampling import Recipe, draw_sample

    page = (ROOT / "docs" / "part_files.md").read_text(encoding="utf-8")
    part = cad.parse(re.search(r"```yaml\n(.*?)```", page, re.S)[1])
    assert part.mesh().watertight
    for label in part.defects:
        assert draw_sample(part, Recipe(0, 1), "test", label, 0).mask.any()


def test_every_part_of_the_part_file_page_loads_with_its_defects() -> None:
    import numpy as np

    import cad

    page = (ROOT / "docs" / "part_files.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(part:.*?)```", page, re.S)
    assert len(blocks) >= 4
    for block in (b for b in blocks if "\nmesh:" not in b):  # that one needs its mesh: tests/test_cad_imports.py has files of its own
        part = cad.parse(block)
        part.check_tolerances()
        for name, spec in part.defects.items():
            for severity in spec.range:
                assert part.with_defect(name, np.random.default_rng(0), severity=severity)[0].watertight


def test_the_part_file_page_names_every_key_and_every_part_of_the_shelf() -> None:
    import cad
    from cad.part import KEYS
    from cad.solids import EDGES

    page = (ROOT / "docs" / "part_files.md").read_text(encoding="utf-8")
    words = {*KEYS, *cad.shelf(), *(e for edges in EDGES.values() for e in edges), "mirror", "step", "count", "corners", "uniform", "cpk"}
    assert sorted(w for w in words if f"`{w}`" not in page and not re.search(rf"\b{w}\b", page)) == []


def test_the_python_of_the_part_file_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "part_files.md").read_text(encoding="utf-8")
    for block in re.findall(r"```python\n(.*?)```", page, re.S):
        exec(compile(block, "docs/part_files.md", "exec"), {})
    out = capsys.readouterr().out
    assert "plate" in out
    assert "dimension ('bolts',) -3.0 mm" in out


def test_the_python_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    for block in re.findall(r"```python\n(.*?)```", README, re.S):
        exec(compile(block, "README.md", "exec"), {})
    assert "crown" in capsys.readouterr().out
