"""One training loop for all learned forms: players take turns on a step's images, an average of the weights is kept, and anything goes on after a kill.

What step k sees is a function of (seed, k) alone, drawn for all processes together and then shared out: two processes with half the batch each
learn what one does with all of it. Fabric brings device, precision and several processes.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cad.command import progress, say
from synth.dataset import Dataset
from train import filters
from train.config import Config
from train.devices import fabric_for
from train.images import disturbed
from train.learning import Learning, learning
from train.minibatch import variety
from train.models import build
from train.models.base import Batch, Draw, Model, trainable
from train.runs import Checkpoint, RunFolder
from train.validation import measure
from train.views import Views, of_dataset

KNOWN = 4  # good images to a known abnormal one in a step
SAVE_SECONDS = 60.0  # a kill costs no more than this
CLIP = 5.0  # the norm of a maker's gradient
COLLAPSED = 0.5  # share of the real images' variety below which a generator is said to have collapsed
GROWN_UP = 300  # steps before which nobody is warned: at first everything looks alike
COLLAPSE = "collapse: what is generated varies {share:.0%} as much as what is real; try --augment, --minibatch, or a smaller --judge-rate"
LOOKED, GRID = 64, 8  # images that variety is told from; images of a sample grid


@dataclass
class Progress:
    """Where training stands; ``seconds`` counts training alone, over all its sittings; ``means`` are running ones of the losses, as
    the log shows them: not every step plays the whole game. ``best``: the lowest validation measure, and ``bad``: epochs since;
    ``warned``: of a collapse, once."""

    step: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    means: dict[str, float] = field(default_factory=dict)
    best: float | None = None
    bad: int = 0
    warned: bool = False

    def follow(self, losses: dict[str, Tensor]) -> None:
        for name, value in losses.items():
            self.means[name] = 0.98 * self.means.get(name, float(value)) + 0.02 * float(value)


def fit(data: Dataset | Views, folder: RunFolder, config: Config, *, device: str = "auto", devices: int = 1) -> Progress:
    """Trains on the good training views until ``config.epochs`` (or ``minutes``) are spent, or ``patience`` is, saving as it goes.

    A folder with a checkpoint of the same config goes on from it: interrupted and resumed equals uninterrupted on one machine. ``devices``:
    processes, ``config.batch`` images each; only the first writes. Raises InputError where there are too few good views to train on, or the model
    wants what they have not.
    """
    views = data if isinstance(data, Views) else of_dataset(data)
    if config.perceptual:
        filters.check()
    fabric = fabric_for(device, config.precision, devices)
    seen = learning(views, config, fabric.world_size).to(fabric.to_device)
    model, average = build(config), build(config).eval().requires_grad_(False)
    optimizers = optimizers_of(model, config)
    model, *set_up = fabric.setup(model, *optimizers.values())
    optimizers = dict(zip(optimizers, set_up if isinstance(set_up, list) else [set_up], strict=True))
    average = fabric.to_device(average)
    for own in (model.module, average):
        own.begin(seen.images, seen.poses)
    state = Checkpoint(model.module, average, list(optimizers.values()))
    now = folder.resume(state, Progress, first=fabric.is_global_zero)  # on the device: Fabric moves no optimizer's state
    fabric.barrier()
    steps, first = seen.steps, fabric.is_global_zero
    total = steps * config.epochs
    bar = progress(total, "training", "steps") if first else nullcontext(lambda *_: None)
    with _curves(folder.path, first) as log, bar as advance, interrupts() as stop:
        advance(now.step)
        saved, began = time.monotonic(), time.monotonic() - now.seconds
        while now.step < total and not _spent(config, now):
            done = _done(config, now, total)
            _set_rate(optimizers, config, now.step, done)
            losses = train_step(fabric, model, optimizers, seen, config, now.step, done)
            now.follow(losses)
            follow(average, model.module, config.ema, now.step)
            now.step += 1
            now.seconds, stopped = _agreed(fabric, time.monotonic() - began, stop.is_set())
            ended = now.step % steps == 0 or now.step == total or _spent(config, now)
            if ended:
                row = _row(now, steps) | check(average, seen, config, now, state, say if first else _silent)
                now.history.append(row)
                log(row)
                if first:
                    folder.sample_grid(seen.sample(GRID, 4), drawn(average, seen, GRID), len(now.history))
                if config.patience and now.bad >= config.patience:
                    (say if first else _silent)(f"stopped after {len(now.history)} epochs: none of the last {config.patience} was better")
                    break
            advance(1, f"{_headline(now)}" if ended else "")
            if first and (stopped or time.monotonic() - saved > SAVE_SECONDS):
                folder.save_checkpoint(state, now)
                saved = time.monotonic()
            if stopped:
                raise KeyboardInterrupt
    if state.best:
        average.load_state_dict(state.best)
    if first:
        folder.finish(average, config, views, now)
    fabric.barrier()
    return now


def train_step(fabric: Any, model: nn.Module, optimizers: dict[str, Any], seen: Learning, config: Config, step: int, done: float = 0.0) -> dict[str, Tensor]:  # fmt: skip
    """Every player's turn that is due: encoder and generator first, then whoever judges what they made. The losses are weighted, as descended on,
    means over all processes."""
    module: Model = model.module
    module.train()
    told: dict[str, Tensor] = {}
    made: list[Tensor | None] = [None] * config.accumulate
    batches = [batch_of(seen, config, step, done, fabric.global_rank, fabric.world_size, part) for part in range(config.accumulate)]
    for player, optimizer in optimizers.items():
        if not module.due(player, step, done):
            continue
        parameters = trainable(module, player)
        optimizer.zero_grad(set_to_none=True)
        for part, batch in enumerate(batches):
            with fabric.no_backward_sync(model, enabled=part + 1 < config.accumulate):
                losses, new = model(partial(module.play, batch.again(), player, made[part]))
                fabric.backward(sum(losses.values()) / config.accumulate)
            made[part] = new if new is not None else made[part]
            for name, value in losses.items():
                told[name] = told.get(name, 0.0) + value.detach() / config.accumulate
        if player != "judge":
            torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
    return told if fabric.world_size == 1 else {k: fabric.all_reduce(v, reduce_op="mean") for k, v in told.items()}


def batch_of(seen: Learning, config: Config, step: int, done: float, rank: int, world: int, part: int) -> Batch:
    """What a player sees in step ``step``: all draws are of the step's images together, whoever computes which; each turn draws the same ones."""
    share, total = config.batch // config.accumulate, config.batch * world
    rows = slice(rank * config.batch + part * share, rank * config.batch + (part + 1) * share)
    order = np.random.default_rng([config.seed, step // seen.steps]).permutation(seen.choices)
    at = step % seen.steps * total
    picks = torch.from_numpy(order[at : at + total]).to(seen.images.device)
    clean = seen.pictures(picks, config.seed * 1_000_003 + step).contiguous(memory_format=torch.channels_last)
    changed = disturbed(clean, config.corrupt, torch.Generator().manual_seed(config.seed * 1_000_003 + step))
    known = None
    if len(seen.known):
        chosen = np.random.default_rng([config.seed, step, 1]).integers(0, len(seen.known), max(1, total // KNOWN))
        own = torch.from_numpy(chosen[rank * config.accumulate + part :: world * config.accumulate]).to(clean.device)
        known = seen.abnormal(own, config.seed * 1_000_003 + step)
    draw = Draw((config.seed * 1_000_003 + step) * 2 + 1, total, rows, clean.device)
    return Batch(
        clean[rows], changed[rows], draw, step, done, None if seen.poses is None else seen.poses[picks % len(seen.images)][rows], known
    )


def optimizers_of(model: Model, config: Config) -> dict[str, torch.optim.Optimizer]:
    """Adam for each player, its discriminator at its own rate."""
    return {
        player: torch.optim.Adam(
            [p for m in own for p in m.parameters()],
            lr=config.rate * (config.judge_rate if player == "judge" else 1.0),
            betas=(0.5 if player == "judge" or model.PRIOR else 0.8, 0.99),
            fused=True,
        )
        for player, own in model.players().items()
        if player != "judge" or config.adversarial > 0
    }


def check(average: Model, seen: Learning, config: Config, now: Progress, state: Checkpoint, warn: Callable[[str], None] = say) -> dict[str, float]:  # fmt: skip
    """What an epoch's end looks at: the variety of what is generated, and the validation measure where there is patience; the best average is kept."""
    share = variety(drawn(average, seen, LOOKED)) / max(variety(seen.sample(LOOKED, 4)), 1e-9)
    row = {"variety": round(float(share), 4)}
    if not share >= COLLAPSED and now.step >= GROWN_UP and not now.warned:
        now.warned = True
        warn(COLLAPSE.format(share=share))
    if config.patience:
        row["validation"] = round(measure(average, seen.held()), 6)
        if now.best is None or row["validation"] < now.best:
            now.best, now.bad = row["validation"], 0
            state.best = {k: v.clone() for k, v in average.state_dict().items()}
        else:
            now.bad += 1
    return row


@torch.no_grad()
def drawn(average: Model, seen: Learning, count: int) -> Tensor:
    """At most (count, 1, S, S) that the averaged model generates, from the same noise or the same images each time."""
    images = seen.sample(count, 4)
    noise = torch.randn((len(images), average.config.latent), generator=torch.Generator().manual_seed(0)).to(images.device)
    return torch.cat([average.drawn(i, n) for i, n in zip(images.split(32), noise.split(32), strict=True)])


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """The running average of the weights, which is what a run keeps: quicker at first, so that it is no worse than the weights."""
    decay = min(decay, (1 + step) / (10 + step))
    for kept, now in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if kept.dtype.is_floating_point:
            kept.lerp_(now, 1 - decay)
        else:
            kept.copy_(now)


def _silent(words: str) -> None:
    """What processes after the first say."""


def _row(now: Progress, steps: int) -> dict[str, float]:
    """A line of log.jsonl."""
    place = {"epoch": round(now.step / steps, 4), "step": now.step, "seconds": round(now.seconds, 2)}
    return place | {k: round(v, 6) for k, v in sorted(now.means.items())}


def _headline(now: Progress) -> str:
    name = next((k for k in ("pyramid", "ssim", "adversarial") if k in now.means), next(iter(now.means)))
    return f"{'reconstruction' if name == 'pyramid' else name} {now.means[name]:.4f}"


def _agreed(fabric: Any, seconds: float, stop: bool) -> tuple[float, bool]:
    """The first process's clock, and whether it was told to stop: all have to end at the same step."""
    return (seconds, stop) if fabric.world_size == 1 else tuple(fabric.broadcast((seconds, stop)))


def _spent(config: Config, now: Progress) -> bool:
    return config.minutes is not None and now.seconds >= 60 * config.minutes


def _done(config: Config, now: Progress, total: int) -> float:
    """The share that is over of whichever budget ends first."""
    done = now.step / total
    return done if config.minutes is None else min(max(done, now.seconds / 60 / config.minutes), 1.0)


def _set_rate(optimizers: dict[str, torch.optim.Optimizer], config: Config, step: int, done: float) -> None:
    """A short warm-up, then half a cosine down to 2 %."""
    factor = min(1.0, (step + 1) / 100) * (0.02 + 0.49 * (1 + math.cos(math.pi * done)))
    for player, optimizer in optimizers.items():
        for group in optimizer.param_groups:
            group["lr"] = config.rate * factor * (config.judge_rate if player == "judge" else 1.0)


@contextmanager
def interrupts() -> Iterator[threading.Event]:
    """Within the block Ctrl-C and a polite kill set the event instead of breaking a step in two."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    old = {s: signal.signal(s, lambda *_: stop.set()) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


@contextmanager
def _curves(path: Path, first: bool) -> Iterator[Any]:
    """Writes each epoch's losses for TensorBoard, below ``path``/curves; the ``first`` process does."""
    if not first:
        yield lambda row: None
        return
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(path / "curves"))
    try:
        yield lambda row: [writer.add_scalar(k, v, int(row["step"])) for k, v in row.items() if k not in ("step", "epoch")]
    finally:
        writer.close()
