"""Poses come back: a law over many views, and the measure by which it is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import cad
from pipelines.benchmark_pose import NEAR, error, pose_errors
from synth.scene import Scene, about, draw_scene, matrix
from train.cad_form import CadForm, build_form

VIEWS = 60


@pytest.fixture(scope="module")
def form(cap: cad.Part) -> CadForm:
    return build_form(cap, 128)[0]


def scene_of(form: CadForm, seed: int, shown: bool) -> Scene:
    """A view with the notch in front or on the far side, the cavity unseen."""
    rng = np.random.default_rng(seed)
    while True:
        scene = draw_scene(form.part, form.mesh, rng)
        axis, notch = scene.rotation[:, 2], scene.rotation[:, 1]
        if 0.1 < axis[2] < 0.5 and (notch[2] > 0.7 if shown else notch[2] < -0.7):
            return scene


@pytest.mark.parametrize("angle", [0.3, 2.0, 30.0])
def test_the_error_of_a_turn_is_its_angle_where_the_view_tells(form: CadForm, angle: float) -> None:
    scene = scene_of(form, 0, True)
    for axis in np.eye(3):
        found = matrix(about(axis, np.radians(angle))) @ scene.rotation
        assert error(form, found, scene, 128) == pytest.approx(angle, abs=0.02)
    assert error(form, scene.rotation @ matrix(about(np.eye(3)[2], np.radians(angle))), scene, 128) == pytest.approx(angle, abs=0.02)


@pytest.mark.parametrize("angle", [2.0, 20.0])
def test_a_spin_that_the_view_cannot_show_is_no_error(form: CadForm, angle: float) -> None:
    scene = scene_of(form, 1, False)
    spun = scene.rotation @ matrix(about(np.eye(3)[2], np.radians(angle)))
    assert error(form, spun, scene, 128) < 0.01
    assert error(form, matrix(about(np.eye(3)[0], np.radians(3.0))) @ spun, scene, 128) == pytest.approx(3.0, abs=0.3)  # the axis' own


def test_the_round_parts_axis_is_measured(form: CadForm) -> None:
    assert len(form.symmetries.axes) == 1 and abs(form.symmetries.axes[0][2]) > 0.999
    none = replace(form.symmetries, turns=np.empty((0, 3, 3)), losses=np.empty(0))
    assert none.axes.shape == (0, 3)


@pytest.mark.slow
def test_poses_are_found_within_a_degree(cap: cad.Part, form: CadForm) -> None:
    """Good views of any pose at 128 px: from retrieved starts to within a degree, in all but a few. The benchmark tells the share over
    500; so few views scatter about it by a twentieth."""
    degrees = np.array([r["degrees"] for r in pose_errors(cap, form, VIEWS, "plain", 300)])
    assert (degrees <= NEAR).mean() >= 0.8 and np.median(degrees) < 0.5
