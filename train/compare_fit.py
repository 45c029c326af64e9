"""Training the compare network on rendered pairs: good and defective parts under varied light, beside a render whose pose is a little off, as
fitted ones are."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cad.command import progress
from cad.errors import InputError
from cad.files import read_json, whole, write_json
from cad.part import Part
from synth.drawable import Drawable
from synth.photograph import truth_of
from synth.sampling import Recipe, draw_sample
from synth.scene import Scene, about, product
from train.compare_network import TOP, CompareNet, beside, score
from train.devices import fabric_for
from train.finish import finished
from train.images import grey

NETWORK, CONFIG = "compare.safetensors", "compare.json"
FORMAT = 1
DRAWN = 1.25  # px of the photographs that it learns from, to one that it sees
TURNED, MOVED, GROWN = np.radians(1.2), 0.004, 0.006  # deviations by which a fit is off: of turn, of place in widths, of scale
GOOD = 0.4  # share of pairs without a defect
SHOWN = 6  # px of a crop from which a defect counts as shown
HELD_OUT = 300  # pairs on which it is held against the plain residual
WHOLE = 0.3  # weight of the picture's own loss beside that of its pixels


@dataclass(frozen=True)
class Plan:
    """What it is trained with: ``pairs`` that are drawn, ``steps`` of ``batch``, at ``rate``; ``side``: px of what it sees, a multiple of 8;
    ``randomise`` as a recipe has it, and the share of pairs that get another ``finish``."""

    side: int = 96
    pairs: int = 4000
    steps: int = 1500
    batch: int = 24
    rate: float = 2e-3
    seed: int = 0
    finish: float = 0.3
    randomise: dict[str, Any] = field(default_factory=lambda: dict(DEFAULTS))


# few classes are learned in minutes: of real nuts a network that saw these told more than one that saw all; of no other part has that been measured
DEFAULTS: dict[str, Any] = {"ambient": "default", "surface": "default", "sensor": "default"}


@dataclass(frozen=True, eq=False)
class Pairs:
    """``seen`` (n, CHANNELS, S, S) float16, ``marks`` (n, S, S) bool, ``labels`` (n,) the defects' names, or good."""

    seen: np.ndarray
    marks: np.ndarray
    labels: list[str]


def draw_pairs(part: Part, plan: Plan, count: int, *, split: str = "train", told: str = "drawing pairs") -> Pairs:
    """``count`` pairs; pair k hangs on (seed, split, k) alone. Raises InputError where the part can have no defect."""
    if not part.defects:
        raise InputError(
            "defects", "the part file has none", wanted="some, to learn from", step="name what may go wrong: docs/part_files.md"
        )
    size = round(DRAWN * plan.side)
    recipe = Recipe(count, count, size=size, seed=plan.seed, randomise=plan.randomise, truth=plan.finish > 0)
    item, reach = Drawable.of(part.mesh()), part.mesh().diagonal / 2
    labels = [_label(part, plan.seed, split, k) for k in range(count)]

    def one(k: int) -> tuple[np.ndarray, np.ndarray]:
        drawn = draw_sample(part, recipe, split, labels[k], k)
        rng = np.random.default_rng([plan.seed, k, len(split)])
        form = truth_of(item, nudged(Scene.of(drawn.sample.scene), rng), size)
        photo = grey(drawn.image[None])[0]
        if rng.random() < plan.finish:
            photo = finished(photo, drawn.truth, rng)
        seen, crop = beside(photo, form, reach, plan.side)
        return seen.astype(np.float16), crop.of(drawn.mask.astype(np.uint8), 0) > 0

    with progress(count, told, "pairs") as advance, ThreadPoolExecutor(max(1, torch.get_num_threads())) as pool:
        rows = []
        for row in pool.map(one, range(count)):
            rows.append(row)
            advance()
    return Pairs(np.stack([r[0] for r in rows]), np.stack([r[1] for r in rows]), labels)


def nudged(scene: Scene, rng: np.random.Generator) -> Scene:
    """The scene as a fit finds it."""
    axis = rng.standard_normal(3)
    turn = product(about(axis / np.linalg.norm(axis), TURNED * rng.standard_normal()), np.asarray(scene.quaternion))
    x, y, z = scene.position
    width = scene.field or 2 * np.tan(np.radians(scene.angle) / 2) * -z
    x, y = (v + MOVED * width * rng.standard_normal() for v in (x, y))
    grown = float(np.exp(GROWN * rng.standard_normal()))
    if scene.field:
        return replace(scene, quaternion=tuple(turn), position=(x, y, z), field=scene.field * grown)
    return replace(scene, quaternion=tuple(turn), position=(x * grown, y * grown, z * grown))


def fit_compare(part: Part, plan: Plan, *, device: str = "auto", pairs: Pairs | None = None) -> tuple[CompareNet, dict[str, Any]]:
    """A trained network, in evaluation mode, and what its training measured."""
    began = time.perf_counter()
    pairs = pairs or draw_pairs(part, plan, plan.pairs)
    fabric = fabric_for(device, "auto")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        network = CompareNet(plan.side).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=plan.rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, plan.rate, total_steps=plan.steps, pct_start=0.1)
    model, optimizer = fabric.setup(network, optimizer)
    seen, marks = torch.from_numpy(pairs.seen), torch.from_numpy(pairs.marks)
    rng, mean = np.random.default_rng(plan.seed), None
    drawn = time.perf_counter() - began
    with progress(plan.steps, "training", "steps") as advance:
        for _ in range(plan.steps):
            pick = torch.from_numpy(rng.integers(0, len(seen), plan.batch))
            x, y = fabric.to_device(turned(seen[pick].float(), marks[pick], rng))
            optimizer.zero_grad(set_to_none=True)
            loss = difference_loss(model(x.contiguous(memory_format=torch.channels_last)), y)
            fabric.backward(loss)
            optimizer.step()
            schedule.step()
            now = float(loss.detach())
            mean = now if mean is None else 0.98 * mean + 0.02 * now
            advance()
    facts = {"drawn_seconds": round(drawn, 1), "seconds": round(time.perf_counter() - began, 1), "loss": round(mean, 4)}
    return network.float().eval().requires_grad_(False).cpu(), facts


def turned(seen: Tensor, marks: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """By a quarter of a turn or more, and mirrored or not; normals turn with the picture."""
    if rng.random() < 0.5:
        seen, marks = seen.flip(-1).clone(), marks.flip(-1)
        seen[:, 3] *= -1
    quarters = int(rng.integers(4))
    seen, marks = seen.rot90(quarters, (-2, -1)).clone(), marks.rot90(quarters, (-2, -1))
    for _ in range(quarters):  # counter-clockwise: x goes to y, y to -x
        seen[:, 3], seen[:, 4] = -seen[:, 4].clone(), seen[:, 3].clone()
    return seen, marks


def difference_loss(logits: Tensor, marks: Tensor) -> Tensor:
    """Of pixels, cross-entropy and overlap (Milletari et al. 2016); of the picture, whether its highest say that something differs."""
    wanted = marks[:, None].to(logits.dtype)
    pixels = nn.functional.binary_cross_entropy_with_logits(logits, wanted, pos_weight=logits.new_tensor(4.0))
    likely = logits.sigmoid()
    shared = 2 * (likely * wanted).sum((1, 2, 3)) + 1
    overlap = 1 - (shared / (likely.sum((1, 2, 3)) + wanted.sum((1, 2, 3)) + 1)).mean()
    shown = wanted.sum((1, 2, 3)) >= SHOWN
    return pixels + 0.5 * overlap + WHOLE * nn.functional.binary_cross_entropy_with_logits(score(logits), shown.to(logits.dtype))


@torch.no_grad()
def differences(network: CompareNet, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, CHANNELS, S, S) -> (n, S, S) float32 logits and (n,) scores, each picture computed by itself: rounding hangs on the batch."""
    logits = torch.cat([network(torch.from_numpy(np.asarray(one, np.float32))[None]) for one in seen])
    return logits[:, 0].numpy(), score(logits).numpy()


def held_out(network: CompareNet, part: Part, plan: Plan) -> dict[str, Any]:
    """On pairs that nothing was trained on: AUROC of the network's score, and of the plain residual's; ``asked``: whether it is better."""
    pairs = draw_pairs(part, plan, min(HELD_OUT, plan.pairs), split="test", told="held-out pairs")
    bad = np.array([m.sum() >= SHOWN for m in pairs.marks])
    if bad.all() or not bad.any():
        return {"auroc": None, "residual_auroc": None, "asked": False}
    own, plain = (_separation(s, bad) for s in (differences(network, pairs.seen)[1], residuals(pairs.seen)))
    return {"auroc": round(own, 4), "residual_auroc": round(plain, 4), "asked": own > plain}


def residuals(seen: np.ndarray) -> np.ndarray:
    """(n, CHANNELS, S, S) -> (n,): what a compare network is held against: the mean of the highest that light on the form leaves over."""
    left = np.abs(seen[:, 2].astype(np.float32)).reshape(len(seen), -1)
    return np.sort(left, 1)[:, -max(1, round(TOP * left.shape[1])) :].mean(1)


def _separation(scores: np.ndarray, bad: np.ndarray) -> float:
    """The share of pairs, one good and one bad, whose bad one scores higher: the area under the ROC curve."""
    wins = scores[bad][:, None] - scores[~bad]
    return float(np.mean((wins > 0) + 0.5 * (wins == 0)))


def save_network(network: CompareNet, folder: Path, plan: Plan, facts: dict[str, Any]) -> None:
    """Into a run folder."""
    with whole(folder / NETWORK) as temporary:
        save_file({k: v.contiguous() for k, v in network.state_dict().items()}, temporary)
    write_json(folder / CONFIG, {"format": FORMAT, "plan": asdict(plan), "measured": facts})


def open_network(folder: Path) -> CompareNet | None:
    """None where the run has none, or one that was no better than the plain residual. Raises InputError where it is damaged or of a newer format."""
    if not (folder / NETWORK).exists():
        return None
    config = read_json(folder / CONFIG, "a compare network's config")
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise InputError(folder / CONFIG, "is of another format", wanted=f"format {FORMAT}", step="train compare again")
    try:
        if not config["measured"]["asked"]:
            return None
        network = CompareNet(config["plan"]["side"])
        network.load_state_dict(load_file(folder / NETWORK))
    except (SafetensorError, RuntimeError, OSError, KeyError, TypeError) as error:
        raise InputError(folder / NETWORK, f"cannot be read: {str(error).splitlines()[0]}", wanted="a compare network", step="train compare again") from None  # fmt: skip
    return network.eval().requires_grad_(False)


def _label(part: Part, seed: int, split: str, k: int) -> str:
    rng = np.random.default_rng([seed, k, 7, len(split)])
    names: Sequence[str] = list(part.defects)
    return "good" if rng.random() < GOOD else names[int(rng.integers(len(names)))]
