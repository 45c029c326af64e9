"""The stage: draws a recipe's samples on all cores, or a cluster, into a dataset folder; goes on where a kill left it."""

from __future__ import annotations

import json
import os
import platform
import shutil
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cad.command import progress
from cad.errors import InputError
from cad.files import read_json, sha256, whole, write, write_json
from cad.part import Part
from synth import backends
from synth.dataset import FORMAT, MANIFEST, PART, SAMPLES, SHARDS, Dataset, open_dataset
from synth.sampling import Drawn, Recipe, draw_sample, part_of
from synth.spread import Task, on_cluster, on_cores
from synth.store import files_of, tar_index

CHUNK = 64  # samples a task: the unit that a kill can cost
JOURNAL = ".journal"
TOP = ("train", "test", "ground_truth", "truth", "shards", JOURNAL)


def render(
    part: Part,
    folder: str | Path,
    recipe: Recipe,
    *,
    jobs: int | None = None,
    scheduler: str | None = None,
    shard: int | None = None,
    force: bool = False,
    replace: bool = False,
) -> tuple[Dataset, bool]:
    """The dataset, and whether anything had to be drawn. ``jobs`` processes (None: one a core), or the workers of a dask ``scheduler``
    (``tcp://...``); the bytes do not depend on it. ``shard``: samples a WebDataset tar, in place of a folder of files.

    ``force`` draws anew whatever dataset is there, ``replace`` only another one; else another one raises InputError, and what is
    no dataset always does.
    """
    folder = Path(folder)
    recipe.check(part)
    wanted = {"format": FORMAT, "part": part.name, "recipe": recipe.json(), "backend": recipe.backend, "shard": shard, "text": part.text}
    if not force and _is_done(folder, wanted, recipe, replace):
        return open_dataset(folder), False
    if scheduler is None:
        backends.opened(recipe.backend)  # what is missing is said before anything is written
    _prepare(folder, wanted, force, force or replace)
    tasks = tasks_of(part, recipe, shard)
    left = [t for t in tasks if not _journal(folder, t.number).exists()]
    total, remaining = (sum(len(t.keys) for t in some) for some in (tasks, left))
    with progress(total, "rendering", "views") as advance, ExitStack() as stack:
        advance(total - remaining)
        work = on_cores(folder, left, jobs or os.cpu_count() or 1) if scheduler is None else on_cluster(scheduler, folder, left)
        stack.callback(work.close)  # a stop ends its processes before anything else
        for chunk in work:
            write(_journal(folder, chunk.number), json.dumps({"lines": chunk.lines, "files": chunk.digests}))
            advance(len(chunk.lines))
    _finish(folder, wanted, len(tasks))
    return open_dataset(folder, check=False), True


def tasks_of(part: Part, recipe: Recipe, shard: int | None) -> list[Task]:
    """The recipe's samples in pieces; a shard holds those of one split."""
    plan, tasks = recipe.plan(part), []
    for split in dict.fromkeys(key[0] for key in plan) if shard else (None,):
        keys = [k for k in plan if split in (None, k[0])]
        for number, start in enumerate(range(0, len(keys), shard or CHUNK)):
            name = f"shards/{split}-{number:06d}.tar" if shard else None
            tasks.append(Task(len(tasks), part.text, recipe, tuple(keys[start : start + (shard or CHUNK)]), name))
    return tasks


def render_one(part: Part, folder: str | Path, recipe: Recipe, number: int) -> tuple[Drawn, list[Path]]:
    """Sample ``number`` of the recipe, counted from 0 as the lines of samples.jsonl are, and its files: the bytes that the whole dataset
    has. Raises InputError where there is no such sample, or another file in its place."""
    recipe.check(part)
    plan = recipe.plan(part)
    if number >= len(plan):
        raise InputError("--only", f"found {number}", wanted=f"0 to {len(plan) - 1}: the recipe has {len(plan)} samples")
    drawn = draw_sample(part_of(part.text), recipe, *plan[number])
    files = {Path(folder) / name: content for name, content in files_of(drawn).items()}
    for path, content in files.items():
        if path.exists() and path.read_bytes() != content:
            raise InputError(path, "holds another view", wanted="a new folder", step="choose another with -o")
    for path, content in files.items():
        write(path, content)
    return drawn, list(files)


def _is_done(folder: Path, wanted: dict[str, Any], recipe: Recipe, replace: bool) -> bool:
    if not (folder / MANIFEST).exists():
        return False
    found = read_json(folder / MANIFEST, "a dataset's manifest")
    kept = {k: found.get(k) for k in ("format", "part", "backend", "shard")} | {"text": (folder / PART).read_text(encoding="utf-8")}
    if kept == {k: wanted[k] for k in kept} and Recipe.of(found["recipe"]) == recipe:
        shutil.rmtree(folder / JOURNAL, ignore_errors=True)  # a kill may have come between the manifest and this
        return True
    if replace:
        return False
    raise InputError(
        folder,
        "holds a dataset of another part file or recipe",
        wanted="a new folder",
        step="choose another with -o, or draw it anew with --force",
    )


def _prepare(folder: Path, wanted: dict[str, Any], force: bool, replace: bool) -> None:
    """Leaves a folder whose journal belongs to ``wanted``; never removes what is not a dataset's."""
    if folder.exists() and not folder.is_dir():
        raise InputError(folder, "is a file", wanted="a folder")
    journal = folder / JOURNAL / "wanted.json"
    ours = journal.exists() or (folder / MANIFEST).exists()
    if folder.exists() and any(folder.iterdir()) and not ours:
        raise InputError(folder, "is not empty and holds no dataset", wanted="a new or empty folder", step="choose another with -o")
    if journal.exists() and not force and read_json(journal, "a journal") == wanted:
        return
    if ours and not replace:
        raise InputError(
            folder,
            "holds an unfinished dataset of another part file or recipe",
            wanted="a new folder",
            step="choose another with -o, or draw it anew with --force",
        )
    if ours:
        for name in TOP:
            shutil.rmtree(folder / name, ignore_errors=True)
        for name in (MANIFEST, SAMPLES, SHARDS, PART):
            (folder / name).unlink(missing_ok=True)
    write_json(journal, wanted)


def _journal(folder: Path, chunk: int) -> Path:
    return folder / JOURNAL / f"{chunk:06d}.json"


def _finish(folder: Path, wanted: dict[str, Any], chunks: int) -> None:
    write(folder / PART, wanted["text"])
    files: dict[str, str] = {}
    with whole(folder / SAMPLES) as temporary, temporary.open("w", encoding="utf-8") as lines:
        for number in range(chunks):  # one at a time: memory does not grow with the lines
            entry = read_json(_journal(folder, number), "a journal entry")
            lines.writelines(line + "\n" for line in entry["lines"])
            files |= entry["files"]
    if wanted["shard"]:
        write(folder / SHARDS, json.dumps({name: tar_index(folder / name) for name in files}))
    files |= {name: sha256(folder / name) for name in (PART, SAMPLES, SHARDS) if (folder / name).exists()}
    versions = {
        "formspect": version("formspect"),
        "python": platform.python_version(),
        **{n: version(n) for n in ("numpy", "numba", "manifold3d", "pillow", "isal")},
    }
    manifest = {k: wanted[k] for k in ("format", "part", "recipe", "backend", "shard")} | {"versions": versions, "files": files}
    write_json(folder / MANIFEST, manifest)
    shutil.rmtree(folder / JOURNAL)
