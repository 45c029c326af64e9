"""Pictures larger than a network sees: overlapping tiles, and results blended without seams, in the memory of the result and a few tiles.

A picture is (H, W) or (H, W, C) of any type; it may be a memory map, since it is read tile by tile, row by row of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cad.errors import InputError

Place = tuple[slice, slice]  # rows, columns of the picture


@dataclass(frozen=True)
class Grid:
    """A plan of square tiles: ``tops`` and ``lefts`` px are where they begin, every top with every left; ``tile`` px their side."""

    height: int
    width: int
    tile: int
    tops: tuple[int, ...]
    lefts: tuple[int, ...]

    @classmethod
    def of(cls, height: int, width: int, tile: int, overlap: int = 0) -> Grid:
        """As few tiles of ``tile`` px as cover ``height`` x ``width`` px, evenly spread, neighbours sharing ``overlap`` px or more.

        Where one side is smaller than a tile there is one row (or column) of them, which stands out beyond the picture's end. Raises
        InputError where both are, or where ``overlap`` is not within [0, tile).
        """
        if tile < 1 or not 0 <= overlap < tile:
            raise InputError("overlap", f"found {overlap} px of a tile of {tile} px", wanted="0 to below the tile's side")
        if min(height, width) < 1 or (height < tile and width < tile):
            raise InputError(
                "tile", f"found {tile} px for a picture of {height} x {width} px", wanted="a tile no larger than its longer side"
            )
        return cls(height, width, tile, _starts(height, tile, tile - overlap), _starts(width, tile, tile - overlap))

    def __len__(self) -> int:
        return len(self.tops) * len(self.lefts)

    def places(self) -> Iterator[Place]:
        """Where each tile lies, row by row, cut to the picture."""
        for top in self.tops:
            for left in self.lefts:
                yield slice(top, min(top + self.tile, self.height)), slice(left, min(left + self.tile, self.width))

    def tiles(self, image: np.ndarray) -> Iterator[tuple[Place, np.ndarray]]:
        """Places, and the picture there (tile, tile[, C]): a view where it lies inside, else mirrored at the picture's end."""
        if image.shape[:2] != (self.height, self.width):
            raise ValueError(f"a grid of {self.height} x {self.width} px, a picture of {image.shape[0]} x {image.shape[1]} px")
        for place in self.places():
            yield place, _whole(image[place], self.tile)


class Blend:
    """Puts tiles' results together: each weighs as a raised cosine, most at its middle, and all weights on a pixel add up to 1."""

    def __init__(self, grid: Grid, channels: tuple[int, ...] = ()) -> None:
        self.grid = grid
        self.image = np.zeros((grid.height, grid.width, *channels), np.float32)
        self._missing = {_corner(p) for p in grid.places()}
        # the grid is a product, so its weights are too, and two lines of them do for the whole picture
        self._down, self._along = _weights(grid.height, grid.tile, grid.tops), _weights(grid.width, grid.tile, grid.lefts)

    def add(self, place: Place, values: np.ndarray) -> None:
        """Adds what was found, (tile, tile, *channels), at a place of the grid; a place is given once, else ValueError."""
        if _corner(place) not in self._missing:
            raise ValueError(f"no tile is missing at row {place[0].start}, column {place[1].start}")
        down, along = self._down[place[0].start], self._along[place[1].start]
        weight = (down[:, None] * along).astype(np.float32).reshape(len(down), len(along), *[1] * (values.ndim - 2))
        self.image[place] += weight * values[: len(down), : len(along)]
        self._missing.remove(_corner(place))

    def result(self) -> np.ndarray:
        """(H, W, *channels) float32, the one that was added into. ValueError while tiles are missing."""
        if self._missing:
            raise ValueError(f"{len(self._missing)} of {len(self.grid)} tiles are missing")
        return self.image


def _starts(length: int, tile: int, stride: int) -> tuple[int, ...]:
    spare = max(length - tile, 0)
    steps = -(-spare // stride)
    return tuple(k * spare // steps for k in range(steps + 1)) if steps else (0,)


def _weights(length: int, tile: int, starts: tuple[int, ...]) -> dict[int, np.ndarray]:
    """By start, the (<= tile,) float64 weights of a tile along one side."""
    hill = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(tile) + 0.5) / tile)  # nowhere 0, so that a lone tile's rim counts
    total = np.zeros(length)
    for start in starts:
        total[start : start + tile] += hill[: length - start]
    return {start: hill[: length - start] / total[start : start + tile] for start in starts}


def _whole(values: np.ndarray, tile: int) -> np.ndarray:
    short = [(0, tile - side) for side in values.shape[:2]]
    return np.pad(values, [*short, *[(0, 0)] * (values.ndim - 2)], mode="symmetric") if values.shape[:2] != (tile, tile) else values


def _corner(place: Place) -> tuple[int, int]:
    return place[0].start, place[1].start
