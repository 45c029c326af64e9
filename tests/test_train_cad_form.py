"""The CAD form's parts: poses, symmetries, hidden sky, noise, the folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import cad
from cad.errors import InputError
from train.cad_form import CadForm, build_form, fit_form, open_form, read_config, thinned, wanted_of
from train.residual_noise import KINDS, ResidualNoise, hollows
from train.symmetry import Symmetries

CUBE = "part: cube\nfeatures:\n  - {name: body, add: box, size: [10, 10, 10]}\n"


@pytest.fixture(scope="module")
def form(form_folder: Path) -> CadForm:
    return open_form(form_folder, read_config(form_folder))


def test_a_cubes_symmetries_are_found_and_no_others() -> None:
    """Quarter and half turns about three axes, and what else takes a cube into itself: matrices of 0 and 1 or -1, once each."""
    form, _ = build_form(cad.part.parse(CUBE), 32)
    turns = form.symmetries.exact
    assert 10 <= len(turns) <= 24
    np.testing.assert_allclose(turns, np.rint(turns), atol=0.1)
    assert len({tuple(np.rint(t).astype(int).ravel()) for t in turns}) == len(turns)
    assert form.symmetries.angle(np.eye(3), Rotation.from_euler("z", 92, degrees=True).as_matrix()) == pytest.approx(2, abs=1e-6)


def test_the_caps_notch_breaks_its_symmetry(form: CadForm) -> None:
    """No turn but the identity leaves it the same; every turn about its axis nearly does."""
    assert len(form.symmetries.exact) == 1
    about_z = [t for t in form.symmetries.approximate if abs(t[2, 2] - 1) < 1e-9]
    assert len(about_z) == 47


def test_angles_between_poses(rng: np.random.Generator) -> None:
    none = Symmetries(np.zeros((0, 3, 3)), np.zeros(0))
    for _ in range(10):
        a, b = Rotation.random(2, random_state=int(rng.integers(1000)))
        assert none.angle(a.as_matrix(), b.as_matrix()) == pytest.approx(np.degrees((a.inv() * b).magnitude()), abs=1e-4)


def test_hidden_sky(form: CadForm) -> None:
    """A convex outside sees all of its sky; a deep cavity little of it."""
    names = form.part.names
    by_name = {n: form.hollow[form.item.feature == k + 1].mean() for k, n in enumerate(names)}
    assert by_name["crown"] < 0.02 and by_name["skirt"] < 0.02
    assert by_name["cavity"] > 0.5
    box = cad.part.parse(CUBE).mesh()
    from synth.drawable import Drawable

    np.testing.assert_allclose(hollows(Drawable.of(box), box.bounds.mean(0), box.diagonal), 0, atol=0.01)  # a map of 192 px


def test_noise_weights_are_found_again(rng: np.random.Generator) -> None:
    """Residuals drawn from known weights give these back; a prior holds only where there is little else."""
    kinds = rng.uniform(0, 1, (60_000, len(KINDS))) ** 4
    wanted = np.array([1e-3, 0.0, 0.02, 0.0, 0.01, 0.0, 0.05])
    residuals = rng.normal(size=len(kinds)) * np.sqrt(kinds @ wanted)
    found = ResidualNoise.of(kinds, residuals)
    np.testing.assert_allclose(found.weights, wanted, atol=3e-3)
    prior = ResidualNoise(10 * wanted)
    few, many = (ResidualNoise.of(kinds[:n], residuals[:n], prior=prior).weights[6] for n in (300, 60_000))
    assert abs(few - 0.5) < abs(many - 0.5)


def test_folder_round_trip(form: CadForm, form_folder: Path) -> None:
    again = open_form(form_folder, read_config(form_folder))
    for name in ("table", "hollow"):
        np.testing.assert_array_equal(getattr(again, name), getattr(form, name))
    np.testing.assert_array_equal(again.index.turns, form.index.turns)
    assert again.noise.json() == form.noise.json()


def test_a_fit_form_is_up_to_date_and_another_is_refused(cap: cad.Part, form_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(form_folder, folder)
    assert fit_form(folder, cap, wanted_of(cap, 64, 0)) is None
    with pytest.raises(InputError, match="holds another run"):
        fit_form(folder, cap, wanted_of(cap, 32, 0))


@pytest.mark.parametrize(("name", "said"), [("form.safetensors", "missing"), ("noise.json", "no such file")])
def test_a_folder_with_a_file_gone(form_folder: Path, tmp_path: Path, name: str, said: str) -> None:
    folder = tmp_path / "run"
    shutil.copytree(form_folder, folder)
    (folder / name).unlink()
    with pytest.raises(InputError, match=said):
        open_form(folder, read_config(folder))


def test_a_damaged_folder(form_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(form_folder, folder)
    (folder / "form.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InputError, match="is damaged"):
        open_form(folder, read_config(folder))
    with pytest.raises(InputError, match="newer formspect"):
        open_form(folder, {**read_config(folder), "format": 99})


def test_commands(command, tmp_path: Path, cap: cad.Part) -> None:
    line = f"train fit notched_cap --form cad --size 32 -o {tmp_path / 'cap'}"
    code, out, err = command(f"{line} --dry-run")
    assert code == 0 and "size: 32" in out and not (tmp_path / "cap").exists()
    code, out, err = command(line)
    assert code == 0 and "6000 poses" in out and "detect calibrate" in err
    assert "up to date" in command(line)[1]
    code, _, err = command(line.replace("--size 32", "--size 40"))
    assert code == 2 and "--force" in err
    code, _, err = command(line.replace("--size 32", "--size 8"))
    assert code == 2 and "32 to 1024" in err


def test_thinned_columns_stay_side_by_side() -> None:
    """Whatever the number of rows: each row's kinds, residual and floor are still its own."""
    for count in (80, 77):
        rows = [np.arange(100 * k, 100 * k + 100) for k in range(count)]
        found, residuals, floors = thinned(rows, [2 * r for r in rows], [3 * r for r in rows], most=1300)
        assert len(found) <= 1600
        np.testing.assert_array_equal(residuals, 2 * found)
        np.testing.assert_array_equal(floors, 3 * found)
