"""Poses: even where a grid is asked for, stable where the part is to rest, and those of a list as they stand there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

import cad
from cad.errors import InputError
from cad.views import Turn
from synth.dataset import MANIFEST
from synth.poses import even_rotation, quaternion_of, radical_inverse, read_views, resting_poses, resting_rotation, rotations, turn_of
from synth.render import render
from synth.sampling import Recipe, draw_sample
from synth.scene import matrix, random_rotation

CUBE = "part: cube\nunits: mm\nfeatures:\n  - {name: body, add: box, size: [10, 10, 10]}\n"


def widest_gap(turns: np.ndarray) -> float:
    """Degrees from the loneliest of 300 random rotations to the nearest of ``turns`` (n, 3, 3)."""
    grid = Rotation.from_matrix(turns)
    return max(np.degrees((one.inv() * grid).magnitude().min()) for one in Rotation.random(300, random_state=1))


def grid_of(count: int, ranges: str | Turn = "any", seed: int = 0) -> np.ndarray:
    return np.array([matrix(even_rotation(ranges, k, count, np.random.default_rng(seed))) for k in range(count)])


def test_poses_cover_all_rotations_evenly() -> None:
    """Every rotation has a neighbour within 16 degrees: 6000 balls of 8.5 degrees fill SO(3)."""
    assert widest_gap(np.array([matrix(q) for q in rotations("any", 6000)])) < 16


@pytest.mark.parametrize("seed", range(3))
def test_a_grid_leaves_smaller_gaps_than_chance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    by_chance = np.array([matrix(random_rotation("any", rng)) for _ in range(500)])
    assert widest_gap(grid_of(500, seed=seed)) < 0.8 * widest_gap(by_chance)


def test_two_grids_share_no_pose() -> None:
    first, second = Rotation.from_matrix(grid_of(100, seed=0)), Rotation.from_matrix(grid_of(100, seed=1))
    assert min((one.inv() * second).magnitude().min() for one in first) > 1e-3


@pytest.mark.parametrize("tilt", [(0.0, 0.0), (0.0, 6.0), (-5.0, 5.0), (10.0, 40.0)])
def test_poses_keep_to_the_part_files_ranges(tilt: tuple[float, float]) -> None:
    ranges = Turn(axis=(0, 0, 1), spin=(0, 90), tilt=tilt)
    rounds = np.array([matrix(q) for q in rotations(ranges, 6000)])
    assert 0 < len(rounds) <= 7000
    for turns in (rounds, grid_of(400, ranges)):
        off = np.degrees(np.arccos(np.clip(turns[:, 2, 2], -1, 1)))
        assert off.max() <= max(map(abs, tilt)) + 1e-6
        assert off.min() >= (min(map(abs, tilt)) if tilt[0] * tilt[1] > 0 else 0) - 1e-6


def test_a_range_of_spins_is_filled_evenly() -> None:
    """Of 256 spins 32 lie in each eighth, but for one at either end."""
    turns = grid_of(256, Turn(axis=(0, 0, 1), spin=(20, 100)))
    spins = np.degrees(np.arctan2(turns[:, 1, 0], turns[:, 0, 0]))
    counts = np.histogram(spins, np.linspace(20, 100, 9))[0]
    assert counts.sum() == 256 and abs(counts - 32).max() <= 1


@given(st.integers(0, 10**6), st.sampled_from([2, 3, 5]))
def test_a_radical_inverse_mirrors_its_digits(index: int, base: int) -> None:
    digits = np.base_repr(index, base)
    assert radical_inverse(index, base) == pytest.approx(int(digits[::-1], base) / base ** len(digits), abs=1e-12)


# At rest


def test_a_cube_rests_on_each_side_as_often() -> None:
    ups, odds = resting_poses(cad.parse(CUBE).mesh())
    assert sorted(map(tuple, np.rint(ups).astype(int))) == sorted(map(tuple, np.vstack([np.eye(3), -np.eye(3)]).astype(int)))
    assert np.allclose(odds, 1 / 6, atol=1e-6)


@pytest.mark.parametrize("name", ["notched_cap", "hex_nut", "bracket"])
def test_a_part_at_rest_does_not_topple(name: str) -> None:
    """Three or more points touch the plane, and its centre of mass stands above what they span."""
    mesh = cad.load(name).mesh()
    ups, odds = resting_poses(mesh)
    assert odds.sum() == pytest.approx(1) and (np.diff(odds) <= 1e-12).all() and np.allclose(np.linalg.norm(ups, axis=1), 1)
    a, b, c = np.moveaxis(mesh.triangles, 1, 0)
    volumes = np.einsum("ij,ij->i", a, np.cross(b, c)) / 6
    middle = ((a + b + c) / 4 * volumes[:, None]).sum(0) / volumes.sum()
    for up in ups[:5]:
        height = mesh.vertices @ up
        feet = mesh.vertices[height < height.min() + 1e-3 * mesh.diagonal]
        assert len(feet) >= 3
        across = np.linalg.svd(up[None])[2][1:]
        around = (feet - middle) @ across.T
        angles = np.sort(np.arctan2(around[:, 1], around[:, 0]))
        assert np.max(np.diff(np.r_[angles, angles[0] + 2 * np.pi])) <= np.pi + 1e-2


def test_at_rest_the_plane_is_seen_from_above(cap: cad.Part, rng: np.random.Generator) -> None:
    mesh = cap.mesh()
    ups, odds = resting_poses(mesh)
    turns = np.array([matrix(resting_rotation(mesh, "any", rng)) for _ in range(600)])
    seen = np.array([(ups @ turn.T)[:, 2].argmax() for turn in turns])
    assert (np.einsum("nij,nj->ni", turns, ups[seen])[:, 2] > 1 - 1e-9).all()
    assert np.bincount(seen, minlength=len(ups))[:3] / 600 == pytest.approx(odds[:3], abs=0.07)  # four sigma
    tilted = np.array([matrix(resting_rotation(mesh, Turn(tilt=(20, 30)), rng)) for _ in range(50)])
    lean = np.degrees(np.arccos((ups @ np.swapaxes(tilted, 1, 2))[..., 2].clip(-1, 1)))
    assert ((lean > 20 - 1e-6) & (lean < 30 + 1e-6)).any(1).all()


# Lists


@given(st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_a_matrix_gives_its_quaternion_back(four: tuple[float, ...]) -> None:
    q = np.array(four) / np.linalg.norm(four)
    again = quaternion_of(matrix(q))
    assert again[0] >= 0 and np.allclose(matrix(again), matrix(q), atol=1e-9)


@pytest.mark.parametrize("kind", ["txt", "csv", "json"])
@pytest.mark.parametrize("as_matrix", [False, True])
def test_a_list_of_views_is_read_as_it_was_written(kind: str, as_matrix: bool, tmp_path: Path, rng: np.random.Generator) -> None:
    turns = [random_rotation("any", rng) for _ in range(5)]
    rows = [(matrix(q).ravel() if as_matrix else q).tolist() for q in turns]
    path = tmp_path / f"views.{kind}"
    gap = "," if kind == "csv" else "  "
    path.write_text(json.dumps(rows) if kind == "json" else "# views\n\n" + "\n".join(gap.join(map(str, r)) + " # one" for r in rows))
    read = read_views(path)
    assert np.allclose([matrix(np.array(q)) for q in read], [matrix(q) for q in turns], atol=1e-9)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("v.txt", "1 0 0 0\n1 0 0\n", "line 2: found 3 numbers"),
        ("v.txt", "1 0 0 x\n", "line 1: found"),
        ("v.txt", "1 0 0 nan\n", "line 1: found a number that is not finite"),
        ("v.txt", "2 0 0 0\n", "line 1: found a quaternion of length 2"),
        ("v.txt", "1 0 0 0 1 0 0 0 -1\n", "line 1: found a matrix that is no rotation"),
        ("v.txt", "# nothing\n", "holds no views"),
        ("v.json", "[[1, 0, 0, 0], {}]", "[1]: found {}"),
        ("v.json", "{", "no JSON"),
    ],
)
def test_a_bad_list_is_told_by_its_line(name: str, text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as error:
        read_views(tmp_path / name)
    assert said in str(error.value) and "\n" not in str(error.value)


# In a data set


def test_samples_take_a_lists_views_in_turn(cap: cad.Part, rng: np.random.Generator) -> None:
    turns = [random_rotation("any", rng).tolist() for _ in range(3)]
    recipe = Recipe(5, 2, size=32, poses=turns, keep_hidden=True)
    for split, label, k in recipe.plan(cap):
        assert draw_sample(cap, recipe, split, label, k).sample.scene["quaternion"] == pytest.approx(turns[k % 3])


@pytest.mark.parametrize("poses", ["grid", "resting"])
def test_a_sample_alone_is_the_one_in_the_set_whatever_its_poses(cap: cad.Part, poses: str, tmp_path: Path) -> None:
    recipe = Recipe(6, 2, size=32, poses=poses)
    data, _ = render(cap, tmp_path / "set", recipe, jobs=1)
    for sample in data.samples[::-2]:
        assert draw_sample(cap, recipe, sample.split, sample.label, sample.index).sample.line() == sample.line()
    if poses == "grid":
        turns = [np.array(s.scene["quaternion"]) for s in data.of("train")]
        seen = [even_rotation("any", k, 6, np.random.default_rng(0)) for k in range(6)]  # the same grid, turned as a whole
        relative = [matrix(a) @ matrix(b).T for a, b in zip(turns, seen, strict=True)]
        assert np.allclose(relative, relative[0], atol=1e-9)


def test_random_poses_are_what_they_were(cap: cad.Part) -> None:
    """A view's own generator goes on as before there was a choice."""
    rng, other = np.random.default_rng(3), np.random.default_rng(3)
    assert np.array_equal(turn_of("random", "any", cap.mesh(), 0, 1, rng, rng), random_rotation("any", other))
    assert Recipe(1, 1).turn(cap, "train", "good", 0, rng) is None


def test_a_data_set_from_before_there_was_a_choice_is_up_to_date(cap: cad.Part, tmp_path: Path) -> None:
    folder, recipe = tmp_path / "set", Recipe(2, 0, size=32)
    render(cap, folder, recipe, jobs=1)
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["recipe"]["poses"]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    assert not render(cap, folder, recipe, jobs=1)[1]
    with pytest.raises(InputError, match="another part file or recipe"):
        render(cap, folder, Recipe(2, 0, size=32, poses="grid"), jobs=1)


@pytest.mark.parametrize("poses", ["even", []])
def test_unknown_poses_are_told_before_anything_is_drawn(cap: cad.Part, poses: object, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--poses"):
        render(cap, tmp_path / "set", Recipe(2, 0, poses=poses))
    assert not (tmp_path / "set").exists()
