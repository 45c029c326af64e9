"""What a scene may have beside the part, its lamps and a pinhole camera: sky, lens, backdrop, dust, sensor. Frozen, data only.

What looks random in them (noise, textures, specks) comes from a ``seed`` that each holds: the same values draw the same picture.
"""

from __future__ import annotations

from dataclasses import dataclass

Vector = tuple[float, float, float]

BACKDROPS = ("plain", "gradient", "texture", "clutter", "image", "hdri")


@dataclass(frozen=True)
class Sky:
    """The light from all sides, in the camera's frame: ``above`` along ``up`` (unit length), ``below`` against it, linear light between
    (sRGB colours; their mean is scaled to the scene's ``ambient``); or an ``hdri`` file, an equirectangular map whose zenith is ``up``,
    turned by ``spin`` degrees about it, its mean radiance likewise scaled."""

    up: Vector = (0.0, 1.0, 0.0)
    above: Vector = (1.0, 1.0, 1.0)
    below: Vector = (1.0, 1.0, 1.0)
    hdri: str | None = None
    spin: float = 0.0


@dataclass(frozen=True)
class Lens:
    """Radial distortion (Brown 1966) in half widths of the picture: what a pinhole would show at r stands at r (1 + k1 r^2 + k2 r^4) from
    the middle. For OpenCV's terms multiply k1 by (width / (2 fx))^2, k2 by its square. ``aperture`` mm: the diameter of the pupil
    (depth of field, focused on the part's middle), which the path tracer alone draws."""

    k1: float = 0.0
    k2: float = 0.0
    aperture: float = 0.0


@dataclass(frozen=True)
class Backdrop:
    """What is behind the part; ``kind`` one of BACKDROPS. ``colors`` sRGB: one for plain, two for gradient and texture, several for
    clutter; ``angle`` degrees of a gradient; ``scale`` share of the picture's width that a texture's or clutter's coarsest piece is wide;
    ``file`` an image (or an HDRI) for ``image`` and ``hdri``; ``blur`` share of the width by which it is out of focus."""

    kind: str = "plain"
    colors: tuple[Vector, ...] = ((0.0, 0.0, 0.0),)
    angle: float = 0.0
    scale: float = 0.3
    blur: float = 0.0
    file: str | None = None
    seed: int = 0


@dataclass(frozen=True)
class Dust:
    """Specks and fibres on the part or in front of it, opaque at their middle: ``count`` of them, ``size`` share of the picture's width
    that the largest is long, ``colors`` sRGB that they are drawn from."""

    count: int
    size: float
    colors: tuple[Vector, ...] = ((0.1, 0.1, 0.1), (0.8, 0.8, 0.75))
    seed: int = 0


@dataclass(frozen=True)
class Sensor:
    """A camera's own doing, in the order in which light meets it.

    ``blur``: px, the standard deviation of its point spread. ``motion``: px along ``motion_angle`` degrees, while it was open.
    ``vignetting``: share of the light lost in a corner of the picture. ``exposure``: stops (EV). ``kelvin``: the colour temperature that it
    is balanced for, of light of 6504 K. ``bayer``: whether colours are interpolated from an RGGB mosaic. ``full_well``: electrons
    of a white pixel, whose shot noise follows (0: none); ``read_noise``: electrons. ``gamma``: exponent on the sRGB curve's output.
    ``jpeg``: quality of a compression, 0 for none.
    """

    blur: float = 0.0
    motion: float = 0.0
    motion_angle: float = 0.0
    vignetting: float = 0.0
    exposure: float = 0.0
    kelvin: float = 6504.0
    bayer: bool = False
    full_well: float = 0.0
    read_noise: float = 0.0
    gamma: float = 1.0
    jpeg: int = 0
    seed: int = 0
