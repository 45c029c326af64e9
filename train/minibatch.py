"""A maker that makes one picture over and over: a layer that lets the judge see it, and an alarm that says it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.sync_norm import batch_mean, gathered

THUMB = 16  # px, to which pictures are averaged before they are compared
FOLLOWING = 0.1  # share of the newest batch in the usual closeness


class MinibatchDiscrimination(nn.Module):
    """(B, F) -> (B, F + kernels): features, and how close each image is to the others of the batch of all processes (Salimans et al. 2016).

    Closeness is the mean over the other rows of exp(-L1 distance) between ``width`` linear features a kernel, in [0, 1] (theirs is the sum:
    a mean does not change with the batch's size). In evaluation every image is given the usual closeness of training, ``usual`` (kernels,),
    so that no score hangs on the batch. In training the processes' B must be equal.
    """

    def __init__(self, features: int, kernels: int = 16, width: int = 8) -> None:
        super().__init__()
        self.kernels = kernels
        self.seen = nn.Linear(features, kernels * width, bias=False)
        self.register_buffer("usual", torch.zeros(kernels))

    def forward(self, features: Tensor) -> Tensor:
        if self.training:
            closeness = self._closeness(features)
            self.usual.lerp_(batch_mean(closeness.detach()).to(self.usual), FOLLOWING)
        else:
            closeness = self.usual.expand(len(features), -1)
        return torch.cat([features, closeness.to(features.dtype)], 1)

    def _closeness(self, features: Tensor) -> Tensor:
        rows = self.seen(features).unflatten(1, (self.kernels, -1))
        rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
        others, own = gathered(rows)
        # written out, since cdist has no second derivative and R1 wants one
        alike = torch.exp(-(rows[:, None] - others[None]).abs().sum(-1))
        itself = torch.arange(len(rows), device=rows.device)[:, None] + own == torch.arange(len(others), device=rows.device)
        return alike.masked_fill(itself[:, :, None], 0.0).sum(1) / max(len(others) - 1, 1)


def variety(images: Tensor) -> float:
    """Mean over pairs of images (n, 1, S, S), n at least 2, of the root mean square difference of their thumbnails, in the images' grey."""
    if len(images) < 2:
        raise ValueError(f"variety is between images; found {len(images)}")
    thumbs = F.adaptive_avg_pool2d(images.detach().double(), THUMB).flatten(1)
    return float(torch.pdist(thumbs).mean()) / THUMB
