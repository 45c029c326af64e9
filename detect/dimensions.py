"""Pose, light and the part's own dimensions together, to the last tenth of a pixel: the statistical end of a descent.

Dimensions are first held within their tolerances (a good form is a part in tolerance); then each is freed in turn, to be measured, and
tried far out of its tolerance, to see whether that makes the photograph likelier.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from cad.errors import InputError
from cad.part import Tolerance
from detect.cad_descent import COARSE, KNOWN, Fit, best_spin, shrunk
from detect.gauss_newton import PARAMETERS, fill_jacobian
from detect.lamps import NONE, Lamps, mirrored, taken
from detect.least_squares import SPREAD, Problem, held_now
from detect.look import FINE, Look, blur_of, finer, grain, with_lobes
from detect.terminators import with_terminators
from synth.drawable import Drawable
from train.cad_form import SAMPLES, CadForm
from train.residual_noise import ResidualNoise, kinds
from train.shading import FULL, Placement, Sheet, lit, narrowed

ROUNDS = 2
HIDDEN = 1e3  # the deviation of a pixel that something hides: any residual is as good as none
SURE = 3.0  # standard errors beyond a limit at which a dimension is out
TELLS = 0.5  # px: a dimension whose standard error is larger than this, in the image, is one that the view cannot tell
STEP = 0.3  # px: by which a dimension is moved to see what it does
SHARP, PATIENCE = 0.03, 10  # px to which a dimension is measured, and the parts that are built for it at most
PROBES = (0.02, 0.01, 0.035, 0.06, 0.1)  # of the part's size: changes of a dimension that a photograph is tried with, the first of each
WORTH = 8.0  # nats that such a change must gain
COARSEST = 64  # px at which poses are tried with a dimension out of tolerance
FAR = 0.05  # by how much the loss of a rough comparison may exceed that of the first, for a place to be compared closely
SPINS, TOLD = (3.0, 1.5, 0.75), 8.0  # degrees of a spin that is tried, and nats that it must gain
ENDED = 0.02  # of a mean log-likelihood: what the ends of lamps' light must gain, beside which shadows and highlights are found anew
ROUGH = 9.0  # degrees between the lamps that poses are compared under


Solid = tuple[Drawable, np.ndarray]  # ready to draw, and its triangles' hidden sky
Suspect = tuple[float, str | None, float]  # what a dimension out of tolerance gains, its name, the mm of the change


@dataclass(frozen=True)
class Measured:
    """A dimension in a photograph, mm. ``sigma``: standard error; ``ok``: None where this view cannot tell."""

    value: float | None
    nominal: float
    plus: float
    minus: float
    sigma: float | None
    ok: bool | None

    @classmethod
    def of(cls, tolerance: Tolerance, value: float | None, sigma: float | None) -> Measured:
        """Judged against its tolerance: out where it lies SURE standard errors beyond a limit. ``value`` None: not told."""
        if value is None:
            return cls(None, tolerance.nominal, tolerance.plus, tolerance.minus, None, None)
        ok = not max(tolerance.low - value, value - tolerance.high) > SURE * sigma
        return cls(round(float(value), 4), tolerance.nominal, tolerance.plus, tolerance.minus, round(float(sigma), 4), ok)

    def text(self, name: str) -> str:
        wanted = Tolerance(self.nominal, self.plus, self.minus)
        if self.value is None:
            return f"{name}: this view cannot tell, wanted {wanted}"
        if self.ok:
            return f"{name} {self.value:.2f} mm (± {self.sigma:.2f}), wanted {wanted}: in"
        short = self.value < wanted.low
        off = wanted.nominal - self.value if short else self.value - wanted.nominal
        return f"{name} {self.value:.2f} mm (± {self.sigma:.2f}), wanted {wanted}: out, {off:.2f} {'short' if short else 'over'}"

    def json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Refined:
    """The nearest good form. ``within`` (D,): each dimension in half tolerances from the middle of its tolerance's range, held there;
    ``free`` (D,) and ``free_sigma`` (D,): mm beyond nominal if only it were free, and the standard error; ``residual`` (N,) linear
    light, ``deviation`` (N,) what a good part leaves there; ``made`` (N,) the form's picture; ``view`` its buffers; ``effects`` {dimension: (N,)}
    what half a tolerance more of each would add to the picture; ``found`` (N, kinds) the pixels' kinds."""

    at: Placement
    light: np.ndarray
    within: np.ndarray
    free: np.ndarray
    free_sigma: np.ndarray
    made: np.ndarray
    residual: np.ndarray
    deviation: np.ndarray
    found: np.ndarray
    view: Sheet
    look: Look
    effects: dict[str, np.ndarray]

    @property
    def seen(self) -> np.ndarray:
        """(N,) bool: not hidden by something before the part."""
        return self.deviation < HIDDEN

    def under(self, noise: ResidualNoise) -> Refined:
        """The same form, judged by what other good parts leave over."""
        return replace(self, deviation=np.where(self.seen, noise.deviation(self.found, self.look.floor), HIDDEN))

    def unveiled(self, picture: np.ndarray, noise: ResidualNoise) -> Refined:
        """The same form beside all of ``picture`` (S, S), nothing of it left out."""
        return replace(self, residual=picture.ravel() - self.made, deviation=noise.deviation(self.found, self.look.floor))

    @property
    def loss(self) -> float:
        """Mean negative log-likelihood of the residuals (Cauchy's law, each pixel with its own deviation): forms of one photograph
        compare by it."""
        return float(np.mean(np.log(self.deviation) + np.log1p((self.residual / self.deviation) ** 2)))

    @property
    def anomaly(self) -> np.ndarray:
        """(S, S) float32: the residual in units of what good parts leave at this kind of pixel, signed."""
        return (self.residual / self.deviation).reshape(self.view.size, self.view.size).astype(np.float32)


class Gauge:
    """Measures a form's dimensions. ``noise`` is what good parts leave over; a calibration replaces the form's own. ``each`` maps over
    drawings: a pool's map, where cores are idle."""

    def __init__(
        self, form: CadForm, noise: ResidualNoise | None = None, trust: dict[str, float] | None = None, *, shadows: bool = True
    ) -> None:
        """``trust`` {dimension: factor}: by how much standard errors fell short on good parts; 1 where it is not known. ``shadows``: whether
        the light of these photographs casts any."""
        self.form, self.noise, self.trust, self.shadows = form, noise or form.noise, trust or {}, shadows
        self.each: Callable = map
        self.names = [n for n, t in form.part.dimensions.items() if t.plus + t.minus > 0]
        tolerances = [form.part.dimensions[n] for n in self.names]
        self.half = np.array([(t.plus + t.minus) / 2 for t in tolerances])
        self.middle = np.array([t.nominal + (t.plus - t.minus) / 2 for t in tolerances])
        self.start = np.array([t.nominal for t in tolerances]) - self.middle
        self.probes: dict[tuple[str, float], Solid | None] = {}
        self.variants = [self.both_ways(n, form.part.nominal, h) for n, h in zip(self.names, self.half, strict=True)]

    def both_ways(self, name: str, sizes: dict[str, float], step: float) -> tuple[Solid, Solid]:
        """The part of these ``sizes``, one dimension less and more by ``step`` mm. Raises InputError where it cannot be built so."""
        return self.built({**sizes, name: sizes[name] - step}), self.built({**sizes, name: sizes[name] + step})

    def built(self, dimensions: dict[str, float]) -> Solid:
        """A part of all these dimensions."""
        item = Drawable.of(self.form.coarse.mesh(dimensions))
        return item, self.form.hollow_of(item)

    def __call__(self, picture: np.ndarray, fit: Fit, known: Refined | None = None) -> Refined:
        """``picture`` (S, S) linear light, NaN where something hides the part or its background; ``fit`` at the same size; ``known``: a form
        whose look and light are this one's too."""
        image, size = picture.ravel(), len(picture)
        at, form = fit.at, self.form
        nominal = (form.item, form.hollow)
        look, light = self.look(picture, at) if known is None else (known.look, known.light)
        effects = 0.5 * self._effects(at, self.variants, look, light, size)
        offsets = self.start / np.maximum(self.half, 1e-12)
        within = np.zeros(len(offsets))
        for turn in range(ROUNDS + 1):
            problem = self._problem(image, at, nominal, light, effects, within - offsets, look, size)
            if turn == ROUNDS:
                break
            move = problem.bounded(np.full(len(within), SPREAD), within)
            at, light = problem.moved(at, move)
            within = within + problem.own(move)
        free, sigma = problem.freed(within, self.half, offsets)
        view = problem.view
        seen = dict(zip(self.names, problem.dimensions.T, strict=True))
        return Refined(at, light, within, free, sigma, problem.made, problem.residual, problem.deviation, problem.found, view, look, seen)

    def settled(self, picture: np.ndarray, fit: Fit) -> Refined:
        """As calling it, and again from where the part, spun about an axis of near-symmetry, makes the photograph likelier: in deviations
        of good parts' residuals a spin tells that a descent over robust residuals passes by."""
        refined = self(picture, fit)
        nats = self._likelihood(refined)
        best = best_spin(self.form, refined.at, nats, np.radians(SPINS), TOLD, self.each)
        if best is refined.at:
            return refined
        other = self(picture, replace(fit, at=best), refined)
        return other if other.loss < refined.loss else refined

    def compared(self, picture: np.ndarray, first: Refined, places: list[Placement]) -> list[float]:
        """Each place's loss at KNOWN px under the highlights of ``first``, in the light that suits it best, where shadows fall with a lamp
        of its own, and nominal dimensions: what it takes to rank them.

        A wrong turn about a near-symmetry changes little of the picture, and the shadows that another turn would cast are not
        seen from the first: each has to be asked for its own. Places that are far worse than the first at COARSE px, where no
        shadow is asked for, are not asked at all: their loss is infinite.
        """
        size, form, table, lobes = min(KNOWN, len(picture)), self.form, first.look.table, first.look.lobes
        rough = self._losses(shrunk(picture, COARSE), first.at, table, lambda at: NONE)
        losses = np.array(list(self.each(rough, places)))
        near = np.flatnonzero(losses < losses[0] + FAR)
        small = shrunk(picture, size)
        image, view = small.ravel(), form.drawn(first.at, size)
        if self.shadows and len(near) > 1:
            left = np.nan_to_num(image - lit(view, image)[1])
            hints = np.concatenate([mirrored(with_lobes(finer(form.table), view, left, np.ones(len(image)))[1]), first.look.lamps])
            tried = Lamps(form, small, first.at, form.table, np.empty((0, 4)), hints).likely(ROUGH)
            loss = self._losses(small, first.at, table, lambda at: taken(Lamps(form, small, at, table, lobes).quick(tried), lobes))
        else:
            loss = self._losses(small, first.at, table, lambda at: NONE)
        losses[:] = np.inf
        losses[near] = list(self.each(loss, [places[k] for k in near]))
        return losses.tolist()

    def _losses(
        self, picture: np.ndarray, first: Placement, table: np.ndarray, lamps: Callable[[Placement], np.ndarray]
    ) -> Callable[[Placement], float]:
        """A function that gives the loss of the nominal part at a place, in the light that suits it best and under its ``lamps``; the
        photograph's grain is told from where ``first`` has the part."""
        form, image, size = self.form, picture.ravel(), len(picture)
        floor = grain(image, form.drawn(first, size))

        def loss(at: Placement) -> float:
            seen = form.drawn(at, size, table=table, lamps=lamps(at))
            light, made, _ = lit(seen, image, rounds=4)  # that of the first suits the wrong pose
            deviation = self.noise.deviation(kinds(seen, made, light, table, form.hollow), floor)
            return float(np.mean(np.log(deviation))) + _loss(np.nan_to_num(image - made) / deviation)

        return loss

    def look(self, picture: np.ndarray, at: Placement) -> tuple[Look, np.ndarray]:
        """What the photograph's light and camera are like, seen from the pose that was found, and the light with it."""
        tables = with_terminators(finer(self.form.table), self.form.drawn(at, len(picture)), picture.ravel())
        told = [self._look(picture, at, table) for table in tables]
        return (told[-1] if told[-1][2] < told[0][2] - ENDED else told[0])[:2]

    def _look(self, picture: np.ndarray, at: Placement, ended: np.ndarray) -> tuple[Look, np.ndarray, float]:
        """As :meth:`look`, from the reflectance maps ``ended`` on, and the loss of what it leaves over."""
        form, image, size = self.form, picture.ravel(), len(picture)
        nodes = np.ascontiguousarray(ended[::FINE, ::FINE])  # as the form's own: bends between finer nodes are smaller
        floor, lamps = None, NONE
        for _ in range(2):  # a highlight can hide a shadow, and a shadow a highlight
            view = form.drawn(at, size, table=ended, lamps=lamps)
            light, made, _ = lit(view, image)
            floor = grain(image, view) if floor is None else floor
            deviation = self.noise.deviation(kinds(view, made, light, nodes, form.hollow), floor)
            left = np.nan_to_num(image - made)
            weight = np.isfinite(image) / (deviation**2 * np.maximum(1, np.abs(left) / (10 * deviation)))
            table, lobes = with_lobes(ended, view, left, weight)
            if len(lamps):
                lamps = Lamps(form, picture, at, table, lobes).better(lamps)
                break
            lamps = Lamps(form, picture, at, table, lobes).found() if self.shadows else lamps
            if not len(lamps):
                break
        view = form.drawn(at, size, table=table, lamps=taken(lamps, lobes))
        light, made, _ = lit(view, image)
        look = Look(table, lobes, lamps, blur_of(made, image, size), floor)
        deviation = self.noise.deviation(kinds(view, made, light, nodes, form.hollow), floor)
        loss = float(np.mean(np.log(deviation))) + _loss(np.nan_to_num(image - look.blurred(made, size)) / deviation)
        return look, light, loss

    def _effects(self, at: Placement, variants: list[tuple[Solid, Solid]], look: Look, light: np.ndarray, size: int) -> np.ndarray:
        """(N, D) what the way from low to high of each of D variants adds to the sharp picture, all seen from ``at``."""
        drawn = self._pictures(look, light)
        made = list(self.each(lambda solid: drawn(at, size, solid), [solid for variant in variants for solid in variant]))
        return np.stack(made[1::2], 1) - np.stack(made[::2], 1) if made else np.zeros((size**2, 0))

    def _problem(
        self, image: np.ndarray, at: Placement, solid: Solid, light: np.ndarray, effects: np.ndarray,
        within: np.ndarray, look: Look, size: int,
    ) -> Problem:  # fmt: skip
        form = self.form
        view = form.drawn(at, size, *solid, table=look.table, lamps=look.shadows)
        sharp = view.columns @ light + effects @ within
        jacobian = np.empty((len(image), PARAMETERS))
        fill_jacobian(
            view.near, view.face, view.slope, light, view.dark(light), look.table, solid[1], at.position, at.scale * size, at.perspective, size, SAMPLES, jacobian
        )  # fmt: skip
        rows = look.blurred(np.concatenate([sharp[:, None], jacobian, view.columns, effects], 1), size)
        rows[(image >= FULL) & (rows[:, 0] >= FULL), 1:] = 0.0  # however bright: the camera cannot tell
        made, jacobian, columns, own = np.split(rows, np.cumsum([1, PARAMETERS, view.columns.shape[1]]), 1)
        made = np.minimum(made, 1.0)
        found = kinds(view, made[:, 0], light, look.table, solid[1])
        seen = np.isfinite(image)
        residual = np.where(seen, image - made[:, 0], 0.0)
        deviation = np.where(seen, self.noise.deviation(found, look.floor), HIDDEN)
        return Problem(view, made[:, 0], residual, deviation, found, jacobian, columns, own, light, held_now(form, at))

    def opposite(self, picture: np.ndarray, refined: Refined, places: list[Placement], region: np.ndarray) -> Placement:
        """Of ``places`` the one that explains most of what ``refined`` leaves over in ``region`` (S, S) bool.

        A part with a notch too short is nearly as well explained by a good one whose notch is turned out of sight as by one whose
        notch is in its place. In the region itself the latter leaves nothing over.
        """
        size = min(len(picture), COARSEST)
        image, weight = shrunk(picture, size).ravel(), shrunk(region.astype(float), size).ravel()
        seen = np.isfinite(image)
        near = seen & (weight > 0.3 * weight[seen].max()) if weight[seen].any() else seen
        drawn = self._pictures(refined.look, refined.light)
        return places[int(np.argmin(list(self.each(lambda at: np.abs(image[near] - drawn(at, size)[near]).mean(), places))))]

    def _pictures(self, look: Look, light: np.ndarray) -> Callable[..., np.ndarray]:
        """A function that draws (N,) a solid, the nominal part by default, at a place in this light."""
        table, light = narrowed(look.table, light)
        return lambda at, size, solid=(): self.form.drawn(at, size, *solid, table=table, lamps=look.shadows).columns @ light

    def _likelihood(self, refined: Refined, but: np.ndarray | float = 0.0) -> Callable[..., float]:
        """A function that gives a solid, the nominal part by default, at a place the misfit in the photograph of ``refined``, nats: what
        dimensions within tolerance add there stays, ``but`` (N,) of it."""
        size, drawn = refined.view.size, self._pictures(refined.look, refined.light)

        def made(at: Placement, solid: Solid | tuple[()]) -> np.ndarray:
            return np.minimum(refined.look.blurred(drawn(at, size, solid), size), 1.0)

        left = refined.residual + made(refined.at, ()) + but
        return lambda at, solid=(): len(left) * _loss((left - made(at, solid)) / refined.deviation)

    def suspect(self, refined: Refined) -> Suspect:
        """The dimension whose change, by a share of PROBES of the part's size, makes the photograph likeliest: (the gain in
        log-likelihood, nats; its name; the mm of the change); (0, None, 0) where none helps. Small steps cannot tell: what a
        large change leaves is an outlier to them."""
        nats = self._likelihood(refined)
        return self._probed(lambda solid: nats(refined.at, solid), nats(refined.at))

    def turned_suspect(self, picture: np.ndarray, refined: Refined, at: Placement) -> Suspect:
        """As :meth:`suspect`, of a part that is placed elsewhere than ``refined`` has it, roughly: the gain is the share of the misfit of
        ``refined`` that is taken away."""
        size, drawn = min(len(picture), COARSEST), self._pictures(refined.look, refined.light)
        image = shrunk(picture, size).ravel()
        unit = 0.02 * max(float(np.nanstd(image)), 1e-3)

        def misfit(at: Placement, solid: Solid | tuple[()] = ()) -> float:
            return float(np.nanmean(np.sqrt((image - drawn(at, size, solid)) ** 2 + unit**2)))

        base, own = misfit(refined.at), misfit(at)
        gain, name, by = self._probed(lambda solid: misfit(at, solid), own)  # a small change may not make up for the turn yet
        return (gain + base - own) / base, name, by

    def _probed(self, loss: Callable[[Solid], float], best: float) -> Suspect:
        """The probe of the least ``loss``, and by how much that is below ``best``: each dimension by the first change, then the best one
        by the others."""
        found: Suspect = (0.0, None, 0.0)

        def tried(found: Suspect, probes: list[tuple[str, float]]) -> Suspect:
            built = [(solid, name, by) for name, by in probes if (solid := self._probe(name, by)) is not None]
            losses = self.each(loss, [solid for solid, _, _ in built])
            return max([found, *((best - own, name, by) for own, (_, name, by) in zip(losses, built, strict=True))], key=lambda f: f[0])

        size = self.form.mesh.diagonal
        found = tried(found, [(name, sign * PROBES[0] * size) for name in self.names for sign in (-1.0, 1.0)])
        if found[1] is None:
            return found
        return tried(found, [(found[1], float(np.sign(found[2])) * share * size) for share in PROBES[1:]])

    def _added(self, refined: Refined, name: str, offset: float) -> np.ndarray:
        """(N,) what a change of a dimension by ``offset`` mm adds to the picture."""
        view = self.form.drawn(
            refined.at, refined.view.size, *self._probe(name, offset), table=refined.look.table, lamps=refined.look.shadows
        )
        return np.minimum(refined.look.blurred(view.columns @ refined.light, refined.view.size), 1.0) - refined.made

    def _probe(self, name: str, offset: float) -> Solid | None:
        key = (name, round(offset, 6))
        if key not in self.probes:
            nominal = self.form.part.nominal
            try:
                self.probes[key] = self.built({**nominal, name: nominal[name] + offset}) if nominal[name] + offset > 0 else None
            except InputError:
                self.probes[key] = None
        return self.probes[key]

    def measure(self, picture: np.ndarray, refined: Refined, name: str, start: float) -> tuple[float, float, np.ndarray] | None:
        """(mm, standard error, (N,) what it adds to the picture) of one dimension however far from its tolerance, the likeliest about
        ``start`` mm beyond nominal, the part being built anew each time. None where no such part fits the photograph clearly better."""
        form, image, size, nominal = self.form, picture.ravel(), len(picture), self.form.part.nominal
        k, pixel = self.names.index(name), refined.at.mm_per_pixel(size)
        nats = self._likelihood(refined, refined.effects[name] * (refined.within[k] - self.start[k] / self.half[k]))

        def misfit(by: float, at: Placement = refined.at) -> float:
            try:
                return nats(at, self.built({**nominal, name: nominal[name] + by}))
            except InputError:  # no such part can be built
                return 1e12  # finite, for parabolas go through it

        steps = np.r_[0.0, np.sort(PROBES), 2 * max(PROBES)] * form.mesh.diagonal
        near = int(np.clip(np.abs(steps - abs(start)).argmin(), 1, len(steps) - 2))
        bounds = sorted(np.sign(start) * steps[[near - 1, near + 1]])
        found = minimize_scalar(misfit, bounds=bounds, method="bounded", options={"xatol": SHARP * pixel, "maxiter": PATIENCE})
        by, least = float(found.x), float(found.fun)
        if not least < len(image) * _loss(refined.residual / refined.deviation) - WORTH:
            return None
        reach = max(STEP * pixel, 0.5 * float(self.half[k]))
        try:
            solid, more = (self.built({**nominal, name: nominal[name] + mm}) for mm in (by, by - np.sign(by) * reach))
        except InputError:
            return None
        effects = self._effects(refined.at, [(more, solid)], refined.look, refined.light, size) * np.sign(by)
        problem = self._problem(image, refined.at, solid, refined.light, effects, np.zeros(1), refined.look, size)
        return nominal[name] + by, problem.error(np.zeros(1), 0) * reach, problem.made - refined.made

    def report(
        self, picture: np.ndarray, refined: Refined, suspect: Suspect | None = None
    ) -> tuple[dict[str, Measured], dict[str, np.ndarray]]:
        """Every dimension that has a tolerance; and {name: (N,) what it adds to the picture} of those out of it.

        The one given as ``suspect`` is measured to the end, and is among the latter even where that leads nowhere.
        """
        tells = TELLS * refined.at.mm_per_pixel(len(picture))
        measured, added = None, {}
        if suspect and suspect[0] > WORTH:
            measured = self.measure(picture, refined, *suspect[1:])
            added[suspect[1]] = measured[2] if measured else self._added(refined, *suspect[1:])
        result = {}
        for k, name in enumerate(self.names):
            tolerance, trust = self.form.part.dimensions[name], self.trust.get(name, 1.0)
            value, sigma = tolerance.nominal + refined.free[k], refined.free_sigma[k]
            if measured is not None and suspect[1] == name:
                value, sigma, _ = measured
            told = trust * sigma <= max(tells, self.half[k])
            result[name] = Measured.of(tolerance, value if told else None, trust * sigma)
            if result[name].ok is False:
                added.setdefault(name, refined.effects[name] * (refined.free[k] + self.start[k]) / self.half[k])
        return result, added


def _loss(z: np.ndarray) -> float:
    """Mean robust misfit of residuals in deviations: Cauchy's."""
    return float(np.mean(np.log1p(z**2)))
