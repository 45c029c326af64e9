"""Sums and batch normalisation over all processes of a training run, by any backend of torch.distributed (gloo, nccl).

With one process, or none initialised, every function is its plain self. Each of them waits for all processes: call them where every process
does. A gradient that passes through is the sum of all processes' shares; with each process's loss the mean over its own rows and parameter
gradients averaged over processes (as DistributedDataParallel does), training is that of one process with the whole batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn


def processes() -> int:
    """How many train together: 1 where torch.distributed is not initialised."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def is_first() -> bool:
    """Whether this process is the first of those that train together, or alone."""
    return processes() == 1 or distributed.get_rank() == 0


class _Sum(torch.autograd.Function):
    """A sum whose backward is a sum, so that slopes of slopes pass too; torch.distributed.nn.functional's is deprecated in torch 2.13."""

    @staticmethod
    def forward(ctx: object, values: Tensor) -> Tensor:
        total = values.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, slope: Tensor) -> Tensor:
        return _Sum.apply(slope)


def summed(values: Tensor) -> Tensor:
    """Any shape, the same in every process -> the sum over processes."""
    return _Sum.apply(values) if processes() > 1 else values


def gathered(rows: Tensor) -> tuple[Tensor, int]:
    """(B, ...), the same B in every process -> (processes * B, ...) in the order of ranks, and where this process's own begin."""
    if processes() == 1:
        return rows, 0
    own = distributed.get_rank() * len(rows)
    before, after = rows.new_zeros(own, *rows.shape[1:]), rows.new_zeros(processes() * len(rows) - own - len(rows), *rows.shape[1:])
    return summed(torch.cat([before, rows, after])), own


def batch_mean(rows: Tensor) -> Tensor:
    """(B, ...) -> (...): the mean over the rows of all processes, which may have different numbers of them."""
    if processes() == 1:
        return rows.mean(0)
    count = summed(torch.tensor(float(len(rows)), device=rows.device, dtype=torch.float64))
    return summed(rows.sum(0)) / count.to(rows.dtype)


def _normalised(norm: nn.BatchNorm1d | nn.BatchNorm2d, values: Tensor) -> Tensor:
    """What the layer gives in training, its running statistics followed; deviations are taken from the common mean, as one process takes
    them: a mean of squares less a squared mean loses the small deviations of large values."""
    wide = values.to(torch.promote_types(values.dtype, torch.float32))
    axes, shape = (0, *range(2, values.dim())), (1, -1, *[1] * (values.dim() - 2))
    count = wide.new_tensor([values.numel() / values.shape[1]])
    total, count = summed(torch.cat([wide.sum(axes), count])).split([values.shape[1], 1])
    count = count.detach()
    if count <= 1:
        raise ValueError(f"more than one value a channel is wanted in training; found {tuple(values.shape)} in all processes together")
    mean = total / count
    away = wide - mean.view(shape)
    variance = summed(away.square().sum(axes)) / count
    _follow(norm, mean.detach(), (variance * count / (count - 1)).detach())
    out = away * torch.rsqrt(variance + norm.eps).view(shape)
    if norm.affine:
        out = out * norm.weight.view(shape) + norm.bias.view(shape)
    return out.to(values.dtype)


@torch.no_grad()
def _follow(norm: nn.BatchNorm1d | nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    if not norm.track_running_stats:
        return
    norm.num_batches_tracked.add_(1)
    share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), share)
    norm.running_var.lerp_(variance.to(norm.running_var.dtype), share)


class BatchNorm1d(nn.BatchNorm1d):
    """:class:`torch.nn.BatchNorm1d` (B, C) or (B, C, L) whose statistics in training are those of all processes' rows together.

    The same state_dict. B may differ between processes.
    """

    def forward(self, values: Tensor) -> Tensor:
        if not self.training or processes() == 1:
            return super().forward(values)
        self._check_input_dim(values)
        return _normalised(self, values)


class BatchNorm2d(nn.BatchNorm2d):
    """:class:`torch.nn.BatchNorm2d` (B, C, H, W), likewise; torch.nn.SyncBatchNorm knows no processors."""

    def forward(self, values: Tensor) -> Tensor:
        if not self.training or processes() == 1:
            return super().forward(values)
        self._check_input_dim(values)
        return _normalised(self, values)
