"""From photographs to verdicts: project onto the good forms, compare, calibrate, explain."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from cad.command import progress
from cad.errors import InputError
from cad.files import fingerprint, read_json, sha256, write, write_json
from detect.calibrate import CALIBRATION, Conformal, calibrate_step, check_alpha, not_calibrated
from detect.compare import Noise, Residuals, regions, scores
from detect.explain import Namer
from detect.projection import MAP, Projection, Projector, Settings, chunks, device_for, settings_for
from detect.typical import JOIN, Joint
from train.images import restore
from train.photographs import Photograph
from train.runs import Run

FORMAT = 4  # 1: the prior was about the training codes' mean; 2: a score of one term, another descent; 3: of terms, their product
THINNED = 2**16  # pixels of an image from which the level of a region is told
ENOUGH = 0.5  # the quantile of good parts' losses at which a descent may stop

C = TypeVar("C")


@dataclass(frozen=True)
class Inspection:
    """One image's result: a line of inspections.jsonl. Boxes are (x0, y0, x1, y1) in the photograph's own pixels; ``milliseconds`` is
    the wall time of the images projected with it over their number (CAD form: of this one).
    ``reason`` says why a verdict is ``unsure`` or ``not this part``, and what of the part was hidden; ``terms``: of a photograph, what each
    term of its score says, in its unit."""

    image: str
    score: float
    p_value: float
    threshold: float
    verdict: str
    regions: list[dict[str, Any]]
    pose: dict[str, Any]
    steps: int
    milliseconds: float
    run: str
    encoder_score: float | None
    dimensions: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None
    terms: dict[str, float] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Calibration:
    """What good images look like to this run: noise by expected residual, their scores, the pixel level of a region."""

    conformal: Conformal
    noise: Noise
    encoder_noise: Noise
    level: float
    enough: float | None
    settings: Settings
    run: str
    images: list[str]
    joint: Joint

    def json(self) -> dict[str, Any]:
        return {
            "format": FORMAT, "run": self.run, "alpha": self.conformal.alpha, "n": len(self.conformal.scores), "threshold": self.conformal.threshold, "doubt": self.conformal.doubt(),
            "scores": [float(s) for s in self.conformal.scores], "level": self.level, "enough": self.enough, "settings": asdict(self.settings),
            "noise": self.noise.json(), "encoder_noise": self.encoder_noise.json(), "images": self.images, "joint": self.joint.json(),
        }  # fmt: skip

    @classmethod
    def of(cls, data: dict[str, Any]) -> Calibration:
        return cls(
            Conformal(np.asarray(data["scores"], float), data["alpha"]),
            Noise.from_json(data["noise"]),
            Noise.from_json(data["encoder_noise"]),
            data["level"],
            data["enough"],
            Settings(**data["settings"]),
            data["run"],
            data["images"],
            Joint.from_json(data["joint"]),
        )


class Detector:
    """A run on a device, ready to project, calibrate and inspect."""

    def __init__(self, run: Run, *, device: str = "auto", settings: Settings | None = None, calibration: Calibration | None = None) -> None:
        self.run, self.calibration = run, calibration
        settings = settings or (calibration.settings if calibration else settings_for(run))
        self.projector = Projector(run, device_for(device), settings, calibration.enough if calibration else None)
        self.namer = Namer(run)

    lens = None  # learned forms know no camera

    @property
    def size(self) -> int:
        return self.run.config.picture or self.run.config.size

    @property
    def name(self) -> str:
        return self.run.folder.name

    @property
    def settings(self) -> Settings:
        return self.projector.settings

    @property
    def device(self) -> torch.device:
        return self.projector.device

    def project(self, pixels: np.ndarray) -> Projection:
        """(B, S, S, 3) uint8 -> nearest good forms."""
        return self.projector.project(pixels)

    def scored(self, maps: np.ndarray, terms: dict[str, np.ndarray]) -> np.ndarray:
        """(B,) of (B, S, S) anomaly maps and what else is strange, by whichever the settings name: once calibrated."""
        return self.calibration.joint.score({MAP: self.mapped(maps), **terms})

    def mapped(self, maps: np.ndarray) -> np.ndarray:
        """(B,) the mean of each map's highest pixels, as many as a defect of the networks' own picture has."""
        return scores(maps, self.run.config.size)

    def calibrate(self, photographs: Sequence[Photograph], alpha: float) -> Calibration:
        """From good photographs alone. Raises InputError where they are too few for ``alpha``."""
        check_alpha(alpha, len(photographs))
        self.calibration, self.projector.enough = None, None
        rows: list[Residuals] = []
        plain: list[Residuals] = []  # the encoder's
        terms: list[dict[str, np.ndarray]] = []
        with progress(len(photographs) * (2 if self.settings.steps else 1), "calibrating", "images") as advance:
            if self.settings.steps:  # first, what a good part's residual is; then as inspection will: stopping there
                losses = np.concatenate([p.losses for p in self._projections(photographs, advance)])
                self.projector.enough = float(np.quantile(losses, ENOUGH))
            for found in self._projections(photographs, advance):
                images = range(len(found.losses))
                rows += [found.residuals.row(i) for i in images]
                plain += [found.encoder.row(i) for i in images]
                terms += [{k: v[i : i + 1] for k, v in found.terms.items()} for i in images]
        noise, parts = noise_of(rows)
        peaks, high = [], []
        for i, row in enumerate(rows):  # an image's map by the noise of the others; one at a time, for they may be large
            anomaly = (noise.without(parts, i) if len(rows) > 1 else noise).maps(row)
            peaks.append(self.mapped(anomaly))
            high.append(anomaly.ravel()[:: max(1, anomaly.size // THINNED)])
        good = {MAP: np.concatenate(peaks), **{k: np.concatenate([t[k] for t in terms]) for k in terms[0]}}
        joint = Joint.of(self.settings.score.split(JOIN), good)
        self.calibration = Calibration(
            Conformal(np.sort(joint.score(good)), alpha),
            noise,
            noise_of(plain)[0],
            float(np.quantile(np.concatenate(high), 0.999)),
            self.projector.enough,
            self.settings,
            run_id(self.run),
            [p.path.name for p in photographs],
            joint,
        )
        return self.calibration

    def _projections(self, photographs: Sequence[Photograph], advance: Callable[..., None]) -> Iterator[Projection]:
        for part in chunks(photographs, self.projector.together):
            yield self.project(np.stack([p.pixels for p in part]))
            advance(len(part))

    def inspect(self, photographs: Sequence[Photograph]) -> Iterator[tuple[Inspection, np.ndarray, np.ndarray]]:
        """For each photograph: its Inspection, its anomaly map (S, S) float32, and its nearest form (S, S) float32 in grey [0, 1].

        Raises InputError where the run is not calibrated.
        """
        if self.calibration is None:
            raise not_calibrated(self.run.folder)
        for chunk in chunks(photographs, self.projector.together):
            pixels = np.stack([p.pixels for p in chunk])
            projection = self.project(pixels)
            maps = self.calibration.noise.maps(projection.residuals)
            own = self.scored(maps, projection.terms)
            encoder = scores(self.calibration.encoder_noise.maps(projection.encoder), self.run.config.size)
            views = self.namer.nearest(projection.forms)
            forms = restore(projection.forms, pixels, self.run.config.normalize)
            for i, photograph in enumerate(chunk):
                yield (
                    self._report(
                        photograph,
                        maps[i],
                        float(own[i]),
                        None if self.settings.score != MAP else float(encoder[i]),
                        int(views[i]),
                        int(projection.steps[i]),
                        projection.seconds / len(chunk),
                        {k: round(float(v[i]), 6) for k, v in projection.terms.items()},
                    ),
                    maps[i],
                    forms[i],
                )

    def _report(
        self,
        photograph: Photograph,
        anomaly: np.ndarray,
        score: float,
        encoder_score: float | None,
        view: int,
        steps: int,
        seconds: float,
        terms: dict[str, float],
    ) -> Inspection:
        conformal = self.calibration.conformal
        verdict = conformal.verdict(score)
        found = []
        if verdict != "pass":
            ids = self.namer.ids(view)
            level = min(self.calibration.level, float(anomaly.max()) * 0.999)
            found = [region_record(r, anomaly, self.namer.name(r, anomaly, ids), photograph) for r in regions(anomaly, level)]
        return Inspection(
            str(photograph.path),
            score,
            conformal.p_value(score),
            conformal.threshold,
            verdict,
            found,
            self.run.bank.scenes[view]["scene"] if self.run.bank.scenes else {},
            steps,
            round(1e3 * seconds, 3),
            self.run.folder.name,
            encoder_score,
            terms=terms,
        )


def region_record(region: np.ndarray, anomaly: np.ndarray, name: str | None, photograph: Photograph) -> dict[str, Any]:
    """What an Inspection says of a region (S, S) bool; no millimetres yet."""
    ys, xs = np.nonzero(region)
    box = photograph.own_box((int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1))
    return {
        "feature": name,
        "bbox": box,
        "area_px": round(float(region.sum()) * photograph.scale**2, 1),
        "score": round(float(anomaly[region].max()), 4),
        "deviation_mm": None,
    }


def noise_of(rows: Sequence[Residuals]) -> tuple[Noise, Noise]:
    """Of good images, (1, H, W) each: the noise of all, and its parts, by which an image is taken out again."""
    parts = Noise.joined([Noise.of(row) for row in rows])
    return parts.total().settled(rows, parts), parts


def run_id(run: Run) -> str:
    """Changes whenever the run's weights do: a calibration holds for these alone."""
    return fingerprint(sha256(run.folder / "model.safetensors"))


def save_calibration(run: Any, calibration: Any, path: Path | None = None) -> Path:
    """Of either form, into the run folder, or another ``path``."""
    write_json(path or run.folder / CALIBRATION, calibration.json())
    return path or run.folder / CALIBRATION


def load_calibration(run: Run, path: Path | None = None) -> Calibration:
    """Raises InputError where the run has none, or one of other weights or of a newer format."""
    return read_calibration(run.folder, path, Calibration.of, newest=FORMAT, oldest=FORMAT, own=run_id(run), other="other weights")


def read_calibration(
    folder: Path,
    path: Path | None,
    of: Callable[[dict[str, Any]], C],
    *,
    newest: int,
    own: str,
    other: str,
    form: str | None = None,
    oldest: int = 1,
) -> C:
    """What ``of`` makes of the folder's calibration, or of the one at ``path``. ``own``: the id that it must bear, else it belongs to
    ``other``; ``form``: the one that it must name. Raises InputError for one that is missing, damaged, newer, older than ``oldest`` or
    another's."""
    path = path or folder / CALIBRATION
    if not path.exists():
        raise not_calibrated(folder)
    data = read_json(path, "a calibration")
    if not isinstance(data, dict) or not isinstance(data.get("format"), int):
        raise InputError(path, "has no format number", wanted="a calibration", step=calibrate_step(folder))
    if data["format"] > newest:
        raise InputError(path, f"found format {data['format']}", wanted=f"at most {newest}", step="use a newer formspect")
    if data["format"] < oldest:
        raise InputError(path, f"found format {data['format']}, of an older formspect", wanted=f"{oldest}", step=calibrate_step(folder))
    if form is not None and data.get("form") != form:
        raise InputError(path, f"is no calibration of a {form} form", wanted="a calibration", step=calibrate_step(folder))
    if data.get("run") != own:
        raise InputError(path, f"belongs to {other} than the run's", step=calibrate_step(folder))
    try:
        return of(data)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(path, f"is damaged: {type(error).__name__} {error}", wanted="a calibration", step=calibrate_step(folder)) from None


def write_lines(path: Path, inspections: Iterable[Inspection]) -> None:
    write(path, "".join(json.dumps(i.json(), allow_nan=False) + "\n" for i in inspections))
