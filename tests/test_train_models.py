"""Laws that every learned form keeps: it can learn at all, its players move their own networks alone, no image depends on its neighbours, and training
is the same however its images are shared out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from detect.descend import descend
from synth.dataset import Dataset, open_dataset
from train.catalogue import CATALOGUE, class_of
from train.config import Config, config_for
from train.devices import fabric_for
from train.fit import batch_of, fit, optimizers_of, train_step
from train.learning import Learning
from train.losses import pyramid_l1
from train.models import build
from train.models.base import CHANNELS, Model, Projected, trainable
from train.physical import CODES
from train.runs import RunFolder, open_run
from train.views import of_dataset

torch.set_num_threads(1)  # on tensors this small a second thread only waits, and waits long on a busy machine

NAMES = list(CATALOGUE)
TINY = {"width": 8, "batch": 8, "precision": "32-true"}


def tiny(name: str, **options: object) -> Config:
    latent = {} if name == "conditioned" else {"latent": 8}
    return config_for(32, **{"model": name, **TINY, **latent, **options})


def discs(count: int, seed: int = 0) -> Tensor:
    """(count, 1, 32, 32): a disc each."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 32), torch.linspace(-1, 1, 32), indexing="ij")
    at, size = torch.rand((count, 2, 1, 1), generator=generator) - 0.5, 0.2 + 0.4 * torch.rand((count, 1, 1), generator=generator)
    return (torch.sigmoid(20 * (size - torch.hypot(y - at[:, 0], x - at[:, 1]))) - 0.5)[:, None]


def poses(count: int, seed: int = 0) -> Tensor:
    drawn = torch.randn((count, CODES), generator=torch.Generator().manual_seed(seed))
    drawn[:, 4:7] *= 0.05
    return drawn


def seen(count: int = 8, batch: int = 8) -> Learning:
    images = discs(count)
    return Learning(images, images[:0], images[:0], poses(count), count // batch, 32)


def trained(
    name: str, steps: int, learning: Learning | None = None, precision: str = "32-true", **options: object
) -> tuple[Model, list[dict[str, float]]]:
    config, fabric = tiny(name, **options), fabric_for("cpu", precision)
    model = build(config)
    optimizers = optimizers_of(model, config)
    set_up, *moved = fabric.setup(model, *optimizers.values())
    optimizers = dict(zip(optimizers, moved, strict=True))
    told = []
    for step in range(steps):
        losses = train_step(fabric, set_up, optimizers, learning or seen(), config, step, step / steps)
        told.append({k: float(v) for k, v in losses.items()})
    return model.eval().requires_grad_(False), told


def misfit(model: Model, images: Tensor) -> float:
    """How far the nearest form that the model can make is, in grey levels: by one pass back or, of a generator from noise, by a short descent."""
    if model.PRIOR:
        starts = torch.randn((1, 12, model.config.latent), generator=torch.Generator().manual_seed(0)).expand(len(images), -1, -1)
        return float(descend(model.decode, lambda made, image, z: pyramid_l1(made, image), images, starts, steps=40, rate=0.1).loss.mean())
    with torch.no_grad():
        if model.ENCODES:
            model.settle(model.encode(images))
        made = model.decode(poses(len(images))) if model.config.model == "conditioned" else model.rebuilt(images)[0]
    return float(pyramid_l1(made, images).mean())


@pytest.mark.parametrize("name", [n for n in NAMES if not class_of(n).PRIOR])
def test_overfits_eight_images(name: str) -> None:
    images = discs(8)
    before = misfit(build(tiny(name)).eval(), images)
    after = misfit(trained(name, 200, rate=5e-3, corrupt=1.0 if name == "descargan" else 0.0)[0], images)
    assert after < 0.5 * before or name == "descargan"  # cross connections hand an image through before anything is learned
    assert after < 0.25


@pytest.mark.parametrize("name", [n for n in NAMES if class_of(n).PRIOR])
def test_a_generator_from_noise_comes_near_eight_images(name: str) -> None:
    """It never sees one to redraw: a game brings it there, slowly."""
    images, options = (
        discs(8),
        {"width": 16, "game": "cross-entropy", "penalty": "r1", "penalty_weight": 1.0, "smoothing": 0.0, "minibatch": False},
    )
    before = misfit(build(tiny(name, width=16)).eval(), images)
    after = misfit(trained(name, 500, rate=2e-3, **options)[0], images)
    assert after < 0.8 * before


@pytest.mark.parametrize("name", NAMES)
def test_a_player_moves_its_own_networks_alone(name: str) -> None:
    config = tiny(name)
    model, made, moved = build(config).train(), None, {}
    for player in model.players():
        done = 0.9 if player == "mapper" else 0.0
        own = {id(p) for p in trainable(model, player)}
        batch = batch_of(seen(), config, 0, done, 0, 1, 0)
        losses, new = model.play(batch, player, made)
        made = new if new is not None else made
        for p in model.parameters():
            p.grad = None
        sum(losses.values()).backward()
        moved[player] = {id(p) for p in model.parameters() if p.grad is not None}
        assert moved[player] and moved[player] <= own, player
        assert all(torch.isfinite(v).all() for v in losses.values())
    every = {id(p) for p in model.parameters()}
    assert every - set().union(*moved.values()) <= {id(p) for n, p in model.named_parameters() if ".doubt." in n}


@pytest.mark.parametrize("name", NAMES)
def test_mixed_precision_trains_as_single_does(name: str) -> None:
    """bfloat16 holds 8 bits: what a step adds up stays within a few parts in a hundred; images themselves are not rounded."""
    options = {"penalty": "r1", "minibatch": True} if name != "descargan" else {}
    (_, single), (_, mixed) = (trained(name, 4, precision=p, **options) for p in ("32-true", "bf16-mixed"))
    for a, b in zip(single, mixed, strict=True):
        assert a.keys() == b.keys()
        assert sum(b.values()) == pytest.approx(sum(a.values()), rel=0.1, abs=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_no_score_depends_on_the_batch(name: str) -> None:
    model, images, bank = (
        trained(name, 3)[0],
        discs(5, seed=3),
        torch.randn((20, tiny(name).latent), generator=torch.Generator().manual_seed(1)),
    )

    def scored(rows: Tensor) -> dict[str, Tensor]:
        if model.ENCODES or not model.DECODES:
            form, log_size, code = model.rebuilt(rows)
        else:
            code = bank[: len(rows)] * 0 + bank[:1]
            form, log_size = model.expected(code)
        terms = model.terms(Projected(rows, form, code, code[:, None].expand(-1, 3, -1), bank))
        return {"form": form, "log": log_size, **terms}

    together, alone = scored(images), [scored(images[i : i + 1]) for i in range(5)]
    backwards = scored(images.flip(0))
    for key, values in together.items():
        assert len(values) == 5
        torch.testing.assert_close(values, torch.cat([a[key] for a in alone]), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(values, backwards[key].flip(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_build_is_a_function_of_the_seed(name: str) -> None:
    one, two, other = (build(tiny(name, seed=s)).state_dict() for s in (0, 0, 1))
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert any(not torch.equal(one[k], other[k]) for k in one)


@pytest.fixture(scope="module")
def data(dataset_folder: Path) -> Dataset:
    return open_dataset(dataset_folder)


@pytest.mark.parametrize("name", NAMES)
def test_saved_and_opened_is_the_same(name: str, data: Dataset, tmp_path: Path) -> None:
    views, config = of_dataset(data), tiny(name, epochs=1)
    fit(views, RunFolder(tmp_path, config, views.fingerprint), config, device="cpu")
    run, weights = open_run(tmp_path), load_file(tmp_path / "model.safetensors")
    assert set(weights) == set(run.model.state_dict())
    assert all(torch.equal(v, weights[k]) for k, v in run.model.state_dict().items())
    assert run.config == config and not run.model.training
    assert run.bank.codes.shape[1] == config.latent and len(run.bank.code_thumbs) == len(run.bank.codes)
    files = [p for p in tmp_path.rglob("*") if p.is_file() and p.parent.name != "curves"]
    assert {p.suffix for p in files} <= {".safetensors", ".yaml", ".jsonl", ".png"}  # nothing in it is code


@pytest.mark.parametrize("name", NAMES)
def test_texture_lies_where_the_image_does(name: str) -> None:
    """A row an image, whatever its neighbours; a change in one corner is not told in the opposite one."""
    torch.manual_seed(0)
    model, images = build(tiny(name)).eval(), discs(4)
    changed = images[:1].clone()
    changed[..., :4, :4] += 1.0
    with torch.no_grad():
        found, alone, other = model.texture(images), model.texture(images[2:3]), model.texture(changed)
    assert found.shape[0] == 4 and found.shape[1] <= CHANNELS and found.shape[2:] == (8, 8)
    torch.testing.assert_close(found[2:3], alone, rtol=1e-4, atol=1e-5)
    off = (other - found[:1]).abs().amax((0, 1))
    assert off[0, 0] > 1e-4 and float(off[-1, -1]) == 0


@pytest.mark.parametrize(("size", "side"), [(32, 8), (80, 16), (256, 16)])
def test_texture_is_of_few_places_and_channels(size: int, side: int) -> None:
    for name, width in (("anogan", 8), ("bigan", 8), ("unet-som", 64)):
        model = build(config_for(size, model=name, width=width, latent=8)).eval()
        with torch.no_grad():
            found = model.texture(torch.zeros(2, 1, size, size))
        assert 3 <= found.shape[1] <= CHANNELS and found.shape[2:] == (side, side)


@pytest.mark.parametrize("name", ["bigan", "f-anogan", "conditioned", "ganomaly"])
def test_parts_of_a_step_add_up_to_the_whole(name: str) -> None:
    """Without batch normalisation, gradient accumulation is the same sum in another order."""
    options = {"batch_norm": False, "minibatch": False}
    whole, parts = (trained(name, 6, accumulate=n, **options) for n in (1, 4))
    fair = ("pyramid", "turn", "light", "discriminator", "penalty")
    for a, b in zip(whole[1], parts[1], strict=True):
        assert {k: v for k, v in b.items() if k in fair} == pytest.approx({k: v for k, v in a.items() if k in fair}, rel=2e-3, abs=2e-4)


STABILISED = [
    {"game": g} for g in ("hinge", "cross-entropy", "least-squares", "wasserstein")
] + [{"penalty": "r1"}, {"penalty": "wgan-gp"}, {"augment": True}, {"minibatch": True}, {"instance_noise": 0.2}, {"matching": 0.0},
     {"game": "cross-entropy", "smoothing": 0.1}, {"judge_rate": 4.0}, {"spectral": False}]  # fmt: skip


@pytest.mark.parametrize("options", STABILISED, ids=str)
@pytest.mark.parametrize("name", ["dcgan", "bigan", "unet-gan"])
def test_every_stabiliser_trains(name: str, options: dict[str, object]) -> None:
    _, told = trained(name, 3, adversarial=1.0, adversarial_every=1, **options)
    assert all(np.isfinite(list(row.values())).all() for row in told)
    assert ("penalty" in told[0]) == (options.get("penalty", config_for(32, model=name).penalty) != "none")


def test_instance_noise_fades() -> None:
    learning, config = seen(), tiny("dcgan", instance_noise=1.0)
    model = build(config)
    early, late = (model._shown(batch_of(learning, config, 0, done, 0, 1, 0))(learning.images) for done in (0.0, 0.9))
    off = [float((x - learning.images).std()) for x in (early, late)]
    assert off[0] == pytest.approx(1.0, rel=0.05) and off[1] == pytest.approx(0.1, rel=0.05)


def test_what_a_step_sees_is_shared_out_whole() -> None:
    config = tiny("bigan", corrupt=1.0)
    learning = seen(16, 16)
    whole = batch_of(replace(learning, steps=1), tiny("bigan", corrupt=1.0, batch=16), 3, 0.0, 0, 1, 0)
    halves = [batch_of(learning, config, 3, 0.0, rank, 2, 0) for rank in (0, 1)]
    for key in ("clean", "seen", "pose"):
        assert torch.equal(getattr(whole, key), torch.cat([getattr(h, key) for h in halves]))
    assert torch.equal(whole.draw.normal(5), torch.cat([h.draw.normal(5) for h in halves]))


@pytest.mark.parametrize("name", ["unet-gan", "bigan"])
def test_two_processes_learn_what_one_does_with_the_doubled_batch(name: str, dataset_folder: Path, tmp_path: Path) -> None:
    """By torch.distributed over gloo: the same loss curve, and the same weights beyond rounding."""
    for devices, batch in ((1, 16), (2, 8)):
        line = (
            f"fit {dataset_folder} -o {tmp_path / str(devices)} --model {name} --devices {devices} --batch {batch} --epochs 3 --width 8 --latent 8"
            " --device cpu --precision 32-true"
        )
        program = Path(sys.executable).parent / "train"
        done = subprocess.run(
            [sys.executable, str(program), *line.split()],
            capture_output=True,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("steps in") == 1 and done.stderr.count("next:") == 1  # one process tells
    one, two = ([json.loads(row) for row in (tmp_path / n / "log.jsonl").read_text().splitlines()] for n in "12")
    assert len(one) == len(two) == 3
    for a, b in zip(one, two, strict=True):
        keys = set(a) - {"seconds"}
        assert keys == set(b) - {"seconds"}
        assert {k: b[k] for k in keys} == pytest.approx({k: a[k] for k in keys}, rel=1e-3, abs=1e-4)
    weights = [load_file(tmp_path / n / "model.safetensors") for n in "12"]
    for key, values in weights[0].items():
        torch.testing.assert_close(weights[1][key].float(), values.float(), rtol=1e-2, atol=2e-3)


def test_early_stop_keeps_the_best(data: Dataset, tmp_path: Path) -> None:
    views = of_dataset(data)
    config = tiny(
        "unet-gan", epochs=40, patience=2, validation=0.25, rate=0.5, adversarial=0.0
    )  # a rate at which nothing is learned for long
    progress = fit(views, RunFolder(tmp_path, config, views.fingerprint), config, device="cpu")
    measured = [row["validation"] for row in progress.history]
    assert len(measured) < 40 and min(measured) == measured[-3] == progress.best
    from train.learning import learning
    from train.validation import measure

    held = learning(views, config)
    assert len(held.held_out) == 8 and len(held.images) == 24
    assert measure(open_run(tmp_path).model, held.held()) == pytest.approx(progress.best, rel=1e-4)


def test_collapse_is_said(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import train.fit

    monkeypatch.setattr(train.fit, "GROWN_UP", 0)
    views, config = of_dataset(data), tiny("dcgan", epochs=1, rate=1e-9)
    progress = fit(views, RunFolder(tmp_path, config, views.fingerprint), config, device="cpu")
    assert progress.history[-1]["variety"] < 0.5 and "collapse" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["bigan", "egbad"])
def test_the_judge_of_pairs_sees_the_noise_that_an_image_was_made_from(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, config = build(tiny(name)).train(), tiny(name)
    seen_pairs: list[tuple[Tensor, Tensor]] = []
    judge = model.discriminator.forward
    monkeypatch.setattr(
        model.discriminator, "forward", lambda image, code=None: seen_pairs.append((image.detach(), code.detach())) or judge(image, code)
    )
    _, made = model.play(batch_of(seen(), config, 5, 0.0, 0, 1, 0), "maker")
    noise = seen_pairs[0][1]
    assert torch.equal(seen_pairs[0][0], made)
    seen_pairs.clear()
    model.play(batch_of(seen(), config, 5, 0.0, 0, 1, 0), "judge", made)
    pairs = [code for image, code in seen_pairs if image.shape == made.shape and torch.equal(image, made)]
    assert pairs and all(torch.equal(code, noise) for code in pairs)
