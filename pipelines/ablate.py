"""What each class of synthesis is worth on real photographs: the compare network is trained anew without it, and with it alone, by the same budget and
seeds, and asked about the same photographs beside the same fitted forms."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from cad.command import progress, say
from cad.errors import InputError, nearest
from cad.files import fingerprint, read_json, sha256, write, write_json
from cad.part import Part
from synth.blocks import CLASSES

FORMAT = 1
FINISH = "finish"  # a class of the pairs alone: greys that no renderer has (train.finish)
NAMES = (*CLASSES, FINISH)
FITTED = 20  # good photographs that an appearance is fitted to
BOOTSTRAPS = 1000
RESULT = "ablation.json"


@dataclass(frozen=True)
class Budget:
    """``pairs`` that each variant draws, ``steps`` of training, ``side`` px, ``seeds``; ``most`` photographs of a class are looked at (None: all)."""

    pairs: int
    steps: int
    side: int
    seeds: tuple[int, ...]
    most: int | None


QUICK = Budget(600, 500, 64, (0,), 40)
FULL = Budget(3000, 2500, 96, (0, 1, 2), None)


@dataclass(frozen=True, eq=False)
class Looked:
    """Photographs beside their fitted forms: ``seen`` (n, CHANNELS, S, S) float16, ``labels`` (n,); ``lost``: of each label, how many show no part."""

    seen: np.ndarray
    labels: np.ndarray
    lost: dict[str, int]


def variants(names: Sequence[str] = NAMES) -> dict[str, dict[str, Any]]:
    """{variant: {class: level}}: everything, nothing, each of ``names`` left out, and each alone."""
    every, none = dict.fromkeys(NAMES, "default"), dict.fromkeys(NAMES, "off")
    out = {"all": every, "none": none}
    out |= {f"without {n}": {**every, n: "off"} for n in names}
    return out | {f"only {n}": {**none, n: "default"} for n in names}


def ablate(part: Part, real: Path, folder: Path, budget: Budget, *, names: Sequence[str] = NAMES, apart: Sequence[str] = (), device: str = "auto") -> dict[str, Any]:  # fmt: skip
    """Trains and measures every variant that is not up to date, writes ablation.json and report.html into ``folder``, returns the former. Raises
    InputError."""
    check_names(names)
    began = time.perf_counter()
    plan = photographs(real, budget)
    labels = sorted({label for label, _ in plan} - {"good"})
    if unknown := [n for n in apart if n not in labels]:
        raise InputError("--apart", f"found {unknown[0]}", wanted=", ".join(labels))
    if set(apart) == set(labels):
        raise InputError("--apart", "no class is left", wanted="one to tell from good")
    looked = look(part, plan, folder, budget)
    known = variants(names) | fitted(real, part, folder)
    scores = {name: _scores(name, part, levels, looked, folder, budget, device) for name, levels in known.items()}
    shape = np.isin(looked.labels, [n for n in labels if n not in apart])
    figures = {
        "format": FORMAT,
        "part": part.name,
        "real": real.name,
        "budget": asdict(budget),
        "photographs": {n: int((looked.labels == n).sum()) for n in ["good", *labels]},
        "no_part_seen": looked.lost,
        "apart": list(apart),
        "variants": {name: _figures(s, looked.labels, labels, shape) for name, s in scores.items()},
        "worth": {name: worth(name, scores, looked.labels == "good", shape) for name in names},
        "seconds": round(time.perf_counter() - began, 1),
    }
    figures["advice"] = [summary(figures["variants"]), *(figures["worth"][n]["advice"] for n in names)]
    write_json(folder / RESULT, figures)
    write(folder / "report.html", page(figures))
    return figures


def check_names(names: Sequence[str]) -> None:
    for name in names:
        if name not in NAMES:
            raise InputError("--class", f'found "{name}"', wanted=", ".join(NAMES), step=nearest(name, NAMES))


def photographs(real: Path, budget: Budget) -> list[tuple[str, Path]]:
    """(label, path) of those that are looked at. Raises InputError where there is no test/good, or no class beside it."""
    from detect.validation import check_layout, planned

    check_layout(real)
    plan = planned(real)
    labels = sorted({label for label, _ in plan})
    if labels == ["good"]:
        raise InputError(real, "has good photographs alone", wanted="test/<class> too, to tell them from")
    return [pair for label in labels for pair in _some([p for p in plan if p[0] == label], budget.most)]


def look(part: Part, plan: list[tuple[str, Path]], folder: Path, budget: Budget) -> Looked:
    """Fits the part's outline to photographs, once for all variants. Raises InputError where hardly a part is seen."""
    from train.photographs import read_all

    labels = sorted({label for label, _ in plan})
    key = fingerprint([part.text, budget.side, version("formspect"), [(label, sha256(path)) for label, path in plan]])
    kept = folder / "looked.npz"
    if kept.exists():
        with np.load(kept) as held:
            if str(held["key"]) == key:
                return Looked(held["seen"], held["labels"], dict(zip(held["lost_of"].tolist(), held["lost"].tolist(), strict=True)))
    detector = form_of(part, folder)
    rows, names, lost = [], [], dict.fromkeys(labels, 0)
    with progress(len(plan), "fitting", "photographs") as advance:
        for start in range(0, len(plan), 16):
            chunk = plan[start : start + 16]
            photographs = read_all([path for _, path in chunk], detector.size, detector.lens)
            for (label, _), seen in zip(chunk, detector.beside_all(photographs, budget.side), strict=True):
                if seen is None:
                    lost[label] += 1
                else:
                    rows.append(seen.astype(np.float16))
                    names.append(label)
            advance(len(chunk))
    if min((names.count(label) for label in labels), default=0) < 2:
        raise InputError(
            plan[0][1].parent.parent, f"hardly a part is seen in them: {lost}", wanted="photographs of the part before a plain background"
        )
    looked = Looked(np.stack(rows), np.array(names), lost)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = kept.with_name("looking.npz")
    np.savez(temporary, seen=looked.seen, labels=looked.labels, lost_of=np.array(list(lost)), lost=np.array(list(lost.values())), key=key)
    temporary.replace(kept)
    return looked


def _some(pairs: list[Any], most: int | None) -> list[Any]:
    """No more than ``most``, evenly from first to last."""
    if most is None or len(pairs) <= most:
        return pairs
    return [pairs[k] for k in np.linspace(0, len(pairs) - 1, most).round().astype(int)]


def fitted(real: Path, part: Part, folder: Path) -> dict[str, dict[str, Any]]:
    """The variant whose classes were fitted to the good photographs for calibration; none where there are none, or too few show the part."""
    from detect.appearance import LEAST, appearance
    from detect.curate import open_curated
    from synth.randomise import blocks_json
    from train.photographs import read_all

    good = _some(open_curated(real, check=False).paths("calibrate", "good"), FITTED)
    if len(good) < LEAST:
        return {}
    detector = form_of(part, folder)
    try:
        blocks, _ = appearance(detector, read_all(good, detector.size, detector.lens))
    except InputError as error:
        say(f"appearance is not fitted: {error}")
        return {}
    return {f"fitted to {len(good)} good": {**blocks_json(blocks), FINISH: "default"}}


def form_of(part: Part, folder: Path) -> Any:
    """A detector of the part's CAD form, which is made in ``folder`` where it is not there."""
    from detect.cad_detector import CadRun
    from detect.photo_detector import PhotoDetector
    from train.cad_form import fit_form, open_form, read_config, wanted_of

    made = folder / "form"
    fit_form(made, part, wanted_of(part, 64, 0), replace_other=True)
    return PhotoDetector(CadRun(made, open_form(made, read_config(made))))


def _scores(name: str, part: Part, levels: dict[str, Any], looked: Looked, folder: Path, budget: Budget, device: str) -> np.ndarray:
    """(seeds, n): what a network of this variant says of each photograph; kept, so that an ablation that was stopped goes on."""
    from train.compare_fit import Plan, differences, fit_compare

    rows = []
    for seed in budget.seeds:
        blocks = {n: v for n, v in levels.items() if n != FINISH}
        plan = replace(Plan(), side=budget.side, pairs=budget.pairs, steps=budget.steps, seed=seed, randomise=blocks)
        plan = plan if levels[FINISH] != "off" else replace(plan, finish=0.0)
        key = fingerprint([part.text, asdict(plan), version("formspect"), _print_of(looked)])
        path = folder / "scores" / f"{key}.json"
        if not path.exists():
            network, facts = fit_compare(part, plan, device=device)
            write_json(
                path,
                {"levels": levels, "seed": seed, "measured": facts, "scores": differences(network, looked.seen)[1].astype(float).tolist()},
            )
            say(f"{name:<26} seed {seed}: {facts['seconds']:.0f} s, loss {facts['loss']:.3f}")
        rows.append(read_json(path, "scores")["scores"])
    return np.array(rows)


def _print_of(looked: Looked) -> str:
    return fingerprint([str(looked.seen.astype(np.float64).sum()), looked.labels.tolist()])


def _figures(scores: np.ndarray, labels: np.ndarray, names: Sequence[str], shape: np.ndarray) -> dict[str, Any]:
    """AUROC of each class and of all shape defects, mean over seeds."""
    good = labels == "good"
    value, low, high = _interval([scores], good, shape, lambda a: a[0])
    each = {n: float(np.mean([_auroc(s[good], s[labels == n]) for s in scores])) for n in names}
    return {"image_auroc": value, "image_auroc_low": low, "image_auroc_high": high, "classes": each, "seeds": [_auroc(s[good], s[shape]) for s in scores]}  # fmt: skip


def worth(name: str, scores: dict[str, np.ndarray], good: np.ndarray, bad: np.ndarray) -> dict[str, Any]:
    """How much AUROC a class adds to all others, and alone, with the 95 % interval of a bootstrap over photographs (the same in both)."""
    adds, low, high = _interval([scores["all"], scores[f"without {name}"]], good, bad, lambda a: a[0] - a[1])
    alone, alone_low, alone_high = _interval([scores[f"only {name}"], scores["none"]], good, bad, lambda a: a[0] - a[1])
    return {
        "adds": adds, "adds_low": low, "adds_high": high, "alone": alone, "alone_low": alone_low, "alone_high": alone_high,
        "advice": advice(name, adds, low, high),
    }  # fmt: skip


def summary(found: dict[str, dict[str, Any]]) -> str:
    """What told most, beside everything and nothing: a class is judged among all others, and fewer of them may do better."""
    best = max(found, key=lambda n: found[n]["image_auroc"])
    value = {n: found[n]["image_auroc"] for n in (best, "all", "none")}
    return f"{best} told most: AUROC {value[best]:.3f}; all classes together {value['all']:.3f}, none {value['none']:.3f}"


def advice(name: str, adds: float, low: float, high: float) -> str:
    """In words, what its interval allows to say."""
    if low > 0:
        return f"switch on {name}: without it AUROC is lower by {adds:.3f} ({low:.3f} to {high:.3f})"
    if high < 0:
        return f"switch off {name}: with it AUROC is lower by {-adds:.3f} ({-high:.3f} to {-low:.3f})"
    return f"{name} does nothing here that these photographs can tell ({low:+.3f} to {high:+.3f})"


def _interval(scores: Sequence[np.ndarray], good: np.ndarray, bad: np.ndarray, figure: Any, seed: int = 0) -> tuple[float, float, float]:
    """``figure`` of the variants' AUROCs (each the mean over its seeds), and its bootstrap interval; photographs are drawn alike for all."""
    wins = [np.mean([(s[bad][:, None] > s[good]) + 0.5 * (s[bad][:, None] == s[good]) for s in rows], 0) for rows in scores]
    rng = np.random.default_rng(seed)
    b, g = wins[0].shape
    draws = []
    for _ in range(BOOTSTRAPS):
        u, v = (np.bincount(rng.integers(0, n, n), minlength=n) / n for n in (b, g))
        draws.append(figure([float(u @ w @ v) for w in wins]))
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(figure([float(w.mean()) for w in wins])), float(low), float(high)


def _auroc(good: np.ndarray, bad: np.ndarray) -> float:
    from detect.metrics import auroc

    return float(auroc(good, bad))


def page(figures: dict[str, Any]) -> str:
    """The table, the bars and the advice, as one HTML file that opens offline."""
    from detect.report import environment, svg

    return (
        environment("pipelines")
        .get_template("ablation.html")
        .render(title=f"Ablation: {figures['part']}", a=figures, plot=svg(bars(figures)))
    )


def bars(figures: dict[str, Any]) -> Any:
    """What each class adds to all others, and alone, with its interval."""
    from detect.report import new_figure

    rows = list(figures["worth"].items())
    drawn = new_figure(7.5, 0.9 + 0.32 * len(rows))
    axes = drawn.subplots()
    for shift, (key, told) in zip((-0.17, 0.17), {"adds": "added to all others", "alone": "alone, against none"}.items(), strict=True):
        values = np.array([[w[key], w[f"{key}_low"], w[f"{key}_high"]] for _, w in rows])
        off = np.abs(values[:, 1:] - values[:, :1]).T
        axes.barh(np.arange(len(rows)) + shift, values[:, 0], 0.3, xerr=off, label=told, error_kw={"linewidth": 0.8})
    axes.set(yticks=range(len(rows)), yticklabels=[n.replace("_", " ") for n, _ in rows], xlabel="AUROC, difference on real photographs")
    axes.axvline(0, color="black", linewidth=0.8)
    axes.invert_yaxis()
    axes.legend(frameon=False)
    return drawn


def rows_of(figures: dict[str, Any]) -> Iterator[str]:
    """The figures as lines of text."""
    for name, v in figures["variants"].items():
        each = "  ".join(f"{n} {a:.3f}" for n, a in v["classes"].items())
        yield f"{name:<26} AUROC {v['image_auroc']:.3f} ({v['image_auroc_low']:.3f} to {v['image_auroc_high']:.3f})  {each}"
