"""How every console script behaves: one line for a mistake, exit codes, progress on a terminal only."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from cad.errors import InputError

SETTINGS = {"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 120}


def run(group: click.Command) -> None:
    """Runs a click command: 0 when all is well, 1 for a failed part, 2 for a mistake in the input (one line), 130 for Ctrl-C."""
    try:
        code = group.main(standalone_mode=False)
        sys.stdout.flush()
    except InputError as error:
        _leave(f"error: {error}", 2)
    except click.UsageError as error:
        hint = f" (try {error.ctx.command_path} --help)" if error.ctx else ""
        _leave(f"error: {' '.join(error.format_message().split())}{hint}", 2)
    except click.ClickException as error:
        _leave(f"error: {error.format_message()}", 2)
    except (click.Abort, KeyboardInterrupt):
        _leave("stopped; the same command goes on from here", 130)
    except BrokenPipeError:  # the reader of our stdout has gone: nothing to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        _leave(
            f"error: {error.filename or 'file'}: {error.strerror or error} (nothing half-written was kept; free the space or choose another folder, then run the same command)",
            2,
        )
    sys.exit(code if isinstance(code, int) else 0)


def _leave(line: str, code: int) -> None:
    click.echo(line, err=True)
    sys.exit(code)


def say(line: str) -> None:
    """A message for the person: stderr."""
    click.echo(line, err=True)


def result(value: Any, as_json: bool, text: str = "") -> None:
    """The command's result on stdout: JSON when asked, else ``text``."""
    if as_json:
        click.echo(json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False))
    elif text:
        click.echo(text)


json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
seed_option = click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, metavar="K", help="Seed of all that is drawn.")


@contextmanager
def progress(total: float, what: str, unit: str = "") -> Iterator[Callable[..., None]]:
    """A bar with rate and time left on a terminal, nothing in a pipe; gives ``advance(amount=1, note="")``."""
    if not sys.stderr.isatty():
        yield lambda amount=1, note="": None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    ]
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total, rate="", note="")

        def advance(amount: float = 1, note: str = "") -> None:
            speed = bar.tasks[0].speed
            bar.update(task, advance=amount, note=note, rate=f"{speed:.0f} {unit}/s" if speed and unit else "")

        yield advance
