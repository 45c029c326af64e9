"""The part before clutter."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

import cad
from detect.clutter import among_clutter
from detect.outline import OutlineSearch
from synth.drawable import Drawable
from synth.raycast import truth
from synth.sampling import Recipe, draw_sample
from synth.scene import Scene
from train.cad_form import luminance

SIZE = 160
CLUTTER = {"background": {"kinds": ["clutter"], "lightness": [0.1, 0.9], "tint": 0.2}}


@pytest.fixture(scope="module")
def search(nut: cad.Part) -> OutlineSearch:
    return OutlineSearch(nut)


def shown(nut: cad.Part, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(S, S) grey, and the true filled silhouette."""
    drawn = draw_sample(nut, Recipe(0, 8, size=SIZE, seed=5, randomise=CLUTTER), "test", "good", k)
    form = truth(Drawable.of(nut.mesh()), Scene.of(drawn.sample.scene), SIZE).feature > 0
    return luminance(drawn.image) ** (1 / 2.2), ndimage.binary_fill_holes(form)


@pytest.mark.parametrize("k", [1, 3, 4])
def test_it_is_found_where_it_is(nut: cad.Part, search: OutlineSearch, k: int) -> None:
    grey, true = shown(nut, k)
    seen = among_clutter(grey, search)
    assert (seen.mask & true).sum() > 0.8 * (seen.mask | true).sum()
    assert search(grey, seen).iou > 0.9


def test_dark_before_light_is_as_good_as_light_before_dark(nut: cad.Part, search: OutlineSearch) -> None:
    grey, _ = shown(nut, 1)
    one, other = (among_clutter(g, search).mask for g in (grey, 1 - grey))
    assert (one & other).sum() > 0.95 * (one | other).sum()


def test_nothing_is_found_where_nothing_is(search: OutlineSearch, rng: np.random.Generator) -> None:
    assert among_clutter(np.full((SIZE, SIZE), 0.5), search) is None
    assert among_clutter(rng.random((SIZE, SIZE)), search) is None


def test_a_part_that_may_lie_any_way_is_not_looked_for() -> None:
    assert among_clutter(np.zeros((SIZE, SIZE)), OutlineSearch(cad.load("bracket"))) is None


def test_clutter_is_told_from_a_board_whatever_lies_on_it(nut: cad.Part) -> None:
    from detect.silhouette import cluttered

    assert all(cluttered(shown(nut, k)[0]) for k in range(8))
    plain = draw_sample(nut, Recipe(0, 8, size=SIZE, seed=5), "test", "broken-ring", 1).image
    grey = luminance(plain) ** (1 / 2.2)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    assert not cluttered(grey) and not cluttered(np.clip(0.7 * grey + 0.2 * x - 0.1 * y * y, 0, 1))
