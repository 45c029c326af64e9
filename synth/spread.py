"""Tasks of samples, spread over the cores of this machine or the workers of a cluster. Which, and how many, changes no byte."""

from __future__ import annotations

import hashlib
import multiprocessing
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cad.errors import InputError
from cad.files import write
from synth import backends
from synth.sampling import Recipe, draw_sample, part_of
from synth.store import files_of, members_of, tar

AHEAD = 3  # tasks a cluster's worker is given at a time: what is not fetched yet would fill its memory
PATIENCE = 20  # s that a scheduler may take to answer, and to have a worker


@dataclass(frozen=True)
class Task:
    """Samples ``keys`` (split, label, index) of a recipe, to be drawn as loose files, or as one tar ``shard``."""

    number: int
    text: str
    recipe: Recipe
    keys: tuple[tuple[str, str, int], ...]
    shard: str | None = None


@dataclass(frozen=True)
class Chunk:
    """A task that was done: the ``lines`` of samples.jsonl, and the SHA-256 ``digests`` of its files."""

    number: int
    lines: list[str]
    digests: dict[str, str]


def drawn(task: Task) -> tuple[list[str], dict[str, bytes]]:
    """The lines and files of a task."""
    part, lines, files, members = part_of(task.text), [], {}, []
    for key in task.keys:
        one = draw_sample(part, task.recipe, *key)
        lines.append(one.sample.line())
        if task.shard:
            members += members_of(one).items()
        else:
            files |= files_of(one)
    return lines, {task.shard: tar(members)} if task.shard else files


def drawn_alone(task: Task) -> tuple[list[str], dict[str, bytes]]:
    """As :func:`drawn`, by the one thread of this process that draws: a cluster's worker has as many as its machine has cores, and a
    renderer's scene or context is one."""
    return _alone(task.recipe.backend).submit(drawn, task).result()


@cache
def _alone(backend: str) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, initializer=backends.share_cores, initargs=(backend,))


def kept(folder: Path, task: Task, lines: list[str], files: dict[str, bytes]) -> Chunk:
    """Writes what :func:`drawn` gave."""
    for parent in {(folder / name).parent for name in files}:
        parent.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if task.shard:
            write(folder / name, content)  # whole or not there: another program may be reading along
        else:
            (folder / name).write_bytes(content)
    return Chunk(task.number, lines, {name: hashlib.sha256(content).hexdigest() for name, content in files.items()})


def done(folder: Path, task: Task) -> Chunk:
    """Draws a task and writes it."""
    return kept(folder, task, *drawn(task))


def on_cores(folder: Path, tasks: list[Task], jobs: int) -> Iterator[Chunk]:
    """By ``jobs`` processes of this machine."""
    jobs = min(jobs, len(tasks))
    if jobs <= 1:
        yield from (done(folder, task) for task in tasks)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_as_worker, initargs=(tasks[0].recipe.backend,)) as pool:
        try:
            for future in as_completed([pool.submit(done, folder, task) for task in tasks]):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _as_worker(backend: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle: workers end their task
    backends.share_cores(backend)


def on_cluster(address: str, folder: Path, tasks: list[Task]) -> Iterator[Chunk]:
    """By the workers of the dask scheduler at ``address``, which have this package and no folder of ours: their bytes are written here. A
    task whose worker is lost is drawn again by another. Raises InputError where nobody answers."""
    client = _client(address)
    with client:
        from distributed import as_completed as completed
        from distributed.scheduler import KilledWorker

        known = {task.number: task for task in tasks}
        waiting = iter(tasks)
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError:
            raise InputError(
                "--scheduler", f"{address} has no workers", wanted="at least one", step="dask worker ADDRESS starts one"
            ) from None
        going = completed([_submitted(client, task) for _, task in zip(range(_room(client)), waiting, strict=False)], loop=client.loop)
        for future in going:
            try:
                lines, files = future.result()
            except KilledWorker as error:
                raise InputError(address, f"lost its workers: {error}", wanted="workers with memory enough for a task") from None
            yield kept(folder, known[int(future.key.rsplit("-", 1)[1])], lines, files)
            future.release()
            while going.count() < _room(client) and (task := next(waiting, None)) is not None:  # workers come and go
                going.add(_submitted(client, task))


def _room(client: Any) -> int:
    return AHEAD * max(1, len(client.nthreads()))


def _submitted(client: Any, task: Task) -> Any:
    return client.submit(drawn_alone, task, key=f"formspect-{id(client):x}-{task.number}", pure=False)


def _client(address: str) -> Any:
    try:
        from distributed import Client
    except ImportError:
        raise InputError("--scheduler", "dask.distributed is not installed", step="pip install 'formspect[cluster]'") from None
    try:
        return Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(
            "--scheduler",
            f'nobody answers at "{address}": {error}',
            wanted="the address that dask scheduler printed, such as tcp://10.0.0.5:8786",
        ) from None
