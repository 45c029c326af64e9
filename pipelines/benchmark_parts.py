"""How fast the shelf's parts are built, and whether all of their variants are watertight: prints JSON. ``python -m pipelines.benchmark_parts -o parts.json``"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from cad.build import forget
from cad.files import whole, write
from cad.part import Part, load, shelf
from pipelines.benchmark_render import machine, summary
from synth.sampling import as_fine

ASKED = {"nominal": 500.0, "variant of notched_cap": 20.0}  # milliseconds


def figures(part: Part, repeats: int, variants: int) -> dict[str, Any]:
    """Milliseconds of the nominal part built anew, of a variant (and with the coarser facets that small pictures are drawn from), of each defect;
    how many variants were watertight and had all sub-components."""
    times, sound = _varied(part, variants)
    return {
        "triangles": len(part.mesh().faces),
        "nominal_milliseconds": summary([_anew(part) for _ in range(repeats)]),
        "variant_milliseconds": summary(times),
        "variant_milliseconds_for": {f"{size} px": summary(_varied(as_fine(part, size), 100)[0]) for size in (64, 128)},
        "variants": variants,
        "watertight": sound,
        "defect_milliseconds": {name: summary([_defective(part, name, k) for k in range(repeats)]) for name in part.defects},
    }


def _varied(part: Part, count: int) -> tuple[list[float], int]:
    """Milliseconds of each of ``count`` variants, and how many of them were as they should be."""
    rng, times, sound = np.random.default_rng(0), [], 0
    part.mesh()  # what is compiled or imported on first use
    for _ in range(count):
        dimensions = part.vary(rng)
        start = time.perf_counter()
        mesh = part.mesh(dimensions)
        times.append(1e3 * (time.perf_counter() - start))
        sound += mesh.watertight and len(np.unique(mesh.feature)) == len(part.names)
    return times, sound


def _anew(part: Part) -> float:
    forget()
    start = time.perf_counter()
    part.mesh()
    return 1e3 * (time.perf_counter() - start)


def _defective(part: Part, name: str, seed: int) -> float:
    """On a good part that was built before, as when rendering."""
    part.mesh()
    start = time.perf_counter()
    part.with_defect(name, np.random.default_rng(seed))
    return 1e3 * (time.perf_counter() - start)


@click.command()
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Also write the JSON there.")
@click.option(
    "--picture", type=click.Path(dir_okay=False, path_type=Path), metavar="PNG", help="Also draw the parts, as in docs/part_files.md."
)
@click.option("--part", "names", multiple=True, help="Part file or shelf name.  [default: the shelf]")
@click.option("--variants", type=click.IntRange(1), default=1000, help="Of each part.")
@click.option("--repeats", type=click.IntRange(1), default=5, help="Of each other measurement.")
def main(output: Path | None, picture: Path | None, names: tuple[str, ...], variants: int, repeats: int) -> None:
    """How fast parts are built, and whether their variants are watertight."""
    parts = {name: load(name) for name in names or shelf()}
    if picture is not None:
        from synth.picture import parts_picture

        with whole(picture) as temporary:
            parts_picture(list(parts.values())).save(temporary, format="PNG")
    found = {**machine(), "asked_milliseconds": ASKED, "parts": {name: figures(part, repeats, variants) for name, part in parts.items()}}
    text = json.dumps(found, indent=1)
    if output is not None:
        write(output, text + "\n")
    click.echo(text)


if __name__ == "__main__":
    main()
