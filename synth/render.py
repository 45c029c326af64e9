"""The stage: draws a recipe's samples on all cores into a dataset folder; goes on where a kill left it."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import platform
import shutil
import signal
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cad.command import progress
from cad.errors import InputError
from cad.files import read_json, sha256, whole, write, write_json
from cad.part import Part
from synth.dataset import FORMAT, MANIFEST, PART, SAMPLES, Dataset, open_dataset
from synth.sampling import Drawn, Recipe, draw_sample, part_of

CHUNK = 64  # samples a task: the unit that a kill can cost
JOURNAL = ".journal"


def render(
    part: Part, folder: str | Path, recipe: Recipe, *, jobs: int | None = None, force: bool = False, replace: bool = False
) -> tuple[Dataset, bool]:
    """The dataset, and whether anything had to be drawn. ``jobs`` processes (None: one a core); the bytes do not depend on it.

    ``force`` draws anew whatever dataset is there, ``replace`` only another one; else another one raises InputError, and what is
    no dataset always does.
    """
    folder = Path(folder)
    recipe.check(part)
    wanted = {"format": FORMAT, "part": part.name, "recipe": recipe.json(), "backend": "raycast", "text": part.text}
    if not force and _is_done(folder, wanted, recipe, replace):
        return open_dataset(folder), False
    _prepare(folder, wanted, force, force or replace)
    plan = recipe.plan(part)
    chunks = [plan[i : i + CHUNK] for i in range(0, len(plan), CHUNK)]
    left = [i for i in range(len(chunks)) if not _journal(folder, i).exists()]
    jobs = max(1, min(jobs or os.cpu_count() or 1, len(left)))
    with progress(len(plan), "rendering", "views") as advance:
        advance(sum(len(c) for c in chunks) - sum(len(chunks[i]) for i in left))
        if jobs == 1:
            for i in left:
                advance(_draw_chunk(folder, part.text, recipe, i, chunks[i]))
        else:
            _spread(folder, part.text, recipe, chunks, left, jobs, advance)
    _finish(folder, wanted, len(chunks))
    return open_dataset(folder, check=False), True


def render_one(part: Part, folder: str | Path, recipe: Recipe, number: int) -> tuple[Drawn, list[Path]]:
    """Sample ``number`` of the recipe, counted from 0 as the lines of samples.jsonl are, and its files: the bytes that the whole dataset
    has. Raises InputError where there is no such sample, or another file in its place."""
    recipe.check(part)
    plan = recipe.plan(part)
    if number >= len(plan):
        raise InputError("--only", f"found {number}", wanted=f"0 to {len(plan) - 1}: the recipe has {len(plan)} samples")
    drawn = draw_sample(part_of(part.text), recipe, *plan[number])
    files = {Path(folder) / name: content for name, content in _files(drawn, recipe).items()}
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
    kept = {k: found.get(k) for k in ("format", "part", "backend")} | {"text": (folder / PART).read_text(encoding="utf-8")}
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
        for name in ("train", "test", "ground_truth", "truth", JOURNAL):
            shutil.rmtree(folder / name, ignore_errors=True)
        for name in (MANIFEST, SAMPLES, PART):
            (folder / name).unlink(missing_ok=True)
    write_json(journal, wanted)


def _journal(folder: Path, chunk: int) -> Path:
    return folder / JOURNAL / f"{chunk:06d}.json"


def _spread(folder: Path, text: str, recipe: Recipe, chunks: list, left: list[int], jobs: int, advance: Any) -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_ignore_interrupts) as pool:
        futures: list[Future[int]] = [pool.submit(_draw_chunk, folder, text, recipe, i, chunks[i]) for i in left]
        try:
            for future in as_completed(futures):
                advance(future.result())
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle: workers end their chunk


def _draw_chunk(folder: Path, text: str, recipe: Recipe, number: int, keys: list[tuple[str, str, int]]) -> int:
    """Draws and writes a chunk, then its journal entry: from then on a kill does not cost it."""
    lines, files = [], {}
    for key in keys:
        drawn = draw_sample(part_of(text), recipe, *key)
        lines.append(drawn.sample.line())
        for name, content in _files(drawn, recipe).items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            files[name] = sha256(path)
    write(_journal(folder, number), json.dumps({"lines": lines, "files": files}))
    return len(keys)


def _files(drawn: Drawn, recipe: Recipe) -> dict[str, bytes]:
    """The files of a sample, by their names in the folder."""
    sample = drawn.sample
    files = {sample.image: png(drawn.image)}
    if sample.mask is not None:
        files[sample.mask] = png(np.where(drawn.mask, 255, 0).astype(np.uint8))
    if drawn.truth is not None:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, depth=drawn.truth.depth, normal=drawn.truth.normal.astype(np.float16), feature=drawn.truth.feature)
        files[f"truth/{sample.split}/{sample.label}/{sample.index:06d}.npz"] = buffer.getvalue()
    return files


def png(pixels: np.ndarray) -> bytes:
    """(H, W) or (H, W, 3) uint8 as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _finish(folder: Path, wanted: dict[str, Any], chunks: int) -> None:
    entries = [read_json(_journal(folder, i), "a journal entry") for i in range(chunks)]
    write(folder / PART, wanted["text"])
    write(folder / SAMPLES, "".join(line + "\n" for e in entries for line in e["lines"]))
    files = {name: digest for e in entries for name, digest in e["files"].items()}
    files |= {name: sha256(folder / name) for name in (PART, SAMPLES)}
    versions = {
        "formspect": version("formspect"),
        "python": platform.python_version(),
        **{n: version(n) for n in ("numpy", "numba", "manifold3d", "pillow")},
    }
    with whole(folder / MANIFEST) as temporary:
        write_json(temporary, {k: wanted[k] for k in ("format", "part", "recipe", "backend")} | {"versions": versions, "files": files})
    shutil.rmtree(folder / JOURNAL)
