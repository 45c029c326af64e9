"""The compare network: what it is shown, that it learns, and that a picture's answer is its own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

import cad
from synth.drawable import Drawable, Truth
from synth.raycast import truth
from synth.scene import draw_scene
from train.compare_fit import (
    CONFIG,
    NETWORK,
    Plan,
    differences,
    draw_pairs,
    fit_compare,
    nudged,
    open_network,
    residuals,
    save_network,
    turned,
)
from train.compare_network import CHANNELS, CompareNet, Crop, beside, score, shaded
from train.finish import finished

TINY = Plan(side=32, pairs=16, steps=60, batch=8, rate=4e-3, finish=0.5)


@pytest.fixture(scope="module")
def form(nut: cad.Part) -> Truth:
    mesh = nut.mesh()
    return truth(Drawable.of(mesh), draw_scene(nut, mesh, np.random.default_rng(3)), 64)


@pytest.fixture(scope="module")
def pairs(nut: cad.Part):
    return draw_pairs(nut, TINY, TINY.pairs)


# What it is shown


def test_a_crop_holds_the_form_and_what_stands_out(form: Truth) -> None:
    crop = Crop.about(form.feature > 0, 48)
    seen = crop.of((form.feature > 0).astype(np.uint8), 0) > 0
    assert not seen[0].any() and not seen[-1].any() and not seen[:, 0].any() and not seen[:, -1].any()
    assert seen.sum() * crop.zoom**2 == pytest.approx((form.feature > 0).sum(), rel=0.05)


def test_light_on_the_form_is_explained_and_nothing_else(form: Truth) -> None:
    """Any grey that nine harmonics of the normals make leaves nothing over; a spot on it is left over where it is."""
    inside = form.feature > 0
    normals = np.moveaxis(form.normal, -1, 0).astype(float)
    light = np.where(inside, 0.2 + 0.5 * normals[2] - 0.3 * normals[0] + 0.2 * normals[0] * normals[1], 0.0)
    assert np.abs(shaded(light, normals, inside) - light)[inside].max() < 0.02
    spot = np.zeros_like(light)
    y, x = np.argwhere(inside)[len(np.argwhere(inside)) // 3]
    spot[y - 1 : y + 2, x - 1 : x + 2] = 1.0
    left = np.abs(light + spot - shaded(light + spot, normals, inside)) * inside
    assert np.unravel_index(left.argmax(), left.shape) in [(y + j, x + i) for j in (-1, 0, 1) for i in (-1, 0, 1)]


def test_overall_brightness_and_contrast_are_not_seen(form: Truth, rng: np.random.Generator) -> None:
    grey = 0.5 + 4 * (ndimage.gaussian_filter(rng.random((64, 64)), 2) - 0.5)
    one, _ = beside(grey, form, 7.0, 48)
    other, _ = beside(0.3 + 0.5 * grey, form, 7.0, 48)
    assert one.shape == (CHANNELS, 48, 48) and one.dtype == np.float32
    assert np.abs(one - other)[1:].max() < 0.25 and np.median(np.abs(one - other)) < 0.02


def test_a_quarter_turn_of_the_pair_is_a_quarter_turn_of_what_is_seen(form: Truth, rng: np.random.Generator) -> None:
    """Two routes: turn photograph and normals in the picture's plane, then look; or look, then turn."""
    grey = ndimage.gaussian_filter(rng.random((64, 64)), 2)

    class Once:
        def random(self) -> float:
            return 1.0

        def integers(self, _: int) -> int:
            return 1

    seen, _ = beside(grey, form, 7.0, 48)
    normal = np.rot90(form.normal)
    about = Truth(np.rot90(form.depth), np.rot90(form.feature), np.stack([-normal[..., 1], normal[..., 0], normal[..., 2]], -1))
    other, _ = beside(np.rot90(grey), about, 7.0, 48)
    routed, _ = turned(torch.from_numpy(seen)[None], torch.zeros(1, 48, 48, dtype=torch.bool), Once())
    assert np.mean(np.abs(routed[0].numpy() - other) > 0.05) < 0.02


def test_a_nudged_scene_is_near_the_one_it_was(nut: cad.Part, rng: np.random.Generator) -> None:
    mesh = nut.mesh()
    item, scene = Drawable.of(mesh), draw_scene(nut, mesh, np.random.default_rng(5))
    one, other = (truth(item, s, 96).feature > 0 for s in (scene, nudged(scene, rng)))
    assert 0.9 < (one & other).sum() / (one | other).sum() < 1


# Finishes


def test_a_finish_changes_the_part_alone_and_keeps_to_grey(form: Truth, rng: np.random.Generator) -> None:
    grey = np.full((64, 64), 0.5)
    other = finished(grey, form, rng)
    inside = form.feature > 0
    assert (other[~inside] == 0.5).all() and np.ptp(other[inside]) > 0.02
    assert other.min() >= 0 and other.max() <= 1
    nothing = Truth(form.depth, np.zeros_like(form.feature), form.normal)
    assert finished(grey, nothing, rng) is grey


# Training


def test_pairs_hang_on_their_number_alone(nut: cad.Part, pairs) -> None:
    fewer = draw_pairs(nut, TINY, 5)
    assert (fewer.seen == pairs.seen[:5]).all() and (fewer.marks == pairs.marks[:5]).all() and fewer.labels == pairs.labels[:5]
    good = np.array([label == "good" for label in pairs.labels])
    assert good.any() and not good.all()
    assert not pairs.marks[good].any() and pairs.marks[~good].any((1, 2)).all()


def test_it_overfits_a_few_pairs_and_the_seed_decides(nut: cad.Part, pairs) -> None:
    one, again = (fit_compare(nut, replace(TINY, steps=5), device="cpu", pairs=pairs)[0] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), again.state_dict().values(), strict=True))
    network, facts = fit_compare(nut, replace(TINY, steps=200), device="cpu", pairs=pairs)
    logits, _ = differences(network, pairs.seen)
    assert logits[pairs.marks].mean() > logits[~pairs.marks].mean() + 2
    assert facts["loss"] < 2.0


def test_a_picture_has_its_own_answer_whatever_it_comes_with(pairs) -> None:
    network = CompareNet(32).eval()
    logits, scores = differences(network, pairs.seen)
    order = np.random.default_rng(0).permutation(len(scores))
    other, permuted = differences(network, pairs.seen[order])
    assert (permuted == scores[order]).all() and (other == logits[order]).all()


def test_its_score_is_the_mean_of_the_highest() -> None:
    logits = torch.zeros(2, 1, 50, 50)
    logits[1, 0, 3, :10] = torch.arange(10.0)
    assert score(logits).tolist() == [0.0, 4.5]


def test_the_plain_residual_rises_with_what_is_left_over(pairs) -> None:
    more = pairs.seen.copy()
    more[:, 2, 10:14, 10:14] += 5
    assert (residuals(more) > residuals(pairs.seen)).all()


# Files


def test_a_network_survives_its_files_and_one_that_is_no_better_is_left_out(tmp_path: Path, pairs) -> None:
    network = CompareNet(32).eval()
    assert open_network(tmp_path) is None
    save_network(network, tmp_path, TINY, {"asked": True})
    found = open_network(tmp_path)
    assert found.side == 32 and (differences(found, pairs.seen[:2])[0] == differences(network, pairs.seen[:2])[0]).all()
    save_network(network, tmp_path, replace(TINY, steps=1), {"asked": False})
    assert open_network(tmp_path) is None


def test_a_damaged_network_is_refused(tmp_path: Path) -> None:
    save_network(CompareNet(32), tmp_path, TINY, {"asked": True})
    (tmp_path / NETWORK).write_bytes(b"no weights")
    with pytest.raises(cad.InputError, match="train compare again"):
        open_network(tmp_path)
    (tmp_path / CONFIG).write_text(json.dumps({"format": 99}))
    with pytest.raises(cad.InputError, match="format 1"):
        open_network(tmp_path)


def test_a_part_without_defects_has_nothing_to_teach() -> None:
    part = cad.parse("part: cube\nfeatures: [{name: body, add: box, size: [2, 3, 4]}]\n")
    with pytest.raises(cad.InputError, match="defects: the part file has none"):
        draw_pairs(part, TINY, 2)


def test_train_compare_gives_a_run_its_network(nut: cad.Part, command, tmp_path: Path) -> None:
    from train.cad_form import fit_form, wanted_of

    run = tmp_path / "nut"
    fit_form(run, nut, wanted_of(nut, 32, 0))
    code, out, err = command(f"train compare {run} --pairs 16 --steps 2 --side 32 --device cpu --json")
    assert code == 0, err
    facts = json.loads(out)
    assert {"auroc", "residual_auroc", "asked", "loss"} <= set(facts)
    assert (open_network(run) is not None) == facts["asked"]
    assert command(f"train compare {run} --side 33")[0] == 2
    assert "holds no CAD form" in command(f"train compare {tmp_path}")[2]
