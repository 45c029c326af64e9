"""Which lamps' shadows a photograph shows: directions under which the part's own shadows fall where the picture is too dark.

Greedy, one lamp after the other: a shadow's worth is what it takes from the weighted squares that are left over once the light has
been solved for beside it (its columns projected out of the light's: orthogonal least squares, Chen, Billings and Luo 1989). A lamp in
whose light a highlight shines has a shadow in which it does not.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from detect.cad_descent import COARSE, KNOWN, shrunk
from synth.shadows import beside, cast, lamp_frame, lost, shining
from train.cad_form import CadForm
from train.shading import Placement, lit, ridge

NONE = np.empty((0, 3))
LAMPS, STARTS = 2, 3
APART = 15.0  # degrees between directions that are followed
TRIED, BEHIND = 300, -0.3  # directions over the sphere; of these, lamps further behind the part than this light nothing that is seen
WORTH = 0.06  # of what is left over where shadows could fall: one that explains less is none
MISSED = 0.03  # of the light: what must be left over for a shadow to be missed
GAIN = 0.1  # the share of what is left over that a lamp must take away
WIDE, CLOSE, SHADED = 18.0, 4.0, 4  # degrees about a likely lamp that is searched closely, and so many from shading
BRIGHT = 0.7  # of the light: no lamp is thought to give more
HOLLOW = 0.03  # share of hidden sky beyond which shadows are looked for
MIRRORED = 25.0  # degrees about the lamp that a highlight tells of in which it may be: along a cylinder, a highlight tells little
SHINE = 1.5  # of a highlight as it is thought to be: its shadow takes no more
GRAZING = 0.05  # of a lamp's cosine: its light is not divided by less
TURNS = (6.0, 3.0, 1.5, 0.75, 0.4)  # degrees by which a lamp is moved to see whether its shadow falls better


class Lamps:
    """The shadows of one photograph at one pose. ``picture`` (S, S) linear light; ``table``: reflectance maps, the last of them of
    ``lobes`` (H, 4), the directions and exponents of its highlights; ``hints`` (L, 3): lamps that are likely."""

    def __init__(
        self, form: CadForm, picture: np.ndarray, at: Placement, table: np.ndarray, lobes: np.ndarray, hints: np.ndarray = NONE
    ) -> None:
        self.form, self.picture, self.at, self.table, self.lobes = form, picture, at, table, lobes
        self.hints = np.concatenate([mirrored(lobes), hints])

    def quick(self, tried: np.ndarray) -> np.ndarray:
        """(0 or 1, 3): the lamp near one of ``tried`` (C, 3) that explains most, roughly: enough to tell poses apart."""
        light = Light(self, COARSE, NONE)
        if not len(tried) or light.missing < MISSED:
            return NONE
        worth = light.worth(*light.shadows(tried))
        return self._moved(light, tried[worth.argmax()], TURNS[1:3])[0][None] if worth.max() > WORTH else NONE

    def found(self) -> np.ndarray:
        """(L, 3) unit vectors towards the lamps, in the camera's frame."""
        lamps = NONE
        light = Light(self, COARSE, lamps)
        if light.missing < MISSED:
            return lamps
        tried = np.concatenate([DIRECTIONS, self.likely()])
        columns = light.shadows(tried)
        for _ in range(LAMPS):
            worth = light.worth(*columns)
            if worth.max() < WORTH:
                break
            sharp = Light(self, KNOWN, lamps)
            moved = [self._moved(sharp, tried[k], TURNS) for k in _peaks(tried, worth)]
            more = np.concatenate([lamps, max(moved, key=lambda m: m[1])[0][None]])
            if len(more) > 1:  # what the others were before this one was known
                more = self.better(more, TURNS[1:])
            if Light(self, KNOWN, more).missing > (1 - GAIN) * sharp.missing:
                break
            lamps, light = more, Light(self, COARSE, more)
        return lamps

    def better(self, lamps: np.ndarray, turns: tuple[float, ...] = TURNS[2:]) -> np.ndarray:
        """(L, 3): each of ``lamps`` (L, 3) moved by ``turns`` to where its shadow falls best beside the others'."""
        lamps = lamps.copy()
        for k in range(len(lamps)):
            lamps[k] = self._moved(Light(self, KNOWN, np.delete(lamps, k, 0)), lamps[k], turns)[0]
        return lamps

    def likely(self, close: float = CLOSE) -> np.ndarray:
        """(C, 3) directions ``close`` degrees apart about the lamps that highlights and shading tell of: what falls through a hole is
        seen from nowhere else."""
        centres = np.concatenate([self.hints, Light(self, COARSE, NONE).shaded()])
        apart = [k for k in range(len(centres)) if (centres[:k] @ centres[k] < np.cos(np.radians(WIDE / 2))).all()]
        return np.concatenate([NONE, *(_about(lamp, close) for lamp in centres[apart])])

    def _moved(self, light: Light, lamp: np.ndarray, turns: tuple[float, ...]) -> tuple[np.ndarray, float]:
        """The lamp near ``lamp`` whose shadow is worth most beside those of ``light``, and how much."""
        best = 0.0
        for angle in np.radians(turns):
            for _ in range(3):
                near = beside(lamp, angle)
                worth = light.worth(*light.shadows(near))
                best, lamp = float(worth.max()), near[worth.argmax()]
                if worth.argmax() == 0:
                    break
        return lamp, best


class Light:
    """The light of a photograph at ``size`` px, solved for with the shadows of ``lamps`` (L, 3)."""

    def __init__(self, about: Lamps, size: int, lamps: np.ndarray) -> None:
        self.about, size = about, min(size, len(about.picture))
        self.view = about.form.drawn(about.at, size, table=about.table, lamps=taken(lamps, about.lobes))
        image, count = shrunk(about.picture, size).ravel(), about.table.shape[2]
        self.light, made, self.weight = lit(self.view, image)
        self.left, self.hidden = np.nan_to_num(image - made), self.view.columns[:, count] > HOLLOW
        self.own = self.view.columns * self.weight[:, None]
        self.normal = self.own.T @ self.view.columns + np.diag(ridge(count, self.view.falloff + len(self.view.lost)))
        self.count = count

    def shaded(self) -> np.ndarray:
        """(<= SHADED, 3): the lamps that explain the shading of surfaces that nothing shadows, by non-negative least squares."""
        view = self.view
        use = (view.cover > 0.99) & (view.columns[:, self.count] < 0.01)
        if use.sum() < 4 * SHADED:
            return np.empty((0, 3))
        normals = view.normals(use)
        cosines = np.column_stack([np.ones(len(normals)), np.clip(normals @ DIRECTIONS.T, 0, None)])
        found = nnls(cosines, (view.columns @ self.light)[use])[0][1:]
        best = [k for k in np.argsort(-found, kind="stable")[:SHADED] if found[k] > 0.1 * found.max() > 0]
        return DIRECTIONS[best]

    @property
    def level(self) -> float:
        return max(abs(float(self.light[0])), 1e-3)

    @property
    def missing(self) -> float:
        """Mean of what is left over where the part hides its own sky, as a share of the light."""
        return float(np.abs(self.left[self.hidden]).mean()) / self.level if self.hidden.any() else 0.0

    def shadows(self, lamps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, C) what the shadows of these lamps would take by the cosine, and (N, C) of the highlights that they may be seen in."""
        form, at, view = self.about.form, self.about.at, self.view
        shaded = cast(form.item.corners, form.pivot, at, view.near, view.face, view.slope, lamps)
        shine = np.zeros((len(view.cover), len(lamps)))
        lobes = self.about.lobes
        mine = mirrored(lobes) @ lamps.T > np.cos(np.radians(MIRRORED))
        if mine.any():
            nz = np.sqrt(np.clip(1 - (view.slope**2).sum(2), 0, None))
            normals = np.concatenate([view.slope, nz[..., None]], 2)
            some = np.flatnonzero(mine.any(0))
            bright = [w * np.clip(normals @ lobe[:3], 0, None) ** lobe[3] for w, lobe in zip(self.light[self.count - len(lobes) : self.count], lobes, strict=True)]  # fmt: skip
            cosines = np.maximum(np.moveaxis(normals @ lamps[some].T, 2, 0), GRAZING)
            shine[:, some] = lost((shaded[some] / cosines * np.tensordot(mine[:, some].T, bright, 1)).astype(np.float32), view.samples)
        return lost(shaded, view.samples), shine

    def worth(self, columns: np.ndarray, shine: np.ndarray) -> np.ndarray:
        """(C,) share of the weighted squares left over, where any shadow could fall, that each of ``columns`` (N, C) would take away by
        darkening, with ``shine`` (N, C) or without; 0 where it would brighten."""
        pull, alone = self._pull(columns), np.maximum(self._beside(columns, columns), 0) + ridge(2)[1]
        most = BRIGHT * self.level
        darker = np.clip(-pull / alone, 0, most)
        gain = 2 * darker * -pull - darker**2 * alone
        some = np.flatnonzero(shine.any(0))
        if len(some):
            columns, shine, pull, alone = columns[:, some], shine[:, some], pull[some], alone[some]
            both = self._beside(columns, shine)
            pulled, bright = self._pull(shine), np.maximum(self._beside(shine, shine), 0) + ridge(2)[1]
            share = np.clip((alone * -pulled + both * pull) / np.maximum(alone * bright - both**2, 1e-9 * alone * bright), 0, SHINE)
            darker = np.clip((-pull - both * share) / alone, 0, most)
            joint = 2 * (darker * -pull + share * -pulled) - (darker**2 * alone + 2 * darker * share * both + share**2 * bright)
            gain[some] = np.maximum(gain[some], joint)
        total = float((self.weight * self.left**2)[self.hidden].sum())
        return gain / max(total, 0.2 * float(self.weight @ self.left**2), 1e-12)

    def _pull(self, columns: np.ndarray) -> np.ndarray:
        """(C,) how each of ``columns`` (N, C) goes with what is left over."""
        return (columns * self.weight[:, None]).T @ self.left

    def _beside(self, columns: np.ndarray, others: np.ndarray) -> np.ndarray:
        """(C,) how each of ``columns`` (N, C) goes with its like of ``others`` (N, C), beside all that the light can do."""
        along, across = self.own.T @ columns, self.own.T @ others
        return (columns * others * self.weight[:, None]).sum(0) - (along * np.linalg.solve(self.normal, across)).sum(0)


def mirrored(lobes: np.ndarray) -> np.ndarray:
    """(H, 3): the lamps that highlights (H, 4) mirror towards the camera."""
    return 2 * lobes[:, 2:3] * lobes[:, :3] - [0.0, 0.0, 1.0]


def taken(lamps: np.ndarray, lobes: np.ndarray) -> np.ndarray:
    """(L + H, 7): what the shadows of ``lamps`` (L, 3) take: of matt surfaces' light each its cosine, of highlights (H, 4) each its own,
    that lamp's which it mirrors most nearly. Rows of one lamp lie together."""
    whose = (mirrored(lobes) @ lamps.T).argmax(1) if len(lamps) else np.empty(0, int)
    rows = [np.empty((0, 7))]
    for k, lamp in enumerate(lamps):
        own = lobes[whose == k]
        rows.append(shining(np.repeat(lamp[None], 1 + len(own), 0), np.vstack([lamp, own[:, :3]]), np.r_[1.0, own[:, 3]]))
    return np.concatenate(rows)


def _peaks(tried: np.ndarray, worth: np.ndarray) -> list[int]:
    """The STARTS best directions that are not neighbours of a better one."""
    chosen: list[int] = []
    for k in np.argsort(-worth, kind="stable"):
        if worth[k] < 0.5 * worth.max() or len(chosen) == STARTS:
            break
        if all(tried[k] @ tried[other] < np.cos(np.radians(APART)) for other in chosen):
            chosen.append(int(k))
    return chosen


def _sphere(count: int) -> np.ndarray:
    """(n, 3) directions evenly over the sphere (Fibonacci's spiral) but for those BEHIND."""
    z = 1 - (2 * np.arange(count) + 1) / count
    angle = np.pi * (1 + 5**0.5) * np.arange(count)
    across = np.sqrt(1 - z**2)
    return np.stack([across * np.cos(angle), across * np.sin(angle), z], 1)[z > BEHIND]


def _about(lamp: np.ndarray, close: float) -> np.ndarray:
    """(n, 3) directions within WIDE degrees of ``lamp``, ``close`` apart."""
    steps = np.radians(np.arange(-WIDE, WIDE + close / 2, close))
    x, y = (s.ravel() for s in np.meshgrid(steps, steps))
    x, y = (s[x**2 + y**2 <= np.radians(WIDE) ** 2] for s in (x, y))
    frame = lamp_frame(lamp)
    found = lamp + x[:, None] * frame[0] + y[:, None] * frame[1]
    return found / np.linalg.norm(found, axis=1, keepdims=True)


DIRECTIONS = _sphere(TRIED)
