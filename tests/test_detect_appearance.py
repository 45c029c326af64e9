"""What photographs say of a station, against what they were drawn with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cad
from detect.appearance import LEAST, appearance, look
from detect.cad_detector import CadRun
from detect.photo_detector import SIZE, PhotoDetector
from synth.drawable import Drawable
from synth.photograph import photograph
from synth.randomise import blocks_of, parse_blocks
from synth.scene import draw_scene
from synth.surroundings import Sensor
from train.cad_form import fit_form, open_form, read_config, wanted_of
from train.photographs import Photograph


@pytest.fixture(scope="module")
def detector(nut: cad.Part, tmp_path_factory: pytest.TempPathFactory) -> PhotoDetector:
    folder = tmp_path_factory.mktemp("appearance") / "nut"
    fit_form(folder, nut, wanted_of(nut, 32, 0))
    return PhotoDetector(CadRun(folder, open_form(folder, read_config(folder))))


def drawn(nut: cad.Part, seed: int, *, behind: float = 0.5, **sensor: float) -> Photograph:
    scene = draw_scene(nut, nut.mesh(), np.random.default_rng(seed))
    scene = replace(scene, background=(behind,) * 3, color=(0.2, 0.2, 0.2), metallic=0.0, sensor=Sensor(**{"full_well": 50000.0, "read_noise": 1.0, "seed": seed, **sensor}))  # fmt: skip
    return Photograph(Path(f"{seed}.png"), photograph(Drawable.of(nut.mesh()), scene, SIZE), SIZE, SIZE)


def test_background_and_scale_are_what_was_drawn(detector: PhotoDetector, nut: cad.Part) -> None:
    shown = [drawn(nut, k, behind=b) for k, b in enumerate((0.5, 0.6, 0.7))]
    blocks, middles = appearance(detector, shown)
    low, high = blocks["background"].lightness
    assert low <= 0.5 < 0.7 <= high and high - low < 0.3
    assert middles["background"] == pytest.approx(0.6, abs=0.02) and blocks["background"].kinds == ("plain",)
    low, high = blocks["position"].scale
    fills = nut.views.camera.fill
    assert fills[0] / np.mean(fills) * 0.85 <= low and high <= fills[1] / np.mean(fills) * 1.15


@pytest.mark.parametrize(("name", "few", "many", "number"), [("blur", 0.3, 1.5, "blur"), ("full_well", 500.0, 20000.0, "well"), ("vignetting", 0.0, 0.5, "vignetting")])  # fmt: skip
def test_more_of_it_is_more_of_it(detector: PhotoDetector, nut: cad.Part, name: str, few: float, many: float, number: str) -> None:
    one, other = (getattr(look(detector, drawn(nut, 7, **{name: v})), number) for v in (few, many))
    assert other > 1.2 * one


def test_noise_is_told_in_electrons(detector: PhotoDetector, nut: cad.Part) -> None:
    assert look(detector, drawn(nut, 3, full_well=1000.0)).well == pytest.approx(1000, rel=0.5)


def test_what_is_written_is_read_again(detector: PhotoDetector, nut: cad.Part, command, tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    for k in range(LEAST):
        Image.fromarray(drawn(nut, k).pixels).save(tmp_path / "good" / f"{k}.png")
    code, out, err = command(f"detect appearance {tmp_path / 'good'} --run {detector.run.folder} -o {tmp_path / 'a.yaml'} --json")
    assert code == 0, err
    facts = json.loads(out)
    assert parse_blocks(str(tmp_path / "a.yaml")) == blocks_of(facts["classes"])
    assert facts["medians"]["photographs"] == LEAST


def test_too_few_and_none_that_shows_the_part(detector: PhotoDetector) -> None:
    blank = Photograph(Path("photos/blank.png"), np.full((SIZE, SIZE, 3), 90, np.uint8), SIZE, SIZE)
    with pytest.raises(cad.InputError, match="at least 3"):
        appearance(detector, [blank])
    with pytest.raises(cad.InputError, match="seen in 0 of 4"):
        appearance(detector, [blank] * 4)
