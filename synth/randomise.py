"""Randomisation by class: pose, position, light, surface, camera, background, sensor, dust, each a block of its own that can be switched
and measured alone.

``file`` leaves a class as the part file has it; ``off`` holds it at the middle of that; ``default`` and ``strong`` are blocks of ranges, of
which a recipe may give its own. Each class draws from its own stream: what one is switched to changes nothing of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cad.errors import InputError, nearest
from cad.mesh import Mesh
from cad.part import Part
from cad.reading import checked, read_yaml, yaml_text
from cad.views import Views
from synth.blocks import CLASSES, STRONG, Block
from synth.scene import Scene, draw_scene

LEVELS = ("file", "off", "default", "strong")

Streams = Callable[[str], np.random.Generator]  # of a class
Blocks = Mapping[str, Block | Literal["off"]]  # classes that are not named stay as the part file has them


def blocks_of(data: Any, place: str = "randomise") -> dict[str, Block | Literal["off"]]:
    """From ``strong``, or a mapping of classes to levels or ranges such as ``{pose: off, sensor: {blur: [0, 1]}}``. Raises InputError."""
    if isinstance(data, str):
        data = dict.fromkeys(CLASSES, data)
    if not isinstance(data, Mapping):
        raise InputError(place, f"found {data!r}", wanted=f"{', '.join(LEVELS)}, or a class a line")
    out: dict[str, Block | Literal["off"]] = {}
    for name, entry in data.items():
        if name not in CLASSES:
            raise InputError(f"{place}.{name}", "unknown class", step=nearest(name, CLASSES))
        block = _block(name, "off" if entry is False else entry, f"{place}.{name}")
        if block is not None:
            out[name] = block
    return {name: out[name] for name in CLASSES if name in out}


def _block(name: str, entry: Any, place: str) -> Block | Literal["off"] | None:
    if isinstance(entry, Block):
        return entry
    if isinstance(entry, Mapping):
        return checked(lambda e, _: CLASSES[name].model_validate(dict(e)), entry, place, CLASSES[name])
    if entry not in LEVELS:
        raise InputError(place, f"found {entry!r}", wanted=f"{', '.join(LEVELS)}, or ranges", step=nearest(entry, LEVELS))
    return {"file": None, "off": "off", "default": CLASSES[name](), "strong": STRONG[name]}[entry]


def parse_blocks(text: str) -> dict[str, Block | Literal["off"]]:
    """What ``--randomise`` takes: a level for all, ``class=level`` pairs with commas between (after a level for the rest, where there is
    one), or a YAML file of blocks. Raises InputError."""
    if Path(text).suffix.lower() in (".yaml", ".yml"):
        try:
            return blocks_of(read_yaml(Path(text).read_text(encoding="utf-8")) or {}, text)
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                text, f"cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8 text'}", wanted="a file of blocks"
            ) from None
    words = [word.strip().partition("=") for word in text.split(",")]
    bare = [name for name, given, _ in words if not given]
    if len(bare) > 1 or not {*bare} <= {*LEVELS}:
        wanted = f"{', '.join(LEVELS)}, class=level pairs, or a .yaml file"
        raise InputError("--randomise", f'found "{text}"', wanted=wanted, step=nearest(bare[-1], LEVELS))
    levels = dict.fromkeys(CLASSES if bare else (), bare[0] if bare else "file")
    return blocks_of({**levels, **{name: level for name, given, level in words if given}}, "--randomise")


def blocks_json(blocks: Blocks) -> dict[str, Any]:
    """As a recipe saves them, and :func:`blocks_of` reads them back."""
    return {name: block if isinstance(block, str) else block.model_dump(mode="json") for name, block in blocks.items()}


def varied_views(part: Part, blocks: Blocks) -> Views:
    """The part file's ranges after each class has been held still, or has widened them."""
    views = part.views
    for name, block in blocks.items():
        views = CLASSES[name].OFF(views) if isinstance(block, str) else block.views(views)
    return views


def varied_scene(part: Part, mesh: Mesh, blocks: Blocks, streams: Streams, turn: np.ndarray | None = None) -> Scene:
    """A scene with every class of ``blocks``; ``streams``: each class's own random numbers; ``turn`` (4,) where the rotation is given."""
    scene = draw_scene(part, mesh, streams, turn, views=varied_views(part, blocks))
    for name, block in blocks.items():
        if not isinstance(block, str):
            scene = block.scene(scene, streams(f"{name} more"))
    return scene


def blocks_text(blocks: Blocks) -> str:
    """A file of blocks that ``--randomise`` reads, with what each field means."""
    lines = ["# Classes of randomisation: ranges, or a level: file (as the part file has it), off, default, strong."]
    for name, model in CLASSES.items():
        block = blocks.get(name, "file")
        lines.append("\n" + "\n".join(f"# {line.strip()}" for line in (model.__doc__ or "").strip().splitlines()))
        if isinstance(block, str):
            lines.append(f"{name}: {block}")
        else:
            lines.append(yaml_text({name: block.model_dump(mode="json")}, default_flow_style=None).rstrip())
    return "\n".join(lines) + "\n"
