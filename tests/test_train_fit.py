"""Training as a command: it resumes to the same weights, keeps its folder in the open, and refuses what it cannot use."""

from __future__ import annotations

import itertools
import json
import shutil
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

import train.fit
from cad.errors import InputError
from synth.dataset import Dataset, open_dataset
from train.catalogue import CATALOGUE
from train.config import Config, config_for
from train.fit import fit
from train.learning import learning
from train.runs import RunFolder, data_fingerprint, find_runs, open_run, remove_run
from train.views import of_dataset

torch.set_num_threads(1)  # on tensors this small a second thread only waits, and waits long on a busy machine

SMALL = {"size": 32, "width": 8, "latent": 8, "batch": 8, "epochs": 2, "precision": "32-true", "adversarial_every": 2}


@pytest.fixture(scope="module")
def data(dataset_folder: Path) -> Dataset:
    return open_dataset(dataset_folder)


@pytest.fixture(scope="module")
def uninterrupted(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    fit(data, target(folder, data), Config(**SMALL), device="cpu")
    return folder


@pytest.fixture
def own_run(run_folder: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(run_folder, tmp_path / "own"))


def target(folder: Path, data: Dataset, **options: object) -> RunFolder:
    return RunFolder(folder, Config(**SMALL | options), data_fingerprint(data))


def interrupted(folder: Path, data: Dataset, after: int) -> None:
    """Trains ``after`` steps, then a Ctrl-C."""
    stop, count, step = threading.Event(), itertools.count(1), train.fit.train_step

    @contextmanager
    def interrupts():
        yield stop

    def counted(*arguments: object):
        if next(count) == after:
            stop.set()
        return step(*arguments)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train.fit, "interrupts", interrupts)
        patch.setattr(train.fit, "train_step", counted)
        fit(data, target(folder, data), Config(**SMALL), device="cpu")


@pytest.mark.parametrize("after", [1, 4, 7])  # within the first epoch, at its end, one step before the last
def test_resumed_equals_uninterrupted(data: Dataset, uninterrupted: Path, tmp_path: Path, after: int) -> None:
    interrupted(tmp_path, data, after)
    progress = fit(data, target(tmp_path, data), Config(**SMALL), device="cpu")
    assert progress.step == 8
    wanted, found = (load_file(folder / "model.safetensors") for folder in (uninterrupted, tmp_path))
    assert [k for k in wanted if not torch.equal(wanted[k], found[k])] == []
    for name in ("bank.safetensors", "bank.jsonl", "part.yaml"):
        assert (uninterrupted / name).read_bytes() == (tmp_path / name).read_bytes()
    losses = [[{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines(f)] for f in (uninterrupted, tmp_path)]
    assert losses[0] == losses[1] and [row["epoch"] for row in losses[0]] == [1, 2]


def test_the_same_seed_trains_the_same_and_another_does_not(data: Dataset, uninterrupted: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        fit(data, target(tmp_path / str(seed), data, seed=seed), Config(**SMALL | {"seed": seed}), device="cpu")
    wanted = (uninterrupted / "model.safetensors").read_bytes()
    assert [(tmp_path / s / "model.safetensors").read_bytes() == wanted for s in "01"] == [True, False]


def test_checkpoint_holds_tensors_and_json_only(data: Dataset, tmp_path: Path) -> None:
    interrupted(tmp_path, data, 3)
    assert {p.name for p in tmp_path.iterdir() if p.is_file()} == {"checkpoint.safetensors", "checkpoint.json"}
    numbers, tensors = json.loads((tmp_path / "checkpoint.json").read_text()), load_file(tmp_path / "checkpoint.safetensors")
    assert numbers["progress"]["step"] == int(tensors["step"]) == 3
    assert numbers["wanted"]["config"] == Config(**SMALL).model_dump()
    assert {k.split(".")[0] for k in tensors} == {"model", "average", "optimizer0", "optimizer1", "step"}


def test_checkpoint_of_another_config_is_not_gone_on_from(data: Dataset, tmp_path: Path) -> None:
    interrupted(tmp_path, data, 3)
    other = {"latent": 4}
    assert fit(data, target(tmp_path, data, **other), Config(**SMALL | other), device="cpu").step == 8
    assert open_run(tmp_path).bank.codes.shape == (32, 4)


def test_a_kill_between_the_two_checkpoint_files_starts_anew(data: Dataset, uninterrupted: Path, tmp_path: Path) -> None:
    interrupted(tmp_path, data, 3)
    older = (tmp_path / "checkpoint.json").read_bytes()
    interrupted(tmp_path, data, 2)
    (tmp_path / "checkpoint.json").write_bytes(older)
    fit(data, target(tmp_path, data), Config(**SMALL), device="cpu")
    assert (tmp_path / "model.safetensors").read_bytes() == (uninterrupted / "model.safetensors").read_bytes()


def test_run_folder_holds_what_is_documented(uninterrupted: Path, data: Dataset) -> None:
    written = {p.relative_to(uninterrupted).as_posix() for p in uninterrupted.rglob("*") if p.is_file()}
    curves = {name for name in written if name.startswith("curves/events.out.tfevents")}
    assert len(curves) == 1
    documented = {"model.safetensors", "config.yaml", "part.yaml", "log.jsonl", "bank.safetensors", "bank.jsonl"}
    assert written - curves == documented | {"samples/0001.png", "samples/0002.png"}
    assert (uninterrupted / "part.yaml").read_text() == data.part.text
    saved = yaml.safe_load((uninterrupted / "config.yaml").read_text())
    assert saved["config"] == Config(**SMALL).model_dump() and saved["data"] == data_fingerprint(data)
    assert saved["trained"] | {"seconds": 0} == {"steps": 8, "seconds": 0, "images": 32, "part": data.part.name}
    with Image.open(uninterrupted / "samples" / "0001.png") as picture:
        assert picture.size == (8 * 32, 2 * 32)


def test_opened_run_is_what_was_trained(uninterrupted: Path, data: Dataset) -> None:
    run = open_run(uninterrupted)
    assert run.config == Config(**SMALL) and not run.model.training
    assert run.bank.codes.shape == (32, 8) and run.bank.thumbs.shape == (32, 256)
    torch.testing.assert_close(run.bank.thumbs.norm(dim=1), torch.ones(32))
    assert run.bank.scenes[5]["scene"] == data.of("train", "good")[5].scene
    with torch.no_grad():
        images = learning(of_dataset(data), run.config).images
        torch.testing.assert_close(run.model.encoder(images), run.bank.codes, rtol=0, atol=1e-5)  # another batch size, float32


def test_newer_format_is_refused(own_run: Path) -> None:
    change_config(own_run, format=2)
    with pytest.raises(InputError, match=r"config.yaml: found format 2; wanted at most 1 \(use a newer formspect\)"):
        open_run(own_run)


def test_unknown_config_key_is_refused(own_run: Path) -> None:
    saved = yaml.safe_load((own_run / "config.yaml").read_text())
    change_config(own_run, config=saved["config"] | {"widht": 8})
    with pytest.raises(InputError, match=r'config.yaml: config.*widht.*"?width'):
        open_run(own_run)


@pytest.mark.parametrize("text", ["", "[]", "format: new", "just words"])
def test_a_config_without_format_is_refused(own_run: Path, data: Dataset, text: str) -> None:
    (own_run / "config.yaml").write_text(text)
    with pytest.raises(InputError, match="has no format number"):
        open_run(own_run)
    with pytest.raises(InputError, match="holds a run of another config"):
        target(own_run, data).is_done()


@pytest.mark.parametrize("name", ["model.safetensors", "bank.safetensors", "bank.jsonl", "part.yaml"])
def test_missing_file_is_refused(own_run: Path, name: str) -> None:
    (own_run / name).unlink()
    with pytest.raises(InputError, match="missing; wanted a whole run folder"):
        open_run(own_run)


def test_damaged_weights_are_refused(own_run: Path) -> None:
    path = own_run / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"model.safetensors: does not fit config.yaml"):
        open_run(own_run)


def test_weights_of_another_shape_are_refused(own_run: Path) -> None:
    saved = yaml.safe_load((own_run / "config.yaml").read_text())
    change_config(own_run, config=saved["config"] | {"width": 16})
    with pytest.raises(InputError, match=r"model.safetensors: does not fit config.yaml"):
        open_run(own_run)


def test_no_run_is_refused_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no finished run here.*train fit DATASET"):
        open_run(tmp_path)


def test_calibration_of_other_weights_is_refused(own_run: Path) -> None:
    from detect.inspection import FORMAT, load_calibration, run_id

    run = open_run(own_run)
    (own_run / "calibration.json").write_text(json.dumps({"format": FORMAT, "run": run_id(run)[::-1]}))
    with pytest.raises(InputError, match="belongs to other weights"):
        load_calibration(run)
    before = run_id(run)
    weights = load_file(own_run / "model.safetensors")
    weights["encoder.waist.bias"] += 1e-6
    save_file(weights, own_run / "model.safetensors")
    assert run_id(run) != before


def test_is_done_knows_its_config_and_data(run_folder: Path, data: Dataset, tmp_path: Path) -> None:
    config = open_run(run_folder).config
    assert RunFolder(run_folder, config, data_fingerprint(data)).is_done()
    assert not RunFolder(tmp_path / "new", config, data_fingerprint(data)).is_done()
    for other in (
        RunFolder(run_folder, config.model_copy(update={"seed": 1}), data_fingerprint(data)),
        RunFolder(run_folder, config, "other data"),
    ):
        with pytest.raises(InputError, match=r"holds a run of another config or dataset.*--force"):
            other.is_done()


def test_is_done_replaces_when_told(own_run: Path, data: Dataset) -> None:
    assert not target(own_run, data).is_done(replace=True)
    assert not own_run.exists()


def test_a_folder_of_something_else_is_left_alone(data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    for touch in (lambda: target(tmp_path, data).is_done(replace=True), lambda: remove_run(tmp_path)):
        with pytest.raises(InputError, match="holds no run"):
            touch()
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_too_few_views_are_refused(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"found 32 good training views; wanted at least a batch, 33"):
        fit(data, target(tmp_path, data, batch=33), Config(**SMALL | {"batch": 33}), device="cpu")


def test_minutes_stop_early_with_a_whole_run(data: Dataset, tmp_path: Path) -> None:
    progress = fit(data, target(tmp_path, data, minutes=1e-6), Config(**SMALL | {"minutes": 1e-6}), device="cpu")
    assert progress.step == 1  # the first step alone takes longer
    assert open_run(tmp_path).facts["steps"] == 1


def test_find_runs_has_the_newest_last(own_run: Path) -> None:
    import os

    shutil.copytree(own_run, own_run.parent / "a-newer")
    os.utime(own_run / "config.yaml", (1, 1))
    (own_run.parent / "unfinished").mkdir()
    assert find_runs(own_run.parent) == [own_run, own_run.parent / "a-newer"]


def test_train_list_names_every_model(command) -> None:
    code, out, _ = command("train list --json")
    assert code == 0 and list(json.loads(out)) == [*CATALOGUE, "cad"]
    assert "unet-gan" in command("train list")[1]


def test_dry_run_prints_the_config_and_writes_nothing(command, dataset_folder: Path, tmp_path: Path) -> None:
    line = f"train fit {dataset_folder} -o {tmp_path / 'run'} --latent 12 --filter 3 --no-batch-norm --seed 0 --dry-run"
    wanted = config_for(32, latent=12, filter="3", batch_norm=False, seed=0).model_dump()
    assert wanted["size"] == 32 and wanted["filter"] == 3 and not wanted["batch_norm"]
    assert command(line) == (0, yaml.safe_dump(wanted, sort_keys=False), "")
    assert json.loads(command(line + " --json")[1]) == wanted
    assert not (tmp_path / "run").exists()


def test_fit_command_trains_once_then_says_so(command, dataset_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    line = f"train fit {dataset_folder} -o {run} --width 8 --latent 4 --epochs 1 --batch 32 --precision 32-true --device cpu --json"
    code, out, err = command(line)
    found = json.loads(out)
    assert code == 0 and found["trained"] and found["steps"] == 1 and f"detect calibrate {dataset_folder}/test/good --run {run}" in err
    assert json.loads(command(line)[1]) == {"run": str(run), "trained": False}
    code, _, err = command(line.replace("--latent 4", "--latent 5"))
    assert code == 2 and "another config" in err and len(err.splitlines()) == 1
    assert json.loads(command(line.replace("--latent 4", "--latent 5 --force"))[1])["trained"]
    assert open_run(run).config.latent == 5


@pytest.mark.parametrize(
    ("option", "word"), [("--size 40", "size"), ("--latent 1", "--latent"), ("--filter 4", "--filter"), ("--batch 99", "views")]
)
def test_fit_command_refuses_in_one_line(command, dataset_folder: Path, tmp_path: Path, option: str, word: str) -> None:
    code, out, err = command(f"train fit {dataset_folder} -o {tmp_path / 'run'} {option}")
    assert code == 2 and out == "" and word in err and len(err.splitlines()) == 1


def change_config(folder: Path, **changes: object) -> None:
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump(saved | changes, sort_keys=False))


def lines(folder: Path) -> list[str]:
    return (folder / "log.jsonl").read_text().splitlines()
