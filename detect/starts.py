"""Where a descent starts: codes (B, K, Z) float32 for B images, made of what is known of them."""

from __future__ import annotations

import torch
from torch import Tensor

ALIKE = 0.97  # cosine of two thumbnails that show the same thing


def random_starts(count: int, tries: int, width: int, seed: int, device: torch.device | str = "cpu") -> Tensor:
    """(count, tries, width) from the standard normal: the same draws for every image, whatever batch it is in, and on every device; the
    first ones are the same however many there are."""
    generator, drawn = torch.Generator().manual_seed(seed), torch.empty((tries, width))
    for row in drawn:  # one at a time: torch draws many in another order
        row.normal_(generator=generator)
    return drawn.to(device).expand(count, tries, width)


def nearest_starts(thumbs: Tensor, bank_thumbs: Tensor, bank_codes: Tensor, tries: int) -> Tensor:
    """(B, tries, Z): the ``bank_codes`` (n, Z) of the views nearest to each image, each unlike the ones before it while there are such.

    ``thumbs`` (B, D) and ``bank_thumbs`` (n, D) are of unit length, as :func:`train.bank.thumbnails` makes them.
    """
    near = thumbs @ bank_thumbs.T
    picks = []
    for _ in range(tries):
        best = near.argmax(1)
        picks.append(best)
        alike = bank_thumbs[best] @ bank_thumbs.T > ALIKE
        near = torch.where(alike, near - 4.0, near).scatter(1, best[:, None], -torch.inf)  # 4: behind all that are not alike
    return bank_codes[torch.stack(picks, 1)]


def mixed_starts(encoded: Tensor, near: Tensor | None = None, drawn: Tensor | None = None) -> Tensor:
    """(B, 1 + N + R, Z): the encoder's answer (B, Z) first, then the nearest (B, N, Z), then random ones (B, R, Z)."""
    return torch.cat([encoded[:, None], *(part for part in (near, drawn) if part is not None)], 1)
