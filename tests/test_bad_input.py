"""A user's mistakes: each gets one clear line, exit 2, and leaves nothing half-written."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

GOOD_PART = "part: cube\nfeatures: [{name: body, add: box, size: [2, 3, 4]}]\n"


def assert_refused(answer: tuple[int, str, str], *words: str) -> str:
    """Exit 2, nothing on stdout, one line that holds all ``words``; gives the line."""
    code, out, err = answer
    assert code == 2, err
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, err
    assert "Traceback" not in err
    for word in words:
        assert word in lines[0]
    return lines[0]


@pytest.mark.parametrize("name", ["cad show", "synth render", "formspect run"])
def test_missing_part_file(command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(command(f"{name} nowhere.yaml"), "nowhere.yaml", "no such file", "notched_cap")
    assert list(tmp_path.iterdir()) == []


PARTS = {
    "syntax error with line and column": ("part: a\nfeatures: [\n  {name: b, add: box size: [1, 2, 3]}\n", ("line 3", "column")),
    "unknown key and the nearest": ("part: cube\nfeature: []\nfeatures: []\n", ("feature", "did you mean", "features")),
    "unknown field and the nearest": (
        "part: a\nfeatures: [{name: b, add: cylinder, radus: 2, height: 3}]",
        ("features.0.radus", '"radius"'),
    ),
    "unknown nested view key": (GOOD_PART + "views: {camera: {feild: 40}}", ("views.camera.feild", '"field"')),
    "empty part": (
        "part: a\nfeatures: [{name: b, add: box, size: [1, 1, 1]}, {name: hole, cut: sphere, radius: 5}]",
        ("features.1", "hole", "empty"),
    ),
    "feature without effect": (
        "part: a\nfeatures: [{name: b, add: box, size: [1, 1, 1]}, {name: far, cut: sphere, radius: 1, at: [9, 9, 9]}]",
        ("features.1", "far"),
    ),
    "zero length": ("part: a\ndimensions: {r: 0}\nfeatures: [{name: b, add: sphere, radius: r}]", ("features.0.radius", "above 0")),
    "range upside down": (GOOD_PART + "defects: {d: {kind: bulge, height: [3, 1], diameter: [1, 2]}}", ("defects.d.height", "upside down")),
    "tolerance that allows a negative length": (
        "part: a\ndimensions: {r: 1 ± 2}\nfeatures: [{name: b, add: sphere, radius: r}]",
        ("dimensions.r", "-1"),
    ),
    "crossing polygon": (
        "part: a\nfeatures: [{name: b, add: extrude, polygon: [[0, 0], [2, 2], [2, 0], [0, 2]], height: 1}]",
        ("features.0.polygon", "cross"),
    ),
    "tolerance corner that breaks the part": (
        "part: a\ndimensions: {i: 1.9 ± 0.2}\nfeatures: [{name: b, add: tube, radius: 2, inner: i, height: 1}]",
        ("high limit", "inner"),
    ),
    "not a mapping": ("- 1\n- 2\n", ("top level",)),
}


@pytest.mark.parametrize("case", PARTS)
def test_part_files_that_cannot_be(command, tmp_path: Path, case: str) -> None:
    text, words = PARTS[case]
    (tmp_path / "part.yaml").write_text(text)
    assert_refused(command(f"synth render {tmp_path}/part.yaml -o {tmp_path}/data"), "part.yaml", *words)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("option", ["--size 0", "--size -3", "-n -1", "--jobs 0", "--samples 0", "--size many"])
def test_sizes_and_counts_that_cannot_be(command, tmp_path: Path, option: str) -> None:
    assert_refused(command(f"synth render notched_cap -o {tmp_path}/data {option}"), option.split()[0])
    assert not (tmp_path / "data").exists()


def test_a_defect_severity_that_cannot_be_built(command, tmp_path: Path) -> None:
    assert_refused(command(f"synth render notched_cap -o {tmp_path}/d --severity short-notch=-9"), "short-notch", "-9")
    assert_refused(command(f"synth render notched_cap -o {tmp_path}/d --severity shortnotch=-1"), 'did you mean "short-notch"')
    assert not (tmp_path / "d").exists()


@pytest.fixture
def dataset(dataset_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(dataset_folder, tmp_path / "data" / "cap"))


@pytest.fixture
def run(run_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run_folder, tmp_path / "runs" / "cap"))


def test_a_dataset_with_a_missing_file(command, dataset: Path, tmp_path: Path) -> None:
    (dataset / "train/good/000003.png").unlink()
    assert_refused(command(f"train fit {dataset} -o {tmp_path}/run"), "train/good/000003.png", "missing", "synth verify")
    assert not (tmp_path / "run").exists()


def test_a_dataset_with_a_changed_file(command, dataset: Path, tmp_path: Path) -> None:
    path = dataset / "train/good/000003.png"
    path.write_bytes(path.read_bytes() + b"x")
    assert_refused(command(f"train fit {dataset} -o {tmp_path}/run"), "train/good/000003.png", "changed")
    code, out, err = command(f"synth verify {dataset}")
    assert (code, out.strip()) == (2, "changed: train/good/000003.png")
    assert "1 files" in err


def test_an_unfinished_or_absent_dataset(command, dataset: Path, tmp_path: Path) -> None:
    (dataset / "manifest.json").unlink()
    assert_refused(command(f"train fit {dataset}"), "manifest.json", "synth render")
    assert_refused(command(f"train fit {tmp_path}/none"), "no such folder")


def test_an_empty_folder(command, run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_refused(command(f"detect calibrate {tmp_path}/empty --run {run}"), "holds no images")
    assert_refused(command(f"detect validate {tmp_path}/empty --run {run}"), "test/good")


def test_too_few_images_for_the_rate(command, run: Path, dataset: Path) -> None:
    line = assert_refused(command(f"detect calibrate {dataset}/test/good --run {run} --alpha 0.05"), "8 good images", "at least 19")
    assert "0.112" in line  # the rate that eight images do support: 1 / 9, rounded up
    assert not (run / "calibration.json").exists()


def test_a_run_from_a_newer_format(command, run: Path, dataset: Path) -> None:
    path = run / "config.yaml"
    path.write_text(path.read_text().replace("format: 1", "format: 99"))
    assert_refused(command(f"detect calibrate {dataset}/train/good --run {run}"), "format 99", "newer formspect")


def test_no_run_at_all(command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(command("detect inspect photo.png"), "no finished run", "train fit")


def test_images_that_are_none(command, run: Path, dataset: Path, tmp_path: Path) -> None:
    assert command(f"detect calibrate {dataset}/train/good --run {run} --alpha 0.1")[0] == 0
    (tmp_path / "text.png").write_text("not a picture")
    whole = (dataset / "train/good/000000.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    assert_refused(command(f"detect inspect {tmp_path}/text.png --run {run}"), "text.png", "not an image")
    assert_refused(command(f"detect inspect {tmp_path}/cut.png --run {run} --overlay {tmp_path}/o"), "cut.png", "damaged")
    assert_refused(command(f"detect inspect {tmp_path}/none.png --run {run}"), "none.png", "no such file")
    assert not (tmp_path / "o").exists()


def test_a_folder_of_something_else_is_left_alone(command, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for line in (
        f"synth render notched_cap -n 2 --test 0 -o {tmp_path}/mine",
        f"synth render notched_cap -n 2 --test 0 -o {tmp_path}/mine --force",
        f"formspect run notched_cap -o {tmp_path}/mine",
    ):
        assert_refused(command(line), "mine", "not empty")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_output_below_a_file(command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert_refused(command(f"synth render notched_cap -n 2 --test 0 -o {tmp_path}/file/data"), "file")
    assert_refused(command(f"cad export notched_cap -o {tmp_path}/file/cap.stl"), "file")


def program(name: str, *arguments: object, before: str = "", **options: object) -> subprocess.Popen:
    # where the tests themselves run in the background, Ctrl-C is ignored, and children inherit that
    hear = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{hear}\n{before}\nfrom {name}.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def test_a_full_disk(tmp_path: Path) -> None:
    """No file may grow beyond 20 kB here: the system's answer to a write is an error, as on a full disk."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    process = program("cad", "export", "notched_cap", "-o", tmp_path / "cap.stl", preexec_fn=limit)
    out, err = process.communicate(timeout=120)
    assert_refused((process.returncode, out, err), "File too large")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may write anywhere: a read-only folder is none for it")
def test_a_read_only_folder(command, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    assert_refused(command(f"synth render notched_cap -n 2 --test 0 -o {tmp_path}/locked/data"), "Permission denied")


def test_a_read_only_file_system(command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the system answers there, whoever asks."""

    def refuse(self: Path, *_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert_refused(command(f"synth render notched_cap -n 2 --test 0 -o {tmp_path}/locked/data"), "locked", "Read-only file system")


def wait_for(path: Path, pattern: str, process: subprocess.Popen) -> None:
    for _ in range(1200):
        if any(path.glob(pattern)):
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError(f"no {pattern} below {path}")


@pytest.mark.slow
def test_interrupted_rendering_goes_on(tmp_path: Path, command) -> None:
    """Ctrl-C after the first finished chunk: exit 130, no traceback; the same command then keeps it and ends with the same bytes."""
    words = ["render", "notched_cap", "-n", 9000, "--test", 0, "--size", 32, "--jobs", 1]
    process = program("synth", *words, "-o", tmp_path / "a")
    wait_for(tmp_path / "a", ".journal/00*.json", process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on" in err
    assert "Traceback" not in err
    assert not (tmp_path / "a" / "manifest.json").exists()
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "a").glob("train/good/0000[0-5]*.png")}
    assert kept
    assert command(f"synth {' '.join(map(str, words))} -o {tmp_path}/a".replace("--jobs 1", "--jobs 2"))[0] == 0
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    assert json.loads((tmp_path / "a" / "manifest.json").read_text())["recipe"]["n"] == 9000


@pytest.mark.slow
def test_interrupted_training_goes_on(dataset_folder: Path, tmp_path: Path) -> None:
    words = [
        "fit",
        dataset_folder,
        "-o",
        tmp_path / "run",
        "--size",
        32,
        "--width",
        8,
        "--latent",
        8,
        "--batch",
        16,
        "--epochs",
        100_000,
        "--device",
        "cpu",
    ]
    process = program("train", *words)
    wait_for(tmp_path / "run", "samples/*.png", process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    first = json.loads((tmp_path / "run" / "checkpoint.json").read_text())["progress"]["step"]
    seen = len(list((tmp_path / "run" / "samples").iterdir()))
    process = program("train", *words)
    wait_for(tmp_path / "run", f"samples/{seen + 1:04d}.png", process)  # an epoch beyond the first sitting's
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert json.loads((tmp_path / "run" / "checkpoint.json").read_text())["progress"]["step"] > first > 0


@pytest.mark.slow
def test_interrupted_calibration_leaves_the_old_one(run: Path, dataset: Path, command) -> None:
    assert command(f"detect calibrate {dataset}/train/good --run {run} --alpha 0.1")[0] == 0
    before = (run / "calibration.json").read_bytes()
    # each image made to take two seconds, and the first to leave a mark: the signal comes while images are being projected
    slow = (
        "import time, pathlib, detect.projection as i; old = i.Projector.whole\n"
        f"i.Projector.whole = lambda *a: (pathlib.Path({str(run)!r}, 'mark').touch(), time.sleep(2), old(*a))[2]"
    )
    process = program("detect", "calibrate", dataset / "train/good", "--run", run, "--alpha", 0.2, before=slow)
    wait_for(run, "mark", process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert (run / "calibration.json").read_bytes() == before
