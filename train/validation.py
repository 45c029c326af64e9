"""How well a model does on good images that it did not learn from: what early stopping looks at. No defect is asked."""

from __future__ import annotations

import torch
from torch import Tensor

from train.frechet import frechet
from train.losses import pyramid_l1
from train.models.base import Model

SIDE = 8  # px of the thumbnails that generated and real images are compared by
MOST = 512


@torch.no_grad()
def measure(model: Model, held_out: Tensor) -> float:
    """The lower the better, of a model in evaluation mode and images (n, 1, S, S): what it fails to rebuild of them, in grey levels; of one that generates
    from noise also the Fréchet distance of its images' thumbnails from theirs; of one that has both, the sum."""
    held_out = held_out[:MOST]
    total = 0.0
    if model.PRIOR:
        noise = torch.randn((len(held_out), model.config.latent), generator=torch.Generator().manual_seed(0)).to(held_out.device)
        made = torch.cat([model.decode(part) for part in noise.split(64)])
        total += frechet(_thumbs(made), _thumbs(held_out), None) / SIDE**2
    if model.ENCODES or not model.DECODES:
        total += float(torch.cat([pyramid_l1(model.rebuilt(part)[0], part) for part in held_out.split(64)]).mean())
    return total


def _thumbs(images: Tensor) -> Tensor:
    return torch.nn.functional.adaptive_avg_pool2d(images.float(), SIDE).flatten(1)
