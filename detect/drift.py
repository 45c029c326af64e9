"""Whether the photographs of a stream are still like those of the calibration: two charts that raise an alarm, and say what has changed.

**scores**, of the parts that are not rejected. Of a good part's score, its rank among all not rejected before it, those of the calibration
first, is uniform and independent of the ranks before: exactly, with any number of calibration images, whatever the scores' law (sequential
ranks; Vovk et al. 2003). So that the calibration's own chance is in it: no rank is taken against those images alone. Each bet on a shift
pays its likelihood ratio, averaged over the rank's cell, which is 1 on average while nothing changes: a conformal test martingale. Parts
rejected are left out above the same score on both sides, so that defects do not pass for a change: among the scores below the calibration's
l-th highest, those of calibration and stream are still alike.

**rejections**: how many parts are rejected. A calibration with n images leaves the true rate of good ones as Beta(l, n + 1 - l) (Vovk 2012);
``defects`` of all parts may be defective besides. Bets on more than that pay the ratio of likelihoods.

The bets of a chart are added up from each image on, as if a change came there (Shiryaev 1963, Roberts 1966; with ranks Gordon & Pollak 1995;
with conformal martingales Volkhonskiy et al. 2017). Their mean less the images seen is a martingale, so that a false alarm of either chart
comes after ``every`` images at the least, on average, and within the first N with a probability of N / every + 2 HEAD at most. The head start
(Lucas & Crosier 1982) is for what changed between the calibration and the first image.

Assumed: good scores of calibration and stream are exchangeable, which a calibration's own are nearly, each made without its image; and no two
are equal: those that are share their ranks' pay.

What it cannot tell: defects that pass, and come more often, look like a change of scores; a change that throws good parts beyond the
threshold at once, and leaves the others as they were, looks like defects. Both at once are most likely camera, light or process.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from cad.errors import InputError
from detect.calibrate import Conformal

SHIFTS = np.array([-1.0, -0.5, -0.25, 0.25, 0.5, 1.0])  # deviations that scores may have moved by: a bet on each
ODDS = np.array([2.0, 4.0])  # times the odds of a rejection: a bet on each
HEAD = 0.01  # of an alarm's level, with which a chart begins
GRID = 2000  # rates at which the chance of a calibration is added up: fine enough for a million images
NEARLY = 0.75  # share rejected above which hardly all are defects
REJECTED = ("fail", "not this part")


@dataclass(frozen=True)
class Judged:
    """What a chart needs of an inspection."""

    image: str
    score: float
    threshold: float
    verdict: str

    @property
    def rejected(self) -> bool:
        return self.score > self.threshold or self.verdict in REJECTED


@dataclass(frozen=True)
class Alarm:
    """``chart``: scores or rejections; raised at the ``at``-th image (from 1), the change ``since`` which is likeliest, and what it is, in
    ``words``. ``before`` and ``since_then``: the median score of parts not rejected, or the share rejected; ``spreads``: by how many of the
    former interquartile deviations the median has moved, None of rejections."""

    chart: str
    at: int
    image: str
    since: int
    since_image: str
    higher: bool
    before: float
    since_then: float
    spreads: float | None
    words: str

    def json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Procedure:
    """Shiryaev and Roberts': for each of some bets, the sum over all images of what it would have won if begun there; ``level``: of their
    mean, where the alarm is raised."""

    bets: int
    level: float
    total: np.ndarray = field(init=False)
    won: np.ndarray = field(init=False)  # the logarithm of what each bet has won since the first image
    least: np.ndarray = field(init=False)  # the least of it so far
    begun: np.ndarray = field(init=False)  # and after how many images that was: the likeliest change
    count: int = 0

    def __post_init__(self) -> None:
        self.total = np.full(self.bets, HEAD * self.level)
        self.won, self.least, self.begun = np.zeros(self.bets), np.zeros(self.bets), np.zeros(self.bets, int)

    def pay(self, factors: np.ndarray) -> bool:
        """``factors`` (bets,), each 1 on average where nothing changes. Whether the level is reached."""
        self.total = (1 + self.total) * factors
        self.won += np.log(np.maximum(factors, 1e-300))
        self.count += 1
        lower = self.won < self.least
        self.least, self.begun = np.where(lower, self.won, self.least), np.where(lower, self.count, self.begun)
        return bool(self.total.mean() >= self.level)

    def likeliest(self) -> tuple[int, int]:
        """The bet that has won most, and after how many images it began to."""
        best = int(np.argmax(self.total))
        return best, min(int(self.begun[best]), self.count - 1)


def rank_factors(low: float, high: float) -> np.ndarray:
    """(len(SHIFTS),) what a p-value anywhere in [low, high] pays, on average: exp(s z - s² / 2), its z a normal deviate."""
    return (ndtr(SHIFTS + ndtri(high)) - ndtr(SHIFTS + ndtri(low))) / (high - low)


class Scores:
    """The chart of the scores of parts that are not rejected."""

    name = "scores"

    def __init__(self, conformal: Conformal, level: float) -> None:
        self.known = [float(s) for s in conformal.scores[: len(conformal.scores) - conformal.rank]]
        self.former = list(self.known)
        self.own: list[tuple[int, str, float]] = []
        self.procedure = Procedure(len(SHIFTS), level)

    def see(self, at: int, seen: Judged) -> Alarm | None:
        if seen.rejected:
            return None
        above, below = len(self.known) - bisect_right(self.known, seen.score), bisect_left(self.known, seen.score)
        insort(self.known, seen.score)
        self.own.append((at, seen.image, seen.score))
        if not self.procedure.pay(rank_factors(above / len(self.known), 1 - below / len(self.known))):
            return None
        return self._alarm(at, seen)

    def _alarm(self, at: int, seen: Judged) -> Alarm:
        bet, begun = self.procedure.likeliest()
        before = np.array(self.former + [s for _, _, s in self.own[:begun]])
        since = float(np.median([s for _, _, s in self.own[begun:]]))
        spreads = (since - float(np.median(before))) / spread(before)
        higher = bool(SHIFTS[bet] > 0)
        first = self.own[begun]
        words = f"parts that are not rejected score {'higher' if higher else 'lower'}: {since:.3g} in the median, {np.median(before):.3g} before ({spreads:+.1f} of its spread)"
        return Alarm("scores", at, seen.image, first[0], first[1], higher, float(np.median(before)), since, spreads, words)


class Rejections:
    """The chart of how many are rejected; ``defects``: the share of parts that may be defective."""

    name = "rejections"

    def __init__(self, conformal: Conformal, level: float, defects: float) -> None:
        good = np.sin((np.arange(GRID) + 0.5) / GRID * np.pi / 2) ** 2  # dense where a rate near 0 or 1 is told more finely
        law = (conformal.rank - 0.5) * np.log(good) + (len(conformal.scores) + 0.5 - conformal.rank) * np.log1p(-good)
        self.rates, weights = defects + (1 - defects) * good, np.exp(law - law.max())
        self.weights = weights / weights.sum()
        self.allowed = defects + (1 - defects) * conformal.alpha
        self.own: list[tuple[str, bool]] = []
        self.procedure = Procedure(len(ODDS), level)

    def see(self, at: int, seen: Judged) -> Alarm | None:
        p = float(self.weights @ self.rates)  # of a rejection, after those before it
        self.weights *= self.rates if seen.rejected else 1 - self.rates
        self.weights = np.maximum(
            self.weights / self.weights.sum(), 1e-200
        )  # no rate is ever out of the question, nor slow to compute with
        self.own.append((seen.image, seen.rejected))
        if not self.procedure.pay((ODDS if seen.rejected else 1.0) / (1 - p + ODDS * p)):
            return None
        _, begun = self.procedure.likeliest()
        before, since = [r for _, r in self.own[:begun]], float(np.mean([r for _, r in self.own[begun:]]))
        share = float(np.mean(before)) if before else self.allowed
        former = f"{100 * share:.1f} % of {len(before)} before" if before else f"at most {100 * share:.1f} % expected"
        words = f"more are rejected: {100 * since:.1f} % of {len(self.own) - begun}, {former}"
        return Alarm("rejections", at, seen.image, begun + 1, self.own[begun][0], True, share, since, None, words)


class Watch:
    """Both charts over a stream of inspections by one calibration. ``every``: images to a false alarm, at the least, on average;
    ``defects``: the share of parts that may be defective without an alarm."""

    def __init__(self, conformal: Conformal, *, every: int = 10_000, defects: float = 0.05) -> None:
        self.every, self.defects, self.level = every, defects, 2 * every / (1 - 2 * HEAD)
        self.images, self.rejected = 0, 0
        self.charts = [Scores(conformal, self.level), Rejections(conformal, self.level, defects)]
        self.alarms: list[Alarm] = []

    def see(self, seen: Judged) -> list[Alarm]:
        """The alarms that this image raises: a chart raises one, then rests."""
        self.images += 1
        self.rejected += seen.rejected
        resting = {a.chart for a in self.alarms}
        raised = [a for chart in self.charts if chart.name not in resting and (a := chart.see(self.images, seen)) is not None]
        self.alarms += raised
        return raised

    @property
    def since(self) -> Alarm:
        """The alarm whose change came first."""
        return min(self.alarms, key=lambda a: a.since)

    def chance(self, images: int) -> float:
        """The most that a false alarm's probability is within so many images."""
        return min(1.0, 2 * images / self.level + 2 * HEAD)

    def json(self) -> dict[str, Any]:
        return {
            "images": self.images, "rejected": self.rejected, "alarms": [a.json() for a in self.alarms], "meaning": meaning(self.alarms),
            "every": self.every, "defects": self.defects, "chance_of_a_false_alarm": self.chance(self.images),
        }  # fmt: skip

    def text(self) -> str:
        """A line: what was seen, what it means, and how sure that is."""
        seen = f"{self.images} images, {100 * self.rejected / self.images:.1f} % rejected: {meaning(self.alarms) or 'no alarm'}"
        return f"{seen} (a false alarm within so many images: at most {100 * self.chance(self.images):.1f} %)"


def spread(scores: np.ndarray) -> float:
    """The deviation that a normal law with these quartiles has; of scores that hardly differ, no less than what rounding leaves."""
    low, middle, high = np.quantile(scores, (0.25, 0.5, 0.75))
    return float(max((high - low) / 1.349, 1e-6 * abs(middle), 1e-12))


def meaning(alarms: Iterable[Alarm]) -> str:
    """What the charts say together, as far as they can tell."""
    by_chart = {a.chart: a for a in alarms}
    scores, rejections = by_chart.get("scores"), by_chart.get("rejections")
    if rejections and rejections.since_then > NEARLY:
        return "nearly all are rejected: most likely camera, focus, light, background or another part, for defects are hardly so many"
    if scores and rejections and scores.higher:
        return "good parts look otherwise too: most likely camera, light or process, not defects alone"
    if scores and scores.higher:
        return "the parts that pass have moved: camera, light or process, or small defects that pass"
    if rejections:
        return "the parts that pass have not moved upwards: most likely defects, or a change that throws some good parts out: look at what is rejected"
    return "scores have fallen: photographs are better than at the calibration, and its threshold may let more pass" if scores else ""


def inspections(lines: Iterable[str], name: str, conformal: Conformal) -> Iterator[Judged]:
    """Of inspections.jsonl, or what ``detect inspect --json`` prints; the verdicts on groups, and empty lines, are passed over. Raises
    InputError for a line that is none, by its number, and for one by another calibration than ``conformal``."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        place = f"{name}: line {number}"
        try:
            data = json.loads(line)
        except (ValueError, RecursionError):
            raise InputError(place, "is not JSON", wanted="an inspection", step="detect inspect IMAGE... --json") from None
        if isinstance(data, dict) and list(data) == ["group"]:
            continue
        judged = _judged(data, place)
        if not math.isclose(judged.threshold, conformal.threshold, rel_tol=1e-6):
            raise InputError(
                f"{place}: threshold", f"found {judged.threshold:g}, of another calibration", wanted=f"the run's {conformal.threshold:g}", step="name the run with --run, or inspect again"
            )  # fmt: skip
        yield judged


def _judged(data: Any, place: str) -> Judged:
    wanted = {"image": str, "score": float, "threshold": float, "verdict": str}
    if not isinstance(data, dict):
        raise InputError(place, "is no inspection", wanted=", ".join(wanted), step="detect inspect IMAGE... --json")
    for key, kind in wanted.items():
        value = data.get(key)
        right = isinstance(value, str) if kind is str else isinstance(value, int | float) and not isinstance(value, bool)
        if not right or (kind is float and not _finite(value)):
            raise InputError(f"{place}: {key}", f"found {value!r}"[:80], wanted="a text" if kind is str else "a number")
    return Judged(*(kind(data[key]) for key, kind in wanted.items()))


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer of four hundred digits
        return False
