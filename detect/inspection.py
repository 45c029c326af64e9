"""From photographs to verdicts: project onto the good forms, compare, calibrate, explain."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from cad.command import progress
from cad.errors import InputError
from cad.files import fingerprint, read_json, sha256, write, write_json
from detect.calibrate import CALIBRATION, Conformal, calibrate_step, check_alpha, not_calibrated
from detect.compare import Noise, Residuals, regions, scores
from detect.descend import Descent, descend
from detect.explain import Namer, start_codes
from train.images import prepare, restore
from train.losses import feature_distance, pyramid_l1
from train.photographs import Photograph
from train.runs import Run

FORMAT = 1
CHUNK = 16  # images projected at a time
ENOUGH = 0.5  # the quantile of good parts' losses at which a descent may stop

C = TypeVar("C")


@dataclass(frozen=True)
class Settings:
    """How the nearest form is sought. The same for calibration and inspection: it is part of what a score means.

    ``steps`` of descent (0: the encoder's answer alone) from ``starts`` codes at ``rate`` (in the latents' deviations a step);
    ``features``: weight of the discriminator's feature distance; ``prior``: of the latent's squared distance from the training views'
    mean; ``trust``: a pixel counts by how sure the generator is of it, at most so many times the average (0: all alike).
    """

    steps: int = 16
    starts: int = 3
    rate: float = 0.03
    features: float = 0.05
    prior: float = 0.02
    trust: float = 4.0


@dataclass(frozen=True, eq=False)
class Projection:
    """The nearest ``forms`` (B, 1, S, S) and what they leave over, ``residuals``; ``encoder``: what the encoder's answer alone
    leaves; ``steps`` and final ``losses`` of the descent, (B,); ``seconds`` that all of it took."""

    forms: Tensor
    residuals: Residuals
    encoder: Residuals
    steps: np.ndarray
    losses: np.ndarray
    seconds: float


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

    def json(self) -> dict[str, Any]:
        return {
            "format": FORMAT, "run": self.run, "alpha": self.conformal.alpha, "n": len(self.conformal.scores), "threshold": self.conformal.threshold, "doubt": self.conformal.doubt(),
            "scores": [float(s) for s in self.conformal.scores], "level": self.level, "enough": self.enough, "settings": asdict(self.settings),
            "noise": self.noise.json(), "encoder_noise": self.encoder_noise.json(), "images": self.images,
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
        )


class Detector:
    """A run on a device, ready to project, calibrate and inspect."""

    def __init__(self, run: Run, *, device: str = "auto", settings: Settings | None = None, calibration: Calibration | None = None) -> None:
        self.run, self.calibration = run, calibration
        self.settings = settings or (calibration.settings if calibration else Settings())
        self.enough = calibration.enough if calibration else None
        self.device = device_for(device)
        run.model.to(self.device)
        self.namer = Namer(run)
        codes = run.bank.codes.to(self.device)
        self.mean, self.spread = codes.mean(0), codes.std(0) + 1e-3

    lens = None  # learned forms know no camera

    @property
    def size(self) -> int:
        return self.run.config.size

    @property
    def name(self) -> str:
        return self.run.folder.name

    def project(self, pixels: np.ndarray) -> Projection:
        """(B, S, S, 3) uint8 -> nearest good forms.

        On a CPU each image is computed by itself, on one thread, as many at a time as there are cores: rounding depends on a batch's
        size, and a descent over the kinks of an L1 loss makes 1e-4 of a score out of 1e-7 of rounding. On a GPU they go together.
        """
        began = time.perf_counter()
        if self.device.type != "cpu":
            return replace(self._project(pixels), seconds=time.perf_counter() - began)
        with one_thread_each() as pool:
            parts = list(pool.map(self._project, pixels[:, None]))
        return Projection(
            torch.cat([p.forms for p in parts]),
            _joined([p.residuals for p in parts]),
            _joined([p.encoder for p in parts]),
            np.concatenate([p.steps for p in parts]),
            np.concatenate([p.losses for p in parts]),
            time.perf_counter() - began,
        )

    def _project(self, pixels: np.ndarray) -> Projection:
        generator = self.run.model.generator
        images = prepare(pixels, self.run.config.normalize).to(self.device)
        with torch.no_grad():
            starts = start_codes(self.run, images, self.settings.starts if self.settings.steps else 1)
            answer, steps, losses = starts[:, 0], np.zeros(len(images), int), np.zeros(len(images))
            encoder = Residuals.of(images, *generator.expected(answer))
        if self.settings.steps:
            found = self._descend(images, starts)
            answer, steps, losses = found.latent * self.spread + self.mean, found.steps.cpu().numpy(), found.loss.cpu().numpy()
        with torch.no_grad():
            forms, log_size = generator.expected(answer)
        return Projection(forms, Residuals.of(images, forms, log_size), encoder, steps, losses, 0.0)

    def _descend(self, images: Tensor, starts: Tensor) -> Descent:
        s, judge, generator = self.settings, self.run.model.discriminator, self.run.model.generator
        with torch.no_grad():
            alone = judge(images)[1] if len(images) == 1 and s.features else None  # one image's features serve all its starts
            expected = generator.expected(starts[:, 0])[1].exp()
            trust = (expected.mean((1, 2, 3), keepdim=True) / expected).clamp(max=s.trust) if s.trust else torch.ones_like(expected)

        def decode(whitened: Tensor) -> Tensor:
            return generator(whitened * self.spread + self.mean)

        def loss(form: Tensor, target: Tensor, whitened: Tensor) -> Tensor:
            image, weight = target[:, :1], target[:, 1:]
            total = pyramid_l1(form * weight, image * weight) + s.prior * (whitened**2).mean(1)
            if s.features:
                with torch.no_grad():
                    wanted = alone or judge(image)[1]
                total = total + s.features * feature_distance(judge(form)[1], wanted)
            return total

        targets = torch.cat([images, trust], 1)
        return descend(decode, loss, targets, (starts - self.mean) / self.spread, steps=s.steps, rate=s.rate, enough=self.enough)

    def calibrate(self, photographs: Sequence[Photograph], alpha: float) -> Calibration:
        """From good photographs alone. Raises InputError where they are too few for ``alpha``."""
        check_alpha(alpha, len(photographs))
        self.calibration, self.enough = None, None
        pixels = np.stack([p.pixels for p in photographs])
        with progress(len(pixels) * (2 if self.settings.steps else 1), "calibrating", "images") as advance:
            if self.settings.steps:  # first, what a good part's residual is; then as inspection will: stopping there
                losses = np.concatenate([p.losses for p in self._projections(pixels, advance)])
                self.enough = float(np.quantile(losses, ENOUGH))
            projections = list(self._projections(pixels, advance))
        maps, noise = _leave_one_out(_joined([p.residuals for p in projections]))
        _, encoder_noise = _leave_one_out(_joined([p.encoder for p in projections]))
        own = scores(maps)
        level = float(np.quantile(maps, 0.999))
        self.calibration = Calibration(
            Conformal(np.sort(own), alpha),
            noise,
            encoder_noise,
            level,
            self.enough,
            self.settings,
            run_id(self.run),
            [p.path.name for p in photographs],
        )
        return self.calibration

    def _projections(self, pixels: np.ndarray, advance: Callable[..., None]) -> Iterator[Projection]:
        for start in range(0, len(pixels), CHUNK):
            yield self.project(pixels[start : start + CHUNK])
            advance(min(CHUNK, len(pixels) - start))

    def inspect(self, photographs: Sequence[Photograph]) -> Iterator[tuple[Inspection, np.ndarray, np.ndarray]]:
        """For each photograph: its Inspection, its anomaly map (S, S) float32, and its nearest form (S, S) float32 in grey [0, 1].

        Raises InputError where the run is not calibrated.
        """
        if self.calibration is None:
            raise not_calibrated(self.run.folder)
        for chunk in chunks(photographs):
            pixels = np.stack([p.pixels for p in chunk])
            projection = self.project(pixels)
            maps = self.calibration.noise.maps(projection.residuals)
            encoder = scores(self.calibration.encoder_noise.maps(projection.encoder))
            views = self.namer.nearest(projection.forms)
            forms = restore(projection.forms, pixels, self.run.config.normalize)
            for i, photograph in enumerate(chunk):
                yield (
                    self._report(
                        photograph, maps[i], float(encoder[i]), int(views[i]), int(projection.steps[i]), projection.seconds / len(chunk)
                    ),
                    maps[i],
                    forms[i],
                )

    def _report(
        self, photograph: Photograph, anomaly: np.ndarray, encoder_score: float, view: int, steps: int, seconds: float
    ) -> Inspection:
        conformal = self.calibration.conformal
        score = float(scores(anomaly[None])[0])
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
            self.run.bank.scenes[view]["scene"],
            steps,
            round(1e3 * seconds, 3),
            self.run.folder.name,
            encoder_score,
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


def _leave_one_out(residuals: Residuals) -> tuple[np.ndarray, Noise]:
    """Each image's map by the noise of the others, and the noise of all."""
    parts = Noise.of(residuals)
    total = parts.total()
    if len(residuals.size) == 1:
        return total.maps(residuals), total
    maps = [
        total.without(parts, i).maps(Residuals(residuals.size[i : i + 1], residuals.expected[i : i + 1]))
        for i in range(len(residuals.size))
    ]
    return np.concatenate(maps), total


def _joined(found: list[Residuals]) -> Residuals:
    return Residuals(np.concatenate([r.size for r in found]), np.concatenate([r.expected for r in found]))


@contextmanager
def one_thread_each() -> Iterator[ThreadPoolExecutor]:
    """A pool of as many threads as torch has, each of which computes with one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)


def chunks(photographs: Sequence[Photograph]) -> Iterator[Sequence[Photograph]]:
    """As many at a time as are projected together."""
    for start in range(0, len(photographs), CHUNK):
        yield photographs[start : start + CHUNK]


def device_for(name: str) -> torch.device:
    if name not in ("auto", "cpu", "cuda") or (name == "cuda" and not torch.cuda.is_available()):
        raise InputError(
            "--device",
            f'found "{name}"' if name != "cuda" else "this machine has no CUDA device",
            wanted="auto, cpu or cuda" if name != "cuda" else "auto or cpu",
        )
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def run_id(run: Run) -> str:
    """Changes whenever the run's weights do: a calibration holds for these alone."""
    return fingerprint(sha256(run.folder / "model.safetensors"))


def save_calibration(run: Any, calibration: Any, path: Path | None = None) -> Path:
    """Of either form, into the run folder, or another ``path``."""
    write_json(path or run.folder / CALIBRATION, calibration.json())
    return path or run.folder / CALIBRATION


def load_calibration(run: Run, path: Path | None = None) -> Calibration:
    """Raises InputError where the run has none, or one of other weights or of a newer format."""
    return read_calibration(run.folder, path, Calibration.of, newest=FORMAT, own=run_id(run), other="other weights")


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
