"""Codes that are poses: there and back again, and a camera's roll that turns the picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import cad
from synth.sampling import Recipe, draw_sample
from synth.scene import Scene, about
from train.config import config_for
from train.models import build
from train.models.conditioned import reach, rotation
from train.physical import CODES, QUATERNION, code_of, codes_of, scene_of

torch.set_num_threads(1)


def scenes(cap: cad.Part, count: int = 6) -> list[Scene]:
    return [Scene.of(draw_sample(cap, Recipe(count, 0, size=32), "train", "good", k).sample.scene) for k in range(count)]


def perspective(scene: Scene) -> Scene:
    return replace(scene, field=None, angle=12.0, position=(1.5, -2.0, -180.0))


@pytest.mark.parametrize("camera", [lambda s: s, perspective], ids=["orthographic", "perspective"])
def test_there_and_back(cap: cad.Part, camera: object) -> None:
    for scene in map(camera, scenes(cap)):
        code = code_of(scene)
        again = scene_of(code, camera(scenes(cap)[0]))
        np.testing.assert_allclose(code_of(again), code, atol=1e-9)
        points = np.random.default_rng(0).normal(0, 10, (20, 3))
        near = np.abs(again.pixels(again.camera_points(points), 64) - scene.pixels(scene.camera_points(points), 64)).max()
        assert near < (1e-9 if scene.field else 1e-6)


def test_codes_are_of_as_many_numbers_as_the_model_wants(cap: cad.Part) -> None:
    assert codes_of([s.json() for s in scenes(cap)]).shape == (6, CODES) == (6, config_for(32, model="conditioned").latent)
    assert all(code_of(s)[0] >= 0 for s in scenes(cap))


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_rotation_is_the_scenes(quaternion: list[float]) -> None:
    from synth.scene import matrix

    unit = np.array(quaternion) / np.linalg.norm(quaternion)
    found = rotation(torch.tensor([quaternion], dtype=torch.float64))[0].numpy()
    np.testing.assert_allclose(found, matrix(unit), atol=1e-9)


def test_gradients_reach_every_number_of_a_code() -> None:
    model = build(config_for(32, model="conditioned", width=8)).double().eval()
    code = torch.randn((2, CODES), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    code[:, 6] = 0.05
    code.requires_grad_(True)
    model.decode(code).square().sum().backward()
    found, off = code.grad.clone(), 1e-6
    with torch.no_grad():
        for k in range(CODES):
            nudge = torch.zeros(CODES, dtype=torch.float64)
            nudge[k] = off
            slope = (model.decode(code + nudge).square().sum((1, 2, 3)) - model.decode(code - nudge).square().sum((1, 2, 3))) / (2 * off)
            torch.testing.assert_close(found[:, k], slope, rtol=1e-3, atol=1e-3)
            assert (slope.abs() > 1e-9).all()


def test_relatives_are_the_part_spun_about_its_axis_and_leaning_the_other_way() -> None:
    from synth.scene import matrix

    model = build(config_for(32, model="conditioned", width=8)).eval()
    code = torch.randn((2, CODES), generator=torch.Generator().manual_seed(2))
    code[:, QUATERNION] /= code[:, QUATERNION].norm(dim=1, keepdim=True)
    others = model.relatives(code)
    assert others.shape == (2, 47, CODES) and torch.equal(others[:, :, 4:], code[:, None, 4:].expand(-1, 47, -1))
    for k in (0, 5, 11):
        spin = matrix(about(np.array([0.0, 0.0, 1.0]), 2 * np.pi * (k + 1) / 24))
        wanted = rotation(code[:, QUATERNION])[1].numpy() @ spin
        np.testing.assert_allclose(rotation(others[1, k : k + 1, QUATERNION])[0].numpy(), wanted, atol=1e-5)
    axis = rotation(code[:, QUATERNION])[:, :, 2]
    for k in (
        23,
        30,
        46,
    ):  # the others lean the other way, and look the same but for what is at the rim: the outline of a body of revolution stays
        torch.testing.assert_close(rotation(others[:, k, QUATERNION])[:, :, 2], axis * torch.tensor([1.0, 1.0, -1.0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(rotation(others[1, :, QUATERNION])), torch.ones(47), atol=1e-5, rtol=0)


def test_reach_is_how_far_a_part_goes_from_its_middle() -> None:
    line = (torch.arange(64) + 0.5) * 2 / 64 - 1
    place, scale, pictures = torch.tensor([[0.2, -0.1], [0.0, 0.0]]), torch.tensor([0.8, 1.0]), []
    for (x, y), s in zip(place.tolist(), scale.tolist(), strict=True):
        pictures.append(torch.where(torch.hypot(line - x, -line[:, None] - y) < 0.5 * s, 1.0, -0.3)[None])
    assert reach(torch.stack(pictures), place, scale) == pytest.approx(0.5, abs=0.07)
    assert reach(torch.zeros(2, 1, 64, 64), place, scale) == pytest.approx(0.2 + 2 / 64)  # nothing to be seen


def test_a_volume_is_begun_with_the_views() -> None:
    model = build(config_for(32, model="conditioned", width=8))
    poses = torch.zeros(16, CODES)
    poses[:, 6] = torch.linspace(-1, 1, 16)
    model.begin(torch.zeros(16, 1, 32, 32), poses)
    assert float(model.usual) == pytest.approx(0, abs=1e-6) and 0.2 < float(model.generator.span) < 0.3
