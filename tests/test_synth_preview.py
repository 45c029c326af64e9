"""Looking before rendering: one view with its buffers, and ladders of severities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cad
from cad.errors import InputError
from synth.drawable import Drawable
from synth.picture import parts_picture
from synth.preview import TITLE, _mask, _rising, _telling, ladder, nearness, preview
from synth.raycast import draw, truth
from synth.scene import draw_scene


def tiles(sheet: Image.Image, size: int, row: int = 0) -> list[np.ndarray]:
    pixels = np.asarray(sheet)[row * (size + TITLE + 4) + TITLE :][:size]
    return [pixels[:, k : k + size] for k in range(0, pixels.shape[1], size + 4)]


def test_a_preview_shows_every_buffer_of_one_view(cap: cad.Part) -> None:
    size = 96
    picture, mask, depth, normals, ids = tiles(preview(cap, size=size, seed=3), size)
    scene, item = draw_scene(cap, cap.mesh(), np.random.default_rng([3, 2, 0])), Drawable.of(cap.mesh())
    seen = truth(item, scene, size)
    assert np.array_equal(picture, draw(item, scene, size, samples=3)) and not mask.any()
    inside = seen.feature > 0
    assert np.array_equal(depth[..., 0] > 0, inside) and np.array_equal(normals.any(2), inside)
    facing = normals[inside] / 127.5 - 1
    assert np.abs(np.linalg.norm(facing, axis=1) - 1).max() < 0.02 and (facing[:, 2] > -0.02).all()
    below = np.s_[TITLE + 13 * len(cap.names) :]  # clear of the legend
    assert ((ids[below] != 255).any(2) >= inside[below]).all()


@pytest.mark.parametrize("name", ["bulge", "short-notch"])
def test_a_defect_is_seen_where_it_is_previewed(cap: cad.Part, name: str) -> None:
    for seed in range(3):
        _, mask, *_ = tiles(preview(cap, size=96, seed=seed, defect=name), 96)
        assert mask.any()


def test_depth_is_brighter_the_nearer_it_is(cap: cad.Part) -> None:
    seen = truth(Drawable.of(cap.mesh()), draw_scene(cap, cap.mesh(), np.random.default_rng(1)), 64)
    grey, hit = nearness(seen), np.isfinite(seen.depth)
    order = np.argsort(seen.depth[hit])
    assert (
        (np.diff(grey[hit][order]) <= 1e-6).all() and (grey[~hit] == 0).all() and grey[hit].min() == pytest.approx(0.2) and grey.max() == 1
    )


def test_a_ladder_rises(cap: cad.Part) -> None:
    """At one spot and in one pose a defect shows more the severer it is; the good part comes first."""
    size, steps = 96, 4
    sheet = ladder(cap, steps=steps, size=size)
    assert sheet.size == ((steps + 1) * (size + 4) - 4, len(cap.defects) * (size + TITLE + 4))
    good = cap.mesh()
    for name in cap.defects:
        severities = _rising(cap, name, steps)
        assert sorted(severities) == pytest.approx(np.linspace(*cap.defects[name].range, steps).tolist())
        made = [cap.with_defect(name, np.random.default_rng([0, 1]), severity=s)[0] for s in severities]
        scene = _telling(cap, good, made, size, 0)
        pixels = [int(_mask(cap, good, mesh, scene, size).sum()) for mesh in made]
        assert pixels[0] > 0 and pixels == sorted(pixels) and pixels[-1] > pixels[0]


def test_one_severity_is_one_step() -> None:
    bracket = cad.load("bracket")
    assert len(_rising(bracket, "no-rib", 6)) == 1
    assert ladder(bracket, steps=6, size=32, defects=["no-rib"]).size[0] == 2 * 36 - 4


def test_mistakes_are_told(cap: cad.Part, command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no defect"):
        ladder(cap, defects=["crack"])
    plain = cad.parse("part: cube\nfeatures: [{name: body, add: box, size: [2, 3, 4]}]\n")
    with pytest.raises(InputError, match="has no defects"):
        ladder(plain)
    for words in ("--severity 2", "--defect bulge --defect short-notch", "--ladder 3 --severity 1", "--defect crack"):
        code, out, err = command(f"synth preview notched_cap {words}")
        assert code == 2 and out == "" and err.startswith("error: ") and err.count("\n") == 1
    assert not list(tmp_path.iterdir())
    code, out, _ = command("synth preview notched_cap --size 32 --ladder 2")
    with Image.open(out.strip()) as sheet:
        assert code == 0 and sheet.size[0] == 3 * 36 - 4


# The sheet of parts


def test_a_sheet_of_parts_has_two_tiles_of_each_as_alone(cap: cad.Part, nut: cad.Part) -> None:
    size, row = 96, 96 + 22
    sheet = np.asarray(parts_picture([cap, nut, cap], size=size, columns=2))
    assert sheet.shape == (2 * row, 4 * size, 3)
    alone = np.asarray(parts_picture([cap], size=size, columns=1))
    assert np.array_equal(sheet[:row, : 2 * size], alone)
    assert np.array_equal(sheet[row:, : 2 * size], alone)
    assert (sheet[row:, 2 * size :] == 255).all()  # nothing where there is no part
    for tile in np.split(sheet[:size], 4, axis=1):  # from above and below, of cap and nut
        assert 0.2 < (tile != 255).any(-1).mean() < 0.8
