"""Which sub-component a region lies on: a vote over feature ids. A learned form has those of its nearest rendered view,
the CAD form those of the fitted one."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from detect.starts import mixed_starts, nearest_starts
from synth.drawable import Drawable
from synth.raycast import truth
from train.runs import Run, thumbnails


class Namer:
    """Renders feature ids of a run's training views on demand."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.item = Drawable.of(run.part.mesh())
        self.names = run.part.names

    def nearest(self, forms: Tensor) -> np.ndarray:
        """(B, 1, S, S) -> (B,) int: for each form the bank's view nearest to it."""
        thumbs = thumbnails(forms.float().cpu())
        return (thumbs @ self.run.bank.thumbs.T).argmax(1).numpy()

    def ids(self, view: int) -> np.ndarray:
        """(S, S) uint8: the feature id in each pixel of that view, 0 behind the part."""
        return truth(self.item, self.run.scene(view), self.run.config.size).feature

    def name(self, region: np.ndarray, anomaly: np.ndarray, ids: np.ndarray) -> str | None:
        """The sub-component that the region speaks for most."""
        return by_votes(region, anomaly, ids, self.names)


def by_votes(region: np.ndarray, anomaly: np.ndarray, ids: np.ndarray, names: tuple[str, ...], among: tuple[str, ...] = ()) -> str | None:
    """The sub-component that the region speaks for most: anomaly on it and beside it, over the root of its size in view.

    A notch is a small thing whose defect shows on what surrounds it; without the root the largest neighbour would always win.
    ``ids`` (S, S): feature id in each pixel, 0 behind the part; ``among`` leaves the choice to these names, where there are any.
    """
    weight = anomaly * ndimage.binary_dilation(region, iterations=1)
    votes = {}
    for feature in np.unique(ids[ids > 0]):
        own = ids == feature
        votes[int(feature)] = float(weight[ndimage.binary_dilation(own, iterations=1)].sum()) / np.sqrt(own.sum())
    if among:
        votes = {f: v for f, v in votes.items() if names[f - 1] in among}
    if not votes or max(votes.values()) <= 0:
        return among[-1] if among else None
    return names[max(votes, key=votes.get) - 1]


@torch.no_grad()
def start_codes(run: Run, images: Tensor, count: int) -> Tensor:
    """(B, count, Z): the encoder's answer, then the codes of the nearest training views, each unlike the ones before it."""
    encoded = run.model.encoder(images)
    if count == 1:
        return encoded[:, None]
    bank = run.bank
    near = nearest_starts(thumbnails(images), bank.thumbs.to(images.device), bank.codes.to(images.device), count - 1)
    return mixed_starts(encoded, near)
