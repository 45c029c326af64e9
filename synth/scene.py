"""A scene is data: pose, camera, light, surface, background. Frozen, saved as JSON, drawn by any renderer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from cad.mesh import Mesh
from cad.part import Part
from cad.views import FurtherLamp, Turn, Views
from synth.surroundings import Backdrop, Dust, Lens, Sensor, Sky, Vector


@dataclass(frozen=True)
class Lamp:
    """A far one: ``direction`` towards it, unit length, camera frame; ``power``: what it adds to a white matt surface that faces it, in
    linear light; ``color`` sRGB in [0, 1]; ``size``: degrees, half the angle that its disc fills (the sun's is 0.27), 0 for a point."""

    direction: Vector
    power: float
    color: Vector = (1.0, 1.0, 1.0)
    size: float = 0.0


@dataclass(frozen=True)
class Scene:
    """Camera frame: x right, y up, the camera at the origin looks along -Z; mm.

    A point p of the part lands at ``R(quaternion) (p - pivot) + position``; ``quaternion`` is (w, x, y, z), unit length.
    ``field`` mm across the image (orthographic) or None; ``angle`` degrees across it (perspective) or None.
    ``light`` points to the lamp, unit length, whose power is what ``ambient`` leaves of 1, in ``light_color`` and of ``light_size`` as a
    Lamp has them; ``lamps`` are further ones; ``shadows``: whether the part casts any on itself. ``occlusion``: directions of the sky
    that are asked whether the part hides them from itself (0: none does). Colours are sRGB in [0, 1]. ``sky`` None: the same
    from all sides; ``backdrop`` None: ``background`` all over; no ``lens``, ``dust`` or ``sensor``: a pinhole, and what it shows in sRGB.
    """

    quaternion: tuple[float, float, float, float]
    pivot: Vector
    position: Vector
    field: float | None
    angle: float | None
    light: Vector
    ambient: float
    color: Vector
    roughness: float
    metallic: float
    background: Vector
    lamps: tuple[Lamp, ...] = ()
    shadows: bool = False
    light_color: Vector = (1.0, 1.0, 1.0)
    light_size: float = 0.0
    occlusion: int = 0
    sky: Sky | None = None
    lens: Lens | None = None
    backdrop: Backdrop | None = None
    dust: Dust | None = None
    sensor: Sensor | None = None

    @cached_property
    def rotation(self) -> np.ndarray:
        """(3, 3) float64."""
        return matrix(np.asarray(self.quaternion))

    def camera_points(self, points: np.ndarray) -> np.ndarray:
        """(n, 3) mm of the part -> (n, 3) mm in the camera frame."""
        return (points - np.asarray(self.pivot)) @ self.rotation.T + np.asarray(self.position)

    def pixels(self, points: np.ndarray, size: int) -> np.ndarray:
        """(n, 3) mm in the camera frame -> (n, 2) pixel coordinates (x right, y down, (0, 0) the outer corner of the first pixel)."""
        scale = size / self.field if self.field is not None else size / (2 * np.tan(np.radians(self.angle) / 2)) / -points[:, 2:]
        return size / 2 + points[:, :2] * np.array([1.0, -1.0]) * scale

    def pixels_per_mm(self, size: int) -> float:
        """At the depth of the part's pivot."""
        return size / self.field if self.field is not None else size / (2 * np.tan(np.radians(self.angle) / 2) * -self.position[2])

    def json(self) -> dict[str, Any]:
        """Its fields, as JSON has them; surroundings that it has none of are left out."""
        data = {k: v for k in FIELDS if (v := getattr(self, k)) is not None or k in ("field", "angle")}
        data |= {name: vars(data[name]) for name in SURROUNDINGS if name in data}
        return {**data, "lamps": [vars(lamp) for lamp in self.lamps]}

    @classmethod
    def of(cls, data: dict[str, Any]) -> Scene:
        """From what :meth:`json` gave."""
        made = {name: kind(**_tuples(data[name])) for name, kind in SURROUNDINGS.items() if name in data}
        lamps = tuple(Lamp(**_tuples(lamp)) for lamp in data.get("lamps", ()))
        return cls(**{**_tuples(data), **made, "lamps": lamps})


FIELDS = tuple(f.name for f in fields(Scene))
SURROUNDINGS = {"sky": Sky, "lens": Lens, "backdrop": Backdrop, "dust": Dust, "sensor": Sensor}


def _tuples(data: dict[str, Any]) -> dict[str, Any]:
    """Lists, and lists within them, as the frozen tuples that JSON made them from."""
    return {k: _tuple(v) for k, v in data.items()}


def _tuple(value: Any) -> Any:
    return tuple(_tuple(v) for v in value) if isinstance(value, (list, tuple)) else value


@dataclass(frozen=True, eq=False)
class Placement:
    """Where a part stands before a camera. A point p lands at ``turn (p - pivot) + position``, mm, in the camera's frame (x right, y up,
    looking along -Z); ``scale``: image widths per mm (orthographic), or over the tangent, 1 / (2 tan(angle / 2)), in ``perspective``."""

    turn: np.ndarray
    position: np.ndarray
    scale: float
    perspective: bool

    def shift(self, pivot: np.ndarray) -> np.ndarray:
        return self.position - self.turn @ pivot

    def mm_per_pixel(self, size: int) -> float:
        """At the depth of the pivot."""
        return (-self.position[2] if self.perspective else 1.0) / (self.scale * size)


def placement_of(scene: Scene, pivot: np.ndarray) -> Placement:
    """Where a scene has the part, for another ``pivot`` (3,) than its own."""
    scale = 1 / scene.field if scene.field is not None else 1 / (2 * np.tan(np.radians(scene.angle) / 2))
    position = np.asarray(scene.position) + scene.rotation @ (pivot - np.asarray(scene.pivot))
    return Placement(scene.rotation, position, scale, scene.field is None)


def lamps_of(scene: Scene) -> tuple[Lamp, ...]:
    """All of them, the one that every scene has first."""
    return (Lamp(scene.light, 1.0 - scene.ambient, scene.light_color, scene.light_size), *scene.lamps)


Streams = np.random.Generator | Callable[[str], np.random.Generator]  # one for all of a scene, or one for each class of what is drawn


def draw_scene(part: Part, mesh: Mesh, rng: Streams, turn: np.ndarray | None = None, *, views: Views | None = None) -> Scene:
    """A scene from the part file's view ranges, or from other ``views``; ``mesh`` (any variant) gives pivot and extent; ``turn`` (4,) the
    unit quaternion, where the rotation is given."""
    views = views or part.views
    of = rng if callable(rng) else (lambda _: rng)
    turn = random_rotation(views.rotation, of("pose")) if turn is None else turn
    pivot = mesh.bounds.mean(0)
    position, field, angle = _placed(views, mesh, turn, of)
    return Scene(
        quaternion=_floats(turn), pivot=_floats(pivot), position=position, field=field, angle=angle,
        light=_floats(within(np.asarray(views.light.direction), views.light.spread, of("light_direction"))), ambient=views.light.ambient,
        color=views.surface.color, roughness=views.surface.roughness, metallic=views.surface.metallic, background=views.background.color,
        lamps=tuple(_lamp(further, of("lights")) for further in views.light.lamps), shadows=views.light.shadows,
    )  # fmt: skip


def _lamp(further: FurtherLamp, rng: np.random.Generator) -> Lamp:
    direction = _floats(within(np.asarray(further.direction), further.spread, rng))
    return Lamp(direction, _within(further.powers, rng), further.color)


def _placed(
    views: Views, mesh: Mesh, turn: np.ndarray, of: Callable[[str], np.random.Generator]
) -> tuple[Vector, float | None, float | None]:
    """Where the part's pivot lies in the camera frame, and the field in mm of an orthographic camera or the angle of a perspective one."""
    camera = views.camera
    fill = of("position").uniform(*(camera.fill or (0.7, 0.7)))
    away = of("position").uniform(-1, 1, 2) * camera.offset
    if not camera.perspective:
        known = camera.fields and _within(camera.fields, of("camera"))
        field = known or (_extent(mesh, turn) / fill if camera.fill else 1.15 * mesh.diagonal)
        return (*_floats(away * field), -2.0 * mesh.diagonal), float(field), None
    width, angle = _extent(mesh, turn) / fill, _within(camera.angles, of("camera"))  # mm across the image at the pivot
    distance = max(width / (2 * np.tan(np.radians(angle) / 2)), 0.75 * mesh.diagonal)
    return (*_floats(away * width), -float(distance)), None, float(angle)


def _within(ranges: tuple[float, float], rng: np.random.Generator) -> float:
    """Drawn where there is anything to draw: files that state one number keep their views."""
    return ranges[0] if ranges[0] == ranges[1] else rng.uniform(*ranges)


def _extent(mesh: Mesh, turn: np.ndarray) -> float:
    """mm: the larger of the turned part's width and height."""
    return float(np.ptp((mesh.vertices @ matrix(turn).T)[:, :2], axis=0).max())


def random_rotation(ranges: str | Turn, rng: np.random.Generator) -> np.ndarray:
    """(4,) unit quaternion: uniform over SO(3) for ``any`` (Shoemake 1992), else the spin and tilt of a Turn."""
    if not isinstance(ranges, Turn):
        four = rng.normal(size=4)
        return four / np.linalg.norm(four)
    spin, across, tilt = np.radians(rng.uniform(*ranges.spin)), rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(*ranges.tilt))
    return spun_and_tilted(ranges.axis, spin, across, tilt)


def spun_and_tilted(axis: Vector, spin: float, across: float, tilt: float) -> np.ndarray:
    """(4,) the turn that faces ``axis`` to the camera, spins by ``spin`` about it, and tilts by ``tilt`` about the direction ``across`` in
    the image's plane; radians."""
    upright, view = between(np.asarray(axis), np.array([0.0, 0.0, 1.0])), np.array([0.0, 0.0, 1.0])
    return product(about(np.array([np.cos(across), np.sin(across), 0.0]), tilt), product(about(view, spin), upright))


def within(direction: np.ndarray, spread: float, rng: np.random.Generator) -> np.ndarray:
    """A unit vector drawn uniformly from the cap of ``spread`` degrees about ``direction``."""
    low = np.cos(np.radians(spread))
    up, round_ = rng.uniform(low, 1.0), rng.uniform(0, 2 * np.pi)
    across = np.sqrt(max(0.0, 1 - up * up))
    local = np.array([across * np.cos(round_), across * np.sin(round_), up])
    return matrix(between(np.array([0.0, 0.0, 1.0]), direction)) @ local


def about(axis: np.ndarray, angle: float) -> np.ndarray:
    """(4,) the turn by ``angle`` radians about the unit ``axis``."""
    return np.array([np.cos(angle / 2), *(np.sin(angle / 2) * axis)])


def between(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(4,) the shortest turn that takes the direction ``start`` to ``end``."""
    (ax, ay, az), (bx, by, bz) = (np.asarray(v, float) / np.linalg.norm(v) for v in (start, end))
    along = ax * bx + ay * by + az * bz
    if along < -1 + 1e-12:
        side = np.cross([ax, ay, az], [1.0, 0.0, 0.0] if abs(ax) < 0.9 else [0.0, 1.0, 0.0])
        return about(side / np.linalg.norm(side), np.pi)
    four = np.array([1 + along, ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])
    return four / np.linalg.norm(four)


def product(q: np.ndarray, p: np.ndarray) -> np.ndarray:
    """(4,) first ``p``, then ``q``."""
    (a, b, c, d), (w, x, y, z) = np.asarray(q).tolist(), np.asarray(p).tolist()
    return np.array([
        a * w - b * x - c * y - d * z, a * x + b * w + c * z - d * y, a * y - b * z + c * w + d * x, a * z + b * y - c * x + d * w,
    ])  # fmt: skip


def matrix(q: np.ndarray) -> np.ndarray:
    """(3, 3) of a unit quaternion (w, x, y, z)."""
    w, x, y, z = np.asarray(q).tolist()  # plain numbers are quicker, one by one
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ])  # fmt: skip


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(v) for v in values)
