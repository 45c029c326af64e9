"""The run folder: weights, config, part, log, samples. Nothing in it is code; loading runs none.

model.safetensors   the averaged weights        config.yaml   what it was trained with, and on
part.yaml           the part file               log.jsonl     an epoch a line
samples/*.png       pictures over rebuilt ones  bank.safetensors   (n, Z) codes and (n, 256) thumbnails of training views;
bank.jsonl          their scenes                                   of photographs what describes them and their places
                                                checkpoint.*  while training is under way
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cad.errors import InputError
from cad.files import whole, write
from cad.part import Part, parse
from cad.reading import model_error, read_yaml, yaml_text
from synth.dataset import Dataset
from synth.scene import Scene
from train.bank import Bank, make_bank, open_bank, save_bank
from train.config import Config
from train.models import build
from train.models.base import Model
from train.views import Views, of_dataset

if TYPE_CHECKING:
    from train.fit import Progress

FORMAT = 1
SHOWN = (0.01, 0.99)  # quantiles of a sample's greys that are black and white in its picture


@dataclass
class Checkpoint:
    """All that training changes; ``best``: the average's state at the best validation measure so far, where one is taken."""

    model: nn.Module
    average: nn.Module
    optimizers: list[torch.optim.Optimizer]
    best: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run, opened by :func:`open_run`; the model is in evaluation mode; of photographs there is no ``part``."""

    folder: Path
    config: Config
    model: Model
    bank: Bank
    part: Part | None
    facts: dict[str, Any]

    def scene(self, view: int) -> Scene:
        return Scene.of(self.bank.scenes[view]["scene"])


class RunFolder:
    """Writes a run; knows where its files lie."""

    def __init__(self, path: str | Path, config: Config, data_fingerprint: str) -> None:
        self.path, self.config = Path(path), config
        self.wanted = {"format": FORMAT, "config": config.model_dump(), "data": data_fingerprint}

    def is_done(self, *, replace: bool = False) -> bool:
        """Whether it holds the finished run of this very config and data. Another's raises InputError, or with ``replace`` is removed."""
        return is_done(self.path, self.wanted, "holds a run of another config or dataset", replace=replace)

    def resume(self, state: Checkpoint, blank: Callable[..., Progress], *, first: bool = True) -> Progress:
        """Loads the checkpoint into ``state`` where there is one of the same config and data; else a blank Progress. Of several processes the
        ``first`` alone clears what an abandoned training left."""
        self.path.mkdir(parents=True, exist_ok=True)
        found = self._found(state)
        if found is None and first:
            for name in ("samples", "curves"):  # an abandoned training's pictures are none of this one's
                shutil.rmtree(self.path / name, ignore_errors=True)
        return blank() if found is None else blank(**found)

    def _found(self, state: Checkpoint) -> dict[str, Any] | None:
        tensors, numbers = self.path / "checkpoint.safetensors", self.path / "checkpoint.json"
        if not (tensors.exists() and numbers.exists()):
            return None
        saved = json.loads(numbers.read_text(encoding="utf-8"))
        if saved["wanted"] != self.wanted:
            return None
        values = load_file(tensors)
        if int(values.pop("step")) != saved["progress"]["step"]:  # killed between the two renames: the older is gone
            return None
        for prefix, module in (("model", state.model), ("average", state.average)):
            module.load_state_dict({k.removeprefix(f"{prefix}."): v for k, v in values.items() if k.startswith(f"{prefix}.")})
        state.best = {k.removeprefix("best."): v for k, v in values.items() if k.startswith("best.")}
        for i, optimizer in enumerate(state.optimizers):
            own: dict[int, dict[str, Tensor]] = {}
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            for key, value in values.items():
                if key.startswith(f"optimizer{i}."):
                    _, number, name = key.split(".")
                    like = parameters[int(number)]  # in its memory layout, without which the fused Adam pairs the wrong numbers
                    own.setdefault(int(number), {})[name] = torch.empty_like(like).copy_(value) if value.ndim else value
            optimizer.load_state_dict({"state": own, "param_groups": optimizer.state_dict()["param_groups"]})
        return saved["progress"]

    def save_checkpoint(self, state: Checkpoint, progress: Progress) -> None:
        tensors = (
            {f"model.{k}": v for k, v in state.model.state_dict().items()}
            | {f"average.{k}": v for k, v in state.average.state_dict().items()}
            | {f"best.{k}": v for k, v in state.best.items()}
        )
        for i, optimizer in enumerate(state.optimizers):
            for number, own in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer{i}.{number}.{name}": torch.as_tensor(value) for name, value in own.items()}
        tensors["step"] = torch.tensor(progress.step)
        with whole(self.path / "checkpoint.safetensors") as temporary:
            save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, temporary)
        write(self.path / "checkpoint.json", json.dumps({"wanted": self.wanted, "progress": asdict(progress)}))

    @torch.no_grad()
    def sample_grid(self, images: Tensor, rebuilt: Tensor, epoch: int) -> None:
        """samples/<epoch>.png: pictures above, what the model makes of them below."""
        low, high = (float(np.quantile(images.float().cpu().numpy(), q)) for q in SHOWN)
        rows = [np.hstack([_picture((i - low) / max(high - low, 1e-6)) for i in part]) for part in (images, rebuilt)]
        with whole(self.path / "samples" / f"{epoch:04d}.png") as temporary:
            Image.fromarray(np.vstack(rows)).save(temporary)

    def finish(self, average: Model, config: Config, views: Views, progress: Progress) -> None:
        """Writes the finished run; config.yaml last, so its presence means complete."""
        average = average.cpu().eval()
        bank = make_bank(average, views, config)
        average.settle(bank.codes)
        save_bank(bank, self.path)
        with whole(self.path / "model.safetensors") as temporary:
            save_file({k: v.contiguous().clone() for k, v in average.state_dict().items()}, temporary)
        if views.part is not None:
            write(self.path / "part.yaml", views.part.text)
        write(self.path / "log.jsonl", "".join(json.dumps(row) + "\n" for row in progress.history))
        facts = {
            "steps": progress.step,
            "seconds": round(progress.seconds, 1),
            "images": views.count,
            "part": views.name,
        }
        write(self.path / "config.yaml", yaml_text({**self.wanted, "trained": facts}))
        for name in ("checkpoint.safetensors", "checkpoint.json"):
            (self.path / name).unlink(missing_ok=True)


def is_done(folder: Path, wanted: dict[str, Any], other: str, *, replace: bool) -> bool:
    """Whether the folder holds the finished run that is ``wanted``, of whatever form. Another's raises InputError that says ``other``,
    or with ``replace`` is removed; what is no run always raises."""
    if not (folder / "config.yaml").exists():
        if folder.exists() and any(folder.iterdir()) and not (folder / "checkpoint.json").exists():
            raise InputError(folder, "is not empty and holds no run", wanted="a new or empty folder", step="choose another with -o")
        return False
    found = read_config(folder)
    if isinstance(found, dict) and {k: found.get(k) for k in wanted} == wanted:
        return True
    if not replace:
        raise InputError(folder, other, wanted="a new folder", step="choose another with -o, or replace it with --force")
    remove_run(folder)
    return False


def remove_run(folder: Path) -> None:
    """Removes a run, finished or not. Raises InputError where the folder holds anything else."""
    if folder.exists() and any(folder.iterdir()) and not ((folder / "config.yaml").exists() or (folder / "checkpoint.json").exists()):
        raise InputError(folder, "is not empty and holds no run", wanted="a run folder", step="choose another with -o")
    shutil.rmtree(folder, ignore_errors=True)


def data_fingerprint(data: Dataset | Views) -> str:
    """Of what a run learns from."""
    return data.fingerprint if isinstance(data, Views) else of_dataset(data).fingerprint


def open_run(folder: str | Path) -> Run:
    """Raises InputError where the folder is no finished run, was written by a newer format, or its weights do not fit."""
    folder = Path(folder)
    if not (folder / "config.yaml").is_file():
        raise InputError(folder, "no finished run here (no config.yaml)", wanted="a run folder", step="make one: train fit DATASET")
    saved = read_config(folder)
    if not isinstance(saved, dict) or not isinstance(saved.get("format"), int):
        raise InputError(folder / "config.yaml", "has no format number", wanted="a run's config")
    if saved["format"] > FORMAT:
        raise InputError(
            folder / "config.yaml", f"found format {saved['format']}", wanted=f"at most {FORMAT}", step="use a newer formspect"
        )
    try:
        config = Config.model_validate(saved.get("config"))
    except ValidationError as error:
        wrong = model_error(error, "config", Config).inside(folder / "config.yaml")
        raise InputError(wrong.place, wrong.problem, wanted=wrong.wanted, step=wrong.step or "train fit --force makes it anew") from None
    model = build(config).eval().requires_grad_(False)
    try:
        model.load_state_dict(load_file(folder / "model.safetensors"))
        bank = open_bank(folder)
        part = (folder / "part.yaml").read_text(encoding="utf-8") if bank.scenes or (folder / "part.yaml").exists() else None
    except FileNotFoundError as error:
        raise InputError(error.filename or folder, "missing", wanted="a whole run folder", step="train fit --force makes it anew") from None
    except (RuntimeError, SafetensorError, json.JSONDecodeError) as error:
        raise InputError(
            folder / "model.safetensors",
            f"does not fit config.yaml: {' '.join(str(error).split()[:40])}",
            step="train fit --force makes it anew",
        ) from None
    return Run(
        folder,
        config,
        model,
        bank,
        None if part is None else parse(part),
        saved["trained"],
    )


def read_config(folder: Path) -> Any:
    """What the folder's config.yaml says. Raises InputError where it is no YAML."""
    try:
        return read_yaml((folder / "config.yaml").read_text(encoding="utf-8"))
    except InputError as error:
        raise error.inside(folder / "config.yaml") from None


def find_runs(root: Path) -> list[Path]:
    """The finished runs directly below ``root``, newest last."""
    return sorted((p.parent for p in root.glob("*/config.yaml")), key=lambda p: (p / "config.yaml").stat().st_mtime)


def _picture(image: Tensor) -> np.ndarray:
    """(1, S, S) in [0, 1]."""
    return (np.clip(image[0].float().cpu().numpy(), 0, 1) * 255).astype(np.uint8)
