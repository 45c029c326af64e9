"""The solar cells as a folder, from a package of a few made-up ones: nothing is downloaded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from cad.errors import InputError
from pipelines import elpv
from pipelines.elpv import elpv_folder, labels, main, source

COUNTS = {("mono", 0.0): 10, ("mono", 1 / 3): 3, ("mono", 2 / 3): 2, ("mono", 1.0): 6, ("poly", 0.0): 8, ("poly", 1.0): 4}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package elpv_dataset whose cells' grey level is their number."""
    data = tmp_path / "site" / "elpv_dataset" / "data"
    (data / "images").mkdir(parents=True)
    (data.parent / "__init__.py").touch()
    lines, number = [], 0
    for (kind, probability), count in COUNTS.items():
        for _ in range(count):
            number += 1
            Image.new("L", (20, 20), number).save(data / "images" / f"cell{number:04}.png")
            lines.append(f"images/cell{number:04}.png  {probability!r:20} {kind}")
    order = np.random.default_rng(0).permutation(number)
    (data / "labels.csv").write_text("\n".join(lines[i] for i in order) + "\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    return data


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_each_cell_stands_where_its_label_says(package: Path, tmp_path: Path) -> None:
    folder = elpv_folder(tmp_path / "out", "mono", 0)
    assert folder == tmp_path / "out" / "mono"
    made = {name: {p.name for p in (folder / name).iterdir()} for name in ("train/good", "test/good", "test/defective")}
    assert {k: len(v) for k, v in made.items()} == {"train/good": 8, "test/good": 2, "test/defective": 6}
    label = {p.name: (probability, kind) for p, probability, kind in labels(package)}
    assert {label[n] for n in made["train/good"] | made["test/good"]} == {(0.0, "mono")} and not made["train/good"] & made["test/good"]
    assert {label[n] for n in made["test/defective"]} == {(1.0, "mono")}
    for name, own in made.items():
        assert all((folder / name / n).read_bytes() == (package / "images" / n).read_bytes() for n in own)


def test_the_terms_and_the_counts_lie_beside(package: Path, tmp_path: Path) -> None:
    folder = elpv_folder(tmp_path, "poly", 3)
    assert "CC BY-NC-SA 4.0" in (folder / "LICENSE.txt").read_text()
    facts = json.loads((folder / "elpv.json").read_text())
    assert facts["kind"] == "poly" and facts["seed"] == 3
    assert facts["counts"] == {"train/good": 6, "test/good": 2, "test/defective": 4, "left_out": 0}
    assert json.loads((elpv_folder(tmp_path, "mono", 3) / "elpv.json").read_text())["counts"]["left_out"] == 5


def test_the_seed_decides_what_is_held_out(package: Path, tmp_path: Path) -> None:
    one, again = (files(elpv_folder(tmp_path / n, "mono", 0)) for n in "ab")
    assert one == again
    others = [files(elpv_folder(tmp_path / str(seed), "mono", seed)) for seed in range(1, 5)]
    assert any(sorted(o) != sorted(one) for o in others)
    for other in others:
        assert {n: b for n, b in other.items() if "defective" in n} == {n: b for n, b in one.items() if "defective" in n}


def test_a_folder_is_made_once_and_never_over_another(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = elpv_folder(tmp_path / "out", "mono", 0)
    before = files(folder)
    monkeypatch.setattr(elpv, "source", lambda: pytest.fail("what is there needs no package"))
    assert elpv_folder(tmp_path / "out", "mono", 0) == folder and files(folder) == before
    with pytest.raises(InputError, match="was made otherwise"):
        elpv_folder(tmp_path / "out", "mono", 1)
    monkeypatch.undo()
    (tmp_path / "mine" / "mono").mkdir(parents=True)
    (tmp_path / "mine" / "mono" / "notes.txt").touch()
    monkeypatch.setattr(elpv, "source", lambda: package)
    with pytest.raises(InputError, match="is there already"):
        elpv_folder(tmp_path / "mine", "mono", 0)
    assert list(files(tmp_path / "mine")) == ["mono/notes.txt"]


def test_a_folder_is_whole_or_not_there(package: Path, tmp_path: Path) -> None:
    bad = next(p for p, probability, kind in labels(package) if probability == 1 and kind == "mono")
    bad.unlink()
    with pytest.raises(FileNotFoundError):
        elpv_folder(tmp_path / "out", "mono", 0)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_missing_package_is_said_with_what_brings_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elpv, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"elpv-dataset: is not installed.*pip install 'formspect\[elpv\]'"):
        elpv_folder(tmp_path / "out", "mono", 0)
    assert not (tmp_path / "out").exists()


def test_a_kind_or_a_line_that_is_none_is_said(package: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match='found "thin"; wanted mono or poly'):
        elpv_folder(tmp_path / "out", "thin", 0)
    assert source() == package
    with (package / "labels.csv").open("a") as file:
        file.write("images/cell9999.png maybe mono\n")
    with pytest.raises(InputError, match=r"labels.csv: 34: found .*maybe"):
        elpv_folder(tmp_path / "out", "mono", 0)


def test_the_command_makes_both_and_tells_their_counts(package: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert {k: v["test/defective"] for k, v in told.items()} == {"mono": 6, "poly": 4}
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["mono", "poly"]


def test_what_was_made_can_be_measured(package: Path, tmp_path: Path) -> None:
    from pipelines.benchmark_baselines import photographs

    groups = photographs(elpv_folder(tmp_path, "poly", 0), 32)
    assert {k: v.shape for k, v in groups.items()} == {
        "train/good": (6, 32, 32, 3), "test/good": (2, 32, 32, 3), "test/defective": (4, 32, 32, 3),
    }  # fmt: skip
