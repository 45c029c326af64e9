"""The GAN's training loop: reconstruction through a narrow waist, and a discriminator that wants it real."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cad.command import progress
from cad.errors import InputError
from synth.dataset import Dataset
from train import filters
from train.config import Config
from train.images import disturbed, prepare
from train.losses import doubt_loss, feature_distance, perceptual_distance, pyramid_l1
from train.networks import build
from train.runs import Checkpoint, RunFolder

DOUBT_EVERY = 3  # steps between two of the expected residual's: it is learned long before the picture is
SAVE_SECONDS = 60.0  # a kill costs no more than this


@dataclass
class Progress:
    """Where training stands; ``seconds`` counts training alone, over all its sittings; ``means`` are running ones of the losses, as
    the log shows them: not every step plays the whole game."""

    step: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    means: dict[str, float] = field(default_factory=dict)

    def follow(self, losses: dict[str, Tensor]) -> None:
        for name, value in losses.items():
            self.means[name] = 0.98 * self.means.get(name, float(value)) + 0.02 * float(value)


def fit(data: Dataset, folder: RunFolder, config: Config, *, device: str = "auto") -> Progress:
    """Trains on the good training views until ``config.epochs`` (or ``minutes``) are spent, saving as it goes.

    A folder with a checkpoint of the same config goes on from it: interrupted and resumed equals uninterrupted on one machine.
    Raises InputError where the dataset has too few good views to train on.
    """
    if config.perceptual:
        filters.check()
    fabric = fabric_for(device, config.precision)
    images = training_images(data, config)
    model, average = build(config), build(config).eval().requires_grad_(False)
    makers = [nn.ModuleList([model.encoder, model.generator]), model.discriminator]
    optimizers = [
        torch.optim.Adam(m.parameters(), lr=config.rate, betas=(0.5 if i else 0.8, 0.99), fused=True) for i, m in enumerate(makers)
    ]
    model, *optimizers = fabric.setup(model, *optimizers)
    average = fabric.to_device(average)
    images = fabric.to_device(images)
    progress_ = folder.resume(Checkpoint(model.module, average, optimizers), Progress)  # on the device: Fabric moves no optimizer's state
    steps = len(images) // config.batch
    total = steps * config.epochs
    with _curves(folder.path) as log, progress(total, "training", "steps") as advance, interrupts() as stop:
        advance(progress_.step)
        saved, began = time.monotonic(), time.monotonic() - progress_.seconds
        while progress_.step < total and not _spent(config, progress_):
            batch = _batch(images, config, progress_.step, steps)
            _set_rate(optimizers, config, progress_, total)
            losses = train_step(fabric, model, optimizers, batch, config, progress_.step)
            progress_.follow(losses)
            follow(average, model.module, config.ema, progress_.step)
            progress_.step += 1
            progress_.seconds = time.monotonic() - began
            ended = progress_.step % steps == 0 or progress_.step == total or _spent(config, progress_)
            if ended:
                progress_.history.append(_row(progress_, steps))
                log(progress_.history[-1])
                folder.sample_grid(images[: 4 * 8 : 4], average(images[: 4 * 8 : 4])[0], len(progress_.history))
            advance(1, f"reconstruction {progress_.means['pyramid']:.4f}" if ended else "")
            if stop.is_set() or time.monotonic() - saved > SAVE_SECONDS:
                folder.save_checkpoint(Checkpoint(model.module, average, optimizers), progress_)
                saved = time.monotonic()
            if stop.is_set():
                raise KeyboardInterrupt
    folder.finish(average, config, data, progress_)
    return progress_


def _row(progress_: Progress, steps: int) -> dict[str, float]:
    """A line of log.jsonl."""
    place = {"epoch": round(progress_.step / steps, 4), "step": progress_.step, "seconds": round(progress_.seconds, 2)}
    return place | {k: round(v, 6) for k, v in sorted(progress_.means.items())}


def train_step(
    fabric: object, model: nn.Module, optimizers: list[torch.optim.Optimizer], batch: tuple[Tensor, Tensor], config: Config, step: int
) -> dict[str, Tensor]:
    """One step of the game: encoder and generator always; the discriminator each ``adversarial_every`` steps (hinge loss)."""
    clean, seen = batch
    maker, judge = optimizers
    playing = config.adversarial > 0 and step % config.adversarial_every == 0
    made, log_size = model(seen, step % DOUBT_EVERY == 0)
    with fabric.autocast():
        losses = {"pyramid": config.pyramid * pyramid_l1(made.float(), clean).mean() + (made.float() - clean).abs().mean()}
        if log_size is not None:
            whole = (seen == clean).flatten(1).all(1).float()  # what a disturbed view leaves over says nothing of good parts
            losses["doubt"] = (doubt_loss(clean, made.detach().float(), log_size.float()) * whole).sum() / whole.sum().clamp(min=1)
        if playing:
            with torch.no_grad():
                _, wanted = model.module.discriminator(clean)
            realness, features = model.module.discriminator(made)
            losses["adversarial"] = -realness.float().mean()
            losses["features"] = feature_distance(features, wanted).float().mean()
        if config.perceptual:
            losses["perceptual"] = perceptual_distance(made, clean).float().mean()
    loss = (
        losses["pyramid"]
        + config.perceptual * losses.get("perceptual", 0.0)
        + losses.get("doubt", 0.0)
        + sum(config.adversarial * config.adversarial_every * losses[k] for k in ("adversarial", "features") if k in losses)
    )
    maker.zero_grad(set_to_none=True)
    fabric.backward(loss)
    torch.nn.utils.clip_grad_norm_([p for g in maker.param_groups for p in g["params"]], 5.0)
    maker.step()
    if playing:
        with fabric.autocast():
            real, _ = model.module.discriminator(clean)
            fake, _ = model.module.discriminator(made.detach())
            losses["discriminator"] = torch.relu(1 - real.float()).mean() + torch.relu(1 + fake.float()).mean()
        judge.zero_grad(set_to_none=True)
        fabric.backward(losses["discriminator"])
        judge.step()
    return {k: v.detach() for k, v in losses.items()}


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """The running average of the weights, which is what a run keeps: quicker at first, so that it is no worse than the weights."""
    decay = min(decay, (1 + step) / (10 + step))
    for kept, now in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if kept.dtype.is_floating_point:
            kept.lerp_(now, 1 - decay)
        else:
            kept.copy_(now)


def fabric_for(device: str, precision: str) -> object:
    """Lightning Fabric on ``auto``, ``cpu`` or ``cuda``; bfloat16 autocast where the machine computes it in hardware."""
    from lightning_fabric import Fabric

    if device not in ("auto", "cpu", "cuda"):
        raise InputError("--device", f'found "{device}"', wanted="auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device", "this machine has no CUDA device", wanted="auto or cpu")
    cuda = torch.cuda.is_available() and device != "cpu"
    if precision == "auto":
        precision = "bf16-mixed" if (torch.cuda.is_bf16_supported() if cuda else cpu_has_bfloat16()) else "32-true"
    return Fabric(accelerator="cuda" if cuda else "cpu", devices=1, precision=precision)


def cpu_has_bfloat16() -> bool:
    """Whether autocast is a gain on this processor: with AMX, or with AVX512-BF16 on AMD (twice as fast as float32 there; on an
    Intel processor that has it without AMX a training step took 1.1 to 1.6 times as long as in float32)."""
    capable = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capable.get("amx_bf16") or (capable.get("avx512_bf16") and "AMD" in str(capable.get("cpu_name", ""))))


def training_images(data: Dataset, config: Config) -> Tensor:
    """(n, 1, S, S) float32 prepared, in the dataset's order."""
    samples = data.of("train", "good")
    if len(samples) < config.batch:
        raise InputError(
            data.folder,
            f"found {len(samples)} good training views",
            wanted=f"at least a batch, {config.batch}",
            step="synth render with a larger -n, or train fit with a smaller --batch",
        )
    from train.images import resized

    return prepare(resized(data.images(samples), config.size), config.normalize)


def _batch(images: Tensor, config: Config, step: int, steps: int) -> tuple[Tensor, Tensor]:
    """What step ``step`` sees: a function of (seed, step) alone."""
    order = np.random.default_rng([config.seed, step // steps]).permutation(len(images))
    at = (step % steps) * config.batch
    clean = images[torch.from_numpy(order[at : at + config.batch]).to(images.device)].contiguous(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    return clean, disturbed(clean, config.corrupt, generator)


def _spent(config: Config, progress_: Progress) -> bool:
    return config.minutes is not None and progress_.seconds >= 60 * config.minutes


def _set_rate(optimizers: list[torch.optim.Optimizer], config: Config, progress_: Progress, total: int) -> None:
    """A short warm-up, then half a cosine down to 2 % over whichever budget ends first."""
    done = progress_.step / total
    if config.minutes is not None:
        done = max(done, progress_.seconds / 60 / config.minutes)
    factor = min(1.0, (progress_.step + 1) / 100) * (0.02 + 0.49 * (1 + np.cos(np.pi * min(done, 1.0))))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = config.rate * factor


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
def _curves(path: Path) -> Iterator[object]:
    """Writes each epoch's losses for TensorBoard, below ``path``/curves."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(path / "curves"))
    try:
        yield lambda row: [writer.add_scalar(k, v, int(row["step"])) for k, v in row.items() if k not in ("step", "epoch")]
    finally:
        writer.close()
