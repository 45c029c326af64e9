"""Where a part may turn: at random, evenly over its range, at rest on a plane, or as a list says. One quaternion a view."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from cad.errors import InputError
from cad.mesh import Mesh
from cad.views import Turn
from synth.scene import product, random_rotation, spun_and_tilted

KINDS = ("random", "grid", "resting")
STEPS = (2.0, 3.0, 4.0, 5.0, 6.0, 7.5, 10.0)  # degrees between neighbours, of a part file's spin and tilt
RARE = 1e-3  # probability of a resting pose below which the part is not seen in it
OFF = 1e-2  # by which a quaternion's length, or a matrix's product with its transpose, may be off

Quaternions = Sequence[Sequence[float]]


def turn_of(
    poses: str | Quaternions, ranges: str | Turn, mesh: Mesh, index: int, count: int, rng: np.random.Generator, seed: np.random.Generator
) -> np.ndarray:
    """(4,) the unit quaternion of view ``index`` of ``count``; ``ranges`` and nominal ``mesh`` are the part's.

    ``rng`` is the view's own, ``seed`` that of all ``count`` views: a grid is turned as a whole by it, so that two sets of views share
    none.
    """
    if not isinstance(poses, str):
        return np.asarray(poses[index % len(poses)], float)
    if poses == "grid":
        return even_rotation(ranges, index, count, seed)
    if poses == "resting":
        return resting_rotation(mesh, ranges, rng)
    return random_rotation(ranges, rng)


def even_rotation(ranges: str | Turn, index: int, count: int, seed: np.random.Generator) -> np.ndarray:
    """(4,) one of ``count`` that cover SO(3) evenly (super-Fibonacci spirals, Alexa 2022), turned together at random; or, for a Turn, its
    spins and tilts (Halton 1960), moved together at random round the torus (Cranley and Patterson 1976)."""
    if not isinstance(ranges, Turn):
        return product(random_rotation("any", seed), spiral_rotation(index, count))
    spin, across, tilt = (np.array([radical_inverse(index + 1, base) for base in (2, 3, 5)]) + seed.random(3)) % 1
    spins, tilts = np.radians(ranges.spin), np.radians(ranges.tilt)
    return spun_and_tilted(ranges.axis, spins[0] + spin * np.ptp(spins), 2 * np.pi * across, tilts[0] + tilt * np.ptp(tilts))


def spiral_rotation(index: int, count: int) -> np.ndarray:
    """(4,) unit quaternion ``index`` of ``count`` evenly over SO(3): super-Fibonacci spirals (Alexa 2022)."""
    phi, psi, s = np.sqrt(2.0), 1.533751168755204288, index + 0.5
    r, rest, angle = np.sqrt(s / count), np.sqrt(1 - s / count), 2 * np.pi * s
    return np.array([r * np.sin(angle / phi), r * np.cos(angle / phi), rest * np.sin(angle / psi), rest * np.cos(angle / psi)])


def radical_inverse(index: int, base: int) -> float:
    """The digits of ``index``, mirrored at the point: [0, 1) evenly, whatever the number of points (van der Corput 1935)."""
    value, share = 0.0, 1.0
    while index:
        share /= base
        index, digit = divmod(index, base)
        value += share * digit
    return value


def rotations(ranges: str | Turn, count: int) -> Iterator[np.ndarray]:
    """Unit quaternions evenly over SO(3), or over the spins and tilts of a Turn on rounds about its axis, about ``count`` of them."""
    if not isinstance(ranges, Turn):
        yield from (spiral_rotation(k, count) for k in range(count))
        return
    step = next((s for s in STEPS[:-1] if sum(_rounds(ranges, s).values()) * (np.ptp(ranges.spin) / s + 1) <= count), STEPS[-1])
    for tilt, around in _rounds(ranges, step).items():
        for across in 2 * np.pi * np.arange(around) / around:
            for spin in np.arange(ranges.spin[0], ranges.spin[1] + 0.5 * step, step):
                yield spun_and_tilted(ranges.axis, np.radians(spin), across, np.radians(tilt))


def _rounds(ranges: Turn, step: float) -> dict[float, int]:
    """Each tilt, ``step`` degrees apart or less, and the number of directions across which it is to be tilted."""
    tilts = np.linspace(*ranges.tilt, max(1, int(np.ceil(np.ptp(ranges.tilt) / step)) + 1))
    return {float(t): max(1, int(np.ceil(360 * abs(np.sin(np.radians(t))) / step))) for t in tilts}


def resting_rotation(mesh: Mesh, ranges: str | Turn, rng: np.random.Generator) -> np.ndarray:
    """(4,) at rest on a plane, each pose as often as a dropped part comes to lie in it, spun and seen as ``ranges`` says: the plane's
    normal takes the place of its axis. Where it says ``any``: spun anyhow, seen from straight above."""
    ups, odds = resting_poses(mesh)
    up = ups[rng.choice(len(ups), p=odds)]
    seen = ranges if isinstance(ranges, Turn) else Turn()
    return random_rotation(Turn(axis=tuple(map(float, up)), spin=seen.spin, tilt=seen.tilt), rng)


@lru_cache(maxsize=4)
def resting_poses(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """(n, 3) the plane's upward normal in the part's frame, likeliest first, and (n,) how often a part of even density that is dropped
    comes to lie so (quasi-static: Goldberg et al. 1999, by trimesh)."""
    from trimesh import Trimesh
    from trimesh.poses import compute_stable_poses

    turns, odds = compute_stable_poses(Trimesh(mesh.vertices, mesh.faces, process=False), seed=0)
    kept = odds >= min(RARE, odds.max())
    return turns[kept, 2, :3], odds[kept] / odds[kept].sum()


def read_views(path: str | Path) -> list[list[float]]:
    """A list of views: in a .json file an array, else a line each, blank lines and what follows # aside; each the four numbers of a
    quaternion (w, x, y, z) or the nine of a rotation matrix, row by row. Gives unit quaternions.

    Raises InputError with the line where it is neither.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, f"cannot be read: {getattr(error, 'strerror', None) or error}", wanted="a list of views") from None
    rows: list[tuple[str, object]] = []
    if path.suffix.lower() == ".json":
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(path, f"no JSON: {error}", wanted="a list of views") from None
        rows = [(f"{path}[{k}]", row) for k, row in enumerate(data)] if isinstance(data, list) else [(str(path), data)]
    else:
        for number, line in enumerate(text.splitlines(), 1):
            if words := line.split("#")[0].replace(",", " ").split():
                rows.append((f"{path}, line {number}", words))
    if not rows:
        raise InputError(path, "holds no views", wanted="a line a view: w x y z, or the nine numbers of a rotation matrix")
    return [_quaternion(place, row) for place, row in rows]


def _quaternion(place: str, row: object) -> list[float]:
    """From what a list of views has at ``place``."""
    wanted = "a unit quaternion w x y z, or the nine numbers of a rotation matrix, row by row"
    try:
        values = np.asarray(row, float).ravel()
    except (ValueError, TypeError):
        raise InputError(place, f"found {str(row)[:60]}", wanted=wanted) from None
    if values.size not in (4, 9) or not np.isfinite(values).all():
        raise InputError(
            place, f"found {values.size} numbers" if values.size not in (4, 9) else "found a number that is not finite", wanted=wanted
        )
    if values.size == 4:
        length = float(np.sqrt((values**2).sum()))
        if abs(length - 1) > OFF:
            raise InputError(place, f"found a quaternion of length {length:.4g}", wanted=wanted)
        return [float(v) for v in values / length]
    turn = values.reshape(3, 3)
    if np.abs(turn @ turn.T - np.eye(3)).max() > OFF or np.linalg.det(turn) < 0:
        raise InputError(place, "found a matrix that is no rotation", wanted=wanted)
    return [float(v) for v in quaternion_of(turn)]


def quaternion_of(turn: np.ndarray) -> np.ndarray:
    """(4,) the unit quaternion, w not negative, of a rotation matrix (3, 3)."""
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(turn).as_quat(canonical=True)
    return np.array([w, x, y, z])
