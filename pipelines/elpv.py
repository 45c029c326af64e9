"""Photographs of real solar cells as a folder that everything here can read. ``python -m pipelines.elpv -o FOLDER --kind mono``

2,624 electroluminescence photographs of single cells, 300 x 300 px, cut from 44 modules and straightened, each with the type of its module and the
probability of a defect that experts gave it (Deitsch et al., Solar Energy 185, 2019; Buerhop-Lutz et al., EU PVSEC 2018). They are read from the
package ``elpv-dataset`` and are CC BY-NC-SA 4.0: a folder of them stays where it was written and is no part of this project.
"""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import click
import numpy as np

from cad.command import run, say, seed_option
from cad.errors import InputError
from cad.files import read_json, whole_folder, write, write_json

KINDS = ("mono", "poly")
HELD_OUT = 0.25  # of the good cells: they are tested on
FACTS = "elpv.json"
NOTICE = """\
The photographs in this folder are copied unchanged from the package elpv-dataset (https://github.com/zae-bayern/elpv-dataset).
They are licensed under CC BY-NC-SA 4.0 (https://creativecommons.org/licenses/by-nc-sa/4.0/): not for commercial use, to be passed on under the same licence
alone, with its authors named. Please cite:
- S. Deitsch, V. Christlein, S. Berger, C. Buerhop-Lutz, A. Maier, F. Gallwitz, C. Riess: Automatic classification of defective photovoltaic module cells in
  electroluminescence images. Solar Energy 185, 455-468, 2019.
- C. Buerhop-Lutz, S. Deitsch, A. Maier, F. Gallwitz, S. Berger, B. Doll, J. Hauch, C. Camus, C. J. Brabec: A benchmark for visual identification of defective
  solar cells in electroluminescence imagery. EU PVSEC 2018.
- S. Deitsch, C. Buerhop-Lutz, E. Sovetkin, A. Steland, A. Maier, F. Gallwitz, C. Riess: Segmentation of photovoltaic module cells in uncalibrated
  electroluminescence images. Machine Vision and Applications 32, 2021.
"""


def source() -> Path:
    """The folder with ``labels.csv`` and ``images`` in the installed package. Raises InputError where it is not installed."""
    found = find_spec("elpv_dataset")
    for place in (found.submodule_search_locations or ()) if found else ():
        if (Path(place) / "data" / "labels.csv").is_file():
            return Path(place) / "data"
    raise InputError("elpv-dataset", "is not installed", wanted="the extra elpv, 90 MB", step="pip install 'formspect[elpv]'")


def labels(folder: Path) -> list[tuple[Path, float, str]]:
    """(photograph, probability of a defect, kind of module) of each line of ``labels.csv``. Raises InputError for a line that is none."""
    rows = []
    for number, line in enumerate((folder / "labels.csv").read_text(encoding="utf-8").splitlines(), 1):
        try:
            name, probability, kind = line.split()
            rows.append((folder / name, float(probability), kind))
        except ValueError:
            raise InputError(f"{folder / 'labels.csv'}: {number}", f'found "{line}"', wanted="file, probability and kind") from None
    return rows


def elpv_folder(root: Path, kind: Literal["mono", "poly"], seed: int = 0) -> Path:
    """Writes ROOT/KIND in MVTec AD's layout, whole, and gives its path; where it is there from the same ``seed``, it is left as it is.

    ``train/good``: cells of probability 0 less a quarter that ``seed`` draws; ``test/good``: that quarter; ``test/defective``: cells of probability
    1. What experts were in doubt of, 1/3 and 2/3, is left out. The package does not say which module a cell is from, so that cells of one may be
    on both sides. ``elpv.json`` has the counts, ``LICENSE.txt`` the terms. Raises InputError where the package is not installed, or
    the folder holds something else.
    """
    if kind not in KINDS:
        raise InputError("--kind", f'found "{kind}"', wanted=" or ".join(KINDS))
    folder, wanted = Path(root) / kind, {"kind": kind, "seed": seed, "held_out": HELD_OUT}
    if (folder / FACTS).is_file():
        facts = read_json(folder / FACTS, "what the folder holds")
        if not isinstance(facts, dict) or {k: facts.get(k) for k in wanted} != wanted:
            raise InputError(folder, "was made otherwise", wanted=f"--kind {kind} --seed {seed}", step="choose another with -o")
        return folder
    own = [(p, probability) for p, probability, k in labels(source()) if k == kind]
    good, bad = ([p for p, probability in own if probability == v] for v in (0.0, 1.0))
    held = set(np.random.default_rng([seed, KINDS.index(kind)]).permutation(len(good))[: round(HELD_OUT * len(good))].tolist())
    split = {
        "train/good": [p for i, p in enumerate(good) if i not in held],
        "test/good": [p for i, p in enumerate(good) if i in held],
        "test/defective": bad,
    }
    with whole_folder(folder) as made:
        for name, paths in split.items():
            (made / name).mkdir(parents=True)
            for path in paths:
                shutil.copyfile(path, made / name / path.name)
        write(made / "LICENSE.txt", NOTICE)
        counts = {name: len(paths) for name, paths in split.items()} | {"left_out": len(own) - len(good) - len(bad)}
        write_json(made / FACTS, {**wanted, "counts": counts})
    return folder


@click.command()
@click.option(
    "-o", "--output", required=True, type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER", help="KIND is made in it."
)
@click.option("--kind", type=click.Choice([*KINDS, "both"]), default="both", show_default=True, help="Crystals of the cells.")
@seed_option
def main(output: Path, kind: str, seed: int) -> None:
    """Copy the elpv-dataset's solar cells to FOLDER/mono and FOLDER/poly; prints their counts as JSON.

    Example: python -m pipelines.elpv -o data/elpv --kind mono
    """
    made = {}
    for name in KINDS if kind == "both" else (kind,):
        folder = elpv_folder(output, name, seed)
        made[name] = {"folder": str(folder), **read_json(folder / FACTS, "what the folder holds")["counts"]}
        say(f"{folder}: CC BY-NC-SA 4.0, see LICENSE.txt")
    click.echo(json.dumps(made, indent=1))


if __name__ == "__main__":
    run(main)
