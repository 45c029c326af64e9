"""A part as a learned volume: what it is at each place, looked through along a camera's rays and painted by the light.

The generator of the conditioned form. What does not hang on the pose is learned once for all poses: a grid of density and features in the part's own
frame. Rays collect what they meet first (Mildenhall et al. 2020; a density becomes an opacity after it was interpolated, so that surfaces lie between
grid points: Sun et al. 2022); a small network paints it (as Nguyen-Phuoc et al. 2018 do, RenderNet).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from train.networks import LOG_START, SLOPE, painters

GRID = 48  # points along each side of the volume
SAMPLES = 32  # along a ray
SURFACE = 4  # of them, those whose features are asked for: where the ray ends
FEATURES = 9  # beside density; in threes, vectors in the part's frame
GAIN, STRONG = 40.0, 5.0  # density and features in units of their parameters, of which an image moves few
THIN = -3.0  # how thin all is at first
THINNEST = 1e-4  # a chord's squared half, in the ball's radii, below which a ray passes by
PAINTED = 32  # channels of the network that paints


class Volume(nn.Module):
    """Of ``side`` px pictures, a ray for each two by two pixels; ``told``: numbers that the painting hangs on.

    Cameras are (B, 3, 3) rotations of part to camera, (B, 2) where the part's middle lies in the picture, half widths, y up, and (B,) its
    scale, 1 in the middle of training.
    """

    def __init__(self, side: int, told: int) -> None:
        super().__init__()
        self.side = side
        self.density = nn.Parameter(torch.zeros(1, GRID**3))  # z, y, x; flat, for a network's memory format is that of pictures
        self.features = nn.Parameter(0.02 * torch.randn(FEATURES, GRID**3))
        self.angle = nn.Parameter(torch.zeros(1))  # the tangent of half the camera's
        self.register_buffer("span", torch.ones(1))  # from the middle to the volume's sides, half widths
        self.mixer = nn.Sequential(nn.Linear(told, 64), nn.LeakyReLU(SLOPE), nn.Linear(64, 4 * PAINTED))
        seen = 2 + FEATURES + 2 * (FEATURES // 3)
        self.first, self.second = nn.Conv2d(seen, PAINTED, 3, padding=1), nn.Conv2d(PAINTED, PAINTED, 3, padding=1)
        self.paint, self.doubt = painters(PAINTED)

    def forward(self, turn: Tensor, place: Tensor, scale: Tensor, light: Tensor, told: Tensor) -> Tensor:
        return self.paint(self.hidden(turn, place, scale, light, told))

    def expected(self, turn: Tensor, place: Tensor, scale: Tensor, light: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        """As the Generator's."""
        features = self.hidden(turn, place, scale, light, told)
        return self.paint(features), self.doubt(features.detach()) + LOG_START

    def hidden(self, turn: Tensor, place: Tensor, scale: Tensor, light: Tensor, told: Tensor) -> Tensor:
        """``light`` (B, 3), towards the lamp, in the part's frame, ``told`` (B, told) -> (B, PAINTED, side / 2, side / 2)."""
        met = self.collected(turn, place, scale)
        vectors = met[:, 2:].unflatten(1, (-1, 3))
        towards = [torch.einsum("bkdyx,bd->bkyx", vectors, d) for d in (light, turn[:, 2])]
        grown, moved, grown_too, moved_too = self.mixer(told)[:, :, None, None].chunk(4, 1)
        x = functional.leaky_relu(self.first(torch.cat([met, *towards], 1)) * (1 + grown) + moved, SLOPE)
        return functional.leaky_relu(self.second(x) * (1 + grown_too) + moved_too, SLOPE)

    def collected(self, turn: Tensor, place: Tensor, scale: Tensor) -> Tensor:
        """(B, 2 + FEATURES, side / 2, side / 2): how much of a ray is stopped, how near, and the features there; 0 where a ray passes by."""
        at, middle, along, depth, apart = self.rays(turn, place, scale)
        thick = self._sampled(self.density, middle[:, None] + depth[..., None] * along[:, None])[..., 0]
        thick = functional.softplus(GAIN * thick + THIN) * apart
        left = torch.exp(-thick.cumsum(-1))  # of a ray, behind each place
        weight = -left.diff(dim=-1, prepend=torch.ones_like(left[:, :1]))
        most = weight.detach().topk(SURFACE, -1, sorted=False).indices
        felt = STRONG * self._sampled(self.features, middle[:, None] + depth.gather(1, most)[..., None] * along[:, None])
        seen = (felt * weight.gather(1, most)[..., None]).sum(1)
        met = torch.cat([weight.sum(1, keepdim=True), (weight * depth).sum(1, keepdim=True), seen], 1)
        n = self.side // 2
        every = met.new_zeros(len(turn) * n * n, met.shape[1]).index_copy(0, at, met)
        return every.view(len(turn), n, n, -1).permute(0, 3, 1, 2)

    def rays(self, turn: Tensor, place: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Of the N rays that pass through the ball about the part: which they are (N,) of all B * y * x; where they pass its middle, and where they lead,
        nearer to the camera, (N, 3) each, in spans of the part's frame; at which depths (N, SAMPLES) they are asked, nearest first, and how far these are
        apart, in the spacing through the middle, (N, 1)."""
        n = self.side // 2
        line = (torch.arange(n, device=turn.device, dtype=turn.dtype) + 0.5) * 2 / n - 1
        v, u = torch.meshgrid(-line, line, indexing="ij")
        x, y = place.view(-1, 2, 1, 1).unbind(1)
        unit = (self.span * scale).view(-1, 1, 1)
        right, up = (u - x) / unit, (v - y) / unit
        chord = 1 - right**2 - up**2
        at = (chord > THINNEST).flatten().nonzero()[:, 0]
        if not len(at):  # the part lies out of the picture
            at = chord.flatten().argmax()[None]
        right, up, chord = (values.flatten()[at, None] for values in (right, up, chord))
        across, high, near = (turn[:, k][at // (n * n)] for k in range(3))  # the camera's axes in the part's frame
        half = chord.clamp(min=THINNEST).sqrt()
        steps = 1 - (torch.arange(SAMPLES, device=turn.device, dtype=turn.dtype) + 0.5) * 2 / SAMPLES
        drift = self.angle * torch.stack([u, v], -1).view(-1, 2)[at % (n * n)]
        return at, right * across + up * high, near - drift[:, :1] * across - drift[:, 1:] * high, half * steps, half

    @staticmethod
    def _sampled(values: Tensor, points: Tensor) -> Tensor:
        """(C, GRID^3) at (N, t, 3) -> (N, t, C)."""
        grid = points[None, :, :, None]  # the volume is all rays' own: gradients of one, not of a copy for each
        found = functional.grid_sample(values.view(1, -1, GRID, GRID, GRID), grid, padding_mode="border", align_corners=False)
        return found[0, :, :, :, 0].permute(1, 2, 0)
