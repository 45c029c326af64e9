"""The CAD form's detector for photographs whose finish no render has: outline and holes by descent, what k good photographs taught of the
part's surface in its own frame, and what a network that learned from renders marks beside the nearest form. The same doors as the other detectors' (calibrate, inspect); grey levels alone, and no overall brightness.

Each term of its score is in units of what TERM of good photographs stay below; the largest counts, so that none can veto another.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy import ndimage
from threadpoolctl import threadpool_limits

from cad.command import progress, say
from cad.errors import InputError
from cad.files import whole
from cad.views import Turn
from detect.cad_detector import TERM, CadRun, run_id
from detect.calibrate import Conformal, check_alpha
from detect.clutter import among_clutter
from detect.compare import regions
from detect.explain import by_votes
from detect.finding import finding
from detect.inspection import Inspection, not_calibrated, read_calibration, region_record
from detect.memory import CELLS, SIDE, Frame, Memory, framed, symmetry_of, unframed
from detect.outline import Outlined, OutlineSearch
from detect.projection import chunks, one_thread_each
from detect.silhouette import Silhouette, cluttered, silhouettes
from synth.poses import rotations
from synth.raycast import draw, truth
from synth.scene import about, product
from train import filters
from train.cad_form import luminance
from train.compare_fit import differences, open_network
from train.compare_network import Crop, beside
from train.lens import Lens
from train.photographs import Photograph

FORMAT = 2
SIZE = 160  # px at which photographs are read: an outline wants more of them than a render's light does
UPRIGHT = 30.0  # degrees of tilt up to which a part's frame is flat enough for a memory
LEVEL = 0.999  # quantile of good photographs' pixels above which a region lies
# of each term of the score: less than that is never its unit, however alike good photographs are
TERMS = {"outline": 0.02, "holes": 0.08, "memory": 1.0, "compare": 0.3}
RELIABLE = 0.8  # median IoU of good photographs' outlines with the form's, below which outlines are not to be had
ANOTHER = 0.5  # IoU of outlines below which a photograph shows no such part
STEP = 0.02  # of the part's diagonal: a step as high tells turns apart as well as a wall does


@dataclass(frozen=True, eq=False)
class PhotoCalibration:
    """What good photographs look like: their scores, the unit of each of TERMS that is asked, the levels above which a pixel of outline,
    memory or network belongs to a region, and the memory itself (None: of none, or where it is not installed). ``outlined``: whether
    outlines were found in them at all; else the memory is of whole pictures."""

    conformal: Conformal
    units: dict[str, float]
    levels: tuple[float, float, float]
    memory: Memory | None
    run: str
    images: list[str]
    outlined: bool = True

    level = 1.0  # of the anomaly map, which is in units of ``levels``

    def json(self) -> dict[str, Any]:
        return {
            "format": FORMAT, "form": "photograph", "run": self.run, "alpha": self.conformal.alpha, "n": len(self.conformal.scores),
            "threshold": self.conformal.threshold, "doubt": self.conformal.doubt(), "scores": [float(s) for s in self.conformal.scores],
            "units": self.units, "levels": list(self.levels), "memory": self.memory and self.memory.fingerprint, "images": self.images, "outlined": self.outlined,
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class Seen:
    """A photograph's silhouette, nearest good form (None where it shows no part), frame, and what is left over: ``terms`` by name;
    ``places`` (CELLS, CELLS) of the memory and ``marks`` (S, S) of the network, None without one."""

    silhouette: Silhouette
    found: Outlined | None
    frame: Frame | None
    terms: dict[str, float]
    seconds: float
    places: np.ndarray | None = None
    marks: np.ndarray | None = None


class PhotoDetector:
    """A CAD run ready to calibrate and inspect on photographs. Images are computed one by one, on all cores."""

    size = SIZE

    def __init__(self, run: CadRun, *, calibration: PhotoCalibration | None = None) -> None:
        self.run, self.form, self.calibration = run, run.form, calibration
        self.search = OutlineSearch(run.form.part)
        self.network = open_network(run.folder)
        turn = run.form.part.views.rotation
        self.flat = isinstance(turn, Turn) and max(map(abs, turn.tilt)) <= UPRIGHT
        self.spins = self.flat and float(np.ptp(turn.spin)) > 0

    @cached_property
    def period(self) -> int:
        """Turns to a round after which the part, seen along its axis, looks alike in even light: by its renders."""
        ranges = self.form.part.views.rotation
        turn, axis = np.array(next(iter(rotations(ranges, 1)))), np.asarray(ranges.axis, float)

        def view(angle: float) -> np.ndarray:
            scene = self.search.scene(product(turn, about(axis / np.linalg.norm(axis), angle)), (0.0, 0.0), 0.0)
            seen = truth(self.search.item, scene, SIZE)
            height = np.where(seen.feature > 0, (seen.depth + scene.position[2]) / (STEP * self.search.diagonal), 0.0)
            return np.stack([*np.moveaxis(seen.normal, -1, 0), seen.feature > 0, height])

        return symmetry_of(view)

    @property
    def name(self) -> str:
        return self.run.folder.name

    @property
    def lens(self) -> Lens | None:
        return self.form.lens

    def fitted(self, photograph: Photograph) -> Seen:
        """Its silhouette and nearest good form, before any memory is asked."""
        began = time.perf_counter()
        grey = luminance(photograph.pixels) ** (1 / 2.2)  # as it looks: steps in the dark count as those in the light do
        candidates = silhouettes(grey)
        pairs = [(c, self.search(grey, c)) for c in candidates if c.mask.any()]
        unclear = max((found.iou for _, found in pairs), default=0.0) < RELIABLE and cluttered(grey)
        if unclear and (other := among_clutter(grey, self.search)) is not None:
            pairs.append((other, self.search(grey, other)))
        if not pairs:
            return Seen(candidates[0], None, None, {"outline": np.inf}, time.perf_counter() - began)
        silhouette, found = min(pairs, key=lambda pair: pair[1].loss)
        terms, marks = {"outline": found.loss, "holes": found.holes}, None
        if self.network is not None:
            marks, terms["compare"] = self.marked(grey, found)
        frame = framed(grey, found) if self.flat else None
        return Seen(silhouette, found, frame, terms, time.perf_counter() - began, marks=marks)

    def marked(self, grey: np.ndarray, found: Outlined) -> tuple[np.ndarray, float]:
        """(S, S) float32 what the network marks beside the nearest form, and its score; 0 is where it is sure that nothing differs."""
        seen, crop = self.beside(grey, found, self.network.side)
        logits, scores = differences(self.network, seen[None])
        marks = np.zeros(grey.shape, np.float32)
        j, i = (np.clip(np.rint(v).astype(int), 0, len(grey) - 1) for v in (crop.rows, crop.columns))
        np.maximum.at(marks, (j, i), np.logaddexp(0, logits[0]))
        return marks, float(np.logaddexp(0, scores[0]))

    def beside(self, grey: np.ndarray, found: Outlined, side: int) -> tuple[np.ndarray, Crop]:
        """What a compare network is shown: see :func:`train.compare_network.beside`."""
        return beside(grey, truth(self.search.item, found.scene, len(grey)), self.search.diagonal / 2, side)

    def beside_all(self, photographs: Sequence[Photograph], side: int) -> list[np.ndarray | None]:
        """The same of photographs that are fitted first; None of those that show no part."""

        def one(photograph: Photograph) -> np.ndarray | None:
            found = self.fitted(photograph).found
            return None if found is None else self.beside(luminance(photograph.pixels) ** (1 / 2.2), found, side)[0]

        return self.each(one, photographs)

    def whole(self, photograph: Photograph) -> Seen:
        """A photograph whose outline is not to be had: the part is where the picture is."""
        began = time.perf_counter()
        grey = luminance(photograph.pixels) ** (1 / 2.2)
        turn = np.array(next(iter(rotations(self.form.part.views.rotation, 1))))
        scene = self.search.scene(turn, (0.0, 0.0), 0.0)
        none = np.zeros(grey.shape, np.float32)
        found = Outlined(scene, 0.0, 0.0, truth(self.search.item, scene, SIZE).feature, none, 1.0, 0)
        seen = Silhouette(np.ones(grey.shape, bool), none)
        return Seen(seen, found, unframed(grey), {}, time.perf_counter() - began)

    def remembered(self, seen: Seen, memory: Memory | None, leave: int | None = None) -> Seen:
        """With what the memory says of it."""
        if memory is None or seen.frame is None:
            return seen
        began = time.perf_counter()
        places, worst, frame = memory.compared(seen.frame, leave)
        seconds = seen.seconds + time.perf_counter() - began
        return replace(seen, frame=frame, terms={**seen.terms, "memory": worst}, places=places, seconds=seconds)

    def calibrate(self, photographs: Sequence[Photograph], alpha: float, *, terms: Collection[str] = tuple(TERMS)) -> PhotoCalibration:
        """From good photographs alone, by those of ``terms`` that are to be had. Raises InputError where they are too few for ``alpha``, or
        show no part."""
        check_alpha(alpha, len(photographs))
        with progress(2 * len(photographs), "calibrating", "images") as advance:
            fits = [s for part in chunks(photographs) for s in self.each(self.fitted, part, advance)]
            agreed = np.array([0.0 if s.found is None else s.found.iou for s in fits])
            outlined = float(np.median(agreed)) >= RELIABLE
            learnable = "memory" in terms and self.flat and filters.available() and len(photographs) > 1
            if not outlined and not learnable:
                worst = photographs[int(np.argmin(agreed))].path
                raise InputError(worst, "no outline of the part is found in it, nor in most others", wanted="photographs before a plain background", step="install the extra features for a memory of whole pictures" if self.flat else "")  # fmt: skip
            if not outlined:
                fits = [self.whole(p) for p in photographs]
            for photograph, seen in zip(photographs, fits, strict=True):
                if seen.found is None:
                    raise InputError(photograph.path, str(seen.silhouette.reason), wanted="a photograph of one good part, whole")
                if seen.silhouette.reason is not None:
                    say(f"{photograph.path}: {seen.silhouette.reason}: look at it, for the threshold is told from it too")
            memory = Memory.of([s.frame for s in fits], self.spins, self.period) if learnable else None
            own = [self.remembered(s, memory, k) for k, s in enumerate(fits)]
            advance(len(photographs))
        asked = [n for n in TERMS if n in terms and n in own[0].terms]
        if not asked:
            raise InputError(
                "--terms", f"found {', '.join(terms)}", wanted="one that these photographs and this run have", step=self._missing()
            )
        units = {n: float(max(np.quantile([s.terms[n] for s in own], TERM), TERMS[n])) for n in asked}
        levels = (
            float(np.quantile([np.abs(s.found.excess) for s in own], LEVEL)) + 1e-3,
            max(float(np.quantile([s.places for s in own], LEVEL)), 1.0) if memory is not None else 1.0,
            max(float(np.quantile([s.marks for s in own], LEVEL)), 1.0) if "compare" in asked else 1.0,
        )
        conformal = Conformal(np.sort([in_units(s.terms, units) for s in own]), alpha)
        self.calibration = PhotoCalibration(
            conformal, units, levels, memory, run_id(self.run), [p.path.name for p in photographs], outlined
        )
        return self.calibration

    def each(self, work: Any, items: Sequence[Any], advance: Any = lambda count: None) -> list[Any]:
        """``work`` of each of ``items``, on all cores, each on one thread."""
        with one_thread_each() as pool, threadpool_limits(1):
            done = list(pool.map(work, items))
        advance(len(items))
        return done

    def inspect(self, photographs: Sequence[Photograph]) -> Iterator[tuple[Inspection, np.ndarray, np.ndarray]]:
        """For each photograph: its Inspection, its anomaly map (S, S) float32, and its nearest form (S, S) float32 in grey [0, 1].

        Raises InputError where the run is not calibrated.
        """
        if self.calibration is None:
            raise not_calibrated(self.run.folder)
        memory, fit = self.calibration.memory, self.fitted if self.calibration.outlined else self.whole
        for part in chunks(photographs):
            for photograph, seen in zip(part, self.each(lambda p: self.remembered(fit(p), memory), part), strict=True):
                anomaly = self.anomaly(seen)
                yield self.report(photograph, seen, anomaly), anomaly, self._pictured(seen)

    def anomaly(self, seen: Seen) -> np.ndarray:
        """(S, S) float32: 1 is where a region begins; of the outline or of the memory, whichever is more."""
        out = np.zeros((SIZE, SIZE), np.float32)
        if seen.found is None:
            return out
        levels, asked = self.calibration.levels, self.calibration.units
        if "outline" in asked:
            out[:] = ndimage.gaussian_filter(np.abs(seen.found.excess), 0.7) / levels[0]
        if "compare" in asked:
            np.maximum(out, ndimage.gaussian_filter(seen.marks, 0.7) / levels[2], out=out)
        if seen.places is not None:
            fine = np.kron(seen.places, np.ones((SIDE // CELLS,) * 2)) / levels[1]
            j, i = (np.clip(np.rint(v).astype(int), 0, SIZE - 1) for v in (seen.frame.rows, seen.frame.columns))
            np.maximum.at(out, (j, i), ndimage.gaussian_filter(fine, SIDE // CELLS / 2).astype(np.float32))
        return out

    def report(self, photograph: Photograph, seen: Seen, anomaly: np.ndarray) -> Inspection:
        """The verdict on one photograph."""
        began, conformal = time.perf_counter(), self.calibration.conformal
        if seen.found is None:
            score = 10 * conformal.threshold
            return self._inspection(photograph, score, "not this part", [], {}, 0, seen.seconds, seen.silhouette.reason)
        score = in_units(seen.terms, self.calibration.units)
        verdict, reason, places, told = conformal.verdict(score), None, [], None
        if seen.found.iou < ANOTHER:
            verdict, reason = "not this part", f"no pose of the part has such an outline: {100 * seen.found.iou:.0f} % of it agrees"
        elif seen.silhouette.reason is not None:
            verdict, reason = ("unsure" if verdict == "pass" else verdict), seen.silhouette.reason
        if verdict in ("fail", "unsure"):
            names = self.form.part.names
            level = min(1.0, float(anomaly.max()) * 0.999)
            places = [
                region_record(r, anomaly, by_votes(r, anomaly, seen.found.ids, names), photograph) for r in regions(anomaly, level)[:8]
            ]
            asked, level = self.calibration.units, self.calibration.levels[0]
            if seen.terms.get("outline", 0.0) > asked.get("outline", np.inf):
                told = finding(self.form.part, self.search, seen.silhouette, seen.found, level)
            if told is not None:  # it comes first
                reason = reason or told.words
                name = by_votes(told.where, anomaly, seen.found.ids, names, among=told.among)
                places.insert(0, {**region_record(told.where, anomaly, name, photograph), "kind": told.kind})
        seconds = seen.seconds + time.perf_counter() - began
        return self._inspection(
            photograph,
            score,
            verdict,
            places,
            self._pose(seen.found),
            seen.found.steps,
            seconds,
            reason,
            seen.terms,
            told.dimensions if told else {},
        )

    def _inspection(
        self,
        photograph: Photograph,
        score: float,
        verdict: str,
        places: list,
        pose: dict,
        steps: int,
        seconds: float,
        reason: str | None,
        terms: dict[str, float] | None = None,
        dimensions: dict[str, Any] | None = None,
    ) -> Inspection:
        conformal = self.calibration.conformal
        told = {n: round(v / self.calibration.units[n], 4) for n, v in (terms or {}).items() if n in self.calibration.units}
        return Inspection(
            str(photograph.path), score, conformal.p_value(score), conformal.threshold, verdict, places, pose, steps, round(1e3 * seconds, 3), self.name,
            None, dimensions or {}, reason, told,
        )  # fmt: skip

    def _missing(self) -> str:
        """How terms that are not to be had are brought."""
        return f"train compare {self.run.folder} brings compare, the extra features brings memory"

    def _pose(self, found: Outlined) -> dict[str, Any]:
        scene = found.scene
        return {
            "rotation": [[round(float(v), 6) for v in row] for row in scene.rotation],
            "position_mm": [round(float(v), 4) for v in scene.position],
            "mm_per_pixel": round(1 / scene.pixels_per_mm(SIZE), 6),
            "outline_iou": round(found.iou, 4),
        }

    def _pictured(self, seen: Seen) -> np.ndarray:
        """(S, S) float32: the nearest form, in any light: it is the outline that was fitted."""
        if seen.found is None:
            return np.zeros((SIZE, SIZE), np.float32)
        return draw(self.search.item, seen.found.scene, SIZE)[..., 0].astype(np.float32) / 255


def in_units(terms: dict[str, float], units: dict[str, float]) -> float:
    """The largest of the terms that are asked, each in its unit: none can veto another."""
    return max(terms[n] / unit for n, unit in units.items())


def memory_file(path: Path) -> Path:
    """Beside a calibration, where its memory lies."""
    return path.with_name(f"{path.stem}.memory.safetensors")


def save_memory(calibration: PhotoCalibration, path: Path) -> None:
    if calibration.memory is None:
        memory_file(path).unlink(missing_ok=True)
        return
    with whole(memory_file(path)) as temporary:
        save_file({k: np.ascontiguousarray(v) for k, v in calibration.memory.tensors().items()}, temporary)


def load_calibration(run: CadRun, path: Path) -> PhotoCalibration:
    """Raises InputError where it is damaged, of another form or of a newer format."""

    def of(data: dict[str, Any]) -> PhotoCalibration:
        memory = Memory.from_tensors(load_file(memory_file(path))) if data["memory"] else None
        if memory is not None and memory.fingerprint != data["memory"]:
            raise ValueError("its memory is another's")
        return PhotoCalibration(
            Conformal(np.asarray(data["scores"], float), data["alpha"]), {n: float(data["units"][n]) for n in data["units"]}, tuple(map(float, data["levels"])), memory,
            data["run"], data["images"], bool(data["outlined"]),
        )  # fmt: skip

    try:
        return read_calibration(run.folder, path, of, newest=FORMAT, own=run_id(run), other="another form", form="photograph")
    except OSError as error:
        raise InputError(memory_file(path), f"cannot be read: {error}", wanted="the calibration's memory", step="calibrate again") from None
