"""The classes of randomisation: what each may vary, within what ranges by default and when strong, and what it is held at when off."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from cad.errors import InputError
from cad.views import WIDEST, Camera, Fraction, Range, Strict, Turn, Views
from synth.backdrop import read_picture
from synth.color import of_kelvin, srgb
from synth.scene import Lamp, Scene, about, product, within
from synth.sky import read_map
from synth.surroundings import BACKDROPS, Backdrop, Dust, Lens, Sensor, Sky, Vector

PICTURES, MAPS = (".jpg", ".jpeg", ".png", ".webp", ".bmp"), (".hdr", ".exr")
TEMPERATURES = (1700.0, 25000.0)  # K, that a black body's colour is known for


def _camera(views: Views, **changes: Any) -> Views:
    return views.model_copy(update={"camera": Camera(**{**views.camera.model_dump(), **changes})})


def _light(views: Views, **changes: Any) -> Views:
    return views.model_copy(update={"light": views.light.model_copy(update=changes)})


def _temperatures(kelvin: tuple[float, float]) -> None:
    if not TEMPERATURES[0] <= kelvin[0] <= kelvin[1] <= TEMPERATURES[1]:
        raise ValueError(f"wanted colour temperatures of {TEMPERATURES[0]:g} to {TEMPERATURES[1]:g} K")


def _warm(kelvin: float) -> Vector:
    """The sRGB colour of a lamp, its strongest channel 1."""
    rgb = of_kelvin(kelvin)
    return _floats(srgb(rgb / rgb.max()))


def _tinted(tint: float, rng: np.random.Generator, value: float = 1.0) -> Vector:
    """A colour of any hue, saturated by ``tint`` at most."""
    return colorsys.hsv_to_rgb(rng.random(), tint * rng.random(), float(np.clip(value, 0, 1)))


def _files(path: str, endings: tuple[str, ...]) -> list[str]:
    """The file itself, or those of a folder, in order. Raises InputError where there is none."""
    found = (
        sorted(str(p) for p in Path(path).rglob("*") if p.suffix.lower() in endings)
        if Path(path).is_dir()
        else [path] * Path(path).is_file()
    )
    if not found:
        raise InputError(path, "holds no picture", wanted=f"a file, or a folder of files, of {', '.join(endings)}")
    return found


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


class Block(Strict):
    """The ranges of one class."""

    OFF: ClassVar[Callable[[Views], Views]] = staticmethod(lambda views: views)

    LEAST: ClassVar[dict[str, float]] = {}  # of ranges that may not go below a number
    MOST: ClassVar[dict[str, float]] = {}

    @model_validator(mode="after")
    def _within(self) -> Block:
        for name, least in self.LEAST.items():
            if getattr(self, name)[0] < least:
                raise ValueError(f"{name} is too small: wanted at least {least:g}")
        for name, most in self.MOST.items():
            if getattr(self, name)[1] > most:
                raise ValueError(f"{name} is too large: wanted at most {most:g}")
        return self

    def views(self, views: Views) -> Views:
        """The part file's own ranges, where the class widens them."""
        return views

    def scene(self, scene: Scene, rng: np.random.Generator) -> Scene:
        """A scene with what the class adds to it."""
        return scene

    def check(self) -> None:
        """Raises InputError where a file that the class names cannot be what it is to be."""


def _still(views: Views) -> Views:
    turn = views.rotation if isinstance(views.rotation, Turn) else Turn(spin=(0.0, 0.0))
    spin, tilt = (sum(r) / 2 for r in (turn.spin, turn.tilt))
    return views.model_copy(update={"rotation": Turn(axis=turn.axis, spin=(spin, spin), tilt=(tilt, tilt))})


class Pose(Block):
    """``tilt``: degrees by which the file's range of tilts grows at its upper end (no matter where any rotation may be seen)."""

    OFF: ClassVar = staticmethod(_still)
    tilt: Annotated[float, Field(ge=0, le=90)] = 0.0

    def views(self, views: Views) -> Views:
        turn = views.rotation
        if not isinstance(turn, Turn):
            return views
        return views.model_copy(update={"rotation": Turn(axis=turn.axis, spin=turn.spin, tilt=(turn.tilt[0], turn.tilt[1] + self.tilt))})


def _centred(views: Views) -> Views:
    fill = views.camera.fill
    return _camera(views, offset=0.0, **({"fill": (sum(fill) / 2,) * 2} if fill else {}))


class Position(Block):
    """``offset``: share of the picture's width by which the part's middle may lie further off; ``scale``: how many times as large as the file
    has it the part may appear."""

    OFF: ClassVar = staticmethod(_centred)
    LEAST: ClassVar = {"scale": 0.05}
    MOST: ClassVar = {"scale": 20.0}
    offset: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    scale: Range = (0.95, 1.05)

    def scene(self, scene: Scene, rng: np.random.Generator) -> Scene:
        away, grow = rng.uniform(-1, 1, 2) * self.offset, rng.uniform(*self.scale)
        x, y, z = scene.position
        if scene.field is not None:
            field = scene.field / grow
            return replace(scene, field=field, position=(x / grow + away[0] * field, y / grow + away[1] * field, z))
        z, width = z / grow, 2 * np.tan(np.radians(scene.angle) / 2) * -z / grow
        return replace(scene, position=(x / grow + away[0] * width, y / grow + away[1] * width, z))


class LightDirection(Block):
    """``spread``: degrees about the file's direction in place of the file's."""

    OFF: ClassVar = staticmethod(lambda views: _light(views, spread=0.0))
    spread: Annotated[float, Field(ge=0, le=180)] = 30.0

    def views(self, views: Views) -> Views:
        return _light(views, spread=self.spread)


def _steady(views: Views) -> Views:
    lamps = tuple(lamp.model_copy(update={"spread": 0.0, "power": sum(lamp.powers) / 2}) for lamp in views.light.lamps)
    return _light(views, lamps=lamps)


class Lights(Block):
    """``number`` of further lamps, each of ``power`` (the file's first has 1 - ambient), in front; ``size``: degrees, half the angle that a
    lamp's disc fills; ``kelvin``: colour temperature of each; ``shadows``: in what share of the views the part casts any."""

    OFF: ClassVar = staticmethod(_steady)
    LEAST: ClassVar = {"power": 0.0, "size": 0.0}
    MOST: ClassVar = {"power": 100.0, "size": 80.0}
    number: tuple[Annotated[int, Field(ge=0, le=7)], Annotated[int, Field(ge=0, le=7)]] = (0, 2)
    power: Range = (0.1, 0.5)
    size: Range = (0.0, 5.0)
    kelvin: Range = (4500.0, 7500.0)
    shadows: Fraction = 1.0

    @model_validator(mode="after")
    def _possible(self) -> Lights:
        _temperatures(self.kelvin)
        if self.number[0] > self.number[1]:
            raise ValueError(f"number is upside down: wanted [{self.number[1]}, {self.number[0]}]")
        return self

    def scene(self, scene: Scene, rng: np.random.Generator) -> Scene:
        number = int(rng.integers(self.number[0], self.number[1] + 1))
        front = np.array([0.0, 0.0, 1.0])
        lamps = [
            Lamp(_floats(within(front, 80.0, rng)), rng.uniform(*self.power), _warm(rng.uniform(*self.kelvin)), rng.uniform(*self.size))
            for _ in range(number)
        ]
        color, size, shadows = _warm(rng.uniform(*self.kelvin)), rng.uniform(*self.size), bool(rng.random() < self.shadows)
        return replace(scene, lamps=(*scene.lamps, *lamps), light_color=color, light_size=size, shadows=shadows or scene.shadows)


class Ambient(Block):
    """``level``: the share of the light that comes from all sides; ``tint``: how far the sky's colours above and below differ; ``hdri``: a
    map or a folder of them, turned at random, in place of that; ``occlusion``: directions of the sky that the part may hide."""

    LEAST: ClassVar = {"level": 0.0}
    MOST: ClassVar = {"level": 1.0}
    level: Range = (0.15, 0.5)
    tint: Fraction = 0.2
    hdri: str | None = None
    occlusion: Annotated[int, Field(ge=0, le=256)] = 0

    def check(self) -> None:
        for file in _files(self.hdri, (*MAPS, *PICTURES)) if self.hdri is not None else ():
            read_map(file)

    def scene(self, scene: Scene, rng: np.random.Generator) -> Scene:
        level, up = rng.uniform(*self.level), within(np.array([0.0, 1.0, 0.0]), 60.0, rng)
        above, below = (_tinted(self.tint, rng) for _ in range(2))
        sky = Sky(_floats(up), above, below)
        if self.hdri is not None:
            found = _files(self.hdri, (*MAPS, *PICTURES))
            sky = Sky(_floats(up), hdri=found[int(rng.integers(len(found)))], spin=rng.uniform(0, 360))
        return replace(scene, ambient=float(np.clip(level, 0, 1)), sky=sky, occlusion=self.occlusion)


class Surface(Block):
    """``lightness``: times that of the file's colour; ``tint``: how far its hue and saturation may move; ``roughness`` and ``metallic``: by
    how much they may differ from the file's."""

    LEAST: ClassVar = {"lightness": 0.0}
    lightness: Range = (0.85, 1.15)
    tint: Fraction = 0.05
    roughness: Range = (-0.1, 0.1)
    metallic: Range = (0.0, 0.0)

    def scene(self, scene: Scene, rng: np.random.Generator) -> Scene:
        hue, saturation, value = colorsys.rgb_to_hsv(*scene.color)
        hue, more = (hue + self.tint * rng.uniform(-0.5, 0.5)) % 1, self.tint * rng.random()
        color = colorsys.hsv_to_rgb(hue, min(1.0, saturation + more), min(1.0, value * rng.uniform(*self.lightness)))
        roughness, metallic = scene.roughness + rng.uniform(*self.roughness), scene.metallic + rng.uniform(*self.metallic)
        return replace(scene, color=color, roughness=float(np.clip(roughness, 0, 1)), metallic=float(np.clip(metallic, 0, 1)))


def _middling(views: Views) -> Views:
    camera = views.camera
    middle = {name: sum(v) / 2 for name in ("field", "angle") if isinstance(v := getattr(camera, name), tuple)}
    return _camera(views, **middle)


class CameraBlock(Block):
    """``lean``: degrees by which the camera is off the direction that the file has; ``angle``: times the file's angle of view (perspective);
    ``k1``: distortion in half widths of the picture; ``aperture``: mm, for depth of field (cycles alone draws it)."""

    OFF: ClassVar = staticmethod(_middling)
    LEAST: ClassVar = {"angle": 0.05, "lean": 0.0, "aperture": 0.0}
    MOST: ClassVar = {"angle": 20.0, "lean": 90.0}
    lean: Range = (0.0, 3.0)
    angle: Range = (0.95, 1.05)
    k1: Annotated[Range, Field(description="half widths")] = (-0.02, 0.02)
    aperture: Range = (0.0, 0.0)

    @model_validator(mode="after")
    def _mild(self) -> CameraBlock:
        if not -0.07 <= self.k1[0] <= self.k1[1] <= 0.3:
            raise ValueError("beyond that the picture's corners fold over: wanted k1 within -0.07 and 0.3")
        return self

    def scene(self, scene: Scene, rng: np.random.Generator) -> Scene:
        across, lean = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(*self.lean))
        turn = product(about(np.array([np.cos(across), np.sin(across), 0.0]), lean), np.asarray(scene.quaternion))
        factor, k1, aperture = rng.uniform(*self.angle), rng.uniform(*self.k1), rng.uniform(*self.aperture)
        scene = replace(scene, quaternion=_floats(turn))
        if k1 or aperture:
            scene = replace(scene, lens=Lens(k1, 0.0, aperture))
        if scene.angle is None:
            return scene
        angle = min(WIDEST, scene.angle * factor)  # and as far away as it takes to appear as large
        nearer = np.tan(np.radians(scene.angle) / 2) / np.tan(np.radians(angle) / 2)
        return replace(scene, angle=angle, position=(*scene.position[:2], scene.position[2] * nearer))


class Background(Block):
    """``kinds`` that it is drawn from; ``lightness`` and ``tint`` of its colours; ``files``: an image or a folder of them for ``image``, and of
    maps for ``hdri``; ``blur``: share of the picture's width by which it is out of focus."""

    LEAST: ClassVar = {"lightness": 0.0, "blur": 0.0}
    MOST: ClassVar = {"lightness": 1.0, "blur": 0.5}
    kinds: tuple[Literal[BACKDROPS], ...] = ("plain", "gradient")
    lightness: Range = (0.0, 0.6)
    tint: Fraction = 0.2
    files: str | None = None
    blur: Range = (0.0, 0.01)

    @model_validator(mode="after")
    def _found(self) -> Background:
        if not self.kinds:
            raise ValueError(f"wanted at least one of {', '.join(BACKDROPS)}")
        if self.files is None and {"image", "hdri"} & set(self.kinds):
            raise ValueError("image and hdri want files: wanted files, an image, a map, or a folder of them")
        return self

    def check(self) -> None:
        for kind, endings, opened in (("image", PICTURES, read_picture), ("hdri", MAPS + PICTURES, read_map)):
            for file in _files(str(self.files), endings) if kind in self.kinds else ():
                opened(file)

    def scene(self, scene: Scene, rng: np.random.Generator) -> Scene:
        kind = self.kinds[int(rng.integers(len(self.kinds)))]
        colors = tuple(_tinted(self.tint, rng, rng.uniform(*self.lightness)) for _ in range(6 if kind == "clutter" else 2))
        file = None
        if kind in ("image", "hdri"):
            found = _files(str(self.files), MAPS + PICTURES if kind == "hdri" else PICTURES)
            file = found[int(rng.integers(len(found)))]
        angle, scale, blur = rng.uniform(0, 360), rng.uniform(0.1, 0.6), rng.uniform(*self.blur)
        return replace(scene, backdrop=Backdrop(kind, colors, angle, scale, blur, file, _seed(rng)))


class SensorBlock(Block):
    """``exposure`` stops; ``kelvin`` that white is set for (light of 6504 K); ``gamma``: exponent on the sRGB curve; ``blur`` and ``motion``
    px; ``vignetting``: share lost in a corner; ``full_well`` and ``read_noise`` electrons; ``bayer`` and ``compressed``: shares of the views
    with a colour mosaic, and saved as JPEG of a ``jpeg`` quality."""

    exposure: Range = (-0.3, 0.3)
    kelvin: Range = (5500.0, 7500.0)
    gamma: Range = (0.95, 1.05)
    blur: Range = (0.0, 0.7)
    motion: Range = (0.0, 0.5)
    vignetting: Range = (0.0, 0.2)
    full_well: Range = (5000.0, 20000.0)
    read_noise: Range = (2.0, 8.0)
    bayer: Fraction = 0.5
    compressed: Fraction = 0.3
    jpeg: Range = (85.0, 98.0)

    @model_validator(mode="after")
    def _possible(self) -> SensorBlock:
        _temperatures(self.kelvin)
        if not 1 <= self.jpeg[0] <= self.jpeg[1] <= 100:
            raise ValueError("jpeg is a quality: wanted 1 to 100")
        if not 0 <= self.vignetting[0] <= self.vignetting[1] <= 1:
            raise ValueError("vignetting is a share: wanted 0 to 1")
        if min(self.blur[0], self.motion[0], self.full_well[0], self.read_noise[0], self.gamma[0] - 0.1) < 0:
            raise ValueError("wanted blur, motion, full_well and read_noise of at least 0, gamma of at least 0.1")
        return self

    def scene(self, scene: Scene, rng: np.random.Generator) -> Scene:
        names = ("exposure", "kelvin", "gamma", "blur", "motion", "vignetting", "full_well", "read_noise")
        drawn = {name: float(rng.uniform(*getattr(self, name))) for name in names}
        bayer, squeezed, quality = rng.random() < self.bayer, rng.random() < self.compressed, round(rng.uniform(*self.jpeg))
        angle = rng.uniform(0, 180)
        sensor = Sensor(**drawn, motion_angle=angle, bayer=bool(bayer), jpeg=quality if squeezed else 0, seed=_seed(rng))
        return replace(scene, sensor=sensor)


class DustBlock(Block):
    """``count`` of specks and fibres before the part; ``size``: share of the picture's width that the largest is long."""

    LEAST: ClassVar = {"size": 0.001}
    MOST: ClassVar = {"size": 0.5}
    count: tuple[Annotated[int, Field(ge=0, le=500)], Annotated[int, Field(ge=0, le=500)]] = (0, 4)
    size: Range = (0.01, 0.03)

    @model_validator(mode="after")
    def _possible(self) -> DustBlock:
        if self.count[0] > self.count[1]:
            raise ValueError(f"count is upside down: wanted [{self.count[1]}, {self.count[0]}]")
        return self

    def scene(self, scene: Scene, rng: np.random.Generator) -> Scene:
        count, size = int(rng.integers(self.count[0], self.count[1] + 1)), rng.uniform(*self.size)
        return replace(scene, dust=Dust(count, size, seed=_seed(rng))) if count else scene


CLASSES: dict[str, type[Block]] = {
    "pose": Pose,
    "position": Position,
    "light_direction": LightDirection,
    "lights": Lights,
    "ambient": Ambient,
    "surface": Surface,
    "camera": CameraBlock,
    "background": Background,
    "sensor": SensorBlock,
    "dust": DustBlock,
}
STRONG: dict[str, Block] = {
    "pose": Pose(tilt=10.0),
    "position": Position(offset=0.12, scale=(0.8, 1.2)),
    "light_direction": LightDirection(spread=75.0),
    "lights": Lights(number=(0, 4), power=(0.1, 1.0), size=(0.0, 20.0), kelvin=(2500.0, 10000.0)),
    "ambient": Ambient(level=(0.05, 0.8), tint=0.6),
    "surface": Surface(lightness=(0.4, 1.4), tint=0.4, roughness=(-0.4, 0.4), metallic=(-0.3, 0.3)),
    "camera": CameraBlock(lean=(0.0, 8.0), angle=(0.7, 1.4), k1=(-0.05, 0.05)),
    "background": Background(kinds=("plain", "gradient", "texture", "clutter"), lightness=(0.0, 1.0), tint=0.7, blur=(0.0, 0.03)),
    "sensor": SensorBlock(
        exposure=(-1.0, 0.7), kelvin=(4000.0, 10000.0), gamma=(0.8, 1.25), blur=(0.0, 1.5), motion=(0.0, 3.0), vignetting=(0.0, 0.5),
        full_well=(500.0, 20000.0), read_noise=(2.0, 20.0), compressed=0.5, jpeg=(40.0, 98.0),
    ),
    "dust": DustBlock(count=(0, 20), size=(0.01, 0.08)),
}  # fmt: skip
