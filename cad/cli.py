"""cad show, cad export, cad new."""

from __future__ import annotations

import json
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cad.command import SETTINGS, json_option, result, run, say
from cad.errors import InputError, nearest
from cad.files import whole, write
from cad.part import Part, find, load, shelf
from cad.ply import ply_bytes

if TYPE_CHECKING:
    import numpy as np
    import trimesh

FORMATS = ("glb", "obj", "off", "ply", "stl")


@click.group(context_settings=SETTINGS)
@click.version_option(package_name="formspect")
def cad() -> None:
    """Parts: dimensions with tolerances, features, watertight meshes."""


@cad.command()
@click.argument("part")
@click.option(
    "-o", "--picture", type=click.Path(dir_okay=False, path_type=Path), metavar="PNG", help="Where the picture goes.  [default: <part>.png]"
)
@click.option("--size", type=click.IntRange(16, 4096), default=384, metavar="PX", help="Of each of the picture's views.")
@click.option(
    "--web", type=click.Path(dir_okay=False, path_type=Path), metavar="HTML", help="Writes the part as a page that turns in a browser, too."
)
@json_option
def show(part: str, picture: Path | None, size: int, web: Path | None, as_json: bool) -> None:
    """Dimensions, features, volume and a rendered picture of PART (a file, or the name of a part on the shelf).

    Example: cad show notched_cap -o cap.png --web cap.html
    """
    loaded = load(part)
    loaded.check_tolerances()
    if web:
        from cad.viewer import page

        write(web, page(loaded))
        say(f"wrote {web}: open it in a browser; it needs nothing else")
    drawn = _draw(loaded, picture or Path(f"{loaded.name}.png"), size)
    facts = _facts(loaded)
    result({**facts, "picture": drawn and str(drawn)}, as_json, _table(facts) + (f"\n\npicture: {drawn}" if drawn else ""))


@cad.command()
@click.argument("part")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    metavar="FILE",
    help=f"One of .{' .'.join(FORMATS)}; GLB (in metres, as glTF wants), OBJ and PLY keep the sub-components by name.",
)
def export(part: str, output: Path) -> None:
    """Writes the nominal mesh of PART.

    Example: cad export hex_nut -o nut.glb
    """
    import trimesh

    kind = output.suffix.lstrip(".").lower()
    if kind not in FORMATS:
        raise InputError(output, f'found the ending ".{kind}"', wanted=f"one of {', '.join('.' + f for f in FORMATS)}")
    mesh = load(part).mesh()
    vertices = mesh.vertices * (1e-3 if kind == "glb" else 1.0)  # glTF counts in metres
    pieces = trimesh.Scene()
    for number, name in enumerate(mesh.names, 1):
        if (mesh.feature == number).any():
            pieces.add_geometry(_piece(vertices, mesh.faces[mesh.feature == number]), node_name=name, geom_name=name)
    single = trimesh.Trimesh(vertices, mesh.faces, process=False)
    with whole(output) as temporary:
        if kind == "ply":
            temporary.write_bytes(ply_bytes(mesh))
        else:
            (pieces if kind in ("glb", "obj") else single).export(temporary, file_type=kind)
    say(f"wrote {output}: {len(mesh.faces)} triangles, {'m' if kind == 'glb' else 'mm'}, {len(mesh.names)} sub-components")


@cad.command()
@click.argument("template", required=False)
def new(template: str | None) -> None:
    """Prints a part file to start from: one of the shelf's, with its comments.

    Example: cad new hex-nut > part.yaml
    """
    if template is None:
        raise InputError("cad new", "no template named", wanted=f"one of {', '.join(shelf())}")
    path = find(template)
    if path.stem not in shelf():
        raise InputError(template, "no such part on the shelf", step=nearest(template.replace("-", "_"), shelf()))
    click.echo(path.read_text(encoding="utf-8"), nl=False)


@cad.command()
def schema() -> None:
    """Prints the JSON Schema of part files, with which editors complete and check them.

    Example: cad schema > part.schema.json
    """
    from cad.schema import schema as made

    click.echo(json.dumps(made(), indent=1, ensure_ascii=False))


def _piece(vertices: np.ndarray, faces: np.ndarray) -> trimesh.Trimesh:
    import numpy as np
    import trimesh

    used, renumbered = np.unique(faces, return_inverse=True)
    return trimesh.Trimesh(vertices[used], renumbered.reshape(-1, 3), process=False)


def _facts(part: Part) -> dict:
    mesh = part.mesh()
    return {
        "part": part.name,
        "dimensions": {name: {"nominal": t.nominal, "plus": t.plus, "minus": t.minus} for name, t in part.dimensions.items()},
        "features": {
            name: {
                "area_mm2": round(float(mesh.areas[mesh.feature == i].sum()), 3),
                "made_by": [f"{f.operation} {f.solid}" for f in part.features if f.name == name] or [part.solid.file],
            }
            for i, name in enumerate(part.names, 1)
        },
        "defects": {
            name: {"kind": spec.kind, "on": spec.on or getattr(spec, "dimension", None), "range": list(spec.range)}
            for name, spec in part.defects.items()
        },
        "volume_mm3": round(mesh.volume, 3),
        "size_mm": [round(float(v), 3) for v in mesh.bounds[1] - mesh.bounds[0]],
        "triangles": len(mesh.faces),
        "watertight": mesh.watertight,
        "chord_mm": round(part.chord, 4),
        "mesh": part.solid and {"file": part.solid.file, "repairs": list(part.solid.repairs)},
    }


def _table(facts: dict) -> str:
    lines = [
        f"{facts['part']}: {facts['volume_mm3']:.1f} mm3, {' x '.join(f'{v:g}' for v in facts['size_mm'])} mm, {facts['triangles']} triangles, {'watertight' if facts['watertight'] else 'NOT watertight'}",
    ]
    if facts["mesh"]:
        lines += ["", f"mesh {facts['mesh']['file']}: {'; '.join(facts['mesh']['repairs']) or 'nothing had to be mended'}"]
    lines += ["", "dimensions" if facts["dimensions"] else "no dimensions"]
    lines += [f"  {name:<14} {t['nominal']:>8g}  +{t['plus']:g} -{t['minus']:g}" for name, t in facts["dimensions"].items()]
    lines += ["", "sub-components"]
    lines += [f"  {name:<14} {f['area_mm2']:>8.1f} mm2  {', '.join(f['made_by'])}" for name, f in facts["features"].items()]
    lines += ["", "defects"]
    lines += [
        f"  {name:<14} {d['kind']} {'on ' + d['on'] if d['on'] else ''} {d['range'][0]:g} to {d['range'][1]:g}"
        for name, d in facts["defects"].items()
    ]
    return "\n".join(lines)


def _draw(part: Part, path: Path, size: int) -> Path | None:
    """With the first renderer that is installed: cad itself knows nothing of images."""
    found = sorted(entry_points(group="formspect.pictures"), key=lambda e: e.name)
    if not found:
        say("no picture: no renderer is installed")
        return None
    picture = found[0].load()(part, size)
    with whole(path) as temporary:
        picture.save(temporary, format="PNG")
    return path


def main() -> None:
    run(cad)
