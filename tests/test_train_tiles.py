"""Tiles over pictures of any size: they cover, they overlap, and blended they are the picture."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cad.errors import InputError
from train.tiles import Blend, Grid

sides = st.integers(1, 70)


def blended(image: np.ndarray, grid: Grid, work: Callable[[np.ndarray], np.ndarray], chunk: int) -> np.ndarray:
    """(H, W, *channels) float32: ``work``, (n, tile, tile[, C]) -> (n, tile, tile, *channels), done on ``chunk`` tiles at a time."""
    blend, tiles = None, grid.tiles(image)
    while part := list(islice(tiles, chunk)):
        found = work(np.stack([values for _, values in part]))
        if blend is None:
            blend = Blend(grid, found.shape[3:])
        for (place, _), values in zip(part, found, strict=True):
            blend.add(place, values)
    return blend.result()


@st.composite
def grids(draw: st.DrawFn) -> tuple[Grid, int]:
    """A plan, and the overlap asked for."""
    height, width, tile = draw(sides), draw(sides), draw(st.integers(1, 24))
    assume(max(height, width) >= tile)
    overlap = draw(st.integers(0, tile - 1))
    return Grid.of(height, width, tile, overlap), overlap


@settings(deadline=None)
@given(grids())
def test_tiles_cover_and_overlap_and_are_no_more_than_needed(plan: tuple[Grid, int]) -> None:
    grid, overlap = plan
    for starts, length in ((grid.tops, grid.height), (grid.lefts, grid.width)):
        assert starts[0] == 0 and starts[-1] == max(length - grid.tile, 0)
        assert all(0 < b - a <= grid.tile - overlap for a, b in pairwise(starts))
        assert grid.tile + (len(starts) - 2) * (grid.tile - overlap) < length or len(starts) == 1  # one fewer would not reach
        gaps = np.diff(starts)
        assert not len(gaps) or gaps.max() - gaps.min() <= 1  # evenly


@settings(deadline=None)
@given(grids(), st.sampled_from([(), (3,)]), st.integers(0, 99))
def test_blended_tiles_are_the_picture(plan: tuple[Grid, int], channels: tuple[int, ...], seed: int) -> None:
    grid, overlap = plan
    image = np.random.default_rng(seed).random((grid.height, grid.width, *channels), np.float32)
    seen = []

    def work(tiles: np.ndarray) -> np.ndarray:
        seen.append(len(tiles))
        assert tiles.shape[1:] == (grid.tile, grid.tile, *channels)
        return tiles

    out = blended(image, grid, work, chunk=4)
    assert out.dtype == np.float32 and sum(seen) == len(grid) and max(seen) <= 4
    # float32; where tiles share more than half their sides, hundreds of them may be summed in a pixel
    np.testing.assert_allclose(out, image, rtol=0, atol=1e-6 if 2 * overlap <= grid.tile else 5e-6)


@settings(deadline=None)
@given(grids())
def test_places_are_the_tiles_in_the_picture(plan: tuple[Grid, int]) -> None:
    grid, _ = plan
    image, covered = np.arange(grid.height * grid.width).reshape(grid.height, grid.width), np.zeros((grid.height, grid.width), bool)
    for place, tile in grid.tiles(image):
        inside = image[place]
        assert np.array_equal(tile[: inside.shape[0], : inside.shape[1]], inside) and tile.shape == (grid.tile, grid.tile)
        assert inside.min() == tile.min() and tile.max() == inside.max()  # what stands out beyond the picture is mirrored from it
        covered[place] = True
    assert covered.all() and len(list(grid.places())) == len(grid)


@settings(deadline=None)
@given(grids())
def test_results_need_not_agree_and_the_blend_is_between_them(plan: tuple[Grid, int]) -> None:
    grid, _ = plan
    blend, rng = Blend(grid), np.random.default_rng(0)
    low, high = np.full((grid.height, grid.width), np.inf), np.full((grid.height, grid.width), -np.inf)
    for place in grid.places():
        value = rng.random()
        blend.add(place, np.full((grid.tile, grid.tile), value))
        low[place], high[place] = np.minimum(low[place], value), np.maximum(high[place], value)
    out = blend.result()
    assert ((low - 1e-6 <= out) & (out <= high + 1e-6)).all()


def test_there_is_no_seam() -> None:
    grid = Grid.of(16, 56, 16, 8)
    blend = Blend(grid)
    for k, place in enumerate(grid.places()):
        blend.add(place, np.full((16, 16), float(k % 2)))  # as unlike as neighbours can be
    line = blend.result()[8]
    steps = np.abs(np.diff(line))
    assert line.min() == 0 and line.max() == 1
    assert steps.max() < 0.25  # over the 8 px that they share, where a straight line has steps of 1/8 and a cut one of 1


def test_order_does_not_matter_and_channels_are_blended_alike() -> None:
    grid = Grid.of(20, 33, 12, 5)
    values = np.random.default_rng(0).random((len(grid), 12, 12, 2), np.float32)
    places = list(grid.places())
    forward, backward, first = Blend(grid, (2,)), Blend(grid, (2,)), Blend(grid)
    for k in range(len(grid)):
        forward.add(places[k], values[k])
        backward.add(places[-1 - k], values[-1 - k])
        first.add(places[k], values[k, :, :, 0])
    np.testing.assert_allclose(backward.result(), forward.result(), rtol=0, atol=1e-6)
    assert np.array_equal(first.result(), forward.result()[..., 0])


def test_memory_is_the_result_and_a_few_tiles() -> None:
    image, chunk = np.ones((1024, 768), np.uint8), 4
    grid = Grid.of(1024, 768, 64, 16)
    tracemalloc.start()
    out = blended(image, grid, lambda tiles: tiles.astype(np.float32), chunk)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < out.nbytes + 4 * chunk * 64 * 64 * 4 + 100_000  # tiles, results, products; places and lines of weights


def test_what_is_missing_or_twice_is_told() -> None:
    grid = Grid.of(10, 20, 10)
    blend, places = Blend(grid), list(grid.places())
    blend.add(places[0], np.ones((10, 10)))
    with pytest.raises(ValueError, match="row 0, column 0"):
        blend.add(places[0], np.ones((10, 10)))
    with pytest.raises(ValueError, match="1 of 2 tiles are missing"):
        blend.result()
    with pytest.raises(ValueError, match="a grid of 10 x 20 px, a picture of 20 x 10 px"):
        list(grid.tiles(np.zeros((20, 10))))


def test_pictures_smaller_than_a_tile() -> None:
    assert Grid.of(5, 30, 10, 2).tops == (0,)
    with pytest.raises(InputError, match="found 10 px for a picture of 5 x 9 px"):
        Grid.of(5, 9, 10)
    with pytest.raises(InputError, match="found 10 px of a tile of 10 px"):
        Grid.of(50, 50, 10, 10)
