"""Diagnostics of decoders small enough that what they should find is known: linear ones, one that keeps lengths, one that jumps."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.linalg import sqrtm

from cad.errors import InputError
from detect import diagnostic_pictures as pictures
from detect.diagnostics import DEVIATIONS, PAIRS, ROW, diagnose, write_diagnostics
from detect.latent_space import (
    FRAMES,
    Subject,
    between,
    decoded,
    deviations_out,
    draw,
    interpolation,
    interpolation_figures,
    outside,
    prior_of,
    shrunk,
    standard_normal,
)
from detect.pose_coverage import CELLS, SPINS, TrainingViews, cell_of, cell_outlines, coverage, directions, hammer, reached, spins
from detect.resemblance import detail, frechet_table, in_a_plane, nearest_distance, told_apart, variety
from synth.scene import Scene, about, product, random_rotation
from synth.scene import between as shortest
from train.bank import thumbnails
from train.losses import blurred

torch.set_num_threads(1)

Z, S = 6, 16
SECTIONS = ("Generated beside real", "Outside the prior", "Interpolation", "Real and generated in one plane", "Fréchet distances", "Reconstructions", "Pose coverage")  # fmt: skip


@pytest.fixture(autouse=True)
def distance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until train/frechet.py is there, the formula of Dowson and Landau (1982)."""
    if importlib.util.find_spec("train.frechet") is None:
        stand_in = ModuleType("train.frechet")

        def frechet(a: torch.Tensor, b: torch.Tensor) -> float:
            (x, y), (p, q) = ([np.asarray(v, float) for v in (a, b)], [np.cov(np.asarray(v, float).T) for v in (a, b)])
            return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(p + q - 2 * sqrtm(p @ q).real))

        stand_in.frechet = frechet
        monkeypatch.setitem(sys.modules, "train.frechet", stand_in)


def subject(latent: int = Z, *, prior: tuple[torch.Tensor, torch.Tensor] | None = None, encoder: bool = True) -> Subject:
    """A linear decoder whose encoder is its left inverse, of a prior that is not the standard one."""
    weights = torch.from_numpy(np.random.default_rng(7).normal(size=(latent, S * S))).float()
    inverse = torch.linalg.pinv(weights)
    prior = prior or (torch.linspace(-1, 1, latent), torch.linspace(0.5, 2, latent))
    return Subject(
        "linear", lambda z: (z @ weights).view(-1, 1, S, S), latent, (lambda x: x.flatten(1) @ inverse) if encoder else None, prior
    )


def isometry(latent: int = 2) -> Subject:
    """As far apart as codes are, so are pictures, but for one factor."""
    basis = torch.linalg.qr(torch.from_numpy(np.random.default_rng(3).normal(size=(S * S, latent)))).Q.float()
    return Subject("isometry", lambda z: (z @ basis.T).view(-1, 1, S, S), latent, None, standard_normal(latent))


def labelled(own: Subject, counts: dict[str, int], seed: int = 0) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Pictures that the decoder nearly makes, and their codes; the later labels are further off."""
    rng, photos, codes = np.random.default_rng(seed), {}, {}
    for k, (label, n) in enumerate(counts.items()):
        codes[label] = draw(own, n, rng)
        photos[label] = decoded(own, codes[label]) + torch.from_numpy((0.1 + k) * rng.normal(size=(n, 1, S, S))).float()
    return photos, codes


def scenes(n: int, seed: int = 0) -> list[Scene]:
    rng = np.random.default_rng(seed)
    return [scene(random_rotation("any", rng)) for _ in range(n)]


def scene(quaternion: np.ndarray, **more: object) -> Scene:
    known = {"pivot": (0, 0, 0), "position": (0, 0, -50), "field": 20.0, "angle": None, "light": (0, 0, 1), "ambient": 0.3}
    surface = {"color": (1, 1, 1), "roughness": 0.5, "metallic": 0.0, "background": (0, 0, 0)}
    return Scene(**{"quaternion": tuple(quaternion), **known, **surface, **more})


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float()


# codes


@pytest.mark.parametrize("correlated", [False, True])
def test_whitened_codes_have_the_law_that_the_prior_says(correlated: bool) -> None:
    codes = (normal(400, Z) @ normal(Z, Z, seed=1) + 3).double()
    own = subject(prior=prior_of(codes, correlated=correlated))
    white = own.whitened(codes)
    torch.testing.assert_close(own.colored(white), codes)
    found = torch.cov(white.T)
    torch.testing.assert_close(found if correlated else found.diag(), torch.eye(Z).double() if correlated else torch.ones(Z).double(), atol=5e-3, rtol=0)  # fmt: skip
    torch.testing.assert_close(own.scaled(codes).std(0), torch.ones(Z).double(), atol=5e-3, rtol=0)


@pytest.mark.parametrize("correlated", [False, True])
def test_samples_are_as_far_outside_as_they_claim_and_in_the_same_directions(correlated: bool) -> None:
    own = subject(prior=prior_of(normal(400, Z) @ normal(Z, Z, seed=1) + 3, correlated=correlated))
    found = outside(own, 5, DEVIATIONS, np.random.default_rng(0))
    assert found.shape == (len(DEVIATIONS), 5, Z)
    for k, row in zip(DEVIATIONS, found, strict=True):
        torch.testing.assert_close(deviations_out(own, row), torch.full((5,), k), rtol=1e-4, atol=0)
        torch.testing.assert_close(own.whitened(row) / k, own.whitened(found[0]), rtol=1e-3, atol=1e-3)


def test_draws_are_the_priors_and_the_seeds() -> None:
    own = subject()
    a, b, c = (draw(own, 2000, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert a.equal(b) and not a.equal(c)
    torch.testing.assert_close(a.mean(0), own.prior[0], atol=0.2, rtol=0)
    torch.testing.assert_close(a.std(0), own.prior[1], atol=0, rtol=0.1)


# interpolation


def test_an_interpolation_begins_and_ends_with_its_codes_pictures() -> None:
    own = subject()
    a, b = draw(own, 2, np.random.default_rng(0))
    path, found = between(own, a, b), interpolation(own, "good", a, b)
    assert path.shape == (FRAMES, Z) == (64, Z) and path[0].equal(a) and path[-1].equal(b)
    assert found.frames.shape == (64, 1, S, S) and found.steps.shape == (63,)
    torch.testing.assert_close(found.frames[[0, -1]], decoded(own, torch.stack([a, b])), rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_the_way_back_is_the_way_there(seed: int) -> None:
    own = subject()
    a, b = draw(own, 2, np.random.default_rng(seed))
    torch.testing.assert_close(between(own, a, b), between(own, b, a).flip(0), rtol=1e-4, atol=1e-5)


def test_an_interpolation_keeps_as_far_out_as_its_ends_and_turns_evenly() -> None:
    own = subject()
    a, b = outside(own, 2, [1.5], np.random.default_rng(0))[0]
    path = own.whitened(between(own, a, b))
    torch.testing.assert_close(path.square().mean(1).sqrt(), torch.full((FRAMES,), 1.5), rtol=1e-4, atol=0)
    cosines = (path[1:] * path[:-1]).sum(1) / path[0].square().sum()
    assert float(cosines.max() - cosines.min()) < 1e-4
    assert float(own.whitened(between(own, a, 3 * (b - own.prior[0]) + own.prior[0])).square().mean(1).sqrt().diff().std()) < 1e-4


def test_codes_of_one_direction_or_of_opposite_ones_or_the_mean_are_joined_straight() -> None:
    own = subject()
    mean, (a,) = own.prior[0], draw(own, 1, np.random.default_rng(0))
    for b in (mean + 2 * (a - mean), mean - 2 * (a - mean), mean, a):
        torch.testing.assert_close(between(own, a, b, 5), torch.lerp(a[None], b[None], torch.linspace(0, 1, 5)[:, None]))


@pytest.mark.parametrize("angle", [0.3, 1.0, 2.5])
def test_where_pictures_are_as_far_apart_as_codes_the_way_is_the_arc(angle: float) -> None:
    own = isometry()
    found = interpolation_figures(
        interpolation(own, "", torch.tensor([2.0, 0.0]), 2 * torch.tensor([np.cos(angle), np.sin(angle)]).float())
    )
    assert found["evenness"] == pytest.approx(1, abs=1e-3)
    assert found["straight"] == pytest.approx(4 * np.sin(angle / 2) / S, rel=1e-4)  # root mean square over S * S pixels
    assert found["detour"] == pytest.approx(63 * np.sin(angle / 126) / np.sin(angle / 2), rel=1e-4)


def test_a_decoder_that_jumps_is_uneven_and_one_that_stands_still_tells_nothing() -> None:
    own = isometry()
    jumping = Subject("", lambda z: own.decode(0.01 * z + (z[:, :1] > 0)), 2, None, own.prior)
    still = Subject("", lambda z: torch.ones(len(z), 1, S, S), 2, None, own.prior)
    ends = torch.tensor([-1.0, 0.2]), torch.tensor([1.0, 0.3])
    assert interpolation_figures(interpolation(jumping, "", *ends))["evenness"] > 100
    assert interpolation_figures(interpolation(still, "", *ends)) == {"length": 0.0, "straight": 0.0, "detour": None, "evenness": None}


def test_large_pictures_are_shown_small_and_measured_large() -> None:
    own = Subject("", lambda z: z[:, :1, None, None].expand(-1, 1, 256, 256), 2, None, standard_normal(2))
    found = interpolation(own, "", torch.tensor([1.0, 0.0]), torch.tensor([3.0, 0.0]))
    assert found.frames.shape == (64, 1, 128, 128) and found.straight == pytest.approx(2)
    assert shrunk(normal(2, 1, 128, 128)).equal(normal(2, 1, 128, 128))


# resemblance


def test_variety_and_detail_of_the_same_of_one_alone_and_of_blurred_ones() -> None:
    real = normal(20, 1, S, S)
    thumbs = thumbnails(real)
    assert variety(thumbs, thumbs) == 1 and variety(thumbs, thumbs[:1].expand(20, -1)) == pytest.approx(0, abs=1e-6)
    assert variety(thumbs[:1], thumbs) is None
    assert detail(real, real) == 1 and detail(real, 2 * real) == pytest.approx(2) and detail(real, blurred(real)) < 0.7


def test_what_is_told_apart() -> None:
    real, rng = normal(30, 4), np.random.default_rng(0)
    assert told_apart(real, real + 100, rng) == 1
    assert told_apart(real, real + 1e-3, np.random.default_rng(0)) == 0  # twins: the nearest is of the other kind
    assert 0.35 < told_apart(normal(300, 4), normal(300, 4, seed=1), rng) < 0.65
    assert told_apart(real[:1], real, rng) is None


def test_nearest_distance_by_hand() -> None:
    a, b = torch.tensor([[0.0], [1.0], [4.0]]), torch.tensor([[2.0], [10.0]])
    assert nearest_distance(a, b) == 2 and nearest_distance(a) == 1 and nearest_distance(a[:1]) is None


def test_the_plane_is_the_seeds_and_does_not_hang_on_the_rows_order() -> None:
    groups = {"a": normal(20, 12), "b": normal(15, 12, seed=1) + 6}
    found, again = in_a_plane(groups, 0), in_a_plane(groups, 0)
    turn = np.random.default_rng(0).permutation(20)
    moved = in_a_plane({"b": groups["b"], "a": groups["a"][turn]}, 0)
    assert {k: v.shape for k, v in found.items()} == {"a": (20, 2), "b": (15, 2)}
    for other, order in ((again, slice(None)), (moved, turn)):
        np.testing.assert_array_equal(other["a"], found["a"][order])
        np.testing.assert_array_equal(other["b"], found["b"])
    apart = np.linalg.norm(found["a"][:, None] - found["b"], axis=2).min()
    assert apart > np.median(np.linalg.norm(found["a"] - found["a"].mean(0), axis=1))
    assert in_a_plane({"a": normal(7, 12)}, 0) is None


def test_frechet_distances_stand_beside_those_of_good_ones_at_the_same_number() -> None:
    good = {"latent": normal(80, 3).double(), "picture": normal(80, 5, seed=1).double()}
    others = {"alike": {k: normal(60, v.shape[1], seed=5).double() for k, v in good.items()}}
    others["moved"] = {"latent": normal(10, 3, seed=2).double() + 100, "picture": normal(10, 5, seed=3).double()}
    others["one"] = {k: v[:1] for k, v in good.items()}
    table = frechet_table(good, others, np.random.default_rng(0))
    assert list(table) == ["alike", "moved"] and table["alike"]["n"] == 40 and table["moved"]["n"] == 10
    assert table["moved"]["latent"]["mean"] == pytest.approx(3e4, rel=0.05) and table["moved"]["latent"]["good"] < 5
    assert 0.3 < table["alike"]["latent"]["mean"] / table["alike"]["latent"]["good"] < 3
    for row in table.values():
        assert all(row[space]["low"] <= row[space]["mean"] <= row[space]["high"] for space in good)
    assert table == frechet_table(good, others, np.random.default_rng(0))


# pose coverage


def test_cells_have_equal_areas_on_the_sphere_and_on_the_map() -> None:
    even = np.random.default_rng(0).normal(size=(82_000, 3))
    counts = np.bincount(cell_of(even / np.linalg.norm(even, axis=1, keepdims=True)), minlength=CELLS)
    assert counts.sum() == 82_000 and counts.min() > 850 and counts.max() < 1150  # 1000 each, deviation 32
    for outline in cell_outlines(points=200):
        x, y = hammer(outline).T
        area = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
        assert area == pytest.approx(4 * np.pi / CELLS, rel=2e-3)


def test_what_lies_within_an_outline_lies_in_its_cell() -> None:
    for k, outline in enumerate(cell_outlines()):
        longitude, latitude = (outline.min(0) + outline.max(0)) / 2
        middle = [np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)]
        assert cell_of(np.array([middle])) == [k]
    poles_and_seam = np.array([[0, 0, 1.0], [0, 0, -1], [-1, 0, 0], [-1, -0.0, 0]])
    assert ((cell_of(poles_and_seam) >= 0) & (cell_of(poles_and_seam) < CELLS)).all()


@pytest.mark.parametrize("seed", range(5))
def test_a_turn_is_a_view_direction_and_a_spin(seed: int) -> None:
    rng = np.random.default_rng(seed)
    direction, angle, z = rng.normal(size=3), rng.uniform(0, 2 * np.pi), np.array([0.0, 0.0, 1.0])
    own = [scene(product(about(z, angle), shortest(direction, z)))]
    np.testing.assert_allclose(directions(own)[0], direction / np.linalg.norm(direction), atol=1e-12)
    assert spins(own)[0] == pytest.approx(angle)


def test_a_perspective_camera_sees_a_part_from_where_it_stands() -> None:
    off = scene(np.array([1.0, 0, 0, 0]), field=None, angle=30.0, position=(3.0, 0.0, -4.0))
    np.testing.assert_allclose(directions([off]), [[-0.6, 0, 0.8]])


def test_coverage_of_the_training_views_themselves_is_whole_and_of_one_view_is_one_cell() -> None:
    views = TrainingViews(thumbnails(normal(60, 1, S, S)), scenes(60))
    found = coverage(views, views.thumbs, views.thumbs[:1].expand(7, -1))
    assert (found.generated == found.trained).all() and (found.generated_spins == found.trained_spins).all()
    assert found.figures["directions"]["generated"]["share"] == 1 and found.figures["directions"]["generated"]["off"] == 0
    assert found.real.sum() == found.real.max() == found.real_spins.max() == 7
    assert found.trained.shape == (CELLS,) and found.trained.sum() == found.figures["trained"] == 60
    assert found.figures["directions"]["real"]["share"] == pytest.approx(1 / (found.trained > 0).sum())
    mixed = coverage(views, normal(33, 256), views.thumbs)
    assert mixed.generated.sum() == mixed.generated_spins.sum() == 33 and len(mixed.generated_spins) == SPINS


def test_what_was_to_be_expected_is_what_drawing_finds() -> None:
    trained, rng = np.array([5, 3, 1, 1, 0]), np.random.default_rng(0)
    drawn = [reached(trained, rng.multinomial(8, trained / 10)) for _ in range(4000)]
    assert np.mean([d["share"] for d in drawn]) == pytest.approx(drawn[0]["expected"], abs=0.01)
    assert np.mean([d["off"] for d in drawn]) == pytest.approx(drawn[0]["off_expected"], abs=0.03)
    assert reached(trained, np.array([0, 0, 0, 0, 9])) | {"n": 9, "trained": 4, "share": 0.0, "off": 1.0} == reached(trained, np.array([0, 0, 0, 0, 9]))  # fmt: skip
    assert reached(trained, np.zeros(5, int))["share"] is None


# all of it


def whole(seed: int = 0, counts: dict[str, int] | None = None, **options: object) -> dict:
    own = subject()
    photos, codes = labelled(own, counts or {"good": 14, "dent": 9, "bulge": 6})
    return {"subject": own, "photos": photos, "codes": codes, "draws": 20, "seed": seed, **options}


def test_the_order_of_pictures_and_of_labels_changes_nothing() -> None:
    views = TrainingViews(thumbnails(normal(40, 1, S, S)), scenes(40))
    given = whole(views=views)
    rng = np.random.default_rng(1)
    turns = {label: rng.permutation(len(given["photos"][label])) for label in ("bulge", "good", "dent")}
    moved = {name: {label: given[name][label][turn] for label, turn in turns.items()} for name in ("photos", "codes")}
    a, b = diagnose(**given), diagnose(**{**given, **moved})
    assert json.dumps(a.figures, sort_keys=True) == json.dumps(b.figures, sort_keys=True)
    assert all(np.array_equal(a.plane[k], b.plane[k]) for k in a.plane) and a.real.equal(b.real)
    for x, y in zip(a.reconstructions, b.reconstructions, strict=True):
        assert (x.label, x.rank, x.index) == (y.label, y.rank, turns[y.label][y.index])


def test_seeds_give_what_they_gave() -> None:
    a, b, c = (diagnose(**whole(seed)) for seed in (0, 0, 1))
    assert a.figures == b.figures and a.generated.equal(b.generated) and not a.generated.equal(c.generated)
    assert c.figures["reconstruction"] == a.figures["reconstruction"] and c.figures["interpolation"] != a.figures["interpolation"]


def test_shapes_and_an_encoder_that_is_right() -> None:
    found = diagnose(**whole(draws=70))
    assert found.generated.shape == (64, 1, S, S) and found.real.shape == (14, 1, S, S)
    assert found.outside.shape == (len(DEVIATIONS), ROW, 1, S, S)
    assert [p.label for p in found.interpolations] == [label for label in ("good", "bulge", "dent") for _ in range(PAIRS)]
    assert found.figures["n"] == {"good": 14, "bulge": 6, "dent": 9, "generated": 70}
    assert all(row["encoder_off"] < 1e-4 for row in found.figures["outside"])
    assert found.figures["outside"][0]["deviations"] == 1 and found.figures["pose_coverage"] is None


def test_the_worst_reconstruction_is_the_one_least_like_its_form() -> None:
    given = whole()
    given["photos"]["good"][5] += 50 * torch.eye(S)
    found = [r for r in diagnose(**given).reconstructions if r.label == "good"]
    assert [r.rank for r in found] == ["best", "best", "worst", "worst"] and found[2].index == 5 and found[2].score > 5 * found[3].score
    np.testing.assert_array_equal(found[2].photograph, given["photos"]["good"][5, 0].numpy())
    np.testing.assert_allclose(found[2].form, decoded(given["subject"], given["codes"]["good"][5:6])[0, 0].numpy(), atol=1e-5)


def test_ranks_and_maps_of_the_caller_are_taken() -> None:
    given = whole()
    ranks = {label: np.arange(len(p))[::-1].astype(float) for label, p in given["photos"].items()}
    found = diagnose(**given, ranks=ranks, anomaly=lambda photos, forms: torch.full((len(photos), S, S), 3.0))
    assert [r.index for r in found.reconstructions if r.label == "dent"] == [8, 7, 0, 1]
    assert found.level == 3 and all((r.anomaly == 3).all() for r in found.reconstructions)


def test_what_is_wrong_with_the_pictures_is_said() -> None:
    given = whole()
    for photos, said in (({"dent": given["photos"]["dent"]}, "no good picture"), ({**given["photos"], "generated": given["photos"]["dent"]}, 'label "generated"')):  # fmt: skip
        with pytest.raises(InputError, match=said):
            diagnose(**{**given, "photos": photos})
    with pytest.raises(InputError, match=r"codes of dent: found \(8, 6\) for 9 pictures; wanted a code of 6 latents"):
        diagnose(**{**given, "codes": {**given["codes"], "dent": given["codes"]["dent"][:8]}})


# pictures


def test_a_grid_holds_its_pictures_in_their_order_on_one_scale() -> None:
    shades = (torch.arange(11) * 2 / 15 - 1).view(-1, 1, 1, 1).expand(-1, 1, 32, 32)
    found = np.asarray(pictures.grid(shades, (-1.0, 1.0)))
    assert found.shape == (2 * 64 + 2, 8 * 64 + 7 * 2)
    values = [int(found[r * 66 + 5, c * 66 + 5]) for r in range(2) for c in range(8)]
    assert values == [*range(0, 11 * 17, 17), *[255] * 5]
    assert np.asarray(pictures.grid(shades + 5, (-1.0, 1.0))).min() == 255  # beyond the window: white, not stretched


def test_residual_and_heat_have_one_scale_for_all_pictures() -> None:
    from detect.diagnostics import Reconstruction

    found = diagnose(**whole())
    low, high = found.window
    level, form = np.zeros((S, S), np.float32), np.full((S, S), low, np.float32)
    photo, heat = form.copy(), level.copy()
    photo[0, 0], photo[0, 1], heat[2, 0], heat[2, 1] = high, low - (high - low), 0.5 * found.level, 2 * found.level
    drawn = [np.asarray(p)[::4, ::4] for p in pictures.panels(Reconstruction("good", "best", 0, 1.0, photo, form, heat), found)]
    assert len(drawn) == len(pictures.PANELS) and all(p.shape == (S, S, 3) for p in drawn)
    assert drawn[2][0, 0].tolist() == [178, 24, 43] and drawn[2][0, 1].tolist() == [33, 102, 172] and drawn[2][5, 5].tolist() == [255] * 3
    assert drawn[3][2, 0].tolist() == [0] * 3 and drawn[3][2, 1].tolist() == [255, 60, 0] and drawn[3][0, 0].tolist() == [255] * 3


def test_a_page_with_everything_and_its_files(tmp_path: Path) -> None:
    given = whole(views=TrainingViews(thumbnails(normal(40, 1, S, S)), scenes(40)))
    figures = write_diagnostics(given.pop("subject"), given.pop("photos"), given.pop("codes"), tmp_path / "new" / "out", **given)
    folder = tmp_path / "new" / "out"
    assert json.loads((folder / "diagnostics.json").read_text()) == figures
    labels = ("good", "bulge", "dent")
    assert {p.name for p in folder.iterdir()} == {
        "diagnostics.json", "diagnostics.html", "generated.png", "real.png", "outside.png", "steps.svg", "plane.svg", "coverage.svg",
        *(f"interpolation-{label}.{kind}" for label in labels for kind in ("png", "gif")), *(f"reconstructions-{label}.png" for label in labels),
    }  # fmt: skip
    with Image.open(folder / "interpolation-dent.gif") as animated, Image.open(folder / "interpolation-dent.png") as strips:
        assert animated.n_frames == 64 and animated.size == (2 * 64 + 2, 64) and strips.size == (10 * 66 - 2, 2 * 64 + 2)
    with Image.open(folder / "generated.png") as grid:
        assert grid.size == (8 * 66 - 2, 3 * 66 - 2)  # 20 draws
    page = (folder / "diagnostics.html").read_text(encoding="utf-8")
    assert tuple(re.findall("<h2>(.*?)</h2>", page)) == SECTIONS and "Too few" not in page
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources and all(s.startswith(("data:image/png;base64,", "data:image/gif;base64,", "#")) for s in sources)
    assert page.count("<svg") == 3 and page.count("data:image/gif") == 3
    share = figures["pose_coverage"]["directions"]["generated"]["share"]
    assert f"reach {100 * share:.1f} % of" in page and "5 deviations out" in page
    for row in figures["frechet"].values():
        assert f"{row['latent']['mean']:.3f}" in page


def test_a_page_of_next_to_nothing(tmp_path: Path) -> None:
    own = subject(encoder=False)
    own = replace(own, prior=prior_of(normal(100, Z), correlated=True))
    photos, codes = labelled(own, {"good": 1})
    figures = write_diagnostics(own, photos, codes, tmp_path, draws=2)
    page = (tmp_path / "diagnostics.html").read_text(encoding="utf-8")
    assert tuple(re.findall("<h2>(.*?)</h2>", page)) == SECTIONS
    assert figures["interpolation"] == [] and figures["frechet"] == {} and figures["outside"][0]["encoder_off"] is None
    assert "normal law of correlated latents" in page and figures["prior"] == "correlated"
    assert "Too few codes" in page and page.count("Too few pictures") == 2 and "scenes of the training views are not known" in page
