"""The CAD form's detector: the same doors as the learned forms' (project, calibrate, inspect), with millimetres behind them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from cad.command import progress
from cad.files import fingerprint, sha256
from detect.cad_descent import APART, Fit, Pyramid, Search, Step
from detect.calibrate import Conformal, check_alpha
from detect.dimensions import Gauge, Measured, Refined, Suspect
from detect.evidence import evidence, from_outside, misfit, named_regions, pooled, score_of
from detect.inspection import Inspection, not_calibrated, read_calibration
from detect.look import despeckled
from detect.projection import chunks, one_thread_each
from synth.color import srgb
from synth.scene import Placement, about, matrix
from train.cad_form import LENS, CadForm, luminance, thinned
from train.lens import Lens
from train.photographs import Photograph
from train.residual_noise import ResidualNoise
from train.symmetry import turned_about

FORMAT = 4
ENOUGH = 0.5  # the quantile of good parts' coarse losses at which no further start is tried
SAMPLED = 80  # good images that noise and stopping are learned from, before all are scored as inspection will score them
STRANGE = (2.0, 0.25)  # a misfit above this many times the worst good one's, and above this, is no fit of this part
REACHES = (0.01, 0.4)  # shares of the picture between which what reaches in from its border is left out, and the search done again
UNVEILED = 2  # times that it is: what a wrong pose leaves over is taken for more of it
VEILED = 0.3  # share of the part that may be so hidden where it passes
NEAR = 0.01  # a mean log-likelihood no further than this below the first's, compared roughly, is worth a closer look
ALIKE = 0.002  # a second pose whose mean log-likelihood is no further than this below the first's fits as well
CONTENT = 0.75  # the quantile of good parts' terms above which second chances are sought
LEVEL = 0.999  # quantile of good parts' pixels above which a region lies
SHADED = 0.1  # share of good images with cast shadows above which all are searched for them
TERM = 0.97  # quantile of good parts that a term of the score is measured in
FACING = 0.03  # share of the misfit that a dimension must take away where its feature would have to be turned into view
SPUN = np.radians((-2.5, 0.0, 2.5))  # about the turn that is tried: the near-symmetries that were measured lie further apart
FAINT = 3.0  # deviates that a dimension out of tolerance must gain to count at all: most good parts have none that gains any
TRUSTED = 0.95  # share of good parts whose dimensions must not look out by more than 1.645 standard errors


@dataclass(frozen=True, eq=False)
class CadRun:
    """A run folder with a CAD form in it."""

    folder: Path
    form: CadForm


@dataclass(frozen=True, eq=False)
class CadCalibration:
    """What good images look like: their scores, their residuals by kind of pixel, the scale of each of a score's terms, the pixel level
    of a region, the coarse loss and the terms at which a search ends, the misfit of a good fit, whether the light casts shadows, and
    how far the dimensions' standard errors are to be trusted."""

    conformal: Conformal
    noise: ResidualNoise
    terms: tuple[float, float]
    level: float
    enough: float
    content: tuple[float, float]
    misfit: float
    shadows: bool
    trust: dict[str, float]
    run: str
    images: list[str]

    def json(self) -> dict[str, Any]:
        return {
            "format": FORMAT, "form": "cad", "run": self.run, "alpha": self.conformal.alpha, "n": len(self.conformal.scores),
            "threshold": self.conformal.threshold, "doubt": self.conformal.doubt(), "scores": [float(s) for s in self.conformal.scores],
            "terms": list(self.terms), "level": self.level, "enough": self.enough, "content": list(self.content), "misfit": self.misfit, "shadows": self.shadows, "trust": self.trust, "noise": self.noise.json(), "images": self.images,
        }  # fmt: skip

    @classmethod
    def of(cls, data: dict[str, Any]) -> CadCalibration:
        return cls(
            Conformal(np.asarray(data["scores"], float), data["alpha"]), ResidualNoise.from_json(data["noise"]), (float(data["terms"][0]), float(data["terms"][1])), data["level"], data["enough"], (float(data["content"][0]), float(data["content"][1])),
            data["misfit"], bool(data["shadows"]), data["trust"], data["run"], data["images"],
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Found:
    """A photograph's nearest good form; ``left``: the highest evidence that is left over, before a dimension was allowed to explain it;
    ``other`` the second pose, where it fits as well; ``suspect`` the dimension that would explain the photograph best if it were out of
    tolerance, as :meth:`Gauge.suspect` has it. ``steps`` of descent; ``seconds`` that it took, or the wall time of those projected
    together over their number."""

    fit: Fit
    refined: Refined
    anomaly: np.ndarray
    left: float
    other: Refined | None
    suspect: Suspect
    steps: int
    seconds: float


class CadDetector:
    """A CAD run ready to project, calibrate and inspect. Images are computed one by one, as many at a time as there are cores: neither
    their number nor their order changes a result."""

    def __init__(self, run: CadRun, *, calibration: CadCalibration | None = None) -> None:
        self.run, self.form = run, run.form
        self.starts: Callable[[np.ndarray, np.ndarray], list[Placement]] | None = None  # places to search from first: detect.pose_starts
        self.use(calibration)

    @property
    def size(self) -> int:
        return self.form.size

    @property
    def name(self) -> str:
        return self.run.folder.name

    @property
    def lens(self) -> Lens | None:
        """What photographs are to be straightened by."""
        return self.form.lens

    def use(
        self,
        calibration: CadCalibration | None,
        noise: ResidualNoise | None = None,
        enough: float | None = None,
        content: tuple[float, float] | None = None,
        shadows: bool = True,
    ) -> None:
        """From now on as ``calibration`` says; without one, by the form's own ``noise`` and from all starts."""
        self.calibration = calibration
        if calibration is not None:
            noise, enough, content, shadows = calibration.noise, calibration.enough, calibration.content, calibration.shadows
        self.content = content
        self.gauge = Gauge(self.form, noise, calibration.trust if calibration else None, shadows=shadows)
        self.search = Search(self.form, enough=enough)

    def project(self, pixels: np.ndarray, trace: list[Step] | None = None) -> Found:
        """(S, S, 3) uint8 -> the nearest good form."""
        began = time.perf_counter()
        picture = despeckled(luminance(pixels))
        stages: list[Step] = [] if trace is None else trace
        pyramid = Pyramid.of(picture)
        fits = self.search(pyramid, stages, self.starts(pixels, self.form.pivot) if self.starts else ())
        first = self.gauge.settled(picture, fits[0])
        whole, before = picture, np.zeros(picture.shape, bool)
        for _ in range(UNVEILED):
            hidden = from_outside(pooled(first.unveiled(whole, self.gauge.noise)), whole)
            hidden &= hidden.mean() > REACHES[0]
            if hidden.mean() >= REACHES[1] or (hidden ^ before).mean() <= REACHES[0]:
                break
            before = hidden  # it has drawn the light and the pose towards itself, or a wrong pose was taken for it
            picture = np.where(hidden, np.nan, whole)
            pyramid = Pyramid.of(picture)
            fits = self.search(pyramid, stages, [f.at for f in fits])
            first = self.gauge.settled(picture, fits[0])
        candidates, suspect = [first], self.gauge.suspect(first)
        suspects = self.content is None or score_of(evidence(first)) > self.content[0] or suspect[0] > self.content[1]
        if suspects:  # they get the full budget
            places = [first.at, *(f.at for f in fits[1:]), *self.search.turned(first.at)]
            losses = self.gauge.compared(picture, first, places)
            likely = losses[0] + NEAR
            others = [f for f, loss in zip(fits[1:], losses[1:], strict=False) if loss < likely]
            others += self.search.again(pyramid, places[len(fits) :], losses[len(fits) :], likely, stages)
            unlike = [f for k, f in enumerate(others) if all(self.form.symmetries.angle(f.at.turn, o.at.turn) > APART for o in others[:k])]
            candidates = sorted([first, *(self.gauge.settled(picture, f) for f in unlike)], key=lambda r: r.loss)
        refined = candidates[0]
        rivals = [
            c for c in candidates[1:] if c.loss <= refined.loss + ALIKE and self.form.symmetries.angle(c.at.turn, refined.at.turn) > APART
        ]
        other = min(rivals, key=lambda r: score_of(evidence(r)), default=None)
        steps = int(sum(np.isfinite(s.path[:, 0]).sum() for s in stages))
        suspect = suspect if refined is first else self.gauge.suspect(refined)
        left = score_of(evidence(refined))
        if suspects:
            facing, explained = self._facing(picture, refined, suspect)
            if facing.loss < refined.loss:  # a good form explains it better there, whatever its dimensions
                suspect, left = self.gauge.suspect(facing), score_of(evidence(facing))
            elif facing is not refined:
                suspect = explained
            refined = facing
        return Found(fits[0], refined, evidence(refined), left, other, suspect, steps, time.perf_counter() - began)

    def _facing(self, picture: np.ndarray, refined: Refined, suspect: Suspect) -> tuple[Refined, Suspect]:
        """The form whose feature, out of tolerance, faces the camera, where that explains more than ``refined`` does, which may have turned
        it out of sight."""
        axes, anomaly = self.form.symmetries.axes, evidence(refined)
        if not len(axes):
            return refined, suspect
        at = self.gauge.opposite(picture, refined, self.search.turned(refined.at), anomaly > 0.5 * anomaly.max())
        spun = [turned_about(at, matrix(about(axis, by)), self.form.corners) for axis in axes for by in SPUN]
        share, place = max(((self.gauge.turned_suspect(picture, refined, place)[0], place) for place in spun), key=lambda pair: pair[0])
        if share < FACING:
            return refined, suspect
        other = self.gauge.settled(picture, Fit(place, refined.light, 0.0, self.size))
        gain, name, by = self.gauge.suspect(other)
        gain -= picture.size * (other.loss - refined.loss)
        return (other, (gain, name, by)) if gain > suspect[0] + NEAR * picture.size else (refined, suspect)

    def projected(self, photographs: Sequence[Photograph]) -> list[Found]:
        """All of them, on all cores."""
        began = time.perf_counter()
        with one_thread_each() as pool, threadpool_limits(1):
            alone = len(photographs) == 1  # then its poses are mapped over the cores
            self.search.each = self.gauge.each = pool.map if alone else map
            try:
                found = list((map if alone else pool.map)(lambda p: self.project(p.pixels), photographs))
            finally:
                self.search.each = self.gauge.each = map
        return [replace(f, seconds=(time.perf_counter() - began) / len(found)) for f in found]

    def calibrate(self, photographs: Sequence[Photograph], alpha: float) -> CadCalibration:
        """From good photographs alone. Raises InputError where they are too few for ``alpha``."""
        check_alpha(alpha, len(photographs))
        sample = [photographs[k] for k in np.unique(np.linspace(0, len(photographs) - 1, SAMPLED).astype(int))]
        with progress(len(sample) + len(photographs), "calibrating", "images") as advance:
            self.use(None, content=(np.inf, np.inf))
            first = [f for part in chunks(sample) for f in self._told(part, advance)]
            rows = [(f.refined.found[s], f.refined.residual[s], f.refined.look.floor[s]) for f in first for s in [f.refined.seen]]
            noise = ResidualNoise.of(*thinned(*map(list, zip(*rows, strict=True))), self.form.noise)
            enough = float(np.quantile([f.fit.coarse for f in first], ENOUGH))
            again = [f.refined.under(noise) for f in first]
            gains = [self.gauge.suspect(r)[0] for r in again]
            content = (float(np.quantile([score_of(evidence(r)) for r in again], CONTENT)), float(np.quantile(gains, CONTENT)))
            shadows = float(np.mean([len(f.refined.look.lamps) > 0 for f in first])) > SHADED
            self.use(None, noise, enough, content, shadows)
            all_ = [_lighter(f) for part in chunks(photographs) for f in self._told(part, advance)]
        raw = np.array([terms_of(f) for f in all_])
        terms = (float(np.quantile(raw[:, 0], TERM)), float(max(np.quantile(raw[:, 1], TERM), FAINT)))
        own = np.sort((raw / terms).max(1))
        self.use(CadCalibration(
            Conformal(own, alpha), noise, terms, float(np.quantile(np.stack([f.anomaly for f in all_]), LEVEL)), enough, content, float(max(misfit(f.refined) for f in all_)), shadows,
            self._trust([f.refined for f in all_]), run_id(self.run), [p.path.name for p in photographs],
        ))  # fmt: skip
        return self.calibration

    def _told(self, photographs: Sequence[Photograph], advance: Any) -> list[Found]:
        found = self.projected(photographs)
        advance(len(photographs))
        return found

    def _trust(self, refined: list[Refined]) -> dict[str, float]:
        """Good parts are within tolerance: what their dimensions seem to be beyond it is error, and is to have its standard error."""
        beyond = np.array([(np.abs(r.free + self.gauge.start) - self.gauge.half) / r.free_sigma for r in refined])
        if not beyond.size:
            return {}
        return {n: float(max(1.0, q / 1.645)) for n, q in zip(self.gauge.names, np.quantile(beyond, TRUSTED, axis=0), strict=True)}

    def inspect(self, photographs: Sequence[Photograph]) -> Iterator[tuple[Inspection, np.ndarray, np.ndarray]]:
        """For each photograph: its Inspection, its anomaly map (S, S) float32, and its nearest form (S, S) float32 in grey [0, 1].

        Raises InputError where the run is not calibrated.
        """
        if self.calibration is None:
            raise not_calibrated(self.run.folder)
        for part in chunks(photographs):
            for photograph, found in zip(part, self.projected(part), strict=True):
                form = srgb(found.refined.made).astype(np.float32).reshape(self.size, self.size)
                yield self.report(photograph, found), found.anomaly, form

    def report(self, photograph: Photograph, found: Found) -> Inspection:
        """The verdict on one projected photograph."""
        began = time.perf_counter()
        conformal, refined = self.calibration.conformal, found.refined
        score, strange = self.score(found), misfit(refined)
        verdict, reason = conformal.verdict(score), None
        if strange > max(STRANGE[0] * self.calibration.misfit, STRANGE[1]):
            verdict, reason = "not this part", f"nothing the part can look like fits: {100 * strange:.0f} % of the picture is left over"
        elif verdict == "pass" and strange > STRANGE[0] * self.calibration.misfit:
            verdict, reason = "unsure", f"the fit leaves over {100 * strange:.0f} % of the picture, good parts {100 * self.calibration.misfit:.0f} % at most"  # fmt: skip
        elif (
            verdict == "fail"
            and found.other is not None
            and conformal.verdict(score_of(evidence(found.other)) / self.calibration.terms[0]) != "fail"
        ):
            verdict, reason = "unsure", "two poses fit alike, and the part is good in one of them"
        elif hidden := 1 - refined.view.cover[refined.seen].sum() / max(refined.view.cover.sum(), 1e-9):
            unseen = f"{100 * hidden:.0f} % of the part is hidden by what reaches in from the picture's border, and is not judged"
            verdict, reason = "unsure" if verdict == "pass" and hidden > VEILED else verdict, unseen
        measured: dict[str, Measured] = {}
        places: list[dict[str, Any]] = []
        if verdict != "not this part":
            with threadpool_limits(1):  # matrices this small are slower on several threads
                measured, added = self.gauge.report(
                    np.where(refined.seen.reshape(self.size, self.size), despeckled(luminance(photograph.pixels)), np.nan),
                    refined,
                    found.suspect if verdict != "pass" else None,
                )
        if verdict in ("fail", "unsure"):
            part, ids = self.form.part, self.form.item.feature
            out = [(part.features_of(name), effect) for name, effect in added.items()]
            places = named_regions(found.anomaly, self.calibration.level, refined, part.names, ids, out, photograph)
        return Inspection(
            str(photograph.path), score, conformal.p_value(score), conformal.threshold, verdict, places, self._pose(refined), found.steps,
            round(1e3 * (found.seconds + time.perf_counter() - began), 3), self.name, None, {n: m.json() for n, m in measured.items()}, reason,
        )  # fmt: skip

    def score(self, found: Found) -> float:
        """The larger of its terms, each in units of what TERM of good parts stay below."""
        return float(max(np.array(terms_of(found)) / self.calibration.terms))

    def _pose(self, refined: Refined) -> dict[str, Any]:
        """The placement: the rotation matrix, row by row, the pivot's place in mm, and what a pixel measures there."""
        at = refined.at
        return {
            "rotation": [[round(float(v), 6) for v in row] for row in at.turn],
            "position_mm": [round(float(v), 4) for v in at.position],
            "mm_per_pixel": round(float(at.mm_per_pixel(self.size)), 6),
        }


def terms_of(found: Found) -> tuple[float, float]:
    """The highest evidence on the anomaly map; the root of twice the log-likelihood that one dimension out of tolerance would gain: a
    standard normal deviate, had neighbouring pixels nothing to do with each other (Wilks 1938)."""
    return found.left, float(np.sqrt(2 * max(found.suspect[0], 0.0)))


def _lighter(found: Found) -> Found:
    """Without what only naming needs: a calibration holds many."""
    return replace(
        found,
        refined=replace(
            found.refined, effects={}, view=replace(found.refined.view, columns=np.empty(0), face=np.empty(0, int), near=np.empty(0))
        ),
        other=None,
    )


def run_id(run: CadRun) -> str:
    """Changes whenever the form does: a calibration holds for this one alone."""
    return fingerprint([sha256(run.folder / n) for n in ("form.safetensors", "noise.json", "part.yaml", LENS) if (run.folder / n).exists()])


def load_calibration(run: CadRun, path: Path | None = None) -> CadCalibration:
    """Raises InputError where the run has none, or one of another form or of a newer format."""
    return read_calibration(
        run.folder, path, CadCalibration.of, newest=FORMAT, oldest=FORMAT, own=run_id(run), other="another form", form="cad"
    )
