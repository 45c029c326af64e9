"""Cast shadows, and the lamps that a photograph's shadows tell of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import cad
from detect.cad_descent import Pyramid
from detect.dimensions import Gauge
from detect.lamps import Lamps, mirrored, taken
from detect.look import finer, with_lobes
from detect.terminators import with_terminators
from pipelines.other_shading import Look, draw_other
from synth.raycast import draw
from synth.scene import Scene, draw_scene
from synth.shadows import cast, lamp_frame, lost, shining
from train.cad_form import CadForm, luminance, open_form, placement_of, read_config
from train.reflectance import normals
from train.shading import Placement, Sheet, lit

SIZE = 64


@pytest.fixture(scope="module")
def form(form_folder) -> CadForm:
    return open_form(form_folder, read_config(form_folder))


def into(form: CadForm, seed: int, into_view: float = 0.6) -> Scene:
    """A view into the cap's cavity, the lamp aslant of it."""
    rng = np.random.default_rng(seed)
    while True:
        scene = draw_scene(form.part, form.mesh, rng)
        if into_view < -scene.rotation[2, 2] < 0.95:
            return scene


def lamp(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    direction = np.array([*rng.uniform(-0.7, 0.7, 2), 1.0])
    return direction / np.linalg.norm(direction)


def shaded_by_rays(corners: np.ndarray, points: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """(n,) bool: whether a ray from each point meets a triangle (Moeller and Trumbore 1997)."""
    a, b, c = np.moveaxis(corners, 1, 0)
    normal = np.cross(direction, c - a)
    det = ((b - a) * normal).sum(1)
    hit = np.zeros(len(points), bool)
    for k, p in enumerate(points):
        with np.errstate(divide="ignore", invalid="ignore"):
            off = p - a
            u = (off * normal).sum(1) / det
            q = np.cross(off, b - a)
            v, t = q @ direction / det, ((c - a) * q).sum(1) / det
            hit[k] = ((np.abs(det) > 1e-12) & (u > 0) & (v > 0) & (u + v < 1) & (t > 0.05)).any()
    return hit


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("perspective", [False, True])
def test_shadows_are_where_rays_are_stopped(form: CadForm, seed: int, perspective: bool) -> None:
    """Two routes: the shadow map, and a ray from each sample to the lamp. They differ by a texel at a shadow's edge."""
    scene, direction = into(form, seed), lamp(seed)
    at = placement_of(scene, form.pivot)
    if perspective:
        at = Placement(at.turn, np.array([1.0, -2.0, -160.0]), 3.5, True)
    view = form.drawn(at, SIZE)
    taken = cast(form.item.corners, form.pivot, at, view.near, view.face, view.slope, direction[None])[0]
    fine, scale = len(taken), at.scale * len(taken)
    j, i = np.nonzero(view.face >= 0)
    pick = np.random.default_rng(0).choice(len(j), 400, replace=False)
    j, i = j[pick], i[pick]
    depth = -1 / view.near[j, i] if perspective else view.near[j, i]
    away = -depth if perspective else 1.0
    seen = np.column_stack([(i + 0.5 - fine / 2) / scale * away, (fine / 2 - j - 0.5) / scale * away, depth])
    points = (seen - at.position) @ at.turn + form.pivot
    slope = view.slope[j, i]
    cosine = np.column_stack([slope, np.sqrt(np.clip(1 - (slope**2).sum(1), 0, None))]) @ direction
    lit_side = cosine > 0.05
    rays = shaded_by_rays(form.item.corners, points, at.turn.T @ direction) & lit_side
    share = np.where(lit_side, taken[j, i] / np.maximum(cosine, 1e-9), 0)
    assert rays.sum() > 5
    assert (np.abs(share - rays) < 0.5)[lit_side].mean() > 0.96


def test_a_convex_part_casts_none_on_itself() -> None:
    ball = cad.parse("part: p\nunits: mm\ndimensions: {r: 10}\nfeatures:\n  - {name: ball, add: sphere, radius: r}\n")
    from synth.drawable import Drawable
    from synth.raster import raster
    from train.shading import fill_columns

    item, at, fine = Drawable.of(ball.mesh()), Placement(np.eye(3), np.array([0.0, 0.0, -50.0]), 1 / 25, False), 128
    near, face, w1, w2 = raster(item.corners, at.turn, at.shift(np.zeros(3)), at.scale * fine, fine, False)
    slope = np.zeros((fine, fine, 2), np.float32)
    fill_columns(face, w1, w2, item.normals, at.turn, np.ones((5, 5, 1), np.float32), np.zeros(len(face) * fine), SIZE, 2, slope, np.zeros((SIZE**2, 7)), np.zeros(SIZE**2))  # fmt: skip
    taken = cast(item.corners, np.zeros(3), at, near, face, slope, np.stack([lamp(k) for k in range(4)]))
    assert taken.max() < 0.12  # a facet's own edge, where the light grazes


def test_columns_are_means_of_samples(rng: np.random.Generator) -> None:
    taken = rng.random((3, 8, 8)).astype(np.float32)
    wanted = taken.reshape(3, 4, 2, 4, 2).mean((2, 4)).reshape(3, 16).T
    assert np.allclose(lost(taken, 2), wanted)


def test_a_lamps_frame_is_a_turn() -> None:
    for direction in [*np.eye(3), -np.eye(3)[1], lamp(1), lamp(2)]:
        frame = lamp_frame(direction)
        assert np.allclose(frame @ frame.T, np.eye(3)) and np.linalg.det(frame) == pytest.approx(1) and np.allclose(frame[2], direction)


@pytest.mark.parametrize("seed", range(3))
def test_a_shadow_takes_of_a_lobe_what_it_takes_of_the_cosine(form: CadForm, seed: int) -> None:
    """Two routes to a highlight's loss: cast with it, and the cosine's loss times lobe over cosine."""
    direction, aim, power = lamp(seed), lamp(seed + 7), 20.0
    at = placement_of(into(form, seed), form.pivot)
    view = form.drawn(at, SIZE)
    normals = np.concatenate([view.slope, np.sqrt(np.clip(1 - (view.slope**2).sum(2, keepdims=True), 0, None))], 2)
    rows = shining(np.stack([direction, direction]), np.stack([direction, aim]), np.array([1.0, power]))
    matt, gloss = cast(form.item.corners, form.pivot, at, view.near, view.face, view.slope, rows)
    assert np.array_equal(matt, cast(form.item.corners, form.pivot, at, view.near, view.face, view.slope, direction[None])[0])
    lit_side = (normals @ direction > 0.05) & (view.face >= 0)
    wanted = matt / np.maximum(normals @ direction, 0.05) * np.clip(normals @ aim, 0, None) ** power
    assert matt[lit_side].max() > 0.1 and np.allclose(gloss[lit_side], wanted[lit_side], atol=1e-5)


def test_highlights_are_lost_with_the_lamp_that_they_mirror() -> None:
    """Each once, beside its lamp's cosine, rows of one lamp together; none where no lamp is."""
    lamps = np.stack([lamp(1), lamp(2)])
    halves = [half / np.linalg.norm(half) for half in lamps[[1, 0, 1]] + [0.0, 0.0, 1.0]]
    lobes = np.column_stack([halves, [6.0, 20.0, 60.0]])
    assert np.allclose(mirrored(lobes), lamps[[1, 0, 1]])
    rows = taken(lamps, lobes)
    assert np.allclose(rows[:, :3], lamps[[0, 0, 1, 1, 1]]) and rows[:, 6].tolist() == [1.0, 20.0, 1.0, 6.0, 60.0]
    assert np.allclose(rows[[0, 2], 3:6], lamps) and np.allclose(rows[[1, 3, 4], 3:6], np.array(halves)[[1, 0, 2]])
    assert taken(lamps, lobes[:0]).shape == (2, 7) and taken(lamps[:0], lobes).shape == (0, 7)


def lamps_in(form: CadForm, picture: np.ndarray, scene: Scene) -> np.ndarray:
    at = placement_of(scene, form.pivot)
    view = form.drawn(at, SIZE)
    made = lit(view, picture.ravel())[1]
    table, lobes = with_lobes(finer(form.table), view, picture.ravel() - made, np.ones(picture.size))
    return Lamps(form, picture, at, table, lobes).found()


def shining_wall(form: CadForm, seed: int) -> tuple[Placement, Sheet, np.ndarray, np.ndarray]:
    """A view aslant into the cap, which pixels nothing shadows, and a normal (3,) of some of them."""
    at = placement_of(into(form, seed, 0.25), form.pivot)
    view = form.drawn(at, SIZE)
    clear = (view.cover > 0.99) & (view.columns[:, view.maps] < 0.01)
    normals = view.normals(np.flatnonzero(clear))
    return at, view, clear, normals[np.argsort(normals[:, 2])[int(0.7 * len(normals))]]


@pytest.mark.parametrize("seed", range(4))
def test_a_highlight_ends_where_its_lamps_shadow_begins(form: CadForm, seed: int) -> None:
    """A cap's wall has the same normals outside and inside; the highlight is on one of them. With its shadow the light explains it."""
    at, _, _, aim = shining_wall(form, seed)
    lobe, grid = np.r_[aim, 60.0][None], normals(len(form.table))[0]
    rows = taken(mirrored(lobe), lobe)
    table = np.concatenate([form.table, np.clip(grid @ aim, 0, None)[..., None].astype(np.float32) ** 60], 2)
    light = np.r_[0.4, np.zeros(form.table.shape[2] - 1), 0.3, np.zeros(3), 0.1, np.zeros(2), -0.2, -0.3]
    image = form.drawn(at, SIZE, table=table, lamps=rows).columns @ light
    left = [np.abs(lit(form.drawn(at, SIZE, table=table, lamps=some), image)[1] - image).max() for some in (rows[:1], rows)]
    assert left[0] > 0.02 and left[1] < 0.2 * left[0]


@pytest.mark.parametrize("seed", range(4))
def test_a_highlight_is_found_that_is_missing_in_a_hollow(form: CadForm, seed: int) -> None:
    _, view, clear, aim = shining_wall(form, seed)
    normals = view.normals(np.arange(SIZE**2))
    lobe = np.where(view.cover > 0.99, np.clip(normals @ aim, 0, None) ** 60, 0)
    _, lobes = with_lobes(finer(form.table), view, np.where(clear, 0.2 * lobe, -0.3 * lobe), np.ones(SIZE**2))
    assert len(lobes) and lobes[0, :3] @ aim > np.cos(np.radians(4))


@pytest.mark.parametrize("seed", range(4))
def test_the_lamp_of_another_renderer_is_found(form: CadForm, seed: int) -> None:
    """One lamp, its shadow in the cavity: found to a few degrees, and less is left over."""
    scene, direction = into(form, seed, 0.75), lamp(seed)
    look = Look(direction[None], np.ones(1), 0.25, 0.2, 0.0, 0.4, (0.1, 0.0, 0.0), 0.3, 0.002, 2.2, 0.6)
    picture = luminance(draw_other(form.item, scene, SIZE, look, np.random.default_rng(seed)))
    found = lamps_in(form, picture, scene)
    assert len(found) and np.degrees(np.arccos(np.clip(found @ direction, -1, 1))).min() < 4
    at = placement_of(scene, form.pivot)
    left = [np.abs(lit(form.drawn(at, SIZE, lamps=some), picture.ravel())[1] - picture.ravel()).mean() for some in (None, found)]
    assert left[1] < 0.8 * left[0]


@pytest.mark.parametrize("seed", range(4))
def test_no_lamp_where_no_shadows_are_cast(form: CadForm, seed: int) -> None:
    scene = into(form, seed)
    assert not len(lamps_in(form, luminance(draw(form.item, scene, SIZE)), scene))


def test_poses_are_compared_under_lamps_of_their_own(form: CadForm) -> None:
    """Light that falls through the notch lies elsewhere for each turn: the true one is the best of all near-symmetric ones."""
    scene, direction = into(form, 2, 0.5), lamp(5)
    look = Look(direction[None], np.ones(1), 0.2, 0.2, 0.0, 0.4, (0.1, 0.0, 0.0), 0.3, 0.002, 2.2, 0.6)
    picture = luminance(draw_other(form.item, scene, SIZE, look, np.random.default_rng(0)))
    at = placement_of(scene, form.pivot)
    from detect.cad_descent import Fit, Search

    wrong = replace(at, turn=at.turn @ form.symmetries.approximate[0])
    first = Gauge(form)(picture, Fit(wrong, np.zeros(1), 0.0, SIZE))
    places = [at, *Search(form).turned(at)]
    losses = Gauge(form).compared(picture, first, places)
    best = places[int(np.argmin(losses))]
    assert form.symmetries.angle(best.turn, at.turn) < 10
    again = Search(form).again(Pyramid.of(picture), places, losses, np.inf, None)
    assert min(form.symmetries.angle(f.at.turn, at.turn) for f in again) < 2


@pytest.mark.parametrize("seed", range(4))
def test_where_a_lamps_light_ends_is_followed(form: CadForm, seed: int) -> None:
    """A lamp from aside ends on the dome in a kink: its own map leaves less than half of what the smooth maps leave."""
    at = placement_of(draw_scene(form.part, form.mesh, np.random.default_rng(seed)), form.pivot)
    aside = np.array([np.cos(seed), np.sin(seed), 0.15])
    grid = normals(161)[0]
    cosine = np.clip(grid @ (aside / np.linalg.norm(aside)), 0, None)[..., None].astype(np.float32)
    lone = form.drawn(at, SIZE, table=cosine)
    image = 0.8 * lone.columns[:, 0] + 0.1 * lone.cover
    view = form.drawn(at, SIZE)
    tables = with_terminators(finer(form.table), view, image)
    table = tables[-1]
    assert table.shape[2] > form.table.shape[2]
    assert len(tables) == 2 and np.array_equal(tables[0], table[..., : form.table.shape[2]])
    before, after = (np.abs(lit(v, image)[1] - image)[view.cover > 0.99].mean() for v in (view, form.drawn(at, SIZE, table=table)))
    assert after < 0.5 * before


def test_a_light_without_an_end_needs_no_more_maps(form: CadForm) -> None:
    """What the smooth maps make themselves is explained by them; few pixels tell nothing."""
    at = placement_of(draw_scene(form.part, form.mesh, np.random.default_rng(1)), form.pivot)
    view = form.drawn(at, SIZE)
    image = view.columns[:, :3] @ np.array([0.4, 0.05, 0.05])
    table = with_terminators(form.table, view, image)[-1]
    assert np.abs(lit(form.drawn(at, SIZE, table=table), image)[1] - image).max() < 0.02
    nothing = np.full_like(image, np.nan)
    nothing[:10] = 0.1
    assert [t.shape for t in with_terminators(form.table, view, nothing)] == [form.table.shape]
