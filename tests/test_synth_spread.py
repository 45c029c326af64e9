"""Samples spread over processes, a cluster, shards: the same bytes, whoever draws them and however often somebody dies."""

from __future__ import annotations

import io
import json
import os
import signal
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cad
from synth import render as stage
from synth import spread
from synth.dataset import SHARDS, Dataset, open_dataset, verify, walk
from synth.export import export
from synth.render import render
from synth.sampling import Recipe
from synth.store import npz, png, tar

RECIPE = Recipe(40, 4, size=32, samples=1, truth=True)  # 52 samples


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in walk(folder)}


@pytest.fixture(scope="module")
def loose(cap: cad.Part, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return render(cap, tmp_path_factory.mktemp("loose") / "cap", RECIPE, jobs=1)[0]


@pytest.fixture(scope="module")
def sharded(cap: cad.Part, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return render(cap, tmp_path_factory.mktemp("sharded") / "cap", RECIPE, jobs=1, shard=15)[0]


# A cluster


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of a killed worker's sockets
def test_a_cluster_that_loses_a_worker_in_the_middle_writes_the_same_bytes(
    cap: cad.Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers; one is killed when a third of the work is done: nothing is lost, nothing is doubled."""
    from distributed import Client, LocalCluster

    recipe = replace(RECIPE, n=200, truth=False)
    monkeypatch.setattr(stage, "CHUNK", 8)
    expected = contents(render(cap, tmp_path / "local", recipe, jobs=1)[0].folder)
    killed, numbers = [], []

    def watched(folder: Path, task: spread.Task, lines: list[str], files: dict[str, bytes]) -> spread.Chunk:
        numbers.append(task.number)
        if len(numbers) == 9:
            with Client(cluster.scheduler_address, set_as_default=False) as client:
                address = next(iter(client.scheduler_info()["workers"]))
                killed.append(client.run(os.getpid, workers=[address])[address])
            os.kill(killed[0], signal.SIGKILL)
            time.sleep(0.5)
        return kept(folder, task, lines, files)

    kept = spread.kept
    monkeypatch.setattr(spread, "kept", watched)
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50) as cluster:
        data, _ = render(cap, tmp_path / "cluster", recipe, scheduler=cluster.scheduler_address)
    assert killed and len(data.samples) == 212
    assert sorted(numbers) == list(range(27))
    assert contents(data.folder) == expected


def test_a_cluster_that_is_not_there_is_told(command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread, "PATIENCE", 1)
    code, out, err = command(f"synth render notched_cap -n 4 --test 0 --scheduler tcp://127.0.0.1:9 -o {tmp_path / 'x'}")
    assert (code, out) == (2, "")
    assert "--scheduler: nobody answers" in err.splitlines()[-1] and "wanted the address that dask scheduler printed" in err


def test_a_mistake_comes_back_from_another_process_as_it_was() -> None:
    import pickle

    error = cad.InputError("part.yaml", "found 3", wanted="4", step="try 4")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) and (again.place, again.wanted, again.step) == ("part.yaml", "4", "try 4")


def test_a_mistake_in_a_worker_ends_in_its_line(cap: cad.Part, tmp_path: Path) -> None:
    """A part so near that some of its poses reach behind the camera: found by a process that is not the user's."""
    wide = cad.parse(cap.text.replace("{projection: orthographic, field: 40.0}", "{projection: perspective, angle: 100, fill: [0.9, 0.9]}"))
    with pytest.raises(cad.InputError, match="the part reaches behind the camera"):
        render(wide, tmp_path / "near", Recipe(200, 0, size=16, randomise={"position": {"scale": [2.0, 3.0]}}), jobs=2)


# Shards


def test_shards_hold_what_a_folder_holds(loose: Dataset, sharded: Dataset) -> None:
    assert sharded.samples == loose.samples
    assert [n for n in walk(sharded.folder) if n.endswith(".tar")] == [
        *(f"shards/test-{k:06d}.tar" for k in range(1)), *(f"shards/train-{k:06d}.tar" for k in range(3)),
    ]  # fmt: skip
    for sample in loose.samples:
        for name in filter(None, (sample.image, sample.mask, sample.truth)):
            assert sharded.read(name) == loose.read(name) == (loose.folder / name).read_bytes()
    assert np.array_equal(sharded.images(list(sharded.samples)), loose.images(list(loose.samples)))
    assert all(np.array_equal(sharded.mask(s), loose.mask(s)) for s in loose.samples)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")  # it leaves its last file open
def test_shards_are_read_by_webdataset(sharded: Dataset) -> None:
    import webdataset

    tars = sorted(str(p) for p in (sharded.folder / "shards").glob("train-*.tar"))
    seen = list(webdataset.WebDataset(tars, shardshuffle=False))
    assert [s["__key__"] for s in seen] == [s.key for s in sharded.of("train")]
    for entry, sample in zip(seen, sharded.of("train"), strict=True):
        assert json.loads(entry["json"])["scene"] == json.loads(json.dumps(sample.scene))
        assert Image.open(io.BytesIO(entry["png"])).size == (32, 32)
        with np.load(io.BytesIO(entry["truth.npz"])) as truth:
            assert truth["depth"].shape == (32, 32)


def test_shards_go_on_after_a_stop_and_do_not_depend_on_processes(
    cap: cad.Part, sharded: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(stage, "_finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            render(cap, tmp_path / "stopped", RECIPE, jobs=1, shard=15)
    stage._journal(tmp_path / "stopped", 2).unlink()
    (tmp_path / "stopped" / "shards" / "train-000002.tar").unlink()
    again, anew = render(cap, tmp_path / "stopped", RECIPE, jobs=2, shard=15)
    assert anew and contents(again.folder) == contents(sharded.folder)
    assert not render(cap, tmp_path / "stopped", RECIPE, jobs=1, shard=15)[1]
    with pytest.raises(cad.InputError, match="another part file or recipe"):
        render(cap, tmp_path / "stopped", RECIPE, jobs=1, shard=16)


def test_a_shard_that_changed_is_found(sharded: Dataset, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(sharded.folder, tmp_path / "copy"))
    assert verify(copy) == []
    path = copy / "shards" / "train-000001.tar"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert verify(copy) == ["changed: shards/train-000001.tar"]
    path.unlink()
    assert verify(copy) == ["missing: shards/train-000001.tar"]
    with pytest.raises(cad.InputError, match=r"good/000015\.png: missing"):
        open_dataset(copy, check=False).read("train/good/000015.png")


def test_shards_are_exported_as_a_folder_is(loose: Dataset, sharded: Dataset, tmp_path: Path) -> None:
    for data, name in ((loose, "a"), (sharded, "b")):
        export(data, "coco", tmp_path / name)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_the_index_of_shards_says_where_bytes_lie(sharded: Dataset) -> None:
    index = json.loads((sharded.folder / SHARDS).read_text())
    for name, files in index.items():
        content = (sharded.folder / name).read_bytes()
        with tarfile.open(sharded.folder / name) as archive:
            assert {e.name for e in archive} == set(files)
            for member, (offset, size) in files.items():
                assert content[offset : offset + size] == archive.extractfile(member).read()


# Files


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (40, 7), (1, 1, 3), (9, 16, 3)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_png_is_read_back_by_pillow(rng: np.random.Generator, shape: tuple[int, ...], kind: type) -> None:
    if kind is np.uint16 and len(shape) == 3:
        pytest.skip("Pillow has no colour of 16 bits")
    pixels = rng.integers(0, np.iinfo(kind).max, shape, dtype=kind, endpoint=True)
    image = Image.open(io.BytesIO(png(pixels)))
    image.load()
    assert np.array_equal(np.asarray(image), pixels)


def test_truth_is_read_back_by_numpy_and_has_the_same_bytes_always(loose: Dataset, rng: np.random.Generator) -> None:
    from synth.drawable import Truth

    truth = Truth(
        rng.random((8, 8)).astype(np.float32), rng.integers(0, 5, (8, 8)).astype(np.uint8), rng.normal(size=(8, 8, 3)).astype(np.float32)
    )
    content = npz(truth)
    assert content == npz(truth)
    with np.load(io.BytesIO(content)) as found:
        assert np.array_equal(found["depth"], truth.depth) and np.array_equal(found["feature"], truth.feature)
        assert np.array_equal(found["normal"], truth.normal.astype(np.float16))


def test_a_tar_bears_no_time_and_no_owner() -> None:
    with tarfile.open(fileobj=io.BytesIO(tar([("a.txt", b"one"), ("b.txt", b"")]))) as archive:
        entries = archive.getmembers()
    assert [(e.name, e.size, e.mtime, e.uid, e.uname) for e in entries] == [("a.txt", 3, 0, 0, ""), ("b.txt", 0, 0, 0, "")]
