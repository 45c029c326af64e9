"""What the camera will meet on the line: ranges of pose, camera, light, surface and background. Data only."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from cad.expressions import LARGEST

WIDEST, ANGLE = 149.0, 30.0  # degrees across a perspective image: at most, and by default
LAMPS, BRIGHTEST = 7, 100.0  # beside the first at most, and how bright each may be


def _ascending(pair: tuple[float, float]) -> tuple[float, float]:
    if max(map(abs, pair)) > LARGEST:
        raise ValueError(f"wanted numbers of at most {LARGEST:g}")
    if pair[0] > pair[1]:
        raise ValueError(f"the range is upside down: wanted [{pair[1]:g}, {pair[0]:g}]")
    return pair


def _direction(vector: tuple[float, float, float]) -> tuple[float, float, float]:
    if not 1 / LARGEST <= math.hypot(*vector) <= LARGEST:
        raise ValueError(f"wanted a vector of a length between {1 / LARGEST:g} and {LARGEST:g}")
    return vector


Range = Annotated[tuple[float, float], AfterValidator(_ascending)]
Direction = Annotated[tuple[float, float, float], AfterValidator(_direction)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Color = tuple[Fraction, Fraction, Fraction]


class Strict(BaseModel):
    """Unknown keys are errors, as are infinite numbers; values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Turn(Strict):
    """``spin`` about ``axis``, then a ``tilt`` about a random axis across the view: degrees. The axis faces the camera."""

    axis: Direction = (0.0, 0.0, 1.0)
    spin: Range = (0.0, 360.0)
    tilt: Range = (0.0, 0.0)


def _or_range(high: float) -> object:
    """A number above 0 and at most ``high``, or a range of them."""

    def checked(value: object) -> object:
        numbers = value if isinstance(value, (list, tuple)) else (value,)
        fit = all(isinstance(v, (int, float)) and not isinstance(v, bool) and 0 < v <= high for v in numbers)
        if not fit or (numbers is value and not (len(numbers) == 2 and numbers[0] <= numbers[1])):
            raise ValueError(f"wanted a number above 0 and at most {high:g}, or a range [from, to] of such numbers")
        return tuple(numbers) if numbers is value else value

    return Annotated[float | tuple[float, float], BeforeValidator(checked)]


class Camera(Strict):
    """Looks along -Z. Orthographic: ``field`` mm across the image. Perspective: ``angle`` degrees across it. Either may be a range:
    where within it the camera is, is not known.

    ``fill``: the part's larger extent as a share of the image (perspective, or orthographic without ``field``);
    ``offset``: how far the part's middle may lie from the image's, as a share of its width.
    """

    projection: Literal["orthographic", "perspective"] = "orthographic"
    field: _or_range(LARGEST) | None = None
    angle: _or_range(WIDEST) | None = None
    fill: Range | None = None
    offset: Annotated[float, Field(ge=0, le=0.5)] = 0.0

    @model_validator(mode="after")
    def _whole(self) -> Camera:
        if self.projection == "perspective" and self.field is not None:
            raise ValueError("a perspective camera takes angle and fill, not field")
        if self.projection == "orthographic" and self.angle is not None:
            raise ValueError("an orthographic camera takes field or fill, not angle")
        if self.field is not None and self.fill is not None:
            raise ValueError("field and fill both set the scale: wanted one of them")
        if self.fill is not None and not 0 < self.fill[0] <= self.fill[1] <= 1.5:
            raise ValueError("fill is a share of the image: wanted 0 < low <= high <= 1.5")
        return self

    @property
    def perspective(self) -> bool:
        return self.projection == "perspective"

    @property
    def angles(self) -> tuple[float, float]:
        """Degrees across a perspective image, from and to."""
        return self.angle if isinstance(self.angle, tuple) else (self.angle or ANGLE,) * 2

    @property
    def fields(self) -> tuple[float, float] | None:
        """mm across an orthographic image, from and to; None where the part's own size sets it."""
        return self.field if isinstance(self.field, tuple) or self.field is None else (self.field,) * 2


class FurtherLamp(Strict):
    """One beside the first: ``power`` in the same unit as the first's, which is 1 - ambient, or a range."""

    direction: Direction
    spread: Annotated[float, Field(ge=0, le=180)] = 0.0
    power: _or_range(BRIGHTEST) = 0.3
    color: Color = (1.0, 1.0, 1.0)

    @property
    def powers(self) -> tuple[float, float]:
        return self.power if isinstance(self.power, tuple) else (self.power,) * 2


class Light(Strict):
    """A far lamp in ``direction`` (towards it, camera frame), within ``spread`` degrees; ``ambient`` share of the light from all sides;
    further ``lamps``; ``shadows``: whether the part casts any on itself."""

    direction: Direction = (0.3, 0.4, 0.87)
    spread: Annotated[float, Field(ge=0, le=180)] = 0.0
    ambient: Fraction = 0.3
    lamps: Annotated[tuple[FurtherLamp, ...], Field(max_length=LAMPS)] = ()
    shadows: bool = False


class Surface(Strict):
    """sRGB ``color``, ``roughness`` (0 mirror, 1 matt), ``metallic`` share of the reflection that takes the colour."""

    color: Color = (0.7, 0.7, 0.7)
    roughness: Fraction = 0.5
    metallic: Fraction = 0.0


class Background(Strict):
    """A plain colour behind the part."""

    color: Color = (0.0, 0.0, 0.0)


class Views(Strict):
    """The ``views`` block of a part file."""

    rotation: Literal["any"] | Turn = "any"
    camera: Camera = Camera()
    light: Light = Light()
    surface: Surface = Surface()
    background: Background = Background()
